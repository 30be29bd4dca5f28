//! The long way, by product: each folder below knows one product's grammar and hands out the same facts.
//!
//! Invariant: a text that a product's authority refuses, or on which two readers differ, is *unread*, never guessed at.

mod mysql;
mod postgres;

// What the rest of the room needs of the one product there is.
pub use postgres::{fingerprint, is_one_read, quoted};

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
