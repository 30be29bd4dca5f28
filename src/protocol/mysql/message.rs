//! What Sluice itself says, either way: commands to a server, and what a client is told in one packet (OK, ERR, how far a statement has
//! come). Results of rows are [`crate::protocol::mysql::answer`]'s.
//!
//! Invariant: no string handed in here can end a field early, as each stands behind its length or is the last of its packet; an error's
//! message fits in what client libraries keep of it.
//!
//! Encoded here, not by opensrv-mysql 0.7, which encodes the results: its errors are a closed list of MySQL's own numbers (no 50001), and
//! its OK says no warnings and, to a client without SESSION_TRACK, its text without a length.
//!
//! Source: MySQL's "Client/Server Protocol", pages "ERR_Packet" and "OK_Packet"; MariaDB's "ERR_Packet"; errmsg.h and mysqld_error.h for
//! numbers; tried on MySQL 9.7's and MariaDB 10.11's clients.

use crate::protocol::mysql::capabilities::Capabilities;
use crate::protocol::mysql::cursor::{put_lenenc, put_lenenc_bytes};
use crate::protocol::mysql::frame::put_packet;
use crate::protocol::mysql::response::{self, End, Okay, PROGRESS_REPORT, status};
use crate::protocol::{Code, Parameters, Refusal, Words};
use bytes::{BufMut, Bytes, BytesMut};

/// What client libraries keep of an error's message (`MYSQL_ERRMSG_SIZE`, 512 with its NUL).
pub const MESSAGE_BYTES_MAX: usize = 511;

impl Code {
    /// MySQL's number of the error. Those that begin with 50 are Sluice's own, in the range that servers leave to applications.
    pub fn errno(self) -> u16 {
        match self {
            Code::NeedsConfirming => 50001,
            Code::NeedsApproval => 50002,
            Code::Denied => 50003,
            Code::ExceedsConfirmed => 50004,
            Code::Token => 50005,
            Code::Paused => 50006,
            Code::CannotKnow => 50007,
            // ER_MALFORMED_PACKET
            Code::Protocol => 1835,
            // ER_PARSE_ERROR
            Code::Syntax => 1064,
            // ER_USER_LIMIT_REACHED
            Code::Limit => 1226,
            // ER_OUT_OF_RESOURCES
            Code::Room => 1041,
            // ER_CON_COUNT_ERROR
            Code::TooMany => 1040,
            // ER_ACCESS_DENIED_ERROR
            Code::WrongPassword | Code::LoginRefused => 1045,
            // ER_UNKNOWN_STMT_HANDLER
            Code::UnknownStatement => 1243,
            // ER_QUERY_INTERRUPTED
            Code::Cancelled => 1317,
            // ER_NET_READ_ERROR
            Code::Upstream => 1158,
            // ER_CLIENT_INTERACTION_TIMEOUT
            Code::Idle => 4031,
            // ER_SERVER_SHUTDOWN
            Code::Shutdown => 1053,
        }
    }

    /// The SQLSTATE that goes with [`Code::errno`]: Sluice's own, or MySQL's for that number.
    pub fn mysql_sqlstate(self) -> &'static str {
        match self {
            Code::NeedsConfirming
            | Code::NeedsApproval
            | Code::Denied
            | Code::ExceedsConfirmed
            | Code::Token
            | Code::Paused
            | Code::CannotKnow => self.sqlstate(),
            Code::Protocol | Code::Room | Code::Idle | Code::UnknownStatement => "HY000",
            Code::Syntax | Code::Limit => "42000",
            Code::TooMany => "08004",
            Code::WrongPassword | Code::LoginRefused => "28000",
            Code::Cancelled => "70100",
            Code::Upstream | Code::Shutdown => "08S01",
        }
    }
}

/// Whom an answer is for: what was agreed with it, and the number that its first packet has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct To {
    pub capabilities: Capabilities,
    pub sequence: u8,
}

/// What a command of ours came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done<'a> {
    pub affected: u64,
    pub last_insert_id: u64,
    pub status: u16,
    pub warnings: u16,
    pub info: &'a str,
}

pub fn ok(to: To, done: &Done<'_>) -> Bytes {
    let mut payload = BytesMut::new();
    put_ok(&mut payload, 0x00, done);
    packet(to.sequence, &payload)
}

pub fn error(to: To, refusal: &Refusal) -> Bytes {
    let code = refusal.code;
    failure(to, code.errno(), code.mysql_sqlstate(), &refusal.message)
}

