//! A job on its way, as far as it is the same whatever the server: what drives it, how a batch ended, how far it is.
//!
//! Invariant: nothing here speaks to a database; each product's own driver does (`session/*/carry.rs`), and keeps the promises.

use crate::audit::Permit;
use crate::change::batch::{Pace, Plan};
use crate::change::preview::words::plain;
use crate::database::batches::{Piece, Place, Stride};
use crate::ground::limits;
use crate::policy::count::grouped;
use crate::policy::throttle::Throttle;
use crate::protocol::{Code, Refusal};
use crate::session::braking::{self, Brake};
use crate::session::desk::Desk;
use crate::store::StoreError;
use crate::store::jobs::{Job, Standing, State, Told, Wanted};
use std::time::{Duration, Instant};

/// Of a job of which rows were put back, nothing more is changed.
pub(in crate::session) const WAS_UNDONE: &str = "some of it was undone";

/// Why a job with an archive of fewer rows than it changed is not gone on with.
pub(in crate::session) fn taken_out(rows: &str, kept: &str) -> String {
    format!(
        "{TAKEN_OUT} {rows} rows where {kept} were told to be committed: somebody took some out, or the database lost its last commits \
         (synchronous_commit = off, a failover), and which of the two is not known"
    )
}

const TAKEN_OUT: &str = "its archive has";

/// How a job came to an end, for now.
#[derive(Debug)]
pub(in crate::session) enum Driven {
    Done,
    /// It can be resumed.
    Paused(String),
    Cancelled(String),
    /// The database refused its first batch, as it would have refused the statement.
    Refused(String, Failed),
    /// Not by this session: another is at it, or it is over.
    Elsewhere(&'static str),
}

/// The database's own error: as it came, or what it says.
#[derive(Debug, Clone)]
pub(in crate::session) enum Failed {
    AsItCame { state: String, bytes: bytes::Bytes },
    Told { number: u16, state: String, message: String },
}

impl Failed {
    pub fn state(&self) -> &str {
        match self {
            Failed::AsItCame { state, .. } | Failed::Told { state, .. } => state,
        }
    }
}

/// What became of one batch.
pub(in crate::session) enum Step {
    /// Nothing is left.
    Over,
    /// Committed.
    Kept { rows: u64, stride: Stride },
    /// Rolled back, and worth another try.
    Again(String),
    /// Rolled back: more rows than a batch may have.
    TooMany,
    /// Rolled back: some of the rows that were to be put back cannot be, and the others are tried by themselves.
    Apart,
    /// Rolled back.
    Stop(String),
    /// Rolled back, by this error of the database's.
    Failed(String, Failed),
}

/// Where the next batch begins.
pub(in crate::session) enum Way {
    /// Behind this place, as the batch of this number.
    There { after: Option<Place>, number: u64, ahead: Ahead },
    /// Back.
    Back(Back),
}

/// Where an undo stands.
#[derive(Debug, Default)]
pub(in crate::session) struct Back {
    /// What is at or above this batch is done.
    pub below: Option<u64>,
    /// A batch of which some rows cannot be put back is put back in pieces, halved until those rows stand alone.
    pub apart: Option<u64>,
    pub pieces: Vec<Piece>,
    /// Rows in one another's way may come back in the other order: as long as a pass over a batch puts some back, there is another.
    pub reversed: bool,
    pub moved: bool,
}

impl Back {
    /// What cannot be put back as a whole is halved at `middle`, unless it is one row: that is left.
    pub fn halve(&mut self, whole: Piece, middle: Place) {
        let first = whole.rows / 2;
        if first == 0 {
            return;
        }
        let (rows, after) = (whole.rows - first, Some(middle.clone()));
        let (second, first) =
            (Piece { after, to: whole.to, rows }, Piece { after: whole.after, to: middle, rows: first });
        self.pieces.extend(if self.reversed { [first, second] } else { [second, first] });
    }

