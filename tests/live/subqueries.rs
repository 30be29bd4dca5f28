//! Changes whose rows are chosen, or whose values are found, by other tables: in batches they are what they would have been at once.
//!
//! Invariant: what a subquery reads is none of what the change itself writes, in whatever way.

use crate::batches::{THINGS, WAITS, confirm, digest, gate, job_of, offered, only_job, undone};
use crate::harness::message::query;
use crate::harness::server::Server;
use crate::harness::shop::Refused;
use crate::harness::stories;

stories! { rows_chosen_by_other_tables, with_rows_below_them, what_a_subquery_must_not_read, another_table_comes_to_stand_before_it, values_bound_within_a_subquery }

const KINDS: &str = "
    CREATE TABLE kinds (kind text PRIMARY KEY, gone bool, worth int); INSERT INTO kinds VALUES ('old', true, 7), ('new', false, 9);
    CREATE TABLE marks (id serial PRIMARY KEY, thing int, mark int); INSERT INTO marks (thing, mark) SELECT i, i % 3 FROM generate_series(1, 9000) i;
    ANALYZE kinds, marks";

fn rows_chosen_by_other_tables(server: &'static Server) {
    for (statement, changed) in [
        ("DELETE FROM things WHERE kind IN (SELECT kind FROM kinds WHERE gone)", "DELETE 4000"),
        (
            "DELETE FROM things t WHERE EXISTS (SELECT FROM marks AS m JOIN kinds k ON k.worth > m.mark WHERE m.thing = t.id AND mark = 1)",
            "DELETE 1667",
        ),
        (
            "DELETE FROM things WHERE id NOT IN (SELECT thing FROM public.marks WHERE mark = 0 UNION SELECT 5)",
            "DELETE 3333",
        ),
        (
            "DELETE FROM things WHERE n < (SELECT avg(worth) FROM kinds) AND id > (SELECT min(id) + 10 FROM marks)",
            "DELETE 4989",
        ),
        ("UPDATE things SET n = (SELECT worth FROM kinds k WHERE k.kind = things.kind), kind = 'x'", "UPDATE 5000"),
        (
            "UPDATE things t SET n = n + (SELECT count(*) FROM marks m WHERE m.thing = t.id AND m.mark > 0) WHERE t.id > 1000",
            "UPDATE 4000",
        ),
        ("UPDATE things SET n = 1 WHERE id IN (TABLE keys)", "UPDATE 2000"),
    ] {
        let keys = "CREATE TABLE keys (id int); INSERT INTO keys SELECT generate_series(1, 2000)";
        let (database, sluice) =
            gate(server, &format!("{THINGS}; {KINDS}; {keys}; CREATE TABLE alone (LIKE things INCLUDING ALL)"));
        let before = digest(&database, "things");
        let mut bare = database.connect();
        bare.simple(&format!("BEGIN; {statement}")).expect_fine("alone");
        let alone = bare.simple("SELECT count(*) || ' ' || md5(coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '')) FROM things t").value();
        bare.simple("ROLLBACK").expect_fine("as before");
        let mut wire = sluice.connect(&database);
        let token = offered(&wire.simple(statement));
        let outcome = confirm(&mut wire, &token);
        assert_eq!(outcome.tags(), [changed], "{statement}: {outcome:#?}");
        assert_eq!(digest(&database, "things"), alone, "{statement}");
        assert!(only_job(&mut wire)[5].as_deref().is_some_and(|batches| batches != "1"), "{outcome:#?}");
        undone(&mut wire, &job_of(&outcome)).expect_fine("back");
        assert_eq!(digest(&database, "things"), before, "{statement}");
    }
}

fn with_rows_below_them(server: &'static Server) {
    let setup = format!(
        "{THINGS}; {KINDS}; CREATE TABLE below (id serial PRIMARY KEY, thing int REFERENCES things ON DELETE CASCADE);
         INSERT INTO below (thing) SELECT id FROM things, generate_series(1, 2); CREATE INDEX ON below (thing); ANALYZE below"
    );
    let (database, sluice) = gate(server, &setup);
    let before = [digest(&database, "things"), digest(&database, "below")];
    let mut wire = sluice.connect(&database);
    let statement = "DELETE FROM things t WHERE kind = (SELECT k.kind FROM kinds k WHERE gone AND k.worth > t.n)";
    let token = offered(&wire.simple(statement));
    let outcome = confirm(&mut wire, &token);
    assert_eq!(outcome.tags(), ["DELETE 4000"], "{outcome:#?}");
    assert_eq!(database.value("SELECT count(*) FROM below"), "2000");
    assert_eq!(undone(&mut wire, &job_of(&outcome)).tags(), ["SLUICE UNDO 12000"]);
    assert_eq!([digest(&database, "things"), digest(&database, "below")], before);
}

