//! What the database is asked about a statement, tried on a real PostgreSQL: one of its own, started here and stopped after.
//!
//! Each test has its own database in it. Changes are built by hand: how a text becomes facts is tried elsewhere.

mod ask;
mod build;

use ask::{Client, Server};
use build::{Build, Said, delete, name, removal};
use sluice::change::preview::{self, Offer};
use sluice::change::promise::{self, Moved};
use sluice::database::catalog::{self, Cache};
use sluice::database::evidence::{Inquiry, gather};
use sluice::database::{Ask, Parameters};
use sluice::policy::finding::{About, Finding, Level};
use sluice::policy::question::*;
use sluice::policy::settings::Sizes;
use sluice::policy::verdict::Judged;
use sluice::sql::facts::{Removed, Verb};
use sluice::sql::statement::LexicalMode;
use std::time::{Duration, Instant};

const EVERYTHING: Questions = Questions {
    table: true,
    rows: true,
    cascade: true,
    preview: true,
};
const ROWS: Questions = Questions {
    table: false,
    rows: true,
    cascade: false,
    preview: false,
};

async fn ask_with(
    client: &mut Client,
    said: &Said,
    asked: Questions,
    parameters: Option<&Parameters>,
    bound: u64,
) -> Evidence {
    let (changes, removals) = (
        vec![asked; said.facts.changes.len()],
        vec![asked; said.facts.removals.len()],
    );
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
    ask_with(client, said, EVERYTHING, None, 1000)
        .await
        .changes
        .remove(0)
}

