//! The command line: what each subcommand does, its exit code, and the wiring of everything beneath.

pub mod audit;
pub mod demo;
pub mod demonstrate;
mod door;
pub mod explain;
pub mod jobs;
pub mod run;
