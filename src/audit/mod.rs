//! The record, and the only way to a [`Permit`].
//!
//! The first law, kept by the compiler: nothing reaches a database without having been judged and recorded. A [`Permit`] owns the
//! frame it permits, only [`Recorder::record`] makes one, and only after the record took the event; forwarding consumes it.
//! What no rule found anything against and nobody gave a text for (reads, plain INSERTs, transaction verbs) is counted, a line a minute.
//!
//! A record that cannot be written is an error, and its caller refuses with `SL007`. While it fails, [`WhileFailing`] says what goes on
//! of that which would only be counted.

pub mod chain;
pub mod event;
pub mod rotation;
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
    manner: Manner,
    counted: Alone,
}

/// How the record is kept: `[audit]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Manner {
    pub reads: Reads,
    pub while_failing: WhileFailing,
    pub literals: Literals,
    pub parameters: Parameters,
}

/// What is refused while the record cannot be written: `on_failure`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhileFailing {
    /// What changes data, or would have a line of its own. Reads go on, and are counted.
    #[default]
    RefuseChanges,
    /// Reads, too.
    RefuseEverything,
}

/// Whether a statement's literals stand in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Literals {
    #[default]
    Redacted,
    Kept,
}

/// Whether the values bound to a statement stand in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Parameters {
    #[default]
    LeftOut,
    Recorded,
}

/// What a statement that is only counted does: all that is known of it where the record fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plain {
    /// Runs nothing, or ends a transaction: it leads out of trouble, never into it.
    Passes,
    Reads,
    /// An INSERT, or code of the users' own.
    Changes,
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
    /// `reason=` that the sender gave.
    pub reason: Option<&'a str>,
    /// Shown by the session, if the configuration has them recorded.
    pub parameters: Option<&'a [Option<String>]>,
    /// What it does, if there is no more to say about it.
    pub plain: Plain,
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
    Refused { sqlstate: &'static str, why: &'a str },
}

/// Refused logins that one line stands for: all like the line `of`, and after it.
#[derive(Debug, Clone, Copy)]
pub struct AddedUp<'a> {
    pub sqlstate: &'static str,
    /// Of the last one.
    pub why: &'a str,
    pub count: u64,
    pub of: Option<u64>,
}

impl Recorder {
    pub fn new(sink: Arc<Sink>, manner: Manner) -> Recorder {
        Recorder { sink, manner, counted: Alone::default() }
    }

    pub fn manner(&self) -> Manner {
        self.manner
    }

    /// Whether the last event was taken.
    pub fn works(&self) -> bool {
        self.sink.works()
    }

    /// Since when the record fails, and why.
    pub fn trouble(&self) -> Option<String> {
        self.sink.trouble()
    }

    /// Whether a statement that is only counted may go on: always while the record works. Where it fails it is tried first.
    pub fn goes_on(&self, plain: Plain) -> Result<(), RecordFailed> {
        let waits = match plain {
            Plain::Passes => false,
            Plain::Reads => self.manner.while_failing == WhileFailing::RefuseEverything,
            Plain::Changes => true,
        };
        if waits && !self.sink.works() { self.sink.try_again() } else { Ok(()) }
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
        let is_plain = verdict.judged().is_empty() && about.statement.is_none();
        if is_plain && action == Action::Forward && self.manner.reads == Reads::Count {
            self.goes_on(about.plain)?;
            self.counted.0.fetch_add(1, Ordering::Relaxed);
            return Ok(Permit { frame, line: None });
        }
        if !permits(verdict.in_force(), action) {
            return Err(RecordFailed(format!("a verdict of {} permits no {}", verdict.in_force(), action.as_str())));
        }
        let line = self.write(&of_statement(Kind::Statement, verdict, action, &about))?;
        Ok(Permit { frame, line: Some(line) })
    }

