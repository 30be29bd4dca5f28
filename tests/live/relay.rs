//! The relay: what is not guarded is answered byte for byte as without Sluice, in both of the protocol's halves.

use crate::harness::comparison::{direct_is_through, direct_is_through_for};
use crate::harness::message::{bind, close, describe, execute, flush, parse, query, sync, whole};
use crate::harness::server::Server;
use crate::harness::stories;

stories! {
    simple_queries, errors_with_every_field, notices_in_their_place, transaction_status, settings_that_are_reported,
    pipelines, a_flush_without_a_sync, portals_with_row_limits, describing_and_closing, an_error_in_a_pipeline,
    values_in_text_and_binary, prepared_statements_kept_and_forgotten, an_implicit_transaction_spans_a_pipeline,
    notifications, cursors, large_objects, odd_texts, small_changes, many_rows, two_phase_commit,
}

const PEOPLE: &str = "CREATE TABLE people (id int PRIMARY KEY, name text NOT NULL UNIQUE, born date, height numeric CHECK (height > 0));
    INSERT INTO people VALUES (1, 'Ada', '1815-12-10', 1.65), (2, 'Grace', '1906-12-09', 1.68), (3, 'Edsger', NULL, NULL)";

fn simple_queries(server: &'static Server) {
    let texts = [
        "SELECT 1, NULL, 'x', 2.5::float8, '\\xdeadbeef'::bytea, ARRAY[1, NULL], '{\"a\": 1}'::jsonb, row(1, 'a')",
        "SELECT * FROM people ORDER BY id",
        "SELECT",
        "SELECT 1; SELECT 2, 3; SELECT FROM people",
        "",
        " ; ;; -- nothing\n /* at all */ ;",
        "SELECT 1 AS \"quoted \"\" name\", 2 AS \"größe\"",
        "SHOW server_version",
        "EXPLAIN (COSTS OFF) SELECT * FROM people WHERE id = 1",
        "VALUES (1), (2)",
        "TABLE people",
        "SELECT 1 /* sluice: reason=\"harmless\" */",
        "CREATE TEMP TABLE t AS SELECT generate_series(1, 5) AS n",
        "SELECT sum(n) FROM t",
    ];
    direct_is_through_for(server, PEOPLE, &texts.map(query));
}

fn errors_with_every_field(server: &'static Server) {
    let texts = [
        "SELEC 1",
        "SELECT * FROM nowhere",
        "SELECT id FORM people WHERE",
        "INSERT INTO people VALUES (1, 'Ada again')",
        "INSERT INTO people VALUES (9, NULL)",
        "INSERT INTO people VALUES (9, 'Nine', NULL, -1)",
        "INSERT INTO people VALUES (9, 'Nine', 'yesterday''s news')",
        "SELECT 1/0",
        "SELECT 'x'::int",
        "SELECT nobody_wrote_this(1)",
        "SELECT 1; SELECT 1/0; SELECT 2",
        "SELECT pg_sleep('x')",
        "SELECT \"unclosed",
        "SELECT 'unclosed",
        "SELECT '\\xZZ'::bytea; SELECT 3",
        "SELECT E'\\u00zz'",
        "FETCH 1 FROM nothing_open",
    ];
    direct_is_through_for(server, PEOPLE, &texts.map(query));
}

fn notices_in_their_place(server: &'static Server) {
    let setup = "CREATE FUNCTION shout(what text) RETURNS text LANGUAGE plpgsql AS $$BEGIN
        RAISE DEBUG 'unheard'; RAISE NOTICE 'shout: %', what USING DETAIL = 'a detail', HINT = 'a hint', ERRCODE = '01234';
        RAISE WARNING 'louder'; RETURN upper(what); END$$;
        CREATE FUNCTION fail() RETURNS void LANGUAGE plpgsql AS $$BEGIN
        RAISE EXCEPTION 'failed: %', 7 USING DETAIL = 'why', HINT = 'what to do', ERRCODE = 'ZZ001', COLUMN = 'c',
            CONSTRAINT = 'k', DATATYPE = 'd', TABLE = 't', SCHEMA = 's'; END$$";
    let texts = [
        "SELECT shout('a'); SELECT shout('b'), 2",
        "SELECT fail()",
        "SELECT shout('before'); SELECT fail(); SELECT shout('never')",
        "COMMIT",
        "BEGIN; BEGIN; COMMIT",
        "SET client_min_messages = debug1",
        "SELECT shout('debugged')",
        "CREATE TABLE IF NOT EXISTS pg_class_not (a int); CREATE TABLE IF NOT EXISTS pg_class_not (a int)",
    ];
    direct_is_through_for(server, setup, &texts.map(query));
}

