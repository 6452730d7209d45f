//! The step on the tables that other programs read: whether they are what the ledger shows.
//!
//! Never reads more than the logs of some tenants, and never mends one: the next publication does.

use archive::{Archive, ArchiveError, ArchiveOptions, Segment};
use ledger::LedgerError;

use super::files::Known;
use super::report::{Cause, Step};
use crate::collector::segments::segment_of;

/// Tenants whose tables are looked at: in object storage each takes some requests.
const TENANTS_MAX: usize = 50;

/// What was found, over all tenants looked at.
#[derive(Default)]
struct Found {
    tables: u64,
    behind: u64,
    segments: u64,
    damaged: u64,
}

/// `published` says whether the configuration wants tables. No step when it does not, and there are none.
pub(super) async fn tables(options: &ArchiveOptions, known: Option<&Known>, published: bool) -> Option<Step> {
    let name = options.remote.as_ref().map_or_else(|| options.root.display().to_string(), |of| of.url.to_string());
    // Without a ledger or an archive there is nothing to publish, which other steps tell.
    let known = known?;
    let archive = Archive::open_read_only(options).ok()?;
    let found = match look(archive, known).await {
        Ok(found) => found,
        Err(error) => {
            let step = Step::failed("tables", name, Cause::Storage, error);
            return Some(
                step.explained("other programs may not be able to read the tables", "do what the message says"),
            );
        }
    };
    let Found { tables, behind, segments, damaged } = found;
    if !published {
        return (tables > 0).then(|| {
            Step::warning("tables", name, format!("{tables} table(s) are there, and none is published any more"))
                .explained(
                    "who reads them sees old records, and misses files that were merged away",
                    "set archive.tables = \"delta\" again, or delete the folders _delta_log below tenant=…",
                )
        });
    }
    if damaged > 0 {
        let result = format!("the logs of {damaged} table(s) are damaged");
        return Some(Step::warning("tables", name, result).explained(
            "other programs cannot read them",
            "a running collector writes them anew with the next records; `tenantry archive publish` does it now",
        ));
    }
    if behind > 0 {
        let result = format!("{behind} of {tables} table(s) differ from the ledger, by {segments} segment(s)");
        return Some(Step::warning("tables", name, result).explained(
            "who reads them does not see the latest records yet",
            "a running collector publishes within archive.publish_interval: look again then, and at the log if it stays so",
        ));
    }
    Some(Step::ok("tables", name, format!("{tables} table(s) hold what the ledger shows")))
}

async fn look(archive: Archive, (ledger, tenants): &Known) -> Result<Found, String> {
    let told = |error: LedgerError| crate::chain(&error);
    let mut all: Vec<Vec<Segment>> = Vec::new();
    let mut ids = Vec::new();
    for tenant in tenants.iter().take(TENANTS_MAX) {
        let rows = ledger.segments(tenant.id).await.map_err(told)?;
        all.push(rows.iter().filter_map(|row| segment_of(tenant.id, row)).collect());
        ids.push(tenant.id);
    }
    let looked = tokio::task::spawn_blocking(move || {
        let mut found = Found::default();
        for (tenant, visible) in ids.into_iter().zip(all) {
            let table = archive.table(tenant)?;
            found.tables += u64::from(table.version().is_some());
            found.damaged += u64::from(table.damage().is_some());
            let differs = table.differs_from(&visible);
            found.segments += differs;
            found.behind += u64::from(differs > 0);
        }
        Ok::<_, ArchiveError>(found)
    });
    match looked.await {
        Ok(found) => found.map_err(|error| crate::chain(&error)),
        Err(error) => Err(error.to_string()),
    }
}
