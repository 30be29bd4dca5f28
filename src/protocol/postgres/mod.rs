//! PostgreSQL's frontend/backend protocol, version 3 (PostgreSQL manual, chapter "Frontend/Backend Protocol"; 13 to 18).
//!
//! ```text
//! client                         Sluice                         PostgreSQL
//!   SSLRequest / direct TLS ───▶ (own TLS)
//!   Startup ───────────────────▶ judged ──────── SSLRequest? ──▶
//!                                Startup, as it came ──────────▶
//!   ◀────────── authentication, relayed both ways ────────────▶
//!   ◀─ ParameterStatus, BackendKeyData, ReadyForQuery ──────────
//!   Query ─────────────────────▶ judged ───────────────────────▶
//!   Parse ─────────────────────▶ read, remembered ─────────────▶
//!   Bind ──────────────────────▶ judged, values and all ───────▶
//!   Execute, Sync ─────────────▶ held until counts are known ──▶
//!   ◀───────────── answers, hopped over by their headers ───────
//! ```
//!
//! Refused by name: replication (startup parameter), the function-call message (but for large objects), unknown message types.

pub mod authentication;
pub mod command;
pub mod conversation;
pub mod frame;
pub mod handshake;
pub mod message;
pub mod scram;

pub use conversation::Conversation;
