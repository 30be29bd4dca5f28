//! What the rules say of a statement: facts and evidence in, a verdict out. Pure.
//!
//! Reading order: [`questions`] says what must be known, [`judge`] says what follows from it; [`rules`] hold what matches,
//! [`settings`], [`levels`] and [`scope`] how severe that is.
//!
//! Invariant: only here is a [`Verdict`] made, and an answer that is missing or does not fit its statement counts as unknown.

pub mod count;
pub mod finding;
pub mod freeze;
pub mod levels;
pub mod pattern;
pub mod question;
pub mod rules;
pub mod scope;
pub mod settings;
pub mod throttle;
pub mod verdict;

use crate::policy::finding::{Finding, Level};
use crate::policy::question::{Cascade, ChangeEvidence, Evidence, Known, Questions};
use crate::policy::rules::{Caller, Look, Rule, Stage};
use crate::policy::settings::{Effective, Mode, Origin};
use crate::policy::verdict::{Judged, Verdict};
use crate::sql::facts::{Facts, Kind, Name, Nesting, Removal, Removed};

/// What must be asked before a statement can be judged, parallel to the changes and removals of its facts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    pub changes: Vec<Questions>,
    pub removals: Vec<Questions>,
}

impl Asked {
    /// Nothing: the statement can be judged on its text.
    pub fn none(&self) -> bool {
        self.changes.iter().chain(&self.removals).all(Questions::none)
    }

    /// All that a preview shows of the statement.
    pub fn preview(facts: &Facts) -> Asked {
        let all = Questions { table: true, rows: true, cascade: true, preview: true, plan: true };
        Asked { changes: vec![all; facts.changes.len()], removals: vec![all; facts.removals.len()] }
    }
}

/// What the rules in force need to know. A PREPARE changes nothing, so nothing is asked; its EXECUTE is judged.
pub fn questions(facts: &Facts, effective: &Effective) -> Asked {
    let nothing_named = facts.changes.is_empty() && facts.removals.is_empty();
    if effective.mode == Mode::Off || facts.prepares.is_some() || nothing_named {
        let (changes, removals) = (facts.changes.len(), facts.removals.len());
        return Asked { changes: vec![Questions::default(); changes], removals: vec![Questions::default(); removals] };
    }
    let of_all = |ask: &dyn Fn(&dyn Rule) -> Questions| {
        in_force(effective).map(|(rule, _, _)| ask(rule)).fold(Questions::default(), Questions::and)
    };
    let changes = facts.changes.iter().map(|change| of_all(&|rule| rule.ask_of_change(change, facts, effective)));
    let removals = facts.removals.iter().map(|removal| of_all(&|rule| rule.ask_of_removal(removal, facts, effective)));
    Asked { changes: changes.collect(), removals: removals.collect() }
}

/// What follows for the statement from all that is known of it.
pub fn judge(facts: &Facts, evidence: &Evidence, effective: &Effective, caller: &Caller) -> Verdict {
    if facts.prepares.is_some() {
        return judge_text(facts, effective);
    }
    let look = Look::new(facts, evidence, effective, caller, Stage::Whole);
    verdict(effective, |rule| rule.look(&look), |_| true)
}

/// What follows from the text alone, when nothing is carried out yet (Parse, PREPARE): what it denies whatever the data, and
/// what could not be read. The rest is for [`judge`], when the statement is executed.
pub fn judge_text(facts: &Facts, effective: &Effective) -> Verdict {
    let (nothing, caller) = (Evidence::default(), Caller::default());
    let look = Look::new(facts, &nothing, effective, &caller, Stage::Text);
    let unread = rules::unread_statement_code();
    let found = |rule: &dyn Rule| {
        if rule.reads_text() { rule.look(&look) } else { Vec::new() }
    };
    verdict(effective, found, |judged| judged.level == Level::Deny || judged.finding.rule == unread)
}

