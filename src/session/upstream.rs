//! Reaching the guarded database: an address, and libpq's meaning of an sslmode.
//!
//! Invariant: TLS is negotiated before a byte of the session is sent, and a server that sends anything after its `S` and before
//! the handshake is not talked to (CVE-2021-23222).
//!
//! Source: libpq manual, "SSL Mode Descriptions"; `fe-connect.c` (18) for when `allow` and `prefer` try again.

use crate::protocol::postgres::handshake;
use crate::session::link::Leg;
use crate::session::wire::Wire;
use bytes::Bytes;
use rustls::pki_types::ServerName;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Host name or address, and port. Resolved at each connect.
    Tcp {
        host: String,
        port: u16,
    },
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// libpq's sslmode. `verify-ca` and `verify-full` differ in the connector, not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    Disable,
    Allow,
    Prefer,
    Require,
}

/// Where to, and how.
#[derive(Clone)]
pub struct Target {
    pub address: Address,
    pub mode: TlsMode,
    pub connector: TlsConnector,
    /// With TLS the server's certificate is checked.
    pub verified: bool,
    pub timeout: Duration,
}

/// Whether one try asks for TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    Plain,
    /// TLS if the server has it.
    TlsIfOffered,
    TlsOnly,
}

impl Target {
    /// The tries that the mode allows, in their order. The second is made when the first is refused before any authentication.
    pub fn attempts(&self) -> &'static [Attempt] {
        match (self.mode, &self.address) {
            // As libpq: no TLS over a unix socket, unless demanded, which then cannot be had.
            (TlsMode::Disable | TlsMode::Allow | TlsMode::Prefer, Address::Unix(_)) => &[Attempt::Plain],
            (TlsMode::Disable, _) => &[Attempt::Plain],
            (TlsMode::Allow, _) => &[Attempt::Plain, Attempt::TlsOnly],
            (TlsMode::Prefer, _) => &[Attempt::TlsIfOffered, Attempt::Plain],
            (TlsMode::Require, _) => &[Attempt::TlsOnly],
        }
    }

    /// One connection, TLS settled. Bounded by the connect timeout.
    pub async fn connect(&self, attempt: Attempt) -> io::Result<Leg> {
        tokio::time::timeout(self.timeout, self.connect_unbounded(attempt))
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer within the connect timeout")))
    }

    async fn connect_unbounded(&self, attempt: Attempt) -> io::Result<Leg> {
        let mut leg = Leg::new(self.dial().await?);
        if attempt == Attempt::Plain {
            return Ok(leg);
        }
        leg.send(Bytes::from_static(&handshake::SSL_REQUEST));
        leg.flush().await?;
        if !leg.fill().await? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match (&leg.inbox[..], attempt) {
            (b"S", _) => self.wrap(leg).await,
            (b"N", Attempt::TlsIfOffered) => {
                leg.inbox.clear();
                Ok(leg)
            }
            (b"N", _) => Err(io::Error::other("the server does not support TLS, but upstream_tls requires it")),
            ([b'S' | b'N', ..], _) => Err(io::Error::other("the server sent data before the TLS handshake")),
            _ => Err(io::Error::other("the server answered the TLS request with something else")),
        }
    }

    /// The bare connection. Bounded by the caller.
    pub(in crate::session) async fn dial(&self) -> io::Result<Wire> {
        match &self.address {
            Address::Unix(path) => Ok(Wire::Unix(UnixStream::connect(path).await?)),
            Address::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                let socket = socket2::SockRef::from(&stream);
                socket.set_keepalive(true)?;
                Ok(Wire::Tcp(stream))
            }
        }
    }

    /// TLS over it, with nothing buffered.
    pub(in crate::session) async fn wrap(&self, leg: Leg) -> io::Result<Leg> {
        let name = match &self.address {
            Address::Tcp { host, .. } => ServerName::try_from(host.clone()).map_err(io::Error::other)?,
            Address::Unix(_) => ServerName::try_from("localhost").map_err(io::Error::other)?,
        };
        Ok(Leg::new(match leg.into_wire() {
            Wire::Tcp(stream) => Wire::Tls(Box::new(self.connector.connect(name, stream).await?.into())),
            Wire::Unix(stream) => Wire::TlsUnix(Box::new(self.connector.connect(name, stream).await?.into())),
            wrapped => wrapped,
        }))
    }
}
