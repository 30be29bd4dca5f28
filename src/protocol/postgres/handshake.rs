//! The first packets of a connection: they have a length but no type byte.
//!
//! Invariant: a startup packet's bytes are forwarded as they came, with their order and repetitions; what is taken from them here
//! is only for judging.
//!
//! Source: PostgreSQL manual, "Start-up" and "SSL Session Encryption"; `ProcessStartupPacket` (backend_startup.c, 18).

use crate::ground::limits;
use crate::protocol::cursor::Cursor;
use bytes::{Bytes, BytesMut};

const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSSENC: u32 = 80_877_104;

/// SSLRequest, as Sluice sends it to an upstream.
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// First byte of a TLS record that carries a handshake: direct TLS (`sslnegotiation=direct`, PostgreSQL 17 and later).
pub const TLS_HANDSHAKE: u8 = 0x16;
/// What direct TLS must name by ALPN.
pub const ALPN: &[u8] = b"postgresql";

/// The newest version of protocol 3 (PostgreSQL 18).
pub const NEWEST_MINOR: u16 = 2;

/// What a client opens with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    Ssl,
    GssEnc,
    /// The whole packet, to be handed to the upstream as it is.
    Cancel(Bytes),
    Startup(Startup),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Startup {
    /// The packet as it came.
    pub packet: Bytes,
    /// Names and values in order.
    pub parameters: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadOpening(pub String);

/// One packet off the front; `None` while it is incomplete.
pub fn opening(inbox: &mut BytesMut) -> Result<Option<Opening>, BadOpening> {
    let Some(header) = inbox.get(..4) else { return Ok(None) };
    let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
    if !(8..=limits::STARTUP_BYTES_MAX).contains(&length) {
        return Err(BadOpening("invalid length of startup packet".to_owned()));
    }
    if inbox.len() < length {
        return Ok(None);
    }
    let packet = inbox.split_to(length).freeze();
    let code = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
    match code {
        SSL if length == 8 => Ok(Some(Opening::Ssl)),
        GSSENC if length == 8 => Ok(Some(Opening::GssEnc)),
        CANCEL if length >= 12 => Ok(Some(Opening::Cancel(packet))),
        version if version >> 16 == 3 => Ok(Some(Opening::Startup(startup(packet)?))),
        version => Err(BadOpening(format!(
            "unsupported frontend protocol {}.{}: server supports 3.0 to 3.2",
            version >> 16,
            version & 0xffff
        ))),
    }
}

impl Startup {
    /// The last value given for a name, as the server takes it.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().rev().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// Of protocol 3.
    pub fn minor(&self) -> u16 {
        self.packet.get(6..8).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// Options of the protocol itself; there is none yet that a server knows.
    pub fn protocol_options(&self) -> Vec<&str> {
        let names = self.parameters.iter().map(|(name, _)| name.as_str());
        names.filter(|name| name.starts_with("_pq_.")).collect()
    }

    /// The packet for a database at which somebody else logs in for the client: as it came if nothing in it differs, else with
    /// this user, with the database that the client meant, and with what of the protocol Sluice agreed to.
    pub fn for_upstream(&self, user: &str, database: &str) -> Bytes {
        let is_once = |wanted: &str| self.parameters.iter().filter(|(name, _)| name == wanted).count() == 1;
        let same = self.parameter("user") == Some(user) && is_once("user") && self.minor() <= NEWEST_MINOR;
        if same && self.protocol_options().is_empty() {
            return self.packet.clone();
        }
        let mut body = BytesMut::new();
        body.extend_from_slice(&3u16.to_be_bytes());
        body.extend_from_slice(&self.minor().min(NEWEST_MINOR).to_be_bytes());
        put_parameter(&mut body, b"user", user.as_bytes());
        put_parameter(&mut body, b"database", database.as_bytes());
        // From the bytes, as values may be in any encoding.
        let mut cursor = Cursor::new(self.packet.get(8..).unwrap_or_default());
        while let (Ok(name), Ok(value)) = (cursor.cstr(), cursor.cstr()) {
            if !matches!(name, b"user" | b"database") && !name.starts_with(b"_pq_.") {
                put_parameter(&mut body, name, value);
            }
        }
        whole_packet(body)
    }

    /// Asks for a replication connection ("true", "on", "yes", "1", "database", or anything the server might take for one).
    pub fn wants_replication(&self) -> bool {
        self.parameters.iter().filter(|(name, _)| name == "replication").any(|(_, value)| {
            !matches!(
                value.to_ascii_lowercase().as_str(),
                "false" | "off" | "no" | "0" | "f" | "n" | "of" | "fa" | "fal" | "fals"
            )
        })
    }

    /// Every setting that it would make: startup parameters that are no protocol words, and `-c name=value`, `--name=value`
    /// in `options` (split as `pg_split_opts` does: at white space, a backslash keeps the next character).
    pub fn settings(&self) -> Vec<(String, String)> {
        let mut settings = Vec::new();
        for (name, value) in &self.parameters {
            match name.as_str() {
                "user" | "database" | "replication" => {}
                "options" => settings.extend(options(value)),
                name if name.starts_with("_pq_.") => {}
                name => settings.push((name.to_ascii_lowercase(), value.clone())),
            }
        }
        settings
    }

    /// A word of `options` that is no `-c name=value` or `--name=value`: the server's single letters set things too, and can stand
    /// together (`-ec`, `-O`), so one is not passed on unread.
    pub fn unread_option(&self) -> Option<String> {
        let given = self.parameters.iter().filter(|(name, _)| name == "options");
        given.flat_map(|(_, value)| unread(words(value))).next()
    }
}

/// A startup packet of our own.
pub fn startup_packet(parameters: &[(&str, &str)]) -> Bytes {
    let mut body = BytesMut::from(&[0, 3, 0, 0][..]);
    for (name, value) in parameters {
        put_parameter(&mut body, name.as_bytes(), value.as_bytes());
    }
    whole_packet(body)
}

/// An AuthenticationSASL without the mechanisms that bind to a TLS channel, for a client that has none: libpq refuses to go on
/// when they are offered over a plain connection. Any other message as it is.
pub fn without_channel_binding(message: Bytes) -> Bytes {
    let Some(list) = message.get(9..).filter(|_| message.starts_with(b"R") && message[5..9] == [0, 0, 0, 10]) else {
        return message;
    };
    let mechanisms: Vec<&[u8]> =
        list.split(|byte| *byte == 0).filter(|name| !name.is_empty() && !name.ends_with(b"-PLUS")).collect();
    let mut body = vec![0, 0, 0, 10];
    for mechanism in mechanisms {
        body.extend_from_slice(mechanism);
        body.push(0);
    }
    body.push(0);
    let mut out = BytesMut::from(&b"R"[..]);
    out.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(&body);
    out.freeze()
}

fn put_parameter(body: &mut BytesMut, name: &[u8], value: &[u8]) {
    for text in [name, value] {
        // A NUL would end it early; names from the configuration and from C strings have none.
        body.extend(text.iter().copied().filter(|byte| *byte != 0));
        body.extend_from_slice(&[0]);
    }
}

fn whole_packet(mut body: BytesMut) -> Bytes {
    body.extend_from_slice(&[0]);
    let mut packet = BytesMut::from(&(body.len() as u32 + 4).to_be_bytes()[..]);
    packet.extend_from_slice(&body);
    packet.freeze()
}

fn startup(packet: Bytes) -> Result<Startup, BadOpening> {
    let malformed = || BadOpening("invalid startup packet layout: expected terminator as last byte".to_owned());
    let mut cursor = Cursor::new(&packet[8..]);
    let mut parameters = Vec::new();
    loop {
        let name = cursor.cstr().map_err(|_| malformed())?;
        if name.is_empty() {
            break;
        }
        let value = cursor.cstr().map_err(|_| malformed())?;
        parameters.push((lossy(name), lossy(value)));
    }
    cursor.finish().map_err(|_| malformed())?;
    Ok(Startup { packet: packet.clone(), parameters })
}

fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => word.get_or_insert_default().extend(characters.next()),
            space if space.is_ascii_whitespace() || space == '\x0b' => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

fn unread(words: Vec<String>) -> Option<String> {
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if word == "--" {
            // It ends the options; behind it nothing may stand.
            return words.next();
        } else if word == "-c" {
            words.next();
        } else if !(word.starts_with("-c") || word.starts_with("--") && word.len() > 2) {
            return Some(word);
        }
    }
    None
}

fn options(text: &str) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    let mut words = words(text).into_iter();
    while let Some(word) = words.next() {
        let given = match word.strip_prefix("--") {
            Some(long) => Some(long.to_owned()),
            None => match word.strip_prefix("-c") {
                Some("") => words.next(),
                Some(joined) => Some(joined.to_owned()),
                None => None,
            },
        };
        let Some(given) = given else { continue };
        let (name, value) = given.split_once('=').unwrap_or((given.as_str(), ""));
        settings.push((name.replace('-', "_").to_ascii_lowercase(), value.to_owned()));
    }
    settings
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_is_not_read_is_found() {
        for (options, found) in [
            ("-c a=b --c-d=e -ca=b", None),
            ("-ec session_replication_role=replica", Some("-ec")),
            ("-c a=b -O", Some("-O")),
            ("-c -O", None),
            ("--", None),
            ("-c a=b -- -O", Some("-O")),
            ("a=b", Some("a=b")),
        ] {
            let startup = startup_of(&[("user", "u"), ("options", options)]);
            assert_eq!(startup.unread_option().as_deref(), found, "{options}");
        }
    }

    fn packet(parameters: &[(&str, &str)]) -> BytesMut {
        let mut body = vec![0, 3, 0, 0];
        for (name, value) in parameters {
            body.extend_from_slice(name.as_bytes());
            body.push(0);
            body.extend_from_slice(value.as_bytes());
            body.push(0);
        }
        body.push(0);
        let mut out = BytesMut::from(&(body.len() as u32 + 4).to_be_bytes()[..]);
        out.extend_from_slice(&body);
        out
    }

    fn startup_of(parameters: &[(&str, &str)]) -> Startup {
        match opening(&mut packet(parameters)) {
            Ok(Some(Opening::Startup(startup))) => startup,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn settings_hidden_in_options_are_seen() {
        for (options, expected) in [
            ("-c session_replication_role=replica", vec![("session_replication_role", "replica")]),
            ("-csession_replication_role=replica", vec![("session_replication_role", "replica")]),
            ("--session-replication-role=replica -B 16", vec![("session_replication_role", "replica")]),
            ("-c\\ x", vec![(" x", "")]),
            ("-c search_path=a\\ b", vec![("search_path", "a b")]),
            ("-e", vec![]),
        ] {
            let got = startup_of(&[("user", "u"), ("options", options)]).settings();
            let expected: Vec<_> = expected.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            assert_eq!(got, expected, "{options}");
        }
    }

    #[test]
    fn channel_binding_is_not_offered_without_a_channel() {
        let offered = Bytes::from_static(b"R\0\0\0\x2a\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
        let left = Bytes::from_static(b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0");
        assert_eq!(without_channel_binding(offered), left);
        assert_eq!(without_channel_binding(left.clone()), left);
        let other = Bytes::from_static(b"R\0\0\0\x08\0\0\0\x00");
        assert_eq!(without_channel_binding(other.clone()), other);
    }

    #[test]
    fn any_spelling_of_replication_counts() {
        for (value, wanted) in
            [("true", true), ("database", true), ("1", true), ("on", true), ("false", false), ("off", false)]
        {
            assert_eq!(startup_of(&[("user", "u"), ("replication", value)]).wants_replication(), wanted, "{value}");
        }
    }

    #[test]
    fn another_user_takes_everything_but_the_name() {
        let plain = startup_of(&[("user", "anna"), ("database", "shop")]);
        assert_eq!(plain.for_upstream("anna", "shop"), plain.packet, "nothing differs: as it came");
        let rewritten = |parameters: &[(&str, &str)], user: &str| {
            let mut packet = BytesMut::from(&startup_of(parameters).for_upstream(user, "shop")[..]);
            match opening(&mut packet) {
                Ok(Some(Opening::Startup(startup))) => startup.parameters,
                other => panic!("{other:?}"),
            }
        };
        let pairs =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect::<Vec<_>>();
        let meant = pairs(&[("user", "owner"), ("database", "shop"), ("options", "-c a=b"), ("_pqx", "1")]);
        assert_eq!(rewritten(&[("options", "-c a=b"), ("user", "anna"), ("_pqx", "1")], "owner"), meant);
        let once = pairs(&[("user", "anna"), ("database", "shop")]);
        assert_eq!(
            rewritten(&[("user", "postgres"), ("user", "anna"), ("database", "x"), ("database", "shop")], "anna"),
            once
        );
        assert_eq!(rewritten(&[("user", "anna"), ("database", "shop"), ("_pq_.new", "1")], "anna"), once);
        let mut newer = BytesMut::from(&plain.packet[..]);
        newer[7] = 99;
        let Ok(Some(Opening::Startup(newer))) = opening(&mut newer) else { panic!("version 3.99") };
        assert_eq!(newer.for_upstream("anna", "shop")[4..8], [0, 3, 0, 2]);
    }

    #[test]
    fn packets_are_bounded_and_whole() {
        assert!(opening(&mut BytesMut::from(&[0, 0, 0, 7, 0, 3, 0, 0][..])).is_err());
        assert!(opening(&mut BytesMut::from(&[0, 1, 0, 0][..])).is_err());
        assert_eq!(opening(&mut BytesMut::from(&SSL_REQUEST[..5])), Ok(None));
        assert_eq!(opening(&mut BytesMut::from(&SSL_REQUEST[..])), Ok(Some(Opening::Ssl)));
        let mut torn = packet(&[("user", "u")]);
        let last = torn.len() - 1;
        torn[last] = b'x';
        assert!(opening(&mut torn).is_err());
    }
}