async fn rows(client: &mut Client, said: &Said) -> Known<Rows> {
    ask_with(client, said, ROWS, None, 1000)
        .await
        .changes
        .remove(0)
        .rows
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
        let stopped = branch
            .stopped
            .as_ref()
            .map(|why| format!(" ({why})"))
            .unwrap_or_default();
        out.push(format!(
            "{}{} {:?} {rows}{stopped}",
            "  ".repeat(depth),
            branch.key.child.written,
            branch.action
        ));
        branch
            .below
            .iter()
            .for_each(|below| line(below, depth + 1, out));
    }
    let mut out = Vec::new();
    for branch in evidence
        .cascade
        .known()
        .unwrap_or_else(|| panic!("{:?}", evidence.cascade))
    {
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
    assert_eq!(
        (odd.schema.as_str(), odd.name.as_str(), odd.kind),
        ("public", "Odd Name", TableKind::Table)
    );
    assert_eq!(odd.primary_key, ["b", "Id"]);
    assert_eq!(odd.unique_keys, [vec!["b", "Id"], vec!["d"], vec!["Id"]]);
    let columns: Vec<_> = odd
        .columns
        .iter()
        .map(|c| (c.name.as_str(), c.not_null, c.generated))
        .collect();
    assert_eq!(
        columns,
        [
            ("Id", true, false),
            ("b", true, false),
            ("c", true, false),
            ("d", false, true)
        ]
    );
    let [key] = odd.referenced_by.as_slice() else {
        panic!("{:?}", odd.referenced_by)
    };
    assert_eq!(
        (key.child.written.as_str(), key.on_delete, key.on_update),
        ("public.child", Action::SetNull, Action::Cascade)
    );
    assert_eq!(
        (&key.child_columns, &key.parent_columns),
        (
            &vec!["y".into(), "x".into()],
            &vec!["b".into(), "Id".into()]
        )
    );
    assert!(key.child_indexed);
    let [trigger] = odd.triggers.as_slice() else {
        panic!("{:?}", odd.triggers)
    };
    assert_eq!(trigger.when, "AFTER INSERT OR DELETE, each row");
    client
        .run("ALTER TABLE \"Odd Name\" ADD COLUMN e int")
        .await;
    assert_ne!(table(&mut client, "\"Odd Name\"").await.shape, odd.shape);
    assert!(
        reason(&catalog::table(&mut client, &name("nowhere")).await).contains("does not exist")
    );
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
    let pinned = |target, only, pinned| {
        Build {
            target,
            only,
            pinned,
            condition: "a = 1",
            ..Build::default()
        }
        .said()
    };
    for (said, expected) in [
        (pinned("t", false, &["a", "b"]), Rows::Exact(6)),
        (pinned("t", true, &["b", "a"]), Rows::AtMost(1)),
        (pinned("t", true, &["a"]), Rows::Exact(1)),
        (pinned("heir", false, &["a", "b"]), Rows::Exact(5)),
        (pinned("p", false, &["a"]), Rows::AtMost(1)),
    ] {
        assert_eq!(
            rows(&mut client, &said).await,
            Known::Known(expected),
            "{}",
            said.text
        );
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
    let from = |from, condition| {
        Build {
            called: "x",
            from,
            condition,
            ..Build::default()
        }
        .said()
    };
    let with = Build {
        with: "WITH w AS (SELECT 3 AS g)",
        condition: "grp IN (SELECT g FROM w)",
        ..Build::default()
    };
    let update = Build {
        verb: Verb::Update,
        set: &[("grp", "0")],
        condition: "grp > 4",
        ..Build::default()
    };
    for (said, expected) in [
        (delete("t", ""), Rows::Exact(500)),
        (delete("public.T", "grp = 1 OR grp = 2"), Rows::Exact(100)),
        (from("u", "u.grp = x.grp"), Rows::Exact(100)),
        (with.said(), Rows::Exact(50)),
        (update.said(), Rows::Exact(250)),
        (delete("v", "grp = 1"), Rows::Exact(10)),
        (delete("p", "id > 7"), Rows::Exact(12)),
        (delete("base", ""), Rows::Exact(3)),
        (
            Build {
                target: "base",
                only: true,
                ..Build::default()
            }
            .said(),
            Rows::Exact(1),
        ),
    ] {
        assert_eq!(
            rows(&mut client, &said).await,
            Known::Known(expected),
            "{}",
            said.text
        );
    }
    let bounded = ask_with(&mut client, &delete("t", ""), ROWS, None, 99).await;
    assert_eq!(bounded.changes[0].rows, Known::Known(Rows::AtLeast(100)));
    client
        .run("CREATE TEMP TABLE t (id int); INSERT INTO t VALUES (1)")
        .await;
    assert_eq!(
        rows(&mut client, &delete("t", "")).await,
        Known::Known(Rows::Exact(1))
    );
    assert_eq!(table(&mut client, "t").await.kind, TableKind::Temporary);
    assert_eq!(
        rows(&mut client, &delete("public.t", "")).await,
        Known::Known(Rows::Exact(500))
    );
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
    let said = Build {
        condition: "id > $1 AND s <> $2",
        parameters: 2,
        ..Build::default()
    }
    .said();
    let parameters = Parameters {
        types: vec![23, 25],
        formats: vec![],
        values: vec![Some("10".into()), Some("x11".into())],
    };
    let evidence = ask_with(&mut client, &said, EVERYTHING, Some(&parameters), 1000)
        .await
        .changes
        .remove(0);
    assert_eq!(evidence.rows, Known::Known(Rows::Exact(9)));
    assert_eq!(tree(&evidence), ["public.c Cascade Exact(9)"]);
    assert!(reason(&rows(&mut client, &said).await).contains("no values yet"));
}

#[tokio::test(flavor = "current_thread")]
async fn cascades_are_followed_over_all_levels_and_actions() {
    let server = Server::get();
    let mut client = server
        .client(
            "CREATE TABLE a (id int PRIMARY KEY, k int UNIQUE); INSERT INTO a SELECT g, g FROM generate_series(1, 10) g;
         CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a ON DELETE CASCADE ON UPDATE CASCADE);
         INSERT INTO b SELECT g, 1 + g % 10 FROM generate_series(1, 100) g;
         CREATE TABLE c (id int PRIMARY KEY, b int REFERENCES b ON DELETE CASCADE);
         INSERT INTO c SELECT g, g % 100 + 1 FROM generate_series(1, 200) g;
         CREATE TABLE d (c int REFERENCES c ON DELETE SET NULL); INSERT INTO d SELECT generate_series(1, 200);
         CREATE TABLE e (a int DEFAULT 1 REFERENCES a ON DELETE SET DEFAULT); INSERT INTO e VALUES (3), (4);
         CREATE TABLE f (a int REFERENCES a ON DELETE RESTRICT, k int REFERENCES a (k) ON UPDATE SET NULL); INSERT INTO f VALUES (1, 1);
         CREATE TABLE g (a int UNIQUE REFERENCES a ON DELETE SET NULL); INSERT INTO g VALUES (3);
         CREATE TABLE h (g int REFERENCES g (a) ON UPDATE CASCADE ON DELETE CASCADE); INSERT INTO h VALUES (3), (3)",
        )
        .await;
    let evidence = ask(&mut client, &delete("a", "id <= 3")).await;
    let expected = [
        "public.b Cascade Exact(30)",
        "  public.c Cascade Exact(60)",
        "    public.d SetNull Exact(60)",
        "public.e SetDefault Exact(1)",
        "public.g SetNull Exact(1)",
        "  public.h Cascade AtMost(2)",
    ];
    assert_eq!(tree(&evidence), expected);
    let update = |set| {
        Build {
            verb: Verb::Update,
            target: "a",
            set,
            condition: "id <= 3",
            ..Build::default()
        }
        .said()
    };
    assert_eq!(
        tree(&ask(&mut client, &update(&[("id", "id + 100")])).await),
        ["public.b Cascade AtMost(30)"]
    );
    assert_eq!(
        tree(&ask(&mut client, &update(&[("k", "0")])).await),
        ["public.f SetNull AtMost(1)"]
    );
    assert!(tree(&ask(&mut client, &delete("d", "")).await).is_empty());
}

