//! The texts by which one change is carried out in batches: where the next batch ends, the batch itself with its archive, and the way back.
//!
//! ```text
//! next     where a batch ends: so many of the table's rows further on, or so many that match, up to the end that was fixed at the start
//! change   WITH the rows as they are changed: INSERT them INTO the archive
//! back     the archive's rows of one batch, put back where nobody has changed them since
//! ```
//!
//! Invariants: a batch repeats the client's own condition, spliced from its text, and adds its range of the key; before-images are written
//! by the statement that changes the rows, so an archive holds exactly what was changed. An archive is written by the session that made it;
//! whoever goes on with it makes the walked key unique in it first, so no row can be changed twice, whoever tries. (A key from the start
//! costs a quarter of a DELETE's rate.) Operators are tied to `pg_catalog`; names are whole and quoted.
//!
//! A DELETE archives what it returns. An UPDATE joins what it returns with the rows as the statement's snapshot has them, which are the
//! rows that it changed only under REPEATABLE READ: there a row changed by somebody else since fails the statement. Tried on PostgreSQL
//! 15 and 18.

pub mod carried;
pub mod mysql;

use crate::database::quote::{catalog, dotted, ident, literal};
use crate::sql::statement::Product;
use serde::{Deserialize, Serialize};

/// Of which batch a row is, and when it was put back.
pub const BATCH: &str = "sluice_batch";
pub const UNDONE: &str = "sluice_undone";

/// What the names of its indexes end in.
pub const INDEX: &str = "_by_batch";
const KEY_INDEX: &str = "_by_key";

/// A change to the rows of one table, taken apart so that it can be made in ranges of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walk {
    pub schema: String,
    pub table: String,
    /// `ONLY` and the alias as written: the target, as the statement names it.
    pub target: String,
    /// By what the statement's expressions call it.
    pub called: String,
    pub only: bool,
    /// UPDATE: its SET list; `None`: a DELETE.
    pub set: Option<String>,
    pub condition: Option<String>,
    /// The walked key, in order.
    pub key: Vec<KeyColumn>,
    /// All columns, in the table's order.
    pub columns: Vec<String>,
    /// Those of them that can be written: not generated.
    pub written: Vec<String>,
    /// Beside the table, in its schema.
    pub archive: String,
    /// MySQL: those of the columns whose values may differ in letters and be the same to the server.
    #[serde(default)]
    pub letters: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyColumn {
    pub name: String,
    /// By the server's `format_type`.
    pub kind: String,
    /// MySQL: the character set and the collation of a text, in whose own bytes its places are written.
    #[serde(default)]
    pub letters: Option<(String, String)>,
}

/// A table whose rows go with the rows that a change deletes, or lose what they refer to (its walk then sets that to NULL).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub walk: Walk,
    /// The keys by which rows are carried on to it.
    pub links: Vec<Link>,
    /// PostgreSQL: the table's oid.
    pub oid: u64,
    pub unique: Vec<Vec<String>>,
    /// What its rows lose; empty: they go.
    pub unlinked: Vec<String>,
}

/// A foreign key that would carry a change on to a table without such rows: if there are any by now, the batch is rolled back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    pub schema: String,
    pub table: String,
    pub link: Link,
}

/// A foreign key on the way down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// 0: the change's own table; else the member of this number, counted from 1.
    pub above: usize,
    pub parent: Vec<String>,
    pub child: Vec<String>,
}

/// How far the next batch goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stride {
    /// So many of the table's rows, whether they match or not: told from the key's index alone.
    Rows(u64),
    /// So many rows that match, wherever they are.
    Matching(u64),
}

/// Values of the walked key, as texts that read the same in every session.
pub type Place = Vec<String>;

/// Some of a batch's rows, by their keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub after: Option<Place>,
    pub to: Place,
    pub rows: u64,
}

