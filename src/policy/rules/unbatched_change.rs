//! `unbatched-change`: more rows in one statement than one batch may change.
//!
//! Invariant: a statement passes only if its rows are proven to be few: what is not known, or only estimated, is held to be
//! many. The changes of one text count together.

use crate::policy::count::{Certainty, grouped};
use crate::policy::finding::{About, Finding, Level};
use crate::policy::question::Questions;
use crate::policy::rules::{Look, Rule, counting, finding};
use crate::policy::settings::Effective;
use crate::sql::facts::{Change, Facts};

pub struct UnbatchedChange;

impl Rule for UnbatchedChange {
    fn code(&self) -> &'static str {
        "unbatched-change"
    }
    fn title(&self) -> &'static str {
        "More rows in one statement than one batch may change"
    }
    fn page(&self) -> &'static str {
        include_str!("unbatched_change.md")
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
        if look.facts.changes.is_empty() {
            return Vec::new();
        }
        let (direct, limit) = (&look.tally().direct, look.sizes.batch_rows);
        if direct.proves_at_most(limit) || look.is_free() {
            return Vec::new();
        }
        let message = match direct.certainty {
            Certainty::Unknown(_) => direct.to_string(),
            _ if direct.exceeds(limit) => format!("{direct} > {}", grouped(limit)),
            _ => format!("{direct}, not proven to be at most {}", grouped(limit)),
        };
        let instead = "Change the rows in pieces: a range of the key, or a list of keys, in each statement.";
        vec![finding(self, About::Statement, message, instead)]
    }
}
