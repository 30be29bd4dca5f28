//! Where one session's statements are judged, refused, recorded and confirmed, whatever protocol they came by: everything about a session
//! that is not on the wire.
//!
//! Invariant: nothing here speaks to a client or a database; what is told or asked is for the conversation to do.

use crate::audit::sink::RecordFailed;
use crate::audit::{Outcome, Plain, Recording};
use crate::change::batch::{self, How};
use crate::change::ledger::{self, Runs};
use crate::change::preview::{self, Manner, Offer, machine};
use crate::change::promise::{self, Promise};
use crate::database::catalog::Cache;
use crate::ground::ids::{ChallengeId, SessionId};
use crate::ground::metrics::{FINDINGS_TOTAL, RECORD_FAILURES_TOTAL, STATEMENTS_TOTAL};
use crate::policy;
use crate::policy::finding::Level;
use crate::policy::question::Evidence;
use crate::policy::scope::{Principal, Standing};
use crate::policy::settings::Mode;
use crate::policy::verdict::Verdict;
use crate::protocol::{Code, Refusal};
use crate::session::House;
use crate::session::format::Format;
use crate::session::held::Agreed;
use crate::session::judgement::{Judgement, Piece, copies_in};
use crate::session::readings;
use crate::sql::facts::{Kind, Nesting};
use crate::store::kept::{Challenge, ProtocolKind};
use std::sync::Arc;

pub(in crate::session) struct Desk {
    pub house: Arc<House>,
    pub id: SessionId,
    pub principal: Principal,
    pub standing: Standing,
    pub cache: Cache,
    /// How this session wants its refusals; `None`: it may have been set anew.
    pub format: Option<Format>,
    /// `sluice.script` was set on this session, at some time: what it changes may be part of a script.
    pub scripted: bool,
    /// Statements of scripts that are under way.
    pub runs: Runs,
    /// What is looked at stands in a transaction of the client's: it commits nothing by itself, so it cannot be cut.
    pub in_block: bool,
}

impl Desk {
    pub fn new(house: Arc<House>, id: SessionId, principal: Principal, scripted: bool) -> Desk {
        Desk {
            house,
            id,
            principal,
            standing: Standing::default(),
            cache: Cache::default(),
            format: None,
            scripted,
            runs: Runs::default(),
            in_block: false,
        }
    }

