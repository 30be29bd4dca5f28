//! The record's written form: one JSON object a line, chained by hashes. The field names are a promise to whoever reads records.
//!
//! | field | meaning |
//! |---|---|
//! | `seq` | 1, 2, 3… without a gap |
//! | `time` | RFC 3339, UTC |
//! | `kind` | `statement`, `outcome`, `refusal`, `command`, `login`, `logout`, `policy`, `counted`, `service`, `torn`, `rotated`, `removed`, `gap` |
//! | `session` | id of the client's connection |
//! | `listener`, `user`, `database`, `address`, `application` | who; `application` is what the client says of itself |
//! | `statement` | text as far as it may be shown; `statement_bytes` is its whole length where it was cut |
//! | `fingerprint` | the statement's shape |
//! | `parameters` | values bound to it, as text, binary ones as `\x…`; only with `[audit] parameters = true` |
//! | `rules` | findings: `rule`, `level`, `origin` (the line that gave the level) |
//! | `level`, `mode` | the strongest level found; `enforce`, `observe` or `off` |
//! | `action` | `forward`, `confirmed`, `refuse` |
//! | `challenge` | id of the challenge; its token is never written |
//! | `promised_rows`, `actual_rows` | what was shown, and what the database then said |
//! | `sqlstate` | the server's, or our own `SL…` |
//! | `of` | `seq` of the statement that an outcome belongs to; of the first refused login, in a `login` line with a `count` |
//! | `count` | statements that a `counted` line stands for; further refused logins that a `login` line does; events that were not recorded before a `gap` line |
//! | `note` | anything else |
//! | `torn_bytes`, `torn_hash` | of a `torn` line: length and SHA-256 of the broken bytes between it and the last whole line, the `~` and line end that close them left out; of a `rotated` line: what the file before ends with |
//! | `file` | of a `rotated` line: the file that this one carries on (its last hash is `prev`); of a `removed` line: the file deleted |
//! | `file_hash` | of a `removed` line: the last hash of the file deleted |
//! | `prev`, `hash` | the chain |
//!
//! Invariant: `hash` is always the last field, and `hash = SHA-256(prev ‖ line without ,"hash":"…")`, both hashes as 64 lower-case
//! hexadecimal digits; the first line's `prev` is 64 zeros. A file that
//! carries another on begins with a `rotated` line, and `seq` and `prev` go on over it. So anyone can check a line with any tool:
//! `body = line[:-75] + "}"; sha256(prev + body)` (`,"hash":"` is 9 bytes, 64 digits, `"}` is 2).

use crate::audit::event::Event;
use crate::ground::limits;
use crate::ground::secret::hex;
use crate::policy::finding::Level;
use crate::policy::settings::Mode;
use crate::policy::verdict::Judged;
use jiff::Timestamp;
use serde::ser::SerializeSeq;
use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::fmt;

/// Ends torn bytes, before the `torn` line that sets them aside. The mark makes sure that what it ends is no line, even where
/// nothing but a line's end was missing: that write failed, and whoever asked for it was told so.
pub const TORN_END: &[u8] = b"~\n";

/// The `prev` of the first line.
pub const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Writes one line, its end included, into an empty buffer, and returns its hash.
pub fn write_line(
    line: &mut Vec<u8>,
    event: &Event<'_>,
    seq: u64,
    time: Timestamp,
    prev: &str,
) -> serde_json::Result<String> {
    line.clear();
    serde_json::to_writer(&mut *line, &written(event, seq, time, prev))?;
    let hash = chain_hash(prev, line);
    line.truncate(line.len() - 1);
    line.extend_from_slice(HASH_FIELD);
    line.extend_from_slice(hash.as_bytes());
    line.extend_from_slice(b"\"}\n");
    Ok(hash)
}

/// A line read back, whose own hash holds. Whether it belongs where it stands is for the reader of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ReadLine {
    pub seq: u64,
    pub time: String,
    pub kind: String,
    #[serde(default)]
    pub torn_bytes: Option<u64>,
    #[serde(default)]
    pub torn_hash: Option<String>,
    #[serde(default)]
    pub file: Option<String>,
    #[serde(default)]
    pub file_hash: Option<String>,
    pub prev: String,
    pub hash: String,
}

