//! Words by which a text reads the clock, and the same text with one moment in their place.
//!
//! Invariant: a statement that is carried out in several transactions must mean in each what it would have meant in one: `now()` is the
//! transaction's beginning, so it is pinned. What reads a clock in a way that is not pinned here gives no text at all.
//!
//! Source: PostgreSQL manual, "Current Date/Time"; tried on 15 and 18.

use crate::sql::lexer::{Kind, Lexer, Token};
use crate::sql::statement::LexicalMode;

/// The text with every reading of the transaction's time replaced by `moment`, an expression of type `timestamptz`. `None` where it
/// reads a clock in another way, or may.
pub fn pinned(text: &str, mode: LexicalMode, moment: &str) -> Option<String> {
    let tokens: Vec<Token> = Lexer::new(text, mode).filter(|token| !token.is_comment()).collect();
    let mut out = String::with_capacity(text.len());
    let (mut from, mut at) = (0, 0);
    while let Some(token) = tokens.get(at) {
        let taken = match token.kind {
            Kind::String(_) if names_a_moment(token.text(text)) => return None,
            Kind::Word => clock(&tokens, at, text, moment)?,
            _ => None,
        };
        let Some((first, last, expression)) = taken else {
            at += 1;
            continue;
        };
        out.push_str(text.get(from..tokens.get(first)?.span().start)?);
        out.push_str(&expression);
        from = tokens.get(last)?.span().end;
        at = last + 1;
    }
    out.push_str(text.get(from..)?);
    Some(out)
}

/// Whether one reads the clock at this token: the tokens to be replaced, and by what. Outer `None`: it cannot be pinned.
type Taken = (usize, usize, String);

#[allow(clippy::option_option)]
fn clock(tokens: &[Token], at: usize, text: &str, moment: &str) -> Option<Option<Taken>> {
    let is = |at: usize, mark: u8| tokens.get(at).is_some_and(|token| token.is(mark));
    let word = tokens.get(at)?.text(text).to_ascii_lowercase();
    let dotted = at > 0 && is(at - 1, b'.');
    let calls = is(at + 1, b'(');
    // `pg_catalog.now()` is the same function; another schema's is not ours to know.
    let first = match dotted && at > 1 && tokens.get(at - 2)?.text(text).trim_matches('"') == "pg_catalog" {
        true => at - 2,
        false => at,
    };
    match word.as_str() {
        "now" | "transaction_timestamp" | "statement_timestamp" if calls => match is(at + 2, b')') {
            true if !dotted || first != at => Some(Some((first, at + 2, format!("({moment})")))),
            _ => None,
        },
        "clock_timestamp" | "timeofday" if calls => None,
        _ if dotted => Some(None),
        "current_timestamp" if !calls => Some(Some((at, at, format!("({moment})")))),
        "current_date" => Some(Some((at, at, format!("(CAST({moment} AS pg_catalog.date))")))),
        "current_timestamp" | "current_time" | "localtime" | "localtimestamp" => None,
        _ => Some(None),
    }
}

/// `'now'`, `'00:00 today'`… are read when the statement begins, where a date is expected. A short word beside it may belong to a date;
/// a text of longer words is none.
fn names_a_moment(literal: &str) -> bool {
    let inside = literal.to_ascii_lowercase();
    let inside = inside.trim_start_matches(['e', 'u', '&']);
    let words: Vec<&str> = inside.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let names = |word: &&str| matches!(*word, "now" | "today" | "tomorrow" | "yesterday");
    let short = |word: &&str| names(word) || word.len() <= 4 || word.bytes().any(|byte| byte.is_ascii_digit());
    words.iter().any(names) && words.iter().all(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reads_the_clock_is_pinned_or_refused() {
        const MODE: LexicalMode = LexicalMode::Postgres { standard_conforming_strings: true };
        for (text, expected) in [
            ("a < now() - interval '90 days'", Some("a < (M) - interval '90 days'")),
            ("a = NOW ( )", Some("a = (M)")),
            ("a = pg_catalog.now() AND b = current_timestamp", Some("a = (M) AND b = (M)")),
            ("a < CURRENT_DATE - 30", Some("a < (CAST(M AS pg_catalog.date)) - 30")),
            ("now = 1 AND t.now = 2 AND t.current_date = 3", Some("now = 1 AND t.now = 2 AND t.current_date = 3")),
            ("a = 'whatever we do now'", Some("a = 'whatever we do now'")),
            ("a < '00:00 today'", None),
            ("a < x.now()", None),
            ("a < current_timestamp(3)", None),
            ("a < localtimestamp", None),
            ("a < clock_timestamp()", None),
            ("a < 'now'::timestamptz", None),
            ("a < E'Yesterday 12:00'", None),
            ("a = 1 /* now() */ -- now()", Some("a = 1 /* now() */ -- now()")),
        ] {
            assert_eq!(pinned(text, MODE, "M").as_deref(), expected, "{text}");
        }
    }
}
