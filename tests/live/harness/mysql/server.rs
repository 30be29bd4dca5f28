//! MariaDB 10.11 (Debian's) and MySQL 9.7 (unpacked beside the system by s/mysql), each started once for the run.
//!
//! Invariant: a server lives exactly as long as this process: a keeper holds it, as it holds PostgreSQL's clusters. Stories share a
//! server, never a database.

use super::login::Login;
use super::wire::MyWire;
use crate::harness::PATIENCE;
use crate::harness::certificates::Certificates;
use crate::harness::server::PASSWORD;
use crate::harness::tool::Tool;
use crate::harness::wire::Address;
use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// May do everything, from this machine, without a password.
pub const ROOT: &str = "root";
/// Owns the databases of the stories and may see the server's processes; no password, the server's own default plugin.
pub const TRUSTED: &str = "trusty";
/// The same rights, for what one user must not do with another's token.
pub const OTHER: &str = "other";
/// The same rights but for PROCESS: may not ask what its transactions changed.
pub const BLIND: &str = "blind";
/// These prove themselves by [`PASSWORD`]: by the server's default plugin, and only over TLS.
pub const BY_PASSWORD: &str = "plain";
pub const ONLY_TLS: &str = "only_tls";
/// MariaDB's ed25519; MySQL's sha256_password.
pub const BY_OTHER_PLUGIN: &str = "odd";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    MariaDb,
    MySql,
}

pub struct MyServer {
    pub product: Product,
    pub port: u16,
    /// Of the data, the unix socket, and the files that the server may read and write.
    pub folder: PathBuf,
    /// Closes when this process ends: see the module's invariant.
    _keeper: Child,
}

/// One story's own database. It is not dropped: its server goes as a whole.
#[derive(Clone)]
pub struct MyDatabase {
    pub server: &'static MyServer,
    pub name: String,
}

