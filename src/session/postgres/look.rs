//! How a statement is read, asked about and judged.
//!
//! Invariant: the verdict is about exactly the text that is forwarded, read under the mode that the server reads it under; where
//! that mode could have changed unseen, a text that depends on it counts as unread.

use crate::change::ledger::{self, Claim, Part};
use crate::change::promise::{self, Promise};
use crate::database::catalog::{self, Cache};
use crate::database::effects::reach::Reach;
use crate::database::evidence::Inquiry;
use crate::database::{Answer, Ask, AskError, evidence};
use crate::ground::limits;
use crate::ground::metrics::QUESTIONS_SECONDS;
use crate::policy::finding::Level;
use crate::policy::question::{Effects, Evidence, Known, Questions, RemovalEvidence, RemovedTable, Rows};
use crate::policy::rules::{Caller, Ledger, Scripted};
use crate::policy::scope::Principal;
use crate::policy::settings::{Effective, Mode, Policy, Sizes};
use crate::policy::verdict::Verdict;
use crate::policy::{self, Asked, scope};
use crate::protocol::postgres::frame::Frame;
use crate::protocol::postgres::message::Script;
use crate::protocol::{Code, Parameters, Refusal};
use crate::session::postgres::Session;
use crate::session::postgres::ask::{Asker, Broken, Ground};
use crate::session::postgres::format::Format;
use crate::session::postgres::reaching::{self, Block, Declared};
use crate::session::{End, House, readings};
use crate::sql::facts::{Facts, Kind, OnConflict, TransactionVerb};
use crate::sql::statement::{LexicalMode, Statement};
use crate::sql::{self, encoding};
use crate::store::kept::Context;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Instant;

/// A text as it came, and how the server reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::session) struct Source {
    pub text: Bytes,
    pub mode: LexicalMode,
    /// Nothing was under way that could change the mode, or the encoding, before the text is read.
    pub settled: bool,
    /// In the client's encoding a byte of a character can look like a quote's, a backslash's or an operator's.
    pub ambiguous: bool,
}

/// What is to be judged.
#[derive(Debug, Clone)]
pub(in crate::session) enum Subjected {
    Source(Source),
    /// A prepared statement that was made by SQL: the server knows its text.
    Named(Bytes),
}

/// The values it is bound with, and the name it is prepared under upstream.
#[derive(Debug, Clone)]
pub(in crate::session) struct Bound {
    /// `None`: it is not prepared upstream, and the parameters carry their types.
    pub statement: Option<String>,
    pub parameters: Parameters,
}

/// One statement of a message, with its own text.
#[derive(Debug, Clone)]
pub(in crate::session) struct Piece {
    /// The statement, or what an EXECUTE stands for: the spans of its facts point into it.
    pub text: String,
    pub facts: Facts,
}

/// A statement (or a message of several) with everything that is known of it.
pub(in crate::session) struct Judgement {
    /// As it was sent.
    pub source: String,
    pub pieces: Vec<Piece>,
    pub evidence: Vec<Evidence>,
    pub verdict: Verdict,
    /// The statement with the strongest finding.
    pub worst: usize,
    pub parameters: Option<Parameters>,
    pub context: Context,
    pub told: Told,
    pub promise: Promise,
    /// What it takes to enter it in the ledger, if it is part of a script.
    pub claim: Option<Claim>,
    pub sizes: Sizes,
    pub mode: Mode,
    /// What it changes may be something else than what was looked at: it was prepared before, or the schema is being changed.
    pub doubtful: bool,
    /// The policy it was judged by.
    effective: Effective,
}

/// What the sender said beside the statement: in hints, else on its session.
#[derive(Debug, Clone, Default)]
pub(in crate::session) struct Told {
    pub max_affected: Option<u64>,
    /// In a comment of the statement.
    pub confirm: Option<String>,
    /// Set on the session: it may be meant for another statement.
    pub confirm_on_session: Option<String>,
    pub reason: Option<String>,
    /// What it calls itself a part of, with the ledger's word on it.
    pub script: Option<Scripted>,
}

/// A row of VALUES can become many where a function that returns a set stands in it, and each can meet a row that is already there.
fn many_from_one(facts: &Facts) -> bool {
    const ONE: &[&str] =
        &["now", "clock_timestamp", "statement_timestamp", "transaction_timestamp", "nextval", "lower", "upper", "md5"];
    let updates = facts.changes.iter().any(|change| change.on_conflict == OnConflict::Updates);
    updates && facts.functions.iter().any(|name| !ONE.contains(&name.as_str()))
}

pub(in crate::session) fn removes(piece: &Piece) -> bool {
    piece.facts.kind == Kind::Drop || !piece.facts.removals.is_empty()
}

/// Objects that effects only count ("2 functions removed"), and that hold no data.
pub(in crate::session) fn is_counted_object(object: &str) -> bool {
    object.starts_with(|c: char| c.is_ascii_digit()) && object.ends_with("removed") && !object.contains("large objects")
}

pub(in crate::session) enum Looked {
    At(Box<Judgement>),
    /// It could not be judged: what the client is told.
    Not(Refusal),
    /// The server refuses the text itself: its error, whole.
    Wrong(Frame),
    /// What came before it in the pipeline failed: the server would not look at it.
    Discarded,
    /// No such prepared statement: the server says so itself.
    Missing,
}

