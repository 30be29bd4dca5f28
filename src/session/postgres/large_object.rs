//! Removing and shortening large objects by the function-call message, as libpq and drivers do (`lo_unlink`, `\lo_unlink`, JDBC's
//! `LargeObjectManager`).
//!
//! Invariant: judged by what it does, as the same function called in SQL is, and recorded before it is forwarded. It cannot get a
//! token, as it has no text that could be kept; the refusal says which text can. Every other function stays behind `other-doors`.

use crate::audit::Recording;
use crate::audit::event::Action;
use crate::policy;
use crate::policy::finding::Level;
use crate::policy::verdict::Verdict;
use crate::protocol::postgres::conversation::Expected;
use crate::protocol::postgres::frame::Frame;
use crate::protocol::{Code, Refusal};
use crate::session::End;
use crate::session::desk;
use crate::session::desk::Desk;
use crate::session::desk::note_unrecorded;
use crate::session::postgres::Session;
use crate::session::postgres::act::Form;
use crate::session::record;
use crate::sql::facts::{Act, ActKind, Facts, Kind};

impl Session {
    /// `name` is what the function that the frame calls is called in SQL.
    pub(in crate::session) async fn remove_large_object(
        &mut self,
        frame: Frame,
        name: &'static str,
    ) -> Result<(), End> {
        let act = Act { kind: ActKind::Unlinks, words: format!("{name}()") };
        let facts = Facts { kind: Kind::Read, acts: vec![act], ..Facts::default() };
        let policy = self.desk.house.policy.load_full();
        let effective = self.desk.standing.get(&policy, &self.desk.principal, self.desk.house.clock.now());
        let verdict = policy::judge(&facts, &Default::default(), effective, &Default::default());
        let statement = format!("SELECT {name}()");
        let about = Recording { statement: Some(&statement), ..self.desk.recording() };
        let refusal = if Desk::passes(verdict.in_force()) {
            match self.desk.house.recorder.record(&verdict, Action::Forward, about, frame.into_bytes()) {
                Ok(permit) => {
                    self.link.forward(permit);
                    self.talk.expect(Expected::Query, None);
                    return Ok(());
                }
                Err(error) => record::unrecorded(&error),
            }
        } else {
            let refusal = refusal(&verdict, name);
            if let Err(error) = self.desk.house.recorder.refusal(&verdict, refusal.code.sqlstate(), about) {
                note_unrecorded(&error);
            }
            refusal
        };
        self.refuse(&refusal, Form::Simple).await
    }
}

fn refusal(verdict: &Verdict, name: &str) -> Refusal {
    let denial = desk::denial(verdict);
    let code = match verdict.in_force() {
        Level::Approve => Code::NeedsApproval,
        Level::Confirm => Code::NeedsConfirming,
        Level::Allow | Level::Warn | Level::Deny => return denial,
    };
    let message = format!("sluice: not run yet: {name}() by the function-call message");
    let hint = format!("Send it as SQL, SELECT {name}(…), to be able to confirm it.");
    Refusal::new(code, message).detail(denial.detail.unwrap_or_default()).hint(hint)
}
