//! MySQL's packets as bytes: what a client sends, built by hand, and what it hears, taken apart.
//!
//! Invariant: its parent's. Sources: <https://dev.mysql.com/doc/dev/mysql-server/latest/PAGE_PROTOCOL.html> and
//! <https://mariadb.com/kb/en/clientserver-protocol/>, tried on MySQL 9.7 and MariaDB 10.11.

use std::fmt;

/// The longest body of one packet; a longer message goes on in the next.
pub const PACKET_MAX: usize = 0xff_ffff;

// Capabilities. In the upper half: MariaDB's own.
pub const LONG_PASSWORD: u64 = 1;
pub const FOUND_ROWS: u64 = 1 << 1;
pub const LONG_FLAG: u64 = 1 << 2;
pub const CONNECT_WITH_DB: u64 = 1 << 3;
pub const COMPRESS: u64 = 1 << 5;
pub const LOCAL_FILES: u64 = 1 << 7;
pub const PROTOCOL_41: u64 = 1 << 9;
pub const INTERACTIVE: u64 = 1 << 10;
pub const TLS: u64 = 1 << 11;
pub const TRANSACTIONS: u64 = 1 << 13;
pub const SECURE_CONNECTION: u64 = 1 << 15;
pub const MULTI_STATEMENTS: u64 = 1 << 16;
pub const MULTI_RESULTS: u64 = 1 << 17;
pub const PS_MULTI_RESULTS: u64 = 1 << 18;
pub const PLUGIN_AUTH: u64 = 1 << 19;
pub const CONNECT_ATTRS: u64 = 1 << 20;
pub const PLUGIN_AUTH_LENENC: u64 = 1 << 21;
pub const SESSION_TRACK: u64 = 1 << 23;
pub const DEPRECATE_EOF: u64 = 1 << 24;
pub const OPTIONAL_METADATA: u64 = 1 << 25;
pub const ZSTD: u64 = 1 << 26;
pub const QUERY_ATTRIBUTES: u64 = 1 << 27;
pub const MULTI_FACTOR: u64 = 1 << 28;
pub const PROGRESS: u64 = 1 << 32;
pub const BULK: u64 = 1 << 34;
pub const EXTENDED_METADATA: u64 = 1 << 35;
pub const CACHE_METADATA: u64 = 1 << 36;

/// What current clients ask for.
pub const USUAL: u64 = LONG_PASSWORD
    | LONG_FLAG
    | LOCAL_FILES
    | PROTOCOL_41
    | TRANSACTIONS
    | SECURE_CONNECTION
    | MULTI_STATEMENTS
    | MULTI_RESULTS
    | PS_MULTI_RESULTS
    | PLUGIN_AUTH
    | CONNECT_ATTRS
    | PLUGIN_AUTH_LENENC
    | SESSION_TRACK
    | DEPRECATE_EOF;

/// What MariaDB's own connectors ask for besides; they do not set [`LONG_PASSWORD`], which would say that they are MySQL's.
pub const MARIADB: u64 = (USUAL & !LONG_PASSWORD) | PROGRESS | BULK | EXTENDED_METADATA | CACHE_METADATA;

pub mod command {
    pub const QUIT: u8 = 0x01;
    pub const INIT_DB: u8 = 0x02;
    pub const QUERY: u8 = 0x03;
    pub const FIELD_LIST: u8 = 0x04;
    pub const STATISTICS: u8 = 0x09;
    pub const PROCESS_INFO: u8 = 0x0a;
    pub const PROCESS_KILL: u8 = 0x0c;
    pub const DEBUG: u8 = 0x0d;
    pub const PING: u8 = 0x0e;
    pub const CHANGE_USER: u8 = 0x11;
    pub const BINLOG_DUMP: u8 = 0x12;
    pub const STMT_PREPARE: u8 = 0x16;
    pub const STMT_EXECUTE: u8 = 0x17;
    pub const STMT_SEND_LONG_DATA: u8 = 0x18;
    pub const STMT_CLOSE: u8 = 0x19;
    pub const STMT_RESET: u8 = 0x1a;
    pub const SET_OPTION: u8 = 0x1b;
    pub const STMT_FETCH: u8 = 0x1c;
    pub const RESET_CONNECTION: u8 = 0x1f;
    pub const STMT_BULK_EXECUTE: u8 = 0xfa;
}

pub mod status {
    pub const IN_TRANSACTION: u16 = 1;
    pub const AUTOCOMMIT: u16 = 2;
    pub const MORE_RESULTS: u16 = 8;
    pub const CURSOR_EXISTS: u16 = 0x40;
    pub const SESSION_STATE_CHANGED: u16 = 0x4000;
}

