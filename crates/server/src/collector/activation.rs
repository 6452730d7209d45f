//! One tenant's turn: state read anew, files made clean, subscriptions looked after, then listing, fetching and committing
//! side by side, then merging. The same every time, whoever woke it: timer, signal, restart.
//!
//! Never takes input and never keeps what matters in memory. Cancellation points lie between ledger transactions: what is
//! dropped there is in the ledger as it was, and done again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;
use engine::model::{Subscription, Tenant, TenantState};
use engine::problem::ProblemKind;
use engine::retry::{Hold, Patience, RequestStep, after_request};
use engine::subscription::{SubscriptionAction, after_refusal};
use engine::tile::Schedule;
use ledger::LedgerError;
use protocol::error::Concern;
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::book::is_shown;
use super::committer::{CommitFailure, Committer, InFlight, PIECES};
use super::context::{Context, Proof};
use super::driver::{Driver, End, Work};
use super::feed::{Budget, Client, Failure};
use super::housekeeping::{FOLD_EVERY, Grace, House};
use super::judge::{self, Judged};
use super::memory::{Memory, TenantHold};
use super::progress::{Activity, TenantReport};
use super::subscriptions::{self, Standing, SubscriptionFailure};

/// How often rounds follow each other within one activation because subscriptions had to be looked at anew.
const RESUBSCRIPTIONS: u32 = 3;

/// A tenant with nothing to list is looked at this often: somebody may have enabled something.
const NOTHING_TO_LIST: Duration = Duration::from_secs(5 * 60);

/// Between two activations of a tenant that nothing has woken: whatever says that something is due at once, over and over,
/// must not keep a processor busy.
const REST: Duration = Duration::from_secs(1);

/// Waits after a commit that failed: doubled from the first to the second.
const COMMIT_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// All day, or until everything is caught up with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// All day.
    AllDay,
    /// Everything available now, once.
    Once {
        /// When the run began.
        since: Timestamp,
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
    /// Nothing is left to do until then.
    Idle(Timestamp),
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
    memory: Mutex<Memory>,
}

impl Mode {
    /// Whether the run ends by itself.
    pub(super) fn ends(self) -> bool {
        matches!(self, Self::Once { .. })
    }

    pub(super) fn listing(self) -> engine::tile::Mode {
        match self {
            Self::AllDay => engine::tile::Mode::AllDay,
            Self::Once { since } => engine::tile::Mode::CatchUp { since },
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
            memory: Mutex::default(),
        }
    }

    /// Does what is to be done, and says when to come back.
    pub(super) async fn activate(&self, context: &Context, mode: Mode, stop: watch::Receiver<bool>) -> Next {
        // Taken out, and put back at the end: an activation that dies leaves none, and the next begins like a restart.
        let mut memory = std::mem::take(&mut *self.lock());
        memory.wake_by = None;
        self.show_activity(context, Activity::Working);
        let next = self.rounds(context, mode, stop, &mut memory).await;
        let activity = if next == Next::Done { Activity::Done } else { Activity::Idle };
        self.show_activity(context, activity);
        *self.lock() = memory;
        next
    }

