//! The first rows, drawn as a table.
//!
//! Invariant: every cell stands on one line and has a bounded width; columns that do not fit are counted.

use crate::change::preview::words::{self, plain};
use crate::ground::limits;
use crate::policy::question::Sample;
use crate::policy::settings::Sizes;

/// A table with a line of headings; columns that do not fit are counted.
pub fn lines(sample: &Sample, sizes: &Sizes, out: &mut Vec<String>) {
    let rows: Vec<&Vec<Option<String>>> =
        sample.rows.iter().take(usize::try_from(sizes.sample_rows).unwrap_or(usize::MAX)).collect();
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
        let width = cells.iter().chain([&heading]).map(|cell| cell.chars().count()).max().unwrap_or(0);
        if used + width > limits::SAMPLE_CHARS && !columns.is_empty() {
            break;
        }
        used += width + 3;
        columns.push((heading, cells, width));
    }
    out.push(format!("  first {}:", if rows.len() == 1 { "row".to_owned() } else { format!("{} rows", rows.len()) }));
    let line = |cells: Vec<(&String, usize)>| {
        let cells: Vec<String> = cells.into_iter().map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("   {}", cells.join(" | ").trim_end())
    };
    out.push(line(columns.iter().map(|(heading, _, width)| (heading, *width)).collect()));
    for at in 0..rows.len() {
        out.push(line(columns.iter().filter_map(|(_, cells, width)| Some((cells.get(at)?, *width))).collect()));
    }
    let more = sample.columns.len() - columns.len();
    if more > 0 {
        out.push(format!("   … and {}", words::more(more, "column")));
    }
}

fn cut(cell: &str) -> String {
    if cell.chars().count() <= limits::CELL_CHARS + 1 {
        return cell.to_owned();
    }
    cell.chars().take(limits::CELL_CHARS).chain(['…']).collect()
}
