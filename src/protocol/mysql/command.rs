//! What a client's command says: a closed list, each body taken apart, all of it accounted for.
//!
//! Invariant: a body is accepted only if it is consumed to its last byte, so that no two readers can disagree about what it holds. What
//! is not in the list is a [`Door`], which is refused by its name.
//!
//! Source: MySQL's "Client/Server Protocol", "Command Phase"; `Protocol_classic::parse_packet` (MySQL 9.7), `dispatch_command`
//! (MariaDB 10.11), MariaDB's "COM_STMT_BULK_EXECUTE".

use crate::protocol::cursor::Short;
use crate::protocol::mysql::capabilities::Capabilities;
use crate::protocol::mysql::cursor::{Reader, put_lenenc};
use crate::protocol::mysql::frame::Frame;
use crate::protocol::mysql::rsa::Password;
use crate::protocol::mysql::values::{self, Attribute, Kind, Value};
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// A command. Those with values are taken apart by [`execute`] and [`bulk`] once their statement is known.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    Quit,
    /// Another default database.
    InitDb(Bytes),
    Query(Query),
    FieldList {
        table: Bytes,
        wildcard: Bytes,
    },
    /// FLUSH by another name: which things, as bits.
    Refresh(u8),
    Statistics,
    ProcessInfo,
    /// KILL by another name.
    ProcessKill(u32),
    Debug,
    Ping,
    ChangeUser(ChangeUser),
    Prepare(Bytes),
    Execute(Executes),
    LongData(LongData),
    CloseStatement(u32),
    ResetStatement(u32),
    /// Several statements in one text: 0 allows them, 1 forbids them.
    SetOption(u16),
    Fetch {
        statement: u32,
        rows: u32,
    },
    ResetConnection,
    /// MariaDB's: one statement with many rows of values.
    Bulk(Executes),
    Door(Door),
}

/// COM_QUERY.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    pub text: Bytes,
    /// Where the text begins in the payload: behind the attributes, if there are any.
    pub text_at: usize,
    pub attributes: Vec<Attribute>,
}

/// COM_STMT_EXECUTE and COM_STMT_BULK_EXECUTE, up to what needs the statement to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Executes {
    /// [`LAST_PREPARED`]: the one prepared before it.
    pub statement: u32,
    /// A cursor's kind, or of a bulk execute its flags.
    pub flags: u16,
}

/// MariaDB: the statement that was prepared last, whose id the client does not know yet.
pub const LAST_PREPARED: u32 = u32::MAX;
/// Of COM_STMT_EXECUTE: rows are asked for later.
pub const CURSOR_FLAGS: u16 = 0x07;

/// COM_STMT_SEND_LONG_DATA: a part of one parameter's value. It is not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LongData {
    pub statement: u32,
    pub parameter: u16,
    pub data: Bytes,
}

/// COM_CHANGE_USER: a login in the middle of a session.
#[derive(Clone, PartialEq, Eq)]
pub struct ChangeUser {
    pub user: Bytes,
    pub proof: Bytes,
    pub database: Bytes,
    /// The id of a collation; nothing: the session's stays.
    pub collation: Option<u16>,
    pub plugin: Option<Bytes>,
    /// Names and values as they came.
    pub attributes: Option<Bytes>,
}

impl std::fmt::Debug for ChangeUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChangeUser").field("user", &self.user).field("database", &self.database).finish_non_exhaustive()
    }
}

impl ChangeUser {
    /// As it is told to a server with which these capabilities are in force.
    pub fn told(&self, capabilities: Capabilities) -> Password {
        let mut payload = Zeroizing::new(vec![0x11]);
        payload.extend_from_slice(&self.user);
        payload.push(0);
        match capabilities.has(Capabilities::SECURE_CONNECTION) {
            true => {
                payload.push(self.proof.len() as u8);
                payload.extend_from_slice(&self.proof);
            }
            false => {
                payload.extend_from_slice(&self.proof);
                payload.push(0);
            }
        }
        payload.extend_from_slice(&self.database);
        payload.push(0);
        let Some(collation) = self.collation else { return payload };
        payload.extend_from_slice(&collation.to_le_bytes());
        let plugin = self.plugin.as_ref().filter(|_| capabilities.has(Capabilities::PLUGIN_AUTH));
        let Some(plugin) = plugin else { return payload };
        payload.extend_from_slice(plugin);
        payload.push(0);
        if let Some(attributes) = self.attributes.as_ref().filter(|_| capabilities.has(Capabilities::CONNECT_ATTRS)) {
            let mut length = BytesMut::new();
            put_lenenc(&mut length, attributes.len() as u64);
            payload.extend_from_slice(&length);
            payload.extend_from_slice(attributes);
        }
        payload
    }
}

