//! What is kept as evidence: the log of activity, orders to purge, legal holds.
//!
//! Never deletes or changes a line of the log, and never writes one in another transaction than what it tells of.

use engine::evidence::{ActivityEntry, ActivityFilter, ActivityKind, Deleted, Purge};
use engine::lease::Epoch;
use engine::model::TenantState;
use protocol::ids::TenantId;
use protocol::time::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Value, json};

use super::fault::Done;
use super::rows::{counted, sql, tenant_id, time, time_if_any};
use super::tenants::{next_revision, one};
use crate::LedgerError;
use crate::values::{count, message, ms, plain, rfc3339};

const PURGE: &str =
    "SELECT id, ordered_at, ordered_by, through, segments, records, bytes, files, file_bytes, done_at FROM purge";
const ENTRY: &str = "SELECT entry, at, actor, kind, tenant, details FROM activity";

/// Adds a line to the log.
pub(super) fn note(
    connection: &Connection,
    actor: &str,
    kind: ActivityKind,
    tenant: Option<TenantId>,
    details: &Value,
    now: Timestamp,
) -> Done<()> {
    let tenant = tenant.as_ref().map(|tenant| tenant.as_uuid().as_bytes());
    sql(connection, "INSERT INTO activity (at, actor, kind, tenant, details) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![ms(now), plain(actor), kind.as_str(), tenant, plain(&details.to_string())])?;
    Ok(())
}

pub(super) fn entries(connection: &Connection, filter: &ActivityFilter, limit: u32) -> Done<Vec<ActivityEntry>> {
    let before = filter.before.map_or(i64::MAX, count);
    let since = filter.since.map_or(i64::MIN, ms);
    let kind = filter.kind.map(ActivityKind::as_str);
    // One statement for each index: with any condition left open none would be of use.
    let entries = match (filter.tenant, kind) {
        (Some(tenant), kind) => sql(
            connection,
            &format!(
                "{ENTRY} WHERE tenant = ?1 AND entry < ?2 AND at >= ?3 AND (?4 IS NULL OR kind = ?4)
                 ORDER BY entry DESC LIMIT ?5"
            ),
        )?
        .query_map(params![tenant.as_uuid().as_bytes(), before, since, kind, limit], entry)?
        .collect::<Result<_, _>>(),
        (None, Some(kind)) => sql(
            connection,
            &format!("{ENTRY} WHERE kind = ?1 AND entry < ?2 AND at >= ?3 ORDER BY entry DESC LIMIT ?4"),
        )?
        .query_map(params![kind, before, since, limit], entry)?
        .collect::<Result<_, _>>(),
        (None, None) => {
            sql(connection, &format!("{ENTRY} WHERE entry < ?1 AND at >= ?2 ORDER BY entry DESC LIMIT ?3"))?
                .query_map(params![before, since, limit], entry)?
                .collect::<Result<_, _>>()
        }
    };
    Ok(entries?)
}

pub(super) fn order_purge(connection: &Connection, actor: &str, id: TenantId, now: Timestamp) -> Done<Purge> {
    let tenant = one(connection, id)?.ok_or(LedgerError::UnknownTenant { tenant: id })?;
    if tenant.state != TenantState::Removed {
        return Err(LedgerError::NotRemoved { tenant: id }.into());
    }
    if let Some(hold) = tenant.hold {
        return Err(LedgerError::Held { tenant: id, reason: hold.reason }.into());
    }
    super::leases::drop_tenant(connection, id)?;
    let uuid = id.as_uuid().as_bytes();
    sql(
        connection,
        "INSERT INTO purge (id, ordered_at, ordered_by, through, segments, records, bytes)
         SELECT ?1, ?2, ?3, (SELECT lease_epoch FROM tenant WHERE id = ?1), count(*), coalesce(sum(rows), 0),
                coalesce(sum(bytes), 0)
         FROM segment WHERE tenant = (SELECT tenant FROM tenant WHERE id = ?1) AND obsolete_since IS NULL
         ON CONFLICT (id) DO UPDATE SET ordered_at = excluded.ordered_at, ordered_by = excluded.ordered_by,
            through = excluded.through, segments = excluded.segments, records = excluded.records,
            bytes = excluded.bytes, files = 0, file_bytes = 0, done_at = NULL",
    )?
    .execute(params![uuid, ms(now), plain(actor)])?;
    sql(
        connection,
        "UPDATE revision SET purged_epoch = max(purged_epoch, (SELECT lease_epoch FROM tenant WHERE id = ?1)) WHERE only = 1",
    )?
    .execute([uuid])?;
    // Everything else hangs on this row and goes with it.
    sql(connection, "DELETE FROM tenant WHERE id = ?1")?.execute([uuid])?;
    // But for who came from it, which may be there before the tenant is.
    sql(connection, "DELETE FROM consent_visit WHERE tenant = ?1")?.execute([uuid])?;
    let purge = purge(connection, id)?.ok_or(LedgerError::UnknownTenant { tenant: id })?;
    let details = json!({ "segments": purge.segments, "records": purge.records, "bytes": purge.bytes });
    note(connection, actor, ActivityKind::PurgeOrdered, Some(id), &details, now)?;
    Ok(purge)
}

pub(super) fn purge(connection: &Connection, id: TenantId) -> Done<Option<Purge>> {
    Ok(sql(connection, &format!("{PURGE} WHERE id = ?1"))?
        .query_row([id.as_uuid().as_bytes()], purge_row)
        .optional()?)
}

pub(super) fn purges(connection: &Connection, done_since: Timestamp, limit: u32) -> Done<Vec<Purge>> {
    let mut purges: Vec<Purge> =
        sql(connection, &format!("{PURGE} WHERE done_at IS NULL ORDER BY ordered_at LIMIT ?1"))?
            .query_map([limit], purge_row)?
            .collect::<Result<_, _>>()?;
    let mut statement = sql(connection, &format!("{PURGE} WHERE done_at >= ?1 ORDER BY done_at LIMIT ?2"))?;
    for purge in statement.query_map(params![ms(done_since), limit], purge_row)? {
        purges.push(purge?);
    }
    Ok(purges)
}

pub(super) fn files_purged(
    connection: &Connection,
    actor: &str,
    (id, through): (TenantId, Epoch),
    deleted: Deleted,
    is_done: bool,
    now: Timestamp,
) -> Done<()> {
    let Some(before) = purge(connection, id)?.filter(|purge| purge.through == through) else { return Ok(()) };
    let is_news = is_done && (before.done_at.is_none() || deleted.files > 0);
    sql(
        connection,
        "UPDATE purge SET files = files + ?2, file_bytes = file_bytes + ?3,
         done_at = iif(?4, coalesce(done_at, ?5), done_at) WHERE id = ?1",
    )?
    .execute(params![id.as_uuid().as_bytes(), count(deleted.files), count(deleted.bytes), is_done, ms(now)])?;
    if is_news {
        let details = json!({
            "ordered_at": rfc3339(before.ordered_at), "ordered_by": before.ordered_by,
            "segments": before.segments, "records": before.records,
            "files": before.deleted.files.saturating_add(deleted.files),
            "bytes": before.deleted.bytes.saturating_add(deleted.bytes),
        });
        note(connection, actor, ActivityKind::Purged, Some(id), &details, now)?;
    }
    Ok(())
}

/// Whether a purge of this tenant is not done.
pub(super) fn is_being_purged(connection: &Connection, id: TenantId) -> Done<bool> {
    Ok(sql(connection, "SELECT 1 FROM purge WHERE id = ?1 AND done_at IS NULL")?.exists([id.as_uuid().as_bytes()])?)
}

pub(super) fn hold(connection: &Connection, actor: &str, id: TenantId, reason: &str, now: Timestamp) -> Done<bool> {
    if one(connection, id)?.is_none() {
        return Ok(false);
    }
    let (revision, reason) = (next_revision(connection)?, message(reason));
    sql(
        connection,
        "UPDATE tenant SET held_at = coalesce(held_at, ?2), held_by = ?3, held_reason = ?4, revision = ?5 WHERE id = ?1",
    )?
    .execute(params![id.as_uuid().as_bytes(), ms(now), plain(actor), reason, revision])?;
    note(connection, actor, ActivityKind::HoldSet, Some(id), &json!({ "reason": reason }), now)?;
    Ok(true)
}

pub(super) fn release(connection: &Connection, actor: &str, id: TenantId, now: Timestamp) -> Done<bool> {
    let Some(hold) = one(connection, id)?.and_then(|tenant| tenant.hold) else { return Ok(false) };
    let revision = next_revision(connection)?;
    sql(
        connection,
        "UPDATE tenant SET held_at = NULL, held_by = NULL, held_reason = NULL, revision = ?2 WHERE id = ?1",
    )?
    .execute(params![id.as_uuid().as_bytes(), revision])?;
    let details = json!({ "reason": hold.reason, "held_since": rfc3339(hold.since), "held_by": hold.by });
    note(connection, actor, ActivityKind::HoldReleased, Some(id), &details, now)?;
    Ok(true)
}

fn purge_row(row: &Row<'_>) -> rusqlite::Result<Purge> {
    Ok(Purge {
        tenant: tenant_id(row, 0)?,
        ordered_at: time(row, 1)?,
        ordered_by: row.get(2)?,
        through: Epoch(counted(row, 3)?),
        segments: counted(row, 4)?,
        records: counted(row, 5)?,
        bytes: counted(row, 6)?,
        deleted: Deleted { files: counted(row, 7)?, bytes: counted(row, 8)? },
        done_at: time_if_any(row, 9)?,
    })
}

fn entry(row: &Row<'_>) -> rusqlite::Result<ActivityEntry> {
    let kind: String = row.get(3)?;
    let tenant = row.get::<_, Option<[u8; 16]>>(4)?.map(|id| TenantId::from_uuid(uuid::Uuid::from_bytes(id)));
    Ok(ActivityEntry {
        number: counted(row, 0)?,
        at: time(row, 1)?,
        actor: row.get(2)?,
        kind: kind
            .parse()
            .map_err(|error| rusqlite::Error::FromSqlConversionFailure(3, Type::Text, Box::new(error)))?,
        tenant,
        details: row.get(5)?,
    })
}
