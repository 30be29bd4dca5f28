//! Changes in batches that foreign keys carry on: what lies below a row goes with it, archived, and comes back with it.
//!
//! Invariant: as for batches of one table: what is left is what the database's own cascade would have left, and undo gives back what was there.

use crate::batches::{WAITS, confirm, digest, gate, job_of, offered, only_job, undone};
use crate::harness::chance;
use crate::harness::message::query;
use crate::harness::server::{Database, Server};
use crate::harness::shop::Refused;
use crate::harness::sluice::Setup;
use crate::harness::stories;

stories! {
    children_go_first_and_come_back, killed_in_mid_cascade, a_row_with_more_below_it_than_a_batch, what_comes_below_meanwhile, taken_keys_below_a_row,
    what_cannot_follow_runs_whole_or_is_told, by_chance,
}

/// 3,000 customers; below them orders (of another type of key), their lines, notes that hang on both, reviews that lose what they refer to, and a
/// table that has no such rows.
const FAMILY: &str = "
    CREATE TABLE customers (id int PRIMARY KEY, name text, gone boolean NOT NULL);
    CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer bigint REFERENCES customers ON DELETE CASCADE,
        total numeric(10,2), twice numeric GENERATED ALWAYS AS (total * 2) STORED);
    CREATE TABLE \"order Lines\" (of_order bigint, n int, what text, PRIMARY KEY (of_order, n),
        FOREIGN KEY (of_order) REFERENCES orders ON DELETE CASCADE);
    CREATE TABLE notes (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), customer int REFERENCES customers ON DELETE CASCADE,
        of_order bigint REFERENCES orders ON DELETE CASCADE, body text);
    CREATE TABLE reviews (id int PRIMARY KEY, customer int REFERENCES customers ON DELETE SET NULL, stars int);
    CREATE TABLE refunds (id int PRIMARY KEY, of_order bigint REFERENCES orders ON DELETE CASCADE);
    CREATE INDEX ON orders (customer); CREATE INDEX ON notes (customer); CREATE INDEX ON notes (of_order); CREATE INDEX ON reviews (customer);
    CREATE INDEX ON refunds (of_order);
    INSERT INTO customers SELECT i, 'c' || i, i % 3 = 0 FROM generate_series(1, 3000) i;
    INSERT INTO orders (customer, total) SELECT i % 3000 + 1, i FROM generate_series(1, 5000) i;
    INSERT INTO \"order Lines\" SELECT i / 2 + 1, i % 2, 'x' || i FROM generate_series(0, 9999) i;
    INSERT INTO notes (customer, of_order, body) SELECT CASE WHEN i % 2 = 0 THEN i % 3000 + 1 END, CASE WHEN i % 3 = 0 THEN i % 5000 + 1 END, i
        FROM generate_series(1, 3000) i;
    INSERT INTO reviews SELECT i, i % 3000 + 1, i % 5 FROM generate_series(1, 2000) i;
    INSERT INTO refunds VALUES (1, NULL);
    ANALYZE";

const TABLES: [&str; 6] = ["customers", "orders", "\"order Lines\"", "notes", "reviews", "refunds"];

fn digests(database: &Database) -> Vec<String> {
    TABLES.iter().map(|table| digest(database, table)).collect()
}

/// What the database's own cascade leaves.
fn alone(database: &Database, statement: &str) -> Vec<String> {
    let each: Vec<String> = TABLES
        .iter()
        .map(|table| format!("(SELECT count(*) || ' ' || md5(coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '')) FROM {table} t)"))
        .collect();
    let text = format!("BEGIN; {statement}; SELECT concat_ws('|', {}); ROLLBACK", each.join(", "));
    database.connect().simple(&text).rows()[0][0].clone().expect("a value").split('|').map(str::to_owned).collect()
}

