//! Changes in batches, as PostgreSQL's stories tell them.
//!
//! Invariant: whether a table is what it was, is told by all its rows, asked of the server itself.

use crate::harness::chance::{self, Dialect};
use crate::harness::mysql::my_stories;
use crate::harness::mysql::packet::query;
use crate::harness::mysql::server::{MyDatabase, MyServer, ROOT};
use crate::harness::mysql::shop::Refused;
use crate::harness::mysql::wire::{MyWire, Outcome};
use crate::harness::sluice::{Setup, Sluice};

my_stories! {
    a_large_delete_goes_in_batches_and_comes_back, an_update_that_must_not_run_twice, bound_values, every_kind_of_key, what_changed_since_is_left,
    killed_in_mid_job, the_database_is_lost_in_mid_job, the_client_leaves_in_mid_job, paused_from_another_session, two_sessions_never_run_one_job,
    others_who_write_meanwhile_lose_nothing, without_an_archive_nothing_changes, in_a_transaction_it_runs_whole, what_runs_whole, the_clock_stands_still,
    killed_again_and_again, the_session_is_as_it_was, a_careful_client, the_table_is_changed_meanwhile, letters_of_another_charset, rows_that_cannot_come_back, by_chance,
    how_fast_it_may_go, archives_past_their_retention, what_the_server_refuses_itself, dates_that_are_none, what_stamps_rows_stands_still, rows_in_one_anothers_way,
    rows_changed_between_two_undos, an_archive_that_somebody_reads, moments_that_are_written_alike, a_temporary_table_in_its_place, another_table_of_its_name, another_reading_of_the_text, an_archive_that_was_emptied,
    letters_that_utf8_does_not_tell_apart, settings_of_its_own, keys_that_move_by_themselves,
}

const ROWS: &str = "SELECT 1 + a.d + 10 * b.d + 100 * c.d + 1000 * e.d AS i FROM ten a, ten b, ten c, ten e";
pub const TEN: &str =
    "CREATE TABLE ten (d int); INSERT INTO ten VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)";

/// 5,000 rows with every sort of column that is not simply written.
fn things() -> String {
    format!(
        "{TEN}; CREATE TABLE things (
            id int PRIMARY KEY, n int NOT NULL DEFAULT 0, kind varchar(10), twice int AS (n * 2) STORED, later int AS (n * 3) VIRTUAL,
            at datetime(3) NOT NULL DEFAULT '2026-01-01' ON UPDATE CURRENT_TIMESTAMP(3), doc json, `Odd ``name` decimal(12,4), bits bit(5),
            bytes varbinary(20), e enum('a', 'b') NOT NULL, s set('x', 'y'), p point, f float, ts timestamp NULL, big text);
         INSERT INTO things (id, n, kind, doc, `Odd ``name`, bits, bytes, e, s, p, f, ts, big)
            SELECT i, i % 7, IF(i % 5 < 4, 'old', 'new'), json_object('i', i), i / 3, i % 32, unhex(left(sha2(i, 256), 32)), IF(i % 2, 'a', 'b'),
                   IF(i % 3, 'x,y', NULL), point(i, 1), i / 7, '2026-01-01 00:00:00', IF(i % 11, 'Ää', NULL) FROM ({ROWS}) r WHERE i <= 5000;
         ANALYZE TABLE things"
    )
}

/// Everything a table holds.
fn digest(database: &MyDatabase, table: &str) -> String {
    database.connect_as(ROOT).query(&format!("CHECKSUM TABLE {table} EXTENDED")).rows()[0][1]
        .clone()
        .expect("a checksum")
}

/// Its rows themselves: MariaDB's CHECKSUM TABLE is not the same for the same rows where some are NULL (seen on 10.11).
fn all(database: &MyDatabase, table: &str) -> Vec<Vec<Option<String>>> {
    let mut rows = database.connect_as(ROOT).query(&format!("SELECT HEX(t.k), t.* FROM {table} AS t")).rows();
    rows.sort();
    rows
}

pub fn gate(server: &'static MyServer, setup: &str) -> (MyDatabase, Sluice) {
    let database = server.database(setup);
    let sluice = Setup::before_mysql(server).start();
    (database, sluice)
}

pub fn offered(wire: &mut MyWire, statement: &str) -> String {
    let refused = Refused::to_confirm(wire, statement);
    assert!(
        refused.says("batches of up to 1,000 rows, each row archived first, so that it can be undone"),
        "{refused:?}"
    );
    refused.token()
}

pub fn confirm(wire: &mut MyWire, token: &str) -> Outcome {
    wire.query(&format!("SLUICE CONFIRM '{token}'"))
}

pub fn warnings(wire: &mut MyWire) -> String {
    wire.query("SHOW WARNINGS").rows().iter().filter_map(|row| row[2].clone()).collect::<Vec<_>>().join("\n")
}

/// The one job that there is.
pub fn only_job(wire: &mut MyWire) -> Vec<Option<String>> {
    let jobs = wire.query("SLUICE JOBS");
    assert_eq!(jobs.rows().len(), 1, "{jobs:#?}");
    jobs.rows().remove(0)
}

pub fn job(wire: &mut MyWire) -> String {
    wire.query("SLUICE JOBS").rows()[0][0].clone().expect("an id")
}

pub fn undone(wire: &mut MyWire, job: &str) -> Outcome {
    let token = Refused::to_confirm(wire, &format!("SLUICE UNDO '{job}'")).token();
    confirm(wire, &token)
}

/// Confirmed and done: its rows, and its id.
pub fn done(wire: &mut MyWire, statement: &str) -> (u64, String) {
    let token = offered(wire, statement);
    let outcome = confirm(wire, &token);
    assert!(outcome.error().is_none(), "{statement}: {outcome:#?}");
    (outcome.affected()[0], job(wire))
}

fn a_large_delete_goes_in_batches_and_comes_back(server: &'static MyServer) {
    let (database, sluice) = gate(server, &things());
    let mut wire = sluice.my_connect(&database);
    let before = digest(&database, "things");
    let token = offered(&mut wire, "DELETE FROM things WHERE kind = 'old' -- the old ones");
    let outcome = confirm(&mut wire, &token);
    assert_eq!(outcome.affected(), [4000], "{outcome:#?}");
    assert_eq!(outcome.end().warnings, 1);
    let told = warnings(&mut wire);
    assert!(told.contains("done, 4,000 rows in") && told.contains("undo with: SLUICE UNDO"), "{told}");
    assert_eq!(wire.query("SELECT ROW_COUNT()").value(), "-1", "behind SHOW WARNINGS");
    assert_eq!(database.value("SELECT count(*) FROM things"), "1000");
    let row = only_job(&mut wire);
    let cell = |at: usize| row[at].clone().unwrap_or_default();
    assert_eq!((cell(1).as_str(), cell(3).as_str()), ("done", "4000"), "{row:?}");
    let undo = undone(&mut wire, &cell(0));
    assert_eq!(undo.affected(), [4000], "{undo:#?}");
    assert_eq!(digest(&database, "things"), before);
    let again = Refused::any(&mut wire, &format!("SLUICE UNDO '{}'", cell(0)));
    assert!(again.message.contains("put back already"), "{again:?}");
    assert_eq!(sluice.verify_record().code, Some(0));
}