/// Types that have one total order, by operators of the server's own, and a text that reads back as what it was in every session.
const WALKED: &[&str] = &[
    "smallint",
    "integer",
    "bigint",
    "numeric",
    "text",
    "character varying",
    "character",
    "uuid",
    "date",
    "timestamp without time zone",
    "timestamp with time zone",
    "time without time zone",
    "boolean",
    "oid",
    "bytea",
];

/// By which columns a product's tables are walked.
pub fn walked_by(product: Product) -> fn(&KeyColumn) -> bool {
    product.either(KeyColumn::can_be_walked, mysql::can_be_walked)
}

impl KeyColumn {
    pub fn can_be_walked(&self) -> bool {
        // `numeric(12,2)`, `timestamp(3) with time zone`
        let kind = match (self.kind.find('('), self.kind.find(')')) {
            (Some(open), Some(close)) if open < close => format!("{}{}", &self.kind[..open], &self.kind[close + 1..]),
            _ => self.kind.clone(),
        };
        WALKED.contains(&kind.as_str())
    }

    /// JSON writes dates and times in one form, whatever the session's DateStyle.
    fn as_text(&self, column: &str) -> String {
        if self.kind.starts_with("date") || self.kind.starts_with("time") {
            return format!("pg_catalog.to_json({column}) OPERATOR(pg_catalog.#>>) E'{{}}'");
        }
        format!("CAST({column} AS pg_catalog.text)")
    }
}

impl Walk {
    pub fn table_name(&self) -> String {
        dotted(&[self.schema.clone(), self.table.clone()])
    }

    pub fn archive_name(&self) -> String {
        dotted(&[self.schema.clone(), self.archive.clone()])
    }

