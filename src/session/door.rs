//! What stands at a listener's door: the certificate that it shows, and how clients prove who they are. Swapped whole at a reload;
//! who is logging in then is met by the old one to the end.
//!
//! Invariant: everything here was read and understood before it stood here, secrets included; a login reads no file.

use crate::ground::limits;
use crate::ground::secret::{HashKey, Secret};
use crate::protocol::mysql::verifier::{self, Kind};
use crate::protocol::postgres::scram::{self, Verifier};
use crate::session::tries::Bounds;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
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
    /// What MySQL's plugins show of a password, each against what a server of its kind keeps.
    Password(Passwords),
    /// A certificate that the listener's authority signed.
    Certificate(Vec<CertificateName>),
}

/// Against what a SCRAM proof is checked.
pub struct Verifiers {
    pub users: Users,
    pub query: Option<AuthQuery>,
    pub mock: Mock,
}

/// Against what a client of MySQL's protocol is checked.
pub struct Passwords {
    users: Users<verifier::Verifier>,
    secret: HashKey,
    /// What kinds there are among the users, and how many of each.
    kinds: Vec<(Kind, u32)>,
    /// One password at a time is tried out: it takes milliseconds of a core, and strangers could else take all cores from everybody.
    pub trying: tokio::sync::Mutex<()>,
}

impl Passwords {
    pub fn new(secret: HashKey, users: Users<verifier::Verifier>) -> Passwords {
        let kinds = users.counted(verifier::Verifier::kind);
        Passwords { users, secret, kinds, trying: tokio::sync::Mutex::default() }
    }

    /// The plugin that most are asked by.
    pub fn plugin(&self) -> &'static [u8] {
        let most = self.kinds.iter().max_by_key(|(_, count)| *count);
        most.map_or(Kind::Sha2 { rounds: verifier::ROUNDS }, |(kind, _)| *kind).plugin()
    }

    /// What is known of this user, or made up; and why nothing is known, for the operator alone.
    pub fn of(&self, user: &str) -> (verifier::Verifier, Option<&'static str>) {
        // Made in any case: a user who exists must not be answered sooner.
        let mock = verifier::Verifier::mock(self.kind_of_stranger(user), &self.secret, user);
        match self.users.get(user) {
            Some(Stored::Verifier(verifier)) => (verifier.clone(), None),
            Some(Stored::Nothing(why)) => (mock, Some(why)),
            None => (mock, Some("no such user in the users file")),
        }
    }

    /// Strangers have kinds in the proportions that users have them, each name always the same: MySQL does so, too (`decoy_user`).
    fn kind_of_stranger(&self, user: &str) -> Kind {
        let all: u64 = self.kinds.iter().map(|(_, count)| u64::from(*count)).sum();
        let derived = self.secret.derive(user);
        let chance = derived.expose().iter().take(4).fold(0, |chance, byte| chance << 8 | u64::from(*byte));
        let mut place = (chance * all) >> 32;
        for (kind, count) in &self.kinds {
            match place.checked_sub(u64::from(*count)) {
                Some(behind) => place = behind,
                None => return *kind,
            }
        }
        Kind::Sha2 { rounds: verifier::ROUNDS }
    }
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
pub enum Stored<V = Verifier> {
    Verifier(V),
    /// Nothing that a proof could be checked against; why, for the operator alone.
    Nothing(&'static str),
}

/// What a users file can hold.
pub trait Kept: Sized {
    /// How an error calls it, with its article.
    const CALLED: &'static str;
    /// `None`: it is in an unknown form.
    fn kept(text: &str) -> Option<Stored<Self>>;
}

impl Kept for Verifier {
    const CALLED: &'static str = "a SCRAM-SHA-256 verifier";

    fn kept(text: &str) -> Option<Stored> {
        Some(Stored::parse(text)).filter(|stored| !matches!(stored, Stored::Nothing(why) if *why == UNKNOWN_FORM))
    }
}

impl Kept for verifier::Verifier {
    const CALLED: &'static str = "an authentication_string of caching_sha2_password, mysql_native_password or ed25519";

