//! From an accepted socket to a session that may begin: room in the lobby, the first packets, what they ask for judged, the login,
//! and a line about it in the record.
//!
//! Invariants: who has not logged in holds a place in the lobby and no seat; each login is noted ([`crate::session::logins`]); of what a
//! stranger sent, values of settings and options are not shown.

use crate::audit::Login;
use crate::ground::ids::SessionId;
use crate::ground::limits;
use crate::policy::scope::{Principal, Standing};
use crate::policy::{self, finding::Level};
use crate::protocol::postgres::handshake::Startup;
use crate::protocol::postgres::message::{self, Severity};
use crate::protocol::{Code, Refusal};
use crate::session::House;
use crate::session::desk;
use crate::session::door::{self, Demands, Door};
use crate::session::link::Leg;
use crate::session::lobby::Full;
use crate::session::logins::{LEFT, Logins, cut};
use crate::session::place::Peer;
use crate::session::postgres::admit::{Arrival, admit};
use crate::session::postgres::enter;
use crate::session::postgres::login::{self, Arrived, LoggedIn, Turned, Visit};
use crate::session::wire::Wire;
use crate::sql::facts::{Facts, Kind, SettingChange, SettingScope};
use std::time::Duration;

/// Somebody who is in.
pub(in crate::session) struct Admitted {
    pub id: SessionId,
    pub principal: Principal,
    pub logged_in: LoggedIn,
    /// `sluice.script` was set by the startup packet.
    pub scripted: bool,
}

/// `None`: it came for something else, or was sent away, or left.
pub(in crate::session) async fn arrive(house: &House, wire: Wire, peer: Peer) -> Option<Box<Admitted>> {
    let arrival = Arriving { house, peer: &peer, logins: Logins { house, peer: &peer } };
    let stay = match house.lobby.enter(&peer.place, house.clock.instant()) {
        Ok(stay) => stay,
        Err(full) => {
            arrival.logins.note_crowd(match full {
                Full::Place => "too many connections from this address are logging in",
                Full::House => "too many connections are logging in",
            });
            let refusal = Refusal::new(Code::TooMany, "sluice: sorry, too many clients are logging in already");
            send_away(Leg::new(wire), &refusal).await;
            return None;
        }
    };
    tokio::select! {
        admitted = arrival.open(wire) => admitted,
        () = stay.is_over() => {
            arrival.logins.note_crowd("it took its time to log in, and others needed the room");
            None
        }
    }
}

struct Arriving<'a> {
    house: &'a House,
    peer: &'a Peer,
    logins: Logins<'a>,
}

impl Arriving<'_> {
    /// What it came for.
    async fn open(&self, wire: Wire) -> Option<Box<Admitted>> {
        let (house, address) = (self.house, &self.peer.address);
        // The same door to the end of the login: SCRAM binds to the certificate that was shown.
        let door = house.door.load_full();
        let acceptor = door.tls.as_ref().map(|shown| &shown.acceptor);
        let received = tokio::time::timeout(house.login_timeout, login::receive(wire, acceptor)).await;
        match received {
            Ok(Ok(Visit::Login(client, startup))) => return self.log_in(&door, client, startup).await,
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
        None
    }

    async fn log_in(&self, door: &Door, client: Leg, startup: Startup) -> Option<Box<Admitted>> {
        let house = self.house;
        let Ok(id) = SessionId::new(house.clock.now()) else {
            send_away(client, &Refusal::new(Code::CannotKnow, "sluice: no randomness for a session id")).await;
            return None;
        };
        let principal = principal(&startup, &self.peer.address);
        if let Err((refusal, why)) = self.may_try(door, &client, &startup, &principal) {
            self.logins.note(id, &principal, Login::Refused { sqlstate: refusal.code.sqlstate(), why: &why });
            send_away(client, &refusal).await;
            return None;
        }
        let logging_in = Box::pin(async {
            match &door.logins {
                door::Logins::Passthrough => login::relay(client, &startup, &house.target, &house.registry).await,
                door::Logins::Checked(checked) => {
                    let (shown, startup, principal) = (door.tls.as_ref(), &startup, &principal);
                    let place = &self.peer.place;
                    admit(Arrival { house, shown, checked, startup, principal, place }, client, &house.registry).await
                }
            }
        });
        let (sqlstate, why, turned) = match tokio::time::timeout(house.login_timeout, logging_in).await {
            Ok(Ok(Arrived::In(logged_in))) => {
                self.logins.note(id, &principal, Login::Accepted);
                let settings = startup.settings();
                let scripted = settings.iter().any(|(name, _)| name.eq_ignore_ascii_case("sluice.script"));
                return Some(Box::new(Admitted { id, principal, logged_in: *logged_in, scripted }));
            }
            Ok(Ok(Arrived::SentAway(error))) => {
                let (sqlstate, why) = by_the_database(&enter::said(&error));
                (sqlstate, why, None)
            }
            Ok(Ok(Arrived::Left)) => (LEFT, "the client left before it was in".to_owned(), None),
            Ok(Err(Turned { client, refusal, why })) => (refusal.code.sqlstate(), why, Some((client, refusal))),
            Err(_) => {
                if let door::Logins::Checked(checked) = &door.logins {
                    house.tries.gave_up(&checked.bounds, &self.peer.place, house.clock.instant());
                }
                ("57014", "login timeout".to_owned(), None)
            }
        };
        self.logins.note(id, &principal, Login::Refused { sqlstate, why: &why });
        if let Some((client, refusal)) = turned {
            send_away(client, &refusal).await;
        }
        None
    }

    /// What is refused before anybody is asked for a proof: what the client is told, and what the operator is.
    fn may_try(
        &self,
        door: &Door,
        client: &Leg,
        startup: &Startup,
        principal: &Principal,
    ) -> Result<(), (Refusal, String)> {
        if door.demands == Demands::Tls && !client.wire().is_tls() {
            let refusal = Refusal::new(Code::LoginRefused, "sluice: the connection requires TLS");
            return Err(plainly(refusal.hint("Say sslmode=require (or verify-full) in the client.")));
        }
        let passed_on = matches!(door.logins, door::Logins::Passthrough);
        if self.house.registry.is_full() {
            return Err(plainly(login::no_seat()));
        }
        if passed_on && principal.user.len().max(principal.database.len()) > limits::USER_NAME_BYTES_MAX {
            // Some servers cut it to another's name, which the policy would not have seen.
            let message =
                format!("sluice: a user's or database's name of more than {} bytes", limits::USER_NAME_BYTES_MAX);
            return Err(plainly(Refusal::new(Code::LoginRefused, message)));
        }
        judge_startup(self.house, startup, principal)
    }
}

