//! Wrong tries at logging in, counted so that guessing takes for ever and nobody can lock out somebody else.
//!
//! Counts, each over a window that begins with its first wrong try:
//! - as one user from one address: past the bound, refused. This is what stops guessing, and a service with a stale password.
//! - from one address as whomever: past the bound, refused. This stops trying one password on many names.
//! - as one user from wherever: past the bound, *slowed*, never refused. Whoever guesses from a thousand addresses makes that user's
//!   logins a second slower, and no more than that: refusing here would let anybody lock out anybody.
//! - given up at one address: logins that ended without a try, because the client left or broke the protocol. Past the bound of the
//!   address, *slowed*: each has cost a look into the database, and clients that leave to ask for a password are honest.
//!
//! Passwords and certificates are counted apart, and a certificate by its name, too: it cannot be guessed, so who shows one has nothing
//! to do with who guesses passwords at the same address, or with who shows another. Nor is a user slowed whom only certificates were
//! shown for.
//!
//! Those who are slowed wait side by side, each in the lobby, whose bounds are theirs ([`crate::session::lobby`]). One behind the
//! other would keep a user out for as long as strangers go on standing in the line.
//!
//! Invariants: what is refused is not counted again, so a window ends; a user who does not exist is counted like one who does; the
//! table is bounded.

use crate::ground::limits;
use crate::session::place::Place;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The configured bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub wrong_per_user: u32,
    pub wrong_per_address: u32,
    pub slow_after: u32,
    pub window: Duration,
}

/// Shared by all listeners and threads: who guesses goes from one to the next.
#[derive(Debug, Default)]
pub struct Tries {
    counts: Mutex<HashMap<Who, Count>>,
}

/// How somebody who wants to log in is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Met {
    Freely,
    /// After this time.
    Slowly(Duration),
    /// Not at all, for this long.
    Refused(Duration),
}

/// Who wants to log in, and from where.
#[derive(Debug, Clone, Copy)]
pub struct Seeker<'a> {
    pub place: &'a Place,
    /// As whom.
    pub user: &'a str,
    /// The name of the certificate that it proves itself by; `None`: by a password.
    pub certificate: Option<&'a str>,
}

impl Tries {
    pub fn met(&self, bounds: &Bounds, seeker: Seeker<'_>, now: Instant) -> Met {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let beyond = |who: &Who, most: u32| {
            let count = counts.get(who).filter(|count| count.ends > now && count.wrong >= most)?;
            Some(count.ends.saturating_duration_since(now))
        };
        let refused =
            [beyond(&seeker.pair(), bounds.wrong_per_user), beyond(&seeker.origin(), bounds.wrong_per_address)];
        let by_name = seeker.name().and_then(|name| beyond(&name, bounds.slow_after));
        let slowed = by_name.or_else(|| beyond(&Who::GaveUp(seeker.place.clone()), bounds.wrong_per_address));
        match (refused.into_iter().flatten().max(), slowed) {
            (Some(left), _) => Met::Refused(left),
            (None, Some(_)) => Met::Slowly(limits::LOGIN_DELAY),
            (None, None) => Met::Freely,
        }
    }

    pub fn wrong(&self, bounds: &Bounds, seeker: Seeker<'_>, now: Instant) {
        self.count(bounds, [seeker.pair(), seeker.origin()].into_iter().chain(seeker.name()), now);
    }

    /// A login ended without a try.
    pub fn gave_up(&self, bounds: &Bounds, place: &Place, now: Instant) {
        self.count(bounds, [Who::GaveUp(place.clone())], now);
    }

    /// This user from this address knows the password: earlier slips are forgiven. Those of the address are not, or whoever has
    /// one account could go on guessing at others.
    pub fn right(&self, seeker: Seeker<'_>) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).remove(&seeker.pair());
    }

    fn count(&self, bounds: &Bounds, whos: impl IntoIterator<Item = Who>, now: Instant) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for who in whos {
            if counts.len() >= limits::LOGIN_TRIES_MAX && !counts.contains_key(&who) {
                make_room(&mut counts, now);
            }
            let count = counts.entry(who).or_insert(Count { wrong: 0, ends: now + bounds.window });
            if count.ends <= now {
                *count = Count { wrong: 0, ends: now + bounds.window };
            }
            count.wrong = count.wrong.saturating_add(1);
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    UserFrom(Origin, String),
    Origin(Origin),
    User(String),
    GaveUp(Place),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Origin {
    place: Place,
    certificate: Option<String>,
}

impl Seeker<'_> {
    fn origin(&self) -> Who {
        Who::Origin(self.from())
    }

    fn pair(&self) -> Who {
        Who::UserFrom(self.from(), short(self.user))
    }

    /// None by certificate: wherever it is shown, it is the same one who shows it.
    fn name(&self) -> Option<Who> {
        self.certificate.is_none().then(|| Who::User(short(self.user)))
    }

    fn from(&self) -> Origin {
        Origin { place: self.place.clone(), certificate: self.certificate.map(short) }
    }
}

