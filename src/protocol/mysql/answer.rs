//! Results of rows that Sluice itself gives, encoded by opensrv-mysql 0.7 over memory.
//!
//! Its encoder stands behind a whole server, so one is played for each answer: a greeting, a login that says as much of the client as
//! bears on the form, and a command to which the rows are the answer. What it wrote is taken apart again, held against what was asked for, and
//! numbered for the client. What it has no word for is put in here: the session's status and warnings, collation, length and decimals of a
//! column, and MariaDB's extended metadata and cached metadata.
//!
//! Invariant: nothing from outside is read by the library, and each of its reads gives it exactly one packet (two in one read are read
//! from memory that it has freed); it never waits; what it writes otherwise than expected becomes a refusal, not a packet.
//!
//! A row whose payload is exactly as long as its packets can hold is refused: the library leaves out the empty packet that ends it.
//!
//! Source: MySQL's "Client/Server Protocol", pages "Text Resultset", "Binary Protocol Resultset" and "COM_STMT_PREPARE"; MariaDB's "Result Set
//! Packets"; opensrv-mysql's source (lib.rs, resultset.rs, writers.rs, packet_reader.rs); tried on MySQL 9.7's and MariaDB 10.11's clients.

use crate::protocol::mysql::capabilities::Capabilities;
use crate::protocol::mysql::cursor::{Reader, put_lenenc};
use crate::protocol::mysql::frame::{HEADER, PART_MAX, declared_length, put_packet};
use crate::protocol::mysql::message::To;
use crate::protocol::mysql::response;
use crate::protocol::{Code, Refusal};
use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use opensrv_mysql::{
    AsyncMysqlIntermediary, AsyncMysqlShim, Column, ColumnFlags, ColumnType, ParamParser, QueryResultWriter,
    StatementMetaWriter,
};
use std::borrow::Cow;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// In which form the values of a result are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// In answer to COM_QUERY.
    Text,
    /// In answer to COM_STMT_EXECUTE.
    Binary,
}

/// NULL or a text.
pub type Row = Vec<Option<String>>;

/// A result of text columns, from its column count to its end. `session`: its status, and how many warnings there are.
pub fn rows(to: To, form: Form, columns: &[&str], rows: &[Row], session: (u16, u16)) -> Result<Bytes, Refusal> {
    let columns = TEXT.columns(columns.iter().copied());
    let part = Part { statement: 0, columns: &columns, rows };
    result(to, form, Head::Ours(&TEXT), part, session).map_err(refusal)
}

/// A row of whole numbers in text, as the servers tell those that functions give: `ROW_COUNT()`.
pub fn numbers(to: To, values: &[(String, String)], session: (u16, u16)) -> Result<Bytes, Refusal> {
    let columns = NUMBER.columns(values.iter().map(|(name, _)| name.as_str()));
    let row = values.iter().map(|(_, value)| Some(value.clone())).collect();
    let part = Part { statement: 0, columns: &columns, rows: &[row] };
    result(to, Form::Text, Head::Ours(&NUMBER), part, session).map_err(refusal)
}

/// Rows of ours under definitions that a server gave: `head` is everything from its column count to the packet before the first row.
pub fn rows_under(to: To, head: &[Bytes], rows: &[Row], session: (u16, u16)) -> Result<Bytes, Refusal> {
    let count = head.first().and_then(|count| Reader::new(count).lenenc().ok());
    let Some(count) = count.and_then(|count| u16::try_from(count).ok()) else {
        return Err(refusal(Fault("a head without a count")));
    };
    let columns = vec![TEXT.named(""); usize::from(count)];
    let part = Part { statement: 0, columns: &columns, rows };
    result(to, Form::Text, Head::Given(head), part, session).map_err(refusal)
}

/// The answer to a COM_STMT_PREPARE of ours, of a statement without parameters.
pub fn prepared(to: To, statement: u32, columns: &[&str], session: (u16, u16)) -> Result<Bytes, Refusal> {
    let columns = TEXT.columns(columns.iter().copied());
    statement_okay(to, Part { statement, columns: &columns, rows: &[] }, session).map_err(refusal)
}

/// What stands in an answer where something else was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fault(&'static str);

