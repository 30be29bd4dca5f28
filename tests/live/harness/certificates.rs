//! One certificate authority for the whole run, and one server certificate it signed, for every TLS leg.
//!
//! Invariant: made anew in each run; nothing secret is kept in the repository and nothing can expire there.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

pub struct Certificates {
    pub authority: String,
    pub certificate: String,
    pub key: String,
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
            let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
            let key = KeyPair::generate().expect("a key");
            let certificate = CertificateParams::new(names).expect("two good names").signed_by(&key, &authority);
            let certificate = certificate.expect("a certificate").pem();
            Certificates { authority: authority.pem(), certificate, key: key.serialize_pem() }
        })
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