fn what_a_subquery_must_not_read(server: &'static Server) {
    let setup = format!(
        "{THINGS}; {KINDS}; CREATE VIEW seen AS SELECT * FROM things; CREATE MATERIALIZED VIEW kept AS SELECT * FROM things;
         CREATE TABLE parts (id int) PARTITION BY RANGE (id); CREATE TABLE part PARTITION OF parts FOR VALUES FROM (0) TO (9999);
         CREATE TABLE up (id int PRIMARY KEY); INSERT INTO up SELECT generate_series(1, 5000);
         CREATE TABLE below (id serial PRIMARY KEY, up int REFERENCES up ON DELETE CASCADE); INSERT INTO below (up) SELECT generate_series(1, 5000);
         CREATE TABLE noted (id int); CREATE TABLE fires (id int PRIMARY KEY); INSERT INTO fires SELECT generate_series(1, 5000);
         CREATE FUNCTION notes() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO noted VALUES (OLD.id); RETURN OLD; END';
         CREATE TRIGGER notes BEFORE DELETE ON fires FOR EACH ROW EXECUTE FUNCTION notes(); ANALYZE"
    );
    let (database, sluice) = gate(server, &setup);
    database.run("CREATE TABLE policed (id int); ALTER TABLE policed ENABLE ROW LEVEL SECURITY; ALTER TABLE policed FORCE ROW LEVEL SECURITY");
    let mut wire = sluice.connect(&database);
    wire.simple("CREATE TEMP TABLE own AS SELECT 1 AS id").expect_fine("of the session");
    for (statement, why) in [
        (
            "DELETE FROM things WHERE n <= (SELECT max(n) FROM things WHERE kind = 'new')",
            "reads things, which it changes",
        ),
        ("DELETE FROM things t WHERE id > (SELECT min(id) FROM public.things x)", "reads things, which it changes"),
        ("DELETE FROM things WHERE id NOT IN (SELECT -id FROM seen)", "no plain table"),
        ("DELETE FROM things WHERE id NOT IN (SELECT -id FROM kept)", "no plain table"),
        ("DELETE FROM things WHERE id NOT IN (SELECT id FROM own)", "no plain table"),
        ("DELETE FROM things WHERE id NOT IN (SELECT id FROM policed)", "no plain table"),
        ("DELETE FROM things WHERE id NOT IN (SELECT id FROM parts)", "partitions"),
        ("DELETE FROM up WHERE id NOT IN (SELECT -id FROM below)", "reads below, which it changes"),
        ("DELETE FROM fires WHERE id NOT IN (SELECT id + 1 FROM noted)", "the trigger notes"),
        ("DELETE FROM things WHERE id NOT IN (SELECT mark FROM marks ORDER BY mark LIMIT 1)", "subquery"),
        ("DELETE FROM things WHERE id NOT IN (SELECT DISTINCT ON (mark) mark FROM marks)", "subquery"),
        (
            "DELETE FROM things WHERE id NOT IN (SELECT mark FROM marks TABLESAMPLE BERNOULLI (50) WHERE mark < 0)",
            "subquery",
        ),
        ("DELETE FROM things WHERE id NOT IN (WITH x AS (SELECT 0 AS id) SELECT id FROM x)", "not known"),
        ("DELETE FROM things WHERE id NOT IN (SELECT -row_number() OVER () FROM marks)", "row_number"),
    ] {
        let refused = Refused::to_confirm(&wire.simple(statement));
        let said = format!("{} {} {}", refused.message, refused.detail, refused.hint);
        assert!(said.contains("not in batches: ") && said.contains(why), "{statement}: {refused:?}");
    }
}

/// By the search path a name may come to mean another table while a job runs.
fn another_table_comes_to_stand_before_it(server: &'static Server) {
    let (database, sluice) = gate(server, &format!("{THINGS}; {KINDS}; CREATE SCHEMA a"));
    let mut holder = database.connect();
    holder.simple("BEGIN; SELECT FROM things WHERE id = 3000 FOR UPDATE").expect_fine("a row held");
    let mut wire = sluice.connect(&database);
    wire.simple("SET search_path = a, public").expect_fine("a path");
    let token = offered(&wire.simple("UPDATE things SET n = n + (SELECT count(*) FROM kinds)"));
    wire.send(&query(&format!("SLUICE CONFIRM '{token}'")));
    database.wait_until(WAITS);
    database.run("CREATE TABLE a.kinds AS SELECT * FROM public.kinds LIMIT 0");
    holder.simple("ROLLBACK").expect_fine("given up");
    let refused = Refused::of(&wire.until_ready());
    assert!(refused.message.contains("paused"), "{refused:?}");
    let job = only_job(&mut wire)[0].clone().expect("an id");
    let again = Refused::of(&wire.simple(&format!("SLUICE RESUME '{job}'")));
    assert!(again.message.contains("other tables"), "{again:?}");
    let done = database.value("SELECT count(*) FROM things WHERE n = id % 7 + 2");
    assert_eq!(
        database.value(&format!("SELECT count(*) FROM things WHERE n IN (id % 7, id % 7 + 2) AND {done} < 5000")),
        "5000"
    );
    database.run("DROP TABLE a.kinds");
    let outcome = wire.simple(&format!("SLUICE RESUME '{job}'"));
    assert_eq!(outcome.tags(), ["UPDATE 5000"], "{outcome:#?}");
    assert_eq!(database.value("SELECT count(*) FROM things WHERE n = id % 7 + 2"), "5000");
}

fn values_bound_within_a_subquery(server: &'static Server) {
    let (database, sluice) = gate(server, &format!("{THINGS}; {KINDS}"));
    let mut wire = sluice.connect(&database);
    let before = digest(&database, "things");
    let statement = "DELETE FROM things WHERE kind IN (SELECT kind FROM kinds WHERE worth = $1 AND gone = $2)";
    let token = offered(&wire.extended(statement, &["7", "true"]));
    let outcome = confirm(&mut wire, &token);
    assert_eq!(outcome.tags(), ["DELETE 4000"], "{outcome:#?}");
    undone(&mut wire, &job_of(&outcome)).expect_fine("back");
    assert_eq!(digest(&database, "things"), before);
}
