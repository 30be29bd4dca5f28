//! Which answer belongs to which message: the one state machine between a client's pipeline and its upstream's stream.
//!
//! Every message sent upstream leaves a [`Due`]; every answer is held against the first of them. So Sluice knows when nothing is
//! outstanding (and may ask questions of its own), where an answer of its own belongs in the order, what a command changed,
//! and what the transaction status is. Answers are hopped over by their headers: a run of rows is passed on without being read.
//!
//! Invariant: bytes leave in the order and number they arrived, except that an error of a [`Expected::Poison`] is replaced
//! by the refusal it stands for. An answer that fits nothing that is due is a [`Fault`], and the session ends.
//!
//! Source: PostgreSQL manual, "Message Flow" (error recovery: after an error in the extended protocol the server discards until
//! Sync; in COPY-in mode it ignores Flush and Sync); tried on 15 and 18.

use crate::ground::limits;
use crate::protocol::cursor::Cursor;
use crate::protocol::postgres::command;
use crate::protocol::postgres::frame::{HEADER, declared_length};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// What a message sent upstream will be answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Query: anything, then ReadyForQuery.
    Query,
    Parse,
    Bind,
    /// ParameterDescription (for a statement), then RowDescription or NoData.
    Describe,
    /// Rows, then CommandComplete, EmptyQueryResponse, PortalSuspended or a COPY.
    Execute,
    Close,
    Sync,
    /// An answer of our own, in its place.
    Local(Bytes),
    /// A message of ours that the upstream answers with an error: the refusal is sent in its stead, and the transaction it
    /// stands in has failed as it would for any error.
    Poison(Bytes),
    /// The same by simple protocol: an error, then ReadyForQuery.
    PoisonQuery(Bytes),
    /// The client ended its COPY data here.
    CopyEnd,
}

#[derive(Debug)]
struct Due<T> {
    expected: Expected,
    mark: Option<T>,
    changed: u64,
    failed: Option<String>,
}

/// What the session must know of, beside the bytes.
#[derive(Debug, PartialEq)]
pub enum Event<T> {
    /// A message was answered: its mark, the most rows one of its commands changed, the SQLSTATE if it failed.
    Answered { mark: T, changed: u64, failed: Option<String> },
    /// A portal was not run to its end: what it changed is not told.
    Suspended(T),
    /// The server discarded these after an error, oldest first.
    Discarded(Vec<T>),
    /// ParameterStatus.
    Setting { name: String, value: String },
    /// After an error the server ignores everything until a Sync that was not sent yet.
    SkipsToSync,
    /// ReadyForQuery.
    Ready,
}

/// The upstream said something that no server says there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault(pub String);

#[derive(Debug)]
pub struct Conversation<T> {
    due: VecDeque<Due<T>>,
    status: u8,
    /// Bytes of a long message that are still to be passed on unseen.
    left: usize,
    copy_in: bool,
    /// What happened at the end of the bytes last passed on, and was not yet taken.
    events: VecDeque<Event<T>>,
}

/// Messages due and events kept room for, once there are none: a long pipeline is not remembered by its size.
const ROOM: usize = 16;

impl<T> Conversation<T> {
    pub fn new(status: u8) -> Conversation<T> {
        Conversation { due: VecDeque::new(), status, left: 0, copy_in: false, events: VecDeque::new() }
    }

    /// `I` idle, `T` in a transaction block, `E` in a failed one: as of the last ReadyForQuery.
    pub fn status(&self) -> u8 {
        self.status
    }

    /// Our own questions moved it, seen by us and not by `step`.
    pub fn set_status(&mut self, status: u8) {
        self.status = status;
    }

    /// Nothing is outstanding, and no message is half passed on.
    pub fn is_quiet(&self) -> bool {
        self.due.is_empty() && self.left == 0
    }

    pub fn outstanding(&self) -> usize {
        self.due.len()
    }

    /// What is due next needs no word of the upstream.
    pub fn answers_itself(&self) -> bool {
        matches!(self.head(), Some(Expected::Local(_) | Expected::CopyEnd))
    }

    /// The server reads COPY data now.
    pub fn in_copy(&self) -> bool {
        self.copy_in
    }

    /// A message was sent upstream (or, for `Local`, takes its place in the order).
    pub fn expect(&mut self, expected: Expected, mark: Option<T>) {
        match expected {
            // In COPY-in mode the server ignores Sync.
            Expected::Sync if self.copy_in => {}
            Expected::CopyEnd if self.copy_in => self.copy_in = false,
            expected => self.due.push_back(Due { expected, mark, changed: 0, failed: None }),
        }
    }

