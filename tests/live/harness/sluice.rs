//! The real binary before a real server, each story with its own process, folder, store and record.
//!
//! Invariant: what a story learns of the process it learns by what an operator could see: the log's lines, the record's lines,
//! the admin endpoint, the exit code, the memory the kernel counts.

use super::PATIENCE;
use super::certificates::{Certificates, Files};
use super::mysql::server::MyServer;
use super::server::{Database, PASSWORD, TRUSTED};
use super::tool::{Said, Tool};
use super::wire::{Address, Wire};
use sluice::audit::event::{Event, Kind};
use sluice::audit::sink::Sink;
use sluice::ground::clock::Clock;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;
use tempfile::TempDir;

/// How a Sluice is to be started.
pub struct Setup {
    protocol: &'static str,
    upstream: String,
    listen: String,
    listener: String,
    rest: String,
    audit: String,
    record: PathBuf,
    folder: TempDir,
    pub certificates: Files,
}

pub struct Sluice {
    child: Child,
    log: Arc<Log>,
    pub address: Address,
    /// Where health and metrics are served.
    pub admin: SocketAddr,
    /// Taken only when another process goes on with the same files.
    setup: Option<Setup>,
}

/// Where Sluice finds [`PASSWORD`].
pub const SECRET_VARIABLE: &str = "SLUICE_STORY_SECRET";

const INVARIANT: &str = "only crash_and_restart takes it, and that ends this one";

#[derive(Default)]
struct Log {
    lines: Mutex<(Vec<String>, Ended)>,
    changed: Condvar,
}

#[derive(Default, PartialEq)]
enum Ended {
    #[default]
    No,
    Yes,
}

impl Setup {
    /// The smallest configuration, before this database's server.
    pub fn before(database: &Database) -> Setup {
        Setup::before_address(&database.server.tcp())
    }

    /// The smallest configuration before MySQL or MariaDB.
    pub fn before_mysql(server: &MyServer) -> Setup {
        Setup { protocol: "mysql", ..Setup::before_address(&server.tcp()) }
    }

    pub fn before_my_socket(server: &MyServer) -> Setup {
        Setup { protocol: "mysql", ..Setup::before_address(&server.unix()) }
    }

    pub fn before_address(upstream: &Address) -> Setup {
        let upstream = match upstream {
            Address::Tcp(address) => address.to_string(),
            Address::Unix(path) => format!("unix:{}", path.display()),
        };
        let folder = tempfile::Builder::new().prefix("sluice-story-").tempdir().expect("a folder for temporary files");
        let certificates = Certificates::get().write(folder.path());
        let listen = "127.0.0.1:0".to_owned();
        Setup {
            protocol: "postgres",
            upstream,
            listen,
            listener: String::new(),
            rest: String::new(),
            audit: String::new(),
            record: folder.path().join("audit.jsonl"),
            folder,
            certificates,
        }
    }

    /// Who can connect to the folder's unix socket: anybody.
    pub fn reachable_by_all(self) -> Setup {
        fs::set_permissions(self.folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).expect("our own");
        self
    }

    /// Lines of TOML for the listener: `upstream_tls = "disable"`.
    pub fn listener(mut self, lines: &str) -> Setup {
        self.listener.push_str(lines);
        self.listener.push('\n');
        self
    }

    /// TLS towards clients, with the run's certificate.
    pub fn with_tls(self) -> Setup {
        let (certificate, key) = (self.certificates.certificate.display(), self.certificates.key.display());
        let line = format!("tls = {{ cert = \"{certificate}\", key = \"{key}\" }}");
        self.listener(&line)
    }

    /// Listens on a unix socket instead.
    pub fn on_unix_socket(mut self) -> Setup {
        self.listen = format!("unix:{}", self.folder.path().join(".s.PGSQL.6432").display());
        self
    }

    /// Further tables of TOML: `[limits]\ntoken_ttl = "1s"`.
    pub fn with(mut self, tables: &str) -> Setup {
        self.rest.push_str(tables);
        self.rest.push('\n');
        self
    }

    pub fn listening_on(mut self, address: &str) -> Setup {
        self.listen = address.to_owned();
        self
    }

    pub fn recording_to(mut self, path: &str) -> Setup {
        self.record = path.into();
        self
    }

    /// Lines of TOML for the record: `on_failure = "refuse-everything"`.
    pub fn auditing(mut self, lines: &str) -> Setup {
        self.audit.push_str(lines);
        self.audit.push('\n');
        self
    }

    /// A record that is large from the start: larger than the other files of this Sluice will be.
    pub fn with_a_large_record(self) -> Setup {
        let sink = Sink::open(&self.record, Clock::System).expect("a new record");
        let text = "x".repeat(64 << 10);
        for _ in 0..160 {
            let event = Event { kind: Kind::Service, statement: Some(&text), ..Event::default() };
            sink.write(&event).expect("there is room on this disk");
        }
        self
    }

