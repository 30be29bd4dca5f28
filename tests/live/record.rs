//! The record before real clients: it fails and recovers, it is moved away, and it holds what it may.

use crate::harness::message::{bind, execute, parse, query, sync};
use crate::harness::server::Server;
use crate::harness::shop::{Refused, SHOP, shop, shop_with};
use crate::harness::sluice::{Setup, Sluice};
use crate::harness::stories;
use crate::harness::wire::Wire;
use std::fs;
use std::time::{Duration, Instant};

stories! {
    a_full_disk_refuses_changes_until_there_is_room, reads_are_refused_too_if_configured, a_full_disk_in_mid_transaction,
    the_file_is_moved_away, full_files_are_carried_on, literals_and_values_only_if_configured,
}

fn a_full_disk_refuses_changes_until_there_is_room(server: &'static Server) {
    let (database, sluice) = shop_with(server, Setup::with_a_large_record);
    let mut wire = sluice.connect(&database);
    let token = Refused::to_confirm(&wire.simple("DELETE FROM logs")).token();
    fill(&sluice);
    for change in
        ["DELETE FROM logs", "DELETE FROM logs WHERE id = 1", "INSERT INTO logs VALUES (9001, 'x')", "TRUNCATE logs"]
    {
        unrecorded(&mut wire, change);
    }
    unrecorded(&mut wire, &format!("SLUICE CONFIRM '{token}'"));
    unrecorded(&mut wire, &format!("DELETE FROM logs /* sluice: confirm={token} */"));
    unrecorded(&mut wire, "COMMENT ON TABLE logs IS 'x'");
    wire.simple("DISCARD ALL").expect_fine("changes nothing");
    assert_eq!(wire.simple("SELECT count(*) FROM logs").value(), "500", "reads go on");
    assert_eq!(wire.extended("SELECT count(*) FROM logs", &[]).value(), "500");
    let status = wire.simple("SLUICE STATUS").rows();
    let told = status.iter().find(|row| row[0].as_deref() == Some("record")).expect("a row about the record");
    assert!(told[1].as_deref().is_some_and(|why| why.starts_with("fails since ")), "{told:?}");
    assert!(sluice.get("/readyz").0.contains(" 503 ") && sluice.get("/healthz").0.contains(" 200 "));
    assert!(sluice.get("/metrics").1.lines().any(|line| line == "sluice_record_failing 1"));

    // Nobody sends anything: it is tried again all the same, and long before the next line of counted statements.
    sluice.limit_files(None);
    let freed = Instant::now();
    sluice.log_line("the recovery", |line| line.contains("the record works again"));
    assert!(freed.elapsed() < Duration::from_secs(20), "nobody tends it: {:?}", freed.elapsed());
    assert!(sluice.get("/readyz").0.contains(" 200 "));
    assert!(sluice.get("/metrics").1.lines().any(|line| line == "sluice_record_failing 0"));
    wire.simple("INSERT INTO logs VALUES (9001, 'x')").expect_fine("changes go on");
    wire.simple("DELETE FROM logs WHERE id = 9001").expect_fine("and guarded ones");
    assert_eq!(wire.simple(&format!("SLUICE CONFIRM '{token}'")).tags(), ["DELETE 500"], "it was not used up");
    let gap = sluice.record().into_iter().find(|line| line["kind"] == "gap").expect("a line about what is missing");
    assert!(gap["count"].as_u64().is_some_and(|count| count >= 14), "{gap}");
    assert_eq!(sluice.verify_record().code, Some(0));
}

fn reads_are_refused_too_if_configured(server: &'static Server) {
    let everything = "on_failure = \"refuse-everything\"";
    let (database, sluice) = shop_with(server, |setup| setup.auditing(everything).with_a_large_record());
    let mut wire = sluice.connect(&database);
    wire.simple("BEGIN; SELECT 1").expect_fine("a transaction is open");
    fill(&sluice);
    assert_eq!(Refused::of(&wire.simple("DELETE FROM logs WHERE id = 1")).code, "SL007");
    assert_eq!(wire.simple("ROLLBACK").status(), 'I', "the way out stays open");
    unrecorded(&mut wire, "SELECT 1");
    unrecorded(&mut wire, "SELECT pg_backend_pid()");
    sluice.limit_files(None);
    // The statement itself is the next try.
    assert_eq!(wire.simple("SELECT 1").value(), "1");
    assert_eq!(wire.extended("SELECT 1", &[]).value(), "1");
    assert_eq!(sluice.verify_record().code, Some(0));
}

