//! A refusal in the midst of other things: in a transaction, in a text of several statements, in a pipeline. It is what any error
//! of the server would be in its place.

use crate::harness::message::{bind, close, describe, execute, flush, parse, query, sync, whole};
use crate::harness::server::{Database, Server};
use crate::harness::shop::{Refused, shop};
use crate::harness::sluice::Sluice;
use crate::harness::stories;
use crate::harness::wire::Wire;

stories! {
    a_failed_parse_behind_a_sync, a_transaction_that_ends_in_the_pipeline, statements_that_pave_the_way, counts_that_see_themselves_counted,
    answers_of_several_statements_in_their_order, the_catalog_itself, portals_run_in_other_ways, a_cte_of_the_targets_name, copy_that_is_abandoned,
    a_refusal_fails_the_transaction, a_savepoint_takes_it_back, confirming_within_a_transaction, a_failed_transaction_confirms_nothing,
    a_text_of_several_statements, a_pipeline_around_a_refusal, a_refusal_answers_like_an_error, a_refusal_before_a_flush,
    two_refusals_in_one_pipeline, a_refusal_between_two_syncs, preparing_is_not_running, the_same_text_under_another_mode, a_portal_run_twice,
    transactions_begun_within_a_pipeline, confirming_by_the_extended_protocol, commands_in_a_pipeline, sql_level_prepare,
    a_refused_copy, serializable_transactions, statements_that_cannot_run_in_a_transaction,
}

fn a_refusal_fails_the_transaction(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    assert_eq!(wire.simple("BEGIN").status(), 'T');
    wire.simple("INSERT INTO logs VALUES (1001, 'first')").expect_fine("ordinary work");
    let outcome = wire.simple("DELETE FROM logs");
    Refused::to_confirm(&outcome);
    assert_eq!(outcome.status(), 'E');
    assert_eq!(outcome.letters(), "EZ");
    assert_eq!(wire.simple("SELECT 1").code(), "25P02", "the server itself holds it to be failed");
    let committed = wire.simple("COMMIT");
    assert_eq!((committed.tags(), committed.status()), (vec!["ROLLBACK".to_owned()], 'I'), "as PostgreSQL answers it");
    assert_eq!(database.count("logs"), 500, "a script that goes on after an error commits nothing of it");
}

fn a_savepoint_takes_it_back(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    wire.simple("BEGIN; INSERT INTO logs VALUES (1001, 'first'); SAVEPOINT before").expect_fine("ordinary work");
    assert_eq!(wire.simple("DELETE FROM logs").status(), 'E');
    assert_eq!(wire.simple("ROLLBACK TO before").status(), 'T');
    wire.simple("INSERT INTO logs VALUES (1002, 'second')").expect_fine("it goes on");
    assert_eq!(wire.simple("COMMIT").tags(), ["COMMIT"]);
    assert_eq!(database.count("logs"), 502);
}

fn confirming_within_a_transaction(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    for (end, left) in [("ROLLBACK", 500), ("COMMIT", 0)] {
        wire.simple("BEGIN").expect_fine("BEGIN");
        let token = Refused::to_confirm(&wire.simple("DELETE FROM logs")).token();
        wire.simple("ROLLBACK").expect_fine("first");
        wire.simple("BEGIN").expect_fine("BEGIN");
        let confirmed = wire.simple(&format!("SLUICE CONFIRM '{token}'"));
        assert_eq!((confirmed.tags(), confirmed.status()), (vec!["DELETE 500".to_owned()], 'T'), "{confirmed:#?}");
        assert_eq!(database.count("logs"), 500, "not committed yet");
        wire.simple(end).expect_fine(end);
        assert_eq!(database.count("logs"), left);
    }
}

fn a_failed_transaction_confirms_nothing(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    wire.simple("BEGIN").expect_fine("BEGIN");
    let token = Refused::to_confirm(&wire.simple("DELETE FROM logs")).token();
    let outcome = wire.simple(&format!("SLUICE CONFIRM '{token}'"));
    assert_eq!(outcome.status(), 'E');
    assert_ne!(outcome.code(), "", "{outcome:#?}");
    assert_eq!(database.count("logs"), 500);
    wire.simple("ROLLBACK").expect_fine("ROLLBACK");
    assert_eq!(wire.simple(&format!("SLUICE CONFIRM '{token}'")).tags(), ["DELETE 500"], "the token is still good");
}

