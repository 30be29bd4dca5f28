//! One client's conversation, from the accepted socket to the last byte.
//!
//! Reading order: [`visit`] is a connection's life, [`House`] what all sessions of a listener share. What the two protocols share stands
//! here: `link` the two ends, `lobby` room for those who come, `door` against what logins are checked, `tries` the limits of guessing,
//! `refused` who was refused, `registry` the seats. The conversations themselves are twins: `postgres/` and `mysql/`.
//!
//! Invariant: a session ends rather than go on in a state that it does not know.

mod braking;
mod buffers;
mod commands;
mod desk;
pub mod door;
mod driving;
mod format;
mod held;
mod jobs;
mod judgement;
pub mod link;
pub mod lobby;
mod logins;
mod mysql;
pub mod place;
pub mod postgres;
mod reaching;
mod readings;
mod record;
pub mod refused;
pub mod registry;
pub mod room;
mod tokens;
pub mod tries;
pub mod upstream;
mod vigil;
pub mod wire;

use crate::audit::Recorder;
use crate::ground::clock::Clock;
use crate::policy::settings::Policy;
use crate::protocol::Refusal;
use crate::session::door::Door;
use crate::session::lobby::Lobby;
use crate::session::place::Peer;
pub use crate::session::postgres::control::Control;
pub use crate::session::reaching::Schemas;
use crate::session::refused::Refused;
use crate::session::registry::Registry;
use crate::session::room::Rooms;
use crate::session::tries::Tries;
use crate::session::upstream::Target;
use crate::session::wire::Wire;
use crate::store::Store;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What all sessions of one listener share, on one thread.
pub struct House {
    pub listener: String,
    pub speaks: Speaks,
    pub target: Target,
    /// The certificate and how clients prove themselves; swapped at a reload.
    pub door: Arc<ArcSwap<Door>>,
    /// Verifiers looked up in the database.
    pub control: Control,
    /// Wrong tries at logging in, shared by all listeners.
    pub tries: Arc<Tries>,
    /// Refused logins that are only counted, likewise.
    pub refused: Arc<Refused>,
    /// Room for those who have not logged in, likewise.
    pub lobby: Arc<Lobby>,
    pub policy: Arc<ArcSwap<Policy>>,
    pub store: Store,
    pub recorder: Recorder,
    pub registry: Arc<Registry>,
    /// What large messages and prepared texts of all sessions may take.
    pub rooms: Arc<Rooms>,
    pub clock: Clock,
    pub login_timeout: Duration,
    /// For all questions about one statement together.
    pub ask_timeout: Duration,
    /// Without a byte either way, outside a transaction.
    pub idle_timeout: Option<Duration>,
    /// What names lead to, by database: shared by all threads.
    pub schemas: Arc<Schemas>,
    /// Becomes true when Sluice is going down.
    pub draining: watch::Receiver<bool>,
}

/// Why a session ended.
#[derive(Debug)]
pub(in crate::session) enum End {
    /// The client said goodbye or went away.
    Client,
    /// The upstream closed; what it said before was passed on.
    Upstream,
    /// It is told why, and closed.
    Refused(Refusal),
}

/// Whose protocol a listener's connections speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    Postgres,
    MySql,
}

/// A connection's life.
pub async fn visit(house: Arc<House>, wire: Wire, peer: Peer) {
    match house.speaks {
        Speaks::Postgres => postgres::visit(house, wire, peer).await,
        Speaks::MySql => mysql::visit(house, wire, peer).await,
    }
}
