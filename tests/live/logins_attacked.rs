//! Logging in where Sluice checks it, by whom should not get in: guessing, probing for names, broken and borrowed messages, clients that
//! stall, and a database that cannot be asked.

use crate::harness::message::{PROTOCOL_3_0, message, startup, tls_request};
use crate::harness::scram::{first, log_in};
use crate::harness::server::{BY_MD5, BY_SCRAM, Database, OTHER, PASSWORD, Server, TRUSTED};
use crate::harness::sluice::{Setup, Sluice};
use crate::harness::stories;
use crate::harness::wire::{Outcome, Wire};
use crate::logins::BY_QUERY;
use std::collections::BTreeMap;

stories! {
    nobody_and_somebody_look_alike, guesses_begun_at_once_are_not_all_let_through, guessing_is_stopped_and_nobody_else_is_locked_out, messages_that_do_not_add_up, an_offer_that_was_taken_away,
    messages_of_another_login, who_stalls_is_cut_off, the_database_cannot_be_asked, names_that_postgresql_would_cut_off,
    nothing_is_asked_of_the_database_for_strangers,
}

const PROOF: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// A login with a wrong proof, taken down message by message.
struct Tried {
    salt: String,
    iterations: String,
    error: BTreeMap<char, String>,
    letters: String,
}

fn try_in_vain(sluice: &Sluice, database: &Database, user: &str) -> Tried {
    let mut wire = Wire::open(&sluice.address);
    wire.send(&startup(PROTOCOL_3_0, &[("user", user), ("database", &database.name)]));
    let offer = wire.until(b'R');
    assert_eq!(offer.messages[0].body, b"\0\0\0\x0aSCRAM-SHA-256\0\0", "{offer:#?}");
    wire.send(&first("SCRAM-SHA-256", b"n,,n=,r=client"));
    let challenge = wire.until(b'R').messages.pop().expect("a challenge");
    let challenge = String::from_utf8_lossy(&challenge.body[4..]).into_owned();
    let field = |name: &str| {
        let found =
            challenge.split(',').find_map(|part| part.strip_prefix(name)).unwrap_or_else(|| panic!("{challenge}"));
        found.to_owned()
    };
    wire.send(&message(b'p', format!("c=biws,r={},p={PROOF}", field("r=")).as_bytes()));
    let outcome = wire.until_closed();
    let letters = wire.heard.iter().map(|message| message.tag as char).collect();
    Tried { salt: field("s="), iterations: field("i="), error: outcome.error().expect("an error"), letters }
}

fn nobody_and_somebody_look_alike(server: &'static Server) {
    let database = server.database("");
    let name = &database.name;
    let (expired, shut_out, none) = (format!("expired_{name}"), format!("shut_{name}"), format!("none_{name}"));
    server.administer(&format!("CREATE ROLE {expired} LOGIN PASSWORD 'x' VALID UNTIL 'yesterday'"));
    server.administer(&format!("CREATE ROLE {shut_out} NOLOGIN PASSWORD 'x'"));
    server.administer(&format!("CREATE ROLE {none} LOGIN"));
    let sluice = Setup::before(&database).listener(BY_QUERY).with("[logins]\nwrong_per_address = 1000").start();
    let tried = |user: &str| try_in_vain(&sluice, &database, user);
    let real = tried(BY_SCRAM);
    let mut salts = vec![real.salt.clone()];
    for user in ["nobody", &expired, &shut_out, &none, BY_MD5, TRUSTED, "NoBody", "nobody "] {
        let once = tried(user);
        assert_eq!(
            (once.letters.as_str(), once.iterations.as_str()),
            (real.letters.as_str(), real.iterations.as_str()),
            "{user}"
        );
        assert_eq!(once.salt.len(), real.salt.len(), "{user}");
        let named =
            |tried: &Tried, user: &str| format!("{:?}", tried.error).replace(&format!("\\\"{user}\\\""), "USER");
        assert_eq!(named(&once, user), named(&real, BY_SCRAM), "{user}");
        assert_eq!(once.salt, tried(user).salt, "{user}: the same at each try");
        salts.push(once.salt);
    }
    // Also over a restart.
    let before = tried("nobody").salt;
    let sluice = sluice.crash_and_restart();
    assert_eq!(try_in_vain(&sluice, &database, "nobody").salt, before);
    salts.sort();
    let count = salts.len();
    salts.dedup();
    assert_eq!(salts.len(), count, "each has its own");
    // The operator is told what it was.
    for (user, why) in [
        ("nobody", "no such user"),
        (expired.as_str(), "not valid any more"),
        (BY_MD5, "MD5"),
        (BY_SCRAM, "wrong password"),
    ] {
        sluice
            .record()
            .iter()
            .find(|line| {
                line["user"] == user
                    && line["sqlstate"] == "28P01"
                    && line["note"].as_str().is_some_and(|note| note.contains(why))
            })
            .unwrap_or_else(|| panic!("{user}: {why}"));
    }
}

