//! `mass-overwrite`: rows written over by what a query yields.
//!
//! Invariant: silent only if the whole statement is proven to touch at most `free_rows` rows.

use crate::policy::count;
use crate::policy::finding::{About, Finding, Level};
use crate::policy::question::Questions;
use crate::policy::rules::{Look, Rule, counting, finding};
use crate::policy::settings::Effective;
use crate::sql::facts::{Change, Facts, OnConflict, Source, Verb};

pub struct MassOverwrite;

impl Rule for MassOverwrite {
    fn code(&self) -> &'static str {
        "mass-overwrite"
    }
    fn title(&self) -> &'static str {
        "Rows written over by what a query yields"
    }
    fn page(&self) -> &'static str {
        include_str!("mass_overwrite.md")
    }
    fn standard(&self) -> Level {
        Level::Confirm
    }
    fn strict(&self) -> Level {
        Level::Confirm
    }

    fn ask_of_change(&self, change: &Change, _: &Facts, _: &Effective) -> Questions {
        match overwrites(change) {
            Some(_) => counting(change),
            None => Questions::default(),
        }
    }

    fn look(&self, look: &Look<'_>) -> Vec<Finding> {
        let matching = look.changes().filter_map(|(index, change, evidence)| {
            let how = overwrites(change)?;
            if count::is_own(evidence) || look.is_free() {
                return None;
            }
            let message = format!("{how} {}: {}", change.target.written, count::direct(change, evidence));
            let instead = "Load the rows into a table of their own, look at them, then overwrite in pieces.";
            Some(finding(self, About::Change(index), message, instead))
        });
        matching.collect()
    }
}

fn overwrites(change: &Change) -> Option<&'static str> {
    match change.verb {
        Verb::Merge { updates: true, deletes: true } => Some("MERGE updates and deletes rows of"),
        Verb::Merge { updates: true, deletes: false } => Some("MERGE updates rows of"),
        Verb::Merge { updates: false, deletes: true } => Some("MERGE deletes rows of"),
        Verb::Insert if change.on_conflict == OnConflict::Updates => match change.source {
            // Rows written out in the text are their own preview; `unbatched-change` counts them.
            Source::Values(_) | Source::None => None,
            Source::Select | Source::Stream => Some("an upsert from a query overwrites rows of"),
        },
        Verb::Insert if change.on_conflict == OnConflict::Replaces => match change.source {
            Source::Values(_) | Source::None => None,
            Source::Select | Source::Stream => Some("REPLACE from a query overwrites rows of"),
        },
        Verb::CopyIn if change.on_conflict.overwrites() => Some("LOAD DATA … REPLACE overwrites rows of"),
        Verb::Insert | Verb::Update | Verb::Delete | Verb::CopyIn | Verb::Merge { .. } => None,
    }
}
