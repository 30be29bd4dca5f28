//! Logging in where Sluice checks it (`auth = "password"`, `"cert"`): against what the servers keep of passwords, by every plugin, with real
//! clients and their defaults; and certificates.

use crate::harness::certificates::Certificates;
use crate::harness::mysql::login::{Encryption, Login};
use crate::harness::mysql::my_stories;
use crate::harness::mysql::packet::{body, command};
use crate::harness::mysql::server::{BY_OTHER_PLUGIN, BY_PASSWORD, MyDatabase, MyServer};
use crate::harness::mysql::wire::MyWire;
use crate::harness::server::PASSWORD;
use crate::harness::sluice::{SECRET_VARIABLE, Setup, Sluice};
use crate::harness::tool::{Said, Tool};

my_stories! {
    every_plugin_on_every_leg, the_servers_own_clients, drivers, a_users_file_and_its_changes, who_comes_in_stays_who_it_is,
    the_database_may_be_anybody, what_the_readme_says, certificates_and_their_names, a_certificate_and_a_password,
}

/// Users whose names say what is kept of their passwords, which are all [`PASSWORD`].
pub const SHA2: &str = "by_sha2";
pub const NATIVE: &str = "by_native";
pub const ED25519: &str = "by_ed25519";
pub const NO_PASSWORD: &str = "by_nothing";
const NO_ACCOUNT: &str = "no_account";

/// What a server keeps of a user's password, in digits, as the README says it is to be copied.
pub fn kept(server: &MyServer, user: &str) -> String {
    let mut wire = MyWire::login(&server.unix(), &Login::of("root"));
    wire.query(&format!("SELECT concat('0x', hex(authentication_string)) FROM mysql.user WHERE user = '{user}'"))
        .value()
}

/// Of all kinds, whichever server Sluice stands before.
pub fn users() -> String {
    let (sha2, native) = (kept(MyServer::mysql(), BY_PASSWORD), kept(MyServer::mariadb(), BY_PASSWORD));
    let ed25519 = kept(MyServer::mariadb(), BY_OTHER_PLUGIN);
    let lines =
        [(SHA2, &sha2), (NATIVE, &native), (ED25519, &ed25519), (NO_PASSWORD, &String::new()), (NO_ACCOUNT, &sha2)];
    lines.map(|(user, kept)| format!("\"{user}\" \"{kept}\"\n")).concat()
}

/// Each of them has an account.
pub fn accounts() -> String {
    let account = |user| {
        format!(
            "[[listener.account]]\nuser = \"{user}\"\nupstream_user = \"{BY_PASSWORD}\"\npassword_env = \"{SECRET_VARIABLE}\"\n"
        )
    };
    [SHA2, NATIVE, ED25519, NO_PASSWORD].map(account).concat()
}

/// Behind a unix socket, so that the server can be shown the password.
pub fn checking(server: &MyServer, users: &str) -> Setup {
    checking_by(Setup::before_my_socket(server), users)
}

fn checking_by(setup: Setup, users: &str) -> Setup {
    let file = setup.private_file("users.txt", users);
    setup.listener(&format!("auth = \"password\"\nusers_file = \"{file}\""))
}

fn every_plugin_on_every_leg(server: &'static MyServer) {
    let database = server.database("");
    let users = users();
    for upstream in ["unix", "verify-full"] {
        let setup = match upstream {
            "unix" => checking(server, &users),
            mode => {
                let setup = Setup::before_mysql(server);
                let ca = setup.certificates.authority.display().to_string();
                checking_by(setup, &users).listener(&format!("upstream_tls = \"{mode}\"\nupstream_ca = \"{ca}\""))
            }
        };
        let sluice = setup.with_tls().listener(&accounts()).start();
        for encryption in [Encryption::Plain, Encryption::Tls] {
            for user in [SHA2, NATIVE] {
                for plugin in
                    [None, Some("mysql_native_password"), Some("caching_sha2_password"), Some("never_heard_of")]
                {
                    let case = format!("{user} over {encryption:?}, {plugin:?}, {upstream}");
                    let login = Login { plugin, ..Login::of(user).with_password(PASSWORD).over(encryption) };
                    let mut wire = MyWire::login(&sluice.address, &login.clone().on(&database.name));
                    let seen = wire.query("SELECT concat(substring_index(user(), '@', 1), ' on ', database())").value();
                    assert_eq!(seen, format!("{BY_PASSWORD} on {}", database.name), "{case}");
                    for wrong in ["", "wrong"] {
                        let failure = MyWire::try_login(&sluice.address, &login.clone().with_password(wrong)).err();
                        let failure = failure.unwrap_or_else(|| panic!("{case} with {wrong:?}"));
                        let told = format!("sluice: password authentication failed for user \"{user}\"");
                        assert_eq!((failure.code, failure.message), (1045, told), "{case} with {wrong:?}");
                    }
                }
            }
        }
        nothing_is_told(&sluice);
    }
}

