//! `not-rerunnable`: a change that would do harm the second time.
//!
//! An application counts `n = n + 1` all day and means it, so outside scripts only changes of more than `free_rows` rows are
//! looked at, and inserts not at all.
//!
//! Invariant: in a script every change is looked at, and what is found there is at least asked about.

use crate::policy::count;
use crate::policy::finding::{About, Bend, Finding, Level};
use crate::policy::question::{ChangeEvidence, Questions};
use crate::policy::rules::{Look, Rule, counting, finding};
use crate::policy::settings::Effective;
use crate::sql::facts::{Again, Change, Facts};

pub struct NotRerunnable;

impl Rule for NotRerunnable {
    fn code(&self) -> &'static str {
        "not-rerunnable"
    }
    fn title(&self) -> &'static str {
        "A change that would do harm the second time"
    }
    fn page(&self) -> &'static str {
        include_str!("not_rerunnable.md")
    }
    fn standard(&self) -> Level {
        Level::Warn
    }
    fn strict(&self) -> Level {
        Level::Confirm
    }

    fn ask_of_change(&self, change: &Change, facts: &Facts, _: &Effective) -> Questions {
        match facts.again.iter().any(|again| matches!(again, Again::BuildsOn(_))) {
            true => counting(change),
            false => Questions::default(),
        }
    }

    fn look(&self, look: &Look<'_>) -> Vec<Finding> {
        let in_script = look.caller.script.is_some();
        let matching = look.changes().zip(&look.facts.again).filter_map(|((at, change, evidence), again)| {
            if *again == Again::Same
                || count::is_own(evidence)
                || (!in_script && (*again == Again::Adds || look.is_free()))
            {
                return None;
            }
            let (message, instead) = words(look.facts, change, evidence, again)?;
            let bend = if in_script { Bend::AtLeast(Level::Confirm) } else { Bend::Not };
            Some(Finding { bend, ..finding(self, About::Change(at), message, instead) })
        });
        matching.collect()
    }
}

fn words(
    facts: &Facts,
    change: &Change,
    evidence: Option<&ChangeEvidence>,
    again: &Again,
) -> Option<(String, &'static str)> {
    match again {
        Again::Same => None,
        Again::Adds => {
            let message = format!("a second run adds the rows of {} again, or fails on them", change.target.written);
            let instead = facts.product.either(
                "Say what happens to rows that are there already: ON CONFLICT … DO NOTHING.",
                "Say what happens to rows that are there already: ON DUPLICATE KEY UPDATE, or INSERT IGNORE.",
            );
            Some((message, instead))
        }
        Again::BuildsOn(columns) => {
            let column = columns.iter().find(|column| !merges(column, evidence))?;
            let message =
                format!("{column} of {} builds on its own value: a second run goes on", change.target.written);
            Some((message, "Set the value itself, or make the condition false by the change (AND done_at IS NULL)."))
        }
    }
}

/// The operators of jsonb and hstore put keys in and take keys out: done again, they change nothing.
fn merges(column: &str, evidence: Option<&ChangeEvidence>) -> bool {
    let known = count::table(evidence).and_then(|table| table.columns.iter().find(|known| known.name == column));
    known.is_some_and(|known| matches!(known.kind.as_str(), "jsonb" | "hstore"))
}