/// The verdict for what needs no judging: a statement whose facts were found harmless under this policy before.
pub fn harmless(effective: &Effective) -> Verdict {
    Verdict { judged: Vec::new(), mode: effective.mode }
}

/// One verdict for a message of several statements: everything that was found in any of them.
pub fn together(verdicts: Vec<Verdict>, effective: &Effective) -> Verdict {
    let judged = verdicts.into_iter().flat_map(|verdict| verdict.judged).collect();
    Verdict { judged, mode: effective.mode }
}

/// The verdict for a way in that carries no SQL ("the replication protocol"): always denied, in every mode, because nothing
/// that comes through it could be judged.
pub fn refuse_door(name: &str) -> Verdict {
    let finding = rules::door(name);
    let judged = Judged { finding, level: Level::Deny, origin: "built in".into() };
    Verdict { judged: vec![judged], mode: Mode::Enforce }
}

/// One rule's part in judging a statement, for `SLUICE EXPLAIN`.
#[derive(Debug, Clone, PartialEq)]
pub struct Explained {
    pub code: &'static str,
    pub title: &'static str,
    pub level: Level,
    pub origin: Origin,
    /// Empty: it did not match.
    pub findings: Vec<Finding>,
}

/// Every rule with its level, the line that gave it, and what it finds, allowed ones included.
pub fn explain(facts: &Facts, evidence: &Evidence, effective: &Effective, caller: &Caller) -> Vec<Explained> {
    let stage = if facts.prepares.is_some() { Stage::Text } else { Stage::Whole };
    let look = Look::new(facts, evidence, effective, caller, stage);
    let looks = |rule: &dyn Rule| stage == Stage::Whole || rule.reads_text();
    let explained = with_levels(effective).map(|(rule, level, origin)| {
        let findings = if looks(rule) { rule.look(&look) } else { Vec::new() };
        let (code, title) = (rule.code(), rule.title());
        Explained { code, title, level, origin: origin.clone(), findings }
    });
    explained.collect()
}

/// Whether a statement changes anything that outlives its session: rows, objects, rights. What was not read may.
pub fn is_change(facts: &Facts) -> bool {
    if facts.prepares.is_some() {
        return false;
    }
    if facts.unread.is_some() || facts.executes.is_some() {
        return true;
    }
    if !(facts.changes.is_empty() && facts.removals.is_empty() && facts.acts.is_empty()) {
        return true;
    }
    // Temporary tables, signals, prepared statements, locks: the session's own. VACUUM and ANALYZE keep house.
    const PASSING: &[&str] = &[
        "ListenStmt",
        "UnlistenStmt",
        "NotifyStmt",
        "DeallocateStmt",
        "DiscardStmt",
        "LockStmt",
        "CheckPointStmt",
        "VacuumStmt",
        "USE",
        "KILL",
        "a condition",
        "DEALLOCATE PREPARE",
        "LOCK TABLES",
        "LOCK INSTANCE",
        "UNLOCK",
        "XA END",
        "ANALYZE TABLE",
        "CHECK TABLE",
        "CHECKSUM TABLE",
        "OPTIMIZE TABLE",
        "CACHE INDEX",
        "LOAD INDEX INTO CACHE",
        "FLUSH",
    ];
    match &facts.kind {
        Kind::Empty | Kind::Read | Kind::Transaction | Kind::Set | Kind::Prepare | Kind::Sluice | Kind::Copy => false,
        Kind::Create => !facts.temporary,
        Kind::Other(name) => !PASSING.contains(&name.as_str()),
        _ => true,
    }
}

/// The facts of an EXECUTE: those of what was prepared, no longer put off. Its parameters are its arguments.
pub fn executed(prepared: &Facts) -> Facts {
    let mut facts = prepared.clone();
    facts.prepares = None;
    let nestings = facts.changes.iter_mut().map(|change| &mut change.nesting);
    for nesting in nestings.chain(facts.removals.iter_mut().map(|removal| &mut removal.nesting)) {
        if *nesting == Nesting::Prepare {
            *nesting = Nesting::Outer;
        }
    }
    facts
}

