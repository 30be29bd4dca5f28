//! The configuration: read from a file into its meant form, or refused with every error at once.
//!
//! Reading order: [`Config`] is what the rest of the house gets, [`written`] says which keys there are and what they may hold,
//! [`reader`] takes a TOML document apart and remembers what was wrong, [`errors`] shows it.
//!
//! Invariant: a [`Config`] is free of errors, every key of the file was understood, and no secret stands in it: only the names
//! of files that hold one.

pub mod address;
pub mod errors;
mod reader;
mod written;
mod written_logins;

pub use self::address::Address;
pub use self::errors::Errors;

use crate::audit::Manner;
use crate::audit::rotation::Rotation;
use crate::policy::settings::Policy;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Reads and understands a file.
pub fn load(path: &Path) -> Result<Config, Errors> {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    match read(path) {
        Ok(text) => parse(&text, &name),
        Err(why) => Err(Errors::of_file(&path.display().to_string(), why)),
    }
}

/// Understands a text; `name` is what errors and origins call it.
pub fn parse(text: &str, name: &str) -> Result<Config, Errors> {
    written::config(text, name).0
}

/// The keys that Sluice knows and the text does not write, as paths ("listener.tls.cert"). A table that is not written is one
/// key: what it could hold is not looked at.
pub fn keys_left_out(text: &str) -> Vec<String> {
    written::config(text, "").1
}

/// Everything there is to configure.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub listeners: Vec<Listener>,
    pub policy: Policy,
    pub store: Store,
    pub audit: Audit,
    /// `None`: `listen = "off"`.
    pub admin: Option<Admin>,
    pub log: Log,
    pub metrics: Metrics,
    pub sessions: Sessions,
    pub logins: Logins,
}

/// Where clients come in, and the database they are taken to.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    pub name: String,
    pub protocol: Protocol,
    pub listen: Address,
    pub upstream: Address,
    pub auth: Auth,
    /// TLS towards clients, if any.
    pub tls: Option<ServerTls>,
    /// TLS towards the database.
    pub upstream_tls: UpstreamTls,
    pub upstream_ca: Roots,
}

impl Listener {
    /// Whether the other can take its place without a new socket: how clients log in may differ, where they come in and are taken
    /// to may not.
    pub fn has_the_ends_of(&self, other: &Listener) -> bool {
        let ends = |one: &Listener| (one.name.clone(), one.protocol, one.listen.clone(), one.upstream.clone());
        ends(self) == ends(other) && self.upstream_tls == other.upstream_tls && self.upstream_ca == other.upstream_ca
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Postgres,
    /// MySQL and MariaDB.
    MySql,
}

/// Who decides who may come in, and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// The database decides; Sluice passes the conversation on.
    Passthrough,
    /// Sluice checks a SCRAM proof; at least one of the two says against what.
    Scram { users_file: Option<PathBuf>, auth_query: Option<AuthQuery>, accounts: Vec<Account> },
    /// Sluice checks what MySQL's plugins show of a password.
    Password { users_file: PathBuf, accounts: Vec<Account> },
    /// Sluice checks a certificate. Without names, one may log in as the user that it is called.
    Cert { names: Vec<CertificateName>, accounts: Vec<Account> },
}

/// Where Sluice looks verifiers up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthQuery {
    pub user: String,
    /// None: the database lets this user in without.
    pub password: Option<PasswordSource>,
    pub database: String,
    pub query: String,
}

impl AuthQuery {
    /// A role that may not log in, or not any more, has no verifier that counts.
    pub const DEFAULT: &'static str = "SELECT rolname, CASE WHEN rolvaliduntil < pg_catalog.now() THEN NULL ELSE rolpassword END \
         FROM pg_catalog.pg_authid WHERE rolname OPERATOR(pg_catalog.=) $1 AND rolcanlogin";
}

/// Where a secret is: never here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordSource {
    File(PathBuf),
    Variable(String),
}

/// A client's user, and as whom Sluice logs in for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub user: String,
    pub upstream_user: String,
    pub password: PasswordSource,
}

/// Who may log in with a certificate. `None` is `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateName {
    pub name: Option<String>,
    pub users: Vec<Option<String>>,
}

/// Files in PEM form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Whom clients' certificates must come from.
    pub client_ca: Option<PathBuf>,
    pub mode: ServerTlsMode,
}

/// What becomes of clients that log in without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServerTlsMode {
    #[default]
    Prefer,
    /// Refused, before anybody asks them for a password.
    Require,
}

/// As libpq's sslmode means it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamTls {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// Whom to trust when a certificate is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    System,
    File(PathBuf),
}

/// Where challenges outlive a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    Sqlite(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    pub path: PathBuf,
    pub rotation: Rotation,
    pub manner: Manner,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    pub listen: Address,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// As tracing and `RUST_LOG` call it.
    pub fn name(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metrics {
    /// Served by the admin listener.
    pub enabled: bool,
}

/// Bounds on client connections and on waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sessions {
    /// At the same time, over all listeners.
    pub max_sessions: usize,
    /// Connections that have not logged in yet, at the same time, over all listeners; they take no session's seat.
    pub max_logins: usize,
    /// Of these, from one address.
    pub max_logins_per_address: usize,
    /// From accepting to the end of logging in.
    pub login_timeout: Duration,
    /// To reach the database.
    pub connect_timeout: Duration,
    /// Without a byte either way, outside a transaction; `None`: forever.
    pub idle_timeout: Option<Duration>,
    /// For all questions about one statement together; past it they count as unanswered.
    pub ask_timeout: Duration,
    /// How long SIGTERM waits for sessions to end by themselves.
    pub drain_timeout: Duration,
    /// What large messages and prepared texts may take, over all sessions; each has a little that does not count.
    pub memory_bytes: usize,
}

impl Default for Sessions {
    fn default() -> Self {
        Sessions {
            max_sessions: 1_000,
            max_logins: 500,
            max_logins_per_address: 250,
            login_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: None,
            ask_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(30),
            memory_bytes: 2 << 30,
        }
    }
}

/// Bounds on guessing, where Sluice checks logins itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logins {
    /// Wrong tries as one user from one address; more are refused.
    pub wrong_per_user: u32,
    /// Wrong tries from one address, as whomever; more are refused.
    pub wrong_per_address: u32,
    /// Wrong tries as one user, from wherever; then each login as that user is made to wait.
    pub slow_after: u32,
    /// Over this time; it begins with the first wrong try.
    pub window: Duration,
}

impl Default for Logins {
    fn default() -> Self {
        Logins { wrong_per_user: 10, wrong_per_address: 50, slow_after: 50, window: Duration::from_secs(600) }
    }
}

/// Read whole before it is understood, so bounded: the largest sensible file of scopes is a hundredth of this.
const FILE_BYTES_MAX: u64 = 1 << 20;

fn read(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    match text.len() as u64 > FILE_BYTES_MAX {
        true => Err(format!("larger than {FILE_BYTES_MAX} bytes")),
        false => Ok(text),
    }
}
