//! The presets: which level each rule has before any scope speaks.
//!
//! Invariant: a preset gives every rule a level, in the order of [`rules::all`], so that a level and its rule share an index.

use crate::policy::finding::Level;
use crate::policy::rules;
use crate::policy::settings::{Mode, Origin};
use std::sync::Arc;

/// A named starting point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preset {
    /// Whatever could destroy data is shown and confirmed.
    #[default]
    Standard,
    /// As standard, but what destroys data whole needs another person, and what has a plain alternative is denied.
    Strict,
    /// The levels of standard, refusing nothing: how a team starts.
    Observe,
}

impl Preset {
    /// As written in the configuration.
    pub const NAMES: [&'static str; 3] = ["standard", "strict", "observe"];

    pub fn named(name: &str) -> Option<Preset> {
        match name {
            "standard" => Some(Preset::Standard),
            "strict" => Some(Preset::Strict),
            "observe" => Some(Preset::Observe),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Preset::Standard => "standard",
            Preset::Strict => "strict",
            Preset::Observe => "observe",
        }
    }

    /// The mode that goes with the preset when none is written.
    pub fn mode(self) -> Mode {
        match self {
            Preset::Standard | Preset::Strict => Mode::Enforce,
            Preset::Observe => Mode::Observe,
        }
    }

    /// A level for each rule, in the order of [`rules::all`].
    pub fn levels(self) -> Arc<[(Level, Origin)]> {
        let origin: Origin = format!("preset {}", self.name()).into();
        rules::all()
            .iter()
            .map(|rule| {
                let level = match self {
                    Preset::Standard | Preset::Observe => rule.standard(),
                    Preset::Strict => rule.strict(),
                };
                (level, origin.clone())
            })
            .collect()
    }
}

/// The level that a word of the configuration names.
pub fn level_named(name: &str) -> Option<Level> {
    match name {
        "allow" => Some(Level::Allow),
        "warn" => Some(Level::Warn),
        "confirm" => Some(Level::Confirm),
        "approve" => Some(Level::Approve),
        "deny" => Some(Level::Deny),
        _ => None,
    }
}

/// As written in the configuration, mildest first.
pub const LEVEL_NAMES: [&str; 5] = ["allow", "warn", "confirm", "approve", "deny"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_is_never_milder_than_standard() {
        for rule in rules::all() {
            assert!(rule.strict() >= rule.standard(), "{}", rule.code());
        }
    }

    #[test]
    fn every_name_is_understood_and_given_back() {
        for name in Preset::NAMES {
            assert_eq!(Preset::named(name).map(Preset::name), Some(name));
        }
        for name in LEVEL_NAMES {
            assert_eq!(level_named(name).map(|level| level.to_string()).as_deref(), Some(name));
        }
    }
}