fn an_update_that_must_not_run_twice(server: &'static MyServer) {
    let (database, sluice) = gate(server, &things());
    let mut wire = sluice.my_connect(&database);
    let before = digest(&database, "things");
    let (rows, id) = done(&mut wire, "UPDATE things AS x SET x.n = x.n + 1, kind = upper(x.kind) WHERE x.id > 300");
    assert_eq!(rows, 4700);
    assert_eq!(
        database.value("SELECT count(*) FROM things WHERE n = id % 7 + (id > 300) AND (BINARY kind = BINARY upper(kind)) = (id > 300)"),
        "5000"
    );
    let undo = undone(&mut wire, &id);
    assert_eq!(undo.affected(), [4700], "{undo:#?}");
    assert_eq!(digest(&database, "things"), before, "also what changes by itself on an update");
    // Rows that are found and stay what they are count as the client's own statement counts them.
    let token = offered(&mut wire, "UPDATE things SET n = 3");
    let outcome = confirm(&mut wire, &token);
    assert_eq!(outcome.affected(), [5000 - 714], "{outcome:#?}");
}

/// What a driver binds stands in every batch.
fn bound_values(server: &'static MyServer) {
    let (database, sluice) = gate(server, &things());
    let before = digest(&database, "things");
    let mut wire = sluice.my_connect(&database);
    let statement = "UPDATE things SET kind = ?, n = n-? WHERE id > ? AND kind <> 'a ?' -- ?";
    let values = ["it's \\ ?", "-3", "100"];
    let outcome = wire.prepared(statement, &values);
    let refused = Refused::of(&mut wire, &outcome);
    let outcome = confirm(&mut wire, &refused.token());
    assert_eq!(outcome.affected(), [4900], "{outcome:#?}");
    let changed = "SELECT count(*) FROM things WHERE kind = 'it''s \\\\ ?' AND n = id % 7 + 3 AND id > 100";
    assert_eq!(database.value(changed), "4900");
    let id = job(&mut wire);
    undone(&mut wire, &id).expect_fine("put back");
    assert_eq!(digest(&database, "things"), before);
    // By a hint, as a script sends it.
    let outcome = wire.prepared(statement, &values);
    let refused = Refused::of(&mut wire, &outcome);
    let outcome = wire.prepared(&format!("{statement} \n/* sluice: confirm={} */", refused.token()), &values);
    assert_eq!(outcome.affected(), [4900], "{outcome:#?}");
    assert!(warnings(&mut wire).contains("undo with: SLUICE UNDO"));
    let id = job(&mut wire);
    undone(&mut wire, &id).expect_fine("put back");
    assert_eq!(digest(&database, "things"), before);
    let token = offered(&mut wire, "DELETE FROM things WHERE kind = 'old'");
    wire.query(&format!("SET @sluice_confirm = '{token}'")).expect_fine("a setting");
    let outcome = wire.query("DELETE FROM things WHERE kind = 'old'");
    assert_eq!(outcome.affected(), [4000], "{outcome:#?}");
    assert!(warnings(&mut wire).contains("undo with: SLUICE UNDO"));
}