    pub fn start(self) -> Sluice {
        self.write();
        Sluice::spawn(self)
    }

    /// Starts a Sluice that is expected to give up at once; what it said, and its exit code.
    pub fn start_in_vain(self) -> Said {
        self.write();
        Tool::new(env!("CARGO_BIN_EXE_sluice")).args(["run", "--config"]).args([self.path("sluice.toml")]).run()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file beside the configuration that only its owner may read; its path.
    pub fn private_file(&self, name: &str, text: &str) -> String {
        private_file(&self.path(name), text);
        self.path(name).display().to_string()
    }

    fn write(&self) {
        let Setup { protocol, upstream, listen, listener, rest, audit: keys, .. } = self;
        let (store, audit) = (self.path("sluice.db"), &self.record);
        let text = format!(
            "[[listener]]\nname = \"story\"\nprotocol = \"{protocol}\"\nlisten = \"{listen}\"\nupstream = \"{upstream}\"\n{listener}\n\
             [store]\nurl = \"sqlite:{}\"\n[audit]\npath = \"{}\"\n{keys}\n[admin]\nlisten = \"127.0.0.1:0\"\n{rest}",
            store.display(),
            audit.display()
        );
        fs::write(self.path("sluice.toml"), text).expect("a writable folder");
    }
}

impl Sluice {
    /// The smallest configuration, started.
    pub fn before(database: &Database) -> Sluice {
        Setup::before(database).start()
    }

    fn spawn(setup: Setup) -> Sluice {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.args(["run", "--config"]).arg(setup.path("sluice.toml")).current_dir(setup.folder.path());
        command.env("NO_COLOR", "1").env_remove("RUST_LOG").env(SECRET_VARIABLE, PASSWORD);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        let log = Arc::new(Log::default());
        let (stderr, writer) = (child.stderr.take().expect("piped"), log.clone());
        std::thread::spawn(move || writer.keep(BufReader::new(stderr)));
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut sluice = Sluice { child, log, address: Address::Tcp(nowhere), admin: nowhere, setup: Some(setup) };
        let listening =
            sluice.log_line("the listener's address", |line| line.contains("listening") && line.contains("story"));
        sluice.address = match field(&listening, "address") {
            path if path.starts_with("unix:") => Address::Unix(path["unix:".len()..].into()),
            address => Address::Tcp(address.parse().unwrap_or_else(|_| panic!("no address in {listening}"))),
        };
        let admin = sluice.log_line("the admin address", |line| line.contains("listening") && line.contains("admin"));
        sluice.admin = field(&admin, "address").parse().unwrap_or_else(|_| panic!("no address in {admin}"));
        sluice
    }

    fn setup(&self) -> &Setup {
        self.setup.as_ref().expect(INVARIANT)
    }

    /// A trusted user, logged in through the gate.
    pub fn connect(&self, database: &Database) -> Wire {
        self.connect_as(TRUSTED, database)
    }

    pub fn connect_as(&self, user: &str, database: &Database) -> Wire {
        Wire::login(&self.address, user, &database.name)
    }

    /// Changes a file beside the configuration.
    pub fn private_file(&self, name: &str, text: &str) {
        private_file(&self.setup().path(name), text);
    }

    pub fn configuration(&self) -> PathBuf {
        self.setup.as_ref().expect(INVARIANT).path("sluice.toml")
    }

    pub fn certificates(&self) -> &Files {
        &self.setup().certificates
    }

    /// A port for clients that want one.
    pub fn port(&self) -> u16 {
        let Address::Tcp(address) = &self.address else { panic!("this one listens on a unix socket") };
        address.port()
    }

    /// The first line of the log that matches, now or within the deadline.
    pub fn log_line(&self, what: &str, matches: impl Fn(&str) -> bool) -> String {
        self.log.wait_for(what, matches)
    }

    /// How many lines the log has so far, for [`Sluice::log_line_after`].
    pub fn log_length(&self) -> usize {
        self.log.lines.lock().expect("no writer panics").0.len()
    }

    pub fn log_line_after(&self, start: usize, what: &str, matches: impl Fn(&str) -> bool) -> String {
        self.log.wait_from(start, what, matches)
    }

