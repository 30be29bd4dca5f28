//! The relay: what is not guarded is answered byte for byte as without Sluice, to every command that a client of MySQL has.

use crate::harness::mysql::comparison::{
    compare, direct_is_through, direct_is_through_asking_for, direct_is_through_for,
};
use crate::harness::mysql::login::Login;
use crate::harness::mysql::my_stories;
use crate::harness::mysql::packet::{
    self, BLOB, DEPRECATE_EOF, LONG, LONGLONG, MARIADB, MULTI_STATEMENTS, QUERY_ATTRIBUTES, SESSION_TRACK, USUAL,
    VAR_STRING, about, body, close, command, execute, execute_typed, fetch, lenenc, lenenc_string, long_data, prepare,
    query, reset,
};
use crate::harness::mysql::server::{BY_PASSWORD, MyServer, OTHER, TRUSTED};
use crate::harness::server::PASSWORD;

my_stories! {
    text_queries, errors_and_warnings, many_statements_at_once, many_statements_unasked_for, results_of_procedures,
    transaction_status, without_autocommit, the_session_is_tracked, values_in_text_and_binary, long_data_in_pieces,
    prepared_statements_kept_and_forgotten, cursors, a_pipeline, simple_commands, another_user, clients_of_old,
    attributes_of_a_query, mariadb_metadata, mariadb_bulk, mariadb_progress, local_infile,
    texts_over_16_mb, rows_over_16_mb, character_sets, odd_texts, small_changes, many_rows, texts_that_cannot_be_read, locks_and_handlers,
    two_phase_commit, a_large_file,
}

const PEOPLE: &str = "CREATE TABLE people (id int PRIMARY KEY, name varchar(100) NOT NULL UNIQUE, born date,
        height decimal(4, 2), CONSTRAINT tall CHECK (height > 0));
    INSERT INTO people VALUES (1, 'Ada', '1815-12-10', 1.65), (2, 'Grace', '1906-12-09', 1.68), (3, 'Edsger', NULL, NULL)";

fn text_queries(server: &'static MyServer) {
    let texts = [
        "SELECT 1, NULL, 'x', 2.5e0, x'deadbeef', 1.50, DATE '2026-01-02', TIME '10:00:00.5', true, b'101'",
        "SELECT * FROM people ORDER BY id",
        "SELECT * FROM people WHERE false",
        "",
        " ; ",
        "-- nothing",
        "/* at all */",
        "SELECT 1 AS `quoted `` name`, 2 AS `größe`",
        "EXPLAIN SELECT * FROM people WHERE id = 1",
        "SHOW TABLES",
        "SHOW CREATE TABLE people",
        "DESCRIBE people",
        "SHOW VARIABLES LIKE 'sql_mode'",
        "SELECT 1 /* sluice: reason=\"harmless\" */",
        "SELECT /*! 1, */ /*!50000 2, */ /*!99999 3, */ 4",
        "CREATE TEMPORARY TABLE t AS SELECT id AS n FROM people",
        "SELECT sum(n) FROM t",
        "SELECT @a := 5, @a",
        "SET @b = 7",
        "SELECT @b",
        "DO 1",
        "WITH RECURSIVE n AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM n WHERE n < 5) SELECT * FROM n",
        "SELECT JSON_OBJECT('a', 1), ST_AsText(ST_GeomFromText('POINT(1 2)'))",
        "(SELECT 1) UNION ALL (SELECT 2) ORDER BY 1 DESC",
        "TABLE people",
        "VALUES ROW(1), ROW(2)",
        "VALUES (1), (2)",
    ];
    direct_is_through_for(server, PEOPLE, &texts.map(query));
}

fn errors_and_warnings(server: &'static MyServer) {
    let texts = [
        "SELEC 1",
        "SELECT * FROM nowhere",
        "SELECT id FORM people WHERE",
        "INSERT INTO people VALUES (1, 'Ada again', NULL, NULL)",
        "SHOW WARNINGS",
        "SHOW ERRORS",
        "INSERT INTO people VALUES (9, NULL, NULL, NULL)",
        "INSERT INTO people VALUES (9, 'Nine', NULL, -1)",
        "INSERT INTO people VALUES (9, 'Nine', 'yesterday', 1)",
        "INSERT IGNORE INTO people VALUES (9, 'Nine', 'yesterday', 1)",
        "SHOW WARNINGS",
        "SHOW COUNT(*) WARNINGS",
        "SELECT @@warning_count, @@error_count",
        "SELECT 1/0",
        "SHOW WARNINGS LIMIT 1",
        "SELECT CAST('x' AS SIGNED)",
        "GET DIAGNOSTICS @n = NUMBER",
        "GET DIAGNOSTICS CONDITION 1 @s = RETURNED_SQLSTATE, @m = MESSAGE_TEXT",
        "SELECT @n, @s, @m",
        "SELECT nobody_wrote_this(1)",
        "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'our own', MYSQL_ERRNO = 3000",
        "SIGNAL SQLSTATE '01000' SET MESSAGE_TEXT = 'only a warning'",
        "SHOW WARNINGS",
        "SELECT `unclosed",
        "SELECT 'unclosed",
        "USE nowhere_at_all",
        "DROP TABLE IF EXISTS nothing_here",
        "SHOW WARNINGS",
        "SELECT 1 FROM people WHERE id = (SELECT id FROM people)",
    ];
    direct_is_through_for(server, PEOPLE, &texts.map(query));
}