fn every_kind_of_key(server: &'static MyServer) {
    for (at, (kinds, keys)) in [
        ("k bigint", "i * 1000000007"),
        ("k bigint unsigned", "18446744073709551615 - i"),
        ("k smallint", "i - 1500"),
        ("k decimal(20,3)", "(i - 1500) / 3.0"),
        ("k varchar(40) CHARACTER SET utf8mb4", "concat('it''s \\\\ ', i, IF(i % 2, 'é', 'E'))"),
        ("k varchar(40) CHARACTER SET latin1", "concat('ä', i)"),
        ("k char(12) CHARACTER SET ascii", "concat('c', i)"),
        ("k binary(16)", "unhex(left(sha2(i, 256), 32))"),
        ("k date", "'2026-01-01' - INTERVAL i DAY"),
        ("k datetime(6)", "'1999-12-31 23:59:59.123456' + INTERVAL i HOUR"),
        ("a tinyint, `B b` int", "i % 2, i DIV 2"),
        ("a varchar(5), b date, c int", "IF(i < 1500, 'x', 'y'), '2026-01-01' + INTERVAL i % 30 DAY, i"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = |column: &str| match column.strip_prefix('`') {
            Some(rest) => format!("`{}`", rest.split('`').next().expect("a quote")),
            None => column.split(' ').next().expect("a name").to_owned(),
        };
        let names: Vec<String> = kinds.split(", ").map(name).collect();
        let setup = format!(
            "{TEN}; CREATE TABLE keyed{at} (v int, {kinds}, PRIMARY KEY ({key})); INSERT INTO keyed{at} SELECT i, {keys} FROM ({ROWS}) r WHERE i <= 3000; ANALYZE TABLE keyed{at}",
            key = names.join(", ")
        );
        let (database, sluice) = gate(server, &setup);
        let mut wire = sluice.my_connect(&database);
        let table = format!("keyed{at}");
        let before = digest(&database, &table);
        for (statement, rows) in [
            (format!("DELETE FROM {table} WHERE v % 3 > 0"), 2000),
            (format!("UPDATE {table} SET v = v + 10000 WHERE v > 100"), 2900),
        ] {
            let (changed, id) = done(&mut wire, &statement);
            assert_eq!(changed, rows, "{kinds}");
            let undo = undone(&mut wire, &id);
            assert_eq!(undo.affected(), [rows], "{kinds}: {undo:#?}");
            assert_eq!(digest(&database, &table), before, "{kinds}: {statement}");
        }
    }
}

fn what_changed_since_is_left(server: &'static MyServer) {
    let (database, sluice) = gate(server, &format!("{}; ALTER TABLE things ADD UNIQUE (bytes)", things()));
    let mut wire = sluice.my_connect(&database);
    let (_, updated) = done(&mut wire, "UPDATE things SET n = n + 100");
    database.run("UPDATE things SET kind = upper(kind) WHERE id IN (7, 8)");
    database.run("DELETE FROM things WHERE id = 9");
    let undo = undone(&mut wire, &updated);
    assert_eq!(undo.affected(), [4997], "{undo:#?}");
    let told = warnings(&mut wire);
    assert!(told.contains("3 rows were left as they are") && told.contains("id 7; 8; 9"), "{told}");
    assert_eq!(database.value("SELECT count(*) FROM things WHERE n >= 100 AND id IN (7, 8)"), "2");
    let (_, deleted) = done(&mut wire, "DELETE FROM things WHERE id <= 3000");
    database.run("INSERT INTO things (id, n, kind, e) VALUES (11, 1, 'taken', 'a')");
    database.run(
        "INSERT INTO things (id, n, kind, e, bytes) VALUES (9999, 1, 'theirs', 'a', unhex(left(sha2(12, 256), 32)))",
    );
    let undo = undone(&mut wire, &deleted);
    assert_eq!(undo.affected(), [2997], "{undo:#?}");
    assert_eq!(database.value("SELECT kind FROM things WHERE id = 11"), "taken");
    // The keys are free again: the same undo finishes.
    database.run("DELETE FROM things WHERE id IN (11, 9999)");
    assert_eq!(undone(&mut wire, &deleted).affected(), [2]);
}

/// A job that has done its first batches and waits for a row that somebody holds.
fn stuck(server: &'static MyServer) -> (MyDatabase, Sluice, MyWire, MyWire) {
    stuck_beside(server, "")
}

fn stuck_beside(server: &'static MyServer, more: &str) -> (MyDatabase, Sluice, MyWire, MyWire) {
    let (database, sluice) = gate(server, &format!("{}{more}", things()));
    let mut holder = database.connect();
    holder.query("BEGIN").expect_fine("a transaction");
    holder.query("SELECT id FROM things WHERE id = 3000 FOR UPDATE").expect_fine("a row held");
    let mut wire = sluice.my_connect(&database);
    let token = offered(&mut wire, "UPDATE things SET n = n + 1");
    wire.start(&query(&format!("SLUICE CONFIRM '{token}'")));
    wait_for_the_row(&database);
    (database, sluice, wire, holder)
}

fn waiting(database: &MyDatabase) -> String {
    format!(
        "FROM information_schema.INNODB_TRX WHERE trx_state = 'LOCK WAIT' AND trx_query LIKE '%{}%_archive_%'",
        database.name
    )
}

fn wait_for_the_row(database: &MyDatabase) {
    database.wait_until(&format!("SELECT count(*) {}", waiting(database)));
}

fn partly_done(database: &MyDatabase) {
    let done: u64 = database.value("SELECT count(*) FROM things WHERE n = id % 7 + 1").parse().expect("a number");
    assert!(done > 0 && done < 3000, "batches before the row that is held, and none behind it: {done}");
}

/// Each row was changed exactly once, and comes back.
fn finish(database: &MyDatabase, wire: &mut MyWire) {
    let id = job(wire);
    let outcome = wire.query(&format!("SLUICE RESUME '{id}'"));
    assert_eq!(outcome.affected(), [5000], "{outcome:#?}");
    assert_eq!(database.value("SELECT count(*) FROM things WHERE n = id % 7 + 1"), "5000");
    assert_eq!(undone(wire, &id).affected(), [5000]);
    assert_eq!(database.value("SELECT count(*) FROM things WHERE n = id % 7 AND at = '2026-01-01'"), "5000");
}

fn killed_in_mid_job(server: &'static MyServer) {
    let (database, sluice, wire, mut holder) = stuck(server);
    let sluice = sluice.crash_and_restart();
    drop(wire);
    holder.query("ROLLBACK").expect_fine("the row is let go");
    let mut wire = sluice.my_connect(&database);
    partly_done(&database);
    finish(&database, &mut wire);
}

fn the_database_is_lost_in_mid_job(server: &'static MyServer) {
    let (database, sluice, mut wire, mut holder) = stuck(server);
    let thread = database.value(&format!("SELECT trx_mysql_thread_id {}", waiting(&database)));
    database.run_as_root(&format!("KILL {thread}"));
    wire.message();
    assert!(wire.is_closed());
    holder.query("ROLLBACK").expect_fine("the row is let go");
    partly_done(&database);
    finish(&database, &mut sluice.my_connect(&database));
}

fn the_client_leaves_in_mid_job(server: &'static MyServer) {
    let (database, sluice, wire, mut holder) = stuck(server);
    drop(wire);
    holder.query("ROLLBACK").expect_fine("the row is let go");
    let mut wire = sluice.my_connect(&database);
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    loop {
        let row = only_job(&mut wire);
        if row[1].as_deref() == Some("paused") {
            assert_eq!(row[6].as_deref(), Some("its client has left"), "{row:?}");
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{row:?}");
        std::thread::yield_now();
    }
    finish(&database, &mut wire);
}

fn paused_from_another_session(server: &'static MyServer) {
    let (database, sluice, mut wire, mut holder) = stuck(server);
    let mut other = sluice.my_connect(&database);
    let id = job(&mut other);
    let refused = Refused::any(&mut other, &format!("SLUICE UNDO '{id}'"));
    assert!(refused.message.contains("is being carried out"), "{refused:?}");
    for _ in 0..2 {
        other.query(&format!("SLUICE PAUSE '{id}'")).expect_fine("asked for");
        let paused = wire.answer_to(3);
        assert_eq!(paused.code(), 50006, "{paused:?}");
        assert_eq!(only_job(&mut other)[1].as_deref(), Some("paused"));
        wire.start(&query(&format!("SLUICE RESUME '{id}'")));
        wait_for_the_row(&database);
    }
    other.query(&format!("SLUICE PAUSE '{id}'")).expect_fine("asked for");
    wire.answer_to(3);
    holder.query("ROLLBACK").expect_fine("the row is let go");
    finish(&database, &mut other);
}

fn two_sessions_never_run_one_job(server: &'static MyServer) {
    let (database, sluice, mut wire, mut holder) = stuck(server);
    let mut other = sluice.my_connect(&database);
    let id = job(&mut other);
    let refused = Refused::any(&mut other, &format!("SLUICE RESUME '{id}'"));
    assert!(refused.message.contains("another session is carrying it out"), "{refused:?}");
    holder.query("ROLLBACK").expect_fine("the row is let go");
    let outcome = wire.answer_to(3);
    assert_eq!(outcome.affected(), [5000], "{outcome:#?}");
    assert_eq!(database.value("SELECT count(*) FROM things WHERE n = id % 7 + 1"), "5000");
}

fn others_who_write_meanwhile_lose_nothing(server: &'static MyServer) {
    let (database, sluice) = gate(server, &things());
    let mut wire = sluice.my_connect(&database);
    let token = offered(&mut wire, "UPDATE things SET n = n + 1000");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let writes = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut wire = database.connect();
            let mut writes = 0u64;
            while !stop.load(std::sync::atomic::Ordering::Acquire) {
                let id = writes * 7919 % 5000 + 1;
                writes +=
                    u64::from(wire.query(&format!("UPDATE things SET n = n + 1 WHERE id = {id}")).error().is_none());
            }
            writes
        });
        let outcome = confirm(&mut wire, &token);
        stop.store(true, std::sync::atomic::Ordering::Release);
        assert_eq!(outcome.affected(), [5000], "{outcome:#?}");
        writer.join().expect("the writer")
    });
    assert_eq!(database.value(&format!("SELECT sum(n - id % 7) = 5000 * 1000 + {writes} FROM things")), "1");
    assert_eq!(database.value("SELECT count(*) FROM things WHERE n < 1000"), "0");
}

fn without_an_archive_nothing_changes(server: &'static MyServer) {
    let (database, sluice) = gate(server, &things());
    let user = format!("meek{}", database.name.replace(|c: char| !c.is_ascii_alphanumeric(), ""));
    let user = &user[..user.len().min(30)];
    database.run_as_root(&format!(
        "CREATE USER '{user}'@'%' IDENTIFIED BY 'meek'; GRANT SELECT, DELETE, TRIGGER ON {}.* TO '{user}'@'%'",
        database.name
    ));
    let before = digest(&database, "things");
    let login = crate::harness::mysql::login::Login::of(user).with_password("meek").on(&database.name);
    let mut wire = MyWire::login(&sluice.address, &login);
    let refused = Refused::to_confirm(&mut wire, "DELETE FROM things WHERE kind = 'old'");
    assert!(refused.says("not in batches: this user may not make an archive in"), "{refused:?}");
    assert_eq!(digest(&database, "things"), before);
    assert_eq!(confirm(&mut wire, &refused.token()).affected(), [4000]);
    assert_eq!(wire.query("SELECT 'and on'").value(), "and on");
    database.run_as_root(&format!("DROP USER '{user}'@'%'"));
}