fn a_text_of_several_statements(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    for text in [
        "INSERT INTO logs VALUES (1001, 'a'); DELETE FROM logs; INSERT INTO logs VALUES (1002, 'b')",
        "BEGIN; INSERT INTO logs VALUES (1001, 'a'); COMMIT; DELETE FROM logs",
        "DELETE FROM logs; SELECT 1",
        "SELECT 1; SELECT 2; TRUNCATE logs;",
    ] {
        let outcome = wire.simple(text);
        let refused = Refused::of(&outcome);
        assert_eq!(
            (refused.code.as_str(), outcome.letters().as_str(), outcome.status()),
            ("SL001", "EZ", 'I'),
            "{text}: {refused:?}"
        );
        assert!(!refused.hint.contains("SLUICE CONFIRM"), "only a statement sent alone can be confirmed: {refused:?}");
        assert!(refused.hint.contains("alone"), "it says which to send alone: {refused:?}");
    }
    assert_eq!(database.value("SELECT count(*) || ' ' || max(id) FROM logs"), "500 500", "none of any was run");
    // In a transaction it fails as a whole text would that begins with an error.
    wire.simple("BEGIN").expect_fine("BEGIN");
    assert_eq!(wire.simple("INSERT INTO logs VALUES (1001, 'a'); DELETE FROM logs").status(), 'E');
    wire.simple("ROLLBACK").expect_fine("ROLLBACK");
}

/// What came before the refusal was sent, and is answered; it is rolled back with the implicit transaction; what came after was
/// not sent.
fn a_pipeline_around_a_refusal(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    let add = |id: &str| whole("INSERT INTO logs VALUES ($1, 'added')", &[Some(id.as_bytes())]);
    let refused = whole("DELETE FROM logs", &[]);
    wire.send(&[add("1001"), add("1002"), refused, add("1003"), sync()].concat());
    let outcome = wire.until_ready();
    Refused::to_confirm(&outcome);
    assert_eq!(outcome.tags(), ["INSERT 0 1", "INSERT 0 1"], "answered in order: {outcome:#?}");
    assert_eq!(outcome.status(), 'I');
    assert_eq!(database.count("logs"), 500, "as after any error");
    wire.send(&[add("1004"), sync()].concat());
    wire.until_ready().expect_fine("the next pipeline is a new one");
    assert_eq!(database.count("logs"), 501);
}

/// The same scripts with a refused statement and with one that the server refuses: the same messages, the same status, the same
/// effects; only the error differs.
fn a_refusal_answers_like_an_error(server: &'static Server) {
    let add = |id: &str| whole("INSERT INTO logs VALUES ($1, 'added')", &[Some(id.as_bytes())]);
    type Script = fn(&dyn Fn(&str) -> Vec<u8>, &[u8]) -> Vec<Vec<u8>>;
    let scripts: &[Script] = &[
        |_, bad| vec![[bad, &sync()].concat()],
        |add, bad| vec![[&add("1001"), bad, &add("1002"), &sync()].concat(), [add("1003"), sync()].concat()],
        |add, bad| {
            vec![[&query("BEGIN")[..]].concat(), [&add("1001"), bad, &add("1002"), &sync()].concat(), query("COMMIT")]
        },
        |add, bad| {
            let begin = whole("BEGIN", &[]);
            let commit = whole("COMMIT", &[]);
            vec![
                [&begin, &add("1001"), bad, &commit, &sync()].concat(),
                [add("1002"), sync()].concat(),
                query("ROLLBACK"),
            ]
        },
        |add, bad| {
            let savepoint = whole("SAVEPOINT a", &[]);
            vec![
                query("BEGIN"),
                [&add("1001"), &savepoint, bad, &sync()].concat(),
                query("ROLLBACK TO a"),
                [add("1002"), sync()].concat(),
                query("COMMIT"),
            ]
        },
        |_, bad| vec![[bad, bad, &close(b'S', "x"), &describe(b'S', "nobody"), &sync()].concat()],
    ];
    for (at, script) in scripts.iter().enumerate() {
        let told = |sluice: &Sluice, database: &Database, bad: &[u8]| {
            let mut wire = sluice.connect(database);
            let mut letters = Vec::new();
            for request in script(&add, bad) {
                wire.send(&request);
                let outcome = wire.until_ready();
                letters.push(format!("{} {}", outcome.letters(), outcome.status()));
            }
            (
                letters,
                database.value("SELECT count(*) || ' ' || max(id) || ' ' || (SELECT count(*) FROM carts) FROM logs"),
            )
        };
        let (database, sluice) = shop(server);
        // Both fail at Bind: a refusal for its rows, an error for its value.
        let refusal = told(&sluice, &database, &whole("DELETE FROM carts WHERE id > $1", &[Some(b"0")]));
        let (database, sluice) = shop(server);
        let error = told(&sluice, &database, &whole("DELETE FROM carts WHERE id > $1", &[Some(b"zero")]));
        assert_eq!(refusal, error, "script {at}");
    }
}

