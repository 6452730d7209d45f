//! The collector: from subscriptions to commits, for every active tenant, all day or until everything is caught up with.
//!
//! Never loses its place: whatever it does is in the ledger before it is acknowledged, so stopping is dropping, at any
//! instant. Tenants come from the ledger and are noticed within seconds; records go to the archive; counts to [`Board`].

mod activation;
mod batch;
mod book;
mod committer;
mod context;
mod driver;
mod feed;
mod fetch;
mod housekeeping;
mod judge;
mod listing;
mod memory;
mod operator;
mod progress;
mod publishing;
mod purging;
mod reception;
pub mod segments;
mod sharing;
mod spool;
mod subscriptions;
mod supervisor;
mod uncollected;
mod webhooks;

use std::future::Future;
use std::sync::Arc;

use archive::Archive;
use ledger::Ledger;
use protocol::ids::TenantId;
use tokio::sync::mpsc;
use tokio::time::Instant;

pub use operator::{CompactError, Compacted, Keep, OperatorError, PublishError, Started, compact, publish};
pub use progress::{Activity, Board, Counts, Ended, Progress, RunReport, TenantProgress, TenantReport};
pub use purging::{PurgeError, purge};
pub use reception::Reception;
pub use sharing::{Held, Sharing};

use activation::Mode;
use context::Context;
use purging::Purges;
use supervisor::Supervisor;
use uncollected::Uncollected;

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::transport::Transport;
use crate::webhook::{KnownPaths, WebhookBase};

/// Hints that may wait to be looked at.
const WAKES: usize = 1024;

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
    context: Arc<Context>,
    wakes: (mpsc::Sender<TenantId>, tokio::sync::Mutex<mpsc::Receiver<TenantId>>),
}

/// What is to become of webhooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Webhooks {
    /// Nothing: whoever runs beside, or later, has one listening.
    LeaveAlone,
    /// Every subscription is to have one below this.
    Arm(WebhookBase),
    /// Those that were set before are to be taken off: nobody listens any more.
    TakeOff,
}

/// Tells the collector that contents were written down beside it.
#[derive(Debug, Clone)]
pub struct Waker {
    wakes: mpsc::Sender<TenantId>,
    board: Board,
    known_paths: Arc<KnownPaths>,
}

impl Waker {
    /// `new` contents of this tenant wait in the ledger. The wake-up is a hint, as with [`Collector::wake`].
    pub fn listed(&self, tenant: TenantId, new: u64) {
        self.board.update(tenant, |line| {
            line.counts.listed += new;
            line.pending += new;
        });
        let _ = self.wakes.try_send(tenant);
    }

    /// The paths of webhooks that the collector has given to the service.
    pub(crate) fn known_paths(&self) -> Arc<KnownPaths> {
        Arc::clone(&self.known_paths)
    }
}

/// Why a run could not begin. What goes wrong later is waited out and shown on the [`Board`].
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The ledger cannot say which tenants there are.
    #[error("the ledger cannot be read")]
    Ledger(#[from] ledger::LedgerError),
}

impl Collector {
    /// Puts the parts together; starts nothing. Polls alone, and leaves webhooks as they are.
    pub fn new(settings: Settings, parts: &CollectorParts) -> Self {
        Self::with_webhooks(settings, parts, Webhooks::LeaveAlone)
    }

    /// The same, with a say about webhooks.
    pub fn with_webhooks(settings: Settings, parts: &CollectorParts, webhooks: Webhooks) -> Self {
        Self::sharing(settings, parts, webhooks, None)
    }

    /// The same for one of several processes that share the ledger's tenants out among themselves.
    pub fn sharing(settings: Settings, parts: &CollectorParts, webhooks: Webhooks, sharing: Option<Sharing>) -> Self {
        let (sender, receiver) = mpsc::channel(WAKES);
        Self {
            context: Arc::new(Context::new(Arc::new(settings), parts, Board::default(), webhooks, sharing)),
            wakes: (sender, tokio::sync::Mutex::new(receiver)),
        }
    }

    /// What it is doing, as long as it runs and after.
    pub fn board(&self) -> &Board {
        &self.context.board
    }

    /// Something may be new for this tenant: it is looked at as soon as there is room. A hint, and lost when there are too
    /// many of them; the timer finds what it was about.
    pub fn wake(&self, tenant: TenantId) {
        let _ = self.wakes.0.try_send(tenant);
    }

    /// By which contents wait: our clock, unless the service's answers say that it is earlier. Who writes contents down beside
    /// the collector goes by it, or they would wait for a time that a wrong clock has shown.
    pub fn sure_clock(&self) -> Arc<dyn Clock> {
        Arc::new(self.context.sure_clock.clone())
    }

    /// For who writes contents down beside the collector.
    pub fn waker(&self) -> Waker {
        Waker {
            wakes: self.wakes.0.clone(),
            board: self.context.board.clone(),
            known_paths: Arc::clone(&self.context.known_paths),
        }
    }

    /// What the public site works with.
    pub fn reception(&self) -> Reception {
        Reception::new(Arc::clone(&self.context), self.wakes.0.clone())
    }

    /// Collects until `shutdown` completes.
    ///
    /// # Errors
    /// When the ledger cannot be read at the start.
    pub async fn run(&self, shutdown: impl Future<Output = ()> + Send) -> Result<RunReport, CollectError> {
        self.run_as(Mode::AllDay, &[], shutdown).await
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
        let mode = Mode::Once { since: self.context.clock.now(), began: Instant::now() };
        self.run_as(mode, tenants, shutdown).await
    }

    async fn run_as(
        &self,
        mode: Mode,
        only: &[TenantId],
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<RunReport, CollectError> {
        // Two runs of one collector at a time would be two owners of a tenant.
        let mut wakes = self.wakes.1.lock().await;
        let (keeper, holder) = match &self.context.sharing {
            Some(sharing) => {
                let (keeper, holder) = sharing::pair(sharing.clone(), self.waker(), self.reception());
                (Some(keeper), Some(holder))
            }
            None => (None, None),
        };
        let mut supervisor = Supervisor::new(Arc::clone(&self.context), mode, only, holder);
        let stopped = tokio::select! {
            biased;
            stopped = supervisor.run(&mut wakes, shutdown) => stopped?,
            never = self.context.keyring.watch() => match never {},
            never = keep(keeper) => match never {},
            never = Uncollected::default().all_day(&self.context), if !mode.ends() => match never {},
            never = Purges::default().all_day(&self.context), if !mode.ends() => match never {},
        };
        if mode.ends() && !stopped && only.is_empty() {
            let kept = Uncollected::default().once(&self.context, self.context.grace(true)).await;
            if let Err(error) = kept {
                // The next run does it; what was collected is collected.
                tracing::warn!(error = crate::chain(&error), "retention of tenants that are not collected waits");
            }
        }
        if mode.ends() && !stopped {
            Purges::default().once(&self.context, chrono::TimeDelta::zero()).await;
        }
        if let Some(sharing) = &self.context.sharing {
            // The keeper has gone by now, so nothing is taken after this.
            sharing.leave().await;
        }
        Ok(RunReport {
            ended: if stopped { Ended::Stopped } else { Ended::CaughtUp },
            tenants: supervisor.reports(),
            problem: self.context.board.snapshot_problem(),
        })
    }
}

async fn keep(keeper: Option<sharing::Keeper>) -> std::convert::Infallible {
    match keeper {
        Some(keeper) => keeper.run().await,
        None => std::future::pending().await,
    }
}
