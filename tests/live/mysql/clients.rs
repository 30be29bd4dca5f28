//! Real clients: what they print with Sluice between is what they print without.

use crate::harness::mysql::my_stories;
use crate::harness::mysql::server::{BY_PASSWORD, MyDatabase, MyServer, ROOT, TRUSTED};
use crate::harness::mysql::shop::SHOP;
use crate::harness::server::PASSWORD;
use crate::harness::sluice::{Setup, Sluice};
use crate::harness::tool::{Said, Tool};
use crate::harness::without_port;
use std::path::{Path, PathBuf};

my_stories! {
    scripts_of_the_servers_own_client, the_others_client, the_client_meets_the_gate, dump_and_restore, pymysql, mysql_connector_python,
    mysqlclient, mysql2, mariadb_jdbc, go_sql_driver, mysql_async, sysbench, pt_archiver, pt_online_schema_change,
}

/// What a procedure does only its definer may read, in either product; of one that cannot be read Sluice asks.
const MORE: &str = "CREATE TABLE counted (id int AUTO_INCREMENT PRIMARY KEY, v varchar(10));
    CREATE DEFINER = plain PROCEDURE several() BEGIN SELECT 1; SELECT id, kind FROM logs WHERE id < 3; END";

/// Two equal databases, one of them reached through Sluice: the same client on both.
struct Pair {
    server: &'static MyServer,
    direct: MyDatabase,
    through: MyDatabase,
    sluice: Sluice,
}

struct Target<'a> {
    server: &'static MyServer,
    port: u16,
    database: &'a str,
}

impl Pair {
    fn of(server: &'static MyServer) -> Pair {
        Pair::before(server, |setup| setup)
    }

    fn before(server: &'static MyServer, configure: impl Fn(Setup) -> Setup) -> Pair {
        let (direct, through) = (server.database(SHOP), server.database(SHOP));
        direct.run_as_root(MORE);
        through.run_as_root(MORE);
        Pair { server, direct, through, sluice: configure(Setup::before_mysql(server)).start() }
    }

    fn to_direct(&self) -> Target<'_> {
        Target { server: self.server, port: self.server.port, database: &self.direct.name }
    }

    fn to_through(&self) -> Target<'_> {
        Target { server: self.server, port: self.sluice.port(), database: &self.through.name }
    }

    /// Runs the client in both places; its output must be the same, database names and ports aside.
    fn same(&self, client: impl Fn(&Target) -> Tool) -> Said {
        let masked = |target: Target| {
            let said = client(&target).run();
            let hide = |text: String| without_port(&text.replace(target.database, "DATABASE"), target.port);
            Said { out: hide(said.out), err: hide(said.err), code: said.code }
        };
        let (direct, through) = (masked(self.to_direct()), masked(self.to_through()));
        let mut lines =
            direct.out.lines().chain(direct.err.lines()).zip(through.out.lines().chain(through.err.lines()));
        let differ = lines.find(|(one, other)| one != other);
        assert_eq!(differ, None, "direct and through: {direct:?}");
        assert_eq!(direct, through, "direct and through");
        direct
    }
}

impl Target<'_> {
    fn address(&self, user: &str) -> Vec<String> {
        ["-h", "127.0.0.1", "-P", &self.port.to_string(), "-u", user].map(str::to_owned).to_vec()
    }

    fn client(&self) -> Tool {
        self.server.client().args(self.address(TRUSTED)).args([self.database])
    }
}

fn scripts_of_the_servers_own_client(server: &'static MyServer) {
    let pair = Pair::of(server);
    let script = include_str!("../clients/my_script.sql");
    for options in [
        &["--force", "-t"][..],
        &["--force", "--show-warnings", "-N"],
        &["--force", "--quick", "--compress"],
        &["--force", "--xml"],
    ] {
        let said = pair.same(|target| target.client().args(options).input(script));
        assert!(said.out.contains("abandoned"), "{said:?}");
    }
    let said = pair.same(|target| target.client().args(["-e", "SELECT 1; SELECT 2; SELEC; SELECT 3"]));
    assert_eq!(said.code, Some(1));
}

/// MariaDB's client on MySQL. (MySQL 9's own cannot log in to MariaDB 10: they have no plugin in common.)
fn the_others_client(server: &'static MyServer) {
    if server.is_mariadb() {
        return;
    }
    let pair = Pair::of(server);
    let other = MyServer::mariadb();
    let script = include_str!("../clients/my_script.sql");
    let said = pair.same(|target| {
        let client = other.client().args(target.address(TRUSTED)).args([target.database, "--force"]);
        client.input(script)
    });
    assert!(said.out.contains("abandoned"), "{said:?}");
}

