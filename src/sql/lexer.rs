//! PostgreSQL's lexical rules, so that we know what is code, what is a literal and what is a comment without asking a parser.
//!
//! Invariant: the tokens of a text are in order, do not overlap, lie on character boundaries, and what lies between them is white
//! space only. Whatever the server's own scanner would refuse is said ([`Kind::Broken`], [`Kind::Junk`]), never skipped.
//! The time taken is linear in the text, and nothing is allocated.
//!
//! The rules are those of PostgreSQL 18's `src/backend/parser/scan.l`, named in the comments as they are named there. Older servers
//! differ only where they refuse a text (`1_000`, `0x1F`) or read less into one token without moving a statement's end.

mod mysql;

use crate::ground::limits;
use crate::sql::statement::LexicalMode;
use memchr::{memchr, memchr2, memmem};
use std::ops::Range;

/// One token and where it stands, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A bare word: keyword or unquoted identifier.
    Word,
    /// `"…"` or `U&"…"`; MySQL's `` `…` ``.
    QuotedName,
    /// Any string literal, continuations over lines included.
    String(StringKind),
    Number,
    /// `$1`; MySQL's `?`.
    Parameter,
    /// MySQL's `@name`, `@'name'` and `@@name`; what follows a dot after the last is a token of its own.
    Variable,
    /// Operators of any length that are not one of the single characters below; `::`, `:=`, `..` and `=>` too.
    Operator,
    /// One of `, ( ) [ ] . ; :` and the single-character operators.
    Punctuation(u8),
    LineComment,
    BlockComment,
    /// MySQL's `/*!` or `/*!50701` of a comment whose content the server executes: the tokens after it are code.
    ExecutableOpen,
    /// The `*/` of such a comment.
    ExecutableClose,
    /// A number or parameter with letters stuck to it: the server refuses the text.
    Junk,
    /// A character that begins no token: the server refuses the text.
    Stray,
    /// Not closed before the text ends, or a NUL byte: the rest of the text is this token.
    Broken(Flaw),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StringKind {
    /// `'…'` (and the string of `N'…'`): a backslash means what standard_conforming_strings says.
    Plain,
    /// `E'…'`
    Escape,
    /// `U&'…'`
    Unicode,
    /// `B'…'`
    Bits,
    /// `X'…'`
    Hex,
    /// `$tag$…$tag$`
    Dollar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    UnterminatedString,
    UnterminatedName,
    UnterminatedComment,
    /// The server itself takes time that grows with the square of the depth.
    DeepComment,
    NulByte,
    /// What the text means depends on the server's version, which is not known.
    UnknownVersion,
    /// A sql_mode with lexical rules that are not known here.
    UnknownMode,
    /// `1.5e` and `x'1'`: MySQL's lexer loses its place.
    BrokenNumber,
    /// `@@` without a name.
    NamelessVariable,
    /// The closing marker of an optimizer hint could stand inside quotes.
    QuotesInHint,
}

impl Flaw {
    pub fn words(self) -> &'static str {
        match self {
            Flaw::UnterminatedString => "unterminated string",
            Flaw::UnterminatedName => "unterminated quoted identifier",
            Flaw::UnterminatedComment => "unterminated comment",
            Flaw::DeepComment => "comments nested too deeply",
            Flaw::NulByte => "a NUL byte in the text",
            Flaw::UnknownVersion => "a comment or string whose meaning depends on the server's exact version",
            Flaw::UnknownMode => "a sql_mode whose lexical rules are not known",
            Flaw::BrokenNumber => "a number that breaks off",
            Flaw::NamelessVariable => "a variable without a name",
            Flaw::QuotesInHint => "quotes inside an optimizer hint",
        }
    }
}

