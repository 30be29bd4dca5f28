//! What follows from a judgement: forwarded, forwarded under watch, refused with a token, or carried out because its token came back.
//!
//! ```text
//! nothing to ask about ─▶ forwarded, its rows watched
//! counted and small    ─▶ forwarded with its commit withheld: kept if it changes what was counted, else rolled back (SL004)
//! to be confirmed      ─▶ a challenge is kept, a token shown (SL001)
//! token redeemed       ─▶ as counted, held to what was shown
//! denied               ─▶ SL003
//! ```
//!
//! Invariant: a refusal is what any error of the server would be. In a transaction block the transaction fails: a script that goes
//! on after an error cannot commit the rest without it.

use crate::audit::event::Action;
use crate::audit::sink::RecordFailed;
use crate::audit::{Outcome, Recording};
use crate::change::preview::{self, Offer};
use crate::change::promise;
use crate::ground::metrics::{FINDINGS_TOTAL, RECORD_FAILURES_TOTAL, REFUSALS_TOTAL, STATEMENTS_TOTAL};
use crate::policy::finding::Level;
use crate::policy::question::Evidence;
use crate::policy::settings::Mode;
use crate::policy::verdict::Verdict;
use crate::protocol::postgres::conversation::Expected;
use crate::protocol::postgres::frame::Frame;
use crate::protocol::postgres::message::{self, Script, Severity};
use crate::protocol::{Code, Refusal};
use crate::session::look::{Judgement, Piece};
use crate::session::pipeline::{Exceeded, Mark, Portal, Watched};
use crate::session::run::Run;
use crate::session::{End, Session, readings};
use crate::sql::facts::{Facts, Kind, Nesting, Verb};
use crate::store::kept::ProtocolKind;
use bytes::Bytes;

/// Sent to make a transaction fail; it stands in the server's log where its error does.
pub(in crate::session) const POISON: &str =
    "SLUICE REFUSED the statement before this one; this error ends its transaction as an error of its own would";
pub(in crate::session) const POISON_NAME: &str = "sluice_refused";

/// Which protocol the statement came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum Form {
    Simple,
    Extended,
}

impl Session {
    /// A Query that was looked at.
    pub(in crate::session) async fn act_on_query(&mut self, frame: Frame, judgement: Judgement) -> Result<(), End> {
        count(&judgement.verdict);
        let level = judgement.verdict.in_force();
        if Session::passes(level) {
            self.warn(&judgement);
            self.remember(&judgement);
            if self.is_withheld(&judgement) {
                let run = Run { form: Form::Simple, challenge: None };
                return self.run_script(frame.into_bytes(), Action::Forward, &judgement, run).await;
            }
            let mark = self.watch(&judgement, Action::Forward, &frame, None)?;
            return self.forward_permitted(mark, Expected::Query);
        }
        self.drain().await?;
        if let Some(redeemed) = self.redeem_by_hint(&judgement, level).await? {
            return match redeemed {
                Ok(redeemed) => {
                    self.remember(&judgement);
                    let run = Run { form: Form::Simple, challenge: Some(redeemed.challenge().id) };
                    self.run_script(frame.into_bytes(), Action::Confirmed, &judgement, run).await
                }
                Err(refusal) => self.refuse(&refusal, Form::Simple).await,
            };
        }
        let refusal = self.refusal(&judgement, ProtocolKind::Simple).await?;
        self.refuse(&refusal, Form::Simple).await
    }

    /// A Bind that was looked at: its Execute will follow.
    pub(in crate::session) async fn act_on_bind(
        &mut self,
        frame: Frame,
        portal: Bytes,
        judgement: Judgement,
    ) -> Result<(), End> {
        count(&judgement.verdict);
        let level = judgement.verdict.in_force();
        let (action, challenge) = if Session::passes(level) {
            self.warn(&judgement);
            (Action::Forward, None)
        } else {
            match self.redeem_by_hint(&judgement, level).await? {
                Some(Ok(redeemed)) => (Action::Confirmed, Some(redeemed.challenge().id)),
                Some(Err(refusal)) => return self.refuse(&refusal, Form::Extended).await,
                None => {
                    let refusal = self.refusal(&judgement, ProtocolKind::Extended).await?;
                    return self.refuse(&refusal, Form::Extended).await;
                }
            }
        };
        self.remember(&judgement);
        let (permit, mut watched) = self.watch(&judgement, action, &frame, challenge)?;
        watched.withheld = action == Action::Confirmed || self.is_withheld(&judgement);
        if watched.withheld {
            watched.rows_max = self.agreed(&judgement).first().copied().flatten();
            watched.effects_max = judgement.effects_max();
        }
        watched.touches_names = judgement.pieces.iter().any(|piece| piece.facts.changes_session);
        if watched.withheld && !portal.is_empty() {
            self.guarded_portals.insert(portal.clone(), watched.clone());
        }
        self.portals.insert(portal, Portal::Judged(watched));
        self.pipeline.open = true;
        self.pipeline.bound = true;
        self.link.forward(permit);
        self.talk.expect(Expected::Bind, None);
        Ok(())
    }

