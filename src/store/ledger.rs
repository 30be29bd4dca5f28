//! Which statements of which scripts have run, in the same file as the challenges.
//!
//! Invariants: a statement is entered before it is sent, in one transaction with the look at what is there, so of two who begin the
//! same one only one gets it; an entry that was begun stays so until somebody knows better; what is rolled back gives the entry back
//! what it held before.

use crate::ground::limits;
use crate::store::StoreError;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

/// What one entry is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub listener: String,
    pub database: String,
    pub script: String,
    /// Of the statement's text and values.
    pub digest: [u8; 32],
}

/// An entry as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// How often it was begun; names the run that an ending belongs to.
    pub runs: u64,
    pub state: State,
    pub begun: Timestamp,
    pub begun_by: String,
    /// The database's transaction that it was begun in, if it was not one of its own.
    pub transaction: Option<String>,
    /// The last time that it ran to its end.
    pub ran: Option<Timestamp>,
    pub ran_by: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Begun,
    Ran,
}

/// A run that begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Beginning {
    pub key: Key,
    /// The runs that the entry had when it was looked at; 0: there was none.
    pub runs_seen: u64,
    pub by: String,
    pub transaction: Option<String>,
    /// What `SLUICE SCRIPTS` may show of it: without its literals.
    pub statement: String,
    pub now: Timestamp,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Ran {
        rows: Option<u64>,
    },
    /// Rolled back, or never carried out.
    Undone,
}

/// What became of beginning.
#[derive(Debug, Clone, PartialEq)]
pub enum Begun {
    /// It is ours; this is the number of the run.
    Now(u64),
    /// Somebody else was faster.
    Taken,
}

/// All entries of one script.
#[derive(Debug, Clone, PartialEq)]
pub struct Script {
    pub name: String,
    pub ran: u64,
    pub begun: u64,
    pub rows: u64,
    pub first: Timestamp,
    pub last: Timestamp,
    pub by: String,
}

pub(in crate::store) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS ledger (
        listener TEXT NOT NULL,
        database TEXT NOT NULL,
        script TEXT NOT NULL,
        digest BLOB NOT NULL,
        statement TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('begun', 'ran')),
        runs INTEGER NOT NULL,
        begun_ms INTEGER NOT NULL,
        begun_by TEXT NOT NULL,
        in_transaction TEXT,
        ran_ms INTEGER,
        ran_by TEXT,
        rows INTEGER,
        entered_by TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (listener, database, script, digest)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS ledger_age ON ledger (begun_ms);
";

/// From version 2.
pub(in crate::store) const UPGRADE: &str = "
    ALTER TABLE ledger ADD COLUMN entered_by TEXT NOT NULL DEFAULT '';
    UPDATE ledger SET entered_by = begun_by;
";

/// How many entries each principal has made: counting a million of them for each statement would take too long.
pub(in crate::store) const SHARES: &str = "
    CREATE TABLE ledger_share (
        listener TEXT NOT NULL,
        user TEXT NOT NULL,
        entries INTEGER NOT NULL,
        PRIMARY KEY (listener, user)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO ledger_share SELECT listener, entered_by, count(*) FROM ledger GROUP BY listener, entered_by;
    CREATE TRIGGER ledger_entered AFTER INSERT ON ledger BEGIN
        INSERT INTO ledger_share VALUES (new.listener, new.entered_by, 1)
            ON CONFLICT (listener, user) DO UPDATE SET entries = entries + 1;
    END;
    CREATE TRIGGER ledger_forgotten AFTER DELETE ON ledger BEGIN
        UPDATE ledger_share SET entries = entries - 1 WHERE listener = old.listener AND user = old.entered_by;
        DELETE FROM ledger_share WHERE listener = old.listener AND user = old.entered_by AND entries <= 0;
    END;
";

const OF_KEY: &str = "listener = ?1 AND database = ?2 AND script = ?3 AND digest = ?4";

pub(in crate::store) fn find(db: &mut Connection, keys: Vec<Key>) -> Result<Option<(Key, Entry)>, StoreError> {
    for key in keys {
        if let Some(entry) = found(db, &key)? {
            return Ok(Some((key, entry)));
        }
    }
    Ok(None)
}

pub(in crate::store) fn begin(db: &mut Connection, beginning: &Beginning) -> Result<Begun, StoreError> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let key = &beginning.key;
    let before = found(&transaction, key)?.map_or(0, |entry| entry.runs);
    if before != beginning.runs_seen {
        return Ok(Begun::Taken);
    }
    if before == 0 {
        hold_to_its_share(&transaction, &key.listener, &beginning.by)?;
    }
    let runs = before.saturating_add(1);
    transaction.execute(
        "INSERT INTO ledger (listener, database, script, digest, statement, state, runs, begun_ms, begun_by, in_transaction,
             entered_by)
         VALUES (?1, ?2, ?3, ?4, ?5, 'begun', ?6, ?7, ?8, ?9, ?8)
         ON CONFLICT (listener, database, script, digest) DO UPDATE SET state = 'begun', runs = excluded.runs,
             begun_ms = excluded.begun_ms, begun_by = excluded.begun_by, in_transaction = excluded.in_transaction",
        params![
            key.listener,
            key.database,
            key.script,
            key.digest.as_slice(),
            beginning.statement,
            runs.cast_signed(),
            beginning.now.as_millisecond(),
            beginning.by,
            beginning.transaction,
        ],
    )?;
    transaction.commit()?;
    Ok(Begun::Now(runs))
}

