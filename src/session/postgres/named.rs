//! What is kept by a name that a client gave: prepared statements, portals. The unnamed one is asked for with nearly every message, and
//! costs no hash.
//!
//! Invariant: a name means at most one thing, and the empty name is a name like any other.

use bytes::Bytes;
use std::collections::HashMap;

#[derive(Debug)]
pub(in crate::session) struct Named<T> {
    unnamed: Option<T>,
    named: HashMap<Bytes, T>,
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Named { unnamed: None, named: HashMap::new() }
    }
}

impl<T> Named<T> {
    pub fn get(&self, name: &[u8]) -> Option<&T> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.named.get(name) }
    }

    pub fn contains(&self, name: &[u8]) -> bool {
        self.get(name).is_some()
    }

    /// What the name meant before, if it did.
    pub fn insert(&mut self, name: Bytes, value: T) -> Option<T> {
        if name.is_empty() { self.unnamed.replace(value) } else { self.named.insert(name, value) }
    }

    pub fn remove(&mut self, name: &[u8]) -> Option<T> {
        match name.is_empty() {
            true => self.unnamed.take(),
            // Nothing is hashed where nothing is kept.
            false if self.named.is_empty() => None,
            false => self.named.remove(name),
        }
    }

    pub fn len(&self) -> usize {
        self.named.len() + usize::from(self.unnamed.is_some())
    }

    pub fn clear(&mut self) {
        self.unnamed = None;
        self.named.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_name_is_a_name_like_any_other() {
        let mut named = Named::default();
        for (name, value) in [("", 1), ("a", 2)] {
            assert_eq!(named.remove(name.as_bytes()), None);
            assert_eq!(named.insert(Bytes::from(name), value), None);
            assert_eq!(named.insert(Bytes::from(name), value + 10), Some(value));
            assert_eq!(named.get(name.as_bytes()), Some(&(value + 10)));
        }
        assert_eq!(named.len(), 2);
        assert_eq!(named.remove(b""), Some(11));
        assert!(!named.contains(b"") && named.contains(b"a"));
        named.clear();
        assert_eq!((named.len(), named.get(b"a")), (0, None));
    }
}
