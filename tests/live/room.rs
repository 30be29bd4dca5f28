//! What large messages and prepared texts of all sessions may take together, and what one session's may.

use crate::harness::PATIENCE;
use crate::harness::message::{bind, close, execute, parse, query, sync};
use crate::harness::server::Server;
use crate::harness::shop::{shop, shop_with};
use crate::harness::sluice::{Setup, Sluice};
use crate::harness::stories;
use crate::harness::wire::Wire;
use std::time::Instant;

stories! {
    what_there_is_no_room_for_is_refused_and_the_session_goes_on, a_message_that_never_comes_takes_room_until_its_session_ends,
    prepared_texts_take_room, prepared_texts_of_a_session_are_bounded,
}

const MEGABYTE: usize = 1 << 20;

fn narrow(setup: Setup) -> Setup {
    setup.with("[sessions]\nmemory_bytes = 8388608")
}

fn long(bytes: usize) -> String {
    format!("SELECT length('{}')", "x".repeat(bytes))
}

fn what_there_is_no_room_for_is_refused_and_the_session_goes_on(server: &'static Server) {
    let (database, sluice) = shop_with(server, narrow);
    let mut wire = sluice.connect(&database);
    assert_eq!(wire.simple(&long(5 * MEGABYTE)).value(), (5 * MEGABYTE).to_string(), "there is room for this");
    for _ in 0..3 {
        let outcome = wire.simple(&long(30 * MEGABYTE));
        assert_eq!((outcome.code().as_str(), outcome.status()), ("53200", 'I'));
        assert_eq!(wire.simple("SELECT 'goes on'").value(), "goes on");
    }
    // What follows in the same pipeline is discarded up to its Sync.
    let behind = [bind("", "", 0, &[]), execute("", 0), sync()].concat();
    wire.send(&[parse("", &long(30 * MEGABYTE), &[]), behind].concat());
    let outcome = wire.until_ready();
    assert_eq!((outcome.code().as_str(), outcome.letters().as_str()), ("53200", "EZ"));
    let value = vec![b'x'; 30 * MEGABYTE];
    wire.send(&[parse("", "SELECT $1::text", &[]), bind("", "", 0, &[Some(&value)]), execute("", 0), sync()].concat());
    let outcome = wire.until_ready();
    assert_eq!((outcome.code().as_str(), outcome.letters().as_str()), ("53200", "1EZ"));
    // In a transaction, as any error.
    wire.simple("BEGIN").expect_fine("BEGIN");
    let outcome = wire.simple(&long(30 * MEGABYTE));
    assert_eq!((outcome.code().as_str(), outcome.status()), ("53200", 'E'));
    assert_eq!(wire.simple("COMMIT").tags(), ["ROLLBACK"]);
    assert_eq!(wire.simple(&long(5 * MEGABYTE)).value(), (5 * MEGABYTE).to_string(), "all was given back");
}

fn a_message_that_never_comes_takes_room_until_its_session_ends(server: &'static Server) {
    let (database, sluice) = shop_with(server, narrow);
    let (mut holder, mut other) = (sluice.connect(&database), sluice.connect(&database));
    let begun = query(&long(7 * MEGABYTE));
    let five = long(5 * MEGABYTE);
    // What is here of the message counts, not what it says it will be.
    holder.send(&begun[..6 * MEGABYTE]);
    until(|| held(&sluice) == (5 * MEGABYTE) as f64);
    assert_eq!(other.simple(&five).code(), "53200");
    assert_eq!(other.simple(&long(MEGABYTE / 2)).value(), (MEGABYTE / 2).to_string(), "everyday work goes on");
    // It comes after all, or never.
    holder.send(&begun[6 * MEGABYTE..]);
    assert_eq!(holder.until_ready().value(), (7 * MEGABYTE).to_string());
    until(|| held(&sluice) == 0.0);
    assert_eq!(other.simple(&five).value(), (5 * MEGABYTE).to_string());
    until(|| held(&sluice) == 0.0);
    holder.send(&begun[..6 * MEGABYTE]);
    until(|| held(&sluice) == (5 * MEGABYTE) as f64);
    drop(holder);
    until(|| held(&sluice) == 0.0);
    assert_eq!(other.simple(&five).value(), (5 * MEGABYTE).to_string());
}

fn prepared_texts_take_room(server: &'static Server) {
    let (database, sluice) = shop_with(server, narrow);
    let (mut one, mut other) = (sluice.connect(&database), sluice.connect(&database));
    let text = long(2 * MEGABYTE);
    let prepare = |wire: &mut Wire, name: &str| {
        wire.send(&[parse(name, &text, &[]), sync()].concat());
        wire.until_ready().code()
    };
    for name in ["a", "b", "c", "d"] {
        assert_eq!(prepare(&mut one, name), "", "{name}");
    }
    assert_eq!(prepare(&mut one, "e"), "53200");
    assert_eq!(prepare(&mut other, "a"), "53200", "the room is everybody's");
    one.send(&[close(b'S', "b"), sync()].concat());
    one.until_ready().expect_fine("closed");
    assert_eq!(prepare(&mut one, "e"), "");
    one.send(&[bind("", "e", 0, &[]), execute("", 0), sync()].concat());
    assert_eq!(one.until_ready().value(), (2 * MEGABYTE).to_string());
    drop(one);
    until(|| prepare(&mut other, "a").is_empty());
}

fn prepared_texts_of_a_session_are_bounded(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    let text = long(8 * MEGABYTE - 1024);
    let prepare = |wire: &mut Wire, name: &str| {
        wire.send(&[parse(name, &text, &[]), sync()].concat());
        wire.until_ready().code()
    };
    for at in 0..8 {
        assert_eq!(prepare(&mut wire, &format!("s{at}")), "", "{at}");
    }
    assert_eq!(prepare(&mut wire, "one more"), "54000");
    assert_eq!(prepare(&mut wire, ""), "", "the one without a name may be as long as any message");
    assert_eq!(prepare(&mut wire, ""), "");
    assert_eq!(prepare(&mut wire, "one more"), "54000");
    wire.send(&[bind("", "s7", 0, &[]), execute("", 0), sync()].concat());
    assert_eq!(wire.until_ready().value(), (8 * MEGABYTE - 1024).to_string());
    wire.send(&[close(b'S', "s0"), sync()].concat());
    wire.until_ready().expect_fine("closed");
    assert_eq!(prepare(&mut wire, "one more"), "");
}

fn held(sluice: &Sluice) -> f64 {
    let (_, metrics) = sluice.get("/metrics");
    let line = metrics.lines().find_map(|line| line.strip_prefix("sluice_large_bytes "));
    line.map_or(0.0, |bytes| bytes.parse().expect("a number"))
}

/// The other side notices in its own time; each try is an answer that was waited for.
fn until(mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "it never came to be");
    }
}
