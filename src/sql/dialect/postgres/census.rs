//! Counts what a parse tree holds without knowing its shape: every node is visited, through the tree's own serialisation.
//!
//! Invariant: the census does not share code with the walk that makes facts. A change that the walk overlooks, because the grammar
//! grew a place where one can stand, is still counted here, and the statement is then unread.

use serde::ser::{self, Serialize};
use std::collections::BTreeSet;

/// What was found below a node.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Census {
    /// INSERT, UPDATE, DELETE and MERGE statements.
    pub inserts: usize,
    pub updates: usize,
    pub deletes: usize,
    pub merges: usize,
    /// SELECT … INTO and CREATE TABLE … AS.
    pub into_clauses: usize,
    /// Functions called, qualified as written, parts joined by dots.
    pub functions: BTreeSet<String>,
    /// Column references and subqueries: what an expression may depend on.
    pub columns: usize,
    pub subqueries: usize,
    /// Queries with an OFFSET.
    pub offsets: usize,
    /// Tables, views and names of WITH, in the order of the tree: database, schema and name, each empty where it is not written.
    pub relations: Vec<[String; 3]>,
}

impl Census {
    pub fn changes(&self) -> usize {
        self.inserts + self.updates + self.deletes + self.merges
    }
}

pub fn take(node: &impl Serialize) -> Census {
    let mut counter = Counter::default();
    // The counter itself never fails.
    let _ = node.serialize(&mut counter);
    counter.census
}

/// The authority's own name for a statement (`VacuumStmt`).
pub fn kind(node: &pg_query::NodeEnum) -> &'static str {
    let mut counter = Counter::default();
    let _ = node.serialize(&mut counter);
    counter.first.unwrap_or("unknown statement")
}

/// A field that is there: something of a kind of its own lies below it.
fn is_some(field: &(impl ?Sized + Serialize)) -> bool {
    let mut counter = Counter::default();
    let _ = field.serialize(&mut counter);
    counter.first.is_some()
}

/// The fields of a RangeVar's name, in their order.
const RELATION: [&str; 3] = ["catalogname", "schemaname", "relname"];

#[derive(Default)]
struct Counter {
    census: Census,
    /// Of a relation's name, what came so far.
    relation: [String; 3],
    /// Inside `funcname`: the parts seen so far.
    name: Option<Vec<String>>,
    /// The first kind of node that was met.
    first: Option<&'static str>,
}

impl Counter {
    fn enter(&mut self, name: &str) {
        match name {
            "InsertStmt" => self.census.inserts += 1,
            "UpdateStmt" => self.census.updates += 1,
            "DeleteStmt" => self.census.deletes += 1,
            "MergeStmt" => self.census.merges += 1,
            "IntoClause" => self.census.into_clauses += 1,
            "ColumnRef" => self.census.columns += 1,
            "SubLink" => self.census.subqueries += 1,
            _ => {}
        }
    }

    /// One part of a relation's name; the last of them is its own.
    fn relation(&mut self, at: usize, part: String) {
        self.relation[at] = part;
        if at + 1 == RELATION.len() {
            self.census.relations.push(std::mem::take(&mut self.relation));
        }
    }
}

/// Serialisation has no error of its own here; the trait wants a type.
#[derive(Debug)]
pub struct Never;

impl std::fmt::Display for Never {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("never")
    }
}
impl std::error::Error for Never {}
impl ser::Error for Never {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Never
    }
}

/// Values without anything below them.
macro_rules! leaves {
    ($($method:ident: $kind:ty),* $(,)?) => {
        $(fn $method(self, _: $kind) -> Result<(), Never> { Ok(()) })*
    };
}

impl<'c> ser::Serializer for &'c mut Counter {
    type Ok = ();
    type Error = Never;
    type SerializeSeq = &'c mut Counter;
    type SerializeTuple = &'c mut Counter;
    type SerializeTupleStruct = &'c mut Counter;
    type SerializeTupleVariant = &'c mut Counter;
    type SerializeMap = &'c mut Counter;
    type SerializeStruct = &'c mut Counter;
    type SerializeStructVariant = &'c mut Counter;

