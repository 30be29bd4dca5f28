//! The gate: for each rule the refusal, the confirmation, the effect, and the line in the record.

use crate::harness::mysql::my_stories;
use crate::harness::mysql::packet::{self, about, body, command, execute, execute_typed, long_data, query};
use crate::harness::mysql::server::{BLIND, MyDatabase, MyServer, OTHER, ROOT};
use crate::harness::mysql::shop::{EVENTS, Refused, shop, shop_with};
use crate::harness::mysql::wire::{MyWire, Outcome};
use crate::harness::sluice::Sluice;

my_stories! {
    each_rule_asks_and_then_runs, each_rule_asks_by_prepared_statements, what_is_denied_stays_denied,
    a_preview_shows_what_it_would_do, ordinary_work_passes_unasked, changes_hidden_in_other_statements,
    a_stated_higher_limit, parameters_decide, bulk_execution_is_judged, values_ahead_of_a_refusal, temporary_tables_are_ones_own,
    the_questions_leave_no_trace, a_free_change_that_grew_is_rolled_back, a_change_that_was_said_to_be_one_row,
    observe_mode_refuses_nothing, off_is_off, scopes_decide_for_whom, names_are_resolved_as_the_server_does,
    characters_that_hide_a_quote, a_character_set_of_ones_own, modes_that_move_a_quote, without_autocommit, what_commits_by_itself,
    tables_without_transactions, joins_and_orders, cascades_that_exceed, a_replacement_is_held_to_what_was_shown, parents_and_children_in_one_delete, a_freeze_stops_every_change,
    a_script_runs_once, commands_answer_with_rows, a_token_is_its_owners, without_the_process_privilege,
    prepared_by_sql, texts_of_many_statements,
    a_transaction_described_beforehand, prepared_in_another_database,
}

struct Case {
    rule: &'static str,
    statement: &'static str,
    /// Asked before and after, straight from the server.
    probe: &'static str,
    after: &'static str,
    affected: u64,
}

const CASES: &[Case] = &[
    Case {
        rule: "missing-where",
        statement: "DELETE FROM logs",
        probe: "SELECT count(*) FROM logs",
        after: "0",
        affected: 500,
    },
    Case {
        rule: "missing-where",
        statement: "UPDATE logs SET line = 'x'",
        probe: "SELECT count(*) FROM logs WHERE line = 'x'",
        after: "500",
        affected: 500,
    },
    Case {
        rule: "always-true-where",
        statement: "UPDATE logs SET line = 'x' WHERE id = id",
        probe: "SELECT count(*) FROM logs WHERE line = 'x'",
        after: "500",
        affected: 500,
    },
    Case {
        rule: "unbatched-change",
        statement: "UPDATE carts SET note = 'n' WHERE status = 'abandoned'",
        probe: "SELECT count(*) FROM carts WHERE note = 'n'",
        after: "2000",
        affected: 2000,
    },
    Case {
        rule: "cascade",
        statement: "DELETE FROM carts WHERE id <= 60",
        probe: "SELECT concat(count(*), ' ', (SELECT count(*) FROM cart_items), ' ', (SELECT count(*) FROM item_notes)) FROM carts",
        after: "4940 9880 80",
        affected: 60,
    },
    Case { rule: "truncate", statement: "TRUNCATE logs", probe: "SELECT count(*) FROM logs", after: "0", affected: 0 },
    Case {
        rule: "drop-data",
        statement: "DROP TABLE logs",
        probe: "SELECT count(*) FROM information_schema.tables WHERE table_schema = database() AND table_name = 'logs'",
        after: "0",
        affected: 0,
    },
    Case {
        rule: "drop-data",
        statement: "ALTER TABLE logs DROP COLUMN line",
        probe: "SELECT count(*) FROM information_schema.columns WHERE table_schema = database() AND table_name = 'logs'",
        after: "2",
        affected: 0,
    },
    Case {
        rule: "mass-overwrite",
        statement: "INSERT INTO logs (id, kind) SELECT id, 'new' FROM carts WHERE id <= 400
            ON DUPLICATE KEY UPDATE kind = VALUES(kind)",
        probe: "SELECT count(*) FROM logs WHERE kind = 'new'",
        after: "400",
        affected: 800,
    },
    Case {
        rule: "mass-overwrite",
        statement: "REPLACE INTO logs SELECT id, 'new', NULL FROM carts WHERE id <= 400",
        probe: "SELECT count(*) FROM logs WHERE kind = 'new'",
        after: "400",
        affected: 800,
    },
    Case {
        rule: "key-change",
        statement: "UPDATE logs SET id = id + 10000 WHERE id <= 200",
        probe: "SELECT count(*) FROM logs WHERE id > 10000",
        after: "200",
        affected: 200,
    },
    Case {
        rule: "privilege-change",
        statement: "GRANT SELECT ON logs TO other",
        probe: "SELECT count(*) FROM information_schema.table_privileges WHERE table_schema = database() AND grantee LIKE '%other%'",
        after: "1",
        affected: 0,
    },
    Case {
        rule: "drop-guard",
        statement: "ALTER TABLE cart_items DROP FOREIGN KEY of_cart",
        probe: "SELECT count(*) FROM information_schema.referential_constraints WHERE constraint_schema = database()",
        after: "1",
        affected: 0,
    },
    Case {
        rule: "not-rerunnable",
        statement: "UPDATE carts SET note = concat(coalesce(note, ''), 'x') WHERE id = 7 /* sluice: script=notes */",
        probe: "SELECT coalesce(note, '') FROM carts WHERE id = 7",
        after: "x",
        affected: 1,
    },
    Case {
        rule: "unknown-effect",
        statement: "CALL purging()",
        probe: "SELECT count(*) FROM logs",
        after: "0",
        affected: 500,
    },
];

const PURGING: &str = "CREATE PROCEDURE purging() DELETE FROM logs";

fn each_rule_asks_and_then_runs(server: &'static MyServer) {
    each_rule(server, |wire, statement| wire.query(statement));
}

fn each_rule_asks_by_prepared_statements(server: &'static MyServer) {
    each_rule(server, |wire, statement| {
        // Asks as the text protocol would: neither server prepares what only Sluice knows.
        if statement.starts_with("SLUICE") { wire.query(statement) } else { wire.prepared(statement, &[]) }
    });
}

fn each_rule(server: &'static MyServer, send: impl Fn(&mut MyWire, &str) -> Outcome) {
    let sluice_of = |database: &MyDatabase| {
        database.run(PURGING);
        crate::harness::sluice::Setup::before_mysql(server).start()
    };
    let database = server.database("");
    for case in CASES {
        database.renew(crate::harness::mysql::shop::SHOP);
        let sluice = sluice_of(&database);
        let mut wire = sluice.my_connect(&database);
        let before = database.value(case.probe);
        assert_ne!(before, case.after, "{}: the probe shows no difference", case.statement);
        let outcome = send(&mut wire, case.statement);
        let refused = Refused::of(&mut wire, &outcome);
        assert_eq!(refused.code, 50001, "{}: {refused:?}", case.statement);
        assert!(refused.names_rule(case.rule), "{}: {refused:?}", case.rule);
        assert_eq!(database.value(case.probe), before, "{} was refused and yet did something", case.statement);
        let confirmed = send(&mut wire, &refused.confirm());
        confirmed.expect_fine(case.statement);
        assert_eq!(confirmed.end().affected, case.affected, "{}", case.statement);
        assert_eq!(database.value(case.probe), case.after, "{}", case.statement);
        assert_recorded(&sluice, case.rule);
    }
}

