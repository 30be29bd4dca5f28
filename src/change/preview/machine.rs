//! A refusal for machines: the same as its message, detail and hint, as one JSON document with a stable schema (docs/refusals.md).
//!
//! Invariants: a field once there keeps its name and meaning while `sluice` stays 1; what is not known is `null` with its reason beside
//! it, never left out silently or zero; a document is bounded as the text is. Pure.

use crate::change::preview::Offer;
use crate::ground::limits;
use crate::policy::question::{Cascade, Effects, Evidence, Known, RemovedTable, Rows, Sample};
use crate::policy::verdict::Judged;
use crate::sql::facts::{Facts, Verb};
use serde_json::{Map, Value, json};

/// The version of the schema: it changes only when a field's meaning does.
pub const SCHEMA: u32 = 1;

pub fn document(facts: &Facts, evidence: &Evidence, judged: &[Judged], offer: &Offer) -> Map<String, Value> {
    let mut document = Map::new();
    let level = judged.iter().map(|judged| judged.level).max().unwrap_or_default();
    let rule = |judged: &Judged| {
        json!({
            "rule": judged.finding.rule,
            "level": judged.level.to_string(),
            "message": judged.finding.message,
            "instead": judged.finding.instead,
            "from": judged.origin.to_string(),
        })
    };
    document.insert("level".into(), json!(level.to_string()));
    document.insert("rules".into(), judged.iter().map(rule).collect());
    document.insert("token".into(), json!(offer.token));
    document.insert("valid_seconds".into(), json!(offer.token.as_ref().map(|_| offer.valid.as_secs())));
    document.insert("at_most".into(), json!({ "rows": offer.at_most.rows, "cascade": offer.at_most.cascade }));
    let changes = facts.changes.iter().zip(&evidence.changes).map(|(change, known)| {
        let table = known.table.known();
        json!({
            "verb": verb(change.verb),
            "table": table.map_or_else(|| change.target.written.clone(), |table| format!("{}.{}", table.schema, table.name)),
            "rows": rows(&known.rows),
            "of_rows": table.and_then(|table| table.exact_rows),
            "of_rows_estimate": table.and_then(|table| table.estimated_rows),
            "cascade": cascades(&known.cascade),
            "triggers": table.map(|table| table.triggers.iter().map(|trigger| format!("{} ({})", trigger.name, trigger.when)).collect::<Vec<_>>()),
            "scan": known.scan.known(),
            "sample": known.sample.known().map(sample),
        })
    });
    document.insert("changes".into(), changes.collect());
    let removals = facts.removals.iter().zip(&evidence.removals).map(|(removal, known)| {
        json!({
            "name": removal.name.written,
            "what": format!("{:?}", removal.what).to_lowercase(),
            "tables": known.tables.known().map(|tables| tables.iter().take(limits::PREVIEW_LINES).map(removed).collect::<Vec<_>>()),
            "unknown": unknown(&known.tables),
            "dependents": known.dependents.known(),
        })
    });
    document.insert("removals".into(), removals.collect());
    document.insert("effects".into(), json!(evidence.effects.known().map(effects)));
    document.insert("leads_to".into(), json!(evidence.reaches));
    document
}

pub fn effects(effects: &Effects) -> Value {
    json!({ "tables": effects.tables, "objects": effects.objects, "rows": effects.destroyed() })
}

fn verb(verb: Verb) -> &'static str {
    match verb {
        Verb::Insert => "insert",
        Verb::Update => "update",
        Verb::Delete => "delete",
        Verb::Merge { .. } => "merge",
        Verb::CopyIn => "copy",
    }
}

fn rows(rows: &Known<Rows>) -> Value {
    let known = |number: u64, certainty: &str| json!({ "number": number, "certainty": certainty });
    match rows {
        Known::Known(Rows::Exact(n)) => known(*n, "exact"),
        Known::Known(Rows::AtMost(n)) => known(*n, "at-most"),
        Known::Known(Rows::AtLeast(n)) => known(*n, "at-least"),
        Known::Known(Rows::Estimate(n)) => known(*n, "estimate"),
        Known::NotAsked => json!({ "number": null, "certainty": "not-asked" }),
        Known::Unknown(why) => json!({ "number": null, "certainty": "unknown", "reason": why }),
    }
}

fn cascades(branches: &Known<Vec<Cascade>>) -> Value {
    match branches {
        Known::Known(branches) => branches.iter().map(cascade).collect(),
        Known::NotAsked => Value::Null,
        Known::Unknown(why) => json!({ "unknown": why }),
    }
}

fn cascade(branch: &Cascade) -> Value {
    json!({
        "table": branch.key.child.written,
        "key": branch.key.name,
        "action": format!("{:?}", branch.action).to_lowercase(),
        "rows": rows(&branch.rows),
        "indexed": branch.key.child_indexed,
        "stopped": branch.stopped,
        "below": branch.below.iter().map(cascade).collect::<Vec<_>>(),
    })
}

fn sample(sample: &Sample) -> Value {
    json!({ "columns": sample.columns, "rows": sample.rows })
}

fn removed(table: &RemovedTable) -> Value {
    json!({ "name": table.name.written, "rows": rows(&Known::Known(table.rows)), "bytes": table.bytes, "because": table.because })
}

fn unknown<T>(known: &Known<T>) -> Option<&str> {
    match known {
        Known::Unknown(why) => Some(why),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_says_so() {
        assert_eq!(
            rows(&Known::Unknown("no right".into())),
            json!({"number": null, "certainty": "unknown", "reason": "no right"})
        );
        assert_eq!(rows(&Known::Known(Rows::Estimate(7))), json!({"number": 7, "certainty": "estimate"}));
        let document = document(&Facts::default(), &Evidence::default(), &[], &Offer::default());
        for field in
            ["level", "rules", "token", "valid_seconds", "at_most", "changes", "removals", "effects", "leads_to"]
        {
            assert!(document.contains_key(field), "{field}");
        }
    }
}
