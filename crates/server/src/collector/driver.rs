//! One round of a tenant's work: lists what is due, fetches what waits, side by side under one budget, until nothing is left
//! to do now or something holds the tenant up.
//!
//! One loop over one closed set of events; each event is judged by the engine and written down before the next is looked
//! at. Never waits for a commit and never blocks on a single blob. Stopping is safe wherever it awaits: what is dropped
//! still waits in the ledger.

mod fetches;
mod listings;
mod trouble;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use engine::model::Pending;
use engine::pacing::Turns;
use engine::retry::at_once;
use engine::tile::{ListingTask, Schedule};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use ledger::LedgerError;
use protocol::ids::ContentType;
use protocol::time::Timestamp;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;

use super::activation::Mode;
use super::batch::Piece;
use super::committer::InFlight;
use super::context::Context;
use super::feed::Client;
use super::fetch::{Fetch, FetchFailure};
use super::listing::{Brought, ListFailure, list_window};
use super::memory::Memory;
use crate::clock::Clock;

/// Contents read from the ledger at a time. Fewer: a query for every blob. More: what has just been listed and is more
/// urgent waits behind what was read before it.
const CONTENTS_AT_ONCE: u32 = 64;

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing is left to do now.
    Idle,
    /// [`Memory::hold`] says until when.
    Held,
    /// It was told to stop.
    Stopped,
    /// A content type's subscription was refused: they are to be looked at anew.
    Resubscribe,
    /// The committer has ended; its own error says why.
    CommitterGone,
}

/// What can happen in a round.
enum Event {
    Listed { content_type: ContentType, task: ListingTask, begun_at: Timestamp, result: Result<Brought, ListFailure> },
    Fetched { content: Arc<Pending>, result: Result<u64, FetchFailure> },
    Nudged,
    Timer,
    Stop,
}

/// A listing that failed and is made again within this round.
struct Retry {
    at: Instant,
    content_type: ContentType,
    task: ListingTask,
}

/// One round.
pub(super) struct Driver<'a> {
    pub(super) context: &'a Context,
    pub(super) client: Client<'a>,
    pub(super) large_of_tenant: &'a Semaphore,
    pub(super) mode: Mode,
    pub(super) schedule: Schedule,
    pub(super) memory: &'a mut Memory,
    pub(super) in_flight: &'a InFlight,
    pub(super) pieces: mpsc::Sender<Piece>,
    pub(super) stop: watch::Receiver<bool>,
    /// Contents were written down by somebody else.
    pub(super) nudge: &'a tokio::sync::Notify,
    /// Those whose subscription is enabled, as far as is known.
    pub(super) types: Vec<ContentType>,
    pub(super) work: Work<'a>,
}

/// What waits and what is under way.
pub(super) struct Work<'a> {
    listings: BTreeMap<ContentType, VecDeque<ListingTask>>,
    turns: Turns,
    retries: Vec<Retry>,
    contents: VecDeque<Arc<Pending>>,
    tasks: FuturesUnordered<BoxFuture<'a, Event>>,
    listing: BTreeMap<ContentType, usize>,
    fetching: usize,
    ask_pending: bool,
    plan_at: Instant,
    resubscribe: bool,
}

impl Work<'_> {
    pub(super) fn new() -> Self {
        Self {
            listings: BTreeMap::new(),
            turns: Turns::default(),
            retries: Vec::new(),
            contents: VecDeque::new(),
            tasks: FuturesUnordered::new(),
            listing: BTreeMap::new(),
            fetching: 0,
            ask_pending: true,
            plan_at: Instant::now(),
            resubscribe: false,
        }
    }

    fn listings_under_way(&self) -> usize {
        self.listing.values().sum()
    }
}

