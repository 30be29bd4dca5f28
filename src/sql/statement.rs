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
}