    /// The record, one JSON value a line.
    pub fn record(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.record_path()).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}")))
            .collect()
    }

    pub fn record_path(&self) -> PathBuf {
        self.setup().record.clone()
    }

    /// What `sluice audit verify` says of the record.
    pub fn verify_record(&self) -> Said {
        verify(&self.record_path())
    }

    /// Everything in the folder that Sluice itself wrote, as bytes: for looking for what must not be there.
    pub fn everything_written(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for name in ["sluice.db", "sluice.db-wal", "audit.jsonl"] {
            bytes.extend(fs::read(self.setup().path(name)).unwrap_or_default());
        }
        bytes.extend(self.log.lines.lock().expect("no writer panics").0.join("\n").into_bytes());
        bytes
    }

    /// Writes another configuration over the old one and sends SIGHUP; returns when the log tells of the reload.
    pub fn reload(&mut self, tables: &str) -> String {
        let setup = self.setup.as_mut().expect(INVARIANT);
        setup.rest = tables.to_owned();
        setup.write();
        let before = self.log_length();
        self.signal("HUP");
        self.log_line_after(before, "a reload", |line| {
            line.contains("policy loaded") || line.contains("configuration is broken")
        })
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -{name}");
    }

    /// No file of the process may grow beyond so many bytes: what a full disk is to the largest of them. `None`: no limit again.
    pub fn limit_files(&self, bytes: Option<u64>) {
        let limit = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
        let limited =
            Command::new("prlimit").arg(format!("--pid={}", self.child.id())).arg(format!("--fsize={limit}:")).status();
        assert!(limited.is_ok_and(|status| status.success()), "prlimit, of util-linux");
    }

    /// Waits for the process to end by itself.
    pub fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        self.log.wait_for_end(deadline);
        self.child.wait().expect("our own child")
    }

    /// Ends this process as a crash would and starts another with the same files. The address changes.
    pub fn crash_and_restart(mut self) -> Sluice {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
        let setup = self.setup.take().expect(INVARIANT);
        Sluice::spawn(setup)
    }

    /// The most memory the process ever held at once, in bytes.
    pub fn most_memory(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// The memory the process holds now, in bytes.
    pub fn memory_now(&self) -> u64 {
        self.memory("VmRSS:")
    }

    fn memory(&self, what: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a living process");
        let line = status.lines().find_map(|line| line.strip_prefix(what)).expect("the kernel counts it");
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
    }

    /// GET of a path on the admin endpoint: status line and body.
    pub fn get(&self, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect_timeout(&self.admin, PATIENCE).expect("the admin endpoint listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: sluice\r\nConnection: close\r\n\r\n").expect("it takes a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer in time");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
    }
}

fn private_file(path: &Path, text: &str) {
    fs::write(path, text).expect("a writable folder");
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("our own file");
}

/// `sluice audit verify FILE`.
pub fn verify(record: &Path) -> Said {
    Tool::new(env!("CARGO_BIN_EXE_sluice")).args(["audit", "verify"]).args([record]).run()
}

impl Drop for Sluice {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _status = self.child.wait();
        if std::thread::panicking() {
            let lines = self.log.lines.lock().map(|lines| lines.0.clone()).unwrap_or_default();
            eprintln!(
                "--- the last lines of sluice's log\n{}\n---",
                lines[lines.len().saturating_sub(60)..].join("\n")
            );
        }
    }
}

impl Log {
    fn keep(&self, lines: impl BufRead) {
        for line in lines.split(b'\n').map_while(Result::ok) {
            self.lines
                .lock()
                .expect("no reader panics while it holds it")
                .0
                .push(String::from_utf8_lossy(&line).into_owned());
            self.changed.notify_all();
        }
        self.lines.lock().expect("no reader panics while it holds it").1 = Ended::Yes;
        self.changed.notify_all();
    }

    fn wait_for(&self, what: &str, matches: impl Fn(&str) -> bool) -> String {
        self.wait_from(0, what, matches)
    }

    fn wait_from(&self, start: usize, what: &str, matches: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.lines.lock().expect("no writer panics");
        loop {
            let found = lines.0.iter().skip(start).find(|line| matches(line)).cloned();
            if let Some(line) = found {
                return line;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || lines.1 == Ended::Yes {
                let said = lines.0.join("\n");
                drop(lines);
                panic!("{what} did not come up in the log:\n{said}");
            }
            lines = self.changed.wait_timeout(lines, left).expect("no writer panics").0;
        }
    }

    fn wait_for_end(&self, deadline: Instant) {
        let mut lines = self.lines.lock().expect("no writer panics");
        while lines.1 == Ended::No {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let said = lines.0.join("\n");
                drop(lines);
                panic!("it did not end:\n{said}");
            }
            lines = self.changed.wait_timeout(lines, left).expect("no writer panics").0;
        }
    }
}

/// `name=value` or `name="value"` of a log line.
fn field(line: &str, name: &str) -> String {
    let start = line.find(&format!("{name}=")).unwrap_or_else(|| panic!("no {name} in {line}")) + name.len() + 1;
    let value = line[start..].split_whitespace().next().unwrap_or_default();
    value.trim_matches('"').to_owned()
}
