//! What a certificate file holds, for people: who, until when, and the digests that Entra ID shows and asks for.
//!
//! Never hands out a private key; it says whether one is there and whether it is the certificate's.

use std::path::Path;

use aws_lc_rs::digest;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use protocol::time::Timestamp;
use protocol::token::Thumbprint;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::pem::Sections;
use super::{CredentialError, Password};

/// What a certificate says of itself, and its digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateDetails {
    /// Whose it is, such as `CN=Tenantry`.
    pub subject: String,
    /// Who issued it; the same for one that is self-signed.
    pub issuer: String,
    /// Its serial number, as hexadecimal bytes with colons.
    pub serial: String,
    /// The first moment of its validity.
    pub not_before: Timestamp,
    /// The last moment of its validity; Entra refuses assertions after it.
    pub not_after: Timestamp,
    /// The RSA key's length in bits; `None` when it is no RSA key.
    pub rsa_bits: Option<usize>,
    /// Digests of the DER.
    pub thumbprint: Thumbprint,
    /// The certificate itself.
    pub der: Vec<u8>,
    /// The RSAPublicKey in it, when it is an RSA key.
    public_key: Vec<u8>,
}

impl CertificateDetails {
    pub(super) fn of(path: &Path, der: &[u8]) -> Result<Self, CredentialError> {
        let bad = |reason: String| CredentialError::BadCertificate { path: path.to_owned(), reason };
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| bad(error.to_string()))?;
        let time =
            |seconds: i64| Timestamp::from_timestamp(seconds, 0).ok_or_else(|| bad("validity out of range".to_owned()));
        let rsa_bits = match certificate.public_key().parsed() {
            // The leading zero byte of a positive number is none of its bits.
            Ok(PublicKey::RSA(key)) => Some(key.modulus.iter().skip_while(|byte| **byte == 0).count() * 8),
            _ => None,
        };
        Ok(Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            serial: certificate.raw_serial_as_string(),
            not_before: time(certificate.validity().not_before.timestamp())?,
            not_after: time(certificate.validity().not_after.timestamp())?,
            rsa_bits,
            thumbprint: Thumbprint {
                sha1: digest_of(&digest::SHA1_FOR_LEGACY_USE_ONLY, der),
                sha256: digest_of(&digest::SHA256, der),
            },
            der: der.to_vec(),
            public_key: certificate.public_key().subject_public_key.data.to_vec(),
        })
    }

    /// Whether `key` is this certificate's.
    pub(super) fn is_of(&self, key: &KeyPair) -> bool {
        // Both sides are the DER of an RSAPublicKey (RFC 8017 A.1.1), so equal bytes are equal keys.
        self.public_key == key.public_key().as_ref()
    }

    /// The SHA-1 as Entra's pages show it: capital hexadecimal digits.
    pub fn sha1_hex(&self) -> String {
        hex(&self.thumbprint.sha1)
    }

    /// The SHA-256 as capital hexadecimal digits.
    pub fn sha256_hex(&self) -> String {
        hex(&self.thumbprint.sha256)
    }

    /// The SHA-1 as a token's header names it (`x5t`): base64url without padding.
    pub fn sha1_base64url(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.thumbprint.sha1)
    }

    /// The SHA-256 as a token's header names it (`x5t#S256`): base64url without padding.
    pub fn sha256_base64url(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.thumbprint.sha256)
    }

    /// The SHA-1 as an app manifest names it (`customKeyIdentifier`): standard base64 (entra.md §2).
    pub fn custom_key_identifier(&self) -> String {
        STANDARD.encode(self.thumbprint.sha1)
    }

    /// The certificate as an app manifest holds it (`value` or `key`): standard base64 of the DER (entra.md §2).
    pub fn der_base64(&self) -> String {
        STANDARD.encode(&self.der)
    }

    /// The certificate as PEM: what is uploaded to the app registration.
    pub fn pem(&self) -> String {
        let text = self.der_base64();
        let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
        for line in text.as_bytes().chunks(64) {
            pem.extend(line.iter().map(|byte| char::from(*byte)));
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        pem
    }
}

/// The private key in a certificate's file.
#[derive(Debug)]
pub enum KeyState {
    /// There is none.
    Absent,
    /// It is the certificate's, and Entra would take it.
    Belongs,
    /// It is there and encrypted, and no password was given.
    Encrypted,
    /// It is there and cannot be used.
    Unusable(CredentialError),
}

/// What a file holds.
#[derive(Debug)]
pub struct CertificateFile {
    /// The first certificate: the one that is uploaded.
    pub certificate: CertificateDetails,
    /// Certificates behind it: its chain.
    pub chain: usize,
    /// The private key.
    pub key: KeyState,
}

/// Looks into a certificate file, with a private key in it or without.
///
/// # Errors
/// When the file cannot be read, holds no certificate, or holds a key that others can read.
pub fn inspect_certificate(path: &Path, password: Option<&Password>) -> Result<CertificateFile, CredentialError> {
    let sections = Sections::read(path, password)?;
    let mut certificates = sections.certificates();
    let first = certificates.next().ok_or_else(|| CredentialError::NoCertificate { path: path.to_owned() })?;
    let certificate = CertificateDetails::of(path, first)?;
    let key = if sections.has_key() {
        match sections.key(password) {
            Ok(key) if certificate.is_of(&key) => KeyState::Belongs,
            Ok(_) => KeyState::Unusable(CredentialError::Mismatch {
                key_path: path.to_owned(),
                certificate_path: path.to_owned(),
            }),
            Err(CredentialError::NoPassword { .. }) => KeyState::Encrypted,
            Err(error) => KeyState::Unusable(error),
        }
    } else {
        KeyState::Absent
    };
    Ok(CertificateFile { certificate, chain: certificates.count(), key })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn digest_of<const N: usize>(algorithm: &'static digest::Algorithm, der: &[u8]) -> [u8; N] {
    let digest = digest::digest(algorithm, der);
    digest.as_ref().try_into().expect("the digest's length is its algorithm's")
}
