//! Logging in with `auth = "passthrough"`: the database decides, Sluice relays, on all four combinations of TLS on the legs.

use crate::harness::mysql::comparison::gate;
use crate::harness::mysql::login::{Encryption, Login};
use crate::harness::mysql::my_stories;
use crate::harness::mysql::packet::{self, body, command, query};
use crate::harness::mysql::server::{
    BY_OTHER_PLUGIN, BY_PASSWORD, MyDatabase, MyServer, ONLY_TLS, OTHER, ROOT, TRUSTED,
};
use crate::harness::mysql::wire::MyWire;
use crate::harness::server::PASSWORD;
use crate::harness::sluice::{Setup, Sluice};

my_stories! {
    every_plugin_on_every_leg, fast_and_full, wrong_passwords_fail_as_the_server_says, a_login_behind_a_unix_socket,
    upstream_tls_means_what_it_says, tls_that_is_required, a_client_that_leaves_in_mid_login, nobody_and_nowhere,
    another_user_later, passwords_are_nowhere, each_login_is_its_own, killed_by_another, several_factors,
}

const LEGS: [(Encryption, &str); 4] = [
    (Encryption::Plain, "disable"),
    (Encryption::Plain, "require"),
    (Encryption::Tls, "disable"),
    (Encryption::Tls, "require"),
];

fn before(server: &'static MyServer, upstream_tls: &str) -> Sluice {
    Setup::before_mysql(server).with_tls().listener(&format!("upstream_tls = \"{upstream_tls}\"")).start()
}

fn through(sluice: &Sluice, database: &MyDatabase, login: &Login) -> Result<String, u16> {
    let wire = MyWire::try_login(&sluice.address, &login.clone().on(&database.name));
    let mut wire = wire.map_err(|failure| failure.code)?;
    Ok(wire.query("SELECT concat(substring_index(user(), '@', 1), ' on ', database())").value())
}

fn every_plugin_on_every_leg(server: &'static MyServer) {
    let database = server.database("");
    for (encryption, upstream_tls) in LEGS {
        let sluice = before(server, upstream_tls);
        let mut users = vec![(TRUSTED, ""), (BY_PASSWORD, PASSWORD)];
        if !server.is_mariadb() {
            users.push((BY_OTHER_PLUGIN, PASSWORD));
        }
        for (user, password) in users {
            for plugin in [None, Some("mysql_native_password"), Some("caching_sha2_password")] {
                let login = Login { plugin, ..Login::of(user).with_password(password).over(encryption) };
                let seen = through(&sluice, &database, &login);
                assert_eq!(
                    seen,
                    Ok(format!("{user} on {}", database.name)),
                    "{encryption:?}, {upstream_tls}, {plugin:?}"
                );
            }
        }
    }
    // ed25519 is MariaDB's, and its client's.
    if server.is_mariadb() {
        for (encryption, upstream_tls) in LEGS {
            let sluice = before(server, upstream_tls);
            let tls = if encryption == Encryption::Tls { "--ssl" } else { "--skip-ssl" };
            let said =
                server.client().args(["-h", "127.0.0.1", "-P", &sluice.port().to_string(), "-u", BY_OTHER_PLUGIN, tls]);
            let said =
                said.args([&format!("-p{PASSWORD}"), "-N", "-e", "SELECT substring_index(user(), '@', 1)"]).run_fine();
            assert_eq!(said.out.trim(), BY_OTHER_PLUGIN, "{encryption:?}, {upstream_tls}: {said:?}");
        }
    }
}

/// MySQL remembers a password once it has seen it whole: then a proof is enough.
fn fast_and_full(server: &'static MyServer) {
    if server.is_mariadb() {
        return;
    }
    let database = server.database("");
    for (at, (encryption, upstream_tls)) in LEGS.into_iter().enumerate() {
        // A user whom the server has not seen.
        let user = format!("{}_{at}", database.name);
        database.run_as_root(&format!(
            "CREATE USER {user} IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON {}.* TO {user}",
            database.name
        ));
        let sluice = before(server, upstream_tls);
        let login = Login::of(&user).with_password(PASSWORD).over(encryption).on(&database.name);
        for is_known in [false, true] {
            let mut wire = MyWire::login(&sluice.address, &login);
            assert_eq!(wire.query("SELECT 1").value(), "1");
            let was_fast = wire.greeted.iter().any(|packet| packet.body == [0x01, 0x03]);
            assert_eq!(was_fast, is_known, "{encryption:?}, {upstream_tls}: {:?}", wire.greeted);
        }
    }
}

