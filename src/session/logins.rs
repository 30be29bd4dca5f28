//! What becomes of logins, for the operator: counted, logged, recorded, and those that were refused added up.
//!
//! Invariants: each login has its line, or is counted in one ([`crate::session::refused`]); of what a stranger sent, names are shown cut.

use crate::audit::Login;
use crate::ground::ids::SessionId;
use crate::ground::limits;
use crate::ground::metrics::LOGINS_TOTAL;
use crate::policy::scope::Principal;
use crate::protocol::Code;
use crate::session::House;
use crate::session::place::Peer;
use crate::session::refused::Noted;

/// Somebody who came.
#[derive(Clone, Copy)]
pub(in crate::session) struct Logins<'a> {
    pub house: &'a House,
    pub peer: &'a Peer,
}

/// `connection_does_not_exist`: nobody was refused, but nobody came in either.
pub(in crate::session) const LEFT: &str = "08003";

impl Logins<'_> {
    pub fn note_crowd(&self, why: &str) {
        let principal = Principal { address: self.peer.address.clone(), ..Principal::default() };
        self.refused(None, &principal, Code::TooMany.sqlstate(), why);
    }

    pub fn note(&self, id: SessionId, principal: &Principal, login: Login<'_>) {
        match login {
            Login::Refused { sqlstate, why } => self.refused(Some(id), principal, sqlstate, why),
            Login::Accepted => {
                self.count("accepted");
                if let Err(error) = self.house.recorder.login(Some(id), &self.house.listener, principal, login) {
                    tracing::error!(session = %id, %error, "a login could not be recorded");
                }
            }
        }
    }

    fn refused(&self, id: Option<SessionId>, principal: &Principal, sqlstate: &'static str, why: &str) {
        self.count(match sqlstate {
            "28P01" => "wrong",
            "53300" => "crowded",
            LEFT => "left",
            _ => "refused",
        });
        let (house, listener) = (self.house, &self.house.listener);
        let (principal, why) = (shown(principal), cut(why, limits::REFUSED_WHY_BYTES_MAX));
        let Noted::First(kind) = house.refused.note(listener, &self.peer.place, &principal, sqlstate, &why) else {
            return;
        };
        let session = id.map(tracing::field::display);
        tracing::warn!(session, user = ?principal.user, address = %principal.address, sqlstate, why = ?why, "login refused");
        match house.recorder.login(id, listener, &principal, Login::Refused { sqlstate, why: &why }) {
            Ok(line) => house.refused.written(&kind, line),
            Err(error) => tracing::error!(%error, "a refused login could not be recorded"),
        }
    }

    fn count(&self, outcome: &'static str) {
        let listener = self.house.listener.clone();
        metrics::counter!(LOGINS_TOTAL, "listener" => listener, "outcome" => outcome).increment(1);
    }
}

/// A text, cut at the end of a character.
pub(in crate::session) fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = (0..=bytes_max).rev().find(|&end| text.is_char_boundary(end)).unwrap_or_default();
    format!("{}…", &text[..end])
}

/// A stranger's names: what no user or database can be called is cut before a line grows by it.
fn shown(principal: &Principal) -> Principal {
    let name = |text: &str| cut(text, limits::USER_NAME_BYTES_MAX);
    Principal { user: name(&principal.user), database: name(&principal.database), ..principal.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_between_characters() {
        let long = "ä".repeat(5_000);
        let principal = Principal { user: long.clone(), database: long, ..Principal::default() };
        let shown = shown(&principal);
        assert_eq!((shown.user.as_str(), shown.database), (&*format!("{}…", "ä".repeat(31)), shown.user.clone()));
        assert_eq!(cut("anna", 4), "anna");
    }
}