fn many_statements_at_once(server: &'static MyServer) {
    let texts = [
        "SELECT 1; SELECT 2, 3; SELECT id FROM people ORDER BY id",
        "SELECT 1;",
        "SELECT 1; ; SELECT 2",
        "INSERT INTO people VALUES (4, 'Barbara', NULL, NULL); SELECT row_count(); SELECT 1",
        "SELECT 1; SELECT * FROM nowhere; SELECT 3",
        "SET @a = 1; SET @b = @a + 1; SELECT @a, @b",
        "BEGIN; INSERT INTO people VALUES (5, 'John', NULL, NULL); SELECT count(*) FROM people; ROLLBACK; SELECT count(*) FROM people",
        "SELECT 1/0; SHOW WARNINGS; SELECT 'x' + 1; SHOW WARNINGS",
        "SELECT 1 -- ; SELECT 2\n; SELECT 3 # ;\n; SELECT ';' ; SELECT /* ; */ 4",
    ];
    direct_is_through_for(server, PEOPLE, &texts.map(query));
}

/// Neither asked for at the login, nor later: several statements are a syntax error; then COM_SET_OPTION allows them.
fn many_statements_unasked_for(server: &'static MyServer) {
    let commands = [
        query("SELECT 1; SELECT 2"),
        body(command::SET_OPTION, &[0, 0]),
        query("SELECT 1; SELECT 2"),
        body(command::SET_OPTION, &[1, 0]),
        query("SELECT 1; SELECT 2"),
        body(command::SET_OPTION, &[9, 0]),
        query("SELECT 1"),
    ];
    direct_is_through_asking_for(server, "", USUAL & !MULTI_STATEMENTS, &commands);
    direct_is_through_asking_for(server, "", USUAL & !MULTI_STATEMENTS & !DEPRECATE_EOF, &commands);
}

fn results_of_procedures(server: &'static MyServer) {
    let setup = format!(
        "{PEOPLE};
        CREATE PROCEDURE several() BEGIN SELECT 1; SELECT * FROM people; SELECT 'x' FROM people WHERE false; END;
        CREATE PROCEDURE silent() BEGIN SET @x = 1; END;
        CREATE PROCEDURE gives(IN a int, OUT b int, INOUT c varchar(10)) BEGIN SET b = a + 1; SET c = concat(c, '!'); SELECT a; END;
        CREATE PROCEDURE fails() BEGIN SELECT 1; SELECT * FROM nowhere; SELECT 2; END;
        CREATE FUNCTION twice(a int) RETURNS int DETERMINISTIC NO SQL RETURN 2 * a"
    );
    let commands = [
        query("CALL several()"),
        query("CALL silent()"),
        query("CALL several(); SELECT 'behind'; CALL silent(); CALL several()"),
        query("SET @c = 'c'; CALL gives(1, @b, @c); SELECT @b, @c"),
        query("CALL fails()"),
        query("CALL fails(); SELECT 'never'"),
        query("CALL nowhere()"),
        query("SELECT twice(4)"),
        prepare("CALL gives(?, ?, ?)"),
        execute(1, 0, &[Some(b"3"), None, Some(b"see")]),
        prepare("CALL several()"),
        execute(2, 0, &[]),
        query("PREPARE s FROM 'CALL several()'"),
        query("EXECUTE s; SELECT 'behind'"),
    ];
    direct_is_through_for(server, &setup, &commands);
}

fn transaction_status(server: &'static MyServer) {
    let texts = [
        "BEGIN",
        "SELECT 1",
        "SELECT count(*) FROM people",
        "INSERT INTO people VALUES (4, 'Barbara', NULL, NULL)",
        "SAVEPOINT a",
        "INSERT INTO people VALUES (4, 'again', NULL, NULL)",
        "UPDATE people SET height = 2 WHERE id = 4",
        "ROLLBACK TO a",
        "RELEASE SAVEPOINT a",
        "ROLLBACK TO nowhere",
        "COMMIT",
        "COMMIT",
        "ROLLBACK",
        "START TRANSACTION READ ONLY",
        "INSERT INTO people VALUES (6, 'Tony', NULL, NULL)",
        "SELECT * FROM people WHERE id = 1 FOR UPDATE",
        "COMMIT AND CHAIN",
        "ROLLBACK AND NO CHAIN NO RELEASE",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT",
        "BEGIN",
        "INSERT INTO people VALUES (7, 'Niklaus', NULL, NULL)",
        // Commits what came before it.
        "CREATE TABLE more (id int)",
        "ROLLBACK",
        "SELECT count(*) FROM people",
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "BEGIN; SELECT 1; COMMIT; SELECT 2; BEGIN; SELECT 3",
        "ROLLBACK",
        "COMMIT RELEASE",
    ];
    direct_is_through_for(server, PEOPLE, &texts.map(query));
}

fn without_autocommit(server: &'static MyServer) {
    let texts = [
        "SET autocommit = 0",
        "SELECT 1",
        "SELECT count(*) FROM people",
        "INSERT INTO people VALUES (4, 'Barbara', NULL, NULL)",
        "DELETE FROM people WHERE id = 4",
        "COMMIT",
        "UPDATE people SET height = 1.7 WHERE id = 1",
        "ROLLBACK",
        "UPDATE people SET height = 1.8 WHERE id = 1",
        "CREATE TABLE more (id int)",
        "ROLLBACK",
        "SELECT height FROM people WHERE id = 1",
        "SET autocommit = 1",
        "SELECT @@autocommit",
    ];
    direct_is_through_for(server, PEOPLE, &texts.map(query));
}

