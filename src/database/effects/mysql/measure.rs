//! What a transaction of MySQL or MariaDB has done so far. Neither tells it table by table; there are three counts.
//!
//! *InnoDB's undo entries of one's own transaction* hold every row changed, cascades and triggers included, and go down when a savepoint is rolled
//! back. A change of a primary key, or into another partition, makes two of one row; rows of temporary tables count as well; other
//! engines' rows do not. They need the right PROCESS, and are had in two ways:
//! `SHOW ENGINE INNODB STATUS` tells them as of now (0.2 ms on MariaDB 10.11, 0.9 ms on MySQL 9.7); it is cut at 1 MB, and a transaction in
//! the part cut out is not found. `information_schema.INNODB_TRX` has them in `trx_rows_modified`, by a copy that is made anew only if
//! nobody at all read it for 100 ms (`trx0i_s.cc`, `CACHE_MIN_IDLE_TIME_US`): so a read can be stale, and with two sessions that read
//! often every read is. It is the second way here, and believed only if the row's `trx_query` is the very question, told by its nonce.
//!
//! *The session's handler counters* count what passes the SQL layer, triggers and functions included, whatever the engine, and need no right.
//! They never go down. MySQL counts its own temporary tables among them (mostly as writes), MariaDB apart. They miss what InnoDB carries on by
//! foreign keys, but for MySQL 9.6 and later, where the SQL layer does that (`innodb_native_foreign_keys` off: a DELETE of one
//! parent with four rows below counted five), and MyISAM's DELETE of all rows at once.
//!
//! *The affected rows of the OK packet*: what the statement itself did, without triggers and cascades.
//!
//! Invariant: what is told as destroyed is never less than what was, as far as the counts that were had reach; how far that is, is told
//! with it. A stale copy, or a count that fell, is unmeasured, never zero. Tried on MySQL 9.7 and MariaDB 10.11.

use crate::database::quote::mysql::literal;
use crate::database::{Answer, Ask, AskError};
use crate::ground::secret::fill_random;
use crate::policy::question::{Action, Effects, ForeignKey, Table, TableEffect, TableKind};
use crate::sql::Product;
use crate::sql::facts::{Change, Verb};

/// The counts of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    handler: Handler,
    /// Undo entries of the transaction that is open; `None`: this user may not ask.
    rows: Option<u64>,
    /// The SQL layer carries foreign keys' actions out, and its counters have them.
    keys_above: bool,
    /// The server's own temporary tables are not among the writes.
    writes_are_rows: bool,
    /// DELETE statements, those of functions and triggers included. MariaDB tells; MySQL's counters leave statements out.
    delete_statements: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Handler {
    writes: u64,
    updates: u64,
    deletes: u64,
}

/// How far the counts reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaches {
    /// Everything that InnoDB's transactions did.
    Everything,
    /// Not the rows that foreign keys carry a change on to: this user does not have the right PROCESS.
    NotCascades,
}

/// What kind of statement ran between two snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Did {
    /// INSERT or LOAD DATA that writes over nothing: its affected rows are rows added.
    Added,
    /// UPDATE or DELETE.
    Changed,
    /// An UPDATE of a primary key's or a partition's column: one row is taken out and put in.
    Moved,
    /// REPLACE, INSERT … ON DUPLICATE KEY UPDATE; whether foreign keys may carry that on.
    Overwrote { cascades: bool },
    /// Code of the users' own: CALL, a function in a query; or several statements at once.
    Ran,
}

impl Did {
    /// Of a statement with one change. A table that is not known may be any.
    pub fn of(change: &Change, table: Option<&Table>) -> Did {
        let carried = |key: &ForeignKey| key.on_delete != Action::NoAction && key.on_delete != Action::Restrict;
        let cascades = table.is_none_or(|table| {
            let updates = |key: &ForeignKey| key.on_update != Action::NoAction && key.on_update != Action::Restrict;
            table.unseen_keys.is_some() || table.referenced_by.iter().any(|key| carried(key) || updates(key))
        });
        match change.verb {
            Verb::Insert | Verb::CopyIn if change.on_conflict.overwrites() => Did::Overwrote { cascades },
            Verb::Insert | Verb::CopyIn => Did::Added,
            Verb::Update if table.is_some_and(|table| moves(change, table)) => Did::Moved,
            Verb::Update | Verb::Delete => Did::Changed,
            Verb::Merge { .. } => Did::Ran,
        }
    }
}