/// Reads a line without its end.
pub fn read_line(line: &[u8]) -> Result<ReadLine, BadLine> {
    let read: ReadLine = serde_json::from_slice(line).map_err(|_| BadLine::NotALine)?;
    let body_length = line.len().checked_sub(HASH_SUFFIX_BYTES).ok_or(BadLine::NotALine)?;
    let (body, suffix) = line.split_at(body_length);
    let digits = suffix.strip_prefix(HASH_FIELD).and_then(|rest| rest.strip_suffix(b"\"}"));
    if digits != Some(read.hash.as_bytes()) {
        return Err(BadLine::NotALine);
    }
    let mut hasher = Sha256::new();
    hasher.update(read.prev.as_bytes());
    hasher.update(body);
    hasher.update(b"}");
    if hex(&hasher.finalize()) != read.hash {
        return Err(BadLine::HashDiffers);
    }
    Ok(read)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadLine {
    /// Not JSON, a field missing, or the hash not at its end.
    NotALine,
    /// Its text is not what was hashed.
    HashDiffers,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadLine::NotALine => "it is not a line of a record",
            BadLine::HashDiffers => "its text is not what was recorded (the hash differs)",
        })
    }
}

/// SHA-256 of any bytes, as the record writes it.
pub fn bytes_hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

const HASH_FIELD: &[u8] = b",\"hash\":\"";
const HASH_SUFFIX_BYTES: usize = HASH_FIELD.len() + 64 + 2;

fn chain_hash(prev: &str, body: &[u8]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(prev.as_bytes());
    hasher.update(body);
    hex(&hasher.finalize())
}

/// The order here is the order in the line.
#[derive(Serialize)]
struct Line<'a> {
    seq: u64,
    time: Shown<Timestamp>,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<Shown<crate::ground::ids::SessionId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    listener: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    application: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    statement: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    statement_bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Vec<Option<&'a str>>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "rules")]
    rules: &'a [Judged],
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<Shown<Level>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    challenge: Option<crate::ground::ids::ChallengeId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    promised_rows: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actual_rows: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sqlstate: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    torn_bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    torn_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_hash: Option<&'a str>,
    prev: &'a str,
}

fn written<'a>(event: &Event<'a>, seq: u64, time: Timestamp, prev: &'a str) -> Line<'a> {
    let whole = event.statement.map(str::len);
    Line {
        seq,
        time: Shown(time),
        kind: event.kind.as_str(),
        session: event.session.map(Shown),
        listener: event.listener.map(short),
        user: event.principal.map(|principal| short(&principal.user)),
        database: event.principal.map(|principal| short(&principal.database)),
        address: event.principal.map(|principal| short(&principal.address)),
        application: event.principal.map(|principal| short(&principal.application)),
        statement: event.statement.map(|text| cut(text, limits::AUDIT_STATEMENT_BYTES_MAX)),
        statement_bytes: whole.filter(|&bytes| bytes > limits::AUDIT_STATEMENT_BYTES_MAX),
        fingerprint: event.fingerprint.map(short),
        parameters: event.parameters.map(parameters),
        rules: event.findings,
        level: event.level.map(Shown),
        mode: event.mode.map(Mode::name),
        action: event.action.map(|action| action.as_str()),
        challenge: event.challenge,
        promised_rows: event.promised_rows,
        actual_rows: event.actual_rows,
        sqlstate: event.sqlstate.map(short),
        of: event.of,
        count: event.count,
        note: event.note.map(short),
        torn_bytes: event.torn.map(|torn| torn.bytes.len()),
        torn_hash: event.torn.map(|torn| bytes_hash(torn.bytes)),
        file: event.file.map(short),
        file_hash: event.file_hash,
        prev,
    }
}

fn parameters(values: &[Option<String>]) -> Vec<Option<&str>> {
    values.iter().take(limits::AUDIT_PARAMETERS_MAX).map(|value| value.as_deref().map(short)).collect()
}

fn rules<S: Serializer>(findings: &&[Judged], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Rule<'a> {
        rule: &'a str,
        level: Shown<Level>,
        origin: &'a str,
    }
    let listed = &findings[..findings.len().min(limits::AUDIT_FINDINGS_MAX)];
    let mut sequence = serializer.serialize_seq(Some(listed.len()))?;
    for judged in listed {
        // The finding's message is left out: it may quote the statement's literals, which the caller may have redacted.
        let (rule, origin) = (judged.finding.rule, short(&judged.origin));
        sequence.serialize_element(&Rule { rule, level: Shown(judged.level), origin })?;
    }
    sequence.end()
}

/// Serialized as it is displayed, without a string in between.
struct Shown<T>(T);

impl<T: fmt::Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

fn short(text: &str) -> &str {
    cut(text, limits::AUDIT_TEXT_BYTES_MAX)
}

fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
