//! What a second run of a change would do: set the same values again, or build on those of the first run.
//!
//! Invariant: a new value that reads its own old one counts as building on it unless the form is known to give the same again
//! (`LOWER(a)`, `COALESCE(a, 0)`), and a condition only excuses it where it is certainly false of a row that was changed.

use crate::sql::dialect::ends::ends_itself;
use crate::sql::dialect::mysql::changes::Set;
use crate::sql::dialect::mysql::cursor::Cursor;
use crate::sql::dialect::mysql::names;
use crate::sql::dialect::mysql::term::{self, Scope};
use crate::sql::facts::Again;
use crate::sql::lexer::Kind;
use crate::sql::predicate::Term;
use std::ops::Range;

/// What an UPDATE does the second time.
pub fn of_update(cursor: &Cursor, sets: &[&Set], condition: Option<Range<usize>>, scope: &Scope) -> Again {
    let columns = building(cursor, None, sets.iter().copied());
    if columns.is_empty() {
        return Again::Same;
    }
    let assigned = |column: &str| {
        let set = sets.iter().find(|set| set.column == column)?;
        term::value(cursor, &set.value, scope)
    };
    let never_null = |column: &str| {
        assigned(column).is_some_and(|term| match term {
            Term::Bool(_) | Term::Integer(_) | Term::Constant(_) => true,
            Term::Strict(name, operands) => operands.is_empty() && !matches!(name.as_str(), "database" | "schema"),
            _ => false,
        })
    };
    let ends = condition
        .is_some_and(|tokens| ends_itself(&term::condition(cursor, &tokens, scope), &columns, &assigned, &never_null));
    if ends { Again::Same } else { Again::BuildsOn(columns) }
}

/// What the UPDATE of an upsert does the second time.
pub fn of_upsert(cursor: &Cursor, sets: &[Set]) -> Again {
    let columns = building(cursor, new_rows(cursor), sets.iter());
    if columns.is_empty() { Again::Same } else { Again::BuildsOn(columns) }
}

/// `new`, that stands for the rows that were to be inserted.
fn building<'s>(cursor: &Cursor, new: Option<&str>, sets: impl Iterator<Item = &'s Set>) -> Vec<String> {
    let look = |set: &&Set| Looking { cursor: *cursor, new, column: &set.column }.is_built_on(set.value.clone());
    let mut columns: Vec<String> = sets.filter(look).map(|set| set.column.clone()).collect();
    columns.dedup();
    columns
}

/// Functions that give of their own result the same result.
const SETTLING: &[&str] = &[
    "lower",
    "upper",
    "lcase",
    "ucase",
    "trim",
    "ltrim",
    "rtrim",
    "abs",
    "ceil",
    "ceiling",
    "floor",
    "round",
    "truncate",
    "sign",
    "date",
    "replace",
    "regexp_replace",
    "json_set",
    "json_remove",
    "json_replace",
    "coalesce",
    "ifnull",
    "greatest",
    "least",
    "nullif",
    "cast",
    "convert",
];

/// What stands between VALUES and ON DUPLICATE KEY UPDATE: `AS new`.
fn new_rows<'t>(cursor: &Cursor<'t>) -> Option<&'t str> {
    let three = cursor.tokens.windows(3).find(|three| three[0].is(b')') && three[1].is_word(cursor.text, "as"))?;
    three.get(2).map(|token| token.text(cursor.text))
}

/// What is looked for in new values: the column they are set to.
struct Looking<'t, 's> {
    cursor: Cursor<'t>,
    new: Option<&'t str>,
    column: &'s str,
}

impl Looking<'_, '_> {
    /// Whether the new value of a column is made from its old one in a way that goes on and on.
    fn is_built_on(&self, value: Range<usize>) -> bool {
        let value = stripped(&self.cursor, value);
        if !self.reads(&value) {
            return false;
        }
        let mut here = self.cursor.within(value.clone());
        if here.object().is_ok() {
            if here.done() {
                return false; // the column itself
            }
            let function = self.cursor.within(value.clone()).written(0).to_ascii_lowercase();
            let mut behind = here;
            if let Ok(inside) = behind.parenthesized()
                && behind.done()
            {
                let mut arguments = split(&self.cursor, inside).into_iter();
                return match function.as_str() {
                    "if" => arguments.skip(1).any(|argument| self.is_built_on(argument)),
                    name if SETTLING.contains(&name) => arguments.any(|argument| self.is_built_on(argument)),
                    _ => true,
                };
            }
        }
        if self.cursor.within(value.clone()).word("case") {
            return results(&self.cursor, &value).into_iter().any(|result| self.is_built_on(result));
        }
        self.operates(&value)
    }

