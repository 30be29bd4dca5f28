//! Logging in with `auth = "passthrough"`: the database decides, Sluice relays, and where that cannot work it says so.

use crate::harness::comparison::{direct_is_through, gate};
use crate::harness::message::{PROTOCOL_3_0, cstring, message, startup};
use crate::harness::server::{
    BY_MD5, BY_PASSWORD, BY_SCRAM, Database, ONLY_PLAIN, ONLY_TLS, PASSWORD, Server, TRUSTED,
};
use crate::harness::sluice::{Setup, Sluice};
use crate::harness::stories;
use crate::harness::tool::{Said, Tool};
use crate::harness::wire::Wire;

stories! {
    every_kind_of_password, wrong_passwords_fail_as_the_server_says, a_client_that_leaves_in_mid_login, cleartext_byte_for_byte,
    upstream_tls_means_what_libpq_means, refused_at_once_it_is_tried_the_other_way, passwords_over_tls, scram_with_tls_on_both_legs_is_refused_with_advice,
    direct_negotiation_by_libpq, no_statement_is_waited_for_where_a_password_is_due,
}

const ROLES: [&str; 3] = [BY_PASSWORD, BY_MD5, BY_SCRAM];

fn every_kind_of_password(server: &'static Server) {
    let (database, sluice) = gate(server, "");
    for role in ROLES {
        let said = psql(&database, &sluice, &format!("user={role} sslmode=disable"), PASSWORD);
        assert_eq!(said.out.trim(), role, "{said:?}");
    }
}

fn wrong_passwords_fail_as_the_server_says(server: &'static Server) {
    let (database, sluice) = gate(server, "");
    for role in ROLES {
        let said = psql(&database, &sluice, &format!("user={role} sslmode=disable"), "wrong");
        let expected = format!("FATAL:  password authentication failed for user \"{role}\"");
        assert!(said.err.contains(&expected) && said.code == Some(2), "{said:?}");
    }
    // Guessing shows, by whom and how: in the database's words.
    for role in ROLES {
        let words = "by the database: 28P01 password authentication failed";
        let fits = |line: &str| line.contains(&format!("user=\"{role}\"")) && line.contains(words);
        sluice.log_line("what the database said", fits);
    }
    // Nobody's password is in anything that Sluice wrote.
    psql(&database, &sluice, &format!("user={BY_PASSWORD} sslmode=disable"), PASSWORD);
    let written = String::from_utf8_lossy(&sluice.everything_written()).into_owned();
    assert!(!written.contains(PASSWORD), "a password was written down");
}

fn a_client_that_leaves_in_mid_login(server: &'static Server) {
    // psql without a password asks, finds no terminal, and leaves after the server's request.
    let (database, sluice) = gate(server, "");
    for role in ROLES {
        let mut wire = Wire::open(&sluice.address);
        wire.send(&startup(PROTOCOL_3_0, &[("user", role), ("database", &database.name)]));
        wire.until(b'R');
        drop(wire);
    }
    assert_eq!(sluice.connect(&database).simple("SELECT 1").value(), "1");
}

fn cleartext_byte_for_byte(server: &'static Server) {
    direct_is_through(server, "", |place| {
        for password in [PASSWORD, "wrong", ""] {
            let mut wire = place.open();
            wire.send(&startup(PROTOCOL_3_0, &[("user", BY_PASSWORD), ("database", &place.database)]));
            wire.until(b'R');
            wire.send(&message(b'p', &cstring(password)));
            while wire.receive().is_some_and(|message| message.tag != b'Z') {}
            place.keep("cleartext", wire);
        }
    });
}

