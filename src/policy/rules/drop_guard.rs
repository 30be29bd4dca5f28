//! `drop-guard`: a constraint, a trigger, a rule, a NOT NULL that goes for good.
//!
//! Apart from `guard-off`, which is about guards that stay and no longer act: dropping one is a change of the schema that
//! migrations make every week, turning one off is not.
//!
//! Invariant: judged by the text alone.

use crate::policy::finding::{Finding, Level};
use crate::policy::rules::{Look, Rule, acts};
use crate::sql::facts::ActKind;

pub struct DropGuard;

impl Rule for DropGuard {
    fn code(&self) -> &'static str {
        "drop-guard"
    }
    fn title(&self) -> &'static str {
        "Dropping what guards data"
    }
    fn page(&self) -> &'static str {
        include_str!("drop_guard.md")
    }
    fn standard(&self) -> Level {
        Level::Confirm
    }
    fn strict(&self) -> Level {
        Level::Approve
    }
    fn reads_text(&self) -> bool {
        true
    }

    fn look(&self, look: &Look<'_>) -> Vec<Finding> {
        let instead = look.facts.product.either(
            "Add what takes its place first, in the same transaction if need be.",
            "Add what takes its place first, in the same ALTER TABLE where that can be.",
        );
        acts(self, look, ActKind::GuardDropped, instead)
    }
}