fn in_a_transaction_it_runs_whole(server: &'static MyServer) {
    let (database, sluice) = gate(server, &things());
    let mut wire = sluice.my_connect(&database);
    for begin in ["BEGIN", "SET autocommit = 0"] {
        let token = offered(&mut wire, "DELETE FROM things WHERE kind = 'old'");
        wire.query(begin).expect_fine(begin);
        let outcome = confirm(&mut wire, &token);
        assert_eq!(outcome.affected(), [4000], "{outcome:#?}");
        assert!(warnings(&mut wire).contains("it runs whole here, without an archive"), "{begin}");
        wire.query("ROLLBACK").expect_fine("as the client wants it");
        assert_eq!(database.value("SELECT count(*) FROM things"), "5000");
    }
    assert!(wire.query("SLUICE JOBS").rows().is_empty());
}

/// What could mean something else in another batch, or does more than its rows tell.
fn what_runs_whole(server: &'static MyServer) {
    let setup = format!(
        "{}; CREATE TABLE tree (id int PRIMARY KEY, up int, FOREIGN KEY (up) REFERENCES tree (id)); INSERT INTO tree SELECT id, NULL FROM things;
         CREATE TABLE watched (id int PRIMARY KEY); INSERT INTO watched SELECT id FROM things; CREATE TABLE seen (id int);
         CREATE TRIGGER sees AFTER DELETE ON watched FOR EACH ROW INSERT INTO seen VALUES (OLD.id);
         CREATE TABLE keyless (id int); INSERT INTO keyless SELECT id FROM things; CREATE TABLE floats (id float PRIMARY KEY); INSERT INTO floats SELECT id FROM things;
         ANALYZE TABLE tree, watched, keyless, floats",
        things()
    );
    let (database, sluice) = gate(server, &setup);
    let mut wire = sluice.my_connect(&database);
    wire.query("SET @a = 5").expect_fine("a variable");
    for (statement, why) in [
        ("UPDATE things SET n = @a", "it reads variables"),
        ("UPDATE things SET n = RAND() * 10 WHERE id > 0", "rand() may give something else"),
        ("UPDATE things SET n = DEFAULT WHERE id > 0", "a DEFAULT"),
        ("UPDATE IGNORE things SET n = 1 WHERE id > 0", "modifier"),
        ("DELETE things FROM things JOIN tree USING (id)", "other tables"),
        ("DELETE FROM things WHERE id > 1 ORDER BY id LIMIT 2000", "LIMIT"),
        ("UPDATE things SET id = id + 100000", "by which the rows would be walked"),
        ("DELETE FROM tree WHERE id > 0", "refer to one another"),
        ("DELETE FROM watched WHERE id > 0", "trigger"),
        ("DELETE FROM keyless WHERE id > 0", "no unique key"),
        ("DELETE FROM floats WHERE id > 0", "no unique key"),
    ] {
        let refused = Refused::to_confirm(&mut wire, statement);
        assert!(refused.says("not in batches: ") && refused.says(why), "{statement}: {refused:?}");
    }
}

fn the_clock_stands_still(server: &'static MyServer) {
    let (database, sluice) = gate(server, &things());
    let mut wire = sluice.my_connect(&database);
    let (rows, _) = done(&mut wire, "UPDATE things SET at = NOW(3) WHERE at < NOW() - INTERVAL 1 DAY");
    assert_eq!(rows, 5000);
    assert_eq!(database.value("SELECT count(DISTINCT at) FROM things"), "1");
    assert_eq!(database.value("SELECT ABS(TIMESTAMPDIFF(SECOND, MAX(at), NOW())) < 60 FROM things"), "1");
    let first = wire.query("SELECT NOW(6)").value();
    assert_ne!(wire.query("SELECT NOW(6)").value(), first, "and goes on afterwards");
}

/// Wherever it is killed, what is changed and what is archived are the same rows, each once.
fn killed_again_and_again(server: &'static MyServer) {
    let database = server.database(&things());
    let mut sluice = Setup::before_mysql(server).with("[limits]\nbatch_rows = 4").start();
    let mut wire = sluice.my_connect(&database);
    let before = digest(&database, "things");
    let refused = Refused::to_confirm(&mut wire, "UPDATE things SET n = n + 1");
    wire.start(&query(&format!("SLUICE CONFIRM '{}'", refused.token())));
    let named = format!(
        "FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{}' AND TABLE_NAME LIKE '\\_archive\\_%'",
        database.name
    );
    database.wait_until(&format!("SELECT count(*) {named}"));
    let archive = database.value(&format!("SELECT TABLE_NAME {named}"));
    for rows in [1, 700, 1500, 2800, 4400] {
        database.wait_until(&format!("SELECT count(*) >= {rows} FROM {archive}"));
        sluice = sluice.crash_and_restart();
        wire.is_closed();
        // What was sent last may still be carried out: its session ends with the lock.
        wire = sluice.my_connect(&database);
        let id = job(&mut wire);
        let free = format!("SELECT IS_FREE_LOCK('sluice_{id}')");
        database.wait_until(&free);
        let changed = format!("SELECT count(*) = (SELECT count(*) FROM {archive}) FROM things WHERE n = id % 7 + 1");
        assert_eq!(database.value(&changed), "1", "after {rows}");
        assert_eq!(
            database.value("SELECT count(*) FROM things WHERE n NOT IN (id % 7, id % 7 + 1)"),
            "0",
            "after {rows}"
        );
        wire.start(&query(&format!("SLUICE RESUME '{id}'")));
    }
    let outcome = wire.answer_to(3);
    assert_eq!(outcome.affected(), [5000], "{outcome:#?}");
    assert_eq!(database.value("SELECT count(*) FROM things WHERE n = id % 7 + 1"), "5000");
    let id = job(&mut wire);
    assert_eq!(undone(&mut wire, &id).affected(), [5000]);
    assert_eq!(digest(&database, "things"), before);
    assert_eq!(sluice.verify_record().code, Some(0));
}

fn the_session_is_as_it_was(server: &'static MyServer) {
    let (database, sluice) = gate(server, &things());
    let mut wire = sluice.my_connect(&database);
    wire.query("SET SESSION innodb_lock_wait_timeout = 37, timestamp = 1700000000.5").expect_fine("its own");
    let asked = "SELECT concat_ws(' ', @@sql_safe_updates, @@sql_big_selects, @@innodb_lock_wait_timeout, @@timestamp, NOW(6), @@autocommit)";
    let before = wire.query(asked).value();
    wire.query("SELECT SQL_CALC_FOUND_ROWS id FROM things LIMIT 2").expect_fine("5,000");
    let (_, id) = done(&mut wire, "UPDATE things SET n = n + 1 WHERE at < NOW() + INTERVAL 20 YEAR");
    assert_eq!(wire.query("SELECT FOUND_ROWS()").value(), "5000", "nothing of ours");
    assert_eq!(wire.query(asked).value(), before);
    assert!(undone(&mut wire, &id).error().is_none());
    assert_eq!(wire.query(asked).value(), before);
    let isolation = server.either("SELECT @@tx_isolation", "SELECT @@transaction_isolation");
    assert_eq!(wire.query(isolation).value(), "REPEATABLE-READ");
}

