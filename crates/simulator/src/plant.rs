//! Known bugs of other collectors, planted on purpose one at a time: if the simulator does not find each, it proves nothing.
//!
//! Each is planted where the collector meets the world, so that the program itself never carries one: with it in place,
//! what is asked, believed and remembered is what a collector with that bug would ask, believe and remember.

use std::collections::{BTreeMap, BTreeSet};

use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;

/// A bug of another collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A window is asked for again from the last creation time seen in it plus one second.
    LastPlusOneSecond,
    /// Content with the creation time of one that is known already is passed over.
    TiesSkipped,
    /// The place is moved on before the records are stored for good.
    MarkBeforeStore,
    /// Content that is answered with 404 is done with.
    DropOn404,
    /// An error in place of a listing is taken for a listing without content.
    ErrorAsEmptyList,
    /// A run ends while fetches are under way, and what they would have brought is done with.
    EndsWhileFetching,
}

impl Bug {
    /// Every one, with its name on the command line.
    pub const ALL: [(&'static str, Bug); 6] = [
        ("last-plus-one-second", Self::LastPlusOneSecond),
        ("ties-skipped", Self::TiesSkipped),
        ("mark-before-store", Self::MarkBeforeStore),
        ("drop-on-404", Self::DropOn404),
        ("error-as-empty-list", Self::ErrorAsEmptyList),
        ("ends-while-fetching", Self::EndsWhileFetching),
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, bug)| *bug == self).map_or("unknown", |(name, _)| name)
    }
}

/// What a collector with the bug would remember, in its own store.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// The last creation time seen, by the path and the query of a listing.
    pub(crate) last_seen: BTreeMap<String, Timestamp>,
    /// Creation times seen in earlier listings.
    pub(crate) times: BTreeMap<(TenantId, String), BTreeMap<Timestamp, String>>,
    /// Contents handed to a fetch that has not ended.
    pub(crate) fetching: BTreeSet<(TenantId, i64)>,
    /// Contents that are done with although nobody has their records.
    pub(crate) forgotten: BTreeSet<(TenantId, i64)>,
}

impl Memory {
    /// Whether a content is passed over since another one of its time is known.
    pub(crate) fn is_tie(&mut self, tenant: TenantId, kind: &ContentType, created: Timestamp, id: &str) -> bool {
        let times = self.times.entry((tenant, kind.as_str().to_owned())).or_default();
        times.entry(created).or_insert_with(|| id.to_owned()) != id
    }

    /// The run has ended; what was under way is forgotten.
    pub(crate) fn run_ended(&mut self) {
        self.forgotten.append(&mut self.fetching);
    }
}
