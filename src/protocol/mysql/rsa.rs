//! A password under a server's public key, as MySQL's SHA-2 plugins send it where there is no TLS: over the scramble, then RSA with OAEP.
//!
//! Sluice is either end of it where one of its legs has TLS and the other has not.
//!
//! Invariant: what was decrypted is wiped when it goes; whatever is wrong with a ciphertext, the answer is the same.
//!
//! Source: `sha256_password_auth_client` and `encrypt_RSA_public_key` (sql-common/client_authentication.cc, MySQL 9.7).

use crate::protocol::cursor::Short;
use crate::protocol::mysql::handshake::SCRAMBLE;
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey,
    PublicEncryptingKey,
};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use zeroize::Zeroizing;

/// A password with the NUL that ends it on the wire.
pub type Password = Zeroizing<Vec<u8>>;

/// A pair of keys of our own, made anew with each process: clients ask for the public one.
pub struct Keys {
    private: OaepPrivateDecryptingKey,
    pem: Bytes,
}

impl Keys {
    /// Takes a tenth of a second of a core, or several.
    pub fn generate() -> Result<Keys, Unspecified> {
        let private = PrivateDecryptingKey::generate(KeySize::Rsa2048)?;
        let der: PublicKeyX509Der<'_> = private.public_key().as_der()?;
        let pem = pem(der.as_ref());
        Ok(Keys { private: OaepPrivateDecryptingKey::new(private)?, pem })
    }

    /// The public key in the form in which servers send theirs.
    pub fn public(&self) -> &Bytes {
        &self.pem
    }

    /// The password that a client encrypted with it.
    pub fn decrypt(&self, ciphertext: &[u8], scramble: &[u8; SCRAMBLE]) -> Result<Password, Short> {
        let mut plain = Zeroizing::new(vec![0; self.private.key_size_bytes()]);
        let length =
            self.private.decrypt(&OAEP_SHA1_MGF1SHA1, ciphertext, &mut plain, None).map_err(|Unspecified| Short)?.len();
        plain.truncate(length);
        over(&mut plain, scramble);
        match plain.split_last() {
            Some((0, password)) if !password.contains(&0) => Ok(plain),
            _ => Err(Short),
        }
    }
}

/// The password under a server's key. `Short`: the key is none, or the password too long for it.
pub fn encrypt(password: &Password, public: &[u8], scramble: &[u8; SCRAMBLE]) -> Result<Bytes, Short> {
    let key = PublicEncryptingKey::from_der(&der(public)?).map_err(|_| Short)?;
    let key = OaepPublicEncryptingKey::new(key).map_err(|Unspecified| Short)?;
    let mut mixed = password.clone();
    over(&mut mixed, scramble);
    let mut out = vec![0; key.ciphertext_size()];
    let encrypted = key.encrypt(&OAEP_SHA1_MGF1SHA1, &mixed, &mut out, None);
    encrypted.map(|bytes| Bytes::copy_from_slice(bytes)).map_err(|Unspecified| Short)
}

fn over(password: &mut [u8], scramble: &[u8; SCRAMBLE]) {
    password.iter_mut().zip(scramble.iter().cycle()).for_each(|(byte, with)| *byte ^= with);
}

const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";

fn pem(der: &[u8]) -> Bytes {
    let text = BASE64_STANDARD.encode(der);
    let mut lines = vec![BEGIN];
    let mut rest = text.as_str();
    while let Some((line, behind)) = rest.split_at_checked(rest.len().min(64)).filter(|(line, _)| !line.is_empty()) {
        lines.push(line);
        rest = behind;
    }
    lines.extend([END, ""]);
    Bytes::from(lines.join("\n"))
}

fn der(pem: &[u8]) -> Result<Vec<u8>, Short> {
    let text = std::str::from_utf8(pem).map_err(|_| Short)?;
    let (_, behind) = text.split_once(BEGIN).ok_or(Short)?;
    let (inside, _) = behind.split_once(END).ok_or(Short)?;
    let packed: String = inside.chars().filter(|char| !char.is_ascii_whitespace()).collect();
    BASE64_STANDARD.decode(packed).map_err(|_| Short)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRAMBLED: &[u8; SCRAMBLE] = b"abcdefghijklmnopqrst";

    fn password(text: &str) -> Password {
        Zeroizing::new(format!("{text}\0").into_bytes())
    }

    #[test]
    fn what_is_encrypted_is_decrypted_under_the_same_scramble_only() {
        let keys = Keys::generate().expect("keys");
        for text in ["secret", &"long ".repeat(40)] {
            let sent = encrypt(&password(text), keys.public(), SCRAMBLED).expect("encrypted");
            assert_eq!(keys.decrypt(&sent, SCRAMBLED), Ok(password(text)));
            assert_eq!(keys.decrypt(&sent, b"ANOTHER SCRAMBLE ---"), Err(Short));
            assert_eq!(keys.decrypt(&sent[1..], SCRAMBLED), Err(Short));
        }
        assert_eq!(encrypt(&password(&"x".repeat(300)), keys.public(), SCRAMBLED), Err(Short), "too long");
        assert_eq!(encrypt(&password("x"), b"no key", SCRAMBLED), Err(Short));
        assert!(keys.public().starts_with(BEGIN.as_bytes()) && keys.public().ends_with(b"-----\n"));
    }
}
