//! Jobs against those who would make them do something else: another's archive, another table, another meaning, a stop that does not stop.
//!
//! Invariant: each of these went through once.

use crate::batches::{THINGS, WAITS, confirm, digest, finish, gate, job_of, offered, only_job, stuck, undone};
use crate::harness::message::{bind, execute, parse, query, sync};
use crate::harness::server::{Database, OTHER, SUPERUSER, Server};
use crate::harness::shop::Refused;
use crate::harness::sluice::Setup;
use crate::harness::stories;
use crate::harness::wire::Wire;
use crate::throttling::waits_for;

stories! {
    an_archive_of_another, the_table_is_changed_meanwhile, stopped_whoever_carries_it_out, cancelled_while_nobody_ran_it,
    undone_while_it_runs, rows_taken_out_of_the_archive, another_table_by_its_name, letters_of_another_encoding, functions_of_the_users_own,
    what_settings_round, only_the_parent, rows_that_refer_to_one_another, what_dates_mean, a_session_that_only_reads, rows_that_cannot_come_back, rows_in_one_anothers_way, rows_changed_between_two_undos, names_that_change_before_a_bound_job_runs, another_table_before_it_in_the_path,
    a_trigger_that_keeps_rows_after_all, keys_that_are_disabled, rows_that_lose_and_then_go, partitions_with_children, lines_that_triggers_add, rights_on_columns, what_is_undone_is_over, what_waits_for_the_commit, parents_of_two_batches, keys_whose_rows_were_counted_elsewhere,
    what_triggers_do_to_objects, names_that_are_keywords, archives_that_would_be_published, a_job_of_an_execute, triggers_below_that_run_before, columns_that_were_renamed, a_function_that_comes_to_stand_before,
}

fn job(wire: &mut Wire) -> String {
    only_job(wire)[0].clone().expect("an id")
}

fn answered(wire: &mut Wire, command: &str, job: &str) -> Refused {
    Refused::of(&wire.simple(&format!("SLUICE {command} '{job}'")))
}

/// Whoever may make tables puts one where a job's archive would be, whose trigger would run by the rights of the job's user.
fn an_archive_of_another(server: &'static Server) {
    let setup = format!(
        "{THINGS}; CREATE SCHEMA s; GRANT USAGE, CREATE ON SCHEMA s TO public; ALTER TABLE things SET SCHEMA s; GRANT ALL ON s.things TO other"
    );
    let (database, sluice) = gate(server, &setup);
    let mut wire = sluice.connect_as("other", &database);
    let token = offered(&wire.simple("UPDATE s.things SET n = n + 1"));
    // It is paused when its archive is made, and no row is changed.
    let mut holder = database.connect();
    holder.simple("BEGIN; LOCK TABLE s.things IN SHARE UPDATE EXCLUSIVE MODE").expect_fine("as a vacuum does");
    wire.send(&query(&format!("SLUICE CONFIRM '{token}'")));
    let mut pauser = sluice.connect_as("other", &database);
    let id = waits_for(&mut pauser, "vacuumed");
    pauser.simple(&format!("SLUICE PAUSE '{id}'")).expect_fine("asked for");
    let refused = Refused::of(&wire.until_ready());
    assert!(refused.message.contains("after 0 of 5,000 rows") && refused.hint.contains("BEGIN"), "{refused:?}");
    holder.simple("COMMIT").expect_fine("let go");
    let archive = wire.simple(&format!("SLUICE JOB '{id}'")).rows();
    let archive = archive
        .iter()
        .find(|row| row[0].as_deref() == Some("archive"))
        .and_then(|row| row[1].clone())
        .expect("an archive");
    let name = archive.rsplit('.').next().expect("a name");
    let new = database.value(
        "SELECT string_agg(format('t.%I AS %I', attname, 'new:' || attname), ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 's.things'::regclass AND attnum > 0",
    );
    database.run(&format!(
        "DROP TABLE s.{name}; CREATE TABLE s.{name} AS SELECT 0::int8 AS sluice_batch, NULL::timestamptz AS sluice_undone, t.*, {new} FROM s.things t LIMIT 0"
    ));
    database.run(&format!("GRANT ALL ON s.{name} TO public; CREATE UNIQUE INDEX {name}_by_key ON s.{name} (id)"));
    let refused = answered(&mut wire, "RESUME", &id);
    assert!(refused.message.contains("is not the archive as it was made"), "{refused:?}");
    assert_eq!(database.value("SELECT count(*) FROM s.things WHERE n = id % 7"), "5000");
}

/// A batch gives up waiting for the row, and somebody changes the table before the next try.
fn the_table_is_changed_meanwhile(server: &'static Server) {
    for (change, undo) in [
        ("ALTER TABLE things ADD extra text DEFAULT 'precious'", true),
        ("ALTER TABLE things ALTER kind TYPE varchar(20)", false),
        ("CREATE TABLE kids (of int REFERENCES things ON DELETE CASCADE)", true),
        (
            "CREATE FUNCTION more() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER more AFTER UPDATE ON things FOR EACH ROW EXECUTE FUNCTION more()",
            true,
        ),
        ("DROP TABLE things; CREATE TABLE things (id int PRIMARY KEY, n int, kind text)", false),
    ] {
        let (database, _sluice, mut wire, mut holder) = stuck(server);
        // It is let in behind the batch that waits, before the next one.
        let mut other = database.connect();
        other.send(&query(change));
        database.wait_until("SELECT count(*) >= 2 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'");
        holder.simple("ROLLBACK").expect_fine("the row is let go");
        let outcome = wire.until_ready();
        assert!(other.until_ready().error().is_none(), "{change}");
        let refused = Refused::of(&outcome);
        assert_eq!(refused.code, "SL006", "{change}: {refused:?}");
        let id = job(&mut wire);
        let refused = answered(&mut wire, "RESUME", &id);
        assert!(refused.code == "SL003" || refused.code == "SL007", "{change}: {refused:?}");
        if undo {
            let undo = undone(&mut wire, &id);
            assert!(undo.error().is_none(), "{change}: {undo:#?}");
            assert_eq!(database.value("SELECT count(*) FROM things WHERE n = id % 7"), "5000", "{change}");
        }
    }
}

