//! What is known of a statement when it is judged, whatever protocol it came by.
//!
//! Invariant: the verdict is about exactly the text that is forwarded; what was not asked, or could have changed since, is unknown.

use crate::change::ledger::Claim;
use crate::change::promise::{self, Promise};
use crate::database::catalog::Cache;
use crate::database::evidence::Inquiry;
use crate::database::{Answer, Ask, AskError, evidence};
use crate::ground::limits;
use crate::policy::finding::Level;
use crate::policy::question::{Effects, Evidence, Known, Questions, RemovalEvidence, RemovedTable, Rows};
use crate::policy::rules::{Caller, Ledger, Scripted};
use crate::policy::scope::Principal;
use crate::policy::settings::{Effective, Mode, Policy, Sizes};
use crate::policy::verdict::Verdict;
use crate::policy::{self, Asked, scope};
use crate::protocol::{Code, Parameters, Refusal};
use crate::session::desk::Desk;
use crate::sql::encoding::Letters;
use crate::sql::facts::{Facts, Kind, OnConflict, TransactionVerb, Verb};
use crate::sql::lexer::Lexer;
use crate::sql::statement::{LexicalMode, Product, Statement};
use crate::store::kept::Context;
use bytes::Bytes;
use std::borrow::Cow;
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
    /// How its bytes stand for characters.
    pub letters: Letters,
}

impl Source {
    /// What is read of it; nothing, where its bytes are no text.
    pub fn readable(&self) -> Cow<'_, str> {
        self.letters.read(&self.text).unwrap_or_default()
    }
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
    /// How its source was read.
    pub lexical: LexicalMode,
    /// The policy it was judged by.
    effective: Effective,
}

/// What the sender said beside the statement: in hints, else on its session.
#[derive(Debug, Clone, Default)]
pub(in crate::session) struct Told {
    pub product: Product,
    /// MySQL: the default database.
    pub database: Option<String>,
    pub max_affected: Option<u64>,
    /// In a comment of the statement.
    pub confirm: Option<String>,
    /// Set on the session: it may be meant for another statement.
    pub confirm_on_session: Option<String>,
    pub reason: Option<String>,
    /// What it calls itself a part of, with the ledger's word on it.
    pub script: Option<Scripted>,
}

impl Told {
    /// As rules look at who sends a statement.
    pub fn caller(&self) -> Caller {
        Caller {
            product: self.product,
            database: self.database.clone(),
            max_affected: self.max_affected,
            script: self.script.clone(),
        }
    }
}

/// How much is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum Depth {
    WhatRulesNeed,
    Everything,
}

/// How a statement is named that leads to no code, but whose rows only the database can count.
pub(in crate::session) const MERGE: &str = "MERGE";

impl std::fmt::Debug for Judgement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Judgement").finish_non_exhaustive()
    }
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
        self.evidence.iter().flat_map(|known| &known.reaches).any(|name| name != MERGE)
    }

    /// What it does is known when it was run, and judged then.
    pub fn is_to_be_tried(&self) -> bool {
        let open = |known: &Evidence| !known.reaches.is_empty() && known.effects == Known::NotAsked;
        self.mode == Mode::Enforce && self.evidence.iter().any(open) && Desk::passes(self.verdict.in_force())
    }

    /// The statement with the strongest finding.
    pub fn strongest(&self) -> Option<(&Facts, &Evidence)> {
        Some((&self.pieces.get(self.worst)?.facts, self.evidence.get(self.worst)?))
    }

    /// The most rows that the sender may change in one statement.
    pub fn limit(&self) -> u64 {
        policy::rules::limit(&self.sizes, &self.told.caller())
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
        let named = |piece: &Piece| names_object(&piece.text, object, self.lexical);
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
            // Of what could not be counted nothing was shown, so to nothing of it was agreed: more is rolled back, and shown.
            let carried = branches.iter().fold(0u64, |sum, branch| sum.saturating_add(branch.known_total()));
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
        found.any(|judged| if confirmed { judged.level == Level::Deny } else { !Desk::passes(judged.level) })
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
            lexical: self.lexical,
            effective: self.effective.clone(),
        }
    }
}

/// What is known so far.
#[derive(Default)]
pub(in crate::session) struct Seen {
    pub pieces: Vec<Piece>,
    pub evidence: Vec<Evidence>,
    pub context: Context,
    pub told: Told,
    pub bound: Option<Bound>,
    pub claim: Option<Claim>,
    pub doubtful: bool,
}

pub(in crate::session) fn judged(
    source: String,
    seen: Seen,
    effective: &Effective,
    lexical: LexicalMode,
    lead: impl FnOnce(&[Piece], &mut [Evidence]),
) -> Judgement {
    let mut evidence = seen.evidence;
    evidence.resize_with(seen.pieces.len(), Evidence::default);
    if effective.mode == Mode::Enforce {
        lead(&seen.pieces, &mut evidence);
    }
    let told = match seen.context.is_empty() {
        true => Told { database: seen.told.database, ..told(&seen.pieces, &seen.context, lexical.product()) },
        false => seen.told,
    };
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
        doubtful: seen.doubtful,
        lexical,
        effective: effective.clone(),
    }
}

