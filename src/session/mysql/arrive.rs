//! From an accepted socket to a session: the login that the database decides.
//!
//! Invariant: nothing of a session runs before the server said OK.

use crate::ground::ids::SessionId;
use crate::ground::limits;
use crate::policy::scope::Principal;
use crate::protocol::mysql::capabilities::{self, Capabilities};
use crate::protocol::mysql::frame::{Packet, packet};
use crate::protocol::mysql::handshake::{self, Greeting, Opening, Said};
use crate::protocol::mysql::response;
use crate::session::House;
use crate::session::link::Leg;
use crate::session::mysql::Session;
use crate::session::place::Peer;
use crate::session::wire::Wire;
use crate::sql::statement::{MySqlMode, Product};
use std::sync::Arc;

async fn next(leg: &mut Leg) -> Option<Packet> {
    loop {
        if let Some(packet) = packet(&mut leg.inbox, limits::LOGIN_PACKET_BYTES_MAX).ok()? {
            return Some(packet);
        }
        if !leg.fill().await.ok()? {
            return None;
        }
    }
}

/// `None`: it left, or was sent away.
pub(in crate::session) async fn arrive(house: &Arc<House>, wire: Wire, peer: &Peer) -> Option<Box<Session>> {
    let mut client = Leg::new(wire);
    let mut upstream = Leg::new(house.target.dial().await.ok()?);
    let greeting = Greeting::read(next(&mut upstream).await?).ok()?;
    let offered = capabilities::offered(greeting.capabilities, false);
    client.send(greeting.offering(offered));
    client.flush().await.ok()?;
    let Ok(Opening::Login(login)) = handshake::opening(&next(&mut client).await?, offered) else { return None };
    let agreed = capabilities::agreed(login.capabilities, offered);
    let asked = capabilities::asked(agreed, greeting.capabilities, false);
    upstream.send(login.told(1, asked));
    upstream.flush().await.ok()?;
    let status = loop {
        let packet = next(&mut upstream).await?;
        let said = handshake::said(&packet).ok()?;
        let bytes = packet.into_bytes();
        match said {
            Said::In => {
                let end = response::read_end(&bytes, asked).ok()?;
                let status = end.status().unwrap_or_default();
                let to = crate::protocol::mysql::message::To { capabilities: agreed, sequence: bytes.get(3).copied()? };
                client.send(crate::protocol::mysql::message::retold(asked, to, &bytes, &end));
                break status;
            }
            Said::Refused => {
                client.send(bytes);
                client.close().await;
                return None;
            }
            Said::More(ref data) if data.as_ref() == [handshake::sha2::FAST_OK] => client.send(bytes),
            _ => {
                client.send(bytes);
                client.flush().await.ok()?;
                upstream.send(next(&mut client).await?.into_bytes());
                upstream.flush().await.ok()?;
            }
        }
    };
    let id = SessionId::new(house.clock.now()).ok()?;
    let name = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let principal = Principal {
        user: name(&login.user),
        database: login.database.as_deref().map(name).unwrap_or_default(),
        address: peer.address.clone(),
        application: login.attribute("program_name").unwrap_or_default(),
    };
    let seat = house.registry.seat()?;
    let server = greeting.server();
    let product = if server.is_mariadb { Product::MariaDb } else { Product::MySql };
    let mode = MySqlMode::of(product, server.version);
    let legs = (client, upstream);
    let in_force: (Capabilities, Capabilities) = (agreed, asked);
    Some(Box::new(Session::new(house.clone(), id, principal, legs, in_force, status, seat, mode)))
}