fn guessing_is_stopped_and_nobody_else_is_locked_out(server: &'static Server) {
    let database = server.database("");
    let sluice =
        Setup::before(&database).listener(BY_QUERY).with("[logins]\nwrong_per_user = 3\nwrong_per_address = 6").start();
    let right = |user: &str| {
        let mut wire = Wire::open(&sluice.address);
        wire.send(&startup(PROTOCOL_3_0, &[("user", user), ("database", &database.name)]));
        wire.receive()
    };
    for _ in 0..3 {
        assert_eq!(try_in_vain(&sluice, &database, BY_SCRAM).error[&'C'], "28P01");
    }
    let refused = right(BY_SCRAM).expect("an answer").fields();
    assert_eq!(
        (refused[&'C'].as_str(), refused[&'M'].as_str()),
        ("28000", "sluice: too many failed logins"),
        "{refused:?}"
    );
    assert!(refused[&'H'].starts_with("Try again in"), "{refused:?}");
    // A user who does not exist is met in the same way.
    for _ in 0..2 {
        assert_eq!(try_in_vain(&sluice, &database, "nobody").error[&'C'], "28P01");
    }
    assert_eq!(right("nobody").map(|message| message.tag), Some(b'R'), "not yet");
    assert_eq!(right(OTHER).map(|message| message.tag), Some(b'R'), "another user from the same address");
    assert_eq!(try_in_vain(&sluice, &database, "nobody").error[&'C'], "28P01");
    assert_eq!(right(OTHER).map(|message| message.tag), Some(b'E'), "six from this address");
    let (_, metrics) = sluice.get("/metrics");
    let count =
        |outcome: &str| metrics.lines().any(|line| line.starts_with("sluice_logins_total") && line.contains(outcome));
    assert!(count("outcome=\"wrong\"} 6") && count("outcome=\"refused\"} 2"), "{metrics}");
}

/// Many begin before the first of them is found wrong.
fn guesses_begun_at_once_are_not_all_let_through(server: &'static Server) {
    let database = server.database("");
    let sluice = Setup::before(&database).listener(BY_QUERY).with("[logins]\nwrong_per_user = 3").start();
    let begun: Vec<(Wire, String)> = (0..20)
        .map(|_| {
            let mut wire = Wire::open(&sluice.address);
            wire.send(&startup(PROTOCOL_3_0, &[("user", BY_SCRAM), ("database", &database.name)]));
            wire.until(b'R');
            wire.send(&first("SCRAM-SHA-256", b"n,,n=,r=client"));
            let challenge = wire.until(b'R').messages.pop().expect("a challenge");
            let challenge = String::from_utf8_lossy(&challenge.body[4..]).into_owned();
            (wire, challenge.split(',').next().expect("a nonce").to_owned())
        })
        .collect();
    let codes = begun.into_iter().map(|(mut wire, nonce)| {
        wire.send(&message(b'p', format!("c=biws,{nonce},p={PROOF}").as_bytes()));
        wire.until_closed().code()
    });
    let wrong = codes.filter(|code| code == "28P01").count();
    assert_eq!(wrong, 3);
}

