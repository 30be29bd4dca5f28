//! How many rows a statement would change, with how well that is known.
//!
//! Invariant: only a bounded count can prove that a change is small. An estimate, a count that stopped, and an answer that was
//! not had never do, so whatever counts rows fails closed on them; each can still prove that a change is large.

use crate::policy::question::{Action, Cascade, ChangeEvidence, Evidence, ForeignKey, Known, Rows, Table, TableKind};
use crate::sql::facts::{Change, Facts, OnConflict, Restriction, Source, Verb};
use std::fmt;

/// A number of rows and its certainty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    pub number: u64,
    pub certainty: Certainty,
}

/// Ordered from well known to not known; adding two counts keeps the worse.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Certainty {
    /// Not more than the number.
    Bounded,
    /// The planner's guess.
    Estimated,
    /// The number at least: the counting stopped there, or did not see all.
    Open,
    /// Some part is not known, and why. The number holds the parts that are.
    Unknown(String),
}

impl Count {
    pub const ZERO: Count = Count { number: 0, certainty: Certainty::Bounded };

    pub fn bounded(number: u64) -> Count {
        Count { number, certainty: Certainty::Bounded }
    }

    pub fn unknown(reason: impl Into<String>) -> Count {
        Count { number: 0, certainty: Certainty::Unknown(reason.into()) }
    }

    /// True only when it cannot be more.
    pub fn proves_at_most(&self, limit: u64) -> bool {
        self.certainty == Certainty::Bounded && self.number <= limit
    }

    /// True when what is known of it already exceeds the limit. An estimate counts: it is called one when shown.
    pub fn exceeds(&self, limit: u64) -> bool {
        match self.certainty {
            Certainty::Open => self.number >= limit,
            _ => self.number > limit,
        }
    }

    /// Of two reasons the first one stands: what comes later is often unknown only because of it.
    pub fn plus(self, other: Count) -> Count {
        let certainty = match (self.certainty, other.certainty) {
            (Certainty::Unknown(why), _) | (_, Certainty::Unknown(why)) => Certainty::Unknown(why),
            (one, two) => one.max(two),
        };
        Count { number: self.number.saturating_add(other.number), certainty }
    }
}

impl From<Rows> for Count {
    fn from(rows: Rows) -> Count {
        let certainty = match rows {
            Rows::Exact(_) | Rows::AtMost(_) => Certainty::Bounded,
            Rows::Estimate(_) => Certainty::Estimated,
            Rows::AtLeast(_) => Certainty::Open,
        };
        Count { number: rows.number(), certainty }
    }
}

/// "12,480 rows", "about 12,480 rows (an estimate)", "at least 12,480 rows", "how many rows is unknown: …".
impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, rows) = (grouped(self.number), if self.number == 1 { "row" } else { "rows" });
        match &self.certainty {
            Certainty::Bounded => write!(f, "{number} {rows}"),
            Certainty::Estimated => write!(f, "about {number} {rows} (an estimate)"),
            Certainty::Open if self.number == 0 => f.write_str("an unknown number of rows"),
            Certainty::Open => write!(f, "at least {number} {rows}"),
            Certainty::Unknown(reason) if self.number == 0 => {
                write!(f, "how many rows is unknown: {reason}")
            }
            Certainty::Unknown(reason) => {
                write!(f, "{number} {rows} and more, how many is unknown: {reason}")
            }
        }
    }
}

/// 12480 → "12,480".
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// What one statement would change: all its changes together, so that a large change cannot be cut into small ones that
/// stand in one text.
#[derive(Debug, Clone, PartialEq)]
pub struct Tally {
    /// Rows changed directly.
    pub direct: Count,
    /// Rows that foreign keys carry the changes on to.
    pub cascaded: Count,
}

impl Tally {
    pub fn of(facts: &Facts, evidence: &Evidence) -> Tally {
        let mut tally = Tally { direct: Count::ZERO, cascaded: Count::ZERO };
        for (index, change) in facts.changes.iter().enumerate() {
            let tried = is_tried(change, evidence);
            let evidence = of_change(facts, evidence, index);
            // What is tried before it is kept is judged by what it did.
            if !tried {
                tally.direct = tally.direct.plus(direct(change, evidence));
                tally.cascaded = tally.cascaded.plus(cascaded(change, evidence));
            }
        }
        tally
    }