    /// The next piece of a batch that is taken apart. When there is none, the batch is done, or begun again the other way round.
    pub fn next_piece(&mut self) -> Option<Piece> {
        let piece = self.pieces.pop();
        if piece.is_none()
            && let Some(number) = self.apart.take()
        {
            match std::mem::take(&mut self.moved) {
                true => self.reversed = !self.reversed,
                false => self.below = Some(number),
            }
        }
        piece
    }

    /// A batch, or a piece of one, was put back.
    pub fn kept(&mut self, number: u64, rows: u64) {
        match self.apart {
            None => self.below = Some(number),
            Some(_) => self.moved |= rows > 0,
        }
    }
}

/// Where the next batch ends.
pub(in crate::session) enum Ahead {
    NotLooked,
    To(Place, Stride),
    /// Nothing is left.
    Over,
}

/// What comes behind a step.
pub(in crate::session) enum Turn {
    On,
    /// The same again, after this long.
    Wait(Duration),
    Ended(Driven),
}

/// What drives a job, beside the session.
pub(in crate::session) struct Drive {
    pub job: Job,
    pub plan: Plan,
    pub permit: Permit,
    began: Instant,
    /// When its client was told, and when the store was.
    told: Instant,
    noted: Instant,
    pub before: u64,
    /// MySQL: rows that the batch on its way and those before it really changed: an UPDATE may find more.
    pub coming: u64,
    pub changed: u64,
    /// Rows that foreign keys took along, of those that are done, and of the batch on its way.
    pub carried: u64,
    pub coming_below: u64,
    /// What table and archive were when it began.
    pub print: String,
    pub brake: Brake,
    /// MySQL: the client's `sql_mode`, and that under which rows are copied as they are, where the other changes them.
    pub modes: [String; 2],
    pub copies_exactly: bool,
    /// Rows that it changed and that somebody has taken out of its archive since.
    pub lost: u64,
    /// Since when its rate is reckoned, and how many rows were done then: not while it waited for others.
    meter: (Instant, u64),
    waiting: bool,
}

impl Drive {
    pub fn new(job: Job, mut plan: Plan, permit: Permit) -> Drive {
        if job.of.is_some() {
            // An archive alone is what an undo reads.
            plan.reads.clear();
            plan.functions.clear();
        }
        let (began, before) = (Instant::now(), job.standing.rows);
        Drive {
            job,
            plan,
            permit,
            began,
            told: began,
            noted: began,
            before,
            coming: 0,
            changed: 0,
            carried: 0,
            coming_below: 0,
            print: String::new(),
            brake: Brake::default(),
            modes: [String::new(), String::new()],
            copies_exactly: false,
            lost: 0,
            meter: (began, before),
            waiting: false,
        }
    }

    /// `time`: about how long a batch may take.
    pub fn pace(&self, time: Duration) -> Pace {
        let plan = &self.plan;
        let pace = Pace::new(plan.batch_rows, plan.sparse).timed(time);
        match plan.members.is_empty() {
            true => pace,
            false => pace.fanned(self.job.rows_shown.unwrap_or_default(), plan.rows_below),
        }
    }

    /// Why the next batch does not begin yet; told to whoever waits for the job, and to lists.
    pub fn waits(&mut self, throttle: &Throttle, now: jiff::Timestamp) -> bool {
        let rate = self.rate(throttle);
        let why = self.brake.waits(throttle, now, rate);
        if self.waiting && why.is_none() && rate.is_none() {
            self.meter = (Instant::now(), self.job.standing.rows);
        }
        self.waiting = why.is_some();
        if let Some(why) = why {
            self.job.standing.why = format!("waiting: {why}");
        }
        self.waiting
    }

    /// Rows a second.
    pub fn rate(&self, throttle: &Throttle) -> Option<u64> {
        braking::rate(self.job.throttle, throttle)
    }

    /// Rows of the change's own table: what its answer counts.
    pub fn own_rows(&self) -> u64 {
        self.job.standing.rows.saturating_sub(self.carried)
    }