fn stopped_whoever_carries_it_out(server: &'static Server) {
    let (database, _sluice, mut wire, mut holder) = stuck(server);
    let sluice = &_sluice;
    let mut other = sluice.connect(&database);
    let id = job(&mut other);
    for command in ["PAUSE", "PAUSE", "CANCEL"] {
        other.simple(&format!("SLUICE {command} '{id}'")).expect_fine("asked for");
        let stopped = Refused::of(&wire.until_ready());
        assert_eq!(stopped.code, "SL006", "{command}: {stopped:?}");
        if command == "CANCEL" {
            break;
        }
        wire.send(&query(&format!("SLUICE RESUME '{id}'")));
        database.wait_until(WAITS);
        assert_eq!(only_job(&mut other)[1].as_deref(), Some("running"));
    }
    assert_eq!(only_job(&mut other)[1].as_deref(), Some("cancelled"));
    assert!(answered(&mut wire, "RESUME", &id).message.contains("cancelled"));
    holder.simple("ROLLBACK").expect_fine("the row is let go");
    assert!(
        database.value("SELECT count(*) FROM things WHERE n = id % 7 + 1").parse::<u64>().expect("a number") < 3000
    );
}

fn cancelled_while_nobody_ran_it(server: &'static Server) {
    let (database, sluice, wire, mut holder) = stuck(server);
    let sluice = sluice.crash_and_restart();
    drop(wire);
    holder.simple("ROLLBACK").expect_fine("the row is let go");
    let mut wire = sluice.connect(&database);
    let id = job(&mut wire);
    for command in ["CANCEL", "PAUSE"] {
        wire.simple(&format!("SLUICE {command} '{id}'")).expect_fine("nobody runs it, which is not known");
    }
    let refused = answered(&mut wire, "RESUME", &id);
    assert!(refused.message.contains("the job is over"), "{refused:?}");
    let jobs = wire.simple("SLUICE JOBS").rows();
    assert!(
        jobs.iter().any(|row| row[0].as_deref() == Some(&id) && row[1].as_deref() == Some("cancelled")),
        "{jobs:?}"
    );
    assert!(undone(&mut wire, &id).error().is_none());
    assert_eq!(database.value("SELECT count(*) FROM things WHERE n = id % 7"), "5000");
}

fn undone_while_it_runs(server: &'static Server) {
    let (database, sluice, mut wire, mut holder) = stuck(server);
    let mut other = sluice.connect(&database);
    let id = job(&mut other);
    let refused = answered(&mut other, "UNDO", &id);
    assert!(refused.message.contains("is being carried out"), "{refused:?}");
    other.simple(&format!("SLUICE PAUSE '{id}'")).expect_fine("asked for");
    wire.until_ready();
    let token = Refused::to_confirm(&other.simple(&format!("SLUICE UNDO '{id}'"))).token();
    holder.simple("ROLLBACK").expect_fine("the row is let go");
    assert_eq!(wire.simple(&format!("SLUICE RESUME '{id}'")).tags(), ["UPDATE 5000"]);
    let refused = Refused::of(&confirm(&mut other, &token));
    assert!(refused.message.contains("rows were shown"), "{refused:?}");
    assert_eq!(database.value("SELECT count(*) FROM things WHERE n = id % 7 + 1"), "5000");
}

fn rows_taken_out_of_the_archive(server: &'static Server) {
    let (database, sluice, mut wire, mut holder) = stuck(server);
    let mut other = sluice.connect(&database);
    let id = job(&mut other);
    other.simple(&format!("SLUICE PAUSE '{id}'")).expect_fine("asked for");
    wire.until_ready();
    holder.simple("ROLLBACK").expect_fine("the row is let go");
    let archive = database.value("SELECT relname FROM pg_class WHERE relname LIKE '\\_archive\\_%' AND relkind = 'r'");
    database.run(&format!("TRUNCATE {archive}"));
    let refused = answered(&mut wire, "RESUME", &id);
    assert!(refused.message.contains("somebody took some out"), "{refused:?}");
    assert_eq!(database.value("SELECT count(*) FROM things WHERE n > id % 7 + 1"), "0", "none twice");
}

fn another_table_by_its_name(server: &'static Server) {
    let (database, sluice) = gate(server, THINGS);
    let mut wire = sluice.connect(&database);
    let token = offered(&wire.simple("DELETE FROM things WHERE kind = 'old'"));
    let id = job_of(&confirm(&mut wire, &token));
    database.run("ALTER TABLE things RENAME TO was; CREATE TABLE things (LIKE was INCLUDING ALL)");
    let refused = Refused::of(&undone(&mut wire, &id));
    assert!(refused.message.contains("is another table than the one that was changed"), "{refused:?}");
    assert_eq!(database.value("SELECT count(*) FROM things"), "0");
}

/// Keys whose letters read as other letters in UTF-8.
fn letters_of_another_encoding(server: &'static Server) {
    let setup = "CREATE TABLE words (k text PRIMARY KEY, n int); INSERT INTO words SELECT '模' || i, 0 FROM generate_series(1, 3000) i; ANALYZE words";
    let (database, sluice) = gate(server, setup);
    let mut wire = sluice.connect(&database);
    let token = offered(&wire.simple("UPDATE words SET n = n + 1"));
    wire.simple("SET client_encoding = 'GBK'").expect_fine("another");
    let outcome = confirm(&mut wire, &token);
    // Whole or not at all: never a part of it under the name of all.
    assert!(outcome.error().is_some() || outcome.tags() == ["UPDATE 3000"], "{outcome:#?}");
    let changed = database.value("SELECT count(*) FROM words WHERE n = 1");
    assert_eq!(changed, if outcome.error().is_some() { "0" } else { "3000" });
}

