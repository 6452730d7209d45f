//! What is kept as evidence of what was done with tenants and their records: the log of activity, orders to delete a tenant's
//! data, legal holds.
//!
//! Never decides anything, and never holds a record's content, a label or a secret: a log that outlives a tenant may not.

use std::fmt;
use std::str::FromStr;

use protocol::ids::TenantId;
use protocol::time::Timestamp;

use crate::lease::Epoch;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ActivityKind {
    /// A tenant was added, or came back.
    TenantAdded,
    /// A tenant was paused.
    TenantPaused,
    /// A paused or removed tenant was resumed.
    TenantResumed,
    /// A tenant was offboarded; its archive is kept.
    TenantRemoved,
    /// A tenant's rows were deleted, and its files are to be.
    PurgeOrdered,
    /// A tenant's files are deleted, as the archive has confirmed.
    Purged,
    /// Records past their retention were taken out of sight; their files go after their grace.
    Expired,
    /// From here on nothing of a tenant is deleted.
    HoldSet,
    /// From here on it is deleted as of others.
    HoldReleased,
    /// Files that nothing refers to were deleted.
    Vacuumed,
}

impl ActivityKind {
    /// Every one.
    pub const ALL: [Self; 10] = [
        Self::TenantAdded,
        Self::TenantPaused,
        Self::TenantResumed,
        Self::TenantRemoved,
        Self::PurgeOrdered,
        Self::Purged,
        Self::Expired,
        Self::HoldSet,
        Self::HoldReleased,
        Self::Vacuumed,
    ];

    /// A stable word for machines, as the ledger keeps it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TenantAdded => "tenant_added",
            Self::TenantPaused => "tenant_paused",
            Self::TenantResumed => "tenant_resumed",
            Self::TenantRemoved => "tenant_removed",
            Self::PurgeOrdered => "purge_ordered",
            Self::Purged => "purged",
            Self::Expired => "expired",
            Self::HoldSet => "hold_set",
            Self::HoldReleased => "hold_released",
            Self::Vacuumed => "vacuumed",
        }
    }
}

impl fmt::Display for ActivityKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no kind of activity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no kind of activity: `tenantry activity --help` names them")]
pub struct UnknownActivity(String);

impl FromStr for ActivityKind {
    type Err = UnknownActivity;

    fn from_str(text: &str) -> Result<Self, UnknownActivity> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| UnknownActivity(text.to_owned()))
    }
}

/// One line of the log. It is kept for ever and never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivityEntry {
    /// Its number; a later one is greater.
    pub number: u64,
    /// When, by the clock of who did it.
    pub at: Timestamp,
    /// Who did it: a command with its user and machine, or a collecting process.
    pub actor: String,
    /// What.
    pub kind: ActivityKind,
    /// With which tenant, if with one.
    pub tenant: Option<TenantId>,
    /// The particulars, a JSON object.
    pub details: String,
}

/// Which lines are asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ActivityFilter {
    /// Only of this tenant.
    pub tenant: Option<TenantId>,
    /// Only of this kind.
    pub kind: Option<ActivityKind>,
    /// Only of this time and later.
    pub since: Option<Timestamp>,
    /// Only those before the line of this number.
    pub before: Option<u64>,
}

/// The order to delete everything of a tenant, and what has become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purge {
    /// Whose.
    pub tenant: TenantId,
    /// When it was given.
    pub ordered_at: Timestamp,
    /// By whom.
    pub ordered_by: String,
    /// What was written under this epoch or an earlier one is to go. Should the tenant return, it does so under a later one.
    pub through: Epoch,
    /// Segments that could be read then.
    pub segments: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// What has been deleted until now, segments and everything beside them.
    pub deleted: Deleted,
    /// When the archive first confirmed that nothing was left; `None` until then.
    pub done_at: Option<Timestamp>,
}

/// Files that were deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deleted {
    /// How many.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Nothing of a tenant is deleted while this stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Since when.
    pub since: Timestamp,
    /// Who set it.
    pub by: String,
    /// Why.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_back_from_its_word() {
        for kind in ActivityKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        assert!("tenant".parse::<ActivityKind>().is_err());
    }
}
