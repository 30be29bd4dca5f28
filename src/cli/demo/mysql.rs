//! The demo's MariaDB: made by mariadb-install-db, reached by a unix socket in its own directory and by nothing else.
//!
//! Invariant: as [`crate::cli::demo`]. Its root and its user have no password: only who may enter the directory reaches them, and
//! whoever reaches the gate. Under root the server runs as `mysql`, or as `nobody` where that user is not there.
//! Tried with MariaDB 10.11 from Debian.

use crate::cli::demo::{DemoFailed, Directory, RunAs, Running, run};
use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Makes, starts and fills the database; takes some seconds. Its socket, and what stops it.
pub fn start() -> Result<(PathBuf, Box<dyn Running>), DemoFailed> {
    let mut server = Server::create(find_programs()?)?;
    server.start()?;
    server.fill()?;
    Ok((server.socket(), Box::new(server)))
}

/// What to type to see the gate at work, the client's line first.
pub fn script(gate_port: u16) -> String {
    format!(
        "mariadb -h 127.0.0.1 -P {gate_port} -u {USER} {DATABASE}\n\
         SELECT status, count(*) FROM carts GROUP BY status;\n\
         DELETE FROM carts WHERE status = 'abandoned';\n\
         SHOW WARNINGS;\n\
         SLUICE CONFIRM '…';   -- with the token it shows\n\
         UPDATE customers SET country = 'NO';\n\
         TRUNCATE carts_history;\n\
         SLUICE HELP;\n"
    )
}

/// A plain user who owns the shop and may see what its transactions changed.
const USER: &str = "alice";
const DATABASE: &str = "shop";
const SOCKET: &str = "mariadb.sock";
const INSTALL: &str = "mariadb-install-db";
const CLIENT: &str = "mariadb";
/// A server that does not answer by then is not going to.
const START_MAX: Duration = Duration::from_secs(60);

/// The same shop as PostgreSQL's: 40,000 carts, of which exactly 312 in each 1,000 are abandoned.
const DATA: &str = "
CREATE TABLE customers (
    id int AUTO_INCREMENT PRIMARY KEY,
    name varchar(100) NOT NULL,
    email varchar(100) NOT NULL UNIQUE,
    country char(2) NOT NULL
);
CREATE TABLE carts (
    id int AUTO_INCREMENT PRIMARY KEY,
    customer_id int NOT NULL,
    status varchar(20) NOT NULL CHECK (status IN ('open', 'ordered', 'abandoned')),
    updated_at datetime NOT NULL,
    KEY by_status (status),
    CONSTRAINT of_customer FOREIGN KEY (customer_id) REFERENCES customers (id)
);
CREATE TABLE cart_items (
    id int AUTO_INCREMENT PRIMARY KEY,
    cart_id int NOT NULL,
    product varchar(50) NOT NULL,
    quantity int NOT NULL CHECK (quantity > 0),
    CONSTRAINT of_cart FOREIGN KEY (cart_id) REFERENCES carts (id) ON DELETE CASCADE
);
CREATE TABLE item_notes (
    id int AUTO_INCREMENT PRIMARY KEY,
    item_id int NOT NULL,
    note varchar(200) NOT NULL,
    CONSTRAINT of_item FOREIGN KEY (item_id) REFERENCES cart_items (id) ON DELETE CASCADE
);
CREATE TABLE carts_history (
    cart_id int NOT NULL,
    status varchar(20) NOT NULL,
    changed_by varchar(100) NOT NULL DEFAULT current_user(),
    changed_at datetime NOT NULL DEFAULT now(),
    what varchar(20) NOT NULL
);
INSERT INTO customers (id, name, email, country)
    SELECT seq, concat('Customer ', seq), concat('customer', seq, '@example.com'), elt(1 + seq % 5, 'SE', 'NO', 'DK', 'FI', 'IS')
    FROM seq_1_to_8000;
INSERT INTO carts (id, customer_id, status, updated_at)
    SELECT seq, 1 + (seq * 31) % 8000,
           CASE WHEN (seq * 7919) % 1000 < 312 THEN 'abandoned' WHEN seq % 7 = 0 THEN 'open' ELSE 'ordered' END,
           '2026-03-01 09:00:00' + INTERVAL 3 * seq MINUTE
    FROM seq_1_to_40000;
INSERT INTO cart_items (cart_id, product, quantity)
    SELECT carts.id, elt(1 + (carts.id * 13 + n.seq) % 7, 'kettle', 'lamp', 'rug', 'chair', 'clock', 'vase', 'shelf'), 1 + (carts.id + n.seq) % 3
    FROM carts JOIN seq_1_to_5 AS n ON n.seq <= 1 + (carts.id * 17) % 5 ORDER BY carts.id, n.seq;
INSERT INTO item_notes (item_id, note)
    SELECT id, 'gift wrapping' FROM cart_items WHERE id % 40 = 0;
CREATE TRIGGER carts_audit AFTER DELETE ON carts FOR EACH ROW
    INSERT INTO carts_history (cart_id, status, what) VALUES (OLD.id, OLD.status, 'DELETE');
ANALYZE TABLE customers, carts, cart_items, item_notes;
";

/// Where Debian has them.
struct Programs {
    server: PathBuf,
    install: PathBuf,
    client: PathBuf,
}

/// The server's directory, its process, and how to talk to it. Stops and removes when dropped, however far it came.
struct Server {
    programs: Programs,
    dir: Directory,
    process: Option<Child>,
}

