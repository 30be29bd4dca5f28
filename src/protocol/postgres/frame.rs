//! Cutting a byte stream into frames: one type byte, four bytes of length that count themselves, a body.
//!
//! Invariant: a [`Frame`] is complete and owns exactly its own bytes; nothing of the next message is in it. COPY data is not
//! gathered into frames but handed on in the parts it arrives in, so a gigabyte of it never waits in memory.
//!
//! Source: PostgreSQL manual, "Message Formats"; length limits as in `PostgresMain`/`SocketBackend` (postgres.c, 15 and 18).

use crate::ground::limits;
use bytes::{Bytes, BytesMut};

/// One whole message with its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    bytes: Bytes,
}

impl Frame {
    pub fn tag(&self) -> u8 {
        self.bytes[0]
    }

    pub fn body(&self) -> &[u8] {
        &self.bytes[HEADER..]
    }

    /// The body without copying it.
    pub fn body_bytes(&self) -> Bytes {
        self.bytes.slice(HEADER..)
    }

    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// A frame of our own making, already encoded as exactly one message.
    pub fn encoded(bytes: Bytes) -> Option<Frame> {
        let length = declared_length(bytes.get(..HEADER)?)?;
        (bytes.len() == length + 1).then_some(Frame { bytes })
    }
}

/// Type byte and length.
pub const HEADER: usize = 5;

/// What a stream of client messages yields next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Frame(Frame),
    /// A part of CopyData messages, one or more: headers and data, to be passed on in order.
    CopyPart(Bytes),
    /// The message of this type that was given up is over.
    Skipped(u8),
    /// Not there yet; this many bytes more would complete it or its header.
    Need(usize),
}

/// The stream cannot be read on: framing is lost, or a bound was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// A type byte that no client of protocol 3 sends.
    UnknownType(u8),
    /// A length below four or above the bound for its type.
    Length { tag: u8, length: u32 },
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Malformed::UnknownType(tag) => write!(f, "invalid frontend message type {tag}"),
            Malformed::Length { tag, length } => {
                write!(f, "invalid length {length} of message type \"{}\"", char::from(*tag).escape_default())
            }
        }
    }
}

/// Cuts what a client sends after its startup.
#[derive(Debug, Default)]
pub struct ClientCutter {
    copy_left: usize,
    /// Of a message that was given up: how much of it is still to come, and its type.
    skip_left: u32,
    skips: Option<u8>,
}

impl ClientCutter {
    /// Gives up the message that stands in `inbox` and is not whole: what is here of it is dropped, and so is what is still to come.
    pub fn skip(&mut self, inbox: &mut BytesMut) {
        let length = declared_length(inbox).and_then(|length| u32::try_from(length + 1).ok());
        if let (0, None, Some(tag), Some(length)) = (self.copy_left, self.skips, inbox.first(), length) {
            (self.skips, self.skip_left) = (Some(*tag), length);
        }
    }

    /// Drops what has come of it by now.
    fn skip_on(&mut self, tag: u8, inbox: &mut BytesMut) -> Next {
        match u32::try_from(inbox.len()) {
            Ok(here) if here < self.skip_left => {
                // What it took is given back.
                *inbox = BytesMut::new();
                self.skip_left -= here;
                Next::Need(self.skip_left as usize)
            }
            _ => {
                let _ = inbox.split_to(self.skip_left as usize);
                (self.skips, self.skip_left) = (None, 0);
                Next::Skipped(tag)
            }
        }
    }

    /// Takes the next unit off the front of `inbox`. After an error the stream is lost.
    pub fn next(&mut self, inbox: &mut BytesMut) -> Result<Next, Malformed> {
        if let Some(tag) = self.skips {
            return Ok(self.skip_on(tag, inbox));
        }
        if self.copy_left > 0 {
            return Ok(self.copy_part(inbox));
        }
        let Some(header) = inbox.get(..HEADER) else {
            if let Some(&tag) = inbox.first() {
                client_length_max(tag)?;
            }
            return Ok(Next::Need(HEADER - inbox.len()));
        };
        let tag = header[0];
        let maximum = client_length_max(tag)?;
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        if length < 4 || length as usize > maximum {
            return Err(Malformed::Length { tag, length });
        }
        let whole = length as usize + 1;
        if tag == b'd' {
            self.copy_left = whole;
            return Ok(self.copy_part(inbox));
        }
        if inbox.len() < whole {
            return Ok(Next::Need(whole - inbox.len()));
        }
        Ok(Next::Frame(Frame { bytes: inbox.split_to(whole).freeze() }))
    }

    /// All the COPY data there is, in one part: a client sends a message for each row, and one by one they would cost as much as
    /// statements.
    fn copy_part(&mut self, inbox: &mut BytesMut) -> Next {
        let mut run = 0;
        loop {
            let part = self.copy_left.min(inbox.len() - run);
            run += part;
            self.copy_left -= part;
            if self.copy_left > 0 {
                break;
            }
            match inbox.get(run..run + HEADER).and_then(copy_data_length) {
                Some(whole) => self.copy_left = whole,
                None => break,
            }
        }
        match run {
            0 => Next::Need(self.copy_left),
            run => Next::CopyPart(inbox.split_to(run).freeze()),
        }
    }
}

