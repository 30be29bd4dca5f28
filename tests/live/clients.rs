//! Real clients: what they print with Sluice between is what they print without.

use crate::harness::server::{Database, PASSWORD, Server, TRUSTED};
use crate::harness::shop::SHOP;
use crate::harness::sluice::{Setup, Sluice};
use crate::harness::stories;
use crate::harness::tool::{Said, Tool};
use crate::harness::without_port;
use std::path::{Path, PathBuf};

stories! {
    psql_scripts, psql_meets_the_gate, pg_bench, dump_and_restore, psycopg, asyncpg, node_postgres, pgjdbc,
}

/// Two equal databases, one of them reached through Sluice: the same client on both.
struct Pair {
    server: &'static Server,
    direct: Database,
    through: Database,
    sluice: Sluice,
}

impl Pair {
    fn of(server: &'static Server, setup: &str) -> Pair {
        let direct = server.database(setup);
        let through = server.copy_of(&direct);
        let sluice = Sluice::before(&through);
        Pair { server, direct, through, sluice }
    }

    /// Runs the client in both places; its output must be the same, database names, ports and process ids aside.
    fn same(&self, client: impl Fn(&Target) -> Tool) -> Said {
        let direct = client(&Target { port: self.server.port, database: &self.direct.name }).run();
        let through = client(&Target { port: self.sluice.port(), database: &self.through.name }).run();
        let masked = |said: Said, port: u16, name: &str| {
            // psycopg says on stderr how its pipeline was torn down, which depends on what had arrived by then.
            let steady = |text: String| {
                text.lines()
                    .filter(|line| !line.starts_with("error ignored terminating"))
                    .map(|line| format!("{line}\n"))
                    .collect::<String>()
            };
            let hide = |text: String| without_process_ids(&without_port(&steady(text).replace(name, "DATABASE"), port));
            Said { out: hide(said.out), err: hide(said.err), code: said.code }
        };
        let direct = masked(direct, self.server.port, &self.direct.name);
        let through = masked(through, self.sluice.port(), &self.through.name);
        let mut lines =
            direct.out.lines().chain(direct.err.lines()).zip(through.out.lines().chain(through.err.lines()));
        let differ = lines.find(|(one, other)| one != other);
        assert_eq!(differ, None, "direct and through");
        assert_eq!(direct, through, "direct and through");
        direct
    }
}

struct Target<'a> {
    port: u16,
    database: &'a str,
}

impl Target<'_> {
    fn dsn(&self) -> String {
        format!("host=127.0.0.1 port={} user={TRUSTED} dbname={}", self.port, self.database)
    }

    fn psql(&self, server: &Server) -> Tool {
        Tool::new(server.bin.join("psql")).args(["-X", "-d", &self.dsn()])
    }
}

fn psql_scripts(server: &'static Server) {
    let pair = Pair::of(server, SHOP);
    let folder = tempfile::tempdir().expect("a folder");
    let copied = folder.path().join("copied");
    let script = include_str!("clients/script.sql").replace("@FILE@", &copied.display().to_string());
    for options in
        [&["-e"][..], &["-v", "ON_ERROR_STOP=1"], &["-1"], &["-v", "ON_ERROR_ROLLBACK=on", "-v", "VERBOSITY=verbose"]]
    {
        let said = pair.same(|target| target.psql(server).args(options).input(script.clone()));
        assert!(said.out.contains("cart_items_cart_id_fkey"), "{said:?}");
    }
    for command in ["\\dt+", "\\df", "\\du", "\\dn", "\\d carts", "\\encoding", "SELECT 1; SELECT 2"] {
        let said = pair.same(|target| target.psql(server).args(["-c", command]));
        assert_eq!(said.code, Some(0), "{command}: {said:?}");
    }
}

