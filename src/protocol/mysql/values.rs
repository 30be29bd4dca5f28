//! Values that a client bound to a prepared statement's parameters, and their form as SQL literals.
//!
//! Invariant: a literal means to the server what the bound value means, in the session's own character set and sql_mode; a value that
//! has no such form (a number that is none) has no literal, and what needs it is unknown then.
//!
//! Source: MySQL's "Binary Protocol Resultset"; `Item_param` and `setup_one_conversion_function` of both servers (a blob's type means
//! bytes, any other string's the client's character set).

use crate::protocol::Parameters;
use crate::protocol::cursor::Short;
use crate::protocol::mysql::command::Execute;
use crate::protocol::mysql::cursor::Reader;
use bytes::Bytes;
use std::fmt::Write;

/// The type of a value: a code, and whether a number is unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind(pub u16);

impl Kind {
    fn code(self) -> u8 {
        self.0 as u8
    }

    /// Whatever comes as a text: VARCHAR, BIT, VECTOR, JSON, ENUM, SET, the BLOBs, VAR_STRING, STRING, GEOMETRY; NULL is of no kind. (DECIMAL
    /// is a number to the server, though it is written in digits.)
    pub fn is_text_or_null(self) -> bool {
        matches!(self.code(), 0x06 | 0x0f | 0x10 | 0xf2 | 0xf5 | 0xf7..=0xff)
    }

    fn is_unsigned(self) -> bool {
        self.0 & 0x8000 != 0
    }
}

/// A value as it came.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Signed(i64, Bytes),
    Unsigned(u64, Bytes),
    Double(f64, Bytes),
    /// A number in digits.
    Decimal(Bytes),
    /// A date, a time or both, written out, and its bytes.
    Moment(String, Bytes),
    /// In the client's character set.
    Text(Bytes),
    Binary(Bytes),
    /// MariaDB's bulk execute: the column's default.
    Default,
    /// MariaDB's bulk execute: leave the column as it is.
    Ignore,
}

/// A named value beside a statement's own.
#[derive(Debug, Clone, PartialEq)]
pub struct Attribute {
    pub name: Bytes,
    pub value: Value,
}

/// What decides how a text is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Texts {
    /// `character_set_client`.
    pub charset: String,
    pub no_backslash_escapes: bool,
}

impl Default for Texts {
    fn default() -> Texts {
        Texts { charset: "utf8mb4".to_owned(), no_backslash_escapes: false }
    }
}

impl Value {
    /// As SQL; nothing if it has no such form.
    pub fn literal(&self, texts: &Texts) -> Option<String> {
        match self {
            Value::Null => Some("NULL".to_owned()),
            Value::Signed(number, _) => Some(number.to_string()),
            Value::Unsigned(number, _) => Some(number.to_string()),
            // The shortest digits that are this number and no other.
            Value::Double(number, _) => number.is_finite().then(|| format!("{number:e}")),
            Value::Decimal(digits) if is_decimal(digits) => Some(String::from_utf8_lossy(digits).into_owned()),
            // Typed, as the server compares it: as a date, not as a text that a key of texts could equal.
            Value::Moment(written, _) => {
                let day = written.len() >= 10 && written.as_bytes().get(4) == Some(&b'-') && !written.starts_with('-');
                let kind = match (day, written.contains(':')) {
                    (true, true) => "TIMESTAMP",
                    (true, false) => "DATE",
                    (false, _) => "TIME",
                };
                Some(format!("{kind}'{written}'"))
            }
            Value::Decimal(text) => texts.literal(text).map(|text| format!("(0.0 + {text})")),
            Value::Text(text) => texts.literal(text),
            Value::Binary(bytes) => Some(format!("_binary x'{}'", hex(bytes))),
            Value::Default => Some("DEFAULT".to_owned()),
            Value::Ignore => None,
        }
    }

    /// Its bytes as they were sent, without a length.
    pub fn bytes(&self) -> Option<Bytes> {
        match self {
            Value::Null | Value::Default | Value::Ignore => None,
            Value::Signed(_, bytes) | Value::Unsigned(_, bytes) | Value::Double(_, bytes) => Some(bytes.clone()),
            Value::Moment(_, bytes) | Value::Decimal(bytes) => Some(bytes.clone()),
            Value::Text(bytes) | Value::Binary(bytes) => Some(bytes.clone()),
        }
    }
}