#[tokio::test(flavor = "current_thread")]
async fn no_row_is_counted_twice() {
    let server = Server::get();
    let mut client = server
        .client(
            "CREATE TABLE tree (id int PRIMARY KEY, up int REFERENCES tree ON DELETE CASCADE);
         INSERT INTO tree SELECT g, nullif(g - 1, 0) FROM generate_series(1, 60) g;
         CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a SELECT generate_series(1, 4);
         CREATE TABLE b (id int PRIMARY KEY REFERENCES a ON DELETE CASCADE); INSERT INTO b SELECT generate_series(1, 4);
         CREATE TABLE c (id int PRIMARY KEY REFERENCES a ON DELETE CASCADE); INSERT INTO c SELECT generate_series(1, 4);
         CREATE TABLE d (b int REFERENCES b ON DELETE CASCADE, c int REFERENCES c ON DELETE CASCADE);
         INSERT INTO d VALUES (1, 1), (1, 2), (3, 1), (4, 4);
         CREATE TABLE x (id int PRIMARY KEY, y int); CREATE TABLE y (id int PRIMARY KEY, x int REFERENCES x ON DELETE CASCADE);
         INSERT INTO x SELECT g, NULL FROM generate_series(1, 60) g; INSERT INTO y SELECT g, g FROM generate_series(1, 60) g;
         ALTER TABLE x ADD FOREIGN KEY (y) REFERENCES y ON DELETE CASCADE; UPDATE x SET y = id - 1 WHERE id BETWEEN 2 AND 5",
        )
        .await;
    for (said, expected) in [
        // A chain of 60: the rows that the DELETE names itself are not counted again.
        (
            delete("tree", "id = 10"),
            vec!["public.tree Cascade Exact(50)"],
        ),
        (
            delete("tree", "id >= 10"),
            vec!["public.tree Cascade Exact(0)"],
        ),
        // The row (1, 1) is reached both ways.
        (
            delete("a", "id = 1"),
            vec![
                "public.b Cascade Exact(1)",
                "  public.d Cascade Exact(2)",
                "public.c Cascade Exact(1)",
                "  public.d Cascade Exact(1)",
            ],
        ),
        // x3 → y3 → x4 → y4 → x5 → y5.
        (
            delete("x", "id = 3"),
            vec![
                "public.y Cascade Exact(1)",
                "  public.x Cascade Exact(1)",
                "    public.y Cascade Exact(1)",
                "      public.x Cascade Exact(1)",
                "        public.y Cascade Exact(1)",
                "          public.x Cascade Exact(0)",
            ],
        ),
    ] {
        assert_eq!(
            tree(&ask(&mut client, &said).await),
            expected,
            "{}",
            said.text
        );
    }
    client.run("UPDATE x SET y = id - 1 WHERE id > 5").await;
    let long = tree(&ask(&mut client, &delete("x", "id = 3")).await);
    assert_eq!(long.len(), 16, "{long:?}");
    assert!(long[15].ends_with("(16 levels)"));
}

