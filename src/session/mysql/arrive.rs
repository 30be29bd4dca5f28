//! From an accepted socket to a session that may begin: room in the lobby, the server met, who comes and as whom, the login, and a line
//! about it in the record.
//!
//! Invariants: who has not logged in holds a place in the lobby and no seat; each login is noted ([`crate::session::logins`]); the name
//! that policy and record see is the name that the server takes it for.

use crate::audit::Login as Outcome;
use crate::ground::ids::SessionId;
use crate::ground::limits;
use crate::policy::scope::Principal;
use crate::protocol::mysql::handshake::{Greeting, Login};
use crate::protocol::mysql::response::{self, End, Failure};
use crate::protocol::{Code, Refusal};
use crate::session::House;
use crate::session::door::{self, Demands, Door};
use crate::session::lobby::Full;
use crate::session::logins::{LEFT, Logins, cut};
use crate::session::mysql::Session;
use crate::session::mysql::admit::{self, Arrival};
use crate::session::mysql::login::{self, Arrived, Came, LoggedIn, Meeting, Met, Side, Turned, Visit};
use crate::session::place::Peer;
use crate::session::wire::Wire;
use crate::sql::statement::{MySqlMode, Product};
use std::sync::Arc;

/// `None`: it left, or was sent away.
pub(in crate::session) async fn arrive(house: &Arc<House>, wire: Wire, peer: &Peer) -> Option<Box<Session>> {
    let logins = Logins { house, peer };
    let stay = match house.lobby.enter(&peer.place, house.clock.instant()) {
        Ok(stay) => stay,
        Err(full) => {
            logins.note_crowd(match full {
                Full::Place => "too many connections from this address are logging in",
                Full::House => "too many connections are logging in",
            });
            let refusal = Refusal::new(Code::TooMany, "sluice: sorry, too many clients are logging in already");
            login::send_away(Side::new(wire), &refusal).await;
            return None;
        }
    };
    let arriving = Arriving { house, peer, logins };
    tokio::select! {
        session = arriving.open(wire) => session,
        () = stay.is_over() => {
            logins.note_crowd("it took its time to log in, and others needed the room");
            None
        }
    }
}

struct Arriving<'a> {
    house: &'a Arc<House>,
    peer: &'a Peer,
    logins: Logins<'a>,
}

