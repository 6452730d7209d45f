//! `tenant add|list|show|pause|resume|retry|hold|release|remove`: which tenants are collected, and whose records are kept.
//!
//! Never needs Microsoft: it writes the ledger, and a running collector notices within seconds. `tenant add` asks, if it
//! can, which cloud the tenant lives in, and
//! `tenant remove` stops the tenant's subscriptions.

use std::time::Duration;

use serde_json::json;
use server::archive::{Archive, Purged};
use server::clock::SystemClock;
use server::coverage::CoverageReport;
use server::engine::evidence::Purge;
use server::engine::model::{Tenant, TenantState};
use server::engine::tile::collect_from;
use server::ledger::{Ledger, LedgerError};
use server::protocol::ids::TenantId;
use server::residence::{LookUp, look_up};
use server::transport::{HttpTransport, Timeouts};

use super::offboard::{Offboarded, stop_subscriptions, wait_for_collector, wait_to_be_noticed};
use super::{load, store};
use crate::cli::{Global, TenantCommand};
use crate::config::Config;
use crate::exit::{Code, Failure};
use crate::present;

pub(crate) async fn run(global: &Global, command: TenantCommand) -> Result<(), Failure> {
    let config = load(global)?;
    match command {
        TenantCommand::Add { id, label, unchecked } => add(global, &config, id, label, unchecked).await,
        TenantCommand::List => list(global, &config).await,
        TenantCommand::Show { id } => show(global, &config, id).await,
        TenantCommand::Pause { id } => set_state(global, &config, id, TenantState::Paused).await,
        TenantCommand::Resume { id } => set_state(global, &config, id, TenantState::Active).await,
        TenantCommand::Retry { id } => retry(global, &config, id).await,
        TenantCommand::Hold { id, reason } => hold(global, &config, id, reason).await,
        TenantCommand::Release { id } => release(global, &config, id).await,
        TenantCommand::Remove { id, purge: false, .. } => remove(global, &config, id).await,
        TenantCommand::Remove { id, purge: true, yes } => purge(global, &config, id, yes).await,
    }
}

async fn add(global: &Global, config: &Config, id: TenantId, label: String, unchecked: bool) -> Result<(), Failure> {
    if label.len() > 200 || label.chars().any(char::is_control) {
        return Err(Failure::new(Code::Usage, "--label must have at most 200 bytes and no control characters"));
    }
    if !unchecked {
        check_cloud(config, id).await?;
    }
    let ledger = store::open_ledger(config)?;
    let now = store::now();
    let added = ledger.add_tenant(id, label, collect_from(now), now).await.map_err(store::ledger_failure)?;
    if global.json {
        return present::print_json(&json!({ "tenant_id": id, "added": added }));
    }
    present::print(&if added {
        format!("tenant {id} added; `tenantry collect --once` or `tenantry serve` collects it")
    } else {
        format!("tenant {id} was here already")
    })
}

/// Refuses a tenant that lives in another cloud; whatever else comes of asking does not stand in the way.
async fn check_cloud(config: &Config, id: TenantId) -> Result<(), Failure> {
    let timeouts =
        Timeouts { connect: Duration::from_secs(5), silence: Duration::from_secs(10), idle: Duration::from_secs(10) };
    let elsewhere = |text: String| {
        Failure::new(Code::Refused, format!("tenant {id} was not added: {text}; to add it all the same: --unchecked"))
    };
    let Ok(transport) = HttpTransport::new(&timeouts) else { return Ok(()) };
    match look_up(&transport, &config.cloud, id).await {
        LookUp::Fits(_) => Ok(()),
        LookUp::Elsewhere(residence) => Err(elsewhere(residence.not_in(config.cloud.name()))),
        LookUp::SomewhereElse(error) => Err(elsewhere(format!("{error}: {}", error.remedy()))),
        LookUp::Unknown(error) => {
            tracing::warn!(tenant = %id, error = %error, "no login authority knows this tenant: check its id");
            Ok(())
        }
        LookUp::NotTold(reason) => {
            tracing::info!(tenant = %id, reason, "which cloud the tenant lives in could not be asked");
            Ok(())
        }
    }
}

