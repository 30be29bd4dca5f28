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
    let columns = building(cursor, sets.iter().copied());
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
    let columns = building(cursor, sets.iter());
    if columns.is_empty() { Again::Same } else { Again::BuildsOn(columns) }
}

fn building<'s>(cursor: &Cursor, sets: impl Iterator<Item = &'s Set>) -> Vec<String> {
    let mut columns: Vec<String> =
        sets.filter(|set| is_built_on(cursor, set.value.clone(), set)).map(|set| set.column.clone()).collect();
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

/// Whether the new value of a column is made from its old one in a way that goes on and on.
fn is_built_on(cursor: &Cursor, value: Range<usize>, set: &Set) -> bool {
    let value = stripped(cursor, value);
    if !reads(cursor, &value, set) {
        return false;
    }
    let mut here = cursor.within(value.clone());
    if here.object().is_ok() {
        if here.done() {
            return false; // the column itself
        }
        let function = cursor.within(value.clone()).written(0).to_ascii_lowercase();
        let mut behind = here;
        if let Ok(inside) = behind.parenthesized()
            && behind.done()
        {
            let arguments = split(cursor, inside);
            return match function.as_str() {
                "if" => arguments.into_iter().skip(1).any(|argument| is_built_on(cursor, argument, set)),
                name if SETTLING.contains(&name) => {
                    arguments.into_iter().any(|argument| is_built_on(cursor, argument, set))
                }
                _ => true,
            };
        }
    }
    if cursor.within(value.clone()).word("case") {
        return results(cursor, &value).into_iter().any(|result| is_built_on(cursor, result, set));
    }
    operates(cursor, &value, set)
}

/// Comparisons give a truth value; `a & 7`, `a | 8` and `a % 7` the same when done again.
fn operates(cursor: &Cursor, value: &Range<usize>, set: &Set) -> bool {
    let mut here = cursor.within(value.clone());
    let settles = |here: &Cursor| {
        let marks = ["=", "<>", "!=", "<", "<=", ">", ">=", "<=>", "&", "|", "&&"];
        marks.iter().any(|mark| here.mark(mark)) || here.keyword(&["and", "or", "not", "like", "in", "is", "between"])
    };
    if here.run(settles).is_ok() && !here.done() {
        return false;
    }
    let mut here = cursor.within(value.clone());
    let rest = |here: &Cursor| here.mark("%") || here.keyword(&["mod"]);
    match here.run(rest) {
        Ok(_) if !here.done() => reads(cursor, &(here.at + 1..value.end), set),
        _ => true,
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

/// Whether the column's own old value is read. What stands in `VALUES(…)` is the row that was to be inserted.
fn reads(cursor: &Cursor, value: &Range<usize>, set: &Set) -> bool {
    let mut here = cursor.within(value.clone());
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
            && names::folded(&names::unquoted(here.written(0))) == set.column;
        if is_name && !is_new(&here, cursor) {
            return true;
        }
        here.at += 1;
    }
    false
}

/// `new.n`: of the row that was to be inserted, by the name that the INSERT gives it behind its VALUES.
fn is_new(here: &Cursor, whole: &Cursor) -> bool {
    let qualifier = here.at.checked_sub(2).and_then(|at| here.tokens.get(at));
    let dotted = here.at.checked_sub(1).and_then(|at| here.tokens.get(at)).is_some_and(|token| token.is(b'.'));
    let Some(qualifier) = qualifier.filter(|_| dotted) else { return false };
    let name = qualifier.text(whole.text);
    whole.tokens.windows(3).any(|three| {
        three[0].is(b')') && three[1].is_word(whole.text, "as") && three[2].text(whole.text).eq_ignore_ascii_case(name)
    })
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
