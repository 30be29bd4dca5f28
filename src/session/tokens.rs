//! Tokens: how a refusal comes by one, and what makes a token do what was shown.
//!
//! Invariant: a token carries out exactly the statement it was made for, once, and only while what was shown still holds: counts and
//! schema are asked for again, and what moved is shown anew instead of run.

use crate::audit::{Plain, Recording};
use crate::change::challenge::{self, Draft, Misuse, Redeemed};
use crate::change::promise::{self, Moved};
use crate::ground::metrics::CHALLENGES_TOTAL;
use crate::policy::finding::Level;
use crate::protocol::{Code, Refusal};
use crate::session::desk::{Desk, note_unrecorded};
use crate::session::judgement::Judgement;
use crate::sql::essence;
use crate::store::Whose;
use crate::store::kept::{Context, Needs, ProtocolKind};

impl Desk {
    pub(in crate::session) async fn issue(
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
    pub(in crate::session) async fn redeem_by_hint(
        &mut self,
        judgement: &Judgement,
        level: Level,
    ) -> Option<Result<Redeemed, Refusal>> {
        if level >= Level::Deny || judgement.pieces.len() != 1 || judgement.source.is_empty() {
            return None;
        }
        // A token is not used up for a statement that could not be recorded.
        if let Some(refusal) = self.refused_as(Plain::Changes) {
            return Some(Err(refusal));
        }
        let told = &judgement.told;
        let (typed, on_session) = match (&told.confirm, &told.confirm_on_session) {
            (Some(hint), _) => (hint, false),
            (None, Some(set)) => (set, true),
            (None, None) => return self.redeem_approved(judgement, level).await,
        };
        let redeeming = match self.find_challenge(typed).await {
            // Of what is over the text is gone: what became of it is the answer.
            Ok(challenge) if challenge.is_over() || self.says_the_same(&challenge, judgement) => {
                self.redeem(&challenge, judgement).await
            }
            Ok(_) => Redeeming::Refused(misused(&Misuse::OtherStatement)),
            Err(refusal) => Redeeming::Refused(refusal),
        };
        match redeeming {
            Redeeming::Done(redeemed) => Some(Ok(*redeemed)),
            // What was shown no longer holds: the refusal that follows shows it anew, with a new token.
            Redeeming::Moved => None,
            // A token that was set on the session may be meant for another statement.
            Redeeming::Refused(_) if on_session => None,
            Redeeming::Refused(refusal) => {
                self.note_token(None, &refusal);
                Some(Err(refusal))
            }
        }
    }

    /// A token that did not work is in the record: somebody may be trying.
    pub(in crate::session) fn note_token(&self, challenge: Option<crate::ground::ids::ChallengeId>, refusal: &Refusal) {
        metrics::counter!(CHALLENGES_TOTAL, "outcome" => "misused").increment(1);
        let about = Recording { challenge, ..self.recording() };
        if let Err(error) = self.house.recorder.command(about, "CONFIRM", Some(refusal.code.sqlstate())) {
            note_unrecorded(&error);
        }
    }

    /// A statement that another principal has approved runs when its sender sends it again.
    pub(in crate::session) async fn redeem_approved(
        &mut self,
        judgement: &Judgement,
        level: Level,
    ) -> Option<Result<Redeemed, Refusal>> {
        if level != Level::Approve {
            return None;
        }
        let holder = challenge::holder(&self.house.listener, &self.principal);
        let Ok(waiting) = self.house.store.approved(&holder, self.house.clock.now()).await else { return None };
        let approved = waiting.into_iter().find(|challenge| self.says_the_same(challenge, judgement));
        let approved = approved?;
        match self.redeem(&approved, judgement).await {
            Redeeming::Done(redeemed) => Some(Ok(*redeemed)),
            // It is shown anew.
            Redeeming::Moved | Redeeming::Refused(_) => None,
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
    pub(in crate::session) fn says_the_same(
        &self,
        challenge: &crate::store::kept::Challenge,
        judgement: &Judgement,
    ) -> bool {
        let mode = judgement.lexical;
        essence::same(&challenge.statement, &judgement.source, mode)
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
    pub(in crate::session) async fn redeem(
        &self,
        challenge: &crate::store::kept::Challenge,
        judgement: &Judgement,
    ) -> Redeeming {
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
}

pub(in crate::session) enum Redeeming {
    Done(Box<Redeemed>),
    Refused(Refusal),
    /// Counts or schema moved since it was shown.
    Moved,
}

pub(in crate::session) fn misused(misuse: &Misuse) -> Refusal {
    let code = match misuse {
        Misuse::NeedsApproval => Code::NeedsApproval,
        _ => Code::Token,
    };
    Refusal::new(code, format!("sluice: {misuse}"))
}

/// What a token is bound to: what gives names and texts their meaning, not what the sender said beside.
pub(in crate::session) fn binding(context: &Context) -> Context {
    context
        .iter()
        .filter(|(name, _)| !name.starts_with("sluice."))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
