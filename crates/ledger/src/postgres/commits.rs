//! Commits and segments: the transactions that make records visible or merge their files.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write as _;
use std::ops::RangeInclusive;

use engine::evidence::ActivityKind;
use engine::model::{
    ArchivedContent, Commit, CommitNumber, DamagedSegment, Expired, QuarantineRow, Retained, SegmentRow,
};
use engine::retention::Expiry;
use protocol::ids::TenantId;
use protocol::time::Timestamp;
use serde_json::json;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::contents::{self, Ended};
use super::evidence;
use super::fault::{Done, Fault};
use super::rows::{bytes, counted, ensure_feed, lock_tenant, parsed, tenant_id, tenant_number, time};
use super::session::Session;
use crate::LedgerError;
use crate::values::{Within, count, message, ms};

const SEGMENT: &str = "date, number, part, rows, bytes, second_min, second_max, untimed_rows, digest";

pub(super) async fn commit(session: &Session<'_>, commit: &Commit) -> Done<()> {
    let tenant = take_number(session, commit.tenant, commit.number, commit.at).await?;
    let rows: Vec<i64> =
        commit.contents.iter().map(|content| content.row).chain(commit.lost.iter().map(|(row, _)| *row)).collect();
    if !rows.is_empty() {
        let ended = contents::end(session, commit.tenant, tenant, &rows).await?;
        let (archived, lost) = ended.split_at(commit.contents.len().min(ended.len()));
        archive(session, &commit.contents, archived).await?;
        for (ended, (_, loss)) in lost.iter().zip(&commit.lost) {
            contents::lose(session, tenant, ended, loss, commit.at).await?;
        }
    }
    add_segments(session, commit.tenant, tenant, commit.number, &commit.segments, ms(commit.at)).await?;
    for row in &commit.quarantined {
        quarantine(session, tenant, row, commit.at).await?;
    }
    Ok(())
}

/// What contents add to their feed.
#[derive(Default)]
struct Sums {
    contents: i64,
    failing: i64,
    records: i64,
    duplicates: i64,
    variants: i64,
}

/// `ended` is of `contents`, in the same order.
async fn archive(session: &Session<'_>, contents: &[ArchivedContent], ended: &[Ended]) -> Done<()> {
    if ended.is_empty() {
        return Ok(());
    }
    let rows: Vec<i64> = ended.iter().map(|ended| ended.row).collect();
    session.run("UPDATE content SET state = 1 WHERE content = ANY($1)", &[&rows]).await?;
    let mut feeds: BTreeMap<i64, Sums> = BTreeMap::new();
    for (content, ended) in contents.iter().zip(ended) {
        let sums = feeds.entry(ended.feed).or_default();
        sums.contents += 1;
        sums.failing += i64::from(ended.failing);
        sums.records = sums.records.saturating_add(count(content.records));
        sums.duplicates = sums.duplicates.saturating_add(count(content.duplicates));
        sums.variants = sums.variants.saturating_add(count(content.variants));
    }
    for (feed, sums) in feeds {
        session
            .run(
                "UPDATE feed SET pending = pending - $2, failing = failing - $3, archived = archived + $2,
                 records = records + $4, duplicates = duplicates + $5, variants = variants + $6 WHERE feed = $1",
                &[&feed, &sums.contents, &sums.failing, &sums.records, &sums.duplicates, &sums.variants],
            )
            .await?;
    }
    Ok(())
}

/// Checks that `number` is the tenant's next one, and makes it the last. Returns the tenant's own number; nobody else
/// writes anything of this tenant before the transaction's end, so numbers become visible in their order.
async fn take_number(session: &Session<'_>, id: TenantId, number: CommitNumber, at: Timestamp) -> Done<i64> {
    let tenant = lock_tenant(session, id).await?;
    let row = session.one("SELECT last_commit FROM tenant WHERE tenant = $1", &[&tenant]).await?;
    let expected = CommitNumber(counted(&row, 0)?.saturating_add(1));
    if number != expected {
        return Err(LedgerError::CommitOutOfOrder { tenant: id, given: number, expected }.into());
    }
    session
        .run(
            "UPDATE tenant SET last_commit = $2, last_commit_at = $3 WHERE tenant = $1",
            &[&tenant, &count(number.0), &ms(at)],
        )
        .await?;
    Ok(tenant)
}