/// What the servers' own clients say with this password, all else as it is by default.
fn client(server: &MyServer, sluice: &Sluice, user: &str, password: &str, more: &[&str]) -> Said {
    let port = sluice.port().to_string();
    let who = ["-h", "127.0.0.1", "-P", &port, "-u", user, &format!("-p{password}"), "-N"].map(str::to_owned);
    let ask = ["-e", "SELECT substring_index(user(), '@', 1)"];
    server.client().args(who).args(more).args(ask).run()
}

fn the_servers_own_clients(server: &'static MyServer) {
    let users = users();
    let sealed = checking(server, &users).with_tls().listener(&accounts()).start();
    let open = checking(server, &users).listener(&accounts()).start();
    let key = ["--get-server-public-key"];
    let (mysqls, mariadbs) = (MyServer::mysql(), MyServer::mariadb());
    for (client_of, user, sluice, more) in [
        (mysqls, SHA2, &sealed, &[][..]),
        (mysqls, SHA2, &open, &key),
        (mariadbs, SHA2, &sealed, &[]),
        (mariadbs, SHA2, &sealed, &["--ssl"]),
        (mariadbs, SHA2, &sealed, &["--skip-ssl"]),
        (mariadbs, SHA2, &open, &["--skip-ssl"]),
        (mariadbs, NATIVE, &sealed, &["--ssl"]),
        (mariadbs, NATIVE, &open, &[]),
        (mariadbs, ED25519, &sealed, &["--ssl"]),
        (mariadbs, ED25519, &open, &[]),
    ] {
        let case = format!("{:?}'s client as {user}, {more:?}", client_of.product);
        let said = client(client_of, sluice, user, PASSWORD, more);
        assert_eq!((said.out.trim(), said.code), (BY_PASSWORD, Some(0)), "{case}: {said:?}");
        for wrong in ["", "wrong"] {
            let said = client(client_of, sluice, user, wrong, more);
            let told = format!("ERROR 1045 (28000): sluice: password authentication failed for user \"{user}\"");
            assert!(said.err.contains(&told) && said.code == Some(1), "{case} with {wrong:?}: {said:?}");
        }
        for user in [NO_PASSWORD, "nobody"] {
            let said = client(client_of, sluice, user, PASSWORD, more);
            assert!(said.code == Some(1), "{case}: {said:?}");
        }
    }
    // Without TLS MySQL's client sends no password unless it is told to ask for a key.
    let said = client(mysqls, &open, SHA2, PASSWORD, &[]);
    assert!(said.err.contains("Authentication requires secure connection"), "{said:?}");
    // Nor does MariaDB's without this; it believes that there is TLS, and sends the password in clear. It is not taken.
    let said = client(mariadbs, &open, SHA2, PASSWORD, &[]);
    assert!(said.err.contains("neither over TLS nor under Sluice's key"), "{said:?}");
    let said = client(mysqls, &sealed, NO_ACCOUNT, PASSWORD, &[]);
    assert!(said.err.contains("has no account at the database"), "{said:?}");
    nothing_is_told(&sealed);
    nothing_is_told(&open);
}

fn drivers(server: &'static MyServer) {
    let database = server.database("");
    let users = users();
    let sealed = checking(server, &users).with_tls().listener(&accounts()).start();
    let open = checking(server, &users).listener(&accounts()).start();
    for (sluice, leg) in [(&sealed, "TLS offered"), (&open, "no TLS offered")] {
        for user in [SHA2, NATIVE, ED25519] {
            for (driver, tool) in by_drivers(sluice, &database, user) {
                // Oracle's knows MariaDB's plugin as little as node's, Go's and Rust's do, and asks for no key: it cannot log in to MySQL then either.
                match driver {
                    "mysql.connector" | "mysql2" | "go-sql-driver" | "mysql_async" if user == ED25519 => continue,
                    "mysql.connector" if user == SHA2 && leg == "no TLS offered" => continue,
                    _ => {}
                }
                let said = tool.run();
                assert_eq!(said.out.trim(), BY_PASSWORD, "{driver} as {user}, {leg}: {said:?}");
            }
        }
    }
}

