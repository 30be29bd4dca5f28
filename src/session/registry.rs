//! Who is connected: for cancel requests, for draining, for counting.
//!
//! Invariant: a session is listed exactly as long as its [`Seat`] lives.

use bytes::Bytes;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// As many seats as the configuration has sessions, taken when a login is through.
#[derive(Debug)]
pub struct Registry {
    most: usize,
    cancels: Mutex<HashMap<Bytes, Arc<AtomicBool>>>,
    seated: AtomicUsize,
}

/// A session's place in the registry.
#[derive(Debug)]
pub struct Seat {
    registry: Arc<Registry>,
    key: Option<Bytes>,
    cancelled: Arc<AtomicBool>,
}

impl Registry {
    pub fn new(most: usize) -> Registry {
        Registry { most, cancels: Mutex::default(), seated: AtomicUsize::new(0) }
    }

    /// A place for a new session, or `None` when all are taken.
    pub fn seat(self: &Arc<Registry>) -> Option<Seat> {
        let before = self.seated.fetch_add(1, Ordering::AcqRel);
        let seat = Seat { registry: self.clone(), key: None, cancelled: Arc::default() };
        (before < self.most).then_some(seat)
    }

    /// Whether a login would be for nothing, as it stands now.
    pub fn is_full(&self) -> bool {
        self.seated() >= self.most
    }

    pub fn seated(&self) -> usize {
        self.seated.load(Ordering::Acquire)
    }

    /// A cancel request came for the session that was given this key: it is told, in case it is asking. Whether the key is any
    /// session's makes no difference that the sender could see.
    pub fn cancel(&self, key: &[u8]) {
        let cancels = self.cancels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cancelled) = cancels.get(key) {
            cancelled.store(true, Ordering::Release);
        }
    }
}

impl Seat {
    /// The body of the BackendKeyData that the client was given.
    pub fn set_key(&mut self, key: Bytes) {
        // A copy: the message it came in is part of a whole buffer.
        let key = Bytes::copy_from_slice(&key);
        let mut cancels = self.registry.cancels.lock().unwrap_or_else(PoisonError::into_inner);
        cancels.insert(key.clone(), self.cancelled.clone());
        self.key = Some(key);
    }

    /// Whether a cancel came since the last call.
    pub fn take_cancelled(&self) -> bool {
        self.cancelled.swap(false, Ordering::AcqRel)
    }

    pub fn key(&self) -> Option<&Bytes> {
        self.key.as_ref()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.registry.seated.fetch_sub(1, Ordering::AcqRel);
        if let Some(key) = &self.key {
            let mut cancels = self.registry.cancels.lock().unwrap_or_else(PoisonError::into_inner);
            if cancels.get(key).is_some_and(|listed| Arc::ptr_eq(listed, &self.cancelled)) {
                cancels.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_bounded_and_given_back() {
        let registry = Arc::new(Registry::new(1));
        let first = registry.seat().expect("a free seat");
        assert!(registry.seat().is_none());
        drop(first);
        assert_eq!(registry.seated(), 0);
        assert!(registry.seat().is_some());
    }

    #[test]
    fn a_cancel_reaches_the_session_with_that_key_only() {
        let registry = Arc::new(Registry::new(9));
        let mut one = registry.seat().expect("a free seat");
        let mut two = registry.seat().expect("a free seat");
        one.set_key(Bytes::from_static(b"one"));
        two.set_key(Bytes::from_static(b"two"));
        registry.cancel(b"two");
        assert!(!one.take_cancelled());
        assert!(two.take_cancelled());
        assert!(!two.take_cancelled(), "a cancel is for one statement");
    }
}
