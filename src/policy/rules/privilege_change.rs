//! `privilege-change`: who may do what, whose something is, and which rows somebody sees.
//!
//! Invariant: judged by the text alone, so it also holds what is prepared or stands in a transaction that has failed.

use crate::policy::finding::{Finding, Level};
use crate::policy::rules::{Look, Rule, acts};
use crate::sql::facts::ActKind;

pub struct PrivilegeChange;

impl Rule for PrivilegeChange {
    fn code(&self) -> &'static str {
        "privilege-change"
    }
    fn title(&self) -> &'static str {
        "A change of who may do what"
    }
    fn page(&self) -> &'static str {
        include_str!("privilege_change.md")
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
        acts(self, look, ActKind::Rights, "Have the one who keeps the rights make the change.")
    }
}
