//! A job on its way: one transaction a batch, each held to the database's own count before it commits.
//!
//! ```text
//! BEGIN REPEATABLE READ · counts · the batch, archived by the statement that changes it · counts · where the next one ends → COMMIT
//! ```
//!
//! Invariants: where a job stands is what its archive holds, so it can be killed at any instant and goes on behind the last batch that was
//! committed; two never run it (a lock in the database), and if they did, the archive's key would let each row be changed once. A batch of
//! which the count and the archive differ, or which takes the job past what was agreed to, is rolled back.

use crate::change::batch::Pace;
use crate::database::batches::{Piece, Place, Stride, Walk};
use crate::database::effects::measure::{self, Snapshot, Telling};
use crate::ground::limits;
use crate::policy::count::grouped;
use crate::protocol::postgres::message;
use crate::protocol::{Code, Refusal};
use crate::session::End;
use crate::session::driving::{Ahead, Back, Drive, Driven, MORE_MATCH, Step, Turn, Way, looked};
use crate::session::link::Listen;
use crate::session::postgres::Session;
use crate::session::postgres::tell::Told;
use crate::store::jobs::Job;
use std::time::{Duration, Instant};

impl Session {
    /// Takes the job's lock, makes its archive if it has none yet, and carries it on until it is done or must stop.
    pub(in crate::session) async fn drive(&mut self, drive: &mut Drive) -> Result<Driven, End> {
        if !self.lock_job(&drive.job).await? {
            return Ok(self.desk.busy(drive).await);
        }
        if let Some(driven) = self.desk.begin_job(drive).await {
            self.unlock_job(&drive.job).await?;
            return Ok(driven);
        }
        let driven = match self.stand(drive).await? {
            Ok(way) => self.go(drive, way).await?,
            Err(why) => Driven::Paused(why),
        };
        drive.ended(&driven);
        if let Err(error) = self.desk.note_job(&drive.job).await {
            tracing::error!(job = %drive.job.id, %error, "how a job ended could not be kept");
        }
        self.unlock_job(&drive.job).await?;
        Ok(driven)
    }

    /// Where the archive says that it stands.
    async fn stand(&mut self, drive: &mut Drive) -> Result<Result<Way, String>, End> {
        let walk = &drive.plan.walk;
        if let Err(why) = self.ready_archive(&drive.job, walk).await? {
            return Ok(Err(why));
        }
        let print = self.tell(&walk.print()).await?;
        let (Some(digest), Some(oid)) = (print.cell(0), print.row(0).and_then(|row| row.get(1).cloned())) else {
            return Ok(Err("what its table is cannot be read".to_owned()));
        };
        if drive.plan.oid.as_ref().is_some_and(|was| *was != oid) {
            return Ok(Err(format!("{} is another table than the one that was changed", drive.job.relation)));
        }
        drive.print = digest.to_owned();
        let done = self.tell(&format!("{}; {}", walk.done_so_far(), walk.done())).await?;
        if let Some((_, why)) = done.error {
            return Ok(Err(format!("its archive cannot be read: {why}")));
        }
        let numbers = done.row(0).unwrap_or_default();
        let number = |at: usize| numbers.get(at).and_then(|digits| digits.parse::<u64>().ok());
        let (Some(rows), Some(batches), Some(undone)) = (number(0), number(1), number(2)) else {
            return Ok(Err("its archive cannot be read".to_owned()));
        };
        let way = match drive.job.of {
            Some(_) => {
                // An undo before it may have put others back.
                let left = rows.saturating_sub(undone);
                drive.job.standing.rows = drive.job.rows_shown.unwrap_or_default().saturating_sub(left);
                Way::Back(Back::default())
            }
            None if undone > 0 => return Ok(Err("some of it was undone".to_owned())),
            None if rows < drive.job.standing.rows => {
                let (rows, kept) = (grouped(rows), grouped(drive.job.standing.rows));
                return Ok(Err(format!(
                    "its archive has {rows} rows, and {kept} were changed: some were taken out of it"
                )));
            }
            None => {
                (drive.job.standing.rows, drive.job.standing.batches) = (rows, batches);
                Way::There { after: done.row(1), number: batches + 1, ahead: Ahead::NotLooked }
            }
        };
        drive.before = drive.job.standing.rows;
        Ok(Ok(way))
    }

