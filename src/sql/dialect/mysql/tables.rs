//! Lists of table references: `a, b AS x JOIN (c, d) ON …`, as UPDATE and DELETE choose their targets from them.
//!
//! Invariant: every base table of the list is in [`References::tables`], by the name under which the statement's expressions call it.
//!
//! Source: `table_reference_list` in MySQL 9.7's `sql_yacc.yy`, `join_table_list` in MariaDB 10.11's.

use crate::ground::limits;
use crate::sql::dialect::mysql::cursor::{Cursor, Read, Unread};
use crate::sql::dialect::mysql::names;
use crate::sql::facts::Name;
use std::ops::Range;

/// A list as it stands.
#[derive(Debug, Clone, Default)]
pub struct References {
    pub tables: Vec<Table>,
    /// All of it, in tokens.
    pub span: Range<usize>,
    /// What stands behind ON, in tokens.
    pub conditions: Vec<Range<usize>>,
    /// USING, NATURAL: columns are compared that are not written as a condition.
    pub by_name: bool,
}

/// One base table, or a name that the statement's WITH gives to a query.
#[derive(Debug, Clone)]
pub struct Table {
    pub name: Name,
    pub alias: Option<String>,
    /// `t PARTITION (p) AS x`, in tokens.
    pub span: Range<usize>,
    /// It can be filled up with NULLs, or fills up others: a LEFT or RIGHT JOIN stands in the list.
    pub outer: bool,
    /// A derived table or a table function: nothing that could be changed.
    pub derived: bool,
    /// PARTITION (…): not all of its rows.
    pub partial: bool,
}

impl Table {
    /// The name by which expressions call it, without quotes.
    pub fn called(&self) -> &str {
        self.alias.as_deref().or(self.name.parts.last().map(String::as_str)).unwrap_or_default()
    }
}

/// What can follow a table: no alias.
const FOLLOWS: &[&str] = &[
    "as",
    "cross",
    "except",
    "fetch",
    "for",
    "force",
    "from",
    "group",
    "having",
    "ignore",
    "inner",
    "intersect",
    "into",
    "join",
    "left",
    "limit",
    "lock",
    "natural",
    "on",
    "order",
    "partition",
    "procedure",
    "right",
    "select",
    "set",
    "straight_join",
    "union",
    "use",
    "using",
    "values",
    "where",
    "window",
];

/// A list of table references; ends before the first token that is none of its own.
pub fn references(cursor: &mut Cursor) -> Read<References> {
    let mut found = References { span: cursor.at..cursor.at, ..References::default() };
    list(cursor, &mut found)?;
    // Each table that can be changed is looked at beside all others.
    if found.tables.len() > limits::SQL_JOINED_TABLES_MAX {
        return Err(Unread("it joins more tables than a server does".to_owned()));
    }
    found.span.end = cursor.at;
    Ok(found)
}

/// The tables that the queries among these tokens read, names of a WITH among them. `None`: it could not be told.
pub fn read_by_queries(cursor: &Cursor) -> Option<Vec<Name>> {
    let mut found = Vec::new();
    for at in cursor.at..cursor.end {
        let mut here = cursor.within(at..cursor.end);
        if here.keyword(&["table"]) {
            return None;
        }
        if !here.keyword(&["select"]) {
            continue;
        }
        here.at += 1;
        here.run(|here| here.keyword(&["from", "union", "except", "intersect", "into"])).ok()?;
        if !here.eat("from") || here.eat("dual") {
            if here.word("into") {
                return None;
            }
            continue;
        }
        let read = references(&mut here).ok()?;
        let ends = here.done() || here.mark(")") || here.keyword(AFTER_TABLES);
        if !ends {
            return None;
        }
        found.extend(read.tables.into_iter().filter(|table| !table.derived).map(|table| table.name));
    }
    Some(found)
}

/// What may stand behind the tables of a query.
const AFTER_TABLES: &[&str] = &["where", "group", "having", "order", "union", "except", "intersect", "window"];

fn list(cursor: &mut Cursor, found: &mut References) -> Read<()> {
    loop {
        joined(cursor, found)?;
        if !cursor.eat_mark(",") {
            return Ok(());
        }
    }
}

/// One reference with everything that is joined to it. ON can stand behind several joins (`a JOIN b JOIN c ON … ON …`), so joins and
/// their conditions are taken as they come.
fn joined(cursor: &mut Cursor, found: &mut References) -> Read<()> {
    let first = found.tables.len();
    let mut outer = false;
    factor(cursor, found)?;
    loop {
        if cursor.word("on") && !cursor.words(&["on", "duplicate", "key"]) {
            cursor.at += 1;
            let condition = cursor.expression(ENDS)?;
            found.conditions.push(condition);
        } else if cursor.word("using") && cursor.mark_at(1, "(") {
            cursor.at += 1;
            cursor.names_in_parentheses()?;
            found.by_name = true;
        } else if let Some(kind) = join(cursor) {
            outer |= kind == Join::Outer;
            found.by_name |= kind == Join::Natural;
            outer |= kind == Join::Natural;
            factor(cursor, found)?;
        } else {
            break;
        }
    }
    if outer {
        found.tables.iter_mut().skip(first).for_each(|table| table.outer = true);
    }
    Ok(())
}

