//! Running it: starting and refusing to start, reloading in mid-session, draining, commands, health, the record's own check.

use crate::harness::message::query;
use crate::harness::server::{SUPERUSER, Server};
use crate::harness::shop::{Refused, SHOP, shop, shop_with};
use crate::harness::sluice::{Setup, verify};
use crate::harness::stories;
use crate::harness::tool::Tool;
use std::fs;

stories! {
    commands_by_both_protocols, explaining_and_previewing, a_reload_in_mid_session, a_broken_file_leaves_the_old_policy,
    draining, a_second_listener_address_in_use, health_and_metrics, a_tampered_record_is_found, a_wrong_configuration_is_refused,
    the_record_tells_the_whole_story, rules_have_pages,
}

fn commands_by_both_protocols(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    Refused::to_confirm(&wire.simple("DELETE FROM logs"));
    for command in ["HELP", "STATUS", "POLICY", "PENDING", "PREVIEW DELETE FROM logs", "EXPLAIN DELETE FROM logs"] {
        let text = format!("SLUICE {command}");
        let simple = wire.simple(&text);
        let extended = wire.extended(&text, &[]);
        simple.expect_fine(&text);
        assert!(!simple.rows().is_empty(), "{text}: {simple:#?}");
        assert_eq!(simple.rows(), extended.rows(), "{text}");
        assert_eq!(simple.tags(), extended.tags(), "{text}");
        assert!(
            simple.letters().starts_with('T') && extended.letters().starts_with("12T"),
            "{text}: {}",
            extended.letters()
        );
    }
    let policy = wire.simple("SLUICE POLICY").rows();
    assert!(
        policy.iter().any(|row| row[0].as_deref() == Some("missing-where") && row[1].as_deref() == Some("confirm")),
        "{policy:?}"
    );
    for wrong in ["SLUICE", "SLUICE DANCE", "SLUICE HELP me", "SLUICE PREVIEW"] {
        let outcome = wire.simple(wrong);
        assert_eq!(outcome.status(), 'I', "{wrong}");
        assert!(wrong == "SLUICE" || outcome.code() == "42601", "{wrong}: {outcome:#?}");
    }
    assert_eq!(database.count("logs"), 500);
    // In a failed transaction a command is what any statement is there.
    wire.simple("BEGIN; SELECT 1/0");
    assert_eq!(wire.simple("SLUICE STATUS").status(), 'E');
    assert_eq!(wire.simple("ROLLBACK").status(), 'I');
}

fn explaining_and_previewing(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    let preview: Vec<String> = wire
        .simple("SLUICE PREVIEW DELETE FROM carts WHERE status = 'abandoned'")
        .rows()
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    let preview = preview.join("\n");
    for part in ["2,000", "cart_items", "4,000", "confirm"] {
        assert!(preview.contains(part), "no {part} in {preview}");
    }
    assert!(!preview.contains("SLUICE CONFIRM"), "a preview asks for nothing");
    let explained = wire.simple("SLUICE EXPLAIN DELETE FROM logs").rows();
    assert_eq!(explained.first().and_then(|row| row[1].as_deref()), Some("confirm"), "the verdict: {explained:?}");
    let first = explained.get(1).expect("rules");
    assert_eq!((first[0].as_deref(), first[1].as_deref()), (Some("missing-where"), Some("confirm")), "{explained:?}");
    assert!(first[2].as_deref().is_some_and(|from| from.contains("standard")), "{first:?}");
    assert!(wire.simple("SLUICE PENDING").rows().is_empty());
    assert_eq!((database.count("logs"), database.count("carts")), (500, 5000));
}