/// Only the run that it names: a later one is another's.
pub(in crate::store) fn end(db: &mut Connection, key: &Key, runs: u64, how: Ending) -> Result<(), StoreError> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let digest = key.digest.as_slice();
    match how {
        Ending::Ran { rows } => {
            let sql = format!(
                "UPDATE ledger SET state = 'ran', ran_ms = begun_ms, ran_by = begun_by, rows = ?6 WHERE {OF_KEY} AND runs = ?5"
            );
            let rows = rows.map(u64::cast_signed);
            transaction
                .execute(&sql, params![key.listener, key.database, key.script, digest, runs.cast_signed(), rows])?;
        }
        Ending::Undone => {
            let of_run = params![key.listener, key.database, key.script, digest, runs.cast_signed()];
            let gone = format!("DELETE FROM ledger WHERE {OF_KEY} AND runs = ?5 AND ran_ms IS NULL");
            transaction.execute(&gone, of_run)?;
            let back = format!("UPDATE ledger SET state = 'ran', in_transaction = NULL WHERE {OF_KEY} AND runs = ?5");
            transaction.execute(&back, of_run)?;
        }
    }
    Ok(transaction.commit()?)
}

/// Entries that were begun in a transaction of the client's, of which nobody knows yet how it ended; oldest first.
pub(in crate::store) fn open(
    db: &mut Connection,
    listener: &str,
    database: &str,
) -> Result<Vec<(Key, Entry)>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS}, script, digest FROM ledger
         WHERE listener = ?1 AND database = ?2 AND state = 'begun' AND in_transaction IS NOT NULL ORDER BY begun_ms LIMIT ?3"
    );
    let mut query = db.prepare_cached(&sql)?;
    let most = limits::LEDGER_OPEN_MAX as i64;
    let rows = query.query_map(params![listener, database, most], |row| {
        let (script, digest) = (row.get(7)?, row.get(8)?);
        let key = Key { listener: listener.to_owned(), database: database.to_owned(), script, digest };
        Ok((key, read(row)?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(in crate::store) fn scripts(
    db: &mut Connection,
    listener: &str,
    database: &str,
) -> Result<Vec<Script>, StoreError> {
    let mut query = db.prepare_cached(
        "SELECT script, sum(state = 'ran'), sum(state = 'begun'), sum(coalesce(rows, 0)), min(begun_ms), max(begun_ms),
                group_concat(DISTINCT begun_by)
         FROM ledger WHERE listener = ?1 AND database = ?2 GROUP BY script ORDER BY max(begun_ms) DESC LIMIT ?3",
    )?;
    let number = |row: &Row<'_>, at| row.get::<_, i64>(at).map(i64::unsigned_abs);
    let rows = query.query_map(params![listener, database, limits::LEDGER_SHOWN_MAX as i64], |row| {
        Ok(Script {
            name: row.get(0)?,
            ran: number(row, 1)?,
            begun: number(row, 2)?,
            rows: number(row, 3)?,
            first: timestamp(row.get(4)?),
            last: timestamp(row.get(5)?),
            by: row.get(6)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(in crate::store) fn sweep(db: &Connection, now: Timestamp) -> Result<(), StoreError> {
    let keep = i64::try_from(limits::LEDGER_KEEP.as_millis()).unwrap_or(i64::MAX);
    db.execute("DELETE FROM ledger WHERE begun_ms < ?1", [now.as_millisecond().saturating_sub(keep)])?;
    Ok(())
}

/// Somebody with few entries goes on though the ledger is full.
fn hold_to_its_share(db: &Connection, listener: &str, user: &str) -> Result<(), StoreError> {
    let number = |row: &Row<'_>| row.get::<_, i64>(0).map(i64::unsigned_abs);
    let of_one = "SELECT coalesce(sum(entries), 0) FROM ledger_share WHERE listener = ?1 AND user = ?2";
    let own = db.query_row(of_one, params![listener, user], number)?;
    let all = db.query_row("SELECT coalesce(sum(entries), 0) FROM ledger_share", [], number)?;
    let crowded = all >= limits::LEDGER_ENTRIES_MAX;
    let most = if crowded { limits::LEDGER_ENTRIES_OF_ONE_ALWAYS } else { limits::LEDGER_ENTRIES_OF_ONE_MAX };
    match own >= most {
        true => Err(StoreError::Database(format!(
            "the ledger of scripts holds {own} statements that {user} entered, and takes no more of them ({most} at most)"
        ))),
        false => Ok(()),
    }
}

const COLUMNS: &str = "runs, state, begun_ms, begun_by, in_transaction, ran_ms, ran_by";

fn found(db: &Connection, key: &Key) -> Result<Option<Entry>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM ledger WHERE {OF_KEY}");
    let values = params![key.listener, key.database, key.script, key.digest.as_slice()];
    Ok(db.query_row(&sql, values, read).optional()?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let ran: Option<i64> = row.get(5)?;
    Ok(Entry {
        runs: row.get::<_, i64>(0)?.unsigned_abs(),
        // The table holds no other word than these two; what is not known to have run counts as begun.
        state: if row.get::<_, String>(1)? == "ran" { State::Ran } else { State::Begun },
        begun: timestamp(row.get(2)?),
        begun_by: row.get(3)?,
        transaction: row.get(4)?,
        ran: ran.map(timestamp),
        ran_by: row.get(6)?,
    })
}

fn timestamp(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX)
}
