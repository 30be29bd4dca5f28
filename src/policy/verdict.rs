//! The policy's answer for one statement.
//!
//! Invariant: only [`crate::policy`] makes one (the fields are private to it), and without one no permit exists.

use crate::policy::finding::{Finding, Level};
use crate::policy::settings::{Mode, Origin};

/// A finding with the level the policy gives it, and the line it got it from.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    pub finding: Finding,
    pub level: Level,
    pub origin: Origin,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    pub(in crate::policy) judged: Vec<Judged>,
    pub(in crate::policy) mode: Mode,
}

impl Verdict {
    /// The strongest level among the findings: what would happen in enforce mode.
    pub fn level(&self) -> Level {
        self.judged.iter().map(|judged| judged.level).max().unwrap_or_default()
    }

    /// What happens: `observe` and `off` let through what they found.
    pub fn in_force(&self) -> Level {
        match self.mode {
            Mode::Enforce => self.level(),
            Mode::Observe | Mode::Off => self.level().min(Level::Warn),
        }
    }

    /// What the client is warned of. In modes `observe` and `off` nothing: it must not notice Sluice there, and some programs take
    /// a warning for a fault.
    pub fn warnings(&self) -> impl Iterator<Item = &Judged> {
        let is_told = self.mode == Mode::Enforce;
        self.judged.iter().filter(move |judged| is_told && judged.level == Level::Warn)
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    pub fn judged(&self) -> &[Judged] {
        &self.judged
    }
}

#[cfg(test)]
impl Verdict {
    /// For tests of other rooms, which need verdicts without the rules.
    pub(crate) fn for_test(judged: Vec<Judged>, mode: Mode) -> Verdict {
        Verdict { judged, mode }
    }
}
