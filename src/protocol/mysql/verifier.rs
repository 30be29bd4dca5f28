//! What a server keeps of a password, read from `mysql.user.authentication_string`, and a client's proof held against it.
//!
//! | plugin | what is kept | what the client shows |
//! |---|---|---|
//! | caching_sha2_password | `$A$005$`, a salt of 20 bytes, 43 characters of crypt(3)'s SHA-256 | the password itself, over TLS or under a key of ours |
//! | mysql_native_password | `*` and SHA1(SHA1(password)) in 40 digits | a proof made with the scramble |
//! | ed25519 (MariaDB) | a public key in 43 characters of base64 | a signature of the scramble |
//!
//! caching_sha2_password has a proof of its own, too. It is not asked for: to check it a server must remember SHA256(SHA256(password)), from
//! which and from a proof that somebody overheard one can log in, and which is found out from a password in two rounds instead of thousands.
//!
//! Invariant: what is kept is never taken for a password, nor is an empty password for one; comparisons take the same time whatever differs; nothing
//! of it shows itself.
//!
//! Source: `deserialize` (sql/auth/sha2_password.cc, MySQL 9.7), `check_scramble` (sql/password.cc) and plugin/auth_ed25519 of MariaDB 10.11.

use crate::ground::limits;
use crate::ground::secret::{HashKey, unhex};
use crate::protocol::mysql::crypt;
use crate::protocol::mysql::handshake::{CACHING_SHA2, ED25519, NATIVE, SCRAMBLE};
use crate::protocol::mysql::proof::{over, sha1};
use aws_lc_rs::signature::{self, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use subtle::ConstantTimeEq;

#[derive(Clone, PartialEq, Eq)]
pub enum Verifier {
    Sha2(Sha2),
    /// SHA1(SHA1(password)).
    Native([u8; SHA1_BYTES]),
    Ed25519([u8; NONCE]),
}

/// Of caching_sha2_password.
#[derive(Clone, PartialEq, Eq)]
pub struct Sha2 {
    rounds: u32,
    salt: [u8; SALT],
    digest: [u8; crypt::TEXT],
}

/// What can be told of a verifier from outside: the plugin by the words, and the rounds by the time that they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Sha2 { rounds: u32 },
    Native,
    Ed25519,
}

/// What ed25519 signs; MariaDB sends no NUL behind it.
pub const NONCE: usize = 32;
/// Of MySQL, unless `caching_sha2_password_digest_rounds` says otherwise.
pub const ROUNDS: u32 = 5_000;

const SHA1_BYTES: usize = 20;
const SALT: usize = 20;

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Verifier({:?})", self.kind())
    }
}

impl Verifier {
    /// As a server has it, or the same as `0x` and digits: a salt may hold any character, line ends and quotes included.
    pub fn parse(text: &str) -> Option<Verifier> {
        let kept = match text.strip_prefix("0x") {
            Some(digits) => unhex(digits)?,
            None => text.as_bytes().to_vec(),
        };
        if let Some(rest) = kept.strip_prefix(b"$A$") {
            return Sha2::parse(rest).map(Verifier::Sha2);
        }
        if let Some(digits) = kept.strip_prefix(b"*") {
            let bytes = unhex(std::str::from_utf8(digits).ok()?)?;
            return bytes.try_into().ok().map(Verifier::Native);
        }
        let key = BASE64_STANDARD_NO_PAD.decode(&kept).ok()?;
        key.try_into().ok().map(Verifier::Ed25519)
    }

    pub fn kind(&self) -> Kind {
        match self {
            Verifier::Sha2(Sha2 { rounds, .. }) => Kind::Sha2 { rounds: *rounds },
            Verifier::Native(_) => Kind::Native,
            Verifier::Ed25519(_) => Kind::Ed25519,
        }
    }

    /// For a name that nobody has: takes as long as a real one of its kind, and nothing fits it.
    pub fn mock(kind: Kind, secret: &HashKey, user: &str) -> Verifier {
        let bytes: [u8; 32] = secret.derive(user).expose().try_into().unwrap_or([0; 32]);
        match kind {
            Kind::Sha2 { rounds } => {
                let salt = std::array::from_fn(|at| bytes[at]);
                Verifier::Sha2(Sha2 { rounds, salt, digest: [b'.'; crypt::TEXT] })
            }
            Kind::Native => Verifier::Native(sha1(&[&bytes])),
            // A point on the curve: with another the check would be over sooner.
            Kind::Ed25519 => {
                let public = Ed25519KeyPair::from_seed_unchecked(&bytes).map(|pair| pair.public_key().clone());
                let public = public.ok().and_then(|key| key.as_ref().try_into().ok());
                Verifier::Ed25519(public.unwrap_or(bytes))
            }
        }
    }
}

impl Kind {
    pub fn plugin(self) -> &'static [u8] {
        match self {
            Kind::Sha2 { .. } => CACHING_SHA2,
            Kind::Native => NATIVE,
            Kind::Ed25519 => ED25519,
        }
    }
}

impl Sha2 {
    /// What stands behind `$A$`: the rounds by the thousand, in three hexadecimal digits.
    fn parse(rest: &[u8]) -> Option<Sha2> {
        let (thousands, rest) = rest.split_at_checked(3)?;
        let (salt, digest) = rest.strip_prefix(b"$")?.split_at_checked(SALT)?;
        let digits =
            std::str::from_utf8(thousands).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        let rounds = u32::from_str_radix(digits, 16).ok()? * 1_000;
        let is_written = digest.iter().all(|byte| crypt::ALPHABET.contains(byte));
        let fits = (1..=limits::SHA2_ROUNDS_MAX).contains(&rounds) && is_written;
        fits.then_some(Sha2 { rounds, salt: salt.try_into().ok()?, digest: digest.try_into().ok()? })
    }

