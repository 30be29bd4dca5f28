//! Whether a change can be carried out in batches, how, and how large the next one is.
//!
//! Invariant: batches together change exactly what the statement alone would have changed of the rows that were there when it began: so
//! whatever could mean something else in another batch (a function that is not known to give the same again, a subquery, a key that the
//! change moves, a trigger that fires once a statement) makes it run whole, with the reason.

mod family;
mod objections;

pub use objections::reads_clock;

use crate::database::batches::carried::Family;
use crate::database::batches::{Guard, INDEX, KeyColumn, Member, NAME_BYTES_MAX, Place, Stride, Walk, walked_by};
use crate::database::quote;
use crate::ground::ids::JobId;
use crate::ground::limits;
use crate::policy::question::{ChangeEvidence, Evidence, Rows, Table, TableKind};
use crate::policy::settings::Sizes;
use crate::sql::facts::{Change, Facts, Name, Nesting, Verb};
use crate::sql::moments;
use crate::sql::statement::{LexicalMode, Product};
use crate::store::kept::Context;
use family::Kin;
use jiff::Timestamp;
use objections::{
    own_table_objection, own_text_objection, reads_objection, rights_objection, table_objection, text_objection,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What a job needs to go on from any session: kept with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub walk: Walk,
    /// The last key of the table when the job was made.
    pub end: Option<Place>,
    /// The table's, when it was confirmed.
    pub shape: String,
    /// What the text means depends on it.
    pub context: Context,
    pub batch_rows: u64,
    /// Few of the table's rows match.
    pub sparse: bool,
    /// PostgreSQL: the table's oid. MySQL: when it was made.
    #[serde(default)]
    pub oid: Option<String>,
    /// MySQL: the session's `timestamp` while it runs, and the table's other unique keys.
    #[serde(default)]
    pub moment: Option<String>,
    #[serde(default)]
    pub unique: Vec<Vec<String>>,
    /// Where foreign keys carry it on: none before those above it.
    #[serde(default)]
    pub members: Vec<Member>,
    /// Other tables that it reads.
    #[serde(default)]
    pub reads: Vec<Other>,
    /// PostgreSQL: names of functions in it; what is called so beside the server's own; and the columns of its tables by number and name,
    /// of its own and of each member.
    #[serde(default)]
    pub functions: Vec<String>,
    #[serde(default)]
    pub called: Option<String>,
    #[serde(default)]
    pub columns: Vec<Vec<String>>,
    /// PostgreSQL: its rows are counted as those of its partitions.
    #[serde(default)]
    pub is_partitioned: bool,
    /// Foreign keys would carry it on, to tables without such rows as well: what is changed in any other stops it.
    #[serde(default)]
    pub carries: bool,
    /// MySQL: the keys that lead there.
    #[serde(default)]
    pub guards: Vec<Guard>,
    /// Rows that they take along: as shown, and the most that were agreed to.
    #[serde(default)]
    pub rows_below: u64,
    #[serde(default)]
    pub most_below: Option<u64>,
}

/// A table that a subquery of it reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Other {
    /// As the statement names it, and as it is called in full.
    pub written: String,
    pub parts: [String; 2],
    /// The server's own id.
    pub id: u64,
}

impl Plan {
    pub fn family(&self) -> Family<'_> {
        Family { walk: &self.walk, members: &self.members }
    }
}

/// A change that can be cut.
#[derive(Debug)]
pub struct Outline<'a> {
    change: &'a Change,
    table: &'a Table,
    key: Vec<KeyColumn>,
    kin: Vec<Kin<'a>>,
    guards: Vec<Guard>,
    carries: bool,
    reads: Vec<Other>,
    /// As shown; it may be an estimate.
    pub rows: u64,
    /// Rows that foreign keys take along, and of those the ones that may be changed twice.
    pub carried: u64,
    pub twice: u64,
}

/// How a change is carried out.
#[derive(Debug)]
pub enum How<'a> {
    Batches(Outline<'a>),
    /// In one transaction: it is no larger than a batch, or is no change of rows.
    Whole,
    /// In one transaction, because of this.
    WholeBecause(String),
    /// Small enough for one batch, and without an archive because of this.
    WithoutArchive(String),
}