fn the_session_is_tracked(server: &'static MyServer) {
    let texts = [
        // Not `*`: MySQL counts statements in one of them, across its sessions.
        "SET SESSION session_track_system_variables = 'autocommit,sql_mode,time_zone,character_set_client,sql_safe_updates'",
        "SET SESSION session_track_schema = ON, session_track_state_change = ON",
        "SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",
        "SELECT \"id\", 'it''s \\' FROM people",
        "SET sql_mode = DEFAULT, time_zone = '+02:00'",
        "SET NAMES latin1",
        "SET NAMES utf8mb4 COLLATE utf8mb4_bin",
        "BEGIN",
        "SELECT count(*) FROM people",
        "INSERT INTO people VALUES (4, 'Barbara', NULL, NULL)",
        "COMMIT",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; START TRANSACTION READ ONLY",
        "ROLLBACK",
        "SET autocommit = 0",
        "SET autocommit = 1",
        "CREATE TEMPORARY TABLE t (id int)",
        "SET @a = 1",
        "PREPARE s FROM 'SELECT 1'",
        "USE information_schema",
        "SET SESSION session_track_system_variables = ''",
        "SET time_zone = DEFAULT",
    ];
    let commands = texts.map(query);
    direct_is_through_for(server, PEOPLE, &commands);
    direct_is_through_asking_for(server, PEOPLE, USUAL & !SESSION_TRACK, &commands);
}

fn values_in_text_and_binary(server: &'static MyServer) {
    let typed = "CREATE TABLE typed (a tinyint, b smallint unsigned, c mediumint, d int, e bigint unsigned, f float, g double,
        h decimal(20, 5), i date, j datetime(6), k timestamp NULL, l time(3), m year, n char(5), o varbinary(20), p text, q blob,
        r enum('x', 'y'), s set('a', 'b'), t json, u bit(12));
        INSERT INTO typed VALUES (-1, 65535, -8388608, 7, 18446744073709551615, 1.5, 1e300, 123.45, '2026-01-02',
        '2026-01-02 03:04:05.678901', '2026-01-02 03:04:05', '-800:00:01.5', 2026, 'ä', x'00ff', 'text', x'0001', 'y', 'a,b',
        '{\"a\": [1, null]}', b'101'), (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        NULL, NULL, NULL, NULL, NULL, NULL)";
    let integers = [(LONG, Some(7i32.to_le_bytes().to_vec())), (LONGLONG, Some((-8i64).to_le_bytes().to_vec()))];
    let date = [4, 0xea, 0x07, 1, 2].to_vec();
    let commands = [
        query("SELECT * FROM typed"),
        prepare("SELECT * FROM typed"),
        execute(1, 0, &[]),
        prepare("SELECT ? + 1, ?, ?"),
        execute(2, 0, &[Some(b"41"), Some("ä".as_bytes()), None]),
        // The same without naming the types again.
        about(
            command::STMT_EXECUTE,
            2,
            &[&[0, 1, 0, 0, 0, 0b100, 0][..], &lenenc_string("1"), &lenenc_string("x")].concat(),
        ),
        prepare("SELECT ? * 2, ?, concat('<', ?, '>')"),
        execute_typed(3, 0, &[&integers[..], &[(BLOB, Some(lenenc_string(b"\x00\xff")))]].concat()),
        prepare("SELECT CAST(? AS DATE) + INTERVAL 1 DAY"),
        execute_typed(4, 0, &[(10, Some(date))]),
        prepare("INSERT INTO typed (d, p) VALUES (?, ?)"),
        execute(5, 0, &[Some(b"99"), Some(b"by a prepared statement")]),
        execute(5, 0, &[Some(b"not a number"), Some(b"")]),
        prepare("SELECT d FROM typed WHERE d > ? LIMIT ?"),
        execute_typed(6, 0, &[integers[0].clone(), (LONGLONG, Some(1i64.to_le_bytes().to_vec()))]),
    ];
    direct_is_through_for(server, typed, &commands);
    direct_is_through_asking_for(server, typed, USUAL & !DEPRECATE_EOF, &commands);
}

fn long_data_in_pieces(server: &'static MyServer) {
    let commands = [
        prepare("SELECT length(?), ?, left(?, 10)"),
        long_data(1, 0, &[b'a'; 70_000]),
        long_data(1, 0, &[b'b'; 70_000]),
        long_data(1, 2, b"short"),
        // A value that came before is left out of the message.
        execute_typed(
            1,
            0,
            &[(BLOB, Some(vec![])), (VAR_STRING, Some(lenenc_string("in place"))), (BLOB, Some(vec![]))],
        ),
        long_data(1, 0, b"forgotten"),
        reset(1),
        execute(1, 0, &[Some(b"x"), Some(b"y"), Some(b"z")]),
        // Nothing is answered to it; what follows says what was wrong.
        long_data(1, 9, b"no such parameter"),
        execute(1, 0, &[Some(b"x"), Some(b"y"), Some(b"z")]),
        reset(1),
        execute(1, 0, &[Some(b"x"), Some(b"y"), Some(b"z")]),
        long_data(77, 0, b"no such statement"),
        query("SELECT 1"),
    ];
    direct_is_through_for(server, "", &commands);
}

