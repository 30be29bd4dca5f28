//! The rules, and what a rule is.
//!
//! A rule is a pair of files, `x.rs` and its page `x.md`, and two lines here. It says what it needs to know of the database and
//! then looks at facts and evidence; it never decides what happens, which is for the policy's levels.
//!
//! Invariant: a rule that lacks an answer finds, it does not pass.

mod already_ran;
mod always_true_where;
mod cascade;
mod change_freeze;
mod drop_data;
mod drop_guard;
mod fires_triggers;
mod full_scan_change;
mod guard_off;
mod key_change;
mod large_transaction;
mod mass_overwrite;
mod missing_where;
mod not_rerunnable;
mod offset_paging;
mod other_doors;
mod outside_effects;
mod privilege_change;
mod too_many_rows;
mod truncate;
mod unbatched_change;
mod unknown_effect;
mod unread_statement;

use crate::policy::count::{self, Count, Tally};
use crate::policy::finding::{About, Bend, Finding, Level};
use crate::policy::freeze::Frozen;
use crate::policy::question::{ChangeEvidence, Evidence, Questions, RemovalEvidence, RemovedTable};
use crate::policy::settings::{Effective, Sizes};
use crate::sql::facts::{ActKind, Change, Facts, Removal};
use crate::sql::statement::Product;
use std::cell::OnceCell;

/// What matches, and how severe the presets hold it to be.
pub trait Rule: Sync {
    /// As in policies, refusals and page names: `missing-where`.
    fn code(&self) -> &'static str;
    fn title(&self) -> &'static str;
    /// Its page, whose examples run as tests.
    fn page(&self) -> &'static str;
    fn standard(&self) -> Level;
    fn strict(&self) -> Level;

    /// What it needs to know about one change before it can look.
    fn ask_of_change(&self, _change: &Change, _facts: &Facts, _effective: &Effective) -> Questions {
        Questions::default()
    }

    /// What it needs to know about one removal before it can look.
    fn ask_of_removal(&self, _removal: &Removal, _facts: &Facts, _effective: &Effective) -> Questions {
        Questions::default()
    }

    /// What it finds. Empty is the common case and allocates nothing.
    fn look(&self, look: &Look<'_>) -> Vec<Finding>;

    /// It can look before anything was asked ([`Stage::Text`]): what it then finds holds whatever the data.
    fn reads_text(&self) -> bool {
        false
    }

    /// No policy can give it another level.
    fn fixed(&self) -> bool {
        false
    }
}

/// Every rule, in the order of the pages. Levels run parallel to this list.
pub fn all() -> &'static [&'static dyn Rule] {
    &[
        &missing_where::MissingWhere,
        &always_true_where::AlwaysTrueWhere,
        &unbatched_change::UnbatchedChange,
        &too_many_rows::TooManyRows,
        &cascade::Cascade,
        &fires_triggers::FiresTriggers,
        &truncate::Truncate,
        &drop_data::DropData,
        &drop_guard::DropGuard,
        &mass_overwrite::MassOverwrite,
        &full_scan_change::FullScanChange,
        &key_change::KeyChange,
        &unknown_effect::UnknownEffect,
        &not_rerunnable::NotRerunnable,
        &offset_paging::OffsetPaging,
        &unread_statement::UnreadStatement,
        &large_transaction::LargeTransaction,
        &already_ran::AlreadyRan,
        &guard_off::GuardOff,
        &privilege_change::PrivilegeChange,
        &outside_effects::OutsideEffects,
        &change_freeze::ChangeFreeze,
        &other_doors::OtherDoors,
    ]
}

/// The rule of this code, with its place in [`all`].
pub fn find(code: &str) -> Option<(usize, &'static dyn Rule)> {
    all().iter().copied().enumerate().find(|(_, rule)| rule.code() == code)
}

/// The code of the rule that holds what was not read, which even a PREPARE is asked about.
pub(in crate::policy) fn unread_statement_code() -> &'static str {
    unread_statement::UnreadStatement.code()
}

/// The code of the rule that holds freezes.
pub fn freeze_code() -> &'static str {
    change_freeze::ChangeFreeze.code()
}

/// The finding for a way in that carries no SQL, by its name.
pub(in crate::policy) fn door(name: &str) -> Finding {
    other_doors::door(name)
}

/// What the caller says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// Whose SQL it writes.
    pub product: Product,
    /// MySQL: the default database, where names without one lead.
    pub database: Option<String>,
    /// `max_affected=` in a hint or set on the session.
    pub max_affected: Option<u64>,
    /// `script=` in a hint or set on the session.
    pub script: Option<Scripted>,
}

/// A statement that its sender calls a part of a script.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scripted {
    pub name: String,
    /// What the ledger says of this very statement in this script.
    pub ledger: Ledger,
    /// `rerun=`: why it is meant to run once more.
    pub rerun: Option<String>,
}

/// Whether a statement of a script has run before, as kept by Sluice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Ledger {
    /// It has not: never sent, or rolled back.
    New,
    /// It has, to its end: "on 2026-06-01 09:00 UTC by anna".
    Ran(String),
    /// It was begun then and by whom, and how it ended is not known.
    Begun(String),
    /// Why that cannot be told.
    Unknown(String),
    /// Nobody looked.
    #[default]
    NotAsked,
}