    pub(in crate::session) fn recording(&self) -> Recording<'_> {
        Recording {
            session: self.id,
            listener: &self.house.listener,
            principal: &self.principal,
            statement: None,
            fingerprint: None,
            challenge: None,
            promised_rows: None,
            reason: None,
            parameters: None,
            plain: crate::audit::Plain::Passes,
        }
    }

    /// The highest level that lets a statement through.
    pub(in crate::session) fn passes(level: Level) -> bool {
        level <= Level::Warn
    }

    /// Some of it changes something, and is or may be part of a script.
    pub(in crate::session) fn is_scripted(&self, pieces: &[Piece]) -> bool {
        let named = |piece: &Piece| self.scripted || piece.facts.hints.iter().any(|(key, _)| key == "script");
        pieces.iter().any(|piece| policy::is_change(&piece.facts)) && pieces.iter().any(named)
    }

    /// What the client is told when a statement may not pass, with a token if there is a way.
    pub(in crate::session) async fn refusal(&mut self, judgement: &Judgement, protocol: ProtocolKind) -> Refusal {
        // No token is kept for a refusal that cannot be recorded.
        if let Some(refusal) = self.refused_as(Plain::Changes) {
            return refusal;
        }
        let verdict = &judgement.verdict;
        let level = verdict.in_force();
        let alone = judgement.pieces.len() == 1;
        // A statement that was prepared by SQL and bound by name has no text of its own that could be confirmed.
        let named = judgement.source.is_empty();
        // The rows that COPY brings cannot be kept with a token.
        let copies = judgement.pieces.iter().any(|piece| copies_in(&piece.facts));
        let (token, id) = match level {
            Level::Confirm | Level::Approve if alone && !named && !copies => {
                match self.issue(judgement, protocol).await {
                    Ok((token, id)) => (Some(token), Some(id)),
                    Err(refusal) => return refusal,
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
            return Refusal::new(Code::CannotKnow, message);
        }
        tracing::info!(session = %self.id, user = ?self.principal.user, code = code.sqlstate(), message = ?preview.message, "refused");
        let mut refusal = Refusal::new(code, preview.message).detail(preview.detail);
        if matches!(manner(judgement), Manner::Batches { .. })
            && let Some(line) = self.unfinished(&judgement.source).await
        {
            refusal.detail = refusal.detail.map(|detail| format!("{line}\n{detail}"));
        }
        refusal.hint = Some(preview.hint).filter(|hint| !hint.is_empty());
        refusal.document = Some(Box::new(document));
        if copies {
            let how = judgement.lexical.product().either(
                "Send it between BEGIN and COMMIT, where what it does is measured.",
                "Load the rows into a table of their own, and change the other by a statement from that: it is counted.",
            );
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
        refusal
    }

    /// The preview of the statement with the strongest finding.
    pub(in crate::session) fn preview(&self, judgement: &Judgement, token: Option<String>) -> preview::Preview {
        let nothing = (Default::default(), Default::default());
        let (facts, evidence) = judgement.strongest().unwrap_or((&nothing.0, &nothing.1));
        preview::render(facts, evidence, &judgement.verdict, &judgement.sizes, &self.offer(judgement, token))
    }

    /// The same for machines.
    pub(in crate::session) fn document(
        &self,
        judgement: &Judgement,
        token: Option<String>,
    ) -> serde_json::Map<String, serde_json::Value> {
        let nothing = (Default::default(), Default::default());
        let (facts, evidence) = judgement.strongest().unwrap_or((&nothing.0, &nothing.1));
        machine::document(facts, evidence, judgement.verdict.judged(), &self.offer(judgement, token))
    }

    fn offer(&self, judgement: &Judgement, token: Option<String>) -> Offer {
        let at_most = judgement.promise.at_most(judgement.sizes.tolerance);
        let manner = match manner(judgement) {
            Manner::Batches { .. } if self.in_block => Manner::WholeBecause("it stands in a transaction".to_owned()),
            manner => manner,
        };
        Offer { token, valid: judgement.sizes.token_ttl, at_most, manner }
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
        let (text, mode) = (&judgement.source, judgement.lexical);
        let parameters = self.shown_parameters(judgement);
        let (redacted, fingerprint) = readings::noted(text, mode);
        Noted { text: Some(self.shown_text(text, redacted)), fingerprint: Some(fingerprint), parameters }
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
    pub(in crate::session) fn close_runs(&mut self, committed: bool) {
        self.runs.answered(&self.house.store, committed);
    }

    pub(in crate::session) fn record_outcome(
        &mut self,
        entry: Entry,
        rows: Option<u64>,
        sqlstate: Option<&str>,
        note: Option<&str>,
    ) {
        match sqlstate {
            None => self.runs.done(rows),
            Some(_) => self.runs.failed(&self.house.store),
        }
        if entry.line.is_none() && note.is_none() {
            return;
        }
        let about = Recording { challenge: entry.challenge, promised_rows: entry.rows_max, ..self.recording() };
        let outcome = Outcome { of: entry.line, actual_rows: rows, sqlstate, note };
        if let Err(error) = self.house.recorder.outcome(about, outcome) {
            note_unrecorded(&error);
        }
    }

    /// The rows a change may report without being a surprise: known from keys.
    pub(in crate::session) fn expected_rows(&self, judgement: &Judgement) -> Option<u64> {
        (judgement.mode == Mode::Enforce).then(|| judgement.promise.at_most(judgement.sizes.tolerance).rows).flatten()
    }

    /// What was agreed to, tolerance included; a change nobody was asked about may be as large as what nobody is asked about.
    pub(in crate::session) fn agreed(&self, judgement: &Judgement) -> Vec<Option<u64>> {
        let free = Desk::passes(judgement.verdict.in_force());
        let of = |(piece, known): (&Piece, &Evidence)| {
            // Under EXPLAIN, in a WITH and the like the tag tells something else.
            let told = piece.facts.changes.iter().all(|change| change.nesting == Nesting::Outer);
            let most = promise::promise(known).at_most(judgement.sizes.tolerance).rows.filter(|_| told)?;
            Some(if free { most.max(judgement.sizes.free_rows) } else { most })
        };
        judgement.pieces.iter().zip(&judgement.evidence).map(of).collect()
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
}

/// Whether a confirmation would carry it out in batches.
pub(in crate::session) fn manner(judgement: &Judgement) -> Manner {
    let ([piece], [evidence], false) = (&judgement.pieces[..], &judgement.evidence[..], judgement.reaches()) else {
        return Manner::Whole;
    };
    match batch::how(&piece.text, judgement.lexical, &piece.facts, evidence, &judgement.sizes) {
        How::Batches(outline) => {
            let rows = judgement.sizes.batch_rows.max(1);
            let all = outline.rows.saturating_add(outline.carried);
            Manner::Batches {
                batches: all.div_ceil(rows),
                rows,
                carried: outline.carried > 0,
                caveat: outline.caveat(),
            }
        }
        How::WholeBecause(why) => Manner::WholeBecause(why),
        How::WithoutArchive(why) => Manner::WithoutArchive(why),
        How::Whole => Manner::Whole,
    }
}

pub(in crate::session) fn count(verdict: &Verdict) {
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

/// What the record knows of a statement that was sent: where its outcome belongs.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::session) struct Entry {
    /// The record's line.
    pub line: Option<u64>,
    pub challenge: Option<ChallengeId>,
    pub rows_max: Option<u64>,
}
