//! The tenant's subscriptions: listed first, started only where missing, each start noted before it is asked for.
//!
//! Never decides: whether to list and what to start is the engine's; what became of it is in the ledger, so that a restart
//! keeps to the service's 15 minutes.

use std::time::Duration;

use engine::model::Subscription;
use engine::subscription::{SubscriptionAction, decide, list_due, noted_of_failed};
use ledger::LedgerError;
use protocol::activity::{
    StartWebhook, SubscriptionStatus, list_subscriptions, parse_list_subscriptions, parse_start_subscription,
    start_subscription,
};
use protocol::error::{BackOffCause, Disposition};
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;

use super::context::Context;
use super::feed::{Client, Failure};
use super::webhooks;
use crate::metrics::Operation;

/// Why the subscriptions could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub(super) enum SubscriptionFailure {
    /// A request failed.
    #[error(transparent)]
    Request(#[from] Failure),
    /// The ledger did not answer.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// What is known after looking.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Types that are not enabled, with the moment they are to be started again.
    pub(super) waiting: Vec<(ContentType, Timestamp)>,
    /// Types whose start was refused, and why.
    pub(super) refused: Vec<(ContentType, Failure)>,
    /// The service's own wait before any start of this tenant.
    pub(super) start_not_before: Option<Timestamp>,
    /// Types that were started and are not enabled all the same, with the moment they may be started again.
    pub(super) not_enabled: Vec<(ContentType, Timestamp)>,
    /// Something was started.
    pub(super) started: bool,
}

/// Lists when it is due (or `anyway`), and starts what is missing and may be started.
pub(super) async fn look_after(
    context: &Context,
    client: Client<'_>,
    start_not_before: Option<Timestamp>,
    anyway: bool,
) -> Result<Standing, SubscriptionFailure> {
    let wanted = &context.settings.collect.content_types;
    let mut known = context.ledger.subscriptions(client.tenant).await?;
    if anyway || list_due(context.clock.now(), wanted, &known) {
        known = list(context, client).await?;
    }
    let mut standing = Standing { start_not_before, ..Standing::default() };
    for (content_type, action) in decide(context.clock.now(), wanted, &known, start_not_before) {
        match action {
            SubscriptionAction::Nothing => {}
            SubscriptionAction::Wait { until } => standing.waiting.push((content_type, until)),
            SubscriptionAction::Start => start(context, client, content_type, &mut standing).await?,
        }
        if standing.refused.iter().any(|(_, failure)| is_of_tenant(failure)) {
            // The others would be refused for the same reason, each with a quarter of an hour to wait.
            break;
        }
    }
    webhooks::look_after(context, client, &known, &mut standing).await?;
    if standing.started {
        // The answer to a start is not proof; the list is. It says at once what can be listed, and also whether a start
        // whose answer was lost was carried out.
        let known = match list(context, client).await {
            Ok(known) => known,
            Err(failure) => {
                // Whoever looks again need not wait a quarter of an hour for what was refused.
                for (content_type, _) in standing.refused {
                    note_failed(context, client.tenant, content_type, Duration::ZERO).await?;
                }
                return Err(failure);
            }
        };
        let is_enabled = |content_type: &ContentType| {
            known.iter().any(|known| known.content_type == *content_type && known.enabled == Some(true))
        };
        standing.refused.retain(|(content_type, _)| !is_enabled(content_type));
        for (content_type, action) in decide(context.clock.now(), wanted, &known, standing.start_not_before) {
            let is_told = |(told, _): &(ContentType, Timestamp)| *told == content_type;
            let is_refused = standing.refused.iter().any(|(refused, _)| *refused == content_type);
            match action {
                SubscriptionAction::Wait { until } if !is_refused && !standing.waiting.iter().any(is_told) => {
                    standing.not_enabled.push((content_type, until));
                }
                SubscriptionAction::Wait { .. } | SubscriptionAction::Start | SubscriptionAction::Nothing => {}
            }
        }
    }
    Ok(standing)
}

