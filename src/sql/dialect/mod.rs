//! The long way, by product: each folder below knows one product's grammar and hands out the same facts.
//!
//! Invariant: a text that a product's authority refuses, or on which two readers differ, is *unread*, never guessed at.

mod ends;
mod mysql;
mod postgres;

// What the rest of the room needs of one product alone.
pub use postgres::{fingerprint, quoted};

use crate::sql::facts::Kind;
use crate::sql::statement::{LexicalMode, Statement};

/// What one text holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// At least one: a text without statements is one of [`crate::sql::facts::Kind::Empty`].
    pub statements: Vec<Statement>,
    /// The other setting of `standard_conforming_strings` would cut the text into other tokens.
    pub mode_sensitive: bool,
}

/// Reads a text to its end.
pub fn read(text: &str, mode: LexicalMode) -> Reading {
    match mode {
        LexicalMode::Postgres { .. } => postgres::read(text, mode),
        LexicalMode::MySql(own) => mysql::read(text, own),
    }
}

/// Whether a text is exactly one statement that reads and nothing else: for texts that we made ourselves.
pub fn is_one_read(text: &str, mode: LexicalMode) -> bool {
    let reading = read(text, mode);
    let [statement] = reading.statements.as_slice() else {
        return false;
    };
    let facts = &statement.facts;
    facts.kind == Kind::Read && facts.unread.is_none() && facts.changes.is_empty() && facts.settings.is_empty()
}

/// An identifier as this product quotes it, where it needs quotes.
pub fn quoted_in(mode: LexicalMode, identifier: &str) -> String {
    match mode {
        LexicalMode::Postgres { .. } => postgres::quoted(identifier),
        LexicalMode::MySql(_) => mysql::quoted(identifier),
    }
}