/// Foreign keys between any of four tables, some cycles: what is foretold is what the server then does.
#[tokio::test(flavor = "current_thread")]
async fn foretold_rows_are_the_rows_that_go() {
    let server = Server::get();
    let mut client = server.client("").await;
    let mut state = 7_u64;
    let mut dice = |sides: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % sides
    };
    let mut exact = 0;
    for round in 0..40 {
        let mut setup = "DROP TABLE IF EXISTS t0, t1, t2, t3 CASCADE;".to_owned();
        for table in 0..4 {
            setup += &format!("CREATE TABLE t{table} (id int PRIMARY KEY, r0 int, r1 int);");
            for id in 1..=12 {
                setup += &format!(
                    "INSERT INTO t{table} VALUES ({id}, {}, {});",
                    1 + dice(12),
                    1 + dice(12)
                );
            }
        }
        for table in 0..4 {
            for column in 0..2 {
                let action = if dice(3) == 0 { "SET NULL" } else { "CASCADE" };
                setup += &format!(
                    "ALTER TABLE t{table} ADD FOREIGN KEY (r{column}) REFERENCES t{} ON DELETE {action};",
                    dice(4)
                );
                setup += &format!(
                    "UPDATE t{table} SET r{column} = NULL WHERE id % 3 = {};",
                    dice(3)
                );
            }
        }
        client.run(&setup).await;
        let said = delete("t0", "id <= 2");
        let evidence = ask(&mut client, &said).await;
        let mut foretold = [2, 0, 0, 0];
        let mut whole = true;
        sum_deleted(
            evidence
                .cascade
                .known()
                .unwrap_or_else(|| panic!("{evidence:?}")),
            &mut foretold,
            &mut whole,
        );
        client.run(&format!("BEGIN; {}", said.text)).await;
        for (table, foretold) in foretold.into_iter().enumerate() {
            let left = client
                .value(&format!("SELECT count(*) FROM t{table}"))
                .await;
            let gone = 12
                - left
                    .and_then(|left| left.parse::<u64>().ok())
                    .unwrap_or_default();
            assert!(
                gone == foretold || (!whole && foretold < gone),
                "round {round}: t{table}: {gone} went, {foretold} foretold: {setup} {:#?}",
                tree(&evidence)
            );
        }
        client.run("ROLLBACK").await;
        exact += u32::from(whole);
    }
    assert!(exact >= 20, "{exact}");
}

