//! The record, and the only way to a [`Permit`].
//!
//! The first law, kept by the compiler: nothing reaches a database without having been judged and recorded. A [`Permit`] owns the
//! frame it permits, only [`Recorder::record`] makes one, and only after the record took the event; forwarding consumes it.
//! Statements without findings are counted instead of written, unless the configuration says `reads = "record"`.
//!
//! A record that cannot be written is an error, and its caller refuses with `SL007`.

pub mod event;
pub mod sink;
pub mod written;

use crate::audit::event::{Action, Durability, Event, Kind};
use crate::audit::sink::{RecordFailed, Sink};
use crate::ground::ids::{ChallengeId, SessionId};
use crate::policy::finding::Level;
use crate::policy::scope::Principal;
use crate::policy::verdict::Verdict;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Leave to forward one frame. It can be neither copied nor made elsewhere.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit that is dropped is a statement that was recorded as forwarded and was not"]
pub struct Permit {
    frame: Bytes,
    line: Option<u64>,
}

impl Permit {
    /// The frame, for the one time it is forwarded.
    pub fn into_bytes(self) -> Bytes {
        self.frame
    }

    /// The record's line, for the outcome to point at; none where the statement was only counted.
    pub fn line(&self) -> Option<u64> {
        self.line
    }
}

/// Writes the record for one thread. Threads share the sink, and each has its own recorder, so that counting what is harmless
/// touches no memory of another's.
#[derive(Debug)]
pub struct Recorder {
    sink: Arc<Sink>,
    reads: Reads,
    counted: Alone,
}

/// What becomes of statements without findings: `[audit] reads`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reads {
    #[default]
    Count,
    Record,
}

/// What there is to say about a statement, borrowed from the session: making one costs nothing.
#[derive(Debug, Clone, Copy)]
pub struct Recording<'a> {
    pub session: SessionId,
    pub listener: &'a str,
    pub principal: &'a Principal,
    /// As far as it may be shown.
    pub statement: Option<&'a str>,
    pub fingerprint: Option<&'a str>,
    pub challenge: Option<ChallengeId>,
    pub promised_rows: Option<u64>,
}

/// What the database said of a permitted statement.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome<'a> {
    /// The permit's line, if it has one.
    pub of: Option<u64>,
    pub actual_rows: Option<u64>,
    /// None where it succeeded.
    pub sqlstate: Option<&'a str>,
    pub note: Option<&'a str>,
}

/// How a login went.
#[derive(Debug, Clone, Copy)]
pub enum Login<'a> {
    Accepted,
    Refused { sqlstate: &'a str, why: &'a str },
}

impl Recorder {
    pub fn new(sink: Arc<Sink>, reads: Reads) -> Recorder {
        Recorder {
            sink,
            reads,
            counted: Alone::default(),
        }
    }

    /// Records that a statement is about to be forwarded, and permits exactly that. `action` is [`Action::Forward`] where nothing
    /// stands against it, [`Action::Confirmed`] where its token was redeemed; a verdict that asks for more permits nothing.
    pub fn record(
        &self,
        verdict: &Verdict,
        action: Action,
        about: Recording<'_>,
        frame: Bytes,
    ) -> Result<Permit, RecordFailed> {
        if verdict.judged().is_empty() && action == Action::Forward && self.reads == Reads::Count {
            self.counted.0.fetch_add(1, Ordering::Relaxed);
            return Ok(Permit { frame, line: None });
        }
        if !permits(verdict.in_force(), action) {
            return Err(RecordFailed(format!(
                "a verdict of {} permits no {}",
                verdict.in_force(),
                action.as_str()
            )));
        }
        let line = self.write(&of_statement(Kind::Statement, verdict, action, &about))?;
        Ok(Permit {
            frame,
            line: Some(line),
        })
    }

    /// Records that a statement was refused, with the code the client gets. No permit.
    pub fn refusal(
        &self,
        verdict: &Verdict,
        code: &str,
        about: Recording<'_>,
    ) -> Result<u64, RecordFailed> {
        let event = of_statement(Kind::Refusal, verdict, Action::Refuse, &about);
        self.write(&Event {
            sqlstate: Some(code),
            ..event
        })
    }