    /// Makes the archive of a job that has none yet, and what is missing of an old one's indexes.
    async fn ready_archive(&mut self, job: &Job, walk: &Walk) -> Result<Result<(), String>, End> {
        let there = self.tell(&walk.has_archive()).await?;
        let is = |at: usize| there.row(0).is_some_and(|row| row.get(at).is_some_and(|cell| cell == "t"));
        let mut texts = Vec::new();
        let what = if is(0) { "indexed" } else { "made" };
        match is(0) {
            true if !is(1) => {
                let archive = &job.archive;
                return Ok(Err(format!(
                    "{archive} is not the archive as it was made: it is another's, or has triggers, rules or other columns"
                )));
            }
            true => {
                texts.extend((!is(2)).then(|| walk.key_archive()));
                texts.extend((job.of.is_some() && !is(3)).then(|| walk.index_archive()));
            }
            false if job.of.is_some() || job.standing.rows > 0 => {
                return Ok(Err(format!("its archive {} is not there", job.archive)));
            }
            false => {
                let about = format!(
                    "Rows as they were before Sluice's job {} changed them. SLUICE UNDO puts them back.",
                    job.id
                );
                texts.extend(walk.make_archive(&about));
            }
        }
        if texts.is_empty() {
            return Ok(Ok(()));
        }
        let wait = limits::BATCH_LOCK_WAIT.as_millis();
        let made = self.tell(&format!("BEGIN; SET LOCAL lock_timeout = {wait}; {}", texts.join("; "))).await?;
        self.reaching.touch();
        if let Some((_, why)) = made.error {
            self.tell("ROLLBACK").await?;
            return Ok(Err(format!("its archive cannot be {what}: {why}")));
        }
        let failed = self.commit().await?;
        Ok(failed.map_or(Ok(()), |failure| Err(format!("its archive cannot be {what}: {}", failure.code))))
    }

    async fn go(&mut self, drive: &mut Drive, mut way: Way) -> Result<Driven, End> {
        let mut pace = Pace::new(drive.plan.batch_rows, drive.plan.sparse);
        let mut failed = 0u32;
        loop {
            if let Some(why) = self.must_stop().await {
                return Ok(Driven::Paused(why));
            }
            let began = Instant::now();
            let step = match &mut way {
                Way::There { after, number, ahead } => self.batch(drive, after, ahead, *number, pace).await?,
                Way::Back(back) => self.batch_back(drive, back).await?,
            };
            match drive.turn(step, began, &mut pace, &mut failed, &mut way) {
                Turn::Ended(driven) => return Ok(driven),
                Turn::On => self.tell_progress(drive, false),
                Turn::Wait(time) => {
                    self.tell_progress(drive, true);
                    tokio::time::sleep(time).await;
                }
            }
            if let Some(driven) = self.desk.wanted(drive).await {
                return Ok(driven);
            }
        }
    }

