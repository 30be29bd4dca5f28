//! The messages of logging in: what a server asks for, and how it is answered.
//!
//! Invariant: a request is one of those that are listed here or it is [`Request::Other`], which nobody answers.
//!
//! Source: PostgreSQL manual, "Message Formats", Authentication… and …Response; `AUTH_REQ_…` (protocol.h, 18).

use crate::protocol::cursor::{Cursor, Short};
use bytes::{BufMut, Bytes, BytesMut};

/// What a server wants of who logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// Nothing (more): come in.
    Ok,
    Cleartext,
    Md5([u8; 4]),
    /// SASL, by one of these mechanisms.
    Sasl(Mechanisms),
    SaslContinue(&'a [u8]),
    SaslFinal(&'a [u8]),
    /// GSSAPI, SSPI, or one that came after PostgreSQL 18.
    Other(i32),
}

/// Those of the offered mechanisms that we speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mechanisms {
    pub scram: bool,
    pub scram_plus: bool,
}

/// The body of an Authentication… message (`R`).
pub fn request(body: &[u8]) -> Result<Request<'_>, Short> {
    let mut cursor = Cursor::new(body);
    let request = match cursor.i32()? {
        0 => Request::Ok,
        3 => Request::Cleartext,
        5 => Request::Md5(cursor.bytes(4)?.try_into().map_err(|_| Short)?),
        10 => Request::Sasl(mechanisms(&mut cursor)?),
        11 => return Ok(Request::SaslContinue(body.get(4..).unwrap_or_default())),
        12 => return Ok(Request::SaslFinal(body.get(4..).unwrap_or_default())),
        other => return Ok(Request::Other(other)),
    };
    cursor.finish()?;
    Ok(request)
}

fn mechanisms(cursor: &mut Cursor<'_>) -> Result<Mechanisms, Short> {
    let mut found = Mechanisms::default();
    loop {
        match cursor.cstr()? {
            b"" => return Ok(found),
            b"SCRAM-SHA-256" => found.scram = true,
            b"SCRAM-SHA-256-PLUS" => found.scram_plus = true,
            _ => {}
        }
    }
}

/// The body of a SASLInitialResponse (`p`): the mechanism chosen and its first message.
pub fn sasl_initial(body: &[u8]) -> Result<(&str, &[u8]), Short> {
    let mut cursor = Cursor::new(body);
    let mechanism = std::str::from_utf8(cursor.cstr()?).map_err(|_| Short)?;
    let length = usize::try_from(cursor.i32()?).map_err(|_| Short)?;
    let message = cursor.bytes(length)?;
    cursor.finish()?;
    Ok((mechanism, message))
}

pub fn offer(mechanisms: &[&str]) -> Bytes {
    let mut list = Vec::new();
    for mechanism in mechanisms {
        list.extend_from_slice(mechanism.as_bytes());
        list.push(0);
    }
    list.push(0);
    asks(10, &list)
}

pub fn sasl_continue(message: &str) -> Bytes {
    asks(11, message.as_bytes())
}

pub fn sasl_final(message: &str) -> Bytes {
    asks(12, message.as_bytes())
}

pub fn ok() -> Bytes {
    asks(0, &[])
}

/// NegotiateProtocolVersion: the newest minor version of 3 that is spoken, and the options that are not known.
pub fn negotiate(minor: u16, unknown: &[&str]) -> Bytes {
    let mut body = BytesMut::new();
    body.put_u32(3 << 16 | u32::from(minor));
    body.put_u32(unknown.len() as u32);
    for name in unknown {
        body.put_slice(name.replace('\0', "").as_bytes());
        body.put_u8(0);
    }
    message(b'v', &body)
}

/// PasswordMessage: a password or its digest.
pub fn password(text: &[u8]) -> Bytes {
    message(b'p', &[text, b"\0"].concat())
}

pub fn sasl_begin(mechanism: &str, first: &str) -> Bytes {
    let mut body = BytesMut::new();
    body.put_slice(mechanism.as_bytes());
    body.put_u8(0);
    body.put_u32(first.len() as u32);
    body.put_slice(first.as_bytes());
    message(b'p', &body)
}

pub fn sasl_response(text: &str) -> Bytes {
    message(b'p', text.as_bytes())
}

fn asks(code: u32, rest: &[u8]) -> Bytes {
    message(b'R', &[&code.to_be_bytes(), rest].concat())
}

fn message(tag: u8, body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(body.len() + 5);
    out.put_u8(tag);
    out.put_u32(body.len() as u32 + 4);
    out.put_slice(body);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests_are_read_as_servers_send_them() {
        let both = Mechanisms { scram: true, scram_plus: true };
        let pairs: [(&[u8], Result<Request<'_>, Short>); 9] = [
            (b"\0\0\0\0", Ok(Request::Ok)),
            (b"\0\0\0\x03", Ok(Request::Cleartext)),
            (b"\0\0\0\x05salt", Ok(Request::Md5(*b"salt"))),
            (b"\0\0\0\x05sal", Err(Short)),
            (b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0", Ok(Request::Sasl(both))),
            (b"\0\0\0\x0aOAUTHBEARER\0\0", Ok(Request::Sasl(Mechanisms::default()))),
            (b"\0\0\0\x0aSCRAM-SHA-256\0", Err(Short)),
            (b"\0\0\0\x07", Ok(Request::Other(7))),
            (b"\0\0\0", Err(Short)),
        ];
        for (body, expected) in pairs {
            assert_eq!(request(body), expected, "{}", body.escape_ascii());
        }
        assert_eq!(
            request(&offer(&["SCRAM-SHA-256"])[5..]),
            Ok(Request::Sasl(Mechanisms { scram: true, scram_plus: false }))
        );
    }

    #[test]
    fn a_first_response_is_read_to_its_last_byte() {
        assert_eq!(sasl_initial(b"SCRAM-SHA-256\0\0\0\0\x02hi"), Ok(("SCRAM-SHA-256", &b"hi"[..])));
        for body in [
            &b""[..],
            b"SCRAM-SHA-256",
            b"X\0\0\0\0\x03hi",
            b"X\0\0\0\0\x01hi",
            b"X\0\xff\xff\xff\xff",
            b"\xff\0\0\0\0\0",
        ] {
            assert_eq!(sasl_initial(body), Err(Short), "{}", body.escape_ascii());
        }
        assert_eq!(sasl_initial(&sasl_begin("M", "first")[5..]), Ok(("M", &b"first"[..])));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = request(&body);
            let _ = sasl_initial(&body);
        }
    }
}
