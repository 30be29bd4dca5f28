//! `SLUICE REHEARSE`: a statement is run twice in a transaction that is rolled back: what it changes, what a second run would change, how
//! many rows it locks, how long it takes.
//!
//! Invariant: nothing of it stays: what cannot be rolled back (a change of the schema, an engine without transactions, a procedure that
//! commits) is not rehearsed.

use crate::audit::Recording;
use crate::audit::event::Action;
use crate::change::preview;
use crate::database::effects::mysql::measure::{self, Snapshot};
use crate::policy::finding::Level;
use crate::policy::question::{Effects, Known};
use crate::protocol::mysql::message::Script;
use crate::protocol::mysql::response::{Answer, End as Ended, Event, Expected};
use crate::protocol::{Code, Refusal};
use crate::session::End;
use crate::session::commands::Table;
use crate::session::desk::denial;
use crate::session::judgement::{Depth, Judgement};
use crate::session::link::Listen;
use crate::session::mysql::Session;
use crate::session::mysql::ask::{Asker, Ground};
use crate::session::mysql::hold::did;
use crate::session::mysql::look::unknown_state;
use crate::session::mysql::relay::misunderstood;
use crate::session::record;
use crate::sql::facts::Kind;
use std::time::Instant;

/// What one run came to.
struct Ran {
    affected: u64,
    error: Option<String>,
    millis: u128,
}