fn functions_of_the_users_own(server: &'static Server) {
    let setup = format!(
        "{THINGS}; CREATE FUNCTION abs(text) RETURNS int LANGUAGE sql STABLE AS 'SELECT max(n)::int FROM things';
         CREATE FUNCTION more(int, int) RETURNS int LANGUAGE sql STABLE AS 'SELECT max(n)::int FROM things';
         CREATE OPERATOR ### (LEFTARG = int, RIGHTARG = int, FUNCTION = more)"
    );
    let (database, sluice) = gate(server, &setup);
    let mut wire = sluice.connect(&database);
    for statement in ["UPDATE things SET n = abs(kind) + 1", "UPDATE things SET n = (n ### 1) + 1"] {
        let outcome = wire.simple(statement);
        let Some(_) = outcome.error() else { panic!("not asked about: {outcome:#?}") };
        let refused = Refused::of(&outcome);
        let outcome = confirm(&mut wire, &refused.token());
        assert!(outcome.error().is_none(), "{statement}: {outcome:#?}");
        assert_eq!(database.value("SELECT count(DISTINCT n) FROM things"), "1", "{statement}");
    }
}

/// An undo compares what is there with what was left there, not how a session writes it.
fn what_settings_round(server: &'static Server) {
    let setup = "CREATE TABLE floats (id int PRIMARY KEY, f float8, n int); INSERT INTO floats SELECT i, 0.1, 0 FROM generate_series(1, 2000) i; ANALYZE floats";
    let (database, sluice) = gate(server, setup);
    let mut wire = sluice.connect(&database);
    wire.simple("SET extra_float_digits = -3").expect_fine("rounded");
    let token = offered(&wire.simple("UPDATE floats SET f = 0.3"));
    let id = job_of(&confirm(&mut wire, &token));
    database.run("UPDATE floats SET f = 0.1::float8 + 0.2::float8 WHERE id <= 10");
    let undo = undone(&mut wire, &id);
    assert_eq!(undo.tags(), ["SLUICE UNDO 1990"], "{undo:#?}");
}

fn only_the_parent(server: &'static Server) {
    let setup = "CREATE TABLE parent (id int PRIMARY KEY, n int); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
        INSERT INTO parent SELECT i, 0 FROM generate_series(1, 3000) i; INSERT INTO child SELECT i, 7 FROM generate_series(1, 3000) i;
        ANALYZE parent";
    let (database, sluice) = gate(server, setup);
    let mut wire = sluice.connect(&database);
    let before = digest(&database, "parent");
    let token = offered(&wire.simple("UPDATE ONLY parent SET n = n + 1"));
    let outcome = confirm(&mut wire, &token);
    assert_eq!(outcome.tags(), ["UPDATE 3000"], "{outcome:#?}");
    let undo = undone(&mut wire, &job_of(&outcome));
    assert_eq!(undo.tags(), ["SLUICE UNDO 3000"], "{undo:#?}");
    assert_eq!(digest(&database, "parent"), before);
}

/// Alone the statement may delete parents before their children: what it leaves is whole.
fn rows_that_refer_to_one_another(server: &'static Server) {
    let setup = "CREATE TABLE tree (id int PRIMARY KEY, up int REFERENCES tree); INSERT INTO tree SELECT i, i - 1 FROM generate_series(1, 3000) i WHERE i = 0;
        INSERT INTO tree SELECT i, NULLIF(i - 1, 0) FROM generate_series(1, 3000) i; ANALYZE tree";
    let (database, sluice) = gate(server, setup);
    let mut wire = sluice.connect(&database);
    let refused = Refused::to_confirm(&wire.simple("DELETE FROM tree WHERE id > 0"));
    assert!(refused.hint.contains("its rows refer to one another"), "{refused:?}");
    assert_eq!(confirm(&mut wire, &refused.token()).tags(), ["DELETE 3000"]);
    assert_eq!(database.value("SELECT count(*) FROM tree"), "0");
}

fn what_dates_mean(server: &'static Server) {
    let (database, sluice, mut wire, mut holder) =
        stuck_by(server, "UPDATE things SET n = n + 1 WHERE at < '2026-06-01'");
    let mut other = sluice.connect(&database);
    let id = job(&mut other);
    other.simple(&format!("SLUICE PAUSE '{id}'")).expect_fine("asked for");
    wire.until_ready();
    holder.simple("ROLLBACK").expect_fine("the row is let go");
    wire.simple("SET timezone = 'Asia/Tokyo'").expect_fine("another midnight");
    let refused = answered(&mut wire, "RESUME", &id);
    assert!(refused.message.contains("TimeZone is not set here as it was"), "{refused:?}");
    wire.simple("RESET timezone; SET transform_null_equals = on")
        .expect_fine("as it was, and another meaning of = NULL");
    let refused = answered(&mut wire, "RESUME", &id);
    assert!(refused.message.contains("transform_null_equals is not set here as it was"), "{refused:?}");
    wire.simple("RESET transform_null_equals").expect_fine("as it was");
    finish(&database, &mut wire);
}

