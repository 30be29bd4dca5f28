//! *Direct = through*: the same script of bytes, once straight to the server and once through Sluice, each on its own copy of
//! one database; every message that comes back must be the same, byte for byte.
//!
//! Invariant: only what differs between any two connections is masked ([`Message::masked`]).

use super::message::Message;
use super::server::{Database, Server, TRUSTED};
use super::sluice::{Setup, Sluice};
use super::wire::{Address, Wire};

/// Where a script runs, and what it heard there.
pub struct Place {
    pub address: Address,
    pub database: String,
    transcript: Vec<(&'static str, Vec<Message>)>,
}

impl Place {
    /// A trusted user's connection; hand it back with [`Place::keep`].
    pub fn connect(&self) -> Wire {
        Wire::login(&self.address, TRUSTED, &self.database)
    }

    pub fn open(&self) -> Wire {
        Wire::open(&self.address)
    }

    /// Everything this connection heard becomes part of the comparison.
    pub fn keep(&mut self, name: &'static str, wire: Wire) {
        self.transcript.push((name, wire.heard.into_iter().map(Message::masked).collect()));
    }
}

/// Runs `script` in both places, after `setup` in each of their databases.
pub fn direct_is_through(server: &'static Server, setup: &str, script: impl Fn(&mut Place)) {
    compare(server, setup, |setup| setup, script);
}

pub fn compare(server: &'static Server, setup: &str, configure: impl Fn(Setup) -> Setup, script: impl Fn(&mut Place)) {
    let here = server.database(setup);
    let there = server.copy_of(&here);
    let sluice = configure(Setup::before(&there)).start();
    let direct = run(&here, server.tcp(), &script);
    let through = run(&there, sluice.address.clone(), &script);
    assert_same(&direct, &through);
    drop(sluice);
}

/// The most common script: these bytes after each other on one connection, each answered up to ReadyForQuery.
pub fn direct_is_through_for(server: &'static Server, setup: &str, requests: &[Vec<u8>]) {
    direct_is_through(server, setup, |place| {
        let mut wire = place.connect();
        for request in requests {
            wire.send(request);
            wire.until_ready();
        }
        place.keep("client", wire);
    });
}

fn run(database: &Database, address: Address, script: &impl Fn(&mut Place)) -> Vec<(&'static str, Vec<Message>)> {
    let mut place = Place { address, database: database.name.clone(), transcript: Vec::new() };
    script(&mut place);
    assert!(place.transcript.iter().any(|(_, heard)| !heard.is_empty()), "a comparison of nothing proves nothing");
    place.transcript
}

fn assert_same(direct: &[(&str, Vec<Message>)], through: &[(&str, Vec<Message>)]) {
    assert_eq!(direct.len(), through.len());
    for ((name, direct), (_, through)) in direct.iter().zip(through) {
        let differ = direct.iter().zip(through).position(|(one, other)| one != other);
        let at = differ.unwrap_or(direct.len().min(through.len()));
        let same = differ.is_none() && direct.len() == through.len();
        let around = |heard: &[Message]| format!("{:#?}", &heard[at.saturating_sub(3)..heard.len().min(at + 3)]);
        assert!(same, "{name}: message {at} differs\ndirect: {}\nthrough: {}", around(direct), around(through));
    }
}

/// A started Sluice and its database, for stories that need no comparison.
pub fn gate(server: &'static Server, setup: &str) -> (Database, Sluice) {
    let database = server.database(setup);
    let sluice = Sluice::before(&database);
    (database, sluice)
}
