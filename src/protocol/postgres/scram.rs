//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, both sides, as values: messages in, messages and keys out.
//!
//! ```text
//! client                          server
//!   gs2 header, n=…, r=nonce ────▶
//!   ◀──── r=nonce+nonce, s=salt, i=iterations
//!   c=binding, r=…, p=proof ─────▶  proof XOR HMAC(StoredKey, everything said) = ClientKey; SHA-256(ClientKey) = StoredKey?
//!   ◀──── v=HMAC(ServerKey, everything said)
//! ```
//!
//! A server knows StoredKey and ServerKey (a [`Verifier`]) and learns the ClientKey from a right proof. With it and the ServerKey
//! ([`Keys`]) it can log in where the same verifier is kept, as that user, without ever knowing the password.
//!
//! Invariants: what is hashed are the bytes that came, never a message written anew; secrets are compared in constant time, wiped
//! when dropped and shown by no `Debug`; no message makes anything here panic. No cryptography of our own: `hmac`, `sha2`,
//! `subtle`, PBKDF2 from `aws-lc-rs`.
//!
//! Sources: RFC 5802, RFC 7677, RFC 5929 (tls-server-end-point); `auth-scram.c` and `fe-auth-scram.c` (PostgreSQL 18), which
//! ignore the name in the first message: who logs in was said in the startup packet. pgwire's `ScramServerAuth` is not used: it
//! keeps the ClientKey to itself, writes the messages anew before it hashes them, and compares with `==`.

use crate::ground::limits;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::fmt;
use std::num::NonZeroU32;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// As the mechanisms are called on the wire.
pub const SCRAM: &str = "SCRAM-SHA-256";
pub const SCRAM_PLUS: &str = "SCRAM-SHA-256-PLUS";
/// What PostgreSQL counts when nobody says otherwise (`SCRAM_SHA_256_DEFAULT_ITERATIONS`).
pub const ITERATIONS: u32 = 4_096;
/// Bytes of a salt that PostgreSQL makes (`SCRAM_DEFAULT_SALT_LEN`).
const SALT_BYTES: usize = 16;
const BINDING_TYPE: &str = "tls-server-end-point";

type Key = Zeroizing<[u8; 32]>;

/// What a server keeps of a password: enough to check a proof, not enough to make one.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: Key,
    server_key: Key,
}

impl Verifier {
    /// As `pg_authid.rolpassword` holds it: `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`.
    pub fn parse(text: &str) -> Option<Verifier> {
        let (iterations, rest) = text.strip_prefix("SCRAM-SHA-256$")?.split_once(':')?;
        let (salt, keys) = rest.split_once('$')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let (iterations, salt) = (iterations_of(iterations)?, decoded(salt)?);
        let fits = (1..=limits::SCRAM_SALT_BYTES_MAX).contains(&salt.len());
        fits.then_some(())?;
        Some(Verifier { iterations, salt, stored_key: decoded_key(stored_key)?, server_key: decoded_key(server_key)? })
    }

    /// What a user without a verifier is asked with: always the same for the same name, as a real one would be, and without any
    /// password that fits. `secret` is the installation's own (PostgreSQL calls it the mock authentication nonce).
    pub fn mock(secret: &[u8], user: &str, iterations: u32) -> Verifier {
        let part = |what: &str| sign(secret, &[what.as_bytes(), b"\0", user.as_bytes()].concat());
        let salt = part("salt").into_iter().take(SALT_BYTES).collect();
        Verifier { iterations, salt, stored_key: part("stored key"), server_key: part("server key") }
    }

    pub fn iterations(&self) -> u32 {
        self.iterations
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(…)")
    }
}

/// What proves a client's knowledge of a password, and a server's.
#[derive(Clone)]
pub struct Keys {
    client_key: Key,
    server_key: Key,
}

