//! Things that must not be seen: tokens, the key they are hashed with, and whatever else is wrapped in [`Secret`].
//!
//! Invariant: no `Debug` here prints what it guards, a token exists in clear only on its way to the client that is to type it,
//! and comparisons take the same time wherever two values differ. No cryptography of our own: HMAC-SHA-256 (RFC 2104) from
//! `hmac` and `sha2`, constant time from `subtle`, chance from the operating system.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;
use subtle::ConstantTimeEq;

/// What a client types to confirm: eight characters of Crockford's base 32 (40 bits), shown as `K7QF-2M9X`. Forty bits are
/// enough because wrong tries are limited per principal and a token lives minutes; they are few enough to be read out aloud.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; Token::CHARACTERS]);

impl Token {
    const CHARACTERS: usize = 8;

    pub fn generate() -> Result<Token, NoRandomness> {
        let mut chance = [0u8; Token::CHARACTERS];
        fill_random(&mut chance)?;
        // 256 is a multiple of 32: every character is equally likely.
        Ok(Token(chance.map(|byte| ALPHABET[usize::from(byte) & 31])))
    }

    /// Reads what a person typed: any case, with or without the dash, white space around it, `O` for `0`, `I` and `L` for `1`.
    pub fn parse(text: &str) -> Option<Token> {
        let mut characters = [0u8; Token::CHARACTERS];
        let mut filled = 0;
        for (place, byte) in text.trim().bytes().enumerate() {
            if byte == b'-' && place == 4 {
                continue;
            }
            *characters.get_mut(filled)? = ALPHABET[usize::from(crockford_value(byte)?)];
            filled += 1;
        }
        (filled == Token::CHARACTERS).then_some(Token(characters))
    }

    pub fn hash(&self, key: &HashKey) -> TokenHash {
        let mut mac = Hmac::<Sha256>::new_from_slice(&key.0).expect("HMAC takes a key of any length");
        mac.update(&self.0);
        TokenHash(mac.finalize().into_bytes().into())
    }
}

/// Only for showing a token to the client it was made for: never for a log or a record.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, second) = self.0.split_at(Token::CHARACTERS / 2);
        let text = |half| std::str::from_utf8(half).unwrap_or_default();
        write!(f, "{}-{}", text(first), text(second))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The key that tokens are hashed with. Kept apart from the hashes: whoever copies the store alone cannot try tokens out.
#[derive(Clone)]
pub struct HashKey([u8; HashKey::BYTES]);

impl HashKey {
    pub const BYTES: usize = 32;

    pub fn generate() -> Result<HashKey, NoRandomness> {
        let mut key = [0u8; HashKey::BYTES];
        fill_random(&mut key)?;
        Ok(HashKey(key))
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<HashKey> {
        bytes.try_into().ok().map(HashKey)
    }

    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Another key for another purpose, from which this one cannot be told.
    pub fn derive(&self, purpose: &str) -> HashKey {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(purpose.as_bytes());
        HashKey(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(…)")
    }
}

/// All that is kept of a token. Its equality takes constant time; it has no order and no `std` hash, so that nobody looks it up
/// in a map by accident.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for TokenHash {
    fn eq(&self, other: &TokenHash) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenHash {}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

impl serde::Serialize for TokenHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(&self.0))
    }
}

impl<'de> serde::Deserialize<'de> for TokenHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<TokenHash, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        let bytes = unhex(&text).and_then(|bytes| bytes.try_into().ok());
        bytes.map(TokenHash).ok_or_else(|| serde::de::Error::custom("64 hexadecimal digits expected"))
    }
}

/// A value that does not show itself: passwords, keys, contents of secret files.
#[derive(Clone, Default)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    pub fn new(value: T) -> Secret<T> {
        Secret(value)
    }

    /// The one way to the value, easy to search for.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The operating system gave no random bytes. Nothing secret can be made then, so the caller refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRandomness;

impl fmt::Display for NoRandomness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the operating system gave no random bytes")
    }
}

impl std::error::Error for NoRandomness {}

/// Crockford's base 32: no I, L, O or U (<https://www.crockford.com/base32.html>).
pub const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The value of one character, forgiving what people mix up. Always less than 32.
pub fn crockford_value(character: u8) -> Option<u8> {
    let upper = match character.to_ascii_uppercase() {
        b'O' => b'0',
        b'I' | b'L' => b'1',
        other => other,
    };
    ALPHABET.iter().position(|&known| known == upper).map(|place| place as u8)
}

pub fn fill_random(buffer: &mut [u8]) -> Result<(), NoRandomness> {
    getrandom::fill(buffer).map_err(|_| NoRandomness)
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|value| value as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_however_it_is_typed() {
        let shown = "K7QF-2M9X";
        let token = Token::parse(shown).expect("a token");
        assert_eq!(token.to_string(), shown);
        for typed in ["k7qf-2m9x", "K7QF2M9X", " k7qf2m9x\n"] {
            assert_eq!(Token::parse(typed), Some(token.clone()), "{typed}");
        }
        assert_eq!(Token::parse("O1Il-0000"), Token::parse("0111-0000"));
    }

    #[test]
    fn what_is_not_a_token_is_refused() {
        for typed in ["", "K7QF", "K7QF-2M9", "K7QF-2M9XX", "K7-QF2M9X", "K7QF--2M9X", "K7QF-2M9U", "-K7QF2M9X", "ＫＱ"]
        {
            assert_eq!(Token::parse(typed), None, "{typed}");
        }
    }

    #[test]
    fn tokens_are_made_by_chance_and_read_back() {
        let tokens: std::collections::HashSet<_> =
            (0..1_000).map(|_| Token::generate().expect("random").to_string()).collect();
        assert_eq!(tokens.len(), 1_000);
        assert!(tokens.iter().all(|text| Token::parse(text).is_some_and(|token| token.to_string() == *text)));
    }

    #[test]
    fn the_hash_depends_on_token_and_key() {
        let (key, other_key) = (HashKey([1; 32]), HashKey([2; 32]));
        let token = Token::parse("K7QF-2M9X").expect("a token");
        let other = Token::parse("K7QF-2M9Y").expect("a token");
        assert_eq!(token.hash(&key), token.hash(&key));
        assert_ne!(token.hash(&key), token.hash(&other_key));
        assert_ne!(token.hash(&key), other.hash(&key));
        let text = serde_json::to_string(&token.hash(&key)).expect("json");
        assert_eq!(serde_json::from_str::<TokenHash>(&text).expect("reads back"), token.hash(&key));
    }

    #[test]
    fn nothing_secret_shows_itself() {
        let token = Token::parse("K7QF-2M9X").expect("a token");
        let key = HashKey([0xAB; 32]);
        let shown = format!("{token:?} {key:?} {:?} {:?}", token.hash(&key), Secret::new("hunter2"));
        assert_eq!(shown, "Token(…) HashKey(…) TokenHash(…) Secret(…)");
    }

    #[test]
    fn hexadecimal_reads_back() {
        assert_eq!(hex(&[0, 0x9f, 0xff]), "009fff");
        assert_eq!(unhex("009fFF"), Some(vec![0, 0x9f, 0xff]));
        assert_eq!(unhex("0"), None);
        assert_eq!(unhex("0g"), None);
    }
}
