//! What one statement is held to: what was agreed to, against what the database says it did.
//!
//! Invariant: what changed more than was agreed to, or could not be measured, is told as that, and kept by nobody here.

use crate::change::{preview, promise};
use crate::database::effects::measure::{self, Snapshot};
use crate::policy::count;
use crate::policy::question::Effects;
use crate::protocol::{Code, Refusal};
use crate::session::judgement::Judgement;
use crate::store::kept::ProtocolKind;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// What one statement is held to.
pub(in crate::session) struct Hold {
    pub judgement: Arc<Judgement>,
    pub protocol: ProtocolKind,
    pub agreed: Agreed,
    /// Rows changed by what of it was run before: a portal can be run in portions.
    pub so_far: AtomicU64,
    /// Rows that the database counted when it was last measured, added ones included; `None`: it was not.
    pub measured: OnceLock<u64>,
    /// The record's line that waits for it.
    pub line: OnceLock<u64>,
}

/// Who agreed to it, and to what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::session) enum Agreed {
    /// Nobody was asked: so much passes unasked.
    Unasked { most: u64 },
    /// Its rows were shown, and confirmed.
    Counted { most: u64 },
    /// It was tried, and what it did was shown, and confirmed.
    Tried(Effects),
    /// It was said that it cannot be tried.
    Untried,
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hold").field("agreed", &self.agreed).finish_non_exhaustive()
    }
}

impl Hold {
    /// For ordering: what lets least pass.
    pub fn most(&self) -> u64 {
        match &self.agreed {
            Agreed::Unasked { most } | Agreed::Counted { most } => *most,
            Agreed::Tried(effects) => effects.destroyed(),
            Agreed::Untried => u64::MAX,
        }
    }

    /// What the record says of a statement that was carried out: its tag tells nothing of what its functions did.
    pub fn outcome_rows(&self, told: u64) -> Option<u64> {
        if !self.judgement.reaches() {
            return Some(match (self.overwrites(), self.measured.get()) {
                // A row is counted twice whose place another took.
                (true, Some(measured)) => (*measured).max(told - (told / 2).min(*measured)),
                _ => told,
            });
        }
        self.measured.get().map(|measured| told.max(*measured))
    }

    /// It overwrites rows, and its tag counts those twice.
    fn overwrites(&self) -> bool {
        let counts_twice = self.judgement.lexical.product().either(false, true);
        let mut changes = self.judgement.pieces.iter().flat_map(|piece| &piece.facts.changes);
        counts_twice && changes.any(|change| change.on_conflict.overwrites())
    }

    /// What it did is a change that the policy's freeze does not let pass.
    pub fn is_frozen(&self, effects: &Effects) -> bool {
        !effects.is_nothing() && self.judgement.is_frozen_by(effects, self.was_confirmed())
    }

    pub fn was_confirmed(&self) -> bool {
        !matches!(self.agreed, Agreed::Unasked { .. })
    }

    /// In words, what was more than agreed to.
    pub fn exceeded_by(&self, effects: &Effects) -> Option<String> {
        let tolerance = self.judgement.sizes.tolerance;
        match &self.agreed {
            Agreed::Untried => None,
            Agreed::Tried(shown) => promise::beyond(shown, effects, tolerance),
            Agreed::Unasked { most } | Agreed::Counted { most } => {
                let changed = effects.destroyed().saturating_add(self.so_far.load(Ordering::Relaxed));
                if changed > *most {
                    let (changed, most) = (count::grouped(changed), count::grouped(*most));
                    return Some(format!("changed {changed} rows where at most {most} were agreed to"));
                }
                let object = effects.objects.iter().find(|object| !self.judgement.says(object))?;
                Some(format!("did more than change rows: {object}"))
            }
        }
    }
}

pub(in crate::session) fn compared(before: Option<&Snapshot>, after: Option<&Snapshot>) -> Result<Effects, String> {
    match (before, after) {
        (Some(before), Some(after)) => measure::between(before, after),
        _ => Err("the database does not count what it changes (track_counts)".to_owned()),
    }
}

pub(in crate::session) fn unmeasured(why: &str) -> Refusal {
    let message = "sluice: what the statement changed could not be measured; it was rolled back";
    Refusal::new(Code::ExceedsConfirmed, message).detail(why.to_owned())
}

pub(in crate::session) fn beyond_what_was_shown(beyond: u64, effects: &Effects) -> Refusal {
    let message = format!(
        "sluice: the transaction changed {} rows more than its statements told; it was rolled back",
        count::grouped(beyond)
    );
    let hint = "Functions and triggers did it: send the statement that runs them outside the transaction, where it is tried and shown.";
    Refusal::new(Code::ExceedsConfirmed, message).detail(preview::effects_lines(effects)).hint(hint)
}

/// Promised and actual rows, table by table.
pub(in crate::session) fn comparison(agreed: &Agreed, effects: Option<&Effects>) -> String {
    let Some(effects) = effects else { return String::new() };
    let promised = |name: &str| match agreed {
        Agreed::Tried(shown) => {
            let table = shown.tables.iter().find(|table| table.name == name);
            count::grouped(table.map_or(0, |table| table.destroyed()))
        }
        _ => "-".to_owned(),
    };
    let mut out = format!("  {:<40} {:>12} {:>12}\n", "table", "promised", "actual");
    for table in effects.tables.iter().filter(|table| table.destroyed() > 0).take(40) {
        let _ = writeln!(
            out,
            "  {:<40} {:>12} {:>12}",
            table.name,
            promised(&table.name),
            count::grouped(table.destroyed())
        );
    }
    if let Agreed::Unasked { most } | Agreed::Counted { most } = agreed {
        let all = count::grouped(effects.destroyed());
        let _ = writeln!(out, "  {:<40} {:>12} {:>12}", "all together", count::grouped(*most), all);
    }
    for object in effects.objects.iter().take(10) {
        let _ = writeln!(out, "  {object}");
    }
    out
}