pub fn how<'a>(text: &str, mode: LexicalMode, facts: &'a Facts, evidence: &'a Evidence, sizes: &Sizes) -> How<'a> {
    let ([change], [known]) = (&facts.changes[..], &evidence.changes[..]) else { return How::Whole };
    let is_one = matches!(change.verb, Verb::Update | Verb::Delete) && change.nesting == Nesting::Outer;
    if facts.has_own_settings() {
        return How::WholeBecause("it is written with settings of its own".to_owned());
    }
    if !is_one || facts.unread.is_some() || !facts.removals.is_empty() || facts.prepares.is_some() {
        return How::Whole;
    }
    let rows = known.rows.known().copied();
    let tree = known.cascade.known().filter(|_| change.verb == Verb::Delete);
    let carried = tree.map_or(0, |tree| tree.iter().fold(0u64, |sum, branch| sum.saturating_add(branch.known_total())));
    // Nothing to archive; or it is bounded by a key, and was asked about for other reasons than its size.
    let told = |n: u64| n.saturating_add(carried);
    if matches!(rows, Some(Rows::Exact(n)) if told(n) == 0) {
        return How::Whole;
    }
    let is_small =
        matches!(rows, Some(Rows::Exact(n) | Rows::AtMost(n) | Rows::Estimate(n)) if told(n) <= sizes.batch_rows);
    let whole = if is_small { How::WithoutArchive } else { How::WholeBecause };
    let Some(rows) = rows else { return whole("how many rows it changes is not known".to_owned()) };
    let Some(table) = known.table.known() else { return whole("its table is not known".to_owned()) };
    let can_be_walked = walked_by(facts.product);
    type Objects = fn(&str, LexicalMode, &Facts, &Change) -> Option<String>;
    let own: Objects = if facts.product.either(true, false) { text_objection } else { own_text_objection };
    let objection = own(text, mode, facts, change)
        .or_else(|| table_objection(change, table))
        .or_else(|| reads_objection(facts, change, known, table))
        .or_else(|| rights_objection(table, change.verb == Verb::Update))
        .or_else(|| facts.product.either(None, own_table_objection(change, table, can_be_walked)));
    let key = objection.map_or_else(|| walked_key(change, table, can_be_walked), Err);
    let kin = key.and_then(|key| Ok((key, family::kin(facts.product, change, table, known)?)));
    match kin {
        Ok((key, (kin, guards))) => {
            let carries = family::carries(change, table);
            let reads = others(facts, known);
            let twice = tree.map_or(0, |tree| family::twice(tree));
            How::Batches(Outline {
                change,
                table,
                key,
                kin,
                guards,
                carries,
                reads,
                rows: rows.number(),
                carried,
                twice,
            })
        }
        Err(why) => whole(why),
    }
}

