//! Logging in where Sluice checks it (`auth = "scram"`, `"cert"`): real clients with their defaults, every combination of TLS on the
//! legs, verifiers from a file and from the database, accounts, certificates, and what changes without a restart.

use crate::harness::certificates::Certificates;
use crate::harness::message::{PROTOCOL_3_0, PROTOCOL_3_2, cancel_request, query, startup, tls_request};
use crate::harness::scram::{log_in, verifier_of};
use crate::harness::server::{
    BY_MD5, BY_PASSWORD, BY_SCRAM, Database, PASSWORD, SCRAMMERS, SUPERUSER, Server, TRUSTED,
};
use crate::harness::sluice::{SECRET_VARIABLE, Setup, Sluice};
use crate::harness::stories;
use crate::harness::tool::{Said, Tool};
use crate::harness::wire::Wire;
use std::fs;

stories! {
    psql_on_all_four_combinations_of_tls, drivers_with_tls_on_both_legs, a_changed_password_counts_at_once, a_users_file_and_its_changes,
    what_the_database_may_ask_for, accounts_whose_secret_sluice_alone_knows, certificates_and_their_names, a_renewed_certificate, a_certificate_that_cannot_be_bound_to,
    secrets_that_others_may_read,
    protocol_versions_and_cancelling, a_listener_that_requires_tls, what_the_readme_says, a_verifier_that_is_out_of_date,
}

/// Verifiers looked up in the database, by a superuser who proves itself.
pub const BY_QUERY: &str =
    "auth = \"scram\"\nauth_query = { user = \"asker\", password_env = \"SLUICE_STORY_SECRET\" }";

fn psql_on_all_four_combinations_of_tls(server: &'static Server) {
    let database = server.database("");
    for upstream in ["disable", "prefer"] {
        let setup = || Setup::before(&database).listener(BY_QUERY).listener(&format!("upstream_tls = \"{upstream}\""));
        let plain = setup().start();
        let said = psql(&database, &plain, &format!("user={BY_SCRAM}"), PASSWORD);
        assert_eq!(said.out.trim(), BY_SCRAM, "no TLS towards the client, upstream {upstream}: {said:?}");
        let said = psql(&database, &plain, &format!("user={BY_SCRAM} channel_binding=require"), PASSWORD);
        assert_eq!(said.code, Some(2), "there is nothing to bind to: {said:?}");
        let sealed = setup().with_tls().start();
        let ca = sealed.certificates().authority.display();
        for how in [
            String::new(),
            "channel_binding=require".to_owned(),
            "channel_binding=disable".to_owned(),
            "sslmode=disable".to_owned(),
            "sslmode=require".to_owned(),
            format!("sslmode=verify-full sslrootcert={ca} channel_binding=require"),
        ] {
            let said = psql(&database, &sealed, &format!("user={BY_SCRAM} {how}"), PASSWORD);
            assert_eq!(said.out.trim(), BY_SCRAM, "TLS towards the client, upstream {upstream}, {how}: {said:?}");
        }
        let said = psql(&database, &sealed, &format!("user={BY_SCRAM}"), "wrong");
        let expected = format!("FATAL:  sluice: password authentication failed for user \"{BY_SCRAM}\"");
        assert!(said.err.contains(&expected) && said.code == Some(2), "{said:?}");
        assert_nothing_told(&sealed, &[PASSWORD]);
    }
}

