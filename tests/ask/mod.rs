//! A PostgreSQL of the tests' own, and a plain client of it that answers questions as a session would.
//!
//! The server lives in a temporary directory, listens on a unix socket only, and is stopped when the last test lets go of it.

use sluice::database::{Answer, Ask, AskError};
use sluice::protocol::Parameters;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio_postgres::{NoTls, SimpleQueryMessage};

pub struct Server {
    home: tempfile::TempDir,
    programs: PathBuf,
    databases: AtomicU32,
}

static RUNNING: Mutex<Weak<Server>> = Mutex::new(Weak::new());

impl Server {
    /// The one server of this test binary.
    pub fn get() -> Arc<Server> {
        let mut running = RUNNING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(server) = running.upgrade() {
            return server;
        }
        let server = Arc::new(Server::start());
        *running = Arc::downgrade(&server);
        server
    }

    fn start() -> Server {
        let home = tempfile::tempdir().expect("a temporary directory");
        let server = Server { programs: programs(), home, databases: AtomicU32::new(0) };
        if let Some((uid, gid)) = unprivileged() {
            chown(server.home.path(), Some(uid), Some(gid)).expect("the directory is ours");
        }
        server.program(
            "initdb",
            &["-D", &server.data(), "-A", "trust", "-U", "tester", "--no-sync", "-E", "UTF8", "--locale=C"],
        );
        let options = format!(
            "-k {} -c listen_addresses= -c fsync=off -c autovacuum=off -c jit=off",
            server.home.path().display()
        );
        let log = server.home.path().join("log").display().to_string();
        server.program("pg_ctl", &["-D", &server.data(), "-w", "-l", &log, "-o", &options, "start"]);
        server
    }

    /// A client of a database of its own, prepared by these statements.
    pub async fn client(self: &Arc<Self>, setup: &str) -> Client {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        Client::connect(self.clone(), "postgres").await.run(&format!("CREATE DATABASE {name}")).await;
        let client = Client::connect(self.clone(), &name).await;
        client.run(setup).await;
        client
    }

    fn data(&self) -> String {
        self.home.path().join("data").display().to_string()
    }

    fn program(&self, name: &str, arguments: &[&str]) {
        let mut command = Command::new(self.programs.join(name));
        command.args(arguments).current_dir(self.home.path()).stdout(Stdio::null()).stdin(Stdio::null());
        if let Some((uid, gid)) = unprivileged() {
            command.uid(uid).gid(gid);
        }
        let status = command.status().expect("PostgreSQL's programs are installed");
        assert!(status.success(), "{name} failed");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.program("pg_ctl", &["-D", &self.data(), "-m", "immediate", "stop"]);
    }
}

/// The newest version installed as Debian does it.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed");
    let version = |path: &Path| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let newest = versions
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("bin/initdb").exists())
        .max_by_key(|path| version(path));
    newest.expect("PostgreSQL's server is installed").join("bin")
}

/// The server refuses to run as root: the ids to run it as then.
fn unprivileged() -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt;
    if std::fs::metadata("/proc/self").ok()?.uid() != 0 {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find(|line| line.starts_with("postgres:")).expect("there is a user postgres");
    let mut fields = line.split(':').skip(2).map(|id| id.parse().expect("an id"));
    Some((fields.next()?, fields.next()?))
}

pub struct Client {
    client: tokio_postgres::Client,
    _server: Arc<Server>,
    /// For each question.
    pub limit: Duration,
    /// Questions may write, so that a test can see whether they would.
    pub writable: bool,
    /// Questions are asked in the transaction that the test is in.
    pub in_place: bool,
    pub asked: u32,
}

impl Client {
    async fn connect(server: Arc<Server>, database: &str) -> Client {
        let mut config = tokio_postgres::Config::new();
        config.host_path(server.home.path()).user("tester").dbname(database);
        let (client, connection) = config.connect(NoTls).await.expect("the server accepts us");
        tokio::spawn(connection);
        Client { client, _server: server, limit: Duration::from_secs(20), writable: false, in_place: false, asked: 0 }
    }

    pub async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{error:?}"));
    }

    pub async fn value(&self, sql: &str) -> Option<String> {
        let answer = answer(self.client.simple_query(sql).await.expect("a value"));
        answer.rows.first()?.first()?.clone()
    }
}

impl Ask for Client {
    async fn ask(&mut self, sql: &str, parameters: Option<&Parameters>) -> Result<Answer, AskError> {
        self.asked += 1;
        if self.in_place {
            return Ok(answer(self.client.simple_query(sql).await.expect("an answer")));
        }
        let mode = if self.writable { "READ WRITE" } else { "READ ONLY" };
        let begin = format!("BEGIN {mode}; SET LOCAL statement_timeout = {}", self.limit.as_millis());
        self.run(&begin).await;
        let answered = self.client.simple_query(&substituted(sql, parameters)).await;
        // A sequence's steps outlast this: that is what tests look at.
        self.run("ROLLBACK").await;
        answered.map(answer).map_err(|error| match error.as_db_error() {
            Some(error) if error.code().code() == "57014" => AskError::Deadline,
            Some(error) => {
                AskError::Database { code: error.code().code().to_owned(), message: error.message().to_owned() }
            }
            None => AskError::Lost,
        })
    }
}

/// The simple protocol has no parameters: text values are put in with their types, the highest number first.
fn substituted(sql: &str, parameters: Option<&Parameters>) -> String {
    let Some(parameters) = parameters else {
        return sql.to_owned();
    };
    let values = parameters.values.iter().zip(&parameters.types).enumerate().rev();
    values.fold(sql.to_owned(), |sql, (at, (value, kind))| {
        let value = value.as_ref().map_or("NULL".to_owned(), |value| format!("'{}'", String::from_utf8_lossy(value)));
        let kind = if *kind == 23 { "int4" } else { "text" };
        sql.replace(&format!("${}", at + 1), &format!("({value}::pg_catalog.{kind})"))
    })
}

fn answer(messages: Vec<SimpleQueryMessage>) -> Answer {
    let mut answer = Answer::default();
    for message in messages {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                answer.columns = columns.iter().map(|column| column.name().to_owned()).collect();
            }
            SimpleQueryMessage::Row(row) => {
                answer.rows.push((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect());
            }
            _ => {}
        }
    }
    answer
}
