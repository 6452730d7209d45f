//! Known ways to get the sharing of tenants wrong, planted on purpose one at a time.
//!
//! Each is planted in what stands between a worker and its database, so that the program itself never carries one.

/// A way to get it wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharingBug {
    /// A commit goes through whoever has the tenant by then.
    CommitUnchecked,
    /// A worker asks its own clock whether its lease still holds, and writes without the ledger's word.
    OwnClock,
    /// A worker goes by a clock that is right, and writes without the ledger's word for ten times as long as it has told
    /// the ledger.
    TrustsTooLong,
    /// A transaction whose end is in doubt is taken for done.
    DoubtIsDone,
    /// A transaction whose end is in doubt is taken for not done, and done again.
    DoubtIsUndone,
}

impl SharingBug {
    /// Every one, with its name on the command line.
    pub const ALL: [(&'static str, SharingBug); 5] = [
        ("commit-unchecked", Self::CommitUnchecked),
        ("own-clock", Self::OwnClock),
        ("trusts-too-long", Self::TrustsTooLong),
        ("doubt-is-done", Self::DoubtIsDone),
        ("doubt-is-undone", Self::DoubtIsUndone),
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, bug)| *bug == self).map_or("unknown", |(name, _)| name)
    }
}
