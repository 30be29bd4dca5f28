//! Writing names and values into our own questions, so that no setting of the client's session changes what they mean.
//!
//! Invariants: a literal made here is ASCII and reads the same with `standard_conforming_strings` on and off and in every client
//! encoding (it is always an `E''` string); an operator written by [`catalog`] is the server's own, whatever the search path says.
//! Source: PostgreSQL manual, "Lexical Structure" (4.1.2.2, 4.1.3) and "Operator Type Resolution"; tried on 15.

pub mod mysql;

use crate::sql::facts::Name;
use crate::sql::statement::Product;
use std::fmt::Write;

/// An `E'…'` literal of the type that its place asks for.
pub fn literal(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 3);
    out.push_str("E'");
    for c in value.chars() {
        match c {
            '\'' => out.push_str("''"),
            '\\' => out.push_str("\\\\"),
            ' '..='~' => out.push(c),
            // The server turns the escape into its own encoding, or refuses: it never reads another character.
            _ => {
                let _ = write!(out, "\\U{:08X}", u32::from(c));
            }
        }
    }
    out.push('\'');
    out
}

/// `"name"`, always quoted: a keyword or a mixed-case name stays what it is.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `"schema"."table"`.
pub fn dotted(parts: &[String]) -> String {
    parts.iter().map(|part| ident(part)).collect::<Vec<_>>().join(".")
}

/// A name as a person would write it: quoted only where the server needs it.
pub fn shown(schema: &str, name: &str) -> Name {
    let parts = vec![schema.to_owned(), name.to_owned()];
    let written = parts.iter().map(|part| plainly(part)).collect::<Vec<_>>().join(".");
    Name { written, parts }
}

/// The parts of a name as a server writes it: what is quoted differs from version to version.
pub fn parts(written: &str) -> Vec<String> {
    let (mut parts, mut part, mut quoted) = (Vec::new(), String::new(), false);
    let mut letters = written.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.next_if_eq(&'"').is_some() => part.push('"'),
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(std::mem::take(&mut part)),
            letter => part.push(letter),
        }
    }
    parts.push(part);
    parts
}

/// A name in quotes, as this product writes them.
pub fn ident_by(product: Product) -> fn(&str) -> String {
    product.either(ident, mysql::ident)
}

/// The same of this product's names.
pub fn shown_by(product: Product) -> fn(&str, &str) -> Name {
    product.either(shown, mysql::shown)
}

/// Our catalog questions are written with ordinary operators, each between two blanks; this ties them to `pg_catalog`, so that
/// an operator of the same name earlier in the search path is never taken. All of them have one precedence afterwards, above
/// AND, OR and NOT: the questions put parentheses where it would matter.
pub fn catalog(sql: &str) -> String {
    let mut out = sql.to_owned();
    for operator in ["=", "<>", "<", ">", ">=", "<=", "@>", "-", "/"] {
        out = out.replace(&format!(" {operator} "), &format!(" OPERATOR(pg_catalog.{operator}) "));
    }
    out
}

/// Puts values into the `{places}` of one of our questions, in one pass: a value that looks like a place is left as it is.
pub fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let (mut out, mut rest) = (String::with_capacity(template.len()), template);
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let value =
            values.iter().find_map(|(place, value)| Some((value, after.strip_prefix(place)?.strip_prefix('}')?)));
        rest = match value {
            Some((value, behind)) => {
                out.push_str(value);
                behind
            }
            None => {
                out.push('{');
                after
            }
        };
    }
    out.push_str(rest);
    out
}

fn plainly(part: &str) -> String {
    let simple = part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if simple && !RESERVED.contains(&part) { part.to_owned() } else { ident(part) }
}

/// Words that cannot stand unquoted as a table's name (PostgreSQL manual, appendix C, "reserved").
const RESERVED: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "binary",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "group",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "intersect",
    "into",
    "is",
    "isnull",
    "join",
    "lateral",
    "leading",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "natural",
    "not",
    "notnull",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "outer",
    "overlaps",
    "placing",
    "primary",
    "references",
    "returning",
    "right",
    "select",
    "session_user",
    "similar",
    "some",
    "symmetric",
    "system_user",
    "table",
    "tablesample",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_read_the_same_under_every_setting() {
        for (value, written) in [
            ("carts", "E'carts'"),
            ("o'clock", "E'o''clock'"),
            ("back\\slash", "E'back\\\\slash'"),
            ("Größe", "E'Gr\\U000000F6\\U000000DFe'"),
            ("a\nb", "E'a\\U0000000Ab'"),
        ] {
            assert_eq!(literal(value), written);
        }
    }

    #[test]
    fn names_are_quoted_where_needed() {
        for (schema, name, written) in [
            ("public", "carts", "public.carts"),
            ("public", "Carts", "public.\"Carts\""),
            ("public", "order", "public.\"order\""),
            ("a b", "x\"y", "\"a b\".\"x\"\"y\""),
        ] {
            assert_eq!(shown(schema, name).written, written);
        }
    }

    #[test]
    fn a_value_is_not_filled_again() {
        assert_eq!(fill("{a}, {b}, {c}", &[("a", "{b}"), ("b", "2")]), "{b}, 2, {c}");
    }

    #[test]
    fn operators_are_the_servers_own() {
        assert_eq!(catalog("a = b AND c <> d"), "a OPERATOR(pg_catalog.=) b AND c OPERATOR(pg_catalog.<>) d");
    }
}
