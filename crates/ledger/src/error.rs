//! Why the ledger could not do what it was asked, with the thing and the remedy.
//!
//! Three kinds: the call would break a rule (a mistake or a race elsewhere), the file cannot be used (the operator's to
//! mend), or the machine says not now (full, busy), after which the same call may simply be made again.

use std::path::PathBuf;
use std::sync::Arc;

use engine::model::CommitNumber;
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;

/// An error of the ledger.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// The tenant is not in the ledger.
    #[error("tenant {tenant} is not known here: add it with `tenantry tenant add {tenant}`")]
    UnknownTenant {
        /// Which.
        tenant: TenantId,
    },
    /// A purge of a tenant that is still active or paused.
    #[error("tenant {tenant} is not removed: remove it with `tenantry tenant remove {tenant}` before purging it")]
    NotRemoved {
        /// Which.
        tenant: TenantId,
    },
    /// There is no invitation of that number.
    #[error("invitation {number} is not known here: `tenantry consent-link list` shows those that are")]
    UnknownInvitation {
        /// Which.
        number: u64,
    },
    /// As many invitations as may be are all still good.
    #[error(
        "there are {limit} invitations that are all still good: revoke some with `tenantry consent-link revoke NUMBER`"
    )]
    TooManyInvitations {
        /// How many there may be.
        limit: u64,
    },
    /// A commit whose number is not the next one: another worker has committed in between.
    #[error("commit {given} of tenant {tenant} is out of order: the next one is {expected}")]
    CommitOutOfOrder {
        /// Whose.
        tenant: TenantId,
        /// What the caller wanted to write.
        given: CommitNumber,
        /// What the ledger expects.
        expected: CommitNumber,
    },
    /// A content that is not waiting: it was archived or given up in between, or never listed for this tenant.
    #[error("content {row} of tenant {tenant} is not waiting to be fetched: it was archived or given up in between")]
    NotListed {
        /// Whose.
        tenant: TenantId,
        /// Its row.
        row: i64,
    },
    /// A tile that ends before it starts, or whose `listed_until` is outside of it.
    #[error("the window {content_type} of tenant {tenant} from {start} is malformed: {problem}")]
    MalformedTile {
        /// Whose.
        tenant: TenantId,
        /// Of which type.
        content_type: ContentType,
        /// Where it starts.
        start: Timestamp,
        /// What is wrong.
        problem: &'static str,
    },
    /// A tile that shares time with another one of its feed.
    #[error("the window {content_type} of tenant {tenant} from {start} overlaps the one from {other}")]
    OverlappingTile {
        /// Whose.
        tenant: TenantId,
        /// Of which type.
        content_type: ContentType,
        /// Where the refused one starts.
        start: Timestamp,
        /// Where the one that is there starts.
        other: Timestamp,
    },
    /// A segment that cannot be added as described.
    #[error("segment {segment} of tenant {tenant} is refused: {problem}")]
    SegmentRefused {
        /// Whose.
        tenant: TenantId,
        /// `date/commit-part`.
        segment: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A merge of a segment that is not visible (any more).
    #[error("segment {segment} of tenant {tenant} is not visible: another merge has replaced it")]
    SegmentNotVisible {
        /// Whose.
        tenant: TenantId,
        /// `date/commit-part`.
        segment: String,
    },
    /// A write on a handle that was opened for reading.
    #[error("the ledger {path} was opened for reading only")]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// There is no such file.
    #[error(
        "there is no ledger at {path}: check data_dir and ledger.url, or create it with `tenantry serve` or `tenantry tenant add`"
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file or its folder cannot be opened or written.
    #[error("cannot open the ledger {path}: check that its folder exists and that this user may read and write in it")]
    CannotOpen {
        /// The file.
        path: PathBuf,
        /// The operating system's or SQLite's word.
        #[source]
        source: Cause,
    },
    /// A copy that cannot be written, with changes that are only in its log.
    #[error(
        "the ledger {path} has changes in its -wal file, which can be read only where its folder can be written: copy both to \
         such a folder, or copy the ledger anew after the collector has stopped"
    )]
    LogUnreadable {
        /// The file.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("{path} is not a Tenantry ledger ({found}): point ledger.url at another file, it has not been touched")]
    NotALedger {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: String,
    },
    /// A later version of the program wrote it.
    #[error(
        "the ledger {path} is of version {found}, this program knows up to {known}: use the newer tenantry that wrote it"
    )]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest this program knows.
        known: i64,
    },
    /// It must be brought up to date first, which a reader cannot do.
    #[error(
        "the ledger {path} is of version {found} and must be brought to {known}: run `tenantry serve` or `tenantry collect --once` once"
    )]
    OlderVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// This program's.
        known: i64,
    },
    /// The file is damaged.
    #[error(
        "the ledger {path} is damaged ({detail}): stop the collector, keep a copy, and restore it from a backup or with `sqlite3 {path} .recover`; the archive is not affected"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// SQLite's word.
        detail: String,
    },
    /// No room left.
    #[error("no space left for the ledger {path}: free some, it goes on by itself")]
    DiskFull {
        /// The file.
        path: PathBuf,
    },
    /// Another process held the file for longer than the busy timeout.
    #[error("the ledger {path} is locked by another process: it goes on once that has finished")]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// The disk failed.
    #[error("the disk failed under the ledger {path}: check the device and the file system")]
    Io {
        /// The file.
        path: PathBuf,
        /// SQLite's word.
        #[source]
        source: Cause,
    },
    /// Anything else SQLite says.
    #[error("the ledger {path} failed")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// SQLite's word.
        #[source]
        source: Cause,
    },
    /// The thread that serves the ledger has ended.
    #[error("the ledger {path} is closed: its thread has ended, start the program again")]
    ThreadGone {
        /// The file.
        path: PathBuf,
    },
}

/// The error beneath; shared, because one failed transaction can be the failure of several calls.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

impl LedgerError {
    /// Whether space is lacking: wait, and make the same call again.
    pub fn is_full_disk(&self) -> bool {
        matches!(self, Self::DiskFull { .. })
    }

    /// Whether another process is in the way: make the same call again.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Busy { .. })
    }

    /// Whether the same call may succeed later without anybody having changed the program or the file.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::DiskFull { .. } | Self::Busy { .. } | Self::Io { .. })
    }

    /// Whether the call was refused because it would have broken a rule: read the state anew, then decide anew.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::UnknownTenant { .. }
            | Self::NotRemoved { .. }
            | Self::UnknownInvitation { .. }
            | Self::TooManyInvitations { .. }
            | Self::CommitOutOfOrder { .. }
            | Self::NotListed { .. }
            | Self::MalformedTile { .. }
            | Self::OverlappingTile { .. }
            | Self::SegmentRefused { .. }
            | Self::SegmentNotVisible { .. }
            | Self::ReadOnly { .. } => true,
            Self::Missing { .. }
            | Self::CannotOpen { .. }
            | Self::LogUnreadable { .. }
            | Self::NotALedger { .. }
            | Self::NewerVersion { .. }
            | Self::OlderVersion { .. }
            | Self::Corrupt { .. }
            | Self::DiskFull { .. }
            | Self::Busy { .. }
            | Self::Io { .. }
            | Self::Sqlite { .. }
            | Self::ThreadGone { .. } => false,
        }
    }
}