impl Arriving<'_> {
    async fn open(&self, wire: Wire) -> Option<Box<Session>> {
        let (house, address) = (self.house, &self.peer.address);
        // The same door to the end of the login.
        let door = house.door.load_full();
        if house.registry.is_full() {
            self.logins.note_crowd(&login::no_seat().message);
            login::send_away(Side::new(wire), &login::no_seat()).await;
            return None;
        }
        let met = self.meet(wire).await;
        let (wire, met) = met?;
        let acceptor = door.tls.as_ref().map(|shown| &shown.acceptor);
        let greeted = match admit::greeting(&door.logins, &met.greeting) {
            Ok(greeted) => greeted,
            Err(refusal) => {
                tracing::error!(%address, message = refusal.message, "nobody can log in");
                login::send_away(Side::new(wire), &refusal).await;
                met.leave().await;
                return None;
            }
        };
        let receiving = login::receive(wire, acceptor, &greeted);
        match tokio::time::timeout(house.login_timeout, receiving).await {
            Ok(Ok(Visit::Login(came))) => return self.log_in(&door, *came, met, &greeted).await,
            Ok(Ok(Visit::Gone)) => {}
            Ok(Err(error)) => tracing::debug!(%address, %error, "connection lost before the login"),
            Err(_) => tracing::debug!(%address, "no login within the timeout"),
        }
        met.leave().await;
        None
    }

    /// The server speaks first: without it a client cannot be greeted.
    async fn meet(&self, wire: Wire) -> Option<(Wire, Met)> {
        let target = &self.house.target;
        let meeting = tokio::time::timeout(target.timeout, login::meet(target)).await;
        let why = match meeting {
            Ok(Ok(Meeting::Met(met))) => return Some((wire, *met)),
            Ok(Ok(Meeting::SentAway(error))) => {
                let failure = response::read_failure(error.payload()).ok();
                let said = failure.map(|failure| failure.message).unwrap_or_default();
                tracing::warn!(address = %self.peer.address, said, "the database takes nobody");
                Side::new(wire).say_last(&error.into_bytes()).await;
                return None;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer within the connect timeout".to_owned(),
        };
        let message = format!("sluice: cannot reach the database at {}: {why}", target.address);
        tracing::warn!(address = %self.peer.address, message);
        login::send_away(Side::new(wire), &Refusal::new(Code::Upstream, message)).await;
        None
    }

    async fn log_in(&self, door: &Door, came: Came, met: Met, greeted: &Greeting) -> Option<Box<Session>> {
        let house = self.house;
        let Ok(id) = SessionId::new(house.clock.now()) else {
            let refusal = Refusal::new(Code::CannotKnow, "sluice: no randomness for a session id");
            came.send_away(&refusal).await;
            met.leave().await;
            return None;
        };
        let principal = principal(&came.login, &self.peer.address);
        if let Err(refusal) = self.may_try(door, &came, &met.greeting) {
            let (sqlstate, why) = (refusal.code.mysql_sqlstate(), &refusal.message);
            self.logins.note(id, &principal, Outcome::Refused { sqlstate, why });
            came.send_away(&refusal).await;
            met.leave().await;
            return None;
        }
        let entering = Box::pin(async {
            match &door.logins {
                door::Logins::Passthrough => login::enter(came, met, &house.target, &house.registry).await,
                door::Logins::Checked(checked) => {
                    let place = &self.peer.place;
                    let arrival = Arrival { house, checked, principal: &principal, place, greeted };
                    admit::admit(arrival, came, met).await
                }
            }
        });
        let (sqlstate, why, turned) = match tokio::time::timeout(house.login_timeout, entering).await {
            Ok(Ok(Arrived::In(mut logged_in))) => {
                logged_in.entered.may_change = matches!(door.logins, door::Logins::Passthrough);
                self.logins.note(id, &principal, Outcome::Accepted);
                return Some(Box::new(session(house, id, principal, *logged_in)));
            }
            Ok(Ok(Arrived::SentAway(failure))) => {
                let (sqlstate, why) = by_the_database(&failure);
                (sqlstate, why, None)
            }
            Ok(Ok(Arrived::Left)) => (LEFT, "the client left before it was in".to_owned(), None),
            Ok(Err(Turned { client, refusal, why })) => (refusal.code.mysql_sqlstate(), why, Some((client, refusal))),
            Err(_) => {
                if let door::Logins::Checked(checked) = &door.logins {
                    house.tries.gave_up(&checked.bounds, &self.peer.place, house.clock.instant());
                }
                ("57014", "login timeout".to_owned(), None)
            }
        };
        self.logins.note(id, &principal, Outcome::Refused { sqlstate, why: &why });
        if let Some((client, refusal)) = turned {
            login::send_away(client, &refusal).await;
        }
        None
    }

    /// What is refused before the server hears of it.
    fn may_try(&self, door: &Door, came: &Came, greeting: &Greeting) -> Result<(), Refusal> {
        let refused = |message: &str| Refusal::new(Code::LoginRefused, message);
        if door.demands == Demands::Tls && !came.wire().is_tls() {
            let refusal = refused("sluice: the connection requires TLS");
            return Err(refusal.hint("Say --ssl-mode=REQUIRED (or --ssl of MariaDB's clients)."));
        }
        let database = came.login.database.clone().unwrap_or_default();
        let collation = u16::from(came.login.collation);
        names_are_whole(Names { user: &came.login.user, database: &database, collation }, product(greeting))
    }
}

/// What a client calls itself, in the character set of this collation.
#[derive(Clone, Copy)]
pub(in crate::session) struct Names<'a> {
    pub user: &'a [u8],
    pub database: &'a [u8],
    pub collation: u16,
}

