//! What a statement says, however it is laid out: its tokens, without white space, comments (hints among them), the case of bare words
//! and the semicolons behind it.
//!
//! Invariant: two texts with the same tokens are the same statement to the server's grammar, which sees nothing else (scan.l; string
//! literals and quoted names count as written, continued ones with the white space between their parts). Literals are kept: another
//! value is another statement.

use crate::sql::lexer::{Kind, Lexer, Token};
use crate::sql::statement::LexicalMode;

/// Hands over one token after the other. MySQL's grammar sees a little more than the tokens: whether letters of a table's name count is
/// for the server's settings, so words stay as written; and a word may mean something else right before a parenthesis or a string
/// (`count(x)`, `N'x'`), so what stands apart from it there says so.
pub fn each(text: &str, mode: LexicalMode, mut take: impl FnMut(&[u8])) {
    let mysql = mode.product().is_mysql();
    let mut word_end = None;
    let mut ends = 0usize;
    for token in Lexer::new(text, mode).filter(|token| !token.is_comment()) {
        if token.is(b';') {
            ends += 1;
            continue;
        }
        // Those within it (the statements of a function's body) separate something.
        (0..std::mem::take(&mut ends)).for_each(|_| take(b";"));
        let apart = mysql && (token.is(b'(') || matches!(token.kind, Kind::String(_))) && word_end < Some(token.start);
        let mut bytes = if apart && word_end.is_some() { vec![b' '] } else { Vec::new() };
        bytes.extend(said(&token, text, mysql));
        take(&bytes);
        word_end = (token.kind == Kind::Word).then_some(token.end);
    }
}

/// Whether two texts say the same.
pub fn same(one: &str, other: &str, mode: LexicalMode) -> bool {
    let tokens = |text: &str| {
        let mut tokens = Vec::new();
        each(text, mode, |token| tokens.push(token.to_vec()));
        tokens
    };
    one == other || tokens(one) == tokens(other)
}

fn said(token: &Token, text: &str, mysql: bool) -> Vec<u8> {
    let mut bytes = token.text(text).as_bytes().to_vec();
    if token.kind == Kind::Word && !mysql {
        bytes.make_ascii_lowercase();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::statement::{MySqlMode, Product};

    fn of(text: &str) -> Vec<String> {
        let mut tokens = Vec::new();
        each(text, LexicalMode::default(), |token| tokens.push(String::from_utf8_lossy(token).into_owned()));
        tokens
    }

    #[test]
    fn layout_comments_and_case_are_not_part_of_it() {
        let plain = of("DELETE FROM carts WHERE note = 'old'");
        for text in [
            "delete\n\tfrom   carts\r\nwhere note='old'",
            "/* nightly */ DELETE FROM carts -- all of them\nWHERE note = 'old' ; ;",
            "/* sluice: script=s step=1 */ DELETE FROM Carts WHERE Note = 'old';",
        ] {
            assert_eq!(of(text), plain, "{text}");
        }
    }

    #[test]
    fn mysql_sees_a_little_more() {
        let mode = LexicalMode::MySql(MySqlMode::of(Product::MySql, 90_704));
        let is_same = |one: &str, other: &str| same(one, other, mode);
        for other in [
            "DELETE  FROM t WHERE\ta='x' # all",
            "/*!50000 DELETE */ FROM t WHERE a /* sluice: confirm=x */ = 'x'",
            "DELETE FROM t WHERE a = 'x';",
        ] {
            assert!(is_same("DELETE FROM t WHERE a = 'x'", other), "{other}");
        }
        for (one, other) in [
            ("DELETE FROM t", "DELETE FROM T"),
            ("DELETE FROM t WHERE f(1)", "DELETE FROM t WHERE f (1)"),
            ("SELECT N'x'", "SELECT N 'x'"),
            ("DELETE FROM t", "DELETE FROM t /*! WHERE a = 1 */"),
            ("DELETE FROM t WHERE a --1", "DELETE FROM t WHERE a -- 1"),
            ("DELETE FROM t WHERE a = `b`.1c", "DELETE FROM t WHERE a = b.1c"),
        ] {
            assert!(!is_same(one, other), "{one}");
        }
        assert!(is_same("DELETE FROM t", "DELETE FROM t /*!99999 WHERE a = 1 */"));
    }

    #[test]
    fn what_means_something_else_is_something_else() {
        let pairs = [
            ("DELETE FROM t WHERE a = 'b'", "DELETE FROM t WHERE a = 'B'"),
            ("DELETE FROM t WHERE a = 'b  c'", "DELETE FROM t WHERE a = 'b c'"),
            ("DELETE FROM \"T\"", "DELETE FROM t"),
            ("DELETE FROM t WHERE a = 1", "DELETE FROM t WHERE a = 2"),
            ("DELETE FROM t WHERE a @- 1", "DELETE FROM t WHERE a @ -1"),
            ("DELETE FROM t WHERE a = $$--x$$", "DELETE FROM t WHERE a = $$$$"),
            ("DELETE FROM ab", "DELETE FROM a b"),
            (
                "CREATE RULE r AS ON INSERT TO t DO (DELETE FROM a; DELETE FROM b)",
                "CREATE RULE r AS ON INSERT TO t DO (DELETE FROM a DELETE FROM b)",
            ),
        ];
        for (one, other) in pairs {
            assert_ne!(of(one), of(other), "{one}");
        }
    }

    #[test]
    fn a_hint_may_stand_anywhere_and_other_statements_differ() {
        let shown = "DELETE FROM carts WHERE note = 'old'";
        let is_same = |text: &str| same(shown, text, LexicalMode::default());
        for text in [
            "/* sluice: confirm=K7QF-2M9X */ DELETE FROM carts WHERE note = 'old'",
            "DELETE FROM carts /* sluice: confirm=K7QF-2M9X */ WHERE note = 'old';",
            "DELETE FROM carts WHERE note = 'old' /* sluice: confirm=K7QF-2M9X */;",
            "DELETE FROM carts WHERE note = 'old'; /* sluice: confirm=K7QF-2M9X */",
            "-- sluice: confirm=K7QF-2M9X\nDELETE FROM carts WHERE note = 'old' ;",
            "DELETE FROM carts WHERE note = 'old' -- sluice: confirm=K7QF-2M9X",
        ] {
            assert!(is_same(text), "{text}");
        }
        for text in [
            "DELETE FROM carts /* sluice: confirm=K7QF-2M9X */",
            "DELETE FROM carts -- sluice: confirm=K7QF-2M9X WHERE note = 'old'",
            "DELETE FROM carts WHERE note = 'old /* sluice: confirm=x */'",
            "DELETE FROM carts WHERE note = 'OLD'",
            "DELETE FROM \"Carts\" WHERE note = 'old'",
            "DELETE FROM carts WHERE note = 'old'; DELETE FROM carts",
        ] {
            assert!(!is_same(text), "{text}");
        }
        assert!(!same("SELECT a @ -1", "SELECT a @-1", LexicalMode::default()), "another operator");
    }
}
