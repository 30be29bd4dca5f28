//! Whether a part of the client's statement may be run as a question, or planned: both can call its functions.
//!
//! Invariant: only what the server itself brought along and does not call volatile passes. A function of the user's is refused even
//! when it is called immutable, for planning runs those; a function that is not found is refused; so is an operator that a
//! user's function stands behind. Source: PostgreSQL manual, "Function Volatility Categories"; object ids below 16384 are the
//! server's own (`access/transam.h`). Left to the read-only transaction that questions run in: casts and domain checks of the user's.

pub(in crate::database) mod mysql;

use crate::database::catalog::list;
use crate::database::interview::Interview;
use crate::database::{Ask, quote};
use crate::sql::facts::Facts;
use crate::sql::statement::LexicalMode;

/// What the catalog says of the functions that one statement calls.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::database) struct Calls {
    calls: Vec<Call>,
    /// Operators with a user's function behind them, by their signs.
    operators: Vec<String>,
    /// Why a view is not to be read, if so.
    views: Option<String>,
    unread: Option<String>,
    /// MySQL's rules, and how its texts are read.
    mysql: Option<LexicalMode>,
}

#[derive(Debug, Clone, PartialEq)]
struct Call {
    /// As the statement calls it.
    written: String,
    bare: String,
    objection: Option<String>,
}

/// Asks once for all functions of the statement, the operators of this database, and what the views among the targets call.
pub(in crate::database) async fn look_up<A: Ask>(
    interview: &mut Interview<'_, A>,
    facts: &Facts,
    text: &str,
    views: &[u64],
) -> Result<Calls, String> {
    let names: Vec<Vec<String>> = facts.functions.iter().map(|written| parts(written)).collect();
    let answer = interview.document(&question(&names, views, text)).await?;
    let found: Vec<Found> = list(&answer["functions"])
        .and_then(|values| values.iter().map(found).collect::<Option<_>>())
        .ok_or_else(crate::database::catalog::odd)?;
    let operators = crate::database::catalog::texts(&answer["operators"]).ok_or_else(crate::database::catalog::odd)?;
    let called = crate::database::catalog::texts(&answer["viewed"]).ok_or_else(crate::database::catalog::odd)?;
    let calls = facts.functions.iter().zip(&names).map(|(written, name)| judge(written, name, &found)).collect();
    let views = called.first().map(|function| objection_text(function).replace("condition", "view"));
    Ok(Calls { calls, operators, views, unread: facts.unread.clone(), mysql: None })
}

impl Calls {
    /// The server's own functions are known by their names; `views`: why one that the text names is not to be read.
    pub fn of_mysql(facts: &Facts, mode: LexicalMode, views: Option<String>) -> Calls {
        let unread = facts.unread.clone();
        Calls { calls: Vec::new(), operators: Vec::new(), views, unread, mysql: Some(mode) }
    }

    /// Why these parts of the statement may not be run, if so.
    pub fn objection(&self, parts: &[&str]) -> Option<String> {
        if let Some(why) = &self.unread {
            return Some(format!("the statement was not read to its end: {why}"));
        }
        if let Some(mode) = self.mysql {
            return self.views.clone().or_else(|| mysql::objection(parts, mode));
        }
        let text = parts.join("\n").to_lowercase();
        // An identifier written with escapes does not show its name: then every function counts.
        let hidden = text.contains("u&\"");
        let call = self
            .calls
            .iter()
            .filter(|call| hidden || text.contains(&call.bare))
            .find_map(|call| call.objection.clone());
        let operator = || {
            let operator = self.operators.iter().find(|operator| text.contains(operator.as_str()))?;
            Some(format!("the condition may use an operator {operator} that runs a user's function"))
        };
        call.or_else(|| self.views.clone()).or_else(operator)
    }
}

struct Found {
    schema: String,
    name: String,
    harmless: bool,
}

fn found(value: &serde_json::Value) -> Option<Found> {
    Some(Found {
        schema: value["schema"].as_str()?.to_owned(),
        name: value["name"].as_str()?.to_owned(),
        harmless: value["harmless"].as_bool()?,
    })
}

/// Words that the grammar knows and the catalog does not. A function of the user's with such a name is found, and refused, first.
const GRAMMAR: &[&str] = &[
    "array",
    "cast",
    "coalesce",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "exists",
    "extract",
    "greatest",
    "grouping",
    "least",
    "localtime",
    "localtimestamp",
    "normalize",
    "nullif",
    "overlay",
    "position",
    "row",
    "session_user",
    "substring",
    "trim",
    "user",
];

fn judge(written: &str, name: &[String], found: &[Found]) -> Call {
    let bare = name.last().cloned().unwrap_or_default();
    let schema = name.len().checked_sub(2).and_then(|at| name.get(at));
    let mut candidates =
        found.iter().filter(|one| one.name == bare && schema.is_none_or(|schema| *schema == one.schema)).peekable();
    let known = candidates.peek().is_some() || (schema.is_none() && GRAMMAR.contains(&bare.as_str()));
    let harmless = known && candidates.all(|one| one.harmless);
    let objection = (!harmless).then(|| objection_text(written));
    Call { written: written.to_owned(), bare: bare.to_lowercase(), objection }
}

