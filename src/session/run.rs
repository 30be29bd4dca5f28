//! Carrying a message out with its commit withheld, and asking the database what it did.
//!
//! ```text
//! BEGIN (unless the client is in a transaction) · what was changed so far? · the message · what was changed now? · COMMIT or ROLLBACK
//! ```
//!
//! Invariant: the client's last CommandComplete is sent when the commit is done, not before; what changed more than was agreed to is
//! rolled back, and where that cannot be known the session ends, which rolls back too.

use crate::audit::Recording;
use crate::audit::event::Action;
use crate::database::{Answer, Ask};
use crate::ground::limits;
use crate::protocol::postgres::command;
use crate::protocol::postgres::frame::{Frame, upstream_frame};
use crate::protocol::postgres::message::{self, Script, Severity};
use crate::protocol::{Code, Refusal};
use crate::session::act::{self, Form, note_unrecorded};
use crate::session::ask::{Asker, Ground};
use crate::session::link::Listen;
use crate::session::look::{Judgement, unknown_state};
use crate::session::pipeline::{Exceeded, Held, Watched};
use crate::session::{End, Session};
use bytes::Bytes;

impl Session {
    /// Carries one statement out with its commit withheld: in a transaction of its own, or in the client's.
    ///
    /// Not to be cancelled half-way. A client that asks to cancel reaches the database itself, whose error then ends the run.
    pub(in crate::session) async fn run_script(
        &mut self,
        script: Bytes,
        action: Action,
        judgement: &Judgement,
        run: Run,
    ) -> Result<(), End> {
        self.drain().await?;
        if self.pipeline.open && self.talk.status() == b'I' {
            self.end_unexecuted_pipeline().await?;
        }
        let own =
            self.talk.status() == b'I' && !judgement.pieces.iter().any(|piece| piece.facts.outside_transaction_only);
        let agreed = self.agreed(judgement);
        let promised = agreed.iter().copied().sum::<Option<u64>>();
        let noted = self.noted(judgement);
        let about = Recording {
            challenge: run.challenge,
            promised_rows: promised,
            statement: noted.text.as_deref(),
            fingerprint: noted.fingerprint.as_deref(),
            reason: judgement.told.reason.as_deref(),
            ..self.recording()
        };
        let permit = match self.house.recorder.record(&judgement.verdict, action, about, script) {
            Ok(permit) => permit,
            Err(error) => {
                note_unrecorded(&error);
                let message = format!("sluice: the statement was not run, because it cannot be recorded: {error}");
                return self.refuse(&Refusal::new(Code::CannotKnow, message), run.form).await;
            }
        };
        let watched =
            Watched { rows_max: promised, challenge: run.challenge, line: permit.line(), ..Watched::default() };
        if own {
            self.own("BEGIN", b'T').await?;
            self.talk.set_status(b'T');
        }
        let measures = own || self.talk.status() == b'T';
        let held = match judgement.effects_max().filter(|_| measures) {
            Some(most) => self.effects().await?.map(|before| Held { before, most }),
            None => None,
        };
        self.link.forward(permit);
        let ran = self.hear_run(run.form).await?;
        let mut exceeded = ran.exceeded(&agreed);
        if ran.error.is_none()
            && exceeded.is_none()
            && let Some(held) = held
        {
            self.talk.set_status(ran.status);
            exceeded = held.exceeded_by(self.effects().await?);
        }
        if ran.error.is_some() || exceeded.is_some() {
            return self.run_failed(ran, exceeded, own, &watched, run).await;
        }
        if own && let Some(error) = self.commit().await? {
            self.record_outcome(&watched, Some(ran.changed()), Some(&error.code), Some("at commit"));
            self.talk.set_status(b'I');
            self.link.client.send(error.bytes);
            self.end_of_run(run.form);
            return Ok(());
        }
        self.talk.set_status(if own { b'I' } else { ran.status });
        self.record_outcome(&watched, Some(ran.changed()), None, None);
        self.link.client.send(ran.complete);
        if run.form == Form::Simple {
            self.link.client.send(message::ready(self.talk.status()));
        }
        Ok(())
    }

