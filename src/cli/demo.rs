//! `sluice demo`: a throwaway PostgreSQL with data worth being careful with. This file makes and removes the database; the gate
//! before it is wired by whoever runs the demo.
//!
//! Invariants: everything lives in one private directory, reached by a unix socket inside it and by nothing else; dropping
//! [`Database`] stops the server and removes the directory. PostgreSQL refuses to run as root
//! (<https://www.postgresql.org/docs/current/server-shutdown.html>, `initdb`), so under root it runs as `postgres`.
//! Tried with PostgreSQL 15 from Debian.
//!
//! Install handlers for SIGINT and SIGTERM before [`start`]: a process that a signal ends drops nothing.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A running server, its socket, and what was put into it. Stops when dropped.
#[derive(Debug)]
pub struct Database {
    /// Where the gate connects: `SOCKET_DIR/.s.PGSQL.5432`.
    pub socket: PathBuf,
    pub socket_dir: PathBuf,
    /// Names the socket; nothing listens on TCP.
    pub port: u16,
    pub user: &'static str,
    pub database: &'static str,
    pub dir: PathBuf,
    server: Server,
}

/// Makes, starts and fills the database; takes some seconds.
pub fn start() -> Result<Database, DemoFailed> {
    let server = Server::create(find_binaries()?)?;
    server.start()?;
    server.fill()?;
    let socket_dir = server.dir.clone();
    Ok(Database {
        socket: socket_dir.join(format!(".s.PGSQL.{PORT}")),
        socket_dir,
        port: PORT,
        user: USER,
        database: DATABASE,
        dir: server.dir.clone(),
        server,
    })
}

/// What to type to see the gate at work, the psql line first.
pub fn script(gate_port: u16) -> String {
    format!(
        "psql 'host=127.0.0.1 port={gate_port} user={USER} dbname={DATABASE}'\n\
         SELECT status, count(*) FROM carts GROUP BY status;\n\
         DELETE FROM carts WHERE status = 'abandoned';\n\
         SLUICE CONFIRM '…';   -- with the token it shows\n\
         UPDATE customers SET country = 'NO';\n\
         TRUNCATE customers CASCADE;\n\
         SLUICE HELP;\n"
    )
}

impl Database {
    /// Stops the server and removes its directory; an error says what was left behind. Dropping does the same, silently.
    pub fn stop(mut self) -> Result<(), DemoFailed> {
        self.server.stop()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DemoFailed {
    /// No server binaries on this machine.
    NotInstalled,
    /// Running as root, and there is no user `postgres` to become.
    NoUser,
    /// A step failed: which, and what it said.
    Step { step: &'static str, why: String },
}

impl fmt::Display for DemoFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DemoFailed::NotInstalled => f.write_str(
                "the demo needs PostgreSQL's server programs and found none in /usr/lib/postgresql or by pg_config; on Debian: apt-get install postgresql",
            ),
            DemoFailed::NoUser => f.write_str(
                "PostgreSQL does not run as root and there is no user \"postgres\" to run it as; run the demo as an ordinary user",
            ),
            DemoFailed::Step { step, why } => write!(f, "the demo could not {step}: {}", why.trim()),
        }
    }
}

impl std::error::Error for DemoFailed {}

/// A plain user who owns the tables and is no superuser, as in a real shop.
const USER: &str = "alice";
const DATABASE: &str = "shop";
const PORT: u16 = 5432;
const PROGRAMS: [&str; 3] = ["initdb", "pg_ctl", "psql"];

/// 40,000 carts, of which exactly 312 in each 1,000 are abandoned: 7,919 and 1,000 have no common factor, so the remainders of
/// 1,000 successive multiples are all different.
const DATA: &str = "
CREATE TABLE customers (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    email text NOT NULL UNIQUE,
    country char(2) NOT NULL
);
CREATE TABLE carts (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id integer NOT NULL REFERENCES customers (id),
    status text NOT NULL CHECK (status IN ('open', 'ordered', 'abandoned')),
    updated_at timestamptz NOT NULL
);
CREATE TABLE cart_items (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cart_id integer NOT NULL REFERENCES carts (id) ON DELETE CASCADE,
    product text NOT NULL,
    quantity integer NOT NULL CHECK (quantity > 0)
);
CREATE TABLE item_notes (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    item_id integer NOT NULL REFERENCES cart_items (id) ON DELETE CASCADE,
    note text NOT NULL
);
CREATE TABLE carts_history (
    cart_id integer NOT NULL,
    status text NOT NULL,
    changed_by text NOT NULL DEFAULT current_user,
    changed_at timestamptz NOT NULL DEFAULT now(),
    what text NOT NULL
);
INSERT INTO customers (name, email, country)
    SELECT 'Customer ' || n, 'customer' || n || '@example.com', (ARRAY['SE', 'NO', 'DK', 'FI', 'IS'])[1 + n % 5]
    FROM generate_series(1, 8000) AS n;