/// How much is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum Depth {
    WhatRulesNeed,
    Everything,
}

impl Judgement {
    /// Some change's rows were counted or guessed, not bounded by keys: others may come in between.
    pub fn was_counted(&self) -> bool {
        let changes = self.evidence.iter().flat_map(|known| &known.changes);
        let counted = changes.filter_map(|change| change.rows.known()).any(|rows| !matches!(rows, Rows::AtMost(_)));
        counted || self.pieces.iter().any(|piece| many_from_one(&piece.facts))
    }

    /// It changes something, and perhaps not what was looked at.
    pub fn may_miss(&self) -> bool {
        self.doubtful && self.evidence.iter().any(|known| !known.changes.is_empty())
    }

    /// The tables that it changes, where all are known.
    pub fn targets(&self) -> Option<Vec<u64>> {
        let changes = self.evidence.iter().flat_map(|known| &known.changes);
        changes.map(|change| change.table.known().map(|table| table.id)).collect()
    }

    /// Some statement of it leads to code of the users' own, and is to be tried before it is kept.
    pub fn reaches(&self) -> bool {
        self.evidence.iter().any(|known| !known.reaches.is_empty())
    }

    /// Code of the users' own may run by it.
    pub fn runs_code(&self) -> bool {
        self.evidence.iter().flat_map(|known| &known.reaches).any(|name| name != reaching::MERGE)
    }

    /// What it does is known when it was run, and judged then.
    pub fn is_to_be_tried(&self) -> bool {
        let open = |known: &Evidence| !known.reaches.is_empty() && known.effects == Known::NotAsked;
        self.mode == Mode::Enforce && self.evidence.iter().any(open) && Session::passes(self.verdict.in_force())
    }

    /// The statement with the strongest finding.
    pub fn strongest(&self) -> Option<(&Facts, &Evidence)> {
        Some((&self.pieces.get(self.worst)?.facts, self.evidence.get(self.worst)?))
    }

    /// The most rows that the sender may change in one statement.
    pub fn limit(&self) -> u64 {
        policy::rules::limit(&self.sizes, &Caller { max_affected: self.told.max_affected, ..Caller::default() })
    }

    /// What it did when it was tried.
    pub fn effects(&self) -> Option<&Effects> {
        self.evidence.get(self.worst).and_then(|known| known.effects.known())
    }

    /// Removing or altering this object is what it says, so that it does so is no surprise.
    pub fn says(&self, object: &str) -> bool {
        let speaks = |piece: &&Piece| {
            use Kind::{Alter, Create, Drop, Grant, Other, Truncate};
            matches!(piece.facts.kind, Alter | Create | Drop | Grant | Other(_) | Truncate)
                || !piece.facts.removals.is_empty()
        };
        let named = |piece: &Piece| reaching::names_object(&piece.text, object);
        let taken = || self.removed_tables().any(|table| object.starts_with(&format!("{} ", table.name.written)));
        let speaking = || self.pieces.iter().filter(speaks);
        // Where no code of the users' own runs, only the statement itself can have done it.
        if !self.reaches() {
            return speaking().next().is_some();
        }
        // Beside a statement that runs such code and says nothing of objects, nobody knows which of the two it was.
        let beside = |(piece, known): (&Piece, &Evidence)| !known.reaches.is_empty() && !speaks(&piece);
        !self.pieces.iter().zip(&self.evidence).any(beside)
            && (speaking().any(named) || taken() || is_counted_object(object) && speaking().any(removes))
    }

    /// Tables that its removals were found to take.
    pub fn removed_tables(&self) -> impl Iterator<Item = &RemovedTable> {
        let removals = self.evidence.iter().flat_map(|known| &known.removals);
        removals.filter_map(|removal| removal.tables.known()).flatten()
    }

    /// Something goes by it.
    pub fn removes(&self) -> bool {
        self.pieces.iter().any(removes)
    }

    /// Rows that it may update and delete by what was shown or bounded, cascades included, with the tolerance; `None` where that is not
    /// known.
    pub fn most(&self) -> Option<u64> {
        if self.pieces.iter().any(|piece| piece.facts.unread.is_some()) {
            return None;
        }
        let facts = self.pieces.iter().flat_map(|piece| &piece.facts.changes);
        let known = self.evidence.iter().flat_map(|known| &known.changes);
        if facts.clone().count() != known.clone().count() {
            return None;
        }
        let mut most: u64 = 0;
        for (fact, change) in facts.zip(known) {
            // What is only added is not counted among updates and deletes.
            if policy::count::adds_only(fact) {
                continue;
            }
            let branches = change.cascade.known().map_or(&[][..], Vec::as_slice);
            let carried = branches.iter().try_fold(0u64, |sum, branch| Some(sum.saturating_add(branch.total()?)))?;
            most = most.saturating_add(change.rows.known()?.number()).saturating_add(carried);
        }
        Some(promise::with_tolerance(most, self.sizes.tolerance))
    }

    /// What it did is forbidden by a freeze; to what was confirmed, only where no confirmation helps.
    pub fn is_frozen_by(&self, effects: &Effects, confirmed: bool) -> bool {
        if self.effective.frozen.is_none() {
            return false;
        }
        let anew = self.with_effects(Known::Known(effects.clone()));
        let freeze = policy::rules::freeze_code();
        let mut found = anew.verdict.judged().iter().filter(|judged| judged.finding.rule == freeze);
        found.any(|judged| if confirmed { judged.level == Level::Deny } else { !Session::passes(judged.level) })
    }

