//! How a statement is read, asked about and judged.
//!
//! Invariant: the verdict is about exactly the text that is forwarded, read under the settings that the server reads it under.

use crate::change::ledger::{self, Part};
use crate::database::quote;
use crate::database::{Ask, AskError, catalog};
use crate::ground::limits;
use crate::ground::metrics::QUESTIONS_SECONDS;
use crate::policy::question::{Evidence, Known};
use crate::policy::scope::Principal;
use crate::policy::settings::{Effective, Mode, Policy};
use crate::policy::{self, Asked};
use crate::protocol::mysql::response::Failure;
use crate::protocol::{Code, Parameters, Refusal};
use crate::session::desk::Desk;
use crate::session::format::Format;
use crate::session::judgement::{
    Bound, Depth, Gathering, Judgement, Piece, Seen, Silence, Source, for_tables, forget_what_changes, gather, judged,
    misstated, only_shown, pieces, show, strongest, told, too_many_removals, unread, verdicts,
};
use crate::session::mysql::Session;
use crate::session::mysql::ask::{Asker, Broken, Ground};
use crate::session::mysql::prepared::Named;
use crate::session::{End, House, readings};
use crate::sql::facts::{Facts, Kind};
use crate::sql::lexer::{self, Lexer};
use crate::sql::statement::LexicalMode;
use crate::sql::{self, Product, encoding};
use crate::store::kept::Context;
use std::time::Instant;

pub(in crate::session) enum Looked {
    At(Box<Judgement>),
    /// It could not be judged: what the client is told.
    Not(Refusal),
    /// The server refuses the text itself: its error.
    Wrong(Failure),
}

impl Session {
    pub(in crate::session) async fn look(
        &mut self,
        source: Source,
        parameters: Option<Parameters>,
    ) -> Result<Looked, End> {
        self.look_at(source, parameters, Depth::WhatRulesNeed).await
    }

    /// Reads, asks, judges. Not to be cancelled half-way: the connection would be left in a transaction of ours.
    pub(in crate::session) async fn look_at(
        &mut self,
        source: Source,
        parameters: Option<Parameters>,
        depth: Depth,
    ) -> Result<Looked, End> {
        let now = self.desk.house.clock.now();
        let policy = self.desk.house.policy.load_full();
        let effective = self.desk.standing.get(&policy, &self.desk.principal, now).clone();
        let read = self.read(&source).await;
        let text = source.readable().into_owned();
        if effective.mode == Mode::Enforce
            && let Some(why) = sql::hints::wrong(&text, source.mode)
        {
            let hint = format!("Hints are: {}.", sql::hints::KNOWN.join(", "));
            return Ok(Looked::Not(Refusal::new(Code::Syntax, format!("sluice: {why}")).hint(hint)));
        }
        let bound = parameters.map(|parameters| Bound { statement: None, parameters });
        let mut seen = Seen { pieces: read, bound, ..Seen::default() };
        let resolves = seen.pieces.iter().any(|piece| needs_resolving(&piece.facts));
        if depth == Depth::WhatRulesNeed && !resolves {
            match self.without_asking(&text, &source, seen, &policy, &effective).await {
                Ok(judgement) => return Ok(Looked::At(judgement)),
                Err(unchanged) => seen = *unchanged,
            }
        }
        if let Some(refusal) = too_many_removals(&seen.pieces).filter(|_| effective.mode == Mode::Enforce) {
            return Ok(Looked::Not(refusal));
        }
        self.interviewed(text, source, seen, depth, &policy, effective).await
    }

    async fn read(&self, source: &Source) -> Vec<Piece> {
        if source.text.len() <= limits::SQL_READ_INLINE_BYTES_MAX {
            return read(source);
        }
        let beside = source.clone();
        let pieces = tokio::task::spawn_blocking(move || read(&beside)).await;
        pieces.unwrap_or_else(|_| vec![unread("", "reading it failed")])
    }

