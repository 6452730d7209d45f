//! What is more than one request's trouble: who is held up by it, for how long, and what the operator is shown.
//!
//! Never decides what an answer means: `engine::retry` has said so already.

use engine::problem::ProblemKind;
use engine::retry::Hold;
use ledger::LedgerError;
use protocol::error::Concern;
use protocol::ids::ContentType;
use tokio::time::Instant;

use super::super::book::is_shown;
use super::super::judge;
use super::Driver;

impl Driver<'_> {
    /// More than this request's trouble.
    pub(super) async fn hold(
        &mut self,
        hold: Hold,
        content_type: Option<&ContentType>,
        message: &str,
    ) -> Result<(), LedgerError> {
        match hold {
            Hold::Throttled { told } => {
                let failures = self.memory.throttled();
                self.client.budget.throttled(told, judge::jitter(self.client.tenant));
                self.context.metrics.error("throttled");
                let wait = told.unwrap_or_default();
                if is_shown(ProblemKind::Throttled, failures) {
                    self.show(None, ProblemKind::Throttled, message, wait).await?;
                }
                // All day, the budget makes us wait; a run of somebody who waits has an end.
                let longest = self.context.settings.limits.longest_wait_in_one_run;
                if self.mode.ends() && (engine::retry::ends_run(ProblemKind::Throttled, failures) || wait > longest) {
                    self.memory.hold(ProblemKind::Throttled, Instant::now() + wait);
                    self.memory.once.gives_up = true;
                }
                Ok(())
            }
            Hold::FreshToken => {
                let wait =
                    engine::token::retry_refused(self.memory.held_in_a_row + 2, judge::jitter(self.client.tenant));
                self.memory.hold(ProblemKind::UnknownAnswer, Instant::now() + wait);
                Ok(())
            }
            Hold::Resubscribe { disabled_by } => {
                let Some(content_type) = content_type else { return Ok(()) };
                self.work.listings.remove(content_type);
                self.types.retain(|other| other != content_type);
                self.memory.refused_types.insert(content_type.clone(), disabled_by);
                self.work.resubscribe = true;
                Ok(())
            }
            Hold::Problem { kind, concern, wait } => {
                let until = Instant::now() + wait;
                match (concern, content_type) {
                    (Concern::Content | Concern::ContentType, Some(content_type)) => {
                        self.memory.hold_type(content_type, until);
                        if self.mode.ends() {
                            self.give_up_listing(content_type);
                        }
                        self.work.listings.remove(content_type);
                        self.show(Some(content_type), kind, message, wait).await
                    }
                    _ => {
                        let failures = self.memory.hold(kind, until);
                        if is_shown(kind, failures) {
                            self.show(None, kind, message, wait).await?;
                        }
                        Ok(())
                    }
                }
            }
        }
    }

    pub(super) async fn no_token(&mut self, failure: &crate::tokens::TokenFailure) -> Result<(), LedgerError> {
        let kind = failure.kind();
        if matches!(kind, ProblemKind::App(_)) {
            self.context.everybody_waits(kind.as_str(), &*failure.cause);
        }
        self.memory.hold(kind, failure.retry_at);
        if is_shown(kind, failure.attempts) {
            let wait = failure.retry_at.saturating_duration_since(Instant::now());
            self.show(None, kind, &failure.to_string(), wait).await?;
        }
        Ok(())
    }

    /// Something was answered as it should be: the tenant is not held up.
    pub(super) async fn answered(&mut self) -> Result<(), LedgerError> {
        self.memory.held_in_a_row = 0;
        self.write_problem(None, None).await
    }

    pub(super) async fn show(
        &mut self,
        content_type: Option<&ContentType>,
        kind: ProblemKind,
        detail: &str,
        wait: std::time::Duration,
    ) -> Result<(), LedgerError> {
        let now = self.context.clock.now();
        let next = chrono::TimeDelta::from_std(wait).ok().and_then(|wait| now.checked_add_signed(wait));
        let before = self.memory.book.find(content_type);
        let problem = kind.stands_in_the_way(Some(detail), before, now, next);
        self.write_problem(content_type, Some(problem)).await
    }

    pub(super) async fn write_problem(
        &mut self,
        content_type: Option<&ContentType>,
        problem: Option<engine::model::Problem>,
    ) -> Result<(), LedgerError> {
        let context = self.context;
        let now = context.clock.now();
        self.memory.book.write(&context.ledger, &context.board, self.client.tenant, content_type, problem, now).await
    }
}
