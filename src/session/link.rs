//! The two ends of a session and what waits between them.
//!
//! Invariant: writing to one end never stops reading from the other as long as bounds are kept, so the pair cannot lock up
//! where client and server alone would not; and a reader that does not read stops us reading for it (backpressure), so memory
//! stays bounded.

use crate::audit::Permit;
use crate::ground::limits;
use crate::protocol::{Housekeeping, Words};
use crate::session::buffers;
use crate::session::wire::Wire;
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};
use tokio::io::{AsyncReadExt, AsyncWrite};

/// Pieces that an empty outbox keeps room for.
const PIECES_KEPT: usize = 64;

/// One end: what arrived and is not yet taken, what is to be sent and is not yet gone.
#[derive(Debug)]
pub struct Leg {
    wire: Wire,
    pub inbox: BytesMut,
    outbox: VecDeque<Bytes>,
    outbox_bytes: usize,
    unflushed: bool,
    /// What the next read asks for: more, after one that was filled.
    read_bytes: usize,
    bell: Bell,
    /// Nothing more will arrive.
    pub ended: bool,
}

impl Leg {
    pub fn new(wire: Wire) -> Leg {
        Leg {
            wire,
            inbox: BytesMut::new(),
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            unflushed: false,
            read_bytes: limits::READ_BYTES,
            bell: Bell::default(),
            ended: false,
        }
    }

    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Gives the wire back, to be wrapped in TLS; only before anything was buffered.
    pub fn into_wire(self) -> Wire {
        self.wire
    }

