//! The third truth: what a statement or a transaction did, as the database itself counts it, before it commits.

use crate::harness::mysql::my_stories;
use crate::harness::mysql::packet::{self, execute, status};
use crate::harness::mysql::server::{BLIND, MyDatabase, MyServer, ROOT};
use crate::harness::mysql::shop::{Refused, shop};
use crate::harness::mysql::wire::MyWire;
use crate::harness::sluice::Sluice;

my_stories! {
    what_a_function_does_is_tried_and_shown, the_token_of_what_was_tried_runs_it_once, small_effects_pass,
    functions_that_only_read_or_add_pass, wherever_a_function_is_named, procedures, a_procedure_that_commits_by_itself, what_hides_behind_names,
    by_prepared_statements, triggers_that_do_more_than_was_shown, small_changes_that_add_up, in_a_transaction_block,
    a_schema_change_is_noticed_at_once, two_sessions_at_once, without_the_process_privilege, cascades_are_counted,
    definitions_that_are_not_shown, executions_with_variables, what_attackers_tried, what_attackers_tried_again, what_was_bound_in_vain, types_of_an_execution_that_failed, a_text_where_a_number_was, letters_that_answers_lack, values_that_no_text_equals, prepared_in_another_character_set, what_a_third_attacker_tried, code_behind_rights, a_trigger_that_notes_each_row, what_ran_before_an_error, rows_that_are_accounts, databases_that_answers_do_not_tell_apart, blocks_of_statements, values_of_variables,
}

const CODE: &str = "
    CREATE TABLE audit (note text); CREATE TABLE totals (id int PRIMARY KEY, n int); INSERT INTO totals VALUES (1, 0), (2, 0);
    CREATE FUNCTION purges() RETURNS int MODIFIES SQL DATA BEGIN DELETE FROM logs; RETURN 1; END;
    CREATE FUNCTION purge_some(many int) RETURNS int MODIFIES SQL DATA BEGIN DELETE FROM logs ORDER BY id LIMIT many; RETURN 1; END;
    CREATE FUNCTION calm() RETURNS int DETERMINISTIC NO SQL RETURN 7;
    CREATE FUNCTION notes() RETURNS int MODIFIES SQL DATA BEGIN INSERT INTO audit VALUES ('noted'); RETURN 1; END;
    CREATE FUNCTION hidden() RETURNS int DETERMINISTIC READS SQL DATA RETURN purges();
    CREATE PROCEDURE purging() DELETE FROM logs;
    CREATE PROCEDURE purging_some(many int) DELETE FROM logs ORDER BY id LIMIT many;
    CREATE PROCEDURE committing() BEGIN START TRANSACTION; DELETE FROM logs; COMMIT; END;
    CREATE PROCEDURE by_text() BEGIN SET @t = concat('DEL', 'ETE FROM logs'); PREPARE s FROM @t; EXECUTE s; END;
    CREATE PROCEDURE calls_on() CALL purging();
    CREATE VIEW peek AS SELECT hidden() AS n;
    CREATE TABLE inbox (id int); CREATE TRIGGER wipes AFTER INSERT ON inbox FOR EACH ROW DELETE FROM logs;
    CREATE TABLE calmbox (id int); CREATE TRIGGER noted BEFORE INSERT ON calmbox FOR EACH ROW INSERT INTO audit VALUES ('insert')";

fn with_code(server: &'static MyServer) -> (MyDatabase, Sluice) {
    let (database, sluice) = shop(server);
    database.run(CODE);
    (database, sluice)
}

fn what_a_function_does_is_tried_and_shown(server: &'static MyServer) {
    let (database, sluice) = with_code(server);
    let mut wire = sluice.my_connect(&database);
    let refused = Refused::to_confirm(&mut wire, "SELECT purges()");
    assert!(refused.message.contains("500 rows") && refused.message.contains("rolled back"), "{refused:?}");
    assert!(refused.names_rule("unknown-effect") && refused.says("purges"), "{refused:?}");
    assert_eq!(database.count("logs"), 500);
    // Nobody is told beforehand that it is allowed.
    for command in ["SLUICE PREVIEW SELECT purges()", "SLUICE EXPLAIN SELECT purges()"] {
        let told = wire.query(command).rows().iter().flatten().flatten().cloned().collect::<Vec<_>>().join("\n");
        assert!(told.contains("tried") && !told.contains("would happen: allow"), "{told}");
    }
}

/// Every place of the language in which one of the servers runs a function, or could: whatever Sluice says of it, the rows stay.
const PLACES: &[&str] = &[
    "SHOW TABLES WHERE purges()",
    "SHOW DATABASES WHERE purges() = 1",
    "SHOW TABLE STATUS WHERE purges()",
    "SHOW INDEX FROM logs WHERE purges()",
    "SHOW COLUMNS FROM logs WHERE purges()",
    "SHOW PROCEDURE STATUS WHERE purges()",
    "SHOW TRIGGERS WHERE purges()",
    "SHOW COLLATION WHERE purges()",
    "SHOW /*!50000 VARIABLES WHERE purges() */",
    "SHOW STATUS WHERE EXISTS (SELECT * FROM peek)",
    "SHOW OPEN TABLES WHERE /* */ purges()",
    "SHOW EVENTS WHERE purges()",
    "/*!50000 SHOW */ CHARACTER SET WHERE purges()",
    "EXPLAIN SELECT purges()",
    "EXPLAIN SELECT * FROM (SELECT purges()) x",
    "EXPLAIN ANALYZE SELECT * FROM carts WHERE id = purges()",
    "ANALYZE SELECT * FROM carts WHERE note = purges()",
    "EXPLAIN EXTENDED SELECT * FROM peek",
    "TABLE peek",
    "VALUES ROW(purges())",
    "VALUES (purges())",
    "(SELECT purges())",
    "(SELECT 1) UNION (SELECT purges())",
    "WITH a AS (SELECT purges()) SELECT * FROM a",
    "SELECT PURGES ()",
    "SELECT `purges`()",
    "SELECT purges /* */ ()",
    "SELECT purges() INTO @x",
    "SELECT count(*) FROM carts HAVING purges()",
    "SET @a = purges()",
    "SET SESSION sql_select_limit = 1000 + purges()",
    "SET sql_mode = concat('', if(purges(), '', ''))",
    "SET STATEMENT max_statement_time = purges() FOR SELECT 1",
    "SET PASSWORD = PASSWORD(purges())",
    "DO purges()",
    "DO sleep(0), purges()",
    "KILL 1000000 + purges()",
    "SIGNAL SQLSTATE '01000' SET MESSAGE_TEXT = purges()",
    "CREATE TABLE made AS SELECT purges() AS a",
    "CREATE /*! TABLE */ made AS SELECT purges() AS a",
    "CREATE # TEMPORARY\n TABLE made SELECT purges() AS a",
    "CREATE TEMPORARY TABLE made SELECT purges() AS a",
    "CREATE TABLE made (a int DEFAULT (purges()))",
    "CREATE EVENT e ON SCHEDULE AT now() + INTERVAL purges() DAY DO SELECT 1",
    "ALTER TABLE carts ADD c int AS (purges())",
    "INSERT INTO totals VALUES (purges() + 10, 3)",
    "INSERT INTO totals SET id = purges() + 11",
    "INSERT INTO totals VALUES (1, 1) ON DUPLICATE KEY UPDATE n = purges()",
    "REPLACE INTO totals VALUES (purges() + 12, 3)",
    "UPDATE totals SET n = purges() WHERE id = 1",
    "DELETE FROM totals WHERE id = 1 AND purges()",
    "DELETE FROM totals WHERE id = 1 ORDER BY purges() LIMIT 1",
    "EXECUTE IMMEDIATE concat('SELECT pur', 'ges()')",
    "EXECUTE IMMEDIATE 'SELECT ?' USING purges()",
    "PURGE BINARY LOGS BEFORE purges()",
    "SELECT * FROM information_schema.tables WHERE purges() LIMIT 1",
    "SELECT * FROM information_schema.session_status WHERE purges()",
    "SELECT * FROM performance_schema.session_status WHERE purges()",
    "SHOW GLOBAL STATUS WHERE purges()",
    "SHOW SESSION STATUS WHERE purges()",
    "BEGIN NOT ATOMIC SELECT purges(); END",
    "CHECK TABLE peek",
    "CHECKSUM TABLE peek",
];

