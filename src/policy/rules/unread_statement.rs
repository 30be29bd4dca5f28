//! `unread-statement`: a statement that was not read to its end.
//!
//! Invariant: what cannot be read is not harmless. An EXECUTE that nobody looked
//! up is a name: neither was read.

use crate::policy::finding::{About, Finding, Level};
use crate::policy::rules::{Look, Rule, finding};
use crate::sql::facts::{Facts, Kind};

pub struct UnreadStatement;

impl Rule for UnreadStatement {
    fn code(&self) -> &'static str {
        "unread-statement"
    }
    fn title(&self) -> &'static str {
        "A statement that could not be read to its end"
    }
    fn page(&self) -> &'static str {
        include_str!("unread_statement.md")
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

    fn look(&self, look: &Look<'_>) -> Vec<Finding> {
        match unread(look.facts) {
            Some(why) => {
                let instead = "Sluice cannot read what this does. Write the change as a plain INSERT, UPDATE or DELETE, \
                               sent alone, to see what it would do.";
                vec![finding(self, About::Statement, why, instead)]
            }
            None => Vec::new(),
        }
    }
}

fn unread(facts: &Facts) -> Option<String> {
    if let Some(why) = &facts.unread {
        return Some(why.clone());
    }
    if let Some(execution) = &facts.executes {
        return Some(format!("what EXECUTE {} runs is not known", execution.name));
    }
    match facts.kind {
        Kind::Unread => Some("the statement was not understood".to_owned()),
        Kind::Execute => Some("what EXECUTE runs is not known".to_owned()),
        _ => None,
    }
}