fn drivers_with_tls_on_both_legs(server: &'static Server) {
    let database = server.database("");
    let sluice = Setup::before(&database).listener(BY_QUERY).with_tls().start();
    let (port, name) = (sluice.port(), &database.name);
    let python = |script: String| Tool::new(Tool::folder().join("python/bin/python")).args(["-c", &script]);
    let tools = [
        ("psycopg", python(format!(
            "import psycopg\nwith psycopg.connect('host=127.0.0.1 port={port} user={BY_SCRAM} dbname={name}', password='{PASSWORD}', channel_binding='require') as c:\n print(c.execute('SELECT current_user').fetchone()[0])"
        ))),
        ("psycopg, TLS from the first byte", python(format!(
            "import psycopg\nwith psycopg.connect('host=127.0.0.1 port={port} user={BY_SCRAM} dbname={name} sslmode=require sslnegotiation=direct', password='{PASSWORD}') as c:\n print(c.execute('SELECT current_user').fetchone()[0])"
        ))),
        ("asyncpg", python(format!(
            "import asyncio, asyncpg\nasync def main():\n c = await asyncpg.connect(host='127.0.0.1', port={port}, user='{BY_SCRAM}', database='{name}', password='{PASSWORD}', ssl='require')\n print(await c.fetchval('SELECT current_user'))\n await c.close()\nasyncio.run(main())"
        ))),
        ("node-postgres", Tool::new("node").env("NODE_PATH", Tool::folder().join("node/node_modules")).args(["-e", &format!(
            "const {{ Client }} = require('pg');\n(async () => {{ for (const enableChannelBinding of [false, true]) {{ const c = new Client({{ host: '127.0.0.1', port: {port}, user: '{BY_SCRAM}', database: '{name}', password: '{PASSWORD}', ssl: {{ rejectUnauthorized: false }}, enableChannelBinding }}); await c.connect(); const r = await c.query('SELECT current_user AS u'); if (!enableChannelBinding) console.log(r.rows[0].u); await c.end(); }} }})()"
        )])),
        ("pgjdbc", jdbc(port, name)),
    ];
    for (driver, tool) in tools {
        let said = tool.run();
        assert_eq!(said.out.trim(), BY_SCRAM, "{driver}: {said:?}");
    }
}

fn jdbc(port: u16, name: &str) -> Tool {
    let source = format!(
        "public class Login {{ public static void main(String[] a) throws Exception {{ try (var c = java.sql.DriverManager.getConnection(\"jdbc:postgresql://127.0.0.1:{port}/{name}?sslmode=require\", \"{BY_SCRAM}\", \"{PASSWORD}\"); var r = c.createStatement().executeQuery(\"SELECT current_user\")) {{ r.next(); System.out.println(r.getString(1)); }} }} }}"
    );
    let folder = tempfile::tempdir().expect("a folder").keep();
    let file = folder.join("Login.java");
    fs::write(&file, source).expect("a writable folder");
    Tool::new("java").args(["-XX:TieredStopAtLevel=1", "-cp", "/usr/share/java/postgresql.jar"]).args([&file])
}

fn a_changed_password_counts_at_once(server: &'static Server) {
    let database = server.database("");
    let role = format!("changing_{}", database.name);
    server.administer(&format!("CREATE ROLE {role} LOGIN PASSWORD 'first'"));
    let sluice = Setup::before(&database).listener(BY_QUERY).start();
    let mut told = Vec::new();
    for (change, works, fails) in [
        ("", "first", "second"),
        ("PASSWORD 'second'", "second", "first"),
        ("PASSWORD 'third' VALID UNTIL 'yesterday'", "", "third"),
        ("VALID UNTIL 'infinity' NOLOGIN", "", "third"),
        ("LOGIN", "third", "second"),
    ] {
        if !change.is_empty() {
            server.administer(&format!("ALTER ROLE {role} {change}"));
        }
        // Trusted at the database: what is refused is refused by Sluice.
        let said = psql(&database, &sluice, &format!("user={role}"), fails);
        assert!(said.err.contains("sluice: password authentication failed"), "{change}: {said:?}");
        told.push(said.err);
        if !works.is_empty() {
            let said = psql(&database, &sluice, &format!("user={role}"), works);
            assert_eq!(said.out.trim(), role, "{change}: {said:?}");
        }
    }
    told.dedup();
    assert_eq!(told.len(), 1, "the client is told the same, whatever was wrong: {told:#?}");
}

