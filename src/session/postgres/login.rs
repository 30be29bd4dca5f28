//! From an accepted socket to a session that is ready for its first query.
//!
//! ```text
//! SSLRequest / GSSENCRequest / direct TLS  →  Startup (judged: replication, settings)  →  upstream, TLS as configured
//! authentication relayed message by message  →  ParameterStatus, BackendKeyData, ReadyForQuery
//! ```
//!
//! Invariant: here the database decides who may come in, and Sluice only relays (`auth = "passthrough"`); where Sluice decides, `admit`
//! does it between the first line and the last. Whatever arrives in the clear before a TLS handshake is
//! never taken for a part of the encrypted session: the connection is closed.

use crate::ground::limits;
use crate::protocol::cursor::Cursor;
use crate::protocol::postgres::frame::{ClientCutter, Frame, Next, upstream_frame};
use crate::protocol::postgres::handshake::{self, Opening, Startup};
use crate::protocol::postgres::message::{self, Severity};
use crate::protocol::{Code, Refusal};
use crate::session::link::Leg;
use crate::session::registry::{Registry, Seat};
use crate::session::upstream::{Attempt, Target};
use crate::session::wire::Wire;
use bytes::Bytes;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// What a client came for.
pub enum Visit {
    Login(Leg, Startup),
    /// The connection is to stay open until the request was handed on: clients wait for its end before they go on.
    Cancel(Leg, Bytes),
    /// It left, or was sent away with an answer.
    Gone,
}

/// A session past its login.
pub struct LoggedIn {
    pub client: Leg,
    pub upstream: Leg,
    pub cutter: ClientCutter,
    /// ParameterStatus, as the server reported them.
    pub settings: HashMap<String, String>,
    pub status: u8,
    pub seat: Seat,
}

/// How a login ended that nobody at Sluice refused.
pub enum Arrived {
    In(Box<LoggedIn>),
    /// The database said no, in its own words: the body of its ErrorResponse.
    SentAway(Bytes),
    /// The client left before it was in.
    Left,
}

/// Somebody who is sent away: what it is told, and what the operator is.
pub struct Turned {
    pub client: Leg,
    pub refusal: Refusal,
    pub why: String,
}

impl From<(Leg, Refusal)> for Turned {
    fn from((client, refusal): (Leg, Refusal)) -> Turned {
        let why = refusal.message.clone();
        Turned { client, refusal, why }
    }
}

/// Reads the opening packets. Bounded by the caller's login timeout; may be cancelled, the connection is then lost.
pub async fn receive(wire: Wire, acceptor: Option<&TlsAcceptor>) -> io::Result<Visit> {
    let mut leg = Leg::new(settle_direct(wire, acceptor).await?);
    let mut asked = (Asked::NotYet, Asked::NotYet);
    loop {
        if leg.inbox.is_empty() && !leg.fill().await? {
            return Ok(Visit::Gone);
        }
        let opening = match handshake::opening(&mut leg.inbox) {
            Ok(Some(opening)) => opening,
            Ok(None) => {
                if !leg.fill().await? {
                    return Ok(Visit::Gone);
                }
                continue;
            }
            Err(bad) => {
                let refusal = Refusal::new(Code::Protocol, format!("sluice: {}", bad.0));
                return send_away(leg, &refusal).await;
            }
        };
        match opening {
            Opening::Cancel(packet) => return Ok(Visit::Cancel(leg, packet)),
            Opening::Startup(startup) => return Ok(Visit::Login(leg, startup)),
            Opening::Ssl if asked.0 == Asked::NotYet && !leg.wire().is_tls() => {
                asked.0 = Asked::Already;
                if !leg.inbox.is_empty() {
                    // As PostgreSQL: bytes after an SSLRequest would be read as if they had come encrypted (CVE-2021-23214).
                    let refusal = Refusal::new(Code::Protocol, "sluice: received unencrypted data after SSL request");
                    return send_away(leg, &refusal).await;
                }
                match acceptor {
                    Some(acceptor) if !leg.wire().is_unix() => leg = accept_after(leg, acceptor).await?,
                    _ => answer(&mut leg, b"N").await?,
                }
            }
            Opening::GssEnc if asked.1 == Asked::NotYet => {
                asked.1 = Asked::Already;
                if !leg.inbox.is_empty() {
                    let refusal = Refusal::new(
                        Code::Protocol,
                        "sluice: received unencrypted data after GSSAPI encryption request",
                    );
                    return send_away(leg, &refusal).await;
                }
                answer(&mut leg, b"N").await?;
            }
            Opening::Ssl | Opening::GssEnc => {
                let refusal =
                    Refusal::new(Code::Protocol, "sluice: unsupported frontend protocol: encryption asked for twice");
                return send_away(leg, &refusal).await;
            }
        }
    }
}

