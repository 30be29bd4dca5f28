//! The text of a routine or a trigger as it runs.
//!
//! Invariant: what `information_schema` shows of a body is not believed where a quote or a backslash stands in it. MySQL 9.7 writes `'\''`
//! there as `'''`, and MariaDB 10.11 `'\\'` as `'\'` (seen on both): read again, a statement between two such literals is a part of one.
//! `SHOW CREATE` gives the text itself; where that is not to be had, the body counts as not shown.

use crate::database::catalog::mysql::cell;
use crate::database::quote::mysql::dotted;
use crate::database::{Ask, AskError};
use crate::sql::lexer::{Kind, Lexer, Token};
use crate::sql::statement::LexicalMode;

/// What `information_schema` shows may be another text than the one that runs.
pub fn may_differ(shown: &str) -> bool {
    shown.contains(['\'', '"', '`', '\\'])
}

/// The body of a routine or a trigger, without what stands before it. `what`: `PROCEDURE`, `FUNCTION`, `TRIGGER`.
pub async fn body(
    asker: &mut impl Ask,
    what: &str,
    name: &[String; 2],
    mode: LexicalMode,
) -> Result<Option<String>, AskError> {
    // A name that is quoted in another way than it is read would shift all that follows.
    if name.iter().any(|part| part.contains(['\'', '"', '`', '\\'])) {
        return Ok(None);
    }
    let answer = match asker.ask(&format!("SHOW CREATE {what} {}", dotted(name)), None).await {
        Ok(answer) => answer,
        Err(AskError::Database { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    // What could not be written in the session's character set is not the text.
    let text = cell(&answer, 0, 2).filter(|text| !text.contains('\u{FFFD}'));
    Ok(text.and_then(|text| cut(text, what == "TRIGGER", mode)).map(str::to_owned))
}

/// Behind a routine's parameters and characteristics; behind a trigger's FOR EACH ROW.
fn cut(text: &str, is_trigger: bool, mode: LexicalMode) -> Option<&str> {
    let tokens: Vec<Token> = Lexer::new(text, mode).filter(|token| !token.is_comment()).collect();
    let word = |at: usize, word: &str| tokens.get(at).is_some_and(|token| token.is_word(text, word));
    let mut at = match is_trigger {
        true => (0..tokens.len()).find(|at| word(*at, "each") && word(at + 1, "row"))? + 2,
        false => behind_parentheses(&tokens)?,
    };
    // Of a function the type that it returns is left in: it changes nothing.
    while CHARACTERISTICS.iter().any(|known| word(at, known)) {
        at += if word(at, "comment") { 2 } else { 1 };
    }
    text.get(tokens.get(at)?.span().start..)
}

const CHARACTERISTICS: &[&str] = &[
    "comment",
    "language",
    "sql",
    "not",
    "deterministic",
    "contains",
    "no",
    "reads",
    "modifies",
    "data",
    "security",
    "definer",
    "invoker",
];

fn behind_parentheses(tokens: &[Token]) -> Option<usize> {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Punctuation(b'(') => depth += 1,
            Kind::Punctuation(b')') if depth == 1 => return Some(at + 1),
            Kind::Punctuation(b')') => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Product;
    use crate::sql::statement::MySqlMode;

    #[test]
    fn the_body_is_what_follows_the_head() {
        let mode = LexicalMode::MySql(MySqlMode::of(Product::MySql, 90704));
        for (text, is_trigger, expected) in [
            ("CREATE DEFINER=`a`@`%` PROCEDURE `p`() DELETE FROM t", false, Some("DELETE FROM t")),
            (
                "CREATE DEFINER=`a`@`%` PROCEDURE `p`(IN a DECIMAL(3,2), OUT b INT)\n    MODIFIES SQL DATA\n    SQL SECURITY INVOKER\n    COMMENT 'update (x'\nBEGIN SET @a = '\\''; END",
                false,
                Some("BEGIN SET @a = '\\''; END"),
            ),
            (
                "CREATE FUNCTION `f`() RETURNS int(11)\n    DETERMINISTIC\nRETURN 'x'",
                false,
                Some("RETURNS int(11)\n    DETERMINISTIC\nRETURN 'x'"),
            ),
            (
                "CREATE DEFINER=`a`@`%` TRIGGER tr BEFORE UPDATE ON `t` FOR EACH ROW SET NEW.a = 'b'",
                true,
                Some("SET NEW.a = 'b'"),
            ),
            ("CREATE PROCEDURE `p`(", false, None),
            ("CREATE TRIGGER tr BEFORE UPDATE ON t", true, None),
        ] {
            assert_eq!(cut(text, is_trigger, mode), expected, "{text}");
        }
    }
}
