//! Questions made from a change: how many rows it would touch, which they are, what they would become.
//!
//! Invariant: every text handed out was read back and is exactly one SELECT that changes and sets nothing; parameters keep their
//! numbers. The parts are spliced from the client's own text, so names and operators mean what they mean there. In doubt: `None`.

pub mod mysql;

use crate::sql::dialect::{is_one_read, quoted};
use crate::sql::facts::{Change, Clauses, Verb};
use crate::sql::lexer::{self, Kind, Lexer};
use crate::sql::statement::LexicalMode;
use crate::sql::unlocked::without_locks;
use std::collections::HashSet;

/// How many rows of the target the change would touch; counting stops after `limit`. A row that a join meets twice counts once.
pub fn count_text(text: &str, mode: LexicalMode, change: &Change, limit: Option<u64>) -> Option<String> {
    if change.verb == Verb::Insert {
        return count_of_query(text, mode, change, limit);
    }
    let parts = Parts::of(text, mode, change)?;
    let row = match parts.joined {
        true => format!("DISTINCT {0}.tableoid, {0}.ctid", change.called),
        false => String::from("1"),
    };
    let limit = limit.map(|limit| format!(" LIMIT {limit}")).unwrap_or_default();
    checked(
        format!("{}SELECT pg_catalog.count(*) FROM (SELECT {row} {}{limit}) AS sluice_rows", parts.with, parts.body),
        mode,
    )
}

/// How many rows the query of an upsert yields: as many as it inserts and overwrites together.
fn count_of_query(text: &str, mode: LexicalMode, change: &Change, limit: Option<u64>) -> Option<String> {
    let query = without_locks(&format!("({}\n)", text.get(change.clauses.as_ref()?.target.clone())?), mode);
    let limit = limit.map(|limit| format!(" LIMIT {limit}")).unwrap_or_default();
    checked(
        format!("SELECT pg_catalog.count(*) FROM (SELECT 1 FROM {query} AS sluice_source{limit}) AS sluice_rows"),
        mode,
    )
}

/// Some of the rows: DELETE shows the target's columns; UPDATE besides, for each assignment with an expression of its own, a column
/// named `col →` with the new value.
pub fn sample_text(text: &str, mode: LexicalMode, change: &Change, rows: u64) -> Option<String> {
    let parts = Parts::of(text, mode, change)?;
    let is_default = |value: &str| value.trim().eq_ignore_ascii_case("default");
    let new_values = change.assignments.iter().filter_map(|assignment| {
        let value = assignment.value.as_deref().filter(|value| !is_default(value))?;
        // The line break ends a comment that the expression may end in.
        Some(format!(", ({value}\n) AS {}", always_quoted(&format!("{} →", assignment.column))))
    });
    let new_values: String = if change.verb == Verb::Update { new_values.collect() } else { String::new() };
    let once =
        if parts.joined { format!("DISTINCT ON ({0}.tableoid, {0}.ctid) ", change.called) } else { String::new() };
    checked(format!("{}SELECT {once}{}.*{new_values} {} LIMIT {rows}", parts.with, change.called, parts.body), mode)
}

/// The given columns of the rows the change would touch, fit to stand inside `IN (…)`.
pub fn keys_text(text: &str, mode: LexicalMode, change: &Change, columns: &[String]) -> Option<String> {
    let parts = Parts::of(text, mode, change)?;
    if columns.is_empty() {
        return None;
    }
    let columns: Vec<String> =
        columns.iter().map(|column| format!("{}.{}", change.called, always_quoted(column))).collect();
    checked(format!("{}SELECT {} {}", parts.with, columns.join(", "), parts.body), mode)
}

