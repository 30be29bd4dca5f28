//! Logging in where Sluice checks it, by whom should not get in: guessing, probing for names, broken and borrowed messages, clients that
//! stall, and a database that cannot be asked.

use crate::harness::message::{PROTOCOL_3_0, message, startup, tls_request};
use crate::harness::scram::{first, log_in};
use crate::harness::server::{BY_MD5, BY_SCRAM, Database, OTHER, PASSWORD, Server, TRUSTED};
use crate::harness::sluice::{Setup, Sluice};
use crate::harness::stories;
use crate::harness::tool::Tool;
use crate::harness::wire::{Address, Outcome, Wire};
use crate::logins::BY_QUERY;
use std::collections::BTreeMap;

stories! {
    nobody_and_somebody_look_alike, the_first_answer_takes_its_time_for_everybody, guesses_begun_at_once_are_not_all_let_through, guessing_is_stopped_and_nobody_else_is_locked_out, messages_that_do_not_add_up, an_offer_that_was_taken_away,
    messages_of_another_login, who_stalls_is_cut_off, strangers_take_nobodys_seat, refused_logins_are_added_up, what_a_stranger_says_of_settings_is_not_written_down,
    users_of_the_system_are_told_apart, who_gives_up_is_slowed, the_database_cannot_be_asked, names_that_postgresql_would_cut_off,
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
    let sluice =
        Setup::before(&database).listener(BY_QUERY).with("[sessions]\nlogin_timeout = \"1s\"\nmax_logins = 2").start();
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
    // Their room is free again, once the process noted it.
    sluice.log_line("the login's end", |line| line.contains("login timeout"));
    let mut wire = Wire::open(&sluice.address);
    log_in(&mut wire, PROTOCOL_3_0, &[("user", BY_SCRAM), ("database", &database.name)], PASSWORD)
        .expect_fine("a seat");
}

/// Whether the database asks them or Sluice: without a login they hold no session's place, and from one address not all the room.
fn strangers_take_nobodys_seat(server: &'static Server) {
    let database = server.database("");
    for auth in ["", BY_QUERY] {
        let sizes = "[sessions]\nmax_sessions = 2\nmax_logins = 6\nmax_logins_per_address = 4";
        let sluice = Setup::before(&database).listener(auth).with(sizes).start();
        let user = [("user", BY_SCRAM), ("database", database.name.as_str())];
        let stalled: Vec<Wire> = (0..4)
            .map(|number| {
                let mut wire = Wire::open_from([127, 0, 0, 2], &sluice.address);
                if number > 0 {
                    wire.send(&startup(PROTOCOL_3_0, &user));
                    wire.until(b'R');
                }
                wire
            })
            .collect();
        let error = Wire::open_from([127, 0, 0, 2], &sluice.address).until_closed().error().expect("no room");
        assert_eq!(error[&'C'], "53300", "{auth}: {error:?}");
        assert_eq!(error[&'M'], "sluice: sorry, too many clients are logging in already");
        let log_in_from = |last: u8| {
            let mut wire = Wire::open_from([127, 0, 0, last], &sluice.address);
            let outcome = log_in(&mut wire, PROTOCOL_3_0, &user, PASSWORD);
            (wire, outcome)
        };
        let sessions = [3, 1].map(log_in_from);
        sessions.iter().for_each(|(_, outcome)| outcome.expect_fine("others log in, with all of these standing there"));
        let mut third = Wire::open(&sluice.address);
        third.send(&startup(PROTOCOL_3_0, &user));
        let error = third.until_closed().error().expect("no seat");
        assert_eq!((error[&'C'].as_str(), error[&'M'].as_str()), ("53300", "sluice: sorry, too many clients already"));
        let (_, metrics) = sluice.get("/metrics");
        assert!(metrics.lines().any(|line| line.contains("outcome=\"crowded\"} 2")), "{metrics}");
        // The third may still be on its way out.
        let waiting = |line: &str| matches!(line, "sluice_logins_waiting 4" | "sluice_logins_waiting 5");
        assert!(metrics.lines().any(waiting), "{metrics}");
        let [(mut wire, _), _] = sessions;
        assert_eq!(wire.simple("SELECT 'still here'").value(), "still here");
        drop(stalled);
    }
}

