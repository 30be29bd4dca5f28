//! The packets of a login: the server's greeting, the client's wish for TLS, its answer, and what plugins say to each other.
//!
//! The greeting is patched where it stands, so that the server's scramble, connection id and version reach the client as they were. The
//! client's answer is taken apart and put together again: it leaves with other capabilities, which decide its form.
//!
//! Invariant: a packet is accepted only if it is consumed to its last byte; protocols before 4.1 (MySQL 4.0 and older) are refused.
//!
//! Source: MySQL's "Client/Server Protocol", "Connection Phase Packets"; MariaDB's "Connecting"; `parse_client_handshake_packet` and
//! `send_server_handshake_packet` of both (MySQL 9.7, MariaDB 10.11).

use crate::protocol::cursor::Short;
use crate::protocol::mysql::capabilities::Capabilities;
use crate::protocol::mysql::cursor::{Reader, put_lenenc, put_lenenc_bytes};
use crate::protocol::mysql::frame::{HEADER, Packet, put_packet};
use crate::protocol::mysql::rsa::Password;
use bytes::{BufMut, Bytes, BytesMut};
use zeroize::Zeroizing;

/// What a server says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    packet: Packet,
    /// As it is written, `5.5.5-` and all.
    pub version: String,
    pub connection: u32,
    pub scramble: [u8; SCRAMBLE],
    pub capabilities: Capabilities,
    pub collation: u8,
    pub status: u16,
    pub plugin: Bytes,
    /// Where the connection's id stands in the packet; everything else is found from it.
    connection_at: usize,
}

/// Bytes of a scramble: what proofs are made with.
pub const SCRAMBLE: usize = 20;

/// Whose server it is, and which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Server {
    pub is_mariadb: bool,
    /// 90704 is 9.7.4, 101114 is 10.11.14; 0 where it is not known.
    pub version: u32,
}

impl Greeting {
    pub fn read(packet: Packet) -> Result<Greeting, Short> {
        let whole = packet.clone().into_bytes();
        let mut reader = Reader::new(&whole);
        reader.bytes(HEADER)?;
        if reader.u8()? != 10 {
            return Err(Short);
        }
        let version = String::from_utf8_lossy(reader.cstr()?).into_owned();
        let connection_at = reader.at();
        let connection = reader.u32()?;
        let mut scramble = [0; SCRAMBLE];
        let (first, second) = scramble.split_at_mut(8);
        first.copy_from_slice(reader.bytes(8)?);
        reader.u8()?;
        let low = reader.u16()?;
        let collation = reader.u8()?;
        let status = reader.u16()?;
        let high = reader.u16()?;
        let length = usize::from(reader.u8()?);
        reader.bytes(6)?;
        let extended = reader.u32()?;
        let low = u32::from(low) | (u32::from(high) << 16);
        let is_mysql = Capabilities::of_halves(low, 0).has(Capabilities::MYSQL);
        let capabilities = Capabilities::of_halves(low, if is_mysql { 0 } else { extended });
        if !capabilities.has(Capabilities::PROTOCOL_41) {
            return Err(Short);
        }
        // Twelve bytes and a NUL.
        let rest = reader.bytes(length.saturating_sub(8).max(13))?;
        second.copy_from_slice(rest.get(..SCRAMBLE - 8).ok_or(Short)?);
        let plugin = match capabilities.has(Capabilities::PLUGIN_AUTH) {
            true => whole.slice_ref(reader.cstr()?),
            false => Bytes::from_static(NATIVE),
        };
        reader.finish()?;
        Ok(Greeting { packet, version, connection, scramble, capabilities, collation, status, plugin, connection_at })
    }

    /// The same greeting with these capabilities; the rest as it was.
    pub fn offering(&self, offered: Capabilities) -> Bytes {
        let mut bytes = BytesMut::from(&self.packet.clone().into_bytes()[..]);
        let [one, two, three, four] = offered.low().to_le_bytes();
        // Behind the id, eight bytes of the scramble and a filler; then the collation and the status between the two halves.
        let low_at = self.connection_at + 13;
        let mut set = |at: usize, with: &[u8]| {
            if let Some(place) = bytes.get_mut(at..at + with.len()) {
                place.copy_from_slice(with);
            }
        };
        set(low_at, &[one, two]);
        set(low_at + 5, &[three, four]);
        set(low_at + 14, &offered.high().to_le_bytes());
        bytes.freeze()
    }