/// One row may leave two entries: InnoDB keeps rows in the order of a key, in the partition they belong to, and with system versioning twice.
fn moves(change: &Change, table: &Table) -> bool {
    let ordered_by = |column: &String| match table.primary_key.is_empty() {
        true => table.unique_keys.iter().any(|key| key.contains(column)),
        false => table.primary_key.contains(column),
    };
    table.versioned
        || table.kind == TableKind::Partitioned
        || change.assignments.iter().any(|assignment| ordered_by(&assignment.column))
}

impl Snapshot {
    pub fn reaches(&self) -> Reaches {
        match self.rows.is_some() || self.keys_above {
            true => Reaches::Everything,
            false => Reaches::NotCascades,
        }
    }
}

/// The counts as of now, of the connection that the questions go by.
pub async fn snapshot(asker: &mut impl Ask, product: Product) -> Result<Snapshot, AskError> {
    let counters = asker.ask(&counters(product), None).await?;
    let (mut snapshot, thread) = read_counters(&counters, product).ok_or_else(|| odd("the session's counters"))?;
    snapshot.rows = match asker.ask("SHOW ENGINE INNODB STATUS", None).await {
        Ok(status) => match entries(&status, thread) {
            Some(rows) => Some(rows),
            None => Some(by_table(asker, &thread.to_string(), MODIFIED).await?),
        },
        Err(error) if is_denied(&error) => None,
        Err(AskError::TooLarge) => Some(by_table(asker, &thread.to_string(), MODIFIED).await?),
        Err(error) => return Err(error),
    };
    Ok(snapshot)
}

/// Rows that the transaction of the connection holds locks of, where this user may know.
pub async fn rows_locked(asker: &mut impl Ask) -> Result<u64, AskError> {
    by_table(asker, "CONNECTION_ID()", "trx_rows_locked").await
}

const MODIFIED: &str = "trx_rows_modified";

/// What was done between the two, of which the server said that so many rows were affected. `Err`: the counts do not fit together, and
/// why that may be.
pub fn between(before: &Snapshot, after: &Snapshot, did: Did, affected: u64) -> Result<Effects, String> {
    let less = |what: &str| format!("the database's count of {what} was set back");
    let since = |now: u64, was: u64| now.checked_sub(was).ok_or_else(|| less("what the session did"));
    let (was, now) = (before.handler, after.handler);
    let done = Handler {
        writes: since(now.writes, was.writes)?,
        updates: since(now.updates, was.updates)?,
        deletes: since(now.deletes, was.deletes)?,
    };
    let rows = match (before.rows, after.rows) {
        // A savepoint rolled back, or a transaction that ended and another that began.
        (Some(was), Some(now)) => Some(now.checked_sub(was).ok_or_else(|| less("what the transaction did"))?),
        (None, None) => None,
        _ => return Err("the right to see what the transaction changed came or went meanwhile".to_owned()),
    };
    let (inserted, destroyed) = match rows {
        Some(rows) => told_by_rows(rows, done, after, did, affected),
        None => (told_as_added(did, affected), told_by_counters(done.above(), did, affected)),
    };
    let deleted = done.deletes.min(destroyed);
    let updated = done.updates.min(destroyed - deleted);
    let untold = destroyed - deleted - updated;
    let name = match after.reaches() {
        Reaches::Everything => "all tables together",
        Reaches::NotCascades => "all tables together, without what foreign keys carry on",
    };
    let table = TableEffect { name: name.to_owned(), inserted, updated, deleted, untold };
    let tables = if table.is_nothing() { Vec::new() } else { vec![table] };
    Ok(Effects { tables, ..Effects::default() })
}

/// A DELETE ran, and no counter tells of a row: there was none, or it emptied a table without transactions at once (MariaDB's MyISAM, Aria
/// and MEMORY count nothing then). Of code that is shown, it is known which tables it names.
pub fn may_have_emptied(before: &Snapshot, after: &Snapshot) -> bool {
    after.delete_statements > before.delete_statements && after.handler.deletes == before.handler.deletes
}

fn told_as_added(did: Did, affected: u64) -> u64 {
    if did == Did::Added { affected } else { 0 }
}

