//! The demo's PostgreSQL: made by initdb, reached by a unix socket in its own directory and by nothing else.
//!
//! Invariant: as [`crate::cli::demo`]. PostgreSQL refuses to run as root
//! (<https://www.postgresql.org/docs/current/server-shutdown.html>, `initdb`), so under root it runs as `postgres`.
//! Tried with PostgreSQL 15 from Debian.

use crate::cli::demo::{DemoFailed, Directory, RunAs, Running, run};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Makes, starts and fills the database; takes some seconds. Its socket, and what stops it.
pub fn start() -> Result<(PathBuf, Box<dyn Running>), DemoFailed> {
    let server = Server::create(find_binaries()?)?;
    server.start()?;
    server.fill()?;
    Ok((server.dir.path.join(format!(".s.PGSQL.{PORT}")), Box::new(server)))
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
    dir: Directory,
}

impl Server {
    fn create(binaries: PathBuf) -> Result<Server, DemoFailed> {
        let run_as = RunAs::one_of(&["postgres"], DemoFailed::NoUser)?;
        let dir = Directory::make(run_as, ".s.PGSQL.65535")?;
        let server = Server { binaries, dir };
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
            self.dir.path.display()
        );
        let mut pg_ctl = self.program("pg_ctl");
        pg_ctl.arg("start").arg("--wait").arg("--silent").arg("--pgdata").arg(self.data());
        pg_ctl.arg("--log").arg(self.dir.path.join("server.log")).arg("--options").arg(options);
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
        psql.args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--host"]).arg(&self.dir.path);
        psql.args(["--port", &PORT.to_string(), "--username", user, "--dbname", database]);
        psql
    }

    /// A program of this PostgreSQL. The caller's PGHOST, PGOPTIONS… are meant for other servers.
    fn program(&self, name: &str) -> Command {
        let mut command = self.dir.program(&self.binaries.join(name));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
            command.env_remove(name);
        }
        command
    }

    fn data(&self) -> PathBuf {
        self.dir.path.join("data")
    }

    fn with_log(&self, failed: DemoFailed) -> DemoFailed {
        let log = fs::read_to_string(self.dir.path.join("server.log")).unwrap_or_default();
        match failed {
            DemoFailed::Step { step, why } => DemoFailed::Step { step, why: format!("{why}\n{log}") },
            other => other,
        }
    }
}

impl Running for Server {
    fn stop(&mut self) -> Result<(), DemoFailed> {
        if self.data().join("postmaster.pid").exists() {
            let mut pg_ctl = self.program("pg_ctl");
            pg_ctl.args(["stop", "--wait", "--silent", "--mode=immediate", "--pgdata"]).arg(self.data());
            run("stop the server", &mut pg_ctl, "")?;
        }
        self.dir.remove()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(failed) = self.stop() {
            tracing::warn!(%failed, dir = %self.dir.path.display(), "demo: left behind");
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
        .ok_or(DemoFailed::NotInstalled(
            "PostgreSQL's server programs and found none in /usr/lib/postgresql or by pg_config; on Debian: apt-get install postgresql",
        ))
}

fn pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").stderr(Stdio::null()).output().ok()?;
    Some(PathBuf::from(std::str::from_utf8(&output.stdout).ok()?.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_is_as_interesting_as_promised_and_leaves_nothing() {
        let server = Server::create(find_binaries().expect("installed")).expect("makes a cluster");
        server.start().expect("starts");
        server.fill().expect("is filled");
        let ask = |sql: &str| {
            let mut psql = server.psql(USER, DATABASE);
            let output = psql.args(["--no-align", "--tuples-only", "--command", sql]).output().expect("runs");
            String::from_utf8(output.stdout).expect("text").trim().to_owned()
        };
        assert_eq!(ask("SELECT count(*), count(*) FILTER (WHERE status = 'abandoned') FROM carts"), "40000|12480");
        let items: u64 = ask("SELECT count(*) FROM cart_items").parse().expect("a number");
        assert!((100_000..140_000).contains(&items), "{items}");
        assert_eq!(ask("BEGIN; DELETE FROM carts WHERE id = 1; SELECT count(*) FROM carts_history; ROLLBACK"), "1");
        assert_eq!(ask("SELECT current_setting('listen_addresses'), current_setting('is_superuser')"), "|off");
        let dir = server.dir.path.clone();
        drop(server);
        assert!(!dir.exists());
    }

    #[test]
    fn the_script_begins_with_the_line_to_type() {
        assert!(script(6432).starts_with("psql 'host=127.0.0.1 port=6432 user=alice dbname=shop'\n"));
    }
}