    /// What happened at the end of the bytes last passed on, oldest first: all of it before the next step.
    pub fn event(&mut self) -> Option<Event<T>> {
        self.events.pop_front()
    }

    /// Takes what it can off the front of `inbox`, to be passed on to the client. Nothing, and no event: more is needed.
    pub fn step(&mut self, inbox: &mut BytesMut) -> Result<Bytes, Fault> {
        let mut run = 0;
        loop {
            if self.left > 0 {
                let part = self.left.min(inbox.len() - run);
                self.left -= part;
                run += part;
                if self.left > 0 {
                    return Ok(front(inbox, run));
                }
            }
            if let Some(local) = self.local_next() {
                let mut forward = BytesMut::from(&inbox.split_to(run)[..]);
                forward.extend_from_slice(&local);
                return Ok(forward.freeze());
            }
            let Some(header) = inbox.get(run..run + HEADER) else { return Ok(front(inbox, run)) };
            let tag = header[0];
            let whole =
                declared_length(header).ok_or_else(|| Fault(format!("message {tag} with a length below 4")))? + 1;
            if !is_looked_into(tag) {
                self.pass(tag)?;
                self.left = whole;
                continue;
            }
            if whole > limits::ANSWER_FRAME_BYTES_MAX {
                return Err(Fault(format!("message \"{}\" of {whole} bytes", char::from(tag).escape_default())));
            }
            let Some(message) = inbox.get(run..run + whole) else { return Ok(front(inbox, run)) };
            match self.answer(tag, &message[HEADER..])? {
                None => run += whole,
                Some(instead) => {
                    let mut forward = BytesMut::from(&inbox.split_to(run)[..]);
                    let _ = inbox.split_to(whole);
                    forward.extend_from_slice(&instead);
                    return Ok(forward.freeze());
                }
            }
            if !self.events.is_empty() {
                return Ok(front(inbox, run));
            }
        }
    }

    /// An answer of ours whose turn has come.
    fn local_next(&mut self) -> Option<Bytes> {
        while let Some(Due { expected: Expected::CopyEnd, .. }) = self.due.front() {
            self.due.pop_front();
        }
        match self.due.front() {
            Some(Due { expected: Expected::Local(_), .. }) => match self.due.pop_front()?.expected {
                Expected::Local(bytes) => Some(bytes),
                _ => None,
            },
            _ => None,
        }
    }

    /// Messages whose header says all there is to know.
    fn pass(&mut self, tag: u8) -> Result<(), Fault> {
        match tag {
            b'D' | b'd' | b'c' | b'N' | b'A' | b't' | b'H' => Ok(()),
            b'T' | b'n' => {
                if matches!(self.head(), Some(Expected::Describe)) {
                    self.due.pop_front();
                }
                Ok(())
            }
            // FunctionCallResponse: ReadyForQuery follows, as after a Query.
            b'V' if matches!(self.head(), Some(Expected::Query)) => Ok(()),
            b'3' => self.pop_if(|expected| matches!(expected, Expected::Close), tag),
            b'G' => {
                self.enter_copy();
                Ok(())
            }
            other => Err(Fault(format!("unexpected message type \"{}\"", char::from(other).escape_default()))),
        }
    }

    /// A message that is looked into. What it is replaced by, if it is.
    fn answer(&mut self, tag: u8, body: &[u8]) -> Result<Option<Bytes>, Fault> {
        match tag {
            b'C' | b'I' | b's' => self.completed(tag, body),
            b'1' => self.acknowledged(&Expected::Parse, tag)?,
            b'2' => self.acknowledged(&Expected::Bind, tag)?,
            b'E' => return Ok(self.failed(body)),
            b'Z' => self.ready(body)?,
            b'S' => self.events.push_back(setting(body)?),
            // BackendKeyData only comes with the login; a server that sends it later is passed on unharmed.
            _ => {}
        }
        Ok(None)
    }

    fn completed(&mut self, tag: u8, body: &[u8]) {
        let rows = match tag {
            b'C' => command::changed_rows(body.strip_suffix(&[0]).unwrap_or(body)).unwrap_or(0),
            _ => 0,
        };
        let Some(due) = self.due.front_mut() else { return };
        due.changed = due.changed.max(rows);
        self.copy_in = false;
        if !matches!(due.expected, Expected::Execute) {
            return;
        }
        if tag == b's' {
            let mark = self.due.pop_front().and_then(|due| due.mark);
            return self.events.extend(mark.map(Event::Suspended));
        }
        self.pop_answered();
    }

    fn acknowledged(&mut self, expected: &Expected, tag: u8) -> Result<(), Fault> {
        if self.head() != Some(expected) {
            return Err(Fault(format!("message \"{}\" that nothing asked for", char::from(tag))));
        }
        self.pop_answered();
        Ok(())
    }

