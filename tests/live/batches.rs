//! Changes in batches: what they change is what the statement alone would have changed, whatever happens on the way, and undo gives back
//! what was there.
//!
//! Invariant: whether a table is what it was, is told by a digest over all its rows, asked of the server itself.

use crate::harness::chance::{self, Dialect};
use crate::harness::message::{bind, cancel_request, execute, parse, query, sync};
use crate::harness::server::{Database, Server};
use crate::harness::shop::Refused;
use crate::harness::sluice::{Setup, Sluice};
use crate::harness::stories;
use crate::harness::wire::{Outcome, Wire};

stories! {
    a_large_delete_goes_in_batches_and_comes_back, an_update_that_must_not_run_twice, every_kind_of_key, what_changed_since_is_left,
    killed_in_mid_job, killed_again_and_again, the_database_is_lost_in_mid_job, the_client_leaves_in_mid_job, cancelled_in_mid_job, paused_from_another_session,
    two_sessions_never_run_one_job, others_who_write_meanwhile_lose_nothing, without_an_archive_nothing_changes, columns_that_one_may_not_read,
    a_table_that_is_not_what_it_was, whose_job_it_is, more_rows_than_agreed_to, in_a_transaction_it_runs_whole, by_the_extended_protocol, bound_values, triggers_in_the_way_of_an_undo,
    partitions, the_clock_stands_still, by_chance,
}

