//! `SLUICE REHEARSE`: the statement run twice in a transaction that is rolled back, and what it did each time.
//!
//! ```text
//! BEGIN · timeouts · counts · the statement · deferred triggers · counts · locks · SAVEPOINT · the statement again · counts · ROLLBACK
//! ```
//!
//! Invariant: nothing of it is kept, or the session ends; what could not be rolled back is not rehearsed. A run takes no longer than
//! [`limits::REHEARSAL_TIMEOUT`], and waits for a lock no longer than [`limits::REHEARSAL_LOCK_TIMEOUT`].

use crate::audit::Recording;
use crate::audit::event::Action;
use crate::change::preview;
use crate::database::effects::measure::Telling;
use crate::database::effects::measure::{self, Snapshot};
use crate::database::{Ask, quote};
use crate::ground::limits;
use crate::policy::finding::Level;
use crate::policy::question::{Effects, Known};
use crate::protocol::postgres::command;
use crate::protocol::postgres::message::Script;
use crate::protocol::{Code, Refusal};
use crate::session::End;
use crate::session::commands::Table;
use crate::session::desk::{denial, note_unrecorded};
use crate::session::judgement;
use crate::session::judgement::{Depth, Judgement};
use crate::session::postgres::Session;
use crate::session::postgres::ask::{Asker, Ground};
use crate::session::postgres::console::of_the_server;
use crate::session::postgres::look::{Looked, unknown_state};
use crate::sql::facts::Kind;
use std::time::Instant;

/// What one run came to.
struct Ran {
    tag: String,
    error: Option<String>,
    millis: u128,
}

impl Session {
    pub(in crate::session) async fn rehearse(&mut self, statement: &str) -> Result<Result<Table, Refusal>, End> {
        if self.talk.status() != b'I' || self.pipeline.executed || self.pipeline.bound {
            let message = "sluice: a rehearsal needs a transaction of its own; end yours first";
            return Ok(Err(Refusal::new(Code::Denied, message)));
        }
        self.refresh_reach().await?;
        let judgement = match self.look_at(self.subject(statement), None, Depth::WhatRulesNeed).await? {
            Looked::At(judgement) => *judgement,
            Looked::Not(refusal) => return Ok(Err(refusal)),
            Looked::Wrong(error) => return Ok(Err(of_the_server(&error))),
            Looked::Discarded | Looked::Missing => {
                return Ok(Err(Refusal::new(Code::Syntax, "sluice: there is no such prepared statement")));
            }
        };
        if let Some(why) = cannot_be_rolled_back(&judgement) {
            let message = format!("sluice: not rehearsed: {why}");
            return Ok(Err(Refusal::new(Code::Denied, message)));
        }
        if judgement.verdict.in_force() >= Level::Deny {
            return Ok(Err(denial(&judgement.verdict)));
        }
        if self.pipeline.open {
            self.end_unexecuted_pipeline().await?;
        }
        self.own("BEGIN", b'T').await?;
        self.talk.set_status(b'T');
        let rehearsed = self.run_twice(&judgement).await;
        let refused = match rehearsed {
            Ok(table) => table,
            Err(end) => return Err(end),
        };
        self.own("ROLLBACK", b'I').await?;
        self.talk.set_status(b'I');
        self.desk.cache.clear();
        self.prepared_may_have_changed(&judgement);
        Ok(refused)
    }

