//! The command line: arguments, exit codes, wiring.
pub mod explain;
