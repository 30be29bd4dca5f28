//! The tripwire: what a change did, as the database counts it, against what was agreed to, before it commits.
//!
//! ```text
//! one statement    before · the statement · after → kept, or rolled back and shown with what it did (SL001, or SL004 if it was confirmed)
//! a transaction    rows of its small changes added up, and what could not be measured at once, before its COMMIT is sent
//! ```
//!
//! Invariant: what changed more than was agreed to, or could not be measured, does not commit.

use crate::audit::{Outcome, Recording};
use crate::change::preview;
use crate::database::effects::measure::{self, Snapshot, Telling};
use crate::database::{Ask, AskError, catalog};
use crate::ground::limits;
use crate::policy::finding::Level;
use crate::policy::question::{Effects, Evidence, Known, TableEffect};
use crate::policy::rules::Caller;
use crate::policy::settings::Mode;
use crate::policy::{self, count};
use crate::protocol::postgres::message::{self, Script, Severity};
use crate::protocol::{Code, Refusal};
use crate::session::End;
use crate::session::desk::Desk;
use crate::session::desk::note_unrecorded;
use crate::session::held::{Agreed, Hold, beyond_what_was_shown, compared, comparison, unmeasured};
use crate::session::judgement;
use crate::session::judgement::Judgement;
use crate::session::postgres::Session;
use crate::session::postgres::act::Form;
use crate::session::postgres::ask::{Asker, Ground};
use crate::session::postgres::look::unknown_state;
use crate::session::postgres::pipeline::Watched;
use crate::session::postgres::reaching;
use crate::sql::facts::{Facts, Kind};
use crate::sql::statement::LexicalMode;
use crate::store::kept::ProtocolKind;
use bytes::Bytes;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// A statement under way, and the counts before it; `None`: the database does not count.
#[derive(Debug)]
pub(in crate::session) struct Held {
    pub before: Option<Snapshot>,
    pub hold: Arc<Hold>,
    pub ends: Ends,
}

/// What ends with the statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum Ends {
    /// Its transaction: what waits for the COMMIT is let happen before it is measured.
    Transaction,
    /// The client's transaction block goes on, and what waits for its COMMIT is measured there.
    Statement,
}

/// The explicit transaction that is open.
#[derive(Debug, Default)]
pub(in crate::session) struct Tally {
    /// Rows updated and deleted that nobody was shown, by what was told or measured.
    pub unshown: u64,
    /// Rows updated and deleted since the baseline, shown or not.
    accounted: u64,
    /// Counts before the first statement that could not be measured at once.
    baseline: Option<Option<Snapshot>>,
    /// A change was sent whose tag may still be on its way.
    pub changing: bool,
    /// Bytes of large objects were written by the function-call message, and the record has a line of it.
    pub writes_objects: bool,
    /// Texts of the schema changes in it, and what they were found to remove: the objects named are meant to change.
    schema_changes: Vec<String>,
    removes: bool,
    /// It changes the schema.
    alters: bool,
}

impl Tally {
    /// Some schema change of the transaction says so.
    fn meant(&self, object: &str) -> bool {
        self.removes && judgement::is_counted_object(object)
            // What is altered and keeps its rows can be another than is named: a table whose index goes.
            || self.alters && object.ends_with(measure::ALTERED)
            || self.schema_changes.iter().any(|text| judgement::names_object(text, object, LexicalMode::default()))
    }

    pub fn note(&mut self, rows: u64, shown: bool) {
        self.accounted = self.accounted.saturating_add(rows);
        if !shown {
            self.unshown = self.unshown.saturating_add(rows);
        }
    }
}

impl Session {
    /// Counts of the current transaction. Nothing may be outstanding. `None`: the database does not count (`track_counts`).
    pub(in crate::session) async fn snapshot(&mut self, telling: Telling) -> Result<Option<Snapshot>, End> {
        let time = self.desk.house.ask_timeout;
        let asker = Asker::begin(&mut self.link, &self.seat, &self.talk, Ground::Implicit, time, time).await;
        let mut asker = asker.map_err(unknown_state)?;
        let answer = asker.ask(&measure::question(telling), None).await;
        let ended = asker.end().await.map_err(unknown_state)?;
        if ended.failed {
            let message = "sluice: what the statement changed could not be asked; it is rolled back";
            return Err(End::Refused(Refusal::new(Code::CannotKnow, message)));
        }
        Ok(answer.ok().as_ref().and_then(measure::read))
    }

