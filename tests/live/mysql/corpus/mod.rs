//! The corpus: sessions that destroy, none of which may get through unconfirmed, and everyday ones, whose every byte of answer must be as
//! without Sluice. The cases are data: `tests/corpus/README.md` says how they are written. `s/corpus` prints the table.
//!
//! Invariant: a destructive case counts only once it is proven on the bare server that it destroys; an everyday statement only if something
//! was heard. What gets through, or is answered otherwise, stands in a list, which must be exactly right.

mod format;
mod state;

use crate::harness::mysql::login::Login;
use crate::harness::mysql::my_stories;
use crate::harness::mysql::packet::{Packet, USUAL};
use crate::harness::mysql::server::{MyDatabase, MyServer, ROOT, TRUSTED};
use crate::harness::mysql::wire::MyWire;
use crate::harness::sluice::{Setup, Sluice};
use crate::harness::wire::Address;
use format::{Case, Everyday, Step};
use state::State;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

my_stories! { nothing_destructive_gets_through_unconfirmed, everyday_is_as_without_sluice }

/// Sessions played side by side for each server.
const WORKERS: usize = 2;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// Refused with a token, or denied; nothing was destroyed.
    Stopped,
    /// It ran, did more than was agreed to, and was rolled back.
    RolledBack,
    Through(Vec<String>),
    /// Not a case at all: it destroys nothing on the bare server, hangs, or is harmless behind Sluice without a refusal.
    Broken(String),
}

fn nothing_destructive_gets_through_unconfirmed(server: &'static MyServer) {
    let only = std::env::var("CORPUS_CASE").unwrap_or_default();
    let is_wanted = |case: &Case| {
        let for_this = case.only.is_none_or(|only| only == server.product);
        for_this && only.split(',').any(|part| case.name.contains(part))
    };
    let cases: Vec<Case> = format::destructive().into_iter().filter(is_wanted).collect();
    let next = AtomicUsize::new(0);
    let tried = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let mut bench = Bench::new(server);
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let fate = catch_unwind(AssertUnwindSafe(|| bench.try_one(case)));
                    let fate = fate.unwrap_or_else(|panic| {
                        bench = Bench::new(server);
                        let said = panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "it panicked".to_owned());
                        Fate::Broken(said.chars().take(1000).collect())
                    });
                    tried.lock().expect("no worker panics while it holds it").push((case.name.clone(), fate));
                }
            });
        }
    });
    let mut tried = tried.into_inner().expect("no worker panicked");
    tried.sort_by(|one, other| one.0.cmp(&other.0));
    report(server, &tried);
    assert_as_known(server, &tried, only.is_empty());
}

/// Two databases, one of them behind Sluice, that are made anew where a case has changed them.
struct Bench {
    server: &'static MyServer,
    direct: MyDatabase,
    through: MyDatabase,
    untouched: State,
    sluice: Sluice,
}

fn common() -> String {
    std::fs::read_to_string(format::folder().join("common.sql")).expect("the common schema")
}

impl Bench {
    fn new(server: &'static MyServer) -> Bench {
        let (direct, through) = (server.database(&common()), server.database(&common()));
        let untouched = State::of(&through);
        // What is more than goes unasked is stopped here, as the tables are small: nothing waits until it is too large for one batch.
        let sluice = Setup::before_mysql(server).with("[limits]\nbatch_rows = 100").start();
        Bench { server, direct, through, untouched, sluice }
    }

    fn try_one(&mut self, case: &Case) -> Fate {
        self.direct.renew(&common());
        prepare(case, &self.direct);
        let before = State::of(&self.direct);
        let (_, direct) = play(case, &self.server.tcp(), &self.direct);
        let proven = before.lost(&State::of(&self.direct));
        tidy(case, &self.direct);
        if proven.is_empty() {
            return Fate::Broken(format!("it destroys nothing on the bare server: {direct:?}"));
        }
        if !case.setup.is_empty() {
            // What is made straight is noticed within seconds; here it was always there.
            self.server.administer(&format!("DROP DATABASE {}", self.through.name));
            self.through = self.server.database(&common());
        }
        prepare(case, &self.through);
        let before = State::of(&self.through);
        let (codes, errors) = play(case, &self.sluice.address.clone(), &self.through);
        let after = State::of(&self.through);
        let lost = before.lost(&after);
        tidy(case, &self.through);
        if after != self.untouched {
            self.through.renew(&common());
        }
        if !lost.is_empty() {
            Fate::Through(lost)
        } else if codes.contains(&50004) {
            Fate::RolledBack
        } else if errors.iter().any(|error| error.starts_with("sluice: ")) {
            Fate::Stopped
        } else {
            Fate::Broken(format!("nothing was destroyed behind Sluice, yet nothing was refused: {errors:?}"))
        }
    }
}

