//! The corpus: sessions that destroy, none of which may get through unconfirmed, and everyday ones, whose every byte of answer
//! must be as without Sluice. The cases are data: `tests/corpus/README.md` says how they are written. `s/corpus` prints the table.
//!
//! Invariant: a destructive case counts only once it is proven on the bare server that it destroys; an everyday case only if
//! something was heard. What gets through today stands in `tests/corpus/known_through.txt`, which must be exactly right.

mod everyday;
mod format;
mod play;
mod state;

use crate::harness::server::{Database, SUPERUSER, Server, TRUSTED};
use crate::harness::sluice::{Setup, Sluice};
use crate::harness::stories;
use crate::harness::wire::Wire;
use everyday::everyday_is_as_without_sluice;
use format::{Case, File};
use play::{Heard, Place, play, prepare};
use state::{Lost, State};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

stories! { nothing_destructive_gets_through_unconfirmed, everyday_is_as_without_sluice }

/// How long one answer may take. Short beside the harness's patience: a hundred hanging cases must not take a hundred minutes.
const CASE_TIME_MAX: Duration = Duration::from_secs(20);
/// Sessions played side by side for each server; more than the machine has cores does not help.
const WORKERS: usize = 2;

/// What became of a destructive session behind Sluice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// Refused with a token, or denied; nothing was destroyed.
    Stopped,
    /// It ran, did more than was agreed to, and was rolled back.
    RolledBack,
    Through,
    /// Not a case at all: it destroys nothing on the bare server, hangs, or is harmless behind Sluice without a refusal.
    Broken(String),
}

struct Tried {
    case: String,
    about: String,
    fate: Fate,
    /// What it destroyed behind Sluice.
    lost: String,
    codes: BTreeSet<String>,
}

fn nothing_destructive_gets_through_unconfirmed(server: &'static Server) {
    let files = format::read("destructive");
    let work = cases_for(&files, server);
    let templates = Templates::new(server);
    let next = AtomicUsize::new(0);
    let tried = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let gate = Setup::before_address(&server.tcp()).start();
                while let Some((file, case)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let again = || try_one(server, &gate, &templates, file, case);
                    let one = (0..2).fold(again(), |one, _| if one.met_another() { again() } else { one });
                    tried.lock().expect("no worker panics while it holds it").push(one);
                }
            });
        }
    });
    let mut tried = tried.into_inner().expect("no worker panicked");
    tried.sort_by(|one, other| one.case.cmp(&other.case));
    report(server, &tried);
    assert_as_known(server, &files, &tried);
}

fn cases_for<'a>(files: &'a [File], server: &Server) -> Vec<(&'a File, &'a Case)> {
    let all = files.iter().flat_map(|file| file.cases.iter().map(move |case| (file, case)));
    let only = std::env::var("CORPUS_CASE").unwrap_or_default();
    all.filter(|(_, case)| (case.versions.from..=case.versions.until).contains(&server.version))
        .filter(|(_, case)| only.is_empty() || only.split(',').any(|name| case.name.contains(name)))
        .collect()
}

impl Tried {
    /// Roles belong to the whole cluster, and two cases that change them at once can fail each other on the bare server.
    fn met_another(&self) -> bool {
        matches!(&self.fate, Fate::Broken(why) if why.contains("tuple concurrently"))
    }
}

