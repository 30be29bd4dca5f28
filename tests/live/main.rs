//! Live stories: real servers (PostgreSQL 15 and 18), the real binary, real clients.
//!
//! `logins` and `logins_attacked` prove what Sluice does where it checks logins itself; `relay`, `login`, `clients` and `memory` that
//! what is not guarded is as without Sluice; `gate`, `tokens`, `pipelines`, `tripwire`, `rehearsal` and `operation` that what is
//! guarded is refused, confirmed, run and recorded as SPEC.md says; `corpus` measures both by hundreds of sessions that are data.
//! One binary, so that there is one link and one pair of clusters.

mod batches;
mod batches_attacked;
mod broken;
mod cascades;
mod clients;
mod copy;
mod corpus;
mod faults;
mod gate;
mod handshake;
mod harness;
mod huge;
mod login;
mod logins;
mod logins_attacked;
mod memory;
mod mysql;
mod operation;
mod pipelines;
mod record;
mod rehearsal;
mod relay;
mod room;
mod subqueries;
mod throttling;
mod tokens;
mod tripwire;