fn a_session_that_only_reads(server: &'static Server) {
    let (database, sluice, mut wire, mut holder) = stuck(server);
    let mut other = sluice.connect(&database);
    let id = job(&mut other);
    other.simple(&format!("SLUICE PAUSE '{id}'")).expect_fine("asked for");
    wire.until_ready();
    holder.simple("ROLLBACK").expect_fine("the row is let go");
    let done = database.value("SELECT count(*) FROM things WHERE n = id % 7 + 1");
    wire.simple("SET default_transaction_read_only = on").expect_fine("a guard of the client's own");
    let refused = answered(&mut wire, "RESUME", &id);
    assert!(refused.message.contains("read-only"), "{refused:?}");
    assert_eq!(database.value("SELECT count(*) FROM things WHERE n = id % 7 + 1"), done);
}

fn stuck_by(server: &'static Server, statement: &str) -> (Database, crate::harness::sluice::Sluice, Wire, Wire) {
    let (database, sluice) = gate(server, THINGS);
    let mut holder = database.connect();
    holder.simple("BEGIN; SELECT FROM things WHERE id = 3000 FOR UPDATE").expect_fine("a row held");
    let mut wire = sluice.connect(&database);
    let token = offered(&wire.simple(statement));
    wire.send(&query(&format!("SLUICE CONFIRM '{token}'")));
    database.wait_until(WAITS);
    (database, sluice, wire, holder)
}

/// What keeps one row from coming back keeps no other.
fn rows_that_cannot_come_back(server: &'static Server) {
    let setup = "CREATE TABLE parents (id int PRIMARY KEY); INSERT INTO parents SELECT generate_series(1, 100);
        CREATE TABLE kids (id int PRIMARY KEY, u int UNIQUE, of int REFERENCES parents, n int DEFAULT 0);
        INSERT INTO kids SELECT i, i, i % 100 + 1 FROM generate_series(1, 4000) i; ANALYZE kids";
    let (database, sluice) = gate(server, setup);
    let mut wire = sluice.connect(&database);
    let token = offered(&wire.simple("UPDATE kids SET u = u + 100000"));
    let updated = job_of(&confirm(&mut wire, &token));
    database.run("INSERT INTO kids VALUES (9001, 77, 1), (9002, 3999, 1)");
    let undo = undone(&mut wire, &updated);
    assert_eq!(undo.tags(), ["SLUICE UNDO 3998"], "{undo:#?}");
    assert!(undo.notices().join("\n").contains("id 77; 3999"), "{undo:#?}");
    assert_eq!(database.value("SELECT count(*) FROM kids WHERE u = id"), "3998");
    let token = offered(&wire.simple("DELETE FROM kids WHERE id BETWEEN 100 AND 3900"));
    let deleted = job_of(&confirm(&mut wire, &token));
    database.run(
        "DELETE FROM kids WHERE of = 5; DELETE FROM parents WHERE id = 5; ALTER TABLE kids ADD CHECK (id <> 1235)",
    );
    let refused = undone(&mut wire, &deleted);
    assert_eq!(refused.tags(), ["SLUICE UNDO 3762"], "{refused:#?}");
    database.run("INSERT INTO parents VALUES (5)");
    assert_eq!(undone(&mut wire, &deleted).tags(), ["SLUICE UNDO 38"]);
}

/// Values that move up by one come back in the other order than they went.
fn rows_in_one_anothers_way(server: &'static Server) {
    let database = server.database("CREATE TABLE list (id int PRIMARY KEY, pos int UNIQUE); INSERT INTO list SELECT i, i FROM generate_series(1, 40) i; ANALYZE");
    let sluice = Setup::before(&database).with("[limits]\nbatch_rows = 20\nfree_rows = 1").start();
    let mut wire = sluice.connect(&database);
    let refused = Refused::to_confirm(&wire.simple("UPDATE list SET pos = pos - 1"));
    assert!(refused.hint.contains("perhaps not to be undone by SLUICE UNDO: pos is unique"), "{refused:?}");
    let outcome = confirm(&mut wire, &refused.token());
    assert_eq!(outcome.tags(), ["UPDATE 40"], "{outcome:#?}");
    assert_eq!(undone(&mut wire, &job_of(&outcome)).tags(), ["SLUICE UNDO 40"]);
    assert_eq!(database.value("SELECT count(*) FROM list WHERE pos = id"), "40");
}

/// Rows that are back are the application's again: what it makes of them is nothing to the undo of others.
fn rows_changed_between_two_undos(server: &'static Server) {
    let (database, sluice) = gate(server, THINGS);
    let mut wire = sluice.connect(&database);
    let token = offered(&wire.simple("DELETE FROM things WHERE kind = 'old'"));
    let id = job_of(&confirm(&mut wire, &token));
    database.run("INSERT INTO things (id, kind) VALUES (1501, 'taken')");
    assert_eq!(undone(&mut wire, &id).tags(), ["SLUICE UNDO 3999"]);
    database.run("DELETE FROM things WHERE id = 1501; UPDATE things SET n = n + 50 WHERE id < 3000");
    assert_eq!(undone(&mut wire, &id).tags(), ["SLUICE UNDO 1"]);
    assert_eq!(database.value("SELECT kind FROM things WHERE id = 1501"), "old");
}

/// A token brought by a Bind is for the table that its text named then: what is sent between Bind and Execute gives it no other.
fn names_that_change_before_a_bound_job_runs(server: &'static Server) {
    let setup = format!(
        "{THINGS}; CREATE SCHEMA b; CREATE TABLE b.things (LIKE things INCLUDING ALL); INSERT INTO b.things SELECT * FROM things"
    );
    let setup = setup.replace(
        "INSERT INTO b.things SELECT * FROM things",
        "INSERT INTO b.things (id, n, kind) SELECT id, n, kind FROM things; ANALYZE",
    );
    let (database, sluice) = gate(server, &setup);
    let mut wire = sluice.connect(&database);
    let statement = "DELETE FROM things WHERE kind = $1";
    let token = offered(&wire.extended(statement, &["old"]));
    let hinted = format!("{statement} /* sluice: confirm={token} */");
    wire.send(
        &[
            parse("", &hinted, &[]),
            bind("p", "", 0, &[Some(b"old")]),
            query("SET search_path = b"),
            execute("p", 0),
            sync(),
        ]
        .concat(),
    );
    wire.until_ready();
    let outcome = wire.until_ready();
    assert!(outcome.error().is_some(), "{outcome:#?}");
    assert_eq!(
        database.value("SELECT (SELECT count(*) FROM things) || ' ' || (SELECT count(*) FROM b.things)"),
        "5000 5000"
    );
}

