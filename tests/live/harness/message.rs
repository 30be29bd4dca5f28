//! PostgreSQL's messages as bytes: what a client sends, built by hand, and what it hears, taken apart.
//!
//! Invariant: nothing is shared with the product's own protocol room, so that an error there cannot hide an error there.
//! Source: <https://www.postgresql.org/docs/18/protocol-message-formats.html>.

use std::collections::BTreeMap;
use std::fmt;

/// 3.0, as every client of the last twenty years says.
pub const PROTOCOL_3_0: i32 = 3 << 16;
/// PostgreSQL 18's, with longer cancel keys.
pub const PROTOCOL_3_2: i32 = 3 << 16 | 2;

/// One message of the server.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    pub tag: u8,
    pub body: Vec<u8>,
}

impl Message {
    /// An error's or a notice's fields by their letters.
    pub fn fields(&self) -> BTreeMap<char, String> {
        assert!(matches!(self.tag, b'E' | b'N'), "{self:?} has no fields");
        let parts = self.body.split(|byte| *byte == 0).filter(|part| !part.is_empty());
        parts.map(|part| (part[0] as char, String::from_utf8_lossy(&part[1..]).into_owned())).collect()
    }

    /// A row's values in text form.
    pub fn row(&self) -> Vec<Option<String>> {
        assert_eq!(self.tag, b'D');
        let mut rest = Rest(&self.body);
        (0..rest.int16()).map(|_| rest.value().map(|value| String::from_utf8_lossy(value).into_owned())).collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.body.strip_suffix(&[0]).unwrap_or(&self.body)).into_owned()
    }

    /// Without what differs between any two connections: process ids, cancel keys, oids of tables.
    pub fn masked(mut self) -> Message {
        match self.tag {
            b'K' => self.body.fill(b'?'),
            b'A' => self.body[..4].fill(b'?'),
            b'T' => mask_table_oids(&mut self.body),
            _ => {}
        }
        self
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.body[..self.body.len().min(400)];
        write!(f, "{}[{}]", self.tag as char, shown.escape_ascii())?;
        if shown.len() < self.body.len() { write!(f, "… {} bytes", self.body.len()) } else { Ok(()) }
    }
}

/// Each field: name, 0, table oid (4), column (2), type (4), size (2), modifier (4), format (2).
fn mask_table_oids(body: &mut [u8]) {
    let mut at = 2;
    while at < body.len() {
        at += body[at..].iter().position(|byte| *byte == 0).expect("a name ends") + 1;
        body[at..at + 4].fill(b'?');
        at += 18;
    }
}

/// What is left of a body.
pub struct Rest<'a>(pub &'a [u8]);

impl<'a> Rest<'a> {
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }
    pub fn int16(&mut self) -> i16 {
        i16::from_be_bytes(self.take(2).try_into().expect("two"))
    }
    pub fn int32(&mut self) -> i32 {
        i32::from_be_bytes(self.take(4).try_into().expect("four"))
    }
    /// Length and bytes; -1 is NULL.
    pub fn value(&mut self) -> Option<&'a [u8]> {
        let length = self.int32();
        (length >= 0).then(|| self.take(length as usize))
    }
}

// ---------------------------------------------------------------- what a client sends

pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![tag];
    message.extend(i32::try_from(body.len() + 4).expect("a length").to_be_bytes());
    message.extend(body);
    message
}

pub fn startup(version: i32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend(cstring(name));
        body.extend(cstring(value));
    }
    body.push(0);
    let mut message = i32::try_from(body.len() + 4).expect("a length").to_be_bytes().to_vec();
    message.extend(body);
    message
}

/// A request that stands in the startup packet's place: 80877103 TLS, 80877104 GSSAPI, 80877102 cancel.
pub fn special(code: i32, rest: &[u8]) -> Vec<u8> {
    let mut message = i32::try_from(rest.len() + 8).expect("a length").to_be_bytes().to_vec();
    message.extend(code.to_be_bytes());
    message.extend(rest);
    message
}

pub fn tls_request() -> Vec<u8> {
    special(80_877_103, &[])
}

pub fn gss_request() -> Vec<u8> {
    special(80_877_104, &[])
}

/// `key` is what BackendKeyData held: process id and secret.
pub fn cancel_request(key: &[u8]) -> Vec<u8> {
    special(80_877_102, key)
}

pub fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &cstring(sql))
}

pub fn parse(name: &str, sql: &str, types: &[i32]) -> Vec<u8> {
    let mut body = [cstring(name), cstring(sql), int16(types.len())].concat();
    body.extend(types.iter().flat_map(|oid| oid.to_be_bytes()));
    message(b'P', &body)
}

/// With every value, and every column of the answer, in one format: 0 text, 1 binary.
pub fn bind(portal: &str, statement: &str, format: i16, values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body =
        [cstring(portal), cstring(statement), int16(1), format.to_be_bytes().to_vec(), int16(values.len())].concat();
    for value in values {
        match value {
            None => body.extend((-1i32).to_be_bytes()),
            Some(value) => {
                body.extend(i32::try_from(value.len()).expect("a length").to_be_bytes());
                body.extend(*value);
            }
        }
    }
    body.extend(int16(1));
    body.extend(format.to_be_bytes());
    message(b'B', &body)
}

/// `what` is b'S' for a statement, b'P' for a portal; for `close` too.
pub fn describe(what: u8, name: &str) -> Vec<u8> {
    message(b'D', &[vec![what], cstring(name)].concat())
}

pub fn close(what: u8, name: &str) -> Vec<u8> {
    message(b'C', &[vec![what], cstring(name)].concat())
}

/// `limit` 0 is all rows.
pub fn execute(portal: &str, limit: i32) -> Vec<u8> {
    message(b'E', &[cstring(portal), limit.to_be_bytes().to_vec()].concat())
}

pub fn flush() -> Vec<u8> {
    message(b'H', &[])
}

pub fn sync() -> Vec<u8> {
    message(b'S', &[])
}

pub fn terminate() -> Vec<u8> {
    message(b'X', &[])
}

pub fn copy_data(data: &[u8]) -> Vec<u8> {
    message(b'd', data)
}

pub fn copy_done() -> Vec<u8> {
    message(b'c', &[])
}

pub fn copy_fail(reason: &str) -> Vec<u8> {
    message(b'f', &cstring(reason))
}

/// Parse, Bind, Describe, Execute of the unnamed statement, without Sync.
pub fn whole(sql: &str, values: &[Option<&[u8]>]) -> Vec<u8> {
    [parse("", sql, &[]), bind("", "", 0, values), describe(b'P', ""), execute("", 0)].concat()
}

pub fn cstring(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

fn int16(count: usize) -> Vec<u8> {
    i16::try_from(count).expect("a count").to_be_bytes().to_vec()
}
