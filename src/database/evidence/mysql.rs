//! What is different about MySQL's and MariaDB's statements when they are asked about.
//!
//! Invariant: the client's values are in the text of each question, and a change whose values are not all there is not asked about.

use crate::database::Ask;
use crate::database::catalog;
use crate::database::evidence::{Inquiry, cut};
use crate::database::harmless::Calls;
use crate::database::interview::Interview;
use crate::policy::question::{Known, Sample, Table};
use crate::sql::facts::{Change, Verb};
use crate::sql::lexer::{self, Lexer};
use crate::sql::rewrite;

/// It names other tables than its target.
pub(super) fn reads_others(change: &Change) -> bool {
    change.verb == Verb::Insert || change.clauses.as_ref().is_some_and(|clauses| clauses.tables.is_some())
}

/// A query stands in it, which may read a view.
pub(super) fn mentions_a_query(inquiry: &Inquiry<'_>) -> bool {
    let begins = |word: &str| ["select", "table", "with", "values"].iter().any(|one| word.eq_ignore_ascii_case(one));
    Lexer::new(inquiry.text, inquiry.mode)
        .any(|token| token.kind == lexer::Kind::Word && begins(token.text(inquiry.text)))
}

pub(super) fn uncountable(change: &Change, table: &Known<Table>, inquiry: &Inquiry<'_>) -> String {
    let joined = change.clauses.as_ref().is_some_and(|clauses| clauses.tables.is_some());
    let keyless = table.known().is_some_and(|table| table.primary_key.is_empty());
    match inquiry.mode.product().is_mysql() && joined && keyless {
        true => "the rows of a join are told apart by the table's primary key, and it has none".to_owned(),
        false => "no question can be made from this statement".to_owned(),
    }
}

/// What MySQL's questions are made of.
pub(super) fn source<'a>(
    inquiry: &Inquiry<'a>,
    change: &'a Change,
    table: Option<&'a Table>,
) -> rewrite::mysql::Source<'a> {
    rewrite::mysql::Source {
        text: inquiry.text,
        mode: inquiry.mode,
        change,
        literals: inquiry.parameters.map(|bound| bound.literals.as_slice()).unwrap_or_default(),
        key: table.map(|table| table.primary_key.as_slice()).unwrap_or_default(),
    }
}

/// The LIMIT of a change of one table: MySQL's, written as a number.
pub(super) fn limited(change: &Change) -> Option<u64> {
    let of_one_table = change.clauses.as_ref().is_some_and(|clauses| clauses.tables.is_none());
    change.limit.filter(|_| of_one_table && matches!(change.verb, Verb::Update | Verb::Delete))
}

/// The columns of new values get their names here, for they would not be ASCII in the question.
pub(super) async fn sample<A: Ask>(
    interview: &mut Interview<'_, A>,
    inquiry: &Inquiry<'_>,
    change: &Change,
    table: &Known<Table>,
    calls: &Result<Calls, String>,
) -> Known<Sample> {
    if change.verb == Verb::Insert {
        return Known::Unknown("which rows an INSERT would meet is not looked up".to_owned());
    }
    let values: Vec<&str> = change.assignments.iter().filter_map(|one| one.value.as_deref()).collect();
    let computable = calls.as_ref().is_ok_and(|calls| calls.objection(&values).is_none());
    let before = Change { verb: Verb::Delete, assignments: Vec::new(), ..change.clone() };
    let change = if computable { change } else { &before };
    let text = rewrite::mysql::sample_text(&source(inquiry, change, table.known()), inquiry.sizes.sample_rows);
    let Some((text, columns)) = text else {
        return Known::Unknown(uncountable(change, table, inquiry));
    };
    if interview.out_of_time() {
        return Known::Unknown("no time was left for it".to_owned());
    }
    match interview.ask(&text, None).await {
        Ok(mut answer) => {
            let own = answer.columns.len().saturating_sub(columns.len());
            for (heading, column) in answer.columns.iter_mut().skip(own).zip(&columns) {
                *heading = format!("{column} →");
            }
            let rows = answer.rows.into_iter().map(|row| row.into_iter().map(|cell| cell.map(cut)).collect()).collect();
            Known::Known(Sample { columns: answer.columns, rows })
        }
        Err(error) => Known::Unknown(catalog::reason(&error)),
    }
}
