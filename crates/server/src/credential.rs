//! What proves that we are the app: reads a private key and its certificate from PEM files, and signs assertions.
//!
//! Never shows a key, never accepts one that Entra would refuse later: each such file is refused here, in one sentence
//! with the path and the remedy. The assertion itself is `protocol`'s; here it gets its signature.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256};
use protocol::ids::ClientId;
use protocol::secret::ClientAssertion;
use protocol::time::Timestamp;
use protocol::token::{AssertionAlgorithm, Thumbprint, UnsignedAssertion};
use rustls::pki_types::pem::{PemObject, SectionKind};
use url::Url;
use uuid::Uuid;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The largest credential file that is read: a chain of ten 4096-bit certificates is a tenth of it.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// The shortest RSA key Entra accepts (entra.md §2).
const KEY_BITS_MIN: usize = 2048;

/// The algorithm identifier of a PKCS#8 RSA key: SEQUENCE { OID rsaEncryption, NULL }.
const RSA_ALGORITHM: [u8; 15] =
    [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// A private key with its certificate, ready to sign.
#[derive(Clone)]
pub struct CertificateCredential {
    key: Arc<KeyPair>,
    algorithm: AssertionAlgorithm,
    path: PathBuf,
    subject: String,
    not_before: Timestamp,
    not_after: Timestamp,
    key_bits: usize,
    thumbprint: Thumbprint,
}

/// Why a credential file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file cannot be read.
    #[error("cannot read the credential file {}: {reason}; correct the path under [[app.credential]] or the file's permissions", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The file is far larger than any credential.
    #[error("{} is larger than {FILE_BYTES_MAX} bytes, so it is no credential file; correct the path under [[app.credential]]", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// The file is not PEM.
    #[error("{} holds no PEM text that can be read; convert it with `openssl pkcs12 -in FILE.pfx -nodes -out FILE.pem` or make a new one with `tenantry certificate new --out FILE`", path.display())]
    NotPem {
        /// Which file.
        path: PathBuf,
    },
    /// There is no private key.
    #[error("{} holds no private key; put the key into the same file, or name its file as key_path", path.display())]
    NoKey {
        /// Which file.
        path: PathBuf,
    },
    /// The private key is protected by a password.
    #[error("the private key in {} is encrypted; write it without a password: `openssl pkey -in FILE -out NEW`", path.display())]
    EncryptedKey {
        /// Which file.
        path: PathBuf,
    },
    /// There is no certificate.
    #[error("{} holds no certificate; put the certificate that is uploaded to the app registration into the same file, before any of its chain", path.display())]
    NoCertificate {
        /// Which file.
        path: PathBuf,
    },
    /// The key is no RSA key.
    #[error("the private key in {} is not an RSA key, and Entra ID accepts RSA only; make a new one with `tenantry certificate new --out FILE`", path.display())]
    NotRsa {
        /// Which file.
        path: PathBuf,
    },
    /// The key is too short.
    #[error("the RSA key in {} has fewer than the 2048 bits that Entra ID wants; make a new one with `tenantry certificate new --out FILE`", path.display())]
    ShortKey {
        /// Which file.
        path: PathBuf,
    },
    /// The key is damaged.
    #[error("the private key in {} cannot be used ({reason}); make a new one with `tenantry certificate new --out FILE`", path.display())]
    BadKey {
        /// Which file.
        path: PathBuf,
        /// What the library says.
        reason: String,
    },
    /// The certificate is damaged.
    #[error("the certificate in {} cannot be read ({reason}); export it again as PEM", path.display())]
    BadCertificate {
        /// Which file.
        path: PathBuf,
        /// What the library says.
        reason: String,
    },
    /// The key is not the certificate's.
    #[error("the private key in {} does not belong to the certificate in {}; put the pair that was made together side by side", key_path.display(), certificate_path.display())]
    Mismatch {
        /// The key's file.
        key_path: PathBuf,
        /// The certificate's file.
        certificate_path: PathBuf,
    },
    /// The certificate's validity is over.
    #[error("the certificate in {} expired on {not_after}; make a new one with `tenantry certificate new --out FILE` and upload it to the app registration", path.display())]
    Expired {
        /// Which file.
        path: PathBuf,
        /// Its last moment.
        not_after: Timestamp,
    },
    /// The certificate's validity has not begun.
    #[error("the certificate in {} is not valid before {not_before}; check this machine's clock, or wait", path.display())]
    NotYetValid {
        /// Which file.
        path: PathBuf,
        /// Its first moment.
        not_before: Timestamp,
    },
}

/// Where a certificate credential lies.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    /// The certificate, and the key too unless `key_path` says otherwise.
    pub path: PathBuf,
    /// The private key's own file.
    pub key_path: Option<PathBuf>,
}