fn prepare(case: &Case, database: &MyDatabase) {
    for sql in &case.setup {
        database.run_as_root(&sql.replace("{db}", &database.name));
    }
}

/// Accounts and databases that a case made are called after its database.
fn tidy(case: &Case, database: &MyDatabase) {
    if case.steps.iter().any(|step| matches!(step, Step::Send(_, text) if text.contains("{db}_")))
        || case.setup.iter().any(|text| text.contains("{db}_"))
    {
        let name = &database.name;
        let drop = format!("DROP USER IF EXISTS {name}_user; DROP DATABASE IF EXISTS {name}_more");
        database.server.administer(&drop);
    }
}

/// Plays a session to its end; the errors it met.
fn play(case: &Case, address: &Address, database: &MyDatabase) -> (BTreeSet<u16>, Vec<String>) {
    let user = if case.is_root { ROOT } else { TRUSTED };
    let login = Login::of(user).on(&database.name);
    let mut wire = MyWire::login(address, &login);
    let (mut codes, mut errors) = (BTreeSet::new(), Vec::new());
    for step in &case.steps {
        let heard = one_step(step, &mut wire, database, &mut || MyWire::login(address, &login));
        if let Some(failure) = heard {
            codes.insert(failure.0);
            errors.push(failure.1);
        }
    }
    (codes, errors)
}

fn one_step(
    step: &Step,
    wire: &mut MyWire,
    database: &MyDatabase,
    connect: &mut dyn FnMut() -> MyWire,
) -> Option<(u16, String)> {
    let outcome = match step {
        Step::Send(body, _) => {
            let body = replaced(body, &database.name);
            wire.command(&body)
        }
        Step::Prepared(statement, values) => {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            wire.prepared(&statement.replace("{db}", &database.name), &values)
        }
        Step::File(bytes) => {
            wire.file = bytes.clone();
            return None;
        }
        Step::Connect => {
            *wire = connect();
            return None;
        }
    };
    outcome.error().map(|failure| (failure.code, failure.message.clone()))
}

/// `{db}` is the database's name.
fn replaced(body: &[u8], name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = rest.windows(4).position(|window| window == b"{db}") {
        out.extend(&rest[..at]);
        out.extend(name.as_bytes());
        rest = &rest[at + 4..];
    }
    out.extend(rest);
    out
}

fn report(server: &MyServer, tried: &[(String, Fate)]) {
    let count = |wanted: fn(&Fate) -> bool| tried.iter().filter(|(_, fate)| wanted(fate)).count();
    let broken = count(|fate| matches!(fate, Fate::Broken(_)));
    let mut text = String::new();
    let _infallible = write!(
        text,
        "{}: destructive sessions\n  tried                        {:>4}\n  proven on the bare server    {:>4}\n  stopped before they ran      {:>4}\n  run and rolled back          {:>4}\n  got through                  {:>4}\n",
        server.either("MariaDB 10.11", "MySQL 9.7"),
        tried.len(),
        tried.len() - broken,
        count(|fate| *fate == Fate::Stopped),
        count(|fate| *fate == Fate::RolledBack),
        count(|fate| matches!(fate, Fate::Through(_))),
    );
    for (name, fate) in tried {
        if let Fate::Through(lost) = fate {
            let _infallible =
                writeln!(text, "    {name} ({})", lost.iter().take(3).cloned().collect::<Vec<_>>().join("; "));
        }
    }
    crate::corpus::publish(&format!("destructive-{}", server.product.name()), &text);
}

