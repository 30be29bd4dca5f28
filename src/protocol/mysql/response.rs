//! What a server's packets belong to: one state machine for the answer to one command, which hops over it by its headers.
//!
//! Rows are not decoded: a run of them is passed on as it stands, and only the packets that end a result are looked into. Those tell
//! what a statement changed, which status the session has now, and which settings of it changed.
//!
//! Invariant: the parts that [`Answer::step`] names are all bytes of the answer, in order, each once; a packet that ends a result is never
//! part of what is passed on before it, so it can be held back. What no server says there is a [`Fault`], and the session ends.
//!
//! Source: MySQL's "Client/Server Protocol", pages "Text Resultset", "COM_STMT_PREPARE Response", "OK_Packet", "EOF_Packet",
//! "ERR_Packet"; MariaDB's "Result Set Packets", "ERR_Packet" (progress reports) and `Protocol::send_result_set_metadata` (10.11).

use crate::ground::limits;
use crate::protocol::cursor::Short;
use crate::protocol::mysql::capabilities::Capabilities;
use crate::protocol::mysql::cursor::Reader;
use crate::protocol::mysql::frame::{HEADER, PART_MAX, declared_length};
use std::ops::Range;

/// Bits of the status that OK and EOF packets carry.
pub mod status {
    pub const IN_TRANSACTION: u16 = 0x0001;
    pub const AUTOCOMMIT: u16 = 0x0002;
    pub const MORE_RESULTS: u16 = 0x0008;
    pub const NO_GOOD_INDEX: u16 = 0x0010;
    pub const NO_INDEX: u16 = 0x0020;
    /// A cursor was opened: rows come when they are fetched.
    pub const CURSOR: u16 = 0x0040;
    pub const LAST_ROW: u16 = 0x0080;
    pub const DATABASE_DROPPED: u16 = 0x0100;
    pub const NO_BACKSLASH_ESCAPES: u16 = 0x0200;
    pub const METADATA_CHANGED: u16 = 0x0400;
    pub const SLOW: u16 = 0x0800;
    pub const OUT_PARAMETERS: u16 = 0x1000;
    pub const IN_READ_ONLY_TRANSACTION: u16 = 0x2000;
    /// What changed in the session follows in the same packet.
    pub const STATE_CHANGED: u16 = 0x4000;
    /// MariaDB: ANSI_QUOTES is in force.
    pub const ANSI_QUOTES: u16 = 0x8000;
}

/// What a command will be answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// COM_QUERY, COM_STMT_EXECUTE, COM_STMT_BULK_EXECUTE, COM_PROCESS_INFO: results, or the wish for a file.
    Results,
    /// COM_STMT_PREPARE.
    Prepared,
    /// COM_STMT_FETCH: rows without their definitions.
    Rows,
    /// COM_FIELD_LIST: definitions, then an end.
    Fields,
    /// COM_STATISTICS: one text.
    Text,
    /// An end and nothing before it: COM_PING, COM_INIT_DB, COM_SET_OPTION, COM_RESET_CONNECTION, COM_STMT_RESET, COM_DEBUG, and others.
    End,
}

/// What an OK packet says, and where in the packet (its header counted) the status stands. The texts are read when asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Okay {
    pub affected: u64,
    pub last_insert_id: u64,
    pub status: u16,
    pub warnings: u16,
    /// It took the place of the EOF behind rows.
    pub of_rows: bool,
    /// Of the packet: a text for people (`Rows matched: …`).
    pub info: Range<usize>,
    /// Of the packet: what changed in the session, see [`tracked`].
    pub state: Range<usize>,
    pub status_at: usize,
    pub warnings_at: usize,
}

/// What an ERR packet says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub errno: u16,
    pub sqlstate: String,
    pub message: String,
}

/// How a result ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// An OK; also the one that takes the place of an EOF.
    Okay(Okay),
    /// An EOF packet: it says no more than status and warnings. `status_at` and `warnings_at` as in an OK.
    Eof {
        status: u16,
        warnings: u16,
        status_at: usize,
        warnings_at: usize,
    },
    Failed(Failure),
}

impl End {
    /// The session's status, if it was told.
    pub fn status(&self) -> Option<u16> {
        match self {
            End::Okay(okay) => Some(okay.status),
            End::Eof { status, .. } => Some(*status),
            End::Failed(_) => None,
        }
    }

