//! Files that hold secrets: written for their owner only, and refused when others can read them.
//!
//! Never follows what was there by halves: a file appears whole and synced, or not at all. On systems without Unix
//! permissions the folder's own protection is all there is, and nothing is refused for it.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use secrecy::zeroize::Zeroizing;

/// Why a file with secrets cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// It cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// Its permissions let others read or change it.
    #[error("{} can be read or changed by others (mode {mode:04o}); make it its owner's alone: `chmod 600 {}`, and renew what is in it if others may have seen it", path.display(), path.display())]
    TooOpen {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is larger than such a file ever is.
    #[error("{} is larger than {limit} bytes, so it is not the file that is meant; correct its path", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// The most that is read, in bytes.
        limit: u64,
    },
    /// There is a file of that name already.
    #[error("{} exists already and is not overwritten; move it away, or choose another name", path.display())]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// It cannot be written.
    #[error("cannot write {}: {reason}; make its folder writable for this user, or choose another place", path.display())]
    Unwritable {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
}

/// Reads a file of at most `limit` bytes that nobody but its owner can read. The bytes are wiped when dropped.
///
/// # Errors
/// When it cannot be read, is larger, or its permissions let others in (see [`too_open`]).
pub fn read(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, PrivateFileError> {
    let unreadable =
        |error: std::io::Error| PrivateFileError::Unreadable { path: path.to_owned(), reason: error.to_string() };
    let mut file = File::open(path).map_err(unreadable)?;
    // Of the open file, not of the path: nobody can put another in its place in between.
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(unreadable(std::io::ErrorKind::IsADirectory.into()));
    }
    if let Some(mode) = too_open(&metadata) {
        return Err(PrivateFileError::TooOpen { path: path.to_owned(), mode });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(metadata.len().min(limit)).unwrap_or(0) + 1));
    let read = (&mut file).take(limit + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if read as u64 > limit {
        return Err(PrivateFileError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

/// Writes a new file, for its owner only (mode 0600), synced to disk.
///
/// # Errors
/// [`PrivateFileError::Exists`] when there is one of that name; it is left as it is.
pub fn create(path: &Path, bytes: &[u8]) -> Result<(), PrivateFileError> {
    let exists = || PrivateFileError::Exists { path: path.to_owned() };
    if path.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let scratch = write_beside(path, bytes)?;
    // A link fails when the name is taken, which a rename does not; two who begin at once do not overwrite each other.
    let linked = std::fs::hard_link(&scratch, path);
    let done = match linked {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(exists()),
        // A file system without links.
        Err(_) if path.symlink_metadata().is_err() => {
            return std::fs::rename(&scratch, path)
                .map_err(|error| unwritable(path, &error))
                .and_then(|()| sync_folder(path));
        }
        Err(_) => Err(exists()),
        Ok(()) => sync_folder(path),
    };
    // What stays behind is for its owner's eyes only, and has this process's id in its name.
    let _ = std::fs::remove_file(&scratch);
    done
}

/// Puts `bytes` in the place of whatever is there, in one step, for its owner only (mode 0600), synced to disk.
///
/// # Errors
/// When it cannot be written; what was there is then still there.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), PrivateFileError> {
    let scratch = write_beside(path, bytes)?;
    std::fs::rename(&scratch, path).map_err(|error| {
        let _ = std::fs::remove_file(&scratch);
        unwritable(path, &error)
    })?;
    sync_folder(path)
}

/// The permission bits of a file when they let others in; `None` when it is its owner's alone.
///
/// A file of the system administrator's may be read by its group: that is how a secret is mounted for a service that does
/// not run as root (Kubernetes' `fsGroup`).
#[cfg(unix)]
pub fn too_open(metadata: &std::fs::Metadata) -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    let mode = metadata.mode() & 0o7777;
    is_too_open(mode, metadata.uid()).then_some(mode)
}

/// Permissions are not looked at where there are none.
#[cfg(not(unix))]
pub fn too_open(_metadata: &std::fs::Metadata) -> Option<u32> {
    None
}

#[cfg(unix)]
fn is_too_open(mode: u32, owner: u32) -> bool {
    let permitted = if owner == 0 { 0o740 } else { 0o700 };
    mode & 0o777 & !permitted != 0
}

fn write_beside(path: &Path, bytes: &[u8]) -> Result<PathBuf, PrivateFileError> {
    if let Some(folder) = folder_of(path) {
        std::fs::create_dir_all(folder).map_err(|error| unwritable(path, &error))?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    // Threads of one process may write at once, too.
    name.push(format!(".{}-{:08x}.tmp", std::process::id(), fastrand::u32(..)));
    let scratch = path.with_file_name(name);
    let written = owner_only().open(&scratch).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|error| {
        let _ = std::fs::remove_file(&scratch);
        unwritable(path, &error)
    })?;
    Ok(scratch)
}

fn owner_only() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options
}

