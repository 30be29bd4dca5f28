//! What is fuzzed: one function for each target, each of which takes any bytes and panics when a promise is broken.
//!
//! Invariant: nothing here asks for more than the module under test promises in its own opening, so that every panic is a fault.
//! Used twice: by `cargo fuzz` (this folder is a package of its own) and by `tests/fuzz_seeds.rs`, which runs the committed seeds
//! and seeded mutations of them on stable Rust, in every test run.

#[path = "mysql.rs"]
mod mysql;

use bytes::{Bytes, BytesMut};
use sluice::ground::secret::Token;
use sluice::protocol::postgres::command;
use sluice::protocol::postgres::frame::{ClientCutter, Frame, Next, upstream_frame};
use sluice::protocol::postgres::handshake::{self, Opening};
use sluice::sql::facts::{Kind, Verb};
use sluice::sql::lexer::{self, Lexer, Token as Lexed};
use sluice::sql::split::split;
use sluice::sql::statement::{LexicalMode, MySqlMode, Product};
use sluice::sql::{Glance, Reading, essence, fingerprint, glance, hints, read, redact};
use std::sync::{Mutex, PoisonError};

/// Takes any bytes, and panics when a promise is broken.
pub type Target = fn(&[u8]);

/// Name and function of each target.
pub const ALL: &[(&str, Target)] = &[
    ("frames", frames),
    ("handshake", handshake),
    ("lexer", lexer),
    ("mysql_lexer", mysql_lexer),
    ("facts", facts),
    ("tokens", tokens),
    ("mysql_packets", mysql_packets),
    ("mysql_login", mysql_login),
];

pub use mysql::login as mysql_login;
pub use mysql::packets as mysql_packets;

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

/// As `lexer`, in the modes of MySQL and MariaDB; besides, what the rooms above make of the tokens: statements leave none of them out,
/// what is harmless at a glance is one statement without a word that changes anything, and taking hints out changes no code.
pub fn mysql_lexer(data: &[u8]) {
    let Some(text) = text(data) else { return };
    for mode in mysql_modes() {
        let tokens = mysql_tokens(text, mode);
        let code: Vec<Lexed> = tokens.iter().filter(|token| !token.is_comment()).copied().collect();
        assert_statements(text, mode, &code);
        assert_glance(text, mode, &code);
        let without = hints::without(text, mode);
        assert!(hints::hints(&without, mode).is_empty(), "hints are left in {without:?} of {text:?}");
        assert!(
            essence::same(text, &without, mode) || is_broken(&tokens),
            "{without:?} says something else than {text:?}"
        );
        let _any_answer = (fingerprint(text, mode), redact(text, mode), read(text, mode));
    }
    let [first, .., last] = mysql_modes();
    for (mode, other) in [(first, mysql_modes()[1]), (mysql_modes()[2], last)] {
        let (tokens, sensitive) = lexer::tokens(text, mode);
        assert!(sensitive || tokens == lexer::tokens(text, other).0, "the mode was said not to matter: {text:?}");
    }
}

/// The second differs from the first in its settings alone, the fourth from the third.
fn mysql_modes() -> [LexicalMode; 4] {
    let of =
        |product, version, sql_mode: &str| LexicalMode::MySql(MySqlMode::of(product, version).with_sql_mode(sql_mode));
    [
        of(Product::MySql, 90_704, ""),
        of(Product::MySql, 90_704, "ANSI_QUOTES,NO_BACKSLASH_ESCAPES"),
        of(Product::MariaDb, 101_119, ""),
        of(Product::MariaDb, 101_119, "ANSI_QUOTES,NO_BACKSLASH_ESCAPES"),
    ]
}

fn mysql_tokens(text: &str, mode: LexicalMode) -> Vec<Lexed> {
    let tokens: Vec<Lexed> = Lexer::new(text, mode).collect();
    let mut end = 0;
    for token in &tokens {
        let closes = matches!(token.kind, lexer::Kind::Broken(_)) && token.start == text.len();
        assert!(
            token.start >= end && (token.end > token.start || closes),
            "in order, and not empty: {token:?} {text:?}"
        );
        assert!(text.get(token.span()).is_some(), "on borders of characters: {token:?} {text:?}");
        let between = &text.as_bytes()[end..token.start];
        assert!(between.iter().all(|byte| matches!(byte, b'\t'..=b'\r' | b' ')), "left out: {between:?} of {text:?}");
        end = token.end;
    }
    tokens
}

fn is_broken(tokens: &[Lexed]) -> bool {
    tokens.iter().any(|token| matches!(token.kind, lexer::Kind::Broken(_)))
}

/// Each token of code but a closing semicolon lies in one piece, and the pieces lie in order.
fn assert_statements(text: &str, mode: LexicalMode, code: &[Lexed]) {
    let pieces = split(text, mode);
    let mut end = 0;
    for piece in &pieces {
        assert!(piece.span.start >= end && piece.span.end <= text.len(), "{piece:?} of {text:?}");
        assert!(piece.code.start >= piece.span.start && piece.code.end <= piece.span.end, "{piece:?} of {text:?}");
        end = piece.span.end;
    }
    let closing = |token: &Lexed| token.is(b';');
    for token in code.iter().filter(|token| !closing(token) && token.end > token.start) {
        let holding = pieces.iter().filter(|piece| piece.code.start <= token.start && token.end <= piece.code.end);
        assert_eq!(holding.count(), 1, "{token:?} of {text:?} in {pieces:?}");
    }
}

fn assert_glance(text: &str, mode: LexicalMode, code: &[Lexed]) {
    const NEVER: &[&str] = &["delete", "update", "drop", "truncate", "alter", "into", "create", "load_file"];
    let Glance::Harmless { kind, .. } = glance(text, mode) else { return };
    let pieces = split(text, mode);
    assert!(pieces.len() <= 1 && pieces.iter().all(|piece| piece.unclear.is_none()), "at a glance one: {text:?}");
    let harmful = code.iter().filter(|token| !(kind == Kind::Insert && token.is_word(text, "into")));
    let mut harmful = harmful.filter(|token| NEVER.iter().any(|word| token.is_word(text, word)));
    assert!(kind == Kind::Transaction || harmful.next().is_none(), "harmless at a glance: {text:?}");
    assert!(!is_broken(code), "harmless at a glance: {text:?}");
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