fn a_reload_in_mid_session(server: &'static Server) {
    let database = server.database(SHOP);
    let mut sluice = Setup::before(&database).start();
    let mut wire = sluice.connect(&database);
    wire.send(
        &[crate::harness::message::parse("d", "DELETE FROM logs", &[]), crate::harness::message::sync()].concat(),
    );
    wire.until_ready().expect_fine("prepared before the reload");
    wire.simple("BEGIN; INSERT INTO carts VALUES (9001, 'new')").expect_fine("a transaction is open");
    sluice.reload("[[scope]]\nname = \"freeze\"\nrules = { missing-where = \"deny\" }");
    let refused = Refused::denied(&wire.simple("DELETE FROM logs"));
    assert!(refused.names_rule("missing-where"), "{refused:?}");
    assert_eq!(wire.simple("ROLLBACK").status(), 'I', "the session lives on");
    let run = [
        crate::harness::message::bind("", "d", 0, &[]),
        crate::harness::message::execute("", 0),
        crate::harness::message::sync(),
    ];
    wire.send(&run.concat());
    Refused::denied(&wire.until_ready());
    sluice.reload("[policy]\nmode = \"off\"");
    wire.send(&run.concat());
    assert_eq!(wire.until_ready().tags(), ["DELETE 500"], "judged again, by the policy of now");
    sluice.signal("TERM");
    assert!(sluice.ended().success());
    let loaded = sluice.record().into_iter().filter(|line| line["kind"] == "policy").count();
    assert!(loaded >= 2, "each policy is recorded");
}

fn a_broken_file_leaves_the_old_policy(server: &'static Server) {
    let database = server.database(SHOP);
    let mut sluice = Setup::before(&database).start();
    let mut wire = sluice.connect(&database);
    for broken in ["[policy]\nmode = \"of\"", "[polcy]\nmode = \"off\"", "this is not TOML", "[limits]\nfree_rows = -1"]
    {
        let told = sluice.reload(broken);
        assert!(told.contains("ERROR") || told.contains("WARN"), "it says so: {told}");
        Refused::to_confirm(&wire.simple("DELETE FROM logs"));
    }
    sluice.reload("[policy]\nmode = \"off\"");
    assert_eq!(wire.simple("DELETE FROM logs").tags(), ["DELETE 500"]);
}

fn draining(server: &'static Server) {
    let database = server.database(SHOP);
    let mut sluice = Setup::before(&database).start();
    let (mut idle, mut busy) = (sluice.connect(&database), sluice.connect(&database));
    let mut holder = database.connect();
    holder.simple("BEGIN; LOCK TABLE logs IN ACCESS EXCLUSIVE MODE").expect_fine("a lock");
    busy.send(&query("SELECT count(*) FROM logs"));
    database.wait_until(
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')",
    );
    sluice.signal("TERM");
    let goodbye = idle.until_closed();
    assert_eq!(goodbye.code(), "57P01", "an idle session is told why it ends: {goodbye:#?}");
    holder.simple("ROLLBACK").expect_fine("the lock is let go");
    assert_eq!(busy.until_ready().value(), "500", "what runs is let run");
    busy.until_closed();
    let status = sluice.ended();
    assert!(status.success(), "{status}");
    assert_eq!(sluice.verify_record().code, Some(0));
}

fn a_second_listener_address_in_use(server: &'static Server) {
    let database = server.database("");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let said = Setup::before(&database).listening_on(&address).start_in_vain();
    assert_ne!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains(&address), "it says which address: {said:?}");
}

fn health_and_metrics(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    Refused::to_confirm(&wire.simple("DELETE FROM logs"));
    for path in ["/healthz", "/readyz"] {
        let (status, _) = sluice.get(path);
        assert!(status.contains(" 200 "), "{path}: {status}");
    }
    let (status, text) = sluice.get("/metrics");
    assert!(status.contains(" 200 "), "{status}");
    assert!(
        text.lines()
            .any(|line| line.starts_with("sluice_refusals_total") && line.contains("SL001") && line.ends_with(" 1")),
        "{text}"
    );
    assert!(!text.contains("logs") && !text.contains("trusty"), "no statement and no user in metrics: {text}");
    assert!(sluice.get("/anything").0.contains(" 404 "));
}

