//! The tenant's webhooks: what the list says of them, and the starts that set them, again, or take them off.
//!
//! Never holds anything up: a webhook that cannot be set is noted where the operator sees it, and polling carries on. Every
//! start is in the ledger before it is sent, so that the validation that comes in meanwhile is recognised, and a restart
//! keeps to the service's 15 minutes.

use engine::model::Subscription;
use engine::webhook::{Sighting, Webhook, WebhookAction, decide};
use ledger::LedgerError;
use protocol::activity::{
    StartWebhook, Subscription as Listed, WebhookSettings, parse_start_subscription, start_subscription,
};
use protocol::error::Disposition;
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;

use super::Webhooks;
use super::context::Context;
use super::feed::{Client, Failure};
use super::subscriptions::Standing;
use crate::metrics::Operation;
use crate::webhook::{auth_digest, fresh_auth_id, without_name};

/// Compares what a list says with what was set, and says where they differ.
pub(super) async fn seen(context: &Context, tenant: TenantId, listed: &[Listed]) -> Result<(), LedgerError> {
    let before = context.ledger.webhooks(tenant).await?;
    if before.is_empty() {
        return Ok(());
    }
    let subscriptions = context.ledger.subscriptions(tenant).await?;
    let now = context.clock.now();
    let mut changed = Vec::new();
    for webhook in before {
        let content_type = webhook.content_type.clone();
        let found = listed.iter().find(|listed| listed.content_type == content_type);
        let found = found.and_then(|listed| listed.webhook.as_ref());
        let auth = found.and_then(|found| found.auth_id.as_ref()).map(|id| auth_digest(id.expose().as_bytes()));
        let sighting = found.map(|found| Sighting {
            address: &found.address,
            status: &found.status,
            expires: found.expiration,
            auth,
        });
        let started = start_of(&subscriptions, &content_type);
        let (after, drift) = webhook.clone().listed(now, sighting, started);
        if let Some(drift) = drift {
            context.metrics.webhook_drift(drift.as_str());
            let (state, says) = (drift.as_str(), drift.says());
            tracing::warn!(%tenant, %content_type, state, "webhook: {says}");
        }
        if after != webhook {
            changed.push(after);
        }
    }
    if changed.is_empty() { Ok(()) } else { context.ledger.write_webhooks(tenant, changed, now).await }
}

/// Sets, or takes off, what is due. Types that have to wait are left for another time.
pub(super) async fn look_after(
    context: &Context,
    client: Client<'_>,
    known: &[Subscription],
    standing: &mut Standing,
) -> Result<(), LedgerError> {
    let wanted = match &context.webhooks {
        Webhooks::LeaveAlone => return Ok(()),
        Webhooks::Arm(base) => Some(base.as_str()),
        Webhooks::TakeOff => None,
    };
    let webhooks = context.ledger.webhooks(client.tenant).await?;
    // Whoever calls there after a restart is no stranger.
    webhooks
        .iter()
        .filter(|webhook| webhook.state.is_open())
        .for_each(|known| context.known_paths.greet(known.path_key));
    for content_type in &context.settings.collect.content_types {
        let Some(subscription) = known.iter().find(|known| known.content_type == *content_type) else { continue };
        let webhook = webhooks.iter().find(|webhook| webhook.content_type == *content_type);
        let now = context.clock.now();
        match decide(now, wanted, subscription, webhook, standing.start_not_before) {
            WebhookAction::Nothing | WebhookAction::Wait { .. } => {}
            WebhookAction::Arm => arm(context, client, content_type, webhook, standing).await?,
            WebhookAction::Remove => {
                let Some(webhook) = webhook.cloned() else { continue };
                let row = webhook.leaves(now);
                start(context, client, row, &StartWebhook::Remove, standing).await?;
            }
        }
    }
    Ok(())
}

async fn arm(
    context: &Context,
    client: Client<'_>,
    content_type: &ContentType,
    before: Option<&Webhook>,
    standing: &mut Standing,
) -> Result<(), LedgerError> {
    let Webhooks::Arm(base) = &context.webhooks else { return Ok(()) };
    let (auth_id, auth) = fresh_auth_id();
    let kept = before.filter(|before| before.address.starts_with(base.as_str()));
    let place = kept.map_or_else(|| base.fresh_place(), |kept| (kept.address.clone(), kept.path_key));
    let Ok(address) = place.0.parse() else { return Ok(()) };
    let row = Webhook::offer(before, context.clock.now(), content_type.clone(), place, auth);
    let webhook = StartWebhook::Set(WebhookSettings { address, auth_id, expiration: None });
    start(context, client, row, &webhook, standing).await
}

async fn start(
    context: &Context,
    client: Client<'_>,
    row: Webhook,
    webhook: &StartWebhook,
    standing: &mut Standing,
) -> Result<(), LedgerError> {
    let (tenant, content_type, now) = (client.tenant, row.content_type.clone(), context.clock.now());
    context.ledger.write_webhooks(tenant, vec![row.clone()], now).await?;
    if row.state.is_open() {
        // The service validates it before it answers.
        context.known_paths.greet(row.path_key);
    }
    // Before the request: were we killed after it, the 15 minutes would count all the same.
    context.ledger.start_requested(tenant, content_type.clone(), now).await?;
    let request = start_subscription(&client.feed(), &content_type, webhook);
    let answer = client
        .ask(Operation::StartSubscription, request, |response| parse_start_subscription(&content_type, response))
        .await;
    // Whatever it was, the list says how things stand now.
    standing.started = true;
    let after = match answer {
        Ok(answered) => {
            tracing::info!(%tenant, %content_type, state = row.state.as_str(), "webhook: the service took a start");
            let same = answered.webhook.is_some_and(|answered| answered.address == row.address);
            if same { row.clone().taken() } else { row.clone() }
        }
        Err(Failure::Api { error, .. }) => match error.disposition() {
            // Success in the guise of an error.
            Disposition::AlreadyEnabled => row.clone(),
            Disposition::StartLater(wait) => {
                let wait = chrono::TimeDelta::from_std(wait).unwrap_or(chrono::TimeDelta::MAX);
                standing.start_not_before = Some(now.checked_add_signed(wait).unwrap_or(Timestamp::MAX_UTC));
                row.clone()
            }
            _ => {
                // It may repeat what it was sent, and the path is half of what lets a caller in.
                let error = without_name(&error.to_string(), &row.address);
                context.metrics.webhook_drift("refused");
                tracing::warn!(%tenant, %content_type, error, "webhook: the service refused it; polling carries on alone");
                row.clone().refused(now, &error)
            }
        },
        // Whether it arrived is not known.
        Err(failure) => {
            tracing::debug!(%tenant, %content_type, error = %crate::chain(&failure), "webhook: a start without an answer");
            row.clone()
        }
    };
    if after == row { Ok(()) } else { context.ledger.write_webhooks(tenant, vec![after], now).await }
}

fn start_of(subscriptions: &[Subscription], content_type: &ContentType) -> Option<Timestamp> {
    subscriptions.iter().find(|known| known.content_type == *content_type)?.start_requested_at
}
