//! The policy in force, in its meant form: sizes, modes, levels, each level with the line that gave it.
//!
//! Invariant: built only from a configuration without errors; a session holds one [`Effective`] for each statement, so a reload
//! never changes a policy half-way through judging.

use crate::policy::finding::Level;
use crate::policy::freeze::{Freeze, Frozen};
use crate::policy::levels::Preset;
use crate::policy::scope::Scope;
use crate::policy::throttle::Throttle;
use std::sync::Arc;
use std::time::Duration;

/// The numbers of SPEC.md "Sizes".
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sizes {
    pub free_rows: u64,
    pub batch_rows: u64,
    pub sample_rows: u64,
    pub max_affected: u64,
    /// The most that a caller's own `max_affected=` may ask for.
    pub max_affected_limit: u64,
    /// Per cent.
    pub tolerance: f64,
    pub preview_timeout: Duration,
    pub token_ttl: Duration,
}

impl Default for Sizes {
    fn default() -> Self {
        Sizes {
            free_rows: 100,
            batch_rows: 1_000,
            sample_rows: 10,
            max_affected: 50_000,
            max_affected_limit: 1_000_000,
            tolerance: 5.0,
            preview_timeout: Duration::from_secs(2),
            token_ttl: Duration::from_secs(600),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    #[default]
    Enforce,
    /// Nothing is refused; what would have been is recorded and counted.
    Observe,
    Off,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Mode::Enforce => "enforce",
            Mode::Observe => "observe",
            Mode::Off => "off",
        }
    }
}

/// Where a level comes from, for `SLUICE EXPLAIN`: "preset standard", "sluice.toml:31 [[scope]] \"night jobs\"".
pub type Origin = Arc<str>;

/// A whole policy as configured: what holds for everybody, and the scopes that refine it, in the order they are written.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Set anew by whoever loads a policy; what was judged under another generation is judged again.
    pub generation: u64,
    pub preset: Preset,
    pub mode: Mode,
    pub sizes: Sizes,
    /// Parallel to `policy::rules::all()`.
    pub levels: Arc<[(Level, Origin)]>,
    pub scopes: Vec<Scope>,
    /// When nothing may be changed.
    pub freezes: Vec<Freeze>,
    /// How much of a server jobs may take.
    pub jobs: Throttle,
}

impl Policy {
    pub fn preset(preset: Preset) -> Policy {
        let (mode, levels) = (preset.mode(), preset.levels());
        let (scopes, freezes, jobs) = (Vec::new(), Vec::new(), Throttle::default());
        Policy { generation: 0, preset, mode, sizes: Sizes::default(), levels, scopes, freezes, jobs }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Policy::preset(Preset::default())
    }
}

/// The policy as it applies to one principal at one time: scopes resolved.
#[derive(Debug, Clone)]
pub struct Effective {
    pub mode: Mode,
    pub sizes: Sizes,
    /// Counts policy loads; part of every cache key.
    pub generation: u64,
    /// Parallel to `policy::rules::all()`.
    pub levels: Arc<[(Level, Origin)]>,
    /// The freeze that this principal is in.
    pub frozen: Option<Arc<Frozen>>,
}
