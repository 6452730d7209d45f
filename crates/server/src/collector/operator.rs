//! What an operator does by hand: looking at subscriptions, starting and stopping one, merging an archive.
//!
//! Never decides differently from the workers: the same requests, the same quarter of an hour between starts, the same
//! merge.

use std::fmt;
use std::time::Duration;

use archive::Archive;
use engine::model::Expired;
use engine::problem::ProblemKind;
use engine::retry::InARow;
use engine::subscription::{SubscriptionAction, decide};
use ledger::{Ledger, LedgerError};
use protocol::activity::{
    Subscription, list_subscriptions, parse_list_subscriptions, parse_stop_subscription, stop_subscription,
};
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;
use tokio::sync::{Semaphore, watch};

use super::Collector;
use super::activation::judge_request;
use super::committer::CommitFailure;
use super::feed::{Budget, Client, Failure};
use super::housekeeping::{Grace, House};
use super::publishing::PublishFailure;
use super::purging::carry_out;
use super::subscriptions::{self, Standing};
use crate::clock::Clock;
use crate::metrics::{Metrics, Operation};
use crate::settings::{Limits, TableSettings};

/// Why an operator's request did not succeed: what is wrong, what was answered, and the step that mends it.
#[derive(Debug)]
pub struct OperatorError {
    /// What stands in the way.
    pub kind: ProblemKind,
    detail: String,
}

impl fmt::Display for OperatorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.kind.problem(), self.detail, self.kind.remedy())
    }
}

impl std::error::Error for OperatorError {}

impl From<LedgerError> for OperatorError {
    fn from(error: LedgerError) -> Self {
        Self { kind: ProblemKind::LedgerUnusable, detail: crate::chain(&error) }
    }
}

impl OperatorError {
    fn of(tenant: TenantId, failure: &Failure) -> Self {
        let (kind, _, _) = judge_request(tenant, failure, InARow { request: 1, tenant: 1 });
        Self { kind, detail: crate::chain(failure) }
    }
}

/// What became of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// It is enabled.
    Enabled,
    /// It was started within the last quarter of an hour, and is not asked for again before this (activity-api.md §2.1).
    TooEarly {
        /// The first moment it may be.
        until: Timestamp,
    },
}

impl Collector {
    /// The subscriptions as the service lists them now.
    ///
    /// # Errors
    /// When the service refuses or does not answer.
    pub async fn list_subscriptions(&self, tenant: TenantId) -> Result<Vec<Subscription>, OperatorError> {
        let budget = self.budget();
        let client = self.client(tenant, &budget);
        let request = list_subscriptions(&client.feed());
        let listed = client.ask(Operation::ListSubscriptions, request, parse_list_subscriptions).await;
        Ok(listed.map_err(|failure| OperatorError::of(tenant, &failure))?.subscriptions)
    }

    /// Starts a subscription, unless it was started a moment ago. The ledger is told first.
    ///
    /// # Errors
    /// When the tenant is not in the ledger, or the service refuses or does not answer.
    pub async fn start_subscription(
        &self,
        tenant: TenantId,
        content_type: &ContentType,
    ) -> Result<Started, OperatorError> {
        let now = self.context.clock.now();
        let mut known = self.context.ledger.subscriptions(tenant).await?;
        for subscription in &mut known {
            // Whatever the last listing said, the operator wants it started; only the quarter of an hour stands.
            (subscription.listed_at, subscription.enabled) = (Some(now), Some(false));
        }
        let action = decide(now, std::slice::from_ref(content_type), &known, None).into_iter().next();
        if let Some((_, SubscriptionAction::Wait { until })) = action {
            return Ok(Started::TooEarly { until });
        }
        let budget = self.budget();
        let mut standing = Standing::default();
        let client = self.client(tenant, &budget);
        subscriptions::start(&self.context, client, content_type.clone(), &mut standing).await?;
        if let Some((_, failure)) = standing.refused.first() {
            return Err(OperatorError::of(tenant, failure));
        }
        match standing.waiting.first() {
            Some((_, until)) => Ok(Started::TooEarly { until: *until }),
            None => Ok(Started::Enabled),
        }
    }

