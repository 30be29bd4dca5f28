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
    /// Names are compared as MySQL compares those of routines: neither case nor accents count.
    loose: bool,
    /// Of such names, those with letters beyond ASCII: a plain word may mean them.
    accented: Vec<Box<str>>,
    /// Why every statement is to be watched, if so.
    everything: Option<String>,
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

    /// The same list for MySQL and MariaDB. Names of tables may heed case, but to meet one more costs only the longer way.
    pub fn loose(self) -> Watchlist {
        let names: HashSet<Box<str>> = self.names.iter().map(|name| folded(name).into_boxed_str()).collect();
        let accented = names.iter().filter(|name| !name.is_ascii()).cloned().collect();
        let fresh = Watchlist::new(names.into_iter().map(String::from), []);
        Watchlist { loose: true, accented, names: fresh.names, likely: fresh.likely, ..self }
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
        self.everything.is_none() && self.names.is_empty() && self.operators.is_empty()
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
        if self.loose && (!word.is_ascii() || !self.accented.is_empty() || word.len() > 63) {
            return self.has_loose(word);
        }
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

    /// MySQL finds the function `purgé` by `pürge` and by `purge`: a letter with an accent may stand for one without, and any beyond ASCII
    /// for any other beyond. It compares letter by letter (`utf8mb3_general_ci`), and cuts nothing.
    fn has_loose(&self, name: &str) -> bool {
        let name = folded(name);
        let alike = |one: char, other: char| match (one.is_ascii(), other.is_ascii()) {
            (true, true) => one == other,
            (false, false) => true,
            (true, false) => has_accent(other),
            (false, true) => has_accent(one),
        };
        let reads_as = |listed: &str| {
            let (mut one, mut other) = (listed.chars(), name.chars());
            loop {
                match (one.next(), other.next()) {
                    (None, None) => return true,
                    (Some(one), Some(other)) if alike(one, other) => {}
                    _ => return false,
                }
            }
        };
        match name.is_ascii() {
            true => self.names.contains(name.as_str()) || self.accented.iter().any(|listed| reads_as(listed)),
            false => self.names.iter().any(|listed| reads_as(listed)),
        }
    }

    /// `U&"…"` can spell anything.
    fn has_quoted(&self, written: &str) -> bool {
        if self.loose {
            return lexer::unquoted(written).is_none_or(|name| self.has_loose(&name));
        }
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

/// In lower case, letter for letter, as [`Watchlist::loose`] compares names.
pub fn folded(name: &str) -> String {
    name.chars().map(|letter| letter.to_lowercase().next().unwrap_or(letter)).collect()
}

/// Some letters here are the same as one of ASCII to `utf8mb3_general_ci`, none elsewhere is: asked of MySQL 9.7 and MariaDB 10.11, letter
/// by letter.
fn has_accent(letter: char) -> bool {
    matches!(letter, '\u{c0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::statement::{MySqlMode, Product};

    #[test]
    fn mysql_heeds_neither_case_nor_accents() {
        let mode = LexicalMode::MySql(MySqlMode::of(Product::MySql, 90_704));
        let long = "y".repeat(64);
        let names = [
            "Purge".to_owned(),
            "Tr\u{e9}s".to_owned(),
            "\u{130}x".to_owned(),
            "\u{436}".to_owned(),
            "a`b".to_owned(),
            long.clone(),
        ];
        let list = Watchlist::new(names, []).loose();
        let long_call = format!("SELECT {long}()");
        for text in [
            "SELECT purge()",
            "SELECT ix()",
            "SELECT \u{130}X()",
            "SELECT \u{416}()",
            "SELECT `PURGE`()",
            "SELECT p\u{fc}rge()",
            "SELECT d.`p\u{fc}rge`()",
            "SELECT tres()",
            "SELECT TR\u{c8}S()",
            "SELECT `a``b`()",
            "SELECT 1 /*! + purge() */",
            "SELECT 'open",
            &long_call,
        ] {
            assert!(!list.met(text, mode).is_empty(), "{text}");
        }
        for text in [
            "SELECT \"purge\"",
            "SELECT 1 # purge",
            "SELECT purges, pr\u{fc}ge, `treso`",
            "SELECT 1 /*!99999 + purge() */",
            "SELECT @purge",
        ] {
            assert_eq!(list.met(text, mode), Vec::<String>::new(), "{text}");
        }
    }

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
