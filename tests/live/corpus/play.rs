//! Plays a case's session at an address, as a client that goes on after errors, and keeps what it heard.
//!
//! Invariant: the same bytes are sent wherever it is played, but for the names that the place itself has; a step that the other
//! side ended the connection in is followed by the next one on a new connection.

use super::format::{Action, Case, Step, folder};
use super::state::State;
use crate::harness::message::{self, Message};
use crate::harness::server::{SUPERUSER, Server, TRUSTED};
use crate::harness::tool::{Said, Tool};
use crate::harness::wire::{Address, Wire};
use std::collections::BTreeMap;

/// Where a case is played.
pub struct Place<'a> {
    pub server: &'static Server,
    pub address: &'a Address,
    pub database: &'a str,
    /// For files that programs write.
    pub folder: &'a std::path::Path,
}

/// What came back, in order.
#[derive(Debug, PartialEq)]
pub enum Heard {
    Messages(Vec<Message>),
    Said(Said),
}

impl Heard {
    /// The codes of errors: of Sluice's own, when a program printed them, what is known is that they were.
    pub fn codes(&self) -> Vec<String> {
        match self {
            Heard::Messages(messages) => {
                let errors = messages.iter().filter(|message| message.tag == b'E');
                errors.map(|error| error.fields().remove(&'C').unwrap_or_default()).collect()
            }
            Heard::Said(said) => {
                let lines = said.out.lines().chain(said.err.lines()).filter(|line| line.contains("sluice: "));
                lines
                    .map(|line| {
                        ["SL003", "SL004", "SL007"]
                            .into_iter()
                            .find(|code| line.contains(code))
                            .unwrap_or("SL001")
                            .to_owned()
                    })
                    .collect()
            }
        }
    }
}

struct Player<'a> {
    place: &'a Place<'a>,
    user: &'a str,
    sessions: BTreeMap<String, Wire>,
    current: String,
    parameters: Vec<(String, String)>,
    heard: Vec<Heard>,
    meanwhile: Vec<(State, State)>,
}

/// What was heard, and the states before and after each thing that was done straight meanwhile.
pub struct Played {
    pub heard: Vec<Heard>,
    pub meanwhile: Vec<(State, State)>,
}

pub fn play(case: &Case, place: &Place) -> Played {
    let user = case.user.as_deref().unwrap_or(TRUSTED);
    let current = "first".to_owned();
    let mut player = Player {
        place,
        user,
        sessions: BTreeMap::new(),
        current,
        parameters: Vec::new(),
        heard: Vec::new(),
        meanwhile: Vec::new(),
    };
    for step in &case.steps {
        player.step(step);
    }
    Played { heard: player.heard, meanwhile: player.meanwhile }
}

/// The role that runs a case's setup and session: named in the case, or the owner of everything.
pub fn prepare(case: &Case, place: &Place) {
    if case.setup.is_empty() {
        return;
    }
    let user = if case.user.is_some() { SUPERUSER } else { TRUSTED };
    let mut wire = Wire::login(&place.server.tcp(), user, place.database);
    for sql in &case.setup {
        wire.simple(&place.fill(sql)).expect_fine(&case.name);
    }
}

impl Place<'_> {
    /// `{db}`, `{port}` and `{folder}` are the place's own.
    fn fill(&self, text: &str) -> String {
        text.replace("{db}", self.database)
            .replace("{port}", &self.server.port.to_string())
            .replace("{folder}", &self.folder.display().to_string())
    }

    fn fill_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.fill(text).into_bytes(),
            Err(_) => bytes.to_vec(),
        }
    }

    pub fn port(&self) -> u16 {
        let Address::Tcp(address) = self.address else { panic!("programs are pointed at a port") };
        address.port()
    }
}

