//! What TRUNCATE and DROP take along.

use super::*;
use sluice::sql::facts::Facts;

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
         INSERT INTO s.p VALUES (1);
         CREATE SCHEMA o; CREATE VIEW o.base AS SELECT 1; CREATE VIEW o.above AS SELECT * FROM o.base;
         CREATE TYPE o.mood AS ENUM ('fine'); CREATE TABLE o.kept (feels o.mood);
         CREATE FUNCTION o.by_hand() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'; ANALYZE",
        )
        .await;
    let listed = |evidence: &Evidence| -> Vec<String> {
        let tables = evidence.removals[0].tables.known().unwrap_or_else(|| panic!("{evidence:?}"));
        tables
            .iter()
            .map(|t| format!("{} {:?} {}", t.name.written, t.rows, t.because.as_deref().unwrap_or("-")))
            .collect()
    };
    let a = "s.a Exact(2) -";
    for (said, expected, dependents) in [
        (removal(Removed::Rows, "s.a", false), vec![a], vec![]),
        (removal(Removed::Rows, "s.a", true), vec![a, "public.c Exact(3) c_b_fkey", "s.b Exact(1) b_a_fkey"], vec![]),
        (removal(Removed::Rows, "s.p", false), vec!["s.p Exact(0) -", "s.p1 Exact(1) partition"], vec![]),
        (removal(Removed::Table, "s.p", false), vec!["s.p Exact(0) -", "s.p1 Exact(1) partition"], vec![]),
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
        (removal(Removed::Other("view".into()), "o.base", true), vec![], vec!["view o.above"]),
        (
            removal(Removed::Other("type".into()), "o.mood", true),
            vec!["o.kept Exact(0) its column feels"],
            vec!["column feels of table o.kept"],
        ),
        (
            removal(Removed::Other("extension".into()), "plpgsql", true),
            vec![],
            vec!["function o.by_hand()", "language plpgsql"],
        ),
        (
            removal(Removed::Column("id".into()), "s.a", true),
            vec!["s.a Exact(2) values in column id that are not NULL", "public.m Exact(2) materialized view"],
            vec!["column twice of table s.a", "constraint b_a_fkey on table s.b"],
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
    client
        .run(
            "CREATE ROLE removals_owner; GRANT ALL ON SCHEMA s TO removals_owner; ALTER TABLE s.a OWNER TO removals_owner;
             ALTER TABLE s.a ENABLE ROW LEVEL SECURITY; ALTER TABLE s.a FORCE ROW LEVEL SECURITY; SET ROLE removals_owner",
        )
        .await;
    let hidden = removal(Removed::Column("note".into()), "s.a", false);
    let hidden = ask_with(&mut client, &hidden, EVERYTHING, None, 100).await;
    assert_eq!(listed(&hidden), ["s.a AtLeast(0) values in column note that are not NULL"]);
    client.run("RESET ROLE").await;
    let database = client.value("SELECT current_database()").await.unwrap_or_default();
    let evidence = ask_with(&mut client, &removal(Removed::Database, &database, false), EVERYTHING, None, 100).await;
    assert!(evidence.removals[0].tables.known().is_some_and(|tables| tables[0].bytes > 1_000_000));
    let missing = ask_with(&mut client, &removal(Removed::Table, "nowhere", false), EVERYTHING, None, 100).await;
    assert!(reason(&missing.removals[0].tables).contains("does not exist"));
    missing_objects(&mut client).await;
    let mut both = removal(Removed::Rows, "s.a", false);
    both.facts.removals.extend(removal(Removed::Rows, "s.b", false).facts.removals);
    for (said, refused) in [
        (removal(Removed::Rows, "s.a", false), vec!["b_a_fkey"]),
        (removal(Removed::Table, "s.a", false), vec!["b_a_fkey"]),
        (removal(Removed::Table, "s.a", true), vec![]),
        (both, vec![]),
    ] {
        let evidence = ask_with(&mut client, &said, EVERYTHING, None, 100).await;
        assert_eq!(evidence.removals[0].refused_for, refused, "{:?}", said.facts.removals);
    }
    let kind =
        ask_with(&mut client, &removal(Removed::Other("function".into()), "kind", true), EVERYTHING, None, 100).await;
    assert!(reason(&kind.removals[0].tables).contains("FUNCTION"));
}

/// What is not there takes nothing along, if nothing in the message can give the name a meaning first.
async fn missing_objects(client: &mut Client) {
    let rename = sluice::sql::read("ALTER TABLE s.a RENAME TO nope", LexicalMode::default());
    let rename = &rename.statements[0].facts;
    let column = |table, column: &str| removal(Removed::Column(column.into()), table, false);
    let mut optional = removal(Removed::Table, "nope", false);
    optional.facts.removals[0].if_exists = true;
    for (said, believed) in [
        (removal(Removed::Rows, "nope", false), true),
        (removal(Removed::Table, "nope", false), true),
        (removal(Removed::Table, "nowhere.nope", false), true),
        (optional, true),
        (column("nope", "id"), true),
        (column("s.a", "nope"), true),
        (removal(Removed::Schema, "nope", false), true),
        (removal(Removed::Database, "nope", false), true),
        (removal(Removed::Table, "n\u{f6}pe", false), false),
        (removal(Removed::Partition("nope".into()), "s.p", false), false),
        (removal(Removed::Other("type".into()), "nope", true), false),
    ] {
        let statement = said.facts.clone();
        let alone = found(client, &said, &[&statement]).await;
        assert_eq!(alone.known().is_some_and(Vec::is_empty), believed, "{:?}: {alone:?}", said.facts.removals);
        let renamed = found(client, &said, &[rename, &statement]).await;
        assert!(reason(&renamed).contains("another statement"), "{:?}: {renamed:?}", said.facts.removals);
    }
    let there = removal(Removed::Table, "s.a", false);
    let there = found(client, &there, &[&there.facts]).await;
    assert!(there.known().is_some_and(|tables| tables.len() == 1), "{there:?}");
}

async fn found(client: &mut Client, said: &Said, message: &[&Facts]) -> Known<Vec<RemovedTable>> {
    let mut cache = Cache::default();
    cache.settle(message.iter().copied());
    let inquiry = Inquiry {
        text: &said.text,
        mode: LexicalMode::default(),
        facts: &said.facts,
        changes: &[],
        removals: &[EVERYTHING],
        parameters: None,
        sizes: &Sizes::default(),
        count_bound: 100,
        now: &Instant::now,
    };
    gather(client, &inquiry, &mut cache).await.removals.remove(0).tables
}
