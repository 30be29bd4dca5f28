//! What is in a database, and what is missing of it later.
//!
//! Invariant: measured straight on the server, as root. Destroyed is more than [`ROWS_MAX`] rows that are gone or changed, or an object
//! that is gone or means something else. New rows, new objects and new names are no destruction.

use crate::harness::mysql::login::Login;
use crate::harness::mysql::server::{MyDatabase, ROOT};
use crate::harness::mysql::wire::MyWire;
use std::collections::{BTreeMap, BTreeSet};

/// So many rows a statement may change unasked.
const ROWS_MAX: usize = 100;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Rows of the tables, as text, and how often each is there.
    rows: BTreeMap<String, BTreeMap<String, usize>>,
    objects: BTreeSet<String>,
}

const OBJECTS: &[(&str, &str)] = &[
    (
        "table",
        "SELECT table_name, engine FROM information_schema.tables WHERE table_schema = '{db}' AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED')",
    ),
    ("view", "SELECT table_name, view_definition FROM information_schema.views WHERE table_schema = '{db}'"),
    (
        "column",
        "SELECT table_name, column_name, column_type, collation_name FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name) WHERE table_schema = '{db}' AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED')",
    ),
    ("trigger", "SELECT trigger_name, action_statement FROM information_schema.triggers WHERE trigger_schema = '{db}'"),
    (
        "routine",
        "SELECT routine_name, routine_definition FROM information_schema.routines WHERE routine_schema = '{db}'",
    ),
    ("event", "SELECT event_name, status FROM information_schema.events WHERE event_schema = '{db}'"),
    (
        "constraint",
        "SELECT table_name, constraint_name, constraint_type FROM information_schema.table_constraints WHERE table_schema = '{db}'",
    ),
    (
        "rule",
        "SELECT table_name, constraint_name, delete_rule FROM information_schema.referential_constraints WHERE constraint_schema = '{db}'",
    ),
    ("right", "SELECT grantee, privilege_type FROM information_schema.schema_privileges WHERE table_schema = '{db}'"),
    ("account", "SELECT concat(user, '@', host) FROM mysql.user WHERE user LIKE '{db}%'"),
];

impl State {
    pub fn of(database: &MyDatabase) -> State {
        let mut wire = MyWire::login(&database.server.unix(), &Login::of(ROOT));
        // A table that cannot be read any more has lost its rows.
        let mut ask = |sql: &str| -> Vec<String> {
            let rows = wire.query(&sql.replace("{db}", &database.name)).rows();
            let text = |cell: Option<String>| cell.unwrap_or_else(|| "NULL".to_owned());
            rows.into_iter().map(|row| row.into_iter().map(text).collect::<Vec<_>>().join("\t")).collect()
        };
        let mut objects = BTreeSet::new();
        let mut tables = Vec::new();
        for (kind, sql) in OBJECTS {
            for line in ask(sql) {
                if *kind == "table" {
                    tables.push(line.split('\t').next().expect("a name").to_owned());
                }
                objects.insert(format!("{kind} {line}"));
            }
        }
        let mut rows = BTreeMap::new();
        for table in tables {
            let mut counted: BTreeMap<String, usize> = BTreeMap::new();
            for row in ask(&format!("SELECT * FROM `{{db}}`.`{table}`")) {
                *counted.entry(row).or_default() += 1;
            }
            rows.insert(table, counted);
        }
        State { rows, objects }
    }

    /// What is missing later; empty when nothing is destroyed.
    pub fn lost(&self, after: &State) -> Vec<String> {
        let mut lost: Vec<String> = self.objects.difference(&after.objects).cloned().collect();
        // A table under a new name is all there.
        let everywhere: BTreeMap<&String, usize> =
            after.rows.values().flatten().fold(BTreeMap::new(), |mut all, (row, count)| {
                *all.entry(row).or_default() += count;
                all
            });
        let mut rows = 0;
        for (table, before) in &self.rows {
            let now = after.rows.get(table);
            let there = |row: &String| match now {
                Some(now) => now.get(row).copied().unwrap_or(0),
                None => everywhere.get(row).copied().unwrap_or(0),
            };
            rows += before.iter().map(|(row, count)| count.saturating_sub(there(row))).sum::<usize>();
        }
        if rows > ROWS_MAX {
            lost.push(format!("{rows} rows"));
        }
        lost
    }
}
