//! Who reads an archive at this moment on this machine: a lock file in its folder, shared by those who read.
//!
//! Never decides by a file's existence: the lock is the kernel's, so a reader that was killed leaves none behind. Readers on
//! other machines are not seen.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use crate::Archive;

/// Below the archive's folder; a remote archive's local one.
const FILE_NAME: &str = "_readers.lock";

/// Held by who has asked the ledger which segments are visible and may still open any of them. Dropping it ends that.
///
/// A folder that is not there, or where the file cannot even be made, has no collector that writes to it: it is read as it is.
#[derive(Debug)]
#[must_use = "files may go as soon as it is dropped"]
pub struct Reading {
    // The lock lives as long as the open file.
    _file: Option<File>,
}

impl Reading {
    /// To be called before the ledger is asked. Waits for no longer than a collector takes to look.
    pub fn begin(root: &Path) -> Self {
        let file = open(root).filter(|file| {
            let locked = file.lock_shared();
            if let Err(error) = &locked {
                // Network file systems without locks: files stay for their grace, as for readers elsewhere.
                tracing::debug!(%error, "readers cannot be told from others");
            }
            locked.is_ok()
        });
        Self { _file: file }
    }
}

impl Archive {
    /// Whether somebody on this machine holds a [`Reading`], or it cannot be told. Whoever begins one after this sees what the
    /// ledger shows by then: what it has ceased to show before this was called is read by nobody here when the answer is no.
    pub fn is_read(&self) -> bool {
        let Some(file) = open(self.root()) else { return true };
        match file.try_lock() {
            Ok(()) => false,
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Error(error)) => {
                tracing::debug!(%error, "readers cannot be told from others");
                true
            }
        }
    }
}

fn open(root: &Path) -> Option<File> {
    let path = root.join(FILE_NAME);
    // Whoever may not write reads it all the same: that suffices for a lock.
    OpenOptions::new().write(true).create(true).truncate(false).open(&path).or_else(|_| File::open(&path)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ArchiveOptions;

    #[test]
    fn an_archive_is_read_as_long_as_somebody_reads() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::open(&ArchiveOptions::at(folder.path())).unwrap();
        assert!(!archive.is_read());
        let [first, second] = [(); 2].map(|()| Reading::begin(folder.path()));
        assert!(archive.is_read());
        drop(first);
        assert!(archive.is_read());
        drop(second);
        assert!(!archive.is_read());
    }

    #[test]
    fn reading_makes_no_folder_and_one_that_is_gone_counts_as_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("archive");
        let _reading = Reading::begin(&root);
        assert!(!root.exists());
        let archive = Archive::open(&ArchiveOptions::at(&root)).unwrap();
        std::fs::remove_dir_all(&root).unwrap();
        assert!(archive.is_read());
    }
}
