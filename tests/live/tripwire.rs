//! The third truth: what a statement or a transaction did, as the database itself counts it, before it commits.

use crate::harness::message::{bind, copy_data, copy_done, execute, message, parse, query, sync, whole};
use crate::harness::server::{Database, Server};
use crate::harness::shop::{Refused, shop, shop_with};
use crate::harness::sluice::Sluice;
use crate::harness::stories;
use crate::harness::wire::{Outcome, Wire};

stories! {
    what_a_function_does_is_tried_and_shown, the_token_of_what_was_tried_runs_it_once, small_effects_pass,
    functions_that_only_read_or_add_cost_nothing, do_and_call, a_procedure_that_commits_by_itself,
    what_hides_behind_names, by_the_extended_protocol, planning_alone_runs_it, a_prepared_statement_whose_name_came_to_lead_on,
    triggers_that_do_more_than_was_shown, small_changes_that_add_up, copy_into_a_table_that_fires, a_cursor_runs_it_as_it_is_fetched,
    a_schema_change_is_noticed_at_once, in_a_transaction_block, deferred_triggers, a_hint_confirms_what_was_tried,
    a_function_that_drops, own_equality, several_in_one_message, observed_only, a_function_that_acts_outside_is_not_tried, what_attackers_tried, what_attackers_tried_by_the_extended_protocol,
    what_attackers_tried_next, a_merge_is_tried, what_two_sessions_tried, names_that_changed_before_a_portal_ran, what_must_stand_first_in_a_transaction,
    tables_that_fill_while_a_removal_waits, migrations_in_a_block, a_key_compared_as_another_type, names_in_other_encodings, a_deferred_trigger_that_fails,
    what_was_tried_is_in_the_record, what_functions_change_in_a_freeze, a_limit_told_to_the_session,
}

const CODE: &str = "
    CREATE TABLE audit (note text); CREATE TABLE totals (n int); INSERT INTO totals SELECT 0 FROM generate_series(1, 300);
    CREATE FUNCTION purge() RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM logs; RETURN 1; END';
    CREATE FUNCTION purge_some(n int) RETURNS int LANGUAGE plpgsql AS
      'BEGIN DELETE FROM logs WHERE ctid IN (SELECT ctid FROM logs LIMIT n); RETURN 1; END';
    CREATE FUNCTION calm() RETURNS int LANGUAGE sql STABLE AS 'SELECT 7';
    CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO audit VALUES (TG_OP); RETURN NEW; END';
    CREATE FUNCTION wipes() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM logs; RETURN NULL; END';
    CREATE PROCEDURE purging() LANGUAGE plpgsql AS 'BEGIN DELETE FROM logs; END';
    CREATE PROCEDURE committing() LANGUAGE plpgsql AS 'BEGIN DELETE FROM logs; COMMIT; END';
    CREATE FUNCTION hidden() RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM purge(); RETURN 1; END';
    CREATE VIEW peek AS SELECT hidden() AS n;
    CREATE TABLE inbox (id int); CREATE TRIGGER w AFTER INSERT ON inbox FOR EACH ROW EXECUTE FUNCTION wipes();
    CREATE TABLE calmbox (id int); CREATE TRIGGER n BEFORE INSERT ON calmbox FOR EACH ROW EXECUTE FUNCTION noted();
    CREATE TABLE ruled (id int); CREATE RULE r AS ON INSERT TO ruled DO INSTEAD DELETE FROM logs;
    CREATE TABLE guarded (id int); ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
    CREATE FUNCTION same(point, text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN DELETE FROM logs; RETURN true; END';
    CREATE OPERATOR <=> (LEFTARG = point, RIGHTARG = text, FUNCTION = same)";

fn sent(wire: &mut Wire, bytes: &[u8]) -> Outcome {
    wire.send(bytes);
    wire.until_ready()
}

fn with_code(server: &'static Server) -> (Database, Sluice) {
    let (database, sluice) = shop(server);
    database.run(CODE);
    (database, sluice)
}

fn what_a_function_does_is_tried_and_shown(server: &'static Server) {
    let (database, sluice) = with_code(server);
    let mut wire = sluice.connect(&database);
    let refused = Refused::to_confirm(&wire.simple("SELECT purge()"));
    assert!(
        refused.message.contains("this would change 500 rows of public.logs (tried, and rolled back)"),
        "{refused:?}"
    );
    assert!(refused.names_rule("unknown-effect") && refused.detail.contains("500 deleted"), "{refused:?}");
    assert!(refused.detail.contains("leads to: purge"), "{refused:?}");
    assert_eq!(database.count("logs"), 500);
    // Nobody is told beforehand that it is allowed.
    for command in ["SLUICE PREVIEW SELECT purge()", "SLUICE EXPLAIN SELECT purge()"] {
        let told = wire.simple(command).rows().iter().flatten().flatten().cloned().collect::<Vec<_>>().join("\n");
        assert!(told.contains("tried") && !told.contains("would happen: allow"), "{told}");
    }
}

fn the_token_of_what_was_tried_runs_it_once(server: &'static Server) {
    let (database, sluice) = with_code(server);
    let mut wire = sluice.connect(&database);
    let token = Refused::to_confirm(&wire.simple("SELECT purge()")).token();
    assert_eq!(wire.simple(&format!("SLUICE CONFIRM '{token}'")).rows(), [[Some("1".to_owned())]]);
    assert_eq!(database.count("logs"), 0);
    database.run("INSERT INTO logs SELECT 1000 + g, 'even', 'x' FROM generate_series(1, 500) g");
    assert_eq!(Refused::of(&wire.simple(&format!("SLUICE CONFIRM '{token}'"))).code, "SL005");
    // More than was shown is rolled back, with what it did now and a token for that.
    let token = Refused::to_confirm(&wire.simple("SELECT purge()")).token();
    database.run("INSERT INTO logs SELECT 2000 + g, 'even', 'x' FROM generate_series(1, 500) g");
    let refused = Refused::of(&wire.simple(&format!("SLUICE CONFIRM '{token}'")));
    assert_eq!(refused.code, "SL004", "{refused:?}");
    assert!(refused.detail.contains("promised") && refused.detail.contains("1,000"), "{refused:?}");
    assert_eq!(database.count("logs"), 1000);
    wire.simple(&format!("SLUICE CONFIRM '{}'", refused.token())).expect_fine("shown anew");
    assert_eq!(database.count("logs"), 0);
}

fn small_effects_pass(server: &'static Server) {
    let (database, sluice) = with_code(server);
    let mut wire = sluice.connect(&database);
    assert_eq!(wire.simple("SELECT purge_some(7)").tags(), ["SELECT 1"]);
    assert_eq!(database.count("logs"), 493);
    assert_eq!(wire.simple("DO 'BEGIN PERFORM purge_some(3); END'").tags(), ["DO"]);
    assert_eq!(database.count("logs"), 490);
    Refused::to_confirm(&wire.simple("SELECT purge_some(101)"));
    assert_eq!(database.count("logs"), 490);
}

fn functions_that_only_read_or_add_cost_nothing(server: &'static Server) {
    let (database, sluice) = with_code(server);
    let mut wire = sluice.connect(&database);
    // In a transaction that Sluice began, the statement begins later than the transaction.
    let alone = |text: &str, wire: &mut Wire| wire.simple(text).value();
    const ALONE: &str = "now() = statement_timestamp()";
    for text in ["SELECT {} FROM (SELECT calm()) c", "SELECT {}", "INSERT INTO calmbox VALUES (1) RETURNING {}"] {
        assert_eq!(alone(&text.replace("{}", ALONE), &mut wire), "t", "{text}");
    }
    assert_eq!(alone(&format!("SELECT {ALONE} FROM (SELECT purge_some(0)) c"), &mut wire), "f");
    assert_eq!(database.count("audit"), 1);
}

fn do_and_call(server: &'static Server) {
    let (database, sluice) = with_code(server);
    let mut wire = sluice.connect(&database);
    for text in
        ["DO $$ BEGIN DELETE FROM logs; END $$", "CALL purging()", "DO $$ BEGIN EXECUTE 'TRUNCATE logs'; END $$"]
    {
        let refused = Refused::to_confirm(&wire.simple(text));
        assert!(refused.names_rule("unknown-effect"), "{text}: {refused:?}");
        assert_eq!(database.count("logs"), 500, "{text}");
    }
    let token = Refused::to_confirm(&wire.simple("CALL purging()")).token();
    wire.simple(&format!("SLUICE CONFIRM '{token}'")).expect_fine("confirmed");
    assert_eq!(database.count("logs"), 0);
}

fn a_procedure_that_commits_by_itself(server: &'static Server) {
    let (database, sluice) = with_code(server);
    let mut wire = sluice.connect(&database);
    let refused = Refused::to_confirm(&wire.simple("CALL committing()"));
    assert!(refused.detail.contains("cannot be tried"), "{refused:?}");
    assert_eq!(database.count("logs"), 500);
    assert_eq!(wire.simple(&format!("SLUICE CONFIRM '{}'", refused.token())).tags(), ["CALL"]);
    assert_eq!(database.count("logs"), 0);
}

fn what_hides_behind_names(server: &'static Server) {
    let (database, sluice) = with_code(server);
    database.run("CREATE POLICY p ON guarded USING (hidden() > 0); GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC");
    let mut wire = sluice.connect(&database);
    for text in [
        "SELECT * FROM peek",
        "SELECT \"hidden\"()",
        "SELECT U&\"hidd\\0065n\"()",
        "EXPLAIN SELECT hidden()",
        "EXPLAIN ANALYZE SELECT purge()",
        "INSERT INTO inbox VALUES (1)",
        "INSERT INTO ruled VALUES (1)",
        "COPY (SELECT purge()) TO STDOUT",
        "SELECT '(1,2)'::point <=> 'x'",
        "CREATE TABLE made AS SELECT purge() AS n",
        "WITH a AS (SELECT purge()) SELECT 1 FROM a",
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM (VALUES (purge())) v)",
        "TABLE peek",
        "VALUES (purge())",
        "UPDATE totals SET n = purge() WHERE ctid = '(0,1)'",
        "SELECT query_to_xml('SELECT purge()', true, true, '')",
    ] {
        let outcome = wire.simple(text);
        if text.contains("xml") && outcome.code() == "0A000" {
            continue; // a server built without XML
        }
        let refused = Refused::of(&outcome);
        assert!(["SL001", "SL003"].contains(&refused.code.as_str()), "{text}: {refused:?}");
        assert_eq!(database.count("logs"), 500, "{text}");
    }
}

