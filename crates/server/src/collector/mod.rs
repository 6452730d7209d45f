//! The collector: from subscriptions to commits, for every active tenant, all day or until everything is caught up with.
//!
//! Never loses its place: whatever it does is in the ledger before it is acknowledged, so stopping is dropping, at any
//! instant. Tenants come from the ledger and are noticed within seconds; records go to the archive; counts to [`Board`].

mod progress;

use std::future::Future;
use std::sync::Arc;

use archive::Archive;
use ledger::Ledger;
use protocol::ids::TenantId;

pub use progress::{Activity, Board, Counts, Ended, Progress, RunReport, TenantProgress, TenantReport};

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::transport::Transport;

/// What the collector works with.
pub struct CollectorParts {
    /// The way to Microsoft.
    pub transport: Arc<dyn Transport>,
    /// The durable state.
    pub ledger: Arc<dyn Ledger>,
    /// Where records go.
    pub archive: Archive,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// Collects. One per process and data folder: take an [`crate::instance::InstanceLock`] first.
pub struct Collector {
    settings: Arc<Settings>,
    parts: CollectorParts,
    board: Board,
}

/// Why a run could not begin. What goes wrong later is waited out and shown on the [`Board`].
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The ledger cannot say which tenants there are.
    #[error("the ledger cannot be read")]
    Ledger(#[from] ledger::LedgerError),
}

impl Collector {
    /// Puts the parts together; starts nothing.
    pub fn new(settings: Settings, parts: CollectorParts) -> Self {
        Self { settings: Arc::new(settings), parts, board: Board::default() }
    }

    /// What it is doing, as long as it runs and after.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Collects until `shutdown` completes.
    ///
    /// # Errors
    /// When the ledger cannot be read at the start.
    pub async fn run(&self, shutdown: impl Future<Output = ()> + Send) -> Result<RunReport, CollectError> {
        let _ = (&self.settings, &self.parts, shutdown);
        unreachable!("written next")
    }

    /// Catches up on everything available now, for the tenants named (all active ones when empty), then returns. What
    /// keeps failing is tried a bounded number of times and then reported; the next run tries again.
    ///
    /// # Errors
    /// When the ledger cannot be read at the start.
    pub async fn collect_once(
        &self,
        tenants: &[TenantId],
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<RunReport, CollectError> {
        let _ = tenants;
        self.run(shutdown).await
    }
}
