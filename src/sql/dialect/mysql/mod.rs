//! MySQL and MariaDB: our own lexer and reader are the authority, and a second parser must not see more.
//!
//! Invariant: facts without [`Facts::unread`] are only given when every token of the statement was understood.

use crate::sql::dialect::Reading;
use crate::sql::facts::{Facts, Kind};
use crate::sql::statement::{MySqlMode, Statement};

/// Reads a text to its end.
pub fn read(text: &str, _mode: MySqlMode) -> Reading {
    let facts = Facts { kind: Kind::Unread, unread: Some("not read yet".to_owned()), ..Facts::default() };
    Reading { statements: vec![Statement { span: 0..text.len(), facts }], mode_sensitive: false }
}