    /// Judged anew, knowing what it did when it was tried.
    pub fn with_effects(&self, effects: Known<Effects>) -> Judgement {
        let mut evidence = self.evidence.clone();
        if let Some(known) = evidence.get_mut(self.worst) {
            known.effects = effects;
        }
        let verdicts = verdicts(&self.pieces, &evidence, &self.effective, &self.told);
        let promise = evidence.get(self.worst).map(promise::promise).unwrap_or_default();
        Judgement {
            verdict: policy::together(verdicts, &self.effective),
            promise,
            evidence,
            source: self.source.clone(),
            pieces: self.pieces.clone(),
            worst: self.worst,
            parameters: self.parameters.clone(),
            context: self.context.clone(),
            told: self.told.clone(),
            claim: self.claim.clone(),
            sizes: self.sizes,
            mode: self.mode,
            doubtful: self.doubtful,
            effective: self.effective.clone(),
        }
    }
}

impl Session {
    pub(in crate::session) async fn look(&mut self, subject: Subjected, bound: Option<Bound>) -> Result<Looked, End> {
        self.look_at(subject, bound, Depth::WhatRulesNeed).await
    }

    /// Reads, asks, judges. Not to be cancelled half-way: the connection would be left in a transaction of ours.
    pub(in crate::session) async fn look_at(
        &mut self,
        subject: Subjected,
        bound: Option<Bound>,
        depth: Depth,
    ) -> Result<Looked, End> {
        let now = self.house.clock.now();
        let policy = self.house.policy.load_full();
        let effective = self.standing.get(&policy, &self.principal, now).clone();
        let (source, pieces) = match &subject {
            Subjected::Source(source) if source.text.len() > limits::SQL_READ_INLINE_BYTES_MAX => {
                let beside = source.clone();
                let pieces = tokio::task::spawn_blocking(move || read(&beside)).await;
                let pieces = pieces.unwrap_or_else(|_| vec![unread("", "reading it failed")]);
                (std::str::from_utf8(&source.text).unwrap_or_default().to_owned(), pieces)
            }
            // What is not UTF-8 has no text that could be kept and compared: it is judged, and cannot be confirmed.
            Subjected::Source(source) => {
                (std::str::from_utf8(&source.text).unwrap_or_default().to_owned(), read(source))
            }
            Subjected::Named(_) => (String::new(), Vec::new()),
        };
        if let Subjected::Source(read) = &subject
            && effective.mode == Mode::Enforce
            && let Some(why) = sql::hints::wrong(&source, read.mode)
        {
            let hint = format!("Hints are: {}.", sql::hints::KNOWN.join(", "));
            return Ok(Looked::Not(Refusal::new(Code::Syntax, format!("sluice: {why}")).hint(hint)));
        }
        let mut seen = Seen { pieces, bound, ..Seen::default() };
        if matches!(subject, Subjected::Source(_)) && depth == Depth::WhatRulesNeed {
            let looks_up = seen.pieces.iter().any(|piece| piece.facts.executes.is_some());
            let asks = seen.pieces.iter().any(|piece| !policy::questions(&piece.facts, &effective).none());
            let scripted = self.is_scripted(&seen.pieces);
            if effective.mode == Mode::Off || !(looks_up || asks || scripted) {
                let bound = seen.bound.clone();
                let judgement = judged(source.clone(), seen, &effective, &self.reached());
                seen = Seen { bound, ..Seen::default() };
                if Session::passes(judgement.verdict.in_force()) {
                    return Ok(Looked::At(Box::new(judgement)));
                }
                // It will be refused: what a refusal shows, and is bound to, is asked for.
                seen.pieces = judgement.pieces;
            } else if !looks_up && !scripted && !self.cache.is_empty() {
                match self.remember_enough(&source, seen, &policy, &effective).await {
                    Remembered::Passes(judgement) => return Ok(Looked::At(judgement)),
                    Remembered::NotEnough(unchanged) => seen = *unchanged,
                }
            }
        }
        if let Some(refusal) = too_many_removals(&seen.pieces).filter(|_| effective.mode == Mode::Enforce) {
            return Ok(Looked::Not(refusal));
        }
        self.drain().await?;
        if self.pipeline.discarding {
            return Ok(Looked::Discarded);
        }
        let Some(ground) = self.ground(&seen.pieces) else {
            // A failed transaction: the server refuses everything but its end, and our questions with it.
            let effective = Effective { mode: Mode::Off, ..effective };
            return Ok(Looked::At(Box::new(judged(source, seen, &effective, &self.reached()))));
        };
        if ground == Ground::Own && self.pipeline.open {
            self.end_unexecuted_pipeline().await?;
        }
        let time = effective.sizes.preview_timeout;
        let started = Instant::now();
        let leading = self.reached();
        let (unsettled, epoch) = (leading.unsettled, self.reaching.epoch());
        let mut asker = Asker::begin(&mut self.link, &self.seat, &self.talk, ground, time, self.house.ask_timeout)
            .await
            .map_err(unknown_state)?;
        let scene = Scene {
            subject: &subject,
            depth,
            policy: &policy,
            standing: &effective,
            principal: &self.principal,
            house: &self.house,
            now,
            leading,
        };
        let interviewed = interview(&mut asker, &scene, &mut seen, &mut self.cache).await;
        let ended = asker.end().await.map_err(unknown_state)?;
        metrics::histogram!(QUESTIONS_SECONDS).record(started.elapsed().as_secs_f64());
        if !seen.context.is_empty() {
            self.format = Some(Format::of(seen.context.get("sluice.format").map(String::as_str)));
        }
        if ended.cancelled {
            return Ok(Looked::Not(Refusal::new(Code::Cancelled, "canceling statement due to user request")));
        }
        self.pipeline.discarding |= ended.failed;
        match interviewed {
            Ok(Interviewed::Judged(effective)) => {
                // Whoever changed the schema may have ended while a question waited for it.
                seen.doubtful |= unsettled || self.reaching.epoch() != epoch;
                Ok(Looked::At(Box::new(judged(source, seen, &effective, &self.reached()))))
            }
            Ok(Interviewed::Wrong(error)) => Ok(Looked::Wrong(error)),
            Ok(Interviewed::Missing) => Ok(Looked::Missing),
            Err(error) => {
                let message = format!("sluice: the statement could not be judged: {}", catalog::reason(&error));
                Ok(Looked::Not(Refusal::new(Code::CannotKnow, message)))
            }
        }
    }

