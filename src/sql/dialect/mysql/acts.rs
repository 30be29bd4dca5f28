//! What a statement does besides changing rows and removing objects: rights, guards, files, the server itself, other servers.
//!
//! Invariant: a statement whose first word is not known here, nor to the other readers, is unread.
//!
//! Sources: MySQL 9.7 manual, "Database Administration Statements", "Replication Statements", "Account Management Statements", and the
//! same chapters of MariaDB's; functions: both manuals, "Built-In Functions".

use crate::sql::dialect::mysql::cursor::{Cursor, Read};
use crate::sql::dialect::mysql::facts::Reader;
use crate::sql::dialect::mysql::names;
use crate::sql::facts::{Act, ActKind, Facts, Kind};
use crate::sql::lexer;
use std::collections::BTreeSet;

/// `SELECT … INTO OUTFILE` writes a file of the server, wherever in the query it stands.
pub fn of_query(cursor: &Cursor, facts: &mut Facts) {
    let mut here = *cursor;
    while !here.done() {
        if here.keyword(&["into"]) && (here.word_at(1, "outfile") || here.word_at(1, "dumpfile")) {
            facts
                .acts
                .push(Act { kind: ActKind::Outside, words: "INTO OUTFILE writes a file of the server".to_owned() });
        }
        facts.pages_by_offset |= pages(&here);
        here.at += 1;
    }
}

/// `LIMIT 10 OFFSET 20`, `LIMIT 20, 10`. An OFFSET of 0 skips nothing.
fn pages(here: &Cursor) -> bool {
    let skips = |by: usize| here.ahead(by).is_some() && here.written(by) != "0";
    (here.keyword(&["offset"]) && (here.number_at(1) || is_value(here, 1)) && skips(1))
        || (here.keyword(&["limit"]) && here.mark_at(2, ",") && skips(1))
}

fn is_value(here: &Cursor, by: usize) -> bool {
    here.ahead(by).is_some_and(|token| matches!(token.kind, lexer::Kind::Parameter | lexer::Kind::Variable))
}

/// What a call of this function does besides computing; `name` lower-cased.
pub fn of_call(name: &str, facts: &mut Facts) {
    let last = name.rsplit('.').next().unwrap_or_default();
    let kind = match last {
        _ if OUTSIDE.contains(&last) => ActKind::Outside,
        "setval" => ActKind::Writes,
        _ => return,
    };
    facts.acts.push(Act { kind, words: format!("{name}()") });
}

/// Functions that read files of the server, run programs on it, or steer replication.
const OUTSIDE: &[&str] = &[
    "load_file",
    "sys_exec",
    "sys_eval",
    "sys_set",
    "asynchronous_connection_failover_add_managed",
    "asynchronous_connection_failover_add_source",
    "asynchronous_connection_failover_delete_managed",
    "asynchronous_connection_failover_delete_source",
    "asynchronous_connection_failover_reset",
    "audit_log_filter_remove_filter",
    "audit_log_filter_remove_user",
    "audit_log_filter_set_filter",
    "audit_log_filter_set_user",
    "group_replication_set_as_primary",
    "group_replication_set_communication_protocol",
    "group_replication_switch_to_multi_primary_mode",
    "group_replication_switch_to_single_primary_mode",
    "keyring_key_remove",
    "keyring_key_store",
    "rotate_system_key",
];

/// Words that both products reserve and that stand before a parenthesis without calling anything.
#[rustfmt::skip]
const NO_FUNCTIONS: &[&str] = &[
    "all", "and", "as", "between", "by", "case", "check", "desc", "distinct", "div", "else", "elseif", "exists", "for",
    "from", "having", "in", "index", "interval", "into", "is", "join", "key", "like", "limit", "not", "on", "or", "partition",
    "primary", "regexp", "return", "rlike", "select", "set", "table", "then", "union", "unique", "using", "values", "when",
    "where", "while", "with", "xor",
];

/// Names of the functions that are called in some tokens: what stands before a parenthesis and is neither a word of the grammar's own
/// nor the name of a table with its columns. A name too many does no harm.
pub fn functions(cursor: &Cursor) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut here = *cursor;
    while !here.done() {
        if here.name_at(0) && here.mark_at(1, "(") && !is_no_function(&here) {
            found.insert(qualified(&here));
        }
        here.at += 1;
    }
    found
}

fn is_no_function(here: &Cursor) -> bool {
    let before = |by: usize| here.at.checked_sub(by).and_then(|at| here.tokens.get(at));
    let is_before = |word: &str| before(1).is_some_and(|token| token.is_word(here.text, word));
    let bare = here.ahead(0).is_some_and(|token| token.kind == lexer::Kind::Word);
    let after_dot = before(1).is_some_and(|token| token.is(b'.'));
    if bare && !after_dot && here.any(NO_FUNCTIONS) {
        return true;
    }
    // `INTO t (a, b)`, `WITH c (a) AS (…)`
    let mut behind = *here;
    behind.at += 1;
    let defines = behind.parenthesized().is_ok() && behind.word("as") && behind.mark_at(1, "(");
    defines || is_before("into") || is_before("table") || is_before("insert") || is_before("replace")
}

fn qualified(here: &Cursor) -> String {
    let name = names::folded(&names::unquoted(here.written(0)));
    let before = |by: usize| here.at.checked_sub(by).and_then(|at| here.tokens.get(at));
    match (before(2), before(1)) {
        (Some(database), Some(dot)) if dot.is(b'.') => {
            format!("{}.{name}", names::unquoted(database.text(here.text)))
        }
        _ => name,
    }
}