/// How the record calls what the database said no with. Of errors about logging in (auth.c, postinit.c) it repeats the words, which
/// hold names at most; of others the code alone, as they may hold the value of a setting.
fn by_the_database(said: &str) -> (&'static str, String) {
    let about_logins = ["28P01", "28000", "3D000", "53300", "57P03"];
    match about_logins.into_iter().find(|code| said.starts_with(code)) {
        Some(code) => (code, format!("by the database: {said}")),
        None => ("28000", format!("by the database: {}", said.get(..5).unwrap_or_default())),
    }
}

fn principal(startup: &Startup, address: &str) -> Principal {
    let user = startup.parameter("user").unwrap_or_default().to_owned();
    let database = startup.parameter("database").filter(|name| !name.is_empty()).unwrap_or(&user).to_owned();
    let application = cut(startup.parameter("application_name").unwrap_or_default(), limits::APPLICATION_BYTES_MAX);
    Principal { user, database, address: address.to_owned(), application }
}

/// Replication is another protocol; settings made at the start are judged as SET would be.
fn judge_startup(house: &House, startup: &Startup, principal: &Principal) -> Result<(), (Refusal, String)> {
    if startup.wants_replication() {
        return Err(plainly(desk::denial(&policy::refuse_door("the replication protocol"))));
    }
    if let Some(word) = startup.unread_option() {
        let shown: String = word.chars().take(60).collect();
        let refusal = Refusal::new(Code::LoginRefused, format!("sluice: the startup option {shown:?} is not read"));
        let why = format!("the startup option {} is not read", without_value(&word));
        return Err((refusal.hint("Write it as -c name=value."), why));
    }
    let settings = startup.settings();
    let change = |(name, value): &(String, String)| SettingChange {
        name: name.clone(),
        value: Some(value.clone()),
        scope: SettingScope::Session,
    };
    let facts = Facts { kind: Kind::Set, settings: settings.iter().map(change).collect(), ..Facts::default() };
    let mut standing = Standing::default();
    let policy = house.policy.load();
    let effective = standing.get(&policy, principal, house.clock.now());
    let verdict = policy::judge(&facts, &Default::default(), effective, &Default::default());
    if verdict.in_force() <= Level::Warn {
        return Ok(());
    }
    let rules = verdict.judged().iter().map(|judged| judged.finding.rule).collect::<Vec<_>>().join(", ");
    let names = settings.iter().map(|(name, _)| name_of_setting(name)).collect::<Vec<_>>().join(", ");
    Err((desk::denial(&verdict), format!("denied by {rules}; settings made at the start: {names}")))
}

/// The operator is told what the client is.
fn plainly(refusal: Refusal) -> (Refusal, String) {
    let why = refusal.message.clone();
    (refusal, why)
}

/// A word of `options` without what may be a secret in it: all that is behind its name.
fn without_value(word: &str) -> String {
    match word.split_once('=') {
        Some((name, _)) if name.starts_with('-') => format!("{}=…", name_of_setting(name)),
        None if word.starts_with('-') && word.len() <= 3 => name_of_setting(word).to_owned(),
        _ => "…".to_owned(),
    }
}

/// A setting's name, if it is one: whatever else stands in its place may be a value.
fn name_of_setting(name: &str) -> &str {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b' ');
    if name.len() <= limits::USER_NAME_BYTES_MAX && name.bytes().all(fits) { name } else { "…" }
}

async fn send_away(mut leg: Leg, refusal: &Refusal) {
    leg.send(message::error(refusal, Severity::Fatal));
    let _ = tokio::time::timeout(Duration::from_secs(5), leg.close()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        for (word, expected) in [
            ("-ec session_replication_role=replica", "-ec session_replication_role=…"),
            ("-O", "-O"),
            ("-hunter2", "…"),
            ("hunter2", "…"),
            ("password=hunter2", "…"),
            ("-c\u{1}hunter2=1", "…=…"),
        ] {
            assert_eq!(without_value(word), expected, "{word}");
        }
    }

    #[test]
    fn the_database_is_quoted_where_it_speaks_of_logins() {
        for (said, expected) in [
            (
                "28P01 password authentication failed",
                ("28P01", "by the database: 28P01 password authentication failed"),
            ),
            ("22023 invalid value for parameter \"a.b\": \"hunter2\"", ("28000", "by the database: 22023")),
            ("", ("28000", "by the database: ")),
        ] {
            assert_eq!(by_the_database(said), (expected.0, expected.1.to_owned()));
        }
    }
}
