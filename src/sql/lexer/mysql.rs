//! MySQL's and MariaDB's lexical rules.
//!
//! Invariant: where we and the server could part (a version that is not known, quotes inside an optimizer hint, a number that breaks
//! off, a NUL byte) the rest of the text is one [`Kind::Broken`] token: it is unread, never guessed at.
//!
//! The rules are those of `lex_one_token` in MySQL 9.7's and MariaDB 10.11's `sql/sql_lex.cc`, whose states are named in the comments;
//! each was tried on both servers. What an executable comment (`/*!50701 … */`) holds comes out as ordinary tokens between a
//! [`Kind::ExecutableOpen`] and a [`Kind::ExecutableClose`] when the server executes it, and as one comment when it does not.

use crate::sql::lexer::{Flaw, Kind, Lexer, StringKind, Token};
use crate::sql::statement::{MySqlMode, Product};
use memchr::{memchr, memchr2, memmem};

/// What the last token says about the next one (`Lex_input_stream::next_state`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Expect {
    #[default]
    Anything,
    /// A dot right after a word and right before one: it begins no number (`MY_LEX_IDENT_SEP`).
    Dot,
    /// After such a dot digits and keywords are a name (`MY_LEX_IDENT_START`).
    Name,
}

/// What the lexer remembers between two tokens.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct State {
    expect: Expect,
    /// An executable comment is open. They do not nest: the first `*/` closes it.
    executing: bool,
    /// The comment that was open when the text ended has been told of.
    told: bool,
}

pub(super) fn next(lexer: &mut Lexer, mode: MySqlMode) -> Option<Token> {
    lexer.at = lexer.run_of(lexer.at, is_space);
    let (start, length) = (lexer.at, lexer.bytes.len());
    if start >= length {
        // An executable comment that is still open: the server refuses the text at its end.
        let unclosed = lexer.mysql.executing && !std::mem::replace(&mut lexer.mysql.told, true);
        return unclosed.then_some(Token { kind: Kind::Broken(Flaw::UnterminatedComment), start: length, end: length });
    }
    let (kind, end) = match (mode.unknown, std::mem::take(&mut lexer.mysql.expect)) {
        (true, _) => lexer.broken(Flaw::UnknownMode),
        (_, Expect::Dot) => lexer.dot(),
        (_, Expect::Name) => lexer.name(start),
        (_, Expect::Anything) => lexer.mysql_token(mode),
    };
    let end = end.clamp(start + 1, length);
    let kind = match kind {
        Kind::Broken(_) => kind,
        _ if lexer.nul < end => Kind::Broken(Flaw::NulByte),
        _ => kind,
    };
    if matches!(kind, Kind::Broken(_)) {
        (lexer.at, lexer.mysql.told) = (length, true);
    } else {
        lexer.at = end;
    }
    Some(Token { kind, start, end: lexer.at })
}

