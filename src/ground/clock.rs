//! The only source of time. Rooms ask a [`Clock`] instead of the system, so that a test can wind it by hand.
//!
//! Invariant: `instant` never goes backwards; `now` is what the system's clock says and may be set back by an operator,
//! so nothing measures a duration by it.

use jiff::Timestamp;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Gives wall time and a steady time. Cheap to clone; clones of a hand-wound clock are wound together.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    #[default]
    System,
    Hand(HandClock),
}

impl Clock {
    pub fn now(&self) -> Timestamp {
        match self {
            Clock::System => Timestamp::now(),
            Clock::Hand(hand) => hand.start_wall.saturating_add(hand.wound()).unwrap_or(Timestamp::MAX),
        }
    }

    pub fn instant(&self) -> Instant {
        match self {
            Clock::System => Instant::now(),
            Clock::Hand(hand) => hand.start_steady + hand.wound(),
        }
    }
}

/// A clock that moves only when it is wound.
#[derive(Debug, Clone)]
pub struct HandClock {
    start_wall: Timestamp,
    start_steady: Instant,
    wound: Arc<Mutex<Duration>>,
}

impl HandClock {
    pub fn at(start: Timestamp) -> HandClock {
        HandClock { start_wall: start, start_steady: Instant::now(), wound: Arc::default() }
    }

    pub fn wind(&self, by: Duration) {
        *self.wound.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }

    pub fn clock(&self) -> Clock {
        Clock::Hand(self.clone())
    }

    fn wound(&self) -> Duration {
        *self.wound.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `now` and a time to live make an end; a time to live beyond the calendar ends with it.
pub fn after(now: Timestamp, by: Duration) -> Timestamp {
    now.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// Writes timestamps as RFC 3339 text: for `#[serde(with = "clock::text")]`.
pub mod text {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(time)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hand_wound_clock_moves_only_when_wound() {
        let hand = HandClock::at(Timestamp::UNIX_EPOCH);
        let clock = hand.clock();
        let steady = clock.instant();
        assert_eq!(clock.now(), Timestamp::UNIX_EPOCH);
        hand.wind(Duration::from_millis(1_500));
        assert_eq!(clock.now().as_millisecond(), 1_500);
        assert_eq!(clock.instant() - steady, Duration::from_millis(1_500));
    }

    #[test]
    fn a_time_to_live_beyond_the_calendar_ends_with_it() {
        assert_eq!(after(Timestamp::UNIX_EPOCH, Duration::MAX), Timestamp::MAX);
    }
}
