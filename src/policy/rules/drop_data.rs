//! `drop-data`: dropping what holds data.
//!
//! CASCADE takes columns along with what they depend on: dropping a type, a generating function, and a view whose row type a
//! column has, each dropped the column and its values (seen on PostgreSQL 15).
//!
//! Invariant: silent only if the object cannot hold data and takes nothing along that does, or if everything it takes is known,
//! and each of it is temporary or holds exactly no rows. A schema, a type or an extension that nothing is known of is held to
//! take data.

use crate::policy::finding::{About, Finding, Level};
use crate::policy::question::{Questions, RemovalEvidence};
use crate::policy::rules::{Look, Rule, acts, finding, held, losses};
use crate::policy::settings::Effective;
use crate::sql::facts::{ActKind, Facts, Kind, Removal, Removed};

pub struct DropData;

impl Rule for DropData {
    fn code(&self) -> &'static str {
        "drop-data"
    }
    fn title(&self) -> &'static str {
        "Dropping what holds data"
    }
    fn page(&self) -> &'static str {
        include_str!("drop_data.md")
    }
    fn standard(&self) -> Level {
        Level::Confirm
    }
    fn strict(&self) -> Level {
        Level::Approve
    }

    fn ask_of_removal(&self, removal: &Removal, _: &Facts, _: &Effective) -> Questions {
        match may_take_data(removal) {
            true => Questions { table: true, rows: true, cascade: removal.cascade, ..Questions::default() },
            false => Questions::default(),
        }
    }

    fn look(&self, look: &Look<'_>) -> Vec<Finding> {
        let dropping = look.removals().filter(|(_, removal, _)| may_take_data(removal));
        let matching = dropping.filter_map(|(index, removal, evidence)| {
            let message = lost(removal, evidence)?;
            Some(finding(self, About::Removal(index), message, instead(removal)))
        });
        let mut found: Vec<Finding> = matching.collect();
        found.extend(acts(self, look, ActKind::Unlinks, "Make sure that a copy of the large objects exists."));
        if names_nothing(look.facts) {
            let message = "what it drops is not named: it can be everything that a role owns".to_owned();
            found.push(finding(self, About::Statement, message, "Drop the objects one by one, by name."));
        }
        found
    }
}

/// `DROP OWNED BY role` names no object, so it has no removal to ask about; nor has a DROP of a kind unknown to the reading.
fn names_nothing(facts: &Facts) -> bool {
    match &facts.kind {
        Kind::Drop => facts.removals.is_empty(),
        Kind::Other(name) => name == "DropOwnedStmt",
        _ => false,
    }
}

/// Could rows go with it? CASCADE takes columns whose type or generating function goes, and tables of an extension.
fn may_take_data(removal: &Removal) -> bool {
    match &removal.what {
        Removed::Rows => false,
        Removed::Table | Removed::Column(_) | Removed::Schema | Removed::Database => true,
        Removed::Partition(_) | Removed::MaterializedView => true,
        // The server drops a tablespace only when it is empty.
        Removed::Tablespace => false,
        Removed::Other(what) => match kind_of(what) {
            Other::NeverData => false,
            Other::Extension => true,
            Other::DataByCascade => removal.cascade,
        },
    }
}

enum Other {
    /// Nothing that depends on it holds rows.
    NeverData,
    /// Its members go with it, CASCADE or not, and tables can be members.
    Extension,
    /// What depends on it can be a column, a table or a materialized view; these go only by CASCADE.
    DataByCascade,
}

fn kind_of(what: &str) -> Other {
    let is = |name: &&str| what.eq_ignore_ascii_case(name);
    match what.eq_ignore_ascii_case("extension") {
        true => Other::Extension,
        false if NEVER_DATA.iter().any(is) => Other::NeverData,
        false => Other::DataByCascade,
    }
}

#[rustfmt::skip] // one line a family
const NEVER_DATA: &[&str] = &[
    "index", "constraint", "default", "statistic ext",
    "trigger", "event trigger", "rule", "policy",
    "role", "user", "group", "user mapping",
    "publication", "subscription",
];

fn lost(removal: &Removal, evidence: Option<&RemovalEvidence>) -> Option<String> {
    let object = object(removal);
    match losses(evidence) {
        None => Some(format!("{object}, an unknown number of rows")),
        Some(tables) if tables.is_empty() => None,
        // Its rows cannot be counted from another database.
        Some(_) if removal.what == Removed::Database => Some(object),
        Some(tables) => Some(format!("{object}, {}", held(&tables))),
    }
}

fn object(removal: &Removal) -> String {
    let name = &removal.name.written;
    match &removal.what {
        Removed::Rows => name.clone(),
        Removed::Table => format!("table {name}"),
        Removed::Column(column) => format!("column {column} of {name}"),
        Removed::Schema => format!("schema {name}"),
        Removed::Database => format!("database {name}"),
        Removed::Partition(partition) => format!("partition {partition} of {name}"),
        Removed::MaterializedView => format!("materialized view {name}"),
        Removed::Tablespace => format!("tablespace {name}"),
        Removed::Other(what) => format!("{} {name}", what.to_lowercase()),
    }
}

fn instead(removal: &Removal) -> &'static str {
    match removal.what {
        Removed::Column(_) => "Stop using the column first, keep it until nobody misses it, then drop it alone.",
        Removed::Table => "Rename the table first, keep it until nobody misses it, then drop it alone.",
        _ => "Make sure that a copy exists, then drop it alone.",
    }
}
