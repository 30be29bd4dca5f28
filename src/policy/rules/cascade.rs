//! `cascade`: a change that foreign keys carry on.
//!
//! Invariant: silent only if what is carried on is proven to be nothing, or little together with the change itself.

use crate::policy::count::{self, Count};
use crate::policy::finding::{About, Finding, Level};
use crate::policy::question::{self, Action, ChangeEvidence, Known, Questions};
use crate::policy::rules::{Look, Rule, counting, finding, some_of};
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
            let message = message(&carried, evidence);
            Some(finding(self, About::Change(index), message, "change the children first, in pieces of their own"))
        });
        matching.collect()
    }
}

fn message(carried: &Count, evidence: Option<&ChangeEvidence>) -> String {
    let Some(Known::Known(branches)) = evidence.map(|evidence| &evidence.cascade) else {
        return format!("by cascade, {carried}");
    };
    let mut ways = Vec::new();
    branches.iter().for_each(|branch| list(branch, &mut ways));
    format!("{carried} by cascade: {}", some_of(ways.into_iter()))
}

/// The branch and all below it, each as "cart_items (cart_items_cart_id_fkey SET NULL, no index on cart_id)".
fn list(branch: &question::Cascade, ways: &mut Vec<String>) {
    let key = &branch.key;
    let index = match key.child_indexed {
        true => String::new(),
        false => format!(", no index on {}", key.child_columns.join(", ")),
    };
    let stopped = branch.stopped.as_deref().map(|why| format!(", stopped: {why}")).unwrap_or_default();
    ways.push(format!("{} ({} {}{index}{stopped})", key.child.written, key.name, action(branch.action)));
    branch.below.iter().for_each(|below| list(below, ways));
}

fn action(action: Action) -> &'static str {
    match action {
        Action::NoAction => "NO ACTION",
        Action::Restrict => "RESTRICT",
        Action::Cascade => "CASCADE",
        Action::SetNull => "SET NULL",
        Action::SetDefault => "SET DEFAULT",
    }
}
