//! What a client proves a password with, where Sluice is the client: an account's login at the database.
//!
//! Invariant: the password itself is in none of it.
//!
//! Source: `scramble` (password.c) for mysql_native_password, `generate_sha256_scramble` (sha2_password_common.cc) for
//! caching_sha2_password; MySQL 9.7, MariaDB 10.11.

use crate::protocol::mysql::handshake::SCRAMBLE;
use aws_lc_rs::digest::{self, Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

/// SHA1(password) over SHA1(scramble, SHA1(SHA1(password))); nothing for no password.
pub fn native(password: &[u8], scramble: &[u8; SCRAMBLE]) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let once = sha1(&[password]);
    let twice = sha1(&[&once]);
    over(&once, &sha1(&[scramble, &twice]))
}

/// SHA256(password) over SHA256(SHA256(SHA256(password)), scramble); nothing for no password.
pub fn caching_sha2(password: &[u8], scramble: &[u8; SCRAMBLE]) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let once = hashed(&SHA256, &[password]);
    let twice = hashed(&SHA256, &[&once]);
    over(&once, &hashed(&SHA256, &[&twice, scramble]))
}

/// Of MySQL's older plugin, which knows no other.
pub(in crate::protocol::mysql) fn sha1(parts: &[&[u8]]) -> [u8; 20] {
    let mut digest = [0; 20];
    digest.copy_from_slice(&hashed(&SHA1_FOR_LEGACY_USE_ONLY, parts));
    digest
}

/// The one mixed with the other, and taken off again.
pub(in crate::protocol::mysql) fn over(one: &[u8], other: &[u8]) -> Vec<u8> {
    one.iter().zip(other).map(|(one, other)| one ^ other).collect()
}

fn hashed(algorithm: &'static Algorithm, parts: &[&[u8]]) -> Vec<u8> {
    let mut context = digest::Context::new(algorithm);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::secret::hex;

    /// Reckoned by an implementation that is not ours (Python's hashlib).
    #[test]
    fn proofs_are_what_servers_expect() {
        let scramble = b"abcdefghijklmnopqrst";
        assert_eq!(hex(&native(b"secret", scramble)), "8817c50fa779daef010ee7577825b0847df9842e");
        assert_eq!(
            hex(&caching_sha2(b"secret", scramble)),
            "c76e2898612a4cf042c77fa8c4702c4c64c0c2c557c53c4d75595aaa6abae809"
        );
        assert!(native(b"", scramble).is_empty() && caching_sha2(b"", scramble).is_empty());
    }
}
