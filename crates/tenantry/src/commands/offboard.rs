//! Offboarding: the subscriptions of a tenant that is not collected any more are stopped at Microsoft.
//!
//! Never called before the ledger says that the tenant is removed: a collector that still wants them would start them again.

use std::time::Duration;

use server::engine::problem::ProblemKind;
use server::protocol::activity::SubscriptionStatus;
use server::protocol::error::AdminStep;
use server::protocol::ids::TenantId;
use server::settings::Limits;

use super::collect::open_beside;
use super::store;
use crate::config::Config;

/// What became of a tenant's subscriptions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Offboarded {
    /// So many were enabled, and are stopped.
    Stopped(usize),
    /// The tenant lets nobody in any more, so that there is nothing to stop.
    Closed,
    /// They may still be enabled, and this is why.
    Failed(String),
}

/// Waits until a collector that may be running beside us has left the tenant.
pub(crate) async fn wait_for_collector(config: &Config) {
    if config.is_shared() || store::lock(config).is_err() {
        wait_to_be_noticed().await;
    }
}

/// A collector leaves a tenant when it next looks at the tenants, and starts nothing afterwards.
pub(crate) async fn wait_to_be_noticed() {
    tokio::time::sleep(Limits::default().tenants_interval + Duration::from_secs(1)).await;
}

/// Stops what is enabled.
pub(crate) async fn stop_subscriptions(config: &Config, tenant: TenantId) -> Offboarded {
    let open = match open_beside(config).await {
        Ok(open) => open,
        Err(failure) => return Offboarded::Failed(failure.message),
    };
    let listed = match open.collector.list_subscriptions(tenant).await {
        Ok(listed) => listed,
        Err(error) if is_closed(error.kind) => return Offboarded::Closed,
        Err(error) => return Offboarded::Failed(error.to_string()),
    };
    let mut stopped = 0;
    for subscription in listed {
        if subscription.status == SubscriptionStatus::Disabled {
            continue;
        }
        match open.collector.stop_subscription(tenant, &subscription.content_type).await {
            Ok(()) => stopped += 1,
            Err(error) if is_closed(error.kind) => return Offboarded::Closed,
            Err(error) => return Offboarded::Failed(error.to_string()),
        }
    }
    Offboarded::Stopped(stopped)
}

/// Whether the tenant has shut the app out, or is gone.
fn is_closed(kind: ProblemKind) -> bool {
    matches!(kind, ProblemKind::Admin(AdminStep::GiveConsent | AdminStep::CheckTenant | AdminStep::AllowApp))
}