async fn list(context: &Context, client: Client<'_>) -> Result<Vec<Subscription>, SubscriptionFailure> {
    let request = list_subscriptions(&client.feed());
    let listed = client.ask(Operation::ListSubscriptions, request, parse_list_subscriptions).await?;
    for entry in &listed.unreadable {
        tracing::warn!(tenant = %client.tenant, problem = %entry.problem, "a listed subscription cannot be read");
    }
    webhooks::seen(context, client.tenant, &listed.subscriptions).await?;
    let rows = listed.subscriptions.into_iter().map(|subscription| {
        let enabled = match subscription.status {
            SubscriptionStatus::Enabled => Some(true),
            SubscriptionStatus::Disabled => Some(false),
            SubscriptionStatus::Unknown | SubscriptionStatus::Other(_) => None,
        };
        (subscription.content_type, enabled)
    });
    context.ledger.subscriptions_listed(client.tenant, rows.collect(), context.clock.now()).await?;
    Ok(context.ledger.subscriptions(client.tenant).await?)
}

/// Asks for one start. A refusal is noted in `standing` and does not keep the others from starting.
pub(super) async fn start(
    context: &Context,
    client: Client<'_>,
    content_type: ContentType,
    standing: &mut Standing,
) -> Result<(), LedgerError> {
    let now = context.clock.now();
    if let Some(until) = standing.start_not_before.filter(|until| now < *until) {
        standing.waiting.push((content_type, until));
        return Ok(());
    }
    // Before the request: were we killed after it, the 15 minutes would count all the same.
    context.ledger.start_requested(client.tenant, content_type.clone(), now).await?;
    let request = start_subscription(&client.feed(), &content_type, &StartWebhook::Unmentioned);
    let answer = client
        .ask(Operation::StartSubscription, request, |response| parse_start_subscription(&content_type, response))
        .await;
    let failure = match answer {
        Ok(subscription) => {
            tracing::info!(tenant = %client.tenant, %content_type, status = ?subscription.status, "subscription started");
            standing.started = true;
            return Ok(());
        }
        Err(failure) => failure,
    };
    match &failure {
        Failure::Api { error, .. } => match error.disposition() {
            // Success in the guise of an error.
            Disposition::AlreadyEnabled => {
                context.ledger.was_enabled(client.tenant, content_type, now).await?;
                standing.started = true;
            }
            Disposition::StartLater(wait) => {
                note_failed(context, client.tenant, content_type.clone(), wait).await?;
                let wait = chrono::TimeDelta::from_std(wait).unwrap_or(chrono::TimeDelta::MAX);
                let until = now.checked_add_signed(wait).unwrap_or(Timestamp::MAX_UTC);
                standing.start_not_before = Some(until);
                standing.waiting.push((content_type, until));
            }
            Disposition::BackOff { cause: BackOffCause::ServiceFault }
            | Disposition::RetryAfter { cause: BackOffCause::ServiceFault, .. } => {
                // It may have been carried out all the same: the list tells.
                standing.started = true;
                standing.refused.push((content_type, failure));
            }
            _ => standing.refused.push((content_type, failure)),
        },
        Failure::Transport(_) => {
            standing.started = true;
            standing.refused.push((content_type, failure));
        }
        Failure::Token(_) | Failure::Refused(_) => standing.refused.push((content_type, failure)),
    }
    Ok(())
}

/// A start was refused, or failed, and may be asked for again after `wait`.
pub(super) async fn note_failed(
    context: &Context,
    tenant: TenantId,
    content_type: ContentType,
    wait: Duration,
) -> Result<(), LedgerError> {
    context.ledger.start_requested(tenant, content_type, noted_of_failed(context.clock.now(), wait)).await
}

fn is_of_tenant(failure: &Failure) -> bool {
    match failure {
        Failure::Token(_) => true,
        Failure::Api { refused_again: Some(_), .. } => true,
        Failure::Api { error, .. } => matches!(error.disposition(), Disposition::NeedsTenantAdmin(_)),
        Failure::Transport(_) | Failure::Refused(_) => false,
    }
}