/// A name that the server would cut, unquote or convert would be judged as one and let in as another.
pub(in crate::session) fn names_are_whole(names: Names<'_>, product: Product) -> Result<(), Refusal> {
    let longest = if product == Product::MariaDb { 128 } else { 32 };
    for (what, name, most) in [("user", names.user, longest), ("database", names.database, 64)] {
        let refused = |why: &str| {
            let message = format!("sluice: the {what}'s name {why}");
            Err(Refusal::new(Code::LoginRefused, message))
        };
        if !name.is_ascii() && !is_utf8(names.collation, product) {
            return refused("is not in UTF-8: set the client's character set to utf8mb4");
        }
        let Ok(text) = std::str::from_utf8(name) else { return refused("is not UTF-8") };
        if is_swe7(names.collation) && text.contains(|c| "@[\\]^`{|}~".contains(c)) {
            return refused("has marks that are letters in swe7: set the client's character set to utf8mb4");
        }
        if text.chars().count() > most {
            return refused(&format!("has more than {most} characters"));
        }
        // Servers take these off.
        if text.len() > 1 && text.starts_with('\'') && text.ends_with('\'') {
            return refused("stands in quotes");
        }
    }
    Ok(())
}

/// The collations of utf8mb3 and utf8mb4 (`SHOW COLLATION` of MySQL 9.7 and MariaDB 10.11). Those that only MySQL has MariaDB takes for latin1.
fn is_utf8(collation: u16, product: Product) -> bool {
    let shared = matches!(collation, 33 | 45 | 46 | 76 | 83 | 192..=215 | 223..=247);
    shared || product != Product::MariaDb && matches!(collation, 255..=323)
}

/// ASCII, but for ten letters of Swedish.
fn is_swe7(collation: u16) -> bool {
    matches!(collation, 10 | 82)
}

fn product(greeting: &Greeting) -> Product {
    if greeting.server().is_mariadb { Product::MariaDb } else { Product::MySql }
}

fn principal(login: &Login, address: &str) -> Principal {
    let name = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Principal {
        user: name(&login.user),
        database: login.database.as_deref().map(name).unwrap_or_default(),
        address: address.to_owned(),
        application: cut(&login.attribute("program_name").unwrap_or_default(), limits::APPLICATION_BYTES_MAX),
    }
}

fn session(house: &Arc<House>, id: SessionId, principal: Principal, logged_in: LoggedIn) -> Session {
    let LoggedIn { client, upstream, agreed, asked, okay, end, greeting, entered, seat } = logged_in;
    let mut mode = MySqlMode::of(product(&greeting), greeting.server().version);
    mode.ignore_space = asked.has(crate::protocol::mysql::capabilities::Capabilities::IGNORE_SPACE);
    let status = end.status().unwrap_or_default();
    let legs = (client, upstream);
    let mut session = Session::new(house.clone(), id, principal, legs, (agreed, asked), status, seat, mode, entered);
    // It may say what the session's settings are.
    if matches!(end, End::Okay(_)) {
        session.note_status(&end, &okay);
    }
    session
}

/// How the record calls what the database said no with. Of errors about logging in it repeats the words, which hold names at most; of
/// others the number alone.
pub(in crate::session) fn by_the_database(failure: &Failure) -> (&'static str, String) {
    let sqlstate = ["28000", "42000", "08004"].into_iter().find(|state| *state == failure.sqlstate).unwrap_or("28000");
    // Too many connections, no right to the database, access denied, no such database, host blocked, host not allowed, user's limits,
    // old proofs, unknown plugin, password expired, account locked, TLS required, blocked for wrong tries.
    const ABOUT_LOGINS: &[u16] =
        &[1040, 1044, 1045, 1049, 1129, 1130, 1203, 1226, 1251, 1275, 1524, 1698, 1820, 1862, 3118, 3159, 3955, 4151];
    let why = match ABOUT_LOGINS.contains(&failure.errno) {
        true => format!("by the database: {} {}", failure.errno, failure.message),
        false => format!("by the database: {}", failure.errno),
    };
    (sqlstate, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_a_server_takes_for_another_is_refused() {
        let long = "x".repeat(33);
        for (user, collation, product, expected) in [
            ("root", 8, Product::MySql, true),
            ("", 8, Product::MySql, true),
            ("'root'", 8, Product::MySql, false),
            ("'", 8, Product::MySql, true),
            ("zoë", 255, Product::MySql, true),
            ("zoë", 8, Product::MySql, false),
            (&long[..], 45, Product::MySql, false),
            (&long[..], 45, Product::MariaDb, true),
            (&long[..32], 45, Product::MySql, true),
        ] {
            let names = Names { user: user.as_bytes(), database: b"shop", collation };
            assert_eq!(names_are_whole(names, product).is_ok(), expected, "{user} {collation} {product:?}");
        }
    }
}