/// Some `$n` stands in it more than once.
pub fn uses_a_parameter_twice(text: &str, mode: LexicalMode) -> bool {
    let mut seen = HashSet::new();
    Lexer::new(text, mode).any(|token| token.kind == Kind::Parameter && !seen.insert(token.text(text).to_owned()))
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

/// Whether a WITH clause defines a query of this name. Its names stand outside all parentheses, behind WITH or a comma.
fn defines(with: &str, name: &str) -> bool {
    let (mut depth, mut at_name) = (0usize, false);
    for token in Lexer::new(with, LexicalMode::default()).filter(|token| !token.is_comment()) {
        match token.kind {
            Kind::Punctuation(b'(') => depth += 1,
            Kind::Punctuation(b')') => depth = depth.saturating_sub(1),
            _ if depth > 0 => {}
            Kind::Punctuation(b',') => at_name = true,
            Kind::Word if token.is_word(with, "with") || token.is_word(with, "recursive") => at_name = true,
            Kind::Word | Kind::QuotedName => {
                // A name spelled with escapes is not taken apart: it may be this one.
                if at_name && lexer::folded(token.text(with)).is_none_or(|found| found == name) {
                    return true;
                }
                at_name = false;
            }
            _ => {}
        }
    }
    false
}

struct Parts {
    /// With a space behind it, or empty.
    with: String,
    /// `FROM … [WHERE …]`
    body: String,
    joined: bool,
}

impl Parts {
    fn of(text: &str, mode: LexicalMode, change: &Change) -> Option<Parts> {
        if !matches!(change.verb, Verb::Update | Verb::Delete) {
            return None;
        }
        let Clauses { with, target, from, condition, .. } = change.clauses.as_ref()?;
        if let (Some(with), [name]) = (with, &change.target.parts[..])
            && defines(text.get(with.clone())?, name)
        {
            // A change goes to the table of that name; FROM would mean the WITH query.
            return None;
        }
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
        let (with, body) = (without_locks(&with, mode), without_locks(&body, mode));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::read;

    const MODE: LexicalMode = LexicalMode::Postgres { standard_conforming_strings: true };

    fn change(text: &str) -> Change {
        let reading = read(text, MODE);
        assert_eq!(reading.statements[0].facts.unread, None, "{text}");
        reading.statements[0].facts.changes.last().cloned().expect("a change")
    }

    /// White space is not what these tests are about.
    fn flat(text: Option<String>) -> String {
        text.map_or_else(|| String::from("none"), |text| text.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn rows_are_counted() {
        let cases = [
            ("DELETE FROM t", "SELECT pg_catalog.count(*) FROM (SELECT 1 FROM t LIMIT 5) AS sluice_rows"),
            (
                "DELETE FROM ONLY s.\"T\" AS x WHERE x.a = $2 -- end",
                "SELECT pg_catalog.count(*) FROM (SELECT 1 FROM ONLY s.\"T\" AS x WHERE (x.a = $2 ) LIMIT 5) AS sluice_rows",
            ),
            (
                "UPDATE t SET a = b IS DISTINCT FROM c WHERE id > 1 RETURNING id",
                "SELECT pg_catalog.count(*) FROM (SELECT 1 FROM t WHERE (id > 1 ) LIMIT 5) AS sluice_rows",
            ),
            (
                "UPDATE t SET a = u.b FROM u JOIN v ON u.x = v.x WHERE t.id = u.id",
                "SELECT pg_catalog.count(*) FROM (SELECT DISTINCT t.tableoid, t.ctid FROM t, u JOIN v ON u.x = v.x WHERE (t.id = u.id ) LIMIT 5) AS sluice_rows",
            ),
            (
                "WITH u AS (SELECT 1 AS id) DELETE FROM t AS \"X y\" USING u WHERE \"X y\".id = u.id",
                "WITH u AS (SELECT 1 AS id) SELECT pg_catalog.count(*) FROM (SELECT DISTINCT \"X y\".tableoid, \"X y\".ctid FROM t AS \"X y\", u WHERE (\"X y\".id = u.id ) LIMIT 5) AS sluice_rows",
            ),
            (
                "EXPLAIN ANALYZE DELETE FROM t WHERE a = 1",
                "SELECT pg_catalog.count(*) FROM (SELECT 1 FROM t WHERE (a = 1 ) LIMIT 5) AS sluice_rows",
            ),
            (
                "WITH d AS (DELETE FROM t WHERE a = 1 RETURNING *) SELECT * FROM d",
                "SELECT pg_catalog.count(*) FROM (SELECT 1 FROM t WHERE (a = 1 ) LIMIT 5) AS sluice_rows",
            ),
            (
                "UPDATE t AS set SET a = 1",
                "SELECT pg_catalog.count(*) FROM (SELECT 1 FROM t AS set LIMIT 5) AS sluice_rows",
            ),
            (
                "DELETE FROM s.where WHERE a = 1",
                "SELECT pg_catalog.count(*) FROM (SELECT 1 FROM s.where WHERE (a = 1 ) LIMIT 5) AS sluice_rows",
            ),
            (
                "DELETE FROM t WHERE id = (SELECT id FROM t ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING *",
                "SELECT pg_catalog.count(*) FROM (SELECT 1 FROM t WHERE (id = (SELECT id FROM t ORDER BY id LIMIT 1 ) ) LIMIT 5) AS sluice_rows",
            ),
            ("WITH x AS (SELECT 1 AS a), d AS (DELETE FROM t WHERE a IN (SELECT a FROM x)) SELECT 1", "none"),
            ("WITH d AS (DELETE FROM u RETURNING *) DELETE FROM t USING d WHERE t.id = d.id", "none"),
            ("DELETE FROM t WHERE CURRENT OF c", "none"),
            ("DELETE FROM t WHERE a = set_config('x', 'y', false)", "none"),
            ("INSERT INTO t VALUES (1)", "none"),
            ("INSERT INTO t SELECT 1", "none"),
            (
                "INSERT INTO s.t AS x (a, b) OVERRIDING USER VALUE SELECT a, b FROM u JOIN conflict ON conflict.a = u.a ON CONFLICT (a) DO UPDATE SET b = excluded.b WHERE x.a > 1 RETURNING a",
                "SELECT pg_catalog.count(*) FROM (SELECT 1 FROM (SELECT a, b FROM u JOIN conflict ON conflict.a = u.a ) AS sluice_source LIMIT 5) AS sluice_rows",
            ),
            (
                "INSERT INTO t (SELECT a FROM u -- all of them\n) ON CONFLICT ON CONSTRAINT k DO UPDATE SET b = 1",
                "SELECT pg_catalog.count(*) FROM (SELECT 1 FROM ((SELECT a FROM u -- all of them ) ) AS sluice_source LIMIT 5) AS sluice_rows",
            ),
            (
                "INSERT INTO t WITH w AS (SELECT 1) SELECT * FROM w ON CONFLICT (a) DO UPDATE SET b = 1",
                "SELECT pg_catalog.count(*) FROM (SELECT 1 FROM (WITH w AS (SELECT 1) SELECT * FROM w ) AS sluice_source LIMIT 5) AS sluice_rows",
            ),
            ("WITH w AS (SELECT 1) INSERT INTO t SELECT * FROM w ON CONFLICT (a) DO UPDATE SET b = 1", "none"),
            ("INSERT INTO t SELECT nextval('s') ON CONFLICT (a) DO NOTHING", "none"),
            ("MERGE INTO t USING u ON t.id = u.id WHEN MATCHED THEN DELETE", "none"),
        ];
        for (text, expected) in cases {
            assert_eq!(flat(count_text(text, MODE, &change(text), Some(5))), expected, "{text}");
        }
    }

    #[test]
    fn rows_are_shown_as_they_are_and_as_they_would_be() {
        let cases = [
            ("DELETE FROM t WHERE a = 1", "SELECT t.* FROM t WHERE (a = 1 ) LIMIT 3"),
            (
                "UPDATE t SET a = a + 1, \"B\" = DEFAULT, (c, d) = (1, 2), e = 'x, y' -- z",
                "SELECT t.*, (a + 1 ) AS \"a →\", ('x, y' ) AS \"e →\" FROM t LIMIT 3",
            ),
            ("UPDATE t x SET a[1] = 2, b = f(1, 2)", "SELECT x.*, (f(1, 2) ) AS \"b →\" FROM t x LIMIT 3"),
            (
                "DELETE FROM t USING u WHERE t.id = u.id",
                "SELECT DISTINCT ON (t.tableoid, t.ctid) t.* FROM t, u WHERE (t.id = u.id ) LIMIT 3",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(flat(sample_text(text, MODE, &change(text), 3)), expected, "{text}");
        }
    }

    #[test]
    fn keys_are_listed() {
        let text = "DELETE FROM t AS x WHERE x.a = $1";
        let columns = [String::from("id"), String::from("Or\"d")];
        let expected = "SELECT x.\"id\", x.\"Or\"\"d\" FROM t AS x WHERE (x.a = $1 )";
        assert_eq!(flat(keys_text(text, MODE, &change(text), &columns)), expected);
        assert_eq!(keys_text(text, MODE, &change(text), &[]), None);
    }
}
