//! Secrets that must persist: sealed by the vault, kept by the ledger, and sealed anew when the key is renewed.
//!
//! Never writes a secret in clear, and never drops a key before what it sealed is sealed by the new one. A rotation can be
//! killed at any instant: what is left is keys that all open, and the next rotation goes on from there.
//!
//! Beside the secrets themselves there is one value whose text everybody knows ([`Safe::check`]): whether it opens tells
//! whether the key at hand is the one this ledger was sealed with, before a secret is needed.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ledger::{Ledger, LedgerError};

use crate::vault::{KeyId, Opened, Vault, VaultError};

/// The name of the value that tells whether the key fits.
const CHECK: &str = "check";

/// Its text.
const CHECK_TEXT: &[u8] = b"tenantry";

/// Values read at a time.
const BATCH: u32 = 100;

/// How long another process may be between sealing a value and having it in the ledger: longer than a call waits for the
/// ledger (10 s), so that what it sealed with the old key is seen before that key is dropped.
pub const IN_FLIGHT: Duration = Duration::from_secs(15);

/// Sealed values in the ledger.
#[derive(Clone)]
pub struct Safe {
    vault: Arc<Vault>,
    ledger: Arc<dyn Ledger>,
}

/// Why a secret cannot be kept or had.
#[derive(Debug, thiserror::Error)]
pub enum SafeError {
    /// The ledger failed.
    #[error("the ledger cannot keep what is sealed")]
    Ledger(#[from] LedgerError),
    /// It cannot be opened.
    #[error("what is sealed as {name:?} cannot be opened: {source}")]
    Vault {
        /// Its name.
        name: String,
        /// Why.
        source: VaultError,
    },
    /// The keys cannot be changed.
    #[error(transparent)]
    Keys(VaultError),
    /// Another rotation is under way.
    #[error("another rotation is under way (it holds {}): wait for it", path.display())]
    Busy {
        /// The lock file.
        path: PathBuf,
    },
    /// The lock file cannot be written.
    #[error("cannot write the lock file {}: {reason}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// Others write the same value all the time.
    #[error("what is sealed as {name:?} changes faster than it can be written; try again")]
    Contested {
        /// Its name.
        name: String,
    },
}

/// What a rotation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// A rotation that had been begun before was finished.
    pub resumed: bool,
    /// Values that were sealed anew.
    pub resealed: u64,
    /// Names of values that no key opens; they are left as they are.
    pub unopened: Vec<String>,
    /// Keys that were dropped.
    pub dropped: usize,
    /// The key that seals now.
    pub key: KeyId,
}

/// A sealed value, as far as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedEntry {
    /// Its name.
    pub name: String,
    /// The key that sealed it; `None` when it is not in the vault's form.
    pub key: Option<KeyId>,
    /// Whether it opens.
    pub opens: bool,
}

impl Safe {
    /// What `vault` seals, `ledger` keeps.
    pub fn new(vault: Arc<Vault>, ledger: Arc<dyn Ledger>) -> Self {
        Self { vault, ledger }
    }

    /// Keeps a secret under a name, in the place of what was there. The name is sealed in: a value that was moved to
    /// another name does not open.
    ///
    /// # Errors
    /// When the ledger fails.
    pub async fn keep(&self, name: &str, plain: &[u8]) -> Result<(), SafeError> {
        for _ in 0..8 {
            let was = self.ledger.sealed(name.to_owned()).await?;
            let now = self.vault.seal(name, plain);
            if self.ledger.put_sealed(name.to_owned(), was, Some(now)).await? {
                return Ok(());
            }
        }
        Err(SafeError::Contested { name: name.to_owned() })
    }

    /// A secret; `None` when there is none of that name.
    ///
    /// # Errors
    /// When the ledger fails, or no key here opens it.
    pub async fn fetch(&self, name: &str) -> Result<Option<Opened>, SafeError> {
        let Some(sealed) = self.ledger.sealed(name.to_owned()).await? else { return Ok(None) };
        let opened = self.vault.open(name, &sealed);
        opened.map(Some).map_err(|source| SafeError::Vault { name: name.to_owned(), source })
    }