/// `mysql --safe-updates`
fn a_careful_client(server: &'static MyServer) {
    let (database, sluice) = gate(server, &things());
    let mut wire = sluice.my_connect(&database);
    wire.query("SET sql_safe_updates = 1, sql_select_limit = 1000, max_join_size = 1000000").expect_fine("careful");
    let before = digest(&database, "things");
    for statement in ["DELETE FROM things WHERE id > 1000", "UPDATE things SET n = n + 1 WHERE id > 1000"] {
        let (rows, id) = done(&mut wire, statement);
        assert_eq!(rows, 4000, "{statement}");
        let undo = undone(&mut wire, &id);
        assert_eq!(undo.affected(), [4000], "{statement}: {undo:#?}");
        assert_eq!(digest(&database, "things"), before, "{statement}");
    }
}

/// Between two batches: the one that waits gives up after a while, and is tried again.
fn the_table_is_changed_meanwhile(server: &'static MyServer) {
    for (before, change, undo) in [
        ("", "ALTER TABLE things ADD extra int DEFAULT 5", true),
        (
            "; CREATE TABLE kids (up int, CONSTRAINT up_there FOREIGN KEY (up) REFERENCES things (id))",
            "ALTER TABLE kids DROP FOREIGN KEY up_there, ADD CONSTRAINT up_again FOREIGN KEY (up) REFERENCES things (id) ON DELETE CASCADE",
            true,
        ),
        (
            "",
            "CREATE TABLE kids (up int, CONSTRAINT up_there FOREIGN KEY (up) REFERENCES things (id) ON DELETE CASCADE)",
            true,
        ),
        ("", "CREATE TRIGGER acts BEFORE UPDATE ON things FOR EACH ROW SET NEW.kind = 'acted'", false),
    ] {
        let (database, sluice, mut wire, mut holder) = stuck_beside(server, before);
        let mut other = database.connect_as(ROOT);
        let thread = other.query("SELECT CONNECTION_ID()").value();
        other.start(&query(change));
        // It waits for the job's batch, or was let in at once.
        database.wait_until(&format!(
            "SELECT count(*) FROM information_schema.PROCESSLIST WHERE ID = {thread} AND (STATE LIKE 'Waiting%' OR STATE LIKE 'creating%' OR COMMAND = 'Sleep')"
        ));
        holder.query("ROLLBACK").expect_fine("the row is let go");
        let outcome = wire.answer_to(3);
        assert!(other.answer_to(3).error().is_none(), "{change}");
        let refused = Refused::of(&mut wire, &outcome);
        assert!(
            refused.code == 50006 && refused.message.contains("is not what it was when the job began"),
            "{change}: {refused:?}"
        );
        let mut fresh = sluice.my_connect(&database);
        let id = job(&mut fresh);
        let refused = Refused::any(&mut fresh, &format!("SLUICE RESUME '{id}'"));
        assert!(refused.message.contains("is not what it was when the job was confirmed"), "{change}: {refused:?}");
        let done: u64 = database.value("SELECT count(*) FROM things WHERE n = id % 7 + 1").parse().expect("a number");
        assert!(done > 0 && done < 5000, "{change}: {done}");
        if undo {
            let undo = undone(&mut fresh, &id);
            assert!(undo.error().is_none(), "{change}: {undo:#?}");
            assert_eq!(database.value("SELECT count(*) FROM things WHERE n = id % 7"), "5000", "{change}");
        }
    }
}

/// The client's words stand in its own character set, and keys come in another.
fn letters_of_another_charset(server: &'static MyServer) {
    let setup = format!(
        "{TEN}; CREATE TABLE words (k varchar(20) CHARACTER SET utf8mb4 PRIMARY KEY, `größe` int); INSERT INTO words SELECT concat('模ä', i), 0 FROM ({ROWS}) r WHERE i <= 3000; ANALYZE TABLE words"
    );
    let (database, sluice) = gate(server, &setup);
    let mut wire = sluice.my_connect(&database);
    let before = digest(&database, "words");
    for charset in ["latin1", "utf8mb4"] {
        wire.query(&format!("SET NAMES {charset}")).expect_fine(charset);
        let text = "UPDATE words SET `größe` = `größe` + 1 WHERE k LIKE '%ä%' OR k <> 'ö'";
        let sent = if charset == "latin1" {
            text.chars().map(|c| u8::try_from(u32::from(c)).expect("latin")).collect()
        } else {
            text.as_bytes().to_vec()
        };
        let outcome = wire.command(&[&[3u8][..], &sent].concat());
        let refused = Refused::of(&mut wire, &outcome);
        let outcome = confirm(&mut wire, &refused.token());
        assert_eq!(outcome.affected(), [3000], "{charset}: {outcome:#?}");
        let id = job(&mut wire);
        assert_eq!(undone(&mut wire, &id).affected(), [3000], "{charset}");
        assert_eq!(digest(&database, "words"), before, "{charset}");
    }
}

/// What keeps one row from coming back keeps no other.
fn rows_that_cannot_come_back(server: &'static MyServer) {
    let setup = format!(
        "{TEN}; CREATE TABLE parents (id int PRIMARY KEY); INSERT INTO parents SELECT a.d + 10 * b.d + 1 FROM ten a, ten b;
         CREATE TABLE kids (id int PRIMARY KEY, u int UNIQUE, up int, n int DEFAULT 0, CONSTRAINT has_parent FOREIGN KEY (up) REFERENCES parents (id));
         INSERT INTO kids SELECT i, i, i % 100 + 1, 0 FROM ({ROWS}) r WHERE i <= 4000; ANALYZE TABLE kids"
    );
    let (database, sluice) = gate(server, &setup);
    let mut wire = sluice.my_connect(&database);
    let token = Refused::to_confirm(&mut wire, "UPDATE kids SET u = u + 100000").token();
    assert_eq!(confirm(&mut wire, &token).affected(), [4000]);
    let updated = job(&mut wire);
    database.run("INSERT INTO kids VALUES (9001, 77, 1, 0), (9002, 3999, 1, 0)");
    assert_eq!(undone(&mut wire, &updated).affected(), [3998]);
    assert!(warnings(&mut wire).contains("id 77; 3999"));
    let (_, deleted) = done(&mut wire, "DELETE FROM kids WHERE id BETWEEN 100 AND 3900");
    database.run("DELETE FROM kids WHERE up = 5; DELETE FROM parents WHERE id = 5");
    assert_eq!(undone(&mut wire, &deleted).affected(), [3763]);
    database.run("INSERT INTO parents VALUES (5)");
    assert_eq!(undone(&mut wire, &deleted).affected(), [38]);
}

