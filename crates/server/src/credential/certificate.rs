//! A private key and its certificate, checked against each other, and the assertions signed with them.
//!
//! Never shows the key, and never signs for longer than the certificate is valid: who holds it checks that.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256};
use protocol::ids::ClientId;
use protocol::secret::ClientAssertion;
use protocol::time::Timestamp;
use protocol::token::{AssertionAlgorithm, Thumbprint, UnsignedAssertion};
use url::Url;
use uuid::Uuid;

use super::inspect::CertificateDetails;
use super::pem::Sections;
use super::{CredentialError, KEY_BITS_MIN, Password};

/// A private key with its certificate, ready to sign.
#[derive(Clone)]
pub struct CertificateCredential {
    key: Arc<KeyPair>,
    algorithm: AssertionAlgorithm,
    path: PathBuf,
    details: Arc<CertificateDetails>,
}

/// Where a certificate credential lies.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    /// The certificate, and the key too unless `key_path` says otherwise.
    pub path: PathBuf,
    /// The private key's own file.
    pub key_path: Option<PathBuf>,
    /// What opens the key, when it is encrypted.
    pub password: Option<Password>,
}

impl CertificateFiles {
    /// Key and certificate in one file, not encrypted.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), key_path: None, password: None }
    }
}

impl CertificateCredential {
    /// Reads the key (PKCS#8, encrypted or not, or PKCS#1) and the certificate (the first in the file; its chain may
    /// follow) from PEM, or both from PKCS#12.
    ///
    /// # Errors
    /// See [`CredentialError`]: whatever Entra would refuse later is refused now.
    pub fn read(
        files: &CertificateFiles,
        algorithm: AssertionAlgorithm,
        now: Timestamp,
    ) -> Result<Self, CredentialError> {
        let credential = Self::load(files, algorithm)?;
        credential.check_validity(now)?;
        Ok(credential)
    }

    /// As [`Self::read`], whatever time it is.
    pub(crate) fn load(files: &CertificateFiles, algorithm: AssertionAlgorithm) -> Result<Self, CredentialError> {
        let certificate_path = &files.path;
        let key_path = files.key_path.as_ref().unwrap_or(certificate_path);
        let sections = Sections::read(certificate_path, files.password.as_ref())?;
        let der = sections
            .certificates()
            .next()
            .ok_or_else(|| CredentialError::NoCertificate { path: certificate_path.clone() })?;
        let key = if key_path == certificate_path {
            sections.key(files.password.as_ref())?
        } else {
            Sections::read(key_path, files.password.as_ref())?.key(files.password.as_ref())?
        };
        if key.public_modulus_len() * 8 < KEY_BITS_MIN {
            return Err(CredentialError::ShortKey { path: key_path.clone() });
        }
        let details = CertificateDetails::of(certificate_path, der)?;
        if !details.is_of(&key) {
            return Err(CredentialError::Mismatch {
                key_path: key_path.clone(),
                certificate_path: certificate_path.clone(),
            });
        }
        Ok(Self { algorithm, path: certificate_path.clone(), details: Arc::new(details), key: Arc::new(key) })
    }

    /// Whether the certificate is within its validity.
    ///
    /// # Errors
    /// When it is not, yet or any more.
    pub fn check_validity(&self, now: Timestamp) -> Result<(), CredentialError> {
        let CertificateDetails { not_before, not_after, .. } = *self.details;
        if now > not_after {
            return Err(CredentialError::Expired { path: self.path.clone(), not_after });
        }
        if now < not_before {
            return Err(CredentialError::NotYetValid { path: self.path.clone(), not_before });
        }
        Ok(())
    }

    /// How it signs.
    pub fn algorithm(&self) -> AssertionAlgorithm {
        self.algorithm
    }

    /// Where the certificate was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the certificate says.
    pub fn details(&self) -> &CertificateDetails {
        &self.details
    }

    /// The certificate's subject, as text.
    pub fn subject(&self) -> &str {
        &self.details.subject
    }

    /// The first moment of its validity.
    pub fn not_before(&self) -> Timestamp {
        self.details.not_before
    }

    /// The last moment of its validity; Entra refuses assertions after it.
    pub fn not_after(&self) -> Timestamp {
        self.details.not_after
    }

    /// The RSA key's length.
    pub fn key_bits(&self) -> usize {
        self.key.public_modulus_len() * 8
    }

    /// Digests of the certificate's DER: the app registration shows the SHA-1.
    pub fn thumbprint(&self) -> &Thumbprint {
        &self.details.thumbprint
    }

    /// A fresh assertion for one request to `audience`, the token endpoint. `jti` is a fresh random GUID. About 1 ms of
    /// CPU with a 2048-bit key.
    pub(crate) fn assertion(&self, client_id: ClientId, audience: &Url, jti: Uuid, now: Timestamp) -> ClientAssertion {
        let unsigned = UnsignedAssertion::new(self.algorithm, self.thumbprint(), client_id, audience, jti, now);
        let signature = self.sign(unsigned.signing_input().as_bytes());
        unsigned.with_signature(&signature)
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
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

    #[cfg(test)]
    pub(super) fn signing_by(self, algorithm: AssertionAlgorithm) -> Self {
        Self { algorithm, ..self }
    }

    #[cfg(test)]
    pub(super) fn public_key(&self) -> Vec<u8> {
        aws_lc_rs::signature::KeyPair::public_key(&*self.key).as_ref().to_vec()
    }
}

impl fmt::Debug for CertificateCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateCredential")
            .field("path", &self.path)
            .field("algorithm", &self.algorithm)
            .field("not_after", &self.details.not_after)
            .field("key", &"redacted")
            .finish()
    }
}
