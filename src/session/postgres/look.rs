//! How a statement is read, asked about and judged.
//!
//! Invariant: the verdict is about exactly the text that is forwarded, read under the mode that the server reads it under; where
//! that mode could have changed unseen, a text that depends on it counts as unread.

use crate::change::ledger::{self, Part};
use crate::database::catalog::{self, Cache};
use crate::database::effects::reach::Reach;
use crate::database::{Ask, AskError};
use crate::ground::limits;
use crate::ground::metrics::QUESTIONS_SECONDS;
use crate::policy::question::{Evidence, Known};
use crate::policy::scope::Principal;
use crate::policy::settings::{Effective, Mode, Policy};
use crate::policy::{self, Asked};
use crate::protocol::postgres::frame::Frame;
use crate::protocol::postgres::message::Script;
use crate::protocol::{Code, Refusal};
use crate::session::desk::Desk;
use crate::session::format::Format;
use crate::session::judgement::copies_in;
use crate::session::judgement::{
    Bound, Depth, Gathering, Judgement, Piece, Seen, Silence, Source, Subjected, for_tables, forget_what_changes,
    gather, judged, misstated, only_shown, pieces, show, strongest, told, too_many_removals, unread, verdicts,
};
use crate::session::postgres::Session;
use crate::session::postgres::ask::{Asker, Broken, Ground};
use crate::session::postgres::reaching::{self, Block, Declared};
use crate::session::{End, House, readings};
use crate::sql::facts::{Facts, Kind};
use crate::sql::statement::{LexicalMode, Product};
use crate::sql::{self, encoding};
use crate::store::kept::Context;
use std::sync::Arc;
use std::time::Instant;

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
        self.desk.in_block = self.talk.status() != b'I';
        let now = self.desk.house.clock.now();
        let policy = self.desk.house.policy.load_full();
        let effective = self.desk.standing.get(&policy, &self.desk.principal, now).clone();
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
            let scripted = self.desk.is_scripted(&seen.pieces);
            if effective.mode == Mode::Off || !(looks_up || asks || scripted) {
                let bound = seen.bound.clone();
                let judgement = self.judged(source.clone(), seen, &effective);
                seen = Seen { bound, ..Seen::default() };
                if Desk::passes(judgement.verdict.in_force()) {
                    return Ok(Looked::At(Box::new(judgement)));
                }
                // It will be refused: what a refusal shows, and is bound to, is asked for.
                seen.pieces = judgement.pieces;
            } else if !looks_up && !scripted && !self.desk.cache.is_empty() {
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
            return Ok(Looked::At(Box::new(self.judged(source, seen, &effective))));
        };
        if ground == Ground::Own && self.pipeline.open {
            self.end_unexecuted_pipeline().await?;
        }
        let time = effective.sizes.preview_timeout;
        let started = Instant::now();
        let leading = self.reached();
        let (unsettled, epoch) = (leading.unsettled, self.reaching.epoch());
        let mut asker = Asker::begin(&mut self.link, &self.seat, &self.talk, ground, time, self.desk.house.ask_timeout)
            .await
            .map_err(unknown_state)?;
        let scene = Scene {
            subject: &subject,
            depth,
            policy: &policy,
            standing: &effective,
            principal: &self.desk.principal,
            house: &self.desk.house,
            now,
            leading,
        };
        let interviewed = interview(&mut asker, &scene, &mut seen, &mut self.desk.cache).await;
        let ended = asker.end().await.map_err(unknown_state)?;
        metrics::histogram!(QUESTIONS_SECONDS).record(started.elapsed().as_secs_f64());
        if !seen.context.is_empty() {
            self.desk.format = Some(Format::of(seen.context.get("sluice.format").map(String::as_str)));
        }
        if ended.cancelled {
            return Ok(Looked::Not(Refusal::new(Code::Cancelled, "canceling statement due to user request")));
        }
        self.pipeline.discarding |= ended.failed;
        match interviewed {
            Ok(Interviewed::Judged(effective)) => {
                if let Some(refusal) = misstated(&seen.context, effective.mode) {
                    return Ok(Looked::Not(refusal));
                }
                // Whoever changed the schema may have ended while a question waited for it.
                seen.doubtful |= unsettled || self.reaching.epoch() != epoch;
                Ok(Looked::At(Box::new(self.judged(source, seen, &effective))))
            }
            Ok(Interviewed::Wrong(error)) => Ok(Looked::Wrong(error)),
            Ok(Interviewed::Missing) => Ok(Looked::Missing),
            Err(error) => {
                let message = format!("sluice: the statement could not be judged: {}", catalog::reason(&error));
                Ok(Looked::Not(Refusal::new(Code::CannotKnow, message)))
            }
        }
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
            let with = Gathering { cache: &mut self.desk.cache, sizes: &standing.sizes, mode };
            let parameters = seen.bound.as_ref().map(|bound| &bound.parameters);
            let asked = policy::questions(&piece.facts, standing);
            seen.evidence.push(gather(&mut Silence, piece, &asked, parameters, with).await);
        }
        forget_what_changes(&seen.pieces, &mut seen.evidence);
        let effective = for_tables(policy, standing, &self.desk.principal, &seen, self.desk.house.clock.now());
        let (pieces, bound) = (seen.pieces.clone(), seen.bound.clone());
        let judgement = self.judged(source.to_owned(), seen, &effective);
        // What is tried may be shown, with a token that is bound to the session as it is now: that is asked.
        let unbounded = judgement.was_counted() || judgement.reaches() || judgement.mode != Mode::Enforce;
        match Desk::passes(judgement.verdict.in_force()) && !unbounded {
            true => Remembered::Passes(Box::new(judgement)),
            false => Remembered::NotEnough(Box::new(Seen { pieces, bound, ..Seen::default() })),
        }
    }

    fn judged(&self, source: String, mut seen: Seen, effective: &Effective) -> Judgement {
        let leading = self.reached();
        seen.doubtful |= leading.unsettled;
        judged(source, seen, effective, self.mode(), |pieces, evidence| leading.note(pieces, evidence))
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
    seen.told = told(&seen.pieces, &seen.context, Product::PostgreSql);
    consult_ledger(asker, scene, seen).await;
    // What was remembered of these tables was not enough: they are asked about afresh.
    for facts in seen.pieces.iter().map(|piece| &piece.facts) {
        let changed = facts.changes.iter().map(|change| &change.target);
        changed.chain(facts.reads.iter().flatten()).for_each(|name| cache.forget(name));
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
    let refused = verdicts.get(worst).is_some_and(|verdict| !Desk::passes(verdict.in_force()));
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
                || copies_in(facts)
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

enum Remembered {
    Passes(Box<Judgement>),
    NotEnough(Box<Seen>),
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

/// The settings that give names their meaning, and what the sender told its session.
async fn context(asker: &mut impl Ask) -> Result<Context, AskError> {
    const QUESTION: &str = "SELECT pg_catalog.current_setting('search_path'), CURRENT_USER::pg_catalog.text, \
         pg_catalog.current_setting('standard_conforming_strings'), pg_catalog.current_setting('sluice.max_affected', true), \
         pg_catalog.current_setting('sluice.confirm', true), pg_catalog.current_setting('sluice.reason', true), \
         pg_catalog.current_setting('sluice.format', true), \
         pg_catalog.current_setting('sluice.script', true), pg_catalog.current_setting('sluice.rerun', true), \
         pg_catalog.current_setting('DateStyle'), pg_catalog.current_setting('TimeZone'), pg_catalog.current_setting('IntervalStyle'), \
         pg_catalog.current_setting('transform_null_equals'), pg_catalog.current_setting('array_nulls'), \
         pg_catalog.current_setting('client_encoding')";
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
        // What dates, intervals and comparisons with NULL mean in the text depends on these.
        "DateStyle",
        "TimeZone",
        "IntervalStyle",
        "transform_null_equals",
        "array_nulls",
        "client_encoding",
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