    pub fn total(&self) -> Count {
        self.direct.clone().plus(self.cascaded.clone())
    }
}

/// The evidence for one change; `None`, that is unknown, unless the evidence as a whole fits the statement.
pub fn of_change<'a>(facts: &Facts, evidence: &'a Evidence, index: usize) -> Option<&'a ChangeEvidence> {
    if evidence.changes.len() != facts.changes.len() {
        return None;
    }
    let found = evidence.changes.get(index)?;
    (found.verb == facts.changes.get(index)?.verb).then_some(found)
}

/// Its rows are not counted beforehand, but by the database when it is run, and before it is kept: a MERGE.
pub fn is_tried(change: &Change, evidence: &Evidence) -> bool {
    let can_be = !evidence.reaches.is_empty() && !matches!(evidence.effects, Known::Unknown(_));
    matches!(change.verb, Verb::Merge { .. }) && can_be
}

/// The table of a change, if known.
pub fn table(evidence: Option<&ChangeEvidence>) -> Option<&Table> {
    evidence.and_then(|evidence| evidence.table.known())
}

/// A temporary table is its session's own: nobody else's data can be lost with it. One with rewrite rules may write elsewhere.
pub fn is_own(evidence: Option<&ChangeEvidence>) -> bool {
    table(evidence).is_some_and(|table| table.kind == TableKind::Temporary && !table.has_rules)
}

/// True only when it is proven that no row would be changed: counted, in a table where what is written is what happens.
pub fn is_nothing(evidence: Option<&ChangeEvidence>) -> bool {
    let counted = evidence.and_then(|evidence| evidence.rows.known()) == Some(&Rows::Exact(0));
    counted && table(evidence).is_some_and(is_plain)
}

/// Inserts that overwrite nothing are no change to what is there.
pub fn adds_only(change: &Change) -> bool {
    match change.verb {
        Verb::Insert | Verb::CopyIn => !change.on_conflict.overwrites(),
        Verb::Merge { updates: false, deletes: false } => true,
        Verb::Update | Verb::Delete | Verb::Merge { .. } => false,
    }
}

/// Rows that the change touches itself.
pub fn direct(change: &Change, evidence: Option<&ChangeEvidence>) -> Count {
    if adds_only(change) || is_own(evidence) {
        return Count::ZERO;
    }
    let Some(table) = table(evidence) else {
        return Count::unknown(why_not(evidence.map(|evidence| &evidence.table), "the table"));
    };
    if !is_plain(table) && !stands_for_a_table(table) {
        return Count::unknown(format!("{} {}", table.name, what_else(table)));
    }
    if let Source::Values(rows) = change.source
        && change.verb == Verb::Insert
    {
        // A new row can take the place of one row for each unique key.
        let each = if change.on_conflict == OnConflict::Replaces { table.unique_keys.len().max(1) as u64 } else { 1 };
        return Count::bounded(rows.saturating_mul(each));
    }
    if matches!(change.restriction, Restriction::CurrentOf { .. }) {
        return Count::bounded(1);
    }
    match evidence.map(|evidence| &evidence.rows) {
        // Who looked knows of what types the values are that pin the key.
        Some(Known::Known(rows)) => Count::from(*rows),
        None | Some(Known::NotAsked) if pinned_to_one(change, table) => Count::bounded(1),
        rows => Count::unknown(why_not(rows, "the number of rows")),
    }
}

/// Rows that foreign keys carry the change on to, over every level.
pub fn cascaded(change: &Change, evidence: Option<&ChangeEvidence>) -> Count {
    if adds_only(change) || is_own(evidence) || is_nothing(evidence) {
        return Count::ZERO;
    }
    match evidence.map(|evidence| &evidence.cascade) {
        Some(Known::Known(branches)) => branches.iter().map(branch).fold(Count::ZERO, Count::plus),
        _ if table(evidence).is_some_and(|table| cannot_cascade(change, table)) => Count::ZERO,
        cascade => Count::unknown(why_not(cascade, "what foreign keys carry on")),
    }
}

/// The change sets this column, or may: a generated one follows the columns it is made from, and which those are is not asked.
pub fn sets(change: &Change, table: &Table, column: &str) -> bool {
    let assigned = |name: &str| change.assignments.iter().any(|assignment| assignment.column == name);
    let follows = || table.columns.iter().any(|known| known.name == column && known.generated);
    assigned(column) || (!change.assignments.is_empty() && follows())
}