    /// In a transaction that the caller rolls back.
    async fn run_twice(&mut self, judgement: &Judgement) -> Result<Result<Table, Refusal>, End> {
        let timeouts = format!(
            "SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = {}",
            limits::REHEARSAL_TIMEOUT.as_millis(),
            limits::REHEARSAL_LOCK_TIMEOUT.as_millis()
        );
        self.own(&timeouts, b'T').await?;
        let Some(before) = self.snapshot(Telling::Changes).await? else {
            let message = "sluice: not rehearsed: the database does not count what it changes (track_counts)";
            return Ok(Err(Refusal::new(Code::CannotKnow, message)));
        };
        let mut table = Vec::new();
        let first = match self.run_once(judgement).await? {
            Ok(ran) => ran,
            Err(refusal) => return Ok(Err(refusal)),
        };
        row(&mut table, "first run", "answer", first.error.as_deref().unwrap_or(&first.tag));
        row(&mut table, "first run", "took", &format!("{} ms", first.millis));
        if first.error.is_some() {
            return Ok(Ok(table));
        }
        let Some(middle) = self.snapshot(Telling::Changes).await? else { return Ok(Ok(table)) };
        let effects = show(&mut table, "first run", &before, &middle);
        for lock in self.locks().await? {
            row(&mut table, "locks", &lock.1, &lock.0);
        }
        self.own("SAVEPOINT sluice_second", b'T').await?;
        let second = match self.run_once(judgement).await? {
            Ok(ran) => ran,
            Err(refusal) => return Ok(Err(refusal)),
        };
        row(&mut table, "second run", "answer", second.error.as_deref().unwrap_or(&second.tag));
        row(&mut table, "second run", "took", &format!("{} ms", second.millis));
        let again = match (&second.error, second.error.is_none()) {
            (None, _) => match self.snapshot(Telling::Changes).await? {
                Some(after) => show(&mut table, "second run", &middle, &after),
                None => None,
            },
            _ => None,
        };
        row(&mut table, "verdict", "to run it twice", &verdict(&second, effects.as_ref(), again.as_ref()));
        let counts_on = |piece: &judgement::Piece| piece.facts.functions.iter().any(|name| name.ends_with("nextval"));
        if judgement.reaches() || judgement.pieces.iter().any(counts_on) {
            let text = "what its functions do outside the database, and to sequences, is not rolled back";
            row(&mut table, "note", "rollback", text);
        }
        Ok(Ok(table))
    }

    /// The statement, recorded like any that goes to the database; its rows are dropped.
    async fn run_once(&mut self, judgement: &Judgement) -> Result<Result<Ran, Refusal>, End> {
        let noted = self.desk.noted(judgement);
        let about = Recording {
            statement: noted.text.as_deref(),
            fingerprint: noted.fingerprint.as_deref(),
            ..self.desk.recording()
        };
        let script = Script::default().query(&judgement.source).bytes();
        let permit = match self.desk.house.recorder.record(&judgement.verdict, Action::Rehearsed, about, script) {
            Ok(permit) => permit,
            Err(error) => {
                note_unrecorded(&error);
                let message = format!("sluice: not rehearsed, because it cannot be recorded: {error}");
                return Ok(Err(Refusal::new(Code::CannotKnow, message)));
            }
        };
        let started = Instant::now();
        self.link.forward(permit);
        let (mut tag, mut error) = self.hear_quietly().await?;
        if error.is_none() {
            // What waits for the COMMIT is part of what it does.
            self.link.say(Script::default().query("SET CONSTRAINTS ALL IMMEDIATE"));
            error = self.hear_quietly().await?.1;
        }
        if let Some(error) = &error {
            tag.clone_from(error);
        }
        Ok(Ok(Ran { tag, error, millis: started.elapsed().as_millis() }))
    }

    /// Up to ReadyForQuery: the last command tag, and the error if there was one. Rows and notices are dropped.
    async fn hear_quietly(&mut self) -> Result<(String, Option<String>), End> {
        let (mut tag, mut error) = (String::new(), None);
        loop {
            let frame = self.next_frame().await?;
            match frame.tag() {
                b'C' => {
                    let body = frame.body();
                    tag = String::from_utf8_lossy(body.strip_suffix(&[0]).unwrap_or(body)).into_owned();
                }
                b'E' => {
                    let field = |kind| command::error_field(frame.body(), kind).unwrap_or_default();
                    error = Some(format!("fails: {} {}", field(b'C'), field(b'M')));
                }
                b'Z' => return Ok((tag, error)),
                b'A' => self.link.client.send(frame.into_bytes()),
                b'S' => self.note_and_pass(frame),
                b'G' | b'W' => {
                    let message = "sluice: a rehearsed statement asked for COPY data";
                    return Err(End::Refused(Refusal::new(Code::CannotKnow, message)));
                }
                _ => {}
            }
        }
    }