/// 5,000 rows with every sort of column that is not simply written.
pub const THINGS: &str = "
    CREATE TABLE things (
        id int PRIMARY KEY, n int NOT NULL DEFAULT 0, kind text, twice int GENERATED ALWAYS AS (n * 2) STORED,
        at timestamptz DEFAULT '2026-01-01', doc json, \"Odd \"\"name\" numeric(12,4), bits bytea, list int[],
        own int GENERATED ALWAYS AS IDENTITY);
    INSERT INTO things (id, n, kind, doc, \"Odd \"\"name\", bits, list)
        SELECT i, i % 7, CASE WHEN i % 5 < 4 THEN 'old' ELSE 'new' END, json_build_object('i', i), i / 3.0, int4send(i),
               CASE WHEN i % 3 = 0 THEN ARRAY[i, NULL] END FROM generate_series(1, 5000) i;
    ANALYZE things";

/// Everything a table holds.
pub fn digest(database: &Database, table: &str) -> String {
    database.value(&format!(
        "SELECT count(*) || ' ' || md5(coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '')) FROM {table} t"
    ))
}

pub fn gate(server: &'static Server, setup: &str) -> (Database, Sluice) {
    let database = server.database(setup);
    let sluice = Setup::before(&database).start();
    (database, sluice)
}

/// Refused, with batches on offer.
pub fn offered(outcome: &Outcome) -> String {
    let refused = Refused::to_confirm(outcome);
    assert!(refused.hint.contains("batches of up to 1,000 rows, each row archived first"), "{refused:?}");
    refused.token()
}

pub fn confirm(wire: &mut Wire, token: &str) -> Outcome {
    wire.simple(&format!("SLUICE CONFIRM '{token}'"))
}

/// The id in "job 01JD…: done".
fn job_in(text: &str) -> String {
    let start = text.find("job ").unwrap_or_else(|| panic!("no job in {text}")) + 4;
    text[start..].trim_start_matches(": ").chars().take_while(char::is_ascii_alphanumeric).collect()
}

pub fn job_of(outcome: &Outcome) -> String {
    job_in(outcome.notices().last().unwrap_or_else(|| panic!("no notice: {outcome:#?}")))
}

/// The one job that there is.
pub fn only_job(wire: &mut Wire) -> Vec<Option<String>> {
    let jobs = wire.simple("SLUICE JOBS");
    assert_eq!(jobs.rows().len(), 1, "{jobs:#?}");
    jobs.rows().remove(0)
}

pub fn undone(wire: &mut Wire, job: &str) -> Outcome {
    let token = Refused::to_confirm(&wire.simple(&format!("SLUICE UNDO '{job}'"))).token();
    confirm(wire, &token)
}

fn a_large_delete_goes_in_batches_and_comes_back(server: &'static Server) {
    let (database, sluice) = gate(server, THINGS);
    let mut wire = sluice.connect(&database);
    let before = digest(&database, "things");
    let token = offered(&wire.simple("DELETE FROM things WHERE kind = 'old' -- the old ones"));
    let outcome = confirm(&mut wire, &token);
    assert_eq!((outcome.tags(), outcome.status()), (vec!["DELETE 4000".to_owned()], 'I'), "{outcome:#?}");
    assert_eq!(database.value("SELECT count(*) || ' ' || count(*) FILTER (WHERE kind = 'old') FROM things"), "1000 0");
    let job = job_of(&outcome);
    let row = only_job(&mut wire);
    let cell = |at: usize| row[at].clone().unwrap_or_default();
    assert_eq!(
        (cell(0), cell(1).as_str(), cell(2).as_str(), cell(3).as_str()),
        (job.clone(), "done", "public.things", "4000")
    );
    assert!(cell(5).parse::<u64>().expect("a number") >= 4, "{row:?}");
    let undo = undone(&mut wire, &job);
    assert_eq!(undo.tags(), ["SLUICE UNDO 4000"], "{undo:#?}");
    assert_eq!(digest(&database, "things"), before);
    let again = Refused::of(&wire.simple(&format!("SLUICE UNDO '{job}'")));
    assert!(again.message.contains("put back already"), "{again:?}");
    assert_eq!(sluice.verify_record().code, Some(0));
}

fn an_update_that_must_not_run_twice(server: &'static Server) {
    let (database, sluice) = gate(server, THINGS);
    let mut wire = sluice.connect(&database);
    let before = digest(&database, "things");
    let token = offered(&wire.simple("UPDATE things AS x SET n = x.n + 1, kind = upper(x.kind) WHERE x.id > 300"));
    let outcome = confirm(&mut wire, &token);
    assert_eq!(outcome.tags(), ["UPDATE 4700"], "{outcome:#?}");
    assert_eq!(
        database.value(
            "SELECT count(*) FROM things WHERE n = id % 7 + (id > 300)::int AND (kind = upper(kind)) = (id > 300)"
        ),
        "5000"
    );
    let undo = undone(&mut wire, &job_of(&outcome));
    assert_eq!(undo.tags(), ["SLUICE UNDO 4700"], "{undo:#?}");
    assert_eq!(digest(&database, "things"), before);
}

fn every_kind_of_key(server: &'static Server) {
    for (kinds, keys) in [
        ("k bigint", "i * 1000000007::bigint"),
        ("k smallint", "i - 1500"),
        ("k numeric(20,3)", "(i - 1500) / 3.0"),
        ("k text", "'it''s \\ ' || i || CASE WHEN i % 2 = 0 THEN 'é' ELSE 'E' END"),
        ("k varchar(40) COLLATE \"C\"", "'V' || i"),
        ("k char(12)", "'c' || i"),
        ("k uuid", "md5(i::text)::uuid"),
        ("k date", "date '2026-01-01' - i"),
        ("k timestamp", "timestamp '1999-12-31 23:59:59.123456' + i * interval '1 hour'"),
        ("k timestamptz", "timestamptz '2026-03-29 00:00+00' + i * interval '10 minutes'"),
        ("k bytea", "decode(md5(i::text), 'hex')"),
        ("a boolean, \"B b\" int", "i % 2 = 0, i / 2"),
        ("a text, b date, c int", "CASE WHEN i < 1500 THEN 'x' ELSE 'y' END, date '2026-01-01' + i % 30, i"),
    ] {
        let names: Vec<String> = kinds
            .split(", ")
            .map(|column| match column.strip_prefix('"') {
                Some(rest) => format!("\"{}\"", rest.split('"').next().expect("a quote")),
                None => column.split(' ').next().expect("a name").to_owned(),
            })
            .collect();
        let setup = format!(
            "CREATE TABLE keyed (v int, {kinds}, PRIMARY KEY ({key})); INSERT INTO keyed SELECT i, {keys} FROM generate_series(1, 3000) i; ANALYZE keyed",
            key = names.join(", ")
        );
        let (database, sluice) = gate(server, &setup);
        let mut wire = sluice.connect(&database);
        wire.simple("SET datestyle = 'SQL, DMY'").expect_fine("a session of its own ways");
        let before = digest(&database, "keyed");
        for (statement, tag) in [
            ("DELETE FROM keyed WHERE v % 3 > 0", "DELETE 2000"),
            ("UPDATE keyed SET v = v + 10000 WHERE v > 100", "UPDATE 2900"),
        ] {
            let token = offered(&wire.simple(statement));
            let outcome = confirm(&mut wire, &token);
            assert_eq!(outcome.tags(), [tag], "{kinds}: {outcome:#?}");
            let undo = undone(&mut wire, &job_of(&outcome));
            assert!(undo.error().is_none(), "{kinds}: {undo:#?}");
            assert_eq!(digest(&database, "keyed"), before, "{kinds}: {statement}");
        }
    }
}

fn what_changed_since_is_left(server: &'static Server) {
    let (database, sluice) = gate(server, THINGS);
    let mut wire = sluice.connect(&database);
    let token = offered(&wire.simple("UPDATE things SET n = n + 100"));
    let updated = job_of(&confirm(&mut wire, &token));
    database.run("UPDATE things SET kind = 'mine' WHERE id IN (7, 8)");
    database.run("DELETE FROM things WHERE id = 9");
    let undo = undone(&mut wire, &updated);
    assert_eq!(undo.tags(), ["SLUICE UNDO 4997"], "{undo:#?}");
    let told = undo.notices().join("\n");
    assert!(told.contains("3 rows were left as they are") && told.contains("id 7; 8; 9"), "{told}");
    assert_eq!(database.value("SELECT count(*) FROM things WHERE n >= 100 AND id IN (7, 8)"), "2");
    assert_eq!(database.value("SELECT count(*) FROM things WHERE n < 100"), "4997");

    let token = offered(&wire.simple("DELETE FROM things WHERE id <= 3000"));
    let deleted = job_of(&confirm(&mut wire, &token));
    database.run("INSERT INTO things (id, n, kind) VALUES (11, 1, 'taken again')");
    let undo = undone(&mut wire, &deleted);
    assert_eq!(undo.tags(), ["SLUICE UNDO 2998"], "{undo:#?}");
    assert_eq!(database.value("SELECT kind FROM things WHERE id = 11"), "taken again");
    // The key is free again: the same undo finishes.
    database.run("DELETE FROM things WHERE id = 11");
    assert_eq!(undone(&mut wire, &deleted).tags(), ["SLUICE UNDO 1"]);
}

pub const WAITS: &str =
    "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')";

/// A job that has done its first batches and waits for a row that somebody holds.
pub fn stuck(server: &'static Server) -> (Database, Sluice, Wire, Wire) {
    let (database, sluice) = gate(server, THINGS);
    let mut holder = database.connect();
    holder.simple("BEGIN; SELECT FROM things WHERE id = 3000 FOR UPDATE").expect_fine("a row held");
    let mut wire = sluice.connect(&database);
    let token = offered(&wire.simple("UPDATE things SET n = n + 1"));
    wire.send(&query(&format!("SLUICE CONFIRM '{token}'")));
    database.wait_until(WAITS);
    (database, sluice, wire, holder)
}

/// Each row was changed exactly once, and comes back.
pub fn finish(database: &Database, wire: &mut Wire) {
    let row = only_job(wire);
    let job = row[0].clone().expect("an id");
    let outcome = wire.simple(&format!("SLUICE RESUME '{job}'"));
    assert_eq!(outcome.tags(), ["UPDATE 5000"], "{outcome:#?}");
    assert_eq!(database.value("SELECT count(*) FROM things WHERE n = id % 7 + 1"), "5000");
    assert_eq!(undone(wire, &job).tags(), ["SLUICE UNDO 5000"]);
    assert_eq!(database.value("SELECT count(*) FROM things WHERE n = id % 7"), "5000");
}

pub fn partly_done(database: &Database) {
    let done: u64 = database.value("SELECT count(*) FROM things WHERE n = id % 7 + 1").parse().expect("a number");
    assert!(done > 0 && done < 3000, "batches before the row that is held, and none behind it: {done}");
}

fn killed_in_mid_job(server: &'static Server) {
    let (database, sluice, wire, mut holder) = stuck(server);
    let sluice = sluice.crash_and_restart();
    drop(wire);
    holder.simple("ROLLBACK").expect_fine("the row is let go");
    partly_done(&database);
    let mut wire = sluice.connect(&database);
    let refused = Refused::to_confirm(&wire.simple("UPDATE things SET n = n + 1"));
    assert!(refused.detail.starts_with("The same statement is running as job"), "{refused:?}");
    finish(&database, &mut wire);
}

fn the_database_is_lost_in_mid_job(server: &'static Server) {
    let (database, sluice, mut wire, mut holder) = stuck(server);
    database.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
    );
    wire.until_closed();
    holder.simple("ROLLBACK").expect_fine("the row is let go");
    partly_done(&database);
    finish(&database, &mut sluice.connect(&database));
}

