//! What is kept as evidence: the log of activity, orders to purge, legal holds.
//!
//! Never deletes or changes a line of the log, and never writes one in another transaction than what it tells of.

use engine::evidence::{ActivityEntry, ActivityFilter, ActivityKind, Deleted, Purge};
use engine::lease::Epoch;
use engine::model::TenantState;
use protocol::ids::TenantId;
use protocol::time::Timestamp;
use serde_json::{Value, json};
use tokio_postgres::Row;

use super::fault::Done;
use super::rows::{counted, parsed, tenant_id, tenant_if_any, time, time_if_any};
use super::session::Session;
use super::tenants::{locked, next_revision};
use crate::LedgerError;
use crate::values::{count, message, ms, plain, rfc3339};

const PURGE: &str =
    "SELECT id, ordered_at, ordered_by, through, segments, records, bytes, files, file_bytes, done_at FROM purge";
const ENTRY: &str = "SELECT entry, at, actor, kind, tenant, details FROM activity";

/// Adds a line to the log.
pub(super) async fn note(
    session: &Session<'_>,
    actor: &str,
    kind: ActivityKind,
    tenant: Option<TenantId>,
    details: &Value,
    now: Timestamp,
) -> Done<()> {
    let (tenant, details) = (tenant.map(|tenant| *tenant.as_uuid()), details.to_string());
    session
        .run(
            "INSERT INTO activity (at, actor, kind, tenant, details) VALUES ($1, $2, $3, $4, $5)",
            &[&ms(now), &plain(actor), &kind.as_str(), &tenant, &plain(&details)],
        )
        .await?;
    Ok(())
}

pub(super) async fn entries(session: &Session<'_>, filter: &ActivityFilter, limit: u32) -> Done<Vec<ActivityEntry>> {
    let before = filter.before.map_or(i64::MAX, count);
    let since = filter.since.map_or(i64::MIN, ms);
    let (kind, limit) = (filter.kind.map(ActivityKind::as_str), i64::from(limit));
    // One statement for each index: with any condition left open none would be of use.
    let rows = match (filter.tenant, kind) {
        (Some(tenant), kind) => {
            let text = format!(
                "{ENTRY} WHERE tenant = $1 AND entry < $2 AND at >= $3 AND ($4::text IS NULL OR kind = $4)
                 ORDER BY entry DESC LIMIT $5"
            );
            session.rows(&text, &[tenant.as_uuid(), &before, &since, &kind, &limit]).await?
        }
        (None, Some(kind)) => {
            let text = format!("{ENTRY} WHERE kind = $1 AND entry < $2 AND at >= $3 ORDER BY entry DESC LIMIT $4");
            session.rows(&text, &[&kind, &before, &since, &limit]).await?
        }
        (None, None) => {
            let text = format!("{ENTRY} WHERE entry < $1 AND at >= $2 ORDER BY entry DESC LIMIT $3");
            session.rows(&text, &[&before, &since, &limit]).await?
        }
    };
    rows.iter().map(entry).collect()
}

pub(super) async fn order_purge(session: &Session<'_>, actor: &str, id: TenantId, now: Timestamp) -> Done<Purge> {
    let tenant = locked(session, id).await?.ok_or(LedgerError::UnknownTenant { tenant: id })?;
    if tenant.state != TenantState::Removed {
        return Err(LedgerError::NotRemoved { tenant: id }.into());
    }
    if let Some(hold) = tenant.hold {
        return Err(LedgerError::Held { tenant: id, reason: hold.reason }.into());
    }
    super::leases::drop_tenant(session, id).await?;
    let uuid = id.as_uuid();
    // For a tenant of years all this takes its time.
    session.batch("SET LOCAL statement_timeout = 0").await?;
    session
        .run(
            "INSERT INTO purge (id, ordered_at, ordered_by, through, segments, records, bytes)
             SELECT $1, $2, $3, (SELECT lease_epoch FROM tenant WHERE id = $1), count(*),
                    coalesce(sum(rows), 0)::bigint, coalesce(sum(bytes), 0)::bigint
             FROM segment WHERE tenant = (SELECT tenant FROM tenant WHERE id = $1) AND obsolete_since IS NULL
             ON CONFLICT (id) DO UPDATE SET ordered_at = excluded.ordered_at, ordered_by = excluded.ordered_by,
                through = excluded.through, segments = excluded.segments, records = excluded.records,
                bytes = excluded.bytes, files = 0, file_bytes = 0, done_at = NULL",
            &[uuid, &ms(now), &plain(actor)],
        )
        .await?;
    let epoch: i64 = session.one("SELECT lease_epoch FROM tenant WHERE id = $1", &[uuid]).await?.try_get(0)?;
    // Everything else hangs on this row and goes with it.
    session.run("DELETE FROM tenant WHERE id = $1", &[uuid]).await?;
    // But for who came from it, which may be there before the tenant is.
    session.run("DELETE FROM consent_visit WHERE tenant = $1", &[uuid]).await?;
    let purge = purge(session, id).await?.ok_or(LedgerError::UnknownTenant { tenant: id })?;
    let details = json!({ "segments": purge.segments, "records": purge.records, "bytes": purge.bytes });
    note(session, actor, ActivityKind::PurgeOrdered, Some(id), &details, now).await?;
    // Last: everybody who adds or changes a tenant needs this row.
    session.run("UPDATE revision SET purged_epoch = greatest(purged_epoch, $1) WHERE single = 1", &[&epoch]).await?;
    Ok(purge)
}