    /// What the run has left undone; for the report at its end.
    pub(super) fn report(&self, context: &Context) -> Option<TenantReport> {
        let memory = self.lock();
        Some(TenantReport {
            progress: context.board.tenant(self.tenant)?,
            unfinished: memory.once.unfinished(),
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
                Ok(Round::Idle(_)) if mode.ends() => return Next::Done,
                Ok(Round::Idle(at)) => {
                    let at = Instant::now() + crate::clock::until(&*context.clock, at);
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
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return Next::At(Instant::now()),
                () = tokio::time::sleep_until(until) => {}
            }
            self.show_activity(context, Activity::Working);
        }
    }

    fn ends_run(&self, context: &Context, hold: &TenantHold) -> bool {
        let longest = context.settings.limits.longest_wait_in_one_run;
        engine::retry::ends_run(hold.kind, hold.in_a_row)
            || hold.until.saturating_duration_since(Instant::now()) > longest
    }

    /// A run that ends for a tenant with a problem says what it leaves behind.
    async fn note_unfinished(&self, context: &Context, memory: &mut Memory) {
        memory.once.unlisted.extend(context.settings.collect.content_types.iter().cloned());
        let (Some(hold), None) = (memory.hold, memory.book.find(None)) else { return };
        // It was not shown yet since it might have passed; by the end of the run it has not.
        let problem = hold.kind.stands_in_the_way(None, None, context.clock.now(), None);
        let _ = memory.book.write(&context.ledger, &context.board, self.tenant, None, Some(problem)).await;
    }

    /// When to try again after a commit failed; `None` ends the run.
    async fn commit_failed(
        &self,
        context: &Context,
        mode: Mode,
        memory: &mut Memory,
        failure: &CommitFailure,
    ) -> Option<Instant> {
        memory.is_clean = false;
        memory.is_read = false;
        memory.commit_failures += 1;
        let failures = memory.commit_failures;
        let wait = COMMIT_AGAIN.0.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(COMMIT_AGAIN.1);
        let wait = judge::jitter(self.tenant).spread(wait);
        tracing::warn!(tenant = %self.tenant, error = %crate::chain(failure), attempt = failures, "commit failed");
        let kind = judge::kind_of_commit_failure(failure);
        match kind {
            // The state is read anew; once is a race, and this often is a mistake of ours.
            None if failures < engine::retry::ONCE_ATTEMPTS => {}
            None => self.show_commit_failure(context, memory, ProblemKind::OurFault, failure, wait).await,
            Some(kind) if judge::is_of_tenant(failure) => {
                self.show_commit_failure(context, memory, kind, failure, wait).await;
            }
            Some(kind) => context.everybody_waits(kind.as_str(), failure),
        }
        let ends = engine::retry::ends_run(kind.unwrap_or(ProblemKind::LedgerLocked), failures);
        if mode.ends() && ends {
            memory.once.unlisted.extend(context.settings.collect.content_types.iter().cloned());
            return None;
        }
        Some(Instant::now() + wait)
    }

    async fn show_commit_failure(
        &self,
        context: &Context,
        memory: &mut Memory,
        kind: ProblemKind,
        failure: &CommitFailure,
        wait: Duration,
    ) {
        let now = context.clock.now();
        let next = TimeDelta::from_std(wait).ok().and_then(|wait| now.checked_add_signed(wait));
        let detail = crate::chain(failure);
        let problem = kind.stands_in_the_way(Some(&detail), memory.book.find(None), now, next);
        // A ledger that cannot take even this has said so to everybody.
        let _ = memory.book.write(&context.ledger, &context.board, self.tenant, None, Some(problem)).await;
    }

    async fn round(
        &self,
        context: &Context,
        mode: Mode,
        stop: &watch::Receiver<bool>,
        memory: &mut Memory,
    ) -> Result<Round, CommitFailure> {
        let Some(tenant) = self.read_tenant(context, memory).await? else { return Ok(Round::Gone) };
        if memory.is_held() {
            return Ok(Round::Held);
        }
        memory.hold = None;
        if !memory.is_clean {
            self.house(context).clear_orphans(tenant.last_commit).await?;
            memory.is_clean = true;
        }
        let mut last_commit = tenant.last_commit;
        for _ in 0..RESUBSCRIPTIONS {
            let Some(types) = self.subscribe(context, mode, memory).await? else { return Ok(Round::Held) };
            let in_flight = InFlight::default();
            let mut committer = Committer::new(context, self.tenant, &in_flight, last_commit, Arc::clone(&self.files));
            let end = self.drive(context, mode, stop, memory, &tenant, types, &mut committer, &in_flight).await?;
            last_commit = committer.last_commit;
            match end {
                End::Stopped => return Ok(Round::Stopped),
                End::Held => return Ok(Round::Held),
                End::Idle => break,
                End::Resubscribe | End::CommitterGone => {}
            }
        }
        // Without a commit, only one that had failed before proves that the archive works.
        context.everybody_goes_on(if memory.commit_failures > 0 { Proof::Commit } else { Proof::Round });
        memory.commit_failures = 0;
        self.keep_house(context, mode, memory, stop).await?;
        Ok(Round::Idle(self.wake_at(context, &tenant).await?))
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
            memory.is_read = true;
        }
        Ok(Some(tenant))
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
            mode,
            schedule: schedule(context, tenant),
            memory,
            in_flight,
            pieces: to_committer,
            stop: stop.clone(),
            types,
            work: Work::new(),
        };
        let driving = async move {
            let end = driver.run().await;
            // Closes the channel: the committer commits what is whole, and ends.
            drop(driver);
            Ok::<_, CommitFailure>(end)
        };
        let (end, ()) = futures_util::future::try_join(driving, committer.run(pieces)).await?;
        Ok(end?)
    }

    /// Looks after the subscriptions. The types that can be listed; `None` when the tenant is held up.
    async fn subscribe(
        &self,
        context: &Context,
        mode: Mode,
        memory: &mut Memory,
    ) -> Result<Option<Vec<ContentType>>, LedgerError> {
        let client = self.client(context);
        let refused = std::mem::take(&mut memory.refused_types);
        let looked = subscriptions::look_after(context, client, memory.start_not_before, !refused.is_empty()).await;
        let mut standing = match looked {
            Ok(standing) => standing,
            Err(SubscriptionFailure::Ledger(error)) => return Err(error),
            Err(SubscriptionFailure::Request(failure)) => {
                self.not_looked_after(context, memory, failure).await?;
                return Ok(None);
            }
        };
        memory.subscription_failures = 0;
        self.restart_refused(context, client, refused.keys(), &mut standing).await?;
        memory.start_not_before = standing.start_not_before;
        self.note_standing(context, mode, memory, standing).await
    }

    /// Types that are listed as enabled and whose content was refused all the same.
    async fn restart_refused(
        &self,
        context: &Context,
        client: Client<'_>,
        refused: impl Iterator<Item = &ContentType>,
        standing: &mut Standing,
    ) -> Result<(), LedgerError> {
        let known = context.ledger.subscriptions(self.tenant).await?;
        for content_type in refused {
            let Some(subscription) = find(&known, content_type) else { continue };
            if subscription.enabled == Some(false) {
                // It was started, or has to wait, like any that is missing.
                continue;
            }
            match after_refusal(context.clock.now(), subscription, standing.start_not_before) {
                SubscriptionAction::Nothing => {}
                SubscriptionAction::Wait { until } => standing.waiting.push((content_type.clone(), until)),
                SubscriptionAction::Start => {
                    subscriptions::start(context, client, content_type.clone(), standing).await?;
                }
            }
        }
        Ok(())
    }

    async fn note_standing(
        &self,
        context: &Context,
        mode: Mode,
        memory: &mut Memory,
        standing: Standing,
    ) -> Result<Option<Vec<ContentType>>, LedgerError> {
        let now = context.clock.now();
        for (content_type, until) in &standing.waiting {
            let at = Instant::now() + (*until - now).to_std().unwrap_or_default();
            memory.hold_type(content_type, at);
            let kind = ProblemKind::SubscriptionMissing;
            let problem = kind.stands_in_the_way(None, memory.book.find(Some(content_type)), now, Some(*until));
            memory.book.write(&context.ledger, &context.board, self.tenant, Some(content_type), Some(problem)).await?;
            if mode.ends() {
                memory.once.unlisted.insert(content_type.clone());
            }
        }
        let known = context.ledger.subscriptions(self.tenant).await?;
        let enabled = |content_type: &ContentType| find(&known, content_type).is_some_and(is_enabled);
        let wanted = &context.settings.collect.content_types;
        let none_enabled = !wanted.iter().any(enabled);
        for (content_type, failure) in standing.refused {
            self.start_refused(context, mode, memory, content_type, failure, none_enabled).await?;
        }
        if memory.is_held() {
            return Ok(None);
        }
        let types = wanted.iter().filter(|content_type| enabled(content_type) && !memory.is_type_held(content_type));
        Ok(Some(types.cloned().collect()))
    }

    /// A start was refused. When nothing is enabled at all, the tenant is held up; else the type is.
    async fn start_refused(
        &self,
        context: &Context,
        mode: Mode,
        memory: &mut Memory,
        content_type: ContentType,
        failure: Failure,
        none_enabled: bool,
    ) -> Result<(), LedgerError> {
        let failures = memory.type_failed(&content_type);
        let (kind, concern, wait) = judge_request(self.tenant, &failure, failures);
        let now = context.clock.now();
        let until = Instant::now() + wait;
        let next = TimeDelta::from_std(wait).ok().and_then(|wait| now.checked_add_signed(wait));
        let detail = crate::chain(&failure);
        let of_tenant = none_enabled && matches!(concern, Concern::Tenant | Concern::App);
        let key = (!of_tenant).then_some(&content_type);
        if of_tenant {
            memory.hold(kind, until);
        }
        memory.hold_type(&content_type, until);
        if mode.ends() {
            memory.once.unlisted.insert(content_type.clone());
        }
        if is_shown(kind, failures) {
            let problem = kind.stands_in_the_way(Some(&detail), memory.book.find(key), now, next);
            memory.book.write(&context.ledger, &context.board, self.tenant, key, Some(problem)).await?;
        }
        Ok(())
    }

    /// The subscriptions could not even be listed: the tenant is held up.
    async fn not_looked_after(
        &self,
        context: &Context,
        memory: &mut Memory,
        failure: Failure,
    ) -> Result<(), LedgerError> {
        memory.subscription_failures += 1;
        let failures = memory.subscription_failures;
        let (kind, _, wait) = judge_request(self.tenant, &failure, failures);
        if let (Failure::Token(token), ProblemKind::App(_)) = (&failure, kind) {
            context.everybody_waits(kind.as_str(), &*token.cause);
        }
        if let RequestStep::Hold(Hold::Throttled { told }) = request_step(self.tenant, &failure, failures) {
            self.budget.throttled(told, judge::jitter(self.tenant));
        }
        memory.hold(kind, Instant::now() + wait);
        tracing::debug!(tenant = %self.tenant, error = %crate::chain(&failure), attempt = failures, "subscriptions not listed");
        if !is_shown(kind, failures) {
            return Ok(());
        }
        let now = context.clock.now();
        let next = TimeDelta::from_std(wait).ok().and_then(|wait| now.checked_add_signed(wait));
        let detail = crate::chain(&failure);
        let problem = kind.stands_in_the_way(Some(&detail), memory.book.find(None), now, next);
        memory.book.write(&context.ledger, &context.board, self.tenant, None, Some(problem)).await
    }

    async fn keep_house(
        &self,
        context: &Context,
        mode: Mode,
        memory: &mut Memory,
        stop: &watch::Receiver<bool>,
    ) -> Result<(), CommitFailure> {
        let grace = if mode.ends() { Grace::None } else { Grace::For(context.settings.limits.obsolete_grace) };
        let house = self.house(context);
        house.merge(grace, stop).await?;
        if memory.folded_at.is_none_or(|at| at.elapsed() >= FOLD_EVERY) {
            house.fold(stop).await?;
            memory.folded_at = Some(Instant::now());
        }
        Ok(())
    }

    /// When something is due again.
    async fn wake_at(&self, context: &Context, tenant: &Tenant) -> Result<Timestamp, LedgerError> {
        let now = context.clock.now();
        let idle = TimeDelta::from_std(NOTHING_TO_LIST).unwrap_or(TimeDelta::MAX);
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
        Ok(wake.max(now))
    }

    fn house<'a>(&'a self, context: &'a Context) -> House<'a> {
        House {
            ledger: &*context.ledger,
            archive: &context.archive,
            clock: &*context.clock,
            metrics: &context.metrics,
            slots: &context.commit_slots,
            tenant: self.tenant,
            files: &self.files,
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

fn schedule(context: &Context, tenant: &Tenant) -> Schedule {
    Schedule {
        grid: context.settings.collect.tile,
        poll_interval: context.settings.collect.poll_interval,
        collect_from: tenant.collect_from,
    }
}

fn find<'s>(known: &'s [Subscription], content_type: &ContentType) -> Option<&'s Subscription> {
    known.iter().find(|subscription| subscription.content_type == *content_type)
}