/// Rows added and rows destroyed. Nothing below the SQL layer changes a row without one being changed above it (`above`). An engine
/// without transactions leaves no undo entry, and its rows are told by the other counts.
fn told_by_rows(rows: u64, since: Handler, like: &Snapshot, did: Did, affected: u64) -> (u64, u64) {
    let Snapshot { keys_above, writes_are_rows, .. } = *like;
    let above = since.above();
    match did {
        Did::Added if above == 0 => (affected, 0),
        Did::Added if keys_above => (affected, above),
        Did::Added => (affected, rows.saturating_sub(affected).max(above)),
        // Rows that its triggers add are no rows destroyed.
        Did::Changed if keys_above => (rows.saturating_sub(above.max(affected)), above.max(affected)),
        Did::Changed if writes_are_rows => (since.writes, rows.saturating_sub(since.writes).max(above).max(affected)),
        Did::Changed => (0, rows.max(affected)),
        // Of rows that moved, two entries; of the others, one: what is told then is at least half of what was done.
        Did::Moved => (0, affected.max(rows.saturating_sub(affected))),
        Did::Overwrote { cascades: false } => (0, above),
        Did::Overwrote { .. } if keys_above => (0, above),
        // Each row written over was a write that failed first, so the writes are the entries of those and of the rows put in together.
        Did::Overwrote { .. } if writes_are_rows => (0, above.saturating_add(rows.saturating_sub(since.writes))),
        Did::Overwrote { .. } => (0, rows.max(above)),
        Did::Ran if above == 0 => (rows.max(affected), 0),
        Did::Ran if keys_above => (rows.saturating_sub(above), above),
        Did::Ran => (0, rows.max(above)),
    }
}

fn told_by_counters(above: u64, did: Did, affected: u64) -> u64 {
    match did {
        Did::Changed | Did::Moved => above.max(affected),
        Did::Added | Did::Overwrote { .. } | Did::Ran => above,
    }
}

impl Handler {
    /// Rows changed above the engines.
    fn above(self) -> u64 {
        self.updates.saturating_add(self.deletes)
    }
}

/// The counters, the connection's number, and who carries foreign keys out, in one question.
fn counters(product: Product) -> String {
    const NAMES: &str = "('Handler_delete', 'Handler_update', 'Handler_write', 'Com_delete', 'Com_delete_multi')";
    match product {
        Product::MariaDb => format!(
            "SELECT VARIABLE_NAME AS name, VARIABLE_VALUE AS value FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME IN {NAMES} \
             UNION ALL SELECT 'thread', CAST(CONNECTION_ID() AS CHAR)"
        ),
        _ => format!(
            "SELECT VARIABLE_NAME AS name, VARIABLE_VALUE AS value FROM performance_schema.session_status WHERE VARIABLE_NAME IN {NAMES} \
             UNION ALL SELECT 'thread', CAST(CONNECTION_ID() AS CHAR) \
             UNION ALL SELECT VARIABLE_NAME, VARIABLE_VALUE FROM performance_schema.global_variables \
             WHERE VARIABLE_NAME = 'innodb_native_foreign_keys'"
        ),
    }
}

fn read_counters(answer: &Answer, product: Product) -> Option<(Snapshot, u64)> {
    let value = |name: &str| {
        let is = |row: &&Vec<Option<String>>| {
            row.first().and_then(Option::as_deref).is_some_and(|written| written.eq_ignore_ascii_case(name))
        };
        answer.rows.iter().find(is)?.get(1)?.as_deref()
    };
    let number = |name| value(name)?.parse::<u64>().ok();
    let handler = Handler {
        writes: number("Handler_write")?,
        updates: number("Handler_update")?,
        deletes: number("Handler_delete")?,
    };
    // MySQL before 9.6, and MariaDB, do not have it: there InnoDB does it.
    let keys_above = value("innodb_native_foreign_keys").is_some_and(|word| word.eq_ignore_ascii_case("OFF"));
    let writes_are_rows = product == Product::MariaDb;
    let delete_statements = number("Com_delete").unwrap_or(0).saturating_add(number("Com_delete_multi").unwrap_or(0));
    Some((Snapshot { handler, rows: None, keys_above, writes_are_rows, delete_statements }, number("thread")?))
}

