//! `SLUICE …`: the commands that Sluice answers itself, in any client, by either protocol.
//!
//! Invariant: what is typed here never reaches the database as such; a statement inside (PREVIEW, EXPLAIN) is looked at, not run;
//! REHEARSE runs it, and rolls it back. Whatever somebody else wrote (a text, a value, a name) is shown on lines that are marked as
//! such, with everything that could steer a terminal written out: nobody can write what looks like a line of Sluice's own.

use crate::change::ledger;
use crate::change::preview::words::plain;
use crate::protocol::postgres::command;
use crate::protocol::postgres::frame::Frame;
use crate::protocol::postgres::message;
use crate::protocol::{Code, Refusal};
use crate::session::End;
use crate::session::commands::{Command, HELP, Table, parse, some, usage};
use crate::session::judgement::{Depth, Subjected};
use crate::session::postgres::Session;
use crate::session::postgres::act::Form;
use crate::session::postgres::ask::{Asker, Ground};
use crate::session::postgres::look::{Looked, unknown_state};
use crate::store::jobs::Wanted;
use bytes::Bytes;

impl Session {
    /// One command, answered in the protocol it came by.
    pub(in crate::session) async fn command(&mut self, text: &str, form: Form) -> Result<(), End> {
        self.drain().await?;
        if self.pipeline.discarding {
            return Ok(());
        }
        let command = match parse(text) {
            Ok(command) => command,
            Err(refusal) => return self.refuse(&refusal, form).await,
        };
        let named = matches!(command, Command::Approve(_) | Command::Confirm(_) | Command::Reject(_));
        // What Sluice knows by itself is told though the record fails: how else could anybody see that it does?
        let told_anyway = matches!(command, Command::Help | Command::Policy | Command::Status);
        if !named
            && let Err(error) = self.desk.house.recorder.command(self.desk.recording(), command.name(), None)
            && !told_anyway
        {
            let refusal = Refusal::new(Code::CannotKnow, format!("sluice: the command cannot be recorded: {error}"));
            return self.refuse(&refusal, form).await;
        }
        if let Command::Confirm(token) = &command {
            return self.confirm(token, form).await;
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
            Command::Resume(id) => return Box::pin(self.resume(id, form)).await,
            Command::Undo(id) => return Box::pin(self.offer_undo(id, form)).await,
            Command::Scripts => self.scripts().await?,
            Command::Policy => Ok(self.desk.levels()),
            Command::Status => Ok(self.desk.state()),
            Command::Confirm(_) => Ok(Vec::new()),
        };
        match answered {
            Ok(rows) => {
                self.answer(&command, &rows, form);
                Ok(())
            }
            Err(refusal) => self.refuse(&refusal, form).await,
        }
    }

    fn answer(&mut self, command: &Command, rows: &Table, form: Form) {
        let columns = command.columns();
        if form == Form::Simple && !columns.is_empty() {
            self.reply(message::row_description(columns));
        }
        let said = |value: &Option<String>| value.as_deref().map(|value| self.spoken(&plain(value)));
        let rows: Table = rows.iter().map(|row| row.iter().map(said).collect()).collect();
        self.reply(message::data_rows(&rows));
        self.reply(message::command_complete(&format!("SLUICE {}", command.name())));
        if form == Form::Simple {
            self.reply(message::ready(self.talk.status()));
        }
    }

    async fn preview_of(&mut self, statement: &str) -> Result<Result<Table, Refusal>, End> {
        let judgement = match self.look_at(self.subject(statement), None, Depth::Everything).await? {
            Looked::At(judgement) => judgement,
            Looked::Not(refusal) => return Ok(Err(refusal)),
            Looked::Wrong(error) => return Ok(Err(of_the_server(&error))),
            Looked::Discarded | Looked::Missing => return Ok(Err(usage("there is no such prepared statement"))),
        };
        Ok(Ok(self.desk.preview_rows(&judgement)))
    }

    async fn explanation_of(&mut self, statement: &str) -> Result<Result<Table, Refusal>, End> {
        let judgement = match self.look_at(self.subject(statement), None, Depth::WhatRulesNeed).await? {
            Looked::At(judgement) => judgement,
            Looked::Not(refusal) => return Ok(Err(refusal)),
            Looked::Wrong(error) => return Ok(Err(of_the_server(&error))),
            Looked::Discarded | Looked::Missing => return Ok(Err(usage("there is no such prepared statement"))),
        };
        Ok(Ok(self.desk.explanation_rows(&judgement)))
    }

    async fn scripts(&mut self) -> Result<Result<Table, Refusal>, End> {
        let cannot = |error| Refusal::new(Code::CannotKnow, format!("sluice: the store did not answer: {error}"));
        let house = self.desk.house.clone();
        let (listener, database) = (&house.listener, self.desk.principal.database.clone());
        // Only where asking leaves no trace at all: elsewhere open entries are shown as they are.
        if self.talk.status() == b'I' && !self.pipeline.open {
            let time = house.ask_timeout;
            let asker = Asker::begin(&mut self.link, &self.seat, &self.talk, Ground::Own, time, time).await;
            let mut asker = asker.map_err(unknown_state)?;
            let settled = ledger::settle(&house.store, &mut asker, listener, &database).await;
            asker.end().await.map_err(unknown_state)?;
            if let Err(error) = settled {
                return Ok(Err(cannot(error)));
            }
        }
        Ok(self.desk.scripts().await)
    }

    pub(in crate::session) fn subject(&self, statement: &str) -> Subjected {
        let text = Bytes::copy_from_slice(statement.as_bytes());
        Subjected::Source(self.source(&text))
    }
}

/// The database finds the statement itself wrong.
pub(in crate::session) fn of_the_server(error: &Frame) -> Refusal {
    let field = |kind| command::error_field(error.body(), kind).unwrap_or_default();
    Refusal::new(Code::Syntax, format!("sluice: the database refuses this statement: {}", field(b'M')))
        .detail(format!("SQLSTATE {}", field(b'C')))
}