fn wherever_a_function_is_named(server: &'static MyServer) {
    let (database, sluice) = with_code(server);
    for place in PLACES {
        let mut wire = sluice.my_connect(&database);
        wire.query(place);
        assert_eq!(database.count("logs"), 500, "{place}");
        let outcome = wire.command(&crate::harness::mysql::packet::prepare(place));
        if outcome.error().is_none() {
            wire.command(&execute(outcome.prepared(), 0, &[]));
            assert_eq!(database.count("logs"), 500, "{place}, prepared");
        }
    }
    let mut wire = sluice.my_connect(&database);
    wire.query("HANDLER carts OPEN");
    wire.query("HANDLER carts READ FIRST WHERE purges()");
    assert_eq!(database.count("logs"), 500);
    let mut wire = sluice.my_connect(&database);
    for harmless in
        ["SHOW CREATE FUNCTION purges", "SHOW FUNCTION STATUS LIKE 'purges'", "SHOW CREATE VIEW peek", "DESCRIBE peek"]
    {
        assert!(!wire.query(harmless).rows().is_empty(), "{harmless}");
    }
}

fn the_token_of_what_was_tried_runs_it_once(server: &'static MyServer) {
    let (database, sluice) = with_code(server);
    let mut wire = sluice.my_connect(&database);
    let refused = Refused::to_confirm(&mut wire, "SELECT purges()");
    assert_eq!(wire.query(&refused.confirm()).value(), "1");
    assert_eq!(database.count("logs"), 0);
    database.run("INSERT INTO logs SELECT id, 'even', 'x' FROM carts WHERE id <= 500");
    assert_eq!(wire.query(&refused.confirm()).code(), 50005);
    // More than was shown is rolled back, with what it did now and a token for that.
    let refused = Refused::to_confirm(&mut wire, "SELECT purges()");
    database.run("INSERT INTO logs SELECT id + 500, 'even', 'x' FROM carts WHERE id <= 500");
    let outcome = wire.query(&refused.confirm());
    let exceeded = Refused::of(&mut wire, &outcome);
    assert_eq!(exceeded.code, 50004, "{exceeded:?}");
    assert!(exceeded.says("1,000"), "{exceeded:?}");
    assert_eq!(database.count("logs"), 1000);
    wire.query(&exceeded.confirm()).expect_fine("shown anew");
    assert_eq!(database.count("logs"), 0);
}

fn small_effects_pass(server: &'static MyServer) {
    let (database, sluice) = with_code(server);
    let mut wire = sluice.my_connect(&database);
    assert_eq!(wire.query("SELECT purge_some(7)").value(), "1");
    assert_eq!(database.count("logs"), 493);
    wire.query("CALL purging_some(3)").expect_fine("three rows");
    assert_eq!(database.count("logs"), 490);
    Refused::to_confirm(&mut wire, "SELECT purge_some(101)");
    Refused::to_confirm(&mut wire, "CALL purging_some(101)");
    assert_eq!(database.count("logs"), 490);
}

fn functions_that_only_read_or_add_pass(server: &'static MyServer) {
    let (database, sluice) = with_code(server);
    let mut wire = sluice.my_connect(&database);
    for text in [
        "SELECT calm()",
        "SELECT calm() FROM logs",
        "SELECT notes()",
        "INSERT INTO calmbox VALUES (1)",
        "SELECT upper('x'), now()",
    ] {
        wire.query(text).expect_fine(text);
    }
    assert_eq!(database.count("audit"), 2);
    wire.query("INSERT INTO calmbox SELECT id FROM carts").expect_fine("each row is noted, none is lost");
    assert_eq!(database.count("audit"), 5002);
}

fn procedures(server: &'static MyServer) {
    let (database, sluice) = with_code(server);
    let mut wire = sluice.my_connect(&database);
    for text in
        ["CALL purging()", "CALL calls_on()", "CALL by_text()", "DO purges()", "SET @x = purges()", "CALL `purging`"]
    {
        let refused = Refused::any(&mut wire, text);
        assert!(refused.names_rule("unknown-effect"), "{text}: {refused:?}");
        assert_eq!(database.count("logs"), 500, "{text}");
    }
    let refused = Refused::to_confirm(&mut wire, "CALL purging()");
    wire.query(&refused.confirm()).expect_fine("confirmed");
    assert_eq!(database.count("logs"), 0);
}

fn a_procedure_that_commits_by_itself(server: &'static MyServer) {
    let (database, sluice) = with_code(server);
    let mut wire = sluice.my_connect(&database);
    let refused = Refused::to_confirm(&mut wire, "CALL committing()");
    assert_eq!(database.count("logs"), 500);
    wire.query(&refused.confirm()).expect_fine("confirmed");
    assert_eq!(database.count("logs"), 0);
}

fn what_hides_behind_names(server: &'static MyServer) {
    let (database, sluice) = with_code(server);
    database.run(
        "CREATE VIEW over_peek AS SELECT * FROM peek; 
        CREATE TRIGGER lines_gone AFTER DELETE ON totals FOR EACH ROW DELETE FROM logs;
        CREATE TRIGGER lines_new AFTER UPDATE ON totals FOR EACH ROW DELETE FROM logs WHERE NEW.n > 0",
    );
    let mut wire = sluice.my_connect(&database);
    for text in [
        "SELECT * FROM peek",
        "SELECT * FROM over_peek",
        "SELECT `hidden`()",
        "SELECT hidden ()",
        "SELECT /*! purges() */",
        "SELECT {db}.purges()",
        "SELECT PURGES()",
        "INSERT INTO inbox VALUES (1)",
        "REPLACE INTO inbox VALUES (1)",
        "INSERT INTO totals VALUES (3, purges())",
        "CREATE TABLE made AS SELECT purges() AS n",
        "WITH a AS (SELECT purges()) SELECT * FROM a",
        "UPDATE totals SET n = purges() WHERE id = 1",
        "UPDATE totals SET n = 1 WHERE id = 1",
        "DELETE FROM totals WHERE id = 1",
        "SELECT * FROM logs WHERE id = purges()",
        "SELECT count(*) FROM (SELECT purges()) AS x",
        "EXPLAIN SELECT * FROM (SELECT purges() AS n) AS x",
    ] {
        let text = text.replace("{db}", &database.name);
        let outcome = wire.query(&text);
        if outcome.error().is_some() {
            let failure = outcome.error().expect("just seen");
            // The server may refuse by itself what changes the table that it reads.
            if failure.code < 50000 {
                assert!([1442, 1422].contains(&failure.code), "{text}: {failure:?}");
            }
        } else {
            assert!(text.starts_with("EXPLAIN"), "{text} passed: {outcome:?}");
        }
        assert_eq!(database.count("logs"), 500, "{text}");
    }
}