INSERT INTO carts (customer_id, status, updated_at)
    SELECT 1 + (n * 31) % 8000,
           CASE WHEN (n * 7919) % 1000 < 312 THEN 'abandoned' WHEN n % 7 = 0 THEN 'open' ELSE 'ordered' END,
           timestamptz '2026-03-01 09:00:00+00' + n * interval '3 minutes'
    FROM generate_series(1, 40000) AS n;
INSERT INTO cart_items (cart_id, product, quantity)
    SELECT carts.id, (ARRAY['kettle', 'lamp', 'rug', 'chair', 'clock', 'vase', 'shelf'])[1 + (carts.id * 13 + n) % 7], 1 + (carts.id + n) % 3
    FROM carts, generate_series(1, 1 + (carts.id * 17) % 5) AS n;
INSERT INTO item_notes (item_id, note)
    SELECT id, 'gift wrapping' FROM cart_items WHERE id % 40 = 0;
CREATE INDEX carts_status_idx ON carts (status);
CREATE INDEX carts_customer_id_idx ON carts (customer_id);
CREATE INDEX cart_items_cart_id_idx ON cart_items (cart_id);
CREATE INDEX item_notes_item_id_idx ON item_notes (item_id);
CREATE FUNCTION carts_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO carts_history (cart_id, status, what) VALUES (OLD.id, OLD.status, TG_OP);
    RETURN NULL;
END $$;
CREATE TRIGGER carts_audit AFTER DELETE ON carts FOR EACH ROW EXECUTE FUNCTION carts_audit();
";

/// The server's directory and how to run its programs. Stops and removes when dropped, however far it came.
#[derive(Debug)]
struct Server {
    binaries: PathBuf,
    dir: PathBuf,
    run_as: RunAs,
}

#[derive(Debug, Clone, Copy)]
enum RunAs {
    Ourselves,
    /// We are root: become this user.
    Postgres {
        uid: u32,
        gid: u32,
    },
}

impl Server {
    fn create(binaries: PathBuf) -> Result<Server, DemoFailed> {
        let run_as = whom_to_run_as()?;
        let dir = make_dir(run_as)?;
        let server = Server { binaries, dir, run_as };
        let arguments =
            ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync", "--pgdata"];
        let mut initdb = server.program("initdb");
        run("make a cluster", initdb.args(arguments).arg(server.data()), "")?;
        Ok(server)
    }

    fn start(&self) -> Result<(), DemoFailed> {
        // A throwaway database gains nothing from waiting for the disk.
        let options = format!(
            "-c listen_addresses='' -c unix_socket_directories='{}' -c port={PORT} -c fsync=off -c synchronous_commit=off",
            self.dir.display()
        );
        let mut pg_ctl = self.program("pg_ctl");
        pg_ctl.arg("start").arg("--wait").arg("--silent").arg("--pgdata").arg(self.data());
        pg_ctl.arg("--log").arg(self.dir.join("server.log")).arg("--options").arg(options);
        run("start the server", &mut pg_ctl, "").map_err(|failed| self.with_log(failed))
    }

    fn fill(&self) -> Result<(), DemoFailed> {
        let make = format!("CREATE ROLE {USER} LOGIN;\nCREATE DATABASE {DATABASE} OWNER {USER};\n");
        run("make the demo's user", &mut self.psql("postgres", "postgres"), &make)?;
        run("fill the database", &mut self.psql(USER, DATABASE), DATA)?;
        run("analyse the tables", &mut self.psql("postgres", DATABASE), "VACUUM ANALYZE;")
    }

    fn psql(&self, user: &str, database: &str) -> Command {
        let mut psql = self.program("psql");
        psql.args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--host"]).arg(&self.dir);
        psql.args(["--port", &PORT.to_string(), "--username", user, "--dbname", database]);
        psql
    }

    /// A program of this PostgreSQL, run as whom it takes, in a process group of its own: Ctrl-C in the terminal is for us, and
    /// the server must outlive the sessions that we still drain.
    fn program(&self, name: &str) -> Command {
        let path = self.binaries.join(name);
        let mut command = match self.run_as {
            RunAs::Ourselves => Command::new(path),
            RunAs::Postgres { uid, gid } => {
                let mut command = Command::new("setpriv");
                command.args([&format!("--reuid={uid}"), &format!("--regid={gid}"), "--clear-groups", "--"]).arg(path);
                command
            }
        };
        // The caller's PGHOST, PGOPTIONS… are meant for other servers; the working directory may be closed to the other user.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
            command.env_remove(name);
        }
        command.current_dir(&self.dir).process_group(0);
        command
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn with_log(&self, failed: DemoFailed) -> DemoFailed {
        let log = fs::read_to_string(self.dir.join("server.log")).unwrap_or_default();
        match failed {
            DemoFailed::Step { step, why } => DemoFailed::Step { step, why: format!("{why}\n{log}") },
            other => other,
        }
    }

