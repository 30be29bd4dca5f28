//! Arguments, exit codes, wiring.

pub mod audit;
pub mod demo;
