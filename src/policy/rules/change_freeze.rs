//! `change-freeze`: any change, while the configuration says that nothing is to be changed.
//!
//! Invariant: silent only outside every freeze, on what changes nothing, and on what is known to change only the session's own
//! temporary tables. What was not read is held to change something, and so is what leads to code and cannot be tried.

use crate::policy::count;
use crate::policy::finding::{About, Finding, Level};
use crate::policy::question::{Known, Questions, RemovalEvidence};
use crate::policy::rules::{Look, Rule, finding, is_temporary};
use crate::policy::settings::Effective;
use crate::policy::{freeze::Frozen, is_change};
use crate::sql::facts::{Change, Facts, Kind, Removal, Removed};

pub struct ChangeFreeze;

impl Rule for ChangeFreeze {
    fn code(&self) -> &'static str {
        "change-freeze"
    }
    fn title(&self) -> &'static str {
        "A change inside a freeze"
    }
    fn page(&self) -> &'static str {
        include_str!("change_freeze.md")
    }
    fn standard(&self) -> Level {
        Level::Deny
    }
    fn strict(&self) -> Level {
        Level::Deny
    }

    fn ask_of_change(&self, _: &Change, _: &Facts, effective: &Effective) -> Questions {
        Questions { table: effective.frozen.is_some(), ..Questions::default() }
    }

    fn ask_of_removal(&self, removal: &Removal, _: &Facts, effective: &Effective) -> Questions {
        let held = effective.frozen.is_some() && matches!(removal.what, Removed::Table | Removed::Rows);
        Questions { table: held, rows: held, ..Questions::default() }
    }

    fn look(&self, look: &Look<'_>) -> Vec<Finding> {
        let Some(frozen) = look.frozen.filter(|_| is_change(look.facts) && !is_own(look) || did_change(look)) else {
            return Vec::new();
        };
        let instead = match frozen.until.is_empty() {
            true => "Wait until the freeze is lifted, or have it lifted for you.".to_owned(),
            false => format!("Wait until it is over ({}), or have it lifted for you.", frozen.until),
        };
        vec![finding(self, About::Statement, said(frozen), &instead)]
    }
}

fn said(frozen: &Frozen) -> String {
    let reason = frozen.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("\"{}\" forbids changes{reason}", frozen.name)
}

/// It was tried, and changed something, or what it does could not be tried.
fn did_change(look: &Look<'_>) -> bool {
    match &look.evidence.effects {
        Known::NotAsked => false,
        Known::Unknown(_) => true,
        Known::Known(effects) if is_own(look) => effects.tables.iter().any(|table| !table.is_nothing()),
        Known::Known(effects) => !effects.is_nothing(),
    }
}

/// All that is changed is the session's own.
fn is_own(look: &Look<'_>) -> bool {
    let facts = look.facts;
    let by_rows = matches!(facts.kind, Kind::Insert | Kind::Update | Kind::Delete | Kind::Merge | Kind::Copy);
    let by_objects = matches!(facts.kind, Kind::Drop | Kind::Truncate);
    let own = |evidence: Option<&RemovalEvidence>| {
        let tables = evidence.and_then(|evidence| evidence.tables.known());
        tables.is_some_and(|tables| !tables.is_empty() && tables.iter().all(is_temporary))
    };
    (by_rows || by_objects)
        && facts.unread.is_none()
        && facts.acts.is_empty()
        && look.changes().all(|(_, _, evidence)| count::is_own(evidence))
        && look.removals().all(|(_, _, evidence)| own(evidence))
}
