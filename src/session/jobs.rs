//! Jobs as commands show them and steer them: what of that needs neither the client's wire nor the database's.
//!
//! Invariant: whoever may use a database sees its jobs; only who began a job, by the same name on the same listener, steers it.

use crate::change::challenge;
use crate::ground::ids::JobId;
use crate::protocol::{Code, Refusal};
use crate::session::commands::{Table, quoted, some, usage};
use crate::session::desk::Desk;
use crate::store::StoreError;
use crate::store::jobs::{Job, State, Wanted};
use std::time::Duration;

pub(in crate::session) const COLUMNS: &[&str] =
    &["id", "state", "table", "rows", "of", "batches", "why", "by", "begun", "undo"];

/// A running job that was not heard of for so long has lost who ran it.
const SILENT: Duration = Duration::from_secs(30);

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
            State::Running if age > SILENT.try_into().unwrap_or_default() => {
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
        rows.push(vec![some("archive"), Some(job.archive.clone())]);
        rows.push(vec![some("at most"), Some(job.rows_most.to_string())]);
        rows.extend(job.statement.lines().map(|line| vec![some("statement"), Some(quoted(line))]));
        Ok(rows)
    }

    /// Asks whoever runs it to stop.
    pub(in crate::session) async fn want(&self, id: &str, wanted: Wanted) -> Result<Table, Refusal> {
        let job = self.own_job(id).await?;
        match self.house.store.job_want(job.id, wanted).await.map_err(no_store)? {
            true => Ok(vec![vec![Some(job.id.to_string()), some(wanted.as_str())]]),
            false => {
                let state = job.standing.state.as_str();
                Err(Refusal::new(Code::Token, format!("sluice: the job is {state}: there is nothing to stop")))
            }
        }
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

pub(in crate::session) fn no_store(error: StoreError) -> Refusal {
    Refusal::new(Code::CannotKnow, format!("sluice: the store did not answer: {error}"))
}