fn the_client_leaves_in_mid_job(server: &'static Server) {
    let (database, sluice, wire, mut holder) = stuck(server);
    drop(wire);
    holder.simple("ROLLBACK").expect_fine("the row is let go");
    database.wait_until("SELECT count(*) = 2 FROM pg_stat_activity WHERE datname = current_database()");
    let mut wire = sluice.connect(&database);
    let row = only_job(&mut wire);
    assert_eq!((row[1].as_deref(), row[6].as_deref()), (Some("paused"), Some("its client has left")), "{row:?}");
    finish(&database, &mut wire);
}

fn cancelled_in_mid_job(server: &'static Server) {
    let (database, sluice, mut wire, mut holder) = stuck(server);
    let mut canceller = Wire::open(&sluice.address);
    canceller.send(&cancel_request(&wire.key()));
    assert!(canceller.some_bytes().is_empty());
    let paused = Refused::of(&wire.until_ready());
    assert_eq!(paused.code, "SL006", "{paused:?}");
    assert!(paused.message.contains("cancelled by the client") && paused.hint.contains("SLUICE RESUME"), "{paused:?}");
    holder.simple("ROLLBACK").expect_fine("the row is let go");
    partly_done(&database);
    finish(&database, &mut wire);
}

fn paused_from_another_session(server: &'static Server) {
    let (database, sluice, mut wire, mut holder) = stuck(server);
    let mut other = sluice.connect(&database);
    let job = only_job(&mut other)[0].clone().expect("an id");
    other.simple(&format!("SLUICE PAUSE '{job}'")).expect_fine("asked for");
    let paused = Refused::of(&wire.until_ready());
    assert_eq!(paused.code, "SL006", "{paused:?}");
    holder.simple("ROLLBACK").expect_fine("the row is let go");
    assert_eq!(only_job(&mut other)[1].as_deref(), Some("paused"));
    finish(&database, &mut other);
    let over = Refused::of(&other.simple(&format!("SLUICE CANCEL '{job}'")));
    assert!(over.message.contains("done"), "{over:?}");
}

