//! What definitions name that this user is not shown: a view that somebody else made may call a function of a database that its readers
//! have no right to, and a trigger of theirs may write to a table there, which may have triggers of its own.
//!
//! Invariant: a name that is neither the server's own nor found among what this user is shown counts as one that is not shown. What is
//! taken for a name of the text's own (an alias, a variable) and is none costs nothing but a statement that is tried in vain.

use crate::database::catalog::mysql::cell;
use crate::database::harmless::mysql::is_of_the_server;
use crate::database::quote::mysql::{hex, literal, unhex};
use crate::database::{Ask, AskError};
use crate::sql::lexer::{Kind, Lexer, Token};
use crate::sql::statement::LexicalMode;
use crate::sql::watchlist::folded;
use std::collections::{HashMap, HashSet};

/// What one text names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    /// Called with a parenthesis, by their last part; `true`: with a database before it.
    calls: HashSet<(String, bool)>,
    /// Procedures behind CALL.
    procedures: HashSet<String>,
    /// `database.table`, where nothing else in the text explains the first part.
    tables: HashSet<(String, String)>,
}

impl Named {
    pub fn of(text: &str, mode: LexicalMode) -> Named {
        let tokens: Vec<Token> = Lexer::new(text, mode).filter(|token| !token.is_comment()).collect();
        let name = |at: usize| tokens.get(at).and_then(|token| plain(token, text));
        let dot = |at: usize| tokens.get(at).is_some_and(|token| token.is(b'.'));
        let open = |at: usize| tokens.get(at).is_some_and(|token| token.is(b'('));
        let mut named = Named::default();
        let (mut pairs, mut alone) = (HashSet::new(), HashSet::new());
        let mut at = 0;
        while at < tokens.len() {
            let Some(first) = name(at) else {
                at += 1;
                continue;
            };
            let called = at > 0 && tokens.get(at - 1).is_some_and(|token| token.is_word(text, "call"));
            // A list of columns follows a table as well.
            let table =
                at > 0 && INTO.iter().any(|word| tokens.get(at - 1).is_some_and(|token| token.is_word(text, word)));
            let open = |at: usize| open(at) && !table;
            let second = if dot(at + 1) { name(at + 2) } else { None };
            let last = if second.is_some() { at + 2 } else { at };
            match second {
                Some(second) if called => drop(named.procedures.insert(second)),
                Some(second) if open(last + 1) => drop(named.calls.insert((second, true))),
                Some(second) => {
                    // `table.column` explains the table in `database.table.column` alike.
                    if dot(last + 1) {
                        alone.insert(second.clone());
                    }
                    pairs.insert((first, second));
                }
                None if called => drop(named.procedures.insert(first)),
                None if open(at + 1) && !is_of_the_server(&first) => drop(named.calls.insert((first, false))),
                None => drop(alone.insert(first)),
            }
            at = last + 1;
            // The column behind a table behind a database.
            if second_is_dotted(&tokens, last) {
                at = last + 3;
            }
        }
        let of_tables: HashSet<String> = pairs.iter().map(|(_, table)| table.clone()).collect();
        let explained = |first: &String| {
            alone.contains(first) || of_tables.contains(first) || matches!(first.as_str(), "new" | "old")
        };
        named.tables = pairs.into_iter().filter(|(first, _)| !explained(first)).collect();
        named
    }

    /// Calls of what is not among the routines that are shown. `bare`: also those without a database, which the server looks up at home.
    pub fn calls_unseen(&self, routines: &HashSet<String>, bare: bool) -> bool {
        self.calls.iter().any(|(name, whole)| (*whole || bare) && !routines.contains(name))
            || self.runs_unseen(routines)
    }

    /// Runs a procedure that is not shown, which may commit.
    pub fn runs_unseen(&self, routines: &HashSet<String>) -> bool {
        self.procedures.iter().any(|name| !routines.contains(name))
    }

