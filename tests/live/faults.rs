//! Either side is lost, at each step: while asking, while waiting to be confirmed, while a confirmed statement runs. Nothing is
//! half done, nothing hangs, and the record stays whole.

use crate::harness::message::{cancel_request, copy_data, query};
use crate::harness::server::{Database, Server};
use crate::harness::shop::{Refused, shop, shop_with};
use crate::harness::sluice::Sluice;
use crate::harness::stories;
use crate::harness::wire::Wire;

stories! {
    cancelled_while_asking, the_client_leaves_while_asking, the_server_is_lost_while_asking, cancelled_while_a_confirmed_statement_runs,
    the_client_leaves_while_a_confirmed_statement_runs, the_server_is_lost_while_a_confirmed_statement_runs,
    sluice_is_killed_while_a_confirmed_statement_runs, the_record_cannot_be_written, the_client_leaves_in_mid_statement,
    the_client_leaves_in_mid_copy, asking_has_a_deadline,
}

/// Long enough that only what a story does can end the asking.
const PATIENT: &str = "[limits]\npreview_timeout = \"60s\"";
const WAITS_FOR_LOCK: &str =
    "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')";
const NOBODY_WAITS: &str =
    "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')";

/// A gate, a client whose DELETE is being asked about, and who holds the lock that the question waits for.
fn asking(server: &'static Server) -> (Database, Sluice, Wire, Wire) {
    let (database, sluice) = shop_with(server, |setup| setup.with(PATIENT));
    let mut wire = sluice.connect(&database);
    wire.simple("SELECT 'warm'").expect_fine("warm");
    let mut holder = database.connect();
    holder.simple("BEGIN; LOCK TABLE logs IN ACCESS EXCLUSIVE MODE").expect_fine("a lock");
    wire.send(&query("DELETE FROM logs"));
    database.wait_until(WAITS_FOR_LOCK);
    (database, sluice, wire, holder)
}

/// The same with a statement that was confirmed and runs: it waits for its lock.
fn running(server: &'static Server) -> (Database, Sluice, Wire, Wire) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    let token = Refused::to_confirm(&wire.simple("DELETE FROM carts WHERE status = 'abandoned'")).token();
    let mut holder = database.connect();
    holder.simple("BEGIN; LOCK TABLE carts IN SHARE ROW EXCLUSIVE MODE").expect_fine("a lock that lets reading pass");
    wire.send(&query(&format!("SLUICE CONFIRM '{token}'")));
    database.wait_until(WAITS_FOR_LOCK);
    (database, sluice, wire, holder)
}

fn cancelled_while_asking(server: &'static Server) {
    let (database, sluice, mut wire, mut holder) = asking(server);
    let mut canceller = Wire::open(&sluice.address);
    canceller.send(&cancel_request(&wire.key()));
    assert!(canceller.some_bytes().is_empty());
    let outcome = wire.until_ready();
    assert_eq!((outcome.code().as_str(), outcome.status()), ("57014", 'I'), "{outcome:#?}");
    holder.simple("ROLLBACK").expect_fine("the lock is let go");
    assert_eq!(wire.simple("SELECT 'and on'").value(), "and on");
    assert_untouched(&database, &sluice);
}

fn the_client_leaves_while_asking(server: &'static Server) {
    let (database, sluice, wire, mut holder) = asking(server);
    drop(wire);
    holder.simple("ROLLBACK").expect_fine("the lock is let go");
    database.wait_until("SELECT count(*) = 2 FROM pg_stat_activity WHERE datname = current_database()");
    assert_untouched(&database, &sluice);
}

fn the_server_is_lost_while_asking(server: &'static Server) {
    let (database, sluice, mut wire, mut holder) = asking(server);
    terminate_waiting(&database);
    let outcome = wire.until_closed();
    assert!(["57P01", "08006", "SL007"].contains(&outcome.code().as_str()), "a reason, then the end: {outcome:#?}");
    holder.simple("ROLLBACK").expect_fine("the lock is let go");
    assert_untouched(&database, &sluice);
}

fn cancelled_while_a_confirmed_statement_runs(server: &'static Server) {
    let (database, sluice, mut wire, mut holder) = running(server);
    let mut canceller = Wire::open(&sluice.address);
    canceller.send(&cancel_request(&wire.key()));
    let outcome = wire.until_ready();
    assert_eq!((outcome.code().as_str(), outcome.status()), ("57014", 'I'), "{outcome:#?}");
    holder.simple("ROLLBACK").expect_fine("the lock is let go");
    assert_eq!(wire.simple("SELECT 'and on'").value(), "and on");
    assert_untouched(&database, &sluice);
}

