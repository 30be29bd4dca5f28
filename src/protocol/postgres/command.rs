//! What a client's message says: its body taken apart, all of it accounted for.
//!
//! Invariant: a body is accepted only if it is consumed to its last byte, so that no two readers can disagree about what it
//! holds. A text with an embedded NUL, or a count that does not fit, is malformed.

use crate::protocol::Parameters;
use crate::protocol::cursor::{Cursor, Short};
use crate::protocol::postgres::frame::Frame;
use bytes::Bytes;

/// `Query`: the text, without its NUL.
pub fn query(frame: &Frame) -> Result<Bytes, Short> {
    let body = frame.body_bytes();
    let mut cursor = Cursor::new(&body);
    let length = cursor.cstr()?.len();
    cursor.finish()?;
    Ok(body.slice(..length))
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parse {
    /// Empty: the unnamed statement.
    pub name: Bytes,
    pub text: Bytes,
    /// Type OIDs stated by the client; 0 or missing is for the server to find out.
    pub types: Vec<u32>,
}

pub fn parse(frame: &Frame) -> Result<Parse, Short> {
    let body = frame.body_bytes();
    let mut cursor = Cursor::new(&body);
    let name = cursor.cstr()?.len();
    let text = cursor.cstr()?.len();
    let count = usize::try_from(cursor.i16()?).map_err(|_| Short)?;
    let mut types = Vec::new();
    for _ in 0..count {
        types.push(cursor.i32()? as u32);
    }
    cursor.finish()?;
    Ok(Parse { name: body.slice(..name), text: body.slice(name + 1..name + 1 + text), types })
}

#[derive(Debug, Clone, PartialEq)]
pub struct Bind {
    pub portal: Bytes,
    pub statement: Bytes,
    /// Format codes, values and the result columns' format codes: gone through, and not taken apart yet.
    values: Bytes,
}

impl Bind {
    /// The values that it is bound with. Most statements are harmless whatever they are, so only who asks pays for them.
    pub fn parameters(&self) -> Result<Parameters, Short> {
        let mut cursor = Cursor::new(&self.values);
        let formats = shorts(&mut cursor)?.chunks_exact(2).map(|pair| i16::from_be_bytes([pair[0], pair[1]])).collect();
        let mut values = Vec::new();
        for _ in 0..count(&mut cursor)? {
            values.push(value(&mut cursor)?.map(|value| self.values.slice_ref(value)));
        }
        Ok(Parameters { formats, values, ..Parameters::default() })
    }
}

pub fn bind(frame: &Frame) -> Result<Bind, Short> {
    let body = frame.body_bytes();
    let mut cursor = Cursor::new(&body);
    let portal = cursor.cstr()?.len();
    let statement = cursor.cstr()?.len();
    shorts(&mut cursor)?;
    for _ in 0..count(&mut cursor)? {
        value(&mut cursor)?;
    }
    shorts(&mut cursor)?;
    cursor.finish()?;
    let values = portal + 1 + statement + 1;
    Ok(Bind {
        portal: body.slice(..portal),
        statement: body.slice(portal + 1..portal + 1 + statement),
        values: body.slice(values..),
    })
}

/// Whether a Describe or Close is about a statement or a portal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    Statement(Bytes),
    Portal(Bytes),
}

/// Describe and Close.
pub fn subject(frame: &Frame) -> Result<Subject, Short> {
    let body = frame.body_bytes();
    let mut cursor = Cursor::new(&body);
    let kind = cursor.u8()?;
    let length = cursor.cstr()?.len();
    cursor.finish()?;
    let name = body.slice(1..1 + length);
    match kind {
        b'S' => Ok(Subject::Statement(name)),
        b'P' => Ok(Subject::Portal(name)),
        _ => Err(Short),
    }
}

/// Execute: the portal. How many rows to send at once needs no judging.
pub fn execute(frame: &Frame) -> Result<Bytes, Short> {
    let body = frame.body_bytes();
    let mut cursor = Cursor::new(&body);
    let length = cursor.cstr()?.len();
    cursor.i32()?;
    cursor.finish()?;
    Ok(body.slice(..length))
}

/// FunctionCall: the OID of the function. The arguments are not looked into.
pub fn function(frame: &Frame) -> Result<u32, Short> {
    Ok(Cursor::new(frame.body()).i32()? as u32)
}

/// A function of libpq's large-object interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectCall {
    pub name: &'static str,
    pub writes: bool,
    /// It writes no bytes, but makes an object.
    pub makes: bool,
}

/// What libpq calls by its OID for its large-object interface and does no more than that needs: open, close, read, write at a
/// descriptor, seek, tell, create. Unlinking and truncating are not among them (see
/// [`large_object_removal`]). These OIDs are fixed in every server
/// (pg_proc.dat, 13 to 18).
pub fn large_object_call(function: u32) -> Option<ObjectCall> {
    let looks = |name| Some(ObjectCall { name, writes: false, makes: false });
    let makes = |name| Some(ObjectCall { name, writes: true, makes: true });
    match function {
        952 => looks("lo_open"),
        953 => looks("lo_close"),
        954 => looks("loread"),
        955 => Some(ObjectCall { name: "lowrite", writes: true, makes: false }),
        956 => looks("lo_lseek"),
        957 => makes("lo_creat"),
        958 => looks("lo_tell"),
        715 => makes("lo_create"),
        3170 => looks("lo_lseek64"),
        3171 => looks("lo_tell64"),
        _ => None,
    }
}