fn wrong_passwords_fail_as_the_server_says(server: &'static MyServer) {
    let database = server.database("");
    for (encryption, upstream_tls) in LEGS {
        let sluice = before(server, upstream_tls);
        for (user, password) in
            [(BY_PASSWORD, "wrong"), (BY_PASSWORD, ""), (TRUSTED, "unasked for"), ("nobody", ""), ("nobody", "x")]
        {
            let login = Login::of(user).with_password(password).on(&database.name);
            let direct = MyWire::try_login(&server.tcp(), &login.clone().over(encryption)).err();
            let through = MyWire::try_login(&sluice.address, &login.over(encryption)).err();
            assert!(direct.is_some());
            assert_eq!(direct, through, "{user}, {password:?}, {encryption:?}, {upstream_tls}");
        }
        sluice.log_line("what the database said", |line| {
            line.contains(&format!("user=\"{BY_PASSWORD}\"")) && line.contains("1045")
        });
    }
}

fn a_login_behind_a_unix_socket(server: &'static MyServer) {
    let database = server.database("");
    let sluice = Setup::before_my_socket(server).start();
    sluice.log_line("what that means", |line| line.contains("WARN") && line.contains("peer, auth_socket, unix_socket"));
    for (user, password) in [(TRUSTED, ""), (BY_PASSWORD, PASSWORD), (ROOT, "")] {
        let login = Login::of(user).with_password(password);
        assert_eq!(through(&sluice, &database, &login), Ok(format!("{user} on {}", database.name)));
    }
}

fn upstream_tls_means_what_it_says(server: &'static MyServer) {
    let database = server.database("");
    let folder = tempfile::tempdir().expect("a folder");
    let files = crate::harness::certificates::Certificates::get().write(folder.path());
    let ca = format!("\nupstream_ca = \"{}\"", files.authority.display());
    for (mode, with_authority, is_encrypted) in [
        ("disable", false, Some(false)),
        ("prefer", false, Some(true)),
        ("require", false, Some(true)),
        ("verify-ca", true, Some(true)),
        ("verify-full", true, Some(true)),
        ("verify-full", false, None),
    ] {
        let authority = if with_authority { ca.as_str() } else { "" };
        let sluice = Setup::before_mysql(server).listener(&format!("upstream_tls = \"{mode}\"{authority}")).start();
        let wire = MyWire::try_login(&sluice.address, &Login::of(TRUSTED).on(&database.name)).ok();
        let cipher = wire.map(|mut wire| wire.query("SHOW SESSION STATUS LIKE 'Ssl_cipher'").rows()[0][1].clone());
        let seen = cipher.map(|cipher| cipher.is_some_and(|name| !name.is_empty()));
        assert_eq!(seen, is_encrypted, "{mode}, authority given: {with_authority}");
    }
}

fn tls_that_is_required(server: &'static MyServer) {
    let database = server.database("");
    for (encryption, upstream_tls) in LEGS {
        let sluice = before(server, upstream_tls);
        let login = Login::of(ONLY_TLS).with_password(PASSWORD).over(encryption);
        // What counts for the database is its own leg.
        let expected =
            if upstream_tls == "require" { Ok(format!("{ONLY_TLS} on {}", database.name)) } else { Err(1045) };
        assert_eq!(through(&sluice, &database, &login), expected, "{encryption:?}, {upstream_tls}");
    }
}

fn a_client_that_leaves_in_mid_login(server: &'static MyServer) {
    let (database, sluice) = gate(server, "");
    for _ in 0..10 {
        let mut wire = MyWire::open(&sluice.address);
        wire.message().expect("a greeting");
    }
    let _never_says_a_word = MyWire::open(&sluice.address);
    assert_eq!(sluice.my_connect(&database).query("SELECT 1").value(), "1");
}

fn nobody_and_nowhere(server: &'static MyServer) {
    let (database, sluice) = gate(server, "");
    for login in [Login::of(TRUSTED).on("nowhere"), Login::of("").on(&database.name), Login::of(TRUSTED).on("mysql")] {
        let direct = MyWire::try_login(&server.tcp(), &login).err();
        let through = MyWire::try_login(&sluice.address, &login).err();
        assert_eq!(direct, through, "{}, {}", login.user, login.database);
    }
    // Without a database: none is chosen, and one can be.
    let mut wire = MyWire::login(&sluice.address, &Login::of(TRUSTED));
    assert_eq!(wire.query("SELECT coalesce(database(), 'none')").value(), "none");
    wire.command(&body(command::INIT_DB, database.name.as_bytes())).expect_fine("chosen");
    assert_eq!(wire.query("SELECT database()").value(), database.name);
}