    /// Records that a statement was refused, with the code the client gets. No permit.
    pub fn refusal(&self, verdict: &Verdict, code: &str, about: Recording<'_>) -> Result<u64, RecordFailed> {
        let event = of_statement(Kind::Refusal, verdict, Action::Refuse, &about);
        self.write(&Event { sqlstate: Some(code), ..event })
    }

    /// Records what became of a permitted statement. Durable where the statement was.
    pub fn outcome(&self, about: Recording<'_>, outcome: Outcome<'_>) -> Result<u64, RecordFailed> {
        let durability = if about.challenge.is_some() { Durability::Synced } else { Durability::Flushed };
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
    pub fn command(&self, about: Recording<'_>, command: &str, code: Option<&str>) -> Result<u64, RecordFailed> {
        self.write(&Event { kind: Kind::Command, note: Some(command), sqlstate: code, ..about_session(&about) })
    }

    /// `session` is the connection's; there is none where it was not let in so far.
    pub fn login(
        &self,
        session: Option<SessionId>,
        listener: &str,
        principal: &Principal,
        login: Login<'_>,
    ) -> Result<u64, RecordFailed> {
        let (sqlstate, note) = match login {
            Login::Accepted => (None, None),
            Login::Refused { sqlstate, why } => (Some(sqlstate), Some(why)),
        };
        let who = Event { session, listener: Some(listener), principal: Some(principal), ..Event::default() };
        self.write(&Event { kind: Kind::Login, sqlstate, note, ..who })
    }

    /// Records how many logins were refused that have no line of their own.
    pub fn refused_logins(
        &self,
        listener: &str,
        principal: &Principal,
        added: AddedUp<'_>,
    ) -> Result<u64, RecordFailed> {
        let AddedUp { sqlstate, why, count, of } = added;
        self.write(&Event {
            kind: Kind::Login,
            listener: Some(listener),
            principal: Some(principal),
            sqlstate: Some(sqlstate),
            count: Some(count),
            note: Some(why),
            of,
            ..Event::default()
        })
    }

    pub fn logout(&self, session: SessionId, listener: &str, principal: &Principal) -> Result<u64, RecordFailed> {
        let who =
            Event { session: Some(session), listener: Some(listener), principal: Some(principal), ..Event::default() };
        self.write(&Event { kind: Kind::Logout, ..who })
    }

    /// A policy was loaded, or a broken one was not: says which.
    pub fn policy(&self, note: &str) -> Result<u64, RecordFailed> {
        self.write(&Event { kind: Kind::Policy, note: Some(note), durability: Durability::Synced, ..Event::default() })
    }

    /// Sluice started, drains, stops.
    pub fn service(&self, note: &str) -> Result<u64, RecordFailed> {
        self.write(&Event { kind: Kind::Service, note: Some(note), ..Event::default() })
    }

    /// Writes how many statements were only counted since the last time, if any. For the janitor, and before the recorder goes.
    /// Returns the number.
    pub fn write_counted(&self) -> Result<u64, RecordFailed> {
        let count = self.counted.0.swap(0, Ordering::Relaxed);
        if count == 0 {
            return Ok(0);
        }
        let written = self.write(&Event { kind: Kind::Counted, count: Some(count), ..Event::default() });
        if written.is_err() {
            self.counted.0.fetch_add(count, Ordering::Relaxed);
        }
        written.map(|_| count)
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
        Action::Confirmed | Action::Rehearsed => level <= Level::Approve,
        Action::Refuse => false,
    }
}

fn of_statement<'a>(kind: Kind, verdict: &'a Verdict, action: Action, about: &Recording<'a>) -> Event<'a> {
    // What was confirmed must be in the record even if the machine stops in the next instant. A refusal did nothing.
    let durability = if action == Action::Confirmed { Durability::Synced } else { Durability::Flushed };
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
        parameters: about.parameters,
        note: about.reason,
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::clock::HandClock;
    use crate::policy::finding::{About, Finding};
    use crate::policy::settings::Mode;
    use crate::policy::verdict::Judged;
    use jiff::Timestamp;
    use std::path::Path;

    #[test]
    fn what_is_harmless_is_counted_and_the_count_is_written() {
        let room = Room::new(Reads::Count);
        for _ in 0..3 {
            let about = Recording { statement: None, ..room.about() };
            let frame = Bytes::from_static(b"frame");
            let permit = room.recorder.record(&verdict(&[]), Action::Forward, about, frame).expect("permits");
            assert_eq!(permit.line(), None);
            assert_eq!(permit.into_bytes(), "frame");
        }
        assert_eq!((room.recorder.counted(), room.lines().len()), (3, 0));
        room.recorder.write_counted().expect("writes");
        room.recorder.write_counted().expect("has nothing to write");
        assert_eq!(room.recorder.counted(), 0);
        let lines = room.lines();
        assert_eq!(lines.len(), 1);
        assert_eq!((&lines[0]["kind"], &lines[0]["count"]), (&"counted".into(), &3.into()));
    }

    #[test]
    fn what_has_a_text_is_written_though_nothing_was_found() {
        let room = Room::new(Reads::Count);
        assert_eq!(room.record(&verdict(&[]), Action::Forward).expect("permits").line(), Some(1));
        assert_eq!((room.recorder.counted(), room.lines().len()), (0, 1));
    }

    #[test]
    fn reads_are_recorded_if_the_configuration_says_so() {
        let room = Room::new(Reads::Record);
        let permit = room.record(&verdict(&[]), Action::Forward).expect("permits");
        assert_eq!(permit.line(), Some(1));
        assert_eq!(room.lines().len(), 1);
    }

    #[test]
    fn the_line_is_there_before_the_permit_and_says_everything() {
        let room = Room::new(Reads::Count);
        let permit = room.record(&verdict(&[Level::Warn, Level::Confirm]), Action::Confirmed).expect("permits");
        let line = room.lines().remove(0);
        assert_eq!(permit.line(), line["seq"].as_u64());
        for (field, value) in [
            ("kind", "statement"),
            ("user", "alice"),
            ("database", "shop"),
            ("listener", "prod"),
            ("statement", "DELETE FROM carts"),
            ("fingerprint", "f1"),
            ("level", "confirm"),
            ("mode", "enforce"),
            ("action", "confirmed"),
            ("time", "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(line[field], value, "{field}");
        }
        assert_eq!(line["promised_rows"], 12_480);
        assert_eq!(
            line["rules"][1],
            serde_json::json!({"rule": "cascade", "level": "confirm", "origin": "preset standard"})
        );
        assert!(line.get("sqlstate").is_none(), "what is absent is left out");
    }

    #[test]
    fn no_verdict_is_permitted_by_less_than_it_asks_for() {
        let room = Room::new(Reads::Count);
        let table = [
            (Level::Allow, true, true),
            (Level::Warn, true, true),
            (Level::Confirm, false, true),
            (Level::Approve, false, true),
            (Level::Deny, false, false),
        ];
        for (level, forward, confirmed) in table {
            assert_eq!(room.record(&verdict(&[level]), Action::Forward).is_ok(), forward, "forward at {level}");
            assert_eq!(room.record(&verdict(&[level]), Action::Confirmed).is_ok(), confirmed, "confirmed at {level}");
            assert!(room.record(&verdict(&[level]), Action::Refuse).is_err(), "refuse at {level}");
        }
        assert!(room.record(&verdict(&[]), Action::Refuse).is_err(), "a refusal permits nothing, harmless or not");
        let observed = Verdict::for_test(judged(&[Level::Deny]), Mode::Observe);
        assert!(room.record(&observed, Action::Forward).is_ok());
        let line = room.lines().pop().expect("a line");
        assert_eq!(
            (&line["level"], &line["mode"]),
            (&"deny".into(), &"observe".into()),
            "what would have been is recorded"
        );
    }

    #[test]
    fn each_kind_of_event_has_its_line() {
        let room = Room::new(Reads::Count);
        let (principal, recorder) = (&room.principal, &room.recorder);
        recorder
            .login(Some(room.session), "prod", principal, Login::Refused { sqlstate: "28P01", why: "wrong password" })
            .expect("writes");
        recorder.login(Some(room.session), "prod", principal, Login::Accepted).expect("writes");
        recorder.refusal(&verdict(&[Level::Confirm]), "SL001", room.about()).expect("writes");
        recorder.command(room.about(), "CONFIRM", Some("SL005")).expect("writes");
        let outcome = Outcome { of: Some(3), actual_rows: Some(7), sqlstate: Some("40001"), note: None };
        recorder.outcome(room.about(), outcome).expect("writes");
        recorder.policy("loaded, generation 2").expect("writes");
        recorder.service("draining").expect("writes");
        recorder.logout(room.session, "prod", principal).expect("writes");
        let lines = room.lines();
        let kinds: Vec<_> = lines.iter().map(|line| line["kind"].as_str().expect("text")).collect();
        assert_eq!(kinds, ["login", "login", "refusal", "command", "outcome", "policy", "service", "logout"]);
        assert_eq!((&lines[0]["sqlstate"], &lines[0]["note"]), (&"28P01".into(), &"wrong password".into()));
        assert_eq!((&lines[2]["action"], &lines[2]["sqlstate"]), (&"refuse".into(), &"SL001".into()));
        assert_eq!((&lines[4]["of"], &lines[4]["actual_rows"]), (&3.into(), &7.into()));
        let text = std::fs::read_to_string(room.path()).expect("reads");
        assert!(text.lines().all(|line| written::read_line(line.as_bytes()).is_ok()), "every hash holds");
    }

    /// A recorder on a file of its own.
    struct Room {
        dir: tempfile::TempDir,
        recorder: Recorder,
        session: SessionId,
        principal: Principal,
    }

    impl Room {
        fn new(reads: Reads) -> Room {
            let dir = tempfile::tempdir().expect("dir");
            let clock = HandClock::at(Timestamp::UNIX_EPOCH).clock();
            let sink = Sink::open(&dir.path().join("audit.jsonl"), clock).expect("opens");
            Room {
                recorder: Recorder::new(Arc::new(sink), Manner { reads, ..Manner::default() }),
                session: SessionId::new(Timestamp::UNIX_EPOCH).expect("random"),
                principal: Principal { user: "alice".into(), database: "shop".into(), ..Principal::default() },
                dir,
            }
        }

        fn path(&self) -> std::path::PathBuf {
            self.dir.path().join("audit.jsonl")
        }

        fn record(&self, verdict: &Verdict, action: Action) -> Result<Permit, RecordFailed> {
            self.recorder.record(verdict, action, self.about(), Bytes::from_static(b"frame"))
        }

        fn about(&self) -> Recording<'_> {
            Recording {
                session: self.session,
                listener: "prod",
                principal: &self.principal,
                statement: Some("DELETE FROM carts"),
                fingerprint: Some("f1"),
                challenge: None,
                promised_rows: Some(12_480),
                reason: None,
                parameters: None,
                plain: Plain::Reads,
            }
        }

        fn lines(&self) -> Vec<serde_json::Value> {
            read_lines(&self.path())
        }
    }

    fn read_lines(path: &Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).expect("reads");
        text.lines().map(|line| serde_json::from_str(line).expect("json")).collect()
    }

    fn verdict(levels: &[Level]) -> Verdict {
        Verdict::for_test(judged(levels), Mode::Enforce)
    }

    fn judged(levels: &[Level]) -> Vec<Judged> {
        let finding = Finding {
            rule: "cascade",
            about: About::Statement,
            message: "12,480 rows".into(),
            instead: None,
            bend: Default::default(),
        };
        let of_level = |&level: &Level| Judged { finding: finding.clone(), level, origin: "preset standard".into() };
        levels.iter().map(of_level).collect()
    }
}