impl Keys {
    /// From a password, as the server asked for it to be salted. Takes a millisecond for each few thousand iterations.
    pub fn derive(password: &str, salt: &[u8], iterations: NonZeroU32) -> Keys {
        let prepared = stringprep::saslprep(password);
        // As PostgreSQL: a password that SASLprep has no form for is taken as it is.
        let prepared = Zeroizing::new(prepared.map_or_else(|_| password.to_owned(), |text| text.into_owned()));
        let mut salted = Zeroizing::new([0u8; 32]);
        let algorithm = aws_lc_rs::pbkdf2::PBKDF2_HMAC_SHA256;
        aws_lc_rs::pbkdf2::derive(algorithm, iterations, salt, prepared.as_bytes(), &mut *salted);
        Keys { client_key: sign(&*salted, b"Client Key"), server_key: sign(&*salted, b"Server Key") }
    }

    /// What a server would keep of them.
    pub fn verifier(&self, salt: &[u8], iterations: NonZeroU32) -> Verifier {
        let (salt, iterations) = (salt.to_vec(), iterations.get());
        Verifier { iterations, salt, stored_key: digest(&*self.client_key), server_key: self.server_key.clone() }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(…)")
    }
}

/// What a login could be bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel<'a> {
    /// Without TLS, or with a certificate that has no digest to bind to: binding is not offered.
    None,
    /// The digest of the certificate that the server shows.
    EndPoint(&'a [u8]),
}

/// Why an exchange ends without a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Not a message of this protocol, or one that this side may not get.
    Malformed(&'static str),
    /// The client says that we offer no channel binding although we do: somebody between took the offer away, or it is bound to
    /// another certificate than ours.
    Binding(&'static str),
    /// All is in order but the proof.
    Wrong,
}

/// A server that has answered a client's first message.
#[derive(Debug)]
pub struct Asked {
    verifier: Verifier,
    /// The value that `c=` must have.
    binding: String,
    nonce: String,
    /// The client's first message without its header, and ours.
    said: String,
}

/// A right proof, and what was learned from it.
#[derive(Debug)]
pub struct Proven {
    /// What shows the client that the server knew its verifier.
    pub server_final: String,
    pub learned: Learned,
}

/// Keys that log in wherever the same verifier is kept.
#[derive(Debug, Clone)]
pub struct Learned {
    keys: Keys,
    salt: Vec<u8>,
    iterations: u32,
}

impl Asked {
    /// Takes a client's first message. `nonce` is ours: random, printable, without commas.
    pub fn by(
        mechanism: &str,
        message: &[u8],
        channel: Channel<'_>,
        verifier: Verifier,
        nonce: &str,
    ) -> Result<(Asked, String), Fault> {
        let message = text(message)?;
        let (header, bare) = header_of(message)?;
        let binding = binding(mechanism, header, channel)?;
        let mut attributes = bare.split(',');
        let name = attributes.next().unwrap_or_default();
        if name.starts_with("m=") {
            return Err(Fault::Malformed("the client requires an extension of SCRAM that does not exist"));
        }
        if !name.starts_with("n=") {
            return Err(Fault::Malformed("attribute \"n\" expected"));
        }
        let theirs = attributes.next().and_then(|attribute| attribute.strip_prefix("r="));
        let theirs = theirs.filter(|nonce| is_nonce(nonce)).ok_or(Fault::Malformed("attribute \"r\" expected"))?;
        let nonce = format!("{theirs}{nonce}");
        let answer = format!("r={nonce},s={},i={}", STANDARD.encode(&verifier.salt), verifier.iterations);
        let said = format!("{bare},{answer}");
        Ok((Asked { verifier, binding, nonce, said }, answer))
    }

    /// Takes a client's last message: right or wrong.
    pub fn proof(self, message: &[u8]) -> Result<Proven, Fault> {
        let message = text(message)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(Fault::Malformed("attribute \"p\" expected"))?;
        let proof = decoded_key(proof).ok_or(Fault::Malformed("the proof is not one of SHA-256"))?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|attribute| attribute.strip_prefix("c="));
        let nonce = attributes.next().and_then(|attribute| attribute.strip_prefix("r="));
        let (Some(binding), Some(nonce)) = (binding, nonce) else {
            return Err(Fault::Malformed("attributes \"c\" and \"r\" expected"));
        };
        if nonce != self.nonce {
            return Err(Fault::Malformed("the nonce is not the one of this login"));
        }
        if binding != self.binding {
            return Err(Fault::Binding("SCRAM channel binding check failed"));
        }
        let said = format!("{},{without_proof}", self.said);
        let signature = sign(&*self.verifier.stored_key, said.as_bytes());
        let client_key = xor(&proof, &signature);
        if !bool::from(digest(&*client_key).ct_eq(&*self.verifier.stored_key)) {
            return Err(Fault::Wrong);
        }
        let server_final = format!("v={}", STANDARD.encode(*sign(&*self.verifier.server_key, said.as_bytes())));
        let keys = Keys { client_key, server_key: self.verifier.server_key.clone() };
        let learned = Learned { keys, salt: self.verifier.salt.clone(), iterations: self.verifier.iterations };
        Ok(Proven { server_final, learned })
    }
}

