//! Whose turn it is: starts a tenant's activation when it is due or woken, joins it when it ends, and notices tenants that
//! were added, paused, resumed or removed by other processes.
//!
//! Never does a tenant's work and never loses a task: each activation is registered under its tenant, joined, and, when it
//! dies of a bug, noted and started again later. Wake-ups carry no data; an activation reads the ledger anew each time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use engine::hindrance::AT_WORK_EVERY;
use engine::lease::{Epoch, Lease, to_give_back};
use engine::model::{Tenant, TenantState};
use engine::problem::ProblemKind;
use engine::retry::ONCE_ATTEMPTS;
use protocol::ids::TenantId;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::Instant;
use tracing::Instrument;

use super::CollectError;
use super::activation::{Mode, Next, Worker};
use super::context::{Context, Proof};
use super::judge;
use super::progress::TenantReport;
use super::sharing::{Holder, Standing, Word};

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
    /// Where tenants are shared out among processes.
    holder: Option<Holder>,
    /// All tenants there are, then: one that is taken is not read again.
    known: BTreeMap<TenantId, Tenant>,
}

/// One tenant under supervision.
struct Entry {
    worker: Arc<Worker>,
    context: Arc<Context>,
    /// That of the tenant's row when this began: another one is another tenant, which has come back after a purge.
    epoch: Epoch,
    state: State,
    /// Ends what is under way at once.
    abort: Option<AbortHandle>,
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
    Heard(Word),
    Distrust,
    Ended(Result<(Id, (TenantId, Next)), JoinError>),
    StartOne,
    Wake(TenantId),
}

