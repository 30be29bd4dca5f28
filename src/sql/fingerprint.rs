//! Texts for the record: a fingerprint that is the same for all statements of one shape, and the text without its literals.
//!
//! Invariant: [`redact`] never lets the inside of a literal through, comments included, even when the text is broken, and never
//! grows past its bound.

use crate::ground::limits;
use crate::sql::dialect;
use crate::sql::lexer::{Kind, Lexer};
use crate::sql::statement::LexicalMode;
use sha2::{Digest, Sha256};

/// Sixteen hexadecimal digits. A text that the authority cannot read is fingerprinted by its redacted text, marked with an `x`.
///
/// MySQL's shapes are their tokens: words in lower case, `?` for every literal, and one `?` for a list of them.
pub fn fingerprint(text: &str, mode: LexicalMode) -> String {
    if mode.product().is_mysql() {
        return of_tokens(text, mode);
    }
    let readable = text.len() <= limits::SQL_FINGERPRINT_BYTES_MAX && !text.contains('\0');
    let found = if readable { dialect::fingerprint(text, mode).ok() } else { None };
    found.unwrap_or_else(|| {
        let digest = Sha256::digest(redact(text, mode));
        format!("x{}", hex(&digest))
    })
}

fn of_tokens(text: &str, mode: LexicalMode) -> String {
    let (mut digest, mut broken) = (Sha256::new(), text.len() > limits::SQL_FINGERPRINT_BYTES_MAX);
    let mut shape = Shape::default();
    // A long text is known by its beginning, as its redacted text is.
    for token in Lexer::new(text, mode).take_while(|token| token.start < limits::SQL_FINGERPRINT_BYTES_MAX) {
        broken |= matches!(token.kind, Kind::Broken(_) | Kind::Junk | Kind::Stray);
        if token.is_comment() {
            continue;
        }
        match is_literal(token.kind) || token.kind == Kind::Parameter {
            true => shape.value(&mut digest),
            false => shape.word(&mut digest, &token.text(text).to_lowercase()),
        }
    }
    shape.end(&mut digest);
    format!("{}{}", if broken { "x" } else { "" }, hex(&digest.finalize()))
}

/// Leaves out what only makes a list of values longer: `?, ?` is `?`, and `(?), (?)` is `(?)`.
#[derive(Default)]
struct Shape {
    /// What was read of a list since its last value: nothing, `,`, `)`, `),` or `), (`.
    waiting: &'static str,
    in_list: bool,
}

impl Shape {
    fn value(&mut self, digest: &mut impl Digest) {
        let goes_on = self.in_list && matches!(self.waiting, "," | ") , (");
        if !goes_on {
            self.end(digest);
            digest.update("? ");
        }
        (self.in_list, self.waiting) = (true, "");
    }

    fn word(&mut self, digest: &mut impl Digest, word: &str) {
        let waiting = match (self.waiting, word) {
            ("", ",") => ",",
            ("", ")") => ")",
            (")", ",") => ") ,",
            (") ,", "(") => ") , (",
            _ => "",
        };
        if self.in_list && !waiting.is_empty() {
            self.waiting = waiting;
            return;
        }
        self.end(digest);
        digest.update(word);
        digest.update(" ");
    }

    fn end(&mut self, digest: &mut impl Digest) {
        digest.update(std::mem::take(&mut self.waiting));
        digest.update(" ");
        self.in_list = false;
    }
}

fn hex(digest: &[u8]) -> String {
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// What may hold values: names and signs are shown.
fn is_literal(kind: Kind) -> bool {
    matches!(kind, Kind::String(_) | Kind::Number | Kind::Junk | Kind::Broken(_))
}

/// The text with `?` for every literal, comments and runs of white space made single spaces, cut at the bound with a `…`.
pub fn redact(text: &str, mode: LexicalMode) -> String {
    let mut redacted = String::new();
    let mut previous_end = 0;
    for token in Lexer::new(text, mode) {
        if token.is_comment() {
            continue;
        }
        let written = if is_literal(token.kind) { "?" } else { token.text(text) };
        let space = usize::from(!redacted.is_empty() && token.start != previous_end);
        if redacted.len() + space + written.len() > limits::SQL_REDACTED_BYTES_MAX {
            redacted.push('…');
            break;
        }
        redacted.extend((space == 1).then_some(' '));
        redacted.push_str(written);
        previous_end = token.end;
    }
    redacted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::statement::{MySqlMode, Product};

    #[test]
    fn mysql_has_literals_of_its_own() {
        let mode = LexicalMode::MySql(MySqlMode::of(Product::MySql, 90_704));
        for (text, expected) in [
            ("SELECT \"secret\", x'5E', 0x5E, _utf8'a', N'b', `c` # secret", "SELECT ?, ?, ?, _utf8?, N?, `c`"),
            ("SELECT 1 /*! + 2 */ /*!99999 secret */", "SELECT ? + ?"),
            ("SET @a = 'secret'", "SET @a = ?"),
            ("SELECT 'a\\' secret' FROM t", "SELECT ? FROM t"),
        ] {
            assert_eq!(redact(text, mode), expected, "{text}");
        }
        let of = |text| fingerprint(text, mode);
        let same = [
            ("SELECT * FROM t WHERE a = 1", "select  * from t where a='x' # z"),
            ("SELECT * FROM t WHERE a IN (1)", "SELECT * FROM t WHERE a IN (1, ?, 'c')"),
            ("INSERT INTO t VALUES (1, 2)", "INSERT INTO t VALUES (1, 2), (3, 4), (5, 6)"),
        ];
        for (one, other) in same {
            assert_eq!(of(one), of(other), "{one}");
        }
        for (one, other) in [
            ("SELECT * FROM t WHERE a = 1", "SELECT * FROM u WHERE a = 1"),
            ("SELECT f(1, a)", "SELECT f(1)"),
            ("SELECT f(1), (a)", "SELECT f(1)"),
            ("SELECT f(1),", "SELECT f(1)"),
            ("SELECT f(1), (2)", "SELECT f(1), 2"),
            ("SELECT ab", "SELECT a b"),
        ] {
            assert_ne!(of(one), of(other), "{one}");
        }
        assert!(of("SELECT 'open").starts_with('x') && !of("SELECT 1").starts_with('x'));
    }

    #[test]
    fn literals_are_taken_out() {
        let cases = [
            ("SELECT * FROM t WHERE a = 'x' AND b=1.5", "SELECT * FROM t WHERE a = ? AND b=?"),
            ("SELECT $$secret$$, E'a\\'b', $1 -- secret", "SELECT ?, ?, $1"),
            ("SELECT 'open", "SELECT ?"),
            ("SELECT /* secret */ 1", "SELECT ?"),
            ("SELECT 'a'\n 'secret'", "SELECT ?"),
        ];
        for (text, expected) in cases {
            assert_eq!(redact(text, LexicalMode::default()), expected, "{text}");
        }
        let long = format!("SELECT {}", "abc, ".repeat(100_000));
        assert!(redact(&long, LexicalMode::default()).len() <= limits::SQL_REDACTED_BYTES_MAX + '…'.len_utf8());
    }

    #[test]
    fn statements_of_one_shape_share_a_fingerprint() {
        let of = |text| fingerprint(text, LexicalMode::default());
        assert_eq!(of("SELECT * FROM t WHERE a = 1"), of("select * from t where a = 'x'"));
        assert_ne!(of("SELECT * FROM t WHERE a = 1"), of("SELECT * FROM u WHERE a = 1"));
        assert_eq!(of("SELEC 1"), of("SELEC 2"));
        assert!(of("SELEC 1").starts_with('x'));
    }
}
