//! What all tenants' workers share: the parts, the limits, and the word on what stands in everybody's way.
//!
//! Never holds a tenant's state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use archive::Archive;
use engine::lease::{Epoch, Lease};
use engine::model::Problem;
use engine::problem::ProblemKind;
use ledger::Ledger;
use protocol::ids::TenantId;
use tokio::sync::Semaphore;

use super::feed::Shared;
use super::fetch::{LARGE_ELEMENTS, PIECE_BYTES};
use super::housekeeping::Grace;
use super::progress::Board;
use super::sharing::Sharing;
use super::{CollectorParts, Webhooks};
use crate::clock::{Clock, ServerClock, SureClock};
use crate::credential::keyring::{Keyring, KeyringParts};
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::tokens::TokenManager;
use crate::webhook::KnownPaths;

/// What a tenant's finished work proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// The ledger works.
    Ledger,
    /// The ledger and the tokens work.
    Round,
    /// So does the archive.
    Commit,
}

/// What a tenant's worker works with: what it shares with all others of this collector, and a ledger and an archive, which are
/// the tenant's own where tenants are shared out among processes.
pub(super) struct Context {
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) archive: Archive,
    common: Arc<Common>,
}

/// Shared by all workers of one collector.
pub(super) struct Common {
    pub(super) settings: Arc<Settings>,
    pub(super) clock: Arc<dyn Clock>,
    /// By which windows are cut and listed, contents wait for their next attempt, and what is kept grows old.
    pub(super) sure_clock: SureClock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) board: Board,
    /// The app's credentials.
    pub(super) keyring: Arc<Keyring>,
    pub(super) requests: Shared,
    /// Commits being written.
    pub(super) commit_slots: Semaphore,
    /// Merges being written: one, for each takes as much memory as several commits, and none is in a hurry.
    pub(super) merge_slot: Semaphore,
    /// Blobs being fetched.
    pub(super) fetch_slots: Semaphore,
    /// Bytes that have left the network and are not yet written.
    pub(super) memory: Arc<Semaphore>,
    /// How many of them there may be.
    pub(super) memory_total: usize,
    pub(super) webhooks: Webhooks,
    /// Where the service may call.
    pub(super) known_paths: Arc<KnownPaths>,
    /// Tenants that have consented since their worker last looked.
    renewed: Mutex<BTreeSet<TenantId>>,
    /// Elements that are large and not complete yet.
    pub(super) large_elements: Semaphore,
    /// How tenants are come by, where they are shared out among processes.
    pub(super) sharing: Option<Sharing>,
    /// Those that are held, then.
    pub(super) holding: Mutex<BTreeMap<TenantId, Lease>>,
}

impl std::ops::Deref for Context {
    type Target = Common;

    fn deref(&self) -> &Common {
        &self.common
    }
}

impl Context {
    pub(super) fn new(
        settings: Arc<Settings>,
        parts: &CollectorParts,
        board: Board,
        webhooks: Webhooks,
        sharing: Option<Sharing>,
    ) -> Self {
        let limits = &settings.limits;
        // Each blob under way may keep a piece while it waits for more; were that all there is, all would wait forever.
        let memory_total =
            limits.bytes_in_flight.max(2 * limits.fetches.max(1) * PIECE_BYTES).min(Semaphore::MAX_PERMITS);
        let server_clock = Arc::new(ServerClock::new(Arc::clone(&parts.clock)));
        let keyring = Arc::new(Keyring::open(
            &settings.app.credentials,
            KeyringParts {
                transport: Arc::clone(&parts.transport),
                clock: Arc::clone(&server_clock),
                metrics: Arc::clone(&parts.metrics),
                board: board.clone(),
                audience: settings.cloud.token_exchange_audience(),
            },
        ));
        let tokens = TokenManager::new(
            Arc::clone(&settings),
            Arc::clone(&keyring),
            Arc::clone(&parts.transport),
            Arc::clone(&server_clock),
            Arc::clone(&parts.metrics),
        );
        let common = Common {
            clock: Arc::clone(&parts.clock),
            sure_clock: SureClock(server_clock),
            metrics: Arc::clone(&parts.metrics),
            board,
            keyring,
            requests: Shared {
                settings: Arc::clone(&settings),
                transport: Arc::clone(&parts.transport),
                tokens,
                metrics: Arc::clone(&parts.metrics),
            },
            commit_slots: Semaphore::new(limits.commits.max(1)),
            merge_slot: Semaphore::new(1),
            fetch_slots: Semaphore::new(limits.fetches.max(1)),
            memory: Arc::new(Semaphore::new(memory_total)),
            memory_total,
            webhooks,
            known_paths: Arc::default(),
            renewed: Mutex::default(),
            large_elements: Semaphore::new(LARGE_ELEMENTS),
            settings,
            sharing,
            holding: Mutex::default(),
        };
        Self { ledger: Arc::clone(&parts.ledger), archive: parts.archive.clone(), common: Arc::new(common) }
    }

