//! One tenant's turn: state read anew, files made clean, subscriptions looked after, then listing, fetching and committing
//! side by side, then merging. The same every time, whoever woke it: timer, signal, restart.
//!
//! Never takes input and never keeps what matters in memory. Cancellation points lie between ledger transactions: what is
//! dropped there is in the ledger as it was, and done again.

mod standing;
mod trouble;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;
use engine::model::{CommitNumber, Subscription, Tenant, TenantState};
use engine::retry::Patience;
use engine::tile::Schedule;
use ledger::LedgerError;
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;

pub(super) use standing::judge_request;

use super::committer::{CommitFailure, Committer, InFlight, PIECES};
use super::context::{Context, Proof};
use super::driver::{Driver, End, Work};
use super::feed::{Budget, Client};
use super::housekeeping::{FOLD_EVERY, House};
use super::memory::Memory;
use super::progress::{Activity, TenantReport};
use super::publishing::Publishing;
use super::purging::carry_out;
use crate::clock::Clock;

/// How often rounds follow each other within one activation because subscriptions had to be looked at anew.
const RESUBSCRIPTIONS: u32 = 3;

/// A tenant with nothing to list is looked at this often, or as often as it is polled if that is rarer: somebody may have
/// enabled something.
const NOTHING_TO_LIST: Duration = Duration::from_secs(5 * 60);

/// Between two activations of a tenant that nothing has woken: whatever says that something is due at once, over and over,
/// must not keep a processor busy.
const REST: Duration = Duration::from_secs(1);

/// More losses than this in one run are not told apart from so many.
const LOSSES_COUNTED: u32 = 100_000;

/// All day, or until everything is caught up with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// All day.
    AllDay,
    /// Everything available now, once.
    Once {
        /// When the run began, by our clock.
        since: Timestamp,
        /// The same moment, by a clock that nobody sets.
        began: Instant,
    },
}

/// When the tenant's next activation is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Then, unless something wakes it before.
    At(Instant),
    /// Not in this run.
    Done,
    /// It is not collected any more.
    Gone,
}

/// How a round ended.
enum Round {
    Gone,
    /// Nothing is left to do for so long.
    Idle(Duration),
    /// Held up, by what [`Memory::hold`] says.
    Held,
    Stopped,
}

/// One tenant's worker; it outlives its activations.
pub(super) struct Worker {
    tenant: TenantId,
    budget: Budget,
    /// Whoever works on the tenant's files holds this.
    files: Arc<tokio::sync::Mutex<()>>,
    /// Whoever reads an element that is large holds this.
    large_element: Semaphore,
    memory: Mutex<Memory>,
    publishing: Publishing,
    /// Contents were written down by somebody else while an activation was under way.
    nudge: tokio::sync::Notify,
}

impl Mode {
    /// Whether the run ends by itself.
    pub(super) fn ends(self) -> bool {
        matches!(self, Self::Once { .. })
    }

    /// What is to be listed at `now` of the clock that windows are listed by. That clock may be set right in the middle of
    /// a run, and the run's beginning with it.
    pub(super) fn listing(self, now: Timestamp) -> engine::tile::Mode {
        match self {
            Self::AllDay => engine::tile::Mode::AllDay,
            Self::Once { began, .. } => {
                engine::tile::Mode::CatchUp { since: engine::time::earlier(now, began.elapsed()) }
            }
        }
    }

    pub(super) fn patience(self, failures: u32) -> Patience {
        match self {
            Self::AllDay => Patience::AllDay,
            Self::Once { .. } => Patience::Once { failures },
        }
    }

    /// The time to ask the ledger for pending contents with: who waits for the end of a run does not wait for the hour
    /// that an earlier run had set for the next attempt.
    pub(super) fn pending_at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::AllDay => now,
            Self::Once { .. } => now.checked_add_signed(TimeDelta::days(30)).unwrap_or(now),
        }
    }
}