fn refusal(Fault(what): Fault) -> Refusal {
    Refusal::new(Code::CannotKnow, format!("sluice: its own answer could not be put into packets: {what}"))
}

/// What a column's definition says of its values.
struct Kind {
    coltype: ColumnType,
    flags: ColumnFlags,
    collation: u16,
    length: u32,
    decimals: u8,
}

/// Text in utf8mb4 (utf8mb4_general_ci), nullable; as long as anybody heeds it; the decimals of what is no number.
const TEXT: Kind = Kind {
    coltype: ColumnType::MYSQL_TYPE_VAR_STRING,
    flags: ColumnFlags::empty(),
    collation: 45,
    length: 1 << 16,
    decimals: 31,
};

/// A whole number that is never NULL.
const NUMBER: Kind = Kind {
    coltype: ColumnType::MYSQL_TYPE_LONGLONG,
    flags: ColumnFlags::NOT_NULL_FLAG.union(ColumnFlags::BINARY_FLAG),
    // binary
    collation: 63,
    length: 21,
    decimals: 0,
};

impl Kind {
    fn columns<'a>(&self, names: impl Iterator<Item = &'a str>) -> Vec<Column> {
        names.map(|name| self.named(name)).collect()
    }

    fn named(&self, name: &str) -> Column {
        Column { table: String::new(), column: name.to_owned(), coltype: self.coltype, colflags: self.flags }
    }

    /// A definition that the library wrote, held against the column that it is of, with what the library cannot say put in.
    fn definition(&self, column: &Column, given: &[u8], capabilities: Capabilities) -> Result<BytesMut, Fault> {
        const WRONG: Fault = Fault("another column's definition");
        let mut reader = Reader::new(given);
        // Catalog, database, table and its own name, then the column's and its own name.
        for text in ["def", "", "", "", &column.column, ""] {
            if reader.lenenc_bytes() != Ok(text.as_bytes()) {
                return Err(WRONG);
            }
        }
        let mut payload = BytesMut::from(given.get(..reader.at()).unwrap_or_default());
        // The length of what follows, collation, length, type, flags, decimals, two bytes without a meaning.
        let [0x0c, _, _, _, _, _, _, coltype, low, high, _, 0, 0] = reader.array().map_err(|_| WRONG)? else {
            return Err(WRONG);
        };
        if reader.finish().is_err()
            || coltype != self.coltype as u8
            || u16::from_le_bytes([low, high]) != self.flags.bits()
        {
            return Err(WRONG);
        }
        if capabilities.has(Capabilities::EXTENDED_METADATA) {
            // Nothing more to be said of the type.
            payload.put_u8(0);
        }
        payload.put_u8(0x0c);
        payload.put_u16_le(self.collation);
        payload.put_u32_le(self.length);
        payload.put_slice(&[coltype, low, high, self.decimals, 0, 0]);
        Ok(payload)
    }
}

/// The packets of one answer, numbered on.
struct Packets {
    to: To,
    out: BytesMut,
}

impl Packets {
    fn new(to: To) -> Packets {
        Packets { to, out: BytesMut::new() }
    }

    fn put(&mut self, payload: &[u8]) {
        self.to.sequence = put_packet(&mut self.out, self.to.sequence, payload);
    }