/// Ten thousand refusals must not be ten thousand lines, nor long ones.
fn refused_logins_are_added_up(server: &'static Server) {
    let database = server.database("");
    let bounds = "[logins]\nwrong_per_user = 3\nwrong_per_address = 10000";
    let mut sluice = Setup::before(&database).listener(BY_QUERY).with(bounds).start();
    let begin = |user: &str| {
        let mut wire = Wire::open(&sluice.address);
        let user = [("user", user), ("database", user), ("application_name", user)];
        wire.send(&startup(PROTOCOL_3_0, &user));
        wire
    };
    for _ in 0..3 {
        assert_eq!(try_in_vain(&sluice, &database, BY_SCRAM).error[&'C'], "28P01");
    }
    for _ in 0..20 {
        assert_eq!(begin(BY_SCRAM).until_closed().code(), "28000", "too many");
    }
    let long = "\u{1}".repeat(3_000);
    for _ in 0..3 {
        assert_eq!(try_in_vain(&sluice, &database, &long).error[&'C'], "28P01");
    }
    assert_eq!(begin(&long).until_closed().code(), "28000", "too many");
    // Each a name of its own.
    for number in 0..40 {
        assert_eq!(try_in_vain(&sluice, &database, &format!("nobody {number}")).error[&'C'], "28P01");
    }
    sluice.signal("TERM");
    assert!(sluice.ended().success());
    let text = std::fs::read_to_string(sluice.record_path()).expect("a record");
    let longest = text.lines().map(str::len).max().expect("lines");
    assert!(longest < 2_000, "a line of {longest} bytes");
    let record = sluice.record();
    let logins: Vec<_> = record.iter().filter(|line| line["kind"] == "login").collect();
    let told = |user: &str, sqlstate: &str| -> Vec<(bool, u64)> {
        let of = logins.iter().filter(|line| line["user"] == user && line["sqlstate"] == sqlstate);
        of.map(|line| (line["of"].is_null(), line["count"].as_u64().unwrap_or(1))).collect()
    };
    assert_eq!(told(BY_SCRAM, "28P01"), [(true, 1), (false, 2)]);
    assert_eq!(told(BY_SCRAM, "28000"), [(true, 1), (false, 19)]);
    assert_eq!(told(&format!("{}…", "\u{1}".repeat(63)), "28P01"), [(true, 1), (false, 2)]);
    let others = told("", "28P01");
    assert!(others.len() == 1 && others[0].1 > 20, "who tried many names is one line: {others:?}");
    let all: u64 = logins.iter().map(|line| line["count"].as_u64().unwrap_or(1)).sum();
    assert_eq!(all, 3 + 20 + 3 + 1 + 40, "none is lost");
    assert!(logins.len() < 35, "{} lines", logins.len());
    assert!(logins.iter().all(|line| line["address"] == "127.0.0.1"));
    assert!(sluice.verify_record().code == Some(0));
}

fn what_a_stranger_says_of_settings_is_not_written_down(server: &'static Server) {
    let database = server.database("");
    let sluice = Sluice::before(&database);
    let begin = |user: &str, options: &str| {
        let mut wire = Wire::open(&sluice.address);
        let parameters = [("user", user), ("database", &database.name), ("options", options)];
        wire.send(&startup(PROTOCOL_3_0, &parameters));
        wire.until_closed().error().expect("refused")
    };
    assert_eq!(begin(TRUSTED, "-c session_replication_role=hunter2").get(&'C').map(String::as_str), Some("SL003"));
    for option in ["-xhunter2", "hunter2", "-ec a.password=hunter2", "--password=x hunter2"] {
        let error = begin(TRUSTED, option);
        assert!(error[&'C'] == "28000" && error[&'M'].contains("is not read"), "{option}: {error:?}");
    }
    // The database itself says what it does not take.
    let error = begin(OTHER, "-c work_mem=hunter2");
    assert!(error[&'C'] == "22023" && error[&'M'].contains("hunter2"), "{error:?}");
    sluice.log_line("its code", |line| line.contains("by the database: 22023"));
    let written = String::from_utf8_lossy(&sluice.everything_written()).into_owned();
    let text = written.rsplit('\0').next().unwrap_or_default();
    assert!(!written.contains("hunter2"), "{text}");
    assert!(written.contains("denied by guard-off; settings made at the start: session_replication_role"), "{text}");
}

