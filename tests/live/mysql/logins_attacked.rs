//! Who should not come in where Sluice checks logins (`auth = "password"`), and what they try: guesses, passwords overheard and said again,
//! what is kept of a password in its place, and talking somebody into saying one in clear.

use crate::harness::mysql::login::{Encryption, Login, encrypted, proof, tls_request};
use crate::harness::mysql::my_stories;
use crate::harness::mysql::packet::{self, Failure, Greeting, PLUGIN_AUTH, PLUGIN_AUTH_LENENC, USUAL, nul_terminated};
use crate::harness::mysql::server::MyServer;
use crate::harness::mysql::wire::MyWire;
use crate::harness::server::PASSWORD;
use crate::harness::sluice::Sluice;
use crate::mysql::logins::{NATIVE, SHA2, accounts, checking, kept, nothing_is_told, users};

my_stories! {
    nobody_and_somebody_look_alike, what_is_kept_is_no_password, what_was_overheard_is_worth_nothing,
    no_password_in_clear_over_an_open_leg, guessing_is_stopped_and_nobody_else_is_locked_out,
    guesses_begun_at_once_are_not_all_let_through, what_does_not_add_up,
}

const CACHING_SHA2: &str = "caching_sha2_password";
const NATIVE_PLUGIN: &str = "mysql_native_password";

fn line(user: &str, kept: &str) -> String {
    format!("\"{user}\" \"{kept}\"\n")
}

fn started(server: &'static MyServer, users: &str, more: &str) -> Sluice {
    checking(server, users).with_tls().listener(&accounts()).with(more).start()
}

/// A password, from a scramble and a key.
type Saying<'a> = &'a dyn Fn(&[u8], &[u8]) -> Vec<u8>;

/// A client that says in its own words what follows the greeting.
struct Attacker {
    wire: MyWire,
    scramble: Vec<u8>,
    plugin: String,
}

impl Attacker {
    fn met(sluice: &Sluice, encryption: Encryption) -> Attacker {
        let mut wire = MyWire::open(&sluice.address);
        let greeting = Greeting::read(&wire.message().expect("a greeting"));
        if encryption == Encryption::Tls {
            wire.reply(&tls_request(USUAL | packet::TLS, 45));
            wire = wire.into_tls();
        }
        Attacker { wire, scramble: greeting.scramble, plugin: greeting.plugin }
    }

    fn says(&mut self, user: &str, plugin: &str, first: &[u8]) {
        let capabilities = (USUAL | PLUGIN_AUTH_LENENC | PLUGIN_AUTH) & !packet::CONNECT_ATTRS;
        let mut body = tls_request(capabilities, 45);
        body.extend(nul_terminated(user));
        body.extend(packet::lenenc_string(first));
        body.extend(nul_terminated(plugin));
        self.wire.reply(&body);
    }

    fn hears(&mut self) -> Vec<u8> {
        self.wire.message().expect("a word")
    }

    fn is_refused(&mut self) -> Failure {
        let said = self.hears();
        assert_eq!(said.first(), Some(&0xff), "{}", said.escape_ascii());
        Failure::read(&said)
    }
}

/// Every packet that is heard, and the last of them as a failure.
fn in_vain(sluice: &Sluice, user: &str, password: &str, encryption: Encryption) -> (Vec<Vec<u8>>, Failure) {
    let mut attacker = Attacker::met(sluice, encryption);
    let plugin = attacker.plugin.clone();
    let mut scramble = attacker.scramble.clone();
    let is_safe = encryption == Encryption::Tls;
    attacker.says(user, &plugin, &proof(&plugin, password, &scramble, is_safe));
    let mut heard = Vec::new();
    loop {
        let said = attacker.hears();
        match &said[..] {
            [0xff, ..] => return (heard, Failure::read(&said)),
            [0x00, ..] => panic!("{user} came in"),
            [0xfe, rest @ ..] => {
                let mut rest = packet::Rest(rest);
                let plugin = String::from_utf8_lossy(rest.until_nul()).into_owned();
                scramble = rest.0.strip_suffix(&[0]).unwrap_or(rest.0).to_vec();
                attacker.wire.reply(&proof(&plugin, password, &scramble, is_safe));
                heard.push(said[..=plugin.len()].to_vec());
            }
            [0x01, 0x04] if is_safe => {
                attacker.wire.reply(&nul_terminated(password));
                heard.push(said);
            }
            [0x01, 0x04] => {
                attacker.wire.reply(&[0x02]);
                heard.push(said);
            }
            [0x01, key @ ..] => {
                attacker.wire.reply(&encrypted(password, &scramble, key));
                heard.push(said);
            }
            other => panic!("{}", other.escape_ascii()),
        }
    }
}

