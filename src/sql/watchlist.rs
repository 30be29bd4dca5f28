//! Names that a text must not use unnoticed: behind each stands code of the users' own whose effect only the database knows.
//!
//! Invariant: a name is met however it is written (any case, quoted, with escapes), wherever in the text it stands; a text that
//! cannot be lexed to its end meets everything. That a name is met proves nothing but that the effect is not known from the text:
//! a column of the same name only costs the longer way.

use crate::sql::lexer::{self, Lexer, Token};
use crate::sql::statement::LexicalMode;
use std::collections::HashSet;

/// Which names to look for. Made by `database::effects`, from the catalog.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watchlist {
    /// Last parts of names (functions, tables, views, types), as the catalog has them.
    names: HashSet<Box<str>>,
    operators: HashSet<Box<str>>,
    /// Which first letters and lengths there are among the names: nearly every word of a text fails here, unhashed.
    likely: [u64; 4],
    /// Why every statement is to be watched, if so.
    everything: Option<String>,
    /// MySQL's: names are compared without regard to case and accents.
    folds: bool,
    /// Of those, the ones with other than ASCII in them.
    accented: Vec<Box<str>>,
    /// Why every change of the schema is to be watched, if so: an event trigger fires on it.
    schema_changes: Option<String>,
}

impl Watchlist {
    pub fn new(names: impl IntoIterator<Item = String>, operators: impl IntoIterator<Item = String>) -> Watchlist {
        let names: HashSet<Box<str>> = names.into_iter().map(String::into_boxed_str).collect();
        let mut likely = [0; 4];
        for name in &names {
            let at = likelihood(name.as_bytes());
            likely[usize::from(at >> 6)] |= 1 << (at & 63);
        }
        Watchlist {
            names,
            likely,
            operators: operators.into_iter().map(String::into_boxed_str).collect(),
            ..Watchlist::default()
        }
    }

    /// MySQL and MariaDB look routines up by `utf8mb3_general_ci`: `FDÉL()` calls `fdel` (seen on MySQL 9.7 and MariaDB 10.11).
    pub fn of_mysql(names: impl IntoIterator<Item = String>) -> Watchlist {
        let folded = names.into_iter().map(|name| name.to_lowercase());
        let (plain, accented): (Vec<String>, Vec<String>) = folded.partition(|name| name.is_ascii());
        Watchlist {
            folds: true,
            accented: accented.into_iter().map(String::into_boxed_str).collect(),
            ..Watchlist::new(plain.into_iter().map(|name| cut(&name)), [])
        }
    }

    /// For when nothing is known.
    pub fn everything(why: impl Into<String>) -> Watchlist {
        Watchlist { everything: Some(why.into()), ..Watchlist::default() }
    }

    pub fn and_everything(mut self, why: Option<String>) -> Watchlist {
        self.everything = why;
        self
    }

    pub fn and_schema_changes(mut self, why: Option<String>) -> Watchlist {
        self.schema_changes = why;
        self
    }

    pub fn watches_schema_changes(&self) -> Option<&str> {
        self.schema_changes.as_deref()
    }

    /// Nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.everything.is_none() && self.names.is_empty() && self.operators.is_empty() && self.accented.is_empty()
    }

    pub fn has_name(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    pub fn len(&self) -> usize {
        self.names.len() + self.operators.len()
    }

    /// Whether one token is on the list. Comments and literals never are.
    pub fn meets(&self, text: &str, token: &Token) -> bool {
        if self.everything.is_some() {
            return true;
        }
        match token.kind {
            lexer::Kind::Word | lexer::Kind::QuotedName if self.folds => self.has_folded(token.text(text)),
            lexer::Kind::Word => !self.names.is_empty() && self.has_word(token.text(text)),
            lexer::Kind::QuotedName => !self.names.is_empty() && self.has_quoted(token.text(text)),
            lexer::Kind::Operator | lexer::Kind::Punctuation(_) => {
                !self.operators.is_empty() && self.has_operator(token.text(text))
            }
            lexer::Kind::Broken(_) | lexer::Kind::Junk | lexer::Kind::Stray => !self.is_empty(),
            _ => false,
        }
    }

    /// What a text uses of the list, each once and as the text writes it, up to a handful; empty: nothing.
    pub fn met(&self, text: &str, mode: LexicalMode) -> Vec<String> {
        const SHOWN: usize = 5;
        if let Some(why) = &self.everything {
            return vec![why.clone()];
        }
        let mut found: Vec<String> = Vec::new();
        if self.is_empty() {
            return found;
        }
        for token in Lexer::new(text, mode) {
            if !token.is_comment() && self.meets(text, &token) {
                let name: String = token.text(text).chars().take(80).collect();
                if !found.contains(&name) {
                    found.push(name);
                }
                if found.len() == SHOWN {
                    break;
                }
            }
        }
        found
    }

    /// The server folds ASCII only in UTF-8, and by the locale in other encodings: both readings are looked for.
    fn has_word(&self, word: &str) -> bool {
        const SHORT: usize = 63; // a longer one is cut
        if word.len() <= SHORT && word.is_ascii() {
            let at = likelihood(word.as_bytes());
            if self.likely[usize::from(at >> 6)] & 1 << (at & 63) == 0 {
                return false;
            }
            let mut folded = [0u8; SHORT];
            let folded = &mut folded[..word.len()];
            folded.copy_from_slice(word.as_bytes());
            folded.make_ascii_lowercase();
            return std::str::from_utf8(folded).is_ok_and(|folded| self.names.contains(folded));
        }
        let ascii = cut(&word.to_ascii_lowercase());
        self.names.contains(ascii.as_str()) || self.names.contains(cut(&word.to_lowercase()).as_str())
    }

    /// What the collation takes for the same letter is not known here: a name with other than ASCII in it counts, and a listed one is met by
    /// whatever has its other letters. The collation compares one character with one.
    fn has_folded(&self, written: &str) -> bool {
        let quote = written.chars().next().filter(|c| matches!(c, '`' | '"'));
        let inner = quote.and_then(|quote| written.strip_prefix(quote)?.strip_suffix(quote));
        let name = match (quote, inner) {
            (Some(quote), Some(inner)) => inner.replace(&format!("{quote}{quote}"), &quote.to_string()),
            _ => written.to_owned(),
        };
        if !name.is_ascii() {
            return !self.is_empty();
        }
        let alike = |listed: &str| {
            listed.chars().count() == name.len()
                && listed.chars().zip(name.chars()).all(|(l, n)| !l.is_ascii() || l == n.to_ascii_lowercase())
        };
        self.has_word(&name) || self.accented.iter().any(|listed| alike(listed))
    }

    /// `U&"…"` can spell anything.
    fn has_quoted(&self, written: &str) -> bool {
        let Some(inner) = written.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return true };
        match inner.contains('"') {
            true => self.names.contains(cut(&inner.replace("\"\"", "\"")).as_str()),
            false => self.names.contains(cut(inner).as_str()),
        }
    }

    /// A run of signs can be read as an operator and its neighbour: any that is part of it counts.
    fn has_operator(&self, written: &str) -> bool {
        self.operators.iter().any(|operator| written.contains(&**operator))
    }
}

