//! What a table is: its columns, keys, triggers and the foreign keys that point at it, remembered by a session for a short time.
//!
//! Invariant: only what the server answered in full is remembered or returned; a field that is missing or odd makes the whole answer
//! [`Known::Unknown`]. Whoever sees a statement that may change what names mean calls [`Cache::clear`].

pub mod mysql;
pub mod postgres;
mod rights;

use crate::database::{Ask, AskError, quote};
use crate::ground::limits;
use crate::policy::question::{Action, Column, ForeignKey, Known, Lacks, Table, TableKind, Trigger};
use crate::sql::facts::{Facts, Kind, Name, TransactionVerb};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::time::Instant;

/// Asks for one table by the name that the client's statement calls it.
pub async fn table(asker: &mut impl Ask, name: &Name) -> Known<Table> {
    match asker.ask(&postgres::table(&name.parts), None).await {
        Ok(answer) => match answer.rows.first().and_then(|row| row.first()) {
            Some(Some(json)) => read_table(json).map_or_else(|| Known::Unknown(odd()), Known::Known),
            _ => Known::Unknown(format!("relation {} does not exist", quote::dotted(&name.parts))),
        },
        Err(error) => Known::Unknown(reason(&error)),
    }
}

/// Tables that one session knows. Time comes in from outside.
#[derive(Debug, Default)]
pub struct Cache {
    tables: HashMap<Vec<String>, (Instant, Table)>,
    names: Names,
}

/// Whether a name will still mean at its statement what it means while questions are asked, before the whole message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Names {
    /// Nobody said.
    #[default]
    Untold,
    Settled,
    /// Another statement of the message can rename, or change where names are looked up.
    Unsettled,
}

impl Cache {
    /// The statements of the message that is asked about next: `ALTER TABLE a RENAME TO b; DROP TABLE b` drops what was `a`,
    /// though no `b` is there when it is asked for.
    pub fn settle<'a>(&mut self, message: impl Iterator<Item = &'a Facts> + Clone) {
        let settled = message.clone().nth(1).is_none() || !message.clone().any(unsettles);
        self.names = if settled { Names::Settled } else { Names::Unsettled };
    }

    pub fn names(&self) -> Names {
        self.names
    }

    pub fn get(&self, name: &Name, now: Instant) -> Option<&Table> {
        let (since, table) = self.tables.get(&name.parts)?;
        (now.saturating_duration_since(*since) < limits::CATALOG_TTL).then_some(table)
    }

    pub fn put(&mut self, name: &Name, table: Table, now: Instant) {
        if self.tables.len() >= limits::CATALOG_TABLES {
            let oldest = self.tables.iter().min_by_key(|(_, (since, _))| *since).map(|(name, _)| name.clone());
            oldest.map(|name| self.tables.remove(&name));
        }
        self.tables.insert(name.parts.clone(), (now, table));
    }

    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// This table is to be looked at afresh.
    pub fn forget(&mut self, name: &Name) {
        self.tables.remove(&name.parts);
    }

    /// Names may mean something else from here on.
    pub fn clear(&mut self) {
        self.tables.clear();
        self.names = Names::Untold;
    }
}

/// After it, a name may mean another object than before. The end of a transaction can take back what it did. What only adds
/// or drops objects brings no data under another name.
fn unsettles(facts: &Facts) -> bool {
    let ends = facts.transaction.is_some_and(|verb| verb != TransactionVerb::Begin);
    let calm = matches!(
        facts.kind,
        Kind::Empty
            | Kind::Read
            | Kind::Insert
            | Kind::Update
            | Kind::Delete
            | Kind::Merge
            | Kind::Truncate
            | Kind::Copy
            | Kind::Drop
            | Kind::Create
            | Kind::Grant
            | Kind::Prepare
            | Kind::Transaction
    );
    ends || !calm || !facts.settings.is_empty() || facts.unread.is_some()
}

/// An error as a preview can show it.
pub fn reason(error: &AskError) -> String {
    match error {
        AskError::Database { message, .. } => message.clone(),
        AskError::Deadline => "no answer within the time allowed".to_owned(),
        AskError::Cancelled => "cancelled by the client".to_owned(),
        AskError::TooLarge => "the answer was too large".to_owned(),
        AskError::Lost => "the connection to the database was lost".to_owned(),
    }
}

/// The server's answer was not of the form that the question asks for.
pub fn odd() -> String {
    "the catalog's answer could not be read".to_owned()
}

/// A list in an answer; `json_agg` of no rows is NULL.
pub fn list(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Null => Some(&[]),
        Value::Array(values) => Some(values),
        _ => None,
    }
}

pub fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

pub fn texts(value: &Value) -> Option<Vec<String>> {
    list(value)?.iter().map(text).collect()
}

/// A foreign key of either question.
pub fn foreign_key(value: &Value) -> Option<ForeignKey> {
    let key = ForeignKey {
        name: text(&value["name"])?,
        child: quote::shown(value["schema"].as_str()?, value["table"].as_str()?),
        child_columns: texts(&value["child_columns"])?,
        parent_columns: texts(&value["parent_columns"])?,
        on_delete: action(&value["on_delete"])?,
        on_update: action(&value["on_update"])?,
        child_indexed: value["indexed"].as_bool()?,
    };
    (!key.child_columns.is_empty() && key.child_columns.len() == key.parent_columns.len()).then_some(key)
}

fn action(value: &Value) -> Option<Action> {
    match value.as_str()? {
        "a" => Some(Action::NoAction),
        "r" => Some(Action::Restrict),
        "c" => Some(Action::Cascade),
        "n" => Some(Action::SetNull),
        "d" => Some(Action::SetDefault),
        _ => None,
    }
}