fn children_go_first_and_come_back(server: &'static Server) {
    const STATEMENT: &str = "DELETE FROM customers AS c WHERE c.gone";
    let (database, sluice) = gate(server, FAMILY);
    let (before, expected) = (digests(&database), alone(&database, STATEMENT));
    let mut wire = sluice.connect(&database);
    let refusal = wire.simple(STATEMENT);
    let refused = Refused::to_confirm(&refusal);
    assert!(refused.hint.contains("To carry it out children first, in "), "{refused:?}");
    let outcome = confirm(&mut wire, &offered(&refusal));
    assert_eq!(outcome.tags(), ["DELETE 1000"], "{outcome:#?}");
    assert_eq!(digests(&database), expected);
    let job = job_of(&outcome);
    let row = only_job(&mut wire);
    assert!(row[3].as_ref().is_some_and(|rows| rows.parse::<u64>().is_ok_and(|rows| rows > 5_000)), "{row:?}");
    let shown = wire.simple(&format!("SLUICE JOB '{job}'")).rows();
    assert_eq!(shown.iter().filter(|row| row[0].as_deref() == Some("archive")).count(), 5, "{shown:#?}");
    let offer = Refused::to_confirm(&wire.simple(&format!("SLUICE UNDO '{job}'")));
    assert!(offer.message.contains("of public.customers and 4 tables below it"), "{offer:?}");
    let undo = confirm(&mut wire, &offer.token());
    assert!(undo.tags()[0].starts_with("SLUICE UNDO "), "{undo:#?}");
    assert_eq!(digests(&database), before);
    let again = Refused::of(&wire.simple(&format!("SLUICE UNDO '{job}'")));
    assert!(again.message.contains("put back already"), "{again:?}");
    assert_eq!(sluice.verify_record().code, Some(0));
}

/// A job that has done its first batches and waits for a row below its own that somebody holds.
fn killed_in_mid_cascade(server: &'static Server) {
    const STATEMENT: &str = "DELETE FROM customers WHERE gone";
    let (database, sluice) = gate(server, FAMILY);
    let (before, expected) = (digests(&database), alone(&database, STATEMENT));
    let mut holder = database.connect();
    holder.simple("BEGIN; SELECT FROM orders WHERE customer = 1800 FOR UPDATE").expect_fine("rows held");
    let mut wire = sluice.connect(&database);
    let token = offered(&wire.simple(STATEMENT));
    wire.send(&query(&format!("SLUICE CONFIRM '{token}'")));
    database.wait_until(WAITS);
    let sluice = sluice.crash_and_restart();
    drop(wire);
    holder.simple("ROLLBACK").expect_fine("the rows are let go");
    let left: u64 = database.value("SELECT count(*) FROM customers WHERE gone").parse().expect("a number");
    assert!(left > 300 && left < 1_000, "batches before the row that is held, and none behind it: {left}");
    let orphans =
        "SELECT count(*) FROM customers c WHERE gone AND NOT EXISTS (SELECT FROM orders o WHERE o.customer = c.id)";
    assert_eq!(database.value(orphans), "0", "no customer without its orders, at any time");
    let mut wire = sluice.connect(&database);
    let job = only_job(&mut wire)[0].clone().expect("an id");
    assert_eq!(wire.simple(&format!("SLUICE RESUME '{job}'")).tags(), ["DELETE 1000"]);
    assert_eq!(digests(&database), expected);
    // And again, on the way back: a key that somebody is about to take.
    holder.simple("BEGIN; INSERT INTO customers VALUES (1800, 'not yet', false)").expect_fine("a key held");
    let token = Refused::to_confirm(&wire.simple(&format!("SLUICE UNDO '{job}'"))).token();
    wire.send(&query(&format!("SLUICE CONFIRM '{token}'")));
    database.wait_until(WAITS);
    let sluice = sluice.crash_and_restart();
    drop(wire);
    holder.simple("ROLLBACK").expect_fine("the key is let go");
    undone(&mut sluice.connect(&database), &job);
    assert_eq!(digests(&database), before);
}

