//! What the database is asked about a statement, tried on a real PostgreSQL: one of its own, started here and stopped after.
//!
//! Each test has its own database in it. Changes are built by hand: how a text becomes facts is tried elsewhere.

mod ask;
mod build;
#[path = "evidence/cascades.rs"]
mod cascades;
#[path = "evidence/reach.rs"]
mod reach;
#[path = "evidence/removals.rs"]
mod removals;

use ask::{Client, Server};
use build::{Build, Said, delete, name, removal};
use sluice::change::preview::{self, Offer};
use sluice::change::promise::{self, Moved};
use sluice::database::Ask;
use sluice::database::catalog::{self, Cache};
use sluice::database::evidence::{Inquiry, gather};
use sluice::policy::finding::{About, Finding, Level};
use sluice::policy::question::*;
use sluice::policy::settings::Sizes;
use sluice::policy::verdict::Judged;
use sluice::protocol::Parameters;
use sluice::sql::facts::{Removed, Verb};
use sluice::sql::statement::LexicalMode;
use std::time::{Duration, Instant};

const EVERYTHING: Questions = Questions { table: true, rows: true, cascade: true, preview: true, plan: false };
const ROWS: Questions = Questions { table: false, rows: true, cascade: false, preview: false, plan: false };

async fn ask_with(
    client: &mut Client,
    said: &Said,
    asked: Questions,
    parameters: Option<&Parameters>,
    bound: u64,
) -> Evidence {
    let (changes, removals) = (vec![asked; said.facts.changes.len()], vec![asked; said.facts.removals.len()]);
    let inquiry = Inquiry {
        text: &said.text,
        mode: LexicalMode::default(),
        facts: &said.facts,
        changes: &changes,
        removals: &removals,
        parameters,
        sizes: &Sizes::default(),
        count_bound: bound,
        now: &Instant::now,
    };
    gather(client, &inquiry, &mut Cache::default()).await
}

async fn ask(client: &mut Client, said: &Said) -> ChangeEvidence {
    ask_with(client, said, EVERYTHING, None, 1000).await.changes.remove(0)
}

async fn rows(client: &mut Client, said: &Said) -> Known<Rows> {
    ask_with(client, said, ROWS, None, 1000).await.changes.remove(0).rows
}

async fn table(client: &mut Client, written: &str) -> Table {
    match catalog::table(client, &name(written)).await {
        Known::Known(table) => table,
        other => panic!("{written}: {other:?}"),
    }
}

/// The tree as lines: depth, child, action, rows.
fn tree(evidence: &ChangeEvidence) -> Vec<String> {
    fn line(branch: &Cascade, depth: usize, out: &mut Vec<String>) {
        let rows = match &branch.rows {
            Known::Known(rows) => format!("{rows:?}"),
            Known::Unknown(_) => "Unknown".to_owned(),
            Known::NotAsked => "NotAsked".to_owned(),
        };
        let stopped = branch.stopped.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        out.push(format!("{}{} {:?} {rows}{stopped}", "  ".repeat(depth), branch.key.child.written, branch.action));
        branch.below.iter().for_each(|below| line(below, depth + 1, out));
    }
    let mut out = Vec::new();
    for branch in evidence.cascade.known().unwrap_or_else(|| panic!("{:?}", evidence.cascade)) {
        line(branch, 0, &mut out);
    }
    out
}