    /// Whether this is the password. Takes milliseconds: not on the thread that serves others.
    pub fn fits(&self, password: &[u8]) -> bool {
        if password.is_empty() || password.len() > limits::SHA2_PASSWORD_BYTES_MAX {
            return false;
        }
        crypt::sha256(password, &self.salt, self.rounds).ct_eq(&self.digest).into()
    }
}

/// Whether this proof was made with the password of which `twice` is kept: what it was mixed with taken off, SHA1 of the rest must be that.
pub fn native_fits(twice: &[u8; SHA1_BYTES], proof: &[u8], scramble: &[u8; SCRAMBLE]) -> bool {
    // An empty one would compare nothing with nothing.
    if proof.len() != SHA1_BYTES {
        return false;
    }
    let once = over(proof, &sha1(&[scramble, twice]));
    sha1(&[&once]).ct_eq(twice).into()
}

/// Whether this is the signature of the nonce.
pub fn ed25519_fits(public: &[u8; NONCE], signed: &[u8], nonce: &[u8; NONCE]) -> bool {
    UnparsedPublicKey::new(&signature::ED25519, public).verify(nonce, signed).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::secret::hex;
    use crate::protocol::mysql::proof;

    const SCRAMBLED: &[u8; SCRAMBLE] = b"abcdefghijklmnopqrst";
    /// As MySQL 9.7 keeps `secret`, with a salt of its own making.
    const KEPT: &str = "$A$00A$\x13(r5<6\x01G'j\x10\x043Sq\x150ed-YFRHp3EScqpTlAwFnj/Z9s3Rm1RiYQM9c12Vu9PE53C";
    const NATIVE_KEPT: &str = "*14E65567ABDB5135D0CFD9A70B3032C179A49EE7";
    /// As MariaDB 10.11 keeps `secret`.
    const ED25519_KEPT: &str = "ZIgUREUg5PVgQ6LskhXmO+eZLS0nC8be6HPjYWR4YJY";

    #[test]
    fn what_servers_keep_is_read_as_it_stands_and_in_digits() {
        for (kept, kind) in
            [(KEPT, Kind::Sha2 { rounds: 10_000 }), (NATIVE_KEPT, Kind::Native), (ED25519_KEPT, Kind::Ed25519)]
        {
            let verifier = Verifier::parse(kept).expect(kept);
            assert_eq!(verifier.kind(), kind);
            assert_eq!(Verifier::parse(&format!("0x{}", hex(kept.as_bytes()))), Some(verifier.clone()));
            assert!(!format!("{verifier:?}").contains(&kept[10..20]));
        }
        for wrong in [
            "",
            "secret",
            "*",
            "*14E6",
            "0x",
            "0xzz",
            "$A$005$short",
            "$5$saltsaltsaltsaltsalt$x",
            &KEPT[..KEPT.len() - 1],
            &KEPT.replace("00A", "000"),
            &KEPT.replace("00A", "FFF"),
            &KEPT.replace("00A", "+0A"),
            &KEPT.replace("53C", "53!"),
            &format!("{NATIVE_KEPT}0"),
            &format!("{ED25519_KEPT}="),
        ] {
            assert_eq!(Verifier::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_password_fits_and_nothing_else_does() {
        let Some(Verifier::Sha2(kept)) = Verifier::parse(KEPT) else { panic!() };
        assert!(kept.fits(b"secret"));
        for wrong in ["", "Secret", "secret\0", KEPT, &"x".repeat(257)] {
            assert!(!kept.fits(wrong.as_bytes()), "{wrong:?}");
        }
        let Some(Verifier::Native(kept)) = Verifier::parse(NATIVE_KEPT) else { panic!() };
        let right = proof::native(b"secret", SCRAMBLED);
        assert!(native_fits(&kept, &right, SCRAMBLED));
        assert!(!native_fits(&kept, &right, b"another scramble ..."), "of another login");
        // What is kept, in whatever form, is no password; and whoever knows it alone cannot make a proof of it.
        for wrong in [&b""[..], b"Secret", NATIVE_KEPT.as_bytes(), &kept] {
            assert!(!native_fits(&kept, &proof::native(wrong, SCRAMBLED), SCRAMBLED), "{wrong:?}");
        }
        for wrong in [&right[1..], &[&right[..], b"x"].concat(), &kept, &[0; 20]] {
            assert!(!native_fits(&kept, wrong, SCRAMBLED), "{wrong:?}");
        }
    }

    #[test]
    fn a_signature_fits_its_own_nonce() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a key");
        let public: [u8; 32] = pair.public_key().as_ref().try_into().expect("32 bytes");
        let signed = pair.sign(&[1; 32]);
        assert!(ed25519_fits(&public, signed.as_ref(), &[1; 32]));
        assert!(!ed25519_fits(&public, signed.as_ref(), &[2; 32]), "of another login");
        for wrong in [&b""[..], &[0; 64], &public, &signed.as_ref()[1..]] {
            assert!(!ed25519_fits(&public, wrong, &[1; 32]), "{wrong:?}");
        }
    }

    #[test]
    fn strangers_are_met_with_what_never_fits() {
        let secret = HashKey::from_bytes(&[5; 32]).expect("a key");
        for kind in [Kind::Sha2 { rounds: 1_000 }, Kind::Native, Kind::Ed25519] {
            let mock = Verifier::mock(kind, &secret, "nobody");
            assert!(mock.kind() == kind && mock == Verifier::mock(kind, &secret, "nobody"), "the same each time");
            assert_ne!(mock, Verifier::mock(kind, &secret, "somebody"));
            if let Verifier::Sha2(kept) = mock {
                assert!(!kept.fits(b"nobody"));
            }
        }
    }
}