/// Whatever the table and the change: in batches it does what it does alone, and what is undone never was.
fn by_chance(server: &'static MyServer) {
    const DIALECT: Dialect = Dialect {
        keys: &[
            ("int", "$ * 3 - 50"),
            ("bigint", "$ * 1000003"),
            ("decimal(10,2)", "$ * 7 / 4"),
            ("varchar(20)", "concat(substr('aAzZ_ -', $ % 7 + 1, 1), $)"),
            ("date", "'2020-01-01' + INTERVAL $ DAY"),
            ("datetime(6)", "'2020-01-01' + INTERVAL $ * 977000001 MICROSECOND"),
            ("varbinary(32)", "unhex(sha2($, 256))"),
        ],
        moment: "datetime",
        float: "double",
    };
    let database = server.database("");
    let sluice = Setup::before_mysql(server).with("[limits]\nbatch_rows = 7\nfree_rows = 1").start();
    let mut wire = sluice.my_connect(&database);
    let mut jobs = 0;
    for seed in 0..25 {
        // A name is known to what looked at it before.
        let (gated, alone) = (format!("gated{seed}"), format!("alone{seed}"));
        let change = chance::change(seed, &DIALECT);
        for table in [&gated, &alone] {
            database.run(&format!("{}; {}; ANALYZE TABLE $t", change.create, change.fill).replace("$t", table));
        }
        let before = all(&database, &gated);
        let statement = change.statement.replace("$t", &gated);
        let outcome = wire.query(&statement);
        let expected = database.connect().query(&change.statement.replace("$t", &alone));
        if outcome.error().is_none() {
            continue;
        }
        let token = Refused::of(&mut wire, &outcome).token();
        let outcome = confirm(&mut wire, &token);
        assert!(outcome.error().is_none(), "{seed}: {statement}: {outcome:#?}");
        assert_eq!(outcome.affected(), expected.affected(), "{seed}: {statement}");
        assert_eq!(all(&database, &gated), all(&database, &alone), "{seed}: {statement}");
        // A batch or less is asked about as well, where it has no true condition, and runs whole.
        let jobs_now = wire.query("SLUICE JOBS").rows();
        let Some(id) = jobs_now.iter().find(|row| row[2].as_deref().is_some_and(|name| name.ends_with(&gated))) else {
            continue;
        };
        let undo = undone(&mut wire, &id[0].clone().expect("an id"));
        assert!(undo.error().is_none(), "{seed}: {statement}: {undo:#?}");
        assert_eq!(all(&database, &gated), before, "{seed}: {statement}");
        jobs += 1;
    }
    assert!(jobs > 10, "{jobs}");
}

fn how_fast_it_may_go(server: &'static MyServer) {
    let database = server.database(&things());
    let sluice = Setup::before_mysql(server).with("[jobs]\nrows_per_second = 100\n").start();
    let mut wire = sluice.my_connect(&database);
    let token = offered(&mut wire, "UPDATE things SET n = n + 1");
    let began = std::time::Instant::now();
    wire.start(&query(&format!("SLUICE CONFIRM '{token}'")));
    database.wait_until("SELECT count(*) >= 200 FROM things WHERE n = id % 7 + 1");
    assert!(began.elapsed().as_millis() > 1_000, "200 rows in {:?}", began.elapsed());
    let mut other = sluice.my_connect(&database);
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    let id = loop {
        let row = only_job(&mut other);
        if row[6].as_deref() == Some("waiting: it keeps to 100 rows/s") {
            break row[0].clone().expect("an id");
        }
        assert!(std::time::Instant::now() < deadline, "{row:?}");
    };
    other.query(&format!("SLUICE THROTTLE '{id}' OFF")).expect_fine("as fast as it can");
    let outcome = wire.answer_to(0x03);
    assert_eq!(outcome.affected(), [5000], "{outcome:#?}");
}

fn archives_past_their_retention(server: &'static MyServer) {
    let database = server.database(&things());
    let sluice = Setup::before_mysql(server).with("[jobs]\narchive_retention = \"1 s\"\n").start();
    let mut wire = sluice.my_connect(&database);
    let (_, first) = done(&mut wire, "UPDATE things SET n = n + 1");
    let now = database.value("SELECT now(6)");
    database.wait_until(&format!("SELECT now(6) > '{now}' + INTERVAL 1500000 MICROSECOND"));
    let (_, second) = done(&mut wire, "UPDATE things SET n = n - 1");
    assert!(warnings(&mut wire).contains(&format!("the archive of job {first} was dropped")));
    let archives = format!(
        "SELECT count(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{}' AND TABLE_NAME LIKE '\\_archive\\_%'",
        database.name
    );
    assert_eq!(database.value(&archives), "1", "that of the second");
    let listed = wire.query("SLUICE ARCHIVES").rows();
    let until = |job: &str| listed.iter().find(|row| row[2].as_deref() == Some(job)).and_then(|row| row[5].clone());
    assert!(until(&first).is_some_and(|until| until.starts_with("dropped 20")), "{listed:?}");
    assert!(until(&second).is_some_and(|until| until.starts_with("20")), "{listed:?}");
    let refused = Refused::any(&mut wire, &format!("SLUICE UNDO '{first}'"));
    assert!(refused.message.contains("was dropped, past its retention"), "{refused:?}");
}

/// An error of the first batch is the statement's own, and leaves no archive behind.
fn what_the_server_refuses_itself(server: &'static MyServer) {
    let setup = format!(
        "{}; CREATE TABLE kept (thing int, FOREIGN KEY (thing) REFERENCES things (id)); INSERT INTO kept VALUES (5)",
        things()
    );
    let (database, sluice) = gate(server, &setup);
    let mut wire = sluice.my_connect(&database);
    let token = offered(&mut wire, "DELETE FROM things WHERE kind = 'old' OR id = 5");
    let outcome = confirm(&mut wire, &token);
    assert_eq!(outcome.code(), 1451, "{outcome:#?}");
    assert_eq!(database.value("SELECT count(*) FROM things"), "5000");
    let archives = format!(
        "SELECT count(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{}' AND TABLE_NAME LIKE '\\_archive\\_%'",
        database.name
    );
    assert_eq!(database.value(&archives), "0");
    assert_eq!(only_job(&mut wire)[1].as_deref(), Some("cancelled"));
}

/// Dates that are none are archived as they are, and come back, whatever the session's mode makes of others.
fn dates_that_are_none(server: &'static MyServer) {
    let database = server.database(TEN);
    let sluice = Setup::before_mysql(server).start();
    let modes =
        ["NO_ZERO_IN_DATE", "NO_ZERO_DATE", "", "STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE", "TRADITIONAL"];
    for (at, mode) in modes.iter().enumerate() {
        for (nth, statement) in ["DELETE FROM $t WHERE a = 1", "UPDATE $t SET a = a + 1 WHERE a = 1"].iter().enumerate()
        {
            let name = format!("days_{at}_{nth}");
            let mut bare = database.connect_as(ROOT);
            bare.query("SET sql_mode = 'ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO'").expect_fine("a mode");
            bare.query(&format!("CREATE TABLE {name} (k int PRIMARY KEY AUTO_INCREMENT, a int, d date, e datetime)"))
                .expect_fine("a table");
            bare.query(&format!("INSERT INTO {name} SELECT i - 1, 1, ELT(i % 3 + 1, '2020-05-00', '2021-02-31', '0000-00-00'), '2021-02-31 10:00:00' FROM ({ROWS}) r WHERE i <= 1500"))
                .expect_fine("rows");
            let dates = format!("SELECT k, a, CAST(d AS CHAR), CAST(e AS CHAR) FROM {name} ORDER BY k");
            let before = bare.query(&dates).rows();
            let mut wire = sluice.my_connect(&database);
            wire.query(&format!("SET sql_mode = '{mode}'")).expect_fine(mode);
            let statement = statement.replace("$t", &name);
            let (rows, _) = done(&mut wire, &statement);
            assert_eq!(rows, 1500, "{mode}: {statement}");
            assert_eq!(wire.query("SELECT @@sql_mode LIKE '%ALLOW_INVALID%'").value(), "0", "as it was: {mode}");
            let id = job(&mut wire);
            let undo = undone(&mut wire, &id);
            assert!(undo.error().is_none(), "{mode}: {statement}: {undo:#?}");
            assert_eq!(undo.affected(), [1500], "{mode}: {statement}");
            assert!(bare.query(&dates).rows() == before, "{mode}: {statement}");
        }
    }
}

