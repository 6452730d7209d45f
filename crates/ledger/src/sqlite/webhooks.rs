//! Webhooks: where the service posts for a feed, and how that stands.

use engine::model::Tenant;
use engine::webhook::{Webhook, WebhookState};
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::fault::Done;
use super::rows::{counted, ensure_feed, feed_number, known, parsed, sql, tenant_id, tenant_number, time, time_if_any};
use super::tenants;
use crate::values::{count, message, ms};

const WEBHOOK: &str =
    "name, path_key, address, accepted, offered, webhook.state, since, expires, webhook.failures, drifts,
    refusal, notified_at";

pub(super) fn of_tenant(connection: &Connection, id: TenantId) -> Done<Vec<Webhook>> {
    let tenant = tenant_number(connection, id)?;
    let mut statement = sql(
        connection,
        &format!(
            "SELECT {WEBHOOK} FROM feed CROSS JOIN content_type USING (type) CROSS JOIN webhook USING (feed)
             WHERE tenant = ?1 ORDER BY type"
        ),
    )?;
    let webhooks = statement.query_map([tenant], |row| webhook_row(row, 0))?;
    Ok(webhooks.collect::<Result<_, _>>()?)
}

pub(super) fn at(connection: &Connection, path_key: [u8; 16]) -> Done<Option<(Tenant, Webhook)>> {
    let found = sql(
        connection,
        &format!(
            "SELECT id, {WEBHOOK} FROM webhook CROSS JOIN feed USING (feed) CROSS JOIN content_type USING (type)
             CROSS JOIN tenant USING (tenant) WHERE path_key = ?1"
        ),
    )?
    .query_row([path_key], |row| Ok((tenant_id(row, 0)?, webhook_row(row, 1)?)))
    .optional()?;
    let Some((id, webhook)) = found else { return Ok(None) };
    Ok(tenants::one(connection, id)?.map(|tenant| (tenant, webhook)))
}

pub(super) fn write(connection: &Connection, id: TenantId, webhooks: &[Webhook], now: Timestamp) -> Done<()> {
    let tenant = tenant_number(connection, id)?;
    for webhook in webhooks {
        let feed = ensure_feed(connection, tenant, &webhook.content_type, now)?;
        let state = WebhookState::ALL.iter().position(|state| *state == webhook.state).unwrap_or_default();
        sql(
            connection,
            "INSERT INTO webhook (feed, path_key, address, accepted, offered, state, since, expires, failures, drifts, refusal)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
             ON CONFLICT (feed) DO UPDATE SET path_key = ?2, address = ?3, accepted = ?4, offered = ?5, state = ?6,
             since = ?7, expires = ?8, failures = ?9, drifts = ?10, refusal = ?11",
        )?
        .execute(params![
            feed,
            webhook.path_key,
            webhook.address,
            webhook.accepted,
            webhook.offered,
            i64::try_from(state).unwrap_or_default(),
            ms(webhook.since),
            webhook.expires.map(ms),
            webhook.failures,
            count(webhook.drifts),
            webhook.refusal.as_deref().map(message),
        ])?;
    }
    Ok(())
}

pub(super) fn notified(
    connection: &Connection,
    id: TenantId,
    content_types: &[ContentType],
    now: Timestamp,
) -> Done<()> {
    let tenant = tenant_number(connection, id)?;
    for content_type in content_types {
        let Some(feed) = feed_number(connection, tenant, content_type)? else { continue };
        sql(connection, "UPDATE webhook SET notified_at = max(coalesce(notified_at, ?2), ?2) WHERE feed = ?1")?
            .execute(params![feed, ms(now)])?;
    }
    Ok(())
}

/// Twelve columns from `first` on.
fn webhook_row(row: &Row<'_>, first: usize) -> rusqlite::Result<Webhook> {
    Ok(Webhook {
        content_type: parsed(row, first)?,
        path_key: row.get(first + 1)?,
        address: row.get(first + 2)?,
        accepted: row.get(first + 3)?,
        offered: row.get(first + 4)?,
        state: known(row, first + 5, &WebhookState::ALL)?,
        since: time(row, first + 6)?,
        expires: time_if_any(row, first + 7)?,
        failures: row.get(first + 8)?,
        drifts: counted(row, first + 9)?,
        refusal: row.get(first + 10)?,
        notified_at: time_if_any(row, first + 11)?,
    })
}