impl Execute {
    /// The values in the form that the rest of the house knows. `Short`: one of them has no literal.
    pub fn parameters(&self, texts: &Texts) -> Result<Parameters, Short> {
        let literals = self.values.iter().map(|value| value.literal(texts)).collect::<Option<_>>().ok_or(Short)?;
        Ok(Parameters {
            types: self.kinds.iter().map(|kind| u32::from(kind.0)).collect(),
            formats: Vec::new(),
            values: self.values.iter().map(Value::bytes).collect(),
            literals,
        })
    }
}

impl Texts {
    /// A text of the client's: in quotes where that can have one meaning only, else by its bytes and the name of its character set.
    fn literal(&self, text: &[u8]) -> Option<String> {
        let readable = match std::str::from_utf8(text) {
            Ok(text) if text.is_ascii() || self.is_utf8() => Some(text),
            _ => None,
        };
        // A backslash means two things, and in some character sets it is the second half of a letter.
        let plain = |text: &&str| !text.chars().any(|char| char == '\\' || char.is_control());
        if let Some(text) = readable.filter(plain) {
            return Some(format!("'{}'", text.replace('\'', "''")));
        }
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let named = !self.charset.is_empty() && self.charset.bytes().all(is_name);
        named.then(|| format!("_{} x'{}'", self.charset, hex(text)))
    }

    fn is_utf8(&self) -> bool {
        matches!(self.charset.as_str(), "utf8" | "utf8mb3" | "utf8mb4")
    }
}

/// How many values there are; more than a statement can have are none.
pub fn count(number: u64) -> Result<usize, Short> {
    u16::try_from(number).map(usize::from).map_err(|_| Short)
}

/// Types, and their names where they are named.
pub fn kinds(
    payload: &Bytes,
    reader: &mut Reader<'_>,
    count: usize,
    named: bool,
) -> Result<(Vec<Kind>, Vec<Bytes>), Short> {
    let (mut kinds, mut names) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let kind = reader.u16()?;
        // MySQL takes such a type for another than its low byte says.
        if kind & 0x7f00 != 0 {
            return Err(Short);
        }
        kinds.push(Kind(kind));
        if named {
            names.push(payload.slice_ref(reader.lenenc_bytes()?));
        }
    }
    Ok((kinds, names))
}

/// The attributes in front of a query's text.
pub fn attributes(payload: &Bytes, reader: &mut Reader<'_>, count: usize) -> Result<Vec<Attribute>, Short> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let nulls = reader.bytes(count.div_ceil(8))?;
    // Without their types nobody could know where the text begins.
    if reader.u8()? != 1 {
        return Err(Short);
    }
    let (kinds, names) = kinds(payload, reader, count, true)?;
    let mut attributes = Vec::new();
    for (at, (kind, name)) in kinds.into_iter().zip(names).enumerate() {
        // MySQL reads YEAR and INT24, and what it does not know, as texts: where the query begins would not be known.
        if !matches!(kind.code(), 0..=5 | 7 | 8 | 10..=12 | 15 | 16 | 242 | 245..=255) {
            return Err(Short);
        }
        let value = if is_null(nulls, at) { Value::Null } else { read(payload, reader, kind)? };
        attributes.push(Attribute { name, value });
    }
    Ok(attributes)
}

pub fn is_null(nulls: &[u8], at: usize) -> bool {
    nulls.get(at / 8).is_some_and(|byte| byte & (1 << (at % 8)) != 0)
}

/// A value that came ahead, in parts.
pub fn long(kind: Kind, data: Bytes) -> Value {
    if is_binary(kind.code()) { Value::Binary(data) } else { Value::Text(data) }
}

