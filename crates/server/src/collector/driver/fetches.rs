//! What becomes of a fetch: committed in its time, tried again, or given up as lost with its cause.
//!
//! Never gives a content up by itself: `engine::retry` says when that is. What came of a blob that is given up goes into
//! quarantine in the same commit.

use std::sync::Arc;
use std::time::Duration;

use engine::model::{Loss, LossKind, Pending};
use engine::problem::ProblemKind;
use engine::retry::{FetchAttempt, FetchStep, after_fetch};
use ledger::LedgerError;
use protocol::time::Timestamp;
use tokio::time::Instant;

use super::super::batch::Piece;
use super::super::fetch::FetchFailure;
use super::super::judge::{self, Judged};
use super::super::spool::SpoolError;
use super::Driver;
use crate::clock::Clock;

/// Waits after a body could not be put aside: doubled from the first to the second, as for a commit that failed.
const PUT_ASIDE_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

impl Driver<'_> {
    pub(super) async fn fetched(
        &mut self,
        content: Arc<Pending>,
        result: Result<u64, FetchFailure>,
    ) -> Result<(), LedgerError> {
        self.work.fetching = self.work.fetching.saturating_sub(1);
        let failure = match result {
            // It is in flight until it is committed.
            Ok(_) => {
                // A notification may have brought it, of which no listing knows.
                self.memory.heard(&content.content.content_type);
                return self.answered().await;
            }
            Err(failure) => failure,
        };
        let (tenant, row) = (self.client.tenant, content.row);
        if let FetchFailure::Spool(error) = &failure {
            self.cannot_put_aside(row, error);
            return Ok(());
        }
        let message = crate::chain(&failure);
        if failure.is_corrupt() {
            self.context.metrics.error("corrupt");
            tracing::warn!(
                %tenant,
                content_type = %content.content.content_type,
                content_id = %content.content.content_id,
                error = message,
                "a blob came altered; nothing of it is kept, and it is fetched again"
            );
        }
        let trouble = match judge::of_fetch(&failure) {
            Judged::Trouble(trouble) => trouble,
            Judged::NoToken(failure) => {
                self.in_flight.remove(row);
                return self.no_token(&failure).await;
            }
            Judged::Ours => {
                self.in_flight.remove(row);
                return Ok(());
            }
        };
        let attempt = FetchAttempt {
            now: self.context.sure_clock.now(),
            seen_at: content.seen_at,
            expires: content.content.expires,
            attempts: content.attempts,
            held_before: self.memory.holds_with_this().saturating_sub(1),
            patience: self.mode.patience(self.memory.once.failures(row)),
            jitter: judge::jitter(tenant),
        };
        let step = after_fetch(trouble, &attempt);
        tracing::debug!(
            %tenant,
            content_type = %content.content.content_type,
            content_id = %content.content.content_id,
            error = message,
            attempt = content.attempts + 1,
            ?step,
            "fetch failed"
        );
        match step {
            FetchStep::Again { at, relist, within_run } => {
                self.context.metrics.error("fetch");
                self.fetch_later(&content, message, at, within_run).await?;
                if relist { self.relist(&content).await } else { Ok(()) }
            }
            FetchStep::Lost(kind) => self.lost(content, kind, message, failure).await,
            FetchStep::Hold(hold) => {
                self.in_flight.remove(row);
                self.work.ask_pending = true;
                let content_type = content.content.content_type.clone();
                self.hold(hold, Some(&content_type), &message).await
            }
        }
    }

    /// What has to be put aside until it is proven cannot be: everybody's trouble, and no content's.
    fn cannot_put_aside(&mut self, row: i64, error: &SpoolError) {
        self.in_flight.remove(row);
        self.work.ask_pending = true;
        let kind = if error.is_disk_full() { ProblemKind::DiskFull } else { ProblemKind::ArchiveUnavailable };
        self.context.everybody_waits(kind.as_str(), error);
        let doublings = self.memory.held_in_a_row.min(10);
        let wait = PUT_ASIDE_AGAIN.0.saturating_mul(1 << doublings).min(PUT_ASIDE_AGAIN.1);
        self.memory.hold(kind, Instant::now() + judge::jitter(self.client.tenant).spread(wait));
    }

    async fn fetch_later(
        &mut self,
        content: &Pending,
        message: String,
        at: Timestamp,
        within_run: bool,
    ) -> Result<(), LedgerError> {
        let (tenant, row) = (self.client.tenant, content.row);
        self.context.ledger.content_failed(tenant, row, message.clone(), at).await?;
        self.context.board.update(tenant, |line| line.counts.failed_attempts += 1);
        if self.mode.ends() {
            let wait = crate::clock::until(&self.context.sure_clock, at);
            self.memory.once.failed(row, message, within_run.then(|| Instant::now() + wait));
        }
        self.in_flight.remove(row);
        Ok(())
    }

    async fn lost(
        &mut self,
        content: Arc<Pending>,
        kind: LossKind,
        message: String,
        failure: FetchFailure,
    ) -> Result<(), LedgerError> {
        let (tenant, row) = (self.client.tenant, content.row);
        tracing::warn!(
            %tenant,
            content_type = %content.content.content_type,
            content_id = %content.content.content_id,
            kind = kind.as_str(),
            error = message,
            "content given up"
        );
        let loss = Loss { kind, message };
        if let FetchFailure::NotABlob { kept, .. } = failure {
            // With the bytes that came in its place, in the commit. A committer that is gone leaves it waiting.
            let _ = self.pieces.send(Piece::Lost { content, loss, kept }).await;
            return Ok(());
        }
        self.context.ledger.content_lost(tenant, row, loss, self.context.clock.now()).await?;
        self.in_flight.remove(row);
        self.context.metrics.lost();
        self.context.board.update(tenant, |line| {
            line.counts.lost += 1;
            line.pending = line.pending.saturating_sub(1);
        });
        Ok(())
    }
}