    leaves! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_u8: u8,
        serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_f32: f32, serialize_f64: f64, serialize_char: char,
        serialize_bytes: &[u8], serialize_unit_struct: &'static str,
    }
    fn serialize_str(self, value: &str) -> Result<(), Never> {
        if let Some(parts) = &mut self.name {
            parts.push(String::from(value));
        }
        Ok(())
    }
    fn serialize_none(self) -> Result<(), Never> {
        Ok(())
    }
    fn serialize_unit(self) -> Result<(), Never> {
        Ok(())
    }
    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<(), Never> {
        value.serialize(self)
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), Never> {
        Ok(())
    }
    fn serialize_newtype_struct<T: ?Sized + Serialize>(self, _: &'static str, value: &T) -> Result<(), Never> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Result<(), Never> {
        self.first.get_or_insert(name);
        value.serialize(self)
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Never> {
        Ok(self)
    }
    fn serialize_tuple(self, _: usize) -> Result<Self, Never> {
        Ok(self)
    }
    fn serialize_tuple_struct(self, name: &'static str, _: usize) -> Result<Self, Never> {
        self.enter(name);
        Ok(self)
    }
    fn serialize_tuple_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Self, Never> {
        Ok(self)
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Self, Never> {
        Ok(self)
    }
    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Self, Never> {
        self.enter(name);
        Ok(self)
    }
    fn serialize_struct_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Self, Never> {
        Ok(self)
    }
}

/// The seven ways in which serde hands over what lies below a node.
macro_rules! below {
    ($trait:ident, $method:ident) => {
        impl ser::$trait for &mut Counter {
            type Ok = ();
            type Error = Never;
            fn $method<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Never> {
                value.serialize(&mut **self)
            }
            fn end(self) -> Result<(), Never> {
                Ok(())
            }
        }
    };
}
below!(SerializeSeq, serialize_element);
below!(SerializeTuple, serialize_element);
below!(SerializeTupleStruct, serialize_field);
below!(SerializeTupleVariant, serialize_field);

impl ser::SerializeMap for &mut Counter {
    type Ok = ();
    type Error = Never;
    fn serialize_key<T: ?Sized + Serialize>(&mut self, _: &T) -> Result<(), Never> {
        Ok(())
    }
    fn serialize_value<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Never> {
        value.serialize(&mut **self)
    }
    fn end(self) -> Result<(), Never> {
        Ok(())
    }
}

impl ser::SerializeStruct for &mut Counter {
    type Ok = ();
    type Error = Never;
    fn serialize_field<T: ?Sized + Serialize>(&mut self, field: &'static str, value: &T) -> Result<(), Never> {
        if field == "limit_offset" {
            self.census.offsets += usize::from(is_some(value));
        }
        if let Some(at) = RELATION.iter().position(|part| *part == field) {
            self.name = Some(Vec::new());
            value.serialize(&mut **self)?;
            let part = self.name.take().into_iter().flatten().next().unwrap_or_default();
            self.relation(at, part);
            return Ok(());
        }
        if field != "funcname" {
            return value.serialize(&mut **self);
        }
        self.name = Some(Vec::new());
        value.serialize(&mut **self)?;
        if let Some(parts) = self.name.take().filter(|parts| !parts.is_empty()) {
            self.census.functions.insert(parts.join("."));
        }
        Ok(())
    }
    fn end(self) -> Result<(), Never> {
        Ok(())
    }
}

impl ser::SerializeStructVariant for &mut Counter {
    type Ok = ();
    type Error = Never;
    fn serialize_field<T: ?Sized + Serialize>(&mut self, _: &'static str, value: &T) -> Result<(), Never> {
        value.serialize(&mut **self)
    }
    fn end(self) -> Result<(), Never> {
        Ok(())
    }
}
