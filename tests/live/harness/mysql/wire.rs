//! A client of MySQL that hides nothing: it sends the bytes it is told to and keeps every packet it hears.
//!
//! Invariant: it never repairs, retries or interprets more than it takes to know where an answer ends; what arrives is what a
//! story sees. Each read has a deadline.

use super::packet::{
    self, CACHE_METADATA, Column, DEPRECATE_EOF, Failure, Fine, OPTIONAL_METADATA, PACKET_MAX, Packet, Rest, command,
    framed, status,
};
use crate::harness::wire::{Address, Wire};

pub struct MyWire {
    stream: Wire,
    held: Vec<u8>,
    /// What both sides agreed to.
    pub capabilities: u64,
    /// Every packet of the login.
    pub greeted: Vec<Packet>,
    /// Every packet since.
    pub heard: Vec<Packet>,
    /// What the next LOCAL INFILE is answered with.
    pub file: Vec<u8>,
    /// The ids of the statements prepared so far. In what was heard they stand as 1, 2, 3: MariaDB counts for all its sessions.
    pub statements: Vec<u32>,
    /// Of the packet that is sent next.
    sequence: u8,
}

/// Everything that one command was answered with.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub answers: Vec<Answer>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// An OK; where the client knows EOF packets, also one of those.
    Fine(Fine),
    Failed(Failure),
    Rows(Rows),
    Prepared {
        id: u32,
        parameters: usize,
        columns: Vec<Column>,
    },
    /// COM_STATISTICS.
    Text(String),
}

#[derive(Debug, PartialEq, Eq)]
pub struct Rows {
    pub columns: Vec<Column>,
    /// Their packets' bodies.
    pub rows: Vec<Vec<u8>>,
    /// How it ended: it may fail behind some rows.
    pub end: Result<Fine, Failure>,
}

impl MyWire {
    /// A bare connection: nothing is read or sent.
    pub fn open(address: &Address) -> MyWire {
        MyWire::over(Wire::open(address))
    }

    pub fn over(stream: Wire) -> MyWire {
        MyWire {
            stream,
            held: Vec::new(),
            capabilities: 0,
            greeted: Vec::new(),
            heard: Vec::new(),
            file: Vec::new(),
            statements: Vec::new(),
            sequence: 0,
        }
    }

    /// After a request for TLS.
    pub fn into_tls(mut self) -> MyWire {
        assert!(self.held.is_empty(), "nothing may be said before TLS: {:?}", self.held);
        self.stream = self.stream.into_tls_as(&[]);
        self
    }

    /// No more will be sent; what comes can still be read.
    pub fn hang_up(&mut self) {
        self.stream.hang_up();
    }

    /// Every byte until the other side closes, outside any packet.
    pub fn stream_bytes(&mut self) -> Vec<u8> {
        self.stream.bytes_until_closed()
    }