    /// Refuses as the server would: the rest of the pipeline is discarded, a transaction fails.
    pub(in crate::session) async fn refuse(&mut self, refusal: &Refusal, form: Form) -> Result<(), End> {
        metrics::counter!(REFUSALS_TOTAL, "code" => refusal.code.sqlstate()).increment(1);
        self.fail_with(message::error(&self.said(refusal), Severity::Error), form).await
    }

    /// The statement fails with this error: ours, or the server's own.
    pub(in crate::session) async fn fail_with(&mut self, error: Bytes, form: Form) -> Result<(), End> {
        match form {
            Form::Simple => {
                self.drain().await?;
                match self.talk.status() {
                    status if status == b'T' || self.pipeline.executed => {
                        self.link.say(Script::default().query(POISON));
                        self.talk.expect(Expected::PoisonQuery(error), None);
                    }
                    status => {
                        self.reply(error);
                        self.reply(message::ready(status));
                    }
                }
            }
            Form::Extended => {
                let begun = self.talk.status() == b'T' || self.pipeline.executed;
                if begun && !self.pipeline.discarding {
                    self.pipeline.open = true;
                    self.poison(error);
                } else {
                    self.reply(error);
                }
                self.pipeline.discarding = true;
            }
        }
        Ok(())
    }

    /// What the client is told when a statement may not pass, with a token if there is a way.
    pub(in crate::session) async fn refusal(
        &mut self,
        judgement: &Judgement,
        protocol: ProtocolKind,
    ) -> Result<Refusal, End> {
        let verdict = &judgement.verdict;
        let level = verdict.in_force();
        let alone = judgement.pieces.len() == 1;
        // A statement that was prepared by SQL and bound by name has no text of its own that could be confirmed.
        let named = judgement.source.is_empty();
        let (token, id) = match level {
            Level::Confirm | Level::Approve if alone && !named => match self.issue(judgement, protocol).await {
                Ok((token, id)) => (Some(token), Some(id)),
                Err(refusal) => return Ok(refusal),
            },
            _ => (None, None),
        };
        let preview = self.preview(judgement, token);
        let code = match level {
            Level::Approve => Code::NeedsApproval,
            Level::Confirm => Code::NeedsConfirming,
            _ => Code::Denied,
        };
        let noted = self.noted(judgement);
        let shown = judgement.promise.changes.iter().chain(&judgement.promise.removals).copied();
        let about = Recording {
            challenge: id,
            promised_rows: shown.sum(),
            statement: noted.text.as_deref(),
            fingerprint: noted.fingerprint.as_deref(),
            reason: judgement.told.reason.as_deref(),
            ..self.recording()
        };
        if let Err(error) = self.house.recorder.refusal(verdict, code.sqlstate(), about) {
            note_unrecorded(&error);
            let message = format!("sluice: the statement was not run, and its refusal cannot be recorded: {error}");
            return Ok(Refusal::new(Code::CannotKnow, message));
        }
        tracing::info!(session = %self.id, user = %self.principal.user, code = code.sqlstate(), message = %preview.message, "refused");
        let mut refusal = Refusal::new(code, preview.message).detail(preview.detail);
        refusal.hint = Some(preview.hint).filter(|hint| !hint.is_empty());
        if named && level < Level::Deny {
            let how = "Send it as UTF-8 text and as a statement of its own, or by EXECUTE, to be able to confirm it.";
            refusal.hint = Some(how.to_owned());
        }
        if !alone && level < Level::Deny {
            let count = judgement.pieces.len();
            refusal.message = format!(
                "{} (statement {} of {count} in this message; none was run)",
                refusal.message,
                judgement.worst + 1
            );
            refusal.hint =
                Some(format!("Send statement {} of the message alone to be able to confirm it.", judgement.worst + 1));
        }
        Ok(refusal)
    }