/// What the table itself stamps a row with that is updated is one moment, as in one statement.
fn what_stamps_rows_stands_still(server: &'static MyServer) {
    let (database, sluice) = gate(server, &things());
    let mut wire = sluice.my_connect(&database);
    let (rows, _) = done(&mut wire, "UPDATE things SET n = n + 1");
    assert_eq!(rows, 5000);
    assert_eq!(database.value("SELECT count(DISTINCT at) FROM things"), "1");
}

/// Values that move up by one come back in the other order than they went.
fn rows_in_one_anothers_way(server: &'static MyServer) {
    let setup = format!(
        "{TEN}; CREATE TABLE list (id int PRIMARY KEY, pos int, UNIQUE (pos)); INSERT INTO list SELECT i, i FROM ({ROWS}) r WHERE i <= 40"
    );
    let database = server.database(&setup);
    let sluice = Setup::before_mysql(server).with("[limits]\nbatch_rows = 20\nfree_rows = 1").start();
    let mut wire = sluice.my_connect(&database);
    let refused = Refused::to_confirm(&mut wire, "UPDATE list SET pos = pos - 1");
    assert!(refused.says("perhaps not to be undone by SLUICE UNDO: pos is unique"), "{refused:?}");
    assert_eq!(confirm(&mut wire, &refused.token()).affected(), [40]);
    let id = job(&mut wire);
    let undo = undone(&mut wire, &id);
    assert_eq!(undo.affected(), [40], "{undo:#?}");
    assert_eq!(database.value("SELECT count(*) FROM list WHERE pos = id"), "40");
}

/// Rows that are back are the application's again: what it makes of them is nothing to the undo of others.
fn rows_changed_between_two_undos(server: &'static MyServer) {
    let (database, sluice) = gate(server, &things());
    let mut wire = sluice.my_connect(&database);
    let (_, id) = done(&mut wire, "DELETE FROM things WHERE kind = 'old'");
    database.run("INSERT INTO things (id, n, kind, e) VALUES (1501, 0, 'taken', 'a')");
    undone(&mut wire, &id).expect_fine("all but one");
    assert!(warnings(&mut wire).contains("1 rows were left as they are"));
    database.run("DELETE FROM things WHERE id = 1501; UPDATE things SET n = n + 50 WHERE id < 3000");
    let undo = undone(&mut wire, &id);
    assert_eq!(undo.affected(), [1], "{undo:#?}");
    assert_eq!(database.value("SELECT kind FROM things WHERE id = 1501"), "old");
}

/// Keys of which some characters are one in UTF-8, or none: places are kept in the column's own bytes.
fn letters_that_utf8_does_not_tell_apart(server: &'static MyServer) {
    let database = server.database(TEN);
    let sluice = Setup::before_mysql(server).start();
    for (set, collation, letters) in [
        ("cp932", "cp932_bin", ["81CA", "FA54"]),
        ("cp1251", "cp1251_bin", ["98", "E0"]),
        ("latin1", "latin1_swedish_ci", ["81", "E4"]),
    ] {
        let name = format!("keys_{set}");
        let [one, other] = letters;
        database.run(&format!(
            "CREATE TABLE {name} (k varchar(20) CHARACTER SET {set} COLLATE {collation} PRIMARY KEY, n int);
             INSERT INTO {name} SELECT CONVERT(CONCAT(IF(i % 2, x'{one}', x'{other}'), i) USING {set}), i FROM (SELECT i FROM ({ROWS}) r WHERE i <= 1) r;
             DELETE FROM {name};
             INSERT INTO {name} SELECT CONCAT(IF(i % 2, _{set} x'{one}', _{set} x'{other}'), CONVERT(i USING {set})), i FROM ({ROWS}) r WHERE i <= 3000;
             ANALYZE TABLE {name}"
        ));
        let mut wire = sluice.my_connect(&database);
        let before = database.connect_as(ROOT).query(&format!("SELECT HEX(k), n FROM {name} ORDER BY n")).rows();
        for statement in [format!("DELETE FROM {name} WHERE n > 0"), format!("UPDATE {name} SET n = n WHERE n > 0")] {
            let (_, id) = done(&mut wire, &statement);
            assert!(only_rows(&mut wire, &id) == "3000", "{set}: {statement}");
            undone(&mut wire, &id).expect_fine("put back");
            assert!(
                database.connect_as(ROOT).query(&format!("SELECT HEX(k), n FROM {name} ORDER BY n")).rows() == before,
                "{set}: {statement}"
            );
        }
    }
}

/// How many rows a job has changed.
fn only_rows(wire: &mut MyWire, id: &str) -> String {
    let jobs = wire.query("SLUICE JOBS").rows();
    jobs.iter().find(|row| row[0].as_deref() == Some(id)).and_then(|row| row[3].clone()).expect("a job")
}

/// What holds for the one statement is not read into others: it is not counted without it, and runs as it is written.
fn settings_of_its_own(server: &'static MyServer) {
    let setup = format!(
        "{TEN}; CREATE TABLE times (id int PRIMARY KEY, at timestamp NOT NULL); INSERT INTO times SELECT i, '2026-01-01 00:00:00' + INTERVAL i SECOND FROM ({ROWS}) r WHERE i <= 4000"
    );
    let (database, sluice) = gate(server, &setup);
    let condition = "at < '2026-01-01 01:00:00'";
    let statement = match server.is_mariadb() {
        true => format!("SET STATEMENT time_zone = '+00:30' FOR DELETE FROM times WHERE {condition}"),
        false => format!("DELETE /*+ SET_VAR(time_zone = '+00:30') */ FROM times WHERE {condition}"),
    };
    let mut bare = database.connect_as(ROOT);
    bare.query("BEGIN").expect_fine("a transaction");
    let alone = bare.query(&statement).affected();
    bare.query("ROLLBACK").expect_fine("as it was");
    let mut wire = sluice.my_connect(&database);
    wire.query("SET time_zone = '+00:00'").expect_fine("a zone");
    let refused = Refused::to_confirm(&mut wire, &statement);
    assert!(refused.says("it is written with settings of its own"), "{refused:?}");
    let outcome = confirm(&mut wire, &refused.token());
    assert_eq!(outcome.affected(), alone, "{outcome:#?}");
    // One that changes nothing of its meaning is no hindrance.
    let plain = match server.is_mariadb() {
        true => "SET STATEMENT max_statement_time = 100 FOR DELETE FROM times WHERE id > 0",
        false => "DELETE /*+ SET_VAR(max_execution_time = 100000) */ FROM times WHERE id > 0",
    };
    offered(&mut wire, plain);
}

fn keys_that_move_by_themselves(server: &'static MyServer) {
    if server.is_mariadb() {
        // It takes no generated column into a primary key.
        return;
    }
    let setup = format!(
        "{TEN}; CREATE TABLE made (a int, k int AS (a * 10) STORED PRIMARY KEY); INSERT INTO made (a) SELECT i FROM ({ROWS}) r WHERE i <= 3000"
    );
    let (database, sluice) = gate(server, &setup);
    let refused = Refused::to_confirm(&mut sluice.my_connect(&database), "UPDATE made SET a = a + 10000");
    assert!(refused.says("not in batches: it has no"), "{refused:?}");
}