fn by_the_extended_protocol(server: &'static Server) {
    let (database, sluice) = with_code(server);
    let mut wire = sluice.connect(&database);
    let refused = Refused::to_confirm(&wire.extended("SELECT purge()", &[]));
    assert!(refused.message.contains("change 500 rows"), "{refused:?}");
    assert_eq!(database.count("logs"), 500);
    wire.extended("SELECT purge_some($1)", &["5"]).expect_fine("small");
    assert_eq!(database.count("logs"), 495);
    let refused = Refused::to_confirm(&wire.extended("SELECT purge_some($1)", &["150"]));
    assert_eq!(database.count("logs"), 495);
    wire.simple(&format!("SLUICE CONFIRM '{}'", refused.token())).expect_fine("with its values");
    assert_eq!(database.count("logs"), 345);
}

fn planning_alone_runs_it(server: &'static Server) {
    let (database, sluice) = with_code(server);
    let mut wire = sluice.connect(&database);
    // An immutable function is run when the statement is planned, at Bind: no Execute follows.
    let bytes = [parse("a", "SELECT hidden()", &[]), bind("p", "a", 0, &[]), sync()].concat();
    let outcome = sent(&mut wire, &bytes);
    assert_eq!(Refused::of(&outcome).code, "SL001", "{outcome:#?}");
    assert_eq!(database.count("logs"), 500);
}

fn a_prepared_statement_whose_name_came_to_lead_on(server: &'static Server) {
    let (database, sluice) = with_code(server);
    let (mut wire, mut other) = (sluice.connect(&database), sluice.connect(&database));
    sent(&mut wire, &[parse("a", "SELECT calm()", &[]), sync()].concat()).expect_fine("calm as yet");
    let run = [bind("", "a", 0, &[]), execute("", 0), sync()].concat();
    sent(&mut wire, &run).expect_fine("calm");
    other
        .simple(
            "CREATE OR REPLACE FUNCTION calm() RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM logs; RETURN 1; END'",
        )
        .expect_fine("by another session");
    assert_eq!(Refused::of(&sent(&mut wire, &run)).code, "SL001");
    assert_eq!(database.count("logs"), 500);
}

fn triggers_that_do_more_than_was_shown(server: &'static Server) {
    let (database, sluice) = with_code(server);
    database.run(
        "CREATE FUNCTION counts() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE totals SET n = n + 1; RETURN NULL; END';
         CREATE TRIGGER c AFTER DELETE ON logs FOR EACH STATEMENT EXECUTE FUNCTION counts()",
    );
    let mut wire = sluice.connect(&database);
    let refused = Refused::to_confirm(&wire.simple("DELETE FROM logs"));
    let refused = Refused::of(&wire.simple(&format!("SLUICE CONFIRM '{}'", refused.token())));
    assert_eq!(refused.code, "SL004", "{refused:?}");
    assert!(refused.detail.contains("public.totals") && refused.detail.contains("300"), "{refused:?}");
    assert_eq!(database.count("logs"), 500);
    wire.simple(&format!("SLUICE CONFIRM '{}'", refused.token())).expect_fine("now it was shown");
    assert_eq!(database.count("logs"), 0);
}