/// Before the client said what it can: such an error has no SQLSTATE.
pub fn early_error(sequence: u8, refusal: &Refusal) -> Bytes {
    let mut payload = BytesMut::from(&[0xff][..]);
    payload.put_u16_le(refusal.code.errno());
    payload.put_slice(cut(&refusal.message).as_bytes());
    packet(sequence, &payload)
}

pub fn failure(to: To, errno: u16, sqlstate: &str, message: &str) -> Bytes {
    let mut payload = BytesMut::from(&[0xff][..]);
    payload.put_u16_le(errno);
    payload.put_u8(b'#');
    payload.put_slice(&five(sqlstate));
    payload.put_slice(cut(message).as_bytes());
    packet(to.sequence, &payload)
}

/// MariaDB: how far a statement has come, in thousandths of one percent of its stage. Only to a client that agreed to PROGRESS.
pub fn progress(to: To, stage: u8, stages: u8, thousandths: u32, text: &str) -> Bytes {
    let mut payload = BytesMut::from(&[0xff][..]);
    payload.put_u16_le(PROGRESS_REPORT);
    // One string follows.
    payload.put_slice(&[1, stage, stages]);
    payload.put_uint_le(u64::from(thousandths.min(100_000)), 3);
    put_lenenc_bytes(&mut payload, cut(text).as_bytes());
    packet(to.sequence, &payload)
}

/// What an upstream's packet ended a result with, told to a client that agreed to other things: without what changed in the session, if it
/// does not want to know. As it came where nothing is to be changed.
pub fn retold(upstream: Capabilities, to: To, told: &Bytes, end: &End) -> Bytes {
    let End::Okay(okay) = end else { return told.clone() };
    if upstream.has(Capabilities::SESSION_TRACK) == to.capabilities.has(Capabilities::SESSION_TRACK) {
        return told.clone();
    }
    let info = String::from_utf8_lossy(response::info(told, okay)).into_owned();
    let Okay { affected, last_insert_id, warnings, .. } = *okay;
    let status = okay.status & !status::STATE_CHANGED;
    let header = told.get(crate::protocol::mysql::frame::HEADER).copied().unwrap_or_default();
    let mut payload = BytesMut::new();
    let done = Done { affected, last_insert_id, status, warnings, info: &info };
    put_ok(&mut payload, header, &done);
    packet(to.sequence, &payload)
}

/// What Sluice asks a server: commands built up and sent with one write. Each begins at sequence number 0 and is answered on its own.
#[derive(Debug)]
pub struct Script {
    out: BytesMut,
    named: bool,
    commands: usize,
}

impl From<Script> for Words {
    fn from(script: Script) -> Words {
        Words::new(script.bytes())
    }
}

impl Script {
    /// For a leg where these capabilities are in force.
    pub fn new(capabilities: Capabilities) -> Script {
        Script { out: BytesMut::new(), named: capabilities.has(Capabilities::QUERY_ATTRIBUTES), commands: 0 }
    }

    pub fn query(self, text: &str) -> Script {
        self.query_bytes(text.as_bytes())
    }

    pub fn query_bytes(self, text: &[u8]) -> Script {
        // No attributes, one set of them.
        let head: &[u8] = if self.named { &[0x03, 0, 1] } else { &[0x03] };
        self.command(&[head, text].concat())
    }

    pub fn init_db(self, name: &str) -> Script {
        self.command(&[&[0x02], name.as_bytes()].concat())
    }

    pub fn prepare(self, text: &[u8]) -> Script {
        self.command(&[&[0x16], text].concat())
    }

    /// With values as they came from a client, without a cursor.
    pub fn execute(self, statement: u32, parameters: &Parameters) -> Script {
        let mut payload = BytesMut::from(&[0x17][..]);
        payload.put_u32_le(statement);
        payload.put_u8(0);
        payload.put_u32_le(1);
        let values = &parameters.values;
        if !values.is_empty() {
            if self.named {
                put_lenenc(&mut payload, values.len() as u64);
            }
            payload.put_slice(&bitmap(values));
            payload.put_u8(1);
            for kind in &parameters.types {
                payload.put_u16_le(*kind as u16);
                if self.named {
                    payload.put_u8(0);
                }
            }
            for (kind, value) in parameters.types.iter().zip(values) {
                put_value(&mut payload, *kind, value.as_deref());
            }
        }
        self.command(&payload)
    }

