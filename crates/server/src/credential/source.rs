//! The kinds of credential: where each is found, and what is read there.
//!
//! Never keeps a federated token: the file is read at each use, because whoever writes it (Kubernetes, GitHub, a SPIFFE agent)
//! renews it at its own pace.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use protocol::entra::AppStep;
use protocol::secret::{ClientAssertion, ClientSecret};
use protocol::time::Timestamp;
use protocol::token::{AssertionAlgorithm, IdentityEndpoint, IdentityName, assertion_expires, is_jwt};

use super::file::Contents;
use super::{CertificateCredential, CertificateFiles, CredentialError};

/// The longest client secret; Entra's have 40 characters.
const SECRET_BYTES_MAX: usize = 4096;

/// What proves that we are the app.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A client secret's value, given by the environment (entra.md §5.1).
    Secret(ClientSecret),
    /// A client secret in a file of its own that only its owner can read.
    SecretFile(PathBuf),
    /// A private key and its certificate (entra.md §5.2), and how assertions are signed with it.
    Certificate(CertificateFiles, AssertionAlgorithm),
    /// Another issuer's token, in a file that the issuer renews (entra.md §5.3).
    Federated {
        /// The file with the token and nothing else.
        token_file: PathBuf,
    },
    /// The token of an Azure managed identity as federated credential (entra.md §5.4).
    ManagedIdentity {
        /// Who hands it out.
        endpoint: IdentityEndpoint,
        /// Which identity, when there are several.
        name: Option<IdentityName>,
    },
}

/// What was read of a credential that lies in files and stays the same until they change.
#[derive(Debug, Clone)]
pub(super) enum Material {
    Secret(ClientSecret),
    Certificate(CertificateCredential),
    /// Nothing is kept: it is asked for or read at each use.
    Fresh,
}

/// What can be said of a credential without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialSummary {
    /// `certificate`, `secret`, `federated` or `managed_identity`.
    pub kind: &'static str,
    /// Where it comes from, for people.
    pub place: String,
    /// When it ends, if that is known.
    pub expires: Option<Timestamp>,
    /// The certificate's SHA-1 as Entra's pages show it.
    pub thumbprint: Option<String>,
}

impl Credential {
    /// The configuration's word for it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Secret(_) | Self::SecretFile(_) => "secret",
            Self::Certificate(..) => "certificate",
            Self::Federated { .. } => "federated",
            Self::ManagedIdentity { .. } => "managed_identity",
        }
    }

    /// Where it comes from, for people.
    pub fn place(&self) -> String {
        match self {
            Self::Secret(_) => "the environment".to_owned(),
            Self::SecretFile(path) | Self::Federated { token_file: path } => path.display().to_string(),
            Self::Certificate(files, _) => files.path.display().to_string(),
            Self::ManagedIdentity { endpoint: IdentityEndpoint::Imds(root), .. } => {
                format!("the metadata service at {}", root.origin().ascii_serialization())
            }
            Self::ManagedIdentity { endpoint: IdentityEndpoint::AppService { .. }, .. } => {
                "the App Service's identity endpoint".to_owned()
            }
        }
    }

    /// Reads it and looks whether it can be used at `now`. A managed identity is not asked for: only its machine can say.
    ///
    /// # Errors
    /// See [`CredentialError`].
    pub fn check(&self, now: Timestamp) -> Result<CredentialSummary, CredentialError> {
        let material = self.read()?;
        if let Self::Federated { token_file } = self {
            read_assertion(token_file, now)?;
        }
        if let Material::Certificate(certificate) = &material {
            certificate.check_validity(now)?;
        }
        Ok(self.summary(&material))
    }

    /// Reads it and says what it is, valid or not.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn describe(&self) -> Result<CredentialSummary, CredentialError> {
        Ok(self.summary(&self.read()?))
    }

    pub(super) fn summary(&self, material: &Material) -> CredentialSummary {
        let details = match material {
            Material::Certificate(certificate) => Some(certificate.details()),
            Material::Secret(_) | Material::Fresh => None,
        };
        CredentialSummary {
            kind: self.kind(),
            place: self.place(),
            expires: details.map(|details| details.not_after),
            thumbprint: details.map(super::CertificateDetails::sha1_hex),
        }
    }

    /// What is to be kept of it.
    pub(super) fn read(&self) -> Result<Material, CredentialError> {
        Ok(match self {
            Self::Secret(secret) => Material::Secret(secret.clone()),
            Self::SecretFile(path) => Material::Secret(read_secret(path)?),
            Self::Certificate(files, algorithm) => {
                Material::Certificate(CertificateCredential::load(files, *algorithm)?)
            }
            Self::Federated { .. } | Self::ManagedIdentity { .. } => Material::Fresh,
        })
    }

    /// The state of the files behind it; two that are equal mean that nothing has changed.
    pub(super) fn stamp(&self) -> Stamp {
        let mut files: Vec<&Path> = Vec::new();
        match self {
            Self::Secret(_) | Self::Federated { .. } | Self::ManagedIdentity { .. } => {}
            Self::SecretFile(path) => files.push(path),
            Self::Certificate(certificate, _) => {
                files.push(&certificate.path);
                files.extend(certificate.key_path.as_deref());
                if let Some(super::Password::File(path)) = &certificate.password {
                    files.push(path);
                }
            }
        }
        Stamp(files.into_iter().map(FileStamp::of).collect())
    }
}