fn a_row_with_more_below_it_than_a_batch(server: &'static Server) {
    const STATEMENT: &str = "DELETE FROM customers WHERE id <= 3";
    let more =
        format!("{FAMILY}; INSERT INTO orders (customer, total) SELECT 2, i FROM generate_series(1, 4000) i; ANALYZE");
    let (database, sluice) = gate(server, &more);
    let (before, expected) = (digests(&database), alone(&database, STATEMENT));
    let mut wire = sluice.connect(&database);
    let token = offered(&wire.simple(STATEMENT));
    let outcome = confirm(&mut wire, &token);
    assert_eq!(outcome.tags(), ["DELETE 3"], "{outcome:#?}");
    assert_eq!(digests(&database), expected);
    undone(&mut wire, &job_of(&outcome));
    assert_eq!(digests(&database), before);
}

/// Rows that others add below while the job runs are never lost unarchived.
fn what_comes_below_meanwhile(server: &'static Server) {
    let (database, sluice) = gate(server, FAMILY);
    let mut wire = sluice.connect(&database);
    let token = offered(&wire.simple("DELETE FROM customers WHERE gone"));
    // Below a customer whose turn comes later, in a table that had no such rows.
    let mut other = database.connect();
    other.simple("BEGIN; INSERT INTO orders (customer, total) VALUES (1800, 1); INSERT INTO refunds SELECT 7, max(id) FROM orders").expect_fine("added");
    wire.send(&query(&format!("SLUICE CONFIRM '{token}'")));
    database.wait_until(WAITS);
    other.simple("COMMIT").expect_fine("there now");
    let refused = Refused::of(&wire.until_ready());
    assert!(
        refused.message.contains("the archive has 0 rows of public.refunds where the database counts 1"),
        "{refused:?}"
    );
    let left = "SELECT count(*) || ' ' || (SELECT count(*) FROM customers WHERE id = 1800) FROM refunds";
    assert_eq!(database.value(left), "2 1");
    // Shown anew it is archived with the others.
    let before = digests(&database);
    let token = offered(&wire.simple("DELETE FROM customers WHERE gone"));
    let outcome = confirm(&mut wire, &token);
    assert!(outcome.tags()[0].starts_with("DELETE "), "{outcome:#?}");
    assert_eq!(database.value(left), "1 0");
    undone(&mut wire, &job_of(&outcome));
    assert_eq!(digests(&database), before);
}

/// A row whose key was taken stays away, and so does what hangs on it; the rest comes back.
fn taken_keys_below_a_row(server: &'static Server) {
    let (database, sluice) = gate(server, FAMILY);
    let mut wire = sluice.connect(&database);
    let token = offered(&wire.simple("DELETE FROM customers WHERE gone"));
    let outcome = confirm(&mut wire, &token);
    let job = job_of(&outcome);
    database.run("INSERT INTO customers VALUES (3, 'somebody else', false)");
    database.run("INSERT INTO orders (id, customer, total) OVERRIDING SYSTEM VALUE VALUES (5, 1, 99)");
    let undo = undone(&mut wire, &job);
    let said = undo.notices().join("\n");
    assert!(said.contains("rows were left as they are"), "{said}");
    assert_eq!(database.value("SELECT count(*) || ' ' || count(*) FILTER (WHERE gone) FROM customers"), "3000 999");
    assert_eq!(database.value("SELECT count(*) FROM orders WHERE customer = 3"), "0");
    assert_eq!(database.value("SELECT count(*) FROM \"order Lines\" WHERE of_order = 5"), "0");
    assert_eq!(database.value("SELECT name FROM customers WHERE id = 3"), "somebody else");
    // Out of the way, the same command puts them back.
    database.run("DELETE FROM customers WHERE id = 3; DELETE FROM orders WHERE id = 5");
    undone(&mut wire, &job);
    assert_eq!(database.value("SELECT count(*) FILTER (WHERE gone) || ' ' || (SELECT count(*) FROM orders) || ' ' || (SELECT count(*) FROM \"order Lines\") FROM customers"), "1000 5000 10000");
}