    /// Some of it changes something, and is or may be part of a script.
    fn is_scripted(&self, pieces: &[Piece]) -> bool {
        let named = |piece: &Piece| self.scripted || piece.facts.hints.iter().any(|(key, _)| key == "script");
        pieces.iter().any(|piece| policy::is_change(&piece.facts)) && pieces.iter().any(named)
    }

    /// A small change of a table that was looked at a moment ago passes without a question: its keys bound it. What memory alone
    /// does not let pass is asked about.
    async fn remember_enough(
        &mut self,
        source: &str,
        mut seen: Seen,
        policy: &Policy,
        standing: &Effective,
    ) -> Remembered {
        let mode = self.mode();
        for piece in &seen.pieces {
            let with = Gathering { cache: &mut self.cache, sizes: &standing.sizes, mode };
            let parameters = seen.bound.as_ref().map(|bound| &bound.parameters);
            let asked = policy::questions(&piece.facts, standing);
            seen.evidence.push(gather(&mut Silence, piece, &asked, parameters, with).await);
        }
        forget_what_changes(&seen.pieces, &mut seen.evidence);
        let effective = for_tables(policy, standing, &self.principal, &seen, self.house.clock.now());
        let (pieces, bound) = (seen.pieces.clone(), seen.bound.clone());
        let judgement = judged(source.to_owned(), seen, &effective, &self.reached());
        // What is tried may be shown, with a token that is bound to the session as it is now: that is asked.
        let unbounded = judgement.was_counted() || judgement.reaches() || judgement.mode != Mode::Enforce;
        match Session::passes(judgement.verdict.in_force()) && !unbounded {
            true => Remembered::Passes(Box::new(judgement)),
            false => Remembered::NotEnough(Box::new(Seen { pieces, bound, ..Seen::default() })),
        }
    }

    fn reached(&self) -> Leading {
        let inside = self.talk.status() == b'T' && !self.pipeline.transacted;
        let unknown = Arc::new(Reach::unknown("a statement before it in the message changes the schema"));
        let unsettled = self.reaching.others_are_unsettled();
        Leading { reach: self.reaching.shared(), unknown, mode: self.mode(), inside, unsettled }
    }

    /// Where questions can be asked now; nowhere in a failed transaction, except that a message which ends it goes on after that
    /// end, where nothing is known yet.
    pub(in crate::session) fn ground(&self, pieces: &[Piece]) -> Option<Ground> {
        let server_refuses = |piece: &Piece| piece.facts.transaction.is_none() && piece.facts.kind != Kind::Unread;
        match self.talk.status() {
            // Whatever the status was: it may be another by now. A question in vain fails the statement with it.
            _ if self.pipeline.transacted => Some(Ground::Implicit),
            b'T' => Some(Ground::Savepoint),
            b'I' if self.pipeline.executed || self.pipeline.bound => Some(Ground::Implicit),
            b'I' => Some(Ground::Own),
            _ if !self.pipeline.executed && pieces.len() <= 1 && pieces.iter().all(server_refuses) => None,
            _ => Some(Ground::Failed),
        }
    }

    /// Something was prepared or bound, nothing executed: a Sync of ours ends the implicit transaction with nothing in it.
    pub(in crate::session) async fn end_unexecuted_pipeline(&mut self) -> Result<(), End> {
        self.link.say(Script::default().sync());
        match self.hear_ready().await? {
            b'I' => {
                self.pipeline.open = false;
                Ok(())
            }
            status => Err(unknown_state(Broken::Unknown(format!(
                "transaction status {status} after a pipeline without effects"
            )))),
        }
    }
}

/// A list that nobody could be shown is not asked about for seconds on end.
fn too_many_removals(pieces: &[Piece]) -> Option<Refusal> {
    let named: usize = pieces.iter().map(|piece| piece.facts.removals.len()).sum();
    let most = limits::REMOVALS_SHOWN_MAX;
    let message = format!("sluice: the message removes {named} objects by name, and no more than {most} can be shown");
    (named > most).then(|| Refusal::new(Code::CannotKnow, message).hint("Send several statements that name fewer."))
}

