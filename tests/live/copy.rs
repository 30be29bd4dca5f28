//! COPY in and out, of any size and in every way it can end.

use crate::harness::comparison::{direct_is_through, direct_is_through_for};
use crate::harness::message::{copy_data, copy_done, copy_fail, flush, query, sync, whole};
use crate::harness::server::Server;
use crate::harness::stories;

stories! {
    copy_out, copy_in, copy_in_that_fails, copy_by_the_extended_protocol, a_big_copy_in, a_copy_within_a_text_of_several,
    the_server_ends_a_copy,
}

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, name text)";

fn copy_out(server: &'static Server) {
    let setup = format!(
        "{TABLE}; INSERT INTO t SELECT n, repeat('x', n % 50) FROM generate_series(1, 20000) n; INSERT INTO t VALUES (0)"
    );
    let texts = [
        "COPY t TO STDOUT",
        "COPY (SELECT * FROM t ORDER BY id LIMIT 3) TO STDOUT (FORMAT csv, HEADER)",
        "COPY t TO STDOUT (FORMAT binary)",
        "COPY (SELECT 1/(id - 5000) FROM t ORDER BY id DESC) TO STDOUT",
        "COPY (SELECT repeat('wide', 1000000)) TO STDOUT",
        "COPY nowhere TO STDOUT",
        "BEGIN; COPY t (id) TO STDOUT; COMMIT",
    ];
    direct_is_through_for(server, &setup, &texts.map(query));
}

fn copy_in(server: &'static Server) {
    direct_is_through(server, TABLE, |place| {
        let mut wire = place.connect();
        wire.send(&query("COPY t FROM STDIN"));
        wire.until(b'G');
        wire.send(
            &[copy_data(b"1\tone\n2\tt"), copy_data(b"wo\n"), copy_data(b""), copy_data(b"3\t\\N\n"), copy_done()]
                .concat(),
        );
        wire.until_ready();
        wire.simple("SELECT * FROM t ORDER BY id");
        // Everything at once, as drivers that pipeline do it.
        let request = query("COPY t FROM STDIN (FORMAT csv)");
        wire.send(&[request, copy_data(b"4,\"fo\nur\"\n"), copy_done(), query("SELECT count(*) FROM t")].concat());
        wire.until_ready();
        wire.until_ready();
        place.keep("client", wire);
    });
}

fn copy_in_that_fails(server: &'static Server) {
    direct_is_through(server, TABLE, |place| {
        let mut wire = place.connect();
        wire.send(&query("COPY t FROM STDIN"));
        wire.until(b'G');
        wire.send(&[copy_data(b"1\tone\n"), copy_fail("the client thought better of it")].concat());
        wire.until_ready();
        wire.send(&query("COPY t FROM STDIN"));
        wire.until(b'G');
        wire.send(&[copy_data(b"not a number\n"), copy_data(b"2\ttwo\n"), copy_done()].concat());
        wire.until_ready();
        wire.simple("BEGIN");
        wire.send(&query("COPY t FROM STDIN"));
        wire.until(b'G');
        wire.send(&[copy_data(b"1\tone\n1\tagain\n"), copy_done()].concat());
        wire.until_ready();
        wire.simple("ROLLBACK");
        wire.simple("SELECT count(*) FROM t");
        place.keep("client", wire);
    });
}

fn copy_by_the_extended_protocol(server: &'static Server) {
    direct_is_through(server, TABLE, |place| {
        let mut wire = place.connect();
        wire.send(&[whole("COPY t FROM STDIN", &[]), sync()].concat());
        wire.until(b'G');
        // A Flush or a Sync within the data is ignored by the server; only the Sync after CopyDone is answered.
        wire.send(&[copy_data(b"1\tone\n"), flush(), sync(), copy_data(b"2\ttwo\n"), copy_done(), sync()].concat());
        wire.until_ready();
        wire.send(&[whole("COPY t TO STDOUT", &[]), whole("SELECT count(*) FROM t", &[]), sync()].concat());
        wire.until_ready();
        wire.send(&[whole("COPY t FROM STDIN", &[]), flush()].concat());
        wire.until(b'G');
        wire.send(&[copy_data(b"3\tthree\n"), copy_fail("no"), sync()].concat());
        wire.until_ready();
        wire.simple("SELECT count(*) FROM t");
        place.keep("client", wire);
    });
}

fn a_big_copy_in(server: &'static Server) {
    let rows: Vec<String> = (0..400_000).map(|n| format!("{n}\t{}\n", "value ".repeat(8))).collect();
    // Cut without regard for lines, in sizes from a few bytes to a megabyte.
    let bytes = rows.concat().into_bytes();
    direct_is_through(server, TABLE, |place| {
        let mut wire = place.connect();
        wire.send(&query("COPY t FROM STDIN"));
        wire.until(b'G');
        let (mut rest, mut size) = (&bytes[..], 7);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(size.min(rest.len()));
            wire.send(&copy_data(now));
            (rest, size) = (later, (size * 3) % 1_000_003);
        }
        wire.send(&copy_done());
        wire.until_ready();
        wire.simple("SELECT count(*), sum(id), sum(length(name)) FROM t");
        place.keep("client", wire);
    });
}

fn a_copy_within_a_text_of_several(server: &'static Server) {
    direct_is_through(server, TABLE, |place| {
        let mut wire = place.connect();
        wire.send(&query("SELECT 1; COPY t FROM STDIN; SELECT count(*) FROM t; COPY t FROM STDIN; COPY t TO STDOUT"));
        wire.until(b'G');
        wire.send(&[copy_data(b"1\tone\n"), copy_done()].concat());
        wire.until(b'G');
        wire.send(&[copy_data(b"2\ttwo\n"), copy_done()].concat());
        wire.until_ready();
        place.keep("client", wire);
    });
}

fn the_server_ends_a_copy(server: &'static Server) {
    direct_is_through(server, TABLE, |place| {
        let mut wire = place.connect();
        wire.send(&query("COPY t FROM STDIN"));
        wire.until(b'G');
        // The error is known long before the client is done sending; what follows is data of a copy that is over.
        wire.send(&copy_data(b"wrong\n"));
        for n in 0..2_000 {
            wire.send(&copy_data(format!("{n}\tname\n").repeat(20).as_bytes()));
        }
        wire.send(&[copy_done(), query("SELECT count(*) FROM t")].concat());
        wire.until_ready();
        wire.until_ready();
        place.keep("client", wire);
    });
}
