//! The texts of a change in batches for MySQL and MariaDB, which have no statement that changes rows and gives them to another.
//!
//! ```text
//! change   INSERT the matching rows INTO the archive, locking them · the change · UPDATE: the archive's new values from the rows
//! back     the archive's rows that can be put back are marked · they are put back
//! ```
//!
//! Invariants: as for PostgreSQL ([`super`]). What is archived is locked until the batch commits, so what is changed behind it is what was
//! archived: both match the client's own condition in one range of the key, and their numbers are compared before the commit. The archive
//! is clustered by the walked key: no row is archived, and so changed, twice. Key values are written so that no session reads them
//! otherwise. Source: MySQL manual, "Range Optimization" (row constructors are no ranges; what is written here for them is);
//! tried on MySQL 9.7 and MariaDB 10.11.

pub mod carried;

use super::{BATCH, KeyColumn, Piece, Place, Stride, UNDONE, Walk};
use crate::database::quote::mysql::{dotted, hex, ident, literal};

/// Kinds that have one order, and values that can be written into a text exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
    Bytes,
    Time,
}

fn kind(column: &KeyColumn) -> Option<Kind> {
    let name = column.kind.split(['(', ' ']).next().unwrap_or_default().to_ascii_lowercase();
    Some(match name.as_str() {
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "decimal" | "year" => Kind::Number,
        "char" | "varchar" => Kind::Text,
        "binary" | "varbinary" => Kind::Bytes,
        // In a zone with summer time two moments of a `timestamp` are written alike.
        "date" | "datetime" | "time" => Kind::Time,
        _ => return None,
    })
}

/// Whether rows can be walked by it.
pub fn can_be_walked(column: &KeyColumn) -> bool {
    kind(column).is_some()
}

/// The index of the archive by its batches.
const INDEX: &str = "sluice_batches";

/// One column as an archive has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    pub name: String,
    /// `COLUMN_TYPE`.
    pub kind: String,
    /// Character set and collation.
    pub letters: Option<(String, String)>,
    /// Only the server gives it.
    pub generated: bool,
}

impl Definition {
    /// What makes a column for its values, and nothing else: no default, no `ON UPDATE`.
    fn written(&self) -> String {
        match &self.letters {
            Some((set, collation)) => {
                format!("{} CHARACTER SET {set} COLLATE {collation} NULL DEFAULT NULL", self.kind)
            }
            None => format!("{} NULL DEFAULT NULL", self.kind),
        }
    }

    /// Values that are the same to the server may differ in letters.
    fn compares_as_bytes(&self) -> bool {
        self.letters.is_some()
    }
}

/// Asks for the columns of a table: [`definitions`] reads the answer.
pub fn ask_definitions(schema: &str, table: &str) -> String {
    format!(
        "SELECT {}, {}, CHARACTER_SET_NAME, COLLATION_NAME, GENERATION_EXPRESSION <> '' FROM information_schema.COLUMNS \
         WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {} ORDER BY ORDINAL_POSITION",
        hex("COLUMN_NAME"),
        hex("COLUMN_TYPE"),
        literal(schema),
        literal(table)
    )
}

/// `None`: the answer is not of the form asked for.
pub fn definitions(rows: &[Vec<Option<String>>]) -> Option<Vec<Definition>> {
    let plain = |text: &String| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let one = |row: &Vec<Option<String>>| {
        let [name, kind, set, collation, generated] = &row[..] else { return None };
        let unhexed = |cell: &Option<String>| crate::database::quote::mysql::unhex(cell.as_deref()?);
        // `uca1400_ai_ci` is MariaDB's name for one of each character set.
        let letters = match (set, collation) {
            (Some(set), Some(collation)) if plain(set) && plain(collation) => Some((set.clone(), collation.clone())),
            (None, None) => None,
            _ => return None,
        };
        let generated = generated.as_deref().is_some_and(|cell| cell == "1");
        Some(Definition { name: unhexed(name)?, kind: unhexed(kind)?, letters, generated })
    };
    let all: Option<Vec<Definition>> = rows.iter().map(one).collect();
    all.filter(|all| !all.is_empty())
}