/// What is known so far.
#[derive(Default)]
struct Seen {
    pieces: Vec<Piece>,
    evidence: Vec<Evidence>,
    context: Context,
    told: Told,
    bound: Option<Bound>,
    claim: Option<Claim>,
    doubtful: bool,
}

struct Scene<'a> {
    subject: &'a Subjected,
    depth: Depth,
    policy: &'a Policy,
    /// The policy for tables that are not known yet: as strict as for any.
    standing: &'a Effective,
    principal: &'a Principal,
    house: &'a House,
    now: jiff::Timestamp,
    leading: Leading,
}

enum Interviewed {
    Judged(Effective),
    Wrong(Frame),
    Missing,
}

/// Everything that is asked about one message, in its order.
async fn interview(
    asker: &mut Asker<'_>,
    scene: &Scene<'_>,
    seen: &mut Seen,
    cache: &mut Cache,
) -> Result<Interviewed, AskError> {
    if asker.in_failed_transaction() {
        // Only the server's word on the text itself is to be had.
        return match scene.subject {
            Subjected::Source(source) => match asker.parse_error(&source.text).await? {
                Some(error) => Ok(Interviewed::Wrong(error)),
                None => Err(failed_transaction()),
            },
            Subjected::Named(_) => Err(failed_transaction()),
        };
    }
    if let Some(Bound { statement: Some(name), parameters }) = &mut seen.bound {
        match asker.parameter_types(name).await {
            Ok(types) => parameters.types = types,
            Err(AskError::Database { code, .. }) if code == "26000" => return Ok(Interviewed::Missing),
            Err(error) => return Err(error),
        }
    }
    seen.context = context(asker).await?;
    let executes = seen.pieces.iter().any(|piece| piece.facts.executes.is_some());
    resolve(asker, scene.subject, &mut seen.pieces).await?;
    seen.doubtful = executes || matches!(scene.subject, Subjected::Named(_));
    if executes {
        // The name of a prepared statement can come to mean another one: a confirmation is bound to what it means now.
        let meant = seen.pieces.iter().map(|piece| piece.text.as_str()).collect::<Vec<_>>().join(";");
        seen.context.insert("prepared".to_owned(), meant);
    }
    let questions = |piece: &Piece| match scene.depth {
        Depth::WhatRulesNeed => policy::questions(&piece.facts, scene.standing),
        Depth::Everything => Asked::preview(&piece.facts),
    };
    let sizes = &scene.standing.sizes;
    let mode = scene.subject.mode();
    seen.told = told(&seen.pieces, &seen.context);
    consult_ledger(asker, scene, seen).await;
    // What was remembered of these tables was not enough: they are asked about afresh.
    for change in seen.pieces.iter().flat_map(|piece| &piece.facts.changes) {
        cache.forget(&change.target);
    }
    cache.settle(seen.pieces.iter().map(|piece| &piece.facts));
    for piece in &seen.pieces {
        let parameters = seen.bound.as_ref().map(|bound| &bound.parameters);
        let with = Gathering { cache, sizes, mode };
        seen.evidence.push(gather(asker, piece, &questions(piece), parameters, with).await);
    }
    forget_what_changes(&seen.pieces, &mut seen.evidence);
    let effective = for_tables(scene.policy, scene.standing, scene.principal, seen, scene.now);
    if effective.mode == Mode::Enforce {
        scene.leading.note(&seen.pieces, &mut seen.evidence);
    }
    let verdicts = verdicts(&seen.pieces, &seen.evidence, &effective, &seen.told);
    let worst = strongest(&verdicts);
    let refused = verdicts.get(worst).is_some_and(|verdict| !Session::passes(verdict.in_force()));
    if !refused && scene.depth == Depth::WhatRulesNeed {
        return Ok(Interviewed::Judged(effective));
    }
    // Before anything is refused, the server has its word: what it would not run is answered with its own error.
    if let (Subjected::Source(source), None) = (scene.subject, &seen.bound)
        && let Some(error) = asker.parse_error(&source.text).await?
    {
        return Ok(Interviewed::Wrong(error));
    }
    if let (Some(piece), Some(known), Depth::WhatRulesNeed) =
        (seen.pieces.get(worst), seen.evidence.get_mut(worst), scene.depth)
    {
        let parameters = seen.bound.as_ref().map(|bound| &bound.parameters);
        let with = Gathering { cache, sizes, mode };
        let shown = gather(asker, piece, &only_shown(&piece.facts), parameters, with).await;
        show(known, shown);
    }
    Ok(Interviewed::Judged(effective))
}

/// What the ledger knows of a statement that belongs to a script.
async fn consult_ledger(asker: &mut Asker<'_>, scene: &Scene<'_>, seen: &mut Seen) {
    let Some(script) = &mut seen.told.script else { return };
    let hints = seen.pieces.iter().flat_map(|piece| &piece.facts.hints);
    let step = hints.filter(|(key, _)| key == "step").map(|(_, value)| value.as_str()).next_back();
    let part = Part {
        listener: &scene.house.listener,
        database: &scene.principal.database,
        script: &script.name,
        step: step.unwrap_or_default(),
        texts: seen.pieces.iter().map(|piece| piece.text.as_str()).collect(),
        mode: scene.subject.mode(),
        parameters: seen.bound.as_ref().map(|bound| &bound.parameters),
    };
    let own = asker.is_apart();
    let (said, claim) = ledger::consult(&scene.house.store, asker, &part, own).await;
    (script.ledger, seen.claim) = (said, claim);
}