/// The length of a CopyData message with its type byte, if this is the header of one that may come.
fn copy_data_length(header: &[u8]) -> Option<usize> {
    let length = declared_length(header)?;
    (header.first() == Some(&b'd') && length <= limits::LARGE_FRAME_BYTES_MAX).then_some(length + 1)
}

/// The bound on a client message's length field, by type; unknown types have none.
fn client_length_max(tag: u8) -> Result<usize, Malformed> {
    match tag {
        b'Q' | b'P' | b'B' | b'F' | b'd' => Ok(limits::LARGE_FRAME_BYTES_MAX),
        b'p' => Ok(limits::AUTH_BYTES_MAX),
        b'C' | b'D' | b'E' | b'H' | b'S' | b'X' | b'c' | b'f' => Ok(limits::SMALL_FRAME_BYTES_MAX),
        other => Err(Malformed::UnknownType(other)),
    }
}

/// The length field of a header, if it is one.
pub fn declared_length(header: &[u8]) -> Option<usize> {
    let length = u32::from_be_bytes(header.get(1..5)?.try_into().ok()?);
    (length >= 4).then_some(length as usize)
}

/// One message off an upstream's stream, whole; `None` while it is incomplete. For the login and for our own questions, where
/// every message is looked at; the relay hops over headers instead.
pub fn upstream_frame(inbox: &mut BytesMut, maximum: usize) -> Result<Option<Frame>, Malformed> {
    let Some(header) = inbox.get(..HEADER) else { return Ok(None) };
    let tag = header[0];
    let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
    if length < 4 || length as usize > maximum {
        return Err(Malformed::Length { tag, length });
    }
    let whole = length as usize + 1;
    if inbox.len() < whole {
        return Ok(None);
    }
    Ok(Some(Frame { bytes: inbox.split_to(whole).freeze() }))
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

    #[test]
    fn a_frame_ends_where_it_says() {
        let (units, malformed) = cut(b"Q\0\0\0\x08ab\0\0S\0\0\0\x04");
        assert_eq!(malformed, None);
        let frame = |bytes: &'static [u8]| Next::Frame(Frame { bytes: Bytes::from_static(bytes) });
        assert_eq!(units, vec![frame(b"Q\0\0\0\x08ab\0\0"), frame(b"S\0\0\0\x04"), Next::Need(5)]);
    }

    #[test]
    fn copy_data_is_passed_on_in_parts() {
        let part = |bytes: &'static [u8]| Next::CopyPart(Bytes::from_static(bytes));
        let (units, _) = cut(b"d\0\0\0\x08abcdd\0\0\0\x07xy");
        assert_eq!(units, vec![part(b"d\0\0\0\x08abcdd\0\0\0\x07xy"), Next::Need(1)]);
        let (units, _) = cut(b"d\0\0\0\x04d\0\0\0\x05xc\0\0\0\x04d\0\0");
        let done = Next::Frame(Frame { bytes: Bytes::from_static(b"c\0\0\0\x04") });
        assert_eq!(units, vec![part(b"d\0\0\0\x04d\0\0\0\x05x"), done, Next::Need(2)]);
        let (units, malformed) = cut(b"d\0\0\0\x05xd\0\0\0\x03");
        assert_eq!(units, vec![part(b"d\0\0\0\x05x")], "what can be framed goes on");
        assert_eq!(malformed, Some(Malformed::Length { tag: b'd', length: 3 }));
    }

    #[test]
    fn what_is_given_up_ends_where_it_said() {
        let mut cutter = ClientCutter::default();
        let mut inbox = BytesMut::from(&b"Q\0\0\0\x0aab"[..]);
        assert_eq!(cutter.next(&mut inbox), Ok(Next::Need(4)));
        cutter.skip(&mut inbox);
        assert_eq!(cutter.next(&mut inbox), Ok(Next::Need(4)));
        assert_eq!((inbox.len(), inbox.capacity()), (0, 0), "nothing of it is kept");
        cutter.skip(&mut inbox);
        inbox.extend_from_slice(b"cde");
        assert_eq!(cutter.next(&mut inbox), Ok(Next::Need(1)));
        inbox.extend_from_slice(b"\0S\0\0\0\x04");
        assert_eq!(cutter.next(&mut inbox), Ok(Next::Skipped(b'Q')));
        let sync = Frame { bytes: Bytes::from_static(b"S\0\0\0\x04") };
        assert_eq!(cutter.next(&mut inbox), Ok(Next::Frame(sync)));
    }

    #[test]
    fn what_cannot_be_framed_is_refused() {
        assert_eq!(cut(b"Z\0\0\0\x04").1, Some(Malformed::UnknownType(b'Z')));
        assert_eq!(cut(b"Q\0\0\0\x03").1, Some(Malformed::Length { tag: b'Q', length: 3 }));
        assert_eq!(cut(b"S\0\x01\0\x04").1, Some(Malformed::Length { tag: b'S', length: 65540 }));
        assert_eq!(cut(b"Q\xff\xff\xff\xff").1, Some(Malformed::Length { tag: b'Q', length: u32::MAX }));
        assert_eq!(cut(b"\x16").1, Some(Malformed::UnknownType(0x16)));
    }
}