fn prepared_statements_kept_and_forgotten(server: &'static MyServer) {
    let commands = [
        prepare("SELECT name FROM people WHERE id = ?"),
        prepare("SELEC"),
        prepare("SELECT * FROM nowhere"),
        prepare("SELECT 1; SELECT 2"),
        prepare(""),
        prepare("INSERT INTO people VALUES (?, ?, NULL, NULL)"),
        execute(1, 0, &[Some(b"1")]),
        execute(1, 0, &[Some(b"9")]),
        reset(1),
        execute(1, 0, &[Some(b"2")]),
        execute(4711, 0, &[]),
        reset(4711),
        fetch(4711, 1),
        close(4711),
        query("PREPARE by_id FROM 'SELECT name FROM people WHERE id = ?'"),
        query("SET @id = 3"),
        query("EXECUTE by_id USING @id"),
        query("SET @text = 'SELECT count(*) FROM people'"),
        query("PREPARE counted FROM @text"),
        query("EXECUTE counted"),
        query("DEALLOCATE PREPARE by_id"),
        query("EXECUTE by_id USING @id"),
        query("EXECUTE IMMEDIATE 'SELECT 5'"),
        // The table is altered under a statement that reads it.
        query("ALTER TABLE people ADD COLUMN email text"),
        prepare("SELECT * FROM people WHERE id = 1"),
        query("ALTER TABLE people ADD COLUMN phone text"),
        close(1),
        execute(1, 0, &[Some(b"1")]),
        body(command::RESET_CONNECTION, &[]),
        execute(2, 0, &[Some(b"50"), Some(b"x")]),
        query("EXECUTE counted"),
        prepare("SELECT 1"),
    ];
    direct_is_through_for(server, PEOPLE, &commands);
}

fn cursors(server: &'static MyServer) {
    let setup = "CREATE TABLE n (n int PRIMARY KEY);
        INSERT INTO n WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 100) SELECT n FROM r";
    let commands = [
        prepare("SELECT n, repeat('x', n) FROM n WHERE n < ? ORDER BY n"),
        execute(1, 1, &[Some(b"10")]),
        fetch(1, 4),
        fetch(1, 4),
        query("SELECT 'in between'"),
        fetch(1, 4),
        fetch(1, 4),
        execute(1, 1, &[Some(b"100")]),
        fetch(1, 1),
        reset(1),
        fetch(1, 1),
        execute(1, 1, &[Some(b"-1")]),
        fetch(1, 1),
        execute(1, 1, &[Some(b"50")]),
        close(1),
        fetch(1, 1),
        prepare("SELECT 1"),
        execute(2, 1, &[]),
        fetch(2, 10),
        // Not executed once more without a cursor: MySQL 9.7 then forgets to say where the rows end, and every client hangs.
    ];
    direct_is_through_for(server, setup, &commands);
    direct_is_through_asking_for(server, setup, USUAL & !DEPRECATE_EOF, &commands);
}

/// Clients do not wait for a close, for it is not answered, and some wait for nothing.
fn a_pipeline(server: &'static MyServer) {
    direct_is_through(server, PEOPLE, |place| {
        let mut wire = place.connect();
        let first = wire.prepare("SELECT name FROM people WHERE id = ?");
        let second = wire.prepare("SELECT 2");
        let commands = [
            close(second),
            query("SELECT 'behind a close'"),
            long_data(first, 0, b"3"),
            execute_typed(first, 0, &[(BLOB, Some(vec![]))]),
            body(command::PING, &[]),
            close(first),
            prepare("SELECT 3"),
            query("SELECT 1; SELECT 2"),
            query("SELEC"),
            body(command::PING, &[]),
        ];
        let mut commands = commands.to_vec();
        if server.is_mariadb() {
            // Its connectors run a statement before they know its id.
            commands.extend([prepare("SELECT ? + 1"), execute(u32::MAX, 0, &[Some(b"6")]), close(u32::MAX)]);
        }
        let together: Vec<u8> = commands.iter().flat_map(|body| packet::framed(0, body)).collect();
        wire.send(&together);
        for command in &commands {
            wire.answer_to(command[0]);
        }
        place.keep("client", wire);
    });
}

fn simple_commands(server: &'static MyServer) {
    direct_is_through(server, PEOPLE, |place| {
        let name = place.database.name.clone();
        for capabilities in [USUAL, USUAL & !DEPRECATE_EOF] {
            let mut wire = place.connect_asking_for(capabilities);
            let commands = [
                body(command::PING, &[]),
                body(command::INIT_DB, b"information_schema"),
                query("SELECT database()"),
                body(command::INIT_DB, b"nowhere"),
                body(command::INIT_DB, name.as_bytes()),
                query("SELECT database()"),
                query("USE information_schema"),
                body(command::INIT_DB, name.as_bytes()),
                body(command::FIELD_LIST, b"people\0"),
                body(command::FIELD_LIST, b"people\0na%"),
                body(command::FIELD_LIST, b"nowhere\0"),
                query("SET @a = 1, sql_mode = 'ANSI_QUOTES'; CREATE TEMPORARY TABLE t (id int); BEGIN"),
                body(command::RESET_CONNECTION, &[]),
                query("SELECT @a, @@sql_mode, database()"),
                query("SELECT * FROM t"),
                body(command::PING, &[]),
            ];
            for command in &commands {
                wire.command(command);
            }
            // Figures that move by themselves.
            wire.command(&body(command::STATISTICS, &[]));
            let said = wire.heard.last_mut().expect("an answer");
            said.body.retain(|byte| !byte.is_ascii_digit());
            wire.start(&body(command::QUIT, &[]));
            assert!(wire.is_closed(), "a client that quits is let go");
            place.keep("client", wire);
        }
    });
}

