//! What is large passes without being held, and a side that does not read makes the other wait instead of memory grow.

use crate::harness::comparison::gate;
use crate::harness::message::{bind, copy_data, copy_done, execute, parse, query, sync, terminate};
use crate::harness::server::Server;
use crate::harness::sluice::Sluice;
use crate::harness::stories;
use crate::harness::wire::Wire;
use std::time::Duration;

stories! {
    a_statement_of_200_megabytes, a_parameter_of_200_megabytes, a_slow_reader, a_slow_server, big_values_both_ways,
    idle_sessions_are_cheap,
}

const MEGABYTE: u64 = 1024 * 1024;

fn a_statement_of_200_megabytes(server: &'static Server) {
    let (database, sluice) = gate(server, "");
    let mut wire = warmed_up(&sluice, &database);
    let before = sluice.most_memory();
    let statement = format!("SELECT length('{}')", "x".repeat(200 * MEGABYTE as usize));
    assert_eq!(wire.simple(&statement).value(), (200 * MEGABYTE).to_string());
    assert_held_once(&sluice, before);
    assert_eq!(wire.simple("SELECT 'and on'").value(), "and on");
}

fn a_parameter_of_200_megabytes(server: &'static Server) {
    let (database, sluice) = gate(server, "");
    let mut wire = warmed_up(&sluice, &database);
    let before = sluice.most_memory();
    let value = vec![b'x'; 200 * MEGABYTE as usize];
    let bound = bind("", "", 0, &[Some(&value)]);
    drop(value);
    wire.send(&parse("", "SELECT length($1::text)", &[]));
    wire.send(&bound);
    drop(bound);
    wire.send(&[execute("", 0), sync()].concat());
    assert_eq!(wire.until_ready().value(), (200 * MEGABYTE).to_string());
    assert_held_once(&sluice, before);
}

fn a_slow_reader(server: &'static Server) {
    let (database, sluice) = gate(server, "");
    let mut wire = warmed_up(&sluice, &database);
    let before = sluice.most_memory();
    // About 400 MB that nobody reads: the server must come to wait for its own socket.
    let text = "SELECT repeat('x', 4000) FROM generate_series(1, 100000)";
    wire.send(&query(text));
    let blocked = format!(
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'ClientWrite' AND query = '{}')",
        text.replace('\'', "''")
    );
    database.wait_until(&blocked);
    std::thread::sleep(Duration::from_millis(500)); // time in which memory would grow, if it did
    let grown = sluice.most_memory() - before;
    assert!(grown < 8 * MEGABYTE, "{grown} bytes held for a client that does not read");
    assert_eq!(wire.until_ready().rows().len(), 100_000, "and nothing is lost when it reads again");
}

fn a_slow_server(server: &'static Server) {
    let (database, sluice) = gate(server, "CREATE TABLE t (line text)");
    let mut wire = warmed_up(&sluice, &database);
    let before = sluice.most_memory();
    let mut blocker = database.connect();
    blocker.simple("CREATE FUNCTION wait_for_the_lock() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_advisory_lock(1);
        PERFORM pg_advisory_unlock(1); RETURN NEW; END$$;
        CREATE TRIGGER slow BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION wait_for_the_lock()").expect_fine("a trigger");
    blocker.simple("SELECT pg_advisory_lock(1)").expect_fine("the lock");
    wire.send(&query("COPY t FROM STDIN"));
    wire.until(b'G');
    // The first row waits; a sender that goes on is stopped by backpressure, not by Sluice's memory.
    wire.patience(Duration::from_secs(2));
    let chunk = copy_data(&b"a line of no interest\n".repeat(3_000));
    let (mut sent, mut stopped) = (0, false);
    while sent < 400 * MEGABYTE && !stopped {
        stopped = wire.try_send(&chunk).is_err();
        sent += chunk.len() as u64;
    }
    assert!(stopped, "the client could send {sent} bytes to a server that reads none");
    let grown = sluice.most_memory() - before;
    assert!(grown < 8 * MEGABYTE, "{grown} bytes held for a server that does not read");
    blocker.send(&terminate());
}

fn big_values_both_ways(server: &'static Server) {
    let (database, sluice) = gate(server, "CREATE TABLE t (line text)");
    let mut wire = warmed_up(&sluice, &database);
    let before = sluice.most_memory();
    wire.send(&query("COPY t FROM STDIN"));
    wire.until(b'G');
    let chunk = copy_data(&[b'x'; 1_000_000]);
    for _ in 0..100 {
        wire.send(&chunk);
    }
    wire.send(&[copy_data(b"\n"), copy_done()].concat());
    wire.until_ready().expect_fine("100 MB in one row");
    assert_eq!(wire.simple("SELECT line FROM t").value().len(), 100_000_000);
    let grown = sluice.most_memory() - before;
    assert!(grown < 16 * MEGABYTE, "{grown} bytes held for rows that only pass");
}

fn idle_sessions_are_cheap(server: &'static Server) {
    let (database, sluice) = gate(server, "");
    let first: Vec<Wire> = (0..10).map(|_| warmed_up(&sluice, &database)).collect();
    let before = sluice.memory_now();
    let more: Vec<Wire> = (0..50).map(|_| warmed_up(&sluice, &database)).collect();
    let each = sluice.memory_now().saturating_sub(before) / more.len() as u64;
    assert!(each < 200 * 1024, "{each} bytes for each idle session");
    assert_eq!(first.len() + more.len(), 60);
}

/// A session that has answered before: allocators and pools have what they need.
fn warmed_up(sluice: &Sluice, database: &crate::harness::server::Database) -> Wire {
    let mut wire = sluice.connect(database);
    wire.simple("SELECT repeat('x', 1000000)").expect_fine("warming up");
    wire
}

fn assert_held_once(sluice: &Sluice, before: u64) {
    let grown = sluice.most_memory() - before;
    assert!(grown < 300 * MEGABYTE, "200 MB were held {:.1} times", grown as f64 / (200 * MEGABYTE) as f64);
}