impl Outline<'_> {
    /// `moment`: the time that `now()` stands for in every batch, as an expression; `None`: the session itself keeps it. `Err`: why it
    /// cannot be done after all.
    pub fn walk(
        &self,
        text: &str,
        mode: LexicalMode,
        id: JobId,
        now: Timestamp,
        moment: Option<&str>,
    ) -> Result<Walk, String> {
        let odd = || "its parts could not be told apart".to_owned();
        let clauses = self.change.clauses.as_ref().ok_or_else(odd)?;
        let part = |span: &std::ops::Range<usize>| text.get(span.clone()).ok_or_else(odd);
        let pinned = |span: &std::ops::Range<usize>| {
            let clock = || "it reads the clock, which goes on between batches".to_owned();
            match moment {
                Some(moment) => moments::pinned(part(span)?, mode, moment).ok_or_else(clock),
                None => Ok(part(span)?.to_owned()),
            }
        };
        let columns: Vec<String> = self.table.columns.iter().map(|column| column.name.clone()).collect();
        let is_update = self.change.verb == Verb::Update;
        // What only the server may give was not changed by an UPDATE, and cannot be written by another.
        let written = self.table.columns.iter().filter(|column| !(column.generated || column.always && is_update));
        Ok(Walk {
            schema: self.table.schema.clone(),
            table: self.table.name.clone(),
            target: mode.product().either(self.full_target(), part(&clauses.target)?.to_owned()),
            called: self.change.called.clone(),
            only: self.change.only,
            set: clauses.set.as_ref().map(pinned).transpose()?,
            condition: clauses.condition.as_ref().map(pinned).transpose()?,
            key: self.key.clone(),
            written: written.map(|column| column.name.clone()).collect(),
            columns,
            archive: archive_name(&self.table.name, id, now),
            letters: Vec::new(),
        })
    }

    /// PostgreSQL: the target by its whole name, for another table may come to stand before it in the search path. (MySQL's names lead to the
    /// default database, which a job is bound to, and not all of its versions know a DELETE with an alias.)
    fn full_target(&self) -> String {
        let name = quote::dotted(&[self.table.schema.clone(), self.table.name.clone()]);
        let only = if self.change.only { "ONLY " } else { "" };
        let called = &self.change.called;
        let own = self.change.target.parts.last().is_some_and(|own| called == own || *called == quote::ident(own));
        let alias = if own { String::new() } else { format!(" AS {called}") };
        format!("{only}{name}{alias}")
    }

    pub fn shape(&self) -> &str {
        &self.table.shape
    }

    /// What acts when rows are put back, and may keep them from being what they were.
    pub fn caveat(&self) -> Option<String> {
        let acts = |trigger: &&crate::policy::question::Trigger| match self.change.verb {
            Verb::Update => trigger.on_update,
            _ => trigger.on_insert,
        };
        let below = self.kin.iter().flat_map(Kin::triggers_of_undo);
        let own = self.table.triggers.iter().filter(acts);
        let names: Vec<&str> = own.chain(below).map(|trigger| trigger.name.as_str()).collect();
        let lacks = family::lacks_for_undo(self.table, self.change.verb == Verb::Update);
        let lacks = lacks.or_else(|| self.kin.iter().find_map(Kin::lacks_for_undo));
        let sets = |column: &&String| self.change.assignments.iter().any(|set| set.column.eq_ignore_ascii_case(column));
        let unique = self.table.unique_keys.iter().flatten().find(sets);
        lacks
            .or_else(|| unique.map(|column| format!("{column} is unique, and rows may be in one another's way")))
            .or_else(|| {
                let names = names.join(", ");
                (!names.is_empty())
                    .then(|| format!("what {names} does when rows are put back must leave them what they were"))
            })
    }

    /// The tables below it, none before those above it. `id`, `now`: of the job, which their archives are named for.
    pub fn members(&self, id: JobId, now: Timestamp, product: Product) -> Vec<Member> {
        family::members(&self.kin, archive_name(&self.table.name, id, now), product, |name| archive_name(name, id, now))
    }

    pub fn guards(&self) -> Vec<Guard> {
        self.guards.clone()
    }

    pub fn reads(&self) -> &[Other] {
        &self.reads
    }

    pub fn is_partitioned(&self) -> bool {
        self.table.kind == TableKind::Partitioned
    }

    /// Foreign keys carry it on, were it to nothing as yet.
    pub fn carries(&self) -> bool {
        self.carries
    }

    pub fn unique_keys(&self) -> &[Vec<String>] {
        &self.table.unique_keys
    }

    pub fn table(&self) -> (&str, &str) {
        (&self.table.schema, &self.table.name)
    }

    /// Whether so few of the table's rows match that the server had better be asked where they are. The key of a table that is large beside
    /// them would be walked for hours; where many match, its index tells a batch's end faster than finding them twice.
    pub fn is_sparse(&self) -> bool {
        self.table.estimated_rows.is_none_or(|all| self.rows.saturating_mul(SPARSE) < all)
    }
}

/// The tables that its subqueries read, as they are known.
pub fn others(facts: &Facts, known: &ChangeEvidence) -> Vec<Other> {
    let names = facts.reads.iter().flatten();
    let tables = known.reads.known().into_iter().flatten();
    let other = |(name, table): (&Name, &Table)| Other {
        written: name.written.clone(),
        parts: [table.schema.clone(), table.name.clone()],
        id: table.id,
    };
    names.zip(tables).map(other).collect()
}

