//! From a bound socket to sessions, on every thread.
//!
//! One current-thread runtime for two cores; each accepts from the same sockets, so a connection stays on the thread that took it.
//! Stopping has two steps: *draining* (no new connections, sessions end between statements) and *stopped* (threads end).

use crate::ground::metrics::{RECORD_FAILURES_TOTAL, STATEMENTS_TOTAL};
use crate::session::place::Peer;
use crate::session::wire::Wire;
use crate::session::{House, visit};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

/// Connections waiting to be accepted.
const BACKLOG: i32 = 1024;
/// After the system refused a socket (too many open files), before trying again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket bound for all threads.
pub enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, PathBuf),
}

impl Bound {
    pub fn tcp(address: SocketAddr) -> io::Result<Bound> {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(Bound::Tcp(socket.into()))
    }

    /// A socket file that nobody listens on any more is replaced; one that is in use is not.
    pub fn unix(path: &Path) -> io::Result<Bound> {
        use std::os::unix::fs::FileTypeExt;
        if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on it"));
            }
            std::fs::remove_file(path)?;
        }
        let listener = std::os::unix::net::UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        Ok(Bound::Unix(listener, path.to_owned()))
    }

    /// Where it listens, with the port that the system chose.
    pub fn address(&self) -> String {
        match self {
            Bound::Tcp(listener) => {
                listener.local_addr().map_or_else(|error| error.to_string(), |address| address.to_string())
            }
            Bound::Unix(_, path) => format!("unix:{}", path.display()),
        }
    }

    pub fn share(&self) -> io::Result<Bound> {
        match self {
            Bound::Tcp(listener) => Ok(Bound::Tcp(listener.try_clone()?)),
            Bound::Unix(listener, path) => Ok(Bound::Unix(listener.try_clone()?, path.clone())),
        }
    }
}

/// One thread's life: accepts for all its houses until draining, ends when stopped.
pub fn run_thread(houses: Vec<(Arc<House>, Bound)>, mut stopped: watch::Receiver<bool>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let kept: Vec<Arc<House>> = houses.iter().map(|(house, _)| house.clone()).collect();
    for (house, bound) in houses {
        runtime.spawn(accept(house, bound));
    }
    runtime.block_on(async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    });
    write_counted(&kept);
    Ok(())
}

/// What was only counted since the last time goes into the record: statements without findings, refused logins.
pub fn write_counted(houses: &[Arc<House>]) {
    for house in houses {
        house.refused.write(&house.recorder);
        match house.recorder.write_counted() {
            Ok(count) => metrics::counter!(STATEMENTS_TOTAL, "verdict" => "allow").increment(count),
            Err(error) => {
                metrics::counter!(RECORD_FAILURES_TOTAL).increment(1);
                tracing::error!(%error, "the number of counted statements could not be recorded");
            }
        }
    }
}

async fn accept(house: Arc<House>, bound: Bound) {
    let listener = match Listener::new(bound) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(listener = %house.listener, %error, "cannot listen"),
    };
    let mut draining = house.draining.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = draining.wait_for(|draining| *draining) => return,
        };
        match accepted {
            Ok((wire, peer)) => {
                let house = house.clone();
                tokio::spawn(visit(house, wire, peer));
            }
            Err(error) => {
                tracing::warn!(listener = %house.listener, %error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn new(bound: Bound) -> io::Result<Listener> {
        match bound {
            Bound::Tcp(listener) => Ok(Listener::Tcp(TcpListener::from_std(listener)?)),
            Bound::Unix(listener, _) => Ok(Listener::Unix(UnixListener::from_std(listener)?)),
        }
    }

    async fn accept(&self) -> io::Result<(Wire, Peer)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                socket2::SockRef::from(&stream).set_keepalive(true)?;
                Ok((Wire::Tcp(stream), Peer::tcp(peer)))
            }
            Listener::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let user = stream.peer_cred().ok().map(|peer| peer.uid());
                Ok((Wire::Unix(stream), Peer::unix(user)))
            }
        }
    }
}
