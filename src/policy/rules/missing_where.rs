//! `missing-where`: a change that restricts nothing.
//!
//! Invariant: only proof silences it: a temporary table of one's own, or a count of exactly no rows.

use crate::policy::count;
use crate::policy::finding::{About, Finding, Level};
use crate::policy::question::Questions;
use crate::policy::rules::{Look, Rule, finding};
use crate::policy::settings::Effective;
use crate::sql::facts::{Change, Facts, Restriction, Verb};

pub struct MissingWhere;

impl Rule for MissingWhere {
    fn code(&self) -> &'static str {
        "missing-where"
    }
    fn title(&self) -> &'static str {
        "A change that restricts nothing"
    }
    fn page(&self) -> &'static str {
        include_str!("missing_where.md")
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
        match unrestricted(change) {
            Some(_) => Questions { table: true, rows: true, ..Questions::default() },
            None => Questions::default(),
        }
    }

    fn look(&self, look: &Look<'_>) -> Vec<Finding> {
        let matching = look.changes().filter_map(|(index, change, evidence)| {
            let why = unrestricted(change)?;
            if count::is_own(evidence) || count::is_nothing(evidence) {
                return None;
            }
            let message = format!("{} of {}: {why}", verb(change.verb), change.target.written);
            Some(finding(self, About::Change(index), message, "Add a WHERE that names the rows you mean."))
        });
        matching.collect()
    }
}

fn unrestricted(change: &Change) -> Option<&str> {
    match &change.restriction {
        Restriction::Nothing { why } if !count::adds_only(change) => Some(why),
        _ => None,
    }
}

/// The change in a word, for messages.
pub(super) fn verb(verb: Verb) -> &'static str {
    match verb {
        Verb::Insert => "INSERT",
        Verb::Update => "UPDATE",
        Verb::Delete => "DELETE",
        Verb::Merge { .. } => "MERGE",
        Verb::CopyIn => "COPY",
    }
}
