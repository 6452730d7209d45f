//! What becomes of a listing: its tile written down, or made again later, or left for the next run.
//!
//! Never writes a tile down that was not listed to its last page.

use std::time::Duration;

use engine::model::{Pending, Tile};
use engine::problem::ProblemKind;
use engine::retry::{Hold, RequestStep, after_request};
use engine::tile::{ListingTask, Reason, Schedule, list_again_now, poll_interval_after};
use ledger::LedgerError;
use protocol::activity::Window;
use protocol::ids::ContentType;
use protocol::time::Timestamp;
use tokio::time::Instant;

use super::super::book::is_shown;
use super::super::judge::{self, Judged};
use super::super::listing::{Brought, ListFailure};
use super::{Driver, Retry};
use crate::clock::Clock;

/// A run that ends tells of waits from this length on: somebody is watching it.
const TOLD_FROM: Duration = Duration::from_secs(5);

impl Driver<'_> {
    pub(super) async fn listed(
        &mut self,
        content_type: ContentType,
        task: ListingTask,
        begun_at: Timestamp,
        result: Result<Brought, ListFailure>,
    ) -> Result<(), LedgerError> {
        if let Some(count) = self.work.listing.get_mut(&content_type) {
            *count = count.saturating_sub(1);
        }
        let tenant = self.client.tenant;
        match result {
            Ok(brought) => {
                let jitter = judge::jitter(tenant);
                // A window that proves to be still to come says nothing, and is not even noted.
                if begun_at > task.tile.start {
                    if brought.new > 0 {
                        self.memory.heard(&content_type);
                    }
                    let collect = &self.context.settings.collect;
                    let silence = self.memory.silent_for(&content_type);
                    let poll_interval =
                        poll_interval_after(silence, collect.poll_interval, collect.quiet_poll_interval);
                    let schedule = Schedule { poll_interval, ..self.schedule };
                    let tile = schedule.after_listing(&task.tile, &task.window, brought.new, begun_at, jitter);
                    self.context.ledger.tile_listed(tenant, content_type.clone(), tile).await?;
                }
                if task.reason == Reason::Again {
                    let (requests, found) = (brought.requests, brought.new);
                    self.context.metrics.relisted(requests, found);
                    self.context.ledger.relisted(tenant, content_type.clone(), requests, found, begun_at).await?;
                }
                self.work.ask_pending |= brought.new > 0;
                self.context.board.update(tenant, |line| line.counts.listings += 1);
                self.memory.type_answered(&content_type);
                // The ledger takes what it is told. In a run that ends, each window does this once at most.
                self.memory.commit_failures = 0;
                self.write_problem(Some(&content_type), None).await?;
                self.answered().await
            }
            Err(ListFailure::Ledger(error)) => Err(error),
            Err(failure) => self.listing_failed(content_type, task, failure).await,
        }
    }

    pub(super) async fn listing_failed(
        &mut self,
        content_type: ContentType,
        task: ListingTask,
        failure: ListFailure,
    ) -> Result<(), LedgerError> {
        let tenant = self.client.tenant;
        let message = crate::chain(&failure);
        let trouble = match judge::of_listing(&failure) {
            Judged::Trouble(trouble) => trouble,
            Judged::NoToken(failure) => return self.no_token(&failure).await,
            Judged::Ours => return Ok(()),
        };
        let failures = self.memory.type_failed(&content_type);
        self.context.metrics.error("listing");
        tracing::debug!(%tenant, %content_type, window = %task.window, error = message, attempt = failures, "listing failed");
        let in_a_row = self.memory.in_a_row(failures).paced(self.mode.patience(0));
        match after_request(trouble, in_a_row, judge::jitter(tenant)) {
            RequestStep::Again { wait } | RequestStep::PlanAnew { wait } | RequestStep::StartLater { wait } => {
                let kind = ProblemKind::ServiceDown;
                if is_shown(kind, failures) {
                    self.show(Some(&content_type), kind, &message, wait).await?;
                }
                self.list_later(content_type, task, wait, failures);
                Ok(())
            }
            RequestStep::Enabled | RequestStep::WithoutWebhook(_) => {
                self.list_later(content_type, task, Duration::ZERO, failures);
                Ok(())
            }
            RequestStep::Hold(hold) => {
                if let Hold::Throttled { .. } | Hold::FreshToken = hold {
                    self.work.listings.entry(content_type.clone()).or_default().push_front(task);
                }
                self.hold(hold, Some(&content_type), &message).await
            }
        }
    }

    /// The listing is made again: within this round when somebody waits for its end, else when the supervisor wakes us.
    pub(super) fn list_later(&mut self, content_type: ContentType, task: ListingTask, wait: Duration, failures: u32) {
        let at = Instant::now() + wait;
        if !self.mode.ends() {
            // The others of this type go on unless none of them works either.
            if failures >= 3 {
                self.memory.hold_type(&content_type, at);
                self.work.listings.remove(&content_type);
            } else {
                self.memory.wake_by(at);
            }
            return;
        }
        if failures < engine::retry::ONCE_ATTEMPTS {
            if wait >= TOLD_FROM {
                let seconds = wait.as_secs();
                tracing::info!(tenant = %self.client.tenant, %content_type, failures, seconds, "a listing failed and is made again");
            }
            self.work.retries.push(Retry { at, content_type, task });
        } else {
            self.give_up_listing(&content_type);
        }
    }

    /// This run ends without the type's remaining listings.
    pub(super) fn give_up_listing(&mut self, content_type: &ContentType) {
        self.work.listings.remove(content_type);
        self.work.retries.retain(|retry| retry.content_type != *content_type);
        self.types.retain(|other| other != content_type);
        self.memory.once.unlisted.insert(content_type.clone());
    }

    /// The content may have been cut anew under another id: its window is listed at once.
    pub(super) async fn relist(&mut self, content: &Pending) -> Result<(), LedgerError> {
        let (tenant, content_type) = (self.client.tenant, &content.content.content_type);
        let tiles = self.context.ledger.tiles(tenant, content_type.clone()).await?;
        let created = content.content.created;
        let Some(tile) = tiles.iter().find(|tile| tile.start <= created && created < tile.until) else { return Ok(()) };
        let now = self.context.sure_clock.now();
        self.context.ledger.tile_listed(tenant, content_type.clone(), list_again_now(tile, now)).await?;
        if let Some(task) = listing_of(tile, now) {
            let listings = self.work.listings.entry(content_type.clone()).or_default();
            if !listings.iter().any(|waiting| waiting.tile.start == task.tile.start) {
                listings.push_front(task);
            }
        }
        Ok(())
    }
}

/// A listing of what of the tile has passed, if there is any of it within reach.
fn listing_of(tile: &Tile, now: Timestamp) -> Option<ListingTask> {
    let now = Timestamp::from_timestamp(now.timestamp(), 0)?;
    let window = Window::new(tile.start, tile.until.min(now)).ok()?;
    matches!(window.reach_at(now), protocol::activity::Reach::Whole).then(|| ListingTask {
        tile: tile.clone(),
        window,
        reason: Reason::Again,
    })
}
