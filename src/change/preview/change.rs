//! What one change would do, in words, and what is known of it, line by line.
//!
//! Invariant: how well a number is known is said with it, and what is not known is said with its reason, once.

use crate::change::preview::words::{amount, number, percent, plain, rows_together, some_of, sum, wrapped};
use crate::change::preview::{sample, tree};
use crate::database::quote;
use crate::ground::limits;
use crate::policy::question::{Cascade, ChangeEvidence, Known, Rows, Table};
use crate::policy::settings::Sizes;
use crate::sql::facts::{Change, OnConflict, Verb};

pub fn table_name(change: &Change, evidence: &ChangeEvidence) -> String {
    match evidence.table.known() {
        Some(table) => plain(&quote::shown(&table.schema, &table.name).written),
        None => plain(&change.target.written),
    }
}

pub fn message(change: &Change, evidence: &ChangeEvidence) -> String {
    let name = table_name(change, evidence);
    let rows = match &evidence.rows {
        Known::Known(rows) => amount(*rows),
        Known::NotAsked | Known::Unknown(_) => "an unknown number of".to_owned(),
    };
    let unit = if matches!(
        evidence.rows.known(),
        Some(Rows::Exact(1) | Rows::AtMost(1) | Rows::Estimate(1) | Rows::AtLeast(1))
    ) {
        "row"
    } else {
        "rows"
    };
    let total = total(evidence);
    let what = match change.verb {
        Verb::Insert | Verb::CopyIn => {
            let verb = if change.verb == Verb::Insert { "insert" } else { "load" };
            match change.on_conflict {
                OnConflict::Updates => format!("{verb} {rows} {unit} into {name}, or update those that are there"),
                OnConflict::Replaces => {
                    format!("{verb} {rows} {unit} into {name}, in the place of those that are there")
                }
                _ => format!("{verb} {rows} {unit} into {name}"),
            }
        }
        Verb::Merge { updates, deletes } => {
            let verb = match (updates, deletes) {
                (true, true) => "update or delete",
                (false, true) => "delete",
                (true, false) => "update",
                (false, false) => "insert",
            };
            format!("merge into {name}, and so {verb} {rows} {unit}")
        }
        Verb::Update | Verb::Delete => {
            let verb = if change.verb == Verb::Update { "update" } else { "delete" };
            match total {
                Some((of, share)) => format!("{verb} {rows} of {of} rows of {name}{share}"),
                None => format!("{verb} {rows} {unit} of {name}"),
            }
        }
    };
    format!("{what}{}", by_cascade(evidence))
}

