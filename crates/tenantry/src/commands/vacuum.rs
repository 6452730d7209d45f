//! `archive vacuum`: files of tenants that the ledger knows nothing of.
//!
//! Never deletes beside a collector, nor what a tenant has that is known or ordered purged.

use std::collections::BTreeSet;

use serde_json::json;
use server::archive::{Archive, Purged};
use server::engine::evidence::ActivityKind;
use server::ledger::Ledger;
use server::ledger::postgres::Company;
use server::protocol::ids::TenantId;

use super::{load, store};
use crate::cli::Global;
use crate::exit::Failure;
use crate::present;

/// Files of a tenant that the ledger does not know.
struct Stranger {
    tenant: TenantId,
    files: u64,
    bytes: u64,
}

/// Of every tenant that the archive holds files of, those that the ledger neither knows nor was told to purge; of `only`, if
/// that names any.
async fn find_strangers(ledger: &dyn Ledger, archive: &Archive, only: &[TenantId]) -> Result<Vec<Stranger>, Failure> {
    let (_, known) = ledger.tenants_since(0).await.map_err(store::ledger_failure)?;
    let known: BTreeSet<TenantId> = known.into_iter().map(|tenant| tenant.id).collect();
    let mut found = Vec::new();
    for tenant in archive.tenants().map_err(store::archive_failure)?.difference(&known).copied() {
        // What is ordered purged goes by that order.
        let is_purged = ledger.purge(tenant).await.map_err(store::ledger_failure)?.is_some();
        if is_purged || !(only.is_empty() || only.contains(&tenant)) {
            continue;
        }
        let (files, bytes) = archive.held_of(tenant).map_err(store::archive_failure)?;
        if files > 0 {
            found.push(Stranger { tenant, files, bytes });
        }
    }
    Ok(found)
}

/// Names them.
pub(super) async fn list(global: &Global, only: &[TenantId]) -> Result<(), Failure> {
    let config = load(global)?;
    let ledger = store::open_ledger_read_only(&config)?;
    let found = match store::read_archive(&config, ledger.as_ref()).await? {
        Some(archive) => find_strangers(ledger.as_ref(), &archive, only).await?,
        None => Vec::new(),
    };
    show_strangers(global, &found, false)
}

/// Deletes them, and notes in the log of activity what went.
pub(super) async fn delete(global: &Global, only: &[TenantId]) -> Result<(), Failure> {
    let config = load(global)?;
    // With nobody collecting, no tenant that is being added has a file yet.
    let _lock = store::lock(&config)?;
    let open = store::open_any_ledger(&config)?;
    let _claim = open.claim(Company::Alone).await.map_err(store::claim_failure)?;
    let ledger = open.shared();
    let archive = store::open_archive(&config, ledger.as_ref()).await?;
    let mut gone = Vec::new();
    for Stranger { tenant, .. } in find_strangers(ledger.as_ref(), &archive, only).await? {
        let mut purged = Purged::default();
        let done = archive.purge_tenant(tenant, u64::MAX, &mut purged);
        if purged.files > 0 {
            let details = json!({ "files": purged.files, "bytes": purged.bytes }).to_string();
            let noted = ledger.note_activity(ActivityKind::Vacuumed, Some(tenant), details, store::now()).await;
            noted.map_err(store::ledger_failure)?;
        }
        done.map_err(store::archive_failure)?;
        gone.push(Stranger { tenant, files: purged.files, bytes: purged.bytes });
    }
    show_strangers(global, &gone, true)
}

fn show_strangers(global: &Global, strangers: &[Stranger], deleted: bool) -> Result<(), Failure> {
    if global.json {
        let rows = strangers.iter().map(|stranger| {
            json!({ "tenant_id": stranger.tenant, "files": stranger.files, "bytes": stranger.bytes, "deleted": deleted })
        });
        return present::print_json(&rows.collect::<Vec<_>>().into());
    }
    for Stranger { tenant, files, bytes } in strangers {
        let done = if deleted { "deleted" } else { "not known to the ledger" };
        present::print(&format!(
            "tenant {tenant}: {} files, {}, {done}",
            present::count(*files),
            present::size(*bytes)
        ))?;
    }
    match (strangers.is_empty(), deleted) {
        (true, _) => present::print("the ledger knows every tenant that the archive holds files of"),
        (false, true) => Ok(()),
        (false, false) => present::print(
            "if the ledger was restored from an older copy, they may hold records that cannot be had again: `tenantry tenant \
             add` takes such a tenant on again; --yes deletes them",
        ),
    }
}