    fn only(&self) -> &'static str {
        if self.only { "ONLY " } else { "" }
    }

    pub fn is_update(&self) -> bool {
        self.set.is_some()
    }

    /// Whether the archive is there, whether it is as a job makes it, its key's index, and its batches'. Whoever may make tables could have
    /// put another in its place, whose triggers would run by the rights of whoever writes into it.
    pub fn has_archive(&self) -> String {
        let name = |name: &str| literal(&dotted(&[self.schema.clone(), name.to_owned()]));
        let there = |name: &str| format!("pg_catalog.to_regclass({name}) IS NOT NULL");
        let indexes = [KEY_INDEX, INDEX].map(|end| there(&name(&format!("{}{end}", self.archive))));
        let archive = name(&self.archive);
        let own = catalog(OWN).replace("$archive", &archive).replace("$columns", &self.archived_columns().to_string());
        format!("SELECT {}, {own}, {}", there(&archive), indexes.join(", "))
    }

    /// The table's columns, each as its number and its name: a column that was renamed has another name, one that was made anew another number.
    pub fn numbered_columns(&self) -> String {
        format!(
            "SELECT pg_catalog.concat(a.attnum, ' ', a.attname) FROM pg_catalog.pg_attribute a WHERE a.attrelid OPERATOR(pg_catalog.=) pg_catalog.to_regclass({})::pg_catalog.oid \
             AND a.attnum OPERATOR(pg_catalog.>) 0::pg_catalog.int2 AND NOT a.attisdropped ORDER BY a.attnum",
            literal(&self.table_name())
        )
    }

    /// By which publications its rows go to subscribers, if by any.
    pub fn archive_published(&self) -> String {
        format!(
            "SELECT pg_catalog.string_agg(p.pubname, ', ') FROM pg_catalog.pg_publication_tables p \
             WHERE p.schemaname OPERATOR(pg_catalog.=) {} AND p.tablename OPERATOR(pg_catalog.=) {}",
            literal(&self.schema),
            literal(&self.archive)
        )
    }

    /// Whether what stands there says itself that this job made it.
    pub fn is_archive_of(&self, job: &str) -> String {
        let name = literal(&self.archive_name());
        format!(
            "SELECT COALESCE(pg_catalog.strpos(pg_catalog.obj_description(pg_catalog.to_regclass({name})::pg_catalog.oid, 'pg_class'), {}) OPERATOR(pg_catalog.>) 0, false)",
            literal(job)
        )
    }

    fn archived_columns(&self) -> usize {
        2 + self.columns.len() * if self.is_update() { 2 } else { 1 }
    }

    /// A digest of what table and archive are, and the table's oid: what a batch did is what was confirmed only while they stay the same.
    /// To be asked behind a lock that keeps others from changing it.
    pub fn print(&self) -> String {
        let name = |name: &str| literal(&dotted(&[self.schema.clone(), name.to_owned()]));
        catalog(PRINT).replace("$table", &name(&self.table)).replace("$archive", &name(&self.archive))
    }

    /// Keeps others from changing what the table is until the transaction ends. Before anything is read: a table that was rewritten since
    /// a transaction's snapshot looks empty to it.
    pub fn lock(&self) -> String {
        format!("LOCK TABLE {}{} IN ROW EXCLUSIVE MODE", self.only(), self.table_name())
    }

    /// The archive, empty: to be run in one transaction.
    pub fn make_archive(&self, about: &str) -> [String; 3] {
        let mut columns: Vec<String> = self.columns.iter().map(|column| format!("t.{}", ident(column))).collect();
        if self.is_update() {
            let new =
                self.columns.iter().map(|column| format!("t.{} AS {}", ident(column), ident(&self.new_name(column))));
            columns.extend(new);
        }
        let archive = self.archive_name();
        [
            format!(
                "CREATE TABLE {archive} AS SELECT CAST(0 AS pg_catalog.int8) AS {BATCH}, CAST(NULL AS pg_catalog.timestamptz) AS {UNDONE}, {} FROM {}{} AS t WITH NO DATA",
                columns.join(", "),
                self.only(),
                self.table_name(),
            ),
            format!("ALTER TABLE {archive} ALTER {BATCH} SET NOT NULL"),
            format!("COMMENT ON TABLE {archive} IS {}", literal(about)),
        ]
    }

    /// From now on no row is archived, and so changed, twice. Whoever goes on with a job makes it first. A primary key: where a table is
    /// published, its rows can be marked as put back only by one.
    pub fn key_archive(&self) -> String {
        let key: Vec<String> = self.key.iter().map(|column| ident(&column.name)).collect();
        let name = ident(&format!("{}{KEY_INDEX}", self.archive));
        format!("ALTER TABLE {} ADD CONSTRAINT {name} PRIMARY KEY ({})", self.archive_name(), key.join(", "))
    }

    /// Rows are put back batch by batch: without an index each would read the whole archive. Made when it is needed, so that a job that is
    /// never undone does not pay for it.
    pub fn index_archive(&self) -> String {
        format!("CREATE INDEX {} ON {} ({BATCH})", ident(&format!("{}{INDEX}", self.archive)), self.archive_name())
    }

    /// The last key of the table: where the walk ends, although new rows arrive.
    pub fn last(&self) -> String {
        format!(
            "SELECT {} FROM {}{} AS t ORDER BY {} LIMIT 1",
            self.texts("t"),
            self.only(),
            self.table_name(),
            self.falling("t")
        )
    }

    /// The place up to which the archive says it is done; no row where nothing is. Beside it rows and batches so far.
    pub fn done(&self) -> String {
        format!("SELECT {} FROM {} AS t ORDER BY {} LIMIT 1", self.texts("t"), self.archive_name(), self.falling("t"))
    }

    pub fn done_so_far(&self) -> String {
        format!(
            "SELECT pg_catalog.count(*), COALESCE(pg_catalog.max({BATCH}), 0), pg_catalog.count({UNDONE}) FROM {}",
            self.archive_name()
        )
    }

    /// Where the next batch ends. No row: nothing is left that matches, or fewer of the table's rows than that.
    pub fn next(&self, after: Option<&Place>, end: &Place, stride: Stride) -> String {
        let (rows, target, called) = match stride {
            Stride::Matching(rows) => (rows, self.target.clone(), self.called.as_str()),
            Stride::Rows(rows) => (rows, format!("{}{} AS t", self.only(), self.table_name()), "t"),
        };
        let columns: Vec<String> = self.key.iter().map(|column| format!("{called}.{}", ident(&column.name))).collect();
        let rising: Vec<String> = columns.iter().map(|column| format!("{column} ASC")).collect();
        let (within, which) = match stride {
            Stride::Matching(_) => (self.where_(after, end), format!("LIMIT {rows}")),
            Stride::Rows(_) => (self.range("t", after, end), format!("OFFSET {} LIMIT 1", rows.saturating_sub(1))),
        };
        format!(
            "SELECT {} FROM (SELECT {} FROM {target} WHERE {within} ORDER BY {} {which}) AS n ORDER BY {} LIMIT 1",
            self.texts("n"),
            columns.join(", "),
            rising.join(", "),
            self.falling("n"),
        )
    }

    /// The batch: what it changes stands in the archive afterwards. Its tag counts the rows.
    pub fn change(&self, after: Option<&Place>, end: &Place, batch: u64) -> String {
        let (archive, called, within) = (self.archive_name(), &self.called, self.where_(after, end));
        let columns = |of: &str| self.columns.iter().map(|column| format!("{of}{}", ident(column))).collect::<Vec<_>>();
        let Some(set) = &self.set else {
            return format!(
                "WITH sluice_gone AS (DELETE FROM {} WHERE {within} RETURNING {called}.*) INSERT INTO {archive} ({BATCH}, {}) SELECT {batch}, {} FROM sluice_gone",
                self.target,
                columns("").join(", "),
                columns("sluice_gone.").join(", "),
            );
        };
        let new: Vec<String> = self.columns.iter().map(|column| ident(&self.new_name(column))).collect();
        let same: Vec<String> = self.key.iter().map(|column| same("sluice_was", "sluice_now", &column.name)).collect();
        let only = self.only();
        format!(
            "WITH sluice_now AS (UPDATE {} SET {set}\n WHERE {within} RETURNING {called}.*), \
             sluice_was AS (SELECT t.* FROM {only}{} AS t WHERE {}) \
             INSERT INTO {archive} ({BATCH}, {}, {}) SELECT {batch}, {}, {} FROM sluice_now JOIN sluice_was ON {}",
            self.target,
            self.table_name(),
            self.range("t", after, end),
            columns("").join(", "),
            new.join(", "),
            columns("sluice_was.").join(", "),
            columns("sluice_now.").join(", "),
            same.join(" AND "),
        )
    }

    /// The next batch that is not, or not wholly, put back; the latest first.
    pub fn next_back(&self, below: Option<u64>) -> String {
        let below = below.map_or_else(String::new, |batch| format!(" AND {BATCH} OPERATOR(pg_catalog.<) {batch}"));
        format!("SELECT pg_catalog.max({BATCH}) FROM {} WHERE {UNDONE} IS NULL{below}", self.archive_name())
    }

    /// How many rows of a batch, or of a piece of it, are not put back, and the key of the one at this place among them.
    pub fn at(&self, batch: u64, piece: Option<&Piece>, place: u64) -> [String; 2] {
        let within = piece
            .map_or_else(String::new, |piece| format!(" AND {}", self.range("a", piece.after.as_ref(), &piece.to)));
        let from = format!(
            "FROM {} AS a WHERE a.{BATCH} OPERATOR(pg_catalog.=) {batch} AND a.{UNDONE} IS NULL{within}",
            self.archive_name()
        );
        let key = format!("SELECT {} {from} ORDER BY {} OFFSET {place} LIMIT 1", self.texts("a"), self.rising("a"));
        [format!("SELECT pg_catalog.count(*) {from}"), key]
    }

    /// Puts one batch back, or a piece of it, and marks in the archive what is back. Its tag counts those rows; the others were changed
    /// since.
    pub fn back(&self, batch: u64, piece: Option<&Piece>) -> String {
        let within = piece
            .map_or_else(String::new, |piece| format!(" AND {}", self.range("a", piece.after.as_ref(), &piece.to)));
        self.put_back(batch, &within)
    }

    /// The same of the archive's rows `a` that this holds for.
    fn put_back(&self, batch: u64, within: &str) -> String {
        let archive = self.archive_name();
        let key: Vec<String> = self.key.iter().map(|column| ident(&column.name)).collect();
        let names = |of: &str| self.written.iter().map(|column| format!("{of}{}", ident(column))).collect::<Vec<_>>();
        let of_batch = format!("a.{BATCH} OPERATOR(pg_catalog.=) {batch} AND a.{UNDONE} IS NULL{within}");
        let returning: Vec<String> = key.iter().map(|column| format!("t.{column}")).collect();
        let put = match self.is_update() {
            false => format!(
                "INSERT INTO {} AS t ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {archive} AS a WHERE {of_batch} ON CONFLICT DO NOTHING RETURNING {}",
                self.table_name(),
                names("").join(", "),
                names("a.").join(", "),
                returning.join(", "),
            ),
            true => {
                let is_key = |column: &&String| self.key.iter().any(|key| &key.name == *column);
                let changed = self.written.iter().filter(|column| !is_key(column));
                let set: Vec<String> =
                    changed.map(|column| format!("{} = a.{}", ident(column), ident(column))).collect();
                let here: Vec<String> = self.key.iter().map(|column| same("t", "a", &column.name)).collect();
                let only = self.only();
                format!(
                    "UPDATE {only}{} AS t SET {} FROM {archive} AS a WHERE {of_batch} AND {} AND {} RETURNING {}",
                    self.table_name(),
                    set.join(", "),
                    here.join(" AND "),
                    self.equal("t", |column| format!("a.{}", ident(&self.new_name(column)))),
                    returning.join(", "),
                )
            }
        };
        let marked: Vec<String> = self.key.iter().map(|column| same("a", "sluice_back", &column.name)).collect();
        format!(
            "WITH sluice_back AS ({put}) UPDATE {archive} AS a SET {UNDONE} = pg_catalog.now() FROM sluice_back WHERE a.{BATCH} OPERATOR(pg_catalog.=) {batch} AND {}",
            marked.join(" AND ")
        )
    }

    /// How many of the rows of a batch that this transaction marked as back are not what they were.
    pub fn not_as_it_was(&self, batch: u64) -> String {
        let here: Vec<String> = self.key.iter().map(|column| same("t", "a", &column.name)).collect();
        format!(
            "SELECT pg_catalog.count(*) FROM {} AS a LEFT JOIN {}{} AS t ON {} WHERE a.{BATCH} OPERATOR(pg_catalog.=) {batch} AND a.{UNDONE} OPERATOR(pg_catalog.=) pg_catalog.now() AND NOT ({})",
            self.archive_name(),
            self.only(),
            self.table_name(),
            here.join(" AND "),
            self.equal("t", |column| format!("a.{}", ident(column))),
        )
    }

    /// Keys of rows that were left as they are, some of them.
    pub fn left(&self, rows: usize) -> String {
        format!(
            "SELECT {} FROM {} AS t WHERE t.{UNDONE} IS NULL ORDER BY {} LIMIT {rows}",
            self.texts("t"),
            self.archive_name(),
            self.rising("t")
        )
    }

    /// The name that a column's new value has in the archive.
    fn new_name(&self, column: &str) -> String {
        let name = format!("new:{column}");
        if name.len() <= NAME_BYTES_MAX {
            return name;
        }
        let at = self.columns.iter().position(|known| known == column).unwrap_or_default();
        format!("new:{at}")
    }

    /// All writable columns hold what the archive says, bit by bit: not every type has an equality, and a text may be rounded.
    fn equal(&self, of: &str, archived: impl Fn(&str) -> String) -> String {
        let here: Vec<String> = self.written.iter().map(|column| format!("{of}.{}", ident(column))).collect();
        let there: Vec<String> = self.written.iter().map(|column| archived(column)).collect();
        format!("pg_catalog.record_image_eq(ROW({}), ROW({}))", here.join(", "), there.join(", "))
    }

    fn where_(&self, after: Option<&Place>, end: &Place) -> String {
        let range = self.range(&self.called, after, end);
        match &self.condition {
            // The line break ends a comment that the condition may end in.
            Some(condition) => format!("({condition}\n) AND {range}"),
            None => range,
        }
    }

    /// Behind one place, and not behind another.
    fn range(&self, of: &str, after: Option<&Place>, end: &Place) -> String {
        let columns: Vec<String> = self.key.iter().map(|column| format!("{of}.{}", ident(&column.name))).collect();
        let row = |values: &Place| values.iter().map(|value| literal(value)).collect::<Vec<_>>().join(", ");
        let columns = columns.join(", ");
        let to = format!("ROW({columns}) OPERATOR(pg_catalog.<=) ROW({})", row(end));
        match after {
            Some(after) => format!("ROW({columns}) OPERATOR(pg_catalog.>) ROW({}) AND {to}", row(after)),
            None => to,
        }
    }

    fn texts(&self, of: &str) -> String {
        let one = |column: &KeyColumn| column.as_text(&format!("{of}.{}", ident(&column.name)));
        self.key.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    fn falling(&self, of: &str) -> String {
        self.key.iter().map(|column| format!("{of}.{} DESC", ident(&column.name))).collect::<Vec<_>>().join(", ")
    }

    fn rising(&self, of: &str) -> String {
        self.key.iter().map(|column| format!("{of}.{} ASC", ident(&column.name))).collect::<Vec<_>>().join(", ")
    }
}

