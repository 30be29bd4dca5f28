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

/// The text with every hint replaced by a space: what a statement says, whatever was said beside it. Where the space would make a
/// comment of two dashes before it (to MySQL those alone are none), by an empty comment.
pub fn without(text: &str, mode: LexicalMode) -> String {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    let comments = Lexer::new(text, mode).filter(|token| token.is_comment());
    for token in comments.filter(|token| body(token.kind, token.text(text)).is_some()) {
        let span = token.span();
        out.push_str(text.get(from..span.start).unwrap_or_default());
        out.push_str(if out.ends_with('-') { "/**/" } else { " " });
        from = span.end;
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out.trim().to_owned()
}

/// In words, the first hint that is none: nothing is run with a wish of its sender's left out.
pub fn wrong(text: &str, mode: LexicalMode) -> Option<String> {
    let named = |at: usize| text.as_bytes().get(at.checked_sub(6)?..at);
    let may_hold = memchr::memchr_iter(b':', text.as_bytes())
        .any(|at| named(at).is_some_and(|word| word.eq_ignore_ascii_case(b"sluice")));
    if !may_hold {
        return None;
    }
    let comments = Lexer::new(text, mode).filter(|token| token.is_comment());
    comments.filter_map(|token| body(token.kind, token.text(text))).find_map(wrong_in)
}

fn wrong_in(body: &str) -> Option<String> {
    let mut rest = body.trim_start();
    for _ in 0..limits::SQL_HINTS_MAX {
        if rest.is_empty() {
            return None;
        }
        let (found, after) = pair(rest);
        let word = || rest.split_whitespace().next().unwrap_or_default().chars().take(40).collect::<String>();
        match found {
            None => return Some(format!("\"{}\" is not of the form key=value, without spaces around =", word())),
            Some((key, _)) if !KNOWN.contains(&key.as_str()) => {
                let near = KNOWN.iter().find(|known| strsim::damerau_levenshtein(known, &key) <= known.len() / 3);
                let meant = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
                return Some(format!("no hint is called \"{}\"{meant}", key.chars().take(40).collect::<String>()));
            }
            Some((key, value)) if key == "max_affected" && value.parse::<u64>().is_err() => {
                return Some(format!(
                    "max_affected is a number of rows, not \"{}\"",
                    value.chars().take(40).collect::<String>()
                ));
            }
            Some(_) => {}
        }
        rest = after.trim_start();
    }
    (!rest.is_empty()).then(|| format!("a comment holds more than {} hints", limits::SQL_HINTS_MAX))
}

/// All that is heeded.
pub const KNOWN: [&str; 6] = ["max_affected", "confirm", "reason", "script", "step", "rerun"];

/// What follows `sluice:` in a comment that begins with it.
fn body(kind: Kind, comment: &str) -> Option<&str> {
    let inner = match kind {
        Kind::LineComment => comment.strip_prefix("--").or_else(|| comment.strip_prefix('#'))?,
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
    use crate::sql::statement::{MySqlMode, Product};

    #[test]
    fn mysql_has_comments_of_its_own() {
        let mode = LexicalMode::MySql(MySqlMode::of(Product::MySql, 90_704));
        for (text, expected) in [
            ("#sluice: a=1\nDELETE FROM t # sluice: b=2", vec!["a", "b"]),
            ("DELETE FROM t -- sluice: a=1", vec!["a"]),
            ("DELETE FROM t --sluice: a=1", vec![]),
            ("/*! sluice: a=1 */", vec![]),
            ("/*!99999 sluice: a=1 */ /*+ sluice: a=1 */", vec![]),
            ("/*! DELETE FROM t /* sluice: a=1 */ */", vec!["a"]),
            ("SELECT `/* sluice: a=1 */`, \"# sluice: a=1\"", vec![]),
        ] {
            let found: Vec<String> = hints(text, mode).into_iter().map(|(key, _)| key).collect();
            assert_eq!(found, expected, "{text}");
        }
        assert_eq!(without("SELECT 1 # sluice: a=1\n, 2", mode), "SELECT 1  \n, 2");
        assert_eq!(without("SELECT 1 --/* sluice: a=1 */2", mode), "SELECT 1 --/**/2");
        assert!(wrong("#sluice: x\nSELECT 1", mode).is_some());
    }

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

    #[test]
    fn what_is_no_hint_is_said() {
        let said = |hint: &str| wrong(&format!("DELETE FROM t /* sluice: {hint} */"), LexicalMode::default());
        for (hint, words) in [
            ("max_afected=10", "did you mean max_affected?"),
            ("max_affected=ten", "number of rows"),
            ("max_affected=10,reason=x", "number of rows"),
            ("max_affected = 10", "key=value"),
            ("please", "key=value"),
            ("colour=red", "no hint is called"),
        ] {
            assert!(said(hint).is_some_and(|told| told.contains(words)), "{hint}: {:?}", said(hint));
        }
        for hint in ["", "max_affected=10 reason=\"a b, c\" script=s step=1 rerun=yes", "confirm=K7QF-2M9X"] {
            assert_eq!(said(hint), None, "{hint}");
        }
        assert_eq!(wrong("SELECT '/* sluice: x */'", LexicalMode::default()), None);
    }
}
