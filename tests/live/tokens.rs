//! Confirming, and every way to misuse a token.

use crate::harness::server::{Database, Server, TRUSTED};
use crate::harness::shop::{Refused, SHOP, shop, shop_with};
use crate::harness::sluice::{Setup, Sluice};
use crate::harness::stories;
use crate::harness::wire::{Outcome, Wire};
use std::time::Duration;

stories! {
    a_hint_confirms_wherever_it_stands, a_misspelt_hint_is_refused,
    a_token_works_once, of_many_who_try_at_once_one_runs, a_token_expires, another_users_token_is_wrong, another_databases_token,
    a_wrong_token, many_wrong_tokens, however_it_is_typed, after_a_change_of_schema, after_the_counts_moved, within_tolerance,
    more_rows_than_confirmed_are_rolled_back, a_hint_confirms, a_hint_confirms_nothing_else, a_session_setting_confirms,
    a_rejected_token, the_search_path_is_part_of_the_promise, so_is_what_dates_mean, from_another_session_of_the_same_user,
    a_pending_token_survives_a_restart, a_used_token_stays_used_after_a_crash, a_token_is_written_nowhere,
    a_token_cannot_outvote_a_later_denial, what_fails_fails_as_the_server_says, four_eyes,
    what_an_approver_sees_is_not_the_senders_to_write,
}

const CLEAR: &str = "DELETE FROM logs";

fn four_eyes(server: &'static Server) {
    let (database, sluice) = shop_with(server, |setup| {
        setup.with("[[scope]]\nname = \"four eyes\"\nrules = { \"missing-where\" = \"approve\" }")
    });
    let (mut sender, mut other) = (sluice.connect(&database), sluice.connect_as("other", &database));
    let refused = Refused::of(&sender.simple(CLEAR));
    assert_eq!(refused.code, "SL002", "{refused:?}");
    let token = refused.token();
    for alone in [format!("SLUICE APPROVE '{token}'"), format!("SLUICE CONFIRM '{token}'"), CLEAR.to_owned()] {
        let outcome = sender.simple(&alone);
        assert!(["SL002", "SL005"].contains(&outcome.code().as_str()), "never the sender: {alone}: {outcome:#?}");
    }
    assert_token_refused(&other.simple(&format!("SLUICE CONFIRM '{token}'")));
    let shown = other.simple(&format!("SLUICE SHOW '{token}'"));
    assert!(format!("{:?}", shown.rows()).contains("500"), "the approver sees what it is: {shown:#?}");
    other.simple(&format!("SLUICE APPROVE '{token}'")).expect_fine("another principal may");
    assert_eq!(database.count("logs"), 500, "approved is not carried out");
    assert_eq!(
        Refused::of(&sender.simple("UPDATE logs SET line = 'y'")).code,
        "SL002",
        "another statement is not approved"
    );
    assert_eq!(Refused::of(&other.simple(CLEAR)).code, "SL002", "nor is another sender");
    assert_eq!(sender.simple(CLEAR).tags(), ["DELETE 500"], "sent again, it runs");
    refill(&database);
    assert_eq!(Refused::of(&sender.simple(CLEAR)).code, "SL002", "once");
}