/// One value of this type.
pub fn read(payload: &Bytes, reader: &mut Reader<'_>, kind: Kind) -> Result<Value, Short> {
    match kind.code() {
        1 => number(payload, reader, kind, 1),
        2 | 13 => number(payload, reader, kind, 2),
        3 | 9 => number(payload, reader, kind, 4),
        8 => number(payload, reader, kind, 8),
        4 => {
            let bytes = reader.bytes(4)?;
            let float = f32::from_le_bytes(bytes.try_into().map_err(|_| Short)?);
            Ok(Value::Double(f64::from(float), payload.slice_ref(bytes)))
        }
        5 => {
            let bytes = reader.bytes(8)?;
            let double = f64::from_le_bytes(bytes.try_into().map_err(|_| Short)?);
            Ok(Value::Double(double, payload.slice_ref(bytes)))
        }
        7 | 10 | 12 => date(payload, reader),
        11 => time(payload, reader),
        0 | 246 => Ok(Value::Decimal(payload.slice_ref(reader.lenenc_bytes()?))),
        // VARCHAR, JSON, ENUM, SET, VAR_STRING, STRING.
        15 | 245 | 247 | 248 | 253 | 254 => Ok(Value::Text(payload.slice_ref(reader.lenenc_bytes()?))),
        code if is_binary(code) => Ok(Value::Binary(payload.slice_ref(reader.lenenc_bytes()?))),
        _ => Err(Short),
    }
}

/// BIT, VECTOR, the four BLOBs, GEOMETRY.
fn is_binary(code: u8) -> bool {
    matches!(code, 16 | 242 | 249..=252 | 255)
}

fn number(payload: &Bytes, reader: &mut Reader<'_>, kind: Kind, width: usize) -> Result<Value, Short> {
    let bytes = reader.bytes(width)?;
    let mut wide = [0; 8];
    wide.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
    let number = u64::from_le_bytes(wide);
    let own = payload.slice_ref(bytes);
    if kind.is_unsigned() {
        return Ok(Value::Unsigned(number, own));
    }
    let unused = 64 - 8 * width as u32;
    Ok(Value::Signed(((number << unused) as i64) >> unused, own))
}

fn date(payload: &Bytes, reader: &mut Reader<'_>) -> Result<Value, Short> {
    let bytes = short_bytes(reader, &[0, 4, 7, 11])?;
    let mut parts = Reader::new(bytes);
    let mut written = match bytes.len() {
        0 => "0000-00-00".to_owned(),
        _ => format!("{:04}-{:02}-{:02}", parts.u16()?, parts.u8()?, parts.u8()?),
    };
    if bytes.len() > 4 {
        let _ = write!(written, " {:02}:{:02}:{:02}", parts.u8()?, parts.u8()?, parts.u8()?);
    }
    if bytes.len() > 7 {
        let _ = write!(written, ".{:06}", parts.u32()?);
    }
    Ok(Value::Moment(written, payload.slice_ref(bytes)))
}

fn time(payload: &Bytes, reader: &mut Reader<'_>) -> Result<Value, Short> {
    let bytes = short_bytes(reader, &[0, 8, 12])?;
    let mut parts = Reader::new(bytes);
    if bytes.is_empty() {
        return Ok(Value::Moment("00:00:00".to_owned(), payload.slice_ref(bytes)));
    }
    let sign = if parts.u8()? == 0 { "" } else { "-" };
    let hours = u64::from(parts.u32()?) * 24 + u64::from(parts.u8()?);
    let mut written = format!("{sign}{hours:02}:{:02}:{:02}", parts.u8()?, parts.u8()?);
    if bytes.len() > 8 {
        let _ = write!(written, ".{:06}", parts.u32()?);
    }
    Ok(Value::Moment(written, payload.slice_ref(bytes)))
}

/// Behind a length of one byte. With another length than these, servers read past the value's end.
fn short_bytes<'a>(reader: &mut Reader<'a>, lengths: &[u8]) -> Result<&'a [u8], Short> {
    let length = reader.u8()?;
    if !lengths.contains(&length) {
        return Err(Short);
    }
    reader.bytes(usize::from(length))
}