    pub(in crate::session) fn hold(
        &self,
        judgement: Arc<Judgement>,
        agreed: Agreed,
        protocol: ProtocolKind,
    ) -> Arc<Hold> {
        Arc::new(Hold {
            judgement,
            protocol,
            agreed,
            so_far: AtomicU64::new(0),
            measured: OnceLock::new(),
            line: OnceLock::new(),
        })
    }

    /// After the statement: `Some`, it must not be kept.
    pub(in crate::session) async fn weigh(&mut self, held: Held) -> Result<Option<Refusal>, End> {
        let Held { before, hold, ends } = held;
        if ends == Ends::Transaction
            && self.reaching.known().deferred
            && let Some(failed) = self.fire_deferred().await?
        {
            return Ok(Some(unmeasured(&failed)));
        }
        let after = self.snapshot(Telling::Changes).await?;
        let effects = match (&before, &after) {
            (Some(before), Some(after)) => {
                let opened = after.opened_since(before);
                if ends == Ends::Statement && opened == Ok(true) {
                    // FETCH will run it, by SQL.
                    self.guard_cursor(hold.clone());
                }
                opened.and_then(|_| measure::between(before, after))
            }
            (None, None) => Err("the database does not count what it changes (track_counts)".to_owned()),
            _ => Err("the database began or ceased to count what it changes".to_owned()),
        };
        let effects = match effects {
            Ok(effects) => effects,
            // It was said that what it does is not known, and somebody agreed to it.
            Err(_) if hold.agreed == Agreed::Untried => return Ok(None),
            // A database that never counts is held to what the command tags tell, as its preview says.
            Err(_) if before.is_none() && after.is_none() && !hold.judgement.reaches() => return Ok(None),
            Err(why) if hold.was_confirmed() => return Ok(Some(unmeasured(&why))),
            Err(why) => return self.weigh_anew(&hold, Known::Unknown(why), None).await,
        };
        if effects.code_changed {
            self.reaching.touch();
        }
        let _ = hold.measured.set(effects.changed());
        self.note_measured(&hold, &effects);
        match hold.exceeded_by(&effects) {
            None if hold.is_frozen(&effects) => self.weigh_anew(&hold, Known::Known(effects), None).await,
            None => {
                hold.so_far.fetch_add(effects.destroyed(), Ordering::Relaxed);
                self.tally.note(effects.destroyed(), hold.was_confirmed());
                Ok(None)
            }
            Some(how) => {
                let mut effects = effects;
                let before = hold.so_far.load(Ordering::Relaxed);
                if before > 0 {
                    let name = "in portions before".to_owned();
                    effects.tables.push(TableEffect { name, updated: before, ..TableEffect::default() });
                }
                self.weigh_anew(&hold, Known::Known(effects), Some(how)).await
            }
        }
    }

    /// Of what came by the extended protocol, the tag was recorded before it was measured.
    fn note_measured(&self, hold: &Hold, effects: &Effects) {
        let Some(line) = hold.line.get().filter(|_| hold.judgement.reaches()) else { return };
        let note = Some("measured before its commit");
        let outcome = Outcome { of: Some(*line), actual_rows: Some(effects.changed()), sqlstate: None, note };
        if let Err(error) = self.desk.house.recorder.outcome(self.desk.recording(), outcome) {
            note_unrecorded(&error);
        }
    }