fn failed_transaction() -> AskError {
    AskError::Database { code: "25P02".to_owned(), message: "the transaction has failed".to_owned() }
}

fn judged(source: String, seen: Seen, effective: &Effective, leading: &Leading) -> Judgement {
    let mut evidence = seen.evidence;
    evidence.resize_with(seen.pieces.len(), Evidence::default);
    if effective.mode == Mode::Enforce {
        leading.note(&seen.pieces, &mut evidence);
    }
    let told = if seen.context.is_empty() { told(&seen.pieces, &seen.context) } else { seen.told };
    let verdicts = verdicts(&seen.pieces, &evidence, effective, &told);
    let worst = strongest(&verdicts);
    Judgement {
        source,
        verdict: policy::together(verdicts, effective),
        worst,
        promise: evidence.get(worst).map(promise::promise).unwrap_or_default(),
        pieces: seen.pieces,
        evidence,
        parameters: seen.bound.map(|bound| bound.parameters),
        context: seen.context,
        told,
        claim: seen.claim,
        sizes: effective.sizes,
        mode: effective.mode,
        doubtful: seen.doubtful || leading.unsettled,
        effective: effective.clone(),
    }
}

/// What names lead to, and where the message stands.
struct Leading {
    reach: Arc<Reach>,
    unknown: Arc<Reach>,
    mode: LexicalMode,
    inside: bool,
    /// Another session is in the midst of changing the schema: a statement that waits for it meets other tables than were looked at.
    unsettled: bool,
}

impl Leading {
    /// Which statements lead to code of the users' own, and which of those cannot be tried.
    fn note(&self, pieces: &[Piece], evidence: &mut [Evidence]) {
        // With these in one message nothing of it can be held back.
        let alone = |piece: &Piece| {
            let facts = &piece.facts;
            facts.transaction.is_some()
                || facts.prepares.is_some()
                || facts.outside_transaction_only
                || reaching::copies_in(facts)
                || reaching::declares(&piece.text) != Declared::Nothing
        };
        let mixed = pieces.len() > 1 && pieces.iter().any(alone);
        let mut changed = false;
        let block = match (mixed, self.inside) {
            (true, _) => Block::Mixed,
            (false, true) => Block::Inside,
            (false, false) => Block::Outside,
        };
        for (piece, known) in pieces.iter().zip(evidence) {
            let reach = if changed { &self.unknown } else { &self.reach };
            match reaching::reached(piece, reach, self.mode, block) {
                Ok(names) => known.reaches = names,
                Err(why) => known.effects = Known::Unknown(why),
            }
            // Behind it names lead where nobody has looked yet.
            changed |= pieces.len() > 1 && reaching::changes_schema(piece);
        }
    }
}

/// Everything was asked before anything of the message ran. Behind a statement that changes rows, counts do not hold; behind one
/// that changes what names mean (SET, DDL, the end of a transaction), nothing does.
fn forget_what_changes(pieces: &[Piece], evidence: &mut [Evidence]) {
    // A message that begins or ends transactions of its own cannot be run with its commit withheld: nothing would hold its counts.
    let stands_alone = |piece: &Piece| piece.facts.transaction.is_some() || piece.facts.prepares.is_some();
    let mut rows_move = pieces.len() > 1 && pieces.iter().any(stands_alone);
    let mut names_move = false;
    for (piece, known) in pieces.iter().zip(evidence) {
        let why = || "a statement before it in the same message may change that".to_owned();
        for change in known.changes.iter_mut().filter(|_| rows_move || names_move) {
            let bounded = matches!(change.rows, Known::Known(Rows::AtMost(_))) && !names_move;
            if !bounded {
                change.rows = Known::Unknown(why());
            }
            if names_move {
                change.table = Known::Unknown(why());
            }
            if names_move || !matches!(&change.cascade, Known::Known(branches) if branches.is_empty()) {
                change.cascade = Known::Unknown(why());
            }
        }
        // What a temporary table of one's own holds is nobody else's loss, however much it is.
        let own = |removal: &RemovalEvidence| {
            let is_own =
                |table: &RemovedTable| table.name.parts.first().is_some_and(|schema| schema.starts_with("pg_temp"));
            removal.tables.known().is_some_and(|tables| tables.iter().all(is_own))
        };
        let moves = |removal: &&mut RemovalEvidence| names_move || rows_move && !own(removal);
        for removal in known.removals.iter_mut().filter(moves) {
            removal.tables = Known::Unknown(why());
            removal.dependents = Known::Unknown(why());
        }
        let facts = &piece.facts;
        let begins = matches!(
            facts.transaction,
            Some(TransactionVerb::Begin | TransactionVerb::Savepoint | TransactionVerb::Release)
        );
        rows_move |= !matches!(facts.kind, Kind::Read | Kind::Empty) && !begins;
        names_move |= facts.changes_session || facts.unread.is_some() || facts.transaction.is_some() && !begins;
    }
}