/// A refusal that names the rule; then a line that permits, before the outcome that belongs to it; an unbroken chain.
fn assert_recorded(sluice: &Sluice, rule: &str) {
    let record = sluice.record();
    let named = |line: &serde_json::Value| {
        line["rules"].as_array().is_some_and(|rules| rules.iter().any(|one| one["rule"] == rule))
    };
    let refusal = record.iter().position(|line| line["kind"] == "refusal" && named(line));
    let refusal = refusal.unwrap_or_else(|| panic!("no refusal for {rule} in the record: {record:#?}"));
    assert_eq!(record[refusal]["sqlstate"], "SL001");
    let permit = record.iter().position(|line| line["kind"] == "statement" && line["action"] == "confirmed");
    let permit = permit.unwrap_or_else(|| panic!("no confirmed statement in the record: {record:#?}"));
    let outcome = record.iter().position(|line| line["kind"] == "outcome" && line["of"] == record[permit]["seq"]);
    let outcome = outcome.unwrap_or_else(|| panic!("no outcome in the record: {record:#?}"));
    assert!(refusal < permit && permit < outcome, "recorded before it is forwarded, and after it was done");
    assert_eq!(record[permit]["challenge"], record[refusal]["challenge"], "the two belong together");
    let verified = sluice.verify_record();
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

fn what_is_denied_stays_denied(server: &'static MyServer) {
    let (database, sluice) = shop(server);
    database.run(EVENTS);
    let mut wire = sluice.my_connect_as(ROOT, &database);
    for (rule, statement) in [
        ("too-many-rows", "DELETE FROM events WHERE kind = 'click'"),
        ("too-many-rows", "UPDATE events SET kind = 'x'"),
        ("guard-off", "SET foreign_key_checks = 0"),
        ("guard-off", "SET SESSION unique_checks = OFF"),
        ("guard-off", "SET sql_log_bin = 0"),
        ("guard-off", "SET @@session.foreign_key_checks = false"),
        ("outside-effects", "SELECT * FROM logs INTO OUTFILE '/tmp/sluice-test-logs'"),
        ("outside-effects", "SELECT 'x' INTO DUMPFILE '/tmp/sluice-test-logs'"),
        ("outside-effects", "SELECT LOAD_FILE('/etc/hostname')"),
        ("outside-effects", "SELECT load_file (concat('/etc/', 'hostname'))"),
    ] {
        for prepared in [false, true] {
            let outcome = if prepared { wire.prepared(statement, &[]) } else { wire.query(statement) };
            assert!(outcome.error().is_some(), "{statement} passed");
            let refused = Refused::of(&mut wire, &outcome);
            assert!(refused.code == 50003 && refused.names_rule(rule), "{statement}: {refused:?}");
            assert!(!refused.says("SLUICE CONFIRM"), "{refused:?}");
            assert_eq!(wire.query("SELECT @@foreign_key_checks").value(), "1");
        }
    }
    assert_eq!(database.value("SELECT count(*) FROM events WHERE kind = 'click'"), "60000");
}

fn a_preview_shows_what_it_would_do(server: &'static MyServer) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.my_connect(&database);
    let refused = Refused::to_confirm(&mut wire, "DELETE FROM carts WHERE status = 'abandoned'");
    assert!(refused.message.contains("delete 2,000") && refused.message.contains("carts"), "{refused:?}");
    assert!(refused.says("4,200 rows more by cascade"), "4,000 items and 200 notes: {refused:?}");
    for part in ["cart_items", "4,000", "of_cart", "item_notes", "200", "first 10 rows", "abandoned", "10 min", "once"]
    {
        assert!(refused.says(part), "no {part} in {}", refused.detail);
    }
    let refused = Refused::to_confirm(&mut wire, "UPDATE logs SET line = 'after'");
    assert!(refused.says("after") && refused.says("line 1"), "before → after: {}", refused.detail);
    database.run("CREATE TABLE audit (n int); CREATE TRIGGER logs_audit AFTER DELETE ON logs FOR EACH ROW INSERT INTO audit VALUES (OLD.id)");
    let refused = Refused::to_confirm(&mut wire, "DELETE FROM logs");
    assert!(refused.says("logs_audit"), "a trigger is named: {}", refused.detail);
}

fn ordinary_work_passes_unasked(server: &'static MyServer) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.my_connect(&database);
    for (statement, affected) in [
        ("DELETE FROM logs WHERE id = 1", 1),
        ("DELETE FROM logs WHERE id BETWEEN 2 AND 101", 100),
        ("UPDATE carts SET note = 'x' WHERE id = 7", 1),
        ("UPDATE carts SET note = 'x' WHERE id = 7", 0),
        ("DELETE FROM carts WHERE id = 4711", 1),
        ("INSERT INTO logs SELECT id + 1000, 'bulk', NULL FROM carts", 4999),
        ("DELETE FROM logs WHERE id = -1", 0),
        ("UPDATE logs SET line = line WHERE false", 0),
        ("INSERT INTO logs VALUES (900, 'a', NULL) ON DUPLICATE KEY UPDATE kind = 'b'", 1),
        ("REPLACE INTO logs VALUES (900, 'c', NULL)", 2),
        ("DELETE FROM logs ORDER BY id LIMIT 5", 5),
        ("CREATE TABLE more (id int)", 0),
        ("DROP TABLE more", 0),
        ("CREATE INDEX by_kind ON logs (kind)", 0),
        ("DROP INDEX by_kind ON logs", 0),
        ("CREATE VIEW odd AS SELECT * FROM logs WHERE kind = 'odd'", 0),
        ("DROP VIEW odd", 0),
        ("UPDATE carts SET note = concat(note, 'x') WHERE id = 7", 1),
        ("SET @x = 1", 0),
        ("SET sql_mode = 'ANSI'", 0),
        ("DO SLEEP(0)", 0),
    ] {
        let outcome = wire.query(statement);
        outcome.expect_fine(statement);
        assert_eq!((outcome.end().affected, outcome.end().warnings), (affected, 0), "{statement}");
    }
}

fn changes_hidden_in_other_statements(server: &'static MyServer) {
    let (database, sluice) = shop(server);
    database.run("CREATE TABLE logs_too AS SELECT * FROM logs; CREATE VIEW all_logs AS SELECT * FROM logs");
    let mut wire = sluice.my_connect(&database);
    let both = [
        "/* harmless */ DELETE /* WHERE id = 1 */ FROM logs -- WHERE id = 1",
        "/*!50000 DELETE FROM logs */",
        "/*! DELETE */ FROM logs /*!99999 WHERE id = 1 */",
        "DELETE FROM logs # WHERE id = 1",
        "DELETE FROM logs WHERE 1 --1",
        "DELETE QUICK IGNORE FROM `logs`",
        "DELETE logs FROM logs, carts WHERE carts.id = 1",
        "DELETE logs, logs_too FROM logs JOIN logs_too USING (id)",
        "DELETE FROM l USING logs AS l JOIN carts ON carts.id = 5",
        "UPDATE logs, carts SET logs.line = 'x' WHERE carts.id = 5",
        "UPDATE logs JOIN carts SET logs.line = 'x'",
        "UPDATE LOW_PRIORITY IGNORE logs SET line = 'x' ORDER BY id",
        "DELETE FROM logs WHERE EXISTS (SELECT 1)",
        "DELETE FROM logs WHERE kind LIKE '%'",
        "DELETE FROM logs WHERE NOT (1 = 2)",
        "DELETE FROM logs WHERE 'a' = 'a' OR id = 1",
        "DELETE FROM logs WHERE id IS NOT NULL",
        "DELETE FROM logs WHERE id = 1 || TRUE",
        "DELETE FROM logs WHERE 1",
        "DELETE FROM all_logs",
        "UPDATE all_logs SET line = 'x'",
        "TRUNCATE TABLE logs",
        "DROP TABLE IF EXISTS nothing_here, logs",
        "DROP DATABASE {db}",
        "DROP SCHEMA IF EXISTS {db}",
        "CREATE TABLE fresh AS SELECT 1 AS x; DELETE FROM logs",
        "ALTER TABLE logs DROP line, ADD COLUMN other int",
        "ALTER TABLE logs DROP COLUMN kind",
        "PREPARE clear FROM 'DELETE FROM logs'; EXECUTE clear",
        "SET @x = 'DELETE FROM logs'; PREPARE clear FROM @x; EXECUTE clear",
        "EXPLAIN ANALYZE DELETE FROM logs WHERE id > 0; DELETE FROM logs",
        "WITH a AS (SELECT 1) DELETE FROM logs",
    ];
    let mariadb = [
        "EXECUTE IMMEDIATE 'DELETE FROM logs'",
        "EXECUTE IMMEDIATE concat('DELETE', ' FROM logs')",
        "SET STATEMENT max_statement_time = 10 FOR DELETE FROM logs",
        "CREATE OR REPLACE TABLE logs (id int)",
        "ANALYZE DELETE FROM logs",
        "ANALYZE FORMAT = JSON UPDATE logs SET line = 'x'",
        "/*M! DELETE FROM logs */",
        "/*M!100000 DELETE FROM logs */",
        "DELETE FROM logs RETURNING id",
        "BEGIN NOT ATOMIC DELETE FROM logs; END",
        "FOR i IN 1..1 DO DELETE FROM logs; END FOR",
    ];
    for statement in both.iter().chain(server.either(&mariadb[..], &[])) {
        let statement = statement.replace("{db}", &database.name);
        let outcome = wire.query(&statement);
        // A statement that this server does not know is its error.
        let is_syntax =
            outcome.code() == 1064 && !outcome.error().is_some_and(|failure| failure.message.starts_with("sluice"));
        if !is_syntax {
            assert!(outcome.error().is_some(), "{statement} passed: {outcome:?}");
            Refused::of(&mut wire, &outcome);
        }
        assert_eq!(database.value("SELECT count(*) FROM logs WHERE line LIKE 'line %'"), "500", "{statement}");
    }
}

fn a_stated_higher_limit(server: &'static MyServer) {
    let (database, sluice) = shop(server);
    database.run(EVENTS);
    let mut wire = sluice.my_connect(&database);
    let statement = "DELETE FROM events WHERE kind = 'click'";
    assert!(Refused::denied(&mut wire, statement).says("SET @sluice_max_affected ="));
    let refused = Refused::to_confirm(&mut wire, &format!("/* sluice: max_affected=70000 */ {statement}"));
    assert!(refused.message.contains("60,000"), "{refused:?}");
    Refused::denied(&mut wire, &format!("/* sluice: max_affected=59999 */ {statement}"));
    Refused::denied(&mut wire, &format!("/* sluice: max_affected=99999999 */ {statement}"));
    wire.query("SET @sluice_max_affected = 70000").expect_fine("harmless without Sluice");
    let refused = Refused::to_confirm(&mut wire, statement);
    let confirmed = wire.query(&refused.confirm());
    assert_eq!(confirmed.end().affected, 60_000, "{confirmed:#?}");
    assert_eq!(database.count("events"), 0);
}

fn parameters_decide(server: &'static MyServer) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.my_connect(&database);
    let id = wire.prepare("DELETE FROM carts WHERE id > ? AND status <> ?");
    let run = |wire: &mut MyWire, from: i32| {
        let values =
            [(packet::LONG, Some(from.to_le_bytes().to_vec())), (packet::VAR_STRING, Some(packet::lenenc_string("x")))];
        wire.command(&execute_typed(id, 0, &values))
    };
    assert_eq!(run(&mut wire, 4995).end().affected, 5, "few rows pass");
    let outcome = run(&mut wire, 2000);
    let refused = Refused::of(&mut wire, &outcome);
    assert!(refused.code == 50001 && refused.message.contains("2,995"), "{refused:?}");
    assert_eq!(run(&mut wire, 4994).end().affected, 1, "the prepared statement is still there");
    // The same with values that came before the statement was executed.
    let other = wire.prepare("UPDATE carts SET note = ? WHERE id <= ?");
    wire.start(&long_data(other, 0, b"it's"));
    let values = [(packet::BLOB, Some(vec![])), (packet::LONG, Some(3000i32.to_le_bytes().to_vec()))];
    let outcome = wire.command(&execute_typed(other, 0, &values));
    let long = Refused::of(&mut wire, &outcome);
    assert!(long.code == 50001 && long.message.contains("3,000"), "{long:?}");
    // Confirmed on another connection: with the values it was shown for.
    let mut wire = sluice.my_connect(&database);
    assert_eq!(wire.query(&refused.confirm()).end().affected, 2994);
    assert_eq!(database.value("SELECT max(id) FROM carts"), "2000");
    wire.query(&long.confirm()).expect_fine("confirmed");
    assert_eq!(database.value("SELECT count(*) FROM carts WHERE note = 'it''s'"), "2000");
}

/// A server keeps values that came ahead until it has run the statement: what is refused must not leave them there for the next values
/// to be added to, or to stand in their place.
fn values_ahead_of_a_refusal(server: &'static MyServer) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.my_connect(&database);
    let id = wire.prepare("DELETE FROM carts WHERE status <> ? AND id > 4000 AND note IS NULL");
    let before = database.count("carts");
    let inline = |text: &str| [(packet::BLOB, Some(packet::lenenc_string(text)))];
    wire.start(&long_data(id, 0, b"no such status"));
    let outcome = wire.command(&execute_typed(id, 0, &[(packet::BLOB, Some(vec![]))]));
    assert_eq!(Refused::of(&mut wire, &outcome).code, 50001);
    let update = wire.prepare("UPDATE carts SET note = ? WHERE id <= ?");
    let many = |wire: &mut MyWire, from: &[u8], most: i32| {
        wire.start(&long_data(update, 0, from));
        let values = [(packet::BLOB, Some(vec![])), (packet::LONG, Some(most.to_le_bytes().to_vec()))];
        wire.command(&execute_typed(update, 0, &values))
    };
    let outcome = many(&mut wire, b"first ", 3000);
    assert_eq!(Refused::of(&mut wire, &outcome).code, 50001);
    assert_eq!(many(&mut wire, b"second", 2).end().affected, 2);
    assert_eq!(database.value("SELECT note FROM carts WHERE id = 1"), "second", "nothing of what was refused");
    // A value in place, after one that came ahead of a refused run: it is the one that counts.
    let outcome = wire.command(&execute_typed(id, 0, &inline("no such status either")));
    assert_eq!(Refused::of(&mut wire, &outcome).code, 50001);
    assert_eq!(database.count("carts"), before);
    assert_eq!(wire.query("SELECT 'still here'").value(), "still here");
}

/// MariaDB runs one statement for many sets of values: together they are one change.
fn bulk_execution_is_judged(server: &'static MyServer) {
    if !server.is_mariadb() {
        return;
    }
    let (database, sluice) = shop(server);
    let login = crate::harness::mysql::login::Login::of(crate::harness::mysql::server::TRUSTED);
    let mut wire = MyWire::login(&sluice.address, &login.on(&database.name).asking_for(packet::MARIADB));
    let bulk = |id: u32, values: std::ops::RangeInclusive<u32>| {
        let mut rest = [128u16.to_le_bytes(), packet::LONG.to_le_bytes()].concat();
        rest.extend(values.flat_map(|value| [&[0][..], &value.to_le_bytes()].concat()));
        about(command::STMT_BULK_EXECUTE, id, &rest)
    };
    let by_key = wire.prepare("DELETE FROM logs WHERE id = ?");
    let outcome = wire.command(&bulk(by_key, 1..=400));
    assert!(outcome.error().is_some(), "four hundred at once: {outcome:?}");
    Refused::of(&mut wire, &outcome);
    let unbounded = wire.prepare("DELETE FROM logs WHERE id > ?");
    let outcome = wire.command(&bulk(unbounded, 0..=1));
    Refused::of(&mut wire, &outcome);
    assert_eq!(database.count("logs"), 500);
    let added = wire.prepare("INSERT INTO logs VALUES (?, 'bulk', NULL)");
    wire.command(&bulk(added, 1001..=2000)).expect_fine("what only adds");
    assert_eq!(database.count("logs"), 1500);
}

fn temporary_tables_are_ones_own(server: &'static MyServer) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.my_connect(&database);
    wire.query("CREATE TEMPORARY TABLE scratch AS SELECT * FROM logs").expect_fine("a table of one's own");
    assert_eq!(wire.query("DELETE FROM scratch").end().affected, 500);
    wire.query("TRUNCATE scratch").expect_fine("nobody else's");
    wire.query("DROP TABLE scratch").expect_fine("nobody else's");
    // A temporary table that hides the real one is a temporary table; dropped, the name means the real one again.
    wire.query("CREATE TEMPORARY TABLE logs (id int); INSERT INTO logs VALUES (1)")
        .expect_fine("it hides the real one");
    assert_eq!(wire.query("DELETE FROM logs").end().affected, 1);
    wire.query("DROP TEMPORARY TABLE logs").expect_fine("gone");
    Refused::to_confirm(&mut wire, "DELETE FROM logs");
    wire.query("CREATE TEMPORARY TABLE logs (id int)").expect_fine("it hides the real one");
    wire.command(&body(command::RESET_CONNECTION, &[])).expect_fine("gone with the session's state");
    Refused::to_confirm(&mut wire, "DELETE FROM logs");
    assert_eq!(database.count("logs"), 500);
}

fn the_questions_leave_no_trace(server: &'static MyServer) {
    let (database, sluice) = shop(server);
    database.run("CREATE TABLE counted (id int AUTO_INCREMENT PRIMARY KEY, v varchar(3))");
    let mut wire = sluice.my_connect(&database);
    wire.query("SET sql_mode = '', time_zone = '+05:00', @mine = 'kept'").expect_fine("settings");
    let mine = wire.prepare("SELECT 'mine'");
    wire.query("INSERT INTO counted (v) VALUES ('a'), ('b'), ('too long')").expect_fine("with a warning");
    wire.query("SELECT SQL_CALC_FOUND_ROWS id FROM logs WHERE id <= 42 LIMIT 2").expect_fine("42");
    let refused = Refused::to_confirm(&mut wire, "DELETE FROM carts WHERE status = 'abandoned'");
    assert!(refused.says("2,000"));
    assert_eq!(wire.query("SELECT FOUND_ROWS()").value(), "42", "what was asked is not the client's");
    assert_eq!(wire.query("SELECT LAST_INSERT_ID()").value(), "1");
    assert_eq!(wire.query("SELECT concat(@@sql_mode, @@time_zone, @mine)").value(), "+05:00kept");
    assert_eq!(wire.command(&execute(mine, 0, &[])).rows().len(), 1);
    // What passes after it was asked about is as without Sluice.
    for (statement, count) in [
        ("UPDATE logs SET line = 'y' WHERE kind = 'odd' AND id < 20", "10"),
        ("DELETE FROM logs WHERE line = 'y' AND id < 5", "2"),
        ("DELETE FROM carts WHERE id > 4990", "10"),
    ] {
        wire.query(statement).expect_fine(statement);
        assert_eq!(wire.query("SELECT ROW_COUNT()").value(), count, "{statement}");
    }
    wire.query("INSERT INTO counted (v) SELECT 'too long' FROM logs WHERE id > 490").expect_fine("ten warnings");
    assert_eq!(wire.query("SHOW COUNT(*) WARNINGS").value(), "10");
    assert_eq!(wire.query("SHOW WARNINGS").rows().len(), 10);
    wire.query("UPDATE counted SET v = 'longer' WHERE v = 'too' AND id < 6").expect_fine("warned of by the server");
    let warnings = wire.query("SHOW WARNINGS").rows();
    assert!(warnings.iter().all(|row| row[1].as_deref() == Some("1265")), "the session's own again: {warnings:?}");
    // No transaction is open, and none was fixed earlier than the client's own statement would.
    assert_eq!(wire.query("SELECT 1").end().status & packet::status::IN_TRANSACTION, 0);
    wire.query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION").expect_fine("begun");
    Refused::to_confirm(&mut wire, "DELETE FROM carts WHERE status = 'abandoned'");
    database.run("INSERT INTO logs VALUES (7777, 'later', NULL)");
    // It should be 1: the rows were counted in the client's own transaction, and that fixed what it reads from then on.
    assert_eq!(wire.query("SELECT count(*) FROM logs WHERE id = 7777").value(), "0");
    wire.query("COMMIT").expect_fine("COMMIT");
}

/// What SET TRANSACTION says holds for the next transaction, however much comes between that begins none.
fn a_transaction_described_beforehand(server: &'static MyServer) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.my_connect(&database);
    let variable = server.either("SET @@tx_read_only = 1", "SET @@transaction_read_only = 1");
    for said in ["SET TRANSACTION READ ONLY", variable] {
        for between in ["SELECT 1", "DO 0", "SELECT nowhere()", "SET @a = 1"] {
            wire.query(said).expect_fine(said);
            wire.query(between);
            let outcome = wire.query("UPDATE logs SET line = 'y' WHERE id = 1");
            assert_eq!(outcome.code(), 50007, "{said}; {between}: {outcome:?}");
            wire.query("START TRANSACTION").expect_fine("as the hint says");
            assert_eq!(wire.query("UPDATE logs SET line = 'y' WHERE id = 1").code(), 1792, "{said}; {between}");
            wire.query("ROLLBACK").expect_fine("ROLLBACK");
            wire.query("UPDATE logs SET line = 'x' WHERE id = 1").expect_fine("used up");
        }
    }
    // Used up by a change, and by its end.
    for end in ["INSERT INTO logs VALUES (8888, 'used', NULL)", "COMMIT"] {
        wire.query("SET TRANSACTION ISOLATION LEVEL READ COMMITTED").expect_fine("for the next one");
        wire.query(end).expect_fine(end);
        wire.query("UPDATE logs SET line = 'z' WHERE id = 1").expect_fine(end);
    }
}

fn a_free_change_that_grew_is_rolled_back(server: &'static MyServer) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.my_connect(&database);
    // It is counted as ten rows. Before it runs, it has become hundreds: the locks let reading pass and changing wait.
    let mut other = database.connect();
    other.query("UPDATE logs SET kind = 'few' WHERE id <= 10").expect_fine("ten");
    other.query("BEGIN; SELECT count(*) FROM logs FOR UPDATE").expect_fine("all locked");
    wire.start(&packet::query("DELETE FROM logs WHERE kind = 'few'"));
    database.wait_until("SELECT count(*) > 0 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT' AND trx_query LIKE '%few%'");
    other.query("UPDATE logs SET kind = 'few' WHERE id <= 400; COMMIT").expect_fine("more of them");
    let outcome = wire.answer_to(command::QUERY);
    let refused = Refused::of(&mut wire, &outcome);
    assert_eq!(refused.code, 50004, "{refused:?}");
    assert_eq!(database.count("logs"), 500, "rolled back");
    assert_eq!(wire.query("SELECT 1").end().status & packet::status::IN_TRANSACTION, 0);
    assert_eq!(sluice.verify_record().code, Some(0));
}

fn a_change_that_was_said_to_be_one_row(server: &'static MyServer) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.my_connect(&database);
    for id in 1..=150 {
        let outcome = wire.query(&format!("UPDATE carts SET note = 'seen' WHERE id = {id}"));
        assert_eq!(outcome.end().affected, 1);
    }
    let statement = wire.prepare("UPDATE carts SET note = 'seen' WHERE id = ?");
    for id in 151..=300 {
        let outcome = wire.command(&execute(statement, 0, &[Some(id.to_string().as_bytes())]));
        assert_eq!(outcome.end().affected, 1);
    }
    // A number compared with a text pins no row: many texts are one number.
    database.run("CREATE TABLE codes (code varchar(20) PRIMARY KEY, v int); INSERT INTO codes SELECT concat('x', id), 1 FROM carts");
    wire.query("SET sql_mode = ''").expect_fine("else the server itself objects to the texts that are no numbers");
    Refused::to_confirm(&mut wire, "DELETE FROM codes WHERE code = 0");
    assert_eq!(database.value("SELECT count(*) FROM carts WHERE note = 'seen'"), "300");
}

fn observe_mode_refuses_nothing(server: &'static MyServer) {
    let (database, sluice) = shop_with(server, |setup| setup.with("[policy]\nmode = \"observe\""));
    let mut wire = sluice.my_connect(&database);
    let outcome = wire.query("DELETE FROM logs");
    assert_eq!((outcome.end().affected, outcome.end().warnings), (500, 0), "{outcome:#?}");
    let record = sluice.record();
    let seen = record
        .iter()
        .any(|line| line["mode"] == "observe" && line["level"] == "confirm" && line["kind"] == "statement");
    assert!(seen, "what would have been refused is recorded: {record:#?}");
    // The doors stay shut: what comes through them was judged by nobody.
    let outcome = wire.command(&body(command::BINLOG_DUMP, &[4, 0, 0, 0, 0, 0, 1, 0, 0, 0]));
    assert_eq!(outcome.code(), 50003, "{outcome:?}");
}

fn off_is_off(server: &'static MyServer) {
    let (database, sluice) = shop_with(server, |setup| setup.with("[policy]\nmode = \"off\""));
    let outcome = sluice.my_connect(&database).query("DELETE FROM logs");
    assert_eq!((outcome.end().affected, outcome.end().warnings), (500, 0));
}

fn scopes_decide_for_whom(server: &'static MyServer) {
    let database = server.database(crate::harness::mysql::shop::SHOP);
    let scopes = format!(
        "
[[scope]]
name = \"the cleaner\"
match = {{ user = [\"{OTHER}\"], table = [\"{}.logs\"] }}
rules = {{ missing-where = \"allow\" }}
[[scope]]
name = \"no drops\"
rules = {{ drop-data = \"deny\", truncate = \"warn\" }}",
        database.name
    );
    let sluice = crate::harness::sluice::Setup::before_mysql(server).with(&scopes).start();
    let (mut trusty, mut other) = (sluice.my_connect(&database), sluice.my_connect_as(OTHER, &database));
    Refused::to_confirm(&mut trusty, "DELETE FROM logs");
    Refused::denied(&mut trusty, "DROP TABLE logs");
    assert_eq!(other.query("DELETE FROM logs").end().affected, 500);
    let refused = Refused::to_confirm(&mut other, "UPDATE carts SET note = 'x'");
    assert!(refused.names_rule("missing-where"), "another table: {refused:?}");
    let warned = trusty.query("TRUNCATE item_notes");
    assert_eq!(warned.end().warnings, 1, "{warned:#?}");
    let warnings = trusty.query("SHOW WARNINGS").rows();
    assert!(warnings[0][2].as_deref().is_some_and(|text| text.contains("sluice: truncate")), "{warnings:?}");
    let explained = trusty.query("SLUICE EXPLAIN DROP TABLE logs");
    let line =
        explained.rows().into_iter().find(|row| row[0].as_deref() == Some("drop-data")).expect("the rule is listed");
    let told = line.iter().flatten().cloned().collect::<Vec<_>>().join(" ");
    assert!(told.contains("deny") && told.contains("no drops") && told.contains("sluice.toml:"), "{told}");
}

fn names_are_resolved_as_the_server_does(server: &'static MyServer) {
    let database = server.database(crate::harness::mysql::shop::SHOP);
    let staging = format!("{}_staging", database.name);
    let scopes = format!("[[scope]]\nmatch = {{ table = [\"{staging}.*\"] }}\nrules = {{ missing-where = \"allow\" }}");
    let sluice = crate::harness::sluice::Setup::before_mysql(server).with(&scopes).start();
    database.run(&format!("CREATE DATABASE {staging}; CREATE TABLE {staging}.logs AS SELECT * FROM logs; CREATE TABLE `{staging}.logs` AS SELECT * FROM logs"));
    let mut wire = sluice.my_connect(&database);
    assert_eq!(wire.query(&format!("DELETE FROM {staging}.logs WHERE id <= 100")).end().affected, 100);
    Refused::to_confirm(&mut wire, "DELETE FROM logs");
    Refused::to_confirm(&mut wire, &format!("DELETE FROM `{staging}.logs`"));
    wire.query(&format!("USE {staging}")).expect_fine("another database");
    assert_eq!(wire.query("DELETE FROM logs WHERE id <= 300").end().affected, 200, "now the name means staging's");
    wire.command(&body(command::INIT_DB, database.name.as_bytes())).expect_fine("and back");
    Refused::to_confirm(&mut wire, "DELETE FROM logs");
    wire.command(&body(command::INIT_DB, staging.as_bytes())).expect_fine("and there");
    assert_eq!(wire.query("DELETE FROM logs").end().affected, 200);
    assert_eq!(database.count("logs"), 500);
}

fn characters_that_hide_a_quote(server: &'static MyServer) {
    let (database, sluice) = shop(server);
    // In GBK the second byte of the character and the backslash are one: the server's string ends at the quote.
    let hidden = b"SELECT '\xbf\\'; DELETE FROM logs; -- '";
    for charset in ["gbk", "sjis", "big5"] {
        let mut wire = sluice.my_connect(&database);
        wire.query(&format!("SET NAMES {charset}")).expect_fine("harmless");
        let first: &[u8] = if charset == "gbk" { b"\xbf" } else { b"\x95" };
        let text = hidden.iter().flat_map(|byte| if *byte == 0xbf { first.to_vec() } else { vec![*byte] });
        let outcome = wire.command(&body(command::QUERY, &text.collect::<Vec<u8>>()));
        assert!((50001..=50007).contains(&outcome.code()), "{charset}: {outcome:?}");
        // Both in one message: what the second means, the first decides.
        let mut wire = sluice.my_connect(&database);
        let text: Vec<u8> = [format!("SET NAMES {charset}; ").into_bytes(), hidden.to_vec()].concat();
        let outcome = wire.command(&body(command::QUERY, &text));
        assert!((50001..=50007).contains(&outcome.code()), "{charset} in one message: {outcome:?}");
    }
    assert_eq!(database.count("logs"), 500);
}

/// Each byte stands for what the session's character set says: what is asked holds the very bytes that the client wrote.
fn a_character_set_of_ones_own(server: &'static MyServer) {
    let (database, sluice) = shop(server);
    database.run(
        "CREATE TABLE words (id INT PRIMARY KEY, word VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin); \
         INSERT INTO words SELECT id, CASE WHEN id <= 1500 THEN 'caf\u{e9}' WHEN id <= 3000 THEN '\u{43c}\u{438}\u{440}' ELSE '\u{5317}' END FROM carts WHERE id <= 4500",
    );
    for (charset, written, first) in
        [("latin1", &b"caf\xe9"[..], 1), ("koi8r", &b"\xcd\xc9\xd2"[..], 1501), ("ujis", &b"\xcb\xcc"[..], 3001)]
    {
        let mut wire = sluice.my_connect(&database);
        wire.query(&format!("SET NAMES {charset}")).expect_fine("harmless");
        let text = |before: &str, after: &str| [before.as_bytes(), written, after.as_bytes()].concat();
        let by_key = text("UPDATE words SET word = '", &format!("' WHERE id = {first}"));
        assert!(wire.command(&body(command::QUERY, &by_key)).error().is_none(), "{charset}: one row by its key");
        let delete = text("DELETE FROM words WHERE word = '", "'");
        let outcome = wire.command(&body(command::QUERY, &delete));
        let refused = Refused::of(&mut wire, &outcome);
        assert!(refused.code == 50001 && refused.says("1,500 rows"), "{charset}: {refused:?}");
        let rehearsed = wire.command(&body(command::QUERY, &[b"SLUICE REHEARSE ", &delete[..]].concat())).rows();
        let answer = "1500 rows affected";
        assert!(rehearsed.iter().flatten().flatten().any(|cell| cell == answer), "{charset}: {rehearsed:?}");
        let id = wire.command(&body(command::STMT_PREPARE, &delete)).prepared();
        let outcome = wire.command(&execute(id, 0, &[]));
        let prepared = Refused::of(&mut wire, &outcome);
        assert!(prepared.says("1,500 rows"), "{charset}: {prepared:?}");
        let mut other = sluice.my_connect(&database);
        Refused::any(&mut other, &refused.confirm());
        assert_eq!(wire.query(&refused.confirm()).end().affected, 1500, "{charset}");
    }
    assert_eq!(database.count("words"), 0);
    // A name that was written in a set of which only the server knows every letter is not taken for one that is known.
    database.run("CREATE FUNCTION `\u{43c}`() RETURNS INT MODIFIES SQL DATA BEGIN DELETE FROM logs; RETURN 1; END");
    let mut wire = sluice.my_connect(&database);
    wire.query("SET NAMES koi8r").expect_fine("harmless");
    let outcome = wire.command(&body(command::QUERY, b"SELECT `\xcd`()"));
    assert!((50001..=50007).contains(&outcome.code()), "{outcome:?}");
    assert_eq!(database.count("logs"), 500);
}

fn modes_that_move_a_quote(server: &'static MyServer) {
    let (database, sluice) = shop(server);
    for (mode, hidden) in [
        ("NO_BACKSLASH_ESCAPES", "SELECT 'a\\'; DELETE FROM logs; -- '"),
        ("ANSI_QUOTES", "SELECT 1 AS \"a\\\"; DELETE FROM logs; -- \""),
        ("", "SELECT 'a\\'' ; DELETE FROM logs; -- '"),
    ] {
        let mut wire = sluice.my_connect(&database);
        wire.query(&format!("SET sql_mode = '{mode}'")).expect_fine("harmless");
        let outcome = wire.query(hidden);
        assert!((50001..=50007).contains(&outcome.code()), "{mode}: {outcome:?}");
        let mut wire = sluice.my_connect(&database);
        let outcome = wire.query(&format!("SET sql_mode = '{mode}'; {hidden}"));
        assert!(outcome.error().is_some(), "{mode} in one message: {outcome:?}");
        // A procedure gives the mode back when it ends; what follows is read under the old one.
        database.run(&format!("DROP PROCEDURE IF EXISTS moves; CREATE PROCEDURE moves() SET sql_mode = '{mode}'"));
        let mut wire = sluice.my_connect(&database);
        wire.query("CALL moves()");
        wire.query(hidden);
        assert_eq!(database.count("logs"), 500, "{mode}");
    }
}

fn without_autocommit(server: &'static MyServer) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.my_connect(&database);
    wire.query("SET autocommit = 0").expect_fine("off");
    let refused = Refused::to_confirm(&mut wire, "DELETE FROM logs");
    assert_eq!(wire.query("DELETE FROM logs WHERE kind = 'odd' AND id < 20").end().affected, 10);
    wire.query("ROLLBACK").expect_fine("undone");
    assert_eq!(wire.query("SELECT count(*) FROM logs").value(), "500");
    assert_eq!(wire.query(&refused.confirm()).end().affected, 500);
    assert_eq!(database.count("logs"), 500, "confirmed, but not committed");
    wire.query("ROLLBACK").expect_fine("undone");
    assert_eq!(wire.query("SELECT count(*) FROM logs").value(), "500");
    // Small changes that add up are found before the COMMIT.
    for from in (1..=400).step_by(80) {
        let outcome = wire.query(&format!("DELETE FROM logs WHERE id BETWEEN {from} AND {}", from + 79));
        assert_eq!(outcome.end().affected, 80);
    }
    let outcome = wire.query("COMMIT");
    if outcome.error().is_some() {
        Refused::of(&mut wire, &outcome);
        assert_eq!(database.count("logs"), 500);
    }
}

fn what_commits_by_itself(server: &'static MyServer) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.my_connect(&database);
    wire.query("BEGIN").expect_fine("begun");
    assert_eq!(wire.query("DELETE FROM logs WHERE id <= 50").end().affected, 50);
    wire.query("CREATE TABLE more (id int)").expect_fine("which commits");
    assert_eq!(database.count("logs"), 450);
    assert_eq!(wire.query("SELECT 1").end().status & packet::status::IN_TRANSACTION, 0);
    wire.query("BEGIN").expect_fine("begun");
    assert_eq!(wire.query("DELETE FROM logs WHERE id <= 60").end().affected, 10);
    // Refused: nothing is committed by what did not run.
    let refused = Refused::to_confirm(&mut wire, "DROP TABLE item_notes, cart_items, carts");
    assert_eq!(database.count("logs"), 450);
    assert!(refused.says("carts") && refused.says("5,000"), "{refused:?}");
    wire.query("ROLLBACK").expect_fine("undone");
    assert_eq!(wire.query("SELECT count(*) FROM logs").value(), "450");
    wire.query(&refused.confirm()).expect_fine("confirmed");
    assert_eq!(wire.query("SHOW TABLES LIKE 'cart%'").rows().len(), 0);
}

fn tables_without_transactions(server: &'static MyServer) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.my_connect(&database);
    // What is done there cannot be rolled back, and that is said.
    let refused = Refused::to_confirm(&mut wire, "DELETE FROM old_logs WHERE id <= 400");
    assert!(refused.says("MyISAM") || refused.says("rolled back") || refused.says("transaction"), "{refused:?}");
    assert_eq!(database.count("old_logs"), 500);
    assert_eq!(wire.query(&refused.confirm()).end().affected, 400);
    assert_eq!(database.count("old_logs"), 100);
    wire.query("INSERT INTO old_logs VALUES (1000, 'new', 'x')").expect_fine("what only adds");
    assert_eq!(wire.query("DELETE FROM old_logs WHERE id = 1000").end().affected, 1, "one row by its key");
}

fn joins_and_orders(server: &'static MyServer) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.my_connect(&database);
    let refused = Refused::to_confirm(
        &mut wire,
        "DELETE c, i FROM carts AS c JOIN cart_items AS i ON i.cart_id = c.id WHERE c.id BETWEEN 4000 AND 4600",
    );
    assert!(refused.says("carts") && refused.says("cart_items"), "{refused:?}");
    let confirmed = wire.query(&refused.confirm());
    // The items went by cascade before their own turn came: the server counts the carts alone.
    assert_eq!((confirmed.end().affected, database.count("cart_items")), (601, 8_798));
    let refused = Refused::to_confirm(
        &mut wire,
        "UPDATE carts AS c JOIN cart_items AS i ON i.cart_id = c.id SET c.note = 'y' WHERE i.id <= 3000",
    );
    assert!(refused.says("1,500"), "two items are in each cart: {refused:?}");
    assert_eq!(wire.query(&refused.confirm()).end().affected, 1500);
    assert_eq!(wire.query("DELETE FROM logs WHERE kind = 'odd' ORDER BY id DESC LIMIT 90").end().affected, 90);
    let refused =
        Refused::to_confirm(&mut wire, "UPDATE carts SET note = 'z' WHERE status = 'paid' ORDER BY id LIMIT 1500");
    assert!(refused.says("1,500"), "{refused:?}");
    assert_eq!(wire.query(&refused.confirm()).end().affected, 1500);
    assert_eq!(database.count("logs"), 410);
}

/// The server tells of one row and deletes hundreds: InnoDB's cascades are in no OK packet.
fn cascades_that_exceed(server: &'static MyServer) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.my_connect(&database);
    database.run("UPDATE cart_items SET cart_id = 4000 WHERE id BETWEEN 5000 AND 5400");
    let refused = Refused::to_confirm(&mut wire, "DELETE FROM carts WHERE id = 4000");
    assert!(refused.says("403"), "401 and its own two: {refused:?}");
    // More by cascade than was shown: rolled back.
    database.run("UPDATE cart_items SET cart_id = 4000 WHERE id BETWEEN 6000 AND 6400");
    let outcome = wire.query(&refused.confirm());
    let again = Refused::of(&mut wire, &outcome);
    assert!([50001, 50004].contains(&again.code), "{again:?}");
    assert_eq!((database.count("cart_items"), database.count("carts")), (10_000, 5_000));
    assert_eq!(wire.query(&again.confirm()).end().affected, 1);
    assert_eq!((database.count("cart_items"), database.count("carts")), (9_196, 4_999));
}

/// What a REPLACE takes along by foreign keys is not counted beforehand: to nothing of it was agreed. MariaDB deletes the row and puts a new
/// one in, MySQL 9.7 writes over it.
fn a_replacement_is_held_to_what_was_shown(server: &'static MyServer) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.my_connect(&database);
    for (statement, rows) in [
        ("REPLACE INTO carts SELECT * FROM carts WHERE id <= 1500", 1500),
        ("REPLACE INTO carts VALUES (4001, 'x', NULL), (4002, 'x', NULL)", 2),
    ] {
        let before = database.count("cart_items");
        let refused = Refused::to_confirm(&mut wire, statement);
        assert!(
            refused.says("unknown") && refused.says("ON DELETE CASCADE") && !refused.says("ON UPDATE"),
            "{refused:?}"
        );
        let outcome = wire.query(&refused.confirm());
        if !server.is_mariadb() {
            assert_eq!(outcome.end().affected, 2 * rows, "{statement}");
            assert_eq!(database.count("cart_items"), 10_000);
            let last = sluice.record();
            let last = last.iter().rev().find(|line| line["kind"] == "outcome").expect("its outcome");
            assert_eq!(last["actual_rows"], rows, "{last}");
            continue;
        }
        let again = Refused::of(&mut wire, &outcome);
        assert_eq!(again.code, 50004, "{again:?}");
        assert_eq!(database.count("cart_items"), before, "{statement}");
        wire.query(&again.confirm()).expect_fine("now it was shown");
        assert_eq!(database.count("cart_items"), before - 2 * rows, "two items in each cart");
    }
}

/// What the statement deletes itself is not counted once more as carried away.
fn parents_and_children_in_one_delete(server: &'static MyServer) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.my_connect(&database);
    let delete = "DELETE c, i FROM carts c JOIN cart_items i ON i.cart_id = c.id WHERE c.id <= 1500";
    let refused = Refused::to_confirm(&mut wire, delete);
    assert!(refused.message.contains("4,500 rows of 2 tables, and 200 rows more by cascade"), "{refused:?}");
    wire.query(&refused.confirm()).expect_fine("as it was shown");
    assert_eq!(
        (database.count("carts"), database.count("cart_items"), database.count("item_notes")),
        (3_500, 7_000, 0)
    );
}

fn a_freeze_stops_every_change(server: &'static MyServer) {
    let freeze = "[[freeze]]\nname = \"year's end\"\nreason = \"books\"";
    let (database, sluice) = shop_with(server, |setup| setup.with(freeze));
    let mut wire = sluice.my_connect(&database);
    wire.query("SELECT count(*) FROM logs").expect_fine("reading goes on");
    for statement in [
        "DELETE FROM logs WHERE id = 1",
        "INSERT INTO logs VALUES (1000, 'x', NULL)",
        "UPDATE logs SET kind = 'x' WHERE id = 1",
        "REPLACE INTO logs VALUES (1, 'x', NULL)",
        "CREATE TABLE more (id int)",
        "LOAD DATA LOCAL INFILE 'x' INTO TABLE logs",
    ] {
        Refused::denied(&mut wire, statement);
    }
    assert_eq!(database.value("SELECT count(*) FROM logs WHERE kind = 'x'"), "0");
}

fn a_script_runs_once(server: &'static MyServer) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.my_connect(&database);
    let statement = "DELETE FROM logs WHERE id <= 20 /* sluice: script=clean_2026 */";
    assert_eq!(wire.query(statement).end().affected, 20);
    drop(wire);
    let mut wire = sluice.my_connect(&database);
    let refused = Refused::denied(&mut wire, statement);
    assert!(refused.names_rule("already-ran"), "{refused:?}");
    // A token in the comment confirms the very statement it stands in.
    let refused = Refused::to_confirm(&mut wire, "DELETE FROM logs");
    let outcome = wire.query(&format!("DELETE FROM logs /* sluice: confirm={} */", refused.token()));
    assert_eq!(outcome.end().affected, 480, "{outcome:?}");
}

fn commands_answer_with_rows(server: &'static MyServer) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.my_connect(&database);
    let refused = Refused::to_confirm(&mut wire, "DELETE FROM logs");
    for (command, says) in [
        ("SLUICE HELP".to_owned(), "SLUICE CONFIRM"),
        ("SLUICE STATUS".to_owned(), "enforce"),
        ("SLUICE POLICY".to_owned(), "missing-where"),
        ("SLUICE PREVIEW DELETE FROM logs".to_owned(), "500"),
        ("SLUICE EXPLAIN DELETE FROM logs".to_owned(), "missing-where"),
        (format!("SLUICE SHOW '{}'", refused.token()), "DELETE FROM logs"),
        ("sluice help;".to_owned(), "SLUICE CONFIRM"),
    ] {
        let outcome = wire.query(&command);
        outcome.expect_fine(&command);
        let told = outcome.rows().iter().flatten().flatten().cloned().collect::<Vec<_>>().join("\n");
        assert!(told.contains(says), "{command}: {told}");
        assert!(!outcome.columns().is_empty());
    }
    let outcome = wire.query("SLUICE REHEARSE DELETE FROM logs WHERE id <= 7");
    outcome.expect_fine("rehearsed");
    assert_eq!(database.count("logs"), 500);
    let outcome = wire.query("SLUICE CONFIRM 'K7QF-2M9X'");
    assert_eq!(outcome.code(), 50005, "{outcome:?}");
    let outcome = wire.query("SLUICE NONSENSE");
    assert!(outcome.error().is_some(), "{outcome:?}");
    wire.query("SELECT 1").expect_fine("goes on");
}

fn a_token_is_its_owners(server: &'static MyServer) {
    let (database, sluice) = shop(server);
    let (mut trusty, mut other) = (sluice.my_connect(&database), sluice.my_connect_as(OTHER, &database));
    let refused = Refused::to_confirm(&mut trusty, "DELETE FROM logs");
    assert_eq!(other.query(&refused.confirm()).code(), 50005);
    assert_eq!(database.count("logs"), 500);
    assert_eq!(trusty.query(&refused.confirm()).end().affected, 500);
    assert_eq!(trusty.query(&refused.confirm()).code(), 50005, "once");
}

/// Where the server does not tell what a transaction changed, its own counts are all there is, and that is said.
fn without_the_process_privilege(server: &'static MyServer) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.my_connect_as(BLIND, &database);
    assert_eq!(wire.query("DELETE FROM logs WHERE kind = 'odd' AND id < 20").end().affected, 10);
    let refused = Refused::to_confirm(&mut wire, "DELETE FROM logs");
    assert_eq!(wire.query(&refused.confirm()).end().affected, 490);
    let told = wire.query("SLUICE STATUS").rows().iter().flatten().flatten().cloned().collect::<Vec<_>>().join("\n");
    // MySQL 9.6 and later carry foreign keys' actions above InnoDB, where no right is needed to count them.
    assert_eq!(told.contains("PROCESS"), server.is_mariadb(), "{told}");
}

fn prepared_by_sql(server: &'static MyServer) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.my_connect(&database);
    wire.query("PREPARE clear FROM 'DELETE FROM carts WHERE id > ?'").expect_fine("nothing happens yet");
    wire.query("SET @id = 4995").expect_fine("a variable");
    assert_eq!(wire.query("EXECUTE clear USING @id").end().affected, 5, "what the variable holds counts");
    wire.query("SET @id = 0").expect_fine("a variable");
    Refused::any(&mut wire, "EXECUTE clear USING @id");
    wire.query("SET @text = 'DELETE FROM logs'").expect_fine("a variable");
    let outcome = wire.query("PREPARE wipe FROM @text");
    if outcome.error().is_none() {
        Refused::any(&mut wire, "EXECUTE wipe");
    }
    // The name is given away again: by a text, then by a procedure.
    wire.query("PREPARE harmless FROM 'SELECT 1'").expect_fine("harmless");
    wire.query("EXECUTE harmless").expect_fine("harmless");
    database.run("CREATE PROCEDURE swaps() PREPARE harmless FROM 'DELETE FROM logs'");
    wire.query("CALL swaps()");
    let outcome = wire.query("EXECUTE harmless");
    assert!(outcome.error().is_some() || database.count("logs") >= 495, "{outcome:?}");
    assert!(database.count("logs") >= 495);
}

fn texts_of_many_statements(server: &'static MyServer) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.my_connect(&database);
    for text in [
        "SELECT 1; DELETE FROM logs",
        "DELETE FROM logs WHERE id = 1; DELETE FROM logs; SELECT 1",
        "BEGIN; DELETE FROM logs; COMMIT",
        "SELECT 1;; TRUNCATE logs;",
        "INSERT INTO logs VALUES (1000, 'x', NULL); DROP TABLE logs",
    ] {
        Refused::any(&mut wire, text);
        assert_eq!(database.count("logs"), 500, "{text}: none of it runs");
    }
    let outcome = wire.query("SELECT 1; DELETE FROM logs WHERE id = 1; SELECT ROW_COUNT()");
    outcome.expect_fine("harmless all");
    assert_eq!(outcome.rows().last().expect("a row")[0].as_deref(), Some("1"));
}

/// What was prepared runs in the database that was chosen then: it is not judged in another.
fn prepared_in_another_database(server: &'static MyServer) {
    let (database, sluice) = shop(server);
    let mut choices = vec![query("USE information_schema"), body(command::INIT_DB, b"information_schema")];
    if server.is_mariadb() {
        database.run("CREATE PROCEDURE moves() EXECUTE IMMEDIATE 'USE information_schema'");
        let by_code = [
            "EXECUTE IMMEDIATE 'USE information_schema'",
            "EXECUTE IMMEDIATE concat('U', 'SE information_schema')",
            "SELECT 1; EXECUTE IMMEDIATE 'USE information_schema'",
            "SET STATEMENT max_statement_time = 5 FOR USE information_schema",
            "CALL moves()",
            "BEGIN NOT ATOMIC EXECUTE IMMEDIATE 'USE information_schema'; END",
        ];
        choices.extend(by_code.map(query));
    }
    for choose in choices {
        let mut wire = sluice.my_connect(&database);
        let shown = String::from_utf8_lossy(&choose).into_owned();
        let id = wire.prepare("DELETE FROM carts WHERE status = 'abandoned'");
        wire.query("PREPARE p FROM 'DROP TABLE IF EXISTS logs'").expect_fine("by SQL");
        let outcome = wire.command(&choose);
        // Code that Sluice asks about, or refuses, is not run.
        if outcome.error().is_some_and(|failure| (50001..=50007).contains(&failure.code)) {
            continue;
        }
        assert_eq!(wire.query("SELECT DATABASE()").value(), "information_schema", "{shown}: {outcome:?}");
        assert!((50001..=50007).contains(&wire.command(&execute(id, 0, &[])).code()), "{shown}");
        assert!((50001..=50007).contains(&wire.query("EXECUTE p").code()), "{shown}");
        assert_eq!((database.count("carts"), database.count("logs")), (5_000, 500), "{shown}");
        wire.query(&format!("USE {}", database.name)).expect_fine("back");
        assert_eq!(wire.prepared("SELECT ? + 1", &["1"]).rows().len(), 1, "{shown}: prepared anew");
    }
    // Nor is it prepared in vain for what only looks like it.
    let mut wire = sluice.my_connect(&database);
    let id = wire.prepare("SELECT count(*) FROM carts USE INDEX (PRIMARY) WHERE id < 3");
    for text in ["SET @use = 1", "SELECT id FROM carts USE INDEX (PRIMARY) WHERE id = 1", "/* use */ DO 1"] {
        wire.query(text).expect_fine(text);
        assert_eq!(wire.command(&execute(id, 0, &[])).rows().len(), 1, "{text}");
    }
}
