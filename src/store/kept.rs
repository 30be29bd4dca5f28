//! What the store keeps: challenges, whole and exact, in their written form.
//!
//! Invariant: what was stored is what comes back, byte for byte; a token is never in here, only its keyed hash.

use crate::ground::clock;
use crate::ground::ids::ChallengeId;
use crate::ground::secret::{TokenHash, hex, unhex};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A statement that was refused until somebody confirms it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Challenge {
    pub id: ChallengeId,
    pub token_hash: TokenHash,
    pub needs: Needs,
    pub holder: Holder,
    /// For showing only: a confirmation may come from another address.
    pub address: String,
    pub application: String,
    /// The statement's text, exactly.
    pub statement: String,
    pub parameters: Option<KeptParameters>,
    /// It came by the extended protocol.
    pub protocol: ProtocolKind,
    /// What decides what the text means, besides itself: `search_path`, `role`, `standard_conforming_strings`…
    pub context: Context,
    /// What was shown, for comparing with what would be done now: counts and a digest of the tables' shape.
    pub promise: serde_json::Value,
    pub preview: Preview,
    #[serde(with = "clock::text")]
    pub created: Timestamp,
    #[serde(with = "clock::text")]
    pub expires: Timestamp,
    pub status: Status,
}

impl Challenge {
    /// What is kept of it when it is over: whose it was, and what its token is told.
    pub(in crate::store) fn over(&self) -> Challenge {
        Challenge {
            statement: String::new(),
            parameters: None,
            context: Context::new(),
            promise: serde_json::Value::Null,
            preview: Preview::default(),
            holder: self.holder.clone(),
            address: self.address.clone(),
            application: self.application.clone(),
            ..*self
        }
    }

    /// Its text is gone: it was used, rejected, or is expired.
    pub fn is_over(&self) -> bool {
        !matches!(self.status, Status::Pending | Status::Approved)
    }

    /// An estimate of the memory and disk it takes.
    pub fn bytes(&self) -> usize {
        let values = self.parameters.iter().flat_map(|all| &all.values).flatten();
        let context = self.context.iter().map(|(name, value)| name.len() + value.len());
        self.statement.len()
            + values.map(Vec::len).sum::<usize>()
            + context.sum::<usize>()
            + self.preview.message.len()
            + self.preview.detail.len()
    }
}

/// One that waits, as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub id: ChallengeId,
    pub needs: Needs,
    /// The beginning of its text.
    pub statement: String,
    pub message: String,
    pub expires: Timestamp,
}

pub type Context = BTreeMap<String, String>;

/// Whose confirmation it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Needs {
    /// The same principal's.
    Confirm,
    /// Another principal's.
    Approve,
}

impl Needs {
    pub fn as_str(self) -> &'static str {
        match self {
            Needs::Confirm => "confirm",
            Needs::Approve => "approve",
        }
    }

    pub(in crate::store) fn parse(text: &str) -> Option<Needs> {
        [Needs::Confirm, Needs::Approve].into_iter().find(|needs| needs.as_str() == text)
    }
}

/// Who may confirm. The listener stands for the guarded server: a user of the same name on another server is somebody else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub listener: String,
    pub user: String,
    pub database: String,
}

/// The values a client bound, as it sent them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct KeptParameters {
    pub types: Vec<u32>,
    pub formats: Vec<i16>,
    #[serde(with = "values_as_hex")]
    pub values: Vec<Option<Vec<u8>>>,
    /// The same as SQL literals, where questions need them so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub literals: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProtocolKind {
    Simple,
    Extended,
}

/// The refusal as it was shown, for `SLUICE SHOW`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    pub message: String,
    pub detail: String,
}

/// Where a challenge stands. It leaves `Pending`, and `Approved`, once and never comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Pending,
    /// Another principal agreed to it; it is not carried out yet.
    Approved,
    Used,
    Rejected,
    Expired,
}

impl Status {
    pub(in crate::store) fn as_str(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Approved => "approved",
            Status::Used => "used",
            Status::Rejected => "rejected",
            Status::Expired => "expired",
        }
    }

    pub(in crate::store) fn parse(text: &str) -> Option<Status> {
        [Status::Pending, Status::Approved, Status::Used, Status::Rejected, Status::Expired]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

/// Binary values as hexadecimal text: JSON has no bytes.
mod values_as_hex {
    use super::{hex, unhex};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub fn serialize<S: Serializer>(values: &[Option<Vec<u8>>], serializer: S) -> Result<S::Ok, S::Error> {
        let texts: Vec<_> = values.iter().map(|value| value.as_deref().map(hex)).collect();
        texts.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Option<Vec<u8>>>, D::Error> {
        let texts = Vec::<Option<String>>::deserialize(deserializer)?;
        let read = |text: String| unhex(&text).ok_or_else(|| D::Error::custom("not hexadecimal"));
        texts.into_iter().map(|text| text.map(read).transpose()).collect()
    }
}