/// The texts for one walk.
pub struct Texts<'a> {
    walk: &'a Walk,
}

impl<'a> Texts<'a> {
    pub fn of(walk: &'a Walk) -> Texts<'a> {
        Texts { walk }
    }

    fn table(&self) -> String {
        dotted(&[self.walk.schema.clone(), self.walk.table.clone()])
    }

    fn archive(&self) -> String {
        dotted(&[self.walk.schema.clone(), self.walk.archive.clone()])
    }

    /// Whether the archive is there, its index, and how many triggers somebody hung on it.
    pub fn has_archive(&self) -> String {
        let (schema, archive) = (literal(&self.walk.schema), literal(&self.walk.archive));
        let of = |view: &str, more: &str| {
            format!(
                "(SELECT COUNT(*) FROM information_schema.{view} WHERE TABLE_SCHEMA = {schema} AND TABLE_NAME = {archive}{more})"
            )
        };
        let index = of("STATISTICS", &format!(" AND INDEX_NAME = '{INDEX}'"));
        let triggers = format!(
            "(SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = {schema} AND EVENT_OBJECT_TABLE = {archive})"
        );
        format!("SELECT {} > 0, {index} > 0, {triggers}", of("TABLES", ""))
    }

    /// Whether what stands there says itself that this job made it.
    pub fn is_archive_of(&self, job: &str) -> String {
        format!(
            "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {} AND TABLE_TYPE = 'BASE TABLE' AND INSTR(TABLE_COMMENT, {}) > 0",
            literal(&self.walk.schema),
            literal(&self.walk.archive),
            literal(job)
        )
    }

    /// When the table was made, as it is now: another of its name has another time.
    pub fn born(&self) -> String {
        format!(
            "SELECT CAST(CREATE_TIME AS CHAR) FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
            literal(&self.walk.schema),
            literal(&self.walk.table)
        )
    }

    pub fn drop_archive(&self) -> String {
        format!("DROP TABLE {}", self.archive())
    }

    /// A digest of what table and archive are: columns, triggers, foreign keys that refer to the table. To be asked in a transaction that has
    /// used both, which keeps others from changing them.
    pub fn print(&self) -> String {
        format!("SELECT CONCAT_WS(' ', {})", self.print_parts())
    }

    fn print_parts(&self) -> String {
        let of = |table: &str| {
            let (schema, table) = (literal(&self.walk.schema), literal(table));
            let here = format!("TABLE_SCHEMA = {schema} AND TABLE_NAME = {table}");
            // A table that was altered, or exchanged for another of its name, has another time of creation (one that was emptied has not).
            let digest = |lines: &str, view: &str, which: &str| {
                format!(
                    "(SELECT CONCAT(COUNT(*), ' ', COALESCE(SUM(CRC32(CONCAT_WS(',', {lines}))), 0)) FROM information_schema.{view} WHERE {which})"
                )
            };
            [
                digest("ENGINE, CREATE_TIME, TABLE_TYPE", "TABLES", &here),
                digest(
                    "ORDINAL_POSITION, COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, COALESCE(COLUMN_DEFAULT, '-'), EXTRA, COLLATION_NAME, GENERATION_EXPRESSION",
                    "COLUMNS",
                    &here,
                ),
                digest(
                    "TRIGGER_NAME, ACTION_TIMING, EVENT_MANIPULATION, ACTION_ORDER, CRC32(ACTION_STATEMENT), CREATED",
                    "TRIGGERS",
                    &format!("EVENT_OBJECT_SCHEMA = {schema} AND EVENT_OBJECT_TABLE = {table}"),
                ),
                digest(
                    "CONSTRAINT_SCHEMA, CONSTRAINT_NAME, TABLE_NAME, UNIQUE_CONSTRAINT_NAME, UPDATE_RULE, DELETE_RULE",
                    "REFERENTIAL_CONSTRAINTS",
                    &format!("UNIQUE_CONSTRAINT_SCHEMA = {schema} AND REFERENCED_TABLE_NAME = {table}"),
                ),
            ]
            .join(", ")
        };
        format!("{}, {}", of(&self.walk.table), of(&self.walk.archive))
    }

    /// `by_batch`: one that is found by its batches alone, in which a row that came back and went again stands twice.
    pub fn make_archive(&self, about: &str, columns: &[Definition], by_batch: bool) -> String {
        let first = if by_batch { format!("{BATCH}, ") } else { String::new() };
        let of = |name: &str, column: &Definition| format!("{} {}", ident(name), column.written());
        let is_key = |name: &str| self.walk.key.iter().any(|key| key.name.eq_ignore_ascii_case(name));
        let mut all =
            vec![format!("{BATCH} bigint unsigned NOT NULL"), format!("{UNDONE} datetime(6) NULL DEFAULT NULL")];
        for column in columns {
            all.push(match is_key(&column.name) {
                true => of(&column.name, column).replace(" NULL DEFAULT NULL", " NOT NULL"),
                false => of(&column.name, column),
            });
        }
        if self.walk.is_update() {
            all.extend(columns.iter().map(|column| of(&self.new_name(&column.name), column)));
        }
        format!(
            "CREATE TABLE {} ({}, PRIMARY KEY ({first}{})) ENGINE=InnoDB COMMENT={}",
            self.archive(),
            all.join(", "),
            self.keys("", ""),
            comment(about)
        )
    }

    /// Rows are put back batch by batch.
    pub fn index_archive(&self) -> String {
        format!("ALTER TABLE {} ADD INDEX {INDEX} ({BATCH})", self.archive())
    }

    pub fn last(&self) -> String {
        format!("SELECT {} FROM {} AS t ORDER BY {} LIMIT 1", self.texts("t"), self.table(), self.keys("t.", " DESC"))
    }

    /// The place up to which the archive says it is done; no row where nothing is.
    pub fn done(&self) -> String {
        format!("SELECT {} FROM {} AS t ORDER BY {} LIMIT 1", self.texts("t"), self.archive(), self.keys("t.", " DESC"))
    }

    /// Rows, batches, rows that were put back.
    pub fn done_so_far(&self) -> String {
        format!("SELECT COUNT(*), COALESCE(MAX({BATCH}), 0), COUNT({UNDONE}) FROM {}", self.archive())
    }

    /// Where the next batch ends, as [`Walk::next`] says.
    pub fn next(&self, after: Option<&Place>, end: &Place, stride: Stride) -> String {
        let called = format!("{}.", self.walk.called);
        match stride {
            Stride::Matching(rows) => format!(
                "SELECT {} FROM (SELECT {} FROM {} WHERE {} ORDER BY {} LIMIT {rows}) AS n ORDER BY {} LIMIT 1",
                self.texts("n"),
                self.keys(&called, ""),
                self.walk.target,
                self.where_(after, end),
                self.keys(&called, ""),
                self.keys("n.", " DESC"),
            ),
            Stride::Rows(rows) => format!(
                "SELECT {} FROM {} AS t FORCE INDEX (PRIMARY) WHERE {} ORDER BY {} LIMIT {}, 1",
                self.texts("t"),
                self.table(),
                self.range("t.", after, end),
                self.keys("t.", ""),
                rows.saturating_sub(1)
            ),
        }
    }

    /// The rows of a batch, archived and locked.
    pub fn keep(&self, after: Option<&Place>, end: &Place, batch: u64) -> String {
        let called = format!("{}.", self.walk.called);
        format!(
            "INSERT INTO {} ({BATCH}, {}) SELECT {batch}, {} FROM {} WHERE {} FOR UPDATE",
            self.archive(),
            list("", &self.walk.columns),
            list(&called, &self.walk.columns),
            self.walk.target,
            self.where_(after, end)
        )
    }

    /// The client's own change, within the range.
    pub fn change(&self, after: Option<&Place>, end: &Place) -> String {
        let (target, within) = (&self.walk.target, self.where_(after, end));
        match &self.walk.set {
            Some(set) => format!("UPDATE {target} SET {set}\n WHERE {within}"),
            None => format!("DELETE FROM {target} WHERE {within}"),
        }
    }

    /// What the rows became, behind an UPDATE.
    pub fn keep_new(&self, after: Option<&Place>, end: &Place, batch: u64) -> String {
        let set = |column: &String| format!("a.{} = t.{}", ident(&self.new_name(column)), ident(column));
        format!(
            "UPDATE {} AS a JOIN {} AS t ON {} SET {} WHERE {} AND a.{BATCH} = {batch}",
            self.archive(),
            self.table(),
            self.same("a", "t"),
            self.walk.columns.iter().map(set).collect::<Vec<_>>().join(", "),
            self.range("a.", after, end)
        )
    }

    /// The next batch that is not, or not wholly, put back; the latest first.
    pub fn next_back(&self, below: Option<u64>) -> String {
        let below = below.map_or_else(String::new, |batch| format!(" AND {BATCH} < {batch}"));
        format!("SELECT MAX({BATCH}) FROM {} WHERE {UNDONE} IS NULL{below}", self.archive())
    }

    fn of_batch(&self, batch: u64, piece: Option<&Piece>) -> String {
        let within = piece
            .map_or_else(String::new, |piece| format!(" AND {}", self.range("a.", piece.after.as_ref(), &piece.to)));
        format!("a.{BATCH} = {batch} AND a.{UNDONE} IS NULL{within}")
    }

    /// How many rows of a batch, or of a piece of it, are not put back, and the key of the one at this place among them.
    pub fn at(&self, batch: u64, piece: Option<&Piece>, place: u64) -> [String; 2] {
        let from = format!("FROM {} AS a WHERE {}", self.archive(), self.of_batch(batch, piece));
        let key = format!("SELECT {} {from} ORDER BY {} LIMIT {place}, 1", self.texts("a"), self.keys("a.", ""));
        [format!("SELECT COUNT(*) {from}"), key]
    }

    /// Marks the rows of a batch that can be put back: nobody took their keys, or changed them, since. `mark`: when.
    pub fn mark(&self, batch: u64, piece: Option<&Piece>, mark: &str, unique: &[Vec<String>]) -> String {
        self.mark_those(&self.of_batch(batch, piece), mark, unique)
    }

    fn mark_those(&self, of_batch: &str, mark: &str, unique: &[Vec<String>]) -> String {
        let (archive, table) = (self.archive(), self.table());
        if self.walk.is_update() {
            return format!(
                "UPDATE {archive} AS a JOIN {table} AS t ON {} SET a.{UNDONE} = '{mark}' WHERE {of_batch} AND {}",
                self.same("a", "t"),
                self.equal("t", |column| format!("a.{}", ident(&self.new_name(column))))
            );
        }
        let free = |key: &Vec<String>| {
            let same: Vec<String> = key.iter().map(|name| format!("t.{0} = a.{0}", ident(name))).collect();
            format!("NOT EXISTS (SELECT 1 FROM {table} AS t WHERE {})", same.join(" AND "))
        };
        let own: Vec<String> = self.walk.key.iter().map(|column| column.name.clone()).collect();
        let mut keys = vec![own];
        keys.extend(unique.iter().filter(|key| **key != keys[0]).cloned().collect::<Vec<_>>());
        let free: Vec<String> = keys.iter().map(free).collect();
        format!("UPDATE {archive} AS a SET a.{UNDONE} = '{mark}' WHERE {of_batch} AND {}", free.join(" AND "))
    }

    /// Puts the marked rows of a batch back.
    pub fn back(&self, batch: u64, mark: &str) -> String {
        let marked = format!("a.{BATCH} = {batch} AND a.{UNDONE} = '{mark}'");
        let (archive, table) = (self.archive(), self.table());
        if self.walk.is_update() {
            let is_key = |name: &String| self.walk.key.iter().any(|key| key.name.eq_ignore_ascii_case(name));
            let changed = self.walk.written.iter().filter(|column| !is_key(column));
            let set: Vec<String> = changed.map(|column| format!("t.{0} = a.{0}", ident(column))).collect();
            return format!(
                "UPDATE {archive} AS a JOIN {table} AS t ON {} SET {} WHERE {marked}",
                self.same("a", "t"),
                set.join(", ")
            );
        }
        format!(
            "INSERT INTO {table} ({}) SELECT {} FROM {archive} AS a WHERE {marked}",
            list("", &self.walk.written),
            list("a.", &self.walk.written)
        )
    }

    /// How many of the rows that have just been archived are not in the archive as they are: `new`: of their new values.
    pub fn archived_otherwise(&self, batch: u64, new: bool) -> String {
        let equal = self.equal("t", |column| match new {
            true => format!("a.{}", ident(&self.new_name(column))),
            false => format!("a.{}", ident(column)),
        });
        format!(
            "SELECT COUNT(*) FROM {} AS a LEFT JOIN {} AS t ON {} WHERE a.{BATCH} = {batch} AND NOT ({equal})",
            self.archive(),
            self.table(),
            self.same("a", "t"),
        )
    }

    /// How many rows of a batch that were marked as back then are not what they were.
    pub fn not_as_it_was(&self, batch: u64, mark: &str) -> String {
        format!(
            "SELECT COUNT(*) FROM {} AS a LEFT JOIN {} AS t ON {} WHERE a.{BATCH} = {batch} AND a.{UNDONE} = '{mark}' AND NOT ({})",
            self.archive(),
            self.table(),
            self.same("a", "t"),
            self.equal("t", |column| format!("a.{}", ident(column)))
        )
    }

    /// Keys of rows that were left as they are, some of them.
    pub fn left(&self, rows: usize) -> String {
        let shown = |column: &KeyColumn| hex(&format!("t.{}", ident(&column.name)));
        format!(
            "SELECT {} FROM {} AS t WHERE t.{UNDONE} IS NULL ORDER BY {} LIMIT {rows}",
            self.walk.key.iter().map(shown).collect::<Vec<_>>().join(", "),
            self.archive(),
            self.keys("t.", "")
        )
    }

    fn new_name(&self, column: &str) -> String {
        let name = format!("new:{column}");
        if name.chars().count() <= NAME_CHARS_MAX {
            return name;
        }
        let at = self.walk.columns.iter().position(|known| known == column).unwrap_or_default();
        format!("new:{at}")
    }

    fn equal(&self, of: &str, archived: impl Fn(&str) -> String) -> String {
        let one = |column: &String| {
            let (here, there) = (format!("{of}.{}", ident(column)), archived(column));
            match self.walk.letters.contains(column) {
                true => format!("CAST({here} AS BINARY) <=> CAST({there} AS BINARY)"),
                false => format!("{here} <=> {there}"),
            }
        };
        self.walk.written.iter().map(one).collect::<Vec<_>>().join(" AND ")
    }

    fn same(&self, one: &str, other: &str) -> String {
        let one = |column: &KeyColumn| format!("{one}.{0} = {other}.{0}", ident(&column.name));
        self.walk.key.iter().map(one).collect::<Vec<_>>().join(" AND ")
    }

    fn where_(&self, after: Option<&Place>, end: &Place) -> String {
        let range = self.range(&format!("{}.", self.walk.called), after, end);
        match &self.walk.condition {
            // The line break ends a comment that the condition may end in.
            Some(condition) => format!("({condition}\n) AND {range}"),
            None => range,
        }
    }

    /// Behind one place, and not behind another.
    fn range(&self, of: &str, after: Option<&Place>, end: &Place) -> String {
        let to = self.bound(of, end, "<", "<=");
        match after {
            Some(after) => format!("{} AND {to}", self.bound(of, after, ">", ">")),
            None => to,
        }
    }

    /// `(a > 1 OR (a = 1 AND (b > 2)))`: rows compared column by column.
    fn bound(&self, of: &str, place: &Place, beyond: &str, at_last: &str) -> String {
        let mut columns = self.walk.key.iter().zip(place).rev();
        let written =
            |column: &KeyColumn, value: &String| (format!("{of}{}", ident(&column.name)), value_of(column, value));
        let Some((column, value)) = columns.next() else { return "FALSE".to_owned() };
        let (name, value) = written(column, value);
        let mut bound = format!("{name} {at_last} {value}");
        for (column, value) in columns {
            let (name, value) = written(column, value);
            bound = format!("({name} {beyond} {value} OR ({name} = {value} AND {bound}))");
        }
        bound
    }

    fn texts(&self, of: &str) -> String {
        let one = |column: &KeyColumn| {
            let name = format!("{of}.{}", ident(&column.name));
            match kind(column) {
                // Not every character of every set is one of UTF-8 that leads back to it.
                Some(Kind::Text) if column.letters.is_some() => format!("HEX(CAST({name} AS BINARY))"),
                Some(Kind::Text) => hex(&name),
                Some(Kind::Bytes) => format!("HEX({name})"),
                _ => format!("CAST({name} AS CHAR)"),
            }
        };
        self.walk.key.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    fn keys(&self, of: &str, order: &str) -> String {
        let one = |column: &KeyColumn| format!("{of}{}{order}", ident(&column.name));
        self.walk.key.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

/// As [`Texts::texts`] gives them. What is not of that form matches nothing.
fn value_of(column: &KeyColumn, value: &str) -> String {
    let only = |letters: &[u8]| !value.is_empty() && value.bytes().all(|byte| letters.contains(&byte));
    match kind(column) {
        Some(Kind::Number) if only(b"0123456789-.") => value.to_owned(),
        Some(Kind::Time) if only(b"0123456789-.: ") => format!("'{value}'"),
        Some(Kind::Text) if value.is_empty() || only(b"0123456789ABCDEFabcdef") => match &column.letters {
            Some((set, collation)) => format!("_{set} x'{value}' COLLATE {collation}"),
            None => format!("_utf8mb4 x'{value}'"),
        },
        Some(Kind::Bytes) if value.is_empty() || only(b"0123456789ABCDEFabcdef") => format!("x'{value}'"),
        _ => "NULL".to_owned(),
    }
}

/// A comment takes no expression: letters that no `sql_mode` reads otherwise.
fn comment(about: &str) -> String {
    let plain: String = about.chars().filter(|c| c.is_ascii_alphanumeric() || " .,:_-".contains(*c)).collect();
    format!("'{plain}'")
}

fn list(of: &str, columns: &[String]) -> String {
    columns.iter().map(|column| format!("{of}{}", ident(column))).collect::<Vec<_>>().join(", ")
}

const NAME_CHARS_MAX: usize = 64;

impl Walk {
    /// Takes over what the server says of the columns.
    pub fn defined(mut self, columns: &[Definition]) -> Walk {
        for key in &mut self.key {
            let found = columns.iter().find(|column| column.name.eq_ignore_ascii_case(&key.name));
            key.letters = found.and_then(|column| column.letters.clone());
        }
        self.columns = columns.iter().map(|column| column.name.clone()).collect();
        self.written = columns.iter().filter(|column| !column.generated).map(|column| column.name.clone()).collect();
        self.letters =
            columns.iter().filter(|column| column.compares_as_bytes()).map(|column| column.name.clone()).collect();
        self
    }
}