fn reason<T: std::fmt::Debug>(known: &Known<T>) -> String {
    match known {
        Known::Unknown(why) => why.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_table_is_described_whole() {
    let server = Server::get();
    let mut client = server
        .client(
            r#"CREATE DOMAIN must AS int NOT NULL; CREATE DOMAIN musty AS must;
        CREATE TABLE "Odd Name" ("Id" int, b text, c musty, d int GENERATED ALWAYS AS ("Id" * 2) STORED, PRIMARY KEY (b, "Id"));
        CREATE UNIQUE INDEX ON "Odd Name" (d); CREATE UNIQUE INDEX ON "Odd Name" (c) WHERE c > 1;
        CREATE UNIQUE INDEX ON "Odd Name" (lower(b)); CREATE UNIQUE INDEX ON "Odd Name" (b COLLATE "POSIX");
        ALTER TABLE "Odd Name" ADD UNIQUE (c) DEFERRABLE; CREATE UNIQUE INDEX ON "Odd Name" ("Id") INCLUDE (b);
        CREATE TABLE child (x int, y text, FOREIGN KEY (y, x) REFERENCES "Odd Name" ON DELETE SET NULL ON UPDATE CASCADE);
        CREATE INDEX ON child (x, y);
        CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER watch AFTER INSERT OR DELETE ON "Odd Name" FOR EACH ROW EXECUTE FUNCTION f();
        CREATE TRIGGER off AFTER UPDATE ON "Odd Name" EXECUTE FUNCTION f(); ALTER TABLE "Odd Name" DISABLE TRIGGER off;"#,
        )
        .await;
    let odd = table(&mut client, "\"Odd Name\"").await;
    assert_eq!((odd.schema.as_str(), odd.name.as_str(), odd.kind), ("public", "Odd Name", TableKind::Table));
    assert_eq!(odd.primary_key, ["b", "Id"]);
    assert_eq!(odd.unique_keys, [vec!["b", "Id"], vec!["d"], vec!["Id"]]);
    let columns: Vec<_> = odd.columns.iter().map(|c| (c.name.as_str(), c.not_null, c.generated)).collect();
    assert_eq!(columns, [("Id", true, false), ("b", true, false), ("c", true, false), ("d", false, true)]);
    let [key] = odd.referenced_by.as_slice() else { panic!("{:?}", odd.referenced_by) };
    assert_eq!(
        (key.child.written.as_str(), key.on_delete, key.on_update),
        ("public.child", Action::SetNull, Action::Cascade)
    );
    assert_eq!(
        (&key.child_columns, &key.parent_columns),
        (&vec!["y".into(), "x".into()], &vec!["b".into(), "Id".into()])
    );
    assert!(key.child_indexed);
    let [trigger] = odd.triggers.as_slice() else { panic!("{:?}", odd.triggers) };
    assert_eq!(trigger.when, "AFTER INSERT OR DELETE, each row");
    client.run("ALTER TABLE \"Odd Name\" ADD COLUMN e int").await;
    assert_ne!(table(&mut client, "\"Odd Name\"").await.shape, odd.shape);
    assert!(reason(&catalog::table(&mut client, &name("nowhere")).await).contains("does not exist"));
}

#[tokio::test(flavor = "current_thread")]
async fn rows_are_bounded_by_keys_only_where_keys_hold() {
    let server = Server::get();
    let mut client = server
        .client(
            "CREATE TABLE t (a int, b int, c int, PRIMARY KEY (a, b)); INSERT INTO t SELECT g, g, g FROM generate_series(1, 50) g;
         CREATE TABLE heir () INHERITS (t); INSERT INTO heir SELECT 1, 1, 1 FROM generate_series(1, 5);
         CREATE TABLE p (a int PRIMARY KEY) PARTITION BY RANGE (a); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100);
         INSERT INTO p VALUES (1)",
        )
        .await;
    let pinned = |target, only, pinned| Build { target, only, pinned, condition: "a = 1", ..Build::default() }.said();
    for (said, expected) in [
        (pinned("t", false, &["a", "b"]), Rows::Exact(6)),
        (pinned("t", true, &["b", "a"]), Rows::AtMost(1)),
        (pinned("t", true, &["a"]), Rows::Exact(1)),
        (pinned("heir", false, &["a", "b"]), Rows::Exact(5)),
        (pinned("p", false, &["a"]), Rows::AtMost(1)),
    ] {
        assert_eq!(rows(&mut client, &said).await, Known::Known(expected), "{}", said.text);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn rows_are_counted_as_the_statement_would_meet_them() {
    let server = Server::get();
    let mut client = server
        .client(
            "CREATE TABLE t (id int PRIMARY KEY, grp int, big text); INSERT INTO t SELECT g, g % 10, 'x' FROM generate_series(1, 500) g;
         CREATE TABLE u (grp int); INSERT INTO u VALUES (1), (1), (2);
         CREATE VIEW v AS SELECT id, grp FROM t WHERE id <= 100;
         CREATE TABLE p (id int) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
         CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20); INSERT INTO p SELECT generate_series(0, 19);
         CREATE TABLE base (id int); CREATE TABLE heir () INHERITS (base); INSERT INTO base VALUES (1); INSERT INTO heir VALUES (1), (2)",
        )
        .await;
    let from = |from, condition| Build { called: "x", from, condition, ..Build::default() }.said();
    let with = Build { with: "WITH w AS (SELECT 3 AS g)", condition: "grp IN (SELECT g FROM w)", ..Build::default() };
    let update = Build { verb: Verb::Update, set: &[("grp", "0")], condition: "grp > 4", ..Build::default() };
    for (said, expected) in [
        (delete("t", ""), Rows::Exact(500)),
        (delete("public.T", "grp = 1 OR grp = 2"), Rows::Exact(100)),
        (from("u", "u.grp = x.grp"), Rows::Exact(100)),
        (with.said(), Rows::Exact(50)),
        (update.said(), Rows::Exact(250)),
        (delete("v", "grp = 1"), Rows::Exact(10)),
        (delete("p", "id > 7"), Rows::Exact(12)),
        (delete("base", ""), Rows::Exact(3)),
        (Build { target: "base", only: true, ..Build::default() }.said(), Rows::Exact(1)),
    ] {
        assert_eq!(rows(&mut client, &said).await, Known::Known(expected), "{}", said.text);
    }
    let bounded = ask_with(&mut client, &delete("t", ""), ROWS, None, 99).await;
    assert_eq!(bounded.changes[0].rows, Known::Known(Rows::AtLeast(100)));
    client.run("CREATE TEMP TABLE t (id int); INSERT INTO t VALUES (1)").await;
    assert_eq!(rows(&mut client, &delete("t", "")).await, Known::Known(Rows::Exact(1)));
    assert_eq!(table(&mut client, "t").await.kind, TableKind::Temporary);
    assert_eq!(rows(&mut client, &delete("public.t", "")).await, Known::Known(Rows::Exact(500)));
}

#[tokio::test(flavor = "current_thread")]
async fn parameters_go_with_the_statements_own_text_only() {
    let server = Server::get();
    let mut client = server
        .client(
            "CREATE TABLE t (id int PRIMARY KEY, s text); INSERT INTO t SELECT g, 'x' || g FROM generate_series(1, 20) g;
         CREATE TABLE c (t int REFERENCES t ON DELETE CASCADE); INSERT INTO c SELECT generate_series(1, 20)",
        )
        .await;
    let said = Build { condition: "id > $1 AND s <> $2", parameters: 2, ..Build::default() }.said();
    let parameters = Parameters {
        types: vec![23, 25],
        formats: vec![],
        values: vec![Some("10".into()), Some("x11".into())],
        ..Parameters::default()
    };
    let evidence = ask_with(&mut client, &said, EVERYTHING, Some(&parameters), 1000).await.changes.remove(0);
    assert_eq!(evidence.rows, Known::Known(Rows::Exact(9)));
    assert_eq!(tree(&evidence), ["public.c Cascade Exact(9)"]);
    assert!(reason(&rows(&mut client, &said).await).contains("no values yet"));
}

#[tokio::test(flavor = "current_thread")]
async fn what_may_not_be_read_is_unknown() {
    let server = Server::get();
    let mut client = server
        .client(
            "CREATE TABLE a (id int PRIMARY KEY, owner text); INSERT INTO a VALUES (1, 'ann'), (2, 'bob'), (3, 'ann');
         CREATE TABLE b (a int PRIMARY KEY REFERENCES a ON DELETE CASCADE); CREATE TABLE c (a int REFERENCES a ON DELETE CASCADE);
         CREATE TABLE d (b int PRIMARY KEY REFERENCES b ON DELETE CASCADE); CREATE TABLE e (d int REFERENCES d ON DELETE CASCADE);
         INSERT INTO b VALUES (1); INSERT INTO c VALUES (1);
         CREATE TABLE z (id int); ALTER TABLE a ENABLE ROW LEVEL SECURITY; ALTER TABLE c ENABLE ROW LEVEL SECURITY;
         CREATE POLICY mine ON a USING (owner = 'ann'); CREATE POLICY none ON c USING (false);
         CREATE ROLE ann; GRANT ALL ON a, c TO ann; GRANT DELETE ON z TO ann; SET ROLE ann",
        )
        .await;
    let evidence = ask(&mut client, &delete("a", "id > 0")).await;
    assert_eq!(evidence.rows, Known::Known(Rows::Exact(2)));
    let unknown =
        ["public.b", "  public.d", "    public.e", "public.c"].map(|child| format!("{child} Cascade Unknown"));
    assert_eq!(tree(&evidence), unknown);
    let branches = evidence.cascade.known().cloned().unwrap_or_default();
    // The first level's reason is not told again at each one below.
    assert_eq!(reason(&branches[0].below[0].below[0].rows), "the level above is not known");
    assert!(reason(&branches[0].rows).contains("permission denied"));
    assert!(reason(&branches[1].rows).contains("row security"));
    // A DELETE that reads nothing is not held to what may be read.
    assert_eq!(rows(&mut client, &delete("a", "")).await, Known::Known(Rows::AtLeast(2)));
    assert!(reason(&rows(&mut client, &delete("z", "")).await).contains("permission denied"));
}

#[tokio::test(flavor = "current_thread")]
async fn time_that_runs_out_leaves_an_estimate() {
    let server = Server::get();
    let mut client =
        server.client("CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 1000); ANALYZE t").await;
    client.limit = Duration::from_millis(200);
    let slow = "id > 0 AND (SELECT count(*) FROM generate_series(1, 100000000) g, generate_series(1, id) h) > 0";
    let said = Build { condition: slow, functions: &["count", "generate_series"], ..Build::default() }.said();
    let start = Instant::now();
    let evidence = ask(&mut client, &said).await;
    assert!(matches!(evidence.rows, Known::Known(Rows::Estimate(n)) if n > 0 && n <= 1000), "{:?}", evidence.rows);
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[tokio::test(flavor = "current_thread")]
async fn nothing_runs_that_may_do_more_than_read() {
    let server = Server::get();
    let mut client = server
        .client(
            "CREATE SEQUENCE s; CREATE TABLE t (id int); INSERT INTO t VALUES (1), (2);
         CREATE FUNCTION sly(int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM pg_catalog.nextval(''s''); RETURN true; END';
         CREATE SCHEMA evil; CREATE FUNCTION evil.abs(int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT nextval(''public.s'')::int';
         CREATE FUNCTION eq(int, int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN PERFORM pg_catalog.nextval(''s''); RETURN true; END';
         CREATE OPERATOR === (FUNCTION = eq, LEFTARG = int, RIGHTARG = int);
         CREATE VIEW v AS SELECT id FROM t WHERE sly(1); CREATE VIEW vv AS SELECT * FROM v",
        )
        .await;
    client.writable = true;
    let calls = |condition, functions| Build { condition, functions, ..Build::default() }.said();
    for (said, what) in [
        (calls("nextval('s') > 0", &["nextval"][..]), "nextval()"),
        (calls("sly(1)", &["sly"]), "sly()"),
        (calls("public.sly(1)", &["public.sly"]), "public.sly()"),
        (calls("evil.abs(1) > 0", &["evil.abs"]), "evil.abs()"),
        (calls("setval('s', 9) > 0", &["setval"]), "setval()"),
        (calls("pg_sleep(9) IS NULL", &["pg_sleep"]), "pg_sleep()"),
        (calls("id === 1", &[]), "==="),
        (Build { target: "vv", ..Build::default() }.said(), "sly()"),
    ] {
        let evidence = ask(&mut client, &said).await;
        assert!(reason(&evidence.rows).contains(what), "{}: {:?}", said.text, evidence.rows);
        assert!(evidence.sample.known().is_none() && evidence.scan.known().is_none());
    }
    assert_eq!(
        rows(&mut client, &calls("pg_catalog.abs(id) = 1", &["pg_catalog.abs"])).await,
        Known::Known(Rows::Exact(1))
    );
    assert_eq!(rows(&mut client, &calls("abs(id) = 1", &["abs"])).await, Known::Known(Rows::Exact(1)));
    client.run("SET search_path = evil, pg_catalog, public").await;
    assert!(reason(&rows(&mut client, &calls("abs(id) > 0", &["abs"])).await).contains("abs()"));
    client.run("SET search_path = public").await;
    // What is only set does not keep rows from being counted, nor the sample from being shown as it is now.
    let set = Build { verb: Verb::Update, set: &[("id", "nextval('s')")], functions: &["nextval"], ..Build::default() }
        .said();
    let evidence = ask(&mut client, &set).await;
    assert_eq!(evidence.rows, Known::Known(Rows::Exact(2)));
    assert_eq!(evidence.sample.known().map(|sample| sample.rows.len()), Some(2));
    assert_eq!(client.value("SELECT is_called FROM s").await.as_deref(), Some("f"));
}

/// The reader's own names of functions are understood: ordinary conditions are counted.
#[tokio::test(flavor = "current_thread")]
async fn ordinary_texts_are_read_and_counted() {
    let server = Server::get();
    let mut client = server
        .client(
            "CREATE TABLE t (id int, s text, d timestamptz); INSERT INTO t SELECT g, 'Ab' || g, now() FROM generate_series(1, 9) g;
         CREATE SCHEMA \"Own One\"; CREATE FUNCTION \"Own One\".\"F.x\"(int) RETURNS int LANGUAGE sql AS 'SELECT $1'",
        )
        .await;
    for (condition, counted) in [
        ("coalesce(id, 0) > 4 AND nullif(id, 9) IS NOT NULL", Some(4)),
        ("extract(year FROM d) > 1 AND d < now() + interval '1 day' AND d <= CURRENT_TIMESTAMP", Some(9)),
        ("substring(s FROM 1 FOR 2) = 'Ab' AND trim(both ' ' from s) <> '' AND position('b' in s) = 2", Some(9)),
        ("greatest(id, 5) = 5 AND least(id, 1) = 1 AND pg_catalog.upper(s) LIKE 'AB%'", Some(5)),
        ("id IN (SELECT generate_series(1, 3)) AND id = ANY (ARRAY[1, 2]) AND EXISTS (SELECT 1)", Some(2)),
        ("(SELECT count(*) OVER () FROM t AS u LIMIT 1) = 9 AND id = (SELECT max(id) FROM t)", Some(1)),
        ("s COLLATE \"C\" > 'Ab5' AND CAST(id AS text) ~ '^[6-8]$' AND d::date = CURRENT_DATE", Some(3)),
        ("overlay(s placing 'x' from 1) <> s AND normalize(s) = s AND s IS NORMALIZED", Some(9)),
        ("d AT TIME ZONE 'UTC' < '2999-01-01' AND (d, d) OVERLAPS (d, d) AND s SIMILAR TO 'Ab_'", Some(9)),
        ("CURRENT_USER = session_user AND current_schema() = 'public' AND current_catalog IS NOT NULL", Some(9)),
        ("\"Own One\".\"F.x\"(id) > 0", None),
        ("random() < 2", None),
        ("pg_advisory_lock(1) IS NULL", None),
        ("id = (SELECT lo_unlink(1))", None),
        ("EXISTS (SELECT FROM pg_terminate_backend(1))", None),
    ] {
        let text = format!("DELETE FROM t WHERE {condition}");
        let statement = sluice::sql::read(&text, LexicalMode::default()).statements.remove(0);
        let said = Said { text: text[statement.span.clone()].to_owned(), facts: statement.facts };
        let expected = counted.map(|n| Known::Known(Rows::Exact(n)));
        let found = rows(&mut client, &said).await;
        assert!(expected.as_ref().map_or(found.known().is_none(), |expected| *expected == found), "{text}: {found:?}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_hostile_search_path_fools_nobody() {
    let server = Server::get();
    let mut client = server
        .client(
            "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 9);
         CREATE TABLE c (t int REFERENCES t ON DELETE CASCADE); INSERT INTO c SELECT generate_series(1, 9); CREATE SCHEMA evil;
         CREATE FUNCTION evil.no(int, int) RETURNS bool LANGUAGE sql AS 'SELECT false';
         CREATE FUNCTION evil.no(oid, oid) RETURNS bool LANGUAGE sql AS 'SELECT false';
         CREATE FUNCTION evil.no(\"char\", \"char\") RETURNS bool LANGUAGE sql AS 'SELECT false';
         CREATE FUNCTION evil.no(tid, tid) RETURNS bool LANGUAGE sql AS 'SELECT false';
         CREATE OPERATOR evil.= (FUNCTION = evil.no, LEFTARG = int, RIGHTARG = int);
         CREATE OPERATOR evil.= (FUNCTION = evil.no, LEFTARG = oid, RIGHTARG = oid);
         CREATE OPERATOR evil.= (FUNCTION = evil.no, LEFTARG = \"char\", RIGHTARG = \"char\");
         CREATE OPERATOR evil.= (FUNCTION = evil.no, LEFTARG = tid, RIGHTARG = tid);
         CREATE OPERATOR evil.<> (FUNCTION = evil.no, LEFTARG = \"char\", RIGHTARG = \"char\");
         CREATE TABLE evil.pg_class (LIKE pg_catalog.pg_class); CREATE TABLE evil.pg_constraint (LIKE pg_catalog.pg_constraint);
         CREATE FUNCTION evil.to_regclass(text) RETURNS regclass LANGUAGE sql AS 'SELECT NULL::regclass';
         CREATE FUNCTION evil.row_security_active(oid) RETURNS bool LANGUAGE sql AS 'SELECT false';
         CREATE FUNCTION evil.step(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint';
         CREATE AGGREGATE evil.count(*) (SFUNC = evil.step, STYPE = bigint, INITCOND = '0');
         CREATE DOMAIN evil.int8 AS text; CREATE DOMAIN evil.oid AS text; CREATE DOMAIN evil.text AS int;
         SET search_path = evil, pg_catalog, public",
        )
        .await;
    let evidence = ask(&mut client, &delete("t", "id > 4")).await;
    assert_eq!(evidence.table.known().map(|table| table.referenced_by.len()), Some(1), "{:?}", evidence.table);
    assert_eq!(evidence.rows, Known::Known(Rows::Exact(5)));
    assert_eq!(tree(&evidence), ["public.c Cascade Exact(5)"]);
    let evidence = ask(&mut client, &delete("t", "id = 4")).await;
    assert!(reason(&evidence.rows).contains('='), "{:?}", evidence.rows);
    let truncated = ask_with(&mut client, &removal(Removed::Rows, "t", true), EVERYTHING, None, 100).await;
    assert_eq!(truncated.removals[0].tables.known().map(Vec::len), Some(2), "{truncated:?}");
}

#[tokio::test(flavor = "current_thread")]
async fn views_and_rules_are_not_taken_for_tables() {
    let server = Server::get();
    let mut client = server
        .client(
            "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 9);
         CREATE TABLE c (t int REFERENCES t ON DELETE CASCADE); CREATE TABLE u (t int REFERENCES t ON UPDATE CASCADE);
         CREATE VIEW v AS SELECT id AS other FROM t; CREATE VIEW w AS SELECT id FROM t; CREATE VIEW vv AS SELECT other FROM v;
         CREATE VIEW ww AS SELECT id FROM w; CREATE VIEW grouped AS SELECT id FROM t GROUP BY id;
         CREATE TABLE hidden (id int); ALTER TABLE hidden ENABLE ROW LEVEL SECURITY; CREATE VIEW seen AS SELECT id FROM hidden;
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER instead INSTEAD OF DELETE ON w FOR EACH ROW EXECUTE FUNCTION f();
         CREATE TABLE r (id int PRIMARY KEY); CREATE RULE others AS ON DELETE TO r DO INSTEAD DELETE FROM t;
         CREATE VIEW ruled AS SELECT id FROM r",
        )
        .await;
    for (view, maps) in [
        ("v", true),
        ("vv", true),
        ("w", false),
        ("ww", false),
        ("grouped", false),
        ("seen", false),
        ("ruled", false),
        ("t", false),
    ] {
        assert_eq!(table(&mut client, view).await.maps_to_one, maps, "{view}");
    }
    // The view calls the key by another name.
    let renamed =
        Build { verb: Verb::Update, target: "v", set: &[("other", "other + 100")], ..Build::default() }.said();
    assert_eq!(tree(&ask(&mut client, &renamed).await), ["public.u Cascade Unknown"]);
    let evidence = ask(&mut client, &delete("v", "other > 4")).await;
    assert_eq!(evidence.rows, Known::Known(Rows::Exact(5)));
    assert_eq!(tree(&evidence), ["public.c Cascade Unknown"]);
    assert!(reason(&rows(&mut client, &delete("w", "")).await).contains("instead"));
    let pinned = Build { target: "r", condition: "id = 1", pinned: &["id"], ..Build::default() }.said();
    assert!(reason(&rows(&mut client, &pinned).await).contains("a rule on public.r"));
}

#[tokio::test(flavor = "current_thread")]
async fn nothing_is_asked_that_was_not_wanted() {
    let server = Server::get();
    let mut client = server.client("CREATE TABLE t (id int PRIMARY KEY)").await;
    let said = Build { condition: "id = 1", pinned: &["id"], ..Build::default() }.said();
    let evidence = ask_with(&mut client, &said, Questions::default(), None, 100).await.changes.remove(0);
    assert_eq!((evidence.table, evidence.rows, client.asked), (Known::NotAsked, Known::NotAsked, 0));
    // One question for the table, none for what its key tells.
    assert_eq!((rows(&mut client, &said).await, client.asked), (Known::Known(Rows::AtMost(1)), 1));
}

#[tokio::test(flavor = "current_thread")]
async fn a_preview_reads_as_promised() {
    let server = Server::get();
    let mut client = server
        .client(
            "CREATE TABLE carts (id int PRIMARY KEY, status text, note text); CREATE INDEX carts_status_idx ON carts (status);
         INSERT INTO carts SELECT g, CASE WHEN g <= 1248 THEN 'abandoned' ELSE 'open' END, CASE g WHEN 1 THEN E'two\\nlines' END
           FROM generate_series(1, 40000) g;
         CREATE TABLE cart_items (id int PRIMARY KEY, cart_id int REFERENCES carts ON DELETE CASCADE);
         INSERT INTO cart_items SELECT g, g % 40000 + 1 FROM generate_series(1, 80000) g;
         CREATE TABLE item_notes (item_id int REFERENCES cart_items ON DELETE CASCADE);
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER carts_audit AFTER DELETE ON carts FOR EACH ROW EXECUTE FUNCTION f();
         CREATE INDEX ON cart_items (cart_id); ANALYZE",
        )
        .await;
    let said = delete("carts", "status = 'abandoned'");
    let evidence = ask_with(&mut client, &said, EVERYTHING, None, 50_000).await;
    let found = |rule, message: &str| Judged {
        finding: Finding {
            rule,
            about: About::Change(0),
            message: message.to_owned(),
            instead: None,
            bend: Default::default(),
        },
        level: Level::Confirm,
        origin: "preset standard".into(),
    };
    let judged = [found("unbatched-change", "1,248 rows > 1,000"), found("cascade", "2,496 rows")];
    let sizes = Sizes { sample_rows: 2, ..Sizes::default() };
    let promised = promise::promise(&evidence);
    let offer = Offer {
        token: Some("K7QF-2M9X".into()),
        valid: sizes.token_ttl,
        at_most: promised.at_most(sizes.tolerance),
        manner: Default::default(),
    };
    let preview = preview::render_judged(&said.facts, &evidence, &judged, &sizes, &offer);
    let message =
        "sluice: this would delete 1,248 of 40,000 rows of public.carts (3.1 %), and 2,496 rows more by cascade";
    assert_eq!(preview.message, message);
    assert_eq!(
        preview.detail,
        "rules: unbatched-change (1,248 rows > 1,000), cascade (2,496 rows)
  public.carts           1,248   delete
  └ public.cart_items    2,496   delete   cart_items_cart_id_fkey ON DELETE CASCADE
    └ public.item_notes      0            item_notes_item_id_fkey ON DELETE CASCADE
  no index on public.item_notes (item_id): every row above reads the whole table
  fires: carts_audit (AFTER DELETE, each row)
  reads: Index Scan using carts_status_idx
  first 2 rows:
   id | status    | note
   1  | abandoned | two\\nlines
   2  | abandoned | NULL"
    );
    assert_eq!(
        preview.hint,
        "To run it whole, in one transaction that is rolled back if it changes more:
  SLUICE CONFIRM 'K7QF-2M9X';      valid 10 minutes, once, for you, for at most 1,311 + 2,621 rows"
    );
    assert_eq!(promise::within(&promised, &promise::promise(&evidence), 5.0), Moved::No);
    client.run("ALTER TABLE carts ADD COLUMN more int").await;
    let later = promise::promise(&ask_with(&mut client, &said, EVERYTHING, None, 50_000).await);
    assert_eq!(promise::within(&promised, &later, 5.0), Moved::Shape);
}

#[tokio::test(flavor = "current_thread")]
async fn a_failed_question_leaves_the_next_askable() {
    let server = Server::get();
    let mut client = server.client("CREATE TABLE t (id int); INSERT INTO t VALUES (0)").await;
    assert!(client.ask("SELECT 1/0", None).await.is_err());
    let evidence = ask(&mut client, &delete("t", "1 / id = 1")).await;
    assert!(reason(&evidence.rows).contains("division by zero"));
    assert!(evidence.table.known().is_some_and(|table| table.exact_rows == Some(1)));
}
