//! `always-true-where`: a predicate that keeps every row.
//!
//! Invariant: where the predicate only keeps every row if columns cannot be NULL, a column that the catalog does not show to
//! be nullable counts as one that cannot.

use crate::policy::count;
use crate::policy::finding::{About, Finding, Level};
use crate::policy::question::{ChangeEvidence, Questions, TableKind};
use crate::policy::rules::missing_where::verb;
use crate::policy::rules::{Look, Rule, Stage, finding};
use crate::policy::settings::Effective;
use crate::sql::facts::{Change, Facts, Need, Restriction};

pub struct AlwaysTrueWhere;

impl Rule for AlwaysTrueWhere {
    fn code(&self) -> &'static str {
        "always-true-where"
    }
    fn title(&self) -> &'static str {
        "A predicate that keeps every row"
    }
    fn page(&self) -> &'static str {
        include_str!("always_true_where.md")
    }
    fn standard(&self) -> Level {
        Level::Confirm
    }
    fn strict(&self) -> Level {
        Level::Deny
    }
    fn reads_text(&self) -> bool {
        true
    }

    fn ask_of_change(&self, change: &Change, _: &Facts, _: &Effective) -> Questions {
        match &change.restriction {
            Restriction::AlwaysTrue { .. }
            | Restriction::AlwaysTrueIfNotNull { .. }
            | Restriction::AlwaysTrueIf { .. } => Questions { table: true, rows: true, ..Questions::default() },
            _ => Questions::default(),
        }
    }

    fn look(&self, look: &Look<'_>) -> Vec<Finding> {
        let matching = look.changes().filter_map(|(index, change, evidence)| {
            let why = keeps_every_row(change, evidence, look.stage)?;
            if count::is_own(evidence) || count::is_nothing(evidence) {
                return None;
            }
            let message = format!("{} of {}: {why}", verb(change.verb), change.target.written);
            let instead = "Write a WHERE that keeps some rows out, or leave it out and confirm the whole table.";
            Some(finding(self, About::Change(index), message, instead))
        });
        matching.collect()
    }
}

fn keeps_every_row<'a>(change: &'a Change, evidence: Option<&ChangeEvidence>, stage: Stage) -> Option<&'a str> {
    match &change.restriction {
        Restriction::AlwaysTrue { why } => Some(why),
        Restriction::AlwaysTrueIfNotNull { columns, why } if stage == Stage::Whole => {
            (!any_nullable(columns, evidence)).then_some(why)
        }
        Restriction::AlwaysTrueIf { needs, why } if stage == Stage::Whole => {
            needs.iter().all(|need| may_hold(need, evidence)).then_some(why)
        }
        _ => None,
    }
}

/// What is not known of the table counts as holding.
fn may_hold(need: &Need, evidence: Option<&ChangeEvidence>) -> bool {
    let Some(table) = count::table(evidence) else { return true };
    match need {
        Need::NotNull(column) => !any_nullable(std::slice::from_ref(column), evidence),
        Need::WholeRow => table.kind == TableKind::View || table.columns.iter().all(|column| column.not_null),
        Need::Within { column, least, most } => {
            let range =
                table.columns.iter().find(|known| known.name == *column).map(|known| whole_numbers(&known.kind));
            range.is_none_or(|range| {
                range.is_some_and(|(low, high)| {
                    least.is_none_or(|least| least <= low) && most.is_none_or(|most| most >= high)
                })
            })
        }
    }
}

/// The least and the greatest value of a type of whole numbers.
fn whole_numbers(kind: &str) -> Option<(i64, i64)> {
    match kind {
        "smallint" => Some((i16::MIN.into(), i16::MAX.into())),
        "integer" => Some((i32::MIN.into(), i32::MAX.into())),
        "bigint" => Some((i64::MIN, i64::MAX)),
        _ => None,
    }
}

/// One of the columns is known to admit NULL, so that the predicate may keep rows out.
fn any_nullable(columns: &[String], evidence: Option<&ChangeEvidence>) -> bool {
    let Some(table) = count::table(evidence) else {
        return false;
    };
    // The catalog calls no column of a view NOT NULL, whatever holds of the table below.
    if table.kind == TableKind::View {
        return false;
    }
    let nullable = |name: &String| table.columns.iter().any(|column| column.name == *name && !column.not_null);
    columns.iter().any(nullable)
}
