//! Large objects by the function-call message, as libpq's interface to them works (pg_dump, psql's `\lo_…`, JDBC).
//!
//! Invariant: what it writes is judged and recorded as `SELECT lowrite(…)` would be: held by a freeze, a line in the record. Of the many
//! messages that carry one object's bytes, the first in a transaction has a line of its own; the others are counted.

use crate::audit::event::Action;
use crate::audit::{Plain, Recording};
use crate::policy;
use crate::policy::question::Evidence;
use crate::policy::rules::Caller;
use crate::protocol::postgres::command::ObjectCall;
use crate::protocol::postgres::conversation::Expected;
use crate::protocol::postgres::frame::Frame;
use crate::session::End;
use crate::session::desk;
use crate::session::desk::Desk;
use crate::session::desk::note_unrecorded;
use crate::session::postgres::Session;
use crate::session::postgres::act::Form;
use crate::session::record;
use crate::sql::facts::{Act, ActKind, Facts, Kind};

impl Session {
    pub(in crate::session) async fn write_object(&mut self, frame: Frame, call: ObjectCall) -> Result<(), End> {
        let words = format!("{}() by the function-call message", call.name);
        let act = Act { kind: ActKind::Writes, words: words.clone() };
        let facts = Facts { kind: Kind::Read, acts: vec![act], ..Facts::default() };
        let policy = self.desk.house.policy.load_full();
        let effective = self.desk.standing.get(&policy, &self.desk.principal, self.desk.house.clock.now()).clone();
        let verdict = policy::judge(&facts, &Evidence::default(), &effective, &Caller::default());
        let shown = call.makes || !self.tally.writes_objects || !verdict.judged().is_empty();
        let about = Recording { statement: shown.then_some(&words), plain: Plain::Changes, ..self.desk.recording() };
        if !Desk::passes(verdict.in_force()) {
            // There is no text that a token could stand for.
            let refusal = desk::denial(&verdict);
            if let Err(error) = self.desk.house.recorder.refusal(&verdict, refusal.code.sqlstate(), about) {
                note_unrecorded(&error);
                return self.refuse(&record::unrecorded(&error), Form::Simple).await;
            }
            return self.refuse(&refusal, Form::Simple).await;
        }
        match self.desk.house.recorder.record(&verdict, Action::Forward, about, frame.into_bytes()) {
            Ok(permit) => {
                self.tally.writes_objects |= !call.makes;
                self.link.forward(permit);
                self.talk.expect(Expected::Query, None);
                Ok(())
            }
            Err(error) => self.refuse(&record::unrecorded(&error), Form::Simple).await,
        }
    }
}