    pub(in crate::session) async fn run_failed(
        &mut self,
        ran: Ran,
        exceeded: Option<Exceeded>,
        own: bool,
        watched: &Watched,
        run: Run,
    ) -> Result<(), End> {
        let code = ran.error.as_ref().map(|error| error.code.clone());
        let note = exceeded.map(|_| "changed more rows than were agreed to; rolled back");
        self.talk.set_status(ran.status);
        if own {
            self.own("ROLLBACK", b'I').await?;
            self.talk.set_status(b'I');
        }
        self.record_outcome(watched, Some(ran.changed()), code.as_deref().or(Some("SL004")), note);
        match ran.error {
            Some(error) => {
                self.link.client.send(error.bytes);
                if run.form == Form::Simple {
                    self.link.client.send(message::ready(self.talk.status()));
                } else {
                    self.pipeline.discarding = true;
                }
                Ok(())
            }
            None => {
                self.cache.clear();
                let exceeded = exceeded.unwrap_or(Exceeded::Unfinished);
                self.refuse(&act::exceeded(exceeded), run.form).await
            }
        }
    }

    pub(in crate::session) fn end_of_run(&mut self, form: Form) {
        match form {
            Form::Simple => self.link.client.send(message::ready(self.talk.status())),
            Form::Extended => self.pipeline.discarding = true,
        }
    }

    /// The answers to a statement of which the commit is withheld: rows go on to the client, its completion is kept back.
    pub(in crate::session) async fn hear_run(&mut self, form: Form) -> Result<Ran, End> {
        let mut ran = Ran::default();
        loop {
            let frame = self.next_frame().await?;
            // Of a message of several statements only the last one's completion is kept back: what comes next shows that another
            // statement follows.
            if !matches!(frame.tag(), b'Z' | b'S') {
                self.link.client.send(std::mem::take(&mut ran.complete));
            }
            match frame.tag() {
                b'C' | b'I' => {
                    let body = frame.body();
                    let rows = command::changed_rows(body.strip_suffix(&[0]).unwrap_or(body)).unwrap_or(0);
                    ran.each.push(rows);
                    ran.complete = frame.into_bytes();
                }
                b'E' => {
                    let code = command::error_field(frame.body(), b'C').unwrap_or_default();
                    ran.error = Some(Failure { code, bytes: frame.into_bytes() });
                }
                b'Z' => {
                    ran.status = frame.body().first().copied().unwrap_or(b'I');
                    return Ok(ran);
                }
                // Of a CONFIRM by the extended protocol the client was told that it returns no rows.
                b'T' | b'D' | b'H' | b'd' | b'c' if form == Form::Extended => {}
                b'1' | b'2' | b'3' | b'n' | b't' => {}
                b'S' => self.note_and_pass(frame),
                b'G' => {
                    return Err(End::Refused(Refusal::new(
                        Code::CannotKnow,
                        "sluice: a guarded statement asked for COPY data",
                    )));
                }
                _ => self.link.client.send(frame.into_bytes()),
            }
        }
    }

    /// Rows that the transaction has updated and deleted so far, cascades included, as the database counts them. Counts of earlier
    /// transactions may be among them (they are reported once a second at most), so only differences within one transaction tell.
    /// Nothing may be outstanding.
    pub(in crate::session) async fn effects(&mut self) -> Result<Option<u64>, End> {
        const QUESTION: &str = "SELECT pg_catalog.sum(n_tup_upd OPERATOR(pg_catalog.+) n_tup_del)::pg_catalog.text \
             FROM pg_catalog.pg_stat_xact_user_tables";
        let time = self.house.ask_timeout;
        let asker = Asker::begin(&mut self.link, &self.seat, &self.talk, Ground::Implicit, time, time).await;
        let mut asker = asker.map_err(unknown_state)?;
        let answer = asker.ask(QUESTION, None).await;
        let ended = asker.end().await.map_err(unknown_state)?;
        if ended.failed {
            let message = "sluice: what the statement changed could not be asked; it is rolled back";
            return Err(End::Refused(Refusal::new(Code::CannotKnow, message)));
        }
        let number = |answer: Answer| answer.rows.first()?.first()?.as_deref().unwrap_or("0").parse().ok();
        Ok(answer.ok().and_then(number))
    }

