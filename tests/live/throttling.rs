//! Jobs that let others go first, and archives that are not kept for ever.
//!
//! Invariant: why a job waits is told to whoever waits for it and to all others, and what ends the waiting is the event itself.

use crate::batches::{THINGS, confirm, digest, job_of, offered, undone};
use crate::harness::message::query;
use crate::harness::server::{Database, Server};
use crate::harness::shop::Refused;
use crate::harness::sluice::{Setup, Sluice};
use crate::harness::stories;
use crate::harness::tool::Tool;
use crate::harness::wire::Wire;
use std::time::{Duration, Instant};

stories! {
    a_rate_that_somebody_sets, while_too_many_run, while_it_is_vacuumed, outside_its_hours, another_policy_meanwhile, a_replica_that_is_behind, archives_past_their_retention,
    small_changes_come_back_too, what_an_undo_still_needs, jobs_as_the_program_shows_them,
}

fn gate(server: &'static Server, jobs: &str) -> (Database, Sluice) {
    let database = server.database(THINGS);
    let sluice = Setup::before(&database).with(&format!("[jobs]\n{jobs}\n")).start();
    (database, sluice)
}

/// A job of 5,000 rows that was confirmed, and is on its way.
fn begun(database: &Database, sluice: &Sluice) -> Wire {
    let mut wire = sluice.connect(database);
    let token = offered(&wire.simple("UPDATE things SET n = n + 1"));
    wire.send(&query(&format!("SLUICE CONFIRM '{token}'")));
    wire
}

/// Until the list says that it waits for this; its id.
pub fn waits_for(other: &mut Wire, what: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let jobs = other.simple("SLUICE JOBS").rows();
        let why = jobs.first().and_then(|row| row[6].clone()).unwrap_or_default();
        if why.starts_with("waiting: ") && why.contains(what) {
            return jobs[0][0].clone().expect("an id");
        }
        assert!(Instant::now() < deadline, "it does not wait for {what}: {jobs:?}");
    }
}

fn a_rate_that_somebody_sets(server: &'static Server) {
    let (database, sluice) = gate(server, "rows_per_second = 100");
    let began = Instant::now();
    let mut wire = begun(&database, &sluice);
    let mut other = sluice.connect(&database);
    let job = waits_for(&mut other, "it keeps to 100 rows/s");
    database.wait_until("SELECT count(*) >= 200 FROM things WHERE n = id % 7 + 1");
    assert!(began.elapsed() > Duration::from_secs(1), "200 rows in {:?}", began.elapsed());
    let slower = other.simple(&format!("SLUICE THROTTLE '{job}' 7"));
    assert_eq!(slower.rows()[0][1].as_deref(), Some("7"), "{slower:#?}");
    waits_for(&mut other, "it keeps to 7 rows/s");
    let shown = other.simple(&format!("SLUICE JOB '{job}'")).rows();
    assert!(shown.contains(&vec![Some("throttle".to_owned()), Some("7 rows/s".to_owned())]), "{shown:?}");
    assert_eq!(other.simple(&format!("SLUICE THROTTLE '{job}' 0")).code(), "42601", "OFF is said in words");
    other.simple(&format!("SLUICE THROTTLE '{job}' OFF")).expect_fine("as fast as it can");
    let outcome = wire.until_ready();
    assert_eq!(outcome.tags(), ["UPDATE 5000"], "{outcome:#?}");
    assert_eq!(database.value("SELECT count(*) FROM things WHERE n = id % 7 + 1"), "5000");
}

fn while_too_many_run(server: &'static Server) {
    let (database, sluice) = gate(server, "running = 2\nreplica_lag = \"off\"");
    database.server.administer("GRANT pg_read_all_stats TO trusty");
    let mut busy = [database.connect(), database.connect(), database.connect()];
    busy.iter_mut().for_each(|wire| wire.send(&query("SELECT pg_sleep(600)")));
    database.wait_until("SELECT count(*) = 3 FROM pg_stat_activity WHERE datname = current_database() AND query = 'SELECT pg_sleep(600)'");
    let mut wire = begun(&database, &sluice);
    waits_for(&mut sluice.connect(&database), "statements run (limit 2)");
    database.run("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)' AND datname = current_database()");
    // Others of this server's stories may run statements as well: it goes on when few do.
    wire.patience(Duration::from_secs(120));
    assert_eq!(wire.until_ready().tags(), ["UPDATE 5000"]);
}

