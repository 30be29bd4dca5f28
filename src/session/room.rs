//! What all sessions together may hold of large things: messages that are not whole yet, or not gone yet, and texts that are prepared.
//!
//! Each session has a little of its own, which everyday work never leaves and which is not counted. Who would pass the bound is refused
//! with that message, in its own protocol; it loses nothing else, and nobody else loses anything.
//!
//! Invariant: what is taken is given back, at the latest when the session ends, however it ends: a [`Room`] does so when it is dropped.

use crate::ground::limits;
use crate::ground::metrics::LARGE_BYTES;
use crate::protocol::postgres::command;
use crate::protocol::postgres::frame::Frame;
use crate::protocol::{Code, Refusal};
use crate::session::act::Form;
use crate::session::named::Named;
use crate::session::pipeline::Prepared;
use crate::session::{End, Session};
use bytes::Bytes;
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

/// What the names of prepared statements stand for, and the bytes of it.
#[derive(Debug, Default)]
pub(in crate::session) struct Texts {
    by_name: Named<Prepared>,
    bytes: usize,
}

impl Texts {
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    pub fn contains(&self, name: &Bytes) -> bool {
        self.by_name.contains(name)
    }

    pub fn get(&self, name: &Bytes) -> Option<&Prepared> {
        self.by_name.get(name)
    }

    pub fn insert(&mut self, name: Bytes, prepared: Prepared) {
        self.bytes += cost(&name, &prepared);
        if let Some(before) = self.by_name.insert(name.clone(), prepared) {
            self.bytes -= cost(&name, &before);
        }
    }

    pub fn remove(&mut self, name: &Bytes) -> Option<Prepared> {
        let removed = self.by_name.remove(name)?;
        self.bytes -= cost(name, &removed);
        Some(removed)
    }

    pub fn clear(&mut self) {
        *self = Texts::default();
    }

    fn cost_of(&self, name: &Bytes) -> usize {
        self.by_name.get(name).map_or(0, |prepared| cost(name, prepared))
    }
}

/// With what a map, a source and its count of owners take.
fn cost(name: &Bytes, prepared: &Prepared) -> usize {
    const ENTRY: usize = 256;
    let text = match prepared {
        Prepared::Harmless(glanced) | Prepared::Adds(glanced) => glanced.source.text.len(),
        Prepared::Guarded(guarded) => guarded.source.text.len(),
        Prepared::Transaction(_) => 0,
        Prepared::Command(text) => text.len(),
    };
    ENTRY + name.len() + text
}

impl Session {
    /// Before more of a message is waited for: is there room for what is here of it? What the room is, is reckoned anew each time, so
    /// that what has gone since is given back.
    pub(in crate::session) fn has_room(&mut self) -> bool {
        let here = self.link.client.inbox.len();
        let messages = (here + self.link.upstream_waiting()).saturating_sub(limits::ROOM_OWN_BYTES);
        let texts = self.prepared.bytes.saturating_sub(limits::ROOM_OWN_BYTES);
        self.room.hold(messages + texts) || here <= limits::ROOM_OWN_BYTES
    }

    /// A message that there was no room for, of which nothing is left: the server never hears of it.
    pub(in crate::session) async fn skipped(&mut self, tag: u8) -> Result<(), End> {
        if self.pipeline.discarding {
            return Ok(());
        }
        if self.talk.in_copy() {
            let message = format!("sluice: unexpected message type 0x{tag:02X} during COPY from stdin");
            return Err(End::Refused(Refusal::new(Code::Protocol, message)));
        }
        if matches!(tag, b'P' | b'B') {
            return self.refuse(&no_room(), Form::Extended).await;
        }
        let refusal = self.settle().await?.unwrap_or_else(no_room);
        if self.pipeline.discarding {
            return Ok(());
        }
        self.refuse(&refusal, Form::Simple).await
    }

    /// Before a text is prepared: would it be too much, for the session or for all of them?
    pub(in crate::session) fn refuses_text(&mut self, parse: &Frame) -> Option<Refusal> {
        let more = parse.body().len();
        if self.prepared.bytes + more <= limits::ROOM_OWN_BYTES {
            return None;
        }
        // One that does not add up is refused as such.
        let name = command::parse(parse).ok()?.name;
        let after = self.prepared.bytes - self.prepared.cost_of(&name) + more;
        // There is only one without a name, and it may be as long as any message.
        let unnamed = if name.is_empty() { more } else { self.prepared.cost_of(&Bytes::new()) };
        if after - unnamed > limits::PREPARED_BYTES_MAX {
            let message = format!(
                "sluice: the texts of this session's prepared statements would pass {} MiB",
                limits::PREPARED_BYTES_MAX >> 20
            );
            return Some(Refusal::new(Code::Limit, message).hint("Close those that are not needed any more."));
        }
        let messages = self.link.upstream_waiting().saturating_sub(limits::ROOM_OWN_BYTES);
        let texts = after.saturating_sub(limits::ROOM_OWN_BYTES);
        (!self.room.hold(messages + texts)).then(no_room)
    }
}

fn no_room() -> Refusal {
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

    #[test]
    fn texts_are_counted_as_they_come_and_go() {
        let text = |length: usize| Prepared::Command("x".repeat(length).into());
        let name = |name: &'static str| Bytes::from_static(name.as_bytes());
        let mut texts = Texts::default();
        texts.insert(name("a"), text(1_000));
        texts.insert(name("a"), text(10));
        texts.insert(name(""), text(0));
        assert_eq!(texts.bytes, cost(&name("a"), &text(10)) + cost(&name(""), &text(0)));
        assert!(texts.remove(&name("a")).is_some() && texts.remove(&name("a")).is_none());
        assert_eq!((texts.bytes, texts.len()), (cost(&name(""), &text(0)), 1));
        texts.clear();
        assert_eq!((texts.bytes, texts.len()), (0, 0));
    }
}
