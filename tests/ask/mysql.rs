//! A MariaDB and a MySQL of the tests' own, and a plain client of them that answers questions as a session would.
//!
//! The servers live in temporary directories, listen on a unix socket only, and are stopped when this process ends: a shell holds each and
//! waits for the end of its input. The client speaks as much of the protocol as questions need: a login without a password, COM_QUERY, text rows.

use sluice::database::{Answer, Ask, AskError};
use sluice::protocol::Parameters;
use sluice::sql::Product;
use sluice::sql::statement::{LexicalMode, MySqlMode};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

pub struct Server {
    home: PathBuf,
    pub product: Product,
    databases: AtomicU32,
    /// Its input closes with this process.
    _keeper: Child,
}

/// Both, for stories that are told of each.
pub fn both() -> [Arc<Server>; 2] {
    [Server::get(Product::MariaDb), Server::get(Product::MySql)]
}

impl Server {
    pub fn get(product: Product) -> Arc<Server> {
        static MARIADB: OnceLock<Arc<Server>> = OnceLock::new();
        static MYSQL: OnceLock<Arc<Server>> = OnceLock::new();
        let one = if product == Product::MariaDb { &MARIADB } else { &MYSQL };
        one.get_or_init(|| Arc::new(Server::start(product))).clone()
    }

