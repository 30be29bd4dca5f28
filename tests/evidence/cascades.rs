//! What foreign keys carry on: every level, every action, and no row twice.

use super::*;

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
    let update = |set| Build { verb: Verb::Update, target: "a", set, condition: "id <= 3", ..Build::default() }.said();
    assert_eq!(tree(&ask(&mut client, &update(&[("id", "id + 100")])).await), ["public.b Cascade AtMost(30)"]);
    assert_eq!(tree(&ask(&mut client, &update(&[("k", "0")])).await), ["public.f SetNull AtMost(1)"]);
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
        (delete("tree", "id = 10"), vec!["public.tree Cascade Exact(50)"]),
        (delete("tree", "id >= 10"), vec!["public.tree Cascade Exact(0)"]),
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
        assert_eq!(tree(&ask(&mut client, &said).await), expected, "{}", said.text);
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
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % sides
    };
    let mut exact = 0;
    for round in 0..40 {
        let mut setup = "DROP TABLE IF EXISTS t0, t1, t2, t3 CASCADE;".to_owned();
        for table in 0..4 {
            setup += &format!("CREATE TABLE t{table} (id int PRIMARY KEY, r0 int, r1 int);");
            for id in 1..=12 {
                setup += &format!("INSERT INTO t{table} VALUES ({id}, {}, {});", 1 + dice(12), 1 + dice(12));
            }
        }
        for table in 0..4 {
            for column in 0..2 {
                let action = if dice(3) == 0 { "SET NULL" } else { "CASCADE" };
                setup += &format!(
                    "ALTER TABLE t{table} ADD FOREIGN KEY (r{column}) REFERENCES t{} ON DELETE {action};",
                    dice(4)
                );
                setup += &format!("UPDATE t{table} SET r{column} = NULL WHERE id % 3 = {};", dice(3));
            }
        }
        client.run(&setup).await;
        let said = delete("t0", "id <= 2");
        let evidence = ask(&mut client, &said).await;
        let mut foretold = [2, 0, 0, 0];
        let mut whole = true;
        sum_deleted(evidence.cascade.known().unwrap_or_else(|| panic!("{evidence:?}")), &mut foretold, &mut whole);
        client.run(&format!("BEGIN; {}", said.text)).await;
        for (table, foretold) in foretold.into_iter().enumerate() {
            let left = client.value(&format!("SELECT count(*) FROM t{table}")).await;
            let gone = 12 - left.and_then(|left| left.parse::<u64>().ok()).unwrap_or_default();
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
        let table: usize = branch.key.child.written.trim_start_matches("public.t").parse().expect("a number");
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
    let two = ["public.c Cascade Exact(50)", "  public.n Cascade Exact(50)", "public.l Cascade Exact(2)"];
    assert_eq!(tree(&ask(&mut client, &delete("p", "id < 10")).await), two);
    assert_eq!(tree(&ask(&mut client, &delete("p1", "")).await), two);
    assert_eq!(table(&mut client, "p").await.children, 2);
}
