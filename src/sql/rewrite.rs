//! Questions made from a change: how many rows it would touch, which they are, what they would become.
//!
//! Invariant: every text handed out was read back and is exactly one SELECT that changes and sets nothing; parameters keep their
//! numbers. The parts are spliced from the client's own text, so names and operators mean what they mean there. In doubt: `None`.

use crate::sql::dialect::postgres::{is_one_read, quoted};
use crate::sql::facts::{Change, Clauses, Verb};
use crate::sql::lexer::{Kind, Lexer};
use crate::sql::statement::LexicalMode;

/// How many rows of the target the change would touch; counting stops after `limit`. A row that a join meets twice counts once.
pub fn count_text(text: &str, mode: LexicalMode, change: &Change, limit: Option<u64>) -> Option<String> {
    let parts = Parts::of(text, change)?;
    let row = match parts.joined {
        true => format!("DISTINCT {0}.tableoid, {0}.ctid", change.called),
        false => String::from("1"),
    };
    let limit = limit.map(|limit| format!(" LIMIT {limit}")).unwrap_or_default();
    checked(format!("{}SELECT pg_catalog.count(*) FROM (SELECT {row} {}{limit}) AS sluice_rows", parts.with, parts.body), mode)
}

/// Some of the rows: DELETE shows the target's columns; UPDATE besides, for each assignment with an expression of its own, a column
/// named `col →` with the new value.
pub fn sample_text(text: &str, mode: LexicalMode, change: &Change, rows: u64) -> Option<String> {
    let parts = Parts::of(text, change)?;
    let is_default = |value: &str| value.trim().eq_ignore_ascii_case("default");
    let new_values = change.assignments.iter().filter_map(|assignment| {
        let value = assignment.value.as_deref().filter(|value| !is_default(value))?;
        // The line break ends a comment that the expression may end in.
        Some(format!(", ({value}\n) AS {}", always_quoted(&format!("{} →", assignment.column))))
    });
    let new_values: String = if change.verb == Verb::Update { new_values.collect() } else { String::new() };
    let once = if parts.joined { format!("DISTINCT ON ({0}.tableoid, {0}.ctid) ", change.called) } else { String::new() };
    checked(format!("{}SELECT {once}{}.*{new_values} {} LIMIT {rows}", parts.with, change.called, parts.body), mode)
}

/// The given columns of the rows the change would touch, fit to stand inside `IN (…)`.
pub fn keys_text(text: &str, mode: LexicalMode, change: &Change, columns: &[String]) -> Option<String> {
    let parts = Parts::of(text, change)?;
    if columns.is_empty() {
        return None;
    }
    let columns: Vec<String> = columns.iter().map(|column| format!("{}.{}", change.called, always_quoted(column))).collect();
    checked(format!("{}SELECT {} {}", parts.with, columns.join(", "), parts.body), mode)
}

/// A prepared text with what EXECUTE gives it: each `$n` becomes its argument, cast to the type that the server found for it.
/// `None` where there is no argument for a parameter.
pub fn with_arguments(text: &str, mode: LexicalMode, arguments: &[String], types: &[String]) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for token in Lexer::new(text, mode).filter(|token| matches!(token.kind, Kind::Parameter)) {
        let span = token.span();
        let number: usize = token.text(text).strip_prefix('$')?.parse().ok()?;
        let (argument, kind) = (arguments.get(number.checked_sub(1)?)?, types.get(number - 1)?);
        out.push_str(text.get(from..span.start)?);
        // The line break ends a comment that the argument may end in.
        out.push_str(&format!("CAST(({argument}\n) AS {kind})"));
        from = span.end;
    }
    out.push_str(text.get(from..)?);
    Some(out)
}

struct Parts {
    /// With a space behind it, or empty.
    with: String,
    /// `FROM … [WHERE …]`
    body: String,
    joined: bool,
}

impl Parts {
    fn of(text: &str, change: &Change) -> Option<Parts> {
        if !matches!(change.verb, Verb::Update | Verb::Delete) {
            return None;
        }
        let Clauses { with, target, from, condition } = change.clauses.as_ref()?;
        let with = match with {
            Some(with) => format!("{}\n", text.get(with.clone())?),
            None => String::new(),
        };
        let mut body = format!("FROM {}", text.get(target.clone())?);
        if let Some(from) = from {
            body.push_str(&format!(", {}", text.get(from.clone())?));
        }
        if let Some(condition) = condition {
            body.push_str(&format!(" WHERE ({}\n)", text.get(condition.clone())?));
        }
        Some(Parts { with, body, joined: from.is_some() })
    }
}

fn checked(text: String, mode: LexicalMode) -> Option<String> {
    is_one_read(&text, mode).then_some(text)
}

/// Column names are always quoted: a name that is fine as a column may not be one after a dot.
fn always_quoted(name: &str) -> String {
    let quoted = quoted(name);
    if quoted.starts_with('"') { quoted } else { format!("\"{quoted}\"") }
}