fn messages_that_do_not_add_up(server: &'static Server) {
    let database = server.database("");
    let sluice = Setup::before(&database).listener(BY_QUERY).start();
    let long = vec![b'x'; 60_000];
    let begin = |bytes: &[u8]| -> Outcome {
        let mut wire = Wire::open(&sluice.address);
        wire.send(&startup(PROTOCOL_3_0, &[("user", BY_SCRAM), ("database", &database.name)]));
        wire.until(b'R');
        wire.send(bytes);
        wire.hang_up();
        wire.until_closed()
    };
    let sasl = |data: &[u8]| first("SCRAM-SHA-256", data);
    let wrong: Vec<Vec<u8>> = vec![
        message(b'p', b""),
        message(b'p', b"SCRAM-SHA-256"),
        message(b'p', b"SCRAM-SHA-256\0\0\0\0\x09n,,"),
        message(b'p', b"SCRAM-SHA-256\0\xff\xff\xff\xff"),
        message(b'p', b"SCRAM-SHA-256\0\x7f\xff\xff\xffn,,n=,r=a"),
        message(b'p', &long),
        sasl(&long),
        sasl(b""),
        sasl(b",,,,,"),
        sasl(b"n,,n=,r="),
        sasl(b"n,,n=\xff,r=a"),
        sasl(b"n,a=postgres,n=,r=a"),
        sasl(b"p=tls-server-end-point,,n=,r=a"),
        first("SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,,n=,r=a"),
        first("OAUTHBEARER", b"n,,"),
        first("", b"n,,n=,r=a"),
        message(b'Q', b"SELECT 1\0"),
        message(b'P', b"\0SELECT 1\0\0\0"),
        b"p\0\0\0\x03".to_vec(),
        b"p\x7f\xff\xff\xff".to_vec(),
        b"\x16\x03\x01\x00\x05hello".to_vec(),
        startup(PROTOCOL_3_0, &[("user", TRUSTED)]),
    ];
    for bytes in wrong {
        let outcome = begin(&bytes);
        let shown = bytes[..bytes.len().min(60)].escape_ascii().to_string();
        assert_eq!(outcome.code(), "08P01", "{shown}: {outcome:#?}");
        assert_eq!(outcome.letters(), "E", "{shown}");
    }
    // Cut short: nothing to answer.
    for bytes in [&b"p"[..], b"p\0\0\0\x20SCRAM"] {
        assert_eq!(begin(bytes).letters(), "");
    }
    let mut wire = Wire::open(&sluice.address);
    log_in(&mut wire, PROTOCOL_3_0, &[("user", BY_SCRAM), ("database", &database.name)], PASSWORD)
        .expect_fine("afterwards");
}

