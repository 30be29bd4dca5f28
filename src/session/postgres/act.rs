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
use crate::audit::{Outcome, Plain, Recording};
use crate::change::ledger;
use crate::change::preview::{self, Offer, machine};
use crate::change::promise::{self, Promise};
use crate::ground::metrics::{FINDINGS_TOTAL, RECORD_FAILURES_TOTAL, REFUSALS_TOTAL, STATEMENTS_TOTAL};
use crate::policy::count::adds_only;
use crate::policy::finding::Level;
use crate::policy::question::{Evidence, Known, TableKind};
use crate::policy::settings::Mode;
use crate::policy::verdict::Verdict;
use crate::protocol::postgres::conversation::Expected;
use crate::protocol::postgres::frame::Frame;
use crate::protocol::postgres::message::{self, Script, Severity};
use crate::protocol::{Code, Refusal};
use crate::session::postgres::Session;
use crate::session::postgres::hold::Agreed;
use crate::session::postgres::look::{Judgement, Piece};
use crate::session::postgres::pipeline::{self, Exceeded, Mark, Portal, Watched};
use crate::session::postgres::reaching::{self, Declared};
use crate::session::postgres::record;
use crate::session::postgres::removing;
use crate::session::postgres::run::Run;
use crate::session::{End, readings};
use crate::sql::facts::{Facts, Kind, Nesting, TransactionVerb, Verb};
use crate::store::kept::{Challenge, ProtocolKind};
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
        if Session::passes(level) {
            if let Some(refusal) = self.enter_in_ledger(&judgement).await {
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
                let run = Run { form: Form::Simple, challenge: None, agreed: self.unasked(&judgement) };
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
        if let Some(redeemed) = self.redeem_by_hint(&judgement, level).await? {
            return match redeemed {
                Ok(redeemed) => {
                    if let Some(refusal) = self.enter_in_ledger(&judgement).await {
                        return self.refuse(&refusal, Form::Simple).await;
                    }
                    self.remember(&judgement);
                    let agreed = self.confirmed(&judgement, redeemed.challenge());
                    let run = Run { form: Form::Simple, challenge: Some(redeemed.challenge().id), agreed };
                    self.run_script(frame.into_bytes(), Action::Confirmed, judgement, run).await?;
                    self.close_runs();
                    Ok(())
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
        let (action, challenge, agreed) = if Session::passes(level) {
            self.warn(&judgement);
            (Action::Forward, None, self.unasked(&judgement))
        } else {
            match self.redeem_by_hint(&judgement, level).await? {
                Some(Ok(redeemed)) => {
                    let agreed = self.confirmed(&judgement, redeemed.challenge());
                    (Action::Confirmed, Some(redeemed.challenge().id), agreed)
                }
                Some(Err(refusal)) => return self.refuse(&refusal, Form::Extended).await,
                None => {
                    let refusal = self.refusal(&judgement, ProtocolKind::Extended).await?;
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
        if let Some(refusal) = self.enter_in_ledger(&judgement).await {
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
            watched.rows_max = self.agreed(&judgement).first().copied().flatten();
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
        self.runs.failed(&self.house.store);
        Ok(())
    }

    /// Before a statement of a script is sent: what is not in the ledger does not run. `Some`: why it may not.
    pub(in crate::session) async fn enter_in_ledger(&mut self, judgement: &Judgement) -> Option<Refusal> {
        let (claim, now) = (judgement.claim.as_ref()?, self.house.clock.now());
        let noted = self.noted(judgement).text.unwrap_or_default();
        match ledger::begin(&self.house.store, claim, &self.principal.user, &noted, now).await {
            Ok(Some(run)) => {
                self.runs.push(run);
                None
            }
            Ok(None) => {
                let message = "sluice: denied: somebody else is running this statement of the script";
                Some(
                    Refusal::new(Code::Denied, message)
                        .detail("rules: already-ran")
                        .hint("SLUICE SCRIPTS lists the scripts."),
                )
            }
            Err(error) => {
                let message = format!(
                    "sluice: the statement was not run, because the ledger of scripts cannot be written: {error}"
                );
                Some(Refusal::new(Code::CannotKnow, message))
            }
        }
    }

    /// Everything was answered: what was carried out outside a transaction of the client's has run.
    pub(in crate::session) fn close_runs(&mut self) {
        let committed = self.talk.status() == b'I';
        self.runs.answered(&self.house.store, committed);
    }

    /// What the client is told when a statement may not pass, with a token if there is a way.
    pub(in crate::session) async fn refusal(
        &mut self,
        judgement: &Judgement,
        protocol: ProtocolKind,
    ) -> Result<Refusal, End> {
        // No token is kept for a refusal that cannot be recorded.
        if let Some(refusal) = self.refused_as(Plain::Changes) {
            return Ok(refusal);
        }
        let verdict = &judgement.verdict;
        let level = verdict.in_force();
        let alone = judgement.pieces.len() == 1;
        // A statement that was prepared by SQL and bound by name has no text of its own that could be confirmed.
        let named = judgement.source.is_empty();
        // The rows that COPY brings cannot be kept with a token.
        let copies = judgement.pieces.iter().any(|piece| reaching::copies_in(&piece.facts));
        let (token, id) = match level {
            Level::Confirm | Level::Approve if alone && !named && !copies => {
                match self.issue(judgement, protocol).await {
                    Ok((token, id)) => (Some(token), Some(id)),
                    Err(refusal) => return Ok(refusal),
                }
            }
            _ => (None, None),
        };
        let document = self.document(judgement, token.clone());
        let preview = self.preview(judgement, token);
        let code = match level {
            Level::Approve if !copies => Code::NeedsApproval,
            Level::Confirm if !copies => Code::NeedsConfirming,
            _ => Code::Denied,
        };
        let noted = self.noted(judgement);
        let shown = judgement.promise.changes.iter().chain(&judgement.promise.removals).copied();
        let about = Recording {
            challenge: id,
            promised_rows: shown.sum(),
            statement: noted.text.as_deref(),
            fingerprint: noted.fingerprint.as_deref(),
            parameters: noted.parameters.as_deref(),
            reason: judgement.told.reason.as_deref(),
            ..self.recording()
        };
        if let Err(error) = self.house.recorder.refusal(verdict, code.sqlstate(), about) {
            note_unrecorded(&error);
            let message = format!("sluice: the statement was not run, and its refusal cannot be recorded: {error}");
            return Ok(Refusal::new(Code::CannotKnow, message));
        }
        tracing::info!(session = %self.id, user = ?self.principal.user, code = code.sqlstate(), message = ?preview.message, "refused");
        let mut refusal = Refusal::new(code, preview.message).detail(preview.detail);
        refusal.hint = Some(preview.hint).filter(|hint| !hint.is_empty());
        refusal.document = Some(Box::new(document));
        if copies {
            let how = "Send it between BEGIN and COMMIT, where what it does is measured.";
            refusal.hint = Some(how.to_owned());
        }
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
        let nothing = (Default::default(), Default::default());
        let (facts, evidence) = judgement.strongest().unwrap_or((&nothing.0, &nothing.1));
        preview::render(facts, evidence, &judgement.verdict, &judgement.sizes, &offer(judgement, token))
    }

    /// The same for machines.
    fn document(&self, judgement: &Judgement, token: Option<String>) -> serde_json::Map<String, serde_json::Value> {
        let nothing = (Default::default(), Default::default());
        let (facts, evidence) = judgement.strongest().unwrap_or((&nothing.0, &nothing.1));
        machine::document(facts, evidence, judgement.verdict.judged(), &offer(judgement, token))
    }

    /// Records and permits; the rows it may change are watched.
    fn watch(
        &mut self,
        judgement: &Judgement,
        action: Action,
        frame: &Frame,
        challenge: Option<crate::ground::ids::ChallengeId>,
    ) -> Result<(crate::audit::Permit, Watched), Refusal> {
        let noted = self.noted(judgement);
        let rows_max = self.expected_rows(judgement);
        let about = Recording {
            challenge,
            statement: noted.text.as_deref(),
            fingerprint: noted.fingerprint.as_deref(),
            parameters: noted.parameters.as_deref(),
            promised_rows: rows_max,
            plain: record::plain(judgement),
            reason: judgement.told.reason.as_deref(),
            ..self.recording()
        };
        match self.house.recorder.record(&judgement.verdict, action, about, frame.clone().into_bytes()) {
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
        self.scripted |= settings.into_iter().any(|setting| matches!(setting.name.as_str(), "sluice.script" | "*"));
        let facts = judgement.pieces.iter().map(|piece| &piece.facts);
        if facts.clone().any(|facts| facts.changes_session) {
            self.format = None;
        }
        self.note_schema_change(judgement);
        if judgement.runs_code() || judgement.pieces.iter().any(|piece| reaching::locks(&piece.facts)) {
            self.reaching.unsettle();
        }
        // A function can change settings and prepare names, unseen; a temporary table stands before all others of its name.
        if judgement.runs_code() || facts.clone().any(|facts| facts.changes_session || facts.kind == Kind::Create) {
            self.names_touched = true;
            self.name_changes += 1;
            self.cache.clear();
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

    /// What passes without anybody being asked.
    pub(in crate::session) fn unasked(&self, judgement: &Judgement) -> Agreed {
        Agreed::Unasked { most: judgement.most().unwrap_or(0).max(judgement.sizes.free_rows) }
    }

    /// What the token stands for.
    pub(in crate::session) fn confirmed(&self, judgement: &Judgement, challenge: &Challenge) -> Agreed {
        let promise: Option<Promise> = serde_json::from_value(challenge.promise.clone()).ok();
        match promise {
            Some(Promise { effects: Some(effects), .. }) => Agreed::Tried(effects),
            Some(Promise { untried: Some(_), .. }) => Agreed::Untried,
            // What was shown as unknown, and agreed to as such, is held to what nobody may exceed.
            _ => Agreed::Counted { most: judgement.most().unwrap_or_else(|| judgement.limit()) },
        }
    }

    /// What is measured only when its transaction commits, or with what fetches from it.
    async fn before_forwarding(&mut self, judgement: &Judgement) -> Result<(), End> {
        self.expect_new_names(judgement).await?;
        // SET CONSTRAINTS fires what waits.
        self.measure_what_moved().await?;
        if !judgement.reaches() || judgement.mode != Mode::Enforce {
            return Ok(());
        }
        if judgement.pieces.iter().any(|piece| reaching::copies_in(&piece.facts)) {
            return self.measure_at_commit().await;
        }
        if is_cursor(judgement) {
            // FETCH runs it, by SQL: whatever is sent while it is open is held.
            let agreed = self.unasked(judgement);
            let judgement = Arc::new(judgement.with_effects(Known::NotAsked));
            let hold = self.hold(judgement, agreed, ProtocolKind::Simple);
            self.guard_cursor(hold);
        }
        Ok(())
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
            by_kind || !facts.changes.is_empty() || !facts.removals.is_empty() || !facts.acts.is_empty()
        };
        // What is tried may turn out to change something, and its line is written before it runs.
        let tried = judgement.mode == Mode::Enforce && judgement.reaches();
        let tells = tried || !judgement.verdict.judged().is_empty() || judgement.pieces.iter().any(changes);
        if !tells || judgement.source.is_empty() {
            return Noted::default();
        }
        let (text, mode) = (&judgement.source, self.mode());
        let parameters = self.shown_parameters(judgement);
        let (redacted, fingerprint) = readings::noted(text, mode);
        Noted { text: Some(self.shown_text(text, redacted)), fingerprint: Some(fingerprint), parameters }
    }

    pub(in crate::session) fn record_outcome(
        &mut self,
        watched: &Watched,
        rows: Option<u64>,
        sqlstate: Option<&str>,
        note: Option<&str>,
    ) {
        match sqlstate {
            None => self.runs.done(rows),
            Some(_) => self.runs.failed(&self.house.store),
        }
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

fn offer(judgement: &Judgement, token: Option<String>) -> Offer {
    let at_most = judgement.promise.at_most(judgement.sizes.tolerance);
    Offer { token, valid: judgement.sizes.token_ttl, at_most }
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
    pub parameters: Option<Vec<Option<String>>>,
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
    };
    Refusal::new(
        Code::ExceedsConfirmed,
        format!(
            "sluice: the statement changed {changed} rows where at most {agreed} were agreed to; it was rolled back"
        ),
    )
    .hint("Send it again to see what it would change now.")
}