    /// Why a batch of so many rows, and so many below them, goes past what was agreed to for either.
    pub fn beyond_below(&self, own: u64, below: u64) -> Option<String> {
        let most_below = self.plan.most_below?;
        let (own, below) = (self.own_rows().saturating_add(own), self.carried.saturating_add(below));
        let most = self.job.rows_most.saturating_sub(most_below);
        match (own > most, below > most_below) {
            (true, _) => Some(format!("{MORE_MATCH} the {} that were agreed to", grouped(most))),
            (_, true) => Some(format!("{MORE_MATCH} the {} below them that were agreed to", grouped(most_below))),
            _ => None,
        }
    }

    /// A batch was committed.
    pub fn kept(&mut self, rows: u64) {
        self.changed = self.changed.saturating_add(std::mem::take(&mut self.coming));
        self.carried = self.carried.saturating_add(std::mem::take(&mut self.coming_below));
        self.job.standing.rows += rows;
        self.job.standing.batches += u64::from(rows > 0);
        self.job.standing.why.clear();
    }

    /// Where it stands is known: it goes on from there.
    pub fn stands(&mut self) {
        self.before = self.job.standing.rows;
        self.meter = (Instant::now(), self.before);
    }

    /// Rows of this time alone.
    pub fn rows_now(&self) -> u64 {
        self.job.standing.rows.saturating_sub(self.before)
    }

    /// What a step came to, which `began` then; `failed`: how often in a row somebody was in the way.
    pub fn turn(&mut self, step: Step, began: Instant, pace: &mut Pace, failed: &mut u32, way: &mut Way) -> Turn {
        match step {
            Step::Over => Turn::Ended(Driven::Done),
            Step::Stop(why) => Turn::Ended(Driven::Paused(why)),
            Step::Failed(why, failed) if self.job.standing.rows == 0 && self.job.of.is_none() => {
                Turn::Ended(Driven::Refused(why, failed))
            }
            Step::Failed(why, _) => Turn::Ended(Driven::Paused(why)),
            Step::Apart => {
                *failed = 0;
                Turn::On
            }
            Step::TooMany => {
                *failed += u32::from(!pace.too_many());
                match *failed > limits::BATCH_TRIES_MAX {
                    true => Turn::Ended(Driven::Paused("more rows match in each try".to_owned())),
                    false => Turn::On,
                }
            }
            Step::Again(why) => {
                *failed += 1;
                if *failed > limits::BATCH_TRIES_MAX {
                    return Turn::Ended(Driven::Paused(format!("{why}, {failed} times in a row")));
                }
                pace.failed();
                self.job.standing.why = format!("waiting: {why}");
                Turn::Wait(limits::BATCH_BACKOFF * (*failed).min(20))
            }
            Step::Kept { rows, stride } => {
                *failed = 0;
                self.brake.took(began, rows);
                pace.took(stride, began.elapsed(), rows);
                self.kept(rows);
                if let Way::There { number, .. } = way {
                    *number += u64::from(rows > 0);
                }
                Turn::On
            }
        }
    }

    /// It is a change, its archives were made, and nothing comes behind this: what they hold can be reckoned up.
    pub fn is_over(&self, driven: &Driven) -> bool {
        matches!(driven, Driven::Done | Driven::Refused(..)) && self.job.of.is_none() && !self.print.is_empty()
    }

    /// How it really ended. `archived`: rows that are in its archives now. Of a batch whose commit failed only the database knows whether it
    /// was made.
    pub fn reckoned(&mut self, driven: Driven, archived: Option<u64>) -> Driven {
        self.lost = self.job.standing.rows.saturating_sub(archived.unwrap_or_default());
        match driven {
            Driven::Refused(why, _) if archived != Some(0) => Driven::Paused(why),
            driven => driven,
        }
    }

    /// It ended so, for now.
    pub fn ended(&mut self, driven: &Driven) {
        let (state, why) = match driven {
            Driven::Elsewhere(_) => return,
            Driven::Done => (State::Done, String::new()),
            Driven::Paused(why) => (State::Paused, why.clone()),
            Driven::Cancelled(why) | Driven::Refused(why, _) => (State::Cancelled, why.clone()),
        };
        self.job.standing = Standing { state, why, ..self.job.standing.clone() };
    }