/// As far as the service's list says; one it lists without a status may be.
fn is_enabled(subscription: &Subscription) -> bool {
    subscription.listed_at.is_some() && subscription.enabled != Some(false)
}

fn request_step(tenant: TenantId, failure: &Failure, failures: u32) -> RequestStep {
    match judge::of_request(failure) {
        Judged::Trouble(trouble) => after_request(trouble, failures, judge::jitter(tenant)),
        Judged::NoToken(_) | Judged::Ours => RequestStep::Again { wait: Duration::ZERO },
    }
}

/// What a failed listing or start of a subscription is, how far it reaches, and how long to wait.
pub(super) fn judge_request(tenant: TenantId, failure: &Failure, failures: u32) -> (ProblemKind, Concern, Duration) {
    if let Judged::NoToken(token) = judge::of_request(failure) {
        let wait = token.retry_at.saturating_duration_since(Instant::now());
        return (judge::kind_of_token_failure(&token), Concern::Tenant, wait);
    }
    match request_step(tenant, failure, failures) {
        RequestStep::Again { wait } | RequestStep::PlanAnew { wait } => {
            (ProblemKind::ServiceDown, Concern::ContentType, wait)
        }
        RequestStep::StartLater { wait } => (ProblemKind::SubscriptionMissing, Concern::ContentType, wait),
        RequestStep::Enabled | RequestStep::WithoutWebhook(_) => {
            (ProblemKind::UnknownAnswer, Concern::ContentType, Duration::from_secs(60))
        }
        RequestStep::Hold(Hold::Throttled { told }) => {
            (ProblemKind::Throttled, Concern::Tenant, told.unwrap_or(Duration::from_secs(30)))
        }
        RequestStep::Hold(Hold::FreshToken | Hold::Resubscribe { .. }) => {
            (ProblemKind::UnknownAnswer, Concern::ContentType, Duration::from_secs(60))
        }
        RequestStep::Hold(Hold::Problem { kind, concern, wait }) => (kind, concern, wait),
    }
}
