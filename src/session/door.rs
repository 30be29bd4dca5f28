//! What stands at a listener's door: the certificate that it shows, and how clients prove who they are. Swapped whole at a reload;
//! who is logging in then is met by the old one to the end.
//!
//! Invariant: everything here was read and understood before it stood here, secrets included; a login reads no file.

use crate::ground::limits;
use crate::ground::secret::{HashKey, Secret};
use crate::protocol::postgres::scram::{self, Verifier};
use crate::session::tries::Bounds;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

pub struct Door {
    pub tls: Option<Shown>,
    pub demands: Demands,
    pub logins: Logins,
}

/// What a client must have before it is asked for a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demands {
    Nothing,
    Tls,
}

/// The certificate that clients see.
#[derive(Clone)]
pub struct Shown {
    pub acceptor: TlsAcceptor,
    /// What SCRAM binds to it; none where its signature names no digest.
    pub end_point: Option<Bytes>,
}

pub enum Logins {
    /// The database decides; the conversation is passed on.
    Passthrough,
    Checked(Arc<Checked>),
}

/// Sluice decides who a client is; the database still decides what it may do.
pub struct Checked {
    pub proof: Proof,
    pub accounts: HashMap<String, Account>,
    pub bounds: Bounds,
}

pub enum Proof {
    Scram(Verifiers),
    /// A certificate that the listener's authority signed.
    Certificate(Vec<CertificateName>),
}

/// Against what a SCRAM proof is checked.
pub struct Verifiers {
    pub users: Users,
    pub query: Option<AuthQuery>,
    pub mock: Mock,
}

/// A user whose secret at the database Sluice alone knows.
pub struct Account {
    pub upstream_user: String,
    pub password: Password,
}

pub struct AuthQuery {
    pub user: String,
    pub password: Option<Password>,
    pub database: String,
    pub query: String,
}

/// Who may log in with a certificate; `None` is anybody.
pub struct CertificateName {
    pub name: Option<String>,
    pub users: Vec<Option<String>>,
}

/// Whether a certificate of this name may log in as this user. Exact, as PostgreSQL compares them: no case is folded. Without any
/// entry the two must be the same.
pub fn may_be(names: &[CertificateName], certificate: &str, user: &str) -> bool {
    let fits = |pattern: &Option<String>, text: &str| pattern.as_deref().is_none_or(|exact| exact == text);
    match names {
        [] => certificate == user,
        names => names
            .iter()
            .any(|entry| fits(&entry.name, certificate) && entry.users.iter().any(|pattern| fits(pattern, user))),
    }
}

/// Wiped when it goes, and never shown.
pub type Password = Secret<Zeroizing<String>>;

/// What is known of a user's password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    Verifier(Verifier),
    /// Nothing that a proof could be checked against; why, for the operator alone.
    Nothing(&'static str),
}

impl Stored {
    pub fn parse(text: &str) -> Stored {
        match text {
            "" => Stored::Nothing("the user has no password"),
            md5 if md5.len() == 35 && md5.starts_with("md5") => Stored::Nothing(
                "the user's password is kept as MD5; set it anew with password_encryption = scram-sha-256",
            ),
            text => Verifier::parse(text)
                .map_or(Stored::Nothing("the user's password is kept in an unknown form"), Stored::Verifier),
        }
    }
}

/// What a user without a verifier is asked with, so that nobody outside can tell.
pub struct Mock {
    secret: HashKey,
    /// As the last real verifier had it: a database has one setting for all.
    iterations: AtomicU32,
}

impl Mock {
    pub fn new(secret: HashKey, users: &Users) -> Mock {
        let iterations = users.iterations().unwrap_or(scram::ITERATIONS);
        Mock { secret, iterations: AtomicU32::new(iterations) }
    }

    pub fn saw(&self, verifier: &Verifier) {
        self.iterations.store(verifier.iterations(), Ordering::Relaxed);
    }

    pub fn verifier(&self, user: &str) -> Verifier {
        Verifier::mock(self.secret.expose(), user, self.iterations.load(Ordering::Relaxed))
    }
}

/// A users file: lines of `"name" "verifier"`, as PgBouncer's `auth_file` has them. Empty lines and those that begin with `;` or
/// `#` are passed over.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Users(HashMap<String, Stored>);