/// A command that nobody may send here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Door(pub u8);

impl Door {
    pub fn name(self) -> &'static str {
        match self.0 {
            0x00 => "COM_SLEEP",
            0x05 => "COM_CREATE_DB",
            0x06 => "COM_DROP_DB",
            0x08 => "COM_SHUTDOWN",
            0x0b => "COM_CONNECT",
            0x0f => "COM_TIME",
            0x10 => "COM_DELAYED_INSERT",
            0x12 => "COM_BINLOG_DUMP",
            0x13 => "COM_TABLE_DUMP",
            0x14 => "COM_CONNECT_OUT",
            0x15 => "COM_REGISTER_SLAVE",
            0x1d => "COM_DAEMON",
            0x1e => "COM_BINLOG_DUMP_GTID",
            0x20 => "COM_CLONE",
            0x21 => "COM_SUBSCRIBE_GROUP_REPLICATION_STREAM",
            0xfb => "COM_SLAVE_WORKER",
            0xfc => "COM_SLAVE_IO",
            0xfd => "COM_SLAVE_SQL",
            0xfe => "COM_MULTI",
            _ => "an unknown command",
        }
    }
}

/// Takes a command apart, on a leg where these capabilities are in force.
pub fn read(frame: &Frame, capabilities: Capabilities) -> Result<Command, Short> {
    let payload = frame.payload();
    let mut reader = Reader::new(&payload);
    let command = match reader.u8()? {
        0x01 => Command::Quit,
        0x02 => Command::InitDb(name(&payload, reader.take_rest())?),
        0x03 => return query(&payload, capabilities).map(Command::Query),
        0x04 => {
            let table = payload.slice_ref(reader.cstr()?);
            Command::FieldList { table, wildcard: name(&payload, reader.take_rest())? }
        }
        0x07 => Command::Refresh(reader.u8()?),
        0x09 => Command::Statistics,
        0x0a => Command::ProcessInfo,
        0x0c => Command::ProcessKill(reader.u32()?),
        0x0d => Command::Debug,
        0x0e => Command::Ping,
        0x11 => Command::ChangeUser(change_user(&payload, &mut reader, capabilities)?),
        0x16 => Command::Prepare(payload.slice_ref(reader.take_rest())),
        0x17 => {
            let statement = reader.u32()?;
            let flags = u16::from(reader.u8()?);
            reader.u32()?;
            reader.take_rest();
            Command::Execute(Executes { statement, flags })
        }
        0x18 => Command::LongData(LongData {
            statement: reader.u32()?,
            parameter: reader.u16()?,
            data: payload.slice_ref(reader.take_rest()),
        }),
        0x19 => Command::CloseStatement(reader.u32()?),
        0x1a => Command::ResetStatement(reader.u32()?),
        0x1b => Command::SetOption(reader.u16()?),
        0x1c => Command::Fetch { statement: reader.u32()?, rows: reader.u32()? },
        0x1f => Command::ResetConnection,
        0xfa if capabilities.has(Capabilities::BULK) => {
            let executes = Executes { statement: reader.u32()?, flags: reader.u16()? };
            reader.take_rest();
            Command::Bulk(executes)
        }
        other => return Ok(Command::Door(Door(other))),
    };
    reader.finish()?;
    Ok(command)
}

/// What is known of a statement that is executed.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// As the server counted them when it was prepared.
    pub parameters: u16,
    /// As they were last sent: a client need not send them again.
    pub kinds: &'a [Kind],
    /// Values that came ahead, by their parameter.
    pub long: &'a BTreeMap<u16, Bytes>,
}

/// COM_STMT_EXECUTE with its values.
#[derive(Debug, Clone, PartialEq)]
pub struct Execute {
    pub statement: u32,
    pub flags: u16,
    /// One a parameter, to be remembered for the next time.
    pub kinds: Vec<Kind>,
    pub values: Vec<Value>,
    pub attributes: Vec<Attribute>,
}

/// Of COM_STMT_EXECUTE: how many values there are is said, as attributes may follow the parameters.
const COUNT_IS_SAID: u16 = 0x08;

