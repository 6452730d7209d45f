//! The few things done to files and folders: made, synced, renamed, removed, always with the path in the error.
//!
//! Never leaves a name half-written: what is to last is written to a temporary name, synced, renamed, and its folder synced.

use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;

use crate::ArchiveError;
use crate::disk::{self, NewFile};
use crate::sums::{Sums, SumsBuilder};

/// Bytes read at a time where a whole file is.
const READ_BYTES: usize = 64 << 10;

/// Makes a folder and those above it, each synced into its parent, so that a power loss cannot take the path away from
/// a file that was synced.
pub(crate) fn create_folder(folder: &Path) -> Result<(), ArchiveError> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent()
        && !parent.as_os_str().is_empty()
    {
        create_folder(parent)?;
    }
    match disk::create_folder(folder) {
        Ok(()) => {}
        // Another tenant's commit may have made the shared parent in between.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => return Ok(()),
        Err(error) => return Err(ArchiveError::io("create folder", folder)(error)),
    }
    match folder.parent() {
        // Who finds a folder does not sync it again: one that could not be synced must not be found.
        Some(parent) if !parent.as_os_str().is_empty() => {
            sync_folder(parent).inspect_err(|_| remove_empty_folder(folder))
        }
        _ => Ok(()),
    }
}

/// Makes renames and removals in a folder survive a power loss.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), ArchiveError> {
    disk::sync_folder(folder).map_err(ArchiveError::io("sync folder", folder))
}

/// Writes a file whole, synced, under a temporary name of that extension first. Its folder is left to the caller to sync.
pub(crate) fn write_synced(path: &Path, extension: &str, data: &mut impl Read) -> Result<(), ArchiveError> {
    let temporary = path.with_extension(extension);
    let mut write = || {
        let mut file = NewFile::create(&temporary)?;
        io::copy(data, &mut file)?;
        file.sync_all()?;
        disk::rename(&temporary, path)
    };
    write().inspect_err(|_| drop(disk::remove_file(&temporary))).map_err(ArchiveError::io("write", path))
}

/// The same, but never in place of another file: `false` when there is one.
pub(crate) fn write_new(path: &Path, extension: &str, data: &mut impl Read) -> Result<bool, ArchiveError> {
    let temporary = path.with_extension(extension);
    // It may have both names, if a crash came between them: then what is written must not be written to both.
    remove_file(&temporary)?;
    let mut write = || {
        let mut file = NewFile::create(&temporary)?;
        io::copy(data, &mut file)?;
        file.sync_all()?;
        disk::rename_new(&temporary, path)
    };
    match write().inspect_err(|_| drop(disk::remove_file(&temporary))) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(ArchiveError::io("write", path)(error)),
    }
}

/// Removes a file; one that is not there is as good as removed. Says whether it was there.
pub(crate) fn remove_file(path: &Path) -> Result<bool, ArchiveError> {
    match disk::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(ArchiveError::io("remove", path)(error)),
    }
}

/// Removes a folder if it is empty. Best effort: an empty folder does no harm.
pub(crate) fn remove_empty_folder(path: &Path) {
    // Fails when it is not empty, which is the common case and no error.
    let _ = disk::remove_folder(path);
}

/// The names in a folder; none when it does not exist. Names that are not UTF-8 are not ours and are left out.
pub(crate) fn names_in(folder: &Path) -> Result<Vec<String>, ArchiveError> {
    let entries = match disk::list(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(ArchiveError::io("list folder", folder)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(ArchiveError::io("list folder", folder))?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// A writer that counts and digests what passes through it, as a whole and block by block.
pub(crate) struct DigestWriter<W> {
    inner: W,
    digest: blake3::Hasher,
    sums: SumsBuilder,
    bytes: u64,
}

impl<W: Write> DigestWriter<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner, digest: blake3::Hasher::new(), sums: SumsBuilder::default(), bytes: 0 }
    }

    /// The writer within.
    pub(crate) fn inner(&self) -> &W {
        &self.inner
    }

    /// Takes bytes that are written elsewhere.
    pub(crate) fn update(&mut self, data: &[u8]) {
        self.digest.update(data);
        self.sums.update(data);
        self.bytes += data.len() as u64;
    }

    /// The checksums of the blocks.
    pub(crate) fn sums(&self) -> Sums {
        self.sums.sums()
    }

    /// How many bytes came, and their BLAKE3.
    pub(crate) fn sum(&self) -> (u64, [u8; 32]) {
        (self.bytes, *self.digest.finalize().as_bytes())
    }
}

impl<W: Write> Write for DigestWriter<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(data)?;
        // `written` is at most the length of `data`, by the contract of `Write`.
        self.update(data.get(..written).unwrap_or(data));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Size, BLAKE3 and checksums of a file as it lies on disk.
pub(crate) fn digest_file(path: &Path) -> io::Result<DigestWriter<io::Sink>> {
    let mut digest = DigestWriter::new(io::sink());
    let mut file = disk::open(path)?;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(digest),
            Ok(read) => digest.update(buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
