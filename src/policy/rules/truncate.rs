//! `truncate`: TRUNCATE, with every table it reaches.
//!
//! Invariant: silent only if every table it reaches is known, and each is temporary or holds exactly no rows.

use crate::policy::finding::{About, Finding, Level};
use crate::policy::question::{Questions, RemovalEvidence};
use crate::policy::rules::{Look, Rule, finding, held, losses};
use crate::policy::settings::Effective;
use crate::sql::facts::{Facts, Removal, Removed};

pub struct Truncate;

impl Rule for Truncate {
    fn code(&self) -> &'static str {
        "truncate"
    }
    fn title(&self) -> &'static str {
        "TRUNCATE, with every table it reaches"
    }
    fn page(&self) -> &'static str {
        include_str!("truncate.md")
    }
    fn standard(&self) -> Level {
        Level::Confirm
    }
    fn strict(&self) -> Level {
        Level::Approve
    }

    fn ask_of_removal(&self, removal: &Removal, _: &Facts, _: &Effective) -> Questions {
        match removal.what {
            Removed::Rows => Questions { table: true, rows: true, cascade: removal.cascade, ..Questions::default() },
            _ => Questions::default(),
        }
    }

    fn look(&self, look: &Look<'_>) -> Vec<Finding> {
        let truncations = look.removals().filter(|(_, removal, _)| removal.what == Removed::Rows);
        let matching = truncations.filter_map(|(index, removal, evidence)| {
            let what = reached(removal, evidence)?;
            let instead = "Delete the rows you mean instead, with a WHERE.";
            Some(finding(self, About::Removal(index), what, instead))
        });
        matching.collect()
    }
}

fn reached(removal: &Removal, evidence: Option<&RemovalEvidence>) -> Option<String> {
    match losses(evidence) {
        None => Some(format!("{}, an unknown number of rows", removal.name.written)),
        Some(tables) if tables.is_empty() => None,
        Some(tables) => Some(format!("{}, {}", removal.name.written, held(&tables))),
    }
}