fn a_refusal_before_a_flush(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    wire.send(&[whole("DELETE FROM logs", &[]), flush()].concat());
    Refused::to_confirm(&wire.until(b'E'));
    // Until a Sync comes, everything is discarded, as after an error.
    wire.send(
        &[whole("SELECT 'discarded'", &[]), flush(), whole("INSERT INTO logs VALUES (1001, 'x')", &[]), sync()]
            .concat(),
    );
    let outcome = wire.until_ready();
    assert_eq!(outcome.letters(), "Z", "{outcome:#?}");
    assert_eq!(database.count("logs"), 500);
    assert_eq!(wire.extended("SELECT 'and on'", &[]).value(), "and on");
}

fn two_refusals_in_one_pipeline(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    wire.send(&[whole("DELETE FROM logs", &[]), whole("TRUNCATE carts CASCADE", &[]), sync()].concat());
    let outcome = wire.until_ready();
    assert_eq!(outcome.letters().matches('E').count(), 1, "the second was discarded: {outcome:#?}");
    assert_eq!(wire.simple("SLUICE PENDING").rows().len(), 1);
}

fn a_refusal_between_two_syncs(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    let add = |id: &str| whole("INSERT INTO logs VALUES ($1, 'added')", &[Some(id.as_bytes())]);
    wire.send(&[add("1001"), sync(), whole("DELETE FROM logs", &[]), sync(), add("1002"), sync()].concat());
    assert_eq!(wire.until_ready().tags(), ["INSERT 0 1"]);
    Refused::to_confirm(&wire.until_ready());
    assert_eq!(wire.until_ready().tags(), ["INSERT 0 1"]);
    assert_eq!(database.count("logs"), 502);
}

fn preparing_is_not_running(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    let prepared = [parse("d", "DELETE FROM logs", &[]), describe(b'S', "d"), sync()].concat();
    wire.send(&prepared);
    let outcome = wire.until_ready();
    outcome.expect_fine("drivers prepare and describe before they run");
    wire.send(&[bind("", "d", 0, &[]), execute("", 0), sync()].concat());
    Refused::to_confirm(&wire.until_ready());
    // After a reload, after DEALLOCATE and under the same name again: judged for what it is now.
    wire.send(&[close(b'S', "d"), parse("d", "DELETE FROM logs WHERE id = 1", &[]), sync()].concat());
    wire.until_ready().expect_fine("another statement by that name");
    wire.send(&[bind("", "d", 0, &[]), execute("", 0), sync()].concat());
    assert_eq!(wire.until_ready().tags(), ["DELETE 1"]);
    assert_eq!(database.count("logs"), 499);
}

/// A text that was prepared before by the same name is not glanced at again, unless it would be read otherwise.
fn the_same_text_under_another_mode(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    // One string, or a string that ends early and a DELETE behind it.
    let text = r"WITH a AS (SELECT '\'), d AS (DELETE FROM logs RETURNING 1) SELECT 1 --') SELECT 1";
    wire.simple("SET standard_conforming_strings = off").expect_fine("SET");
    for _ in 0..2 {
        wire.send(&whole(text, &[]));
        wire.send(&sync());
        wire.until_ready().expect_fine("a string");
    }
    wire.simple("SET standard_conforming_strings = on").expect_fine("SET");
    wire.send(&whole(text, &[]));
    wire.send(&sync());
    Refused::to_confirm(&wire.until_ready());
    assert_eq!(database.count("logs"), 500);
}

