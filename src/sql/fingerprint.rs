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
pub fn fingerprint(text: &str, mode: LexicalMode) -> String {
    let readable = text.len() <= limits::SQL_FINGERPRINT_BYTES_MAX && !text.contains('\0');
    let found = if readable { dialect::fingerprint(text, mode).ok() } else { None };
    found.unwrap_or_else(|| {
        let digest = Sha256::digest(redact(text, mode));
        let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("x{hex}")
    })
}

/// The text with `?` for every literal, comments and runs of white space made single spaces, cut at the bound with a `…`.
pub fn redact(text: &str, mode: LexicalMode) -> String {
    let mut redacted = String::new();
    let mut previous_end = 0;
    for token in Lexer::new(text, mode) {
        let written = match token.kind {
            Kind::LineComment | Kind::BlockComment => continue,
            Kind::String(_) | Kind::Number | Kind::Junk | Kind::Broken(_) => "?",
            _ => token.text(text),
        };
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