/// With nothing but an address and a name.
fn by_drivers(sluice: &Sluice, database: &MyDatabase, user: &str) -> Vec<(&'static str, Tool)> {
    let (port, name) = (sluice.port(), &database.name);
    let ask = "SELECT substring_index(user(), '@', 1)";
    let python = |library: &str| {
        let script = format!(
            "import {library} as l\nc = l.connect(host='127.0.0.1', port={port}, user='{user}', password='{PASSWORD}', database='{name}')\n\
             k = c.cursor()\nk.execute(\"{ask}\")\nprint(k.fetchone()[0])"
        );
        Tool::new(Tool::folder().join("python/bin/python")).args(["-c", &script])
    };
    let script = format!(
        "require('mysql2').createConnection({{ host: '127.0.0.1', port: {port}, user: '{user}', password: '{PASSWORD}', database: '{name}' }})\
         .query(\"{ask} AS u\", function (e, r) {{ if (e) throw e; console.log(r[0].u); this.constructor; process.exit(0) }})"
    );
    let node = Tool::new("node").env("NODE_PATH", Tool::folder().join("node/node_modules")).args(["-e", &script]);
    let source = format!("{user}:{PASSWORD}@tcp(127.0.0.1:{port})/{name}");
    let go = Tool::new(Tool::folder().join("go/go_client")).args([&source, "who"]);
    let address = format!("mysql://{user}:{PASSWORD}@127.0.0.1:{port}/{name}?prefer_socket=false");
    let rust = Tool::new(Tool::folder().join("rust/mysql_async_client")).args([&address, "who"]);
    vec![
        ("go-sql-driver", go),
        ("mysql_async", rust),
        ("pymysql", python("pymysql")),
        ("mysql.connector", python("mysql.connector")),
        ("MySQLdb", python("MySQLdb")),
        ("mysql2", node),
    ]
}

fn a_users_file_and_its_changes(server: &'static MyServer) {
    let database = server.database("");
    let user = format!("changing_{}", database.name);
    let keep = |password: &str| {
        database.run_as_root(
            &format!("CREATE OR REPLACE USER {user} IDENTIFIED BY '{password}'")
                .replace("OR REPLACE ", server.either("OR REPLACE ", "")),
        );
        let kept = kept(server, &user);
        database.run_as_root(&format!("DROP USER {user}"));
        format!("\"{SHA2}\" \"{kept}\"\n")
    };
    let setup = checking(server, "# nobody yet\n");
    let sluice = setup.with_tls().listener(&accounts()).start();
    let comes_in = |password: &str| {
        let login = Login::of(SHA2).with_password(password).over(Encryption::Tls);
        MyWire::try_login(&sluice.address, &login).map(|_| ()).map_err(|failure| failure.code)
    };
    assert_eq!(comes_in("first"), Err(1045));
    for (now, before) in [("first", ""), ("second", "first")] {
        let at = sluice.log_length();
        sluice.private_file("users.txt", &keep(now));
        sluice.log_line_after(at, "the change of the file", |line| line.contains("policy loaded"));
        assert_eq!((comes_in(now), comes_in(before)), (Ok(()), Err(1045)), "{now} after {before:?}");
    }
    // A broken one leaves the old in force, and its error repeats nothing of it.
    let at = sluice.log_length();
    sluice.private_file("users.txt", "\"anna\" \"hunter2\"\n");
    let line = sluice.log_line_after(at, "an error", |line| line.contains("all stays as it was"));
    assert!(line.contains("line 1") && !line.contains("hunter2"), "{line}");
    assert_eq!(comes_in("second"), Ok(()));
}

