//! Where the files of a remote archive lie for good, as the rest of the archive sees it: the few things done to objects by
//! their names below the archive's root.
//!
//! Never knows what is in them, and lists nothing but what lies below one tenant, unless somebody asks which tenants there are. Calls block until the store has
//! answered or was tried for long enough; they may be made on any thread.

use std::io;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;

use crate::ArchiveError;

/// What a name says that is replaced on one condition: that nobody has replaced it since it was read.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "remote"), expect(dead_code, reason = "read by remote archives alone"))]
pub(crate) struct Version {
    pub(crate) e_tag: Option<String>,
    pub(crate) version: Option<String>,
}

/// A whole file, by its size and BLAKE3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Whole {
    pub(crate) bytes: u64,
    pub(crate) digest: [u8; 32],
}

/// Takes the pieces of an object as they come.
pub(crate) type Take<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<()>;

/// See the file's head. Names are relative, with slashes, whatever the platform.
pub(crate) trait Depot: Send + Sync {
    /// The archive's root, for messages.
    fn url(&self) -> &str;

    /// Puts a file under a name that nothing has. An object that is there already with the same bytes is as good: it is
    /// what an earlier try has left whose answer was lost.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Occupied`] when other bytes have the name; nothing is changed then.
    fn create_from_file(&self, name: &str, file: &Path, whole: &Whole) -> Result<(), ArchiveError>;

    /// Puts a small object, in place of whatever has the name.
    fn put(&self, name: &str, data: Bytes) -> Result<(), ArchiveError>;

    /// Puts a small object unless the name is taken, or was changed since that version of it was read; `false` then.
    fn put_if(&self, name: &str, data: Bytes, version: Option<Version>) -> Result<bool, ArchiveError>;

    /// A small object whole; `None` when there is none.
    fn read(&self, name: &str) -> Result<Option<(Bytes, Version)>, ArchiveError>;

    /// So many bytes of an object, from one place on; `None` when there is none.
    fn read_range(&self, name: &str, range: Range<u64>) -> Result<Option<Bytes>, ArchiveError>;

    /// Hands over an object piece by piece; `false` when there is none.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Io`] when `take` failed, which is named by `to`.
    fn download(&self, name: &str, to: &Path, take: Take<'_>) -> Result<bool, ArchiveError>;

    /// The size of an object in bytes; `None` when there is none.
    fn size(&self, name: &str) -> Result<Option<u64>, ArchiveError>;

    /// The names of all objects below a folder, in order, with their sizes in bytes.
    fn sizes(&self, folder: &str) -> Result<Vec<(String, u64)>, ArchiveError>;

    /// The names alone.
    fn list(&self, folder: &str) -> Result<Vec<String>, ArchiveError> {
        Ok(self.sizes(folder)?.into_iter().map(|(name, _)| name).collect())
    }

    /// The names of the folders right below a folder; `""` is the root.
    fn folders(&self, folder: &str) -> Result<Vec<String>, ArchiveError>;

    /// Whether any object whose name satisfies `is_it` lies below the root. Stops at the first.
    fn holds_any(&self, is_it: fn(&str) -> bool) -> Result<bool, ArchiveError>;

    /// Removes objects; those that are not there are as good as removed.
    fn remove(&self, names: Vec<String>) -> Result<(), ArchiveError>;

    /// The same store for queries.
    #[cfg(feature = "query")]
    fn object_store(&self) -> std::sync::Arc<dyn object_store::ObjectStore>;

    /// What that one said about an object, in words that may be shown.
    #[cfg(feature = "query")]
    fn explained(&self, name: &str, error: object_store::Error) -> ArchiveError;
}