fn a_full_disk_in_mid_transaction(server: &'static Server) {
    let (database, sluice) = shop_with(server, Setup::with_a_large_record);
    let mut wire = sluice.connect(&database);
    wire.simple("BEGIN").expect_fine("begins");
    wire.simple("INSERT INTO logs VALUES (9001, 'x')").expect_fine("before");
    fill(&sluice);
    assert_eq!(Refused::of(&wire.simple("DELETE FROM logs WHERE id = 1")).code, "SL007");
    assert_eq!(wire.simple("COMMIT").tags(), ["ROLLBACK"], "as after any error");
    // The same in a pipeline: what is behind the refused statement is discarded up to the Sync, and the session goes on.
    let pipeline = [
        parse("", "DELETE FROM logs WHERE id = 2", &[]),
        bind("", "", 0, &[]),
        execute("", 0),
        parse("", "INSERT INTO logs VALUES (9002, 'x')", &[]),
        bind("", "", 0, &[]),
        execute("", 0),
        sync(),
    ];
    wire.send(&pipeline.concat());
    assert_eq!(Refused::of(&wire.until_ready()).code, "SL007");
    assert_eq!(wire.simple("SELECT count(*) FROM logs").value(), "500");
    assert_eq!(database.count("logs"), 500);
}

fn the_file_is_moved_away(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    Refused::to_confirm(&wire.simple("DELETE FROM logs"));
    let moved = sluice.record_path().with_extension("jsonl.1");
    fs::rename(sluice.record_path(), &moved).expect("our own folder");
    let before = sluice.log_length();
    sluice.signal("HUP");
    sluice.log_line_after(before, "the new file", |line| line.contains("the record goes on in another file"));
    let first = sluice.record().into_iter().next().expect("the new file is there at once");
    assert_eq!((first["kind"].as_str(), first["file"].as_str()), (Some("rotated"), Some("audit.jsonl.1")));
    Refused::to_confirm(&wire.simple("DELETE FROM logs"));
    assert_eq!(sluice.verify_record().code, Some(0), "the file before is found by its name");
    fs::remove_file(moved).expect("our own folder");
    assert_eq!(sluice.verify_record().code, Some(1), "and missed");
}

fn full_files_are_carried_on(server: &'static Server) {
    let database = server.database(SHOP);
    let sluice = Setup::before(&database).auditing("rotate_bytes = 4096\nkeep = 2").start();
    let mut wire = sluice.connect(&database);
    for _ in 0..20 {
        Refused::to_confirm(&wire.simple("DELETE FROM logs"));
    }
    let sluice = sluice.crash_and_restart();
    let mut wire = sluice.connect(&database);
    Refused::to_confirm(&wire.simple("DELETE FROM logs"));
    let verified = sluice.verify_record();
    assert_eq!(verified.code, Some(0), "{verified:?}");
    assert!(verified.out.contains("deleted as configured"), "{verified:?}");
}

fn literals_and_values_only_if_configured(server: &'static Server) {
    let kept = "literals = \"kept\"\nparameters = true";
    for (keys, shown) in [("", false), (kept, true)] {
        let (database, sluice) = shop_with(server, |setup| setup.auditing(keys));
        let mut wire = sluice.connect(&database);
        wire.simple("UPDATE logs SET line = 'a literal' WHERE id = 1").expect_fine("a small change");
        wire.extended("UPDATE logs SET line = $1 WHERE id = 1", &["a value"]).expect_fine("with a value");
        let token = Refused::to_confirm(&wire.simple("DELETE FROM logs")).token();
        wire.simple(&format!("DELETE FROM logs /* sluice: confirm={token} */")).expect_fine("confirmed");
        wire.simple("UPDATE logs SET line = 'password=guarded' WHERE id = 1");
        let record = fs::read_to_string(sluice.record_path()).expect("a record");
        for what in ["a literal", "a value"] {
            assert_eq!(record.contains(what), shown, "{what}: {record}");
        }
        assert!(!record.contains(&token) && !record.contains("guarded"), "{record}");
    }
}

/// From here on nothing more fits into the record than half a line.
fn fill(sluice: &Sluice) {
    let length = fs::metadata(sluice.record_path()).expect("a record").len();
    sluice.limit_files(Some(length + 40));
}

/// Refused with `SL007` by either protocol, as any statement is: the session goes on.
fn unrecorded(wire: &mut Wire, statement: &str) {
    wire.send(&query(statement));
    let simple = wire.until_ready();
    assert_eq!((Refused::of(&simple).code.as_str(), simple.status()), ("SL007", 'I'), "{statement}: {simple:#?}");
    let extended = wire.extended(statement, &[]);
    assert_eq!((Refused::of(&extended).code.as_str(), extended.status()), ("SL007", 'I'), "{statement}: {extended:#?}");
}