fn small_changes_that_add_up(server: &'static Server) {
    let (database, sluice) = shop_with(server, |setup| {
        setup.with("[limits]\nmax_affected = 400\nbatch_rows = 200\nmax_affected_limit = 1000")
    });
    let mut wire = sluice.connect(&database);
    let delete = |from: usize| format!("DELETE FROM logs WHERE id BETWEEN {} AND {}", from, from + 89);
    wire.simple("BEGIN").expect_fine("begun");
    (0..3).for_each(|piece| assert_eq!(wire.simple(&delete(1 + piece * 90)).tags(), ["DELETE 90"]));
    let outcome = wire.simple("COMMIT");
    assert_eq!(outcome.tags(), ["COMMIT"]);
    assert!(format!("{outcome:?}").contains("large-transaction"), "past batch_rows it warns: {outcome:#?}");
    database.run("INSERT INTO logs SELECT g, 'even', 'x' FROM generate_series(1, 270) g");
    let before = database.count("logs");
    wire.simple("BEGIN").expect_fine("begun");
    (0..5).for_each(|piece| drop(wire.simple(&delete(1 + piece * 90))));
    let refused = Refused::of(&wire.simple("COMMIT"));
    assert_eq!(refused.code, "SL003", "{refused:?}");
    assert!(refused.names_rule("too-many-rows") && refused.names_rule("large-transaction"), "{refused:?}");
    assert_eq!(database.count("logs"), before, "all of it was rolled back");
    assert_eq!(wire.simple("SELECT 1").tags(), ["SELECT 1"], "and the session is idle");
    wire.simple("BEGIN").expect_fine("begun");
    (0..5).for_each(|piece| drop(wire.extended(&delete(1 + piece * 90), &[])));
    assert_eq!(Refused::of(&wire.extended("COMMIT", &[])).code, "SL003");
    assert_eq!(database.count("logs"), before);
    wire.simple("SELECT 1").expect_fine("idle");
}

fn copy_into_a_table_that_fires(server: &'static Server) {
    let (database, sluice) = with_code(server);
    let mut wire = sluice.connect(&database);
    let refused = Refused::of(&wire.simple("COPY inbox FROM STDIN"));
    assert_eq!(refused.code, "SL003", "no token can keep the rows: {refused:?}");
    assert!(refused.hint.contains("between BEGIN and COMMIT"), "{refused:?}");
    wire.simple("BEGIN").expect_fine("begun");
    wire.send(&query("COPY inbox FROM STDIN"));
    let copied = sent(&mut wire, &[copy_data(b"1\n"), copy_done()].concat());
    copied.expect_fine("copied");
    let refused = Refused::of(&wire.simple("COMMIT"));
    assert_eq!(refused.code, "SL004", "{refused:?}");
    assert_eq!((database.count("logs"), database.count("inbox")), (500, 0));
    wire.simple("SELECT 1").expect_fine("idle");
}

fn a_cursor_runs_it_as_it_is_fetched(server: &'static Server) {
    let (database, sluice) = with_code(server);
    let mut wire = sluice.connect(&database);
    wire.simple("BEGIN").expect_fine("begun");
    wire.simple("DECLARE c CURSOR FOR SELECT purge()").expect_fine("nothing runs yet");
    wire.simple("FETCH c");
    let refused = Refused::of(&wire.simple("COMMIT"));
    assert!(["SL001", "SL004"].contains(&refused.code.as_str()), "{refused:?}");
    wire.simple("ROLLBACK");
    assert_eq!(database.count("logs"), 500);
    assert_eq!(Refused::of(&wire.simple("DECLARE c CURSOR WITH HOLD FOR SELECT purge()")).code, "SL001");
    assert_eq!(database.count("logs"), 500);
}

fn a_schema_change_is_noticed_at_once(server: &'static Server) {
    let (database, sluice) = shop(server);
    database.run("CREATE TABLE box (id int); CREATE FUNCTION wipes() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM logs; RETURN NULL; END'");
    let (mut wire, mut other) = (sluice.connect(&database), sluice.connect(&database));
    wire.simple("INSERT INTO box VALUES (1)").expect_fine("nothing fires");
    other.simple("BEGIN").expect_fine("begun");
    other.simple("CREATE TRIGGER w AFTER INSERT ON box FOR EACH ROW EXECUTE FUNCTION wipes()").expect_fine("made");
    assert_eq!(Refused::of(&other.simple("INSERT INTO box VALUES (2)")).code, "SL001", "who made it sees it first");
    other.simple("ROLLBACK");
    wire.simple("INSERT INTO box VALUES (3)").expect_fine("it was rolled back");
    assert_eq!(database.count("logs"), 500);
    other.simple("CREATE TRIGGER w AFTER INSERT ON box FOR EACH ROW EXECUTE FUNCTION wipes()").expect_fine("made");
    assert_eq!(Refused::of(&wire.simple("INSERT INTO box VALUES (4)")).code, "SL001");
    assert_eq!(database.count("logs"), 500);
}

fn in_a_transaction_block(server: &'static Server) {
    let (database, sluice) = with_code(server);
    let mut wire = sluice.connect(&database);
    wire.simple("BEGIN").expect_fine("begun");
    wire.simple("SELECT purge_some(5)").expect_fine("small");
    let refused = Refused::to_confirm(&wire.simple("SELECT purge()"));
    assert_eq!(wire.simple("SELECT 1").code(), "25P02", "a refusal fails the transaction");
    wire.simple("ROLLBACK").expect_fine("ended");
    wire.simple("BEGIN").expect_fine("begun");
    wire.simple(&format!("SLUICE CONFIRM '{}'", refused.token())).expect_fine("in the block");
    wire.simple("COMMIT").expect_fine("it was confirmed");
    assert_eq!(database.count("logs"), 0);
}

fn deferred_triggers(server: &'static Server) {
    let (database, sluice) = with_code(server);
    database.run(
        "CREATE TABLE later (id int); CREATE CONSTRAINT TRIGGER w AFTER INSERT ON later DEFERRABLE INITIALLY DEFERRED
         FOR EACH ROW EXECUTE FUNCTION wipes()",
    );
    let mut wire = sluice.connect(&database);
    assert_eq!(Refused::of(&wire.simple("INSERT INTO later VALUES (1)")).code, "SL001");
    assert_eq!(Refused::of(&wire.extended("INSERT INTO later VALUES (1)", &[])).code, "SL001");
    wire.simple("BEGIN").expect_fine("begun");
    wire.simple("INSERT INTO later VALUES (1)");
    wire.simple("COMMIT");
    assert_eq!(database.count("logs"), 500);
}

fn a_hint_confirms_what_was_tried(server: &'static Server) {
    let (database, sluice) = with_code(server);
    let mut wire = sluice.connect(&database);
    let token = Refused::to_confirm(&wire.simple("SELECT purge()")).token();
    wire.simple(&format!("/* sluice: confirm={token} */ SELECT purge()")).expect_fine("confirmed by the hint");
    assert_eq!(database.count("logs"), 0);
    database.run("INSERT INTO logs SELECT 1000 + g, 'even', 'x' FROM generate_series(1, 500) g");
    let token = Refused::to_confirm(&wire.simple("CALL committing()")).token();
    wire.simple(&format!("/* sluice: confirm={token} */ CALL committing()")).expect_fine("as it is");
    assert_eq!(database.count("logs"), 0);
}

fn a_function_that_drops(server: &'static Server) {
    let (database, sluice) = with_code(server);
    database.run(
        "CREATE FUNCTION drops() RETURNS int LANGUAGE plpgsql AS 'BEGIN DROP TABLE totals; RETURN 1; END';
         CREATE FUNCTION scratch() RETURNS int LANGUAGE plpgsql AS
         'BEGIN CREATE TEMP TABLE s AS SELECT g FROM generate_series(1, 500) g; DELETE FROM s; DROP TABLE s; RETURN 1; END'",
    );
    let mut wire = sluice.connect(&database);
    let refused = Refused::to_confirm(&wire.simple("SELECT drops()"));
    assert!(refused.message.contains("removed"), "{refused:?}");
    wire.simple("SELECT scratch()").expect_fine("what is its own, and gone again, is nobody's loss");
    assert_eq!(database.count("totals"), 300);
    wire.simple(&format!("SLUICE CONFIRM '{}'", refused.token())).expect_fine("confirmed");
    assert_eq!(database.value("SELECT to_regclass('totals') IS NULL"), "t");
}

