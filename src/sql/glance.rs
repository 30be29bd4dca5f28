//! The short way: one pass of the lexer tells whether a text is certainly harmless, so that ordinary reads cost almost nothing.
//!
//! Invariant: [`Glance::Harmless`] is said only of a single statement whose first word is in a closed list and in which no word
//! stands that could make it change, remove or set anything. Everything else goes the long way. No allocation, no parser, linear
//! time: a dump of hundreds of megabytes is glanced at, never parsed.

mod mysql;

use crate::sql::facts::{Kind, TransactionVerb};
use crate::sql::lexer::{self, Lexer, Token};
use crate::sql::reach;
use crate::sql::statement::LexicalMode;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Glance {
    /// Nothing in it is ever asked about.
    Harmless {
        kind: Kind,
        transaction: Option<TransactionVerb>,
        /// It can change what later names or texts mean.
        changes_session: bool,
        /// Certain only under the lexical mode given.
        mode_sensitive: bool,
    },
    /// The text begins with the bare word SLUICE: a command to us.
    Sluice,
    NeedsReading,
}

pub fn glance(text: &str, mode: LexicalMode) -> Glance {
    if let LexicalMode::MySql(_) = mode {
        return mysql::glance(text, mode);
    }
    let mut lexer = Lexer::new(text, mode);
    let mut opening = Opening::default();
    let mut ended = false;
    let mut last_was_word = false;
    let mut at_start = true;
    let mut named = false;
    for token in lexer.by_ref() {
        if token.is_comment() {
            // What belongs to a script is entered in its ledger, and a misspelt hint is refused.
            if is_hint(token.text(text)) {
                named = true;
            }
            continue;
        }
        if at_start && token.is_word(text, "sluice") {
            return Glance::Sluice;
        }
        at_start = false;
        let is_end = token.is(b';');
        if ended && !is_end {
            return Glance::NeedsReading; // a second statement
        }
        ended |= is_end && opening.first != First::None;
        if !is_end && !opening.take(text, &token, last_was_word) {
            return Glance::NeedsReading;
        }
        last_was_word = matches!(token.kind, lexer::Kind::Word);
    }
    if named && opening.first == First::Insert {
        return Glance::NeedsReading;
    }
    opening.verdict(lexer.mode_sensitive())
}

/// A hint: of a script, or one that is misspelt.
fn is_hint(comment: &str) -> bool {
    let body = comment.get(if comment.starts_with('#') { 1 } else { 2 }..).unwrap_or_default().trim_start();
    body.get(..7).is_some_and(|word| word.eq_ignore_ascii_case("sluice:"))
}

