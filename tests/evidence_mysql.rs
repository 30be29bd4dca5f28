//! What MySQL and MariaDB are asked about a statement, tried on both: one server of each, started here and stopped after.
//!
//! Each story is told of both products, in a database of its own; texts become facts as they do in a session.

#[path = "ask/mysql.rs"]
mod ask;
#[path = "evidence/mysql_effects.rs"]
mod effects;
#[path = "evidence/mysql_removals.rs"]
mod removals;

use ask::{Client, both};
use sluice::database::catalog::{self, Cache};
use sluice::database::evidence::{Inquiry, gather};
use sluice::policy::question::*;
use sluice::policy::settings::Sizes;
use sluice::protocol::Parameters;
use sluice::sql;
use sluice::sql::facts::{Facts, Name};
use std::time::Instant;

const EVERYTHING: Questions = Questions { table: true, rows: true, cascade: true, preview: true, plan: false };

pub fn facts(client: &Client, text: &str) -> Facts {
    let mut reading = sql::read(text, client.server.mode());
    assert_eq!(reading.statements.len(), 1, "{text}");
    let facts = reading.statements.remove(0).facts;
    assert_eq!(facts.unread, None, "{text}");
    facts
}

async fn evidence_of(client: &mut Client, text: &str, bound: u64, literals: &[&str]) -> Evidence {
    let facts = facts(client, text);
    let (changes, removals) = (vec![EVERYTHING; facts.changes.len()], vec![EVERYTHING; facts.removals.len()]);
    let literals = literals.iter().map(|one| (*one).to_owned()).collect();
    let parameters = Parameters { literals, ..Parameters::default() };
    let inquiry = Inquiry {
        text,
        mode: client.server.mode(),
        facts: &facts,
        changes: &changes,
        removals: &removals,
        parameters: (facts.parameters > 0).then_some(&parameters),
        sizes: &Sizes::default(),
        count_bound: bound,
        now: &Instant::now,
    };
    gather(client, &inquiry, &mut Cache::default()).await
}

async fn change(client: &mut Client, text: &str) -> ChangeEvidence {
    evidence_of(client, text, 1000, &[]).await.changes.remove(0)
}

async fn table(client: &mut Client, written: &str) -> Table {
    let product = client.server.product;
    let parts = written.split('.').map(str::to_owned).collect();
    match catalog::mysql::table(client, product, &Name { written: written.to_owned(), parts }).await {
        Known::Known(table) => table,
        other => panic!("{product:?}: {written}: {other:?}"),
    }
}

