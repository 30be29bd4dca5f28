//! One conversation in PostgreSQL's protocol.
//!
//! Reading order: `arrive` all of a connection before a session begins; `login` its first packets and the login that is passed through;
//! `admit` the one that Sluice checks itself (`control` asks the database for it, `enter` is our own login at the database); `relay` its
//! loop; `pipeline` what each message of the client leads to; `look` how a statement is read, asked about and judged; `act` what
//! follows: forwarded, refused or carried out; `redeem` tokens; `run` a statement carried out with its commit withheld; `console` the
//! `SLUICE …` commands; `ask` how questions leave no trace.
//!
//! Invariant: a session ends rather than go on in a state that it does not know.

mod act;
mod admit;
mod arrive;
mod ask;
mod batches;
mod carry;
mod console;
pub mod control;
mod enter;
mod format;
mod hold;
mod large_object;
mod load;
mod login;
mod look;
mod named;
mod objects;
mod pipeline;
mod reaching;
mod redeem;
mod rehearse;
mod relay;
mod removing;
mod reported;
mod run;
mod tell;
mod texts;

use crate::ground::metrics::{SESSIONS, SESSIONS_TOTAL};
use crate::protocol::Refusal;
use crate::protocol::postgres::Conversation;
use crate::protocol::postgres::frame::ClientCutter;
use crate::protocol::postgres::message::{self, Severity};
use crate::session::desk::Desk;
use crate::session::link::Link;
use crate::session::place::Peer;
use crate::session::postgres::arrive::{Admitted, arrive};
use crate::session::postgres::hold::Tally;
use crate::session::postgres::named::Named;
use crate::session::postgres::pipeline::{InFlight, Mark, Pipeline, Portal, Watched};
use crate::session::postgres::reported::Reported;
use crate::session::postgres::texts::Texts;
use crate::session::reaching::Reaching;
use crate::session::registry::Seat;
use crate::session::room::Room;
use crate::session::wire::Wire;
use crate::sql::encoding;
use crate::sql::statement::LexicalMode;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::session::{End, House};

/// One conversation past its login.
pub(in crate::session) struct Session {
    desk: Desk,
    link: Link,
    cutter: ClientCutter,
    talk: Conversation<Mark>,
    seat: Seat,
    settings: Reported,
    prepared: Texts,
    /// Its part of what large things of all sessions may take.
    room: Room,
    /// Parses that were not answered yet, by name; how many were sent, and how many Syncs.
    in_flight: Named<InFlight>,
    parses: u64,
    syncs: u64,
    portals: Named<Portal>,
    /// Named portals of counted changes, bound since the transaction began: whatever becomes of their names here, the server may
    /// still have them, and FETCH runs them too.
    guarded_portals: HashMap<Bytes, Watched>,
    pipeline: Pipeline,
    reaching: Reaching,
    tally: Tally,
    /// Something was sent, since the session was last idle, that changes what names mean (SET, DDL): the end of its transaction may
    /// change it back.
    names_touched: bool,
    /// How many statements of its own may have given a name another meaning.
    name_changes: u64,
    /// In the transaction block that is open, names have come to lead elsewhere: so do cursors that were opened before.
    names_moved: bool,
}

/// A connection's life.
pub async fn visit(house: Arc<House>, wire: Wire, peer: Peer) {
    // Boxed: what logging in needs is given back before the session begins.
    let Some(admitted) = Box::pin(arrive(&house, wire, peer)).await else { return };
    let mut session = Session::new(house, *admitted);
    tracing::debug!(session = %session.desk.id, user = ?session.desk.principal.user, "session begins");
    let listener = session.desk.house.listener.clone();
    metrics::counter!(SESSIONS_TOTAL, "listener" => listener.clone()).increment(1);
    metrics::gauge!(SESSIONS, "listener" => listener.clone()).increment(1);
    let end = session.run().await;
    metrics::gauge!(SESSIONS, "listener" => listener).decrement(1);
    Box::pin(session.finish(end)).await;
}

impl Session {
    fn new(house: Arc<House>, admitted: Admitted) -> Session {
        let Admitted { id, principal, logged_in, scripted } = admitted;
        Session {
            link: Link::new(logged_in.client, logged_in.upstream),
            cutter: logged_in.cutter,
            talk: Conversation::new(logged_in.status),
            settings: Reported::of(&logged_in.settings),
            prepared: Texts::default(),
            room: Room::of(&house.rooms),
            in_flight: Named::default(),
            parses: 0,
            syncs: 0,
            portals: Named::default(),
            guarded_portals: HashMap::new(),
            pipeline: Pipeline::default(),
            reaching: Reaching::new(house.schemas.of(&principal.database)),
            tally: Tally::default(),
            names_touched: false,
            name_changes: 0,
            names_moved: false,
            desk: Desk::new(house, id, principal, scripted),
            seat: logged_in.seat,
        }
    }

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

    async fn finish(mut self, end: End) {
        if let End::Refused(refusal) = &end {
            tracing::warn!(session = %self.desk.id, code = refusal.code.sqlstate(), message = %refusal.message, "session ended by Sluice");
            self.link.client.send(message::error(refusal, Severity::Fatal));
        }
        tracing::debug!(session = %self.desk.id, ?end, "session ends");
        let closing = async {
            self.link.client.close().await;
            self.link.close_upstream().await;
        };
        let _ = tokio::time::timeout(Duration::from_secs(5), closing).await;
        let _ = self.desk.house.recorder.logout(self.desk.id, &self.desk.house.listener, &self.desk.principal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::judgement::Subjected;

    fn size_of<A, F: Future>(_: impl FnOnce(A) -> F) -> usize {
        std::mem::size_of::<F>()
    }

    #[test]
    fn a_session_that_waits_is_small() {
        // Thousands of sessions wait most of the time: what only some statements need is boxed where it begins.
        let sizes = [
            ("visit", size_of(|(house, wire): (Arc<House>, Wire)| visit(house, wire, Peer::unix(None)))),
            ("run", size_of(|session: &'static mut Session| session.run())),
            ("look", size_of(|(session, subject): (&'static mut Session, Subjected)| session.look(subject, None))),
            ("session", std::mem::size_of::<Session>()),
        ];
        assert!(sizes[0].1 < 5 << 10, "{sizes:?}");
    }
}