    /// Bytes as they are, outside any packet.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.send(bytes);
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.try_send(bytes)
    }

    /// A message that goes on where the other side stopped counting.
    pub fn reply(&mut self, body: &[u8]) {
        self.stream.send(&framed(self.sequence, body));
        let packets = body.len() / PACKET_MAX + 1;
        self.sequence = self.sequence.wrapping_add(packets as u8);
    }

    /// A command, without waiting for its answer.
    pub fn start(&mut self, body: &[u8]) {
        self.stream.send(&framed(0, body));
    }

    /// The same for a statement that the command names by 1, 2 or 3: as the first, second or third that was prepared here.
    pub fn start_numbered(&mut self, body: &[u8]) {
        let mut body = body.to_vec();
        if matches!(
            body[0],
            command::STMT_EXECUTE..=command::STMT_RESET | command::STMT_FETCH | command::STMT_BULK_EXECUTE
        ) {
            let ordinal = Rest(&body[1..]).number(4) as usize;
            if let Some(id) = ordinal.checked_sub(1).and_then(|at| self.statements.get(at)) {
                body[1..5].copy_from_slice(&id.to_le_bytes());
            }
        }
        self.start(&body);
    }

    /// A command and everything it is answered with.
    pub fn command(&mut self, body: &[u8]) -> Outcome {
        self.start(body);
        self.answer_to(body[0])
    }

    pub fn query(&mut self, sql: &str) -> Outcome {
        self.command(&packet::query(sql))
    }

    /// Prepares a statement; its id.
    pub fn prepare(&mut self, sql: &str) -> u32 {
        self.command(&packet::prepare(sql)).prepared()
    }

    /// One statement prepared, run with these values as strings, and closed.
    pub fn prepared(&mut self, sql: &str, values: &[&str]) -> Outcome {
        let outcome = self.command(&packet::prepare(sql));
        let [Answer::Prepared { id, .. }] = outcome.answers[..] else { return outcome };
        let values: Vec<_> = values.iter().map(|value| Some(value.as_bytes())).collect();
        let outcome = self.command(&packet::execute(id, 0, &values));
        self.start(&packet::close(id));
        outcome
    }

    /// The next packet; `None` when the other side closed between packets.
    pub fn receive(&mut self) -> Option<Packet> {
        let length = loop {
            if let Some(head) = self.held.get(..3) {
                let whole = 4 + Rest(head).number(3) as usize;
                if self.held.len() >= whole {
                    break whole;
                }
            }
            let bytes = self.stream.some_bytes();
            if bytes.is_empty() {
                assert!(self.held.is_empty(), "closed within a packet: {}", self.held.escape_ascii());
                return None;
            }
            self.held.extend(bytes);
        };
        let rest = self.held.split_off(length);
        let whole = std::mem::replace(&mut self.held, rest);
        let packet = Packet { sequence: whole[3], body: whole[4..].to_vec() };
        self.sequence = packet.sequence.wrapping_add(1);
        self.heard.push(packet.clone());
        Some(packet)
    }

    /// The next message: packets up to the first that is not full.
    pub fn message(&mut self) -> Option<Vec<u8>> {
        let mut packet = self.receive()?;
        let mut body = Vec::new();
        loop {
            let is_last = packet.body.len() < PACKET_MAX;
            body.append(&mut packet.body);
            if is_last {
                return Some(body);
            }
            packet = self.receive().expect("a long message goes on");
        }
    }

    fn next(&mut self) -> Vec<u8> {
        self.message().unwrap_or_else(|| panic!("closed instead of an answer; heard so far: {:#?}", self.heard))
    }

    /// Everything that a command of this byte is answered with.
    pub fn answer_to(&mut self, command: u8) -> Outcome {
        let answers = match command {
            command::STMT_CLOSE | command::STMT_SEND_LONG_DATA | command::QUIT => Vec::new(),
            command::STMT_PREPARE => vec![self.statement()],
            command::STATISTICS => vec![self.text()],
            command::FIELD_LIST | command::STMT_FETCH => vec![self.only_rows()],
            _ => self.results(),
        };
        Outcome { answers }
    }

    fn results(&mut self) -> Vec<Answer> {
        let mut answers = Vec::new();
        loop {
            let answer = self.result();
            let more = match &answer {
                Answer::Fine(fine) | Answer::Rows(Rows { end: Ok(fine), .. }) => fine.status & status::MORE_RESULTS,
                _ => 0,
            };
            answers.push(answer);
            if more == 0 {
                return answers;
            }
        }
    }

    fn result(&mut self) -> Answer {
        loop {
            let first = self.next();
            match first.as_slice() {
                [0x00, ..] => return Answer::Fine(Fine::read(&first, self.capabilities)),
                // MariaDB tells in an error's form how far it is.
                [0xff, 0xff, 0xff, ..] => {}
                [0xff, ..] => {
                    self.number_the_statement();
                    return Answer::Failed(Failure::read(&first));
                }
                [0xfe, ..] if first.len() == 5 => return Answer::Fine(Fine::eof(&first)),
                [0xfe, ..] => return Answer::Fine(Fine::read(&first, self.capabilities)),
                [0xfb, ..] => self.send_file(),
                _ => return Answer::Rows(self.rows(&first)),
            }
        }
    }

    /// The file that the server asked for, in pieces, and the empty packet behind it.
    fn send_file(&mut self) {
        let file = std::mem::take(&mut self.file);
        let mut sequence = self.sequence;
        for part in file.chunks(100_000) {
            self.stream.send(&framed(sequence, part));
            sequence = sequence.wrapping_add(1);
        }
        self.stream.send(&framed(sequence, &[]));
    }

    fn rows(&mut self, first: &[u8]) -> Rows {
        let mut rest = Rest(first);
        let count = rest.length() as usize;
        let is_told =
            self.capabilities & (OPTIONAL_METADATA | CACHE_METADATA) == 0 || rest.0.is_empty() || rest.byte() == 1;
        let columns = if is_told { self.columns(count) } else { Vec::new() };
        if self.capabilities & DEPRECATE_EOF == 0 {
            let eof = Fine::eof(&self.next());
            if eof.status & status::CURSOR_EXISTS != 0 {
                return Rows { columns, rows: Vec::new(), end: Ok(eof) };
            }
        }
        let (rows, end) = self.rows_to_their_end();
        Rows { columns, rows, end }
    }

    fn columns(&mut self, count: usize) -> Vec<Column> {
        (0..count).map(|_| Column::read(&self.next(), self.capabilities)).collect()
    }

    fn rows_to_their_end(&mut self) -> (Vec<Vec<u8>>, Result<Fine, Failure>) {
        let mut rows = Vec::new();
        loop {
            let body = self.next();
            match body[0] {
                0xff => return (rows, Err(Failure::read(&body))),
                0xfe if body.len() == 5 => return (rows, Ok(Fine::eof(&body))),
                0xfe if body.len() < PACKET_MAX => return (rows, Ok(Fine::read(&body, self.capabilities))),
                _ => rows.push(body),
            }
        }
    }

    fn statement(&mut self) -> Answer {
        let first = self.next();
        if first[0] == 0xff {
            return Answer::Failed(Failure::read(&first));
        }
        let mut rest = Rest(&first[1..]);
        let id = rest.number(4) as u32;
        self.statements.push(id);
        let ordinal = self.statements.len() as u32;
        self.heard.last_mut().expect("just heard").body[1..5].copy_from_slice(&ordinal.to_le_bytes());
        let (columns, parameters) = (rest.number(2) as usize, rest.number(2) as usize);
        rest.take(3);
        let is_told = rest.0.is_empty() || rest.byte() == 1;
        let mut described = Vec::new();
        for count in [parameters, columns].into_iter().filter(|count| is_told && *count > 0) {
            described = self.columns(count);
            if self.capabilities & DEPRECATE_EOF == 0 {
                Fine::eof(&self.next());
            }
        }
        Answer::Prepared { id, parameters, columns: if columns > 0 { described } else { Vec::new() } }
    }

    /// "Unknown prepared statement handler (17) given to …" (1243), "The statement (17) has no open cursor" (1421).
    fn number_the_statement(&mut self) {
        let packet = self.heard.last_mut().expect("just heard");
        if ![1243u16, 1421].iter().any(|code| packet.body[1..3] == code.to_le_bytes()) {
            return;
        }
        let said = String::from_utf8_lossy(&packet.body[3..]).into_owned();
        for (at, id) in self.statements.iter().enumerate() {
            if said.contains(&format!("({id})")) {
                let said = said.replace(&format!("({id})"), &format!("({})", at + 1));
                packet.body.splice(3.., said.into_bytes());
                return;
            }
        }
    }

    fn text(&mut self) -> Answer {
        let said = self.next();
        if said[0] == 0xff {
            return Answer::Failed(Failure::read(&said));
        }
        Answer::Text(String::from_utf8_lossy(&said).into_owned())
    }

    /// Rows of a cursor, or columns with their defaults, up to an end.
    fn only_rows(&mut self) -> Answer {
        match self.rows_to_their_end() {
            (rows, Err(failure)) if rows.is_empty() => {
                self.number_the_statement();
                Answer::Failed(failure)
            }
            (rows, end) => Answer::Rows(Rows { columns: Vec::new(), rows, end }),
        }
    }

    /// Whether the other side closes now, without another packet.
    pub fn is_closed(&mut self) -> bool {
        self.receive().is_none()
    }
}

