//! What the numbers of prepared statements stand for.
//!
//! Invariant: a number that is not here is refused, not passed on: only what was read when it was prepared can be run. The bytes counted
//! are those of what is kept.

use crate::ground::limits;
use crate::protocol::mysql::values::Kind;
use crate::session::judgement::Source;
use crate::sql::facts::TransactionVerb;
use crate::sql::statement::LexicalMode;
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// One text that was prepared.
#[derive(Debug, Clone)]
pub(in crate::session) struct Prepared {
    pub what: What,
    /// How many `?` it has, as the server counts them.
    pub parameters: u16,
    /// The types that were bound last: they hold until others are sent.
    pub kinds: Vec<Kind>,
    /// Parameters that were given other than texts, were it in an execution that failed: MySQL (8.0.22 and later, tried on 9.7) prepares anew
    /// by that, and turns a text that comes later into a number.
    pub numbers: Vec<bool>,
    /// The server may hold others: an execution failed, and whether before or after its types were bound is not known.
    pub doubtful: bool,
    /// Those of the execution under way: they hold if the server gets to see it.
    pub coming: Option<Vec<Kind>>,
    pub ahead: Ahead,
    /// Which default database it was prepared in: it runs there, whatever the default is then.
    pub place: u64,
}

/// The values that COM_STMT_SEND_LONG_DATA brought since the statement was last run: the server adds each part to those before it, and
/// takes no other value for such a parameter.
#[derive(Debug, Clone, Default)]
pub(in crate::session) struct Ahead {
    parts: BTreeMap<u16, BytesMut>,
    /// Of all parts: reckoned as they come, for there may be as many messages as bytes.
    bytes: usize,
    /// More came than is kept: what it is cannot be judged.
    pub is_cut: bool,
}

