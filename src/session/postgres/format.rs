//! How a session wants its refusals: as text, or with JSON in the detail (`SET sluice.format = 'json'`).
//!
//! Invariant: the server is asked what is set, never a SET read; where it cannot be asked, what was last known holds. The schema
//! stands in docs/refusals.md.

use crate::change::preview::machine;
use crate::database::Ask;
use crate::ground::limits;
use crate::protocol::Refusal;
use crate::session::End;
use crate::session::postgres::Session;
use crate::session::postgres::ask::{Asker, Ground};
use crate::session::postgres::look::unknown_state;
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

impl Session {
    /// The refusal as this session wants it.
    pub(in crate::session) async fn formatted(&mut self, refusal: &Refusal) -> Result<Refusal, End> {
        if self.format.is_none() {
            self.format = self.ask_format().await?;
        }
        Ok(match self.format {
            Some(Format::Json) => Refusal { detail: Some(in_json(refusal)), ..refusal.clone() },
            Some(Format::Text) | None => refusal.clone(),
        })
    }

    async fn ask_format(&mut self) -> Result<Option<Format>, End> {
        if self.talk.in_copy() || !self.talk.is_quiet() {
            return Ok(None);
        }
        // What is open in a pipeline is left as it is.
        let idle = !self.pipeline.open && !self.pipeline.executed && !self.pipeline.bound;
        let ground = match self.ground(&[]) {
            Some(ground @ (Ground::Own | Ground::Savepoint)) if idle && !self.pipeline.transacted => ground,
            _ => return Ok(None),
        };
        let time = self.house.ask_timeout;
        let asker = Asker::begin(&mut self.link, &self.seat, &self.talk, ground, time, time).await;
        let mut asker = asker.map_err(unknown_state)?;
        let answer = asker.ask("SELECT pg_catalog.current_setting('sluice.format', true)", None).await;
        asker.end().await.map_err(unknown_state)?;
        let answer = answer.unwrap_or_default();
        Ok(Some(Format::of(answer.rows.first().and_then(|row| row.first()?.as_deref()))))
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
