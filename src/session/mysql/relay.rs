//! The loop of a session: answers on, commands in, one wait.
//!
//! Invariant: a command of the client is taken only when the answer to the one before was passed on to its end, so nothing is judged
//! against a state that is about to change under it. The protocol knows no pipeline: a client that sends ahead is answered in order all
//! the same.

use crate::ground::limits;
use crate::protocol::mysql::frame::{Frame, Next};
use crate::protocol::mysql::response::{self, Answer, Event, Expected};
use crate::protocol::{Code, Housekeeping, Refusal};
use crate::session::End;
use crate::session::desk::Entry;
use crate::session::link::{Listen, Woke, how_lost};
use crate::session::mysql::Session;
use crate::session::mysql::prepared::Prepared;
use crate::session::vigil::{Called, Vigil};
use crate::sql::statement::Product;
use bytes::{Bytes, BytesMut};

/// The command whose answer is on its way to the client.
#[derive(Debug)]
pub(in crate::session) struct Pending {
    pub answer: Answer,
    pub mark: Mark,
}

/// What is waited for with a command that was sent.
#[derive(Debug)]
pub(in crate::session) enum Mark {
    /// Nothing is learnt from it but the session's status.
    Passing,
    /// A statement that only reads: its end may be asked for (`FOUND_ROWS()`).
    Statement(Watched),
    /// A text that will stand under the number that the server gives it.
    Prepare(Option<Box<Prepared>>),
    /// COM_INIT_DB: the default database is another if it succeeds.
    Database,
    /// COM_RESET_CONNECTION: everything of the session is as after its login.
    Reset,
}

/// A statement on its way, and what it was taken for.
#[derive(Debug, Clone, Default)]
pub(in crate::session) struct Watched {
    pub entry: Entry,
    /// It updates or deletes rows.
    pub destroys: bool,
    /// Rows that each of its results may report without being a surprise.
    pub rows_max: Option<u64>,
    pub changed: u64,
    /// What it says may have changed the session's settings.
    pub touches_session: bool,
}

/// COM_STMT_SEND_LONG_DATA.
const LONG_DATA: u8 = 0x18;