/// Over TLS the offer includes binding. A client that says it saw none had it taken away by somebody between.
fn an_offer_that_was_taken_away(server: &'static Server) {
    let database = server.database("");
    let sluice = Setup::before(&database).listener(BY_QUERY).with_tls().start();
    let begin = |data: &[u8], mechanism: &str| {
        let mut wire = Wire::open(&sluice.address);
        wire.send(&tls_request());
        assert_eq!(wire.byte(), b'S');
        let mut wire = wire.into_tls();
        wire.send(&startup(PROTOCOL_3_0, &[("user", BY_SCRAM), ("database", &database.name)]));
        let offer = wire.until(b'R').messages.pop().expect("an offer");
        assert_eq!(offer.body, b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
        wire.send(&first(mechanism, data));
        wire
    };
    let mut wire = begin(b"y,,n=,r=a", "SCRAM-SHA-256");
    let error = wire.until_closed().error().expect("refused");
    assert!(error[&'C'] == "28000" && error[&'M'].contains("channel binding"), "{error:?}");
    // Bound to another certificate: somebody between ended the client's TLS and began one of its own.
    let mut wire = begin(b"p=tls-server-end-point,,n=,r=a", "SCRAM-SHA-256-PLUS");
    let challenge = wire.until(b'R').messages.pop().expect("a challenge");
    let challenge = String::from_utf8_lossy(&challenge.body[4..]).into_owned();
    let nonce = challenge.split(',').next().expect("a nonce");
    // The header, and 32 bytes of zero in place of the digest.
    let bound = "cD10bHMtc2VydmVyLWVuZC1wb2ludCwsAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    wire.send(&message(b'p', format!("c={bound},{nonce},p={PROOF}").as_bytes()));
    let error = wire.until_closed().error().expect("refused");
    assert!(error[&'C'] == "28000" && error[&'M'].contains("channel binding check failed"), "{error:?}");
}

fn messages_of_another_login(server: &'static Server) {
    let database = server.database("");
    let sluice = Setup::before(&database).listener(BY_QUERY).start();
    let user = [("user", BY_SCRAM), ("database", database.name.as_str())];
    // A login that was listened to, sent again message by message.
    let mut scram = postgres_protocol::authentication::sasl::ScramSha256::new(
        PASSWORD.as_bytes(),
        postgres_protocol::authentication::sasl::ChannelBinding::unsupported(),
    );
    let opening = scram.message().to_vec();
    let mut wire = Wire::open(&sluice.address);
    wire.send(&startup(PROTOCOL_3_0, &user));
    wire.until(b'R');
    wire.send(&first("SCRAM-SHA-256", &opening));
    let challenge = wire.until(b'R').messages.pop().expect("a challenge");
    scram.update(&challenge.body[4..]).expect("a challenge");
    let last = scram.message().to_vec();
    wire.send(&message(b'p', &last));
    wire.until_ready().expect_fine("the login that is listened to");
    let mut wire = Wire::open(&sluice.address);
    wire.send(&startup(PROTOCOL_3_0, &user));
    wire.until(b'R');
    wire.send(&first("SCRAM-SHA-256", &opening));
    wire.until(b'R');
    wire.send(&message(b'p', &last));
    let outcome = wire.until_closed();
    assert_eq!(outcome.code(), "08P01", "{outcome:#?}");
}

fn who_stalls_is_cut_off(server: &'static Server) {
    let database = server.database("");
    let sluice = Setup::before(&database)
        .listener(BY_QUERY)
        .with("[sessions]\nlogin_timeout = \"1s\"\nmax_sessions = 2")
        .start();
    let stalled: Vec<Wire> = (0..2)
        .map(|step| {
            let mut wire = Wire::open(&sluice.address);
            wire.send(&startup(PROTOCOL_3_0, &[("user", BY_SCRAM), ("database", &database.name)]));
            wire.until(b'R');
            if step == 1 {
                wire.send(&first("SCRAM-SHA-256", b"n,,n=,r=a"));
                wire.until(b'R');
            }
            wire
        })
        .collect();
    for mut wire in stalled {
        wire.until_closed();
    }
    // Their seats are free again, once the process noted it.
    sluice.log_line("the login's end", |line| line.contains("login timeout"));
    let mut wire = Wire::open(&sluice.address);
    log_in(&mut wire, PROTOCOL_3_0, &[("user", BY_SCRAM), ("database", &database.name)], PASSWORD)
        .expect_fine("a seat");
}

fn the_database_cannot_be_asked(server: &'static Server) {
    let database = server.database("");
    let missing = "auth = \"scram\"\nauth_query = { user = \"postgres\", database = \"no_such_database\" }";
    let failing = "auth = \"scram\"\nauth_query = { user = \"postgres\", query = \"SELECT 1 / 0, $1::text\" }";
    let ambiguous = "auth = \"scram\"\nauth_query = { user = \"postgres\", query = \"SELECT rolname, rolpassword FROM pg_authid WHERE $1 <> ''\" }";
    let another = "auth = \"scram\"\nauth_query = { user = \"postgres\", query = \"SELECT rolname, rolpassword FROM pg_authid WHERE rolname = 'plain' AND $1 <> ''\" }";
    for (lines, why) in [
        (missing, "no_such_database"),
        (failing, "division by zero"),
        (ambiguous, "more than one row"),
        (another, "another user"),
    ] {
        let sluice = Setup::before(&database).listener(lines).start();
        for user in [BY_SCRAM, "nobody"] {
            let mut wire = Wire::open(&sluice.address);
            wire.send(&startup(PROTOCOL_3_0, &[("user", user), ("database", &database.name)]));
            let outcome = wire.until_closed();
            let error = outcome.error().expect("refused");
            assert_eq!(
                (error[&'C'].as_str(), error[&'M'].as_str()),
                ("08006", "sluice: logins cannot be checked at the moment"),
                "{why}"
            );
            assert!(!error.contains_key(&'D'), "what is wrong is for the operator: {error:?}");
        }
        sluice.log_line(why, |line| line.contains("a login cannot be checked") && line.contains(why));
    }
    // A connection that was lost is opened anew.
    let sluice = Setup::before(&database).listener(BY_QUERY).start();
    for _ in 0..3 {
        let mut wire = Wire::open(&sluice.address);
        log_in(&mut wire, PROTOCOL_3_0, &[("user", BY_SCRAM), ("database", &database.name)], PASSWORD)
            .expect_fine("a login");
        server.administer(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sluice auth_query'",
        );
    }
}

/// PostgreSQL keeps 63 bytes of a name: whoever is checked under a longer one would be let in as another.
fn names_that_postgresql_would_cut_off(server: &'static Server) {
    let database = server.database("");
    let kept = format!("{:x<63}", database.name);
    server.administer(&format!("CREATE ROLE {kept} LOGIN PASSWORD '{PASSWORD}'"));
    let sluice = Setup::before(&database).listener(BY_QUERY).start();
    let mut wire = Wire::open(&sluice.address);
    log_in(&mut wire, PROTOCOL_3_0, &[("user", &kept), ("database", &database.name)], PASSWORD).expect_fine("63 bytes");
    for user in [format!("{kept}y"), format!("{kept}{}", "z".repeat(5_000))] {
        assert_eq!(try_in_vain(&sluice, &database, &user).error[&'C'], "28P01");
    }
    let mut wire = Wire::open(&sluice.address);
    wire.send(&startup(PROTOCOL_3_0, &[("user", ""), ("database", &database.name)]));
    assert_eq!(wire.until_closed().code(), "28000");
    // The last of several counts, as it does for the database.
    let mut wire = Wire::open(&sluice.address);
    let twice = [("user", TRUSTED), ("database", database.name.as_str()), ("user", BY_SCRAM)];
    log_in(&mut wire, PROTOCOL_3_0, &twice, PASSWORD).expect_fine("the last one");
    assert_eq!(wire.simple("SELECT session_user").value(), BY_SCRAM);
}

fn nothing_is_asked_of_the_database_for_strangers(server: &'static Server) {
    let database = server.database("");
    let sluice = Setup::before(&database).listener(BY_QUERY).start();
    let mut wire = Wire::open(&sluice.address);
    wire.send(&startup(PROTOCOL_3_0, &[("user", BY_SCRAM), ("database", &database.name)]));
    wire.until(b'R');
    wire.send(&first("SCRAM-SHA-256", b"n,,n=,r=a"));
    wire.until(b'R');
    let sessions =
        format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{BY_SCRAM}' AND datname = '{}'", database.name);
    assert_eq!(database.value(&sessions), "0");
    // What a stranger sends behind its messages is not run either.
    wire.send(
        &[message(b'p', format!("c=biws,r=a,p={PROOF}").as_bytes()), message(b'Q', b"CREATE TABLE t ()\0")].concat(),
    );
    assert_eq!(wire.until_closed().letters(), "E");
    assert_eq!(database.value("SELECT to_regclass('t') IS NULL"), "t");
}
