//! Jobs: how a confirmed change becomes one, how one is gone on with, and how what it did is taken back.
//!
//! Invariant: a job is in the record and in the store before anything of it happens in the database; its archive is there before the first
//! row is changed. Whoever typed the command waits for the job, and gets the answer that the statement alone would have given.

use crate::audit::event::Action;
use crate::audit::{Permit, Recording};
use crate::change::batch::{self, How, Plan};
use crate::change::challenge::{self, Draft, Redeemed};
use crate::change::preview::Manner;
use crate::change::preview::words::lasting;
use crate::database::quote;
use crate::ground::ids::JobId;
use crate::ground::limits;
use crate::policy::count::grouped;
use crate::policy::finding::Level;
use crate::protocol::postgres::message;
use crate::protocol::{Code, Refusal};
use crate::session::End;
use crate::session::desk::{Entry, manner};
use crate::session::held::Agreed;
use crate::session::jobs::no_store;
use crate::session::judgement::{Judgement, Subjected};
use crate::session::postgres::Session;
use crate::session::postgres::act::Form;
use crate::session::postgres::carry::{Drive, Driven};
use crate::session::postgres::look::Looked;
use crate::session::postgres::run::Run;
use crate::session::record;
use crate::session::tokens::{binding, misused};
use crate::store::jobs::{Job, Standing, State};
use crate::store::kept::{Challenge, Context, Needs, Preview, ProtocolKind};
use bytes::Bytes;

impl Session {
    /// A confirmed change that is larger than a batch is carried out in batches. `false`: it is to be run whole.
    pub(in crate::session) async fn run_in_batches(&mut self, judgement: &Judgement, run: &Run) -> Result<bool, End> {
        let Agreed::Counted { most } = run.agreed else { return Ok(false) };
        let ([piece], [evidence], false) = (&judgement.pieces[..], &judgement.evidence[..], judgement.reaches()) else {
            return Ok(false);
        };
        let open = self.talk.status() != b'I' || self.pipeline.executed || self.pipeline.bound;
        if open || !self.settings.takes_utf8 && !judgement.source.is_ascii() {
            self.tell_whole(judgement);
            return Ok(false);
        }
        if self.pipeline.open {
            self.end_unexecuted_pipeline().await?;
        }
        let mode = judgement.lexical;
        let How::Batches(outline) = batch::how(&piece.text, mode, &piece.facts, evidence, &judgement.sizes) else {
            return Ok(false);
        };
        let now = self.desk.house.clock.now();
        let Ok(id) = JobId::new(now) else { return Ok(false) };
        let asked = self.tell("SELECT pg_catalog.to_json(pg_catalog.now()) OPERATOR(pg_catalog.#>>) E'{}'").await?;
        let Some(moment) = asked.cell(0) else { return Ok(false) };
        let moment = format!("CAST({} AS pg_catalog.timestamptz)", quote::literal(moment));
        let Ok(walk) = outline.walk(&piece.text, mode, id, now, &moment) else {
            self.tell_whole(judgement);
            return Ok(false);
        };
        let last = self.tell(&walk.last()).await?;
        if let Some((_, why)) = last.error {
            let message = format!("sluice: where the rows end cannot be read, so nothing was changed: {why}");
            return self.refuse(&Refusal::new(Code::CannotKnow, message), run.form).await.map(|()| true);
        }
        let (permit, entry) = match self.permit_job(judgement, run.challenge, most) {
            Ok(permitted) => permitted,
            Err(refusal) => return self.refuse(&refusal, run.form).await.map(|()| true),
        };
        let plan = Plan {
            end: last.row(0),
            shape: outline.shape().to_owned(),
            context: binding(&judgement.context),
            batch_rows: judgement.sizes.batch_rows,
            sparse: outline.is_sparse(),
            walk,
        };
        let job = Job {
            id,
            holder: challenge::holder(&self.desk.house.listener, &self.desk.principal),
            of: None,
            challenge: run.challenge,
            statement: judgement.source.clone(),
            plan: serde_json::to_value(&plan).unwrap_or_default(),
            relation: quote::shown(&plan.walk.schema, &plan.walk.table).written,
            archive: quote::shown(&plan.walk.schema, &plan.walk.archive).written,
            standing: Standing { state: State::Running, rows: 0, batches: 0, why: String::new() },
            rows_shown: Some(outline.rows),
            rows_most: most,
            created: now,
            seen: now,
        };
        if let Err(error) = self.desk.house.store.job_create(job.clone()).await {
            self.desk.record_outcome(entry, Some(0), Some("SL007"), Some("its job could not be kept"));
            return self.refuse(&no_store(error), run.form).await.map(|()| true);
        }
        self.finish_job(Drive::new(job, plan, permit), entry, run.form).await?;
        Ok(true)
    }