/// What a client logs in with.
#[derive(Debug, Clone, Copy)]
pub enum Knows<'a> {
    Learned(&'a Learned),
    Password(&'a str),
}

/// A client that has sent its first message.
#[derive(Debug)]
pub struct Asking {
    header: &'static str,
    bound_to: Vec<u8>,
    nonce: String,
    bare: String,
}

impl Asking {
    /// The mechanism to name, the first message, and what is to be remembered of it. With TLS and no binding offered (`could_bind`),
    /// the server is told so, that it may notice if somebody took its offer away.
    pub fn begin(channel: Channel<'_>, could_bind: bool, nonce: &str) -> (&'static str, String, Asking) {
        let (mechanism, header, bound_to) = match channel {
            Channel::EndPoint(digest) => (SCRAM_PLUS, "p=tls-server-end-point,,", digest.to_vec()),
            Channel::None if could_bind => (SCRAM, "y,,", Vec::new()),
            Channel::None => (SCRAM, "n,,", Vec::new()),
        };
        let bare = format!("n=,r={nonce}");
        let message = format!("{header}{bare}");
        (mechanism, message, Asking { header, bound_to, nonce: nonce.to_owned(), bare })
    }

    /// Takes a server's first message.
    pub fn challenged(self, message: &[u8]) -> Result<Challenged, Fault> {
        let message = text(message)?;
        let mut attributes = message.split(',');
        let mut attribute = |name: &'static str| attributes.next().and_then(|attribute| attribute.strip_prefix(name));
        let (nonce, salt, iterations) = (attribute("r="), attribute("s="), attribute("i="));
        let (Some(nonce), Some(salt), Some(iterations)) = (nonce, salt, iterations) else {
            return Err(Fault::Malformed("attributes \"r\", \"s\" and \"i\" expected"));
        };
        if !is_nonce(nonce) || !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(Fault::Malformed("the nonce does not continue ours"));
        }
        let salt = decoded(salt).ok_or(Fault::Malformed("the salt is not base64"))?;
        let iterations = iterations_of(iterations).and_then(NonZeroU32::new);
        let iterations = iterations.ok_or(Fault::Malformed("the number of iterations is beyond bounds"))?;
        let bound = STANDARD.encode([self.header.as_bytes(), &self.bound_to].concat());
        let last = format!("c={bound},r={nonce}");
        let said = format!("{},{message},{last}", self.bare);
        Ok(Challenged { salt, iterations, last, said })
    }
}

/// A client that knows what its password is to be salted with.
#[derive(Debug)]
pub struct Challenged {
    salt: Vec<u8>,
    iterations: NonZeroU32,
    last: String,
    said: String,
}