/// COM_CHANGE_USER: who is judged and recorded is who is logged in.
fn another_user_later(server: &'static MyServer) {
    let database = server.database("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2), (3)");
    let scope = format!("[[freeze]]\nname = \"readers\"\nmatch = {{ user = [\"{OTHER}\"] }}");
    let sluice = Setup::before_mysql(server).with(&scope).start();
    let plugin = server.either("mysql_native_password", "caching_sha2_password");
    let mut wire = sluice.my_connect(&database);
    wire.query("DELETE FROM t WHERE id = 1").expect_fine("this user may");
    wire.change_user(&Login::of(OTHER).on(&database.name), plugin).expect("another user");
    assert_eq!(wire.query("DELETE FROM t WHERE id = 2").code(), 50003, "that user may not");
    wire.change_user(&Login::of(BY_PASSWORD).with_password(PASSWORD).on(&database.name), plugin).expect("a third");
    wire.query("DELETE FROM t WHERE id = 3").expect_fine("this one may");
    assert_eq!(database.count("t"), 1);
    let record = sluice.record();
    let named = |user: &str| record.iter().any(|line| line["principal"]["user"] == user || line["user"] == user);
    assert!(named(TRUSTED) && named(OTHER) && named(BY_PASSWORD), "{record:#?}");
}

fn passwords_are_nowhere(server: &'static MyServer) {
    let database = server.database("");
    for (encryption, upstream_tls) in LEGS {
        let sluice = before(server, upstream_tls);
        let login = Login::of(BY_PASSWORD).with_password(PASSWORD).over(encryption);
        through(&sluice, &database, &login).expect("let in");
        let written = String::from_utf8_lossy(&sluice.everything_written()).into_owned();
        assert!(!written.contains(PASSWORD), "a password was written down");
    }
}

/// A greeting is heard once: a scramble that was used for one login is no other's.
fn each_login_is_its_own(server: &'static MyServer) {
    let (database, sluice) = gate(server, "");
    let scrambles: std::collections::BTreeSet<Vec<u8>> = (0..20)
        .map(|_| packet::Greeting::read(&MyWire::open(&sluice.address).message().expect("a greeting")).scramble)
        .collect();
    assert_eq!(scrambles.len(), 20);
    let mut wires: Vec<MyWire> = (0..5).map(|_| sluice.my_connect(&database)).collect();
    let ids: std::collections::BTreeSet<String> =
        wires.iter_mut().map(|wire| wire.query("SELECT connection_id()").value()).collect();
    assert_eq!(ids.len(), 5);
}

/// MySQL's community edition has one plugin that can be a second factor: who is at the other end of the socket, which is Sluice.
fn several_factors(server: &'static MyServer) {
    if server.is_mariadb() {
        return;
    }
    let database = server.database("");
    let us = crate::harness::tool::Tool::new("id").args(["-un"]).run_fine().out;
    let user = format!("several_{}", database.name);
    database.run_as_root("INSTALL PLUGIN auth_socket SONAME 'auth_socket.so'");
    let factors = format!("IDENTIFIED BY '{PASSWORD}' AND IDENTIFIED WITH auth_socket AS '{}'", us.trim());
    database.run_as_root(&format!("CREATE USER {user} {factors}"));
    let sluice = Setup::before_my_socket(server).start();
    let (knows, does_not) = (packet::USUAL | packet::MULTI_FACTOR, packet::USUAL);
    for (capabilities, password, is_in) in
        [(knows, PASSWORD, true), (knows, "wrong", false), (does_not, PASSWORD, false)]
    {
        let login = Login::of(&user).with_password(password).asking_for(capabilities);
        let [direct, through] =
            [server.unix(), sluice.address.clone()].map(|address| MyWire::try_login(&address, &login).err());
        assert_eq!((direct.is_none(), &through), (is_in, &direct), "{capabilities:#x}, {password}");
    }
}

/// The id in the greeting is the one that KILL takes: Ctrl-C of the clients is a KILL QUERY on another connection.
fn killed_by_another(server: &'static MyServer) {
    let (database, sluice) = gate(server, "");
    let mut wire = MyWire::open(&sluice.address);
    let greeted = packet::Greeting::read(&wire.message().expect("a greeting")).connection;
    drop(wire);
    assert_ne!(greeted, 0);
    let mut wire = sluice.my_connect(&database);
    let id = wire.query("SELECT connection_id()").value();
    let first = packet::Greeting::read(&wire.greeted[0].body).connection;
    assert_eq!(id, first.to_string(), "what was greeted with is what it is");
    let slow = "SELECT SLEEP(50), 'to be killed'";
    wire.start(&query(slow));
    database.wait_until(&format!(
        "SELECT count(*) FROM information_schema.processlist WHERE id = {id} AND info LIKE 'SELECT SLEEP%'"
    ));
    let mut other = sluice.my_connect(&database);
    let killed = other.query(&format!("KILL QUERY {id}"));
    killed.expect_fine("one's own query");
    let outcome = wire.answer_to(command::QUERY);
    assert!(outcome.code() == 1317 || outcome.rows()[0][0].as_deref() == Some("1"), "{outcome:?}");
    assert_eq!(wire.query("SELECT 'goes on'").value(), "goes on");
}
