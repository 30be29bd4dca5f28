//! What a rule says when it matches, and how severe the policy holds it to be.

use std::fmt;

/// What happens to a statement. Ordered: the strongest finding decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Level {
    #[default]
    Allow,
    Warn,
    Confirm,
    Approve,
    Deny,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Allow => "allow",
            Level::Warn => "warn",
            Level::Confirm => "confirm",
            Level::Approve => "approve",
            Level::Deny => "deny",
        })
    }
}

/// What a rule reports; its level comes from the policy afterwards.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    pub rule: &'static str,
    /// Which change (or removal) of the statement it is about, if one.
    pub about: About,
    /// Short and factual, without the rule's name: "12,480 rows > 1,000".
    pub message: String,
    /// What to do instead; goes into the hint of a denial.
    pub instead: Option<String>,
    /// What the finding itself makes of the level that the policy gives its rule.
    pub bend: Bend,
}

/// How a finding bends its rule's level. A rule that the policy allows finds nothing, so nothing is bent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bend {
    #[default]
    Not,
    /// What it is found in asks for more than the rule does as a rule.
    AtLeast(Level),
    /// The sender has said that it is meant: a denial becomes a question.
    AskedNotDenied,
}

impl Bend {
    pub fn of(self, level: Level) -> Level {
        match self {
            Bend::Not => level,
            Bend::AtLeast(least) => level.max(least),
            Bend::AskedNotDenied if level == Level::Deny => Level::Confirm,
            Bend::AskedNotDenied => level,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    Statement,
    Change(usize),
    Removal(usize),
}