    /// Everything before the first row.
    fn head<'p>(
        &mut self,
        head: &Head<'_>,
        columns: &[Column],
        given: &mut impl Iterator<Item = Cow<'p, [u8]>>,
        session: (u16, u16),
    ) -> Result<(), Fault> {
        let mut count = BytesMut::new();
        put_lenenc(&mut count, columns.len() as u64);
        if columns.is_empty() || given.next().as_deref() != Some(&count) {
            return Err(Fault("another number of columns"));
        }
        match head {
            Head::Ours(kind) => {
                if self.to.capabilities.has(Capabilities::CACHE_METADATA) {
                    // The definitions follow.
                    count.put_u8(1);
                }
                self.put(&count);
                self.definitions(kind, columns, given, session)
            }
            Head::Given(head) => {
                let mut ours = Packets::new(self.to);
                ours.definitions(&TEXT, columns, given, session)?;
                head.iter().for_each(|payload| self.put(payload));
                Ok(())
            }
        }
    }

    fn definitions<'p>(
        &mut self,
        kind: &Kind,
        columns: &[Column],
        given: &mut impl Iterator<Item = Cow<'p, [u8]>>,
        session: (u16, u16),
    ) -> Result<(), Fault> {
        for column in columns {
            let given = given.next().ok_or(Fault("too few definitions"))?;
            self.put(&kind.definition(column, &given, self.to.capabilities)?);
        }
        match self.to.capabilities.has(Capabilities::DEPRECATE_EOF) {
            true => Ok(()),
            false => self.end(given.next(), session),
        }
    }

    /// The end of definitions or rows, with the session's status and warnings in it.
    fn end(&mut self, given: Option<Cow<'_, [u8]>>, session: (u16, u16)) -> Result<(), Fault> {
        let (form, begins) = (self.to.capabilities.and(FORM), self.out.len());
        self.put(&given.unwrap_or_default());
        let packet = self.out.get_mut(begins..).unwrap_or_default();
        // Each has one form, of which nothing is said yet.
        let bare = match form.has(Capabilities::DEPRECATE_EOF) {
            true => packet.get(HEADER..) == Some(b"\xfe\0\0\0\0\0\0"),
            false => packet.get(HEADER..) == Some(b"\xfe\0\0\0\0"),
        };
        let patched = bare
            && response::patch_status(packet, form, session.0)
            && response::patch_warnings(packet, form, session.1);
        if patched { Ok(()) } else { Err(Fault("something else than an end")) }
    }
}

/// Where a result's column count and definitions come from.
enum Head<'a> {
    Ours(&'a Kind),
    /// As a server said them, to the packet before the first row.
    Given(&'a [Bytes]),
}

fn result(to: To, form: Form, head: Head<'_>, part: Part<'_>, session: (u16, u16)) -> Result<Bytes, Fault> {
    let definitions = definitions(to, part);
    let (before, commands) = match form {
        Form::Text => (0, vec![part.query()]),
        // What is executed was prepared, and that was answered.
        Form::Binary => (1 + definitions, vec![part.prepare(), part.execute()]),
    };
    let stream = played(part, to, commands)?;
    let mut given = answers(&stream, before + 1 + definitions + part.rows.len() + 1)?.skip(before);
    let mut answer = Packets::new(to);
    answer.head(&head, part.columns, &mut given, session)?;
    for row in given.by_ref().take(part.rows.len()) {
        answer.put(&row);
    }
    answer.end(given.next(), session)?;
    Ok(answer.out.freeze())
}

fn statement_okay(to: To, part: Part<'_>, session: (u16, u16)) -> Result<Bytes, Fault> {
    let stream = played(part, to, vec![part.prepare()])?;
    let mut given = answers(&stream, 1 + definitions(to, part))?;
    let okay = given.next().unwrap_or_default();
    let columns = part.columns.len() as u16;
    let expected = response::Prepared { statement: part.statement, columns, parameters: 0, warnings: 0 };
    let (Ok(read), [front @ .., 0, 0]) = (response::read_prepared(&okay), &okay[..]) else {
        return Err(Fault("a statement that cannot be read"));
    };
    if read != expected || front.len() != PREPARED_BYTES - 2 {
        return Err(Fault("another statement"));
    }
    let mut answer = Packets::new(to);
    answer.put(&[front, &session.1.to_le_bytes()].concat());
    if columns > 0 {
        answer.definitions(&TEXT, part.columns, &mut given, session)?;
    }
    Ok(answer.out.freeze())
}

/// How many packets the definitions of its columns take, with their end.
fn definitions(to: To, part: Part<'_>) -> usize {
    match part.columns.len() {
        0 => 0,
        columns => columns + usize::from(!to.capabilities.has(Capabilities::DEPRECATE_EOF)),
    }
}

/// An answer to COM_STMT_PREPARE, its last two bytes the warnings.
const PREPARED_BYTES: usize = 12;
/// What of a client's capabilities bears on what the library writes.
const FORM: Capabilities = Capabilities(Capabilities::PROTOCOL_41.0 | Capabilities::DEPRECATE_EOF.0);

/// The payloads that answer commands, so many, behind a greeting and an OK to the login.
fn answers(stream: &[u8], count: usize) -> Result<std::vec::IntoIter<Cow<'_, [u8]>>, Fault> {
    let mut given = payloads(stream).ok_or(Fault("packets that cannot be cut"))?.into_iter();
    let mut begins_with = |tag| given.next().is_some_and(|payload| payload.first() == Some(&tag));
    if !begins_with(10) || !begins_with(0) {
        return Err(Fault("another welcome"));
    }
    if given.len() == count { Ok(given) } else { Err(Fault("another number of packets")) }
}

