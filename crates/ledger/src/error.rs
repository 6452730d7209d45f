//! Why the ledger could not do what it was asked, with the thing and the remedy.
//!
//! Three kinds: the call would break a rule (a mistake or a race elsewhere), the ledger cannot be used (the operator's to
//! mend), or it says not now (full, busy, not to be reached), after which the same call may simply be made again.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::lease::Epoch;
use engine::model::CommitNumber;
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;

/// Where a ledger is, as errors name it. Never holds a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file of SQLite's.
    File(PathBuf),
    /// A database of PostgreSQL's: `postgres://user@host:port/name`.
    Database(Arc<str>),
}

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
    /// A purge of a tenant that is held.
    #[error(
        "tenant {tenant} is held ({reason}), so that nothing of it is deleted: `tenantry tenant release {tenant}` ends the hold"
    )]
    Held {
        /// Which.
        tenant: TenantId,
        /// Why, as whoever set it has said.
        reason: String,
    },
    /// A tenant is to return whose files are still being deleted.
    #[error(
        "tenant {tenant} is being purged and can return when its files are deleted: \
         `tenantry tenant remove {tenant} --purge --yes` goes on with that"
    )]
    BeingPurged {
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
    /// The write was made under a lease that is over, or that is another tenant's.
    #[error(
        "tenant {tenant} is not held under epoch {} any more: another worker has it or will have it, this one stops working on it",
        epoch.0
    )]
    LeaseLost {
        /// The tenant.
        tenant: TenantId,
        /// Under which it was held.
        epoch: Epoch,
    },
    /// A write on a handle that was opened for reading.
    #[error("the ledger {place} was opened for reading only")]
    ReadOnly {
        /// Which.
        place: Place,
    },
    /// There is no such file, or no ledger in the database.
    #[error(
        "there is no ledger at {place}: check data_dir and ledger.url, or create it with `tenantry serve` or `tenantry tenant add`"
    )]
    Missing {
        /// Which.
        place: Place,
    },
    /// The file or its folder, or the database, cannot be opened or written.
    #[error("cannot open the ledger {place}: {}", place.doorstep())]
    CannotOpen {
        /// Which.
        place: Place,
        /// The operating system's or the database's word.
        #[source]
        source: Cause,
    },
    /// A copy that cannot be written, with changes that are only in its log.
    #[error(
        "the ledger {place} has changes in its -wal file, which can be read only where its folder can be written: copy both to \
         such a folder, or copy the ledger anew after the collector has stopped"
    )]
    LogUnreadable {
        /// Which.
        place: Place,
    },
    /// The file, or the database, is something else.
    #[error(
        "{place} is not a Tenantry ledger ({found}): point ledger.url at another place, this one has not been touched"
    )]
    NotALedger {
        /// Which.
        place: Place,
        /// What it is.
        found: String,
    },
    /// A later version of the program wrote it.
    #[error(
        "the ledger {place} is of version {found}, this program knows up to {known}: use the newer tenantry that wrote it"
    )]
    NewerVersion {
        /// Which.
        place: Place,
        /// Its version.
        found: i64,
        /// The newest this program knows.
        known: i64,
    },
    /// It must be brought up to date first, which a reader cannot do.
    #[error(
        "the ledger {place} is of version {found} and must be brought to {known}: run `tenantry serve` or `tenantry collect --once` once"
    )]
    OlderVersion {
        /// Which.
        place: Place,
        /// Its version.
        found: i64,
        /// This program's.
        known: i64,
    },
    /// The file is damaged.
    #[error(
        "the ledger {place} is damaged ({detail}): stop the collector, keep a copy, and {}; the archive is not affected",
        place.rescue()
    )]
    Corrupt {
        /// Which.
        place: Place,
        /// SQLite's word.
        detail: String,
    },
    /// No room left.
    #[error("no space left for the ledger {place}: free some, it goes on by itself")]
    DiskFull {
        /// Which.
        place: Place,
    },
    /// Another process held the file, or what was to be changed in the database, for longer than one call waits.
    #[error("the ledger {place} is locked by another process: it goes on once that has finished")]
    Busy {
        /// Which.
        place: Place,
    },
    /// The disk failed.
    #[error("the disk failed under the ledger {place}: check the device and the file system")]
    Io {
        /// Which.
        place: Place,
        /// SQLite's word.
        #[source]
        source: Cause,
    },
    /// The database's server cannot be reached, is starting or stopping, or ended the connection.
    #[error("the ledger {place} cannot be reached: see that its server runs, it goes on by itself")]
    Unreachable {
        /// Which.
        place: Place,
        /// The operating system's or the server's word.
        #[source]
        source: Cause,
    },
    /// Another collector has taken the database over while the connection that showed this one's claim was gone.
    #[error(
        "another collector ({holder}) has taken over the ledger {place}: stop one of the two, a database has one collector"
    )]
    Ousted {
        /// Which.
        place: Place,
        /// Who, as far as the server says.
        holder: String,
    },
    /// Anything else the database says.
    #[error("the ledger {place} failed")]
    Failed {
        /// Which.
        place: Place,
        /// Its word.
        #[source]
        source: Cause,
    },
    /// The thread that serves the ledger has ended.
    #[error("the ledger {place} is closed: its thread has ended, start the program again")]
    ThreadGone {
        /// Which.
        place: Place,
    },
}

/// The error beneath; shared, because one failed transaction can be the failure of several calls.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

impl Place {
    /// How a damaged ledger is had back.
    fn rescue(&self) -> String {
        match self {
            Self::File(path) => format!("restore it from a backup or with `sqlite3 {} .recover`", path.display()),
            Self::Database(_) => "restore the database from a backup".to_owned(),
        }
    }

    /// What to look at when it cannot be opened.
    fn doorstep(&self) -> &'static str {
        match self {
            Self::File(_) => "check that its folder exists and that this user may read and write in it",
            Self::Database(_) => {
                "check ledger.url, the password and the certificates, and that this user may make tables in that database"
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Database(address) => f.write_str(address),
        }
    }
}

impl From<&Path> for Place {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

impl LedgerError {
    /// Whether space is lacking: wait, and make the same call again.
    pub fn is_full_disk(&self) -> bool {
        matches!(self, Self::DiskFull { .. })
    }

    /// Whether another process is in the way: make the same call again.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Busy { .. })
    }

    /// Whether the database's server cannot be reached: make the same call again.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// Whether another worker has the tenant, or may have it: stop working on it.
    pub fn is_lost_lease(&self) -> bool {
        matches!(self, Self::LeaseLost { .. })
    }

    /// Whether the same call may succeed later without anybody having changed the program or the ledger.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::DiskFull { .. } | Self::Busy { .. } | Self::Io { .. } | Self::Unreachable { .. })
    }

    /// Whether the call was refused because it would have broken a rule: read the state anew, then decide anew.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::UnknownTenant { .. }
            | Self::NotRemoved { .. }
            | Self::Held { .. }
            | Self::BeingPurged { .. }
            | Self::UnknownInvitation { .. }
            | Self::TooManyInvitations { .. }
            | Self::CommitOutOfOrder { .. }
            | Self::NotListed { .. }
            | Self::MalformedTile { .. }
            | Self::OverlappingTile { .. }
            | Self::SegmentRefused { .. }
            | Self::SegmentNotVisible { .. }
            | Self::LeaseLost { .. }
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
            | Self::Unreachable { .. }
            | Self::Ousted { .. }
            | Self::Failed { .. }
            | Self::ThreadGone { .. } => false,
        }
    }
}
