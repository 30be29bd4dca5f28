//! Everyday sessions: played on two equal databases, one of them reached through Sluice, and every byte of answer compared.
//!
//! Invariant: masked is only what differs between any two connections or databases: cancel keys, process ids, the database's
//! own name (of one length in both), the port, and oids of tables in row descriptions.

use super::format::{self, Case, File};
use super::play::{Heard, Place, play, prepare};
use super::{Templates, WORKERS, publish};
use crate::harness::message::Message;
use crate::harness::server::Server;
use crate::harness::sluice::{Setup, Sluice};
use crate::harness::tool::Said;
use crate::harness::without_port;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Compared {
    case: String,
    about: String,
    difference: Option<String>,
}

pub fn everyday_is_as_without_sluice(server: &'static Server) {
    let files = format::read("everyday");
    let templates = Templates::new(server);
    let next = AtomicUsize::new(0);
    let compared = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let gate = Setup::before_address(&server.tcp()).start();
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let some = compare_file(server, &gate, &templates, file);
                    compared.lock().expect("no worker panics while it holds it").extend(some);
                }
            });
        }
    });
    let compared = compared.into_inner().expect("no worker panicked");
    report(server, &compared);
    let known = super::known("known_different.txt", server);
    let complaint = |one: &Compared| match (&one.difference, known.contains(&one.case)) {
        (Some(difference), false) => Some(format!("{} ({}): {difference}", one.case, one.about)),
        (None, true) => Some(format!("{} is as without Sluice: take it off known_different.txt", one.case)),
        _ => None,
    };
    let complaints: Vec<String> = compared.iter().filter_map(complaint).collect();
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
    let all = std::env::var("CORPUS_CASE").is_err();
    assert!(!all || compared.len() >= 300, "{} everyday sessions", compared.len());
}

fn report(server: &Server, compared: &[Compared]) {
    let different: Vec<&Compared> = compared.iter().filter(|one| one.difference.is_some()).collect();
    let mut text = String::new();
    let _infallible = write!(
        text,
        "PostgreSQL {}: everyday sessions\n  tried                        {:>4}\n  identical in every byte      {:>4}\n  different                    {:>4}\n",
        server.version,
        compared.len(),
        compared.len() - different.len(),
        different.len()
    );
    for one in different {
        let _infallible = writeln!(text, "    {}", one.case);
    }
    publish(&format!("everyday-{}", server.version), &text);
}

/// The cases of a file follow each other on the same two databases, so that what one of them changes, it changes in both.
fn compare_file(server: &'static Server, gate: &Sluice, templates: &Templates, file: &File) -> Vec<Compared> {
    let cases = super::cases_for(std::slice::from_ref(file), server);
    if cases.is_empty() {
        return Vec::new();
    }
    let (direct, through) = (templates.copy(file), templates.copy(file));
    let folder = tempfile::tempdir().expect("a folder");
    cases
        .into_iter()
        .map(|(_, case)| {
            let played = catch_unwind(AssertUnwindSafe(|| {
                let here = Place { server, address: &server.tcp(), database: &direct, folder: folder.path() };
                let there = Place { server, address: &gate.address, database: &through, folder: folder.path() };
                prepare(case, &here);
                prepare(case, &Place { server, address: &server.tcp(), database: &through, folder: folder.path() });
                compare(case, &here, &there)
            }));
            let difference = played.unwrap_or_else(|panic| {
                let said = panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "it panicked".to_owned());
                Some(said.chars().take(2000).collect())
            });
            Compared { case: case.name.clone(), about: case.about.clone(), difference }
        })
        .collect()
}

fn compare(case: &Case, here: &Place, there: &Place) -> Option<String> {
    let direct = masked(play(case, here).heard, here);
    let through = masked(play(case, there).heard, there);
    if direct.iter().all(|heard| matches!(heard, Heard::Messages(messages) if messages.is_empty())) {
        return Some("nothing was heard: a comparison of nothing proves nothing".to_owned());
    }
    let pairs = direct.iter().zip(&through);
    for (one, other) in pairs {
        if let Some(difference) = difference(one, other) {
            return Some(difference);
        }
    }
    (direct.len() != through.len()).then(|| format!("{} answers direct, {} through", direct.len(), through.len()))
}

fn difference(one: &Heard, other: &Heard) -> Option<String> {
    match (one, other) {
        (Heard::Messages(one), Heard::Messages(other)) => {
            let at = one.iter().zip(other).position(|(one, other)| one != other);
            let at = at.or((one.len() != other.len()).then(|| one.len().min(other.len())))?;
            Some(format!("message {at}: direct {:?}, through {:?}", one.get(at), other.get(at)))
        }
        (Heard::Said(one), Heard::Said(other)) if one == other => None,
        (Heard::Said(one), Heard::Said(other)) => {
            let all = |said: &Said| said.out.lines().chain(said.err.lines()).map(str::to_owned).collect::<Vec<_>>();
            let (one_lines, other_lines) = (all(one), all(other));
            let at = one_lines.iter().zip(&other_lines).position(|(one, other)| one != other);
            let at = at.unwrap_or(one_lines.len().min(other_lines.len()));
            let shown = |lines: &[String]| lines.get(at).map(|line| line.chars().take(400).collect::<String>());
            Some(format!(
                "line {at}: direct {:?}, through {:?}; exit {:?} and {:?}",
                shown(&one_lines),
                shown(&other_lines),
                one.code,
                other.code
            ))
        }
        _ => Some("messages and a program's output".to_owned()),
    }
}

fn masked(heard: Vec<Heard>, place: &Place) -> Vec<Heard> {
    heard
        .into_iter()
        .map(|heard| match heard {
            Heard::Messages(messages) => Heard::Messages(
                messages.into_iter().map(|message| without_name(message.masked(), place.database)).collect(),
            ),
            Heard::Said(said) => {
                let hide =
                    |text: String| steady(&without_port(&text.replace(place.database, "DATABASE"), place.port()));
                Heard::Said(Said { out: hide(said.out), err: hide(said.err), code: said.code })
            }
        })
        .collect()
}

/// Both databases' names are of one length, so that masking moves nothing.
fn without_name(mut message: Message, name: &str) -> Message {
    while let Some(at) = message.body.windows(name.len()).position(|window| window == name.as_bytes()) {
        message.body[at..at + name.len()].fill(b'?');
    }
    message
}

/// Without what differs between any two runs of a program: who notified whom, how long it took, and pg_dump's random words.
fn steady(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"));
    lines.map(|line| format!("{}\n", without_process_id(line))).collect()
}

fn without_process_id(line: &str) -> String {
    match line.split_once(" PID ") {
        Some((before, after)) => format!("{before} PID {}", after.trim_start_matches(|c: char| c.is_ascii_digit())),
        None => line.to_owned(),
    }
}
