//! How a client of MySQL proves who it is: mysql_native_password, caching_sha2_password and sha256_password, with TLS and without.
//!
//! Invariant: every packet that is heard before the login is over is kept apart ([`MyWire::greeted`]), for there alone connections differ.
//! (ed25519 and what else there is comes by real clients.)

use super::packet::{self, CONNECT_ATTRS, CONNECT_WITH_DB, Failure, Fine, Greeting, TLS, USUAL, nul_terminated};
use super::wire::MyWire;
use crate::harness::wire::Address;
use aws_lc_rs::{digest, rsa};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;

/// Who logs in, and how.
#[derive(Clone)]
pub struct Login<'a> {
    pub user: &'a str,
    pub password: &'a str,
    pub database: &'a str,
    /// Those that the server does not offer are not asked for, unless it insists.
    pub capabilities: u64,
    pub insists: bool,
    pub attributes: &'a [(&'a str, &'a str)],
    pub charset: u8,
    pub encryption: Encryption,
    /// What it claims to be used to; `None`: whatever the server's greeting names.
    pub plugin: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    Plain,
    Tls,
}

impl<'a> Login<'a> {
    /// Without a password, a database or TLS, and with what current clients ask for.
    pub fn of(user: &'a str) -> Login<'a> {
        Login {
            user,
            password: "",
            database: "",
            capabilities: USUAL,
            insists: false,
            attributes: &[("_client_name", "story")],
            // utf8mb4_general_ci, which both products know: to what MariaDB 10.11 does not (255), COM_RESET_CONNECTION gives the character
            // set of whoever had the thread before.
            charset: 45,
            encryption: Encryption::Plain,
            plugin: None,
        }
    }

    pub fn on(self, database: &'a str) -> Login<'a> {
        Login { database, ..self }
    }

    pub fn with_password(self, password: &'a str) -> Login<'a> {
        Login { password, ..self }
    }

    pub fn asking_for(self, capabilities: u64) -> Login<'a> {
        Login { capabilities, ..self }
    }

    pub fn insisting(self) -> Login<'a> {
        Login { insists: true, ..self }
    }

    pub fn over(self, encryption: Encryption) -> Login<'a> {
        Login { encryption, ..self }
    }
}

impl MyWire {
    pub fn login(address: &Address, login: &Login) -> MyWire {
        MyWire::try_login(address, login).unwrap_or_else(|failure| panic!("{}: {failure:?}", login.user))
    }

    /// Hands back what the other side says against it.
    pub fn try_login(address: &Address, login: &Login) -> Result<MyWire, Failure> {
        let mut wire = MyWire::open(address);
        let first = wire.message().unwrap_or_else(|| panic!("{address:?} closes instead of greeting"));
        if first[0] == 0xff {
            return Err(Failure::read(&first));
        }
        let greeting = Greeting::read(&first);
        let mut capabilities = login.capabilities;
        if !login.database.is_empty() {
            capabilities |= CONNECT_WITH_DB;
        }
        if login.encryption == Encryption::Tls {
            capabilities |= TLS;
        }
        wire.capabilities = if login.insists { capabilities } else { capabilities & greeting.capabilities };
        if login.encryption == Encryption::Tls {
            assert!(wire.capabilities & TLS != 0, "{address:?} offers no TLS");
            let request = tls_request(wire.capabilities, login.charset);
            wire.reply(&request);
            wire = wire.into_tls();
        }
        let plugin = login.plugin.unwrap_or(&greeting.plugin).to_owned();
        let response = response(login, wire.capabilities, &plugin, &greeting.scramble);
        wire.reply(&response);
        let is_safe = matches!(address, Address::Unix(_)) || login.encryption == Encryption::Tls;
        wire.converse(login, greeting.scramble, is_safe)?;
        wire.greeted = std::mem::take(&mut wire.heard);
        Ok(wire)
    }

    /// COM_CHANGE_USER, to its end.
    pub fn change_user(&mut self, login: &Login, plugin: &str) -> Result<Fine, Failure> {
        let mut body = packet::body(packet::command::CHANGE_USER, &nul_terminated(login.user));
        // The scramble of the connection is not used again: an empty proof makes the server switch to a new one, if it wants any.
        body.push(0);
        body.extend(nul_terminated(login.database));
        body.extend(u16::from(login.charset).to_le_bytes());
        body.extend(nul_terminated(plugin));
        body.extend(attributes(login));
        self.start(&body);
        self.converse(login, Vec::new(), false)
    }

