//! What can go wrong in the archive, each with the path it happened at and the step that mends it.
//!
//! Never flattens a cause to text: the operating system's error stays reachable through `source()`.

use std::io;
use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;
use protocol::ids::TenantId;

/// An error of the archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The operating system refused.
    #[error("cannot {action} {}: {remedy}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// What the operator can do about it.
        remedy: &'static str,
        /// The refusal.
        source: io::Error,
    },
    /// The store of a remote archive refused, or could not be reached, for as long as it was tried.
    #[error("cannot {action} {place}: {remedy}")]
    Store {
        /// What was being done.
        action: &'static str,
        /// To which object, as a URL.
        place: String,
        /// What the operator can do about it.
        remedy: &'static str,
        /// The refusal, in one line. It names no credential.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Where a file was to be put, another one lies already.
    #[error(
        "{place} is there already, and with other bytes: what a crash has left there is cleared away before the next try; \
         if this comes again, another tenantry writes into the same archive"
    )]
    Occupied {
        /// Which file or object.
        place: String,
    },
    /// The archive's settings make no sense.
    #[error("{problem}")]
    Settings {
        /// What is wrong with them, and what to write instead.
        problem: String,
    },
    /// The Parquet library refused for another reason than an IO error.
    #[error("cannot {action} {} as Parquet", path.display())]
    Parquet {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// The refusal.
        source: ParquetError,
    },
    /// A segment is not what was written: missing, cut off, or changed.
    #[error("segment {} is damaged: {problem}; restore it from a copy, or collect its span again while the feed has it", path.display())]
    Damaged {
        /// The segment's file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The file a commit or merge would write already stands for a visible segment.
    #[error("segment {} exists and is visible: commit {commit} of tenant {tenant} was given out twice", path.display())]
    CommitInUse {
        /// Whose commit.
        tenant: TenantId,
        /// The number.
        commit: u64,
        /// The file that has it.
        path: PathBuf,
    },
    /// The archive was written by a later version, or its mark is damaged.
    #[error(
        "{path} does not say archive_format 1 (it says {}): use the version of tenantry that wrote this archive",
        format.map_or_else(|| "nothing readable".to_owned(), |format| format.to_string())
    )]
    UnknownFormat {
        /// The archive's mark.
        path: String,
        /// The format it names, if it can be read.
        format: Option<u64>,
    },
    /// The archive belongs to another ledger than the one in use, or there is none in use.
    #[error(
        "the archive {} belongs to {}, {}: restore the ledger that belongs to it from a backup, or set the archive folder \
         aside (give it another name) to begin a new one",
        root,
        owner.as_ref().map_or_else(|| "a ledger that knows its segments".to_owned(), |owner| format!("ledger {owner}")),
        ledger.as_ref().map_or_else(|| "which is not there".to_owned(), |ledger| format!("and this is ledger {ledger}"))
    )]
    OtherLedger {
        /// The archive's folder or URL.
        root: String,
        /// The ledger its mark names, if it names one.
        owner: Option<String>,
        /// The ledger in use, if there is one.
        ledger: Option<String>,
    },
    /// Nothing lies where the ledger has segments: most likely the folder of a disk that is not mounted.
    #[error(
        "the archive {} is empty, and its ledger names {segments} segments in it: mount its disk or bring back what lay there \
         (to begin a new archive, set the ledger aside too)",
        root.display()
    )]
    Absent {
        /// The archive's folder.
        root: PathBuf,
        /// Visible segments that the ledger names.
        segments: usize,
    },
    /// The commit failed before and can only be abandoned.
    #[error("commit {commit} of tenant {tenant} failed before and can only be abandoned")]
    Failed {
        /// Whose.
        tenant: TenantId,
        /// Its number.
        commit: u64,
    },
    /// A merge was asked to stop and left nothing behind.
    #[error("the merge was stopped")]
    Stopped,
    /// A merge was asked for inputs it cannot have.
    #[error("cannot merge: {problem}")]
    MergeInput {
        /// What is wrong with them.
        problem: String,
    },
}

impl ArchiveError {
    /// For `map_err` on an IO call: `action` as in "cannot {action} {path}".
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), remedy: remedy(&source), source }
    }

    /// For `map_err` on a call of the Parquet library, which hides IO errors inside its own.
    pub(crate) fn parquet(action: &'static str, path: &Path) -> impl FnOnce(ParquetError) -> Self {
        move |source| match source {
            ParquetError::External(inner) => match inner.downcast::<io::Error>() {
                Ok(source) => Self::io(action, path)(*source),
                Err(inner) => Self::Parquet { action, path: path.to_owned(), source: ParquetError::External(inner) },
            },
            source => Self::Parquet { action, path: path.to_owned(), source },
        }
    }

    /// The disk is full, so that nothing can be written until somebody frees space.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_full(source))
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => "free space on the disk that holds the archive; collection goes on by itself",
        io::ErrorKind::QuotaExceeded => "raise the disk quota of the user that runs this; collection goes on by itself",
        io::ErrorKind::PermissionDenied => "give the user that runs this read and write access to it",
        io::ErrorKind::ReadOnlyFilesystem => "mount the file system writable, or set [archive] url to another folder",
        io::ErrorKind::NotFound => {
            "it was there before; restore it from a copy, or mount the disk that holds the archive"
        }
        io::ErrorKind::NotADirectory => "set [archive] url to a folder",
        _ => "check the disk that holds the archive",
    }
}