    /// A line now and then: how far it is, how fast, and how long it may still take.
    pub fn progress(&mut self, at_once: bool) -> Option<String> {
        if !at_once && self.told.elapsed() < limits::PROGRESS_EVERY {
            return None;
        }
        self.told = Instant::now();
        let standing = &self.job.standing;
        let done = standing.rows;
        let (since, rows) = self.meter;
        let rate = done.saturating_sub(rows) as f64 / since.elapsed().as_secs_f64().max(0.001);
        let mut line = format!("sluice: job {}: {} rows in {} batches", self.job.id, grouped(done), standing.batches);
        if let Some(shown) = self.job.rows_shown.filter(|shown| *shown >= done && *shown > 0) {
            let left = shown - done;
            line = format!(
                "sluice: job {}: {}/{} rows ({} %), {} rows/s",
                self.job.id,
                grouped(done),
                grouped(shown),
                done * 100 / shown,
                grouped(rate as u64)
            );
            if rate >= 1.0 {
                line.push_str(&format!(", about {:.0} s left", left as f64 / rate));
            }
        }
        if !standing.why.is_empty() {
            line.push_str(&format!("; {}", standing.why));
        }
        Some(line)
    }

    /// The last line about it.
    pub fn done_line(&self) -> String {
        let (job, standing) = (&self.job, &self.job.standing);
        let (rows, seconds) = (grouped(standing.rows), self.began.elapsed().as_secs_f64());
        let mut line =
            format!("sluice: job {}: done, {rows} rows in {} batches, {seconds:.1} s", job.id, standing.batches);
        if job.of.is_none()
            && let Some(fewer) =
                job.rows_shown.and_then(|shown| shown.checked_sub(standing.rows)).filter(|fewer| *fewer > 0)
        {
            line.push_str(&format!(" ({} fewer than were shown)", grouped(fewer)));
        }
        if self.lost > 0 {
            line.push_str(&format!(
                "; {} of them are not in its archive any more: somebody took them out",
                grouped(self.lost)
            ));
        }
        if job.of.is_none() && standing.rows > 0 {
            line.push_str(&format!("; undo with: SLUICE UNDO '{}'", job.id));
        }
        line
    }

    /// Rows of an undo that were left as they are.
    pub fn left(&self) -> u64 {
        self.job.rows_shown.unwrap_or_default().saturating_sub(self.job.standing.rows)
    }

    /// What is said of them, by the keys of some.
    pub fn left_line(&self, keys: &[String]) -> String {
        let names: Vec<&str> = self.plan.walk.key.iter().map(|column| column.name.as_str()).collect();
        format!(
            "sluice: {} rows were left as they are: they were changed since, or others stand in their way: {} {}{}",
            grouped(self.left()),
            names.join(", "),
            plain(&keys.join("; ")),
            if self.left() > limits::LEFT_SHOWN_MAX as u64 { "; …" } else { "" }
        )
    }

    /// The answer to whoever waits for a job that stopped.
    pub fn stopped(&self, why: &str) -> Refusal {
        let (job, standing) = (&self.job, &self.job.standing);
        let rows = grouped(standing.rows);
        let of = job.rows_shown.map_or_else(String::new, |shown| format!(" of {}", grouped(shown)));
        let over = standing.state == State::Cancelled;
        let how = if over { "cancelled" } else { "paused" };
        let message = format!("sluice: the change was {how} after {rows}{of} rows: {}", plain(why));
        let mut lines = Vec::new();
        if standing.rows == 0 && job.of.is_none() {
            lines.push("BEGIN; the statement; COMMIT runs it whole instead, without an archive.".to_owned());
        }
        if why.starts_with(MORE_MATCH) {
            lines.push("Rows came to match meanwhile: send the statement again for the rest.".to_owned());
        } else if why.starts_with(TAKEN_OUT) {
            lines.push("Look at the rows, then send the statement again for those that are left.".to_owned());
        } else if !over {
            lines.push(format!("SLUICE RESUME '{}' goes on with it.", job.id));
        }
        if standing.rows > 0 && job.of.is_none() {
            lines.push(format!("SLUICE UNDO '{}' puts back what was changed.", job.id));
        }
        let committed = if standing.rows > 0 { "\nEvery batch so far is committed." } else { "" };
        Refusal::new(Code::Paused, message)
            .detail(format!("job: {}\narchive: {}{committed}", job.id, job.archive))
            .hint(lines.join("\n"))
    }
}

/// What a job says that has met more rows than were agreed to: to go on with it would meet them again.
pub(in crate::session) const MORE_MATCH: &str = "more rows match than";

impl Desk {
    /// By whoever holds its lock. `Some`: it is not gone on with.
    pub(in crate::session) async fn begin_job(&self, drive: &mut Drive) -> Option<Driven> {
        match self.house.store.job_begin(drive.job.id, self.house.clock.now()).await {
            Ok(Some(job)) => {
                drive.before = job.standing.rows;
                drive.job.standing = job.standing;
                drive.job.throttle = job.throttle;
                None
            }
            Ok(None) => Some(Driven::Elsewhere("the job is over")),
            Err(error) => Some(Driven::Paused(error.to_string())),
        }
    }

