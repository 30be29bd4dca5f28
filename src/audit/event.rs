//! What happened, in its meant form: borrowed from whoever saw it, turned into a line by [`crate::audit::written`].
//!
//! Invariant: nothing here holds a token; a statement's text and its parameters' values are here only if its caller chose to show
//! them.

use crate::ground::ids::{ChallengeId, SessionId};
use crate::policy::finding::Level;
use crate::policy::scope::Principal;
use crate::policy::settings::Mode;
use crate::policy::verdict::Judged;

/// One event. Everything but its kind may be absent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Event<'a> {
    pub kind: Kind,
    pub session: Option<SessionId>,
    pub listener: Option<&'a str>,
    pub principal: Option<&'a Principal>,
    /// The text as far as it may be shown: redacted by the caller, or absent.
    pub statement: Option<&'a str>,
    pub fingerprint: Option<&'a str>,
    pub findings: &'a [Judged],
    pub level: Option<Level>,
    pub mode: Option<Mode>,
    pub action: Option<Action>,
    /// Stands for the token, which is never recorded.
    pub challenge: Option<ChallengeId>,
    pub promised_rows: Option<u64>,
    pub actual_rows: Option<u64>,
    /// The server's SQLSTATE, or our own `SL` code.
    pub sqlstate: Option<&'a str>,
    /// The line that this one is the outcome of, or that it counts more of.
    pub of: Option<u64>,
    /// How many statements (kind `counted`) or further refused logins this line stands for.
    pub count: Option<u64>,
    /// Anything else, in a few words.
    pub note: Option<&'a str>,
    /// A statement's parameter values, if the configuration has them recorded; shown by the caller.
    pub parameters: Option<&'a [Option<String>]>,
    /// Set by the sink alone: what it found after the last whole line.
    pub torn: Option<TornTail<'a>>,
    /// Set by the sink alone: the file that this line is about (kinds `rotated` and `removed`).
    pub file: Option<&'a str>,
    /// The hash of the last line of a file that is removed.
    pub file_hash: Option<&'a str>,
    pub durability: Durability,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// A statement was permitted: written before it is forwarded.
    #[default]
    Statement,
    /// What became of a permitted statement.
    Outcome,
    Refusal,
    /// A `SLUICE …` command.
    Command,
    Login,
    Logout,
    /// A policy was loaded, or a broken one was not.
    Policy,
    /// Statements without findings, counted since the last such line.
    Counted,
    /// Sluice started, drained, stopped.
    Service,
    /// The sink sets the torn end of an earlier write aside.
    Torn,
    /// The first line of a file that carries another on.
    Rotated,
    /// An old file is deleted, as the configuration has it.
    Removed,
    /// The record failed, and works again: `count` events are not in it.
    Gap,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Statement => "statement",
            Kind::Outcome => "outcome",
            Kind::Refusal => "refusal",
            Kind::Command => "command",
            Kind::Login => "login",
            Kind::Logout => "logout",
            Kind::Policy => "policy",
            Kind::Counted => "counted",
            Kind::Service => "service",
            Kind::Torn => "torn",
            Kind::Rotated => "rotated",
            Kind::Removed => "removed",
            Kind::Gap => "gap",
        }
    }
}

/// What is done with a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It goes to the database because nothing found stands against it.
    Forward,
    /// It goes to the database because its token was redeemed.
    Confirmed,
    /// It goes to the database in a transaction that is rolled back.
    Rehearsed,
    Refuse,
}

impl Action {
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Forward => "forward",
            Action::Confirmed => "confirmed",
            Action::Rehearsed => "rehearsed",
            Action::Refuse => "refuse",
        }
    }
}

/// Bytes after the last whole line, left by a crash or a failed write.
#[derive(Debug, Clone, Copy)]
pub struct TornTail<'a> {
    pub bytes: &'a [u8],
}

/// Must the line be on the disk before anybody goes on?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Handed to the operating system: survives a crash of Sluice.
    #[default]
    Flushed,
    /// `fdatasync`: survives a crash of the machine.
    Synced,
}