    /// Batches were on offer, and it cannot be cut here.
    pub(in crate::session) fn tell_whole(&mut self, judgement: &Judgement) {
        if matches!(manner(judgement), Manner::Batches { .. }) {
            let words = "sluice: it runs whole here, without an archive: it stands in a transaction, or in a pipeline";
            self.link.client.send(message::warning(&self.said(&Refusal::new(Code::Paused, words))));
        }
    }

    /// `SLUICE RESUME`.
    pub(in crate::session) async fn resume(&mut self, id: &str, form: Form) -> Result<(), End> {
        let job = match self.desk.own_job(id).await {
            Ok(job) => job,
            Err(refusal) => return self.refuse(&refusal, form).await,
        };
        let (plan, judgement) = match self.fit_to_go_on(&job, form).await? {
            Ok(fit) => fit,
            Err(refusal) => return self.refuse(&refusal, form).await,
        };
        let (permit, entry) = match self.permit_job(&judgement, job.challenge, job.rows_most) {
            Ok(permitted) => permitted,
            Err(refusal) => return self.refuse(&refusal, form).await,
        };
        match self.desk.house.store.job_begin(job.id, self.desk.house.clock.now()).await {
            Ok(true) => self.finish_job(Drive::new(job, plan, permit), entry, form).await,
            Ok(false) => self.refuse(&Refusal::new(Code::Token, "sluice: the job is over"), form).await,
            Err(error) => self.refuse(&no_store(error), form).await,
        }
    }

    /// Whether a job may go on from this session as it was confirmed: the table and the meaning of its words are what they were.
    async fn fit_to_go_on(&mut self, job: &Job, form: Form) -> Result<Result<(Plan, Judgement), Refusal>, End> {
        if !matches!(job.standing.state, State::Running | State::Paused) {
            let state = job.standing.state.as_str();
            return Ok(Err(Refusal::new(
                Code::Token,
                format!("sluice: the job is {state}: there is nothing to go on with"),
            )));
        }
        if let Some(refusal) = self.must_be_outside(form) {
            return Ok(Err(refusal));
        }
        let Ok(plan) = serde_json::from_value::<Plan>(job.plan.clone()) else {
            return Ok(Err(Refusal::new(Code::CannotKnow, "sluice: the job's plan cannot be read")));
        };
        let text = match job.of {
            // Putting rows back is a change like any: a freeze holds for it too.
            Some(_) => plan.walk.back(1),
            None => job.statement.clone(),
        };
        let source = self.source(&Bytes::from(text));
        let judgement = match self.look(Subjected::Source(source), None).await? {
            Looked::At(judgement) => *judgement,
            Looked::Not(refusal) => return Ok(Err(refusal)),
            _ => {
                return Ok(Err(Refusal::new(
                    Code::CannotKnow,
                    "sluice: the job's statement is refused by the database now",
                )));
            }
        };
        if job.of.is_none() {
            if judgement.verdict.in_force() >= Level::Deny {
                return Ok(Err(self.desk.refusal(&judgement, ProtocolKind::Simple).await));
            }
            let table = judgement.evidence.first().and_then(|known| known.changes.first()?.table.known());
            if table.is_none_or(|table| table.shape != plan.shape) {
                let message = format!("sluice: {} is not what it was when the job was confirmed", job.relation);
                let hint = format!(
                    "SLUICE UNDO '{}' puts back what was changed; send the statement again for the rest.",
                    job.id
                );
                return Ok(Err(Refusal::new(Code::Denied, message).hint(hint)));
            }
            let differs = differing(&plan.context, &binding(&judgement.context));
            if let Some(name) = differs {
                let message = format!("sluice: {name} is not set here as it was when the job was confirmed");
                return Ok(Err(Refusal::new(Code::Token, message).hint("Set it as it was, and resume.")));
            }
        }
        Ok(Ok((plan, judgement)))
    }