fn two_sessions_never_run_one_job(server: &'static Server) {
    let (database, sluice, mut wire, mut holder) = stuck(server);
    let mut other = sluice.connect(&database);
    let job = only_job(&mut other)[0].clone().expect("an id");
    let refused = Refused::of(&other.simple(&format!("SLUICE RESUME '{job}'")));
    assert!(refused.message.contains("another session is carrying it out"), "{refused:?}");
    holder.simple("ROLLBACK").expect_fine("the row is let go");
    let outcome = wire.until_ready();
    assert_eq!(outcome.tags(), ["UPDATE 5000"], "{outcome:#?}");
    assert_eq!(database.value("SELECT count(*) FROM things WHERE n = id % 7 + 1"), "5000");
    assert_eq!(only_job(&mut other)[1].as_deref(), Some("done"));
}

fn others_who_write_meanwhile_lose_nothing(server: &'static Server) {
    let (database, sluice) = gate(server, THINGS);
    let mut wire = sluice.connect(&database);
    let token = offered(&wire.simple("UPDATE things SET n = n + 1000"));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let writes = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut wire = database.connect();
            let mut writes = 0u64;
            while !stop.load(std::sync::atomic::Ordering::Acquire) {
                let id = writes * 7919 % 5000 + 1;
                wire.simple(&format!("UPDATE things SET n = n + 1 WHERE id = {id}")).expect_fine("a small write");
                writes += 1;
            }
            writes
        });
        let outcome = confirm(&mut wire, &token);
        stop.store(true, std::sync::atomic::Ordering::Release);
        assert_eq!(outcome.tags(), ["UPDATE 5000"], "{outcome:#?}");
        writer.join().expect("the writer")
    });
    assert_eq!(database.value(&format!("SELECT sum(n - id % 7) = 5000 * 1000 + {writes} FROM things")), "t");
    assert_eq!(database.value("SELECT count(*) FROM things WHERE n < 1000"), "0");
}