/// Digits with at most one point among them and a sign before them.
fn is_decimal(digits: &[u8]) -> bool {
    let unsigned = digits.strip_prefix(b"-").unwrap_or(digits);
    let (mut points, mut count) = (0, 0);
    for byte in unsigned {
        match byte {
            b'0'..=b'9' => count += 1,
            b'.' if count > 0 => points += 1,
            _ => return false,
        }
    }
    count > 0 && points <= 1 && unsigned.last() != Some(&b'.')
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(kind: u16, bytes: &'static [u8], texts: &Texts) -> Option<String> {
        let payload = Bytes::from_static(bytes);
        let mut reader = Reader::new(&payload);
        let value = read(&payload, &mut reader, Kind(kind)).ok()?;
        reader.finish().ok()?;
        value.literal(texts)
    }

    #[test]
    fn literals_mean_what_the_values_mean() {
        let texts = Texts::default();
        let cases: &[(u16, &'static [u8], Option<&str>)] = &[
            (0x01, b"\xff", Some("-1")),
            (0x8001, b"\xff", Some("255")),
            (0x02, b"\0\x80", Some("-32768")),
            (0x0d, b"\xe4\x07", Some("2020")),
            (0x03, b"\xff\xff\xff\x7f", Some("2147483647")),
            (0x08, b"\0\0\0\0\0\0\0\x80", Some("-9223372036854775808")),
            (0x8008, b"\xff\xff\xff\xff\xff\xff\xff\xff", Some("18446744073709551615")),
            (0x04, b"\xcd\xcc\xcc\x3d", Some("1.0000000149011612e-1")),
            (0x05, b"\x9a\x99\x99\x99\x99\x99\xb9\x3f", Some("1e-1")),
            (0x05, b"\0\0\0\0\0\0\xf0\x7f", None),
            (0xf6, b"\x06-12.50", Some("-12.50")),
            (0xf6, b"\x071 OR 1=", Some("(0.0 + '1 OR 1=')")),
            (0xf6, b"\x02--", Some("(0.0 + '--')")),
            (0x0a, b"\x04\xe4\x07\x02\x1d", Some("DATE'2020-02-29'")),
            (0x0c, b"\x07\xe4\x07\x02\x1d\x17\x3b\x01", Some("TIMESTAMP'2020-02-29 23:59:01'")),
            (0x07, b"\x0b\xe4\x07\x02\x1d\x17\x3b\x01\x07\0\0\0", Some("TIMESTAMP'2020-02-29 23:59:01.000007'")),
            (0x0c, b"\0", Some("DATE'0000-00-00'")),
            (0x0c, b"\x05\xe4\x07\x02\x1d\x17", None),
            (0x0b, b"\x08\x01\x01\0\0\0\x02\x03\x04", Some("TIME'-26:03:04'")),
            (0x0b, b"\x0c\0\0\0\0\0\x02\x03\x04\x05\0\0\0", Some("TIME'02:03:04.000005'")),
            (0xfd, b"\x05it's ", Some("'it''s '")),
            (0xfe, b"\x03\xc3\xa9x", Some("'\u{e9}x'")),
            (0xfd, b"\x02a\\", Some("_utf8mb4 x'615c'")),
            (0xfd, b"\x02a\0", Some("_utf8mb4 x'6100'")),
            (0xfd, b"\x01\xff", Some("_utf8mb4 x'ff'")),
            (0xfc, b"\x01a", Some("_binary x'61'")),
            (0x06, b"", None),
            (0xf3, b"\x01a", None),
        ];
        for (kind, bytes, wanted) in cases {
            assert_eq!(literal(*kind, bytes, &texts).as_deref(), *wanted, "{kind:#x} {bytes:?}");
        }
    }

    #[test]
    fn a_text_in_another_character_set_is_named_so() {
        let texts = |charset: &str| Texts { charset: charset.to_owned(), no_backslash_escapes: true };
        assert_eq!(literal(0xfd, b"\x02ab", &texts("gbk")).as_deref(), Some("'ab'"));
        assert_eq!(literal(0xfd, b"\x02\xc3\xa9", &texts("latin1")).as_deref(), Some("_latin1 x'c3a9'"));
        assert_eq!(literal(0xfd, b"\x02\xbf'", &texts("gbk")).as_deref(), Some("_gbk x'bf27'"));
        assert_eq!(literal(0xfd, b"\x02\xbf'", &texts("x'; DROP")), None);
    }
}
