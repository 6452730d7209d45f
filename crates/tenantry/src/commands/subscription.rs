//! `subscription list|start|stop`: what there is at Microsoft's side, asked now.
//!
//! Never starts what is enabled already, and stops nothing without --yes.

use serde_json::json;
use server::collector::Started;
use server::engine::model::{Tenant, TenantState};
use server::protocol::activity::SubscriptionStatus;
use server::protocol::ids::{ContentType, TenantId};

use super::collect::{OpenCollector, open_beside};
use super::{load, store};
use crate::cli::{Global, SubscriptionCommand, SubscriptionFilter};
use crate::config::Config;
use crate::exit::{Code, Failure};
use crate::present;

pub(crate) async fn run(global: &Global, command: SubscriptionCommand) -> Result<(), Failure> {
    let config = load(global)?;
    let open = open_beside(&config).await?;
    match command {
        SubscriptionCommand::List(filter) => list(global, &open, &filter).await,
        SubscriptionCommand::Start(filter) => start(global, &config, &open, &filter).await,
        SubscriptionCommand::Stop { filter, yes } => stop(global, &config, &open, &filter, yes).await,
    }
}

async fn list(global: &Global, open: &OpenCollector, filter: &SubscriptionFilter) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for tenant in tenants(open, filter).await? {
        let listed = open.collector.list_subscriptions(tenant).await;
        for subscription in listed.map_err(|error| Failure::new(Code::Refused, format!("tenant {tenant}: {error}")))? {
            if filter.content_type.is_empty() || filter.content_type.contains(&subscription.content_type) {
                let status = match subscription.status {
                    SubscriptionStatus::Enabled => "enabled".to_owned(),
                    SubscriptionStatus::Disabled => "disabled".to_owned(),
                    SubscriptionStatus::Unknown => "unknown".to_owned(),
                    SubscriptionStatus::Other(text) => text,
                };
                rows.push((tenant, subscription.content_type, status));
            }
        }
    }
    if global.json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(tenant, content_type, status)| {
                json!({ "tenant_id": tenant, "content_type": content_type, "status": status })
            })
            .collect();
        return present::print_json(&rows.into());
    }
    let rows = rows
        .into_iter()
        .map(|(tenant, content_type, status)| vec![tenant.to_string(), content_type.to_string(), status])
        .collect();
    present::print(&present::table(&["tenant", "content type", "status"], &[], rows))
}

async fn start(
    global: &Global,
    config: &Config,
    open: &OpenCollector,
    filter: &SubscriptionFilter,
) -> Result<(), Failure> {
    let mut results = Vec::new();
    for tenant in known_tenants(open, filter).await? {
        let refused = |error| Failure::new(Code::Refused, format!("tenant {}: {error}", tenant.id));
        let listed = open.collector.list_subscriptions(tenant.id).await.map_err(refused)?;
        for content_type in content_types(config, filter) {
            let enabled = listed.iter().any(|subscription| {
                subscription.content_type == *content_type && subscription.status == SubscriptionStatus::Enabled
            });
            let result = if enabled {
                "enabled already".to_owned()
            } else {
                match open.collector.start_subscription(tenant.id, content_type).await.map_err(refused)? {
                    Started::Enabled => "started".to_owned(),
                    Started::TooEarly { until } => {
                        format!("not before {}: starts are at least 15 minutes apart", until.format("%H:%M:%SZ"))
                    }
                }
            };
            results.push((tenant.id.to_string(), content_type.to_string(), result));
        }
    }
    print_results(global, results)
}

async fn stop(
    global: &Global,
    config: &Config,
    open: &OpenCollector,
    filter: &SubscriptionFilter,
    yes: bool,
) -> Result<(), Failure> {
    let mut results = Vec::new();
    for tenant in tenants(open, filter).await? {
        for content_type in content_types(config, filter) {
            let result = if yes {
                let stopped = open.collector.stop_subscription(tenant, content_type).await;
                stopped.map_err(|error| Failure::new(Code::Refused, format!("tenant {tenant}: {error}")))?;
                "stopped; a running collector starts it again unless the tenant is paused"
            } else {
                "would stop: what happens until the next start can never be collected; add --yes to do it"
            };
            results.push((tenant.to_string(), content_type.to_string(), result.to_owned()));
        }
    }
    print_results(global, results)
}

fn print_results(global: &Global, results: Vec<(String, String, String)>) -> Result<(), Failure> {
    if global.json {
        let rows: Vec<_> = results
            .iter()
            .map(|(tenant, content_type, result)| {
                json!({ "tenant_id": tenant, "content_type": content_type, "result": result })
            })
            .collect();
        return present::print_json(&rows.into());
    }
    let rows = results.into_iter().map(|(tenant, content_type, result)| vec![tenant, content_type, result]).collect();
    present::print(&present::table(&["tenant", "content type", "result"], &[], rows))
}

/// Those named, known here or not: the subscriptions of one that was purged go on until they are stopped. All active ones
/// when none is named.
async fn tenants(open: &OpenCollector, filter: &SubscriptionFilter) -> Result<Vec<TenantId>, Failure> {
    if !filter.tenant.is_empty() {
        return Ok(filter.tenant.clone());
    }
    Ok(known_tenants(open, filter).await?.into_iter().map(|tenant| tenant.id).collect())
}

/// Those named, as the ledger knows them; all active ones when none is named.
async fn known_tenants(open: &OpenCollector, filter: &SubscriptionFilter) -> Result<Vec<Tenant>, Failure> {
    let mut tenants = store::selected_tenants(open.ledger.as_ref(), &filter.tenant).await?;
    if filter.tenant.is_empty() {
        tenants.retain(|tenant| tenant.state == TenantState::Active);
    }
    Ok(tenants)
}

fn content_types<'a>(config: &'a Config, filter: &'a SubscriptionFilter) -> &'a [ContentType] {
    if filter.content_type.is_empty() { &config.collect.content_types } else { &filter.content_type }
}
