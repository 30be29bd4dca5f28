//! `sluice jobs`: the jobs of a running Sluice, from its store; `--watch` follows those that are on their way.
//!
//! Invariant: only reads, and nothing that could keep the Sluice that runs waiting.

use crate::config;
use crate::ground::limits;
use crate::policy::count::grouped;
use crate::store::Store;
use crate::store::jobs::{Job, State};
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use jiff::Timestamp;
use std::collections::HashMap;
use std::fmt::Write;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

const LOOKS_EVERY: Duration = Duration::from_millis(500);

/// Prints them; with `watch`, until none is on its way. The error is for the terminal.
pub fn run(path: &Path, watch: bool) -> Result<(), String> {
    let config = config::load(path).map_err(|errors| errors.render())?;
    let config::Store::Sqlite(store) = config.store;
    let look = || Store::jobs_of_all(&store).map_err(|error| format!("{}: {error}", store.display()));
    if !watch {
        print!("{}", table(&look()?, Timestamp::now()));
        return Ok(());
    }
    match std::io::stderr().is_terminal() {
        true => bars(look),
        false => lines(look),
    }
}

fn is_open(job: &Job) -> bool {
    let age = Timestamp::now().duration_since(job.seen);
    job.standing.state == State::Running && age < limits::JOB_SILENT.try_into().unwrap_or_default()
}

/// One line a job, the latest first.
pub fn table(jobs: &[Job], now: Timestamp) -> String {
    if jobs.is_empty() {
        return "no jobs\n".to_owned();
    }
    let mut out =
        format!("{:<26}  {:<9}  {:>11}  {:>5}  {:<28}  {:<16}  heard of\n", "id", "state", "rows", "%", "table", "by");
    for job in jobs {
        let standing = &job.standing;
        let part = job.rows_shown.filter(|shown| *shown > 0).map(|shown| (standing.rows * 100 / shown).min(100));
        let part = part.map_or_else(|| "-".to_owned(), |part| part.to_string());
        let ago = now.duration_since(job.seen).as_secs().max(0);
        let table = format!("{}{}", if job.of.is_some() { "undo of " } else { "" }, plain(&job.relation));
        let line = format!(
            "{:<26}  {:<9}  {:>11}  {part:>5}  {table:<28}  {:<16}  {ago} s ago",
            job.id.to_string(),
            standing.state.as_str(),
            grouped(standing.rows),
            plain(&job.holder.user),
        );
        let _ = writeln!(out, "{line}{}", why(job));
    }
    out
}

fn why(job: &Job) -> String {
    if job.standing.why.is_empty() { String::new() } else { format!("  {}", plain(&job.standing.why)) }
}

/// Names are other people's: nothing of them may steer a terminal.
fn plain(text: &str) -> String {
    crate::change::preview::words::plain(text).to_string()
}

/// A line for each job that is on its way, and what became of it.
fn lines(look: impl Fn() -> Result<Vec<Job>, String>) -> Result<(), String> {
    let mut told: HashMap<String, String> = HashMap::new();
    loop {
        let jobs = look()?;
        for job in &jobs {
            let (id, line) = (job.id.to_string(), line(job));
            let known = told.get(&id);
            if known != Some(&line) && (known.is_some() || is_open(job)) {
                println!("{line}");
                told.insert(id, line);
            }
        }
        if !jobs.iter().any(is_open) {
            return Ok(());
        }
        std::thread::sleep(LOOKS_EVERY);
    }
}

fn line(job: &Job) -> String {
    let standing = &job.standing;
    let of = job.rows_shown.map_or_else(String::new, |shown| format!("/{}", grouped(shown)));
    let (rows, table) = (grouped(standing.rows), plain(&job.relation));
    format!(
        "{} {} {table}: {rows}{of} rows in {} batches{}",
        job.id,
        standing.state.as_str(),
        standing.batches,
        why(job)
    )
}

/// A bar for each job that is on its way.
fn bars(look: impl Fn() -> Result<Vec<Job>, String>) -> Result<(), String> {
    let left = |state: &ProgressState, out: &mut dyn Write| {
        let rate = state.per_sec();
        let said = match rate >= 1.0 && !state.is_finished() {
            true => write!(out, "{} rows/s, {} s left", grouped(rate as u64), state.eta().as_secs()),
            false => Ok(()),
        };
        debug_assert!(said.is_ok(), "a line of memory takes what is written");
    };
    let style =
        ProgressStyle::with_template("{prefix} {bar:30} {percent:>3} % {human_pos}/{human_len} rows {left} {wide_msg}")
            .map_err(|error| error.to_string())?
            .with_key("left", left);
    let all = MultiProgress::new();
    let mut shown: HashMap<String, ProgressBar> = HashMap::new();
    loop {
        let jobs = look()?;
        for job in &jobs {
            let id = job.id.to_string();
            if is_open(job) && !shown.contains_key(&id) {
                let bar = all.add(ProgressBar::new(job.rows_shown.unwrap_or_default()).with_style(style.clone()));
                bar.set_prefix(format!("{id} {}", plain(&job.relation)));
                // What was done before is not of this rate.
                bar.set_position(job.standing.rows);
                bar.reset_eta();
                shown.insert(id.clone(), bar);
            }
            if let Some(bar) = shown.get(&id) {
                bar.set_position(job.standing.rows);
                match is_open(job) {
                    true => bar.set_message(plain(&job.standing.why)),
                    false => bar.abandon_with_message(format!("{}{}", job.standing.state.as_str(), why(job))),
                }
            }
        }
        if !jobs.iter().any(is_open) {
            if shown.is_empty() {
                println!("no job is on its way");
            }
            return Ok(());
        }
        std::thread::sleep(LOOKS_EVERY);
    }
}