fn transaction_status(server: &'static Server) {
    let texts = [
        "BEGIN",
        "SELECT 1",
        "SAVEPOINT a",
        "SELECT 1/0",
        "SELECT 1",
        "ROLLBACK TO a",
        "INSERT INTO people VALUES (4, 'Barbara')",
        "COMMIT",
        "BEGIN; INSERT INTO people VALUES (5, 'John'); SELECT 1/0",
        "SELECT 1",
        "COMMIT",
        "SELECT count(*) FROM people",
        "START TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY",
        "INSERT INTO people VALUES (6, 'Tony')",
        "ROLLBACK AND CHAIN",
        "END",
        "INSERT INTO people VALUES (6, 'Tony'); INSERT INTO people VALUES (6, 'Tony')",
        "SELECT count(*) FROM people",
        "BEGIN; SELECT 1; COMMIT; SELECT 2; BEGIN; SELECT 3",
        "ABORT",
    ];
    direct_is_through_for(server, PEOPLE, &texts.map(query));
}

fn settings_that_are_reported(server: &'static Server) {
    let texts = [
        "SET TimeZone = 'Europe/Vienna'",
        "SET DateStyle = 'SQL, DMY'; SET IntervalStyle = 'iso_8601'",
        "SET client_encoding = 'LATIN1'",
        "SELECT 'ä'",
        "SET client_encoding = 'UTF8'",
        "SET application_name = 'a story'",
        "SET standard_conforming_strings = off",
        "SELECT 'it''s \\'quoted\\' here'",
        "SET standard_conforming_strings = on",
        "BEGIN; SET LOCAL TimeZone = 'Asia/Tokyo'; SELECT 1",
        "ROLLBACK",
        "SET search_path = nowhere, public",
        "SELECT set_config('TimeZone', 'UTC', false)",
        "SET my.own = 'setting'; SHOW my.own",
        "RESET ALL",
        "DISCARD ALL",
        "SHOW sluice.format",
    ];
    direct_is_through_for(server, "", &texts.map(query));
}

fn pipelines(server: &'static Server) {
    let one = |id: &str| whole("SELECT id, name FROM people WHERE id = $1", &[Some(id.as_bytes())]);
    let requests = [
        [one("1"), sync()].concat(),
        [one("1"), one("2"), one("9"), sync()].concat(),
        [parse("", "", &[]), bind("", "", 0, &[]), describe(b'P', ""), execute("", 0), sync()].concat(),
        [whole("INSERT INTO people VALUES (7, 'Alan')", &[]), whole("SELECT count(*) FROM people", &[]), sync()]
            .concat(),
        sync(),
        (0..200).flat_map(|id| one(&id.to_string())).chain(sync()).collect(),
    ];
    direct_is_through_for(server, PEOPLE, &requests);
    direct_is_through(server, PEOPLE, |place| {
        // Three Syncs in one write: three answers.
        let mut wire = place.connect();
        wire.send(&[one("1"), sync(), one("2"), sync(), query("SELECT 3"), one("3"), sync()].concat());
        for _ in 0..4 {
            wire.until_ready();
        }
        place.keep("client", wire);
    });
}

fn a_flush_without_a_sync(server: &'static Server) {
    direct_is_through(server, PEOPLE, |place| {
        let mut wire = place.connect();
        wire.send(&[parse("s", "SELECT name FROM people WHERE id = $1", &[]), describe(b'S', "s"), flush()].concat());
        wire.until(b'T');
        wire.send(&[bind("", "s", 0, &[Some(b"1")]), flush()].concat());
        wire.until(b'2');
        wire.send(&[execute("", 0), flush()].concat());
        wire.until(b'C');
        wire.send(&[bind("", "s", 0, &[Some(b"2")]), execute("", 0), flush()].concat());
        wire.until(b'C');
        wire.send(&[bind("", "s", 0, &[Some(b"not a number")]), flush()].concat());
        wire.until(b'E');
        wire.send(&sync());
        wire.until_ready();
        place.keep("client", wire);
    });
}