impl Token {
    pub fn text<'t>(&self, text: &'t str) -> &'t str {
        text.get(self.start..self.end).unwrap_or_default()
    }

    /// A bare word, whatever its case. `word` must be lower case.
    pub fn is_word(&self, text: &str, word: &str) -> bool {
        self.kind == Kind::Word && self.text(text).eq_ignore_ascii_case(word)
    }

    /// A comment, or a marker around code that only some servers execute: nothing that the server itself acts on.
    pub fn is_comment(&self) -> bool {
        use Kind::{BlockComment, ExecutableClose, ExecutableOpen, LineComment};
        matches!(self.kind, LineComment | BlockComment | ExecutableOpen | ExecutableClose)
    }

    pub fn is(&self, punctuation: u8) -> bool {
        self.kind == Kind::Punctuation(punctuation)
    }

    pub fn span(&self) -> Range<usize> {
        self.start..self.end
    }
}

/// Walks over a text, one token at a time, comments included.
#[derive(Debug, Clone)]
pub struct Lexer<'t> {
    bytes: &'t [u8],
    at: usize,
    /// The first NUL byte: looked for once, not in every token.
    nul: usize,
    mode: LexicalMode,
    mode_sensitive: bool,
    mysql: mysql::State,
}

impl<'t> Lexer<'t> {
    pub fn new(text: &'t str, mode: LexicalMode) -> Self {
        let nul = memchr(0, text.as_bytes()).unwrap_or(usize::MAX);
        Lexer { bytes: text.as_bytes(), at: 0, nul, mode, mode_sensitive: false, mysql: mysql::State::default() }
    }

