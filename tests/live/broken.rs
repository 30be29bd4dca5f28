//! Broken and unknown messages: refused with an error and, where the stream can no longer be trusted, closed. Never passed on.
//!
//! Here Sluice may answer otherwise than the server would; what counts is that nothing unread reaches it.

use crate::harness::comparison::gate;
use crate::harness::message::{PROTOCOL_3_0, bind, copy_data, cstring, execute, message, parse, query, startup, sync};
use crate::harness::server::{Database, SUPERUSER, Server, TRUSTED};
use crate::harness::shop::Refused;
use crate::harness::sluice::{Setup, Sluice};
use crate::harness::stories;
use crate::harness::wire::{Outcome, Wire};

stories! {
    the_function_call_message_is_refused_by_name, large_objects_by_the_function_call_message, unknown_message_types, lengths_that_cannot_be, bodies_that_do_not_add_up,
    a_text_with_a_nul_hides_nothing, messages_cut_off_by_the_end, startup_packets_that_cannot_be, messages_before_the_login,
    server_messages_from_a_client, one_broken_client_harms_no_other, a_statement_within_a_copy,
}

const TABLE: &str = "CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 500)";

fn the_function_call_message_is_refused_by_name(server: &'static Server) {
    let (database, sluice) = gate(server, TABLE);
    let mut wire = sluice.connect(&database);
    // int4pl(1, 2): object id 177, no format codes (text), two arguments, result as text.
    let mut call = 177i32.to_be_bytes().to_vec();
    call.extend([0, 0, 0, 2, 0, 0, 0, 1, b'1', 0, 0, 0, 1, b'2', 0, 0]);
    wire.send(&message(b'F', &call));
    let outcome = wire.until_ready();
    assert_refused_by_name(&outcome, "function");
    assert_eq!(outcome.status(), 'I');
    assert_eq!(wire.simple("SELECT 'goes on'").value(), "goes on");
    // Behind what failed in its pipeline it is skipped, as the server skips it.
    wire.send(&[execute("nowhere", 0), message(b'F', &call), sync()].concat());
    assert_eq!(wire.until_ready().letters(), "EZ");
    assert_eq!(wire.simple("SELECT 'goes on'").value(), "goes on");
    // In a transaction it fails the transaction, as an error of the server would.
    wire.simple("BEGIN").expect_fine("BEGIN");
    wire.send(&message(b'F', &call));
    assert_eq!(wire.until_ready().status(), 'E');
    assert_eq!(wire.simple("ROLLBACK").status(), 'I');
}

/// `lo_unlink` and `lo_truncate` as libpq calls them: judged as the same in SQL.
fn large_objects_by_the_function_call_message(server: &'static Server) {
    let call = |function: i32, arguments: &[i32]| {
        let mut body = function.to_be_bytes().to_vec();
        body.extend([0, 1, 0, 1]);
        body.extend((arguments.len() as i16).to_be_bytes());
        for argument in arguments {
            body.extend([0, 0, 0, 4]);
            body.extend(argument.to_be_bytes());
        }
        body.extend([0, 1]);
        message(b'F', &body)
    };
    let (database, sluice) = gate(server, "SELECT lo_create(4242)");
    let mut wire = sluice.connect(&database);
    for function in [964, 1004, 3172] {
        wire.send(&call(function, &[4242]));
        let refused = Refused::of(&wire.until_ready());
        assert!(refused.code == "SL001" && refused.names_rule("drop-data"), "{refused:?}");
        assert!(refused.hint.contains("SELECT lo_"), "it says what can be confirmed: {refused:?}");
    }
    let objects = "SELECT count(*) FROM pg_largeobject_metadata WHERE oid = 4242";
    assert_eq!(database.value(objects), "1");
    let observing = Setup::before(&database).with("[policy]\nmode = \"observe\"").start();
    let mut wire = observing.connect(&database);
    wire.send(&call(964, &[4242]));
    let outcome = wire.until_ready();
    assert_eq!((outcome.letters().as_str(), database.value(objects).as_str()), ("VZ", "0"), "{outcome:#?}");
    let is_recorded = |line: &serde_json::Value| line["kind"] == "statement" && line.to_string().contains("lo_unlink");
    assert!(observing.record().iter().any(is_recorded), "{:#?}", observing.record());
}

fn unknown_message_types(server: &'static Server) {
    let (database, sluice) = gate(server, TABLE);
    for tag in (0..=255u8).filter(|tag| !b"QPBDECSHXFdcfp".contains(tag)) {
        let mut wire = sluice.connect(&database);
        wire.send(&message(tag, b"whatever\0"));
        assert_gone(&mut wire, &format!("message type {tag:#x}"));
    }
    assert_eq!(database.count("t"), 500);
}

