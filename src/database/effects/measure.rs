//! What a transaction has done so far, as the database itself counts it: rows per table, cascades, triggers and function bodies
//! included; and which objects it removed or holds alone.
//!
//! Rows: `pg_stat_get_xact_tuples_…` count attempts of the current transaction; counts of transactions before it may linger (they
//! are reported once a second at most), and a savepoint rolled back stays counted, so two snapshots of one transaction are
//! compared. Partitioned tables have no rows of their own, and a materialized view is made anew from what is there. Objects: dropping, truncating and altering take an ACCESS EXCLUSIVE lock and keep it to the end of the transaction, and
//! leave their mark on the catalog's own counts. Tried on PostgreSQL 15 and 18: 0.2 ms with 400 relations.
//!
//! Invariant: what fell, or is not to be had (`track_counts` off), is unmeasured, never zero.

use crate::database::{Answer, Ask, AskError, quote};
use crate::policy::question::{Effects, TableEffect};
use std::collections::{BTreeMap, HashSet};

/// The counts of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    tables: BTreeMap<u64, Counted>,
    /// Relations locked ACCESS EXCLUSIVE, by id; the name is gone when the relation is.
    locked: BTreeMap<u64, Option<Counted>>,
    /// Relations of this session's temporary schema.
    temporary: HashSet<u64>,
    /// Every relation that holds rows, if they were asked for.
    holding: Option<BTreeMap<u64, String>>,
    /// Cursors that are open; `true`: WITH HOLD.
    cursors: BTreeMap<String, bool>,
    /// `session_replication_role`: as what triggers and foreign keys see the session.
    role: String,
    newest: u64,
    newest_file: u64,
}

/// What is said of a relation that was locked and changed, and keeps its rows.
pub const ALTERED: &str = " altered";

/// How much a snapshot tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    /// What was changed.
    Changes,
    /// And the names of all relations that hold rows: what is going to be removed is told by its name, and apart from what goes with it
    /// (its indexes, its sequences).
    Names,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Counted {
    name: String,
    inserted: u64,
    updated: u64,
    deleted: u64,
    /// Of a locked relation: its bytes, and the file that they are in.
    bytes: u64,
    file: u64,
    temporary: bool,
    /// The server's own catalog.
    system: bool,
}

/// The question, to be sent as it is; [`read`] takes its answer.
pub fn question(telling: Telling) -> String {
    match telling {
        Telling::Changes => quote::catalog(QUESTION),
        Telling::Names => quote::catalog(&format!("{QUESTION} {NAMES}")),
    }
}

pub async fn snapshot(asker: &mut impl Ask) -> Result<Option<Snapshot>, AskError> {
    Ok(read(&asker.ask(&question(Telling::Changes), None).await?))
}

impl Snapshot {
    /// Takes over the names of relations that hold rows.
    pub fn name(&mut self, named: Snapshot) {
        self.holding = named.holding;
    }

    /// A cursor that outlives its transaction, by its name.
    pub fn held_cursor(&self) -> Option<&str> {
        self.cursors.iter().find_map(|(name, held)| held.then_some(name.as_str()))
    }

    /// Cursors that were opened since; what is fetched from one is not done yet. `Err`: one of them runs when the transaction commits.
    pub fn opened_since(&self, before: &Snapshot) -> Result<bool, String> {
        let mut new = self.cursors.iter().filter(|(name, _)| !before.cursors.contains_key(*name)).peekable();
        let opened = new.peek().is_some();
        match new.find(|(_, held)| **held) {
            Some((name, _)) => {
                Err(format!("it opened the cursor {name} WITH HOLD, which runs when the transaction commits"))
            }
            None => Ok(opened),
        }
    }
}

