//! Changes in batches that foreign keys carry on, as PostgreSQL's stories tell them.
//!
//! Invariant: what is left is what the server's own cascade would have left, and undo gives back what was there, row by row.

use crate::harness::chance;
use crate::harness::mysql::my_stories;
use crate::harness::mysql::packet::query;
use crate::harness::mysql::server::{MyDatabase, MyServer, ROOT};
use crate::harness::mysql::shop::Refused;
use crate::harness::sluice::Setup;
use crate::mysql::batches::{TEN, confirm, done, gate, job, offered, only_job, undone, warnings};

my_stories! {
    children_go_first_and_come_back, killed_in_mid_cascade, a_row_with_more_below_it_than_a_batch, what_comes_below_meanwhile, taken_keys_below_a_row,
    what_cannot_follow_runs_whole, by_chance,
}

const ROWS: &str = "SELECT 1 + a.d + 10 * b.d + 100 * c.d + 1000 * e.d AS i FROM ten a, ten b, ten c, ten e";

/// 3,000 customers; below them orders, their lines (a key of two columns), notes that hang on both, reviews that lose what they refer to and
/// would be stamped by an UPDATE, and a table that has no such rows.
fn family() -> String {
    format!(
        "{TEN}; CREATE TABLE customers (id int PRIMARY KEY, name varchar(40), gone bool NOT NULL);
         CREATE TABLE orders (id int PRIMARY KEY AUTO_INCREMENT, customer int, total decimal(10,2), twice decimal(12,2) AS (total * 2) STORED,
            FOREIGN KEY (customer) REFERENCES customers (id) ON DELETE CASCADE);
         CREATE TABLE `order Lines` (of_order int, n int, what varchar(20), PRIMARY KEY (of_order, n),
            FOREIGN KEY (of_order) REFERENCES orders (id) ON DELETE CASCADE);
         CREATE TABLE notes (id char(36) PRIMARY KEY, customer int, of_order int, body varchar(20),
            FOREIGN KEY (customer) REFERENCES customers (id) ON DELETE CASCADE, FOREIGN KEY (of_order) REFERENCES orders (id) ON DELETE CASCADE);
         CREATE TABLE reviews (id int PRIMARY KEY, customer int, stars int, at datetime NOT NULL DEFAULT '2026-01-01' ON UPDATE CURRENT_TIMESTAMP,
            FOREIGN KEY (customer) REFERENCES customers (id) ON DELETE SET NULL);
         CREATE TABLE refunds (id int PRIMARY KEY, of_order int, FOREIGN KEY (of_order) REFERENCES orders (id) ON DELETE CASCADE);
         INSERT INTO customers SELECT i, concat('c', i), i % 3 = 0 FROM ({ROWS}) r WHERE i <= 3000;
         INSERT INTO orders (id, customer, total) SELECT i, i % 3000 + 1, i FROM ({ROWS}) r WHERE i <= 5000;
         INSERT INTO `order Lines` SELECT (i - 1) DIV 2 + 1, i % 2, concat('x', i) FROM ({ROWS}) r WHERE i <= 10000;
         INSERT INTO notes SELECT concat('n', i), IF(i % 2, NULL, i % 3000 + 1), IF(i % 3, NULL, i % 5000 + 1), i FROM ({ROWS}) r WHERE i <= 3000;
         INSERT INTO reviews (id, customer, stars) SELECT i, i % 3000 + 1, i % 5 FROM ({ROWS}) r WHERE i <= 2000;
         INSERT INTO refunds VALUES (1, NULL);
         ANALYZE TABLE customers, orders, `order Lines`, notes, reviews, refunds"
    )
}

const TABLES: [&str; 6] = ["customers", "orders", "`order Lines`", "notes", "reviews", "refunds"];

/// Every row of every table.
type All = Vec<Vec<Vec<Option<String>>>>;

