//! Jobs on MySQL and MariaDB: how a confirmed change becomes one, how one is gone on with, and how what it did is taken back.
//!
//! Invariant: as for PostgreSQL: a job is in the record and in the store before anything of it happens in the database; its archive is
//! there before the first row is changed. Whoever typed the command waits for the job, and gets the answer that the statement alone
//! would have given; what there is to say of it stands among the warnings.

use crate::change::batch::{self, How, Plan};
use crate::change::challenge::{self, Redeemed};
use crate::change::preview::Manner;
use crate::database::batches::mysql::carried::Families;
use crate::database::batches::mysql::{self, Texts};
use crate::ground::ids::JobId;
use crate::ground::limits;
use crate::policy::finding::Level;
use crate::protocol::mysql::message::{self, Done};
use crate::protocol::mysql::response::{End as Said, Failure, Okay};
use crate::protocol::{Code, Refusal};
use crate::session::End;
use crate::session::desk::{Entry, manner};
use crate::session::driving::{Drive, Driven, Failed};
use crate::session::held::Agreed;
use crate::session::jobs::{is_more, is_over, lacking, no_store, runs, undo_of};
use crate::session::judgement::{Judgement, Piece};
use crate::session::mysql::Session;
use crate::session::mysql::carry::{cell, row};
use crate::session::mysql::look::Looked;
use crate::session::mysql::run::Run;
use crate::session::tokens::{binding, misused};
use crate::sql::facts::Facts;
use crate::sql::{self, rewrite};
use crate::store::jobs::{Job, Standing};
use crate::store::kept::{Challenge, Context, ProtocolKind};
use std::borrow::Cow;

impl Session {
    /// A confirmed change that is larger than a batch is carried out in batches. `false`: it is to be run whole.
    pub(in crate::session) async fn run_in_batches(&mut self, judgement: &Judgement, run: &Run) -> Result<bool, End> {
        let Agreed::Counted { most } = run.agreed else { return Ok(false) };
        let ([piece], [evidence], false) = (&judgement.pieces[..], &judgement.evidence[..], judgement.reaches()) else {
            return Ok(false);
        };
        let mode = judgement.lexical;
        let Some((text, facts)) = with_values(judgement, piece) else {
            self.say_whole(judgement);
            return Ok(false);
        };
        let How::Batches(outline) = batch::how(&text, mode, &facts, evidence, &judgement.sizes) else {
            return Ok(false);
        };
        if self.in_transaction() || !self.autocommits() || self.locked {
            self.say_whole(judgement);
            return Ok(false);
        }
        self.keep_aftermath().await?;
        let now = self.desk.house.clock.now();
        let Ok(id) = JobId::new(now) else { return Ok(false) };
        let walk = match outline.walk(&text, mode, id, now, None) {
            Ok(walk) => walk,
            Err(_) => {
                self.say_whole(judgement);
                return Ok(false);
            }
        };
        let (schema, table) = outline.table();
        let asked = self.tell(&mysql::ask_definitions(schema, table)).await?;
        let clock = self.tell("SELECT UNIX_TIMESTAMP(NOW(6))").await?;
        let (Some(columns), Some(clock)) = (mysql::definitions(&asked.answer.rows), cell(&clock, 0)) else {
            self.say_whole(judgement);
            return Ok(false);
        };
        let walk = walk.defined(&columns);
        let mut members = outline.members(id, now, piece.facts.product);
        for member in &mut members {
            let asked = self.tell(&mysql::ask_definitions(&member.walk.schema, &member.walk.table)).await?;
            let Some(columns) = mysql::definitions(&asked.answer.rows) else {
                let message =
                    format!("sluice: nothing was changed: the columns of {} cannot be read", member.walk.table);
                return self.refuse(&Refusal::new(Code::CannotKnow, message)).await.map(|()| true);
            };
            member.walk = member.walk.clone().defined(&columns);
        }
        let last = self.tell_long(&Texts::of(&walk).last()).await?;
        if let Some(failure) = last.end.failed() {
            let why = &failure.message;
            let message = format!("sluice: where the rows end cannot be read, so nothing was changed: {why}");
            return self.refuse(&Refusal::new(Code::CannotKnow, message)).await.map(|()| true);
        }
        let born = self.tell(&Texts::of(&walk).born()).await?;
        let mut context = binding(&judgement.context);
        let carries_values = judgement.parameters.is_some() || !judgement.source.contains(piece.text.trim());
        if carries_values {
            // What stood behind a name stands in the job itself.
            context.retain(|name, _| name != "prepared" && name != "arguments");
        }
        context.extend(self.zone().await?);
        let (permit, entry) = match self.desk.permit_job(judgement, run.challenge, most, None) {
            Ok(permitted) => permitted,
            Err(refusal) => return self.refuse(&refusal).await.map(|()| true),
        };
        let plan = Plan {
            end: row(&last),
            shape: outline.shape().to_owned(),
            context,
            batch_rows: judgement.sizes.batch_rows,
            sparse: outline.is_sparse(),
            // What stamps a row that is updated (ON UPDATE CURRENT_TIMESTAMP) reads it, too.
            moment: (walk.is_update() || batch::reads_clock(&text, mode)).then(|| clock.to_owned()),
            unique: outline.unique_keys().to_vec(),
            oid: cell(&born, 0).map(str::to_owned),
            members,
            guards: outline.guards(),
            is_partitioned: outline.is_partitioned(),
            reads: outline.reads().to_vec(),
            functions: Vec::new(),
            called: None,
            columns: Vec::new(),
            carries: outline.carries(),
            rows_below: outline.carried,
            most_below: judgement
                .promise
                .at_most(judgement.sizes.tolerance)
                .cascade
                .filter(|_| outline.carries())
                .map(|most| most.saturating_add(outline.twice)),
            walk,
        };
        let shown = outline.rows.saturating_add(outline.carried);
        let mut job =
            self.desk.new_job(id, &plan, judgement, run.challenge, (shown, most.saturating_add(outline.twice)));
        if carries_values {
            // As it is carried out: without its values, or by a name, it would be another statement's.
            job.statement = text.clone().into_owned();
        }
        if let Err(error) = self.desk.house.store.job_create(job.clone()).await {
            self.desk.record_outcome(entry, Some(0), Some("SL007"), Some("its job could not be kept"));
            return self.refuse(&no_store(error)).await.map(|()| true);
        }
        self.finish_job(Drive::new(job, plan, permit), entry).await?;
        Ok(true)
    }

