//! One statement, found in a text: where it stands and what it says.
//!
//! Invariant: `span` lies inside the text it was read from, on character boundaries, and the statements of one text neither
//! overlap nor leave out a byte that the server would execute.

use crate::sql::facts::Facts;
use std::ops::Range;

/// A statement inside its text.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// Bytes of the text, without the closing semicolon.
    pub span: Range<usize>,
    pub facts: Facts,
}

/// What decides how a text falls into tokens, besides the text itself: whose SQL it is, and the session's settings that its lexer heeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LexicalMode {
    /// `standard_conforming_strings` off makes a backslash escape inside plain quotes.
    Postgres {
        standard_conforming_strings: bool,
    },
    MySql(MySqlMode),
}

/// What MySQL's and MariaDB's lexers heed: `sql_mode` as the server reports it, and which server it is (for `/*!50701 … */`, `/*M! … */`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MySqlMode {
    pub product: Product,
    /// As conditional comments count it: 90704 is 9.7.4, 101114 is 10.11.14; 0 where it is not known.
    pub version: u32,
    /// `"x"` is a name, not a string.
    pub ansi_quotes: bool,
    /// A backslash in a string is a backslash.
    pub no_backslash_escapes: bool,
    /// `||` joins strings; else it is OR.
    pub pipes_as_concat: bool,
    /// Built-in functions may have white space before their parenthesis, and their names are reserved.
    pub ignore_space: bool,
    /// A `sql_mode` that reads texts by rules we do not know (ORACLE, MSSQL, a name we never heard): every text is unread.
    pub unknown: bool,
}

impl LexicalMode {
    pub fn product(self) -> Product {
        match self {
            LexicalMode::Postgres { .. } => Product::PostgreSql,
            LexicalMode::MySql(mode) => mode.product,
        }
    }

    /// Whether a backslash in plain quotes is one: PostgreSQL's `standard_conforming_strings`, MySQL's NO_BACKSLASH_ESCAPES.
    pub fn standard_conforming_strings(self) -> bool {
        match self {
            LexicalMode::Postgres { standard_conforming_strings } => standard_conforming_strings,
            LexicalMode::MySql(mode) => mode.no_backslash_escapes,
        }
    }
}

impl Default for LexicalMode {
    fn default() -> Self {
        LexicalMode::Postgres { standard_conforming_strings: true }
    }
}

impl MySqlMode {
    /// The same server under this `sql_mode`, as `@@sql_mode` says it.
    pub fn with_sql_mode(self, sql_mode: &str) -> MySqlMode {
        let has = |name: &str| sql_mode.split(',').any(|mode| mode.trim().eq_ignore_ascii_case(name));
        let known = |mode: &str| mode.is_empty() || KNOWN_MODES.iter().any(|known| mode.eq_ignore_ascii_case(known));
        MySqlMode {
            ansi_quotes: has("ANSI_QUOTES") || has("ANSI"),
            no_backslash_escapes: has("NO_BACKSLASH_ESCAPES"),
            pipes_as_concat: has("PIPES_AS_CONCAT"),
            ignore_space: has("IGNORE_SPACE"),
            unknown: !sql_mode.split(',').all(|mode| known(mode.trim())),
            ..self
        }
    }

    /// A server of this product and version with the default `sql_mode`.
    pub fn of(product: Product, version: u32) -> MySqlMode {
        MySqlMode {
            product,
            version,
            ansi_quotes: false,
            no_backslash_escapes: false,
            pipes_as_concat: false,
            ignore_space: false,
            unknown: false,
        }
    }
}

/// Modes that leave the lexer alone, besides those that [`MySqlMode`] knows. Tried on MySQL 9.7 and MariaDB 10.11. Not among them:
/// MSSQL, where `[x]` is a quoted name, ORACLE, which has a grammar of its own, and EMPTY_STRING_IS_NULL, under which `k <=> ''` is no key.
#[rustfmt::skip]
const KNOWN_MODES: &[&str] = &[
    "ANSI", "ANSI_QUOTES", "IGNORE_SPACE", "NO_BACKSLASH_ESCAPES", "PIPES_AS_CONCAT",
    "ALLOW_INVALID_DATES", "DB2", "ERROR_FOR_DIVISION_BY_ZERO", "HIGH_NOT_PRECEDENCE",
    "IGNORE_BAD_TABLE_OPTIONS", "MAXDB", "MYSQL323", "MYSQL40", "NO_AUTO_CREATE_USER", "NO_AUTO_VALUE_ON_ZERO",
    "NO_DIR_IN_CREATE", "NO_ENGINE_SUBSTITUTION", "NO_FIELD_OPTIONS", "NO_KEY_OPTIONS", "NO_TABLE_OPTIONS",
    "NO_UNSIGNED_SUBTRACTION", "NO_ZERO_DATE", "NO_ZERO_IN_DATE", "ONLY_FULL_GROUP_BY", "PAD_CHAR_TO_FULL_LENGTH",
    "POSTGRESQL", "REAL_AS_FLOAT", "SIMULTANEOUS_ASSIGNMENT", "STRICT_ALL_TABLES", "STRICT_TRANS_TABLES",
    "TIME_ROUND_FRACTIONAL", "TIME_TRUNCATE_FRACTIONAL", "TRADITIONAL",
];

/// Whose SQL it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Product {
    #[default]
    PostgreSql,
    MySql,
    MariaDb,
}

impl Product {
    /// MySQL or MariaDB: one protocol, nearly one language.
    pub fn is_mysql(self) -> bool {
        self != Product::PostgreSql
    }

    /// What is said of one language, or of the other.
    pub fn either<T>(self, postgres: T, mysql: T) -> T {
        if self.is_mysql() { mysql } else { postgres }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_that_is_not_known_reads_nothing() {
        let of = |sql_mode: &str| MySqlMode::of(Product::MariaDb, 101_119).with_sql_mode(sql_mode);
        let ansi = of("REAL_AS_FLOAT,PIPES_AS_CONCAT,ANSI_QUOTES,IGNORE_SPACE,ONLY_FULL_GROUP_BY,ANSI");
        assert!(ansi.ansi_quotes && ansi.pipes_as_concat && ansi.ignore_space && !ansi.no_backslash_escapes);
        for (sql_mode, unknown) in [
            ("", false),
            ("STRICT_TRANS_TABLES,NO_BACKSLASH_ESCAPES", false),
            ("PIPES_AS_CONCAT,ANSI_QUOTES,IGNORE_SPACE,MSSQL,NO_KEY_OPTIONS", true),
            ("oracle", true),
            ("EMPTY_STRING_IS_NULL", true),
            ("SOMETHING_NEW", true),
        ] {
            assert_eq!(of(sql_mode).unknown, unknown, "{sql_mode}");
        }
        assert!(!of("ORACLE").with_sql_mode("").unknown);
    }
}
