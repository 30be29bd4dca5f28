//! How a session wants its refusals: as text, or with JSON in the detail (`SET sluice.format = 'json'`).
//!
//! Invariant: the server is asked what is set, never a SET read; where it cannot be asked, what was last known holds. The schema
//! stands in docs/refusals.md.

use crate::change::preview::machine;
use crate::ground::limits;
use crate::protocol::Refusal;
use serde_json::{Value, json};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum Format {
    Text,
    Json,
}

impl Format {
    /// Of the setting's value.
    pub fn of(value: Option<&str>) -> Format {
        match value.is_some_and(|value| value.eq_ignore_ascii_case("json")) {
            true => Format::Json,
            false => Format::Text,
        }
    }
}

impl Format {
    /// The refusal in this form.
    pub fn of_refusal(self, refusal: &Refusal) -> Refusal {
        match self {
            Format::Json => Refusal { detail: Some(in_json(refusal)), ..refusal.clone() },
            Format::Text => refusal.clone(),
        }
    }
}

/// One line.
fn in_json(refusal: &Refusal) -> String {
    let mut document = refusal.document.as_deref().cloned().unwrap_or_default();
    document.insert("sluice".into(), json!(machine::SCHEMA));
    document.insert("code".into(), json!(refusal.code.sqlstate()));
    document.insert("message".into(), json!(refusal.message));
    document.insert("hint".into(), json!(refusal.hint));
    document.insert("detail".into(), json!(refusal.detail));
    let mut written = Value::Object(document.clone()).to_string();
    if written.len() > limits::PREVIEW_BYTES {
        document.insert("cut".into(), json!(true));
        for change in document.get_mut("changes").and_then(Value::as_array_mut).into_iter().flatten() {
            change["sample"] = Value::Null;
        }
        written = Value::Object(document.clone()).to_string();
    }
    if written.len() > limits::PREVIEW_BYTES {
        ["changes", "removals", "detail", "effects"]
            .iter()
            .for_each(|field| drop(document.insert((*field).into(), Value::Null)));
        written = Value::Object(document).to_string();
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Code;

    #[test]
    fn a_document_is_bounded_and_says_what_was_cut() {
        let mut refusal = Refusal::new(Code::NeedsConfirming, "sluice: no").detail("rules: x");
        let parse = |refusal: &Refusal| -> Value { serde_json::from_str(&in_json(refusal)).expect("JSON") };
        assert_eq!(parse(&refusal)["code"], "SL001");
        assert_eq!(parse(&refusal)["detail"], "rules: x");
        let mut document = serde_json::Map::new();
        document.insert("changes".into(), json!([{ "table": "t", "sample": "x".repeat(limits::PREVIEW_BYTES) }]));
        refusal.document = Some(Box::new(document));
        let cut = parse(&refusal);
        assert_eq!((&cut["cut"], &cut["changes"][0]["table"]), (&json!(true), &json!("t")));
        assert!(in_json(&refusal).len() <= limits::PREVIEW_BYTES);
    }
}