fn lengths_that_cannot_be(server: &'static Server) {
    let (database, sluice) = gate(server, TABLE);
    for length in [0i32, 1, 3, -1, i32::MIN, i32::MAX] {
        for tag in *b"QPBSX" {
            let mut wire = sluice.connect(&database);
            let broken = [&[tag][..], &length.to_be_bytes(), b"DELETE FROM t\0"].concat();
            // Sluice may close before it has read what follows the length.
            let _closed = wire.try_send(&broken);
            wire.hang_up();
            wire.until_closed();
        }
    }
    assert_untouched(&database, &sluice);
}

fn bodies_that_do_not_add_up(server: &'static Server) {
    let (database, sluice) = gate(server, TABLE);
    let bodies: &[(u8, Vec<u8>)] = &[
        (b'Q', b"SELECT 1".to_vec()),
        (b'Q', vec![]),
        (b'P', cstring("only a name")),
        (b'P', [cstring(""), cstring("SELECT 1"), vec![0, 9]].concat()),
        (b'P', [cstring(""), cstring("SELECT 1"), vec![0xff, 0xff]].concat()),
        (b'P', [cstring(""), cstring("SELECT 1"), vec![0, 0], b"more".to_vec()].concat()),
        (b'B', cstring("")),
        (b'B', [cstring(""), cstring(""), vec![0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff]].concat()),
        (b'B', [cstring(""), cstring(""), vec![0, 0, 0xff, 0xff]].concat()),
        (b'B', [cstring(""), cstring(""), vec![0, 0, 0, 1, 0xff, 0xff, 0xff, 0xfe, 0, 0]].concat()),
        (b'B', [cstring(""), cstring(""), vec![0, 1, 0, 7, 0, 0, 0, 0]].concat()),
        (b'D', vec![]),
        (b'D', b"Zname\0".to_vec()),
        (b'D', b"Sunended".to_vec()),
        (b'E', cstring("")),
        (b'E', [cstring(""), vec![0, 0, 0, 0, 0]].concat()),
        (b'C', b"X\0".to_vec()),
        (b'S', b"something".to_vec()),
        (b'H', b"something".to_vec()),
    ];
    for (tag, body) in bodies {
        let mut wire = sluice.connect(&database);
        let prepared = [parse("", "SELECT $1::int", &[]), sync()].concat();
        wire.send(&prepared);
        wire.until_ready();
        wire.send(&[message(*tag, body), sync()].concat());
        wire.hang_up();
        let outcome = wire.until_closed();
        assert!(outcome.error().is_some(), "{} {}: {outcome:#?}", *tag as char, body.escape_ascii());
    }
    assert_untouched(&database, &sluice);
}

fn a_text_with_a_nul_hides_nothing(server: &'static Server) {
    let (database, sluice) = gate(server, TABLE);
    let hidden = message(b'Q', b"SELECT 1\0DELETE FROM t\0");
    let another = message(b'Q', &[&b"SELECT 1\0"[..], &query("DELETE FROM t")].concat());
    let in_parse = message(b'P', b"\0SELECT 1\0DELETE FROM t\0\0\0");
    for bytes in [hidden, another, in_parse] {
        let mut wire = sluice.connect(&database);
        wire.send(&bytes);
        wire.hang_up();
        let outcome = wire.until_closed();
        assert!(outcome.error().is_some(), "{outcome:#?}");
    }
    assert_untouched(&database, &sluice);
}

fn messages_cut_off_by_the_end(server: &'static Server) {
    let (database, sluice) = gate(server, TABLE);
    let whole =
        [query("INSERT INTO t VALUES (1)"), parse("", "INSERT INTO t VALUES (2)", &[]), bind("", "", 0, &[])].concat();
    for cut in [1, 3, 5, 20, query("INSERT INTO t VALUES (1)").len() - 1] {
        let mut wire = sluice.connect(&database);
        wire.send(&whole[..cut]);
        wire.hang_up();
        wire.until_closed();
    }
    assert_untouched(&database, &sluice);
}