impl Server {
    fn create(programs: Programs) -> Result<Server, DemoFailed> {
        let run_as = RunAs::one_of(&["mysql", "nobody"], DemoFailed::NoUser)?;
        let server = Server { programs, dir: Directory::make(run_as, SOCKET)?, process: None };
        let mut install = server.dir.program(&server.programs.install);
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        install.env("TMPDIR", &server.dir.path);
        run("make a database", install.arg(server.data()), "")?;
        Ok(server)
    }

    fn start(&mut self) -> Result<(), DemoFailed> {
        let failed = |why: String| DemoFailed::Step { step: "start the server", why };
        let log = fs::File::create(self.dir.path.join("server.log")).map_err(|error| failed(error.to_string()))?;
        let mut mariadbd = self.dir.program(&self.programs.server);
        mariadbd.args(["--no-defaults", "--skip-networking", "--skip-log-bin", "--innodb-flush-log-at-trx-commit=0"]);
        mariadbd.args(["--character-set-server=utf8mb4", "--pid-file=server.pid"]).arg(self.data());
        mariadbd.arg(format!("--socket={}", self.socket().display()));
        // A MariaDB that starts clears away what others keep in a directory for temporary files that they share.
        mariadbd.env("TMPDIR", &self.dir.path);
        let process = mariadbd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.process = Some(process.map_err(|error| failed(error.to_string()))?);
        self.wait_for_it().map_err(|why| failed(format!("{why}\n{}", self.log())))
    }

    /// It greets whoever connects as soon as it can serve.
    fn wait_for_it(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START_MAX;
        let socket = self.socket();
        let greets = || UnixStream::connect(&socket)?.read_exact(&mut [0]);
        while greets().is_err() {
            if self.process.as_mut().is_some_and(|process| !matches!(process.try_wait(), Ok(None))) {
                return Err("it ended at once".to_owned());
            }
            if Instant::now() > deadline {
                return Err(format!("it did not answer within {} s", START_MAX.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn fill(&self) -> Result<(), DemoFailed> {
        let make = format!(
            "CREATE DATABASE {DATABASE}; DROP USER IF EXISTS ''@localhost; CREATE USER {USER};
             GRANT ALL ON {DATABASE}.* TO {USER}; GRANT PROCESS ON *.* TO {USER};"
        );
        run("make the demo's user", &mut self.client("root", "mysql"), &make)?;
        run("fill the database", &mut self.client(USER, DATABASE), DATA)
    }

    fn client(&self, user: &str, database: &str) -> Command {
        let mut client = self.dir.program(&self.programs.client);
        client.args(["--no-defaults", "--batch", "--skip-column-names", "--user", user, "--database", database]);
        client.arg(format!("--socket={}", self.socket().display()));
        client
    }

    fn data(&self) -> String {
        format!("--datadir={}", self.dir.path.join("data").display())
    }

    fn socket(&self) -> PathBuf {
        self.dir.path.join(SOCKET)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path.join("server.log")).unwrap_or_default()
    }
}

impl Running for Server {
    /// Nothing in it is worth a clean end.
    fn stop(&mut self) -> Result<(), DemoFailed> {
        if let Some(mut process) = self.process.take() {
            let failed = |error: std::io::Error| DemoFailed::Step { step: "stop the server", why: error.to_string() };
            process.kill().map_err(failed)?;
            process.wait().map_err(failed)?;
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

fn find_programs() -> Result<Programs, DemoFailed> {
    let missing = DemoFailed::NotInstalled(
        "MariaDB's server and client programs (mariadbd, mariadb-install-db, mariadb); on Debian: \
         apt-get install mariadb-server-core mariadb-client-core",
    );
    let searched = std::env::var_os("PATH").unwrap_or_default();
    let places: Vec<PathBuf> = std::env::split_paths(&searched).chain([PathBuf::from("/usr/sbin")]).collect();
    let find =
        |name: &str| places.iter().map(|place: &PathBuf| place.join(name)).find(|path: &PathBuf| Path::is_file(path));
    match (find("mariadbd"), find(INSTALL), find(CLIENT)) {
        (Some(server), Some(install), Some(client)) => Ok(Programs { server, install, client }),
        _ => Err(missing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_is_as_interesting_as_promised_and_leaves_nothing() {
        let mut server = Server::create(find_programs().expect("installed")).expect("makes a database");
        server.start().expect("starts");
        server.fill().expect("is filled");
        let ask = |sql: &str| {
            let output = server.client(USER, DATABASE).args(["--execute", sql]).output().expect("runs");
            String::from_utf8(output.stdout).expect("text").trim().replace('\t', "|")
        };
        assert_eq!(ask("SELECT count(*), sum(status = 'abandoned') FROM carts"), "40000|12480");
        let items: u64 = ask("SELECT count(*) FROM cart_items").parse().expect("a number");
        assert!((100_000..140_000).contains(&items), "{items}");
        assert_eq!(ask("BEGIN; DELETE FROM carts WHERE id = 1; SELECT count(*) FROM carts_history; ROLLBACK"), "1");
        assert_eq!(ask("SELECT @@skip_networking, current_user()"), "1|alice@%");
        let dir = server.dir.path.clone();
        drop(server);
        assert!(!dir.exists());
    }

    #[test]
    fn the_script_begins_with_the_line_to_type() {
        assert!(script(6432).starts_with("mariadb -h 127.0.0.1 -P 6432 -u alice shop\n"));
    }
}