/// Whole payloads, in order: one that fills its packet goes on in the next.
fn payloads(mut stream: &[u8]) -> Option<Vec<Cow<'_, [u8]>>> {
    let mut whole: Vec<Cow<'_, [u8]>> = Vec::new();
    let mut continues = false;
    while !stream.is_empty() {
        let length = declared_length(stream)?;
        let part = stream.get(HEADER..HEADER + length)?;
        match whole.last_mut() {
            Some(last) if continues => last.to_mut().extend_from_slice(part),
            _ => whole.push(Cow::Borrowed(part)),
        }
        continues = length == PART_MAX;
        stream = stream.get(HEADER + length..)?;
    }
    Some(whole)
}

/// What the library's server is given to say.
#[derive(Clone, Copy)]
struct Part<'a> {
    statement: u32,
    columns: &'a [Column],
    rows: &'a [Row],
}

impl Part<'_> {
    /// Of no text, as nobody looks at it.
    fn query(&self) -> Bytes {
        command(&[0x03])
    }

    fn prepare(&self) -> Bytes {
        command(&[0x16])
    }

    /// Without a cursor, once, without values.
    fn execute(&self) -> Bytes {
        command(&[&[0x17][..], &self.statement.to_le_bytes(), &[0], &1u32.to_le_bytes()].concat())
    }

    async fn give<W: AsyncWrite + Unpin>(&self, to: QueryResultWriter<'_, W>) -> io::Result<()> {
        let mut writer = to.start(self.columns).await?;
        for row in self.rows {
            writer.write_row(row.iter().map(|value| value.as_deref())).await?;
        }
        writer.finish().await
    }
}

#[async_trait]
impl<W: AsyncWrite + Send + Unpin> AsyncMysqlShim<W> for Part<'_> {
    type Error = io::Error;

    /// None: nobody is asked for a proof.
    async fn auth_plugin_for_username(&self, _user: &[u8]) -> &str {
        ""
    }

    async fn on_prepare<'a>(&'a mut self, _text: &'a str, to: StatementMetaWriter<'a, W>) -> io::Result<()> {
        to.reply(self.statement, &[], self.columns).await
    }

    async fn on_execute<'a>(
        &'a mut self,
        _statement: u32,
        _values: ParamParser<'a>,
        to: QueryResultWriter<'a, W>,
    ) -> io::Result<()> {
        self.give(to).await
    }

    async fn on_query<'a>(&'a mut self, _text: &'a str, to: QueryResultWriter<'a, W>) -> io::Result<()> {
        self.give(to).await
    }

    async fn on_close<'a>(&'a mut self, _statement: u32)
    where
        W: 'async_trait,
    {
    }
}

/// All that the library's server says to a client who logs in and sends these.
fn played(part: Part<'_>, to: To, commands: Vec<Bytes>) -> Result<Vec<u8>, Fault> {
    let mut stream = Vec::new();
    {
        let turns = Turns([vec![login(to.capabilities)], commands].concat().into_iter());
        let run = pin!(AsyncMysqlIntermediary::run_on(part, turns, &mut stream));
        match run.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Err(Fault("rows that do not fit their columns")),
            Poll::Pending => return Err(Fault("a wait where there is nothing to wait for")),
        }
    }
    Ok(stream)
}

/// Of nobody, without a proof.
fn login(capabilities: Capabilities) -> Bytes {
    let mut payload = BytesMut::new();
    payload.put_u32_le(capabilities.and(FORM).with(Capabilities::PROTOCOL_41).low());
    payload.put_u32_le(PART_MAX as u32);
    // A character set and 23 bytes without a meaning, and two names that end at once.
    payload.put_bytes(0, 26);
    packet(1, &payload)
}

fn command(payload: &[u8]) -> Bytes {
    packet(0, payload)
}

