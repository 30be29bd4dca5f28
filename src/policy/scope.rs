//! Who acts, and to whom a part of the policy applies.

/// Who is on the client's end of a session. What the client states of itself (`application`) is not proof of anything and may
/// only tighten or explain, which is for whoever writes the policy to know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Principal {
    pub user: String,
    pub database: String,
    /// IP address, or "local" for a unix socket.
    pub address: String,
    pub application: String,
}