    /// The same greeting with a scramble and a plugin of ours. `Short`: it names no plugin that could be another.
    pub fn asking(&self, scramble: [u8; SCRAMBLE], plugin: &'static [u8]) -> Result<Greeting, Short> {
        if !self.capabilities.has(Capabilities::PLUGIN_AUTH) {
            return Err(Short);
        }
        let whole = self.packet.payload_bytes();
        // Behind the version and the id: eight bytes, nineteen of other things, the rest and a NUL, the plugin and a NUL.
        let first_at = self.connection_at - HEADER + 4;
        let (first, second) = scramble.split_at(8);
        let before = whole.get(..first_at).ok_or(Short)?;
        let between = whole.get(first_at + 8..first_at + 8 + 19).ok_or(Short)?;
        let payload = [before, first, between, second, &[0], plugin, &[0]].concat();
        Greeting::read(Packet::new(self.packet.sequence(), &payload))
    }

    /// The product and its version, as the greeting names them.
    pub fn server(&self) -> Server {
        let is_mariadb = self.version.contains("MariaDB") || !self.capabilities.has(Capabilities::MYSQL);
        // MariaDB pretended to be an old MySQL until 11.0, so that replicas would talk to it.
        let text = match self.version.strip_prefix("5.5.5-") {
            Some(own) if is_mariadb => own,
            _ => &self.version,
        };
        Server { is_mariadb, version: version_number(text) }
    }
}

pub const NATIVE: &[u8] = b"mysql_native_password";
pub const CACHING_SHA2: &[u8] = b"caching_sha2_password";
pub const SHA256: &[u8] = b"sha256_password";
/// MariaDB's, as its clients call it.
pub const ED25519: &[u8] = b"client_ed25519";
pub const CLEAR: &[u8] = b"mysql_clear_password";
/// Of MySQL 4.0 and older: its proofs can be turned round.
pub const OLD: &[u8] = b"mysql_old_password";
/// PAM's conversation: what is asked and answered, a password in clear.
pub const DIALOG: &[u8] = b"dialog";

/// What a client sends first: its answer, or its wish for TLS before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    Tls { capabilities: Capabilities },
    Login(Box<Login>),
}

/// Why a client's first packet is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadOpening {
    /// A protocol of MySQL 4.0 or older.
    TooOld,
    Malformed,
}

impl From<Short> for BadOpening {
    fn from(_: Short) -> BadOpening {
        BadOpening::Malformed
    }
}

/// A client's answer to the greeting.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// As the client said them, whether they were offered or not.
    pub capabilities: Capabilities,
    pub max_packet: u32,
    pub collation: u8,
    pub user: Bytes,
    /// What its plugin says first: a proof, a password, or nothing.
    pub proof: Password,
    pub database: Option<Bytes>,
    pub plugin: Option<Bytes>,
    /// Names and values as they came.
    pub attributes: Option<Bytes>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).field("database", &self.database).finish_non_exhaustive()
    }
}

/// The wish for TLS is an answer that ends behind its capabilities.
const TLS_REQUEST_BYTES: usize = 32;

