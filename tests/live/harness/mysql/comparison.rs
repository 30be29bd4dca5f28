//! *Direct = through* for MySQL: the same script of bytes, once straight to the server and once through Sluice, each in the same
//! database made anew; every packet that comes back must be the same, byte for byte, sequence numbers included.
//!
//! Invariant: nothing is masked behind the login but what the client itself
//! makes equal what two connections cannot have in common: the ids of prepared statements, and scrambles.

use super::login::Login;
use super::packet::Packet;
use super::server::{MyDatabase, MyServer, TRUSTED};
use super::wire::MyWire;
use crate::harness::sluice::{Setup, Sluice};
use crate::harness::wire::Address;

/// Where a script runs, and what it heard there.
pub struct MyPlace {
    pub address: Address,
    pub database: MyDatabase,
    transcript: Vec<(&'static str, Vec<Packet>)>,
}

impl MyPlace {
    /// A trusted user's connection; hand it back with [`MyPlace::keep`].
    pub fn connect(&self) -> MyWire {
        self.connect_asking_for(super::packet::USUAL)
    }

    pub fn connect_asking_for(&self, capabilities: u64) -> MyWire {
        MyWire::login(&self.address, &Login::of(TRUSTED).on(&self.database.name).asking_for(capabilities))
    }

    pub fn login(&self, login: &Login) -> MyWire {
        MyWire::login(&self.address, &login.clone().on(&self.database.name))
    }

    /// Everything this connection heard since its login becomes part of the comparison.
    pub fn keep(&mut self, name: &'static str, wire: MyWire) {
        self.transcript.push((name, wire.heard));
    }
}

/// Runs `script` in both places, each time after `setup`.
pub fn direct_is_through(server: &'static MyServer, setup: &str, script: impl Fn(&mut MyPlace)) {
    compare(server, setup, |setup| setup, script);
}

pub fn compare(
    server: &'static MyServer,
    setup: &str,
    configure: impl Fn(Setup) -> Setup,
    script: impl Fn(&mut MyPlace),
) {
    let database = server.database(setup);
    let direct = run(&database, server.tcp(), &script);
    database.renew(setup);
    let sluice = configure(Setup::before_mysql(server)).start();
    let through = run(&database, sluice.address.clone(), &script);
    assert_same(&direct, &through);
    drop(sluice);
}

/// The most common script: these commands after each other on one connection, each with its answer. Prepared statements are named
/// by the order in which they were made.
pub fn direct_is_through_for(server: &'static MyServer, setup: &str, commands: &[Vec<u8>]) {
    direct_is_through_asking_for(server, setup, super::packet::USUAL, commands);
}

pub fn direct_is_through_asking_for(server: &'static MyServer, setup: &str, capabilities: u64, commands: &[Vec<u8>]) {
    direct_is_through(server, setup, |place| {
        let mut wire = place.connect_asking_for(capabilities);
        for command in commands {
            wire.start_numbered(command);
            wire.answer_to(command[0]);
        }
        place.keep("client", wire);
    });
}

/// A started Sluice and its database, for stories that need no comparison.
pub fn gate(server: &'static MyServer, setup: &str) -> (MyDatabase, Sluice) {
    let database = server.database(setup);
    let sluice = Setup::before_mysql(server).start();
    (database, sluice)
}

fn run(database: &MyDatabase, address: Address, script: &impl Fn(&mut MyPlace)) -> Vec<(&'static str, Vec<Packet>)> {
    let mut place = MyPlace { address, database: database.clone(), transcript: Vec::new() };
    script(&mut place);
    assert!(place.transcript.iter().any(|(_, heard)| !heard.is_empty()), "a comparison of nothing proves nothing");
    place.transcript
}

fn assert_same(direct: &[(&str, Vec<Packet>)], through: &[(&str, Vec<Packet>)]) {
    assert_eq!(direct.len(), through.len());
    for ((name, direct), (_, through)) in direct.iter().zip(through) {
        let differ = direct.iter().zip(through).position(|(one, other)| one != other);
        let at = differ.unwrap_or(direct.len().min(through.len()));
        let same = differ.is_none() && direct.len() == through.len();
        let around = |heard: &[Packet]| format!("{:#?}", &heard[at.saturating_sub(3)..heard.len().min(at + 3)]);
        assert!(same, "{name}: packet {at} differs\ndirect: {}\nthrough: {}", around(direct), around(through));
    }
}
