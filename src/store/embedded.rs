//! The store in one SQLite file, owned by one thread of its own, so that a slow disk never stops a session's runtime.
//!
//! Invariants: WAL with `synchronous = FULL`, so a commit that was answered survives `kill -9` and a power cut
//! (<https://www.sqlite.org/pragma.html#pragma_synchronous>); whatever reads and then writes is one `BEGIN IMMEDIATE` transaction, so
//! two processes on one file cannot both win; file and key are readable by their owner alone. Tried with the bundled SQLite of
//! rusqlite 0.40.
//!
//! The key for token hashes lies beside the file (`PATH.key`), not in it: a copied or backed-up store does not let anyone try
//! out 2^40 tokens at leisure. Losing the key makes pending tokens unknown, nothing worse.

use crate::ground::clock::after;
use crate::ground::ids::ChallengeId;
use crate::ground::limits;
use crate::ground::secret::{HashKey, TokenHash};
use crate::store::kept::{Challenge, Holder, Status};
use crate::store::ledger;
use crate::store::{Ended, Found, StoreError, Swept, Whose};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// The way to the store's thread; the thread ends when the last of these is dropped.
#[derive(Clone)]
pub(in crate::store) struct Embedded {
    jobs: mpsc::Sender<Job>,
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

impl Embedded {
    /// Runs one piece of work on the thread. A caller that stopped waiting before its turn came is passed over.
    pub(in crate::store) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |db| {
            if !reply.is_closed() {
                // The caller may stop waiting at any time: then nobody hears, which is what it asked for.
                let _ = reply.send(work(db));
            }
        });
        let asked = async {
            self.jobs.send(job).await.map_err(|_| StoreError::Gone)?;
            answer.await.map_err(|_| StoreError::Gone)?
        };
        tokio::time::timeout(limits::STORE_DEADLINE, asked).await.unwrap_or(Err(StoreError::Deadline))
    }
}

impl Embedded {
    /// Work that nobody waits for, in its turn. With the queue full, or the thread gone, it is not done, and that is logged.
    pub(in crate::store) fn post(&self, work: impl FnOnce(&mut Connection) + Send + 'static) {
        if self.jobs.try_send(Box::new(work)).is_err() {
            tracing::error!("the store could not take what was to be kept");
        }
    }
}

pub(in crate::store) fn open_in_memory() -> Result<(Embedded, HashKey), StoreError> {
    let mut db = Connection::open_in_memory()?;
    prepare(&mut db)?;
    Ok((start(db)?, new_key()?))
}

pub(in crate::store) fn open_file(path: &Path) -> Result<(Embedded, HashKey), StoreError> {
    make_private(path)?;
    let mut db = Connection::open(path)?;
    db.busy_timeout(limits::STORE_BUSY_TIMEOUT)?;
    check_ours(&mut db)?;
    use_wal(&db)?;
    prepare(&mut db)?;
    let key = load_key(&key_path(path))?;
    Ok((start(db)?, key))
}

pub(in crate::store) fn create(db: &mut Connection, challenge: &Challenge) -> Result<(), StoreError> {
    let body = serde_json::to_string(challenge).map_err(|error| StoreError::Database(error.to_string()))?;
    let transaction = immediate(db)?;
    transaction.execute(
        "INSERT INTO challenge (id, token_hash, listener, user, database, status, created_ms, expires_ms, ended_ms, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, NULL, ?9)",
        params![
            challenge.id.to_string(),
            challenge.token_hash.as_bytes(),
            challenge.holder.listener,
            challenge.holder.user,
            challenge.holder.database,
            challenge.status.as_str(),
            challenge.created.as_millisecond(),
            challenge.expires.as_millisecond(),
            body,
        ],
    )?;
    drop_oldest_pending(&transaction, &challenge.holder)?;
    Ok(transaction.commit()?)
}

pub(in crate::store) fn look_up(
    db: &mut Connection,
    hash: TokenHash,
    by: &Holder,
    whose: Whose,
    now: Timestamp,
) -> Result<Found, StoreError> {
    let transaction = immediate(db)?;
    if let Some(until) = blocked(&transaction, by, now)? {
        return Ok(Found::Blocked { until });
    }
    let shown = |holder: &Holder| match whose {
        Whose::Own => holder.listener == by.listener && holder.user == by.user,
        Whose::AnyInDatabase => holder.listener == by.listener && holder.database == by.database,
    };
    let found = match by_hash(&transaction, hash)?.filter(|challenge| shown(&challenge.holder)) {
        Some(challenge) => Found::Challenge(Box::new(challenge)),
        None => count_wrong_try(&transaction, by, now)?,
    };
    transaction.commit()?;
    Ok(found)
}