impl Worker {
    pub(super) fn new(tenant: TenantId, context: &Context) -> Self {
        Self {
            tenant,
            budget: Budget::new(context.settings.collect.requests_per_minute),
            files: Arc::default(),
            large_element: Semaphore::new(1),
            memory: Mutex::default(),
            publishing: Publishing::default(),
            nudge: tokio::sync::Notify::new(),
        }
    }

    /// An activation that is under way looks for new contents at once.
    pub(super) fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// Does what is to be done, and says when to come back.
    pub(super) async fn activate(&self, context: &Context, mode: Mode, stop: watch::Receiver<bool>) -> Next {
        // Taken out, and put back at the end: an activation that dies leaves none, and the next begins like a restart.
        let mut memory = std::mem::take(&mut *self.lock());
        memory.wake_by = None;
        self.show_activity(context, Activity::Working);
        let next = self.rounds(context, mode, stop, &mut memory).await;
        memory.once.lost = self.lost_in_run(context, mode).await;
        let activity = if next == Next::Done { Activity::Done } else { Activity::Idle };
        self.show_activity(context, activity);
        *self.lock() = memory;
        next
    }

    /// How many contents a run that ends has given up. What was listed once more afterwards waits again, and is not one.
    async fn lost_in_run(&self, context: &Context, mode: Mode) -> u64 {
        let Mode::Once { since, .. } = mode else { return 0 };
        // A ledger that cannot say so stands in the way by itself.
        let losses = context.ledger.losses(self.tenant, LOSSES_COUNTED).await.unwrap_or_default();
        losses.iter().filter(|lost| lost.lost_at >= since).count() as u64
    }

    /// What the run has left undone; for the report at its end.
    pub(super) fn report(&self, context: &Context) -> Option<TenantReport> {
        let memory = self.lock();
        Some(TenantReport {
            progress: context.board.tenant(self.tenant)?,
            unfinished: memory.once.unfinished(),
            lost: memory.once.lost,
            last_failure: memory.once.last_failure.clone().filter(|_| memory.once.unfinished() > 0),
            unlisted: memory.once.unlisted.iter().cloned().collect(),
        })
    }