async fn list(global: &Global, config: &Config) -> Result<(), Failure> {
    let ledger = store::open_ledger_read_only(config)?;
    let tenants = store::selected_tenants(ledger.as_ref(), &[]).await?;
    let purges = ledger.purges(store::now(), 1_000).await.map_err(store::ledger_failure)?;
    let open: Vec<&Purge> = purges.iter().filter(|purge| purge.done_at.is_none()).collect();
    if global.json {
        let rows = tenants.iter().map(to_json).chain(open.iter().map(|purge| purging(purge)));
        return present::print_json(&serde_json::Value::Array(rows.collect()));
    }
    let mut rows: Vec<Vec<String>> = tenants
        .iter()
        .map(|tenant| {
            vec![
                tenant.id.to_string(),
                tenant.label.clone(),
                format!("{}{}", tenant.state.as_str(), if tenant.hold.is_some() { ", held" } else { "" }),
                tenant.added_at.format("%Y-%m-%d %H:%M:%SZ").to_string(),
                present::count(tenant.last_commit.0),
                tenant.problem.as_ref().map(|problem| problem.message.clone()).unwrap_or_default(),
            ]
        })
        .collect();
    rows.extend(open.iter().map(|purge| {
        let told = format!("purge ordered by {} and not done yet", purge.ordered_by);
        vec![purge.tenant.to_string(), String::new(), "purging".to_owned(), String::new(), String::new(), told]
    }));
    present::print(&present::table(&["tenant", "label", "state", "added", "commits", "problem"], &["commits"], rows))
}

async fn show(global: &Global, config: &Config, id: TenantId) -> Result<(), Failure> {
    let ledger = store::open_ledger_read_only(config)?;
    let tenant = known(ledger.as_ref(), id).await?;
    let subscriptions = ledger.subscriptions(id).await.map_err(store::ledger_failure)?;
    let coverage = CoverageReport::read(ledger.as_ref(), &[id], 20, store::now()).await;
    let coverage = coverage.map_err(store::ledger_failure)?;
    let segments = ledger.segments(id).await.map_err(store::ledger_failure)?;
    let bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
    let rows: u64 = segments.iter().map(|segment| segment.rows).sum();
    if global.json {
        let mut value = to_json(&tenant);
        value["subscriptions"] = subscriptions
            .iter()
            .map(|subscription| {
                json!({
                    "content_type": subscription.content_type,
                    "enabled": subscription.enabled,
                    "listed_at": subscription.listed_at.map(|time| time.to_rfc3339()),
                    "problem": subscription.problem.as_ref().map(|problem| &problem.message),
                })
            })
            .collect();
        value["coverage"] = serde_json::to_value(&coverage).map_err(|error| Failure::new(Code::Other, error))?;
        value["archive"] = json!({ "segments": segments.len(), "records": rows, "bytes": bytes });
        return present::print_json(&value);
    }
    let mut text = format!(
        "tenant   {}\nlabel    {}\nstate    {}\nadded    {}\ncollects content created from {}\narchive  {} records in {} segments, {}\n",
        tenant.id,
        tenant.label,
        tenant.state.as_str(),
        tenant.added_at.to_rfc3339(),
        tenant.collect_from.to_rfc3339(),
        present::count(rows),
        present::count(segments.len() as u64),
        present::size(bytes),
    );
    if let Some(hold) = &tenant.hold {
        text.push_str(&format!("held     {} (since {}, by {})\n", hold.reason, hold.since.to_rfc3339(), hold.by));
    }
    if let Some(problem) = &tenant.problem {
        text.push_str(&format!("problem  {} (since {})\n", problem.message, problem.since.to_rfc3339()));
    }
    for subscription in &subscriptions {
        let state = match subscription.enabled {
            Some(true) => "enabled",
            Some(false) => "not enabled",
            None => "not seen yet",
        };
        text.push_str(&format!("subscription {}: {state}\n", subscription.content_type));
    }
    present::print(&format!("{text}{}", super::coverage::to_text(&coverage)))
}

async fn retry(global: &Global, config: &Config, id: TenantId) -> Result<(), Failure> {
    let ledger = store::open_ledger(config)?;
    let waiting = ledger.retry_lost(id, store::now()).await.map_err(store::ledger_failure)?;
    if global.json {
        return present::print_json(&json!({ "tenant_id": id, "contents": waiting }));
    }
    present::print(&match waiting {
        0 => format!("nothing of tenant {id} was given up that can still be had"),
        _ => format!("{waiting} contents of tenant {id} are tried again with the next poll"),
    })
}

async fn set_state(global: &Global, config: &Config, id: TenantId, state: TenantState) -> Result<(), Failure> {
    let ledger = store::open_ledger(config)?;
    if !ledger.set_tenant_state(id, state, store::now()).await.map_err(store::ledger_failure)? {
        return Err(unknown(id));
    }
    if global.json {
        return present::print_json(&json!({ "tenant_id": id, "state": state.as_str() }));
    }
    present::print(&match state {
        TenantState::Active => format!("tenant {id} is collected again"),
        TenantState::Paused => format!("tenant {id} is paused; content older than seven days cannot be caught up on"),
        TenantState::Removed => format!("tenant {id} is removed; its archive is kept"),
    })
}

