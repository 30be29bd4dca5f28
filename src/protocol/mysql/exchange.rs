//! What plugins say to each other in a login, carried over from one leg to the other.
//!
//! Proofs are made of a scramble and a password, so they pass unchanged. Not so a password itself: where its leg has TLS, or is a socket of
//! this machine, it is sent in clear, and where not, under a public key. Where the two legs differ in that, Sluice stands in: it asks the
//! server for its key, or shows the client one of its own. For a plugin of unknown words it does not.
//!
//! ```text
//! client, TLS                    Sluice                   server, no TLS
//!   ◀───────────────── the password itself is wanted ──────────
//!   password ────────────────▶   your key? ───────────────────▶
//!                                ◀──────────────── public key ──
//!                                password under it ────────────▶
//! client, no TLS                 Sluice                   server, TLS
//!   ◀───────────────── the password itself is wanted ──────────
//!   your key? ───────────────▶
//!   ◀──────── a key of ours ──
//!   password under it ───────▶   password ────────────────────▶
//! ```
//!
//! Invariant: no password in clear leaves over a leg that is open, and none is asked for over one.
//!
//! Source: sql/auth/sha2_password.cc and sql-common/client_authentication.cc (MySQL 9.7), sql/sql_acl.cc (MariaDB 10.11). Tried with both
//! servers' clients on all four combinations.

use crate::protocol::cursor::Short;
use crate::protocol::mysql::frame::Packet;
use crate::protocol::mysql::handshake::{
    self, CACHING_SHA2, CLEAR, DIALOG, ED25519, NATIVE, OLD, SCRAMBLE, SHA256, Said, sha2,
};
use crate::protocol::mysql::rsa::{self, Keys, Password};
use crate::protocol::{Code, Refusal};
use bytes::Bytes;
use zeroize::Zeroizing;

/// Whether others may read along on a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privacy {
    Open,
    /// A unix socket: private to most plugins, but not to sha256_password, which wants TLS for a password in clear.
    Local,
    Sealed,
}

impl Privacy {
    /// Whether this plugin sends a password in clear on such a leg.
    fn is_clear(self, plugin: &[u8]) -> bool {
        match self {
            Privacy::Open => false,
            Privacy::Local => plugin != SHA256,
            Privacy::Sealed => true,
        }
    }
}

/// What is to be done with what somebody said.
#[derive(PartialEq, Eq)]
pub enum Next {
    /// This payload is passed on, or said in answer, to the client.
    ToClient(Bytes),
    ToServer(Zeroizing<Vec<u8>>),
    /// The server let the client in.
    In,
    /// It did not.
    Refused,
}

impl std::fmt::Debug for Next {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Next::ToClient(_) => "ToClient",
            Next::ToServer(_) => "ToServer",
            Next::In => "In",
            Next::Refused => "Refused",
        })
    }
}

/// One exchange, from the client's first words to the server's last.
pub struct Exchange {
    client: Privacy,
    server: Privacy,
    plugin: Bytes,
    scramble: [u8; SCRAMBLE],
    step: Step,
    turn: Turn,
    factors: Factors,
}

/// Whether MULTI_FACTOR was agreed: a client that knows nothing of it would take the wish for another factor for something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Factors {
    One,
    Several,
}

/// Whose word is due: what is said out of turn could be a command that nobody judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Server,
    /// Or the server's again: of a plugin that is not known, nobody can tell.
    Client,
}

enum Step {
    /// What one says the other hears.
    Passing,
    /// The server was told [`NO_PLUGIN`]: it names the one that it wants, or is done.
    SwitchDue,
    /// The client sends its password in clear; the server is to be asked for its key with this byte.
    PasswordDue { wish: u8 },
    /// The server's key was asked for.
    KeyDue { password: Password },
    /// The client asks for the server's key with this byte, and is shown ours.
    WishDue { wish: u8 },
    /// It was shown it, and sends its password under it.
    CiphertextDue,
}