fn packet(sequence: u8, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    put_packet(&mut out, sequence, payload);
    out.freeze()
}

/// What is said to the library's server: one packet for each of its reads, and then no more.
struct Turns(std::vec::IntoIter<Bytes>);

impl AsyncRead for Turns {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(packet) = self.get_mut().0.next() else { return Poll::Ready(Ok(())) };
        if packet.len() > buffer.remaining() {
            return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
        }
        buffer.put_slice(&packet);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::mysql::response::{Answer, End, Event, Expected};
    use proptest::prelude::{ProptestConfig, any, prop, proptest};
    use tokio::io::AsyncReadExt;

    const MARIA: [Capabilities; 2] = [Capabilities::EXTENDED_METADATA, Capabilities::CACHE_METADATA];
    const STATUS: u16 = 0x0022;

    /// Every combination of what bears on the form, among things that do not.
    fn agreed() -> impl Iterator<Item = Capabilities> {
        (0..16).map(|bits| {
            let of = |bit: u32, capability| if bits & (1 << bit) != 0 { capability } else { Capabilities::default() };
            let session = Capabilities::SESSION_TRACK.with(Capabilities::CONNECT_WITH_DB).with(Capabilities::SSL);
            Capabilities::PROTOCOL_41
                .with(of(0, Capabilities::DEPRECATE_EOF))
                .with(of(1, MARIA[0]))
                .with(of(2, MARIA[1]))
                .with(of(3, session.with(Capabilities::PLUGIN_AUTH).with(Capabilities::PLUGIN_AUTH_LENENC)))
        })
    }

    fn to(capabilities: Capabilities) -> To {
        To { capabilities, sequence: 1 }
    }

    fn row(values: &[Option<&str>]) -> Row {
        values.iter().map(|value| value.map(str::to_owned)).collect()
    }

    /// Packets as they are to be, numbered from 1.
    fn packets(payloads: &[Vec<u8>]) -> Vec<u8> {
        let (mut out, mut sequence) = (BytesMut::new(), 1);
        for payload in payloads {
            sequence = put_packet(&mut out, sequence, payload);
        }
        out.to_vec()
    }

    fn definition(name: &str, behind: &[u8], capabilities: Capabilities) -> Vec<u8> {
        let metadata: &[u8] = if capabilities.has(MARIA[0]) { b"\0" } else { b"" };
        [b"\x03def\0\0\0", &[name.len() as u8][..], name.as_bytes(), b"\0", metadata, behind].concat()
    }

    fn text(name: &str, capabilities: Capabilities) -> Vec<u8> {
        definition(name, b"\x0c\x2d\0\0\0\x01\0\xfd\0\0\x1f\0\0", capabilities)
    }

    fn counted(columns: u8, capabilities: Capabilities) -> Vec<u8> {
        if capabilities.has(MARIA[1]) { vec![columns, 1] } else { vec![columns] }
    }

    /// The end of definitions, where there is one.
    fn eof(capabilities: Capabilities) -> Option<Vec<u8>> {
        (!capabilities.has(Capabilities::DEPRECATE_EOF)).then(|| b"\xfe\x03\0\x22\0".to_vec())
    }

    fn last(capabilities: Capabilities) -> Vec<u8> {
        eof(capabilities).unwrap_or(b"\xfe\0\0\x22\0\x03\0".to_vec())
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
        let values = vec![row(&[Some("a"), None]), row(&[None, Some(&"x".repeat(300))])];
        for capabilities in agreed() {
            for form in [Form::Text, Form::Binary] {
                let answer = rows(to(capabilities), form, &["one", "two"], &values, (STATUS, 3)).expect("an answer");
                let Event::End { end, over: true } = end(Expected::Results, capabilities, &answer) else { panic!() };
                assert_eq!((end.status(), end.warnings()), (Some(STATUS), 3));
                let numbers: Vec<u8> = numbers_of(&answer);
                assert!(numbers.iter().enumerate().all(|(at, number)| usize::from(*number) == at + 1));
            }
            let answer = prepared(to(capabilities), 9, &["one", "two"], (2, 0)).expect("an answer");
            assert_eq!(end(Expected::Prepared, capabilities, &answer), Event::Over);
        }
    }