fn a_portal_run_twice(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    let in_pieces = |name: &str, text: &str| {
        let pieces = [execute(name, 2), execute(name, 2), execute(name, 0), sync()].concat();
        [parse("", text, &[]), bind(name, "", 0, &[]), pieces].concat()
    };
    // A key bounds it: its count is not waited for.
    wire.simple("UPDATE logs SET line = 'before' WHERE id = 1").expect_fine("its table is known from here on");
    wire.simple("BEGIN").expect_fine("BEGIN");
    wire.send(&in_pieces("one", "UPDATE logs SET line = 'x' WHERE id = 1 RETURNING id"));
    let outcome = wire.until_ready();
    outcome.expect_fine("in pieces");
    assert_eq!(outcome.rows().len(), 1, "{outcome:#?}");
    // It was counted, and must be held to its count: fetched in parts, the database's own count tells.
    wire.send(&in_pieces("five", "UPDATE logs SET line = 'x' WHERE id <= 5 RETURNING id"));
    let outcome = wire.until_ready();
    outcome.expect_fine("in pieces");
    assert_eq!(outcome.rows().len(), 5, "{outcome:#?}");
    wire.simple("COMMIT").expect_fine("COMMIT");
    assert_eq!(database.value("SELECT count(*) FROM logs WHERE line = 'x'"), "5");
    let many = "UPDATE logs SET line = 'y' WHERE current_setting('statement_timeout') = '0' RETURNING id";
    wire.send(&[parse("", many, &[]), bind("many", "", 0, &[]), execute("many", 2), sync()].concat());
    let outcome = wire.until_ready();
    assert_eq!((outcome.code().as_str(), outcome.status()), ("SL004", 'I'), "{outcome:#?}");
    assert_eq!(database.value("SELECT count(*) FROM logs WHERE line = 'y'"), "0");
}

fn transactions_begun_within_a_pipeline(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    let add = whole("INSERT INTO logs VALUES (1001, 'added')", &[]);
    wire.send(&[whole("BEGIN", &[]), add.clone(), whole("DELETE FROM logs", &[]), sync()].concat());
    let outcome = wire.until_ready();
    Refused::to_confirm(&outcome);
    assert_eq!(outcome.status(), 'E');
    wire.send(&[whole("ROLLBACK", &[]), add, sync()].concat());
    assert_eq!(wire.until_ready().status(), 'I');
    assert_eq!(database.count("logs"), 501);
}

fn confirming_by_the_extended_protocol(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    let token = Refused::to_confirm(&wire.extended("DELETE FROM carts WHERE id > $1::int", &["1000"])).token();
    let confirmed = wire.extended(&format!("SLUICE CONFIRM '{token}'"), &[]);
    assert_eq!((confirmed.tags(), confirmed.status()), (vec!["DELETE 4000".to_owned()], 'I'), "{confirmed:#?}");
    assert_eq!(confirmed.letters(), "12nNCZ", "parsed, bound, no rows, told of the job, done: {confirmed:#?}");
    // As drivers do it: prepared under a name, described, run.
    let token = Refused::to_confirm(&wire.simple("DELETE FROM logs")).token();
    let text = format!("SLUICE CONFIRM '{token}'");
    wire.send(&[parse("c", &text, &[]), describe(b'S', "c"), sync()].concat());
    assert_eq!(wire.until_ready().letters(), "1tnZ");
    wire.send(&[bind("", "c", 0, &[]), execute("", 0), sync()].concat());
    assert_eq!(wire.until_ready().tags(), ["DELETE 500"]);
    assert_eq!(database.count("logs"), 0);
}