/// Where a condition behind ON ends.
const ENDS: &[&str] = &[
    "cross",
    "except",
    "fetch",
    "for",
    "group",
    "having",
    "inner",
    "intersect",
    "into",
    "join",
    "left",
    "limit",
    "lock",
    "natural",
    "on",
    "order",
    "procedure",
    "right",
    "set",
    "straight_join",
    "union",
    "using",
    "where",
    "window",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Join {
    Inner,
    Outer,
    Natural,
}

fn join(cursor: &mut Cursor) -> Option<Join> {
    let natural = cursor.eat("natural");
    if cursor.eat("straight_join") || cursor.eat("join") {
        return Some(if natural { Join::Natural } else { Join::Inner });
    }
    let outer = cursor.any(&["left", "right"]);
    if outer || cursor.any(&["inner", "cross"]) {
        let optional = usize::from(outer && cursor.word_at(1, "outer"));
        if cursor.word_at(1 + optional, "join") {
            cursor.at += 2 + optional;
            return Some(match (natural, outer) {
                (true, _) => Join::Natural,
                (false, true) => Join::Outer,
                (false, false) => Join::Inner,
            });
        }
    }
    None
}

fn factor(cursor: &mut Cursor, found: &mut References) -> Read<()> {
    let start = cursor.at;
    if cursor.mark("{") && cursor.word_at(1, "oj") {
        cursor.at += 2;
        list(cursor, found)?;
        return cursor.expect_mark("}");
    }
    let lateral = cursor.eat("lateral");
    if cursor.mark("(") {
        if is_derived(cursor)? {
            return derived(cursor, found, start);
        }
        if lateral {
            return Err(cursor.lost());
        }
        cursor.at += 1;
        list(cursor, found)?;
        return cursor.expect_mark(")");
    }
    if cursor.word("json_table") && cursor.mark_at(1, "(") {
        cursor.at += 1;
        return derived(cursor, found, start);
    }
    let table = table(cursor)?;
    found.tables.push(table);
    Ok(())
}

/// A query in parentheses has a name behind them, a list of tables has none.
fn is_derived(cursor: &Cursor) -> Read<bool> {
    let mut behind = *cursor;
    let inside = behind.parenthesized()?;
    let named = behind.word("as") || (behind.name_at(0) && !behind.any(FOLLOWS));
    let mut query = cursor.within(inside);
    while query.eat_mark("(") {}
    Ok(named && query.any(&["select", "with", "values", "table"]))
}

/// `( … ) AS x (a, b)`
fn derived(cursor: &mut Cursor, found: &mut References, start: usize) -> Read<()> {
    cursor.parenthesized()?;
    let alias = alias(cursor)?;
    if cursor.mark("(") {
        cursor.names_in_parentheses()?;
    }
    let span = start..cursor.at;
    let name = names::name(alias.iter().cloned().collect());
    found.tables.push(Table { name, alias, span, outer: false, derived: true, partial: false });
    Ok(())
}

/// `db.t PARTITION (p0) AS x USE INDEX (i)`
fn table(cursor: &mut Cursor) -> Read<Table> {
    let start = cursor.at;
    let name = cursor.object()?;
    let mut partial = partitions(cursor)?.is_some();
    system_time(cursor)?;
    let alias = alias(cursor)?;
    partial |= partitions(cursor)?.is_some();
    let span = start..cursor.at;
    index_hints(cursor)?;
    Ok(Table { name, alias, span, outer: false, derived: false, partial })
}

/// `PARTITION (p0, p1)`
pub fn partitions(cursor: &mut Cursor) -> Read<Option<Vec<String>>> {
    if !(cursor.word("partition") && cursor.mark_at(1, "(")) {
        return Ok(None);
    }
    cursor.at += 1;
    cursor.names_in_parentheses().map(Some)
}

/// MariaDB: `FOR SYSTEM_TIME AS OF …`, `BETWEEN … AND …`, `FROM … TO …`, `ALL`. What it needs is only ever read.
fn system_time(cursor: &mut Cursor) -> Read<()> {
    if cursor.is_mariadb() && cursor.words(&["for", "system_time"]) {
        return Err(cursor.lost());
    }
    Ok(())
}

/// `[AS] x`
pub fn alias(cursor: &mut Cursor) -> Read<Option<String>> {
    if cursor.eat("as") {
        // A string as an alias of a table is MySQL's own, and is refused by both servers today.
        return cursor.identifier().map(Some);
    }
    let is_clause = cursor.any(FOLLOWS) || (cursor.is_mariadb() && cursor.word("returning"));
    if cursor.name_at(0) && !is_clause { cursor.identifier().map(Some) } else { Ok(None) }
}

/// `USE INDEX FOR ORDER BY (a, PRIMARY)`, any number of them.
fn index_hints(cursor: &mut Cursor) -> Read<()> {
    while cursor.any(&["use", "ignore", "force"]) && (cursor.word_at(1, "index") || cursor.word_at(1, "key")) {
        cursor.at += 2;
        if cursor.eat("for") && !(cursor.eat("join") || cursor.eat_words(&["order", "by"])) {
            cursor.expect("group")?;
            cursor.expect("by")?;
        }
        cursor.names_in_parentheses()?;
    }
    Ok(())
}
