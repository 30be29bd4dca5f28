//! The gate: for each rule the refusal, the confirmation, the effect, and the line in the record.

use crate::harness::message::{bind, describe, execute, parse, query, sync, whole};
use crate::harness::server::{Database, SUPERUSER, Server};
use crate::harness::shop::{Refused, shop, shop_with};
use crate::harness::sluice::Sluice;
use crate::harness::stories;
use crate::harness::wire::Wire;

stories! {
    each_rule_asks_and_then_runs, each_rule_asks_by_the_extended_protocol, what_is_denied_stays_denied,
    a_preview_shows_what_it_would_do, ordinary_work_passes_unasked, changes_hidden_in_other_statements,
    a_stated_higher_limit, parameters_decide, binary_parameters, temporary_tables_are_ones_own,
    rows_that_the_user_cannot_see, the_questions_leave_no_trace, a_free_change_that_grew_is_rolled_back,
    a_change_that_was_said_to_be_one_row, observe_mode_refuses_nothing, off_is_off, scopes_decide_for_whom,
    names_are_resolved_as_the_server_does, estimates_are_called_estimates, characters_that_hide_a_quote, other_encodings_are_read_and_spoken_to,
    keys_seen_in_a_transaction_that_was_rolled_back, names_swapped_in_a_pipeline, another_pipelined_commit,
    conditions_that_keep_every_row, rights_and_guards_in_all_their_forms, what_is_worth_a_warning, a_freeze_stops_every_change, what_is_no_row_is_changed_on_record, a_script_runs_once, a_script_in_transactions,
}

struct Case {
    rule: &'static str,
    statement: &'static str,
    /// Asked before and after, straight from the server.
    probe: &'static str,
    after: &'static str,
    tag: &'static str,
}

const ASKED_ABOUT: &[Case] = &[
    Case {
        rule: "missing-where",
        statement: "DELETE FROM logs",
        probe: "SELECT count(*) FROM logs",
        after: "0",
        tag: "DELETE 500",
    },
    Case {
        rule: "missing-where",
        statement: "UPDATE logs SET line = 'x'",
        probe: "SELECT count(*) FROM logs WHERE line = 'x'",
        after: "500",
        tag: "UPDATE 500",
    },
    Case {
        rule: "always-true-where",
        statement: "UPDATE logs SET line = 'x' WHERE id = id",
        probe: "SELECT count(*) FROM logs WHERE line = 'x'",
        after: "500",
        tag: "UPDATE 500",
    },
    Case {
        rule: "unbatched-change",
        statement: "UPDATE carts SET note = 'n' WHERE status = 'abandoned'",
        probe: "SELECT count(*) FROM carts WHERE note = 'n'",
        after: "2000",
        tag: "UPDATE 2000",
    },
    Case {
        rule: "cascade",
        statement: "DELETE FROM carts WHERE id <= 60",
        probe: "SELECT count(*) || ' ' || (SELECT count(*) FROM cart_items) || ' ' || (SELECT count(*) FROM item_notes) FROM carts",
        after: "4940 9880 80",
        tag: "DELETE 60",
    },
    Case {
        rule: "truncate",
        statement: "TRUNCATE logs",
        probe: "SELECT count(*) FROM logs",
        after: "0",
        tag: "TRUNCATE TABLE",
    },
    Case {
        rule: "truncate",
        statement: "TRUNCATE carts CASCADE",
        probe: "SELECT count(*) FROM item_notes",
        after: "0",
        tag: "TRUNCATE TABLE",
    },
    Case {
        rule: "drop-data",
        statement: "DROP TABLE logs",
        probe: "SELECT to_regclass('logs') IS NULL",
        after: "t",
        tag: "DROP TABLE",
    },
    Case {
        rule: "drop-data",
        statement: "ALTER TABLE logs DROP COLUMN line",
        probe: "SELECT count(*) FROM pg_attribute WHERE attrelid = 'logs'::regclass AND attname = 'line'",
        after: "0",
        tag: "ALTER TABLE",
    },
    Case {
        rule: "mass-overwrite",
        statement: "INSERT INTO logs (id, kind) SELECT id, 'new' FROM carts WHERE id <= 400
            ON CONFLICT (id) DO UPDATE SET kind = excluded.kind",
        probe: "SELECT count(*) FROM logs WHERE kind = 'new'",
        after: "400",
        tag: "INSERT 0 400",
    },
    Case {
        rule: "unknown-effect",
        statement: "MERGE INTO logs USING carts ON logs.id = carts.id WHEN MATCHED THEN UPDATE SET kind = 'merged'",
        probe: "SELECT count(*) FROM logs WHERE kind = 'merged'",
        after: "500",
        tag: "MERGE 500",
    },
    Case {
        rule: "key-change",
        statement: "UPDATE logs SET id = id + 10000 WHERE id <= 200",
        probe: "SELECT count(*) FROM logs WHERE id > 10000",
        after: "200",
        tag: "UPDATE 200",
    },
    Case {
        rule: "privilege-change",
        statement: "GRANT SELECT ON logs TO other",
        probe: "SELECT has_table_privilege('other', 'logs', 'select')",
        after: "t",
        tag: "GRANT",
    },
    Case {
        rule: "drop-guard",
        statement: "ALTER TABLE logs DROP CONSTRAINT logs_pkey",
        probe: "SELECT count(*) FROM pg_constraint WHERE conname = 'logs_pkey'",
        after: "0",
        tag: "ALTER TABLE",
    },
    Case {
        rule: "not-rerunnable",
        statement: "UPDATE carts SET note = coalesce(note, '') || 'x' WHERE id = 7 /* sluice: script=notes */",
        probe: "SELECT coalesce(note, '') FROM carts WHERE id = 7",
        after: "x",
        tag: "UPDATE 1",
    },
    Case {
        rule: "unknown-effect",
        statement: "DO $$BEGIN DELETE FROM logs; END$$",
        probe: "SELECT count(*) FROM logs",
        after: "0",
        tag: "DO",
    },
];

/// Those, and one that is too long to be read.
fn asked_about() -> Vec<&'static Case> {
    let long = format!("DELETE FROM logs WHERE id IN ({})", vec!["7"; 60_000].join(","));
    let unread = Case {
        rule: "unread-statement",
        statement: Box::leak(long.into_boxed_str()),
        probe: "SELECT count(*) FROM logs WHERE id = 7",
        after: "0",
        tag: "DELETE 1",
    };
    ASKED_ABOUT.iter().chain([&*Box::leak(Box::new(unread))]).collect()
}

fn each_rule_asks_and_then_runs(server: &'static Server) {
    for case in asked_about() {
        let (database, sluice) = shop(server);
        let mut wire = sluice.connect(&database);
        asks_and_then_runs(&database, &sluice, case, |statement| {
            let outcome = wire.simple(statement);
            assert_eq!(outcome.status(), 'I');
            outcome
        });
    }
}

fn each_rule_asks_by_the_extended_protocol(server: &'static Server) {
    for case in asked_about() {
        let (database, sluice) = shop(server);
        let mut wire = sluice.connect(&database);
        asks_and_then_runs(&database, &sluice, case, |statement| {
            let outcome = wire.extended(statement, &[]);
            assert_eq!(outcome.status(), 'I');
            outcome
        });
    }
}