    fn stop(&mut self) -> Result<(), DemoFailed> {
        if self.data().join("postmaster.pid").exists() {
            let mut pg_ctl = self.program("pg_ctl");
            pg_ctl.args(["stop", "--wait", "--silent", "--mode=immediate", "--pgdata"]).arg(self.data());
            run("stop the server", &mut pg_ctl, "")?;
        }
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(DemoFailed::Step { step: "remove its directory", why: format!("{}: {error}", self.dir.display()) })
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(failed) = self.stop() {
            tracing::warn!(%failed, dir = %self.dir.display(), "demo: left behind");
        }
    }
}

/// The newest of Debian's versions, else what pg_config names.
fn find_binaries() -> Result<PathBuf, DemoFailed> {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = debian
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort();
    let by_version = versions.into_iter().rev().map(|(_, path)| path);
    by_version
        .chain(pg_config())
        .find(|path| PROGRAMS.iter().all(|name| path.join(name).is_file()))
        .ok_or(DemoFailed::NotInstalled)
}

fn pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").stderr(Stdio::null()).output().ok()?;
    Some(PathBuf::from(std::str::from_utf8(&output.stdout).ok()?.trim()))
}

fn whom_to_run_as() -> Result<RunAs, DemoFailed> {
    if id(["-u"])? != 0 {
        return Ok(RunAs::Ourselves);
    }
    let of_postgres = |what| id([what, "postgres"]).map_err(|_| DemoFailed::NoUser);
    Ok(RunAs::Postgres { uid: of_postgres("-u")?, gid: of_postgres("-g")? })
}

fn id<const N: usize>(arguments: [&str; N]) -> Result<u32, DemoFailed> {
    let failed = |why: String| DemoFailed::Step { step: "learn who it runs as", why };
    let output = Command::new("id").args(arguments).output().map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().map_err(|_| failed(String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// A directory that only its owner may enter. Its name is fresh: one that exists is an error, never used.
fn make_dir(run_as: RunAs) -> Result<PathBuf, DemoFailed> {
    let failed = |why: String| DemoFailed::Step { step: "make a directory", why };
    let mut chance = [0u8; 6];
    crate::ground::secret::fill_random(&mut chance).map_err(|error| failed(error.to_string()))?;
    let dir = std::env::temp_dir().join(format!("sluice-demo-{}", crate::ground::secret::hex(&chance)));
    socket_fits(&dir)?;
    let make = || {
        fs::create_dir(&dir)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
        match run_as {
            RunAs::Ourselves => Ok(()),
            RunAs::Postgres { uid, gid } => chown(&dir, Some(uid), Some(gid)),
        }
    };
    make().map_err(|error: std::io::Error| failed(format!("{}: {error}", dir.display())))?;
    Ok(dir)
}

/// A socket's path has at most 107 bytes (unix(7)), and a quote in it would end the server's option.
fn socket_fits(dir: &Path) -> Result<(), DemoFailed> {
    let name: &OsStr = dir.as_os_str();
    let plain = name
        .to_str()
        .is_some_and(|text| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte)));
    if plain && name.len() + "/.s.PGSQL.65535".len() <= 107 {
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
    // The input is small and psql reads as it goes; an early end shows in the exit status, with its reason.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().map_err(gone)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(String::from_utf8_lossy(&output.stderr).into_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_is_as_interesting_as_promised_and_leaves_nothing() {
        let demo = start().expect("starts");
        let ask = |sql: &str| {
            let mut psql = demo.server.psql(demo.user, demo.database);
            let output = psql.args(["--no-align", "--tuples-only", "--command", sql]).output().expect("runs");
            String::from_utf8(output.stdout).expect("text").trim().to_owned()
        };
        assert_eq!(ask("SELECT count(*), count(*) FILTER (WHERE status = 'abandoned') FROM carts"), "40000|12480");
        let items: u64 = ask("SELECT count(*) FROM cart_items").parse().expect("a number");
        assert!((100_000..140_000).contains(&items), "{items}");
        assert_eq!(ask("BEGIN; DELETE FROM carts WHERE id = 1; SELECT count(*) FROM carts_history; ROLLBACK"), "1");
        assert_eq!(ask("SELECT current_setting('listen_addresses'), current_setting('is_superuser')"), "|off");
        assert!(demo.socket.exists());
        let dir = demo.dir.clone();
        drop(demo);
        assert!(!dir.exists());
    }

    #[test]
    fn the_script_begins_with_the_line_to_type() {
        assert!(script(6432).starts_with("psql 'host=127.0.0.1 port=6432 user=alice dbname=shop'\n"));
    }
}