/// What the text has shown itself to be so far.
#[derive(Debug, Default)]
struct Opening {
    first: First,
    /// Tokens taken.
    count: usize,
    /// ROLLBACK … TO.
    to: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum First {
    #[default]
    None,
    Read,
    Insert,
    Transaction(TransactionVerb),
    /// LISTEN, UNLISTEN, NOTIFY: the authority's name for it.
    Signal(&'static str),
}

impl Opening {
    /// Takes one more token; false means that the text needs reading.
    fn take(&mut self, text: &str, token: &Token, after_word: bool) -> bool {
        self.count += 1;
        if self.count == 1 {
            self.first = first_word(text, token);
            return self.first != First::None;
        }
        match token.kind {
            lexer::Kind::Junk | lexer::Kind::Stray | lexer::Kind::Broken(_) => false,
            lexer::Kind::QuotedName if self.first == First::Insert && names_catalog(token.text(text)) => false,
            lexer::Kind::QuotedName => !dangerous_name(token.text(text)),
            lexer::Kind::Word => self.word(token.text(text), after_word),
            _ => true,
        }
    }

    fn word(&mut self, word: &str, after_word: bool) -> bool {
        if self.first == First::Insert && self.count == 2 {
            return word.eq_ignore_ascii_case("into");
        }
        // Rows that are paged by OFFSET into an INSERT: a rule has something to say.
        if self.first == First::Insert && word.eq_ignore_ascii_case("offset") {
            return false;
        }
        if self.first == First::Insert && begins_as_a_catalog(word) {
            return false;
        }
        if matches!(self.first, First::Transaction(_)) {
            if word.eq_ignore_ascii_case("prepared") && after_word {
                return false;
            }
            self.to |= word.eq_ignore_ascii_case("to");
        }
        !dangerous_word(word)
    }

    fn verdict(self, mode_sensitive: bool) -> Glance {
        let (kind, transaction) = match self.first {
            First::None => (Kind::Empty, None),
            First::Read => (Kind::Read, None),
            First::Insert => (Kind::Insert, None),
            First::Signal(name) => (Kind::Other(String::from(name)), None),
            First::Transaction(TransactionVerb::Rollback) if self.to => {
                (Kind::Transaction, Some(TransactionVerb::RollbackTo))
            }
            First::Transaction(verb) => (Kind::Transaction, Some(verb)),
        };
        Glance::Harmless { kind, transaction, changes_session: false, mode_sensitive }
    }
}

fn first_word(text: &str, token: &Token) -> First {
    use TransactionVerb::{Begin, Commit, Release, Rollback, Savepoint};
    const READS: &[&str] = &["select", "values", "table", "with", "show", "fetch", "move", "close", "declare"];
    const TRANSACTIONS: &[(&str, TransactionVerb)] = &[
        ("begin", Begin),
        ("start", Begin),
        ("commit", Commit),
        ("end", Commit),
        ("rollback", Rollback),
        ("abort", Rollback),
        ("savepoint", Savepoint),
        ("release", Release),
    ];
    const SIGNALS: &[(&str, &str)] =
        &[("listen", "ListenStmt"), ("unlisten", "UnlistenStmt"), ("notify", "NotifyStmt")];
    if token.is_word(text, "insert") {
        return First::Insert;
    }
    if READS.iter().any(|word| token.is_word(text, word)) {
        return First::Read;
    }
    if let Some((_, verb)) = TRANSACTIONS.iter().find(|(word, _)| token.is_word(text, word)) {
        return First::Transaction(*verb);
    }
    match SIGNALS.iter().find(|(word, _)| token.is_word(text, word)) {
        Some((_, name)) => First::Signal(name),
        None => First::None,
    }
}

/// A row in one of the server's own tables can be an account.
fn names_catalog(written: &str) -> bool {
    // `U&"…"` may spell it in numbers.
    !written.starts_with('"') || lexer::unquoted(written).is_none_or(|name| begins_as_a_catalog(&name))
}

fn begins_as_a_catalog(name: &str) -> bool {
    name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("pg_"))
}

/// Words that change something wherever they stand as keywords, and functions that act outside the statement. A column that
/// happens to be called so only costs the long way.
fn dangerous_word(word: &str) -> bool {
    // Most words fail at their first letter.
    let listed: &[&str] = match initial(word) {
        b'a' => &["alter"],
        b'c' => &["copy", "create"],
        b'd' => &["delete", "drop"],
        b'e' => &["execute"],
        b'i' => &["insert", "into"],
        b'm' => &["merge"],
        b't' => &["truncate"],
        b'u' => &["update"],
        _ => &[],
    };
    listed.iter().any(|listed| word.eq_ignore_ascii_case(listed)) || dangerous_function(word)
}

/// As [`dangerous_function`], for MySQL and MariaDB.
pub fn dangerous_mysql_function(name: &str) -> bool {
    mysql::dangerous_function(name)
}

/// Functions with effects of their own, by name or by the family's prefix.
pub fn dangerous_function(name: &str) -> bool {
    if reach::is_listed_word(name) {
        return true;
    }
    let (names, families): (&[&str], &[&str]) = match initial(name) {
        // These run a text, or a view, that is named in a string.
        b'b' => (&[], &["brin_summarize_"]),
        b'c' => (&[], &["cursor_to_xml"]),
        b'd' => (&[], &["dblink", "database_to_xml"]),
        b't' => (&["ts_stat", "ts_rewrite"], &["table_to_xml"]),
        b'l' => (&["loread", "lowrite"], &["lo_"]),
        b'p' => (
            &[],
            &[
                "pg_read_",
                "pg_file_",
                "pg_terminate_",
                "pg_cancel_",
                "pg_reload_",
                "pg_rotate_",
                "pg_drop_",
                "pg_promote",
                "pg_replication_",
                "pg_switch_",
            ],
        ),
        b'q' => (&[], &["query_to_xml"]),
        b's' => (&["set_config", "setval"], &["schema_to_xml"]),
        _ => (&[], &[]),
    };
    // All of this family share their beginning, and few other names do.
    let families = if initial(name) == b'p' && name.as_bytes().get(2) != Some(&b'_') { &[] } else { families };
    let begins = |family: &&str| name.get(..family.len()).is_some_and(|start| start.eq_ignore_ascii_case(family));
    names.iter().any(|listed| name.eq_ignore_ascii_case(listed)) || families.iter().any(begins)
}

/// The first letter, in lower case; 0 of nothing.
fn initial(name: &str) -> u8 {
    name.as_bytes().first().map_or(0, u8::to_ascii_lowercase)
}

/// `"set_config"` calls the same function; `U&"…"` can spell anything.
pub fn dangerous_name(written: &str) -> bool {
    !written.starts_with('"') || dangerous_function(written.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Glance {
        glance(text, LexicalMode::default())
    }

    #[test]
    fn ordinary_work_is_harmless_at_a_glance() {
        use TransactionVerb::{Begin, Commit, Release, Rollback, RollbackTo, Savepoint};
        let cases = [
            ("", Kind::Empty, None),
            (" ; -- x", Kind::Empty, None),
            ("SELECT 1", Kind::Read, None),
            ("/* DELETE */ select 'DELETE FROM t' -- UPDATE", Kind::Read, None),
            ("SELECT 1;", Kind::Read, None),
            ("SELECT 1; ;", Kind::Read, None),
            ("SELECT \"update\" FROM t", Kind::Read, None),
            ("SELECT updated_at, deleted FROM t FOR SHARE", Kind::Read, None),
            ("WITH a AS (SELECT 1) TABLE a", Kind::Read, None),
            ("VALUES (1)", Kind::Read, None),
            ("SHOW ALL", Kind::Read, None),
            ("FETCH 5 FROM c", Kind::Read, None),
            ("CLOSE ALL", Kind::Read, None),
            ("DECLARE c CURSOR FOR SELECT 1", Kind::Read, None),
            ("INSERT INTO t VALUES (1), (2)", Kind::Insert, None),
            ("INSERT INTO t SELECT * FROM u ON CONFLICT DO NOTHING", Kind::Insert, None),
            ("BEGIN", Kind::Transaction, Some(Begin)),
            ("START TRANSACTION ISOLATION LEVEL SERIALIZABLE", Kind::Transaction, Some(Begin)),
            ("COMMIT AND CHAIN", Kind::Transaction, Some(Commit)),
            ("END", Kind::Transaction, Some(Commit)),
            ("ABORT", Kind::Transaction, Some(Rollback)),
            ("ROLLBACK", Kind::Transaction, Some(Rollback)),
            ("ROLLBACK WORK TO SAVEPOINT x", Kind::Transaction, Some(RollbackTo)),
            ("SAVEPOINT x", Kind::Transaction, Some(Savepoint)),
            ("RELEASE x", Kind::Transaction, Some(Release)),
            ("LISTEN c", Kind::Other(String::from("ListenStmt")), None),
        ];
        for (text, kind, transaction) in cases {
            assert_eq!(
                at(text),
                Glance::Harmless { kind, transaction, changes_session: false, mode_sensitive: false },
                "{text}"
            );
        }
    }

    #[test]
    fn whatever_could_be_more_needs_reading() {
        let cases = [
            "DELETE FROM t",
            "UPDATE t SET a = 1",
            "SELECT 1; SELECT 2",
            "SELECT 1; DELETE FROM t",
            "SELECT 1 -/* 'x */ 2; DELETE FROM t; --'",
            "SELECT E'a'\n'b\\''; DELETE FROM t; --'",
            "WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d",
            "WITH d AS (SELECT 1) INSERT INTO t SELECT * FROM d",
            "SELECT * FROM t FOR UPDATE",
            "SELECT 1 INTO x",
            "SELECT set_config('a', 'b', false)",
            "SELECT \"set_config\"('a', 'b', false)",
            "SELECT U&\"set\\005fconfig\"('a', 'b', false)",
            "SELECT lo_unlink(1)",
            "SELECT dblink_exec('x', 'y')",
            "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 1",
            "INSERT INTO t SELECT * FROM u OFFSET 5",
            "INSERT INTO t VALUES (1) /* sluice: script=x */",
            "-- Sluice: SCRIPT=x\nINSERT INTO t VALUES (1)",
            "SELECT pg_ls_dir('.')",
            "SELECT cron.schedule('x', 'y')",
            "INSERT INTO t WITH d AS (DELETE FROM u RETURNING *) SELECT * FROM d",
            "COMMIT PREPARED 'x'",
            "ROLLBACK PREPARED 'x'",
            "PREPARE p AS SELECT 1",
            "EXECUTE p",
            "EXPLAIN ANALYZE SELECT 1",
            "SET a = b",
            "(SELECT 1)",
            "COPY t FROM STDIN",
            "CALL f()",
            "SELECT 'open",
            "SELECT 1a",
            "SELECT \0",
            "SELECT /* open",
            "é",
            "; SLUICE HELP",
        ];
        for text in cases {
            assert_eq!(at(text), Glance::NeedsReading, "{text}");
        }
    }

    #[test]
    fn our_own_commands_are_known_by_their_first_word() {
        for text in ["SLUICE HELP", "  /* x */ sluice confirm 'a'", "Sluice PREVIEW DELETE FROM t; DELETE FROM t"] {
            assert_eq!(at(text), Glance::Sluice, "{text}");
        }
        for text in ["\"sluice\"", "SLUICED", "'sluice'"] {
            assert_eq!(at(text), Glance::NeedsReading, "{text}");
        }
        assert!(matches!(at("SELECT sluice FROM t"), Glance::Harmless { .. }));
    }

    #[test]
    fn the_mode_matters_where_a_backslash_stands_in_plain_quotes() {
        let off = LexicalMode::Postgres { standard_conforming_strings: false };
        assert!(matches!(glance("SELECT 'a\\b'", off), Glance::Harmless { mode_sensitive: true, .. }));
        assert_eq!(glance("SELECT 'a\\'; DELETE FROM t; --'", LexicalMode::default()), Glance::NeedsReading);
        assert!(matches!(
            glance("SELECT 'a\\'; DELETE FROM t; --'", off),
            Glance::Harmless { mode_sensitive: true, .. }
        ));
    }
}
