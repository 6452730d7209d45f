//! Whose turn it is: starts a tenant's activation when it is due or woken, joins it when it ends, and notices tenants that
//! were added, paused, resumed or removed by other processes.
//!
//! Never does a tenant's work and never loses a task: each activation is registered under its tenant, joined, and, when it
//! dies of a bug, noted and started again later. Wake-ups carry no data; an activation reads the ledger anew each time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use engine::hindrance::AT_WORK_EVERY;
use engine::model::{Tenant, TenantState};
use engine::problem::ProblemKind;
use engine::retry::ONCE_ATTEMPTS;
use protocol::ids::TenantId;
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tracing::Instrument;

use super::CollectError;
use super::activation::{Mode, Next, Worker};
use super::context::{Context, Proof};
use super::judge;
use super::progress::TenantReport;

/// After a bug ended an activation, the tenant waits this long: soon enough to recover from a passing one, seldom enough
/// not to spin on a lasting one.
const AFTER_BUG: Duration = Duration::from_secs(60);

/// Runs the activations of all tenants.
pub(super) struct Supervisor {
    context: Arc<Context>,
    mode: Mode,
    /// Only these; all when empty.
    only: Vec<TenantId>,
    entries: BTreeMap<TenantId, Entry>,
    /// Who is to start when, the next first.
    due: BTreeSet<(Instant, TenantId)>,
    running: JoinSet<(TenantId, Next)>,
    names: HashMap<Id, TenantId>,
    revision: u64,
    /// When it was last noted that we are at work.
    noted_at_work: Option<Instant>,
    /// How often in a row the ledger could not say who is there.
    looks_failed: u32,
}

/// One tenant under supervision.
struct Entry {
    worker: Arc<Worker>,
    state: State,
    /// Somebody asked for an activation while one was under way.
    woken: bool,
    /// Seen active while an activation was under way, which may have found it paused before that.
    resumed: bool,
}

enum State {
    /// Starts at this time.
    Due(Instant),
    /// Under way; the sender tells it to stop.
    Running(watch::Sender<bool>),
    /// Nothing more to do in this run.
    Done,
}

/// What can happen.
enum Event {
    Shutdown,
    LookForTenants,
    Ended(Result<(Id, (TenantId, Next)), JoinError>),
    StartOne,
    Wake(TenantId),
}

impl Supervisor {
    pub(super) fn new(context: Arc<Context>, mode: Mode, only: &[TenantId]) -> Self {
        Self {
            context,
            mode,
            only: only.to_vec(),
            entries: BTreeMap::new(),
            due: BTreeSet::new(),
            running: JoinSet::new(),
            names: HashMap::new(),
            revision: 0,
            noted_at_work: None,
            looks_failed: 0,
        }
    }