/// The undo entries of this connection's transaction by InnoDB's status; `None`: that cannot be told from it.
fn entries(status: &Answer, thread: u64) -> Option<u64> {
    let text = status.rows.first()?.get(2)?.as_deref()?;
    let (_, list) = text.split_once("LIST OF TRANSACTIONS FOR EACH SESSION:")?;
    let mine = |block: &&str| {
        block.lines().any(|line| {
            let number = line.strip_prefix("MySQL thread id ").or_else(|| line.strip_prefix("MariaDB thread id "));
            number.and_then(|rest| rest.split(',').next()).and_then(|digits| digits.parse().ok()) == Some(thread)
        })
    };
    let mut blocks = list.split("\n---TRANSACTION").filter(mine);
    let own = blocks.next();
    if blocks.next().is_some() {
        // A text that somebody runs at this moment stands in the list, too, and can look like one of its lines.
        return None;
    }
    let Some(own) = own else {
        // Not in a whole list: no transaction was begun.
        let whole = list.contains("END OF INNODB MONITOR OUTPUT") && !list.contains("... truncated...");
        return whole.then_some(0);
    };
    let entries = own.lines().find_map(|line| line.split_once("undo log entries ")).map(|(_, rest)| rest);
    match entries {
        Some(rest) => rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok(),
        None => Some(0),
    }
}

/// The same by the table that can be stale: asked again until it is not, for a bounded time.
async fn by_table(asker: &mut impl Ask, thread: &str, column: &str) -> Result<u64, AskError> {
    for _ in 0..TRIES {
        let nonce = nonce()?;
        let question = format!(
            "SELECT /* sluice {nonce} */ CAST(t.{column} AS CHAR) AS n, LOCATE({}, t.trx_query) > 0 AS fresh \
             FROM information_schema.INNODB_TRX t WHERE t.trx_mysql_thread_id = {thread} UNION ALL SELECT NULL, NULL",
            literal(&nonce)
        );
        let answer = asker.ask(&question, None).await?;
        let cell = |column: usize| answer.rows.first()?.get(column)?.as_deref();
        if let (Some(n), Some("1")) = (cell(0), cell(1)) {
            return n.parse().map_err(|_| odd("what the transaction changed"));
        }
        asker.ask("SELECT SLEEP(0.11)", None).await?;
    }
    Err(odd("what the transaction changed: others ask for it too often"))
}