impl Lexer<'_> {
    /// Kind and end of the token that starts here (`MY_LEX_START`).
    fn mysql_token(&mut self, mode: MySqlMode) -> (Kind, usize) {
        let (at, first, second) = (self.at, self.peek(0), self.peek(1));
        match first {
            0 => self.broken(Flaw::NulByte),
            b'#' => (Kind::LineComment, self.newline(at)),
            b'-' if second == b'-' && ends_dashes(self.peek(2)) => (Kind::LineComment, self.newline(at)),
            b'/' if second == b'*' => self.mysql_comment(mode),
            b'*' if second == b'/' && self.mysql.executing => {
                self.mysql.executing = false;
                (Kind::ExecutableClose, at + 2)
            }
            b'\'' => self.mysql_string(at + 1, b'\'', mode),
            b'"' => {
                self.mode_sensitive = true;
                match mode.ansi_quotes {
                    true => self.mysql_name(at + 1, b'"'),
                    false => self.mysql_string(at + 1, b'"', mode),
                }
            }
            b'`' => self.mysql_name(at + 1, b'`'),
            b'x' | b'X' if second == b'\'' => self.digits_in_quotes(StringKind::Hex),
            b'b' | b'B' if second == b'\'' => self.digits_in_quotes(StringKind::Bits),
            b'n' | b'N' if second == b'\'' => (Kind::Word, at + 1), // MY_LEX_IDENT_OR_NCHAR: a plain string follows
            b'@' => self.variable(mode),
            b'$' if mode.product == Product::MySql => self.mysql_dollar(mode),
            b'0'..=b'9' => self.mysql_number(mode),
            b'.' if second.is_ascii_digit() => self.real(at + 1),
            b'.' if second == b'.' && mode.product == Product::MariaDb => (Kind::Operator, at + 2),
            b'.' => self.dot(),
            b'?' if !in_name(second) => (Kind::Parameter, at + 1),
            b'\\' if second == b'N' && mode.product == Product::MariaDb => (Kind::Word, at + 2), // NULL
            byte if in_name(byte) => self.name(at),
            _ => {
                self.mode_sensitive |= first == b'['; // in MariaDB's MSSQL mode a quoted name
                self.sign(mode)
            }
        }
    }

    /// A name from this byte on, and whether a dot follows that belongs to it.
    fn name(&mut self, from: usize) -> (Kind, usize) {
        let end = self.run_of(from, in_name);
        if self.byte(end) == b'.' && in_name(self.byte(end + 1)) {
            self.mysql.expect = Expect::Dot;
        }
        (Kind::Word, end)
    }

    fn dot(&mut self) -> (Kind, usize) {
        if in_name(self.peek(1)) {
            self.mysql.expect = Expect::Name;
        }
        (Kind::Punctuation(b'.'), self.at + 1)
    }

    /// Only a line feed ends a line: a carriage return does not (`MY_LEX_COMMENT`).
    fn newline(&self, from: usize) -> usize {
        memchr(b'\n', self.rest(from)).map_or(self.bytes.len(), |found| from + found)
    }

    fn mysql_string(&mut self, from: usize, quote: u8, mode: MySqlMode) -> (Kind, usize) {
        let mut at = from;
        while let Some(found) = memchr2(quote, b'\\', self.rest(at)) {
            at += found;
            if self.byte(at) == b'\\' {
                self.mode_sensitive = true;
                at += if mode.no_backslash_escapes { 1 } else { 2 };
            } else if self.byte(at + 1) == quote {
                at += 2;
            } else {
                return (Kind::String(StringKind::Plain), at + 1);
            }
        }
        self.broken(Flaw::UnterminatedString)
    }

    /// Backslashes mean nothing in a name (`MY_LEX_USER_VARIABLE_DELIMITER`).
    fn mysql_name(&self, from: usize, quote: u8) -> (Kind, usize) {
        let mut at = from;
        while let Some(found) = memchr(quote, self.rest(at)) {
            at += found + 1;
            if self.byte(at) != quote {
                return (Kind::QuotedName, at);
            }
            at += 1;
        }
        self.broken(Flaw::UnterminatedName)
    }

    /// `x'1F'` and `b'01'`: anything else between the quotes makes the server stop (`ABORT_SYM`).
    fn digits_in_quotes(&self, kind: StringKind) -> (Kind, usize) {
        let from = self.at + 2;
        let end = match kind {
            StringKind::Hex => self.run_of(from, |byte| byte.is_ascii_hexdigit()),
            _ => self.run_of(from, |byte| matches!(byte, b'0' | b'1')),
        };
        let odd = kind == StringKind::Hex && (end - from) % 2 == 1;
        if self.byte(end) != b'\'' || odd {
            return self.broken(Flaw::BrokenNumber);
        }
        (Kind::String(kind), end + 1)
    }

    /// `@name`, `@'name'`, and `@@name`; of `@@global.name` only what stands before the dot.
    fn variable(&mut self, mode: MySqlMode) -> (Kind, usize) {
        let inner = self.at + 1;
        let (kind, end) = match self.byte(inner) {
            b'\'' => self.mysql_string(inner + 1, b'\'', mode),
            b'`' => self.mysql_name(inner + 1, b'`'),
            b'"' if mode.ansi_quotes => self.mysql_name(inner + 1, b'"'),
            b'"' => self.mysql_string(inner + 1, b'"', mode),
            b'@' if self.byte(inner + 1) == b'`' => self.mysql_name(inner + 2, b'`'),
            b'@' => match self.name(inner + 1) {
                (_, end) if end == inner + 1 => self.broken(Flaw::NamelessVariable),
                named => named,
            },
            // MY_LEX_HOSTNAME: it may be empty, and letters beyond ASCII are no part of it.
            _ => (Kind::Variable, self.run_of(inner, |byte| byte.is_ascii_alphanumeric() || b"._$".contains(&byte))),
        };
        self.mode_sensitive |= self.byte(inner) == b'"';
        (if matches!(kind, Kind::Broken(_)) { kind } else { Kind::Variable }, end)
    }

    /// `$tag$…$tag$` since MySQL 9.0; before, and where the tag is not closed by a dollar, a name.
    fn mysql_dollar(&mut self, mode: MySqlMode) -> (Kind, usize) {
        let tag = self.run_of(self.at + 1, |byte| in_name(byte) && byte != b'$');
        if self.byte(tag) != b'$' {
            return self.name(self.at);
        }
        if mode.version < DOLLAR_QUOTES_SINCE {
            return self.broken(Flaw::UnknownVersion);
        }
        // The server does not look twice at a dollar: in `$a$ $$a$` it takes the second one with the first (get_dollar_quoted_text).
        let rest_of_tag = self.bytes.get(self.at + 1..=tag).unwrap_or_default();
        let mut at = tag + 1;
        while let Some(found) = memchr(b'$', self.rest(at)) {
            at += found + 1;
            let alike = rest_of_tag.iter().zip(self.rest(at)).take_while(|(tag, byte)| tag == byte).count();
            if alike == rest_of_tag.len() {
                return (Kind::String(StringKind::Dollar), at + alike);
            }
            at += alike + 1;
        }
        self.broken(Flaw::UnterminatedString)
    }

    /// `MY_LEX_NUMBER_IDENT`: digits with letters stuck to them are a name.
    fn mysql_number(&mut self, mode: MySqlMode) -> (Kind, usize) {
        let at = self.at;
        let based = match (self.peek(0), self.peek(1)) {
            (b'0', b'x') => self.run_of(at + 2, |byte| byte.is_ascii_hexdigit()),
            (b'0', b'b') => self.run_of(at + 2, |byte| matches!(byte, b'0' | b'1')),
            _ => at,
        };
        if based > at + 2 && !in_name(self.byte(based)) {
            return (Kind::Number, based);
        }
        let end = self.run_of(at, |byte| byte.is_ascii_digit());
        match self.byte(end) {
            b'.' if self.byte(end + 1) == b'.' && mode.product == Product::MariaDb => (Kind::Number, end),
            b'.' => self.real(end + 1),
            b'e' | b'E' => match self.exponent(end) {
                Some(exponent) => (Kind::Number, exponent),
                None => self.name(end),
            },
            byte if in_name(byte) => self.name(end),
            _ => (Kind::Number, end),
        }
    }

    /// From the byte after the dot (`MY_LEX_REAL`). Of an exponent without digits the server makes something odd.
    fn real(&self, from: usize) -> (Kind, usize) {
        let end = self.run_of(from, |byte| byte.is_ascii_digit());
        match self.byte(end) {
            b'e' | b'E' => match self.exponent(end) {
                Some(exponent) => (Kind::Number, exponent),
                None => self.broken(Flaw::BrokenNumber),
            },
            _ => (Kind::Number, end),
        }
    }

    /// Where the digits of the exponent end whose letter stands here.
    fn exponent(&self, letter: usize) -> Option<usize> {
        let digits = letter + 1 + usize::from(matches!(self.byte(letter + 1), b'+' | b'-'));
        let end = self.run_of(digits, |byte| byte.is_ascii_digit());
        (end > digits).then_some(end)
    }

    fn sign(&self, mode: MySqlMode) -> (Kind, usize) {
        let at = self.at;
        let (first, second, third) = (self.peek(0), self.peek(1), self.peek(2));
        let length = match (first, second, third) {
            (b'-', b'>', b'>') if mode.product == Product::MySql => 3,
            (b'-', b'>', _) if mode.product == Product::MySql => 2,
            (b':', b'=', _) | (b'&', b'&', _) | (b'|', b'|', _) => 2,
            (b'<', b'=', b'>') => 3,
            (b'<', b'=' | b'>' | b'<', _) | (b'>', b'=' | b'>', _) | (b'!', b'=', _) => 2,
            // MySQL takes the second sign away with the first (`a =! b` is `a = b`): not what anybody meant.
            (b'<' | b'>' | b'=' | b'!', b'<' | b'>' | b'=' | b'!', _) if mode.product == Product::MySql => {
                return (Kind::Junk, at + 2);
            }
            _ => 1,
        };
        match first {
            _ if length > 1 => (Kind::Operator, at + length),
            _ if b",().;:{}[]+-*/%^<>=!~&|".contains(&first) => (Kind::Punctuation(first), at + 1),
            _ => (Kind::Stray, at + 1),
        }
    }

    /// `MY_LEX_LONG_COMMENT`
    fn mysql_comment(&mut self, mode: MySqlMode) -> (Kind, usize) {
        let at = self.at;
        let maria = mode.product == Product::MariaDb && self.peek(2) == b'M' && self.peek(3) == b'!';
        let marker = match self.peek(2) {
            b'!' => at + 3,
            _ if maria => at + 4,
            b'+' => return self.optimizer_hint(),
            _ => return self.plain_comment(),
        };
        let digits = self.run_of(marker, |byte| byte.is_ascii_digit()) - marker;
        let executes = match digits {
            0..=4 => Ok(0),
            _ if mode.version == 0 => Err(Flaw::UnknownVersion),
            _ if mode.product == Product::MariaDb => self.maria_executes(marker, digits, maria, mode.version),
            _ => self.mysql_executes(marker, digits, mode.version),
        };
        match executes {
            Ok(_) if digits < 5 => self.execute(marker),
            Ok(0) => self.skipped_comment(marker),
            Ok(taken) => self.execute(marker + taken),
            Err(flaw) => self.broken(flaw),
        }
    }

    fn execute(&mut self, end: usize) -> (Kind, usize) {
        self.mysql.executing = true;
        (Kind::ExecutableOpen, end)
    }

    /// How many digits MariaDB takes for the version, 0 when it does not execute what follows. It passes over what is written for MySQL
    /// 5.7 to 9.99, unless the comment is its own (`/*M!`).
    fn maria_executes(&self, marker: usize, digits: usize, maria: bool, version: u32) -> Result<usize, Flaw> {
        // With Galera the server may execute this one, which pt-table-checksum writes empty.
        const GALERA: u32 = 99_997;
        let taken = digits.min(6);
        let wanted = self.decimal_at(marker, taken);
        if wanted == GALERA && self.peek_at(marker + taken) != *b"*/" {
            return Err(Flaw::UnknownVersion);
        }
        let own = maria || !(50_700..=99_999).contains(&wanted);
        Ok(if wanted <= version && own { taken } else { 0 })
    }

    /// The same for MySQL: six digits count when white space follows them, else five (older servers took six in any case).
    fn mysql_executes(&self, marker: usize, digits: usize, version: u32) -> Result<usize, Flaw> {
        let five = self.decimal_at(marker, 5) <= version;
        if digits == 5 {
            return Ok(if five { 5 } else { 0 });
        }
        let six = self.decimal_at(marker, 6) <= version;
        if digits == 6 && is_space(self.byte(marker + 6)) {
            return Ok(if six { 6 } else { 0 });
        }
        match five || six {
            true => Err(Flaw::UnknownVersion),
            false => Ok(0),
        }
    }

    fn decimal_at(&self, from: usize, digits: usize) -> u32 {
        (from..from + digits).fold(0, |value, at| value * 10 + u32::from(self.byte(at).saturating_sub(b'0')))
    }

    fn peek_at(&self, at: usize) -> [u8; 2] {
        [self.byte(at), self.byte(at + 1)]
    }

    /// The first `*/` ends it, whatever stands before.
    fn plain_comment(&self) -> (Kind, usize) {
        match self.comment_end(self.at + 2) {
            Some(end) => (Kind::BlockComment, end),
            None => self.broken(Flaw::UnterminatedComment),
        }
    }

    fn comment_end(&self, from: usize) -> Option<usize> {
        memmem::find(self.rest(from), b"*/").map(|found| from + found + 2)
    }

    /// An executable comment of another version: comments nest in it, one level deep (`consume_comment`).
    fn skipped_comment(&self, from: usize) -> (Kind, usize) {
        let mut at = from;
        while let Some(found) = memchr2(b'*', b'/', self.rest(at)) {
            at += found;
            at = match self.peek_at(at) {
                [b'*', b'/'] => return (Kind::BlockComment, at + 2),
                [b'/', b'*'] => match self.comment_end(at + 2) {
                    Some(end) => end,
                    None => break,
                },
                _ => at + 1,
            };
        }
        self.broken(Flaw::UnterminatedComment)
    }

    /// `/*+ … */` is read by a scanner of its own. It ends at the first marker, as any comment; should another version heed quotes
    /// there, then none may be open.
    fn optimizer_hint(&self) -> (Kind, usize) {
        let Some(end) = self.comment_end(self.at + 2) else { return self.broken(Flaw::UnterminatedComment) };
        let inner = self.bytes.get(self.at..end).unwrap_or_default();
        let count = |quote: u8| inner.iter().filter(|byte| **byte == quote).count();
        let clear = [b'\'', b'"', b'`'].iter().all(|quote| count(*quote) % 2 == 0) && count(b'\\') == 0;
        match clear {
            true => (Kind::BlockComment, end),
            false => self.broken(Flaw::QuotesInHint),
        }
    }
}

