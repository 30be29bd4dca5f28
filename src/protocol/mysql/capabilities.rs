//! What client and server can do, as they tell each other in the login, and what of it Sluice lets through.
//!
//! Invariant: a capability that changes the form of what is sent is on both legs or on neither, except those that Sluice translates
//! ([`PASSED`] says which); what is not in the table is masked in both directions.
//!
//! Source: mysql_com.h of MySQL 9.7 and of MariaDB 10.11 (the upper half are MariaDB's extended ones).

/// A set of them: MySQL's own 32 bits, and MariaDB's extended ones above.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// Of a server: MySQL, or a MariaDB before 10.2. Not set: MariaDB, whose extended capabilities follow.
    pub const MYSQL: Capabilities = Capabilities(1);
    pub const FOUND_ROWS: Capabilities = Capabilities(1 << 1);
    pub const LONG_FLAG: Capabilities = Capabilities(1 << 2);
    pub const CONNECT_WITH_DB: Capabilities = Capabilities(1 << 3);
    pub const NO_SCHEMA: Capabilities = Capabilities(1 << 4);
    pub const COMPRESS: Capabilities = Capabilities(1 << 5);
    pub const ODBC: Capabilities = Capabilities(1 << 6);
    pub const LOCAL_FILES: Capabilities = Capabilities(1 << 7);
    /// Sets IGNORE_SPACE in the session's sql_mode.
    pub const IGNORE_SPACE: Capabilities = Capabilities(1 << 8);
    pub const PROTOCOL_41: Capabilities = Capabilities(1 << 9);
    pub const INTERACTIVE: Capabilities = Capabilities(1 << 10);
    pub const SSL: Capabilities = Capabilities(1 << 11);
    pub const IGNORE_SIGPIPE: Capabilities = Capabilities(1 << 12);
    pub const TRANSACTIONS: Capabilities = Capabilities(1 << 13);
    pub const RESERVED: Capabilities = Capabilities(1 << 14);
    pub const SECURE_CONNECTION: Capabilities = Capabilities(1 << 15);
    pub const MULTI_STATEMENTS: Capabilities = Capabilities(1 << 16);
    pub const MULTI_RESULTS: Capabilities = Capabilities(1 << 17);
    pub const PS_MULTI_RESULTS: Capabilities = Capabilities(1 << 18);
    pub const PLUGIN_AUTH: Capabilities = Capabilities(1 << 19);
    pub const CONNECT_ATTRS: Capabilities = Capabilities(1 << 20);
    pub const PLUGIN_AUTH_LENENC: Capabilities = Capabilities(1 << 21);
    pub const EXPIRED_PASSWORDS: Capabilities = Capabilities(1 << 22);
    pub const SESSION_TRACK: Capabilities = Capabilities(1 << 23);
    pub const DEPRECATE_EOF: Capabilities = Capabilities(1 << 24);
    pub const OPTIONAL_METADATA: Capabilities = Capabilities(1 << 25);
    pub const ZSTD: Capabilities = Capabilities(1 << 26);
    pub const QUERY_ATTRIBUTES: Capabilities = Capabilities(1 << 27);
    pub const MULTI_FACTOR: Capabilities = Capabilities(1 << 28);
    /// What a client's library remembers for itself; servers offer them and heed nothing of it.
    pub const VERIFY_CERTIFICATE: Capabilities = Capabilities(1 << 30);
    pub const REMEMBER_OPTIONS: Capabilities = Capabilities(1 << 31);
    /// MariaDB, extended: progress reports in the middle of an answer.
    pub const PROGRESS: Capabilities = Capabilities(1 << 32);
    /// MariaDB, extended: COM_STMT_BULK_EXECUTE.
    pub const BULK: Capabilities = Capabilities(1 << 34);
    /// MariaDB, extended: a column's definition names its type more closely.
    pub const EXTENDED_METADATA: Capabilities = Capabilities(1 << 35);
    /// MariaDB, extended: a column count says whether definitions follow.
    pub const CACHE_METADATA: Capabilities = Capabilities(1 << 36);
    /// MariaDB, extended: a bulk execute may answer for each row.
    pub const BULK_UNIT_RESULTS: Capabilities = Capabilities(1 << 37);

    pub fn has(self, other: Capabilities) -> bool {
        self.0 & other.0 == other.0
    }

    pub fn with(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 | other.0)
    }

    pub fn without(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 & !other.0)
    }

    pub fn and(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 & other.0)
    }

    /// MySQL's own half.
    pub fn low(self) -> u32 {
        self.0 as u32
    }

    /// MariaDB's half.
    pub fn high(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub fn of_halves(low: u32, high: u32) -> Capabilities {
        Capabilities(u64::from(low) | (u64::from(high) << 32))
    }
}