    fn failed(&mut self, body: &[u8]) -> Option<Bytes> {
        let code = command::error_field(body, b'C').unwrap_or_default();
        self.copy_in = false;
        let due = self.due.front_mut()?;
        match &due.expected {
            Expected::Query => {
                due.failed = Some(code);
                None
            }
            Expected::PoisonQuery(reply) => {
                let instead = reply.clone();
                due.expected = Expected::Query;
                due.failed = Some(code);
                Some(instead)
            }
            Expected::Sync => None,
            expected => {
                let instead = match expected {
                    Expected::Poison(reply) => Some(reply.clone()),
                    _ => None,
                };
                self.discard_to_sync(code);
                instead
            }
        }
    }

    fn ready(&mut self, body: &[u8]) -> Result<(), Fault> {
        match body.first() {
            Some(status @ (b'I' | b'T' | b'E')) => self.status = *status,
            _ => return Err(Fault("ReadyForQuery with an unknown transaction status".to_owned())),
        }
        self.copy_in = false;
        match self.head() {
            None => {}
            Some(Expected::Query | Expected::Sync) => self.pop_answered(),
            Some(_) => return Err(Fault("ReadyForQuery while other answers were due".to_owned())),
        }
        if self.due.is_empty() && self.due.capacity() > ROOM {
            self.due.shrink_to(ROOM);
        }
        self.events.push_back(Event::Ready);
        Ok(())
    }

    fn discard_to_sync(&mut self, code: String) {
        if let Some(Due { mark: Some(mark), changed, .. }) = self.due.pop_front() {
            self.events.push_back(Event::Answered { mark, changed, failed: Some(code) });
        }
        let mut discarded = Vec::new();
        while let Some(due) = self.due.front() {
            if matches!(due.expected, Expected::Sync) {
                break;
            }
            discarded.extend(self.due.pop_front().and_then(|due| due.mark));
        }
        if !discarded.is_empty() {
            self.events.push_back(Event::Discarded(discarded));
        }
        if self.due.is_empty() {
            self.events.push_back(Event::SkipsToSync);
        }
    }

    /// CopyInResponse: Syncs that are already on their way will be ignored, up to where the client ended its data.
    fn enter_copy(&mut self) {
        self.copy_in = true;
        let mut at = 1;
        while at < self.due.len() {
            match self.due[at].expected {
                Expected::Sync => {
                    self.due.remove(at);
                }
                Expected::CopyEnd => {
                    self.due.remove(at);
                    self.copy_in = false;
                    return;
                }
                _ => at += 1,
            }
        }
    }

    fn head(&self) -> Option<&Expected> {
        self.due.front().map(|due| &due.expected)
    }

    fn pop_if(&mut self, fits: impl Fn(&Expected) -> bool, tag: u8) -> Result<(), Fault> {
        if self.head().is_some_and(fits) {
            self.due.pop_front();
            return Ok(());
        }
        Err(Fault(format!("message \"{}\" that nothing asked for", char::from(tag))))
    }

    fn pop_answered(&mut self) {
        if let Some(Due { mark: Some(mark), changed, failed, .. }) = self.due.pop_front() {
            self.events.push_back(Event::Answered { mark, changed, failed });
        }
    }
}

/// The first `run` bytes, without touching the buffer if there are none.
fn front(inbox: &mut BytesMut, run: usize) -> Bytes {
    if run == 0 { Bytes::new() } else { inbox.split_to(run).freeze() }
}

fn is_looked_into(tag: u8) -> bool {
    matches!(tag, b'C' | b'I' | b's' | b'1' | b'2' | b'E' | b'Z' | b'S' | b'K')
}

