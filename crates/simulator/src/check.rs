//! What must be true, said once: after every restart of what coverage claims, and at the end of what the archive holds.
//!
//! Never asks the collector: one side is what the emulator knows it published, the other the ledger's rows and the
//! archive's bytes.

use std::collections::{BTreeMap, BTreeSet};

use archive::{Archive, Depth, Segment};
use bytes::Bytes;
use chrono::TimeDelta;
use emulator::Emulator;
use emulator::faults::NOT_RECORDS;
use emulator::world::{ContentTruth, RecordSet};
use engine::model::{ContentState, Coverage, LossKind, Tile};
use ledger::Ledger;
use ledger::sqlite::SqliteLedger;
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;
use server::collector::segments::segment_of;

use crate::plan::{Plan, Span};
use crate::tuned::tables;
use crate::witness::Witness;

/// Somebody who works undisturbed for so long is expected to get what there is.
const ENOUGH: TimeDelta = TimeDelta::hours(6);

/// Both sides of a run.
pub(crate) struct Sides<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) emulator: &'a Emulator,
    pub(crate) ledger: &'a SqliteLedger,
    pub(crate) witness: &'a Witness,
    pub(crate) now: Timestamp,
}

/// Records by tenant.
pub(crate) type ByTenant = BTreeMap<TenantId, BTreeSet<Bytes>>;

type Verdict<T = ()> = Result<T, String>;

/// What the collector had to live through, for the question what it could have had.
pub(crate) struct Excuses<'a> {
    pub(crate) lives: &'a [Span],
    /// When the runs began that ended by themselves and said that they had everything.
    pub(crate) complete_runs: &'a [Timestamp],
    pub(crate) asked: &'a BTreeMap<String, u32>,
    pub(crate) poison: &'a BTreeSet<String>,
}

fn of_tenants(contents: &[ContentTruth]) -> BTreeMap<TenantId, Vec<&ContentTruth>> {
    let mut all: BTreeMap<TenantId, Vec<&ContentTruth>> = BTreeMap::new();
    for content in contents {
        all.entry(content.tenant).or_default().push(content);
    }
    all
}

