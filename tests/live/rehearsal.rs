//! `SLUICE REHEARSE`, and refusals for machines.

use crate::harness::message::{bind, execute, parse, sync};
use crate::harness::server::Server;
use crate::harness::shop::{Refused, shop, shop_with};
use crate::harness::stories;
use crate::harness::wire::{Outcome, Wire};
use serde_json::Value;

stories! {
    twice_and_nothing_kept, what_fails_the_second_time, what_cannot_be_rolled_back_is_not_rehearsed, a_lock_is_not_waited_for_long,
    refusals_in_json, json_is_asked_for_by_whoever_wants_it,
}

fn rehearsed(wire: &mut Wire, statement: &str) -> Vec<String> {
    let outcome = wire.simple(&format!("SLUICE REHEARSE {statement}"));
    outcome.expect_fine(statement);
    outcome.rows().iter().map(|row| row.iter().flatten().cloned().collect::<Vec<_>>().join(" | ")).collect()
}

fn assert_says(lines: &[String], parts: &[&str]) {
    for part in parts {
        assert!(lines.iter().any(|line| line.contains(part)), "no {part} in {lines:#?}");
    }
}

fn twice_and_nothing_kept(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    let lines = rehearsed(&mut wire, "DELETE FROM carts WHERE status = 'abandoned'");
    assert_says(
        &lines,
        &[
            "first run | answer | DELETE 2000",
            "public.carts                             2,000 deleted",
            "public.cart_items                        4,000 deleted",
            "locks | public.carts | RowExclusiveLock",
            "second run | answer | DELETE 0",
            "second run | effects | nothing",
            "safe: the second run changed nothing",
        ],
    );
    assert_eq!((database.count("carts"), database.count("cart_items")), (5000, 10_000));
    let lines = rehearsed(&mut wire, "UPDATE logs SET id = id + 100000");
    assert_says(&lines, &["not safe: the second run changed rows again"]);
    let lines = rehearsed(&mut wire, "TRUNCATE logs");
    assert_says(&lines, &["public.logs truncated", "locks | public.logs | AccessExclusiveLock"]);
    assert_eq!(database.count("logs"), 500);
    assert_eq!(wire.simple("SELECT 1").status(), 'I');
    let sent =
        [parse("", "SLUICE REHEARSE DELETE FROM logs", &[]), bind("", "", 0, &[]), execute("", 0), sync()].concat();
    wire.send(&sent);
    let outcome = wire.until_ready();
    assert!(format!("{outcome:?}").contains("500 deleted"), "by the extended protocol too: {outcome:#?}");
    assert_eq!(database.count("logs"), 500);
}

fn what_fails_the_second_time(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    let lines = rehearsed(&mut wire, "INSERT INTO logs VALUES (1001, 'odd', 'x')");
    assert_says(&lines, &["1 inserted", "the second run fails: 23505"]);
    let lines = rehearsed(&mut wire, "INSERT INTO logs VALUES (1, 'odd', 'x')");
    assert_says(&lines, &["first run | answer | fails: 23505"]);
    assert_eq!(database.count("logs"), 500);
    wire.simple("SELECT 1").expect_fine("the session goes on");
}

fn what_cannot_be_rolled_back_is_not_rehearsed(server: &'static Server) {
    let (database, sluice) = shop(server);
    database.run(
        "CREATE PROCEDURE committing() LANGUAGE plpgsql AS 'BEGIN DELETE FROM logs; COMMIT; END';
         CREATE SEQUENCE s; CREATE FUNCTION sets() RETURNS bigint LANGUAGE sql AS 'SELECT setval(''s'', 99)'",
    );
    let mut wire = sluice.connect(&database);
    for statement in [
        "VACUUM logs",
        "COMMIT",
        "COPY logs FROM STDIN",
        "DELETE FROM logs; COMMIT",
        "SELECT sets()",
        "SET session_replication_role = replica",
    ] {
        let refused = Refused::of(&wire.simple(&format!("SLUICE REHEARSE {statement}")));
        assert_eq!(refused.code, "SL003", "{statement}: {refused:?}");
    }
    assert_says(&rehearsed(&mut wire, "CALL committing()"), &["first run | answer | fails: 2D000"]);
    wire.simple("BEGIN").expect_fine("begun");
    assert_eq!(Refused::of(&wire.simple("SLUICE REHEARSE DELETE FROM logs")).code, "SL003");
    wire.simple("ROLLBACK").expect_fine("ended");
    assert_eq!(database.count("logs"), 500);
    assert_eq!(database.value("SELECT last_value FROM s"), "1");
}