impl Outcome {
    pub fn expect_fine(&self, what: &str) {
        assert!(self.error().is_none(), "{what}: {:#?}", self.error());
    }

    /// The error; there can be one only, at the end.
    pub fn error(&self) -> Option<&Failure> {
        self.answers.iter().find_map(|answer| match answer {
            Answer::Failed(failure) | Answer::Rows(Rows { end: Err(failure), .. }) => Some(failure),
            _ => None,
        })
    }

    /// The error's number, or 0 when there was none.
    pub fn code(&self) -> u16 {
        self.error().map_or(0, |failure| failure.code)
    }

    pub fn prepared(&self) -> u32 {
        let [Answer::Prepared { id, .. }] = self.answers[..] else { panic!("not prepared: {self:#?}") };
        id
    }

    /// How each of the results ended.
    pub fn ends(&self) -> Vec<&Fine> {
        let ends = self.answers.iter().filter_map(|answer| match answer {
            Answer::Fine(fine) | Answer::Rows(Rows { end: Ok(fine), .. }) => Some(fine),
            _ => None,
        });
        ends.collect()
    }

    /// How the last result ended.
    pub fn end(&self) -> &Fine {
        self.expect_fine("an end");
        self.ends().last().copied().unwrap_or_else(|| panic!("no end: {self:#?}"))
    }

    /// Rows changed, as each of the results tells.
    pub fn affected(&self) -> Vec<u64> {
        self.ends().iter().map(|fine| fine.affected).collect()
    }

    /// The rows of all results, in text form.
    pub fn rows(&self) -> Vec<Vec<Option<String>>> {
        let sets = self.answers.iter().filter_map(|answer| match answer {
            Answer::Rows(rows) => Some(rows),
            _ => None,
        });
        sets.flat_map(|set| set.rows.iter().map(|row| texts(row, set.columns.len()))).collect()
    }

    /// The first column of the first row.
    pub fn value(&self) -> String {
        self.expect_fine("a value");
        let rows = self.rows();
        let value = rows.first().and_then(|row| row.first()).and_then(Clone::clone);
        value.unwrap_or_else(|| panic!("no value in {:#?}", self.answers))
    }

    pub fn columns(&self) -> Vec<String> {
        let sets = self.answers.iter().filter_map(|answer| match answer {
            Answer::Rows(rows) => Some(&rows.columns),
            _ => None,
        });
        sets.flatten().map(|column| column.name.clone()).collect()
    }
}

fn texts(row: &[u8], columns: usize) -> Vec<Option<String>> {
    let mut rest = Rest(row);
    (0..columns).map(|_| rest.value().map(|value| String::from_utf8_lossy(value).into_owned())).collect()
}
