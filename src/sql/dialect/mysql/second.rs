//! A second reader, made by others (sqlparser): where it can read a statement, it must see the same change.
//!
//! Invariant: it can only object. What it cannot read, and what is long enough for its recursion to be a danger, rests on our own reader
//! alone. It is given our tokens, without comments and with every literal replaced, because its own lexer can be lied to.

use crate::ground::limits;
use crate::sql::dialect::mysql::names;
use crate::sql::facts::{Change, Facts, Kind as Stated, Nesting, Verb};
use crate::sql::lexer::{Kind, Token};
use sqlparser::ast::{FromTable, ObjectName, Query, SetExpr, Statement, TableFactor, TableObject, TableWithJoins};
use sqlparser::dialect::MySqlDialect;
use sqlparser::parser::Parser;

/// Why the facts cannot be right, if they cannot.
pub fn objection(text: &str, tokens: &[Token], facts: &Facts) -> Option<String> {
    if tokens.len() > limits::SQL_SECOND_TOKENS_MAX || !is_comparable(facts) {
        return None;
    }
    let statements = Parser::parse_sql(&MySqlDialect {}, &clean(text, tokens)).ok()?;
    let [statement] = statements.as_slice() else {
        return Some(format!("a second reader sees {} statements in it", statements.len()));
    };
    let seen = of_statement(statement)?;
    let agreed = match (seen, facts.changes.as_slice()) {
        (None, []) => true,
        (Some(seen), [change]) => seen.agrees(change),
        (Some(_), []) => false,
        // It takes no part in what stands in joined tables.
        _ => return None,
    };
    (!agreed).then(|| String::from("two readers differ on the changes it makes"))
}

/// A change that stands in the text itself, or a read.
fn is_comparable(facts: &Facts) -> bool {
    let plain = matches!(facts.kind, Stated::Read | Stated::Insert | Stated::Update | Stated::Delete);
    plain && facts.changes.iter().all(|change| change.nesting == Nesting::Outer)
}

/// One change, as far as the two readers must agree on it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    verb: &'static str,
    target: Vec<String>,
    conditional: bool,
}

impl Seen {
    fn agrees(&self, change: &Change) -> bool {
        let verb = match change.verb {
            Verb::Insert | Verb::CopyIn => "insert",
            Verb::Update => "update",
            Verb::Delete => "delete",
            Verb::Merge { .. } => "merge",
        };
        let restricted = match &change.clauses {
            _ if verb == "insert" => Some(false),
            Some(clauses) => Some(clauses.condition.is_some()),
            // Its parts could not be cut out of the text.
            None => None,
        };
        self.verb == verb
            && self.target == change.target.parts
            && restricted.is_none_or(|restricted| restricted == self.conditional)
    }
}

/// `None`: it met something that this does not know. `Some(None)`: nothing is changed.
fn of_statement(statement: &Statement) -> Option<Option<Seen>> {
    match statement {
        Statement::Query(query) => reads(query).then_some(None),
        Statement::Insert(insert) => {
            let TableObject::TableName(name) = &insert.table else { return None };
            Some(Some(Seen { verb: "insert", target: parts(name)?, conditional: false }))
        }
        Statement::Update(update) => {
            let conditional = update.selection.is_some();
            Some(Some(Seen { verb: "update", target: table(&update.table)?, conditional }))
        }
        Statement::Delete(delete) => {
            let (FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables)) = &delete.from;
            let ([target], None, []) = (tables.as_slice(), &delete.using, delete.tables.as_slice()) else {
                return None;
            };
            Some(Some(Seen { verb: "delete", target: table(target)?, conditional: delete.selection.is_some() }))
        }
        _ => None,
    }
}

fn reads(query: &Query) -> bool {
    matches!(*query.body, SetExpr::Select(_) | SetExpr::Values(_) | SetExpr::Table(_) | SetExpr::SetOperation { .. })
}

fn table(table: &TableWithJoins) -> Option<Vec<String>> {
    match &table.relation {
        TableFactor::Table { name, .. } if table.joins.is_empty() => parts(name),
        _ => None,
    }
}

fn parts(name: &ObjectName) -> Option<Vec<String>> {
    name.0.iter().map(|part| Some(part.as_ident()?.value.clone())).collect()
}

/// What stands between the verb and the tables: the second reader takes IGNORE for a table's name.
const OPTIONS: &[&str] = &["ignore", "low_priority", "high_priority", "delayed", "quick"];

/// The tokens with single spaces between them and nothing inside the quotes. Names stand in backticks, whatever the sql_mode.
fn clean(text: &str, tokens: &[Token]) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut previous_end = 0;
    let is_option = |token: &&Token| OPTIONS.iter().any(|word| token.is_word(text, word));
    let options = tokens.iter().skip(1).take_while(is_option).count();
    for (_, token) in tokens.iter().enumerate().filter(|(at, _)| !(1..=options).contains(at)) {
        // What touches keeps touching: `t.a`, `_utf8mb4'…'`.
        if token.start != previous_end {
            clean.push(' ');
        }
        match token.kind {
            Kind::String(_) => clean.push_str("'x' "),
            Kind::Variable => clean.push('1'),
            Kind::QuotedName => {
                clean.push('`');
                clean.push_str(&names::unquoted(token.text(text)).replace('`', "``"));
                clean.push('`');
            }
            _ => clean.push_str(token.text(text)),
        }
        previous_end = token.end;
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Product;
    use crate::sql::dialect::read;
    use crate::sql::facts::Name;
    use crate::sql::lexer;
    use crate::sql::statement::{LexicalMode, MySqlMode};

    /// What the second reader says after the facts were falsified.
    fn objects(text: &str, falsify: impl Fn(&mut Facts)) -> bool {
        let mode = LexicalMode::MySql(MySqlMode::of(Product::MySql, 90_704));
        let mut facts = read(text, mode).statements.remove(0).facts;
        assert_eq!(facts.unread, None, "{text}");
        falsify(&mut facts);
        objection(text, &lexer::tokens(text, mode).0, &facts).is_some()
    }

    #[test]
    fn a_change_that_only_one_reader_sees_is_objected_to() {
        for text in [
            "DELETE FROM d.`T``x` WHERE a = 'it''s' /* ' */",
            "UPDATE t SET a = 1 WHERE b # '\n LIMIT 3",
            "UPDATE LOW_PRIORITY IGNORE t AS x SET x.a = (SELECT 1) WHERE b -- '\n AND c",
        ] {
            assert!(!objects(text, |_| ()), "{text}");
            assert!(objects(text, |facts| facts.changes.clear()), "{text}");
            assert!(objects(text, |facts| facts.changes[0].verb = Verb::Insert), "{text}");
            assert!(objects(text, |facts| facts.changes[0].target = Name::default()), "{text}");
            let lifted = |facts: &mut Facts| facts.changes[0].clauses.iter_mut().for_each(|one| one.condition = None);
            assert!(objects(text, lifted), "{text}");
        }
        assert!(!objects("REPLACE INTO t VALUES (1)", |_| ()));
        assert!(objects("REPLACE INTO t VALUES (1)", |facts| facts.changes.clear()));
    }

    #[test]
    fn what_it_cannot_read_it_does_not_object_to() {
        for text in ["UPDATE a, b SET a.x = 1", "DELETE a FROM a JOIN b", "DELETE FROM a USING a, b"] {
            assert!(!objects(text, |_| ()), "{text}");
        }
    }
}