fn the_client_meets_the_gate(server: &'static MyServer) {
    let pair = Pair::of(server);
    let through = pair.to_through();
    let said =
        through.client().args(["--force", "-e", "DELETE FROM carts WHERE status = 'abandoned'; SHOW WARNINGS"]).run();
    for part in ["ERROR 50001 (SL001)", "sluice: this would delete 2,000", "SLUICE CONFIRM '"] {
        assert!(said.err.contains(part), "no {part} in {said:?}");
    }
    assert_eq!(pair.through.count("carts"), 5000);
    let token = said.err.split("SLUICE CONFIRM '").nth(1).and_then(|rest| rest.split('\'').next()).expect("a token");
    through.client().args(["-e", &format!("SLUICE CONFIRM '{token}'")]).run_fine();
    assert_eq!(pair.through.count("carts"), 3000);
    let said = through.client().args(["-e", "SLUICE HELP"]).run_fine();
    assert!(said.out.contains("SLUICE CONFIRM"), "{said:?}");
}

fn dump_and_restore(server: &'static MyServer) {
    let pair = Pair::of(server);
    pair.direct.run("CREATE TRIGGER noted BEFORE UPDATE ON logs FOR EACH ROW SET NEW.kind = NEW.kind");
    pair.through.run("CREATE TRIGGER noted BEFORE UPDATE ON logs FOR EACH ROW SET NEW.kind = NEW.kind");
    let dump = |target: &Target, options: &[&str]| {
        // A server that is to be copied whole is no affair of one database's dump.
        let only_data: &[&str] = server.either(&[], &["--set-gtid-purged=OFF"]);
        let tool = server.dump().args(target.address(ROOT)).args(only_data).args([
            "--skip-dump-date",
            "--routines",
            "--triggers",
        ]);
        tool.args(options).args([target.database]).run_fine().out
    };
    let masked = |text: String, target: &Target| text.replace(target.database, "DATABASE");
    let direct = masked(dump(&pair.to_direct(), &[]), &pair.to_direct());
    assert!(direct.len() > 100_000 && direct.contains("several"));
    for options in [&[][..], &["--single-transaction", "--quick"], &["--skip-extended-insert", "--lock-tables"]] {
        let [one, other] = [pair.to_direct(), pair.to_through()].map(|target| masked(dump(&target, options), &target));
        assert!(one == other, "{options:?}: the dumps differ");
    }
    // Restored through Sluice into an empty database, and dumped again. A dump switches foreign keys off and drops what it brings: the
    // scratch database that it goes to has a scope, as the page of guard-off says.
    let empty = server.database("");
    let scope = "[[scope]]\nname = \"restore\"\nrules = { guard-off = \"allow\", drop-data = \"allow\", unread-statement = \"allow\" }";
    let sluice = Setup::before_mysql(server).with(scope).start();
    let target = Target { server, port: sluice.port(), database: &empty.name };
    let whole = dump(&pair.to_through(), &[]);
    let said = server.client().args(target.address(ROOT)).args([target.database]).input(whole).run();
    assert_eq!(said.code, Some(0), "{said:?}");
    let restored = masked(dump(&target, &[]), &target);
    assert!(restored == direct, "what was restored is not what was dumped");
}

fn pymysql(server: &'static MyServer) {
    python(server, "pymysql");
}

fn mysql_connector_python(server: &'static MyServer) {
    python(server, "mysql.connector");
}

fn mysqlclient(server: &'static MyServer) {
    python(server, "MySQLdb");
}

fn python(server: &'static MyServer, library: &str) {
    let client = |target: &Target, part: &[&str]| {
        let python = Tool::new(Tool::folder().join("python/bin/python"));
        let python = python.args([here("mysql_python.py").as_os_str()]).args([
            library,
            &target.port.to_string(),
            target.database,
        ]);
        python.args([BY_PASSWORD, PASSWORD]).args(part)
    };
    both(server, &|target| client(target, &[]), &|target| client(target, &["gate"]));
}

fn mysql2(server: &'static MyServer) {
    let client = |target: &Target, part: &str| {
        let node = Tool::new("node").args([here("mysql2_client.js").as_os_str()]);
        let node = node.args([&target.port.to_string(), target.database, BY_PASSWORD, PASSWORD, part]);
        node.env("NODE_NO_WARNINGS", "1").env("NODE_PATH", Tool::folder().join("node/node_modules"))
    };
    both(server, &|target| client(target, "same"), &|target| client(target, "gate"));
}

fn mariadb_jdbc(server: &'static MyServer) {
    let client = |target: &Target, part: &str| {
        let java =
            Tool::new("java").args(["-XX:TieredStopAtLevel=1", "-cp", "/usr/share/java/mariadb-java-client.jar"]);
        let java = java.args([here("MyJdbcClient.java").as_os_str()]);
        java.args([&target.port.to_string(), target.database, BY_PASSWORD, PASSWORD, part])
    };
    both(server, &|target| client(target, "same"), &|target| client(target, "gate"));
}

fn go_sql_driver(server: &'static MyServer) {
    let client = |target: &Target, part: &str| {
        let source = format!("{BY_PASSWORD}:{PASSWORD}@tcp(127.0.0.1:{})/{}", target.port, target.database);
        Tool::new(Tool::folder().join("go/go_client")).args([&source, part])
    };
    both(server, &|target| client(target, "same"), &|target| client(target, "gate"));
}

