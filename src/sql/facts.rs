//! What one statement says, as values: the only thing that rules, questions and previews know of a text.
//!
//! Facts are derived from the text alone and can be wrong in one direction only: what was not understood is in
//! [`Facts::unread`], and the policy fails closed on it. Nothing here asks a database.

use crate::sql::statement::Product;
use std::ops::Range;

/// Everything known of one statement from its text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// Whose SQL it is: what to write instead differs.
    pub product: Product,
    pub kind: Kind,
    /// Why the statement could not be read to its end, if so. The other fields then hold what was still understood.
    pub unread: Option<String>,
    /// Every INSERT, UPDATE, DELETE, MERGE (and COPY … FROM) it carries, nested ones included, in the order of the text.
    pub changes: Vec<Change>,
    /// Every object whose rows or definition it would remove whole: TRUNCATE and DROP, ALTER … DROP COLUMN included.
    pub removals: Vec<Removal>,
    /// An UPDATE or DELETE of one table: other tables that it names, in the order of the text, names of its WITH among them. `None`: not told.
    pub reads: Option<Vec<Name>>,
    /// MySQL: tables that it renames or alters, and the names that they get.
    pub redefines: Vec<Name>,
    /// Session and server settings it would change: SET, RESET, set_config with constant arguments, ALTER SYSTEM/ROLE/DATABASE … SET.
    pub settings: Vec<SettingChange>,
    /// What a second run of each change would do: parallel to `changes`.
    pub again: Vec<Again>,
    /// What it does besides: rights, guards, files, programs, other servers.
    pub acts: Vec<Act>,
    /// A query in it skips rows by OFFSET.
    pub pages_by_offset: bool,
    /// Names of the functions it calls, as written, lower-cased unless quoted, without duplicates.
    pub functions: Vec<String>,
    /// What it creates is the session's own: a temporary table.
    pub temporary: bool,
    pub transaction: Option<TransactionVerb>,
    /// `PREPARE name AS …`: the inner statement's facts are this statement's own; this is its name.
    pub prepares: Option<String>,
    /// MySQL's `PREPARE name FROM '…'`: the text that is prepared, as the server will read it. Its facts are this statement's own, but
    /// for spans: those would point into this text.
    pub prepared_text: Option<String>,
    /// MySQL's `PREPARE … FROM @x`, MariaDB's `EXECUTE IMMEDIATE expression`: where the text stands that is prepared or run, as an
    /// expression for the server to evaluate. The statement is unread until that was asked and the text read in its stead.
    pub text_in: Option<String>,
    /// `EXECUTE name (…)`: what it runs must be looked up.
    pub executes: Option<Execution>,
    /// `DEALLOCATE`, `DISCARD`: names of prepared statements may mean something else afterwards.
    pub forgets_prepared: bool,
    /// The highest `$n` in the text, or how many `?` there are; 0 when there is none.
    pub parameters: u16,
    /// The server ends the open transaction before it (MySQL: DDL and its kind), even if the statement then fails.
    pub commits_implicitly: bool,
    /// It can change what later names or texts mean: SET, DDL, DISCARD, DO, CALL, temporary tables…
    pub changes_session: bool,
    /// The server refuses it inside a transaction block (VACUUM, CREATE DATABASE, CREATE INDEX CONCURRENTLY…).
    pub outside_transaction_only: bool,
    /// `/* sluice: key=value … */`, in order.
    pub hints: Vec<(String, String)>,
}

/// What the outer statement is. `Other` carries the authority's own name for it (`VacuumStmt`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Kind {
    /// Nothing but white space and comments.
    #[default]
    Empty,
    /// Reads only: SELECT, VALUES, TABLE, SHOW, FETCH, cursors over reads, plain EXPLAIN of anything.
    Read,
    Insert,
    Update,
    Delete,
    Merge,
    Truncate,
    Drop,
    Alter,
    Create,
    Copy,
    Transaction,
    Set,
    Prepare,
    Execute,
    Do,
    Call,
    Grant,
    /// A `SLUICE …` command, answered by us and never forwarded.
    Sluice,
    Other(String),
    /// Not understood at all: see [`Facts::unread`].
    Unread,
}

