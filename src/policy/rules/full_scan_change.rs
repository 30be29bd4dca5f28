//! `full-scan-change`: a change that reads a large table from end to end to find its rows.
//!
//! Decided by the planner, and only where rows are counted anyway: an index that serves in theory and is not taken serves nobody.
//! A plan that was not had says nothing, and then the rules that count have found already.
//!
//! Invariant: no question is asked for this rule's sake of a change that is bounded by a key, nor of one whose functions are unknown.

use crate::policy::count::{self, grouped};
use crate::policy::finding::{About, Finding, Level};
use crate::policy::question::{ChangeEvidence, Questions};
use crate::policy::rules::{Look, Rule, finding};
use crate::policy::settings::Effective;
use crate::sql::facts::{Change, Facts, Restriction, Verb};

pub struct FullScanChange;

impl Rule for FullScanChange {
    fn code(&self) -> &'static str {
        "full-scan-change"
    }
    fn title(&self) -> &'static str {
        "A change whose predicate no index serves"
    }
    fn page(&self) -> &'static str {
        include_str!("full_scan_change.md")
    }
    fn standard(&self) -> Level {
        Level::Warn
    }
    fn strict(&self) -> Level {
        Level::Confirm
    }

    fn ask_of_change(&self, change: &Change, _: &Facts, _: &Effective) -> Questions {
        match chooses(change) {
            true => Questions { table: true, rows: true, plan: true, ..Questions::default() },
            false => Questions::default(),
        }
    }

    fn look(&self, look: &Look<'_>) -> Vec<Finding> {
        let matching = look.changes().filter_map(|(at, change, evidence)| {
            let rows = chooses(change).then(|| scanned(evidence, look.sizes.batch_rows)).flatten()?;
            let message = format!("no index finds the rows: all {rows} of {} are read", change.target.written);
            let instead = "Add an index that serves the condition, or change the rows by ranges of the key.";
            Some(finding(self, About::Change(at), message, instead))
        });
        matching.collect()
    }
}

/// What means to read the whole table is another rule's.
fn chooses(change: &Change) -> bool {
    matches!(change.verb, Verb::Update | Verb::Delete) && matches!(change.restriction, Restriction::Restricts { .. })
}

/// How many rows are read, if the plan is to read them all and they are more than one batch.
fn scanned(evidence: Option<&ChangeEvidence>, batch_rows: u64) -> Option<String> {
    let table = count::table(evidence)?;
    let scan = evidence?.scan.known()?;
    // PostgreSQL's words, and those for MySQL's ALL.
    let whole = scan == "Seq Scan" || scan.starts_with("Seq Scan and ") || scan.starts_with("full table scan");
    match table.exact_rows.or(table.estimated_rows) {
        Some(rows) if whole && rows > batch_rows => Some(format!("about {} rows", grouped(rows))),
        None if whole => Some("rows".to_owned()),
        _ => None,
    }
}
