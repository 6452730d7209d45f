//! What a credential file holds, PEM or PKCS#12: the sections that matter here, and the RSA key in one of them.
//!
//! Never decides which file a key comes from, and never tells of a key more than why it cannot be used.

use std::path::Path;

use aws_lc_rs::rsa::KeyPair;
use secrecy::zeroize::Zeroizing;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::der::{Der, OID, SEQUENCE};
use super::encrypted::{Closed, open_pkcs8};
use super::file::Contents;
use super::inspect::CertificateDetails;
use super::{CredentialError, Password, pfx};

/// What a section is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Certificate,
    /// PKCS#8, of whatever algorithm.
    Pkcs8,
    /// PKCS#1: always RSA.
    Pkcs1,
    /// An elliptic curve's key.
    Sec1,
    /// PKCS#8 under a password.
    EncryptedPkcs8,
    /// OpenSSL's own old encryption, in the text's headers.
    EncryptedText,
}

/// One section, decoded.
pub(super) struct Section {
    pub(super) kind: Kind,
    pub(super) der: Zeroizing<Vec<u8>>,
}

/// What a credential file holds.
pub(super) struct Sections {
    pub(super) path: std::path::PathBuf,
    sections: Vec<Section>,
}

impl Sections {
    /// Reads the file. One that holds a key must be readable by its owner only. `password` opens PKCS#12.
    pub(super) fn read(path: &Path, password: Option<&Password>) -> Result<Self, CredentialError> {
        let contents = Contents::read(path)?;
        // DER instead of text: a certificate alone, or PKCS#12.
        if contents.bytes.first() == Some(&SEQUENCE) {
            if let Ok((_, _)) = X509Certificate::from_der(&contents.bytes) {
                let section = Section { kind: Kind::Certificate, der: contents.bytes };
                return Ok(Self { path: path.to_owned(), sections: vec![section] });
            }
            contents.must_be_private()?;
            return Self::of_pfx(path, &contents.bytes, password);
        }
        let sections = sections_of(&contents.bytes).ok_or_else(|| CredentialError::NotPem { path: path.to_owned() })?;
        let sections = Self { path: path.to_owned(), sections };
        if sections.has_key() {
            contents.must_be_private()?;
        }
        Ok(sections)
    }

    fn of_pfx(path: &Path, file: &[u8], password: Option<&Password>) -> Result<Self, CredentialError> {
        let revealed = password.map(Password::reveal_bytes).transpose()?;
        let pfx =
            pfx::open(file, revealed.as_ref().map(|password| password.as_slice())).map_err(|closed| match closed {
                Closed::WrongPassword if password.is_none() => CredentialError::NoPassword { path: path.to_owned() },
                Closed::Malformed => CredentialError::NotPem { path: path.to_owned() },
                other => other.into_error(path),
            })?;
        let mut sections: Vec<Section> =
            pfx.keys.into_iter().map(|der| Section { kind: Kind::Pkcs8, der }).take(1).collect();
        // The chain may stand before the certificate: the one that the key belongs to comes first.
        let key = sections.first().and_then(|section| KeyPair::from_pkcs8(&section.der).ok());
        let mut certificates = pfx.certificates;
        certificates.sort_by_key(|der| {
            let is_of_key = |key: &KeyPair| CertificateDetails::of(path, der).is_ok_and(|details| details.is_of(key));
            !key.as_ref().is_some_and(is_of_key)
        });
        sections
            .extend(certificates.into_iter().map(|der| Section { kind: Kind::Certificate, der: Zeroizing::new(der) }));
        Ok(Self { path: path.to_owned(), sections })
    }

    /// The certificates, in the file's order.
    pub(super) fn certificates(&self) -> impl Iterator<Item = &[u8]> {
        self.sections.iter().filter(|section| section.kind == Kind::Certificate).map(|section| section.der.as_slice())
    }

    pub(super) fn has_key(&self) -> bool {
        self.sections.iter().any(|section| section.kind != Kind::Certificate)
    }