/// The tree as lines: depth, child, action, rows.
fn tree(evidence: &ChangeEvidence) -> Vec<String> {
    fn line(branch: &Cascade, depth: usize, out: &mut Vec<String>) {
        let rows = match &branch.rows {
            Known::Known(rows) => format!("{rows:?}"),
            Known::Unknown(why) => why.clone(),
            Known::NotAsked => "NotAsked".to_owned(),
        };
        let stopped = branch.stopped.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        let child = branch.key.child.parts.last().cloned().unwrap_or_default();
        out.push(format!("{}{child} {:?} {rows}{stopped}", "  ".repeat(depth), branch.action));
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
    for server in both() {
        let mut client = server.client(&[
            "CREATE TABLE `Odd ``Name` (`Id` int NOT NULL, b varchar(30) NOT NULL, c int, d int GENERATED ALWAYS AS (`Id` * 2) STORED, \
             g int GENERATED ALWAYS AS (`Id` * 3) VIRTUAL, e timestamp NULL DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (b, `Id`), \
             UNIQUE KEY pre (b(5)), UNIQUE KEY one (c), KEY other (e)) AUTO_INCREMENT=7",
            "CREATE TABLE child (x int, y varchar(30), FOREIGN KEY (y, x) REFERENCES `Odd ``Name` (b, `Id`) ON DELETE SET NULL ON UPDATE CASCADE)",
            "CREATE TRIGGER watch AFTER DELETE ON `Odd ``Name` FOR EACH ROW SET @gone = 1",
            "CREATE TABLE plain (a int) ENGINE=MyISAM",
            "CREATE VIEW seen AS SELECT a FROM plain",
            "CREATE TABLE parts (a int) PARTITION BY RANGE (a) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN MAXVALUE)",
        ]);
        let odd = table(&mut client, "Odd `Name").await;
        assert_eq!(
            (odd.schema.as_str(), odd.name.as_str(), odd.kind),
            (client.database.as_str(), "Odd `Name", TableKind::Table)
        );
        assert_eq!(odd.primary_key, ["b", "id"]);
        assert_eq!(
            odd.unique_keys,
            [vec!["b", "id"], vec!["c"], vec!["b"]],
            "a key over a column's beginning bounds it too"
        );
        let columns: Vec<_> = odd.columns.iter().map(|c| (c.name.as_str(), c.not_null, c.generated)).collect();
        assert_eq!(
            columns,
            [
                ("id", true, false),
                ("b", true, false),
                ("c", false, false),
                ("d", false, true),
                ("g", false, true),
                ("e", false, false)
            ]
        );
        let [key] = odd.referenced_by.as_slice() else { panic!("{:?}", odd.referenced_by) };
        assert_eq!(key.child.parts, [client.database.clone(), "child".to_owned()]);
        assert_eq!((key.on_delete, key.on_update), (Action::SetNull, Action::Cascade));
        assert_eq!(
            (&key.child_columns, &key.parent_columns),
            (&vec!["y".into(), "x".into()], &vec!["b".into(), "id".into()])
        );
        let [trigger] = odd.triggers.as_slice() else { panic!("{:?}", odd.triggers) };
        assert_eq!(trigger.when, "AFTER DELETE, each row");
        assert_eq!((odd.unseen_keys, odd.unseen_triggers, odd.keeps_no_transactions), (None, None, None));
        client.run("INSERT INTO `Odd ``Name` (`Id`, b) VALUES (1, 'x')");
        assert_eq!(table(&mut client, "Odd `Name").await.shape, odd.shape, "rows are no part of it");
        client.run("ALTER TABLE `Odd ``Name` ADD COLUMN h int");
        assert_ne!(table(&mut client, "Odd `Name").await.shape, odd.shape);

        let plain = table(&mut client, "plain").await;
        assert_eq!(plain.keeps_no_transactions.as_deref(), Some("MyISAM"));
        client.run("CREATE TEMPORARY TABLE plain (z int PRIMARY KEY)");
        let own = table(&mut client, "plain").await;
        assert_eq!(
            (own.kind, own.columns[0].name.as_str(), own.primary_key.as_slice()),
            (TableKind::Temporary, "z", &["z".to_owned()][..])
        );
        assert_eq!(table(&mut client, "seen").await.kind, TableKind::View);
        let parts = table(&mut client, "parts").await;
        assert_eq!((parts.kind, parts.children), (TableKind::Partitioned, 2));
        let nowhere = Name { written: "nowhere".into(), parts: vec!["nowhere".into()] };
        let missing = catalog::mysql::table(&mut client, server.product, &nowhere).await;
        assert!(reason(&missing).contains("doesn't exist"), "{missing:?}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_limit_on_rows_does_not_cut_a_key_short() {
    for server in both() {
        let mut client = server.client(&[
            "CREATE TABLE t (a int, b int, PRIMARY KEY (a, b))",
            "INSERT INTO t VALUES (1, 1), (1, 2), (1, 3)",
        ]);
        for limit in ["1", "2", "0"] {
            client.run("DROP TEMPORARY TABLE IF EXISTS own");
            client.run("CREATE TEMPORARY TABLE own LIKE t");
            client.run(&format!("SET sql_select_limit = {limit}"));
            for text in ["DELETE FROM t WHERE a = 1", "DELETE FROM own WHERE a = 1"] {
                let found = change(&mut client, text).await;
                let cut = limit != "2" || text.contains("own");
                match cut {
                    true => {
                        assert!(reason(&found.rows).contains("sql_select_limit"), "{limit}: {text}: {:?}", found.rows)
                    }
                    false => assert_eq!(found.rows, Known::Known(Rows::Exact(3))),
                }
            }
            client.run("SET sql_select_limit = DEFAULT");
        }
        assert_eq!(
            change(&mut client, "DELETE FROM own WHERE a = 1 AND b = 2").await.rows,
            Known::Known(Rows::AtMost(1))
        );
    }
}

#[tokio::test(flavor = "current_thread")]
async fn odd_names_and_modes_change_nothing() {
    for server in both() {
        for modes in ["", "ANSI_QUOTES", "NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT,IGNORE_SPACE,NO_UNSIGNED_SUBTRACTION"] {
            let mut client = server.client(&[
                "CREATE TABLE `we\"ird``tab/le -1` (`a b` int PRIMARY KEY, `order` int, `Größe` int, UNIQUE (`order`))",
                "CREATE TABLE `chi.ld` (`select` int, FOREIGN KEY (`select`) REFERENCES `we\"ird``tab/le -1` (`a b`) ON DELETE CASCADE)",
                "CREATE TABLE `Weird` (a int PRIMARY KEY)",
                "INSERT INTO `we\"ird``tab/le -1` VALUES (1, 1, 1), (2, 2, 2)",
                "INSERT INTO `chi.ld` VALUES (1), (1), (2)",
                &format!("SET sql_mode = '{modes}'"),
            ]);
            let text = "DELETE FROM `we\"ird``tab/le -1` WHERE `a b` = 1";
            let found = change(&mut client, text).await;
            assert_eq!(found.rows, Known::Known(Rows::Exact(1)), "{modes}");
            assert_eq!(tree(&found), ["chi.ld Cascade Exact(2)"], "{:?} {modes}", server.product);
            assert_eq!(table(&mut client, "Weird").await.name, "Weird");
            let update =
                change(&mut client, "UPDATE `we\"ird``tab/le -1` SET `Größe` = `Größe` + 1 WHERE `order` > 0").await;
            assert_eq!(update.rows, Known::Known(Rows::Exact(2)));
            let sample = update.sample.known().unwrap_or_else(|| panic!("{:?}", update.sample));
            assert_eq!(sample.columns, ["a b", "order", "Größe", "größe →"]);
            let mut narrow = client.user(&["ALL ON {db}.*"]);
            assert_eq!(tree(&change(&mut narrow, text).await), ["chi.ld Cascade Exact(2)"], "by information_schema");
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn what_a_user_is_not_shown_is_said() {
    for server in both() {
        let mut root = server.client(&[
            "CREATE TABLE parent (id int PRIMARY KEY)",
            "CREATE TABLE child (id int PRIMARY KEY, p int, FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE)",
            "INSERT INTO parent VALUES (1)",
            "INSERT INTO child VALUES (1, 1), (2, 1)",
            "CREATE TRIGGER watch AFTER DELETE ON parent FOR EACH ROW SET @gone = 1",
        ]);
        let text = "DELETE FROM parent WHERE id = 1";
        let mut narrow = root.user(&["SELECT, DELETE ON {db}.parent"]);
        let evidence = change(&mut narrow, text).await;
        assert!(reason(&evidence.cascade).contains("no right to"), "{:?}", evidence.cascade);
        let seen = evidence.table.known().expect("a table").clone();
        assert_eq!(seen.unseen_triggers.is_some(), server.product == sluice::sql::Product::MySql);

        let mut whole = root.user(&["ALL ON {db}.*"]);
        let evidence = change(&mut whole, text).await;
        assert_eq!(tree(&evidence), ["child Cascade Exact(2)"]);
        assert_eq!(evidence.table.known().map(|table| table.triggers.len()), Some(1));

        // InnoDB's own tables show the key; the child's rows are still not this user's to read.
        let mut process = root.user(&["SELECT, DELETE ON {db}.parent", "PROCESS ON *.*"]);
        let evidence = change(&mut process, text).await;
        let [line] = &tree(&evidence)[..] else { panic!("{:?}", evidence.cascade) };
        assert!(line.contains("denied"), "{line}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn rows_are_counted_as_the_statement_would_meet_them() {
    for server in both() {
        let mut client = server.client(&[
            "CREATE TABLE t (id int PRIMARY KEY, grp int, code varchar(10), UNIQUE (code))",
            "CREATE TABLE u (grp int)",
            "CREATE TABLE p (a int PRIMARY KEY) PARTITION BY RANGE (a) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN MAXVALUE)",
            "INSERT INTO u VALUES (1), (1), (2)",
        ]);
        let rows: Vec<String> = (1..=500).map(|n| format!("({n}, {}, 'c{n}')", n % 10)).collect();
        client.run(&format!("INSERT INTO t VALUES {}", rows.join(", ")));
        let rows: Vec<String> = (1..=20).map(|n| format!("({n})")).collect();
        client.run(&format!("INSERT INTO p VALUES {}", rows.join(", ")));
        for (text, expected) in [
            ("DELETE FROM t", Rows::Exact(500)),
            ("DELETE FROM t WHERE grp = 1 OR grp = 2 -- all of them", Rows::Exact(100)),
            ("DELETE FROM t WHERE id = 7", Rows::AtMost(1)),
            ("DELETE FROM t WHERE code = 'c7'", Rows::AtMost(1)),
            ("DELETE FROM t WHERE code = 0", Rows::Exact(500)),
            ("DELETE FROM t WHERE code = 7", Rows::Exact(0)),
            ("DELETE FROM t WHERE grp > 4 ORDER BY id LIMIT 200", Rows::Exact(200)),
            ("DELETE FROM t WHERE grp > 4 LIMIT 5", Rows::AtMost(5)),
            ("UPDATE t SET grp = 0 WHERE grp > 4", Rows::Exact(250)),
            ("UPDATE t AS x SET x.grp = 0 WHERE x.grp > 4", Rows::Exact(250)),
            ("DELETE t FROM t JOIN u ON u.grp = t.grp", Rows::Exact(100)),
            ("DELETE FROM x USING t AS x, u WHERE u.grp = x.grp", Rows::Exact(100)),
            ("UPDATE t, u SET t.code = NULL WHERE u.grp = t.grp AND t.id < 100", Rows::Exact(20)),
            ("UPDATE u LEFT JOIN t ON t.id = u.grp + 1000 SET t.grp = 1", Rows::Exact(0)),
            ("DELETE FROM p WHERE a > 7", Rows::Exact(13)),
            ("DELETE FROM p PARTITION (p0)", Rows::Exact(9)),
            ("DELETE FROM t WHERE grp IN (SELECT grp FROM u WHERE grp > 1)", Rows::Exact(50)),
            ("DELETE FROM t WHERE id IN (SELECT x.id FROM (SELECT id FROM t WHERE grp = 3) AS x)", Rows::Exact(50)),
        ] {
            let found = change(&mut client, text).await;
            assert_eq!(found.rows, Known::Known(expected), "{:?}: {text}", server.product);
        }
        if server.product == sql::Product::MySql {
            let with =
                change(&mut client, "WITH w AS (SELECT 3 AS g) DELETE FROM t WHERE grp IN (SELECT g FROM w)").await;
            assert_eq!(with.rows, Known::Known(Rows::Exact(50)));
        }
        let bounded = evidence_of(&mut client, "DELETE FROM t", 99, &[]).await;
        assert_eq!(bounded.changes[0].rows, Known::Known(Rows::AtLeast(100)));
        for (text, literals, expected) in [
            ("DELETE FROM t WHERE grp = ? AND id > ?", &["1", "-5"][..], Rows::Exact(50)),
            ("DELETE FROM t WHERE id > 1-? LIMIT ?", &["-399", "400"], Rows::Exact(100)),
            ("DELETE FROM t WHERE id = ?", &["7"], Rows::AtMost(1)),
            ("DELETE FROM t WHERE code = ?", &["'c7'"], Rows::AtMost(1)),
            ("DELETE FROM t WHERE code = ?", &["0"], Rows::Exact(500)),
            ("DELETE FROM t WHERE id = ?", &["NULL"], Rows::Exact(0)),
        ] {
            let found = evidence_of(&mut client, text, 1000, literals).await;
            assert_eq!(found.changes[0].rows, Known::Known(expected), "{:?}: {text}", server.product);
        }
        let too_few = evidence_of(&mut client, "DELETE FROM t WHERE grp = ?", 1000, &[]).await;
        assert_eq!(reason(&too_few.changes[0].rows), "its parameters have no values yet");
        client.run("CREATE TEMPORARY TABLE t (id int)");
        client.run("INSERT INTO t VALUES (1)");
        assert_eq!(change(&mut client, "DELETE FROM t").await.rows, Known::Known(Rows::Exact(1)));
    }
}

#[tokio::test(flavor = "current_thread")]
async fn nothing_is_run_that_does_more_than_read() {
    for server in both() {
        let mut client = server.client(&[
            "CREATE TABLE t (id int PRIMARY KEY, a int)",
            "CREATE TABLE noted (n int)",
            "INSERT INTO t VALUES (1, 1), (2, 2)",
            "CREATE FUNCTION note(n int) RETURNS int DETERMINISTIC MODIFIES SQL DATA BEGIN INSERT INTO noted VALUES (n); RETURN n; END",
            "CREATE VIEW calm AS SELECT id, lower(a) AS a FROM t WHERE a > 0",
            "CREATE VIEW notes AS SELECT note(a) AS a FROM t",
            "CREATE VIEW over_notes AS SELECT a FROM notes",
        ]);
        // Where nothing else would keep a question from writing: in a transaction of the client's.
        client.in_place = true;
        for text in [
            "DELETE FROM t WHERE a IN (SELECT a FROM over_notes)",
            "DELETE t FROM t JOIN notes ON notes.a = t.a",
            "DELETE FROM t WHERE note(a) = 1",
            "DELETE FROM t WHERE a = 1 AND (@x := 5) = 5",
            "DELETE FROM t WHERE a > 0 AND get_lock('x', 1) = 1",
            "DELETE FROM t WHERE sleep(5) = 0",
        ] {
            let found = change(&mut client, text).await;
            let why = reason(&found.rows);
            assert!(why.contains("may do more") || why.contains("sets a variable"), "{text}: {why}");
            reason(&found.sample);
        }
        for text in ["DELETE FROM t WHERE a IN (SELECT a FROM calm)", "DELETE FROM calm WHERE id > 0"] {
            assert_eq!(change(&mut client, text).await.rows, Known::Known(Rows::Exact(2)), "{text}");
        }
        let update = change(&mut client, "UPDATE t SET a = note(5) WHERE a > 0").await;
        assert_eq!(update.rows, Known::Known(Rows::Exact(2)));
        assert_eq!(update.sample.known().map(|sample| sample.columns.clone()), Some(vec!["id".into(), "a".into()]));
        assert_eq!(client.value("SELECT COUNT(*) FROM noted").as_deref(), Some("0"));
        let locks = client.asked.iter().filter(|question| question.to_lowercase().contains("for update"));
        assert_eq!(locks.count(), 0);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_preview_shows_rows_and_what_they_become() {
    for server in both() {
        let mut client = server.client(&[
            "CREATE TABLE t (id int PRIMARY KEY, a int, b varchar(9), KEY (a))",
            "INSERT INTO t VALUES (1, 10, 'x'), (2, 20, NULL), (3, 30, 'z')",
        ]);
        let update = change(&mut client, "UPDATE t SET a = a + 1, b = a WHERE id > 1 ORDER BY id").await;
        let sample = update.sample.known().unwrap_or_else(|| panic!("{:?}", update.sample));
        assert_eq!(sample.columns, ["id", "a", "b", "a →"], "b is set to what a has become: that is not shown");
        let first: Vec<_> = sample.rows[0].iter().map(Option::as_deref).collect();
        assert_eq!(first, [Some("2"), Some("20"), None, Some("21")]);
        assert_eq!(update.table.known().and_then(|table| table.exact_rows), Some(3));
        let delete = change(&mut client, "DELETE FROM t WHERE a = 20").await;
        assert!(delete.scan.known().is_some_and(|scan| scan.contains("index a")), "{:?}", delete.scan);
        let delete = change(&mut client, "DELETE x FROM t AS x WHERE x.b LIKE '%z%'").await;
        assert_eq!(delete.scan, Known::Known("full table scan".to_owned()));
        assert_eq!(delete.sample.known().map(|sample| sample.rows.len()), Some(1));
    }
}

#[tokio::test(flavor = "current_thread")]
async fn without_time_to_count_the_planner_is_asked() {
    for server in both() {
        let mut client = server.client(&[
            "CREATE TABLE t (id int PRIMARY KEY, a int, KEY (a))",
            "CREATE TABLE u (id int PRIMARY KEY)",
            "INSERT INTO u VALUES (1), (2)",
        ]);
        let rows: Vec<String> = (1..=2000).map(|n| format!("({n}, {n})")).collect();
        client.run(&format!("INSERT INTO t VALUES {}", rows.join(", ")));
        client.run("ANALYZE TABLE t, u");
        for (text, least, most) in [
            ("DELETE FROM t WHERE a > 0", 1500, 2500),
            ("DELETE FROM t WHERE a BETWEEN 5 AND 8", 1, 10),
            ("DELETE t FROM t JOIN u ON u.id = t.id", 1, 10),
        ] {
            let facts = facts(&client, text);
            let sizes = Sizes { preview_timeout: std::time::Duration::ZERO, ..Sizes::default() };
            let asked = Questions { table: true, rows: true, ..Questions::default() };
            let inquiry = Inquiry {
                text,
                mode: client.server.mode(),
                facts: &facts,
                changes: &[asked],
                removals: &[],
                parameters: None,
                sizes: &sizes,
                count_bound: 100,
                now: &Instant::now,
            };
            let found = gather(&mut client, &inquiry, &mut Cache::default()).await;
            let Known::Known(Rows::Estimate(rows)) = found.changes[0].rows else {
                panic!("{:?}: {text}: {:?}", server.product, found.changes[0].rows)
            };
            assert!((least..=most).contains(&rows), "{:?}: {text}: {rows}", server.product);
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn cascades_are_followed_over_all_levels() {
    for server in both() {
        let mut client = server.client(&[
            "CREATE TABLE a (id int PRIMARY KEY, x int, UNIQUE (x))",
            "CREATE TABLE b (id int PRIMARY KEY, a int, FOREIGN KEY (a) REFERENCES a (id) ON DELETE CASCADE ON UPDATE CASCADE)",
            "CREATE TABLE c (id int PRIMARY KEY, b int, FOREIGN KEY (b) REFERENCES b (id) ON DELETE CASCADE)",
            "CREATE TABLE n (id int PRIMARY KEY, x int, FOREIGN KEY (x) REFERENCES a (x) ON DELETE SET NULL)",
            "CREATE TABLE r (id int PRIMARY KEY, up int, FOREIGN KEY (up) REFERENCES r (id) ON DELETE CASCADE)",
            "INSERT INTO a VALUES (1, 1), (2, 2), (3, 3)",
            "INSERT INTO b VALUES (1, 1), (2, 1), (3, 2)",
            "INSERT INTO c VALUES (1, 1), (2, 2), (3, 3)",
            "INSERT INTO n VALUES (1, 1), (2, 1), (3, NULL)",
            "INSERT INTO r VALUES (1, NULL), (2, 1), (3, 2), (4, 2), (5, NULL)",
        ]);
        for (text, expected) in [
            ("DELETE FROM a WHERE id = 1", vec!["b Cascade Exact(2)", "  c Cascade Exact(2)", "n SetNull Exact(2)"]),
            ("DELETE FROM a", vec!["b Cascade Exact(3)", "  c Cascade Exact(3)", "n SetNull Exact(2)"]),
            (
                "DELETE a FROM a JOIN c ON c.id = a.id WHERE c.b = 1",
                vec!["b Cascade Exact(2)", "  c Cascade Exact(2)", "n SetNull Exact(2)"],
            ),
            ("UPDATE a SET id = id + 10", vec!["b Cascade AtMost(3)"]),
            ("UPDATE a SET x = x + 10", vec![]),
            (
                "DELETE FROM r WHERE id = 1",
                vec!["r Cascade Exact(1)", "  r Cascade Exact(2)", "    r Cascade Exact(0)"],
            ),
            ("DELETE FROM r WHERE id <= 2", vec!["r Cascade Exact(2)", "  r Cascade Exact(0)"]),
        ] {
            let found = change(&mut client, text).await;
            assert_eq!(tree(&found), expected, "{:?}: {text}", server.product);
        }
        let gone = client.changed("DELETE FROM r WHERE id = 1");
        assert_eq!((gone, client.value("SELECT COUNT(*) FROM r").as_deref()), (1, Some("1")), "as the tree said");
    }
}