    /// Whether a token seen so far would be read otherwise under the other setting of `standard_conforming_strings`.
    pub fn mode_sensitive(&self) -> bool {
        self.mode_sensitive
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    /// The byte at a place, 0 past the end: a real NUL byte is found by [`Lexer::next`] before anything relies on it.
    fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0)
    }

    fn rest(&self, from: usize) -> &'t [u8] {
        self.bytes.get(from..).unwrap_or_default()
    }

    fn run_of(&self, mut at: usize, wanted: impl Fn(u8) -> bool) -> usize {
        while self.bytes.get(at).is_some_and(|byte| wanted(*byte)) {
            at += 1;
        }
        at
    }

    fn broken(&self, flaw: Flaw) -> (Kind, usize) {
        (Kind::Broken(flaw), self.bytes.len())
    }

    /// Kind and end of the token that starts here.
    fn token(&mut self) -> (Kind, usize) {
        let (first, second, third) = (self.peek(0), self.peek(1), self.peek(2));
        match first {
            0 => self.broken(Flaw::NulByte),
            b'-' if second == b'-' => (Kind::LineComment, self.line_end(self.at)),
            b'/' if second == b'*' => self.block_comment(),
            b'\'' => self.quoted(self.at + 1, StringKind::Plain),
            b'"' => self.quoted_name(self.at + 1),
            b'e' | b'E' if second == b'\'' => self.quoted(self.at + 2, StringKind::Escape),
            b'b' | b'B' if second == b'\'' => self.quoted(self.at + 2, StringKind::Bits),
            b'x' | b'X' if second == b'\'' => self.quoted(self.at + 2, StringKind::Hex),
            b'n' | b'N' if second == b'\'' => (Kind::Word, self.at + 1), // xnstart: NCHAR, then a plain string
            b'u' | b'U' if second == b'&' && third == b'\'' => self.quoted(self.at + 3, StringKind::Unicode),
            b'u' | b'U' if second == b'&' && third == b'"' => self.quoted_name(self.at + 3),
            b'$' => self.dollar(),
            b'0'..=b'9' => self.number(),
            b'.' if second.is_ascii_digit() => self.number(),
            b'.' if second == b'.' => (Kind::Operator, self.at + 2),
            b':' if second == b':' || second == b'=' => (Kind::Operator, self.at + 2),
            byte if starts_word(byte) => (Kind::Word, self.run_of(self.at, continues_word)),
            byte if is_operator(byte) => self.operator(),
            b',' | b'(' | b')' | b'[' | b']' | b'.' | b';' | b':' => (Kind::Punctuation(first), self.at + 1),
            _ => (Kind::Stray, self.at + 1),
        }
    }

    fn line_end(&self, from: usize) -> usize {
        memchr2(b'\n', b'\r', self.rest(from)).map_or(self.bytes.len(), |found| from + found)
    }

    /// Block comments nest (`xcstart`, `xcstop`).
    fn block_comment(&self) -> (Kind, usize) {
        let (mut depth, mut at) = (1usize, self.at + 2);
        while let Some(found) = memchr2(b'*', b'/', self.rest(at)) {
            at += found;
            match (self.byte(at), self.byte(at + 1)) {
                (b'*', b'/') => {
                    depth -= 1;
                    at += 2;
                    if depth == 0 {
                        return (Kind::BlockComment, at);
                    }
                }
                (b'/', b'*') => {
                    depth += 1;
                    at += 2;
                    if depth > limits::SQL_COMMENT_DEPTH_MAX {
                        return self.broken(Flaw::DeepComment);
                    }
                }
                _ => at += 1,
            }
        }
        self.broken(Flaw::UnterminatedComment)
    }

    /// A quoted string from the byte after its opening quote, with every continuation `'a'⏎'b'`: a continuation is read by the
    /// rules of the string it continues, so after `E'a'` a plain-looking `'b\''` still has escapes.
    fn quoted(&mut self, from: usize, kind: StringKind) -> (Kind, usize) {
        let escapes = match kind {
            StringKind::Escape => true,
            StringKind::Plain => !self.mode.standard_conforming_strings(),
            _ => false,
        };
        let doubles = matches!(kind, StringKind::Plain | StringKind::Escape | StringKind::Unicode);
        let mut at = from;
        loop {
            let Some(found) = memchr2(b'\'', b'\\', self.rest(at)) else {
                return self.broken(Flaw::UnterminatedString);
            };
            at += found;
            if self.byte(at) == b'\\' {
                self.mode_sensitive |= matches!(kind, StringKind::Plain);
                at += if escapes { 2 } else { 1 };
            } else if doubles && self.byte(at + 1) == b'\'' {
                at += 2;
            } else if let Some(next) = self.continuation(at + 1) {
                at = next;
            } else {
                // U&'…' is refused where backslashes escape, so it too depends on the mode.
                self.mode_sensitive |= matches!(kind, StringKind::Unicode);
                return (Kind::String(kind), at + 1);
            }
        }
    }

    /// `quotecontinue`: white space with at least one newline (line comments allowed), then a quote. Gives the byte after it.
    fn continuation(&self, from: usize) -> Option<usize> {
        let mut at = from;
        let mut newline = false;
        loop {
            match self.byte(at) {
                b'\n' | b'\r' => {
                    newline = true;
                    at += 1;
                }
                b' ' | b'\t' | 0x0b | 0x0c => at += 1,
                // A comment must itself end in a newline, else the text ends with it.
                b'-' if self.byte(at + 1) == b'-' => at = self.line_end(at),
                b'\'' if newline => return Some(at + 1),
                _ => return None,
            }
        }
    }

    fn quoted_name(&self, from: usize) -> (Kind, usize) {
        let mut at = from;
        while let Some(found) = memchr(b'"', self.rest(at)) {
            at += found + 1;
            if self.byte(at) != b'"' {
                return (Kind::QuotedName, at);
            }
            at += 1;
        }
        self.broken(Flaw::UnterminatedName)
    }

    /// `$1`, `$tag$…$tag$`, or a stray dollar.
    fn dollar(&self) -> (Kind, usize) {
        let next = self.at + 1;
        if self.byte(next).is_ascii_digit() {
            let end = self.run_of(next, |byte| byte.is_ascii_digit());
            return match starts_word(self.byte(end)) {
                true => (Kind::Junk, self.run_of(end, continues_word)), // param_junk
                false => (Kind::Parameter, end),
            };
        }
        let tag_end = match starts_word(self.byte(next)) {
            true => self.run_of(next, |byte| continues_word(byte) && byte != b'$'),
            false => next,
        };
        if self.byte(tag_end) != b'$' {
            return (Kind::Stray, next); // dolqfailed
        }
        let body = tag_end + 1;
        let delimiter = self.bytes.get(self.at..body).unwrap_or_default();
        match memmem::find(self.rest(body), delimiter) {
            Some(found) => (Kind::String(StringKind::Dollar), body + found + delimiter.len()),
            None => self.broken(Flaw::UnterminatedString),
        }
    }

    fn number(&self) -> (Kind, usize) {
        let end = self.based_integer().unwrap_or_else(|| self.decimal());
        match starts_word(self.byte(end)) {
            true => (Kind::Junk, self.run_of(end, continues_word)), // integer_junk, numeric_junk, real_junk
            false => (Kind::Number, end),
        }
    }

    /// `0x1F`, `0o17`, `0b11`.
    fn based_integer(&self) -> Option<usize> {
        if self.peek(0) != b'0' {
            return None;
        }
        let digit: fn(u8) -> bool = match self.peek(1) {
            b'x' | b'X' => |byte| byte.is_ascii_hexdigit(),
            b'o' | b'O' => |byte| matches!(byte, b'0'..=b'7'),
            b'b' | b'B' => |byte| matches!(byte, b'0' | b'1'),
            _ => return None,
        };
        let end = self.digits(self.at + 2, true, digit);
        (end > self.at + 2).then_some(end)
    }

    /// `decinteger`, `numeric` and `real`.
    fn decimal(&self) -> usize {
        let digit: fn(u8) -> bool = |byte| byte.is_ascii_digit();
        let mut end = self.digits(self.at, false, digit);
        if self.byte(end) == b'.' && !(self.byte(end + 1) == b'.' && end > self.at) {
            end = self.digits(end + 1, false, digit); // numericfail keeps `1..10` apart
        }
        if matches!(self.byte(end), b'e' | b'E') {
            let sign = usize::from(matches!(self.byte(end + 1), b'+' | b'-'));
            let exponent = self.digits(end + 1 + sign, false, digit);
            if exponent > end + 1 + sign {
                end = exponent;
            }
        }
        end
    }

    /// `digit(_?digit)*`, or `(_?digit)+` when an underscore may lead.
    fn digits(&self, from: usize, may_lead: bool, digit: fn(u8) -> bool) -> usize {
        let mut at = from;
        loop {
            let gap = usize::from(self.byte(at) == b'_' && (may_lead || at > from));
            if !digit(self.byte(at + gap)) {
                return at;
            }
            at += gap + 1;
        }
    }

    /// The longest run of operator characters, cut before a comment and before a trailing sign that SQL wants to stand alone.
    fn operator(&self) -> (Kind, usize) {
        let full = self.run_of(self.at, is_operator);
        let run = self.bytes.get(self.at..full).unwrap_or_default();
        let comment = run.windows(2).position(|pair| pair == b"/*" || pair == b"--");
        let mut length = comment.unwrap_or(run.len());
        let beyond_sql = |end: usize| run.iter().take(end).any(|byte| b"~!@#^&|`?%".contains(byte));
        if length > 1 && ends_in_sign(run, length) && !beyond_sql(length - 1) {
            while length > 1 && ends_in_sign(run, length) {
                length -= 1;
            }
        }
        let end = self.at + length.max(1);
        match run.first() {
            Some(byte) if length <= 1 && b"+-*/%^<>=".contains(byte) => (Kind::Punctuation(*byte), end),
            _ => (Kind::Operator, end),
        }
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        if let LexicalMode::MySql(own) = self.mode {
            return mysql::next(self, own);
        }
        self.at = self.run_of(self.at, is_space);
        if self.at >= self.bytes.len() {
            return None;
        }
        let start = self.at;
        let (kind, end) = self.token();
        // An escape may have stepped over the last byte: `'abc\` is broken, and no token reaches past the text.
        let end = end.clamp(start + 1, self.bytes.len().max(start + 1));
        let kind = match kind {
            Kind::Broken(_) => kind,
            _ if self.nul < end => Kind::Broken(Flaw::NulByte),
            _ => kind,
        };
        self.at = if matches!(kind, Kind::Broken(_)) { self.bytes.len() } else { end };
        Some(Token { kind, start, end: self.at })
    }
}