/// `None`: the database does not count, or its answer is not of the form asked for.
pub fn read(answer: &Answer) -> Option<Snapshot> {
    let mut snapshot = Snapshot::default();
    let mut counts = false;
    for row in &answer.rows {
        let at = |column: usize| row.get(column).and_then(|cell| cell.as_deref());
        let number = |column: usize| at(column).and_then(|digits| digits.parse::<u64>().ok());
        let id = number(1)?;
        match at(0)? {
            "on" => {
                counts = at(2)? == "on";
                snapshot.newest = id;
                snapshot.newest_file = at(4).and_then(|digits| digits.parse().ok()).unwrap_or_default();
                snapshot.role = at(3).unwrap_or_default().to_owned();
            }
            "temporary" => {
                snapshot.temporary.insert(id);
            }
            "cursor" => {
                snapshot.cursors.insert(at(2)?.to_owned(), at(6)? == "t");
            }
            "holding" => {
                snapshot.holding.get_or_insert_default().insert(id, at(2)?.to_owned());
            }
            kind => {
                let locked = kind == "lock";
                let count = |column: usize| if locked { Some(0) } else { number(column) };
                let counted = Counted {
                    name: at(2).unwrap_or_default().to_owned(),
                    inserted: count(3)?,
                    updated: count(4)?,
                    deleted: count(5)?,
                    bytes: if locked { number(3).unwrap_or_default() } else { 0 },
                    file: if locked { number(4).unwrap_or_default() } else { 0 },
                    temporary: at(6)? == "t",
                    system: id < FIRST_USER_ID,
                };
                match kind {
                    "rows" => drop(snapshot.tables.insert(id, counted)),
                    "lock" => drop(snapshot.locked.insert(id, at(2).map(|_| counted))),
                    _ => return None,
                }
            }
        }
    }
    counts.then_some(snapshot)
}

/// What was done between the two. `Err`: the counts fell, and why that may be.
pub fn between(before: &Snapshot, after: &Snapshot) -> Result<Effects, String> {
    let nothing = Counted::default();
    let mut effects = Effects::default();
    let truncated = |id: &u64| after.locked.contains_key(id);
    for (id, was) in &before.tables {
        let fell = |now: &Counted| now.updated < was.updated || now.deleted < was.deleted;
        if after.tables.get(id).is_none_or(fell) && !was.temporary && !truncated(id) && (was.updated + was.deleted) > 0
        {
            return Err(format!("the database's counts of {} were set back", was.name));
        }
    }
    for (id, now) in &after.tables {
        let was = before.tables.get(id).unwrap_or(&nothing);
        let effect = TableEffect {
            name: now.name.clone(),
            inserted: now.inserted.saturating_sub(was.inserted),
            updated: now.updated.saturating_sub(was.updated),
            deleted: now.deleted.saturating_sub(was.deleted),
            untold: 0,
        };
        if now.system {
            note_catalog(&effect, &mut effects);
        } else if !now.temporary && !effect.is_nothing() {
            effects.tables.push(effect);
        }
    }
    effects.tables.sort_by(|one, two| one.name.cmp(&two.name));
    objects(before, after, &mut effects);
    if before.role != after.role {
        effects.objects.push(format!("session_replication_role set to {}", after.role));
    }
    Ok(effects)
}

