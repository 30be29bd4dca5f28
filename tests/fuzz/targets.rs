//! What is fuzzed: one function for each target, each of which takes any bytes and panics when a promise is broken.
//!
//! Invariant: nothing here asks for more than the module under test promises in its own opening, so that every panic is a fault.
//! Used twice: by `cargo fuzz` (this folder is a package of its own) and by `tests/fuzz_seeds.rs`, which runs the committed seeds
//! and seeded mutations of them on stable Rust, in every test run.

use bytes::{Bytes, BytesMut};
use sluice::ground::secret::Token;
use sluice::protocol::postgres::command;
use sluice::protocol::postgres::frame::{ClientCutter, Frame, Next, upstream_frame};
use sluice::protocol::postgres::handshake::{self, Opening};
use sluice::sql::facts::{Kind, Verb};
use sluice::sql::hints;
use sluice::sql::lexer::{self, Lexer};
use sluice::sql::statement::LexicalMode;
use sluice::sql::{Glance, Reading, fingerprint, glance, read, redact};
use std::sync::{Mutex, PoisonError};

/// Takes any bytes, and panics when a promise is broken.
pub type Target = fn(&[u8]);

/// Name and function of each target.
pub const ALL: &[(&str, Target)] =
    &[("frames", frames), ("handshake", handshake), ("lexer", lexer), ("facts", facts), ("tokens", tokens)];

const ON: LexicalMode = LexicalMode::Postgres { standard_conforming_strings: true };
const OFF: LexicalMode = LexicalMode::Postgres { standard_conforming_strings: false };

/// Longer texts are the business of `tests/sql_properties.rs`: here they would only make each try slow.
const TEXT_BYTES_MAX: usize = 4096;