/// All tokens but comments, and how the text depends on the mode. For texts of bounded size.
pub fn tokens(text: &str, mode: LexicalMode) -> (Vec<Token>, bool) {
    let mut lexer = Lexer::new(text, mode);
    let tokens = lexer.by_ref().filter(|token| !token.is_comment()).collect();
    (tokens, lexer.mode_sensitive())
}

/// The name a MySQL identifier token stands for, its letters as written. For tables and databases: whether their letters' case counts
/// is for `lower_case_table_names` to say.
pub fn unquoted(written: &str) -> Option<String> {
    let quote = match written.as_bytes().first()? {
        b'`' => "`",
        b'"' => "\"",
        _ => return Some(written.to_owned()),
    };
    let inner = written.get(1..written.len().checked_sub(1)?)?;
    Some(inner.replace(&quote.repeat(2), quote))
}

/// The name an identifier token stands for in this language, folded as its columns, aliases and functions are: MySQL ignores case in
/// them even when they are quoted. For MySQL's tables and databases see [`unquoted`].
pub fn folded_in(written: &str, mode: LexicalMode) -> Option<String> {
    match mode {
        LexicalMode::Postgres { .. } => folded(written),
        LexicalMode::MySql(_) => unquoted(written).map(|name| name.to_lowercase()),
    }
}