/// The policy for the tables that the message touches, now that they are known.
fn for_tables(
    policy: &Policy,
    standing: &Effective,
    principal: &Principal,
    seen: &Seen,
    now: jiff::Timestamp,
) -> Effective {
    if !policy.has_tables() {
        return standing.clone();
    }
    let known = seen.pieces.iter().zip(&seen.evidence);
    let names: Vec<_> = known.flat_map(|(piece, known)| policy::names(&piece.facts, known)).collect();
    scope::effective(policy, principal, &names, now)
}

enum Remembered {
    Passes(Box<Judgement>),
    NotEnough(Box<Seen>),
}

/// Asks nothing: what is not remembered is unknown.
struct Silence;

impl Ask for Silence {
    async fn ask(&mut self, _: &str, _: Option<&Parameters>) -> Result<Answer, AskError> {
        Err(AskError::Deadline)
    }
}

impl Subjected {
    fn mode(&self) -> LexicalMode {
        match self {
            Subjected::Source(source) => source.mode,
            Subjected::Named(_) => LexicalMode::default(),
        }
    }
}

struct Gathering<'a> {
    cache: &'a mut Cache,
    sizes: &'a Sizes,
    mode: LexicalMode,
}

async fn gather(
    asker: &mut impl Ask,
    piece: &Piece,
    asked: &Asked,
    parameters: Option<&Parameters>,
    with: Gathering<'_>,
) -> Evidence {
    if asked.none() {
        return Evidence::default();
    }
    let inquiry = Inquiry {
        text: &piece.text,
        mode: with.mode,
        facts: &piece.facts,
        changes: &asked.changes,
        removals: &asked.removals,
        parameters,
        sizes: with.sizes,
        count_bound: with.sizes.max_affected_limit.saturating_add(1),
        now: &Instant::now,
    };
    evidence::gather(asker, &inquiry, with.cache).await
}

/// A verdict for each statement.
fn verdicts(pieces: &[Piece], evidence: &[Evidence], effective: &Effective, told: &Told) -> Vec<Verdict> {
    let caller = Caller { max_affected: told.max_affected, script: told.script.clone() };
    pieces.iter().zip(evidence).map(|(piece, known)| policy::judge(&piece.facts, known, effective, &caller)).collect()
}

/// The statement that decides: the first of those with the strongest finding.
fn strongest(verdicts: &[Verdict]) -> usize {
    let levels = verdicts.iter().enumerate();
    levels.max_by_key(|(at, verdict)| (verdict.level(), std::cmp::Reverse(*at))).map_or(0, |(at, _)| at)
}

/// What a refusal shows beside what it was judged by.
fn only_shown(facts: &Facts) -> Asked {
    let shown = Questions { preview: true, ..Questions::default() };
    Asked { changes: vec![shown; facts.changes.len()], removals: vec![Questions::default(); facts.removals.len()] }
}

fn show(known: &mut Evidence, shown: Evidence) {
    for (known, shown) in known.changes.iter_mut().zip(shown.changes) {
        known.sample = shown.sample;
        known.scan = shown.scan;
    }
}

fn read(source: &Source) -> Vec<Piece> {
    if source.ambiguous && !source.text.is_ascii() {
        let why = "in its client_encoding it could be read in more than one way; set client_encoding to UTF8";
        return vec![unread(&String::from_utf8_lossy(&source.text), why)];
    }
    let Ok(text) = std::str::from_utf8(&source.text) else {
        return vec![unread(&String::from_utf8_lossy(&source.text), "it is not UTF-8 text")];
    };
    let reading = readings::read(text, source.mode);
    if !source.settled && encoding::is_sensitive(text) {
        return vec![unread(text, "client_encoding, which decides how it is read, may be about to change")];
    }
    if reading.mode_sensitive && !source.settled {
        return vec![unread(text, "standard_conforming_strings, which decides how it is read, may be about to change")];
    }
    pieces(text, reading.statements.clone())
}

fn pieces(text: &str, statements: Vec<Statement>) -> Vec<Piece> {
    let own = |statement: &Statement| text.get(statement.span.clone()).unwrap_or_default().to_owned();
    statements.into_iter().map(|statement| Piece { text: own(&statement), facts: statement.facts }).collect()
}

fn unread(text: &str, why: &str) -> Piece {
    let facts = Facts { kind: Kind::Unread, unread: Some(why.to_owned()), changes_session: true, ..Facts::default() };
    Piece { text: text.to_owned(), facts }
}

/// The settings that give names their meaning, and what the sender told its session.
async fn context(asker: &mut impl Ask) -> Result<Context, AskError> {
    const QUESTION: &str = "SELECT pg_catalog.current_setting('search_path'), CURRENT_USER::pg_catalog.text, \
         pg_catalog.current_setting('standard_conforming_strings'), pg_catalog.current_setting('sluice.max_affected', true), \
         pg_catalog.current_setting('sluice.confirm', true), pg_catalog.current_setting('sluice.reason', true), \
         pg_catalog.current_setting('sluice.format', true), \
         pg_catalog.current_setting('sluice.script', true), pg_catalog.current_setting('sluice.rerun', true)";
    let answer = asker.ask(QUESTION, None).await?;
    let names = [
        "search_path",
        "role",
        "standard_conforming_strings",
        "sluice.max_affected",
        "sluice.confirm",
        "sluice.reason",
        "sluice.format",
        "sluice.script",
        "sluice.rerun",
    ];
    let values = answer.rows.into_iter().next().unwrap_or_default();
    Ok(names.iter().zip(values).filter_map(|(name, value)| Some(((*name).to_owned(), value?))).collect())
}

