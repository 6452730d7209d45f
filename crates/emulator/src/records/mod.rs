//! Where records come from: generated from the schema by a seed, or replayed from recorded ones with fresh ids and
//! times.
//!
//! Never remembers a record: the same number of the same feed gives the same bytes, whenever it is asked for.

mod draw;
mod families;
mod json;
mod replay;
mod scan;

use protocol::ids::{ContentType, TenantId};

pub use replay::{Corpus, ReplayError};

use crate::seed::Seed;
use crate::world::timeline::Millis;

/// What of a tenant shows in its records.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    pub(crate) id: TenantId,
    /// `id` as text, because every record holds it.
    pub(crate) id_text: String,
    pub(crate) name: String,
    pub(crate) domain: String,
    pub(crate) seats: u32,
    pub(crate) seed: Seed,
}

/// One record to be made.
pub(crate) struct Wanted<'a> {
    pub(crate) tenant: &'a Profile,
    pub(crate) kind: &'a ContentType,
    /// The seed of its feed.
    pub(crate) feed: Seed,
    pub(crate) number: u64,
    pub(crate) variant: bool,
    /// Without the sensitive values a caller needs `ActivityFeed.ReadDlp` for.
    pub(crate) withheld: bool,
    /// When the feed made it; the event itself is older.
    pub(crate) made_at: Millis,
}

/// Where a world's records come from.
#[derive(Debug)]
pub(crate) enum Source {
    Generated,
    Replayed(Box<Corpus>),
}

impl Source {
    /// Appends the record's bytes, without line ends.
    pub(crate) fn render(&self, wanted: &Wanted<'_>, out: &mut Vec<u8>) {
        let begin = out.len();
        let seed = wanted.feed.child(9).child(wanted.number);
        let event = event_time(seed.child(1), wanted.made_at);
        match self {
            Self::Generated => families::render(wanted, seed, event, out),
            Self::Replayed(corpus) => corpus.render(wanted, seed, event, out),
        }
        if wanted.variant {
            amend(out, begin, seed, event);
        }
    }

    /// The number of records each tenant has when nobody asks for another number.
    pub(crate) fn natural_count(&self, kind: &ContentType) -> Option<u64> {
        match self {
            Self::Generated => None,
            Self::Replayed(corpus) => Some(corpus.len(kind)),
        }
    }
}

/// Whole seconds of Unix time. Most events are minutes to an hour and a half old when they reach the feed; a few are
/// days
/// old (activity-api.md §6).
fn event_time(seed: Seed, made_at: Millis) -> i64 {
    let spread = seed.child(1).unit();
    let age_seconds = if seed.unit() < 0.98 { 120.0 + spread * 5400.0 } else { 5400.0 + spread * 125_000.0 };
    (made_at - crate::world::timeline::millis(age_seconds)).div_euclid(1000)
}

/// Makes the other body of an `Id`: an event that was updated, as some workloads are said to deliver it
/// (audit-schema.md §10.2).
fn amend(out: &mut Vec<u8>, begin: usize, seed: Seed, event: i64) {
    if out.len() <= begin || out.last() != Some(&b'}') {
        return;
    }
    out.pop();
    let later = 60 + i64::try_from(seed.child(2).value() % 3000).unwrap_or(0);
    let mut json = json::Json::new(out, json::Style::default());
    json.text("LastUpdatedTime", &draw::timestamp(event + later));
    json.flag("IsUpdated", true);
    out.push(b'}');
}