fn startup_packets_that_cannot_be(server: &'static Server) {
    let (database, sluice) = gate(server, TABLE);
    let good = startup(PROTOCOL_3_0, &[("user", TRUSTED), ("database", &database.name)]);
    let mut endless = good.clone();
    endless[..4].copy_from_slice(&i32::MAX.to_be_bytes());
    let mut short = good.clone();
    short[..4].copy_from_slice(&5i32.to_be_bytes());
    let mut negative = good.clone();
    negative[..4].copy_from_slice(&(-8i32).to_be_bytes());
    let unended = startup_body(b"user\0trusty\0database\0x");
    let odd = startup_body(b"user\0trusty\0database\0\0");
    let trailing = startup_body(b"user\0trusty\0\0more\0");
    let huge = startup(PROTOCOL_3_0, &[("user", TRUSTED), ("options", &"x".repeat(20_000))]);
    for packet in
        [endless, short, negative, unended, odd, trailing, huge, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()]
    {
        let mut wire = Wire::open(&sluice.address);
        let _closed = wire.try_send(&packet);
        wire.hang_up();
        let answer = wire.bytes_until_closed();
        let logged_in = answer.windows(9).any(|bytes| bytes == b"R\0\0\0\x08\0\0\0\0");
        assert!(!logged_in, "{} let in: {}", packet[..40.min(packet.len())].escape_ascii(), answer.escape_ascii());
    }
    assert_untouched(&database, &sluice);
}

fn messages_before_the_login(server: &'static Server) {
    let (database, sluice) = gate(server, TABLE);
    let user = [("user", "plain"), ("database", database.name.as_str())];
    let mut wire = Wire::open(&sluice.address);
    wire.send(&[startup(PROTOCOL_3_0, &user), query("DELETE FROM t")].concat());
    wire.hang_up();
    let outcome = wire.until_closed();
    assert!(outcome.error().is_some(), "a query is no password: {outcome:#?}");
    assert_untouched(&database, &sluice);
}

fn server_messages_from_a_client(server: &'static Server) {
    let (database, sluice) = gate(server, TABLE);
    for tag in *b"RKZTNAGWtn123" {
        let mut wire = sluice.connect(&database);
        wire.send(&message(tag, b"I"));
        assert_gone(&mut wire, &format!("the server's own message {}", tag as char));
    }
}

fn one_broken_client_harms_no_other(server: &'static Server) {
    let (database, sluice) = gate(server, TABLE);
    let mut bystander = sluice.connect(&database);
    bystander.simple("BEGIN").expect_fine("BEGIN");
    for _ in 0..20 {
        let mut wire = sluice.connect(&database);
        wire.send(&message(b'?', b"x"));
        wire.until_closed();
    }
    assert_eq!(bystander.simple("SELECT count(*) FROM t").value(), "500");
    assert_eq!(bystander.simple("COMMIT").status(), 'I');
}

fn a_statement_within_a_copy(server: &'static Server) {
    let (database, sluice) = gate(server, TABLE);
    let mut wire = sluice.connect(&database);
    wire.send(&query("COPY t FROM STDIN"));
    wire.until(b'G');
    // No client does this. Whatever is answered: it is not a way past the gate.
    wire.send(
        &[copy_data(b"1\n"), query("DELETE FROM t"), parse("", "DELETE FROM t", &[]), execute("", 0), sync()].concat(),
    );
    wire.hang_up();
    let outcome = wire.until_closed();
    assert!(outcome.error().is_some(), "{outcome:#?}");
    assert_untouched(&database, &sluice);
}

fn startup_body(pairs: &[u8]) -> Vec<u8> {
    let mut packet = i32::try_from(pairs.len() + 8).expect("a length").to_be_bytes().to_vec();
    packet.extend(PROTOCOL_3_0.to_be_bytes());
    packet.extend(pairs);
    packet
}

fn assert_refused_by_name(outcome: &Outcome, name: &str) {
    let fields = outcome.error().unwrap_or_else(|| panic!("not refused: {outcome:#?}"));
    assert_eq!(fields[&'C'], "SL003", "{fields:?}");
    assert!(fields[&'M'].starts_with("sluice: ") && fields[&'M'].contains(name), "{fields:?}");
}

/// An error, and then the end: after an unreadable message nothing on that stream can be believed.
fn assert_gone(wire: &mut Wire, what: &str) {
    let outcome = wire.until_closed();
    let fields = outcome.error().unwrap_or_else(|| panic!("{what}: closed without a word"));
    assert_eq!(fields[&'S'], "FATAL", "{what}: {fields:?}");
}

/// Nothing changed, and Sluice still serves.
fn assert_untouched(database: &Database, sluice: &Sluice) {
    assert_eq!(database.count("t"), 500);
    let mut wire = sluice.connect_as(SUPERUSER, database);
    assert_eq!(wire.simple("SELECT 'still here'").value(), "still here");
}
