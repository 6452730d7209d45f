//! The records one commit has stored so far, so that a repeat within it is found before any segment is asked.
//!
//! Never outlives its commit: what was not made visible was not stored.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};

use crate::keys::{BodyDigest, RecordKey};
use crate::sidecar::Found;

/// The records this commit has stored so far.
#[derive(Default)]
pub(crate) struct Pending {
    /// The first body filed under each number.
    first: HashMap<u64, BodyDigest, BuildHasherDefault<AsItIs>>,
    /// Further bodies under the same number: variants, which are rare.
    further: HashMap<u64, Vec<BodyDigest>>,
}

impl Pending {
    /// What is known of a record.
    pub(crate) fn find(&self, key: &RecordKey) -> Found {
        match self.first.get(&key.file_under) {
            None => Found::No,
            Some(body) if *body == key.body => Found::Same,
            Some(_) if self.further.get(&key.file_under).is_some_and(|bodies| bodies.contains(&key.body)) => {
                Found::Same
            }
            Some(_) => Found::SameId,
        }
    }

    /// Adds a record that [`Self::find`] does not know.
    pub(crate) fn insert(&mut self, key: &RecordKey) {
        match self.first.entry(key.file_under) {
            Entry::Vacant(vacant) => {
                vacant.insert(key.body);
            }
            Entry::Occupied(_) => {
                self.further.entry(key.file_under).or_default().push(key.body);
            }
        }
    }
}

/// Takes a number that is a hash already for its own hash.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = crate::keys::hash(bytes, self.0);
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_its_repeat_and_its_variants_are_told_apart() {
        let key = |id, body: &[u8]| RecordKey::new(Some(id), Some(1), body);
        let mut pending = Pending::default();
        assert_eq!(pending.find(&key("a", b"1")), Found::No);
        for body in [b"1", b"2", b"3"] {
            pending.insert(&key("a", body));
        }
        for body in [b"1", b"2", b"3"] {
            assert_eq!(pending.find(&key("a", body)), Found::Same);
        }
        assert_eq!(pending.find(&key("a", b"4")), Found::SameId);
        assert_eq!(pending.find(&key("b", b"1")), Found::No);
    }
}