    /// Not answered.
    pub fn close_statement(mut self, statement: u32) -> Script {
        self = self.command(&[&[0x19][..], &statement.to_le_bytes()].concat());
        self.commands -= 1;
        self
    }

    pub fn reset_statement(self, statement: u32) -> Script {
        self.command(&[&[0x1a][..], &statement.to_le_bytes()].concat())
    }

    pub fn reset_connection(self) -> Script {
        self.command(&[0x1f])
    }

    pub fn ping(self) -> Script {
        self.command(&[0x0e])
    }

    /// Not answered.
    pub fn quit(mut self) -> Script {
        self = self.command(&[0x01]);
        self.commands -= 1;
        self
    }

    /// How many answers it will be given.
    pub fn commands(&self) -> usize {
        self.commands
    }

    pub fn bytes(self) -> Bytes {
        self.out.freeze()
    }

    fn command(mut self, payload: &[u8]) -> Script {
        put_packet(&mut self.out, 0, payload);
        self.commands += 1;
        self
    }
}

fn put_ok(payload: &mut BytesMut, header: u8, done: &Done<'_>) {
    payload.put_u8(header);
    put_lenenc(payload, done.affected);
    put_lenenc(payload, done.last_insert_id);
    payload.put_u16_le(done.status);
    payload.put_u16_le(done.warnings);
    if done.info.is_empty() {
        return;
    }
    // Behind its length in either form, whatever the documentation says (`net_send_ok` of both).
    put_lenenc_bytes(payload, done.info.as_bytes());
}

/// Which values are NULL.
fn bitmap<T>(values: &[Option<T>]) -> Vec<u8> {
    let mut bits = vec![0; values.len().div_ceil(8)];
    for (at, _) in values.iter().enumerate().filter(|(_, value)| value.is_none()) {
        if let Some(byte) = bits.get_mut(at / 8) {
            *byte |= 1 << (at % 8);
        }
    }
    bits
}

/// A value as it came, behind a length where its type has one.
fn put_value(payload: &mut BytesMut, kind: u32, value: Option<&[u8]>) {
    let Some(bytes) = value else { return };
    match kind as u8 {
        1 | 2 | 3 | 4 | 5 | 8 | 9 | 13 => payload.put_slice(bytes),
        7 | 10 | 11 | 12 => {
            payload.put_u8(bytes.len() as u8);
            payload.put_slice(bytes);
        }
        _ => put_lenenc_bytes(payload, bytes),
    }
}

fn packet(sequence: u8, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    put_packet(&mut out, sequence, payload);
    out.freeze()
}

/// As much as a client keeps, to the end of a character.
fn cut(message: &str) -> &str {
    if message.len() <= MESSAGE_BYTES_MAX {
        return message;
    }
    let end = (0..=MESSAGE_BYTES_MAX).rev().find(|end| message.is_char_boundary(*end)).unwrap_or_default();
    message.get(..end).unwrap_or_default()
}

