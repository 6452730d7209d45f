//! A tenant's subscriptions at the beginning of its turn: looked after, and what stands in the way of one or of all written
//! down.
//!
//! Never decides what an answer means: `engine::retry` and `engine::subscription` have said so already. What is listed and
//! started, and in which order, is [`super::super::subscriptions`]'s business.

use std::time::Duration;

use chrono::TimeDelta;
use engine::problem::ProblemKind;
use engine::retry::{Hold, InARow, RequestStep, after_request, ends_run};
use engine::subscription::{SubscriptionAction, after_refusal};
use ledger::LedgerError;
use protocol::error::{AdminStep, Concern};
use protocol::ids::{ContentType, TenantId};
use tokio::time::Instant;

use super::super::book::is_shown;
use super::super::context::Context;
use super::super::feed::{Client, Failure};
use super::super::judge::{self, Judged};
use super::super::memory::Memory;
use super::super::subscriptions::{self, Standing, SubscriptionFailure};
use super::{Mode, Worker, find, is_enabled};
use crate::residence::{LookUp, look_up};

impl Worker {
    /// Looks after the subscriptions. The types that can be listed; `None` when the tenant is held up.
    pub(super) async fn subscribe(
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
                self.not_looked_after(context, mode, memory, failure).await?;
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
            memory.hold_type(content_type, Instant::now() + (*until - now).to_std().unwrap_or_default());
        }
        // What was just started is not held: the next look at the subscriptions may find it enabled.
        for (content_type, until) in standing.waiting.iter().chain(&standing.not_enabled) {
            let kind = ProblemKind::SubscriptionMissing;
            let problem = kind.stands_in_the_way(None, memory.book.find(Some(content_type)), now, Some(*until));
            memory
                .book
                .write(&context.ledger, &context.board, self.tenant, Some(content_type), Some(problem), now)
                .await?;
            if mode.ends() {
                let wait = (*until - now).to_std().unwrap_or_default();
                self.start_again_in_run(context, memory, content_type, wait);
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
        let (held, types): (Vec<_>, Vec<_>) = wanted
            .iter()
            .filter(|content_type| enabled(content_type))
            .cloned()
            .partition(|content_type| memory.is_type_held(content_type));
        if mode.ends() {
            memory.once.unlisted.extend(held);
        }
        Ok(Some(types))
    }

    /// The run ends without the type, unless its start may be asked for again within the run's patience.
    fn start_again_in_run(&self, context: &Context, memory: &mut Memory, content_type: &ContentType, wait: Duration) {
        memory.once.unlisted.insert(content_type.clone());
        if wait <= context.settings.limits.longest_wait_in_one_run {
            let at = Instant::now() + wait;
            memory.once.start_again.insert(content_type.clone(), at);
        }
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
        let in_a_row = memory.in_a_row(failures).paced(mode.patience(0));
        let (kind, concern, wait) = judge_request(self.tenant, &failure, in_a_row);
        subscriptions::note_failed(context, self.tenant, content_type.clone(), wait).await?;
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
            if ends_run(kind, failures) {
                memory.once.unlisted.insert(content_type.clone());
            } else {
                self.start_again_in_run(context, memory, &content_type, wait);
            }
        }
        // A run that ends does not come back to see whether it passes.
        if is_shown(kind, failures) || mode.ends() {
            let problem = kind.stands_in_the_way(Some(&detail), memory.book.find(key), now, next);
            memory.book.write(&context.ledger, &context.board, self.tenant, key, Some(problem), now).await?;
        }
        Ok(())
    }

    /// The subscriptions could not even be listed: the tenant is held up.
    async fn not_looked_after(
        &self,
        context: &Context,
        mode: Mode,
        memory: &mut Memory,
        failure: Failure,
    ) -> Result<(), LedgerError> {
        memory.subscription_failures += 1;
        // What has held the tenant up while its content was listed does so still: the waits do not begin anew.
        let failures = memory.subscription_failures.max(memory.holds_with_this());
        let in_a_row = InARow { request: failures, tenant: failures }.paced(mode.patience(0));
        let (kind, _, wait) = judge_request(self.tenant, &failure, in_a_row);
        if let (Failure::Token(token), ProblemKind::App(_)) = (&failure, kind) {
            context.everybody_waits(kind.as_str(), &*token.cause);
        }
        if let RequestStep::Hold(Hold::Throttled { told }) = request_step(self.tenant, &failure, in_a_row) {
            self.budget.throttled(told, judge::jitter(self.tenant));
        }
        memory.hold(kind, Instant::now() + wait);
        tracing::debug!(tenant = %self.tenant, error = %crate::chain(&failure), attempt = failures, "subscriptions not listed");
        if !is_shown(kind, failures) {
            return Ok(());
        }
        let detail = crate::chain(&failure);
        let (kind, detail) = match self.lives_elsewhere(context, kind).await {
            Some(residence) => (ProblemKind::Admin(AdminStep::CheckCloud), format!("{residence}; {detail}")),
            None => (kind, detail),
        };
        let now = context.clock.now();
        let next = TimeDelta::from_std(wait).ok().and_then(|wait| now.checked_add_signed(wait));
        let problem = kind.stands_in_the_way(Some(&detail), memory.book.find(None), now, next);
        memory.book.write(&context.ledger, &context.board, self.tenant, None, Some(problem), now).await
    }

    /// In which other cloud a tenant lives that is not known in this one, as far as the login authorities tell. Asked as
    /// often as the tenant itself is, which is every few hours soon.
    async fn lives_elsewhere(&self, context: &Context, kind: ProblemKind) -> Option<String> {
        if !matches!(kind, ProblemKind::Admin(AdminStep::CheckCloud | AdminStep::CheckTenant)) {
            return None;
        }
        let cloud = &context.settings.cloud;
        match look_up(&*context.requests.transport, cloud, self.tenant).await {
            LookUp::Elsewhere(residence) => Some(residence.not_in(cloud.name())),
            LookUp::Fits(_) | LookUp::SomewhereElse(_) | LookUp::Unknown(_) | LookUp::NotTold(_) => None,
        }
    }
}

/// What a failed listing or start of a subscription is, how far it reaches, and how long to wait.
pub(in crate::collector) fn judge_request(
    tenant: TenantId,
    failure: &Failure,
    in_a_row: InARow,
) -> (ProblemKind, Concern, Duration) {
    if let Judged::NoToken(token) = judge::of_request(failure) {
        let wait = token.retry_at.saturating_duration_since(Instant::now());
        return (token.kind(), Concern::Tenant, wait);
    }
    match request_step(tenant, failure, in_a_row) {
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

fn request_step(tenant: TenantId, failure: &Failure, in_a_row: InARow) -> RequestStep {
    match judge::of_request(failure) {
        Judged::Trouble(trouble) => after_request(trouble, in_a_row, judge::jitter(tenant)),
        Judged::NoToken(_) | Judged::Ours => RequestStep::Again { wait: Duration::ZERO },
    }
}