    /// Whether the key at hand is the one this ledger is sealed with; the first time, this makes it so.
    ///
    /// # Errors
    /// When it is not, or the ledger fails.
    pub async fn check(&self) -> Result<(), SafeError> {
        if self.fetch(CHECK).await?.is_some() {
            return Ok(());
        }
        let now = self.vault.seal(CHECK, CHECK_TEXT);
        // Another process may be faster: then its value is the one.
        self.ledger.put_sealed(CHECK.to_owned(), None, Some(now)).await?;
        self.fetch(CHECK).await.map(|_| ())
    }

    /// Every sealed value.
    ///
    /// # Errors
    /// When the ledger fails.
    pub async fn entries(&self) -> Result<Vec<SealedEntry>, SafeError> {
        let mut entries: Vec<SealedEntry> = Vec::new();
        loop {
            let after = entries.last().map(|entry| entry.name.clone());
            let found = self.ledger.all_sealed(after, BATCH).await?;
            if found.is_empty() {
                return Ok(entries);
            }
            entries.extend(found.into_iter().map(|(name, sealed)| SealedEntry {
                key: Vault::key_of(&sealed),
                opens: self.vault.open(&name, &sealed).is_ok(),
                name,
            }));
        }
    }

    /// Forgets every value that no key here opens; says which. For whoever has lost a key.
    ///
    /// # Errors
    /// When the ledger fails.
    pub async fn forget_unopened(&self) -> Result<Vec<String>, SafeError> {
        let mut forgotten = Vec::new();
        for entry in self.entries().await?.into_iter().filter(|entry| !entry.opens) {
            let was = self.ledger.sealed(entry.name.clone()).await?;
            if self.ledger.put_sealed(entry.name.clone(), was, None).await? {
                forgotten.push(entry.name);
            }
        }
        Ok(forgotten)
    }

    /// Renews the key: a fresh one in front, everything sealed anew with it, the older ones dropped. Where keys come from a
    /// variable, the fresh one is whoever's who sets it, and nothing is dropped. `beside` is how long to wait for a process
    /// that may be using the old key: zero when none is.
    ///
    /// # Errors
    /// When another rotation is under way, or ledger or keys cannot be written; running it again goes on from there.
    pub async fn rotate(&self, beside: Duration) -> Result<Rotated, SafeError> {
        let _lock = self.vault.key_file().map(lock).transpose()?;
        let resumed = self.vault.begin_rotation().map_err(SafeError::Keys)?;
        let mut rotated = self.reseal_all().await?;
        if !beside.is_zero() {
            tokio::time::sleep(beside).await;
            let again = self.reseal_all().await?;
            rotated = Rotated { resealed: rotated.resealed + again.resealed, ..again };
        }
        let dropped = self.vault.drop_older_keys().map_err(SafeError::Keys)?;
        Ok(Rotated { resumed, dropped, ..rotated })
    }

    /// Seals anew what an older key sealed. Each value is one step, and safe to stop after.
    async fn reseal_all(&self) -> Result<Rotated, SafeError> {
        let key = self.vault.first_key();
        let mut rotated = Rotated { resumed: false, resealed: 0, unopened: Vec::new(), dropped: 0, key };
        let mut after = None;
        loop {
            let found = self.ledger.all_sealed(after.take(), BATCH).await?;
            let Some((last, _)) = found.last() else { return Ok(rotated) };
            after = Some(last.clone());
            for (name, sealed) in found {
                match self.vault.reseal(&sealed) {
                    Ok(None) => {}
                    Ok(Some(now)) => {
                        // If somebody else has written it meanwhile, that was with the new key: the vault reads its keys anew.
                        if self.ledger.put_sealed(name, Some(sealed), Some(now)).await? {
                            rotated.resealed += 1;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(name, error = %crate::chain(&error), "a sealed value cannot be opened and is left as it is");
                        rotated.unopened.push(name);
                    }
                }
            }
        }
    }
}

impl std::fmt::Debug for Safe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Safe").field("vault", &self.vault).finish_non_exhaustive()
    }
}

