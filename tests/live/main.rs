//! Live stories: real servers (PostgreSQL 15 and 18), the real binary, real clients.
//!
//! `relay`, `login`, `clients` and `memory` prove that what is not guarded is as without Sluice; `gate`, `tokens`, `pipelines`
//! and `operation` prove that what is guarded is refused, confirmed, run and recorded as SPEC.md says.
//! One binary, so that there is one link and one pair of clusters.

mod broken;
mod clients;
mod copy;
mod faults;
mod gate;
mod handshake;
mod harness;
mod login;
mod memory;
mod operation;
mod pipelines;
mod record;
mod relay;
mod tokens;
mod tripwire;