/// `_archive_2026_11_carts_4kq2m9xd`: the table's name gives way where the whole would be cut off by the server.
pub fn archive_name(table: &str, id: JobId, now: Timestamp) -> String {
    let (id, month) = (id.to_string().to_lowercase(), now.strftime("%Y_%m").to_string());
    let tail = &id[id.len().saturating_sub(8)..];
    let room = NAME_BYTES_MAX.saturating_sub("_archive__".len() + INDEX.len() + month.len() + 1 + tail.len());
    let mut end = table.len().min(room);
    while !table.is_char_boundary(end) {
        end -= 1;
    }
    format!("_archive_{month}_{}_{tail}", &table[..end])
}

/// The primary key, else another that is never NULL; nothing of it may be changed.
fn walked_key(change: &Change, table: &Table, can_be_walked: fn(&KeyColumn) -> bool) -> Result<Vec<KeyColumn>, String> {
    let set: Vec<&String> = change.assignments.iter().map(|assignment| &assignment.column).collect();
    key_of(table, can_be_walked, &set)
}

fn key_of(table: &Table, can_be_walked: fn(&KeyColumn) -> bool, set: &[&String]) -> Result<Vec<KeyColumn>, String> {
    let column = |name: &String| table.columns.iter().find(|column| &column.name == name);
    let walked = |key: &&Vec<String>| {
        let columns = key.iter().map(column);
        let fit = |column: Option<&crate::policy::question::Column>| {
            column.is_some_and(|column| {
                // One that is made of others moves with them.
                (set.is_empty() || !column.generated)
                    && column.not_null
                    && can_be_walked(&KeyColumn { name: String::new(), kind: column.kind.clone(), letters: None })
            })
        };
        !key.is_empty() && columns.into_iter().all(fit)
    };
    let Some(key) = std::iter::once(&table.primary_key).chain(&table.unique_keys).find(walked) else {
        return Err("it has no unique key of ordinary types that is never NULL".to_owned());
    };
    if let Some(moved) = key.iter().find(|name| set.contains(name)) {
        return Err(format!("it changes {moved}, by which the rows would be walked"));
    }
    let of = |name: &String| {
        column(name).map(|column| KeyColumn { name: name.clone(), kind: column.kind.clone(), letters: None })
    };
    key.iter().map(of).collect::<Option<Vec<_>>>().ok_or_else(|| "its key could not be read".to_owned())
}

/// One row in so many matches at least, where the key is walked by the table's rows.
const SPARSE: u64 = 20;

/// How many rows the next batch may have: as many as take about [`limits::BATCH_TIME`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Of the table's rows, or of those that match.
    width: u64,
    rows_max: u64,
    sparse: bool,
    /// Others hang on a row, and go with it.
    fans: bool,
    time: Duration,
}

impl Pace {
    pub fn new(rows_max: u64, sparse: bool) -> Pace {
        let rows_max = rows_max.max(1);
        Pace { width: rows_max.div_ceil(4), rows_max, sparse, fans: false, time: limits::BATCH_TIME }
    }

    /// About how long a batch may take.
    pub fn timed(self, time: Duration) -> Pace {
        Pace { time, ..self }
    }

    /// No more rows in a batch than may be changed in a second.
    pub fn held_to(self, rate: Option<u64>) -> Pace {
        Pace { width: rate.map_or(self.width, |rate| self.width.min(rate.max(1))), ..self }
    }

    /// Of `rows` in all so many hang on the others.
    pub fn fanned(self, rows: u64, below: u64) -> Pace {
        let own = rows.saturating_sub(below).max(1);
        let width = (u128::from(self.width) * u128::from(own) / u128::from(rows.max(1))).max(1);
        Pace { width: width.min(u128::from(self.rows_max)) as u64, fans: true, ..self }
    }

    pub fn stride(&self) -> Stride {
        if self.sparse { Stride::Matching(self.width) } else { Stride::Rows(self.width) }
    }

    /// A batch of this stride changed so many rows in this time. The next grows and shrinks by no more than twice.
    pub fn took(&mut self, stride: Stride, time: Duration, rows: u64) {
        let (Stride::Rows(width) | Stride::Matching(width)) = stride;
        let clamped = |factor: f64| (width as f64 * factor.clamp(0.5, 2.0)).ceil() as u64;
        let by_time = clamped(self.time.as_secs_f64() / time.as_secs_f64().max(0.000_001));
        let wide = match self.sparse {
            true if !self.fans => self.rows_max,
            _ if self.fans => clamped(self.rows_max as f64 * 0.9 / rows.max(1) as f64),
            // Up to `rows_max` of the table's rows no more than that can match; beyond, a little room is left.
            _ => clamped(self.rows_max as f64 * 0.9 / rows.max(1) as f64).max(self.rows_max),
        };
        self.width = by_time.min(wide).max(1);
    }