    fn start(product: Product) -> Server {
        let home = tempfile::tempdir().expect("a temporary directory").keep();
        let data = format!("--datadir={}", home.join("data").display());
        let mysqld = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/tools/mysql/mysqld");
        let is_mariadb = product == Product::MariaDb;
        let mut init = Command::new(if is_mariadb { PathBuf::from("mariadb-install-db") } else { mysqld.clone() });
        init.args(match is_mariadb {
            true => &["--no-defaults", "--auth-root-authentication-method=normal"][..],
            false => &["--initialize-insecure"],
        });
        // mysqld and mariadbd refuse to run as root unless they are told to.
        let as_root: &[&str] =
            if std::fs::metadata("/proc/self").expect("a process").uid() == 0 { &["--user=root"] } else { &[] };
        let done = init
            .env("TMPDIR", &home)
            .args(as_root)
            .arg(&data)
            .stdin(Stdio::null())
            .output()
            .expect("the server is installed: s/prepare");
        assert!(done.status.success(), "{product:?}: {}", String::from_utf8_lossy(&done.stderr));
        let server = if is_mariadb { PathBuf::from("/usr/sbin/mariadbd") } else { mysqld };
        let keep = "home=$1; shift; \"$@\" >\"$home/log\" 2>&1 </dev/null & cat >/dev/null; kill -9 $!; wait; rm -rf \"$home\"";
        let mut keeper = Command::new("sh");
        // A MariaDB that starts clears away what others keep in a directory for temporary files that they share.
        keeper.env("TMPDIR", &home);
        keeper.args(["-c", keep, "sh"]).arg(&home).arg(server);
        keeper.args([if is_mariadb { "--no-defaults" } else { "--mysqlx=OFF" }]).args(as_root);
        keeper.args([&data, &format!("--socket={}", home.join("socket").display()), "--skip-networking"]);
        keeper.args([&format!("--pid-file={}", home.join("pid").display()), "--innodb-flush-log-at-trx-commit=0"]);
        let keeper = keeper.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("a shell");
        let server = Server { home, product, databases: AtomicU32::new(0), _keeper: keeper };
        let deadline = Instant::now() + Duration::from_secs(60);
        while UnixStream::connect(server.socket()).is_err() {
            let log = || std::fs::read_to_string(server.home.join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "{product:?} does not listen: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    fn socket(&self) -> PathBuf {
        self.home.join("socket")
    }

    /// A client of a database of its own, prepared by these statements. (On MariaDB everybody has every right to `test_…`.)
    pub fn client(self: &Arc<Self>, setup: &[&str]) -> Client {
        let name = format!("shop_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut client = Client::connect(self.clone(), "root");
        client.run(&format!("CREATE DATABASE {name}"));
        client.run(&format!("USE {name}"));
        client.database = name;
        setup.iter().for_each(|one| client.run(one));
        client
    }

    /// How its sessions read texts by default.
    pub fn mode(&self) -> LexicalMode {
        let version = if self.product == Product::MariaDb { 101114 } else { 90704 };
        LexicalMode::MySql(MySqlMode::of(self.product, version))
    }
}

pub struct Client {
    stream: UnixStream,
    pub server: Arc<Server>,
    pub database: String,
    pub asked: Vec<String>,
    /// Questions are asked in the transaction that the test is in.
    pub in_place: bool,
}

impl Client {
    fn connect(server: Arc<Server>, user: &str) -> Client {
        let stream = UnixStream::connect(server.socket()).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        let mut client = Client { stream, server, database: String::new(), asked: Vec::new(), in_place: false };
        let (_, greeting) = client.packet();
        assert_eq!(greeting.first(), Some(&10), "a greeting");
        // LONG_PASSWORD, LONG_FLAG, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, PLUGIN_AUTH; utf8mb4.
        let flags: u32 = 1 | 4 | 0x200 | 0x2000 | 0x8000 | 0x8_0000;
        let mut hello = flags.to_le_bytes().to_vec();
        hello.extend([0, 0, 0, 1, 45]);
        hello.extend([0; 23]);
        hello.extend(user.as_bytes());
        // No password, and its length; the plugin that needs none.
        hello.extend([0, 0]);
        hello.extend(b"mysql_native_password\0");
        client.send(1, &hello);
        loop {
            let (number, answer) = client.packet();
            match answer.first() {
                Some(0) => return client,
                // Another plugin, or its word that the fast way was enough: an empty password is an empty packet.
                Some(0xfe) => client.send(number + 1, &[]),
                Some(1) => {}
                _ => panic!("{user} may not log in: {}", String::from_utf8_lossy(&answer)),
            }
        }
    }

    /// Another user, in the same database, with these rights (`SELECT ON {db}.t`).
    pub fn user(&mut self, grants: &[&str]) -> Client {
        let name = format!("u{}_{}", self.database, self.server.databases.fetch_add(1, Ordering::Relaxed));
        self.run(&format!("CREATE USER {name}@localhost"));
        for grant in grants {
            self.run(&format!("GRANT {} TO {name}@localhost", grant.replace("{db}", &self.database)));
        }
        let mut client = Client::connect(self.server.clone(), &name);
        client.run(&format!("USE {}", self.database));
        client.database = self.database.clone();
        client
    }

    pub fn run(&mut self, sql: &str) {
        self.query(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    pub fn value(&mut self, sql: &str) -> Option<String> {
        self.query(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}")).rows.first()?.first()?.clone()
    }

    /// Rows that an OK packet says were changed.
    pub fn changed(&mut self, sql: &str) -> u64 {
        self.send_command(sql);
        let (_, answer) = self.packet();
        assert_eq!(answer.first(), Some(&0), "{sql}: {}", String::from_utf8_lossy(&answer));
        Cells(&answer[1..]).number().expect("a number")
    }

    pub fn query(&mut self, sql: &str) -> Result<Answer, AskError> {
        self.send_command(sql);
        let (_, first) = self.packet();
        match first.first() {
            Some(0) => return Ok(Answer::default()),
            Some(0xff) => return Err(error(&first)),
            _ => {}
        }
        let count = Cells(&first).number().expect("a number of columns");
        let mut answer = Answer::default();
        for _ in 0..count {
            let (_, column) = self.packet();
            let mut cells = Cells(&column);
            // Catalog, database, table, its own name, and then the column's name.
            let name = (0..5).map(|_| cells.text().expect("a text")).last().flatten();
            answer.columns.push(name.unwrap_or_default());
        }
        assert_eq!(self.packet().1.first(), Some(&0xfe), "the end of the columns");
        loop {
            let (_, row) = self.packet();
            match row.first() {
                Some(0xfe) if row.len() < 9 => return Ok(answer),
                Some(0xff) => return Err(error(&row)),
                _ => {}
            }
            let mut cells = Cells(&row);
            answer.rows.push((0..count).map(|_| cells.text().expect("a cell")).collect());
        }
    }

    fn send_command(&mut self, sql: &str) {
        let mut body = vec![3];
        body.extend(sql.as_bytes());
        self.send(0, &body);
    }

    fn send(&mut self, number: u8, body: &[u8]) {
        let mut packet = (body.len() as u32).to_le_bytes()[..3].to_vec();
        packet.push(number);
        packet.extend(body);
        self.stream.write_all(&packet).expect("the server listens");
    }

    fn packet(&mut self) -> (u8, Vec<u8>) {
        let mut header = [0; 4];
        self.stream.read_exact(&mut header).expect("an answer");
        let mut body = vec![0; u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize];
        self.stream.read_exact(&mut body).expect("a whole answer");
        (header[3], body)
    }
}

fn error(packet: &[u8]) -> AskError {
    let text = |from: usize, to: usize| String::from_utf8_lossy(&packet[from..to]).into_owned();
    AskError::Database { code: text(4, 9), message: text(9, packet.len()) }
}

struct Cells<'a>(&'a [u8]);

impl Cells<'_> {
    fn number(&mut self) -> Option<u64> {
        let first = *self.0.first()?;
        let bytes = match first {
            0xfb => {
                self.0 = &self.0[1..];
                return None;
            }
            0xfc => 2,
            0xfd => 3,
            0xfe => 8,
            _ => 0,
        };
        let mut number = [0; 8];
        number[..bytes].copy_from_slice(&self.0[1..=bytes]);
        self.0 = &self.0[1 + bytes..];
        Some(if bytes == 0 { u64::from(first) } else { u64::from_le_bytes(number) })
    }

    /// `None`: the cell is cut off.
    fn text(&mut self) -> Option<Option<String>> {
        let Some(length) = self.number() else { return Some(None) };
        let (text, rest) = self.0.split_at_checked(length as usize)?;
        self.0 = rest;
        Some(Some(String::from_utf8_lossy(text).into_owned()))
    }
}

impl Ask for Client {
    async fn ask(&mut self, sql: &str, parameters: Option<&Parameters>) -> Result<Answer, AskError> {
        assert!(parameters.is_none(), "MySQL's questions have their values in the text");
        self.asked.push(sql.to_owned());
        if self.in_place {
            return self.query(sql);
        }
        self.run("START TRANSACTION READ ONLY");
        // A session sees to it that the client's limits do not cut its queries; those do not act on SHOW's.
        let limit = self.value("SELECT @@sql_select_limit").unwrap_or_else(|| "0".to_owned());
        if !sql.starts_with("SHOW") {
            self.run("SET sql_select_limit = DEFAULT");
        }
        let answered = self.query(sql);
        self.run(&format!("SET sql_select_limit = {limit}"));
        self.run("ROLLBACK");
        answered
    }
}