pub(in crate::store) fn pending(
    db: &mut Connection,
    holder: &Holder,
    now: Timestamp,
) -> Result<Vec<Challenge>, StoreError> {
    let mut query = db.prepare_cached(
        "SELECT body, status FROM challenge
         WHERE listener = ?1 AND user = ?2 AND database = ?3 AND status IN ('pending', 'approved') AND expires_ms > ?4
         ORDER BY created_ms DESC, id DESC LIMIT ?5",
    )?;
    let most = limits::CHALLENGES_PENDING_MAX as i64;
    let rows =
        query.query_map(params![holder.listener, holder.user, holder.database, now.as_millisecond(), most], written)?;
    rows.map(|row| read(row?)).collect()
}

pub(in crate::store) fn pending_total(db: &mut Connection, now: Timestamp) -> Result<u64, StoreError> {
    let sql = "SELECT count(*) FROM challenge WHERE status = 'pending' AND expires_ms > ?1";
    let count: i64 = db.query_row(sql, [now.as_millisecond()], |row| row.get(0))?;
    Ok(count.unsigned_abs())
}

/// Another principal agrees. Whether it is another is for the caller; that it is still pending, for the UPDATE.
pub(in crate::store) fn approve(
    db: &mut Connection,
    id: ChallengeId,
    approver: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let changed = db.execute(
        "UPDATE challenge SET status = 'approved', approver = ?2 WHERE id = ?1 AND status = 'pending' AND expires_ms > ?3",
        params![id.to_string(), approver, now.as_millisecond()],
    )?;
    Ok(changed == 1)
}

/// Ends a pending challenge. The condition stands in the UPDATE itself: of two who race, SQLite lets one change the row.
pub(in crate::store) fn end(
    db: &mut Connection,
    id: ChallengeId,
    how: Status,
    now: Timestamp,
) -> Result<Ended, StoreError> {
    let transaction = immediate(db)?;
    let changed = transaction.execute(
        "UPDATE challenge SET status = ?2, ended_ms = ?3 WHERE id = ?1 AND status IN ('pending', 'approved') AND expires_ms > ?3",
        params![id.to_string(), how.as_str(), now.as_millisecond()],
    )?;
    let status = transaction
        .query_row("SELECT status FROM challenge WHERE id = ?1", [id.to_string()], |row| row.get::<_, String>(0))
        .optional()?;
    transaction.commit()?;
    match (changed, status) {
        (_, None) => Ok(Ended::Unknown),
        (0, Some(status)) => match parse_status(&status)? {
            // Not changed although pending: its time is over and no janitor came by yet.
            Status::Pending | Status::Approved => Ok(Ended::Before(Status::Expired)),
            ended => Ok(Ended::Before(ended)),
        },
        (_, Some(_)) => Ok(Ended::Now),
    }
}

pub(in crate::store) fn sweep(db: &mut Connection, now: Timestamp) -> Result<Swept, StoreError> {
    let (at, now) = (now, now.as_millisecond());
    let transaction = immediate(db)?;
    let expired = transaction.execute(
        "UPDATE challenge SET status = 'expired', ended_ms = expires_ms WHERE status IN ('pending', 'approved') AND expires_ms <= ?1",
        [now],
    )?;
    let keep_from = now.saturating_sub(milliseconds(limits::CHALLENGE_KEEP));
    let forgotten = transaction.execute("DELETE FROM challenge WHERE ended_ms < ?1", [keep_from])?;
    forget_old_tries(&transaction, now)?;
    ledger::sweep(&transaction, at)?;
    transaction.commit()?;
    Ok(Swept { expired, forgotten })
}

// Looking up and counting wrong tries.

/// The index finds the row; how long that takes tells nothing about a keyed hash. The comparison that decides is constant-time.
fn by_hash(db: &Connection, hash: TokenHash) -> Result<Option<Challenge>, StoreError> {
    let sql = "SELECT body, status FROM challenge WHERE token_hash = ?1";
    let row = db.query_row(sql, [hash.as_bytes()], written).optional()?;
    let challenge = row.map(read).transpose()?;
    Ok(challenge.filter(|challenge| challenge.token_hash == hash))
}

