//! Names as PostgreSQL writes and folds them.

use crate::sql::facts::Name;
use pg_query::NodeEnum;
use pg_query::protobuf::{Node, RangeVar};

/// A name from its parts, quoted where the server needs quotes.
pub fn name(parts: Vec<String>) -> Name {
    let written = parts.iter().map(|part| quoted(part)).collect::<Vec<_>>().join(".");
    Name { written, parts }
}

pub fn relation(relation: &RangeVar) -> Name {
    let parts = [&relation.catalogname, &relation.schemaname, &relation.relname];
    name(parts.into_iter().filter(|part| !part.is_empty()).cloned().collect())
}

/// The name by which expressions call a relation, folded.
pub fn alias(relation: &RangeVar) -> &str {
    relation.alias.as_ref().map_or(relation.relname.as_str(), |alias| alias.aliasname.as_str())
}

/// A String node's text.
pub fn string(node: &Node) -> Option<&str> {
    match node.node.as_ref()? {
        NodeEnum::String(string) => Some(string.sval.as_str()),
        _ => None,
    }
}

/// An identifier, quoted unless it reads back as itself wherever a column or table name may stand.
pub fn quoted(identifier: &str) -> String {
    let plain = identifier.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_')
        && identifier.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        && KEYWORDS.binary_search(&identifier).is_err();
    match plain {
        true => String::from(identifier),
        false => format!("\"{}\"", identifier.replace('"', "\"\"")),
    }
}

/// PostgreSQL 18's keywords that cannot be a column's or a table's name unquoted (reserved, and type or function names), sorted.
#[rustfmt::skip]
const KEYWORDS: &[&str] = &[
    "all", "analyse", "analyze", "and", "any", "array", "as", "asc", "asymmetric", "authorization", "binary", "both",
    "case", "cast", "check", "collate", "collation", "column", "concurrently", "constraint", "create", "cross",
    "current_catalog", "current_date", "current_role", "current_schema", "current_time", "current_timestamp",
    "current_user", "default", "deferrable", "desc", "distinct", "do", "else", "end", "except", "false", "fetch",
    "for", "foreign", "freeze", "from", "full", "grant", "group", "having", "ilike", "in", "initially", "inner",
    "intersect", "into", "is", "isnull", "join", "lateral", "leading", "left", "like", "limit", "localtime",
    "localtimestamp", "natural", "not", "notnull", "null", "offset", "on", "only", "or", "order", "outer", "overlaps",
    "placing", "primary", "references", "returning", "right", "select", "session_user", "similar", "some",
    "symmetric", "system_user", "table", "tablesample", "then", "to", "trailing", "true", "union", "unique", "user",
    "using", "variadic", "verbose", "when", "where", "window", "with",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_as_themselves() {
        let cases =
            [("a", "a"), ("a_1", "a_1"), ("A", "\"A\""), ("a b", "\"a b\""), ("select", "\"select\""), ("set", "set")];
        for (name, expected) in
            [("", "\"\""), ("1a", "\"1a\""), ("a\"b", "\"a\"\"b\""), ("é", "\"é\""), ("left", "\"left\"")]
                .iter()
                .chain(&cases)
        {
            assert_eq!(quoted(name), *expected);
        }
        assert!(KEYWORDS.is_sorted());
    }
}
