//! Cutting a byte stream into packets and commands: three bytes of length, one of sequence, a payload; a payload of 16 MiB - 1 is
//! continued in the next packet.
//!
//! Invariant: a [`Frame`] is one whole command and owns exactly its own packets, headers and all; nothing of the next command is in it.
//! The data of a LOAD DATA LOCAL is not gathered into frames but handed on in the parts it arrives in, so a gigabyte of it never waits
//! in memory.
//!
//! Source: MySQL's "Client/Server Protocol", page "MySQL Packets"; `my_net_read` and `net_read_packet_header` (net_serv.cc), which join
//! what continues and break off where a sequence number is not the next. Tried on MySQL 9.7 and MariaDB 10.11.

use crate::ground::limits;
use bytes::{Bytes, BytesMut};
use std::sync::OnceLock;

/// Length and sequence number.
pub const HEADER: usize = 4;
/// The longest payload of one packet; one of this length is continued in the next.
pub const PART_MAX: usize = 0xff_ffff;

/// One command: all its packets as they arrived, and its payload in one piece.
#[derive(Debug, Clone)]
pub struct Frame {
    bytes: Bytes,
    /// The payload of a command of several packets, joined when it is first asked for.
    joined: OnceLock<Bytes>,
}

impl PartialEq for Frame {
    fn eq(&self, other: &Frame) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Frame {}

impl Frame {
    /// The first byte of the payload: which command it is. The cutter lets none without it through.
    pub fn command(&self) -> u8 {
        self.bytes.get(HEADER).copied().unwrap_or_default()
    }

    /// The payload without its headers, the command's byte first.
    pub fn payload(&self) -> Bytes {
        if self.bytes.len() < HEADER + PART_MAX {
            return self.bytes.slice(HEADER.min(self.bytes.len())..);
        }
        self.joined.get_or_init(|| join(&self.bytes)).clone()
    }

    /// The payload behind the command's byte.
    pub fn body(&self) -> Bytes {
        let payload = self.payload();
        payload.slice(payload.len().min(1)..)
    }

    /// The sequence number that its answer begins with.
    pub fn answer_sequence(&self) -> u8 {
        // A command begins at 0, and each full packet is followed by one more.
        ((self.bytes.len() / (HEADER + PART_MAX) + 1) & 0xff) as u8
    }

    /// Of all its packets, with their headers.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// A command of our own making, already encoded as exactly one.
    pub fn encoded(bytes: Bytes) -> Option<Frame> {
        let mut inbox = BytesMut::from(&bytes[..]);
        match ClientCutter::default().next(&mut inbox) {
            Ok(Next::Frame(frame)) if inbox.is_empty() => Some(frame),
            _ => None,
        }
    }
}

/// What a stream of commands yields next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Frame(Frame),
    /// A part of a LOAD DATA LOCAL's data, to be passed on in order.
    DataPart(Bytes),
    /// Its last part, with the empty packet that ends it.
    DataEnd(Bytes),
    /// The command that was given up is over.
    Skipped(u8),
    /// Not there yet; this many bytes more would complete it, its packet or its header.
    Need(usize),
}

/// The stream cannot be read on: framing is lost, or a bound was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// A command without its byte.
    Empty,
    /// Packets out of order.
    Sequence { expected: u8, found: u8 },
    /// Longer than a command of its kind may be, or than a packet may be where it came.
    Length { command: u8, length: usize },
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Malformed::Empty => write!(f, "a command without a command byte"),
            Malformed::Sequence { expected, found } => {
                write!(f, "packets out of order: number {found} where {expected} was due")
            }
            Malformed::Length { command, length } => {
                write!(f, "invalid length {length} of a packet that begins with 0x{command:02x}")
            }
        }
    }
}

/// Cuts what a client sends after its login.
#[derive(Debug, Default)]
pub struct ClientCutter {
    mode: Mode,
}

#[derive(Debug, Default)]
enum Mode {
    #[default]
    Commands,
    /// The data of a LOAD DATA LOCAL, up to the empty packet.
    Data(Hop),
    /// A command that was given up.
    Skip { command: u8, hop: Hop },
}