/// Policy and record see who proved itself, not the account that serves it; and there is no way to become somebody else.
fn who_comes_in_stays_who_it_is(server: &'static MyServer) {
    let database = server.database("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)");
    let scope = format!("[[freeze]]\nname = \"one\"\nmatch = {{ user = [\"{NATIVE}\"] }}");
    let sluice = checking(server, &users()).with_tls().listener(&accounts()).with(&scope).start();
    let login = |user| Login::of(user).with_password(PASSWORD).on(&database.name).over(Encryption::Tls);
    let mut wire = MyWire::login(&sluice.address, &login(SHA2));
    let mut frozen = MyWire::login(&sluice.address, &login(NATIVE));
    wire.query("DELETE FROM t WHERE id = 1").expect_fine("this user may");
    assert_eq!(frozen.query("DELETE FROM t WHERE id = 2").code(), 50003, "that user may not");
    for user in [SHA2, BY_PASSWORD, "root"] {
        let change =
            [user.as_bytes(), b"\0\0", database.name.as_bytes(), b"\0\x2d\0mysql_native_password\0\0"].concat();
        let refused = frozen.command(&body(command::CHANGE_USER, &change));
        let failure = refused.error().expect("refused");
        assert!(failure.message.contains("COM_CHANGE_USER"), "{failure:?}");
        assert_eq!(frozen.query("DELETE FROM t WHERE id = 2").code(), 50003, "still that one");
    }
    // Everything else that a pool does between two borrowers.
    wire.command(&[command::RESET_CONNECTION]).expect_fine("reset");
    wire.query("DELETE FROM t WHERE id = 2").expect_fine("still this one");
    let record = sluice.record();
    let seen: Vec<&str> = record.iter().filter_map(|line| line["user"].as_str()).collect();
    assert!(seen.contains(&SHA2) && !seen.contains(&BY_PASSWORD), "{record:#?}");
}

/// The account's password is shown to nobody who is not known to be the database; a proof of it is.
fn the_database_may_be_anybody(server: &'static MyServer) {
    let database = server.database("");
    let user = format!("fresh_{}", database.name);
    // A user whom MySQL has not seen: it wants the password itself.
    database.run_as_root(&format!("CREATE USER {user} IDENTIFIED BY '{PASSWORD}'"));
    let account = accounts().replace(&format!("\"{BY_PASSWORD}\""), &format!("\"{user}\""));
    let sluice = checking_by(Setup::before_mysql(server), &users()).with_tls().listener(&account).start();
    let came = MyWire::try_login(&sluice.address, &Login::of(SHA2).with_password(PASSWORD).over(Encryption::Tls));
    if server.is_mariadb() {
        came.expect("by a proof");
        return;
    }
    let failure = came.err().expect("refused");
    assert_eq!((failure.code, failure.message.as_str()), (1045, "sluice: cannot log in at the database for you"));
    sluice.log_line("why", |line| line.contains("the password itself") && line.contains("verify-full"));
    nothing_is_told(&sluice);
}

/// The users file is what the README's query prints.
fn what_the_readme_says(server: &'static MyServer) {
    let readme = include_str!("../../../README.md");
    let from = readme.find("SELECT DISTINCT concat('\"'").expect("the query");
    let query = &readme[from..from + readme[from..].find("\nSQL\n").expect("its end")];
    let socket = format!("--socket={}", server.socket().display());
    let said = server.client().args([&socket, "-uroot", "--raw", "-BN"]).input(query).run_fine();
    let (user, other) = (format!("\"{BY_PASSWORD}\" \"0x"), format!("\"{BY_OTHER_PLUGIN}\""));
    assert!(said.out.contains(&user) && said.out.contains(&other) == server.is_mariadb(), "{said:?}");
    let account = format!("[[listener.account]]\nuser = \"{BY_PASSWORD}\"\npassword_env = \"{SECRET_VARIABLE}\"\n");
    let sluice = checking(server, &said.out).with_tls().listener(&account).start();
    let said = client(server, &sluice, BY_PASSWORD, PASSWORD, &[]);
    assert_eq!(said.out.trim(), BY_PASSWORD, "{said:?}");
}

/// Before a server, with the files of these clients' certificates beside the configuration.
fn certified(server: &MyServer) -> Setup {
    let setup = Setup::before_my_socket(server);
    let authority = Certificates::get();
    for (file, (certificate, key)) in [
        ("anna", authority.client("anna")),
        ("loader", authority.client("loader.internal")),
        ("stranger", Certificates::stranger("loader.internal")),
    ] {
        setup.private_file(&format!("{file}.crt"), &certificate);
        setup.private_file(&format!("{file}.key"), &key);
    }
    let (certificate, key, ca) = (
        setup.certificates.certificate.display().to_string(),
        setup.certificates.key.display().to_string(),
        setup.certificates.authority.display().to_string(),
    );
    let account = |user: &str| {
        format!(
            "[[listener.account]]\nuser = \"{user}\"\nupstream_user = \"{BY_PASSWORD}\"\npassword_env = \"{SECRET_VARIABLE}\""
        )
    };
    setup
        .listener(&format!(
            "auth = \"cert\"\ntls = {{ cert = \"{certificate}\", key = \"{key}\", client_ca = \"{ca}\" }}"
        ))
        .listener("[[listener.certificate]]\nname = \"loader.internal\"\nusers = [\"etl\", \"guest\"]")
        .listener("[[listener.certificate]]\nname = \"anna\"\nusers = [\"*\"]")
        .listener(&account("etl"))
        .listener(&account("guest"))
}