/// One packet of the server, as it came.
#[derive(Clone, PartialEq, Eq)]
pub struct Packet {
    pub sequence: u8,
    pub body: Vec<u8>,
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.body[..self.body.len().min(400)];
        write!(f, "{}[{}]", self.sequence, shown.escape_ascii())?;
        if shown.len() < self.body.len() { write!(f, "… {} bytes", self.body.len()) } else { Ok(()) }
    }
}

/// The first packet of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    pub version: String,
    pub connection: u32,
    pub scramble: Vec<u8>,
    pub capabilities: u64,
    pub charset: u8,
    pub status: u16,
    pub plugin: String,
}

impl Greeting {
    pub fn read(body: &[u8]) -> Greeting {
        let mut rest = Rest(body);
        assert_eq!(rest.byte(), 10, "protocol version of {}", body.escape_ascii());
        let version = text(rest.until_nul());
        let connection = rest.number(4) as u32;
        let mut scramble = rest.take(8).to_vec();
        rest.take(1);
        let low = rest.number(2);
        let charset = rest.byte();
        let status = rest.number(2) as u16;
        let mut capabilities = low | rest.number(2) << 16;
        let length = rest.byte();
        rest.take(6);
        let extended = rest.number(4);
        if capabilities & LONG_PASSWORD == 0 {
            capabilities |= extended << 32;
        }
        let more = usize::from(length).saturating_sub(8).max(13);
        scramble.extend(rest.take(more).strip_suffix(&[0]).expect("a scramble ends with a NUL"));
        let plugin = text(rest.until_nul());
        Greeting { version, connection, scramble, capabilities, charset, status, plugin }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fine {
    pub affected: u64,
    pub insert_id: u64,
    pub status: u16,
    pub warnings: u16,
    pub info: String,
    /// Type and data of what changed in the session.
    pub changes: Vec<(u8, Vec<u8>)>,
}

impl Fine {
    /// An OK packet, whichever byte it begins with.
    pub fn read(body: &[u8], capabilities: u64) -> Fine {
        let mut rest = Rest(&body[1..]);
        let mut fine = Fine { affected: rest.length(), insert_id: rest.length(), ..Fine::default() };
        fine.status = rest.number(2) as u16;
        fine.warnings = rest.number(2) as u16;
        if capabilities & SESSION_TRACK == 0 {
            fine.info = text(rest.0);
            return fine;
        }
        if !rest.0.is_empty() {
            fine.info = text(rest.string());
        }
        if fine.status & status::SESSION_STATE_CHANGED != 0 {
            let mut changes = Rest(rest.string());
            while !changes.0.is_empty() {
                fine.changes.push((changes.byte(), changes.string().to_vec()));
            }
        }
        assert!(rest.0.is_empty(), "more than an OK: {}", body.escape_ascii());
        fine
    }

    pub fn eof(body: &[u8]) -> Fine {
        assert_eq!(body.len(), 5, "no EOF: {}", body.escape_ascii());
        let mut rest = Rest(&body[1..]);
        let warnings = rest.number(2) as u16;
        Fine { warnings, status: rest.number(2) as u16, ..Fine::default() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: u16,
    pub state: String,
    pub message: String,
}

impl Failure {
    pub fn read(body: &[u8]) -> Failure {
        let mut rest = Rest(&body[1..]);
        let code = rest.number(2) as u16;
        // Before the handshake is over there is no SQLSTATE.
        let state = if rest.0.first() == Some(&b'#') { text(&rest.take(6)[1..]) } else { String::new() };
        Failure { code, state, message: text(rest.0) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub table: String,
    pub name: String,
    pub kind: u8,
    pub flags: u16,
    /// What MariaDB adds (`json`, `point`, …), as it came.
    pub extended: Vec<u8>,
}

impl Column {
    pub fn read(body: &[u8], capabilities: u64) -> Column {
        let mut rest = Rest(body);
        let strings: Vec<&[u8]> = (0..6).map(|_| rest.string()).collect();
        let extended = if capabilities & EXTENDED_METADATA != 0 { rest.string().to_vec() } else { Vec::new() };
        assert_eq!(rest.length(), 12, "a column: {}", body.escape_ascii());
        rest.take(6);
        let kind = rest.byte();
        let flags = rest.number(2) as u16;
        Column { table: text(strings[2]), name: text(strings[4]), kind, flags, extended }
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

    pub fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    /// Little-endian, of so many bytes.
    pub fn number(&mut self, bytes: usize) -> u64 {
        self.take(bytes).iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// A length-encoded number.
    pub fn length(&mut self) -> u64 {
        match self.byte() {
            0xfc => self.number(2),
            0xfd => self.number(3),
            0xfe => self.number(8),
            small => {
                assert!(small < 0xfb, "{small:#x} begins no length");
                u64::from(small)
            }
        }
    }

    /// A length-encoded string.
    pub fn string(&mut self) -> &'a [u8] {
        let length = self.length();
        self.take(usize::try_from(length).expect("a length"))
    }

    /// The same where 0xfb stands for NULL.
    pub fn value(&mut self) -> Option<&'a [u8]> {
        if self.0.first() == Some(&0xfb) {
            self.take(1);
            return None;
        }
        Some(self.string())
    }

    pub fn until_nul(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|byte| *byte == 0).expect("a string ends with a NUL");
        let taken = self.take(end);
        self.take(1);
        taken
    }
}

// ---------------------------------------------------------------- what a client sends

/// A message as packets that are numbered from `sequence`; one that fills its last packet is followed by an empty one.
pub fn framed(sequence: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len() + 4);
    let mut sequence = sequence;
    let mut rest = body;
    loop {
        let (part, after) = rest.split_at(rest.len().min(PACKET_MAX));
        bytes.extend(&u32::try_from(part.len()).expect("three bytes").to_le_bytes()[..3]);
        bytes.push(sequence);
        bytes.extend(part);
        if part.len() < PACKET_MAX {
            return bytes;
        }
        sequence = sequence.wrapping_add(1);
        rest = after;
    }
}

/// A command's body: its byte and what follows.
pub fn body(command: u8, rest: &[u8]) -> Vec<u8> {
    [&[command], rest].concat()
}

pub fn query(sql: &str) -> Vec<u8> {
    body(command::QUERY, sql.as_bytes())
}

pub fn prepare(sql: &str) -> Vec<u8> {
    body(command::STMT_PREPARE, sql.as_bytes())
}

/// A command about a prepared statement, with what follows its id.
pub fn about(command: u8, statement: u32, rest: &[u8]) -> Vec<u8> {
    [&[command][..], &statement.to_le_bytes(), rest].concat()
}

/// All values as strings, none as NULL. `cursor` is 0, or 1 for a cursor that reads.
pub fn execute(statement: u32, cursor: u8, values: &[Option<&[u8]>]) -> Vec<u8> {
    let typed: Vec<_> = values.iter().map(|value| (VAR_STRING, value.map(lenenc_string))).collect();
    execute_typed(statement, cursor, &typed)
}

pub const LONG: u16 = 3;
pub const LONGLONG: u16 = 8;
pub const BLOB: u16 = 252;
pub const TINY: u16 = 1;
pub const VAR_STRING: u16 = 253;

/// Values by their type's number, as they stand in the packet; `None` is NULL.
pub fn execute_typed(statement: u32, cursor: u8, values: &[(u16, Option<Vec<u8>>)]) -> Vec<u8> {
    let mut rest = vec![cursor, 1, 0, 0, 0];
    if !values.is_empty() {
        let mut nulls = vec![0; values.len().div_ceil(8)];
        for (at, _) in values.iter().enumerate().filter(|(_, (_, value))| value.is_none()) {
            nulls[at / 8] |= 1 << (at % 8);
        }
        rest.extend(nulls);
        rest.push(1);
        rest.extend(values.iter().flat_map(|(kind, _)| kind.to_le_bytes()));
        rest.extend(values.iter().filter_map(|(_, value)| value.as_ref()).flatten());
    }
    about(command::STMT_EXECUTE, statement, &rest)
}

pub fn long_data(statement: u32, parameter: u16, data: &[u8]) -> Vec<u8> {
    about(command::STMT_SEND_LONG_DATA, statement, &[&parameter.to_le_bytes(), data].concat())
}

pub fn fetch(statement: u32, rows: u32) -> Vec<u8> {
    about(command::STMT_FETCH, statement, &rows.to_le_bytes())
}

pub fn close(statement: u32) -> Vec<u8> {
    about(command::STMT_CLOSE, statement, &[])
}

pub fn reset(statement: u32) -> Vec<u8> {
    about(command::STMT_RESET, statement, &[])
}

pub fn lenenc(number: u64) -> Vec<u8> {
    let bytes = number.to_le_bytes();
    match number {
        0..0xfb => vec![bytes[0]],
        0xfb..0x1_0000 => [&[0xfc], &bytes[..2]].concat(),
        0x1_0000..0x100_0000 => [&[0xfd], &bytes[..3]].concat(),
        _ => [&[0xfe], &bytes[..]].concat(),
    }
}

pub fn lenenc_string(string: impl AsRef<[u8]>) -> Vec<u8> {
    let string = string.as_ref();
    [lenenc(string.len() as u64), string.to_vec()].concat()
}

pub fn nul_terminated(string: &str) -> Vec<u8> {
    [string.as_bytes(), &[0]].concat()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