impl ClientCutter {
    /// The server asked for a file's data: what the client sends next is that, up to an empty packet.
    ///
    /// `asked`: the number of the server's packet. What follows must be numbered on from it: a server that meets another number gives the
    /// load up in the middle of a packet, and takes what is left of the data for commands (seen on MySQL 9.7 and MariaDB 10.11).
    pub fn expect_data(&mut self, asked: u8) {
        self.mode = Mode::Data(Hop { due: Some(asked.wrapping_add(1)), ..Hop::default() });
    }

    pub fn in_data(&self) -> bool {
        matches!(self.mode, Mode::Data(_))
    }

    /// Gives up the command that stands in `inbox` and is not whole: what is here of it is dropped, and so is what is still to come.
    pub fn skip(&mut self, inbox: &mut BytesMut) {
        if let (Mode::Commands, Some(command)) = (&self.mode, inbox.get(HEADER)) {
            self.mode = Mode::Skip { command: *command, hop: Hop::default() };
        }
    }

    /// Takes the next unit off the front of `inbox`. After an error the stream is lost.
    pub fn next(&mut self, inbox: &mut BytesMut) -> Result<Next, Malformed> {
        match &mut self.mode {
            Mode::Commands => command(inbox),
            Mode::Data(hop) => {
                let (run, ended) = hop.over(inbox, |length, continues| length == 0 && !continues)?;
                let needed = hop.needed(inbox.len() - run);
                if ended {
                    self.mode = Mode::Commands;
                }
                let part = if run == 0 { Bytes::new() } else { inbox.split_to(run).freeze() };
                Ok(match (part.is_empty(), ended) {
                    (_, true) => Next::DataEnd(part),
                    (false, false) => Next::DataPart(part),
                    (true, false) => Next::Need(needed),
                })
            }
            Mode::Skip { command, hop } => {
                let command = *command;
                let (run, ended) = hop.over(inbox, |length, _| length < PART_MAX)?;
                let needed = hop.needed(inbox.len() - run);
                // What it took is given back.
                *inbox = if run == inbox.len() { BytesMut::new() } else { inbox.split_off(run) };
                if !ended {
                    return Ok(Next::Need(needed));
                }
                self.mode = Mode::Commands;
                Ok(Next::Skipped(command))
            }
        }
    }
}

/// One packet of a login, either way: it is never continued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    bytes: Bytes,
}

impl Packet {
    pub fn new(sequence: u8, payload: &[u8]) -> Packet {
        let mut bytes = BytesMut::with_capacity(HEADER + payload.len());
        put_packet(&mut bytes, sequence, payload);
        Packet { bytes: bytes.freeze() }
    }

    pub fn sequence(&self) -> u8 {
        self.bytes.get(HEADER - 1).copied().unwrap_or_default()
    }

    pub fn payload(&self) -> &[u8] {
        self.bytes.get(HEADER..).unwrap_or_default()
    }

    pub fn payload_bytes(&self) -> Bytes {
        self.bytes.slice(HEADER.min(self.bytes.len())..)
    }

    /// The first byte of the payload, if there is one.
    pub fn tag(&self) -> Option<u8> {
        self.payload().first().copied()
    }

    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The same payload under another number: the legs count for themselves where one of them was told more.
    pub fn renumbered(self, sequence: u8) -> Packet {
        if self.sequence() == sequence {
            return self;
        }
        Packet::new(sequence, self.payload())
    }
}

/// One packet off a stream, whole; `None` while it is incomplete. For logins and for our own questions, where every packet is looked
/// at; the relay hops over headers instead.
pub fn packet(inbox: &mut BytesMut, maximum: usize) -> Result<Option<Packet>, Malformed> {
    let Some(length) = declared_length(inbox) else { return Ok(None) };
    if length > maximum || length >= PART_MAX {
        return Err(Malformed::Length { command: inbox.get(HEADER).copied().unwrap_or_default(), length });
    }
    if inbox.len() < HEADER + length {
        return Ok(None);
    }
    Ok(Some(Packet { bytes: inbox.split_to(HEADER + length).freeze() }))
}

/// The length of the payload behind this header, if it is one.
pub fn declared_length(header: &[u8]) -> Option<usize> {
    match header.get(..HEADER)? {
        [low, middle, high, _] => Some(u32::from_le_bytes([*low, *middle, *high, 0]) as usize),
        _ => None,
    }
}