fn without_an_archive_nothing_changes(server: &'static Server) {
    // Twice as many columns as it has are more than a table may have.
    let wide = "DO $$BEGIN FOR i IN 1..800 LOOP EXECUTE format('ALTER TABLE things ADD x%s bool', i); END LOOP; END$$";
    let (database, sluice) = gate(server, &format!("{THINGS}; {wide}"));
    let before = digest(&database, "things");
    let mut wire = sluice.connect(&database);
    let token = offered(&wire.simple("UPDATE things SET n = n + 1 WHERE kind = 'old'"));
    let refused = Refused::of(&confirm(&mut wire, &token));
    assert!(refused.message.contains("its archive cannot be made: tables can have at most 1600"), "{refused:?}");
    assert!(refused.hint.contains("BEGIN; the statement; COMMIT"), "{refused:?}");
    assert_eq!(digest(&database, "things"), before);
    assert_eq!(wire.simple("SELECT 'and on'").value(), "and on");
    // Whom the preview knows not to be able to make one is told beforehand.
    let setup = format!("{THINGS}; REVOKE CREATE ON SCHEMA public FROM public; GRANT ALL ON things TO other");
    let (database, sluice) = gate(server, &setup);
    let mut wire = sluice.connect_as("other", &database);
    let refused = Refused::to_confirm(&wire.simple("DELETE FROM things WHERE kind = 'old'"));
    assert!(refused.hint.contains("not in batches: this user may not make an archive in public"), "{refused:?}");
    assert_eq!(confirm(&mut wire, &refused.token()).tags(), ["DELETE 4000"]);
    // And so is who could not put the rows back.
    let setup = format!("{THINGS}; GRANT CREATE ON SCHEMA public TO other; GRANT SELECT, DELETE ON things TO other");
    let (database, sluice) = gate(server, &setup);
    let refused =
        Refused::to_confirm(&sluice.connect_as("other", &database).simple("DELETE FROM things WHERE kind = 'old'"));
    assert!(
        refused.hint.contains("perhaps not to be undone by SLUICE UNDO: this user lacks INSERT on things"),
        "{refused:?}"
    );
}

fn a_table_that_is_not_what_it_was(server: &'static Server) {
    let (database, sluice, mut wire, mut holder) = stuck(server);
    let mut canceller = Wire::open(&sluice.address);
    canceller.send(&cancel_request(&wire.key()));
    assert!(canceller.some_bytes().is_empty());
    wire.until_ready();
    holder.simple("ROLLBACK").expect_fine("the row is let go");
    let job = only_job(&mut wire)[0].clone().expect("an id");
    wire.simple("SET search_path = pg_catalog, public").expect_fine("other names");
    let refused = Refused::of(&wire.simple(&format!("SLUICE RESUME '{job}'")));
    assert!(refused.message.contains("search_path is not set here as it was"), "{refused:?}");
    wire.simple("RESET search_path").expect_fine("as it was");
    database.run("ALTER TABLE things ADD more int");
    wire.simple("SELECT pg_sleep(0)").expect_fine("another statement");
    let mut fresh = sluice.connect(&database);
    let refused = Refused::of(&fresh.simple(&format!("SLUICE RESUME '{job}'")));
    assert!(refused.message.contains("is not what it was when the job was confirmed"), "{refused:?}");
    partly_done(&database);
}

fn whose_job_it_is(server: &'static Server) {
    let (database, sluice) = gate(server, &format!("{THINGS}; GRANT ALL ON things TO other"));
    let mut wire = sluice.connect(&database);
    let token = offered(&wire.simple("DELETE FROM things WHERE kind = 'old'"));
    let job = job_of(&confirm(&mut wire, &token));
    let mut other = sluice.connect_as("other", &database);
    assert_eq!(other.simple("SLUICE JOBS").rows().len(), 1, "who may use the database sees its jobs");
    for command in ["UNDO", "RESUME", "PAUSE", "CANCEL"] {
        let refused = Refused::of(&other.simple(&format!("SLUICE {command} '{job}'")));
        assert_eq!(refused.code, "SL003", "{command}: {refused:?}");
    }
    for wrong in ["nonsense", "01JD00000000000000000000ZZ"] {
        assert!(wire.simple(&format!("SLUICE UNDO '{wrong}'")).error().is_some(), "{wrong}");
    }
    assert_eq!(database.value("SELECT count(*) FROM things"), "1000");
}

fn more_rows_than_agreed_to(server: &'static Server) {
    let (database, sluice) = gate(server, THINGS);
    let mut holder = database.connect();
    holder.simple("BEGIN; SELECT FROM things WHERE id = 1 FOR UPDATE").expect_fine("a row held");
    let mut wire = sluice.connect(&database);
    let token = offered(&wire.simple("DELETE FROM things WHERE kind = 'old' AND id <= 3000"));
    wire.send(&query(&format!("SLUICE CONFIRM '{token}'")));
    database.wait_until(WAITS);
    // 2,400 were shown; all 3,000 match now.
    holder.simple("UPDATE things SET kind = 'old'; COMMIT").expect_fine("more of them");
    let paused = Refused::of(&wire.until_ready());
    assert_eq!(paused.code, "SL006", "{paused:?}");
    assert!(paused.message.contains("more rows match than the 2,520 that were agreed to"), "{paused:?}");
    let gone: u64 = 5000 - database.value("SELECT count(*) FROM things").parse::<u64>().expect("a number");
    assert!(gone <= 2520, "{gone}");
}

