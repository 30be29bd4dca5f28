//! Changes that are carried out in batches, as rows: what it takes to go on with one from any session, and what lists show.
//!
//! Invariants: a job is here before anything of it happens in the database; where it stands is the archive's to say, and what stands here
//! of it is for showing; what somebody wants of a running job (pause, cancel) stays until the one who runs it has taken it. Who runs it
//! is held apart by a lock in the guarded database itself, not here.

use crate::ground::ids::{ChallengeId, JobId};
use crate::ground::limits;
use crate::store::StoreError;
use crate::store::embedded::immediate;
use crate::store::kept::Holder;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;

pub(in crate::store) const SCHEMA: &str = "
    CREATE TABLE job (
        id TEXT PRIMARY KEY,
        listener TEXT NOT NULL,
        database TEXT NOT NULL,
        user TEXT NOT NULL,
        of TEXT,
        challenge TEXT,
        statement TEXT NOT NULL,
        plan TEXT NOT NULL,
        relation TEXT NOT NULL,
        archive TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('running', 'paused', 'done', 'cancelled')),
        wanted TEXT CHECK (wanted IN ('pause', 'cancel')),
        rows INTEGER NOT NULL,
        rows_shown INTEGER,
        rows_most INTEGER NOT NULL,
        batches INTEGER NOT NULL,
        why TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        seen_ms INTEGER NOT NULL,
        throttle INTEGER,
        dropped_ms INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX job_of_database ON job (listener, database, created_ms);
";

/// From the version before.
pub(in crate::store) const UPGRADE: &str =
    "ALTER TABLE job ADD COLUMN throttle INTEGER; ALTER TABLE job ADD COLUMN dropped_ms INTEGER;";

/// A change on its way, or past.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub id: JobId,
    pub holder: Holder,
    /// It takes this one back.
    pub of: Option<JobId>,
    pub challenge: Option<ChallengeId>,
    /// The statement's text, exactly.
    pub statement: String,
    /// How it is carried out.
    pub plan: Value,
    /// The table, as it is shown.
    pub relation: String,
    /// The archive, as it is shown.
    pub archive: String,
    pub standing: Standing,
    /// Rows that were shown, and the most that were agreed to.
    pub rows_shown: Option<u64>,
    pub rows_most: u64,
    pub created: Timestamp,
    /// When it was last heard of.
    pub seen: Timestamp,
    /// Rows a second that somebody set for this job; 0: as many as it can. `None`: what the policy says.
    pub throttle: Option<u64>,
    /// When its archives were dropped, past their retention.
    pub dropped: Option<Timestamp>,
}

/// What is to be known of a job that runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    pub wanted: Option<Wanted>,
    pub throttle: Option<u64>,
}

/// Where a job stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub state: State,
    pub rows: u64,
    pub batches: u64,
    /// Why it does not run, or what it waits for.
    pub why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Somebody runs it, or did when it was last heard of.
    Running,
    /// It can be resumed.
    Paused,
    Done,
    Cancelled,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Paused => "paused",
            State::Done => "done",
            State::Cancelled => "cancelled",
        }
    }

    fn parse(text: &str) -> Option<State> {
        [State::Running, State::Paused, State::Done, State::Cancelled].into_iter().find(|state| state.as_str() == text)
    }
}

/// What somebody wants of a running job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Pause,
    Cancel,
}

impl Wanted {
    pub fn as_str(self) -> &'static str {
        match self {
            Wanted::Pause => "pause",
            Wanted::Cancel => "cancel",
        }
    }

    fn parse(text: &str) -> Option<Wanted> {
        [Wanted::Pause, Wanted::Cancel].into_iter().find(|wanted| wanted.as_str() == text)
    }
}

pub(in crate::store) fn create(db: &mut Connection, job: &Job) -> Result<(), StoreError> {
    let transaction = immediate(db)?;
    let plan = job.plan.to_string();
    let bytes = job.statement.len() + plan.len();
    if bytes > limits::CHALLENGE_BYTES_MAX {
        return Err(StoreError::TooLarge { bytes, bytes_max: limits::CHALLENGE_BYTES_MAX });
    }
    transaction.execute(
        "INSERT INTO job (id, listener, database, user, of, challenge, statement, plan, relation, archive, state, rows, rows_shown,
             rows_most, batches, why, created_ms, seen_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
        params![
            job.id.to_string(),
            job.holder.listener,
            job.holder.database,
            job.holder.user,
            job.of.map(|id| id.to_string()),
            job.challenge.map(|id| id.to_string()),
            job.statement,
            plan,
            job.relation,
            job.archive,
            job.standing.state.as_str(),
            number(job.standing.rows),
            job.rows_shown.map(number),
            number(job.rows_most),
            number(job.standing.batches),
            job.standing.why,
            job.created.as_millisecond(),
            job.seen.as_millisecond(),
        ],
    )?;
    Ok(transaction.commit()?)
}

