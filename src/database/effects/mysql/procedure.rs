//! Whether a stored procedure may end the transaction that it is called in, as far as its body tells.
//!
//! Invariant: `false` only where every statement of the body begins with a word of a closed list, none of which commits; what is not
//! understood may commit. (That it did none the less is seen afterwards: a savepoint of ours is gone.)
//!
//! Source: MySQL manual, "Statements That Cause an Implicit Commit", MariaDB's "SQL statements That Cause an Implicit Commit". SET
//! PASSWORD, SET DEFAULT ROLE, STOP REPLICA and CHANGE REPLICATION FILTER commit as well, the last two even where they fail (tried on MySQL
//! 9.7); MySQL finds `autocommit` by `àutocommit`.

use crate::sql::lexer::{Kind, Lexer, Token};
use crate::sql::statement::LexicalMode;

/// What a statement that leaves the transaction open begins with, and the words that compound statements are made of.
const FIRST: &[&str] = &[
    "begin", "call", "case", "close", "declare", "delete", "do", "else", "elseif", "end", "exit", "fetch", "for",
    "get", "if", "insert", "iterate", "leave", "loop", "open", "repeat", "replace", "resignal", "return", "select",
    "set", "signal", "table", "until", "update", "values", "when", "while", "with",
];

/// Behind these a statement begins.
const OPENS: &[&str] = &["begin", "else", "then", "do", "loop", "repeat"];

/// Words that need more than a word's place to be harmless: they commit, or run a text that is not there to be read.
const NEVER: &[&str] =
    &["commit", "rollback", "prepare", "execute", "immediate", "savepoint", "outfile", "dumpfile", "xa", "autocommit"];

/// What a SET may not name: settings of the session or the server, guards before all, which no rollback puts back; and what is no variable.
#[rustfmt::skip]
const SETTINGS: &[&str] = &[
    "autocommit", "character", "charset", "check_constraint_checks", "default", "foreign_key_checks", "global", "local", "names", "password",
    "persist", "persist_only", "resource", "role", "session", "sql_log_bin", "sql_mode", "sql_safe_updates", "statement",
    "system_versioning_insert_history", "transaction", "unique_checks",
];

pub fn may_commit(body: &str, mode: LexicalMode) -> bool {
    let tokens: Vec<Token> = Lexer::new(body, mode).filter(|token| !token.is_comment()).collect();
    let mut walk = Walk {
        body,
        begins: true,
        within: Vec::new(),
        sets: false,
        handler: false,
        ends: false,
        until: false,
        named: false,
    };
    tokens.iter().enumerate().any(|(at, token)| !walk.is_harmless(token, tokens.get(at + 1)))
}

struct Walk<'a> {
    body: &'a str,
    /// A statement begins at the next token.
    begins: bool,
    /// CASE expressions that are open: THEN and ELSE in them begin no statement.
    within: Vec<()>,
    /// In a SET, or in a DECLARE: a handler's statement stands there.
    sets: bool,
    handler: bool,
    /// Behind END: what was opened is named once more.
    ends: bool,
    /// In the condition of a REPEAT, which its END follows.
    until: bool,
    /// Behind a dot any word is a name.
    named: bool,
}

impl Walk<'_> {
    fn is_harmless(&mut self, token: &Token, next: Option<&Token>) -> bool {
        if matches!(token.kind, Kind::Broken(_) | Kind::Junk | Kind::Stray) {
            return false;
        }
        let dot = std::mem::replace(&mut self.named, token.is(b'.'));
        if token.is(b';') {
            (self.begins, self.sets, self.handler, self.ends) = (true, false, false, false);
            self.within.clear();
            return true;
        }
        let written = token.text(self.body);
        if token.kind != Kind::Word {
            let label = self.begins && token.kind == Kind::QuotedName && next.is_some_and(|next| next.is(b':'));
            let colon = self.begins && token.is(b':');
            let opens = self.begins && token.is(b'(');
            let setting = self.sets && (written.starts_with("@@") || token.kind == Kind::QuotedName);
            return !setting && (!self.begins || label || colon || opens);
        }
        let word = written.to_ascii_lowercase();
        if NEVER.contains(&word.as_str()) || self.sets && (SETTINGS.contains(&word.as_str()) || !word.is_ascii()) {
            return false;
        }
        if self.begins {
            return self.begin(&word, next);
        }
        match word.as_str() {
            "case" if dot => return false,
            "case" => self.within.push(()),
            // Only a CASE, and what UNTIL is the condition of, end in the middle of a statement. Elsewhere it is somebody's name, and
            // where statements begin is not known.
            "end" if dot => return false,
            "end" if self.within.pop().is_none() => {
                self.ends = std::mem::take(&mut self.until);
                return self.ends;
            }
            // What a handler does follows its conditions, with nothing between.
            "handler" => self.handler = true,
            "set" if self.handler => (self.sets, self.handler) = (true, false),
            _ => {}
        }
        let opens = OPENS.contains(&word.as_str()) && !next.is_some_and(|next| next.is(b'('));
        if self.within.is_empty() && opens && !self.ends {
            (self.begins, self.sets, self.handler) = (true, false, false);
            return true;
        }
        // In a handler any word that could begin a statement outside the list is one.
        !self.handler || !COULD_BEGIN.contains(&word.as_str())
    }

    /// The first word of a statement, or a label before it.
    fn begin(&mut self, word: &str, next: Option<&Token>) -> bool {
        if next.is_some_and(|next| next.is(b':')) {
            return true;
        }
        let word = if FIRST.contains(&word) { word } else { return false };
        (self.sets, self.handler, self.ends) = (word == "set", false, word == "end");
        self.until = word == "until";
        self.begins = OPENS.contains(&word);
        true
    }
}