    pub fn tables_unseen(&self, seen: &HashSet<(String, String)>) -> bool {
        self.tables.iter().any(|pair| !seen.contains(pair))
    }
}

const INTO: &[&str] =
    &["into", "insert", "replace", "ignore", "low_priority", "high_priority", "delayed", "table", "with", "recursive"];

/// Those of the tables that all these texts name which this user is shown.
pub async fn seen(asker: &mut impl Ask, all: &[&Named]) -> Result<HashSet<(String, String)>, AskError> {
    let mut wanted: HashMap<&str, Vec<&str>> = HashMap::new();
    for (database, table) in all.iter().flat_map(|named| &named.tables) {
        wanted.entry(database).or_default().push(table);
    }
    let mut found = HashSet::new();
    for (database, tables) in wanted {
        let list: Vec<String> = tables.iter().map(|table| literal(table)).collect();
        let question = format!(
            "SELECT {} AS name FROM information_schema.TABLES t WHERE t.TABLE_SCHEMA = {} AND t.TABLE_NAME IN ({})",
            hex("t.TABLE_NAME"),
            literal(database),
            list.join(", ")
        );
        let answer = asker.ask(&question, None).await?;
        for row in 0..answer.rows.len() {
            if let Some(name) = cell(&answer, row, 0).and_then(unhex) {
                found.insert((database.to_owned(), folded(&name)));
            }
        }
    }
    Ok(found)
}

fn second_is_dotted(tokens: &[Token], at: usize) -> bool {
    tokens.get(at + 1).is_some_and(|token| token.is(b'.'))
}

fn plain(token: &Token, text: &str) -> Option<String> {
    let written = token.text(text);
    match token.kind {
        Kind::Word => Some(folded(written)),
        Kind::QuotedName => {
            let quote = written.chars().next()?;
            let inner = written.strip_prefix(quote)?.strip_suffix(quote)?;
            Some(folded(&inner.replace(&format!("{quote}{quote}"), &quote.to_string())))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Product;
    use crate::sql::statement::MySqlMode;

    #[test]
    fn what_is_not_shown_is_told_from_aliases_and_functions_of_the_server() {
        let mode = LexicalMode::MySql(MySqlMode::of(Product::MySql, 90704));
        let routines = HashSet::from(["known".to_owned()]);
        let seen = HashSet::from([("s".to_owned(), "t".to_owned())]);
        for (text, calls, runs, tables) in [
            ("select `a`.`id` AS `id`,concat(`a`.`b`,'x') AS `c` from `s`.`t` `a`", false, false, false),
            ("select `s`.`t`.`id` AS `id` from `s`.`t`", false, false, false),
            ("select `hid`.`f`() AS `a`", true, false, false),
            ("select `s`.`known`() AS `a`", false, false, false),
            ("select `hid`.`o`.`id` AS `id` from `hid`.`o`", false, false, true),
            ("SET NEW.b = hid.f()", true, false, false),
            ("SET NEW.b = OLD.b + known(NEW.a)", false, false, false),
            ("SET NEW.b = other(1)", true, false, false),
            ("BEGIN CALL hid.p(); END", true, true, false),
            ("BEGIN CALL known(1); INSERT INTO t VALUES (LOWER('x')); END", false, false, false),
            ("INSERT INTO log (a, b) VALUES (NEW.a, UPPER(NEW.b))", false, false, false),
            ("INSERT IGNORE log (a) VALUES (1)", false, false, false),
            ("REPLACE INTO s.t (a) VALUES (1)", false, false, false),
            ("INSERT INTO hid.log (a) VALUES (NEW.a)", false, false, true),
            ("BEGIN DECLARE x INT; IF (x > 1) THEN UPDATE s.t SET a = x; END IF; END", false, false, false),
        ] {
            let named = Named::of(text, mode);
            let found = (named.calls_unseen(&routines, true), named.runs_unseen(&routines), named.tables_unseen(&seen));
            assert_eq!(found, (calls, runs, tables), "{text}: {named:?}");
        }
    }
}