    /// The preview of the statement with the strongest finding.
    pub(in crate::session) fn preview(&self, judgement: &Judgement, token: Option<String>) -> preview::Preview {
        let offer = Offer {
            token,
            valid: judgement.sizes.token_ttl,
            at_most: judgement.promise.at_most(judgement.sizes.tolerance),
        };
        let nothing = (Default::default(), Default::default());
        let (facts, evidence) = match (judgement.pieces.get(judgement.worst), judgement.evidence.get(judgement.worst)) {
            (Some(piece), Some(evidence)) => (&piece.facts, evidence),
            _ => (&nothing.0, &nothing.1),
        };
        preview::render(facts, evidence, &judgement.verdict, &judgement.sizes, &offer)
    }

    /// Records and permits; the rows it may change are watched.
    fn watch(
        &mut self,
        judgement: &Judgement,
        action: Action,
        frame: &Frame,
        challenge: Option<crate::ground::ids::ChallengeId>,
    ) -> Result<(crate::audit::Permit, Watched), End> {
        let noted = self.noted(judgement);
        let rows_max = self.expected_rows(judgement);
        let about = Recording {
            challenge,
            statement: noted.text.as_deref(),
            fingerprint: noted.fingerprint.as_deref(),
            promised_rows: rows_max,
            reason: judgement.told.reason.as_deref(),
            ..self.recording()
        };
        match self.house.recorder.record(&judgement.verdict, action, about, frame.clone().into_bytes()) {
            Ok(permit) => {
                let line = permit.line();
                Ok((permit, Watched { rows_max, challenge, line, ..Watched::default() }))
            }
            Err(error) => {
                note_unrecorded(&error);
                let message =
                    format!("sluice: the statement was not forwarded, because it cannot be recorded: {error}");
                Err(End::Refused(Refusal::new(Code::CannotKnow, message)))
            }
        }
    }

    fn forward_permitted(
        &mut self,
        (permit, watched): (crate::audit::Permit, Watched),
        expected: Expected,
    ) -> Result<(), End> {
        self.link.forward(permit);
        self.talk.expect(expected, Some(Mark::Watched(watched)));
        Ok(())
    }

    /// The level `warn`: the client is told, and the statement goes on.
    fn warn(&mut self, judgement: &Judgement) {
        for judged in judgement.verdict.judged().iter().filter(|judged| judged.level == Level::Warn) {
            let words =
                Refusal::new(Code::Denied, format!("sluice: {}: {}", judged.finding.rule, judged.finding.message));
            let words = self.said(&words);
            self.reply(message::warning(&words));
        }
    }

    /// What a statement that goes on changes in what we hold to be known.
    pub(in crate::session) fn remember(&mut self, judgement: &Judgement) {
        let mut facts = judgement.pieces.iter().map(|piece| &piece.facts);
        if facts.clone().any(|facts| facts.changes_session) {
            self.names_touched = true;
            self.cache.clear();
        }
        if facts.any(|facts| facts.forgets_prepared || facts.prepares.is_some() || facts.unread.is_some()) {
            // Names may mean something else from here on: the server is asked.
            self.prepared.clear();
            self.names_epoch += 1;
        }
    }

    /// A change whose rows were counted: it must not commit more. Not where Sluice cannot hold a commit back.
    fn is_withheld(&self, judgement: &Judgement) -> bool {
        let can_wait = |facts: &Facts| {
            !facts.outside_transaction_only
                && facts.transaction.is_none()
                && facts.prepares.is_none()
                && facts.changes.iter().all(|change| change.verb != Verb::CopyIn)
        };
        judgement.mode == Mode::Enforce
            && judgement.was_counted()
            && judgement.pieces.iter().all(|piece| can_wait(&piece.facts))
    }

    /// The rows a change may report without being a surprise: known from keys.
    fn expected_rows(&self, judgement: &Judgement) -> Option<u64> {
        (judgement.mode == Mode::Enforce).then(|| judgement.promise.at_most(judgement.sizes.tolerance).rows).flatten()
    }

