//! One conversation in MySQL's and MariaDB's protocol.
//!
//! Reading order: `relay` the loop; `pipeline` what each command of the client leads to; `settings` what decides how its texts are read;
//! `look` how a statement is read, asked about and judged; `act` what follows: forwarded, refused or carried out; `run` a statement
//! carried out with its commit withheld; `hold` what it and its transaction are held to; `redeem` tokens; `console` the `SLUICE …`
//! commands; `ask` how questions leave no trace, `aftermath` what the client can still ask about its last statement.
//!
//! Invariant: a session ends rather than go on in a state that it does not know.

mod act;
mod admit;
mod aftermath;
mod arrive;
mod ask;
mod batch;
mod batches;
mod carry;
mod change;
mod console;
mod enter;
mod hold;
mod leading;
mod login;
mod look;
mod pipeline;
mod prepared;
mod recall;
mod redeem;
mod rehearse;
mod relay;
mod run;
mod settings;

use crate::ground::ids::SessionId;
use crate::ground::limits;
use crate::ground::metrics::{SESSIONS, SESSIONS_TOTAL};
use crate::policy::scope::Principal;
use crate::protocol::Refusal;
use crate::protocol::mysql::capabilities::Capabilities;
use crate::protocol::mysql::frame::ClientCutter;
use crate::protocol::mysql::message::{self, To};
use crate::protocol::mysql::response::{self, status};
use crate::session::End;
use crate::session::House;
use crate::session::desk::Desk;
use crate::session::link::{Leg, Link, Listen, Woke};
use crate::session::mysql::aftermath::Aftermath;
use crate::session::mysql::change::Entered;
use crate::session::mysql::hold::Tally;
use crate::session::mysql::prepared::{Named, Statements};
use crate::session::mysql::relay::Pending;
use crate::session::mysql::settings::Settings;
use crate::session::place::Peer;
use crate::session::reaching::Reaching;
use crate::session::registry::Seat;
use crate::session::room::Room;
use crate::session::wire::Wire;
use crate::sql::encoding;
use crate::sql::statement::MySqlMode;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// One conversation past its login.
pub(in crate::session) struct Session {
    desk: Desk,
    link: Link,
    cutter: ClientCutter,
    /// What is in force on the leg to the client, and on the one to the server.
    client: Capabilities,
    server: Capabilities,
    /// The sequence number that the answer to the command under way begins with.
    sequence: u8,
    pending: Option<Pending>,
    /// The session's status flags as the server told them last.
    status: u16,
    #[allow(dead_code)] // held for as long as the session lives
    seat: Seat,
    settings: Settings,
    prepared: Statements,
    /// How often the default database was chosen.
    place: u64,
    /// MariaDB, where code can choose another: its name when something was prepared, and whether code ran since.
    place_name: Option<String>,
    place_doubtful: bool,
    /// Texts that were prepared by SQL, by their names in lower case.
    named: Named,
    /// No other names stand for a text: no code ran that could have prepared any.
    names_known: bool,
    /// Its part of what large things of all sessions may take.
    room: Room,
    aftermath: Aftermath,
    tally: Tally,
    /// With autocommit off a savepoint may stand where no transaction is told of yet.
    savepoints: bool,
    /// LOCK TABLES: a transaction of ours would release them.
    locked: bool,
    /// SET TRANSACTION was sent for the very next transaction, and none has begun since for all that is known: a question would use it up.
    once: bool,
    reaching: Reaching,
    /// The account and its roles, as the server told them last; empty: it was not asked yet.
    who: String,
    /// The client was told that cascades are not counted here.
    told_blind: bool,
    entered: Entered,
}

impl Session {
    #[allow(clippy::too_many_arguments)]
    fn new(
        house: Arc<House>,
        id: SessionId,
        principal: Principal,
        (client, upstream): (Leg, Leg),
        (agreed, asked): (Capabilities, Capabilities),
        status: u16,
        seat: Seat,
        mode: MySqlMode,
        entered: Entered,
    ) -> Session {
        Session {
            link: Link::new(client, upstream),
            cutter: ClientCutter::default(),
            client: agreed,
            server: asked,
            sequence: 1,
            pending: None,
            status,
            seat,
            settings: Settings::of(mode),
            prepared: Statements::default(),
            place: 0,
            place_name: None,
            place_doubtful: false,
            named: Named::default(),
            names_known: true,
            room: Room::of(&house.rooms),
            aftermath: Aftermath::default(),
            tally: Tally::default(),
            savepoints: false,
            locked: false,
            once: false,
            reaching: Reaching::new(house.schemas.of("")),
            who: String::new(),
            told_blind: false,
            entered,
            desk: Desk::new(house, id, principal, false),
        }
    }