    /// Judged again, now that it is known what it did: the policy may let it pass, a token may already be there, or it is shown.
    async fn weigh_anew(
        &mut self,
        hold: &Hold,
        effects: Known<Effects>,
        how: Option<String>,
    ) -> Result<Option<Refusal>, End> {
        let mut judgement = hold.judgement.with_effects(effects);
        if judgement.told.max_affected.is_none() && judgement.verdict.in_force() == Level::Deny {
            // What is harmless by its text was looked at without asking what its sender told the session.
            judgement.told.max_affected = self.stated_limit(Ground::Implicit).await?.max_affected;
            let effects = judgement.evidence.get(judgement.worst).map(|known| known.effects.clone());
            judgement = judgement.with_effects(effects.unwrap_or_default());
        }
        let level = judgement.verdict.in_force();
        let was_unknown = hold.judgement.reaches() && !hold.was_confirmed();
        let destroyed = judgement.effects().map_or(0, Effects::destroyed);
        if was_unknown && Desk::passes(level) {
            self.warn(&judgement);
            self.tally.note(destroyed, false);
            return Ok(None);
        }
        if was_unknown && level < Level::Deny {
            match self.desk.redeem_by_hint(&judgement, level).await {
                Some(Ok(redeemed)) => {
                    let about = Recording { challenge: Some(redeemed.challenge().id), ..self.desk.recording() };
                    if let Err(error) = self.desk.house.recorder.command(about, "CONFIRM", None) {
                        note_unrecorded(&error);
                        let message = format!("sluice: what was confirmed cannot be recorded: {error}");
                        return Ok(Some(Refusal::new(Code::CannotKnow, message)));
                    }
                    self.tally.note(destroyed, true);
                    return Ok(None);
                }
                Some(Err(refusal)) => return Ok(Some(refusal)),
                None => {}
            }
        }
        let mut refusal = self.desk.refusal(&judgement, hold.protocol).await;
        if !was_unknown && level < Level::Deny {
            refusal.code = Code::ExceedsConfirmed;
            let how = how.unwrap_or_else(|| "could not be measured".to_owned());
            refusal.message = format!("sluice: the statement {how}; it was rolled back");
            let table = comparison(&hold.agreed, judgement.effects());
            refusal.detail = Some(format!("{table}{}", refusal.detail.unwrap_or_default()));
        }
        Ok(Some(refusal))
    }

    /// Lets triggers that wait for the COMMIT fire now, so that what they do is measured. `Some`: what failed in it, and with it the
    /// transaction.
    async fn fire_deferred(&mut self) -> Result<Option<String>, End> {
        let time = self.desk.house.ask_timeout;
        let asker = Asker::begin(&mut self.link, &self.seat, &self.talk, Ground::Implicit, time, time).await;
        let mut asker = asker.map_err(unknown_state)?;
        let fired = asker.ask("SET CONSTRAINTS ALL IMMEDIATE", None).await;
        let ended = asker.end().await.map_err(unknown_state)?;
        if ended.failed {
            // The server skips everything up to a Sync, and none is on its way.
            self.link.say(Script::default().sync());
            let status = self.hear_ready().await?;
            self.talk.set_status(status);
        }
        Ok(match fired {
            Ok(_) if !ended.failed => None,
            Ok(_) => Some("what waited for the COMMIT failed".to_owned()),
            Err(AskError::Database { code, message }) => {
                Some(format!("what waited for the COMMIT failed: {code} {message}"))
            }
            Err(error) => Some(format!("what waited for the COMMIT failed: {}", catalog::reason(&error))),
        })
    }

    /// Before a statement in a transaction block that is measured only at its end: COPY into a table, FETCH.
    pub(in crate::session) async fn measure_at_commit(&mut self) -> Result<(), End> {
        if self.tally.baseline.is_none() {
            self.drain().await?;
            if self.pipeline.discarding || self.talk.status() != b'T' {
                return Ok(());
            }
            let telling = if self.tally.alters { Telling::Names } else { Telling::Changes };
            self.tally.baseline = Some(self.snapshot(telling).await?);
            self.tally.accounted = 0;
        }
        Ok(())
    }

    /// Before a change of the schema in a transaction block: what names lead to may change for what was opened, queued or looked at
    /// before, so all that it does is measured at its end.
    pub(in crate::session) async fn expect_new_names(&mut self, judgement: &Judgement) -> Result<(), End> {
        let changes: Vec<&judgement::Piece> =
            judgement.pieces.iter().filter(|piece| reaching::changes_schema(piece)).collect();
        if changes.is_empty()
            || judgement.mode != Mode::Enforce
            || self.talk.status() != b'T'
            || self.pipeline.transacted
        {
            return Ok(());
        }
        let removes = changes.iter().any(|piece| judgement::removes(piece));
        self.tally.removes |= removes;
        if !self.tally.alters {
            // What goes from here on is to be told by its name, and apart from indexes, TOAST tables and the like.
            self.tally.alters = true;
            self.name_the_baseline().await?;
        }
        self.measure_at_commit().await?;
        let kept: usize = self.tally.schema_changes.iter().map(String::len).sum();
        if kept < limits::SCHEMA_CHANGES_BYTES_MAX {
            self.tally.schema_changes.extend(changes.iter().map(|piece| piece.text.clone()));
            self.tally.schema_changes.extend(judgement.removed_tables().map(|table| table.name.written.clone()));
        }
        Ok(())
    }