/// A proof of caching_sha2_password.
const PROOF_BYTES: usize = 32;
/// A plugin that no server has: told it, a server asks for the one that the account wants, and nothing was said before.
pub const NO_PLUGIN: &[u8] = b"sluice_no_plugin";

/// Plugins whose words are no passwords, whatever the leg.
const PROOFS_ONLY: &[&[u8]] = &[
    NATIVE,
    CACHING_SHA2,
    ED25519,
    b"parsec",
    b"auth_gssapi_client",
    b"authentication_kerberos_client",
    b"authentication_ldap_sasl_client",
    b"authentication_webauthn_client",
    b"authentication_fido_client",
];

impl Exchange {
    /// With what the client says first; what the server is told of it: the name of a plugin, and its words.
    pub fn begin(
        client: Privacy,
        server: Privacy,
        plugin: Option<&Bytes>,
        proof: &Password,
        scramble: [u8; SCRAMBLE],
    ) -> Result<(Exchange, Option<Bytes>, Password), Refusal> {
        let named = plugin.cloned().unwrap_or(Bytes::from_static(NATIVE));
        let (step, turn, factors) = (Step::Passing, Turn::Server, Factors::One);
        let exchange = Exchange { client, server, plugin: named.clone(), scramble, step, turn, factors };
        if named == OLD {
            return Err(too_old());
        }
        if (named == CLEAR || named == DIALOG) && client == Privacy::Open && !proof.is_empty() {
            return Err(in_clear(&named, "the client's connection"));
        }
        // A proof may be a password then: the server is to ask for it, and the answer is carried over as it must be.
        if exchange.legs_differ() && !PROOFS_ONLY.contains(&&named[..]) {
            let exchange = Exchange { step: Step::SwitchDue, ..exchange };
            return Ok((exchange, Some(Bytes::from_static(NO_PLUGIN)), Password::default()));
        }
        let clear = named == CLEAR || named == DIALOG;
        if clear && server == Privacy::Open && !proof.is_empty() {
            return Err(in_clear(&named, "the database's connection"));
        }
        Ok((exchange, plugin.cloned(), proof.clone()))
    }

    /// The same with what was agreed of factors.
    pub fn of(self, factors: Factors) -> Exchange {
        Exchange { factors, ..self }
    }

    /// The scramble of the last proof.
    pub fn scramble(&self) -> [u8; SCRAMBLE] {
        self.scramble
    }

    /// The plugin that was used last.
    pub fn plugin(&self) -> &Bytes {
        &self.plugin
    }

    /// Whether the client may speak now.
    pub fn is_clients_turn(&self) -> bool {
        self.turn == Turn::Client
    }

    /// Whether a key of ours is shown next, or used.
    pub fn wants_keys(&self) -> bool {
        matches!(self.step, Step::WishDue { .. } | Step::CiphertextDue)
    }

    /// The server said something.
    pub fn server_said(&mut self, packet: &Packet) -> Result<Next, Refusal> {
        let next = self.heard_of_server(packet)?;
        let proof_was_right = self.plugin == CACHING_SHA2 && packet.payload() == [0x01, sha2::FAST_OK];
        self.turn = match next {
            Next::ToClient(_) if !proof_was_right => Turn::Client,
            _ => Turn::Server,
        };
        Ok(next)
    }