impl Challenged {
    /// The keys that answer it; `None` where what was learned belongs to another verifier. Slow with a password.
    pub fn keys(&self, knows: Knows<'_>) -> Option<Keys> {
        match knows {
            Knows::Password(password) => Some(Keys::derive(password, &self.salt, self.iterations)),
            Knows::Learned(learned) => {
                let same = learned.salt == self.salt && learned.iterations == self.iterations.get();
                same.then(|| learned.keys.clone())
            }
        }
    }

    /// The last message, and what the server's answer to it must be.
    pub fn answer(self, keys: &Keys) -> (Zeroizing<String>, Expecting) {
        let stored_key = digest(&*keys.client_key);
        let proof = xor(&keys.client_key, &sign(&*stored_key, self.said.as_bytes()));
        let expected = sign(&*keys.server_key, self.said.as_bytes());
        (Zeroizing::new(format!("{},p={}", self.last, STANDARD.encode(*proof))), Expecting { expected })
    }
}

/// A client that waits for the server to show that it knows the verifier too.
pub struct Expecting {
    expected: Key,
}

impl Expecting {
    pub fn check(self, message: &[u8]) -> Result<(), Fault> {
        let message = text(message)?;
        let signature = message.split(',').next().and_then(|attribute| attribute.strip_prefix("v="));
        let signature = signature.and_then(decoded_key).ok_or(Fault::Malformed("attribute \"v\" expected"))?;
        if bool::from(signature.ct_eq(&*self.expected)) { Ok(()) } else { Err(Fault::Wrong) }
    }
}

/// The gs2 header with its two commas, and what stands behind it.
fn header_of(message: &str) -> Result<(&str, &str), Fault> {
    let mut commas = message.match_indices(',').map(|(at, _)| at);
    let (Some(first), Some(second)) = (commas.next(), commas.next()) else {
        return Err(Fault::Malformed("the message is too short"));
    };
    let identity = message.get(first + 1..second).unwrap_or_default();
    if !identity.is_empty() {
        return Err(Fault::Malformed("the client uses an authorization identity, which is not supported"));
    }
    message.split_at_checked(second + 1).ok_or(Fault::Malformed("the message is too short"))
}

/// What the client's `c=` must be, if its header goes with what it chose and what it was offered.
fn binding(mechanism: &str, header: &str, channel: Channel<'_>) -> Result<String, Fault> {
    let flag = header.trim_end_matches(',');
    let bound_to: &[u8] = match (mechanism, flag, channel) {
        (SCRAM, "n", _) | (SCRAM, "y", Channel::None) => &[],
        (SCRAM, "y", Channel::EndPoint(_)) => {
            return Err(Fault::Binding("the client supports channel binding but thinks that the server does not"));
        }
        (SCRAM_PLUS, flag, Channel::EndPoint(digest)) => match flag.strip_prefix("p=") {
            Some(BINDING_TYPE) => digest,
            Some(_) => return Err(Fault::Malformed("unsupported channel binding type")),
            None => return Err(Fault::Malformed("SCRAM-SHA-256-PLUS was chosen without channel binding")),
        },
        (SCRAM, flag, _) if flag.starts_with("p=") => {
            return Err(Fault::Malformed("SCRAM-SHA-256 was chosen with channel binding"));
        }
        (SCRAM, _, _) => return Err(Fault::Malformed("unexpected channel binding flag")),
        _ => return Err(Fault::Malformed("the client chose a mechanism that was not offered")),
    };
    Ok(STANDARD.encode([header.as_bytes(), bound_to].concat()))
}

fn text(message: &[u8]) -> Result<&str, Fault> {
    let text = std::str::from_utf8(message).ok().filter(|text| !text.contains('\0'));
    let text = text.filter(|text| text.len() <= limits::SASL_BYTES_MAX);
    text.ok_or(Fault::Malformed("the message is too long, or not text"))
}

/// RFC 5802: printable ASCII but for the comma.
fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

fn iterations_of(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse().ok()).flatten();
    number.filter(|number| (1..=limits::SCRAM_ITERATIONS_MAX).contains(number))
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

