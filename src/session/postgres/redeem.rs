//! Tokens: how a refusal comes by one, and what makes a token do what was shown.
//!
//! Invariant: a token carries out exactly the statement it was made for, once, and only while what was shown still holds: counts and
//! schema are asked for again, and what moved is shown anew instead of run.

use crate::audit::Recording;
use crate::audit::event::Action;
use crate::change::challenge::{self, Misuse};
use crate::policy::finding::Level;
use crate::protocol::postgres::message::Script;
use crate::protocol::{Code, Parameters, Refusal};
use crate::session::End;
use crate::session::commands::{Command, of_ours};
use crate::session::desk::note_unrecorded;
use crate::session::judgement::{Bound, Subjected};
use crate::session::postgres::Session;
use crate::session::postgres::act::Form;
use crate::session::postgres::look::Looked;
use crate::session::postgres::run::Run;
use crate::session::tokens::{Redeeming, misused};
use crate::store::kept::ProtocolKind;
use bytes::Bytes;

impl Session {
    /// `SLUICE CONFIRM`: the statement is looked at again and, if what was shown still holds, carried out.
    pub(in crate::session) async fn confirm(&mut self, typed: &str, form: Form) -> Result<(), End> {
        self.drain().await?;
        self.desk.cache.clear();
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
        let challenge = match self.desk.find_challenge(typed).await {
            Ok(challenge) => challenge,
            Err(refusal) => {
                self.desk.note_token(None, &refusal);
                return self.refuse(&refusal, form).await;
            }
        };
        // Whose it is, and whether it still lives, comes before anything is asked of the database.
        let now = self.desk.house.clock.now();
        if let Err(misuse) =
            challenge::check(&challenge, &self.desk.house.listener, &self.desk.principal, &challenge.context, now)
        {
            let refusal = misused(&misuse);
            self.desk.note_token(Some(challenge.id), &refusal);
            return self.refuse(&refusal, form).await;
        }
        let about = Recording { challenge: Some(challenge.id), ..self.desk.recording() };
        if let Err(error) = self.desk.house.recorder.command(about, "CONFIRM", None) {
            note_unrecorded(&error);
            let refusal = Refusal::new(Code::CannotKnow, format!("sluice: the command cannot be recorded: {error}"));
            return self.refuse(&refusal, form).await;
        }
        if let Some(Command::Undo(id)) = of_ours(&challenge.statement) {
            return Box::pin(self.undo_job(&id, &challenge, form)).await;
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
            let refusal = self.desk.refusal(&judgement, ProtocolKind::Simple).await;
            return self.refuse(&refusal, form).await;
        }
        if judgement.context.is_empty() {
            judgement.context = challenge.context.clone();
        }
        match self.desk.redeem(&challenge, &judgement).await {
            Redeeming::Refused(refusal) => self.refuse(&refusal, form).await,
            Redeeming::Moved => {
                let mut refusal = self.desk.refusal(&judgement, ProtocolKind::Simple).await;
                refusal.detail = Some(format!(
                    "What was shown no longer holds, so nothing was run; this is the new preview.\n{}",
                    refusal.detail.unwrap_or_default()
                ));
                self.refuse(&refusal, form).await
            }
            Redeeming::Done(redeemed) => {
                if let Some(refusal) = self.desk.enter_in_ledger(&judgement).await {
                    return self.refuse(&refusal, form).await;
                }
                self.remember(&judgement);
                let agreed = self.desk.confirmed(&judgement, redeemed.challenge());
                let run = Run { form, challenge: Some(redeemed.challenge().id), agreed };
                if Box::pin(self.run_in_batches(&judgement, &run)).await? {
                    self.close_runs();
                    return Ok(());
                }
                let bytes = match &judgement.parameters {
                    None => Script::default().query(&challenge.statement),
                    Some(parameters) => bound_script(&challenge.statement, parameters),
                };
                self.run_script(bytes.bytes(), Action::Confirmed, judgement, run).await?;
                self.close_runs();
                Ok(())
            }
        }
    }
}

pub(in crate::session) fn bound_script(text: &str, parameters: &Parameters) -> Script {
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