/// Who guesses behind a unix socket does not shut out everybody else who comes by it.
fn users_of_the_system_are_told_apart(server: &'static Server) {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let database = server.database("");
    let setup = Setup::before(&database).listener(BY_QUERY).on_unix_socket().reachable_by_all();
    let sluice = setup.with("[logins]\nwrong_per_address = 2").start();
    let Address::Unix(path) = &sluice.address else { panic!("a unix socket") };
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).expect("our own");
    for user in ["a", "b"] {
        try_in_vain(&sluice, &database, user);
    }
    let mut wire = Wire::open(&sluice.address);
    wire.send(&startup(PROTOCOL_3_0, &[("user", BY_SCRAM), ("database", &database.name)]));
    assert_eq!(wire.until_closed().code(), "28000", "too many from this user of the system");
    if std::fs::metadata("/proc/self").expect("a process").uid() != 0 {
        // Nobody but root can be somebody else.
        return;
    }
    let folder = path.parent().expect("a folder").display();
    let target = format!("host={folder} port=6432 dbname={} user={BY_SCRAM}", database.name);
    let said = Tool::new("setpriv")
        .args(["--reuid", "65534", "--clear-groups", "--"])
        .args([Server::v15().bin.join("psql")])
        .args(["-w", "-AtX", "-d", &target, "-c", "SELECT current_user"])
        .env("PGPASSWORD", PASSWORD)
        .run();
    assert_eq!(said.out.trim(), BY_SCRAM, "{said:?}");
    let line = sluice.record().into_iter().rfind(|line| line["kind"] == "login").expect("a login");
    assert_eq!(line["address"], "local", "to policy and record they are one");
}

/// A client that leaves is no guess. Past the bound each costs the next a second, and nobody is refused for it.
fn who_gives_up_is_slowed(server: &'static Server) {
    let database = server.database("");
    let bounds = "[logins]\nwrong_per_address = 3";
    let sluice = Setup::before(&database).listener(BY_QUERY).with(bounds).start();
    let user = [("user", BY_SCRAM), ("database", database.name.as_str())];
    let right = || {
        let (mut wire, begun) = (Wire::open(&sluice.address), std::time::Instant::now());
        log_in(&mut wire, PROTOCOL_3_0, &user, PASSWORD).expect_fine("a login");
        begun.elapsed()
    };
    assert!(right() < std::time::Duration::from_secs(1));
    for _ in 0..3 {
        let mut wire = Wire::open(&sluice.address);
        wire.send(&startup(PROTOCOL_3_0, &user));
        wire.until(b'R');
        wire.send(&message(b'Q', b"SELECT 1\0"));
        assert_eq!(wire.until_closed().code(), "08P01");
    }
    assert!(right() >= std::time::Duration::from_secs(1));
}

fn the_database_cannot_be_asked(server: &'static Server) {
    let database = server.database("");
    let asking = |more: &str| BY_QUERY.replace(" }", &format!(", {more} }}"));
    let missing = asking("database = \"no_such_database\"");
    let failing = asking("query = \"SELECT 1 / 0, $1::text\"");
    let ambiguous = asking("query = \"SELECT rolname, rolpassword FROM pg_authid WHERE $1 <> ''\"");
    let another = asking("query = \"SELECT rolname, rolpassword FROM pg_authid WHERE rolname = 'plain' AND $1 <> ''\"");
    let trusting = "auth = \"scram\"\nauth_query = { user = \"postgres\" }".to_owned();
    for (lines, why) in [
        (missing, "no_such_database"),
        (failing, "division by zero"),
        (ambiguous, "more than one row"),
        (another, "another user"),
        // Anybody could have said so, and then anybody could say who may come in.
        (trusting.clone(), "it asks for nothing over a connection without TLS that is verified"),
    ] {
        let sluice = Setup::before(&database).listener(&lines).start();
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
    let sluice = Setup::before_address(&server.unix()).listener(&trusting).start();
    let mut wire = Wire::open(&sluice.address);
    let user = [("user", TRUSTED), ("database", database.name.as_str())];
    wire.send(&startup(PROTOCOL_3_0, &user));
    assert_eq!(wire.until(b'R').letters(), "R", "a unix socket is the database's");
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

/// To look somebody up who exists takes some 20 µs more. Nobody is answered before a time at which both are done.
fn the_first_answer_takes_its_time_for_everybody(server: &'static Server) {
    let database = server.database("");
    let sluice = Setup::before(&database).listener(BY_QUERY).start();
    for _ in 0..10 {
        for user in [BY_SCRAM, "nobody"] {
            let mut wire = Wire::open(&sluice.address);
            let begun = std::time::Instant::now();
            wire.send(&startup(PROTOCOL_3_0, &[("user", user), ("database", &database.name)]));
            wire.until(b'R');
            let took = begun.elapsed();
            assert!(took >= sluice::ground::limits::LOGIN_ANSWER_STEP, "{user}: {took:?}");
        }
    }
}
