//! A second reader, made by others from another grammar (sqlparser): where it can read a statement, it must see the same changes.
//!
//! Invariant: it can only object. What it cannot read (WHERE CURRENT OF, `a[1] = …`, about a tenth of PostgreSQL's own regression
//! statements) rests on the authority alone, whose changes are counted by the census besides.
//!
//! It is given a text made of our tokens, without comments and with every literal replaced, because its own lexer can be lied to
//! (`-/* … */`, continued strings).

use crate::sql::facts::{Change, Facts, Restriction, Verb};
use crate::sql::lexer::{Kind, Token};
use sqlparser::ast::{
    CopySource, FromTable, ObjectName, Query, SetExpr, Statement, TableFactor, TableObject, TableWithJoins,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

/// Why the facts cannot be right, if they cannot.
pub fn objection(text: &str, tokens: &[Token], facts: &Facts) -> Option<String> {
    let statements = Parser::parse_sql(&PostgreSqlDialect {}, &clean(text, tokens)).ok()?;
    let [statement] = statements.as_slice() else {
        return Some(format!("a second reader sees {} statements in it", statements.len()));
    };
    let mut seen = Vec::new();
    of_statement(statement, &mut seen).ok()?;
    let mut expected: Vec<Seen> =
        facts.changes.iter().filter(|change| change.verb != Verb::CopyIn).map(Seen::from).collect();
    seen.sort();
    expected.sort();
    (seen != expected).then(|| String::from("two readers differ on the changes it makes"))
}

/// One change, as far as the two readers must agree on it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    verb: &'static str,
    target: Vec<String>,
    conditional: bool,
}

impl From<&Change> for Seen {
    fn from(change: &Change) -> Seen {
        let verb = match change.verb {
            Verb::Insert | Verb::CopyIn => "insert",
            Verb::Update => "update",
            Verb::Delete => "delete",
            Verb::Merge { .. } => "merge",
        };
        let conditional = match verb {
            "update" | "delete" => match &change.clauses {
                Some(clauses) => clauses.condition.is_some(),
                None => !matches!(&change.restriction, Restriction::Nothing { why } if why.starts_with("no WHERE")),
            },
            _ => false,
        };
        Seen { verb, target: change.target.parts.clone(), conditional }
    }
}

/// The second reader met something that this walk does not know: no objection, no agreement either.
struct Unfamiliar;

fn of_statement(statement: &Statement, seen: &mut Vec<Seen>) -> Result<(), Unfamiliar> {
    match statement {
        Statement::Query(query) => of_query(query, seen),
        Statement::Insert(insert) => {
            let TableObject::TableName(name) = &insert.table else {
                return Err(Unfamiliar);
            };
            seen.push(Seen { verb: "insert", target: parts(name)?, conditional: false });
            insert.source.iter().try_for_each(|source| of_query(source, seen))
        }
        Statement::Update(update) => {
            seen.push(Seen { verb: "update", target: table(&update.table)?, conditional: update.selection.is_some() });
            Ok(())
        }
        Statement::Delete(delete) => {
            let (FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables)) = &delete.from;
            let [target] = tables.as_slice() else {
                return Err(Unfamiliar);
            };
            seen.push(Seen { verb: "delete", target: table(target)?, conditional: delete.selection.is_some() });
            Ok(())
        }
        Statement::Merge(merge) => {
            seen.push(Seen { verb: "merge", target: factor(&merge.table)?, conditional: false });
            Ok(())
        }
        Statement::Explain { statement, .. } | Statement::Prepare { statement, .. } => of_statement(statement, seen),
        Statement::CreateTable(create) => create.query.as_ref().map_or(Err(Unfamiliar), |query| of_query(query, seen)),
        Statement::Copy { source: CopySource::Query(query), .. } => of_query(query, seen),
        Statement::Copy { source: CopySource::Table { .. }, .. } => Ok(()),
        _ => Err(Unfamiliar),
    }
}

fn of_query(query: &Query, seen: &mut Vec<Seen>) -> Result<(), Unfamiliar> {
    for table in query.with.iter().flat_map(|with| &with.cte_tables) {
        of_query(&table.query, seen)?;
    }
    of_body(&query.body, seen)
}

