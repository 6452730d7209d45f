//! Webhooks: where the service posts for a feed, and how that stands.

use engine::model::Tenant;
use engine::webhook::{Webhook, WebhookState};
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;
use tokio_postgres::Row;

use super::fault::Done;
use super::rows::{
    bytes, bytes_if_any, counted, ensure_feed, feed_number, known, lock_tenant, parsed, position, small, tenant_id,
    tenant_number, time, time_if_any,
};
use super::session::Session;
use super::tenants;
use crate::values::{count, message, ms, plain};

const WEBHOOK: &str =
    "name, path_key, address, accepted, offered, webhook.state, since, expires, webhook.failures, drifts,
    refusal, notified_at";

pub(super) async fn of_tenant(session: &Session<'_>, id: TenantId) -> Done<Vec<Webhook>> {
    let tenant = tenant_number(session, id).await?;
    let text = format!(
        "SELECT {WEBHOOK} FROM feed JOIN content_type USING (type) JOIN webhook USING (feed)
         WHERE tenant = $1 ORDER BY type"
    );
    session.rows(&text, &[&tenant]).await?.iter().map(|row| webhook_row(row, 0)).collect()
}

pub(super) async fn at(session: &Session<'_>, path_key: [u8; 16]) -> Done<Option<(Tenant, Webhook)>> {
    let text = format!(
        "SELECT tenant.id, {WEBHOOK} FROM webhook JOIN feed USING (feed) JOIN content_type USING (type)
         JOIN tenant USING (tenant) WHERE path_key = $1"
    );
    let Some(row) = session.maybe(&text, &[&&path_key[..]]).await? else { return Ok(None) };
    let webhook = webhook_row(&row, 1)?;
    Ok(tenants::one(session, tenant_id(&row, 0)?).await?.map(|tenant| (tenant, webhook)))
}

pub(super) async fn write(session: &Session<'_>, id: TenantId, webhooks: &[Webhook], now: Timestamp) -> Done<()> {
    let tenant = lock_tenant(session, id).await?;
    for webhook in webhooks {
        let feed = ensure_feed(session, tenant, &webhook.content_type, now).await?;
        session
            .run(
                "INSERT INTO webhook (feed, path_key, address, accepted, offered, state, since, expires, failures, drifts,
                                      refusal)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
                 ON CONFLICT (feed) DO UPDATE SET path_key = $2, address = $3, accepted = $4, offered = $5, state = $6,
                 since = $7, expires = $8, failures = $9, drifts = $10, refusal = $11",
                &[
                    &feed,
                    &&webhook.path_key[..],
                    &plain(&webhook.address),
                    &webhook.accepted.as_ref().map(|digest| &digest[..]),
                    &webhook.offered.as_ref().map(|digest| &digest[..]),
                    &position(&WebhookState::ALL, &webhook.state),
                    &ms(webhook.since),
                    &webhook.expires.map(ms),
                    &i64::from(webhook.failures),
                    &count(webhook.drifts),
                    &webhook.refusal.as_deref().map(message),
                ],
            )
            .await?;
    }
    Ok(())
}

pub(super) async fn notified(
    session: &Session<'_>,
    id: TenantId,
    content_types: &[ContentType],
    now: Timestamp,
) -> Done<()> {
    let tenant = lock_tenant(session, id).await?;
    for content_type in content_types {
        let Some(feed) = feed_number(session, tenant, content_type).await? else { continue };
        session
            .run(
                "UPDATE webhook SET notified_at = greatest(coalesce(notified_at, $2), $2) WHERE feed = $1",
                &[&feed, &ms(now)],
            )
            .await?;
    }
    Ok(())
}

/// Twelve columns from `first` on.
fn webhook_row(row: &Row, first: usize) -> Done<Webhook> {
    Ok(Webhook {
        content_type: parsed(row, first)?,
        path_key: bytes(row, first + 1)?,
        address: row.try_get(first + 2)?,
        accepted: bytes_if_any(row, first + 3)?,
        offered: bytes_if_any(row, first + 4)?,
        state: known(row, first + 5, &WebhookState::ALL)?,
        since: time(row, first + 6)?,
        expires: time_if_any(row, first + 7)?,
        failures: small(row, first + 8)?,
        drifts: counted(row, first + 9)?,
        refusal: row.try_get(first + 10)?,
        notified_at: time_if_any(row, first + 11)?,
    })
}
