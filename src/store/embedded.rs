//! The store in one SQLite file, owned by one thread of its own, so that a slow disk never stops a session's runtime.
//!
//! Invariants: WAL with `synchronous = FULL`, so a commit that was answered survives `kill -9` and a power cut
//! (<https://www.sqlite.org/pragma.html#pragma_synchronous>); whatever reads and then writes is one `BEGIN IMMEDIATE` transaction, so
//! two processes on one file cannot both win; file and key are readable by their owner alone. Tried with the bundled SQLite of
//! rusqlite 0.40.
//!
//! The key for token hashes lies beside the file (`PATH.key`), not in it: a copied or backed-up store does not let anyone try
//! out 2^40 tokens at leisure. Losing the key makes pending tokens unknown, nothing worse.

use crate::ground::limits;
use crate::ground::secret::HashKey;
use crate::store::{StoreError, challenges, jobs, ledger};
use rusqlite::{Connection, Transaction, TransactionBehavior};
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
    // Of a file with a table in it, this changes nothing yet.
    db.execute_batch("PRAGMA auto_vacuum = INCREMENTAL;")?;
    use_wal(&db)?;
    prepare(&mut db)?;
    let_shrink(&db);
    let key = load_key(&key_path(path))?;
    Ok((start(db)?, key))
}

// Opening.

/// 2 added the ledger; 3 keeps of a challenge that is over only that it is, and counts whose the ledger's entries are; 4 added the jobs.
const SCHEMA_VERSION: i64 = 5;
/// "SLUC": says to others, and to us, whose file this is.
const APPLICATION_ID: i64 = 0x534C_5543;

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

/// For whoever only looks, beside the process that keeps it.
pub(in crate::store) fn read_only(path: &Path) -> Result<Connection, StoreError> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(limits::STORE_BUSY_TIMEOUT)?;
    check_ours(&mut db)?;
    match db.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))? {
        SCHEMA_VERSION => Ok(db),
        _ => Err(StoreError::File("it was kept by an older Sluice, and is taken over when this one runs".to_owned())),
    }
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
    let settings = format!(
        "PRAGMA synchronous = FULL; PRAGMA max_page_count = {}; PRAGMA journal_size_limit = {};",
        limits::STORE_PAGES_MAX,
        limits::STORE_WAL_BYTES_KEPT
    );
    db.execute_batch(&settings)?;
    let transaction = immediate(db)?;
    let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let steps: &[&str] = match version {
        0 => &[challenges::SCHEMA, challenges::TRIES_SCHEMA, ledger::SCHEMA, ledger::SHARES, jobs::SCHEMA],
        1 => &[
            challenges::SET_ASIDE,
            challenges::SCHEMA,
            challenges::TAKE_OVER,
            ledger::SCHEMA,
            ledger::SHARES,
            jobs::SCHEMA,
        ],
        2 => &[
            challenges::SET_ASIDE,
            challenges::SCHEMA,
            challenges::TAKE_OVER,
            ledger::UPGRADE,
            ledger::SHARES,
            jobs::SCHEMA,
        ],
        3 => &[jobs::SCHEMA],
        4 => &[jobs::UPGRADE],
        _ => &[],
    };
    for step in steps {
        transaction.execute_batch(step)?;
    }
    if version < SCHEMA_VERSION {
        transaction.execute_batch(&format!(
            "PRAGMA user_version = {SCHEMA_VERSION}; PRAGMA application_id = {APPLICATION_ID};"
        ))?;
    }
    Ok(transaction.commit()?)
}

/// A file that can give back what it does not need: a new one from its beginning, an older one once it was written anew. Where that
/// cannot be done now (another process is at it), free pages are used again all the same.
fn let_shrink(db: &Connection) {
    const INCREMENTAL: i64 = 2;
    let written_anew = || {
        let found: i64 = db.query_row("PRAGMA auto_vacuum", [], |row| row.get(0))?;
        if found != INCREMENTAL {
            db.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; VACUUM;")?;
        }
        Ok::<_, rusqlite::Error>(())
    };
    if let Err(error) = written_anew() {
        tracing::warn!(%error, "the store's file could not be made to shrink");
    }
}

/// Gives free pages back to the disk, so many at a time that nobody waits for it.
pub(in crate::store) fn shrink(db: &mut Connection) -> Result<(), StoreError> {
    let mut query = db.prepare(&format!("PRAGMA incremental_vacuum({})", limits::STORE_PAGES_SHRUNK))?;
    let mut steps = query.query([])?;
    while steps.next()?.is_some() {}
    Ok(())
}

pub(in crate::store) fn immediate(db: &mut Connection) -> Result<Transaction<'_>, StoreError> {
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
