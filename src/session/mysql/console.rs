//! `SLUICE …`: the commands that Sluice answers itself, as results of rows.
//!
//! Invariant: what is typed here never reaches the database as such; a statement inside (PREVIEW, EXPLAIN) is looked at, not run.

use crate::change::preview::words::plain;
use crate::protocol::mysql::answer;
use crate::protocol::mysql::message::{self, Done};
use crate::protocol::mysql::response::Failure;
use crate::protocol::{Code, Refusal};
use crate::session::End;
use crate::session::commands::{Command, HELP, Table, columns, parse, some};
use crate::session::judgement::{Depth, Judgement};
use crate::session::mysql::Session;
use crate::session::mysql::act::Form;
use crate::session::mysql::look::Looked;
use crate::store::jobs::Wanted;

impl Session {
    /// One command, answered in the form it came by.
    pub(in crate::session) async fn command(&mut self, text: &str, form: Form) -> Result<(), End> {
        let command = match parse(text) {
            Ok(command) => command,
            Err(refusal) => return self.refuse(&refusal).await,
        };
        let named = matches!(command, Command::Approve(_) | Command::Confirm(_) | Command::Reject(_));
        // What Sluice knows by itself is told though the record fails: how else could anybody see that it does?
        let told_anyway = matches!(command, Command::Help | Command::Policy | Command::Status);
        if !named
            && let Err(error) = self.desk.house.recorder.command(self.desk.recording(), command.name(), None)
            && !told_anyway
        {
            let refusal = Refusal::new(Code::CannotKnow, format!("sluice: the command cannot be recorded: {error}"));
            return self.refuse(&refusal).await;
        }
        if let Command::Confirm(token) = &command {
            return self.confirm(token).await;
        }
        match &command {
            Command::Resume(id) => return Box::pin(self.resume(id)).await,
            Command::Undo(id) => return Box::pin(self.offer_undo(id)).await,
            _ => {}
        }
        let answered = match &command {
            Command::Help => Ok(HELP.iter().map(|(command, does)| vec![some(command), some(does)]).collect()),
            Command::Preview(statement) => self.preview_of(statement).await?,
            Command::Explain(statement) => self.explanation_of(statement).await?,
            Command::Rehearse(statement) => self.rehearse(statement).await?,
            Command::Approve(token) => self.desk.approve(token).await.map(|what| vec![vec![Some(what)]]),
            Command::Reject(token) => self.desk.reject(token).await,
            Command::Show(token) => self.desk.shown(token).await,
            Command::Pending => self.desk.pending().await,
            Command::Jobs => self.desk.jobs().await,
            Command::Job(id) => self.desk.job(id).await,
            Command::Pause(id) => self.desk.want(id, Wanted::Pause).await,
            Command::Cancel(id) => self.desk.want(id, Wanted::Cancel).await,
            Command::Throttle(id, rows) => self.desk.throttle(id, *rows).await,
            Command::Archives => self.desk.archives().await,
            Command::Scripts => self.desk.scripts().await,
            Command::Policy => Ok(self.desk.levels()),
            Command::Status => Ok(self.state().await?),
            Command::Confirm(_) | Command::Resume(_) | Command::Undo(_) => Ok(Vec::new()),
        };
        match answered {
            Ok(rows) => {
                self.answer(command.columns(), &rows, form);
                Ok(())
            }
            Err(refusal) => self.refuse(&refusal).await,
        }
    }

    /// This session, and how far what a statement did can be counted in it.
    async fn state(&mut self) -> Result<Table, End> {
        let mut rows = self.desk.state();
        let counts = self.counts().await?;
        rows.push(vec![some("effects"), Some(counts)]);
        Ok(rows)
    }

    /// Rows of ours, or an OK where there are no columns.
    pub(in crate::session) fn answer(&mut self, columns: &[&str], rows: &Table, form: Form) {
        let to = self.to_client();
        if columns.is_empty() {
            let done = Done { status: self.status, ..Done::default() };
            self.reply(message::ok(to, &done));
            return;
        }
        let said = |value: &Option<String>| value.as_deref().map(|value| self.spoken(&plain(value)));
        let rows: Table = rows.iter().map(|row| row.iter().map(said).collect()).collect();
        let form = match form {
            Form::Text => answer::Form::Text,
            Form::Binary => answer::Form::Binary,
        };
        self.reply_with(answer::rows(to, form, columns, &rows, (self.status, 0)));
    }

    /// A command of ours that is prepared: the upstream never hears of it.
    pub(in crate::session) fn prepare_command(&mut self, text: &str) {
        let number = self.prepared.insert_command(text.into());
        if !self.reply_with(answer::prepared(self.to_client(), number, columns(text), (self.status, 0))) {
            self.prepared.remove(number);
        }
    }

    pub(in crate::session) async fn judged_for(
        &mut self,
        statement: &str,
        depth: Depth,
    ) -> Result<Result<Box<Judgement>, Refusal>, End> {
        self.be_ready_to_read().await?;
        let source = match self.source_of(statement) {
            Ok(source) => source,
            Err(refusal) => return Ok(Err(refusal)),
        };
        Ok(match self.look_at(source, None, depth).await? {
            Looked::At(judgement) => Ok(judgement),
            Looked::Not(refusal) => Err(refusal),
            Looked::Wrong(failure) => Err(of_the_server(&failure)),
        })
    }

    async fn preview_of(&mut self, statement: &str) -> Result<Result<Table, Refusal>, End> {
        let judgement = match self.judged_for(statement, Depth::Everything).await? {
            Ok(judgement) => judgement,
            Err(refusal) => return Ok(Err(refusal)),
        };
        Ok(Ok(self.desk.preview_rows(&judgement)))
    }

    async fn explanation_of(&mut self, statement: &str) -> Result<Result<Table, Refusal>, End> {
        let judgement = match self.judged_for(statement, Depth::WhatRulesNeed).await? {
            Ok(judgement) => judgement,
            Err(refusal) => return Ok(Err(refusal)),
        };
        Ok(Ok(self.desk.explanation_rows(&judgement)))
    }
}

/// The database finds the statement itself wrong.
fn of_the_server(failure: &Failure) -> Refusal {
    Refusal::new(Code::Syntax, format!("sluice: the database refuses this statement: {}", failure.message))
        .detail(format!("error {}, SQLSTATE {}", failure.errno, failure.sqlstate))
}
