//! `sluice demo`: a throwaway database with data worth being careful with. This file says where it lives and as whom it runs; the
//! servers and what is in them are beside it. The gate before it is wired by whoever runs the demo.
//!
//! Invariants: everything lives in one private directory, reached by a unix socket inside it and by nothing else; dropping
//! [`Database`] stops the server and removes the directory. No server runs as root.
//!
//! Install handlers for SIGINT and SIGTERM before [`start`]: a process that a signal ends drops nothing.

mod mysql;
mod postgres;

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the command line says.
#[derive(Debug, clap::Args)]
pub struct Wanted {
    /// Where the gate listens on 127.0.0.1.
    #[arg(long, default_value_t = 6432)]
    pub port: u16,
    /// MariaDB instead of PostgreSQL.
    #[arg(long)]
    mysql: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    Postgres,
    /// MariaDB, as Debian has it.
    MySql,
}

/// A running server with something in it. Stops when dropped.
pub struct Database {
    /// Where the gate connects.
    pub socket: PathBuf,
    pub dir: PathBuf,
    server: Box<dyn Running>,
}

/// Makes, starts and fills the database; takes some seconds.
pub fn start(product: Product) -> Result<Database, DemoFailed> {
    let (socket, server) = match product {
        Product::Postgres => postgres::start()?,
        Product::MySql => mysql::start()?,
    };
    let dir = socket.parent().map(Path::to_path_buf).unwrap_or_default();
    Ok(Database { socket, dir, server })
}

impl Wanted {
    pub fn product(&self) -> Product {
        if self.mysql { Product::MySql } else { Product::Postgres }
    }
}

impl Product {
    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Product::Postgres => "PostgreSQL",
            Product::MySql => "MariaDB",
        }
    }

    /// As the configuration calls what it speaks.
    pub fn protocol(self) -> &'static str {
        match self {
            Product::Postgres => "postgres",
            Product::MySql => "mysql",
        }
    }

    /// What to type to see the gate at work, the client's line first.
    pub fn script(self, gate_port: u16) -> String {
        match self {
            Product::Postgres => postgres::script(gate_port),
            Product::MySql => mysql::script(gate_port),
        }
    }
}

impl Database {
    /// Stops the server and removes its directory; an error says what was left behind. Dropping does the same, silently.
    pub fn stop(mut self) -> Result<(), DemoFailed> {
        self.server.stop()
    }
}

/// What stops a server and removes its directory, as often as it is asked to.
pub trait Running {
    fn stop(&mut self) -> Result<(), DemoFailed>;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DemoFailed {
    /// No server programs on this machine: what is missing, and how to get it.
    NotInstalled(&'static str),
    /// Running as root, and there is no user to become.
    NoUser,
    /// A step failed: which, and what it said.
    Step { step: &'static str, why: String },
}

impl fmt::Display for DemoFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DemoFailed::NotInstalled(what) => write!(f, "the demo needs {what}"),
            DemoFailed::NoUser => f.write_str(
                "the demo's server does not run as root and there is no user to run it as; run the demo as an ordinary user",
            ),
            DemoFailed::Step { step, why } => write!(f, "the demo could not {step}: {}", why.trim()),
        }
    }
}

impl std::error::Error for DemoFailed {}

/// Whose processes the server's are.
#[derive(Debug, Clone, Copy)]
pub enum RunAs {
    Ourselves,
    /// We are root: become this user.
    Another {
        uid: u32,
        gid: u32,
    },
}

impl RunAs {
    /// Ourselves, or under root the first of these users that there is.
    fn one_of(users: &[&str], none: DemoFailed) -> Result<RunAs, DemoFailed> {
        if id(["-u"])? != 0 {
            return Ok(RunAs::Ourselves);
        }
        let known = |user: &&str| Some(RunAs::Another { uid: id(["-u", user]).ok()?, gid: id(["-g", user]).ok()? });
        users.iter().find_map(known).ok_or(none)
    }
}

/// A directory that only the server's user may enter, and root.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    run_as: RunAs,
}

impl Directory {
    /// Its name is fresh: one that exists is an error, never used. The socket's name is the longest of those that are to be in it.
    fn make(run_as: RunAs, socket: &str) -> Result<Directory, DemoFailed> {
        let failed = |why: String| DemoFailed::Step { step: "make a directory", why };
        let mut chance = [0u8; 6];
        crate::ground::secret::fill_random(&mut chance).map_err(|error| failed(error.to_string()))?;
        let path = std::env::temp_dir().join(format!("sluice-demo-{}", crate::ground::secret::hex(&chance)));
        socket_fits(&path, socket)?;
        let make = || {
            fs::create_dir(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
            match run_as {
                RunAs::Ourselves => Ok(()),
                RunAs::Another { uid, gid } => chown(&path, Some(uid), Some(gid)),
            }
        };
        make().map_err(|error: std::io::Error| failed(format!("{}: {error}", path.display())))?;
        Ok(Directory { path, run_as })
    }

    /// A program that is run as whom it takes, in a process group of its own: Ctrl-C in the terminal is for us, and the server must
    /// outlive the sessions that we still drain. The working directory may be closed to the other user.
    fn program(&self, path: &Path) -> Command {
        let mut command = match self.run_as {
            RunAs::Ourselves => Command::new(path),
            RunAs::Another { uid, gid } => {
                let mut command = Command::new("setpriv");
                command.args([&format!("--reuid={uid}"), &format!("--regid={gid}"), "--clear-groups", "--"]).arg(path);
                command
            }
        };
        command.current_dir(&self.path).process_group(0);
        command
    }

    fn remove(&self) -> Result<(), DemoFailed> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(DemoFailed::Step { step: "remove its directory", why: format!("{}: {error}", self.path.display()) })
            }
            _ => Ok(()),
        }
    }
}

fn id<const N: usize>(arguments: [&str; N]) -> Result<u32, DemoFailed> {
    let failed = |why: String| DemoFailed::Step { step: "learn who it runs as", why };
    let output = Command::new("id").args(arguments).output().map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().map_err(|_| failed(String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// A socket's path has at most 107 bytes (unix(7)), and a quote in it would end the server's option.
fn socket_fits(dir: &Path, socket: &str) -> Result<(), DemoFailed> {
    let name: &OsStr = dir.as_os_str();
    let plain = name
        .to_str()
        .is_some_and(|text| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte)));
    if plain && name.len() + "/".len() + socket.len() <= 107 {
        return Ok(());
    }
    let why = format!("{} is too long or too odd for a socket's path; set TMPDIR to a plain short one", dir.display());
    Err(DemoFailed::Step { step: "make a directory", why })
}

/// Runs to the end with this on standard input; what it wrote to standard error is the reason of its failure.
fn run(step: &'static str, command: &mut Command, input: &str) -> Result<(), DemoFailed> {
    let failed = |why: String| DemoFailed::Step { step, why };
    let gone = |error: std::io::Error| failed(error.to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(gone)?;
    // The input is small and the client reads as it goes; an early end shows in the exit status, with its reason.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().map_err(gone)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(String::from_utf8_lossy(&output.stderr).into_owned())),
    }
}
