//! Reading files that hold something secret.
//!
//! Never hands out a secret from a file that others than its owner may read (Unix), never reads more than a credential can
//! be, and wipes what it read.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};

use super::CredentialError;
use crate::private_file;

/// The largest credential file that is read: a chain of ten 4096-bit certificates is a tenth of it.
pub(super) const FILE_BYTES_MAX: u64 = 256 * 1024;

/// What was in a file, and who may read it.
pub(super) struct Contents {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    path: PathBuf,
    /// Its permission bits, when they let others in.
    exposed: Option<u32>,
}

impl Contents {
    /// Reads the file; whether it may hold a secret is asked later, by whoever finds one in it.
    pub(super) fn read(path: &Path) -> Result<Self, CredentialError> {
        let unreadable =
            |error: std::io::Error| CredentialError::Unreadable { path: path.to_owned(), reason: error.to_string() };
        let file = std::fs::File::open(path).map_err(unreadable)?;
        // Of the open file, not of the path: what is judged is what is read.
        let metadata = file.metadata().map_err(unreadable)?;
        if metadata.is_dir() {
            return Err(unreadable(std::io::Error::from(std::io::ErrorKind::IsADirectory)));
        }
        let mut bytes = Zeroizing::new(Vec::new());
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(CredentialError::TooLarge { path: path.to_owned() });
        }
        Ok(Self { bytes, path: path.to_owned(), exposed: private_file::too_open(&metadata) })
    }

    /// The file holds a secret: only its owner may be able to read it.
    pub(super) fn must_be_private(&self) -> Result<(), CredentialError> {
        match self.exposed {
            Some(mode) => Err(CredentialError::Exposed { path: self.path.clone(), mode }),
            None => Ok(()),
        }
    }
}

/// Where the password of an encrypted key is; never shown.
#[derive(Clone)]
pub enum Password {
    /// In a file of its own that only its owner may read: its first line.
    File(PathBuf),
    /// Given by the environment.
    Text(SecretString),
}

impl Password {
    /// A password given as text.
    pub fn text(text: &str) -> Self {
        Self::Text(SecretString::from(text))
    }

    /// The password itself. A line end at its end is no part of it; blanks are.
    pub(super) fn reveal(&self) -> Result<SecretString, CredentialError> {
        let path = match self {
            Self::Text(text) => return Ok(text.clone()),
            Self::File(path) => path,
        };
        let contents = Contents::read(path)?;
        contents.must_be_private()?;
        let not_text = |_| CredentialError::Unreadable { path: path.clone(), reason: "it is not UTF-8".to_owned() };
        let text = std::str::from_utf8(&contents.bytes).map_err(not_text)?;
        Ok(SecretString::from(text.lines().next().unwrap_or_default()))
    }

    /// As [`Self::reveal`], as bytes that are wiped.
    pub(super) fn reveal_bytes(&self) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
        Ok(Zeroizing::new(self.reveal()?.expose_secret().as_bytes().to_vec()))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Text(_) => f.write_str("Text(redacted)"),
        }
    }
}
