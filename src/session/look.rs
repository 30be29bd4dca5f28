//! How a statement is read, asked about and judged.
//!
//! Invariant: the verdict is about exactly the text that is forwarded, read under the mode that the server reads it under; where
//! that mode could have changed unseen, a text that depends on it counts as unread.

use crate::change::promise::{self, Promise};
use crate::database::catalog::Cache;
use crate::database::evidence::Inquiry;
use crate::database::{Ask, AskError, evidence};
use crate::policy::question::{Evidence, Questions, Rows};
use crate::policy::rules::Caller;
use crate::policy::settings::{Effective, Mode, Sizes};
use crate::policy::verdict::Verdict;
use crate::policy::{self, Asked, scope};
use crate::protocol::{Code, Parameters, Refusal};
use crate::session::ask::{Asker, Broken, Ground};
use crate::session::{End, Session};
use crate::sql::facts::{Facts, Kind};
use crate::sql::statement::{LexicalMode, Statement};
use crate::sql::{self, Product};
use crate::store::kept::Context;
use bytes::Bytes;
use std::time::Instant;

/// A text as it came, and how the server reads it.
#[derive(Debug, Clone)]
pub(in crate::session) struct Source {
    pub text: Bytes,
    pub mode: LexicalMode,
    /// Nothing was under way that could change the mode before the text is read.
    pub settled: bool,
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

/// A statement (or a message of several) with everything that is known of it.
pub(in crate::session) struct Judgement {
    /// As it was sent.
    pub source: String,
    /// What the statements' spans point into: the source, or what an EXECUTE stands for.
    pub text: String,
    pub statements: Vec<Statement>,
    pub evidence: Vec<Evidence>,
    pub verdict: Verdict,
    /// The statement with the strongest finding.
    pub worst: usize,
    pub parameters: Option<Parameters>,
    pub context: Context,
    pub caller: Told,
    pub promise: Promise,
    pub sizes: Sizes,
    pub mode: Mode,
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
}

impl Judgement {
    /// Some change's rows were counted or guessed, not bounded by keys: others may come in between.
    pub fn was_counted(&self) -> bool {
        let changes = self.evidence.iter().flat_map(|known| &known.changes);
        changes.filter_map(|change| change.rows.known()).any(|rows| !matches!(rows, Rows::AtMost(_)))
    }
}

pub(in crate::session) enum Looked {
    At(Box<Judgement>),
    /// It could not be judged: what the client is told.
    Not(Refusal),
}

/// More than what is needed: everything a preview shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum Depth {
    WhatRulesNeed,
    Everything,
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
        let mut statements = match &subject {
            Subjected::Source(source) => read(source),
            Subjected::Named(_) => Vec::new(),
        };
        let text = match &subject {
            Subjected::Source(source) => String::from_utf8_lossy(&source.text).into_owned(),
            Subjected::Named(_) => String::new(),
        };
        let asked = |statements: &[Statement]| -> Vec<Asked> {
            statements.iter().map(|statement| questions(&statement.facts, &effective, depth)).collect()
        };
        let mode = match &subject {
            Subjected::Source(source) => source.mode,
            Subjected::Named(_) => LexicalMode::default(),
        };
        let source = text.clone();
        let mut questions = asked(&statements);
        let looks_up = matches!(subject, Subjected::Named(_)) || statements.iter().any(|one| one.facts.executes.is_some());
        if effective.mode == Mode::Off || (!looks_up && questions.iter().all(Asked::none)) {
            let evidence = statements.iter().map(|_| Evidence::default()).collect();
            let told = told(&statements, &Context::new());
            return Ok(self.judged(source, text, statements, evidence, Found::unasked(told, bound), &effective));
        }
        self.drain().await?;
        if self.pipeline.discarding {
            return Ok(Looked::Not(act_on_discarded()));
        }
        let Some(ground) = self.ground(&statements) else {
            // A failed transaction: the server refuses everything but its end, and our questions with it.
            let evidence = statements.iter().map(|_| Evidence::default()).collect();
            let effective = Effective { mode: Mode::Off, ..effective };
            return Ok(self.judged(source, text, statements, evidence, Found::unasked(Told::default(), bound), &effective));
        };
        if ground == Ground::Own && self.pipeline.open {
            self.end_unexecuted_pipeline().await?;
        }
        let time = effective.sizes.preview_timeout;
        let mut asker = match Asker::begin(&mut self.link, &self.seat, &self.talk, ground, time).await {
            Ok(asker) => asker,
            Err(broken) => return Err(unknown_state(broken)),
        };
        let mut bound = bound;
        let mut text = text;
        let mut all = Vec::new();
        let mut unanswered = None;
        let mut found = Found::default();
        if let Some(bound) = &mut bound {
            match &bound.statement {
                Some(name) => match asker.parameter_types(name).await {
                    Ok(types) => bound.parameters.types = types,
                    Err(error) => unanswered = Some(error),
                },
                None => {}
            }
        }
        if unanswered.is_none() {
            match context(&mut asker).await {
                Ok(context) => found.context = context,
                Err(error) => unanswered = Some(error),
            }
        }
        if unanswered.is_none() && looks_up {
            match resolve(&mut asker, &subject, &mut text, &mut statements).await {
                Ok(()) => questions = asked(&statements),
                Err(error) => unanswered = Some(error),
            }
        }
        if unanswered.is_none() {
            for (statement, asked) in statements.iter().zip(&questions) {
                let parameters = bound.as_ref().map(|bound| &bound.parameters);
                let own_text = own_text(&text, statement);
                let gathering = Gathering { cache: &mut self.cache, sizes: &effective.sizes, mode };
                all.push(gather(&mut asker, &own_text, statement, asked, parameters, gathering).await);
            }
        }
        found.told = told(&statements, &found.context);
        let effective = match policy.has_tables() {
            true => {
                let names = statements.iter().zip(&all).flat_map(|(one, known)| policy::names(&one.facts, known));
                scope::effective(&policy, &self.principal, &names.collect::<Vec<_>>(), now)
            }
            false => effective,
        };
        let verdicts = verdicts(&statements, &all, &effective, &found.told);
        let worst = strongest(&verdicts);
        if let (Some(statement), Some(known), true) = (statements.get(worst), all.get_mut(worst), depth == Depth::WhatRulesNeed)
            && verdicts.get(worst).is_some_and(|verdict| !Session::passes(verdict.in_force()))
        {
            let parameters = bound.as_ref().map(|bound| &bound.parameters);
            let own_text = own_text(&text, statement);
            let gathering = Gathering { cache: &mut self.cache, sizes: &effective.sizes, mode };
            let shown = gather(&mut asker, &own_text, statement, &only_shown(&statement.facts), parameters, gathering).await;
            show(known, shown);
        }
        let ended = asker.end().await.map_err(unknown_state)?;
        if ended.cancelled {
            return Ok(Looked::Not(Refusal::new(Code::Cancelled, "canceling statement due to user request")));
        }
        if ended.failed {
            self.pipeline.discarding = true;
        }
        if let Some(error) = unanswered {
            let message = format!("sluice: the statement could not be judged: {}", reason(&error));
            return Ok(Looked::Not(Refusal::new(Code::CannotKnow, message)));
        }
        found.bound = bound;
        Ok(self.judged(source, text, statements, all, found, &effective))
    }

    fn judged(
        &mut self,
        source: String,
        text: String,
        statements: Vec<Statement>,
        evidence: Vec<Evidence>,
        found: Found,
        effective: &Effective,
    ) -> Looked {
        let verdicts = verdicts(&statements, &evidence, effective, &found.told);
        let worst = strongest(&verdicts);
        let verdict = policy::together(verdicts, effective);
        let promise = evidence.get(worst).map(promise::promise).unwrap_or_default();
        Looked::At(Box::new(Judgement {
            source,
            text,
            statements,
            evidence,
            verdict,
            worst,
            parameters: found.bound.map(|bound| bound.parameters),
            context: found.context,
            caller: found.told,
            promise,
            sizes: effective.sizes,
            mode: effective.mode,
        }))
    }

    /// Where questions can be asked now; nowhere in a failed transaction, except that a message which ends it goes on after that
    /// end, where nothing is known yet.
    fn ground(&self, statements: &[Statement]) -> Option<Ground> {
        match self.talk.status() {
            b'T' => Some(Ground::Savepoint),
            b'I' if self.pipeline.executed => Some(Ground::Implicit),
            b'I' => Some(Ground::Own),
            _ if statements.len() == 1 && statements.iter().all(|one| one.facts.transaction.is_none()) => None,
            _ => Some(Ground::Implicit),
        }
    }

    /// Something was prepared or bound, nothing executed: a Sync of ours ends the implicit transaction with nothing in it.
    pub(in crate::session) async fn end_unexecuted_pipeline(&mut self) -> Result<(), End> {
        self.link.say(crate::protocol::postgres::message::Script::default().sync());
        match self.hear_ready().await? {
            b'I' => {
                self.pipeline.open = false;
                Ok(())
            }
            status => Err(unknown_state(Broken(format!("transaction status {status} after a pipeline without effects")))),
        }
    }
}