/// The tables a statement touches, for [`scope::effective`]: as the catalog names them where that is known, those it reaches by
/// foreign keys included. A name without parts stands for what is not known.
pub fn names(facts: &Facts, evidence: &Evidence) -> Vec<Name> {
    let mut names = Vec::new();
    for (index, change) in facts.changes.iter().enumerate() {
        let evidence = count::of_change(facts, evidence, index);
        names.push(catalog_name(evidence).unwrap_or_else(|| change.target.clone()));
        if let Some(Known::Known(branches)) = evidence.map(|evidence| &evidence.cascade) {
            branches.iter().for_each(|branch| name_reached(branch, &mut names));
        }
    }
    let fits = evidence.removals.len() == facts.removals.len();
    for (index, removal) in facts.removals.iter().enumerate() {
        let answer = if fits { evidence.removals.get(index) } else { None };
        match answer.and_then(|answer| answer.tables.known()) {
            Some(tables) if !tables.is_empty() => names.extend(tables.iter().map(|table| table.name.clone())),
            _ => names.push(written_name(removal)),
        }
    }
    if facts.unread.is_some() {
        names.push(Name::default());
    }
    names
}

fn catalog_name(evidence: Option<&ChangeEvidence>) -> Option<Name> {
    let table = count::table(evidence)?;
    let written = format!("{}.{}", table.schema, table.name);
    Some(Name { written, parts: vec![table.schema.clone(), table.name.clone()] })
}

/// Only some objects are named as tables are; `DROP SCHEMA archive` names no table called archive.
fn written_name(removal: &Removal) -> Name {
    match removal.what {
        Removed::Rows | Removed::Table | Removed::MaterializedView => removal.name.clone(),
        Removed::Column(_) | Removed::Partition(_) => removal.name.clone(),
        Removed::Schema | Removed::Database | Removed::Tablespace | Removed::Other(_) => Name::default(),
    }
}

fn name_reached(branch: &Cascade, names: &mut Vec<Name>) {
    names.push(branch.key.child.clone());
    branch.below.iter().for_each(|below| name_reached(below, names));
}

fn verdict(effective: &Effective, look: impl Fn(&dyn Rule) -> Vec<Finding>, keep: impl Fn(&Judged) -> bool) -> Verdict {
    if effective.mode == Mode::Off {
        return harmless(effective);
    }
    let mut judged = Vec::new();
    for (rule, level, origin) in in_force(effective) {
        let findings = look(rule).into_iter();
        let judge = |finding: Finding| Judged { level: finding.bend.of(level), finding, origin: origin.clone() };
        judged.extend(findings.map(judge).filter(&keep));
    }
    Verdict { judged, mode: effective.mode }
}

/// Rules that the policy does not simply allow.
fn in_force(effective: &Effective) -> impl Iterator<Item = (&'static dyn Rule, Level, &Origin)> {
    with_levels(effective).filter(|(_, level, _)| *level > Level::Allow)
}

/// A rule that the policy gives no level is held to be denied: levels are built parallel to the rules, so this is a fault.
fn with_levels(effective: &Effective) -> impl Iterator<Item = (&'static dyn Rule, Level, &Origin)> {
    static NO_LEVEL: std::sync::LazyLock<Origin> = std::sync::LazyLock::new(|| "no level given".into());
    // A freeze says what holds and where it is written; its level alone would not tell.
    let written = |rule: &dyn Rule| effective.frozen.as_ref().filter(|_| rule.code() == rules::freeze_code());
    rules::all().iter().enumerate().map(move |(at, rule)| match effective.levels.get(at) {
        Some((level, origin)) => (*rule, *level, written(*rule).map_or(origin, |frozen| &frozen.origin)),
        None => (*rule, Level::Deny, &*NO_LEVEL),
    })
}

#[cfg(test)]
mod tests;