    /// Before the COMMIT of a transaction block is sent: `Some`, it must not be.
    pub(in crate::session) async fn hold_commit(&mut self) -> Result<Option<Refusal>, End> {
        if self.tally.changing && !self.talk.is_quiet() {
            self.drain().await?;
        }
        let policy = self.desk.house.policy.load_full();
        let effective = self.desk.standing.get(&policy, &self.desk.principal, self.desk.house.clock.now()).clone();
        // What waits for the COMMIT was queued, or opened, when names led elsewhere.
        let waiting = self.names_moved;
        let nothing = self.tally.baseline.is_none() && self.tally.unshown <= effective.sizes.batch_rows && !waiting;
        if nothing || effective.mode != Mode::Enforce || self.pipeline.discarding {
            return Ok(None);
        }
        self.drain().await?;
        if self.talk.status() != b'T' || self.pipeline.discarding {
            return Ok(None);
        }
        let mut effects = None;
        if waiting && self.tally.baseline.is_none() {
            self.measure_at_commit().await?;
        }
        if let Some(before) = self.tally.baseline.take() {
            let mut after = self.snapshot(Telling::Changes).await?;
            if waiting && let Some(name) = after.as_ref().and_then(Snapshot::held_cursor) {
                let why = format!("what runs behind names has changed, and the cursor {name} WITH HOLD runs at COMMIT");
                return Ok(Some(unmeasured(&why)));
            }
            let measured = match compared(before.as_ref(), after.as_ref()) {
                Ok(measured) => measured,
                Err(why) => return Ok(Some(unmeasured(&why))),
            };
            let mut beyond = measured.destroyed().saturating_sub(self.tally.accounted);
            if beyond > effective.sizes.free_rows || !measured.objects.iter().all(|object| self.tally.meant(object)) {
                return Ok(Some(beyond_what_was_shown(beyond, &measured)));
            }
            // What waited for the COMMIT is nobody's word: none of the objects that it takes was meant.
            if self.reaching.known().deferred {
                if let Some(failed) = self.fire_deferred().await? {
                    return Ok(Some(unmeasured(&failed)));
                }
                if let (Some(after), Some(before)) = (&mut after, before) {
                    after.name(before);
                }
                let fired = self.snapshot(Telling::Changes).await?;
                let opened = match (&after, &fired) {
                    (Some(after), Some(fired)) => fired.opened_since(after),
                    _ => Ok(false),
                };
                let deferred = match opened.and_then(|_| compared(after.as_ref(), fired.as_ref())) {
                    Ok(deferred) => deferred,
                    Err(why) => return Ok(Some(unmeasured(&why))),
                };
                beyond = beyond.saturating_add(deferred.destroyed());
                if beyond > effective.sizes.free_rows || !deferred.objects.is_empty() {
                    return Ok(Some(beyond_what_was_shown(beyond, &deferred)));
                }
            }
            self.tally.unshown = self.tally.unshown.saturating_add(beyond);
            effects = Some(measured);
        }
        self.judge_commit(&effective, effects).await
    }

    /// A baseline that was taken before anything was to be removed gets the names of what is there now: nothing can have been removed
    /// since that was not measured by itself.
    async fn name_the_baseline(&mut self) -> Result<(), End> {
        if self.tally.baseline.is_none() {
            return Ok(());
        }
        self.drain().await?;
        if self.pipeline.discarding || self.talk.status() != b'T' {
            return Ok(());
        }
        let named = self.snapshot(Telling::Names).await?;
        if let (Some(Some(baseline)), Some(named)) = (&mut self.tally.baseline, named) {
            baseline.name(named);
        }
        Ok(())
    }

    /// A cursor that code of the users' own opened, or that reads what leads there: while it is open, whatever is sent is held to this.
    pub(in crate::session) fn guard_cursor(&mut self, hold: Arc<Hold>) {
        let watched = Watched { withheld: true, hold: Some(hold), ..Watched::default() };
        let name = format!("sluice cursor {}", self.guarded_portals.len());
        self.guarded_portals.insert(Bytes::from(name), watched);
    }

