//! Where the statements of one text begin and end, from its tokens alone.
//!
//! Invariant: every token that is not a closing semicolon lies in exactly one piece. Semicolons inside parentheses (CREATE RULE … DO
//! (a; b)) and inside the body of a SQL function (BEGIN ATOMIC … END) close nothing, as in the server's grammar.

mod mysql;

use crate::sql::lexer::{Kind, Lexer, Token};
use crate::sql::statement::LexicalMode;
use std::ops::Range;

/// One statement's place in its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its tokens and the comments around them, without the semicolon: hints may stand before or after the code.
    pub span: Range<usize>,
    /// From its first to its last token that is not a comment.
    pub code: Range<usize>,
    /// Why it is not certain that the statement ends here and not before: it must count as unread. It is then the text's last piece.
    pub unclear: Option<&'static str>,
}

/// The statements of a text, empty ones left out.
pub fn split(text: &str, mode: LexicalMode) -> Vec<Piece> {
    if let LexicalMode::MySql(own) = mode {
        return mysql::split(text, own);
    }
    let mut pieces = Vec::new();
    let mut open = Open::default();
    for token in Lexer::new(text, mode) {
        if token.is(b';') && open.closes_here() {
            pieces.extend(std::mem::take(&mut open).piece());
        } else {
            open.take(text, token);
        }
    }
    pieces.extend(open.piece());
    pieces
}

/// The statement that is being read.
#[derive(Default)]
struct Open {
    span: Option<Range<usize>>,
    code: Option<Range<usize>>,
    parentheses: usize,
    /// BEGIN ATOMIC and the CASEs in it that still want their END.
    blocks: usize,
    /// CREATE [OR REPLACE] FUNCTION|PROCEDURE: only there BEGIN ATOMIC means a body.
    routine: Routine,
    last: Last,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Routine {
    #[default]
    Unknown,
    /// CREATE, or CREATE OR REPLACE, was read.
    Create,
    Yes,
    No,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Last {
    #[default]
    Other,
    Begin,
    /// After `.` or AS any word is a name.
    Label,
}

impl Open {
    fn closes_here(&self) -> bool {
        self.parentheses == 0 && self.blocks == 0
    }

    fn piece(self) -> Option<Piece> {
        Some(Piece { span: self.span?, code: self.code?, unclear: None })
    }

    fn take(&mut self, text: &str, token: Token) {
        let start = self.span.as_ref().map_or(token.start, |span| span.start);
        self.span = Some(start..token.end);
        if token.is_comment() {
            return;
        }
        let start = self.code.as_ref().map_or(token.start, |code| code.start);
        self.code = Some(start..token.end);
        match token.kind {
            Kind::Punctuation(b'(') => self.parentheses += 1,
            Kind::Punctuation(b')') => self.parentheses = self.parentheses.saturating_sub(1),
            _ => {}
        }
        self.last = self.follow(text, &token);
    }

    fn follow(&mut self, text: &str, token: &Token) -> Last {
        if token.is(b'.') || token.is_word(text, "as") {
            return Last::Label;
        }
        if token.kind != Kind::Word {
            return Last::Other;
        }
        self.routine = self.routine.after(token.text(text));
        if self.routine != Routine::Yes || self.parentheses > 0 || self.last == Last::Label {
            return Last::Other;
        }
        let word = |wanted| token.is_word(text, wanted);
        if word("begin") {
            return Last::Begin;
        }
        let opens = (word("atomic") && self.last == Last::Begin) || (word("case") && self.blocks > 0);
        if opens {
            self.blocks += 1;
        } else if word("end") {
            self.blocks = self.blocks.saturating_sub(1);
        }
        Last::Other
    }
}

impl Routine {
    fn after(self, word: &str) -> Routine {
        let is = |wanted: &str| word.eq_ignore_ascii_case(wanted);
        match self {
            Routine::Unknown if is("create") => Routine::Create,
            Routine::Create if is("or") || is("replace") => Routine::Create,
            Routine::Create if is("function") || is("procedure") => Routine::Yes,
            Routine::Yes => Routine::Yes,
            _ => Routine::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let found: Vec<&str> =
            split(text, LexicalMode::default()).iter().map(|piece| &text[piece.span.clone()]).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn statements_are_found_where_the_server_finds_them() {
        check("", &[]);
        check(" ; -- nothing\n ;", &[]);
        check("SELECT 1", &["SELECT 1"]);
        check("SELECT 1; ", &["SELECT 1"]);
        check("SELECT 1;;SELECT 2", &["SELECT 1", "SELECT 2"]);
        check("/* a */ SELECT 1 /* b */; SELECT 2", &["/* a */ SELECT 1 /* b */", "SELECT 2"]);
        check("SELECT ';'; SELECT $$;$$", &["SELECT ';'", "SELECT $$;$$"]);
        check("SELECT 1 -/* 'x */ 2; DELETE FROM t; --'", &["SELECT 1 -/* 'x */ 2", "DELETE FROM t"]);
        check("SELECT E'a'\n'b\\''; DELETE FROM t; --'", &["SELECT E'a'\n'b\\''", "DELETE FROM t"]);
        check(
            "CREATE RULE r AS ON DELETE TO t DO (SELECT 1; SELECT 2); SELECT 3",
            &["CREATE RULE r AS ON DELETE TO t DO (SELECT 1; SELECT 2)", "SELECT 3"],
        );
        let body =
            "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN a THEN 1 END; DELETE FROM t; END";
        check(&format!("{body}; SELECT 1"), &[body, "SELECT 1"]);
        check("BEGIN; SELECT 1; END", &["BEGIN", "SELECT 1", "END"]);
    }
}