impl Session {
    /// Until it ends.
    pub(in crate::session) async fn run(&mut self) -> End {
        match self.converse().await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn converse(&mut self) -> Result<std::convert::Infallible, End> {
        let mut vigil = Vigil::new(&self.desk.house);
        loop {
            self.pass_answers()?;
            if self.link.upstream_ended() {
                return Err(End::Upstream);
            }
            if !self.must_wait() && self.next_command().await? {
                // Of many messages that nothing answers none waits for anything: other sessions have their turn between them.
                tokio::task::coop::consume_budget().await;
                continue;
            }
            if vigil.is_draining && self.is_between_statements() {
                let message = "sluice: terminating connection because Sluice is going down";
                return Err(End::Refused(Refusal::new(Code::Shutdown, message)));
            }
            // While an answer is due no command is taken: what is sent ahead of it waits where it is, but for a part.
            let ahead = self.pending.is_some()
                && !self.cutter.in_data()
                && self.link.client.inbox.len() >= limits::AHEAD_BYTES_MAX;
            let listen = if ahead || self.must_wait() { Listen::Upstream } else { Listen::Both };
            let may_idle = self.is_between_statements();
            match vigil.wait(&mut self.link, listen, may_idle).await {
                Called::Woke(woke) => self.woke(woke)?,
                // Looked at before the next wait.
                Called::Draining => {}
                Called::Idle => {
                    let message = "sluice: terminating connection due to idle_timeout";
                    return Err(End::Refused(Refusal::new(Code::Idle, message)));
                }
                Called::ShutDown => {
                    return Err(End::Refused(Refusal::new(Code::Shutdown, "sluice: shut down")));
                }
            }
        }
    }

    /// Deals with what stands in the client's inbox, if it is whole and due.
    async fn next_command(&mut self) -> Result<bool, End> {
        if self.pending.is_some() && !self.cutter.in_data() {
            return match self.link.client.ended {
                true => self.client_ended().await.map(|never| match never {}),
                false => Ok(false),
            };
        }
        match self.cutter.next(&mut self.link.client.inbox) {
            Ok(Next::Frame(frame)) => self.take(frame).await.map(|()| true),
            Ok(Next::DataPart(part)) => {
                self.link.housekeep(Housekeeping::FileData, part);
                Ok(true)
            }
            Ok(Next::DataEnd(part)) => {
                self.link.housekeep(Housekeeping::FileData, part);
                if let Some(pending) = &mut self.pending {
                    pending.answer.file_sent();
                }
                Ok(true)
            }
            Ok(Next::Need(_)) if self.link.client.ended => Err(End::Client),
            Ok(Next::Need(_)) if !self.has_room() => {
                self.cutter.skip(&mut self.link.client.inbox);
                Ok(true)
            }
            Ok(Next::Need(_)) => Ok(false),
            // Nothing answers it, and without it a value would have a hole.
            Ok(Next::Skipped(LONG_DATA)) => Err(End::Refused(crate::session::room::no_room())),
            Ok(Next::Skipped(_)) => {
                self.refuse(&crate::session::room::no_room()).await?;
                Ok(true)
            }
            Err(malformed) => Err(End::Refused(Refusal::new(Code::Protocol, format!("sluice: {malformed}")))),
        }
    }

    /// The client sends no more. What it sent before is carried out, as the server itself would do.
    async fn client_ended(&mut self) -> Result<std::convert::Infallible, End> {
        self.drain().await?;
        let _ = self.link.client.flush().await;
        Err(End::Client)
    }

    /// Passes on what the upstream sent, as far as the client keeps up, and learns from it.
    pub(in crate::session) fn pass_answers(&mut self) -> Result<(), End> {
        while !self.link.answers().is_empty() && !self.link.client.is_full() {
            let Some(pending) = &mut self.pending else { return self.unasked_for() };
            let step = pending.answer.step(self.link.answers()).map_err(misunderstood)?;
            let passed = self.link.answers().split_to(step.pass).freeze();
            let packet = self.link.answers().split_to(step.packet).freeze();
            let nothing = passed.is_empty() && packet.is_empty();
            self.link.client.send(passed);
            if let Some(event) = step.event {
                self.learn(event, packet);
            }
            if self.pending.as_ref().is_some_and(|pending| pending.answer.is_over()) {
                self.answered();
                // A server takes the whole of a file before it says how that went; what it makes of the rest otherwise, nobody knows.
                if self.cutter.in_data() {
                    return Err(End::Upstream);
                }
            } else if nothing {
                break;
            }
        }
        Ok(())
    }

    /// Between commands a server says nothing but that it is about to close the connection.
    fn unasked_for(&mut self) -> Result<(), End> {
        let bytes = self.link.answers().split().freeze();
        if bytes.get(crate::protocol::mysql::frame::HEADER) == Some(&0xff) {
            self.link.client.send(bytes);
            return Ok(());
        }
        Err(misunderstood(response::Fault("a packet that nothing asked for".to_owned())))
    }

    /// Waits until the answer that is due has been passed on.
    pub(in crate::session) async fn drain(&mut self) -> Result<(), End> {
        loop {
            self.pass_answers()?;
            if self.pending.is_none() {
                return Ok(());
            }
            if self.cutter.in_data() {
                return Err(End::Client);
            }
            if self.link.upstream_ended() {
                return Err(End::Upstream);
            }
            let woke = self.link.wait(Listen::Upstream).await;
            self.woke(woke)?;
        }
    }

    pub(in crate::session) fn woke(&mut self, woke: Woke) -> Result<(), End> {
        match woke {
            Woke::Client | Woke::Upstream => Ok(()),
            Woke::ClientGone(error) => {
                tracing::debug!(session = %self.desk.id, %error, "client lost");
                Err(End::Client)
            }
            Woke::UpstreamGone(error) => {
                let message = format!("sluice: the connection to the database was lost: {}", how_lost(&error));
                Err(End::Refused(Refusal::new(Code::Upstream, message)))
            }
        }
    }

    fn must_wait(&self) -> bool {
        self.link.upstream_is_full() || self.link.client.is_full()
    }

    fn is_between_statements(&self) -> bool {
        self.pending.is_none() && !self.in_transaction()
    }

    /// Before more of a command is waited for: is there room for what is here of it?
    fn has_room(&mut self) -> bool {
        let here = self.link.client.inbox.len();
        let messages = (here + self.link.upstream_waiting()).saturating_sub(limits::ROOM_OWN_BYTES);
        let texts = (self.prepared.bytes() + self.named.bytes()).saturating_sub(limits::ROOM_OWN_BYTES);
        self.room.hold(messages + texts) || here <= limits::ROOM_OWN_BYTES
    }

    /// Before so much more is kept behind this command.
    pub(in crate::session) fn has_room_for(&mut self, more: usize) -> bool {
        let after = (self.prepared.bytes() + self.named.bytes()).saturating_add(more);
        if after <= limits::ROOM_OWN_BYTES {
            return true;
        }
        let messages = self.link.upstream_waiting().saturating_sub(limits::ROOM_OWN_BYTES);
        self.room.hold(messages + after - limits::ROOM_OWN_BYTES)
    }

    fn learn(&mut self, event: Event, packet: Bytes) {
        match event {
            Event::End { end, .. } => {
                let told = match &self.pending {
                    // MariaDB tells of none there.
                    Some(Pending { mark: Mark::Passing, .. })
                        if self.aftermath.has_conditions() && self.settings.own_mode().product == Product::MySql =>
                    {
                        self.aftermath.count().saturating_sub(end.warnings())
                    }
                    _ => self.aftermath.coming(),
                };
                self.note_end(&end, &packet);
                let packet = self.with_warnings(packet, &end, told);
                let packet = self.as_the_client_can(packet, &end);
                self.link.client.send(packet);
            }
            Event::Prepared { prepared, .. } => {
                if let Some(Pending { mark: Mark::Prepare(text), .. }) = &mut self.pending
                    && let Some(text) = text.take()
                {
                    self.prepared.insert(prepared.statement, text.of(prepared.parameters));
                }
                self.link.client.send(packet);
            }
            Event::FileWanted => {
                self.cutter.expect_data(packet.get(3).copied().unwrap_or_default());
                self.link.client.send(packet);
            }
            Event::Over => self.link.client.send(packet),
        }
    }

    /// The packet with our own warnings counted among the server's.
    fn with_warnings(&self, packet: Bytes, end: &response::End, ours: u16) -> Bytes {
        if ours == 0 || end.failed().is_some() {
            return packet;
        }
        let mut patched = BytesMut::from(&packet[..]);
        response::patch_warnings(&mut patched, self.server, end.warnings().saturating_add(ours));
        patched.freeze()
    }

    /// What the end of a result tells of the session and of the statement.
    pub(in crate::session) fn note_end(&mut self, end: &response::End, packet: &[u8]) {
        self.note_status(end, packet);
        // What carries no statement leaves what is known of the last one.
        if !matches!(&self.pending, Some(Pending { mark: Mark::Passing, .. })) || end.failed().is_some() {
            self.aftermath.followed_by(end);
        }
        if let Some(pending) = &mut self.pending
            && matches!(pending.mark, Mark::Database)
            && end.failed().is_some()
        {
            // There is no such database, and the one of before stays.
            pending.mark = Mark::Passing;
        }
        let Some(Pending { mark: Mark::Statement(watched), .. }) = &mut self.pending else { return };
        watched.changed = watched.changed.saturating_add(end.affected());
        self.once &= end.affected() == 0;
        if end.failed().is_some() {
            self.prepared.failed();
        }
        if let Some(failure) = end.failed() {
            let (entry, sqlstate) = (watched.entry, failure.sqlstate.clone());
            self.desk.record_outcome(entry, None, Some(&sqlstate), None);
        }
    }

    /// The answer is over.
    fn answered(&mut self) {
        let Some(pending) = self.pending.take() else { return };
        match pending.mark {
            Mark::Passing | Mark::Prepare(_) => {}
            Mark::Statement(watched) => self.statement_answered(&watched),
            Mark::Database => {
                self.settings.forget();
                self.moved();
            }
            Mark::Reset => self.was_reset(),
        }
        match self.in_transaction() {
            true => self.once = false,
            false => self.transaction_ended(),
        }
        if !self.desk.runs.is_empty() {
            let committed = !self.in_transaction();
            self.desk.close_runs(committed);
        }
    }

    fn statement_answered(&mut self, watched: &Watched) {
        if watched.touches_session {
            self.settings.forget();
        }
        if watched.destroys {
            self.tally.note(watched.changed, watched.entry.challenge.is_some());
        }
        let exceeded = watched.rows_max.is_some_and(|most| watched.changed > most);
        if exceeded {
            self.desk.cache.clear();
        }
        let note = exceeded.then_some("changed more rows than were expected");
        self.desk.record_outcome(watched.entry, Some(watched.changed), None, note);
    }

    /// An answer of ours: nothing else is due.
    pub(in crate::session) fn reply(&mut self, bytes: Bytes) {
        debug_assert!(self.pending.is_none());
        self.link.client.send(bytes);
    }

    /// A permitted command's answer is awaited.
    pub(in crate::session) fn expect(&mut self, expected: Expected, mark: Mark) {
        self.pending = Some(Pending { answer: Answer::new(expected, self.server), mark });
    }

    /// A command with nothing to judge in it.
    pub(in crate::session) fn pass_on(&mut self, frame: Frame, expected: Option<Expected>, mark: Mark) {
        self.link.housekeep(Housekeeping::Command, frame.into_bytes());
        if let Some(expected) = expected {
            self.expect(expected, mark);
        }
    }
}

pub(in crate::session) fn misunderstood(fault: response::Fault) -> End {
    let message = format!("sluice: the database sent what Sluice does not understand: {}", fault.0);
    End::Refused(Refusal::new(Code::Upstream, message))
}
