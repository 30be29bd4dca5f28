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
use crate::database::effects::measure::Telling;
use crate::ground::limits;
use crate::policy::finding::Level;
use crate::policy::question::Known;
use crate::protocol::postgres::command;
use crate::protocol::postgres::frame::{Frame, upstream_frame};
use crate::protocol::postgres::message::{self, Script, Severity};
use crate::protocol::{Code, Refusal};
use crate::session::End;
use crate::session::held::Agreed;
use crate::session::judgement::Judgement;
use crate::session::link::Listen;
use crate::session::postgres::Session;
use crate::session::postgres::act::{self, Form};
use crate::session::postgres::hold::{Ends, Held};
use crate::session::postgres::pipeline::{Exceeded, Watched};
use crate::session::record;
use crate::store::kept::ProtocolKind;
use bytes::Bytes;
use std::sync::Arc;

impl Session {
    /// Carries one statement out with its commit withheld: in a transaction of its own, or in the client's.
    ///
    /// Not to be cancelled half-way. A client that asks to cancel reaches the database itself, whose error then ends the run.
    pub(in crate::session) async fn run_script(
        &mut self,
        script: Bytes,
        action: Action,
        judgement: Judgement,
        run: Run,
    ) -> Result<(), End> {
        let judgement = Arc::new(judgement);
        self.drain().await?;
        if self.pipeline.open && self.talk.status() == b'I' {
            self.end_unexecuted_pipeline().await?;
        }
        // What was shown as impossible to try is run as it is: it may commit by itself.
        let by_itself =
            run.agreed == Agreed::Untried || judgement.pieces.iter().any(|piece| piece.facts.outside_transaction_only);
        let own = self.talk.status() == b'I' && !by_itself;
        let agreed = self.desk.agreed(&judgement);
        let promised = agreed.iter().copied().sum::<Option<u64>>();
        let noted = self.desk.noted(&judgement);
        let about = Recording {
            challenge: run.challenge,
            promised_rows: promised,
            statement: noted.text.as_deref(),
            fingerprint: noted.fingerprint.as_deref(),
            parameters: noted.parameters.as_deref(),
            plain: record::plain(&judgement),
            reason: judgement.told.reason.as_deref(),
            ..self.desk.recording()
        };
        let again = script.clone();
        let permit = match self.desk.house.recorder.record(&judgement.verdict, action, about, script) {
            Ok(permit) => permit,
            Err(error) => return self.refuse(&record::unrecorded(&error), run.form).await,
        };
        let watched =
            Watched { rows_max: promised, challenge: run.challenge, line: permit.line(), ..Watched::default() };
        let protocol = if run.form == Form::Simple { ProtocolKind::Simple } else { ProtocolKind::Extended };
        let hold = self.hold(judgement.clone(), run.agreed.clone(), protocol);
        if !own {
            self.expect_deferred(&judgement).await?;
        }
        let telling = if judgement.removes() { Telling::Names } else { Telling::Changes };
        let before = match (own, self.talk.status()) {
            (true, _) => Some(self.begin_own(telling).await?),
            (false, b'T') => Some(self.snapshot(telling).await?),
            _ => None,
        };
        let ends = if own { Ends::Transaction } else { Ends::Statement };
        if before.is_some()
            && let Some(refusal) = Box::pin(self.count_behind_the_lock(&hold)).await?
        {
            let nothing = Ran { status: self.talk.status(), ..Ran::default() };
            return self.run_failed(nothing, Some(refusal), own, &watched, run).await;
        }
        self.link.forward(permit);
        let ran = self.hear_run(run.form).await?;
        let mut refusal = ran.exceeded(&agreed).map(act::exceeded);
        if ran.error.is_none()
            && refusal.is_none()
            && let Some(before) = before
        {
            self.talk.set_status(ran.status);
            refusal = self.weigh(Held { before, hold: hold.clone(), ends }).await?;
        }
        if own && !hold.was_confirmed() && judgement.reaches() && ran.commits_by_itself() {
            return self.cannot_be_tried(again, ran, &judgement, &watched, run).await;
        }
        if ran.error.is_some() || refusal.is_some() {
            return self.run_failed(ran, refusal, own, &watched, run).await;
        }
        if own && let Some(error) = self.commit().await? {
            self.record_outcome(&watched, Some(ran.changed()), Some(&error.code), Some("at commit"));
            self.talk.set_status(b'I');
            self.transaction_ended();
            self.link.client.send(error.bytes);
            self.end_of_run(run.form);
            return Ok(());
        }
        self.talk.set_status(if own { b'I' } else { ran.status });
        if self.talk.status() == b'I' {
            self.transaction_ended();
        }
        // What commits by itself is not measured: its tag tells nothing of what it did.
        let note = match hold.outcome_rows(ran.changed()) {
            None => Some("what it changed is not known: it was not measured"),
            Some(_) => None,
        };
        self.record_outcome(&watched, hold.outcome_rows(ran.changed()), None, note);
        self.link.client.send(ran.complete);
        if run.form == Form::Simple {
            self.link.client.send(message::ready(self.talk.status()));
        }
        Ok(())
    }