fn while_it_is_vacuumed(server: &'static Server) {
    let (database, sluice) = gate(server, "");
    let mut vacuum = database.connect();
    vacuum.simple("BEGIN; LOCK TABLE things IN SHARE UPDATE EXCLUSIVE MODE").expect_fine("as a vacuum does");
    let mut wire = begun(&database, &sluice);
    waits_for(&mut sluice.connect(&database), "the table is being vacuumed");
    let told = wire.until(b'N').notices().join(" ");
    assert!(told.contains("0/5,000 rows") && told.contains("waiting: the table is being vacuumed"), "{told}");
    vacuum.simple("COMMIT").expect_fine("it is done");
    assert_eq!(wire.until_ready().tags(), ["UPDATE 5000"]);
}

/// A policy that is loaded while a job waits is the one it waits for from then on.
fn another_policy_meanwhile(server: &'static Server) {
    let hour: u32 =
        server.database("").value("SELECT extract(hour FROM now() AT TIME ZONE 'UTC')::int").parse().expect("an hour");
    let window = format!("time = [\"daily {:02}:00-{:02}:00 UTC\"]", (hour + 6) % 24, (hour + 7) % 24);
    let (database, mut sluice) = gate(server, &window);
    let mut wire = begun(&database, &sluice);
    waits_for(&mut sluice.connect(&database), "jobs run at other times");
    sluice.reload("[jobs]\nbatch_time = \"100ms\"");
    assert_eq!(wire.until_ready().tags(), ["UPDATE 5000"]);
}

fn outside_its_hours(server: &'static Server) {
    // Six hours from now, whenever this runs.
    let hour: u32 =
        server.database("").value("SELECT extract(hour FROM now() AT TIME ZONE 'UTC')::int").parse().expect("an hour");
    let window = format!("time = [\"daily {:02}:00-{:02}:00 UTC\"]", (hour + 6) % 24, (hour + 7) % 24);
    let (database, sluice) = gate(server, &window);
    let mut wire = begun(&database, &sluice);
    let mut other = sluice.connect(&database);
    let job = waits_for(&mut other, "jobs run at other times");
    other.simple(&format!("SLUICE PAUSE '{job}'")).expect_fine("asked for");
    let paused = Refused::of(&wire.until_ready());
    assert_eq!(paused.code, "SL006", "{paused:?}");
    assert_eq!(database.value("SELECT count(*) FROM things WHERE n = id % 7"), "5000");
}

/// One that was asked for and cannot be measured is waited for. (How far a real one is behind is tried by hand: benches/README.md.)
fn a_replica_that_is_behind(server: &'static Server) {
    let database =
        server.database(&format!("{THINGS}; GRANT ALL ON things TO other; GRANT CREATE ON SCHEMA public TO other"));
    let sluice = Setup::before(&database).with("[jobs]\nrunning = 1000\n").start();
    let mut wire = sluice.connect_as("other", &database);
    let token = offered(&wire.simple("UPDATE things SET n = n + 1"));
    wire.send(&query(&format!("SLUICE CONFIRM '{token}'")));
    waits_for(
        &mut sluice.connect_as("other", &database),
        "how many statements run is not known: this user is not shown it (pg_monitor)",
    );
    database.server.administer("GRANT pg_read_all_stats TO other");
    let outcome = wire.until_ready();
    database.server.administer("REVOKE pg_read_all_stats FROM other");
    assert_eq!(outcome.tags(), ["UPDATE 5000"]);
}

fn archives_past_their_retention(server: &'static Server) {
    let (database, sluice) = gate(server, "archive_retention = \"1 s\"");
    let mut wire = sluice.connect(&database);
    let mut job = |statement: &str| {
        let token = offered(&wire.simple(statement));
        let outcome = confirm(&mut wire, &token);
        assert!(outcome.error().is_none(), "{outcome:#?}");
        outcome
    };
    let id = |outcome: &crate::harness::wire::Outcome| {
        let line = outcome.notices().into_iter().find(|line| line.contains(": done, ")).expect("it is done");
        line.split("job ").nth(1).expect("an id").chars().take_while(char::is_ascii_alphanumeric).collect::<String>()
    };
    let first = id(&job("UPDATE things SET n = n + 1"));
    let archives = "SELECT count(*) FROM pg_class WHERE relname LIKE '\\_archive\\_%' AND relkind = 'r'";
    assert_eq!(database.value(archives), "1");
    let now = database.value("SELECT clock_timestamp()");
    database.wait_until(&format!("SELECT clock_timestamp() > timestamptz '{now}' + interval '1.5 s'"));
    let outcome = job("UPDATE things SET n = n - 1");
    assert!(
        outcome.notices().iter().any(|line| line.contains(&format!("the archive of job {first} was dropped"))),
        "{outcome:#?}"
    );
    assert_eq!(database.value(archives), "1", "that of the second");
    let listed = wire.simple("SLUICE ARCHIVES").rows();
    let until = |job: &str| {
        listed.iter().find(|row| row[2].as_deref() == Some(job)).and_then(|row| row[5].clone()).expect("listed")
    };
    assert!(until(&first).starts_with("dropped 20"), "{listed:?}");
    assert!(until(&id(&outcome)).starts_with("20"), "{listed:?}");
    let refused = Refused::of(&wire.simple(&format!("SLUICE UNDO '{first}'")));
    assert!(refused.message.contains("was dropped, past its retention"), "{refused:?}");
    let recorded = |line: &serde_json::Value| {
        line["note"].as_str().is_some_and(|note| note.starts_with(&format!("DROP ARCHIVE of job {first}")))
    };
    assert_eq!(sluice.record().iter().filter(|line| recorded(line)).count(), 1);
}