/// Tries count per user of a listener, not per database: changing the database must not give more of them.
fn blocked(db: &Connection, by: &Holder, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
    let window = db
        .query_row(
            "SELECT tries, ends_ms FROM wrong_tries WHERE listener = ?1 AND user = ?2 AND ends_ms > ?3",
            params![by.listener, by.user, now.as_millisecond()],
            |row| Ok((row.get::<_, u32>(0)?, row.get::<_, i64>(1)?)),
        )
        .optional()?;
    Ok(window.filter(|(tries, _)| *tries >= limits::WRONG_TRIES_MAX).map(|(_, ends_ms)| timestamp(ends_ms)))
}

fn count_wrong_try(db: &Connection, by: &Holder, now: Timestamp) -> Result<Found, StoreError> {
    let ends = after(now, limits::WRONG_TRIES_WINDOW);
    forget_old_tries(db, now.as_millisecond())?;
    let counted: Option<u32> = db
        .query_row(
            "INSERT INTO wrong_tries (listener, user, tries, ends_ms)
             SELECT ?1, ?2, 1, ?3
             WHERE (SELECT count(*) FROM wrong_tries) < ?4
                OR EXISTS (SELECT 1 FROM wrong_tries WHERE listener = ?1 AND user = ?2)
             ON CONFLICT (listener, user) DO UPDATE SET tries = tries + 1
             RETURNING tries",
            params![by.listener, by.user, ends.as_millisecond(), limits::WRONG_TRIES_PRINCIPALS_MAX],
            |row| row.get(0),
        )
        .optional()?;
    Ok(match counted {
        Some(tries) => Found::Unknown { tries_left: limits::WRONG_TRIES_MAX.saturating_sub(tries) },
        // The table is full: without a count there is no limit, so there are no tries.
        None => Found::Blocked { until: ends },
    })
}

fn forget_old_tries(db: &Connection, now_ms: i64) -> Result<(), StoreError> {
    db.execute("DELETE FROM wrong_tries WHERE ends_ms <= ?1", [now_ms])?;
    Ok(())
}

fn drop_oldest_pending(db: &Connection, holder: &Holder) -> Result<(), StoreError> {
    db.execute(
        "DELETE FROM challenge WHERE id IN (
             SELECT id FROM challenge WHERE listener = ?1 AND user = ?2 AND status = 'pending'
             ORDER BY created_ms DESC, id DESC LIMIT -1 OFFSET ?3)",
        params![holder.listener, holder.user, limits::CHALLENGES_PENDING_MAX as i64],
    )?;
    Ok(())
}

// Rows.

fn written(row: &Row<'_>) -> rusqlite::Result<(String, String)> {
    Ok((row.get(0)?, row.get(1)?))
}

/// The column says where a challenge stands; the body was written once, when it was made.
fn read((body, status): (String, String)) -> Result<Challenge, StoreError> {
    let mut challenge: Challenge = serde_json::from_str(&body)
        .map_err(|error| StoreError::Database(format!("a challenge cannot be read: {error}")))?;
    challenge.status = parse_status(&status)?;
    Ok(challenge)
}

fn parse_status(status: &str) -> Result<Status, StoreError> {
    Status::parse(status)
        .ok_or_else(|| StoreError::Database(format!("a challenge has the unknown status \"{status}\"")))
}

fn timestamp(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX)
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

// Opening.

/// 2 added the ledger.
const SCHEMA_VERSION: i64 = 2;
/// "SLUC": says to others, and to us, whose file this is.
const APPLICATION_ID: i64 = 0x534C_5543;

const SCHEMA: &str = "
    CREATE TABLE challenge (
        id TEXT PRIMARY KEY,
        token_hash BLOB NOT NULL UNIQUE,
        listener TEXT NOT NULL,
        user TEXT NOT NULL,
        database TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('pending', 'approved', 'used', 'rejected', 'expired')),
        created_ms INTEGER NOT NULL,
        expires_ms INTEGER NOT NULL,
        ended_ms INTEGER,
        approver TEXT,
        body TEXT NOT NULL
    ) STRICT;
    CREATE INDEX challenge_of_holder ON challenge (listener, user, status, created_ms);
    CREATE INDEX challenge_expiry ON challenge (status, expires_ms);
    CREATE INDEX challenge_end ON challenge (ended_ms);
    CREATE TABLE wrong_tries (
        listener TEXT NOT NULL,
        user TEXT NOT NULL,
        tries INTEGER NOT NULL,
        ends_ms INTEGER NOT NULL,
        PRIMARY KEY (listener, user)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX wrong_tries_end ON wrong_tries (ends_ms);
";

fn start(mut db: Connection) -> Result<Embedded, StoreError> {
    let (jobs, mut queue) = mpsc::channel::<Job>(limits::STORE_QUEUE_MAX);
    let work = move || {
        while let Some(job) = queue.blocking_recv() {
            job(&mut db);
        }
    };
    std::thread::Builder::new()
        .name("store".to_owned())
        .spawn(work)
        .map_err(|error| StoreError::File(error.to_string()))?;
    Ok(Embedded { jobs })
}

/// SQLite gives its `-wal` and `-shm` files the mode of the main file, so the main file must have it first.
fn make_private(path: &Path) -> Result<(), StoreError> {
    let private = || {
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))
    };
    private().map_err(|error| StoreError::File(format!("{}: {error}", path.display())))
}

