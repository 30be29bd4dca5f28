//! The messages Sluice itself sends, either way, encoded by pgwire from checked values.
//!
//! Invariant: no string handed in here can end a field early: NULs are replaced before encoding.

use crate::protocol::Parameters;
use crate::protocol::Refusal;
use crate::protocol::Words;
use bytes::{BufMut, Bytes, BytesMut};
use pgwire::messages::Message;
use pgwire::messages::data::{DataRow, FieldDescription, NoData, ParameterDescription, RowDescription};
use pgwire::messages::extendedquery::{
    Bind, BindComplete, Close, CloseComplete, Describe, Execute, Flush, Parse, ParseComplete, Sync,
};
use pgwire::messages::response::{CommandComplete, ErrorResponse, NoticeResponse, ReadyForQuery, TransactionStatus};
use pgwire::messages::simplequery::Query;

/// Type OID of `text`.
const TEXT: u32 = 25;

/// How final a refusal is for the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Error,
    /// The connection is closed after it.
    Fatal,
}

pub fn error(refusal: &Refusal, severity: Severity) -> Bytes {
    let severity = match severity {
        Severity::Error => "ERROR",
        Severity::Fatal => "FATAL",
    };
    encode(&ErrorResponse::new(fields(severity, refusal.code.sqlstate(), refusal)))
}

/// A warning to the client; `refusal` is only its carrier of words.
pub fn warning(words: &Refusal) -> Bytes {
    encode(&NoticeResponse::new(fields("WARNING", "01000", words)))
}

pub fn notice(words: &Refusal) -> Bytes {
    encode(&NoticeResponse::new(fields("NOTICE", "00000", words)))
}

pub fn ready(status: u8) -> Bytes {
    let status = match status {
        b'T' => TransactionStatus::Transaction,
        b'E' => TransactionStatus::Error,
        _ => TransactionStatus::Idle,
    };
    encode(&ReadyForQuery::new(status))
}

pub fn command_complete(tag: &str) -> Bytes {
    encode(&CommandComplete::new(clean(tag)))
}

/// A result set of text columns, without its CommandComplete.
pub fn rows(columns: &[&str], values: &[Vec<Option<String>>]) -> Bytes {
    let mut out = BytesMut::from(&row_description(columns)[..]);
    out.extend_from_slice(&data_rows(values));
    out.freeze()
}

pub fn row_description(columns: &[&str]) -> Bytes {
    let fields =
        columns.iter().map(|name| FieldDescription::new(clean(name), 0, 0, TEXT, -1, -1, 0)).collect::<Vec<_>>();
    encode(&RowDescription::new(fields))
}

pub fn data_rows(values: &[Vec<Option<String>>]) -> Bytes {
    let mut out = BytesMut::new();
    for row in values {
        let mut data = BytesMut::new();
        for value in row {
            match value {
                Some(text) => {
                    data.put_i32(text.len() as i32);
                    data.extend_from_slice(text.as_bytes());
                }
                None => data.put_i32(-1),
            }
        }
        out.extend_from_slice(&encode(&DataRow::new(data, row.len() as i16)));
    }
    out.freeze()
}

pub fn no_data() -> Bytes {
    encode(&NoData::new())
}

pub fn no_parameters() -> Bytes {
    encode(&ParameterDescription::new(Vec::new()))
}

pub fn parse_complete() -> Bytes {
    encode(&ParseComplete::new())
}

pub fn bind_complete() -> Bytes {
    encode(&BindComplete::new())
}

pub fn close_complete() -> Bytes {
    encode(&CloseComplete::new())
}

/// What Sluice asks an upstream: built up and sent with one write.
#[derive(Debug, Default)]
pub struct Script {
    out: BytesMut,
    closes: usize,
}

impl From<Script> for Words {
    fn from(script: Script) -> Words {
        Words::new(script.bytes())
    }
}

impl Script {
    pub fn query(mut self, text: &str) -> Script {
        put(&Query::new(clean(text)), &mut self.out);
        self
    }

    pub fn parse(mut self, name: &str, text: &str, types: &[u32]) -> Script {
        put(&Parse::new(Some(clean(name)), clean(text), types.to_vec()), &mut self.out);
        self
    }

    /// A text that may not be UTF-8, as it came. A NUL ends it: such a text is refused before.
    pub fn parse_bytes(mut self, name: &str, text: &[u8]) -> Script {
        self.out.put_u8(b'P');
        self.out.put_i32((4 + name.len() + 1 + text.len() + 1 + 2) as i32);
        self.out.put_slice(name.as_bytes());
        self.out.put_u8(0);
        self.out.put_slice(text);
        self.out.put_u8(0);
        self.out.put_i16(0);
        self
    }

    /// Results are asked for in text form.
    pub fn bind(mut self, portal: &str, statement: &str, parameters: Option<&Parameters>) -> Script {
        let (formats, values) = match parameters {
            Some(given) => (given.formats.clone(), given.values.clone()),
            None => (Vec::new(), Vec::new()),
        };
        put(&Bind::new(Some(clean(portal)), Some(clean(statement)), formats, values, Vec::new()), &mut self.out);
        self
    }

    pub fn describe_portal(mut self, portal: &str) -> Script {
        put(&Describe::new(b'P', Some(clean(portal))), &mut self.out);
        self
    }

    pub fn describe_statement(mut self, name: &str) -> Script {
        put(&Describe::new(b'S', Some(clean(name))), &mut self.out);
        self
    }

    pub fn execute(mut self, portal: &str, rows_max: i32) -> Script {
        put(&Execute::new(Some(clean(portal)), rows_max), &mut self.out);
        self
    }

    pub fn close_statement(mut self, name: &str) -> Script {
        put(&Close::new(b'S', Some(clean(name))), &mut self.out);
        self.closes += 1;
        self
    }

    pub fn close_portal(mut self, name: &str) -> Script {
        put(&Close::new(b'P', Some(clean(name))), &mut self.out);
        self.closes += 1;
        self
    }

    pub fn sync(mut self) -> Script {
        put(&Sync::new(), &mut self.out);
        self
    }

    pub fn flush(mut self) -> Script {
        put(&Flush::new(), &mut self.out);
        self
    }

    /// How many CloseComplete it will be answered with, if nothing fails.
    pub fn closes(&self) -> usize {
        self.closes
    }

    pub fn bytes(self) -> Bytes {
        self.out.freeze()
    }
}

fn fields(severity: &str, code: &str, words: &Refusal) -> Vec<(u8, String)> {
    let mut fields = vec![
        (b'S', severity.to_owned()),
        (b'V', severity.to_owned()),
        (b'C', code.to_owned()),
        (b'M', clean(&words.message)),
    ];
    fields.extend(words.detail.as_deref().map(|detail| (b'D', clean(detail))));
    fields.extend(words.hint.as_deref().map(|hint| (b'H', clean(hint))));
    fields
}

fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn encode(message: &impl Message) -> Bytes {
    let mut out = BytesMut::new();
    put(message, &mut out);
    out.freeze()
}

fn put(message: &impl Message, out: &mut BytesMut) {
    let before = out.len();
    // Encoding into memory fails only past pgwire's own bound on a message, which the bounds in `ground::limits` keep us below.
    if let Err(error) = message.encode(out) {
        out.truncate(before);
        tracing::error!(%error, "a message of our own could not be encoded");
    }
}