/// What is no larger than a batch is archived as well, if it was asked about.
fn small_changes_come_back_too(server: &'static Server) {
    let (database, sluice) = gate(server, "");
    let before = digest(&database, "things");
    let mut wire = sluice.connect(&database);
    database.run("CREATE TABLE few AS SELECT * FROM things WHERE id <= 50; ALTER TABLE few ADD PRIMARY KEY (id); CREATE TABLE keyless AS TABLE few; ANALYZE");
    let refused = Refused::to_confirm(&wire.simple("DELETE FROM few"));
    assert!(
        refused.hint.contains("To carry it out, each row archived first, so that it can be undone:"),
        "{refused:?}"
    );
    let outcome = confirm(&mut wire, &refused.token());
    assert_eq!(outcome.tags(), ["DELETE 50"], "{outcome:#?}");
    assert_eq!(undone(&mut wire, &job_of(&outcome)).tags(), ["SLUICE UNDO 50"]);
    let refused = Refused::to_confirm(&wire.simple("DELETE FROM keyless"));
    assert!(refused.hint.contains("(not to be undone: it has no unique key"), "{refused:?}");
    assert_eq!(confirm(&mut wire, &refused.token()).tags(), ["DELETE 50"]);
    assert_eq!(digest(&database, "things"), before);
}

fn jobs_as_the_program_shows_them(server: &'static Server) {
    let (database, sluice) = gate(server, "");
    let program = |watch: &[&str]| {
        Tool::new(env!("CARGO_BIN_EXE_sluice"))
            .args(["jobs", "--config"])
            .args([sluice.configuration()])
            .args(watch)
            .run()
    };
    assert_eq!(program(&[]).out, "no jobs\n");
    let mut holder = database.connect();
    holder.simple("BEGIN; LOCK TABLE things IN SHARE UPDATE EXCLUSIVE MODE").expect_fine("as a vacuum does");
    let mut wire = begun(&database, &sluice);
    let job = waits_for(&mut sluice.connect(&database), "vacuumed");
    let listed = program(&[]).out;
    assert!(
        listed.contains(&job) && listed.contains("running") && listed.contains("waiting: the table is being vacuumed"),
        "{listed}"
    );
    std::thread::scope(|scope| {
        let watched = scope.spawn(|| program(&["--watch"]));
        holder.simple("COMMIT").expect_fine("it is done");
        assert_eq!(wire.until_ready().tags(), ["UPDATE 5000"]);
        let watched = watched.join().expect("the program");
        assert_eq!(watched.code, Some(0), "{watched:?}");
    });
    let listed = program(&[]).out;
    assert!(listed.contains("done") && listed.contains("5,000") && listed.contains("public.things"), "{listed}");
}

/// An undo that had to leave a row keeps its archive, however old that is.
fn what_an_undo_still_needs(server: &'static Server) {
    let (database, sluice) = gate(server, "archive_retention = \"1 s\"");
    let mut wire = sluice.connect(&database);
    let token = offered(&wire.simple("DELETE FROM things WHERE kind = 'old'"));
    let job = job_of(&confirm(&mut wire, &token));
    database.run("INSERT INTO things (id, kind) VALUES (1501, 'taken')");
    let now = database.value("SELECT clock_timestamp()");
    database.wait_until(&format!("SELECT clock_timestamp() > timestamptz '{now}' + interval '1.5 s'"));
    let undo = undone(&mut wire, &job);
    assert_eq!(undo.tags(), ["SLUICE UNDO 3999"], "{undo:#?}");
    assert!(undo.notices().iter().any(|line| line.contains("id 1501")), "{undo:#?}");
    database.run("DELETE FROM things WHERE id = 1501");
    assert_eq!(undone(&mut wire, &job).tags(), ["SLUICE UNDO 1"]);
}
