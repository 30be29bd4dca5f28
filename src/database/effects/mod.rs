//! What only the database can tell of a statement: which names lead to code of the users' own ([`reach`]), and what a transaction
//! did to each table ([`measure`]); of MySQL and MariaDB in [`mysql`].
//!
//! Invariant: what could not be learned counts as reached, and what could not be measured counts as too much.

pub mod measure;
pub mod mysql;
pub mod reach;