fn a_lock_is_not_waited_for_long(server: &'static Server) {
    let (database, sluice) = shop(server);
    let (mut wire, mut holder) = (sluice.connect(&database), database.connect());
    wire.simple("SLUICE PREVIEW DELETE FROM logs").expect_fine("looked at");
    holder.simple("BEGIN; LOCK TABLE logs IN SHARE MODE").expect_fine("held");
    assert_says(&rehearsed(&mut wire, "DELETE FROM logs WHERE id = 7"), &["fails: 55P03"]);
}

fn document(outcome: &Outcome) -> Value {
    serde_json::from_str(&Refused::of(outcome).detail).expect("one line of JSON")
}

fn refusals_in_json(server: &'static Server) {
    let (database, sluice) = shop(server);
    database.run("CREATE FUNCTION purge() RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM logs; RETURN 1; END'");
    let mut wire = sluice.connect(&database);
    assert!(Refused::of(&wire.simple("DELETE FROM logs")).detail.starts_with("rules: "));
    wire.simple("SET sluice.format = 'json'").expect_fine("set");
    let outcome = wire.simple("DELETE FROM carts WHERE status = 'abandoned'");
    let said = document(&outcome);
    assert_eq!(said["sluice"], 1);
    assert_eq!(said["code"], "SL001");
    assert_eq!(said["token"], Refused::of(&outcome).token());
    assert_eq!(said["changes"][0]["verb"], "delete");
    assert_eq!(said["changes"][0]["table"], "public.carts");
    assert_eq!(said["changes"][0]["rows"]["number"], 2000);
    assert_eq!(said["changes"][0]["rows"]["certainty"], "exact");
    assert_eq!(said["changes"][0]["cascade"][0]["rows"]["number"], 4000);
    assert_eq!(said["at_most"]["rows"], 2100);
    assert!(said["rules"].as_array().is_some_and(|rules| rules.iter().any(|rule| rule["rule"] == "cascade")));
    let tried = document(&wire.simple("SELECT purge()"));
    assert_eq!(tried["effects"]["tables"][0]["deleted"], 500);
    assert_eq!(document(&wire.extended("DELETE FROM logs", &[]))["code"], "SL001");
    assert_eq!(document(&wire.simple("SLUICE CONFIRM '0000-0000'"))["code"], "SL005");
    assert_eq!(document(&wire.simple("DELETE FROM events"))["code"], "SL003");
    wire.simple("BEGIN").expect_fine("begun");
    assert_eq!(document(&wire.simple("DELETE FROM logs"))["code"], "SL001");
    wire.simple("ROLLBACK").expect_fine("ended");
    wire.simple("RESET sluice.format").expect_fine("reset");
    assert!(Refused::of(&wire.simple("DELETE FROM logs")).detail.starts_with("rules: "));
}

fn json_is_asked_for_by_whoever_wants_it(server: &'static Server) {
    let (database, sluice) = shop_with(server, |setup| setup);
    let mut wire = sluice.connect(&database);
    wire.simple("SET sluice.format = 'JSON'").expect_fine("set");
    // The first refusal is not about a statement: the session is asked how it wants it.
    assert_eq!(document(&wire.simple("SLUICE CONFIRM '0000-0000'"))["code"], "SL005");
    let mut other = sluice.connect(&database);
    assert!(!Refused::of(&other.simple("SLUICE CONFIRM '0000-0000'")).detail.starts_with('{'));
}