/// Connects upstream and relays the authentication. `Err` carries the refusal that the client is to be given.
pub async fn relay(
    client: Leg,
    startup: &Startup,
    target: &Target,
    registry: &Arc<Registry>,
) -> Result<Arrived, Turned> {
    let attempts = target.attempts();
    let mut client = client;
    for (index, attempt) in attempts.iter().enumerate() {
        let is_last = index + 1 == attempts.len();
        let upstream = match target.connect(*attempt).await {
            Ok(upstream) => upstream,
            Err(error) if is_last || *attempt == Attempt::Plain => {
                let refusal = Refusal::new(
                    Code::Upstream,
                    format!("sluice: cannot reach the database at {}: {error}", target.address),
                );
                return Err((client, refusal).into());
            }
            Err(_) => continue,
        };
        let again = if is_last { Again::No } else { Again::IfRefusedAtOnce };
        match authenticate(client, upstream, startup, again).await? {
            Outcome::In(client, upstream, cutter) => return welcome(client, upstream, cutter, registry).await,
            Outcome::SentAway(error) => return Ok(Arrived::SentAway(error)),
            Outcome::Left => return Ok(Arrived::Left),
            Outcome::TryAgain(back) => client = back,
        }
    }
    Err((client, lost("no way of connecting was left to try")).into())
}

/// After AuthenticationOk: a seat is taken, then settings and key pass on to the client, up to the first ReadyForQuery.
pub async fn welcome(
    mut client: Leg,
    mut upstream: Leg,
    cutter: ClientCutter,
    registry: &Arc<Registry>,
) -> Result<Arrived, Turned> {
    let Some(mut seat) = registry.seat() else { return Err((client, no_seat()).into()) };
    let mut settings = HashMap::new();
    loop {
        let frame = match next_upstream(&mut upstream).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return Err((client, lost("it closed the connection during the login")).into()),
            Err(error) => return Err((client, lost(&error.to_string())).into()),
        };
        let (tag, body) = (frame.tag(), frame.body_bytes());
        client.send(frame.into_bytes());
        match tag {
            b'S' => note_setting(&body, &mut settings),
            b'K' => seat.set_key(body),
            b'N' => {}
            b'E' => {
                client.close().await;
                return Ok(Arrived::SentAway(body));
            }
            b'Z' => {
                let status = body.first().copied().unwrap_or(b'I');
                let logged_in = LoggedIn { client, upstream, cutter, settings, status, seat };
                return Ok(Arrived::In(Box::new(logged_in)));
            }
            other => return Err((client, lost(&format!("it sent message type {other} during the login"))).into()),
        }
    }
}

pub fn no_seat() -> Refusal {
    Refusal::new(Code::TooMany, "sluice: sorry, too many clients already")
}

