//! The numbers that a confirmation is bound to, taken from what was shown.
//!
//! Invariant: more than was shown, beyond the tolerance, is never "the same": a number that was known and is not any more counts
//! as moved, and so does any difference in the shape of what is touched. Fewer rows than shown are no surprise.

use crate::policy::question::{Cascade, Effects, Evidence, Known, Rows};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// Rows of each change; `None` where they were not known, or not all of them.
    pub changes: Vec<Option<u64>>,
    /// Rows of all changes together that foreign keys carry on.
    pub cascade: Option<u64>,
    /// Rows that go with each removal.
    pub removals: Vec<Option<u64>>,
    /// A digest over the shapes of all tables named, and over what the removals take along.
    pub shape: String,
    /// What it did when it was tried.
    #[serde(default)]
    pub effects: Option<Effects>,
    /// Why it could not be tried.
    #[serde(default)]
    pub untried: Option<String>,
}

/// How the numbers now stand to those promised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moved {
    No,
    /// Columns, keys, triggers, or the list of what goes away.
    Shape,
    /// Rows of a change or a removal; `None`: they are not known any more.
    Rows {
        was: u64,
        now: Option<u64>,
    },
    Cascade {
        was: u64,
        now: Option<u64>,
    },
    /// What it did when it was tried.
    Effects,
}

/// The most rows that a confirmation covers, with the tolerance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtMost {
    pub rows: Option<u64>,
    pub cascade: Option<u64>,
}

pub fn promise(evidence: &Evidence) -> Promise {
    let cascades = evidence.changes.iter().map(|change| carried_on(&change.cascade));
    let removed = |tables: &Known<Vec<crate::policy::question::RemovedTable>>| {
        tables.known()?.iter().try_fold(0u64, |sum, table| Some(sum.saturating_add(all(table.rows)?)))
    };
    Promise {
        changes: evidence.changes.iter().map(|change| all(*change.rows.known()?)).collect(),
        cascade: cascades.into_iter().try_fold(0u64, |sum, rows| Some(sum.saturating_add(rows?))),
        removals: evidence.removals.iter().map(|removal| removed(&removal.tables)).collect(),
        shape: shape(evidence),
        effects: evidence.effects.known().cloned(),
        untried: match &evidence.effects {
            Known::Unknown(why) => Some(why.clone()),
            _ => None,
        },
    }
}

/// In words, where what was done goes beyond what was shown: table by table, and object by object.
pub fn beyond(shown: &Effects, done: &Effects, tolerance: f64) -> Option<String> {
    for table in &done.tables {
        let was = shown.tables.iter().find(|known| known.name == table.name).map_or(0, |known| known.destroyed());
        let most = with_tolerance(was, tolerance);
        if table.destroyed() > most {
            let changed = table.destroyed();
            return Some(format!("changed {changed} rows of {} where at most {most} were agreed to", table.name));
        }
    }
    let object = done.objects.iter().find(|object| !shown.objects.contains(object))?;
    Some(format!("did what was not shown: {object}"))
}

/// Holds what is known now against what was promised.
pub fn within(promised: &Promise, now: &Promise, tolerance: f64) -> Moved {
    if promised.shape != now.shape
        || promised.changes.len() != now.changes.len()
        || promised.removals.len() != now.removals.len()
    {
        return Moved::Shape;
    }
    let exceeds = |(was, now): (&Option<u64>, &Option<u64>)| match (was, now) {
        (Some(was), Some(now)) if *now <= with_tolerance(*was, tolerance) => None,
        (Some(was), now) => Some((*was, *now)),
        // It was shown as unknown, and agreed to as such.
        (None, _) => None,
    };
    let rows = promised
        .changes
        .iter()
        .chain(&promised.removals)
        .zip(now.changes.iter().chain(&now.removals))
        .find_map(exceeds);
    if let Some((was, now)) = rows {
        return Moved::Rows { was, now };
    }
    if let Some((was, now)) = exceeds((&promised.cascade, &now.cascade)) {
        return Moved::Cascade { was, now };
    }
    match (&promised.effects, &now.effects) {
        (Some(shown), Some(done)) => beyond(shown, done, tolerance).map_or(Moved::No, |_| Moved::Effects),
        // It is tried when it runs, and held to what was shown then.
        (Some(_), None) => Moved::No,
        (None, Some(_)) if promised.untried.is_none() => Moved::Effects,
        (None, _) => Moved::No,
    }
}