impl Ahead {
    /// One part more. `room`: for how many bytes.
    fn add(&mut self, parameter: u16, part: &[u8], room: usize) {
        const ENTRY: usize = 64;
        self.is_cut |= part.len() > room;
        let entries = self.parts.len();
        let kept = self.parts.entry(parameter).or_default();
        let before = kept.len();
        if self.is_cut {
            *kept = BytesMut::new();
        } else {
            kept.extend_from_slice(part);
        }
        self.bytes = self.bytes + kept.len() - before;
        self.bytes += (self.parts.len() - entries) * ENTRY;
    }

    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// What is left out of the message that runs the statement.
    pub fn into_values(self) -> BTreeMap<u16, Bytes> {
        self.parts.into_iter().map(|(at, data)| (at, data.freeze())).collect()
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What PREPARE … FROM gave a name: the texts, and how they were read.
#[derive(Debug, Default)]
pub(in crate::session) struct Named {
    texts: HashMap<String, (Arc<str>, LexicalMode)>,
    bytes: usize,
}

impl Named {
    pub fn get(&self, name: &str) -> Option<&(Arc<str>, LexicalMode)> {
        self.texts.get(name)
    }

    pub fn insert(&mut self, name: String, text: &str, mode: LexicalMode) {
        self.remove(&name);
        self.bytes += Named::weight(&name, text);
        self.texts.insert(name, (text.into(), mode));
    }

    pub fn remove(&mut self, name: &str) {
        if let Some((text, _)) = self.texts.remove(name) {
            self.bytes -= Named::weight(name, &text);
        }
    }

    /// What one holds.
    pub fn weight(name: &str, text: &str) -> usize {
        const ENTRY: usize = 128;
        ENTRY + name.len() + text.len()
    }

    pub fn clear(&mut self) {
        *self = Named::default();
    }

    pub fn len(&self) -> usize {
        self.texts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[derive(Debug, Clone)]
pub(in crate::session) enum What {
    /// A glance found nothing in it to ask about, whatever is bound; `Insert`: as long as no freeze and no script heeds INSERTs.
    Harmless { source: Source, adds: bool, transaction: Option<TransactionVerb> },
    /// Judged with its values, when it is run.
    Guarded(Source),
    /// A `SLUICE …` command: the upstream never heard of it.
    Command(Arc<str>),
}

impl Prepared {
    pub fn new(what: What) -> Prepared {
        Prepared {
            what,
            parameters: 0,
            kinds: Vec::new(),
            numbers: Vec::new(),
            doubtful: false,
            coming: None,
            ahead: Ahead::default(),
            place: 0,
        }
    }

    pub fn at(mut self, place: u64) -> Prepared {
        self.place = place;
        self
    }

    pub fn of(mut self, parameters: u16) -> Prepared {
        self.parameters = parameters;
        self
    }

    /// Notes what an execution binds; which of its texts the server may read as numbers.
    pub fn note(&mut self, kinds: &[Kind]) -> Vec<usize> {
        self.numbers.resize(self.numbers.len().max(kinds.len()), false);
        let mut texts = Vec::new();
        for (at, (kind, number)) in kinds.iter().zip(&mut self.numbers).enumerate() {
            match (kind.is_text_or_null(), *number) {
                (true, true) => texts.push(at),
                (true, false) => {}
                (false, _) => *number = true,
            }
        }
        texts
    }

    fn bytes(&self) -> usize {
        const ENTRY: usize = 256;
        let text = match &self.what {
            What::Harmless { source, .. } | What::Guarded(source) => source.text.len(),
            What::Command(text) => text.len(),
        };
        ENTRY + text + 2 * self.kinds.len() + self.numbers.len() + self.ahead.bytes()
    }
}

/// All of a session.
#[derive(Debug, Default)]
pub(in crate::session) struct Statements {
    by_number: HashMap<u32, Prepared>,
    bytes: usize,
    /// Commands of ours that were prepared: their numbers count down from the highest, where no server's come.
    commands: u32,
    /// The one that was prepared last: MariaDB's clients may call it by -1.
    last: u32,
    /// The one that is on its way, with the types that it had before.
    running: Option<(u32, Vec<Kind>, bool)>,
}

impl Statements {
    pub fn len(&self) -> usize {
        self.by_number.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number that is meant: MariaDB takes -1 for the statement that was prepared last.
    pub fn meant(&self, number: u32) -> u32 {
        if number == u32::MAX { self.last } else { number }
    }

    pub fn get(&self, number: u32) -> Option<&Prepared> {
        self.by_number.get(&number)
    }

    /// Looks at one and changes it, keeping count.
    pub fn change<T>(&mut self, number: u32, with: impl FnOnce(&mut Prepared) -> T) -> Option<T> {
        let prepared = self.by_number.get_mut(&number)?;
        let before = prepared.bytes();
        let result = with(prepared);
        self.bytes = self.bytes - before + prepared.bytes();
        Some(result)
    }

    /// A command is taken; `number`: it runs this one.
    pub fn runs(&mut self, number: Option<u32>) {
        self.running = number.map(|number| {
            let (kinds, doubtful) = self.get(number).map(|it| (it.kinds.clone(), it.doubtful)).unwrap_or_default();
            (number, kinds, doubtful)
        });
    }

    /// What is on its way failed. A server that fails it before it has bound its values goes by the types of before, one that fails it later by
    /// the new ones: where they differ, the next must say its own.
    pub fn failed(&mut self) {
        let Some((number, before, doubtful)) = self.running.take() else { return };
        self.change(number, |prepared| {
            let now = prepared.coming.take().unwrap_or_else(|| prepared.kinds.clone());
            // Where it held none for certain, it has these or none, by which it runs nothing.
            prepared.doubtful = doubtful || !(before.is_empty() || before == now);
            prepared.kinds = if prepared.doubtful { Vec::new() } else { now };
        });
    }

    /// An execution was dealt with; `ran`: it reached the server.
    pub fn bound(&mut self, number: u32, ran: bool) {
        let coming = |prepared: &mut Prepared| prepared.coming.take();
        if let Some(kinds) = self.by_number.get_mut(&number).and_then(coming)
            && ran
        {
            self.change(number, |prepared| {
                prepared.kinds = kinds;
                prepared.doubtful = false;
            });
        }
    }

    /// A part of a value that comes ahead. A parameter that the statement does not have is the server's to complain of. `has_room`: all
    /// sessions together may keep so much more.
    pub fn add_ahead(&mut self, number: u32, parameter: u16, part: &[u8], has_room: bool) -> Option<()> {
        let room = if has_room { limits::PREPARED_BYTES_MAX.saturating_sub(self.bytes) } else { 0 };
        self.change(number, |prepared| {
            if parameter < prepared.parameters {
                prepared.ahead.add(parameter, part, room);
            }
        })
    }

    pub fn insert(&mut self, number: u32, prepared: Prepared) {
        self.bytes += prepared.bytes();
        self.last = number;
        if let Some(before) = self.by_number.insert(number, prepared) {
            self.bytes -= before.bytes();
        }
    }

    /// A command of ours; the number that it goes by.
    pub fn insert_command(&mut self, text: Arc<str>) -> u32 {
        const FIRST: u32 = 0x8000_0000;
        // The highest of all stands for the statement that was prepared last.
        let number = FIRST + self.commands % (u32::MAX - FIRST);
        self.commands = self.commands.wrapping_add(1);
        self.insert(number, Prepared::new(What::Command(text)));
        number
    }

    pub fn is_command(&self, number: u32) -> bool {
        self.get(number).is_some_and(|prepared| matches!(prepared.what, What::Command(_)))
    }

    pub fn remove(&mut self, number: u32) -> Option<Prepared> {
        let removed = self.by_number.remove(&number)?;
        self.bytes -= removed.bytes();
        Some(removed)
    }

    pub fn clear(&mut self) {
        let commands = self.commands;
        *self = Statements { commands, ..Statements::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_parts_are_reckoned_as_they_come() {
        let mut ahead = Ahead::default();
        for (parameter, part) in [(0, 10), (1, 0), (0, 5), (2, 7), (1, 3)] {
            ahead.add(parameter, &vec![b'x'; part], 20);
            let kept: usize = ahead.parts.values().map(|part| 64 + part.len()).sum();
            assert_eq!(ahead.bytes(), kept);
        }
        ahead.add(0, &[b'x'; 21], 20);
        let kept: usize = ahead.parts.values().map(|part| 64 + part.len()).sum();
        assert!(ahead.is_cut && ahead.bytes() == kept);
        let mut named = Named::default();
        let mode = LexicalMode::default();
        named.insert("a".to_owned(), "SELECT 1", mode);
        named.insert("a".to_owned(), "SELECT 22", mode);
        assert_eq!(named.bytes(), Named::weight("a", "SELECT 22"));
        named.remove("b");
        named.remove("a");
        assert_eq!((named.bytes(), named.len()), (0, 0));
    }

    #[test]
    fn what_is_kept_is_counted() {
        let mut kept = Statements::default();
        let number = kept.insert_command("SLUICE HELP".into());
        let bytes = kept.bytes();
        kept.change(number, |prepared| prepared.parameters = 1);
        assert!(
            kept.add_ahead(number, 0, &[0; 1000], true).is_some()
                && kept.add_ahead(number, 1, &[0; 1000], true).is_some()
        );
        assert_eq!(kept.bytes(), bytes + 1000 + 64, "there is no second parameter");
        let much = vec![0; limits::PREPARED_BYTES_MAX];
        for _ in 0..2 {
            kept.add_ahead(number, 0, &much, true);
            let ahead = &kept.get(number).expect("kept").ahead;
            assert!(ahead.is_cut && !ahead.is_empty() && kept.bytes() == bytes + 64);
        }
        let other = kept.insert_command("SLUICE STATUS".into());
        kept.change(other, |prepared| prepared.parameters = 1);
        kept.add_ahead(other, 0, &[0; 10], false);
        assert!(other != number && kept.get(other).expect("kept").ahead.is_cut);
        assert!(kept.remove(number).is_some() && kept.remove(number).is_none());
        kept.clear();
        assert_eq!((kept.bytes(), kept.len()), (0, 0));
    }
}