/// Every case that gets through is on the list, and every one on the list gets through.
fn assert_as_known(server: &MyServer, tried: &[(String, Fate)], is_whole: bool) {
    let known = format::known("known_through.txt", server.product);
    let mut complaints = Vec::new();
    for (name, fate) in tried {
        match (fate, known.contains(name)) {
            (Fate::Broken(why), _) => complaints.push(format!("{name}: {why}")),
            (Fate::Through(lost), false) => complaints.push(format!("{name} gets through: {}", lost.join("; "))),
            (Fate::Stopped | Fate::RolledBack, true) => {
                complaints.push(format!("{name} is stopped: take it off known_through.txt"))
            }
            _ => {}
        }
    }
    if is_whole {
        let unknown = known.iter().filter(|name| !tried.iter().any(|(tried, _)| tried == *name));
        complaints.extend(unknown.map(|name| format!("known_through.txt names {name}, which is no case")));
        assert!(tried.len() >= 200, "{} destructive sessions", tried.len());
    }
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

// ---------------------------------------------------------------- the everyday half

fn everyday_is_as_without_sluice(server: &'static MyServer) {
    let sluice = Setup::before_mysql(server).start();
    let (mut statements, mut different) = (0, Vec::new());
    for (file, steps) in format::everyday() {
        let (count, some) = compare(server, &sluice, &steps);
        statements += count;
        different.extend(some.into_iter().map(|(statement, how)| (format!("{file}: {statement}"), how)));
    }
    let known = format::known("known_different.txt", server.product);
    let text = format!(
        "{}: everyday statements\n  tried                        {statements:>4}\n  identical in every byte      {:>4}\n  different                    {:>4}\n",
        server.either("MariaDB 10.11", "MySQL 9.7"),
        statements - different.len(),
        different.len()
    );
    crate::corpus::publish(&format!("everyday-{}", server.product.name()), &text);
    let mut complaints: Vec<String> = different
        .iter()
        .filter(|(statement, _)| !known.contains(statement))
        .map(|(statement, how)| format!("{statement}\n    {how}"))
        .collect();
    let same = known.iter().filter(|name| !different.iter().any(|(statement, _)| statement == *name));
    complaints.extend(same.map(|name| format!("{name} is as without Sluice: take it off known_different.txt")));
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
    assert!(statements >= 300, "{statements} everyday statements");
}

/// One session in both places at once, statement by statement; how many there were, and which differ.
fn compare(server: &'static MyServer, sluice: &Sluice, steps: &[Everyday]) -> (usize, Vec<(String, String)>) {
    let (direct, through) = (server.database(&common()), server.database(&common()));
    let connect = |address: &Address, database: &MyDatabase| {
        MyWire::login(address, &Login::of(TRUSTED).on(&database.name).asking_for(USUAL))
    };
    let (here, there) = (server.tcp(), sluice.address.clone());
    let (mut one, mut other) = (connect(&here, &direct), connect(&there, &through));
    let (mut statements, mut different) = (0, Vec::new());
    for Everyday { only, step } in steps {
        if only.is_some_and(|only| only != server.product) {
            continue;
        }
        let statement = match step {
            Step::Send(_, text) | Step::Prepared(text, _) => text.replace('\n', " "),
            _ => String::new(),
        };
        let played = catch_unwind(AssertUnwindSafe(|| {
            one_step(step, &mut one, &direct, &mut || connect(&here, &direct));
            one_step(step, &mut other, &through, &mut || connect(&there, &through));
        }));
        if played.is_err() {
            // One of the two hung or was closed: that is a difference, and both begin anew.
            different.push((statement, "no answer".to_owned()));
            (one, other) = (connect(&here, &direct), connect(&there, &through));
            continue;
        }
        if statement.is_empty() {
            continue;
        }
        statements += 1;
        let heard = [(&mut one, &direct), (&mut other, &through)]
            .map(|(wire, database)| masked(std::mem::take(&mut wire.heard), database));
        assert!(!heard[0].is_empty(), "{statement}: a comparison of nothing proves nothing");
        let at = heard[0].iter().zip(&heard[1]).position(|(one, other)| one != other);
        let at = at.or((heard[0].len() != heard[1].len()).then(|| heard[0].len().min(heard[1].len())));
        if let Some(at) = at {
            different.push((
                statement,
                format!("packet {at}: direct {:?}, through {:?}", heard[0].get(at), heard[1].get(at)),
            ));
        }
    }
    (statements, different)
}

/// Both databases' names are of one length, so that masking moves nothing.
fn masked(mut heard: Vec<Packet>, database: &MyDatabase) -> Vec<Packet> {
    let name = database.name.as_bytes();
    for packet in &mut heard {
        while let Some(at) = packet.body.windows(name.len()).position(|window| window == name) {
            packet.body[at..at + name.len()].fill(b'?');
        }
    }
    heard
}
