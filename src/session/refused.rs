//! Refused logins, added up: the first of its kind has a line of its own at once, and those that follow are a number, a line a minute.
//! Whoever can reach a listener can have logins refused, as many as the network carries, and must not fill the record with it.
//!
//! What is one kind: the same user, from the same place, at the same listener, with the same SQLSTATE. Who tries many names from one
//! place is listed with some of them and a number for the rest; of places there is a bound, too, and then a number.
//!
//! Invariants: every refusal is in a line of its own or in exactly one number that will be written; what is kept is bounded. What was
//! quiet for a minute is forgotten, so that the next time is written at once.

use crate::audit::{AddedUp, Recorder};
use crate::ground::limits;
use crate::ground::metrics::RECORD_FAILURES_TOTAL;
use crate::policy::scope::Principal;
use crate::session::place::Place;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Shared by all listeners and threads.
#[derive(Debug, Default)]
pub struct Refused {
    sums: Mutex<HashMap<Kind, Sum>>,
}

/// What to do about a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Noted {
    /// Write a line for it, and say which with [`Refused::written`].
    First(Kind),
    /// It will be in a number.
    Added,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Kind {
    listener: String,
    who: Who,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    User(Place, String, &'static str),
    /// Users of this place that are not listed.
    Others(Place),
    /// Places that are not listed.
    Elsewhere,
}

#[derive(Debug, Clone, Default)]
struct Sum {
    principal: Principal,
    sqlstate: &'static str,
    /// Of the last one.
    why: String,
    /// The first one's line.
    of: Option<u64>,
    /// Not written yet.
    count: u64,
}

impl Refused {
    /// `principal` with names as they may be shown.
    pub fn note(
        &self,
        listener: &str,
        place: &Place,
        principal: &Principal,
        sqlstate: &'static str,
        why: &str,
    ) -> Noted {
        let mut sums = self.sums();
        let kind = |who| Kind { listener: listener.to_owned(), who };
        let this = kind(Who::User(place.clone(), principal.user.clone(), sqlstate));
        let (others, elsewhere) = (kind(Who::Others(place.clone())), kind(Who::Elsewhere));
        if let Some(sum) = sums.get_mut(&this) {
            sum.count += 1;
            sum.why = why.to_owned();
            return Noted::Added;
        }
        let has_room = sums.len() < limits::REFUSED_KINDS_MAX;
        let listed = sums.keys().filter(|kind| matches!(&kind.who, Who::User(from, ..) if from == place)).count();
        if has_room && listed < limits::REFUSED_KINDS_OF_PLACE_MAX {
            let (principal, why) = (principal.clone(), why.to_owned());
            sums.insert(this.clone(), Sum { principal, sqlstate, why, of: None, count: 0 });
            return Noted::First(this);
        }
        let others_have_room = has_room || sums.contains_key(&others);
        let (kind, address, why) = match others_have_room {
            true => (others, principal.address.clone(), "as other users than those listed"),
            false => (elsewhere, String::new(), "from other addresses than those listed"),
        };
        let sum = sums.entry(kind).or_default();
        sum.principal.address = address;
        (sum.sqlstate, sum.why) = (sqlstate, why.to_owned());
        sum.count += 1;
        Noted::Added
    }

    pub fn written(&self, kind: &Kind, line: u64) {
        if let Some(sum) = self.sums().get_mut(kind) {
            sum.of = Some(line);
        }
    }

    /// Writes the numbers that came together since the last time. What cannot be written now is kept for the next time.
    pub fn write(&self, recorder: &Recorder) {
        for (kind, sum) in self.due() {
            let Sum { principal, sqlstate, why, of, count } = &sum;
            let added = AddedUp { sqlstate, why, count: *count, of: *of };
            tracing::warn!(listener = %kind.listener, user = ?principal.user, address = %principal.address, sqlstate, why = ?why, count, "further logins refused");
            if let Err(error) = recorder.refused_logins(&kind.listener, principal, added) {
                metrics::counter!(RECORD_FAILURES_TOTAL).increment(1);
                tracing::error!(%error, "refused logins could not be recorded");
                self.put_back(kind, sum);
            }
        }
    }

    /// Takes what has a number, and forgets what has none.
    fn due(&self) -> Vec<(Kind, Sum)> {
        let mut sums = self.sums();
        sums.retain(|_, sum| sum.count > 0);
        let due: Vec<(Kind, Sum)> = sums.iter().map(|(kind, sum)| (kind.clone(), sum.clone())).collect();
        sums.values_mut().for_each(|sum| sum.count = 0);
        due
    }

    fn put_back(&self, kind: Kind, sum: Sum) {
        let mut sums = self.sums();
        let count = sum.count;
        let kept = sums.entry(kind).or_insert(Sum { count: 0, ..sum });
        kept.count += count;
    }

    fn sums(&self) -> MutexGuard<'_, HashMap<Kind, Sum>> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(refused: &Refused, last: u8, user: &str) -> Noted {
        let place = Place::of([10, 0, 0, last].into());
        let principal = Principal { user: user.to_owned(), address: place.to_string(), ..Principal::default() };
        refused.note("prod", &place, &principal, "28P01", "wrong password")
    }

    fn due(refused: &Refused) -> Vec<(String, String, u64)> {
        let told = |sum: &Sum| (sum.principal.address.clone(), sum.principal.user.clone(), sum.count);
        let mut due: Vec<_> = refused.due().iter().map(|(_, sum)| told(sum)).collect();
        due.sort();
        due
    }

    #[test]
    fn the_first_is_written_and_the_others_are_a_number() {
        let refused = Refused::default();
        let Noted::First(kind) = note(&refused, 1, "anna") else { panic!("the first") };
        refused.written(&kind, 7);
        for _ in 0..3 {
            assert_eq!(note(&refused, 1, "anna"), Noted::Added);
        }
        assert!(matches!(note(&refused, 1, "berta"), Noted::First(_)));
        assert!(matches!(note(&refused, 2, "anna"), Noted::First(_)));
        let written = refused.due();
        assert_eq!(written.len(), 1);
        assert_eq!((written[0].1.count, written[0].1.of), (3, Some(7)));
        assert_eq!(note(&refused, 1, "anna"), Noted::Added, "not forgotten while it goes on");
        assert_eq!(due(&refused), [("10.0.0.1".to_owned(), "anna".to_owned(), 1)]);
        assert_eq!(due(&refused), []);
        assert!(matches!(note(&refused, 1, "anna"), Noted::First(_)), "after a quiet minute");
    }

    #[test]
    fn many_names_from_one_place_are_listed_in_part() {
        let refused = Refused::default();
        let names = (0..100).map(|name| note(&refused, 1, &name.to_string()));
        let first = names.filter(|noted| matches!(noted, Noted::First(_))).count();
        assert_eq!(first, limits::REFUSED_KINDS_OF_PLACE_MAX);
        assert_eq!(due(&refused), [("10.0.0.1".to_owned(), String::new(), 100 - first as u64)]);
    }

    #[test]
    fn what_is_kept_is_bounded_and_none_is_lost() {
        let refused = Refused::default();
        let mut written = 0;
        for (last, name) in (0..=255).flat_map(|last| (0..30).map(move |name| (last, name))) {
            written += u64::from(matches!(note(&refused, last, &format!("user {name}")), Noted::First(_)));
        }
        assert!(refused.sums().len() <= limits::REFUSED_KINDS_MAX + 1);
        let counted: u64 = due(&refused).iter().map(|(_, _, count)| count).sum();
        assert_eq!(written + counted, 256 * 30);
    }

    #[test]
    fn what_could_not_be_written_is_kept() {
        let refused = Refused::default();
        for _ in 0..3 {
            note(&refused, 1, "anna");
        }
        let (kind, sum) = refused.due().remove(0);
        note(&refused, 1, "anna");
        refused.put_back(kind, sum);
        assert_eq!(due(&refused), [("10.0.0.1".to_owned(), "anna".to_owned(), 3)]);
    }
}