    /// From the first proof to the end.
    fn converse(&mut self, login: &Login, mut scramble: Vec<u8>, is_safe: bool) -> Result<Fine, Failure> {
        loop {
            let said = self.message().expect("an answer to the login");
            match said.as_slice() {
                [0x00, ..] => return Ok(Fine::read(&said, self.capabilities)),
                [0xff, ..] => return Err(Failure::read(&said)),
                [0xfe, rest @ ..] => {
                    let mut rest = packet::Rest(rest);
                    let plugin = String::from_utf8_lossy(rest.until_nul()).into_owned();
                    scramble = rest.0.strip_suffix(&[0]).unwrap_or(rest.0).to_vec();
                    // Said at random, so that no comparison could hold it.
                    let heard = self.heard.last_mut().expect("it was just heard");
                    heard.body.truncate(1 + plugin.len());
                    let proof = proof(&plugin, login.password, &scramble, is_safe);
                    self.reply(&proof);
                }
                // caching_sha2_password: the server remembered the proof; an OK follows.
                [0x01, 0x03] => {}
                [0x01, 0x04] if is_safe => self.reply(&nul_terminated(login.password)),
                [0x01, 0x04] => self.reply(&[0x02]),
                [0x01, key @ ..] => {
                    // Whose key it is, depends on who must not hear the password: Sluice has its own.
                    self.heard.last_mut().expect("it was just heard").body.truncate(1);
                    self.reply(&encrypted(login.password, &scramble, key));
                }
                other => panic!("an answer to a login: {}", other.escape_ascii()),
            }
        }
    }
}

pub fn tls_request(capabilities: u64, charset: u8) -> Vec<u8> {
    let mut body = (capabilities as u32).to_le_bytes().to_vec();
    body.extend(0x0100_0000u32.to_le_bytes());
    body.push(charset);
    body.extend([0; 19]);
    body.extend(((capabilities >> 32) as u32).to_le_bytes());
    body
}

fn response(login: &Login, capabilities: u64, plugin: &str, scramble: &[u8]) -> Vec<u8> {
    let mut body = tls_request(capabilities, login.charset);
    body.extend(nul_terminated(login.user));
    body.extend(packet::lenenc_string(proof(plugin, login.password, scramble, login.encryption == Encryption::Tls)));
    if capabilities & CONNECT_WITH_DB != 0 {
        body.extend(nul_terminated(login.database));
    }
    body.extend(nul_terminated(plugin));
    if capabilities & CONNECT_ATTRS != 0 {
        body.extend(attributes(login));
    }
    body
}

fn attributes(login: &Login) -> Vec<u8> {
    let pairs = login.attributes.iter().flat_map(|(name, value)| [name, value]);
    packet::lenenc_string(pairs.flat_map(packet::lenenc_string).collect::<Vec<_>>())
}

/// The first answer to a scramble.
pub fn proof(plugin: &str, password: &str, scramble: &[u8], is_safe: bool) -> Vec<u8> {
    let hash = |parts: &[&[u8]]| digest::digest(&digest::SHA256, &parts.concat()).as_ref().to_vec();
    let old_hash =
        |parts: &[&[u8]]| digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &parts.concat()).as_ref().to_vec();
    let xor = |one: Vec<u8>, other: Vec<u8>| one.iter().zip(other).map(|(one, other)| one ^ other).collect();
    match plugin {
        // An empty password is proven by nothing at all, but for sha256_password, which hears a NUL.
        "sha256_password" if password.is_empty() || is_safe => nul_terminated(password),
        "sha256_password" => vec![0x01],
        _ if password.is_empty() => Vec::new(),
        "mysql_native_password" => {
            let once = old_hash(&[password.as_bytes()]);
            xor(once.clone(), old_hash(&[scramble, &old_hash(&[&once])]))
        }
        "caching_sha2_password" => {
            let once = hash(&[password.as_bytes()]);
            xor(once.clone(), hash(&[&hash(&[&once]), scramble]))
        }
        // It will be asked again, by a plugin that this client knows or a story that fails.
        _ => Vec::new(),
    }
}

/// The password as it may cross the network without TLS: under the server's public key.
pub fn encrypted(password: &str, scramble: &[u8], pem: &[u8]) -> Vec<u8> {
    let key = SubjectPublicKeyInfoDer::from_pem_slice(pem).expect("a public key");
    let key = rsa::PublicEncryptingKey::from_der(&key).expect("an RSA key");
    let key = rsa::OaepPublicEncryptingKey::new(key).expect("an RSA key");
    let mixed: Vec<u8> =
        nul_terminated(password).iter().zip(scramble.iter().cycle()).map(|(one, other)| one ^ other).collect();
    let mut taken = vec![0; key.ciphertext_size()];
    key.encrypt(&rsa::OAEP_SHA1_MGF1SHA1, &mixed, &mut taken, None).expect("a short password").to_vec()
}
