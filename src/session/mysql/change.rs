//! COM_CHANGE_USER: a login in the middle of a session.
//!
//! The exchange is that of a login, on legs that are there already. The transaction that is open is rolled back by it, and everything else of
//! the session is as after a login.
//!
//! Invariants: the principal is another's as soon as the server said OK, and not before; whatever the server said, nothing is left of the
//! session before. Who is not let in has no session any more with MySQL, which closes it; with MariaDB one is who one was (tried).

use crate::audit::Login as Outcome;
use crate::ground::limits;
use crate::policy::scope::{Principal, Standing};
use crate::protocol::mysql::command::ChangeUser;
use crate::protocol::mysql::exchange::{Exchange, Next, Privacy};
use crate::protocol::mysql::frame::{Packet, packet};
use crate::protocol::mysql::handshake::{self, SCRAMBLE};
use crate::protocol::mysql::response::{self, End as Said};
use crate::protocol::{Code, Housekeeping, Refusal};
use crate::session::End;
use crate::session::link::Listen;
use crate::session::logins::cut;
use crate::session::mysql::arrive::{Names, by_the_database, names_are_whole};
use crate::session::mysql::{Session, login};
use bytes::Bytes;
use zeroize::Zeroizing;

/// What a change of user needs to know of the login before.
#[derive(Debug, Clone, Copy)]
pub(in crate::session) struct Entered {
    pub client: Privacy,
    pub server: Privacy,
    /// Of the last proof: the next one is made with it, unless the server gives another.
    pub scramble: [u8; SCRAMBLE],
    pub collation: u16,
    /// Sluice did not check who it is: the database did, and may check another.
    pub may_change: bool,
}

impl Session {
    pub(in crate::session) async fn change_user(&mut self, change: ChangeUser) -> Result<(), End> {
        if !self.entered.may_change {
            return self.refuse_door("COM_CHANGE_USER").await;
        }
        let collation = change.collation.unwrap_or(self.entered.collation);
        let names = Names { user: &change.user, database: &change.database, collation };
        if let Err(refusal) = names_are_whole(names, self.settings.own_mode().product) {
            self.answer_error(&refusal);
            return Ok(());
        }
        let principal = self.who(&change);
        let within = self.desk.house.login_timeout;
        let exchanging = Box::pin(self.exchange(change));
        let (last, scramble) = match tokio::time::timeout(within, exchanging).await {
            Ok(Ok(ended)) => ended,
            Ok(Err(end)) => {
                if let End::Refused(refusal) = &end {
                    self.note_login(&principal, refused(refusal.code.mysql_sqlstate(), &refusal.message));
                }
                return Err(end);
            }
            Err(_) => {
                self.note_login(&principal, refused("57014", "login timeout"));
                return Err(End::Refused(Refusal::new(Code::LoginRefused, "sluice: login timeout")));
            }
        };
        self.entered = Entered { scramble, collation, ..self.entered };
        self.ended_as(principal, last)
    }

    /// Up to the server's last word, under the number that is due at the client; and the scramble of the proof.
    async fn exchange(&mut self, change: ChangeUser) -> Result<(Packet, [u8; SCRAMBLE]), End> {
        let Entered { client, server, scramble, .. } = self.entered;
        let proof = Zeroizing::new(change.proof.to_vec());
        let begun = Exchange::begin(client, server, change.plugin.as_ref(), &proof, scramble);
        let (exchange, plugin, proof) = begun.map_err(End::Refused)?;
        let mut exchange = exchange.of(login::factors(self.server));
        // The plugin stands behind it: without it the server would not hear which.
        let collation = Some(change.collation.unwrap_or(self.entered.collation));
        let told = ChangeUser { plugin, proof: Bytes::copy_from_slice(&proof), collation, ..change };
        self.say_to_server(&handshake::said_once(0, &[&told.told(self.server)]));
        let mut next_to_server = 1u8;
        for _ in 0..limits::LOGIN_WORDS_MAX {
            let said = match self.hear(exchange.is_clients_turn()).await? {
                Heard::Server(packet) => {
                    next_to_server = packet.sequence().wrapping_add(1);
                    match exchange.server_said(&packet).map_err(End::Refused)? {
                        Next::In | Next::Refused => {
                            return Ok((packet.renumbered(self.sequence), exchange.scramble()));
                        }
                        next => next,
                    }
                }
                Heard::Client(packet) => {
                    let keys =
                        if exchange.wants_keys() { Some(login::keys().await.map_err(End::Refused)?) } else { None };
                    exchange.client_said(packet.payload(), keys).map_err(End::Refused)?
                }
            };
            match said {
                Next::ToClient(words) => {
                    self.link.client.send(Packet::new(self.sequence, &words).into_bytes());
                    self.sequence = self.sequence.wrapping_add(1);
                }
                Next::ToServer(words) => self.say_to_server(&handshake::said_once(next_to_server, &[&words])),
                Next::In | Next::Refused => {}
            }
        }
        Err(End::Refused(login::lost("it did not come to an end with the login")))
    }