    /// For who works under this lease.
    pub(super) fn under(&self, lease: Lease) -> Self {
        let ledger =
            self.sharing.as_ref().map_or_else(|| Arc::clone(&self.ledger), |sharing| sharing.workers.under(lease));
        let archive = self.archive.under(lease.epoch.0);
        Self { ledger, archive, common: Arc::clone(&self.common) }
    }

    /// For who works on a tenant that nobody else ever takes: its files bear its row's epoch.
    pub(super) fn at(&self, epoch: Epoch) -> Self {
        let (ledger, archive) = (Arc::clone(&self.ledger), self.archive.under(epoch.0));
        Self { ledger, archive, common: Arc::clone(&self.common) }
    }

    /// When obsolete files go; `ends`: this run looks no other time.
    pub(super) fn grace(&self, ends: bool) -> Grace {
        if ends && self.sharing.is_none() { Grace::None } else { Grace::For(self.settings.limits.obsolete_grace) }
    }

    /// Ledger and archive to write what is this tenant's; `None` when the tenant is another process's.
    pub(super) fn own(&self, tenant: TenantId) -> Option<(Arc<dyn Ledger>, Archive)> {
        if self.sharing.is_none() {
            return Some((Arc::clone(&self.ledger), self.archive.clone()));
        }
        let lease = self.holding.lock().unwrap_or_else(PoisonError::into_inner).get(&tenant).copied()?;
        let own = self.under(lease);
        Some((own.ledger, own.archive))
    }
}

impl Common {
    /// A tenant has consented: what its worker has been waiting for may have come.
    pub(super) fn renew(&self, tenant: TenantId) {
        self.renewed.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant);
    }

    /// Whether it has, since this was last asked.
    pub(super) fn take_renewed(&self, tenant: TenantId) -> bool {
        self.renewed.lock().unwrap_or_else(PoisonError::into_inner).remove(&tenant)
    }

    /// Something that all tenants need does not work: said once in the log, and on the board until it works again.
    pub(super) fn everybody_waits(&self, kind: &'static str, error: &(dyn std::error::Error + 'static)) {
        let message = crate::chain(error);
        self.metrics.error(kind);
        let before = self.board.snapshot_problem();
        if before.as_ref().is_some_and(|before| before.kind == kind && before.message == message) {
            return;
        }
        tracing::error!(kind, error = message, "collection waits");
        let since = before.filter(|before| before.kind == kind).map_or_else(|| self.clock.now(), |before| before.since);
        self.board.set_problem(Some(Problem { kind: kind.to_owned(), message, since, next_attempt_at: None }));
    }

    /// What was in everybody's way is gone, as far as a tenant's finished work, or the ledger's answer, can tell.
    pub(super) fn everybody_goes_on(&self, proof: Proof) {
        let Some(problem) = self.board.snapshot_problem() else { return };
        let is_of = |kind: ProblemKind| problem.kind == kind.as_str();
        let is_over = if is_of(ProblemKind::DiskFull) || is_of(ProblemKind::ArchiveUnavailable) {
            proof == Proof::Commit
        } else if [ProblemKind::LedgerLocked, ProblemKind::LedgerUnreachable, ProblemKind::LedgerUnusable]
            .into_iter()
            .any(is_of)
        {
            true
        } else {
            proof != Proof::Ledger && !self.requests.tokens.has_app_fault()
        };
        if !is_over {
            return;
        }
        tracing::info!(kind = problem.kind, "collection goes on");
        self.board.set_problem(None);
    }
}
