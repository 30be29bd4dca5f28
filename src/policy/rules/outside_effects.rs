//! `outside-effects`: what reaches out of the database, where no rollback and no undo reach.
//!
//! Invariant: functions are known by their names (`sql::reach`) and statements by their text; a foreign table by the catalog. What
//! a function of the user's own does is not known here.

use crate::policy::count;
use crate::policy::finding::{About, Finding, Level};
use crate::policy::question::{Questions, TableKind};
use crate::policy::rules::{Look, Rule, acts, finding};
use crate::policy::settings::Effective;
use crate::sql::facts::{ActKind, Change, Facts};

pub struct OutsideEffects;

impl Rule for OutsideEffects {
    fn code(&self) -> &'static str {
        "outside-effects"
    }
    fn title(&self) -> &'static str {
        "What reaches out of the database"
    }
    fn page(&self) -> &'static str {
        include_str!("outside_effects.md")
    }
    fn standard(&self) -> Level {
        Level::Deny
    }
    fn strict(&self) -> Level {
        Level::Deny
    }
    fn reads_text(&self) -> bool {
        true
    }

    fn ask_of_change(&self, change: &Change, _: &Facts, _: &Effective) -> Questions {
        // Rows that are only added are not worth a question each time.
        Questions { table: !count::adds_only(change), ..Questions::default() }
    }

    fn look(&self, look: &Look<'_>) -> Vec<Finding> {
        const INSTEAD: &str = "Do it on the server itself, as its administrator, outside of this session.";
        let mut found = acts(self, look, ActKind::Outside, INSTEAD);
        for (at, change, evidence) in look.changes() {
            if count::table(evidence).is_some_and(|table| table.kind == TableKind::Foreign) {
                let message = format!("{} is a foreign table: its rows are another server's", change.target.written);
                found.push(finding(self, About::Change(at), message, "Change the rows on the server that holds them."));
            }
        }
        found
    }
}
