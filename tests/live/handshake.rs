//! Before the first statement: startup packets of every kind, TLS asked for in every way, cancelling, the doors that stay shut.

use crate::harness::comparison::{compare, direct_is_through, gate};
use crate::harness::message::{
    PROTOCOL_3_0, PROTOCOL_3_2, Rest, cancel_request, gss_request, query, startup, tls_request,
};
use crate::harness::server::{Server, TRUSTED};
use crate::harness::sluice::Setup;
use crate::harness::stories;
use crate::harness::wire::{Address, Wire};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

stories! {
    startup_packets, protocol_versions, another_major_version_is_no_way_in, no_such_user_or_database,
    gss_and_tls_are_declined, tls_by_request, tls_from_the_first_byte, tls_is_not_fooled_by_early_plaintext,
    cancelling, a_cancel_ends_when_it_was_handed_on, cancelling_with_a_wrong_key, the_replication_protocol_is_refused_by_name, over_a_unix_socket,
    the_server_is_not_there, the_database_closes_the_connection,
}

fn startup_packets(server: &'static Server) {
    direct_is_through(server, "", |place| {
        let database = place.database.clone();
        let user = ("user", TRUSTED);
        let database = ("database", database.as_str());
        let packets: &[&[(&str, &str)]] = &[
            &[user, database],
            &[database, ("application_name", "a story"), ("client_encoding", "LATIN1"), user],
            &[user, database, ("options", "-c TimeZone=Asia/Tokyo -c statement_timeout=5000 --search_path=nowhere")],
            &[user, database, ("DateStyle", "German"), ("extra_float_digits", "2"), ("TimeZone", "UTC")],
            &[user, database, ("application_name", "first"), ("application_name", "second")],
            &[user, database, ("replication", "off")],
            &[user, database, ("no_such_parameter", "1")],
            &[user, database, ("options", "-c no_such_parameter=1")],
            &[user, database, ("options", "--")],
            &[user, database, ("TimeZone", "Nowhere/Land")],
            &[user, database, ("role", "nobody")],
            &[database],
            &[("user", ""), database],
            &[],
        ];
        for packet in packets {
            let mut wire = place.open();
            wire.send(&startup(PROTOCOL_3_0, packet));
            let welcome = loop {
                match wire.receive() {
                    Some(message) if message.tag == b'Z' => break true,
                    Some(_) => {}
                    None => break false,
                }
            };
            if welcome {
                wire.simple(
                    "SHOW TimeZone; SHOW application_name; SHOW search_path; SHOW DateStyle; SHOW statement_timeout",
                );
            }
            place.keep("startup", wire);
        }
    });
}

fn protocol_versions(server: &'static Server) {
    direct_is_through(server, "", |place| {
        let database = place.database.clone();
        for version in [PROTOCOL_3_0, 3 << 16 | 1, PROTOCOL_3_2, 3 << 16 | 3, 3 << 16 | 9999] {
            for extra in [None, Some(("_pq_.unheard_of", "1")), Some(("_pq_.", ""))] {
                let mut wire = place.open();
                let mut parameters = vec![("user", TRUSTED), ("database", database.as_str())];
                parameters.extend(extra);
                wire.send(&startup(version, &parameters));
                while wire.receive().is_some_and(|message| message.tag != b'Z') {}
                place.keep("version", wire);
            }
        }
    });
}

fn another_major_version_is_no_way_in(server: &'static Server) {
    let (database, sluice) = gate(server, "");
    for version in [2 << 16, 4 << 16, 1, i32::MAX, -1] {
        let mut wire = Wire::open(&sluice.address);
        wire.send(&startup(version, &[("user", TRUSTED), ("database", &database.name)]));
        let answer = wire.bytes_until_closed();
        assert!(answer.starts_with(b"E"), "version {version:#x}: an error, then the end: {}", answer.escape_ascii());
    }
}

fn no_such_user_or_database(server: &'static Server) {
    direct_is_through(server, "", |place| {
        let database = place.database.clone();
        for (user, database) in
            [("nobody", database.as_str()), (TRUSTED, "no such database"), (TRUSTED, "postgres\u{7f}")]
        {
            let mut wire = place.open();
            wire.send(&startup(PROTOCOL_3_0, &[("user", user), ("database", database)]));
            wire.until_closed();
            place.keep("stranger", wire);
        }
    });
}