/// The ledger first, so that no collector starts again what is being stopped.
async fn remove(global: &Global, config: &Config, id: TenantId) -> Result<(), Failure> {
    let ledger = store::open_ledger(config)?;
    if !ledger.set_tenant_state(id, TenantState::Removed, store::now()).await.map_err(store::ledger_failure)? {
        return Err(unknown(id));
    }
    close_doors(ledger.as_ref(), id).await?;
    wait_for_collector(config).await;
    let offboarded = stop_subscriptions(config, id).await;
    if let Offboarded::Failed(problem) = &offboarded {
        return Err(Failure::new(Code::Incomplete, still_subscribed(id, problem)));
    }
    if global.json {
        return present::print_json(&json!({
            "tenant_id": id,
            "state": TenantState::Removed.as_str(),
            "subscriptions_stopped": stopped(&offboarded),
        }));
    }
    present::print(&format!("tenant {id} is removed, {}; its archive is kept", in_words(&offboarded)))
}

/// A link that was made for this tenant does not bring it back: coming back takes a new one.
async fn close_doors(ledger: &dyn Ledger, id: TenantId) -> Result<(), Failure> {
    let revoked = ledger.revoke_invitations_for(id, store::now()).await.map_err(store::ledger_failure)?;
    if revoked > 0 {
        tracing::info!(tenant = %id, links = revoked, "the consent links made for this tenant are revoked");
    }
    Ok(())
}

fn stopped(offboarded: &Offboarded) -> usize {
    if let Offboarded::Stopped(stopped) = offboarded { *stopped } else { 0 }
}

fn in_words(offboarded: &Offboarded) -> String {
    match offboarded {
        Offboarded::Stopped(stopped) => format!("with {stopped} subscription(s) stopped at Microsoft"),
        Offboarded::Closed | Offboarded::Failed(_) => "which lets nobody in any more at Microsoft".to_owned(),
    }
}

fn still_subscribed(id: TenantId, problem: &str) -> String {
    format!(
        "tenant {id} is removed here and its subscriptions at Microsoft may go on ({problem}); once that is mended, \
         `tenantry subscription stop --tenant {id} --yes` stops them"
    )
}

/// An order in the ledger first, with which all that it knows of the tenant goes; then the files, by whoever comes to it: here,
/// in a collector, or here once more.
async fn purge(global: &Global, config: &Config, id: TenantId, yes: bool) -> Result<(), Failure> {
    let ledger = store::open_ledger(config)?;
    let Some(tenant) = ledger.tenant(id).await.map_err(store::ledger_failure)? else {
        // Ordered before: what is left goes, and when nothing is, it says what went.
        let order = ledger.purge(id).await.map_err(store::ledger_failure)?.ok_or_else(|| unknown(id))?;
        if !yes {
            return present::print(&format!("would go on deleting what is left of tenant {id}; add --yes to do it"));
        }
        let archive = store::open_archive(config, ledger.as_ref()).await?;
        let gone = delete_files(ledger.as_ref(), &archive, order).await?;
        return show_purged(global, &gone, None);
    };
    if let Some(hold) = tenant.hold {
        return Err(store::ledger_failure(LedgerError::Held { tenant: id, reason: hold.reason }));
    }
    let segments = ledger.segments(id).await.map_err(store::ledger_failure)?;
    let records: u64 = segments.iter().map(|segment| segment.rows).sum();
    if !yes {
        return present::print(&format!(
            "would delete {} records in {} segments of tenant {id}, and all that is known about it; add --yes to do it",
            present::count(records),
            segments.len()
        ));
    }
    // Beside a collector it goes as well: that one leaves the tenant, and takes with it what it was just writing.
    let lock = store::lock(config);
    if let Err(failure) = &lock
        && failure.code != Code::Busy
    {
        return lock.map(|_| ());
    }
    if tenant.state != TenantState::Removed {
        ledger.set_tenant_state(id, TenantState::Removed, store::now()).await.map_err(store::ledger_failure)?;
    }
    close_doors(ledger.as_ref(), id).await?;
    // The workers of a shared ledger are elsewhere.
    if lock.is_err() || config.is_shared() {
        wait_to_be_noticed().await;
    }
    // Whoever wants the records gone is not held up by Microsoft; what could not be stopped is said.
    let offboarded = stop_subscriptions(config, id).await;
    if let Offboarded::Failed(problem) = &offboarded {
        tracing::warn!("{}", still_subscribed(id, problem));
    }
    // Asked for while the ledger still knows whose it is.
    let archive = store::open_archive(config, ledger.as_ref()).await?;
    let order = ledger.purge_tenant(id, store::now()).await.map_err(store::ledger_failure)?;
    let gone = delete_files(ledger.as_ref(), &archive, order).await?;
    show_purged(global, &gone, Some(&offboarded))
}

