//! MySQL and MariaDB: our own lexer and reader are the authority, and a second parser must not see more.
//!
//! Invariant: facts without [`crate::sql::facts::Facts::unread`] are only given when every token of the statement was understood.

mod acts;
mod again;
mod body;
mod changes;
mod cursor;
mod facts;
mod names;
mod removals;
mod second;
mod settings;
mod tables;
mod term;

pub use names::quoted;

use crate::ground::limits;
use crate::sql::dialect::Reading;
use crate::sql::facts::{Facts, Kind};
use crate::sql::lexer::{self, Token};
use crate::sql::split::{Piece, split};
use crate::sql::statement::{LexicalMode, MySqlMode, Statement};
use crate::sql::{glance, hints};

/// Reads a text to its end.
pub fn read(text: &str, own: MySqlMode) -> Reading {
    let mode = LexicalMode::MySql(own);
    if text.len() > limits::SQL_READ_BYTES_MAX {
        return glanced(text, mode);
    }
    let (tokens, mode_sensitive) = lexer::tokens(text, mode);
    if tokens.len() > limits::SQL_TOKENS_MAX {
        return glanced(text, mode);
    }
    let refused = flaw(&tokens).map(|why| whole(text, unread(why)));
    let mut statements = match refused.or_else(|| command(text, &tokens)) {
        Some(statement) => vec![statement],
        None => statements(text, &tokens, own),
    };
    statements.iter_mut().for_each(|statement| statement.facts.product = own.product);
    Reading { statements, mode_sensitive }
}

/// Too long to read: what the short way can say, and unread otherwise.
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
    Reading { statements: vec![whole(text, facts)], mode_sensitive }
}

fn unread(why: &str) -> Facts {
    Facts { kind: Kind::Unread, unread: Some(String::from(why)), changes_session: true, ..Facts::default() }
}

fn whole(text: &str, facts: Facts) -> Statement {
    Statement { span: 0..text.len(), facts }
}

/// What is wrong with the tokens themselves.
fn flaw(tokens: &[Token]) -> Option<&'static str> {
    let broken = tokens.iter().find_map(|token| match token.kind {
        lexer::Kind::Broken(flaw) => Some(flaw.words()),
        lexer::Kind::Junk => Some("trailing junk after a number or an operator"),
        lexer::Kind::Stray => Some("a character that begins no token"),
        _ => None,
    });
    broken.or_else(|| (depth(tokens) > limits::SQL_PARENTHESES_MAX).then_some("nested too deeply to be read"))
}

/// How many parentheses are open at most.
fn depth(tokens: &[Token]) -> usize {
    let (mut open, mut deepest) = (0usize, 0usize);
    for token in tokens {
        match token.kind {
            lexer::Kind::Punctuation(b'(' | b'{') => open += 1,
            lexer::Kind::Punctuation(b')' | b'}') => open = open.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(open);
    }
    deepest
}

/// A command to us: the rest of the text is its argument, whatever it holds.
fn command(text: &str, tokens: &[Token]) -> Option<Statement> {
    let first = tokens.first()?;
    first.is_word(text, "sluice").then(|| whole(text, Facts { kind: Kind::Sluice, ..Facts::default() }))
}

fn statements(text: &str, tokens: &[Token], mode: MySqlMode) -> Vec<Statement> {
    let pieces = split(text, LexicalMode::MySql(mode));
    if pieces.len() > limits::SQL_STATEMENTS_MAX {
        return vec![whole(text, unread("too many statements in one text"))];
    }
    if pieces.is_empty() {
        return vec![whole(text, Facts::default())];
    }
    let mut rest = tokens;
    pieces.iter().map(|piece| statement(text, &mut rest, mode, piece)).collect()
}

/// The tokens are those of the whole text: a piece read by itself could begin inside of an executable comment.
fn statement(text: &str, rest: &mut &[Token], own: MySqlMode, piece: &Piece) -> Statement {
    let start = piece.span.start;
    let begin = rest.partition_point(|token| token.start < piece.code.start);
    let end = rest.partition_point(|token| token.start < piece.code.end);
    let tokens: Vec<Token> = rest
        .get(begin..end)
        .unwrap_or_default()
        .iter()
        .map(|token| Token { start: token.start.saturating_sub(start), end: token.end.saturating_sub(start), ..*token })
        .collect();
    *rest = rest.get(end..).unwrap_or_default();
    let part = text.get(piece.span.clone()).unwrap_or_default();
    let mut facts = facts::gather(part, &tokens, own);
    if facts.unread.is_none() && !facts.changes.is_empty() {
        facts.unread = second::objection(part, &tokens, &facts);
    }
    if let Some(why) = piece.unclear {
        facts.unread.get_or_insert_with(|| why.to_owned());
        facts.changes_session = true;
    }
    settings::hinted(part, &mut facts);
    facts.hints = hints::hints(part, LexicalMode::MySql(own));
    Statement { span: piece.span.clone(), facts }
}
