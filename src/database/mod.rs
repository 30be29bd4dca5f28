//! The guarded database, as we ask it: on the client's own upstream connection, with the client's rights, leaving no trace.
//!
//! Invariant: everything here only reads; whoever implements [`Ask`] runs the questions so that they could not write.

pub mod batches;
mod cascade;
pub mod catalog;
pub mod effects;
pub mod evidence;
mod harmless;
mod interview;
mod pins;
pub mod quote;
mod removal;
mod scan;

use crate::protocol::Parameters;

/// Runs one question on the client's own upstream connection. Implemented by the session; by a plain client in tests.
#[allow(async_fn_in_trait)] // used generically only, on one thread: no Send bound wanted
pub trait Ask {
    /// Text answer to one statement. An error leaves the next question askable. `parameters` are the client's own, for
    /// texts made from its statement; all `$n` keep their numbers.
    async fn ask(&mut self, sql: &str, parameters: Option<&Parameters>) -> Result<Answer, AskError>;
}

/// Rows in text form; `None` is NULL.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Option<String>>>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum AskError {
    /// The server refused the question: SQLSTATE and message.
    Database { code: String, message: String },
    /// The deadline passed.
    Deadline,
    /// The client asked to cancel meanwhile.
    Cancelled,
    /// The answer grew past its bound.
    TooLarge,
    /// The connection is gone: nothing more can be asked.
    Lost,
}
