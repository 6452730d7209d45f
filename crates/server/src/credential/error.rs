//! Why a credential file cannot be used, or a new one not be made.
//!
//! Never repeats anything of a file's content; every message names the path and the step that mends it.

use std::path::PathBuf;

use protocol::time::Timestamp;

use super::file::FILE_BYTES_MAX;

/// Why a credential file cannot be used, or a new one not be made.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file cannot be read.
    #[error("cannot read the credential file {}: {reason}; correct the path or the file's permissions", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The file is far larger than any credential.
    #[error("{} is larger than {FILE_BYTES_MAX} bytes, so it is no credential file; correct the path", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// The file holds something secret, and more than its owner may read it.
    #[error("{} can be read by others than its owner (mode {mode:04o}) and holds what must stay secret; type `chmod 600 {}`", path.display(), path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is not PEM.
    #[error("{} holds neither PEM text nor PKCS#12 that can be read; export the certificate with its key again, or make a new one with `tenantry certificate new --out FILE`", path.display())]
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
    /// The private key is protected by a password, and there is none.
    #[error("the private key in {} is encrypted and no password is given; write it to a file of its own and name that as password_file, or put it into the variable", path.display())]
    NoPassword {
        /// Which file.
        path: PathBuf,
    },
    /// The password does not open the file.
    #[error("the password does not open {}; correct password_file or the variable", path.display())]
    WrongPassword {
        /// Which file.
        path: PathBuf,
    },
    /// The private key is encrypted in a way that is not read.
    #[error("the private key in {} is encrypted by a method that is not supported ({method}); encrypt it anew: `openssl pkcs8 -topk8 -v2 aes-256-cbc -in {} -out NEW`", path.display(), path.display())]
    UnknownEncryption {
        /// Which file.
        path: PathBuf,
        /// Its name or object identifier.
        method: String,
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
    /// The file is no client secret.
    #[error("{} holds no client secret: it must be one line of text, the secret's value", path.display())]
    NoSecret {
        /// Which file.
        path: PathBuf,
    },
    /// The file is no federated token.
    #[error("{} holds no token (a JWT: three parts with dots between); see that whatever renews it writes it whole", path.display())]
    NoAssertion {
        /// Which file.
        path: PathBuf,
    },
    /// The federated token is over.
    #[error("the token in {} ended on {expired}; see that whatever renews it still runs", path.display())]
    AssertionExpired {
        /// Which file.
        path: PathBuf,
        /// Its last moment.
        expired: Timestamp,
    },
    /// A new certificate would overwrite something.
    #[error("{} is there already and is not overwritten; choose another --out, or move the file away", path.display())]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// A new file cannot be written.
    #[error("cannot write {}: {reason}; choose another --out, or mend the folder's permissions", path.display())]
    Unwritable {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// A key of that length is not made.
    #[error(
        "a key of {bits} bits is not made: choose 2048, 3072 or 4096 (Entra ID refuses RSA keys shorter than 2048)"
    )]
    KeyLength {
        /// What was asked for.
        bits: u32,
    },
    /// A certificate of that validity is not made.
    #[error("a certificate for {days} days is not made: choose 1 to 3650")]
    Validity {
        /// What was asked for.
        days: u32,
    },
    /// The subject is not a name.
    #[error(
        "{subject:?} cannot be a certificate's name: give 1 to 64 characters without control characters as --subject"
    )]
    Subject {
        /// What was asked for.
        subject: String,
    },
    /// The library made no key or certificate.
    #[error("no certificate could be made: {reason}")]
    Make {
        /// What the library says.
        reason: String,
    },
}
