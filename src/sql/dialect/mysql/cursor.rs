//! A place among the tokens of one statement, and the small steps by which a reader goes on from there.
//!
//! Invariant: nothing is passed over unseen. A step either understands the tokens it takes or fails, and a failure makes the statement
//! unread; runs of tokens that need no understanding (expressions, definitions) are balanced in their parentheses and end where a
//! word stands that the server reserves for what follows.

use crate::sql::dialect::mysql::names;
use crate::sql::facts::Name;
use crate::sql::lexer::{Kind, Token};
use crate::sql::statement::{LexicalMode, MySqlMode, Product};
use std::ops::Range;

/// Why a statement could not be read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread(pub String);

pub type Read<T> = Result<T, Unread>;

#[derive(Debug, Clone, Copy)]
pub struct Cursor<'t> {
    pub text: &'t str,
    /// Comments left out.
    pub tokens: &'t [Token],
    pub at: usize,
    /// The token before which reading ends.
    pub end: usize,
    pub mode: MySqlMode,
}

impl<'t> Cursor<'t> {
    pub fn new(text: &'t str, tokens: &'t [Token], mode: MySqlMode) -> Cursor<'t> {
        Cursor { text, tokens, at: 0, end: tokens.len(), mode }
    }

    /// The same over some of the tokens.
    pub fn within(&self, tokens: Range<usize>) -> Cursor<'t> {
        Cursor { at: tokens.start, end: tokens.end.min(self.end), ..*self }
    }

    pub fn is_mariadb(&self) -> bool {
        self.mode.product == Product::MariaDb
    }

    pub fn lexical(&self) -> LexicalMode {
        LexicalMode::MySql(self.mode)
    }

    pub fn done(&self) -> bool {
        self.at >= self.end
    }

    pub fn ahead(&self, by: usize) -> Option<&'t Token> {
        let at = self.at.checked_add(by).filter(|at| *at < self.end)?;
        self.tokens.get(at)
    }

    pub fn written(&self, by: usize) -> &'t str {
        self.ahead(by).map_or("", |token| token.text(self.text))
    }

    pub fn word_at(&self, by: usize, word: &str) -> bool {
        self.ahead(by).is_some_and(|token| token.is_word(self.text, word))
    }

    pub fn word(&self, word: &str) -> bool {
        self.word_at(0, word)
    }

    pub fn any(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.word(word))
    }

    /// These words, one after the other.
    pub fn words(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(by, word)| self.word_at(by, word))
    }

    /// An operator or a mark of punctuation, however the lexer calls it.
    pub fn mark_at(&self, by: usize, mark: &str) -> bool {
        self.ahead(by).is_some_and(|token| {
            matches!(token.kind, Kind::Operator | Kind::Punctuation(_)) && token.text(self.text) == mark
        })
    }

    pub fn mark(&self, mark: &str) -> bool {
        self.mark_at(0, mark)
    }

    pub fn eat(&mut self, word: &str) -> bool {
        let found = self.word(word);
        self.at += usize::from(found);
        found
    }

    pub fn eat_words(&mut self, words: &[&str]) -> bool {
        let found = self.words(words);
        self.at += if found { words.len() } else { 0 };
        found
    }

    pub fn eat_any(&mut self, words: &[&str]) -> bool {
        words.iter().any(|word| self.eat(word))
    }

    pub fn eat_mark(&mut self, mark: &str) -> bool {
        let found = self.mark(mark);
        self.at += usize::from(found);
        found
    }

    pub fn expect(&mut self, word: &str) -> Read<()> {
        if self.eat(word) { Ok(()) } else { Err(self.lost()) }
    }

    pub fn expect_mark(&mut self, mark: &str) -> Read<()> {
        if self.eat_mark(mark) { Ok(()) } else { Err(self.lost()) }
    }

    pub fn expect_end(&self) -> Read<()> {
        if self.done() { Ok(()) } else { Err(self.lost()) }
    }

    pub fn lost(&self) -> Unread {
        match self.ahead(0) {
            None => Unread("it ends where more was expected".to_owned()),
            Some(token) => {
                let near: String = token.text(self.text).chars().take(40).collect();
                Unread(format!("not understood from here on: {near}"))
            }
        }
    }

    pub fn string_at(&self, by: usize) -> bool {
        self.ahead(by).is_some_and(|token| matches!(token.kind, Kind::String(_)))
    }

    pub fn number_at(&self, by: usize) -> bool {
        self.ahead(by).is_some_and(|token| token.kind == Kind::Number)
    }

    /// A bare or a quoted name.
    pub fn name_at(&self, by: usize) -> bool {
        self.ahead(by).is_some_and(|token| matches!(token.kind, Kind::Word | Kind::QuotedName))
    }

    /// One name, as it reads without its quotes.
    pub fn identifier(&mut self) -> Read<String> {
        if !self.name_at(0) {
            return Err(self.lost());
        }
        let found = names::unquoted(self.written(0));
        self.at += 1;
        Ok(found)
    }

    /// A column's name, folded: columns are called without regard to case.
    pub fn column(&mut self) -> Read<String> {
        self.identifier().map(|name| names::folded(&name))
    }

    /// `t`, `db.t`, `.t`: of a table, a routine or the like.
    pub fn object(&mut self) -> Read<Name> {
        self.eat_mark(".");
        let mut parts = vec![self.identifier()?];
        while self.mark(".") && self.name_at(1) && parts.len() < 3 {
            self.at += 1;
            parts.push(self.identifier()?);
        }
        Ok(names::name(parts))
    }

    /// From the first to the last of some tokens, in bytes.
    pub fn bytes(&self, tokens: &Range<usize>) -> Option<Range<usize>> {
        if tokens.start >= tokens.end {
            return None;
        }
        let (first, last) = (self.tokens.get(tokens.start)?, self.tokens.get(tokens.end.checked_sub(1)?)?);
        Some(first.start..last.end)
    }

    pub fn slice(&self, tokens: &Range<usize>) -> Option<&'t str> {
        self.text.get(self.bytes(tokens)?)
    }

    /// Over `( … )`, both included; gives what is inside.
    pub fn parenthesized(&mut self) -> Read<Range<usize>> {
        self.expect_mark("(")?;
        let start = self.at;
        let inside = self.run(|_| false)?;
        self.expect_mark(")")?;
        Ok(start..inside.end)
    }

    /// Tokens up to one at this depth of parentheses at which `stops` holds, or a closing parenthesis that was not opened here. A
    /// semicolon is never passed.
    pub fn run(&mut self, stops: impl Fn(&Cursor) -> bool) -> Read<Range<usize>> {
        let start = self.at;
        let mut open: Vec<&str> = Vec::new();
        while let Some(token) = self.ahead(0) {
            if open.is_empty() && stops(self) {
                break;
            }
            if matches!(token.kind, Kind::Operator | Kind::Punctuation(_)) {
                match token.text(self.text) {
                    "(" => open.push(")"),
                    "{" => open.push("}"),
                    closing @ (")" | "}") => match open.pop() {
                        None => break,
                        Some(wanted) if wanted == closing => {}
                        Some(_) => return Err(self.lost()),
                    },
                    ";" => return Err(self.lost()),
                    _ => {}
                }
            }
            self.at += 1;
        }
        if open.is_empty() { Ok(start..self.at) } else { Err(self.lost()) }
    }

    /// Whether a word stands here as a keyword: not behind a dot, where every word is a name.
    pub fn keyword(&self, words: &[&str]) -> bool {
        let after_dot = self.at.checked_sub(1).and_then(|at| self.tokens.get(at)).is_some_and(|token| token.is(b'.'));
        !after_dot && self.any(words)
    }

    /// An expression: at least one token, up to one of these words, or a comma.
    pub fn expression(&mut self, stops: &[&str]) -> Read<Range<usize>> {
        let found = self.run(|here| here.mark(",") || here.keyword(stops))?;
        if found.is_empty() { Err(self.lost()) } else { Ok(found) }
    }

    /// Expressions with commas between them, up to one of these words.
    pub fn expressions(&mut self, stops: &[&str]) -> Read<Range<usize>> {
        let start = self.at;
        loop {
            self.expression(stops)?;
            if !self.eat_mark(",") {
                return Ok(start..self.at);
            }
        }
    }

    /// `(a, b)`: names, or nothing.
    pub fn names_in_parentheses(&mut self) -> Read<Vec<String>> {
        self.expect_mark("(")?;
        let mut found = Vec::new();
        if self.eat_mark(")") {
            return Ok(found);
        }
        loop {
            found.push(self.identifier()?);
            if !self.eat_mark(",") {
                break;
            }
        }
        self.expect_mark(")")?;
        Ok(found)
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> Read<Range<usize>> {
        let found = self.run(|_| false)?;
        self.expect_end()?;
        Ok(found)
    }
}