    /// Locks on the users' relations that the transaction holds: mode and relation, strongest first.
    async fn locks(&mut self) -> Result<Vec<(String, String)>, End> {
        let time = self.desk.house.ask_timeout;
        let asker = Asker::begin(&mut self.link, &self.seat, &self.talk, Ground::Implicit, time, time).await;
        let mut asker = asker.map_err(unknown_state)?;
        let answer = asker.ask(&quote::catalog(LOCKS), None).await;
        asker.end().await.map_err(unknown_state)?;
        let rows = answer.unwrap_or_default().rows.into_iter();
        let pair = |row: Vec<Option<String>>| {
            let mut cells = row.into_iter().flatten();
            Some((cells.next()?, cells.next()?))
        };
        Ok(rows.filter_map(pair).collect())
    }

    /// A function that ran may have prepared names, or changed settings that a rollback does not bring back.
    fn prepared_may_have_changed(&mut self, judgement: &Judgement) {
        if judgement.reaches() {
            self.reaching.settle();
        }
        self.prepared.clear();
    }
}

fn row(table: &mut Table, step: &str, what: &str, result: &str) {
    table.push(vec![Some(step.to_owned()), Some(what.to_owned()), Some(result.to_owned())]);
}

/// Adds what was done between the two, table by table.
fn show(table: &mut Table, step: &str, before: &Snapshot, after: &Snapshot) -> Option<Effects> {
    match measure::between(before, after) {
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
    let changed = |effects: &Effects| {
        effects.destroyed() > 0 || !effects.objects.is_empty() || effects.tables.iter().any(|table| table.inserted > 0)
    };
    match (&second.error, first, again) {
        (Some(error), _, _) => format!("the second run {error}"),
        (None, Some(first), Some(_)) if !changed(first) => "neither run changed anything".to_owned(),
        (None, _, Some(again)) if !changed(again) => "safe: the second run changed nothing".to_owned(),
        (None, _, Some(_)) => "not safe: the second run changed rows again".to_owned(),
        (None, _, None) => "unknown".to_owned(),
    }
}

/// Why running it could leave something behind.
fn cannot_be_rolled_back(judgement: &Judgement) -> Option<String> {
    let [piece] = judgement.pieces.as_slice() else {
        return Some("it is not one statement".to_owned());
    };
    let facts = &piece.facts;
    if let Some(why) = &facts.unread {
        return Some(format!("it could not be read: {why}"));
    }
    if facts.outside_transaction_only {
        return Some("it may not stand in a transaction".to_owned());
    }
    if facts.transaction.is_some() {
        return Some("it begins or ends a transaction".to_owned());
    }
    if facts.prepares.is_some() || facts.forgets_prepared || facts.kind == Kind::Prepare {
        return Some("names of prepared statements outlive a rollback".to_owned());
    }
    if facts.functions.iter().any(|name| name.contains("advisory_lock")) {
        return Some("advisory locks of a session outlive a rollback".to_owned());
    }
    if facts.kind == Kind::Copy {
        return Some("COPY moves data to or from the client, or a file".to_owned());
    }
    match judgement.evidence.first().map(|known| &known.effects) {
        Some(Known::Unknown(why)) => Some(why.clone()),
        _ => None,
    }
}

const LOCKS: &str = "\
SELECT l.mode, pg_catalog.concat(pg_catalog.quote_ident(n.nspname), '.', pg_catalog.quote_ident(c.relname)) \
FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation' AND l.granted AND c.oid >= 16384 \
ORDER BY pg_catalog.array_position('{AccessExclusiveLock,ExclusiveLock,ShareRowExclusiveLock,ShareLock,ShareUpdateExclusiveLock,RowExclusiveLock,RowShareLock,AccessShareLock}'::pg_catalog.text[], l.mode), 2 LIMIT 200";
