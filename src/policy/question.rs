//! What the rules want to know of the database, and what came back.
//!
//! Invariant: an answer that was not had is [`Known::Unknown`] with its reason, never a zero or an empty list.

use crate::sql::facts::{Name, Verb};
use serde::{Deserialize, Serialize};

/// Questions about one change or removal; mostly none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Questions {
    /// The table: columns, keys, triggers, foreign keys that point at it. Cheap, cached for a short time.
    pub table: bool,
    /// How many rows it would touch. Not asked when the table's keys already bound it to one row.
    pub rows: bool,
    /// The cascade tree with counts. Implies `table`.
    pub cascade: bool,
    /// Sample rows and the plan's scan, for a preview.
    pub preview: bool,
    /// How the plan reads the table, where its rows are counted anyway and there are many of them.
    pub plan: bool,
}

impl Questions {
    pub fn none(&self) -> bool {
        !(self.table || self.rows || self.cascade || self.preview || self.plan)
    }
    pub fn and(self, other: Questions) -> Questions {
        Questions {
            table: self.table || other.table,
            rows: self.rows || other.rows,
            cascade: self.cascade || other.cascade,
            preview: self.preview || other.preview,
            plan: self.plan || other.plan,
        }
    }
}

/// An answer, or why there is none.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Known<T> {
    Known(T),
    /// Not asked: the rules did not need it.
    #[default]
    NotAsked,
    /// Asked in vain: the reason, fit to be shown ("permission denied for table x", "no answer within 2 s").
    Unknown(String),
}

impl<T> Known<T> {
    pub fn known(&self) -> Option<&T> {
        match self {
            Known::Known(value) => Some(value),
            _ => None,
        }
    }
}

/// A number of rows, with how well it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Counted, all of them.
    Exact(u64),
    /// Cannot be more: bounded by a unique key or by the text.
    AtMost(u64),
    /// Counting stopped here; there are more.
    AtLeast(u64),
    /// The planner's guess.
    Estimate(u64),
}

impl Rows {
    pub fn number(self) -> u64 {
        match self {
            Rows::Exact(n) | Rows::AtMost(n) | Rows::AtLeast(n) | Rows::Estimate(n) => n,
        }
    }
}

/// Everything known of one statement from the database. `changes` and `removals` run parallel to those of the facts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence {
    pub changes: Vec<ChangeEvidence>,
    pub removals: Vec<RemovalEvidence>,
    /// Names in it that lead to code of the users' own, as the statement writes them; empty: none.
    pub reaches: Vec<String>,
    /// What it did when it was run and rolled back; `Unknown` where that cannot be tried.
    pub effects: Known<Effects>,
    /// Of the end of a transaction: rows that it changed and that nobody was shown.
    pub unshown: Option<u64>,
}

/// What a statement or a transaction did, as the database itself counts it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effects {
    /// Tables of the users', temporary ones left out.
    pub tables: Vec<TableEffect>,
    /// Objects removed or altered, in words.
    pub objects: Vec<String>,
    /// The catalog's rows of relations were changed.
    #[serde(skip)]
    pub schema_changed: bool,
    /// The catalog's rows of functions, triggers and the like were changed.
    #[serde(skip)]
    pub code_changed: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableEffect {
    /// Schema-qualified, quoted where need be.
    pub name: String,
    pub inserted: u64,
    pub updated: u64,
    pub deleted: u64,
    /// Rows changed in a way that the server's counts do not tell: through foreign keys, or added by code.
    #[serde(default)]
    pub untold: u64,
}

impl TableEffect {
    pub fn is_nothing(&self) -> bool {
        self.inserted == 0 && self.destroyed() == 0
    }

    /// Rows that are not what they were.
    pub fn destroyed(&self) -> u64 {
        self.updated.saturating_add(self.deleted).saturating_add(self.untold)
    }

    /// Rows that are not what they were, or were not there.
    pub fn changed(&self) -> u64 {
        self.destroyed().saturating_add(self.inserted)
    }
}

impl Effects {
    pub fn is_nothing(&self) -> bool {
        self.objects.is_empty() && self.tables.iter().all(TableEffect::is_nothing)
    }

    /// Rows of all tables that were added, updated and deleted.
    pub fn changed(&self) -> u64 {
        self.tables.iter().fold(0, |sum, table| sum.saturating_add(table.changed()))
    }

