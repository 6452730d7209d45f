//! What becomes of a turn that failed: when to try again, whether a run ends with it, and what the operator is shown.
//!
//! Never gives anything up: what has no commit in the ledger still waits there.

use std::time::Duration;

use chrono::TimeDelta;
use engine::problem::ProblemKind;
use tokio::time::Instant;

use super::super::committer::CommitFailure;
use super::super::context::Context;
use super::super::judge;
use super::super::memory::{Memory, TenantHold};
use super::{Mode, Worker};

/// Waits after a commit that failed: doubled from the first to the second.
const COMMIT_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

impl Worker {
    pub(super) fn ends_run(&self, context: &Context, hold: &TenantHold) -> bool {
        let longest = context.settings.limits.longest_wait_in_one_run;
        engine::retry::ends_run(hold.kind, hold.in_a_row)
            || hold.until.saturating_duration_since(Instant::now()) > longest
    }

    /// A run that ends for a tenant with a problem says what it leaves behind.
    pub(super) async fn note_unfinished(&self, context: &Context, memory: &mut Memory) {
        memory.once.unlisted.extend(context.settings.collect.content_types.iter().cloned());
        let (Some(hold), None) = (memory.hold, memory.book.find(None)) else { return };
        // It was not shown yet since it might have passed; by the end of the run it has not.
        let now = context.clock.now();
        let problem = hold.kind.stands_in_the_way(None, None, now, None);
        let _ = memory.book.write(&context.ledger, &context.board, self.tenant, None, Some(problem), now).await;
    }

    /// When to try again after a commit failed; `None` ends the run.
    pub(super) async fn commit_failed(
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
        let _ = memory.book.write(&context.ledger, &context.board, self.tenant, None, Some(problem), now).await;
    }
}
