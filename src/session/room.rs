//! What all sessions together may hold of large things: messages that are not whole yet, or not gone yet, and texts that are prepared.
//!
//! Each session has a little of its own, which everyday work never leaves and which is not counted. Who would pass the bound is refused
//! with that message, in its own protocol; it loses nothing else, and nobody else loses anything.
//!
//! Invariant: what is taken is given back, at the latest when the session ends, however it ends: a [`Room`] does so when it is dropped.

use crate::ground::metrics::LARGE_BYTES;
use crate::protocol::{Code, Refusal};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The room of the whole process.
#[derive(Debug)]
pub struct Rooms {
    taken: AtomicUsize,
    most: usize,
}

impl Rooms {
    pub fn new(most: usize) -> Arc<Rooms> {
        Arc::new(Rooms { taken: AtomicUsize::new(0), most })
    }

    fn take(&self, bytes: usize) -> bool {
        let with = |taken: usize| taken.checked_add(bytes).filter(|taken| *taken <= self.most);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, with).is_ok()
    }
}

/// One session's part of it.
#[derive(Debug)]
pub(in crate::session) struct Room {
    rooms: Arc<Rooms>,
    held: usize,
}

impl Room {
    pub fn of(rooms: &Arc<Rooms>) -> Room {
        Room { rooms: rooms.clone(), held: 0 }
    }

    /// From now on it holds so much; `false`: there is not so much, and it holds what it held.
    pub fn hold(&mut self, bytes: usize) -> bool {
        if bytes == self.held {
            return true;
        }
        let (more, less) = (bytes.saturating_sub(self.held), self.held.saturating_sub(bytes));
        if more > 0 && !self.rooms.take(more) {
            return false;
        }
        self.rooms.taken.fetch_sub(less, Ordering::AcqRel);
        metrics::gauge!(LARGE_BYTES).increment(bytes as f64 - self.held as f64);
        self.held = bytes;
        true
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.hold(0);
    }
}

/// There is none left for this message.
pub(in crate::session) fn no_room() -> Refusal {
    let message =
        "sluice: there is no room for so large a message: large messages and prepared texts of all sessions fill it";
    Refusal::new(Code::Room, message).hint("Send it again later, or in parts; [sessions] memory_bytes is the bound.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back_however_a_session_ends() {
        let rooms = Rooms::new(100);
        let (mut one, mut other) = (Room::of(&rooms), Room::of(&rooms));
        assert!(one.hold(60) && other.hold(40));
        assert!(!other.hold(41), "there is no more");
        assert!(one.hold(10) && other.hold(90), "what one gave back the other may have");
        assert!(!one.hold(usize::MAX), "and nothing overflows");
        drop(other);
        assert!(one.hold(100));
        drop(one);
        assert_eq!(rooms.taken.load(Ordering::Acquire), 0);
    }
}