async fn add_segments(
    session: &Session<'_>,
    id: TenantId,
    tenant: i64,
    number: CommitNumber,
    segments: &[SegmentRow],
    stored_at: i64,
) -> Done<()> {
    if segments.is_empty() {
        return Ok(());
    }
    let refused = |segment: &SegmentRow, problem| {
        Fault::Rule(LedgerError::SegmentRefused { tenant: id, segment: name(segment), problem })
    };
    let mut names = HashSet::new();
    for segment in segments {
        if segment.commit != number {
            return Err(refused(segment, "its name carries another commit's number"));
        }
        if !names.insert((&segment.date, segment.part)) {
            return Err(refused(segment, "it is named twice"));
        }
    }
    let dates: Vec<&str> = segments.iter().map(|segment| segment.date.as_str()).collect();
    let parts: Vec<i64> = segments.iter().map(|segment| count(segment.part)).collect();
    let rows: Vec<i64> = segments.iter().map(|segment| count(segment.rows)).collect();
    let bytes: Vec<i64> = segments.iter().map(|segment| count(segment.bytes)).collect();
    let first: Vec<Option<i64>> = segments.iter().map(|segment| segment.second_min).collect();
    let last: Vec<Option<i64>> = segments.iter().map(|segment| segment.second_max).collect();
    let untimed: Vec<i64> = segments.iter().map(|segment| count(segment.untimed_rows)).collect();
    let digests: Vec<&[u8]> = segments.iter().map(|segment| &segment.digest[..]).collect();
    // The commit's number is new, so none of its segments can be there.
    session
        .run(
            "INSERT INTO segment (tenant, number, stored_at, date, part, rows, bytes, second_min, second_max, untimed_rows,
                                  digest)
             SELECT $1, $2, $3, * FROM unnest($4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
                                              $9::bigint[], $10::bigint[], $11::bytea[])",
            &[&tenant, &count(number.0), &stored_at, &dates, &parts, &rows, &bytes, &first, &last, &untimed, &digests],
        )
        .await?;
    Ok(())
}

async fn quarantine(session: &Session<'_>, tenant: i64, row: &QuarantineRow, at: Timestamp) -> Done<()> {
    let feed = ensure_feed(session, tenant, &row.content_type, at).await?;
    // A path names its bytes: putting the same into quarantine again, after a fetch that broke off, adds nothing.
    let added = session
        .run(
            "INSERT INTO quarantine (tenant, path, feed, id, bytes, digest, reason) VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (tenant, path) DO NOTHING",
            &[
                &tenant,
                &row.path,
                &feed,
                &row.content_id.as_str(),
                &count(row.bytes),
                &&row.digest[..],
                &message(&row.reason),
            ],
        )
        .await?;
    session.run("UPDATE feed SET quarantined = quarantined + $2 WHERE feed = $1", &[&feed, &count(added)]).await?;
    Ok(())
}

pub(super) async fn quarantined(session: &Session<'_>, id: TenantId, limit: u32) -> Done<Vec<QuarantineRow>> {
    let tenant = tenant_number(session, id).await?;
    let rows = session
        .rows(
            "SELECT t.name, q.id, q.path, q.bytes, q.digest, q.reason
             FROM (SELECT * FROM quarantine WHERE tenant = $1 ORDER BY path LIMIT $2) AS q
             JOIN feed AS f USING (feed) JOIN content_type AS t USING (type) ORDER BY q.path",
            &[&tenant, &i64::from(limit)],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(QuarantineRow {
                content_type: parsed(row, 0)?,
                content_id: parsed(row, 1)?,
                path: row.try_get(2)?,
                bytes: counted(row, 3)?,
                digest: bytes(row, 4)?,
                reason: row.try_get(5)?,
            })
        })
        .collect()
}

pub(super) async fn segments(session: &Session<'_>, id: TenantId) -> Done<Vec<SegmentRow>> {
    let tenant = tenant_number(session, id).await?;
    let text = format!(
        "SELECT {SEGMENT} FROM segment WHERE tenant = $1 AND obsolete_since IS NULL ORDER BY date, number, part"
    );
    session.rows(&text, &[&tenant]).await?.iter().map(|row| segment_row(row, 0)).collect()
}

