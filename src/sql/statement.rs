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

/// What decides how a text falls into tokens, besides the text itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LexicalMode {
    /// PostgreSQL: `standard_conforming_strings`. Off makes a backslash escape inside plain quotes.
    pub standard_conforming_strings: bool,
}

impl Default for LexicalMode {
    fn default() -> Self {
        LexicalMode { standard_conforming_strings: true }
    }
}