fn portals_with_row_limits(server: &'static Server) {
    direct_is_through(server, "", |place| {
        let mut wire = place.connect();
        wire.send(&[query("BEGIN")].concat());
        wire.until_ready();
        let open =
            [parse("", "SELECT generate_series(1, 10)", &[]), bind("p", "", 0, &[]), describe(b'P', "p")].concat();
        wire.send(&[open, execute("p", 4), flush()].concat());
        wire.until(b's');
        wire.send(&[execute("p", 4), sync()].concat());
        wire.until_ready();
        wire.send(
            &[whole("SELECT 'in between'", &[]), execute("p", 1), execute("p", 0), execute("p", 5), sync()].concat(),
        );
        wire.until_ready();
        wire.send(&query("COMMIT"));
        wire.until_ready();
        // The portal went with its transaction.
        wire.send(&[execute("p", 1), sync()].concat());
        wire.until_ready();
        place.keep("client", wire);
    });
}

fn describing_and_closing(server: &'static Server) {
    let requests = [
        [parse("s", "SELECT $1::int + id, name FROM people WHERE name = $2", &[23, 0]), describe(b'S', "s"), sync()]
            .concat(),
        [bind("p", "s", 1, &[Some(&[0, 0, 0, 1]), Some(b"Ada")]), describe(b'P', "p"), sync()].concat(),
        [describe(b'S', "nobody"), sync()].concat(),
        [describe(b'P', "nobody"), sync()].concat(),
        [close(b'S', "nobody"), close(b'P', "nobody"), sync()].concat(),
        [close(b'S', "s"), describe(b'S', "s"), sync()].concat(),
        [parse("u", "UPDATE people SET name = name WHERE id = $1", &[]), describe(b'S', "u"), sync()].concat(),
        [parse("u", "SELECT 1", &[]), sync()].concat(),
        [parse("", "SELECT 1", &[]), parse("", "SELECT 2", &[]), describe(b'S', ""), sync()].concat(),
    ];
    direct_is_through_for(server, PEOPLE, &requests);
}

fn an_error_in_a_pipeline(server: &'static Server) {
    let add = |id: &str| whole("INSERT INTO people VALUES ($1, 'p' || $1::int)", &[Some(id.as_bytes())]);
    let clash = whole("INSERT INTO people VALUES ($1, 'p' || $1::text)", &[Some(b"13")]);
    let requests = [
        // What came before the error in the same implicit transaction is gone with it; what came after was never done.
        [add("10"), add("11"), whole("SELECT 1/0", &[]), add("12"), sync()].concat(),
        query("SELECT count(*) FROM people"),
        [add("10"), parse("", "SELEC", &[]), bind("", "", 0, &[]), execute("", 0), sync()].concat(),
        [bind("", "nobody", 0, &[]), execute("", 0), sync()].concat(),
        [execute("nobody", 0), close(b'P', "x"), sync()].concat(),
        query("SELECT count(*) FROM people"),
        // What follows a Parse that failed is judged by nobody: it is discarded, and one error is all there is.
        [clash.clone(), add("13"), sync()].concat(),
        query("BEGIN"),
        [clash.clone(), add("13"), sync()].concat(),
        query("ROLLBACK"),
        query("BEGIN"),
        [add("20"), whole("SELECT 1/0", &[]), sync()].concat(),
        [add("21"), sync()].concat(),
        [whole("ROLLBACK", &[]), sync()].concat(),
        query("SELECT count(*) FROM people"),
    ];
    direct_is_through_for(server, PEOPLE, &requests);
}

fn values_in_text_and_binary(server: &'static Server) {
    let binary = [Some(&[0u8, 0, 0, 7][..]), Some(b"\xc3\xa4"), None];
    let requests = [
        [parse("", "SELECT $1::int, $2::text, $3::date", &[]), bind("", "", 1, &binary), execute("", 0), sync()]
            .concat(),
        [
            parse("", "SELECT $1::float8, now() > $2", &[]),
            bind("", "", 0, &[Some(b"1e10"), None]),
            execute("", 0),
            sync(),
        ]
        .concat(),
        [parse("", "SELECT $1::int", &[]), bind("", "", 1, &[Some(b"12345")]), execute("", 0), sync()].concat(),
        [parse("", "SELECT $1::int, $2::int", &[]), bind("", "", 0, &[Some(b"1")]), execute("", 0), sync()].concat(),
        [parse("", "SELECT $1::text", &[]), bind("", "", 0, &[Some(b"\xff\xfe")]), execute("", 0), sync()].concat(),
        [parse("", "SELECT $1", &[99_999]), sync()].concat(),
        [parse("b", "SELECT * FROM people ORDER BY id", &[]), bind("", "b", 1, &[]), execute("", 0), sync()].concat(),
    ];
    direct_is_through_for(server, PEOPLE, &requests);
}

