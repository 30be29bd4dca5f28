//! The short way for MySQL's and MariaDB's texts: their own closed lists.
//!
//! Invariant: as in the room above. What an executable comment holds stands among the tokens, so it counts as code; transaction verbs are
//! followed to their last word, because `BEGIN NOT ATOMIC` runs code and `START REPLICA` is no transaction.
//!
//! Sources: the manuals' "SQL Statements" and "Built-In Functions"; each line of the tables was tried on MySQL 9.7 and MariaDB 10.11.

use crate::sql::facts::{Kind, TransactionVerb};
use crate::sql::glance::{Glance, initial, is_hint};
use crate::sql::lexer::{self, Lexer, Token};
use crate::sql::statement::LexicalMode;

/// `mode` is MySQL's or MariaDB's.
pub(super) fn glance(text: &str, mode: LexicalMode) -> Glance {
    let mut lexer = Lexer::new(text, mode);
    let mut opening = Opening::default();
    let (mut ended, mut named) = (false, false);
    for token in lexer.by_ref() {
        if token.is_comment() {
            named |= is_hint(token.text(text));
            // `/*+ SET_VAR(foreign_key_checks=0) */`: a setting for this statement.
            if sets_variables(token.text(text)) {
                return Glance::NeedsReading;
            }
            continue;
        }
        if !ended && opening.first == First::None && token.is_word(text, "sluice") {
            return Glance::Sluice;
        }
        let is_end = token.is(b';');
        // A second statement; the server refuses empty ones, and runs nothing behind them.
        if ended || (is_end && opening.first == First::None) || !(is_end || opening.take(text, &token)) {
            return Glance::NeedsReading;
        }
        ended = is_end;
    }
    if named && opening.first == First::Insert {
        return Glance::NeedsReading;
    }
    opening.verdict(lexer.mode_sensitive())
}

/// Functions that act outside the statement: they read files of the server, run programs or texts, steer replication and accounts.
/// Those of the users' own, and those that were loaded, are for the catalog to tell.
pub(super) fn dangerous_function(name: &str) -> bool {
    let (names, families): (&[&str], &[&str]) = match initial(name) {
        b'a' => (&[], &["asynchronous_connection_failover_", "audit_"]),
        b'f' => (&["flush_rewrite_rules"], &[]),
        b'g' => (&[], &["group_replication_", "gen_dictionary", "gen_blocklist"]),
        b'h' => (&[], &["http_"]),
        b'k' => (&[], &["keyring_"]),
        b'l' => (&["load_file", "load_rewrite_rules"], &[]),
        b'm' => (&["mroonga_command"], &["mysql_firewall", "mask_dictionary", "masking_dictionar"]),
        b'r' => (&["rotate_system_key", "reload_users", "read_firewall_users", "read_firewall_whitelist"], &[]),
        b's' => (&["setval"], &["set_firewall", "spider_", "sys_", "service_"]),
        b'v' => (&[], &["version_tokens_"]),
        _ => (&[], &[]),
    };
    let begins = |family: &&str| name.get(..family.len()).is_some_and(|start| start.eq_ignore_ascii_case(family));
    names.iter().any(|listed| name.eq_ignore_ascii_case(listed)) || families.iter().any(begins)
}

/// `` `load_file`('x') `` calls the same function.
fn dangerous_name(written: &str) -> bool {
    lexer::unquoted(written).is_none_or(|name| dangerous_function(&name))
}

fn sets_variables(comment: &str) -> bool {
    const HINT: &[u8] = b"set_var";
    let named = |seven: &[u8]| seven.eq_ignore_ascii_case(HINT);
    comment.starts_with("/*+") && comment.as_bytes().windows(HINT.len()).any(named)
}

