//! Tenants that nobody collects, paused or removed and not purged: their records grow old all the same, and go when they are
//! past their retention; and what was not published yet when they were paused is.
//!
//! Never asks Microsoft for anything, and never touches a tenant that is collected: its own worker does this.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use engine::model::{CommitNumber, TenantState};
use ledger::LedgerError;
use protocol::ids::TenantId;
use tokio::time::Instant;

use super::committer::CommitFailure;
use super::context::Context;
use super::housekeeping::{FOLD_EVERY, Grace, House};

/// How often it is looked which of them have become ours. Smaller: asks the ledger in vain. Larger: a process that others
/// replace within that time does nothing for them.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Those tenants, as far as the ledger's revision was read.
#[derive(Debug, Default)]
pub(super) struct Uncollected {
    revision: u64,
    tenants: BTreeSet<TenantId>,
    /// Those whose tables are what the ledger shows, with its last commit then.
    published: BTreeMap<TenantId, CommitNumber>,
    /// When each of ours was last looked after.
    looked_after: BTreeMap<TenantId, Instant>,
}

impl Uncollected {
    /// Looks after each as often as workers look after theirs, for ever. Which of them are ours may change at any time.
    pub(super) async fn all_day(mut self, context: &Context) -> std::convert::Infallible {
        loop {
            if let Err(error) = self.once(context, context.grace(false)).await {
                // Whoever collects says what is wrong; here it is simply tried again.
                tracing::debug!(error = crate::chain(&error), "retention of tenants that are not collected waits");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Looks after them now. One that fails holds up no other; the first failure is returned when all have had their turn.
    pub(super) async fn once(&mut self, context: &Context, grace: Grace) -> Result<(), CommitFailure> {
        let (revision, changed) = context.ledger.tenants_since(self.revision).await?;
        for tenant in changed {
            self.forget(tenant.id);
            if tenant.state == TenantState::Active {
                self.tenants.remove(&tenant.id);
            } else {
                self.tenants.insert(tenant.id);
            }
        }
        self.revision = revision;
        let mut first = None;
        for tenant in self.tenants.clone() {
            if self.looked_after.get(&tenant).is_some_and(|at| at.elapsed() < FOLD_EVERY) {
                continue;
            }
            match self.one(context, tenant, grace).await {
                Ok(true) => {
                    self.looked_after.insert(tenant, Instant::now());
                }
                Ok(false) => {}
                Err(CommitFailure::Ledger(LedgerError::UnknownTenant { .. })) => {
                    // Purged meanwhile.
                    self.tenants.remove(&tenant);
                    self.forget(tenant);
                }
                // Another process has it, and looks after it.
                Err(CommitFailure::Ledger(error)) if error.is_lost_lease() => {}
                // So will it be with all others.
                Err(failure @ CommitFailure::Ledger(_)) => return Err(failure),
                Err(failure) => {
                    let error = crate::chain(&failure);
                    tracing::warn!(%tenant, error, "files of a tenant that is not collected stay until the next look at it");
                    self.looked_after.insert(tenant, Instant::now());
                    first.get_or_insert(failure);
                }
            }
        }
        first.map_or(Ok(()), Err)
    }

    fn forget(&mut self, tenant: TenantId) {
        self.published.remove(&tenant);
        self.looked_after.remove(&tenant);
    }

    /// Whether it was ours to look after.
    async fn one(&mut self, context: &Context, tenant: TenantId, grace: Grace) -> Result<bool, CommitFailure> {
        let Some((ledger, archive)) = context.own(tenant) else {
            // Another process looks after it, and may leave it as it is.
            self.forget(tenant);
            return Ok(false);
        };
        let still = ledger.tenant(tenant).await?;
        let Some(known) = still.filter(|tenant| tenant.state != TenantState::Active) else { return Ok(false) };
        let archive = archive.under(known.epoch.0);
        // A turn of our own: nobody else works on its files. Should it be resumed at this very moment, its worker finds
        // segments that are not visible any more and asks them in vain for repeats that cannot come.
        let files = Arc::default();
        let house = House {
            ledger: &*ledger,
            archive: &archive,
            clock: &context.sure_clock,
            metrics: &context.metrics,
            slot: &context.merge_slot,
            tenant,
            files: &files,
            retention: context.settings.retention,
            tables: context.settings.tables,
        };
        let is_shortened = house.expire().await?.segments > 0;
        if is_shortened || self.published.get(&tenant) != Some(&known.last_commit) {
            self.published.remove(&tenant);
            match house.publish(false).await {
                Ok(entries) => {
                    context.metrics.published(entries as u64);
                    self.published.insert(tenant, known.last_commit);
                }
                // Files that its table still names stay until then.
                Err(failure) => {
                    let error = crate::chain(&failure);
                    tracing::warn!(%tenant, error, "the table of a tenant that is not collected is published the next time");
                }
            }
        }
        house.delete_obsolete(grace).await?;
        Ok(true)
    }
}