/// Up to the values of a COM_STMT_EXECUTE.
struct Head {
    statement: u32,
    flags: u16,
    /// Values of parameters, and of attributes behind them.
    count: usize,
    nulls: Bytes,
    /// Where the message says them: the types, and the names of the attributes.
    kinds: Option<(Vec<Kind>, Vec<Bytes>)>,
}

fn head(
    payload: &Bytes,
    reader: &mut Reader<'_>,
    capabilities: Capabilities,
    parameters: usize,
) -> Result<Head, Short> {
    reader.u8()?;
    let statement = reader.u32()?;
    let flags = u16::from(reader.u8()?);
    reader.u32()?;
    let named = capabilities.has(Capabilities::QUERY_ATTRIBUTES);
    let mut count = parameters;
    if named && (parameters > 0 || flags & COUNT_IS_SAID != 0) {
        count = values::count(reader.lenenc()?)?;
    }
    if count < parameters {
        return Err(Short);
    }
    if count == 0 {
        return Ok(Head { statement, flags, count, nulls: Bytes::new(), kinds: None });
    }
    let nulls = payload.slice_ref(reader.bytes(count.div_ceil(8))?);
    let kinds = match reader.u8()? {
        1 => Some(values::kinds(payload, reader, count, named)?),
        0 => None,
        _ => return Err(Short),
    };
    Ok(Head { statement, flags, count, nulls, kinds })
}

/// The types that a COM_STMT_EXECUTE sets for itself and those after it, its values unread; `None`: those before hold.
pub fn kinds(frame: &Frame, capabilities: Capabilities, parameters: u16) -> Result<Option<Vec<Kind>>, Short> {
    let payload = frame.payload();
    let parameters = usize::from(parameters);
    let head = head(&payload, &mut Reader::new(&payload), capabilities, parameters)?;
    Ok(head.kinds.map(|(kinds, _)| kinds.into_iter().take(parameters).collect()))
}

/// Takes the values of a COM_STMT_EXECUTE apart.
pub fn execute(frame: &Frame, capabilities: Capabilities, known: Known<'_>) -> Result<Execute, Short> {
    let payload = frame.payload();
    let mut reader = Reader::new(&payload);
    let parameters = usize::from(known.parameters);
    let Head { statement, flags, count, nulls, kinds } = head(&payload, &mut reader, capabilities, parameters)?;
    if count == 0 {
        reader.finish()?;
        let (kinds, values, attributes) = Default::default();
        return Ok(Execute { statement, flags, kinds, values, attributes });
    }
    let (kinds, names) = kinds.unwrap_or_else(|| (known.kinds.to_vec(), Vec::new()));
    if kinds.len() < count {
        return Err(Short);
    }
    let mut values = Vec::new();
    for (at, kind) in kinds.iter().take(count).enumerate() {
        let long = u16::try_from(at).ok().filter(|_| at < parameters).and_then(|at| known.long.get(&at));
        values.push(match long {
            // What came ahead is not sent again.
            Some(data) => values::long(*kind, data.clone()),
            None if values::is_null(&nulls, at) => Value::Null,
            None => values::read(&payload, &mut reader, *kind)?,
        });
    }
    reader.finish()?;
    let behind = values.split_off(parameters);
    let attributes =
        names.into_iter().skip(parameters).zip(behind).map(|(name, value)| Attribute { name, value }).collect();
    let kinds = kinds.into_iter().take(parameters).collect();
    Ok(Execute { statement, flags, kinds, values, attributes })
}

/// MariaDB's COM_STMT_BULK_EXECUTE with its rows of values.
#[derive(Debug, Clone, PartialEq)]
pub struct Bulk {
    pub statement: u32,
    pub flags: u16,
    pub kinds: Vec<Kind>,
    pub rows: Vec<Vec<Value>>,
}

/// Of a bulk execute: the types are sent with it.
const BULK_SENDS_TYPES: u16 = 128;