impl Supervisor {
    pub(super) fn new(context: Arc<Context>, mode: Mode, only: &[TenantId], holder: Option<Holder>) -> Self {
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
            holder,
            known: BTreeMap::new(),
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
                word = hear(&mut self.holder) => word,
                Some(ended) = self.running.join_next_with_id() => Event::Ended(ended),
                _ = look.tick() => Event::LookForTenants,
                Some(tenant) = wakes.recv() => Event::Wake(tenant),
                () = sleep_until(next_start) => Event::StartOne,
            };
            match event {
                Event::Shutdown => {
                    if let Some(holder) = &mut self.holder {
                        // Nothing more is taken.
                        holder.words.close();
                    }
                    self.stop_all().await;
                    return Ok(true);
                }
                Event::Heard(Word::Standing(standing)) => self.heard(&standing),
                Event::Heard(Word::Look) => self.look_again().await,
                Event::Distrust => {
                    tracing::error!("the ledger has not confirmed in time what is held: all tenants are let go");
                    // Given back even if nobody has taken them: what is dropped here may still reach the ledger, and must not
                    // be taken there for the word of who begins with them again.
                    for tenant in self.holding().into_keys() {
                        self.let_go(tenant);
                    }
                    if let Some(holder) = &mut self.holder {
                        holder.trusted_until = None;
                    }
                }
                Event::LookForTenants => {
                    self.look_again().await;
                    self.note_at_work().await;
                    self.count();
                }
                Event::Ended(ended) => self.ended(ended),
                Event::StartOne => self.start_one(),
                Event::Wake(tenant) => {
                    // Whoever wakes a tenant may have added it a moment ago; the next tick finds what this look cannot. What
                    // another process has is not looked at.
                    if !self.entries.contains_key(&tenant) && !self.known.contains_key(&tenant) {
                        if let Err(error) = self.look_for_tenants().await {
                            tracing::debug!(%tenant, %error, "the ledger cannot say who has come");
                        }
                        self.holder.iter().for_each(Holder::call);
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
        let has_all = self.holder.as_ref().is_none_or(|holder| holder.is_everything);
        self.running.is_empty() && self.due.is_empty() && !asks_again && has_all
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
        let (worker, context, mode) = (Arc::clone(&entry.worker), Arc::clone(&entry.context), self.mode);
        let span = tracing::debug_span!("activation", %tenant);
        let work = async move { (tenant, worker.activate(&context, mode, stopped).await) };
        let handle = self.running.spawn(work.instrument(span));
        self.names.insert(handle.id(), tenant);
        entry.abort = Some(handle);
    }

    fn ended(&mut self, ended: Result<(Id, (TenantId, Next)), JoinError>) {
        let (tenant, next) = match ended {
            Ok((id, (tenant, next))) => {
                // One that was dropped meanwhile has nothing to say: the tenant is another's, or begun with anew.
                let Some(_) = self.names.remove(&id) else { return };
                (tenant, next)
            }
            Err(error) => {
                let Some(tenant) = self.names.remove(&error.id()) else { return };
                tracing::error!(%tenant, %error, "an activation ended by a bug");
                self.context.metrics.error("bug");
                (tenant, if self.mode.ends() { Next::Done } else { Next::At(Instant::now() + AFTER_BUG) })
            }
        };
        if self.holder.as_ref().is_some_and(|holder| holder.leaving.contains(&tenant)) {
            return self.let_go(tenant);
        }
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
        if self.holder.is_some() {
            self.known.extend(tenants.iter().map(|tenant| (tenant.id, tenant.clone())));
            let holding = self.holding();
            tenants.retain(|tenant| holding.contains_key(&tenant.id));
        }
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

    fn holding(&self) -> BTreeMap<TenantId, Lease> {
        self.context.holding.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The ledger has said what we hold, and what is too much.
    fn heard(&mut self, word: &Standing) {
        let Some(holder) = &mut self.holder else { return };
        let held = holder.held(word);
        for entry in self.hold_only(&held) {
            // Nobody waits for it, but the end of the run.
            self.running.spawn(async move {
                let tenant = entry.worker.leave_to_others(&entry.context).await;
                (tenant, Next::Gone)
            });
        }
        let Some(holder) = &mut self.holder else { return };
        holder.trusted_until = Some(word.trusted_until);
        holder.is_everything = word.is_everything;
        let many = word.give_back.saturating_sub(holder.on_the_way());
        let is_busy =
            |tenant: &TenantId| self.entries.get(tenant).is_some_and(|entry| matches!(entry.state, State::Running(_)));
        let staying = held.iter().filter(|lease| !holder.leaving.contains(&lease.tenant));
        let going = to_give_back(staying.map(|lease| (*lease, is_busy(&lease.tenant))).collect(), many);
        for lease in going {
            if let Some(holder) = &mut self.holder {
                holder.leaving.insert(lease.tenant);
            }
            match self.entries.get(&lease.tenant).map(|entry| &entry.state) {
                Some(State::Running(stop)) => {
                    stop.send_replace(true);
                }
                _ => self.let_go(lease.tenant),
            }
        }
    }

    /// Whatever is not among these is let go at this instant: another may have it. What is new is begun with. Returns what was
    /// let go.
    fn hold_only(&mut self, held: &[Lease]) -> Vec<Entry> {
        let held: BTreeMap<TenantId, Lease> = held.iter().map(|lease| (lease.tenant, *lease)).collect();
        let before =
            std::mem::replace(&mut *self.context.holding.lock().unwrap_or_else(PoisonError::into_inner), held.clone());
        let mut dropped = Vec::new();
        for (tenant, _) in before.iter().filter(|(tenant, lease)| held.get(tenant) != Some(*lease)) {
            dropped.extend(self.drop_tenant(*tenant));
            if let Some(holder) = &mut self.holder {
                holder.leaving.remove(tenant);
            }
        }
        let new: Vec<Tenant> = held
            .iter()
            .filter(|(tenant, lease)| before.get(tenant) != Some(*lease))
            .filter_map(|(tenant, _)| self.known.get(tenant).cloned())
            .filter(|tenant| self.only.is_empty() || self.only.contains(&tenant.id))
            .collect();
        let fleet = self.entries.len() + new.len();
        self.context.requests.tokens.expect_tenants(fleet);
        let (pace, now) = (engine::token::pace(fleet), Instant::now());
        for (number, tenant) in new.iter().enumerate() {
            self.tenant_changed(tenant, now + engine::token::first_turn(number, pace));
        }
        dropped
    }

    /// Nothing of this tenant is under way any more; others may have it.
    fn let_go(&mut self, tenant: TenantId) {
        self.drop_tenant(tenant);
        let lease = self.context.holding.lock().unwrap_or_else(PoisonError::into_inner).remove(&tenant);
        if let (Some(holder), Some(lease)) = (&mut self.holder, lease) {
            holder.let_go(lease);
        }
    }

    /// Forgets a tenant at once: dropping is as safe as stopping.
    fn drop_tenant(&mut self, tenant: TenantId) -> Option<Entry> {
        let entry = self.entries.remove(&tenant)?;
        match &entry.state {
            State::Due(at) => {
                self.due.remove(&(*at, tenant));
            }
            State::Running(stop) => {
                // What works on another thread is told to stop, since it cannot be dropped.
                stop.send_replace(true);
                let task = self.names.iter().find(|(_, name)| **name == tenant).map(|(id, _)| *id);
                if let Some(task) = task {
                    self.names.remove(&task);
                }
                if let Some(abort) = &entry.abort {
                    abort.abort();
                }
            }
            State::Done => {}
        }
        self.context.board.dismiss(tenant);
        self.context.requests.tokens.forget(tenant);
        Some(entry)
    }

    /// `first` is when a tenant that is not here yet begins.
    fn tenant_changed(&mut self, tenant: &Tenant, first: Instant) {
        let active = tenant.state == TenantState::Active;
        if self.holder.is_none() && self.entries.get(&tenant.id).is_some_and(|entry| entry.epoch != tenant.epoch) {
            self.drop_tenant(tenant.id);
        }
        if active {
            self.context.board.enrol(tenant.id, &tenant.label, tenant.problem.clone());
        }
        match (self.entries.get_mut(&tenant.id), active) {
            (None, true) => {
                // A run that ends by itself takes the tenants there are when it begins; late ones are the next run's.
                let lease =
                    self.context.holding.lock().unwrap_or_else(PoisonError::into_inner).get(&tenant.id).copied();
                let context = Arc::new(match lease {
                    Some(lease) => self.context.under(lease),
                    None => self.context.at(tenant.epoch),
                });
                let worker = Arc::new(Worker::new(tenant.id, &context));
                let state = State::Due(first);
                let epoch = tenant.epoch;
                let entry = Entry { worker, context, epoch, state, abort: None, woken: false, resumed: false };
                self.entries.insert(tenant.id, entry);
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

/// What the keeper says, or that it has been silent for too long. For ever, where there is none.
async fn hear(holder: &mut Option<Holder>) -> Event {
    let Some(holder) = holder else { return std::future::pending().await };
    let (words, until) = (&mut holder.words, holder.trusted_until);
    // A word that waits was said before the time was over, and is looked at first.
    tokio::select! {
        biased;
        Some(word) = words.recv() => Event::Heard(word),
        () = sleep_until(until) => Event::Distrust,
    }
}
