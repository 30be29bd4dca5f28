//! What a database holds, as counted keys: one for each row of each table, each object, each large object.
//!
//! Invariant: what is lost between two states is what was destroyed; what is new is not. A sequence is lost when it went back.
//! Everything is known by its oid, so that a new name alone is no loss, and with what must not change of it, so that a guard that
//! was switched off is one. States of two databases are never compared.

use crate::harness::server::{SUPERUSER, Server};
use crate::harness::wire::Wire;
use std::collections::BTreeMap;
use std::time::Instant;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    /// A hash of each row, all in one text, by the table's oid: mostly they need only be compared.
    rows: BTreeMap<String, String>,
    tables: BTreeMap<String, String>,
    /// How a person calls it, by what it is known by.
    objects: BTreeMap<String, String>,
    sequences: BTreeMap<String, i64>,
}

/// What was there and is not any more.
#[derive(Clone, Default, Debug)]
pub struct Lost {
    pub rows: BTreeMap<String, usize>,
    pub objects: Vec<String>,
}

impl Lost {
    pub fn rows_count(&self) -> usize {
        self.rows.values().sum()
    }

    /// An object, or more rows than the gate lets through without asking.
    pub fn is_destruction(&self) -> bool {
        !self.objects.is_empty() || self.rows_count() > FREE_ROWS
    }

    /// A few words, for a report.
    pub fn brief(&self) -> String {
        let rows = self.rows.iter().map(|(table, count)| format!("{count} rows of {table}"));
        let objects = self.objects.iter().take(3).map(|object| object.chars().take(60).collect());
        let mut parts: Vec<String> = rows.chain(objects).collect();
        if self.objects.len() > 3 {
            parts.push(format!("{} objects", self.objects.len()));
        }
        parts.join(", ")
    }
}

/// `free_rows` at its default.
const FREE_ROWS: usize = 100;

impl State {
    /// Of this database, once nobody else is in it. What was prepared for two-phase commit and left is rolled back.
    pub fn of(server: &Server, database: &str) -> State {
        let mut cluster = Wire::login(&server.tcp(), SUPERUSER, "postgres");
        wait_until_alone(&mut cluster, database);
        for row in
            cluster.simple(&format!("SELECT 1 FROM pg_prepared_xacts WHERE database = '{database}' LIMIT 1")).rows()
        {
            assert!(!row.is_empty());
            forget_prepared(&mut Wire::login(&server.tcp(), SUPERUSER, database), database);
        }
        State::with_others_there(server, database)
    }

    /// Of this database as everybody sees it now.
    pub fn with_others_there(server: &Server, database: &str) -> State {
        let mut state = State {
            rows: BTreeMap::new(),
            tables: BTreeMap::new(),
            objects: BTreeMap::new(),
            sequences: BTreeMap::new(),
        };
        let mut cluster = Wire::login(&server.tcp(), SUPERUSER, "postgres");
        state.take_objects(&mut cluster, &CLUSTER.replace("{db}", database));
        let here = format!("SELECT 1 FROM pg_database WHERE datname = '{database}' AND datallowconn");
        if cluster.simple(&here).rows().is_empty() {
            return state;
        }
        let mut wire = Wire::login(&server.tcp(), SUPERUSER, database);
        wire.simple("SET search_path = pg_catalog; SET lock_timeout = '10s'; SET row_security = on")
            .expect_fine("settings");
        state.take_objects(&mut wire, OBJECTS);
        state.take_rows(&mut wire);
        state.take_sequences(&mut wire);
        state
    }

    /// As it would be with what others did meanwhile: theirs is neither a loss nor a gain of the session.
    pub fn with(mut self, meanwhile: &[(State, State)]) -> State {
        for (before, after) in meanwhile {
            for (table, later) in after.rows.iter().filter(|(table, later)| before.rows.get(*table) != Some(*later)) {
                let earlier = before.rows.get(table).map(String::as_str).unwrap_or_default();
                let mine = self.rows.entry(table.clone()).or_default();
                let (gone, come) = (difference(earlier, later), difference(later, earlier));
                let mut kept = difference(mine, &gone.join(" "));
                kept.extend(come);
                *mine = kept.join(" ");
            }
            self.objects.retain(|object, _| !before.objects.contains_key(object) || after.objects.contains_key(object));
            let new = after.objects.iter().filter(|(object, _)| !before.objects.contains_key(*object));
            self.objects.extend(new.map(|(object, name)| (object.clone(), name.clone())));
        }
        self
    }

    pub fn lost_in(&self, after: &State) -> Lost {
        let mut lost = Lost::default();
        for (table, rows) in &self.rows {
            let left = after.rows.get(table).map(String::as_str).unwrap_or_default();
            if rows != left {
                let name = self.tables.get(table).unwrap_or(table);
                lost.rows.insert(name.clone(), difference(rows, left).len());
            }
        }
        lost.rows.retain(|_, count| *count > 0);
        let gone = self.objects.iter().filter(|(object, _)| !after.objects.contains_key(*object));
        lost.objects.extend(gone.map(|(_, name)| name.clone()));
        for (sequence, value) in &self.sequences {
            if after.sequences.get(sequence).is_some_and(|later| later < value) {
                lost.objects.push(format!("value of {sequence}"));
            }
        }
        lost
    }