    /// Comparisons give a truth value; `a & 7`, `a | 8` and `a % 7` the same when done again.
    fn operates(&self, value: &Range<usize>) -> bool {
        let settles = |here: &Cursor| {
            let marks = ["=", "<>", "!=", "<", "<=", ">", ">=", "<=>", "&", "|", "&&"];
            marks.iter().any(|mark| here.mark(mark))
                || here.keyword(&["and", "or", "not", "like", "in", "is", "between"])
        };
        let mut here = self.cursor.within(value.clone());
        if here.run(settles).is_ok() && !here.done() {
            return false;
        }
        let mut here = self.cursor.within(value.clone());
        match here.run(|here: &Cursor| here.mark("%") || here.keyword(&["mod"])) {
            Ok(_) if !here.done() => self.reads(&(here.at + 1..value.end)),
            _ => true,
        }
    }

    /// Whether the column's own old value is read. What stands in `VALUES(…)` is the row that was to be inserted, and so is `new.n`.
    fn reads(&self, value: &Range<usize>) -> bool {
        let mut here = self.cursor.within(value.clone());
        while let Some(token) = here.ahead(0) {
            if here.keyword(&["values", "value"]) && here.mark_at(1, "(") {
                here.at += 1;
                if here.parenthesized().is_err() {
                    return true;
                }
                continue;
            }
            let is_name = matches!(token.kind, Kind::Word | Kind::QuotedName)
                && !here.mark_at(1, "(")
                && !here.mark_at(1, ".")
                && names::folded(&names::unquoted(here.written(0))) == self.column;
            if is_name && !self.is_new(&here) {
                return true;
            }
            here.at += 1;
        }
        false
    }

    fn is_new(&self, here: &Cursor) -> bool {
        let before = |by: usize| here.at.checked_sub(by).and_then(|at| here.tokens.get(at));
        let (Some(qualifier), Some(dot), Some(new)) = (before(2), before(1), self.new) else { return false };
        dot.is(b'.') && qualifier.text(here.text).eq_ignore_ascii_case(new)
    }
}

/// Without the parentheses around all of it.
fn stripped(cursor: &Cursor, value: Range<usize>) -> Range<usize> {
    let mut value = value;
    loop {
        let mut here = cursor.within(value.clone());
        match here.parenthesized() {
            Ok(inside) if here.done() => value = inside,
            _ => return value,
        }
    }
}

/// Pieces between commas.
fn split(cursor: &Cursor, inside: Range<usize>) -> Vec<Range<usize>> {
    let mut here = cursor.within(inside);
    let mut found = Vec::new();
    while !here.done() {
        match here.run(|here| here.mark(",") || here.keyword(&["as", "using"])) {
            Ok(piece) => found.push(piece),
            Err(_) => break,
        }
        here.at += 1;
    }
    found
}

