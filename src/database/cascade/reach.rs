//! The text that finds the rows of one level: a condition on a child table that nests the condition of the level above.
//!
//! Invariant: no name is looked up by the search path here, except inside the client's own text; each nesting has its own
//! aliases, so no column is captured by a level further in.

use super::graph::Edge;
use crate::database::quote::{dotted, ident};
use crate::ground::limits;
use crate::sql::facts::Change;
use crate::sql::rewrite;
use crate::sql::statement::LexicalMode;
use std::sync::Arc;

/// A set of rows.
pub(super) enum Reach<'a> {
    /// The rows that the client's change names.
    Target { text: &'a str, mode: LexicalMode, change: &'a Change },
    /// Child rows whose foreign key is among the parent's rows; `closure`: and so on along the same key.
    Below { parent: Arc<Reach<'a>>, edge: &'a Edge, closure: bool },
}

impl<'a> Reach<'a> {
    pub fn is_closure(&self) -> bool {
        matches!(self, Reach::Below { closure: true, .. })
    }

    /// Counts the rows that none of the earlier sets holds, to one more than the bound. `itself`: nor the change's own rows.
    pub fn count(&self, earlier: &[&Reach<'a>], itself: bool, bound: u64) -> Option<String> {
        let Reach::Below { edge, .. } = self else {
            return None;
        };
        let mut aliases = Aliases(0);
        let row = aliases.next();
        let mut conditions = vec![self.holds(&row, &mut aliases)?];
        let mut length = 0;
        for other in earlier {
            length += conditions.last().map_or(0, String::len);
            if length > limits::QUESTION_BYTES {
                return None;
            }
            conditions.push(format!("NOT {}", other.holds(&row, &mut aliases)?));
        }
        if itself {
            conditions.push(format!("NOT {}", self.target().is_target(&row, &mut aliases)?));
        }
        let limit = bound.saturating_add(1);
        let from = child(edge);
        let sql = format!(
            "SELECT pg_catalog.count(*) FROM (SELECT 1 FROM {from} AS {row} WHERE {} LIMIT {limit}) AS sluice_counted",
            conditions.join(" AND ")
        );
        (sql.len() <= limits::QUESTION_BYTES).then_some(sql)
    }

    fn target(&self) -> &Reach<'a> {
        match self {
            Reach::Target { .. } => self,
            Reach::Below { parent, .. } => parent.target(),
        }
    }

    /// A query for these columns of the set's rows.
    fn keys(&self, columns: &[String], aliases: &mut Aliases) -> Option<String> {
        match self {
            Reach::Target { text, mode, change } => rewrite::keys_text(text, *mode, change, columns),
            Reach::Below { edge, .. } => {
                let row = aliases.next();
                let list = each(columns, |column| format!("{row}.{}", ident(column)), ", ");
                let holds = self.holds(&row, aliases)?;
                Some(format!("SELECT {list} FROM {} AS {row} WHERE {holds}", child(edge)))
            }
        }
    }

    /// A condition that is true when the row by this alias, of the edge's child table, is in the set.
    fn holds(&self, row: &str, aliases: &mut Aliases) -> Option<String> {
        match self {
            Reach::Target { .. } => self.is_target(row, aliases),
            Reach::Below { closure: false, .. } => self.directly(row, aliases),
            Reach::Below { edge, .. } => {
                let (keys, first, next, closed) = (aliases.next(), aliases.next(), aliases.next(), aliases.next());
                let columns = numbered(edge.key.parent_columns.len());
                let parent =
                    |row: &str| each(&edge.key.parent_columns, |column| format!("{row}.{}", ident(column)), ", ");
                let step = compared(&closed, &columns, &edge.equals, &next, &edge.key.child_columns);
                let start = self.directly(&first, aliases)?;
                let table = child(edge);
                Some(format!(
                    "EXISTS (SELECT 1 FROM (WITH RECURSIVE {closed} ({names}) AS (SELECT {} FROM {table} AS {first} WHERE {start} \
                     UNION SELECT {} FROM {closed} JOIN {table} AS {next} ON {step}) SELECT * FROM {closed}) AS {keys} ({names}) \
                     WHERE {})",
                    parent(&first),
                    parent(&next),
                    compared(&keys, &columns, &edge.same, row, &edge.key.parent_columns),
                    names = columns.join(", "),
                ))
            }
        }
    }

    fn directly(&self, row: &str, aliases: &mut Aliases) -> Option<String> {
        let Reach::Below { parent, edge, .. } = self else {
            return None;
        };
        let keys = aliases.next();
        let columns = numbered(edge.key.parent_columns.len());
        let above = parent.keys(&edge.key.parent_columns, aliases)?;
        let same = compared(&keys, &columns, &edge.equals, row, &edge.key.child_columns);
        Some(format!("EXISTS (SELECT 1 FROM ({above}) AS {keys} ({}) WHERE {same})", columns.join(", ")))
    }

    /// The change's own rows are told by where they lie: any table has that.
    fn is_target(&self, row: &str, aliases: &mut Aliases) -> Option<String> {
        let Reach::Target { text, mode, change } = self else {
            return None;
        };
        let keys = aliases.next();
        let place = ["tableoid".to_owned(), "ctid".to_owned()];
        let own = rewrite::keys_text(text, *mode, change, &place)?;
        let columns = numbered(2);
        let equals = ["pg_catalog.=".to_owned(), "pg_catalog.=".to_owned()];
        let same = compared(&keys, &columns, &equals, row, &place);
        Some(format!("EXISTS (SELECT 1 FROM ({own}) AS {keys} ({}) WHERE {same})", columns.join(", ")))
    }
}

struct Aliases(usize);

impl Aliases {
    fn next(&mut self) -> String {
        self.0 += 1;
        format!("sluice_{}", self.0)
    }
}

fn child(edge: &Edge) -> String {
    let only = if edge.partitioned { "" } else { "ONLY " };
    format!("{only}{}", dotted(&edge.key.child.parts))
}

fn numbered(count: usize) -> Vec<String> {
    (1..=count).map(|n| format!("k{n}")).collect()
}

fn each(columns: &[String], write: impl Fn(&String) -> String, between: &str) -> String {
    columns.iter().map(write).collect::<Vec<_>>().join(between)
}

fn compared(
    left: &str,
    left_columns: &[String],
    operators: &[String],
    right: &str,
    right_columns: &[String],
) -> String {
    let pairs = left_columns.iter().zip(operators).zip(right_columns);
    pairs
        .map(|((l, operator), r)| format!("{left}.{} OPERATOR({operator}) {right}.{}", ident(l), ident(r)))
        .collect::<Vec<_>>()
        .join(" AND ")
}