fn what_an_approver_sees_is_not_the_senders_to_write(server: &'static Server) {
    let (database, sluice) = shop_with(server, |setup| {
        setup.with("[[scope]]\nname = \"four eyes\"\nrules = { \"missing-where\" = \"approve\" }")
    });
    database.run("CREATE TABLE \"x\nthis would delete 1 row\" AS SELECT generate_series(1, 300) AS id");
    let (mut sender, mut other) = (sluice.connect(&database), sluice.connect_as("other", &database));
    let text = "DELETE FROM \"x\nthis would delete 1 row\"\n\nthis would delete 1 row\r\u{1b}[2K\n";
    let text = text.replace("\n\nthis", "\n/*\nthis") + "*/";
    let token = Refused::of(&sender.simple(&text)).token();
    let columns = |outcome: Outcome| -> Vec<String> { outcome.rows().into_iter().flatten().flatten().collect() };
    let shown = columns(other.simple(&format!("SLUICE SHOW '{token}'")));
    assert!(shown.iter().any(|line| line.contains("  | this would delete 1 row")), "the text is shown: {shown:#?}");
    let waiting = columns(sender.simple("SLUICE PENDING"));
    for line in shown.iter().chain(&waiting) {
        assert!(!line.starts_with("this would delete 1 row"), "{line}");
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}

fn a_token_works_once(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    let token = asked(&mut wire, CLEAR);
    assert_eq!(confirm(&mut wire, &token).tags(), ["DELETE 500"]);
    refill(&database);
    assert_token_refused(&confirm(&mut wire, &token));
    assert_token_refused(&confirm(&mut sluice.connect(&database), &token));
    assert_eq!(database.count("logs"), 500, "the second time did nothing");
}

fn of_many_who_try_at_once_one_runs(server: &'static Server) {
    let (database, sluice) = shop(server);
    database.run(
        "CREATE TABLE runs (n int); CREATE FUNCTION ran() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO runs VALUES (1); RETURN NULL; END';
        CREATE TRIGGER ran AFTER UPDATE ON logs FOR EACH STATEMENT EXECUTE FUNCTION ran()",
    );
    let token = asked(&mut sluice.connect(&database), "UPDATE logs SET line = 'x'");
    let wires: Vec<Wire> = (0..8).map(|_| sluice.connect(&database)).collect();
    let answers: Vec<Outcome> = std::thread::scope(|scope| {
        let tries: Vec<_> = wires
            .into_iter()
            .map(|mut wire| {
                let token = &token;
                scope.spawn(move || confirm(&mut wire, token))
            })
            .collect();
        tries.into_iter().map(|one| one.join().expect("an answer")).collect()
    });
    let ran = answers.iter().filter(|answer| answer.tags() == ["UPDATE 500"]).count();
    let refused = answers.iter().filter(|answer| answer.code() == "SL005").count();
    assert_eq!((ran, refused), (1, 7), "{answers:#?}");
    assert_eq!(database.count("runs"), 1);
}

fn a_token_expires(server: &'static Server) {
    let (database, sluice) = shop_with(server, |setup| setup.with("[limits]\ntoken_ttl = \"1s\""));
    let mut wire = sluice.connect(&database);
    let token = asked(&mut wire, CLEAR);
    std::thread::sleep(Duration::from_millis(1_300)); // the only clock there is here is the real one
    assert_token_refused(&confirm(&mut wire, &token));
    assert_eq!(database.count("logs"), 500);
    assert!(wire.simple("SLUICE PENDING").rows().is_empty());
}

fn another_users_token_is_wrong(server: &'static Server) {
    let (database, sluice) = shop(server);
    database.run("GRANT ALL ON ALL TABLES IN SCHEMA public TO other");
    let mut owner = sluice.connect(&database);
    let token = asked(&mut owner, CLEAR);
    let mut thief = sluice.connect_as("other", &database);
    let stolen = assert_token_refused(&confirm(&mut thief, &token));
    let made_up = assert_token_refused(&confirm(&mut thief, "AAAA-AAAA"));
    assert_eq!(stolen.message, made_up.message, "nobody learns that another's token exists");
    assert!(Refused::of(&thief.simple(&format!("SLUICE SHOW '{token}'"))).detail.is_empty());
    assert!(thief.simple("SLUICE PENDING").rows().is_empty());
    assert_eq!(confirm(&mut owner, &token).tags(), ["DELETE 500"], "it is still good for its owner");
}

fn another_databases_token(server: &'static Server) {
    let (database, sluice) = shop(server);
    let twin = server.copy_of(&database);
    let token = asked(&mut sluice.connect(&database), CLEAR);
    assert_token_refused(&confirm(&mut sluice.connect(&twin), &token));
    assert_eq!((database.count("logs"), twin.count("logs")), (500, 500));
    assert_eq!(confirm(&mut sluice.connect(&database), &token).tags(), ["DELETE 500"]);
}

fn a_wrong_token(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    let token = asked(&mut wire, CLEAR);
    let first = token.chars().next().expect("a token");
    let close = format!("{}{}", if first == 'A' { 'B' } else { 'A' }, &token[1..]);
    for wrong in [close.as_str(), "", " ", "x", "AAAA-AAAA-AAAA", "'", "K7QF_2M9X", "٣٣٣٣-٣٣٣٣", &"A".repeat(10_000)]
    {
        let outcome = wire.simple(&format!("SLUICE CONFIRM '{}'", wrong.replace('\'', "''")));
        assert!(["SL005", "42601"].contains(&outcome.code().as_str()), "{wrong}: {outcome:#?}");
        assert_eq!(outcome.status(), 'I');
    }
    assert_eq!(wire.simple("SLUICE CONFIRM").code(), "42601");
    assert_eq!(wire.simple("SLUICE CONFIRM 'A' 'B'").code(), "42601");
    assert_eq!(database.count("logs"), 500);
    assert_eq!(confirm(&mut wire, &token).tags(), ["DELETE 500"]);
}

fn many_wrong_tokens(server: &'static Server) {
    let (database, sluice) = shop(server);
    database.run("GRANT ALL ON ALL TABLES IN SCHEMA public TO other");
    let mut guesser = sluice.connect_as("other", &database);
    let own = asked(&mut guesser, CLEAR);
    for n in 0..30 {
        // From fresh sessions too: the limit is the principal's, not the connection's.
        let mut wire = sluice.connect_as("other", &database);
        assert_token_refused(&confirm(&mut wire, &format!("{:04}-ABCD", 2000 + n).replace('0', "Z").replace('1', "Y")));
    }
    assert_token_refused(&confirm(&mut guesser, &own));
    assert_eq!(database.count("logs"), 500, "past the limit the right token fails, too");
    let mut wire = sluice.connect(&database);
    let token = asked(&mut wire, CLEAR);
    assert_eq!(confirm(&mut wire, &token).tags(), ["DELETE 500"], "and nobody else is locked out by it");
}

fn however_it_is_typed(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    type Variant = fn(&str) -> String;
    let variants: [Variant; 7] = [
        |token| format!("sluice confirm '{token}'"),
        |token| format!("SLUICE CONFIRM '{}'", token.to_lowercase()),
        |token| format!("SLUICE CONFIRM '{}'", token.replace('-', "")),
        |token| format!("  SLUICE\n\tCONFIRM '{token}' ;"),
        |token| format!("/* yes */ SLUICE CONFIRM '{token}' -- go"),
        |token| format!("SLUICE CONFIRM \"{token}\""),
        |token| format!("Sluice Confirm '{token}';"),
    ];
    for variant in variants {
        refill(&database);
        let token = asked(&mut wire, CLEAR);
        let typed = variant(&token);
        assert_eq!(wire.simple(&typed).tags(), ["DELETE 500"], "{typed}");
    }
}

fn after_a_change_of_schema(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    let token = asked(&mut wire, CLEAR);
    database.run("ALTER TABLE logs ADD COLUMN valuable text DEFAULT 'yes'");
    let anew = Refused::to_confirm(&confirm(&mut wire, &token));
    assert_ne!(anew.token(), token);
    assert_eq!(database.count("logs"), 500, "what was shown is not what would be deleted now");
    assert_token_refused(&confirm(&mut wire, &token));
    assert_eq!(confirm(&mut wire, &anew.token()).tags(), ["DELETE 500"]);
    // A table dropped and made again under the same name is another table.
    refill(&database);
    let token = asked(&mut wire, CLEAR);
    database.run(
        "CREATE TABLE fresh (LIKE logs INCLUDING ALL); INSERT INTO fresh SELECT * FROM logs; DROP TABLE logs;
        ALTER TABLE fresh RENAME TO logs",
    );
    Refused::to_confirm(&confirm(&mut wire, &token));
    assert_eq!(database.count("logs"), 500);
}

fn after_the_counts_moved(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    let token = asked(&mut wire, "DELETE FROM carts WHERE status = 'abandoned'");
    database.run("UPDATE carts SET status = 'abandoned' WHERE id BETWEEN 2001 AND 2200"); // a tenth more
    let anew = Refused::to_confirm(&confirm(&mut wire, &token));
    assert!(anew.message.contains("2,200"), "{anew:?}");
    assert_eq!(database.count("carts"), 5000);
    // By cascade alone: as many carts as were shown, more items.
    let token = anew.token();
    database.run("INSERT INTO cart_items SELECT n, 1 FROM generate_series(20000, 21000) n");
    let anew = Refused::to_confirm(&confirm(&mut wire, &token));
    assert_eq!(database.count("carts"), 5000);
    assert_eq!(confirm(&mut wire, &anew.token()).tags(), ["DELETE 2200"]);
}

fn within_tolerance(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    let token = asked(&mut wire, "DELETE FROM carts WHERE status = 'abandoned'");
    database.run("UPDATE carts SET status = 'abandoned' WHERE id BETWEEN 2001 AND 2040"); // two in a hundred more
    assert_eq!(confirm(&mut wire, &token).tags(), ["DELETE 2040"]);
    let token = asked(&mut wire, "UPDATE carts SET note = 'x' WHERE status = 'paid'");
    database.run("DELETE FROM carts WHERE status = 'paid' AND id > 4000"); // fewer harm nobody
    let outcome = confirm(&mut wire, &token);
    assert!(outcome.tags() == ["UPDATE 1960"] || outcome.code() == "SL001", "{outcome:#?}");
}

fn more_rows_than_confirmed_are_rolled_back(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    // A LIMIT: it is not cut into batches.
    let token = asked(&mut wire, "DELETE FROM carts WHERE status = (SELECT 'abandoned' LIMIT 1)");
    // Counting passes the lock, deleting waits for it: meanwhile there are twice as many.
    let mut other = database.connect();
    other.simple("BEGIN; LOCK TABLE carts IN SHARE ROW EXCLUSIVE MODE").expect_fine("a lock");
    wire.send(&crate::harness::message::query(&format!("SLUICE CONFIRM '{token}'")));
    database.wait_until(
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')",
    );
    other.simple("UPDATE carts SET status = 'abandoned' WHERE id <= 4000; COMMIT").expect_fine("more of them");
    let outcome = wire.until_ready();
    let refused = Refused::of(&outcome);
    assert_eq!((refused.code.as_str(), outcome.status()), ("SL004", 'I'), "{refused:?}");
    assert!(outcome.tags().is_empty(), "nothing was done, so nothing is said to be done: {outcome:#?}");
    assert_eq!((database.count("carts"), database.count("cart_items")), (5000, 10000));
    assert_token_refused(&confirm(&mut wire, &token));
    let outcomes: Vec<_> = sluice.record().into_iter().filter(|line| line["sqlstate"] == "SL004").collect();
    assert_eq!(outcomes.len(), 1, "{outcomes:#?}");
    assert_eq!(sluice.verify_record().code, Some(0));
}

fn a_hint_confirms(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    let token = asked(&mut wire, CLEAR);
    let outcome = wire.simple(&format!("/* sluice: confirm={token} reason=\"OPS-1204\" */ {CLEAR}"));
    assert_eq!(outcome.tags(), ["DELETE 500"], "{outcome:#?}");
    refill(&database);
    let again = wire.simple(&format!("/* sluice: confirm={token} */ {CLEAR}"));
    assert_ne!(again.code(), "", "once: {again:#?}");
    assert_eq!(database.count("logs"), 500);
    // With parameters, through the extended protocol.
    let statement = "UPDATE carts SET note = 'x' WHERE id > $1::int";
    let token = Refused::to_confirm(&wire.extended(statement, &["0"])).token();
    let other_value = wire.extended(&format!("/* sluice: confirm={token} */ {statement}"), &["-1"]);
    assert_ne!(other_value.code(), "", "another value is another statement: {other_value:#?}");
    let token = Refused::to_confirm(&wire.extended(statement, &["0"])).token();
    let outcome = wire.extended(&format!("/* sluice: confirm={token} */ {statement}"), &["0"]);
    assert_eq!(outcome.tags(), ["UPDATE 5000"], "{outcome:#?}");
}

fn a_hint_confirms_nothing_else(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    let token = asked(&mut wire, CLEAR);
    for statement in [
        format!("/* sluice: confirm={token} */ DELETE FROM carts"),
        format!("/* sluice: confirm={token} */ DELETE FROM logs; DELETE FROM carts"),
        format!("/* sluice: confirm={token} */ UPDATE logs SET line = 'x'"),
        "/* sluice: confirm=AAAA-AAAA */ DELETE FROM logs".to_owned(),
        format!("SELECT '/* sluice: confirm={token} */'; DELETE FROM logs"),
        format!("DELETE FROM logs WHERE line <> '/* sluice: confirm={token} */' OR true"),
    ] {
        let outcome = wire.simple(&statement);
        assert!(outcome.code().starts_with("SL"), "{statement}: {outcome:#?}");
        assert!(outcome.tags().iter().all(|tag| !tag.starts_with("DELETE")), "{statement}: {outcome:#?}");
    }
    assert_eq!((database.count("logs"), database.count("carts")), (500, 5000));
}

fn a_session_setting_confirms(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    let token = asked(&mut wire, CLEAR);
    wire.simple(&format!("SET sluice.confirm = '{token}'")).expect_fine("harmless without Sluice");
    assert_eq!(wire.simple(CLEAR).tags(), ["DELETE 500"]);
    refill(&database);
    assert_ne!(wire.simple(CLEAR).code(), "", "once");
    assert_eq!(database.count("logs"), 500);
}

fn a_rejected_token(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    let token = asked(&mut wire, CLEAR);
    assert_eq!(wire.simple("SLUICE PENDING").rows().len(), 1);
    wire.simple(&format!("SLUICE REJECT '{token}'")).expect_fine("taken back");
    assert!(wire.simple("SLUICE PENDING").rows().is_empty());
    assert_token_refused(&confirm(&mut wire, &token));
    assert_eq!(database.count("logs"), 500);
}

fn the_search_path_is_part_of_the_promise(server: &'static Server) {
    let (database, sluice) = shop(server);
    database.run("CREATE SCHEMA other; CREATE TABLE other.logs AS SELECT * FROM logs");
    let mut wire = sluice.connect(&database);
    let token = asked(&mut wire, CLEAR);
    wire.simple("SET search_path = other, public").expect_fine("the name means another table now");
    let outcome = confirm(&mut wire, &token);
    assert!(["SL005", "SL001"].contains(&outcome.code().as_str()), "{outcome:#?}");
    assert_eq!((database.count("public.logs"), database.count("other.logs")), (500, 500));
}

fn so_is_what_dates_mean(server: &'static Server) {
    let (database, sluice) = shop(server);
    database.run("CREATE TABLE days (id serial, day date); INSERT INTO days (day) SELECT date '2026-01-02' FROM generate_series(1, 2000); INSERT INTO days (day) SELECT date '2026-02-01' FROM generate_series(1, 2000)");
    let mut wire = sluice.connect(&database);
    wire.simple("SET DateStyle = 'ISO, MDY'").expect_fine("the month first");
    let refused = Refused::to_confirm(&wire.simple("DELETE FROM days WHERE day = '01/02/2026'"));
    wire.simple("SET DateStyle = 'ISO, DMY'").expect_fine("the day first");
    let told = Refused::of(&wire.simple(&format!("SLUICE CONFIRM '{}'", refused.token())));
    assert!(
        told.message.contains("DateStyle") || told.detail.contains("DateStyle") || told.hint.contains("DateStyle"),
        "{told:?}"
    );
    assert_eq!(database.value("SELECT count(*) FROM days"), "4000");
}

fn from_another_session_of_the_same_user(server: &'static Server) {
    let (database, sluice) = shop(server);
    let token = asked(&mut sluice.connect(&database), CLEAR);
    let mut wire = sluice.connect(&database);
    let shown = wire.simple(&format!("SLUICE SHOW '{token}'"));
    let text: Vec<String> = shown.rows().into_iter().flatten().flatten().collect();
    assert!(text.join("\n").contains("500"), "{text:?}");
    assert_eq!(wire.simple("SLUICE PENDING").rows().len(), 1);
    assert_eq!(confirm(&mut wire, &token).tags(), ["DELETE 500"]);
}

fn a_pending_token_survives_a_restart(server: &'static Server) {
    let (database, sluice) = shop(server);
    let token = asked(&mut sluice.connect(&database), CLEAR);
    let sluice = sluice.crash_and_restart();
    assert_eq!(confirm(&mut sluice.connect(&database), &token).tags(), ["DELETE 500"]);
    let verified = sluice.verify_record();
    assert_eq!(verified.code, Some(0), "the chain goes on over a restart: {verified:?}");
}

fn a_used_token_stays_used_after_a_crash(server: &'static Server) {
    let (database, sluice) = shop(server);
    let token = asked(&mut sluice.connect(&database), CLEAR);
    assert_eq!(confirm(&mut sluice.connect(&database), &token).tags(), ["DELETE 500"]);
    refill(&database);
    let sluice = sluice.crash_and_restart();
    assert_token_refused(&confirm(&mut sluice.connect(&database), &token));
    assert_eq!(database.count("logs"), 500);
}

fn a_token_is_written_nowhere(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    let used = asked(&mut wire, CLEAR);
    confirm(&mut wire, &used).expect_fine("confirmed");
    refill(&database);
    let pending = asked(&mut wire, CLEAR);
    wire.simple("UPDATE logs SET line = 'a very private value' WHERE id = 3").expect_fine("a small change");
    let written = String::from_utf8_lossy(&sluice.everything_written()).to_uppercase();
    assert!(written.contains("LOGS"), "there is something to look at");
    for token in [used, pending] {
        let bare = token.replace('-', "");
        assert!(
            !written.contains(&token.to_uppercase()) && !written.contains(&bare.to_uppercase()),
            "a token was written down"
        );
    }
    let record = serde_json::to_string(&sluice.record()).expect("JSON");
    assert!(!record.contains("a very private value"), "values are not recorded unless told to");
}

fn a_token_cannot_outvote_a_later_denial(server: &'static Server) {
    let database = server.database(SHOP);
    let mut sluice: Sluice = Setup::before(&database).start();
    let mut wire = sluice.connect(&database);
    let token = asked(&mut wire, CLEAR);
    sluice.reload("[[scope]]\nname = \"freeze\"\nrules = { missing-where = \"deny\" }");
    Refused::denied(&confirm(&mut wire, &token));
    assert_eq!(database.count("logs"), 500);
}

fn what_fails_fails_as_the_server_says(server: &'static Server) {
    let (database, sluice) = shop(server);
    database.run("CREATE TABLE kept (id int PRIMARY KEY REFERENCES logs DEFERRABLE INITIALLY DEFERRED); INSERT INTO kept VALUES (5)");
    let mut wire = sluice.connect(&database);
    let token = asked(&mut wire, CLEAR);
    let outcome = confirm(&mut wire, &token);
    assert_eq!((outcome.code().as_str(), outcome.status()), ("23503", 'I'), "at commit: {outcome:#?}");
    assert!(outcome.tags().is_empty(), "a client is not told of a DELETE that was not committed: {outcome:#?}");
    assert_eq!(database.count("logs"), 500);
    assert_eq!(wire.simple("SELECT 1").status(), 'I');
    database.run(
        "DROP TABLE kept; CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = 'ZZ999'; END$$;
        CREATE TRIGGER no BEFORE DELETE ON logs FOR EACH ROW EXECUTE FUNCTION no()",
    );
    let token = asked(&mut wire, CLEAR);
    let outcome = confirm(&mut wire, &token);
    assert_eq!((outcome.code().as_str(), outcome.status()), ("ZZ999", 'I'), "{outcome:#?}");
    assert_eq!(database.count("logs"), 500);
    assert_eq!(sluice.verify_record().code, Some(0));
}

/// Sends a statement that is refused with a token, and gives the token.
fn asked(wire: &mut Wire, statement: &str) -> String {
    Refused::to_confirm(&wire.simple(statement)).token()
}

fn confirm(wire: &mut Wire, token: &str) -> Outcome {
    wire.simple(&format!("SLUICE CONFIRM '{token}'"))
}

fn assert_token_refused(outcome: &Outcome) -> Refused {
    let refused = Refused::of(outcome);
    assert_eq!(refused.code, "SL005", "{refused:?}");
    assert!(outcome.tags().is_empty(), "{outcome:#?}");
    refused
}

/// The log as it was at first.
fn refill(database: &Database) {
    database.run(
        "DELETE FROM logs; INSERT INTO logs (id, kind) SELECT n, 'again' FROM generate_series(1, 500) n; ANALYZE logs",
    );
    assert_eq!(database.value("SELECT current_user"), TRUSTED);
}

fn a_hint_confirms_wherever_it_stands(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    for (before, middle, behind, semicolon) in
        [(1, 0, 0, ";"), (0, 1, 0, ";"), (0, 0, 1, ";"), (0, 0, 1, ""), (1, 0, 0, ""), (0, 0, 2, "")]
    {
        let token = Refused::to_confirm(&wire.simple("DELETE FROM logs;")).token();
        let hint = |form: i32| match form {
            0 => String::new(),
            1 => format!(" /* sluice: confirm={token} */ "),
            _ => format!(" -- sluice: confirm={token}"),
        };
        let text =
            |table: &str| format!("{}DELETE {}FROM {table}{}{semicolon}", hint(before), hint(middle), hint(behind));
        let other = text("logs AS l");
        assert_eq!(Refused::of(&wire.simple(&other)).code, "SL005", "{other}");
        assert_eq!(database.count("logs"), 500);
        wire.simple(&text("logs")).expect_fine(&text("logs"));
        assert_eq!(database.count("logs"), 0);
        database.run("INSERT INTO logs SELECT g, 'even', NULL FROM generate_series(1, 500) g");
    }
}

fn a_misspelt_hint_is_refused(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    for hint in ["max_afected=10", "max_affected=ten", "max_affected = 10", "max_affected=10,reason=x"] {
        let statement = format!("DELETE FROM logs WHERE id < 100 /* sluice: {hint} */");
        for outcome in [wire.simple(&statement), wire.extended(&statement, &[])] {
            assert!(format!("{outcome:?}").contains("C42601"), "{hint}: {outcome:?}");
        }
    }
    assert_eq!(database.count("logs"), 500);
    wire.simple("DELETE FROM logs WHERE id < 10 /* sluice: max_affected=10 */").expect_fine("well said");
}