    fn heard_of_server(&mut self, packet: &Packet) -> Result<Next, Refusal> {
        let said = handshake::said(packet).map_err(|Short| strange("an empty packet"))?;
        match (said, std::mem::replace(&mut self.step, Step::Passing)) {
            (Said::In, _) => Ok(Next::In),
            (Said::Refused, _) => Ok(Next::Refused),
            (Said::SwitchToOld, _) => Err(too_old()),
            (Said::More(key), Step::KeyDue { password }) => self.password_under(&password, &key),
            (_, Step::KeyDue { .. }) => Err(strange("something else than its public key")),
            (Said::Switch { plugin, data }, _) => {
                self.switched(plugin, &data)?;
                Ok(Next::ToClient(packet.payload_bytes()))
            }
            (Said::Factor(words), _) if self.plugin != DIALOG => {
                if self.factors == Factors::One {
                    return Err(strange("a wish for another factor"));
                }
                let (plugin, data) = handshake::factor(&words).map_err(|Short| strange("a factor without a plugin"))?;
                self.switched(plugin, &data)?;
                Ok(Next::ToClient(packet.payload_bytes()))
            }
            // Who stands between could else have a password sent where it is passed on as anything else would be.
            (
                Said::More(_) | Said::Factor(_) | Said::Other,
                Step::SwitchDue | Step::PasswordDue { .. } | Step::WishDue { .. } | Step::CiphertextDue,
            ) => Err(strange("something before its turn")),
            (Said::More(data), Step::Passing) => {
                if self.plugin == CACHING_SHA2 && self.legs_differ() {
                    match data[..] {
                        [sha2::FAST_OK] => {}
                        [sha2::FULL] => self.step = self.password_wanted(sha2::KEY_WANTED),
                        _ => return Err(strange("an unknown word of its plugin")),
                    }
                }
                Ok(Next::ToClient(packet.payload_bytes()))
            }
            (Said::Factor(_) | Said::Other, Step::Passing) => {
                if self.legs_differ() && (self.plugin == CACHING_SHA2 || self.plugin == SHA256) {
                    return Err(strange("an unknown word of its plugin"));
                }
                Ok(Next::ToClient(packet.payload_bytes()))
            }
        }
    }

    /// The client said something. `keys` are ours, where [`Exchange::wants_keys`].
    pub fn client_said(&mut self, words: &[u8], keys: Option<&Keys>) -> Result<Next, Refusal> {
        if self.turn == Turn::Server {
            return Err(malformed("something before its turn"));
        }
        let next = self.heard(words, keys)?;
        self.turn = if matches!(next, Next::ToClient(_)) { Turn::Client } else { Turn::Server };
        Ok(next)
    }

    fn heard(&mut self, words: &[u8], keys: Option<&Keys>) -> Result<Next, Refusal> {
        match std::mem::replace(&mut self.step, Step::Passing) {
            // No password: there is nothing to encrypt.
            Step::PasswordDue { .. } | Step::WishDue { .. } if words.is_empty() || words == [0] => {
                Ok(Next::ToServer(Zeroizing::new(words.to_vec())))
            }
            Step::PasswordDue { wish } => {
                let password = Zeroizing::new(words.to_vec());
                if password.last() != Some(&0) {
                    return Err(malformed("a password without an end"));
                }
                self.step = Step::KeyDue { password };
                Ok(Next::ToServer(Zeroizing::new(vec![wish])))
            }
            Step::WishDue { wish } if words == [wish] => {
                let keys = keys.ok_or_else(no_keys)?;
                self.step = Step::CiphertextDue;
                Ok(Next::ToClient([&[0x01], &keys.public()[..]].concat().into()))
            }
            Step::WishDue { .. } => {
                Err(Refusal::new(Code::LoginRefused, "sluice: the password came under another key than Sluice's")
                    .hint("Let the client ask for the key (get_server_public_key), or connect with TLS."))
            }
            Step::CiphertextDue => {
                let keys = keys.ok_or_else(no_keys)?;
                let password = keys
                    .decrypt(words, &self.scramble)
                    .map_err(|Short| malformed("a password that is not under our key"))?;
                Ok(Next::ToServer(password))
            }
            Step::KeyDue { .. } | Step::SwitchDue => Err(malformed("something before its turn")),
            Step::Passing => {
                let is_proof = matches!(words.len(), 0 | PROOF_BYTES) || words == [0];
                if self.plugin == CACHING_SHA2 && self.legs_differ() && !is_proof {
                    return Err(malformed("something else than a proof"));
                }
                Ok(Next::ToServer(Zeroizing::new(words.to_vec())))
            }
        }
    }

