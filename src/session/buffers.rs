//! Buffers to read into, one pool a thread: a session has one only while there is something in it.
//!
//! Invariant: an idle session holds no buffer, so thousands of them cost what they know and not what they once read; and the pool
//! itself is bounded (`limits::BUFFERS_POOLED`, `limits::BULK_BUFFERS_POOLED`).

use crate::ground::limits;
use bytes::{Bytes, BytesMut};
use std::cell::RefCell;

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { small: Vec::new(), bulk: Vec::new() }) };
}

struct Pool {
    small: Vec<BytesMut>,
    bulk: Vec<BytesMut>,
}

/// Makes room for one read of that many bytes; a quarter of it will do behind what `buffer` holds already. An empty buffer is
/// swapped for a pooled one if it is too small.
pub(in crate::session) fn make_room(buffer: &mut BytesMut, bytes: usize) {
    if buffer.is_empty() {
        if buffer.capacity() == 0 || !buffer.try_reclaim(bytes) {
            *buffer = take(bytes);
        }
    } else if buffer.capacity() - buffer.len() < bytes / 4 {
        buffer.reserve(bytes);
    }
}

/// Bytes that are kept for long: copied, unless they are most of the buffer that they are a part of.
pub(in crate::session) fn kept(bytes: &Bytes) -> Bytes {
    if bytes.len() < limits::READ_BYTES { Bytes::copy_from_slice(bytes) } else { bytes.clone() }
}

/// Gives back a buffer in which room was made and nothing was put.
pub(in crate::session) fn give_back(buffer: &mut BytesMut) {
    if !buffer.is_empty() {
        return;
    }
    let buffer = std::mem::take(buffer);
    let bulk = buffer.capacity() >= limits::BULK_READ_BYTES;
    // What grew far beyond a read (a long statement) is not worth keeping.
    if buffer.capacity() < limits::READ_BYTES || buffer.capacity() > 2 * limits::BULK_READ_BYTES {
        return;
    }
    POOL.with_borrow_mut(|pool| match bulk {
        true if pool.bulk.len() < limits::BULK_BUFFERS_POOLED => pool.bulk.push(buffer),
        false if pool.small.len() < limits::BUFFERS_POOLED => pool.small.push(buffer),
        _ => {}
    });
}

fn take(bytes: usize) -> BytesMut {
    let pooled = POOL.with_borrow_mut(|pool| match bytes > limits::READ_BYTES {
        true => pool.bulk.pop(),
        false => pool.small.pop(),
    });
    pooled.unwrap_or_else(|| BytesMut::with_capacity(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_buffer_goes_round_and_a_shared_one_does_not() {
        let mut buffer = BytesMut::new();
        make_room(&mut buffer, limits::READ_BYTES);
        buffer.extend_from_slice(b"abc");
        let place = buffer.as_ptr();
        give_back(&mut buffer);
        assert_eq!(&buffer[..], b"abc", "what holds something is kept");
        let on_its_way = buffer.split().freeze();
        make_room(&mut buffer, limits::READ_BYTES);
        assert_ne!(buffer.as_ptr(), place, "the bytes on their way are not written over");
        assert_eq!(on_its_way, "abc");
        let place = buffer.as_ptr();
        give_back(&mut buffer);
        assert_eq!(buffer.capacity(), 0);
        make_room(&mut buffer, limits::READ_BYTES);
        assert_eq!(buffer.as_ptr(), place, "it came back from the pool");
    }
}