    pub fn warnings(&self) -> u16 {
        match self {
            End::Okay(okay) => okay.warnings,
            End::Eof { warnings, .. } => *warnings,
            End::Failed(_) => 0,
        }
    }

    /// Rows changed, as the server counts them for this statement; an EOF counts none.
    pub fn affected(&self) -> u64 {
        match self {
            End::Okay(okay) => okay.affected,
            End::Eof { .. } | End::Failed(_) => 0,
        }
    }

    pub fn failed(&self) -> Option<&Failure> {
        match self {
            End::Failed(failure) => Some(failure),
            _ => None,
        }
    }
}

/// What a prepared statement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prepared {
    pub statement: u32,
    pub columns: u16,
    pub parameters: u16,
    pub warnings: u16,
}

/// What stands in the buffer behind the bytes that are passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A result ended. `over`: so did the answer; else the next result follows.
    End { end: End, over: bool },
    /// A statement was prepared; its definitions follow, unless it has none: then the answer is over.
    Prepared { prepared: Prepared, over: bool },
    /// The server wants a file of the client's: its data is sent, then the answer goes on.
    FileWanted,
    /// The answer is over, without a packet of its own that says so: the text of COM_STATISTICS, the last definition of a prepared
    /// statement.
    Over,
}

/// How the answer stands after what is in the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// So many bytes at the front belong to the answer and may be passed on.
    pub pass: usize,
    /// The packet of so many bytes behind them, and what it says; nothing: more is needed.
    pub packet: usize,
    pub event: Option<Event>,
}

/// The upstream said something that no server says there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault(pub String);

/// The answer to one command, as far as it has come.
#[derive(Debug, Clone)]
pub struct Answer {
    capabilities: Capabilities,
    at: At,
    /// Bytes of a packet that are still to be passed on unseen.
    left: usize,
    /// The packet before was full: the next one continues it, whatever it begins with.
    continues: bool,
    /// The rows that come are a procedure's OUT parameters, and a result follows them whatever their end says.
    out_parameters: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    First(Expected),
    /// Definitions of columns, then rows.
    Columns {
        left: u64,
        rows: Rows,
    },
    /// The EOF between the definitions and the rows.
    ColumnsEnd,
    Rows,
    /// Definitions of a prepared statement: of its parameters, then of its columns; each list may be ended by an EOF.
    Definitions {
        left: u32,
        then: u32,
        eof: bool,
    },
    /// The data of a file is on its way.
    File,
    Over,
}

/// What the definitions of columns are followed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    Eof,
    AtOnce,
}

impl Answer {
    /// The answer to a command on a leg where these capabilities are in force.
    pub fn new(expected: Expected, capabilities: Capabilities) -> Answer {
        Answer { capabilities, at: At::First(expected), left: 0, continues: false, out_parameters: false }
    }

    pub fn is_over(&self) -> bool {
        self.at == At::Over && self.left == 0
    }

    /// Nothing of it has come yet.
    pub fn is_untouched(&self) -> bool {
        matches!(self.at, At::First(_)) && self.left == 0
    }

    /// As far as it goes in `bytes`, the upstream's stream from where the step before stopped. Whoever calls it takes `pass` and `packet`
    /// bytes off the stream before the next step.
    pub fn step(&mut self, bytes: &[u8]) -> Result<Step, Fault> {
        let mut pass = 0;
        loop {
            let part = self.left.min(bytes.len() - pass);
            self.left -= part;
            pass += part;
            if self.left > 0 {
                return Ok(Step { pass, packet: 0, event: None });
            }
            if self.at == At::Over && !self.continues {
                return Ok(Step { pass, packet: 0, event: None });
            }
            let rest = &bytes[pass..];
            let Some(length) = declared_length(rest) else { return Ok(Step { pass, packet: 0, event: None }) };
            if self.continues {
                (self.left, self.continues) = (HEADER + length, length == PART_MAX);
                continue;
            }
            if length == 0 {
                return Err(Fault("an empty packet".to_owned()));
            }
            let Some(&first) = rest.get(HEADER) else { return Ok(Step { pass, packet: 0, event: None }) };
            if !self.is_looked_into(first, length) {
                self.hop();
                (self.left, self.continues) = (HEADER + length, length == PART_MAX);
                continue;
            }
            if length > limits::ANSWER_FRAME_BYTES_MAX || length == PART_MAX {
                return Err(Fault(format!("a packet of {length} bytes that begins with 0x{first:02x}")));
            }
            let Some(packet) = rest.get(..HEADER + length) else {
                return Ok(Step { pass, packet: 0, event: None });
            };
            match self.looked_into(packet)? {
                Some(event) => return Ok(Step { pass, packet: packet.len(), event: Some(event) }),
                None => pass += packet.len(),
            }
        }
    }

