//! When nothing may be changed: a name, who is meant, and from when until when.
//!
//! Invariant: time comes from the caller. A freeze without any time holds until it is taken out of the configuration.

use crate::policy::pattern::Window;
use crate::policy::scope::{Match, Principal};
use crate::policy::settings::Origin;
use jiff::Timestamp;
use std::sync::Arc;

/// One `[[freeze]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Freeze {
    pub frozen: Arc<Frozen>,
    /// Whom it is about; asking for nothing means everybody.
    pub matches: Match,
    /// Who may go on all the same. `None`: nobody.
    pub except: Option<Match>,
    pub from: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// One of these must hold, if there are any.
    pub time: Vec<Window>,
}

/// What a refusal tells of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Frozen {
    pub name: String,
    pub reason: Option<String>,
    /// As written: "until 2027-01-02 06:00 Europe/Berlin". Empty for one without an end.
    pub until: String,
    /// Where it stands: `sluice.toml:31 [[freeze]] "year's end"`.
    pub origin: Origin,
}

impl Freeze {
    pub fn holds(&self, principal: &Principal, now: Timestamp) -> bool {
        let begun = self.from.is_none_or(|from| from <= now);
        let over = self.until.is_some_and(|until| until <= now);
        let in_window = self.time.is_empty() || self.time.iter().any(|window| window.contains(now));
        let meant = self.matches.principal(principal)
            && !self.except.as_ref().is_some_and(|match_| match_.principal(principal));
        begun && !over && in_window && meant
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::pattern::Glob;

    fn freeze(time: &[&str], from: &str, until: &str) -> Freeze {
        let parsed = |text: &str| (!text.is_empty()).then(|| text.parse().expect("a time"));
        Freeze {
            frozen: Arc::new(Frozen { name: String::new(), reason: None, until: String::new(), origin: "x".into() }),
            matches: Match::default(),
            except: Some(Match { user: vec![Glob::new("dba_*").expect("a pattern")], ..Match::default() }),
            from: parsed(from),
            until: parsed(until),
            time: time.iter().map(|text| Window::parse(text).expect("a window")).collect(),
        }
    }

    #[test]
    fn a_freeze_begins_ends_comes_back_and_spares() {
        let anna = Principal { user: "anna".to_owned(), ..Principal::default() };
        let at = |freeze: &Freeze, now: &str| freeze.holds(&anna, now.parse().expect("a time"));
        let year = freeze(&[], "2026-12-20T17:00:00Z", "2027-01-02T05:00:00Z");
        for (now, frozen) in [
            ("2026-12-20T16:59:59Z", false),
            ("2026-12-20T17:00:00Z", true),
            ("2027-01-02T04:59:59Z", true),
            ("2027-01-02T05:00:00Z", false),
        ] {
            assert_eq!(at(&year, now), frozen, "{now}");
        }
        let friday = freeze(&["Fri 16:00-24:00"], "", "");
        assert!(
            at(&friday, "2026-11-20T17:00:00Z")
                && !at(&friday, "2026-11-20T15:59:00Z")
                && !at(&friday, "2026-11-21T17:00:00Z")
        );
        let now = freeze(&[], "", "");
        assert!(at(&now, "2026-01-01T00:00:00Z"), "without a time: until it is taken out");
        let dba = Principal { user: "dba_eve".to_owned(), ..Principal::default() };
        assert!(!now.holds(&dba, Timestamp::UNIX_EPOCH));
    }
}
