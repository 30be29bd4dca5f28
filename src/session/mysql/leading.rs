//! What names lead to: code of the users' own, whose effect only the database knows.
//!
//! Invariant: a statement that leads to such code is run with its commit withheld, and held to what it did.

use crate::policy::question::Evidence;
use crate::session::judgement::{Judgement, Piece};
use crate::session::mysql::Session;
use crate::sql::facts::Kind;

impl Session {
    /// Names in it lead to code of the users' own.
    pub(in crate::session) fn leads_on(&self, _text: &str, _kind: &Kind) -> bool {
        false
    }

    /// Some name does.
    pub(in crate::session) fn leads_anywhere(&self) -> bool {
        false
    }

    /// Which statements lead to code of the users' own, and which of those cannot be tried.
    pub(in crate::session) fn lead(&self, pieces: &[Piece], evidence: &mut [Evidence]) {
        for (piece, known) in pieces.iter().zip(evidence) {
            if piece.facts.kind == Kind::Call {
                known.reaches = vec!["CALL".to_owned()];
            } else if piece.facts.kind == Kind::Do {
                known.reaches = vec!["BEGIN NOT ATOMIC".to_owned()];
            }
        }
    }

    /// What goes on may change the schema, and with it what names lead to.
    pub(in crate::session) fn note_schema_change(&mut self, _judgement: &Judgement) {}
}