    /// One batch of the change.
    async fn batch(
        &mut self,
        drive: &Drive,
        after: &mut Option<Place>,
        ahead: &mut Ahead,
        number: u64,
        pace: Pace,
    ) -> Result<Step, End> {
        let walk = &drive.plan.walk;
        let Some(end) = &drive.plan.end else { return Ok(Step::Over) };
        let (to, stride) = match std::mem::replace(ahead, Ahead::NotLooked) {
            Ahead::To(to, stride) => (to, stride),
            Ahead::Over => return Ok(Step::Over),
            Ahead::NotLooked => {
                let told = self.tell(&walk.next(after.as_ref(), end, pace.stride())).await?;
                if told.error.is_some() {
                    return self.not_kept(told).await;
                }
                match looked(told.row(0), after.as_ref(), end, pace.stride()) {
                    Ahead::To(to, stride) => (to, stride),
                    _ => return Ok(Step::Over),
                }
            }
        };
        let counts = measure::question(Telling::Changes);
        // Looking for rows that match can take long, and no lock is held meanwhile.
        let looks_ahead = matches!(pace.stride(), Stride::Rows(_));
        let next = if looks_ahead { walk.next(Some(&to), end, pace.stride()) } else { String::new() };
        let change = walk.change(after.as_ref(), &to, number);
        let text = format!("{}; {counts}; {change}; {counts}; {next}", begin_batch(walk));
        let done = self.tell_permitted(&drive.permit, &text).await?;
        let before = match done.before() {
            Some(before) if done.error.is_none() => before,
            _ => return self.not_kept(done).await,
        };
        let done_at = BEGIN_STATEMENTS;
        if let Some(why) = changed_since(drive, &done) {
            self.tell("ROLLBACK").await?;
            return Ok(Step::Stop(why));
        }
        let archived = done.tag(done_at);
        if archived > drive.plan.batch_rows {
            self.tell("ROLLBACK").await?;
            return Ok(Step::TooMany);
        }
        let changed = match effects(&before, &done, done_at + 1) {
            Ok(effects) => {
                // Of a partitioned table rows are counted by the partition.
                let own = effects.tables.iter().find(|table| table.name == drive.job.relation);
                let counted = own.map_or_else(|| effects.destroyed(), |table| table.destroyed());
                match effects.objects.first() {
                    Some(object) => Err(format!("it did more than change rows: {object}")),
                    None if counted != archived => Err(format!(
                        "the archive has {} rows where the database counts {} as changed",
                        grouped(archived),
                        grouped(counted)
                    )),
                    None => Ok(effects.destroyed()),
                }
            }
            Err(why) => Err(why),
        };
        let total = changed.map(|changed| (changed, drive.job.standing.rows.saturating_add(changed)));
        let refused = match total {
            Err(why) => Some(why),
            Ok((_, total)) if total > drive.job.rows_most => {
                Some(format!("{MORE_MATCH} the {} that were agreed to", grouped(drive.job.rows_most)))
            }
            Ok(_) => None,
        };
        if let Some(why) = refused {
            self.tell("ROLLBACK").await?;
            return Ok(Step::Stop(why));
        }
        let kept = self.commit_batch(archived, stride).await?;
        if let Step::Kept { .. } = kept {
            if after.as_ref() == Some(&to) {
                return Ok(Step::Stop("its place in the key does not move".to_owned()));
            }
            if looks_ahead {
                *ahead = looked(done.row(done_at + 2), Some(&to), end, pace.stride());
            }
            *after = Some(to);
        }
        Ok(kept)
    }