/// One rotation at a time: two that begin with the same file would each put another key in front.
fn lock(key_file: &Path) -> Result<File, SafeError> {
    let mut name = key_file.file_name().unwrap_or_default().to_owned();
    name.push(".lock");
    let path = key_file.with_file_name(name);
    let unwritable = |error: std::io::Error| SafeError::Lock { path: path.clone(), reason: error.to_string() };
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(unwritable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(SafeError::Busy { path }),
        Err(std::fs::TryLockError::Error(error)) => Err(unwritable(error)),
    }
}

#[cfg(test)]
mod tests {
    use ledger::sqlite::{OpenOptions, SqliteLedger};
    use tempfile::TempDir;

    use super::*;
    use crate::vault::KeySource;

    struct World {
        dir: TempDir,
    }

    impl World {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().unwrap() }
        }

        fn key_file(&self) -> PathBuf {
            self.dir.path().join("secret.key")
        }

        /// As a fresh process finds it.
        fn safe(&self) -> Safe {
            let vault = Vault::load(KeySource::File(self.key_file())).unwrap();
            // In place: paused time must not run on while a thread works.
            let options = OpenOptions { in_place: true, ..OpenOptions::default() };
            let ledger = SqliteLedger::open(self.dir.path().join("ledger.db"), options).unwrap();
            Safe::new(Arc::new(vault), Arc::new(ledger))
        }

        async fn assert_whole(&self, secrets: &[(String, Vec<u8>)]) {
            let safe = self.safe();
            safe.check().await.unwrap();
            for (name, plain) in secrets {
                assert_eq!(safe.fetch(name).await.unwrap().unwrap().expose(), &plain[..], "{name}");
            }
        }
    }

    fn secrets(count: usize) -> Vec<(String, Vec<u8>)> {
        (0..count).map(|number| (format!("test/{number:03}"), format!("hunter-{number}").into_bytes())).collect()
    }

    async fn keep_all(safe: &Safe, secrets: &[(String, Vec<u8>)]) {
        for (name, plain) in secrets {
            safe.keep(name, plain).await.unwrap();
        }
    }

    #[tokio::test]
    async fn secrets_are_kept_sealed_and_never_in_clear() {
        let world = World::new();
        let secrets = secrets(3);
        keep_all(&world.safe(), &secrets).await;
        world.safe().keep("test/000", b"another").await.unwrap();
        assert_eq!(world.safe().fetch("test/000").await.unwrap().unwrap().expose(), b"another");
        assert!(world.safe().fetch("test/none").await.unwrap().is_none());
        for entry in std::fs::read_dir(world.dir.path()).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            assert!(!bytes.windows(6).any(|window| window == b"hunter"));
        }
    }

    #[tokio::test]
    async fn a_rotation_seals_everything_anew_and_drops_the_old_key() {
        let world = World::new();
        let secrets = secrets(2 * usize::try_from(BATCH).unwrap() + 1);
        let safe = world.safe();
        safe.check().await.unwrap();
        keep_all(&safe, &secrets).await;
        let old = std::fs::read_to_string(world.key_file()).unwrap();
        let old_key = safe.vault.first_key();

        let rotated = safe.rotate(Duration::ZERO).await.unwrap();
        assert_eq!((rotated.resealed, rotated.dropped, rotated.resumed), (secrets.len() as u64 + 1, 1, false));
        assert!(rotated.unopened.is_empty() && rotated.key != old_key);
        let new = std::fs::read_to_string(world.key_file()).unwrap();
        assert!(!new.contains(old.lines().last().unwrap()));
        assert!(safe.entries().await.unwrap().iter().all(|entry| entry.key == Some(rotated.key) && entry.opens));
        world.assert_whole(&secrets).await;
    }

    /// Wherever it is killed, what is left opens, and the next rotation ends with one key.
    #[tokio::test]
    async fn a_rotation_that_was_killed_at_any_step_goes_on() {
        let count = 5;
        for killed_after in 0..=count {
            let world = World::new();
            let secrets = secrets(count);
            let safe = world.safe();
            keep_all(&safe, &secrets).await;
            // What `rotate` does, up to there.
            assert!(!safe.vault.begin_rotation().unwrap());
            for (name, _) in secrets.iter().take(killed_after) {
                let sealed = safe.ledger.sealed(name.clone()).await.unwrap().unwrap();
                let now = safe.vault.reseal(&sealed).unwrap().unwrap();
                assert!(safe.ledger.put_sealed(name.clone(), Some(sealed), Some(now)).await.unwrap());
            }
            drop(safe);
            world.assert_whole(&secrets).await;
            assert_eq!(world.safe().vault.key_ids().len(), 2);

            let rotated = world.safe().rotate(Duration::ZERO).await.unwrap();
            assert!(rotated.resumed);
            // The check value is sealed by the new key already: the killed one had put that in front.
            assert_eq!(rotated.resealed, (count - killed_after) as u64);
            assert_eq!(world.safe().vault.key_ids().len(), 1);
            world.assert_whole(&secrets).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_running_process_sealed_with_the_old_key_meanwhile_is_sealed_anew() {
        let world = World::new();
        let running = world.safe();
        let late = running.vault.seal("test/late", b"late");
        let ledger = Arc::clone(&running.ledger);
        let writing = tokio::spawn(async move {
            tokio::time::sleep(IN_FLIGHT / 2).await;
            ledger.put_sealed("test/late".to_owned(), None, Some(late)).await.unwrap()
        });
        let rotated = world.safe().rotate(IN_FLIGHT).await.unwrap();
        assert!(writing.await.unwrap());
        assert_eq!((rotated.resealed, rotated.dropped), (1, 1));
        // The running process reads its keys anew by itself.
        assert_eq!(running.fetch("test/late").await.unwrap().unwrap().expose(), b"late");
        running.keep("test/next", b"next").await.unwrap();
        assert_eq!(world.safe().fetch("test/next").await.unwrap().unwrap().expose(), b"next");
    }

    #[tokio::test]
    async fn a_key_that_is_not_this_ledgers_is_noticed_at_once() {
        let world = World::new();
        world.safe().check().await.unwrap();
        world.safe().keep("test/a", b"a").await.unwrap();
        std::fs::remove_file(world.key_file()).unwrap();
        let error = world.safe().check().await.unwrap_err();
        assert!(matches!(error, SafeError::Vault { source: VaultError::UnknownKey { .. }, .. }), "{error}");

        assert_eq!(world.safe().forget_unopened().await.unwrap(), ["check", "test/a"]);
        world.safe().check().await.unwrap();
        assert!(world.safe().fetch("test/a").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn two_rotations_at_once_are_one() {
        let world = World::new();
        let held = lock(&{
            world.safe();
            world.key_file()
        })
        .unwrap();
        let error = world.safe().rotate(Duration::ZERO).await.unwrap_err();
        assert!(matches!(error, SafeError::Busy { .. }), "{error}");
        drop(held);
        world.safe().rotate(Duration::ZERO).await.unwrap();
    }

    #[tokio::test]
    async fn a_value_that_was_moved_to_another_name_does_not_open() {
        let world = World::new();
        let safe = world.safe();
        safe.keep("test/a", b"a").await.unwrap();
        let sealed = safe.ledger.sealed("test/a".to_owned()).await.unwrap();
        assert!(safe.ledger.put_sealed("test/b".to_owned(), None, sealed).await.unwrap());
        assert!(safe.fetch("test/b").await.is_err());
    }
}
