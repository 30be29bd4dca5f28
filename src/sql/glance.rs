//! The short way: one pass of the lexer tells whether a text is certainly harmless, so that ordinary reads cost almost nothing.
//!
//! Invariant: [`Glance::Harmless`] is said only of a single statement whose first word is in a closed list and in which no word
//! stands that could make it change, remove or set anything. Everything else goes the long way. No allocation, no parser, linear
//! time: a dump of hundreds of megabytes is glanced at, never parsed.

use crate::sql::facts::{Kind, TransactionVerb};
use crate::sql::lexer::{self, Lexer, Token};
use crate::sql::statement::LexicalMode;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Glance {
    /// Nothing in it is ever asked about.
    Harmless {
        kind: Kind,
        transaction: Option<TransactionVerb>,
        /// It can change what later names or texts mean.
        changes_session: bool,
        /// Certain only under the lexical mode given.
        mode_sensitive: bool,
    },
    /// The text begins with the bare word SLUICE: a command to us.
    Sluice,
    NeedsReading,
}

pub fn glance(text: &str, mode: LexicalMode) -> Glance {
    let mut lexer = Lexer::new(text, mode);
    let mut opening = Opening::default();
    let mut ended = false;
    let mut last_was_word = false;
    while let Some(token) = lexer.next() {
        if token.is_comment() {
            continue;
        }
        if opening.first == First::None && token.is_word(text, "sluice") {
            return Glance::Sluice;
        }
        let is_end = token.is(b';');
        if ended && !is_end {
            return Glance::NeedsReading; // a second statement
        }
        ended |= is_end && opening.first != First::None;
        if !is_end && !opening.take(text, &token, last_was_word) {
            return Glance::NeedsReading;
        }
        last_was_word = matches!(token.kind, lexer::Kind::Word);
    }
    opening.verdict(lexer.mode_sensitive())
}

/// What the text has shown itself to be so far.
#[derive(Debug, Default)]
struct Opening {
    first: First,
    /// Tokens taken.
    count: usize,
    /// ROLLBACK … TO.
    to: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum First {
    #[default]
    None,
    Read,
    Insert,
    Transaction(TransactionVerb),
    /// LISTEN, UNLISTEN, NOTIFY: the authority's name for it.
    Signal(&'static str),
}

impl Opening {
    /// Takes one more token; false means that the text needs reading.
    fn take(&mut self, text: &str, token: &Token, after_word: bool) -> bool {
        self.count += 1;
        if self.count == 1 {
            self.first = first_word(text, token);
            return self.first != First::None;
        }
        match token.kind {
            lexer::Kind::Junk | lexer::Kind::Stray | lexer::Kind::Broken(_) => false,
            lexer::Kind::QuotedName => !dangerous_name(token.text(text)),
            lexer::Kind::Word => self.word(token.text(text), after_word),
            _ => true,
        }
    }

    fn word(&mut self, word: &str, after_word: bool) -> bool {
        if self.first == First::Insert && self.count == 2 {
            return word.eq_ignore_ascii_case("into");
        }
        if matches!(self.first, First::Transaction(_)) {
            if word.eq_ignore_ascii_case("prepared") && after_word {
                return false;
            }
            self.to |= word.eq_ignore_ascii_case("to");
        }
        !dangerous_word(word)
    }

    fn verdict(self, mode_sensitive: bool) -> Glance {
        let (kind, transaction) = match self.first {
            First::None => (Kind::Empty, None),
            First::Read => (Kind::Read, None),
            First::Insert => (Kind::Insert, None),
            First::Signal(name) => (Kind::Other(String::from(name)), None),
            First::Transaction(TransactionVerb::Rollback) if self.to => (Kind::Transaction, Some(TransactionVerb::RollbackTo)),
            First::Transaction(verb) => (Kind::Transaction, Some(verb)),
        };
        Glance::Harmless { kind, transaction, changes_session: false, mode_sensitive }
    }
}

fn first_word(text: &str, token: &Token) -> First {
    use TransactionVerb::{Begin, Commit, Release, Rollback, Savepoint};
    const READS: &[&str] = &["select", "values", "table", "with", "show", "fetch", "move", "close", "declare"];
    const TRANSACTIONS: &[(&str, TransactionVerb)] = &[
        ("begin", Begin),
        ("start", Begin),
        ("commit", Commit),
        ("end", Commit),
        ("rollback", Rollback),
        ("abort", Rollback),
        ("savepoint", Savepoint),
        ("release", Release),
    ];
    const SIGNALS: &[(&str, &str)] = &[("listen", "ListenStmt"), ("unlisten", "UnlistenStmt"), ("notify", "NotifyStmt")];
    if token.is_word(text, "insert") {
        return First::Insert;
    }
    if READS.iter().any(|word| token.is_word(text, word)) {
        return First::Read;
    }
    if let Some((_, verb)) = TRANSACTIONS.iter().find(|(word, _)| token.is_word(text, word)) {
        return First::Transaction(*verb);
    }
    match SIGNALS.iter().find(|(word, _)| token.is_word(text, word)) {
        Some((_, name)) => First::Signal(name),
        None => First::None,
    }
}

/// Words that change something wherever they stand as keywords, and functions that act outside the statement. A column that
/// happens to be called so only costs the long way.
fn dangerous_word(word: &str) -> bool {
    const WORDS: &[&str] = &["update", "delete", "merge", "truncate", "insert", "into", "copy", "drop", "alter", "create", "execute"];
    // The list is short and most words fail at their first byte or their length.
    WORDS.iter().any(|listed| word.eq_ignore_ascii_case(listed)) || dangerous_function(word)
}

/// Functions with effects of their own, by name or by the family's prefix.
fn dangerous_function(name: &str) -> bool {
    const NAMES: &[&str] = &["set_config", "setval", "loread", "lowrite", "query_to_xml", "cursor_to_xml"];
    const FAMILIES: &[&str] = &["dblink", "lo_", "pg_read_", "pg_file_", "pg_terminate_", "pg_cancel_", "pg_reload_", "pg_rotate_"];
    NAMES.iter().any(|listed| name.eq_ignore_ascii_case(listed))
        || FAMILIES.iter().any(|family| name.get(..family.len()).is_some_and(|start| start.eq_ignore_ascii_case(family)))
}

/// `"set_config"` calls the same function; `U&"…"` can spell anything.
fn dangerous_name(written: &str) -> bool {
    !written.starts_with('"') || dangerous_function(written.trim_matches('"'))
}
