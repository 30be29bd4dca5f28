//! `unknown-effect`: what only the database can tell: functions of the users' own, DO, CALL, triggers, rules, and whatever runs them.
//!
//! Invariant: such a statement was run and rolled back, and changed at most `free_rows` rows and no object, or it is found; what
//! cannot be tried is found.

use crate::policy::count::grouped;
use crate::policy::finding::{About, Finding, Level};
use crate::policy::question::{Effects, Known};
use crate::policy::rules::{Look, Rule, finding};

pub struct UnknownEffect;

impl Rule for UnknownEffect {
    fn code(&self) -> &'static str {
        "unknown-effect"
    }
    fn title(&self) -> &'static str {
        "An effect that only the database can tell"
    }
    fn page(&self) -> &'static str {
        include_str!("unknown_effect.md")
    }
    fn standard(&self) -> Level {
        Level::Confirm
    }
    fn strict(&self) -> Level {
        Level::Approve
    }

    fn look(&self, look: &Look<'_>) -> Vec<Finding> {
        let message = match &look.evidence.effects {
            Known::NotAsked => return Vec::new(),
            Known::Unknown(why) => why.clone(),
            Known::Known(effects) if is_small(effects, look.sizes.free_rows) => return Vec::new(),
            Known::Known(effects) => tried(effects),
        };
        let instead = "Write what it does as plain statements, which are shown before they run.";
        vec![finding(self, About::Statement, message, instead)]
    }
}

fn is_small(effects: &Effects, free_rows: u64) -> bool {
    effects.destroyed() <= free_rows && effects.objects.is_empty()
}

/// "tried, and rolled back: 12,480 rows changed in 2 tables, 1 object removed or altered".
fn tried(effects: &Effects) -> String {
    let tables = effects.tables.iter().filter(|table| table.destroyed() > 0).count();
    let rows = format!("{} {}", grouped(effects.destroyed()), if effects.destroyed() == 1 { "row" } else { "rows" });
    let mut parts = Vec::new();
    match tables {
        0 => {}
        1 => parts.push(format!("{rows} changed")),
        more => parts.push(format!("{rows} changed in {more} tables")),
    }
    match effects.objects.len() {
        0 => {}
        1 => parts.push("an object removed or altered".to_owned()),
        more => parts.push(format!("{more} kinds of objects removed or altered")),
    }
    format!("tried and rolled back: {}", parts.join(", "))
}