    /// Another session is at it. A job that was made for nothing is over.
    pub(in crate::session) async fn busy(&self, drive: &mut Drive) -> Driven {
        const WHY: &str = "another session is carrying it out";
        if drive.job.of.is_some() && drive.job.standing.batches == 0 {
            drive.ended(&Driven::Cancelled(WHY.to_owned()));
            if let Err(error) = self.note_job(&drive.job).await {
                tracing::error!(job = %drive.job.id, %error, "how a job ended could not be kept");
            }
        }
        Driven::Elsewhere(WHY)
    }

    /// Between two batches: what somebody wants of the job. A batch may take a tenth of the time that it is given, and the store waits for the
    /// disk: it is told now and then.
    pub(in crate::session) async fn wanted(&self, drive: &mut Drive) -> Option<Driven> {
        let often = if drive.waiting { limits::WISH_EVERY } else { limits::BATCH_TIME / 2 };
        if drive.noted.elapsed() < often {
            return None;
        }
        drive.noted = Instant::now();
        let told = self.note_job(&drive.job).await;
        if let Ok(told) = &told {
            drive.job.throttle = told.throttle;
        }
        match told.map(|told| told.wanted) {
            Ok(None) => None,
            Ok(Some(Wanted::Pause)) => Some(Driven::Paused("it was asked to pause".to_owned())),
            Ok(Some(Wanted::Cancel)) => Some(Driven::Cancelled("it was asked to stop for good".to_owned())),
            Err(error) => Some(Driven::Paused(error.to_string())),
        }
    }

    /// Keeps where a job stands; what somebody wants of it.
    pub(in crate::session) async fn note_job(&self, job: &Job) -> Result<Told, StoreError> {
        self.house.store.job_note(job.id, job.standing.clone(), self.house.clock.now()).await
    }
}

/// Reads where the next batch ends, behind this place.
pub(in crate::session) fn looked(next: Option<Place>, after: Option<&Place>, end: &Place, stride: Stride) -> Ahead {
    match (next, stride) {
        (Some(to), _) => Ahead::To(to, stride),
        // Fewer rows are left of the table than that.
        (None, Stride::Rows(_)) if after != Some(end) => Ahead::To(end.clone(), stride),
        (None, _) => Ahead::Over,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_put_back_is_halved_until_it_stands_alone() {
        let place = |number: u64| vec![number.to_string()];
        let mut back = Back::default();
        back.halve(Piece { after: None, to: place(8), rows: 8 }, place(4));
        let mut left = Vec::new();
        let mut kept = 0;
        while let Some(piece) = back.pieces.pop() {
            let from = piece.after.as_ref().map_or(0, |after| after[0].parse::<u64>().expect("a number"));
            let to: u64 = piece.to[0].parse().expect("a number");
            assert_eq!(to - from, piece.rows);
            match (from < 3 && to >= 3, piece.rows) {
                (false, rows) => kept += rows,
                (true, 1) => left.push(to),
                (true, rows) => back.halve(piece, place(from + rows / 2)),
            }
        }
        assert_eq!((kept, left), (7, vec![3]));
    }
}