fn all(database: &MyDatabase) -> All {
    let mut wire = database.connect_as(ROOT);
    let rows = |table: &&str| {
        let mut rows = wire.query(&format!("SELECT * FROM {table}")).rows();
        rows.sort();
        rows
    };
    TABLES.iter().map(rows).collect()
}

/// What the server's own cascade leaves.
fn alone(database: &MyDatabase, statement: &str) -> All {
    let mut wire = database.connect_as(ROOT);
    wire.query("BEGIN").expect_fine("a transaction");
    wire.query(statement).expect_fine("the change alone");
    let rows = |table: &&str| {
        let mut rows = wire.query(&format!("SELECT * FROM {table}")).rows();
        rows.sort();
        rows
    };
    let left = TABLES.iter().map(rows).collect();
    wire.query("ROLLBACK").expect_fine("as it was");
    left
}

fn children_go_first_and_come_back(server: &'static MyServer) {
    const STATEMENT: &str = "DELETE FROM customers WHERE gone";
    let (database, sluice) = gate(server, &family());
    let (before, expected) = (all(&database), alone(&database, STATEMENT));
    let mut wire = sluice.my_connect(&database);
    assert!(Refused::to_confirm(&mut wire, STATEMENT).says("To carry it out children first, in "));
    let (rows, id) = done(&mut wire, STATEMENT);
    assert_eq!(rows, 1000);
    assert!(all(&database) == expected, "what the cascade alone leaves");
    let row = only_job(&mut wire);
    assert!(row[3].as_ref().is_some_and(|rows| rows.parse::<u64>().is_ok_and(|rows| rows > 5_000)), "{row:?}");
    let offer = Refused::to_confirm(&mut wire, &format!("SLUICE UNDO '{id}'"));
    assert!(offer.says("and 4 tables below it"), "{offer:?}");
    confirm(&mut wire, &offer.token()).expect_fine("put back");
    assert!(all(&database) == before, "what was there");
    assert_eq!(sluice.verify_record().code, Some(0));
}

fn killed_in_mid_cascade(server: &'static MyServer) {
    const STATEMENT: &str = "DELETE FROM customers WHERE gone";
    let (database, sluice) = gate(server, &family());
    let (before, expected) = (all(&database), alone(&database, STATEMENT));
    let mut holder = database.connect();
    holder.query("BEGIN").expect_fine("a transaction");
    holder.query("SELECT * FROM orders WHERE customer = 1800 FOR UPDATE").expect_fine("rows held");
    let mut wire = sluice.my_connect(&database);
    let token = offered(&mut wire, STATEMENT);
    wire.start(&query(&format!("SLUICE CONFIRM '{token}'")));
    let waits = format!(
        "SELECT count(*) FROM information_schema.INNODB_TRX WHERE trx_state = 'LOCK WAIT' AND trx_query LIKE '%{}%'",
        database.name
    );
    database.wait_until(&waits);
    let sluice = sluice.crash_and_restart();
    drop(wire);
    holder.query("ROLLBACK").expect_fine("the rows are let go");
    let mut wire = sluice.my_connect(&database);
    let id = job(&mut wire);
    database.wait_until(&format!("SELECT IS_FREE_LOCK('sluice_{id}')"));
    let left: u64 = database.value("SELECT count(*) FROM customers WHERE gone").parse().expect("a number");
    assert!(left > 300 && left < 1_000, "batches before the row that is held, and none behind it: {left}");
    let orphans =
        "SELECT count(*) FROM customers c WHERE gone AND NOT EXISTS (SELECT 1 FROM orders o WHERE o.customer = c.id)";
    assert_eq!(database.value(orphans), "0", "no customer without its orders, at any time");
    let outcome = wire.query(&format!("SLUICE RESUME '{id}'"));
    assert_eq!(outcome.affected(), [1000], "{outcome:#?}");
    assert!(all(&database) == expected, "what the cascade alone leaves");
    // And on the way back: a key that somebody is about to take.
    holder.query("BEGIN").expect_fine("a transaction");
    holder.query("INSERT INTO customers VALUES (1800, 'not yet', 0)").expect_fine("a key held");
    let token = Refused::to_confirm(&mut wire, &format!("SLUICE UNDO '{id}'")).token();
    wire.start(&query(&format!("SLUICE CONFIRM '{token}'")));
    database.wait_until(&waits);
    let sluice = sluice.crash_and_restart();
    drop(wire);
    holder.query("ROLLBACK").expect_fine("the key is let go");
    database.wait_until(&format!("SELECT IS_FREE_LOCK('sluice_{id}')"));
    undone(&mut sluice.my_connect(&database), &id).expect_fine("put back");
    assert!(all(&database) == before, "what was there");
}

