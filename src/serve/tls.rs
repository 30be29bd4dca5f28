//! TLS, made from the configuration: what clients are shown, and what is asked of an upstream.
//!
//! Invariant: `verify-full` and `verify-ca` verify, and what does not verify says so by its name (`require` encrypts without
//! knowing the other side, as libpq's does without a root certificate).
//!
//! Source: libpq manual, "SSL Mode Descriptions".

use crate::protocol::certificate;
use crate::protocol::postgres::handshake;
use crate::session::door::Shown;
use bytes::Bytes;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Whom to believe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Anybody: encrypted only.
    Anybody,
    /// Who shows a chain to these roots, under any name.
    Chain(Roots),
    /// Who shows a chain to these roots and is called what was connected to.
    Name(Roots),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    System,
    File(PathBuf),
}

/// What clients are shown; all files in PEM form. With an authority, clients may show a certificate, and one that does not come from
/// it ends the handshake; whether they must is for the login to say.
pub fn shown(cert: &Path, key_file: &Path, client_authority: Option<&Path>) -> Result<Shown, String> {
    let file = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let certificates = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| file(cert, &error))?;
    refuse_readable(key_file, "the private key")?;
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| file(key_file, &error))?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let config = match client_authority {
        None => config.with_no_client_auth(),
        Some(path) => config.with_client_cert_verifier(client_verifier(path)?),
    };
    let end_point = certificates.first().and_then(|shown| certificate::end_point(shown)).map(Bytes::from);
    let mut config = config.with_single_cert(certificates, key).map_err(|error| file(cert, &error))?;
    config.alpn_protocols = vec![handshake::ALPN.to_vec()];
    if client_authority.is_some() {
        // A resumed session brings its certificate along unverified, though it may have expired since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
    }
    Ok(Shown { acceptor: TlsAcceptor::from(Arc::new(config)), end_point })
}

/// As PostgreSQL: 0600, or 0640 where a group of the system's may read it.
pub fn refuse_readable(path: &Path, what: &str) -> Result<(), String> {
    let mode = std::fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?.permissions().mode();
    match mode & 0o037 {
        0 => Ok(()),
        _ => Err(format!("{}: {what} may be read or written by others; chmod 600 it", path.display())),
    }
}

fn client_verifier(authority: &Path) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let file = |error: &dyn std::fmt::Display| format!("{}: {error}", authority.display());
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&Roots::File(authority.to_owned()))? {
        roots.add(certificate).map_err(|error| file(&error))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    // Nobody is let in without one; but a client that has none is told so in words, not by an alert.
    verifier.allow_unauthenticated().build().map_err(|error| file(&error))
}

/// How an upstream is met.
pub fn connector(trust: &Trust) -> Result<TlsConnector, String> {
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Name(roots) => Arc::new(AsLibpq::new(roots, Names::MustMatch)?),
        Trust::Chain(roots) => Arc::new(AsLibpq::new(roots, Names::AreIgnored)?),
        Trust::Anybody => Arc::new(Unverified(provider())),
    };
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    MustMatch,
    AreIgnored,
}

/// Verifies as libpq does: the chain must end in a root, or the certificate be one itself (a self-made one that serves as its own
/// root, which webpki alone refuses); then the name, if it counts.
#[derive(Debug)]
struct AsLibpq {
    chain: Arc<WebPkiServerVerifier>,
    roots: Vec<CertificateDer<'static>>,
    names: Names,
}

impl AsLibpq {
    fn new(roots: &Roots, names: Names) -> Result<AsLibpq, String> {
        let roots = certificates(roots)?;
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots.iter().cloned());
        if store.is_empty() {
            return Err("no root certificate was found".to_owned());
        }
        let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider()).build();
        Ok(AsLibpq { chain: chain.map_err(|error| error.to_string())?, roots, names })
    }

    fn is_root(&self, certificate: &CertificateDer<'_>) -> bool {
        self.roots.iter().any(|root| root.as_ref() == certificate.as_ref())
    }
}

fn certificates(roots: &Roots) -> Result<Vec<CertificateDer<'static>>, String> {
    match roots {
        Roots::System => Ok(rustls_native_certs::load_native_certs().certs),
        Roots::File(path) => CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .map_err(|error| format!("{}: {error}", path.display())),
    }
}

impl ServerCertVerifier for AsLibpq {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.chain.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        match (verified, self.names) {
            (Ok(verified), _) => Ok(verified),
            // The name is looked at last, when the chain has been found good.
            (
                Err(Error::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                )),
                Names::AreIgnored,
            ) => Ok(ServerCertVerified::assertion()),
            // webpki looks at a certificate's dates before at what it may be used for, so a root that has expired does not get here.
            (Err(Error::InvalidCertificate(CertificateError::Other(_))), names) if self.is_root(end_entity) => {
                if names == Names::MustMatch {
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
                }
                Ok(ServerCertVerified::assertion())
            }
            (Err(error), _) => Err(error),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// `prefer`, `require`: encrypted, to whom is not known.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
