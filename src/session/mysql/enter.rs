//! Logging in at the database with an account's password, for a client that proved to Sluice who it is.
//!
//! Invariants: the password leaves only towards a server that is known, by its verified certificate or by the file system: an impostor could
//! ask for it, in clear or under a key of its own. A proof of it goes to any server. The client hears nothing of the account.
//!
//! Source: as for `protocol::mysql::exchange`, from the client's side.

use crate::ground::limits;
use crate::protocol::mysql::exchange::NO_PLUGIN;
use crate::protocol::mysql::frame::Packet;
use crate::protocol::mysql::handshake::{self, CACHING_SHA2, CLEAR, Login, NATIVE, SCRAMBLE, SHA256, Said, sha2};
use crate::protocol::mysql::response::read_failure;
use crate::protocol::mysql::rsa::{self, Password};
use crate::protocol::mysql::{capabilities, proof};
use crate::protocol::{Code, Refusal};
use crate::session::door::Account;
use crate::session::mysql::login::{Arrived, Came, Met, Relay, Side, Turned, lost};
use crate::session::registry::Registry;
use crate::session::upstream::Target;
use bytes::Bytes;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Logs in as the account. Bounded by the caller.
pub async fn enter(
    came: Came,
    met: Met,
    account: &Account,
    target: &Target,
    registry: &Arc<Registry>,
) -> Result<Arrived, Turned> {
    let Came { side: client, login, offered } = came;
    let Met { side, greeting } = met;
    let agreed = capabilities::agreed(login.capabilities, offered);
    let login = Login {
        user: Bytes::copy_from_slice(account.upstream_user.as_bytes()),
        proof: Password::default(),
        // The server is to say which plugin it wants before anything is proven.
        plugin: Some(Bytes::from_static(NO_PLUGIN)),
        ..login
    };
    let mut relay = Relay { client, login, agreed, asked: Default::default() };
    let upstream = match relay.sealed(side, &greeting, target).await {
        Ok(upstream) => upstream,
        Err(refusal) => return Err(Turned::plainly(relay.client, refusal)),
    };
    let is_known = upstream.is_local() || (upstream.is_tls() && target.verified);
    let password = Zeroizing::new(account.password.expose().as_bytes().to_vec());
    let mut own = Own { upstream, password, plugin: Bytes::new(), scramble: greeting.scramble, is_known };
    let packet = relay.login.told(own.upstream.next(), relay.asked);
    let last = match own.log_in(&packet).await {
        Ok(last) => last,
        Err((refusal, why)) => return Err(Turned { client: relay.client, refusal, why }),
    };
    let Own { upstream, scramble, .. } = own;
    relay.ended(last, upstream, greeting, scramble, registry).await
}

struct Own {
    upstream: Side,
    password: Password,
    plugin: Bytes,
    scramble: [u8; SCRAMBLE],
    is_known: bool,
}

/// What the client is told, and what the operator is.
type Shut = (Refusal, String);

impl Own {
    async fn log_in(&mut self, login: &[u8]) -> Result<Packet, Shut> {
        self.upstream.say_own(login).await.map_err(|error| plainly(lost(&error.to_string())))?;
        for _ in 0..limits::LOGIN_WORDS_MAX {
            let packet = match self.upstream.hear_server().await {
                Ok(Some(packet)) => packet,
                Ok(None) => return Err(plainly(lost("it closed the connection during the login"))),
                Err(error) => return Err(plainly(lost(&error.to_string()))),
            };
            let said = handshake::said(&packet).map_err(|_| plainly(lost("it sent an empty packet")))?;
            let answer = match said {
                Said::In => return Ok(packet),
                Said::Refused => return Err(self.refused(&packet)),
                Said::Switch { plugin, data } => {
                    self.scramble = handshake::scramble(&data).unwrap_or(self.scramble);
                    self.plugin = plugin;
                    self.first_word()?
                }
                Said::More(data) => match self.next_word(&data)? {
                    Some(answer) => answer,
                    None => continue,
                },
                Said::Factor(_) => return Err(self.cannot("another factor, and an account has one")),
                Said::SwitchToOld | Said::Other => {
                    return Err(self.cannot("something that Sluice does not know"));
                }
            };
            self.upstream.say_next(&answer).await.map_err(|error| plainly(lost(&error.to_string())))?;
        }
        Err(plainly(lost("it did not come to an end with the login")))
    }

    fn first_word(&self) -> Result<Password, Shut> {
        match &self.plugin[..] {
            NATIVE => Ok(Zeroizing::new(proof::native(&self.password, &self.scramble))),
            CACHING_SHA2 => Ok(Zeroizing::new(proof::caching_sha2(&self.password, &self.scramble))),
            SHA256 if self.password.is_empty() => Ok(Zeroizing::new(vec![0])),
            SHA256 if self.upstream.is_tls() => self.in_clear(),
            SHA256 => self.wish(sha2::KEY_WANTED_SHA256),
            CLEAR if self.upstream.is_tls() || self.upstream.is_local() => self.in_clear(),
            other => Err(self.cannot(&format!("the plugin {}", String::from_utf8_lossy(other).escape_debug()))),
        }
    }

    fn next_word(&self, data: &[u8]) -> Result<Option<Password>, Shut> {
        match (&self.plugin[..], data) {
            (CACHING_SHA2, [sha2::FAST_OK]) => Ok(None),
            (CACHING_SHA2, [sha2::FULL]) if self.upstream.is_tls() || self.upstream.is_local() => {
                self.in_clear().map(Some)
            }
            (CACHING_SHA2, [sha2::FULL]) => self.wish(sha2::KEY_WANTED).map(Some),
            (CACHING_SHA2 | SHA256, key) if self.is_known => {
                let encrypted = rsa::encrypt(&self.ended(), key, &self.scramble);
                let encrypted = encrypted.map_err(|_| self.cannot("a key under which the password cannot be put"))?;
                Ok(Some(Zeroizing::new(encrypted.to_vec())))
            }
            _ => Err(self.cannot("something that Sluice does not know")),
        }
    }

    fn in_clear(&self) -> Result<Password, Shut> {
        if self.is_known { Ok(self.ended()) } else { Err(self.cannot(ITSELF)) }
    }

    fn wish(&self, wish: u8) -> Result<Password, Shut> {
        if self.is_known { Ok(Zeroizing::new(vec![wish])) } else { Err(self.cannot(ITSELF)) }
    }

    /// With the NUL that ends it.
    fn ended(&self) -> Password {
        let mut ended = Zeroizing::new(Vec::with_capacity(self.password.len() + 1));
        ended.extend_from_slice(&self.password);
        ended.push(0);
        ended
    }

    fn cannot(&self, what: &str) -> Shut {
        let refusal = Refusal::new(Code::LoginRefused, "sluice: cannot log in at the database for you");
        let hint = "Say upstream_tls = \"verify-full\" on the listener.";
        let why = format!("the database did not let Sluice in: it asked for {what}");
        (if what == ITSELF { refusal.hint(hint) } else { refusal }, why)
    }

    fn refused(&self, packet: &Packet) -> Shut {
        let said = read_failure(packet.payload()).map(|failure| format!("{} {}", failure.errno, failure.message));
        let refusal = Refusal::new(Code::LoginRefused, "sluice: cannot log in at the database for you");
        (refusal, format!("the database did not let Sluice in: {}", said.unwrap_or_default()))
    }
}

const ITSELF: &str =
    "the password itself, and it is not known to be the database (upstream_tls = \"verify-full\", or a unix socket)";

fn plainly(refusal: Refusal) -> Shut {
    let why = refusal.message.clone();
    (refusal, why)
}