    pub(in crate::session) async fn run_failed(
        &mut self,
        ran: Ran,
        refusal: Option<Refusal>,
        own: bool,
        watched: &Watched,
        run: Run,
    ) -> Result<(), End> {
        let code = ran.error.as_ref().map(|error| error.code.clone());
        let note = refusal.as_ref().map(|_| "changed more rows than were agreed to; rolled back");
        let refused = refusal.as_ref().map_or("SL004", |refusal| refusal.code.sqlstate());
        self.talk.set_status(ran.status);
        if own {
            self.own("ROLLBACK", b'I').await?;
            self.talk.set_status(b'I');
        }
        if self.talk.status() == b'I' {
            self.transaction_ended();
        }
        self.record_outcome(watched, Some(ran.changed()), code.as_deref().or(Some(refused)), note);
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
                self.desk.cache.clear();
                let refusal = refusal.unwrap_or_else(|| act::exceeded(Exceeded::Unfinished));
                self.refuse(&refusal, run.form).await
            }
        }
    }

    /// A procedure that commits or rolls back: tried in a transaction of ours it fails, and did nothing. It is shown as what it is.
    async fn cannot_be_tried(
        &mut self,
        script: Bytes,
        ran: Ran,
        judgement: &Judgement,
        watched: &Watched,
        run: Run,
    ) -> Result<(), End> {
        self.talk.set_status(ran.status);
        self.own("ROLLBACK", b'I').await?;
        self.talk.set_status(b'I');
        self.transaction_ended();
        let why = "it commits or rolls back by itself, so it cannot be tried";
        let judgement = judgement.with_effects(Known::Unknown(why.to_owned()));
        let level = judgement.verdict.in_force();
        let protocol = if run.form == Form::Simple { ProtocolKind::Simple } else { ProtocolKind::Extended };
        self.record_outcome(watched, None, ran.error.as_ref().map(|error| error.code.as_str()), Some(why));
        if level < Level::Deny
            && let Some(redeemed) = self.desk.redeem_by_hint(&judgement, level).await
        {
            return match redeemed {
                Ok(redeemed) => {
                    let challenge = Some(redeemed.challenge().id);
                    let run = Run { challenge, agreed: Agreed::Untried, ..run };
                    Box::pin(self.run_script(script, Action::Confirmed, judgement, run)).await
                }
                Err(refusal) => self.refuse(&refusal, run.form).await,
            };
        }
        let refusal = self.desk.refusal(&judgement, protocol).await;
        self.refuse(&refusal, run.form).await
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

#[derive(Debug, Clone)]
pub(in crate::session) struct Run {
    pub form: Form,
    pub challenge: Option<crate::ground::ids::ChallengeId>,
    pub agreed: Agreed,
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

    /// invalid_transaction_termination, active_sql_transaction: it may not stand in a transaction.
    fn commits_by_itself(&self) -> bool {
        self.error.as_ref().is_some_and(|error| matches!(error.code.as_str(), "2D000" | "25001"))
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
    pub code: String,
    pub bytes: Bytes,
}