fn in_a_transaction_it_runs_whole(server: &'static Server) {
    let (database, sluice) = gate(server, THINGS);
    let mut wire = sluice.connect(&database);
    let token = offered(&wire.simple("DELETE FROM things WHERE kind = 'old'"));
    wire.simple("BEGIN").expect_fine("a transaction");
    let outcome = confirm(&mut wire, &token);
    assert_eq!((outcome.tags(), outcome.status()), (vec!["DELETE 4000".to_owned()], 'T'), "{outcome:#?}");
    assert!(outcome.notices().join("\n").contains("it runs whole here, without an archive"), "{outcome:#?}");
    wire.simple("ROLLBACK").expect_fine("as the client wants it");
    assert_eq!(database.value("SELECT count(*) FROM things"), "5000");
    assert!(wire.simple("SLUICE JOBS").rows().is_empty());
    wire.simple("BEGIN").expect_fine("a transaction");
    let refused = Refused::to_confirm(&wire.simple("DELETE FROM things WHERE kind = 'old'"));
    assert!(refused.hint.contains("not in batches: it stands in a transaction"), "{refused:?}");
}

/// As drivers send it.
fn by_the_extended_protocol(server: &'static Server) {
    let (database, sluice) = gate(server, THINGS);
    let mut wire = sluice.connect(&database);
    let token = offered(&wire.extended("DELETE FROM things WHERE kind = 'old'", &[]));
    let outcome = wire.extended(&format!("SLUICE CONFIRM '{token}'"), &[]);
    assert_eq!(outcome.tags(), ["DELETE 4000"], "{outcome:#?}");
    let job = job_of(&outcome);
    assert_eq!(wire.extended("SLUICE JOBS", &[]).rows().len(), 1);
    let refused = Refused::to_confirm(&wire.extended(&format!("SLUICE UNDO '{job}'"), &[]));
    let undo = wire.extended(&format!("SLUICE CONFIRM '{}'", refused.token()), &[]);
    assert_eq!(undo.tags(), ["SLUICE UNDO 4000"], "{undo:#?}");
    assert_eq!(database.value("SELECT count(*) FROM things"), "5000");
}

/// What a driver binds stands in every batch, with its type, and a job goes on with it from any session.
fn bound_values(server: &'static Server) {
    let (database, sluice) = gate(server, THINGS);
    let before = digest(&database, "things");
    let mut wire = sluice.connect(&database);
    let statement = "UPDATE things SET kind = $1, n = n + $2 WHERE id > $3::int AND kind <> $1 -- $4";
    let token = offered(&wire.extended(statement, &["it's \\ $2", "3", "100"]));
    let outcome = confirm(&mut wire, &token);
    assert_eq!(outcome.tags(), ["UPDATE 4900"], "{outcome:#?}");
    let changed = r"SELECT count(*) FROM things WHERE kind = 'it''s \ $2' AND n = id % 7 + 3 AND id > 100";
    assert_eq!(database.value(changed), "4900");
    undone(&mut wire, &job_of(&outcome));
    assert_eq!(digest(&database, "things"), before);
    // By a hint, as a script sends it: the Execute is answered when all of it is done.
    let token = offered(&wire.extended(statement, &["x", "3", "100"]));
    let outcome = wire.extended(&format!("{statement}\n/* sluice: confirm={token} */"), &["x", "3", "100"]);
    assert_eq!(outcome.tags(), ["UPDATE 4900"], "{outcome:#?}");
    assert!(outcome.notices().iter().any(|line| line.contains("undo with: SLUICE UNDO")), "{outcome:#?}");
    undone(&mut wire, &job_of(&outcome));
    assert_eq!(digest(&database, "things"), before);
    // In binary, NULL, and a type whose name alone would cut it off.
    database.run("ALTER TABLE things ADD c char(8); UPDATE things SET c = 'abc'");
    let statement = "UPDATE things SET at = $1, n = $2 WHERE c = $3::bpchar";
    let values: &[Option<&[u8]>] = &[None, Some(&7i32.to_be_bytes()), Some(b"abc")];
    wire.send(&[parse("", statement, &[]), bind("", "", 1, values), execute("", 0), sync()].concat());
    let refused = Refused::to_confirm(&wire.until_ready());
    let outcome = confirm(&mut wire, &refused.token());
    assert_eq!(outcome.tags(), ["UPDATE 5000"], "{outcome:#?}");
    assert_eq!(database.value("SELECT count(*) FROM things WHERE at IS NULL AND n = 7"), "5000");
    undone(&mut wire, &job_of(&outcome));
    // It waits for a row when Sluice is killed, and goes on in another session.
    let mut holder = database.connect();
    holder.simple("BEGIN; SELECT FROM things WHERE id = 3000 FOR UPDATE").expect_fine("a row held");
    let token = offered(&wire.extended("UPDATE things SET n = n + $1", &["1"]));
    wire.send(&query(&format!("SLUICE CONFIRM '{token}'")));
    database.wait_until(WAITS);
    let sluice = sluice.crash_and_restart();
    drop(wire);
    holder.simple("ROLLBACK").expect_fine("the row is let go");
    let mut wire = sluice.connect(&database);
    let job = wire.simple("SLUICE JOBS").rows()[0][0].clone().expect("an id");
    let shown = wire.simple(&format!("SLUICE JOB '{job}'")).rows();
    assert!(
        shown.iter().any(|row| row[1].as_deref().is_some_and(|text| text.contains("CAST"))),
        "with its values: {shown:?}"
    );
    assert_eq!(wire.simple(&format!("SLUICE RESUME '{job}'")).tags(), ["UPDATE 5000"]);
    assert_eq!(database.value("SELECT count(*) FROM things WHERE n = id % 7 + 1"), "5000");
}

