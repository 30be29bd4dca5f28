//! What the client is shown of a statement that is not simply let through: message, detail, hint, as PostgreSQL's errors have them.
//!
//! Invariants: it says no more than is known: an estimate is called one, a count that stopped is "at least", what was not
//! learned is "unknown" with its reason, and what is cut says so. Nothing that comes from the database can break a line or
//! move the cursor: control characters are shown as escapes. It offers nothing that this version cannot do. Pure.

mod words;

use crate::change::promise::AtMost;
use crate::database::quote;
use crate::ground::limits;
use crate::policy::finding::Level;
use crate::policy::question::{
    Action, Cascade, ChangeEvidence, Evidence, Known, RemovalEvidence, Rows, Sample, Table,
};
use crate::policy::settings::Sizes;
use crate::policy::verdict::{Judged, Verdict};
use crate::sql::facts::{Change, Facts, Removal, Removed, Verb};
use std::time::Duration;
use words::{amount, bytes, lasting, number, percent, plain, short_amount};

/// Fit for an error's three fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preview {
    pub message: String,
    pub detail: String,
    pub hint: String,
}

/// What may be done with the statement; without a token there is nothing to confirm.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Offer {
    pub token: Option<String>,
    pub valid: Duration,
    pub at_most: AtMost,
}

pub fn render(
    facts: &Facts,
    evidence: &Evidence,
    verdict: &Verdict,
    sizes: &Sizes,
    offer: &Offer,
) -> Preview {
    render_judged(facts, evidence, verdict.judged(), sizes, offer)
}

/// The same from the judged findings alone, strongest level deciding.
pub fn render_judged(
    facts: &Facts,
    evidence: &Evidence,
    judged: &[Judged],
    sizes: &Sizes,
    offer: &Offer,
) -> Preview {
    let level = judged
        .iter()
        .map(|judged| judged.level)
        .max()
        .unwrap_or_default();
    let subject = Subject {
        facts,
        evidence,
        judged,
        sizes,
    };
    Preview {
        message: subject.message(level),
        detail: bounded(subject.detail()),
        hint: subject.hint(level, offer),
    }
}

struct Subject<'a> {
    facts: &'a Facts,
    evidence: &'a Evidence,
    judged: &'a [Judged],
    sizes: &'a Sizes,
}

impl Subject<'_> {
    fn changes(&self) -> impl Iterator<Item = (&Change, &ChangeEvidence)> {
        self.facts.changes.iter().zip(&self.evidence.changes)
    }

    fn removals(&self) -> impl Iterator<Item = (&Removal, &RemovalEvidence)> {
        self.facts.removals.iter().zip(&self.evidence.removals)
    }

    /// One line: what it would do, the first thing it does first.
    fn message(&self, level: Level) -> String {
        let mut parts: Vec<String> = self
            .changes()
            .map(|(change, evidence)| change_message(change, evidence))
            .collect();
        parts.extend(
            self.removals()
                .map(|(removal, evidence)| removal_message(removal, evidence)),
        );
        let denied = if level == Level::Deny { "denied: " } else { "" };
        match parts.as_slice() {
            [] => {
                let strongest = self
                    .judged
                    .iter()
                    .filter(|judged| judged.level == level)
                    .map(told)
                    .next()
                    .unwrap_or_default();
                let verb = if level == Level::Deny {
                    "denied"
                } else {
                    "not run yet"
                };
                format!("sluice: {verb}: {strongest}")
            }
            [one] => format!("sluice: {denied}this would {one}"),
            [first, more @ ..] => {
                let parts = if more.len() == 1 {
                    "1 part more".to_owned()
                } else {
                    format!("{} parts more", more.len())
                };
                format!("sluice: {denied}this would {first}; and {parts}")
            }
        }
    }

    fn detail(&self) -> Vec<String> {
        let mut lines = self.rules();
        let several = self.facts.changes.len() + self.facts.removals.len() > 1;
        for (at, (change, evidence)) in self.changes().enumerate() {
            if several {
                lines.push(format!("{}. {}", at + 1, change_message(change, evidence)));
            }
            change_lines(change, evidence, self.sizes, &mut lines);
        }
        for (at, (removal, evidence)) in self.removals().enumerate() {
            if several {
                lines.push(format!(
                    "{}. {}",
                    self.facts.changes.len() + at + 1,
                    removal_message(removal, evidence)
                ));
            }
            removal_lines(evidence, &mut lines);
        }
        lines
    }

    fn rules(&self) -> Vec<String> {
        let some = |wanted: &dyn Fn(Level) -> bool| {
            let told: Vec<String> = self
                .judged
                .iter()
                .filter(|judged| wanted(judged.level))
                .map(told)
                .collect();
            (!told.is_empty()).then(|| told.join(", "))
        };
        let strong = some(&|level| level > Level::Warn).map(|told| format!("rules: {told}"));
        let weak = some(&|level| level == Level::Warn).map(|told| format!("warnings: {told}"));
        strong.into_iter().chain(weak).collect()
    }

    fn hint(&self, level: Level, offer: &Offer) -> String {
        let mut lines: Vec<String> = Vec::new();
        for judged in self.judged.iter().filter(|judged| judged.level == level) {
            let instead = judged.finding.instead.as_deref().map(plain);
            lines.extend(instead.filter(|line| !lines.contains(line)));
        }
        match (level, &offer.token) {
            (Level::Confirm, Some(token)) => {
                lines.push(self.confirm_line(offer));
                let most = cover(offer.at_most);
                lines.push(format!(
                    "  SLUICE CONFIRM '{}';      valid {}, once, for you{most}",
                    plain(token),
                    lasting(offer.valid)
                ));
            }
            (Level::Approve, _) => lines.push(
                "It needs the approval of another person, which this version cannot take."
                    .to_owned(),
            ),
            (Level::Deny, _) if lines.is_empty() => {
                lines.push(
                    "SLUICE EXPLAIN with this statement shows which line of the policy denies it."
                        .to_owned(),
                );
            }
            _ => {}
        }
        lines.join("\n")
    }

    /// Only rows that are counted afterwards can be held to a number.
    fn confirm_line(&self, offer: &Offer) -> String {
        match offer.at_most.rows {
            Some(_) => {
                "To run it whole, in one transaction that is rolled back if it changes more:"
                    .to_owned()
            }
            None if self.facts.outside_transaction_only => "To run it as it is:".to_owned(),
            None => "To run it whole:".to_owned(),
        }
    }
}

