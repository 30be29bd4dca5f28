//! The texts of a session's prepared statements, and what its large things take of the room that all sessions share.
//!
//! Invariant: the bytes counted are those of what is kept; a message that there is no room for is skipped to its end and refused.

use crate::ground::limits;
use crate::protocol::postgres::command;
use crate::protocol::postgres::frame::Frame;
use crate::protocol::{Code, Refusal};
use crate::session::End;
use crate::session::postgres::Session;
use crate::session::postgres::act::Form;
use crate::session::postgres::named::Named;
use crate::session::postgres::pipeline::Prepared;
use crate::session::room::no_room;
use bytes::Bytes;

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

#[cfg(test)]
mod tests {
    use super::*;

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