fn own_equality(server: &'static Server) {
    let (database, sluice) = shop(server);
    database.run(
        "CREATE FUNCTION always(int, bigint) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
         CREATE OPERATOR public.= (LEFTARG = int, RIGHTARG = bigint, FUNCTION = always)",
    );
    let mut wire = sluice.connect(&database);
    wire.simple("SET search_path = public, pg_catalog").expect_fine("set");
    let outcome = wire.simple("DELETE FROM logs WHERE id = 7::bigint");
    assert_ne!(outcome.code(), "", "{outcome:#?}");
    assert_eq!(database.count("logs"), 500);
}

fn several_in_one_message(server: &'static Server) {
    let (database, sluice) = with_code(server);
    let mut wire = sluice.connect(&database);
    assert_eq!(Refused::of(&wire.simple("SELECT 1; SELECT purge(); SELECT 2")).code, "SL001");
    assert_ne!(wire.simple("BEGIN; SELECT purge(); COMMIT").code(), "");
    wire.simple("ROLLBACK");
    assert_eq!(database.count("logs"), 500);
    assert_eq!(wire.simple("SELECT purge_some(1); SELECT purge_some(2)").tags(), ["SELECT 1", "SELECT 1"]);
    assert_eq!(database.count("logs"), 497);
}

fn observed_only(server: &'static Server) {
    let (database, sluice) = shop_with(server, |setup| setup.with("[policy]\npreset = \"observe\""));
    database.run(CODE);
    let mut wire = sluice.connect(&database);
    wire.simple("SELECT purge()").expect_fine("nothing is refused");
    assert_eq!(database.count("logs"), 0);
}

fn a_function_that_acts_outside_is_not_tried(server: &'static Server) {
    let (database, sluice) = with_code(server);
    database.run(
        "CREATE SEQUENCE numbers; CREATE FUNCTION sets() RETURNS bigint LANGUAGE sql AS 'SELECT setval(''numbers'', 1000)';
         CREATE FUNCTION calls_sets() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN sets(); END'",
    );
    let mut wire = sluice.connect(&database);
    let refused = Refused::to_confirm(&wire.simple("SELECT calls_sets()"));
    assert!(refused.detail.contains("no rollback takes back"), "{refused:?}");
    assert_eq!(database.value("SELECT last_value FROM numbers"), "1", "it was not tried");
    wire.simple(&format!("SLUICE CONFIRM '{}'", refused.token())).expect_fine("confirmed");
    assert_eq!(database.value("SELECT last_value FROM numbers"), "1000");
}