fn a_tampered_record_is_found(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    for _ in 0..5 {
        Refused::to_confirm(&wire.simple("DELETE FROM logs"));
    }
    assert_eq!(sluice.verify_record().code, Some(0));
    let text = fs::read_to_string(sluice.record_path()).expect("a record");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() >= 6, "{text}");
    let folder = tempfile::tempdir().expect("a folder");
    let edited = text.replacen("SL001", "SL003", 1);
    let removed = [&lines[..2], &lines[3..]].concat().join("\n") + "\n";
    let mut swapped = lines.clone();
    swapped.swap(2, 3);
    let swapped = swapped.join("\n") + "\n";
    let doubled = [&lines[..3], &lines[2..]].concat().join("\n") + "\n";
    for (what, tampered) in [("edited", edited), ("removed", removed), ("swapped", swapped), ("doubled", doubled)] {
        let path = folder.path().join(what);
        fs::write(&path, &tampered).expect("our own folder");
        let said = verify(&path);
        assert_ne!(said.code, Some(0), "a line was {what}: {said:?}");
    }
    assert_ne!(verify(&folder.path().join("nowhere")).code, Some(0));
}

fn a_wrong_configuration_is_refused(server: &'static Server) {
    let database = server.database("");
    for (wrong, told) in [
        ("[limits]\nfree_rwos = 5", "free_rwos"),
        ("[policy]\npreset = \"lax\"", "lax"),
        ("[[scope]]\nrules = { missing-were = \"allow\" }", "missing-were"),
        ("[[scope]]\nrules = { other-doors = \"allow\" }", "other-doors"),
    ] {
        let said = Setup::before(&database).with(wrong).start_in_vain();
        assert_ne!(said.code, Some(0), "{wrong}: {said:?}");
        assert!(said.err.contains(told), "{wrong}: {said:?}");
    }
}

fn the_record_tells_the_whole_story(server: &'static Server) {
    let (database, sluice) = shop_with(server, |setup| setup);
    let mut wire = sluice.connect_as(SUPERUSER, &database);
    let token = Refused::to_confirm(&wire.simple("DELETE FROM logs")).token();
    wire.simple(&format!("SLUICE CONFIRM '{token}'")).expect_fine("confirmed");
    drop(wire);
    let record = sluice.record();
    let kinds: Vec<&str> = record.iter().filter_map(|line| line["kind"].as_str()).collect();
    let wanted = ["service", "login", "refusal", "command", "statement", "outcome"];
    let mut rest = kinds.iter();
    for kind in wanted {
        assert!(rest.any(|one| *one == kind), "{kind} is missing, or out of order: {kinds:?}");
    }
    let refusal = record.iter().find(|line| line["kind"] == "refusal").expect("just seen");
    assert_eq!(
        (refusal["user"].as_str(), refusal["database"].as_str()),
        (Some(SUPERUSER), Some(database.name.as_str()))
    );
    assert_eq!(refusal["address"], "127.0.0.1");
    assert!(
        refusal["statement"].as_str().is_some_and(|text| text.to_lowercase().contains("delete from logs")),
        "{refusal}"
    );
    let outcome = record.iter().find(|line| line["kind"] == "outcome").expect("just seen");
    assert_eq!(outcome["actual_rows"], 500);
    let numbers: Vec<u64> = record.iter().filter_map(|line| line["seq"].as_u64()).collect();
    assert_eq!(numbers, (1..=record.len() as u64).collect::<Vec<_>>(), "without a gap");
}

fn rules_have_pages(server: &'static Server) {
    assert!(server.version >= 15);
    let sluice = || Tool::new(env!("CARGO_BIN_EXE_sluice"));
    let page = sluice().args(["explain", "missing-where"]).run_fine();
    assert!(page.out.contains("missing-where") && page.out.contains("DELETE FROM"), "{page:?}");
    let unknown = sluice().args(["explain", "missing-were"]).run();
    assert_ne!(unknown.code, Some(0));
    assert!(unknown.err.contains("missing-where"), "it says what was meant: {unknown:?}");
}