fn nobody_and_somebody_look_alike(server: &'static MyServer) {
    let (sha2, native) = (kept(MyServer::mysql(), "plain"), kept(MyServer::mariadb(), "plain"));
    for kept in [&sha2, &native] {
        // All are kept alike: who is kept otherwise than others can be told apart, as with the servers themselves.
        let users = [line(SHA2, kept), line("somebody", kept), line("by_nothing", "")].concat();
        let sluice = started(server, &users, "[logins]\nwrong_per_user = 100\nwrong_per_address = 1000");
        for encryption in [Encryption::Plain, Encryption::Tls] {
            for wrong in ["wrong", ""] {
                let told = |user: &str| {
                    let (heard, mut failure) = in_vain(&sluice, user, wrong, encryption);
                    failure.message = failure.message.replace(user, "USER");
                    (heard, failure)
                };
                let somebody = told(SHA2);
                assert_eq!(somebody.1.message, "sluice: password authentication failed for user \"USER\"");
                for user in ["nobody", "by_nothing", "somebody", "root", &"x".repeat(32)] {
                    assert_eq!(told(user), somebody, "{user} with {wrong:?} over {encryption:?}");
                }
            }
        }
        // Nobody's password is right, though it be somebody else's.
        for user in ["nobody", "by_nothing", "plain", "root", "By_sha2"] {
            in_vain(&sluice, user, PASSWORD, Encryption::Tls);
        }
        sluice.log_line("why", |line| line.contains("no such user in the users file"));
        sluice.log_line("why", |line| line.contains("the user has no password"));
        nothing_is_told(&sluice);
    }
}

fn what_is_kept_is_no_password(server: &'static MyServer) {
    let sluice = started(server, &users(), "[logins]\nwrong_per_user = 100\nwrong_per_address = 1000");
    for (user, kept) in [(SHA2, kept(MyServer::mysql(), "plain")), (NATIVE, kept(MyServer::mariadb(), "plain"))] {
        let digits = kept.strip_prefix("0x").expect("digits");
        let bytes: Vec<u8> = (0..digits.len() / 2)
            .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).expect("a digit"))
            .collect();
        let as_it_stands = String::from_utf8(bytes).expect("seven bits");
        for password in [&kept, digits, &as_it_stands, &as_it_stands[1..]] {
            for encryption in [Encryption::Plain, Encryption::Tls] {
                in_vain(&sluice, user, password, encryption);
            }
        }
    }
    // Of an empty password the older plugin keeps something that an empty proof must not fit.
    let empty = line(NATIVE, "*BE1BDEC0AA74B4DCB079943E70528096CCA985F8");
    let sluice = started(server, &empty, "");
    in_vain(&sluice, NATIVE, "", Encryption::Tls);
}