fn setting<T>(body: &[u8]) -> Result<Event<T>, Fault> {
    let mut cursor = Cursor::new(body);
    let mut text = || cursor.cstr().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    match (text(), text()) {
        (Ok(name), Ok(value)) => Ok(Event::Setting { name, value }),
        _ => Err(Fault("malformed ParameterStatus".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    fn stream(messages: &[(u8, &[u8])]) -> Vec<u8> {
        messages.iter().flat_map(|(tag, body)| message(*tag, body)).collect()
    }

    /// Feeds the stream in parts of `size` and gathers what comes out.
    fn run(conversation: &mut Conversation<u32>, bytes: &[u8], size: usize) -> (Vec<u8>, Vec<Event<u32>>) {
        let (mut out, mut events, mut inbox) = (Vec::new(), Vec::new(), BytesMut::new());
        for part in bytes.chunks(size) {
            inbox.extend_from_slice(part);
            loop {
                let forward = conversation.step(&mut inbox).expect("no fault");
                let before = events.len();
                events.extend(std::iter::from_fn(|| conversation.event()));
                if forward.is_empty() && events.len() == before {
                    break;
                }
                out.extend_from_slice(&forward);
            }
        }
        (out, events)
    }

    #[test]
    fn a_pipeline_is_answered_in_order_however_it_is_cut() {
        let bytes = stream(&[
            (b'1', b""),
            (b'2', b""),
            (b'T', b"\0\0"),
            (b'D', b"\0\0"),
            (b'C', b"DELETE 7\0"),
            (b'S', b"TimeZone\0UTC\0"),
            (b'Z', b"T"),
        ]);
        for size in 1..=bytes.len() {
            let mut conversation = Conversation::new(b'I');
            conversation.expect(Expected::Parse, Some(1));
            conversation.expect(Expected::Bind, None);
            conversation.expect(Expected::Describe, None);
            conversation.expect(Expected::Execute, Some(2));
            conversation.expect(Expected::Local(Bytes::from_static(b"<ours>")), None);
            conversation.expect(Expected::Sync, None);
            let (out, events) = run(&mut conversation, &bytes, size);
            let mut expected = bytes.clone();
            let place = bytes.len() - message(b'S', b"TimeZone\0UTC\0").len() - message(b'Z', b"T").len();
            expected.splice(place..place, *b"<ours>");
            assert_eq!(out, expected, "parts of {size}");
            assert_eq!(
                events,
                vec![
                    Event::Answered { mark: 1, changed: 0, failed: None },
                    Event::Answered { mark: 2, changed: 7, failed: None },
                    Event::Setting { name: "TimeZone".into(), value: "UTC".into() },
                    Event::Ready,
                ]
            );
            assert!(conversation.is_quiet());
            assert_eq!(conversation.status(), b'T');
        }
    }

    #[test]
    fn after_an_error_what_the_server_discards_is_not_waited_for() {
        let mut conversation = Conversation::new(b'I');
        for (expected, mark) in [
            (Expected::Parse, Some(1)),
            (Expected::Bind, Some(2)),
            (Expected::Local(Bytes::from_static(b"<ours>")), None),
            (Expected::Execute, Some(3)),
            (Expected::Sync, None),
        ] {
            conversation.expect(expected, mark);
        }
        let bytes = stream(&[(b'E', b"SERROR\0C42601\0\0"), (b'Z', b"I")]);
        let (out, events) = run(&mut conversation, &bytes, 3);
        assert_eq!(out, bytes);
        assert_eq!(
            events,
            vec![
                Event::Answered { mark: 1, changed: 0, failed: Some("42601".into()) },
                Event::Discarded(vec![2, 3]),
                Event::Ready
            ]
        );
    }

    #[test]
    fn a_poisons_error_is_replaced_by_the_refusal() {
        let mut conversation: Conversation<u32> = Conversation::new(b'T');
        conversation.expect(Expected::Poison(Bytes::from_static(b"<refused>")), None);
        conversation.expect(Expected::Sync, None);
        let (out, _) = run(&mut conversation, &stream(&[(b'E', b"C42601\0\0"), (b'Z', b"E")]), 4);
        assert_eq!(out, [&b"<refused>"[..], &message(b'Z', b"E")].concat());
    }

    #[test]
    fn a_sync_sent_before_copy_data_is_ignored_by_the_server_and_by_us() {
        let mut conversation: Conversation<u32> = Conversation::new(b'I');
        conversation.expect(Expected::Execute, None);
        conversation.expect(Expected::Sync, None);
        run(&mut conversation, &stream(&[(b'G', b"\0\0\0")]), 8);
        assert!(conversation.in_copy());
        conversation.expect(Expected::Sync, None);
        conversation.expect(Expected::CopyEnd, None);
        assert!(!conversation.in_copy());
        conversation.expect(Expected::Sync, None);
        run(&mut conversation, &stream(&[(b'C', b"COPY 2\0"), (b'Z', b"I")]), 8);
        assert!(conversation.is_quiet());
    }

    #[test]
    fn an_answer_that_nothing_asked_for_is_a_fault() {
        for bytes in
            [stream(&[(b'1', b"")]), stream(&[(b'W', b"\0\0\0")]), stream(&[(b'?', b"")]), stream(&[(b'Z', b"X")])]
        {
            let mut conversation: Conversation<u32> = Conversation::new(b'I');
            assert!(conversation.step(&mut BytesMut::from(&bytes[..])).is_err(), "{bytes:?}");
        }
    }
}