/// Statements that a handler may not have as its own: all but those of the list above.
const COULD_BEGIN: &[&str] = &[
    "alter",
    "analyze",
    "backup",
    "binlog",
    "cache",
    "change",
    "check",
    "checksum",
    "clone",
    "create",
    "deallocate",
    "drop",
    "flush",
    "grant",
    "help",
    "import",
    "install",
    "kill",
    "load",
    "lock",
    "optimize",
    "purge",
    "release",
    "rename",
    "repair",
    "reset",
    "restart",
    "revoke",
    "shutdown",
    "start",
    "stop",
    "truncate",
    "uninstall",
    "unlock",
    "use",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::statement::{MySqlMode, Product};

    #[test]
    fn what_may_commit_is_told_by_how_statements_begin() {
        let mode = LexicalMode::MySql(MySqlMode::of(Product::MySql, 90704));
        for (body, expected) in [
            ("DELETE FROM t", false),
            ("BEGIN DELETE FROM t WHERE a = 1; UPDATE t SET b = CASE WHEN c THEN d ELSE start END; END", false),
            (
                "l: BEGIN DECLARE n INT DEFAULT 0; WHILE n < 3 DO SET n = n + 1, @x = REPEAT('a', 3); END WHILE; END l",
                false,
            ),
            (
                "BEGIN DECLARE c CURSOR FOR SELECT a FROM t; DECLARE EXIT HANDLER FOR NOT FOUND BEGIN CLOSE c; END; OPEN c; FETCH c INTO n; END",
                false,
            ),
            ("BEGIN IF a THEN INSERT INTO t VALUES (1); ELSEIF b THEN CALL p(); ELSE SELECT 1; END IF; END", false),
            (
                "BEGIN CASE a WHEN 1 THEN DELETE FROM t; ELSE UPDATE t SET a = 1; END CASE; REPEAT SET x = 1; UNTIL x END REPEAT; END",
                false,
            ),
            (
                "BEGIN DECLARE CONTINUE HANDLER FOR NOT FOUND SET done = 1; l: LOOP LEAVE l; END LOOP l; DELETE FROM t; END",
                false,
            ),
            ("BEGIN DELETE FROM t; SET PASSWORD = 'app'; END", true),
            ("BEGIN DELETE FROM t; SET DEFAULT ROLE NONE TO app; END", true),
            ("BEGIN DELETE FROM t; STOP REPLICA; END", true),
            ("BEGIN DELETE FROM t; CHANGE REPLICATION FILTER REPLICATE_DO_DB = (); END", true),
            ("BEGIN SET @@\u{e0}utocommit = 0; DELETE FROM t; END", true),
            ("BEGIN SET \u{e0}utocommit = 0; DELETE FROM t; END", true),
            ("BEGIN SET `\u{e0}utocommit` = 0; DELETE FROM t; END", true),
            ("BEGIN SET a = 1, SESSION b = 2; END", true),
            ("SET foreign_key_checks = 0", true),
            ("BEGIN IF a THEN START TRANSACTION; END IF; END", true),
            ("BEGIN IF a THEN SELECT 1; ELSE TRUNCATE t; END IF; END", true),
            ("BEGIN DECLARE EXIT HANDLER FOR SQLEXCEPTION STOP REPLICA; DELETE FROM t; END", true),
            ("BEGIN DECLARE CONTINUE HANDLER FOR 1062 SET PASSWORD = 'x'; DELETE FROM t; END", true),
            ("BEGIN SELECT CASE WHEN a THEN b END; LOCK TABLES t WRITE; END", true),
            ("BEGIN CREATE TABLE n (a INT); END", true),
            ("BEGIN x: LOOP FLUSH TABLES; END LOOP; END", true),
            ("BEGIN COMMIT; END", true),
            ("BEGIN NOT ATOMIC DELETE FROM t; END", true),
            ("BEGIN EXECUTE IMMEDIATE 'COMMIT'; END", true),
            ("BEGIN SELECT 1 INTO OUTFILE '/x'; END", true),
            ("DELETE FROM t; 'open", true),
            ("BEGIN IF (SELECT 1 AS end) THEN STOP REPLICA; END IF; END", true),
            ("BEGIN IF (SELECT t.case FROM t) THEN STOP REPLICA; END IF; END", true),
            ("BEGIN REPEAT SET x = 1; UNTIL (SELECT 1 AS end) END REPEAT; END", true),
            ("BEGIN IF CASE WHEN a THEN t.end END THEN STOP REPLICA; END IF; END", true),
        ] {
            assert_eq!(may_commit(body, mode), expected, "{body}");
        }
    }
}