fn commands_in_a_pipeline(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    wire.send(
        &[whole("SELECT 'before'", &[]), whole("SLUICE STATUS", &[]), whole("SELECT 'after'", &[]), sync()].concat(),
    );
    let outcome = wire.until_ready();
    outcome.expect_fine("in their places");
    let tags = outcome.tags();
    assert_eq!((tags[0].as_str(), tags[2].as_str()), ("SELECT 1", "SELECT 1"), "{tags:?}");
    let rows = outcome.rows();
    assert_eq!((rows[0][0].as_deref(), rows[rows.len() - 1][0].as_deref()), (Some("before"), Some("after")));
    // What would run something behind our back is not a command.
    for text in ["SLUICE HELP; DELETE FROM logs", "DELETE FROM logs; SLUICE HELP", "SLUICE HELP; SLUICE HELP"] {
        assert_ne!(wire.simple(text).code(), "", "{text}");
    }
    assert_eq!(database.count("logs"), 500);
}

fn sql_level_prepare(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    wire.simple("PREPARE few (int) AS DELETE FROM carts WHERE id <= $1").expect_fine("nothing happens yet");
    assert_eq!(wire.simple("EXECUTE few(5)").tags(), ["DELETE 5"]);
    let refused = Refused::to_confirm(&wire.simple("EXECUTE few(2000)"));
    assert_eq!(wire.simple(&format!("SLUICE CONFIRM '{}'", refused.token())).tags(), ["DELETE 1995"]);
    // The same name, another meaning, in between.
    wire.simple("PREPARE other AS SELECT 1").expect_fine("harmless");
    wire.simple("DEALLOCATE other").expect_fine("gone");
    wire.simple("PREPARE other AS DELETE FROM logs").expect_fine("prepared");
    Refused::of(&wire.simple("EXECUTE other"));
    Refused::of(&wire.extended("EXECUTE other", &[]));
    wire.send(&[bind("", "other", 0, &[]), execute("", 0), sync()].concat());
    Refused::of(&wire.until_ready());
    Refused::of(&wire.simple("EXPLAIN ANALYZE EXECUTE other"));
    Refused::of(&wire.simple("CREATE TABLE made AS EXECUTE other"));
    assert_eq!((database.count("logs"), database.count("carts")), (500, 3000));
}

fn a_refused_copy(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire: Wire = sluice.connect(&database);
    let outcome = wire.simple("COPY (DELETE FROM logs RETURNING *) TO STDOUT");
    Refused::of(&outcome);
    assert_eq!(outcome.letters(), "EZ", "no copy was begun");
    let outcome = wire.simple("SELECT 1; COPY logs FROM STDIN; DELETE FROM logs");
    Refused::of(&outcome);
    assert_eq!(outcome.letters(), "EZ", "no copy was begun");
    assert_eq!(database.count("logs"), 500);
}

fn statements_that_cannot_run_in_a_transaction(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect_as(crate::harness::server::SUPERUSER, &database);
    let doomed = server.database("CREATE TABLE t AS SELECT 1 AS n");
    let refused = Refused::to_confirm(&wire.simple(&format!("DROP DATABASE {}", doomed.name)));
    let confirmed = wire.simple(&format!("SLUICE CONFIRM '{}'", refused.token()));
    assert_eq!(confirmed.tags(), ["DROP DATABASE"], "it is not wrapped in one: {confirmed:#?}");
    wire.simple("VACUUM logs").expect_fine("nor is VACUUM");
    wire.simple("CREATE INDEX CONCURRENTLY ON logs (kind)").expect_fine("nor a concurrent index");
}

fn a_failed_parse_behind_a_sync(server: &'static Server) {
    let (database, sluice) = shop(server);
    let dangerous = [parse("p", "DELETE FROM logs", &[]), sync()].concat();
    let run = [bind("", "p", 0, &[]), execute("", 0), sync()].concat();
    let fail_then_run = [
        [parse("p", "SELECT 1", &[]), sync(), run.clone()].concat(),
        [parse("", "SELEC", &[]), close(b'S', "p"), parse("p", "SELECT 1", &[]), sync(), run].concat(),
    ];
    for bytes in fail_then_run {
        let mut wire = sluice.connect(&database);
        wire.send(&dangerous);
        wire.until_ready().expect_fine("prepared");
        wire.send(&bytes);
        assert_ne!(wire.until_ready().code(), "", "the Parse fails");
        assert_eq!(wire.until_ready().code(), "SL001", "the name means what it meant");
    }
    assert_eq!(database.count("logs"), 500);
}

