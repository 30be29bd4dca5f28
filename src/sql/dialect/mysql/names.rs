//! Names as MySQL and MariaDB write and fold them.
//!
//! Names of tables and databases are kept as written: whether case matters there is for the server's `lower_case_table_names` to say, and
//! the catalog is asked by the server's own comparison. Names of columns are the same in any case, and are folded to lower case.
//!
//! Sources: MySQL 9.7 manual, "Identifier Case Sensitivity", "Keywords and Reserved Words"; MariaDB's "Reserved Words".

use crate::sql::facts::Name;
use crate::sql::statement::MySqlMode;

/// A name from its parts, quoted where the server needs quotes.
pub fn name(parts: Vec<String>) -> Name {
    let written = parts.iter().map(|part| quoted(part)).collect::<Vec<_>>().join(".");
    Name { written, parts }
}

/// What an identifier token stands for.
pub fn unquoted(written: &str) -> String {
    let inside = |quote: char| written.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    match (inside('`'), inside('"')) {
        (Some(name), _) => name.replace("``", "`"),
        (_, Some(name)) => name.replace("\"\"", "\""),
        _ => written.to_owned(),
    }
}

/// What a string literal stands for; `None` for kinds that are not in plain quotes.
pub fn literal(written: &str, mode: MySqlMode) -> Option<String> {
    let quote = written.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
    let inner = written.strip_prefix(quote)?.strip_suffix(quote)?;
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(next) = rest.next() {
        match next {
            '\\' if !mode.no_backslash_escapes => match rest.next()? {
                '0' => out.push('\0'),
                'b' => out.push('\u{8}'),
                'n' => out.push('\n'),
                'r' => out.push('\r'),
                't' => out.push('\t'),
                'Z' => out.push('\u{1a}'),
                // Kept for LIKE.
                wild @ ('%' | '_') => out.extend(['\\', wild]),
                other => out.push(other),
            },
            next if next == quote => {
                rest.next();
                out.push(quote);
            }
            next => out.push(next),
        }
    }
    Some(out)
}

pub fn folded(name: &str) -> String {
    name.to_lowercase()
}

/// An identifier, in backticks unless it reads back as itself wherever a column or table name may stand.
pub fn quoted(identifier: &str) -> String {
    let plain = identifier.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && identifier.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !is_reserved(identifier);
    match plain {
        true => identifier.to_owned(),
        false => format!("`{}`", identifier.replace('`', "``")),
    }
}

/// Reserved by either product: cannot be a name without quotes, nor an alias.
pub fn is_reserved(word: &str) -> bool {
    let mut folded = [0u8; 24];
    let Some(folded) = folded.get_mut(..word.len()) else { return false };
    folded.copy_from_slice(word.as_bytes());
    folded.make_ascii_lowercase();
    std::str::from_utf8(folded).is_ok_and(|folded| RESERVED.binary_search(&folded).is_ok())
}

#[rustfmt::skip] // sorted
const RESERVED: &[&str] = &[
    "accessible", "add", "all", "alter", "analyze", "and", "as", "asc", "asensitive", "before", "between", "bigint",
    "binary", "blob", "both", "by", "call", "cascade", "case", "change", "char", "character", "check", "collate",
    "column", "condition", "constraint", "continue", "convert", "create", "cross", "cube", "cume_dist", "current_date",
    "current_role", "current_time", "current_timestamp", "current_user", "cursor", "database", "databases",
    "day_hour", "day_microsecond", "day_minute", "day_second", "dec", "decimal", "declare", "default", "delayed",
    "delete", "dense_rank", "desc", "describe", "deterministic", "distinct", "distinctrow", "div", "double", "drop",
    "dual", "each", "else", "elseif", "empty", "enclosed", "escaped", "except", "exists", "exit", "explain", "false",
    "fetch", "first_value", "float", "float4", "float8", "for", "force", "foreign", "from", "fulltext", "function",
    "generated", "get", "grant", "group", "grouping", "groups", "having", "high_priority", "hour_microsecond",
    "hour_minute", "hour_second", "if", "ignore", "in", "index", "infile", "inner", "inout", "insensitive", "insert",
    "int", "int1", "int2", "int3", "int4", "int8", "integer", "intersect", "interval", "into", "io_after_gtids",
    "io_before_gtids", "is", "iterate", "join", "json_table", "key", "keys", "kill", "lag", "last_value", "lateral",
    "lead", "leading", "leave", "left", "library", "like", "limit", "linear", "lines", "load", "localtime",
    "localtimestamp", "lock", "long", "longblob", "longtext", "loop", "low_priority", "manual", "master_bind",
    "master_ssl_verify_server_cert", "match", "maxvalue", "mediumblob", "mediumint", "mediumtext", "middleint",
    "minute_microsecond", "minute_second", "mod", "modifies", "natural", "not", "nth_value", "ntile", "null",
    "numeric", "of", "on", "optimize", "optimizer_costs", "option", "optionally", "or", "order", "out", "outer",
    "outfile", "over", "parallel", "partition", "percent_rank", "precision", "primary", "procedure", "purge", "qualify",
    "range", "rank", "read", "read_write", "reads", "real", "recursive", "ref_system_id", "references", "regexp",
    "release", "rename", "repeat", "replace", "require", "resignal", "restrict", "return", "revoke", "right", "rlike",
    "row", "row_number", "rows", "schema", "schemas", "second_microsecond", "select", "sensitive", "separator", "set",
    "show", "signal", "smallint", "spatial", "specific", "sql", "sql_big_result", "sql_calc_found_rows",
    "sql_small_result", "sqlexception", "sqlstate", "sqlwarning", "ssl", "starting", "stats_auto_recalc",
    "stats_persistent", "stats_sample_pages", "stored", "straight_join", "system", "table", "tablesample", "terminated",
    "then", "tinyblob", "tinyint", "tinytext", "to", "trailing", "trigger", "true", "undo", "union", "unique",
    "unlock", "unsigned", "update", "usage", "use", "using", "utc_date", "utc_time", "utc_timestamp", "values",
    "varbinary", "varchar", "varcharacter", "varying", "virtual", "when", "where", "while", "window", "with", "write",
    "xor", "year_month", "zerofill",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_read_as_the_server_reads_them() {
        let mode = MySqlMode::of(crate::sql::Product::MySql, 90_704);
        let cases = [("'a''b'", "a'b"), (r"'a\'b\n\%\x\\'", "a'b\n\\%x\\"), ("\"a'b\"\"\"", "a'b\""), ("''", "")];
        for (written, expected) in cases {
            assert_eq!(literal(written, mode).as_deref(), Some(expected), "{written}");
        }
        let plain = MySqlMode { no_backslash_escapes: true, ..mode };
        assert_eq!(literal(r"'a\n'", plain).as_deref(), Some(r"a\n"));
        assert_eq!(literal("x'41'", mode), None);
    }

    #[test]
    fn names_read_back_as_themselves() {
        let cases = [
            ("a", "a"),
            ("A_1", "A_1"),
            ("a b", "`a b`"),
            ("select", "`select`"),
            ("SELECT", "`SELECT`"),
            ("a`b", "`a``b`"),
            ("1a", "`1a`"),
            ("é", "`é`"),
            ("", "``"),
            ("status", "status"),
        ];
        for (name, expected) in cases {
            assert_eq!(quoted(name), expected);
            assert_eq!(unquoted(expected), name);
        }
        assert!(RESERVED.is_sorted());
    }
}