impl MyServer {
    pub fn mariadb() -> &'static MyServer {
        static STARTED: OnceLock<MyServer> = OnceLock::new();
        STARTED.get_or_init(|| MyServer::start(Product::MariaDb))
    }

    pub fn mysql() -> &'static MyServer {
        static STARTED: OnceLock<MyServer> = OnceLock::new();
        STARTED.get_or_init(|| MyServer::start(Product::MySql))
    }

    pub fn is_mariadb(&self) -> bool {
        self.product == Product::MariaDb
    }

    /// What only one of the two understands, or says.
    pub fn either<T>(&self, mariadb: T, mysql: T) -> T {
        if self.is_mariadb() { mariadb } else { mysql }
    }

    pub fn tcp(&self) -> Address {
        Address::Tcp(SocketAddr::from(([127, 0, 0, 1], self.port)))
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.join("server.sock")
    }

    pub fn unix(&self) -> Address {
        Address::Unix(self.socket())
    }

    /// The product's own client programs: `mariadb`, `mariadb-dump`; `mysql`, `mysqldump`.
    pub fn client(&self) -> Tool {
        Tool::new(self.either(PathBuf::from("mariadb"), mysql_home().join("mysql"))).args(["--no-defaults"])
    }

    pub fn dump(&self) -> Tool {
        Tool::new(self.either(PathBuf::from("mariadb-dump"), mysql_home().join("mysqldump"))).args(["--no-defaults"])
    }

    /// A new database after running `setup` in it as [`TRUSTED`]. All names are of one length, so that two can stand for each other.
    pub fn database(&'static self, setup: &str) -> MyDatabase {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let database = MyDatabase { server: self, name: format!("story_{:04}", COUNT.fetch_add(1, Ordering::Relaxed)) };
        database.renew(setup);
        database
    }

    /// As root, straight to the server, in no database.
    pub fn administer(&self, sql: &str) {
        MyWire::login(&self.unix(), &Login::of(ROOT)).query(sql).expect_fine(sql);
    }

    fn start(product: Product) -> MyServer {
        let name = if product == Product::MariaDb { "mariadb" } else { "mysql" };
        let folder = std::env::temp_dir().join(format!("sluice-tests-{}-{name}", std::process::id()));
        fs::create_dir(&folder).expect("a new folder for the server");
        fs::create_dir(folder.join("files")).expect("our own folder");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        fs::write(folder.join("starting"), "").expect("our own folder");
        let keeper = keep(&folder, product, port);
        let server = MyServer { product, port, folder, _keeper: keeper };
        server.wait_until_it_listens();
        for account in accounts(product) {
            server.administer(&account);
        }
        server
    }

    /// Asks every few milliseconds: the server has no event for this.
    fn wait_until_it_listens(&self) {
        let deadline = Instant::now() + PATIENCE;
        let greeted = || {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
            stream.set_read_timeout(Some(PATIENCE)).ok()?;
            stream.read_exact(&mut [0; 5]).ok()
        };
        while greeted().is_none() {
            let log = || fs::read_to_string(self.folder.join("server.log")).unwrap_or_default();
            assert!(Instant::now() < deadline && self.folder.join("starting").exists(), "{}", log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl MyDatabase {
    /// Empty again, and set up again.
    pub fn renew(&self, setup: &str) {
        let name = &self.name;
        self.server.administer(&format!("DROP DATABASE IF EXISTS {name}; CREATE DATABASE {name}"));
        self.run(setup);
    }

    /// As [`TRUSTED`], straight to the server.
    pub fn connect(&self) -> MyWire {
        self.connect_as(TRUSTED)
    }

    pub fn connect_as(&self, user: &str) -> MyWire {
        MyWire::login(&self.server.tcp(), &Login::of(user).on(&self.name))
    }

    /// Runs a script straight on the server; fails the story if any of it fails.
    pub fn run(&self, sql: &str) {
        if !sql.is_empty() {
            self.connect().query(sql).expect_fine(sql);
        }
    }

    /// The same as root.
    pub fn run_as_root(&self, sql: &str) {
        self.connect_as(ROOT).query(sql).expect_fine(sql);
    }

    /// The first column of the first row, straight from the server, as root sees it.
    pub fn value(&self, sql: &str) -> String {
        self.connect_as(ROOT).query(sql).value()
    }

    pub fn count(&self, table: &str) -> u64 {
        self.value(&format!("SELECT count(*) FROM {table}")).parse().expect("a count")
    }

    /// Until this question is answered with 1, as root sees it. The server has no event for this, and what it shows of transactions and
    /// locks is made anew only when nobody asked for 100 ms.
    pub fn wait_until(&self, question: &str) {
        let mut watcher = self.connect_as(ROOT);
        let deadline = Instant::now() + PATIENCE;
        while watcher.query(question).value() != "1" {
            assert!(Instant::now() < deadline, "it never came true: {question}");
            std::thread::sleep(Duration::from_millis(120));
        }
    }
}

fn mysql_home() -> PathBuf {
    Tool::folder().join("mysql")
}

fn accounts(product: Product) -> Vec<String> {
    // Debian's and MySQL's own root comes by the unix socket alone.
    let root = format!(
        "CREATE USER IF NOT EXISTS {ROOT}@'127.0.0.1'; GRANT ALL ON *.* TO {ROOT}@'127.0.0.1' WITH GRANT OPTION"
    );
    let mut accounts = vec![root];
    let by_password = format!("IDENTIFIED BY '{PASSWORD}'");
    let by_other_plugin = match product {
        Product::MariaDb => format!("IDENTIFIED VIA ed25519 USING PASSWORD('{PASSWORD}')"),
        Product::MySql => format!("IDENTIFIED WITH sha256_password BY '{PASSWORD}'"),
    };
    for (name, proof, requires) in [
        (TRUSTED, "", ""),
        (OTHER, "", ""),
        (BLIND, "", ""),
        (BY_PASSWORD, by_password.as_str(), ""),
        (ONLY_TLS, by_password.as_str(), "REQUIRE SSL"),
        (BY_OTHER_PLUGIN, by_other_plugin.as_str(), ""),
    ] {
        let may = format!("GRANT ALL ON `story\\_%`.* TO {name} WITH GRANT OPTION");
        accounts.push(format!("CREATE USER {name} {proof} {requires}; {may}"));
        if name != BLIND {
            accounts.push(format!("GRANT PROCESS ON *.* TO {name}"));
            // Without it the bodies of others' routines are hidden, and a call of one is asked about.
            accounts.push(match product {
                Product::MySql => format!("GRANT SHOW_ROUTINE ON *.* TO {name}"),
                Product::MariaDb => format!("GRANT SELECT ON mysql.proc TO {name}"),
            });
        }
    }
    accounts
}

/// Starts the server and the shell that ends it: see the module's invariant. Durability is given up: a crash of the machine is not
/// among the stories.
fn keep(folder: &Path, product: Product, port: u16) -> Child {
    const SCRIPT: &str = r#"
        folder=$1 init=$2 server=$3; shift 3
        $init >"$folder/server.log" 2>&1 || rm "$folder/starting"
        ($server "$@" >>"$folder/server.log" 2>&1 </dev/null & echo $! >"$folder/keeper.pid"; wait; rm -f "$folder/starting") &
        cat >/dev/null
        kill -KILL "$(cat "$folder/keeper.pid")"
        wait
        rm -rf "$folder"
    "#;
    let us = fs::metadata("/proc/self").expect("a process").uid();
    let user = if us == 0 { "--user=root" } else { "" };
    let data = format!("--datadir={}/data", folder.display());
    let (init, server) = match product {
        Product::MariaDb => (
            format!(
                "mariadb-install-db --no-defaults --auth-root-authentication-method=normal --skip-test-db {user} {data}"
            ),
            format!("/usr/sbin/mariadbd --no-defaults {user} {data}"),
        ),
        Product::MySql => {
            let server = format!("{} {user} {data}", mysql_home().join("mysqld").display());
            (format!("{server} --initialize-insecure"), server)
        }
    };
    let program = server.split(' ').next().expect("a program");
    assert!(Path::new(program).exists(), "{program} is missing: run s/prepare test");
    let mut keeper = Command::new("sh");
    // A MariaDB that starts clears away what others keep in a directory for temporary files that they share.
    keeper.env("TMPDIR", folder);
    keeper.args(["-c", SCRIPT, "keeper"]).arg(folder).args([&init, &server]).args(settings(folder, product, port));
    std::os::unix::process::CommandExt::process_group(keeper.current_dir("/"), 0);
    keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a shell")
}

fn settings(folder: &Path, product: Product, port: u16) -> Vec<String> {
    let certificates = Certificates::get().write(folder);
    let mut settings: Vec<String> = [
        "--bind-address=127.0.0.1",
        "--skip-log-bin",
        "--skip-name-resolve",
        "--local-infile=ON",
        "--max-connections=300",
        "--max-allowed-packet=128M",
        "--character-set-server=utf8mb4",
        "--default-time-zone=+00:00",
        "--innodb-buffer-pool-size=64M",
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-flush-method=nosync",
        "--innodb-doublewrite=OFF",
    ]
    .map(str::to_owned)
    .to_vec();
    settings.push(format!("--port={port}"));
    let files = [
        ("socket", folder.join("server.sock")),
        ("pid-file", folder.join("server.pid")),
        ("secure-file-priv", folder.join("files")),
        ("ssl-ca", certificates.authority),
        ("ssl-cert", certificates.certificate),
        ("ssl-key", certificates.key),
    ];
    settings.extend(files.map(|(name, path)| format!("--{name}={}", path.display())));
    match product {
        Product::MySql => settings.extend(["--mysqlx=OFF", "--innodb-redo-log-capacity=64M"].map(str::to_owned)),
        Product::MariaDb => {
            // Debian packs the plugin with the service, which need not be installed: see s/prepare.
            let installed = Path::new("/usr/lib/mysql/plugin");
            let unpacked = Tool::folder().join("mariadb").join("usr/lib/mysql/plugin");
            let plugins = if installed.join("auth_ed25519.so").exists() { installed } else { unpacked.as_path() };
            settings.push(format!("--plugin-dir={}", plugins.display()));
            settings.extend(["--plugin-load-add=auth_ed25519", "--innodb-log-file-size=64M"].map(str::to_owned));
        }
    }
    settings
}
