//! What the emulator says it published, against what lies in the archive: byte for byte, and each record once.
//!
//! Never trusts a count of the collector's: it reads the files.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use emulator::Emulator;
use emulator::world::RecordSet;
use serde_json::json;
use server::archive::{Archive, Segment};
use server::collector::segments::segment_of;
use server::ledger::Ledger;
use server::protocol::ids::TenantId;

use super::store;
use crate::exit::{Code, Failure};
use crate::present;

/// One tenant's numbers.
#[derive(Debug, Clone)]
pub(super) struct TenantComparison {
    tenant: TenantId,
    name: String,
    published: u64,
    repeats: u64,
    archived: u64,
    lost: u64,
    twice: u64,
    /// In the archive, and never published like that.
    altered: u64,
    segments: u64,
    bytes: u64,
    raw_bytes: u64,
}

/// All tenants' numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct Comparison {
    tenants: Vec<TenantComparison>,
}

/// Reads both sides.
pub(super) async fn compare(
    emulator: &Emulator,
    ledger: &dyn Ledger,
    archive: &Archive,
) -> Result<Comparison, Failure> {
    let mut tenants = Vec::new();
    let truth = emulator.world().truth();
    for tenant in store::selected_tenants(ledger, &[]).await? {
        let rows = ledger.segments(tenant.id).await.map_err(store::ledger_failure)?;
        let segments: Vec<Segment> = rows.iter().filter_map(|row| segment_of(tenant.id, row)).collect();
        let repeats = truth.feeds.iter().filter(|feed| feed.tenant == tenant.id).map(|feed| feed.duplicates).sum();
        let (world, archive) = (emulator.world().clone(), archive.clone());
        let compared = tokio::task::spawn_blocking(move || {
            let mut numbers = TenantComparison {
                tenant: tenant.id,
                name: tenant.label,
                published: 0,
                repeats,
                archived: 0,
                lost: 0,
                twice: 0,
                altered: 0,
                segments: segments.len() as u64,
                bytes: segments.iter().map(|segment| segment.bytes).sum(),
                raw_bytes: 0,
            };
            // By hash, so that a demo of many records does not hold them all. Two hashes of different keys: a chance
            // collision among millions is out of the question.
            let mut published: HashMap<(u64, u64), u32> = HashMap::new();
            world.each_record(tenant.id, RecordSet::Readable, |_, raw| {
                numbers.published += 1;
                published.entry(fingerprint(raw)).or_default();
                true
            });
            for record in archive.read_all(segments) {
                let record = record.map_err(store::archive_failure)?;
                numbers.archived += 1;
                numbers.raw_bytes += record.raw.len() as u64;
                match published.get_mut(&fingerprint(&record.raw)) {
                    None => numbers.altered += 1,
                    Some(count) => {
                        *count += 1;
                        numbers.twice += u64::from(*count > 1);
                    }
                }
            }
            numbers.lost = published.values().filter(|count| **count == 0).count() as u64;
            Ok::<_, Failure>(numbers)
        })
        .await
        .map_err(|error| Failure::new(Code::Other, format!("the comparison did not finish: {error}")))?;
        tenants.push(compared?);
    }
    Ok(Comparison { tenants })
}

fn fingerprint(raw: &[u8]) -> (u64, u64) {
    let mut first = DefaultHasher::new();
    raw.hash(&mut first);
    let mut second = DefaultHasher::new();
    (0x7465_6e61_u32, raw, raw.len()).hash(&mut second);
    (first.finish(), second.finish())
}

impl Comparison {
    /// Whether the archive holds exactly what was published.
    pub(super) fn is_exact(&self) -> bool {
        !self.tenants.is_empty() && self.tenants.iter().all(|tenant| tenant.lost + tenant.twice + tenant.altered == 0)
    }

    /// The result in one sentence.
    pub(super) fn verdict(&self) -> String {
        let sum = |of: fn(&TenantComparison) -> u64| self.tenants.iter().map(of).sum::<u64>();
        let numbers = format!("{} lost, {} twice, {} altered", sum(|t| t.lost), sum(|t| t.twice), sum(|t| t.altered));
        if self.is_exact() {
            let archived = present::count(sum(|t| t.archived));
            format!("The archive holds exactly what was published: {archived} records, {numbers}.")
        } else {
            format!("the archive does not hold what was published: {numbers}")
        }
    }

    /// One line a tenant, of the numbers that say whether all is well.
    pub(super) fn to_table(&self) -> String {
        let header = ["tenant", "published", "repeated", "archived", "lost", "twice", "altered"];
        let row = |tenant: &TenantComparison| {
            let numbers =
                [tenant.published, tenant.repeats, tenant.archived, tenant.lost, tenant.twice, tenant.altered];
            [vec![tenant.name.clone()], numbers.map(present::count).to_vec()].concat()
        };
        present::table(&header, &header[1..], self.tenants.iter().map(row).collect())
    }

    /// What the archive takes, in one sentence.
    pub(super) fn size(&self) -> String {
        let sum = |of: fn(&TenantComparison) -> u64| self.tenants.iter().map(of).sum::<u64>();
        let (raw, stored, files) = (sum(|t| t.raw_bytes), sum(|t| t.bytes), sum(|t| t.segments));
        format!("{} of JSON in {} of Parquet, {files} files", present::size(raw), present::size(stored))
    }

    pub(super) fn to_json(&self) -> serde_json::Value {
        self.tenants
            .iter()
            .map(|tenant| {
                json!({
                    "tenant_id": tenant.tenant,
                    "name": tenant.name,
                    "published": tenant.published,
                    "delivered_again": tenant.repeats,
                    "archived": tenant.archived,
                    "lost": tenant.lost,
                    "twice": tenant.twice,
                    "altered": tenant.altered,
                    "segments": tenant.segments,
                    "raw_bytes": tenant.raw_bytes,
                    "stored_bytes": tenant.bytes,
                })
            })
            .collect()
    }
}