fn a_row_with_more_below_it_than_a_batch(server: &'static MyServer) {
    const STATEMENT: &str = "DELETE FROM customers WHERE id <= 3";
    let more =
        format!("{}; INSERT INTO orders (customer, total) SELECT 2, i FROM ({ROWS}) r WHERE i <= 4000", family());
    let (database, sluice) = gate(server, &more);
    let (before, expected) = (all(&database), alone(&database, STATEMENT));
    let mut wire = sluice.my_connect(&database);
    let (rows, id) = done(&mut wire, STATEMENT);
    assert_eq!(rows, 3);
    assert!(all(&database) == expected, "what the cascade alone leaves");
    undone(&mut wire, &id).expect_fine("put back");
    assert!(all(&database) == before, "what was there");
}

/// Rows of a table that had none when it was shown are never taken along uncounted.
fn what_comes_below_meanwhile(server: &'static MyServer) {
    let (database, sluice) = gate(server, &family());
    let mut wire = sluice.my_connect(&database);
    let token = offered(&mut wire, "DELETE FROM customers WHERE gone");
    let mut other = database.connect();
    other.query("BEGIN").expect_fine("a transaction");
    other.query("INSERT INTO orders (id, customer, total) VALUES (9999, 1800, 1)").expect_fine("added");
    other.query("INSERT INTO refunds VALUES (7, 9999)").expect_fine("added");
    wire.start(&query(&format!("SLUICE CONFIRM '{token}'")));
    let waits = format!(
        "SELECT count(*) FROM information_schema.INNODB_TRX WHERE trx_state = 'LOCK WAIT' AND trx_query LIKE '%{}%'",
        database.name
    );
    database.wait_until(&waits);
    other.query("COMMIT").expect_fine("there now");
    let outcome = wire.answer_to(0x03);
    let said = format!("{outcome:?}");
    assert!(said.contains("refunds hang on them by now"), "{said}");
    assert_eq!(database.value("SELECT count(*) FROM refunds"), "2");
    assert_eq!(database.value("SELECT count(*) FROM customers WHERE id = 1800"), "1");
    // Shown anew it is archived with the others.
    let before = all(&database);
    let (_, id) = done(&mut wire, "DELETE FROM customers WHERE gone");
    assert_eq!(database.value("SELECT count(*) FROM refunds"), "1");
    undone(&mut wire, &id).expect_fine("put back");
    assert!(all(&database) == before, "what was there");
}

/// A row whose key was taken stays away, and so does what hangs on it; the rest comes back.
fn taken_keys_below_a_row(server: &'static MyServer) {
    let (database, sluice) = gate(server, &family());
    let mut wire = sluice.my_connect(&database);
    let (_, id) = done(&mut wire, "DELETE FROM customers WHERE gone");
    database.run_as_root(&format!("INSERT INTO {}.customers VALUES (3, 'somebody else', 0)", database.name));
    database.run_as_root(&format!("INSERT INTO {}.orders (id, customer, total) VALUES (5, 1, 99)", database.name));
    undone(&mut wire, &id).expect_fine("put back");
    assert!(warnings(&mut wire).contains("rows were left as they are"));
    assert_eq!(database.value("SELECT count(*) FROM customers WHERE gone"), "999");
    assert_eq!(database.value("SELECT count(*) FROM orders WHERE customer = 3"), "0");
    assert_eq!(database.value("SELECT count(*) FROM `order Lines` WHERE of_order = 5"), "0");
    assert_eq!(database.value("SELECT name FROM customers WHERE id = 3"), "somebody else");
    // Out of the way, the same command puts them back.
    database.run_as_root(&format!("DELETE FROM {}.customers WHERE id = 3", database.name));
    database.run_as_root(&format!("DELETE FROM {}.orders WHERE id = 5", database.name));
    undone(&mut wire, &id).expect_fine("put back");
    assert_eq!(database.value("SELECT count(*) FROM customers WHERE gone"), "1000");
    assert_eq!(database.value("SELECT count(*) FROM orders"), "5000");
    assert_eq!(database.value("SELECT count(*) FROM `order Lines`"), "10000");
}

