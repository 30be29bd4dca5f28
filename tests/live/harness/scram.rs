//! A SCRAM login by hand, its cryptography that of `postgres-protocol`: not the product's own.

use super::message::{self, message};
use super::server::Server;
use super::wire::{Outcome, Wire};
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

/// The whole login, without channel binding; what it ended with.
pub fn log_in(wire: &mut Wire, version: i32, parameters: &[(&str, &str)], password: &str) -> Outcome {
    wire.send(&message::startup(version, parameters));
    wire.until(b'R');
    let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
    wire.send(&first("SCRAM-SHA-256", scram.message()));
    let challenge = wire.until(b'R').messages.pop().expect("it ended with one");
    scram.update(&challenge.body[4..]).expect("a challenge");
    wire.send(&message(b'p', scram.message()));
    wire.until_ready()
}

/// A SASLInitialResponse.
pub fn first(mechanism: &str, data: &[u8]) -> Vec<u8> {
    let mut body = mechanism.as_bytes().to_vec();
    body.push(0);
    body.extend((data.len() as i32).to_be_bytes());
    body.extend(data);
    message(b'p', &body)
}

/// As the database keeps it.
pub fn verifier_of(server: &Server, role: &str) -> String {
    let mut wire = Wire::login(&server.tcp(), super::server::SUPERUSER, "postgres");
    wire.simple(&format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{role}'")).value()
}
