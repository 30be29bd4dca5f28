//! The packets of a login, between a client and the server that decides who it is.
//!
//! The server speaks first, so it is met as soon as a client comes. Its scramble reaches the client unchanged, and proofs pass through; what
//! cannot pass as it is, `protocol::mysql::exchange` carries over.
//!
//! ```text
//! client                     Sluice                              server
//!   (connects) ────────────▶ `meet` ──────────────────────────────▶
//!                            ◀──────────────────────── greeting ───
//!   ◀─ greeting, patched ─── `receive`
//!   (TLS), login ──────────▶ judged by `arrive`
//!                            `enter`      (TLS), login, patched ──▶
//!   ◀──────────────── exchange, turn by turn ─────────────────────▶
//!   ◀─ OK ────────────────── a seat is taken ◀──────────────── OK ─
//! ```
//!
//! Invariants: nothing is read from a leg beyond the packet that is due, so that what a client sends ahead is a command and judged as one, and
//! what is sent before a TLS handshake is not taken for what came behind it; what may hold a password is wiped.

use crate::ground::limits;
use crate::protocol::mysql::capabilities::{self, Capabilities};
use crate::protocol::mysql::exchange::{Exchange, Factors, NO_PLUGIN, Next, Privacy};
use crate::protocol::mysql::frame::{HEADER, Packet, declared_length};
use crate::protocol::mysql::handshake::{self, BadOpening, Greeting, Login, Opening, SCRAMBLE};
use crate::protocol::mysql::message::{self, To};
use crate::protocol::mysql::response::{self, End, Failure};
use crate::protocol::mysql::rsa::Keys;
use crate::protocol::{Code, Refusal};
use crate::session::link::Leg;
use crate::session::mysql::change::Entered;
use crate::session::registry::{Registry, Seat};
use crate::session::upstream::{Address, Target, TlsMode};
use crate::session::wire::Wire;
use bytes::Bytes;
use std::io;
use std::sync::{Arc, OnceLock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

/// A server that was met.
pub struct Met {
    pub side: Side,
    pub greeting: Greeting,
}

impl Met {
    /// Nobody logs in after all. A server that is left without a word counts it against our address, and takes nobody from there any more
    /// after a hundred (`max_connect_errors`; tried on MySQL 9.7): a balancer's probes would do. So it is told of a user whom it does not
    /// know, by a plugin that it has not, and left when it asks for more.
    pub async fn leave(mut self) {
        let capabilities = Capabilities::PROTOCOL_41.with(Capabilities::SECURE_CONNECTION);
        let nobody = Login {
            capabilities,
            max_packet: 0,
            collation: self.greeting.collation,
            user: Bytes::from_static(b"sluice_left"),
            proof: Default::default(),
            database: None,
            plugin: Some(Bytes::from_static(NO_PLUGIN)),
            attributes: None,
        };
        let leaving = async {
            self.side.say(&nobody.told(1, capabilities)).await?;
            self.side.next = 2;
            self.side.hear_server().await
        };
        let _ = tokio::time::timeout(limits::FAREWELL_TIMEOUT, leaving).await;
    }
}

/// What a server said first.
pub enum Meeting {
    Met(Box<Met>),
    /// It does not take anybody: the body of its ERR.
    SentAway(Packet),
}

/// A client that said who it is.
pub struct Came {
    pub side: Side,
    pub login: Login,
    pub offered: Capabilities,
}

impl Came {
    pub fn wire(&self) -> &Wire {
        &self.side.wire
    }

    pub async fn send_away(self, refusal: &Refusal) {
        send_away(self.side, refusal).await;
    }
}

/// What a client came for.
pub enum Visit {
    Login(Box<Came>),
    /// It left, or was sent away with an answer.
    Gone,
}

/// A session past its login.
pub struct LoggedIn {
    pub client: Leg,
    pub upstream: Leg,
    /// What is in force on the leg to the client, and on the one to the server.
    pub agreed: Capabilities,
    pub asked: Capabilities,
    /// The server's OK, as it came, and what it says; the client was told it.
    pub okay: Bytes,
    pub end: End,
    pub greeting: Greeting,
    pub entered: Entered,
    pub seat: Seat,
}

/// How a login ended that nobody at Sluice refused.
pub enum Arrived {
    In(Box<LoggedIn>),
    /// The database said no.
    SentAway(Failure),
    /// The client left before it was in.
    Left,
}

/// Somebody who is sent away.
pub struct Turned {
    pub client: Side,
    /// What it is told.
    pub refusal: Refusal,
    /// What the operator is.
    pub why: String,
}

impl Turned {
    /// The operator is told what the client is.
    pub fn plainly(client: Side, refusal: Refusal) -> Turned {
        let why = refusal.message.clone();
        Turned { client, refusal, why }
    }
}

/// Meets the server. Bounded by the caller.
pub async fn meet(target: &Target) -> io::Result<Meeting> {
    let mut side = Side::new(target.dial().await?);
    let first = side.hear_server().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    if first.tag() == Some(0xff) {
        return Ok(Meeting::SentAway(first));
    }
    let greeting = Greeting::read(first)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it does not speak MySQL's protocol, version 10"))?;
    Ok(Meeting::Met(Box::new(Met { side, greeting })))
}

/// Passes the greeting on and hears who comes. Bounded by the caller.
pub async fn receive(wire: Wire, acceptor: Option<&TlsAcceptor>, greeting: &Greeting) -> io::Result<Visit> {
    let acceptor = acceptor.filter(|_| !wire.is_unix());
    let offered = capabilities::offered(greeting.capabilities, acceptor.is_some());
    let mut side = Side::new(wire);
    side.say(&greeting.offering(offered)).await?;
    side.next = 1;
    let Some(mut first) = side.hear().await? else { return Ok(Visit::Gone) };
    let mut opening = handshake::opening(payload(&first), offered);
    if let (Ok(Opening::Tls { .. }), Some(acceptor)) = (&opening, acceptor) {
        side.wire = match side.wire {
            Wire::Tcp(stream) => Wire::Tls(Box::new(acceptor.accept(stream).await?.into())),
            other => other,
        };
        let Some(second) = side.hear().await? else { return Ok(Visit::Gone) };
        first = second;
        opening = handshake::opening(payload(&first), offered);
    }
    let refusal = match opening {
        Ok(Opening::Login(login)) => return Ok(Visit::Login(Box::new(Came { side, login: *login, offered }))),
        Ok(Opening::Tls { .. }) if acceptor.is_some() => malformed("encryption was asked for twice"),
        Ok(Opening::Tls { .. }) => malformed("encryption was asked for that was not offered"),
        Err(BadOpening::TooOld) => malformed("the client speaks a protocol of MySQL 4.0 or older"),
        Err(BadOpening::Malformed) => malformed("the client's login does not add up"),
    };
    send_away(side, &refusal).await;
    Ok(Visit::Gone)
}

/// Logs in at the server with what the client said, and relays what follows. Bounded by the caller.
pub async fn enter(came: Came, met: Met, target: &Target, registry: &Arc<Registry>) -> Result<Arrived, Turned> {
    let Came { side: client, login, offered } = came;
    let Met { side, greeting } = met;
    let agreed = capabilities::agreed(login.capabilities, offered);
    let mut relay = Relay { client, login, agreed, asked: Capabilities::default() };
    let mut upstream = match relay.sealed(side, &greeting, target).await {
        Ok(upstream) => upstream,
        Err(refusal) => return Err(Turned::plainly(relay.client, refusal)),
    };
    let mut exchange = match relay.begin(&mut upstream, &greeting).await {
        Ok(exchange) => exchange,
        Err(refusal) => return Err(Turned::plainly(relay.client, refusal)),
    };
    let last = match relay.converse(&mut upstream, &mut exchange).await {
        Ok(Some(last)) => last,
        Ok(None) => return Ok(Arrived::Left),
        Err(refusal) => return Err(Turned::plainly(relay.client, refusal)),
    };
    relay.ended(last, upstream, greeting, exchange.scramble(), registry).await
}

pub fn no_seat() -> Refusal {
    Refusal::new(Code::TooMany, "sluice: sorry, too many clients already")
}

pub fn lost(how: &str) -> Refusal {
    Refusal::new(Code::Upstream, format!("sluice: the database broke off: {how}"))
}

/// Tells a client why it is not let in, and closes.
pub async fn send_away(mut side: Side, refusal: &Refusal) {
    let error = match side.next {
        // It has not said what it can.
        0 => message::early_error(0, refusal),
        sequence => message::error(To { capabilities: Capabilities::PROTOCOL_41, sequence }, refusal),
    };
    side.say_last(&error).await;
}

/// One end of a login: its packets are read one by one, and nothing beyond them.
pub struct Side {
    wire: Wire,
    /// The packet that is coming.
    heard: Zeroizing<Vec<u8>>,
    /// The number of the packet that comes next, whoever sends it.
    next: u8,
}

impl Side {
    pub fn new(wire: Wire) -> Side {
        Side { wire, heard: Zeroizing::default(), next: 0 }
    }

    /// Passes on the server's own last word, under our number.
    pub async fn say_last(&mut self, packet: &[u8]) {
        let saying = async {
            let _ = self.wire.write_all(packet).await;
            let _ = self.wire.shutdown().await;
        };
        let _ = tokio::time::timeout(limits::FAREWELL_TIMEOUT, saying).await;
    }

    pub fn is_tls(&self) -> bool {
        self.wire.is_tls()
    }

    /// A unix socket: whoever answers there was put there by somebody whom the file system let.
    pub fn is_local(&self) -> bool {
        self.wire.is_unix()
    }

    /// The number of the packet that comes next.
    pub fn next(&self) -> u8 {
        self.next
    }

    /// A packet of ours, numbered already with the number that is due.
    pub async fn say_own(&mut self, packet: &[u8]) -> io::Result<()> {
        self.next = self.next.wrapping_add(1);
        self.say(packet).await
    }

    async fn say(&mut self, packet: &[u8]) -> io::Result<()> {
        self.wire.write_all(packet).await?;
        self.wire.flush().await
    }

    /// A payload, under the number that is due.
    pub async fn say_next(&mut self, payload: &[u8]) -> io::Result<()> {
        let packet = handshake::said_once(self.next, &[payload]);
        self.next = self.next.wrapping_add(1);
        self.say(&packet).await
    }

    /// The next packet, header and all; `None` at the end. May be cancelled: what came of it is kept.
    pub async fn hear(&mut self) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        loop {
            let declared = declared_length(&self.heard);
            let whole = HEADER + declared.unwrap_or_default();
            if whole > HEADER + limits::LOGIN_PACKET_BYTES_MAX {
                return Err(bad("a packet of a login that is longer than any"));
            }
            if declared.is_some() && self.heard.len() == whole {
                let sequence = self.heard.get(HEADER - 1).copied().unwrap_or_default();
                if sequence != self.next {
                    return Err(bad("packets out of order"));
                }
                self.next = self.next.wrapping_add(1);
                return Ok(Some(std::mem::take(&mut self.heard)));
            }
            let needed = whole - self.heard.len();
            // At once for all of it: a buffer that grows leaves parts of it behind.
            self.heard.reserve_exact(needed);
            if (&mut self.wire).take(needed as u64).read_buf(&mut *self.heard).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// The same of a server, whose words are no secret.
    pub async fn hear_server(&mut self) -> io::Result<Option<Packet>> {
        let heard = self.hear().await?;
        Ok(heard.map(|packet| Packet::new(packet.get(HEADER - 1).copied().unwrap_or_default(), payload(&packet))))
    }

    pub fn privacy(&self) -> Privacy {
        match (self.wire.is_tls(), self.wire.is_unix()) {
            (true, _) => Privacy::Sealed,
            (false, true) => Privacy::Local,
            (false, false) => Privacy::Open,
        }
    }
}

/// A login under way.
pub struct Relay {
    pub client: Side,
    pub login: Login,
    pub agreed: Capabilities,
    pub asked: Capabilities,
}

impl Relay {
    /// The leg to the server, with TLS if it is to have it.
    pub async fn sealed(&mut self, mut side: Side, greeting: &Greeting, target: &Target) -> Result<Side, Refusal> {
        let has_tls = greeting.capabilities.has(Capabilities::SSL);
        let wants = match (target.mode, &target.address) {
            (TlsMode::Disable, _) | (TlsMode::Allow | TlsMode::Prefer, Address::Unix(_)) => false,
            // A connection cannot be begun anew once the client knows its scramble: what can have TLS has it.
            (TlsMode::Allow | TlsMode::Prefer, Address::Tcp { .. }) => has_tls,
            (TlsMode::Require, _) => true,
        };
        self.asked = self.login.fitting(capabilities::asked(self.agreed, greeting.capabilities, wants));
        if !wants {
            return Ok(side);
        }
        if !has_tls {
            return Err(lost("the server does not support TLS, but upstream_tls requires it"));
        }
        side.say(&self.login.tls_request(self.asked)).await.map_err(|error| lost(&error.to_string()))?;
        let Side { wire, .. } = side;
        match target.wrap(Leg::new(wire)).await {
            Ok(leg) => Ok(Side { next: 2, ..Side::new(leg.into_wire()) }),
            Err(error) => Err(lost(&error.to_string())),
        }
    }

    /// Says to the server who the client says it is.
    async fn begin(&mut self, upstream: &mut Side, greeting: &Greeting) -> Result<Exchange, Refusal> {
        let (plugin, proof) = (self.login.plugin.as_ref(), &self.login.proof);
        let legs = (self.client.privacy(), upstream.privacy());
        let (exchange, plugin, proof) = Exchange::begin(legs.0, legs.1, plugin, proof, greeting.scramble)?;
        let told = Login { plugin, proof, ..self.login.clone() };
        let packet = told.told(upstream.next, self.asked);
        upstream.say_own(&packet).await.map_err(|error| lost(&error.to_string()))?;
        Ok(exchange.of(factors(self.asked)))
    }

    /// Up to the server's last word; `None`: the client left.
    async fn converse(&mut self, upstream: &mut Side, exchange: &mut Exchange) -> Result<Option<Packet>, Refusal> {
        for _ in 0..limits::LOGIN_WORDS_MAX {
            let next = match heard(&mut self.client, upstream, exchange.is_clients_turn()).await {
                Heard::Server(packet) => match exchange.server_said(&packet)? {
                    Next::In | Next::Refused => return Ok(Some(packet)),
                    next => next,
                },
                Heard::Client(words) => {
                    let keys = if exchange.wants_keys() { Some(keys().await?) } else { None };
                    exchange.client_said(payload(&words), keys)?
                }
                Heard::ClientGone => return Ok(None),
                Heard::ClientSaid(error) => return Err(Refusal::new(Code::Protocol, format!("sluice: {error}"))),
                Heard::ServerGone(error) => return Err(lost(&error)),
            };
            match next {
                Next::ToClient(words) => {
                    if self.client.say_next(&words).await.is_err() {
                        return Ok(None);
                    }
                }
                Next::ToServer(words) => {
                    upstream.say_next(&words).await.map_err(|error| lost(&error.to_string()))?;
                }
                Next::In | Next::Refused => {}
            }
        }
        Err(lost("it did not come to an end with the login"))
    }

    /// Passes the server's last word on.
    pub async fn ended(
        mut self,
        last: Packet,
        upstream: Side,
        greeting: Greeting,
        scramble: [u8; SCRAMBLE],
        registry: &Arc<Registry>,
    ) -> Result<Arrived, Turned> {
        let sequence = self.client.next;
        let okay = last.renumbered(sequence).into_bytes();
        let end = match response::read_end(&okay, self.asked) {
            Ok(end) => end,
            Err(_) => return Err(Turned::plainly(self.client, lost("the end of the login cannot be read"))),
        };
        if let End::Failed(failure) = end {
            self.client.say_last(&okay).await;
            return Ok(Arrived::SentAway(failure));
        }
        let Some(seat) = registry.seat() else { return Err(Turned::plainly(self.client, no_seat())) };
        let collation = u16::from(self.login.collation);
        let (to_client, to_server) = (self.client.privacy(), upstream.privacy());
        let entered = Entered { client: to_client, server: to_server, scramble, collation, may_change: true };
        let mut client = Leg::new(self.client.wire);
        client.send(message::retold(self.asked, To { capabilities: self.agreed, sequence }, &okay, &end));
        Ok(Arrived::In(Box::new(LoggedIn {
            client,
            upstream: Leg::new(upstream.wire),
            agreed: self.agreed,
            asked: self.asked,
            okay,
            end,
            greeting,
            entered,
            seat,
        })))
    }
}

enum Heard {
    Server(Packet),
    Client(Zeroizing<Vec<u8>>),
    ClientGone,
    /// What the client sent cannot be read.
    ClientSaid(String),
    ServerGone(String),
}

/// Whoever speaks next; the client only where it is its turn.
async fn heard(client: &mut Side, upstream: &mut Side, is_clients_turn: bool) -> Heard {
    tokio::select! {
        biased;
        said = upstream.hear_server() => match said {
            Ok(Some(packet)) => Heard::Server(packet),
            Ok(None) => Heard::ServerGone("it closed the connection during the login".to_owned()),
            Err(error) => Heard::ServerGone(error.to_string()),
        },
        said = client.hear(), if is_clients_turn => match said {
            Ok(Some(words)) => Heard::Client(words),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Heard::ClientSaid(error.to_string()),
            Ok(None) | Err(_) => Heard::ClientGone,
        },
    }
}

/// Whether a client that was agreed with on these knows of more than one.
pub fn factors(agreed: Capabilities) -> Factors {
    if agreed.has(Capabilities::MULTI_FACTOR) { Factors::Several } else { Factors::One }
}

/// Our own keys, made when somebody first needs them.
pub async fn keys() -> Result<&'static Keys, Refusal> {
    static KEYS: OnceLock<Option<Keys>> = OnceLock::new();
    let made = tokio::task::spawn_blocking(|| KEYS.get_or_init(|| Keys::generate().ok())).await;
    match made {
        Ok(Some(keys)) => Ok(keys),
        _ => Err(Refusal::new(Code::CannotKnow, "sluice: no key could be made for the login")),
    }
}

/// Without its header.
pub fn payload(packet: &[u8]) -> &[u8] {
    packet.get(HEADER..).unwrap_or_default()
}

fn malformed(what: &str) -> Refusal {
    Refusal::new(Code::Protocol, format!("sluice: {what}"))
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