    /// What no rule needs to know anything about, or what memory alone lets pass.
    async fn without_asking(
        &mut self,
        text: &str,
        source: &Source,
        mut seen: Seen,
        policy: &Policy,
        standing: &Effective,
    ) -> Result<Box<Judgement>, Box<Seen>> {
        let (pieces, bound) = (seen.pieces.clone(), seen.bound.clone());
        let again = || Box::new(Seen { pieces, bound, ..Seen::default() });
        let scripted = self.desk.is_scripted(&seen.pieces);
        seen.told.database = Some(self.desk.principal.database.clone());
        let blind = self.reaching.known().blind;
        let asks = seen.pieces.iter().any(|piece| !Session::asked_of(piece, standing, blind).none());
        if standing.mode == Mode::Off || !(asks || scripted) {
            let judgement = self.judged(text.to_owned(), source, seen, standing);
            return if Desk::passes(judgement.verdict.in_force()) { Ok(Box::new(judgement)) } else { Err(again()) };
        }
        if scripted || self.desk.cache.is_empty() {
            return Err(again());
        }
        for piece in &seen.pieces {
            let with = Gathering { cache: &mut self.desk.cache, sizes: &standing.sizes, mode: source.mode };
            let parameters = seen.bound.as_ref().map(|bound| &bound.parameters);
            let asked = Session::asked_of(piece, standing, blind);
            seen.evidence.push(gather(&mut Silence, piece, &asked, parameters, with).await);
        }
        forget_what_changes(&seen.pieces, &mut seen.evidence);
        let effective = for_tables(policy, standing, &self.desk.principal, &seen, self.desk.house.clock.now());
        let judgement = self.judged(text.to_owned(), source, seen, &effective);
        let unbounded = judgement.was_counted() || judgement.reaches() || judgement.mode != Mode::Enforce;
        match Desk::passes(judgement.verdict.in_force()) && !unbounded {
            true => Ok(Box::new(judgement)),
            false => Err(again()),
        }
    }

    async fn interviewed(
        &mut self,
        text: String,
        source: Source,
        mut seen: Seen,
        depth: Depth,
        policy: &Policy,
        standing: Effective,
    ) -> Result<Looked, End> {
        if self.once {
            let message = "sluice: SET TRANSACTION is for the very next transaction, and looking at this statement would use it up";
            let refusal =
                Refusal::new(Code::CannotKnow, message).hint("Begin the transaction first: START TRANSACTION.");
            return Ok(Looked::Not(refusal));
        }
        self.keep_aftermath().await?;
        let ground = self.ground();
        let time = standing.sizes.preview_timeout;
        let started = Instant::now();
        let mode = self.settings.own_mode();
        let together = self.desk.house.ask_timeout;
        let asker = Asker::begin(&mut self.link, self.server, mode, ground, time, together).await;
        let mut asker = asker.map_err(unknown_state)?;
        asker.write_in(source.letters);
        let scene = Scene {
            source: &source,
            depth,
            policy,
            standing: &standing,
            principal: &self.desk.principal,
            house: &self.desk.house,
            named: &self.named,
            names_known: self.names_known,
            blind: self.reaching.known().blind,
            now: self.desk.house.clock.now(),
        };
        let interviewed = interview(&mut asker, &scene, &mut seen, &mut self.desk.cache).await;
        let cancelled = asker.end().await.map_err(unknown_state)?;
        self.ended_asking(ground).await?;
        metrics::histogram!(QUESTIONS_SECONDS).record(started.elapsed().as_secs_f64());
        if !seen.context.is_empty() {
            self.desk.format = Some(Format::of(seen.context.get("sluice.format").map(String::as_str)));
        }
        if cancelled {
            return Ok(Looked::Not(Refusal::new(Code::Cancelled, "Query execution was interrupted")));
        }
        match interviewed {
            Ok(Interviewed::Judged(effective)) => {
                if let Some(refusal) = misstated(&seen.context, effective.mode) {
                    return Ok(Looked::Not(refusal));
                }
                let judgement = self.judged(text, &source, seen, &effective);
                Ok(Looked::At(Box::new(judgement)))
            }
            Ok(Interviewed::Wrong(failure)) => Ok(Looked::Wrong(failure)),
            Err(error) => {
                let message = format!("sluice: the statement could not be judged: {}", catalog::reason(&error));
                Ok(Looked::Not(Refusal::new(Code::CannotKnow, message)))
            }
        }
    }

