//! One client's conversation, from the accepted socket to the last byte.
//!
//! Reading order: [`visit`] is a connection's life; `login` its first packets and the login that is passed through; `admit` the one
//! that Sluice checks itself (`door` against what, `control` asks the database for it, `tries` limits guessing, `enter` is our own
//! login at the database); `relay` its loop; `pipeline` what each message of the client leads to;
//! `look` how a statement is read, asked about and judged; `act` what follows: forwarded, refused or
//! carried out; `redeem` tokens; `run` a statement carried out with its commit withheld; `console` the `SLUICE …` commands; `ask` how questions leave no trace; `link` the two ends.
//!
//! Invariant: a session ends rather than go on in a state that it does not know.

mod act;
mod admit;
mod ask;
mod buffers;
mod console;
pub mod control;
pub mod door;
mod enter;
mod format;
mod hold;
mod large_object;
pub mod link;
mod login;
mod look;
mod pipeline;
mod reaching;
mod readings;
mod record;
mod redeem;
pub mod registry;
mod rehearse;
mod relay;
mod reported;
mod run;
pub mod tries;
pub mod upstream;
pub mod wire;

use crate::audit::{Login, Recorder, Recording};
use crate::change::ledger::Runs;
use crate::database::catalog::Cache;
use crate::ground::clock::Clock;
use crate::ground::ids::SessionId;
use crate::ground::limits;
use crate::ground::metrics::{LOGINS_TOTAL, SESSIONS, SESSIONS_TOTAL};
use crate::policy::scope::{Principal, Standing};
use crate::policy::settings::Policy;
use crate::policy::{self, finding::Level};
use crate::protocol::postgres::Conversation;
use crate::protocol::postgres::frame::ClientCutter;
use crate::protocol::postgres::handshake::Startup;
use crate::protocol::postgres::message::{self, Severity};
use crate::protocol::{Code, Refusal};
use crate::session::admit::{Arrival, admit};
use crate::session::control::Control;
use crate::session::door::{Door, Logins};
use crate::session::format::Format;
use crate::session::hold::Tally;
use crate::session::link::{Leg, Link};
use crate::session::login::{Arrived, Turned, Visit};
use crate::session::pipeline::{InFlight, Mark, Pipeline, Portal, Prepared, Watched};
use crate::session::reaching::Reaching;
pub use crate::session::reaching::Schemas;
use crate::session::registry::{Registry, Seat};
use crate::session::reported::Reported;
use crate::session::tries::Tries;
use crate::session::upstream::Target;
use crate::session::wire::Wire;
use crate::sql::encoding;
use crate::sql::facts::{Facts, Kind, SettingChange, SettingScope};
use crate::sql::statement::LexicalMode;
use crate::store::Store;
use arc_swap::ArcSwap;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What all sessions of one listener share, on one thread.
pub struct House {
    pub listener: String,
    pub target: Target,
    /// The certificate and how clients prove themselves; swapped at a reload.
    pub door: Arc<ArcSwap<Door>>,
    /// Verifiers looked up in the database.
    pub control: Control,
    /// Wrong tries at logging in, shared by all listeners.
    pub tries: Arc<Tries>,
    pub policy: Arc<ArcSwap<Policy>>,
    pub store: Store,
    pub recorder: Recorder,
    pub registry: Arc<Registry>,
    pub clock: Clock,
    pub login_timeout: Duration,
    /// For all questions about one statement together.
    pub ask_timeout: Duration,
    /// Without a byte either way, outside a transaction.
    pub idle_timeout: Option<Duration>,
    pub sessions_max: usize,
    /// What names lead to, by database: shared by all threads.
    pub schemas: Arc<Schemas>,
    /// Becomes true when Sluice is going down.
    pub draining: watch::Receiver<bool>,
}