/// Statements that are told by their first words alone: what they say besides is taken as it comes.
struct Plain {
    words: &'static [&'static str],
    name: &'static str,
    /// What it does outside of the database, if that is what it is for.
    outside: Option<&'static str>,
    commits: bool,
}

const fn plain(words: &'static [&'static str], name: &'static str) -> Plain {
    Plain { words, name, outside: None, commits: false }
}

const fn committing(words: &'static [&'static str], name: &'static str) -> Plain {
    Plain { words, name, outside: None, commits: true }
}

const fn reaching(words: &'static [&'static str], name: &'static str, what: &'static str) -> Plain {
    Plain { words, name, outside: Some(what), commits: true }
}

/// The first that fits counts.
#[rustfmt::skip] // one line a statement
const PLAIN: &[Plain] = &[
    plain(&["kill"], "KILL"),
    committing(&["lock", "tables"], "LOCK TABLES"),
    committing(&["lock", "table"], "LOCK TABLES"),
    plain(&["lock", "instance"], "LOCK INSTANCE"),
    committing(&["unlock"], "UNLOCK"),
    committing(&["cache", "index"], "CACHE INDEX"),
    committing(&["check"], "CHECK TABLE"),
    committing(&["optimize"], "OPTIMIZE TABLE"),
    committing(&["repair"], "REPAIR TABLE"),
    committing(&["analyze"], "ANALYZE TABLE"),
    plain(&["checksum"], "CHECKSUM TABLE"),
    reaching(&["flush", "binary"], "FLUSH", "FLUSH BINARY LOGS rotates the server's binary log"),
    committing(&["flush"], "FLUSH"),
    reaching(&["reset", "query"], "RESET QUERY CACHE", "RESET QUERY CACHE empties the server's cache"),
    reaching(&["reset", "persist"], "RESET PERSIST", "RESET PERSIST sets the whole server"),
    reaching(&["reset"], "RESET", "RESET of the server's binary logs or replication"),
    reaching(&["purge"], "PURGE BINARY LOGS", "PURGE removes binary logs: no recovery to a point in time before"),
    reaching(&["change"], "CHANGE REPLICATION", "replication changed"),
    reaching(&["start"], "START REPLICA", "replication started"),
    reaching(&["stop"], "STOP REPLICA", "replication stopped"),
    reaching(&["install"], "INSTALL", "INSTALL loads a library into the server"),
    reaching(&["uninstall"], "UNINSTALL", "UNINSTALL takes a library out of the server"),
    reaching(&["shutdown"], "SHUTDOWN", "SHUTDOWN stops the server"),
    reaching(&["restart"], "RESTART", "RESTART stops the server and starts it again"),
    reaching(&["clone"], "CLONE", "CLONE copies a whole server"),
    reaching(&["import", "table"], "IMPORT TABLE", "IMPORT TABLE takes tables from files of the server"),
    reaching(&["binlog"], "BINLOG", "BINLOG applies events of a binary log: changes that no text shows"),
    reaching(&["backup"], "BACKUP", "BACKUP holds up the whole server"),
];

/// What must not be taken for something harmless of the same first word.
const ONLY_TABLES: &[&str] = &["check", "optimize", "repair", "analyze", "checksum"];

impl Reader<'_> {
    /// From behind the first word.
    pub fn administration(&mut self, word: &str) -> Read<()> {
        self.cursor.at -= 1;
        let Some(found) = PLAIN.iter().find(|plain| self.cursor.words(plain.words)) else {
            return self.compound(word);
        };
        self.cursor.at += found.words.len();
        if ONLY_TABLES.contains(&word) {
            self.cursor.eat_any(&["no_write_to_binlog", "local"]);
            if !self.cursor.eat_any(&["table", "tables", "view", "views"]) {
                return Err(self.cursor.lost());
            }
        }
        let rest = self.cursor.rest()?;
        self.calls(&rest);
        self.facts.commits_implicitly = found.commits;
        if let Some(what) = found.outside {
            self.outside(what);
        }
        self.other(found.name, found.name != "KILL")
    }

    /// MariaDB runs IF, LOOP and their kind at once, as if they stood in a procedure.
    fn compound(&mut self, word: &str) -> Read<()> {
        let begins = ["if", "case", "loop", "while", "repeat", "for"].contains(&word) || self.cursor.mark_at(1, ":");
        match begins && self.cursor.is_mariadb() {
            true => self.code(0),
            false => {
                self.facts.kind = Kind::Unread;
                Err(self.cursor.lost())
            }
        }
    }

    /// GRANT and REVOKE, from behind the word.
    pub fn grant(&mut self, word: &str) -> Read<()> {
        self.facts.kind = Kind::Grant;
        self.facts.commits_implicitly = true;
        self.facts.changes_session = true;
        let (name, towards) = if word == "grant" { ("GRANT", "to") } else { ("REVOKE", "from") };
        self.cursor.run(|here| here.keyword(&[towards]))?;
        self.cursor.expect(towards)?;
        let to = self.cursor.rest()?;
        let account: String = self.cursor.slice(&to).unwrap_or_default().chars().take(60).collect();
        let account = account.split([' ', ',']).next().unwrap_or_default().to_owned();
        self.act(ActKind::Rights, format!("{name} {towards} {account}"));
        Ok(())
    }
}