    fn numbers_of(mut answer: &[u8]) -> Vec<u8> {
        let mut numbers = Vec::new();
        while let Some(length) = declared_length(answer) {
            numbers.push(answer[HEADER - 1]);
            answer = &answer[HEADER + length..];
        }
        numbers
    }

    /// Values, and how they are written in text and in binary.
    type Written<'a> = (&'a [Option<&'a str>], Vec<u8>, Vec<u8>);

    #[test]
    fn results_are_written_to_the_byte() {
        let long = "x".repeat(300);
        let longer = "y".repeat(70_000);
        let table: &[Written] = &[
            (&[Some("a"), None], b"\x01a\xfb".to_vec(), b"\0\x08\x01a".to_vec()),
            (&[None, None], b"\xfb\xfb".to_vec(), b"\0\x0c".to_vec()),
            (
                &[Some(""), Some("é😀")],
                b"\0\x06\xc3\xa9\xf0\x9f\x98\x80".to_vec(),
                b"\0\0\0\x06\xc3\xa9\xf0\x9f\x98\x80".to_vec(),
            ),
            (
                &[None, Some(&long)],
                [b"\xfb\xfc\x2c\x01", long.as_bytes()].concat(),
                [b"\0\x04\xfc\x2c\x01", long.as_bytes()].concat(),
            ),
            (
                &[Some(&longer), None],
                [b"\xfd\x70\x11\x01", longer.as_bytes(), b"\xfb"].concat(),
                [b"\0\x08\xfd\x70\x11\x01", longer.as_bytes()].concat(),
            ),
        ];
        for capabilities in agreed() {
            for form in [Form::Text, Form::Binary] {
                for shown in 0..=table.len() {
                    let values: Vec<Row> = table[..shown].iter().map(|(values, ..)| row(values)).collect();
                    let answer = rows(to(capabilities), form, &["one", "é"], &values, (STATUS, 3)).expect("an answer");
                    let mut expected =
                        vec![counted(2, capabilities), text("one", capabilities), text("é", capabilities)];
                    expected.extend(eof(capabilities));
                    let written = |(_, text, binary): &Written| match form {
                        Form::Text => text.clone(),
                        Form::Binary => binary.clone(),
                    };
                    expected.extend(table[..shown].iter().map(written));
                    expected.push(last(capabilities));
                    assert_eq!(answer, packets(&expected), "{capabilities:?} {form:?} {shown}");
                }
            }
        }
    }

    #[test]
    fn numbers_and_statements_are_written_to_the_byte() {
        for capabilities in agreed() {
            let values = [("ROW_COUNT()".to_owned(), "-1".to_owned()), ("n".to_owned(), "12".to_owned())];
            let answer = numbers(to(capabilities), &values, (STATUS, 3)).expect("an answer");
            let number = |name| definition(name, b"\x0c\x3f\0\x15\0\0\0\x08\x81\0\0\0\0", capabilities);
            let mut expected = vec![counted(2, capabilities), number("ROW_COUNT()"), number("n")];
            expected.extend(eof(capabilities));
            expected.extend([b"\x02-1\x0212".to_vec(), last(capabilities)]);
            assert_eq!(answer, packets(&expected), "{capabilities:?}");

            let answer = prepared(to(capabilities), 0x8000_0007, &["one"], (STATUS, 3)).expect("an answer");
            let mut expected = vec![b"\0\x07\0\0\x80\x01\0\0\0\0\x03\0".to_vec(), text("one", capabilities)];
            expected.extend(eof(capabilities));
            assert_eq!(answer, packets(&expected), "{capabilities:?}");
            let answer = prepared(to(capabilities), 7, &[], (STATUS, 0)).expect("an answer");
            assert_eq!(answer, packets(&[b"\0\x07\0\0\0\0\0\0\0\0\0\0".to_vec()]));
        }
    }

    #[test]
    fn rows_stand_under_what_a_server_said() {
        for capabilities in agreed() {
            let mut head = vec![counted(2, capabilities), b"as it".to_vec(), b"came".to_vec()];
            head.extend(eof(capabilities));
            let given: Vec<Bytes> = head.iter().cloned().map(Bytes::from).collect();
            let none = rows_under(to(capabilities), &given, &[], (STATUS, 3)).expect("an answer");
            assert_eq!(none, packets(&[head.clone(), vec![last(capabilities)]].concat()));
            let values = [row(&[Some("a"), None])];
            let one = rows_under(to(capabilities), &given, &values, (STATUS, 3)).expect("an answer");
            assert_eq!(one, packets(&[head, vec![b"\x01a\xfb".to_vec(), last(capabilities)]].concat()));
            for wrong in [&given[1..], &[], &[Bytes::from_static(b"\x03")]] {
                assert!(rows_under(to(capabilities), wrong, &values, (STATUS, 3)).is_err(), "{wrong:?}");
            }
        }
    }

    #[test]
    fn what_is_no_result_is_refused() {
        let narrow = [row(&[Some("a")])];
        let wide = [row(&[None, None, None])];
        for capabilities in agreed() {
            for form in [Form::Text, Form::Binary] {
                for (columns, values) in [(&["one", "two"][..], &narrow), (&["one", "two"], &wide), (&[], &narrow)] {
                    let refused = rows(to(capabilities), form, columns, values, (2, 0)).expect_err("a refusal");
                    assert_eq!(refused.code, Code::CannotKnow);
                }
            }
            assert!(numbers(to(capabilities), &[], (2, 0)).is_err());
        }
    }

    /// What the library could write otherwise in another version is not passed on.
    #[test]
    fn what_was_not_expected_is_not_patched() {
        let column = TEXT.named("one");
        let stream = played(
            Part { statement: 0, columns: std::slice::from_ref(&column), rows: &[] },
            to(FORM),
            vec![command(b"\x03")],
        );
        let stream = stream.expect("a stream");
        let given = answers(&stream, 3).expect("packets").nth(1).expect("a definition").to_vec();
        assert!(answers(&stream, 2).is_err() && answers(&stream, 4).is_err() && answers(&[], 0).is_err());
        let patched = TEXT.definition(&column, &given, FORM).expect("a definition");
        for at in 0..given.len() {
            assert!(TEXT.definition(&column, &given[..at], FORM).is_err(), "cut at {at}");
            let mut other = given.clone();
            other[at] ^= 0x40;
            if let Ok(other) = TEXT.definition(&column, &other, FORM) {
                assert_eq!(other, patched, "what is overwritten anyway, at {at}");
            }
        }
        assert!(TEXT.definition(&column, &[&given[..], b"\0"].concat(), FORM).is_err());
        assert!(NUMBER.definition(&column, &given, FORM).is_err());
        let (old, new) = (FORM.without(Capabilities::DEPRECATE_EOF), FORM);
        let ends: &[(Capabilities, &[u8], bool)] = &[
            (old, b"\xfe\0\0\0\0", true),
            (new, b"\xfe\0\0\0\0\0\0", true),
            (old, b"\xfe\0\0\0\0\0\0", false),
            (new, b"\xfe\0\0\0\0", false),
            (new, b"\0\0\0\0\0\0\0", false),
            (new, b"\xfe\0\0\x08\0\0\0", false),
            (old, b"\xfe\0\0\x08\0", false),
            (old, b"\xff\x28\x04#42000no", false),
            (new, b"\xff\x28\x04#42000no", false),
            (new, b"\xfe\x01\0\0\0\0\0", false),
        ];
        for (capabilities, given, is_end) in ends {
            let end = Packets::new(to(*capabilities)).end(Some(Cow::Borrowed(given)), (STATUS, 3));
            assert_eq!(end.is_ok(), *is_end, "{given:02x?}");
        }
        assert!(Packets::new(to(new)).end(None, (STATUS, 3)).is_err());
        for cut in [1, 4, stream.len() - 1] {
            assert_eq!(payloads(&stream[..cut]), None);
        }
    }

    #[test]
    fn numbers_of_packets_go_around() {
        let values: Vec<Row> = (0..600).map(|number| row(&[Some(&number.to_string())])).collect();
        for first in [0, 1, 255] {
            let to = To { capabilities: FORM, sequence: first };
            for form in [Form::Text, Form::Binary] {
                let answer = rows(to, form, &["one"], &values, (2, 0)).expect("an answer");
                let expected = (0..603usize).map(|at| (usize::from(first) + at) as u8);
                assert!(expected.eq(numbers_of(&answer)), "{first}");
            }
        }
    }

    #[test]
    fn values_that_fill_packets_go_on_in_the_next() {
        for form in [Form::Text, Form::Binary] {
            // A length of four bytes or of nine, behind what a row in binary begins with.
            let before = if form == Form::Text { 0 } else { 2 };
            let fits = PART_MAX - 4 - before;
            for (length, is_written) in [(fits - 1, true), (fits, false), (fits + 1, true), (fits + 20, true)] {
                let values = [row(&[Some(&"x".repeat(length))]), row(&[Some("behind")])];
                let answer = rows(to(FORM), form, &["one"], &values, (STATUS, 3));
                assert_eq!(answer.is_ok(), is_written, "{form:?} {length}");
                let Ok(answer) = answer else { continue };
                let Event::End { end, over: true } = end(Expected::Results, FORM, &answer) else { panic!() };
                assert!(matches!(end, End::Okay(okay) if okay.warnings == 3));
                let payloads = payloads(&answer).expect("packets");
                assert_eq!(payloads.len(), 5);
                assert_eq!(decoded(form, &payloads[2], 1), values[0]);
                assert_eq!(decoded(form, &payloads[3], 1), values[1]);
            }
        }
    }

    /// Two in one read are read from memory that was freed.
    #[test]
    fn the_library_is_given_one_packet_a_read() {
        let columns = TEXT.columns(["one"].into_iter());
        let part = Part { statement: 7, columns: &columns, rows: &[] };
        let said = [login(FORM), part.prepare(), part.execute(), part.query()];
        let mut turns = Turns(Vec::from(said.clone()).into_iter());
        let mut buffer = [0; 4096];
        let mut reads = Vec::new();
        for _ in 0..6 {
            let mut read = pin!(turns.read(&mut buffer));
            match read.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(length)) => reads.push(length),
                other => panic!("{other:?}"),
            }
        }
        let lengths = said.iter().map(Bytes::len);
        assert_eq!(reads, lengths.chain([0, 0]).collect::<Vec<_>>());
        for packet in &said {
            assert_eq!(packet.len(), HEADER + declared_length(packet).expect("a header"), "one packet");
        }
        let mut narrow = Turns(Vec::from(said.clone()).into_iter());
        let mut read = pin!(narrow.read(&mut buffer[..8]));
        assert!(matches!(read.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Err(_))));
    }

    fn decoded(form: Form, payload: &[u8], columns: usize) -> Row {
        let mut reader = Reader::new(payload);
        let nulls = match form {
            Form::Text => &[],
            Form::Binary => {
                assert_eq!(reader.u8(), Ok(0));
                reader.bytes((columns + 9) / 8).expect("a bitmap")
            }
        };
        let row = (0..columns).map(|at| {
            let is_null = match form {
                Form::Text => reader.rest().first() == Some(&0xfb) && reader.u8().is_ok(),
                Form::Binary => nulls[(at + 2) / 8] & (1 << ((at + 2) % 8)) != 0,
            };
            (!is_null).then(|| String::from_utf8(reader.lenenc_bytes().expect("a value").to_vec()).expect("UTF-8"))
        });
        let row = row.collect();
        assert_eq!(reader.finish(), Ok(()));
        row
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn rows_come_back_as_they_were_given(
            bits in 0usize..16,
            is_binary in any::<bool>(),
            wide in prop::collection::vec(prop::collection::vec(prop::option::of(".{0,300}"), 20), 0..6),
            columns in 1usize..=20,
        ) {
            let values: Vec<Row> = wide.into_iter().map(|mut row| { row.truncate(columns); row }).collect();
            let capabilities = agreed().nth(bits).expect("a combination");
            let form = if is_binary { Form::Binary } else { Form::Text };
            let names = vec!["c"; columns];
            let answer = rows(to(capabilities), form, &names, &values, (2, 0)).expect("an answer");
            let payloads = payloads(&answer).expect("packets");
            let before = payloads.len() - values.len() - 1;
            for (payload, row) in payloads[before..].iter().zip(&values) {
                assert_eq!(&decoded(form, payload, columns), row);
            }
        }
    }
}