/// How often it is tried, a second apart: a collector that was writing when the order was given has left by then.
const TRIES: u32 = 10;

/// Carries an order out, and returns it as it stands then.
async fn delete_files(ledger: &dyn Ledger, archive: &Archive, order: Purge) -> Result<Purge, Failure> {
    let mut tries = 0;
    let problem = loop {
        tries += 1;
        match server::collector::purge(ledger, archive, &SystemClock, &order).await {
            Ok(Purged { left: 0, .. }) => break None,
            Ok(Purged { left, .. }) if tries == TRIES => break Some(format!("{left} files are still there")),
            Err(error) if tries == TRIES => break Some(server::chain(&error)),
            Ok(_) | Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    };
    let id = order.tenant;
    if let Some(problem) = problem {
        return Err(Failure::new(
            Code::Incomplete,
            format!(
                "the purge of tenant {id} is ordered and not done ({problem}): a running collector goes on with it, and so \
                 does `tenantry tenant remove {id} --purge --yes`"
            ),
        ));
    }
    Ok(ledger.purge(id).await.map_err(store::ledger_failure)?.unwrap_or(order))
}

fn show_purged(global: &Global, gone: &Purge, offboarded: Option<&Offboarded>) -> Result<(), Failure> {
    let Purge { tenant, records, segments, deleted, .. } = gone;
    if global.json {
        return present::print_json(&json!({
            "tenant_id": tenant, "purged_records": records, "purged_segments": segments,
            "deleted_files": deleted.files, "deleted_bytes": deleted.bytes,
            "ordered_at": gone.ordered_at.to_rfc3339(), "ordered_by": gone.ordered_by,
            "subscriptions_stopped": offboarded.map(stopped),
        }));
    }
    present::print(&format!(
        "tenant {tenant} is gone, with {} records in {} segments; {} files, {}, were deleted and none is left",
        present::count(*records),
        present::count(*segments),
        present::count(deleted.files),
        present::size(deleted.bytes),
    ))
}

async fn hold(global: &Global, config: &Config, id: TenantId, reason: String) -> Result<(), Failure> {
    if reason.trim().is_empty() || reason.len() > 1_000 || reason.chars().any(char::is_control) {
        return Err(Failure::new(Code::Usage, "--reason must have 1 to 1000 bytes and no control characters"));
    }
    let ledger = store::open_ledger(config)?;
    if !ledger.hold_tenant(id, reason, store::now()).await.map_err(store::ledger_failure)? {
        return Err(unknown(id));
    }
    if global.json {
        return present::print_json(&json!({ "tenant_id": id, "held": true }));
    }
    present::print(&format!("tenant {id} is held: nothing of it is deleted until `tenantry tenant release {id}`"))
}

async fn release(global: &Global, config: &Config, id: TenantId) -> Result<(), Failure> {
    let ledger = store::open_ledger(config)?;
    known(ledger.as_ref(), id).await?;
    let released = ledger.release_tenant(id, store::now()).await.map_err(store::ledger_failure)?;
    if global.json {
        return present::print_json(&json!({ "tenant_id": id, "held": false, "released": released }));
    }
    present::print(&if released {
        format!("tenant {id} is not held any more: what is past its retention goes from now on")
    } else {
        format!("tenant {id} was not held")
    })
}

async fn known(ledger: &dyn Ledger, id: TenantId) -> Result<Tenant, Failure> {
    ledger.tenant(id).await.map_err(store::ledger_failure)?.ok_or_else(|| unknown(id))
}

fn unknown(id: TenantId) -> Failure {
    Failure::new(Code::Usage, format!("tenant {id} is not known here: `tenantry tenant list` shows those that are"))
}

/// One that is not here any more, and of which files may be.
fn purging(purge: &Purge) -> serde_json::Value {
    json!({
        "tenant_id": purge.tenant,
        "state": "purging",
        "ordered_at": purge.ordered_at.to_rfc3339(),
        "ordered_by": purge.ordered_by,
        "deleted_files": purge.deleted.files,
    })
}

fn to_json(tenant: &Tenant) -> serde_json::Value {
    json!({
        "tenant_id": tenant.id,
        "label": tenant.label,
        "state": tenant.state.as_str(),
        "added_at": tenant.added_at.to_rfc3339(),
        "collect_from": tenant.collect_from.to_rfc3339(),
        "last_commit": tenant.last_commit.0,
        "hold": tenant.hold.as_ref().map(|hold| json!({
            "since": hold.since.to_rfc3339(), "by": hold.by, "reason": hold.reason,
        })),
        "problem": tenant.problem.as_ref().map(|problem| json!({
            "kind": problem.kind, "message": problem.message, "since": problem.since.to_rfc3339(),
        })),
    })
}