fn triggers_in_the_way_of_an_undo(server: &'static Server) {
    let setup = format!(
        "{THINGS}; CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.at := clock_timestamp(); RETURN NEW; END$$;
         CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON things FOR EACH ROW EXECUTE FUNCTION stamp()"
    );
    let (database, sluice) = gate(server, &setup);
    let mut wire = sluice.connect(&database);
    let refused = Refused::to_confirm(&wire.simple("DELETE FROM things WHERE kind = 'old'"));
    assert!(refused.hint.contains("perhaps not to be undone by SLUICE UNDO: what stamp does"), "{refused:?}");
    let outcome = confirm(&mut wire, &refused.token());
    assert_eq!(outcome.tags(), ["DELETE 4000"], "{outcome:#?}");
    let left = digest(&database, "things");
    let refused = Refused::of(&undone(&mut wire, &job_of(&outcome)));
    assert!(refused.message.contains("a trigger changes what is put back"), "{refused:?}");
    assert_eq!(digest(&database, "things"), left, "nothing is put back as what it was not");
}

fn partitions(server: &'static Server) {
    let setup = "CREATE TABLE parts (id int, day date, v text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
        CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
        CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
        INSERT INTO parts SELECT i, date '2026-01-01' + i % 59, 'v' || i FROM generate_series(1, 4000) i; ANALYZE parts";
    let (database, sluice) = gate(server, setup);
    let mut wire = sluice.connect(&database);
    let before = digest(&database, "parts");
    for (statement, tag) in [
        ("DELETE FROM parts WHERE id > 1000", "DELETE 3000"),
        ("UPDATE parts SET v = v || '!' WHERE day > '2026-01-03'", "UPDATE 3797"),
    ] {
        let token = offered(&wire.simple(statement));
        let outcome = confirm(&mut wire, &token);
        assert_eq!(outcome.tags(), [tag], "{outcome:#?}");
        let undo = undone(&mut wire, &job_of(&outcome));
        assert!(undo.error().is_none(), "{undo:#?}");
        assert_eq!(digest(&database, "parts"), before, "{statement}");
    }
}

fn the_clock_stands_still(server: &'static Server) {
    let (database, sluice) = gate(server, THINGS);
    let mut wire = sluice.connect(&database);
    let token = offered(&wire.simple("UPDATE things SET at = now() WHERE at < now() - interval '1 day'"));
    let outcome = confirm(&mut wire, &token);
    assert_eq!(outcome.tags(), ["UPDATE 5000"], "{outcome:#?}");
    assert_eq!(database.value("SELECT count(DISTINCT at) FROM things"), "1");
}