impl Facts {
    /// Settings that hold for this statement alone, and may make it mean something else than its text read without them (`SET STATEMENT … FOR`,
    /// `SET_VAR` in a hint).
    pub fn has_own_settings(&self) -> bool {
        const MEAN_THE_SAME: [&str; 12] = [
            "max_statement_time",
            "max_execution_time",
            "lock_wait_timeout",
            "innodb_lock_wait_timeout",
            "optimizer_switch",
            "join_buffer_size",
            "sort_buffer_size",
            "read_rnd_buffer_size",
            "tmp_table_size",
            "max_heap_table_size",
            "optimizer_search_depth",
            "eq_range_index_dive_limit",
        ];
        !self.changes.is_empty() && self.settings.iter().any(|set| !MEAN_THE_SAME.contains(&set.name.as_str()))
    }
}

/// One change to the rows of one table.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub verb: Verb,
    pub target: Name,
    /// The name by which the statement's own expressions call the target: the alias, else the table's last name part, quoted if need be.
    pub called: String,
    /// `ONLY`: children in an inheritance tree are left alone.
    pub only: bool,
    pub restriction: Restriction,
    /// Columns that a top-level AND term equates with a constant or parameter, where only the column's type tells whether that leaves one
    /// value of a unique key: in MySQL a text compared with a number is compared as a number, and many texts are 0. What is in
    /// [`Restriction::Restricts`] holds whatever the type. Folded to lower case, as columns are in all facts of MySQL.
    pub pinned_if: Vec<PinnedIf>,
    /// It changes at most so many rows, by its own LIMIT written as a number.
    pub limit: Option<u64>,
    /// UPDATE and ON CONFLICT DO UPDATE / MERGE UPDATE: what is set.
    pub assignments: Vec<Assignment>,
    /// INSERT: where rows come from, and what happens to a row that is already there.
    pub source: Source,
    pub on_conflict: OnConflict,
    /// Where in the statement it stands.
    pub nesting: Nesting,
    /// The parts of the text that a question about its rows is built from. `None` where such a question cannot be built
    /// (WHERE CURRENT OF, MERGE, most INSERTs): the reason then stands in the preview as "unknown".
    pub clauses: Option<Clauses>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    Insert,
    Update,
    Delete,
    /// MERGE, by what its WHEN clauses may do.
    Merge {
        updates: bool,
        deletes: bool,
    },
    /// COPY … FROM.
    CopyIn,
}

/// A name as written and taken apart. Parts are folded as the server folds them (unquoted: lower case).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Name {
    /// As written, quotes and all: fit to be put into another statement.
    pub written: String,
    /// Database, schema and object, as far as given; the last is the object.
    pub parts: Vec<String>,
}

/// What a predicate does to the target's rows, reasoned from the text.
#[derive(Debug, Clone, PartialEq)]
pub enum Restriction {
    /// No WHERE, or only conditions that leave the target's rows alone (`DELETE FROM t USING u WHERE u.x = 1`); says which.
    Nothing { why: String },
    /// A predicate that keeps every row whatever the data; says why (`id = id … `).
    AlwaysTrue { why: String },
    /// True for every row if these columns of the target cannot be NULL (`id IS NOT NULL`, `id = id`).
    AlwaysTrueIfNotNull { columns: Vec<String>, why: String },
    /// True for every row if all of this holds of the table, which its text does not tell (`x >= -2147483648`, `t IS NOT NULL`).
    AlwaysTrueIf { needs: Vec<Need>, why: String },
    /// It may keep rows out. `pinned` holds the target's columns that a top-level AND term equates with a constant or parameter.
    Restricts { pinned: Vec<String> },
    /// WHERE CURRENT OF: one row.
    CurrentOf { cursor: String },
    /// Rows are added, not chosen (INSERT, COPY FROM).
    NotApplicable,
}

/// What must hold of the target for a condition to be true of every row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// The column is never NULL.
    NotNull(String),
    /// The column's type holds no whole number outside of these, which are part of it.
    Within { column: String, least: Option<i64>, most: Option<i64> },
    /// No column is ever NULL.
    WholeRow,
}

/// A column equated with a constant of some kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PinnedIf {
    pub column: String,
    pub constant: Constant,
}

/// What a column is compared with, and which columns that pins to one value of a unique key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Constant {
    /// A quoted ASCII string without a collation of its own: exact for columns of text, of dates and times (not for numbers beyond 32 bits).
    Text,
    /// A whole number, TRUE and FALSE: exact for columns of whole numbers and of decimals, never for text.
    Integer,
    /// `0x…`, `X'…'`, `B'…'`: exact for columns of text and of bytes, where it is compared byte by byte.
    Bytes,
    /// The parameter of this number, from 1: by the type that is bound to it, as above.
    Parameter(u16),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// The column, folded.
    pub column: String,
    /// The expression as written; `None` where one expression sets several columns (`(a, b) = (SELECT …)`).
    pub value: Option<String>,
}