impl Promise {
    /// What the command tags together, and the cascades, may come to. `None` where nothing is promised.
    pub fn at_most(&self, tolerance: f64) -> AtMost {
        if let Some(effects) = &self.effects {
            let tables = effects.tables.iter().map(|table| with_tolerance(table.destroyed(), tolerance));
            return AtMost { rows: Some(tables.fold(0, u64::saturating_add)), cascade: None };
        }
        let sum = self
            .changes
            .iter()
            .try_fold(0u64, |sum, rows| Some(sum.saturating_add(with_tolerance((*rows)?, tolerance))));
        AtMost {
            rows: sum.filter(|_| !self.changes.is_empty()),
            cascade: self.cascade.map(|rows| with_tolerance(rows, tolerance)),
        }
    }
}

/// `rows` and so many per cent more, rounded up; a tolerance that is no number counts as none.
pub fn with_tolerance(rows: u64, tolerance: f64) -> u64 {
    let more = (rows as f64 * tolerance.max(0.0) / 100.0).ceil();
    // A float that does not fit saturates, and NaN becomes 0.
    rows.saturating_add(more as u64)
}

/// Counted, bounded or estimated rows; a count that stopped early promises nothing.
fn all(rows: Rows) -> Option<u64> {
    match rows {
        Rows::Exact(n) | Rows::AtMost(n) | Rows::Estimate(n) => Some(n),
        Rows::AtLeast(_) => None,
    }
}

fn carried_on(cascade: &Known<Vec<Cascade>>) -> Option<u64> {
    cascade.known()?.iter().try_fold(0u64, |sum, branch| Some(sum.saturating_add(branch_rows(branch)?)))
}

fn branch_rows(branch: &Cascade) -> Option<u64> {
    if branch.stopped.is_some() {
        return None;
    }
    let here = all(*branch.rows.known()?)?;
    branch.below.iter().try_fold(here, |sum, below| Some(sum.saturating_add(branch_rows(below)?)))
}

fn shape(evidence: &Evidence) -> String {
    let mut digest = Sha256::new();
    // Every part ends in a NUL, which no name holds: two lists never read as one.
    let mut part = |text: &str| {
        digest.update(text.as_bytes());
        digest.update([0]);
    };
    for change in &evidence.changes {
        part(change.table.known().map_or("?", |table| &table.shape));
    }
    for removal in &evidence.removals {
        part("removal");
        removal.tables.known().into_iter().flatten().for_each(|table| part(&table.name.parts.join("\u{1}")));
        removal.dependents.known().into_iter().flatten().for_each(|dependent| part(dependent));
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promised(changes: &[Option<u64>], cascade: Option<u64>) -> Promise {
        Promise { changes: changes.to_vec(), cascade, ..Promise::default() }
    }

    #[test]
    fn more_than_tolerated_is_moved() {
        let was = promised(&[Some(1000)], Some(40));
        for (now, moved) in [
            (promised(&[Some(1050)], Some(42)), Moved::No),
            (promised(&[Some(0)], Some(0)), Moved::No),
            (promised(&[Some(1051)], Some(40)), Moved::Rows { was: 1000, now: Some(1051) }),
            (promised(&[None], Some(40)), Moved::Rows { was: 1000, now: None }),
            (promised(&[Some(1000)], Some(43)), Moved::Cascade { was: 40, now: Some(43) }),
            (promised(&[Some(1000)], None), Moved::Cascade { was: 40, now: None }),
            (promised(&[], Some(40)), Moved::Shape),
            (Promise { shape: "x".into(), ..promised(&[Some(1000)], Some(40)) }, Moved::Shape),
        ] {
            assert_eq!(within(&was, &now, 5.0), moved);
        }
        assert_eq!(within(&promised(&[None], None), &promised(&[Some(7)], Some(7)), 5.0), Moved::No);
    }

    #[test]
    fn a_tolerance_rounds_up_and_never_breaks() {
        for (rows, tolerance, most) in [
            (12_480, 5.0, 13_104),
            (40_112, 5.0, 42_118),
            (7, 0.0, 7),
            (7, -3.0, 7),
            (7, f64::NAN, 7),
            (u64::MAX, 5.0, u64::MAX),
        ] {
            assert_eq!(with_tolerance(rows, tolerance), most);
        }
        assert_eq!(promised(&[Some(10), Some(20)], None).at_most(10.0), AtMost { rows: Some(33), cascade: None });
        assert_eq!(promised(&[Some(10), None], Some(1)).at_most(0.0), AtMost { rows: None, cascade: Some(1) });
    }
}
