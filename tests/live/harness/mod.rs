//! What the live stories stand on: real servers, the real binary, and a client that hides nothing.
//!
//! Invariant: every wait has a deadline ([`PATIENCE`]) and ends by an event (a message, a line of the log, an exit), never by
//! having slept long enough; and whatever a story starts is gone when it ends, however it ends.

use std::time::Duration;

pub mod certificates;
pub mod chance;
pub mod comparison;
pub mod message;
pub mod mysql;
pub mod scram;
pub mod server;
pub mod shop;
pub mod sluice;
pub mod tool;
pub mod wire;

/// How long a story waits for anything before it fails. Generous: the machine may be building something else beside it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Tells each story of this file once on every server version: `stories! { name, … }` makes the tests `name::postgres_15` and
/// `name::postgres_18` from `fn name(server: &'static Server)`, so a failure names the version. The list is the file's table
/// of contents; a story left out of it is dead code, and the lints say so.
macro_rules! stories {
    ($($story:ident),* $(,)?) => {
        $(mod $story {
            #[test]
            fn postgres_15() {
                super::$story($crate::harness::server::Server::v15());
            }
            #[test]
            fn postgres_18() {
                super::$story($crate::harness::server::Server::v18());
            }
        })*
    };
}
pub(crate) use stories;

/// A text without the port that it came by. A port may have the digits of an SQLSTATE, which stays: "ERROR:  42601: …".
pub fn without_port(text: &str, port: u16) -> String {
    let state = format!("  {port}: ");
    let parts = text.split(&state).map(|part| part.replace(&port.to_string(), "PORT"));
    parts.collect::<Vec<_>>().join(&state)
}