impl std::fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Capabilities({:#x})", self.0)
    }
}

/// What becomes of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// As client and server agree: what both can is in force on both legs.
    Passes,
    /// Sluice settles it for each leg by itself.
    EachLeg,
    /// Wanted of the server whether the client can or not; a client that cannot is spoken to as it can.
    Wanted,
    /// Neither side hears that the other could.
    Masked,
}

use Passage::{EachLeg, Masked, Passes, Wanted};

/// Every capability there is, what becomes of it and why.
pub const PASSED: &[(Capabilities, &str, Passage, &str)] = &[
    (Capabilities::MYSQL, "LONG_PASSWORD", Passes, "says of a server that it is no MariaDB"),
    (Capabilities::FOUND_ROWS, "FOUND_ROWS", Passes, "what counts as an affected row is the client's to say"),
    (Capabilities::LONG_FLAG, "LONG_FLAG", Passes, "columns' flags, which are not looked into"),
    (
        Capabilities::CONNECT_WITH_DB,
        "CONNECT_WITH_DB",
        Passes,
        "the form of the login, taken apart and put together again",
    ),
    (Capabilities::NO_SCHEMA, "NO_SCHEMA", Passes, "forbids names with a schema; what is left is read as always"),
    (Capabilities::COMPRESS, "COMPRESS", Masked, "what is compressed cannot be hopped over; not offered"),
    (Capabilities::ODBC, "ODBC", Passes, "has no effect in a server"),
    (Capabilities::LOCAL_FILES, "LOCAL_FILES", Passes, "the data of LOAD DATA LOCAL is passed on in parts"),
    (Capabilities::IGNORE_SPACE, "IGNORE_SPACE", Passes, "a part of sql_mode, which the session heeds"),
    (Capabilities::PROTOCOL_41, "PROTOCOL_41", Passes, "older ones are refused by name"),
    (Capabilities::INTERACTIVE, "INTERACTIVE", Passes, "which of the server's timeouts counts"),
    (Capabilities::SSL, "SSL", EachLeg, "Sluice ends TLS on both legs"),
    (Capabilities::IGNORE_SIGPIPE, "IGNORE_SIGPIPE", Passes, "has no effect in a server"),
    (Capabilities::TRANSACTIONS, "TRANSACTIONS", Passes, "status flags are there with PROTOCOL_41 anyway"),
    (Capabilities::RESERVED, "RESERVED", Passes, "said by old clients, has no effect"),
    (
        Capabilities::SECURE_CONNECTION,
        "SECURE_CONNECTION",
        Passes,
        "proofs of 20 bytes; older ones are refused by name",
    ),
    (Capabilities::MULTI_STATEMENTS, "MULTI_STATEMENTS", Passes, "texts are cut into statements"),
    (Capabilities::MULTI_RESULTS, "MULTI_RESULTS", Passes, "answers are followed through all their results"),
    (Capabilities::PS_MULTI_RESULTS, "PS_MULTI_RESULTS", Passes, "the same of prepared statements"),
    (Capabilities::PLUGIN_AUTH, "PLUGIN_AUTH", Passes, "plugins are named; their proofs are relayed"),
    (Capabilities::CONNECT_ATTRS, "CONNECT_ATTRS", Passes, "the login carries attributes, passed on as they came"),
    (Capabilities::PLUGIN_AUTH_LENENC, "PLUGIN_AUTH_LENENC", Passes, "the form of the login"),
    (Capabilities::EXPIRED_PASSWORDS, "EXPIRED_PASSWORDS", Passes, "the server keeps such a session in its sandbox"),
    (
        Capabilities::SESSION_TRACK,
        "SESSION_TRACK",
        Wanted,
        "how the session's settings are learnt from the server itself",
    ),
    (Capabilities::DEPRECATE_EOF, "DEPRECATE_EOF", Passes, "both forms of an answer are followed"),
    (
        Capabilities::OPTIONAL_METADATA,
        "OPTIONAL_METADATA",
        Masked,
        "its answers cannot be told from an OK by their first byte",
    ),
    (Capabilities::ZSTD, "ZSTD", Masked, "as COMPRESS"),
    (Capabilities::QUERY_ATTRIBUTES, "QUERY_ATTRIBUTES", Passes, "taken apart in front of the text"),
    (Capabilities::MULTI_FACTOR, "MULTI_FACTOR", Passes, "each factor is carried over as the first one is"),
    (Capabilities::VERIFY_CERTIFICATE, "SSL_VERIFY_SERVER_CERT", Passes, "a client's own, without effect in a server"),
    (Capabilities::REMEMBER_OPTIONS, "REMEMBER_OPTIONS", Passes, "a client's own, without effect in a server"),
    (Capabilities::PROGRESS, "MARIADB_PROGRESS", Passes, "reports are hopped over in the middle of an answer"),
    (Capabilities::BULK, "MARIADB_STMT_BULK", Passes, "rows of values are taken apart and judged"),
    (
        Capabilities::EXTENDED_METADATA,
        "MARIADB_EXTENDED_METADATA",
        Passes,
        "definitions are hopped over, and ours have it",
    ),
    (
        Capabilities::CACHE_METADATA,
        "MARIADB_CACHE_METADATA",
        Passes,
        "the column count says whether definitions follow",
    ),
    (Capabilities::BULK_UNIT_RESULTS, "MARIADB_BULK_UNIT_RESULTS", Passes, "an answer with rows, followed as such"),
];

