//! What the rules say of a statement: facts and evidence in, a verdict out. Pure.
pub mod finding;
pub mod question;
pub mod scope;
pub mod settings;
pub mod verdict;