fn sum_deleted(branches: &[Cascade], sums: &mut [u64; 4], whole: &mut bool) {
    for branch in branches {
        *whole &= branch.stopped.is_none();
        let table: usize = branch
            .key
            .child
            .written
            .trim_start_matches("public.t")
            .parse()
            .expect("a number");
        if branch.action == Action::Cascade
            && branch.key.on_delete == Action::Cascade
            && matches!(branch.rows, Known::Known(Rows::Exact(_)))
        {
            sums[table] += branch.rows.known().map_or(0, |rows| rows.number());
        }
        sum_deleted(&branch.below, sums, whole);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn partitions_stand_in_a_cascade_once() {
    let server = Server::get();
    let mut client = server
        .client(
            "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
         CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20); INSERT INTO p SELECT generate_series(0, 19);
         CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p ON DELETE CASCADE) PARTITION BY RANGE (id);
         CREATE TABLE c1 PARTITION OF c FOR VALUES FROM (0) TO (1000); INSERT INTO c SELECT g, g % 20 FROM generate_series(0, 99) g;
         CREATE TABLE n (c int REFERENCES c ON DELETE CASCADE); INSERT INTO n SELECT generate_series(0, 99);
         CREATE TABLE l (p int REFERENCES p1 ON DELETE CASCADE); INSERT INTO l VALUES (1), (9)",
        )
        .await;
    let two = [
        "public.c Cascade Exact(50)",
        "  public.n Cascade Exact(50)",
        "public.l Cascade Exact(2)",
    ];
    assert_eq!(tree(&ask(&mut client, &delete("p", "id < 10")).await), two);
    assert_eq!(tree(&ask(&mut client, &delete("p1", "")).await), two);
    assert_eq!(table(&mut client, "p").await.children, 2);
}

#[tokio::test(flavor = "current_thread")]
async fn what_may_not_be_read_is_unknown() {
    let server = Server::get();
    let mut client = server
        .client(
            "CREATE TABLE a (id int PRIMARY KEY, owner text); INSERT INTO a VALUES (1, 'ann'), (2, 'bob'), (3, 'ann');
         CREATE TABLE b (a int REFERENCES a ON DELETE CASCADE); CREATE TABLE c (a int REFERENCES a ON DELETE CASCADE);
         INSERT INTO b VALUES (1); INSERT INTO c VALUES (1);
         CREATE TABLE z (id int); ALTER TABLE a ENABLE ROW LEVEL SECURITY; ALTER TABLE c ENABLE ROW LEVEL SECURITY;
         CREATE POLICY mine ON a USING (owner = 'ann'); CREATE POLICY none ON c USING (false);
         CREATE ROLE ann; GRANT ALL ON a, c TO ann; GRANT DELETE ON z TO ann; SET ROLE ann",
        )
        .await;
    let evidence = ask(&mut client, &delete("a", "id > 0")).await;
    assert_eq!(evidence.rows, Known::Known(Rows::Exact(2)));
    assert_eq!(
        tree(&evidence),
        ["public.b Cascade Unknown", "public.c Cascade Unknown"]
    );
    let branches = evidence.cascade.known().cloned().unwrap_or_default();
    assert!(reason(&branches[0].rows).contains("permission denied"));
    assert!(reason(&branches[1].rows).contains("row security"));
    // A DELETE that reads nothing is not held to what may be read.
    assert_eq!(
        rows(&mut client, &delete("a", "")).await,
        Known::Known(Rows::AtLeast(2))
    );
    assert!(reason(&rows(&mut client, &delete("z", "")).await).contains("permission denied"));
}