/// The most rows that this caller may change in one statement.
pub fn limit(sizes: &Sizes, caller: &Caller) -> u64 {
    too_many_rows::limit(sizes, caller)
}

/// How much is known when a rule looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The text alone: nothing was asked yet (Parse, PREPARE).
    Text,
    /// The answers are in, as far as there are any.
    Whole,
}

/// All that a rule sees.
pub struct Look<'a> {
    pub facts: &'a Facts,
    pub evidence: &'a Evidence,
    pub sizes: &'a Sizes,
    pub caller: &'a Caller,
    pub stage: Stage,
    /// Changes are frozen now, for this principal.
    pub frozen: Option<&'a Frozen>,
    tally: OnceCell<Tally>,
}

impl<'a> Look<'a> {
    pub fn new(
        facts: &'a Facts,
        evidence: &'a Evidence,
        effective: &'a Effective,
        caller: &'a Caller,
        stage: Stage,
    ) -> Look<'a> {
        let (sizes, frozen) = (&effective.sizes, effective.frozen.as_deref());
        Look { facts, evidence, sizes, caller, stage, frozen, tally: OnceCell::new() }
    }

    /// The statement's rows, counted once for all rules.
    pub fn tally(&self) -> &Tally {
        self.tally.get_or_init(|| Tally::of(self.facts, self.evidence))
    }

    /// Each change with its evidence, where that fits.
    pub fn changes(&self) -> impl Iterator<Item = (usize, &'a Change, Option<&'a ChangeEvidence>)> {
        let (facts, evidence) = (self.facts, self.evidence);
        let numbered = facts.changes.iter().enumerate();
        numbered.map(move |(index, change)| (index, change, count::of_change(facts, evidence, index)))
    }

    /// Each removal with its evidence, where that fits.
    pub fn removals(&self) -> impl Iterator<Item = (usize, &'a Removal, Option<&'a RemovalEvidence>)> {
        let fits = self.evidence.removals.len() == self.facts.removals.len();
        let answers = fits.then_some(&self.evidence.removals);
        let numbered = self.facts.removals.iter().enumerate();
        numbered.map(move |(index, removal)| (index, removal, answers.and_then(|answers| answers.get(index))))
    }

    /// A change of up to `free_rows` rows, cascades counted, is not asked about by the rules that count.
    pub fn is_free(&self) -> bool {
        self.tally().total().proves_at_most(self.sizes.free_rows)
    }
}

/// The questions of the rules that count: which table, how many rows, what is carried on.
fn counting(change: &Change) -> Questions {
    match count::adds_only(change) {
        true => Questions::default(),
        false => Questions { table: true, rows: true, cascade: true, ..Questions::default() },
    }
}

/// The tables a removal takes along that hold rows of others; `None` when that is not known.
fn losses(evidence: Option<&RemovalEvidence>) -> Option<Vec<&RemovedTable>> {
    let tables = evidence?.tables.known()?;
    Some(tables.iter().filter(|table| !is_temporary(table) && !is_empty(table)).collect())
}

/// "12,480 rows", "52,592 rows in 2 tables": the preview lists them.
fn held(tables: &[&RemovedTable]) -> String {
    let rows = tables.iter().map(|table| Count::from(table.rows)).fold(Count::ZERO, Count::plus);
    match tables.len() {
        0 | 1 => rows.to_string(),
        more => format!("{rows} in {} tables", count::grouped(more as u64)),
    }
}

/// Names in evidence come from the catalog, and the server lets nobody create a schema whose name begins with `pg_`.
fn is_temporary(table: &RemovedTable) -> bool {
    let schema = table.name.parts.iter().rev().nth(1);
    schema.is_some_and(|schema| schema == "pg_temp" || schema.starts_with("pg_temp_"))
}

fn is_empty(table: &RemovedTable) -> bool {
    table.rows == crate::policy::question::Rows::Exact(0)
}

/// One finding for each act of a kind.
fn acts(rule: &dyn Rule, look: &Look<'_>, kind: ActKind, instead: &str) -> Vec<Finding> {
    let acts = look.facts.acts.iter().filter(|act| act.kind == kind);
    acts.map(|act| finding(rule, About::Statement, act.words.clone(), instead)).collect()
}

fn finding(rule: &dyn Rule, about: About, message: String, instead: &str) -> Finding {
    let instead = (!instead.is_empty()).then(|| instead.to_owned());
    Finding { rule: rule.code(), about, message, instead, bend: Bend::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_fit_their_pages() {
        for (at, rule) in all().iter().enumerate() {
            assert_eq!(find(rule.code()).map(|(found, _)| found), Some(at), "{}", rule.code());
            let first = rule.page().lines().next();
            assert_eq!(first, Some(format!("# {}", rule.code()).as_str()), "the first line of its page");
            assert!(rule.page().contains(rule.title()), "{}: the page gives its title", rule.code());
            for level in [format!("standard: {}", rule.standard()), format!("strict: {}", rule.strict())] {
                assert!(rule.page().contains(&level), "{}: the page says {level}", rule.code());
            }
        }
    }
}