impl CertificateCredential {
    /// Reads the key (PKCS#8 or PKCS#1) and the certificate (the first in the file; its chain may follow) from PEM.
    ///
    /// # Errors
    /// See [`CredentialError`]: whatever Entra would refuse later is refused now.
    pub fn read(
        files: &CertificateFiles,
        algorithm: AssertionAlgorithm,
        now: Timestamp,
    ) -> Result<Self, CredentialError> {
        let certificate_path = &files.path;
        let key_path = files.key_path.as_ref().unwrap_or(certificate_path);
        let certificate_sections = read_pem(certificate_path)?;
        let certificate_der = certificate_sections
            .iter()
            .find(|(kind, _)| *kind == Section::Certificate)
            .map(|(_, der)| der.as_slice())
            .ok_or_else(|| CredentialError::NoCertificate { path: certificate_path.clone() })?;
        let key = if key_path == certificate_path {
            read_key(key_path, &certificate_sections)?
        } else {
            read_key(key_path, &read_pem(key_path)?)?
        };
        let key_bits = key.public_modulus_len() * 8;
        if key_bits < KEY_BITS_MIN {
            return Err(CredentialError::ShortKey { path: key_path.clone() });
        }
        let bad_certificate =
            |reason: String| CredentialError::BadCertificate { path: certificate_path.clone(), reason };
        let (_, certificate) =
            X509Certificate::from_der(certificate_der).map_err(|error| bad_certificate(error.to_string()))?;
        // Both sides are the DER of an RSAPublicKey (RFC 8017 A.1.1), so equal bytes are equal keys.
        if certificate.public_key().subject_public_key.data.as_ref() != key.public_key().as_ref() {
            return Err(CredentialError::Mismatch {
                key_path: key_path.clone(),
                certificate_path: certificate_path.clone(),
            });
        }
        let time = |seconds: i64| {
            Timestamp::from_timestamp(seconds, 0).ok_or_else(|| bad_certificate("validity out of range".to_owned()))
        };
        let not_before = time(certificate.validity().not_before.timestamp())?;
        let not_after = time(certificate.validity().not_after.timestamp())?;
        if now > not_after {
            return Err(CredentialError::Expired { path: certificate_path.clone(), not_after });
        }
        if now < not_before {
            return Err(CredentialError::NotYetValid { path: certificate_path.clone(), not_before });
        }
        Ok(Self {
            algorithm,
            path: certificate_path.clone(),
            subject: certificate.subject().to_string(),
            not_before,
            not_after,
            key_bits,
            thumbprint: Thumbprint {
                sha1: digest_of(&digest::SHA1_FOR_LEGACY_USE_ONLY, certificate_der),
                sha256: digest_of(&digest::SHA256, certificate_der),
            },
            key: Arc::new(key),
        })
    }

    /// How it signs.
    pub fn algorithm(&self) -> AssertionAlgorithm {
        self.algorithm
    }

    /// Where the certificate was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The certificate's subject, as text.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The first moment of its validity.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// The last moment of its validity; Entra refuses assertions after it.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The RSA key's length.
    pub fn key_bits(&self) -> usize {
        self.key_bits
    }

    /// Digests of the certificate's DER: the app registration shows the SHA-1.
    pub fn thumbprint(&self) -> &Thumbprint {
        &self.thumbprint
    }

    /// A fresh assertion for one request to `audience`, the token endpoint. `jti` is a fresh random GUID. About 1 ms of
    /// CPU with a 2048-bit key.
    pub(crate) fn assertion(&self, client_id: ClientId, audience: &Url, jti: Uuid, now: Timestamp) -> ClientAssertion {
        let unsigned = UnsignedAssertion::new(self.algorithm, &self.thumbprint, client_id, audience, jti, now);
        let signature = self.sign(unsigned.signing_input().as_bytes());
        unsigned.with_signature(&signature)
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let padding: &'static dyn aws_lc_rs::signature::RsaEncoding = match self.algorithm {
            AssertionAlgorithm::Rs256 => &RSA_PKCS1_SHA256,
            AssertionAlgorithm::Ps256 => &RSA_PSS_SHA256,
        };
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(padding, &SystemRandom::new(), message, &mut signature)
            .expect("a key of 2048 bits or more signs a SHA-256 digest into a buffer of its modulus' length");
        signature
    }
}

impl fmt::Debug for CertificateCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateCredential")
            .field("path", &self.path)
            .field("algorithm", &self.algorithm)
            .field("not_after", &self.not_after)
            .field("key", &"redacted")
            .finish()
    }
}

/// The PEM sections that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    Certificate,
    Pkcs8,
    Pkcs1,
    Sec1,
    EncryptedKey,
}