/// A cancel request, handed on as it came. Its outcome is never told to anybody, as the protocol wants it.
pub async fn hand_on_cancel(packet: Bytes, target: &Target) {
    for attempt in target.attempts() {
        let Ok(mut leg) = target.connect(*attempt).await else { continue };
        leg.send(packet);
        if leg.flush().await.is_ok() {
            // The server closes when it has signalled the backend; until then the request may not have taken effect.
            let _ = tokio::time::timeout(limits::CANCEL_TIMEOUT, leg.fill()).await;
        }
        return;
    }
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum Asked {
    NotYet,
    Already,
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum Again {
    No,
    IfRefusedAtOnce,
}

enum Outcome {
    /// Up to AuthenticationOk, which the client was sent.
    In(Leg, Leg, ClientCutter),
    SentAway(Bytes),
    Left,
    TryAgain(Leg),
}

async fn authenticate(
    mut client: Leg,
    mut upstream: Leg,
    startup: &Startup,
    again: Again,
) -> Result<Outcome, (Leg, Refusal)> {
    let mut cutter = ClientCutter::default();
    let mut untouched = true;
    upstream.send(startup.packet.clone());
    loop {
        let frame = match next_upstream(&mut upstream).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return Err((client, lost("it closed the connection during the login"))),
            Err(error) => return Err((client, lost(&error.to_string()))),
        };
        let (tag, body) = (frame.tag(), frame.body_bytes());
        if tag == b'E' && untouched && again == Again::IfRefusedAtOnce {
            return Ok(Outcome::TryAgain(client));
        }
        untouched = false;
        client.send(match client.wire().is_tls() {
            false if tag == b'R' => handshake::without_channel_binding(frame.into_bytes()),
            _ => frame.into_bytes(),
        });
        match tag {
            b'R' => {}
            b'N' | b'v' => continue,
            b'E' => {
                client.close().await;
                return Ok(Outcome::SentAway(body));
            }
            other => return Err((client, lost(&format!("it sent message type {other} during the login")))),
        }
        let Ok(wanted) = authentication(&body) else {
            return Err((client, lost("it asked for an authentication that Sluice does not know")));
        };
        let answer = match wanted {
            Wanted::Nothing => return Ok(Outcome::In(client, upstream, cutter)),
            Wanted::NothingYet => continue,
            Wanted::Answer | Wanted::SaslStart => answered(&mut client, &mut upstream, &mut cutter, wanted).await,
        };
        match answer {
            Ok(true) => {}
            Ok(false) | Err(Trouble::Gone) => return Ok(Outcome::Left),
            Err(Trouble::Refuse(refusal)) => return Err((client, refusal)),
        }
    }
}

pub enum Trouble {
    Refuse(Refusal),
    Gone,
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum Wanted {
    /// It is in.
    Nothing,
    NothingYet,
    Answer,
    SaslStart,
}

/// Whether an authentication request wants an answer; `Err` for one of an unknown kind.
fn authentication(body: &[u8]) -> Result<Wanted, ()> {
    match Cursor::new(body).i32() {
        Ok(0) => Ok(Wanted::Nothing),
        Ok(12) => Ok(Wanted::NothingYet),
        // Clear text, MD5, GSSAPI, SSPI, their continuations, SASL continuation.
        Ok(3 | 5 | 7 | 8 | 9 | 11) => Ok(Wanted::Answer),
        Ok(10) => Ok(Wanted::SaslStart),
        _ => Err(()),
    }
}

/// The client's answer to an authentication request, once what was queued for it has gone; `None` if it left.
pub async fn password_message(client: &mut Leg, cutter: &mut ClientCutter) -> Result<Option<Frame>, Trouble> {
    client.flush().await.map_err(|_| Trouble::Gone)?;
    loop {
        match cutter.next(&mut client.inbox) {
            Ok(Next::Frame(frame)) if frame.tag() == b'p' => return Ok(Some(frame)),
            Ok(Next::Frame(frame)) if frame.tag() == b'X' => return Ok(None),
            // What is not one is not waited for either: a statement may be a gigabyte long.
            Ok(Next::Need(_)) if matches!(client.inbox.first(), None | Some(b'p' | b'X')) => {
                if !client.fill().await.map_err(|_| Trouble::Gone)? {
                    return Ok(None);
                }
            }
            Ok(_) | Err(_) => {
                return Err(Trouble::Refuse(Refusal::new(Code::Protocol, "sluice: expected password response")));
            }
        }
    }
}

/// One answer of the client to an authentication request, passed on. `Ok(false)`: it left.
async fn answered(
    client: &mut Leg,
    upstream: &mut Leg,
    cutter: &mut ClientCutter,
    wanted: Wanted,
) -> Result<bool, Trouble> {
    let Some(frame) = password_message(client, cutter).await? else { return Ok(false) };
    if wanted == Wanted::SaslStart && frame.body().starts_with(b"SCRAM-SHA-256-PLUS\0") {
        return Err(Trouble::Refuse(
            Refusal::new(Code::Upstream, "sluice: channel binding cannot pass through a proxy that ends TLS on both legs")
                .detail("The client bound its login to Sluice's certificate, the database expects its own.")
                .hint(
                    "Say auth = \"scram\" on the listener, or set channel_binding=disable in the client, or upstream_tls = \"disable\" on the listener, or connect to Sluice \
                     without TLS.",
                ),
        ));
    }
    upstream.send(frame.into_bytes());
    Ok(true)
}

pub async fn next_upstream(upstream: &mut Leg) -> io::Result<Option<Frame>> {
    upstream.flush().await?;
    loop {
        match upstream_frame(&mut upstream.inbox, limits::ANSWER_FRAME_BYTES_MAX) {
            Ok(Some(frame)) => return Ok(Some(frame)),
            Ok(None) => {
                if !upstream.fill().await? {
                    return Ok(None);
                }
            }
            Err(malformed) => return Err(io::Error::new(io::ErrorKind::InvalidData, malformed.to_string())),
        }
    }
}

fn note_setting(body: &[u8], settings: &mut HashMap<String, String>) {
    let mut cursor = Cursor::new(body);
    if let (Ok(name), Ok(value)) = (cursor.cstr(), cursor.cstr()) {
        settings.insert(String::from_utf8_lossy(name).into_owned(), String::from_utf8_lossy(value).into_owned());
    }
}

async fn answer(leg: &mut Leg, byte: &'static [u8]) -> io::Result<()> {
    leg.send(Bytes::from_static(byte));
    leg.flush().await
}

async fn accept_after(mut leg: Leg, acceptor: &TlsAcceptor) -> io::Result<Leg> {
    answer(&mut leg, b"S").await?;
    match leg.into_wire() {
        Wire::Tcp(stream) => Ok(Leg::new(Wire::Tls(Box::new(acceptor.accept(stream).await?.into())))),
        other => Ok(Leg::new(other)),
    }
}

/// Direct TLS, if the first byte says so: nothing is consumed before the handshake. The protocol must be named by ALPN, so that
/// no other TLS service can be mistaken for this one (and none for it).
async fn settle_direct(wire: Wire, acceptor: Option<&TlsAcceptor>) -> io::Result<Wire> {
    let Wire::Tcp(stream) = wire else { return Ok(wire) };
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 || first[0] != handshake::TLS_HANDSHAKE {
        return Ok(Wire::Tcp(stream));
    }
    let acceptor = acceptor.ok_or_else(|| io::Error::other("direct TLS, but no certificate is configured"))?;
    let stream = acceptor.accept(stream).await?;
    if stream.get_ref().1.alpn_protocol() != Some(handshake::ALPN) {
        return Err(io::Error::other("direct TLS without the ALPN protocol \"postgresql\""));
    }
    Ok(Wire::Tls(Box::new(stream.into())))
}

async fn send_away(mut leg: Leg, refusal: &Refusal) -> io::Result<Visit> {
    leg.send(message::error(refusal, Severity::Fatal));
    leg.close().await;
    Ok(Visit::Gone)
}

pub fn lost(how: &str) -> Refusal {
    Refusal::new(Code::Upstream, format!("sluice: the database broke off: {how}"))
}
