//! `other-doors`: ways to the database that carry no SQL which could be judged.
//!
//! Invariant: always refused, whatever the policy and its mode say, because what comes through them was judged by nobody.
//! The session refuses them by name through [`crate::policy::refuse_door`]; no statement matches.

use crate::policy::finding::{About, Finding, Level};
use crate::policy::rules::{Look, Rule, finding};

pub struct OtherDoors;

impl Rule for OtherDoors {
    fn code(&self) -> &'static str {
        "other-doors"
    }
    fn title(&self) -> &'static str {
        "A way to the database that carries no SQL"
    }
    fn page(&self) -> &'static str {
        include_str!("other_doors.md")
    }
    fn standard(&self) -> Level {
        Level::Deny
    }
    fn strict(&self) -> Level {
        Level::Deny
    }
    fn fixed(&self) -> bool {
        true
    }
    fn look(&self, _: &Look<'_>) -> Vec<Finding> {
        Vec::new()
    }
}

/// The finding for a door, by its name: "the replication protocol".
pub(super) fn door(name: &str) -> Finding {
    let instead = "Use ordinary SQL through Sluice, or connect for this to the database itself.";
    finding(&OtherDoors, About::Statement, format!("{name} cannot be judged"), instead)
}