    /// Records what became of a permitted statement. Durable where the statement was.
    pub fn outcome(&self, about: Recording<'_>, outcome: Outcome<'_>) -> Result<u64, RecordFailed> {
        let durability = if about.challenge.is_some() {
            Durability::Synced
        } else {
            Durability::Flushed
        };
        self.write(&Event {
            kind: Kind::Outcome,
            actual_rows: outcome.actual_rows,
            sqlstate: outcome.sqlstate,
            of: outcome.of,
            note: outcome.note,
            durability,
            ..about_session(&about)
        })
    }

    /// Records a `SLUICE …` command; a token in it is for the caller to leave out.
    pub fn command(
        &self,
        about: Recording<'_>,
        command: &str,
        code: Option<&str>,
    ) -> Result<u64, RecordFailed> {
        self.write(&Event {
            kind: Kind::Command,
            note: Some(command),
            sqlstate: code,
            ..about_session(&about)
        })
    }

    pub fn login(
        &self,
        session: SessionId,
        listener: &str,
        principal: &Principal,
        login: Login<'_>,
    ) -> Result<u64, RecordFailed> {
        let (sqlstate, note) = match login {
            Login::Accepted => (None, None),
            Login::Refused { sqlstate, why } => (Some(sqlstate), Some(why)),
        };
        let who = Event {
            session: Some(session),
            listener: Some(listener),
            principal: Some(principal),
            ..Event::default()
        };
        self.write(&Event {
            kind: Kind::Login,
            sqlstate,
            note,
            ..who
        })
    }

    pub fn logout(
        &self,
        session: SessionId,
        listener: &str,
        principal: &Principal,
    ) -> Result<u64, RecordFailed> {
        let who = Event {
            session: Some(session),
            listener: Some(listener),
            principal: Some(principal),
            ..Event::default()
        };
        self.write(&Event {
            kind: Kind::Logout,
            ..who
        })
    }

    /// A policy was loaded, or a broken one was not: says which.
    pub fn policy(&self, note: &str) -> Result<u64, RecordFailed> {
        self.write(&Event {
            kind: Kind::Policy,
            note: Some(note),
            durability: Durability::Synced,
            ..Event::default()
        })
    }

    /// Sluice started, drains, stops.
    pub fn service(&self, note: &str) -> Result<u64, RecordFailed> {
        self.write(&Event {
            kind: Kind::Service,
            note: Some(note),
            ..Event::default()
        })
    }

    /// Writes how many statements were only counted since the last time, if any. For the janitor, and before the recorder goes.
    pub fn write_counted(&self) -> Result<(), RecordFailed> {
        let count = self.counted.0.swap(0, Ordering::Relaxed);
        if count == 0 {
            return Ok(());
        }
        let written = self.write(&Event {
            kind: Kind::Counted,
            count: Some(count),
            ..Event::default()
        });
        if written.is_err() {
            self.counted.0.fetch_add(count, Ordering::Relaxed);
        }
        written.map(|_| ())
    }

    /// Statements only counted since the last [`Recorder::write_counted`].
    pub fn counted(&self) -> u64 {
        self.counted.0.load(Ordering::Relaxed)
    }

    fn write(&self, event: &Event<'_>) -> Result<u64, RecordFailed> {
        self.sink.write(event)
    }
}

/// Fills a cache line of its own (two, as processors fetch them in pairs), so that no neighbour slows it down.
#[derive(Default)]
#[repr(align(128))]
struct Alone(AtomicU64);

impl fmt::Debug for Alone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which verdicts an action answers. A redeemed token answers a verdict that asks for one, never a denial.
fn permits(level: Level, action: Action) -> bool {
    match action {
        Action::Forward => level <= Level::Warn,
        Action::Confirmed => level <= Level::Approve,
        Action::Refuse => false,
    }
}

fn of_statement<'a>(
    kind: Kind,
    verdict: &'a Verdict,
    action: Action,
    about: &Recording<'a>,
) -> Event<'a> {
    // What was confirmed must be in the record even if the machine stops in the next instant. A refusal did nothing.
    let durability = if action == Action::Confirmed {
        Durability::Synced
    } else {
        Durability::Flushed
    };
    Event {
        kind,
        findings: verdict.judged(),
        level: Some(verdict.level()),
        mode: Some(verdict.mode()),
        action: Some(action),
        durability,
        ..about_session(about)
    }
}

fn about_session<'a>(about: &Recording<'a>) -> Event<'a> {
    Event {
        session: Some(about.session),
        listener: Some(about.listener),
        principal: Some(about.principal),
        statement: about.statement,
        fingerprint: about.fingerprint,
        challenge: about.challenge,
        promised_rows: about.promised_rows,
        ..Event::default()
    }
}
