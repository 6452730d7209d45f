//! Which subscription to start, and when: what is wanted against what the service lists.
//!
//! Never starts what is already there, and never asks twice within the service's 15 minutes unless the first was refused or
//! never answered: a burst of start calls is refused for longer than it saved (activity-api.md §2.1). Stops nothing: what was collected before and is not wanted any
//! more is the operator's to stop, as content of a stopped interval can never be had again.

use std::time::Duration;

use chrono::TimeDelta;
use protocol::activity::START_INTERVAL;
use protocol::ids::ContentType;
use protocol::time::Timestamp;

use crate::model::Subscription;

/// How often the subscriptions are listed while all is well: somebody may have stopped one, and webhooks vanish silently
/// (deviation D13). Smaller: a request for nothing. Larger: a stopped subscription loses what it would have delivered.
const LIST_EVERY: Duration = Duration::from_secs(60 * 60);

/// How soon they are listed again while one is missing or was just started: the answer to start is not proof.
const LIST_SOON: Duration = Duration::from_secs(5 * 60);

/// What to do about one wanted content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscriptionAction {
    /// Ask for its start now: note it in the ledger first, then send.
    Start,
    /// It is not enabled, and must not be started before this.
    Wait {
        /// The first moment.
        until: Timestamp,
    },
    /// It is enabled, as far as is known.
    Nothing,
}

/// Whether to list the subscriptions at `now`. Always before the first start, and again from time to time.
pub fn list_due(now: Timestamp, wanted: &[ContentType], known: &[Subscription]) -> bool {
    wanted.iter().any(|content_type| {
        let Some(subscription) = find(known, content_type) else { return true };
        let Some(listed) = subscription.listed_at.filter(|listed| *listed <= now) else { return true };
        // What was started after the last listing is looked at soon; before that listing, it has been looked at.
        let started = subscription.start_requested_at.is_some_and(|started| started >= listed);
        let every = if subscription.enabled == Some(true) && !started { LIST_EVERY } else { LIST_SOON };
        now >= after(listed, every)
    })
}

/// What to do about each wanted type, in the order wanted, after a listing. `start_not_before` is the wait that the service
/// put into words when it last refused a start of this tenant, if that is not over.
///
/// A type is started at once when the listing lacks it or calls it disabled and it was not started within the last 15
/// minutes. The rule is applied to each type by itself: five starts in a row at onboarding do succeed, and when the service
/// counts them together it says so, which `start_not_before` carries to all of them.
pub fn decide(
    now: Timestamp,
    wanted: &[ContentType],
    known: &[Subscription],
    start_not_before: Option<Timestamp>,
) -> Vec<(ContentType, SubscriptionAction)> {
    let mut actions = Vec::with_capacity(wanted.len());
    for content_type in wanted {
        let action = match find(known, content_type) {
            Some(subscription) => decide_one(now, subscription, start_not_before),
            None => start_or_wait(now, None, start_not_before),
        };
        actions.push((content_type.clone(), action));
    }
    actions
}

fn decide_one(now: Timestamp, subscription: &Subscription, start_not_before: Option<Timestamp>) -> SubscriptionAction {
    match (subscription.listed_at, subscription.enabled) {
        // Never listed: the listing comes first.
        (None, _) => SubscriptionAction::Wait { until: now },
        (Some(_), Some(true)) => SubscriptionAction::Nothing,
        // The service lists it without a status: content will tell (activity-api.md §2.3).
        (Some(_), None) => SubscriptionAction::Nothing,
        (Some(_), Some(false)) => start_or_wait(now, subscription.start_requested_at, start_not_before),
    }
}

/// What to do when content was refused because "the subscription was disabled" or is missing (AF20022, AF20023).
///
/// If the last listing calls it enabled, it is a phantom, as a stop and a start in quick succession leave behind (deviation
/// D3), or a start that has not reached every server: starting it again would be answered "already enabled". So wait 15
/// minutes from the last start, list, and only start if it is still refused after that.
pub fn after_refusal(
    now: Timestamp,
    subscription: &Subscription,
    start_not_before: Option<Timestamp>,
) -> SubscriptionAction {
    match (subscription.listed_at, subscription.enabled) {
        (None, _) => SubscriptionAction::Wait { until: now },
        (Some(listed), Some(true)) => {
            let begun = subscription.start_requested_at.map_or(listed, |started| started.min(now));
            let settled = after(begun, START_INTERVAL);
            if now < settled {
                SubscriptionAction::Wait { until: settled }
            } else {
                start_or_wait(now, subscription.start_requested_at, start_not_before)
            }
        }
        (Some(_), None | Some(false)) => start_or_wait(now, subscription.start_requested_at, start_not_before),
    }
}

/// The moment to note as that of a start which was refused at `now`, or failed, and may be asked for again after `wait`:
/// [`decide`] waits so long from now, and never longer than after a start that succeeded.
///
/// Whether the service counts a start that it did not carry out is not stated (activity-api.md §2.1). Where it does, it
/// answers the next one with the wait in words, and that is kept to.
pub fn noted_of_failed(now: Timestamp, wait: Duration) -> Timestamp {
    let counted = START_INTERVAL.saturating_sub(wait);
    TimeDelta::from_std(counted).ok().and_then(|counted| now.checked_sub_signed(counted)).unwrap_or(now)
}

fn start_or_wait(
    now: Timestamp,
    started: Option<Timestamp>,
    start_not_before: Option<Timestamp>,
) -> SubscriptionAction {
    // A start noted by a clock that was ahead of today's must not keep us waiting for years.
    let own = started.filter(|started| *started <= now).map(|started| after(started, START_INTERVAL));
    match own.max(start_not_before) {
        Some(until) if now < until => SubscriptionAction::Wait { until },
        _ => SubscriptionAction::Start,
    }
}

fn find<'s>(known: &'s [Subscription], content_type: &ContentType) -> Option<&'s Subscription> {
    known.iter().find(|subscription| subscription.content_type == *content_type)
}

fn after(time: Timestamp, by: Duration) -> Timestamp {
    TimeDelta::from_std(by).ok().and_then(|by| time.checked_add_signed(by)).unwrap_or(Timestamp::MAX_UTC)
}
