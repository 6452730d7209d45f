//! Making a key and its self-signed certificate, and writing them where only their owner can read the key.
//!
//! Never overwrites a file, never makes a key that Entra ID would refuse, and leaves no half of a pair behind.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{Datelike as _, Timelike as _};
use protocol::time::Timestamp;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_RSA_SHA256, RsaKeySize,
};
use secrecy::zeroize::Zeroizing;

use super::CredentialError;
use super::inspect::CertificateDetails;
use crate::private_file::{self, PrivateFileError};

/// The lengths of RSA keys that are made, in bits; 2048 is the least that Entra ID takes (entra.md §2).
pub const KEY_BITS: [u32; 3] = [2048, 3072, 4096];

/// The length that is made unless another is asked for: what is recommended beyond 2030.
pub const KEY_BITS_DEFAULT: u32 = 3072;

/// For how many days a certificate may be made.
pub const VALID_DAYS: RangeInclusive<u32> = 1..=3650;

/// A certificate begins this long before it was made: Entra's clock, or another machine's, may be behind ours.
const BACKDATE: Duration = Duration::from_secs(10 * 60);

/// The longest common name (RFC 5280 A.1, ub-common-name).
const SUBJECT_CHARS_MAX: usize = 64;

/// What is to be made.
#[derive(Debug, Clone)]
pub struct CertificateRequest<'a> {
    /// Where the private key goes, with the certificate behind it; the certificate alone goes beside it.
    pub out: &'a Path,
    /// The RSA key's length, one of [`KEY_BITS`].
    pub bits: u32,
    /// For how many days from now it is valid, within [`VALID_DAYS`].
    pub days: u32,
    /// Its common name; a leading `CN=` is taken off.
    pub subject: &'a str,
    /// Now.
    pub now: Timestamp,
}

/// What was made, and where it lies.
#[derive(Debug, Clone)]
pub struct NewCertificate {
    /// The private key and the certificate, in PEM, readable by the owner only: what `path` under `[[app.credential]]` is.
    pub path: PathBuf,
    /// The certificate alone, in PEM: what is uploaded to the app registration.
    pub public_path: PathBuf,
    /// The certificate.
    pub details: CertificateDetails,
}

/// Makes an RSA key and a self-signed certificate and writes both. Takes up to some seconds of CPU for long keys.
///
/// # Errors
/// When the request cannot be met as written, when one of the two files is there already, or cannot be written.
pub fn new_certificate(request: &CertificateRequest<'_>) -> Result<NewCertificate, CredentialError> {
    let public_path = public_path_of(request.out);
    // Before the key is made, which takes a while; that nothing is overwritten is seen to again when it is written.
    for path in [request.out, &public_path] {
        if path.symlink_metadata().is_ok() {
            return Err(CredentialError::Exists { path: path.to_owned() });
        }
    }
    let (key, certificate) = make(request)?;
    let details = CertificateDetails::of(request.out, &certificate)?;
    let mut secret = Zeroizing::new(key.serialize_pem());
    secret.push_str(&details.pem());
    private_file::create(request.out, secret.as_bytes()).map_err(unwritten)?;
    if let Err(error) = write_public(&public_path, details.pem().as_bytes()) {
        // Ours, made a moment ago: half a pair is of no use to anybody.
        let _ = std::fs::remove_file(request.out);
        return Err(error);
    }
    Ok(NewCertificate { path: request.out.to_owned(), public_path, details })
}

/// `app.pem` gets `app.crt` beside it, which Entra's upload form takes.
fn public_path_of(out: &Path) -> PathBuf {
    let taken = out.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("crt"));
    out.with_extension(if taken { "cer" } else { "crt" })
}

fn make(request: &CertificateRequest<'_>) -> Result<(KeyPair, Vec<u8>), CredentialError> {
    let size = match request.bits {
        2048 => RsaKeySize::_2048,
        3072 => RsaKeySize::_3072,
        4096 => RsaKeySize::_4096,
        bits => return Err(CredentialError::KeyLength { bits }),
    };
    if !VALID_DAYS.contains(&request.days) {
        return Err(CredentialError::Validity { days: request.days });
    }
    let subject = request.subject.strip_prefix("CN=").unwrap_or(request.subject).trim();
    if subject.is_empty() || subject.chars().count() > SUBJECT_CHARS_MAX || subject.chars().any(char::is_control) {
        return Err(CredentialError::Subject { subject: request.subject.to_owned() });
    }
    let failed = |error: rcgen::Error| CredentialError::Make { reason: error.to_string() };
    let mut params = CertificateParams::new(Vec::new()).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let now = request.now;
    let (month, day) = (now.month().try_into().unwrap_or(1), now.day().try_into().unwrap_or(1));
    let now =
        rcgen::date_time_ymd(now.year(), month, day) + Duration::from_secs(u64::from(now.num_seconds_from_midnight()));
    params.not_before = now - BACKDATE;
    params.not_after = now + Duration::from_secs(u64::from(request.days) * 86_400);
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size).map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok((key, certificate.der().to_vec()))
}

/// Writes a file that is not there yet and that anybody may read.
fn write_public(path: &Path, bytes: &[u8]) -> Result<(), CredentialError> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => CredentialError::Exists { path: path.to_owned() },
        _ => CredentialError::Unwritable { path: path.to_owned(), reason: error.to_string() },
    })?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| {
        let _ = std::fs::remove_file(path);
        CredentialError::Unwritable { path: path.to_owned(), reason: error.to_string() }
    })
}

fn unwritten(error: PrivateFileError) -> CredentialError {
    match error {
        PrivateFileError::Exists { path } => CredentialError::Exists { path },
        PrivateFileError::Unwritable { path, reason } | PrivateFileError::Unreadable { path, reason } => {
            CredentialError::Unwritable { path, reason }
        }
        PrivateFileError::TooOpen { path, .. } | PrivateFileError::TooLarge { path, .. } => {
            CredentialError::Unwritable { path, reason: "it cannot be made private".to_owned() }
        }
    }
}