/// What a CASE can come to.
fn results(cursor: &Cursor, value: &Range<usize>) -> Vec<Range<usize>> {
    let mut here = cursor.within(value.clone());
    let mut found = Vec::new();
    let mut depth = 0usize;
    let mut start = None;
    while !here.done() {
        let opens = here.keyword(&["case"]);
        let ends = here.keyword(&["end"]);
        if depth == 1 && (ends || here.keyword(&["when", "else"])) {
            found.extend(start.take().map(|start| start..here.at));
        }
        if depth == 1 && here.keyword(&["then", "else"]) {
            start = Some(here.at + 1);
        }
        depth = if opens { depth + 1 } else { depth.saturating_sub(usize::from(ends)) };
        here.at += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use crate::sql::facts::Again;
    use crate::sql::statement::{LexicalMode, MySqlMode};
    use crate::sql::{Product, read};

    /// `=` the same again, `+` the same rows added, else the columns that build on themselves.
    fn short(text: &str) -> String {
        let reading = read(text, LexicalMode::MySql(MySqlMode::of(Product::MySql, 90_704)));
        let facts = &reading.statements.first().expect("one statement").facts;
        assert_eq!(facts.unread, None, "{text}");
        assert_eq!(facts.again.len(), facts.changes.len(), "{text}");
        let each = facts.again.iter().map(|again| match again {
            Again::Same => String::from("="),
            Again::Adds => String::from("+"),
            Again::BuildsOn(columns) => columns.join(","),
        });
        each.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_builds_on_itself_is_told_from_what_does_not() {
        let cases = [
            ("UPDATE t SET n = n + 1", "n"),
            ("UPDATE t SET n = 1 - t.`N`, b = 2", "n"),
            ("UPDATE t AS x SET n = (x.n * 2) WHERE id = 1", "n"),
            ("UPDATE t SET s = CONCAT(s, 'x')", "s"),
            ("UPDATE t SET n = COALESCE(n, 0) + 1", "n"),
            ("UPDATE t SET n = COALESCE(n + 1, 0)", "n"),
            ("UPDATE t SET n = CASE WHEN b THEN n + 1 ELSE n END", "n"),
            ("UPDATE t SET n = IF(n > 5, 0, n + 1)", "n"),
            ("UPDATE t SET n = my_function(n)", "n"),
            ("UPDATE t SET n = m + 1", "="),
            ("UPDATE t SET n = 5", "="),
            ("UPDATE t SET n = n", "="),
            ("UPDATE t SET n = IFNULL(n, 0)", "="),
            ("UPDATE t SET n = IF(n > 5, 0, 1)", "="),
            ("UPDATE t SET n = CASE n WHEN 1 THEN 2 ELSE 3 END", "="),
            ("UPDATE t SET s = LOWER(s), u = TRIM(UPPER(u))", "="),
            ("UPDATE t SET n = n & 7, m = m % 5, s = NULLIF(s, '')", "="),
            ("UPDATE t SET n = n + 1 WHERE n = 5", "="),
            ("UPDATE t SET n = n + 1 WHERE id = 7 AND version = 3", "n"),
            ("UPDATE t SET n = n + 1, version = version + 1 WHERE id = 7 AND version = 3", "="),
            ("UPDATE t SET n = n + 1, done = 1 WHERE done = 0", "="),
            ("UPDATE t SET n = n + 1, done = TRUE WHERE NOT done", "="),
            ("UPDATE t SET n = n + 1, state = 'paid' WHERE state = 'open'", "="),
            ("UPDATE t SET n = n + 1, at = NOW() WHERE at IS NULL", "="),
            ("UPDATE t SET n = n + 1, at = NOW() WHERE at IS NULL OR b", "n"),
            ("UPDATE t, u SET t.n = t.n + 1, u.m = 5 WHERE t.id = u.id", "n ="),
            ("DELETE FROM t WHERE n = 1", "="),
            ("INSERT INTO t VALUES (1, 2)", "+"),
            ("INSERT INTO t SET n = 1", "+"),
            ("INSERT IGNORE INTO t VALUES (1, 2)", "="),
            ("REPLACE INTO t VALUES (1, 2)", "="),
            ("INSERT INTO t VALUES (1, 2) ON DUPLICATE KEY UPDATE n = n + 1", "n"),
            ("INSERT INTO t VALUES (1, 2) ON DUPLICATE KEY UPDATE n = n + VALUES(n)", "n"),
            ("INSERT INTO t VALUES (1, 2) ON DUPLICATE KEY UPDATE n = VALUES(n) + 1", "="),
            ("INSERT INTO t VALUES (1, 2) AS new ON DUPLICATE KEY UPDATE n = new.n + 1", "="),
            ("INSERT INTO t SELECT * FROM u", "="),
        ];
        for (text, expected) in cases {
            assert_eq!(short(text), expected, "{text}");
        }
    }
}