/// Of an ASCII word, whatever its case; of other names whatever it is, for those are always looked up.
fn likelihood(name: &[u8]) -> u8 {
    let first = name.first().map_or(0, u8::to_ascii_lowercase);
    first.wrapping_mul(31).wrapping_add(name.len() as u8)
}

/// The server cuts names to 63 bytes (NAMEDATALEN), on a character's border.
fn cut(name: &str) -> String {
    const NAME_BYTES: usize = 63;
    let mut end = name.len().min(NAME_BYTES);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::statement::{MySqlMode, Product};

    fn list() -> Watchlist {
        Watchlist::new(["purge".to_owned(), "Größe".to_owned(), "a\"b".to_owned()], ["<=>".to_owned()])
    }

    #[test]
    fn a_name_is_met_however_it_is_written() {
        for text in [
            "SELECT purge()",
            "select PURGE ( )",
            "SELECT s.\"purge\"()",
            "SELECT U&\"p\\0075rge\"()",
            "SELECT \"a\"\"b\" FROM t",
            "SELECT \"Größe\"()",
            "SELECT 1 <=> 2",
            "SELECT 1<=>-2",
            "SELECT 'open",
        ] {
            assert!(!list().met(text, LexicalMode::default()).is_empty(), "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_it_is_not_met() {
        for text in ["SELECT 'purge()'", "SELECT 1 -- purge", "/* purge */ SELECT 1", "SELECT purged", "SELECT 1 <= 2"]
        {
            assert_eq!(list().met(text, LexicalMode::default()), Vec::<String>::new(), "{text}");
        }
        assert!(Watchlist::default().met("SELECT purge()", LexicalMode::default()).is_empty());
    }

    #[test]
    fn mysqls_names_are_met_without_regard_to_case_and_accents() {
        let mode = LexicalMode::MySql(MySqlMode::of(Product::MySql, 90704));
        let list = Watchlist::of_mysql(["Purge".to_owned(), "Löschen".to_owned(), "a`b".to_owned(), "x".repeat(64)]);
        for (text, met) in [
            ("SELECT PURGE ( )", true),
            ("SELECT s.`pUrge`()", true),
            ("SELECT purgé()", true),
            ("SELECT loschen()", true),
            ("SELECT LÖSCHEN()", true),
            ("SELECT `a``b`", true),
            (&format!("SELECT {}()", "X".repeat(64)), true),
            ("SELECT 'purge()', \"purge\", @purge -- purge", false),
            ("SELECT purges, loeschen", false),
        ] {
            assert_eq!(!list.met(text, mode).is_empty(), met, "{text}");
        }
        assert!(Watchlist::of_mysql([]).met("SELECT é", mode).is_empty());
    }

    #[test]
    fn a_long_name_is_cut_as_the_server_cuts_it() {
        let name = "x".repeat(63);
        let list = Watchlist::new([name.clone()], []);
        assert_eq!(list.met(&format!("SELECT {}y()", name), LexicalMode::default()).len(), 1);
    }

    #[test]
    fn everything_is_met_where_nothing_is_known() {
        assert_eq!(Watchlist::everything("no answer").met("SELECT 1", LexicalMode::default()), vec!["no answer"]);
    }
}