/// Five characters, whatever was given.
fn five(sqlstate: &str) -> [u8; 5] {
    sqlstate.as_bytes().try_into().unwrap_or(*b"HY000")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::mysql::command::{self, Command, Known};
    use crate::protocol::mysql::frame::{ClientCutter, Frame, HEADER, Next};
    use crate::protocol::mysql::response::{Answer, Event, Expected, read_end};
    use crate::protocol::mysql::values::Texts;
    use std::collections::BTreeMap;

    const OLD: Capabilities = Capabilities(1 << 9);
    const NEW: Capabilities = Capabilities(1 << 9 | 1 << 23 | 1 << 24 | 1 << 27);
    const MARIA: Capabilities = Capabilities(1 << 9 | 1 << 24 | 1 << 32 | 1 << 35 | 1 << 36);

    fn to(capabilities: Capabilities) -> To {
        To { capabilities, sequence: 1 }
    }

    /// The end that an answer of ours comes to, read as a server's.
    fn end(expected: Expected, capabilities: Capabilities, answer: &[u8]) -> Event {
        let mut reader = Answer::new(expected, capabilities);
        let mut at = 0;
        loop {
            let step = reader.step(&answer[at..]).expect("an answer");
            at += step.pass + step.packet;
            if reader.is_over() {
                assert_eq!(at, answer.len());
                return step.event.expect("an event");
            }
        }
    }

    #[test]
    fn our_answers_are_read_as_a_servers() {
        for capabilities in [OLD, NEW, MARIA] {
            let done = Done { affected: 70_000, last_insert_id: 1, status: 2, warnings: 1, info: "said" };
            let answer = ok(to(capabilities), &done);
            let Event::End { end: End::Okay(okay), .. } = end(Expected::End, capabilities, &answer) else { panic!() };
            assert_eq!((okay.affected, okay.warnings, response::info(&answer, &okay)), (70_000, 1, &b"said"[..]));
        }
    }

    #[test]
    fn a_refusal_fits_in_what_clients_keep() {
        let long = Refusal::new(Code::NeedsConfirming, "é".repeat(400));
        let answer = error(to(NEW), &long);
        let End::Failed(failure) = read_end(&answer, NEW).expect("an error") else { panic!() };
        assert_eq!((failure.errno, &failure.sqlstate[..]), (50001, "SL001"));
        assert_eq!(failure.message, "é".repeat(255), "cut between characters");
        let early = early_error(0, &Refusal::new(Code::TooMany, "full"));
        assert_eq!(&early[HEADER..], b"\xff\x10\x04full");
    }

    #[test]
    fn every_code_has_a_number_of_its_own_kind() {
        use Code::*;
        let own = [NeedsConfirming, NeedsApproval, Denied, ExceedsConfirmed, Token, CannotKnow];
        for code in own {
            assert_eq!(format!("SL{:03}", code.errno() - 50_000), code.mysql_sqlstate());
        }
        let others =
            [Protocol, Syntax, Limit, Room, TooMany, WrongPassword, LoginRefused, Cancelled, Upstream, Idle, Shutdown];
        for code in others {
            assert!(code.errno() < 5_000 && code.mysql_sqlstate().len() == 5, "{code:?}");
        }
    }

    #[test]
    fn a_progress_report_does_not_end_an_answer() {
        let mut stream = progress(to(MARIA), 1, 2, 50_000, "deleting").to_vec();
        stream.extend_from_slice(&ok(To { capabilities: MARIA, sequence: 2 }, &Done::default()));
        assert!(matches!(end(Expected::Results, MARIA, &stream), Event::End { end: End::Okay(_), over: true }));
    }

    #[test]
    fn what_changed_in_the_session_is_kept_from_who_did_not_ask() {
        let mut payload = BytesMut::from(&b"\0\x05\0\x02\x40\x01\0"[..]);
        put_lenenc_bytes(&mut payload, b"said");
        put_lenenc_bytes(&mut payload, b"\x01\x05\x04shop");
        let told = packet(1, &payload);
        let end = read_end(&told, NEW).expect("an OK");
        let again = retold(NEW, to(OLD), &told, &end);
        assert_eq!(&again[HEADER..], b"\0\x05\0\x02\0\x01\0\x04said");
        assert_eq!(retold(NEW, to(NEW), &told, &end), told);
    }

    #[test]
    fn our_commands_are_read_as_a_clients() {
        for capabilities in [OLD, NEW] {
            let bound = Parameters {
                types: vec![0x8001, 0xfd, 0x0c, 0x03],
                values: vec![
                    Some(Bytes::from_static(b"\xff")),
                    Some(Bytes::from_static(b"it's")),
                    Some(Bytes::from_static(b"\xe4\x07\x02\x1d")),
                    None,
                ],
                ..Parameters::default()
            };
            let script = Script::new(capabilities).query("SELECT 1").prepare(b"SELECT ?").execute(7, &bound);
            let script = script.close_statement(7).reset_connection().quit();
            assert_eq!(script.commands(), 4);
            let (mut cutter, mut inbox) = (ClientCutter::default(), BytesMut::from(&script.bytes()[..]));
            let mut frames: Vec<Frame> = Vec::new();
            while let Ok(Next::Frame(frame)) = cutter.next(&mut inbox) {
                frames.push(frame);
            }
            assert_eq!(frames.len(), 6);
            let Ok(Command::Query(query)) = command::read(&frames[0], capabilities) else { panic!() };
            assert_eq!(&query.text[..], b"SELECT 1");
            let none = BTreeMap::new();
            let known = Known { parameters: 4, kinds: &[], long: &none };
            let executed = command::execute(&frames[2], capabilities, known).expect("an execute");
            let read = executed.parameters(&Texts::default()).expect("values");
            assert_eq!(read.literals, ["255", "'it''s'", "DATE'2020-02-29'", "NULL"]);
            assert_eq!((read.types, read.values), (bound.types, bound.values));
        }
    }
}
