//! What a session shows the record, and what becomes of a statement where the record fails.
//!
//! Invariant: tokens and passwords are not shown, whatever the configuration says. A statement that cannot be recorded is refused like
//! any other, and the session goes on; what only reads, or leads out of a transaction, is refused no earlier than configured.

use crate::audit::sink::RecordFailed;
use crate::audit::{Literals, Parameters as Keeping, Plain};
use crate::ground::limits;
use crate::ground::secret::hex;
use crate::protocol::{Code, Parameters, Refusal};
use crate::session::desk::{Desk, note_unrecorded};
use crate::session::judgement::Judgement;
use crate::sql::facts::{Facts, Kind};
use bytes::Bytes;

impl Desk {
    pub(in crate::session) fn refused_as(&self, plain: Plain) -> Option<Refusal> {
        self.house.recorder.goes_on(plain).err().map(|error| unrecorded(&error))
    }

    /// A statement's text as the record may show it.
    pub(in crate::session) fn shown_text(&self, text: &str, redacted: String) -> String {
        match self.house.recorder.manner().literals {
            Literals::Kept if !holds_secrets(text) => cut(text, limits::AUDIT_STATEMENT_BYTES_MAX).to_owned(),
            Literals::Kept | Literals::Redacted => redacted,
        }
    }

    /// The values bound to it, if they are to be recorded.
    pub(in crate::session) fn shown_parameters(&self, judgement: &Judgement) -> Option<Vec<Option<String>>> {
        let bound = judgement.parameters.as_ref().filter(|bound| !bound.values.is_empty())?;
        match self.house.recorder.manner().parameters {
            Keeping::Recorded if !holds_secrets(&judgement.source) => Some(values(bound)),
            Keeping::Recorded | Keeping::LeftOut => None,
        }
    }
}

/// What a statement that was looked at does, where there is no more to record of it. What is not known to change nothing changes.
pub(in crate::session) fn plain(judgement: &Judgement) -> Plain {
    use Kind::{Copy, Empty, Execute, Other, Prepare, Read, Set, Transaction};
    let reads = |facts: &Facts| match &facts.kind {
        Empty | Read | Set | Prepare | Execute | Transaction | Copy => facts.unread.is_none(),
        Other(name) => CALM.contains(&name.as_str()),
        _ => false,
    };
    let mut facts = judgement.pieces.iter().map(|piece| &piece.facts);
    if judgement.reaches() || facts.clone().any(|facts| !facts.acts.is_empty()) || !facts.clone().all(reads) {
        return Plain::Changes;
    }
    match facts.all(|facts| facts.transaction.is_some()) {
        true => Plain::Passes,
        false => Plain::Reads,
    }
}

/// Statements under other names that leave data and schema as they are.
const CALM: &[&str] = &[
    "LockStmt",
    "ListenStmt",
    "UnlistenStmt",
    "NotifyStmt",
    "DiscardStmt",
    "DeallocateStmt",
    "ConstraintsSetStmt",
    "ClosePortalStmt",
    "FetchStmt",
    "ExplainStmt",
    "VariableShowStmt",
];

/// The refusal of a statement that the record does not take.
pub(in crate::session) fn unrecorded(error: &RecordFailed) -> Refusal {
    note_unrecorded(error);
    Refusal::new(Code::CannotKnow, format!("sluice: the statement was not run, because it cannot be recorded: {error}"))
        .hint("Send it again when the record works; SLUICE STATUS tells.")
}

/// Text in which a password or a token may stand: their statements name them, and so do our own hints and settings.
fn holds_secrets(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["password", "sluice", "secret"].iter().any(|word| text.contains(word))
}

/// As many as a line of the record takes, each cut; binary ones in hexadecimal.
pub(in crate::session) fn values(bound: &Parameters) -> Vec<Option<String>> {
    if !bound.literals.is_empty() {
        let shown =
            |literal: &String| (literal != "NULL").then(|| cut(literal, limits::AUDIT_TEXT_BYTES_MAX).to_owned());
        return bound.literals.iter().take(limits::AUDIT_PARAMETERS_MAX).map(shown).collect();
    }
    let is_binary = |at: usize| {
        let format = if bound.formats.len() == 1 { bound.formats.first() } else { bound.formats.get(at) };
        format.is_some_and(|format| *format != 0)
    };
    let shown = |(at, value): (usize, &Option<Bytes>)| {
        let value = value.as_ref()?;
        // What is cut off is not made into text first.
        let value = value.get(..limits::AUDIT_TEXT_BYTES_MAX).unwrap_or(value);
        Some(if is_binary(at) { format!("\\x{}", hex(value)) } else { String::from_utf8_lossy(value).into_owned() })
    };
    bound.values.iter().take(limits::AUDIT_PARAMETERS_MAX).enumerate().map(shown).collect()
}

fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_by_their_format() {
        let values_of = |formats: &[i16]| {
            let some = |value: &'static [u8]| Some(Bytes::from_static(value));
            let bound = Parameters {
                types: vec![],
                formats: formats.to_vec(),
                values: vec![some(b"a'b"), None, some(b"\0\x2a")],
                ..Parameters::default()
            };
            values(&bound)
        };
        let of = |shown: [Option<&str>; 3]| shown.map(|value| value.map(str::to_owned)).to_vec();
        assert_eq!(values_of(&[]), of([Some("a'b"), None, Some("\0*")]));
        assert_eq!(values_of(&[1]), of([Some("\\x612762"), None, Some("\\x002a")]));
        assert_eq!(values_of(&[0, 0, 1]), of([Some("a'b"), None, Some("\\x002a")]));
        let long = Parameters { values: vec![Some(Bytes::from(vec![b'x'; 5_000]))], ..Parameters::default() };
        assert_eq!(values(&long)[0].as_ref().map(String::len), Some(limits::AUDIT_TEXT_BYTES_MAX));
    }

    #[test]
    fn what_may_hold_a_secret_is_never_kept() {
        for text in [
            "ALTER ROLE app PASSWORD 'x'",
            "create role b login PassWord 'y'",
            "SET sluice.confirm = 'K7QF-2M9X'",
            "DELETE FROM t /* Sluice: confirm=K7QF-2M9X */",
            "CREATE SUBSCRIPTION s CONNECTION 'host=h password=x' PUBLICATION p",
        ] {
            assert!(holds_secrets(text), "{text}");
        }
        assert!(!holds_secrets("DELETE FROM carts WHERE note = 'abandoned'"));
    }
}
