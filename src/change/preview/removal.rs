//! What goes away with TRUNCATE and DROP, in words and as a list.
//!
//! Invariant: a list that is shortened says by how much; a sum is known no better than its weakest part.

use crate::change::preview::words::{
    self, amount, bytes, number, plain, rows_together, short_amount, some_of, sum, wrapped,
};
use crate::ground::limits;
use crate::policy::question::{Known, RemovalEvidence, RemovedTable, Rows};
use crate::sql::facts::{Removal, Removed};
use crate::sql::statement::Product;
use std::mem::discriminant;

/// A line of the list: name, rows, size, why.
type Row = [String; 4];

pub fn message(removal: &Removal, evidence: &RemovalEvidence) -> String {
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
        return format!("{what}, {}", bytes(tables.iter().fold(0, |sum, table| sum.saturating_add(table.bytes))));
    }
    let rows = tables.iter().fold(Rows::Exact(0), |rows, table| sum(rows, table.rows));
    let size = tables.iter().fold(0u64, |sum, table| sum.saturating_add(table.bytes));
    let size = if size > 0 { format!(", {}", bytes(size)) } else { String::new() };
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
    let values = if matches!(removal.what, Removed::Column(_)) { "with values in" } else { "with" };
    format!("{what}, {values} {} {unit}{size}{more}", amount(rows))
}

/// Several removals of one statement, what they hold added up; what two of them take along goes once.
pub fn together(removals: &[(&Removal, &RemovalEvidence)]) -> String {
    let count = number(removals.len() as u64);
    let first = removals.first().map(|(removal, _)| &removal.what);
    let alike =
        |(removal, _): &(&Removal, _)| first.is_some_and(|what| discriminant(what) == discriminant(&removal.what));
    let what = match first.filter(|_| removals.iter().all(alike)) {
        Some(Removed::Rows) => format!("truncate {count} tables"),
        Some(Removed::Table) => format!("drop {count} tables"),
        Some(Removed::Column(_)) => format!("drop {count} columns"),
        Some(Removed::Schema) => format!("drop {count} schemas"),
        Some(Removed::Partition(_)) => format!("take away {count} partitions"),
        Some(Removed::MaterializedView) => format!("drop {count} materialized views"),
        _ => format!("drop {count} objects"),
    };
    let mut tables: Vec<&RemovedTable> = Vec::new();
    for table in removals.iter().flat_map(|(_, evidence)| evidence.tables.known().into_iter().flatten()) {
        let column = matches!(first, Some(Removed::Column(_)));
        if column || !tables.iter().any(|seen| seen.name == table.name) {
            tables.push(table);
        }
    }
    let unknown = removals.iter().any(|(_, evidence)| matches!(evidence.tables, Known::Unknown(_)));
    let rows = tables.iter().map(|table| Some(table.rows)).chain(unknown.then_some(None));
    let size = tables.iter().fold(0u64, |sum, table| sum.saturating_add(table.bytes));
    let size = if size > 0 { format!(", {}", bytes(size)) } else { String::new() };
    let held = match (tables.is_empty() && !unknown, first) {
        (true, _) => String::new(),
        (false, Some(Removed::Column(_))) => format!(" with values in {}{size}", rows_together(rows)),
        (false, _) => format!(" with {}{size}", rows_together(rows)),
    };
    let along = match tables.len() > removals.len() {
        true => format!(", in {} tables", number(tables.len() as u64)),
        false => String::new(),
    };
    let names: Vec<String> = removals.iter().map(|(removal, _)| named(removal)).collect();
    format!("{what}{held}{along}: {}", some_of(&names))
}

fn named(removal: &Removal) -> String {
    match &removal.what {
        Removed::Column(part) | Removed::Partition(part) => {
            format!("{} of {}", plain(part), plain(&removal.name.written))
        }
        _ => plain(&removal.name.written),
    }
}

pub fn lines(evidence: &RemovalEvidence, product: Product, out: &mut Vec<String>) {
    match &evidence.tables {
        Known::Known(tables) if tables.len() > 1 => {
            let shown: Vec<Row> = tables.iter().take(limits::PREVIEW_LINES).map(removed_row).collect();
            let width = |at: usize| {
                shown.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0)
            };
            let (name, rows, size) = (width(0), width(1), width(2));
            for [a, b, c, d] in &shown {
                out.push(format!("  {a:<name$}  {b:>rows$}  {c:>size$}   {d}").trim_end().to_owned());
            }
            if tables.len() > shown.len() {
                out.push(format!("  … and {}", words::more(tables.len() - shown.len(), "table")));
            }
        }
        Known::Unknown(why) => wrapped("  rows: unknown: ", &plain(why), out),
        _ => {}
    }
    if !evidence.refused_for.is_empty() {
        let keys: Vec<String> = evidence.refused_for.iter().map(|key| plain(key)).collect();
        let refused = product.either(
            "  the server will refuse this without CASCADE: ",
            "  the server will refuse this, as these refer to it: ",
        );
        wrapped(refused, &some_of(&keys), out);
    }
    if let Known::Known(dependents) = &evidence.dependents {
        let shown = dependents.iter().take(limits::PREVIEW_LINES);
        shown.for_each(|dependent| wrapped("  also goes: ", &plain(dependent), out));
        if dependents.len() > limits::PREVIEW_LINES {
            out.push(format!("  … and {}", words::more(dependents.len() - limits::PREVIEW_LINES, "object")));
        }
    }
}

fn removed_row(table: &RemovedTable) -> Row {
    let because = table.because.as_deref().map(plain).unwrap_or_default();
    [plain(&table.name.written), short_amount(table.rows), bytes(table.bytes), because]
}
