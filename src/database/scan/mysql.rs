//! How a plan of MySQL or MariaDB reads the table that a change is about, and how many rows it expects: `EXPLAIN FORMAT=JSON`.
//!
//! Three forms: MySQL's first (`query_block`, rows in `rows_produced_per_join`), MySQL's second (`query_plan`, the default of 9.x, rows in
//! `estimated_rows`), and MariaDB's (`query_block`, each table's `rows` and `filtered`). Tried on MySQL 9.7 and MariaDB 10.11.
//!
//! Invariant: only the plan of a harmless question comes here; what the plan does not show is unknown.

use crate::policy::question::{Known, Table};
use crate::sql::facts::Change;
use serde_json::Value;

/// The scan of the target, by the name that the statement calls it.
pub(in crate::database) fn describe(plan: &Value, change: &Change, table: &Known<Table>) -> Known<String> {
    let called = change.called.trim_matches('`').to_owned();
    let mut scans = Vec::new();
    collect(plan, &mut scans);
    let is = |field: &str, name: &str| {
        let same = |scan: &&&Value| scan[field].as_str().is_some_and(|one| one.eq_ignore_ascii_case(name));
        scans.iter().find(same)
    };
    // MySQL's second form keeps the alias apart; the others have it in place of the name.
    let found = is("alias", &called).or_else(|| is("table_name", &called));
    let found = found.or_else(|| is("table_name", &table.known()?.name));
    found.map_or_else(|| Known::Unknown("the plan does not show it".to_owned()), |scan| Known::Known(one_scan(scan)))
}

/// The rows below the counting, where no limit of ours has cut them.
pub(in crate::database) fn rows(plan: &Value) -> Option<u64> {
    if !plan["query_plan"].is_null() {
        let limit = find(&plan["query_plan"], &|node| node["access_type"] == "limit")?;
        let below = limit["inputs"].as_array()?.first()?;
        return Some(below["estimated_rows"].as_f64()?.ceil() as u64);
    }
    let inner = find(&plan["query_block"], &|node| {
        !node["materialized_from_subquery"].is_null() || !node["materialized"].is_null()
    })?;
    let block = ["materialized_from_subquery", "materialized"].iter().find_map(|name| {
        let block = &inner[*name]["query_block"];
        (!block.is_null()).then_some(block)
    })?;
    let mut scans = Vec::new();
    collect_own(block, &mut scans);
    let produced = scans.iter().filter_map(|scan| scan["rows_produced_per_join"].as_f64()).next_back();
    let product = || {
        let each = scans.iter().map(|scan| Some(scan["rows"].as_f64()? * scan["filtered"].as_f64()? / 100.0));
        each.collect::<Option<Vec<f64>>>().filter(|all| !all.is_empty()).map(|all| all.iter().product())
    };
    produced.or_else(product).map(|rows: f64| rows.ceil() as u64)
}

fn one_scan(node: &Value) -> String {
    let index = node["key"].as_str().or_else(|| node["index_name"].as_str());
    let kind = node["index_access_type"].as_str().or_else(|| node["access_type"].as_str()).unwrap_or("scan");
    match (kind, index) {
        ("ALL" | "table", _) => "full table scan".to_owned(),
        // The whole index is as long as the table.
        ("index" | "index_scan", Some(index)) => format!("full table scan by the index {index}"),
        (kind, Some(index)) => format!("{} by the index {index}", kind.replace("index_", "").replace('_', " ")),
        (kind, None) => kind.replace('_', " "),
    }
}

fn find<'a>(node: &'a Value, wanted: &dyn Fn(&Value) -> bool) -> Option<&'a Value> {
    match node {
        Value::Object(fields) if wanted(node) => Some(node).filter(|_| !fields.is_empty()),
        Value::Object(fields) => fields.values().find_map(|below| find(below, wanted)),
        Value::Array(all) => all.iter().find_map(|below| find(below, wanted)),
        _ => None,
    }
}

fn collect<'a>(node: &'a Value, scans: &mut Vec<&'a Value>) {
    if node["table_name"].is_string() {
        scans.push(node);
    }
    match node {
        Value::Object(fields) => fields.values().for_each(|below| collect(below, scans)),
        Value::Array(all) => all.iter().for_each(|below| collect(below, scans)),
        _ => {}
    }
}

/// The tables of one block, without those of its subqueries.
fn collect_own<'a>(node: &'a Value, scans: &mut Vec<&'a Value>) {
    if node["table_name"].is_string() {
        return scans.push(node);
    }
    match node {
        Value::Object(fields) => {
            fields.iter().filter(|(name, _)| !name.contains("subquer")).for_each(|(_, below)| collect_own(below, scans))
        }
        Value::Array(all) => all.iter().for_each(|below| collect_own(below, scans)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// As MySQL 8.0 and MariaDB 10.11 wrote them, and MySQL 9.7.
    #[test]
    fn rows_are_found_in_each_form() {
        let table = |fields: Value| json!({"table": fields});
        let first = json!({"query_block": {"table": {"table_name": "sluice_rows", "rows_produced_per_join": "1000",
            "materialized_from_subquery": {"query_block": {"nested_loop": [
                table(json!({"table_name": "t", "access_type": "ALL", "rows_produced_per_join": 40})),
                table(json!({"table_name": "u", "access_type": "ref", "rows_produced_per_join": 120}))]}}}}});
        let maria = json!({"query_block": {"nested_loop": [table(json!({"table_name": "<derived2>", "rows": 2, "filtered": 100,
            "materialized": {"query_block": {"nested_loop": [
                table(json!({"table_name": "t", "access_type": "range", "key": "ux", "rows": 300, "filtered": 50}))]}}}))]}});
        let second = json!({"query_plan": {"access_type": "aggregate", "inputs": [{"access_type": "table", "table_name": "sluice_rows",
            "inputs": [{"access_type": "materialize", "inputs": [{"access_type": "limit", "estimated_rows": 10.0,
                "inputs": [{"access_type": "filter", "estimated_rows": 2000.4}]}]}]}]}});
        assert_eq!([rows(&first), rows(&maria), rows(&second)], [Some(120), Some(150), Some(2001)]);
        assert_eq!(rows(&json!({"query_block": {"message": "Impossible WHERE"}})), None);
    }

    #[test]
    fn scans_are_named() {
        for (node, said) in [
            (json!({"table_name": "t", "access_type": "ALL"}), "full table scan"),
            (json!({"table_name": "t", "access_type": "index", "key": "k"}), "full table scan by the index k"),
            (json!({"table_name": "t", "access_type": "range", "key": "k"}), "range by the index k"),
            (
                json!({"table_name": "t", "access_type": "index", "index_access_type": "index_range_scan", "index_name": "k"}),
                "range scan by the index k",
            ),
        ] {
            assert_eq!(one_scan(&node), said);
        }
    }
}