/// What a second run of a change would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Again {
    /// Nothing that the text tells: the same values are set, the same rows are gone.
    #[default]
    Same,
    /// Columns whose new value builds on their own old one (`n = n + 1`), folded, while nothing in the condition becomes false by it.
    BuildsOn(Vec<String>),
    /// The same rows are added once more, or clash with those of the first run.
    Adds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    None,
    /// VALUES with this many rows (a lower bound when the text was not read to its end).
    Values(u64),
    Select,
    Stream,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    Fails,
    Nothing,
    Updates,
    /// REPLACE: every row that clashes with a new one, by any of the unique keys, is deleted. Foreign keys see a DELETE.
    Replaces,
}

impl OnConflict {
    /// Rows that are there already are written over.
    pub fn overwrites(self) -> bool {
        matches!(self, OnConflict::Updates | OnConflict::Replaces)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nesting {
    /// It is the statement itself.
    Outer,
    /// In a WITH.
    Cte,
    /// Under EXPLAIN ANALYZE (without ANALYZE nothing is changed, and no change is listed).
    Explain,
    /// COPY (DELETE … RETURNING …) TO.
    Copy,
    /// PREPARE … AS: nothing happens until EXECUTE.
    Prepare,
}

/// Spans into the statement's text (bytes, relative to the statement's start).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clauses {
    /// `WITH a AS (…), b AS (…)`, of the statement the change stands in; `None` when there is none. Contains no change itself:
    /// otherwise there are no clauses.
    pub with: Option<Range<usize>>,
    /// `ONLY t AS x`: the target with its alias. Of an INSERT … ON CONFLICT DO UPDATE: the query that yields its rows, all there is.
    pub target: Range<usize>,
    /// UPDATE: what stands between SET and the next clause.
    pub set: Option<Range<usize>>,
    /// USING (DELETE) or FROM (UPDATE) list.
    pub from: Option<Range<usize>>,
    /// MySQL's multi-table forms: the whole list of table references as written, ON and USING included; `target` is then one of them
    /// (`a AS x`), by which expressions call it stands in [`Change::called`], and `from` is `None`.
    pub tables: Option<Range<usize>>,
    /// The condition, without WHERE.
    pub condition: Option<Range<usize>>,
    /// MySQL: what stands behind ORDER BY, and behind LIMIT. The rows changed are the first so many in that order.
    pub order: Option<Range<usize>>,
    pub limit: Option<Range<usize>>,
}

/// An object whose rows or definition go away whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Removal {
    pub what: Removed,
    pub name: Name,
    /// CASCADE was written.
    pub cascade: bool,
    pub if_exists: bool,
    pub nesting: Nesting,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// TRUNCATE: the rows.
    Rows,
    Table,
    /// DROP COLUMN, by its folded name.
    Column(String),
    Schema,
    Database,
    /// DETACH/DROP PARTITION.
    Partition(String),
    MaterializedView,
    Tablespace,
    /// Anything that holds no rows (view, index, function…): listed so that rules can tell it apart.
    Other(String),
}

/// Something that a statement does to other than rows and whole objects, as far as its text tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    pub kind: ActKind,
    /// What it is, in a few words fit to be shown: "GRANT to clerk", "pg_read_file()".
    pub words: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActKind {
    /// Who may do what, whose something is, and which rows somebody sees.
    Rights,
    /// A guard of the database's stays, and no longer acts: a trigger disabled.
    GuardDisabled,
    /// A guard of the database's goes: a constraint, a trigger.
    GuardDropped,
    /// It reaches out of the database: files, programs and settings of the server, other servers, replication.
    Outside,
    /// Data that is no row of a table goes: large objects.
    Unlinks,
    /// What is no row of a table is written: a large object's bytes, a sequence's value. A change like any, and nobody is asked.
    Writes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingChange {
    /// Folded to lower case.
    pub name: String,
    /// The value as text; `None` for RESET, DEFAULT and values not written as constants.
    pub value: Option<String>,
    pub scope: SettingScope,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingScope {
    Session,
    Transaction,
    /// ALTER ROLE/DATABASE/SYSTEM/FUNCTION … SET: outlives the session.
    Lasting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionVerb {
    Begin,
    Commit,
    Rollback,
    Savepoint,
    Release,
    RollbackTo,
    PrepareTransaction,
    CommitPrepared,
    RollbackPrepared,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    /// The prepared statement's name, folded.
    pub name: String,
    /// The arguments as written, in order.
    pub arguments: Vec<String>,
}