    fn judged(&self, text: String, source: &Source, seen: Seen, effective: &Effective) -> Judgement {
        let mut judgement = judged(text, seen, effective, source.mode, |pieces, evidence| self.lead(pieces, evidence));
        let untried = |known: &Evidence| matches!(known.effects, Known::Unknown(_));
        if !judgement.context.is_empty() && (judgement.runs_code() || judgement.evidence.iter().any(untried)) {
            // What stands behind the names can come to be other code: a confirmation is bound to what it is now.
            judgement.context.insert("code".to_owned(), self.reaching.known().fingerprint.clone());
        }
        judgement
    }

    /// Where questions can be asked now.
    pub(in crate::session) fn ground(&self) -> Ground {
        if self.in_transaction() || self.savepoints || self.locked { Ground::Block } else { Ground::Own }
    }
}

struct Scene<'a> {
    source: &'a Source,
    depth: Depth,
    policy: &'a Policy,
    /// The policy for tables that are not known yet: as strict as for any.
    standing: &'a Effective,
    principal: &'a Principal,
    house: &'a House,
    /// Texts that were prepared by SQL, by their names.
    named: &'a Named,
    /// There are no others.
    names_known: bool,
    /// There may be triggers that this user is not shown.
    blind: bool,
    now: jiff::Timestamp,
}

enum Interviewed {
    Judged(Effective),
    Wrong(Failure),
}

/// Everything that is asked about one message, in its order.
async fn interview(
    asker: &mut Asker<'_>,
    scene: &Scene<'_>,
    seen: &mut Seen,
    cache: &mut catalog::Cache,
) -> Result<Interviewed, AskError> {
    let mut asked = context(asker, scene.source.mode.product()).await?;
    // It decides how we ask, not what the statement means.
    asker.note_isolation(asked.remove("isolation").as_deref());
    seen.context = asked;
    let arguments = arguments(&seen.pieces);
    let resolved = resolve(asker, scene, &mut seen.pieces).await?;
    seen.doubtful = resolved;
    if resolved {
        // What stands behind the name can come to be another text: a confirmation is bound to what it is now.
        let meant = seen.pieces.iter().map(|piece| piece.text.as_str()).collect::<Vec<_>>().join(";");
        seen.context.insert("prepared".to_owned(), meant);
        if !arguments.is_empty() {
            seen.context.insert("arguments".to_owned(), values(asker, &arguments).await?);
        }
    }
    let named = variables(&seen.pieces, scene.source.mode);
    if !named.is_empty() {
        seen.context.insert("variables".to_owned(), values(asker, &named).await?);
    }
    let questions = |piece: &Piece| match scene.depth {
        Depth::WhatRulesNeed => Session::asked_of(piece, scene.standing, scene.blind),
        Depth::Everything => Asked::preview(&piece.facts),
    };
    let (sizes, mode) = (&scene.standing.sizes, scene.source.mode);
    seen.told = told(&seen.pieces, &seen.context, scene.source.mode.product());
    consult_ledger(scene, seen).await;
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
    let verdicts = verdicts(&seen.pieces, &seen.evidence, &effective, &seen.told);
    let worst = strongest(&verdicts);
    let refused = verdicts.get(worst).is_some_and(|verdict| !Desk::passes(verdict.in_force()));
    if !refused && scene.depth == Depth::WhatRulesNeed {
        return Ok(Interviewed::Judged(effective));
    }
    // Before anything is refused, the server has its word: what it would not run is answered with its own error.
    // Not on a text that it may read otherwise than we: a text of several statements is a syntax error to it here, and would run.
    let text = scene.source.readable();
    let may_be_many = seen.pieces.iter().any(|piece| piece.facts.unread.is_some())
        && text.trim_end_matches(|c: char| c == ';' || c.is_whitespace()).contains(';');
    let is_plain = !text.is_empty() && !scene.source.ambiguous && !may_be_many;
    if seen.bound.is_none()
        && seen.pieces.len() == 1
        && is_plain
        && let Some(failure) = asker.text_error(&scene.source.text).await?
    {
        return Ok(Interviewed::Wrong(failure));
    }
    if let (Some(piece), Some(known), Depth::WhatRulesNeed) =
        (seen.pieces.get(worst), seen.evidence.get_mut(worst), scene.depth)
    {
        let parameters = seen.bound.as_ref().map(|bound| &bound.parameters);
        let with = Gathering { cache, sizes, mode };
        let shown: Evidence = gather(asker, piece, &only_shown(&piece.facts), parameters, with).await;
        show(known, shown);
    }
    Ok(Interviewed::Judged(effective))
}