pub fn bulk(frame: &Frame, known: Known<'_>) -> Result<Bulk, Short> {
    let payload = frame.payload();
    let mut reader = Reader::new(&payload);
    reader.u8()?;
    let statement = reader.u32()?;
    let flags = reader.u16()?;
    let parameters = usize::from(known.parameters);
    let kinds = match flags & BULK_SENDS_TYPES {
        0 => known.kinds.to_vec(),
        _ => values::kinds(&payload, &mut reader, parameters, false)?.0,
    };
    if parameters == 0 || kinds.len() < parameters {
        return Err(Short);
    }
    let mut rows = Vec::new();
    while !reader.is_empty() {
        let mut row = Vec::with_capacity(parameters);
        for kind in kinds.iter().take(parameters) {
            row.push(match reader.u8()? {
                0 => values::read(&payload, &mut reader, *kind)?,
                1 => Value::Null,
                2 => Value::Default,
                3 => Value::Ignore,
                _ => return Err(Short),
            });
        }
        rows.push(row);
    }
    Ok(Bulk { statement, flags, kinds, rows })
}

fn query(payload: &Bytes, capabilities: Capabilities) -> Result<Query, Short> {
    let mut reader = Reader::new(payload);
    reader.u8()?;
    let mut attributes = Vec::new();
    if capabilities.has(Capabilities::QUERY_ATTRIBUTES) {
        let count = values::count(reader.lenenc()?)?;
        // More than one set of values is for some later version; both servers take one only.
        if reader.lenenc()? != 1 {
            return Err(Short);
        }
        attributes = values::attributes(payload, &mut reader, count)?;
    }
    let text_at = reader.at();
    Ok(Query { text: payload.slice(text_at..), text_at, attributes })
}

fn change_user(payload: &Bytes, reader: &mut Reader<'_>, capabilities: Capabilities) -> Result<ChangeUser, Short> {
    let user = payload.slice_ref(reader.cstr()?);
    let proof = match capabilities.has(Capabilities::SECURE_CONNECTION) {
        true => {
            let length = usize::from(reader.u8()?);
            reader.bytes(length)?
        }
        false => reader.cstr()?,
    };
    let proof = payload.slice_ref(proof);
    let database = payload.slice_ref(reader.cstr()?);
    let collation = if reader.is_empty() { None } else { Some(reader.u16()?) };
    let mut plugin = None;
    if capabilities.has(Capabilities::PLUGIN_AUTH) && !reader.is_empty() {
        plugin = Some(payload.slice_ref(reader.cstr()?));
    }
    let mut attributes = None;
    if capabilities.has(Capabilities::CONNECT_ATTRS) && !reader.is_empty() {
        attributes = Some(payload.slice_ref(reader.lenenc_bytes()?));
    }
    Ok(ChangeUser { user, proof, database, collation, plugin, attributes })
}

