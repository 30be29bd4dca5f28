//! `already-ran`: a statement of a named script that the ledger says has run.
//!
//! Invariant: silent only where the ledger was looked at and has no run of this statement that may stand; `rerun=` turns the denial
//! into a question, never into silence.

use crate::policy::finding::{About, Bend, Finding, Level};
use crate::policy::rules::{Ledger, Look, Rule, finding};

pub struct AlreadyRan;

impl Rule for AlreadyRan {
    fn code(&self) -> &'static str {
        "already-ran"
    }
    fn title(&self) -> &'static str {
        "A statement of a script that has run before"
    }
    fn page(&self) -> &'static str {
        include_str!("already_ran.md")
    }
    fn standard(&self) -> Level {
        Level::Deny
    }
    fn strict(&self) -> Level {
        Level::Deny
    }

    fn look(&self, look: &Look<'_>) -> Vec<Finding> {
        let Some(script) = &look.caller.script else { return Vec::new() };
        let name: String = script.name.chars().take(40).collect();
        let (message, instead) = match &script.ledger {
            Ledger::New => return Vec::new(),
            Ledger::NotAsked => (format!("{name}: nobody looked whether this ran"), "Send it again."),
            Ledger::Ran(when) => (
                format!("{name}: this ran {when}"),
                "Leave it out: the rest of the script goes on. To run it once more on purpose, add rerun=\"why\" to its hint.",
            ),
            Ledger::Begun(when) => (
                format!("{name}: this was begun {when}, and how it ended is not known"),
                "Look at the data. If it did not run, send it with rerun=\"why\" in its hint; if it did, leave it out.",
            ),
            Ledger::Unknown(why) => (
                format!("{name}: whether this ran is not known: {}", why.chars().take(40).collect::<String>()),
                "Send it again when the store answers.",
            ),
        };
        let meant = script.rerun.is_some() && !matches!(script.ledger, Ledger::Unknown(_));
        let bend = if meant { Bend::AskedNotDenied } else { Bend::Not };
        vec![Finding { bend, ..finding(self, About::Statement, message, instead) }]
    }
}