/// The function by which libpq's large-object interface unlinks or truncates one.
pub fn large_object_removal(function: u32) -> Option<&'static str> {
    match function {
        964 => Some("lo_unlink"),
        1004 => Some("lo_truncate"),
        3172 => Some("lo_truncate64"),
        _ => None,
    }
}

/// ParameterDescription: type OIDs.
pub fn parameter_types(frame: &Frame) -> Result<Vec<u32>, Short> {
    let mut cursor = Cursor::new(frame.body());
    let count = count(&mut cursor)?;
    let mut types = Vec::new();
    for _ in 0..count {
        types.push(cursor.i32()? as u32);
    }
    cursor.finish()?;
    Ok(types)
}

/// Names of the columns in a RowDescription.
pub fn column_names(frame: &Frame) -> Result<Vec<String>, Short> {
    let mut cursor = Cursor::new(frame.body());
    let count = count(&mut cursor)?;
    let mut names = Vec::new();
    for _ in 0..count {
        names.push(String::from_utf8_lossy(cursor.cstr()?).into_owned());
        cursor.bytes(18)?; // table, column, type, size, modifier, format
    }
    cursor.finish()?;
    Ok(names)
}

/// The values of a DataRow that was asked for in text form.
pub fn text_row(frame: &Frame) -> Result<Vec<Option<String>>, Short> {
    let mut cursor = Cursor::new(frame.body());
    let count = count(&mut cursor)?;
    let mut values = Vec::new();
    for _ in 0..count {
        let length = cursor.i32()?;
        values.push(match usize::try_from(length) {
            Ok(length) => Some(String::from_utf8_lossy(cursor.bytes(length)?).into_owned()),
            Err(_) => None,
        });
    }
    cursor.finish()?;
    Ok(values)
}

/// One field of an ErrorResponse or NoticeResponse (`C` is the SQLSTATE, `M` the message); `None` when it has none.
pub fn error_field(body: &[u8], field: u8) -> Option<String> {
    let mut cursor = Cursor::new(body);
    loop {
        let kind = cursor.u8().ok()?;
        if kind == 0 {
            return None;
        }
        let value = cursor.cstr().ok()?;
        if kind == field {
            return Some(String::from_utf8_lossy(value).into_owned());
        }
    }
}

/// How many rows a command tag says were changed: `DELETE 5`, `INSERT 0 5`, `MERGE 2`; `None` for other tags.
pub fn changed_rows(tag: &[u8]) -> Option<u64> {
    let tag = std::str::from_utf8(tag).ok()?;
    let (verb, rest) = tag.split_once(' ')?;
    matches!(verb, "INSERT" | "UPDATE" | "DELETE" | "MERGE" | "COPY")
        .then(|| rest.rsplit(' ').next()?.parse().ok())
        .flatten()
}

fn count(cursor: &mut Cursor<'_>) -> Result<usize, Short> {
    // The field is declared Int16; servers read it unsigned since 65,535 parameters are allowed.
    Ok(usize::from(cursor.i16()? as u16))
}

/// So many Int16, as they came.
fn shorts<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], Short> {
    let count = count(cursor)?;
    cursor.bytes(2 * count)
}

/// A parameter of a Bind; `None`: NULL.
fn value<'a>(cursor: &mut Cursor<'a>) -> Result<Option<&'a [u8]>, Short> {
    let length = cursor.i32()?;
    match usize::try_from(length) {
        Ok(length) => cursor.bytes(length).map(Some),
        Err(_) if length == -1 => Ok(None),
        Err(_) => Err(Short),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(tag: u8, body: &[u8]) -> Frame {
        let mut bytes = vec![tag];
        bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        bytes.extend_from_slice(body);
        Frame::encoded(Bytes::from(bytes)).expect("a whole message")
    }

    #[test]
    fn a_query_is_one_text_and_nothing_more() {
        assert_eq!(query(&frame(b'Q', b"SELECT 1\0")), Ok(Bytes::from_static(b"SELECT 1")));
        assert_eq!(query(&frame(b'Q', b"SELECT 1")), Err(Short));
        assert_eq!(query(&frame(b'Q', b"SELECT 1\0; DELETE FROM t\0")), Err(Short));
    }

    #[test]
    fn a_bind_gives_back_its_values() {
        let body = b"p\0s\0\0\x01\0\x01\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\0";
        let bound = bind(&frame(b'B', body)).expect("well formed");
        assert_eq!(bound.portal, "p");
        assert_eq!(bound.statement, "s");
        let parameters = bound.parameters().expect("gone through");
        assert_eq!(parameters.formats, vec![1]);
        assert_eq!(parameters.values, vec![Some(Bytes::from_static(b"ab")), None]);
        for cut in 0..body.len() {
            assert!(bind(&frame(b'B', &body[..cut])).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn tags_tell_how_many_rows_changed() {
        for (tag, rows) in
            [("DELETE 5", Some(5)), ("INSERT 0 7", Some(7)), ("MERGE 2", Some(2)), ("SELECT 9", None), ("BEGIN", None)]
        {
            assert_eq!(changed_rows(tag.as_bytes()), rows, "{tag}");
        }
    }
}