#[tokio::test(flavor = "current_thread")]
async fn time_that_runs_out_leaves_an_estimate() {
    let server = Server::get();
    let mut client = server
        .client("CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 1000); ANALYZE t")
        .await;
    client.limit = Duration::from_millis(200);
    let slow = "id > 0 AND (SELECT count(*) FROM generate_series(1, 100000000) g, generate_series(1, id) h) > 0";
    let said = Build {
        condition: slow,
        functions: &["count", "generate_series"],
        ..Build::default()
    }
    .said();
    let start = Instant::now();
    let evidence = ask(&mut client, &said).await;
    assert!(
        matches!(evidence.rows, Known::Known(Rows::Estimate(n)) if n > 0 && n <= 1000),
        "{:?}",
        evidence.rows
    );
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
    let calls = |condition, functions| {
        Build {
            condition,
            functions,
            ..Build::default()
        }
        .said()
    };
    for (said, what) in [
        (calls("nextval('s') > 0", &["nextval"][..]), "nextval()"),
        (calls("sly(1)", &["sly"]), "sly()"),
        (calls("public.sly(1)", &["public.sly"]), "public.sly()"),
        (calls("evil.abs(1) > 0", &["evil.abs"]), "evil.abs()"),
        (calls("setval('s', 9) > 0", &["setval"]), "setval()"),
        (calls("pg_sleep(9) IS NULL", &["pg_sleep"]), "pg_sleep()"),
        (calls("id === 1", &[]), "==="),
        (
            Build {
                target: "vv",
                ..Build::default()
            }
            .said(),
            "sly()",
        ),
    ] {
        let evidence = ask(&mut client, &said).await;
        assert!(
            reason(&evidence.rows).contains(what),
            "{}: {:?}",
            said.text,
            evidence.rows
        );
        assert!(evidence.sample.known().is_none() && evidence.scan.known().is_none());
    }
    assert_eq!(
        rows(
            &mut client,
            &calls("pg_catalog.abs(id) = 1", &["pg_catalog.abs"])
        )
        .await,
        Known::Known(Rows::Exact(1))
    );
    assert_eq!(
        rows(&mut client, &calls("abs(id) = 1", &["abs"])).await,
        Known::Known(Rows::Exact(1))
    );
    client
        .run("SET search_path = evil, pg_catalog, public")
        .await;
    assert!(reason(&rows(&mut client, &calls("abs(id) > 0", &["abs"])).await).contains("abs()"));
    client.run("SET search_path = public").await;
    // What is only set does not keep rows from being counted, nor the sample from being shown as it is now.
    let set = Build {
        verb: Verb::Update,
        set: &[("id", "nextval('s')")],
        functions: &["nextval"],
        ..Build::default()
    }
    .said();
    let evidence = ask(&mut client, &set).await;
    assert_eq!(evidence.rows, Known::Known(Rows::Exact(2)));
    assert_eq!(
        evidence.sample.known().map(|sample| sample.rows.len()),
        Some(2)
    );
    assert_eq!(
        client.value("SELECT is_called FROM s").await.as_deref(),
        Some("f")
    );
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
    assert_eq!(
        evidence
            .table
            .known()
            .map(|table| table.referenced_by.len()),
        Some(1),
        "{:?}",
        evidence.table
    );
    assert_eq!(evidence.rows, Known::Known(Rows::Exact(5)));
    assert_eq!(tree(&evidence), ["public.c Cascade Exact(5)"]);
    let evidence = ask(&mut client, &delete("t", "id = 4")).await;
    assert!(reason(&evidence.rows).contains('='), "{:?}", evidence.rows);
    let truncated = ask_with(
        &mut client,
        &removal(Removed::Rows, "t", true),
        EVERYTHING,
        None,
        100,
    )
    .await;
    assert_eq!(
        truncated.removals[0].tables.known().map(Vec::len),
        Some(2),
        "{truncated:?}"
    );
}

#[tokio::test(flavor = "current_thread")]
async fn views_and_rules_are_not_taken_for_tables() {
    let server = Server::get();
    let mut client = server
        .client(
            "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 9);
         CREATE TABLE c (t int REFERENCES t ON DELETE CASCADE);
         CREATE VIEW v AS SELECT id AS other FROM t; CREATE VIEW w AS SELECT id FROM t;
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER instead INSTEAD OF DELETE ON w FOR EACH ROW EXECUTE FUNCTION f();
         CREATE TABLE r (id int PRIMARY KEY); CREATE RULE others AS ON DELETE TO r DO INSTEAD DELETE FROM t",
        )
        .await;
    let evidence = ask(&mut client, &delete("v", "other > 4")).await;
    assert_eq!(evidence.rows, Known::Known(Rows::Exact(5)));
    assert_eq!(tree(&evidence), ["public.c Cascade Unknown"]);
    assert!(reason(&rows(&mut client, &delete("w", "")).await).contains("instead"));
    let pinned = Build {
        target: "r",
        condition: "id = 1",
        pinned: &["id"],
        ..Build::default()
    }
    .said();
    assert!(reason(&rows(&mut client, &pinned).await).contains("a rule on public.r"));
}