impl Session {
    pub(in crate::session) async fn rehearse(&mut self, statement: &str) -> Result<Result<Table, Refusal>, End> {
        if self.in_transaction() || self.savepoints || !self.autocommits() {
            let message = "sluice: a rehearsal needs a transaction of its own; end yours first, with autocommit on";
            return Ok(Err(Refusal::new(Code::Denied, message)));
        }
        self.refresh_reach().await?;
        let judgement = match self.judged_for(statement, Depth::WhatRulesNeed).await? {
            Ok(judgement) => *judgement,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if let Some(why) = cannot_be_rolled_back(&judgement) {
            return Ok(Err(Refusal::new(Code::Denied, format!("sluice: not rehearsed: {why}"))));
        }
        if judgement.verdict.in_force() >= Level::Deny {
            return Ok(Err(denial(&judgement.verdict)));
        }
        self.own("START TRANSACTION").await?;
        let rehearsed = self.run_twice(&judgement).await?;
        let complete = self.rolled_back("ROLLBACK").await?;
        self.desk.cache.clear();
        if judgement.reaches() {
            self.settings.forget();
        }
        if !complete {
            let message = "sluice: what was rehearsed could not be rolled back whole: it changed a table that knows no transactions";
            let refusal = Refusal::new(Code::ExceedsConfirmed, message).hint("Look at what it left before going on.");
            return Ok(Err(refusal));
        }
        Ok(rehearsed)
    }

    /// In a transaction that the caller rolls back.
    async fn run_twice(&mut self, judgement: &Judgement) -> Result<Result<Table, Refusal>, End> {
        let mut table = Table::new();
        let before = self.snapshot().await?;
        let first = match self.run_once(judgement).await? {
            Ok(ran) => ran,
            Err(refusal) => return Ok(Err(refusal)),
        };
        row(&mut table, "first run", "answer", &answer(&first));
        row(&mut table, "first run", "took", &format!("{} ms", first.millis));
        if first.error.is_some() {
            return Ok(Ok(table));
        }
        let middle = self.snapshot().await?;
        let effects = show(&mut table, "first run", judgement, &before, &middle, first.affected);
        if let Some(locked) = self.locked().await? {
            row(&mut table, "locks", "rows locked", &locked);
        }
        let second = match self.run_once(judgement).await? {
            Ok(ran) => ran,
            Err(refusal) => return Ok(Err(refusal)),
        };
        row(&mut table, "second run", "answer", &answer(&second));
        row(&mut table, "second run", "took", &format!("{} ms", second.millis));
        let again = match second.error {
            Some(_) => None,
            None => {
                let after = self.snapshot().await?;
                show(&mut table, "second run", judgement, &middle, &after, second.affected)
            }
        };
        row(&mut table, "verdict", "to run it twice", &verdict(&second, effects.as_ref(), again.as_ref()));
        let note = "values that AUTO_INCREMENT gave are used up, and what functions do outside the database is not rolled back";
        row(&mut table, "note", "rollback", note);
        if judgement.runs_code() {
            row(&mut table, "note", "variables", "those of the session that a procedure sets keep what it gave them");
        }
        Ok(Ok(table))
    }

    /// The statement, recorded like any that goes to the database; its rows are dropped.
    async fn run_once(&mut self, judgement: &Judgement) -> Result<Result<Ran, Refusal>, End> {
        let text = match self.source_of(&judgement.source) {
            Ok(source) => source.text,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let noted = self.desk.noted(judgement);
        let about = Recording {
            statement: noted.text.as_deref(),
            fingerprint: noted.fingerprint.as_deref(),
            ..self.desk.recording()
        };
        let command = Script::new(self.server).query_bytes(&text).bytes();
        let recorded = self.desk.house.recorder.record(&judgement.verdict, Action::Rehearsed, about, command);
        let permit = match recorded {
            Ok(permit) => permit,
            Err(error) => return Ok(Err(record::unrecorded(&error))),
        };
        let started = Instant::now();
        self.link.forward(permit);
        let (affected, error) = self.hear_quietly().await?;
        Ok(Ok(Ran { affected, error, millis: started.elapsed().as_millis() }))
    }

    /// Up to the end of the answer; rows are dropped.
    async fn hear_quietly(&mut self) -> Result<(u64, Option<String>), End> {
        let mut answer = Answer::new(Expected::Results, self.server);
        let mut affected = 0u64;
        loop {
            let step = answer.step(self.link.answers()).map_err(misunderstood)?;
            let passed = self.link.answers().split_to(step.pass);
            let packet = self.link.answers().split_to(step.packet).freeze();
            match step.event {
                Some(Event::End { end: Ended::Failed(failure), .. }) => {
                    return Ok((affected, Some(format!("fails: {} {}", failure.errno, failure.message))));
                }
                Some(Event::End { end, over }) => {
                    affected = affected.saturating_add(end.affected());
                    self.note_status(&end, &packet);
                    if over {
                        return Ok((affected, None));
                    }
                }
                Some(Event::FileWanted) => {
                    let message = "sluice: a rehearsed statement asked for a file of the client's";
                    return Err(End::Refused(Refusal::new(Code::CannotKnow, message)));
                }
                _ if passed.is_empty() && packet.is_empty() => {
                    if self.link.upstream_ended() {
                        return Err(End::Upstream);
                    }
                    let woke = self.link.wait(Listen::Upstream).await;
                    self.woke(woke)?;
                }
                _ => {}
            }
        }
    }

    /// Rows that the transaction holds locks of, where this user may know.
    async fn locked(&mut self) -> Result<Option<String>, End> {
        let (time, mode) = (self.desk.house.ask_timeout, self.settings.own_mode());
        let asker = Asker::begin(&mut self.link, self.server, mode, Ground::Block, time, time).await;
        let mut asker = asker.map_err(unknown_state)?;
        let locked = measure::rows_locked(&mut asker).await;
        asker.end().await.map_err(unknown_state)?;
        Ok(locked.ok().map(|rows| rows.to_string()))
    }
}

fn answer(ran: &Ran) -> String {
    ran.error.clone().unwrap_or_else(|| format!("{} rows affected", ran.affected))
}

fn row(table: &mut Table, step: &str, what: &str, result: &str) {
    table.push(vec![Some(step.to_owned()), Some(what.to_owned()), Some(result.to_owned())]);
}

/// Adds what was done between the two.
fn show(
    table: &mut Table,
    step: &str,
    judgement: &Judgement,
    before: &Result<Snapshot, String>,
    after: &Result<Snapshot, String>,
    affected: u64,
) -> Option<Effects> {
    let effects = match (before, after) {
        (Ok(before), Ok(after)) => measure::between(before, after, did(judgement), affected),
        (Err(why), _) | (_, Err(why)) => Err(why.clone()),
    };
    match effects {
        Ok(effects) => {
            let lines = preview::effects_lines(&effects);
            if lines.is_empty() {
                row(table, step, "effects", "nothing");
            }
            lines.lines().for_each(|line| row(table, step, "effects", line.trim()));
            Some(effects)
        }
        Err(why) => {
            row(table, step, "effects", &format!("unknown: {why}"));
            None
        }
    }
}

fn verdict(second: &Ran, first: Option<&Effects>, again: Option<&Effects>) -> String {
    match (&second.error, first, again) {
        (Some(error), _, _) => format!("the second run {error}"),
        (None, Some(first), Some(_)) if first.is_nothing() => "neither run changed anything".to_owned(),
        (None, _, Some(again)) if again.is_nothing() => "safe: the second run changed nothing".to_owned(),
        (None, _, Some(_)) => "not safe: the second run changed rows again".to_owned(),
        (None, _, None) => "unknown".to_owned(),
    }
}

/// Why running it could leave something behind.
fn cannot_be_rolled_back(judgement: &Judgement) -> Option<String> {
    let [piece] = judgement.pieces.as_slice() else { return Some("it is not one statement".to_owned()) };
    let facts = &piece.facts;
    if let Some(why) = &facts.unread {
        return Some(format!("it could not be read: {why}"));
    }
    if facts.outside_transaction_only || facts.commits_implicitly || facts.transaction.is_some() {
        return Some("it begins or ends a transaction, or commits by itself".to_owned());
    }
    // What a procedure sets is told as what stays.
    let sets = facts.changes_session && facts.kind != Kind::Call;
    if facts.prepares.is_some() || facts.forgets_prepared || sets {
        return Some("what it sets for the session outlives a rollback".to_owned());
    }
    if crate::session::judgement::copies_in(facts) {
        return Some("LOAD DATA reads a file, perhaps the client's".to_owned());
    }
    let known = judgement.evidence.first()?;
    let careless = known.changes.iter().find_map(|change| {
        let table = change.table.known()?;
        let engine = table.keeps_no_transactions.as_ref()?;
        Some(format!("{}.{} is kept by {engine}, which knows no transactions", table.schema, table.name))
    });
    match &known.effects {
        Known::Unknown(why) => Some(why.clone()),
        _ => careless,
    }
}
