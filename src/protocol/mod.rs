//! The wire, as values: bytes cut into bounded frames, frames named, answers encoded. Pure: no sockets, no clock.
//!
//! Invariant: a frame owns exactly the bytes that arrived for it; what is judged is what is forwarded.

pub mod certificate;
pub mod cursor;
pub mod mysql;
pub mod postgres;

/// Why Sluice itself says no. The codes are stable: scripts branch on them (SPEC.md, "Refusals carry stable codes").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// SL001: needs confirming.
    NeedsConfirming,
    /// SL002: needs another's approval.
    NeedsApproval,
    /// SL003: denied.
    Denied,
    /// SL004: changed more than was confirmed; rolled back.
    ExceedsConfirmed,
    /// SL005: token wrong, used up or expired.
    Token,
    /// SL006: a change was paused and can be resumed.
    Paused,
    /// SL007: cannot record or ask, so it refuses.
    CannotKnow,
    /// The protocol was broken, or a message came that no session of this kind may send.
    Protocol,
    /// A name or a form of a `SLUICE …` command that does not exist.
    Syntax,
    /// A bound of ours was reached.
    Limit,
    /// There is no room left for something large; others have it.
    Room,
    /// There is no room for another connection.
    TooMany,
    /// Who logs in did not prove who it is. One code and one message, whatever was wrong.
    WrongPassword,
    /// Who logs in may not, in this way.
    LoginRefused,
    /// A prepared statement that does not exist.
    UnknownStatement,
    /// The client's own cancel request, met while we were asking.
    Cancelled,
    /// The upstream cannot be reached or broke off.
    Upstream,
    /// Nothing was said for too long.
    Idle,
    /// We are going down.
    Shutdown,
}

impl Code {
    /// SQLSTATE.
    pub fn sqlstate(self) -> &'static str {
        match self {
            Code::NeedsConfirming => "SL001",
            Code::NeedsApproval => "SL002",
            Code::Denied => "SL003",
            Code::ExceedsConfirmed => "SL004",
            Code::Token => "SL005",
            Code::Paused => "SL006",
            Code::CannotKnow => "SL007",
            Code::Protocol => "08P01",
            Code::Syntax => "42601",
            Code::Limit => "54000",
            Code::Room => "53200",
            Code::TooMany => "53300",
            Code::WrongPassword => "28P01",
            Code::LoginRefused => "28000",
            Code::UnknownStatement => "26000",
            Code::Cancelled => "57014",
            Code::Upstream => "08006",
            Code::Idle => "57P05",
            Code::Shutdown => "57P01",
        }
    }
}

/// A refusal, before it is put into a protocol's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// What is known of the statement, for clients that asked for JSON.
    pub document: Option<Box<serde_json::Map<String, serde_json::Value>>>,
}

impl Refusal {
    pub fn new(code: Code, message: impl Into<String>) -> Refusal {
        Refusal { code, message: message.into(), detail: None, hint: None, document: None }
    }

    pub fn detail(mut self, detail: impl Into<String>) -> Refusal {
        self.detail = Some(detail.into());
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Refusal {
        self.hint = Some(hint.into());
        self
    }
}

/// Messages that carry nothing to judge. Closed: what is not here is judged or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Housekeeping {
    /// End of a pipeline: answers and transaction status are due.
    Sync,
    /// Send what you have.
    Flush,
    /// What does this prepared statement or portal look like?
    Describe,
    /// Forget a prepared statement or portal.
    Close,
    /// Run a portal whose Bind was judged.
    Execute,
    /// COPY data, its end or its failure, under a COPY that was judged.
    CopyData,
    /// Goodbye.
    Terminate,
    /// MySQL: a command of the closed list in which there is nothing to judge (PING, STATISTICS, PREPARE, CLOSE, FETCH and their kind).
    Command,
    /// MySQL: the data of a file, under a LOAD DATA LOCAL that was judged.
    FileData,
    /// MySQL: what plugins say to each other in a change of user.
    Login,
}

/// The values a client bound to a statement's parameters, exactly as it sent them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parameters {
    /// Type OIDs as the server resolved them (ParameterDescription), one a value.
    pub types: Vec<u32>,
    /// Format codes as sent: none, one for all, or one a value.
    pub formats: Vec<i16>,
    pub values: Vec<Option<bytes::Bytes>>,
    /// The same values as SQL literals, where a protocol's parameters cannot be bound to a text of ours: MySQL's.
    pub literals: Vec<String>,
}

/// Words of our own for a database, in its protocol. Only a protocol's own `Script` makes them.
#[derive(Debug)]
pub struct Words(bytes::Bytes);

impl Words {
    pub(in crate::protocol) fn new(bytes: bytes::Bytes) -> Words {
        Words(bytes)
    }

    pub fn into_bytes(self) -> bytes::Bytes {
        self.0
    }
}