fn what_cannot_follow_runs_whole(server: &'static MyServer) {
    for (setup, why) in [
        (
            "ALTER TABLE orders ADD above int, ADD FOREIGN KEY (above) REFERENCES orders (id) ON DELETE CASCADE",
            "foreign keys lead in a circle",
        ),
        (
            "ALTER TABLE orders ADD above int, ADD FOREIGN KEY (above) REFERENCES orders (id)",
            "holds only once the rows of all batches are gone",
        ),
        ("CREATE TRIGGER on_notes AFTER DELETE ON notes FOR EACH ROW SET @x = 1", "the trigger on_notes would fire"),
        ("ALTER TABLE notes DROP PRIMARY KEY", "it has no unique key of ordinary types"),
    ] {
        let (database, sluice) = gate(server, &format!("{}; {setup}", family()));
        let refused = Refused::to_confirm(&mut sluice.my_connect(&database), "DELETE FROM customers WHERE gone");
        assert!(refused.says(why), "{setup}: {refused:?}");
    }
    // What the session says the keys do not carry on is not done in their stead.
    let database = server.database(&family());
    let sluice = Setup::before_mysql(server).with("[[scope]]\nmatch = {}\nrules = { guard-off = \"allow\" }").start();
    let mut wire = sluice.my_connect(&database);
    wire.query("SET foreign_key_checks = 0").expect_fine("allowed here");
    let token = offered(&mut wire, "DELETE FROM customers WHERE gone");
    let said = format!("{:?}", confirm(&mut wire, &token));
    assert!(said.contains("foreign_key_checks is off here"), "{said}");
    assert_eq!(database.value("SELECT count(*) FROM customers"), "3000");
}

/// Whatever the tables and their keys: in batches they lose what the keys say, and what is undone never was.
fn by_chance(server: &'static MyServer) {
    let database = server.database("");
    let sluice = Setup::before_mysql(server).with("[limits]\nbatch_rows = 7\nfree_rows = 1").start();
    let mut wire = sluice.my_connect(&database);
    let mut jobs = 0;
    for seed in 0..25 {
        let family = chance::family(seed, &format!("kin{seed}"));
        database.run(&family.setup.join("; "));
        let mut bare = database.connect_as(ROOT);
        let all = |bare: &mut crate::harness::mysql::wire::MyWire| -> All {
            let rows = |table: &String| {
                let mut rows = bare.query(&format!("SELECT * FROM {table}")).rows();
                rows.sort();
                rows
            };
            family.tables.iter().map(rows).collect()
        };
        let before = all(&mut bare);
        let refused = Refused::to_confirm(&mut wire, &family.statement);
        let outcome = confirm(&mut wire, &refused.token());
        assert!(outcome.error().is_none(), "{family:#?}: {outcome:#?}");
        assert!(all(&mut bare) == family.left(), "{family:#?}");
        if !refused.says("each row archived first") {
            continue;
        }
        let id = job(&mut wire);
        let undo = undone(&mut wire, &id);
        assert!(undo.error().is_none(), "{family:#?}: {undo:#?}");
        assert!(all(&mut bare) == before, "{family:#?}");
        jobs += 1;
    }
    assert!(jobs > 15, "{jobs}");
}