/// Puts what is executed in the place of EXECUTE and of names that only the server knows.
async fn resolve(asker: &mut impl Ask, subject: &Subjected, pieces: &mut Vec<Piece>) -> Result<(), AskError> {
    if let Subjected::Named(name) = subject {
        let name = String::from_utf8_lossy(name).into_owned();
        // A name that the server does not know either is its to refuse.
        let prepared = prepared_text(asker, &name).await?;
        *pieces = prepared.map(|prepared| executed(&prepared.text, &name)).into_iter().collect();
        return Ok(());
    }
    for at in 0..pieces.len() {
        let Some(execution) = pieces[at].facts.executes.clone() else { continue };
        let mut before = pieces[..at].iter().map(|piece| &piece.facts);
        if before.any(|facts| facts.prepares.is_some() || facts.forgets_prepared) {
            pieces[at].facts.unread =
                Some("EXECUTE in one message with what gives its name another meaning".to_owned());
            continue;
        }
        let Some(prepared) = prepared_text(asker, &execution.name).await? else {
            // Nothing of this name: the server refuses it.
            pieces[at].facts = Facts { kind: Kind::Read, ..Facts::default() };
            continue;
        };
        let arguments = &execution.arguments;
        let spliced = sql::rewrite::with_arguments(&prepared.text, LexicalMode::default(), arguments, &prepared.types);
        let hints = pieces[at].facts.hints.clone();
        pieces[at] = match spliced {
            Some(spliced) => executed(&spliced, &execution.name),
            None => unread(&pieces[at].text, "its arguments could not be put into what was prepared"),
        };
        pieces[at].facts.hints.extend(hints);
    }
    Ok(())
}

struct PreparedText {
    text: String,
    types: Vec<String>,
}

async fn prepared_text(asker: &mut impl Ask, name: &str) -> Result<Option<PreparedText>, AskError> {
    let question = format!(
        "SELECT statement, pg_catalog.array_to_json(parameter_types::pg_catalog.text[])::pg_catalog.text \
         FROM pg_catalog.pg_prepared_statements WHERE name OPERATOR(pg_catalog.=) {}",
        crate::database::quote::literal(name)
    );
    let answer = asker.ask(&question, None).await?;
    let Some(row) = answer.rows.into_iter().next() else { return Ok(None) };
    let mut row = row.into_iter().flatten();
    let (Some(text), Some(types)) = (row.next(), row.next()) else { return Ok(None) };
    let types = serde_json::from_str(&types).unwrap_or_default();
    Ok(Some(PreparedText { text, types }))
}

/// What a prepared text does when it is executed. The server keeps the whole message that a PREPARE came in, so the statement is
/// looked for by its name; the mode it was read under is not known any more.
fn executed(text: &str, name: &str) -> Piece {
    let reading = sql::read(text, LexicalMode::default());
    if reading.mode_sensitive {
        return unread(text, "it was prepared under a standard_conforming_strings that is not known");
    }
    let mut found = pieces(text, reading.statements);
    if found.iter().any(|piece| piece.facts.prepares.is_some()) {
        found.retain(|piece| piece.facts.prepares.as_deref() == Some(name));
    }
    match found.pop() {
        Some(piece) if found.is_empty() => Piece { facts: policy::executed(&piece.facts), text: piece.text },
        _ => unread(text, "it was prepared together with other statements"),
    }
}

/// Hints count before what the session was told; the last of a kind counts.
fn told(pieces: &[Piece], context: &Context) -> Told {
    let hints = pieces.iter().flat_map(|piece| &piece.facts.hints);
    let hint = |name: &str| hints.clone().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).next_back();
    let session = |name: &str| context.get(name).filter(|value| !value.is_empty()).cloned();
    // What changes nothing may be run as often as one likes.
    let script = hint("script").or_else(|| session("sluice.script")).filter(|name| !name.is_empty());
    let script = script.filter(|_| pieces.iter().any(|piece| policy::is_change(&piece.facts)));
    Told {
        max_affected: hint("max_affected")
            .or_else(|| session("sluice.max_affected"))
            .and_then(|number| number.parse().ok()),
        confirm: hint("confirm"),
        confirm_on_session: session("sluice.confirm"),
        reason: hint("reason").or_else(|| session("sluice.reason")),
        script: script.map(|name| Scripted {
            name,
            ledger: Ledger::NotAsked,
            rerun: hint("rerun").or_else(|| session("sluice.rerun")),
        }),
    }
}

pub(in crate::session) fn unknown_state(broken: Broken) -> End {
    End::Refused(match broken {
        Broken::Lost(how) => {
            Refusal::new(Code::Upstream, format!("sluice: the connection to the database was lost: {how}"))
        }
        Broken::Unknown(how) => {
            let message = format!("sluice: the connection to the database is in an unknown state: {how}");
            Refusal::new(Code::CannotKnow, message)
        }
    })
}
