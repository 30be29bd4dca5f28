//! The program: arguments in, exit code out. Everything else is in the library.

use clap::{Parser, Subcommand};
use sluice::cli::demo::Wanted;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "sluice",
    version,
    about = "A gate for SQL: shows what a destructive statement would do before it may do it"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the proxy.
    Run {
        #[arg(long, value_name = "FILE", default_value = "sluice.toml")]
        config: PathBuf,
    },
    /// A throwaway database with sample data and a gate before it.
    Demo(Wanted),
    /// The page of a rule; without a rule, all of them in a line each.
    Explain { rule: Option<String> },
    /// Changes that are carried out in batches, as the store of a Sluice knows them.
    Jobs {
        #[arg(long, value_name = "FILE", default_value = "sluice.toml")]
        config: PathBuf,
        /// Follow those that are on their way until none is.
        #[arg(long)]
        watch: bool,
    },
    /// The record.
    Audit {
        #[command(subcommand)]
        command: Audit,
    },
}

#[derive(Subcommand)]
enum Audit {
    /// Check that the record's chain is whole.
    Verify {
        /// Its files in any order, or the directory they are in. Of a file that carries others on, those beside it come along.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The hash that its last line must have, known from elsewhere: without it a cut-off end cannot be seen.
        #[arg(long, value_name = "HASH")]
        expect_last: Option<String>,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run { config } => sluice::cli::run::run(&config),
        Command::Demo(wanted) => sluice::cli::demonstrate::run(&wanted),
        Command::Explain { rule: None } => {
            print!("{}", sluice::cli::explain::list());
            Ok(())
        }
        Command::Explain { rule: Some(rule) } => sluice::cli::explain::explain(&rule).map(|page| print!("{page}")),
        Command::Jobs { config, watch } => sluice::cli::jobs::run(&config, watch),
        Command::Audit { command: Audit::Verify { files, expect_last } } => {
            return ExitCode::from(sluice::cli::audit::run(&files, expect_last.as_deref()));
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("sluice: {why}");
            ExitCode::from(2)
        }
    }
}