/// Before anything is written to the file: is it ours, or new? Asked of one snapshot: another process may be making it ours.
fn check_ours(db: &mut Connection) -> Result<(), StoreError> {
    let snapshot = db.transaction().map_err(not_ours)?;
    let number = |sql| snapshot.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(not_ours);
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    match (number("PRAGMA application_id")?, number("PRAGMA user_version")?) {
        (0, 0) if tables == 0 => Ok(()),
        (APPLICATION_ID, found) if found > SCHEMA_VERSION => Err(StoreError::Newer { found, known: SCHEMA_VERSION }),
        (APPLICATION_ID, _) => Ok(()),
        _ => Err(StoreError::NotOurs("it is another application's database".to_owned())),
    }
}

fn not_ours(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => StoreError::NotOurs("it is not a database".to_owned()),
        _ => error.into(),
    }
}

/// SQLite does not always wait for another process that switches to WAL at the same moment, so we do.
fn use_wal(db: &Connection) -> Result<(), StoreError> {
    let switch = || db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0));
    let mut last = switch();
    for _ in 0..50 {
        match &last {
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {
                std::thread::sleep(Duration::from_millis(20));
                last = switch();
            }
            _ => break,
        }
    }
    match last?.as_str() {
        "wal" => Ok(()),
        other => Err(StoreError::File(format!("journal mode is {other} where wal is needed"))),
    }
}

fn prepare(db: &mut Connection) -> Result<(), StoreError> {
    db.execute_batch(&format!("PRAGMA synchronous = FULL; PRAGMA max_page_count = {};", limits::STORE_PAGES_MAX))?;
    let transaction = immediate(db)?;
    let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == 0 {
        transaction.execute_batch(SCHEMA)?;
    }
    if version < SCHEMA_VERSION {
        transaction.execute_batch(ledger::SCHEMA)?;
        transaction.execute_batch(&format!(
            "PRAGMA user_version = {SCHEMA_VERSION}; PRAGMA application_id = {APPLICATION_ID};"
        ))?;
    }
    Ok(transaction.commit()?)
}

fn immediate(db: &mut Connection) -> Result<Transaction<'_>, StoreError> {
    Ok(db.transaction_with_behavior(TransactionBehavior::Immediate)?)
}

// The key.

fn key_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".key");
    PathBuf::from(name)
}

/// Reads the key or makes it. Two processes that start together end with the same one: the name is taken by a link to a file
/// that is already whole, which only one of them can do.
fn load_key(path: &Path) -> Result<HashKey, StoreError> {
    let failed = |error: std::io::Error| StoreError::File(format!("{}: {error}", path.display()));
    match read_key(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        other => return other.map_err(failed),
    }
    let mut whole = path.as_os_str().to_owned();
    whole.push(format!(".{}.{:?}", std::process::id(), std::thread::current().id()));
    let whole = PathBuf::from(whole);
    let made = write_key(&whole, &new_key()?).and_then(|()| match fs::hard_link(&whole, path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    });
    let _ = fs::remove_file(&whole);
    made.map_err(failed)?;
    read_key(path).map_err(failed)
}

fn read_key(path: &Path) -> std::io::Result<HashKey> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.take(HashKey::BYTES as u64 + 1).read_to_end(&mut bytes)?;
    HashKey::from_bytes(&bytes)
        .ok_or_else(|| std::io::Error::new(ErrorKind::InvalidData, "not a key: 32 bytes expected"))
}

fn write_key(path: &Path, key: &HashKey) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(key.expose())?;
    file.sync_all()
}

fn new_key() -> Result<HashKey, StoreError> {
    HashKey::generate().map_err(|error| StoreError::File(error.to_string()))
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        StoreError::Database(error.to_string())
    }
}
