//! Jobs as commands show them and steer them: what of that needs neither the client's wire nor the database's.
//!
//! Invariant: whoever may use a database sees its jobs; only who began a job, by the same name on the same listener, steers it.

use crate::audit::event::Action;
use crate::audit::{Permit, Recording};
use crate::change::batch::{self, Plan};
use crate::change::challenge::{self, Draft};
use crate::change::preview::words::lasting;
use crate::database::quote;
use crate::ground::ids::{ChallengeId, JobId};
use crate::ground::limits;
use crate::policy::count::grouped;
use crate::policy::finding::Level;
use crate::protocol::{Code, Refusal};
use crate::session::commands::{Table, quoted, some, usage};
use crate::session::desk::{Desk, Entry};
use crate::session::judgement::Judgement;
use crate::session::record;
use crate::session::tokens::binding;
use crate::store::StoreError;
use crate::store::jobs::{Job, Standing, State, Wanted};
use crate::store::kept::{Challenge, Context, Needs, Preview, ProtocolKind};
use bytes::Bytes;
use jiff::Timestamp;
use std::time::Duration;

pub(in crate::session) const COLUMNS: &[&str] =
    &["id", "state", "table", "rows", "of", "batches", "why", "by", "begun", "undo"];

impl Desk {
    pub(in crate::session) async fn jobs(&self) -> Result<Table, Refusal> {
        let jobs = self.house.store.jobs(&self.house.listener, &self.principal.database).await.map_err(no_store)?;
        Ok(jobs.iter().map(|job| self.job_row(job)).collect())
    }

    fn job_row(&self, job: &Job) -> Vec<Option<String>> {
        let standing = &job.standing;
        let undo = match (job.of, standing.rows) {
            (Some(of), _) => Some(format!("undoes {of}")),
            (None, 0) => None,
            (None, _) if job.dropped.is_some() => Some("its archive is gone".to_owned()),
            (None, _) => Some(format!("SLUICE UNDO '{}'", job.id)),
        };
        vec![
            Some(job.id.to_string()),
            Some(self.state_of(job)),
            Some(job.relation.clone()),
            Some(standing.rows.to_string()),
            job.rows_shown.map(|rows| rows.to_string()),
            Some(standing.batches.to_string()),
            Some(standing.why.clone()).filter(|why| !why.is_empty()),
            Some(job.holder.user.clone()),
            Some(job.created.strftime("%Y-%m-%d %H:%M UTC").to_string()),
            undo,
        ]
    }

    /// What stands in the store is what was last heard.
    fn state_of(&self, job: &Job) -> String {
        let age = self.house.clock.now().duration_since(job.seen);
        match job.standing.state {
            State::Running if age > limits::JOB_SILENT.try_into().unwrap_or_default() => {
                format!("running, not heard of for {} s: SLUICE RESUME goes on, if it is interrupted", age.as_secs())
            }
            state => state.as_str().to_owned(),
        }
    }

    pub(in crate::session) async fn job(&self, id: &str) -> Result<Table, Refusal> {
        let job = self.find_job(id).await?;
        let mut rows: Table = Vec::new();
        for (name, value) in COLUMNS.iter().zip(self.job_row(&job)) {
            rows.push(vec![some(name), value]);
        }
        rows.extend(archives_of(&job).into_iter().map(|name| vec![some("archive"), Some(name)]));
        if let Some(until) = expiry(&job, self.house.policy.load().jobs.archive_retention) {
            let said = until.strftime("%Y-%m-%d %H:%M UTC").to_string();
            rows.push(vec![
                some("archived until"),
                Some(if job.dropped.is_some() { "dropped".to_owned() } else { said }),
            ]);
        }
        if let Some(rate) = job.throttle {
            rows.push(vec![
                some("throttle"),
                Some(if rate == 0 { "OFF".to_owned() } else { format!("{rate} rows/s") }),
            ]);
        }
        rows.push(vec![some("at most"), Some(job.rows_most.to_string())]);
        rows.extend(job.statement.lines().map(|line| vec![some("statement"), Some(quoted(line))]));
        Ok(rows)
    }

    /// Asks whoever runs it to stop.
    pub(in crate::session) async fn want(&self, id: &str, wanted: Wanted) -> Result<Table, Refusal> {
        let job = self.own_job(id).await?;
        match self.house.store.job_want(job.id, wanted, self.house.clock.now()).await.map_err(no_store)? {
            true => Ok(vec![vec![Some(job.id.to_string()), some(wanted.as_str())]]),
            false => {
                let state = job.standing.state.as_str();
                Err(Refusal::new(Code::Token, format!("sluice: the job is {state}: there is nothing to stop")))
            }
        }
    }