fn another_user(server: &'static MyServer) {
    // With TLS on one leg alone, the key under which a password is sent would be Sluice's own.
    compare(
        server,
        PEOPLE,
        |setup| setup.listener("upstream_tls = \"disable\""),
        |place| {
            let database = place.database.name.clone();
            for plugin in [server.either("mysql_native_password", "caching_sha2_password"), "mysql_native_password"] {
                let mut wire = place.connect();
                wire.query("SET @a = 1; CREATE TEMPORARY TABLE t (id int); BEGIN");
                let changed = wire.change_user(&Login::of(OTHER).on(&database), plugin);
                assert!(changed.is_ok(), "{changed:?}");
                wire.query("SELECT substring_index(user(), '@', 1), @a, database()");
                wire.query("SELECT * FROM t");
                let changed = wire.change_user(&Login::of(OTHER), plugin);
                assert!(changed.is_ok(), "{changed:?}");
                wire.query("SELECT database()");
                let refused = wire.change_user(&Login::of(BY_PASSWORD).with_password("wrong"), plugin);
                assert!(refused.is_err(), "{refused:?}");
                // MySQL lets go then; on MariaDB one is who one was before.
                let _closed_already =
                    wire.try_send(&packet::framed(0, &query("SELECT substring_index(user(), '@', 1)")));
                let _closed_already = wire.try_send(&packet::framed(0, &body(command::QUIT, &[])));
                while wire.receive().is_some() {}
                place.keep("client", wire);
            }
            let mut wire = place.connect();
            let changed = wire
                .change_user(&Login::of(BY_PASSWORD).on(&database).with_password(PASSWORD), "mysql_native_password");
            assert!(changed.is_ok(), "{changed:?}");
            // Whether MySQL remembers the password is no matter of this connection.
            wire.heard.clear();
            wire.query("SELECT substring_index(user(), '@', 1), database()");
            place.keep("with a password", wire);
        },
    );
}

/// Everything again for a client that knows EOF packets and little more.
fn clients_of_old(server: &'static MyServer) {
    let old = packet::PROTOCOL_41 | packet::SECURE_CONNECTION | packet::LONG_PASSWORD | packet::PLUGIN_AUTH;
    let commands = [
        query("SELECT * FROM people ORDER BY id"),
        query("SELECT * FROM people WHERE false"),
        query("SELECT * FROM nowhere"),
        query("INSERT INTO people VALUES (4, 'Barbara', NULL, NULL)"),
        query("SELECT 1; SELECT 2"),
        query("UPDATE people SET height = 2 WHERE id = 4"),
        query("BEGIN"),
        query("DELETE FROM people WHERE id = 4"),
        query("COMMIT"),
        prepare("SELECT id, name FROM people WHERE id > ? ORDER BY id"),
        execute(1, 0, &[Some(b"1")]),
        body(command::FIELD_LIST, b"people\0"),
        body(command::PING, &[]),
    ];
    direct_is_through_asking_for(server, PEOPLE, old, &commands);
    direct_is_through_asking_for(server, PEOPLE, old | packet::FOUND_ROWS | packet::TRANSACTIONS, &commands);
}

fn attributes_of_a_query(server: &'static MyServer) {
    let with = |attributes: &[(&str, &str)], sql: &str| {
        let mut rest = [lenenc(attributes.len() as u64), lenenc(1)].concat();
        if !attributes.is_empty() {
            rest.extend(vec![0; attributes.len().div_ceil(8)]);
            rest.push(1);
            for (name, _) in attributes {
                rest.extend(VAR_STRING.to_le_bytes());
                rest.extend(lenenc_string(name));
            }
            rest.extend(attributes.iter().flat_map(|(_, value)| lenenc_string(value)));
        }
        body(command::QUERY, &[rest, sql.as_bytes().to_vec()].concat())
    };
    // With the flag that says that a count of parameters follows; each then has a name.
    let executed =
        [&[8, 1, 0, 0, 0, 2, 0, 1][..], &[253, 0, 0, 253, 0, 5], b"trace", &[1, b'7', 2, b'i', b'd']].concat();
    let commands = [
        with(&[], "SELECT 1"),
        with(&[("trace", "7"), ("comment", "; DROP TABLE people; --")], "SELECT count(*) FROM people"),
        with(&[("", "")], "SELECT 1; SELECT 2"),
        with(&[("a", "1")], "SELEC"),
        prepare("SELECT ?"),
        about(command::STMT_EXECUTE, 1, &executed),
        with(&[], "SELECT 'goes on'"),
    ];
    // A value of any kind that is written as a text is.
    let of_kind = |kind: u16| {
        let rest =
            [&lenenc(1)[..], &lenenc(1), &[0, 1], &kind.to_le_bytes(), &lenenc_string("a"), &lenenc_string("1.5")];
        body(command::QUERY, &[&rest.concat()[..], b"SELECT 'behind it'"].concat())
    };
    let kinds = [0, 16, 242].into_iter().chain(245..=255).map(of_kind);
    let commands: Vec<_> = commands.into_iter().chain(kinds).collect();
    if server.is_mariadb() {
        // It does not offer them, and reads what it is sent as SQL.
        return direct_is_through_asking_for(server, PEOPLE, USUAL | QUERY_ATTRIBUTES, &[query("SELECT 1")]);
    }
    direct_is_through_asking_for(server, PEOPLE, USUAL | QUERY_ATTRIBUTES, &commands);
}