fn psql_meets_the_gate(server: &'static Server) {
    let pair = Pair::of(server, SHOP);
    let through = Target { port: pair.sluice.port(), database: &pair.through.name };
    let said = through.psql(server).args(["-c", "DELETE FROM carts WHERE status = 'abandoned'"]).run();
    assert_eq!(said.code, Some(1), "{said:?}");
    for part in
        ["ERROR:  sluice: this would delete 2,000", "DETAIL:  rules: ", "cart_items", "HINT:  ", "SLUICE CONFIRM '"]
    {
        assert!(said.err.contains(part), "no {part} in {}", said.err);
    }
    let token = said.err.split("SLUICE CONFIRM '").nth(1).and_then(|rest| rest.split('\'').next()).expect("a token");
    let said = through.psql(server).args(["-c", &format!("SLUICE CONFIRM '{token}'")]).run_fine();
    assert_eq!(said.out.trim(), "DELETE 2000");
    assert_eq!(pair.through.count("carts"), 3000);
    // A script without ON_ERROR_STOP goes on after the refusal, and commits nothing of its transaction.
    let script = "BEGIN;\nINSERT INTO logs VALUES (1001, 'x');\nDELETE FROM logs;\nINSERT INTO logs VALUES (1002, 'y');\nCOMMIT;\n";
    let said = through.psql(server).input(script).run();
    assert!(said.out.contains("ROLLBACK") && said.err.contains("current transaction is aborted"), "{said:?}");
    assert_eq!(pair.through.count("logs"), 500);
    let said = through.psql(server).args(["-v", "ON_ERROR_ROLLBACK=on"]).input(script).run();
    assert!(said.out.contains("COMMIT"), "{said:?}");
    assert_eq!(pair.through.count("logs"), 502, "the refused statement alone is taken back");
    let said = through.psql(server).args(["-c", "SLUICE HELP"]).run_fine();
    assert!(said.out.contains("SLUICE CONFIRM"), "{said:?}");
}

fn pg_bench(server: &'static Server) {
    let pair = Pair::of(server, "");
    let target = Target { port: pair.sluice.port(), database: &pair.through.name };
    let pgbench =
        |arguments: &[&str]| Tool::new(server.bin.join("pgbench")).args(arguments).args([target.dsn()]).run_fine();
    // Made straight: pgbench truncates its own tables first.
    let direct = format!("host=127.0.0.1 port={} user={TRUSTED} dbname={}", server.port, pair.through.name);
    Tool::new(server.bin.join("pgbench")).args(["-i", "-q", "-s", "1", &direct]).run_fine();
    for mode in ["simple", "extended", "prepared"] {
        let said = pgbench(&["-n", "-M", mode, "-c", "4", "-j", "2", "-t", "100"]);
        assert!(said.out.contains("number of transactions actually processed: 400/400"), "{mode}: {said:?}");
        assert!(!said.err.contains("ERROR"), "{mode}: {said:?}");
    }
    let sums = "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(bbalance) FROM pgbench_branches)";
    assert_eq!(pair.through.value(sums), "t");
    assert_eq!(pair.through.count("pgbench_history"), 1200);
}

fn dump_and_restore(server: &'static Server) {
    let pair = Pair::of(server, &format!("{SHOP}; SELECT lo_from_bytea(880001, '\\x0102')"));
    let through = Target { port: pair.sluice.port(), database: &pair.through.name };
    let folder = tempfile::tempdir().expect("a folder");
    let dump = |target: &Target, arguments: &[&str]| {
        let said = Tool::new(server.bin.join("pg_dump")).args(arguments).args(["-d", &target.dsn()]).run_fine();
        without_what_is_random(&said.out)
    };
    let direct = dump(&Target { port: server.port, database: &pair.direct.name }, &[]);
    assert!(direct.len() > 100_000);
    assert_eq!(direct, dump(&through, &[]), "pg_dump");
    assert_eq!(
        dump(&Target { port: server.port, database: &pair.direct.name }, &["--inserts"]),
        dump(&through, &["--inserts"])
    );
    // Restored through Sluice, by psql and by pg_restore, and dumped again.
    let plain = folder.path().join("plain.sql");
    Tool::new(server.bin.join("pg_dump")).args(["-d", &through.dsn(), "-f"]).args([&plain]).run_fine();
    let custom = folder.path().join("custom");
    Tool::new(server.bin.join("pg_dump")).args(["-Fc", "-d", &through.dsn(), "-f"]).args([&custom]).run_fine();
    let restored = |name: &str, restore: &dyn Fn(&Target) -> Tool| {
        let empty = server.database("");
        // A whole dump sets owners: the scratch database that it goes to has a scope, as the page of privilege-change says.
        let scope =
            "[[scope]]\nname = \"restore\"\nmatch = { user = \"trusty\" }\nrules = { privilege-change = \"allow\" }";
        let sluice = Setup::before(&empty).with(scope).start();
        let target = Target { port: sluice.port(), database: &empty.name };
        restore(&target).run_fine();
        assert_eq!(dump(&target, &[]), direct, "{name}");
    };
    restored("psql", &|target| target.psql(server).args(["-q", "-v", "ON_ERROR_STOP=1", "-f"]).args([&plain]));
    restored("pg_restore", &|target| {
        Tool::new(server.bin.join("pg_restore")).args(["-e", "-d", &target.dsn()]).args([&custom])
    });
    restored("pg_restore, two jobs", &|target| {
        Tool::new(server.bin.join("pg_restore")).args(["-e", "-j", "2", "-d", &target.dsn()]).args([&custom])
    });
}