fn by_prepared_statements(server: &'static MyServer) {
    let (database, sluice) = with_code(server);
    let mut wire = sluice.my_connect(&database);
    let outcome = wire.prepared("SELECT purges()", &[]);
    let refused = Refused::of(&mut wire, &outcome);
    assert_eq!(refused.code, 50001, "{refused:?}");
    assert_eq!(database.count("logs"), 500);
    wire.prepared("SELECT purge_some(?)", &["5"]).expect_fine("small");
    assert_eq!(database.count("logs"), 495);
    let outcome = wire.prepared("SELECT purge_some(?)", &["150"]);
    let refused = Refused::of(&mut wire, &outcome);
    assert_eq!(database.count("logs"), 495);
    wire.query(&refused.confirm()).expect_fine("with its values");
    assert_eq!(database.count("logs"), 345);
    // Prepared while it was calm.
    let id = wire.prepare("SELECT calm()");
    wire.command(&execute(id, 0, &[])).expect_fine("calm");
    database.run("DROP FUNCTION calm; CREATE FUNCTION calm() RETURNS int MODIFIES SQL DATA BEGIN DELETE FROM logs; RETURN 7; END");
    sluice.my_connect(&database).query("CREATE TABLE noticed (id int)").expect_fine("a schema change that Sluice sees");
    let outcome = wire.command(&execute(id, 0, &[]));
    assert!(outcome.error().is_some(), "{outcome:?}");
    assert_eq!(database.count("logs"), 345);
}

fn triggers_that_do_more_than_was_shown(server: &'static MyServer) {
    let (database, sluice) = with_code(server);
    database.run("CREATE TRIGGER more AFTER DELETE ON carts FOR EACH ROW DELETE FROM logs");
    let mut wire = sluice.my_connect(&database);
    for text in ["DELETE FROM carts WHERE id = 4999", "DELETE FROM carts WHERE id BETWEEN 4990 AND 4995"] {
        Refused::to_confirm(&mut wire, text);
        assert_eq!((database.count("logs"), database.count("carts")), (500, 5000), "{text}");
    }
    let refused = Refused::to_confirm(&mut wire, "DELETE FROM carts WHERE id = 4999");
    wire.query(&refused.confirm()).expect_fine("confirmed");
    assert_eq!((database.count("logs"), database.count("carts")), (0, 4999));
}

fn small_changes_that_add_up(server: &'static MyServer) {
    let (database, sluice) = with_code(server);
    let mut wire = sluice.my_connect(&database);
    wire.query("BEGIN").expect_fine("BEGIN");
    for _ in 0..4 {
        let outcome = wire.query("SELECT purge_some(50)");
        if outcome.error().is_some() {
            Refused::of(&mut wire, &outcome);
        }
    }
    let outcome = wire.query("COMMIT");
    if outcome.error().is_some() {
        Refused::of(&mut wire, &outcome);
    }
    assert!(database.count("logs") >= 300, "what code did in pieces was more than goes unasked");
}

fn in_a_transaction_block(server: &'static MyServer) {
    let (database, sluice) = with_code(server);
    let mut wire = sluice.my_connect(&database);
    wire.query("BEGIN").expect_fine("BEGIN");
    wire.query("INSERT INTO audit VALUES ('before')").expect_fine("before");
    let refused = Refused::to_confirm(&mut wire, "SELECT purges()");
    // The statement alone is taken back.
    let outcome = wire.query("SELECT count(*) FROM audit");
    assert_eq!((outcome.value().as_str(), outcome.end().status & status::IN_TRANSACTION), ("1", 1));
    assert_eq!(wire.query("SELECT count(*) FROM logs").value(), "500");
    wire.query(&refused.confirm()).expect_fine("confirmed within the transaction");
    assert_eq!(database.count("logs"), 500, "not committed yet");
    wire.query("ROLLBACK").expect_fine("ROLLBACK");
    assert_eq!((database.count("logs"), database.count("audit")), (500, 0));
    wire.query("BEGIN; SAVEPOINT mine; INSERT INTO audit VALUES ('x')").expect_fine("a savepoint of the client's");
    Refused::to_confirm(&mut wire, "SELECT purges()");
    wire.query("SELECT purge_some(2)").expect_fine("few");
    wire.query("ROLLBACK TO mine").expect_fine("it is still there");
    wire.query("COMMIT").expect_fine("COMMIT");
    assert_eq!((database.count("logs"), database.count("audit")), (500, 0));
}

fn a_schema_change_is_noticed_at_once(server: &'static MyServer) {
    let (database, sluice) = with_code(server);
    let (mut wire, mut other) = (sluice.my_connect(&database), sluice.my_connect(&database));
    wire.query("INSERT INTO totals VALUES (10, 0)").expect_fine("nothing fires");
    other.query("CREATE TRIGGER late AFTER INSERT ON totals FOR EACH ROW DELETE FROM logs").expect_fine("a trigger");
    let outcome = wire.query("INSERT INTO totals VALUES (11, 0)");
    assert!(outcome.error().is_some(), "{outcome:?}");
    assert_eq!(database.count("logs"), 500);
    wire.query("SELECT calm()").expect_fine("calm");
    other.query("DROP FUNCTION calm; CREATE FUNCTION calm() RETURNS int MODIFIES SQL DATA BEGIN DELETE FROM logs; RETURN 1; END").expect_fine("not any more");
    let outcome = wire.query("SELECT calm()");
    assert!(outcome.error().is_some(), "{outcome:?}");
    assert_eq!(database.count("logs"), 500);
}

