//! The loop of a session: answers on, messages in, one wait.
//!
//! Invariant: a message of the client is taken only when the one before it was dealt with to its end, so nothing is judged
//! against a state that is about to change under it.

use crate::ground::limits;
use crate::protocol::postgres::conversation::{Event, Expected};
use crate::protocol::postgres::frame::Next;
use crate::protocol::postgres::message::Script;
use crate::protocol::{Code, Housekeeping, Refusal};
use crate::session::End;
use crate::session::link::{Listen, Woke, how_lost};
use crate::session::postgres::Session;
use crate::session::postgres::pipeline::{Exceeded, Mark, Watched};
use crate::session::vigil::{Called, Vigil};

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
            if !self.must_wait() {
                match self.cutter.next(&mut self.link.client.inbox) {
                    Ok(Next::Frame(frame)) => {
                        self.take(frame).await?;
                        continue;
                    }
                    Ok(Next::CopyPart(part)) => {
                        self.link.housekeep(Housekeeping::CopyData, part);
                        continue;
                    }
                    Ok(Next::Need(_)) if self.link.client.ended => return self.client_ended().await,
                    Ok(Next::Need(_)) if !self.has_room() => {
                        self.cutter.skip(&mut self.link.client.inbox);
                        continue;
                    }
                    Ok(Next::Need(_)) => {}
                    Ok(Next::Skipped(tag)) => {
                        Box::pin(self.skipped(tag)).await?;
                        continue;
                    }
                    Err(malformed) => {
                        return Err(End::Refused(Refusal::new(Code::Protocol, format!("sluice: {malformed}"))));
                    }
                }
            }
            if vigil.is_draining && self.is_between_statements() {
                let message = "sluice: terminating connection because Sluice is going down";
                return Err(End::Refused(Refusal::new(Code::Shutdown, message)));
            }
            let listen = if self.must_wait() { Listen::Upstream } else { Listen::Both };
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

    /// Passes on what the upstream sent, as far as the client keeps up, and learns from it.
    pub(in crate::session) fn pass_answers(&mut self) -> Result<(), End> {
        while self.has_answers() && !self.link.client.is_full() {
            let forward = self.talk.step(self.link.answers()).map_err(|fault| {
                let message = format!("sluice: the database sent what Sluice does not understand: {}", fault.0);
                End::Refused(Refusal::new(Code::Upstream, message))
            })?;
            let mut nothing = forward.is_empty();
            self.link.client.send(forward);
            while let Some(event) = self.talk.event() {
                nothing = false;
                self.learn(event);
            }
            if nothing {
                break;
            }
        }
        Ok(())
    }

    fn has_answers(&mut self) -> bool {
        !self.link.answers().is_empty() || self.talk.answers_itself()
    }

    /// Waits until every answer that is due has been passed on. In an open pipeline the upstream is asked to send them.
    pub(in crate::session) async fn drain(&mut self) -> Result<(), End> {
        if !self.talk.is_quiet() && self.pipeline.open {
            self.link.say(Script::default().flush());
        }
        loop {
            self.pass_answers()?;
            if self.talk.is_quiet() {
                return Ok(());
            }
            if self.talk.in_copy() {
                // Its data is waiting behind the message that we are dealing with: waiting for its end would be for ever.
                let message = "sluice: another statement was sent where COPY data was due";
                return Err(End::Refused(Refusal::new(Code::Protocol, message)));
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
        self.talk.outstanding() > limits::PIPELINE_MESSAGES_MAX
            || self.link.upstream_is_full()
            || self.link.client.is_full()
    }

    fn is_between_statements(&self) -> bool {
        self.talk.is_quiet() && self.talk.status() == b'I' && !self.pipeline.open
    }

    /// The client sends no more. What it sent before is carried out and answered, as the server itself would do.
    async fn client_ended(&mut self) -> Result<std::convert::Infallible, End> {
        if self.talk.is_quiet() || self.talk.in_copy() {
            return Err(End::Client);
        }
        self.drain().await?;
        let _ = self.link.client.flush().await;
        Err(End::Client)
    }

    fn learn(&mut self, event: Event<Mark>) {
        match event {
            Event::Answered { mark, changed, failed } => self.answered(mark, changed, failed),
            Event::Suspended(Mark::Watched(watched)) => {
                if watched.withheld {
                    self.pipeline.exceeded = Some(Exceeded::Unfinished);
                }
            }
            Event::Suspended(Mark::Parse { .. }) => {}
            Event::Discarded(marks) => {
                for mark in marks.into_iter().rev() {
                    self.undo(mark);
                }
            }
            Event::Setting { name, value } => {
                if name == "application_name" {
                    self.desk.principal.application = value.clone();
                }
                self.settings.insert(name, value);
            }
            Event::SkipsToSync => self.pipeline.discarding = true,
            Event::Ready => self.ready(),
        }
    }

    fn answered(&mut self, mark: Mark, changed: u64, failed: Option<String>) {
        match mark {
            Mark::Parse { .. } if failed.is_some() => self.undo(mark),
            Mark::Parse { name, number } => self.landed(&name, number),
            Mark::Watched(watched) => self.watched(watched, changed, failed),
        }
    }

    /// A change was carried out that nobody was asked about, or that was confirmed: is it what it was taken for?
    fn watched(&mut self, watched: Watched, changed: u64, failed: Option<String>) {
        if watched.destroys && failed.is_none() && watched.hold.is_none() {
            self.tally.note(changed, watched.challenge.is_some());
        }
        let exceeded = failed.is_none() && watched.rows_max.is_some_and(|most| changed > most);
        if exceeded {
            self.desk.cache.clear();
            if watched.withheld {
                let agreed = watched.rows_max.unwrap_or_default();
                self.pipeline.exceeded = Some(Exceeded::Rows { changed, agreed });
            }
        }
        let note = if exceeded { Some("changed more rows than were expected") } else { None };
        // What leads to code of the users' own is measured behind it: its rows follow.
        let rows = match (&watched.hold, &failed) {
            (Some(hold), None) => hold.outcome_rows(changed),
            _ => Some(changed),
        };
        self.record_outcome(&watched, rows, failed.as_deref(), note);
    }

    /// A Parse was answered; a later one of the same name may still be on its way.
    fn landed(&mut self, name: &bytes::Bytes, number: u64) {
        if self.in_flight.get(name).is_some_and(|parse| parse.number == number) {
            self.in_flight.remove(name);
        }
    }

    /// The server never saw it, or refused it: what the name means now only the server knows, unless it was given anew since.
    fn undo(&mut self, mark: Mark) {
        let Mark::Parse { name, number } = mark else { return };
        let anew = self.in_flight.get(&name).is_some_and(|parse| parse.number > number);
        self.landed(&name, number);
        if !anew {
            self.prepared.remove(&name);
        }
    }

    fn ready(&mut self) {
        if self.talk.is_quiet() {
            // Everything that was begun before has ended with this: by its Sync, or by a Query after it.
            self.pipeline.open = false;
            self.pipeline.executed = false;
            self.pipeline.transacted = false;
            self.pipeline.bound = false;
        }
        if self.talk.is_quiet() && !self.desk.runs.is_empty() {
            self.close_runs();
        }
        let status = self.talk.status();
        if status == b'I' && self.names_touched {
            // What gave names another meaning may have been rolled back, and with it what was seen of tables since.
            self.desk.cache.clear();
            self.names_touched = !self.talk.is_quiet();
        }
        if status == b'I' && self.talk.is_quiet() {
            self.transaction_ended();
            // Portals do not outlive their transaction.
            self.portals.clear();
            self.guarded_portals.clear();
        }
    }

    /// Puts an answer of ours in its place among those that are due.
    pub(in crate::session) fn reply(&mut self, bytes: bytes::Bytes) {
        if self.talk.is_quiet() {
            self.link.client.send(bytes);
        } else {
            self.talk.expect(Expected::Local(bytes), None);
        }
    }
}