fn what_cannot_follow_runs_whole_or_is_told(server: &'static Server) {
    for (setup, why) in [
        ("ALTER TABLE orders ADD above bigint REFERENCES orders ON DELETE CASCADE", "foreign keys lead in a circle"),
        ("ALTER TABLE orders ADD above bigint REFERENCES orders", "holds only once the rows of all batches are gone"),
        ("ALTER TABLE customers ADD latest bigint REFERENCES orders", "foreign keys lead in a circle"),
        (
            "ALTER TABLE notes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY p ON notes USING (true)",
            "reaches is not known",
        ),
        ("ALTER TABLE notes DROP CONSTRAINT notes_pkey", "of public.notes, it has no unique key"),
        (
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER g AFTER DELETE ON notes EXECUTE FUNCTION f()",
            "of public.notes, the trigger g fires once a statement",
        ),
    ] {
        let (database, sluice) = gate(server, &format!("{FAMILY}; {setup}"));
        let refused = Refused::to_confirm(&sluice.connect(&database).simple("DELETE FROM customers WHERE gone"));
        assert!(refused.hint.contains(why), "{setup}: {refused:?}");
    }
    let (database, sluice) = gate(server, FAMILY);
    database.run("GRANT ALL ON SCHEMA public TO other; GRANT SELECT, DELETE ON customers TO other; GRANT SELECT ON orders, \"order Lines\", notes, reviews, refunds TO other");
    let before = digests(&database);
    let mut clerk = sluice.connect_as("other", &database);
    let refused = Refused::to_confirm(&clerk.simple("DELETE FROM customers WHERE gone"));
    assert!(refused.hint.contains("this user may not change its rows itself"), "{refused:?}");
    assert_eq!(digests(&database), before);
}

/// Whatever the tables and their keys: in batches they lose what the database's own cascade takes, and what is undone never was.
fn by_chance(server: &'static Server) {
    let database = server.database("");
    let sluice = Setup::before(&database).with("[limits]\nbatch_rows = 7\nfree_rows = 1").start();
    let mut wire = sluice.connect(&database);
    let mut jobs = 0;
    for seed in 0..25 {
        let family = chance::family(seed, &format!("kin{seed}"));
        database.run(&format!("{}; ANALYZE", family.setup.join("; ")));
        let digests =
            |database: &Database| family.tables.iter().map(|table| digest(database, table)).collect::<Vec<_>>();
        let each: Vec<String> = family
            .tables
            .iter()
            .map(|table| format!("(SELECT count(*) || ' ' || md5(coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '')) FROM {table} t)"))
            .collect();
        let text = format!("BEGIN; {}; SELECT concat_ws('|', {}); ROLLBACK", family.statement, each.join(", "));
        let alone = database.connect().simple(&text).rows()[0][0].clone().expect("digests");
        let before = digests(&database);
        let refused = Refused::to_confirm(&wire.simple(&family.statement));
        let outcome = confirm(&mut wire, &refused.token());
        assert!(outcome.error().is_none(), "{family:#?}: {outcome:#?}");
        assert_eq!(digests(&database).join("|"), alone, "{family:#?}");
        let mut bare = database.connect();
        let mut rows = |table: &String| {
            let mut rows = bare.simple(&format!("SELECT * FROM {table}")).rows();
            rows.sort();
            rows
        };
        assert!(family.tables.iter().map(&mut rows).collect::<Vec<_>>() == family.left(), "{family:#?}");
        if !refused.hint.contains("each row archived first") {
            continue;
        }
        let undo = undone(&mut wire, &job_of(&outcome));
        assert!(undo.error().is_none(), "{family:#?}: {undo:#?}");
        assert_eq!(digests(&database), before, "{family:#?}");
        jobs += 1;
    }
    assert!(jobs > 15, "{jobs}");
}