/// A scramble is used once, and made by Sluice: whoever stands for the server cannot choose it either.
fn what_was_overheard_is_worth_nothing(server: &'static MyServer) {
    let sluice = started(server, &users(), "");
    let mut first = Attacker::met(&sluice, Encryption::Plain);
    let scramble = first.scramble.clone();
    first.says(NATIVE, NATIVE_PLUGIN, b"");
    let asked = first.hears();
    // The greeting was by another plugin: it is asked anew, with another scramble.
    let switched = asked[2 + NATIVE_PLUGIN.len()..].strip_suffix(&[0]).expect("a scramble").to_vec();
    assert_ne!(switched, scramble);
    let overheard = proof(NATIVE_PLUGIN, PASSWORD, &switched, false);
    first.wire.reply(&overheard);
    assert_eq!(first.hears()[0], 0x00, "the first time");
    let mut again = Attacker::met(&sluice, Encryption::Plain);
    again.says(NATIVE, NATIVE_PLUGIN, &overheard);
    assert_eq!(again.hears()[0], 0xfe);
    again.wire.reply(&overheard);
    assert_eq!(again.is_refused().code, 1045);
    // The same of a password under our key, which is the key of every login.
    let under_our_key = |say: Saying| {
        let mut client = Attacker::met(&sluice, Encryption::Plain);
        let scramble = client.scramble.clone();
        client.says(SHA2, CACHING_SHA2, &proof(CACHING_SHA2, PASSWORD, &scramble, false));
        assert_eq!(client.hears(), [0x01, 0x04]);
        client.wire.reply(&[0x02]);
        let key = client.hears()[1..].to_vec();
        let said = say(&scramble, &key);
        client.wire.reply(&said);
        (said, client.hears()[0])
    };
    let (overheard, outcome) = under_our_key(&|scramble, key| encrypted(PASSWORD, scramble, key));
    assert_eq!(outcome, 0x00);
    assert_eq!(under_our_key(&|_, _| overheard.clone()).1, 0xff);
}

fn no_password_in_clear_over_an_open_leg(server: &'static MyServer) {
    let sluice = started(server, &users(), "");
    // The right password, and it is not taken.
    for (plugin, first) in [
        (CACHING_SHA2, vec![0; 32]),
        (CACHING_SHA2, nul_terminated(PASSWORD)),
        ("mysql_clear_password", nul_terminated(PASSWORD)),
        ("sha256_password", nul_terminated(PASSWORD)),
        ("dialog", nul_terminated(PASSWORD)),
    ] {
        let mut client = Attacker::met(&sluice, Encryption::Plain);
        client.says(SHA2, plugin, &first);
        let mut asked = client.hears();
        if asked[0] == 0xfe {
            // Asked by the user's own plugin, whatever the client would like.
            assert!(asked[1..].starts_with(CACHING_SHA2.as_bytes()), "{plugin}: {}", asked.escape_ascii());
            client.wire.reply(&[0; 32]);
            asked = client.hears();
        }
        assert_eq!(asked, [0x01, 0x04], "{plugin}");
        client.wire.reply(&nul_terminated(PASSWORD));
        let failure = client.is_refused();
        assert!(failure.message.contains("neither over TLS nor under Sluice's key"), "{plugin}: {failure:?}");
    }
    // Nobody is ever asked by the plugin that sends it in clear, not even over TLS.
    for user in [SHA2, NATIVE, "by_ed25519", "nobody", "somebody else"] {
        let mut client = Attacker::met(&sluice, Encryption::Tls);
        client.says(user, "mysql_clear_password", b"");
        let asked = client.hears();
        assert!(asked[0] == 0xfe && !asked.starts_with(b"\xfemysql_clear"), "{}", asked.escape_ascii());
    }
}

fn guessing_is_stopped_and_nobody_else_is_locked_out(server: &'static MyServer) {
    for (user, other) in [(SHA2, NATIVE), (NATIVE, SHA2)] {
        let sluice = started(server, &users(), "[logins]\nwrong_per_user = 3\nwrong_per_address = 6");
        let comes_in = |user: &str, password: &str| {
            let login = Login::of(user).with_password(password).over(Encryption::Tls);
            MyWire::try_login(&sluice.address, &login).map(|_| ()).map_err(|failure| failure.message)
        };
        let wrong = Err(format!("sluice: password authentication failed for user \"{user}\""));
        let is_shut =
            |came: Result<(), String>| came.is_err_and(|told| told.starts_with("sluice: too many failed logins"));
        for guess in ["a", "b"] {
            assert_eq!(comes_in(user, guess), wrong);
        }
        assert_eq!(comes_in(user, PASSWORD), Ok(()), "slips are forgiven");
        for guess in ["c", "d", "e"] {
            assert_eq!(comes_in(user, guess), wrong);
        }
        assert!(is_shut(comes_in(user, PASSWORD)), "even with the right one");
        assert_eq!(comes_in(other, PASSWORD), Ok(()), "somebody else from there");
        comes_in("nobody", "f").expect_err("the sixth wrong one of this address");
        assert!(is_shut(comes_in(other, PASSWORD)), "six from this address");
    }
}