fn gss_and_tls_are_declined(server: &'static Server) {
    // Direct, version 15 would accept TLS; through a listener without a certificate it is declined as by a server without.
    let (database, sluice) = gate(server, "");
    let mut wire = Wire::open(&sluice.address);
    wire.send(&gss_request());
    assert_eq!(wire.byte(), b'N', "no GSSAPI encryption");
    wire.send(&tls_request());
    assert_eq!(wire.byte(), b'N', "no certificate, no TLS");
    wire.send(&startup(PROTOCOL_3_0, &[("user", TRUSTED), ("database", &database.name)]));
    wire.until_ready().expect_fine("the same connection goes on in plain text");
    // Asking a second time is not a way to hold a connection for ever: it is refused or declined, but never answered with S.
    let mut wire = Wire::open(&sluice.address);
    wire.send(&tls_request());
    assert_eq!(wire.byte(), b'N');
    wire.send(&tls_request());
    assert!(!wire.some_bytes().starts_with(b"S"));
}

fn tls_by_request(server: &'static Server) {
    let database = server.database("");
    let sluice = Setup::before(&database).with_tls().start();
    for first in [None, Some(gss_request())] {
        let mut wire = Wire::open(&sluice.address);
        if let Some(request) = first {
            wire.send(&request);
            assert_eq!(wire.byte(), b'N');
        }
        wire.send(&tls_request());
        assert_eq!(wire.byte(), b'S');
        let mut wire = wire.into_tls();
        wire.send(&startup(PROTOCOL_3_0, &[("user", TRUSTED), ("database", &database.name)]));
        wire.until_ready().expect_fine("login over TLS");
        assert_eq!(wire.simple("SELECT repeat('x', 3000000)").value().len(), 3_000_000);
    }
    if server.has_tls() {
        let script = |place: &mut crate::harness::comparison::Place| {
            let mut wire = place.open();
            wire.send(&tls_request());
            assert_eq!(wire.byte(), b'S');
            let mut wire = wire.into_tls();
            wire.send(&startup(PROTOCOL_3_0, &[("user", TRUSTED), ("database", &place.database)]));
            wire.until_ready();
            wire.simple("SELECT n, repeat('x', 100) FROM generate_series(1, 10000) n; SELECT 1/0");
            place.keep("over TLS", wire);
        };
        compare(server, "", |setup| setup.with_tls().listener("upstream_tls = \"require\""), script);
    }
}

fn tls_from_the_first_byte(server: &'static Server) {
    let database = server.database("");
    let sluice = Setup::before(&database).with_tls().start();
    let mut wire = Wire::open(&sluice.address).into_tls();
    wire.send(&startup(PROTOCOL_3_0, &[("user", TRUSTED), ("database", &database.name)]));
    wire.until_ready().expect_fine("login over direct TLS");
    assert_eq!(wire.simple("SELECT 7").value(), "7");
    let plain = Setup::before(&database).start();
    let mut wire = Wire::open(&plain.address);
    // A TLS ClientHello where a startup packet is expected, and no certificate to answer it with.
    wire.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
    wire.hang_up();
    let answer = wire.some_bytes();
    assert!(answer.is_empty() || answer[0] == b'E', "closed, with or without a word: {answer:?}");
}

fn tls_is_not_fooled_by_early_plaintext(server: &'static Server) {
    // CVE-2021-23214: what is sent in plain text together with the TLS request must not be taken as if it came over TLS.
    let database = server.database("CREATE TABLE t (id int)");
    let sluice = Setup::before(&database).with_tls().start();
    let mut wire = Wire::open(&sluice.address);
    let smuggled = startup(PROTOCOL_3_0, &[("user", TRUSTED), ("database", &database.name)]);
    wire.send(&[tls_request(), smuggled, query("INSERT INTO t VALUES (1)")].concat());
    wire.hang_up();
    let answer = wire.bytes_until_closed();
    let logged_in = answer.windows(9).any(|bytes| bytes == b"R\0\0\0\x08\0\0\0\0");
    assert!(!logged_in, "what came early was taken for what comes over TLS: {}", answer.escape_ascii());
    assert_eq!(database.count("t"), 0);
}

fn cancelling(server: &'static Server) {
    for version in [PROTOCOL_3_0, PROTOCOL_3_2] {
        let (database, sluice) = gate(server, "");
        let user = [("user", TRUSTED), ("database", database.name.as_str())];
        let mut wire = Wire::login_with(&sluice.address, version, &user);
        let key = wire.key();
        let long = version == PROTOCOL_3_2 && server.version >= 18;
        assert_eq!(key.len() > 8, long, "3.2 has longer keys, and only 18 speaks it: {} bytes", key.len());
        wire.send(&query("SELECT pg_sleep(300)"));
        database.wait_until_it_runs("SELECT pg_sleep(300)");
        let mut canceller = Wire::open(&sluice.address);
        canceller.send(&cancel_request(&key));
        assert!(canceller.some_bytes().is_empty(), "a cancel request is answered by closing, nothing else");
        let outcome = wire.until_ready();
        assert_eq!(outcome.code(), "57014", "{outcome:#?}");
        assert_eq!(wire.simple("SELECT 'still here'").value(), "still here");
    }
}