#[tokio::test(flavor = "current_thread")]
async fn removals_list_all_that_goes() {
    let server = Server::get();
    let mut client = server
        .client(
            "CREATE SCHEMA s; CREATE TABLE s.a (id int PRIMARY KEY, note text, twice int GENERATED ALWAYS AS (id * 2) STORED);
         INSERT INTO s.a VALUES (1, 'x'), (2, NULL);
         CREATE TABLE s.b (a int REFERENCES s.a, id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY); INSERT INTO s.b VALUES (1);
         CREATE TABLE public.c (b int REFERENCES s.b ON DELETE SET NULL); INSERT INTO public.c VALUES (NULL), (NULL), (NULL);
         CREATE VIEW public.v AS SELECT note FROM s.a; CREATE MATERIALIZED VIEW public.m AS SELECT id FROM s.a;
         CREATE TABLE s.p (id int) PARTITION BY RANGE (id); CREATE TABLE s.p1 PARTITION OF s.p FOR VALUES FROM (0) TO (10);
         INSERT INTO s.p VALUES (1); ANALYZE",
        )
        .await;
    let listed = |evidence: &Evidence| -> Vec<String> {
        let tables = evidence.removals[0]
            .tables
            .known()
            .unwrap_or_else(|| panic!("{evidence:?}"));
        tables
            .iter()
            .map(|t| {
                format!(
                    "{} {:?} {}",
                    t.name.written,
                    t.rows,
                    t.because.as_deref().unwrap_or("-")
                )
            })
            .collect()
    };
    let a = "s.a Exact(2) -";
    for (said, expected, dependents) in [
        (removal(Removed::Rows, "s.a", false), vec![a], vec![]),
        (
            removal(Removed::Rows, "s.a", true),
            vec![a, "public.c Exact(3) c_b_fkey", "s.b Exact(1) b_a_fkey"],
            vec![],
        ),
        (
            removal(Removed::Rows, "s.p", false),
            vec!["s.p Exact(0) -", "s.p1 Exact(1) partition"],
            vec![],
        ),
        (
            removal(Removed::Table, "s.p", false),
            vec!["s.p Exact(0) -", "s.p1 Exact(1) partition"],
            vec![],
        ),
        (removal(Removed::Table, "s.a", false), vec![a], vec![]),
        (
            removal(Removed::Table, "s.a", true),
            vec![a, "public.m Exact(2) materialized view"],
            vec!["constraint b_a_fkey on table s.b", "view v"],
        ),
        (
            removal(Removed::Schema, "s", true),
            vec![
                "public.m Exact(2) materialized view",
                "s.a Exact(2) in the schema",
                "s.b Exact(1) in the schema",
                "s.p Exact(0) in the schema",
                "s.p1 Exact(1) partition",
            ],
            vec!["constraint c_b_fkey on table c", "view v"],
        ),
        (
            removal(Removed::Column("note".into()), "s.a", true),
            vec!["s.a Exact(1) values in column note that are not NULL"],
            vec!["view v"],
        ),
        (
            removal(Removed::Column("id".into()), "s.a", true),
            vec![
                "s.a Exact(2) values in column id that are not NULL",
                "public.m Exact(2) materialized view",
            ],
            vec![
                "column twice of table s.a",
                "constraint b_a_fkey on table s.b",
            ],
        ),
    ] {
        let evidence = ask_with(&mut client, &said, EVERYTHING, None, 100).await;
        assert_eq!(listed(&evidence), expected, "{:?}", said.facts.removals);
        assert_eq!(
            evidence.removals[0].dependents,
            Known::Known(dependents.iter().map(|d| d.to_string()).collect()),
            "{:?}",
            said.facts.removals
        );
    }
    let database = client
        .value("SELECT current_database()")
        .await
        .unwrap_or_default();
    let evidence = ask_with(
        &mut client,
        &removal(Removed::Database, &database, false),
        EVERYTHING,
        None,
        100,
    )
    .await;
    assert!(
        evidence.removals[0]
            .tables
            .known()
            .is_some_and(|tables| tables[0].bytes > 1_000_000)
    );
    let missing = ask_with(
        &mut client,
        &removal(Removed::Table, "nowhere", false),
        EVERYTHING,
        None,
        100,
    )
    .await;
    assert!(reason(&missing.removals[0].tables).contains("does not exist"));
    let kind = ask_with(
        &mut client,
        &removal(Removed::Other("type".into()), "kind", true),
        EVERYTHING,
        None,
        100,
    )
    .await;
    assert!(reason(&kind.removals[0].tables).contains("TYPE"));
}

