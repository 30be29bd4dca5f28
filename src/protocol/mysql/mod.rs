//! MySQL's and MariaDB's client/server protocol, version 10 of its greeting (MySQL 8.0 to 9.x, MariaDB 10.6 to 11.x).
//!
//! ```text
//! client                         Sluice                         MySQL, MariaDB
//!   (connects) ────────────────▶ (connects) ───────────────────▶
//!                                ◀────────────── greeting ──────
//!   ◀── greeting, with what Sluice can and its own TLS ──
//!   SSLRequest ────────────────▶ (own TLS)       SSLRequest? ──▶
//!   login ─────────────────────▶ judged ── login ──────────────▶
//!   ◀────────── proofs, relayed both ways ────────────────────▶
//!   ◀────────────────────────────────────────────── OK ─────────
//!   COM_QUERY ─────────────────▶ judged ───────────────────────▶
//!   COM_STMT_PREPARE ──────────▶ read, remembered ─────────────▶
//!   COM_STMT_EXECUTE ──────────▶ judged, values and all ───────▶
//!   ◀───────────── answers, hopped over by their headers ───────
//! ```
//!
//! Refused by name: protocols before 4.1, replication, cloning, and commands that nobody sends any more.

pub mod answer;
pub mod capabilities;
pub mod command;
pub mod crypt;
pub mod cursor;
pub mod exchange;
pub mod frame;
pub mod handshake;
pub mod message;
pub mod proof;
pub mod response;
pub mod rsa;
pub mod values;
pub mod verifier;