pub(super) async fn purge(session: &Session<'_>, id: TenantId) -> Done<Option<Purge>> {
    let row = session.maybe(&format!("{PURGE} WHERE id = $1"), &[id.as_uuid()]).await?;
    row.as_ref().map(purge_row).transpose()
}

pub(super) async fn purges(session: &Session<'_>, done_since: Timestamp, limit: u32) -> Done<Vec<Purge>> {
    let limit = i64::from(limit);
    let open = format!("{PURGE} WHERE done_at IS NULL ORDER BY ordered_at LIMIT $1");
    let done = format!("{PURGE} WHERE done_at >= $1 ORDER BY done_at LIMIT $2");
    let mut rows = session.rows(&open, &[&limit]).await?;
    rows.extend(session.rows(&done, &[&ms(done_since), &limit]).await?);
    rows.iter().map(purge_row).collect()
}

pub(super) async fn files_purged(
    session: &Session<'_>,
    actor: &str,
    (id, through): (TenantId, Epoch),
    deleted: Deleted,
    is_done: bool,
    now: Timestamp,
) -> Done<()> {
    let row = session.maybe(&format!("{PURGE} WHERE id = $1 FOR UPDATE"), &[id.as_uuid()]).await?;
    let before = row.as_ref().map(purge_row).transpose()?;
    let Some(before) = before.filter(|purge| purge.through == through) else { return Ok(()) };
    let is_news = is_done && (before.done_at.is_none() || deleted.files > 0);
    session
        .run(
            "UPDATE purge SET files = files + $2, file_bytes = file_bytes + $3,
             done_at = CASE WHEN $4 THEN coalesce(done_at, $5) ELSE done_at END WHERE id = $1",
            &[id.as_uuid(), &count(deleted.files), &count(deleted.bytes), &is_done, &ms(now)],
        )
        .await?;
    if is_news {
        let details = json!({
            "ordered_at": rfc3339(before.ordered_at), "ordered_by": before.ordered_by,
            "segments": before.segments, "records": before.records,
            "files": before.deleted.files.saturating_add(deleted.files),
            "bytes": before.deleted.bytes.saturating_add(deleted.bytes),
        });
        note(session, actor, ActivityKind::Purged, Some(id), &details, now).await?;
    }
    Ok(())
}

/// Whether a purge of this tenant is not done.
pub(super) async fn is_being_purged(session: &Session<'_>, id: TenantId) -> Done<bool> {
    let text = "SELECT 1 FROM purge WHERE id = $1 AND done_at IS NULL";
    Ok(session.maybe(text, &[id.as_uuid()]).await?.is_some())
}

pub(super) async fn hold(session: &Session<'_>, actor: &str, id: TenantId, reason: &str, now: Timestamp) -> Done<bool> {
    if locked(session, id).await?.is_none() {
        return Ok(false);
    }
    let (revision, reason) = (next_revision(session).await?, message(reason));
    session
        .run(
            "UPDATE tenant SET held_at = coalesce(held_at, $2), held_by = $3, held_reason = $4, revision = $5 WHERE id = $1",
            &[id.as_uuid(), &ms(now), &plain(actor), &reason, &revision],
        )
        .await?;
    note(session, actor, ActivityKind::HoldSet, Some(id), &json!({ "reason": reason }), now).await?;
    Ok(true)
}

pub(super) async fn release(session: &Session<'_>, actor: &str, id: TenantId, now: Timestamp) -> Done<bool> {
    let Some(hold) = locked(session, id).await?.and_then(|tenant| tenant.hold) else { return Ok(false) };
    let revision = next_revision(session).await?;
    session
        .run(
            "UPDATE tenant SET held_at = NULL, held_by = NULL, held_reason = NULL, revision = $2 WHERE id = $1",
            &[id.as_uuid(), &revision],
        )
        .await?;
    let details = json!({ "reason": hold.reason, "held_since": rfc3339(hold.since), "held_by": hold.by });
    note(session, actor, ActivityKind::HoldReleased, Some(id), &details, now).await?;
    Ok(true)
}

fn purge_row(row: &Row) -> Done<Purge> {
    Ok(Purge {
        tenant: tenant_id(row, 0)?,
        ordered_at: time(row, 1)?,
        ordered_by: row.try_get(2)?,
        through: Epoch(counted(row, 3)?),
        segments: counted(row, 4)?,
        records: counted(row, 5)?,
        bytes: counted(row, 6)?,
        deleted: Deleted { files: counted(row, 7)?, bytes: counted(row, 8)? },
        done_at: time_if_any(row, 9)?,
    })
}

fn entry(row: &Row) -> Done<ActivityEntry> {
    Ok(ActivityEntry {
        number: counted(row, 0)?,
        at: time(row, 1)?,
        actor: row.try_get(2)?,
        kind: parsed(row, 3)?,
        tenant: tenant_if_any(row, 4)?,
        details: row.try_get(5)?,
    })
}