/// An ordinary table of this user's, with as many columns as a job gives it and nothing that acts when it is written.
const OWN: &str = "EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_roles r ON r.oid = c.relowner \
    WHERE c.oid = pg_catalog.to_regclass($archive) AND c.relkind = 'r' AND c.relpersistence <> 't' AND r.rolname = current_user \
    AND NOT c.relrowsecurity AND NOT c.relispartition \
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid) \
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_rewrite w WHERE w.ev_class = c.oid) \
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid OR i.inhparent = c.oid) \
    AND (SELECT pg_catalog.count(*) FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) = $columns)";

const PRINT: &str = "WITH sluice_of AS (SELECT pg_catalog.to_regclass($table)::pg_catalog.oid AS oid \
    UNION SELECT p.relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass($table)) p \
    UNION SELECT pg_catalog.to_regclass($archive)::pg_catalog.oid) \
    SELECT pg_catalog.md5(pg_catalog.string_agg(l.line, ',' ORDER BY l.line COLLATE \"C\")), pg_catalog.to_regclass($table)::pg_catalog.oid::pg_catalog.text FROM (\
    SELECT pg_catalog.concat('column ', a.attrelid, ' ', a.attnum, ' ', a.attname, ' ', a.atttypid, ' ', a.atttypmod, ' ', a.attnotnull, a.attgenerated, a.attidentity, a.attcollation) AS line \
    FROM pg_catalog.pg_attribute a WHERE a.attrelid IN (SELECT o.oid FROM sluice_of o) AND a.attnum > 0 AND NOT a.attisdropped \
    UNION ALL SELECT pg_catalog.concat('trigger ', g.tgrelid, ' ', g.tgname, ' ', g.tgenabled, ' ', g.tgfoid, ' ', g.tgtype, ' ', p.xmin) \
    FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_proc p ON p.oid = g.tgfoid WHERE g.tgrelid IN (SELECT o.oid FROM sluice_of o) \
    UNION ALL SELECT pg_catalog.concat('rule ', w.ev_class, ' ', w.rulename) FROM pg_catalog.pg_rewrite w WHERE w.ev_class IN (SELECT o.oid FROM sluice_of o) \
    UNION ALL SELECT pg_catalog.concat('table ', c.oid, ' ', c.relkind, c.relowner, c.relrowsecurity, c.relforcerowsecurity) \
    FROM pg_catalog.pg_class c WHERE c.oid IN (SELECT o.oid FROM sluice_of o) \
    UNION ALL SELECT pg_catalog.concat('child ', i.inhparent, ' ', i.inhrelid) FROM pg_catalog.pg_inherits i WHERE i.inhparent IN (SELECT o.oid FROM sluice_of o)) l";

