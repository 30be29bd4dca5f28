//! Stand-in.
use crate::sql::facts::Change;
use crate::sql::statement::LexicalMode;
fn body(text: &str, change: &Change) -> Option<(String, String)> {
    let c = change.clauses.as_ref()?;
    let with = match &c.with {
        Some(w) => format!("{} ", text.get(w.clone())?),
        None => String::new(),
    };
    let target = text.get(c.target.clone())?;
    let cond = match &c.condition {
        Some(r) => format!("({})", text.get(r.clone())?),
        None => "true".into(),
    };
    let cond = match &c.from {
        Some(f) => format!("EXISTS (SELECT FROM {} WHERE {cond})", text.get(f.clone())?),
        None => cond,
    };
    Some((with, format!("FROM {target} WHERE {cond}")))
}
pub fn count_text(
    text: &str,
    _: LexicalMode,
    change: &Change,
    limit: Option<u64>,
) -> Option<String> {
    let (with, body) = body(text, change)?;
    Some(format!(
        "{with}SELECT pg_catalog.count(*) FROM (SELECT 1 {body} LIMIT {}) AS sluice_c",
        limit.unwrap_or(u64::MAX / 2)
    ))
}
pub fn sample_text(text: &str, _: LexicalMode, change: &Change, rows: u64) -> Option<String> {
    let (with, body) = body(text, change)?;
    Some(format!(
        "{with}SELECT {}.* {body} LIMIT {rows}",
        change.called
    ))
}
pub fn keys_text(
    text: &str,
    _: LexicalMode,
    change: &Change,
    columns: &[String],
) -> Option<String> {
    let (with, body) = body(text, change)?;
    let list: Vec<String> = columns
        .iter()
        .map(|c| format!("{}.\"{}\"", change.called, c.replace('"', "\"\"")))
        .collect();
    Some(format!("{with}SELECT {} {body}", list.join(", ")))
}
