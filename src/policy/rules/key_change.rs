//! `key-change`: an update of what other rows, caches and people know a row by.
//!
//! Invariant: where the table's keys are not known, any column may be one.

use crate::policy::count;
use crate::policy::finding::{About, Finding, Level};
use crate::policy::question::{ChangeEvidence, Questions, TableKind};
use crate::policy::rules::{Look, Rule, counting, finding};
use crate::policy::settings::Effective;
use crate::sql::facts::{Change, Facts};

pub struct KeyChange;

impl Rule for KeyChange {
    fn code(&self) -> &'static str {
        "key-change"
    }
    fn title(&self) -> &'static str {
        "An update of a primary key or of a referenced column"
    }
    fn page(&self) -> &'static str {
        include_str!("key_change.md")
    }
    fn standard(&self) -> Level {
        Level::Confirm
    }
    fn strict(&self) -> Level {
        Level::Confirm
    }

    fn ask_of_change(&self, change: &Change, _: &Facts, _: &Effective) -> Questions {
        match change.assignments.is_empty() {
            true => Questions::default(),
            false => counting(change),
        }
    }

    fn look(&self, look: &Look<'_>) -> Vec<Finding> {
        let matching = look.changes().filter_map(|(index, change, evidence)| {
            if change.assignments.is_empty() || count::is_own(evidence) || look.is_free() {
                return None;
            }
            let message = key_set(change, evidence)?;
            let instead = "Add rows with the new keys, move the references, then delete the old rows.";
            Some(finding(self, About::Change(index), message, instead))
        });
        matching.collect()
    }
}

fn key_set(change: &Change, evidence: Option<&ChangeEvidence>) -> Option<String> {
    let name = &change.target.written;
    let Some(table) = count::table(evidence) else {
        return Some(format!("whether it sets a key of {name} is unknown"));
    };
    // Its columns can have other names than those of the table below, whose keys they would be.
    if table.kind == TableKind::View {
        return Some(format!("whether it sets a key below the view {name} is unknown"));
    }
    if let Some(column) = table.primary_key.iter().find(|column| count::sets(change, table, column)) {
        return Some(format!("sets {column}, part of the primary key of {name}"));
    }
    table.referenced_by.iter().find_map(|key| {
        let column = key.parent_columns.iter().find(|column| count::sets(change, table, column))?;
        Some(format!("sets {column} of {name}, which {} of {} refers to", key.name, key.child.written))
    })
}