/// A rotation puts another table in its place: the job does not go on in that one.
fn another_table_of_its_name(server: &'static MyServer) {
    let (database, sluice, mut wire, mut holder) = stuck(server);
    // Made later: by the second.
    let now = database.value("SELECT now()");
    database.wait_until(&format!("SELECT now() > '{now}' + INTERVAL 1 SECOND"));
    database.run("CREATE TABLE things_new LIKE things");
    let mut other = database.connect_as(ROOT);
    other.start(&query("RENAME TABLE things TO things_old, things_new TO things"));
    database.wait_until("SELECT count(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'RENAME TABLE things %' AND STATE LIKE 'Waiting%'");
    holder.query("ROLLBACK").expect_fine("the row is let go");
    let outcome = wire.answer_to(3);
    assert!(other.answer_to(3).error().is_none());
    let refused = Refused::of(&mut wire, &outcome);
    assert!(refused.message.contains("is not what it was when the job began"), "{refused:?}");
    let mut fresh = sluice.my_connect(&database);
    let id = job(&mut fresh);
    let refused = Refused::any(&mut fresh, &format!("SLUICE RESUME '{id}'"));
    assert!(refused.message.contains("was exchanged or rebuilt"), "{refused:?}");
    database.run("RENAME TABLE things TO things_new, things_old TO things");
    assert!(undone(&mut fresh, &id).error().is_none());
    assert_eq!(database.value("SELECT count(*) FROM things WHERE n = id % 7"), "5000");
}

/// What the session's settings make of the text is what they made of it when it was confirmed.
fn another_reading_of_the_text(server: &'static MyServer) {
    let (database, sluice, wire, mut holder) = stuck(server);
    let sluice = sluice.crash_and_restart();
    drop(wire);
    holder.query("ROLLBACK").expect_fine("the row is let go");
    let mut wire = sluice.my_connect(&database);
    let id = job(&mut wire);
    for (name, other) in [
        ("div_precision_increment", "7"),
        ("default_week_format", "3"),
        ("lc_time_names", "'de_DE'"),
        ("collation_connection", "'utf8mb4_bin'"),
    ] {
        let was = wire.query(&format!("SELECT @@{name}")).value();
        wire.query(&format!("SET {name} = {other}")).expect_fine(name);
        let refused = Refused::any(&mut wire, &format!("SLUICE RESUME '{id}'"));
        assert!(refused.message.contains(&format!("{name} is not set here as it was")), "{refused:?}");
        let was = if was.bytes().all(|byte| byte.is_ascii_digit()) { was } else { format!("'{was}'") };
        wire.query(&format!("SET {name} = {was}")).expect_fine("as it was");
    }
    finish(&database, &mut wire);
}

/// What somebody took out of an archive is told as lost.
fn an_archive_that_was_emptied(server: &'static MyServer) {
    let (database, sluice) = gate(server, &things());
    let mut wire = sluice.my_connect(&database);
    let (_, id) = done(&mut wire, "DELETE FROM things WHERE kind = 'old'");
    let archive = wire.query(&format!("SLUICE JOB '{id}'")).rows();
    let archive =
        archive.iter().find(|row| row[0].as_deref() == Some("archive")).and_then(|row| row[1].clone()).expect("one");
    database.run(&format!("DELETE FROM {archive} WHERE id < 1000"));
    let offer = Refused::to_confirm(&mut wire, &format!("SLUICE UNDO '{id}'"));
    assert!(offer.says("are not in its archive: somebody took them out"), "{offer:?}");
}

/// A temporary table of the session's own hides the one that the rows belong to.
fn a_temporary_table_in_its_place(server: &'static MyServer) {
    let (database, sluice) = gate(server, &things());
    let mut wire = sluice.my_connect(&database);
    let before = digest(&database, "things");
    let (_, id) = done(&mut wire, "DELETE FROM things WHERE kind = 'old'");
    let mut other = sluice.my_connect(&database);
    database.run("CREATE TABLE shape LIKE things");
    other.query("CREATE TEMPORARY TABLE things LIKE shape").expect_fine("one's own");
    let outcome = undone(&mut other, &id);
    let refused = Refused::of(&mut other, &outcome);
    assert!(refused.message.contains("a temporary table of this session hides it"), "{refused:?}");
    drop(other);
    assert_eq!(undone(&mut wire, &id).affected(), [4000]);
    assert_eq!(digest(&database, "things"), before);
}

/// In the hour that a zone repeats two moments are written alike, and under MAXDB a moment is none: what comes back is the moment itself.
fn moments_that_are_written_alike(server: &'static MyServer) {
    let setup = format!(
        "{TEN}; CREATE TABLE moments (id int PRIMARY KEY, at timestamp NULL); SET time_zone = '+00:00'; INSERT INTO moments SELECT i, '2025-10-26 00:30:00' FROM ({ROWS}) r WHERE i <= 1500"
    );
    let (database, sluice) = gate(server, &setup);
    let mut wire = sluice.my_connect(&database);
    if server.is_mariadb() {
        wire.query("SET sql_mode = 'MAXDB'").expect_fine("a mode");
    }
    wire.query("SET time_zone = '+05:00'").expect_fine("a zone");
    let (_, id) = done(&mut wire, "DELETE FROM moments WHERE id > 0");
    let mut other = sluice.my_connect(&database);
    other.query("SET time_zone = '-03:00'").expect_fine("another");
    assert_eq!(undone(&mut other, &id).affected(), [1500]);
    assert_eq!(
        other.query("SELECT @@time_zone, @@lock_wait_timeout > 100").rows()[0],
        [Some("-03:00".to_owned()), Some("1".to_owned())]
    );
    let moments = "SELECT count(*) FROM moments WHERE UNIX_TIMESTAMP(at) = 1761438600";
    assert_eq!(database.value(moments), "1500");
}

/// Somebody reads an old archive: it is not waited for longer than a batch waits, and the job that is done is answered.
fn an_archive_that_somebody_reads(server: &'static MyServer) {
    let database = server.database(&things());
    let sluice = Setup::before_mysql(server).with("[jobs]\narchive_retention = \"1 s\"\n").start();
    let mut wire = sluice.my_connect(&database);
    let (_, first) = done(&mut wire, "UPDATE things SET n = n + 1");
    let archive = wire.query("SLUICE ARCHIVES").rows()[0][0].clone().expect("a name");
    let now = database.value("SELECT now(6)");
    database.wait_until(&format!("SELECT now(6) > '{now}' + INTERVAL 1500000 MICROSECOND"));
    let mut reader = database.connect();
    reader.query("BEGIN").expect_fine("a transaction");
    reader.query(&format!("SELECT count(*) FROM {archive}")).expect_fine("read");
    let (rows, _) = done(&mut wire, "UPDATE things SET n = n - 1");
    assert_eq!(rows, 5000);
    assert_eq!(wire.query("SELECT 'and on'").value(), "and on");
    assert_eq!(database.value(&format!("SELECT count(*) FROM {archive}")), "5000", "{first}");
    reader.query("ROLLBACK").expect_fine("read");
    done(&mut wire, "UPDATE things SET n = n + 2");
    let listed = wire.query("SLUICE ARCHIVES").rows();
    assert!(
        listed.iter().any(|row| row[2].as_deref() == Some(&first)
            && row[5].as_ref().is_some_and(|until| until.starts_with("dropped"))),
        "{listed:?}"
    );
}