/// Each is a session of Query messages; none of them may empty `logs`, or take it away. `EVIL` gives `calm` a body that deletes.
fn what_attackers_tried(server: &'static Server) {
    const EVIL: &str =
        "CREATE OR REPLACE FUNCTION calm() RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM logs; RETURN 1; END'";
    const CALM: &str = "CREATE OR REPLACE FUNCTION calm() RETURNS int LANGUAGE sql AS 'SELECT 7'";
    const SESSIONS: &[&str] = &[
        "SELECT purge(); PREPARE x AS SELECT 1",
        "DO $$BEGIN DELETE FROM logs; END$$; PREPARE x AS SELECT 1",
        "CALL purging(); PREPARE x AS SELECT 1",
        "BEGIN ‖ DECLARE c CURSOR FOR SELECT 1; SELECT purge() ‖ COMMIT",
        "BEGIN ‖ LOCK TABLE logs ‖ SELECT empties() ‖ COMMIT",
        "BEGIN ‖ ALTER TABLE logs ADD COLUMN z int ‖ SELECT empties() ‖ COMMIT",
        "BEGIN ‖ LOCK TABLE logs ‖ SELECT removes() ‖ COMMIT",
        "SELECT empties(); SET work_mem = '4MB'",
        "CREATE TABLE y AS SELECT empties()",
        "ALTER TABLE totals ADD COLUMN y int DEFAULT empties()",
        "BEGIN ‖ DECLARE c CURSOR FOR SELECT purge() ‖ FETCH c; SET work_mem = '4MB' ‖ COMMIT",
        "BEGIN ‖ DECLARE c CURSOR FOR SELECT purge() ‖ FETCH c; SELECT 1 ‖ COMMIT",
        "BEGIN ‖ DECLARE c CURSOR FOR SELECT purge() ‖ FETCH c; COMMIT",
        "EVIL; SELECT calm()",
        "CREATE RULE evil AS ON INSERT TO audit DO ALSO DELETE FROM logs; INSERT INTO audit VALUES ('x')",
        "BEGIN ‖ DECLARE c CURSOR FOR SELECT calm() ‖ EVIL ‖ FETCH c ‖ COMMIT",
        "BEGIN ‖ DECLARE c CURSOR WITH HOLD FOR SELECT calm() ‖ EVIL ‖ COMMIT",
        "BEGIN ‖ CALM ‖ SELECT calm() ‖ EVIL ‖ SELECT calm() ‖ COMMIT",
        "EVIL ‖ BEGIN ‖ SAVEPOINT s ‖ CALM ‖ SELECT calm() ‖ ROLLBACK TO s ‖ SELECT calm() ‖ COMMIT",
        "SELECT makes() ‖ SELECT calm()",
        "SET standard_conforming_strings = off ‖ SELECT tricky()",
        "ANALYZE",
        "REINDEX INDEX indexed_it",
        "VACUUM FULL",
        "SELECT * FROM indexed",
        "SELECT '(1,2)'::point != 'x'::text",
        "SELECT '(1,2)'::point LIKE 'x'::text",
    ];
    let (database, sluice) = with_code(server);
    database.run(
        "CREATE FUNCTION empties() RETURNS int LANGUAGE plpgsql AS 'BEGIN TRUNCATE logs; RETURN 1; END';
         CREATE FUNCTION removes() RETURNS int LANGUAGE plpgsql AS 'BEGIN DROP TABLE logs; RETURN 1; END';
         CREATE FUNCTION makes() RETURNS int LANGUAGE plpgsql AS $$BEGIN EXECUTE
           'CREATE OR REPLACE FUNCTION calm() RETURNS int LANGUAGE plpgsql AS ''BEGIN DELETE FROM logs; RETURN 1; END''';
           RETURN 1; END$$;
         CREATE FUNCTION tricky() RETURNS int LANGUAGE plpgsql AS $$BEGIN PERFORM '\\' || '; DELETE FROM logs; --'; RETURN 1; END$$;
         CREATE TABLE armed (yes boolean); INSERT INTO armed VALUES (false);
         CREATE FUNCTION folded(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
           'BEGIN IF (SELECT yes FROM public.armed) THEN DELETE FROM public.logs; END IF; RETURN $1; END';
         CREATE TABLE indexed (a int); INSERT INTO indexed VALUES (1); CREATE INDEX indexed_it ON indexed ((folded(1) + a));
         UPDATE armed SET yes = true;
         CREATE FUNCTION evil(point, text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN DELETE FROM logs; RETURN true; END'",
    );
    for (number, session) in SESSIONS.iter().enumerate() {
        database.run(CALM);
        if number == SESSIONS.len() - 2 {
            let mut maker = sluice.connect(&database);
            for operator in ["<>", "~~"] {
                let made = format!("CREATE OPERATOR {operator} (LEFTARG = point, RIGHTARG = text, FUNCTION = evil)");
                maker.simple(&made).expect_fine(operator);
            }
        }
        let mut wire = sluice.connect(&database);
        for message in session.split(" ‖ ") {
            let message = message.replace("EVIL", EVIL).replace("CALM", CALM);
            wire.simple(&message);
        }
        drop(wire);
        assert_eq!(database.value("SELECT to_regclass('logs') IS NOT NULL"), "t", "{session}");
        assert_eq!(database.count("logs"), 500, "{session}");
        database.run("DROP RULE IF EXISTS evil ON audit; DROP TABLE IF EXISTS y");
    }
}

fn what_attackers_tried_by_the_extended_protocol(server: &'static Server) {
    const EVIL: &str =
        "CREATE OR REPLACE FUNCTION calm() RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM logs; RETURN 1; END'";
    let (database, sluice) = with_code(server);
    let mut wire = sluice.connect(&database);
    let pipeline = [
        parse("d", EVIL, &[]),
        parse("s", "SELECT calm()", &[]),
        bind("pd", "d", 0, &[]),
        bind("ps", "s", 0, &[]),
        execute("pd", 0),
        execute("ps", 0),
        sync(),
    ];
    sent(&mut wire, &pipeline.concat());
    assert_eq!(database.count("logs"), 500, "a portal that was bound before the schema changed");
    database.run("CREATE OR REPLACE FUNCTION calm() RETURNS int LANGUAGE sql AS 'SELECT 7'");
    let mut wire = sluice.connect(&database);
    wire.simple("BEGIN").expect_fine("begun");
    sent(&mut wire, &[parse("s", "SELECT calm()", &[]), bind("ps", "s", 0, &[]), sync()].concat());
    wire.simple(EVIL);
    sent(&mut wire, &[execute("ps", 0), sync()].concat());
    wire.simple("COMMIT");
    assert_eq!(database.count("logs"), 500, "in a block");
    // One statement in portions, each small.
    let mut wire = sluice.connect(&database);
    let mut portions = vec![parse("", "SELECT purge_some(100) FROM generate_series(1, 5)", &[]), bind("", "", 0, &[])];
    portions.extend((0..6).map(|_| execute("", 1)));
    portions.push(sync());
    sent(&mut wire, &portions.concat());
    assert_eq!(database.count("logs"), 500, "in portions");
    // A name that a rehearsal gave another meaning.
    let mut wire = sluice.connect(&database);
    sent(&mut wire, &[parse("p", "SELECT 1", &[]), sync()].concat());
    wire.simple("SLUICE REHEARSE DEALLOCATE p");
    wire.simple("SLUICE REHEARSE PREPARE p AS DELETE FROM logs");
    sent(&mut wire, &[bind("", "p", 0, &[]), execute("", 0), sync()].concat());
    assert_eq!(database.count("logs"), 500, "a rehearsal leaves no name behind");
}

/// Its rows are counted by the database, before it is kept.
fn a_merge_is_tried(server: &'static Server) {
    let (database, sluice) = shop(server);
    let merge = |to: u32| {
        format!(
            "MERGE INTO logs USING (SELECT g AS id FROM generate_series(1, {to}) g) s ON s.id = logs.id \
             WHEN MATCHED THEN UPDATE SET line = 'merged'"
        )
    };
    let mut wire = sluice.connect(&database);
    assert_eq!(wire.simple(&merge(3)).tags(), ["MERGE 3"]);
    wire.send(&[whole(&merge(4), &[]), sync()].concat());
    assert_eq!(wire.until_ready().tags(), ["MERGE 4"]);
    let merged = "SELECT count(*) FROM logs WHERE line = 'merged'";
    assert_eq!(database.value(merged), "4");
    let refused = Refused::to_confirm(&wire.simple(&merge(400)));
    assert!(refused.message.contains("400 rows"), "{refused:?}");
    assert_eq!(database.value(merged), "4", "rolled back");
    wire.simple("BEGIN").expect_fine("begun");
    assert_eq!(wire.simple(&merge(5)).tags(), ["MERGE 5"]);
    wire.simple("COMMIT").expect_fine("kept");
    assert_eq!(database.value(merged), "5");
    let confirmed = wire.simple(&format!("SLUICE CONFIRM '{}'", refused.token()));
    assert_eq!(confirmed.code(), "", "{confirmed:#?}");
    assert_eq!(database.value(merged), "400");
    // What cannot be held back is asked about.
    Refused::of(&wire.simple(&format!("BEGIN; {}; COMMIT", merge(500))));
    assert_eq!(database.value(merged), "400");
}

/// Expressions over functions of the server's own that run a text; cursors that functions open; tables that stand before others;
/// triggers that wait for the COMMIT.
fn what_attackers_tried_next(server: &'static Server) {
    const EVIL: &str =
        "CREATE OR REPLACE FUNCTION steady() RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM logs; RETURN 1; END'";
    const SESSIONS: &[&str] = &[
        "CREATE VIEW v AS SELECT query_to_xml('SELECT purge()', true, true, '') ‖ SELECT * FROM v",
        "CREATE TABLE z (a int, b xml DEFAULT query_to_xml('SELECT purge()', true, true, '')) ‖ INSERT INTO z (a) VALUES (1)",
        "CREATE AGGREGATE runs(text) (SFUNC = ts_rewrite, STYPE = tsquery, INITCOND = 'a') ‖ SELECT runs('SELECT ''a''::tsquery, ''b''::tsquery FROM purge()')",
        "CREATE OPERATOR !!! (LEFTARG = tsquery, RIGHTARG = text, FUNCTION = ts_rewrite) ‖ SELECT 'a'::tsquery !!! 'SELECT ''a''::tsquery, ''b''::tsquery FROM purge()'",
        "BEGIN ‖ SELECT opens() ‖ FETCH ALL FROM c ‖ COMMIT",
        "SELECT holds()",
        "BEGIN ‖ DECLARE c CURSOR WITH HOLD FOR SELECT steady() ‖ EVIL ‖ COMMIT",
        "CREATE VIEW other AS SELECT 1 ‖ BEGIN ‖ DECLARE c CURSOR WITH HOLD FOR SELECT steady() ‖ EVIL ‖ COMMIT",
        "BEGIN ‖ SELECT holds() ‖ COMMIT",
        "CREATE TEMP VIEW tv AS SELECT purge() ‖ SELECT * FROM tv",
        "CREATE TEMP TABLE td (a int DEFAULT purge()) ‖ INSERT INTO td DEFAULT VALUES",
        "CREATE TEMP TABLE early () ‖ PREPARE p AS DELETE FROM logs WHERE id = 5 OR line > '' ‖ CREATE TEMP TABLE logs (id int PRIMARY KEY, line text) ‖ EXECUTE p",
        "CREATE TEMP TABLE early () ‖ PREPARE p AS DELETE FROM keyless WHERE id = 5 ‖ CREATE TEMP TABLE keyless (id int PRIMARY KEY) ‖ EXECUTE p",
        "DELETE FROM near WHERE n = 1::float8",
        "BEGIN ‖ DROP VIEW peek ‖ INSERT INTO later VALUES ('drop') ‖ COMMIT",
        "BEGIN ‖ ALTER TABLE logs SET (fillfactor = 90) ‖ INSERT INTO later VALUES ('truncate') ‖ COMMIT",
        "BEGIN ‖ CLUSTER logs USING logs_pkey ‖ SELECT empties() ‖ COMMIT",
        "DROP VIEW peek; INSERT INTO now VALUES ('drop')",
        "ALTER TABLE logs SET (fillfactor = 90); INSERT INTO now VALUES ('truncate')",
        "DO $$BEGIN PERFORM set_config('session_replication_role', 'replica', false); END$$",
    ];
    let (database, sluice) = with_code(server);
    database.run(
        "CREATE FUNCTION empties() RETURNS int LANGUAGE plpgsql AS 'BEGIN TRUNCATE logs; RETURN 1; END';
         CREATE FUNCTION steady() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 7; END';
         CREATE FUNCTION opens() RETURNS refcursor LANGUAGE plpgsql AS
           $$DECLARE c refcursor := 'c'; BEGIN OPEN c FOR SELECT purge(); RETURN c; END$$;
         CREATE FUNCTION holds() RETURNS int LANGUAGE plpgsql AS
           $$BEGIN EXECUTE 'DECLARE h CURSOR WITH HOLD FOR SELECT purge()'; RETURN 1; END$$;
         CREATE TABLE keyless (id int); INSERT INTO keyless SELECT 5 FROM generate_series(1, 2000);
         CREATE TABLE near (n numeric PRIMARY KEY); INSERT INTO near SELECT 1 + i * 1e-25 FROM generate_series(1, 2000) i;
         CREATE FUNCTION does() RETURNS trigger LANGUAGE plpgsql AS
           $$BEGIN EXECUTE NEW.what || ' TABLE logs'; RETURN NULL; END$$;
         CREATE TABLE later (what text); CREATE TABLE now (what text);
         CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON later DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION does();
         CREATE TRIGGER does AFTER INSERT ON now FOR EACH ROW EXECUTE FUNCTION does()",
    );
    for session in SESSIONS {
        let mut wire = sluice.connect(&database);
        for message in session.split(" ‖ ") {
            wire.simple(&message.replace("EVIL", EVIL));
        }
        assert_eq!(wire.simple("SHOW session_replication_role").rows()[0][0].as_deref(), Some("origin"), "{session}");
        drop(wire);
        assert_eq!(database.value("SELECT to_regclass('logs') IS NOT NULL"), "t", "{session}");
        for (table, rows) in [("logs", 500), ("keyless", 2000), ("near", 2000)] {
            assert_eq!(database.count(table), rows, "{session}");
        }
        let clean = "CREATE OR REPLACE FUNCTION steady() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 7; END';
            DROP VIEW IF EXISTS other; DROP VIEW IF EXISTS v; DROP TABLE IF EXISTS z; DROP AGGREGATE IF EXISTS runs(text);
            DROP OPERATOR IF EXISTS !!! (tsquery, text); CREATE OR REPLACE VIEW peek AS SELECT hidden() AS n";
        database.run(clean);
    }
}

/// Two sessions: one changes what a name leads to while the other has a cursor open on it, has queued a trigger, or waits for its lock.
fn what_two_sessions_tried(server: &'static Server) {
    const EVIL: &str =
        "CREATE OR REPLACE FUNCTION calm() RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM logs; RETURN 1; END'";
    const EVIL_TRIGGER: &str = "CREATE OR REPLACE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM logs; RETURN NULL; END'";
    const CALM: &str = "CREATE FUNCTION calm() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 7; END'";
    for (before, change, after) in [
        ("DECLARE c CURSOR FOR SELECT calm()", EVIL, "FETCH c"),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT calm()", EVIL, "SELECT 1"),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT calm()", EVIL, ""),
        ("INSERT INTO queue VALUES (1)", EVIL_TRIGGER, "SELECT 1"),
        ("INSERT INTO queue VALUES (1)", EVIL_TRIGGER, "SET CONSTRAINTS ALL IMMEDIATE"),
    ] {
        let (database, sluice) = with_code(server);
        database.run(
            "CREATE TABLE queue (id int); CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON queue DEFERRABLE INITIALLY DEFERRED
               FOR EACH ROW EXECUTE FUNCTION noted(); DROP FUNCTION calm()",
        );
        // In plpgsql: what is plain SQL the server would have put into the cursor's plan.
        database.run(CALM);
        let (mut one, mut two) = (sluice.connect(&database), sluice.connect(&database));
        one.simple("BEGIN").expect_fine("begun");
        one.simple(before).expect_fine(before);
        two.simple(change).expect_fine(change);
        if !after.is_empty() {
            one.simple(after);
        }
        one.simple("COMMIT");
        assert_eq!(database.count("logs"), 500, "{before}");
    }
    let (database, sluice) = with_code(server);
    database.run(
        "CREATE TABLE renamed (id int PRIMARY KEY); INSERT INTO renamed VALUES (5);
         CREATE TABLE keyless (id int); INSERT INTO keyless SELECT 5 FROM generate_series(1, 2000)",
    );
    // A change by key that waits, and meets another table under the name.
    let (mut one, mut two) = (sluice.connect(&database), sluice.connect(&database));
    two.simple("UPDATE renamed SET id = 6 WHERE id = 6").expect_fine("its table is known from here on");
    one.simple("BEGIN").expect_fine("begun");
    one.simple("ALTER TABLE renamed RENAME TO gone").expect_fine("renamed");
    one.simple("ALTER TABLE keyless RENAME TO renamed").expect_fine("renamed");
    two.send(&query("DELETE FROM renamed WHERE id = 5"));
    database.wait_until("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted");
    one.simple("COMMIT").expect_fine("renamed");
    let outcome = two.until_ready();
    assert!(!outcome.code().is_empty(), "{outcome:#?}");
    assert_eq!(database.count("renamed"), 2000);
}

/// Portals are bound, then something before them in the pipeline changes what their names mean.
fn names_that_changed_before_a_portal_ran(server: &'static Server) {
    let (database, sluice) = with_code(server);
    let mut wire = sluice.connect(&database);
    wire.simple("CREATE TEMP TABLE logs (id int)").expect_fine("a temporary table");
    let two = |first: &str, second: &str| {
        let prepared =
            [parse("a", first, &[]), parse("b", second, &[]), bind("pa", "a", 0, &[]), bind("pb", "b", 0, &[])];
        [prepared.concat(), execute("pa", 0), execute("pb", 0), sync()].concat()
    };
    sent(&mut wire, &two("DROP TABLE logs", "DROP TABLE logs"));
    assert_eq!(database.value("SELECT to_regclass('public.logs') IS NOT NULL"), "t");
    let mut wire = sluice.connect(&database);
    wire.simple("CREATE TEMP TABLE logs (id int)").expect_fine("a temporary table");
    sent(&mut wire, &two("DROP TABLE logs", "TRUNCATE logs"));
    let mut wire = sluice.connect(&database);
    sent(
        &mut wire,
        &two(
            "CREATE OR REPLACE FUNCTION calm() RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM logs; RETURN 1; END'",
            "SELECT calm()",
        ),
    );
    assert_eq!(database.count("logs"), 500);
    // A function that gives a prepared name another meaning, run behind the Parse.
    database.run(
        "CREATE FUNCTION swaps() RETURNS int LANGUAGE plpgsql AS
           $$BEGIN EXECUTE 'DEALLOCATE p'; EXECUTE 'PREPARE p AS DELETE FROM logs'; RETURN 1; END$$",
    );
    let mut wire = sluice.connect(&database);
    let pipeline =
        [parse("", "SELECT swaps()", &[]), bind("x", "", 0, &[]), parse("p", "SELECT 1", &[]), execute("x", 0)];
    sent(&mut wire, &[pipeline.concat(), bind("", "p", 0, &[]), execute("", 0), sync()].concat());
    assert_eq!(database.count("logs"), 500);
}

/// What Sluice asks takes a snapshot: not before what must come first, or what waits for a lock.
fn what_must_stand_first_in_a_transaction(server: &'static Server) {
    let (database, sluice) = with_code(server);
    for first in ["SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "LOCK TABLE totals IN SHARE MODE", "SAVEPOINT s"] {
        for extended in [false, true] {
            let mut wire = sluice.connect(&database);
            wire.simple("SELECT 1").expect_fine("begun");
            wire.simple("BEGIN ISOLATION LEVEL REPEATABLE READ").expect_fine("begun");
            // Somebody changes the schema: what names lead to is not known any more.
            sluice.connect(&database).simple("CREATE OR REPLACE VIEW other AS SELECT 1 AS one").expect_fine("made");
            match extended {
                false => wire.simple(first),
                true => {
                    sent(&mut wire, &[parse("", first, &[]), bind("", "", 0, &[]), execute("", 0), sync()].concat())
                }
            }
            .expect_fine(first);
            sluice.connect(&database).simple("INSERT INTO audit VALUES ('after')").expect_fine("added");
            let seen = wire.simple("SELECT count(*) FROM audit").rows()[0][0].clone();
            assert_eq!(seen, Some(database.count("audit").to_string()), "{first}: its snapshot was taken too early");
            wire.simple("COMMIT").expect_fine("COMMIT");
        }
    }
}

/// What a migration does within BEGIN and COMMIT is what it says: TOAST tables, indexes and sequences that come and go with it are nobody's loss.
fn migrations_in_a_block(server: &'static Server) {
    let (database, sluice) = with_code(server);
    let mut wire = sluice.connect(&database);
    for statement in [
        "ALTER TABLE logs ALTER COLUMN line TYPE varchar(500)",
        "ALTER TABLE logs ADD COLUMN number serial",
        "ALTER TABLE logs ADD COLUMN at timestamptz DEFAULT clock_timestamp()",
        "CREATE INDEX logs_line ON logs (line)",
        "DROP INDEX logs_line",
        "ALTER TABLE logs ALTER COLUMN number DROP DEFAULT",
        "CREATE TABLE more (id int PRIMARY KEY, note text)",
        "ALTER TABLE more ADD CONSTRAINT of_logs FOREIGN KEY (id) REFERENCES logs (id)",
        "DROP TABLE more",
    ] {
        for extended in [false, true] {
            wire.simple("BEGIN").expect_fine("begun");
            wire.simple("SAVEPOINT s").expect_fine("savepoint");
            let outcome = match extended {
                false => wire.simple(statement),
                true => sent(&mut wire, &[whole(statement, &[]), sync()].concat()),
            };
            outcome.expect_fine(statement);
            if extended {
                wire.simple("ROLLBACK TO s").expect_fine("once is enough");
            }
            let outcome = wire.simple("COMMIT");
            assert_eq!(
                (outcome.tags(), outcome.code().as_str()),
                (vec!["COMMIT".to_owned()], ""),
                "{statement}: {outcome:#?}"
            );
            if !extended && !statement.contains("TYPE") {
                break;
            }
        }
    }
    assert_eq!(database.count("logs"), 500);
}

/// As float8 many a key is the same: a parameter of that type pins none.
fn a_key_compared_as_another_type(server: &'static Server) {
    const FLOAT8: i32 = 701;
    let (database, sluice) = shop(server);
    database.run("CREATE TABLE near (n numeric PRIMARY KEY); INSERT INTO near SELECT 1 + i * 1e-25 FROM generate_series(1, 2000) i");
    let mut wire = sluice.connect(&database);
    for text in ["DELETE FROM near WHERE n = $1", "UPDATE near SET n = n + 1 WHERE n = $1"] {
        for _ in 0..2 {
            let mut values = vec![0, 0, 0, 1, 0, 0, 0, 1];
            values.extend(b"1");
            values.extend([0, 0]);
            let bound = message(b'B', &[&b"\0\0"[..], &values].concat());
            wire.send(&[parse("", text, &[FLOAT8]), bound, execute("", 0), sync()].concat());
            let outcome = wire.until_ready();
            assert!(outcome.code().starts_with("SL"), "{text}: {outcome:#?}");
        }
    }
    assert_eq!(database.value("SELECT count(*) FROM near WHERE n < 1.5"), "2000");
}

/// Nothing is asked about an empty table, and a token is for what was shown: what comes while the statement waits was not.
fn tables_that_fill_while_a_removal_waits(server: &'static Server) {
    let (database, sluice) = with_code(server);
    for (statement, confirmed) in [
        ("TRUNCATE filling", false),
        ("DROP TABLE filling", false),
        ("TRUNCATE filling", true),
        ("DROP TABLE filling", true),
    ] {
        for extended in [false, true] {
            database.run("DROP TABLE IF EXISTS filling; CREATE TABLE filling (id int)");
            let (mut one, mut two) = (sluice.connect(&database), sluice.connect(&database));
            let mut text = statement.to_owned();
            if confirmed {
                one.simple("INSERT INTO filling VALUES (1)").expect_fine("a row");
                let asked = match extended {
                    false => two.simple(statement),
                    true => sent(&mut two, &[whole(statement, &[]), sync()].concat()),
                };
                let token = Refused::to_confirm(&asked).token();
                text = format!("{statement} /* sluice: confirm={token} */");
            }
            one.simple("BEGIN").expect_fine("begun");
            one.simple("LOCK TABLE filling IN ACCESS SHARE MODE").expect_fine("locked");
            match extended {
                false => two.send(&query(&text)),
                true => two.send(&[parse("", &text, &[]), bind("", "", 0, &[]), execute("", 0), sync()].concat()),
            }
            database.wait_until("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted");
            one.simple("INSERT INTO filling SELECT generate_series(1, 5000)").expect_fine("rows");
            one.simple("COMMIT").expect_fine("rows");
            let outcome = two.until_ready();
            let code = if confirmed { "SL004" } else { "SL001" };
            assert_eq!((outcome.code().as_str(), outcome.status()), (code, 'I'), "{text} {extended}: {outcome:#?}");
            assert_eq!(database.count("filling"), 5000 + u64::from(confirmed), "{text} {extended}");
        }
    }
    // Nobody came between: it goes.
    database.run("DROP TABLE filling; CREATE TABLE filling (id int)");
    let mut wire = sluice.connect(&database);
    wire.simple("TRUNCATE filling").expect_fine("empty");
    wire.simple("BEGIN; DROP TABLE filling; COMMIT");
    sent(
        &mut wire,
        &[parse("", "DROP TABLE IF EXISTS filling", &[]), bind("", "", 0, &[]), execute("", 0), sync()].concat(),
    )
    .expect_fine("empty");
    assert_eq!(database.value("SELECT to_regclass('filling') IS NULL"), "t");
    // The client's own timeout ends the wait.
    database.run("CREATE TABLE filling (id int)");
    let (mut one, mut two) = (sluice.connect(&database), sluice.connect(&database));
    one.simple("BEGIN; LOCK TABLE filling IN ACCESS SHARE MODE").expect_fine("locked");
    two.simple("SET lock_timeout = '200ms'").expect_fine("SET");
    assert!(!two.simple("DROP TABLE filling").code().is_empty());
    assert_eq!(two.simple("SELECT 1").status(), 'I', "the session goes on");
}

/// In LATIN1 a name beyond ASCII is another sequence of bytes than in UTF-8, on either side.
fn names_in_other_encodings(server: &'static Server) {
    let (database, sluice) = with_code(server);
    database.run("CREATE FUNCTION \"é\"() RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM logs; RETURN 1; END'");
    let mut latin = sluice.connect(&database);
    latin.simple("SET client_encoding = 'LATIN1'").expect_fine("SET");
    latin.simple("SELECT 1").expect_fine("what names lead to is learned in LATIN1");
    latin.send(&message(b'Q', b"SELECT \xe9()\0"));
    assert!(!latin.until_ready().code().is_empty());
    latin.send(&message(b'Q', b"SELECT '\xe9'\0"));
    latin.until_ready().expect_fine("a literal");
    let mut wire = sluice.connect(&database);
    assert!(!wire.simple("SELECT é()").code().is_empty());
    assert_eq!(database.count("logs"), 500);
}

/// Its error ends the statement, and nothing hangs: neither when Sluice lets it fire, nor at the COMMIT.
fn a_deferred_trigger_that_fails(server: &'static Server) {
    let (database, sluice) = with_code(server);
    database.run(
        "CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS
           $$BEGIN UPDATE totals SET n = 1 WHERE false; RAISE 'it fails'; END$$;
         CREATE TABLE failing (id int);
         CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON failing DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fails()",
    );
    let add = "INSERT INTO failing VALUES (1)";
    let mut wire = sluice.connect(&database);
    let outcome = wire.simple(add);
    assert_eq!((outcome.code().is_empty(), outcome.status()), (false, 'I'), "{outcome:#?}");
    let outcome = sent(&mut wire, &[parse("", add, &[]), bind("", "", 0, &[]), execute("", 0), sync()].concat());
    assert_eq!((outcome.code().is_empty(), outcome.status()), (false, 'I'), "{outcome:#?}");
    wire.simple("BEGIN").expect_fine("begun");
    wire.simple(add).expect_fine("it waits for the COMMIT");
    let outcome = wire.simple("COMMIT");
    assert_eq!((outcome.code().is_empty(), outcome.status()), (false, 'I'), "{outcome:#?}");
    assert_eq!((wire.simple("SELECT 1").status(), database.count("failing")), ('I', 0));
}

fn what_was_tried_is_in_the_record(server: &'static Server) {
    let (database, sluice) = with_code(server);
    let mut wire = sluice.connect(&database);
    wire.simple("SELECT purge_some(7)").expect_fine("small, and kept");
    assert_eq!(recorded(&sluice, "purge_some"), [Some(7)]);
    wire.simple("DO 'BEGIN DELETE FROM logs WHERE ctid IN (SELECT ctid FROM logs LIMIT 5); END'").expect_fine("kept");
    assert_eq!(recorded(&sluice, "DO "), [Some(5)]);
    wire.extended("SELECT purge_some(3), 1", &[]).expect_fine("by the extended protocol");
    assert!(recorded(&sluice, ", ").contains(&Some(3)), "{:?}", sluice.record());
    let token = Refused::to_confirm(&wire.simple("SELECT purge() AS n")).token();
    wire.simple(&format!("SLUICE CONFIRM '{token}'")).expect_fine("confirmed");
    assert!(recorded(&sluice, "AS n").contains(&Some(485)), "{:?}", sluice.record());
    let token = Refused::to_confirm(&wire.simple("CALL committing()")).token();
    wire.simple(&format!("SLUICE CONFIRM '{token}'")).expect_fine("confirmed");
    assert_eq!(recorded(&sluice, "CALL committing").last(), Some(&None), "{:?}", sluice.record());
}

/// Rows of the outcomes of recorded statements that were let through.
fn recorded(sluice: &Sluice, part: &str) -> Vec<Option<u64>> {
    let record = sluice.record();
    let is_of = |line: &&serde_json::Value| line["statement"].as_str().is_some_and(|text| text.contains(part));
    let lines: Vec<u64> = record
        .iter()
        .filter(is_of)
        .inspect(|line| assert!(line["fingerprint"].is_string(), "{line}"))
        .filter_map(|line| line["seq"].as_u64())
        .collect();
    let outcomes = record.iter().filter(|line| line["of"].as_u64().is_some_and(|of| lines.contains(&of)));
    outcomes.map(|line| line["actual_rows"].as_u64()).collect()
}

fn what_functions_change_in_a_freeze(server: &'static Server) {
    let (database, sluice) = shop_with(server, |setup| setup.with("[[freeze]]\nname = \"year's end\""));
    database.run(CODE);
    let mut wire = sluice.connect(&database);
    for extended in [false, true] {
        let statement = "SELECT purge_some(7)";
        let outcome = if extended { wire.extended(statement, &[]) } else { wire.simple(statement) };
        assert!(Refused::denied(&outcome).names_rule("change-freeze"), "{outcome:?}");
    }
    wire.simple("BEGIN").expect_fine("begins");
    assert!(Refused::denied(&wire.simple("SELECT purge_some(7)")).names_rule("change-freeze"));
    wire.simple("ROLLBACK").expect_fine("ends");
    assert_eq!(database.count("logs"), 500);
    wire.simple("SELECT purge_some(0)").expect_fine("changes nothing");
    assert_eq!(wire.simple("SELECT calm()").value(), "7");
}

fn a_limit_told_to_the_session(server: &'static Server) {
    let (database, sluice) = shop_with(server, |setup| {
        setup.with("[limits]\nmax_affected = 200\nbatch_rows = 100\nmax_affected_limit = 600")
    });
    database.run(CODE);
    let mut wire = sluice.connect(&database);
    assert!(Refused::denied(&wire.simple("SELECT purge()")).names_rule("too-many-rows"));
    wire.simple("SET sluice.max_affected = 550").expect_fine("told");
    for statement in ["SELECT purge()", "DO 'BEGIN DELETE FROM logs; END'"] {
        let token = Refused::to_confirm(&wire.simple(statement)).token();
        wire.simple(&format!("SLUICE CONFIRM '{token}'")).expect_fine("confirmed");
        assert_eq!(database.count("logs"), 0);
        database.run("INSERT INTO logs SELECT g, 'even', NULL FROM generate_series(1, 500) g");
    }
    Refused::to_confirm(&wire.extended("SELECT purge()", &[]));
    wire.simple("SET sluice.max_affected = 5500").expect_fine("more than anybody may");
    database.run("INSERT INTO logs SELECT g, 'even', NULL FROM generate_series(501, 700) g");
    assert!(Refused::denied(&wire.simple("SELECT purge()")).names_rule("too-many-rows"));
}
