//! Publishes a tenant's segments as its table, after commits, merges and retention, as often as the settings say.
//!
//! Never holds a commit up, and never fails collection: what could not be published is told, and published the next time, for
//! the table is made from what the ledger shows and not from what has happened.

use std::sync::{Mutex, PoisonError};

use archive::{Publication, Published};
use engine::model::CommitNumber;
use protocol::time::Timestamp;
use tokio::time::Instant;

use super::committer::CommitFailure;
use super::housekeeping::{House, blocking};
use super::segments::segment_of;
use crate::metrics::Behind;
use crate::settings::TableSettings;

/// How often the ledger and the table are read again when somebody else has published meanwhile: a worker that had the tenant
/// before may end a publication, but begins no other.
const TRIES: u32 = 3;

/// Why a table is not what the ledger shows.
#[derive(Debug, thiserror::Error)]
pub(super) enum PublishFailure {
    #[error(transparent)]
    Work(#[from] CommitFailure),
    #[error(
        "somebody else writes to the tenant's table: let no other program write to it, and one collector own the tenant"
    )]
    Contested,
}

/// What a worker remembers of its tenant's publications.
#[derive(Debug, Default)]
pub(super) struct Publishing(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    tried_at: Option<Instant>,
    /// What there was when it was published: the last commit, and how often segments had gone.
    published: Option<(CommitNumber, u64)>,
    /// How often segments have gone, for which no commit stands.
    shortened: u64,
    /// Counted for as long as this is so; who gives the tenant up gives this up too.
    behind: Option<Behind>,
    /// There was something to publish, and it was not time.
    is_early: bool,
}

impl Publishing {
    /// Segments have gone by retention.
    pub(super) fn shortened(&self) {
        self.lock().shortened += 1;
    }

    /// When what is not published yet is to be; `None` when the table is what it is to be.
    pub(super) fn retry_at(&self, settings: TableSettings) -> Option<Instant> {
        let state = self.lock();
        let is_behind = state.behind.is_some() || state.is_early;
        state.tried_at.filter(|_| is_behind).map(|at| at + settings.interval)
    }

    /// Publishes, if there is something to publish and it is time. `now`: whether it is time already.
    pub(super) async fn publish(&self, house: &House<'_>, now: bool) {
        let Some(settings) = house.tables else { return };
        // A ledger that cannot be read stands in the way by itself.
        let Ok(Some(tenant)) = house.ledger.tenant(house.tenant).await else { return };
        let shown = {
            let mut state = self.lock();
            let shown = (tenant.last_commit, state.shortened);
            let is_early = !now && state.tried_at.is_some_and(|at| at.elapsed() < settings.interval);
            let is_behind = state.published != Some(shown) || state.behind.is_some();
            state.is_early = is_early && is_behind;
            if is_early || !is_behind {
                return;
            }
            state.tried_at = Some(Instant::now());
            shown
        };
        let published = house.publish(false).await;
        let mut state = self.lock();
        match published {
            Ok(entries) => {
                house.metrics.published(entries as u64);
                if state.behind.take().is_some() {
                    tracing::info!(tenant = %house.tenant, "the tenant's table is published again");
                }
                state.published = Some(shown);
            }
            Err(failure) => {
                house.metrics.error("table_not_published");
                if state.behind.is_none() {
                    state.behind = Some(house.metrics.table_behind());
                    let error = crate::chain(&failure);
                    tracing::error!(tenant = %house.tenant, error, "the tenant's table is not published; it is tried again");
                }
            }
        }
    }

    /// Publishes now and then, for ever: while records come in without a pause.
    pub(super) async fn meanwhile(&self, house: &House<'_>) -> std::convert::Infallible {
        let Some(settings) = house.tables else { return std::future::pending().await };
        loop {
            tokio::time::sleep(settings.interval).await;
            // Dropped in here, an entry that is being written is written to its end: each is whole, and found the next time.
            self.publish(house, false).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl House<'_> {
    /// Brings the tenant's table to what the ledger shows; says how many entries of its log that took.
    pub(super) async fn publish(&self, rebuild: bool) -> Result<usize, PublishFailure> {
        let Some(settings) = self.tables else { return Ok(0) };
        let mut rebuild = rebuild;
        for _ in 0..TRIES {
            let (archive, tenant) = (self.archive.clone(), self.tenant);
            // Before the ledger: what was published since then is found out.
            let table = blocking(self.archive, move || archive.table(tenant)).await?;
            let known = self.ledger.tenant(tenant).await.map_err(CommitFailure::from)?;
            let Some(known) = known else { return Ok(0) };
            // A table can be ahead of a ledger that was read too early, or of one restored from an older copy. Read after the
            // table it is never too early.
            rebuild |= table.position().is_some_and(|position| position > known.last_commit.0);
            let publication = self.publication(known.last_commit, settings, rebuild).await?;
            let archive = self.archive.clone();
            match blocking(self.archive, move || archive.publish(table, &publication)).await? {
                Published::Done { version, entries } => {
                    if entries > 0 {
                        tracing::debug!(%tenant, version, entries, "published");
                    }
                    return Ok(entries);
                }
                Published::Contested => {}
            }
        }
        Err(PublishFailure::Contested)
    }

    /// What the ledger shows, read after `last_commit`.
    async fn publication(
        &self,
        last_commit: CommitNumber,
        settings: TableSettings,
        rebuild: bool,
    ) -> Result<Publication, CommitFailure> {
        let now = self.clock.now();
        let (visible, replaced) = (self.ledger.segments(self.tenant).await?, self.ledger.obsolete(self.tenant).await?);
        // One that is named by an entry now is to stay for a while yet.
        let is_fresh = |since: Timestamp| (now - since).to_std().is_ok_and(|age| age < settings.kept / 2);
        let replaced = replaced.iter().filter(|(_, since)| is_fresh(*since));
        Ok(Publication {
            publisher: format!("tenantry {}", self.ledger.id().await?),
            last_commit: last_commit.0,
            visible: visible.iter().filter_map(|row| segment_of(self.tenant, row)).collect(),
            replaced: replaced.filter_map(|(row, _)| segment_of(self.tenant, row)).collect(),
            now,
            kept: settings.kept,
            rebuild,
        })
    }
}