fn mariadb_metadata(server: &'static MyServer) {
    let setup = "CREATE TABLE t (id int PRIMARY KEY, j json, p point, v varchar(10));
        INSERT INTO t VALUES (1, '[1]', ST_GeomFromText('POINT(1 2)'), 'x')";
    let commands = [
        query("SELECT * FROM t"),
        query("SELECT id, JSON_EXTRACT(j, '$[0]'), ST_AsText(p) FROM t"),
        prepare("SELECT * FROM t WHERE id = ?"),
        // The second time without the columns, which have not changed.
        execute(1, 0, &[Some(b"1")]),
        execute(1, 0, &[Some(b"1")]),
        query("ALTER TABLE t ADD COLUMN w int"),
        execute(1, 0, &[Some(b"1")]),
        execute(1, 0, &[Some(b"1")]),
        execute(1, 1, &[Some(b"1")]),
        fetch(1, 1),
        body(command::FIELD_LIST, b"t\0"),
    ];
    for capabilities in [MARIADB, MARIADB & !DEPRECATE_EOF] {
        direct_is_through_asking_for(server, setup, capabilities, &commands);
    }
}

/// Of what only adds. (What changes or deletes is the gate's.)
fn mariadb_bulk(server: &'static MyServer) {
    if !server.is_mariadb() {
        return;
    }
    let bulk = |statement: u32, flags: u16, rows: &[&[Option<&str>]]| {
        let mut rest = flags.to_le_bytes().to_vec();
        if flags & 128 != 0 {
            rest.extend(rows[0].iter().flat_map(|_| VAR_STRING.to_le_bytes()));
        }
        for value in rows.iter().flat_map(|row| row.iter()) {
            match value {
                Some("DEFAULT") => rest.push(2),
                Some(value) => rest.extend([vec![0], lenenc_string(value)].concat()),
                None => rest.push(1),
            }
        }
        about(command::STMT_BULK_EXECUTE, statement, &rest)
    };
    let setup = "CREATE TABLE b (id int AUTO_INCREMENT PRIMARY KEY, a varchar(20), n int DEFAULT 7)";
    let commands = [
        prepare("INSERT INTO b (a, n) VALUES (?, ?)"),
        bulk(1, 128, &[&[Some("one"), Some("1")], &[Some("two"), None], &[None, Some("DEFAULT")]]),
        bulk(1, 0, &[&[Some("three"), Some("3")]]),
        query("SELECT * FROM b ORDER BY id"),
        bulk(1, 128, &[&[Some("four"), Some("4")], &[Some("five"), Some("not a number")]]),
        bulk(77, 128, &[&[Some("x")]]),
        query("SELECT * FROM b ORDER BY id"),
    ];
    direct_is_through_asking_for(server, setup, MARIADB, &commands);
}

/// How many reports come depends on time; that they come does not, and all that is not a report is the same.
fn mariadb_progress(server: &'static MyServer) {
    if !server.is_mariadb() {
        return;
    }
    direct_is_through(server, PEOPLE, |place| {
        let mut wire = place.connect_asking_for(MARIADB);
        wire.query("SET progress_report_time = 1");
        wire.query("INSERT INTO people SELECT id + 10, concat(name, '2'), NULL, NULL FROM people").expect_fine("six");
        let slow =
            "ALTER TABLE people ADD COLUMN slow char(32) AS (md5(repeat(name, 15000000))) PERSISTENT, ALGORITHM = COPY";
        wire.query(slow).expect_fine(slow);
        let is_report = |packet: &packet::Packet| packet.body.starts_with(&[0xff, 0xff, 0xff]);
        assert!(wire.heard.iter().any(is_report), "no progress was reported");
        wire.heard.retain(|packet| !is_report(packet));
        wire.heard.iter_mut().for_each(|packet| packet.sequence = 0);
        place.keep("client", wire);
    });
}

fn local_infile(server: &'static MyServer) {
    direct_is_through(server, PEOPLE, |place| {
        let mut wire = place.connect();
        let mut load = |sql: &str, file: &str| {
            wire.file = file.as_bytes().to_vec();
            wire.query(sql);
        };
        let into = "LOAD DATA LOCAL INFILE '/the/client/knows.csv' INTO TABLE people FIELDS TERMINATED BY ','";
        load(into, "10,Ten,2001-01-01,1.1\n11,Eleven,\\N,\\N\n");
        load("SHOW WARNINGS", "");
        load(into, "10,Ten again,\\N,\\N\n12,Twelve,a date,\\N\n13\n");
        load("SHOW WARNINGS", "");
        load(into, "");
        load(into, "14,'; DROP TABLE people; --,\\N,\\N\n");
        load(&format!("{into} IGNORE 1 LINES (id, name) SET height = 1"), "id,name\n15,Fifteen\n");
        load("LOAD DATA LOCAL INFILE 'x' INTO TABLE nowhere", "not asked for");
        load("LOAD DATA LOCAL INFILE 'x' INTO TABLE people (nothing)", "not asked for");
        load(&format!("SELECT 1; {into}; SELECT 2"), "16,Sixteen,\\N,\\N\n");
        load("SELECT * FROM people ORDER BY id", "");
        place.keep("client", wire);
    });
}

fn texts_over_16_mb(server: &'static MyServer) {
    let sized = |whole: usize| {
        let (start, end) = ("SELECT length('", "')");
        query(&format!("{start}{}{end}", "x".repeat(whole - 1 - start.len() - end.len())))
    };
    let commands = [
        // The last that is one packet, the first that is two, of which one is empty, and so on.
        sized(packet::PACKET_MAX - 1),
        sized(packet::PACKET_MAX),
        sized(packet::PACKET_MAX + 1),
        sized(2 * packet::PACKET_MAX),
        query("SELECT 'goes on'"),
        prepare("SELECT length(?)"),
        long_data(1, 0, &vec![b'y'; 20 << 20]),
        execute_typed(1, 0, &[(BLOB, Some(vec![]))]),
        execute(1, 0, &[Some(&vec![b'z'; 17 << 20])]),
        query("SELECT 'goes on'"),
    ];
    direct_is_through_for(server, "", &commands);
}