    /// The file's data has all been sent.
    pub fn file_sent(&mut self) {
        if self.at == At::File {
            self.at = At::First(Expected::Results);
        }
    }

    fn is_looked_into(&self, first: u8, length: usize) -> bool {
        match self.at {
            At::Columns { left, .. } => left == 0 || first == 0xff,
            At::Definitions { left, .. } => left <= 1 || first == 0xff,
            At::Rows | At::First(Expected::Rows | Expected::Fields) => self.is_end(first, length),
            _ => true,
        }
    }

    /// A row begins with a length, and one of nine bytes (0xfe) is that of a value that fills the packet.
    fn is_end(&self, first: u8, length: usize) -> bool {
        let longest = if self.capabilities.has(Capabilities::DEPRECATE_EOF) { PART_MAX - 1 } else { EOF_MAX };
        first == 0xff || (first == 0xfe && length <= longest)
    }

    /// A packet whose header says all there is to know.
    fn hop(&mut self) {
        match &mut self.at {
            At::Columns { left, .. } => *left = left.saturating_sub(1),
            At::Definitions { left, .. } => *left = left.saturating_sub(1),
            At::First(_) => self.at = At::Rows,
            _ => {}
        }
        self.settle();
    }

    /// Definitions that are all there are followed by what comes next.
    fn settle(&mut self) {
        if let At::Columns { left: 0, rows } = self.at {
            self.at = match rows {
                Rows::Eof => At::ColumnsEnd,
                Rows::AtOnce => At::Rows,
            };
        }
    }

    fn looked_into(&mut self, packet: &[u8]) -> Result<Option<Event>, Fault> {
        let payload = packet.get(HEADER..).unwrap_or_default();
        if payload.first() == Some(&0xff) {
            return self.failed(payload);
        }
        match self.at {
            At::First(Expected::Results) => self.first(packet),
            At::First(Expected::Prepared) => self.prepared(payload).map(Some),
            At::First(Expected::Text) => {
                self.at = At::Over;
                Ok(Some(Event::Over))
            }
            At::First(Expected::End | Expected::Rows | Expected::Fields) | At::Rows => self.ended(packet).map(Some),
            At::ColumnsEnd => self.columns_ended(packet),
            At::Definitions { left, then, eof } => Ok(self.defined(left, then, eof)),
            At::Columns { .. } | At::File | At::Over => Err(Fault("a packet that nothing asked for".to_owned())),
        }
    }

    fn first(&mut self, packet: &[u8]) -> Result<Option<Event>, Fault> {
        match packet.get(HEADER) {
            Some(0x00) => self.ended(packet).map(Some),
            Some(0xfb) => {
                self.at = At::File;
                Ok(Some(Event::FileWanted))
            }
            _ => {
                let mut reader = Reader::new(packet.get(HEADER..).unwrap_or_default());
                let columns = reader.lenenc().map_err(|_| strange("a column count", packet))?;
                let mut follows = true;
                if self.capabilities.has(Capabilities::CACHE_METADATA) {
                    follows = reader.u8().map_err(|_| strange("a column count", packet))? != 0;
                }
                reader.finish().map_err(|_| strange("a column count", packet))?;
                let rows = if self.capabilities.has(Capabilities::DEPRECATE_EOF) { Rows::AtOnce } else { Rows::Eof };
                self.at = At::Columns { left: if follows { columns } else { 0 }, rows };
                self.settle();
                Ok(None)
            }
        }
    }