    fn take_objects(&mut self, wire: &mut Wire, sql: &str) {
        let outcome = wire.simple(sql);
        outcome.expect_fine("the objects");
        for row in outcome.rows() {
            if let [Some(object), name] = &row[..] {
                self.objects.insert(object.clone(), name.clone().unwrap_or_default());
            }
        }
    }

    fn take_rows(&mut self, wire: &mut Wire) {
        let tables = wire.simple(TABLES).rows();
        for row in &tables {
            if let [Some(oid), Some(name)] = &row[..] {
                self.tables.insert(oid.clone(), name.clone());
            }
        }
        for how in [How::Record, How::Text] {
            let all: Vec<String> = self.tables.iter().map(|(oid, name)| hashes(oid, name, how)).collect();
            let outcome = wire.simple(&all.join(" UNION ALL "));
            if outcome.error().is_none() {
                outcome.rows().into_iter().for_each(|row| self.keep_rows(row));
                return;
            }
        }
        // The catalog itself may be what was destroyed: then each table is asked for by itself.
        for (oid, name) in self.tables.clone() {
            wire.simple(&hashes(&oid, &name, How::Text)).rows().into_iter().for_each(|row| self.keep_rows(row));
        }
    }

    fn keep_rows(&mut self, row: Vec<Option<String>>) {
        if let [Some(oid), Some(hashes)] = &row[..] {
            self.rows.insert(oid.clone(), hashes.clone());
        }
    }

    fn take_sequences(&mut self, wire: &mut Wire) {
        for row in wire.simple(SEQUENCES).rows() {
            if let [Some(name), Some(value)] = &row[..] {
                self.sequences.insert(name.clone(), value.parse().expect("a number"));
            }
        }
    }
}

/// The hashes of `these` that are not among `those`, as often as they are more often.
fn difference(these: &str, those: &str) -> Vec<String> {
    let mut left: BTreeMap<&str, usize> = BTreeMap::new();
    for hash in those.split_whitespace() {
        *left.entry(hash).or_default() += 1;
    }
    let mut more = Vec::new();
    for hash in these.split_whitespace() {
        match left.get_mut(hash) {
            Some(count) if *count > 0 => *count -= 1,
            _ => more.push(hash.to_owned()),
        }
    }
    more
}

