//! Wrong tries at logging in, counted so that guessing takes for ever and nobody can lock out somebody else.
//!
//! Three counts, each over a window that begins with its first wrong try:
//! - as one user from one address: past the bound, refused. This is what stops guessing, and a service with a stale password.
//! - from one address as whomever: past the bound, refused. This stops trying one password on many names.
//! - as one user from wherever: past the bound, *slowed*, never refused. Whoever guesses from a thousand addresses makes that user's
//!   logins a second slower, and no more than that: refusing here would let anybody lock out anybody.
//!
//! Invariants: what is refused is not counted again, so a window ends; a user who does not exist is counted like one who does; the
//! table is bounded. An IPv6 address counts by its /64, which is what one customer has to choose from.

use crate::ground::limits;
use std::collections::HashMap;
use std::net::IpAddr;
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

impl Tries {
    pub fn met(&self, bounds: &Bounds, address: &str, user: &str, now: Instant) -> Met {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let beyond = |who: &Who, most: u32| {
            let count = counts.get(who).filter(|count| count.ends > now && count.wrong >= most)?;
            Some(count.ends.saturating_duration_since(now))
        };
        let [pair, place, name] = whos(address, user);
        let refused = [beyond(&pair, bounds.wrong_per_user), beyond(&place, bounds.wrong_per_address)];
        match (refused.into_iter().flatten().max(), beyond(&name, bounds.slow_after)) {
            (Some(left), _) => Met::Refused(left),
            (None, Some(_)) => Met::Slowly(limits::LOGIN_DELAY),
            (None, None) => Met::Freely,
        }
    }

    pub fn wrong(&self, bounds: &Bounds, address: &str, user: &str, now: Instant) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for who in whos(address, user) {
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

    /// This user from this address knows the password: earlier slips are forgiven. Those of the address are not, or whoever has
    /// one account could go on guessing at others.
    pub fn right(&self, address: &str, user: &str) {
        let [pair, ..] = whos(address, user);
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).remove(&pair);
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    UserFrom(String, String),
    Address(String),
    User(String),
}

#[derive(Debug, Clone, Copy)]
struct Count {
    wrong: u32,
    ends: Instant,
}

fn whos(address: &str, user: &str) -> [Who; 3] {
    let place = place(address);
    // Longer names are nobody's: they are all one, or ten kilobytes each would be remembered.
    let user: String = user.chars().take(limits::USER_NAME_BYTES_MAX + 1).collect();
    [Who::UserFrom(place.clone(), user.clone()), Who::Address(place), Who::User(user)]
}

/// An address as far as it says who is there.
fn place(address: &str) -> String {
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
        _ => address.to_owned(),
    }
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

    fn wrong(tries: &Tries, address: &str, user: &str, times: u32, now: Instant) {
        (0..times).for_each(|_| tries.wrong(&BOUNDS, address, user, now));
    }

    #[test]
    fn one_user_from_one_address_is_refused_for_the_window() {
        let (tries, now) = (Tries::default(), Instant::now());
        wrong(&tries, "10.0.0.1", "anna", 2, now);
        assert_eq!(tries.met(&BOUNDS, "10.0.0.1", "anna", now), Met::Freely);
        wrong(&tries, "10.0.0.1", "anna", 1, now + Duration::from_secs(100));
        let later = now + Duration::from_secs(200);
        assert_eq!(tries.met(&BOUNDS, "10.0.0.1", "anna", later), Met::Refused(Duration::from_secs(400)));
        assert_eq!(tries.met(&BOUNDS, "10.0.0.1", "berta", later), Met::Freely, "another user from there");
        assert_eq!(tries.met(&BOUNDS, "10.0.0.2", "anna", later), Met::Freely, "the same user from elsewhere");
        assert_eq!(tries.met(&BOUNDS, "10.0.0.1", "anna", now + Duration::from_secs(600)), Met::Freely, "it ends");
    }

    #[test]
    fn many_names_from_one_address_are_refused_too() {
        let (tries, now) = (Tries::default(), Instant::now());
        for user in ["a", "b", "c", "d", "e"] {
            wrong(&tries, "2001:db8:1:2::7", user, 1, now);
        }
        assert!(matches!(tries.met(&BOUNDS, "2001:db8:1:2:ffff::1", "f", now), Met::Refused(_)), "the same /64");
        assert_eq!(tries.met(&BOUNDS, "2001:db8:1:3::7", "f", now), Met::Freely);
    }

    #[test]
    fn a_user_who_is_guessed_at_from_everywhere_is_slowed_and_not_locked_out() {
        let (tries, now) = (Tries::default(), Instant::now());
        for last in 0..100 {
            wrong(&tries, &format!("10.0.0.{last}"), "anna", 2, now);
        }
        assert_eq!(tries.met(&BOUNDS, "10.1.0.1", "anna", now), Met::Slowly(limits::LOGIN_DELAY));
    }

    #[test]
    fn knowing_the_password_forgives_the_slips_of_that_user_only() {
        let (tries, now) = (Tries::default(), Instant::now());
        wrong(&tries, "10.0.0.1", "anna", 2, now);
        tries.right("10.0.0.1", "anna");
        wrong(&tries, "10.0.0.1", "anna", 2, now);
        assert_eq!(tries.met(&BOUNDS, "10.0.0.1", "anna", now), Met::Freely);
        wrong(&tries, "10.0.0.1", "berta", 1, now);
        tries.right("10.0.0.1", "anna");
        assert!(matches!(tries.met(&BOUNDS, "10.0.0.1", "anna", now), Met::Refused(_)), "five from this address");
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
            tries.wrong(&BOUNDS, &format!("10.0.{}.{}", number >> 8, number & 255), &number.to_string(), now);
        }
        assert!(tries.counts.lock().expect("no panic").len() <= limits::LOGIN_TRIES_MAX);
    }
}
