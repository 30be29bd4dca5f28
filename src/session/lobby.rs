//! Room for connections that have not logged in: apart from the seats of sessions, so that strangers who only stand there keep nobody
//! out who can log in.
//!
//! Whoever comes while all room is taken is turned away, with two exceptions, or standing there would be all it takes to shut others
//! out: who came from the most crowded place gives way to one from a place that is less so, and whoever has taken longer than a
//! login takes gives way to anybody.
//!
//! Invariants: a connection is in the room exactly as long as its [`Stay`] lives, or until it had to give way; there are never more
//! than the bounds say.

use crate::ground::limits;
use crate::ground::metrics::LOGINS_WAITING;
use crate::session::place::Place;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;

/// Shared by all listeners and threads.
#[derive(Debug)]
pub struct Lobby {
    bounds: Bounds,
    inside: Mutex<Inside>,
}

/// Connections at the same time: all together, and from one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub all: usize,
    pub each: usize,
}

/// What there is no room in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// For any more from this place.
    Place,
    House,
}

/// A connection's time in the room.
#[derive(Debug)]
pub struct Stay {
    lobby: Arc<Lobby>,
    place: Place,
    number: u64,
    over: Arc<Notify>,
}

impl Lobby {
    pub fn new(bounds: Bounds) -> Lobby {
        Lobby { bounds, inside: Mutex::default() }
    }

    pub fn enter(self: &Arc<Lobby>, place: &Place, now: Instant) -> Result<Stay, Full> {
        let mut inside = self.inside();
        let from_there = inside.from(place);
        let gives_way = if from_there >= self.bounds.each {
            Some((Full::Place, inside.oldest_of(place)))
        } else if inside.count >= self.bounds.all {
            Some((Full::House, inside.most_crowded().and_then(|place| inside.oldest_of(&place))))
        } else {
            None
        };
        if let Some((full, oldest)) = gives_way {
            let oldest = oldest.ok_or(full)?;
            let is_crowded = inside.from(&oldest.place) > from_there + 1;
            if !is_crowded && now.saturating_duration_since(oldest.since) < limits::LOGIN_UNHURRIED {
                return Err(full);
            }
            oldest.over.notify_one();
            inside.remove(&oldest.place, oldest.number);
        }
        let number = inside.last + 1;
        inside.last = number;
        let over = Arc::new(Notify::new());
        let one = One { number, since: now, over: over.clone() };
        inside.places.entry(place.clone()).or_default().push_back(one);
        inside.count += 1;
        metrics::gauge!(LOGINS_WAITING).set(inside.count as f64);
        Ok(Stay { lobby: self.clone(), place: place.clone(), number, over })
    }

    pub fn count(&self) -> usize {
        self.inside().count
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stay {
    /// When another was given the place.
    pub async fn is_over(&self) {
        self.over.notified().await;
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let mut inside = self.lobby.inside();
        inside.remove(&self.place, self.number);
        metrics::gauge!(LOGINS_WAITING).set(inside.count as f64);
    }
}

#[derive(Debug, Default)]
struct Inside {
    /// In the order they came; none is empty.
    places: HashMap<Place, VecDeque<One>>,
    count: usize,
    last: u64,
}

#[derive(Debug)]
struct One {
    number: u64,
    since: Instant,
    over: Arc<Notify>,
}

struct Oldest {
    place: Place,
    number: u64,
    since: Instant,
    over: Arc<Notify>,
}

impl Inside {
    fn from(&self, place: &Place) -> usize {
        self.places.get(place).map_or(0, VecDeque::len)
    }

    fn oldest_of(&self, place: &Place) -> Option<Oldest> {
        let one = self.places.get(place)?.front()?;
        Some(Oldest { place: place.clone(), number: one.number, since: one.since, over: one.over.clone() })
    }

    /// Of several, the one in which somebody has been for longest.
    fn most_crowded(&self) -> Option<Place> {
        let crowd = |ones: &VecDeque<One>| (ones.len(), ones.front().map(|one| std::cmp::Reverse(one.number)));
        self.places.iter().max_by_key(|(_, ones)| crowd(ones)).map(|(place, _)| place.clone())
    }

    fn remove(&mut self, place: &Place, number: u64) {
        let Some(ones) = self.places.get_mut(place) else { return };
        let before = ones.len();
        ones.retain(|one| one.number != number);
        self.count -= before - ones.len();
        if ones.is_empty() {
            self.places.remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn lobby(all: usize, each: usize) -> Arc<Lobby> {
        Arc::new(Lobby::new(Bounds { all, each }))
    }

    fn place(last: u8) -> Place {
        Place::of([10, 0, 0, last].into())
    }

    fn is_over(stay: &Stay) -> bool {
        let mut over = Box::pin(stay.is_over());
        over.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    #[test]
    fn one_place_cannot_take_all_room() {
        let (lobby, now) = (lobby(4, 2), Instant::now());
        let stays: Vec<Stay> = (0..2).map(|_| lobby.enter(&place(1), now).expect("room")).collect();
        assert_eq!(lobby.enter(&place(1), now).err(), Some(Full::Place));
        let other = lobby.enter(&place(2), now).expect("room for others");
        drop(stays);
        assert_eq!(lobby.count(), 1);
        lobby.enter(&place(1), now).expect("room again");
        drop(other);
        assert_eq!((lobby.count(), lobby.inside().places.len()), (0, 0));
    }

    #[test]
    fn who_has_taken_too_long_gives_way() {
        let (lobby, now) = (lobby(9, 2), Instant::now());
        let first = lobby.enter(&place(1), now).expect("room");
        let second = lobby.enter(&place(1), now).expect("room");
        let later = now + limits::LOGIN_UNHURRIED;
        assert!(lobby.enter(&place(1), later - Duration::from_millis(1)).is_err());
        let third = lobby.enter(&place(1), later).expect("the first gives way");
        assert!(is_over(&first) && !is_over(&second) && !is_over(&third));
        assert_eq!(lobby.count(), 2);
        drop(first);
        assert_eq!(lobby.count(), 2, "it was not in there any more");
    }

    #[test]
    fn a_crowd_gives_way_to_who_comes_from_elsewhere() {
        let (lobby, now) = (lobby(5, 4), Instant::now());
        let small: Vec<Stay> = (0..2).map(|_| lobby.enter(&place(1), now).expect("room")).collect();
        let crowd: Vec<Stay> = (0..3).map(|_| lobby.enter(&place(2), now).expect("room")).collect();
        let stranger = lobby.enter(&place(3), now).expect("one of the crowd gives way");
        assert!(is_over(&crowd[0]) && !is_over(&crowd[1]) && small.iter().all(|stay| !is_over(stay)));
        assert_eq!(lobby.enter(&place(2), now).err(), Some(Full::House), "the crowd itself makes nobody give way");
        assert_eq!(lobby.count(), 5);
        drop(stranger);
        lobby.enter(&place(2), now).expect("room");
    }

    #[test]
    fn there_are_never_more_than_the_bounds_say() {
        let (lobby, now) = (lobby(50, 9), Instant::now());
        let mut stays = Vec::new();
        for number in 0..2_000u32 {
            let now = now + Duration::from_millis(u64::from(number) * 20);
            stays.extend(lobby.enter(&place((number * number % 23) as u8), now).ok());
            let inside = lobby.inside();
            assert!(inside.count <= 50 && inside.places.values().all(|ones| ones.len() <= 9));
            assert_eq!(inside.count, inside.places.values().map(VecDeque::len).sum::<usize>());
        }
        drop(stays);
        assert_eq!(lobby.count(), 0);
    }
}
