//! Listeners: sockets opened, connections handed to threads, and the end of it all.
//!
//! Invariant: a client and its upstream live on one thread, so no message crosses from one to another.

pub mod listen;
pub mod tls;
