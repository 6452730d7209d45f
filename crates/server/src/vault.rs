//! Seals what is secret and must persist, so that nothing secret stands in the ledger in clear.
//!
//! Never shows a key or what it opened, and never opens for another purpose than it sealed for. What is sealed says which
//! key did it, so that several keys live side by side: the first seals, every one opens, and a rotation seals anew what an
//! older one sealed.
//!
//! A sealed value is, in this order: the format's version (one byte, 1), the key's id (8), the purpose's length (2, big
//! endian) and its text, the nonce (12), the ciphertext and its tag (16). Everything before the nonce is associated data.
//! The cipher is AES-256-GCM with random nonces, good for 2^32 values under one key: consents and webhooks seal some a
//! tenant.

mod keys;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

pub use keys::KeyId;
pub use secrecy::zeroize::Zeroizing;

use keys::Key;

use crate::private_file::{self, PrivateFileError};

/// Of the sealed form.
const VERSION: u8 = 1;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
const PURPOSE_AT: usize = 1 + KeyId::BYTES + 2;

/// The largest key file that is read.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// Where the keys come from.
#[derive(Clone)]
pub enum KeySource {
    /// A file, made on first use. A running program notices when it is changed.
    File(PathBuf),
    /// The text of an environment variable: one key, or several parted by commas.
    Variable {
        /// The variable's name, for messages.
        name: String,
        /// What it holds.
        text: Zeroizing<String>,
    },
}

/// Why there are no keys, or why something cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The key file cannot be used.
    #[error("the key file of [secrets] cannot be used: {0}")]
    File(#[from] PrivateFileError),
    /// There is no key file, and none may be made.
    #[error("there is no key file {}: it is made when the collector first runs; if there was one, bring it back from its copy", path.display())]
    Missing {
        /// Where it would be.
        path: PathBuf,
    },
    /// The text holds no key, or too many.
    #[error("{place} holds {}: one to {} are expected, in base64, 32 random bytes each (`openssl rand -base64 32`)", if *found == 0 { "no key".to_owned() } else { format!("{found} keys") }, keys::KEYS_MAX)]
    NoKeys {
        /// The file or variable.
        place: String,
        /// How many there are.
        found: usize,
    },
    /// One of the keys is none.
    #[error(
        "key {number} in {place} is not 32 random bytes in base64: bring the file back from its copy, or make a key with `openssl rand -base64 32`"
    )]
    BadKey {
        /// The file or variable.
        place: String,
        /// Which one, from 1.
        number: usize,
    },
    /// What is to be opened is not in the form that sealing makes.
    #[error("the sealed value is damaged, or was sealed by a newer version of this program")]
    Malformed,
    /// It was sealed with a key that is not here.
    #[error(
        "the value was sealed with the key {key}, which is not among the keys of [secrets]; bring that key back from its copy and put it behind the present one"
    )]
    UnknownKey {
        /// That key's id.
        key: KeyId,
    },
    /// It was sealed for something else.
    #[error("the value was sealed for another purpose than {purpose:?}")]
    OtherPurpose {
        /// What it was to be opened for.
        purpose: String,
    },
    /// It was changed after it was sealed.
    #[error("the sealed value for {purpose:?} has been changed since it was sealed")]
    Changed {
        /// What it was to be opened for.
        purpose: String,
    },
}

/// The keys, and what is done with them. One per process, shared.
pub struct Vault {
    source: Option<KeySource>,
    ring: RwLock<Arc<Ring>>,
}

/// What was sealed. Wiped when dropped, redacted in `Debug`.
pub struct Opened(Zeroizing<Vec<u8>>);

struct Ring {
    /// At least one.
    keys: Vec<Key>,
    stamp: Option<Stamp>,
}

/// When it differs, the key file has been written since it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    inode: u64,
}