fn the_client_leaves_while_a_confirmed_statement_runs(server: &'static Server) {
    let (database, sluice, wire, mut holder) = running(server);
    drop(wire);
    holder.simple("ROLLBACK").expect_fine("the lock is let go");
    database.wait_until("SELECT count(*) = 2 FROM pg_stat_activity WHERE datname = current_database()");
    // Whether it still ran is a matter of a moment; half of it is not possible, and the record says which.
    let (carts, items) = (database.count("carts"), database.count("cart_items"));
    assert!([(5000, 10000), (3000, 6000)].contains(&(carts, items)), "{carts} carts, {items} items");
    assert_eq!(sluice.verify_record().code, Some(0));
}

fn the_server_is_lost_while_a_confirmed_statement_runs(server: &'static Server) {
    let (database, sluice, mut wire, mut holder) = running(server);
    terminate_waiting(&database);
    let outcome = wire.until_closed();
    assert_ne!(outcome.code(), "", "a reason, then the end: {outcome:#?}");
    assert!(outcome.tags().is_empty(), "{outcome:#?}");
    holder.simple("ROLLBACK").expect_fine("the lock is let go");
    assert_untouched(&database, &sluice);
}

fn sluice_is_killed_while_a_confirmed_statement_runs(server: &'static Server) {
    let (database, sluice, mut wire, mut holder) = running(server);
    let sluice = sluice.crash_and_restart();
    assert!(wire.until_closed().tags().is_empty());
    holder.simple("ROLLBACK").expect_fine("the lock is let go");
    // Its transaction was never told to commit.
    database.wait_until(NOBODY_WAITS);
    assert_untouched(&database, &sluice);
}

fn the_record_cannot_be_written(server: &'static Server) {
    // A record that is a pipe to nowhere, or a full disk: /dev/full takes the opening and fails the writing.
    let database = server.database(crate::harness::shop::SHOP);
    let setup = crate::harness::sluice::Setup::before(&database);
    let said = setup.recording_to("/dev/full").start_in_vain();
    assert_ne!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("/dev/full"), "it says what cannot be written: {said:?}");
}

fn the_client_leaves_in_mid_statement(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    wire.simple("BEGIN; INSERT INTO logs VALUES (1001, 'x')").expect_fine("a transaction");
    let statement = query("INSERT INTO logs VALUES (1002, 'y'); COMMIT");
    wire.send(&statement[..statement.len() - 4]);
    drop(wire);
    database.wait_until("SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database()");
    assert_untouched(&database, &sluice);
}

fn the_client_leaves_in_mid_copy(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    wire.send(&query("COPY logs (id, kind) FROM STDIN"));
    wire.until(b'G');
    wire.send(&copy_data(&b"7001\tx\n"[..]));
    drop(wire);
    database.wait_until("SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database()");
    assert_untouched(&database, &sluice);
}

fn asking_has_a_deadline(server: &'static Server) {
    let (database, sluice) = shop_with(server, |setup| setup.with("[limits]\npreview_timeout = \"500ms\""));
    let mut wire = sluice.connect(&database);
    let mut holder = database.connect();
    holder.simple("BEGIN; LOCK TABLE logs IN ACCESS EXCLUSIVE MODE").expect_fine("a lock");
    let started = std::time::Instant::now();
    let refused = Refused::of(&wire.simple("DELETE FROM logs"));
    assert!(started.elapsed().as_secs() < 20, "a guard that hangs is an outage: {:?}", started.elapsed());
    let told = ["SL001", "SL007"].contains(&refused.code.as_str());
    assert!(told, "fails closed, and says that there was no answer: {refused:?}");
    holder.simple("ROLLBACK").expect_fine("the lock is let go");
    assert_untouched(&database, &sluice);
}

fn terminate_waiting(database: &Database) {
    let waiting = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '";
    let name = &database.name;
    database.server.administer(&format!("{waiting}{name}' AND wait_event_type = 'Lock'"));
}

/// Nothing changed, Sluice serves, and its record is whole.
fn assert_untouched(database: &Database, sluice: &Sluice) {
    let counts = ["logs", "carts", "cart_items"].map(|table| database.count(table));
    assert_eq!(counts, [500, 5000, 10000]);
    assert_eq!(sluice.connect(database).simple("SELECT 'still here'").value(), "still here");
    let verified = sluice.verify_record();
    assert_eq!(verified.code, Some(0), "{verified:?}");
}