fn rows_over_16_mb(server: &'static MyServer) {
    let commands = [
        query("SELECT repeat('x', 16777210)"),
        query("SELECT repeat('x', 16777211), 1; SELECT repeat('x', 16777212), 2"),
        query("SELECT repeat('y', 20000000), 'behind' UNION ALL SELECT 'short', 'row'"),
        prepare("SELECT repeat('z', 33554432)"),
        execute(1, 0, &[]),
        query("SELECT 'goes on'"),
    ];
    direct_is_through_for(server, "", &commands);
}

fn character_sets(server: &'static MyServer) {
    let raw = |bytes: &[u8]| body(command::QUERY, bytes);
    let commands = [
        query("SET NAMES latin1"),
        raw(b"SELECT '\xe4', hex('\xe4')"),
        query("SET NAMES utf8mb4"),
        query("SELECT 'ä', hex('ä'), _latin1 x'e4', _utf8mb4'ö' COLLATE utf8mb4_bin"),
        query("SET character_set_results = NULL"),
        query("SELECT _latin1 x'e4'"),
        query("SET character_set_client = utf16"),
        query("SELECT 'goes on'"),
    ];
    direct_is_through_for(server, "", &commands);
}

/// What could be read in more than one way is asked about, though it only reads: the server is not asked what it makes of it.
fn texts_that_cannot_be_read(server: &'static MyServer) {
    let database = server.database("");
    let sluice = crate::harness::sluice::Setup::before_mysql(server).start();
    let mut wire = sluice.my_connect(&database);
    for (names, text) in [
        ("gbk", &b"SELECT hex('\xbf\x5c')"[..]),
        ("sjis", b"SELECT hex('\x95\x5c')"),
        ("latin1", b"SELECT 1 AS x\xa0INTO @y"),
        ("utf8mb4", b"SELECT 1\0"),
    ] {
        wire.query(&format!("SET NAMES {names}")).expect_fine(names);
        let outcome = wire.command(&body(command::QUERY, text));
        assert_eq!(outcome.code(), 50001, "{names}: {outcome:?}");
    }
    // What no character is in UTF-8 hides nothing from either server (sql::encoding: measured).
    wire.query("SET NAMES utf8mb4").expect_fine("a character set");
    wire.command(&body(command::QUERY, b"SELECT hex('\xff\xfe')")).expect_fine("bytes that are no character");
}

fn odd_texts(server: &'static MyServer) {
    let long = format!("SELECT {}", vec!["1"; 5_000].join("+"));
    let many = "SELECT 1;".repeat(500);
    let nested = format!("SELECT {}1{}", "(".repeat(200), ")".repeat(200));
    let wide = format!("SELECT '{}'", "ä".repeat(100_000));
    let commands = [
        query(&long),
        query(&many),
        query(&nested),
        query(&wide),
        query("SELECT 'a;b', \"c;d\", `id` FROM people -- ; not the end\n; SELECT 2 # ;\n; SELECT 3 /* ; */"),
        query("SELECT 1--1"),
        query("SELECT 1 -- 1"),
        query("SELECT 5 --\n+ 1"),
        query("SELECT 'it''s', 'it\\'s', \"say \"\"x\"\"\", 'a\\\nb', '%\\%'"),
        query("SELECT 'a' 'b' \"c\", N'n', _utf8mb4'u', x'41', 0x42, b'1', 0b1"),
        query("SELECT /*!40101 1 + */ 1, /*!999999 'no', */ 2 /*M! , 3 */ /*M!100000 , 4 */"),
        query("SELECT 1 /* /*! nested */ , 2"),
        query("SELECT 1 /* unclosed"),
        query("\u{feff}SELECT 1"),
        query("SELECT\u{a0}1"),
        query("DELIMITER //"),
        query("SELECT @@global.sql_mode = @@sql_mode, @`a b`, @'c', @\"d\""),
        query("SELECT 1e5, .5, 1., 1.e2, 0x, 1a"),
        query("SELECT people.id, people .id, people. id FROM people ORDER BY 1 LIMIT 1"),
        query("SELECT count (*) FROM people"),
        query("SELECT 1 OR 0 || 1, 1 && 0, NOT 1, ! 1, 5 DIV 2, 5 MOD 2, 1 <=> NULL, 7 XOR 7"),
        query("SET sql_mode = 'PIPES_AS_CONCAT,ANSI_QUOTES'"),
        query("SELECT 'a' || 'b', \"id\" FROM people LIMIT 1"),
        query("SET sql_mode = 'NO_BACKSLASH_ESCAPES'"),
        query("SELECT 'a\\'; SELECT 'b'"),
    ];
    direct_is_through_for(server, PEOPLE, &commands);
}

