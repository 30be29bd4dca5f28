//! Numbers, sizes, times and foreign text as a preview writes them.
//!
//! Invariant: what [`plain`] returns stands on one line and moves nothing on a terminal.

use crate::policy::count;
use crate::policy::question::Rows;
use std::time::Duration;

/// Width of a line that is not a row of a table: what a terminal shows without breaking it.
pub const LINE_CHARS: usize = 100;

/// 4,012,331
pub fn number(n: u64) -> String {
    count::grouped(n)
}

/// "1 column more", "2 columns more"
pub fn more(n: usize, unit: &str) -> String {
    format!("{} {unit}{} more", number(n as u64), if n == 1 { "" } else { "s" })
}

/// "1 row", "12,480 rows"
pub fn counted(n: u64) -> String {
    format!("{} {}", number(n), if n == 1 { "row" } else { "rows" })
}

/// In a sentence.
pub fn amount(rows: Rows) -> String {
    match rows {
        // Nothing was learned of how many there are.
        Rows::AtLeast(0) => "an unknown number of".to_owned(),
        Rows::Exact(n) => number(n),
        Rows::AtMost(n) => format!("at most {}", number(n)),
        Rows::AtLeast(n) => format!("at least {}", number(n)),
        Rows::Estimate(n) => format!("an estimated {}", number(n)),
    }
}

/// In a table.
pub fn short_amount(rows: Rows) -> String {
    match rows {
        Rows::Estimate(n) => format!("estimate {}", number(n)),
        Rows::AtLeast(0) => "unknown".to_owned(),
        rows => amount(rows),
    }
}

/// A sum is known no better than its weakest part.
pub fn sum(a: Rows, b: Rows) -> Rows {
    let n = a.number().saturating_add(b.number());
    match (a, b) {
        (Rows::Estimate(_), _) | (_, Rows::Estimate(_)) => Rows::Estimate(n),
        // At least some and at most others: neither holds of the sum.
        (Rows::AtLeast(_), Rows::AtMost(_)) | (Rows::AtMost(_), Rows::AtLeast(_)) => Rows::Estimate(n),
        (Rows::AtLeast(_), _) | (_, Rows::AtLeast(_)) => Rows::AtLeast(n),
        (Rows::AtMost(_), _) | (_, Rows::AtMost(_)) => Rows::AtMost(n),
        (Rows::Exact(_), Rows::Exact(_)) => Rows::Exact(n),
    }
}

/// "1,002 rows", with what is not known of it said.
pub fn rows_together(parts: impl Iterator<Item = Option<Rows>>) -> String {
    let (mut all, mut unknown, mut known) = (Rows::Exact(0), false, false);
    for part in parts {
        match part {
            Some(rows) => (all, known) = (sum(all, rows), true),
            None => unknown = true,
        }
    }
    let rows = format!("{} {}", amount(all), if all.number() == 1 { "row" } else { "rows" });
    match (known && all.number() > 0, unknown) {
        (_, false) => rows,
        (true, true) => format!("{rows} and an unknown number more"),
        (false, true) => "an unknown number of rows".to_owned(),
    }
}

/// The first few names, and how many more there are: a message is one line.
pub fn some_of(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names.get(..SHOWN).unwrap_or(names).join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// "0.3 %". Neither 0 nor 100 is said of a share that is only near it.
pub fn percent(part: u64, all: u64) -> String {
    let share = part as f64 * 100.0 / all as f64;
    match part {
        0 => "0 %".to_owned(),
        part if part == all => "100 %".to_owned(),
        _ if share < 0.1 => "under 0.1 %".to_owned(),
        _ if share > 99.9 => "over 99.9 %".to_owned(),
        _ if share < 10.0 => format!("{share:.1} %"),
        _ => format!("{share:.0} %"),
    }
}

pub fn bytes(n: u64) -> String {
    let units = ["kB", "MB", "GB", "TB", "PB"];
    let (mut size, mut unit) = (n as f64, "bytes");
    for next in units {
        if size < 1000.0 {
            break;
        }
        (size, unit) = (size / 1024.0, next);
    }
    if size < 10.0 && unit != "bytes" { format!("{size:.1} {unit}") } else { format!("{size:.0} {unit}") }
}

/// "10 minutes"
pub fn lasting(time: Duration) -> String {
    let seconds = time.as_secs();
    let (n, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7200 => (seconds / 60, "minute"),
        _ => (seconds / 3600, "hour"),
    };
    format!("{n} {unit}{}", if n == 1 { "" } else { "s" })
}

/// Text from outside on one line, with everything that could steer a terminal or reorder the line written out.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || steers(c) => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// A sentence broken at blanks, so that no line is wider than a terminal; later lines stand below the first one's text.
pub fn wrapped(heading: &str, text: &str, out: &mut Vec<String>) {
    let indent = heading.chars().count();
    let mut line = heading.to_owned();
    let mut used = indent;
    for word in text.split(' ') {
        let wide = word.chars().count();
        if used > indent && used + 1 + wide > LINE_CHARS {
            out.push(std::mem::replace(&mut line, " ".repeat(indent)));
            used = indent;
        }
        if used > indent {
            line.push(' ');
            used += 1;
        }
        line.push_str(word);
        used += wide;
    }
    out.push(line);
}

/// Marks that are not seen but change what is: directions, joins, separators.
fn steers(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (n, said) in [(0, "0"), (999, "999"), (1_000, "1,000"), (4_012_331, "4,012,331")] {
            assert_eq!(number(n), said);
        }
        for (part, all, said) in [
            (12_480, 4_012_331, "0.3 %"),
            (0, 5, "0 %"),
            (1, 1_000_000, "under 0.1 %"),
            (999_999, 1_000_000, "over 99.9 %"),
            (5, 5, "100 %"),
            (1, 3, "33 %"),
        ] {
            assert_eq!(percent(part, all), said);
        }
        for (n, said) in [(0, "0 bytes"), (999, "999 bytes"), (8192, "8.0 kB"), (1_288_490_189, "1.2 GB")] {
            assert_eq!(bytes(n), said);
        }
        for (seconds, said) in [(1, "1 second"), (600, "10 minutes"), (7200, "2 hours")] {
            assert_eq!(lasting(Duration::from_secs(seconds)), said);
        }
    }

    #[test]
    fn one_is_not_several_and_nothing_known_is_no_number() {
        assert_eq!(
            (more(1, "column"), more(2_000, "scan")),
            ("1 column more".to_owned(), "2,000 scans more".to_owned())
        );
        assert_eq!(rows_together([Some(Rows::AtLeast(0))].into_iter()), "an unknown number of rows");
        assert_eq!(short_amount(Rows::AtLeast(0)), "unknown");
    }

    #[test]
    fn a_long_sentence_is_broken_at_blanks() {
        let mut lines = Vec::new();
        wrapped("  reads: ", &"word ".repeat(40), &mut lines);
        assert!(lines.len() > 1 && lines.iter().all(|line| line.chars().count() <= LINE_CHARS), "{lines:?}");
        assert!(lines[0].starts_with("  reads: word") && lines[1].starts_with("         word"), "{lines:?}");
    }

    #[test]
    fn text_from_outside_steers_nothing() {
        assert_eq!(plain("a\nb\u{1b}[2J\u{202e}c"), "a\\nb\\u{1b}[2J\\u{202e}c");
    }
}