/// Appends a payload as packets, numbered from `sequence` on; the number that comes next.
pub fn put_packet(out: &mut BytesMut, sequence: u8, payload: &[u8]) -> u8 {
    let mut sequence = sequence;
    let mut rest = payload;
    loop {
        let (part, behind) = rest.split_at(rest.len().min(PART_MAX));
        out.extend_from_slice(&(part.len() as u32).to_le_bytes()[..3]);
        out.extend_from_slice(&[sequence]);
        out.extend_from_slice(part);
        sequence = sequence.wrapping_add(1);
        rest = behind;
        // A payload that fills its last packet is ended by an empty one.
        if part.len() < PART_MAX {
            return sequence;
        }
    }
}

/// The command at the front, if all its packets are here.
fn command(inbox: &mut BytesMut) -> Result<Next, Malformed> {
    let (mut at, mut number) = (0, 0u8);
    loop {
        let Some(header) = inbox.get(at..at + HEADER) else { return Ok(Next::Need(at + HEADER - inbox.len())) };
        let length = declared_length(header).unwrap_or_default();
        if header[HEADER - 1] != number {
            return Err(Malformed::Sequence { expected: number, found: header[HEADER - 1] });
        }
        if at == 0 && length == 0 {
            return Err(Malformed::Empty);
        }
        let whole = at + HEADER + length;
        if let Some(&command) = inbox.get(HEADER)
            && whole > client_length_max(command)
        {
            return Err(Malformed::Length { command, length: whole });
        }
        if inbox.len() < whole {
            return Ok(Next::Need(whole - inbox.len()));
        }
        if length < PART_MAX {
            return Ok(Next::Frame(Frame { bytes: inbox.split_to(whole).freeze(), joined: OnceLock::new() }));
        }
        (at, number) = (whole, number.wrapping_add(1));
    }
}

/// The bound on a command with its headers, by its kind. What we do not know is read to be refused by name, if it is short.
fn client_length_max(command: u8) -> usize {
    match command {
        // Query, prepare, execute, long data, bulk execute.
        0x03 | 0x16 | 0x17 | 0x18 | 0xfa => limits::LARGE_FRAME_BYTES_MAX,
        // A change of user: a login's answer with its attributes.
        0x11 => limits::LOGIN_PACKET_BYTES_MAX,
        _ => limits::SMALL_FRAME_BYTES_MAX,
    }
}

/// Where in a run of packets we are that is not kept.
#[derive(Debug, Default, Clone, Copy)]
struct Hop {
    /// Of the packet that was begun, its header counted.
    left: usize,
    /// The packet before was full: the next continues it.
    continues: bool,
    /// Nothing comes after the packet that was begun.
    last: bool,
    /// The number of the next packet, where it counts.
    due: Option<u8>,
}

impl Hop {
    /// How far the run goes in `bytes`, and whether it ends there. `ends` is told each packet's length, and whether it continues another.
    fn over(&mut self, bytes: &[u8], ends: impl Fn(usize, bool) -> bool) -> Result<(usize, bool), Malformed> {
        let mut at = 0;
        loop {
            let part = self.left.min(bytes.len() - at);
            self.left -= part;
            at += part;
            if self.left > 0 || self.last {
                return Ok((at, self.left == 0));
            }
            let header = &bytes[at..];
            let (Some(length), Some(&found)) = (declared_length(header), header.get(HEADER - 1)) else {
                return Ok((at, false));
            };
            if let Some(expected) = self.due {
                match found == expected {
                    true => {}
                    // What came before it is whole.
                    false if at > 0 => return Ok((at, false)),
                    false => return Err(Malformed::Sequence { expected, found }),
                }
                self.due = Some(expected.wrapping_add(1));
            }
            self.left = HEADER + length;
            self.last = ends(length, self.continues);
            self.continues = length == PART_MAX;
        }
    }

    /// How many bytes more would bring it on, where so many of the next header are here.
    fn needed(&self, here: usize) -> usize {
        if self.left > 0 { self.left } else { HEADER.saturating_sub(here).max(1) }
    }
}

