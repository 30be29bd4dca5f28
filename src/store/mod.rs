//! Our own state: challenges, the wrong tries at their tokens, and the ledger of scripts. It outlives a restart and a `kill -9`.
//!
//! Invariants: a challenge is redeemed at most once, whoever asks, from whichever process on the same file; an answer "redeemed" is
//! given only after it is on disk; every request is answered or given up within [`limits::STORE_DEADLINE`]. A request that was given
//! up may still be carried out: a token may then be used up although nobody ran its statement, never the other way round.
//!
//! Whatever the store cannot answer is an error, and its caller refuses (`SL007`).

mod challenges;
mod embedded;
pub mod jobs;
pub mod kept;
pub mod ledger;

use crate::ground::ids::{ChallengeId, JobId};
use crate::ground::limits;
use crate::ground::secret::{HashKey, Token, TokenHash};
use crate::store::embedded::Embedded;
use crate::store::jobs::{Job, Standing, Told, Wanted};
use crate::store::kept::{Challenge, Holder, Status, Waiting};
use crate::store::ledger::{Beginning, Begun, Ending, Entry, Key, Script};
use jiff::Timestamp;
use std::fmt;
use std::sync::Arc;

/// The store. Cheap to clone, usable from any thread whose tokio runtime has its timer enabled. Dropping a request's future is
/// allowed at any time, with the same meaning as its deadline having passed.
#[derive(Clone)]
pub struct Store {
    embedded: Embedded,
    key: Arc<HashKey>,
}

impl Store {
    /// `sqlite:PATH` or `sqlite::memory:`. Waits for the disk: call it before serving, not from a session.
    pub fn open(url: &str) -> Result<Store, StoreError> {
        let (embedded, key) = match url.split_once(':') {
            Some(("sqlite", ":memory:")) => embedded::open_in_memory()?,
            Some(("sqlite", path)) if !path.is_empty() => embedded::open_file(path.as_ref())?,
            Some((scheme, _)) => return Err(StoreError::UnknownScheme(scheme.to_owned())),
            None => return Err(StoreError::UnknownScheme(url.to_owned())),
        };
        Ok(Store { embedded, key: Arc::new(key) })
    }

    /// The form in which this store knows a token.
    pub fn hash(&self, token: &Token) -> TokenHash {
        token.hash(&self.key)
    }

    /// A key for something else that has to stay the same over restarts.
    pub fn key_for(&self, purpose: &str) -> HashKey {
        self.key.derive(purpose)
    }

    /// Keeps a new challenge. When its holder has too many pending, the oldest of them goes; when they take more than its share of
    /// the store, it is refused.
    pub async fn create(&self, challenge: Challenge) -> Result<(), StoreError> {
        let bytes = challenge.bytes();
        if bytes > limits::CHALLENGE_BYTES_MAX {
            return Err(StoreError::TooLarge { bytes, bytes_max: limits::CHALLENGE_BYTES_MAX });
        }
        self.embedded.run(move |db| challenges::create(db, &challenge)).await
    }

    /// Looks a typed token up for somebody, as one step: limit of tries, search, and counting the try if it was wrong. A token of
    /// another user or another listener is wrong in the same way as one that never existed.
    pub async fn look_up(
        &self,
        hash: TokenHash,
        by: &Holder,
        whose: Whose,
        now: Timestamp,
    ) -> Result<Found, StoreError> {
        let by = by.clone();
        self.embedded.run(move |db| challenges::look_up(db, hash, &by, whose, now)).await
    }

    /// Another principal agrees to a pending challenge; `false` if it is not pending any more.
    pub async fn approve(&self, id: ChallengeId, approver: &str, now: Timestamp) -> Result<bool, StoreError> {
        let approver = approver.to_owned();
        self.embedded.run(move |db| challenges::approve(db, id, &approver, now)).await
    }

    /// A holder's pending and approved challenges on this database, newest first, as a list shows them.
    pub async fn pending(&self, holder: &Holder, now: Timestamp) -> Result<Vec<Waiting>, StoreError> {
        let holder = holder.clone();
        self.embedded.run(move |db| challenges::pending(db, &holder, now)).await
    }