/// The state of some files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp(Vec<Option<FileStamp>>);

impl Stamp {
    /// Whether there are no files to change.
    pub(super) fn is_of_nothing(&self) -> bool {
        self.0.is_empty()
    }
}

/// What changes when a file is written or replaced. `None` stands for one that cannot be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileStamp {
    length: u64,
    modified: Option<SystemTime>,
    /// The inode (a rename puts another one there) and the permissions: a file that was refused for them may be mended.
    identity: (u64, u32),
}

impl FileStamp {
    fn of(path: &Path) -> Option<Self> {
        // Through links: Kubernetes swaps the folder that one points to.
        let metadata = std::fs::metadata(path).ok()?;
        #[cfg(unix)]
        let identity = {
            use std::os::unix::fs::MetadataExt as _;
            (metadata.ino(), metadata.mode())
        };
        #[cfg(not(unix))]
        let identity = (0, 0);
        Some(Self { length: metadata.len(), modified: metadata.modified().ok(), identity })
    }
}

fn read_secret(path: &Path) -> Result<ClientSecret, CredentialError> {
    let contents = Contents::read(path)?;
    contents.must_be_private()?;
    let text = std::str::from_utf8(&contents.bytes).unwrap_or_default().trim();
    if text.is_empty() || text.len() > SECRET_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(CredentialError::NoSecret { path: path.to_owned() });
    }
    Ok(ClientSecret::new(text))
}

/// Another issuer's token, as it lies there now.
pub(super) fn read_assertion(path: &Path, now: Timestamp) -> Result<ClientAssertion, CredentialError> {
    let contents = Contents::read(path)?;
    let text = std::str::from_utf8(&contents.bytes).unwrap_or_default().trim();
    if !is_jwt(text) {
        return Err(CredentialError::NoAssertion { path: path.to_owned() });
    }
    let assertion = ClientAssertion::new(text);
    match assertion_expires(&assertion).filter(|expires| *expires <= now) {
        Some(expired) => Err(CredentialError::AssertionExpired { path: path.to_owned(), expired }),
        None => Ok(assertion),
    }
}

impl CredentialError {
    /// What the operator can do about it, in the words that all tenants' problems use.
    pub fn step(&self) -> AppStep {
        match self {
            Self::Expired { .. } => AppStep::RotateCertificate,
            Self::NotYetValid { .. } => AppStep::CheckClock,
            Self::NoAssertion { .. } | Self::AssertionExpired { .. } => AppStep::ProvideAssertion,
            _ => AppStep::CheckCredential,
        }
    }
}
