//! What names lead to: code of the users' own, whose effect only the database knows.
//!
//! Invariant: a statement that leads to such code is run with its commit withheld, and held to what it did.

use crate::policy::count::adds_only;
use crate::policy::question::{Evidence, Known, Rows};
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
            if let Some(why) = not_taken_back(piece, known) {
                known.effects = Known::Unknown(why);
                continue;
            }
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

/// A change of a table whose engine knows no transactions stays, whatever it did: only one that is bounded by a key is let pass.
fn not_taken_back(piece: &Piece, known: &Evidence) -> Option<String> {
    let mut changes = piece.facts.changes.iter().zip(&known.changes);
    changes.find_map(|(change, known)| {
        let table = known.table.known()?;
        let bounded = matches!(known.rows, Known::Known(Rows::AtMost(_)));
        let engine = table.keeps_no_transactions.as_ref().filter(|_| !adds_only(change) && !bounded)?;
        let (schema, name) = (&table.schema, &table.name);
        Some(format!(
            "{schema}.{name} is kept by {engine}, which knows no transactions: nothing of it can be rolled back"
        ))
    })
}
