//! A job on its way: one transaction a batch, each held to the database's own count before it commits.
//!
//! ```text
//! BEGIN REPEATABLE READ · counts · the batch, archived by the statement that changes it · counts · where the next one ends → COMMIT
//! ```
//!
//! Invariants: where a job stands is what its archive holds, so it can be killed at any instant and goes on behind the last batch that was
//! committed; two never run it (a lock in the database), and if they did, the archive's key would let each row be changed once. A batch of
//! which the count and the archive differ, or which takes the job past what was agreed to, is rolled back.

use crate::change::batch::{Other, Pace, Plan};
use crate::database::batches::{Piece, Place, Stride, Walk};
use crate::database::effects::measure::{self, Snapshot, Telling};
use crate::database::quote;
use crate::ground::limits;
use crate::policy::count::grouped;
use crate::policy::question::{Effects, TableEffect};
use crate::policy::throttle::{Load, Throttle};
use crate::protocol::postgres::message;
use crate::protocol::{Code, Refusal};
use crate::session::End;
use crate::session::braking::LOOKS_EVERY;
use crate::session::driving::{
    Ahead, Back, Drive, Driven, Failed, MORE_MATCH, Step, Turn, WAS_UNDONE, Way, looked, taken_out,
};
use crate::session::link::Listen;
use crate::session::postgres::Session;
use crate::session::postgres::load;
use crate::session::postgres::run::Failure;
use crate::session::postgres::tell::Told;
use crate::store::jobs::Job;
use std::collections::BTreeMap;
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
        let mut driven = match self.stand(drive).await? {
            Ok(way) => self.go(drive, way).await?,
            Err(why) if why == WAS_UNDONE => Driven::Cancelled(why),
            Err(why) => Driven::Paused(why),
        };
        let mut archived = None;
        if drive.is_over(&driven) {
            let told = self.tell(&drive.plan.family().done_so_far()).await?;
            archived = told.cell(0).and_then(|digits| digits.parse::<u64>().ok());
            driven = drive.reckoned(driven, archived);
        }
        if archived == Some(0) && drive.job.standing.rows == 0 {
            let names: Vec<String> = drive.plan.family().walks().map(Walk::archive_name).collect();
            self.tell(&format!("DROP TABLE IF EXISTS {}", names.join(", "))).await?;
            self.reaching.touch();
        }
        drive.ended(&driven);
        if let Err(error) = self.desk.note_job(&drive.job).await {
            tracing::error!(job = %drive.job.id, %error, "how a job ended could not be kept");
        }
        self.unlock_job(&drive.job).await?;
        Ok(driven)
    }

    /// Where the archive says that it stands.
    async fn stand(&mut self, drive: &mut Drive) -> Result<Result<Way, String>, End> {
        let (walk, family) = (&drive.plan.walk, drive.plan.family());
        if let Err(why) = self.ready_archives(&drive.job, &drive.plan).await? {
            return Ok(Err(why));
        }
        let prints = self.tell(&prints(&drive.plan).join("; ")).await?;
        let oid = prints.row(0).and_then(|row| row.get(1).cloned());
        let (Some(digest), Some(oid)) = (print_in(&prints, 0, &drive.plan), oid) else {
            return Ok(Err("what its table is cannot be read".to_owned()));
        };
        if drive.plan.oid.as_ref().is_some_and(|was| *was != oid) {
            return Ok(Err(format!("{} is another table than the one that was changed", drive.job.relation)));
        }
        for (at, member) in drive.plan.members.iter().enumerate() {
            if prints.row(at + 1).and_then(|row| row.get(1).cloned()) != Some(member.oid.to_string()) {
                let name = quote::shown(&member.walk.schema, &member.walk.table).written;
                return Ok(Err(format!("{name} is another table than the one that was changed")));
            }
        }
        if drive.job.of.is_some() {
            for (walk, columns) in drive.plan.family().walks().zip(&drive.plan.columns) {
                let told = self.tell(&walk.numbered_columns()).await?;
                let rows = told.each.first().map_or(&[][..], |(answer, _)| &answer.rows);
                let now: Vec<&str> = rows.iter().filter_map(|row| row.first()?.as_deref()).collect();
                if let Some(gone) = columns.iter().find(|column| !now.contains(&column.as_str())) {
                    let name = quote::shown(&walk.schema, &walk.table).written;
                    let column = gone.split_once(' ').map_or(gone.as_str(), |(_, name)| name);
                    return Ok(Err(format!("{column} of {name} was renamed, dropped or made anew since")));
                }
            }
        }
        let called = prints.row(1 + drive.plan.members.len()).and_then(|row| row.get(1).cloned());
        if names_others(&drive.plan) && drive.plan.called.is_some() && called != drive.plan.called {
            return Ok(Err("a function is called as one in it that was not when it was confirmed".to_owned()));
        }
        let ids: Vec<String> = drive.plan.reads.iter().map(|other| other.id.to_string()).collect();
        if !ids.is_empty() && prints.cell(1 + drive.plan.members.len()) != Some(&format!("{} ", ids.join(" "))) {
            return Ok(Err("its subqueries read other tables than when it was confirmed".to_owned()));
        }
        let asked = format!("{}; {}; {}", family.done_so_far(), walk.done(), walk.done_so_far());
        let done = self.tell(&asked).await?;
        if let Some((_, why)) = done.error {
            return Ok(Err(format!("its archive cannot be read: {why}")));
        }
        let numbers = done.row(0).unwrap_or_default();
        let number = |at: usize| numbers.get(at).and_then(|digits| digits.parse::<u64>().ok());
        let own = done.cell(2).and_then(|digits| digits.parse::<u64>().ok());
        let (Some(rows), Some(batches), Some(undone), Some(own)) = (number(0), number(1), number(2), own) else {
            return Ok(Err("its archive cannot be read".to_owned()));
        };
        drive.print = digest;
        drive.carried = rows.saturating_sub(own);
        let way = match drive.job.of {
            Some(_) => {
                // An undo before it may have put others back.
                let left = rows.saturating_sub(undone);
                let back = drive.job.rows_shown.unwrap_or_default().saturating_sub(left);
                drive.job.standing.rows = drive.job.standing.rows.max(back);
                Way::Back(Back::default())
            }
            None if undone > 0 => return Ok(Err(WAS_UNDONE.to_owned())),
            None if rows < drive.job.standing.rows => {
                let (rows, kept) = (grouped(rows), grouped(drive.job.standing.rows));
                return Ok(Err(taken_out(&rows, &kept)));
            }
            None => {
                (drive.job.standing.rows, drive.job.standing.batches) = (rows, batches);
                Way::There { after: done.row(1), number: batches + 1, ahead: Ahead::NotLooked }
            }
        };
        drive.stands();
        Ok(Ok(way))
    }

    async fn ready_archives(&mut self, job: &Job, plan: &Plan) -> Result<Result<(), String>, End> {
        for (at, walk) in plan.family().walks().enumerate() {
            let texts = match self.ready_archive(job, plan, walk, at > 0).await? {
                Ok(texts) => texts,
                Err(why) => return Ok(Err(why)),
            };
            if texts.is_empty() {
                continue;
            }
            let wait = limits::BATCH_LOCK_WAIT.as_millis();
            let made = self.tell(&format!("BEGIN; SET LOCAL lock_timeout = {wait}; {}", texts.join("; "))).await?;
            self.reaching.touch();
            if let Some((_, why)) = made.error {
                self.tell("ROLLBACK").await?;
                return Ok(Err(format!("its archive cannot be made: {why}")));
            }
            if let Some(failure) = self.commit().await? {
                return Ok(Err(format!("its archive cannot be made: {}", failure.code)));
            }
            // Subscribers have no such table, and would stop at its first row.
            let published = self.tell(&walk.archive_published()).await?;
            if job.standing.rows == 0
                && let Some(publications) = published.cell(0)
            {
                self.tell(&format!("DROP TABLE {}", walk.archive_name())).await?;
                return Ok(Err(format!(
                    "its archive would be published ({publications}), and subscribers have no such table"
                )));
            }
        }
        Ok(Ok(()))
    }

    /// What makes an archive that is not there yet, or what is missing of an old one's indexes. `is_below`: not the change's own.
    async fn ready_archive(
        &mut self,
        job: &Job,
        plan: &Plan,
        walk: &Walk,
        is_below: bool,
    ) -> Result<Result<Vec<String>, String>, End> {
        let there = self.tell(&walk.has_archive()).await?;
        let is = |at: usize| there.row(0).is_some_and(|row| row.get(at).is_some_and(|cell| cell == "t"));
        let name = quote::shown(&walk.schema, &walk.archive).written;
        let mut texts = Vec::new();
        match is(0) {
            true if !is(1) => {
                return Ok(Err(format!(
                    "{name} is not the archive as it was made: it is another's, or has triggers, rules or other columns"
                )));
            }
            true if is_below => texts.extend((!is(2)).then(|| walk.key_archive_by_batch())),
            true => {
                texts.extend((!is(2)).then(|| walk.key_archive()));
                texts.extend((job.of.is_some() && !is(3)).then(|| walk.index_archive()));
            }
            false if job.of.is_some() || job.standing.rows > 0 => {
                return Ok(Err(format!("its archive {name} is not there")));
            }
            false => {
                let about = format!(
                    "Rows as they were before Sluice's job {} changed them. SLUICE UNDO puts them back.",
                    job.id
                );
                texts.extend(walk.make_archive(&about));
                if is_below {
                    texts.push(walk.key_archive_by_batch());
                } else if !plan.members.is_empty() {
                    texts.extend([walk.key_archive(), walk.index_archive()]);
                }
            }
        }
        Ok(Ok(texts))
    }

    async fn go(&mut self, drive: &mut Drive, mut way: Way) -> Result<Driven, End> {
        let mut pace = drive.pace(self.desk.house.policy.load().jobs.batch_time);
        let mut failed = 0u32;
        loop {
            if let Some(why) = self.must_stop().await {
                return Ok(Driven::Paused(why));
            }
            let throttle = match self.make_way(drive).await? {
                Ok(throttle) => throttle,
                Err(driven) => return Ok(driven),
            };
            let began = Instant::now();
            pace = pace.held_to(drive.rate(&throttle));
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
        drive: &mut Drive,
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
        let change = drive.plan.family().change(after.as_ref(), &to, number);
        let sqls: Vec<&str> = change.iter().map(|text| text.sql.as_str()).collect();
        // What waits for the end of the transaction is done before it is counted.
        let text =
            format!("{}; {counts}; {}; {IMMEDIATELY}; {counts}; {next}", begin_batch(&drive.plan), sqls.join("; "));
        let done = self.tell_permitted(&drive.permit, &text).await?;
        let before = match done.before(&drive.plan) {
            Some(before) if done.error.is_none() => before,
            _ => return self.not_kept(done).await,
        };
        let done_at = begin_statements(&drive.plan);
        if let Some(why) = changed_since(drive, &done) {
            self.tell("ROLLBACK").await?;
            return Ok(Step::Stop(why));
        }
        let mut archived = vec![0u64; drive.plan.members.len() + 1];
        for (at, text) in change.iter().enumerate() {
            if let Some(of) = text.archives.and_then(|of| archived.get_mut(of)) {
                *of = of.saturating_add(done.tag(done_at + at));
            }
        }
        let own = archived[0];
        let together = archived.iter().fold(0u64, |sum, rows| sum.saturating_add(*rows));
        // What hangs on one row goes with it.
        let lone = own == 1 && !drive.plan.members.is_empty();
        if together > drive.plan.batch_rows && !lone {
            self.tell("ROLLBACK").await?;
            return Ok(Step::TooMany);
        }
        let counts_at = done_at + change.len() + 1;
        let changed = match effects(&before, &done, counts_at) {
            Ok(effects) => held(drive, &effects, &archived),
            Err(why) => Err(why),
        };
        let total = changed.map(|changed| (changed, drive.job.standing.rows.saturating_add(changed)));
        let refused = match total {
            Err(why) => Some(why),
            Ok((_, total)) if total > drive.job.rows_most => {
                Some(format!("{MORE_MATCH} the {} that were agreed to", grouped(drive.job.rows_most)))
            }
            Ok(_) => drive.beyond_below(own, together - own),
        };
        if let Some(why) = refused {
            self.tell("ROLLBACK").await?;
            return Ok(Step::Stop(why));
        }
        drive.coming_below = together - own;
        let kept = self.commit_batch(together, stride).await?;
        if let Step::Kept { .. } = kept {
            if after.as_ref() == Some(&to) {
                return Ok(Step::Stop("its place in the key does not move".to_owned()));
            }
            if looks_ahead {
                *ahead = looked(done.row(counts_at + 1), Some(&to), end, pace.stride());
            }
            *after = Some(to);
        }
        Ok(kept)
    }

    /// One batch of the archive, or a piece of it, put back.
    async fn batch_back(&mut self, drive: &Drive, back: &mut Back) -> Result<Step, End> {
        let family = drive.plan.family();
        let piece = back.next_piece();
        let counts = measure::question(Telling::Changes);
        let begin = begin_batch(&drive.plan);
        let text = format!("{begin}; {counts}; {}; {IMMEDIATELY}", family.next_back(back.below));
        let begun = self.tell(&text).await?;
        let before = match begun.before(&drive.plan) {
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
        let next = begun.cell(begin_statements(&drive.plan)).and_then(|digits| digits.parse::<u64>().ok());
        let Some(number) = back.apart.or(next) else {
            self.tell("ROLLBACK").await?;
            return Ok(Step::Over);
        };
        let steps = family.back(number, piece.as_ref());
        let texts: Vec<&str> = steps.iter().flatten().map(String::as_str).collect();
        let done = self.tell_permitted(&drive.permit, &format!("{}; {counts}", texts.join("; "))).await?;
        if let Some((failure, _)) = &done.error
            && is_of_a_row(&failure.code)
        {
            self.tell("ROLLBACK").await?;
            return self.take_apart(&drive.plan.walk, back, number, piece).await;
        }
        if done.error.is_some() {
            back.pieces.extend(piece);
            return self.not_kept(done).await;
        }
        let rows = (0..steps.len()).fold(0u64, |sum, at| sum.saturating_add(done.tag(at * 2)));
        let other = (0..steps.len()).map(|at| done.cell(at * 2 + 1)).find(|cell| *cell != Some("0"));
        let total = drive.job.standing.rows.saturating_add(rows);
        let refused = match (effects(&before, &done, texts.len()), other) {
            (Err(why), _) => Some(why),
            _ if total > drive.job.rows_most => {
                Some(format!("more rows were changed than the {} that were shown", grouped(drive.job.rows_most)))
            }
            (Ok(effects), _) if !effects.objects.is_empty() => {
                Some(format!("putting rows back did more than that: {}", effects.objects.join(", ")))
            }
            // The archive's own marks are counted as updates; what only adds rows elsewhere takes nothing away.
            (Ok(effects), _) if changed_by_undo(drive, &effects) > rows.saturating_mul(2) => {
                Some("putting rows back changed others as well: a trigger or a foreign key acts on them".to_owned())
            }
            (Ok(_), None) => None,
            (Ok(_), Some(Some(other))) => {
                Some(format!("{other} rows would not be what they were: a trigger changes what is put back"))
            }
            (Ok(_), Some(None)) => Some("what was put back could not be compared".to_owned()),
        };
        if let Some(why) = refused {
            self.tell("ROLLBACK").await?;
            return Ok(Step::Stop(why));
        }
        let kept = self.commit_batch(rows, Stride::Matching(rows)).await?;
        match kept {
            Step::Kept { rows, .. } => back.kept(number, rows),
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
                if rows == 0 {
                    // What fails lies below rows that are back: it is left.
                    return Ok(Step::Apart);
                }
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
            Some(failure) => Ok(Step::Failed(format!("the commit failed: {}", failure.code), failed(failure))),
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
            Some((failure, why)) => Step::Failed(why, failed(failure)),
            None => Step::Stop("the database does not count what it changes (track_counts)".to_owned()),
        })
    }

    /// Waits, before a batch, for what the policy says has to go first. `Err`: the job ends while it does. `Ok`:
    /// by what it goes on: a policy may come into force meanwhile.
    async fn make_way(&mut self, drive: &mut Drive) -> Result<Result<Throttle, Driven>, End> {
        loop {
            let throttle = self.desk.house.policy.load_full().jobs.clone();
            if drive.brake.is_due(&throttle) {
                let load = self.load(drive, &throttle).await?;
                drive.brake.measured(&throttle, &load);
            }
            if !drive.waits(&throttle, self.desk.house.clock.now()) {
                return Ok(Ok(throttle));
            }
            self.tell_progress(drive, false);
            if let Some(driven) = self.desk.wanted(drive).await {
                return Ok(Err(driven));
            }
            if let Some(why) = self.must_stop().await {
                return Ok(Err(Driven::Paused(why)));
            }
            tokio::time::sleep(LOOKS_EVERY).await;
        }
    }

    /// How busy the server is, as far as the policy wants to know and the user is shown.
    async fn load(&mut self, drive: &Drive, throttle: &Throttle) -> Result<Load, End> {
        let mut oids: Vec<String> = drive.plan.oid.iter().cloned().collect();
        oids.extend(drive.plan.members.iter().map(|member| member.oid.to_string()));
        let told = self.tell(&load::question(&oids)).await?;
        if told.status != b'I' {
            self.tell("ROLLBACK").await?;
        }
        Ok(load::read(&told, throttle))
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

/// Constraints and their triggers do not wait for the commit, where nobody would count or compare what they do.
const IMMEDIATELY: &str = "SET CONSTRAINTS ALL IMMEDIATE";

/// A batch's own settings end with its transaction. Whether it may write is the session's to say.
fn begin_batch(plan: &Plan) -> String {
    let wait = limits::BATCH_LOCK_WAIT.as_millis();
    let locks: Vec<String> = plan.family().walks().map(Walk::lock).collect();
    format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL lock_timeout = {wait}; {}; {}",
        locks.join("; "),
        prints(plan).join("; ")
    )
}

/// Statements before the batch's own: BEGIN, SET, LOCK and what it is for each table, counts.
fn begin_statements(plan: &Plan) -> usize {
    4 + plan.members.len() + printed(plan)
}

fn names_others(plan: &Plan) -> bool {
    !plan.reads.is_empty() || !plan.functions.is_empty()
}

/// What table and archive are, for each of them; and where the names of other tables lead.
fn prints(plan: &Plan) -> Vec<String> {
    let others = names_others(plan).then(|| others(&plan.reads, &plan.functions));
    plan.family().walks().map(Walk::print).chain(others).collect()
}

/// How many [`prints`] there are.
fn printed(plan: &Plan) -> usize {
    1 + plan.members.len() + usize::from(names_others(plan))
}

/// Where the names of tables lead, and which functions of the users' own are called as those in it.
pub(in crate::session) fn others(reads: &[Other], functions: &[String]) -> String {
    let oid = |other: &Other| {
        let name = quote::literal(&other.written);
        format!("CAST(CAST(pg_catalog.to_regclass({name}) AS pg_catalog.oid) AS pg_catalog.text)")
    };
    let oids: Vec<String> = reads.iter().map(oid).chain(["''".to_owned()]).collect();
    let names: Vec<String> = functions.iter().map(|name| quote::literal(name)).collect();
    format!(
        "SELECT pg_catalog.concat_ws(' ', {}), (SELECT pg_catalog.concat(pg_catalog.count(*), ' ', pg_catalog.max(p.oid), ' ', pg_catalog.max(p.xmin::pg_catalog.text)) \
         FROM pg_catalog.pg_proc p WHERE p.pronamespace OPERATOR(pg_catalog.<>) 'pg_catalog'::pg_catalog.regnamespace::pg_catalog.oid \
         AND p.proname OPERATOR(pg_catalog.=) ANY (ARRAY[{}]::pg_catalog.name[]))",
        oids.join(", "),
        names.join(", ")
    )
}

/// `at`: where the answers to [`prints`] begin.
fn print_in(told: &Told, at: usize, plan: &Plan) -> Option<String> {
    let digests = (0..printed(plan)).map(|print| told.row(at + print).map(|row| row.join(" ")));
    digests.collect::<Option<Vec<_>>>().map(|digests| digests.join(" "))
}

/// Why what a batch meets is not what was confirmed.
fn changed_since(drive: &Drive, told: &Told) -> Option<String> {
    let at = 3 + drive.plan.members.len();
    (print_in(told, at, &drive.plan).as_ref() != Some(&drive.print)).then(|| {
        let below = if drive.plan.members.is_empty() { "" } else { ", a table below it," };
        format!(
            "{}{below} or its archive is not what it was when the job began: somebody changed it",
            drive.job.relation
        )
    })
}

/// Rows of an undo's own tables and archives that were changed or added, and rows of others that were changed.
fn changed_by_undo(drive: &Drive, effects: &Effects) -> u64 {
    let names = |walk: &Walk| [&walk.table, &walk.archive].map(|name| vec![walk.schema.clone(), name.clone()]);
    let own: Vec<Vec<String>> = drive.plan.family().walks().flat_map(names).collect();
    // Rows of partitions are counted as theirs.
    let is_own = |table: &TableEffect| drive.plan.is_partitioned || own.contains(&quote::parts(&table.name));
    let changed = |table: &TableEffect| if is_own(table) { table.changed() } else { table.destroyed() };
    effects.tables.iter().fold(0, |sum, table| sum.saturating_add(changed(table)))
}

/// What the database counts, held against what was archived of each table; the rows changed in all.
fn held(drive: &Drive, effects: &Effects, archived: &[u64]) -> Result<u64, String> {
    let differs = |name: &str, archived: u64, counted: u64| {
        let (archived, counted) = (grouped(archived), grouped(counted));
        Err(format!("the archive has {archived} rows of {name} where the database counts {counted} as changed"))
    };
    if let Some(object) = effects.objects.first() {
        return Err(format!("it did more than change rows: {object}"));
    }
    if drive.plan.is_partitioned {
        // Counted by the partition.
        let (archived, counted) = (archived.iter().sum::<u64>(), effects.destroyed());
        return if archived == counted { Ok(counted) } else { differs(&drive.job.relation, archived, counted) };
    }
    // Rows updated, and rows deleted.
    let mut expected = BTreeMap::<Vec<String>, [u64; 2]>::new();
    for (walk, rows) in drive.plan.family().walks().zip(archived) {
        let of = expected.entry(vec![walk.schema.clone(), walk.table.clone()]).or_default();
        of[usize::from(!walk.is_update())] += rows;
    }
    for table in &effects.tables {
        let known = expected.remove(&quote::parts(&table.name));
        if known.is_none() && !drive.plan.carries {
            // What a trigger changes in other tables is not archived, and was told.
            continue;
        }
        let rows = known.unwrap_or_default();
        // An UPDATE by a trigger is no DELETE.
        if rows != [table.updated, table.deleted] || table.untold > 0 {
            return differs(&table.name, rows.iter().sum(), table.destroyed());
        }
    }
    match expected.into_iter().find(|(_, rows)| rows.iter().any(|rows| *rows > 0)) {
        Some((name, rows)) => differs(&name.join("."), rows.iter().sum(), 0),
        None => Ok(effects.destroyed()),
    }
}

impl Told {
    fn before(&self, plan: &Plan) -> Option<Snapshot> {
        measure::read(&self.each.get(begin_statements(plan) - 1)?.0)
    }
}

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

fn failed(failure: Failure) -> Failed {
    Failed::AsItCame { state: failure.code, bytes: failure.bytes }
}

/// not_null_violation, foreign_key_violation, unique_violation, check_violation, exclusion_violation: others may go on.
fn is_of_a_row(code: &str) -> bool {
    matches!(code, "23502" | "23503" | "23505" | "23514" | "23P01")
}

/// serialization_failure, deadlock_detected, lock_not_available: somebody else was in the way, and will not be for ever.
fn is_in_the_way(code: &str) -> bool {
    matches!(code, "40001" | "40P01" | "55P03")
}