    /// Rows of all tables that are not what they were.
    pub fn destroyed(&self) -> u64 {
        self.tables.iter().fold(0, |sum, table| sum.saturating_add(table.destroyed()))
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct ChangeEvidence {
    pub verb: Verb,
    pub table: Known<Table>,
    /// Rows the change would touch directly.
    pub rows: Known<Rows>,
    /// Rows it would touch through foreign keys, as a tree.
    pub cascade: Known<Vec<Cascade>>,
    /// The tables of those rows, where there are more of them than a batch may have.
    pub carried: Known<Vec<Table>>,
    /// The other tables that the statement names, in the order of [`crate::sql::facts::Facts::reads`].
    pub reads: Known<Vec<Table>>,
    pub sample: Known<Sample>,
    /// How the plan reads the target ("Index Scan using carts_status_idx", "Seq Scan").
    pub scan: Known<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct RemovalEvidence {
    /// The object itself and, with CASCADE, everything it takes along that holds rows.
    pub tables: Known<Vec<RemovedTable>>,
    /// Objects without rows that go too (views, foreign keys, functions), described as the server describes them.
    pub dependents: Known<Vec<String>>,
    /// Foreign keys of other tables for whose sake the server refuses this without CASCADE, as far as that was learned.
    pub refused_for: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct RemovedTable {
    pub name: Name,
    pub rows: Rows,
    pub bytes: u64,
    /// Why it is in the list when it is not the one named ("partition", "orders_cart_id_fkey").
    pub because: Option<String>,
}

/// A table as the catalog has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// The server's own id (PostgreSQL: OID).
    pub id: u64,
    pub schema: String,
    pub name: String,
    pub kind: TableKind,
    pub columns: Vec<Column>,
    /// Columns of each unique key that is immediate, complete and valid; primary key first. Nullable ones included:
    /// equality with a constant never matches NULL.
    pub unique_keys: Vec<Vec<String>>,
    pub primary_key: Vec<String>,
    /// Foreign keys of other tables (or itself) that point here.
    pub referenced_by: Vec<ForeignKey>,
    pub triggers: Vec<Trigger>,
    /// Rewrite rules other than a view's own SELECT.
    pub has_rules: bool,
    /// A view whose rows the server changes as rows of the one table below it: without rules, INSTEAD OF triggers, row
    /// security or foreign tables anywhere in what it reads. Then its counted rows are the rows changed.
    pub maps_to_one: bool,
    /// Row security applies to this user.
    pub row_security: bool,
    /// Children in a partition or inheritance tree.
    pub children: u64,
    /// The server's estimate of all rows (reltuples); `None` when never analysed.
    pub estimated_rows: Option<u64>,
    /// All rows, counted just now: only for previews, and only of a table that is small enough.
    pub exact_rows: Option<u64>,
    pub bytes: u64,
    /// The storage engine, where it keeps no transactions: what it changed is not rolled back (MySQL: MyISAM, Aria, MEMORY…).
    pub keeps_no_transactions: Option<String>,
    /// It keeps its rows as they were beside those that are (MariaDB's system versioning).
    pub versioned: bool,
    /// Why foreign keys may point here that this user is not shown (MySQL shows a key only to who has some right to its table).
    pub unseen_keys: Option<String>,
    /// Why there may be triggers that this user is not shown.
    pub unseen_triggers: Option<String>,
    pub lacks: Lacks,
    /// A digest over everything above that a confirmation depends on: columns, keys, foreign keys, triggers.
    pub shape: String,
}

/// Rights that this user does not have, and that an archive or an undo needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lacks {
    /// To make a table beside it.
    pub archive: bool,
    /// To read all of its columns.
    pub read: bool,
    pub insert: bool,
    /// To set all of its columns.
    pub update: bool,
    pub delete: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TableKind {
    #[default]
    Table,
    Partitioned,
    View,
    MaterializedView,
    Foreign,
    Temporary,
    Other,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    pub name: String,
    pub kind: String,
    pub not_null: bool,
    pub generated: bool,
    /// An identity that only the server gives (GENERATED ALWAYS AS IDENTITY).
    pub always: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ForeignKey {
    pub name: String,
    /// The referencing (child) table, schema-qualified and quoted as needed.
    pub child: Name,
    pub child_columns: Vec<String>,
    /// The referenced table's columns, in the same order.
    pub parent_columns: Vec<String>,
    pub on_delete: Action,
    pub on_update: Action,
    /// An index of the child leads with these columns.
    pub child_indexed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    NoAction,
    Restrict,
    Cascade,
    SetNull,
    SetDefault,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    pub name: String,
    /// "AFTER DELETE, each row"
    pub when: String,
    pub on_insert: bool,
    pub on_update: bool,
    pub on_delete: bool,
    pub each_row: bool,
    /// INSTEAD OF: the change itself does not happen.
    pub instead: bool,
    /// The function it runs.
    pub function: String,
    /// UPDATE OF: an update of other columns does not fire it. Empty: any does.
    pub columns: Vec<String>,
}

/// One foreign key that carries the change on, with what lies below it.
#[derive(Debug, Clone, PartialEq)]
pub struct Cascade {
    pub key: ForeignKey,
    pub action: Action,
    pub rows: Known<Rows>,
    pub below: Vec<Cascade>,
    /// The walk stopped here: "cycle", "16 levels".
    pub stopped: Option<String>,
}

impl Cascade {
    /// All rows of this branch; `None` as soon as one level is unknown.
    pub fn total(&self) -> Option<u64> {
        let mut sum = self.rows.known()?.number();
        for below in &self.below {
            sum = sum.saturating_add(below.total()?);
        }
        Some(sum)
    }

    /// The rows of this branch that are known.
    pub fn known_total(&self) -> u64 {
        let own = self.rows.known().map_or(0, |rows| rows.number());
        self.below.iter().fold(own, |sum, below| sum.saturating_add(below.known_total()))
    }
}

/// Rows as they are, and for an UPDATE as they would be.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    pub columns: Vec<String>,
    /// `None` is NULL. Values longer than a cell are cut, ending in `…`.
    pub rows: Vec<Vec<Option<String>>>,
}