/// By the search path its name may come to mean another table while a job runs: it goes on with its own.
fn another_table_before_it_in_the_path(server: &'static Server) {
    let (database, sluice) = gate(server, &format!("{THINGS}; CREATE SCHEMA a"));
    let mut holder = database.connect();
    holder.simple("BEGIN; SELECT FROM things WHERE id = 3001 FOR UPDATE").expect_fine("a row held");
    let mut wire = sluice.connect(&database);
    wire.simple("SET search_path = a, public").expect_fine("a path");
    let token = offered(&wire.simple("DELETE FROM things AS t WHERE t.kind = 'old'"));
    wire.send(&query(&format!("SLUICE CONFIRM '{token}'")));
    database.wait_until(WAITS);
    database.run("CREATE TABLE a.things (LIKE public.things INCLUDING ALL); INSERT INTO a.things (id, n, kind) SELECT i, 0, 'old' FROM generate_series(1, 5000) i");
    holder.simple("ROLLBACK").expect_fine("given up");
    assert_eq!(wire.until_ready().tags(), ["DELETE 4000"]);
    let left =
        "SELECT (SELECT count(*) FROM public.things WHERE kind <> 'old') || ' ' || (SELECT count(*) FROM a.things)";
    assert_eq!(database.value(left), "1000 5000");
}

/// A function that comes to update rows where they were to go: nothing below them goes either.
fn a_trigger_that_keeps_rows_after_all(server: &'static Server) {
    let setup = format!(
        "{THINGS}; CREATE TABLE below (id serial PRIMARY KEY, thing int REFERENCES things ON DELETE CASCADE);
         INSERT INTO below (thing) SELECT id FROM things; CREATE INDEX ON below (thing); ANALYZE below;
         CREATE FUNCTION keeps() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END';
         CREATE TRIGGER keeps BEFORE DELETE ON things FOR EACH ROW EXECUTE FUNCTION keeps()"
    );
    let (database, sluice) = gate(server, &setup);
    let mut holder = database.connect();
    holder.simple("BEGIN; SELECT FROM things WHERE id = 3001 FOR UPDATE").expect_fine("a row held");
    let mut wire = sluice.connect(&database);
    let token = offered(&wire.simple("DELETE FROM things WHERE kind = 'old'"));
    wire.send(&query(&format!("SLUICE CONFIRM '{token}'")));
    database.wait_until(WAITS);
    database.run("CREATE OR REPLACE FUNCTION keeps() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE things SET n = 100 WHERE id = OLD.id; RETURN NULL; END'");
    holder.simple("ROLLBACK").expect_fine("given up");
    let refused = Refused::of(&wire.until_ready());
    assert!(refused.message.contains("paused"), "{refused:?}");
    assert_eq!(
        database.value("SELECT count(*) FROM things t WHERE NOT EXISTS (SELECT FROM below WHERE thing = t.id)"),
        "0"
    );
    let id = job(&mut wire);
    undone(&mut wire, &id).expect_fine("back");
    assert_eq!(
        database.value("SELECT (SELECT count(*) FROM things) || ' ' || (SELECT count(*) FROM below)"),
        "5000 5000"
    );
}

fn keys_that_are_disabled(server: &'static Server) {
    let setup = format!(
        "{THINGS}; CREATE TABLE below (id serial PRIMARY KEY, thing int REFERENCES things ON DELETE CASCADE);
         INSERT INTO below (thing) SELECT id FROM things; CREATE INDEX ON below (thing); ANALYZE below"
    );
    let (database, sluice) = gate(server, &setup);
    let mut root = Wire::login(&server.tcp(), SUPERUSER, &database.name);
    root.simple("ALTER TABLE things DISABLE TRIGGER ALL").expect_fine("straight");
    let mut wire = sluice.connect(&database);
    let token = offered(&wire.simple("DELETE FROM things WHERE kind = 'old'"));
    let refused = Refused::of(&confirm(&mut wire, &token));
    assert!(refused.message.contains("disabled"), "{refused:?}");
    assert_eq!(
        database.value("SELECT (SELECT count(*) FROM things) || ' ' || (SELECT count(*) FROM below)"),
        "5000 5000"
    );
}

/// A row that loses what it refers to in one batch, and goes in another, was shown once.
fn rows_that_lose_and_then_go(server: &'static Server) {
    let setup = format!(
        "{THINGS}; CREATE TABLE below (id serial PRIMARY KEY, a int REFERENCES things ON DELETE CASCADE, b int REFERENCES things ON DELETE SET NULL);
         INSERT INTO below (a, b) SELECT 5001 - id, id FROM things; CREATE INDEX ON below (a); CREATE INDEX ON below (b); ANALYZE below"
    );
    let (database, sluice) = gate(server, &setup);
    let before = [digest(&database, "things"), digest(&database, "below")];
    let mut wire = sluice.connect(&database);
    let token = offered(&wire.simple("DELETE FROM things WHERE kind = 'old'"));
    let outcome = confirm(&mut wire, &token);
    assert_eq!(outcome.tags(), ["DELETE 4000"], "{outcome:#?}");
    assert_eq!(
        database.value("SELECT count(*) || ' ' || count(b) FROM below"),
        database.value("SELECT count(*) || ' ' || count(*) FILTER (WHERE id % 5 = 4) FROM generate_series(1, 5000) id WHERE (5001 - id) % 5 = 4")
    );
    undone(&mut wire, &job_of(&outcome)).expect_fine("back");
    assert_eq!([digest(&database, "things"), digest(&database, "below")], before);
}