/// What the ledger knows of a statement that belongs to a script. This product's transactions have no number that could be asked about
/// later, so an entry that was begun in one and never ended stays as it is.
async fn consult_ledger(scene: &Scene<'_>, seen: &mut Seen) {
    let Some(script) = &mut seen.told.script else { return };
    let hints = seen.pieces.iter().flat_map(|piece| &piece.facts.hints);
    let step = hints.filter(|(key, _)| key == "step").map(|(_, value)| value.as_str()).next_back();
    let part = Part {
        listener: &scene.house.listener,
        database: &scene.principal.database,
        script: &script.name,
        step: step.unwrap_or_default(),
        texts: seen.pieces.iter().map(|piece| piece.text.as_str()).collect(),
        mode: scene.source.mode,
        parameters: seen.bound.as_ref().map(|bound| &bound.parameters),
    };
    let (said, claim) = ledger::consult(&scene.house.store, &mut Silence, &part, true).await;
    (script.ledger, seen.claim) = (said, claim);
}

/// The settings that give names and texts their meaning, and what the sender told its session.
async fn context(asker: &mut impl Ask, product: Product) -> Result<Context, AskError> {
    const NAMES: &[(&str, &str)] = &[
        ("sql_mode", "@@SESSION.sql_mode"),
        ("database", "DATABASE()"),
        ("user", "CURRENT_USER()"),
        ("role", "CURRENT_ROLE()"),
        ("character_set_client", "@@SESSION.character_set_client"),
        ("time_zone", "@@SESSION.time_zone"),
        ("collation_connection", "@@SESSION.collation_connection"),
        ("div_precision_increment", "@@SESSION.div_precision_increment"),
        ("default_week_format", "@@SESSION.default_week_format"),
        ("lc_time_names", "@@SESSION.lc_time_names"),
        ("isolation", "@@SESSION.transaction_isolation"),
        ("sluice.max_affected", "@sluice_max_affected"),
        ("sluice.confirm", "@sluice_confirm"),
        ("sluice.reason", "@sluice_reason"),
        ("sluice.format", "@sluice_format"),
        ("sluice.script", "@sluice_script"),
        ("sluice.rerun", "@sluice_rerun"),
    ];
    let own = |expression: &'static str| match (expression, product) {
        ("@@SESSION.transaction_isolation", Product::MariaDb) => "@@SESSION.tx_isolation",
        _ => expression,
    };
    // As digits: in an answer's character set two values may look the same.
    let columns: Vec<String> = NAMES.iter().map(|(_, expression)| quote::mysql::hex(own(expression))).collect();
    let answer = asker.ask(&format!("SELECT {}", columns.join(", ")), None).await?;
    let values = answer.rows.into_iter().next().unwrap_or_default();
    let mut context = Context::new();
    for ((name, _), value) in NAMES.iter().zip(values) {
        let Some(digits) = value else { continue };
        let value = quote::mysql::unhex(&digits.replace('\0', ""))
            .ok_or_else(|| AskError::Database { code: "HY000".to_owned(), message: crate::database::catalog::odd() })?;
        context.insert((*name).to_owned(), value);
    }
    Ok(context)
}

fn needs_resolving(facts: &Facts) -> bool {
    facts.executes.is_some() || facts.text_in.is_some()
}

