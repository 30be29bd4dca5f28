//! How a plan reads the table that a change is about: "Index Scan using carts_status_idx".
//!
//! Invariant: only the plan of a harmless question comes here; what the plan does not show is unknown.

pub(in crate::database) mod mysql;

use crate::policy::question::{Known, Table};
use crate::sql::facts::Change;
use serde_json::Value;

/// The scan of the target; for a table with partitions the first one, and how many more there are.
pub(in crate::database) fn describe(plan: &Value, change: &Change, table: &Known<Table>) -> Known<String> {
    let called = change.called.trim_matches('"').to_owned();
    let mut scans = Vec::new();
    collect(plan, &mut scans);
    let is_target = |node: &&&Value| {
        let alias = node["Alias"].as_str().unwrap_or_default();
        let child = alias.strip_prefix(&called).and_then(|rest| rest.strip_prefix('_'));
        alias == called || child.is_some_and(|number| !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()))
    };
    let named = |node: &&&Value| {
        node["Relation Name"].as_str().is_some_and(|name| table.known().is_some_and(|table| table.name == name))
    };
    let mut targets: Vec<&&Value> = scans.iter().filter(is_target).collect();
    if targets.is_empty() {
        targets = scans.iter().filter(named).collect();
    }
    match targets.as_slice() {
        [] => Known::Unknown("the plan does not show it".to_owned()),
        [one] => Known::Known(one_scan(one)),
        [first, _] => Known::Known(format!("{} and 1 scan more", one_scan(first))),
        [first, more @ ..] => Known::Known(format!("{} and {} scans more", one_scan(first), more.len())),
    }
}

fn collect<'a>(node: &'a Value, scans: &mut Vec<&'a Value>) {
    if node["Relation Name"].is_string() {
        scans.push(node);
    }
    for below in node["Plans"].as_array().into_iter().flatten() {
        collect(below, scans);
    }
}

fn one_scan(node: &Value) -> String {
    let kind = match node["Node Type"].as_str() {
        // Counting may do with the index alone; the change reads the rows as well.
        Some("Index Only Scan") => "Index Scan",
        kind => kind.unwrap_or("scan"),
    };
    let index = node["Index Name"].as_str().map(str::to_owned).or_else(|| index_below(node));
    match index {
        Some(index) => format!("{kind} using {index}"),
        None => kind.to_owned(),
    }
}

/// A bitmap scan names its indexes one level down or more.
fn index_below(node: &Value) -> Option<String> {
    let below = node["Plans"].as_array()?;
    let names: Vec<String> = below
        .iter()
        .filter_map(|node| node["Index Name"].as_str().map(str::to_owned).or_else(|| index_below(node)))
        .collect();
    (!names.is_empty()).then(|| names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::facts::{Change, Name, Nesting, OnConflict, Restriction, Source, Verb};
    use serde_json::json;

    #[test]
    fn the_scan_of_the_target_is_told_from_others() {
        let change = Change {
            verb: Verb::Delete,
            target: Name::default(),
            called: "c".to_owned(),
            only: false,
            restriction: Restriction::NotApplicable,
            pinned_if: Vec::new(),
            limit: None,
            assignments: Vec::new(),
            source: Source::None,
            on_conflict: OnConflict::Fails,
            nesting: Nesting::Outer,
            clauses: None,
        };
        let scan = |alias: &str, node: &str| json!({"Node Type": node, "Relation Name": "carts", "Alias": alias});
        let index = json!({"Node Type": "Bitmap Heap Scan", "Relation Name": "carts", "Alias": "c", "Plans": [
            {"Node Type": "Bitmap Index Scan", "Index Name": "carts_status_idx"}]});
        for (plans, said) in [
            (json!([scan("u", "Seq Scan"), index]), "Bitmap Heap Scan using carts_status_idx"),
            (
                json!([scan("c_1", "Seq Scan"), scan("c_2", "Seq Scan"), scan("c_x", "Seq Scan")]),
                "Seq Scan and 1 scan more",
            ),
        ] {
            assert_eq!(describe(&json!({"Plans": plans}), &change, &Known::NotAsked), Known::Known(said.to_owned()));
        }
    }
}