    /// Runs until `shutdown`, or until there is nothing left to do in a run that ends by itself. Says whether it was told
    /// to stop.
    pub(super) async fn run(
        &mut self,
        wakes: &mut mpsc::Receiver<TenantId>,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<bool, CollectError> {
        let mut shutdown = pin!(shutdown);
        self.note_at_work().await;
        let mut look = tokio::time::interval(self.context.settings.limits.tenants_interval);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        look.tick().await;
        self.look_for_tenants().await?;
        loop {
            if self.mode.ends() && self.is_done() {
                return Ok(false);
            }
            let next_start = self.next_start();
            let event = tokio::select! {
                biased;
                () = &mut shutdown => Event::Shutdown,
                Some(ended) = self.running.join_next_with_id() => Event::Ended(ended),
                _ = look.tick() => Event::LookForTenants,
                Some(tenant) = wakes.recv() => Event::Wake(tenant),
                () = sleep_until(next_start) => Event::StartOne,
            };
            match event {
                Event::Shutdown => {
                    self.stop_all().await;
                    return Ok(true);
                }
                Event::LookForTenants => {
                    self.look_again().await;
                    self.note_at_work().await;
                    self.count();
                }
                Event::Ended(ended) => self.ended(ended),
                Event::StartOne => self.start_one(),
                Event::Wake(tenant) => {
                    // Whoever wakes a tenant may have added it a moment ago; the next tick finds what this look cannot.
                    if !self.entries.contains_key(&tenant)
                        && let Err(error) = self.look_for_tenants().await
                    {
                        tracing::debug!(%tenant, %error, "the ledger cannot say who has come");
                    }
                    self.wake(tenant);
                }
            }
        }
    }

    /// What each tenant's run has left undone, by tenant id.
    pub(super) fn reports(&self) -> Vec<TenantReport> {
        let mut reports: Vec<_> =
            self.entries.values().filter_map(|entry| entry.worker.report(&self.context)).collect();
        reports.sort_by_key(|report| report.progress.tenant);
        reports
    }

    /// Whether a run that ends by itself has ended. A ledger that was busy when it was last asked who is there is asked once
    /// more, lest the run ends with a trouble that is over.
    fn is_done(&self) -> bool {
        let asks_again = (1..ONCE_ATTEMPTS).contains(&self.looks_failed);
        self.running.is_empty() && self.due.is_empty() && !asks_again
    }

    /// Looks for tenants now and then. A ledger that is busy now is asked again at the next tick, and what it was said to be
    /// is taken back as soon as it answers and takes what is written: a tenant's own work may be an hour away.
    async fn look_again(&mut self) {
        match self.look_for_tenants().await {
            Err(error) => {
                self.looks_failed = self.looks_failed.saturating_add(1);
                let kind = judge::kind_of_ledger_error(&error).unwrap_or(ProblemKind::LedgerUnusable);
                self.context.everybody_waits(kind.as_str(), &error);
            }
            Ok(()) if self.looks_failed == 0 => {}
            // Who holds the ledger does not keep others from reading it.
            Ok(()) => match self.context.ledger.at_work(self.context.clock.now()).await {
                Ok(()) => {
                    self.looks_failed = 0;
                    self.noted_at_work = Some(Instant::now());
                    self.context.everybody_goes_on(Proof::Ledger);
                }
                Err(error) => {
                    self.looks_failed = self.looks_failed.saturating_add(1);
                    tracing::debug!(%error, "the ledger answers, and takes nothing yet");
                }
            },
        }
    }

    /// When the next activation may start; `None` when none is due or all places are taken.
    fn next_start(&self) -> Option<Instant> {
        if self.running.len() >= self.context.settings.limits.tenants.max(1) {
            return None;
        }
        self.due.first().map(|(at, _)| *at)
    }

    fn start_one(&mut self) {
        let Some((_, tenant)) = self.due.pop_first() else { return };
        let Some(entry) = self.entries.get_mut(&tenant) else { return };
        let (stop, stopped) = watch::channel(false);
        entry.state = State::Running(stop);
        (entry.woken, entry.resumed) = (false, false);
        let (worker, context, mode) = (Arc::clone(&entry.worker), Arc::clone(&self.context), self.mode);
        let span = tracing::debug_span!("activation", %tenant);
        let work = async move { (tenant, worker.activate(&context, mode, stopped).await) };
        let handle = self.running.spawn(work.instrument(span));
        self.names.insert(handle.id(), tenant);
    }

    fn ended(&mut self, ended: Result<(Id, (TenantId, Next)), JoinError>) {
        let (tenant, next) = match ended {
            Ok((id, (tenant, next))) => {
                self.names.remove(&id);
                (tenant, next)
            }
            Err(error) => {
                let Some(tenant) = self.names.remove(&error.id()) else { return };
                tracing::error!(%tenant, %error, "an activation ended by a bug");
                self.context.metrics.error("bug");
                (tenant, if self.mode.ends() { Next::Done } else { Next::At(Instant::now() + AFTER_BUG) })
            }
        };
        let Some(entry) = self.entries.get_mut(&tenant) else { return };
        let next = if matches!(next, Next::Gone) && entry.resumed { Next::At(Instant::now()) } else { next };
        match next {
            Next::Gone => {
                self.entries.remove(&tenant);
                self.context.board.dismiss(tenant);
                self.context.requests.tokens.forget(tenant);
            }
            Next::Done => entry.state = State::Done,
            Next::At(at) => {
                let at = if entry.woken { Instant::now() } else { at };
                entry.state = State::Due(at);
                self.due.insert((at, tenant));
            }
        }
    }

    fn wake(&mut self, tenant: TenantId) {
        let Some(entry) = self.entries.get_mut(&tenant) else { return };
        match entry.state {
            State::Due(at) => {
                let now = Instant::now();
                if at > now {
                    self.due.remove(&(at, tenant));
                    self.due.insert((now, tenant));
                    entry.state = State::Due(now);
                }
            }
            State::Running(_) => {
                entry.woken = true;
                entry.worker.nudge();
            }
            State::Done => {}
        }
    }

    /// Reads which tenants have changed, and acts on what an operator changed.
    async fn look_for_tenants(&mut self) -> Result<(), ledger::LedgerError> {
        let (revision, mut tenants) = self.context.ledger.tenants_since(self.revision).await?;
        tenants.retain(|tenant| self.only.is_empty() || self.only.contains(&tenant.id));
        let is_new: Vec<bool> = tenants
            .iter()
            .map(|tenant| tenant.state == TenantState::Active && !self.entries.contains_key(&tenant.id))
            .collect();
        let fleet = self.entries.len() + is_new.iter().filter(|is_new| **is_new).count();
        self.context.requests.tokens.expect_tenants(fleet);
        // Each needs a token first. Those that come together take their turns instead of standing in one queue, where they
        // would hold the places of tenants that have one.
        let (pace, now, mut number) = (engine::token::pace(fleet), Instant::now(), 0);
        for (tenant, is_new) in tenants.iter().zip(is_new) {
            let first = now + engine::token::first_turn(number, pace);
            number += usize::from(is_new);
            self.tenant_changed(tenant, first);
        }
        self.revision = revision;
        Ok(())
    }

    /// `first` is when a tenant that is not here yet begins.
    fn tenant_changed(&mut self, tenant: &Tenant, first: Instant) {
        let active = tenant.state == TenantState::Active;
        if active {
            self.context.board.enrol(tenant.id, &tenant.label, tenant.problem.clone());
        }
        match (self.entries.get_mut(&tenant.id), active) {
            (None, true) => {
                // A run that ends by itself takes the tenants there are when it begins; late ones are the next run's.
                let worker = Arc::new(Worker::new(tenant.id, &self.context));
                self.entries
                    .insert(tenant.id, Entry { worker, state: State::Due(first), woken: false, resumed: false });
                self.due.insert((first, tenant.id));
            }
            (Some(entry), false) => match &mut entry.state {
                // It ends at the next safe point, is due again, finds itself paused, and is dismissed then.
                State::Running(stop) => {
                    entry.resumed = false;
                    stop.send_replace(true);
                }
                State::Due(at) => {
                    self.due.remove(&(*at, tenant.id));
                    self.entries.remove(&tenant.id);
                    self.context.board.dismiss(tenant.id);
                    self.context.requests.tokens.forget(tenant.id);
                }
                State::Done => {}
            },
            (Some(entry), true) => entry.resumed = true,
            (None, false) => {}
        }
    }

    /// Tells every activation to stop, and waits as long as the grace allows. What is dropped after it is fetched again.
    async fn stop_all(&mut self) {
        for entry in self.entries.values() {
            if let State::Running(stop) = &entry.state {
                stop.send_replace(true);
            }
        }
        let grace = self.context.settings.limits.stop_grace;
        let drained = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, drained).await.is_err() {
            tracing::warn!(tenants = self.running.len(), "stopped without waiting any longer; nothing is lost");
            self.running.shutdown().await;
        }
    }

    /// Once in a while, so that an outage can be told from what stood in the way while we were here. A ledger that cannot
    /// take it is asked again soon, and says to everybody else what is wrong with it.
    async fn note_at_work(&mut self) {
        if self.noted_at_work.is_some_and(|noted| noted.elapsed() < AT_WORK_EVERY) {
            return;
        }
        match self.context.ledger.at_work(self.context.clock.now()).await {
            Ok(()) => self.noted_at_work = Some(Instant::now()),
            Err(error) => tracing::debug!(%error, "it could not be noted that the collector is at work"),
        }
    }

    fn count(&self) {
        let progress = self.context.board.snapshot();
        self.context.metrics.tenants(&progress, self.running.len());
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