/// PostgreSQL cuts longer names off.
pub const NAME_BYTES_MAX: usize = 63;

fn same(one: &str, other: &str, column: &str) -> String {
    format!("{one}.{0} OPERATOR(pg_catalog.=) {other}.{0}", ident(column))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::facts::Verb;
    use crate::sql::read;
    use crate::sql::statement::LexicalMode;

    fn walk(set: Option<&str>) -> Walk {
        let key = |name: &str, kind: &str| KeyColumn { name: name.to_owned(), kind: kind.to_owned(), letters: None };
        Walk {
            schema: "public".to_owned(),
            table: "Carts".to_owned(),
            target: "\"Carts\" AS c".to_owned(),
            called: "c".to_owned(),
            only: false,
            set: set.map(str::to_owned),
            condition: Some("c.a = 1 -- old".to_owned()),
            key: vec![key("a", "integer"), key("b", "timestamp(3) with time zone")],
            columns: ["a", "b", "g", "n"].map(str::to_owned).to_vec(),
            written: ["a", "b", "n"].map(str::to_owned).to_vec(),
            archive: "_archive_2026_11_Carts_X".to_owned(),
            letters: Vec::new(),
        }
    }

    #[test]
    fn every_text_is_one_statement_that_changes_what_it_says() {
        const MODE: LexicalMode = LexicalMode::Postgres { standard_conforming_strings: true };
        let (after, end) = (vec!["1".to_owned(), "it's".to_owned()], vec!["9".to_owned(), "z".to_owned()]);
        let verbs = |text: &str| {
            let reading = read(text, MODE);
            let mut found: Vec<String> = Vec::new();
            assert_eq!(reading.statements.len(), 1, "{text}");
            let facts = &reading.statements[0].facts;
            assert_eq!(facts.unread, None, "{text}");
            found.extend(
                facts.changes.iter().map(|change| format!("{:?} {}", change.verb, change.target.parts.join("."))),
            );
            found
        };
        for (walk, verb) in [(walk(None), Verb::Delete), (walk(Some("n = n + 1 -- more")), Verb::Update)] {
            let archive = "Insert public._archive_2026_11_Carts_X".to_owned();
            for text in [
                walk.last(),
                walk.print(),
                walk.has_archive(),
                walk.done(),
                walk.done_so_far(),
                walk.next(Some(&after), &end, Stride::Matching(5)),
                walk.next(None, &end, Stride::Rows(5)),
            ] {
                assert_eq!(verbs(&text), Vec::<String>::new(), "{text}");
            }
            for after in [None, Some(&after)] {
                let mut found = verbs(&walk.change(after, &end, 3));
                found.sort();
                let mut expected = vec![format!("{verb:?} Carts"), archive.clone()];
                expected.sort();
                assert_eq!(found, expected);
            }
            for text in [walk.next_back(None), walk.next_back(Some(3)), walk.not_as_it_was(3), walk.left(10)] {
                assert_eq!(verbs(&text), Vec::<String>::new(), "{text}");
            }
            assert_eq!(verbs(&walk.back(3, None)).len(), 2);
            for text in walk.make_archive("it's ours").into_iter().chain([walk.index_archive(), walk.key_archive()]) {
                assert_eq!(read(&text, MODE).statements[0].facts.unread, None, "{text}");
            }
        }
    }

    #[test]
    fn only_types_of_one_order_are_walked() {
        for (kind, expected) in [
            ("integer", true),
            ("character varying(40)", true),
            ("numeric(12,2)", true),
            ("timestamp(3) with time zone", true),
            ("double precision", false),
            ("citext", false),
            ("integer[]", false),
            ("money", false),
        ] {
            assert_eq!(
                KeyColumn { name: "k".to_owned(), kind: kind.to_owned(), letters: None }.can_be_walked(),
                expected,
                "{kind}"
            );
        }
    }
}