    async fn rounds(
        &self,
        context: &Context,
        mode: Mode,
        mut stop: watch::Receiver<bool>,
        memory: &mut Memory,
    ) -> Next {
        loop {
            let until = match self.round(context, mode, &stop, memory).await {
                Ok(Round::Gone) => return Next::Gone,
                Ok(Round::Stopped) => return Next::At(Instant::now()),
                Ok(Round::Idle(_)) if mode.ends() => match memory.once.await_start() {
                    Some(at) => at,
                    None => return Next::Done,
                },
                Ok(Round::Idle(time)) => {
                    let at = Instant::now() + time;
                    let at = memory.wake_by.map_or(at, |earlier| earlier.min(at));
                    return Next::At(at.max(Instant::now() + REST));
                }
                Ok(Round::Held) => {
                    let Some(hold) = memory.hold else { return Next::At(Instant::now()) };
                    let gives_up = memory.once.gives_up || self.ends_run(context, &hold);
                    if mode.ends() && gives_up {
                        self.note_unfinished(context, memory).await;
                        return Next::Done;
                    }
                    hold.until
                }
                // Another process has the tenant, and all that was under way is its to do.
                Err(CommitFailure::Ledger(error)) if error.is_lost_lease() => return Next::Gone,
                Err(failure) => {
                    let until = self.commit_failed(context, mode, memory, &failure).await;
                    let Some(until) = until else { return Next::Done };
                    until
                }
            };
            if !mode.ends() {
                return Next::At(until);
            }
            self.show_activity(context, Activity::Retrying);
            let seconds = until.saturating_duration_since(Instant::now()).as_secs();
            tracing::info!(tenant = %self.tenant, seconds, "held up; the run goes on with this tenant after a wait");
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return Next::At(Instant::now()),
                () = tokio::time::sleep_until(until) => {}
            }
            self.show_activity(context, Activity::Working);
            memory.once.begin_again();
        }
    }

    async fn round(
        &self,
        context: &Context,
        mode: Mode,
        stop: &watch::Receiver<bool>,
        memory: &mut Memory,
    ) -> Result<Round, CommitFailure> {
        let Some(tenant) = self.read_tenant(context, memory).await? else {
            self.leave(context, memory).await?;
            return Ok(Round::Gone);
        };
        memory.was_here = true;
        memory.has_committed(tenant.last_commit);
        if context.take_renewed(self.tenant) {
            memory.release();
        }
        if memory.is_held() {
            self.keep_house_meanwhile(context, mode, memory, stop, tenant.last_commit).await?;
            return Ok(Round::Held);
        }
        memory.hold = None;
        self.make_clean(context, memory, tenant.last_commit).await?;
        let mut last_commit = tenant.last_commit;
        for _ in 0..RESUBSCRIPTIONS {
            let Some(types) = self.subscribe(context, mode, memory).await? else {
                return self.held(context, mode, memory, stop, last_commit).await;
            };
            let in_flight = InFlight::default();
            let mut committer = Committer::new(context, self.tenant, &in_flight, last_commit, Arc::clone(&self.files));
            let end = self.drive(context, mode, stop, memory, &tenant, types, &mut committer, &in_flight).await?;
            last_commit = committer.last_commit;
            match end {
                End::Stopped => return Ok(Round::Stopped),
                End::Held => return self.held(context, mode, memory, stop, last_commit).await,
                End::Idle => break,
                End::Resubscribe | End::CommitterGone => {}
            }
        }
        // Without a commit, only one that had failed before proves that the archive works.
        context.everybody_goes_on(if memory.commit_failures > 0 { Proof::Commit } else { Proof::Round });
        memory.commit_failures = 0;
        self.keep_house(context, mode, memory, stop).await?;
        Ok(Round::Idle(self.idle_for(context, &tenant).await?))
    }

    /// Before anything is written: what a crash or a failed commit has left is cleared away.
    async fn make_clean(
        &self,
        context: &Context,
        memory: &mut Memory,
        last_commit: CommitNumber,
    ) -> Result<(), CommitFailure> {
        if !memory.is_clean {
            self.house(context).clear_orphans(last_commit).await?;
            memory.is_clean = true;
        }
        Ok(())
    }

    /// Something stands in the way, perhaps for days: what has come until now is for all to see.
    async fn held(
        &self,
        context: &Context,
        mode: Mode,
        memory: &mut Memory,
        stop: &watch::Receiver<bool>,
        last_commit: CommitNumber,
    ) -> Result<Round, CommitFailure> {
        self.publishing.publish(&self.house(context), true).await;
        self.keep_house_meanwhile(context, mode, memory, stop, last_commit).await?;
        Ok(Round::Held)
    }

    /// A tenant that lets us in no more, perhaps for years, has records that grow old all the same. Not while it is the archive
    /// or the ledger that stands in the way.
    async fn keep_house_meanwhile(
        &self,
        context: &Context,
        mode: Mode,
        memory: &mut Memory,
        stop: &watch::Receiver<bool>,
        last_commit: CommitNumber,
    ) -> Result<(), CommitFailure> {
        if memory.commit_failures > 0 || !is_due(memory) {
            return Ok(());
        }
        self.make_clean(context, memory, last_commit).await?;
        self.keep_house(context, mode, memory, stop).await
    }

    async fn read_tenant(&self, context: &Context, memory: &mut Memory) -> Result<Option<Tenant>, LedgerError> {
        let tenant = context.ledger.tenant(self.tenant).await?;
        let Some(tenant) = tenant.filter(|tenant| tenant.state == TenantState::Active) else { return Ok(None) };
        if !memory.is_read {
            let known = context.ledger.subscriptions(self.tenant).await?;
            memory.book.read(&tenant, &known, &context.board);
            let coverage = context.ledger.coverage(self.tenant).await?;
            let pending = coverage.iter().map(|row| row.pending).sum();
            context.board.update(self.tenant, |line| line.pending = pending);
            self.show_damage(context).await?;
            memory.is_read = true;
        }
        Ok(Some(tenant))
    }

    /// The tenant is not collected any more. Where it was purged meanwhile, what a commit under way has written goes too:
    /// whoever purged it could not see that. Without an order nothing is touched: a ledger that was restored, or is not the one
    /// it was, knows nothing of tenants that are there all the same.
    async fn leave(&self, context: &Context, memory: &mut Memory) -> Result<(), CommitFailure> {
        if !memory.was_here {
            return Ok(());
        }
        // Asked once its files are ours: it may come back while somebody else is at them.
        let _files = self.files.lock().await;
        if context.ledger.tenant(self.tenant).await?.is_some() {
            return Ok(());
        }
        memory.was_here = false;
        let Some(order) = context.ledger.purge(self.tenant).await? else {
            tracing::error!(
                tenant = %self.tenant, folder = %context.archive.place().display(),
                "the ledger does not know the tenant any more, and nobody has ordered it purged: its files stay; was the \
                 ledger restored from an older copy?"
            );
            return Ok(());
        };
        carry_out(&*context.ledger, &context.archive, &*context.clock, &order).await?;
        tracing::info!(tenant = %self.tenant, "the tenant was purged; nothing of it is left here");
        Ok(())
    }

    /// The tenant is not this process's any more. Should it have been purged, what was just being written for it goes as well;
    /// a ledger that cannot say so now leaves that to the next purge.
    pub(super) async fn leave_to_others(&self, context: &Context) -> TenantId {
        let mut memory = Memory::default();
        memory.was_here = true;
        if let Err(error) = self.leave(context, &mut memory).await {
            tracing::debug!(tenant = %self.tenant, error = crate::chain(&error), "it is not known whether it was purged");
        }
        self.tenant
    }

    #[expect(clippy::too_many_arguments, reason = "one caller; a struct of these would be the round itself")]
    async fn drive(
        &self,
        context: &Context,
        mode: Mode,
        stop: &watch::Receiver<bool>,
        memory: &mut Memory,
        tenant: &Tenant,
        types: Vec<ContentType>,
        committer: &mut Committer<'_>,
        in_flight: &InFlight,
    ) -> Result<End, CommitFailure> {
        let (to_committer, pieces) = mpsc::channel(PIECES);
        let mut driver = Driver {
            context,
            client: self.client(context),
            large_of_tenant: &self.large_element,
            mode,
            schedule: schedule(context, tenant),
            memory,
            in_flight,
            pieces: to_committer,
            stop: stop.clone(),
            nudge: &self.nudge,
            types,
            work: Work::new(),
        };
        let driving = async move {
            let end = driver.run().await;
            // Closes the channel: the committer commits what is whole, and ends.
            drop(driver);
            Ok::<_, CommitFailure>(end)
        };
        let house = self.house(context);
        let work = futures_util::future::try_join(driving, committer.run(pieces));
        let (end, ()) = tokio::select! {
            biased;
            done = work => done?,
            never = self.publishing.meanwhile(&house) => match never {},
        };
        Ok(end?)
    }

    async fn keep_house(
        &self,
        context: &Context,
        mode: Mode,
        memory: &mut Memory,
        stop: &watch::Receiver<bool>,
    ) -> Result<(), CommitFailure> {
        let house = self.house(context);
        let is_due = is_due(memory);
        if is_due {
            // Before merging: what goes need not be rewritten.
            if house.expire().await?.segments > 0 {
                self.publishing.shortened();
            }
        }
        let merged = house.merge(context.grace(mode.ends()), stop).await;
        // A merge that the files hindered hinders no reader. What the ledger refused may be somebody else's by now.
        if !matches!(merged, Err(CommitFailure::Ledger(_))) {
            self.publishing.publish(&house, mode.ends()).await;
        }
        merged?;
        if let Some(at) = context.settings.tables.and_then(|tables| self.publishing.retry_at(tables)) {
            memory.wake_by(at);
        }
        if is_due {
            house.fold(stop).await?;
            house.look_again().await?;
            memory.sidecars_dropped = house.drop_old_sidecars(memory.sidecars_dropped).await?;
            memory.folded_at = Some(Instant::now());
        }
        self.show_damage(context).await?;
        Ok(())
    }

    /// How many of the tenant's segments are damaged, for all to see.
    async fn show_damage(&self, context: &Context) -> Result<(), LedgerError> {
        let damaged = context.ledger.damaged_segments(self.tenant).await?.len() as u64;
        context.board.update(self.tenant, |line| line.damaged_segments = damaged);
        Ok(())
    }

    /// How long it is until something is due again.
    async fn idle_for(&self, context: &Context, tenant: &Tenant) -> Result<Duration, LedgerError> {
        let now = context.sure_clock.now();
        let idle = NOTHING_TO_LIST.max(context.settings.collect.poll_interval);
        let idle = TimeDelta::from_std(idle).unwrap_or(TimeDelta::MAX);
        let mut wake = now.checked_add_signed(idle).unwrap_or(now);
        // The content types' polls drift apart; waiting a little gathers them into fewer activations.
        let gather = TimeDelta::from_std(context.settings.collect.poll_interval / 6).unwrap_or(TimeDelta::MAX);
        let soonest = now.checked_add_signed(gather).unwrap_or(now);
        let schedule = schedule(context, tenant);
        let known = context.ledger.subscriptions(self.tenant).await?;
        for content_type in &context.settings.collect.content_types {
            if find(&known, content_type).is_some_and(is_enabled) {
                let tiles = context.ledger.tiles(self.tenant, content_type.clone()).await?;
                wake = wake.min(schedule.wake_at(now, &tiles).max(soonest));
            }
        }
        if let Some(next) = context.ledger.next_attempt_at(self.tenant).await? {
            wake = wake.min(next);
        }
        Ok((wake - now).to_std().unwrap_or_default())
    }

    fn house<'a>(&'a self, context: &'a Context) -> House<'a> {
        House {
            ledger: &*context.ledger,
            archive: &context.archive,
            clock: &context.sure_clock,
            metrics: &context.metrics,
            slot: &context.merge_slot,
            tenant: self.tenant,
            files: &self.files,
            retention: context.settings.retention,
            tables: context.settings.tables,
        }
    }

    fn client<'a>(&'a self, context: &'a Context) -> Client<'a> {
        Client { shared: &context.requests, budget: &self.budget, tenant: self.tenant }
    }

    fn show_activity(&self, context: &Context, activity: Activity) {
        context.board.update(self.tenant, |line| line.activity = activity);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether rows are to be folded and records looked through for their age.
fn is_due(memory: &Memory) -> bool {
    memory.folded_at.is_none_or(|at| at.elapsed() >= FOLD_EVERY)
}

fn schedule(context: &Context, tenant: &Tenant) -> Schedule {
    Schedule {
        grid: context.settings.collect.tile,
        poll_interval: context.settings.collect.poll_interval,
        // Any number will do that is the tenant's own and stays.
        phase: Duration::from_millis(tenant.id.as_uuid().as_u64_pair().1 >> 32),
        // Added by a clock that was ahead, it would wait until that time comes.
        collect_from: tenant.collect_from.min(engine::tile::collect_from(context.sure_clock.now())),
    }
}

fn find<'s>(known: &'s [Subscription], content_type: &ContentType) -> Option<&'s Subscription> {
    known.iter().find(|subscription| subscription.content_type == *content_type)
}

/// As far as the service's list says; one it lists without a status may be.
fn is_enabled(subscription: &Subscription) -> bool {
    subscription.listed_at.is_some() && subscription.enabled != Some(false)
}
