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
use crate::audit::{Plain, Recording};
use crate::ground::metrics::REFUSALS_TOTAL;
use crate::policy::count::adds_only;
use crate::policy::question::{Known, TableKind};
use crate::policy::settings::Mode;
use crate::protocol::postgres::conversation::Expected;
use crate::protocol::postgres::frame::Frame;
use crate::protocol::postgres::message::{self, Script, Severity};
use crate::protocol::{Code, Refusal};
use crate::session::End;
use crate::session::desk::{Desk, Entry, count};
use crate::session::judgement::Judgement;
use crate::session::judgement::copies_in;
use crate::session::postgres::Session;
use crate::session::postgres::pipeline::{self, Exceeded, Mark, Portal, Watched};
use crate::session::postgres::reaching::{self, Declared};
use crate::session::postgres::removing;
use crate::session::postgres::run::Run;
use crate::session::record;
use crate::sql::Glance;
use crate::sql::facts::{Facts, Kind, TransactionVerb, Verb};
use crate::store::kept::ProtocolKind;
use bytes::Bytes;
use std::sync::Arc;

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
        if Desk::passes(level) {
            if let Some(refusal) = self.desk.enter_in_ledger(&judgement).await {
                return self.refuse(&refusal, Form::Simple).await;
            }
            self.warn(&judgement);
            if judgement.pieces.iter().any(|piece| commits(&piece.facts))
                && let Some(refusal) = self.hold_commit().await?
            {
                return self.refuse_commit(&refusal, Form::Simple).await;
            }
            self.expect_new_names(&judgement).await?;
            self.remember(&judgement);
            if !self.guarded_portals.is_empty() && !self.is_withheld(&judgement) {
                if judgement.pieces.len() > 1 && judgement.pieces.iter().any(|piece| piece.facts.transaction.is_some())
                {
                    let message = "sluice: a cursor is open that leads to code of the users' own";
                    let refusal =
                        Refusal::new(Code::Denied, message).hint("Send the statements of this message one by one.");
                    return self.refuse(&refusal, Form::Simple).await;
                }
                self.hold_guarded_portals().await?;
            }
            if self.is_withheld(&judgement) {
                let run = Run { form: Form::Simple, challenge: None, agreed: self.desk.unasked(&judgement) };
                self.run_script(frame.into_bytes(), Action::Forward, judgement, run).await?;
                self.close_runs();
                return Ok(());
            }
            self.before_forwarding(&judgement).await?;
            if self.pipeline.discarding {
                return Ok(());
            }
            let mut mark = match self.watch(&judgement, Action::Forward, &frame, None) {
                Ok(mark) => mark,
                Err(refusal) => return self.refuse(&refusal, Form::Simple).await,
            };
            mark.1.destroys = destroys(&judgement);
            self.tally.changing |= mark.1.destroys;
            return self.forward_permitted(mark, Expected::Query);
        }
        self.drain().await?;
        if let Some(redeemed) = self.desk.redeem_by_hint(&judgement, level).await {
            return match redeemed {
                Ok(redeemed) => {
                    if let Some(refusal) = self.desk.enter_in_ledger(&judgement).await {
                        return self.refuse(&refusal, Form::Simple).await;
                    }
                    self.remember(&judgement);
                    let agreed = self.desk.confirmed(&judgement, redeemed.challenge());
                    let run = Run { form: Form::Simple, challenge: Some(redeemed.challenge().id), agreed };
                    if Box::pin(self.run_in_batches(&judgement, &run)).await? {
                        self.close_runs();
                        return Ok(());
                    }
                    self.run_script(frame.into_bytes(), Action::Confirmed, judgement, run).await?;
                    self.close_runs();
                    Ok(())
                }
                Err(refusal) => self.refuse(&refusal, Form::Simple).await,
            };
        }
        let refusal = self.desk.refusal(&judgement, ProtocolKind::Simple).await;
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
        let (action, challenge, agreed) = if Desk::passes(level) {
            self.warn(&judgement);
            (Action::Forward, None, self.desk.unasked(&judgement))
        } else {
            match self.desk.redeem_by_hint(&judgement, level).await {
                Some(Ok(redeemed)) => {
                    let agreed = self.desk.confirmed(&judgement, redeemed.challenge());
                    if self.can_run_bound_job(&judgement) {
                        let run = Run { form: Form::Extended, challenge: Some(redeemed.challenge().id), agreed };
                        self.portals.insert(portal, Portal::Job(Arc::new((judgement, run)), self.meanings()));
                        self.reply(message::bind_complete());
                        return Ok(());
                    }
                    self.tell_whole(&judgement);
                    (Action::Confirmed, Some(redeemed.challenge().id), agreed)
                }
                Some(Err(refusal)) => return self.refuse(&refusal, Form::Extended).await,
                None => {
                    let refusal = self.desk.refusal(&judgement, ProtocolKind::Extended).await;
                    return self.refuse(&refusal, Form::Extended).await;
                }
            }
        };
        let withheld = self.is_withheld(&judgement);
        let leads_on = withheld && judgement.reaches();
        if leads_on {
            self.expect_deferred(&judgement).await?;
            // Planning runs functions too: what was changed so far is asked before the Bind.
            if let Some(refusal) = self.settle().await? {
                return self.refuse(&refusal, Form::Extended).await;
            }
        }
        self.before_forwarding(&judgement).await?;
        if self.pipeline.discarding {
            return Ok(());
        }
        if let Some(refusal) = self.desk.enter_in_ledger(&judgement).await {
            return self.refuse(&refusal, Form::Extended).await;
        }
        self.remember(&judgement);
        let (permit, mut watched) = match self.watch(&judgement, action, &frame, challenge) {
            Ok(watched) => watched,
            Err(refusal) => return self.refuse(&refusal, Form::Extended).await,
        };
        watched.withheld = action == Action::Confirmed || withheld;
        let makes = |facts: &Facts| facts.changes_session || facts.kind == Kind::Create;
        watched.touches_names = judgement.pieces.iter().any(|piece| makes(&piece.facts));
        watched.touches_prepared = touches_prepared(&judgement);
        watched.runs_nothing = pipeline::runs_nothing(judgement.source.as_bytes());
        watched.touches_schema = judgement.pieces.iter().any(reaching::changes_schema);
        watched.destroys = destroys(&judgement);
        watched.commits = judgement.pieces.iter().any(|piece| commits(&piece.facts));
        if watched.withheld {
            watched.rows_max = self.desk.agreed(&judgement).first().copied().flatten();
            let hold = self.hold(Arc::new(judgement), agreed, ProtocolKind::Extended);
            if let Some(line) = watched.line {
                let _ = hold.line.set(line);
            }
            watched.hold = Some(hold);
        }
        if leads_on {
            self.pipeline.withheld = true;
            self.note_effects(&watched).await?;
            if self.pipeline.discarding {
                return Ok(());
            }
            self.pipeline.measured_bind = Some(portal.clone());
        }
        if watched.withheld && !portal.is_empty() {
            self.guarded_portals.insert(portal.clone(), watched.clone());
        }
        self.portals.insert(portal, Portal::Judged(watched, self.meanings()));
        self.pipeline.open = true;
        self.pipeline.bound = true;
        self.link.forward(permit);
        self.talk.expect(Expected::Bind, None);
        Ok(())
    }

    /// Refuses as the server would: the rest of the pipeline is discarded, a transaction fails.
    pub(in crate::session) async fn refuse(&mut self, refusal: &Refusal, form: Form) -> Result<(), End> {
        metrics::counter!(REFUSALS_TOTAL, "code" => refusal.code.sqlstate()).increment(1);
        let refusal = Box::pin(self.formatted(refusal)).await?;
        self.fail_with(message::error(&self.said(&refusal), Severity::Error), form).await
    }

    /// The statement fails with this error: ours, or the server's own.
    pub(in crate::session) async fn fail_with(&mut self, error: Bytes, form: Form) -> Result<(), End> {
        match form {
            Form::Simple => {
                self.drain().await?;
                if self.pipeline.discarding {
                    // Something before it in its pipeline failed: the server would not have looked at it.
                    return Ok(());
                }
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
        self.desk.runs.failed(&self.desk.house.store);
        Ok(())
    }

    /// Everything was answered: what was carried out outside a transaction of the client's has run.
    pub(in crate::session) fn close_runs(&mut self) {
        self.desk.close_runs(self.talk.status() == b'I');
    }

    pub(in crate::session) fn record_outcome(
        &mut self,
        watched: &Watched,
        rows: Option<u64>,
        sqlstate: Option<&str>,
        note: Option<&str>,
    ) {
        let entry = Entry { line: watched.line, challenge: watched.challenge, rows_max: watched.rows_max };
        self.desk.record_outcome(entry, rows, sqlstate, note);
    }

    /// What was only glanced at is only counted, but where the record fails it may be refused all the same.
    pub(in crate::session) fn refused_uncounted(&self, text: &Bytes) -> Option<Refusal> {
        if self.desk.house.recorder.works() {
            return None;
        }
        let plain = match self.glance(text) {
            Glance::Harmless { transaction: Some(_), .. } => Plain::Passes,
            Glance::Harmless { kind: Kind::Insert, .. } => Plain::Changes,
            Glance::Harmless { .. } => Plain::Reads,
            Glance::Sluice | Glance::NeedsReading => Plain::Changes,
        };
        self.desk.refused_as(plain)
    }

    /// Records and permits; the rows it may change are watched.
    fn watch(
        &mut self,
        judgement: &Judgement,
        action: Action,
        frame: &Frame,
        challenge: Option<crate::ground::ids::ChallengeId>,
    ) -> Result<(crate::audit::Permit, Watched), Refusal> {
        let noted = self.desk.noted(judgement);
        let rows_max = self.desk.expected_rows(judgement);
        let about = Recording {
            challenge,
            statement: noted.text.as_deref(),
            fingerprint: noted.fingerprint.as_deref(),
            parameters: noted.parameters.as_deref(),
            promised_rows: rows_max,
            plain: record::plain(judgement),
            reason: judgement.told.reason.as_deref(),
            ..self.desk.recording()
        };
        match self.desk.house.recorder.record(&judgement.verdict, action, about, frame.clone().into_bytes()) {
            Ok(permit) => {
                let line = permit.line();
                Ok((permit, Watched { rows_max, challenge, line, ..Watched::default() }))
            }
            Err(error) => Err(record::unrecorded(&error)),
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
    pub(in crate::session) fn warn(&mut self, judgement: &Judgement) {
        for judged in judgement.verdict.warnings() {
            let words =
                Refusal::new(Code::Denied, format!("sluice: {}: {}", judged.finding.rule, judged.finding.message));
            let words = self.said(&words);
            self.reply(message::warning(&words));
        }
    }

    /// What a statement that goes on changes in what we hold to be known.
    pub(in crate::session) fn remember(&mut self, judgement: &Judgement) {
        let settings = judgement.pieces.iter().flat_map(|piece| &piece.facts.settings);
        self.desk.scripted |=
            settings.into_iter().any(|setting| matches!(setting.name.as_str(), "sluice.script" | "*"));
        let facts = judgement.pieces.iter().map(|piece| &piece.facts);
        if facts.clone().any(|facts| facts.changes_session) {
            self.desk.format = None;
        }
        self.note_schema_change(judgement);
        if judgement.runs_code() || judgement.pieces.iter().any(|piece| reaching::locks(&piece.facts)) {
            self.reaching.unsettle();
        }
        // A function can change settings and prepare names, unseen; a temporary table stands before all others of its name.
        if judgement.runs_code() || facts.clone().any(|facts| facts.changes_session || facts.kind == Kind::Create) {
            self.names_touched = true;
            self.name_changes += 1;
            self.desk.cache.clear();
        }
        if touches_prepared(judgement) {
            // Names may mean something else from here on: the server is asked.
            self.prepared.clear();
        }
    }

    /// A change whose rows were counted, or what leads to code of the users' own: it must not commit more. Not where Sluice cannot hold
    /// a commit back.
    fn is_withheld(&self, judgement: &Judgement) -> bool {
        let can_wait = |facts: &Facts| {
            !facts.outside_transaction_only
                && facts.transaction.is_none()
                && facts.prepares.is_none()
                && facts.changes.iter().all(|change| change.verb != Verb::CopyIn)
        };
        judgement.mode == Mode::Enforce
            && (judgement.was_counted()
                || judgement.may_miss()
                || removing::takes_tables(judgement)
                || judgement.reaches() && !is_cursor(judgement))
            && judgement.pieces.iter().all(|piece| can_wait(&piece.facts))
    }

    /// What is measured only when its transaction commits, or with what fetches from it.
    async fn before_forwarding(&mut self, judgement: &Judgement) -> Result<(), End> {
        self.expect_new_names(judgement).await?;
        // SET CONSTRAINTS fires what waits.
        self.measure_what_moved().await?;
        if !judgement.reaches() || judgement.mode != Mode::Enforce {
            return Ok(());
        }
        if judgement.pieces.iter().any(|piece| copies_in(&piece.facts)) {
            return self.measure_at_commit().await;
        }
        if is_cursor(judgement) {
            // FETCH runs it, by SQL: whatever is sent while it is open is held.
            let agreed = self.desk.unasked(judgement);
            let judgement = Arc::new(judgement.with_effects(Known::NotAsked));
            let hold = self.hold(judgement, agreed, ProtocolKind::Simple);
            self.guard_cursor(hold);
        }
        Ok(())
    }
}

/// COMMIT, or what takes its place.
fn commits(facts: &Facts) -> bool {
    matches!(facts.transaction, Some(TransactionVerb::Commit | TransactionVerb::PrepareTransaction))
}

fn destroys(judgement: &Judgement) -> bool {
    let mut facts = judgement.pieces.iter().flat_map(|piece| &piece.facts.changes);
    let mut known = judgement.evidence.iter().flat_map(|known| &known.changes);
    // What is not counted by the database as a change of a table's rows must not count as accounted for.
    let counted = |change| {
        let table = known.next().and_then(|known| known.table.known());
        !adds_only(change) && table.is_none_or(|table| matches!(table.kind, TableKind::Table | TableKind::Partitioned))
    };
    facts.any(counted)
}

fn touches_prepared(judgement: &Judgement) -> bool {
    let mut facts = judgement.pieces.iter().map(|piece| &piece.facts);
    judgement.runs_code()
        || facts.any(|facts| facts.forgets_prepared || facts.prepares.is_some() || facts.unread.is_some())
}

fn is_cursor(judgement: &Judgement) -> bool {
    judgement.pieces.iter().any(|piece| reaching::declares(&piece.text) == Declared::Cursor)
}

pub(in crate::session) fn exceeded(exceeded: Exceeded) -> Refusal {
    let (changed, agreed) = match exceeded {
        Exceeded::Rows { changed, agreed } => (changed, agreed),
        Exceeded::Unfinished => {
            let message = "sluice: what the statement changed is not known, because its rows were fetched in parts; it was rolled back";
            return Refusal::new(Code::ExceedsConfirmed, message).hint("Execute it without a row limit.");
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