/// Keeps where a job stands. Returns what somebody wants of it; what it was asked to stop for is taken where it stops by this.
pub(in crate::store) fn note(
    db: &mut Connection,
    id: JobId,
    standing: &Standing,
    now: Timestamp,
) -> Result<Told, StoreError> {
    let transaction = immediate(db)?;
    type Row = (Option<String>, Option<i64>);
    let told: Option<Row> = transaction
        .query_row("SELECT wanted, throttle FROM job WHERE id = ?1", [id.to_string()], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let Some((wanted, throttle)) = told else {
        return Err(StoreError::Database(format!("the job {id} is not there any more")));
    };
    transaction.execute(
        "UPDATE job SET state = ?2, rows = ?3, batches = ?4, why = ?5, seen_ms = ?6,
             wanted = CASE WHEN ?2 = 'running' THEN wanted END WHERE id = ?1",
        params![
            id.to_string(),
            standing.state.as_str(),
            number(standing.rows),
            number(standing.batches),
            standing.why,
            now.as_millisecond()
        ],
    )?;
    transaction.commit()?;
    Ok(Told { wanted: wanted.as_deref().and_then(Wanted::parse), throttle: throttle.map(i64::unsigned_abs) })
}

/// Sets how many rows a second a job may change; 0: as many as it can. `false`: it is over.
pub(in crate::store) fn throttle(db: &mut Connection, id: JobId, rows: u64) -> Result<bool, StoreError> {
    let transaction = immediate(db)?;
    let set = transaction.execute(
        "UPDATE job SET throttle = ?2 WHERE id = ?1 AND state IN ('running', 'paused')",
        params![id.to_string(), number(rows)],
    )?;
    transaction.commit()?;
    Ok(set > 0)
}

/// Asks whoever runs a job to stop. A paused job is cancelled at once. `false`: it neither runs nor can be resumed.
pub(in crate::store) fn want(
    db: &mut Connection,
    id: JobId,
    wanted: Wanted,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let transaction = immediate(db)?;
    let running = transaction.execute(
        "UPDATE job SET wanted = CASE WHEN wanted = 'cancel' THEN wanted ELSE ?2 END WHERE id = ?1 AND state = 'running'",
        params![id.to_string(), wanted.as_str()],
    )?;
    let paused = match wanted {
        Wanted::Pause => 0,
        Wanted::Cancel => transaction.execute(
            // Its archive is kept from now on.
            "UPDATE job SET state = 'cancelled', why = 'cancelled while it was paused', seen_ms = ?2 WHERE id = ?1 AND state = 'paused'",
            params![id.to_string(), now.as_millisecond()],
        )?,
    };
    transaction.commit()?;
    Ok(running + paused > 0)
}

/// A job is gone on with, by whoever holds its lock: it, as it stands. `None`: it is over, or to be stopped for good.
pub(in crate::store) fn begin(db: &mut Connection, id: JobId, now: Timestamp) -> Result<Option<Job>, StoreError> {
    let transaction = immediate(db)?;
    transaction.execute(
        "UPDATE job SET state = 'cancelled', why = 'cancelled while nobody ran it', wanted = NULL, seen_ms = ?2
         WHERE id = ?1 AND wanted = 'cancel' AND state IN ('running', 'paused')",
        params![id.to_string(), now.as_millisecond()],
    )?;
    let begun = transaction.execute(
        "UPDATE job SET state = 'running', wanted = NULL, why = '', seen_ms = ?2 WHERE id = ?1 AND state IN ('running', 'paused')",
        params![id.to_string(), now.as_millisecond()],
    )?;
    let row = transaction.query_row(&format!("{SELECT} WHERE id = ?1"), [id.to_string()], written).optional()?;
    transaction.commit()?;
    row.filter(|_| begun == 1).map(read).transpose()
}

/// Jobs of this principal that ended and were last heard of before this time, and so were their undos, whose archives are still there; the
/// oldest few.
pub(in crate::store) fn expired(
    db: &mut Connection,
    holder: &Holder,
    before: Timestamp,
) -> Result<Vec<Job>, StoreError> {
    let sql = format!(
        "{SELECT} WHERE listener = ?1 AND database = ?2 AND user = ?3 AND of IS NULL AND dropped_ms IS NULL
         AND state IN ('done', 'cancelled') AND seen_ms < ?4
         AND NOT EXISTS (SELECT 1 FROM job undo WHERE undo.of = job.id AND (undo.state IN ('running', 'paused') OR undo.seen_ms >= ?4))
         ORDER BY created_ms LIMIT ?5"
    );
    let mut query = db.prepare_cached(&sql)?;
    let values = params![
        holder.listener,
        holder.database,
        holder.user,
        before.as_millisecond(),
        limits::ARCHIVES_DROPPED_MAX as i64
    ];
    let rows = query.query_map(values, written)?;
    rows.map(|row| read(row?)).collect()
}

pub(in crate::store) fn dropped(db: &mut Connection, id: JobId, now: Timestamp) -> Result<(), StoreError> {
    let transaction = immediate(db)?;
    transaction
        .execute("UPDATE job SET dropped_ms = ?2 WHERE id = ?1", params![id.to_string(), now.as_millisecond()])?;
    Ok(transaction.commit()?)
}

pub(in crate::store) fn find(
    db: &mut Connection,
    id: JobId,
    listener: &str,
    database: &str,
) -> Result<Option<Job>, StoreError> {
    let sql = format!("{SELECT} WHERE id = ?1 AND listener = ?2 AND database = ?3");
    let row = db.query_row(&sql, params![id.to_string(), listener, database], written).optional()?;
    row.map(read).transpose()
}

/// The jobs of one database, the latest first.
pub(in crate::store) fn list(db: &mut Connection, listener: &str, database: &str) -> Result<Vec<Job>, StoreError> {
    let sql = format!("{SELECT} WHERE listener = ?1 AND database = ?2 ORDER BY created_ms DESC, id DESC LIMIT ?3");
    let mut query = db.prepare_cached(&sql)?;
    let rows = query.query_map(params![listener, database, limits::JOBS_SHOWN_MAX as i64], written)?;
    rows.map(|row| read(row?)).collect()
}

/// The jobs of all databases, the latest first.
pub(in crate::store) fn all(db: &Connection) -> Result<Vec<Job>, StoreError> {
    let sql = format!("{SELECT} ORDER BY created_ms DESC, id DESC LIMIT ?1");
    let mut query = db.prepare(&sql)?;
    let rows = query.query_map(params![limits::JOBS_SHOWN_MAX as i64], written)?;
    rows.map(|row| read(row?)).collect()
}

const SELECT: &str =
    "SELECT id, listener, database, user, of, challenge, statement, plan, relation, archive, state, rows, rows_shown,
    rows_most, batches, why, created_ms, seen_ms, throttle, dropped_ms FROM job";

struct Written {
    texts: Vec<String>,
    ids: [Option<String>; 2],
    numbers: [i64; 5],
    shown: Option<i64>,
    throttle: Option<i64>,
    dropped: Option<i64>,
}

fn written(row: &Row<'_>) -> rusqlite::Result<Written> {
    let texts = [0, 1, 2, 3, 6, 7, 8, 9, 10, 15].into_iter().map(|at| row.get(at)).collect::<Result<_, _>>()?;
    Ok(Written {
        texts,
        ids: [row.get(4)?, row.get(5)?],
        numbers: [row.get(11)?, row.get(13)?, row.get(14)?, row.get(16)?, row.get(17)?],
        shown: row.get(12)?,
        throttle: row.get(18)?,
        dropped: row.get(19)?,
    })
}

fn read(row: Written) -> Result<Job, StoreError> {
    let odd = |what: &str| StoreError::Database(format!("a job has a {what} that is not understood"));
    let [of, challenge] = row.ids;
    let [rows, rows_most, batches, created, seen] = row.numbers;
    let texts: [String; 10] = row.texts.try_into().map_err(|_| odd("row"))?;
    let [id, listener, database, user, statement, plan, relation, archive, state, why] = texts;
    let time = |ms: i64| Timestamp::from_millisecond(ms).map_err(|_| odd("time"));
    Ok(Job {
        id: id.parse().map_err(|_| odd("id"))?,
        holder: Holder { listener, user, database },
        of: of.map(|id| id.parse().map_err(|_| odd("origin"))).transpose()?,
        challenge: challenge.map(|id| id.parse().map_err(|_| odd("challenge"))).transpose()?,
        statement,
        plan: serde_json::from_str(&plan).map_err(|_| odd("plan"))?,
        relation,
        archive,
        standing: Standing {
            state: State::parse(&state).ok_or_else(|| odd("state"))?,
            rows: rows.unsigned_abs(),
            batches: batches.unsigned_abs(),
            why,
        },
        rows_shown: row.shown.map(i64::unsigned_abs),
        rows_most: rows_most.unsigned_abs(),
        created: time(created)?,
        seen: time(seen)?,
        throttle: row.throttle.map(i64::unsigned_abs),
        dropped: row.dropped.map(time).transpose()?,
    })
}

fn number(rows: u64) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