    /// What was agreed to, tolerance included; a change nobody was asked about may be as large as what nobody is asked about.
    pub(in crate::session) fn agreed(&self, judgement: &Judgement) -> Vec<Option<u64>> {
        let free = Session::passes(judgement.verdict.in_force());
        let of = |(piece, known): (&Piece, &Evidence)| {
            // Under EXPLAIN, in a WITH and the like the tag tells something else.
            let told = piece.facts.changes.iter().all(|change| change.nesting == Nesting::Outer);
            let most = promise::promise(known).at_most(judgement.sizes.tolerance).rows.filter(|_| told)?;
            Some(if free { most.max(judgement.sizes.free_rows) } else { most })
        };
        judgement.pieces.iter().zip(&judgement.evidence).map(of).collect()
    }

    /// What the record shows of a statement: its text without its literals, and a digest of its shape. What changes nothing, and no
    /// rule found anything in, is only counted, and not made into text.
    pub(in crate::session) fn noted(&self, judgement: &Judgement) -> Noted {
        use Kind::{Alter, Call, Create, Do, Drop, Grant, Truncate};
        let changes = |piece: &Piece| {
            let facts = &piece.facts;
            let by_kind = matches!(facts.kind, Alter | Call | Create | Do | Drop | Grant | Truncate);
            by_kind || !facts.changes.is_empty() || !facts.removals.is_empty()
        };
        let tells = !judgement.verdict.judged().is_empty() || judgement.pieces.iter().any(changes);
        if !tells || judgement.source.is_empty() {
            return Noted::default();
        }
        let (text, mode) = (&judgement.source, self.mode());
        let (text, fingerprint) = readings::noted(text, mode);
        Noted { text: Some(text), fingerprint: Some(fingerprint) }
    }

    pub(in crate::session) fn record_outcome(
        &self,
        watched: &Watched,
        rows: Option<u64>,
        sqlstate: Option<&str>,
        note: Option<&str>,
    ) {
        if watched.line.is_none() && note.is_none() {
            return;
        }
        let about = Recording { challenge: watched.challenge, promised_rows: watched.rows_max, ..self.recording() };
        let outcome = Outcome { of: watched.line, actual_rows: rows, sqlstate, note };
        if let Err(error) = self.house.recorder.outcome(about, outcome) {
            note_unrecorded(&error);
        }
    }
}

fn count(verdict: &Verdict) {
    metrics::counter!(STATEMENTS_TOTAL, "verdict" => verdict.level().to_string()).increment(1);
    for judged in verdict.judged() {
        metrics::counter!(FINDINGS_TOTAL, "rule" => judged.finding.rule, "level" => judged.level.to_string())
            .increment(1);
    }
}

/// A record that fails is counted and logged wherever it is met; whether that refuses a statement is for the caller.
pub(in crate::session) fn note_unrecorded(error: &RecordFailed) {
    metrics::counter!(RECORD_FAILURES_TOTAL).increment(1);
    tracing::error!(%error, "the record failed");
}

#[derive(Debug, Default)]
pub(in crate::session) struct Noted {
    pub text: Option<String>,
    pub fingerprint: Option<String>,
}

/// A verdict that no token helps against.
pub(in crate::session) fn denial(verdict: &Verdict) -> Refusal {
    let judged = verdict.judged();
    let words = |text: Option<&String>| text.cloned();
    let first = judged.iter().max_by_key(|judged| judged.level);
    let message = first.map_or_else(|| "denied".to_owned(), |judged| judged.finding.message.clone());
    let rules = judged.iter().map(|judged| judged.finding.rule).collect::<Vec<_>>().join(", ");
    let mut refusal =
        Refusal::new(Code::Denied, format!("sluice: denied: {message}")).detail(format!("rules: {rules}"));
    refusal.hint = words(first.and_then(|judged| judged.finding.instead.as_ref()));
    refusal
}

pub(in crate::session) fn exceeded(exceeded: Exceeded) -> Refusal {
    let (changed, agreed) = match exceeded {
        Exceeded::Rows { changed, agreed } => (changed, agreed),
        Exceeded::Unfinished => {
            let message = "sluice: what the statement changed is not known, because its rows were fetched in parts; it was rolled back";
            return Refusal::new(Code::ExceedsConfirmed, message).hint("Execute it without a row limit.");
        }
        Exceeded::Unmeasured => {
            let message = "sluice: what the statement changed could not be measured; it was rolled back";
            return Refusal::new(Code::ExceedsConfirmed, message);
        }
    };
    Refusal::new(
        Code::ExceedsConfirmed,
        format!(
            "sluice: the statement changed {changed} rows where at most {agreed} were agreed to; it was rolled back"
        ),
    )
    .hint("Send it again to see what it would change now.")
}