/// Of a partitioned table rows are counted by the partition: what its foreign keys could carry on, were it to nothing yet, runs whole.
fn partitions_with_children(server: &'static Server) {
    let setup = format!(
        "{THINGS}; CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE part PARTITION OF parts FOR VALUES FROM (0) TO (9999);
         INSERT INTO parts SELECT id FROM things; CREATE TABLE child (id int PRIMARY KEY, part int REFERENCES parts ON DELETE CASCADE); ANALYZE"
    );
    let (database, sluice) = gate(server, &setup);
    let refused = Refused::to_confirm(&sluice.connect(&database).simple("DELETE FROM parts WHERE id > 0"));
    assert!(refused.hint.contains("not in batches: foreign keys of a partitioned table"), "{refused:?}");
}

/// Triggers that only add lines somewhere do not stand in an undo's way.
fn lines_that_triggers_add(server: &'static Server) {
    let setup = format!(
        "{THINGS}; CREATE TABLE log (line text); CREATE FUNCTION logs() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO log VALUES (TG_OP); RETURN NULL; END';
         CREATE TRIGGER logs AFTER INSERT OR DELETE ON things FOR EACH ROW EXECUTE FUNCTION logs()"
    );
    let (database, sluice) = gate(server, &setup);
    let before = digest(&database, "things");
    let mut wire = sluice.connect(&database);
    let token = offered(&wire.simple("DELETE FROM things WHERE kind = 'old'"));
    let id = job_of(&confirm(&mut wire, &token));
    assert_eq!(undone(&mut wire, &id).tags(), ["SLUICE UNDO 4000"]);
    assert_eq!((digest(&database, "things"), database.value("SELECT count(*) FROM log")), (before, "8000".to_owned()));
}

/// Who may change some columns may not lock the table, which a batch does.
fn rights_on_columns(server: &'static Server) {
    let setup =
        format!("{THINGS}; GRANT SELECT, UPDATE (n) ON things TO {OTHER}; GRANT CREATE ON SCHEMA public TO {OTHER}");
    let (database, sluice) = gate(server, &setup);
    let mut wire = sluice.connect_as(OTHER, &database);
    let refused = Refused::to_confirm(&wire.simple("UPDATE things SET n = 9 WHERE kind = 'old'"));
    assert!(refused.hint.contains("not in batches: this user may change some columns"), "{refused:?}");
    assert_eq!(confirm(&mut wire, &refused.token()).tags(), ["UPDATE 4000"]);
}

/// A job that was stopped and undone is over.
fn what_is_undone_is_over(server: &'static Server) {
    let (database, sluice, mut wire, mut holder) = stuck(server);
    let id = job(&mut sluice.connect(&database));
    sluice.connect(&database).simple(&format!("SLUICE PAUSE '{id}'")).expect_fine("a wish");
    assert!(wire.until_ready().error().is_some());
    holder.simple("ROLLBACK").expect_fine("given up");
    undone(&mut wire, &id).expect_fine("back");
    let refused = Refused::of(&wire.simple(&format!("SLUICE RESUME '{id}'")));
    assert!(refused.message.contains("undone") && !refused.hint.contains("RESUME"), "{refused:?}");
    assert!(!Refused::to_confirm(&wire.simple("UPDATE things SET n = n + 1")).hint.contains("RESUME"));
    let jobs = wire.simple("SLUICE JOBS").rows();
    assert!(
        jobs.iter().any(|row| row[0].as_deref() == Some(&id) && row[1].as_deref() == Some("cancelled")),
        "{jobs:?}"
    );
}