impl Sides<'_> {
    fn collects(&self, kind: &ContentType) -> bool {
        self.plan.tuning.content_types.contains(kind)
    }

    /// Contents that are published by now, of the types collected.
    pub(crate) fn contents(&self) -> Vec<ContentTruth> {
        self.emulator.world().clock().set(self.now);
        let contents = self.emulator.world().contents();
        contents.filter(|content| content.published && self.collects(&content.content_type)).collect()
    }

    /// Distinct records published by now, of the types collected.
    pub(crate) fn records(&self, set: RecordSet) -> ByTenant {
        self.emulator.world().clock().set(self.now);
        let mut all = ByTenant::new();
        for tenant in self.emulator.world().tenant_ids() {
            let records = all.entry(tenant).or_default();
            self.emulator.world().each_record(tenant, set, |kind, raw| {
                if self.collects(kind) {
                    records.insert(Bytes::copy_from_slice(raw));
                }
                true
            });
        }
        all
    }

    /// Nothing is claimed to be complete that is not: every content that a listing counted as proof could show is archived
    /// or named as lost.
    pub(crate) async fn check_claims(&self, contents: &[ContentTruth]) -> Verdict {
        let of_tenants = of_tenants(contents);
        for tenant in self.emulator.world().tenant_ids() {
            let of_tenant = of_tenants.get(&tenant).map_or(&[][..], Vec::as_slice);
            let rows = self.ledger.coverage(tenant).await.map_err(|error| format!("no coverage: {error}"))?;
            for row in rows {
                let tiles = self.ledger.tiles(tenant, row.content_type.clone()).await;
                let tiles = tiles.map_err(|error| format!("no tiles: {error}"))?;
                for content in of_tenant.iter().filter(|content| content.content_type == row.content_type) {
                    self.check_claim(&row, &tiles, content).await?;
                }
            }
        }
        Ok(())
    }

    async fn check_claim(&self, row: &Coverage, tiles: &[Tile], content: &ContentTruth) -> Verdict {
        let Some(through) = row.complete_through else { return Ok(()) };
        let (from, created) = (row.from, content.created);
        let in_gap = row.gaps.iter().any(|gap| gap.start <= created && created < gap.until);
        if created < from || created >= through || in_gap {
            return Ok(());
        }
        let tile = tiles.iter().find(|tile| tile.start <= created && created < tile.until);
        let could_be_seen = match tile {
            Some(tile) => self
                .witness
                .listing_began(row.tenant, &row.content_type, tile)
                .is_some_and(|began| content.available <= began),
            None => content.available <= created + TimeDelta::hours(1),
        };
        if !could_be_seen {
            return Ok(());
        }
        match self.state(content).await? {
            Some(ContentState::Archived | ContentState::Lost) => Ok(()),
            None if self.plan.world.blobs.aggregated > 0.0 || content.expires <= self.witness.folded_before() => Ok(()),
            state => Err(format!(
                "{} of tenant {} claims to be complete through {through}, but {} (created {created}, available {}) is {state:?}",
                row.content_type, row.tenant, content.content_id, content.available
            )),
        }
    }

    async fn state(&self, content: &ContentTruth) -> Verdict<Option<ContentState>> {
        let (tenant, kind) = (content.tenant, content.content_type.clone());
        let state = self.ledger.content_state(tenant, kind, content.content_id.clone()).await;
        state.map_err(|error| format!("no state of {}: {error}", content.content_id))
    }

    /// No record is missing but those of contents that could not be had, none is there twice, and none that was never
    /// published. Says how many contents could not be had.
    pub(crate) async fn check_archive(
        &self,
        archive: &Archive,
        expected: &ByTenant,
        contents: &[ContentTruth],
        excuses: &Excuses<'_>,
    ) -> Verdict<u64> {
        let mut known = self.records(RecordSet::Readable);
        for (tenant, records) in self.records(RecordSet::PoisonOnly) {
            known.entry(tenant).or_default().extend(records);
        }
        let archived = self.read(archive).await?;
        let nothing = BTreeSet::new();
        let of_tenants = of_tenants(contents);
        let mut excused_in_all = 0;
        for (tenant, expected) in expected {
            let of_tenant = of_tenants.get(tenant).map_or(&[][..], Vec::as_slice);
            let excused = self.excused(*tenant, of_tenant, excuses).await?;
            excused_in_all += excused.0;
            let archived = archived.get(tenant).unwrap_or(&nothing);
            let missing: Vec<&Bytes> = expected.difference(archived).collect();
            if missing.len() as u64 > excused.1 {
                return Err(format!(
                    "{} of {} records of tenant {tenant} are not archived, and {} of {} contents explain {} at most; one is {}",
                    missing.len(),
                    expected.len(),
                    excused.0,
                    of_tenant.len(),
                    excused.1,
                    self.whereabouts(*tenant, missing.first().map_or(&[], |raw| &raw[..]), of_tenant).await?
                ));
            }
            let mut foreign: Vec<&Bytes> = archived.difference(known.get(tenant).unwrap_or(&nothing)).collect();
            // What is no record and has the look of one may be kept as one: it was delivered.
            foreign.retain(|raw| !NOT_RECORDS.iter().any(|text| text.starts_with('{') && text.as_bytes() == &raw[..]));
            if let Some(first) = foreign.first() {
                return Err(format!(
                    "{} records of tenant {tenant} are archived that were never published; one is {}",
                    foreign.len(),
                    String::from_utf8_lossy(first)
                ));
            }
        }
        Ok(excused_in_all)
    }

    /// A record that is missing, and what the ledger says of the contents it was published in.
    async fn whereabouts(&self, tenant: TenantId, raw: &[u8], contents: &[&ContentTruth]) -> Verdict<String> {
        let mut text: String = String::from_utf8_lossy(raw).chars().take(160).collect();
        for id in self.emulator.world().contents_of(tenant, raw) {
            let content = contents.iter().find(|content| content.content_id == id);
            let Some(content) = content else { continue };
            text += &format!(
                "; it is in {} {id}, created {}, available {}, expiring {}, {} records: {:?}",
                content.content_type,
                content.created,
                content.available,
                content.expires,
                content.records,
                self.state(content).await?
            );
        }
        Ok(text)
    }

    /// How many contents of a tenant could not be had, and how many records they hold.
    async fn excused(
        &self,
        tenant: TenantId,
        contents: &[&ContentTruth],
        excuses: &Excuses<'_>,
    ) -> Verdict<(u64, u64)> {
        let losses = self.ledger.losses(tenant, 100_000).await.map_err(|error| format!("no losses: {error}"))?;
        let mut excused = (0, 0);
        for content in contents {
            let state = self.state(content).await?;
            let lost = losses.iter().find(|lost| lost.content_id == content.content_id).map(|lost| lost.loss.kind);
            let is_poison = excuses.poison.contains(&content.content_id);
            let asked = excuses.asked.get(&content.content_id).copied().unwrap_or(0);
            let could_be_had = !is_poison && self.could_be_had(content, excuses);
            let excuse = match (state, lost) {
                (Some(ContentState::Archived), _) => false,
                (Some(ContentState::Lost), Some(LossKind::Expired)) if could_be_had => {
                    return Err(format!(
                        "{} is called expired, and could have been had: {content:?}",
                        content.content_id
                    ));
                }
                (Some(ContentState::Lost), Some(LossKind::RefusedUrl)) => {
                    return Err(format!("{} is called refused, and was offered as it should be", content.content_id));
                }
                (Some(ContentState::Lost), Some(LossKind::Missing | LossKind::Unreadable))
                    if !is_poison && asked < 5 =>
                {
                    return Err(format!("{} was given up after {asked} attempts", content.content_id));
                }
                (Some(ContentState::Lost), _) => true,
                (Some(ContentState::Listed) | None, _) => is_poison || !could_be_had,
            };
            if excuse {
                excused.0 += 1;
                excused.1 += content.records;
            }
        }
        Ok(excused)
    }

    /// Whether there was a collector for long enough at a time while nothing stood in its way and the content could be read.
    fn could_be_had(&self, content: &ContentTruth, excuses: &Excuses<'_>) -> bool {
        if content.created < self.plan.start - self.plan.tuning.back {
            return false;
        }
        let last = content.expires.min(self.now);
        if excuses.complete_runs.iter().any(|began| content.available <= *began && *began + ENOUGH < last) {
            return true;
        }
        excuses.lives.iter().any(|life| {
            let (mut from, until) = (life.from.max(content.available), life.until.min(last));
            let mut hard: Vec<&Span> =
                self.plan.hard_times.iter().filter(|span| span.from < until && span.until > from).collect();
            hard.sort_by_key(|span| span.from);
            for span in hard {
                if span.from - from >= ENOUGH {
                    return true;
                }
                from = from.max(span.until);
            }
            until - from >= ENOUGH
        })
    }

    /// Everything in the archive.
    async fn read(&self, archive: &Archive) -> Verdict<ByTenant> {
        let mut all = ByTenant::new();
        for (tenant, segments) in self.segments().await? {
            let records = all.entry(tenant).or_default();
            let verified =
                archive.verify(&segments, Depth::Records, |_| ()).map_err(|error| format!("not verified: {error}"))?;
            if let Some(damage) = verified.damaged.first() {
                return Err(format!("{} is damaged: {}", damage.path.display(), damage.problem));
            }
            for record in archive.read_all(segments) {
                let raw = record.map_err(|error| format!("not read: {error}"))?.raw;
                if !records.insert(raw.clone()) {
                    return Err(format!(
                        "a record of tenant {tenant} is there twice: {}",
                        String::from_utf8_lossy(&raw)
                    ));
                }
            }
        }
        Ok(all)
    }

    async fn segments(&self) -> Verdict<Vec<(TenantId, Vec<Segment>)>> {
        let all = self.ledger.segments_within(None, None).await.map_err(|error| format!("no segments: {error}"))?;
        let segments = all
            .iter()
            .map(|(tenant, rows)| (*tenant, rows.iter().filter_map(|row| segment_of(*tenant, row)).collect()));
        Ok(segments.collect())
    }

    /// Each tenant's table, where there is to be one, names what the ledger shows and nothing else.
    pub(crate) async fn check_tables(&self, archive: &Archive) -> Verdict {
        if tables(self.plan.world.seed).is_none() {
            return Ok(());
        }
        for (tenant, visible) in self.segments().await? {
            let table = archive.table(tenant).map_err(|error| format!("no table of {tenant}: {error}"))?;
            if let Some(damage) = table.damage() {
                return Err(format!("the table of {tenant} is damaged: {damage}"));
            }
            let differs = table.differs_from(&visible);
            if differs > 0 {
                let segments = visible.len();
                return Err(format!("the table of {tenant} differs from its {segments} segments by {differs}"));
            }
        }
        Ok(())
    }

    /// No file is in the archive that the ledger does not know, and what it promises to keep in quarantine is there.
    pub(crate) async fn check_files(&self, archive: &Archive) -> Verdict {
        let mut known = BTreeSet::new();
        for (_, segments) in self.segments().await? {
            known.extend(segments.iter().map(|segment| archive.segment_path(segment)));
        }
        for tenant in self.emulator.world().tenant_ids() {
            let obsolete = self.ledger.obsolete(tenant).await.map_err(|error| error.to_string())?;
            let segments = obsolete.iter().filter_map(|(row, _)| segment_of(tenant, row));
            known.extend(segments.map(|segment| archive.segment_path(&segment)));
            for row in self.ledger.quarantine(tenant, 100_000).await.map_err(|error| error.to_string())? {
                let bytes = std::fs::read(archive.root().join(&row.path)).unwrap_or_default();
                if *blake3::hash(&bytes).as_bytes() != row.digest {
                    return Err(format!("{} is not what was put there", row.path));
                }
            }
        }
        let mut folders = vec![archive.root().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let extension = path.extension().and_then(|extension| extension.to_str());
                if path.ends_with("_aside") || path.ends_with("_delta_log") {
                    // What may not come again is kept there, and nobody reads it; and a table's log is looked at as such.
                    continue;
                }
                if path.is_dir() {
                    folders.push(path);
                } else if matches!(extension, Some("parquet" | "tmp")) && !known.contains(&path) {
                    return Err(format!("{} is an orphan", path.display()));
                }
            }
        }
        Ok(())
    }
}