    /// How many rows a second a job may change; 0: as many as it can.
    pub(in crate::session) async fn throttle(&self, id: &str, rows: u64) -> Result<Table, Refusal> {
        let job = self.own_job(id).await?;
        match self.house.store.job_throttle(job.id, rows).await.map_err(no_store)? {
            true => {
                let said = if rows == 0 { "as many as it can".to_owned() } else { grouped(rows) };
                Ok(vec![vec![Some(job.id.to_string()), Some(said)]])
            }
            false => {
                let state = job.standing.state.as_str();
                Err(Refusal::new(Code::Token, format!("sluice: the job is {state}: there is nothing to slow down")))
            }
        }
    }

    /// What jobs of this database have archived, and until when it is kept.
    pub(in crate::session) async fn archives(&self) -> Result<Table, Refusal> {
        let jobs = self.house.store.jobs(&self.house.listener, &self.principal.database).await.map_err(no_store)?;
        let retention = self.house.policy.load().jobs.archive_retention;
        let day = |at: Timestamp| at.strftime("%Y-%m-%d %H:%M UTC").to_string();
        let mut rows = Table::new();
        for job in jobs.iter().filter(|job| job.of.is_none()) {
            let until = match (job.dropped, expiry(job, retention)) {
                (Some(at), _) => format!("dropped {}", day(at)),
                (None, Some(at)) => day(at),
                (None, None) => "dropped by hand".to_owned(),
            };
            for name in archives_of(job) {
                let (id, by) = (Some(job.id.to_string()), Some(job.holder.user.clone()));
                rows.push(vec![
                    Some(name),
                    Some(job.relation.clone()),
                    id,
                    by,
                    Some(day(job.created)),
                    Some(until.clone()),
                ]);
            }
        }
        Ok(rows)
    }

    /// Jobs of this principal whose archives are past their retention, where nothing forbids a change now.
    pub(in crate::session) async fn expired_jobs(&mut self) -> Vec<Job> {
        let (policy, now) = (self.house.policy.load_full(), self.house.clock.now());
        let frozen = self.standing.get(&policy, &self.principal, now).frozen.is_some();
        let before = policy.jobs.archive_retention.and_then(|kept| now.checked_sub(kept).ok());
        let Some(before) = before.filter(|_| !frozen) else { return Vec::new() };
        let holder = challenge::holder(&self.house.listener, &self.principal);
        self.house.store.jobs_expired(&holder, before).await.unwrap_or_default()
    }

    /// Recorded before it is done. `Err`: it cannot be.
    pub(in crate::session) fn record_drop(&self, job: &Job) -> Result<(), Refusal> {
        let names = archives_of(job).join(", ");
        let about = format!("DROP ARCHIVE of job {}: {names}, past [jobs] archive_retention", job.id);
        self.house
            .recorder
            .command(self.recording(), &about, None)
            .map(|_| ())
            .map_err(|error| record::unrecorded(&error))
    }

    pub(in crate::session) async fn find_job(&self, id: &str) -> Result<Job, Refusal> {
        let id: JobId = id.parse().map_err(|_| usage("that is no job's id; SLUICE JOBS shows them"))?;
        let found = self.house.store.job(id, &self.house.listener, &self.principal.database).await.map_err(no_store)?;
        found.ok_or_else(|| Refusal::new(Code::Token, "sluice: there is no such job in this database"))
    }

    /// One that this principal may steer.
    pub(in crate::session) async fn own_job(&self, id: &str) -> Result<Job, Refusal> {
        let job = self.find_job(id).await?;
        match job.holder == challenge::holder(&self.house.listener, &self.principal) {
            true => Ok(job),
            false => Err(Refusal::new(Code::Denied, format!("sluice: denied: the job is {}'s", job.holder.user))),
        }
    }
}

impl Desk {
    /// The job is in the record before it begins, by the command of ours that it goes back to, if it is not the statement itself.
    pub(in crate::session) fn permit_job(
        &self,
        judgement: &Judgement,
        challenge: Option<crate::ground::ids::ChallengeId>,
        most: u64,
        command: Option<&str>,
    ) -> Result<(Permit, Entry), Refusal> {
        let noted = self.noted(judgement);
        let about = Recording {
            challenge,
            promised_rows: Some(most),
            statement: command.or(noted.text.as_deref()),
            fingerprint: noted.fingerprint.as_deref(),
            parameters: noted.parameters.as_deref(),
            plain: record::plain(judgement),
            reason: judgement.told.reason.as_deref(),
            ..self.recording()
        };
        let frame = Bytes::from(judgement.source.clone());
        match self.house.recorder.record(&judgement.verdict, Action::Confirmed, about, frame) {
            Ok(permit) => {
                let entry = Entry { line: permit.line(), challenge, rows_max: Some(most) };
                Ok((permit, entry))
            }
            Err(error) => Err(record::unrecorded(&error)),
        }
    }