/// Puts what is executed in the place of EXECUTE, and the text that a variable holds in the place of the variable. Whether there was
/// anything of the kind.
async fn resolve(asker: &mut impl Ask, scene: &Scene<'_>, pieces: &mut [Piece]) -> Result<bool, AskError> {
    let mut resolved = false;
    let alone = pieces.len() == 1;
    // Nothing of the message gives a name another text before it is run.
    let settled = !pieces.iter().any(|piece| {
        let facts = &piece.facts;
        facts.prepares.is_some() || facts.forgets_prepared || facts.unread.is_some() || facts.kind == Kind::Call
    });
    for piece in pieces.iter_mut() {
        if let Some(expression) = piece.facts.text_in.clone() {
            resolved = true;
            *piece = match alone {
                true if rereads(&piece.facts) => unread(&piece.text, "it sets how the text that it runs is read"),
                true => variable(asker, scene, piece, &expression).await?,
                false => unread(&piece.text, "its text stands in a variable, which a statement before it may change"),
            };
        } else if let Some(execution) = piece.facts.executes.clone() {
            resolved = true;
            if rereads(&piece.facts) {
                *piece = unread(&piece.text, "it sets how the text that it runs is read");
                continue;
            }
            let hints = std::mem::take(&mut piece.facts.hints);
            let text = scene.named.get(&execution.name.to_ascii_lowercase()).filter(|_| alone || settled);
            *piece = match text {
                Some((text, mode)) if is_prepared_anew(text, *mode, scene.source.mode) => {
                    unread(&piece.text, "it was prepared under another sql_mode; prepare it again")
                }
                Some((text, mode)) => match with_arguments(text, *mode, &execution.arguments) {
                    Some(text) => one_statement(&text, *mode),
                    None => one_statement(text, *mode),
                },
                // Nothing of this name: the server refuses it.
                None if scene.names_known && execution.name.is_ascii() && (alone || settled) => {
                    Piece { facts: Facts { kind: Kind::Read, ..Facts::default() }, text: piece.text.clone() }
                }
                None => unread(&piece.text, "what was prepared under this name is not known"),
            };
            piece.facts.hints.extend(hints);
        }
    }
    Ok(resolved)
}

/// SET STATEMENT … FOR it changes how texts are read.
fn rereads(facts: &Facts) -> bool {
    let mut settings = facts.settings.iter().map(|setting| setting.name.as_str());
    settings.any(|name| {
        matches!(name, "*" | "sql_mode") || name.starts_with("character_set") || name.starts_with("collation")
    })
}

/// MySQL prepares a text anew, under the mode of now, when a table of it was changed.
fn is_prepared_anew(text: &str, then: LexicalMode, now: LexicalMode) -> bool {
    then != now && text.bytes().any(|byte| matches!(byte, b'\\' | b'"' | b'|') || !byte.is_ascii())
}

/// The variables that EXECUTE … USING names.
fn arguments(pieces: &[Piece]) -> Vec<String> {
    let executions = pieces.iter().filter_map(|piece| piece.facts.executes.as_ref());
    executions.flat_map(|execution| execution.arguments.iter()).filter(|one| is_variable(one)).cloned().collect()
}

/// The variables that changes name themselves.
fn variables(pieces: &[Piece], mode: LexicalMode) -> Vec<String> {
    let mut found = std::collections::BTreeSet::new();
    for piece in pieces.iter().filter(|piece| !piece.facts.changes.is_empty()) {
        let tokens = Lexer::new(&piece.text, mode).filter(|token| !token.is_comment());
        let written = tokens.map(|token| token.text(&piece.text));
        found.extend(
            written.filter(|one| one.len() > 1 && one.starts_with('@') && !one.starts_with("@@")).map(str::to_owned),
        );
    }
    found.into_iter().collect()
}

/// What the variables hold, told so that no two values are told alike: a confirmation is bound to it.
async fn values(asker: &mut impl Ask, variables: &[String]) -> Result<String, AskError> {
    let each = |variable: &String| {
        format!(
            "COALESCE(CONCAT(COERCIBILITY({variable}), ':', CHARSET({variable}), ':', COLLATION({variable}), ':', HEX(CAST({variable} AS BINARY))), 'NULL')"
        )
    };
    let columns: Vec<String> = variables.iter().map(each).collect();
    let answer = asker.ask(&format!("SELECT CONCAT_WS(' ', {})", columns.join(", ")), None).await?;
    Ok(answer.rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten().unwrap_or_default())
}