fn certificates_and_their_names(server: &'static MyServer) {
    let setup = certified(server);
    let folder = setup.path("");
    let sluice = setup.with("[logins]\nwrong_per_address = 5").start();
    let shown = |file: &str| {
        let path = folder.join(file).display().to_string();
        vec![format!("--ssl-cert={path}.crt"), format!("--ssl-key={path}.key")]
    };
    // MariaDB's 10.11 would not use TLS otherwise.
    let tls = |client_of: &MyServer| client_of.either("--ssl", "--ssl-mode=REQUIRED").to_owned();
    let log_in = |client_of: &MyServer, file: &str, user: &str| {
        let options = [shown(file), vec![tls(client_of)]].concat();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        client(client_of, &sluice, user, "", &options)
    };
    for client_of in [MyServer::mysql(), MyServer::mariadb()] {
        for (file, user) in [("loader", "etl"), ("loader", "guest"), ("anna", "guest")] {
            let said = log_in(client_of, file, user);
            assert_eq!(said.out.trim(), BY_PASSWORD, "{:?}'s client, {file} as {user}: {said:?}", client_of.product);
        }
        let said = log_in(client_of, "stranger", "etl");
        assert!(said.code == Some(1) && !said.err.contains("sluice:"), "the handshake fails: {said:?}");
        let tls = tls(client_of);
        for how in [client_of.either("--skip-ssl", "--ssl-mode=DISABLED"), tls.as_str()] {
            let said = client(client_of, &sluice, "etl", PASSWORD, &[how]);
            assert!(said.err.contains("connection requires a valid client certificate"), "{how}: {said:?}");
        }
    }
    for user in ["root", BY_PASSWORD, "*", "Etl", "loader.internal"] {
        let said = log_in(server, "loader", user);
        let expected = format!("sluice: certificate authentication failed for user \"{user}\"");
        assert!(said.err.contains(&expected), "{user}: {said:?}");
    }
    // The loader's wrong tries are the loader's: who shows another certificate at the same address has nothing to do with them.
    let said = log_in(server, "loader", "guest");
    assert!(said.err.contains("too many failed logins"), "{said:?}");
    assert_eq!(log_in(server, "anna", "guest").out.trim(), BY_PASSWORD);
    let said = log_in(server, "anna", "anybody");
    assert!(said.err.contains("has no account at the database"), "{said:?}");
    nothing_is_told(&sluice);
}

/// What a client with a certificate says of a password does not matter, but its plugin waits to hear what became of it.
fn a_certificate_and_a_password(server: &'static MyServer) {
    let setup = certified(server);
    let path = setup.path("loader").display().to_string();
    let sluice = setup.start();
    let shown = [format!("--ssl-cert={path}.crt"), format!("--ssl-key={path}.key")];
    for client_of in [MyServer::mysql(), MyServer::mariadb()] {
        let tls = client_of.either("--ssl", "--ssl-mode=REQUIRED");
        let said = client(client_of, &sluice, "etl", "whatever", &[tls, &shown[0], &shown[1]]);
        assert_eq!(said.out.trim(), BY_PASSWORD, "{:?}'s client: {said:?}", client_of.product);
    }
    let script = format!(
        "import pymysql\nfor p in ['', 'whatever']:\n c = pymysql.connect(host='127.0.0.1', port={}, user='etl', password=p, ssl={{'cert': '{path}.crt', 'key': '{path}.key'}})\n \
         k = c.cursor()\n k.execute(\"SELECT substring_index(user(), '@', 1)\")\n print(k.fetchone()[0])",
        sluice.port()
    );
    let said = Tool::new(Tool::folder().join("python/bin/python")).args(["-c", &script]).run();
    assert_eq!(said.out, format!("{BY_PASSWORD}\n{BY_PASSWORD}\n"), "{said:?}");
}

/// Neither the log nor the record nor the store says a secret.
pub fn nothing_is_told(sluice: &Sluice) {
    let written = String::from_utf8_lossy(&sluice.everything_written()).into_owned();
    assert!(!written.contains(PASSWORD), "a password was written down");
    for kept in ["$A$005$", "0x2441", "0x2A", "0x2a"] {
        assert!(!written.contains(kept), "what is kept of a password was written down");
    }
}