/// Reads a client's first packet. `offered` is what the greeting said: what it did not offer is not heeded, but for the form.
pub fn opening(payload: &[u8], offered: Capabilities) -> Result<Opening, BadOpening> {
    let mut reader = Reader::new(payload);
    // The rest may hold a password, which is wiped: what is kept is copied.
    let own = Bytes::copy_from_slice;
    let said = u32::from(reader.u16()?);
    if !Capabilities::of_halves(said, 0).has(Capabilities::PROTOCOL_41) {
        return Err(BadOpening::TooOld);
    }
    let low = said | (u32::from(reader.u16()?) << 16);
    let max_packet = reader.u32()?;
    let collation = reader.u8()?;
    reader.bytes(19)?;
    let extended = reader.u32()?;
    // MariaDB's clients say there what they can, if the server is one.
    let is_mariadb = !offered.has(Capabilities::MYSQL);
    let capabilities = Capabilities::of_halves(low, if is_mariadb { extended } else { 0 });
    if payload.len() == TLS_REQUEST_BYTES && capabilities.has(Capabilities::SSL) {
        return Ok(Opening::Tls { capabilities });
    }
    let user = own(reader.cstr()?);
    let proof = if capabilities.has(Capabilities::PLUGIN_AUTH_LENENC) {
        reader.lenenc_bytes()?
    } else if capabilities.has(Capabilities::SECURE_CONNECTION) {
        let length = usize::from(reader.u8()?);
        reader.bytes(length)?
    } else {
        reader.cstr()?
    };
    let proof = Zeroizing::new(proof.to_vec());
    let mut login =
        Login { capabilities, max_packet, collation, user, proof, database: None, plugin: None, attributes: None };
    if capabilities.has(Capabilities::CONNECT_WITH_DB) && !reader.is_empty() {
        login.database = Some(own(reader.cstr()?)).filter(|name| !name.is_empty());
    }
    if capabilities.has(Capabilities::PLUGIN_AUTH) && !reader.is_empty() {
        login.plugin = Some(own(reader.cstr()?));
    }
    if capabilities.has(Capabilities::CONNECT_ATTRS) && !reader.is_empty() {
        login.attributes = Some(own(reader.lenenc_bytes()?));
    }
    if capabilities.has(Capabilities::ZSTD) && !reader.is_empty() {
        // The level of a compression that was not offered.
        reader.u8()?;
    }
    reader.finish()?;
    Ok(Opening::Login(Box::new(login)))
}

impl Login {
    /// As it is told to a server, with these capabilities: they decide its form.
    pub fn told(&self, sequence: u8, capabilities: Capabilities) -> Password {
        let capabilities = self.fitting(capabilities);
        let mut before = head(capabilities, self.max_packet, self.collation);
        before.put_slice(&self.user);
        before.put_u8(0);
        if capabilities.has(Capabilities::PLUGIN_AUTH_LENENC) {
            put_lenenc(&mut before, self.proof.len() as u64);
        } else {
            before.put_u8(self.proof.len() as u8);
        }
        let mut behind = BytesMut::new();
        for name in [&self.database, &self.plugin].into_iter().flatten() {
            behind.put_slice(name);
            behind.put_u8(0);
        }
        if let Some(attributes) = self.attributes.as_ref().filter(|_| capabilities.has(Capabilities::CONNECT_ATTRS)) {
            put_lenenc_bytes(&mut behind, attributes);
        }
        said_once(sequence, &[&before, &self.proof, &behind])
    }

    /// The wish for TLS that goes ahead of it.
    pub fn tls_request(&self, capabilities: Capabilities) -> Bytes {
        let mut out = BytesMut::new();
        put_packet(&mut out, 1, &head(self.fitting(capabilities), self.max_packet, self.collation));
        out.freeze()
    }

    /// The value of one of its attributes.
    pub fn attribute(&self, name: &str) -> Option<String> {
        attribute(self.attributes.as_ref()?, name)
    }

    /// The capabilities that say which parts there are, set as there are those parts.
    pub fn fitting(&self, capabilities: Capabilities) -> Capabilities {
        let mut fitting = capabilities.with(Capabilities::PROTOCOL_41).with(Capabilities::SECURE_CONNECTION);
        for (capability, is_there) in [
            (Capabilities::CONNECT_WITH_DB, self.database.is_some()),
            (Capabilities::PLUGIN_AUTH, self.plugin.is_some()),
            (Capabilities::CONNECT_ATTRS, capabilities.has(Capabilities::CONNECT_ATTRS) && self.attributes.is_some()),
        ] {
            fitting = if is_there { fitting.with(capability) } else { fitting.without(capability) };
        }
        fitting
    }
}

/// The value of one of a login's attributes.
pub fn attribute(attributes: &[u8], name: &str) -> Option<String> {
    let mut reader = Reader::new(attributes);
    while !reader.is_empty() {
        let (key, value) = (reader.lenenc_bytes().ok()?, reader.lenenc_bytes().ok()?);
        if key == name.as_bytes() {
            return Some(String::from_utf8_lossy(value).into_owned());
        }
    }
    None
}