/// Longer names are nobody's: they are all one, or ten kilobytes each would be remembered.
fn short(name: &str) -> String {
    name.chars().take(limits::USER_NAME_BYTES_MAX + 1).collect()
}

#[derive(Debug, Clone, Copy)]
struct Count {
    wrong: u32,
    ends: Instant,
}

/// Drops what is over, or else a tenth: those whose windows end first.
fn make_room(counts: &mut HashMap<Who, Count>, now: Instant) {
    counts.retain(|_, count| count.ends > now);
    if counts.len() < limits::LOGIN_TRIES_MAX {
        return;
    }
    let mut ends: Vec<Instant> = counts.values().map(|count| count.ends).collect();
    let (_, tenth, _) = ends.select_nth_unstable(limits::LOGIN_TRIES_MAX / 10);
    let tenth = *tenth;
    counts.retain(|_, count| count.ends > tenth);
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds =
        Bounds { wrong_per_user: 3, wrong_per_address: 5, slow_after: 6, window: Duration::from_secs(600) };

    fn place(address: &str) -> Place {
        Place::of(address.parse().expect("an address"))
    }

    fn wrong(tries: &Tries, address: &str, user: &str, times: u32, now: Instant) {
        let place = place(address);
        (0..times).for_each(|_| tries.wrong(&BOUNDS, by_password(&place, user), now));
    }

    fn met(tries: &Tries, address: &str, user: &str, now: Instant) -> Met {
        tries.met(&BOUNDS, by_password(&place(address), user), now)
    }

    fn by_password<'a>(place: &'a Place, user: &'a str) -> Seeker<'a> {
        Seeker { place, user, certificate: None }
    }

    #[test]
    fn one_user_from_one_address_is_refused_for_the_window() {
        let (tries, now) = (Tries::default(), Instant::now());
        wrong(&tries, "10.0.0.1", "anna", 2, now);
        assert_eq!(met(&tries, "10.0.0.1", "anna", now), Met::Freely);
        wrong(&tries, "10.0.0.1", "anna", 1, now + Duration::from_secs(100));
        let later = now + Duration::from_secs(200);
        assert_eq!(met(&tries, "10.0.0.1", "anna", later), Met::Refused(Duration::from_secs(400)));
        assert_eq!(met(&tries, "10.0.0.1", "berta", later), Met::Freely, "another user from there");
        assert_eq!(met(&tries, "10.0.0.2", "anna", later), Met::Freely, "the same user from elsewhere");
        assert_eq!(met(&tries, "10.0.0.1", "anna", now + Duration::from_secs(600)), Met::Freely, "it ends");
    }

    #[test]
    fn many_names_from_one_address_are_refused_too() {
        let (tries, now) = (Tries::default(), Instant::now());
        for user in ["a", "b", "c", "d", "e"] {
            wrong(&tries, "2001:db8:1:2::7", user, 1, now);
        }
        assert!(matches!(met(&tries, "2001:db8:1:2:ffff::1", "f", now), Met::Refused(_)), "the same /64");
        assert_eq!(met(&tries, "2001:db8:1:3::7", "f", now), Met::Freely);
    }

    #[test]
    fn a_user_who_is_guessed_at_from_everywhere_is_slowed_and_not_locked_out() {
        let (tries, now) = (Tries::default(), Instant::now());
        for last in 0..100 {
            wrong(&tries, &format!("10.0.0.{last}"), "anna", 2, now);
        }
        assert_eq!(met(&tries, "10.1.0.1", "anna", now), Met::Slowly(limits::LOGIN_DELAY));
    }

    #[test]
    fn knowing_the_password_forgives_the_slips_of_that_user_only() {
        let (tries, now) = (Tries::default(), Instant::now());
        wrong(&tries, "10.0.0.1", "anna", 2, now);
        tries.right(by_password(&place("10.0.0.1"), "anna"));
        wrong(&tries, "10.0.0.1", "anna", 2, now);
        assert_eq!(met(&tries, "10.0.0.1", "anna", now), Met::Freely);
        wrong(&tries, "10.0.0.1", "berta", 1, now);
        tries.right(by_password(&place("10.0.0.1"), "anna"));
        assert!(matches!(met(&tries, "10.0.0.1", "anna", now), Met::Refused(_)), "five from this address");
    }

    #[test]
    fn passwords_and_certificates_are_counted_apart() {
        let (tries, now, place) = (Tries::default(), Instant::now(), place("10.0.0.1"));
        let by = |certificate| Seeker { place: &place, user: "anna", certificate: Some(certificate) };
        wrong(&tries, "10.0.0.1", "anna", 9, now);
        assert_eq!(tries.met(&BOUNDS, by("anna"), now), Met::Freely, "not even slowed");
        (0..9).for_each(|_| tries.wrong(&BOUNDS, by("loader"), now));
        assert!(matches!(tries.met(&BOUNDS, by("loader"), now), Met::Refused(_)));
        assert_eq!(tries.met(&BOUNDS, by("anna"), now), Met::Freely, "another certificate");
        assert_eq!(met(&tries, "10.0.0.1", "berta", now), Met::Refused(BOUNDS.window), "by the passwords");
        assert_eq!(met(&tries, "10.0.0.2", "berta", now), Met::Freely);
    }

    #[test]
    fn who_gives_up_again_and_again_is_slowed() {
        let (tries, now) = (Tries::default(), Instant::now());
        (0..4).for_each(|_| tries.gave_up(&BOUNDS, &place("10.0.0.1"), now));
        assert_eq!(met(&tries, "10.0.0.1", "anna", now), Met::Freely);
        (0..90).for_each(|_| tries.gave_up(&BOUNDS, &place("10.0.0.1"), now));
        assert_eq!(met(&tries, "10.0.0.1", "anna", now), Met::Slowly(limits::LOGIN_DELAY), "and not refused");
        assert_eq!(met(&tries, "10.0.0.2", "anna", now), Met::Freely);
    }

    #[test]
    fn endless_names_are_kept_short() {
        let (tries, now) = (Tries::default(), Instant::now());
        wrong(&tries, "10.0.0.1", &"ä".repeat(5_000), 1, now);
        let counts = tries.counts.lock().expect("no panic");
        let short = |who: &Who| !matches!(who, Who::User(name) | Who::UserFrom(_, name) if name.chars().count() > 64);
        assert!(counts.len() == 3 && counts.keys().all(short));
    }

    #[test]
    fn the_table_is_bounded() {
        let (tries, now) = (Tries::default(), Instant::now());
        for number in 0..limits::LOGIN_TRIES_MAX as u64 {
            let now = now + Duration::from_millis(number);
            wrong(&tries, &format!("10.0.{}.{}", number >> 8, number & 255), &number.to_string(), 1, now);
        }
        assert!(tries.counts.lock().expect("no panic").len() <= limits::LOGIN_TRIES_MAX);
    }
}