/// Would this foreign key carry the change on to its child?
fn carries(change: &Change, table: &Table, key: &ForeignKey) -> bool {
    let acts = |action| matches!(action, Action::Cascade | Action::SetNull | Action::SetDefault);
    let replaces = change.on_conflict == OnConflict::Replaces;
    let deletes = replaces || matches!(change.verb, Verb::Delete | Verb::Merge { deletes: true, .. });
    let updates = matches!(change.verb, Verb::Update | Verb::Insert | Verb::Merge { updates: true, .. });
    let sets_key = key.parent_columns.iter().any(|column| sets(change, table, column));
    (deletes && acts(key.on_delete)) || (updates && sets_key && acts(key.on_update))
}

/// An update that sets no column that anything refers to reaches no other table, whatever else is unknown of them. With
/// children, keys may refer to one of those alone, which the parent does not list.
fn cannot_cascade(change: &Change, table: &Table) -> bool {
    let all_seen = table.unseen_keys.is_none();
    is_plain(table)
        && all_seen
        && table.children == 0
        && !table.referenced_by.iter().any(|key| carries(change, table, key))
}

fn branch(cascade: &Cascade) -> Count {
    let rows = match &cascade.rows {
        Known::Known(rows) => Count::from(*rows),
        rows => Count::unknown(why_not(Some(rows), "the number of rows")),
    };
    // Below no rows there is nothing; below some, a walk that stopped early has not seen all.
    let rows = match &cascade.stopped {
        Some(why) if !rows.proves_at_most(0) => rows.plus(Count::unknown(format!("the walk stopped: {why}"))),
        _ => rows,
    };
    cascade.below.iter().map(branch).fold(rows, Count::plus)
}

/// What is written is what happens: not so for views, foreign tables and tables with rewrite rules or INSTEAD OF triggers.
fn is_plain(table: &Table) -> bool {
    let stored = matches!(table.kind, TableKind::Table | TableKind::Partitioned | TableKind::Temporary);
    stored && !table.has_rules && !table.triggers.iter().any(|trigger| trigger.instead)
}

/// A view whose rows are those of the table below it, one to one: its rows count, its columns and keys say nothing.
fn stands_for_a_table(table: &Table) -> bool {
    let replaced = table.has_rules || table.triggers.iter().any(|trigger| trigger.instead);
    table.kind == TableKind::View && table.maps_to_one && !replaced
}

fn what_else(table: &Table) -> &'static str {
    match table.kind {
        TableKind::View => "is a view",
        TableKind::MaterializedView => "is a materialized view",
        TableKind::Foreign => "is a foreign table",
        _ if table.has_rules => "has rewrite rules",
        _ if table.triggers.iter().any(|trigger| trigger.instead) => "has an INSTEAD OF trigger",
        _ => "is not a plain table",
    }
}

/// Equality on every column of a unique key leaves one row. Not in an inheritance tree: there each child may hold one, and
/// more, since it does not inherit the key (seen on PostgreSQL 15).
pub fn pinned_to_one(change: &Change, table: &Table) -> bool {
    let Restriction::Restricts { pinned } = &change.restriction else {
        return false;
    };
    let key_spans_children = table.kind == TableKind::Partitioned || table.children == 0 || change.only;
    let covers = |key: &Vec<String>| !key.is_empty() && key.iter().all(|column| pinned.contains(column));
    key_spans_children && matches!(change.verb, Verb::Update | Verb::Delete) && table.unique_keys.iter().any(covers)
}

