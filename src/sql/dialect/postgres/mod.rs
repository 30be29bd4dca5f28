//! PostgreSQL: its own grammar is the authority, our lexer says where statements stand, and a second parser must not see more.
//!
//! Invariant: facts without [`Facts::unread`] are only given when the authority parsed the text, our tokens cut it into the same
//! statements, every change it counts was understood, and the second reader, where it can read the statement, sees the same changes.

mod acts;
mod again;
mod authority;
mod census;
mod changes;
mod clauses;
mod facts;
mod names;
mod removals;
mod second;
mod settings;
mod term;

pub use authority::fingerprint;
pub use names::quoted;

use crate::ground::limits;
use crate::sql::dialect::Reading;
use crate::sql::facts::{Facts, Kind};
use crate::sql::lexer::{self, Lexer, Token};
use crate::sql::split::{Piece, split};
use crate::sql::statement::{LexicalMode, Statement};
use crate::sql::{glance, hints};
use pg_query::protobuf::RawStmt;

/// Reads a text to its end.
pub fn read(text: &str, mode: LexicalMode) -> Reading {
    if text.len() > limits::SQL_READ_BYTES_MAX {
        return glanced(text, mode);
    }
    let (tokens, mode_sensitive) = lexer::tokens(text, mode);
    if tokens.len() > limits::SQL_TOKENS_MAX {
        return glanced(text, mode);
    }
    let statements = match refused(text, &tokens).or_else(|| command(text, &tokens)) {
        Some(statement) => vec![statement],
        None => on_enough_stack(depth(text, &tokens), text, || statements(text, mode)),
    };
    Reading { statements, mode_sensitive }
}

/// Too long to parse: what the short way can say, and unread otherwise.
fn glanced(text: &str, mode: LexicalMode) -> Reading {
    let (facts, mode_sensitive) = match glance::glance(text, mode) {
        glance::Glance::Harmless { kind, transaction, changes_session, mode_sensitive } => {
            (Facts { kind, transaction, changes_session, ..Facts::default() }, mode_sensitive)
        }
        glance::Glance::Sluice => (Facts { kind: Kind::Sluice, ..Facts::default() }, false),
        glance::Glance::NeedsReading => {
            (unread(&format!("a text of {} bytes is too long to be read", text.len())), true)
        }
    };
    Reading { statements: vec![Statement { span: 0..text.len(), facts }], mode_sensitive }
}

fn unread(why: &str) -> Facts {
    Facts { kind: Kind::Unread, unread: Some(String::from(why)), changes_session: true, ..Facts::default() }
}

fn whole(text: &str, facts: Facts) -> Statement {
    Statement { span: 0..text.len(), facts }
}

/// What cannot be handed to a parser.
fn refused(text: &str, tokens: &[Token]) -> Option<Statement> {
    let flaw = tokens.iter().find_map(|token| match token.kind {
        lexer::Kind::Broken(flaw) => Some(flaw.words()),
        lexer::Kind::Junk => Some("trailing junk after a number or parameter"),
        lexer::Kind::Stray => Some("a character that begins no token"),
        _ => None,
    });
    let deep = (depth(text, tokens) > limits::SQL_DEPTH_MAX).then_some("nested or chained too deeply to be read");
    flaw.or(deep).map(|why| whole(text, unread(why)))
}

/// A command to us: the rest of the text is its argument, whatever it holds.
fn command(text: &str, tokens: &[Token]) -> Option<Statement> {
    let first = tokens.first()?;
    first.is_word(text, "sluice").then(|| whole(text, Facts { kind: Kind::Sluice, ..Facts::default() }))
}

fn statements(text: &str, mode: LexicalMode) -> Vec<Statement> {
    let pieces = split(text, mode);
    if pieces.len() > limits::SQL_STATEMENTS_MAX {
        return vec![whole(text, unread("too many statements in one text"))];
    }
    let parsed = match authority::parse(text, mode) {
        Ok(parsed) => parsed,
        Err(message) => return vec![whole(text, unread(&message))],
    };
    if !agree(&pieces, &parsed) {
        return vec![whole(text, unread("the statements of the text cannot be told apart with certainty"))];
    }
    if pieces.is_empty() {
        return vec![whole(text, Facts::default())];
    }
    pieces.iter().zip(&parsed).map(|(piece, raw)| statement(text, mode, piece, raw)).collect()
}

/// As many statements, each where the other sees it.
fn agree(pieces: &[Piece], parsed: &[RawStmt]) -> bool {
    let mut previous_end = 0;
    let each = pieces.iter().zip(parsed).all(|(piece, raw)| {
        let (Ok(start), Ok(length)) = (usize::try_from(raw.stmt_location), usize::try_from(raw.stmt_len)) else {
            return false;
        };
        let fits =
            start >= previous_end && start <= piece.code.start && (length == 0 || start + length >= piece.code.end);
        previous_end = piece.code.end;
        fits
    });
    each && pieces.len() == parsed.len()
}

fn statement(text: &str, mode: LexicalMode, piece: &Piece, raw: &RawStmt) -> Statement {
    let own = text.get(piece.span.clone()).unwrap_or_default();
    let tokens: Vec<Token> = Lexer::new(own, mode).filter(|token| !token.is_comment()).collect();
    let mut facts = facts::gather(raw, own, &tokens, piece.span.start);
    facts.hints = hints::hints(own, mode);
    if facts.unread.is_none() && !facts.changes.is_empty() {
        facts.unread = second::objection(own, &tokens, &facts);
    }
    Statement { span: piece.span.clone(), facts }
}

/// More than the depth of any tree these tokens can make: all tokens of the open parentheses since their last comma, and all set
/// operations, which chain across commas.
fn depth(text: &str, tokens: &[Token]) -> usize {
    let (mut open, mut here, mut sum, mut deepest, mut combined) = (Vec::new(), 0usize, 0usize, 0usize, 0usize);
    for token in tokens {
        match token.kind {
            lexer::Kind::Punctuation(b'(' | b'[') => {
                open.push(here);
                here = 0;
            }
            lexer::Kind::Punctuation(b')' | b']') => {
                sum -= here;
                here = open.pop().unwrap_or(0);
            }
            lexer::Kind::Punctuation(b',' | b';') => {
                sum -= here;
                here = 0;
            }
            lexer::Kind::Word if ["union", "intersect", "except"].iter().any(|word| token.is_word(text, word)) => {
                combined += 1
            }
            _ => {}
        }
        here += 1;
        sum += 1;
        deepest = deepest.max(sum);
    }
    deepest + combined
}

/// Deep trees are made, walked and dropped recursively: they get a thread with a stack of its own. A thread rather than a grown
/// stack, because the authority measures its own depth against the bounds of the thread it runs on.
fn on_enough_stack(depth: usize, text: &str, work: impl FnOnce() -> Vec<Statement> + Send) -> Vec<Statement> {
    if depth <= limits::SQL_DEPTH_ON_CALLER_MAX {
        return work();
    }
    let failed = || vec![whole(text, unread("no stack to read a text this deep"))];
    std::thread::scope(|scope| {
        let stack =
            (limits::SQL_STACK_BYTES_MIN + depth * limits::SQL_STACK_BYTES_PER_LEVEL).min(limits::SQL_STACK_BYTES_MAX);
        let deep = std::thread::Builder::new().name(String::from("deep-sql")).stack_size(stack);
        match deep.spawn_scoped(scope, work) {
            Ok(thread) => thread.join().unwrap_or_else(|_| failed()),
            Err(_) => failed(),
        }
    })
}