    /// The EOF behind the definitions: the end already if a cursor was opened.
    fn columns_ended(&mut self, packet: &[u8]) -> Result<Option<Event>, Fault> {
        let end = read_end(packet, self.capabilities).map_err(|_| strange("the end of definitions", packet))?;
        let status = end.status().unwrap_or_default();
        if status & status::CURSOR != 0 {
            return Ok(Some(self.over(end)));
        }
        // Both servers leave MORE_RESULTS out of the EOF behind such rows (tried): only this one has it.
        const OUT: u16 = status::OUT_PARAMETERS | status::MORE_RESULTS;
        self.out_parameters = status & OUT == OUT;
        self.at = At::Rows;
        Ok(None)
    }

    fn ended(&mut self, packet: &[u8]) -> Result<Event, Fault> {
        let end = read_end(packet, self.capabilities).map_err(|_| strange("the end of a result", packet))?;
        Ok(self.over(end))
    }

    fn over(&mut self, end: End) -> Event {
        let out_parameters = std::mem::take(&mut self.out_parameters);
        let more = out_parameters || end.status().is_some_and(|status| status & status::MORE_RESULTS != 0);
        self.at = if more { At::First(Expected::Results) } else { At::Over };
        Event::End { end, over: !more }
    }

    fn failed(&mut self, payload: &[u8]) -> Result<Option<Event>, Fault> {
        let errno = Reader::new(payload.get(1..).unwrap_or_default()).u16();
        if errno == Ok(PROGRESS_REPORT) && self.capabilities.has(Capabilities::PROGRESS) {
            return Ok(None);
        }
        let end = End::Failed(read_failure(payload).map_err(|_| Fault("an error that cannot be read".to_owned()))?);
        self.at = At::Over;
        Ok(Some(Event::End { end, over: true }))
    }

    fn prepared(&mut self, payload: &[u8]) -> Result<Event, Fault> {
        let prepared = read_prepared(payload).map_err(|_| strange("the answer to a prepare", payload))?;
        let eof = !self.capabilities.has(Capabilities::DEPRECATE_EOF);
        let (left, then) = (u32::from(prepared.parameters), u32::from(prepared.columns));
        let ended = u32::from(eof);
        self.at = match (left, then) {
            (0, 0) => At::Over,
            (0, then) => At::Definitions { left: then + ended, then: 0, eof },
            (left, then) => At::Definitions { left: left + ended, then, eof },
        };
        Ok(Event::Prepared { prepared, over: self.at == At::Over })
    }

    /// The last packet of one list of definitions.
    fn defined(&mut self, left: u32, then: u32, eof: bool) -> Option<Event> {
        if left > 1 {
            self.at = At::Definitions { left: left - 1, then, eof };
            return None;
        }
        if then > 0 {
            self.at = At::Definitions { left: then + u32::from(eof), then: 0, eof };
            return None;
        }
        self.at = At::Over;
        Some(Event::Over)
    }
}

/// The longest payload of an EOF packet.
const EOF_MAX: usize = 8;
/// MariaDB: not an error but how far a statement has come; the answer goes on.
pub const PROGRESS_REPORT: u16 = 0xffff;

/// Reads a whole OK, EOF or ERR packet, header and all.
pub fn read_end(packet: &[u8], capabilities: Capabilities) -> Result<End, Short> {
    let payload = packet.get(HEADER..).ok_or(Short)?;
    match payload.first() {
        Some(0xff) => read_failure(payload).map(End::Failed),
        Some(0xfe) if !capabilities.has(Capabilities::DEPRECATE_EOF) && payload.len() <= EOF_MAX => {
            let mut reader = Reader::new(payload);
            reader.u8()?;
            let warnings_at = HEADER + reader.at();
            let warnings = reader.u16()?;
            let status_at = HEADER + reader.at();
            let status = reader.u16()?;
            Ok(End::Eof { status, warnings, status_at, warnings_at })
        }
        Some(0x00 | 0xfe) => read_okay(packet, capabilities).map(End::Okay),
        _ => Err(Short),
    }
}

/// Reads a whole OK packet, header and all.
pub fn read_okay(packet: &[u8], capabilities: Capabilities) -> Result<Okay, Short> {
    let mut reader = Reader::new(packet);
    reader.bytes(HEADER + 1)?;
    let affected = reader.lenenc()?;
    let last_insert_id = reader.lenenc()?;
    let status_at = reader.at();
    let status = reader.u16()?;
    let warnings_at = reader.at();
    let warnings = reader.u16()?;
    let nothing = packet.len()..packet.len();
    let (mut info, mut state) = (nothing.clone(), nothing);
    if !capabilities.has(Capabilities::SESSION_TRACK) {
        if !reader.is_empty() {
            info = range(&mut reader)?;
        }
        reader.finish()?;
    } else if !reader.is_empty() {
        info = range(&mut reader)?;
        if status & status::STATE_CHANGED != 0 && !reader.is_empty() {
            state = range(&mut reader)?;
        }
        reader.finish()?;
    }
    let of_rows = packet.get(HEADER) == Some(&0xfe);
    Ok(Okay { affected, last_insert_id, status, warnings, of_rows, info, state, status_at, warnings_at })
}