pub(super) async fn segments_within(
    session: &Session<'_>,
    tenants: Option<&BTreeSet<TenantId>>,
    seconds: Option<&RangeInclusive<i64>>,
) -> Done<Vec<(TenantId, Vec<SegmentRow>)>> {
    let mut text = format!("SELECT id, {SEGMENT} FROM tenant JOIN segment USING (tenant) WHERE obsolete_since IS NULL");
    let bounds = seconds.map(Within::of);
    let tenants: Option<Vec<_>> = tenants.map(|tenants| tenants.iter().map(TenantId::as_uuid).collect());
    let mut given: Vec<&(dyn ToSql + Sync)> = Vec::new();
    if let Some(Within { dates, seconds }) = &bounds {
        text.push_str(" AND date BETWEEN $1 AND $2 AND second_max >= $3 AND second_min <= $4");
        given.extend([&dates.0 as &(dyn ToSql + Sync), &dates.1, &seconds.0, &seconds.1]);
    }
    if let Some(tenants) = &tenants {
        given.push(tenants);
        let _ = write!(text, " AND id = ANY(${})", given.len());
    }
    text.push_str(" ORDER BY tenant, date, number, part");
    let mut all: Vec<(TenantId, Vec<SegmentRow>)> = Vec::new();
    for row in session.rows(&text, &given).await? {
        let (id, segment) = (tenant_id(&row, 0)?, segment_row(&row, 1)?);
        match all.last_mut() {
            Some((tenant, segments)) if *tenant == id => segments.push(segment),
            _ => all.push((id, vec![segment])),
        }
    }
    Ok(all)
}

pub(super) async fn replace_segments(
    session: &Session<'_>,
    id: TenantId,
    number: CommitNumber,
    removed: &[SegmentRow],
    added: &[SegmentRow],
    now: Timestamp,
) -> Done<()> {
    let tenant = take_number(session, id, number, now).await?;
    let mut stored_at: Option<i64> = None;
    for segment in removed {
        let hidden = session
            .maybe(
                "UPDATE segment SET obsolete_since = $5
                 WHERE tenant = $1 AND date = $2 AND number = $3 AND part = $4 AND obsolete_since IS NULL
                 RETURNING stored_at",
                &[&tenant, &segment.date, &count(segment.commit.0), &count(segment.part), &ms(now)],
            )
            .await?;
        let Some(hidden) = hidden else {
            return Err(LedgerError::SegmentNotVisible { tenant: id, segment: name(segment) }.into());
        };
        stored_at = stored_at.max(Some(hidden.try_get(0)?));
    }
    add_segments(session, id, tenant, number, added, stored_at.unwrap_or_else(|| ms(now))).await
}

pub(super) async fn expire_segments(
    session: &Session<'_>,
    actor: &str,
    id: TenantId,
    expiry: &Expiry,
    now: Timestamp,
) -> Done<Expired> {
    let tenant = lock_tenant(session, id).await?;
    if is_held(session, tenant).await? {
        return Ok(Expired::default());
    }
    // As segments' dates are written: in the order of time for the years that they can be of.
    let before = expiry.before.format("%Y-%m-%d").to_string();
    let rows = session
        .rows(
            "UPDATE segment SET obsolete_since = $4, expired = true
             WHERE tenant = $1 AND date < $2 AND stored_at < $3 AND obsolete_since IS NULL RETURNING rows, bytes, date",
            &[&tenant, &before, &ms(expiry.stored_before), &ms(now)],
        )
        .await?;
    let mut expired = Expired::default();
    let (mut bytes, mut dates): (u64, BTreeSet<String>) = (0, BTreeSet::new());
    for row in &rows {
        expired.segments += 1;
        expired.records = expired.records.saturating_add(counted(row, 0)?);
        bytes = bytes.saturating_add(counted(row, 1)?);
        dates.insert(row.try_get(2)?);
    }
    if expired.segments > 0 {
        let details = json!({
            "from": dates.first(), "through": dates.last(), "segments": expired.segments, "records": expired.records,
            "bytes": bytes,
        });
        evidence::note(session, actor, ActivityKind::Expired, Some(id), &details, now).await?;
        session
            .run(
                "UPDATE tenant SET expired_segments = expired_segments + $2, expired_records = expired_records + $3,
                 kept_since = greatest(kept_since, $4) WHERE tenant = $1",
                &[&tenant, &count(expired.segments), &count(expired.records), &before],
            )
            .await?;
    }
    Ok(expired)
}

pub(super) async fn retained(session: &Session<'_>, id: TenantId) -> Done<Retained> {
    let tenant = tenant_number(session, id).await?;
    let text = "SELECT kept_since, expired_segments, expired_records FROM tenant WHERE tenant = $1";
    let row = session.one(text, &[&tenant]).await?;
    let kept_since: Option<String> = row.try_get(0)?;
    Ok(Retained {
        kept_since: kept_since.and_then(|date| date.parse().ok()),
        expired: Expired { segments: counted(&row, 1)?, records: counted(&row, 2)? },
    })
}