fn prepared_statements_kept_and_forgotten(server: &'static Server) {
    let requests = [
        query("PREPARE by_id (int) AS SELECT name FROM people WHERE id = $1"),
        query("EXECUTE by_id(1); EXECUTE by_id(2)"),
        [bind("", "by_id", 0, &[Some(b"3")]), execute("", 0), sync()].concat(),
        [parse("wire", "SELECT count(*) FROM people", &[]), sync()].concat(),
        query("EXECUTE wire"),
        query("SELECT name, statement FROM pg_prepared_statements ORDER BY name"),
        query("DEALLOCATE by_id"),
        query("EXECUTE by_id(1)"),
        query("DEALLOCATE ALL"),
        [bind("", "wire", 0, &[]), execute("", 0), sync()].concat(),
        [parse("wire", "SELECT 'again'", &[]), bind("", "wire", 0, &[]), execute("", 0), sync()].concat(),
        query("DISCARD ALL"),
        [bind("", "wire", 0, &[]), execute("", 0), sync()].concat(),
    ];
    direct_is_through_for(server, PEOPLE, &requests);
}

fn an_implicit_transaction_spans_a_pipeline(server: &'static Server) {
    let requests = [
        [whole("BEGIN", &[]), whole("INSERT INTO people VALUES (30, 'x')", &[]), sync()].concat(),
        [whole("COMMIT", &[]), whole("SELECT count(*) FROM people", &[]), sync()].concat(),
        [whole("SAVEPOINT a", &[]), sync()].concat(),
        [whole("SELECT 1", &[]), whole("VACUUM people", &[]), sync()].concat(),
        [whole("SET LOCAL TimeZone = 'Asia/Tokyo'", &[]), whole("SHOW TimeZone", &[]), sync()].concat(),
    ];
    direct_is_through_for(server, PEOPLE, &requests);
}

fn notifications(server: &'static Server) {
    direct_is_through(server, "", |place| {
        let (mut ear, mut mouth) = (place.connect(), place.connect());
        ear.simple("LISTEN news; LISTEN \"Other News\"");
        mouth.simple("NOTIFY news, 'first'");
        // Nothing was asked on the ear's connection: the notification comes by itself.
        ear.until(b'A');
        mouth.simple("BEGIN; NOTIFY news, 'second'; SELECT pg_notify('Other News', 'third')");
        mouth.simple("COMMIT");
        ear.until(b'A');
        ear.until(b'A');
        ear.simple("NOTIFY news, 'to myself'");
        ear.simple("UNLISTEN *; NOTIFY news, 'unheard'");
        place.keep("ear", ear);
        place.keep("mouth", mouth);
    });
}

fn cursors(server: &'static Server) {
    let texts = [
        "BEGIN",
        "DECLARE c SCROLL CURSOR FOR SELECT * FROM people ORDER BY id",
        "FETCH 2 FROM c",
        "FETCH BACKWARD ALL FROM c",
        "MOVE FORWARD 1 IN c",
        "FETCH RELATIVE 1 FROM c",
        "DECLARE h CURSOR WITH HOLD FOR SELECT generate_series(1, 1000)",
        "COMMIT",
        "FETCH 3 FROM h",
        "FETCH 1 FROM c",
        "CLOSE h",
        "BEGIN; DECLARE u CURSOR FOR SELECT * FROM people WHERE id = 1 FOR UPDATE; FETCH u",
        "UPDATE people SET height = 1.7 WHERE CURRENT OF u",
        "CLOSE ALL; COMMIT",
    ];
    direct_is_through_for(server, PEOPLE, &texts.map(query));
}