/// What the text has shown itself to be so far.
#[derive(Debug, Default)]
struct Opening {
    first: First,
    /// Of a transaction verb, the words that may still follow.
    after: After,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum First {
    #[default]
    None,
    Select,
    /// Another word that begins a read.
    Read,
    Insert,
    Transaction(TransactionVerb),
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum After {
    #[default]
    Anything,
    /// INTO of INSERT; TRANSACTION of START; SAVEPOINT of RELEASE.
    Word(&'static str),
    /// WORK, or nothing.
    Work,
    /// WORK, TO, or nothing.
    Rollback,
    /// TO, or nothing.
    To,
    /// SAVEPOINT or its name.
    SavepointOrName,
    Name,
    /// WITH CONSISTENT SNAPSHOT, READ ONLY, READ WRITE.
    Characteristics,
    Nothing,
}

impl Opening {
    /// Takes one more token; false means that the text needs reading.
    fn take(&mut self, text: &str, token: &Token) -> bool {
        if self.first == First::None {
            (self.first, self.after) = first_word(text, token);
            return self.first != First::None;
        }
        if self.after != After::Anything {
            return self.follow(text, token);
        }
        match token.kind {
            lexer::Kind::Junk | lexer::Kind::Stray | lexer::Kind::Broken(_) => false,
            lexer::Kind::QuotedName if self.first == First::Insert && names_catalog(token.text(text)) => false,
            lexer::Kind::QuotedName => !dangerous_name(token.text(text)),
            lexer::Kind::Word => !self.dangerous_word(token.text(text)),
            _ => true,
        }
    }

    /// Where only certain words may stand.
    fn follow(&mut self, text: &str, token: &Token) -> bool {
        let is = |word| token.is_word(text, word);
        let name = matches!(token.kind, lexer::Kind::Word | lexer::Kind::QuotedName);
        let next = match self.after {
            After::Word(word) if is(word) => match self.first {
                First::Transaction(TransactionVerb::Begin) => After::Characteristics,
                First::Transaction(_) => After::Name,
                _ => After::Anything,
            },
            After::Work if is("work") => After::Nothing,
            After::Rollback if is("work") => After::To,
            After::Rollback | After::To if is("to") => {
                self.first = First::Transaction(TransactionVerb::RollbackTo);
                After::SavepointOrName
            }
            After::SavepointOrName if is("savepoint") => After::Name,
            After::SavepointOrName | After::Name if name => After::Nothing,
            After::Characteristics => {
                const WORDS: &[&str] = &["with", "consistent", "snapshot", "read", "only", "write"];
                return token.is(b',') || WORDS.iter().any(|word| is(word));
            }
            _ => return false,
        };
        self.after = next;
        true
    }

    /// Words that change something wherever they stand as keywords, and functions that act outside the statement. A column that
    /// happens to be called so only costs the long way.
    fn dangerous_word(&self, word: &str) -> bool {
        let listed: &[&str] = match initial(word) {
            b'a' => &["alter", "analyze"],
            b'c' => &["call", "create"],
            b'd' => &["delete", "drop", "duplicate"],
            b'e' => &["execute"],
            b'i' => &["insert", "into"],
            b'm' => &["merge"],
            // A function after SELECT.
            b'r' if self.first != First::Select => &["replace", "rename"],
            b't' => &["truncate"],
            b'u' => &["update"],
            _ => &[],
        };
        // The rows of an INSERT are its own, or read by the long way; a row in the server's own tables can be an account.
        let queries: &[&str] = if self.first == First::Insert {
            &["select", "table", "with", "mysql", "sys", "performance_schema"]
        } else {
            &[]
        };
        listed.iter().chain(queries).any(|listed| word.eq_ignore_ascii_case(listed)) || dangerous_function(word)
    }

    fn verdict(self, mode_sensitive: bool) -> Glance {
        // START, RELEASE and INSERT alone, and ROLLBACK TO without its name.
        if matches!(self.after, After::Word(_) | After::Name | After::SavepointOrName) {
            return Glance::NeedsReading;
        }
        let (kind, transaction) = match self.first {
            First::None => (Kind::Empty, None),
            First::Select | First::Read => (Kind::Read, None),
            First::Insert => (Kind::Insert, None),
            First::Transaction(verb) => (Kind::Transaction, Some(verb)),
        };
        Glance::Harmless { kind, transaction, changes_session: false, mode_sensitive }
    }
}

fn names_catalog(written: &str) -> bool {
    lexer::unquoted(written)
        .is_none_or(|name| ["mysql", "sys", "performance_schema"].iter().any(|one| name.eq_ignore_ascii_case(one)))
}

fn first_word(text: &str, token: &Token) -> (First, After) {
    use TransactionVerb::{Begin, Commit, Release, Rollback, Savepoint};
    const WORDS: &[(&str, First, After)] = &[
        ("select", First::Select, After::Anything),
        ("insert", First::Insert, After::Word("into")),
        ("values", First::Read, After::Anything),
        ("table", First::Read, After::Anything),
        ("with", First::Read, After::Anything),
        ("show", First::Read, After::Anything),
        ("describe", First::Read, After::Anything),
        ("desc", First::Read, After::Anything),
        ("explain", First::Read, After::Anything),
        ("begin", First::Transaction(Begin), After::Work),
        ("start", First::Transaction(Begin), After::Word("transaction")),
        // AND CHAIN and RELEASE are for the reader to note.
        ("commit", First::Transaction(Commit), After::Work),
        ("rollback", First::Transaction(Rollback), After::Rollback),
        ("savepoint", First::Transaction(Savepoint), After::Name),
        ("release", First::Transaction(Release), After::Word("savepoint")),
    ];
    let found = WORDS.iter().find(|(word, ..)| token.is_word(text, word));
    found.map_or((First::None, After::Anything), |(_, first, after)| (*first, *after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::statement::{MySqlMode, Product};

    fn of(product: Product) -> LexicalMode {
        LexicalMode::MySql(MySqlMode::of(product, if product == Product::MySql { 90_704 } else { 101_119 }))
    }

    fn both(text: &str) -> [Glance; 2] {
        [Product::MySql, Product::MariaDb].map(|product| glance(text, of(product)))
    }

    #[test]
    fn ordinary_work_is_harmless_at_a_glance() {
        use TransactionVerb::{Begin, Commit, Release, Rollback, RollbackTo, Savepoint};
        let cases = [
            ("", Kind::Empty, None),
            (" -- x", Kind::Empty, None),
            ("SELECT 1;", Kind::Read, None),
            ("/* DELETE */ select 'DELETE FROM t', `update`, REPLACE(a, 'b', 'c') FROM t # UPDATE", Kind::Read, None),
            ("SELECT @a := 1, SLEEP(1), GET_LOCK('x', 1) FROM t LOCK IN SHARE MODE", Kind::Read, None),
            ("SELECT 1 /*!99999 INTO OUTFILE 'x' */", Kind::Read, None),
            ("WITH a AS (SELECT 1) SELECT * FROM a", Kind::Read, None),
            ("VALUES (1)", Kind::Read, None),
            ("TABLE t", Kind::Read, None),
            ("SHOW FULL TABLES FROM d", Kind::Read, None),
            ("DESC t", Kind::Read, None),
            ("EXPLAIN FORMAT=JSON SELECT 1", Kind::Read, None),
            ("INSERT INTO t (a) VALUES (1), (?)", Kind::Insert, None),
            ("INSERT INTO t SET a = 1", Kind::Insert, None),
            ("BEGIN", Kind::Transaction, Some(Begin)),
            ("begin work;", Kind::Transaction, Some(Begin)),
            ("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY", Kind::Transaction, Some(Begin)),
            ("COMMIT", Kind::Transaction, Some(Commit)),
            ("ROLLBACK WORK", Kind::Transaction, Some(Rollback)),
            ("ROLLBACK WORK TO SAVEPOINT `x`", Kind::Transaction, Some(RollbackTo)),
            ("SAVEPOINT x", Kind::Transaction, Some(Savepoint)),
            ("RELEASE SAVEPOINT x", Kind::Transaction, Some(Release)),
        ];
        for (text, kind, transaction) in cases {
            for found in both(text) {
                let expected = Glance::Harmless {
                    kind: kind.clone(),
                    transaction,
                    changes_session: false,
                    mode_sensitive: text.contains('"'),
                };
                assert_eq!(found, expected, "{text}");
            }
        }
    }

    #[test]
    fn whatever_could_be_more_needs_reading() {
        for text in [
            "INSERT /*+ Set_Var(foreign_key_checks=0) */ INTO t VALUES (1)",
            "INSERT INTO mysql.db VALUES (1)",
            "INSERT INTO `MySQL`.db VALUES (1)",
            "DELETE FROM t",
            "UPDATE t SET a = 1",
            "REPLACE INTO t VALUES (1)",
            "SELECT 1; SELECT 2",
            "; SELECT 1",
            "SELECT 1;;",
            "SELECT 1 --1; DELETE FROM t",
            "SELECT 'a\\'; DELETE FROM t; -- '; DELETE FROM t",
            "SELECT 1 /*! INTO OUTFILE 'x' */",
            "SELECT 1 /*!40101 ; DELETE FROM t */",
            "SELECT 1 INTO @x",
            "TABLE t INTO OUTFILE 'x'",
            "SELECT * FROM t FOR UPDATE",
            "SELECT LOAD_FILE('x')",
            "SELECT `load_file`('x')",
            "SELECT sys_exec('x')",
            "SELECT group_replication_set_as_primary('x')",
            "SELECT SETVAL(s, 5)",
            "SELECT 1 1.5e; DELETE FROM t",
            "WITH a AS (SELECT 1) DELETE FROM t",
            "WITH a AS (SELECT 1) REPLACE INTO t SELECT 1",
            "EXPLAIN ANALYZE DELETE FROM t",
            "DESCRIBE ANALYZE SELECT 1",
            "EXPLAIN FORMAT=JSON INTO @x SELECT 1",
            "SHOW CREATE TABLE t",
            "ANALYZE SELECT 1",
            "INSERT INTO t VALUES (1) ON DUPLICATE KEY UPDATE a = 1",
            "INSERT INTO t SELECT * FROM u",
            "INSERT INTO t TABLE u",
            "INSERT t VALUES (1)",
            "INSERT IGNORE INTO t VALUES (1)",
            "INSERT INTO t VALUES (1) /* sluice: script=x */",
            "#sluice: script=x\nINSERT INTO t VALUES (1)",
            "# Sluice: SCRIPT=x\nINSERT INTO t VALUES (1)",
            "BEGIN NOT ATOMIC DELETE FROM t; END",
            "BEGIN NOT ATOMIC",
            "BEGIN WORK WORK",
            "START REPLICA",
            "START",
            "RELEASE x",
            "COMMIT AND CHAIN",
            "COMMIT RELEASE",
            "ROLLBACK TO",
            "ROLLBACK TO savepoint",
            "ROLLBACK WORK WORK",
            "XA BEGIN 'x'",
            "SET a = 1",
            "USE d",
            "DO SLEEP(1)",
            "CALL p()",
            "HANDLER t OPEN",
            "LOCK TABLES t WRITE",
            "FLUSH TABLES",
            "KILL 5",
            "(SELECT 1)",
            "END",
            "SELECT 'open",
            "SELECT \0",
            "SELECT /* open",
            "SELECT /*! 1",
            "SELECT /*+ a(`b*/ 1",
        ] {
            assert_eq!(both(text), [Glance::NeedsReading, Glance::NeedsReading], "{text}");
        }
    }

    #[test]
    fn our_own_commands_are_known_by_their_first_word() {
        for text in ["SLUICE HELP", " # x\n sluice confirm 'a'", "/*! */ Sluice PREVIEW DELETE FROM t; DELETE FROM t"] {
            assert_eq!(both(text), [Glance::Sluice, Glance::Sluice], "{text}");
        }
        assert_eq!(both("`sluice`"), [Glance::NeedsReading, Glance::NeedsReading]);
    }

    #[test]
    fn the_mode_matters_where_quotes_and_backslashes_stand() {
        for text in ["SELECT 'a\\n'", "SELECT \"a\""] {
            assert!(
                matches!(glance(text, of(Product::MySql)), Glance::Harmless { mode_sensitive: true, .. }),
                "{text}"
            );
        }
    }
}
