//! One collector for one data folder: an exclusive lock file, held as long as the process lives.
//!
//! Never decides by a file's existence: the lock is the kernel's, so a killed process leaves none behind. Readers
//! (queries, coverage, `tenant add`) take no lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The lock's file name under the data folder; its text is the holder's process id.
pub(crate) const FILE_NAME: &str = "collector.lock";

/// Proof that this process is the only collector of a data folder. Dropping it ends that.
#[derive(Debug)]
pub struct InstanceLock {
    // The lock lives as long as the open file.
    _file: File,
    path: PathBuf,
}

/// Why the lock could not be had.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Somebody else has it.
    #[error("another instance ({holder}) is collecting into {}; stop it first, or give this one its own --data-dir", data_dir.display())]
    Running {
        /// `pid 1234`, or `pid unknown`.
        holder: String,
        /// The contested folder.
        data_dir: PathBuf,
    },
    /// The folder or file cannot be written.
    #[error("cannot write the lock file {} ({reason}); make the folder writable for this user, or choose another data_dir", path.display())]
    Unwritable {
        /// The lock file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
}

impl InstanceLock {
    /// Takes the lock of `data_dir`, creating the folder when it is missing.
    ///
    /// # Errors
    /// When another process holds it, or the folder cannot be written.
    pub fn acquire(data_dir: &Path) -> Result<Self, InstanceError> {
        let path = data_dir.join(FILE_NAME);
        let unwritable =
            |error: std::io::Error| InstanceError::Unwritable { path: path.clone(), reason: error.to_string() };
        std::fs::create_dir_all(data_dir).map_err(unwritable)?;
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(unwritable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Unreadable or half-written is no reason to fail otherwise: the lock itself has said no.
                let _ = file.take(32).read_to_string(&mut text);
                let holder = match text.trim().parse::<u32>() {
                    Ok(pid) => format!("pid {pid}"),
                    Err(_) => "pid unknown".to_owned(),
                };
                return Err(InstanceError::Running { holder, data_dir: data_dir.to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(unwritable(error)),
        }
        file.set_len(0).map_err(unwritable)?;
        file.seek(SeekFrom::Start(0)).map_err(unwritable)?;
        writeln!(file, "{}", std::process::id()).map_err(unwritable)?;
        Ok(Self { _file: file, path })
    }

    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_instance_is_told_who_has_the_folder_and_a_later_one_gets_it() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("new").join("data");
        let first = InstanceLock::acquire(&data_dir).unwrap();
        let error = InstanceLock::acquire(&data_dir).unwrap_err().to_string();
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
        assert!(error.contains(&data_dir.display().to_string()), "{error}");
        drop(first);
        let again = InstanceLock::acquire(&data_dir).unwrap();
        assert_eq!(std::fs::read_to_string(again.path()).unwrap(), format!("{}\n", std::process::id()));
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let error = InstanceLock::acquire(&file).unwrap_err();
        assert!(matches!(error, InstanceError::Unwritable { .. }), "{error}");
        assert!(error.to_string().contains("file"), "{error}");
    }
}