/// What a server says while a login goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It is in; the whole packet is an OK.
    In,
    /// It is not; the whole packet is an ERR.
    Refused,
    /// Begin anew with another plugin, and its data.
    Switch { plugin: Bytes, data: Bytes },
    /// The same of MySQL 4.0, which no client should agree to.
    SwitchToOld,
    /// What its plugin says to the client's.
    More(Bytes),
    /// Another factor is asked for: only where MULTI_FACTOR was agreed. The same byte begins a question of the plugin `dialog`.
    Factor(Bytes),
    /// Of a plugin that says what it likes.
    Other,
}

/// Takes a server's packet apart.
pub fn said(packet: &Packet) -> Result<Said, Short> {
    let payload = packet.payload_bytes();
    let mut reader = Reader::new(&payload);
    Ok(match reader.u8()? {
        0x00 => Said::In,
        0xff => Said::Refused,
        0xfe if reader.is_empty() => Said::SwitchToOld,
        0xfe => {
            let plugin = payload.slice_ref(reader.cstr()?);
            Said::Switch { plugin, data: payload.slice_ref(reader.take_rest()) }
        }
        0x01 => Said::More(payload.slice_ref(reader.take_rest())),
        0x02 => Said::Factor(payload.slice_ref(reader.take_rest())),
        _ => Said::Other,
    })
}

/// The plugin that another factor is asked by, and its data.
pub fn factor(words: &Bytes) -> Result<(Bytes, Bytes), Short> {
    let mut reader = Reader::new(words);
    let plugin = words.slice_ref(reader.cstr()?);
    Ok((plugin, words.slice_ref(reader.take_rest())))
}

/// The scramble in a switch's data: 20 bytes and mostly a NUL.
pub fn scramble(data: &[u8]) -> Option<[u8; SCRAMBLE]> {
    data.get(..SCRAMBLE)?.try_into().ok()
}

/// Of caching_sha2_password and sha256_password.
pub mod sha2 {
    /// The server's: the proof was right.
    pub const FAST_OK: u8 = 0x03;
    /// The server's: the password itself is wanted.
    pub const FULL: u8 = 0x04;
    /// The client's, of caching_sha2_password: the server's public key is wanted.
    pub const KEY_WANTED: u8 = 0x02;
    /// The same of sha256_password.
    pub const KEY_WANTED_SHA256: u8 = 0x01;
}

/// A packet of these parts, which may hold a password: made at its full length, so that no part of it stays behind elsewhere.
pub fn said_once(sequence: u8, parts: &[&[u8]]) -> Password {
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    let mut packet = Zeroizing::new(Vec::with_capacity(HEADER + length));
    packet.extend_from_slice(&(length as u32).to_le_bytes()[..3]);
    packet.push(sequence);
    parts.iter().for_each(|part| packet.extend_from_slice(part));
    packet
}

/// What a server's plugin says, as a packet.
pub fn more(sequence: u8, data: &[u8]) -> Bytes {
    Packet::new(sequence, &[&[0x01], data].concat()).into_bytes()
}

/// A switch to another plugin, as a packet.
pub fn switch(sequence: u8, plugin: &[u8], data: &[u8]) -> Bytes {
    Packet::new(sequence, &[&[0xfe], plugin, &[0], data].concat()).into_bytes()
}

fn head(capabilities: Capabilities, max_packet: u32, collation: u8) -> BytesMut {
    let mut payload = BytesMut::new();
    payload.put_u32_le(capabilities.low());
    payload.put_u32_le(max_packet);
    payload.put_u8(collation);
    payload.put_bytes(0, 19);
    payload.put_u32_le(capabilities.high());
    payload
}