/// Nobody can have run a text with it before: it is in no older copy.
fn nonce() -> Result<String, AskError> {
    let mut bytes = [0; 12];
    fill_random(&mut bytes).map_err(|_| odd("anything, as there is no randomness for a nonce"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Each waits longer than the copy is kept.
const TRIES: usize = 5;

/// ER_SPECIFIC_ACCESS_DENIED_ERROR and its kind.
fn is_denied(error: &AskError) -> bool {
    matches!(error, AskError::Database { code, .. } if code == "42000")
}

fn odd(what: &str) -> AskError {
    AskError::Database { code: "HY000".to_owned(), message: format!("the database did not tell {what}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(text: &str) -> Answer {
        let row = vec![Some("InnoDB".to_owned()), Some(String::new()), Some(text.to_owned())];
        Answer { columns: Vec::new(), rows: vec![row] }
    }

    #[test]
    fn ones_own_transaction_is_told_from_others() {
        let list = |blocks: &str, end: &str| {
            format!(
                "LATEST DETECTED DEADLOCK\nTRANSACTION 7, ACTIVE 0 sec\n1 lock, undo log entries 99\nMySQL thread id 8, x\n\
                 TRANSACTIONS\nLIST OF TRANSACTIONS FOR EACH SESSION:\n{blocks}--------\n{end}\n"
            )
        };
        let block = |id: u32, entries: &str| {
            format!(
                "---TRANSACTION 10289, ACTIVE 0 sec\n2 lock struct(s), heap size 1128, 4 row lock(s){entries}\nMySQL thread id {id}, OS thread handle 1, query id 2 localhost root starting\nSELECT 1\n"
            )
        };
        let end = "END OF INNODB MONITOR OUTPUT";
        for (text, expected) in [
            (list(&block(8, ", undo log entries 12"), end), Some(12)),
            (
                list(&format!("{}{}", block(88, ", undo log entries 5"), block(8, ", undo log entries 12")), end),
                Some(12),
            ),
            (list(&block(8, ""), end), Some(0)),
            (list(&block(88, ", undo log entries 5"), end), Some(0)),
            (list(&block(88, ", undo log entries 5"), "... truncated...\nEND OF INNODB MONITOR OUTPUT"), None),
            (list(&format!("{}{}", block(8, ", undo log entries 5"), block(8, ", undo log entries 12")), end), None),
            ("nothing".to_owned(), None),
        ] {
            assert_eq!(entries(&status(&text), 8), expected, "{text}");
        }
    }

    fn at(rows: Option<u64>, updates: u64, deletes: u64, keys_above: bool) -> Snapshot {
        Snapshot {
            handler: Handler { writes: 0, updates, deletes },
            rows,
            keys_above,
            writes_are_rows: false,
            delete_statements: 0,
        }
    }

    #[test]
    fn what_is_told_is_never_too_little() {
        let (maria, nine, blind) = (Some(0), true, None);
        for (rows, above, updates, deletes, did, affected, inserted, destroyed) in [
            // One parent with three children below it.
            (Some(4), false, 0, 1, Did::Changed, 1, 0, 4),
            (Some(4), nine, 0, 4, Did::Changed, 1, 0, 4),
            (blind, false, 0, 1, Did::Changed, 1, 0, 1),
            // An INSERT of ten rows with a trigger that updates each of another table's.
            (Some(20), false, 10, 0, Did::Added, 10, 10, 10),
            (maria, false, 0, 0, Did::Added, 10, 10, 0),
            // Primary keys moved, and rows below them.
            (Some(6), false, 3, 0, Did::Moved, 3, 0, 3),
            (Some(8), false, 3, 0, Did::Moved, 3, 0, 5),
            // Of ten new values, four were there already, and two rows hung below one of them.
            (Some(14), false, 4, 0, Did::Overwrote { cascades: true }, 14, 0, 14),
            (Some(10), false, 4, 0, Did::Overwrote { cascades: false }, 14, 0, 4),
            (Some(12), nine, 6, 0, Did::Overwrote { cascades: true }, 14, 0, 6),
            // MyISAM: nothing but the affected rows tells it.
            (Some(0), false, 0, 0, Did::Changed, 7, 0, 7),
            (Some(0), false, 0, 7, Did::Ran, 0, 0, 7),
            // A procedure that only adds, and one that also changes.
            (Some(9), false, 0, 0, Did::Ran, 0, 9, 0),
            (Some(9), false, 1, 0, Did::Ran, 0, 0, 9),
            (Some(9), nine, 1, 0, Did::Ran, 0, 8, 1),
        ] {
            let before = at(rows.map(|_| 0), 0, 0, above);
            let effects = between(&before, &at(rows, updates, deletes, above), did, affected).expect("measured");
            let inserts: u64 = effects.tables.iter().map(|table| table.inserted).sum();
            assert_eq!((inserts, effects.destroyed()), (inserted, destroyed), "{rows:?} {did:?} {affected}");
        }
    }

    #[test]
    fn a_row_written_over_was_a_write_that_failed() {
        // MariaDB: REPLACE of a parent with two children: one attempt, one DELETE, another attempt.
        let like = Snapshot { writes_are_rows: true, ..Snapshot::default() };
        let done = Handler { writes: 2, updates: 0, deletes: 1 };
        assert_eq!(told_by_rows(4, done, &like, Did::Overwrote { cascades: true }, 2), (0, 3));
    }

    #[test]
    fn what_a_statement_does_is_told_by_its_change() {
        let table = Table { primary_key: vec!["id".into()], ..Table::default() };
        let versioned = Table { versioned: true, ..table.clone() };
        let mode =
            crate::sql::statement::LexicalMode::MySql(crate::sql::statement::MySqlMode::of(Product::MariaDb, 101114));
        for (text, table, did) in [
            ("UPDATE t SET a = 1", &table, Did::Changed),
            ("UPDATE t SET a = 1, ID = 2", &table, Did::Moved),
            ("UPDATE t SET a = 1", &versioned, Did::Moved),
            ("DELETE FROM t", &versioned, Did::Changed),
            ("INSERT IGNORE INTO t VALUES (1)", &table, Did::Added),
            ("REPLACE INTO t VALUES (1)", &table, Did::Overwrote { cascades: false }),
        ] {
            let reading = crate::sql::read(text, mode);
            assert_eq!(Did::of(&reading.statements[0].facts.changes[0], Some(table)), did, "{text}");
        }
    }

    #[test]
    fn counts_that_do_not_fit_are_no_measure() {
        let set_back = between(&at(Some(5), 0, 0, false), &at(Some(4), 0, 0, false), Did::Ran, 0);
        assert!(set_back.is_err_and(|why| why.contains("set back")));
        assert!(between(&at(Some(5), 0, 0, false), &at(None, 0, 0, false), Did::Ran, 0).is_err());
        assert!(between(&at(None, 5, 0, false), &at(None, 4, 0, false), Did::Ran, 0).is_err());
    }
}