fn guesses_begun_at_once_are_not_all_let_through(server: &'static MyServer) {
    for user in [SHA2, NATIVE] {
        let sluice = started(server, &users(), "[logins]\nwrong_per_user = 3");
        let mut guessing: Vec<Attacker> = (0..20)
            .map(|_| {
                let mut attacker = Attacker::met(&sluice, Encryption::Tls);
                attacker.says(user, CACHING_SHA2, &[7; 32]);
                attacker.hears();
                attacker
            })
            .collect();
        for (at, attacker) in guessing.iter_mut().enumerate() {
            let guess = if user == SHA2 { nul_terminated(&format!("guess {at}")) } else { vec![7; 20] };
            attacker.wire.reply(&guess);
        }
        let told: Vec<String> = guessing.iter_mut().map(|attacker| attacker.is_refused().message).collect();
        let tried = told.iter().filter(|message| message.contains("authentication failed")).count();
        assert_eq!(tried, 3, "{told:#?}");
    }
}

fn what_does_not_add_up(server: &'static MyServer) {
    let database = server.database("CREATE TABLE t (id int); INSERT INTO t VALUES (1), (2)");
    let sluice = started(server, &users(), "[logins]\nwrong_per_user = 100\nwrong_per_address = 1000");
    let over_tls = || {
        let mut client = Attacker::met(&sluice, Encryption::Tls);
        client.says(SHA2, CACHING_SHA2, &[7; 32]);
        assert_eq!(client.hears(), [0x01, 0x04]);
        client
    };
    for (said, expected) in [
        (b"no end".to_vec(), "sluice: the client sent a password without an end during the login"),
        (nul_terminated(&"x".repeat(300)), "authentication failed"),
        (nul_terminated(&format!("{PASSWORD}\0")), "authentication failed"),
        (nul_terminated(&format!("\0{PASSWORD}")), "authentication failed"),
        (vec![0], "authentication failed"),
        (vec![], "sluice: the client sent a password without an end during the login"),
    ] {
        let mut client = over_tls();
        client.wire.reply(&said);
        let failure = client.is_refused();
        assert!(failure.message.contains(expected), "{}: {failure:?}", said.escape_ascii());
    }
    for sent in [vec![], vec![7; 256], vec![7; 10]] {
        let mut client = Attacker::met(&sluice, Encryption::Plain);
        client.says(SHA2, CACHING_SHA2, &[7; 32]);
        client.hears();
        client.wire.reply(&[0x02]);
        client.hears();
        client.wire.reply(&sent);
        assert!(client.is_refused().message.contains("authentication failed"), "{} bytes under no key", sent.len());
    }
    for sent in [vec![], vec![0; 20], vec![7; 19], vec![7; 21]] {
        let mut client = Attacker::met(&sluice, Encryption::Tls);
        client.says(NATIVE, "x", b"");
        client.hears();
        client.wire.reply(&sent);
        assert!(client.is_refused().message.contains("authentication failed"), "a proof of {} bytes", sent.len());
    }
    // A command ahead of the end of the login is none before it, and is judged behind it.
    let mut client = Attacker::met(&sluice, Encryption::Tls);
    client.says(SHA2, CACHING_SHA2, &[7; 32]);
    client.hears();
    client.wire.reply(b"wrong\0");
    let drop = packet::query(&format!("DROP TABLE {}.t", database.name));
    let _closed = client.wire.try_send(&packet::framed(0, &drop));
    client.is_refused();
    let mut client = Attacker::met(&sluice, Encryption::Tls);
    client.says(SHA2, CACHING_SHA2, &[7; 32]);
    client.hears();
    client.wire.reply(&nul_terminated(PASSWORD));
    client.wire.start(&drop);
    assert_eq!(client.hears()[0], 0x00, "let in");
    assert_eq!(client.is_refused().code, 50001);
    assert_eq!(database.count("t"), 2, "it is there");
}