fn folder_of(path: &Path) -> Option<&Path> {
    path.parent().filter(|folder| !folder.as_os_str().is_empty())
}

/// A new name survives a power cut only once its folder is synced.
fn sync_folder(path: &Path) -> Result<(), PrivateFileError> {
    #[cfg(unix)]
    File::open(folder_of(path).unwrap_or(Path::new(".")))
        .and_then(|folder| folder.sync_all())
        .map_err(|error| unwritable(path, &error))?;
    Ok(())
}

fn unwritable(path: &Path, error: &std::io::Error) -> PrivateFileError {
    PrivateFileError::Unwritable { path: path.to_owned(), reason: error.to_string() }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode_of(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_new_file_is_its_owners_alone_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new").join("secret.key");
        create(&path, b"one").unwrap();
        assert_eq!(mode_of(&path), 0o600);
        assert_eq!(read(&path, 3).unwrap().as_slice(), b"one");
        replace(&path, b"two!").unwrap();
        assert_eq!(mode_of(&path), 0o600);
        assert_eq!(read(&path, 4).unwrap().as_slice(), b"two!");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_there_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret.key");
        create(&path, b"first").unwrap();
        let error = create(&path, b"second").unwrap_err();
        assert!(matches!(error, PrivateFileError::Exists { .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &link).unwrap();
        assert!(matches!(create(&link, b"x"), Err(PrivateFileError::Exists { .. })));
        assert!(!dir.path().join("elsewhere").exists());
    }

    #[test]
    fn a_file_that_others_can_read_or_change_is_refused_with_the_command_that_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret.key");
        create(&path, b"x").unwrap();
        for mode in [0o604, 0o602, 0o601, 0o620, 0o660, 0o644] {
            set_mode(&path, mode);
            let error = read(&path, 10).unwrap_err().to_string();
            assert!(error.contains("chmod 600") && error.contains(&format!("{mode:04o}")), "{error}");
        }
        for mode in [0o600, 0o400, 0o700] {
            set_mode(&path, mode);
            assert!(read(&path, 10).is_ok(), "{mode:o}");
        }
    }

    #[test]
    fn a_group_may_read_only_what_the_administrator_mounted_for_it() {
        for (mode, owner, expected) in [
            (0o600, 1000, false),
            (0o640, 1000, true),
            (0o640, 0, false),
            (0o440, 0, false),
            (0o660, 0, true),
            (0o644, 0, true),
        ] {
            assert_eq!(is_too_open(mode, owner), expected, "{mode:o} of {owner}");
        }
    }

    #[test]
    fn a_file_is_read_up_to_its_limit_and_not_beyond() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret.key");
        create(&path, &[7; 11]).unwrap();
        assert!(read(&path, 11).is_ok());
        assert!(matches!(read(&path, 10), Err(PrivateFileError::TooLarge { limit: 10, .. })));
        assert!(matches!(read(dir.path(), 10), Err(PrivateFileError::Unreadable { .. })));
        assert!(matches!(read(&dir.path().join("none"), 10), Err(PrivateFileError::Unreadable { .. })));
    }
}