impl Users {
    /// All of it or nothing; the error names the line and repeats nothing of it, as it may hold a password.
    pub fn parse(text: &str) -> Result<Users, String> {
        let mut users = HashMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with([';', '#']) {
                continue;
            }
            let wrong = |why: &str| format!("line {}: {why}", number + 1);
            let (name, rest) = quoted(line).ok_or_else(|| wrong("expected \"user\" \"SCRAM-SHA-256$…\""))?;
            let (kept, rest) =
                quoted(rest.trim_start()).ok_or_else(|| wrong("expected a verifier in quotes after the user"))?;
            if !rest.trim().is_empty() {
                return Err(wrong("expected nothing after the verifier"));
            }
            if name.is_empty() || name.len() > limits::USER_NAME_BYTES_MAX {
                return Err(wrong(&format!("a user's name has 1 to {} bytes", limits::USER_NAME_BYTES_MAX)));
            }
            let stored = Stored::parse(&kept);
            if matches!(stored, Stored::Nothing(why) if why.ends_with("unknown form")) {
                return Err(wrong("not a SCRAM-SHA-256 verifier; passwords themselves do not belong into this file"));
            }
            if users.insert(name, stored).is_some() {
                return Err(wrong("the user stands in an earlier line already"));
            }
        }
        Ok(Users(users))
    }

    pub fn get(&self, user: &str) -> Option<&Stored> {
        self.0.get(user)
    }

    /// What most of its verifiers have.
    fn iterations(&self) -> Option<u32> {
        let mut counts: HashMap<u32, usize> = HashMap::new();
        for stored in self.0.values() {
            if let Stored::Verifier(verifier) = stored {
                *counts.entry(verifier.iterations()).or_default() += 1;
            }
        }
        counts.into_iter().max_by_key(|(iterations, count)| (*count, *iterations)).map(|(iterations, _)| iterations)
    }
}

/// A word in quotes at the front, doubled quotes standing for one, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('"')?;
    let mut word = String::new();
    loop {
        let (part, behind) = rest.split_once('"')?;
        word.push_str(part);
        match behind.strip_prefix('"') {
            Some(more) => {
                word.push('"');
                rest = more;
            }
            None => return Some((word, behind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    #[test]
    fn a_users_file_is_read() {
        let text = format!(
            "; people\n\"anna\" \"{VERIFIER}\"\n\n  \"o\"\"hara\"\t\"{VERIFIER}\"\n# gone\n\"berta\" \"\"\n\"old\" \"md5{}\"\n",
            "a".repeat(32)
        );
        let users = Users::parse(&text).expect("a good file");
        for user in ["anna", "o\"hara"] {
            assert!(matches!(users.get(user), Some(Stored::Verifier(_))), "{user}");
        }
        for user in ["berta", "old"] {
            assert!(matches!(users.get(user), Some(Stored::Nothing(_))), "{user}");
        }
        assert_eq!(users.get("Anna"), None);
        assert_eq!(users.iterations(), Some(4096));
    }

    #[test]
    fn a_wrong_line_is_named_and_not_repeated() {
        for (line, expected) in [
            ("anna", "line 2: expected \"user\""),
            ("\"anna\"", "line 2: expected a verifier"),
            ("\"anna\" \"hunter2\"", "line 2: not a SCRAM-SHA-256 verifier"),
            ("\"anna\" \"\" more", "line 2: expected nothing"),
            ("\"\" \"\"", "line 2: a user's name"),
            ("\"twice\" \"\"", "line 2: the user stands"),
            ("\"anna", "line 2: expected"),
        ] {
            let error = Users::parse(&format!("\"twice\" \"\"\n{line}")).expect_err(line);
            assert!(error.starts_with(expected) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_certificate_is_who_the_entries_say() {
        let entry = |name: Option<&str>, users: &[Option<&str>]| CertificateName {
            name: name.map(str::to_owned),
            users: users.iter().map(|user| user.map(str::to_owned)).collect(),
        };
        assert!(may_be(&[], "anna", "anna"));
        assert!(!may_be(&[], "anna", "Anna"));
        let names = [
            entry(Some("anna"), &[Some("anna"), Some("reader")]),
            entry(None, &[Some("guest")]),
            entry(Some("root"), &[None]),
        ];
        for (certificate, user, expected) in [
            ("anna", "reader", true),
            ("anna", "postgres", false),
            ("berta", "berta", false),
            ("berta", "guest", true),
            ("root", "anybody", true),
            ("root ", "anybody", false),
            ("*", "anybody", false),
            ("anna", "*", false),
        ] {
            assert_eq!(may_be(&names, certificate, user), expected, "{certificate} as {user}");
        }
    }
}