/// The text with the variables in the places of its parameters; `None` where that would not be the same.
fn with_arguments(text: &str, mode: LexicalMode, arguments: &[String]) -> Option<String> {
    let places: Vec<lexer::Token> =
        Lexer::new(text, mode).filter(|token| !token.is_comment() && token.text(text) == "?").collect();
    if arguments.is_empty() || places.len() != arguments.len() || !arguments.iter().all(|one| is_variable(one)) {
        return None;
    }
    let (mut out, mut from) = (String::with_capacity(text.len()), 0);
    for (place, argument) in places.iter().zip(arguments) {
        out.push_str(text.get(from..place.start)?);
        out.push_str(&format!(" {argument} "));
        from = place.end;
    }
    out.push_str(text.get(from..)?);
    Some(out)
}

/// `@name`, and nothing that could be more.
fn is_variable(expression: &str) -> bool {
    expression.starts_with('@')
        && !expression.starts_with("@@")
        && expression[1..].bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'.'))
}

async fn variable(asker: &mut impl Ask, scene: &Scene<'_>, piece: &Piece, expression: &str) -> Result<Piece, AskError> {
    if !is_variable(expression) {
        return Ok(unread(&piece.text, "its text is worked out when it is run"));
    }
    // Not every letter of it may be one of the session's `character_set_results`.
    let answer = asker.ask(&format!("SELECT {}", quote::mysql::hex(expression)), None).await?;
    let text = answer.rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten();
    let text = text.and_then(|text| quote::mysql::unhex(&text));
    let Some(text) = text else { return Ok(unread(&piece.text, "its variable holds no text")) };
    let mut meant = one_statement(&text, scene.source.mode);
    if piece.facts.prepares.is_some() {
        meant.facts.prepares.clone_from(&piece.facts.prepares);
        meant.facts.prepared_text = Some(text);
    }
    meant.facts.hints.extend(piece.facts.hints.iter().cloned());
    Ok(meant)
}

/// What a prepared text does when it is executed.
fn one_statement(text: &str, mode: LexicalMode) -> Piece {
    let reading = sql::read(text, mode);
    let mut found = pieces(text, reading.statements);
    match found.pop() {
        Some(piece) if found.is_empty() => Piece { facts: policy::executed(&piece.facts), text: piece.text },
        _ => unread(text, "it was prepared together with other statements"),
    }
}

/// Names that are more than ASCII.
pub(in crate::session) fn has_foreign_names(text: &str, mode: LexicalMode) -> bool {
    let is_name = |kind| matches!(kind, lexer::Kind::Word | lexer::Kind::QuotedName);
    let foreign = |token: lexer::Token| is_name(token.kind) && !token.text(text).is_ascii();
    !text.is_ascii() && Lexer::new(text, mode).any(foreign)
}

fn read(source: &Source) -> Vec<Piece> {
    if source.ambiguous && !source.text.is_ascii() {
        let why = "in its character set it could be read in more than one way; SET NAMES utf8mb4 first";
        return vec![unread(&String::from_utf8_lossy(&source.text), why)];
    }
    let Some(text) = source.letters.read(&source.text) else {
        return vec![unread(&String::from_utf8_lossy(&source.text), "it is no text in its character set")];
    };
    let text = &*text;
    if !source.letters.has_exact_names() && has_foreign_names(text, source.mode) {
        let why = "names in it are written in a character set other than UTF-8; SET NAMES utf8mb4 first";
        return vec![unread(text, why)];
    }
    let reading = readings::read(text, source.mode);
    if !source.settled && (reading.mode_sensitive || encoding::mysql_reads_otherwise("", text.as_bytes())) {
        return vec![unread(text, "sql_mode or the character set, which decide how it is read, are not known")];
    }
    let found = pieces(text, reading.statements.clone());
    // Each statement is read when the one before it has run.
    let before = &found[..found.len().saturating_sub(1)];
    let moves = |piece: &Piece| {
        let facts = &piece.facts;
        facts.changes_session || facts.unread.is_some() || matches!(facts.kind, Kind::Call | Kind::Do)
    };
    if before.iter().any(moves) && (reading.mode_sensitive || !text.is_ascii()) {
        return vec![unread(text, "a statement in it may change how those behind it are read")];
    }
    found
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
