#![doc = include_str!("../README.md")]

mod cache;
mod checked;
mod columns;
mod commit;
mod copies;
mod days;
mod delta;
mod depot;
#[cfg(not(feature = "watched-disk"))]
#[expect(unreachable_pub, reason = "public where somebody may watch")]
mod disk;
#[cfg(feature = "watched-disk")]
pub mod disk;
mod epoch;
mod error;
mod files;
mod filter;
mod keys;
mod lookup;
mod merge;
mod orphans;
mod owner;
mod part;
mod pending;
mod plan;
mod purge;
mod quarantine;
mod raw_column;
mod read;
mod readers;
#[cfg(feature = "remote")]
mod remote;
mod remote_options;
mod runs;
mod schema;
mod segment;
mod sidecar;
#[cfg(feature = "query")]
pub mod sql;
mod store;
mod sums;
mod verify;
mod workspace;

pub use commit::{Appended, CommitStats, CommitWriter, Committed, ContentRef, NewCommit};
pub use delta::{Publication, Published, Table};
pub use error::ArchiveError;
pub use orphans::{Removed, SetAside, set_aside};
pub use owner::{Ownership, refuse_new_ledger};
pub use plan::{MergePlan, MergePolicy, plan_merge};
pub use purge::Purged;
pub use quarantine::Quarantined;
pub use read::{ArchivedRecord, RecordReader};
pub use readers::Reading;
pub use remote_options::{RemoteOptions, StoreKind, StoreUrl};
pub use schema::{COLUMNS, arrow_schema};
pub use segment::{Segment, SegmentSet};
pub use store::{Archive, ArchiveOptions};
pub use verify::{Damage, Depth, Verified};