fn read_pem(path: &Path) -> Result<Vec<(Section, Vec<u8>)>, CredentialError> {
    let unreadable =
        |error: std::io::Error| CredentialError::Unreadable { path: path.to_owned(), reason: error.to_string() };
    if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_BYTES_MAX {
        return Err(CredentialError::TooLarge { path: path.to_owned() });
    }
    let text = std::fs::read(path).map_err(unreadable)?;
    let not_pem = || CredentialError::NotPem { path: path.to_owned() };
    let mut sections = Vec::new();
    for section in <(SectionKind, Vec<u8>) as PemObject>::pem_slice_iter(&text) {
        let (kind, der) = section.map_err(|_| not_pem())?;
        let kind = match kind {
            SectionKind::Certificate => Section::Certificate,
            SectionKind::PrivateKey => Section::Pkcs8,
            SectionKind::RsaPrivateKey => Section::Pkcs1,
            SectionKind::EcPrivateKey => Section::Sec1,
            _ => continue,
        };
        sections.push((kind, der));
    }
    // The PEM reader passes over sections it has no name for.
    if contains(&text, b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || contains(&text, b"Proc-Type: 4,ENCRYPTED") {
        sections.push((Section::EncryptedKey, Vec::new()));
    }
    if sections.is_empty() { Err(not_pem()) } else { Ok(sections) }
}

fn contains(text: &[u8], needle: &[u8]) -> bool {
    text.windows(needle.len()).any(|window| window == needle)
}

fn read_key(path: &Path, sections: &[(Section, Vec<u8>)]) -> Result<KeyPair, CredentialError> {
    let path = || path.to_owned();
    if sections.iter().any(|(kind, _)| *kind == Section::EncryptedKey) {
        return Err(CredentialError::EncryptedKey { path: path() });
    }
    for (kind, der) in sections {
        let key = match kind {
            Section::Pkcs1 => KeyPair::from_der(der),
            Section::Pkcs8 => {
                // It follows the outer header and the version: within the first 7 bytes of any encoding.
                if !contains(&der[..der.len().min(32)], &RSA_ALGORITHM) {
                    return Err(CredentialError::NotRsa { path: path() });
                }
                KeyPair::from_pkcs8(der)
            }
            Section::Sec1 => return Err(CredentialError::NotRsa { path: path() }),
            Section::Certificate | Section::EncryptedKey => continue,
        };
        return key.map_err(|error| match error.to_string().as_str() {
            // The library refuses keys under 2048 bits by itself.
            "TooSmall" => CredentialError::ShortKey { path: path() },
            reason => CredentialError::BadKey { path: path(), reason: reason.to_owned() },
        });
    }
    Err(CredentialError::NoKey { path: path() })
}

fn digest_of<const N: usize>(algorithm: &'static digest::Algorithm, der: &[u8]) -> [u8; N] {
    let digest = digest::digest(algorithm, der);
    digest.as_ref().try_into().expect("the digest's length is its algorithm's")
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
    use rcgen::{CertificateParams, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize, date_time_ymd};

    struct Pair {
        key: String,
        certificate: String,
    }

    fn rsa_pair() -> Pair {
        let key = rcgen::KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        pair(&key)
    }

    fn pair(key: &rcgen::KeyPair) -> Pair {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "tenantry test");
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2027, 1, 1);
        Pair { key: key.serialize_pem(), certificate: params.self_signed(key).unwrap().pem() }
    }

    fn now() -> Timestamp {
        protocol::time::parse_timestamp("2026-06-01T00:00:00Z").unwrap()
    }

    fn read(texts: &[&str]) -> Result<CertificateCredential, CredentialError> {
        read_at(texts, now())
    }

    fn read_at(texts: &[&str], now: Timestamp) -> Result<CertificateCredential, CredentialError> {
        let dir = tempfile::tempdir().unwrap();
        let mut paths = Vec::new();
        for (number, text) in texts.iter().enumerate() {
            let path = dir.path().join(format!("file{number}.pem"));
            std::fs::write(&path, text).unwrap();
            paths.push(path);
        }
        let files = CertificateFiles { path: paths[0].clone(), key_path: paths.get(1).cloned() };
        CertificateCredential::read(&files, AssertionAlgorithm::Rs256, now)
    }

    /// Each refusal is one sentence with the path and a remedy.
    fn check_refused(texts: &[&str], expected: &str) {
        let error = read(texts).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("file"), "{error}");
        assert!(!error.ends_with('.') && !error.contains('\n'), "{error}");
    }

    #[test]
    fn a_key_and_its_certificate_are_read_from_one_file_or_two_in_any_order() {
        let Pair { key, certificate } = rsa_pair();
        let together = read(&[&format!("{key}{certificate}")]).unwrap();
        let reversed = read(&[&format!("{certificate}{key}")]).unwrap();
        let apart = read(&[&certificate, &key]).unwrap();
        for credential in [&together, &reversed, &apart] {
            assert_eq!(credential.key_bits(), 2048);
            assert_eq!(credential.thumbprint(), together.thumbprint());
            assert_eq!(credential.not_after().to_rfc3339(), "2027-01-01T00:00:00+00:00");
            assert!(credential.subject().contains("tenantry test"), "{}", credential.subject());
        }
        assert!(!format!("{together:?}").contains("KeyPair"), "{together:?}");
    }

    #[test]
    fn a_pkcs1_key_is_read_too() {
        let Pair { key, certificate } = rsa_pair();
        let (_, pkcs8) = <(SectionKind, Vec<u8>) as PemObject>::from_pem_slice(key.as_bytes()).unwrap();
        // The OCTET STRING at the end of a PKCS#8 key is the PKCS#1 one: header of 4 bytes behind the algorithm.
        let start = pkcs8.windows(RSA_ALGORITHM.len()).position(|w| w == RSA_ALGORITHM).unwrap() + RSA_ALGORITHM.len();
        let pkcs1 = &pkcs8[start + 4..];
        let body = base64_lines(pkcs1);
        let text = format!("-----BEGIN RSA PRIVATE KEY-----\n{body}-----END RSA PRIVATE KEY-----\n{certificate}");
        assert_eq!(read(&[&text]).unwrap().key_bits(), 2048);
    }

    #[test]
    fn signatures_of_both_kinds_verify_with_the_certificates_key() {
        let Pair { key, certificate } = rsa_pair();
        let mut credential = read(&[&format!("{key}{certificate}")]).unwrap();
        let public = credential.key.public_key().as_ref().to_vec();
        let signature = credential.sign(b"header.claims");
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &public).verify(b"header.claims", &signature).unwrap();
        credential.algorithm = AssertionAlgorithm::Ps256;
        let signature = credential.sign(b"header.claims");
        UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, &public).verify(b"header.claims", &signature).unwrap();
    }

    #[test]
    fn what_entra_would_refuse_is_refused_with_path_and_remedy() {
        let Pair { key, certificate } = rsa_pair();
        let other = rsa_pair();
        let ec = rcgen::KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let ec = pair(&ec);
        check_refused(&[&certificate], "holds no private key");
        check_refused(&[&key], "holds no certificate");
        check_refused(&["not pem at all"], "holds no PEM text");
        check_refused(&["-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n"], "holds no PEM text");
        check_refused(&[&format!("{}{}", ec.key, ec.certificate)], "not an RSA key");
        check_refused(&[&format!("{}{certificate}", other.key)], "does not belong to the certificate");
        check_refused(
            &[&format!(
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n{certificate}"
            )],
            "is encrypted",
        );
        check_refused(
            &[&format!("{key}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")],
            "cannot be read",
        );
        check_refused(&[&"x".repeat(256 * 1024 + 1)], "larger than 262144 bytes");
    }

    #[test]
    fn a_missing_file_is_named() {
        let files = CertificateFiles { path: "/nonexistent/app.pem".into(), key_path: None };
        let error = CertificateCredential::read(&files, AssertionAlgorithm::Rs256, now()).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/app.pem") && error.contains("[[app.credential]]"), "{error}");
    }

    #[test]
    fn a_key_of_1024_bits_is_too_short() {
        let error = read(&[SHORT]).unwrap_err();
        assert!(matches!(error, CredentialError::ShortKey { .. }), "{error}");
    }

    #[test]
    fn a_certificate_is_refused_just_outside_its_validity_and_accepted_at_its_ends() {
        let Pair { key, certificate } = rsa_pair();
        let text = format!("{key}{certificate}");
        let at = |time: &str| read_at(&[&text], protocol::time::parse_timestamp(time).unwrap());
        assert!(at("2026-01-01T00:00:00Z").is_ok());
        assert!(at("2027-01-01T00:00:00Z").is_ok());
        assert!(matches!(at("2025-12-31T23:59:59Z"), Err(CredentialError::NotYetValid { .. })));
        assert!(matches!(at("2027-01-01T00:00:01Z"), Err(CredentialError::Expired { .. })));
    }

    fn base64_lines(bytes: &[u8]) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for (number, group) in bytes.chunks(3).enumerate() {
            if number > 0 && number % 16 == 0 {
                text.push('\n');
            }
            let word = group.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
            for place in 0..4 {
                let six = (word >> (18 - 6 * place)) & 63;
                text.push(if place <= group.len() { char::from(ALPHABET[six as usize]) } else { '=' });
            }
        }
        text.push('\n');
        text
    }

    /// Made for this test with `openssl req -x509 -newkey rsa:1024`; opens nothing.
    const SHORT: &str = include_str!("../tests/fixtures/rsa1024.pem");
}
