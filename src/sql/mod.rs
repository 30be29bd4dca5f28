//! SQL as we read it.
pub mod facts;
pub mod rewrite;
pub mod statement;