    /// `SLUICE UNDO`: shown first.
    pub(in crate::session) async fn offer_undo(&mut self, id: &str, form: Form) -> Result<(), End> {
        let job = match self.undoable(id, form).await? {
            Ok((job, _)) => job,
            Err(refusal) => return self.refuse(&refusal, form).await,
        };
        let verb = if job.plan["walk"]["set"].is_null() { "deleted" } else { "updated" };
        let rows = grouped(job.standing.rows);
        let message = format!("sluice: this would put back the {rows} rows of {} that were {verb}", job.relation);
        let detail = format!(
            "job: {}\narchive: {}\nRows that somebody has changed since, or whose key is taken again, are left as they are, and counted.\nstatement:\n{}",
            job.id,
            job.archive,
            job.statement.lines().map(crate::session::commands::quoted).collect::<Vec<_>>().join("\n")
        );
        let statement = format!("SLUICE UNDO '{}'", job.id);
        let policy = self.desk.house.policy.load_full();
        let now = self.desk.house.clock.now();
        let sizes = self.desk.standing.get(&policy, &self.desk.principal, now).sizes;
        let draft = Draft {
            needs: Needs::Confirm,
            listener: &self.desk.house.listener,
            principal: &self.desk.principal,
            statement: &statement,
            parameters: None,
            protocol: ProtocolKind::Simple,
            context: &Context::new(),
            promise: serde_json::Value::Null,
            preview: Preview { message: message.clone(), detail: detail.clone() },
        };
        let made = challenge::issue(draft, sizes.token_ttl, now, |token| self.desk.house.store.hash(token));
        let Ok((token, challenge)) = made else {
            return self.refuse(&Refusal::new(Code::CannotKnow, "sluice: no token could be made"), form).await;
        };
        if let Err(error) = self.desk.house.store.create(challenge).await {
            return self.refuse(&no_store(error), form).await;
        }
        let hint = format!(
            "To put them back, batch by batch:\n  SLUICE CONFIRM '{}';      valid {}, once, for you",
            token,
            lasting(sizes.token_ttl)
        );
        self.refuse(&Refusal::new(Code::NeedsConfirming, message).detail(detail).hint(hint), form).await
    }