fn asks_and_then_runs(
    database: &Database,
    sluice: &Sluice,
    case: &Case,
    mut send: impl FnMut(&str) -> crate::harness::wire::Outcome,
) {
    let before = database.value(case.probe);
    assert_ne!(before, case.after, "{}: the probe shows no difference", case.statement);
    let refused = Refused::to_confirm(&send(case.statement));
    assert!(refused.names_rule(case.rule), "{}: {refused:?}", case.rule);
    assert_eq!(database.value(case.probe), before, "{} was refused and yet did something", case.statement);
    let confirmed = send(&format!("SLUICE CONFIRM '{}'", refused.token()));
    confirmed.expect_fine(case.statement);
    assert_eq!(confirmed.tags(), [case.tag], "{}", case.statement);
    assert_eq!(database.value(case.probe), case.after, "{}", case.statement);
    assert_recorded(sluice, case.rule);
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

fn what_is_denied_stays_denied(server: &'static Server) {
    let (database, sluice) = shop(server);
    for (rule, statement) in [
        ("too-many-rows", "DELETE FROM events WHERE kind = 'click'"),
        ("too-many-rows", "UPDATE events SET kind = 'x'"),
        ("guard-off", "SET session_replication_role = replica"),
        ("guard-off", "INSERT INTO pg_auth_members (roleid, member, grantor, admin_option) VALUES (10, 10, 10, true)"),
        (
            "guard-off",
            "INSERT INTO pg_catalog.pg_auth_members (roleid, member, grantor, admin_option) VALUES (10, 10, 10, true)",
        ),
        (
            "guard-off",
            "INSERT INTO \"pg_auth_members\" (roleid, member, grantor, admin_option) SELECT 10, 10, 10, true",
        ),
        (
            "guard-off",
            "INSERT INTO U&\"\\0070g_auth_members\" (roleid, member, grantor, admin_option) VALUES (10, 10, 10, true)",
        ),
        ("guard-off", "COPY pg_auth_members FROM STDIN"),
        ("guard-off", "SELECT set_config('session_replication_role', 'replica', false)"),
        ("guard-off", "ALTER TABLE logs DISABLE TRIGGER ALL"),
        ("outside-effects", "COPY logs TO '/tmp/sluice-test-logs'"),
        ("outside-effects", "COPY logs FROM PROGRAM 'true'"),
        ("outside-effects", "SELECT pg_read_file('PG_VERSION')"),
        ("outside-effects", "DELETE FROM logs WHERE line = pg_catalog.\"pg_read_file\"('PG_VERSION')"),
        ("outside-effects", "ALTER SYSTEM SET work_mem = '5MB'"),
        ("guard-off", "ALTER ROLE trusty SET session_replication_role = 'replica'"),
    ] {
        for extended in [false, true] {
            let mut wire = sluice.connect_as(SUPERUSER, &database);
            let outcome = if extended { wire.extended(statement, &[]) } else { wire.simple(statement) };
            let refused = Refused::denied(&outcome);
            assert!(refused.names_rule(rule), "{statement}: {refused:?}");
            assert!(!refused.hint.is_empty(), "a denial says what to do instead: {refused:?}");
            assert_eq!(outcome.status(), 'I');
            assert_eq!(wire.simple("SHOW session_replication_role").value(), "origin");
        }
    }
    assert_eq!(database.value("SELECT count(*) FROM events WHERE kind = 'click'"), "60000");
    // A setting of the startup packet is no way round.
    let mut wire = Wire::open(&sluice.address);
    let options =
        [("user", SUPERUSER), ("database", &database.name), ("options", "-c session_replication_role=replica")];
    wire.send(&crate::harness::message::startup(crate::harness::message::PROTOCOL_3_0, &options));
    assert_eq!(wire.until_closed().code(), "SL003");
}

fn a_preview_shows_what_it_would_do(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    let refused = Refused::to_confirm(&wire.simple("DELETE FROM carts WHERE status = 'abandoned'"));
    assert!(refused.message.contains("delete 2,000") && refused.message.contains("carts"), "{refused:?}");
    assert!(refused.message.contains("4,200 rows more by cascade"), "4,000 items and 200 notes: {refused:?}");
    for part in ["cart_items", "4,000", "cart_items_cart_id_fkey", "item_notes", "200", "first 10 rows", "abandoned"] {
        assert!(refused.detail.contains(part), "no {part} in {}", refused.detail);
    }
    assert!(refused.hint.contains("10 min") && refused.hint.contains("once"), "{}", refused.hint);
    let refused = Refused::to_confirm(&wire.simple("UPDATE logs SET line = 'after'"));
    assert!(
        refused.detail.contains("after") && refused.detail.contains("line 1"),
        "before → after: {}",
        refused.detail
    );
    database.run(
        "CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER logs_audit AFTER DELETE ON logs FOR EACH ROW EXECUTE FUNCTION noted()",
    );
    let refused = Refused::to_confirm(&wire.simple("DELETE FROM logs"));
    assert!(refused.detail.contains("logs_audit"), "a trigger is named: {}", refused.detail);
}

fn ordinary_work_passes_unasked(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    for (statement, tag) in [
        ("DELETE FROM logs WHERE id = 1", "DELETE 1"),
        ("DELETE FROM logs WHERE id BETWEEN 2 AND 101", "DELETE 100"),
        ("UPDATE carts SET note = 'x' WHERE id = 7", "UPDATE 1"),
        ("DELETE FROM carts WHERE id = 4711", "DELETE 1"),
        ("INSERT INTO logs SELECT n, 'bulk', NULL FROM generate_series(1000, 9000) n", "INSERT 0 8001"),
        ("DELETE FROM logs WHERE id = -1", "DELETE 0"),
        ("UPDATE logs SET line = line WHERE false", "UPDATE 0"),
        ("EXPLAIN DELETE FROM logs", "EXPLAIN"),
        ("CREATE TABLE more (id int)", "CREATE TABLE"),
        ("DROP TABLE more", "DROP TABLE"),
        ("CREATE INDEX ON logs (kind)", "CREATE INDEX"),
        ("DROP INDEX logs_kind_idx", "DROP INDEX"),
        ("CREATE VIEW odd AS SELECT * FROM logs WHERE kind = 'odd'", "CREATE VIEW"),
        ("DROP VIEW odd", "DROP VIEW"),
        ("VACUUM logs", "VACUUM"),
        ("UPDATE carts SET note = note || 'x' WHERE id = 7", "UPDATE 1"),
    ] {
        let outcome = wire.simple(statement);
        outcome.expect_fine(statement);
        assert_eq!(outcome.tags(), [tag], "{statement}");
        assert!(outcome.notices().is_empty(), "{statement}: {:?}", outcome.notices());
    }
}

fn changes_hidden_in_other_statements(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    for statement in [
        "WITH gone AS (DELETE FROM logs RETURNING id) SELECT count(*) FROM gone",
        "WITH gone AS (DELETE FROM logs RETURNING id) INSERT INTO logs SELECT id, 'x' FROM gone",
        "EXPLAIN ANALYZE DELETE FROM logs",
        "EXPLAIN (ANALYZE true) UPDATE logs SET line = 'x'",
        "EXPLAIN (ANALYZE) WITH gone AS (DELETE FROM logs RETURNING id) SELECT 1",
        "COPY (DELETE FROM logs RETURNING id) TO STDOUT",
        "CREATE TABLE kept AS WITH gone AS (DELETE FROM logs RETURNING *) SELECT * FROM gone",
        "/* harmless */ DELETE /* WHERE id = 1 */ FROM logs -- WHERE id = 1",
        "DELETE FROM ONLY public.logs AS l",
        "DELETE FROM \"logs\" USING carts WHERE carts.id = 1",
        "UPDATE logs SET line = 'x' FROM carts WHERE carts.id = 5",
        "DELETE FROM logs WHERE EXISTS (SELECT 1)",
        "DELETE FROM logs WHERE kind LIKE '%'",
        "DELETE FROM logs WHERE NOT (1 = 2)",
        "DELETE FROM logs WHERE id IS NOT NULL",
        "DELETE FROM logs WHERE id = 1 OR TRUE",
        "UPDATE logs SET line = 'x' RETURNING id",
        "MERGE INTO logs USING (SELECT 1) AS one ON true WHEN MATCHED THEN DELETE",
        "TRUNCATE ONLY logs, events",
        "DROP TABLE IF EXISTS nothing_here, logs",
        "DROP SCHEMA public CASCADE",
    ] {
        let outcome = wire.simple(statement);
        assert!(["SL001", "SL003"].contains(&outcome.code().as_str()), "{statement}: {outcome:#?}");
        Refused::of(&outcome);
        assert_eq!(outcome.status(), 'I');
    }
    // Prepared in SQL: nothing happens until it is executed.
    wire.simple("PREPARE clear AS DELETE FROM logs");
    Refused::of(&wire.simple("EXECUTE clear"));
    assert_eq!(database.value("SELECT count(*) FROM logs WHERE line LIKE 'line %'"), "500");
    assert_eq!(database.count("events"), 60_000);
}

fn a_stated_higher_limit(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    let statement = "DELETE FROM events WHERE kind = 'click'";
    Refused::denied(&wire.simple(statement));
    let refused = Refused::to_confirm(&wire.simple(&format!("/* sluice: max_affected=70000 */ {statement}")));
    assert!(refused.message.contains("60,000"), "{refused:?}");
    Refused::denied(&wire.simple(&format!("/* sluice: max_affected=59999 */ {statement}")));
    Refused::denied(&wire.simple(&format!("/* sluice: max_affected=99999999 */ {statement}")));
    wire.simple("SET sluice.max_affected = 70000").expect_fine("harmless without Sluice");
    let refused = Refused::to_confirm(&wire.simple(statement));
    let confirmed = wire.simple(&format!("SLUICE CONFIRM '{}'", refused.token()));
    assert_eq!(confirmed.tags(), ["DELETE 60000"], "{confirmed:#?}");
    assert_eq!(database.count("events"), 0);
}

fn parameters_decide(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    wire.send(&[parse("d", "DELETE FROM logs WHERE id <= $1", &[]), describe(b'S', "d"), sync()].concat());
    wire.until_ready().expect_fine("preparing does nothing");
    let mut run = |value: &str| {
        wire.send(&[bind("", "d", 0, &[Some(value.as_bytes())]), execute("", 0), sync()].concat());
        wire.until_ready()
    };
    assert_eq!(run("3").tags(), ["DELETE 3"], "few rows pass");
    database.run("INSERT INTO logs SELECT n, 'more' FROM generate_series(1001, 5000) n");
    let refused = Refused::to_confirm(&run("4000"));
    assert!(refused.message.contains("3,497"), "497 left of the 500, and 3,000 more: {refused:?}");
    assert_eq!(run("4").tags(), ["DELETE 1"], "the prepared statement is still there");
    let mut wire = sluice.connect(&database);
    let confirmed = wire.simple(&format!("SLUICE CONFIRM '{}'", refused.token()));
    assert_eq!(confirmed.tags(), ["DELETE 3496"], "with the values it was shown for: {confirmed:#?}");
    assert_eq!(database.value("SELECT min(id) FROM logs"), "4001");
}

fn binary_parameters(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    wire.send(&[parse("", "UPDATE carts SET note = $2 WHERE id <= $1", &[23, 25]), sync()].concat());
    wire.until_ready().expect_fine("prepared");
    wire.send(&[bind("", "", 1, &[Some(&3000i32.to_be_bytes()), Some(b"it's")]), execute("", 0), sync()].concat());
    let refused = Refused::to_confirm(&wire.until_ready());
    assert!(refused.message.contains("3,000"), "{refused:?}");
    wire.simple(&format!("SLUICE CONFIRM '{}'", refused.token())).expect_fine("confirmed");
    assert_eq!(database.value("SELECT count(*) FROM carts WHERE note = 'it''s'"), "3000");
}

fn temporary_tables_are_ones_own(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    wire.simple("CREATE TEMP TABLE scratch AS SELECT generate_series(1, 500) AS n").expect_fine("a table of one's own");
    assert_eq!(wire.simple("DELETE FROM scratch").tags(), ["DELETE 500"]);
    wire.simple("TRUNCATE scratch").expect_fine("nobody else's");
    wire.simple("DROP TABLE scratch").expect_fine("nobody else's");
    // A temporary table that hides the real one is a temporary table; dropped, the name means the real one again.
    wire.simple("CREATE TEMP TABLE logs (id int); INSERT INTO logs VALUES (1)").expect_fine("it hides the real one");
    assert_eq!(wire.simple("DELETE FROM logs").tags(), ["DELETE 1"]);
    wire.simple("DROP TABLE pg_temp.logs").expect_fine("gone");
    Refused::to_confirm(&wire.simple("DELETE FROM logs"));
    assert_eq!(database.count("public.logs"), 500);
}

fn rows_that_the_user_cannot_see(server: &'static Server) {
    let (database, sluice) = shop(server);
    database.run("CREATE TABLE secrets (id int PRIMARY KEY, owner text);
        INSERT INTO secrets SELECT n, CASE WHEN n <= 30 THEN 'other' ELSE 'somebody' END FROM generate_series(1, 3000) n;
        ALTER TABLE secrets ENABLE ROW LEVEL SECURITY;
        CREATE POLICY own ON secrets USING (owner = current_user); GRANT SELECT, DELETE ON secrets TO other;
        CREATE TABLE closed (id int, word text); INSERT INTO closed SELECT n, 'hush' FROM generate_series(1, 200) n;
        GRANT DELETE ON closed TO other");
    let mut wire = sluice.connect_as("other", &database);
    let refused = Refused::to_confirm(&wire.simple("DELETE FROM secrets"));
    assert!(
        refused.message.contains("30") && !refused.detail.contains("somebody"),
        "with the user's own eyes: {refused:?}"
    );
    // May delete but not look: nothing of the rows is shown, and it is said that they are unknown.
    let refused = Refused::of(&wire.simple("DELETE FROM closed"));
    assert!(!refused.detail.contains("hush") && refused.message.contains("unknown"), "{refused:?}");
    assert_eq!(wire.simple("DELETE FROM nowhere WHERE id = 1").status(), 'I');
}

fn the_questions_leave_no_trace(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    wire.simple("SET TimeZone = 'Asia/Tokyo'; SET statement_timeout = '77s'; SET lock_timeout = '5s'")
        .expect_fine("settings");
    wire.send(&[parse("", "SELECT 'unnamed'", &[]), sync()].concat());
    wire.until_ready();
    wire.send(&[parse("mine", "SELECT 'named'", &[]), sync()].concat());
    wire.until_ready();
    wire.send(&[parse("", "SELECT 'unnamed'", &[]), sync()].concat());
    wire.until_ready();
    let outcome = {
        wire.send(&query("DELETE FROM carts WHERE status = 'abandoned'"));
        wire.until_ready()
    };
    Refused::to_confirm(&outcome);
    assert!(outcome.notices().is_empty() && !outcome.letters().contains('S'), "{outcome:#?}");
    let settings = "SELECT string_agg(name || '=' || setting, ',' ORDER BY name) FROM pg_settings
        WHERE name IN ('TimeZone', 'statement_timeout', 'lock_timeout', 'transaction_read_only', 'search_path')";
    let expected = "TimeZone=Asia/Tokyo,lock_timeout=5000,search_path=\"$user\", public,statement_timeout=77000,transaction_read_only=off";
    assert_eq!(wire.simple(settings).value(), expected);
    assert_eq!(wire.simple("SELECT string_agg(name, ',') FROM pg_prepared_statements").value(), "mine");
    assert_eq!(wire.simple("SELECT count(*) FROM pg_cursors").value(), "0");
    assert_eq!(
        wire.simple("SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'tuple'").value(),
        "0"
    );
    wire.send(&[bind("", "mine", 0, &[]), execute("", 0), sync()].concat());
    assert_eq!(wire.until_ready().value(), "named");
    // In a transaction no snapshot is fixed earlier than the client's own statement would fix it.
    wire.simple("BEGIN ISOLATION LEVEL REPEATABLE READ").expect_fine("BEGIN");
    wire.simple("SAVEPOINT before");
    Refused::to_confirm(&wire.simple("DELETE FROM carts WHERE status = 'abandoned'"));
    wire.simple("ROLLBACK TO before").expect_fine("back");
    wire.simple("COMMIT").expect_fine("COMMIT");
    assert_eq!(
        database.value("SELECT xact_rollback < 100000 FROM pg_stat_database WHERE datname = current_database()"),
        "t"
    );
}

fn a_free_change_that_grew_is_rolled_back(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    // It is counted as ten rows. Before it runs, it has become hundreds: the lock lets reading pass and changing wait.
    let mut other = database.connect();
    other
        .simple("UPDATE logs SET kind = 'few' WHERE id <= 10; BEGIN; LOCK TABLE logs IN SHARE ROW EXCLUSIVE MODE")
        .expect_fine("a lock");
    let statement = "DELETE FROM logs WHERE kind = 'few'";
    wire.send(&query(statement));
    database.wait_until(
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')",
    );
    other.simple("UPDATE logs SET kind = 'few' WHERE id <= 400; COMMIT").expect_fine("more of them");
    let outcome = wire.until_ready();
    let refused = Refused::of(&outcome);
    assert_eq!((refused.code.as_str(), outcome.status()), ("SL004", 'I'), "{refused:?}");
    assert_eq!(database.count("logs"), 500, "rolled back");
    assert_eq!(sluice.verify_record().code, Some(0));
}

fn a_change_that_was_said_to_be_one_row(server: &'static Server) {
    // Pinned by a unique key: passes unasked, whatever the table holds.
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    for id in 1..=300 {
        let outcome = wire.simple(&format!("UPDATE events SET kind = 'seen' WHERE id = {id}"));
        assert_eq!(outcome.tags(), ["UPDATE 1"]);
    }
    for id in 301..=600 {
        assert_eq!(
            wire.extended("UPDATE events SET kind = 'seen' WHERE id = $1::int", &[&id.to_string()]).tags(),
            ["UPDATE 1"]
        );
    }
    assert_eq!(database.value("SELECT count(*) FROM events WHERE kind = 'seen'"), "600");
    // The key goes away behind our back. What is known of a table is believed for a short time: within it, the statement passes,
    // its tag tells, and nothing is believed any more. What is promised is that the surprise is recorded, not that it cannot be.
    database.run("ALTER TABLE events DROP CONSTRAINT events_pkey; UPDATE events SET id = 1 WHERE id <= 5000");
    let outcome = wire.simple("DELETE FROM events WHERE id = 1");
    if outcome.code().is_empty() {
        let surprised = |line: &serde_json::Value| {
            line["kind"] == "outcome" && line["actual_rows"] == 5000 && line["note"].is_string()
        };
        assert!(sluice.record().iter().any(surprised), "the surprise is recorded: {:#?}", sluice.record());
    }
    database.run("UPDATE events SET id = 2 WHERE id <= 9000");
    let outcome = wire.simple("DELETE FROM events WHERE id = 2");
    Refused::to_confirm(&outcome);
}

fn observe_mode_refuses_nothing(server: &'static Server) {
    let (database, sluice) = shop_with(server, |setup| setup.with("[policy]\nmode = \"observe\""));
    let mut wire = sluice.connect(&database);
    let outcome = wire.simple("DELETE FROM logs");
    assert_eq!(outcome.tags(), ["DELETE 500"], "{outcome:#?}");
    database.run("INSERT INTO logs SELECT n, 'again' FROM generate_series(1, 5000) AS n");
    let warned = wire.simple("UPDATE logs SET kind = kind || '!' WHERE kind LIKE 'again'");
    assert_eq!(warned.notices(), Vec::<String>::new(), "what enforce warns of, observe does not: {warned:#?}");
    let record = sluice.record();
    let warnings = record.iter().filter(|line| line.to_string().contains("not-rerunnable")).count();
    assert_eq!(warnings, 1, "it is recorded: {record:#?}");
    let seen = record
        .iter()
        .any(|line| line["mode"] == "observe" && line["level"] == "confirm" && line["kind"] == "statement");
    assert!(seen, "what would have been refused is recorded: {record:#?}");
    // The doors stay shut: what comes through them was judged by nobody.
    wire.send(&crate::harness::message::message(b'F', &[0, 0, 0, 177, 0, 0, 0, 0, 0, 0]));
    assert_eq!(wire.until_ready().code(), "SL003");
}

fn off_is_off(server: &'static Server) {
    let (database, sluice) = shop_with(server, |setup| setup.with("[policy]\nmode = \"off\""));
    let mut wire = sluice.connect(&database);
    let outcome = wire.simple("DELETE FROM logs");
    assert_eq!((outcome.tags(), outcome.notices()), (vec!["DELETE 500".to_owned()], vec![]));
}

fn scopes_decide_for_whom(server: &'static Server) {
    let scopes = "
[[scope]]
name = \"the cleaner\"
match = { user = [\"other\"], table = [\"public.logs\"] }
rules = { missing-where = \"allow\" }
[[scope]]
name = \"no drops\"
rules = { drop-data = \"deny\", truncate = \"warn\" }";
    let (database, sluice) = shop_with(server, |setup| setup.with(scopes));
    database.run("GRANT ALL ON ALL TABLES IN SCHEMA public TO other");
    let (mut trusty, mut other) = (sluice.connect(&database), sluice.connect_as("other", &database));
    Refused::to_confirm(&trusty.simple("DELETE FROM logs"));
    Refused::denied(&trusty.simple("DROP TABLE logs"));
    assert_eq!(other.simple("DELETE FROM logs").tags(), ["DELETE 500"]);
    let refused = Refused::to_confirm(&other.simple("UPDATE carts SET note = 'x'"));
    assert!(refused.names_rule("missing-where"), "another table: {refused:?}");
    let warned = trusty.simple("TRUNCATE events");
    assert_eq!(warned.tags(), ["TRUNCATE TABLE"]);
    assert!(warned.notices().iter().any(|notice| notice.contains("truncate")), "{warned:#?}");
    let explained = trusty.simple("SLUICE EXPLAIN DROP TABLE logs");
    let line =
        explained.rows().into_iter().find(|row| row[0].as_deref() == Some("drop-data")).expect("the rule is listed");
    let told = line.iter().flatten().cloned().collect::<Vec<_>>().join(" ");
    assert!(
        told.contains("deny") && told.contains("no drops") && told.contains("sluice.toml:"),
        "which line of which file: {told}"
    );
}

fn names_are_resolved_as_the_server_does(server: &'static Server) {
    let scopes = "[[scope]]\nmatch = { table = [\"staging.*\"] }\nrules = { missing-where = \"allow\" }";
    let (database, sluice) = shop_with(server, |setup| setup.with(scopes));
    database.run("CREATE SCHEMA staging; CREATE TABLE staging.logs AS SELECT * FROM logs; CREATE TABLE \"Staging.logs\" AS SELECT * FROM logs");
    let mut wire = sluice.connect(&database);
    assert_eq!(wire.simple("DELETE FROM staging.logs WHERE id <= 100").tags(), ["DELETE 100"]);
    Refused::to_confirm(&wire.simple("DELETE FROM logs"));
    Refused::to_confirm(&wire.simple("DELETE FROM \"Staging.logs\""));
    wire.simple("SET search_path = staging, public").expect_fine("another path");
    assert_eq!(wire.simple("DELETE FROM LOGS").tags(), ["DELETE 400"], "now the name means staging's");
    wire.simple("SET search_path = public").expect_fine("and back");
    Refused::to_confirm(&wire.simple("DELETE FROM logs"));
    assert_eq!(database.count("public.logs"), 500);
}

fn estimates_are_called_estimates(server: &'static Server) {
    let (database, sluice) = shop_with(server, |setup| setup.with("[limits]\npreview_timeout = \"300ms\""));
    database.run("CREATE FUNCTION slow(n int) RETURNS bool LANGUAGE plpgsql STABLE AS 'BEGIN PERFORM pg_sleep(0.05); RETURN true; END'");
    let mut wire = sluice.connect(&database);
    let started = std::time::Instant::now();
    let refused = Refused::of(&wire.simple("DELETE FROM logs WHERE slow(id)"));
    assert!(started.elapsed().as_secs() < 20, "a guard that hangs is an outage: {:?}", started.elapsed());
    let says = refused.message.contains("about")
        || refused.message.contains("at least")
        || refused.message.contains("unknown");
    assert!(says, "what was not counted is not called counted: {refused:?}");
    assert_eq!(database.count("logs"), 500);
    assert_eq!(wire.simple("SHOW statement_timeout").value(), "0");
}

fn characters_that_hide_a_quote(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    // In SJIS the last byte of the character and the backslash are one character: the server's string ends at the quote.
    let hidden = "SELECT E'\u{30c3}\\'; DELETE FROM logs; --'";
    wire.simple("SET client_encoding = 'SJIS'").expect_fine("harmless");
    assert!(wire.simple(hidden).code().starts_with("SL"));
    let mut pipelined = sluice.connect(&database);
    pipelined.send(&[query("SET client_encoding = 'SJIS'"), query(hidden)].concat());
    pipelined.until_ready().expect_fine("the first");
    assert_ne!(pipelined.until_ready().code(), "", "read when the first is done");
    assert_eq!(database.count("logs"), 500);
}

fn other_encodings_are_read_and_spoken_to(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    wire.simple("SET client_encoding = 'LATIN1'").expect_fine("harmless");
    for text in [&b"SELECT 'caf\xe9'"[..], b"INSERT INTO logs VALUES (900, 'odd', 'caf\xe9')"] {
        let mut message = vec![b'Q'];
        message.extend_from_slice(&(u32::try_from(text.len()).expect("short") + 5).to_be_bytes());
        message.extend_from_slice(text);
        message.push(0);
        wire.send(&message);
        wire.until_ready().expect_fine("read in its own encoding");
    }
    let refused = Refused::to_confirm(&wire.simple("UPDATE logs SET line = 'after'"));
    assert!(refused.detail.is_ascii() && refused.detail.contains("line ->"), "{refused:?}");
    assert_eq!(wire.simple(&format!("SLUICE CONFIRM '{}'", refused.token())).tags(), ["UPDATE 501"]);
}

fn keys_seen_in_a_transaction_that_was_rolled_back(server: &'static Server) {
    let (database, sluice) = shop(server);
    for undo in ["ROLLBACK", "ROLLBACK TO s"] {
        let fill = "INSERT INTO loose SELECT i, i FROM generate_series(1, 5000) i";
        database.run(&format!("DROP TABLE IF EXISTS loose; CREATE TABLE loose (n int, kind int); {fill}"));
        let mut wire = sluice.connect(&database);
        wire.simple("BEGIN").expect_fine("BEGIN");
        wire.simple("SAVEPOINT s").expect_fine("SAVEPOINT");
        wire.simple("CREATE UNIQUE INDEX only_for_now ON loose (n)").expect_fine("CREATE INDEX");
        assert_eq!(wire.simple("UPDATE loose SET kind = 0 WHERE n = 1").tags(), ["UPDATE 1"]);
        wire.simple(undo).expect_fine(undo);
        if undo == "ROLLBACK" {
            wire.simple("BEGIN").expect_fine("BEGIN");
        }
        for at in 0..5 {
            let statement = format!("INSERT INTO loose SELECT 1, {at} FROM generate_series(1, 900)");
            wire.simple(&statement).expect_fine("many of one number");
        }
        let outcome = wire.simple("DELETE FROM loose WHERE n = 1");
        assert_eq!(outcome.code(), "SL001", "no key bounds it any more: {outcome:#?}");
    }
}

fn names_swapped_in_a_pipeline(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    wire.send(&[parse("p", "SELECT 1", &[]), sync()].concat());
    wire.until_ready().expect_fine("prepared");
    // The second Parse fails, its name is given up and given away again, all before an answer is read.
    wire.send(
        &[
            [parse("p", "SELECT 2", &[]), sync()].concat(),
            query("DEALLOCATE ALL"),
            query("PREPARE p AS DELETE FROM logs"),
            [bind("", "p", 0, &[]), execute("", 0), sync()].concat(),
        ]
        .concat(),
    );
    let outcomes: Vec<_> = (0..4).map(|_| wire.until_ready()).collect();
    assert_eq!(outcomes[0].code(), "42P05");
    assert_eq!(outcomes[3].code(), "SL001", "{outcomes:#?}");
    assert_eq!(database.count("logs"), 500);
}

fn another_pipelined_commit(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    let mut other = database.connect();
    wire.send(&[parse("few", "DELETE FROM logs WHERE kind = 'few'", &[]), sync()].concat());
    wire.until_ready().expect_fine("prepared before the lock, which a Parse would wait for");
    other
        .simple("UPDATE logs SET kind = 'few' WHERE id <= 10; BEGIN; LOCK TABLE logs IN SHARE ROW EXCLUSIVE MODE")
        .expect_fine("a lock");
    // The COMMIT stands right behind the change, before any Sync: it must not be sent before the change is known to be small.
    wire.simple("BEGIN").expect_fine("BEGIN");
    wire.send(&[bind("", "few", 0, &[]), execute("", 0), whole("COMMIT", &[]), sync()].concat());
    database.wait_until(
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')",
    );
    other.simple("UPDATE logs SET kind = 'few' WHERE id <= 400; COMMIT").expect_fine("more of them");
    let outcome = wire.until_ready();
    assert_eq!((outcome.code().as_str(), outcome.status()), ("SL004", 'E'), "{outcome:#?}");
    wire.simple("COMMIT").expect_fine("which rolls back");
    assert_eq!(database.count("logs"), 500);
}

fn what_is_worth_a_warning(server: &'static Server) {
    let (database, sluice) = shop(server);
    database.run(
        "CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER carts_note BEFORE UPDATE OF note ON carts FOR EACH ROW EXECUTE FUNCTION noted();
        CREATE TABLE copies (id int)",
    );
    let mut wire = sluice.connect(&database);
    for (statement, tag, rules) in [
        (
            "UPDATE carts SET note = 'x' WHERE id BETWEEN 1 AND 200",
            "UPDATE 200",
            &["fires-triggers", "carts_note", "noted()"][..],
        ),
        ("UPDATE carts SET status = 'x' WHERE id BETWEEN 1 AND 200", "UPDATE 200", &[]),
        ("DELETE FROM events WHERE kind = 'never'", "DELETE 0", &["full-scan-change", "60,000"]),
        ("DELETE FROM events WHERE id BETWEEN 1 AND 5", "DELETE 5", &[]),
        (
            "DELETE FROM logs WHERE id IN (SELECT id FROM logs ORDER BY id LIMIT 5 OFFSET 5)",
            "DELETE 5",
            &["offset-paging"],
        ),
        ("INSERT INTO copies SELECT id FROM logs ORDER BY id LIMIT 5 OFFSET 5", "INSERT 0 5", &["offset-paging"]),
        ("UPDATE carts SET status = status || '!' WHERE id BETWEEN 1 AND 200", "UPDATE 200", &["not-rerunnable"]),
        ("UPDATE carts SET status = status || '!' WHERE id BETWEEN 1 AND 50", "UPDATE 50", &[]),
    ] {
        let outcome = wire.simple(statement);
        assert_eq!(outcome.tags(), [tag], "{statement}: {outcome:#?}");
        let notices = outcome.notices();
        let said = rules.iter().all(|word| notices.iter().any(|notice| notice.contains(word)));
        assert!(said && notices.is_empty() == rules.is_empty(), "{statement}: {notices:?}");
    }
}

fn a_freeze_stops_every_change(server: &'static Server) {
    let freeze = "[[freeze]]\nname = \"year's end\"\nreason = \"books\"\nexcept = { user = \"other\" }";
    let (database, sluice) = shop_with(server, |setup| setup.with(freeze));
    database.run("GRANT ALL ON ALL TABLES IN SCHEMA public TO other; CREATE SEQUENCE numbers");
    database.run("SELECT lo_from_bytea(770001, '\\x00010203')");
    let mut wire = sluice.connect(&database);
    for (function, argument) in [(955, 0), (957, 0x60000), (715, 770002)] {
        wire.send(&function_call(function, &[&i32::to_be_bytes(argument), b"x"]));
        assert!(Refused::denied(&wire.until_ready()).names_rule("change-freeze"), "{function}");
    }
    for statement in [
        "INSERT INTO logs VALUES (900, 'new', NULL)",
        "INSERT INTO logs SELECT 901, 'new', NULL",
        "UPDATE logs SET line = 'x' WHERE id = 1",
        "CREATE TABLE more (id int)",
        "DO 'BEGIN END'",
        "COPY logs FROM STDIN",
        "SELECT lo_put(770001, 0, '\\xff')",
        "SELECT lowrite(0, '\\xff')",
        "SELECT lo_create(770002)",
        "SELECT setval('numbers', 7)",
    ] {
        for extended in [false, true] {
            let outcome = if extended { wire.extended(statement, &[]) } else { wire.simple(statement) };
            let refused = Refused::denied(&outcome);
            assert!(
                refused.names_rule("change-freeze") && refused.message.contains("books"),
                "{statement}: {refused:?}"
            );
            assert_eq!(outcome.status(), 'I');
        }
    }
    for statement in [
        "SELECT count(*) FROM logs",
        "CREATE TEMP TABLE scratch (id int)",
        "INSERT INTO scratch VALUES (1)",
        "DELETE FROM scratch",
        "DROP TABLE scratch",
        "BEGIN",
        "COMMIT",
        "SET work_mem = '5MB'",
    ] {
        wire.simple(statement).expect_fine(statement);
    }
    let explained = wire.simple("SLUICE EXPLAIN DELETE FROM logs WHERE id = 1").rows();
    let row = explained.iter().find(|row| row[0].as_deref() == Some("change-freeze")).expect("the rule is listed");
    assert!(row[2].as_deref().is_some_and(|from| from.contains("[[freeze]] \"year's end\"")), "{row:?}");
    assert_eq!(
        sluice.connect_as("other", &database).simple("INSERT INTO logs VALUES (902, 'new')").tags(),
        ["INSERT 0 1"]
    );
    assert_eq!(database.count("logs"), 501);
}

/// FunctionCall with arguments and result in binary form.
fn function_call(function: i32, arguments: &[&[u8]]) -> Vec<u8> {
    let mut body = [&function.to_be_bytes()[..], &[0, 1, 0, 1], &(arguments.len() as i16).to_be_bytes()].concat();
    for argument in arguments {
        body.extend([&(argument.len() as i32).to_be_bytes()[..], argument].concat());
    }
    body.extend([0, 1]);
    crate::harness::message::message(b'F', &body)
}

fn what_is_no_row_is_changed_on_record(server: &'static Server) {
    let (database, sluice) = shop(server);
    database.run("CREATE SEQUENCE numbers");
    let mut wire = sluice.connect(&database);
    for statement in ["SELECT lo_from_bytea(770001, '\\x00010203')", "SELECT setval('numbers', 7)"] {
        wire.simple(statement).expect_fine(statement);
    }
    wire.extended("SELECT lo_put(770001, 1, $1)", &["\\xff"]).expect_fine("lo_put");
    // As psql's \lo_import does it.
    let make = |wire: &mut Wire, oid: i32| wire.send(&function_call(715, &[&oid.to_be_bytes()]));
    for oid in [770_002i32, 770_003] {
        wire.simple("BEGIN").expect_fine("BEGIN");
        make(&mut wire, oid);
        wire.until_ready().expect_fine("lo_create");
        wire.send(&function_call(952, &[&oid.to_be_bytes(), &0x60000i32.to_be_bytes()]));
        wire.until_ready().expect_fine("lo_open");
        for part in [b"abc", b"def", b"ghi"] {
            wire.send(&function_call(955, &[&0i32.to_be_bytes(), part]));
            wire.until_ready().expect_fine("lowrite");
        }
        wire.simple("COMMIT").expect_fine("COMMIT");
    }
    assert_eq!(wire.simple("SELECT convert_from(lo_get(770003), 'UTF8')").value(), "abcdefghi");
    let record = sluice.record();
    let lines = |part: &str| {
        let texts =
            record.iter().filter(|line| line["kind"] == "statement").filter_map(|line| line["statement"].as_str());
        texts.filter(|text| text.contains(part)).count()
    };
    let told =
        ["lo_from_bytea(", "setval(", "lo_put(", "lo_create() by the function-call", "lowrite() by the function-call"];
    assert_eq!(told.map(lines), [1, 1, 1, 2, 2], "one line for each object's bytes: {record:#?}");
    assert_eq!(lines("lo_open"), 0);
}

fn a_script_runs_once(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    let ran = |outcome: &crate::harness::wire::Outcome| {
        let refused = Refused::denied(outcome);
        assert!(refused.names_rule("already-ran") && refused.message.contains("ran on"), "{refused:?}");
        refused
    };
    let statement = "DELETE FROM logs WHERE id = 1 /* sluice: script=status */";
    assert_eq!(wire.simple(statement).tags(), ["DELETE 1"]);
    assert!(ran(&wire.simple(statement)).message.contains("by trusty"));
    ran(&wire.extended(statement, &[]));
    let laid_out = "-- the same again\ndelete from logs\n  where id=1 /* sluice: script=status */;";
    assert_eq!(Refused::of(&wire.simple(laid_out)).code, "SL003", "another layout is no other statement");
    assert_eq!(wire.simple("DELETE FROM logs WHERE id = 1 /* sluice: script=other */").tags(), ["DELETE 0"]);
    assert_eq!(wire.simple("DELETE FROM logs WHERE id = 1 /* sluice: script=status step=2 */").tags(), ["DELETE 0"]);
    // What failed did not run; values tell statements apart.
    for _ in 0..2 {
        assert_eq!(wire.simple("UPDATE logs SET kind = NULL WHERE id = 3 /* sluice: script=status */").code(), "23502");
    }
    let bound = "DELETE FROM logs WHERE id = $1::int /* sluice: script=status */";
    assert_eq!(wire.extended(bound, &["4"]).tags(), ["DELETE 1"]);
    assert_eq!(wire.extended(bound, &["5"]).tags(), ["DELETE 1"]);
    ran(&wire.extended(bound, &["4"]));
    // On the session: inserts too, and reads not.
    wire.simple("SET sluice.script = 'inserts'").expect_fine("harmless without Sluice");
    let insert = "INSERT INTO logs VALUES (900, 'new') ON CONFLICT DO NOTHING";
    assert_eq!(wire.simple(insert).tags(), ["INSERT 0 1"]);
    ran(&wire.simple(insert));
    ran(&wire.extended(insert, &[]));
    for _ in 0..2 {
        wire.simple("SELECT count(*) FROM logs").expect_fine("a read");
        wire.simple("BEGIN; COMMIT").expect_fine("nothing in it");
    }
    wire.simple("RESET sluice.script").expect_fine("no script any more");
    assert_eq!(wire.simple(insert).tags(), ["INSERT 0 0"]);
    // On purpose.
    let again = statement.replace("script", "rerun=\"OPS 7\" script");
    let refused = Refused::to_confirm(&wire.simple(&again));
    assert!(refused.names_rule("already-ran"), "{refused:?}");
    assert_eq!(wire.simple(&format!("SLUICE CONFIRM '{}'", refused.token())).tags(), ["DELETE 0"]);
    // What is confirmed is entered, too.
    let builds = "UPDATE carts SET note = coalesce(note, '') || 'x' WHERE id = 8 /* sluice: script=status */";
    let refused = Refused::to_confirm(&wire.extended(builds, &[]));
    assert_eq!(wire.simple(&format!("SLUICE CONFIRM '{}'", refused.token())).tags(), ["UPDATE 1"]);
    ran(&wire.simple(builds));
    assert_eq!(database.value("SELECT note FROM carts WHERE id = 8"), "x");
    // Another session of another user, and what is listed.
    ran(&sluice.connect_as(SUPERUSER, &database).simple(statement));
    let listed = wire.simple("SLUICE SCRIPTS").rows();
    let status = listed.iter().find(|row| row[0].as_deref() == Some("status")).expect("it is listed");
    assert_eq!((status[1].as_deref(), status[2].as_deref()), (Some("5"), Some("0")), "{listed:?}");
}

fn a_script_in_transactions(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    let statement = |id: u32| format!("DELETE FROM logs WHERE id = {id} /* sluice: script=moved */");
    let denied = |outcome: &crate::harness::wire::Outcome, word: &str| {
        let refused = Refused::denied(outcome);
        assert!(refused.names_rule("already-ran") && refused.message.contains(word), "{refused:?}");
    };
    for end in ["ROLLBACK", "COMMIT"] {
        wire.simple("BEGIN").expect_fine("BEGIN");
        assert_eq!(wire.simple(&statement(1)).tags(), ["DELETE 1"], "before {end}");
        assert_eq!(wire.extended(&statement(2), &[]).tags(), ["DELETE 1"]);
        denied(&sluice.connect(&database).simple(&statement(1)), "not known");
        wire.simple(end).expect_fine(end);
    }
    denied(&wire.simple(&statement(1)), "ran on");
    denied(&wire.simple(&statement(2)), "ran on");
    assert_eq!(database.count("logs"), 498);
    // Whoever goes away in the middle has left nothing behind.
    let mut gone = sluice.connect(&database);
    gone.simple("BEGIN").expect_fine("BEGIN");
    assert_eq!(gone.simple(&statement(3)).tags(), ["DELETE 1"]);
    drop(gone);
    database.wait_until("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' AND datname = current_database())");
    assert_eq!(wire.simple(&statement(3)).tags(), ["DELETE 1"]);
    // A pipeline is one transaction: what fails takes what stood before it along.
    let pipeline = [
        whole(&statement(4), &[]),
        whole("UPDATE logs SET kind = NULL WHERE id = 5 /* sluice: script=moved */", &[]),
        sync(),
    ];
    wire.send(&pipeline.concat());
    assert_eq!(wire.until_ready().code(), "23502");
    assert_eq!(wire.simple(&statement(4)).tags(), ["DELETE 1"], "it was rolled back");
    let listed = wire.simple("SLUICE SCRIPTS").rows();
    assert_eq!((listed[0][1].as_deref(), listed[0][2].as_deref()), (Some("4"), Some("0")), "{listed:?}");
}

fn conditions_that_keep_every_row(server: &'static Server) {
    let (database, sluice) = shop(server);
    database.run(
        "CREATE TABLE few (id int PRIMARY KEY, big bigint NOT NULL, name text NOT NULL, flag bool NOT NULL, hole int);
        INSERT INTO few VALUES (-2147483648, 1, '', true, NULL), (0, 0, 'x', false, 1), (2147483647, -5000000000, 'abc', true, 2)",
    );
    let mut wire = sluice.connect(&database);
    for condition in [
        "id + 0 = id",
        "id * 1 = id",
        "id - id = 0",
        "id * 0 = 0",
        "name || '' = name",
        "CASE WHEN flag THEN true ELSE id = id END",
        "CASE WHEN flag THEN 1 ELSE 2 END > 0",
        "id >= -2147483648 AND id <= 2147483647",
        "big BETWEEN -9223372036854775808 AND 9223372036854775807",
        "hole IS NULL OR hole IS NOT NULL",
        "hole IS NULL OR hole < 2 OR hole >= 2",
        "id < big OR id >= big",
        "few = few",
        "few.* IS NOT DISTINCT FROM few",
        "id IN (SELECT id FROM few)",
        "id IN (SELECT f.id FROM few f WHERE f.name IS NOT NULL)",
        "EXISTS (SELECT 1 FROM few f WHERE f.id = few.id)",
        "EXISTS (SELECT 1 FROM few f WHERE f.id = id)",
        "COALESCE(id, id) = id",
        "length(name) >= 0",
        "name::text = name::text",
        "lower(name) = lower(name)",
        "name SIMILAR TO '%'",
        "id BETWEEN id AND id",
        "1 = ANY (ARRAY[1])",
        "now() > '2000-01-01'",
        "current_date > '2000-01-01'",
        "now() - interval '1 day' > '2000-01-01'",
    ] {
        let left_out = format!("SELECT count(*) FROM few WHERE ({condition}) IS NOT TRUE");
        assert_eq!(database.value(&left_out), "0", "it does keep every row: {condition}");
        let refused = Refused::to_confirm(&wire.simple(&format!("DELETE FROM few WHERE {condition}")));
        assert!(
            refused.names_rule("always-true-where") || refused.names_rule("missing-where"),
            "{condition}: {refused:?}"
        );
    }
    let joined = Refused::to_confirm(&wire.simple("DELETE FROM few USING (SELECT 1) one WHERE one IS NOT NULL"));
    assert!(joined.names_rule("always-true-where"), "{joined:?}");
    for (condition, tag) in [
        ("few IS NOT NULL AND id = 0", "DELETE 1"),
        ("big >= -2147483648 AND id < 0", "DELETE 1"),
        ("few IS NOT NULL", "DELETE 1"),
    ] {
        assert_eq!(wire.simple(&format!("DELETE FROM few WHERE {condition}")).tags(), [tag], "{condition}");
    }
}

/// What the server would not run it would refuse itself: so each of these is one that it understands.
fn rights_and_guards_in_all_their_forms(server: &'static Server) {
    let (database, sluice) = shop(server);
    database.run(
        "CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER audit AFTER DELETE ON logs FOR EACH ROW EXECUTE FUNCTION noted();
        CREATE RULE keep AS ON DELETE TO events DO INSTEAD NOTHING;
        CREATE DOMAIN positive AS int NOT NULL CONSTRAINT above CHECK (VALUE > 0);
        CREATE POLICY own ON carts USING (true);
        CREATE TABLE all_logs (id int, kind text, line text); ALTER TABLE logs INHERIT all_logs;
        SELECT lo_from_bytea(990001, '\\x01')",
    );
    let mut wire = sluice.connect_as(SUPERUSER, &database);
    for (rule, statement) in [
        ("privilege-change", "GRANT SELECT (id) ON logs TO other WITH GRANT OPTION"),
        ("privilege-change", "REVOKE ALL ON SCHEMA public FROM PUBLIC"),
        ("privilege-change", "GRANT trusty TO other"),
        ("privilege-change", "CREATE ROLE somebody"),
        ("privilege-change", "ALTER ROLE other CREATEDB"),
        ("privilege-change", "ALTER ROLE other SET work_mem = '5MB'"),
        ("privilege-change", "ALTER ROLE ALL SET work_mem = '5MB'"),
        ("privilege-change", "ALTER ROLE other RENAME TO another"),
        ("privilege-change", "ALTER TABLE logs OWNER TO other"),
        ("privilege-change", "ALTER FUNCTION noted() OWNER TO other"),
        ("privilege-change", "ALTER SCHEMA public OWNER TO other"),
        ("privilege-change", "ALTER LARGE OBJECT 990001 OWNER TO other"),
        ("privilege-change", "REASSIGN OWNED BY trusty TO other"),
        ("privilege-change", "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO other"),
        ("privilege-change", "CREATE POLICY all_of_them ON carts USING (true)"),
        ("privilege-change", "ALTER POLICY own ON carts USING (false)"),
        ("privilege-change", "DROP POLICY own ON carts"),
        ("privilege-change", "ALTER TABLE carts ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"),
        ("privilege-change", "ALTER FUNCTION noted() SECURITY DEFINER"),
        ("privilege-change", "CREATE SCHEMA mine CREATE TABLE t (id int) GRANT SELECT ON t TO other"),
        ("drop-guard", "ALTER TABLE cart_items DROP CONSTRAINT cart_items_cart_id_fkey"),
        ("drop-guard", "ALTER TABLE logs ALTER kind DROP NOT NULL"),
        ("drop-guard", "DROP TRIGGER audit ON logs"),
        ("drop-guard", "DROP RULE keep ON events"),
        ("drop-guard", "ALTER DOMAIN positive DROP CONSTRAINT above"),
        ("drop-guard", "ALTER DOMAIN positive DROP NOT NULL"),
        ("drop-guard", "ALTER TABLE events SET UNLOGGED"),
        ("drop-data", "ALTER TABLE logs NO INHERIT all_logs"),
        ("drop-data", "SELECT lo_unlink(990001)"),
    ] {
        let refused = Refused::to_confirm(&wire.simple(statement));
        assert!(refused.names_rule(rule), "{statement}: {refused:?}");
    }
    for (rule, statement) in [
        ("guard-off", "ALTER TABLE logs DISABLE TRIGGER audit"),
        ("guard-off", "ALTER TABLE logs DISABLE TRIGGER USER"),
        ("guard-off", "ALTER TABLE logs ENABLE REPLICA TRIGGER audit"),
        ("guard-off", "ALTER TABLE events DISABLE RULE keep"),
        ("outside-effects", "CREATE FUNCTION read(text) RETURNS text LANGUAGE internal AS 'pg_read_file_all'"),
        ("outside-effects", "SELECT * FROM pg_ls_dir('.')"),
        ("outside-effects", "SELECT lo_export(990001, '/tmp/sluice-test-object')"),
        ("outside-effects", "SELECT pg_logical_emit_message(false, 'x', 'y')"),
        ("outside-effects", "CREATE PUBLICATION everything FOR ALL TABLES"),
        ("outside-effects", "COPY (SELECT 1) TO PROGRAM 'cat'"),
    ] {
        for extended in [false, true] {
            let refused =
                Refused::denied(&if extended { wire.extended(statement, &[]) } else { wire.simple(statement) });
            assert!(refused.names_rule(rule), "{statement}: {refused:?}");
        }
    }
    assert_eq!(
        database.value("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'logs'::regclass AND tgenabled = 'O'"),
        "1"
    );
}