    /// Somebody else was in the way.
    pub fn failed(&mut self) {
        self.width = (self.width / 2).max(1);
    }

    /// A batch would have been too large. Returns whether a smaller one can be tried.
    pub fn too_many(&mut self) -> bool {
        let was = self.width;
        self.width = if self.sparse || self.fans { was / 2 } else { self.rows_max }.min(was).max(1);
        self.width < was
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::question::{Column, Known, Lacks, Trigger};
    use crate::sql::read;

    fn table() -> Table {
        let column = |name: &str, kind: &str| Column {
            name: name.to_owned(),
            kind: kind.to_owned(),
            not_null: true,
            generated: name == "g",
            always: false,
        };
        Table {
            schema: "public".to_owned(),
            name: "t".to_owned(),
            columns: vec![
                column("id", "integer"),
                column("a", "text"),
                column("at", "timestamp with time zone"),
                column("g", "text"),
            ],
            primary_key: vec!["id".to_owned()],
            unique_keys: vec![vec!["id".to_owned()], vec!["a".to_owned()]],
            ..Table::default()
        }
    }

    fn reason(text: &str, table: Table, rows: Rows) -> String {
        let facts = read(text, LexicalMode::default()).statements.remove(0).facts;
        let known = ChangeEvidence {
            verb: Verb::Delete,
            table: Known::Known(table),
            rows: Known::Known(rows),
            cascade: Known::Known(Vec::new()),
            carried: Known::NotAsked,
            reads: Known::NotAsked,
            sample: Known::NotAsked,
            scan: Known::NotAsked,
        };
        let evidence = Evidence { changes: vec![known], ..Evidence::default() };
        match how(text, LexicalMode::default(), &facts, &evidence, &Sizes::default()) {
            How::Batches(outline) => {
                let id = JobId::new(Timestamp::UNIX_EPOCH).expect("chance");
                match outline.walk(text, LexicalMode::default(), id, Timestamp::UNIX_EPOCH, Some("M")) {
                    Ok(walk) => walk.key.iter().map(|key| key.name.as_str()).collect::<Vec<_>>().join(","),
                    Err(why) => why,
                }
            }
            How::Whole => "whole".to_owned(),
            How::WholeBecause(why) | How::WithoutArchive(why) => why,
        }
    }

    #[test]
    fn what_can_be_cut_and_what_cannot() {
        let many = Rows::Exact(5_000);
        for (text, expected) in [
            ("DELETE FROM t", "id"),
            ("DELETE FROM t WHERE at < now() - interval '1 day'", "id"),
            ("UPDATE t SET a = lower(a) WHERE a <> lower(a)", "id"),
            ("DELETE FROM t WHERE at < clock_timestamp()", "it reads the clock, which goes on between batches"),
            ("DELETE FROM t WHERE at < localtimestamp", "it reads the clock, which goes on between batches"),
            ("DELETE FROM t WHERE random() < 0.5", "random() may give something else in each batch"),
            ("DELETE FROM t WHERE id IN (SELECT x FROM u)", "what its subqueries read is not known"),
            ("DELETE FROM t WHERE id IN (SELECT 1 LIMIT 1)", "a subquery may find something else in each batch"),
            ("DELETE FROM t USING u WHERE u.id = t.id", "it reads other tables"),
            ("WITH w AS (SELECT 1) DELETE FROM t", "it reads other tables"),
            ("DELETE FROM t RETURNING id", "RETURNING wants its rows from one statement"),
            ("UPDATE t SET at = DEFAULT", "a DEFAULT may give something else in each batch"),
            ("UPDATE t SET id = id + 1", "it changes id, by which the rows would be walked"),
            ("DELETE FROM t WHERE id > $1", "id"),
            ("INSERT INTO t VALUES (1)", "whole"),
            ("EXPLAIN ANALYZE DELETE FROM t", "whole"),
        ] {
            assert_eq!(reason(text, table(), many), expected, "{text}");
        }
        assert_eq!(reason("DELETE FROM t", table(), Rows::Exact(1_000)), "id");
        assert_eq!(reason("DELETE FROM t", table(), Rows::Exact(0)), "whole");
        let poor = |lacks| Table { lacks, ..table() };
        let archive = poor(Lacks { archive: true, ..Lacks::default() });
        assert_eq!(reason("DELETE FROM t", archive, many), "this user may not make an archive in public");
        let read = poor(Lacks { read: true, ..Lacks::default() });
        assert_eq!(reason("DELETE FROM t", read, many), "this user may not read all columns of t");
        let trigger = Trigger {
            name: "once".to_owned(),
            when: String::new(),
            on_insert: false,
            on_update: false,
            on_delete: true,
            each_row: false,
            instead: false,
            function: String::new(),
            columns: Vec::new(),
        };
        let fires = Table { triggers: vec![trigger], ..table() };
        assert_eq!(reason("DELETE FROM t", fires, many), "the trigger once fires once a statement");
        let other_key = Table { primary_key: Vec::new(), unique_keys: vec![vec!["a".to_owned()]], ..table() };
        assert_eq!(reason("DELETE FROM t", other_key, many), "a");
        let none = Table { primary_key: Vec::new(), unique_keys: Vec::new(), ..table() };
        assert_eq!(reason("DELETE FROM t", none, many), "it has no unique key of ordinary types that is never NULL");
        assert_eq!(
            reason("DELETE FROM t", Table { kind: TableKind::View, ..table() }, many),
            "it is no ordinary table"
        );
    }

    #[test]
    fn an_archives_name_is_never_cut_off() {
        let id = JobId::new(Timestamp::UNIX_EPOCH).expect("chance");
        for table in ["carts", &"x".repeat(63), &"ü".repeat(31)] {
            let name = archive_name(table, id, Timestamp::UNIX_EPOCH);
            assert!(name.len() + INDEX.len() <= NAME_BYTES_MAX && name.starts_with("_archive_1970_01_"), "{name}");
        }
    }

    #[test]
    fn batches_grow_and_shrink_towards_their_time() {
        let mut pace = Pace::new(1_000, true);
        assert_eq!(pace.stride(), Stride::Matching(250));
        pace.took(pace.stride(), limits::BATCH_TIME / 10, 250);
        assert_eq!(pace.stride(), Stride::Matching(500));
        pace.took(pace.stride(), limits::BATCH_TIME / 10, 500);
        pace.took(pace.stride(), limits::BATCH_TIME / 10, 1_000);
        assert_eq!(pace.stride(), Stride::Matching(1_000));
        pace.took(pace.stride(), limits::BATCH_TIME * 10, 1_000);
        assert_eq!(pace.stride(), Stride::Matching(500));
        for _ in 0..20 {
            pace.failed();
        }
        assert_eq!(pace.stride(), Stride::Matching(1));
        assert!(!pace.too_many());
    }

    #[test]
    fn of_the_tables_rows_as_many_are_taken_as_hold_a_batch() {
        let mut pace = Pace::new(1_000, false);
        // One in ten matches; the end of each batch is looked up while the one before it runs.
        let mut ahead = pace.stride();
        for _ in 0..20 {
            let (ran, next) = (ahead, pace.stride());
            let Stride::Rows(width) = ran else { panic!("{pace:?}") };
            assert!(width / 10 <= 1_000, "{pace:?}");
            pace.took(ran, limits::BATCH_TIME / 100, width / 10);
            ahead = next;
        }
        assert_eq!(pace.stride(), Stride::Rows(9_000));
        // All of them do.
        assert!(pace.too_many());
        assert_eq!(pace.stride(), Stride::Rows(1_000));
        assert!(!pace.too_many());
        pace.took(pace.stride(), limits::BATCH_TIME / 100, 1_000);
        assert_eq!(pace.stride(), Stride::Rows(1_000));
        // None, for a long stretch, until reading alone takes its time.
        for _ in 0..10 {
            pace.took(pace.stride(), limits::BATCH_TIME / 100, 0);
        }
        assert_eq!(pace.stride(), Stride::Rows(1_024_000));
        pace.took(pace.stride(), limits::BATCH_TIME * 2, 0);
        assert_eq!(pace.stride(), Stride::Rows(512_000));
    }
}
