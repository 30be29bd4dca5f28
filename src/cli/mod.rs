//! Arguments, exit codes, wiring.

pub mod audit;