    fn switched(&mut self, plugin: Bytes, data: &[u8]) -> Result<(), Refusal> {
        if plugin == OLD {
            return Err(too_old());
        }
        if plugin == CLEAR || plugin == DIALOG {
            for (leg, name) in [(self.client, "the client's connection"), (self.server, "the database's connection")] {
                if leg == Privacy::Open {
                    return Err(in_clear(&plugin, name));
                }
            }
        }
        let known = plugin == SHA256 || PROOFS_ONLY.contains(&&plugin[..]);
        if self.client != Privacy::Open && self.server == Privacy::Open && !known {
            return Err(in_clear(&plugin, "the database's connection"));
        }
        if let Some(scramble) = handshake::scramble(data) {
            self.scramble = scramble;
        }
        self.plugin = plugin;
        if self.plugin == SHA256 {
            self.step = self.password_wanted(sha2::KEY_WANTED_SHA256);
        }
        Ok(())
    }

    /// The client will send its password, in the form that its leg has.
    fn password_wanted(&self, wish: u8) -> Step {
        match (self.client.is_clear(&self.plugin), self.server.is_clear(&self.plugin)) {
            (true, false) => Step::PasswordDue { wish },
            (false, true) => Step::WishDue { wish },
            _ => Step::Passing,
        }
    }

    /// A password has one form on the one and another on the other.
    fn legs_differ(&self) -> bool {
        self.client.is_clear(&self.plugin) != self.server.is_clear(&self.plugin)
    }

    fn password_under(&self, password: &Password, key: &[u8]) -> Result<Next, Refusal> {
        let encrypted = rsa::encrypt(password, key, &self.scramble)
            .map_err(|Short| strange("a public key under which the password cannot be put"))?;
        Ok(Next::ToServer(Zeroizing::new(encrypted.to_vec())))
    }
}

fn too_old() -> Refusal {
    Refusal::new(
        Code::LoginRefused,
        "sluice: the account's password is kept as MySQL 4.0 kept it, which proves nothing",
    )
    .hint("Set the password anew, with a plugin of today.")
}

fn in_clear(plugin: &[u8], leg: &str) -> Refusal {
    let plugin: String = String::from_utf8_lossy(plugin).chars().filter(|char| !char.is_control()).take(64).collect();
    let message = format!("sluice: the plugin {plugin} may send the password in clear, and {leg} has no TLS");
    Refusal::new(Code::LoginRefused, message).hint("Use TLS for both: a certificate on the listener, and upstream_tls.")
}

fn strange(what: &str) -> Refusal {
    Refusal::new(Code::Upstream, format!("sluice: the database sent {what} during the login"))
}

fn malformed(what: &str) -> Refusal {
    Refusal::new(Code::Protocol, format!("sluice: the client sent {what} during the login"))
}

fn no_keys() -> Refusal {
    Refusal::new(Code::CannotKnow, "sluice: no key could be made for the login")
}

#[cfg(test)]
mod tests {
    use super::*;
    use Privacy::{Local, Open, Sealed};

    const SCRAMBLED: [u8; SCRAMBLE] = *b"abcdefghijklmnopqrst";

    fn packet(payload: &[u8]) -> Packet {
        Packet::new(0, payload)
    }

    fn begun(client: Privacy, server: Privacy, plugin: &'static [u8]) -> Exchange {
        let plugin = Bytes::from_static(plugin);
        let proof = Zeroizing::new(b"01234567890123456789".to_vec());
        Exchange::begin(client, server, Some(&plugin), &proof, SCRAMBLED).map(|(exchange, ..)| exchange).expect("begun")
    }