/// One conversation past its login.
pub(in crate::session) struct Session {
    house: Arc<House>,
    id: SessionId,
    principal: Principal,
    link: Link,
    cutter: ClientCutter,
    talk: Conversation<Mark>,
    seat: Seat,
    settings: Reported,
    standing: Standing,
    cache: Cache,
    prepared: HashMap<Bytes, Prepared>,
    /// Parses that were not answered yet, by name; how many were sent, and how many Syncs.
    in_flight: HashMap<Bytes, InFlight>,
    parses: u64,
    syncs: u64,
    portals: HashMap<Bytes, Portal>,
    /// Named portals of counted changes, bound since the transaction began: whatever becomes of their names here, the server may
    /// still have them, and FETCH runs them too.
    guarded_portals: HashMap<Bytes, Watched>,
    pipeline: Pipeline,
    reaching: Reaching,
    tally: Tally,
    /// How this session wants its refusals; `None`: it may have been set anew.
    format: Option<Format>,
    /// Something was sent, since the session was last idle, that changes what names mean (SET, DDL): the end of its transaction may
    /// change it back.
    names_touched: bool,
    /// `sluice.script` was set on this session, at some time: what it changes may be part of a script.
    scripted: bool,
    /// Statements of scripts that are under way.
    runs: Runs,
}

/// Why a session ended.
#[derive(Debug)]
pub(in crate::session) enum End {
    /// The client said goodbye or went away.
    Client,
    /// The upstream closed; what it said before was passed on.
    Upstream,
    /// It is told why, and closed.
    Refused(Refusal),
}

/// A connection's life.
pub async fn visit(house: Arc<House>, wire: Wire, address: String) {
    let Some(seat) = house.registry.seat(house.sessions_max) else {
        let refusal = Refusal::new(Code::Limit, "sluice: sorry, too many clients already");
        return send_away(Leg::new(wire), &refusal).await;
    };
    // The same door to the end of the login: SCRAM binds to the certificate that was shown.
    let door = house.door.load_full();
    let acceptor = door.tls.as_ref().map(|shown| &shown.acceptor);
    let received = tokio::time::timeout(house.login_timeout, login::receive(wire, acceptor)).await;
    match received {
        Ok(Ok(Visit::Login(client, startup))) => log_in(house, &door, client, startup, seat, address).await,
        Ok(Ok(Visit::Cancel(client, packet))) => {
            // Behind the length and the request code lies exactly what BackendKeyData held.
            house.registry.cancel(&packet[8..]);
            login::hand_on_cancel(packet, &house.target).await;
            // Not before: a client that saw the end sends its next statement, and that must not be the one that is cancelled.
            drop(client);
        }
        Ok(Ok(Visit::Gone)) => {}
        Ok(Err(error)) => tracing::debug!(%address, %error, "connection lost before the login"),
        Err(_) => tracing::debug!(%address, "no login within the timeout"),
    }
}

