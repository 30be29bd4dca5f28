//! Hints in comments: `/* sluice: max_affected=20000 script=x confirm=K7QF-2M9X reason="OPS 1204" */`, `-- sluice: key=value`.
//!
//! Invariant: only real comments count, as the lexer sees them; number and length are bounded, and what is past a bound or is not
//! `key=value` is left out, never cut short. A hint may ask for care or state consent; what it is worth is for the policy to say.

use crate::ground::limits;
use crate::sql::lexer::{Kind, Lexer};
use crate::sql::statement::LexicalMode;

/// The hints of a statement's text, in order.
pub fn hints(text: &str, mode: LexicalMode) -> Vec<(String, String)> {
    let comments = Lexer::new(text, mode).filter(|token| token.is_comment());
    let bodies = comments.filter_map(|token| body(token.kind, token.text(text)));
    bodies.flat_map(pairs).take(limits::SQL_HINTS_MAX).collect()
}

/// The text with every hint replaced by a space: what a statement says, whatever was said beside it.
pub fn without(text: &str, mode: LexicalMode) -> String {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    let comments = Lexer::new(text, mode).filter(|token| token.is_comment());
    for token in comments.filter(|token| body(token.kind, token.text(text)).is_some()) {
        let span = token.span();
        out.push_str(text.get(from..span.start).unwrap_or_default());
        out.push(' ');
        from = span.end;
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out.trim().to_owned()
}

/// What follows `sluice:` in a comment that begins with it.
fn body(kind: Kind, comment: &str) -> Option<&str> {
    let inner = match kind {
        Kind::LineComment => comment.strip_prefix("--")?,
        _ => comment.strip_prefix("/*")?.strip_suffix("*/")?,
    };
    let inner = inner.trim_start();
    inner.get(..7).filter(|word| word.eq_ignore_ascii_case("sluice:"))?;
    inner.get(7..)
}

fn pairs(body: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = body.trim_start();
    while !rest.is_empty() && pairs.len() < limits::SQL_HINTS_MAX {
        let (pair, after) = pair(rest);
        pairs.extend(pair);
        rest = after.trim_start();
    }
    pairs
}

/// One `key=value` or `key="value"` and what comes after it.
fn pair(text: &str) -> (Option<(String, String)>, &str) {
    let word_end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (word, after_word) = text.split_at(word_end);
    let Some((key, value)) = word.split_once('=') else {
        return (None, after_word);
    };
    let quoted = value.starts_with('"').then(|| text.get(key.len() + 2..)).flatten();
    let (value, after) = match quoted.and_then(|inner| inner.split_once('"')) {
        Some((value, after)) => (value, after),
        None => (value, after_word),
    };
    let key_is_name =
        !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    let fits =
        key_is_name && value.len() <= limits::SQL_HINT_VALUE_BYTES_MAX && key.len() <= limits::SQL_HINT_VALUE_BYTES_MAX;
    (fits.then(|| (key.to_ascii_lowercase(), String::from(value))), after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str)]) {
        let found = hints(text, LexicalMode::default());
        let found: Vec<(&str, &str)> = found.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn hints_are_read_from_comments_only() {
        check(
            "DELETE FROM t /* sluice: max_affected=20000 script=x confirm=K7QF-2M9X reason=\"OPS 1204\" */",
            &[("max_affected", "20000"), ("script", "x"), ("confirm", "K7QF-2M9X"), ("reason", "OPS 1204")],
        );
        check("-- sluice: a=1\nDELETE FROM t -- SLUICE: B=2", &[("a", "1"), ("b", "2")]);
        check("SELECT '/* sluice: a=1 */'", &[]);
        check("SELECT $$-- sluice: a=1\n$$", &[]);
        check("SELECT 1 /* about sluice: a=1 */", &[]);
        check("SELECT 1 /* sluice: a=\"open b=2 */", &[("a", "\"open"), ("b", "2")]);
        check("SELECT 1 /* sluice: =1 é=2 x */", &[]);
        check(&format!("/* sluice: a={} b=1 */", "x".repeat(1000)), &[("b", "1")]);
        assert_eq!(
            hints(&format!("/* sluice: {} */", "a=1 ".repeat(1000)), LexicalMode::default()).len(),
            limits::SQL_HINTS_MAX
        );
    }
}