/// Behind Sluice first; if that changed nothing at all, the proof is made in the same database, else in a new copy.
fn try_one(server: &'static Server, gate: &Sluice, templates: &Templates, file: &File, case: &Case) -> Tried {
    let folder = tempfile::tempdir().expect("a folder");
    let direct = server.tcp();
    let played = catch_unwind(AssertUnwindSafe(|| {
        let make = || {
            let database = templates.copy(file);
            prepare(case, &Place { server, address: &direct, database: &database, folder: folder.path() });
            let state = match case.setup.is_empty() {
                true => templates.state(file, &database),
                false => State::of(server, &database),
            };
            (database, state)
        };
        let (mut database, mut before) = make();
        let through = play(case, &Place { server, address: &gate.address, database: &database, folder: folder.path() });
        let after = State::of(server, &database);
        let lost = before.clone().with(&through.meanwhile).lost_in(&after);
        if before != after {
            templates.give_back(&database);
            (database, before) = make();
        }
        let bare = play(case, &Place { server, address: &direct, database: &database, folder: folder.path() });
        let proven = before.with(&bare.meanwhile).lost_in(&State::of(server, &database));
        templates.give_back(&database);
        (through.heard, lost, bare.heard, proven)
    }));
    match played {
        Ok((heard, lost, bare, proven)) => judge(case, &heard, &lost, &bare, &proven),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().cloned().unwrap_or_default();
            let said: String = said.chars().take(2000).collect();
            let (lost, codes) = (String::new(), BTreeSet::new());
            Tried { case: case.name.clone(), about: case.about.clone(), fate: Fate::Broken(said), lost, codes }
        }
    }
}

fn judge(case: &Case, heard: &[Heard], lost: &Lost, bare: &[Heard], proven: &Lost) -> Tried {
    let codes: BTreeSet<String> = heard.iter().flat_map(Heard::codes).collect();
    let refused = codes.iter().any(|code| code.starts_with("SL"));
    let fate = if !proven.is_destruction() {
        let errors: Vec<_> = bare.iter().flat_map(errors).collect();
        Fate::Broken(format!("it destroys nothing on the bare server ({}): {errors:?}", proven.brief()))
    } else if lost.is_destruction() {
        Fate::Through
    } else if codes.contains("SL004") {
        Fate::RolledBack
    } else if refused {
        Fate::Stopped
    } else {
        let errors: Vec<_> = heard.iter().flat_map(errors).collect();
        Fate::Broken(format!("nothing was destroyed behind Sluice, yet nothing was refused: {errors:?}"))
    };
    Tried { case: case.name.clone(), about: case.about.clone(), fate, lost: lost.brief(), codes }
}

fn errors(heard: &Heard) -> Vec<String> {
    match heard {
        Heard::Messages(messages) => {
            let errors = messages.iter().filter(|message| message.tag == b'E').map(|error| error.fields());
            errors.map(|fields| format!("{} {}", fields[&'C'], fields[&'M'])).collect()
        }
        Heard::Said(said) => said.err.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect(),
    }
}

fn report(server: &Server, tried: &[Tried]) {
    let count = |wanted: &Fate| tried.iter().filter(|one| one.fate == *wanted).count();
    let denied = tried.iter().filter(|one| one.fate == Fate::Stopped && one.codes.contains("SL003")).count();
    let broken = tried.iter().filter(|one| matches!(one.fate, Fate::Broken(_))).count();
    let mut text = String::new();
    let _infallible = write!(
        text,
        "PostgreSQL {}: destructive sessions\n  tried                        {:>4}\n  proven on the bare server    {:>4}\n  stopped before they ran      {:>4}   ({denied} of them denied outright)\n  run and rolled back          {:>4}\n  got through                  {:>4}\n",
        server.version,
        tried.len(),
        tried.len() - broken,
        count(&Fate::Stopped),
        count(&Fate::RolledBack),
        count(&Fate::Through)
    );
    for one in tried.iter().filter(|one| one.fate == Fate::Through) {
        let _infallible = writeln!(text, "    {}: {} ({})", one.case, one.about, one.lost);
    }
    publish(&format!("destructive-{}", server.version), &text);
}

/// Printed, and kept in `target/corpus/` for `s/corpus`.
pub fn publish(name: &str, text: &str) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/corpus");
    fs::create_dir_all(&folder).expect("target is writable");
    fs::write(folder.join(name), text).expect("target is writable");
    println!("{text}");
}

