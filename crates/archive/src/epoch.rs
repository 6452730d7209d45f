//! Whose files are whose, where a tenant has one owner after the other.
//!
//! The ledger refuses what an owner commits who has lost the tenant; a folder or a store refuses nothing. One who was stopped
//! for long and wakes up goes on writing and clearing away beside its successor until it asks the ledger again. So that this
//! harms nobody:
//!
//! * every file's name has its owner's epoch in it, so two owners never give the same name; and in a store, which may carry out
//!   what it was asked long after nobody waits for it any more, no two attempts of one owner do either;
//! * nobody clears away what is of a later epoch than its own: what is of its own or an earlier one, and not known to the ledger,
//!   can become visible by its own commits only;
//! * pieces of the quarantine, whose names are digests, are only ever added.
//!
//! Never says who the owner is: that is the ledger's word.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use crate::Archive;

/// Numbers of parts in an epoch: twice as many as are drawn from, so that an attempt's parts stay in it.
const PARTS: u64 = 10_000_000_000;

impl Archive {
    /// The same archive for who holds a tenant under that epoch: the how manieth taking of it this is, 0 where tenants are
    /// never taken over.
    #[must_use]
    pub fn under(&self, epoch: u64) -> Self {
        Self(Arc::clone(&self.0), epoch)
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.1
    }

    /// The number of the first part of a commit or merge; the others count on from there.
    pub(crate) fn first_part(&self) -> u64 {
        let drawn = match self.workspace() {
            None => 0,
            // The keys of a `RandomState` differ from process to process and from one to the next.
            Some(_) => RandomState::new().hash_one(std::process::id()) >> 32,
        };
        self.epoch().saturating_mul(PARTS).saturating_add(drawn)
    }

    /// Whether a file of this part that the ledger does not know may be cleared away.
    pub(crate) fn may_clear(&self, part: u64) -> bool {
        part / PARTS <= self.epoch()
    }
}

/// The epoch that a file's name bears: that of a segment, of what lies beside one, of a copy, or of what is being written.
/// `None` where the name says nothing.
pub(crate) fn epoch_of(name: &str) -> Option<u64> {
    let mut words = name.strip_prefix('.').unwrap_or(name).split('.');
    let first = words.next().unwrap_or_default();
    if let Some((commit, part)) = first.split_once('-')
        && commit.bytes().all(|byte| byte.is_ascii_digit())
        && let Ok(part) = part.parse::<u64>()
    {
        return Some(part / PARTS);
    }
    // Of the quarantine: `{name}.{epoch}.tmp`.
    let words: Vec<&str> = words.collect();
    match words[..] {
        [.., epoch, "tmp"] => epoch.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::epoch_of;
    use crate::{Archive, ArchiveOptions};

    #[test]
    fn an_owner_clears_the_last_name_of_its_own_epoch_and_not_the_first_of_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::open(&ArchiveOptions::at(folder.path())).unwrap();
        let (second, third) = (archive.under(2), archive.under(3));
        assert_eq!((archive.first_part(), second.first_part()), (0, 20_000_000_000));
        assert!(second.may_clear(0) && second.may_clear(second.first_part()));
        assert!(second.may_clear(third.first_part() - 1) && !second.may_clear(third.first_part()));
        assert!(third.may_clear(third.first_part()) && !archive.may_clear(second.first_part()));
    }

    #[test]
    fn the_epoch_is_read_from_whatever_name_bears_one() {
        for (name, epoch) in [
            ("7-0.parquet", Some(0)),
            ("7-9999999999.parquet", Some(0)),
            ("7-10000000000.keys", Some(1)),
            ("7-30000000001.0123456789abcdef.parquet", Some(3)),
            (".7-30000000001.parquet.tmp", Some(3)),
            ("7-20000000000.2.parquet", Some(2)),
            ("0a1b.4.tmp", Some(4)),
            ("0a1b.bin", None),
            ("00000000000000000003.json", None),
            ("_last_checkpoint", None),
            ("notes-3.txt", None),
        ] {
            assert_eq!(epoch_of(name), epoch, "{name}");
        }
    }
}