/// A name: one with a NUL in it would be another to whoever stops there.
fn name(payload: &Bytes, bytes: &[u8]) -> Result<Bytes, Short> {
    if memchr::memchr(0, bytes).is_some() { Err(Short) } else { Ok(payload.slice_ref(bytes)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::mysql::frame::put_packet;
    use crate::protocol::mysql::values::Texts;

    fn frame(payload: &[u8]) -> Frame {
        let mut out = BytesMut::new();
        put_packet(&mut out, 0, payload);
        Frame::encoded(out.freeze()).expect("one command")
    }

    const PLAIN: Capabilities = Capabilities(1 << 9 | 1 << 15 | 1 << 19 | 1 << 20);
    const NAMED: Capabilities = Capabilities(1 << 9 | 1 << 15 | 1 << 27);
    const MARIA: Capabilities = Capabilities(1 << 9 | 1 << 34);

    fn text(bytes: &'static [u8]) -> Bytes {
        Bytes::from_static(bytes)
    }

    #[test]
    fn commands_are_taken_apart() {
        let cases: &[(&[u8], Command)] = &[
            (b"\x01", Command::Quit),
            (b"\x02shop", Command::InitDb(text(b"shop"))),
            (b"\x04t\0a%", Command::FieldList { table: text(b"t"), wildcard: text(b"a%") }),
            (b"\x07\x02", Command::Refresh(2)),
            (b"\x09", Command::Statistics),
            (b"\x0a", Command::ProcessInfo),
            (b"\x0c\x01\x02\0\0", Command::ProcessKill(513)),
            (b"\x0d", Command::Debug),
            (b"\x0e", Command::Ping),
            (b"\x16SELECT ?", Command::Prepare(text(b"SELECT ?"))),
            (
                b"\x18\x07\0\0\0\x01\0data",
                Command::LongData(LongData { statement: 7, parameter: 1, data: text(b"data") }),
            ),
            (b"\x19\x07\0\0\0", Command::CloseStatement(7)),
            (b"\x1a\x07\0\0\0", Command::ResetStatement(7)),
            (b"\x1b\x01\0", Command::SetOption(1)),
            (b"\x1c\x07\0\0\0\x0a\0\0\0", Command::Fetch { statement: 7, rows: 10 }),
            (b"\x1f", Command::ResetConnection),
            (b"\x17\x07\0\0\0\x01\x01\0\0\0", Command::Execute(Executes { statement: 7, flags: 1 })),
            (b"\x12anything", Command::Door(Door(0x12))),
            (b"\xfa\0\0\0\0\0\0", Command::Door(Door(0xfa))),
        ];
        for (payload, wanted) in cases {
            assert_eq!(read(&frame(payload), PLAIN).as_ref(), Ok(wanted), "{payload:?}");
        }
        let bulk = Executes { statement: LAST_PREPARED, flags: 128 };
        assert_eq!(read(&frame(b"\xfa\xff\xff\xff\xff\x80\0"), MARIA), Ok(Command::Bulk(bulk)));
        assert_eq!(Door(0x12).name(), "COM_BINLOG_DUMP");
    }

    #[test]
    fn what_does_not_add_up_is_malformed() {
        let cases: &[&[u8]] = &[
            b"\x01x",
            b"\x02a\0b",
            b"\x04t",
            b"\x07",
            b"\x0e\0",
            b"\x0c\0\0\0",
            b"\x17\0\0\0\0\0",
            b"\x18\0\0\0\0\0",
            b"\x19\0\0\0\0\0",
            b"\x11user",
            b"\x11u\0\x05ab",
            b"\x11u\0\0db\0\x08",
            b"\x11u\0\0db\0\x08\0plugin",
            b"\x11u\0\0db\0\x08\0p\0\x05a",
            b"\x11u\0\0db\0\x08\0p\0\x01ab",
        ];
        for payload in cases {
            assert_eq!(read(&frame(payload), PLAIN), Err(Short), "{payload:?}");
        }
    }

    #[test]
    fn a_query_is_told_from_its_attributes() {
        let plain = read(&frame(b"\x03SELECT 1"), PLAIN);
        let Ok(Command::Query(query)) = plain else { panic!("{plain:?}") };
        assert_eq!((&query.text[..], query.text_at), (&b"SELECT 1"[..], 1));
        let none = read(&frame(b"\x03\0\x01SELECT 1"), NAMED);
        let Ok(Command::Query(query)) = none else { panic!("{none:?}") };
        assert_eq!((&query.text[..], query.text_at, query.attributes.len()), (&b"SELECT 1"[..], 3, 0));
        let some = read(&frame(b"\x03\x02\x01\x02\x01\xfd\0\x02id\x03\0\x01n\x03abcSELECT 1"), NAMED);
        let Ok(Command::Query(query)) = some else { panic!("{some:?}") };
        assert_eq!(&query.text[..], b"SELECT 1");
        assert_eq!(query.attributes.len(), 2);
        assert_eq!((&query.attributes[0].name[..], &query.attributes[1].value), (&b"id"[..], &Value::Null));
        for bad in
            [&b"\x03"[..], b"\x03\0", b"\x03\0\x02x", b"\x03\x01\x01\0\0x", b"\x03\x01\x01\0\x01\xfd\0\x02id\x09ab"]
        {
            assert_eq!(read(&frame(bad), NAMED), Err(Short), "{bad:?}");
        }
    }

    #[test]
    fn a_change_of_user_is_a_login() {
        let read_one = |payload: &[u8]| match read(&frame(payload), PLAIN) {
            Ok(Command::ChangeUser(change)) => change,
            other => panic!("{other:?}"),
        };
        let whole = read_one(b"\x11anna\0\x02xyshop\0\x2d\0mysql_native_password\0\x04\x01a\x01b");
        assert_eq!((&whole.user[..], &whole.proof[..], &whole.database[..]), (&b"anna"[..], &b"xy"[..], &b"shop"[..]));
        assert_eq!((whole.collation, whole.plugin.clone()), (Some(45), Some(text(b"mysql_native_password"))));
        assert_eq!(whole.attributes.clone(), Some(text(b"\x01a\x01b")));
        let again = b"\x11anna\0\x02xyshop\0\x2d\0mysql_native_password\0\x04\x01a\x01b";
        assert_eq!(&whole.told(PLAIN)[..], again);
        let least = read_one(b"\x11anna\0\0\0");
        assert_eq!(&least.told(PLAIN)[..], b"\x11anna\0\0\0");
        assert_eq!((least.collation, least.plugin, least.attributes), (None, None, None));
        assert!(!format!("{:?}", read_one(b"\x11a\0\x06secret\0")).contains("secret"));
    }

    #[test]
    fn values_are_read_by_their_types() {
        let none = BTreeMap::new();
        let known = Known { parameters: 3, kinds: &[], long: &none };
        let payload = b"\x17\x07\0\0\0\0\x01\0\0\0\x02\x01\x08\0\xfd\0\x01\x80\xfe\xff\xff\xff\xff\xff\xff\xff\xc8";
        let executed = execute(&frame(payload), PLAIN, known).expect("an execute");
        let bound = executed.parameters(&Texts::default()).expect("values");
        assert_eq!(bound.literals, ["-2", "NULL", "200"]);
        assert_eq!(bound.types, [0x08, 0xfd, 0x8001]);
        assert_eq!(bound.values[1], None);
        // The next time without types.
        let again = Known { parameters: 3, kinds: &executed.kinds, long: &none };
        let payload = b"\x17\x07\0\0\0\0\x01\0\0\0\x01\0\x01a\x05";
        let bound = execute(&frame(payload), PLAIN, again).and_then(|it| it.parameters(&Texts::default()));
        assert_eq!(bound.expect("values").literals, ["NULL", "'a'", "5"]);
        assert_eq!(execute(&frame(payload), PLAIN, known), Err(Short), "types nobody ever sent");
        let trailing = b"\x17\x07\0\0\0\0\x01\0\0\0\x01\0\x01a\x05\0";
        assert_eq!(execute(&frame(trailing), PLAIN, again), Err(Short));
    }

    #[test]
    fn what_came_ahead_is_not_sent_again() {
        let long = BTreeMap::from([(0, text(b"long"))]);
        let known = Known { parameters: 2, kinds: &[], long: &long };
        let payload = b"\x17\x07\0\0\0\0\x01\0\0\0\0\x01\xfc\0\x01\0\x05";
        let bound = execute(&frame(payload), PLAIN, known).and_then(|it| it.parameters(&Texts::default()));
        assert_eq!(bound.expect("values").literals, ["_binary x'6c6f6e67'", "5"]);
    }

    #[test]
    fn attributes_follow_the_parameters() {
        let none = BTreeMap::new();
        let known = Known { parameters: 1, kinds: &[], long: &none };
        let payload = b"\x17\x07\0\0\0\x08\x01\0\0\0\x02\0\x01\x01\0\0\xfd\0\x02id\x05\x03abc";
        let executed = execute(&frame(payload), NAMED, known).expect("an execute");
        assert_eq!((executed.values.len(), executed.attributes.len()), (1, 1));
        assert_eq!(&executed.attributes[0].name[..], b"id");
        let fewer = b"\x17\x07\0\0\0\x08\x01\0\0\0\0";
        assert_eq!(execute(&frame(fewer), NAMED, known), Err(Short), "fewer than it has");
        let zero = Known { parameters: 0, ..known };
        assert!(execute(&frame(fewer), NAMED, zero).is_ok());
        assert!(execute(&frame(b"\x17\x07\0\0\0\0\x01\0\0\0"), NAMED, zero).is_ok());
    }

    #[test]
    fn rows_of_values_are_read_to_the_last() {
        let none = BTreeMap::new();
        let known = Known { parameters: 2, kinds: &[], long: &none };
        let payload = b"\xfa\x07\0\0\0\x80\0\x03\0\xfd\0\0\x01\0\0\0\0\x01a\x01\x02\0\x02\0\0\0\x03";
        let read = bulk(&frame(payload), known).expect("a bulk execute");
        let texts = Texts::default();
        let literals = |row: &Vec<Value>| row.iter().map(|value| value.literal(&texts)).collect::<Vec<_>>();
        assert_eq!(literals(&read.rows[0]), [Some("1".to_owned()), Some("'a'".to_owned())]);
        assert_eq!(read.rows[1], [Value::Null, Value::Default]);
        assert_eq!(read.rows[2][1], Value::Ignore);
        let cut = &payload[..payload.len() - 1];
        assert_eq!(bulk(&frame(cut), known), Err(Short));
        assert_eq!(bulk(&frame(b"\xfa\x07\0\0\0\0\0\0\x01\0\0\0"), known), Err(Short), "types nobody ever sent");
    }
}