/// libpq and asyncpg take the end of a cancel request's connection for its delivery, and send the next statement then. If it came
/// too early, that statement would be cancelled.
fn a_cancel_ends_when_it_was_handed_on(_: &'static Server) {
    let upstream = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = Address::Tcp(upstream.local_addr().expect("bound"));
    let sluice = Setup::before_address(&address).listener("upstream_tls = \"disable\"").start();
    let Address::Tcp(listening) = &sluice.address else { panic!("{:?}", sluice.address) };
    let request = cancel_request(&[7; 8]);
    let mut canceller = TcpStream::connect(listening).expect("Sluice listens");
    canceller.write_all(&request).expect("sent");
    let (mut handed_on, _) = upstream.accept().expect("Sluice hands it on");
    let mut received = vec![0; request.len()];
    handed_on.read_exact(&mut received).expect("as it came");
    assert_eq!(received, request);
    canceller.set_nonblocking(true).expect("a socket");
    let early = canceller.read(&mut [0]);
    assert!(early.is_err(), "the server has not closed yet, and the client was told that it had: {early:?}");
    canceller.set_nonblocking(false).expect("a socket");
    drop(handed_on);
    assert_eq!(canceller.read(&mut [0]).expect("closed in order"), 0);
}

fn cancelling_with_a_wrong_key(server: &'static Server) {
    let (database, sluice) = gate(server, "");
    let mut wire = sluice.connect(&database);
    let key = wire.key();
    wire.send(&query("SELECT pg_sleep(1.5)"));
    database.wait_until_it_runs("SELECT pg_sleep(1.5)");
    let mut pid_only = key.clone();
    for byte in &mut pid_only[4..] {
        *byte ^= 0x5a;
    }
    for wrong in [pid_only, vec![0; 8], key[..4].to_vec(), [key.clone(), vec![0; 300]].concat()] {
        let mut canceller = Wire::open(&sluice.address);
        canceller.send(&cancel_request(&wrong));
        assert!(canceller.some_bytes().is_empty(), "nobody learns whether a key was right");
    }
    assert_eq!(wire.until_ready().code(), "", "a stranger cancels nothing");
}

fn the_replication_protocol_is_refused_by_name(server: &'static Server) {
    let (database, sluice) = gate(server, "");
    for value in ["database", "true", "on", "yes", "1"] {
        let mut wire = Wire::open(&sluice.address);
        let parameters = [("user", TRUSTED), ("database", &database.name), ("replication", value)];
        wire.send(&startup(PROTOCOL_3_0, &parameters));
        let outcome = wire.until_closed();
        assert_eq!(outcome.code(), "SL003", "replication={value}: {outcome:#?}");
        let fields = outcome.error().expect("refused");
        assert!(fields[&'M'].starts_with("sluice: ") && fields[&'M'].contains("replication"), "{fields:?}");
        assert_eq!(fields[&'S'], "FATAL");
    }
}

fn over_a_unix_socket(server: &'static Server) {
    let database = server.database("CREATE TABLE t (id int)");
    let sluice = Setup::before_address(&server.unix()).on_unix_socket().start();
    let mut wire = sluice.connect(&database);
    assert_eq!(
        wire.simple("SELECT inet_client_addr() IS NULL").value(),
        "t",
        "the upstream leg is a unix socket as well"
    );
    let refused = wire.simple("DELETE FROM t");
    assert!(["SL001", ""].contains(&refused.code().as_str()), "{refused:#?}");
}

fn the_server_is_not_there(server: &'static Server) {
    let database = server.database("");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
    let sluice = Setup::before_address(&Address::Tcp(nobody)).start();
    let mut wire = Wire::open(&sluice.address);
    wire.send(&startup(PROTOCOL_3_0, &[("user", TRUSTED), ("database", &database.name)]));
    let outcome = wire.until_closed();
    let fields = outcome.error().expect("a reason, not a silent close");
    assert_eq!((fields[&'S'].as_str(), fields[&'C'].as_str()), ("FATAL", "08006"), "{fields:?}");
    assert!(fields[&'M'].starts_with("sluice: "), "it is not the database that speaks: {fields:?}");
}

fn the_database_closes_the_connection(server: &'static Server) {
    direct_is_through(server, "", |place| {
        let mut wire = place.connect();
        let pid = Rest(&wire.key()).int32();
        server.administer(&format!("SELECT pg_terminate_backend({pid})"));
        wire.until_closed();
        place.keep("terminated while idle", wire);
        let mut wire = place.connect();
        wire.send(&query("SELECT pg_terminate_backend(pg_backend_pid())"));
        wire.until_closed();
        place.keep("terminated while it ran", wire);
    });
}
