//! Changes whose rows are chosen, or whose values are found, by other tables, as PostgreSQL's stories tell them.
//!
//! Invariant: what a subquery reads is none of what the change itself writes, in whatever way.

use crate::harness::mysql::my_stories;
use crate::harness::mysql::server::MyServer;
use crate::harness::mysql::shop::Refused;
use crate::mysql::batches::{TEN, done, gate, only_job, undone};

my_stories! { rows_chosen_by_other_tables, with_rows_below_them, what_a_subquery_must_not_read }

const SETUP: &str = "
    CREATE TABLE things (id int PRIMARY KEY, n int, kind varchar(10));
    INSERT INTO things SELECT i, i % 7, IF(i % 5 < 4, 'old', 'new') FROM (SELECT 1 + a.d + 10 * b.d + 100 * c.d + 1000 * e.d AS i FROM ten a, ten b, ten c, ten e) r WHERE i <= 5000;
    CREATE TABLE kinds (kind varchar(10) PRIMARY KEY, gone bool, worth int); INSERT INTO kinds VALUES ('old', true, 7), ('new', false, 9);
    CREATE TABLE marks (id int AUTO_INCREMENT PRIMARY KEY, thing int, mark int, KEY (thing)); INSERT INTO marks (thing, mark) SELECT id, id % 3 FROM things;
    ANALYZE TABLE things, kinds, marks";

fn rows_chosen_by_other_tables(server: &'static MyServer) {
    for (statement, changed) in [
        ("DELETE FROM things WHERE kind IN (SELECT kind FROM kinds WHERE gone)", 4000),
        (
            "DELETE FROM things WHERE EXISTS (SELECT 1 FROM marks AS m JOIN kinds k ON k.worth > m.mark WHERE m.thing = things.id AND mark = 1)",
            1667,
        ),
        ("DELETE FROM things WHERE id NOT IN (SELECT thing FROM marks WHERE mark = 0 UNION SELECT 5)", 3333),
        ("DELETE FROM things WHERE n < (SELECT AVG(worth) FROM kinds) AND id > (SELECT MIN(id) + 10 FROM marks)", 4989),
        ("UPDATE things SET n = (SELECT worth FROM kinds k WHERE k.kind = things.kind) + 100, kind = 'x'", 5000),
        (
            "UPDATE things t SET n = n + (SELECT COUNT(*) FROM marks m WHERE m.thing = t.id AND m.mark > 0) + 1 WHERE t.id > 1000",
            4000,
        ),
        (
            "UPDATE things SET n = n + 1 WHERE id IN (SELECT x.thing FROM (SELECT thing FROM marks WHERE mark = 2) x)",
            1667,
        ),
    ] {
        let (database, sluice) = gate(server, &format!("{TEN}; {SETUP}; CREATE TABLE alone LIKE things"));
        let rows = |table: &str| database.connect().query(&format!("SELECT * FROM {table} ORDER BY id")).rows();
        let before = rows("things");
        let mut bare = database.connect();
        bare.query("BEGIN").expect_fine("alone");
        bare.query(statement).expect_fine(statement);
        let alone = bare.query("SELECT * FROM things ORDER BY id").rows();
        bare.query("ROLLBACK").expect_fine("as before");
        let mut wire = sluice.my_connect(&database);
        let (count, job) = done(&mut wire, statement);
        assert_eq!((count, rows("things") == alone), (changed, true), "{statement}");
        assert!(only_job(&mut wire)[5].as_deref().is_some_and(|batches| batches != "1"), "{statement}");
        undone(&mut wire, &job).expect_fine("back");
        assert!(rows("things") == before, "{statement}");
    }
}

fn with_rows_below_them(server: &'static MyServer) {
    let setup = format!(
        "{TEN}; {SETUP}; CREATE TABLE below (id int AUTO_INCREMENT PRIMARY KEY, thing int, FOREIGN KEY (thing) REFERENCES things (id) ON DELETE CASCADE);
         INSERT INTO below (thing) SELECT id FROM things; INSERT INTO below (thing) SELECT id FROM things; ANALYZE TABLE below"
    );
    let (database, sluice) = gate(server, &setup);
    let rows = || {
        ["things", "below"].map(|table| database.connect().query(&format!("SELECT * FROM {table} ORDER BY id")).rows())
    };
    let before = rows();
    let mut wire = sluice.my_connect(&database);
    let statement = "DELETE FROM things WHERE kind = (SELECT k.kind FROM kinds k WHERE gone AND k.worth > things.n)";
    let (count, job) = done(&mut wire, statement);
    assert_eq!((count, database.value("SELECT count(*) FROM below")), (4000, "2000".to_owned()));
    assert_eq!(undone(&mut wire, &job).affected(), [12000]);
    assert!(rows() == before);
}

fn what_a_subquery_must_not_read(server: &'static MyServer) {
    let setup = format!(
        "{TEN}; {SETUP}; CREATE VIEW seen AS SELECT * FROM things; CREATE TABLE parts (id int) PARTITION BY HASH (id) PARTITIONS 2;
         CREATE TABLE up (id int PRIMARY KEY); INSERT INTO up SELECT id FROM things;
         CREATE TABLE below (id int AUTO_INCREMENT PRIMARY KEY, up int, FOREIGN KEY (up) REFERENCES up (id) ON DELETE CASCADE); INSERT INTO below (up) SELECT id FROM up;
         ANALYZE TABLE up, below"
    );
    let (database, sluice) = gate(server, &setup);
    let mut wire = sluice.my_connect(&database);
    wire.query("CREATE TEMPORARY TABLE own AS SELECT 1 AS id").expect_fine("of the session");
    wire.query("CREATE TEMPORARY TABLE marks AS SELECT 1 AS id").expect_fine("in the place of another");
    for (statement, why) in [
        ("DELETE FROM things WHERE id NOT IN (SELECT -id FROM seen)", "no plain table"),
        ("DELETE FROM things WHERE id NOT IN (SELECT -id FROM own)", "not in batches: "),
        ("DELETE FROM things WHERE id NOT IN (SELECT -id FROM marks)", "not in batches: "),
        ("DELETE FROM up WHERE id NOT IN (SELECT -id FROM below)", "reads below, which it changes"),
        ("DELETE FROM things WHERE id NOT IN (SELECT x.id FROM (SELECT -d AS id FROM ten LIMIT 3) x)", "subquery"),
        ("DELETE FROM things WHERE id NOT IN (WITH x AS (SELECT 0 AS id) SELECT id FROM x)", "not known"),
        ("DELETE FROM things WHERE id NOT IN (SELECT -ROW_NUMBER() OVER () FROM kinds)", "over() may"),
    ] {
        let refused = Refused::to_confirm(&mut wire, statement);
        assert!(refused.says("not in batches: ") && refused.says(why), "{statement}: {refused:?}");
    }
}