fn why_not<T>(known: Option<&Known<T>>, what: &str) -> String {
    match known {
        Some(Known::Unknown(reason)) => reason.clone(),
        _ => format!("{what} was not asked for"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let pairs = [(0, "0"), (999, "999"), (1_000, "1,000"), (12_480, "12,480"), (4_012_331, "4,012,331")];
        for (number, text) in pairs {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn a_count_says_what_a_preview_says() {
        for (rows, said) in [
            (Rows::Exact(1), "1 row"),
            (Rows::AtLeast(600), "at least 600 rows"),
            (Rows::AtLeast(0), "an unknown number of rows"),
            (Rows::Estimate(7), "about 7 rows (an estimate)"),
        ] {
            assert_eq!(Count::from(rows).to_string(), said);
        }
    }

    #[test]
    fn only_a_bounded_count_proves_smallness() {
        assert!(Count::from(Rows::Exact(5)).proves_at_most(5));
        assert!(Count::from(Rows::AtMost(5)).proves_at_most(5));
        for rows in [Rows::Exact(6), Rows::AtLeast(5), Rows::AtLeast(0), Rows::Estimate(0)] {
            assert!(!Count::from(rows).proves_at_most(5), "{rows:?}");
        }
        assert!(!Count::unknown("x").proves_at_most(u64::MAX));
    }

    #[test]
    fn what_is_known_can_still_exceed() {
        assert!(Count::from(Rows::Estimate(6)).exceeds(5));
        assert!(Count::from(Rows::AtLeast(5)).exceeds(5), "more than 5 is more than 5");
        assert!(!Count::from(Rows::Exact(5)).exceeds(5));
        assert!(Count::bounded(6).plus(Count::unknown("x")).exceeds(5), "the known part alone is too much");
        assert!(!Count::unknown("x").exceeds(0));
    }

    fn cascade(rows: Known<Rows>, below: Vec<Cascade>, stopped: Option<&str>) -> Cascade {
        let key = ForeignKey {
            name: String::new(),
            child: Default::default(),
            child_columns: Vec::new(),
            parent_columns: Vec::new(),
            on_delete: Action::Cascade,
            on_update: Action::NoAction,
            child_indexed: true,
        };
        Cascade { key, action: Action::Cascade, rows, below, stopped: stopped.map(str::to_owned) }
    }

    #[test]
    fn every_level_of_a_cascade_counts_and_a_walk_that_stopped_proves_nothing() {
        let exact = |rows| Known::Known(Rows::Exact(rows));
        let deep = cascade(exact(3), vec![cascade(exact(4), vec![cascade(exact(5), vec![], None)], None)], None);
        assert_eq!(branch(&deep), Count::bounded(12));
        let unknown_below = cascade(exact(3), vec![cascade(Known::NotAsked, vec![], None)], None);
        assert!(matches!(branch(&unknown_below).certainty, Certainty::Unknown(_)));
        let stopped = |rows| branch(&cascade(exact(rows), vec![], Some("16 levels")));
        assert!(matches!(stopped(3).certainty, Certainty::Unknown(_)));
        assert_eq!(stopped(0), Count::ZERO, "below no rows there is nothing");
    }

    #[test]
    fn rows_counted_through_a_simple_view_are_the_rows_changed() {
        let change = Change {
            verb: Verb::Delete,
            target: Default::default(),
            called: String::new(),
            only: false,
            restriction: Restriction::Restricts { pinned: Vec::new() },
            pinned_if: Vec::new(),
            limit: None,
            assignments: Vec::new(),
            source: Source::None,
            on_conflict: OnConflict::Fails,
            nesting: crate::sql::facts::Nesting::Outer,
            clauses: None,
        };
        let rows = |kind, maps_to_one, has_rules| {
            let evidence = ChangeEvidence {
                verb: Verb::Delete,
                table: Known::Known(Table { kind, maps_to_one, has_rules, ..Table::default() }),
                rows: Known::Known(Rows::Exact(1)),
                cascade: Known::Known(Vec::new()),
                carried: Known::NotAsked,
                reads: Known::NotAsked,
                sample: Known::NotAsked,
                scan: Known::NotAsked,
            };
            direct(&change, Some(&evidence)).proves_at_most(1)
        };
        assert!(rows(TableKind::View, true, false));
        assert!(!rows(TableKind::View, true, true), "a rule decides what happens");
        assert!(!rows(TableKind::View, false, false));
        assert!(!rows(TableKind::Foreign, true, false));
    }

    #[test]
    fn adding_keeps_the_worse_certainty() {
        let sum = Count::bounded(1).plus(Count::from(Rows::Estimate(2))).plus(Count::bounded(3));
        assert_eq!((sum.number, sum.certainty), (6, Certainty::Estimated));
        let both = Count::unknown("a, which is why").plus(Count::unknown("the level above is not known"));
        assert_eq!(both, Count::unknown("a, which is why"), "the first reason explains the second");
        assert_eq!(Count::bounded(u64::MAX).plus(Count::bounded(1)).number, u64::MAX);
    }
}
