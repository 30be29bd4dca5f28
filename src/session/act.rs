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
use crate::change::challenge::{self, Draft, Misuse, Redeemed};
use crate::change::preview::{self, Offer};
use crate::change::promise::{self, Moved};
use crate::database::{Answer, Ask};
use crate::ground::limits;
use crate::ground::metrics::{
    CHALLENGES_TOTAL, FINDINGS_TOTAL, RECORD_FAILURES_TOTAL, REFUSALS_TOTAL, STATEMENTS_TOTAL,
};
use crate::policy::finding::Level;
use crate::policy::question::Evidence;
use crate::policy::settings::Mode;
use crate::policy::verdict::Verdict;
use crate::protocol::postgres::command;
use crate::protocol::postgres::conversation::Expected;
use crate::protocol::postgres::frame::{Frame, upstream_frame};
use crate::protocol::postgres::message::{self, Script, Severity};
use crate::protocol::{Code, Parameters, Refusal};
use crate::session::ask::{Asker, Ground};
use crate::session::link::Listen;
use crate::session::look::{Bound, Judgement, Looked, Piece, Subjected, unknown_state};
use crate::session::pipeline::{Exceeded, Held, Mark, Portal, Watched};
use crate::session::{End, Session};
use crate::sql::facts::{Facts, Nesting, Verb};
use crate::sql::{self, hints};
use crate::store::Whose;
use crate::store::kept::{Context, Needs, ProtocolKind, Status};
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
                return self.run_apart(frame, Action::Forward, &judgement, run).await;
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
                    self.run_apart(frame, Action::Confirmed, &judgement, run).await
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
    async fn refusal(&mut self, judgement: &Judgement, protocol: ProtocolKind) -> Result<Refusal, End> {
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

    async fn issue(
        &mut self,
        judgement: &Judgement,
        protocol: ProtocolKind,
    ) -> Result<(String, crate::ground::ids::ChallengeId), Refusal> {
        let cannot = |why: &dyn std::fmt::Display| {
            Refusal::new(
                Code::CannotKnow,
                format!("sluice: the statement needs confirming, but no token could be kept: {why}"),
            )
        };
        let shown = self.preview(judgement, None);
        let needs = if judgement.verdict.in_force() == Level::Approve { Needs::Approve } else { Needs::Confirm };
        let draft = Draft {
            needs,
            listener: &self.house.listener,
            principal: &self.principal,
            statement: &judgement.source,
            parameters: judgement.parameters.as_ref(),
            protocol,
            context: &binding(&judgement.context),
            promise: serde_json::to_value(&judgement.promise).map_err(|error| cannot(&error))?,
            preview: crate::store::kept::Preview { message: shown.message, detail: shown.detail },
        };
        let now = self.house.clock.now();
        let made = challenge::issue(draft, judgement.sizes.token_ttl, now, |token| self.house.store.hash(token));
        let (token, challenge) = made.map_err(|error| cannot(&error))?;
        let id = challenge.id;
        self.house.store.create(challenge).await.map_err(|error| cannot(&error))?;
        metrics::counter!(CHALLENGES_TOTAL, "outcome" => "issued").increment(1);
        Ok((token.to_string(), id))
    }

    /// `confirm=` in a hint or on the session: `None` if there is none, or if nothing could be confirmed by it.
    async fn redeem_by_hint(
        &mut self,
        judgement: &Judgement,
        level: Level,
    ) -> Result<Option<Result<Redeemed, Refusal>>, End> {
        if level >= Level::Deny || judgement.pieces.len() != 1 || judgement.source.is_empty() {
            return Ok(None);
        }
        let told = &judgement.told;
        let (typed, on_session) = match (&told.confirm, &told.confirm_on_session) {
            (Some(hint), _) => (hint, false),
            (None, Some(set)) => (set, true),
            (None, None) => return self.redeem_approved(judgement, level).await,
        };
        let redeeming = match self.find_challenge(typed).await {
            Ok(challenge) if self.says_the_same(&challenge, judgement) => self.redeem(&challenge, judgement).await,
            Ok(_) => Redeeming::Refused(misused(&Misuse::OtherStatement)),
            Err(refusal) => Redeeming::Refused(refusal),
        };
        Ok(match redeeming {
            Redeeming::Done(redeemed) => Some(Ok(*redeemed)),
            // What was shown no longer holds: the refusal that follows shows it anew, with a new token.
            Redeeming::Moved => None,
            // A token that was set on the session may be meant for another statement.
            Redeeming::Refused(_) if on_session => None,
            Redeeming::Refused(refusal) => {
                self.note_token(None, &refusal);
                Some(Err(refusal))
            }
        })
    }

    /// A token that did not work is in the record: somebody may be trying.
    fn note_token(&self, challenge: Option<crate::ground::ids::ChallengeId>, refusal: &Refusal) {
        metrics::counter!(CHALLENGES_TOTAL, "outcome" => "misused").increment(1);
        let about = Recording { challenge, ..self.recording() };
        if let Err(error) = self.house.recorder.command(about, "CONFIRM", Some(refusal.code.sqlstate())) {
            note_unrecorded(&error);
        }
    }

    /// A statement that another principal has approved runs when its sender sends it again.
    async fn redeem_approved(
        &mut self,
        judgement: &Judgement,
        level: Level,
    ) -> Result<Option<Result<Redeemed, Refusal>>, End> {
        if level != Level::Approve {
            return Ok(None);
        }
        let holder = challenge::holder(&self.house.listener, &self.principal);
        let Ok(waiting) = self.house.store.pending(&holder, self.house.clock.now()).await else { return Ok(None) };
        let approved = waiting
            .into_iter()
            .find(|challenge| challenge.status == Status::Approved && self.says_the_same(challenge, judgement));
        let Some(approved) = approved else { return Ok(None) };
        match self.redeem(&approved, judgement).await {
            Redeeming::Done(redeemed) => Ok(Some(Ok(*redeemed))),
            // It is shown anew.
            Redeeming::Moved | Redeeming::Refused(_) => Ok(None),
        }
    }

    /// `SLUICE APPROVE`: another principal's word. Returns what was approved, in a line.
    pub(in crate::session) async fn approve(&self, typed: &str) -> Result<String, Refusal> {
        let challenge = self.find(typed, Whose::AnyInDatabase).await?;
        let now = self.house.clock.now();
        challenge::check_approval(&challenge, &self.principal, now).map_err(|misuse| misused(&misuse))?;
        let about = Recording { challenge: Some(challenge.id), ..self.recording() };
        self.house.recorder.command(about, "APPROVE", None).map_err(|error| {
            note_unrecorded(&error);
            Refusal::new(Code::CannotKnow, format!("sluice: the approval cannot be recorded: {error}"))
        })?;
        match self.house.store.approve(challenge.id, &self.principal.user, now).await {
            Ok(true) => Ok(challenge.preview.message),
            Ok(false) => Err(misused(&Misuse::Used)),
            Err(error) => {
                Err(Refusal::new(Code::CannotKnow, format!("sluice: the approval could not be kept: {error}")))
            }
        }
    }

    /// The statement that was shown, with the same values; hints aside.
    fn says_the_same(&self, challenge: &crate::store::kept::Challenge, judgement: &Judgement) -> bool {
        let mode = self.mode();
        hints::without(&challenge.statement, mode) == hints::without(&judgement.source, mode)
            && challenge::check_statement(challenge, &challenge.statement, judgement.parameters.as_ref()).is_ok()
    }

    pub(in crate::session) async fn find_challenge(
        &self,
        typed: &str,
    ) -> Result<crate::store::kept::Challenge, Refusal> {
        self.find(typed, Whose::Own).await
    }

    pub(in crate::session) async fn find(
        &self,
        typed: &str,
        whose: Whose,
    ) -> Result<crate::store::kept::Challenge, Refusal> {
        let now = self.house.clock.now();
        match challenge::look_up(&self.house.store, typed, &self.house.listener, &self.principal, whose, now).await {
            Ok(Ok(challenge)) => Ok(challenge),
            Ok(Err(misuse)) => Err(misused(&misuse)),
            Err(error) => {
                Err(Refusal::new(Code::CannotKnow, format!("sluice: the token could not be looked up: {error}")))
            }
        }
    }

    /// Uses a token up, if everything it is bound to still holds.
    async fn redeem(&self, challenge: &crate::store::kept::Challenge, judgement: &Judgement) -> Redeeming {
        let now = self.house.clock.now();
        let context = binding(&judgement.context);
        let redeemable = match challenge::check(challenge, &self.house.listener, &self.principal, &context, now) {
            Ok(redeemable) => redeemable,
            Err(misuse) => return Redeeming::Refused(misused(&misuse)),
        };
        if judgement.verdict.in_force() == Level::Approve && challenge.needs == Needs::Confirm {
            // The policy asks for more than when this was shown.
            return Redeeming::Moved;
        }
        let shown = serde_json::from_value(challenge.promise.clone());
        let moved = shown.map(|shown| promise::within(&shown, &judgement.promise, judgement.sizes.tolerance));
        if !matches!(moved, Ok(Moved::No)) {
            let _ = self.house.store.reject(challenge.id, now).await;
            return Redeeming::Moved;
        }
        match challenge::redeem(&self.house.store, redeemable, now).await {
            Ok(Ok(redeemed)) => {
                metrics::counter!(CHALLENGES_TOTAL, "outcome" => "redeemed").increment(1);
                Redeeming::Done(Box::new(redeemed))
            }
            Ok(Err(misuse)) => Redeeming::Refused(misused(&misuse)),
            Err(error) => Redeeming::Refused(Refusal::new(
                Code::CannotKnow,
                format!("sluice: the token could not be used: {error}"),
            )),
        }
    }

    /// `SLUICE CONFIRM`: the statement is looked at again and, if what was shown still holds, carried out.
    pub(in crate::session) async fn confirm(&mut self, typed: &str, form: Form) -> Result<(), End> {
        self.drain().await?;
        self.cache.clear();
        if form == Form::Extended && (self.pipeline.executed || self.pipeline.bound) {
            let refusal =
                Refusal::new(Code::Token, "sluice: CONFIRM cannot run behind other statements of the same pipeline")
                    .hint("Send a Sync first: the token is still good.");
            return self.refuse(&refusal, form).await;
        }
        if self.talk.status() == b'E' {
            let refusal = Refusal::new(
                Code::Token,
                "sluice: the transaction has failed; ROLLBACK first, the token is still good",
            );
            return self.refuse(&refusal, form).await;
        }
        let challenge = match self.find_challenge(typed).await {
            Ok(challenge) => challenge,
            Err(refusal) => {
                self.note_token(None, &refusal);
                return self.refuse(&refusal, form).await;
            }
        };
        // Whose it is, and whether it still lives, comes before anything is asked of the database.
        let now = self.house.clock.now();
        if let Err(misuse) =
            challenge::check(&challenge, &self.house.listener, &self.principal, &challenge.context, now)
        {
            let refusal = misused(&misuse);
            self.note_token(Some(challenge.id), &refusal);
            return self.refuse(&refusal, form).await;
        }
        let about = Recording { challenge: Some(challenge.id), ..self.recording() };
        if let Err(error) = self.house.recorder.command(about, "CONFIRM", None) {
            note_unrecorded(&error);
            let refusal = Refusal::new(Code::CannotKnow, format!("sluice: the command cannot be recorded: {error}"));
            return self.refuse(&refusal, form).await;
        }
        let parameters = challenge.parameters.as_ref().map(challenge::restored);
        let bound = parameters.map(|parameters| Bound { statement: None, parameters });
        let source = self.source(&Bytes::from(challenge.statement.clone()));
        let mut judgement = match self.look(Subjected::Source(source), bound).await? {
            Looked::At(judgement) => *judgement,
            Looked::Not(refusal) => return self.refuse(&refusal, form).await,
            Looked::Wrong(error) => return self.fail_with(error.into_bytes(), form).await,
            Looked::Discarded => return Ok(()),
            Looked::Missing => return self.refuse(&misused(&Misuse::OtherStatement), form).await,
        };
        if judgement.verdict.in_force() >= Level::Deny {
            let refusal = self.refusal(&judgement, ProtocolKind::Simple).await?;
            return self.refuse(&refusal, form).await;
        }
        if judgement.context.is_empty() {
            judgement.context = challenge.context.clone();
        }
        match self.redeem(&challenge, &judgement).await {
            Redeeming::Refused(refusal) => self.refuse(&refusal, form).await,
            Redeeming::Moved => {
                let mut refusal = self.refusal(&judgement, ProtocolKind::Simple).await?;
                refusal.detail = Some(format!(
                    "What was shown no longer holds, so nothing was run; this is the new preview.\n{}",
                    refusal.detail.unwrap_or_default()
                ));
                self.refuse(&refusal, form).await
            }
            Redeeming::Done(redeemed) => {
                self.remember(&judgement);
                let run = Run { form, challenge: Some(redeemed.challenge().id) };
                let bytes = match &judgement.parameters {
                    None => Script::default().query(&challenge.statement),
                    Some(parameters) => bound_script(&challenge.statement, parameters),
                };
                self.run_script(bytes.bytes(), Action::Confirmed, &judgement, run).await
            }
        }
    }

    async fn run_apart(&mut self, frame: Frame, action: Action, judgement: &Judgement, run: Run) -> Result<(), End> {
        self.run_script(frame.into_bytes(), action, judgement, run).await
    }

    /// Carries one statement out with its commit withheld: in a transaction of its own, or in the client's.
    ///
    /// Not to be cancelled half-way. A client that asks to cancel reaches the database itself, whose error then ends the run.
    async fn run_script(&mut self, script: Bytes, action: Action, judgement: &Judgement, run: Run) -> Result<(), End> {
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

    async fn run_failed(
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
                self.refuse(&self::exceeded(exceeded), run.form).await
            }
        }
    }

    fn end_of_run(&mut self, form: Form) {
        match form {
            Form::Simple => self.link.client.send(message::ready(self.talk.status())),
            Form::Extended => self.pipeline.discarding = true,
        }
    }

    /// The answers to a statement of which the commit is withheld: rows go on to the client, its completion is kept back.
    async fn hear_run(&mut self, form: Form) -> Result<Ran, End> {
        let mut ran = Ran::default();
        loop {
            let frame = self.next_frame().await?;
            match frame.tag() {
                b'C' | b'I' => {
                    let body = frame.body();
                    let rows = command::changed_rows(body.strip_suffix(&[0]).unwrap_or(body)).unwrap_or(0);
                    ran.each.push(rows);
                    // Of a message of several statements only the last one's completion is kept back.
                    let before = std::mem::replace(&mut ran.complete, frame.into_bytes());
                    self.link.client.send(before);
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
    async fn own(&mut self, statement: &str, status: u8) -> Result<(), End> {
        self.link.say(Script::default().query(statement));
        let reached = self.hear_ready().await?;
        if reached == status {
            return Ok(());
        }
        let message = format!("sluice: {statement} of Sluice's own failed; the session cannot go on");
        Err(End::Refused(Refusal::new(Code::CannotKnow, message)))
    }

    /// `Some`: the commit failed (a deferred constraint, a serialization failure), and the transaction with it.
    async fn commit(&mut self) -> Result<Option<Failure>, End> {
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

    fn note_and_pass(&mut self, frame: Frame) {
        let mut cursor = crate::protocol::cursor::Cursor::new(frame.body());
        if let (Ok(name), Ok(value)) = (cursor.cstr(), cursor.cstr()) {
            let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
            self.settings.insert(name.into_owned(), value.into_owned());
        }
        self.link.client.send(frame.into_bytes());
    }

    async fn next_frame(&mut self) -> Result<Frame, End> {
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
    fn remember(&mut self, judgement: &Judgement) {
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
    fn agreed(&self, judgement: &Judgement) -> Vec<Option<u64>> {
        let free = Session::passes(judgement.verdict.in_force());
        let of = |(piece, known): (&Piece, &Evidence)| {
            // Under EXPLAIN, in a WITH and the like the tag tells something else.
            let told = piece.facts.changes.iter().all(|change| change.nesting == Nesting::Outer);
            let most = promise::promise(known).at_most(judgement.sizes.tolerance).rows.filter(|_| told)?;
            Some(if free { most.max(judgement.sizes.free_rows) } else { most })
        };
        judgement.pieces.iter().zip(&judgement.evidence).map(of).collect()
    }

    /// What the record shows of a statement: its text without its literals, and a digest of its shape. A statement that is only
    /// counted is not made into text.
    fn noted(&self, judgement: &Judgement) -> Noted {
        if judgement.verdict.judged().is_empty() || judgement.source.is_empty() {
            return Noted::default();
        }
        let (text, mode) = (&judgement.source, self.mode());
        Noted { text: Some(sql::redact(text, mode)), fingerprint: Some(sql::fingerprint(text, mode)) }
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

enum Redeeming {
    Done(Box<Redeemed>),
    Refused(Refusal),
    /// Counts or schema moved since it was shown.
    Moved,
}

#[derive(Debug, Default)]
struct Noted {
    text: Option<String>,
    fingerprint: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    form: Form,
    challenge: Option<crate::ground::ids::ChallengeId>,
}

#[derive(Debug, Default)]
struct Ran {
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
struct Failure {
    code: String,
    bytes: Bytes,
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
    let Exceeded::Rows { changed, agreed } = exceeded else {
        let message = "sluice: what the statement changed is not known, because its rows were fetched in parts; it was rolled back";
        return Refusal::new(Code::ExceedsConfirmed, message).hint("Execute it without a row limit.");
    };
    Refusal::new(
        Code::ExceedsConfirmed,
        format!(
            "sluice: the statement changed {changed} rows where at most {agreed} were agreed to; it was rolled back"
        ),
    )
    .hint("Send it again to see what it would change now.")
}

pub(in crate::session) fn misused(misuse: &Misuse) -> Refusal {
    let code = match misuse {
        Misuse::NeedsApproval => Code::NeedsApproval,
        _ => Code::Token,
    };
    Refusal::new(code, format!("sluice: {misuse}"))
}

/// What a token is bound to: what gives names and texts their meaning, not what the sender said beside.
fn binding(context: &Context) -> Context {
    context
        .iter()
        .filter(|(name, _)| !name.starts_with("sluice."))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn bound_script(text: &str, parameters: &Parameters) -> Script {
    const NAME: &str = "sluice_run";
    Script::default()
        .close_statement(NAME)
        .parse(NAME, text, &parameters.types)
        .bind(NAME, NAME, Some(parameters))
        .execute(NAME, 0)
        .close_portal(NAME)
        .close_statement(NAME)
        .sync()
}