/// psql tells who notified it.
fn without_process_ids(text: &str) -> String {
    let mut parts = text.split(" PID ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + " PID " + part.trim_start_matches(|c: char| c.is_ascii_digit()))
}

/// pg_dump 15.14 and 18 begin and end a plain dump with a random word that psql is to restrict itself by.
fn without_what_is_random(dump: &str) -> String {
    let lines = dump.lines().filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"));
    lines.map(|line| format!("{line}\n")).collect()
}

fn psycopg(server: &'static Server) {
    python(server, "psycopg_client.py");
}

fn asyncpg(server: &'static Server) {
    python(server, "asyncpg_client.py");
}

fn python(server: &'static Server, script: &str) {
    let pair = Pair::of(server, SHOP);
    let said = pair.same(|target| {
        let python = Tool::new(Tool::folder().join("python/bin/python"));
        python.args([here(script).as_os_str()]).args([target.port.to_string(), target.database.to_owned()])
    });
    assert_finished(&said);
    gate(&pair, &|target| {
        let python = Tool::new(Tool::folder().join("python/bin/python"));
        python.args([here(script).as_os_str()]).args([
            target.port.to_string(),
            target.database.to_owned(),
            "gate".to_owned(),
        ])
    });
}

fn node_postgres(server: &'static Server) {
    let pair = Pair::of(server, SHOP);
    let node = |target: &Target, part: &str| {
        Tool::new("node")
            .args([here("node_client.js").as_os_str()])
            .args([target.port.to_string(), target.database.to_owned(), part.to_owned()])
            .env("NODE_NO_WARNINGS", "1")
            .env("NODE_PATH", Tool::folder().join("node/node_modules"))
    };
    assert_finished(&pair.same(|target| node(target, "same")));
    gate(&pair, &|target| node(target, "gate"));
}

fn pgjdbc(server: &'static Server) {
    let pair = Pair::of(server, SHOP);
    let java = |target: &Target, part: &str| {
        Tool::new("java")
            .args(["-XX:TieredStopAtLevel=1", "-cp", "/usr/share/java/postgresql.jar"])
            .args([here("JdbcClient.java").as_os_str()])
            .args([target.port.to_string(), target.database.to_owned(), part.to_owned()])
    };
    assert_finished(&pair.same(|target| java(target, "same")));
    gate(&pair, &|target| java(target, "gate"));
}

/// The client meets the gate as its own library shows it: refused, confirmed, done.
fn gate(pair: &Pair, client: &dyn Fn(&Target) -> Tool) {
    let said = client(&Target { port: pair.sluice.port(), database: &pair.through.name }).run_fine();
    for part in ["refused SL001", "confirmed", "refused SL001 with parameters", "finished"] {
        assert!(said.out.contains(part), "no {part:?} in {said:?}");
    }
    assert_eq!(pair.through.count("logs"), 0, "what was confirmed was done");
}

fn assert_finished(said: &Said) {
    assert!(said.code == Some(0) && said.out.trim_end().ends_with("finished"), "{said:?}");
    assert!(!said.out.contains(PASSWORD));
}

fn here(script: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/live/clients").join(script)
}
