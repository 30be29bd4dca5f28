//! Which names lead to code of the users' own, and what a transaction did, asked of a real server.

use super::*;
use sluice::database::effects::{measure, reach};

const SCHEMA: &str = "
    CREATE TABLE t (id int PRIMARY KEY, v text);
    CREATE TABLE log (note text); CREATE TABLE plain (id int);
    CREATE FUNCTION purge() RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM t WHERE id <= 150; RETURN 1; END';
    CREATE FUNCTION calls_purge() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT purge()';
    CREATE FUNCTION tenant() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
    CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO log VALUES (TG_OP); RETURN NULL; END';
    CREATE FUNCTION wipes() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM t; RETURN NULL; END';
    CREATE TABLE audited (id int); CREATE TRIGGER a AFTER INSERT ON audited FOR EACH ROW EXECUTE FUNCTION noted();
    CREATE TABLE wiping (id int PRIMARY KEY);
    CREATE CONSTRAINT TRIGGER w AFTER INSERT ON wiping DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wipes();
    CREATE TABLE off (id int); CREATE TRIGGER w AFTER INSERT ON off FOR EACH ROW EXECUTE FUNCTION wipes();
    ALTER TABLE off DISABLE TRIGGER w;
    CREATE TABLE parent (id int PRIMARY KEY);
    CREATE TABLE child (p int REFERENCES parent ON DELETE CASCADE);
    CREATE TRIGGER w AFTER DELETE ON child FOR EACH ROW EXECUTE FUNCTION wipes();
    CREATE VIEW seen AS SELECT calls_purge() AS n; CREATE VIEW above AS SELECT * FROM seen;
    CREATE VIEW innocent AS SELECT tenant() AS n FROM plain;
    CREATE TABLE def (id int DEFAULT purge()); CREATE TABLE ind (id int);
    CREATE INDEX ON ind ((calls_purge() + id));
    CREATE TABLE ruled (id int); CREATE RULE r AS ON INSERT TO ruled DO INSTEAD DELETE FROM t;
    CREATE TABLE guarded (id int); CREATE POLICY p ON guarded USING (purge() > 0);
    CREATE FUNCTION same(t, t) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN DELETE FROM t; RETURN true; END';
    CREATE OPERATOR <=> (LEFTARG = t, RIGHTARG = t, FUNCTION = same, NEGATOR = <!>);
    CREATE FUNCTION differ(t, t) RETURNS boolean LANGUAGE sql AS 'SELECT true';
    CREATE OPERATOR <!> (LEFTARG = t, RIGHTARG = t, FUNCTION = differ, NEGATOR = <=>);
    CREATE FUNCTION atomic_calls() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT purge(); END;
    CREATE FUNCTION atomic_deletes() RETURNS int LANGUAGE sql BEGIN ATOMIC DELETE FROM log; SELECT 1; END;
    CREATE FUNCTION atomic_calm() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM t; END;
    CREATE FUNCTION tricky() RETURNS int LANGUAGE plpgsql AS $$BEGIN PERFORM '\\' || '; DELETE FROM t; --'; RETURN 1; END$$;
    INSERT INTO t SELECT g, 'x' FROM generate_series(1, 200) g";

#[tokio::test(flavor = "current_thread")]
async fn names_that_lead_to_code_of_the_users_are_found_and_no_others() {
    let server = Server::get();
    let mut client = server.client(SCHEMA).await;
    let fingerprint = reach::fingerprint(&mut client).await.expect("asked");
    let learned = reach::learn(&mut client, fingerprint.clone(), 15).await.expect("asked");
    for read in [
        "purge",
        "calls_purge",
        "wipes",
        "same",
        "seen",
        "above",
        "guarded",
        "ind",
        "atomic_calls",
        "atomic_deletes",
        "tricky",
    ] {
        assert!(learned.reads.has_name(read), "{read}");
        assert!(learned.writes.has_name(read), "{read}");
    }
    for written in ["wiping", "child", "parent", "def", "ruled"] {
        assert!(!learned.reads.has_name(written), "{written} may be read");
        assert!(learned.writes.has_name(written), "{written}");
    }
    for calm in ["atomic_calm", "tenant", "noted", "audited", "off", "innocent", "plain", "t", "log"] {
        assert!(!learned.writes.has_name(calm), "{calm}");
    }
    let mode = LexicalMode::default();
    assert!(
        !learned.reads.met("SELECT 1 <=> 2", mode).is_empty() && learned.reads.met("SELECT 1 <= 2", mode).is_empty()
    );
    assert!(learned.deferred && !learned.own_equality);
    assert_eq!(reach::fingerprint(&mut client).await.expect("asked"), fingerprint);
    client.run("ALTER TABLE off ENABLE TRIGGER w").await;
    assert_ne!(reach::fingerprint(&mut client).await.expect("asked"), fingerprint);
    let now = reach::learn(&mut client, String::new(), 15).await.expect("asked");
    assert!(now.writes.has_name("off"));
    client.run("CREATE DOMAIN d AS int CHECK (purge() > 0)").await;
    let now = reach::learn(&mut client, String::new(), 15).await.expect("asked");
    assert!(!now.reads.met("SELECT 1", mode).is_empty(), "a domain's check shows in no text");
}

#[tokio::test(flavor = "current_thread")]
async fn a_transaction_is_measured_table_by_table() {
    let server = Server::get();
    let mut client = server.client(SCHEMA).await;
    client.in_place = true;
    for (statement, rows, objects) in [
        ("SELECT purge()", vec!["public.t 0 150"], vec![]),
        ("SELECT 1", vec![], vec![]),
        ("INSERT INTO audited VALUES (1)", vec!["public.audited 0 0", "public.log 0 0"], vec![]),
        ("UPDATE t SET v = 'y' WHERE id <= 7", vec!["public.t 7 0"], vec![]),
        ("DROP TABLE plain CASCADE", vec![], vec!["relation removed", "relation removed"]),
        ("TRUNCATE t", vec![], vec!["public.t truncated or rewritten"]),
        ("DROP FUNCTION tenant CASCADE", vec![], vec!["1 functions removed", "relation removed"]),
        ("CREATE TEMP TABLE x (id int); DROP TABLE x", vec![], vec![]),
        ("CREATE TEMP TABLE x AS SELECT 1 AS id; DELETE FROM x", vec![], vec![]),
        ("LOCK TABLE t", vec![], vec![]),
        ("ALTER TABLE t ADD COLUMN w int", vec![], vec!["public.t altered"]),
    ] {
        client.run("BEGIN").await;
        let before = measure::snapshot(&mut client).await.expect("asked").expect("counted");
        client.run(statement).await;
        let after = measure::snapshot(&mut client).await.expect("asked").expect("counted");
        client.run("ROLLBACK").await;
        let effects = measure::between(&before, &after).expect("nothing fell");
        let counted = |table: &TableEffect| format!("{} {} {}", table.name, table.updated, table.deleted);
        assert_eq!(effects.tables.iter().map(counted).collect::<Vec<_>>(), rows, "{statement}");
        let bare = |object: &String| object.replace(|c: char| c.is_ascii_digit(), "").replace("  ", " ");
        let mut found: Vec<String> = effects.objects.iter().map(bare).collect();
        found.sort();
        let mut expected: Vec<String> = objects.iter().map(|object| bare(&(*object).to_owned())).collect();
        expected.sort();
        assert_eq!(found, expected, "{statement}: {effects:?}");
    }
}
