//! Carries out orders to purge a tenant, which stand in the ledger, until the archive has confirmed that nothing is left.
//!
//! Never deletes anything without an order: a tenant that the ledger does not know and that nobody ordered purged may be one that
//! a restored ledger has forgotten. Safe to be stopped anywhere and to be done by several processes at once: each process does it,
//! for each may have copies, or have written something after the others had looked.

use std::collections::BTreeMap;
use std::time::Duration;

use archive::{Archive, Purged};
use chrono::TimeDelta;
use engine::evidence::{Deleted, Purge};
use engine::lease::Epoch;
use ledger::Ledger;
use protocol::ids::TenantId;
use tokio::time::Instant;

use super::committer::CommitFailure;
use super::context::Context;
use super::housekeeping::{FOLD_EVERY, blocking};
use crate::clock::Clock;

/// How often it is looked whether there are orders. Smaller: asks the ledger in vain, one statement each time. Larger: copies
/// and what was left lie for longer.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// An order that could not be carried out is tried again after this long.
const TRY_AGAIN: Duration = Duration::from_secs(5 * 60);

/// An order is left to whoever gave it for this long.
const GIVERS_TURN: TimeDelta = TimeDelta::minutes(1);

/// For so long after it was confirmed it is looked again now and then: a process that was stopped for long may have written
/// something meanwhile, and been killed before it could take it away.
const LOOKED_AGAIN: TimeDelta = TimeDelta::days(1);

/// Orders read at a time, of those that are done and of those that are not.
const ORDERS: u32 = 1_000;

/// Why a purge is not done. The order stands: a collector goes on with it, and whoever repeats the command does.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct PurgeError(CommitFailure);

/// Carries out one order now, and notes what came of it. Done when [`Purged::left`] is 0.
///
/// # Errors
/// When the archive cannot be listed or written, or the ledger not be told.
pub async fn purge(
    ledger: &dyn Ledger,
    archive: &Archive,
    clock: &dyn Clock,
    order: &Purge,
) -> Result<Purged, PurgeError> {
    carry_out(ledger, archive, clock, order).await.map_err(PurgeError)
}

pub(super) async fn carry_out(
    ledger: &dyn Ledger,
    archive: &Archive,
    clock: &dyn Clock,
    order: &Purge,
) -> Result<Purged, CommitFailure> {
    let (tenant, through, worker) = (order.tenant, order.through, archive.clone());
    let (purged, done) = blocking(archive, move || {
        let mut purged = Purged::default();
        let done = worker.purge_tenant(tenant, through.0, &mut purged);
        Ok((purged, done))
    })
    .await?;
    let is_done = done.is_ok() && purged.left == 0;
    let deleted = Deleted { files: purged.files, bytes: purged.bytes };
    // Stopping before this leaves an order that is carried out once more, and finds less to do.
    if deleted.files > 0 || (is_done && order.done_at.is_none()) {
        ledger.files_purged(tenant, through, deleted, is_done, clock.now()).await?;
    }
    done?;
    if purged.later > 0 && order.done_at.is_none() {
        tracing::warn!(
            %tenant, files = purged.later, archive = %archive.place().display(),
            "files of a tenant that was purged stay: they were written after the order, so the ledger was restored from an \
             older copy than they are; once they are known to be unwanted, `tenantry tenant add` and another purge take them"
        );
    }
    Ok(purged)
}

/// The orders that this process has carried out.
#[derive(Debug, Default)]
pub(super) struct Purges {
    seen: BTreeMap<(TenantId, Epoch), Instant>,
}

impl Purges {
    /// Carries out whatever is ordered, for ever.
    pub(super) async fn all_day(mut self, context: &Context) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.once(context, GIVERS_TURN).await;
        }
    }

    /// Carries out what was ordered `after` so long, or longer, ago. What fails is said, and done the next time.
    pub(super) async fn once(&mut self, context: &Context, after: TimeDelta) {
        let now = context.clock.now();
        let since = now.checked_sub_signed(LOOKED_AGAIN).unwrap_or(now);
        let orders = match context.ledger.purges(since, ORDERS).await {
            Ok(orders) => orders,
            // Whoever collects says what is wrong; here it is simply tried again.
            Err(error) => return tracing::debug!(%error, "the ledger cannot say which tenants are to be purged"),
        };
        self.seen.retain(|(tenant, _), _| orders.iter().any(|order| order.tenant == *tenant));
        for order in orders {
            let key = (order.tenant, order.through);
            let rest = if order.done_at.is_some() { FOLD_EVERY } else { TRY_AGAIN };
            let is_early = now.signed_duration_since(order.ordered_at) < after;
            if is_early || self.seen.get(&key).is_some_and(|at| at.elapsed() < rest) {
                continue;
            }
            self.seen.insert(key, Instant::now());
            let tenant = order.tenant;
            match carry_out(&*context.ledger, &context.archive, &*context.clock, &order).await {
                Ok(Purged { left: 0, files, bytes, .. }) if order.done_at.is_none() || files > 0 => {
                    tracing::info!(%tenant, files, bytes, "the tenant is purged; nothing of it is left");
                }
                Ok(Purged { left, .. }) if left > 0 && order.done_at.is_none() => {
                    tracing::warn!(%tenant, left, "files of a tenant that is being purged are still there; it is tried again");
                }
                Ok(_) => {}
                Err(failure) => {
                    let error = crate::chain(&failure);
                    tracing::warn!(%tenant, error, "a tenant that is to be purged is not yet; it is tried again");
                }
            }
        }
    }
}