/// Reads the payload of an ERR packet.
pub fn read_failure(payload: &[u8]) -> Result<Failure, Short> {
    let mut reader = Reader::new(payload);
    reader.u8()?;
    let errno = reader.u16()?;
    // An error before the login's end has no SQLSTATE.
    let sqlstate = match reader.rest() {
        [b'#', state @ ..] if state.len() >= 5 => {
            reader.bytes(6)?;
            String::from_utf8_lossy(&state[..5]).into_owned()
        }
        _ => "HY000".to_owned(),
    };
    Ok(Failure { errno, sqlstate, message: String::from_utf8_lossy(reader.rest()).into_owned() })
}

/// Reads the payload of an answer to COM_STMT_PREPARE.
pub fn read_prepared(payload: &[u8]) -> Result<Prepared, Short> {
    let mut reader = Reader::new(payload);
    if reader.u8()? != 0 {
        return Err(Short);
    }
    let statement = reader.u32()?;
    let columns = reader.u16()?;
    let parameters = reader.u16()?;
    reader.u8()?;
    let warnings = reader.u16()?;
    Ok(Prepared { statement, columns, parameters, warnings })
}

/// Something of the session that changed, as the server tracks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tracked {
    /// A system variable, of those that `session_track_system_variables` names.
    Variable {
        name: String,
        value: String,
    },
    /// The default database is another now.
    Schema(String),
    /// Something changed that is not said more closely.
    State,
    Gtids(Vec<u8>),
    /// The statements that would begin the transaction anew.
    TransactionCharacteristics(String),
    /// Eight characters: `T_______` in a transaction and so on.
    TransactionState(String),
    /// Of a kind that is not known here.
    Unknown(u8),
}

/// What changed in the session, of an OK packet that says so.
pub fn tracked(packet: &[u8], okay: &Okay) -> Result<Vec<Tracked>, Short> {
    let mut reader = Reader::new(packet.get(okay.state.clone()).ok_or(Short)?);
    let mut changes = Vec::new();
    while !reader.is_empty() {
        let kind = reader.u8()?;
        let mut data = Reader::new(reader.lenenc_bytes()?);
        match kind {
            0 => {
                while !data.is_empty() {
                    changes.push(Tracked::Variable { name: text(&mut data)?, value: text(&mut data)? });
                }
            }
            1 => changes.push(Tracked::Schema(text(&mut data)?)),
            2 => changes.push(Tracked::State),
            3 => changes.push(Tracked::Gtids(data.take_rest().to_vec())),
            4 => changes.push(Tracked::TransactionCharacteristics(text(&mut data)?)),
            5 => changes.push(Tracked::TransactionState(text(&mut data)?)),
            other => changes.push(Tracked::Unknown(other)),
        }
    }
    Ok(changes)
}

/// The info of an OK packet.
pub fn info<'a>(packet: &'a [u8], okay: &Okay) -> &'a [u8] {
    packet.get(okay.info.clone()).unwrap_or_default()
}

/// Sets the status of a whole OK or EOF packet in place; of anything else nothing. Whether it says what changed in the session stays as
/// it was, as that decides the packet's form.
pub fn patch_status(packet: &mut [u8], capabilities: Capabilities, status: u16) -> bool {
    let (at, before) = match read_end(packet, capabilities) {
        Ok(End::Okay(okay)) => (okay.status_at, okay.status),
        Ok(End::Eof { status_at, status, .. }) => (status_at, status),
        _ => return false,
    };
    patch(packet, at, (status & !status::STATE_CHANGED) | (before & status::STATE_CHANGED))
}