#[tokio::test(flavor = "current_thread")]
async fn nothing_is_asked_that_was_not_wanted() {
    let server = Server::get();
    let mut client = server.client("CREATE TABLE t (id int PRIMARY KEY)").await;
    let said = Build {
        condition: "id = 1",
        pinned: &["id"],
        ..Build::default()
    }
    .said();
    let evidence = ask_with(&mut client, &said, Questions::default(), None, 100)
        .await
        .changes
        .remove(0);
    assert_eq!(
        (evidence.table, evidence.rows, client.asked),
        (Known::NotAsked, Known::NotAsked, 0)
    );
    // One question for the table, none for what its key tells.
    assert_eq!(
        (rows(&mut client, &said).await, client.asked),
        (Known::Known(Rows::AtMost(1)), 1)
    );
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
        },
        level: Level::Confirm,
        origin: "preset standard".into(),
    };
    let judged = [
        found("unbatched-change", "1,248 rows > 1,000"),
        found("cascade", ""),
    ];
    let sizes = Sizes {
        sample_rows: 2,
        ..Sizes::default()
    };
    let promised = promise::promise(&evidence);
    let offer = Offer {
        token: Some("K7QF-2M9X".into()),
        valid: sizes.token_ttl,
        at_most: promised.at_most(sizes.tolerance),
    };
    let preview = preview::render_judged(&said.facts, &evidence, &judged, &sizes, &offer);
    let message = "sluice: this would delete 1,248 of 40,000 rows of public.carts (3.1 %), and 2,496 rows more by cascade";
    assert_eq!(preview.message, message);
    assert_eq!(
        preview.detail,
        "rules: unbatched-change (1,248 rows > 1,000), cascade
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
    assert_eq!(
        promise::within(&promised, &promise::promise(&evidence), 5.0),
        Moved::No
    );
    client.run("ALTER TABLE carts ADD COLUMN more int").await;
    let later = promise::promise(&ask_with(&mut client, &said, EVERYTHING, None, 50_000).await);
    assert_eq!(promise::within(&promised, &later, 5.0), Moved::Shape);
}

#[tokio::test(flavor = "current_thread")]
async fn a_failed_question_leaves_the_next_askable() {
    let server = Server::get();
    let mut client = server
        .client("CREATE TABLE t (id int); INSERT INTO t VALUES (0)")
        .await;
    assert!(client.ask("SELECT 1/0", None).await.is_err());
    let evidence = ask(&mut client, &delete("t", "1 / id = 1")).await;
    assert!(reason(&evidence.rows).contains("division by zero"));
    assert!(
        evidence
            .table
            .known()
            .is_some_and(|table| table.exact_rows == Some(1))
    );
}
