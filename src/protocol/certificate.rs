//! Two things that a login needs of a certificate: what SCRAM binds to, and who it is for.
//!
//! Invariant: a certificate that says either of them in a way that could be read twice says nothing.
//!
//! Sources: RFC 5929, section 4.1 (tls-server-end-point); `be_tls_get_certificate_hash` and `be_tls_open_server` (PostgreSQL 18).

use sha2::{Digest, Sha256, Sha384, Sha512};
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::asn1_rs::FromDer;
use x509_parser::signature_algorithm::SignatureAlgorithm;

/// The digest that a channel is bound to: of the whole certificate, by the algorithm that signed it (SHA-256 in place of MD5 and
/// SHA-1). None for those that name no digest, as Ed25519; libpq breaks off there if binding is offered, so it is not.
pub fn end_point(der: &[u8]) -> Option<Vec<u8>> {
    let certificate = parse(der)?;
    let algorithm = &certificate.signature_algorithm;
    let name = match SignatureAlgorithm::try_from(algorithm).ok()? {
        SignatureAlgorithm::RSASSA_PSS(parameters) => parameters.hash_algorithm_oid().to_id_string(),
        _ => algorithm.algorithm.to_id_string(),
    };
    match name.as_str() {
        // md5, sha1 and sha256: with RSA; then sha1 and sha256 with ECDSA; then as RSA-PSS names them.
        "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.2.840.113549.1.1.11" => Some(Sha256::digest(der).to_vec()),
        "1.2.840.10045.4.1" | "1.2.840.10045.4.3.2" => Some(Sha256::digest(der).to_vec()),
        "1.3.14.3.2.26" | "2.16.840.1.101.3.4.2.1" => Some(Sha256::digest(der).to_vec()),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" | "2.16.840.1.101.3.4.2.2" => {
            Some(Sha384::digest(der).to_vec())
        }
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" | "2.16.840.1.101.3.4.2.3" => {
            Some(Sha512::digest(der).to_vec())
        }
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

    /// Made by `openssl req -x509 -newkey rsa:1024 -sha384 -sigopt rsa_padding_mode:pss`; it is only read, so it may expire.
    const SIGNED_BY_PSS: &str = "MIICYjCCAZegAwIBAgIUHGKza57vqmyh4cr/mErRMuJ7yJMwQQYJKoZIhvcNAQEKMDSgDzANBglghkgBZQMEAgIFAKEcMBoGCSqGSIb3DQEBCD\
        ANBglghkgBZQMEAgIFAKIDAgEgMA8xDTALBgNVBAMMBGFubmEwHhcNMjYxMTIyMjAyNTIyWhcNMzYxMTE5MjAyNTIyWjAPMQ0wCwYDVQQDDARh\
        bm5hMIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDLF28ruab4h57KmcvlQy8CYhH2mHFhX1f4XCmvm72qEDcl5RPH/SREYQW0Le8z68Nk2B\
        9YEY+d66duijDafJ2Gow+nNTgqcUOWLN4Z4ADhJCDsz6hSKx+9pYA4Zug9CCKWQy8pLsILW2d7vRyYw/ZHwzEn6BwBehhBisAEgCyRyQIDAQAB\
        o1MwUTAdBgNVHQ4EFgQUO/hritJnIm4EhgdL+JQzigGMVW8wHwYDVR0jBBgwFoAUO/hritJnIm4EhgdL+JQzigGMVW8wDwYDVR0TAQH/BAUwAw\
        EB/zBBBgkqhkiG9w0BAQowNKAPMA0GCWCGSAFlAwQCAgUAoRwwGgYJKoZIhvcNAQEIMA0GCWCGSAFlAwQCAgUAogMCASADgYEAfh0PexlNGxNB\
        UAhpDFCKc1iXlixT9jrLGBcwH4pqkkYaq+pCTpxcGqrZjsLfxvGJJiNZrrjDI2/JFmPG134SQU1q7sVoCapjjlldyHXmamgf1cgFmdF9YT+Tw6\
        oQ88U/jLaoPQqp71SWLSBzfVsKJM76H0d+ZEj6MGMDk9wyk/I=";

    #[test]
    fn the_digest_of_pss_stands_in_its_parameters() {
        use base64::Engine;
        let der = base64::engine::general_purpose::STANDARD.decode(SIGNED_BY_PSS).expect("base64");
        assert_eq!(end_point(&der), Some(Sha384::digest(&der).to_vec()));
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
