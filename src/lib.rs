//! Sluice: a gate for SQL. It stands between clients and a database, lets ordinary statements through untouched, and shows,
//! asks about, and records the ones that could destroy data.
//!
//! The line, drawn once. Every byte a client sends goes down it, and nothing reaches a database by another way:
//!
//! ```text
//! bytes → frame → request → statement → facts → questions → evidence → findings → verdict → permit → action → record
//!         └ protocol ┘      └────── sql ─────┘  └ policy ┘   database   └──── policy ────┘   audit    session  audit
//! ```
//!
//! The rooms below stand on floors; a room imports only from floors beneath its own (`tests/architecture.rs` keeps it so).

// Floor 0: time, identity, bounds, secrets.
pub mod ground;
// Floor 1: the two languages, the wire and SQL. Pure: bytes and text in, values out.
pub mod protocol;
pub mod sql;
// Floor 2: what the rules say. Pure.
pub mod policy;
// Floor 3: the guarded database as we ask it, our own state, the record.
pub mod audit;
pub mod database;
pub mod store;
// Floor 4: a guarded statement on its way: preview, challenge, confirmation.
pub mod change;
// Floor 5: one client's conversation.
pub mod session;
// Floor 6: listeners, the console, the files.
pub mod admin;
pub mod config;
pub mod serve;
// Floor 7: arguments, exit codes, wiring.
pub mod cli;