/// A session ends a moment after its client has hung up; the server has no event for it.
fn wait_until_alone(cluster: &mut Wire, database: &str) {
    let others = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND backend_type = 'client backend'"
    );
    let deadline = Instant::now() + super::CASE_TIME_MAX;
    while cluster.simple(&others).value() != "0" {
        assert!(Instant::now() < deadline, "sessions are left in {database}");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

fn forget_prepared(wire: &mut Wire, database: &str) {
    let left = format!("SELECT gid FROM pg_prepared_xacts WHERE database = '{database}'");
    for row in wire.simple(&left).rows() {
        let name = row[0].clone().unwrap_or_default().replace('\'', "''");
        wire.simple(&format!("ROLLBACK PREPARED '{name}'")).expect_fine("forgetting a prepared transaction");
    }
}

/// One row: the table's oid, and a hash of the content of each of its rows. Some types have no hash: then by their text.
fn hashes(oid: &str, table: &str, how: How) -> String {
    let hash = match how {
        How::Record => "hash_record_extended(t, 0)",
        How::Text => "hashtextextended(t::text, 0)",
    };
    format!("SELECT {oid}, string_agg(to_hex({hash}), ' ') FROM ONLY {table} AS t")
}

#[derive(Clone, Copy)]
enum How {
    Record,
    Text,
}

const TABLES: &str = "
    SELECT c.oid, format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm') AND (c.relkind = 'r' OR c.relispopulated)
      AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1";

/// How far each sequence has come; -1 before its first value. One that counts down comes further downwards.
const SEQUENCES: &str = "
    SELECT 'sequence ' || format('%I.%I', schemaname, sequencename)::regclass::oid, coalesce(last_value, -1) * sign(increment_by)::int8 FROM pg_sequences";

/// What belongs to the cluster; a case names what is its own after its database.
const CLUSTER: &str = "
    SELECT 'database ' || oid, 'database ' || datname FROM pg_database WHERE datname LIKE '{db}\\_%'
    UNION ALL SELECT 'role ' || oid, 'role ' || rolname FROM pg_roles WHERE rolname LIKE '{db}\\_%'";

/// First what it is known by (its oid, and what of it must not change), then how a person calls it.
const OBJECTS: &str = "
    WITH mine AS (SELECT oid, nspname FROM pg_namespace WHERE nspname !~ '^pg_(temp|toast)' AND nspname <> 'information_schema'),
      own AS (SELECT oid, nspname FROM mine WHERE nspname <> 'pg_catalog'),
      class AS (SELECT c.* FROM pg_class c JOIN own ON own.oid = relnamespace)
    SELECT concat_ws(' ', 'class', oid, relkind, relpersistence, relrowsecurity, relforcerowsecurity, relkind = 'm' AND relispopulated),
        'relation ' || oid::regclass FROM class WHERE relkind NOT IN ('i', 'I')
    UNION ALL SELECT concat_ws(' ', 'column', attrelid, attnum, atttypid, atttypmod), format('column %I of %s', attname, attrelid::regclass)
      FROM pg_attribute JOIN class ON class.oid = attrelid WHERE attnum > 0 AND NOT attisdropped AND relkind IN ('r', 'p', 'm', 'v', 'f', 'c')
    UNION ALL SELECT concat_ws(' ', 'partition', inhrelid, inhparent, inhdetachpending), format('%s as a part of %s', inhrelid::regclass, inhparent::regclass)
      FROM pg_inherits JOIN class ON class.oid = inhrelid WHERE relkind IN ('r', 'p')
    UNION ALL SELECT concat_ws(' ', 'constraint', c.oid, convalidated, confdeltype), format('constraint %I', conname)
      FROM pg_constraint c JOIN own ON own.oid = connamespace
    UNION ALL SELECT concat_ws(' ', 'trigger', t.oid, tgenabled, tgfoid, md5(tgqual::text)), format('trigger %I on %s', tgname, tgrelid::regclass)
      FROM pg_trigger t JOIN class ON class.oid = tgrelid WHERE NOT tgisinternal
    UNION ALL SELECT concat_ws(' ', 'foreign key trigger', t.oid, tgenabled), format('enforcement of %s on %s', conname, tgrelid::regclass)
      FROM pg_trigger t JOIN class ON class.oid = tgrelid JOIN pg_constraint c ON c.oid = tgconstraint WHERE tgisinternal
    UNION ALL SELECT concat_ws(' ', 'rule', r.oid, ev_enabled, md5(ev_action::text)), format('rule %I on %s', rulename, ev_class::regclass)
      FROM pg_rewrite r JOIN class ON class.oid = ev_class WHERE relkind <> 'v' AND relkind <> 'm'
    UNION ALL SELECT concat_ws(' ', 'policy', oid, md5(polqual::text), md5(polwithcheck::text)), format('policy %I', polname) FROM pg_policy
    UNION ALL SELECT concat_ws(' ', 'function', p.oid), pg_describe_object('pg_proc'::regclass, p.oid, 0) FROM pg_proc p JOIN own ON own.oid = pronamespace
    UNION ALL SELECT concat_ws(' ', 'type', t.oid), pg_describe_object('pg_type'::regclass, t.oid, 0) FROM pg_type t JOIN own ON own.oid = typnamespace
    UNION ALL SELECT concat_ws(' ', 'schema', oid), 'schema ' || nspname FROM mine
    UNION ALL SELECT concat_ws(' ', 'extension', oid), 'extension ' || extname FROM pg_extension
    UNION ALL SELECT concat_ws(' ', 'event trigger', oid, evtenabled), format('event trigger %I', evtname) FROM pg_event_trigger
    UNION ALL SELECT concat_ws(' ', 'publication', oid), format('publication %I', pubname) FROM pg_publication
    UNION ALL SELECT concat_ws(' ', 'server', oid), format('server %I', srvname) FROM pg_foreign_server
    UNION ALL SELECT concat_ws(' ', 'operator', o.oid), pg_describe_object('pg_operator'::regclass, o.oid, 0) FROM pg_operator o JOIN own ON own.oid = oprnamespace
    UNION ALL SELECT concat_ws(' ', 'opclass', o.oid), pg_describe_object('pg_opclass'::regclass, o.oid, 0) FROM pg_opclass o JOIN own ON own.oid = opcnamespace
    UNION ALL SELECT concat_ws(' ', 'collation', o.oid), pg_describe_object('pg_collation'::regclass, o.oid, 0) FROM pg_collation o JOIN own ON own.oid = collnamespace
    UNION ALL SELECT concat_ws(' ', 'ts config', o.oid), pg_describe_object('pg_ts_config'::regclass, o.oid, 0) FROM pg_ts_config o JOIN own ON own.oid = cfgnamespace
    UNION ALL SELECT concat_ws(' ', 'statistics', o.oid), pg_describe_object('pg_statistic_ext'::regclass, o.oid, 0) FROM pg_statistic_ext o JOIN own ON own.oid = stxnamespace
    UNION ALL SELECT concat_ws(' ', 'cast', oid), pg_describe_object('pg_cast'::regclass, oid, 0) FROM pg_cast WHERE oid >= 16384
    UNION ALL SELECT concat_ws(' ', 'large object', oid, md5(lo_get(oid))), format('large object %s', oid) FROM pg_largeobject_metadata";