    /// Batches were on offer, and it cannot be cut here.
    pub(in crate::session) fn say_whole(&mut self, judgement: &Judgement) {
        if matches!(manner(judgement), Manner::Batches { .. }) {
            let words =
                "sluice: it runs whole here, without an archive: it stands in a transaction, or behind LOCK TABLES";
            self.aftermath.warn(words.to_owned());
        }
    }

    /// `SLUICE RESUME`.
    pub(in crate::session) async fn resume(&mut self, id: &str) -> Result<(), End> {
        let job = match self.desk.own_job(id).await {
            Ok(job) => job,
            Err(refusal) => return self.refuse(&refusal).await,
        };
        let (plan, judgement) = match self.fit_to_go_on(&job).await? {
            Ok(fit) => fit,
            Err(refusal) => return self.refuse(&refusal).await,
        };
        self.keep_aftermath().await?;
        let (permit, entry) = match self.desk.permit_job(
            &judgement,
            job.challenge,
            job.rows_most,
            job.of.is_some().then_some(&*job.statement),
        ) {
            Ok(permitted) => permitted,
            Err(refusal) => return self.refuse(&refusal).await,
        };
        self.finish_job(Drive::new(job, plan, permit), entry).await
    }

    /// Whether a job may go on from this session as it was confirmed: the table and the meaning of its words are what they were.
    async fn fit_to_go_on(&mut self, job: &Job) -> Result<Result<(Plan, Judgement), Refusal>, End> {
        if let Some(refusal) = is_over(job).or_else(|| self.must_be_outside()) {
            return Ok(Err(refusal));
        }
        let Ok(plan) = serde_json::from_value::<Plan>(job.plan.clone()) else {
            return Ok(Err(unreadable()));
        };
        let text = match job.of {
            // Putting rows back is a change like any: a freeze holds for it too.
            Some(_) => Texts::of(&plan.walk).back(1, ""),
            None => job.statement.clone(),
        };
        let judgement = match self.judgement_of(&text).await? {
            Ok(judgement) => judgement,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let more = self.zone().await?;
        match self.desk.unfit(job, &plan, &judgement, more).await {
            Some(refusal) => Ok(Err(refusal)),
            None => Ok(Ok((plan, judgement))),
        }
    }

    async fn judgement_of(&mut self, text: &str) -> Result<Result<Judgement, Refusal>, End> {
        self.be_ready_to_read().await?;
        let source = match self.source_of(text) {
            Ok(source) => source,
            Err(refusal) => return Ok(Err(refusal)),
        };
        Ok(match self.look(source, None).await? {
            Looked::At(judgement) => Ok(*judgement),
            Looked::Not(refusal) => Err(refusal),
            Looked::Wrong(failure) => {
                let message =
                    format!("sluice: the job's statement is refused by the database now: {}", failure.message);
                Err(Refusal::new(Code::CannotKnow, message))
            }
        })
    }

    /// `SLUICE UNDO`: shown first.
    pub(in crate::session) async fn offer_undo(&mut self, id: &str) -> Result<(), End> {
        let job = match self.undoable(id).await? {
            Ok((job, _)) => job,
            Err(refusal) => return self.refuse(&refusal).await,
        };
        let refusal = self.desk.undo_offer(&job).await;
        self.refuse(&refusal).await
    }

    /// A job that changed something, and may be taken back from here.
    async fn undoable(&mut self, id: &str) -> Result<Result<(Job, Plan), Refusal>, End> {
        let job = match self.desk.own_job(id).await {
            Ok(job) => job,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if let Some(at) = job.dropped {
            let message =
                format!("sluice: its archive was dropped, past its retention, on {}", at.strftime("%Y-%m-%d"));
            return Ok(Err(Refusal::new(Code::Token, message)));
        }
        if job.of.is_some() {
            return Ok(Err(Refusal::new(Code::Token, "sluice: the job is an undo itself: send the change again")));
        }
        if let Some(refusal) = self.must_be_outside() {
            return Ok(Err(refusal));
        }
        let Ok(plan) = serde_json::from_value::<Plan>(job.plan.clone()) else {
            return Ok(Err(unreadable()));
        };
        self.keep_aftermath().await?;
        // Nobody runs it now, whatever the store heard last.
        if !self.lock_job(&job).await? {
            return Ok(Err(runs()));
        }
        self.unlock_job(&job).await?;
        let told = self.tell_long(&Families::of(plan.family()).done_so_far()).await?;
        let number = |at: usize| cell(&told, at).and_then(|digits| digits.parse::<u64>().ok());
        let (Some(rows), Some(undone)) = (number(0), number(2)) else {
            let why = told.end.failed().map_or("it cannot be read", |failure| &failure.message);
            let message =
                format!("sluice: what the job changed cannot be put back: its archive {}: {why}", job.archive);
            return Ok(Err(Refusal::new(Code::CannotKnow, message)));
        };
        if rows == undone {
            let message =
                if rows == 0 { "sluice: the job changed nothing" } else { "sluice: all of it was put back already" };
            return Ok(Err(Refusal::new(Code::Token, message)));
        }
        let lost = job.standing.rows.saturating_sub(rows);
        let why = lacking(lost).unwrap_or_default();
        let standing = Standing { rows: rows - undone, why, ..job.standing.clone() };
        Ok(Ok((Job { standing, ..job }, plan)))
    }

    /// A confirmed `SLUICE UNDO`.
    pub(in crate::session) async fn undo_job(&mut self, id: &str, challenge: &Challenge) -> Result<(), End> {
        let (of, plan) = match self.undoable(id).await? {
            Ok(undoable) => undoable,
            Err(refusal) => return self.refuse(&refusal).await,
        };
        if let Some(refusal) = is_more(&of, challenge) {
            return self.refuse(&refusal).await;
        }
        let now = self.desk.house.clock.now();
        let (listener, principal) = (&self.desk.house.listener, &self.desk.principal);
        let redeemed = match challenge::check(challenge, listener, principal, &challenge.context, now) {
            Ok(redeemable) => challenge::redeem(&self.desk.house.store, redeemable, now).await,
            Err(misuse) => Ok(Err(misuse)),
        };
        let redeemed: Redeemed = match redeemed {
            Ok(Ok(redeemed)) => redeemed,
            Ok(Err(misuse)) => return self.refuse(&misused(&misuse)).await,
            Err(error) => return self.refuse(&no_store(error)).await,
        };
        let judgement = match self.judgement_of(&Texts::of(&plan.walk).back(1, "")).await? {
            Ok(judgement) => judgement,
            Err(refusal) => return self.refuse(&refusal).await,
        };
        if judgement.verdict.in_force() >= Level::Deny {
            let refusal = self.desk.refusal(&judgement, ProtocolKind::Simple).await;
            return self.refuse(&refusal).await;
        }
        self.keep_aftermath().await?;
        let challenge_id = redeemed.challenge().id;
        let (permit, entry) =
            match self.desk.permit_job(&judgement, Some(challenge_id), of.standing.rows, Some(&challenge.statement)) {
                Ok(permitted) => permitted,
                Err(refusal) => return self.refuse(&refusal).await,
            };
        let Ok(id) = JobId::new(now) else {
            return self.refuse(&Refusal::new(Code::CannotKnow, "sluice: no id could be made")).await;
        };
        let job = undo_of(of, id, challenge_id, now);
        if let Err(error) = self.desk.house.store.job_create(job.clone()).await {
            self.desk.record_outcome(entry, Some(0), Some("SL007"), Some("its job could not be kept"));
            return self.refuse(&no_store(error)).await;
        }
        self.finish_job(Drive::new(job, plan, permit), entry).await
    }

    /// Carries it on, and answers whoever waits for it.
    async fn finish_job(&mut self, mut drive: Drive, entry: Entry) -> Result<(), End> {
        self.desk.cache.clear();
        let driven = self.drive(&mut drive).await?;
        let (job, standing) = (drive.job.clone(), drive.job.standing.clone());
        match driven {
            Driven::Done => {
                let note = format!("job {}: {} batches, archived in {}", job.id, standing.batches, job.archive);
                self.desk.record_outcome(entry, Some(drive.rows_now()), None, Some(&note));
                self.aftermath.note(drive.done_line());
                if drive.left() > 0 && job.of.is_some() {
                    let keys = self.keys_left(&drive).await?;
                    self.aftermath.warn(drive.left_line(&keys));
                }
                self.answer_done(&drive);
                Ok(())
            }
            Driven::Refused(why, failed) => {
                self.desk.record_outcome(entry, Some(0), Some(failed.state()), Some(&why));
                match failed {
                    Failed::Told { number, state, message } => {
                        self.answer_failure(Failure { errno: number, sqlstate: state, message });
                        Ok(())
                    }
                    Failed::AsItCame { .. } => self.refuse(&Refusal::new(Code::Upstream, why)).await,
                }
            }
            Driven::Elsewhere(why) => {
                self.desk.record_outcome(entry, Some(0), Some(Code::Paused.sqlstate()), Some(why));
                let message = format!("sluice: nothing was done: {why}");
                let hint = "SLUICE JOBS shows where it stands.";
                self.refuse(&Refusal::new(Code::Paused, message).hint(hint)).await
            }
            Driven::Paused(why) | Driven::Cancelled(why) => {
                self.desk.record_outcome(entry, Some(drive.rows_now()), Some(Code::Paused.sqlstate()), Some(&why));
                if self.link.client.ended {
                    return Err(End::Client);
                }
                self.refuse(&drive.stopped(&why)).await
            }
        }
    }

    /// Archives of this user's that are past their retention go, behind a job: Sluice has no rights of its own here.
    pub(in crate::session) async fn drop_expired(&mut self) -> Result<(), End> {
        for job in self.desk.expired_jobs().await {
            let Ok(plan) = serde_json::from_value::<Plan>(job.plan.clone()) else { continue };
            if !self.lock_job(&job).await? {
                continue;
            }
            let mut texts = Vec::new();
            for walk in plan.family().walks() {
                let own = self.tell(&Texts::of(walk).is_archive_of(&job.id.to_string())).await?;
                // What somebody else put in its place is not ours to drop.
                texts.extend((cell(&own, 0) == Some("1")).then(|| Texts::of(walk).drop_archive()));
            }
            let recorded = texts.is_empty() || self.desk.record_drop(&job).is_ok();
            let mut dropped = recorded;
            for text in texts.iter().filter(|_| recorded) {
                dropped &= self.tell(text).await?.end.failed().is_none();
            }
            if dropped {
                if !texts.is_empty() {
                    let line = format!("sluice: the archive of job {} was dropped: it was past its retention", job.id);
                    self.aftermath.note(line);
                }
                let now = self.desk.house.clock.now();
                if let Err(error) = self.desk.house.store.job_dropped(job.id, now).await {
                    tracing::error!(job = %job.id, %error, "that an archive was dropped could not be kept");
                }
            }
            self.unlock_job(&job).await?;
        }
        Ok(())
    }

    /// Keys of rows that an undo left, some of them.
    async fn keys_left(&mut self, drive: &Drive) -> Result<Vec<String>, End> {
        let unhexed =
            |cell: &Option<String>| crate::database::quote::mysql::unhex(cell.as_deref()?).or_else(|| cell.clone());
        let mut keys = Vec::new();
        for (at, walk) in drive.plan.family().walks().enumerate() {
            let told = self.tell(&Texts::of(walk).left(limits::LEFT_SHOWN_MAX.saturating_sub(keys.len()))).await?;
            let named = if at > 0 { format!("{} ", walk.table) } else { String::new() };
            let key = |row: &Vec<Option<String>>| row.iter().filter_map(unhexed).collect::<Vec<_>>().join(", ");
            keys.extend(told.answer.rows.iter().map(|row| format!("{named}{}", key(row))));
        }
        Ok(keys)
    }

    /// As the statement alone would have been answered.
    fn answer_done(&mut self, drive: &Drive) {
        let rows = if drive.job.of.is_some() { drive.job.standing.rows } else { drive.own_rows() };
        let is_update = drive.job.of.is_none() && drive.plan.walk.is_update();
        // What was changed before it was resumed is not known as exactly.
        let affected = if is_update && drive.before == 0 { drive.changed } else { rows };
        let warnings = self.aftermath.coming();
        let info = match is_update {
            true => format!("Rows matched: {rows}  Changed: {affected}  Warnings: {warnings}"),
            false => String::new(),
        };
        let done = Done { affected, status: self.status, warnings, info: &info, ..Done::default() };
        let okay = Okay { affected, last_insert_id: 0, status: self.status, warnings: 0, ..Okay::default() };
        self.aftermath.followed_by(&Said::Okay(okay));
        self.aftermath.keep(None, None);
        self.reply(message::ok(self.to_client(), &done));
    }

    /// What moments, texts and quotients in the text mean depends on it.
    async fn zone(&mut self) -> Result<Context, End> {
        const NAMES: [&str; 6] = [
            "time_zone",
            "collation_connection",
            "character_set_connection",
            "div_precision_increment",
            "default_week_format",
            "lc_time_names",
        ];
        let asked = NAMES.map(|name| format!("@@SESSION.{name}")).join(", ");
        let told = self.tell(&format!("SELECT {asked}")).await?;
        let value = |(at, name): (usize, &&str)| Some(((*name).to_owned(), cell(&told, at)?.to_owned()));
        Ok(NAMES.iter().enumerate().filter_map(value).collect())
    }

    /// Jobs commit batch by batch, so nothing of the client's may be open.
    fn must_be_outside(&self) -> Option<Refusal> {
        let open = self.in_transaction() || !self.autocommits() || self.locked;
        open.then(|| {
            let message = "sluice: a job commits batch by batch, which it cannot in a transaction, without autocommit, or behind LOCK TABLES";
            Refusal::new(Code::Token, message).hint("COMMIT or ROLLBACK first; SET autocommit = 1; UNLOCK TABLES.")
        })
    }
}

/// The statement with its values in it.
fn with_values<'a>(judgement: &Judgement, piece: &'a Piece) -> Option<(Cow<'a, str>, Cow<'a, Facts>)> {
    let Some(parameters) = judgement.parameters.as_ref().filter(|_| piece.facts.parameters > 0) else {
        return Some((Cow::Borrowed(piece.text.as_str()), Cow::Borrowed(&piece.facts)));
    };
    // What the server makes of those is not written into a text.
    if parameters.literals.iter().any(|literal| literal.starts_with("(0.0 + ")) {
        return None;
    }
    let mode = judgement.lexical;
    let text = rewrite::mysql::with_literals(&piece.text, mode, &parameters.literals)?;
    let mut reading = sql::read(&text, mode);
    let read = reading.statements.pop().filter(|_| reading.statements.is_empty());
    read.map(|statement| (Cow::Owned(text), Cow::Owned(statement.facts)))
}

fn unreadable() -> Refusal {
    Refusal::new(Code::CannotKnow, "sluice: the job's plan cannot be read")
}