fn decoded_key(text: &str) -> Option<Key> {
    let bytes = Zeroizing::new(decoded(text)?);
    bytes.as_slice().try_into().ok().map(Zeroizing::new)
}

fn sign(key: &[u8], message: &[u8]) -> Key {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(message);
    Zeroizing::new(mac.finalize().into_bytes().into())
}

fn digest(bytes: &[u8]) -> Key {
    Zeroizing::new(Sha256::digest(bytes).into())
}

fn xor(one: &Key, other: &Key) -> Key {
    let mut both = one.clone();
    both.iter_mut().zip(other.iter()).for_each(|(byte, other)| *byte ^= other);
    both
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // RFC 7677, section 3.
    const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const CLIENT_FINAL: &str =
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn verifier() -> Verifier {
        let (salt, iterations) =
            (decoded("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64"), NonZeroU32::new(4096).expect("not zero"));
        Keys::derive("pencil", &salt, iterations).verifier(&salt, iterations)
    }

    fn asked(first: &str, channel: Channel<'_>, mechanism: &str) -> Result<(Asked, String), Fault> {
        Asked::by(mechanism, first.as_bytes(), channel, verifier(), SERVER_NONCE)
    }

    #[test]
    fn the_server_side_is_that_of_rfc_7677() {
        let first = format!("n,,n=user,r={CLIENT_NONCE}");
        let (asked, answer) = asked(&first, Channel::None, SCRAM).expect("a first message");
        assert_eq!(answer, SERVER_FIRST);
        let proven = asked.proof(CLIENT_FINAL.as_bytes()).expect("the right proof");
        assert_eq!(proven.server_final, SERVER_FINAL);
    }

    /// Both sides of ours, with the password and with nothing but what the first login taught.
    #[test]
    fn what_was_learned_logs_in_elsewhere_with_and_without_binding() {
        for channel in [Channel::None, Channel::EndPoint(&[7; 32])] {
            let log_in = |knows: Knows<'_>, nonce: &str| {
                let (mechanism, first, asking) = Asking::begin(channel, false, CLIENT_NONCE);
                let (asked, answer) =
                    Asked::by(mechanism, first.as_bytes(), channel, verifier(), nonce).expect("asked");
                let challenged = asking.challenged(answer.as_bytes()).expect("challenged");
                let keys = challenged.keys(knows).expect("the same verifier");
                let (last, expecting) = challenged.answer(&keys);
                let proven = asked.proof(last.as_bytes())?;
                expecting.check(proven.server_final.as_bytes()).expect("the server knows it too");
                Ok(proven.learned)
            };
            let learned = log_in(Knows::Password("pencil"), "one").expect("right");
            log_in(Knows::Learned(&learned), "two").expect("learned");
            assert_eq!(log_in(Knows::Password("pen"), "three").err(), Some(Fault::Wrong));
        }
    }

    #[test]
    fn another_verifier_is_noticed_before_anything_is_sent() {
        let (_, first, asking) = Asking::begin(Channel::None, true, CLIENT_NONCE);
        assert!(first.starts_with("y,,"), "the server may notice an offer that was taken away");
        let learned = Learned {
            keys: Keys { client_key: Zeroizing::new([1; 32]), server_key: Zeroizing::new([2; 32]) },
            salt: vec![1],
            iterations: 4096,
        };
        let challenged = asking.challenged(SERVER_FIRST.as_bytes()).expect("challenged");
        assert!(challenged.keys(Knows::Learned(&learned)).is_none());
    }

    #[test]
    fn a_server_that_does_not_know_the_verifier_is_not_believed() {
        let (_, _, asking) = Asking::begin(Channel::None, false, CLIENT_NONCE);
        let challenged = asking.challenged(SERVER_FIRST.as_bytes()).expect("challenged");
        let keys = challenged.keys(Knows::Password("pencil")).expect("keys");
        let (last, expecting) = challenged.answer(&keys);
        // The RFC's client says n=user and ours says n=, as libpq does; hence another proof than CLIENT_FINAL's.
        assert!(last.starts_with("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p="));
        assert_eq!(expecting.check(SERVER_FINAL.as_bytes()), Err(Fault::Wrong));
        for message in ["e=other-error", "", "v=", "v=AAAA", "v"] {
            let expecting = Expecting { expected: Zeroizing::new([0; 32]) };
            assert!(matches!(expecting.check(message.as_bytes()), Err(Fault::Malformed(_))), "{message}");
        }
    }

    #[test]
    fn first_messages_that_go_with_neither_offer_nor_choice_are_refused() {
        let digest = [9u8; 32];
        let (none, offered) = (Channel::None, Channel::EndPoint(&digest));
        let binding: fn(Fault) -> bool = |fault| matches!(fault, Fault::Binding(_));
        let malformed: fn(Fault) -> bool = |fault| matches!(fault, Fault::Malformed(_));
        type Row<'a> = (&'a str, &'a str, Channel<'a>, fn(Fault) -> bool);
        let table: [Row<'_>; 17] = [
            ("y,,n=,r=abc", SCRAM, offered, binding),
            ("p=tls-server-end-point,,n=,r=abc", SCRAM, offered, malformed),
            ("p=tls-server-end-point,,n=,r=abc", SCRAM_PLUS, none, malformed),
            ("p=tls-unique,,n=,r=abc", SCRAM_PLUS, offered, malformed),
            ("n,,n=,r=abc", SCRAM_PLUS, offered, malformed),
            ("y,,n=,r=abc", SCRAM_PLUS, offered, malformed),
            ("n,a=postgres,n=,r=abc", SCRAM, none, malformed),
            ("n,,m=x,n=,r=abc", SCRAM, none, malformed),
            ("n,,r=abc", SCRAM, none, malformed),
            ("n,,n=,r=", SCRAM, none, malformed),
            ("n,,n=,r=a b", SCRAM, none, malformed),
            ("n,,n=", SCRAM, none, malformed),
            ("n,", SCRAM, none, malformed),
            ("", SCRAM, none, malformed),
            ("x,,n=,r=abc", SCRAM, none, malformed),
            ("n,,n=,r=a\0b", SCRAM, none, malformed),
            ("n,,n=,r=abc", "SCRAM-SHA-1", none, malformed),
        ];
        for (first, mechanism, channel, expected) in table {
            let fault = asked(first, channel, mechanism).expect_err(first);
            assert!(expected(fault), "{first}: {fault:?}");
        }
        asked("y,,n=,r=abc", none, SCRAM).expect("nothing was offered, and the client noticed");
        asked("n,,n=somebody else,r=abc,x=extension", offered, SCRAM).expect("the name and extensions are ignored");
    }

    #[test]
    fn last_messages_must_belong_to_this_login() {
        let digest = [9u8; 32];
        let proof = "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let fault = |channel: Channel<'_>, mechanism: &str, header: &str, last: String| {
            let (asked, _) = asked(&format!("{header}n=,r=abc"), channel, mechanism).expect("asked");
            asked.proof(last.as_bytes()).expect_err(&last)
        };
        let plain = |last: String| fault(Channel::None, SCRAM, "n,,", last);
        let nonce = format!("abc{SERVER_NONCE}");
        assert_eq!(plain(format!("c=biws,r={nonce},{proof}")), Fault::Wrong);
        for last in [
            String::new(),
            "p=".to_owned(),
            format!("c=biws,r={nonce}"),
            format!("c=biws,r={nonce},p="),
            format!("c=biws,r={nonce},p=AAAA"),
            format!("r={nonce},c=biws,{proof}"),
            format!("c=biws,r=abc,{proof}"),
            format!("c=biws,r={CLIENT_NONCE}{SERVER_NONCE},{proof}"),
            format!("c=biws,r={nonce},{proof},x=y"),
            format!("c=biws,{proof}"),
        ] {
            assert!(matches!(plain(last.clone()), Fault::Malformed(_)), "{last}");
        }
        assert!(matches!(plain(format!("c=eSws,r={nonce},{proof}")), Fault::Binding(_)));
        let bound = |digest: &[u8]| STANDARD.encode([b"p=tls-server-end-point,,", digest].concat());
        let plus = |last: String| fault(Channel::EndPoint(&digest), SCRAM_PLUS, "p=tls-server-end-point,,", last);
        assert_eq!(plus(format!("c={},r={nonce},{proof}", bound(&digest))), Fault::Wrong);
        for other in [bound(&[8; 32]), bound(&[]), "biws".to_owned()] {
            assert!(matches!(plus(format!("c={other},r={nonce},{proof}")), Fault::Binding(_)), "{other}");
        }
    }

    #[test]
    fn a_servers_first_message_is_held_to_bounds() {
        for message in [
            "",
            "r=other,s=AAAA,i=4096",
            "r=rOprNGfwEbeRWgbNEkqO,s=AAAA,i=4096",
            "r=rOprNGfwEbeRWgbNEkqOx,s=A,i=4096",
            "r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=0",
            "r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=4294967295",
            "r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=+5",
            "r=rOprNGfwEbeRWgbNEkqOx,s=AAAA",
            "m=x,r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=4096",
        ] {
            let (_, _, asking) = Asking::begin(Channel::None, false, CLIENT_NONCE);
            assert!(matches!(asking.challenged(message.as_bytes()), Err(Fault::Malformed(_))), "{message}");
        }
    }

    #[test]
    fn verifiers_are_read_whole_or_not_at_all() {
        let good = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        assert_eq!(Verifier::parse(good), Some(verifier()), "the verifier of RFC 7677's password");
        for wrong in [
            "",
            "md5b4e6f4b4b4b4b4b4b4b4b4b4b4b4b4b4",
            "SCRAM-SHA-256$0:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
            &good.replace("4096", "99999999"),
            &good.replace("W22ZaJ0SNY7soEsUEjb6gQ==", ""),
            &good.replace("wfPL", ""),
            &good.replace("SHA-256", "SHA-1"),
            &format!("{good}:"),
            &good[..60],
        ] {
            assert_eq!(Verifier::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_mock_is_steady_and_its_own() {
        let mock = |secret: &[u8], user| Verifier::mock(secret, user, 4096);
        assert_eq!(mock(b"secret", "nobody"), mock(b"secret", "nobody"));
        assert_ne!(mock(b"secret", "nobody"), mock(b"secret", "nobody else"));
        assert_ne!(mock(b"secret", "nobody"), mock(b"other", "nobody"));
        assert_eq!(mock(b"secret", "nobody").salt.len(), SALT_BYTES);
    }

    #[test]
    fn nothing_secret_shows_itself() {
        let keys = Keys { client_key: Zeroizing::new([1; 32]), server_key: Zeroizing::new([2; 32]) };
        assert_eq!(format!("{:?} {keys:?}", verifier()), "Verifier(…) Keys(…)");
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), text in "[npy=,rcsi0-9A-Za-z+/]{0,60}") {
            for message in [bytes.as_slice(), text.as_bytes()] {
                for channel in [Channel::None, Channel::EndPoint(&[1])] {
                    for mechanism in [SCRAM, SCRAM_PLUS] {
                        if let Ok((asked, _)) = Asked::by(mechanism, message, channel, verifier(), "x") {
                            let _ = asked.proof(message);
                        }
                    }
                }
                let (asked, _) = Asked::by(SCRAM, b"n,,n=,r=a", Channel::None, verifier(), "x").expect("asked");
                let _ = asked.proof(message);
                let _ = Asking::begin(Channel::None, true, "a").2.challenged(message);
                let _ = Expecting { expected: Zeroizing::new([0; 32]) }.check(message);
            }
            let _ = Verifier::parse(&text);
            let _ = Verifier::parse(&format!("SCRAM-SHA-256${text}"));
        }
    }
}