fn cover(at_most: AtMost) -> String {
    match (at_most.rows, at_most.cascade) {
        (Some(rows), Some(cascade)) if cascade > 0 => {
            format!(", for at most {} + {} rows", number(rows), number(cascade))
        }
        (Some(1), _) => ", for at most 1 row".to_owned(),
        (Some(rows), _) => format!(", for at most {} rows", number(rows)),
        (None, _) => String::new(),
    }
}

fn told(judged: &Judged) -> String {
    match judged.finding.message.is_empty() {
        true => judged.finding.rule.to_owned(),
        false => format!(
            "{} ({})",
            judged.finding.rule,
            plain(&judged.finding.message)
        ),
    }
}

fn table_name(change: &Change, evidence: &ChangeEvidence) -> String {
    match evidence.table.known() {
        Some(table) => plain(&quote::shown(&table.schema, &table.name).written),
        None => plain(&change.target.written),
    }
}

fn change_message(change: &Change, evidence: &ChangeEvidence) -> String {
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
        Verb::Insert => format!("insert {rows} {unit} into {name}"),
        Verb::CopyIn => format!("copy {rows} {unit} into {name}"),
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
            let verb = if change.verb == Verb::Update {
                "update"
            } else {
                "delete"
            };
            match total {
                Some((of, share)) => format!("{verb} {rows} of {of} rows of {name}{share}"),
                None => format!("{verb} {rows} {unit} of {name}"),
            }
        }
    };
    format!("{what}{}", by_cascade(evidence))
}

/// "about 4,012,331", " (0.3 %)": all rows of the table, where that is known and does not contradict the count.
fn total(evidence: &ChangeEvidence) -> Option<(String, String)> {
    let (table, rows) = (evidence.table.known()?, evidence.rows.known()?);
    let (all, words) = match (table.exact_rows, table.estimated_rows) {
        (Some(all), _) => (all, number(all)),
        (None, Some(all)) => (all, format!("about {}", number(all))),
        (None, None) => return None,
    };
    if all == 0 || rows.number() > all {
        return None;
    }
    let share = match rows {
        Rows::AtLeast(_) => String::new(),
        _ => format!(" ({})", percent(rows.number(), all)),
    };
    Some((words, share))
}

fn by_cascade(evidence: &ChangeEvidence) -> String {
    let Known::Known(branches) = &evidence.cascade else {
        return match &evidence.cascade {
            Known::Unknown(_) => ", and an unknown number of rows more by cascade".to_owned(),
            _ => String::new(),
        };
    };
    let mut sum = Some(Rows::Exact(0));
    for branch in branches {
        sum = sum.and_then(|sum| add_branch(sum, branch));
    }
    match sum {
        None => ", and an unknown number of rows more by cascade".to_owned(),
        Some(Rows::Exact(0)) => String::new(),
        Some(rows) if rows.number() == 1 => format!(", and {} row more by cascade", amount(rows)),
        Some(rows) => format!(", and {} rows more by cascade", amount(rows)),
    }
}