fn large_objects(server: &'static Server) {
    let texts = [
        "SELECT lo_from_bytea(770001, '\\x00010203')",
        "SELECT lo_put(770001, 4, '\\xff')",
        "SELECT lo_get(770001)",
        "BEGIN",
        "SELECT lo_open(770001, x'60000'::int)",
        "SELECT lowrite(0, repeat('x', 100000)::bytea)",
        "SELECT lo_lseek(0, 0, 0)",
        "SELECT loread(0, 10)",
        "SELECT lo_close(0)",
        "COMMIT",
        "SELECT length(lo_get(770001))",
        "SELECT lo_get(770002)",
    ];
    // Large objects belong to the database: the same number in both is no conflict.
    direct_is_through_for(server, "", &texts.map(query));
}

fn odd_texts(server: &'static Server) {
    let long = format!("SELECT {}", vec!["1"; 20_000].join("+"));
    let many = "SELECT 1;".repeat(2_000);
    let nested = format!("SELECT {}1{}", "(".repeat(300), ")".repeat(300));
    let wide = format!("SELECT '{}'", "ä".repeat(100_000));
    let requests = [
        query(&long),
        query(&many),
        query(&nested),
        query(&wide),
        query(
            "SELECT $$a;b$$, $tag$ $$ ; $tag$, U&'\\0441', E'\\x41;', 1 -- ; not the end\n, 2 /* ; /* nested ; */ */; SELECT 3",
        ),
        query("SELECT U&\"d\\0061t\" FROM (SELECT 1 AS dat) x"),
        query("\u{feff}SELECT 1"),
        query("SELECT\u{a0}1"),
        query("SELECT 1 AS \"a;b\"; SELECT 'c;d' 'e'"),
        query("SELECT 'a'\n'b;c'; SELECT 4"),
        query("SELECT 1::\"char\", 'x'::bpchar(3)"),
        // Not UTF-8: the server says so itself.
        crate::harness::message::message(b'Q', b"SELECT '\xff'\0"),
    ];
    direct_is_through_for(server, "", &requests);
}

fn small_changes(server: &'static Server) {
    let texts = [
        "INSERT INTO people SELECT n, 'p' || n FROM generate_series(100, 150) n",
        "UPDATE people SET height = 1 WHERE id = 100",
        "UPDATE people SET height = 2 WHERE id BETWEEN 100 AND 150 RETURNING id",
        "DELETE FROM people WHERE id > 145",
        "INSERT INTO people VALUES (1, 'Ada') ON CONFLICT DO NOTHING",
        "INSERT INTO people VALUES (1, 'Ada', NULL, 1.6) ON CONFLICT (id) DO UPDATE SET height = excluded.height RETURNING *",
        "WITH gone AS (DELETE FROM people WHERE id = 140 RETURNING *) SELECT count(*) FROM gone",
        "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) UPDATE people SET height = 3 WHERE id = 101",
        "DELETE FROM people WHERE id = 424242",
        "SELECT count(*), sum(height) FROM people",
        "SELECT * FROM people WHERE id = 1 FOR UPDATE",
        "LOCK TABLE people IN SHARE MODE",
        "CREATE INDEX ON people (height); ANALYZE people",
        "ALTER TABLE people ADD COLUMN email text",
        "COMMENT ON TABLE people IS 'some'",
        "SELECT n_tup_ins FROM pg_stat_xact_user_tables WHERE relname = 'people'",
    ];
    direct_is_through_for(server, PEOPLE, &texts.map(query));
}

fn many_rows(server: &'static Server) {
    let texts = [
        "SELECT n, repeat('x', n % 200) FROM generate_series(1, 50000) n",
        "SELECT repeat('y', 5000000)",
        "SELECT n FROM generate_series(1, 30000) n; SELECT repeat('z', n) FROM generate_series(1, 2000) n",
    ];
    direct_is_through_for(server, "", &texts.map(query));
}

fn two_phase_commit(server: &'static Server) {
    // Prepared transactions share one name space in the cluster: the name is used up before it is used again.
    let texts = [
        "BEGIN; INSERT INTO people VALUES (50, 'later'); PREPARE TRANSACTION 'a story'",
        "SELECT count(*) FROM people",
        "COMMIT PREPARED 'a story'",
        "SELECT count(*) FROM people",
        "ROLLBACK PREPARED 'nobody'",
    ];
    direct_is_through_for(server, PEOPLE, &texts.map(query));
}