/// Catalog tables whose rows are objects (or their guards), by what the loss of one is called.
fn note_catalog(effect: &TableEffect, effects: &mut Effects) {
    const REMOVED: &[(&str, &str)] = &[
        ("pg_proc", "functions removed"),
        ("pg_namespace", "schemas removed"),
        ("pg_extension", "extensions removed"),
        ("pg_largeobject_metadata", "large objects removed"),
        ("pg_authid", "roles removed"),
        ("pg_database", "databases removed"),
        ("pg_foreign_server", "foreign servers removed"),
        ("pg_event_trigger", "event triggers removed"),
        ("pg_publication", "publications removed"),
        ("pg_subscription", "subscriptions removed"),
    ];
    const CHANGED: &[(&str, &str)] = &[
        ("pg_largeobject", "parts of large objects changed"),
        ("pg_authid", "roles changed"),
        ("pg_trigger", "triggers changed"),
        ("pg_auth_members", "memberships changed"),
    ];
    let bare = effect.name.rsplit('.').next().unwrap_or_default();
    let mut note = |list: &[(&str, &'static str)], number: u64| {
        if let Some((_, what)) = list.iter().find(|(table, _)| *table == bare && number > 0) {
            effects.objects.push(format!("{number} {what}"));
        }
    };
    note(REMOVED, effect.deleted);
    note(CHANGED, effect.updated + if bare == "pg_largeobject" { effect.deleted } else { 0 });
    const CODE: &[&str] = &[
        "pg_proc",
        "pg_trigger",
        "pg_rewrite",
        "pg_operator",
        "pg_cast",
        "pg_policy",
        "pg_constraint",
        "pg_attrdef",
        "pg_inherits",
        "pg_event_trigger",
        "pg_type",
        "pg_statistic_ext",
        "pg_index",
        "pg_amproc",
    ];
    effects.code_changed |= CODE.contains(&bare) && !effect.is_nothing();
    if matches!(bare, "pg_class" | "pg_attribute") {
        effects.schema_changed |= effect.updated + effect.deleted > 0;
    }
}

/// Relations that were there before, are not temporary, and are locked alone. A lock held before tells nothing: what was done under it
/// since does, and if any relation's definition changed, each of them may be it.
fn objects(before: &Snapshot, after: &Snapshot, effects: &mut Effects) {
    let new = after.locked.iter().filter(|(id, _)| {
        **id >= FIRST_USER_ID
            && **id <= before.newest
            && !before.temporary.contains(*id)
            && !after.temporary.contains(*id)
    });
    for (id, counted) in new {
        match counted {
            None if matches!(before.locked.get(id), Some(None)) => {}
            None => match (before.tables.get(id), &before.holding) {
                (Some(known), _) => effects.objects.push(format!("{} removed", known.name)),
                (None, None) => effects.objects.push(format!("relation {id} removed")),
                // An index, a sequence, a view: what held rows is known by its name.
                (None, Some(holding)) => {
                    effects.objects.extend(holding.get(id).map(|name| format!("{name} removed")));
                }
            },
            Some(counted) if counted.temporary => {}
            Some(counted) => effects.objects.extend(changed(counted, id, before, effects.schema_changed)),
        }
    }
}

/// What became of a relation that is locked alone: other rows, or only another form. A table that was rewritten in this transaction is
/// truncated in place, which leaves no mark on the catalog.
fn changed(now: &Counted, id: &u64, before: &Snapshot, schema_changed: bool) -> Option<String> {
    let was = before.locked.get(id).and_then(Option::as_ref);
    let shrank = was.is_some_and(|was| now.bytes < was.bytes);
    // A file that was not there before: numbers of files and of relations come from one count.
    let moved = was.map_or(now.file > before.newest_file.max(before.newest), |was| was.file != now.file);
    match (shrank || moved, schema_changed) {
        (true, _) => Some(format!("{} truncated or rewritten", now.name)),
        (false, true) => Some(format!("{}{ALTERED}", now.name)),
        (false, false) => None,
    }
}

/// Ids below it are given at initdb (`FirstNormalObjectId`, `access/transam.h`).
const FIRST_USER_ID: u64 = 16384;

const QUESTION: &str = "\
SELECT 'on', (SELECT pg_catalog.max(oid) FROM pg_catalog.pg_class)::pg_catalog.text, pg_catalog.current_setting('track_counts'), pg_catalog.current_setting('session_replication_role'), (SELECT pg_catalog.max(relfilenode) FROM pg_catalog.pg_class)::pg_catalog.text, NULL, NULL \
UNION ALL SELECT 'rows', r.oid::pg_catalog.text, r.name, r.i::pg_catalog.text, r.u::pg_catalog.text, r.d::pg_catalog.text, r.t FROM ( \
 SELECT c.oid, pg_catalog.concat(pg_catalog.quote_ident(n.nspname), '.', pg_catalog.quote_ident(c.relname)) AS name, \
  pg_catalog.pg_stat_get_xact_tuples_inserted(c.oid) AS i, pg_catalog.pg_stat_get_xact_tuples_updated(c.oid) AS u, \
  pg_catalog.pg_stat_get_xact_tuples_deleted(c.oid) AS d, CASE WHEN c.relpersistence = 't' THEN 't' ELSE 'f' END AS t \
 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
 WHERE c.relkind = 'r' OFFSET 0) AS r WHERE r.i > 0 OR r.u > 0 OR r.d > 0 \