    fn kept(text: &str) -> Option<Stored<verifier::Verifier>> {
        match text {
            "" | "0x" => Some(Stored::Nothing("the user has no password")),
            text => verifier::Verifier::parse(text).map(Stored::Verifier),
        }
    }
}

const UNKNOWN_FORM: &str = "the user's password is kept in an unknown form";

impl Stored {
    pub fn parse(text: &str) -> Stored {
        match text {
            "" => Stored::Nothing("the user has no password"),
            md5 if md5.len() == 35 && md5.starts_with("md5") => Stored::Nothing(
                "the user's password is kept as MD5; set it anew with password_encryption = scram-sha-256",
            ),
            text => Verifier::parse(text).map_or(Stored::Nothing(UNKNOWN_FORM), Stored::Verifier),
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
#[derive(Debug, PartialEq, Eq)]
pub struct Users<V = Verifier>(HashMap<String, Stored<V>>);

impl<V> Default for Users<V> {
    fn default() -> Users<V> {
        Users(HashMap::new())
    }
}

impl<V: Kept> Users<V> {
    /// All of it or nothing; the error names the line and repeats nothing of it, as it may hold a password.
    pub fn parse(text: &str) -> Result<Users<V>, String> {
        let mut users = HashMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with([';', '#']) {
                continue;
            }
            let wrong = |why: &str| format!("line {}: {why}", number + 1);
            let (name, rest) = quoted(line).ok_or_else(|| wrong("expected \"user\" \"verifier\""))?;
            let (kept, rest) =
                quoted(rest.trim_start()).ok_or_else(|| wrong("expected a verifier in quotes after the user"))?;
            if !rest.trim().is_empty() {
                return Err(wrong("expected nothing after the verifier"));
            }
            if name.is_empty() || name.len() > limits::USER_NAME_BYTES_MAX {
                return Err(wrong(&format!("a user's name has 1 to {} bytes", limits::USER_NAME_BYTES_MAX)));
            }
            let stored = V::kept(&kept).ok_or_else(|| {
                wrong(&format!("not {}; passwords themselves do not belong into this file", V::CALLED))
            })?;
            if users.insert(name, stored).is_some() {
                return Err(wrong("the user stands in an earlier line already"));
            }
        }
        Ok(Users(users))
    }

    pub fn get(&self, user: &str) -> Option<&Stored<V>> {
        self.0.get(user)
    }

    /// How many of its verifiers are alike in this.
    fn counted<T: Ord>(&self, of: impl Fn(&V) -> T) -> Vec<(T, u32)> {
        let mut counts: BTreeMap<T, u32> = BTreeMap::new();
        for stored in self.0.values() {
            if let Stored::Verifier(verifier) = stored {
                *counts.entry(of(verifier)).or_default() += 1;
            }
        }
        counts.into_iter().collect()
    }
}

impl Users {
    /// What most of its verifiers have.
    fn iterations(&self) -> Option<u32> {
        let most = self.counted(Verifier::iterations).into_iter().max_by_key(|(_, count)| *count);
        most.map(|(iterations, _)| iterations)
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
        let users = Users::<Verifier>::parse(&text).expect("a good file");
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
            let error = Users::<Verifier>::parse(&format!("\"twice\" \"\"\n{line}")).expect_err(line);
            assert!(error.starts_with(expected) && !error.contains("hunter2"), "{error}");
        }
    }

    const NATIVE: &str = "*14E65567ABDB5135D0CFD9A70B3032C179A49EE7";

    #[test]
    fn a_users_file_for_mysql_is_read() {
        let users = |text: &str| Users::<verifier::Verifier>::parse(text);
        let good =
            users(&format!("# people\n\"anna\" \"{NATIVE}\"\n\"berta\" \"\"\n\"carla\" \"0x\"")).expect("a good file");
        assert!(matches!(good.get("anna"), Some(Stored::Verifier(_))));
        for user in ["berta", "carla"] {
            assert_eq!(good.get(user), Some(&Stored::Nothing("the user has no password")), "{user}");
        }
        for kept in ["hunter2", VERIFIER, "$5$aaaaaaaaaaaaaaaaaaaa$bbb"] {
            let error = users(&format!("\"anna\" \"{kept}\"")).expect_err(kept);
            assert!(error.starts_with("line 1: not an authentication_string") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn strangers_are_asked_as_users_are() {
        let secret = || HashKey::from_bytes(&[5; 32]).expect("a key");
        let of = |text: &str| Passwords::new(secret(), Users::parse(text).expect("a good file"));
        let key = "ZIgUREUg5PVgQ6LskhXmO+eZLS0nC8be6HPjYWR4YJY";
        let nobody = of("");
        assert!((0..99).all(|name| nobody.of(&name.to_string()).0.kind() == Kind::Sha2 { rounds: verifier::ROUNDS }));
        let alike = of(&format!("\"anna\" \"{NATIVE}\""));
        assert!((0..99).all(|name| alike.of(&name.to_string()).0.kind() == Kind::Native));
        assert_eq!((alike.plugin(), nobody.plugin()), (&b"mysql_native_password"[..], &b"caching_sha2_password"[..]));
        let mixed =
            of(&format!("\"a\" \"{NATIVE}\"\n\"b\" \"{NATIVE}\"\n\"c\" \"{NATIVE}\"\n\"d\" \"{key}\"\n\"e\" \"\""));
        let count = (0..1_000).filter(|name| mixed.of(&name.to_string()).0.kind() == Kind::Ed25519).count();
        assert!((150..350).contains(&count), "a quarter: {count}");
        assert_eq!(
            (mixed.of("a").1, mixed.of("nobody").1.is_some(), mixed.of("e").1),
            (None, true, Some("the user has no password"))
        );
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