    async fn judge_commit(
        &mut self,
        effective: &policy::settings::Effective,
        effects: Option<Effects>,
    ) -> Result<Option<Refusal>, End> {
        let unshown = self.tally.unshown;
        let caller = match unshown > effective.sizes.max_affected {
            true => self.stated_limit(Ground::Savepoint).await?,
            false => Caller::default(),
        };
        let facts = Facts { kind: Kind::Transaction, ..Facts::default() };
        let evidence = Evidence { unshown: Some(unshown), ..Evidence::default() };
        let verdict = policy::judge(&facts, &evidence, effective, &caller);
        let about = Recording { promised_rows: Some(unshown), ..self.desk.recording() };
        if Desk::passes(verdict.in_force()) {
            for judged in verdict.warnings() {
                let text = format!("sluice: {}: {}", judged.finding.rule, judged.finding.message);
                let words = self.said(&Refusal::new(Code::Denied, text));
                self.reply(message::warning(&words));
            }
            return Ok(None);
        }
        let refused = Code::Denied;
        if let Err(error) = self.desk.house.recorder.refusal(&verdict, refused.sqlstate(), about) {
            note_unrecorded(&error);
        }
        let rules: Vec<&str> = verdict.judged().iter().map(|judged| judged.finding.rule).collect();
        let message = format!(
            "sluice: denied: the transaction changed {} rows that nobody was shown; it was rolled back",
            count::grouped(unshown)
        );
        let mut detail = format!("rules: {}", rules.join(", "));
        if let Some(effects) = effects {
            let _ = write!(detail, "\n{}", preview::effects_lines(&effects));
        }
        let hint = "Say it in one statement, which is counted and shown before it runs; or commit more often.";
        Ok(Some(Refusal::new(refused, message).detail(detail).hint(hint)))
    }

    /// `SET sluice.max_affected`, asked of the session.
    pub(in crate::session) async fn stated_limit(&mut self, ground: Ground) -> Result<Caller, End> {
        let time = self.desk.house.ask_timeout;
        let asker = Asker::begin(&mut self.link, &self.seat, &self.talk, ground, time, time).await;
        let mut asker = asker.map_err(unknown_state)?;
        let question = "SELECT pg_catalog.current_setting('sluice.max_affected', true)";
        let answer = asker.ask(question, None).await.unwrap_or_default();
        asker.end().await.map_err(unknown_state)?;
        let stated = answer.rows.first().and_then(|row| row.first()?.as_deref()?.parse().ok());
        Ok(Caller { max_affected: stated, ..Caller::default() })
    }

    /// A COMMIT that is refused ends the transaction, as one that fails does: the session is idle afterwards.
    pub(in crate::session) async fn refuse_commit(&mut self, refusal: &Refusal, form: Form) -> Result<(), End> {
        self.drain().await?;
        self.own("ROLLBACK", b'I').await?;
        self.talk.set_status(b'I');
        self.transaction_ended();
        self.pipeline.executed = false;
        self.desk.cache.clear();
        metrics::counter!(crate::ground::metrics::REFUSALS_TOTAL, "code" => refusal.code.sqlstate()).increment(1);
        let refusal = self.formatted(refusal).await?;
        let error = message::error(&self.said(&refusal), Severity::Error);
        self.reply(error);
        match form {
            Form::Simple => self.reply(message::ready(b'I')),
            Form::Extended => self.pipeline.discarding = true,
        }
        Ok(())
    }

    /// Before a statement whose deferred triggers fire only at the COMMIT of the client's block.
    pub(in crate::session) async fn expect_deferred(&mut self, judgement: &Judgement) -> Result<(), End> {
        let block = self.talk.status() == b'T' && !self.pipeline.transacted;
        let waits = self.reaching.known().deferred && judgement.reaches() && block;
        if waits && judgement.mode == Mode::Enforce { self.measure_at_commit().await } else { Ok(()) }
    }

    /// No transaction is open any more.
    pub(in crate::session) fn transaction_ended(&mut self) {
        self.tally = Tally::default();
        self.names_moved = false;
        self.reaching.settle();
    }

    /// A transaction of our own around a statement: begun, and the counts before it taken, with one write.
    pub(in crate::session) async fn begin_own(&mut self, telling: Telling) -> Result<Option<Snapshot>, End> {
        self.link.say(Script::default().query("BEGIN"));
        let reached = self.hear_ready().await?;
        if reached != b'T' {
            let message = "sluice: BEGIN of Sluice's own failed; the session cannot go on";
            return Err(End::Refused(Refusal::new(Code::CannotKnow, message)));
        }
        self.talk.set_status(b'T');
        self.snapshot(telling).await
    }
}