    /// One batch of the archive, or a piece of it, put back.
    async fn batch_back(&mut self, drive: &Drive, back: &mut Back) -> Result<Step, End> {
        let walk = &drive.plan.walk;
        let piece = back.pieces.pop();
        if piece.is_none()
            && let Some(number) = back.apart.take()
        {
            back.below = Some(number);
        }
        let counts = measure::question(Telling::Changes);
        let begun = self.tell(&format!("{}; {counts}; {}", begin_batch(walk), walk.next_back(back.below))).await?;
        let before = match begun.before() {
            Some(before) if begun.error.is_none() => before,
            _ => {
                back.pieces.extend(piece);
                return self.not_kept(begun).await;
            }
        };
        if let Some(why) = changed_since(drive, &begun) {
            self.tell("ROLLBACK").await?;
            return Ok(Step::Stop(why));
        }
        let next = begun.cell(BEGIN_STATEMENTS).and_then(|digits| digits.parse::<u64>().ok());
        let Some(number) = back.apart.or(next) else {
            self.tell("ROLLBACK").await?;
            return Ok(Step::Over);
        };
        let text = format!("{}; {counts}; {}", walk.back(number, piece.as_ref()), walk.not_as_it_was(number));
        let done = self.tell_permitted(&drive.permit, &text).await?;
        if let Some((failure, _)) = &done.error
            && is_of_a_row(&failure.code)
        {
            self.tell("ROLLBACK").await?;
            return self.take_apart(walk, back, number, piece).await;
        }
        if done.error.is_some() {
            back.pieces.extend(piece);
            return self.not_kept(done).await;
        }
        let rows = done.tag(0);
        let total = drive.job.standing.rows.saturating_add(rows);
        let refused = match (effects(&before, &done, 1), done.cell(2)) {
            (Err(why), _) => Some(why),
            _ if total > drive.job.rows_most => {
                Some(format!("more rows were changed than the {} that were shown", grouped(drive.job.rows_most)))
            }
            // The archive's own marks are counted as updates.
            (Ok(effects), _) if effects.changed() > rows.saturating_mul(2) => {
                Some("putting rows back changed others as well: a trigger or a foreign key acts on them".to_owned())
            }
            (Ok(_), Some("0")) => None,
            (Ok(_), Some(other)) => {
                Some(format!("{other} rows would not be what they were: a trigger changes what is put back"))
            }
            (Ok(_), None) => Some("what was put back could not be compared".to_owned()),
        };
        if let Some(why) = refused {
            self.tell("ROLLBACK").await?;
            return Ok(Step::Stop(why));
        }
        let kept = self.commit_batch(rows, Stride::Matching(rows)).await?;
        match kept {
            Step::Kept { .. } if back.apart.is_none() => back.below = Some(number),
            Step::Kept { .. } => {}
            // It is tried again as it is.
            _ => back.pieces.extend(piece),
        }
        Ok(kept)
    }

    /// Some of its rows cannot be put back: a key is taken, what they refer to is gone, a condition was added.
    async fn take_apart(
        &mut self,
        walk: &Walk,
        back: &mut Back,
        number: u64,
        piece: Option<Piece>,
    ) -> Result<Step, End> {
        back.apart = Some(number);
        let whole = match piece {
            Some(piece) => piece,
            None => {
                let rows = self.tell(&walk.at(number, None, 0)[0]).await?;
                let rows = rows.cell(0).and_then(|digits| digits.parse::<u64>().ok()).unwrap_or_default();
                let last = self.tell(&walk.at(number, None, rows.saturating_sub(1))[1]).await?;
                let Some(to) = last.row(0) else {
                    return Ok(Step::Stop("its archive cannot be read".to_owned()));
                };
                Piece { after: None, to, rows }
            }
        };
        if whole.rows > 1 {
            let middle = self.tell(&walk.at(number, Some(&whole), whole.rows / 2 - 1)[1]).await?;
            let Some(middle) = middle.row(0) else {
                return Ok(Step::Stop("its archive cannot be read".to_owned()));
            };
            back.halve(whole, middle);
        }
        Ok(Step::Apart)
    }

    async fn commit_batch(&mut self, rows: u64, stride: Stride) -> Result<Step, End> {
        match self.commit().await? {
            None => Ok(Step::Kept { rows, stride }),
            Some(failure) if is_in_the_way(&failure.code) => Ok(Step::Again(failure.code)),
            Some(failure) => Ok(Step::Stop(format!("the commit failed: {}", failure.code))),
        }
    }

    /// A batch of which a statement failed.
    async fn not_kept(&mut self, told: Told) -> Result<Step, End> {
        if told.status != b'I' {
            self.tell("ROLLBACK").await?;
        }
        Ok(match told.error {
            Some((failure, why)) if is_in_the_way(&failure.code) => Step::Again(why),
            Some((failure, _)) if failure.code == "57014" && self.seat.take_cancelled() => {
                Step::Stop("cancelled by the client".to_owned())
            }
            Some((_, why)) => Step::Stop(why),
            None => Step::Stop("the database does not count what it changes (track_counts)".to_owned()),
        })
    }