fn a_users_file_and_its_changes(server: &'static Server) {
    let database = server.database("");
    let verifier = verifier_of(server, BY_SCRAM);
    let setup = Setup::before(&database);
    let file = setup.private_file("users.txt", "; nobody yet\n");
    let sluice = setup.listener(&format!("auth = \"scram\"\nusers_file = \"{file}\"")).start();
    let said = psql(&database, &sluice, &format!("user={BY_SCRAM}"), PASSWORD);
    assert!(said.err.contains("password authentication failed"), "{said:?}");
    // Noticed without a signal.
    let before = sluice.log_length();
    sluice.private_file("users.txt", &format!("\"{BY_SCRAM}\" \"{verifier}\"\n"));
    sluice.log_line_after(before, "the change of the file", |line| line.contains("policy loaded"));
    let said = psql(&database, &sluice, &format!("user={BY_SCRAM}"), PASSWORD);
    assert_eq!(said.out.trim(), BY_SCRAM, "{said:?}");
    // A broken one leaves the old in force, and its error repeats nothing of it.
    let before = sluice.log_length();
    sluice.private_file("users.txt", "\"anna\" \"hunter2\"\n");
    let line = sluice.log_line_after(before, "an error", |line| line.contains("all stays as it was"));
    assert!(line.contains("line 1") && !line.contains("hunter2"), "{line}");
    let said = psql(&database, &sluice, &format!("user={BY_SCRAM}"), PASSWORD);
    assert_eq!(said.out.trim(), BY_SCRAM, "{said:?}");
}

/// The database may ask for nothing or for SCRAM; what it cannot be given is named.
fn what_the_database_may_ask_for(server: &'static Server) {
    let database = server.database("");
    let verifier = verifier_of(server, BY_SCRAM);
    let setup = Setup::before(&database);
    let lines: String = [TRUSTED, BY_MD5, BY_PASSWORD].map(|user| format!("\"{user}\" \"{verifier}\"\n")).concat();
    let file = setup.private_file("users.txt", &lines);
    let sluice = setup.listener(&format!("auth = \"scram\"\nusers_file = \"{file}\"")).start();
    let said = psql(&database, &sluice, &format!("user={TRUSTED}"), PASSWORD);
    assert_eq!(said.out.trim(), TRUSTED, "{said:?}");
    for (user, wanted) in [(BY_MD5, "an MD5 password"), (BY_PASSWORD, "a clear-text password")] {
        let said = psql(&database, &sluice, &format!("user={user}"), PASSWORD);
        assert!(said.err.contains(wanted) && said.err.contains("scram-sha-256"), "{said:?}");
    }
}

fn accounts_whose_secret_sluice_alone_knows(server: &'static Server) {
    let database = server.database("");
    let verifier = verifier_of(server, BY_SCRAM);
    // The client's password is PASSWORD as well, but the users exist at Sluice alone; what Sluice sends is in the accounts' file.
    let roles = [("guest_scram", BY_SCRAM), ("guest_md5", BY_MD5), ("guest_plain", BY_PASSWORD)];
    let folder = tempfile::tempdir().expect("a folder");
    let files = crate::harness::certificates::Certificates::get().write(folder.path());
    let authority = format!("\nupstream_ca = \"{}\"", files.authority.display());
    for upstream in ["disable", "prefer", "verify-full"] {
        let verified = upstream == "verify-full";
        if verified && !server.has_tls() {
            continue;
        }
        let setup = Setup::before(&database);
        let lines: String = roles.map(|(user, _)| format!("\"{user}\" \"{verifier}\"\n")).concat();
        let file = setup.private_file("users.txt", &lines);
        let secret = setup.private_file("secret", &format!("{PASSWORD}\n"));
        let mut setup =
            setup.listener(&format!("auth = \"scram\"\nupstream_tls = \"{upstream}\"\nusers_file = \"{file}\""));
        if verified {
            setup = setup.listener(&authority);
        }
        for (user, upstream_user) in roles {
            setup = setup.listener(&format!(
                "[[listener.account]]\nuser = \"{user}\"\nupstream_user = \"{upstream_user}\"\npassword_file = \"{secret}\""
            ));
        }
        let sluice = setup.start();
        for (user, upstream_user) in roles {
            let said = psql(&database, &sluice, &format!("user={user}"), PASSWORD);
            if upstream_user != BY_SCRAM && !verified {
                assert!(said.err.contains("without TLS that is verified"), "{said:?}");
            } else {
                assert_eq!(said.out.trim(), upstream_user, "{user}, upstream_tls = {upstream}: {said:?}");
            }
            let said = psql(&database, &sluice, &format!("user={user}"), "wrong");
            assert!(said.err.contains("password authentication failed"), "{said:?}");
        }
        let said = psql(&database, &sluice, &format!("user={BY_SCRAM}"), PASSWORD);
        assert!(said.err.contains("password authentication failed"), "the account's own name is nobody here: {said:?}");
        let logins: Vec<String> = sluice
            .record()
            .iter()
            .filter(|line| line["kind"] == "login" && line["sqlstate"].is_null())
            .map(|line| line["user"].as_str().unwrap_or_default().to_owned())
            .collect();
        assert!(logins.contains(&"guest_scram".to_owned()) && !logins.contains(&BY_SCRAM.to_owned()), "{logins:?}");
        assert_nothing_told(&sluice, &[PASSWORD]);
    }
}