fn read_table(json: &str) -> Option<Table> {
    let answer: Value = serde_json::from_str(json).ok()?;
    let (shape, size) = (&answer["shape"], &answer["size"]);
    let keys = list(&shape["keys"])?;
    let lacks = |right: &str| answer["rights"][right].as_bool().map(|has| !has);
    let kind = kind(shape["kind"].as_str()?, shape["temporary"].as_bool()?);
    let is_view = matches!(kind, TableKind::View | TableKind::MaterializedView);
    let rows_known = !is_view && kind != TableKind::Foreign && !size["unknown"].as_bool()?;
    let primary = keys.iter().find(|key| key["primary"] == Value::Bool(true));
    Some(Table {
        id: shape["id"].as_u64()?,
        schema: text(&shape["schema"])?,
        name: text(&shape["name"])?,
        kind,
        columns: list(&shape["columns"])?.iter().map(column).collect::<Option<_>>()?,
        unique_keys: keys.iter().map(|key| texts(&key["columns"])).collect::<Option<_>>()?,
        primary_key: primary.map_or(Some(Vec::new()), |key| texts(&key["columns"]))?,
        referenced_by: list(&shape["foreign_keys"])?.iter().map(foreign_key).collect::<Option<_>>()?,
        triggers: list(&shape["triggers"])?.iter().map(trigger).collect::<Option<_>>()?,
        has_rules: shape["rules"].as_bool()?,
        keeps_no_transactions: None,
        versioned: false,
        unseen_keys: None,
        unseen_triggers: None,
        maps_to_one: kind == TableKind::View && shape["maps_to_one"].as_bool()?,
        row_security: shape["row_security"].as_bool()?,
        children: if is_view { 0 } else { answer["children"].as_u64()? },
        estimated_rows: if rows_known { Some(size["rows"].as_u64()?) } else { None },
        exact_rows: None,
        bytes: if is_view { 0 } else { size["bytes"].as_u64()? },
        lacks: Lacks {
            archive: lacks("archive")?,
            read: lacks("read")?,
            insert: lacks("insert")?,
            update: lacks("update")?,
            delete: lacks("delete")?,
        },
        shape: digest(shape),
    })
}

/// `serde_json` keeps an object's keys in order, so the same shape has the same text.
fn digest(shape: &Value) -> String {
    Sha256::digest(shape.to_string()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn kind(relkind: &str, temporary: bool) -> TableKind {
    match relkind {
        "r" if temporary => TableKind::Temporary,
        "r" => TableKind::Table,
        "p" => TableKind::Partitioned,
        "v" => TableKind::View,
        "m" => TableKind::MaterializedView,
        "f" => TableKind::Foreign,
        _ => TableKind::Other,
    }
}

fn column(value: &Value) -> Option<Column> {
    Some(Column {
        name: text(&value["name"])?,
        kind: text(&value["kind"])?,
        not_null: value["not_null"].as_bool()?,
        generated: value["generated"].as_bool()?,
        always: value["always"].as_bool()?,
    })
}

/// `tgtype` is a set of bits (PostgreSQL's `catalog/pg_trigger.h`).
fn trigger(value: &Value) -> Option<Trigger> {
    const ROW: u64 = 1;
    const BEFORE: u64 = 2;
    const INSERT: u64 = 4;
    const DELETE: u64 = 8;
    const UPDATE: u64 = 16;
    const TRUNCATE: u64 = 32;
    const INSTEAD: u64 = 64;
    let bits = value["type"].as_u64()?;
    let has = |bit| bits & bit != 0;
    let time = if has(INSTEAD) {
        "INSTEAD OF"
    } else if has(BEFORE) {
        "BEFORE"
    } else {
        "AFTER"
    };
    let events: Vec<&str> = [(INSERT, "INSERT"), (UPDATE, "UPDATE"), (DELETE, "DELETE"), (TRUNCATE, "TRUNCATE")]
        .into_iter()
        .filter_map(|(bit, word)| has(bit).then_some(word))
        .collect();
    let each = if has(ROW) { "each row" } else { "once" };
    Some(Trigger {
        name: text(&value["name"])?,
        when: format!("{time} {}, {each}", events.join(" OR ")),
        on_insert: has(INSERT),
        on_update: has(UPDATE),
        on_delete: has(DELETE),
        each_row: has(ROW),
        instead: has(INSTEAD),
        function: text(&value["calls"])?,
        columns: texts(&value["columns"])?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn name(part: &str) -> Name {
        Name { written: part.to_owned(), parts: vec![part.to_owned()] }
    }

    #[test]
    fn a_table_is_forgotten_after_its_time_and_when_told() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        cache.put(&name("carts"), Table { id: 7, ..Table::default() }, start);
        assert_eq!(cache.get(&name("carts"), start).map(|table| table.id), Some(7));
        assert_eq!(cache.get(&name("carts"), start + limits::CATALOG_TTL), None);
        cache.clear();
        assert_eq!(cache.get(&name("carts"), start), None);
    }

    #[test]
    fn the_oldest_table_makes_room() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        for n in 0..=limits::CATALOG_TABLES {
            cache.put(&name(&n.to_string()), Table::default(), start + Duration::from_millis(n as u64));
        }
        let now = start + Duration::from_secs(1);
        assert_eq!(cache.tables.len(), limits::CATALOG_TABLES);
        assert!(cache.get(&name("0"), now).is_none() && cache.get(&name("1"), now).is_some());
    }

    #[test]
    fn an_answer_with_a_missing_field_is_no_table() {
        assert_eq!(read_table(r#"{"shape": {"id": 1}, "size": {}}"#), None);
    }
}