fn small_changes(server: &'static MyServer) {
    let texts = [
        "INSERT INTO people WITH RECURSIVE r AS (SELECT 100 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 150) \
         SELECT n, concat('p', n), NULL, NULL FROM r",
        "UPDATE people SET height = 1 WHERE id = 100",
        "UPDATE people SET height = 1 WHERE id = 100",
        "UPDATE people SET height = 2 WHERE id BETWEEN 100 AND 150",
        "SELECT ROW_COUNT()",
        "DELETE FROM people WHERE id > 145",
        "SELECT ROW_COUNT()",
        "INSERT IGNORE INTO people VALUES (1, 'Ada', NULL, NULL)",
        "INSERT INTO people VALUES (1, 'Ada', NULL, 1.6) ON DUPLICATE KEY UPDATE height = VALUES(height)",
        "REPLACE INTO people VALUES (1, 'Ada', NULL, 1.6)",
        "DELETE FROM people WHERE id = 424242",
        "DELETE FROM people WHERE id IN (101, 102) ORDER BY id LIMIT 1",
        "UPDATE people AS p JOIN people AS q ON q.id = p.id SET p.height = 1.5 WHERE q.id = 103",
        "DELETE p FROM people AS p JOIN people AS q ON q.id = p.id WHERE q.id = 103",
        "INSERT INTO people VALUES (200, 'x', NULL, NULL) RETURNING id, name",
        "SELECT count(*), sum(height) FROM people",
        "SELECT * FROM people WHERE id = 1 FOR UPDATE",
        "CREATE TABLE counted (id int AUTO_INCREMENT PRIMARY KEY, v int) ENGINE = InnoDB",
        "INSERT INTO counted (v) VALUES (1), (2), (3)",
        "SELECT LAST_INSERT_ID()",
        "UPDATE counted SET v = LAST_INSERT_ID(v + 10) WHERE id = 2",
        "SELECT LAST_INSERT_ID(), ROW_COUNT()",
        "CREATE INDEX by_v ON counted (v)",
        "ALTER TABLE people ADD COLUMN email varchar(100)",
        "ANALYZE TABLE counted",
        "CHECK TABLE counted",
        "SELECT SQL_CALC_FOUND_ROWS id FROM people ORDER BY id LIMIT 2",
        "SELECT FOUND_ROWS()",
    ];
    direct_is_through_for(server, PEOPLE, &texts.map(query));
}

fn many_rows(server: &'static MyServer) {
    let rows = |count: u32, what: &str| {
        query(&format!(
            "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < {count}) SELECT n, {what} FROM r"
        ))
    };
    let commands = [
        query(server.either("SET max_recursive_iterations = 1000000", "SET cte_max_recursion_depth = 1000000")),
        rows(30_000, "repeat('x', n % 200)"),
        query("SELECT repeat('y', 5000000)"),
        rows(2_000, "repeat('z', n)"),
    ];
    direct_is_through_for(server, "", &commands);
}

fn locks_and_handlers(server: &'static MyServer) {
    let texts = [
        "LOCK TABLES people READ",
        "INSERT INTO people VALUES (8, 'Eight', NULL, NULL)",
        "SELECT count(*) FROM people",
        "UNLOCK TABLES",
        "LOCK TABLES people WRITE",
        "INSERT INTO people VALUES (8, 'Eight', NULL, NULL)",
        "UNLOCK TABLES",
        "HANDLER people OPEN",
        "HANDLER people READ FIRST",
        "HANDLER people READ `PRIMARY` = (2)",
        "HANDLER people READ NEXT LIMIT 2",
        "HANDLER people CLOSE",
        "HANDLER people READ FIRST",
        "SELECT GET_LOCK(database(), 1), IS_FREE_LOCK(database())",
        "SELECT RELEASE_LOCK(database())",
        "FLUSH TABLES people",
        "OPTIMIZE TABLE people",
    ];
    direct_is_through_for(server, PEOPLE, &texts.map(query));
}

fn two_phase_commit(server: &'static MyServer) {
    // Prepared transactions share one name space in the server: the name is used up before it is used again.
    direct_is_through(server, PEOPLE, |place| {
        let name = place.database.name.clone();
        let mut wire = place.login(&Login::of(TRUSTED));
        for sql in [
            "XA START 'X'",
            "INSERT INTO people VALUES (50, 'later', NULL, NULL)",
            "XA END 'X'",
            "XA PREPARE 'X'",
            "XA COMMIT 'X'",
            "SELECT count(*) FROM people",
            "XA ROLLBACK 'nobody'",
            "XA START 'X'",
            "COMMIT",
            "XA END 'X'",
            "XA COMMIT 'X' ONE PHASE",
        ] {
            wire.query(&sql.replace('X', &name).replace(&format!("{name}A"), "XA"));
        }
        place.keep("client", wire);
    });
}

/// Fifty megabytes pass through without being kept, and arrive whole.
fn a_large_file(server: &'static MyServer) {
    let database = server.database("CREATE TABLE big (id int PRIMARY KEY, v varchar(1100))");
    let sluice = crate::harness::sluice::Setup::before_mysql(server).start();
    let mut wire = sluice.my_connect(&database);
    wire.query("SELECT 1").expect_fine("warm");
    let before = sluice.memory_now();
    wire.file = (0..50_000).flat_map(|id| format!("{id}\t{:01$}\n", id, 1_050).into_bytes()).collect();
    assert!(wire.file.len() > 50 << 20);
    let outcome = wire.query("LOAD DATA LOCAL INFILE 'big' INTO TABLE big");
    assert_eq!(outcome.end().affected, 50_000, "{outcome:?}");
    let grown = sluice.most_memory().saturating_sub(before);
    assert!(grown < 8 << 20, "the file is streamed: {grown} bytes more");
    assert_eq!(
        database.value("SELECT concat(count(*), ' ', sum(length(v)), ' ', sum(v)) FROM big"),
        "50000 52500000 1249975000"
    );
}