impl Vault {
    /// Reads the keys; a key file that is not there is made, with one fresh key, for its owner only.
    ///
    /// # Errors
    /// When the keys cannot be read or are none, or others can read the file.
    pub fn load(source: KeySource) -> Result<Self, VaultError> {
        if let KeySource::File(path) = &source
            && !path.exists()
        {
            let text = keys::file_text(&[&keys::generate()]);
            match private_file::create(path, text.as_bytes()) {
                // Another process was faster: its key is the one.
                Ok(()) | Err(PrivateFileError::Exists { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Self::load_existing(source)
    }

    /// Reads the keys, and makes nothing.
    ///
    /// # Errors
    /// As [`Vault::load`]; [`VaultError::Missing`] when there is no key file.
    pub fn load_existing(source: KeySource) -> Result<Self, VaultError> {
        let ring = Ring::read(&source)?;
        Ok(Self { source: Some(source), ring: RwLock::new(Arc::new(ring)) })
    }

    /// A vault with one fresh key that is nowhere but in memory: for tests, and for a demo that keeps nothing.
    pub fn ephemeral() -> Self {
        let keys = Key::read_all(&keys::generate(), "memory").expect("a key that was just drawn is a key");
        Self { source: None, ring: RwLock::new(Arc::new(Ring { keys, stamp: None })) }
    }

    /// Seals `plain` for `purpose`, which says what it is (`consent.pkce_verifier`) and, where it must not be moved from
    /// one row to another, whose (`webhook.auth_id/{tenant}`). The purpose is not secret: it stands in the sealed value.
    pub fn seal(&self, purpose: &str, plain: &[u8]) -> Vec<u8> {
        self.current().seal(purpose, plain)
    }

    /// Opens what was sealed for the same `purpose`.
    ///
    /// # Errors
    /// When its key is not here, it was sealed for another purpose, or one bit of it is not as it was.
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Result<Opened, VaultError> {
        let envelope = Envelope::read(sealed)?;
        if envelope.purpose != purpose.as_bytes() {
            return Err(VaultError::OtherPurpose { purpose: purpose.to_owned() });
        }
        let ring = self.current();
        let key = ring.key(envelope.key).ok_or(VaultError::UnknownKey { key: envelope.key })?;
        let plain = key.open(envelope.head, envelope.nonce, envelope.body);
        plain.map(Opened).ok_or_else(|| VaultError::Changed { purpose: purpose.to_owned() })
    }

    /// Seals anew, for the same purpose, what an older key sealed; `None` when the first key has sealed it already.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub fn reseal(&self, sealed: &[u8]) -> Result<Option<Vec<u8>>, VaultError> {
        let envelope = Envelope::read(sealed)?;
        let ring = self.current();
        if ring.first().id() == envelope.key {
            return Ok(None);
        }
        let purpose = str::from_utf8(envelope.purpose).map_err(|_| VaultError::Malformed)?;
        let plain = self.open(purpose, sealed)?;
        Ok(Some(ring.seal(purpose, plain.expose())))
    }

    /// The key that sealed a value; `None` when the value is not in the sealed form.
    pub fn key_of(sealed: &[u8]) -> Option<KeyId> {
        Envelope::parse(sealed).map(|envelope| envelope.key)
    }

    /// Puts a fresh key in front of the key file, synced to disk before this returns. A file with several keys is a
    /// rotation that was begun before: it is gone on with (`true`), and no key is made. Keys of a variable are left as they
    /// are: whoever sets it puts the fresh one in front.
    ///
    /// # Errors
    /// When the key file cannot be read or written.
    pub fn begin_rotation(&self) -> Result<bool, VaultError> {
        let Some(path) = self.key_file() else { return Ok(self.key_ids().len() > 1) };
        let text = read_key_file(path)?;
        let known = keys::split(&text);
        if known.len() > 1 {
            return Ok(true);
        }
        let fresh = keys::generate();
        let mut all = vec![fresh.as_str()];
        all.extend(known);
        private_file::replace(path, keys::file_text(&all).as_bytes())?;
        Ok(false)
    }

    /// Drops every key of the key file but the first; says how many. What they sealed cannot be opened after that.
    ///
    /// # Errors
    /// When the key file cannot be read or written.
    pub fn drop_older_keys(&self) -> Result<usize, VaultError> {
        let Some(path) = self.key_file() else { return Ok(0) };
        let text = read_key_file(path)?;
        let known = keys::split(&text);
        let Some((first, older)) = known.split_first().filter(|(_, older)| !older.is_empty()) else { return Ok(0) };
        private_file::replace(path, keys::file_text(&[first]).as_bytes())?;
        Ok(older.len())
    }

    /// The id of the key that seals.
    pub fn first_key(&self) -> KeyId {
        self.current().first().id()
    }

    /// The ids of the keys, the one that seals first.
    pub fn key_ids(&self) -> Vec<KeyId> {
        self.current().keys.iter().map(Key::id).collect()
    }

    /// The key file; `None` when the keys come from elsewhere.
    pub fn key_file(&self) -> Option<&Path> {
        match &self.source {
            Some(KeySource::File(path)) => Some(path),
            _ => None,
        }
    }

    /// The keys as they are now: a key file that was changed, by a rotation in another process, is read again. Costs one
    /// look at the file's metadata, which is nothing beside what is done with the sealed values.
    fn current(&self) -> Arc<Ring> {
        let known = Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner));
        let Some(source @ KeySource::File(path)) = &self.source else { return known };
        if Stamp::of(path) == known.stamp {
            return known;
        }
        match Ring::read(source) {
            Ok(ring) => {
                let ring = Arc::new(ring);
                *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&ring);
                ring
            }
            Err(error) => {
                tracing::warn!(error = %crate::chain(&error), "the keys of [secrets] changed and cannot be read; going on with the known ones");
                known
            }
        }
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("source", &self.source).field("keys", &"redacted").finish()
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Variable { name, .. } => f.debug_tuple("Variable").field(name).finish(),
        }
    }
}

