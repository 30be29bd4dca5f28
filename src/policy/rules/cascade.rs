//! `cascade`: a change that foreign keys carry on.
//!
//! Invariant: silent only if what is carried on is proven to be nothing, or little together with the change itself.

use crate::policy::count;
use crate::policy::finding::{About, Finding, Level};
use crate::policy::question::Questions;
use crate::policy::rules::{Look, Rule, counting, finding};
use crate::policy::settings::Effective;
use crate::sql::facts::{Change, Facts};

pub struct Cascade;

impl Rule for Cascade {
    fn code(&self) -> &'static str {
        "cascade"
    }
    fn title(&self) -> &'static str {
        "A change that foreign keys carry on to other tables"
    }
    fn page(&self) -> &'static str {
        include_str!("cascade.md")
    }
    fn standard(&self) -> Level {
        Level::Confirm
    }
    fn strict(&self) -> Level {
        Level::Confirm
    }

    fn ask_of_change(&self, change: &Change, _: &Facts, _: &Effective) -> Questions {
        counting(change)
    }

    fn look(&self, look: &Look<'_>) -> Vec<Finding> {
        if look.facts.changes.is_empty() || look.is_free() {
            return Vec::new();
        }
        let matching = look.changes().filter_map(|(index, change, evidence)| {
            let carried = count::cascaded(change, evidence);
            if carried.proves_at_most(0) {
                return None;
            }
            // The number alone: a preview draws the tree.
            let message = carried.to_string();
            Some(finding(self, About::Change(index), message, "Change the children first, in pieces of their own."))
        });
        matching.collect()
    }
}