    fn to_server(next: Result<Next, Refusal>) -> Vec<u8> {
        match next {
            Ok(Next::ToServer(words)) => words.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    fn to_client(next: Result<Next, Refusal>) -> Bytes {
        match next {
            Ok(Next::ToClient(words)) => words,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn where_the_legs_are_alike_everything_passes() {
        for leg in [Open, Sealed] {
            let mut exchange = begun(leg, leg, CACHING_SHA2);
            assert_eq!(to_client(exchange.server_said(&packet(b"\x01\x04"))), &b"\x01\x04"[..]);
            assert_eq!(to_server(exchange.client_said(b"secret\0", None)), b"secret\0");
            assert_eq!(exchange.server_said(&packet(b"\0\0\0\x02\0\0\0")), Ok(Next::In));
            assert_eq!(exchange.server_said(&packet(b"\xff\x15\x04no")), Ok(Next::Refused));
        }
    }

    #[test]
    fn a_password_in_clear_leaves_under_the_servers_key() {
        let keys = Keys::generate().expect("keys");
        let mut exchange = begun(Sealed, Open, CACHING_SHA2);
        to_client(exchange.server_said(&packet(b"\x01\x04")));
        assert_eq!(to_server(exchange.client_said(b"secret\0", None)), [0x02]);
        let key = [&[0x01], &keys.public()[..]].concat();
        let sent = to_server(exchange.server_said(&packet(&key)));
        assert_eq!(keys.decrypt(&sent, &SCRAMBLED).expect("a password")[..], b"secret\0"[..]);
        // With the scramble and the wish of another plugin.
        let mut exchange = begun(Sealed, Open, NATIVE);
        to_client(exchange.server_said(&packet(b"\xfesha256_password\0tsrqponmlkjihgfedcba\0")));
        assert_eq!(to_server(exchange.client_said(b"secret\0", None)), [0x01]);
        let sent = to_server(exchange.server_said(&packet(&key)));
        assert_eq!(keys.decrypt(&sent, b"tsrqponmlkjihgfedcba").expect("a password")[..], b"secret\0"[..]);
    }

    #[test]
    fn a_password_under_our_key_leaves_in_clear_where_nobody_reads_along() {
        let keys = Keys::generate().expect("keys");
        let mut exchange = begun(Open, Sealed, CACHING_SHA2);
        to_client(exchange.server_said(&packet(b"\x01\x04")));
        assert!(exchange.wants_keys());
        let shown = to_client(exchange.client_said(b"\x02", Some(&keys)));
        let sent = rsa::encrypt(&Zeroizing::new(b"secret\0".to_vec()), &shown[1..], &SCRAMBLED).expect("encrypted");
        assert_eq!(to_server(exchange.client_said(&sent, Some(&keys))), b"secret\0");
        // What is not under our key tells nothing.
        let mut exchange = begun(Open, Sealed, CACHING_SHA2);
        to_client(exchange.server_said(&packet(b"\x01\x04")));
        assert!(exchange.client_said(&sent, Some(&keys)).is_err());
    }

    #[test]
    fn no_password_leaves_over_an_open_leg() {
        for (client, server) in [(Open, Open), (Open, Sealed), (Sealed, Open)] {
            for plugin in ["mysql_clear_password", "dialog"] {
                let mut exchange = begun(client, server, NATIVE);
                let switch = packet(format!("\u{0}{plugin}\0").as_bytes());
                let payload = [&[0xfe], &switch.payload()[1..]].concat();
                assert!(exchange.server_said(&packet(&payload)).is_err(), "{plugin} {client:?} {server:?}");
            }
        }
        let secret = Zeroizing::new(b"secret\0".to_vec());
        for plugin in [CLEAR, SHA256, b"something_new"] {
            let plugin = Bytes::from_static(plugin);
            let (_, told, proof) =
                Exchange::begin(Sealed, Open, Some(&plugin), &secret, SCRAMBLED).expect("begun by another name");
            assert_eq!((told.as_deref(), proof.len()), (Some(NO_PLUGIN), 0), "{plugin:?}");
        }
        let mut exchange = begun(Sealed, Open, NATIVE);
        assert!(exchange.server_said(&packet(b"\xfesomething_new\0data")).is_err());
        assert!(Exchange::begin(Open, Open, Some(&Bytes::from_static(CLEAR)), &secret, SCRAMBLED).is_err());
    }

    #[test]
    fn what_is_not_a_password_passes_as_it_is() {
        let mut exchange = begun(Sealed, Open, SHA256);
        to_client(exchange.server_said(&packet(b"\xfesha256_password\0abcdefghijklmnopqrst\0")));
        assert_eq!(to_server(exchange.client_said(b"\0", None)), b"\0", "no password");
        let mut exchange = begun(Sealed, Open, CACHING_SHA2);
        assert_eq!(to_client(exchange.server_said(&packet(b"\x01\x03"))), &b"\x01\x03"[..], "the proof was enough");
        // A unix socket is no TLS to this plugin, on either leg, and is to the other.
        let mut exchange = begun(Open, Local, NATIVE);
        to_client(exchange.server_said(&packet(b"\xfesha256_password\0abcdefghijklmnopqrst\0")));
        assert_eq!(to_server(exchange.client_said(b"\x01", None)), b"\x01");
        let mut exchange = begun(Open, Local, CACHING_SHA2);
        to_client(exchange.server_said(&packet(b"\x01\x04")));
        assert!(exchange.wants_keys());
        let mut exchange = begun(Sealed, Open, NATIVE);
        to_client(exchange.server_said(&packet(b"\xfeclient_ed25519\0a scramble of thirty-two bytes.\0\0")));
        assert_eq!(to_server(exchange.client_said(b"a proof", None)), b"a proof");
    }

    #[test]
    fn what_does_not_belong_there_is_refused() {
        let mut exchange = begun(Sealed, Sealed, NATIVE);
        for payload in [&b"\xfe"[..], b"\x02mysql", b"\xfemysql_old_password\0abcdefgh\0"] {
            assert!(exchange.server_said(&packet(payload)).is_err(), "{payload:?}");
        }
        let mut exchange = begun(Sealed, Open, CACHING_SHA2);
        to_client(exchange.server_said(&packet(b"\x01\x04")));
        assert!(exchange.client_said(b"no end", None).is_err());
        let mut exchange = begun(Sealed, Open, CACHING_SHA2);
        to_client(exchange.server_said(&packet(b"\x01\x04")));
        to_server(exchange.client_said(b"secret\0", None));
        assert!(exchange.server_said(&packet(b"\x04Password: ")).is_err());
    }

    #[test]
    fn several_factors_are_asked_one_after_the_other() {
        let second = packet(b"\x02client_ed25519\0a scramble of thirty-two bytes..");
        let mut exchange = begun(Sealed, Open, NATIVE).of(Factors::Several);
        to_client(exchange.server_said(&second));
        assert_eq!((&exchange.plugin()[..], exchange.is_clients_turn()), (ED25519, true));
        assert_eq!(to_server(exchange.client_said(b"a proof", None)), b"a proof");
        assert_eq!(exchange.server_said(&packet(b"\0\0\0\x02\0\0\0")), Ok(Next::In));
        // Where the legs differ it is carried over as the first one is, and what would be in clear is refused.
        let mut exchange = begun(Sealed, Open, NATIVE).of(Factors::Several);
        to_client(exchange.server_said(&packet(b"\x02sha256_password\0tsrqponmlkjihgfedcba\0")));
        assert_eq!(to_server(exchange.client_said(b"secret\0", None)), [0x01]);
        for wrong in
            [&b"\x02mysql_clear_password\0"[..], b"\x02something_new\0", b"\x02mysql_old_password\0", b"\x02no end"]
        {
            let mut exchange = begun(Sealed, Open, NATIVE).of(Factors::Several);
            assert!(exchange.server_said(&packet(wrong)).is_err(), "{wrong:?}");
        }
        assert!(begun(Sealed, Sealed, NATIVE).server_said(&second).is_err(), "it was not agreed");
        let mut exchange = begun(Sealed, Open, CACHING_SHA2).of(Factors::Several);
        to_client(exchange.server_said(&packet(b"\x01\x04")));
        to_server(exchange.client_said(b"secret\0", None));
        assert!(exchange.server_said(&second).is_err(), "its key is due");
    }

    #[test]
    fn plugins_of_many_words_have_their_say() {
        // PAM's questions begin with the byte that elsewhere begins another factor.
        for factors in [Factors::One, Factors::Several] {
            let mut exchange = begun(Sealed, Sealed, NATIVE).of(factors);
            to_client(exchange.server_said(&packet(b"\xfedialog\0\x04Password: ")));
            to_server(exchange.client_said(b"secret\0", None));
            assert_eq!(to_client(exchange.server_said(&packet(b"\x02Number: "))), &b"\x02Number: "[..]);
            assert_eq!(to_server(exchange.client_said(b"123456\0", None)), b"123456\0");
            assert_eq!(exchange.server_said(&packet(b"\0\0\0\x02\0\0\0")), Ok(Next::In));
        }
        // MariaDB's parsec: the client asks for its salt by an empty word, and signs.
        for (client, server) in [(Open, Open), (Sealed, Open), (Open, Sealed)] {
            let mut exchange = begun(client, server, NATIVE);
            to_client(exchange.server_said(&packet(b"\xfeparsec\0a scramble of thirty-two bytes..")));
            assert_eq!(to_server(exchange.client_said(b"", None)), b"");
            assert_eq!(
                to_client(exchange.server_said(&packet(b"P\0a salt of eighteen"))),
                &b"P\0a salt of eighteen"[..]
            );
            assert_eq!(to_server(exchange.client_said(&[7; 96], None)), [7; 96]);
        }
    }

    #[test]
    fn nobody_between_talks_the_password_out_of_us() {
        // Clients take a word for the wish for a password that we would take for another.
        for word in [&b"\x04"[..], b"\x01\x04\0", b"\x01", b"\x01\x02"] {
            let mut exchange = begun(Sealed, Open, CACHING_SHA2);
            assert!(exchange.server_said(&packet(word)).is_err(), "{word:?}");
        }
        // The wish is taken back by another word.
        for word in [&b"\x01\x03"[..], b"\x01\x04", b"\x05"] {
            let mut exchange = begun(Sealed, Open, CACHING_SHA2);
            to_client(exchange.server_said(&packet(b"\x01\x04")));
            assert!(exchange.server_said(&packet(word)).is_err(), "{word:?}");
        }
        let mut exchange = begun(Sealed, Open, NATIVE);
        to_client(exchange.server_said(&packet(b"\xfecaching_sha2_password\0abcdefghijklmnopqrst\0")));
        assert!(exchange.client_said(b"secret\0", None).is_err(), "a password where a proof is due");
        let mut exchange = begun(Sealed, Open, SHA256);
        assert!(exchange.server_said(&packet(b"\x01key")).is_err());
        assert!(begun(Sealed, Open, SHA256).client_said(b"secret\0", None).is_err());
    }

    #[test]
    fn nobody_speaks_out_of_turn() {
        // A command sent ahead of the server's OK would reach it unjudged.
        for leg in [Open, Sealed] {
            let mut exchange = begun(leg, leg, CACHING_SHA2);
            assert!(exchange.client_said(b"\x03DROP TABLE t", None).is_err(), "before the server's first word");
            let mut exchange = begun(leg, leg, CACHING_SHA2);
            to_client(exchange.server_said(&packet(b"\x01\x03")));
            assert!(!exchange.is_clients_turn());
            assert!(exchange.client_said(b"\x03DROP TABLE t", None).is_err(), "when the proof was right");
            let mut exchange = begun(leg, leg, NATIVE);
            to_client(exchange.server_said(&packet(b"\xfemysql_native_password\0abcdefghijklmnopqrst\0")));
            to_server(exchange.client_said(b"a proof", None));
            assert!(exchange.client_said(b"\x03DROP TABLE t", None).is_err(), "twice");
        }
    }
}
