//! What the server reports of its settings (ParameterStatus), as far as it decides how texts are read and words are written.
//!
//! Invariant: worked out when a report comes, not when a statement does: every statement needs it, and reports are rare.

use crate::sql::encoding;
use crate::sql::statement::LexicalMode;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) struct Reported {
    /// How texts fall into tokens.
    pub mode: LexicalMode,
    /// The client's encoding hides ASCII bytes in its characters; so does one that was never reported.
    pub is_ambiguous: bool,
    /// The client can be sent our words as they are.
    pub takes_utf8: bool,
    /// The server's major version; 0 where it was not reported.
    pub server_version: u32,
}

impl Default for Reported {
    fn default() -> Self {
        Reported { mode: LexicalMode::default(), is_ambiguous: true, takes_utf8: true, server_version: 0 }
    }
}

impl Reported {
    /// All that the server said during the login.
    pub fn of<'a>(settings: impl IntoIterator<Item = (&'a String, &'a String)>) -> Reported {
        let mut reported = Reported::default();
        settings.into_iter().for_each(|(name, value)| reported.note(name, value));
        reported
    }

    pub fn insert(&mut self, name: String, value: String) {
        self.note(&name, &value);
    }

    fn note(&mut self, name: &str, value: &str) {
        match name {
            "standard_conforming_strings" => {
                self.mode = LexicalMode::Postgres { standard_conforming_strings: value != "off" }
            }
            "client_encoding" => {
                self.is_ambiguous = encoding::is_ambiguous(value);
                self.takes_utf8 = encoding::is_utf8(value);
            }
            // 15 of "15.18 (Debian 15.18-0+deb12u1)".
            "server_version" => {
                let digits = value.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
                self.server_version = digits.parse().unwrap_or(0);
            }
            // The rest changes nothing of what we read or say.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_reported_is_taken_for_the_worst() {
        assert!(Reported::default().is_ambiguous);
        let mut reported = Reported::default();
        for (name, value, expected) in [
            ("client_encoding", "UTF8", (true, false, true)),
            ("standard_conforming_strings", "off", (false, false, true)),
            ("TimeZone", "UTC", (false, false, true)),
            ("client_encoding", "SJIS", (false, true, false)),
            ("standard_conforming_strings", "on", (true, true, false)),
            ("client_encoding", "LATIN1", (true, false, false)),
        ] {
            reported.note(name, value);
            let found = (reported.mode.standard_conforming_strings(), reported.is_ambiguous, reported.takes_utf8);
            assert_eq!(found, expected, "{name} = {value}");
        }
    }
}