/// What a constraint trigger would do at the commit is done before it is counted and compared.
fn what_waits_for_the_commit(server: &'static Server) {
    let setup = format!("{THINGS}; CREATE TABLE others (id int); INSERT INTO others SELECT generate_series(1, 500)");
    let (database, sluice) = gate(server, &setup);
    let mut wire = sluice.connect(&database);
    let token = offered(&wire.simple("DELETE FROM things WHERE kind = 'old'"));
    let id = job_of(&confirm(&mut wire, &token));
    for body in ["DELETE FROM others", "UPDATE things SET n = n + 1 WHERE id = NEW.id"] {
        database.run(&format!(
            "CREATE OR REPLACE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN {body}; RETURN NULL; END'; DROP TRIGGER IF EXISTS late ON things;
             CREATE CONSTRAINT TRIGGER late AFTER INSERT ON things DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late()"
        ));
        let undo = undone(&mut wire, &id);
        assert!(undo.error().is_some(), "{body}: {undo:#?}");
        let there = "SELECT (SELECT count(*) FROM things) || ' ' || (SELECT count(*) FROM others)";
        assert_eq!(database.value(there), "1000 500", "{body}: {undo:#?}");
    }
    // A row that cannot come back is left, whenever its key is looked at.
    database.run("DROP TRIGGER late ON things; CREATE TABLE kinds (n int PRIMARY KEY); INSERT INTO kinds SELECT generate_series(0, 5); DELETE FROM things WHERE n = 6;
                  ALTER TABLE things ADD FOREIGN KEY (n) REFERENCES kinds DEFERRABLE INITIALLY DEFERRED");
    let undo = undone(&mut wire, &id);
    let left: u64 = database
        .value("SELECT count(*) FROM generate_series(1, 5000) i WHERE i % 5 < 4 AND i % 7 = 6")
        .parse()
        .expect("a number");
    assert_eq!(undo.tags(), [format!("SLUICE UNDO {}", 4000 - left)], "{undo:#?}");
}

/// A row below two that went in different batches comes back when both are back.
fn parents_of_two_batches(server: &'static Server) {
    let setup = format!(
        "{THINGS}; CREATE TABLE below (id int PRIMARY KEY, a int REFERENCES things ON DELETE CASCADE, b int REFERENCES things ON DELETE CASCADE);
         INSERT INTO below SELECT i, i, 5001 - i FROM generate_series(1, 5000) i; CREATE INDEX ON below (a); CREATE INDEX ON below (b); ANALYZE below"
    );
    let (database, sluice) = gate(server, &setup);
    let before = digest(&database, "below");
    let mut wire = sluice.connect(&database);
    let token = offered(&wire.simple("DELETE FROM things WHERE kind = 'old'"));
    let id = job_of(&confirm(&mut wire, &token));
    database.run("INSERT INTO things (id, kind) VALUES (4991, 'taken')");
    undone(&mut wire, &id).expect_fine("what can");
    assert_eq!(database.value("SELECT count(*) FROM below WHERE 4991 IN (a, b)"), "0");
    database.run("DELETE FROM things WHERE id = 4991");
    undone(&mut wire, &id).expect_fine("the rest");
    assert_eq!(digest(&database, "below"), before);
}

/// Rows that go by one key with a later batch lose another with an earlier one, though the preview counts them once.
fn keys_whose_rows_were_counted_elsewhere(server: &'static Server) {
    let setup = "CREATE TABLE top (id int PRIMARY KEY, gone bool); INSERT INTO top SELECT i, true FROM generate_series(1, 3000) i;
         CREATE TABLE mid (id int PRIMARY KEY, top int REFERENCES top ON DELETE CASCADE); INSERT INTO mid SELECT i, i FROM generate_series(1, 3000) i;
         CREATE TABLE low (id int PRIMARY KEY, f0 int REFERENCES mid ON DELETE CASCADE, f1 int REFERENCES mid ON DELETE SET NULL, f2 int REFERENCES top ON DELETE CASCADE);
         INSERT INTO low SELECT i, NULL, i, 3001 - i FROM generate_series(1, 3000) i;
         CREATE INDEX ON mid (top); CREATE INDEX ON low (f0); CREATE INDEX ON low (f1); CREATE INDEX ON low (f2); ANALYZE";
    let (database, sluice) = gate(server, setup);
    let all = || ["top", "mid", "low"].map(|table| digest(&database, table));
    let before = all();
    let mut wire = sluice.connect(&database);
    let token = offered(&wire.simple("DELETE FROM top WHERE gone"));
    let outcome = confirm(&mut wire, &token);
    assert_eq!(outcome.tags(), ["DELETE 3000"], "{outcome:#?}");
    assert_eq!(database.value("SELECT (SELECT count(*) FROM mid) + (SELECT count(*) FROM low)"), "0");
    undone(&mut wire, &job_of(&outcome)).expect_fine("back");
    assert_eq!(all(), before);
}

/// What triggers do when rows are put back is held as what a statement does: they may not empty or drop other tables.
fn what_triggers_do_to_objects(server: &'static Server) {
    let setup = format!("{THINGS}; CREATE TABLE others (id int); INSERT INTO others SELECT generate_series(1, 500)");
    let (database, sluice) = gate(server, &setup);
    let mut wire = sluice.connect(&database);
    let token = offered(&wire.simple("DELETE FROM things WHERE kind = 'old'"));
    let id = job_of(&confirm(&mut wire, &token));
    for body in ["TRUNCATE others", "DROP TABLE IF EXISTS others", "ALTER TABLE others ADD more int"] {
        database.run(&format!(
            "CREATE OR REPLACE FUNCTION acts() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN {body}; RETURN NULL; END'; DROP TRIGGER IF EXISTS acts ON things;
             CREATE TRIGGER acts AFTER INSERT ON things EXECUTE FUNCTION acts()"
        ));
        let undo = undone(&mut wire, &id);
        assert!(undo.error().is_some(), "{body}: {undo:#?}");
        assert_eq!(database.value("SELECT (SELECT count(*) FROM things) || ' ' || (SELECT count(*) FROM others o WHERE o::text LIKE '(%)')"), "1000 500", "{body}: {undo:#?}");
        assert_eq!(
            database.value("SELECT count(*) FROM pg_attribute WHERE attrelid = 'others'::regclass AND attnum > 0"),
            "1",
            "{body}"
        );
    }
}

/// Which names the server quotes differs from version to version.
fn names_that_are_keywords(server: &'static Server) {
    let setup = "CREATE SCHEMA values; CREATE TABLE position (id int PRIMARY KEY, n int); INSERT INTO position SELECT i, i FROM generate_series(1, 3000) i;
         CREATE TABLE values.time (id int PRIMARY KEY, p int REFERENCES position ON DELETE CASCADE); INSERT INTO values.time SELECT i, i FROM generate_series(1, 3000) i;
         CREATE INDEX ON values.time (p); CREATE TABLE \"O.dd \"\"t\" (id int PRIMARY KEY, p int REFERENCES position ON DELETE CASCADE);
         INSERT INTO \"O.dd \"\"t\" SELECT i, i FROM generate_series(1, 2000) i; CREATE INDEX ON \"O.dd \"\"t\" (p); ANALYZE".replace("SCHEMA values", "SCHEMA \"values\"").replace("values.time", "\"values\".\"time\"").replace("position", "\"position\"");
    let (database, sluice) = gate(server, &setup);
    let mut wire = sluice.connect(&database);
    let token = offered(&wire.simple("DELETE FROM \"position\" WHERE n > 0"));
    let outcome = confirm(&mut wire, &token);
    assert_eq!(outcome.tags(), ["DELETE 3000"], "{outcome:#?}");
    assert_eq!(undone(&mut wire, &job_of(&outcome)).tags(), ["SLUICE UNDO 8000"]);
}

/// An archive that is published would stop whoever subscribes.
fn archives_that_would_be_published(server: &'static Server) {
    let (database, sluice) = gate(server, THINGS);
    let mut root = Wire::login(&server.tcp(), SUPERUSER, &database.name);
    root.simple("CREATE PUBLICATION everything FOR ALL TABLES").expect_fine("published");
    let mut wire = sluice.connect(&database);
    let token = offered(&wire.simple("DELETE FROM things WHERE kind = 'old'"));
    let refused = Refused::of(&confirm(&mut wire, &token));
    assert!(refused.message.contains("would be published (everything)"), "{refused:?}");
    assert_eq!(
        database.value(
            "SELECT count(*) || ' ' || (SELECT count(*) FROM pg_class WHERE relname LIKE '\\_archive%') FROM things"
        ),
        "5000 0"
    );
}

/// What stood behind a name stands in the job: it can be resumed where the name is not known.
fn a_job_of_an_execute(server: &'static Server) {
    let (database, sluice) = gate(server, THINGS);
    let mut holder = database.connect();
    holder.simple("BEGIN; SELECT FROM things WHERE id = 3000 FOR UPDATE").expect_fine("a row held");
    let mut wire = sluice.connect(&database);
    wire.simple("PREPARE x (int) AS UPDATE things SET n = n + 1 WHERE id > $1").expect_fine("a name");
    let token = offered(&wire.simple("EXECUTE x(0)"));
    wire.send(&query(&format!("SLUICE CONFIRM '{token}'")));
    database.wait_until(WAITS);
    let mut other = sluice.connect(&database);
    let id = job(&mut other);
    other.simple(&format!("SLUICE PAUSE '{id}'")).expect_fine("asked for");
    assert!(wire.until_ready().error().is_some());
    holder.simple("ROLLBACK").expect_fine("given up");
    let outcome = other.simple(&format!("SLUICE RESUME '{id}'"));
    assert_eq!(outcome.tags(), ["UPDATE 5000"], "{outcome:#?}");
}

/// By a foreign key they run as another, and may refuse what comes by none.
fn triggers_below_that_run_before(server: &'static Server) {
    let setup = format!(
        "{THINGS}; CREATE TABLE below (id serial PRIMARY KEY, thing int REFERENCES things ON DELETE CASCADE);
         INSERT INTO below (thing) SELECT id FROM things; CREATE INDEX ON below (thing); ANALYZE below;
         CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''delete the thing instead''; END';
         CREATE TRIGGER refuses BEFORE DELETE ON below FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION refuses()"
    );
    let (database, sluice) = gate(server, &setup);
    let mut wire = sluice.connect(&database);
    let refused = Refused::to_confirm(&wire.simple("DELETE FROM things WHERE kind = 'old'"));
    assert!(refused.hint.contains("the trigger refuses runs before"), "{refused:?}");
    assert_eq!(confirm(&mut wire, &refused.token()).tags(), ["DELETE 4000"]);
}

/// Columns of other names hold other values: nothing is put back into them.
fn columns_that_were_renamed(server: &'static Server) {
    let (database, sluice) =
        gate(server, &format!("{THINGS}; ALTER TABLE things ADD m int; UPDATE things SET m = 1; ANALYZE things"));
    let mut wire = sluice.connect(&database);
    let token = offered(&wire.simple("DELETE FROM things WHERE kind = 'old'"));
    let id = job_of(&confirm(&mut wire, &token));
    database.run("ALTER TABLE things RENAME n TO was; ALTER TABLE things RENAME m TO n; ALTER TABLE things RENAME was TO m; ALTER TABLE things ADD more int");
    let refused = Refused::of(&undone(&mut wire, &id));
    assert!(refused.message.contains("was renamed, dropped or made anew since"), "{refused:?}");
    database.run(
        "ALTER TABLE things RENAME n TO was; ALTER TABLE things RENAME m TO n; ALTER TABLE things RENAME was TO m",
    );
    assert_eq!(undone(&mut wire, &id).tags(), ["SLUICE UNDO 4000"]);
}

/// Functions are looked up anew in each batch: one of the users' own stops a job.
fn a_function_that_comes_to_stand_before(server: &'static Server) {
    let (database, sluice) =
        gate(server, &format!("{THINGS}; ALTER TABLE things ALTER kind TYPE varchar(9); ANALYZE things"));
    let mut holder = database.connect();
    holder.simple("BEGIN; SELECT FROM things WHERE id = 3001 FOR UPDATE").expect_fine("a row held");
    let mut wire = sluice.connect(&database);
    let token = offered(&wire.simple("DELETE FROM things WHERE lower(kind) = 'old'"));
    wire.send(&query(&format!("SLUICE CONFIRM '{token}'")));
    database.wait_until(WAITS);
    database
        .run("CREATE FUNCTION public.lower(varchar) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'old'::text $$");
    holder.simple("ROLLBACK").expect_fine("given up");
    let refused = Refused::of(&wire.until_ready());
    assert!(refused.message.contains("somebody changed it"), "{refused:?}");
    let id = job(&mut wire);
    assert_eq!(database.value("SELECT count(*) FROM things WHERE kind = 'new'"), "1000");
    assert!(wire.simple(&format!("SLUICE RESUME '{id}'")).error().is_some());
    assert_eq!(database.value("SELECT count(*) FROM things WHERE kind = 'new'"), "1000");
}