/// A stream of client messages is cut into the same units however it arrives, and no byte is lost; bodies are taken apart
/// without a panic; a server's message too.
pub fn frames(data: &[u8]) {
    let Some((&chunk, stream)) = data.split_first() else { return };
    let whole = cut(stream, stream.len().max(1));
    let parts = cut(stream, usize::from(chunk).max(1));
    assert_eq!(whole, parts, "the same stream in other pieces");
    assert!(stream.starts_with(&whole.concat), "what was cut is what came");
    for frame in whole.frames.into_iter().filter_map(|bytes| Frame::encoded(Bytes::from(bytes))) {
        take_apart(&frame);
    }
    let mut inbox = BytesMut::from(stream);
    while let Ok(Some(frame)) = upstream_frame(&mut inbox, 1 << 20) {
        take_apart(&frame);
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Cut {
    frames: Vec<Vec<u8>>,
    concat: Vec<u8>,
    failed: bool,
}

/// COPY data is handed on in whatever parts it came in: only its sum is compared.
fn cut(stream: &[u8], chunk: usize) -> Cut {
    let mut cut = Cut { frames: Vec::new(), concat: Vec::new(), failed: false };
    let (mut cutter, mut inbox) = (ClientCutter::default(), BytesMut::new());
    for piece in stream.chunks(chunk) {
        inbox.extend_from_slice(piece);
        loop {
            match cutter.next(&mut inbox) {
                Ok(Next::Frame(frame)) => {
                    let bytes = frame.into_bytes();
                    cut.concat.extend_from_slice(&bytes);
                    cut.frames.push(bytes.to_vec());
                }
                Ok(Next::Skipped(tag)) => panic!("nothing was given up, and a message {tag} was"),
                Ok(Next::CopyPart(part)) => {
                    assert!(!part.is_empty(), "a part of nothing would be asked for for ever");
                    cut.concat.extend_from_slice(&part);
                }
                Ok(Next::Need(count)) => {
                    assert!(count > 0, "needing nothing is having everything");
                    break;
                }
                Err(_) => {
                    cut.failed = true;
                    return cut;
                }
            }
        }
    }
    cut
}

fn take_apart(frame: &Frame) {
    let body = frame.body();
    if let Ok(text) = command::query(frame) {
        assert_eq!(body.len(), text.len() + 1, "a text and its end are the whole body");
    }
    if let Ok(parse) = command::parse(frame) {
        assert!(body.len() > parse.text.len(), "the text is a part of the body");
    }
    if let Ok(bind) = command::bind(frame) {
        let parameters = bind.parameters().expect("what was gone through can be taken apart");
        let values: usize = parameters.values.iter().flatten().map(Bytes::len).sum();
        assert!(body.len() >= values, "the values are parts of the body");
    }
    let _any_answer = (command::subject(frame), command::execute(frame), command::function(frame));
    let _any_answer = (command::parameter_types(frame), command::column_names(frame), command::text_row(frame));
    let _any_answer = (command::error_field(body, b'C'), command::changed_rows(body));
}

/// An opening packet is taken whole or not at all, is kept as it came, and its settings are found without a panic.
pub fn handshake(data: &[u8]) {
    let mut inbox = BytesMut::from(data);
    match handshake::opening(&mut inbox) {
        Ok(None) => assert_eq!(&inbox[..], data, "an incomplete packet is left"),
        Ok(Some(Opening::Startup(startup))) => {
            assert_eq!([&startup.packet[..], &inbox[..]].concat(), data, "a packet and what follows it");
            for (name, _) in &startup.parameters {
                assert!(startup.parameter(name).is_some(), "a name that was given has a value");
            }
            let _any_answer = (startup.wants_replication(), startup.settings());
        }
        Ok(Some(_)) | Err(_) => {}
    }
    let once = handshake::without_channel_binding(Bytes::copy_from_slice(data));
    assert_eq!(
        handshake::without_channel_binding(once.clone()),
        once,
        "what was taken out is not there to be taken out again"
    );
}

/// Tokens lie in order within the text; what is called harmless at a glance changes nothing as PostgreSQL's grammar reads it.
pub fn lexer(data: &[u8]) {
    let Some(text) = text(data) else { return };
    for mode in [ON, OFF] {
        let mut end = 0;
        for token in Lexer::new(text, mode) {
            assert!(token.start >= end && token.end > token.start, "in order, and not empty: {token:?}");
            assert!(text.get(token.span()).is_some(), "on borders of characters: {token:?}");
            end = token.end;
        }
        if matches!(glance(text, mode), Glance::Harmless { .. }) {
            let kinds = statement_kinds(text, mode).unwrap_or_default();
            let harmful = kinds.iter().find(|kind| HARMFUL.contains(&kind.as_str()));
            assert_eq!(harmful, None, "harmless at a glance: {text:?}");
        }
    }
    let (tokens, sensitive) = lexer::tokens(text, ON);
    assert!(sensitive || tokens == lexer::tokens(text, OFF).0, "the mode was said not to matter: {text:?}");
}

const HARMFUL: &[&str] = &[
    "UpdateStmt",
    "DeleteStmt",
    "MergeStmt",
    "TruncateStmt",
    "DropStmt",
    "AlterTableStmt",
    "DoStmt",
    "CallStmt",
    "VariableSetStmt",
    "ExecuteStmt",
    "PrepareStmt",
];

/// No change that PostgreSQL's grammar sees is missing from the facts, unless they say that they are not all.
pub fn facts(data: &[u8]) {
    let Some(text) = text(data) else { return };
    for mode in [ON, OFF] {
        let reading = read(text, mode);
        let mut end = 0;
        for statement in &reading.statements {
            assert!(statement.span.start >= end && text.get(statement.span.clone()).is_some(), "spans of {text:?}");
            end = statement.span.end;
        }
        let Some(kinds) = statement_kinds(text, mode) else { continue };
        // A body that is kept and not run now may hold changes that are rightly no facts.
        let keeps = ["ExplainStmt", "RuleStmt", "CreateFunctionStmt", "ViewStmt"];
        if is_unread(&reading) || kinds.iter().any(|kind| keeps.contains(&kind.as_str())) {
            continue;
        }
        for kind in &kinds {
            assert!(has(&reading, kind), "{kind} is missing from the facts of {text:?}");
        }
    }
    let _any_answer = (fingerprint(text, ON), redact(text, ON));
}

fn is_unread(reading: &Reading) -> bool {
    let mut facts = reading.statements.iter().map(|statement| &statement.facts);
    facts.any(|facts| facts.unread.is_some() || facts.kind == Kind::Sluice)
}

fn has(reading: &Reading, kind: &str) -> bool {
    let mut changes = reading.statements.iter().flat_map(|statement| &statement.facts.changes);
    changes.any(|change| match kind {
        "UpdateStmt" => change.verb == Verb::Update,
        "DeleteStmt" => change.verb == Verb::Delete,
        "MergeStmt" => matches!(change.verb, Verb::Merge { .. }),
        _ => true,
    }) || !["UpdateStmt", "DeleteStmt", "MergeStmt"].contains(&kind)
}

/// A token that is read is the token that is shown; hints are found in comments alone, and a text without them has none.
pub fn tokens(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Some(token) = Token::parse(text) {
        let shown = token.to_string();
        assert!(Token::parse(&shown).is_some_and(|again| again == token), "{shown} is read back");
        assert!(
            Token::parse(&shown.to_lowercase().replace('-', "")).is_some_and(|again| again == token),
            "however typed"
        );
    }
    let without = hints::without(text, ON);
    assert!(hints::hints(&without, ON).is_empty(), "hints are left in {without:?} of {text:?}");
    assert_eq!(hints::without(&without, ON), without, "taken out once, nothing is left to take out of {text:?}");
}

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok().filter(|text| text.len() <= TEXT_BYTES_MAX && !text.contains('\0'))
}

/// The kinds of statements in a text, nested ones included, by the grammar library's own summary (in C, apart from the tree that
/// facts are made of); `None` if it is no SQL. The library points stderr elsewhere while it works: one call at a time.
fn statement_kinds(text: &str, mode: LexicalMode) -> Option<Vec<String>> {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let options = match mode.standard_conforming_strings() {
        true => pg_query::ParserOptions::DEFAULT,
        false => pg_query::ParserOptions::DISABLE_STANDARD_CONFORMING_STRINGS,
    };
    pg_query::summary(text, options, -1).ok().map(|summary| summary.statement_types)
}