impl Driver<'_> {
    /// Runs the round to its end. Dropping the driver afterwards lets the committer finish.
    pub(super) async fn run(&mut self) -> Result<End, LedgerError> {
        loop {
            if *self.stop.borrow() {
                return Ok(End::Stopped);
            }
            if self.memory.once.gives_up {
                return Ok(End::Held);
            }
            // Held up: nothing new is begun, and what is under way may end in peace.
            if self.memory.is_held() {
                if self.work.tasks.is_empty() {
                    return Ok(End::Held);
                }
            } else {
                self.begin_what_can_be().await?;
            }
            if self.work.tasks.is_empty() && self.next_timer().is_none() {
                if self.mode.ends() && !self.memory.is_held() && self.plan_again().await? {
                    continue;
                }
                return Ok(if self.work.resubscribe { End::Resubscribe } else { End::Idle });
            }
            match self.next_event().await {
                Event::Stop => return Ok(End::Stopped),
                Event::Timer => {}
                Event::Nudged => self.work.ask_pending = true,
                Event::Listed { content_type, task, begun_at, result } => {
                    self.listed(content_type, task, begun_at, result).await?;
                    self.memory.has_asked();
                }
                Event::Fetched { content, result } => {
                    if let Err(FetchFailure::CommitterGone) = result {
                        return Ok(End::CommitterGone);
                    }
                    self.fetched(content, result).await?;
                    self.memory.has_asked();
                }
            }
        }
    }

    async fn next_event(&mut self) -> Event {
        let timer = self.next_timer();
        let sleep = async {
            match timer {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let (tasks, stop) = (&mut self.work.tasks, &mut self.stop);
        tokio::select! {
            biased;
            // An error means that the supervisor is gone, which is a stop as well.
            _ = stop.wait_for(|stop| *stop) => Event::Stop,
            Some(event) = tasks.next(), if !tasks.is_empty() => event,
            () = self.nudge.notified() => Event::Nudged,
            () = sleep => Event::Timer,
        }
    }

    /// When something becomes due that a round waits for. A round of the daemon waits for nothing but what is under way:
    /// its supervisor does.
    fn next_timer(&self) -> Option<Instant> {
        let is_busy = !self.work.tasks.is_empty();
        if let Some(until) = self.memory.held_until() {
            // Nothing is planned before that: to wait for a plan that is due already would be no waiting.
            return is_busy.then_some(until);
        }
        let planned = is_busy.then_some(self.work.plan_at);
        if !self.mode.ends() {
            return planned;
        }
        let listing = self.work.retries.iter().map(|retry| retry.at).min();
        let content = self.memory.once.next_retry();
        [planned, listing, content].into_iter().flatten().min()
    }

    async fn begin_what_can_be(&mut self) -> Result<(), LedgerError> {
        let now = Instant::now();
        if self.mode.ends() {
            for retry in self.work.retries.extract_if(.., |retry| retry.at <= now) {
                self.work.listings.entry(retry.content_type).or_default().push_back(retry.task);
            }
            self.work.ask_pending |= self.memory.once.take_due(now);
        }
        if now >= self.work.plan_at {
            self.plan().await?;
        }
        self.begin_listings();
        self.begin_fetches().await
    }

    /// Asks the engine what is to be listed, for each type that has nothing left to list.
    async fn plan(&mut self) -> Result<(), LedgerError> {
        self.work.plan_at = Instant::now() + self.context.settings.collect.poll_interval;
        self.work.ask_pending = true;
        let now = self.context.sure_clock.now();
        for content_type in self.types.clone() {
            let waiting = self.work.listings.get(&content_type).is_some_and(|listings| !listings.is_empty());
            let under_way = self.work.listing.get(&content_type).is_some_and(|count| *count > 0);
            let retrying = self.work.retries.iter().any(|retry| retry.content_type == content_type);
            if waiting || under_way || retrying || self.memory.is_type_held(&content_type) {
                continue;
            }
            let tiles = self.context.ledger.tiles(self.client.tenant, content_type.clone()).await?;
            let tasks = self.schedule.plan(now, &tiles, self.mode.listing(now));
            self.work.listings.insert(content_type, tasks.into());
        }
        Ok(())
    }

    /// A run that ends by itself does so when a fresh look finds nothing more; says whether it found something.
    async fn plan_again(&mut self) -> Result<bool, LedgerError> {
        self.plan().await?;
        self.read_pending().await?;
        let listings = self
            .work
            .listings
            .iter()
            .any(|(content_type, listings)| !listings.is_empty() && !self.memory.is_type_held(content_type));
        Ok(listings || !self.work.contents.is_empty())
    }

    /// Whether one more of a kind may be begun beside those `under_way`.
    fn has_room(&self, under_way: usize, most: usize) -> bool {
        // The one that asks whether a hold is over is alone, of whatever kind it is.
        let under_way = if self.memory.was_held { self.work.tasks.len() } else { under_way };
        under_way < at_once(most.max(1), self.memory.was_held)
    }

    fn begin_listings(&mut self) {
        while self.has_room(self.work.listings_under_way(), self.context.settings.limits.listings_per_tenant) {
            let memory = &*self.memory;
            let waiting = self
                .work
                .listings
                .iter()
                .filter(|(content_type, listings)| !listings.is_empty() && !memory.is_type_held(content_type));
            let Some(content_type) = self.work.turns.next(waiting.map(|(content_type, _)| content_type)).cloned()
            else {
                return;
            };
            let Some(task) = self.work.listings.get_mut(&content_type).and_then(VecDeque::pop_front) else { return };
            *self.work.listing.entry(content_type.clone()).or_default() += 1;
            let (context, client) = (self.context, self.client);
            self.work.tasks.push(Box::pin(async move {
                let begun = Instant::now();
                let result = list_window(context, client, &content_type, task.window).await;
                // Reckoned back from now, when the service has been heard if it ever was: how far our clock is ahead of its
                // may have come to be known by this very answer.
                let begun_at = engine::time::earlier(context.sure_clock.now(), begun.elapsed());
                Event::Listed { content_type, task, begun_at, result }
            }));
        }
    }

    async fn begin_fetches(&mut self) -> Result<(), LedgerError> {
        while self.has_room(self.work.fetching, self.context.settings.limits.fetches_per_tenant) {
            if self.work.contents.is_empty() {
                if !self.work.ask_pending {
                    return Ok(());
                }
                self.read_pending().await?;
            }
            let Some(content) = self.work.contents.pop_front() else { return Ok(()) };
            self.work.fetching += 1;
            let (context, client, pieces) = (self.context, self.client, self.pieces.clone());
            let large_of_tenant = self.large_of_tenant;
            self.work.tasks.push(Box::pin(async move {
                let slot = context.fetch_slots.acquire().await.expect("the semaphore is never closed");
                context.metrics.fetching(1);
                let fetch = Fetch {
                    client,
                    content: Arc::clone(&content),
                    memory: &context.memory,
                    memory_total: context.memory_total,
                    large: &context.large_elements,
                    large_of_tenant,
                    pieces: &pieces,
                };
                let result = fetch.run().await;
                context.metrics.fetching(-1);
                drop(slot);
                Event::Fetched { content, result }
            }));
        }
        Ok(())
    }

    async fn read_pending(&mut self) -> Result<(), LedgerError> {
        let mut exclude = self.in_flight.rows();
        exclude.extend(self.memory.once.excluded());
        let now = self.mode.pending_at(self.context.sure_clock.now());
        let pending = self.context.ledger.pending(self.client.tenant, now, CONTENTS_AT_ONCE, exclude).await?;
        self.work.ask_pending = pending.len() >= CONTENTS_AT_ONCE as usize;
        for content in pending {
            self.in_flight.insert(content.row);
            self.work.contents.push_back(Arc::new(content));
        }
        Ok(())
    }
}