/// Wherever it is killed, what is changed and what is archived are the same rows, each once.
fn killed_again_and_again(server: &'static Server) {
    let database = server.database(THINGS);
    let mut sluice = Setup::before(&database).with("[limits]\nbatch_rows = 40").start();
    let mut wire = sluice.connect(&database);
    let before = digest(&database, "things");
    let refused = Refused::to_confirm(&wire.simple("UPDATE things SET n = n + 1"));
    wire.send(&query(&format!("SLUICE CONFIRM '{}'", refused.token())));
    database.wait_until("SELECT EXISTS (SELECT FROM pg_class WHERE relname LIKE '\\_archive\\_%' AND relkind = 'r')");
    let archive = database.value("SELECT relname FROM pg_class WHERE relname LIKE '\\_archive\\_%' AND relkind = 'r'");
    let mut job = String::new();
    for rows in [1, 700, 1500, 2800, 4400] {
        database.wait_until(&format!("SELECT count(*) >= {rows} FROM {archive}"));
        sluice = sluice.crash_and_restart();
        wire.until_closed();
        // What was sent last may still be carried out: its session ends with the lock.
        database.wait_until("SELECT NOT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE l.locktype = 'advisory' AND d.datname = current_database())");
        let changed = format!("SELECT count(*) = (SELECT count(*) FROM {archive}) FROM things WHERE n = id % 7 + 1");
        assert_eq!(database.value(&changed), "t", "after {rows}");
        assert_eq!(
            database.value("SELECT count(*) FROM things WHERE n NOT IN (id % 7, id % 7 + 1)"),
            "0",
            "after {rows}"
        );
        wire = sluice.connect(&database);
        job = only_job(&mut wire)[0].clone().expect("an id");
        wire.send(&query(&format!("SLUICE RESUME '{job}'")));
    }
    assert_eq!(wire.until_ready().tags(), ["UPDATE 5000"]);
    assert_eq!(database.value("SELECT count(*) FROM things WHERE n = id % 7 + 1"), "5000");
    assert_eq!(undone(&mut wire, &job).tags(), ["SLUICE UNDO 5000"]);
    assert_eq!(digest(&database, "things"), before);
    assert_eq!(sluice.verify_record().code, Some(0));
}

fn columns_that_one_may_not_read(server: &'static Server) {
    let setup =
        format!("{THINGS}; GRANT CREATE ON SCHEMA public TO other; GRANT DELETE, SELECT (kind) ON things TO other");
    let (database, sluice) = gate(server, &setup);
    let before = digest(&database, "things");
    let mut wire = sluice.connect_as("other", &database);
    let refused = Refused::to_confirm(&wire.simple("DELETE FROM things WHERE kind = 'old'"));
    assert!(refused.hint.contains("not in batches: this user may not read all columns of things"), "{refused:?}");
    assert_eq!(digest(&database, "things"), before);
}

/// Whatever the table and the change: in batches it does what it does alone, and what is undone never was.
fn by_chance(server: &'static Server) {
    const DIALECT: Dialect = Dialect {
        keys: &[
            ("int", "$ * 3 - 50"),
            ("bigint", "$ * 1000003::bigint"),
            ("numeric(10,2)", "$ * 7 / 4.0"),
            ("varchar(20)", "concat(substr('aAzZ_ -', $ % 7 + 1, 1), $)"),
            ("date", "date '2020-01-01' + $"),
            ("timestamp", "timestamp '2020-01-01' + $ * interval '977.000001 s'"),
            ("uuid", "md5($::text)::uuid"),
        ],
        moment: "timestamp",
        float: "float8",
    };
    let database = server.database("");
    let sluice = Setup::before(&database).with("[limits]\nbatch_rows = 7\nfree_rows = 1").start();
    let mut wire = sluice.connect(&database);
    let mut jobs = 0;
    for seed in 0..25 {
        let change = chance::change(seed, &DIALECT);
        for table in ["gated", "alone"] {
            let setup = format!("DROP TABLE IF EXISTS $t; {}; {}; ANALYZE $t", change.create, change.fill);
            database.run(&setup.replace("$t", table));
        }
        let before = digest(&database, "gated");
        let statement = change.statement.replace("$t", "gated");
        let outcome = wire.simple(&statement);
        let alone = database.connect().simple(&change.statement.replace("$t", "alone"));
        if outcome.error().is_none() {
            continue;
        }
        let token = Refused::to_confirm(&outcome).token();
        let outcome = confirm(&mut wire, &token);
        assert_eq!(outcome.tags(), alone.tags(), "{seed}: {statement}: {outcome:#?}");
        assert_eq!(digest(&database, "gated"), digest(&database, "alone"), "{seed}: {statement}");
        // A batch or less is asked about as well, where it has no true condition, and runs whole.
        if outcome.notices().is_empty() {
            continue;
        }
        let undo = undone(&mut wire, &job_of(&outcome));
        assert!(undo.error().is_none(), "{seed}: {statement}: {undo:#?}");
        assert_eq!(digest(&database, "gated"), before, "{seed}: {statement}");
        jobs += 1;
    }
    assert!(jobs > 10, "{jobs}");
}