    /// Stops a subscription. What the tenant does while it is stopped can never be collected (activity-api.md §2.2), and a
    /// running collector that wants the type starts it again.
    ///
    /// # Errors
    /// When the service refuses or does not answer.
    pub async fn stop_subscription(&self, tenant: TenantId, content_type: &ContentType) -> Result<(), OperatorError> {
        let budget = self.budget();
        let client = self.client(tenant, &budget);
        let request = stop_subscription(&client.feed(), content_type);
        let stopped = client.ask(Operation::StopSubscription, request, parse_stop_subscription).await;
        stopped.map_err(|failure| OperatorError::of(tenant, &failure))
    }

    fn budget(&self) -> Budget {
        Budget::new(self.context.settings.collect.requests_per_minute)
    }

    fn client<'a>(&'a self, tenant: TenantId, budget: &'a Budget) -> Client<'a> {
        Client { shared: &self.context.requests, budget, tenant }
    }
}

/// What a [`compact`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Segments that were merged away.
    pub removed: usize,
    /// Segments they became.
    pub added: usize,
    /// What was removed because it was past its retention.
    pub expired: Expired,
}

/// Why merging ended early. What was merged before stays merged.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct CompactError(CommitFailure);

/// Why a table could not be published.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct PublishError(PublishFailure);

/// Publishes the tenant's table now, and says how many entries of its log that took; with `rebuild`, all of it is written down
/// anew, whatever the log says. Take an [`crate::instance::InstanceLock`] first.
///
/// # Errors
/// When the archive or the ledger cannot be read or written, or somebody else writes to the table.
pub async fn publish(
    ledger: &dyn Ledger,
    archive: &Archive,
    clock: &dyn Clock,
    tables: TableSettings,
    tenant: TenantId,
    rebuild: bool,
) -> Result<usize, PublishError> {
    let (slot, metrics, files) = (Semaphore::new(1), Metrics::new(), std::sync::Arc::default());
    let (retention, tables) = (None, Some(tables));
    let house =
        House { ledger, archive, clock, metrics: &metrics, slot: &slot, tenant, files: &files, retention, tables };
    house.publish(rebuild).await.map_err(PublishError)
}

/// What of a tenant stays.
#[derive(Debug, Clone, Copy, Default)]
pub struct Keep {
    /// [`crate::settings::Settings::retention`].
    pub retention: Option<Duration>,
    /// How the tenant's table is published; `None`: there is none.
    pub tables: Option<TableSettings>,
    /// Whether somebody on another machine may be reading: what is replaced stays for [`Limits::obsolete_grace`] then.
    pub is_shared: bool,
}

/// Takes away what is past its retention, merges the tenant's small segments, and removes the files that are not needed any
/// more. Take an [`crate::instance::InstanceLock`] first: merging beside a collector would give out a commit number twice.
///
/// # Errors
/// When the archive or the ledger cannot be read or written.
pub async fn compact(
    ledger: &dyn Ledger,
    archive: &Archive,
    clock: &dyn Clock,
    keep: Keep,
    tenant: TenantId,
) -> Result<Compacted, CompactError> {
    let Keep { retention, tables, is_shared } = keep;
    let grace = if is_shared { Grace::For(Limits::default().obsolete_grace) } else { Grace::None };
    let (slot, metrics) = (Semaphore::new(1), Metrics::new());
    let (_never, stop) = watch::channel(false);
    let files = std::sync::Arc::default();
    let known = ledger.tenant(tenant).await.map_err(|error| CompactError(error.into()))?;
    let Some(known) = known else {
        return Err(CompactError(LedgerError::UnknownTenant { tenant }.into()));
    };
    let archive = &archive.under(known.epoch.0);
    let house =
        House { ledger, archive, clock, metrics: &metrics, slot: &slot, tenant, files: &files, retention, tables };
    let compacted = async {
        house.clear_orphans(known.last_commit).await?;
        let expired = house.expire().await?;
        let merged = house.merge(grace, &stop).await?;
        match house.publish(false).await {
            Ok(_) => {}
            Err(PublishFailure::Work(failure)) => return Err(failure),
            // The collector that it is contested with publishes it.
            Err(error @ PublishFailure::Contested) => tracing::warn!(%tenant, %error, "the table is not published"),
        }
        Ok(Compacted { expired, ..merged })
    };
    let compacted = compacted.await;
    if compacted.is_err()
        && matches!(ledger.tenant(tenant).await, Ok(None))
        && let Ok(Some(order)) = ledger.purge(tenant).await
    {
        // Purged meanwhile, by somebody who could not see what was just being written.
        carry_out(ledger, archive, clock, &order).await.map_err(CompactError)?;
    }
    compacted.map_err(CompactError)
}