fn join(bytes: &[u8]) -> Bytes {
    let mut joined = BytesMut::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(length) = declared_length(rest) {
        let end = (HEADER + length).min(rest.len());
        joined.extend_from_slice(&rest[HEADER..end]);
        rest = &rest[end..];
    }
    joined.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(bytes: &[u8]) -> (Vec<Next>, Option<Malformed>) {
        let mut inbox = BytesMut::from(bytes);
        let mut cutter = ClientCutter::default();
        let mut units = Vec::new();
        loop {
            match cutter.next(&mut inbox) {
                Ok(next @ Next::Need(_)) => {
                    units.push(next);
                    return (units, None);
                }
                Ok(next) => units.push(next),
                Err(malformed) => return (units, Some(malformed)),
            }
        }
    }

    fn frame(bytes: &[u8]) -> Next {
        Next::Frame(Frame { bytes: Bytes::copy_from_slice(bytes), joined: OnceLock::new() })
    }

    /// A query of this length, command byte and all.
    fn long(length: usize) -> Vec<u8> {
        let mut out = BytesMut::new();
        let payload: Vec<u8> = (0..length).map(|at| if at == 0 { 3 } else { (at % 251) as u8 }).collect();
        put_packet(&mut out, 0, &payload);
        out.to_vec()
    }

    #[test]
    fn a_command_ends_where_it_says() {
        let (units, malformed) = cut(b"\x03\0\0\0\x03ab\x01\0\0\0\x0e\x01");
        assert_eq!(malformed, None);
        assert_eq!(units, vec![frame(b"\x03\0\0\0\x03ab"), frame(b"\x01\0\0\0\x0e"), Next::Need(3)]);
        let Next::Frame(query) = &units[0] else { panic!("a frame") };
        assert_eq!((query.command(), &query.body()[..], query.answer_sequence()), (3, &b"ab"[..], 1));
    }

    #[test]
    fn a_long_command_is_one_frame_of_several_packets() {
        for (length, packets) in [(PART_MAX - 1, 1), (PART_MAX, 2), (PART_MAX + 1, 2), (2 * PART_MAX, 3)] {
            let sent = long(length);
            let mut inbox = BytesMut::from(&sent[..sent.len() - 1]);
            let mut cutter = ClientCutter::default();
            assert_eq!(cutter.next(&mut inbox), Ok(Next::Need(1)), "{length}");
            inbox.extend_from_slice(&sent[sent.len() - 1..]);
            inbox.extend_from_slice(b"\x01\0\0\0\x0e");
            let Ok(Next::Frame(frame)) = cutter.next(&mut inbox) else { panic!("{length}: no frame") };
            assert_eq!((frame.payload().len(), frame.answer_sequence()), (length, packets), "{length}");
            assert!(frame.payload().iter().enumerate().skip(1).all(|(at, byte)| *byte == (at % 251) as u8));
            assert!(frame.into_bytes() == sent, "{length}: what is kept is what came");
            assert_eq!(inbox.len(), 5, "and nothing of the next");
        }
    }

    #[test]
    fn data_of_a_file_is_passed_on_in_parts() {
        let mut cutter = ClientCutter::default();
        cutter.expect_data(1);
        let mut inbox = BytesMut::from(&b"\x03\0\0\x02abc\x05\0\0\x03de"[..]);
        let part = |bytes: &'static [u8]| Ok(Next::DataPart(Bytes::from_static(bytes)));
        assert_eq!(cutter.next(&mut inbox), part(b"\x03\0\0\x02abc\x05\0\0\x03de"));
        assert_eq!(cutter.next(&mut inbox), Ok(Next::Need(3)));
        inbox.extend_from_slice(b"fgh\0\0");
        assert_eq!(cutter.next(&mut inbox), part(b"fgh"));
        assert_eq!(cutter.next(&mut inbox), Ok(Next::Need(2)));
        inbox.extend_from_slice(b"\0\x04\x01\0\0\0\x0e");
        assert_eq!(cutter.next(&mut inbox), Ok(Next::DataEnd(Bytes::from_static(b"\0\0\0\x04"))));
        assert_eq!(cutter.next(&mut inbox), Ok(frame(b"\x01\0\0\0\x0e")));
    }

    #[test]
    fn data_that_is_not_numbered_on_is_refused() {
        for (sent, expected, found) in
            [(&b"\x01\0\0\x4da"[..], 2, 0x4d), (b"\x01\0\0\x02a\x01\0\0\x02b", 3, 2), (b"\x01\0\0\x02a\0\0\0\0", 3, 0)]
        {
            let mut cutter = ClientCutter::default();
            cutter.expect_data(1);
            let mut inbox = BytesMut::from(sent);
            if expected > 2 {
                assert!(matches!(cutter.next(&mut inbox), Ok(Next::DataPart(_))), "what came before it is whole");
            }
            assert_eq!(cutter.next(&mut inbox), Err(Malformed::Sequence { expected, found }), "{sent:?}");
        }
        let mut cutter = ClientCutter::default();
        cutter.expect_data(254);
        let mut inbox = BytesMut::from(&b"\x01\0\0\xffa\0\0\0\0"[..]);
        assert!(matches!(cutter.next(&mut inbox), Ok(Next::DataEnd(_))), "numbers begin anew");
    }

    #[test]
    fn the_empty_end_of_a_full_packet_does_not_end_the_data() {
        let mut cutter = ClientCutter::default();
        cutter.expect_data(1);
        let mut sent = BytesMut::new();
        put_packet(&mut sent, 2, &vec![b'x'; PART_MAX]);
        let whole = sent.len();
        assert_eq!(whole, PART_MAX + 2 * HEADER);
        let Ok(Next::DataPart(part)) = cutter.next(&mut sent) else { panic!("a part") };
        assert_eq!(part.len(), whole);
        sent.extend_from_slice(b"\0\0\0\x04");
        assert!(matches!(cutter.next(&mut sent), Ok(Next::DataEnd(_))));
    }

    #[test]
    fn what_is_given_up_ends_where_it_said() {
        let sent = long(PART_MAX + 10);
        for cut_at in [6, PART_MAX, PART_MAX + HEADER, PART_MAX + HEADER + 2, sent.len() - 1] {
            let mut cutter = ClientCutter::default();
            let mut inbox = BytesMut::from(&sent[..cut_at]);
            assert!(matches!(cutter.next(&mut inbox), Ok(Next::Need(_))), "{cut_at}");
            cutter.skip(&mut inbox);
            assert!(matches!(cutter.next(&mut inbox), Ok(Next::Need(_))), "{cut_at}");
            assert!(inbox.len() < HEADER, "{cut_at}: nothing of it is kept but the beginning of a header");
            inbox.extend_from_slice(&sent[cut_at..]);
            inbox.extend_from_slice(b"\x01\0\0\0\x0e");
            assert_eq!(cutter.next(&mut inbox), Ok(Next::Skipped(3)), "{cut_at}");
            assert_eq!(cutter.next(&mut inbox), Ok(frame(b"\x01\0\0\0\x0e")), "{cut_at}");
        }
    }

    #[test]
    fn what_cannot_be_framed_is_refused() {
        assert_eq!(cut(b"\x01\0\0\x01\x03").1, Some(Malformed::Sequence { expected: 0, found: 1 }));
        assert_eq!(cut(b"\0\0\0\0").1, Some(Malformed::Empty));
        let long_ping = Malformed::Length { command: 0x0e, length: HEADER + 0x010000 };
        assert_eq!(cut(b"\0\0\x01\0\x0e").1, Some(long_ping));
        let mut twice = long(PART_MAX + 1);
        twice[HEADER + PART_MAX + 3] = 2;
        assert_eq!(cut(&twice).1, Some(Malformed::Sequence { expected: 1, found: 2 }));
        let mut inbox = BytesMut::from(&b"\xff\xff\xff\x01abc"[..]);
        assert!(packet(&mut inbox, 1 << 30).is_err(), "a login's packet is never continued");
    }

    #[test]
    fn only_what_is_one_command_is_one() {
        assert!(Frame::encoded(Bytes::from_static(b"\x01\0\0\0\x0e")).is_some());
        assert!(Frame::encoded(Bytes::from_static(b"\x01\0\0\0\x0e\x01\0\0\0\x0e")).is_none());
        assert!(Frame::encoded(Bytes::from_static(b"\x02\0\0\0\x0e")).is_none());
    }
}
