//! Subqueries without their locking clauses. A worker takes its next jobs by `DELETE … WHERE id IN (SELECT id … FOR UPDATE SKIP LOCKED
//! LIMIT 10)`; questions are read-only, where nothing can be locked, and what they ask is not changed by leaving the lock out: without
//! SKIP LOCKED a subquery yields no fewer rows up to its limit.
//!
//! Invariant: only `FOR UPDATE`, `FOR NO KEY UPDATE`, `FOR SHARE` and `FOR KEY SHARE` with what belongs to them goes, and only directly in
//! parentheses that begin with SELECT or WITH: in `substring(a FOR update)` the last word is a column.
//!
//! Of MySQL's and MariaDB's, `LOCK IN SHARE MODE` goes as well, and MariaDB's `WAIT 5`.
//!
//! Source: PostgreSQL's `gram.y` (15, 18), `for_locking_item`; `locking_clause` in MySQL's `sql_yacc.yy` (9.7), `select_lock_type` in
//! MariaDB's (10.11).

use crate::sql::lexer::{Kind, Lexer, Token};
use crate::sql::statement::LexicalMode;

pub fn without_locks(text: &str, mode: LexicalMode) -> String {
    let mut tokens: Vec<Token> = Lexer::new(text, mode).collect();
    // A clause could begin or end inside of an executable comment: such a text stays as it is.
    if tokens.iter().any(|token| matches!(token.kind, Kind::ExecutableOpen | Kind::ExecutableClose)) {
        return text.to_owned();
    }
    tokens.retain(|token| !token.is_comment());
    let mut out = String::with_capacity(text.len());
    let (mut from, mut at) = (0, 0);
    // For each open parenthesis, whether it holds a query.
    let mut open = Vec::new();
    while let Some(token) = tokens.get(at) {
        let ahead = tokens.get(at..).unwrap_or_default();
        if token.is(b'(') {
            open.push(["select", "with"].iter().any(|word| is_word(text, ahead.get(1), word)));
        } else if token.is(b')') {
            open.pop();
        } else if open.last() == Some(&true)
            && let Some(length) = lock(text, ahead)
        {
            out.push_str(text.get(from..token.span().start).unwrap_or_default());
            from = ahead.get(length - 1).map_or(text.len(), |last| last.span().end);
            at += length;
            continue;
        }
        at += 1;
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out
}

/// How many of these tokens, from the first on, are a locking clause: two at least.
fn lock(text: &str, tokens: &[Token]) -> Option<usize> {
    const STRENGTHS: &[&[&str]] = &[
        &["for", "update"],
        &["for", "no", "key", "update"],
        &["for", "share"],
        &["for", "key", "share"],
        // In PostgreSQL these four cannot follow one another in a query.
        &["lock", "in", "share", "mode"],
    ];
    let begins = |words: &&&[&str]| words.iter().enumerate().all(|(at, word)| is_word(text, tokens.get(at), word));
    let mut length = STRENGTHS.iter().find(begins)?.len();
    if is_word(text, tokens.get(length), "of") {
        length += 1 + names(tokens.get(length + 1..)?)?;
    }
    let second = tokens.get(length + 1);
    let waits = is_word(text, tokens.get(length), "wait") && second.is_some_and(|token| token.kind == Kind::Number);
    let skips = is_word(text, tokens.get(length), "skip") && is_word(text, second, "locked");
    if is_word(text, tokens.get(length), "nowait") {
        length += 1;
    } else if waits || skips {
        length += 2;
    }
    Some(length)
}

/// How many of these tokens are a list of names, dotted or not.
fn names(tokens: &[Token]) -> Option<usize> {
    let is_name = |at: usize| tokens.get(at).is_some_and(|token| matches!(token.kind, Kind::Word | Kind::QuotedName));
    let mut length = 0;
    while is_name(length) {
        length += 1;
        if !tokens.get(length).is_some_and(|token| token.is(b',') || token.is(b'.')) {
            return Some(length);
        }
        length += 1;
    }
    None
}

fn is_word(text: &str, token: Option<&Token>, word: &str) -> bool {
    token.is_some_and(|token| token.is_word(text, word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::statement::{MySqlMode, Product};

    #[test]
    fn locks_go_and_nothing_else_does() {
        let cases = [
            (
                "WHERE id IN (SELECT id FROM q ORDER BY id FOR UPDATE SKIP LOCKED LIMIT 3)",
                "WHERE id IN (SELECT id FROM q ORDER BY id LIMIT 3)",
            ),
            (
                "WHERE id = (select id from q limit 1 for no key update of q, s.\"R\" nowait)",
                "WHERE id = (select id from q limit 1 )",
            ),
            (
                "WITH c AS (SELECT 1 FROM q FOR KEY SHARE FOR /* x */ SHARE OF q), d AS (SELECT 2)",
                "WITH c AS (SELECT 1 FROM q ), d AS (SELECT 2)",
            ),
            (
                "WHERE a = (WITH x AS (SELECT 1 FOR UPDATE) SELECT 1 FROM x FOR UPDATE)",
                "WHERE a = (WITH x AS (SELECT 1 ) SELECT 1 FROM x )",
            ),
            ("WHERE substring(a FOR update) = 'x'", "WHERE substring(a FOR update) = 'x'"),
            ("WHERE a = (SELECT substring(b FROM 1 FOR share))", "WHERE a = (SELECT substring(b FROM 1 FOR share))"),
            ("WHERE a = ' (select for update) ' AND for_update", "WHERE a = ' (select for update) ' AND for_update"),
            ("FOR UPDATE", "FOR UPDATE"),
            ("(SELECT 1 FOR UPDATE OF 1)", "(SELECT 1 FOR UPDATE OF 1)"),
            (")) (SELECT a \"for\" update", ")) (SELECT a \"for\" update"),
        ];
        for (text, expected) in cases {
            let got = without_locks(text, LexicalMode::default());
            let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(flat(&got), flat(expected), "{text}");
        }
    }

    #[test]
    fn mysql_locks_go_too() {
        let mode = LexicalMode::MySql(MySqlMode::of(Product::MariaDb, 101_119));
        let cases = [
            ("a IN (SELECT a FROM `q` LOCK IN SHARE MODE)", "a IN (SELECT a FROM `q` )"),
            ("a IN (SELECT a FROM q FOR UPDATE WAIT 5)", "a IN (SELECT a FROM q )"),
            ("a = (SELECT a FROM q LIMIT 1 FOR SHARE OF `q`, r SKIP LOCKED)", "a = (SELECT a FROM q LIMIT 1 )"),
            ("a = (SELECT a FROM q LOCK IN SHARE MODE SKIP LOCKED)", "a = (SELECT a FROM q )"),
            ("a = (SELECT a /*! FROM q FOR */ UPDATE)", "a = (SELECT a /*! FROM q FOR */ UPDATE)"),
            ("a = (SELECT '#' FROM q # for update\n)", "a = (SELECT '#' FROM q # for update\n)"),
            ("a = (SELECT SUBSTRING(b FROM 1 FOR 2) FROM q)", "a = (SELECT SUBSTRING(b FROM 1 FOR 2) FROM q)"),
        ];
        for (text, expected) in cases {
            assert_eq!(without_locks(text, mode), expected, "{text}");
        }
    }
}