/// The name an identifier token stands for, folded as the server folds it; `None` for `U&"…"`, whose meaning needs a decoder.
pub fn folded(written: &str) -> Option<String> {
    match written.as_bytes().first()? {
        b'"' => Some(written.get(1..written.len().checked_sub(1)?)?.replace("\"\"", "\"")),
        b'u' | b'U' if written.as_bytes().get(1) == Some(&b'&') => None,
        _ => Some(written.to_ascii_lowercase()),
    }
}

fn ends_in_sign(run: &[u8], length: usize) -> bool {
    matches!(run.get(length - 1), Some(b'+' | b'-'))
}

fn is_space(byte: u8) -> bool {
    class(byte) & SPACE != 0
}

fn starts_word(byte: u8) -> bool {
    class(byte) & STARTS_WORD != 0
}

fn continues_word(byte: u8) -> bool {
    class(byte) & CONTINUES_WORD != 0
}

fn is_operator(byte: u8) -> bool {
    class(byte) & OPERATOR != 0
}

const SPACE: u8 = 1;
const STARTS_WORD: u8 = 2;
const CONTINUES_WORD: u8 = 4;
const OPERATOR: u8 = 8;

fn class(byte: u8) -> u8 {
    CLASSES[usize::from(byte)]
}

/// What each byte can be part of, worked out once.
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => SPACE,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => STARTS_WORD | CONTINUES_WORD,
            b'0'..=b'9' | b'$' => CONTINUES_WORD,
            b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'+' | b'-' | b'*' | b'/' | b'%' | b'<'
            | b'>' | b'=' => OPERATOR,
            _ => 0,
        };
        byte += 1;
    }
    classes
};

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, mode: LexicalMode, expected: &[(Kind, &str)]) {
        let found: Vec<(Kind, &str)> = Lexer::new(text, mode).map(|token| (token.kind, token.text(text))).collect();
        assert_eq!(found, expected, "{text}");
    }

    const ON: LexicalMode = LexicalMode::Postgres { standard_conforming_strings: true };
    const OFF: LexicalMode = LexicalMode::Postgres { standard_conforming_strings: false };

    #[test]
    fn strings_end_where_the_server_ends_them() {
        use StringKind::{Bits, Dollar, Escape, Plain, Unicode};
        let string = |kind| Kind::String(kind);
        check(r"'a''b'", ON, &[(string(Plain), r"'a''b'")]);
        check(r"'a\'", ON, &[(string(Plain), r"'a\'")]);
        check(r"'a\'", OFF, &[(Kind::Broken(Flaw::UnterminatedString), r"'a\'")]);
        check(r"'a\'b'", OFF, &[(string(Plain), r"'a\'b'")]);
        check(r"E'a\'b'", ON, &[(string(Escape), r"E'a\'b'")]);
        check("E'a'\n 'b\\''", ON, &[(string(Escape), "E'a'\n 'b\\''")]);
        check("'a'\n 'b\\'c", ON, &[(string(Plain), "'a'\n 'b\\'"), (Kind::Word, "c")]);
        check("'a' -- x\n'b'", ON, &[(string(Plain), "'a' -- x\n'b'")]);
        check("'a' 'b'", ON, &[(string(Plain), "'a'"), (string(Plain), "'b'")]);
        check("'a' /*\n*/ 'b'", ON, &[(string(Plain), "'a'"), (Kind::BlockComment, "/*\n*/"), (string(Plain), "'b'")]);
        check("B'0''1'", ON, &[(string(Bits), "B'0'"), (string(Plain), "'1'")]);
        check("U&'a''b'", ON, &[(string(Unicode), "U&'a''b'")]);
        check("N'x'", ON, &[(Kind::Word, "N"), (string(Plain), "'x'")]);
        check("$$a'$b$c$$", ON, &[(string(Dollar), "$$a'$b$c$$")]);
        check("$a$ $$ $A$ $a$x", ON, &[(string(Dollar), "$a$ $$ $A$ $a$"), (Kind::Word, "x")]);
        check("a$b$ c", ON, &[(Kind::Word, "a$b$"), (Kind::Word, "c")]);
        check("$1$$x$$", ON, &[(Kind::Parameter, "$1"), (string(Dollar), "$$x$$")]);
    }

    #[test]
    fn operators_stop_at_comments_and_signs() {
        check(
            "1-/* x */2",
            ON,
            &[
                (Kind::Number, "1"),
                (Kind::Punctuation(b'-'), "-"),
                (Kind::BlockComment, "/* x */"),
                (Kind::Number, "2"),
            ],
        );
        check("@--x", ON, &[(Kind::Operator, "@"), (Kind::LineComment, "--x")]);
        check("=-", ON, &[(Kind::Punctuation(b'='), "="), (Kind::Punctuation(b'-'), "-")]);
        check("@-", ON, &[(Kind::Operator, "@-")]);
        check("<>*", ON, &[(Kind::Operator, "<>*")]);
        check("a::b", ON, &[(Kind::Word, "a"), (Kind::Operator, "::"), (Kind::Word, "b")]);
    }

    #[test]
    fn numbers_names_and_what_is_wrong() {
        check("1..2", ON, &[(Kind::Number, "1"), (Kind::Operator, ".."), (Kind::Number, "2")]);
        check(
            "1.5e-3 .5 5. 1_0 0xFf 1e",
            ON,
            &[
                (Kind::Number, "1.5e-3"),
                (Kind::Number, ".5"),
                (Kind::Number, "5."),
                (Kind::Number, "1_0"),
                (Kind::Number, "0xFf"),
                (Kind::Junk, "1e"),
            ],
        );
        check("\"a\"\"b\" U&\"c\"", ON, &[(Kind::QuotedName, "\"a\"\"b\""), (Kind::QuotedName, "U&\"c\"")]);
        check("/* /* */", ON, &[(Kind::Broken(Flaw::UnterminatedComment), "/* /* */")]);
        check("a\0b", ON, &[(Kind::Word, "a"), (Kind::Broken(Flaw::NulByte), "\0b")]);
        check("-- a\0b", ON, &[(Kind::Broken(Flaw::NulByte), "-- a\0b")]);
        check("é\u{1F600}", ON, &[(Kind::Word, "é\u{1F600}")]);
        check("{", ON, &[(Kind::Stray, "{")]);
    }
}