/// The sum is known no better than its weakest part.
fn add_branch(sum: Rows, branch: &Cascade) -> Option<Rows> {
    let mut sum = add(sum, *branch.rows.known()?);
    if branch.stopped.is_some() {
        sum = add(sum, Rows::AtLeast(0));
    }
    branch.below.iter().try_fold(sum, add_branch)
}

fn add(a: Rows, b: Rows) -> Rows {
    let n = a.number().saturating_add(b.number());
    match (a, b) {
        (Rows::Estimate(_), _) | (_, Rows::Estimate(_)) => Rows::Estimate(n),
        // At least some and at most others: neither holds of the sum.
        (Rows::AtLeast(_), Rows::AtMost(_)) | (Rows::AtMost(_), Rows::AtLeast(_)) => {
            Rows::Estimate(n)
        }
        (Rows::AtLeast(_), _) | (_, Rows::AtLeast(_)) => Rows::AtLeast(n),
        (Rows::AtMost(_), _) | (_, Rows::AtMost(_)) => Rows::AtMost(n),
        (Rows::Exact(_), Rows::Exact(_)) => Rows::Exact(n),
    }
}

fn change_lines(
    change: &Change,
    evidence: &ChangeEvidence,
    sizes: &Sizes,
    lines: &mut Vec<String>,
) {
    if let Known::Unknown(why) = &evidence.rows {
        lines.push(format!("  rows: unknown: {}", plain(why)));
    }
    match &evidence.cascade {
        Known::Known(branches) if !branches.is_empty() => tree(change, evidence, branches, lines),
        Known::Unknown(why) => lines.push(format!("  by cascade: unknown: {}", plain(why))),
        _ => {}
    }
    if let Some(table) = evidence.table.known() {
        fires(change, table, lines);
    }
    match &evidence.scan {
        Known::Known(scan) => lines.push(format!("  reads: {}", plain(scan))),
        Known::Unknown(why) if Some(why) != unknown(&evidence.rows) => {
            lines.push(format!("  reads: unknown: {}", plain(why)))
        }
        _ => {}
    }
    match &evidence.sample {
        Known::Known(sample) => sample_lines(sample, sizes, lines),
        Known::Unknown(why) if Some(why) != unknown(&evidence.rows) => {
            lines.push(format!("  first rows: unknown: {}", plain(why)))
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

/// A line of the tree: name, rows, what happens, by which key.
type Row = [String; 4];

fn tree(change: &Change, evidence: &ChangeEvidence, branches: &[Cascade], lines: &mut Vec<String>) {
    let verb = match change.verb {
        Verb::Delete => "delete",
        Verb::Update => "update",
        Verb::Merge { .. } => "merge",
        Verb::Insert | Verb::CopyIn => "insert",
    };
    let rows = evidence
        .rows
        .known()
        .map_or_else(|| "unknown".to_owned(), |rows| short_amount(*rows));
    let name = table_name(change, evidence);
    let mut drawn = vec![[name, rows, verb.to_owned(), String::new()]];
    let mut notes = Vec::new();
    let deletes =
        change.verb == Verb::Delete || matches!(change.verb, Verb::Merge { deletes: true, .. });
    branches
        .iter()
        .for_each(|branch| branch_rows(branch, 0, deletes, &mut drawn, &mut notes));
    let more = drawn.len().saturating_sub(limits::PREVIEW_LINES);
    drawn.truncate(limits::PREVIEW_LINES);
    let width = |at: usize| {
        drawn
            .iter()
            .filter_map(|row| row.get(at))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let (name, rows, verb) = (width(0), width(1), width(2));
    for [a, b, c, d] in &drawn {
        lines.push(
            format!("  {a:<name$}  {b:>rows$}   {c:<verb$}   {d}")
                .trim_end()
                .to_owned(),
        );
    }
    if more > 0 {
        lines.push(format!("  … and {} branches more", number(more as u64)));
    }
    notes.sort();
    notes.dedup();
    notes.truncate(limits::PREVIEW_LINES);
    lines.extend(notes);
}

fn branch_rows(
    branch: &Cascade,
    depth: usize,
    by_delete: bool,
    drawn: &mut Vec<Row>,
    notes: &mut Vec<String>,
) {
    let key = &branch.key;
    let child = plain(&key.child.written);
    let (event, verb) = match (by_delete && key.on_delete == branch.action, branch.action) {
        (true, Action::Cascade) => ("ON DELETE", "delete"),
        (false, Action::Cascade) => ("ON UPDATE", "update"),
        (true, Action::SetNull) => ("ON DELETE", "set null"),
        (false, Action::SetNull) => ("ON UPDATE", "set null"),
        (true, _) => ("ON DELETE", "set default"),
        (false, _) => ("ON UPDATE", "set default"),
    };
    let action = match branch.action {
        Action::Cascade => "CASCADE",
        Action::SetNull => "SET NULL",
        Action::SetDefault => "SET DEFAULT",
        Action::Restrict => "RESTRICT",
        Action::NoAction => "NO ACTION",
    };
    let rows = branch
        .rows
        .known()
        .map_or_else(|| "unknown".to_owned(), |rows| short_amount(*rows));
    let happens = if branch.rows == Known::Known(Rows::Exact(0)) {
        String::new()
    } else {
        verb.to_owned()
    };
    drawn.push([
        format!("{}└ {child}", "  ".repeat(depth)),
        rows,
        happens,
        format!("{} {event} {action}", plain(&key.name)),
    ]);
    if let Known::Unknown(why) = &branch.rows {
        notes.push(format!("  unknown: {child}: {}", plain(why)));
    }
    if let Some(why) = &branch.stopped {
        notes.push(format!(
            "  not followed further below {child}: {}",
            plain(why)
        ));
    }
    if !key.child_indexed {
        let columns = plain(&key.child_columns.join(", "));
        notes.push(format!(
            "  no index on {child} ({columns}): every row above reads the whole table"
        ));
    }
    let deletes = by_delete && branch.action == Action::Cascade && event == "ON DELETE";
    branch
        .below
        .iter()
        .for_each(|below| branch_rows(below, depth + 1, deletes, drawn, notes));
}

fn fires(change: &Change, table: &Table, lines: &mut Vec<String>) {
    let fired = table.triggers.iter().filter(|trigger| match change.verb {
        Verb::Insert | Verb::CopyIn => {
            trigger.on_insert || (trigger.on_update && !change.assignments.is_empty())
        }
        Verb::Update => trigger.on_update,
        Verb::Delete => trigger.on_delete,
        Verb::Merge { updates, deletes } => {
            trigger.on_insert || (trigger.on_update && updates) || (trigger.on_delete && deletes)
        }
    });
    let names: Vec<String> = fired
        .map(|trigger| format!("{} ({})", plain(&trigger.name), plain(&trigger.when)))
        .collect();
    if !names.is_empty() {
        let more = names.len().saturating_sub(limits::PREVIEW_LINES);
        let shown: Vec<String> = names.into_iter().take(limits::PREVIEW_LINES).collect();
        let rest = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        lines.push(format!("  fires: {}{rest}", shown.join(", ")));
    }
}

/// A table with a line of headings; columns that do not fit are counted.
fn sample_lines(sample: &Sample, sizes: &Sizes, lines: &mut Vec<String>) {
    let rows: Vec<&Vec<Option<String>>> = sample
        .rows
        .iter()
        .take(usize::try_from(sizes.sample_rows).unwrap_or(usize::MAX))
        .collect();
    if rows.is_empty() {
        return;
    }
    let cell = |row: &[Option<String>], at: usize| match row.get(at) {
        Some(Some(value)) => cut(&plain(value)),
        _ => "NULL".to_owned(),
    };
    let (mut columns, mut used) = (Vec::new(), 0);
    for (at, heading) in sample.columns.iter().enumerate() {
        let heading = cut(&plain(heading));
        let cells: Vec<String> = rows.iter().map(|row| cell(row, at)).collect();
        let width = cells
            .iter()
            .chain([&heading])
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0);
        if used + width > limits::SAMPLE_CHARS && !columns.is_empty() {
            break;
        }
        used += width + 3;
        columns.push((heading, cells, width));
    }
    lines.push(format!(
        "  first {}:",
        if rows.len() == 1 {
            "row".to_owned()
        } else {
            format!("{} rows", rows.len())
        }
    ));
    let line = |cells: Vec<(&String, usize)>| {
        let cells: Vec<String> = cells
            .into_iter()
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        format!("   {}", cells.join(" | ").trim_end())
    };
    lines.push(line(
        columns
            .iter()
            .map(|(heading, _, width)| (heading, *width))
            .collect(),
    ));
    for at in 0..rows.len() {
        lines.push(line(
            columns
                .iter()
                .filter_map(|(_, cells, width)| Some((cells.get(at)?, *width)))
                .collect(),
        ));
    }
    let more = sample.columns.len() - columns.len();
    if more > 0 {
        lines.push(format!("   … and {more} columns more"));
    }
}

fn cut(cell: &str) -> String {
    if cell.chars().count() <= limits::CELL_CHARS + 1 {
        return cell.to_owned();
    }
    cell.chars().take(limits::CELL_CHARS).chain(['…']).collect()
}

fn removal_message(removal: &Removal, evidence: &RemovalEvidence) -> String {
    let name = plain(&removal.name.written);
    let what = match &removal.what {
        Removed::Rows => format!("truncate {name}"),
        Removed::Table => format!("drop table {name}"),
        Removed::Column(column) => format!("drop column {} of {name}", plain(column)),
        Removed::Schema => format!("drop schema {name}"),
        Removed::Database => format!("drop database {name}"),
        Removed::Partition(partition) => format!("take partition {} from {name}", plain(partition)),
        Removed::MaterializedView => format!("drop materialized view {name}"),
        Removed::Tablespace => format!("drop tablespace {name}"),
        Removed::Other(kind) => format!("drop {} {name}", plain(kind)),
    };
    let Known::Known(tables) = &evidence.tables else {
        return match &evidence.tables {
            Known::Unknown(_) => format!("{what}, with an unknown number of rows"),
            _ => what,
        };
    };
    if removal.what == Removed::Database {
        return format!(
            "{what}, {}",
            bytes(
                tables
                    .iter()
                    .fold(0, |sum, table| sum.saturating_add(table.bytes))
            )
        );
    }
    let rows = tables
        .iter()
        .fold(Rows::Exact(0), |sum, table| add(sum, table.rows));
    let size = tables
        .iter()
        .fold(0u64, |sum, table| sum.saturating_add(table.bytes));
    let size = if size > 0 {
        format!(", {}", bytes(size))
    } else {
        String::new()
    };
    let unit = if rows.number() == 1 { "row" } else { "rows" };
    let named = usize::from(removal.what != Removed::Schema);
    let more = match tables.len().saturating_sub(named) {
        0 => String::new(),
        1 => format!(", in {} tables", tables.len()).replace("1 tables", "1 table"),
        _ => format!(", in {} tables", number(tables.len() as u64)),
    };
    if tables.is_empty() {
        return what;
    }
    let values = if matches!(removal.what, Removed::Column(_)) {
        "with values in"
    } else {
        "with"
    };
    format!("{what}, {values} {} {unit}{size}{more}", amount(rows))
}

fn removal_lines(evidence: &RemovalEvidence, lines: &mut Vec<String>) {
    match &evidence.tables {
        Known::Known(tables) if tables.len() > 1 => {
            let shown: Vec<Row> = tables
                .iter()
                .take(limits::PREVIEW_LINES)
                .map(removed_row)
                .collect();
            let width = |at: usize| {
                shown
                    .iter()
                    .filter_map(|row| row.get(at))
                    .map(|cell| cell.chars().count())
                    .max()
                    .unwrap_or(0)
            };
            let (name, rows, size) = (width(0), width(1), width(2));
            for [a, b, c, d] in &shown {
                lines.push(
                    format!("  {a:<name$}  {b:>rows$}  {c:>size$}   {d}")
                        .trim_end()
                        .to_owned(),
                );
            }
            if tables.len() > shown.len() {
                lines.push(format!(
                    "  … and {} tables more",
                    number((tables.len() - shown.len()) as u64)
                ));
            }
        }
        Known::Unknown(why) => lines.push(format!("  rows: unknown: {}", plain(why))),
        _ => {}
    }
    if let Known::Known(dependents) = &evidence.dependents {
        lines.extend(
            dependents
                .iter()
                .take(limits::PREVIEW_LINES)
                .map(|dependent| format!("  also goes: {}", plain(dependent))),
        );
        if dependents.len() > limits::PREVIEW_LINES {
            lines.push(format!(
                "  … and {} objects more",
                number((dependents.len() - limits::PREVIEW_LINES) as u64)
            ));
        }
    }
}

fn removed_row(table: &crate::policy::question::RemovedTable) -> Row {
    let because = table.because.as_deref().map(plain).unwrap_or_default();
    [
        plain(&table.name.written),
        short_amount(table.rows),
        bytes(table.bytes),
        because,
    ]
}

/// Whole lines up to the bound; what is cut is said.
fn bounded(lines: Vec<String>) -> String {
    let mut out = String::new();
    let count = lines.len();
    for (at, line) in lines.into_iter().enumerate() {
        if out.len() + line.len() > limits::PREVIEW_BYTES {
            out.push_str(&format!("… {} lines more were cut off", count - at));
            break;
        }
        out.push_str(&line);
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out
}