fn certificates_and_their_names(server: &'static Server) {
    let database = server.database("");
    let setup = Setup::before(&database);
    let secret = setup.private_file("secret", PASSWORD);
    let authority = Certificates::get();
    for (file, (certificate, key)) in [
        ("anna", authority.client("anna")),
        ("loader", authority.client("loader.internal")),
        ("scrammer", authority.client(BY_SCRAM)),
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
    let folder = setup.path("");
    let sluice = setup
        .with("[logins]\nwrong_per_address = 4")
        .listener(&format!(
            "auth = \"cert\"\ntls = {{ cert = \"{certificate}\", key = \"{key}\", client_ca = \"{ca}\" }}"
        ))
        .listener(&format!("[[listener.certificate]]\nname = \"loader.internal\"\nusers = [\"{BY_SCRAM}\", \"guest\"]"))
        .listener("[[listener.certificate]]\nname = \"anna\"\nusers = [\"*\"]")
        .listener(&format!("[[listener.account]]\nuser = \"{BY_SCRAM}\"\npassword_file = \"{secret}\""))
        .listener(&format!(
            "[[listener.account]]\nuser = \"guest\"\nupstream_user = \"{BY_SCRAM}\"\npassword_file = \"{secret}\""
        ))
        .start();
    let log_in = |file: &str, who: &str| {
        let path = folder.join(file).display().to_string();
        psql(
            &database,
            &sluice,
            &format!("user={who} sslmode=verify-full sslrootcert={ca} sslcert={path}.crt sslkey={path}.key"),
            "",
        )
    };
    for (file, user, expected) in
        [("loader", BY_SCRAM, BY_SCRAM), ("loader", "guest", BY_SCRAM), ("anna", "guest", BY_SCRAM)]
    {
        let said = log_in(file, user);
        assert_eq!(said.out.trim(), expected, "{file} as {user}: {said:?}");
    }
    // A map stands: the certificate's own name alone is no way in, nor is somebody else's.
    for (file, user) in
        [("scrammer", BY_SCRAM), ("loader", SUPERUSER), ("loader", TRUSTED), ("loader", "*"), ("loader", "Guest")]
    {
        let said = log_in(file, user);
        let expected = format!("sluice: certificate authentication failed for user \"{user}\"");
        assert!(said.err.contains(&expected), "{file} as {user}: {said:?}");
    }
    // The loader's wrong tries are the loader's: who shows another certificate at the same address has nothing to do with them.
    let said = log_in("loader", "guest");
    assert!(said.err.contains("too many failed logins"), "{said:?}");
    assert_eq!(log_in("anna", "guest").out.trim(), BY_SCRAM);
    let said = log_in("anna", TRUSTED);
    assert!(said.err.contains("has no account at the database"), "{said:?}");
    let said = log_in("stranger", "guest");
    assert!(said.code == Some(2) && !said.err.contains("sluice:"), "the handshake fails: {said:?}");
    for how in ["sslmode=disable", "sslmode=require"] {
        let said = psql(&database, &sluice, &format!("user=guest {how}"), PASSWORD);
        assert!(said.err.contains("connection requires a valid client certificate"), "{how}: {said:?}");
    }
    assert_nothing_told(&sluice, &[PASSWORD]);
}

/// Only the certificate's files change; sessions go on, and new ones see (and bind to) the new one.
fn a_renewed_certificate(server: &'static Server) {
    let database = server.database("");
    let sluice = Setup::before(&database).listener(BY_QUERY).with_tls().start();
    let bound = || psql(&database, &sluice, &format!("user={BY_SCRAM} channel_binding=require"), PASSWORD);
    assert_eq!(bound().out.trim(), BY_SCRAM);
    let mut old = Wire::open(&sluice.address);
    log_in(&mut old, PROTOCOL_3_0, &[("user", BY_SCRAM), ("database", &database.name)], PASSWORD).expect_fine("before");
    let (certificate, key) = Certificates::get().renewed();
    let shown = |sluice: &Sluice| Wire::tls_certificate(&sluice.address);
    let first = shown(&sluice);
    let before = sluice.log_length();
    // The key first: for a moment the two do not belong together, and the old ones stay in force.
    sluice.private_file("server.key", &key);
    sluice.log_line_after(before, "an error", |line| line.contains("all stays as it was"));
    assert_eq!(shown(&sluice), first);
    let before = sluice.log_length();
    sluice.private_file("server.crt", &certificate);
    sluice.log_line_after(before, "the renewal", |line| line.contains("policy loaded"));
    assert_ne!(shown(&sluice), first);
    assert_eq!(bound().out.trim(), BY_SCRAM);
    assert_eq!(old.simple("SELECT 'still here'").value(), "still here");
}

/// libpq breaks off if binding is offered with such a certificate, so it is not, and its defaults go on working.
fn a_certificate_that_cannot_be_bound_to(server: &'static Server) {
    let database = server.database("");
    let setup = Setup::before(&database).listener(BY_QUERY);
    let (certificate, key) = Certificates::unbindable();
    setup.private_file("server.crt", &certificate);
    setup.private_file("server.key", &key);
    let sluice = setup.with_tls().start();
    let log_in = |how: &str| psql(&database, &sluice, &format!("user={BY_SCRAM} sslmode=require {how}"), PASSWORD);
    assert_eq!(log_in("").out.trim(), BY_SCRAM, "{:?}", log_in(""));
    assert!(log_in("channel_binding=require").err.contains("channel binding is required"));
    sluice.log_line("a word to the operator", |line| line.contains("channel binding is not offered"));
}

fn secrets_that_others_may_read(server: &'static Server) {
    let database = server.database("");
    for (name, lines) in [
        ("users.txt", "auth = \"scram\"\nusers_file = \"users.txt\""),
        ("secret", "auth = \"scram\"\nauth_query = { user = \"postgres\", password_file = \"secret\" }"),
    ] {
        let setup = Setup::before(&database);
        setup.private_file(name, "\n");
        let lines = lines.replace(name, &setup.path(name).display().to_string());
        fs::set_permissions(setup.path(name), std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("our own");
        let said = setup.listener(&lines).start_in_vain();
        assert!(said.code == Some(2) && said.err.contains("chmod 600"), "{name}: {said:?}");
    }
    let query = "auth = \"scram\"\nauth_query = { user = \"postgres\", password_env = \"SLUICE_STORY_HAS_NO_SUCH\" }";
    let said = Setup::before(&database).listener(query).start_in_vain();
    assert!(said.err.contains("no variable SLUICE_STORY_HAS_NO_SUCH"), "{said:?}");
}

fn protocol_versions_and_cancelling(server: &'static Server) {
    let database = server.database("");
    // As TRUSTED, whose sessions the story may look at; the database asks it for nothing.
    let setup = Setup::before(&database);
    let verifier = verifier_of(server, BY_SCRAM);
    let file =
        setup.private_file("users.txt", &format!("\"{TRUSTED}\" \"{verifier}\"\n\"{BY_SCRAM}\" \"{verifier}\"\n"));
    let sluice = setup.listener(&format!("auth = \"scram\"\nusers_file = \"{file}\"")).start();
    let user = [("user", TRUSTED), ("database", database.name.as_str())];
    for version in [PROTOCOL_3_0, PROTOCOL_3_2, 3 << 16 | 9999] {
        for extra in [None, Some(("_pq_.unheard_of", "1"))] {
            let mut parameters = user.to_vec();
            parameters.extend(extra);
            let mut wire = Wire::open(&sluice.address);
            log_in(&mut wire, version, &parameters, PASSWORD).expect_fine("a login");
            let negotiated = wire.heard.iter().filter(|message| message.tag == b'v').count();
            let expected = usize::from(version > PROTOCOL_3_2 || extra.is_some());
            assert_eq!(negotiated, expected, "version {version:#x}, {extra:?}: {:#?}", wire.heard);
            let key = wire.key();
            let long = version >= PROTOCOL_3_2 && server.version >= 18;
            assert_eq!(key.len() > 8, long, "version {version:#x}: {} bytes", key.len());
            wire.send(&query("SELECT pg_sleep(300)"));
            database.wait_until_it_runs("SELECT pg_sleep(300)");
            let mut canceller = Wire::open(&sluice.address);
            canceller.send(&cancel_request(&key));
            assert!(canceller.some_bytes().is_empty());
            assert_eq!(wire.until_ready().code(), "57014");
        }
    }
    // A libpq that speaks 3.2, whatever the database speaks.
    let script = format!(
        "import psycopg\nwith psycopg.connect('host=127.0.0.1 port={} user={BY_SCRAM} dbname={} {}', password='{PASSWORD}') as c:\n print(c.execute('SELECT current_user').fetchone()[0])",
        sluice.port(),
        database.name,
        "max_protocol_version=latest"
    );
    let said = Tool::new(Tool::folder().join("python/bin/python")).args(["-c", &script]).run();
    assert!(said.out.trim() == BY_SCRAM || said.err.contains("invalid connection option"), "{said:?}");
}

/// Whoever comes without is told so before it is asked for a password, whoever checks that; a cancel request may, as with
/// PostgreSQL: libpq before 17 sends it without TLS.
fn a_listener_that_requires_tls(server: &'static Server) {
    let database = server.database("");
    let server_has_tls = "upstream_tls = \"disable\"";
    for auth in ["", BY_QUERY] {
        let setup = Setup::before(&database).listener(auth).listener(server_has_tls);
        let (certificate, key) = (setup.certificates.certificate.display(), setup.certificates.key.display());
        let tls = format!("tls = {{ cert = \"{certificate}\", key = \"{key}\", mode = \"require\" }}");
        let sluice = setup.listener(&tls).start();
        for how in ["disable", "allow", "prefer", "require"] {
            let said = psql(&database, &sluice, &format!("user={BY_SCRAM} sslmode={how}"), PASSWORD);
            match how {
                "disable" => {
                    let expected = "FATAL:  sluice: the connection requires TLS";
                    assert!(said.err.contains(expected) && said.code == Some(2), "{auth}: {said:?}");
                }
                _ => assert_eq!(said.out.trim(), BY_SCRAM, "{auth}, sslmode={how}: {said:?}"),
            }
        }
        let user = [("user", BY_SCRAM), ("database", database.name.as_str())];
        let mut plain = Wire::open(&sluice.address);
        plain.send(&startup(PROTOCOL_3_0, &user));
        assert_eq!(plain.until_closed().letters(), "E", "{auth}: nothing was asked before");
        let mut wire = Wire::open(&sluice.address);
        wire.send(&tls_request());
        assert_eq!(wire.byte(), b'S');
        let mut wire = wire.into_tls();
        log_in(&mut wire, PROTOCOL_3_0, &user, PASSWORD).expect_fine("over TLS");
        // Others may not see what this user runs, but that it holds a lock.
        let lock = auth.len();
        wire.send(&query(&format!("SELECT pg_advisory_lock({lock}), pg_sleep(300)")));
        database.wait_until(&format!(
            "SELECT EXISTS (SELECT FROM pg_locks JOIN pg_database d ON d.oid = database WHERE datname = current_database() AND locktype = 'advisory' AND objid = {lock})"
        ));
        let mut canceller = Wire::open(&sluice.address);
        canceller.send(&cancel_request(&wire.key()));
        assert!(canceller.some_bytes().is_empty());
        assert_eq!(wire.until_ready().code(), "57014");
    }
}

/// Its function and its query for a users file, as they stand there.
fn what_the_readme_says(server: &'static Server) {
    let database = server.database("");
    let block = |start: &str, end: &str| {
        let readme = include_str!("../../README.md");
        let from = readme.find(start).unwrap_or_else(|| panic!("no {start}")) + start.len();
        readme[from..].split(end).next().expect("an end").to_owned()
    };
    let asker = format!("asker_{}", database.name);
    let mut wire = Wire::login(&server.tcp(), SUPERUSER, &database.name);
    let function = block("```sql\nCREATE ROLE sluice LOGIN PASSWORD '…';", "```");
    let function = function.replace("TO sluice;", &format!("TO {asker};"));
    wire.simple(&format!("CREATE ROLE {asker} LOGIN PASSWORD '{PASSWORD}' IN ROLE {SCRAMMERS}; {function}"))
        .expect_fine("the function");
    let query = block("and `query = \"", "\"");
    let lines = format!(
        "auth = \"scram\"\nauth_query = {{ user = \"{asker}\", password_env = \"{SECRET_VARIABLE}\", database = \"{}\", query = \"{query}\" }}",
        database.name
    );
    let sluice = Setup::before(&database).listener(&lines).start();
    assert_eq!(psql(&database, &sluice, &format!("user={BY_SCRAM}"), PASSWORD).out.trim(), BY_SCRAM);
    let file: String = wire
        .simple(&block("<<'SQL'\n", "SQL\n"))
        .rows()
        .into_iter()
        .flatten()
        .flatten()
        .map(|line| line + "\n")
        .collect();
    let setup = Setup::before(&database);
    let path = setup.private_file("users.txt", &file);
    let sluice = setup.listener(&format!("auth = \"scram\"\nusers_file = \"{path}\"")).start();
    assert_eq!(psql(&database, &sluice, &format!("user={BY_SCRAM}"), PASSWORD).out.trim(), BY_SCRAM);
}

/// The users file holds what the database no longer does: the client is right, and the operator has to act.
fn a_verifier_that_is_out_of_date(server: &'static Server) {
    let database = server.database("");
    let (role, verifier) = (BY_SCRAM, verifier_of(server, BY_PASSWORD));
    let setup = Setup::before(&database);
    let file = setup.private_file("users.txt", &format!("\"{role}\" \"{verifier}\"\n"));
    let sluice = setup.listener(&format!("auth = \"scram\"\nusers_file = \"{file}\"")).start();
    let said = psql(&database, &sluice, &format!("user={role}"), PASSWORD);
    assert!(said.err.contains("verifier of this user is not the one"), "{said:?}");
}

/// Debian's psql, with its defaults but for what is said.
fn psql(database: &Database, sluice: &Sluice, who: &str, password: &str) -> Said {
    let target = format!("host=127.0.0.1 port={} dbname={} {who}", sluice.port(), database.name);
    Tool::new(Server::v15().bin.join("psql"))
        .args(["-w", "-AtX", "-d", &target, "-c", "SELECT current_user"])
        .env("PGPASSWORD", password)
        .run()
}

/// Neither the log nor the record nor the store says a secret.
fn assert_nothing_told(sluice: &Sluice, secrets: &[&str]) {
    let written = String::from_utf8_lossy(&sluice.everything_written()).into_owned();
    for secret in secrets {
        assert!(!written.contains(secret), "a secret was written down");
    }
    assert!(!written.contains("SCRAM-SHA-256$"), "a verifier was written down");
}