fn objection_text(function: &str) -> String {
    format!("the condition calls {function}(), which may do more than read")
}

/// Every function of these names, wherever it lives: which one the server would take is not for us to guess. The types of a
/// view's functions do not matter: the server's own are not recorded as dependencies.
fn question(names: &[Vec<String>], views: &[u64], text: &str) -> String {
    // OPERATOR(schema.sign) reaches past the search path.
    let anywhere = text.to_lowercase().contains("operator").to_string();
    let bare: Vec<String> = names.iter().filter_map(|name| name.last()).map(|name| quote::literal(name)).collect();
    let schemas: Vec<String> =
        names.iter().filter(|n| n.len() > 1).filter_map(|n| n.get(n.len() - 2)).map(|n| quote::literal(n)).collect();
    let ids: Vec<String> = views.iter().map(u64::to_string).collect();
    let values = [
        ("names", bare.join(", ")),
        ("schemas", schemas.join(", ")),
        ("views", ids.join(", ")),
        ("anywhere", anywhere),
    ];
    let values: Vec<(&str, &str)> = values.iter().map(|(place, value)| (*place, value.as_str())).collect();
    quote::fill(&quote::catalog(QUESTION), &values)
}

const QUESTION: &str = "WITH RECURSIVE viewed AS (
  SELECT pg_catalog.unnest(ARRAY[{views}]::pg_catalog.oid[]) AS id
  UNION
  SELECT d.refobjid FROM viewed t JOIN pg_catalog.pg_rewrite r ON r.ev_class = t.id
  JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid
   AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass)
SELECT pg_catalog.json_build_object(
 'functions', (SELECT pg_catalog.json_agg(DISTINCT pg_catalog.jsonb_build_object('schema', n.nspname, 'name', p.proname, 'harmless',
     p.oid < 16384::pg_catalog.oid AND n.nspname = 'pg_catalog' AND p.provolatile <> 'v'))
   FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
   WHERE p.proname = ANY (ARRAY[{names}]::pg_catalog.name[])
     AND (n.nspname = ANY (pg_catalog.current_schemas(true)) OR n.nspname = ANY (ARRAY[{schemas}]::pg_catalog.name[]))),
 'operators', (SELECT pg_catalog.json_agg(DISTINCT o.oprname::pg_catalog.text)
   FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode
   JOIN pg_catalog.pg_language l ON l.oid = p.prolang JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
   WHERE o.oid >= 16384::pg_catalog.oid AND p.oid >= 16384::pg_catalog.oid
     AND ({anywhere} OR n.nspname = ANY (pg_catalog.current_schemas(true)))
     AND (p.provolatile = 'v' OR (l.lanname <> 'c' AND l.lanname <> 'internal'))),
 'viewed', (SELECT pg_catalog.json_agg(DISTINCT p.proname::pg_catalog.text)
   FROM viewed t JOIN pg_catalog.pg_rewrite r ON r.ev_class = t.id
   JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid
    AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
   JOIN pg_catalog.pg_proc p ON p.oid = d.refobjid
   WHERE p.oid >= 16384::pg_catalog.oid OR p.provolatile = 'v'))";

/// A dotted name as facts write it: unquoted parts are folded already, quoted ones may hold dots.
fn parts(written: &str) -> Vec<String> {
    let (mut parts, mut part, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = written.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                part.push('"');
            }
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(std::mem::take(&mut part)),
            _ => part.push(c),
        }
    }
    parts.push(part);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(schema: &str, name: &str, harmless: bool) -> Found {
        Found { schema: schema.into(), name: name.into(), harmless }
    }

    #[test]
    fn a_function_is_harmless_only_if_every_one_of_its_name_is() {
        let found = [
            one("pg_catalog", "lower", true),
            one("pg_catalog", "abs", true),
            one("evil", "abs", false),
            one("public", "coalesce", false),
        ];
        for (written, harmless) in [
            ("lower", true),
            ("pg_catalog.abs", true),
            ("abs", false),
            ("evil.abs", false),
            ("nowhere", false),
            ("coalesce", false),
            ("nullif", true),
            ("evil.nullif", false),
        ] {
            assert_eq!(judge(written, &parts(written), &found).objection.is_none(), harmless, "{written}");
        }
    }

    #[test]
    fn a_call_counts_only_where_it_stands() {
        let calls = Calls {
            calls: vec![judge("f", &parts("f"), &[])],
            operators: vec!["===".into()],
            views: None,
            unread: None,
            mysql: None,
        };
        for (text, fine) in [("a = 1", true), ("F(a)", false), ("u&\"\\0066\"(a)", false), ("a === 1", false)] {
            assert_eq!(calls.objection(&[text]).is_none(), fine, "{text}");
        }
    }

    #[test]
    fn names_are_taken_apart() {
        assert_eq!(parts("public.\"a.\"\"b\""), ["public", "a.\"b"]);
    }
}