async fn log_in(house: Arc<House>, door: &Door, client: Leg, startup: Startup, mut seat: Seat, address: String) {
    let Ok(id) = SessionId::new(house.clock.now()) else {
        return send_away(client, &Refusal::new(Code::CannotKnow, "sluice: no randomness for a session id")).await;
    };
    let user = startup.parameter("user").unwrap_or_default().to_owned();
    let database = startup.parameter("database").filter(|name| !name.is_empty()).unwrap_or(&user).to_owned();
    let application = startup.parameter("application_name").unwrap_or_default().to_owned();
    let principal = Principal { user, database, address, application };
    let passed_on = matches!(door.logins, Logins::Passthrough);
    if passed_on && principal.user.len().max(principal.database.len()) > limits::USER_NAME_BYTES_MAX {
        // Some servers cut it to another's name, which the policy would not have seen.
        let message = format!("sluice: a user's or database's name of more than {} bytes", limits::USER_NAME_BYTES_MAX);
        let refusal = Refusal::new(Code::LoginRefused, message);
        note_login(&house, id, &principal, Login::Refused { sqlstate: refusal.code.sqlstate(), why: &refusal.message });
        return send_away(client, &refusal).await;
    }
    if let Err(refusal) = judge_startup(&house, &startup, &principal) {
        note_login(&house, id, &principal, Login::Refused { sqlstate: refusal.code.sqlstate(), why: &refusal.message });
        return send_away(client, &refusal).await;
    }
    let logging_in = Box::pin(async {
        match &door.logins {
            Logins::Passthrough => login::relay(client, &startup, &house.target, &mut seat).await,
            Logins::Checked(checked) => {
                let (house, startup, principal) = (&house, &startup, &principal);
                let arrival = Arrival { house, shown: door.tls.as_ref(), checked, startup, principal };
                admit(arrival, client, &mut seat).await
            }
        }
    });
    let logged_in = match tokio::time::timeout(house.login_timeout, logging_in).await {
        Ok(Ok(Arrived::In(logged_in))) => *logged_in,
        Ok(Ok(Arrived::SentAway)) => {
            return note_login(&house, id, &principal, Login::Refused { sqlstate: "28000", why: "by the database" });
        }
        Ok(Ok(Arrived::Left)) => {
            let why = "the client left before it was in";
            return note_login(&house, id, &principal, Login::Refused { sqlstate: LEFT, why });
        }
        Ok(Err(Turned { client, refusal, why })) => {
            note_login(&house, id, &principal, Login::Refused { sqlstate: refusal.code.sqlstate(), why: &why });
            return send_away(client, &refusal).await;
        }
        Err(_) => {
            return note_login(&house, id, &principal, Login::Refused { sqlstate: "57014", why: "login timeout" });
        }
    };
    note_login(&house, id, &principal, Login::Accepted);
    let scripted = startup.settings().iter().any(|(name, _)| name.eq_ignore_ascii_case("sluice.script"));
    let mut session = Session {
        link: Link::new(logged_in.client, logged_in.upstream),
        cutter: logged_in.cutter,
        talk: Conversation::new(logged_in.status),
        settings: Reported::of(&logged_in.settings),
        standing: Standing::default(),
        cache: Cache::default(),
        prepared: HashMap::new(),
        in_flight: HashMap::new(),
        parses: 0,
        syncs: 0,
        portals: HashMap::new(),
        guarded_portals: HashMap::new(),
        pipeline: Pipeline::default(),
        reaching: Reaching::new(house.schemas.of(&principal.database)),
        tally: Tally::default(),
        format: None,
        names_touched: false,
        scripted,
        runs: Runs::default(),
        house,
        id,
        principal,
        seat,
    };
    tracing::debug!(session = %session.id, user = ?session.principal.user, "session begins");
    let listener = session.house.listener.clone();
    metrics::counter!(SESSIONS_TOTAL, "listener" => listener.clone()).increment(1);
    metrics::gauge!(SESSIONS, "listener" => listener.clone()).increment(1);
    let end = session.run().await;
    metrics::gauge!(SESSIONS, "listener" => listener).decrement(1);
    Box::pin(session.finish(end)).await;
}

/// Replication is another protocol; settings made at the start are judged as SET would be.
fn judge_startup(house: &House, startup: &Startup, principal: &Principal) -> Result<(), Refusal> {
    if startup.wants_replication() {
        let verdict = policy::refuse_door("the replication protocol");
        return Err(act::denial(&verdict));
    }
    if let Some(word) = startup.unread_option() {
        let word: String = word.chars().take(60).collect();
        let message = format!("sluice: the startup option {word:?} is not read");
        return Err(Refusal::new(Code::LoginRefused, message).hint("Write it as -c name=value."));
    }
    let settings = startup.settings().into_iter().map(|(name, value)| SettingChange {
        name,
        value: Some(value),
        scope: SettingScope::Session,
    });
    let facts = Facts { kind: Kind::Set, settings: settings.collect(), ..Facts::default() };
    let mut standing = Standing::default();
    let policy = house.policy.load();
    let effective = standing.get(&policy, principal, house.clock.now());
    let verdict = policy::judge(&facts, &Default::default(), effective, &Default::default());
    if verdict.in_force() > Level::Warn { Err(act::denial(&verdict)) } else { Ok(()) }
}