    /// Whoever speaks next; the client only where it is its turn.
    async fn hear(&mut self, is_clients_turn: bool) -> Result<Heard, End> {
        let unreadable = |malformed| End::Refused(Refusal::new(Code::Protocol, format!("sluice: {malformed}")));
        loop {
            if let Some(packet) = packet(self.link.answers(), limits::LOGIN_PACKET_BYTES_MAX).map_err(unreadable)? {
                return Ok(Heard::Server(packet));
            }
            if is_clients_turn {
                let inbox = &mut self.link.client.inbox;
                if let Some(packet) = packet(inbox, limits::LOGIN_PACKET_BYTES_MAX).map_err(unreadable)? {
                    if packet.sequence() != self.sequence {
                        return Err(End::Refused(Refusal::new(Code::Protocol, "sluice: packets out of order")));
                    }
                    self.sequence = self.sequence.wrapping_add(1);
                    return Ok(Heard::Client(packet));
                }
                if self.link.client.ended {
                    return Err(End::Client);
                }
            }
            if self.link.upstream_ended() {
                return Err(End::Upstream);
            }
            let listen = if is_clients_turn { Listen::Both } else { Listen::Upstream };
            let woke = self.link.wait(listen).await;
            self.woke(woke)?;
        }
    }

    /// The server's last word is passed on, and the session is another's.
    fn ended_as(&mut self, principal: Principal, last: Packet) -> Result<(), End> {
        let packet = last.into_bytes();
        let end = response::read_end(&packet, self.server)
            .map_err(|_| End::Refused(login::lost("the end of the login cannot be read")))?;
        if let Said::Failed(failure) = &end {
            let (sqlstate, why) = by_the_database(failure);
            self.note_login(&principal, refused(sqlstate, &why));
            self.link.client.send(packet);
            self.let_go();
            return Ok(());
        }
        self.note_login(&principal, Outcome::Accepted);
        self.let_go();
        self.desk.principal = principal;
        self.desk.standing = Standing::default();
        self.note_status(&end, &packet);
        let told = self.as_the_client_can(packet, &end);
        self.link.client.send(told);
        Ok(())
    }

    /// Whoever it is now, nothing is left of what was before: the transaction is rolled back, and the rest is as after a login.
    fn let_go(&mut self) {
        if !self.desk.runs.is_empty() {
            let committed = !self.in_transaction();
            self.desk.close_runs(committed);
        }
        self.was_reset();
        self.transaction_ended();
        self.status &= !response::status::IN_TRANSACTION;
    }

    fn say_to_server(&mut self, packet: &[u8]) {
        self.link.housekeep(Housekeeping::Login, Bytes::copy_from_slice(packet));
    }

    fn who(&self, change: &ChangeUser) -> Principal {
        let name = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let told = change.attributes.as_deref().and_then(|attributes| handshake::attribute(attributes, "program_name"));
        Principal {
            user: name(&change.user),
            database: name(&change.database),
            address: self.desk.principal.address.clone(),
            application: cut(&told.unwrap_or_default(), limits::APPLICATION_BYTES_MAX),
        }
    }

    fn note_login(&self, principal: &Principal, outcome: Outcome<'_>) {
        let (house, id) = (&self.desk.house, self.desk.id);
        if let Err(error) = house.recorder.login(Some(id), &house.listener, principal, outcome) {
            tracing::error!(session = %id, %error, "a login could not be recorded");
        }
    }
}

enum Heard {
    Server(Packet),
    Client(Packet),
}

fn refused<'a>(sqlstate: &'static str, why: &'a str) -> Outcome<'a> {
    Outcome::Refused { sqlstate, why }
}