/// Hints count before what the session was told; the last of a kind counts.
pub(in crate::session) fn told(pieces: &[Piece], context: &Context, product: Product) -> Told {
    let hints = pieces.iter().flat_map(|piece| &piece.facts.hints);
    let hint = |name: &str| hints.clone().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).next_back();
    let session = |name: &str| context.get(name).filter(|value| !value.is_empty()).cloned();
    // What changes nothing may be run as often as one likes.
    let script = hint("script").or_else(|| session("sluice.script")).filter(|name| !name.is_empty());
    let script = script.filter(|_| pieces.iter().any(|piece| policy::is_change(&piece.facts)));
    Told {
        product,
        database: session("database"),
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

/// A number set on the session that is none: who set it believes that it holds.
pub(in crate::session) fn misstated(context: &Context, mode: Mode) -> Option<Refusal> {
    let stated = context.get("sluice.max_affected").filter(|stated| !stated.is_empty() && mode == Mode::Enforce)?;
    let message = || {
        let shown: String = stated.chars().take(40).collect();
        format!("sluice: max_affected is a number of rows, not \"{shown}\", which was set on the session")
    };
    stated.parse::<u64>().is_err().then(|| Refusal::new(Code::Syntax, message()))
}

/// Everything was asked before anything of the message ran. Behind a statement that changes rows, counts do not hold; behind one
/// that changes what names mean (SET, DDL, the end of a transaction), nothing does.
pub(in crate::session) fn forget_what_changes(pieces: &[Piece], evidence: &mut [Evidence]) {
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
pub(in crate::session) fn for_tables(
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

/// A list that nobody could be shown is not asked about for seconds on end.
pub(in crate::session) fn too_many_removals(pieces: &[Piece]) -> Option<Refusal> {
    let named: usize = pieces.iter().map(|piece| piece.facts.removals.len()).sum();
    let most = limits::REMOVALS_SHOWN_MAX;
    let message = format!("sluice: the message removes {named} objects by name, and no more than {most} can be shown");
    (named > most).then(|| Refusal::new(Code::CannotKnow, message).hint("Send several statements that name fewer."))
}

pub(in crate::session) struct Gathering<'a> {
    pub cache: &'a mut Cache,
    pub sizes: &'a Sizes,
    pub mode: LexicalMode,
}

pub(in crate::session) async fn gather(
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

/// Asks nothing: what is not remembered is unknown.
pub(in crate::session) struct Silence;

impl Ask for Silence {
    async fn ask(&mut self, _: &str, _: Option<&Parameters>) -> Result<Answer, AskError> {
        Err(AskError::Deadline)
    }
}

impl Subjected {
    pub fn mode(&self) -> LexicalMode {
        match self {
            Subjected::Source(source) => source.mode,
            Subjected::Named(_) => LexicalMode::default(),
        }
    }
}

/// A verdict for each statement.
pub(in crate::session) fn verdicts(
    pieces: &[Piece],
    evidence: &[Evidence],
    effective: &Effective,
    told: &Told,
) -> Vec<Verdict> {
    let caller = told.caller();
    pieces.iter().zip(evidence).map(|(piece, known)| policy::judge(&piece.facts, known, effective, &caller)).collect()
}

/// The statement that decides: the first of those with the strongest finding.
pub(in crate::session) fn strongest(verdicts: &[Verdict]) -> usize {
    let levels = verdicts.iter().enumerate();
    levels.max_by_key(|(at, verdict)| (verdict.level(), std::cmp::Reverse(*at))).map_or(0, |(at, _)| at)
}

/// What a refusal shows beside what it was judged by.
pub(in crate::session) fn only_shown(facts: &Facts) -> Asked {
    let shown = Questions { preview: true, ..Questions::default() };
    Asked { changes: vec![shown; facts.changes.len()], removals: vec![Questions::default(); facts.removals.len()] }
}

pub(in crate::session) fn show(known: &mut Evidence, shown: Evidence) {
    for (known, shown) in known.changes.iter_mut().zip(shown.changes) {
        known.sample = shown.sample;
        known.scan = shown.scan;
    }
}

pub(in crate::session) fn pieces(text: &str, statements: Vec<Statement>) -> Vec<Piece> {
    let own = |statement: &Statement| text.get(statement.span.clone()).unwrap_or_default().to_owned();
    statements.into_iter().map(|statement| Piece { text: own(&statement), facts: statement.facts }).collect()
}

pub(in crate::session) fn unread(text: &str, why: &str) -> Piece {
    let facts = Facts { kind: Kind::Unread, unread: Some(why.to_owned()), changes_session: true, ..Facts::default() };
    Piece { text: text.to_owned(), facts }
}

/// A row of VALUES can become many where a function that returns a set stands in it, and each can meet a row that is already there.
pub(in crate::session) fn many_from_one(facts: &Facts) -> bool {
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

/// Whether a text names the object that effects tell of ("public.t truncated or rewritten").
pub(in crate::session) fn names_object(text: &str, object: &str, mode: LexicalMode) -> bool {
    let name = object.split(' ').next().unwrap_or_default();
    let bare = name.rsplit('.').next().unwrap_or_default().trim_matches('"');
    !bare.is_empty() && words(text, mode).any(|word| word.trim_matches(['"', '`']) == bare.to_lowercase())
}

/// In lower case, as the server tells words from comments: what stands in an executable comment is among them.
pub(in crate::session) fn words(text: &str, mode: LexicalMode) -> impl Iterator<Item = String> + '_ {
    let tokens = Lexer::new(text, mode).filter(|token| !token.is_comment());
    tokens.map(|token| token.text(text).to_ascii_lowercase())
}

pub(in crate::session) fn copies_in(facts: &Facts) -> bool {
    facts.changes.iter().any(|change| change.verb == Verb::CopyIn)
}