fn mysql_async(server: &'static MyServer) {
    let client = |target: &Target, part: &str| {
        // By default it asks a server on its own machine for its unix socket (`@@socket`), and goes there: past Sluice.
        let options = "prefer_socket=false";
        let target = format!("127.0.0.1:{}/{}", target.port, target.database);
        let address = format!("mysql://{BY_PASSWORD}:{PASSWORD}@{target}?{options}");
        Tool::new(Tool::folder().join("rust/mysql_async_client")).args([&address, part])
    };
    both(server, &|target| client(target, "same"), &|target| client(target, "gate"));
}

/// The same in both places; then it meets the gate as its own library shows it: refused, confirmed, done.
fn both(server: &'static MyServer, same: &dyn Fn(&Target) -> Tool, gate: &dyn Fn(&Target) -> Tool) {
    let pair = Pair::of(server);
    let said = pair.same(same);
    assert!(said.code == Some(0) && said.out.trim_end().ends_with("finished"), "{said:?}");
    assert!(!said.out.contains(PASSWORD));
    let said = gate(&pair.to_through()).run_fine();
    // Results of ours, in text and, where the library has it, in binary: the same.
    for part in ["refused 50001", "confirmed", "refused 50001 with parameters", "rows of ours", "finished"] {
        assert!(said.out.contains(part), "no {part:?} in {said:?}");
    }
    assert_eq!(pair.through.count("logs"), 0, "what was confirmed was done");
    assert_eq!(pair.through.value("SELECT count(*) FROM carts WHERE note = 'x'"), "3000");
}

fn here(script: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/live/clients").join(script)
}

fn sysbench(server: &'static MyServer) {
    let pair = Pair::of(server);
    let through = pair.to_through();
    let run = |arguments: &[&str]| {
        let tool = Tool::new("sysbench").args([
            "--db-driver=mysql",
            "--mysql-host=127.0.0.1",
            &format!("--mysql-port={}", through.port),
        ]);
        let tool = tool.args([
            &format!("--mysql-user={TRUSTED}"),
            "--mysql-password=",
            &format!("--mysql-db={}", through.database),
        ]);
        tool.args(["--tables=2", "--table-size=500", "--mysql-ssl=off"]).args(arguments).run_fine()
    };
    run(&["oltp_read_write", "prepare"]);
    assert_eq!(pair.through.count("sbtest1"), 500);
    for mode in ["auto", "disable"] {
        let said = run(&[
            "oltp_read_write",
            "--events=200",
            "--time=0",
            "--threads=4",
            &format!("--db-ps-mode={mode}"),
            "run",
        ]);
        assert!(said.out.contains("transactions:") && said.out.contains("ignored errors:"), "{said:?}");
        assert!(!said.out.contains("FATAL") && !said.err.contains("FATAL"), "{mode}: {said:?}");
    }
    assert_eq!(pair.through.count("sbtest2"), 500);
}

/// Deletes row by row and in bulk, within the limits that a policy sets it.
fn pt_archiver(server: &'static MyServer) {
    let pair = Pair::of(server);
    let through = pair.to_through();
    let source = format!("h=127.0.0.1,P={},u={TRUSTED},D={},t=logs", through.port, through.database);
    let tool =
        Tool::new("pt-archiver").args(["--source", &source, "--where", "id <= 300", "--limit", "50", "--commit-each"]);
    let said = tool.args(["--purge", "--no-version-check", "--no-check-charset"]).run();
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(pair.through.count("logs"), 200);
    let source = source.replace("t=logs", "t=carts");
    let bulk = Tool::new("pt-archiver").args([
        "--source",
        &source,
        "--where",
        "status = 'paid'",
        "--limit",
        "40",
        "--bulk-delete",
    ]);
    let said =
        bulk.args(["--commit-each", "--purge", "--no-version-check", "--no-check-charset", "--run-time", "2"]).run();
    // Two items go with each cart: forty carts are a hundred and twenty rows, more than goes unasked.
    assert_ne!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("sluice: "), "{said:?}");
    assert_eq!(pair.through.count("carts"), 5000);
}

/// Builds a copy with triggers and swaps the names, under a policy that allows what it does.
fn pt_online_schema_change(server: &'static MyServer) {
    let rules = ["drop-data", "mass-overwrite", "unknown-effect", "guard-off", "drop-guard", "not-rerunnable"];
    let rules = rules.map(|rule| format!("{rule} = \"allow\"")).join(", ");
    let scope = format!("[[scope]]\nname = \"pt-osc\"\nmatch = {{ user = [\"{TRUSTED}\"] }}\nrules = {{ {rules} }}");
    let pair = Pair::before(server, |setup| setup.with(&scope));
    let through = pair.to_through();
    let dsn = format!("h=127.0.0.1,P={},u={TRUSTED},D={},t=logs", through.port, through.database);
    let tool = Tool::new("pt-online-schema-change").args([
        "--alter",
        "ADD COLUMN seen int",
        "--execute",
        "--no-version-check",
    ]);
    let said =
        tool.args(["--no-check-replication-filters", "--recursion-method=none", "--charset=utf8mb4", &dsn]).run();
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(pair.through.value("SELECT concat(count(*), ' ', count(seen)) FROM logs"), "500 0");
}