    /// Those of them that another principal agreed to, whole.
    pub async fn approved(&self, holder: &Holder, now: Timestamp) -> Result<Vec<Challenge>, StoreError> {
        let holder = holder.clone();
        self.embedded.run(move |db| challenges::approved(db, &holder, now)).await
    }

    /// How many challenges are pending altogether.
    pub async fn pending_total(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.embedded.run(move |db| challenges::pending_total(db, now)).await
    }

    /// Uses a challenge up. Of all who try, exactly one is answered [`Ended::Now`].
    pub async fn redeem(&self, id: ChallengeId, now: Timestamp) -> Result<Ended, StoreError> {
        self.embedded.run(move |db| challenges::end(db, id, Status::Used, now)).await
    }

    /// Takes a challenge back, so that nobody can confirm it.
    pub async fn reject(&self, id: ChallengeId, now: Timestamp) -> Result<Ended, StoreError> {
        self.embedded.run(move |db| challenges::end(db, id, Status::Rejected, now)).await
    }

    /// What is known of a script's statement: the first of its keys that is in the ledger. What it is known by has changed over time.
    pub async fn ledger_find(&self, keys: Vec<Key>) -> Result<Option<(Key, Entry)>, StoreError> {
        self.embedded.run(move |db| ledger::find(db, keys)).await
    }

    /// Enters that it is about to be sent; on disk when this is answered.
    pub async fn ledger_begin(&self, beginning: Beginning) -> Result<Begun, StoreError> {
        self.embedded.run(move |db| ledger::begin(db, &beginning)).await
    }

    /// Enters how it ended, behind what was asked before and before what is asked next. Nobody waits for it: where it fails, the
    /// entry stays begun, and counts as not known.
    pub fn ledger_end(&self, key: Key, runs: u64, how: Ending) {
        self.embedded.post(move |db| {
            if let Err(error) = ledger::end(db, &key, runs, how) {
                tracing::error!(script = %key.script, %error, "the ledger could not be written");
            }
        });
    }

    /// Entries begun in transactions of which nobody entered the end.
    pub async fn ledger_open(&self, listener: &str, database: &str) -> Result<Vec<(Key, Entry)>, StoreError> {
        let (listener, database) = (listener.to_owned(), database.to_owned());
        self.embedded.run(move |db| ledger::open(db, &listener, &database)).await
    }

    /// The scripts of one database, the latest first.
    pub async fn ledger_scripts(&self, listener: &str, database: &str) -> Result<Vec<Script>, StoreError> {
        let (listener, database) = (listener.to_owned(), database.to_owned());
        self.embedded.run(move |db| ledger::scripts(db, &listener, &database)).await
    }

    /// Keeps a job that is about to begin; on disk when this is answered.
    pub async fn job_create(&self, job: Job) -> Result<(), StoreError> {
        self.embedded.run(move |db| jobs::create(db, &job)).await
    }

    /// Keeps where a job stands, and tells what somebody wants of it.
    pub async fn job_note(&self, id: JobId, standing: Standing, now: Timestamp) -> Result<Told, StoreError> {
        self.embedded.run(move |db| jobs::note(db, id, &standing, now)).await
    }

    /// It begins to run, once more. `None`: it is over.
    pub async fn job_begin(&self, id: JobId, now: Timestamp) -> Result<Option<Job>, StoreError> {
        self.embedded.run(move |db| jobs::begin(db, id, now)).await
    }

    /// Asks whoever runs a job to stop. `false`: there is nothing to stop.
    pub async fn job_want(&self, id: JobId, wanted: Wanted, now: Timestamp) -> Result<bool, StoreError> {
        self.embedded.run(move |db| jobs::want(db, id, wanted, now)).await
    }

    /// Rows a second, 0: as many as it can. `false`: it is over.
    pub async fn job_throttle(&self, id: JobId, rows: u64) -> Result<bool, StoreError> {
        self.embedded.run(move |db| jobs::throttle(db, id, rows)).await
    }

    /// Jobs whose archives are past their retention; the oldest few.
    pub async fn jobs_expired(&self, holder: &Holder, before: Timestamp) -> Result<Vec<Job>, StoreError> {
        let holder = holder.clone();
        self.embedded.run(move |db| jobs::expired(db, &holder, before)).await
    }

