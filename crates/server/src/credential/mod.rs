//! What proves that we are the app: private keys and their certificates, read from files, made, shown, and signed with.
//!
//! Never shows a key, never writes one that others can read, and never accepts one that Entra would refuse later: each such
//! file is refused here, in one sentence with the path and the remedy. The assertion itself is `protocol`'s; here it gets
//! its signature.

mod certificate;
mod der;
mod encrypted;
mod error;
mod file;
mod inspect;
mod issue;
pub(crate) mod keyring;
mod pem;
mod pfx;
mod source;
#[cfg(test)]
mod tests;

pub use certificate::{CertificateCredential, CertificateFiles};
pub use error::CredentialError;
pub use file::Password;
pub use inspect::{CertificateDetails, CertificateFile, KeyState, inspect_certificate};
pub use issue::{CertificateRequest, KEY_BITS, KEY_BITS_DEFAULT, NewCertificate, VALID_DAYS, new_certificate};
pub use keyring::CredentialStatus;
pub use source::{Credential, CredentialSummary};

/// The shortest RSA key Entra accepts (entra.md §2).
const KEY_BITS_MIN: usize = 2048;
