//! What goes with DROP and TRUNCATE, on both servers.

use crate::ask::both;
use crate::{evidence_of, reason};
use sluice::policy::question::{Known, Rows};

#[tokio::test(flavor = "current_thread")]
async fn what_goes_is_listed_with_its_rows() {
    for server in both() {
        let mut client = server.client(&[
            "CREATE TABLE t (id int PRIMARY KEY, a int, g int GENERATED ALWAYS AS (a) VIRTUAL)",
            "CREATE TABLE child (id int, p int, FOREIGN KEY (p) REFERENCES t (id) ON DELETE CASCADE)",
            "CREATE VIEW v AS SELECT id FROM t",
            "CREATE TRIGGER watch AFTER DELETE ON t FOR EACH ROW SET @gone = 1",
            "CREATE TABLE p (a int) PARTITION BY RANGE (a) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN MAXVALUE)",
            "INSERT INTO t (id, a) VALUES (1, 1), (2, NULL), (3, 3)",
            "INSERT INTO p VALUES (1), (2), (20)",
        ]);
        let database = client.database.clone();
        for (text, rows, dependents) in [
            (
                "DROP TABLE t".to_owned(),
                vec![Rows::Exact(3)],
                vec!["trigger watch".to_owned(), format!("view {database}.v, which no longer works")],
            ),
            ("TRUNCATE TABLE t".to_owned(), vec![Rows::Exact(3)], vec![]),
            ("DROP TABLE IF EXISTS nowhere".to_owned(), vec![], vec![]),
            ("DROP VIEW v".to_owned(), vec![], vec![]),
            ("ALTER TABLE t DROP COLUMN a".to_owned(), vec![Rows::Exact(2)], vec![]),
            ("ALTER TABLE t DROP COLUMN g".to_owned(), vec![Rows::Exact(0)], vec![]),
            ("ALTER TABLE p DROP PARTITION p0".to_owned(), vec![Rows::Exact(2)], vec![]),
            ("ALTER TABLE p TRUNCATE PARTITION p1".to_owned(), vec![Rows::Exact(1)], vec![]),
            (
                format!("DROP DATABASE {database}"),
                vec![Rows::Exact(0), Rows::Exact(3), Rows::Exact(3)],
                vec!["view v".to_owned()],
            ),
            ("DROP DATABASE IF EXISTS nowhere".to_owned(), vec![], vec![]),
        ] {
            let found = evidence_of(&mut client, &text, 1000, &[]).await.removals.remove(0);
            let tables = found.tables.known().unwrap_or_else(|| panic!("{text}: {:?}", found.tables));
            let counted: Vec<Rows> = tables.iter().map(|table| table.rows).collect();
            assert_eq!(counted, rows, "{:?}: {text}", server.product);
            assert_eq!(found.dependents, Known::Known(dependents), "{:?}: {text}", server.product);
            let refused = matches!(text.as_str(), "DROP TABLE t" | "TRUNCATE TABLE t");
            assert_eq!(!found.refused_for.is_empty(), refused, "{text}: {:?}", found.refused_for);
        }
        let mut narrow = client.user(&["SELECT, DROP ON {db}.t"]);
        let found = evidence_of(&mut narrow, &format!("DROP DATABASE {database}"), 1000, &[]).await.removals.remove(0);
        assert!(reason(&found.tables).contains("not shown all"), "{:?}", found.tables);
        client.run("CREATE TEMPORARY TABLE t (id int)");
        let found = evidence_of(&mut client, "DROP TABLE t", 1000, &[]).await.removals.remove(0);
        assert_eq!(
            found.tables.known().map(|tables| tables[0].rows),
            Some(Rows::Exact(0)),
            "the one that hides the other"
        );
    }
}