    /// A job that changed something, and may be taken back from here.
    async fn undoable(&mut self, id: &str, form: Form) -> Result<Result<(Job, Plan), Refusal>, End> {
        let job = match self.desk.own_job(id).await {
            Ok(job) => job,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if job.of.is_some() {
            return Ok(Err(Refusal::new(Code::Token, "sluice: the job is an undo itself: send the change again")));
        }
        if let Some(refusal) = self.must_be_outside(form) {
            return Ok(Err(refusal));
        }
        let Ok(plan) = serde_json::from_value::<Plan>(job.plan.clone()) else {
            return Ok(Err(Refusal::new(Code::CannotKnow, "sluice: the job's plan cannot be read")));
        };
        let told = self.tell(&plan.walk.done_so_far()).await?;
        let count =
            told.row(0).and_then(|row| Some((row.first()?.parse::<u64>().ok()?, row.get(2)?.parse::<u64>().ok()?)));
        let Some((rows, undone)) = count else {
            let why = told.error.map_or_else(|| "it cannot be read".to_owned(), |(_, why)| why);
            let message =
                format!("sluice: what the job changed cannot be put back: its archive {}: {why}", job.archive);
            return Ok(Err(Refusal::new(Code::CannotKnow, message)));
        };
        if rows == undone {
            let message =
                if rows == 0 { "sluice: the job changed nothing" } else { "sluice: all of it was put back already" };
            return Ok(Err(Refusal::new(Code::Token, message)));
        }
        let standing = Standing { rows: rows - undone, ..job.standing.clone() };
        Ok(Ok((Job { standing, ..job }, plan)))
    }

    /// A confirmed `SLUICE UNDO`.
    pub(in crate::session) async fn undo_job(
        &mut self,
        id: &str,
        challenge: &Challenge,
        form: Form,
    ) -> Result<(), End> {
        let (of, plan) = match self.undoable(id, form).await? {
            Ok(undoable) => undoable,
            Err(refusal) => return self.refuse(&refusal, form).await,
        };
        let now = self.desk.house.clock.now();
        let redeemed =
            match challenge::check(challenge, &self.desk.house.listener, &self.desk.principal, &challenge.context, now)
            {
                Ok(redeemable) => challenge::redeem(&self.desk.house.store, redeemable, now).await,
                Err(misuse) => Ok(Err(misuse)),
            };
        let redeemed: Redeemed = match redeemed {
            Ok(Ok(redeemed)) => redeemed,
            Ok(Err(misuse)) => return self.refuse(&misused(&misuse), form).await,
            Err(error) => return self.refuse(&no_store(error), form).await,
        };
        // Putting rows back is a change like any: a freeze holds for it too.
        let text = plan.walk.back(1);
        let source = self.source(&Bytes::from(text));
        let judgement = match self.look(Subjected::Source(source), None).await? {
            Looked::At(judgement) => *judgement,
            Looked::Not(refusal) => return self.refuse(&refusal, form).await,
            Looked::Wrong(error) => return self.fail_with(error.into_bytes(), form).await,
            Looked::Discarded | Looked::Missing => return Ok(()),
        };
        let (permit, entry) = match self.permit_job(&judgement, Some(redeemed.challenge().id), of.standing.rows) {
            Ok(permitted) => permitted,
            Err(refusal) => return self.refuse(&refusal, form).await,
        };
        let Ok(id) = JobId::new(now) else {
            return self.refuse(&Refusal::new(Code::CannotKnow, "sluice: no id could be made"), form).await;
        };
        let job = Job {
            id,
            of: Some(of.id),
            challenge: Some(redeemed.challenge().id),
            statement: format!("SLUICE UNDO '{}'", of.id),
            standing: Standing { state: State::Running, rows: 0, batches: 0, why: String::new() },
            rows_shown: Some(of.standing.rows),
            rows_most: of.standing.rows,
            created: now,
            seen: now,
            ..of
        };
        if let Err(error) = self.desk.house.store.job_create(job.clone()).await {
            self.desk.record_outcome(entry, Some(0), Some("SL007"), Some("its job could not be kept"));
            return self.refuse(&no_store(error), form).await;
        }
        self.finish_job(Drive::new(job, plan, permit), entry, form).await
    }

    /// The job is in the record before it begins.
    fn permit_job(
        &mut self,
        judgement: &Judgement,
        challenge: Option<crate::ground::ids::ChallengeId>,
        most: u64,
    ) -> Result<(Permit, Entry), Refusal> {
        let noted = self.desk.noted(judgement);
        let about = Recording {
            challenge,
            promised_rows: Some(most),
            statement: noted.text.as_deref(),
            fingerprint: noted.fingerprint.as_deref(),
            parameters: noted.parameters.as_deref(),
            plain: record::plain(judgement),
            reason: judgement.told.reason.as_deref(),
            ..self.desk.recording()
        };
        let frame = Bytes::from(judgement.source.clone());
        match self.desk.house.recorder.record(&judgement.verdict, Action::Confirmed, about, frame) {
            Ok(permit) => {
                let entry = Entry { line: permit.line(), challenge, rows_max: Some(most) };
                Ok((permit, entry))
            }
            Err(error) => Err(record::unrecorded(&error)),
        }
    }

    /// Carries it on, and answers whoever waits for it.
    async fn finish_job(&mut self, mut drive: Drive, entry: Entry, form: Form) -> Result<(), End> {
        self.desk.cache.clear();
        let driven = self.drive(&mut drive).await?;
        let (job, standing) = (&drive.job, drive.job.standing.clone());
        let rows = grouped(standing.rows);
        match driven {
            Driven::Done => {
                let note = format!("job {}: {} batches, archived in {}", job.id, standing.batches, job.archive);
                self.desk.record_outcome(entry, Some(standing.rows), None, Some(&note));
                let seconds = drive.took().as_secs_f64();
                let mut line = format!(
                    "sluice: job {}: done, {rows} rows in {} batches, {seconds:.1} s",
                    job.id, standing.batches
                );
                if job.of.is_none() && standing.rows > 0 {
                    line.push_str(&format!("; undo with: SLUICE UNDO '{}'", job.id));
                }
                self.tell_notice(&line);
                if job.of.is_some() {
                    self.tell_what_was_left(&drive).await?;
                }
                let verb = match (job.of, drive.plan.walk.is_update()) {
                    (Some(_), _) => "SLUICE UNDO",
                    (None, true) => "UPDATE",
                    (None, false) => "DELETE",
                };
                self.reply(message::command_complete(&format!("{verb} {}", standing.rows)));
                if form == Form::Simple {
                    self.reply(message::ready(self.talk.status()));
                }
                Ok(())
            }
            Driven::Paused(why) | Driven::Cancelled(why) => {
                self.desk.record_outcome(entry, Some(standing.rows), Some(Code::Paused.sqlstate()), Some(&why));
                if self.link.client.ended {
                    return Err(End::Client);
                }
                let of = job.rows_shown.map_or_else(String::new, |shown| format!(" of {}", grouped(shown)));
                let over = standing.state == State::Cancelled;
                let how = if over { "cancelled" } else { "paused" };
                let message = format!("sluice: the change was {how} after {rows}{of} rows: {why}");
                let mut lines = Vec::new();
                if !over {
                    lines.push(format!("SLUICE RESUME '{}' goes on with it.", job.id));
                }
                if standing.rows > 0 && job.of.is_none() {
                    lines.push(format!("SLUICE UNDO '{}' puts back what was changed.", job.id));
                }
                let refusal = Refusal::new(Code::Paused, message)
                    .detail(format!("job: {}\narchive: {}\nEvery batch so far is committed.", job.id, job.archive))
                    .hint(lines.join("\n"));
                self.refuse(&refusal, form).await
            }
        }
    }

    async fn tell_what_was_left(&mut self, drive: &Drive) -> Result<(), End> {
        let left = drive.job.rows_shown.unwrap_or_default().saturating_sub(drive.job.standing.rows);
        if left == 0 {
            return Ok(());
        }
        let told = self.tell(&drive.plan.walk.left(limits::LEFT_SHOWN_MAX)).await?;
        let keys: Vec<String> = told.each.first().map_or_else(Vec::new, |(answer, _)| {
            let key = |row: &Vec<Option<String>>| row.iter().flatten().cloned().collect::<Vec<_>>().join(", ");
            answer.rows.iter().map(key).collect()
        });
        let names: Vec<&str> = drive.plan.walk.key.iter().map(|column| column.name.as_str()).collect();
        let line = format!(
            "sluice: {} rows were left as they are, changed or taken again since: {} {}{}",
            grouped(left),
            names.join(", "),
            keys.join("; "),
            if left > limits::LEFT_SHOWN_MAX as u64 { "; …" } else { "" }
        );
        self.tell_notice(&line);
        Ok(())
    }

    /// Jobs commit batch by batch, so nothing of the client's may be open.
    fn must_be_outside(&self, form: Form) -> Option<Refusal> {
        let open =
            self.talk.status() != b'I' || form == Form::Extended && (self.pipeline.executed || self.pipeline.bound);
        open.then(|| {
            Refusal::new(Code::Token, "sluice: a job commits batch by batch, which it cannot in a transaction")
                .hint("COMMIT or ROLLBACK first.")
        })
    }
}

fn differing(was: &Context, now: &Context) -> Option<String> {
    let names = was.keys().chain(now.keys());
    names.into_iter().find(|name| was.get(*name) != now.get(*name)).cloned()
}