/// Sets the count of warnings of a whole OK or EOF packet in place; of anything else nothing.
pub fn patch_warnings(packet: &mut [u8], capabilities: Capabilities, warnings: u16) -> bool {
    let at = match read_end(packet, capabilities) {
        Ok(End::Okay(okay)) => okay.warnings_at,
        Ok(End::Eof { warnings_at, .. }) => warnings_at,
        _ => return false,
    };
    patch(packet, at, warnings)
}

fn patch(packet: &mut [u8], at: usize, value: u16) -> bool {
    match packet.get_mut(at..at + 2) {
        Some(place) => {
            place.copy_from_slice(&value.to_le_bytes());
            true
        }
        None => false,
    }
}

fn range(reader: &mut Reader<'_>) -> Result<Range<usize>, Short> {
    let taken = reader.lenenc_bytes()?.len();
    Ok(reader.at() - taken..reader.at())
}

fn text(reader: &mut Reader<'_>) -> Result<String, Short> {
    reader.lenenc_bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn strange(what: &str, packet: &[u8]) -> Fault {
    Fault(format!("{what} of {} bytes that cannot be read", packet.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::mysql::cursor::{put_lenenc, put_lenenc_bytes};
    use crate::protocol::mysql::frame::put_packet;
    use bytes::BytesMut;

    const OLD: Capabilities = Capabilities(1 << 9);
    const NEW: Capabilities = Capabilities(1 << 9 | 1 << 23 | 1 << 24);
    const MARIA: Capabilities = Capabilities(1 << 9 | 1 << 32 | 1 << 36);

    fn stream(payloads: &[&[u8]]) -> Vec<u8> {
        let mut out = BytesMut::new();
        payloads.iter().enumerate().for_each(|(at, payload)| {
            put_packet(&mut out, at as u8 + 1, payload);
        });
        out.to_vec()
    }

    /// Feeds the stream in parts of `size`, and tells what happened where.
    fn run(answer: &mut Answer, bytes: &[u8], size: usize) -> Vec<(usize, Event)> {
        let (mut inbox, mut at, mut events) = (BytesMut::new(), 0, Vec::new());
        for part in bytes.chunks(size) {
            inbox.extend_from_slice(part);
            loop {
                let step = answer.step(&inbox).expect("no fault");
                let _ = inbox.split_to(step.pass + step.packet);
                at += step.pass + step.packet;
                match step.event {
                    Some(event) => events.push((at, event)),
                    None => break,
                }
                if events.last().is_some_and(|(_, event)| *event == Event::FileWanted) {
                    answer.file_sent();
                }
            }
        }
        assert!(inbox.len() < HEADER + 16, "what is not passed on is one packet at the most");
        events
    }

    /// How many packets end within so many bytes.
    fn packets(bytes: &[u8], until: usize) -> usize {
        let (mut at, mut count) = (0, 0);
        while let Some(length) = declared_length(&bytes[at..until]) {
            (at, count) = (at + HEADER + length, count + 1);
        }
        assert_eq!(at, until, "an event stands at the end of a packet");
        count
    }

    fn short(events: &[(usize, Event)], bytes: &[u8]) -> Vec<String> {
        events
            .iter()
            .map(|(at, event)| (packets(bytes, *at), event))
            .map(|(at, event)| match event {
                Event::End { end: End::Okay(okay), over } => {
                    format!("{at} ok {} {:#x} {over}", okay.affected, okay.status)
                }
                Event::End { end: End::Eof { status, .. }, over } => format!("{at} eof {status:#x} {over}"),
                Event::End { end: End::Failed(failure), over } => {
                    format!("{at} {} {} {over}", failure.errno, failure.sqlstate)
                }
                Event::Prepared { prepared, over } => {
                    format!("{at} prepared {} {} {over}", prepared.statement, prepared.parameters)
                }
                other => format!("{at} {other:?}"),
            })
            .collect()
    }

    /// Its name, what is expected on a leg of which capabilities, the payloads, and what happens behind which of them.
    type Case = (&'static str, Expected, Capabilities, &'static [&'static [u8]], &'static [&'static str]);

    const COLUMN: &[u8] = b"\x03def\0\0\0\x01a\0\x0c\x3f\0\x01\0\0\0\x08\x81\0\0\0\0";
    const EOF: &[u8] = b"\xfe\0\0\x02\0";
    const OK_END: &[u8] = b"\xfe\0\0\x02\0\0\0";

    #[test]
    fn an_answer_ends_where_the_protocol_says() {
        let cases: &[Case] = &[
            ("an update", Expected::Results, OLD, &[b"\0\x05\0\x02\0\0\0\x04info"], &["1 ok 5 0x2 true"]),
            ("rows", Expected::Results, OLD, &[b"\x01", COLUMN, EOF, b"\x011", EOF], &["5 eof 0x2 true"]),
            ("rows without EOF", Expected::Results, NEW, &[b"\x01", COLUMN, b"\x011", OK_END], &["4 ok 0 0x2 true"]),
            ("no rows", Expected::Results, NEW, &[b"\x01", COLUMN, OK_END], &["3 ok 0 0x2 true"]),
            (
                "two results",
                Expected::Results,
                OLD,
                &[b"\0\x01\0\x0a\0\0\0", b"\x01", COLUMN, EOF, b"\xfe\0\0\x0a\0", b"\0\x02\0\x02\0\0\0"],
                &["1 ok 1 0xa false", "5 eof 0xa false", "6 ok 2 0x2 true"],
            ),
            ("an error at once", Expected::Results, NEW, &[b"\xff\x28\x04#42000no"], &["1 1064 42000 true"]),
            (
                "an error among rows",
                Expected::Results,
                NEW,
                &[b"\x01", COLUMN, b"\x011", b"\xff\x25\x05#70100x"],
                &["4 1317 70100 true"],
            ),
            ("a cursor", Expected::Results, OLD, &[b"\x01", COLUMN, b"\xfe\0\0\x42\0"], &["3 eof 0x42 true"]),
            (
                "a cursor without EOF",
                Expected::Results,
                NEW,
                &[b"\x01", COLUMN, b"\xfe\0\0\x42\0\0\0"],
                &["3 ok 0 0x42 true"],
            ),
            ("fetched", Expected::Rows, OLD, &[b"\0\0\x01", b"\xfe\0\0\x82\0"], &["2 eof 0x82 true"]),
            ("nothing fetched", Expected::Rows, NEW, &[b"\xfe\0\0\x82\0\0\0"], &["1 ok 0 0x82 true"]),
            ("fields", Expected::Fields, OLD, &[COLUMN, EOF], &["2 eof 0x2 true"]),
            ("a ping", Expected::End, NEW, &[b"\0\0\0\x02\0\0\0"], &["1 ok 0 0x2 true"]),
            ("an option", Expected::End, OLD, &[EOF], &["1 eof 0x2 true"]),
            ("statistics", Expected::Text, OLD, &[b"Uptime: 1"], &["1 Over"]),
            (
                "prepared, nothing in it",
                Expected::Prepared,
                OLD,
                &[b"\0\x07\0\0\0\0\0\0\0\0\0\0"],
                &["1 prepared 7 0 true"],
            ),
            (
                "prepared",
                Expected::Prepared,
                OLD,
                &[b"\0\x07\0\0\0\x01\0\x02\0\0\0\0", COLUMN, COLUMN, EOF, COLUMN, EOF],
                &["1 prepared 7 2 false", "6 Over"],
            ),
            (
                "prepared without EOF",
                Expected::Prepared,
                NEW,
                &[b"\0\x07\0\0\0\x01\0\x02\0\0\0\0", COLUMN, COLUMN, COLUMN],
                &["1 prepared 7 2 false", "4 Over"],
            ),
            (
                "a file",
                Expected::Results,
                OLD,
                &[b"\xfb/tmp/x", b"\0\x03\0\x02\0\0\0"],
                &["1 FileWanted", "2 ok 3 0x2 true"],
            ),
            (
                "progress",
                Expected::Results,
                MARIA,
                &[b"\xff\xff\xff\x01\x01\x02\0\0\0\x01x", b"\0\0\0\x02\0\0\0"],
                &["2 ok 0 0x2 true"],
            ),
            ("columns that are known", Expected::Results, MARIA, &[b"\x01\0", EOF, b"\x011", EOF], &["4 eof 0x2 true"]),
            (
                "columns that are told",
                Expected::Results,
                MARIA,
                &[b"\x01\x01", COLUMN, EOF, b"\x011", EOF],
                &["5 eof 0x2 true"],
            ),
        ];
        for (name, expected, capabilities, payloads, wanted) in cases {
            let bytes = stream(payloads);
            for size in [1, 3, bytes.len()] {
                let mut answer = Answer::new(*expected, *capabilities);
                assert!(answer.is_untouched());
                let events = run(&mut answer, &bytes, size);
                assert_eq!(short(&events, &bytes), *wanted, "{name} in parts of {size}");
                assert!(answer.is_over(), "{name}");
                // What follows is not its own.
                let next = answer.step(b"\x01\0\0\x01\0").expect("no fault");
                assert_eq!((next.pass, next.packet, next.event), (0, 0, None), "{name}");
            }
        }
    }

    #[test]
    fn what_goes_on_in_the_next_packet_is_a_row_whatever_it_begins_with() {
        let mut row = BytesMut::new();
        put_lenenc_bytes(&mut row, &vec![0xfe; PART_MAX + 3]);
        assert_eq!(row[0], 0xfe, "a row that begins as an end does");
        let bytes = stream(&[b"\x01", COLUMN, &row, OK_END]);
        for size in [70_000, bytes.len()] {
            let mut answer = Answer::new(Expected::Results, NEW);
            let events = run(&mut answer, &bytes, size);
            assert_eq!(short(&events, &bytes), ["5 ok 0 0x2 true"]);
        }
    }

    #[test]
    fn what_no_server_says_is_a_fault() {
        let cases: &[(Expected, Capabilities, &[u8])] = &[
            (Expected::Results, OLD, b""),
            (Expected::Results, OLD, b"\xfe\0\0\x02\0"),
            (Expected::Results, OLD, b"\0\x01"),
            (Expected::Results, OLD, b"\x01\x01"),
            (Expected::Results, MARIA, b"\x01"),
            (Expected::End, OLD, b"\x07"),
            (Expected::Prepared, OLD, b"\x01\0\0\0\0"),
            (Expected::Results, NEW, b"\0\0\0\x02\x40\0\0\x03ab"),
            (Expected::Results, OLD, b"\xff\x01"),
        ];
        for (expected, capabilities, payload) in cases {
            let mut answer = Answer::new(*expected, *capabilities);
            assert!(answer.step(&stream(&[payload])).is_err(), "{payload:?}");
        }
    }

    #[test]
    fn what_changed_in_the_session_is_read() {
        let mut data = BytesMut::new();
        let mut entry = |kind: u8, parts: &[&str]| {
            let mut inner = BytesMut::new();
            parts.iter().for_each(|part| put_lenenc_bytes(&mut inner, part.as_bytes()));
            data.extend_from_slice(&[kind]);
            put_lenenc_bytes(&mut data, &inner);
        };
        entry(0, &["sql_mode", "ANSI_QUOTES"]);
        entry(1, &["shop"]);
        entry(2, &["1"]);
        entry(5, &["T_______"]);
        entry(9, &["?"]);
        let mut payload = BytesMut::from(&b"\0\0\0\x02\x40\x03\0"[..]);
        put_lenenc_bytes(&mut payload, b"info");
        put_lenenc(&mut payload, data.len() as u64);
        payload.extend_from_slice(&data);
        let packet = stream(&[&payload]);
        let okay = read_okay(&packet, NEW).expect("an OK");
        assert_eq!((okay.warnings, info(&packet, &okay)), (3, &b"info"[..]));
        let variable = Tracked::Variable { name: "sql_mode".to_owned(), value: "ANSI_QUOTES".to_owned() };
        let schema = Tracked::Schema("shop".to_owned());
        let transaction = Tracked::TransactionState("T_______".to_owned());
        assert_eq!(
            tracked(&packet, &okay),
            Ok(vec![variable, schema, Tracked::State, transaction, Tracked::Unknown(9)])
        );
    }

    #[test]
    fn status_and_warnings_are_set_in_place() {
        for (payload, capabilities) in [(&b"\0\xfc\x01\x02\0\x02\0\0\0"[..], OLD), (OK_END, NEW), (EOF, OLD)] {
            let mut packet = stream(&[payload]);
            assert!(patch_status(&mut packet, capabilities, 0x0103) && patch_warnings(&mut packet, capabilities, 7));
            let end = read_end(&packet, capabilities).expect("an end");
            assert_eq!((end.status(), end.warnings()), (Some(0x0103), 7));
        }
        assert!(!patch_status(&mut stream(&[b"\xff\x01\x02no"]), OLD, 1));
    }
}