fn a_transaction_that_ends_in_the_pipeline(server: &'static Server) {
    let (database, sluice) = shop(server);
    let fail = |wire: &mut crate::harness::wire::Wire| {
        wire.simple("BEGIN").expect_fine("BEGIN");
        wire.simple("SAVEPOINT s").expect_fine("SAVEPOINT");
        assert_eq!(wire.simple("SELECT 1/0").status(), 'E');
    };
    for end in ["ROLLBACK", "ROLLBACK TO s"] {
        let mut wire = sluice.connect(&database);
        fail(&mut wire);
        wire.send(&[whole(end, &[]), whole("DELETE FROM logs", &[]), sync()].concat());
        assert!(wire.until_ready().code().starts_with("SL"), "{end}");
        wire.simple("COMMIT");
        let mut wire = sluice.connect(&database);
        fail(&mut wire);
        wire.send(&[whole(end, &[]), query("DELETE FROM logs")].concat());
        assert!(wire.until_ready().code().starts_with("SL"), "{end}, then Query");
        wire.simple("COMMIT");
    }
    let mut wire = sluice.connect(&database);
    wire.simple("SET client_encoding = 'LATIN1'").expect_fine("SET");
    fail(&mut wire);
    let mut message = b"Q\0\0\0\x00ROLLBACK; DELETE FROM logs; SELECT '\xe9'\0".to_vec();
    let length = u8::try_from(message.len() - 1).expect("short");
    message[4] = length;
    wire.send(&message);
    assert_ne!(wire.until_ready().code(), "");
    assert_eq!(database.count("logs"), 500);
    // And a transaction that ends well is no reason to end the session.
    let mut wire = sluice.connect(&database);
    wire.simple("BEGIN").expect_fine("BEGIN");
    wire.send(&[whole("COMMIT", &[]), whole("DELETE FROM logs WHERE id = 2", &[]), sync()].concat());
    wire.until_ready().expect_fine("one row");
    wire.send(
        &[
            [parse("a", "SELECT 1", &[]), bind("pa", "a", 0, &[])].concat(),
            [parse("d", "DELETE FROM logs WHERE id = 1", &[]), bind("pd", "d", 0, &[])].concat(),
            [execute("pa", 0), execute("pd", 0), sync()].concat(),
        ]
        .concat(),
    );
    wire.until_ready().expect_fine("a portal bound before lives on");
    assert_eq!(database.count("logs"), 498);
}

fn statements_that_pave_the_way(server: &'static Server) {
    let (database, sluice) = shop(server);
    database.run("CREATE SCHEMA empty; CREATE TABLE empty.logs (LIKE logs); CREATE TABLE chosen (id int)");
    for message in [
        "SET search_path = public; TRUNCATE logs",
        "SET search_path = public; DELETE FROM logs WHERE id > 0",
        "BEGIN; DELETE FROM logs WHERE current_setting('statement_timeout') = '0'; COMMIT",
        "DELETE FROM logs WHERE current_setting('statement_timeout') = '0'; PREPARE z AS SELECT 1",
        "INSERT INTO chosen SELECT id FROM logs; DELETE FROM logs WHERE id IN (SELECT id FROM chosen)",
        "SET my.own = 'line'; DELETE FROM logs WHERE line LIKE current_setting('my.own') || '%'",
    ] {
        let mut wire = sluice.connect(&database);
        wire.simple("SET search_path = empty, public").expect_fine("SET");
        let outcome = wire.simple(message);
        assert!(outcome.code().starts_with("SL"), "{message}: {outcome:#?}");
        assert_eq!(database.count("logs"), 500, "{message}");
    }
    let mut wire = sluice.connect(&database);
    wire.simple("BEGIN; DELETE FROM logs WHERE id = 7; COMMIT").expect_fine("one row by its key");
    wire.simple("UPDATE carts SET note = 'a' WHERE id = 1; DELETE FROM logs WHERE id = 8").expect_fine("two by theirs");
    assert_eq!(database.count("logs"), 498);
}

