//! `SLUICE CONFIRM`: a statement that was refused is looked at again and, if what was shown still holds, carried out.
//!
//! Invariant: what runs is the text kept with the challenge, with its values, never a text that is only like it.

use crate::audit::Recording;
use crate::audit::event::Action;
use crate::change::challenge;
use crate::policy::finding::Level;
use crate::protocol::mysql::message::Script;
use crate::protocol::{Code, Parameters, Refusal};
use crate::session::End;
use crate::session::commands::{Command, of_ours};
use crate::session::desk::note_unrecorded;
use crate::session::mysql::Session;
use crate::session::mysql::act::Form;
use crate::session::mysql::look::Looked;
use crate::session::mysql::run::Run;
use crate::session::tokens::{Redeeming, misused};
use crate::store::kept::{Challenge, ProtocolKind};

impl Session {
    pub(in crate::session) async fn confirm(&mut self, typed: &str) -> Result<(), End> {
        self.desk.cache.clear();
        let challenge = match self.desk.find_challenge(typed).await {
            Ok(challenge) => challenge,
            Err(refusal) => {
                self.desk.note_token(None, &refusal);
                return self.refuse(&refusal).await;
            }
        };
        // Whose it is, and whether it still lives, comes before anything is asked of the database.
        let now = self.desk.house.clock.now();
        let house = self.desk.house.clone();
        if let Err(misuse) =
            challenge::check(&challenge, &house.listener, &self.desk.principal, &challenge.context, now)
        {
            let refusal = misused(&misuse);
            self.desk.note_token(Some(challenge.id), &refusal);
            return self.refuse(&refusal).await;
        }
        let about = Recording { challenge: Some(challenge.id), ..self.desk.recording() };
        if let Err(error) = house.recorder.command(about, "CONFIRM", None) {
            note_unrecorded(&error);
            let refusal = Refusal::new(Code::CannotKnow, format!("sluice: the command cannot be recorded: {error}"));
            return self.refuse(&refusal).await;
        }
        if let Some(Command::Undo(id)) = of_ours(&challenge.statement) {
            return Box::pin(self.undo_job(&id, &challenge)).await;
        }
        self.be_ready_to_read().await?;
        let parameters = challenge.parameters.as_ref().map(challenge::restored);
        let source = match self.source_of(&challenge.statement) {
            Ok(source) => source,
            Err(refusal) => return self.refuse(&refusal).await,
        };
        let text = source.text.clone();
        let mut judgement = match self.look(source, parameters).await? {
            Looked::At(judgement) => *judgement,
            Looked::Not(refusal) => return self.refuse(&refusal).await,
            Looked::Wrong(failure) => {
                self.answer_failure(failure);
                return Ok(());
            }
        };
        if judgement.verdict.in_force() >= Level::Deny {
            let refusal = self.desk.refusal(&judgement, challenge.protocol).await;
            return self.refuse(&refusal).await;
        }
        if judgement.context.is_empty() {
            judgement.context = challenge.context.clone();
        }
        match self.desk.redeem(&challenge, &judgement).await {
            Redeeming::Refused(refusal) => self.refuse(&refusal).await,
            Redeeming::Moved => {
                let mut refusal = self.desk.refusal(&judgement, challenge.protocol).await;
                refusal.detail = Some(format!(
                    "What was shown no longer holds, so nothing was run; this is the new preview.\n{}",
                    refusal.detail.unwrap_or_default()
                ));
                self.refuse(&refusal).await
            }
            Redeeming::Done(redeemed) => {
                if let Some(refusal) = self.desk.enter_in_ledger(&judgement).await {
                    return self.refuse(&refusal).await;
                }
                self.remember(&judgement);
                let agreed = self.desk.confirmed(&judgement, redeemed.challenge());
                let run = Run { form: Form::Text, challenge: Some(redeemed.challenge().id), agreed };
                if Box::pin(self.run_in_batches(&judgement, &run)).await? {
                    self.desk.close_runs(true);
                    return Ok(());
                }
                self.run_confirmed((&challenge, &text), judgement, run).await
            }
        }
    }

    /// By text; with values, as a prepared statement of ours, which is closed behind it.
    async fn run_confirmed(
        &mut self,
        (challenge, text): (&Challenge, &[u8]),
        judgement: crate::session::judgement::Judgement,
        run: Run,
    ) -> Result<(), End> {
        let parameters: Option<Parameters> = judgement.parameters.clone().filter(|bound| !bound.values.is_empty());
        let Some(parameters) = parameters else {
            let command = Script::new(self.server).query_bytes(text).bytes();
            return self.run_held(command, Action::Confirmed, judgement, run).await;
        };
        debug_assert_eq!(challenge.protocol, ProtocolKind::Extended);
        let number = match self.prepare_own(text).await? {
            Ok(number) => number,
            Err(failure) => {
                self.answer_failure(failure);
                return Ok(());
            }
        };
        let command = Script::new(self.server).execute(number, &parameters).bytes();
        let ran = self.run_held(command, Action::Confirmed, judgement, run).await;
        self.link.say(Script::new(self.server).close_statement(number));
        ran
    }
}