    /// `rows`: as shown, and the most that were agreed to.
    pub(in crate::session) fn new_job(
        &self,
        id: JobId,
        plan: &Plan,
        judgement: &Judgement,
        challenge: Option<ChallengeId>,
        (shown, most): (u64, u64),
    ) -> Job {
        let now = self.house.clock.now();
        let product = judgement.pieces.first().map(|piece| piece.facts.product).unwrap_or_default();
        let shown_name = |name: &str| quote::shown_by(product)(&plan.walk.schema, name).written;
        Job {
            id,
            holder: challenge::holder(&self.house.listener, &self.principal),
            of: None,
            challenge,
            statement: judgement.source.clone(),
            plan: serde_json::to_value(plan).unwrap_or_default(),
            relation: shown_name(&plan.walk.table),
            archive: shown_name(&plan.walk.archive),
            standing: Standing { state: State::Running, rows: 0, batches: 0, why: String::new() },
            rows_shown: Some(shown),
            rows_most: most,
            created: now,
            seen: now,
            throttle: None,
            dropped: None,
        }
    }

    /// A job of the same statement that was not carried to its end: what it changed would be changed again.
    pub(in crate::session) async fn unfinished(&self, statement: &str) -> Option<String> {
        let jobs = self.house.store.jobs(&self.house.listener, &self.principal.database).await.ok()?;
        let holder = challenge::holder(&self.house.listener, &self.principal);
        let open = |job: &&Job| {
            job.of.is_none() && is_over(job).is_none() && job.statement == statement && job.holder == holder
        };
        let job = jobs.iter().find(open)?;
        let (id, rows) = (job.id, grouped(job.standing.rows));
        let state = job.standing.state.as_str();
        Some(format!(
            "The same statement is {state} as job {id}, {rows} rows done: SLUICE RESUME '{id}' goes on with it; sent anew it begins anew."
        ))
    }

    /// `SLUICE UNDO` is shown first: what it would do, with a token.
    pub(in crate::session) async fn undo_offer(&mut self, job: &Job) -> Refusal {
        let verb = if job.plan["walk"]["set"].is_null() { "deleted" } else { "updated" };
        let rows = grouped(job.standing.rows);
        let below = match job.plan["members"].as_array().map_or(0, Vec::len) {
            0 => String::new(),
            1 => " and the table below it".to_owned(),
            tables => format!(" and {tables} tables below it"),
        };
        let message =
            format!("sluice: this would put back the {rows} rows of {}{below} that were {verb}", job.relation);
        let lost = if job.standing.why.is_empty() { String::new() } else { format!("{}\n", job.standing.why) };
        let detail = format!(
            "{lost}job: {}\narchive: {}\nRows that somebody has changed since, or whose key is taken again, are left as they are, and counted.\nstatement:\n{}",
            job.id,
            job.archive,
            job.statement.lines().map(quoted).collect::<Vec<_>>().join("\n")
        );
        let statement = format!("SLUICE UNDO '{}'", job.id);
        let policy = self.house.policy.load_full();
        let now = self.house.clock.now();
        let sizes = self.standing.get(&policy, &self.principal, now).sizes;
        let draft = Draft {
            needs: Needs::Confirm,
            listener: &self.house.listener,
            principal: &self.principal,
            statement: &statement,
            parameters: None,
            protocol: ProtocolKind::Simple,
            context: &Context::new(),
            promise: serde_json::json!({ "rows": job.standing.rows }),
            preview: Preview { message: message.clone(), detail: detail.clone() },
        };
        let made = challenge::issue(draft, sizes.token_ttl, now, |token| self.house.store.hash(token));
        let Ok((token, challenge)) = made else {
            return Refusal::new(Code::CannotKnow, "sluice: no token could be made");
        };
        if let Err(error) = self.house.store.create(challenge).await {
            return no_store(error);
        }
        let hint = format!(
            "To put them back, batch by batch:\n  SLUICE CONFIRM '{}';      valid {}, once, for you",
            token,
            lasting(sizes.token_ttl)
        );
        Refusal::new(Code::NeedsConfirming, message).detail(detail).hint(hint)
    }