    /// The RSA key.
    pub(super) fn key(&self, password: Option<&Password>) -> Result<KeyPair, CredentialError> {
        let path = || self.path.clone();
        let Some(section) = self.sections.iter().find(|section| section.kind != Kind::Certificate) else {
            return Err(CredentialError::NoKey { path: path() });
        };
        let key = match section.kind {
            Kind::Pkcs1 => KeyPair::from_der(&section.der),
            Kind::Pkcs8 => return self.pkcs8(&section.der),
            Kind::EncryptedPkcs8 => {
                let password = password.ok_or_else(|| CredentialError::NoPassword { path: path() })?.reveal_bytes()?;
                let der = open_pkcs8(&section.der, &password).map_err(|closed| closed.into_error(&self.path))?;
                return self.pkcs8(&der);
            }
            Kind::EncryptedText => {
                let method = "OpenSSL's own encryption of old".to_owned();
                return Err(CredentialError::UnknownEncryption { path: path(), method });
            }
            Kind::Sec1 | Kind::Certificate => return Err(CredentialError::NotRsa { path: path() }),
        };
        key.map_err(|error| self.unusable(&error.to_string()))
    }

    fn pkcs8(&self, der: &[u8]) -> Result<KeyPair, CredentialError> {
        // rsaEncryption, 1.2.840.113549.1.1.1 (RFC 8017 §A.1)
        const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
        let mut outer = Der::new(der).sequence().ok_or_else(|| self.unusable("it is not PKCS#8"))?;
        let algorithm = outer.number().and_then(|_| outer.sequence()?.take(OID));
        match algorithm {
            None => Err(self.unusable("it is not PKCS#8")),
            Some(RSA) => KeyPair::from_pkcs8(der).map_err(|error| self.unusable(&error.to_string())),
            Some(_) => Err(CredentialError::NotRsa { path: self.path.clone() }),
        }
    }

    fn unusable(&self, reason: &str) -> CredentialError {
        match reason {
            // The library refuses keys under 2048 bits by itself.
            "TooSmall" => CredentialError::ShortKey { path: self.path.clone() },
            reason => CredentialError::BadKey { path: self.path.clone(), reason: reason.to_owned() },
        }
    }
}

impl Closed {
    pub(super) fn into_error(self, path: &Path) -> CredentialError {
        let path = path.to_owned();
        match self {
            Self::Malformed => CredentialError::BadKey { path, reason: "its encryption is malformed".to_owned() },
            Self::Unknown(method) => CredentialError::UnknownEncryption { path, method },
            Self::WrongPassword => CredentialError::WrongPassword { path },
        }
    }
}

/// `None` when there is nothing of ours in the text, or a section of ours is damaged.
fn sections_of(text: &[u8]) -> Option<Vec<Section>> {
    // Its headers stand between the lines of Base64, where no other reader expects them.
    if contains(text, b"Proc-Type: 4,ENCRYPTED") {
        return Some(vec![Section { kind: Kind::EncryptedText, der: Zeroizing::default() }]);
    }
    let mut sections = Vec::new();
    for pem in Pem::iter_from_buffer(text) {
        let Pem { label, contents } = pem.ok()?;
        let der = Zeroizing::new(contents);
        let kind = match label.as_str() {
            "CERTIFICATE" => Kind::Certificate,
            "PRIVATE KEY" => Kind::Pkcs8,
            "RSA PRIVATE KEY" => Kind::Pkcs1,
            "EC PRIVATE KEY" => Kind::Sec1,
            "ENCRYPTED PRIVATE KEY" => Kind::EncryptedPkcs8,
            _ => continue,
        };
        sections.push(Section { kind, der });
    }
    if sections.is_empty() { None } else { Some(sections) }
}

fn contains(text: &[u8], needle: &[u8]) -> bool {
    text.windows(needle.len()).any(|window| window == needle)
}
