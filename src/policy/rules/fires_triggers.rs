//! `fires-triggers`: triggers that run for each row of a large change, by name.
//!
//! Invariant: silent only on what is proven to be small, and on tables whose triggers are known and do not fire.

use crate::policy::count;
use crate::policy::finding::{About, Finding, Level};
use crate::policy::question::{Questions, Table, Trigger};
use crate::policy::rules::{Look, Rule, counting, finding};
use crate::policy::settings::Effective;
use crate::sql::facts::{Change, Facts, OnConflict, Verb};

pub struct FiresTriggers;

impl Rule for FiresTriggers {
    fn code(&self) -> &'static str {
        "fires-triggers"
    }
    fn title(&self) -> &'static str {
        "Triggers that run for each row of a large change"
    }
    fn page(&self) -> &'static str {
        include_str!("fires_triggers.md")
    }
    fn standard(&self) -> Level {
        Level::Warn
    }
    fn strict(&self) -> Level {
        Level::Warn
    }

    fn ask_of_change(&self, change: &Change, _: &Facts, _: &Effective) -> Questions {
        counting(change)
    }

    fn look(&self, look: &Look<'_>) -> Vec<Finding> {
        if look.facts.changes.is_empty() || look.is_free() {
            return Vec::new();
        }
        let large =
            look.changes().filter(|(_, change, evidence)| !count::adds_only(change) && !count::is_nothing(*evidence));
        let matching = large.filter_map(|(at, change, evidence)| {
            let message = match count::table(evidence) {
                Some(table) => fired(change, table)?,
                None => format!("which triggers {} has is unknown", change.target.written),
            };
            let instead = "Look at what the triggers do, and change the rows in pieces.";
            Some(finding(self, About::Change(at), message, instead))
        });
        matching.collect()
    }
}

/// More are counted, not named.
const NAMED: usize = 2;

fn fired(change: &Change, table: &Table) -> Option<String> {
    let firing: Vec<&Trigger> = table.triggers.iter().filter(|trigger| fires(trigger, change)).collect();
    // MySQL's triggers have their body with them, and no function.
    let runs = |trigger: &&&Trigger| match trigger.function.as_str() {
        "" => format!("{} runs", trigger.name),
        function => format!("{} runs {function}()", trigger.name),
    };
    let named = firing.iter().take(NAMED).map(|trigger| runs(&trigger));
    let named = named.collect::<Vec<_>>().join(", ");
    match firing.len() {
        0 => None,
        few if few <= NAMED => Some(format!("{named} for each row")),
        many => Some(format!("{named}, and {} triggers more, for each row", many - NAMED)),
    }
}

fn fires(trigger: &Trigger, change: &Change) -> bool {
    let sets =
        || trigger.columns.is_empty() || change.assignments.iter().any(|set| trigger.columns.contains(&set.column));
    let (inserts, updates, deletes) = match change.verb {
        Verb::Insert | Verb::CopyIn => {
            (true, change.on_conflict == OnConflict::Updates, change.on_conflict == OnConflict::Replaces)
        }
        Verb::Update => (false, true, false),
        Verb::Delete => (false, false, true),
        Verb::Merge { updates, deletes } => (true, updates, deletes),
    };
    trigger.each_row
        && (inserts && trigger.on_insert || updates && trigger.on_update && sets() || deletes && trigger.on_delete)
}