    /// Queues bytes; they leave with the next wait.
    pub fn send(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.outbox_bytes += bytes.len();
            self.outbox.push_back(bytes);
        }
    }

    /// So much is waiting for a slow reader that nothing more should be read for it.
    pub fn is_full(&self) -> bool {
        self.outbox_bytes > limits::OUTBOX_BYTES_MAX
    }

    /// Waits until everything queued was handed to the system. Not cancelled half-way by callers that go on using the leg.
    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_send(cx)).await
    }

    /// Reads at least a byte more into `inbox`; `false` at the end. May be cancelled.
    pub async fn fill(&mut self) -> io::Result<bool> {
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// Says goodbye to the other side; errors no longer matter.
    pub async fn close(&mut self) {
        let _ = self.flush().await;
        let _ = poll_fn(|cx| Pin::new(&mut self.wire).poll_shutdown(cx)).await;
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outbox.is_empty() {
            let sent = ready!(self.poll_send_some(cx))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.sent(sent);
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.wire).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// One call to the system for as much as it takes.
    fn poll_send_some(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let wire = Pin::new(&mut self.wire);
        if let (Some(only), 1) = (self.outbox.front(), self.outbox.len()) {
            return wire.poll_write(cx, only);
        }
        if self.outbox_bytes <= limits::GATHERED_BYTES {
            let mut gathered = [0; limits::GATHERED_BYTES];
            let mut rest = &mut gathered[..];
            for bytes in &self.outbox {
                rest.put_slice(bytes);
            }
            return wire.poll_write(cx, &gathered[..self.outbox_bytes]);
        }
        let mut slices = [io::IoSlice::new(&[]); 16];
        let count = self.outbox.len().min(slices.len());
        for (slice, bytes) in slices.iter_mut().zip(&self.outbox) {
            *slice = io::IoSlice::new(bytes);
        }
        wire.poll_write_vectored(cx, &slices[..count])
    }

    fn sent(&mut self, mut bytes: usize) {
        self.outbox_bytes -= bytes;
        while bytes > 0 {
            let Some(first) = self.outbox.front_mut() else { return };
            if first.len() > bytes {
                let _ = first.split_to(bytes);
                return;
            }
            bytes -= first.len();
            self.outbox.pop_front();
        }
        // A flood that a slow reader held up is not remembered by its size.
        if self.outbox.is_empty() && self.outbox.capacity() > PIECES_KEPT {
            self.outbox = VecDeque::new();
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        // TLS keeps its own state of what it waits for.
        if !self.wire.is_tls() && self.bell.is_silent(cx.waker()) {
            return Poll::Pending;
        }
        buffers::make_room(&mut self.inbox, self.read_bytes);
        let room = self.inbox.capacity() - self.inbox.len();
        let waker = self.bell.hang(cx.waker());
        let polled = pin!(self.wire.read_buf(&mut self.inbox)).poll(&mut Context::from_waker(&waker));
        let Poll::Ready(read) = polled else {
            buffers::give_back(&mut self.inbox);
            self.bell.is_hung = true;
            return Poll::Pending;
        };
        let read = read?;
        if read == room {
            self.read_bytes = limits::BULK_READ_BYTES;
        } else if read < limits::READ_BYTES / 2 {
            self.read_bytes = limits::READ_BYTES;
        }
        self.ended = read == 0;
        Poll::Ready(Ok(read > 0))
    }
}

/// Tells which end has something to read: a session waits for two, and whichever wakes it, the other need not be asked again.
#[derive(Debug)]
struct Bell {
    clapper: Arc<Clapper>,
    /// Made of the clapper, once.
    waker: Waker,
    /// The task that it calls.
    task: Option<Waker>,
    /// The end was asked, had nothing, and will ring.
    is_hung: bool,
}

#[derive(Debug, Default)]
struct Clapper {
    rang: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Wake for Clapper {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rang.store(true, Ordering::Release);
        if let Some(task) = &*self.task.lock().unwrap_or_else(PoisonError::into_inner) {
            task.wake_by_ref();
        }
    }
}

impl Default for Bell {
    fn default() -> Self {
        let clapper = Arc::new(Clapper::default());
        Bell { waker: Waker::from(clapper.clone()), clapper, task: None, is_hung: false }
    }
}

impl Bell {
    /// It was hung for this task, and did not ring since.
    fn is_silent(&self, task: &Waker) -> bool {
        let same = self.task.as_ref().is_some_and(|called| called.will_wake(task));
        self.is_hung && same && !self.clapper.rang.load(Ordering::Acquire)
    }

    /// The waker to ask the end with.
    fn hang(&mut self, task: &Waker) -> Waker {
        self.is_hung = false;
        if !self.task.as_ref().is_some_and(|called| called.will_wake(task)) {
            self.task = Some(task.clone());
            *self.clapper.task.lock().unwrap_or_else(PoisonError::into_inner) = self.task.clone();
        }
        self.clapper.rang.store(false, Ordering::Release);
        self.waker.clone()
    }
}

/// Which ends a wait listens to. Both are written to all the while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    Both,
    /// The client may wait: we are asking, or its pipeline is long enough.
    Upstream,
}

/// What a wait ended with.
#[derive(Debug)]
pub enum Woke {
    Client,
    Upstream,
    ClientGone(io::Error),
    UpstreamGone(io::Error),
}

/// The pair. The way to the upstream is narrow on purpose: a frame goes by its [`Permit`], housekeeping by its closed list, and
/// what is ours as [`Words`]; there is no fourth way.
#[derive(Debug)]
pub struct Link {
    pub client: Leg,
    upstream: Leg,
    forwarded: u64,
}

impl Link {
    pub fn new(client: Leg, upstream: Leg) -> Link {
        Link { client, upstream, forwarded: 0 }
    }

    pub fn forward(&mut self, permit: Permit) {
        self.forwarded += 1;
        self.upstream.send(permit.into_bytes());
    }

    /// How many permits went out: who asks twice knows whether one did between.
    pub fn forwarded(&self) -> u64 {
        self.forwarded
    }

    /// A message with nothing to judge in it. The kind is the caller's proof that it looked.
    pub fn housekeep(&mut self, kind: Housekeeping, bytes: Bytes) {
        tracing::trace!(?kind, "housekeeping");
        self.upstream.send(bytes);
    }

    /// Words of our own.
    pub fn say(&mut self, words: impl Into<Words>) {
        self.upstream.send(words.into().into_bytes());
    }

    /// Words of our own by which a permitted statement is carried out in parts.
    pub fn carry(&mut self, permit: &Permit, words: impl Into<Words>) {
        tracing::trace!(line = ?permit.line(), "carried out in parts");
        self.say(words);
    }

    /// What the upstream sent and nobody took yet.
    pub fn answers(&mut self) -> &mut BytesMut {
        &mut self.upstream.inbox
    }

    pub fn upstream_ended(&self) -> bool {
        self.upstream.ended
    }

    pub fn upstream_is_full(&self) -> bool {
        self.upstream.is_full()
    }

    /// Bytes on their way to the upstream.
    pub fn upstream_waiting(&self) -> usize {
        self.upstream.outbox_bytes
    }

    /// The client will send no more: the upstream is told so, after everything that is on its way.
    pub async fn close_upstream(&mut self) {
        self.upstream.close().await;
    }

    /// Until something arrived (or an end was reached: see `ended`). May be cancelled; nothing is lost.
    pub async fn wait(&mut self, listen: Listen) -> Woke {
        poll_fn(|cx| self.poll_wait(listen, cx)).await
    }

    pub(in crate::session) fn poll_wait(&mut self, listen: Listen, cx: &mut Context<'_>) -> Poll<Woke> {
        let (client_was_full, upstream_was_full) = (self.client.is_full(), self.upstream.is_full());
        if let Poll::Ready(Err(error)) = self.client.poll_send(cx) {
            return Poll::Ready(Woke::ClientGone(error));
        }
        if let Poll::Ready(Err(error)) = self.upstream.poll_send(cx) {
            return Poll::Ready(Woke::UpstreamGone(error));
        }
        // Room again: what had already arrived for it can go on, though nothing new may ever arrive.
        if client_was_full && !self.client.is_full() {
            return Poll::Ready(Woke::Upstream);
        }
        if upstream_was_full && !self.upstream.is_full() {
            return Poll::Ready(Woke::Client);
        }
        if !self.client.is_full() && !self.upstream.ended {
            match self.upstream.poll_fill(cx) {
                Poll::Ready(Ok(_)) => return Poll::Ready(Woke::Upstream),
                Poll::Ready(Err(error)) => return Poll::Ready(Woke::UpstreamGone(error)),
                Poll::Pending => {}
            }
        }
        if listen == Listen::Both && !self.upstream.is_full() && !self.client.ended {
            match self.client.poll_fill(cx) {
                Poll::Ready(Ok(_)) => return Poll::Ready(Woke::Client),
                Poll::Ready(Err(error)) => return Poll::Ready(Woke::ClientGone(error)),
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }
}

/// In words for the other side. A server that is stopped ends TLS without a farewell, of which a library has more to say than helps.
pub(in crate::session) fn how_lost(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the database closed it".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;

    #[tokio::test]
    async fn a_reader_that_does_not_read_stops_us_reading_for_it() {
        let (client, _client_that_does_not_read) = UnixStream::pair().expect("a socket pair");
        let (upstream, mut server) = UnixStream::pair().expect("a socket pair");
        let mut link = Link::new(Leg::new(Wire::Unix(client)), Leg::new(Wire::Unix(upstream)));
        let flood = tokio::spawn(async move {
            let part = vec![7u8; 1 << 16];
            let mut sent = 0usize;
            while tokio::time::timeout(std::time::Duration::from_millis(300), server.write_all(&part)).await.is_ok() {
                sent += part.len();
                assert!(sent < 64 << 20, "the flood was never stopped");
            }
            sent
        });
        loop {
            let waited = tokio::time::timeout(std::time::Duration::from_secs(1), link.wait(Listen::Both)).await;
            let Ok(Woke::Upstream) = waited else { break };
            let taken = link.upstream.inbox.split().freeze();
            link.client.send(taken);
        }
        assert!(flood.await.expect("the flood ends") < 8 << 20);
        assert!(link.client.is_full());
    }
}