fn counts_that_see_themselves_counted(server: &'static Server) {
    let (database, sluice) = shop(server);
    // False while it is counted, true when it runs: others do the same innocently, by committing in between.
    let only_when_run = "current_setting('statement_timeout') = '0'";
    for statement in [
        format!("DELETE FROM logs WHERE {only_when_run}"),
        format!("EXPLAIN ANALYZE DELETE FROM logs WHERE {only_when_run}"),
        format!("COPY (DELETE FROM logs WHERE {only_when_run} RETURNING id) TO STDOUT"),
        format!("CREATE TABLE x AS WITH d AS (DELETE FROM logs WHERE {only_when_run} RETURNING id) SELECT * FROM d"),
        format!("WITH d AS (DELETE FROM logs WHERE {only_when_run} RETURNING id) SELECT count(*) FROM d"),
        format!("DELETE FROM logs WHERE {only_when_run}; SELECT 1"),
        format!("WITH d AS (DELETE FROM logs WHERE {only_when_run}) INSERT INTO logs SELECT 1001, 'beside it'"),
        format!("DELETE FROM carts WHERE id IN (1, 2, 3) AND {only_when_run} OR id < 120 AND {only_when_run}"),
    ] {
        for inside in [false, true] {
            let mut wire = sluice.connect(&database);
            if inside {
                wire.simple("BEGIN").expect_fine("BEGIN");
            }
            let outcome = wire.simple(&statement);
            assert!(outcome.code().starts_with("SL"), "{statement}: {outcome:#?}");
            let by_parts = wire.extended(&statement, &[]);
            assert_ne!(by_parts.code(), "", "{statement}: {by_parts:#?}");
            wire.simple("COMMIT");
            assert_eq!((database.count("logs"), database.count("carts")), (500, 5000), "{statement}");
        }
    }
    // Functions that make many rows of one.
    let mut wire = sluice.connect(&database);
    let many = "INSERT INTO logs VALUES (generate_series(1, 500), 'gone') ON CONFLICT (id) DO UPDATE SET kind = 'gone'";
    assert!(wire.simple(many).code().starts_with("SL"), "an overwrite of every row");
    assert_eq!(database.value("SELECT count(*) FROM logs WHERE kind = 'gone'"), "0");
}

fn a_cte_of_the_targets_name(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    for statement in [
        "WITH logs AS (SELECT 1 AS id WHERE false) DELETE FROM logs WHERE id > 0",
        "EXPLAIN ANALYZE WITH logs AS (SELECT 1 AS id WHERE false) DELETE FROM logs WHERE id > 0",
        "WITH a AS (SELECT 1), \"logs\" (id) AS (SELECT 1 WHERE false) UPDATE logs SET line = 'x' WHERE id > 0",
    ] {
        let refused = Refused::to_confirm(&wire.simple(statement));
        assert!(refused.detail.contains("unknown"), "what it means is not counted as something else: {refused:?}");
    }
    assert_eq!(database.count("logs"), 500);
}

fn copy_that_is_abandoned(server: &'static Server) {
    let (database, sluice) = shop(server);
    for bytes in [query("COPY logs FROM STDIN"), [whole("COPY logs FROM STDIN", &[]), sync()].concat()] {
        let mut wire = sluice.connect(&database);
        wire.send(&bytes);
        drop(wire);
    }
    let mut wire = sluice.connect(&database);
    wire.send(&[query("COPY logs FROM STDIN"), query("DELETE FROM logs WHERE id = 1")].concat());
    wire.until_closed();
    database.wait_until(
        "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'COPY%')",
    );
    assert_eq!(database.count("logs"), 500);
}