    /// Why a job cannot go on from this session as it was confirmed: the table and the meaning of its words must be what they were.
    pub(in crate::session) async fn unfit(
        &mut self,
        job: &Job,
        plan: &Plan,
        judgement: &Judgement,
        more: Context,
    ) -> Option<Refusal> {
        if judgement.verdict.in_force() >= Level::Deny {
            let refusal = self.refusal(judgement, ProtocolKind::Simple).await;
            let most = grouped(job.rows_most);
            let hint = format!(
                "The job stands where it stood; up to {most} rows were agreed to. What the session said of that then (sluice.max_affected), it must say now."
            );
            return Some(refusal.hint(hint));
        }
        if job.of.is_some() {
            return None;
        }
        let table = judgement.evidence.first().and_then(|known| known.changes.first()?.table.known());
        if table.is_none_or(|table| table.shape != plan.shape) {
            let message = format!("sluice: {} is not what it was when the job was confirmed", job.relation);
            let hint =
                format!("SLUICE UNDO '{}' puts back what was changed; send the statement again for the rest.", job.id);
            return Some(Refusal::new(Code::Denied, message).hint(hint));
        }
        let facts = judgement.pieces.first().map(|piece| &piece.facts);
        let known = judgement.evidence.first().and_then(|known| known.changes.first());
        let reads = facts.zip(known).map_or_else(Vec::new, |(facts, known)| batch::others(facts, known));
        if reads != plan.reads {
            let message = "sluice: the statement reads other tables than it did when the job was confirmed";
            return Some(Refusal::new(Code::Denied, message));
        }
        let (was, mut now) = (&plan.context, binding(&judgement.context));
        now.extend(more);
        let name = was.keys().chain(now.keys()).find(|name| was.get(*name) != now.get(*name))?;
        let message = format!("sluice: {name} is not set here as it was when the job was confirmed");
        let set = |context: &Context| context.get(name).map_or_else(|| "not known".to_owned(), |value| quoted(value));
        let hint = format!("Set it as it was, and resume. It was {}, and is {}.", set(was), set(&now));
        Some(Refusal::new(Code::Token, message).hint(hint))
    }
}

/// The archives of a job, as they are shown.
pub(in crate::session) fn archives_of(job: &Job) -> Vec<String> {
    let below = serde_json::from_value::<Plan>(job.plan.clone()).map_or_else(|_| Vec::new(), |plan| plan.members);
    let name = |member: &crate::database::batches::Member| format!("{}.{}", member.walk.schema, member.walk.archive);
    std::iter::once(job.archive.clone()).chain(below.iter().map(name)).collect()
}

/// Until when what it archived is kept. `None`: until somebody drops it.
fn expiry(job: &Job, retention: Option<Duration>) -> Option<Timestamp> {
    job.seen.checked_add(retention?).ok()
}

/// Rows that were changed, and are in no archive any more.
pub(in crate::session) fn lacking(rows: u64) -> Option<String> {
    (rows > 0).then(|| {
        format!("{} rows that it told to be changed are not in its archive: somebody took them out, or the database lost its last commits", grouped(rows))
    })
}

/// More would be put back than was shown.
pub(in crate::session) fn is_more(of: &Job, challenge: &Challenge) -> Option<Refusal> {
    let shown = challenge.promise["rows"].as_u64().unwrap_or_default();
    (of.standing.rows > shown).then(|| {
        let (shown, now) = (grouped(shown), grouped(of.standing.rows));
        let message = format!("sluice: {shown} rows were shown, and it would put back {now} by now");
        Refusal::new(Code::Token, message).hint(format!("SLUICE UNDO '{}' shows it anew.", of.id))
    })
}

/// It is on its way: what would be taken back is not settled.
pub(in crate::session) fn runs() -> Refusal {
    Refusal::new(Code::Token, "sluice: the job is being carried out").hint("SLUICE PAUSE or SLUICE CANCEL it first.")
}

/// Nothing is left to go on with.
pub(in crate::session) fn is_over(job: &Job) -> Option<Refusal> {
    let state = job.standing.state;
    let over = !matches!(state, State::Running | State::Paused);
    over.then(|| {
        Refusal::new(Code::Token, format!("sluice: the job is {}: there is nothing to go on with", state.as_str()))
    })
}

/// The job that takes another back.
pub(in crate::session) fn undo_of(of: Job, id: JobId, challenge: ChallengeId, now: Timestamp) -> Job {
    Job {
        id,
        of: Some(of.id),
        challenge: Some(challenge),
        statement: format!("SLUICE UNDO '{}'", of.id),
        standing: Standing { state: State::Running, rows: 0, batches: 0, why: String::new() },
        rows_shown: Some(of.standing.rows),
        rows_most: of.standing.rows,
        created: now,
        seen: now,
        throttle: None,
        dropped: None,
        ..of
    }
}

pub(in crate::session) fn no_store(error: StoreError) -> Refusal {
    Refusal::new(Code::CannotKnow, format!("sluice: the store did not answer: {error}"))
}