    pub async fn job_dropped(&self, id: JobId, now: Timestamp) -> Result<(), StoreError> {
        self.embedded.run(move |db| jobs::dropped(db, id, now)).await
    }

    /// A job of this database.
    pub async fn job(&self, id: JobId, listener: &str, database: &str) -> Result<Option<Job>, StoreError> {
        let (listener, database) = (listener.to_owned(), database.to_owned());
        self.embedded.run(move |db| jobs::find(db, id, &listener, &database)).await
    }

    /// The jobs of all databases, read from beside the Sluice that runs them.
    pub fn jobs_of_all(path: &std::path::Path) -> Result<Vec<Job>, StoreError> {
        embedded::read_only(path).and_then(|db| jobs::all(&db))
    }

    /// The jobs of one database, the latest first.
    pub async fn jobs(&self, listener: &str, database: &str) -> Result<Vec<Job>, StoreError> {
        let (listener, database) = (listener.to_owned(), database.to_owned());
        self.embedded.run(move |db| jobs::list(db, &listener, &database)).await
    }

    /// The janitor's round: marks what expired, forgets what ended longer than [`limits::CHALLENGE_KEEP`] ago and what was
    /// counted in windows that are over, and gives some of the room that is free back to the disk.
    pub async fn sweep(&self, now: Timestamp) -> Result<Swept, StoreError> {
        let swept = self.embedded.run(move |db| challenges::sweep(db, now)).await?;
        self.embedded.run(embedded::shrink).await?;
        Ok(swept)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store(…)")
    }
}

/// Whose challenges a token may open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Those of the one who asks.
    Own,
    /// Any in the same database of the same listener: to approve, the token must have been handed over.
    AnyInDatabase,
}

/// What became of looking up a token.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// It belongs to the one who asked, whatever its state: [`Challenge::status`] says.
    Challenge(Box<Challenge>),
    /// No such token for this principal. The try was counted; this many are left in the window.
    Unknown { tries_left: u32 },
    /// Too many wrong tries: until then every try fails, right ones too.
    Blocked { until: Timestamp },
}

/// What became of ending a challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// This call did it.
    Now,
    /// It had ended before, this way.
    Before(Status),
    /// It is not there: never was, or was swept.
    Unknown,
}

/// What a janitor's round did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    pub expired: usize,
    pub forgotten: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreError {
    UnknownScheme(String),
    /// The file was written by a newer Sluice.
    Newer {
        found: i64,
        known: i64,
    },
    /// The file is a database, but not ours.
    NotOurs(String),
    /// The file or its key could not be made or read.
    File(String),
    TooLarge {
        bytes: usize,
        bytes_max: usize,
    },
    /// One principal's part of the store is full; others' are not.
    ShareFull {
        what: &'static str,
        taken: u64,
        most: u64,
    },
    /// No answer within the deadline.
    Deadline,
    /// The store's thread is gone.
    Gone,
    /// SQLite's own words.
    Database(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::UnknownScheme(scheme) => {
                write!(f, "store url: \"{scheme}\" is not known; use sqlite:PATH or sqlite::memory:")
            }
            StoreError::Newer { found, known } => write!(
                f,
                "the store has schema version {found}, this Sluice knows up to {known}: use the newer Sluice that wrote it, or another file"
            ),
            StoreError::NotOurs(why) => write!(f, "the store's file is not a Sluice store: {why}"),
            StoreError::File(why) => write!(f, "the store's file cannot be used: {why}"),
            StoreError::TooLarge { bytes, bytes_max } => write!(
                f,
                "the statement with its parameters and preview takes {bytes} bytes, and a challenge holds at most {bytes_max}: nobody could read it before confirming"
            ),
            StoreError::ShareFull { what, taken, most } => write!(
                f,
                "your share of the store is full: {what} would take {} MiB, and one user may have {} MiB there; confirm or reject some of them, or wait until they are over",
                taken.div_ceil(1 << 20),
                most >> 20
            ),
            StoreError::Deadline => write!(f, "the store did not answer within {} s", limits::STORE_DEADLINE.as_secs()),
            StoreError::Gone => f.write_str("the store has stopped"),
            StoreError::Database(why) => write!(f, "the store failed: {why}"),
        }
    }
}

impl std::error::Error for StoreError {}