impl Player<'_> {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Simple { text, times } => {
                for n in 1..=*times {
                    let mut text = self.place.fill_bytes(text);
                    if *times > 1 {
                        text = String::from_utf8_lossy(&text).replace("{n}", &n.to_string()).into_bytes();
                    }
                    text.push(0);
                    self.exchange(&message::message(b'Q', &text), 1, Unfed::Fail);
                }
            }
            Step::Extended { text, values } => {
                let values: Vec<String> = values.iter().map(|value| self.place.fill(value)).collect();
                let values: Vec<_> = values.iter().map(|value| Some(value.as_bytes())).collect();
                self.exchange(
                    &[message::whole(&self.place.fill(text), &values), message::sync()].concat(),
                    1,
                    Unfed::Leave,
                );
            }
            Step::Wire(actions) => self.by_hand(actions),
            Step::Connect(pairs) => {
                self.parameters = pairs.iter().map(|(name, value)| (name.clone(), self.place.fill(value))).collect();
                self.sessions.remove(&self.current);
                self.wire();
            }
            Step::Session(name) => self.current = name.clone(),
            Step::Straight(sql) => {
                let before = State::with_others_there(self.place.server, self.place.database);
                let mut wire = Wire::login(&self.place.server.tcp(), SUPERUSER, self.place.database);
                wire.simple(&self.place.fill(sql)).expect_fine("what is done straight");
                self.meanwhile.push((before, State::with_others_there(self.place.server, self.place.database)));
            }
            Step::Psql { arguments, script } => {
                let psql = self.program("psql").args(["-X"]).args(arguments.iter().map(|word| self.place.fill(word)));
                let said = psql.input(self.place.fill(script)).run();
                self.heard.push(Heard::Said(said));
            }
            Step::Tool(runs) => {
                for words in runs {
                    let arguments = words[1..].iter().map(|word| self.place.fill(word));
                    let said = self.program(&words[0]).args(arguments).run();
                    self.heard.push(Heard::Said(said));
                }
            }
            Step::Python(script) => {
                let python = Tool::new(Tool::folder().join("python/bin/python"));
                let arguments = [self.place.port().to_string(), self.place.database.to_owned()];
                let said = python.args([folder().join("scripts").join(script)]).args(arguments).run();
                self.heard.push(Heard::Said(said));
            }
        }
    }

    fn program(&self, name: &str) -> Tool {
        Tool::new(self.place.server.bin.join(name))
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.place.port().to_string())
            .env("PGUSER", self.user)
            .env("PGDATABASE", self.place.database)
            .env("PGOPTIONS", "")
    }

    /// The current connection, made if there is none. `None` when it was refused; what was said is kept.
    fn wire(&mut self) -> Option<&mut Wire> {
        if !self.sessions.contains_key(&self.current) {
            let mut wire = Wire::open(self.place.address);
            wire.patience(super::CASE_TIME_MAX);
            let own = [("user", self.user), ("database", self.place.database)];
            let more = self.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let parameters: Vec<_> = own.into_iter().chain(more).collect();
            wire.send(&message::startup(message::PROTOCOL_3_0, &parameters));
            let (messages, open) = read(&mut wire, 1, Unfed::Leave);
            self.heard.push(Heard::Messages(messages));
            if !open {
                return None;
            }
            self.sessions.insert(self.current.clone(), wire);
        }
        self.sessions.get_mut(&self.current)
    }

    /// Sends, and reads up to this many ReadyForQuery.
    fn exchange(&mut self, bytes: &[u8], ready: usize, unfed: Unfed) {
        let Some(wire) = self.wire() else { return };
        let sent = wire.try_send(bytes).is_ok();
        let (messages, open) = read(wire, ready, unfed);
        self.keep(messages, open && sent);
    }

    fn keep(&mut self, messages: Vec<Message>, open: bool) {
        self.heard.push(Heard::Messages(messages));
        if !open {
            self.sessions.remove(&self.current);
        }
    }

    fn by_hand(&mut self, actions: &[Action]) {
        let mut gathered = Vec::new();
        let (mut ready, mut failed) = (0, false);
        for action in actions {
            match action {
                Action::Send(bytes) => {
                    gathered.extend(self.filled(bytes));
                    let ends = matches!(bytes[0], b'Q' | b'S' | b'F');
                    ready += usize::from(ends);
                    failed &= !ends;
                }
                // After an error nothing is answered until there is a Sync.
                Action::Await(_) if failed => {}
                Action::Await(tag) => {
                    let bytes = std::mem::take(&mut gathered);
                    let Some(wire) = self.wire() else { return };
                    let sent = wire.try_send(&bytes).is_ok();
                    let (messages, open) = read_up_to(wire, *tag);
                    failed = messages.iter().any(|message| message.tag == b'E') && ready == 0;
                    ready -= messages.iter().filter(|message| message.tag == b'Z').count().min(ready);
                    self.keep(messages, open && sent);
                }
            }
        }
        self.exchange(&gathered, ready, Unfed::Leave);
    }

    /// Names of the place are filled into whole messages: the length in front follows.
    fn filled(&self, bytes: &[u8]) -> Vec<u8> {
        if bytes.len() <= 5 || !bytes.contains(&b'{') {
            return bytes.to_vec();
        }
        message::message(bytes[0], &self.place.fill_bytes(&bytes[5..]))
    }
}

/// What to do when the server asks for the data of a COPY.
#[derive(PartialEq)]
enum Unfed {
    /// Nothing will come: say so, and the session goes on.
    Fail,
    /// The data was sent along.
    Leave,
}

/// Messages up to this many ReadyForQuery, and whether the connection is still open.
fn read(wire: &mut Wire, ready: usize, unfed: Unfed) -> (Vec<Message>, bool) {
    let (mut messages, mut seen) = (Vec::new(), 0);
    while seen < ready {
        let Some(message) = wire.receive() else { return (messages, false) };
        if message.tag == b'G' && unfed == Unfed::Fail && wire.try_send(&message::copy_fail("no data")).is_err() {
            return (messages, false);
        }
        seen += usize::from(message.tag == b'Z');
        messages.push(message);
    }
    (messages, true)
}

fn read_up_to(wire: &mut Wire, tag: u8) -> (Vec<Message>, bool) {
    let mut messages: Vec<Message> = Vec::new();
    loop {
        let Some(message) = wire.receive() else { return (messages, false) };
        let last = message.tag == tag || message.tag == b'E';
        messages.push(message);
        if last {
            return (messages, true);
        }
    }
}