impl Opened {
    /// The bytes, for the one place that uses them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as text; `None` when they are none.
    pub fn expose_text(&self) -> Option<&str> {
        str::from_utf8(&self.0).ok()
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opened(redacted)")
    }
}

impl Ring {
    fn read(source: &KeySource) -> Result<Self, VaultError> {
        match source {
            KeySource::Variable { name, text } => {
                Ok(Self { keys: Key::read_all(text, &format!("the variable {name}"))?, stamp: None })
            }
            KeySource::File(path) => {
                // Taken first: a change in between is noticed the next time.
                let stamp = Stamp::of(path);
                if stamp.is_none() && !path.exists() {
                    return Err(VaultError::Missing { path: path.clone() });
                }
                let text = read_key_file(path)?;
                Ok(Self { keys: Key::read_all(&text, &path.display().to_string())?, stamp })
            }
        }
    }

    fn first(&self) -> &Key {
        self.keys.first().expect("a ring is only ever made of one key or more")
    }

    fn key(&self, id: KeyId) -> Option<&Key> {
        self.keys.iter().find(|key| key.id() == id)
    }

    fn seal(&self, purpose: &str, plain: &[u8]) -> Vec<u8> {
        let key = self.first();
        let length = u16::try_from(purpose.len()).expect("a purpose is a short text of this program's own");
        let mut sealed = Vec::with_capacity(PURPOSE_AT + purpose.len() + NONCE_BYTES + plain.len() + TAG_BYTES);
        sealed.push(VERSION);
        sealed.extend_from_slice(&key.id().0);
        sealed.extend_from_slice(&length.to_be_bytes());
        sealed.extend_from_slice(purpose.as_bytes());
        key.seal(&mut sealed, plain);
        sealed
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Some(Self { length: metadata.len(), modified: metadata.modified().ok(), inode })
    }
}

fn read_key_file(path: &Path) -> Result<Zeroizing<String>, VaultError> {
    let bytes = private_file::read(path, FILE_BYTES_MAX)?;
    let text =
        str::from_utf8(&bytes).map_err(|_| VaultError::NoKeys { place: path.display().to_string(), found: 0 })?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// A sealed value in its parts.
struct Envelope<'a> {
    key: KeyId,
    purpose: &'a [u8],
    /// Everything before the nonce.
    head: &'a [u8],
    nonce: &'a [u8],
    body: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn read(sealed: &'a [u8]) -> Result<Self, VaultError> {
        Self::parse(sealed).ok_or(VaultError::Malformed)
    }

    fn parse(sealed: &'a [u8]) -> Option<Self> {
        let (version, rest) = sealed.split_first()?;
        if *version != VERSION {
            return None;
        }
        let (id, rest) = rest.split_first_chunk::<{ KeyId::BYTES }>()?;
        let (length, _) = rest.split_first_chunk::<2>()?;
        let (head, rest) = sealed.split_at_checked(PURPOSE_AT + usize::from(u16::from_be_bytes(*length)))?;
        let (nonce, body) = rest.split_at_checked(NONCE_BYTES)?;
        if body.len() < TAG_BYTES {
            return None;
        }
        Some(Self { key: KeyId(*id), purpose: head.get(PURPOSE_AT..)?, head, nonce, body })
    }
}

#[cfg(test)]
mod tests;
