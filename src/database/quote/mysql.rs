//! Writing names and values into our own questions to MySQL and MariaDB, so that no setting of the client's session changes what they mean.
//!
//! Invariants: a literal made here is ASCII and reads the same under every `sql_mode` (ANSI_QUOTES, NO_BACKSLASH_ESCAPES) and in every
//! client character set: its bytes are hexadecimal and its character set is said. A name is always in backticks, which every `sql_mode`
//! reads as a name. Source: MySQL manual, "Hexadecimal Literals", "Character Set Introducers", "Schema Object Names"; tried on MySQL 9.7
//! and MariaDB 10.11, where a condition on information_schema with such a literal is looked up as fast as with a plain one.

use crate::sql::facts::Name;
use std::fmt::Write;

/// `_utf8mb4 x'…'`: a string of the characters given.
pub fn literal(value: &str) -> String {
    let mut out = String::with_capacity(value.len() * 2 + 12);
    out.push_str("_utf8mb4 x'");
    for byte in value.bytes() {
        let _ = write!(out, "{byte:02x}");
    }
    out.push('\'');
    out
}

/// `` `name` ``, always quoted.
pub fn ident(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// `` `database`.`table` ``
pub fn dotted(parts: &[String]) -> String {
    parts.iter().map(|part| ident(part)).collect::<Vec<_>>().join(".")
}

/// A name as a person would write it: quoted only where the server needs it. Behind a dot no word is reserved.
pub fn shown(schema: &str, name: &str) -> Name {
    let parts = vec![schema.to_owned(), name.to_owned()];
    let first = if RESERVED.contains(&schema.to_ascii_lowercase().as_str()) { ident(schema) } else { plainly(schema) };
    Name { written: format!("{first}.{}", plainly(name)), parts }
}

/// What [`hex`] wrote: characters that came as hexadecimal digits, whatever character set the session gets its answers in.
pub fn unhex(digits: &str) -> Option<String> {
    let nibble = |byte: &u8| (*byte as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = digits.as_bytes().chunks(2);
    let bytes: Option<Vec<u8>> = pairs.map(|pair| Some(nibble(pair.first()?)? << 4 | nibble(pair.get(1)?)?)).collect();
    String::from_utf8(bytes?).ok()
}

/// An expression's characters as hexadecimal digits of their UTF-8.
pub fn hex(expression: &str) -> String {
    format!("HEX(CONVERT({expression} USING utf8mb4))")
}

fn plainly(part: &str) -> String {
    let simple = !part.is_empty()
        && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$')
        && !part.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
    if simple { part.to_owned() } else { ident(part) }
}

/// Words that people do give databases for a name, and that cannot stand unquoted (MySQL manual, "Keywords and Reserved Words").
const RESERVED: &[&str] = &[
    "add",
    "all",
    "analyze",
    "and",
    "as",
    "asc",
    "between",
    "both",
    "by",
    "call",
    "case",
    "change",
    "check",
    "column",
    "condition",
    "constraint",
    "create",
    "cross",
    "cube",
    "database",
    "databases",
    "default",
    "delete",
    "desc",
    "describe",
    "distinct",
    "div",
    "drop",
    "each",
    "else",
    "empty",
    "except",
    "exists",
    "explain",
    "false",
    "fetch",
    "for",
    "force",
    "foreign",
    "from",
    "function",
    "generated",
    "get",
    "grant",
    "group",
    "groups",
    "having",
    "if",
    "ignore",
    "in",
    "index",
    "inner",
    "insert",
    "intersect",
    "interval",
    "into",
    "is",
    "join",
    "key",
    "keys",
    "kill",
    "lateral",
    "leading",
    "left",
    "like",
    "limit",
    "lines",
    "load",
    "lock",
    "manual",
    "match",
    "mod",
    "natural",
    "not",
    "null",
    "of",
    "on",
    "option",
    "or",
    "order",
    "out",
    "outer",
    "over",
    "parallel",
    "partition",
    "primary",
    "procedure",
    "purge",
    "range",
    "rank",
    "read",
    "recursive",
    "references",
    "release",
    "rename",
    "repeat",
    "replace",
    "require",
    "restrict",
    "return",
    "right",
    "row",
    "rows",
    "schema",
    "schemas",
    "select",
    "set",
    "show",
    "signal",
    "sql",
    "stored",
    "system",
    "table",
    "then",
    "to",
    "trailing",
    "trigger",
    "true",
    "undo",
    "union",
    "unique",
    "unlock",
    "update",
    "usage",
    "use",
    "using",
    "values",
    "virtual",
    "when",
    "where",
    "while",
    "window",
    "with",
    "write",
    "xor",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_read_the_same_under_every_setting() {
        for (value, written) in [("", "_utf8mb4 x''"), ("a'\\", "_utf8mb4 x'61275c'"), ("ö", "_utf8mb4 x'c3b6'")] {
            assert_eq!(literal(value), written);
            assert_eq!(unhex(&written["_utf8mb4 x'".len()..written.len() - 1]).as_deref(), Some(value));
        }
        assert_eq!(unhex("6"), None);
        assert_eq!(unhex("zz"), None);
    }

    #[test]
    fn names_are_quoted_where_needed() {
        for (schema, name, written) in [
            ("shop", "carts", "shop.carts"),
            ("Shop", "order", "Shop.order"),
            ("order", "x", "`order`.x"),
            ("a-b", "1st", "`a-b`.`1st`"),
            ("a", "x`y", "a.`x``y`"),
        ] {
            assert_eq!(shown(schema, name).written, written);
        }
    }
}