/// All of these kinds.
fn all(kinds: &[Passage]) -> Capabilities {
    let mut set = Capabilities::default();
    for (capability, _, passage, _) in PASSED {
        if kinds.contains(passage) {
            set = set.with(*capability);
        }
    }
    set
}

/// What a client is told that it can have, of what the server said, with TLS as we have it.
pub fn offered(server: Capabilities, tls: bool) -> Capabilities {
    let passed = server.and(all(&[Passes, Wanted]));
    if tls { passed.with(Capabilities::SSL) } else { passed }
}

/// What is in force with the client: what it said, of what was offered. What decides only the form of the login counts as it was said.
pub fn agreed(said: Capabilities, offered: Capabilities) -> Capabilities {
    said.and(offered)
}

/// What the server is told that the client can, given what was agreed with the client.
pub fn asked(agreed: Capabilities, server: Capabilities, tls: bool) -> Capabilities {
    let wanted = server.and(all(&[Wanted]));
    let asked = agreed.and(all(&[Passes, Wanted])).with(wanted);
    if tls { asked.with(Capabilities::SSL) } else { asked }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_capability_is_passed_or_masked_in_both_directions() {
        let everything = Capabilities(u64::MAX);
        let masked = ["COMPRESS", "OPTIONAL_METADATA", "ZSTD"];
        for (capability, name, passage, why) in PASSED {
            assert!(!why.is_empty() && capability.0.count_ones() == 1, "{name}");
            let passes = !masked.contains(name) && *name != "SSL";
            assert_eq!(offered(everything, false).has(*capability), passes, "{name} towards the client");
            assert_eq!(asked(everything, everything, false).has(*capability), passes, "{name} towards the server");
            let wanted = *passage == Wanted;
            assert_eq!(asked(Capabilities(0), everything, false).has(*capability), wanted, "{name} unasked");
            assert!(!asked(everything, Capabilities(0), false).has(Capabilities::SSL), "{name}");
        }
        let known = PASSED.iter().fold(0, |known, (capability, ..)| known | capability.0);
        assert_eq!(known.count_ones() as usize, PASSED.len(), "none stands there twice");
        assert_eq!(offered(everything, true).0 & !known, 0, "what is not in the table is masked");
        assert_eq!(asked(everything, everything, true).0 & !known, 0);
    }

    #[test]
    fn tls_is_each_legs_own() {
        assert!(offered(Capabilities(0), true).has(Capabilities::SSL));
        assert!(!offered(Capabilities::SSL, false).has(Capabilities::SSL));
        assert!(asked(Capabilities(0), Capabilities::SSL, true).has(Capabilities::SSL));
        assert!(!asked(Capabilities::SSL, Capabilities::SSL, false).has(Capabilities::SSL));
    }
}