    async fn finish(mut self, end: End) {
        if let End::Refused(refusal) = &end {
            tracing::warn!(session = %self.desk.id, code = refusal.code.sqlstate(), message = %refusal.message, "session ended by Sluice");
            if self.pending.as_ref().is_none_or(|pending| pending.answer.is_untouched()) {
                let error = message::error(self.to_client(), refusal);
                self.link.client.send(error);
            }
        }
        tracing::debug!(session = %self.desk.id, ?end, "session ends");
        if self.reaching.is_changing() && self.pending.is_some() && !matches!(end, End::Upstream) {
            self.outlast_a_schema_change().await;
        }
        let closing = async {
            self.link.client.close().await;
            self.link.close_upstream().await;
        };
        let _ = tokio::time::timeout(Duration::from_secs(5), closing).await;
        let _ = self.desk.house.recorder.logout(self.desk.id, &self.desk.house.listener, &self.desk.principal);
    }

    /// The client is gone, and the server may still be waiting for a lock before it makes what was asked for: others must hear of it when it
    /// is there.
    async fn outlast_a_schema_change(&mut self) {
        self.link.client.close().await;
        let answered = async {
            loop {
                let Some(pending) = &mut self.pending else { return };
                match pending.answer.step(self.link.answers()) {
                    Ok(step) => {
                        let taken = step.pass + step.packet;
                        let _ = self.link.answers().split_to(step.pass);
                        let _ = self.link.answers().split_to(step.packet);
                        if pending.answer.is_over() {
                            return;
                        }
                        if taken > 0 {
                            continue;
                        }
                    }
                    Err(_) => return,
                }
                if self.link.upstream_ended() {
                    return;
                }
                if let Woke::UpstreamGone(_) | Woke::ClientGone(_) = self.link.wait(Listen::Upstream).await {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(limits::SCHEMA_CHANGE_OUTLASTED, answered).await;
        self.reaching.settle();
        self.desk.house.schemas.touch_all();
    }

    pub(in crate::session) fn in_transaction(&self) -> bool {
        self.status & status::IN_TRANSACTION != 0
    }

    pub(in crate::session) fn autocommits(&self) -> bool {
        self.status & status::AUTOCOMMIT != 0
    }

    /// The server told its status.
    pub(in crate::session) fn take_status(&mut self, told: u16) {
        const LASTING: u16 = status::IN_TRANSACTION
            | status::AUTOCOMMIT
            | status::NO_BACKSLASH_ESCAPES
            | status::IN_READ_ONLY_TRANSACTION;
        self.status = told & LASTING;
        self.settings.note_backslashes(told & status::NO_BACKSLASH_ESCAPES != 0);
    }

    /// What the last packet of a result tells of the session.
    pub(in crate::session) fn note_status(&mut self, end: &response::End, packet: &[u8]) {
        if let Some(told) = end.status() {
            self.take_status(told);
        }
        let response::End::Okay(okay) = end else { return };
        if okay.state.is_empty() {
            return;
        }
        match response::tracked(packet, okay) {
            Ok(changes) => {
                for change in &changes {
                    self.settings.note(change);
                    if let response::Tracked::Schema(name) = change {
                        self.desk.principal.database.clone_from(name);
                        self.desk.cache.clear();
                    }
                }
            }
            // What changed is not known: it is asked.
            Err(_) => self.settings.forget(),
        }
    }

    /// The packet as this client agreed to be told.
    pub(in crate::session) fn as_the_client_can(&self, packet: Bytes, end: &response::End) -> Bytes {
        if self.client.has(Capabilities::SESSION_TRACK) == self.server.has(Capabilities::SESSION_TRACK) {
            return packet;
        }
        // Its status and its warnings may have been set anew since it came.
        let end = response::read_end(&packet, self.server).unwrap_or_else(|_| end.clone());
        let sequence = packet.get(3).copied().unwrap_or(1);
        let to = To { capabilities: self.client, sequence };
        message::retold(self.server, to, &packet, &end)
    }

    /// An answer of ours to the command under way.
    pub(in crate::session) fn to_client(&self) -> To {
        To { capabilities: self.client, sequence: self.sequence }
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
}

/// A connection's life.
pub(in crate::session) async fn visit(house: Arc<House>, wire: Wire, peer: Peer) {
    // Boxed: what logging in needs is given back before the session begins.
    let Some(session) = Box::pin(arrive::arrive(&house, wire, &peer)).await else { return };
    let mut session = *session;
    tracing::debug!(session = %session.desk.id, user = ?session.desk.principal.user, "session begins");
    let listener = session.desk.house.listener.clone();
    metrics::counter!(SESSIONS_TOTAL, "listener" => listener.clone()).increment(1);
    metrics::gauge!(SESSIONS, "listener" => listener.clone()).increment(1);
    let end = session.run().await;
    metrics::gauge!(SESSIONS, "listener" => listener).decrement(1);
    Box::pin(session.finish(end)).await;
}