/// The first version that reads `$$…$$` for certain.
const DOLLAR_QUOTES_SINCE: u32 = 90_000;

/// `my_isspace`
fn is_space(byte: u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | b' ')
}

/// What must follow two dashes: white space or a control character, or the end of the text.
fn ends_dashes(byte: u8) -> bool {
    byte <= b' ' || byte == 0x7f
}

/// `ident_map`
fn in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// Tables of what the servers make of a text: every line was tried on MySQL 9.7.4 and MariaDB 10.11.19.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::statement::LexicalMode;

    fn of(product: Product) -> MySqlMode {
        MySqlMode::of(product, if product == Product::MySql { 90_704 } else { 101_119 })
    }

    fn shape(text: &str, mode: MySqlMode) -> String {
        let letter = |token: Token| {
            let kind = match token.kind {
                Kind::Word => "w",
                Kind::QuotedName => "q",
                Kind::String(StringKind::Plain) => "s",
                Kind::String(_) => "S",
                Kind::Number => "n",
                Kind::Parameter => "p",
                Kind::Variable => "v",
                Kind::Operator => "o",
                Kind::Punctuation(_) => "",
                Kind::LineComment => "lc",
                Kind::BlockComment => "bc",
                Kind::ExecutableOpen => "xo",
                Kind::ExecutableClose => "xc",
                Kind::Junk => "junk",
                Kind::Stray => "stray",
                Kind::Broken(_) => "broken",
            };
            format!("{kind}[{}]", token.text(text))
        };
        Lexer::new(text, LexicalMode::MySql(mode)).map(letter).collect::<Vec<_>>().join(" ")
    }

    fn both(text: &str, expected: &str) {
        for product in [Product::MySql, Product::MariaDb] {
            assert_eq!(shape(text, of(product)), expected, "{text} on {product:?}");
        }
    }

    fn apart(text: &str, mysql: &str, mariadb: &str) {
        assert_eq!(shape(text, of(Product::MySql)), mysql, "{text} on MySQL");
        assert_eq!(shape(text, of(Product::MariaDb)), mariadb, "{text} on MariaDB");
    }

    #[test]
    fn words_numbers_and_dots() {
        both("a$1 _b é 1abc", "w[a$1] w[_b] w[é] w[1abc]");
        both("1 1.5 .5 5. 1e5 1E+5 1.e5 0x1F 0b01", "n[1] n[1.5] n[.5] n[5.] n[1e5] n[1E+5] n[1.e5] n[0x1F] n[0b01]");
        both("0X1F 0x 0b2 1e 1ex 0x1g", "w[0X1F] w[0x] w[0b2] w[1e] w[1ex] w[0x1g]");
        both("1e+x", "w[1e] [+] w[x]");
        both("t.1a t.5 t.1e5 a.select", "w[t] [.] w[1a] w[t] [.] w[5] w[t] [.] w[1e5] w[a] [.] w[select]");
        both("`t`.1a t .5", "q[`t`] n[.1] w[a] w[t] n[.5]");
        both("1.5abc", "n[1.5] w[abc]");
        both("1.5e; x", "broken[1.5e; x]");
        apart("1..5", "n[1.] n[.5]", "n[1] o[..] n[5]");
        apart(r"\N", r"stray[\] w[N]", r"w[\N]");
        apart("a->>b", "w[a] o[->>] w[b]", "w[a] [-] o[>>] w[b]");
    }

    #[test]
    fn strings_names_and_variables() {
        both(r"'a\'b' 'a''b' 'a' 'b'", r"s['a\'b'] s['a''b'] s['a'] s['b']");
        both(r#""a\"b" `a\` `a``b`"#, r#"s["a\"b"] q[`a\`] q[`a``b`]"#);
        both("n'a' _utf8mb4'b' x'1F' b'01'", "w[n] s['a'] w[_utf8mb4] s['b'] S[x'1F'] S[b'01']");
        both("x'1' y", "broken[x'1' y]");
        both("'a", "broken['a]");
        both(r"'a\'", r"broken['a\']");
        both("@a.b @'c d' @`e` @@f @@global.g @ h", "v[@a.b] v[@'c d'] v[@`e`] v[@@f] v[@@global] [.] w[g] v[@] w[h]");
        both("@x:=5 @@ y", "v[@x] o[:=] n[5] broken[@@ y]");
        both("? ?x", "p[?] stray[?] w[x]");
        apart("$a $$;$$", "w[$a] S[$$;$$]", "w[$a] w[$$] [;] w[$$]");
        apart("$a$ ; $a$", "S[$a$ ; $a$]", "w[$a$] [;] w[$a$]");
        apart("$a$ $$a$ $a$", "S[$a$ $$a$ $a$]", "w[$a$] w[$$a$] w[$a$]");
        let escapes = MySqlMode { no_backslash_escapes: true, ..of(Product::MySql) };
        assert_eq!(shape(r"'a\' b", escapes), r"s['a\'] w[b]");
        let ansi = MySqlMode { ansi_quotes: true, ..of(Product::MySql) };
        assert_eq!(shape(r#""a\" b"#, ansi), r#"q["a\"] w[b]"#);
        let oracle = MySqlMode { unknown: true, ..of(Product::MariaDb) };
        assert_eq!(shape("a b", oracle), "broken[a b]");
    }

    #[test]
    fn signs() {
        both("a<=>b<<c!=d<>e>=f>>g", "w[a] o[<=>] w[b] o[<<] w[c] o[!=] w[d] o[<>] w[e] o[>=] w[f] o[>>] w[g]");
        both("a||b&&c|d&e", "w[a] o[||] w[b] o[&&] w[c] [|] w[d] [&] w[e]");
        apart("a=!b", "w[a] junk[=!] w[b]", "w[a] [=] [!] w[b]");
        both("{d '1'}", "[{] w[d] s['1'] [}]");
        both("a\u{1}", "w[a] stray[\u{1}]");
    }

    #[test]
    fn comments_end_where_the_server_ends_them() {
        both("1 --1", "n[1] [-] [-] n[1]");
        both("1 -- x\r;\n2", "n[1] lc[-- x\r;] n[2]");
        both("1 --", "n[1] lc[--]");
        both("1 --\u{1}x", "n[1] lc[--\u{1}x]");
        both("1 # x\n2", "n[1] lc[# x] n[2]");
        both("1 /* /* */ 2", "n[1] bc[/* /* */] n[2]");
        both("/*/ 1 */ 2", "bc[/*/ 1 */] n[2]");
        both("/* ' */ 1", "bc[/* ' */] n[1]");
        both("1 */* x */ 2", "n[1] [*] bc[/* x */] n[2]");
        both("1 /* 2", "n[1] broken[/* 2]");
        both("/*+ a(`b`) */ 1", "bc[/*+ a(`b`) */] n[1]");
        both("/*+ a(`*/ ') */ 1", "broken[/*+ a(`*/ ') */ 1]");
        both("/* \0 */ 1", "broken[/* \0 */ 1]");
    }

    #[test]
    fn executable_comments_are_code_where_the_server_executes_them() {
        both("/*! a */ b", "xo[/*!] w[a] xc[*/] w[b]");
        both("/*!40101 a*/b", "xo[/*!40101] w[a] xc[*/] w[b]");
        both("/*!1234 a*/", "xo[/*!] n[1234] w[a] xc[*/]");
        both("/*! a '*/' */", "xo[/*!] w[a] s['*/'] xc[*/]");
        both("/*! a /* b */ c */ d", "xo[/*!] w[a] bc[/* b */] w[c] xc[*/] w[d]");
        both("/*! a /*! b */ c */", "xo[/*!] w[a] xo[/*!] w[b] xc[*/] w[c] [*] [/]");
        both("/*! a /*!99999 b */ c */", "xo[/*!] w[a] bc[/*!99999 b */] w[c] xc[*/]");
        both("/*!99999 a /* b */ ' */ c", "bc[/*!99999 a /* b */ ' */] w[c]");
        both("/*!99999 a /* b */", "broken[/*!99999 a /* b */]");
        both("/*! a", "xo[/*!] w[a] broken[]");
        both("/*! a -- */", "xo[/*!] w[a] lc[-- */] broken[]");
        apart("/*!50700 a */", "xo[/*!50700] w[a] xc[*/]", "bc[/*!50700 a */]");
        apart("/*!90704 a */", "xo[/*!90704] w[a] xc[*/]", "bc[/*!90704 a */]");
        both("/*!90705 a */", "bc[/*!90705 a */]");
        apart("/*!080000 a */", "xo[/*!080000] w[a] xc[*/]", "bc[/*!080000 a */]");
        apart("/*!101119 a */", "bc[/*!101119 a */]", "xo[/*!101119] w[a] xc[*/]");
        apart("/*!101119a*/", "broken[/*!101119a*/]", "xo[/*!101119] w[a] xc[*/]");
        both("/*!101120 a */", "bc[/*!101120 a */]");
        apart("/*M! a */", "bc[/*M! a */]", "xo[/*M!] w[a] xc[*/]");
        apart("/*M!50701 a */", "bc[/*M!50701 a */]", "xo[/*M!50701] w[a] xc[*/]");
        both("/*M!999999\\- x */", "bc[/*M!999999\\- x */]");
        apart("/*!99997*/ a", "bc[/*!99997*/] w[a]", "bc[/*!99997*/] w[a]");
        apart("/*!99997 b*/ a", "bc[/*!99997 b*/] w[a]", "broken[/*!99997 b*/ a]");
        let unknown = MySqlMode { version: 0, ..of(Product::MySql) };
        assert_eq!(shape("a /*!40101 b */", unknown), "w[a] broken[/*!40101 b */]");
        assert_eq!(shape("a /*! b */", unknown), "w[a] xo[/*!] w[b] xc[*/]");
    }
}