/// Whether nothing of it may be deleted.
async fn is_held(session: &Session<'_>, tenant: i64) -> Done<bool> {
    let text = "SELECT 1 FROM tenant WHERE tenant = $1 AND held_at IS NOT NULL";
    Ok(session.maybe(text, &[&tenant]).await?.is_some())
}

pub(super) async fn obsolete(session: &Session<'_>, id: TenantId) -> Done<Vec<(SegmentRow, Timestamp)>> {
    obsolete_but(session, id, false).await
}

pub(super) async fn deletable(session: &Session<'_>, id: TenantId) -> Done<Vec<(SegmentRow, Timestamp)>> {
    let is_held = is_held(session, tenant_number(session, id).await?).await?;
    obsolete_but(session, id, is_held).await
}

/// What is obsolete, or only what merges have replaced.
async fn obsolete_but(session: &Session<'_>, id: TenantId, merged_only: bool) -> Done<Vec<(SegmentRow, Timestamp)>> {
    let tenant = tenant_number(session, id).await?;
    let condition = if merged_only { "AND NOT expired" } else { "" };
    let text = format!(
        "SELECT {SEGMENT}, obsolete_since FROM segment WHERE tenant = $1 AND obsolete_since IS NOT NULL {condition}
         ORDER BY obsolete_since, date, number, part"
    );
    let rows = session.rows(&text, &[&tenant]).await?;
    rows.iter().map(|row| Ok((segment_row(row, 0)?, time(row, 9)?))).collect()
}

pub(super) async fn obsolete_deleted(session: &Session<'_>, id: TenantId, segments: &[SegmentRow]) -> Done<()> {
    let tenant = lock_tenant(session, id).await?;
    for segment in segments {
        // A visible one is never forgotten, whatever the caller believes.
        session
            .run(
                "DELETE FROM segment
                 WHERE tenant = $1 AND date = $2 AND number = $3 AND part = $4 AND obsolete_since IS NOT NULL",
                &[&tenant, &segment.date, &count(segment.commit.0), &count(segment.part)],
            )
            .await?;
    }
    Ok(())
}

pub(super) async fn set_segment_problem(
    session: &Session<'_>,
    id: TenantId,
    segment: &SegmentRow,
    problem: Option<&str>,
    now: Timestamp,
) -> Done<()> {
    let tenant = lock_tenant(session, id).await?;
    session
        .run(
            "UPDATE segment SET damage = $5::text,
             damaged_at = CASE WHEN $5::text IS NOT NULL THEN coalesce(damaged_at, $6) END
             WHERE tenant = $1 AND date = $2 AND number = $3 AND part = $4 AND obsolete_since IS NULL",
            &[&tenant, &segment.date, &count(segment.commit.0), &count(segment.part), &problem.map(message), &ms(now)],
        )
        .await?;
    Ok(())
}

pub(super) async fn damaged_segments(session: &Session<'_>, id: TenantId) -> Done<Vec<DamagedSegment>> {
    let tenant = tenant_number(session, id).await?;
    let text = format!(
        "SELECT {SEGMENT}, damage, damaged_at FROM segment
         WHERE tenant = $1 AND damage IS NOT NULL AND obsolete_since IS NULL ORDER BY date, number, part"
    );
    let rows = session.rows(&text, &[&tenant]).await?;
    rows.iter()
        .map(|row| {
            Ok(DamagedSegment { segment: segment_row(row, 0)?, problem: row.try_get(9)?, found_at: time(row, 10)? })
        })
        .collect()
}

/// Nine columns from `first` on.
fn segment_row(row: &Row, first: usize) -> Done<SegmentRow> {
    Ok(SegmentRow {
        date: row.try_get(first)?,
        commit: CommitNumber(counted(row, first + 1)?),
        part: counted(row, first + 2)?,
        rows: counted(row, first + 3)?,
        bytes: counted(row, first + 4)?,
        second_min: row.try_get(first + 5)?,
        second_max: row.try_get(first + 6)?,
        untimed_rows: counted(row, first + 7)?,
        digest: bytes(row, first + 8)?,
    })
}

fn name(segment: &SegmentRow) -> String {
    format!("{}/{}-{}", segment.date, segment.commit, segment.part)
}