fn upstream_tls_means_what_libpq_means(server: &'static Server) {
    let database = server.database("");
    let authority = crate::harness::certificates::Certificates::get();
    let folder = tempfile::tempdir().expect("a folder");
    let files = authority.write(folder.path());
    let ca = format!("\nupstream_ca = \"{}\"", files.authority.display());
    let uses_tls = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    // (mode, with our authority, in force on a server with TLS, and on one without): None is a refusal.
    type Means = (&'static str, bool, Option<&'static str>, Option<&'static str>);
    let table: [Means; 7] = [
        ("disable", false, Some("f"), Some("f")),
        ("prefer", false, Some("t"), Some("f")),
        ("require", false, Some("t"), None),
        ("verify-ca", true, Some("t"), None),
        ("verify-full", true, Some("t"), None),
        ("verify-full", false, None, None),
        ("require", true, Some("t"), None),
    ];
    for (mode, with_authority, with_tls, without) in table {
        let authority = if with_authority { ca.as_str() } else { "" };
        let sluice = Setup::before(&database).listener(&format!("upstream_tls = \"{mode}\"{authority}")).start();
        let mut wire = crate::harness::wire::Wire::open(&sluice.address);
        wire.send(&startup(PROTOCOL_3_0, &[("user", TRUSTED), ("database", &database.name)]));
        let mut welcome = false;
        while let Some(message) = wire.receive() {
            welcome = message.tag == b'Z';
            if welcome {
                break;
            }
        }
        let seen = welcome.then(|| wire.simple(uses_tls).value());
        let expected = if server.has_tls() { with_tls } else { without };
        assert_eq!(
            seen.as_deref(),
            expected,
            "upstream_tls = {mode}, authority given: {with_authority}: {:#?}",
            wire.heard
        );
    }
}

fn refused_at_once_it_is_tried_the_other_way(server: &'static Server) {
    let database = server.database("");
    let uses_tls = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    for (mode, role, expected) in [("allow", ONLY_TLS, "t"), ("allow", TRUSTED, "f"), ("prefer", ONLY_PLAIN, "f")] {
        let sluice = Setup::before(&database).listener(&format!("upstream_tls = \"{mode}\"")).start();
        if server.has_tls() || role != ONLY_TLS {
            let mut wire = sluice.connect_as(role, &database);
            assert_eq!(wire.simple(uses_tls).value(), expected, "{mode}, {role}");
        }
    }
}

fn no_statement_is_waited_for_where_a_password_is_due(server: &'static Server) {
    let (database, sluice) = gate(server, "");
    for role in ROLES {
        let mut wire = Wire::open(&sluice.address);
        wire.send(&startup(PROTOCOL_3_0, &[("user", role), ("database", &database.name)]));
        // A gigabyte is announced, and would be kept for somebody whom nobody knows.
        wire.send(&[&b"Q\x3f\xff\xff\xff"[..], b"SELECT "].concat());
        assert_eq!(wire.until_closed().code(), "08P01", "{role}");
    }
}

fn passwords_over_tls(server: &'static Server) {
    let database = server.database("");
    // TLS towards the client only: the server offers no channel binding, and every login passes.
    let sluice = Setup::before(&database).with_tls().listener("upstream_tls = \"disable\"").start();
    for role in ROLES {
        let said = psql_with_tls(&database, &sluice, &format!("user={role} sslmode=require"), PASSWORD);
        assert_eq!(said.out.trim(), role, "{said:?}");
    }
    // TLS towards the server only.
    let sluice = Setup::before(&database).listener("upstream_tls = \"prefer\"").start();
    for role in ROLES {
        let said = psql(&database, &sluice, &format!("user={role} sslmode=disable"), PASSWORD);
        assert_eq!(said.out.trim(), role, "{said:?}");
    }
}

/// libpq binds a SCRAM login to the certificate it sees, which is ours and not the server's. Without knowing the password
/// that cannot be mended, so it is said. (On a server without TLS there is no such leg, and the login passes.)
fn scram_with_tls_on_both_legs_is_refused_with_advice(server: &'static Server) {
    let database = server.database("");
    let sluice = Setup::before(&database).with_tls().listener("upstream_tls = \"prefer\"").start();
    let said = psql_with_tls(&database, &sluice, &format!("user={BY_SCRAM} sslmode=require"), PASSWORD);
    if server.has_tls() {
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(
            said.err.contains("sluice: ") && said.err.contains("upstream_tls"),
            "the refusal says what to set: {said:?}"
        );
    } else {
        assert_eq!(said.out.trim(), BY_SCRAM, "{said:?}");
    }
    for role in [BY_PASSWORD, BY_MD5] {
        let said = psql_with_tls(&database, &sluice, &format!("user={role} sslmode=require"), PASSWORD);
        assert_eq!(said.out.trim(), role, "{said:?}");
    }
}

/// `sslnegotiation=direct` came with libpq 17; psycopg's own libpq has it and Debian's does not.
fn direct_negotiation_by_libpq(server: &'static Server) {
    let database = server.database("");
    let sluice = Setup::before(&database).with_tls().start();
    let script = "import psycopg, sys
with psycopg.connect(sys.argv[1]) as connection:
    print(connection.execute('SELECT 40 + 2').fetchone()[0], connection.pgconn.ssl_in_use)";
    let target = format!(
        "host=localhost hostaddr=127.0.0.1 port={} user={TRUSTED} dbname={} sslmode=require sslnegotiation=direct",
        sluice.port(),
        database.name
    );
    let said = Tool::new(Tool::folder().join("python/bin/python")).args(["-c", script, &target]).run_fine();
    assert_eq!(said.out.trim(), "42 True");
}

/// Debian's psql; it speaks TLS and SCRAM as people have it.
fn psql(database: &Database, sluice: &Sluice, who: &str, password: &str) -> Said {
    let target = format!("host=127.0.0.1 port={} dbname={} {who}", sluice.port(), database.name);
    Tool::new(Server::v15().bin.join("psql"))
        .args(["-w", "-AtX", "-d", &target, "-c", "SELECT current_user"])
        .env("PGPASSWORD", password)
        .run()
}

fn psql_with_tls(database: &Database, sluice: &Sluice, who: &str, password: &str) -> Said {
    let said = psql(database, sluice, who, password);
    assert!(!said.err.contains("does not support SSL"), "{said:?}");
    said
}