/// Several changes of one statement, their rows added up.
pub fn together(changes: &[(&Change, &ChangeEvidence)]) -> String {
    let mut names: Vec<String> = Vec::new();
    for (change, evidence) in changes {
        let name = table_name(change, evidence);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let every = |verb| changes.iter().all(|(change, _)| change.verb == verb);
    let verb = match () {
        () if every(Verb::Delete) => "delete",
        () if every(Verb::Update) => "update",
        () if every(Verb::Insert) => "insert",
        () => "change",
    };
    let rows = rows_together(changes.iter().map(|(_, evidence)| evidence.rows.known().copied()));
    let of = if verb == "insert" { "into" } else { "of" };
    let mut carried = changes.iter().map(|(_, evidence)| carried_on(evidence));
    let more = more_rows(carried.try_fold(Rows::Exact(0), |all, rows| rows.map(|rows| sum(all, rows))));
    match names.as_slice() {
        [one] => format!("{verb} {rows} {of} {one}, in {} parts{more}", changes.len()),
        names => format!("{verb} {rows} {of} {} tables{more}: {}", names.len(), some_of(names)),
    }
}

/// "about 4,012,331", " (0.3 %)": all rows of the table, where that is known and does not contradict the count.
fn total(evidence: &ChangeEvidence) -> Option<(String, String)> {
    let (table, rows) = (evidence.table.known()?, evidence.rows.known()?);
    let (all, words) = match (table.exact_rows, table.estimated_rows) {
        (Some(all), _) => (all, number(all)),
        (None, Some(all)) => (all, format!("about {}", number(all))),
        (None, None) => return None,
    };
    if all == 0 || rows.number() > all || *rows == Rows::AtLeast(0) {
        return None;
    }
    let share = match rows {
        Rows::AtLeast(_) => String::new(),
        _ => format!(" ({})", percent(rows.number(), all)),
    };
    Some((words, share))
}

fn by_cascade(evidence: &ChangeEvidence) -> String {
    more_rows(carried_on(evidence))
}

/// `None` where it is not known.
fn carried_on(evidence: &ChangeEvidence) -> Option<Rows> {
    match &evidence.cascade {
        Known::Known(branches) => branches.iter().try_fold(Rows::Exact(0), add_branch),
        Known::NotAsked => Some(Rows::Exact(0)),
        Known::Unknown(_) => None,
    }
}

fn more_rows(carried: Option<Rows>) -> String {
    match carried {
        None => ", and an unknown number of rows more by cascade".to_owned(),
        Some(Rows::Exact(0)) => String::new(),
        Some(rows) if rows.number() == 1 => format!(", and {} row more by cascade", amount(rows)),
        Some(rows) => format!(", and {} rows more by cascade", amount(rows)),
    }
}

/// `None` as soon as one level is unknown.
fn add_branch(above: Rows, branch: &Cascade) -> Option<Rows> {
    let mut rows = sum(above, *branch.rows.known()?);
    if branch.stopped.is_some() {
        rows = sum(rows, Rows::AtLeast(0));
    }
    branch.below.iter().try_fold(rows, add_branch)
}

pub fn lines(change: &Change, evidence: &ChangeEvidence, sizes: &Sizes, out: &mut Vec<String>) {
    if let Known::Unknown(why) = &evidence.rows {
        wrapped("  rows: unknown: ", &plain(why), out);
    }
    match &evidence.cascade {
        Known::Known(branches) if !branches.is_empty() => tree::lines(change, evidence, branches, out),
        Known::Unknown(why) if Some(why) != unknown(&evidence.rows) => {
            wrapped("  by cascade: unknown: ", &plain(why), out);
        }
        _ => {}
    }
    if let Some(table) = evidence.table.known() {
        fires(change, table, out);
    }
    match &evidence.scan {
        Known::Known(scan) => wrapped("  reads: ", &plain(scan), out),
        Known::Unknown(why) if Some(why) != unknown(&evidence.rows) => {
            wrapped("  reads: unknown: ", &plain(why), out);
        }
        _ => {}
    }
    match &evidence.sample {
        Known::Known(sample) => sample::lines(sample, sizes, out),
        Known::Unknown(why) if Some(why) != unknown(&evidence.rows) => {
            wrapped("  first rows: unknown: ", &plain(why), out);
        }
        _ => {}
    }
}

fn unknown<T>(known: &Known<T>) -> Option<&String> {
    match known {
        Known::Unknown(why) => Some(why),
        _ => None,
    }
}

fn fires(change: &Change, table: &Table, out: &mut Vec<String>) {
    let fired = table.triggers.iter().filter(|trigger| match change.verb {
        Verb::Insert | Verb::CopyIn => trigger.on_insert || (trigger.on_update && !change.assignments.is_empty()),
        Verb::Update => trigger.on_update,
        Verb::Delete => trigger.on_delete,
        Verb::Merge { updates, deletes } => {
            trigger.on_insert || (trigger.on_update && updates) || (trigger.on_delete && deletes)
        }
    });
    let names: Vec<String> =
        fired.map(|trigger| format!("{} ({})", plain(&trigger.name), plain(&trigger.when))).collect();
    if !names.is_empty() {
        let more = names.len().saturating_sub(limits::PREVIEW_LINES);
        let shown: Vec<String> = names.into_iter().take(limits::PREVIEW_LINES).collect();
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        wrapped("  fires: ", &format!("{}{rest}", shown.join(", ")), out);
    }
}
