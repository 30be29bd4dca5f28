//! One certificate authority for the whole run, and one server certificate it signed, for every TLS leg.
//!
//! Invariant: made anew in each run; nothing secret is kept in the repository and nothing can expire there.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, PKCS_ED25519,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

pub struct Certificates {
    pub authority: String,
    pub certificate: String,
    pub key: String,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// Where [`Certificates::write`] put them.
pub struct Files {
    pub authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Certificates {
    /// Valid for `localhost` and 127.0.0.1.
    pub fn get() -> &'static Certificates {
        static MADE: OnceLock<Certificates> = OnceLock::new();
        MADE.get_or_init(|| {
            let mut params = CertificateParams::new(Vec::new()).expect("no names to be wrong");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, "Sluice's tests");
            let authority =
                CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
            let (certificate, key) = server_certificate(&authority);
            Certificates { authority: authority.pem(), certificate, key, issuer: authority }
        })
    }

    /// Another for the same server, as a renewal makes it: certificate and key.
    pub fn renewed(&self) -> (String, String) {
        server_certificate(&self.issuer)
    }

    /// Signed by itself with Ed25519, which names no digest that SCRAM could bind to.
    pub fn unbindable() -> (String, String) {
        let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a good name");
        (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
    }

    /// For a client of this common name: certificate and key.
    pub fn client(&self, name: &str) -> (String, String) {
        client_certificate(&self.issuer, name)
    }

    /// The same, by somebody whom nobody trusts.
    pub fn stranger(name: &str) -> (String, String) {
        let mut params = CertificateParams::new(Vec::new()).expect("no names to be wrong");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Sluice's tests");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
        client_certificate(&issuer, name)
    }

    pub fn write(&self, folder: &Path) -> Files {
        let files = Files {
            authority: folder.join("ca.crt"),
            certificate: folder.join("server.crt"),
            key: folder.join("server.key"),
        };
        fs::write(&files.authority, &self.authority).expect("a writable folder");
        fs::write(&files.certificate, &self.certificate).expect("a writable folder");
        fs::write(&files.key, &self.key).expect("a writable folder");
        let only_the_owner = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&files.key, only_the_owner).expect("our own file");
        files
    }
}

fn server_certificate(issuer: &CertifiedIssuer<'static, KeyPair>) -> (String, String) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    signed(CertificateParams::new(names).expect("two good names"), issuer)
}

fn client_certificate(issuer: &CertifiedIssuer<'static, KeyPair>, name: &str) -> (String, String) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names to be wrong");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    signed(params, issuer)
}

fn signed(params: CertificateParams, issuer: &CertifiedIssuer<'static, KeyPair>) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, issuer).expect("a certificate");
    (certificate.pem(), key.serialize_pem())
}
