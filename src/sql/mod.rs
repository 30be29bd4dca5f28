//! SQL as we read it: text in, facts out.
//!
//! The short way is [`glance()`]; the long way is [`read()`]. Both are pure: no sockets, no clock, no state between calls.
pub mod dialect;
pub mod encoding;
pub mod essence;
pub mod facts;
pub mod fingerprint;
pub mod glance;
pub mod hints;
pub mod lexer;
pub mod moments;
pub mod predicate;
pub mod reach;
pub mod rewrite;
pub mod split;
pub mod statement;
mod unlocked;
pub mod watchlist;

pub use dialect::{Reading, read};
pub use fingerprint::{fingerprint, redact};
pub use glance::{Glance, glance};
pub use statement::Product;