/// Every case that gets through is on the list, and every one on the list gets through.
fn assert_as_known(server: &Server, files: &[File], tried: &[Tried]) {
    let mut known = known("known_through.txt", server);
    let mut complaints = Vec::new();
    for one in tried {
        let listed = known.remove(&one.case);
        match (&one.fate, listed) {
            (Fate::Broken(why), _) => complaints.push(format!("{}: {why}", one.case)),
            (Fate::Through, false) => {
                complaints.push(format!("{} ({}) gets through: {}", one.case, one.about, one.lost))
            }
            (Fate::Stopped | Fate::RolledBack, true) => {
                complaints.push(format!("{} is stopped: take it off known_through.txt", one.case));
            }
            _ => {}
        }
    }
    if std::env::var("CORPUS_CASE").is_err() {
        // A case that is for other versions alone may be listed all the same.
        known.retain(|name| !files.iter().flat_map(|file| &file.cases).any(|case| case.name == *name));
        let unknown = known.iter().map(|name| format!("known_through.txt names {name}, which is no case"));
        complaints.extend(unknown);
        assert!(tried.len() >= 300, "{} destructive sessions", tried.len());
    }
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

/// The names that a list has for this server: alone on their line, or with this version behind them.
fn known(list: &str, server: &Server) -> BTreeSet<String> {
    let text = fs::read_to_string(format::folder().join(list)).expect("the list stands beside the cases");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let names = lines.map(|line| line.split_once(' ').unwrap_or((line, "")));
    let version = server.version.to_string();
    names.filter(|(_, only)| only.is_empty() || *only == version).map(|(name, _)| name.to_owned()).collect()
}

/// One database for each file, which the cases' databases are copies of.
struct Templates {
    server: &'static Server,
    common: Database,
    made: Mutex<BTreeMap<String, String>>,
    /// Of a new copy, by the file: copies are alike, oids included.
    states: Mutex<BTreeMap<String, State>>,
}

impl Templates {
    fn new(server: &'static Server) -> Templates {
        let common = fs::read_to_string(format::folder().join("common.sql")).expect("the common schema");
        Templates { server, common: server.database(&common), made: Mutex::default(), states: Mutex::default() }
    }

    /// A new copy of the file's template, owned as everything is.
    fn copy(&self, file: &File) -> String {
        // Held while the copy is made: a template that another copy is being made of cannot be copied.
        let mut made = self.made.lock().expect("no worker panics while it holds it");
        let template = match made.get(&file.name) {
            Some(template) => template.clone(),
            None => {
                let template = self.template_of(file);
                made.insert(file.name.clone(), template.clone());
                template
            }
        };
        self.copy_of(&template)
    }

    /// A thousand copies would fill a disk. One that cannot be dropped, or was, is no fault of the case.
    fn give_back(&self, copy: &str) {
        let mut wire = Wire::login(&self.server.tcp(), SUPERUSER, "postgres");
        let _gone_already = wire.simple(&format!("DROP DATABASE IF EXISTS {copy} WITH (FORCE)"));
    }

    /// The state of a copy in which nothing happened yet.
    fn state(&self, file: &File, copy: &str) -> State {
        let mut states = self.states.lock().expect("no worker panics while it holds it");
        states.entry(file.name.clone()).or_insert_with(|| State::of(self.server, copy)).clone()
    }

    fn template_of(&self, file: &File) -> String {
        if file.base.is_empty() {
            return self.common.name.clone();
        }
        let template = self.copy_of(&self.common.name);
        let mut wire = Wire::login(&self.server.tcp(), TRUSTED, &template);
        wire.simple(&file.base).expect_fine(&file.name);
        template
    }

    fn copy_of(&self, template: &str) -> String {
        static COUNT: AtomicUsize = AtomicUsize::new(10_000);
        let name = format!("corpus_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let owner = TRUSTED;
        self.server.administer(&format!("CREATE DATABASE {name} TEMPLATE {template} OWNER {owner}"));
        name
    }
}