/// `connection_does_not_exist`: nobody was refused, but nobody came in either.
const LEFT: &str = "08003";

fn note_login(house: &House, id: SessionId, principal: &Principal, login: Login<'_>) {
    let outcome = match &login {
        Login::Accepted => "accepted",
        Login::Refused { sqlstate: "28P01", .. } => "wrong",
        Login::Refused { sqlstate: LEFT, .. } => "left",
        Login::Refused { .. } => "refused",
    };
    metrics::counter!(LOGINS_TOTAL, "listener" => house.listener.clone(), "outcome" => outcome).increment(1);
    if let Login::Refused { sqlstate, why } = &login {
        tracing::warn!(session = %id, user = ?principal.user, address = %principal.address, sqlstate, why = ?why, "login refused");
    }
    if let Err(error) = house.recorder.login(id, &house.listener, principal, login) {
        tracing::error!(session = %id, %error, "a login could not be recorded");
    }
}

async fn send_away(mut leg: Leg, refusal: &Refusal) {
    leg.send(message::error(refusal, Severity::Fatal));
    let _ = tokio::time::timeout(Duration::from_secs(5), leg.close()).await;
}

impl Session {
    /// How texts fall into tokens now, by the server's own report.
    pub(in crate::session) fn mode(&self) -> LexicalMode {
        self.settings.mode
    }

    /// Whether the client's encoding hides ASCII bytes in its characters.
    pub(in crate::session) fn is_ambiguous(&self) -> bool {
        self.settings.is_ambiguous
    }

    /// Our words as this client can read them.
    pub(in crate::session) fn spoken(&self, text: &str) -> String {
        match self.settings.takes_utf8 {
            true => text.to_owned(),
            false => encoding::in_ascii(text),
        }
    }

    pub(in crate::session) fn said(&self, refusal: &Refusal) -> Refusal {
        let spoken = |text: &Option<String>| text.as_deref().map(|text| self.spoken(text));
        let (detail, hint) = (spoken(&refusal.detail), spoken(&refusal.hint));
        Refusal { code: refusal.code, message: self.spoken(&refusal.message), detail, hint, document: None }
    }

    pub(in crate::session) fn recording(&self) -> Recording<'_> {
        Recording {
            session: self.id,
            listener: &self.house.listener,
            principal: &self.principal,
            statement: None,
            fingerprint: None,
            challenge: None,
            promised_rows: None,
            reason: None,
            parameters: None,
            plain: crate::audit::Plain::Passes,
        }
    }

    async fn finish(mut self, end: End) {
        if let End::Refused(refusal) = &end {
            tracing::warn!(session = %self.id, code = refusal.code.sqlstate(), message = %refusal.message, "session ended by Sluice");
            self.link.client.send(message::error(refusal, Severity::Fatal));
        }
        tracing::debug!(session = %self.id, ?end, "session ends");
        let closing = async {
            self.link.client.close().await;
            self.link.close_upstream().await;
        };
        let _ = tokio::time::timeout(Duration::from_secs(5), closing).await;
        let _ = self.house.recorder.logout(self.id, &self.house.listener, &self.principal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of<A, F: Future>(_: impl FnOnce(A) -> F) -> usize {
        std::mem::size_of::<F>()
    }

    #[test]
    fn a_session_that_waits_is_small() {
        // Thousands of sessions wait most of the time: what only some statements need is boxed where it begins.
        let sizes = [
            ("visit", size_of(|(house, wire): (Arc<House>, Wire)| visit(house, wire, String::new()))),
            ("run", size_of(|session: &'static mut Session| session.run())),
            (
                "look",
                size_of(|(session, subject): (&'static mut Session, look::Subjected)| session.look(subject, None)),
            ),
            ("session", std::mem::size_of::<Session>()),
        ];
        assert!(sizes[0].1 < 5 << 10, "{sizes:?}");
    }
}