/// What the server shows of transactions is shared and may be old: what one session did is not held against another, nor missed.
fn two_sessions_at_once(server: &'static MyServer) {
    let (database, sluice) = with_code(server);
    database.run("CREATE TABLE mine (id int PRIMARY KEY); CREATE TABLE yours (id int PRIMARY KEY);
        INSERT INTO mine SELECT id FROM carts WHERE id <= 2000; INSERT INTO yours SELECT id FROM carts WHERE id <= 2000;
        CREATE PROCEDURE some_of_mine(m int) DELETE FROM mine ORDER BY id LIMIT m; CREATE PROCEDURE some_of_yours(m int) DELETE FROM yours ORDER BY id LIMIT m");
    std::thread::scope(|scope| {
        for (table, many) in [("mine", 20), ("yours", 101)] {
            let (sluice, database) = (&sluice, &database);
            scope.spawn(move || {
                let mut wire = sluice.my_connect(database);
                for _ in 0..15 {
                    let outcome = wire.query(&format!("CALL some_of_{table}({many})"));
                    assert_eq!(outcome.error().is_some(), many > 100, "{table}: {outcome:?}");
                }
            });
        }
    });
    assert_eq!((database.count("mine"), database.count("yours")), (1700, 2000));
}

/// Nobody tells what the code changed: it is asked about, and that is said.
fn without_the_process_privilege(server: &'static MyServer) {
    let (database, sluice) = with_code(server);
    let mut wire = sluice.my_connect_as(BLIND, &database);
    for text in
        ["SELECT purges()", "CALL purging()", "INSERT INTO inbox VALUES (1)", "DELETE FROM carts WHERE id <= 1500"]
    {
        Refused::any(&mut wire, text);
        assert_eq!((database.count("logs"), database.count("carts")), (500, 5000), "{text}");
    }
    wire.query("DELETE FROM logs WHERE id = 1").expect_fine("one row by its key");
}

fn cascades_are_counted(server: &'static MyServer) {
    let (database, sluice) = with_code(server);
    let mut wire = sluice.my_connect(&database);
    let add = "INSERT INTO cart_items SELECT 20000 + id, 77 FROM carts WHERE id <= 150";
    let refused =
        Refused::to_confirm(&mut wire, "DELETE FROM carts WHERE id IN (77, 78, 79) OR status = 'nothing' OR id > 4900");
    assert!(refused.says("103") && refused.says("206"), "{refused:?}");
    database.run(add);
    let outcome = wire.query(&refused.confirm());
    let again = Refused::of(&mut wire, &outcome);
    assert!([50001, 50004].contains(&again.code), "{again:?}");
    assert_eq!(database.count("carts"), 5000);
    // A procedure whose deletion cascades: the server counts a row, InnoDB many.
    database.run("CREATE PROCEDURE one_cart() DELETE FROM carts WHERE id = 77");
    let refused = Refused::to_confirm(&mut wire, "CALL one_cart()");
    assert!(refused.says("15"), "{refused:?}");
    assert_eq!(database.count("carts"), 5000);
}

fn what_attackers_tried(server: &'static MyServer) {
    let (database, sluice) = with_code(server);
    let mut wire = sluice.my_connect(&database);
    for text in [
        "CREATE PROCEDURE p() DELETE FROM logs; CALL p()",
        "CREATE FUNCTION f() RETURNS int MODIFIES SQL DATA BEGIN DELETE FROM logs; RETURN 1; END; SELECT f()",
        "CREATE TRIGGER t AFTER INSERT ON totals FOR EACH ROW DELETE FROM logs; INSERT INTO totals VALUES (50, 1)",
        "CREATE OR REPLACE VIEW calm_view AS SELECT purges() AS n; SELECT * FROM calm_view",
        "SELECT 1 FROM dual WHERE 1 = (SELECT purges())",
        "HANDLER logs OPEN; DELETE FROM logs; HANDLER logs CLOSE",
        "LOCK TABLES logs WRITE; DELETE FROM logs; UNLOCK TABLES",
        "SAVEPOINT a; DELETE FROM logs; RELEASE SAVEPOINT a",
        "XA START 'x'; DELETE FROM logs; XA END 'x'; XA COMMIT 'x' ONE PHASE",
        "SET autocommit = 0; DELETE FROM logs; SET autocommit = 1",
        "BEGIN; DELETE FROM logs; CREATE TABLE commits (id int)",
        "BEGIN; DELETE FROM logs; BEGIN",
        "BEGIN; CALL purging_some(90); CALL purging_some(90); CALL purging_some(90); COMMIT",
        "CALL purging(); ROLLBACK",
        "CREATE EVENT e ON SCHEDULE AT now() DO DELETE FROM logs",
        "CREATE EVENT e ON SCHEDULE EVERY 1 SECOND DO CALL purging()",
        "ALTER TABLE logs ENGINE = MEMORY; DELETE FROM logs",
        "ALTER TABLE logs MODIFY line int",
        "ALTER TABLE logs PARTITION BY RANGE (id) (PARTITION p VALUES LESS THAN (10000)); ALTER TABLE logs TRUNCATE PARTITION p",
        "RENAME TABLE logs TO gone; CREATE TABLE logs LIKE gone",
        "CREATE TABLE other_logs LIKE logs; RENAME TABLE logs TO a, other_logs TO logs; DROP TABLE a",
        "LOAD DATA LOCAL INFILE 'x' REPLACE INTO TABLE logs",
    ] {
        let mut wire = sluice.my_connect(&database);
        wire.file = b"1\tx\tx\n".to_vec();
        wire.query(text);
        drop(wire);
        let left = database.value("SELECT count(*) FROM information_schema.tables WHERE table_schema = database() AND table_name IN ('logs', 'gone')");
        assert_ne!(left, "0", "{text}");
        if database.value(
            "SELECT count(*) FROM information_schema.tables WHERE table_schema = database() AND table_name = 'gone'",
        ) == "1"
        {
            // A new name destroys nothing.
            database.run("DROP TABLE logs; RENAME TABLE gone TO logs");
        }
        assert!(database.count("logs") >= 400, "{text}: {} left", database.count("logs"));
        assert_eq!(database.value("SELECT count(*) >= 400 FROM logs WHERE line LIKE 'line %'"), "1", "{text}");
    }
    still_serves(&mut wire);
}

/// A statement that fails keeps what it did before: MySQL takes back the statement that failed, not those before it in a message or in a
/// procedure. What stays is held to the same.
fn what_ran_before_an_error(server: &'static MyServer) {
    let (database, sluice) = with_code(server);
    database.run(
        "CREATE PROCEDURE purging_and_failing() BEGIN DELETE FROM logs; SIGNAL SQLSTATE '45000'; END;
         CREATE PROCEDURE telling_and_failing() BEGIN DELETE FROM logs; SELECT 'gone'; SIGNAL SQLSTATE '45000'; END;
         CREATE PROCEDURE noting_and_failing() BEGIN INSERT INTO audit VALUES ('tried'); SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'; END",
    );
    for text in [
        "SELECT purges(); SELECT * FROM nowhere",
        "SELECT purges(); SELEC",
        "CALL purging(); CALL purging_and_failing()",
        "CALL purging_and_failing()",
        "CALL telling_and_failing()",
        "DELETE FROM logs WHERE id <= 60; CALL purging_and_failing()",
    ] {
        for (begin, end) in [("DO 0", "DO 0"), ("BEGIN", "COMMIT"), ("SET autocommit = 0", "COMMIT")] {
            let mut wire = sluice.my_connect(&database);
            wire.query(begin);
            let outcome = wire.query(text);
            assert!(outcome.code() != 0, "{text}: {outcome:?}");
            wire.query(end);
            assert!(database.count("logs") >= 400, "{begin}; {text}: {} left", database.count("logs"));
            database.run("REPLACE INTO logs SELECT id, 'even', 'x' FROM carts WHERE id <= 500");
        }
    }
    // What loses nothing stays, as without a gate, and the error is the procedure's own.
    for (begin, end) in [("DO 0", "DO 0"), ("BEGIN", "COMMIT"), ("SET autocommit = 0", "COMMIT")] {
        let mut wire = sluice.my_connect(&database);
        wire.query(begin);
        assert_eq!(wire.query("CALL noting_and_failing()").code(), 1644, "{begin}");
        wire.query(end);
    }
    assert_eq!(database.count("audit"), 3);
}

fn still_serves(wire: &mut MyWire) {
    assert_eq!(wire.query("SELECT 'still here'").value(), "still here");
}

/// The server counts all rows that a transaction modified in one number: those that a trigger adds are among them, and destroy nothing.
fn a_trigger_that_notes_each_row(server: &'static MyServer) {
    let (database, sluice) = shop(server);
    database.run(
        "CREATE TABLE history (id int, status varchar(20));
        CREATE TRIGGER keeps AFTER DELETE ON carts FOR EACH ROW INSERT INTO history VALUES (OLD.id, OLD.status)",
    );
    let mut wire = sluice.my_connect(&database);
    let refused = Refused::to_confirm(&mut wire, "DELETE FROM carts WHERE status = 'abandoned'");
    assert_eq!(wire.query(&refused.confirm()).end().affected, 2000);
    assert_eq!((database.count("carts"), database.count("history")), (3000, 2000));
    assert_eq!(wire.query("DELETE FROM carts WHERE id BETWEEN 2001 AND 2030").end().affected, 30, "few, noted");
}

/// An account that is not shown what a view or a routine is: reading through it is tried, and what cannot be tried says which right is missing.
fn definitions_that_are_not_shown(server: &'static MyServer) {
    let (database, sluice) = with_code(server);
    database.run("DROP TABLE old_logs; CREATE VIEW plain_view AS SELECT id FROM logs; CREATE FUNCTION reads_one() RETURNS int READS SQL DATA RETURN (SELECT count(*) FROM logs)");
    // It is no owner of the code, and sees it by its name alone.
    let name = &database.name;
    let mut root = database.connect_as(ROOT);
    for statement in [
        "DROP USER IF EXISTS narrow@'%'".to_owned(),
        "CREATE USER narrow@'%'".to_owned(),
        format!("GRANT SELECT, INSERT, UPDATE, DELETE, EXECUTE ON {name}.* TO narrow@'%'"),
    ] {
        root.query(&statement).expect_fine(&statement);
    }
    let login = crate::harness::mysql::login::Login::of("narrow");
    let mut wire = MyWire::login(&sluice.address, &login.on(name));
    assert_eq!(wire.query("SELECT count(*) FROM plain_view").value(), "500");
    assert_eq!(wire.query("SELECT reads_one()").value(), "500");
    let refused = Refused::to_confirm(&mut wire, "SELECT purges()");
    assert!(refused.says("500 rows"), "{refused:?}");
    let refused = Refused::to_confirm(&mut wire, "CALL purging()");
    assert!(refused.says("not shown") && refused.says("SHOW VIEW"), "{refused:?}");
    assert_eq!(database.count("logs"), 500);
}

/// The value of a variable decides, as it stands when the statement is shown and when it is confirmed.
fn executions_with_variables(server: &'static MyServer) {
    let (database, sluice) = with_code(server);
    let mut wire = sluice.my_connect(&database);
    wire.query("PREPARE p FROM 'DELETE FROM carts WHERE id < ?'").expect_fine("runs nothing");
    wire.query("SET @a = 3").expect_fine("a value");
    assert_eq!(wire.query("EXECUTE p USING @a").end().affected, 2, "few, and counted");
    wire.query("SET @a = 2003").expect_fine("another");
    let refused = Refused::to_confirm(&mut wire, "EXECUTE p USING @a");
    assert!(refused.says("2,000"), "{refused:?}");
    wire.query("SET @a = 4900").expect_fine("more");
    let outcome = wire.query(&refused.confirm());
    assert!((50001..=50007).contains(&outcome.code()), "{outcome:?}");
    assert_eq!(database.count("carts"), 4998);
    wire.query("SET @a = 2003").expect_fine("what was shown");
    let again = Refused::to_confirm(&mut wire, "EXECUTE p USING @a");
    assert_eq!(wire.query(&again.confirm()).end().affected, 2000);
}

/// Ways in which a procedure ends its transaction, or a setting is reached, that are not written as one expects.
fn what_attackers_tried_again(server: &'static MyServer) {
    let (database, sluice) = with_code(server);
    let mut root = database.connect_as(ROOT);
    let mut wire = sluice.my_connect(&database);
    let own: &[&str] = match server.is_mariadb() {
        true => &["DELETE FROM logs; SET DEFAULT ROLE NONE"],
        false => &[
            "DELETE FROM logs; SET DEFAULT ROLE NONE TO trusty",
            "DELETE FROM logs; STOP REPLICA",
            "SET @@\u{e0}utocommit = 0; DELETE FROM logs; SET @@\u{e0}utocommit = 1",
            "DELETE FROM logs; SET DEFAULT ROLE NONE TO trusty; SET @@\u{e0}utocommit = 0; DELETE FROM carts",
        ],
    };
    let both = [
        "DECLARE EXIT HANDLER FOR SQLEXCEPTION COMMIT; DELETE FROM logs; CALL nowhere()",
        "DELETE FROM logs; SET @@local.`autocommit` = 1",
    ];
    for (at, body) in own.iter().chain(&both).enumerate() {
        wire.query(&format!("CREATE PROCEDURE ends{at}() BEGIN {body}; END")).expect_fine(body);
        let outcome = wire.query(&format!("CALL ends{at}()"));
        assert!((50001..=50007).contains(&outcome.code()), "{body}: {outcome:?}");
        assert_eq!(database.count("logs"), 500, "{body}");
    }
    // Guards that go off in quotes, or in a procedure.
    for setting in [
        "@@`foreign_key_checks`",
        "@@session.`foreign_key_checks`",
        "@@local.`unique_checks`",
        "@@session.`sql_log_bin`",
    ] {
        assert_eq!(Refused::denied(&mut wire, &format!("SET {setting} = 0")).code, 50003, "{setting}");
    }
    wire.query("CREATE PROCEDURE off() SET foreign_key_checks = 0").expect_fine("it is only made");
    Refused::to_confirm(&mut wire, "CALL off()");
    assert_eq!(wire.query("SELECT @@foreign_key_checks").value(), "1");
    // Names that are the same to the server, and names of its own that are not its own.
    wire.query("CREATE FUNCTION `\u{130}x`() RETURNS int MODIFIES SQL DATA BEGIN DELETE FROM logs; RETURN 1; END")
        .expect_fine("made");
    Refused::to_confirm(&mut wire, "SELECT ix()");
    let system = if server.is_mariadb() { "mariadb.sys" } else { "mysql.sys" };
    let made = format!(
        "CREATE DEFINER = '{system}'@'localhost' FUNCTION systems() RETURNS int MODIFIES SQL DATA SQL SECURITY INVOKER BEGIN DELETE FROM logs; RETURN 1; END"
    );
    root.query(&made).expect_fine("root may");
    let mut wire = sluice.my_connect(&database);
    wire.query("CREATE TABLE makes_others_ask (id int)").expect_fine("a change of the schema");
    Refused::to_confirm(&mut wire, "SELECT systems()");
    if server.is_mariadb() {
        database.run("ALTER TABLE carts ADD un varchar(20) NULL UNIQUE");
        wire.query("SET sql_mode = 'EMPTY_STRING_IS_NULL'").expect_fine("a mode");
        let outcome = wire.query("DELETE FROM carts WHERE un <=> ''");
        assert_eq!(outcome.code(), 50001, "{outcome:?}");
        let mut wire = sluice.my_connect(&database);
        wire.query("SET @x = 'DELETE FROM logs WHERE id = 1 AND \'\'a\\\\\'\' AND line = \'\' OR id > 0 -- \'\'\'")
            .expect_fine("a text");
        Refused::any(&mut wire, "SET STATEMENT sql_mode = 'NO_BACKSLASH_ESCAPES' FOR EXECUTE IMMEDIATE @x");
    }
    assert_eq!((database.count("logs"), database.count("carts")), (500, 5_000));
}

/// Types that came with an execution which was refused are not those that the server goes by.
fn what_was_bound_in_vain(server: &'static MyServer) {
    let (database, sluice) = with_code(server);
    database.run(NAMED);
    let mut wire = sluice.my_connect(&database);
    wire.query("SET sql_mode = ''").expect_fine("a word compares with 0");
    let id = wire.prepare("DELETE FROM named WHERE vk = ?");
    let typed =
        |kind: u16, value: &[u8]| crate::harness::mysql::packet::execute_typed(id, 0, &[(kind, Some(value.to_vec()))]);
    wire.command(&typed(crate::harness::mysql::packet::TINY, &[77]));
    wire.query("SET TRANSACTION ISOLATION LEVEL READ COMMITTED").expect_fine("for the next one");
    let outcome = wire.command(&typed(crate::harness::mysql::packet::VAR_STRING, &[0]));
    assert!(outcome.error().is_some(), "{outcome:?}");
    wire.query("COMMIT").expect_fine("and it was");
    // As bound last: one byte, which is no text of no length.
    let again = crate::harness::mysql::packet::about(
        crate::harness::mysql::packet::command::STMT_EXECUTE,
        id,
        &[0, 1, 0, 0, 0, 0, 0, 0],
    );
    wire.command(&again);
    assert_eq!(database.count("named"), 5_000);
}

const NAMED: &str =
    "CREATE TABLE named (vk varchar(20) UNIQUE NOT NULL); INSERT INTO named SELECT concat('v', id) FROM carts";

/// A server that fails an execution before it has bound the values goes by the types of before.
fn types_of_an_execution_that_failed(server: &'static MyServer) {
    use crate::harness::mysql::packet::{TINY, VAR_STRING, about, command, execute_typed, long_data, reset};
    let (database, sluice) = with_code(server);
    database.run(NAMED);
    let mut wire = sluice.my_connect(&database);
    wire.query("SET sql_mode = ''").expect_fine("a word compares with 0");
    let id = wire.prepare("DELETE FROM named WHERE vk = ?");
    wire.command(&execute_typed(id, 0, &[(TINY, Some(vec![77]))])).expect_fine("no row");
    // Once it is not known by which types the server goes, another failure does not tell.
    for _ in 0..2 {
        wire.start(&long_data(id, 7, b"no such parameter"));
        let outcome = wire.command(&execute_typed(id, 0, &[(VAR_STRING, Some(vec![0]))]));
        assert!(outcome.error().is_some(), "{outcome:?}");
        wire.command(&reset(id)).expect_fine("without its error");
    }
    // One byte by the types that the server has: 0, which every word equals; by the others a text of no length.
    wire.start(&about(command::STMT_EXECUTE, id, &[0, 1, 0, 0, 0, 0, 0, 0]));
    wire.message();
    assert_eq!(database.count("named"), 5_000);
}

/// MySQL keeps the type that an earlier execution gave a parameter: a text that comes later is a number to it, and every word is 0.
fn a_text_where_a_number_was(server: &'static MyServer) {
    use crate::harness::mysql::packet::{VAR_STRING, execute_typed};
    const BIGINT: u16 = 8;
    let (database, sluice) = with_code(server);
    database.run(NAMED);
    let mut wire = sluice.my_connect(&database);
    wire.query("SET sql_mode = ''").expect_fine("a word compares with 0");
    // Whatever kind of text: node's mysql2 binds objects as JSON (245).
    // MariaDB ends a session that binds types it does not know.
    let odd = if server.is_mariadb() { &[][..] } else { &[245, 242, 16, 247, 248, 255] };
    for kind in odd.iter().copied().chain([VAR_STRING, 15]).chain(249..=252) {
        let id = wire.prepare("DELETE FROM named WHERE vk = ?");
        wire.command(&execute_typed(id, 0, &[(BIGINT, Some(7i64.to_le_bytes().to_vec()))])).expect_fine("no row");
        let outcome = wire.command(&execute_typed(id, 0, &[(kind, Some(b"\x03n9x".to_vec()))]));
        assert!(database.count("named") >= 4_999, "{kind}: {outcome:?}");
    }
    // Texts alone are held to one row, unasked, as ever.
    let id = wire.prepare("DELETE FROM named WHERE vk = ?");
    for _ in 0..2 {
        wire.command(&execute_typed(id, 0, &[(VAR_STRING, Some(b"\x04none".to_vec()))])).expect_fine("no row");
    }
}

/// Answers come in the session's `character_set_results`: a letter that it lacks is a question mark, and may be another name.
fn letters_that_answers_lack(server: &'static MyServer) {
    let (database, sluice) = with_code(server);
    database.run("CREATE TABLE `?` (k int); CREATE TABLE `中` (k int); INSERT INTO `中` VALUES (1), (2)");
    let mut wire = sluice.my_connect(&database);
    wire.query("SET @v = 'TRUNCATE `中`'").expect_fine("a text");
    wire.query("SET character_set_results = latin1").expect_fine("letters");
    wire.query("PREPARE s FROM @v");
    wire.query("EXECUTE s");
    wire.query("EXECUTE IMMEDIATE @v");
    assert_eq!(database.value("SELECT count(*) FROM `中`"), "2");
    database.run("CREATE TABLE odd (`?` int, `中` int UNIQUE); INSERT INTO odd SELECT 5, vk FROM (SELECT 1 AS vk UNION SELECT 2 UNION SELECT 3) v");
    let outcome = wire.query("DELETE FROM odd WHERE `?` = 5");
    let hint = format!("{outcome:?}");
    assert_eq!(database.value("SELECT count(*) FROM odd"), "3", "what is not known is asked about: {hint}");
}

/// A key of texts pins no row by a date or an odd number: the server compares those as numbers.
fn values_that_no_text_equals(server: &'static MyServer) {
    use crate::harness::mysql::packet::execute_typed;
    let (database, sluice) = with_code(server);
    database.run(NAMED);
    let (date, time, datetime, decimal) = (10, 11, 12, 246);
    for (kind, value) in [
        (date, &b"\0"[..]),
        (time, b"\0"),
        (datetime, b"\0"),
        (decimal, b"\x02+0"),
        (decimal, b"\x03 0 "),
        (0, b"\x03 0 "),
    ] {
        let mut wire = sluice.my_connect(&database);
        wire.query("SET sql_mode = ''").expect_fine("a word compares with 0");
        let id = wire.prepare("DELETE FROM named WHERE vk = ?");
        let outcome = wire.command(&execute_typed(id, 0, &[(kind, Some(value.to_vec()))]));
        assert_eq!(database.count("named"), 5_000, "{kind} {value:?}: {outcome:?}");
    }
}

/// What a statement was prepared as, it is not when its server prepares it anew under another character set.
fn prepared_in_another_character_set(server: &'static MyServer) {
    let (database, sluice) = with_code(server);
    let mut wire = sluice.my_connect(&database);
    wire.query("SET NAMES utf8mb4").expect_fine("as it is read");
    let id = wire.prepare("DELETE FROM logs WHERE id = 1 AND line = 'a\u{20ac}\\' OR id > 0 -- '");
    database.run("ALTER TABLE logs COMMENT = 'changed'");
    wire.query("SET NAMES gbk").expect_fine("in which the string ends earlier");
    let outcome = wire.command(&execute(id, 0, &[]));
    assert!((50001..=50007).contains(&outcome.code()), "{outcome:?}");
    assert_eq!(database.count("logs"), 500);
}

/// Code made through Sluice that its own catalog shows as another text, a condition that reads like the end of a block, and tables that change
/// their engine: each ran unasked once.
fn what_a_third_attacker_tried(server: &'static MyServer) {
    let (database, sluice) = with_code(server);
    let mut wire = sluice.my_connect(&database);
    let made = [
        r"CREATE FUNCTION esc1() RETURNS INT MODIFIES SQL DATA BEGIN SET @a = '\''; DELETE FROM logs; SET @b = '\''; RETURN 1; END",
        "CREATE FUNCTION esc2() RETURNS INT MODIFIES SQL DATA BEGIN SET @a = '\\\\'; DELETE FROM logs; SET @b = '#';\n RETURN 1; END",
        r#"CREATE FUNCTION esc3() RETURNS INT MODIFIES SQL DATA BEGIN SET @a = "\""; DELETE FROM logs; SET @b = "\""; RETURN 1; END"#,
        "CREATE FUNCTION esc4() RETURNS INT MODIFIES SQL DATA BEGIN DECLARE `a``b` INT; DELETE FROM logs; SET `a``b` = 1; RETURN 1; END",
        r"CREATE PROCEDURE esc5() BEGIN SET @a = '\''; DELETE FROM logs; COMMIT; SET @b = '\''; END",
        r"CREATE TRIGGER esc6 BEFORE INSERT ON totals FOR EACH ROW BEGIN SET @a = '\''; DELETE FROM logs; SET @b = '\''; END",
        "CREATE PROCEDURE dot1() BEGIN IF (SELECT q.case FROM (SELECT 1 AS `case`) q) THEN TRUNCATE TABLE logs; END IF; END",
        "CREATE PROCEDURE dot2() BEGIN DELETE FROM logs; IF (SELECT q.end FROM (SELECT 1 AS `end`) q) THEN FLUSH STATUS; END IF; END",
        "CREATE PROCEDURE sweeps() DELETE FROM swept WHERE id > 0",
        "CREATE TABLE swept (id int PRIMARY KEY)",
        "INSERT INTO swept SELECT id FROM logs",
        "SELECT 1",
        "ALTER TABLE swept ENGINE=MyISAM",
    ];
    for statement in made {
        let outcome = wire.query(statement);
        assert!(outcome.error().is_none(), "{statement}: {outcome:#?}");
    }
    for statement in [
        "SELECT esc1()",
        "SELECT esc2()",
        "SELECT esc3()",
        "SELECT esc4()",
        "CALL esc5()",
        "INSERT INTO totals VALUES (9, 9)",
        "CALL dot1()",
        "CALL dot2()",
        "CALL sweeps()",
    ] {
        Refused::to_confirm(&mut wire, statement);
        assert_eq!((database.count("logs"), database.count("swept")), (500, 500), "{statement}");
    }
}

/// An account that is shown a part of what there is: what lies behind is tried, and held to what it did.
fn code_behind_rights(server: &'static MyServer) {
    let (database, sluice) = with_code(server);
    let (name, beside) = (&database.name, format!("{}_beside", database.name));
    let mut root = database.connect_as(ROOT);
    for statement in [
        format!("CREATE DATABASE {beside}"),
        format!(
            "CREATE FUNCTION {beside}.f() RETURNS int MODIFIES SQL DATA SQL SECURITY DEFINER BEGIN DELETE FROM {name}.logs; RETURN 1; END"
        ),
        format!("CREATE SQL SECURITY DEFINER VIEW {beside}.v AS SELECT {beside}.f() AS a"),
        format!("CREATE TABLE {beside}.o (id int)"),
        format!("CREATE TRIGGER {beside}.oo BEFORE INSERT ON {beside}.o FOR EACH ROW DELETE FROM {name}.logs"),
        format!("CREATE SQL SECURITY DEFINER VIEW {name}.v1 AS SELECT {beside}.f() AS a"),
        format!("CREATE SQL SECURITY DEFINER VIEW {name}.v2 AS SELECT * FROM {beside}.v"),
        format!("CREATE SQL SECURITY DEFINER VIEW {name}.v3 AS SELECT * FROM {beside}.o"),
        format!("CREATE TABLE {name}.boxed (note text)"),
        format!("CREATE TRIGGER {name}.behind BEFORE INSERT ON {name}.boxed FOR EACH ROW SET @n = {beside}.f()"),
        "DROP USER IF EXISTS shown_little@'%'".to_owned(),
        "CREATE USER shown_little@'%'".to_owned(),
        "DROP USER IF EXISTS inserts@'%'".to_owned(),
        "CREATE USER inserts@'%'".to_owned(),
        format!("GRANT ALL ON {name}.* TO shown_little@'%'"),
        format!("GRANT SELECT, INSERT ON {name}.* TO inserts@'%'"),
        "GRANT PROCESS ON *.* TO shown_little@'%', inserts@'%'".to_owned(),
    ] {
        root.query(&statement).expect_fine(&statement);
    }
    let login = |user: &str| {
        let login = crate::harness::mysql::login::Login::of(user);
        MyWire::login(&sluice.address, &login.on(name))
    };
    let mut narrow = login("shown_little");
    for statement in
        ["SELECT * FROM v1", "SELECT * FROM v2", "INSERT INTO v3 VALUES (1)", "INSERT INTO boxed VALUES ('x')"]
    {
        let refused = Refused::to_confirm(&mut narrow, statement);
        assert!(refused.message.contains("tried, and rolled back"), "{statement}: {refused:?}");
        assert_eq!(database.count("logs"), 500, "{statement}");
    }
    // Without the right TRIGGER, MySQL shows nothing of a trigger.
    let mut inserts = login("inserts");
    Refused::to_confirm(&mut inserts, "INSERT INTO inbox VALUES (1)");
    assert_eq!(database.count("logs"), 500);
    assert_eq!(inserts.query("INSERT INTO totals VALUES (7, 7)").end().affected, 1);
    root.query(&format!("DROP DATABASE {beside}")).expect_fine("cleared away");
}

/// A row in the server's own tables can be an account with all rights: it is added by the statements made for it, which are asked about.
fn rows_that_are_accounts(server: &'static MyServer) {
    let (database, sluice) = with_code(server);
    database.run_as_root(
        "CREATE VIEW rights AS SELECT * FROM mysql.db; CREATE PROCEDURE admits() INSERT INTO mysql.db (Host, Db, User, Select_priv) VALUES ('%', 'x', 'nobody', 'Y'); \
         CREATE TRIGGER admitting AFTER INSERT ON totals FOR EACH ROW INSERT INTO mysql.db (Host, Db, User, Select_priv) VALUES ('%', 'y', 'nobody', 'Y')",
    );
    let values = "(Host, Db, User, Select_priv) VALUES ('%', 'x', 'nobody', 'Y')";
    let ways = [
        format!("INSERT INTO mysql.db {values}"),
        format!("INSERT INTO `mysql` . `db` {values}"),
        format!("INSERT mysql.db {values}"),
        format!("INSERT IGNORE INTO mysql.db {values}"),
        format!("REPLACE INTO mysql.db {values}"),
        "INSERT INTO mysql.db (Host, Db, User, Select_priv) SELECT '%', 'x', 'nobody', 'Y'".to_owned(),
        "LOAD DATA LOCAL INFILE 'rows' INTO TABLE mysql.db (Host, Db, User)".to_owned(),
        format!("INSERT INTO rights {values}"),
        "CALL admits()".to_owned(),
        "INSERT INTO totals VALUES (77, 0)".to_owned(),
        "RENAME TABLE mysql.db TO mysql.db2".to_owned(),
        "RENAME TABLE calmbox TO calm2, mysql.db TO mysql.db2".to_owned(),
        "ALTER TABLE mysql.db RENAME TO mysql.db2".to_owned(),
        "ALTER TABLE mysql.db RENAME mysql.db2".to_owned(),
        "ALTER TABLE calmbox RENAME TO mysql.calmbox".to_owned(),
    ];
    let untouched = |way: &str, outcome: &dyn std::fmt::Debug| {
        let rows = database.value("SELECT count(*) FROM mysql.db WHERE User = 'nobody'");
        let names = database.value("SELECT count(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'mysql' AND TABLE_NAME IN ('db', 'db2', 'calmbox')");
        assert_eq!((rows.as_str(), names.as_str()), ("0", "1"), "{way}: {outcome:?}");
    };
    for way in &ways {
        let mut wire = sluice.my_connect_as(ROOT, &database);
        let outcome = wire.query(way);
        assert!((50001..=50007).contains(&outcome.code()), "{way}: {outcome:?}");
        untouched(way, &outcome);
        let outcome = wire.command(&packet::prepare(way));
        if outcome.error().is_none() {
            let outcome = wire.command(&execute(outcome.prepared(), 0, &[]));
            untouched(way, &outcome);
        }
        wire.query(&format!("PREPARE s FROM {}", quoted(way)));
        let outcome = wire.query("EXECUTE s");
        untouched(way, &outcome);
    }
    let mut wire = sluice.my_connect_as(ROOT, &database);
    wire.query("USE mysql").expect_fine("its own tables");
    for way in [format!("INSERT INTO db {values}"), "RENAME TABLE db TO db2".to_owned()] {
        let outcome = wire.query(&way);
        assert!((50001..=50007).contains(&outcome.code()), "{way}: {outcome:?}");
        untouched(&way, &outcome);
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// In the letters of the session's answers two names may be one: a token of one database does not run in the other.
fn databases_that_answers_do_not_tell_apart(server: &'static MyServer) {
    let (database, sluice) = with_code(server);
    let [one, other] = ["中", "文"].map(|letter| format!("{}{letter}", database.name));
    for name in [&one, &other] {
        database.run_as_root(&format!(
            "DROP DATABASE IF EXISTS `{name}`; CREATE DATABASE `{name}`; CREATE TABLE `{name}`.logs LIKE `{}`.logs; INSERT INTO `{name}`.logs SELECT * FROM `{}`.logs",
            database.name, database.name
        ));
    }
    let mut wire = sluice.my_connect_as(ROOT, &database);
    wire.query("SET session_track_schema = 0").expect_fine("nothing is told");
    wire.query("SET character_set_results = latin1").expect_fine("letters");
    wire.query(&format!("USE `{one}`")).expect_fine("one");
    let refused = Refused::to_confirm(&mut wire, "DELETE FROM logs");
    wire.query(&format!("USE `{other}`")).expect_fine("the other");
    let outcome = wire.query(&format!("SLUICE CONFIRM {}", refused.token()));
    for name in [&one, &other] {
        assert_eq!(database.value(&format!("SELECT count(*) FROM `{name}`.logs")), "500", "{outcome:?}");
        database.run_as_root(&format!("DROP DATABASE `{name}`"));
    }
}

/// A block is tried as a whole: what no rollback takes back is asked about beforehand, whatever stands round it.
fn blocks_of_statements(server: &'static MyServer) {
    if !server.is_mariadb() {
        return;
    }
    let (database, sluice) = with_code(server);
    database.run("CREATE TABLE careless (a int PRIMARY KEY) ENGINE=MyISAM; INSERT INTO careless SELECT id FROM logs; CREATE VIEW over_careless AS SELECT * FROM careless");
    let mut wire = sluice.my_connect_as(ROOT, &database);
    wire.query("SET @x = 1").expect_fine("a variable");
    let values = "(Host, Db, User, Select_priv) VALUES ('%', 'x', 'nobody', 'Y')";
    for way in [
        format!("BEGIN NOT ATOMIC INSERT INTO mysql.db {values}; END"),
        format!("IF 1 THEN INSERT INTO `mysql`.db {values}; END IF"),
        format!("BEGIN NOT ATOMIC REPLACE INTO mysql . db {values}; END"),
        "BEGIN NOT ATOMIC DELETE FROM careless; END".to_owned(),
        "BEGIN NOT ATOMIC DELETE FROM over_careless; END".to_owned(),
        "WHILE @x DO DELETE FROM careless; SET @x = 0; END WHILE".to_owned(),
        "BEGIN NOT ATOMIC DELETE FROM careless; SIGNAL SQLSTATE '45000'; END".to_owned(),
    ] {
        let outcome = wire.query(&way);
        assert!((50001..=50007).contains(&outcome.code()), "{way}: {outcome:?}");
        let rows =
            "SELECT (SELECT count(*) FROM mysql.db WHERE User = 'nobody') * 1000 + (SELECT count(*) FROM careless)";
        assert_eq!(database.value(rows), "500", "{way}");
    }
    wire.query("USE mysql").expect_fine("its own tables");
    let outcome = wire.query(&format!("BEGIN NOT ATOMIC INSERT INTO db {values}; END"));
    assert!((50001..=50007).contains(&outcome.code()), "{outcome:?}");
    assert_eq!(database.value("SELECT count(*) FROM mysql.db WHERE User = 'nobody'"), "0");
}

/// What a variable holds is part of what is confirmed, letter for letter and byte for byte.
fn values_of_variables(server: &'static MyServer) {
    let (database, sluice) = with_code(server);
    database.run("CREATE TABLE cats (id int AUTO_INCREMENT PRIMARY KEY, b varbinary(9), c varchar(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin);
                  INSERT INTO cats (b, c) SELECT x'FF01', 'ж' FROM logs a JOIN (SELECT 1 UNION SELECT 2 UNION SELECT 3) b; INSERT INTO cats (b, c) SELECT x'FF02', 'щ' FROM cats");
    for (first, second, statement) in [
        ("x'FF01'", "x'FF02'", "DELETE FROM cats WHERE b = ?"),
        ("_utf8mb4 x'D0B6'", "_utf8mb4 x'D189'", "DELETE FROM cats WHERE c = ?"),
    ] {
        for own in [false, true] {
            let mut wire = sluice.my_connect(&database);
            wire.query("SET NAMES latin1").expect_fine("letters");
            let text = match own {
                true => statement.replace('?', "@v"),
                false => {
                    wire.query(&format!("PREPARE s FROM '{statement}'")).expect_fine("a name");
                    "EXECUTE s USING @v".to_owned()
                }
            };
            wire.query(&format!("SET @v = {first}")).expect_fine("one");
            let outcome = wire.query(&text);
            if outcome.error().is_none() {
                // In its letters the server finds none.
                assert_eq!(database.count("cats"), 3000, "{text}: {outcome:?}");
                continue;
            }
            let refused = Refused::of(&mut wire, &outcome);
            wire.query(&format!("SET @v = {second}")).expect_fine("the other");
            let outcome = wire.query(&format!("SLUICE CONFIRM '{}'", refused.token()));
            assert_eq!(database.count("cats"), 3000, "{text}: {outcome:?}");
        }
    }
}