UNION ALL SELECT 'lock', l.relation::pg_catalog.text, \
  CASE WHEN c.oid IS NOT NULL THEN pg_catalog.concat(pg_catalog.quote_ident(n.nspname), '.', pg_catalog.quote_ident(c.relname)) END, \
  CASE WHEN c.relkind = ANY ('{r,m}'::\"char\"[]) THEN pg_catalog.pg_relation_size(c.oid)::pg_catalog.text END, c.relfilenode::pg_catalog.text, '0', \
  CASE WHEN c.relpersistence = 't' THEN 't' ELSE 'f' END \
 FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_class c ON c.oid = l.relation \
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
 WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.granted \
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) \
  AND COALESCE(c.relkind = ANY ('{r,p,m,S,v,f}'::\"char\"[]), true) \
UNION ALL SELECT 'temporary', oid::pg_catalog.text, NULL, NULL, NULL, NULL, NULL FROM pg_catalog.pg_class \
 WHERE pg_catalog.pg_my_temp_schema() <> 0 AND relnamespace = pg_catalog.pg_my_temp_schema() \
UNION ALL SELECT 'cursor', '0', name, NULL, NULL, NULL, CASE WHEN is_holdable THEN 't' ELSE 'f' END FROM pg_catalog.pg_cursors";

/// What holds rows, temporary relations included: a part of the question that is asked before a removal.
const NAMES: &str = "\
UNION ALL SELECT 'holding', c.oid::pg_catalog.text, pg_catalog.concat(pg_catalog.quote_ident(n.nspname), '.', pg_catalog.quote_ident(c.relname)), \
  NULL, NULL, NULL, NULL FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
 WHERE c.oid >= 16384 AND c.relkind = ANY ('{r,p,m,f}'::\"char\"[])";

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(name: &str, updated: u64, deleted: u64) -> Counted {
        Counted { name: name.to_owned(), updated, deleted, ..Counted::default() }
    }

    fn at(tables: &[(u64, Counted)], locked: &[(u64, Option<Counted>)]) -> Snapshot {
        Snapshot {
            tables: tables.iter().cloned().collect(),
            locked: locked.iter().cloned().collect(),
            newest: 20_000,
            ..Snapshot::default()
        }
    }

    #[test]
    fn only_the_difference_counts() {
        let before = at(&[(17_000, counted("public.t", 5, 5))], &[]);
        let after = at(&[(17_000, counted("public.t", 7, 5)), (17_001, counted("public.u", 0, 3))], &[]);
        let effects = between(&before, &after).expect("nothing fell");
        assert_eq!(effects.destroyed(), 5);
        assert_eq!(effects.tables.len(), 2);
    }

    #[test]
    fn counts_that_fall_are_not_measured_unless_the_table_was_truncated() {
        let before = at(&[(17_000, counted("public.t", 5, 5))], &[]);
        assert!(between(&before, &at(&[], &[])).is_err());
        let mut after = at(&[], &[(17_000, Some(counted("public.t", 0, 0)))]);
        let class = Counted { name: "pg_catalog.pg_class".into(), updated: 2, system: true, ..Counted::default() };
        after.tables.insert(1259, class);
        let effects = between(&before, &after).expect("truncated");
        assert_eq!(effects.objects, vec!["public.t altered"]);
    }

    #[test]
    fn what_was_made_meanwhile_or_is_temporary_is_nobodys_loss() {
        let mut before = at(&[], &[]);
        before.temporary.insert(17_005);
        let after = at(&[], &[(20_001, None), (17_005, None), (17_006, None)]);
        let effects = between(&before, &after).expect("nothing fell");
        assert_eq!(effects.objects, vec!["relation 17006 removed"]);
    }

    #[test]
    fn a_database_that_does_not_count_is_not_measured() {
        let row = |cells: &[&str]| cells.iter().map(|cell| Some((*cell).to_owned())).collect::<Vec<_>>();
        let answer = |on: &str| Answer { columns: Vec::new(), rows: vec![row(&["on", "16400", on])] };
        assert!(read(&answer("on")).is_some());
        assert!(read(&answer("off")).is_none());
        assert!(read(&Answer::default()).is_none());
    }
}
