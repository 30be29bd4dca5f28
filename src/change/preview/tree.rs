//! What foreign keys carry on, drawn as a tree, with what its counts do not say.
//!
//! Invariant: every branch has its rows or "unknown" with the reason below the tree, unless it is that of the change's own rows;
//! branches that are not drawn are counted.

use crate::change::preview::change::table_name;
use crate::change::preview::words::{self, plain, short_amount, wrapped};
use crate::ground::limits;
use crate::policy::question::{Action, Cascade, ChangeEvidence, Known, Rows};
use crate::sql::facts::{Change, OnConflict, Verb};

/// A line of the tree: name, rows, what happens, by which key.
type Row = [String; 4];

pub fn lines(change: &Change, evidence: &ChangeEvidence, branches: &[Cascade], out: &mut Vec<String>) {
    let verb = match change.verb {
        Verb::Delete => "delete",
        Verb::Update => "update",
        Verb::Merge { .. } => "merge",
        Verb::Insert | Verb::CopyIn if change.on_conflict == OnConflict::Replaces => "replace",
        Verb::Insert | Verb::CopyIn => "insert",
    };
    let rows = evidence.rows.known().map_or_else(|| "unknown".to_owned(), |rows| short_amount(*rows));
    let name = table_name(change, evidence);
    let mut drawn = vec![[name, rows, verb.to_owned(), String::new()]];
    let mut notes = Notes::default();
    let deletes = matches!(change.verb, Verb::Delete | Verb::Merge { deletes: true, .. })
        || change.on_conflict == OnConflict::Replaces;
    branches.iter().for_each(|branch| branch_rows(branch, 0, deletes, &mut drawn, &mut notes));
    let more = drawn.len().saturating_sub(limits::PREVIEW_LINES);
    drawn.truncate(limits::PREVIEW_LINES);
    let width =
        |at: usize| drawn.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let (name, rows, verb) = (width(0), width(1), width(2));
    for [a, b, c, d] in &drawn {
        out.push(format!("  {a:<name$}  {b:>rows$}   {c:<verb$}   {d}").trim_end().to_owned());
    }
    if more > 0 {
        out.push(format!("  … and {}", words::more(more, "line")));
    }
    // What makes the change itself unknown was said of its rows.
    let own = |why: &String| matches!(&evidence.rows, Known::Unknown(own) if own == why);
    for (why, children) in notes.unknown.iter().filter(|(why, _)| !own(why)).take(limits::PREVIEW_LINES) {
        wrapped("  unknown: ", &format!("{}: {}", children.join(", "), plain(why)), out);
    }
    notes.others.truncate(limits::PREVIEW_LINES);
    notes.others.iter().for_each(|note| wrapped("  ", note, out));
}

/// What the tree's counts do not say.
#[derive(Default)]
struct Notes {
    /// Each reason once, with the tables that it holds for.
    unknown: Vec<(String, Vec<String>)>,
    others: Vec<String>,
}

impl Notes {
    fn unknown(&mut self, why: &str, child: &str) {
        match self.unknown.iter_mut().find(|(said, _)| said == why) {
            Some((_, children)) if children.iter().any(|said| said == child) => {}
            Some((_, children)) => children.push(child.to_owned()),
            None => self.unknown.push((why.to_owned(), vec![child.to_owned()])),
        }
    }

    fn other(&mut self, note: String) {
        if !self.others.contains(&note) {
            self.others.push(note);
        }
    }
}

fn branch_rows(branch: &Cascade, depth: usize, by_delete: bool, drawn: &mut Vec<Row>, notes: &mut Notes) {
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
    let rows = branch.rows.known().map_or_else(|| "unknown".to_owned(), |rows| short_amount(*rows));
    let happens = if branch.rows == Known::Known(Rows::Exact(0)) { String::new() } else { verb.to_owned() };
    drawn.push([
        format!("{}└ {child}", "  ".repeat(depth)),
        rows,
        happens,
        format!("{} {event} {action}", plain(&key.name)),
    ]);
    if let Known::Unknown(why) = &branch.rows {
        notes.unknown(why, &child);
    }
    if let Some(why) = &branch.stopped {
        notes.other(format!("not followed further below {child}: {}", plain(why)));
    }
    if !key.child_indexed {
        let columns = plain(&key.child_columns.join(", "));
        notes.other(format!("no index on {child} ({columns}): every row above reads the whole table"));
    }
    let deletes = by_delete && branch.action == Action::Cascade && event == "ON DELETE";
    branch.below.iter().for_each(|below| branch_rows(below, depth + 1, deletes, drawn, notes));
}