/// What the questions brought beside the evidence.
#[derive(Default)]
struct Found {
    context: Context,
    told: Told,
    bound: Option<Bound>,
}

impl Found {
    fn unasked(told: Told, bound: Option<Bound>) -> Found {
        Found { context: Context::new(), told, bound }
    }
}

struct Gathering<'a> {
    cache: &'a mut Cache,
    sizes: &'a Sizes,
    mode: LexicalMode,
}

async fn gather(
    asker: &mut impl Ask,
    text: &str,
    statement: &Statement,
    asked: &Asked,
    parameters: Option<&Parameters>,
    with: Gathering<'_>,
) -> Evidence {
    if asked.none() {
        return Evidence::default();
    }
    let inquiry = Inquiry {
        text,
        mode: with.mode,
        facts: &statement.facts,
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
fn verdicts(statements: &[Statement], evidence: &[Evidence], effective: &Effective, told: &Told) -> Vec<Verdict> {
    let caller = Caller { max_affected: told.max_affected };
    statements.iter().zip(evidence).map(|(one, known)| policy::judge(&one.facts, known, effective, &caller)).collect()
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

fn questions(facts: &Facts, effective: &Effective, depth: Depth) -> Asked {
    match depth {
        Depth::WhatRulesNeed => policy::questions(facts, effective),
        Depth::Everything => Asked::preview(facts),
    }
}

fn read(source: &Source) -> Vec<Statement> {
    let Ok(text) = std::str::from_utf8(&source.text) else {
        return vec![unread(&source.text, "it is not UTF-8 text")];
    };
    let reading = sql::read(text, source.mode, Product::PostgreSql);
    if reading.mode_sensitive && !source.settled {
        return vec![unread(&source.text, "standard_conforming_strings, which decides how it is read, may be about to change")];
    }
    reading.statements
}

fn unread(text: &[u8], why: &str) -> Statement {
    let facts = Facts { kind: Kind::Unread, unread: Some(why.to_owned()), changes_session: true, ..Facts::default() };
    Statement { span: 0..text.len(), facts }
}

/// The statement's own text: what was prepared, for an EXECUTE that was resolved.
fn own_text(text: &str, statement: &Statement) -> String {
    text.get(statement.span.clone()).unwrap_or_default().to_owned()
}

/// The settings that give names their meaning, and what the sender told its session.
async fn context(asker: &mut impl Ask) -> Result<Context, AskError> {
    const QUESTION: &str = "SELECT pg_catalog.current_setting('search_path'), CURRENT_USER::pg_catalog.text, \
         pg_catalog.current_setting('standard_conforming_strings'), pg_catalog.current_setting('sluice.max_affected', true), \
         pg_catalog.current_setting('sluice.confirm', true), pg_catalog.current_setting('sluice.reason', true)";
    let answer = asker.ask(QUESTION, None).await?;
    let names =
        ["search_path", "role", "standard_conforming_strings", "sluice.max_affected", "sluice.confirm", "sluice.reason"];
    let values = answer.rows.into_iter().next().unwrap_or_default();
    Ok(names.iter().zip(values).filter_map(|(name, value)| Some(((*name).to_owned(), value?))).collect())
}

/// Puts what is executed in the place of EXECUTE and of names that only the server knows. `text` becomes the text that the
/// statements' spans point into.
async fn resolve(
    asker: &mut impl Ask,
    subject: &Subjected,
    text: &mut String,
    statements: &mut Vec<Statement>,
) -> Result<(), AskError> {
    if let Subjected::Named(name) = subject {
        let name = String::from_utf8_lossy(name).into_owned();
        *statements = match prepared_text(asker, &name).await? {
            Some(prepared) => {
                let read = executed(&prepared.text, &name);
                *text = prepared.text;
                read
            }
            // The server does not know it either, and says so itself.
            None => Vec::new(),
        };
        return Ok(());
    }
    let [statement] = &statements[..] else {
        for statement in statements.iter_mut().filter(|one| one.facts.executes.is_some()) {
            statement.facts.unread.get_or_insert_with(|| "EXECUTE together with other statements".to_owned());
        }
        return Ok(());
    };
    let Some(execution) = statement.facts.executes.clone() else { return Ok(()) };
    let Some(prepared) = prepared_text(asker, &execution.name).await? else { return Ok(()) };
    let spliced = sql::rewrite::with_arguments(&prepared.text, LexicalMode::default(), &execution.arguments, &prepared.types);
    let hints = statement.facts.hints.clone();
    *statements = match spliced {
        Some(spliced) => {
            let mut read = executed(&spliced, &execution.name);
            *text = spliced;
            for one in &mut read {
                one.facts.hints.extend(hints.iter().cloned());
            }
            read
        }
        None => vec![unread(text.as_bytes(), "its arguments could not be put into what was prepared")],
    };
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
fn executed(text: &str, name: &str) -> Vec<Statement> {
    let reading = sql::read(text, LexicalMode::default(), Product::PostgreSql);
    if reading.mode_sensitive {
        return vec![unread(text.as_bytes(), "it was prepared under a standard_conforming_strings that is not known")];
    }
    let mut statements = reading.statements;
    if statements.iter().any(|one| one.facts.prepares.is_some()) {
        statements.retain(|one| one.facts.prepares.as_deref() == Some(name));
    }
    match statements.pop() {
        Some(one) if statements.is_empty() => vec![Statement { facts: policy::executed(&one.facts), span: one.span }],
        _ => vec![unread(text.as_bytes(), "it was prepared together with other statements")],
    }
}

/// Hints count before what the session was told; the last of a kind counts.
fn told(statements: &[Statement], context: &Context) -> Told {
    let hints = statements.iter().flat_map(|one| &one.facts.hints);
    let hint = |name: &str| hints.clone().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).last();
    let session = |name: &str| context.get(name).filter(|value| !value.is_empty()).cloned();
    Told {
        max_affected: hint("max_affected").or_else(|| session("sluice.max_affected")).and_then(|number| number.parse().ok()),
        confirm: hint("confirm"),
        confirm_on_session: session("sluice.confirm"),
        reason: hint("reason").or_else(|| session("sluice.reason")),
    }
}

fn reason(error: &AskError) -> String {
    crate::database::catalog::reason(error)
}

fn act_on_discarded() -> Refusal {
    Refusal::new(Code::CannotKnow, "sluice: an earlier statement of the pipeline failed")
}

pub(in crate::session) fn unknown_state(broken: Broken) -> End {
    let message = format!("sluice: the connection to the database is in an unknown state: {}", broken.0);
    End::Refused(Refusal::new(Code::CannotKnow, message))
}
