//! Challenges and wrong tries, as rows.
//!
//! Invariants: a challenge's text, values and preview are there only while it can still be carried out; what is over keeps what it takes
//! to say so. Nobody's challenges take more than a share of the file, so that who fills it is refused, and nobody else.

use crate::ground::clock::after;
use crate::ground::ids::ChallengeId;
use crate::ground::limits;
use crate::ground::secret::TokenHash;
use crate::store::embedded::immediate;
use crate::store::kept::{Challenge, Holder, Needs, Status, Waiting};
use crate::store::{Ended, Found, StoreError, Swept, Whose, ledger};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::time::Duration;

pub(in crate::store) fn create(db: &mut Connection, challenge: &Challenge) -> Result<(), StoreError> {
    let unwritten = |error: serde_json::Error| StoreError::Database(error.to_string());
    let body = serde_json::to_string(challenge).map_err(unwritten)?;
    let stub = serde_json::to_string(&challenge.over()).map_err(unwritten)?;
    let (title, message) = (start_of(&challenge.statement), start_of(&challenge.preview.message));
    let bytes = body.len() + stub.len() + title.len() + message.len();
    if bytes > limits::CHALLENGES_BYTES_OF_ONE_MAX {
        return Err(StoreError::TooLarge { bytes, bytes_max: limits::CHALLENGES_BYTES_OF_ONE_MAX });
    }
    let transaction = immediate(db)?;
    expire(&transaction, challenge.created.as_millisecond())?;
    transaction.execute(
        "INSERT INTO challenge (id, token_hash, listener, user, database, status, created_ms, expires_ms, needs, bytes, title,
             message, stub, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        params![
            challenge.id.to_string(),
            challenge.token_hash.as_bytes(),
            challenge.holder.listener,
            challenge.holder.user,
            challenge.holder.database,
            challenge.status.as_str(),
            challenge.created.as_millisecond(),
            challenge.expires.as_millisecond(),
            challenge.needs.as_str(),
            bytes as i64,
            title,
            message,
            stub,
            body,
        ],
    )?;
    drop_oldest_pending(&transaction, &challenge.holder)?;
    drop_oldest_over(&transaction, &challenge.holder)?;
    hold_to_its_share(&transaction, &challenge.holder)?;
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

/// What `SLUICE PENDING` shows, and no more than that is read.
pub(in crate::store) fn pending(
    db: &mut Connection,
    holder: &Holder,
    now: Timestamp,
) -> Result<Vec<Waiting>, StoreError> {
    let mut query = db.prepare_cached(
        "SELECT id, needs, title, message, expires_ms FROM challenge
         WHERE listener = ?1 AND user = ?2 AND database = ?3 AND status IN ('pending', 'approved') AND expires_ms > ?4
         ORDER BY created_ms DESC, id DESC LIMIT ?5",
    )?;
    let most = limits::CHALLENGES_PENDING_MAX as i64;
    let of_holder = params![holder.listener, holder.user, holder.database, now.as_millisecond(), most];
    let rows = query.query_map(of_holder, |row| {
        let (id, needs): (String, String) = (row.get(0)?, row.get(1)?);
        Ok((id, needs, row.get(2)?, row.get(3)?, row.get(4)?))
    })?;
    let waiting = |(id, needs, statement, message, expires_ms): (String, String, String, String, i64)| {
        let id = id.parse().map_err(|_| StoreError::Database(format!("a challenge has the id \"{id}\"")))?;
        let needs = Needs::parse(&needs)
            .ok_or_else(|| StoreError::Database(format!("a challenge needs \"{needs}\", which is not known")))?;
        Ok(Waiting { id, needs, statement, message, expires: timestamp(expires_ms) })
    };
    rows.map(|row| waiting(row?)).collect()
}

/// Whole: what another principal agreed to is compared with what its sender sends again.
pub(in crate::store) fn approved(
    db: &mut Connection,
    holder: &Holder,
    now: Timestamp,
) -> Result<Vec<Challenge>, StoreError> {
    let mut query = db.prepare_cached(
        "SELECT coalesce(body, stub), status FROM challenge
         WHERE listener = ?1 AND user = ?2 AND database = ?3 AND status = 'approved' AND expires_ms > ?4
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
        "UPDATE challenge SET status = ?2, ended_ms = ?3, bytes = 0, title = '', message = '', body = NULL
         WHERE id = ?1 AND status IN ('pending', 'approved') AND expires_ms > ?3",
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
    let expired = expire(&transaction, now)?;
    let keep_from = now.saturating_sub(milliseconds(limits::CHALLENGE_KEEP));
    let forgotten = transaction.execute("DELETE FROM challenge WHERE ended_ms < ?1", [keep_from])?;
    forget_old_tries(&transaction, now)?;
    ledger::sweep(&transaction, at)?;
    transaction.commit()?;
    Ok(Swept { expired, forgotten })
}

// Shares.

/// The newcomer is in already: who is over the bound with it is refused, and what was there before stays.
fn hold_to_its_share(db: &Connection, holder: &Holder) -> Result<(), StoreError> {
    let sum = |row: &Row<'_>| row.get::<_, i64>(0).map(i64::unsigned_abs);
    let of_one = "SELECT coalesce(sum(bytes), 0) FROM challenge
                  WHERE listener = ?1 AND user = ?2 AND status IN ('pending', 'approved')";
    let own = db.query_row(of_one, params![holder.listener, holder.user], sum)?;
    let of_all = "SELECT coalesce(sum(bytes), 0) FROM challenge WHERE status IN ('pending', 'approved')";
    let all = db.query_row(of_all, [], sum)?;
    let crowded = all > limits::CHALLENGES_BYTES_MAX as u64;
    let most =
        if crowded { limits::CHALLENGES_BYTES_OF_ONE_ALWAYS } else { limits::CHALLENGES_BYTES_OF_ONE_MAX } as u64;
    match own > most {
        true => Err(StoreError::ShareFull { what: "statements that wait to be confirmed", taken: own, most }),
        false => Ok(()),
    }
}

/// What is over gives its texts back at once, whether a janitor came by or not.
fn expire(db: &Connection, now_ms: i64) -> Result<usize, StoreError> {
    Ok(db.execute(
        "UPDATE challenge SET status = 'expired', ended_ms = expires_ms, bytes = 0, title = '', message = '', body = NULL
         WHERE status IN ('pending', 'approved') AND expires_ms <= ?1",
        [now_ms],
    )?)
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

/// A token that is forgotten sooner is answered as one that never was; that is all there is to lose.
fn drop_oldest_over(db: &Connection, holder: &Holder) -> Result<(), StoreError> {
    db.execute(
        "DELETE FROM challenge WHERE id IN (
             SELECT id FROM challenge WHERE listener = ?1 AND user = ?2 AND ended_ms IS NOT NULL
             ORDER BY ended_ms DESC LIMIT -1 OFFSET ?3)",
        params![holder.listener, holder.user, limits::CHALLENGES_OVER_MAX as i64],
    )?;
    Ok(())
}

// Looking up and counting wrong tries.

/// The index finds the row; how long that takes tells nothing about a keyed hash. The comparison that decides is constant-time.
fn by_hash(db: &Connection, hash: TokenHash) -> Result<Option<Challenge>, StoreError> {
    let sql = "SELECT coalesce(body, stub), status FROM challenge WHERE token_hash = ?1";
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

/// As much of a text as a list shows.
fn start_of(text: &str) -> String {
    text.chars().take(limits::PENDING_SHOWN_CHARS).collect()
}

fn timestamp(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX)
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// What lists and sums look at stands before what may be long: reading it does not read that.
pub(in crate::store) const SCHEMA: &str = "
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
        needs TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        title TEXT NOT NULL,
        message TEXT NOT NULL,
        stub TEXT NOT NULL,
        body TEXT
    ) STRICT;
    CREATE INDEX challenge_of_holder ON challenge (listener, user, status, created_ms);
    CREATE INDEX challenge_expiry ON challenge (status, expires_ms);
    CREATE INDEX challenge_end ON challenge (ended_ms);
    CREATE INDEX challenge_over ON challenge (listener, user, ended_ms) WHERE ended_ms IS NOT NULL;
    CREATE INDEX challenge_share ON challenge (listener, user, bytes) WHERE status IN ('pending', 'approved');
";

pub(in crate::store) const TRIES_SCHEMA: &str = "
    CREATE TABLE wrong_tries (
        listener TEXT NOT NULL,
        user TEXT NOT NULL,
        tries INTEGER NOT NULL,
        ends_ms INTEGER NOT NULL,
        PRIMARY KEY (listener, user)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX wrong_tries_end ON wrong_tries (ends_ms);
";

/// Before: up to version 2 a challenge was a body, kept whole to its last day. Behind [`SCHEMA`].
pub(in crate::store) const SET_ASIDE: &str = "
    DROP INDEX challenge_of_holder;
    DROP INDEX challenge_expiry;
    DROP INDEX challenge_end;
    ALTER TABLE challenge RENAME TO challenge_before;
";
pub(in crate::store) const TAKE_OVER: &str = "
    INSERT INTO challenge
    SELECT id, token_hash, listener, user, database, status, created_ms, expires_ms, ended_ms, approver,
        json_extract(body, '$.needs'),
        iif(ended_ms IS NULL, length(CAST(body AS BLOB)), 0),
        iif(ended_ms IS NULL, substr(json_extract(body, '$.statement'), 1, 200), ''),
        iif(ended_ms IS NULL, substr(json_extract(body, '$.preview.message'), 1, 200), ''),
        json_set(body, '$.statement', '', '$.parameters', NULL, '$.context', json('{}'), '$.promise', NULL,
            '$.preview', json('{\"message\":\"\",\"detail\":\"\"}')),
        iif(ended_ms IS NULL, body, NULL)
    FROM challenge_before;
    DROP TABLE challenge_before;
";