fn answers_of_several_statements_in_their_order(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    let counted = "UPDATE carts SET note = 'a' WHERE status = 'abandoned' AND id < 3";
    for (message, letters) in [
        (format!("{counted}; SELECT 7"), "CTDCZ"),
        (format!("{counted} RETURNING id; SHOW TimeZone"), "TDDCTDCZ"),
        (format!("{counted}; COPY (SELECT 1) TO STDOUT; SELECT 2"), "CHdcCTDCZ"),
        (format!("{counted}; SELECT * FROM nowhere"), "CEZ"),
    ] {
        let outcome = wire.simple(&message);
        assert_eq!(outcome.letters(), letters, "{message}: {outcome:#?}");
    }
    // A counted change in a transaction that has failed meanwhile is the server's to refuse.
    wire.simple("BEGIN").expect_fine("BEGIN");
    wire.send(&[parse("", counted, &[]), bind("later", "", 0, &[]), sync()].concat());
    wire.until_ready().expect_fine("bound");
    assert_eq!(wire.simple("SELECT 1/0").status(), 'E');
    wire.send(&[execute("later", 0), sync()].concat());
    assert!(["25P02", "34000"].contains(&wire.until_ready().code().as_str()));
    wire.simple("ROLLBACK").expect_fine("the session lives");
}

fn the_catalog_itself(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect_as(crate::harness::server::SUPERUSER, &database);
    for statement in [
        "UPDATE pg_class SET relname = 'gone' WHERE oid = 'logs'::regclass",
        "DELETE FROM pg_catalog.pg_class WHERE oid = 'logs'::regclass",
        "SET allow_system_table_mods = on",
        "SET track_counts = off",
    ] {
        assert_eq!(Refused::of(&wire.simple(statement)).code, "SL003", "{statement}");
    }
    assert_eq!(database.count("logs"), 500);
}

fn portals_run_in_other_ways(server: &'static Server) {
    let (database, sluice) = shop(server);
    let text =
        "DELETE FROM logs WHERE kind = current_setting('my.kind') OR current_setting('my.kind') = 'all' RETURNING id";
    let later: [(&str, Vec<u8>); 4] = [
        ("FETCH", query("FETCH ALL FROM pa")),
        ("MOVE, prepared", [whole("MOVE ALL IN pa", &[]), sync()].concat()),
        ("Execute behind a Close that is discarded", [execute("pa", 0), sync()].concat()),
        ("Execute behind a Bind that fails", [execute("pa", 0), sync()].concat()),
    ];
    for (how, run) in later {
        let mut wire = sluice.connect(&database);
        wire.simple("SET my.kind = 'none'").expect_fine("SET");
        wire.simple("BEGIN").expect_fine("BEGIN");
        wire.send(&[parse("", text, &[]), bind("pa", "", 0, &[]), sync()].concat());
        wire.until_ready().expect_fine("counted as none");
        wire.simple("SAVEPOINT a").expect_fine("SAVEPOINT");
        let lose = match how {
            "Execute behind a Close that is discarded" => [parse("", "SELEC", &[]), close(b'P', "pa"), sync()].concat(),
            "Execute behind a Bind that fails" => [parse("", "SELECT 1", &[]), bind("pa", "", 0, &[]), sync()].concat(),
            _ => sync(),
        };
        wire.send(&lose);
        wire.until_ready();
        wire.simple("ROLLBACK TO a").expect_fine("ROLLBACK TO");
        wire.simple("SET my.kind = 'all'").expect_fine("SET");
        wire.send(&run);
        wire.until_ready();
        wire.simple("COMMIT");
        wire.simple("COMMIT");
        assert_eq!(database.count("logs"), 500, "{how}");
    }
}

/// Two transactions that each read what the other writes: one must fail. Our questions are asked in them before their first statement.
fn serializable_transactions(server: &'static Server) {
    let (database, sluice) = shop(server);
    database.run("CREATE TABLE duty (who text, active boolean); INSERT INTO duty VALUES ('ann', true), ('bob', true)");
    let mut ann = sluice.connect(&database);
    let mut bob = sluice.connect(&database);
    for (wire, who) in [(&mut ann, "ann"), (&mut bob, "bob")] {
        wire.simple("BEGIN ISOLATION LEVEL SERIALIZABLE").expect_fine("begun");
        let leaves = format!(
            "UPDATE duty SET active = false WHERE who = '{who}' AND (SELECT count(*) FROM duty WHERE active) > 1"
        );
        wire.simple(&leaves).expect_fine("a change of one row");
    }
    ann.simple("COMMIT").expect_fine("the first to commit");
    assert_eq!(bob.simple("COMMIT").code(), "40001", "the second would leave nobody on duty");
    assert_eq!(database.value("SELECT count(*) FROM duty WHERE active"), "1");
}
