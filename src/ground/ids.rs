//! Names for things that live longer than a function call: sortable by the time they were made, safe to show.
//!
//! Invariant: ids of different kinds are different types, and an id grants nothing: it may stand in logs and records, unlike a
//! [`crate::ground::secret::Token`]. The form is that of a ULID (<https://github.com/ulid/spec>): 48 bits of milliseconds, 80 bits
//! of chance, written as 26 characters of Crockford's base 32, so that text order is order of making.

use crate::ground::secret::{ALPHABET, NoRandomness, crockford_value, fill_random};
use jiff::Timestamp;
use std::fmt;
use std::str::FromStr;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            pub fn new(now: Timestamp) -> Result<$name, NoRandomness> {
                make(now).map($name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_text(self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_text(self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;
            fn from_str(text: &str) -> Result<$name, NotAnId> {
                parse(text).map($name).ok_or(NotAnId)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// One client connection.
    SessionId,
    /// One refused statement that waits for its confirmation. Stands in the record where the token may not.
    ChallengeId,
    /// One change that is carried out in batches.
    JobId,
}

/// The text is not 26 characters of Crockford's base 32 that fit 128 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnId;

impl fmt::Display for NotAnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an id: 26 characters of base 32 expected")
    }
}

impl std::error::Error for NotAnId {}

const CHARACTERS: usize = 26;

fn make(now: Timestamp) -> Result<u128, NoRandomness> {
    let mut chance = [0u8; 16];
    fill_random(&mut chance[6..])?;
    // Before 1970 and after the year 10889 the order of making is lost, not the uniqueness.
    let milliseconds = u128::from(now.as_millisecond().max(0) as u64 & ((1 << 48) - 1));
    Ok(milliseconds << 80 | u128::from_be_bytes(chance))
}

fn write_text(id: u128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = [0u8; CHARACTERS];
    for (place, slot) in text.iter_mut().rev().enumerate() {
        *slot = ALPHABET[(id >> (5 * place)) as usize & 31];
    }
    f.write_str(std::str::from_utf8(&text).unwrap_or_default())
}

fn parse(text: &str) -> Option<u128> {
    if text.len() != CHARACTERS {
        return None;
    }
    let mut id = 0u128;
    for (place, character) in text.bytes().enumerate() {
        let value = crockford_value(character)?;
        // 26 characters carry 130 bits: the first may hold only three of its five.
        if place == 0 && value > 7 {
            return None;
        }
        id = id << 5 | u128::from(value);
    }
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_and_sort_by_time() {
        let early = SessionId::new(Timestamp::from_millisecond(1_000).expect("in range")).expect("random");
        let late = SessionId::new(Timestamp::from_millisecond(2_000).expect("in range")).expect("random");
        assert_eq!(early.to_string().parse(), Ok(early));
        assert_eq!(early.to_string().len(), 26);
        assert!(early < late && early.to_string() < late.to_string());
    }

    #[test]
    fn two_ids_of_one_instant_differ() {
        let now = Timestamp::UNIX_EPOCH;
        assert_ne!(ChallengeId::new(now).expect("random"), ChallengeId::new(now).expect("random"));
    }

    #[test]
    fn what_is_not_an_id_is_refused() {
        for text in [
            "",
            "0",
            "8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
            "0000000000000000000000000U",
            "00000000000000000000000000 ",
            "äääääääääääää",
        ] {
            assert_eq!(text.parse::<SessionId>(), Err(NotAnId), "{text}");
        }
        assert!("7ZZZZZZZZZZZZZZZZZZZZZZZZZ".parse::<SessionId>().is_ok());
    }
}
