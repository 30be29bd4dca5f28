//! Two things that a login needs of a certificate: what SCRAM binds to, and who it is for.
//!
//! Invariant: a certificate that says either of them in a way that could be read twice says nothing.
//!
//! Sources: RFC 5929, section 4.1 (tls-server-end-point); `be_tls_get_certificate_hash` and `be_tls_open_server` (PostgreSQL 18).

use sha2::{Digest, Sha256, Sha384, Sha512};
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::asn1_rs::FromDer;

/// The digest that a channel is bound to: of the whole certificate, by the algorithm that signed it (SHA-256 in place of MD5 and
/// SHA-1). None for those that name no digest that libpq finds too (Ed25519, RSA-PSS): binding is then not offered.
pub fn end_point(der: &[u8]) -> Option<Vec<u8>> {
    let certificate = parse(der)?;
    match certificate.signature_algorithm.algorithm.to_id_string().as_str() {
        // md5, sha1 and sha256 with RSA; ECDSA with sha1 and sha256.
        "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.2.840.113549.1.1.11" => Some(Sha256::digest(der).to_vec()),
        "1.2.840.10045.4.1" | "1.2.840.10045.4.3.2" => Some(Sha256::digest(der).to_vec()),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Some(Sha384::digest(der).to_vec()),
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Some(Sha512::digest(der).to_vec()),
        _ => None,
    }
}

/// The common name of the subject, if there is exactly one and it is plain text. As for PostgreSQL, alternative names do not count.
pub fn common_name(der: &[u8]) -> Option<String> {
    let certificate = parse(der)?;
    let mut names = certificate.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?;
    let is_plain = !name.is_empty() && !name.contains(char::is_control);
    (names.next().is_none() && is_plain).then(|| name.to_owned())
}

fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    rest.is_empty().then_some(certificate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{
        CertificateParams, DnType, DnValue, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
    };

    fn made(names: &[DnValue], algorithm: &'static rcgen::SignatureAlgorithm) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["somebody.else".to_owned()]).expect("a good name");
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in names {
            params.distinguished_name.push(DnType::CommonName, name.clone());
        }
        let key = KeyPair::generate_for(algorithm).expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    #[test]
    fn the_digest_is_that_of_the_signature() {
        let der = made(&[], &PKCS_ECDSA_P256_SHA256);
        assert_eq!(end_point(&der), Some(Sha256::digest(&der).to_vec()));
        let der = made(&[], &PKCS_ECDSA_P384_SHA384);
        assert_eq!(end_point(&der), Some(Sha384::digest(&der).to_vec()));
        assert_eq!(end_point(&made(&[], &PKCS_ED25519)), None);
        assert_eq!(end_point(b"no certificate"), None);
    }

    #[test]
    fn a_name_counts_if_it_can_be_read_in_one_way() {
        let utf8 = |name: &str| DnValue::Utf8String(name.to_owned());
        let pairs = [
            (vec![utf8("anna")], Some("anna")),
            (vec![utf8("Änna Østby")], Some("Änna Østby")),
            (vec![], None),
            (vec![utf8("anna\0postgres")], None),
            (vec![utf8("")], None),
        ];
        for (names, expected) in pairs {
            assert_eq!(common_name(&made(&names, &PKCS_ECDSA_P256_SHA256)).as_deref(), expected, "{names:?}");
        }
        assert_eq!(common_name(b""), None);
    }
}