/// 10.11.14-MariaDB is 101114.
fn version_number(text: &str) -> u32 {
    let digits = |part: &str| part.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u32>().ok();
    let mut parts = text.split('.').map(digits);
    match (parts.next().flatten(), parts.next().flatten(), parts.next().flatten()) {
        (Some(major @ 0..1_000), Some(minor @ 0..100), Some(patch @ 0..100)) => major * 10_000 + minor * 100 + patch,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A greeting in the form that both servers send.
    fn greeting(version: &str, capabilities: Capabilities) -> Packet {
        let mut payload = BytesMut::from(&[10][..]);
        payload.put_slice(version.as_bytes());
        payload.put_slice(b"\0\x2a\0\0\0abcdefgh\0");
        payload.put_u16_le(capabilities.low() as u16);
        payload.put_slice(b"\x2d\x02\0");
        payload.put_u16_le((capabilities.low() >> 16) as u16);
        payload.put_slice(b"\x15\0\0\0\0\0\0");
        payload.put_u32_le(capabilities.high());
        payload.put_slice(b"ijklmnopqrst\0mysql_native_password\0");
        Packet::new(0, &payload)
    }

    #[test]
    fn a_greeting_is_read_and_offers_what_we_say() {
        let maria = Capabilities(0x1f_81bf_f7fe);
        let greeting = Greeting::read(greeting("5.5.5-10.11.14-MariaDB-0+deb12u2", maria)).expect("a greeting");
        assert_eq!((greeting.connection, &greeting.scramble), (42, b"abcdefghijklmnopqrst"));
        assert_eq!((greeting.capabilities, greeting.collation, greeting.status), (maria, 45, 2));
        assert_eq!((&greeting.plugin[..], greeting.server().version), (NATIVE, 101_114));
        assert!(greeting.server().is_mariadb);
        let less = Capabilities(0x04_0088_8200);
        let told = greeting.offering(less);
        let again = Greeting::read(Packet::new(0, &told[HEADER..])).expect("a greeting");
        assert_eq!(again.capabilities.0, less.0);
        assert_eq!((again.scramble, again.connection, again.status), (greeting.scramble, 42, 2));
        assert_eq!(greeting.offering(maria), greeting.packet.clone().into_bytes());
    }

    #[test]
    fn a_greeting_can_ask_in_our_name() {
        for version in ["9.7.0", "5.5.5-10.11.14-MariaDB-0+deb12u2"] {
            let theirs = Greeting::read(greeting(version, Capabilities(0x1f_81bf_f7fe))).expect("a greeting");
            let ours = theirs.asking(*b"ABCDEFGHIJKLMNOPQRST", CACHING_SHA2).expect("with a plugin");
            assert_eq!((&ours.scramble, &ours.plugin[..]), (b"ABCDEFGHIJKLMNOPQRST", CACHING_SHA2));
            let rest = |it: &Greeting| (it.version.clone(), it.connection, it.capabilities, it.collation, it.status);
            assert_eq!(rest(&ours), rest(&theirs));
            let back = ours.asking(theirs.scramble, NATIVE).expect("with a plugin");
            assert_eq!(back.packet, theirs.packet, "the same byte for byte");
        }
        let old =
            Greeting::read(greeting("4.1.1", Capabilities(1 << 9))).map(|it| it.asking([0; SCRAMBLE], NATIVE).is_err());
        assert_ne!(old, Ok(false));
    }

    #[test]
    fn versions_are_numbers() {
        let version = |text: &str, capabilities| Greeting::read(greeting(text, capabilities)).map(|it| it.server());
        let (mysql, maria) = (Capabilities(0xffff_ffff), Capabilities(0xffff_fffe));
        assert_eq!(version("9.7.0", mysql), Ok(Server { is_mariadb: false, version: 90_700 }));
        assert_eq!(version("8.0.36-28", mysql), Ok(Server { is_mariadb: false, version: 80_036 }));
        assert_eq!(version("11.4.2-MariaDB-log", maria), Ok(Server { is_mariadb: true, version: 110_402 }));
        assert_eq!(version("5.5.5-10.6.0-MariaDB", mysql), Ok(Server { is_mariadb: true, version: 100_600 }));
        assert_eq!(version("strange", mysql), Ok(Server { is_mariadb: false, version: 0 }));
        assert_eq!(version("9.7.0", Capabilities(1)), Err(Short), "before 4.1");
    }

    const EVERYTHING: Capabilities = Capabilities(0xffff_ffff);

    fn login(capabilities: Capabilities) -> Login {
        Login {
            capabilities,
            max_packet: 1 << 24,
            collation: 45,
            user: Bytes::from_static(b"anna"),
            proof: Zeroizing::new(b"01234567890123456789".to_vec()),
            database: Some(Bytes::from_static(b"shop")),
            plugin: Some(Bytes::from_static(NATIVE)),
            attributes: Some(Bytes::from_static(b"\x0cprogram_name\x04cron\x01a\0")),
        }
    }

    #[test]
    fn a_login_is_read_as_it_was_written() {
        for capabilities in [
            Capabilities(1 << 9 | 1 << 15 | 1 << 3 | 1 << 19 | 1 << 20),
            Capabilities(1 << 9 | 1 << 15 | 1 << 3 | 1 << 19 | 1 << 20 | 1 << 21),
        ] {
            let said = login(capabilities);
            let read = opening(&said.told(1, capabilities)[HEADER..], EVERYTHING);
            assert_eq!(read, Ok(Opening::Login(Box::new(said.clone()))));
            assert_eq!(said.attribute("program_name").as_deref(), Some("cron"));
            assert_eq!(said.attribute("b"), None);
            let tls = capabilities.with(Capabilities::SSL);
            assert_eq!(opening(&said.tls_request(tls)[HEADER..], EVERYTHING), Ok(Opening::Tls { capabilities: tls }));
        }
        let mut bare = login(Capabilities(1 << 9 | 1 << 15));
        (bare.database, bare.plugin, bare.attributes) = (None, None, None);
        let told = bare.told(1, Capabilities(1 << 9 | 1 << 15 | 1 << 20));
        assert_eq!(opening(&told[HEADER..], EVERYTHING), Ok(Opening::Login(Box::new(bare))));
    }

    #[test]
    fn mariadbs_capabilities_count_where_the_server_is_one() {
        let capabilities = Capabilities(0x4_0000_8200);
        let mut said = login(capabilities);
        (said.database, said.plugin, said.attributes) = (None, None, None);
        let told = said.told(1, capabilities);
        let read = |offered| match opening(&told[HEADER..], offered) {
            Ok(Opening::Login(login)) => login.capabilities,
            other => panic!("{other:?}"),
        };
        assert_eq!(read(Capabilities(0xffff_fffe)), capabilities);
        assert_eq!(read(EVERYTHING), Capabilities(0x8200), "MySQL leaves those bytes empty");
    }

    #[test]
    fn what_is_no_login_is_refused() {
        let capabilities = Capabilities(1 << 9 | 1 << 15 | 1 << 3 | 1 << 19 | 1 << 20);
        let whole = login(capabilities).told(1, capabilities)[HEADER..].to_vec();
        let read = |payload: &[u8]| opening(payload, EVERYTHING);
        for length in (0..36).chain(whole.len() - 5..whole.len()) {
            assert_eq!(read(&whole[..length]), Err(BadOpening::Malformed), "{length} bytes");
        }
        assert_eq!(read(&[&whole[..], b"x"].concat()), Err(BadOpening::Malformed));
        assert_eq!(read(b"\x05\x00\0\0\0root\0"), Err(BadOpening::TooOld));
        assert!(!format!("{:?}", login(capabilities)).contains("0123"));
    }

    #[test]
    fn what_a_server_says_is_told_apart() {
        let read = |payload: &[u8]| said(&Packet::new(2, payload));
        assert_eq!(read(b"\0\0\0\x02\0\0\0"), Ok(Said::In));
        assert_eq!(read(b"\xff\x15\x04#28000no"), Ok(Said::Refused));
        assert_eq!(read(b"\xfe"), Ok(Said::SwitchToOld));
        assert_eq!(read(b"\xfedialog"), Err(Short));
        assert_eq!(read(b"\x01\x04"), Ok(Said::More(Bytes::from_static(b"\x04"))));
        assert_eq!(read(b"\x02mysql"), Ok(Said::Factor(Bytes::from_static(b"mysql"))));
        assert_eq!(read(b"\x04Password: "), Ok(Said::Other));
        let data = b"abcdefghijklmnopqrst\0";
        let switched = switch(2, NATIVE, data);
        let Ok(Said::Switch { plugin, data: read }) = said(&Packet::new(2, &switched[HEADER..])) else { panic!() };
        assert_eq!((&plugin[..], scramble(&read)), (NATIVE, Some(*b"abcdefghijklmnopqrst")));
    }
}