fn of_body(body: &SetExpr, seen: &mut Vec<Seen>) -> Result<(), Unfamiliar> {
    match body {
        SetExpr::Query(query) => of_query(query, seen),
        SetExpr::SetOperation { left, right, .. } => {
            of_body(left, seen)?;
            of_body(right, seen)
        }
        SetExpr::Insert(inner) | SetExpr::Update(inner) | SetExpr::Delete(inner) | SetExpr::Merge(inner) => {
            of_statement(inner, seen)
        }
        SetExpr::Select(_) | SetExpr::Values(_) | SetExpr::Table(_) => Ok(()),
    }
}

fn table(table: &TableWithJoins) -> Result<Vec<String>, Unfamiliar> {
    if table.joins.is_empty() { factor(&table.relation) } else { Err(Unfamiliar) }
}

fn factor(factor: &TableFactor) -> Result<Vec<String>, Unfamiliar> {
    match factor {
        TableFactor::Table { name, .. } => parts(name),
        _ => Err(Unfamiliar),
    }
}

fn parts(name: &ObjectName) -> Result<Vec<String>, Unfamiliar> {
    let folded = name.0.iter().map(|part| {
        let identifier = part.as_ident()?;
        Some(if identifier.quote_style.is_some() {
            identifier.value.clone()
        } else {
            identifier.value.to_ascii_lowercase()
        })
    });
    folded.collect::<Option<Vec<String>>>().ok_or(Unfamiliar)
}

/// The tokens with single spaces between them and nothing inside the quotes.
fn clean(text: &str, tokens: &[Token]) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut previous_end = 0;
    for (index, token) in tokens.iter().enumerate() {
        if is_only(text, tokens, index) {
            continue;
        }
        // What touches keeps touching: `t.a`, `a::text`, `N'…'`.
        if token.start != previous_end {
            clean.push(' ');
        }
        match token.kind {
            Kind::String(_) => clean.push_str("'x'"),
            _ => clean.push_str(token.text(text)),
        }
        // A string ends its literal; the next one must not continue or double it.
        if matches!(token.kind, Kind::String(_)) {
            clean.push(' ');
        }
        previous_end = token.end;
    }
    clean
}

/// ONLY as a keyword: the second reader takes it for a table's name.
fn is_only(text: &str, tokens: &[Token], index: usize) -> bool {
    let is_label = index
        .checked_sub(1)
        .and_then(|before| tokens.get(before))
        .is_some_and(|before| before.is(b'.') || before.is_word(text, "as"));
    !is_label && tokens.get(index).is_some_and(|token| token.is_word(text, "only"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::dialect::read;
    use crate::sql::facts::Nesting;
    use crate::sql::lexer;
    use crate::sql::statement::LexicalMode;

    /// What the second reader says after the facts were falsified.
    fn objects(text: &str, falsify: impl Fn(&mut Facts)) -> bool {
        let mode = LexicalMode::default();
        let mut facts = read(text, mode).statements.remove(0).facts;
        falsify(&mut facts);
        objection(text, &lexer::tokens(text, mode).0, &facts).is_some()
    }

    #[test]
    fn a_change_that_only_one_reader_sees_is_objected_to() {
        let text = "WITH d AS (DELETE FROM ONLY t RETURNING 'it''s' /* x */) UPDATE s.\"U\" SET a = 1 WHERE b";
        assert!(!objects(text, |_| ()));
        assert!(objects(text, |facts| drop(facts.changes.remove(0))));
        assert!(objects(text, |facts| facts.changes[0].verb = Verb::Insert));
        assert!(objects(text, |facts| facts.changes[1].target.parts[1].make_ascii_lowercase()));
        assert!(objects(text, |facts| {
            facts.changes[0].clauses = None;
            facts.changes[0].restriction = Restriction::Restricts { pinned: Vec::new() };
        }));
        assert!(!objects(text, |facts| facts.changes[0].nesting = Nesting::Outer));
    }

    #[test]
    fn what_it_cannot_read_it_does_not_object_to() {
        for text in ["DELETE FROM t WHERE CURRENT OF c", "UPDATE t SET a.b[1] = 2 WHERE id = 1"] {
            assert!(!objects(text, |facts| facts.changes.clear()) || !objects(text, |_| ()), "{text}");
        }
    }
}