    /// A statement of ours that must succeed.
    pub(in crate::session) async fn own(&mut self, statement: &str, status: u8) -> Result<(), End> {
        self.link.say(Script::default().query(statement));
        let reached = self.hear_ready().await?;
        if reached == status {
            return Ok(());
        }
        let message = format!("sluice: {statement} of Sluice's own failed; the session cannot go on");
        Err(End::Refused(Refusal::new(Code::CannotKnow, message)))
    }

    /// `Some`: the commit failed (a deferred constraint, a serialization failure), and the transaction with it.
    pub(in crate::session) async fn commit(&mut self) -> Result<Option<Failure>, End> {
        self.link.say(Script::default().query("COMMIT"));
        let mut failure = None;
        loop {
            let frame = self.next_frame().await.map_err(|_| {
                let message = "sluice: the connection was lost during COMMIT: whether the change was made is unknown";
                End::Refused(Refusal::new(Code::Upstream, message).hint("Look at the data before trying again."))
            })?;
            match frame.tag() {
                b'E' => {
                    let code = command::error_field(frame.body(), b'C').unwrap_or_default();
                    failure = Some(Failure { code, bytes: frame.into_bytes() });
                }
                b'Z' => return Ok(failure),
                b'S' => self.note_and_pass(frame),
                // A transaction that had failed unseen commits to nothing, and says so by its tag alone.
                b'C' if frame.body().starts_with(b"ROLLBACK") => {
                    let message = "sluice: the transaction had failed, and was rolled back";
                    let refusal = Refusal::new(Code::CannotKnow, message);
                    let bytes = message::error(&refusal, Severity::Error);
                    failure = Some(Failure { code: refusal.code.sqlstate().to_owned(), bytes });
                }
                b'C' => {}
                _ => self.link.client.send(frame.into_bytes()),
            }
        }
    }

    /// Up to the next ReadyForQuery; anything that is the client's is passed on.
    pub(in crate::session) async fn hear_ready(&mut self) -> Result<u8, End> {
        loop {
            let frame = self.next_frame().await?;
            match frame.tag() {
                b'Z' => return Ok(frame.body().first().copied().unwrap_or_default()),
                b'A' | b'N' => self.link.client.send(frame.into_bytes()),
                b'S' => self.note_and_pass(frame),
                _ => {}
            }
        }
    }

    pub(in crate::session) fn note_and_pass(&mut self, frame: Frame) {
        let mut cursor = crate::protocol::cursor::Cursor::new(frame.body());
        if let (Ok(name), Ok(value)) = (cursor.cstr(), cursor.cstr()) {
            let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
            self.settings.insert(name.into_owned(), value.into_owned());
        }
        self.link.client.send(frame.into_bytes());
    }

    pub(in crate::session) async fn next_frame(&mut self) -> Result<Frame, End> {
        loop {
            match upstream_frame(self.link.answers(), limits::LARGE_FRAME_BYTES_MAX) {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {}
                Err(malformed) => {
                    return Err(End::Refused(Refusal::new(Code::Upstream, format!("sluice: {malformed}"))));
                }
            }
            if self.link.upstream_ended() {
                return Err(End::Upstream);
            }
            let woke = self.link.wait(Listen::Upstream).await;
            self.woke(woke)?;
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(in crate::session) struct Run {
    pub form: Form,
    pub challenge: Option<crate::ground::ids::ChallengeId>,
}

#[derive(Debug, Default)]
pub(in crate::session) struct Ran {
    /// Rows by command tag, one a statement.
    each: Vec<u64>,
    /// The last completion, kept back until the commit is done.
    complete: Bytes,
    error: Option<Failure>,
    status: u8,
}

impl Ran {
    fn changed(&self) -> u64 {
        self.each.iter().sum()
    }

    fn exceeded(&self, agreed: &[Option<u64>]) -> Option<Exceeded> {
        let over = self.each.iter().zip(agreed).find_map(|(changed, agreed)| {
            agreed.filter(|agreed| changed > agreed).map(|agreed| Exceeded::Rows { changed: *changed, agreed })
        });
        over.filter(|_| self.error.is_none())
    }
}

#[derive(Debug)]
pub(in crate::session) struct Failure {
    code: String,
    bytes: Bytes,
}