    /// Between two batches: whoever waits for the job may have left or thought better of it.
    async fn must_stop(&mut self) -> Option<String> {
        if self.seat.take_cancelled() {
            return Some("cancelled by the client".to_owned());
        }
        if *self.desk.house.draining.borrow() {
            return Some("Sluice is going down".to_owned());
        }
        if self.link.client.inbox.len() < limits::READ_BYTES {
            // What is there to be read is read; nothing is waited for.
            let _ = tokio::time::timeout(Duration::ZERO, self.link.wait(Listen::Both)).await;
        }
        self.link.client.ended.then(|| "its client has left".to_owned())
    }

    /// A notice now and then: how far it is, how fast, and how long it may still take.
    fn tell_progress(&mut self, drive: &mut Drive, at_once: bool) {
        if let Some(line) = drive.progress(at_once) {
            self.tell_notice(&line);
        }
    }

    pub(in crate::session) fn tell_notice(&mut self, line: &str) {
        let words = self.said(&Refusal::new(Code::Paused, line));
        self.link.client.send(message::notice(&words));
    }

    /// By a lock that the database lets go of when the connection is gone.
    pub(in crate::session) async fn lock_job(&mut self, job: &Job) -> Result<bool, End> {
        let text = format!("SELECT pg_catalog.pg_try_advisory_lock({LOCKS}, {})", lock_of(job));
        // The backend of a Sluice that was killed may not have noticed yet.
        for _ in 0..limits::JOB_LOCK_TRIES {
            if self.tell(&text).await?.cell(0) == Some("t") {
                return Ok(true);
            }
            tokio::time::sleep(limits::JOB_LOCK_PAUSE).await;
        }
        Ok(false)
    }

    pub(in crate::session) async fn unlock_job(&mut self, job: &Job) -> Result<(), End> {
        self.tell(&format!("SELECT pg_catalog.pg_advisory_unlock({LOCKS}, {})", lock_of(job))).await?;
        Ok(())
    }
}

/// A batch's own settings end with its transaction. Whether it may write is the session's to say.
fn begin_batch(walk: &Walk) -> String {
    let wait = limits::BATCH_LOCK_WAIT.as_millis();
    format!("BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL lock_timeout = {wait}; {}; {}", walk.lock(), walk.print())
}

/// Why what a batch meets is not what was confirmed.
fn changed_since(drive: &Drive, told: &Told) -> Option<String> {
    (told.cell(PRINT) != Some(&drive.print)).then(|| {
        format!("{} or its archive is not what it was when the job began: somebody changed it", drive.job.relation)
    })
}

impl Told {
    fn before(&self) -> Option<Snapshot> {
        measure::read(&self.each.get(BEGIN_STATEMENTS - 1)?.0)
    }
}

/// Statements before the batch's own: BEGIN, SET, LOCK, what the table is, counts.
const BEGIN_STATEMENTS: usize = 5;
const PRINT: usize = 3;

/// "SLUC": the first half of the locks that hold jobs apart.
const LOCKS: i32 = 0x534C_5543;

/// The same for a job and for what takes it back.
fn lock_of(job: &Job) -> i32 {
    let id = job.of.unwrap_or(job.id).to_string();
    // FNV-1a: any spreading will do, it only has to be the same everywhere.
    id.bytes().fold(0x811C_9DC5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)) as i32
}

fn effects(before: &Snapshot, told: &Told, at: usize) -> Result<crate::policy::question::Effects, String> {
    let after = told.each.get(at).and_then(|(answer, _)| measure::read(answer));
    let after = after.ok_or_else(|| "the database does not count what it changes (track_counts)".to_owned())?;
    measure::between(before, &after)
}

/// not_null_violation, foreign_key_violation, unique_violation, check_violation, exclusion_violation: others may go on.
fn is_of_a_row(code: &str) -> bool {
    matches!(code, "23502" | "23503" | "23505" | "23514" | "23P01")
}

/// serialization_failure, deadlock_detected, lock_not_available: somebody else was in the way, and will not be for ever.
fn is_in_the_way(code: &str) -> bool {
    matches!(code, "40001" | "40P01" | "55P03")
}
