//! Which webhook to set, again, or take off, and when: what is wanted against what the service lists.
//!
//! Never in the way of collection. A subscription is started without a webhook, because the service makes none at all when
//! the webhook it comes with does not answer (activity-api.md §2.1), and content of the time in between could never be had;
//! the webhook follows by a second start, 15 minutes later. While there is none, or none that works, polling carries on
//! alone, and [`WebhookState::says`] tells the operator so.
//!
//! The ledger keeps [`Webhook`] rows; what comes in by them is only ever a hint.

use std::time::Duration;

use protocol::activity::{START_INTERVAL, WebhookStatus};
use protocol::ids::ContentType;
use protocol::time::Timestamp;

use crate::model::Subscription;
use crate::time::later;

/// Between starts for a webhook that was refused: doubled from the first to the second. The service's own rule is the
/// first. Longer at the end: an endpoint that was mended in the morning is not notified before the evening.
const ARM_AGAIN: (Duration, Duration) = (START_INTERVAL, Duration::from_secs(4 * 60 * 60));

/// How much of a refusal's text is kept, in bytes.
const REFUSAL_MAX: usize = 500;

/// A digest of the authentication id of a webhook: enough to recognise it, no use to who reads the ledger.
pub type AuthDigest = [u8; 32];

/// The webhook of one (tenant, content type), as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Of which content type.
    pub content_type: ContentType,
    /// What the last part of its address is found by.
    pub path_key: [u8; 16],
    /// Where the service was told to post.
    pub address: String,
    /// The authentication id that the service is known to have.
    pub accepted: Option<AuthDigest>,
    /// The one that went out with the last start, as long as it is not known what became of it.
    pub offered: Option<AuthDigest>,
    /// How it stands.
    pub state: WebhookState,
    /// Since when.
    pub since: Timestamp,
    /// When the service says it ends; `None` for never.
    pub expires: Option<Timestamp>,
    /// Starts in a row that were refused for its sake.
    pub failures: u32,
    /// How often it was found otherwise than it was set.
    pub drifts: u64,
    /// The last refusal, in the service's words.
    pub refusal: Option<String>,
    /// When the last notification came by it.
    pub notified_at: Option<Timestamp>,
}

/// How a webhook stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WebhookState {
    /// A start has asked for it, and the list has not shown it yet.
    Offered,
    /// Listed as it was set.
    Armed,
    /// The list has none any more, or never had (deviations D13, D14).
    Vanished,
    /// Switched off by the service after too many failures.
    Disabled,
    /// Its time is over.
    Expired,
    /// The list has another one in its place.
    Elsewhere,
    /// The service could not validate it.
    Refused,
    /// Not wanted any more; a start has asked to take it off.
    Leaving,
    /// Not wanted, and not there.
    Removed,
}

/// What a listing of subscriptions says about the webhook of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting<'a> {
    /// Where it posts.
    pub address: &'a str,
    /// Whether it is notified.
    pub status: &'a WebhookStatus,
    /// When it ends.
    pub expires: Option<Timestamp>,
    /// Of the authentication id that the list names, if it does.
    pub auth: Option<AuthDigest>,
}

/// What to do about the webhook of a type whose subscription is enabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookAction {
    /// It is as wanted, or nothing can be done about it now.
    Nothing,
    /// A start with it is due, but not before this.
    Wait {
        /// The first moment.
        until: Timestamp,
    },
    /// Start with it: a fresh authentication id into the ledger first, then send.
    Arm,
    /// Start with an explicit "none".
    Remove,
}

/// What to do. `wanted` is what the address must begin with, or that no webhook is wanted; `start_not_before` the service's
/// own wait before any start of this tenant.
pub fn decide(
    now: Timestamp,
    wanted: Option<&str>,
    subscription: &Subscription,
    webhook: Option<&Webhook>,
    start_not_before: Option<Timestamp>,
) -> WebhookAction {
    if subscription.enabled == Some(false) || subscription.listed_at.is_none() {
        // The subscription comes first. One that is listed without a status may well be enabled (activity-api.md §2.3).
        return WebhookAction::Nothing;
    }
    let is_due = match (wanted, webhook) {
        (None, None) => false,
        (None, Some(webhook)) => webhook.state != WebhookState::Removed,
        (Some(_), None) => true,
        (Some(wanted), Some(webhook)) if !webhook.address.starts_with(wanted) => true,
        // An offer is answered by the list: as armed, or as vanished once it has had its time.
        (Some(_), Some(webhook)) => !matches!(webhook.state, WebhookState::Armed | WebhookState::Offered),
    };
    if !is_due {
        return WebhookAction::Nothing;
    }
    let interval = webhook.map_or(START_INTERVAL, |webhook| patience(webhook.failures));
    // A start noted by a clock that was ahead of today's must not keep us waiting for years.
    let started = subscription.start_requested_at.filter(|started| *started <= now);
    match started.map(|started| later(started, interval)).max(start_not_before) {
        Some(until) if now < until => WebhookAction::Wait { until },
        _ if wanted.is_none() => WebhookAction::Remove,
        _ => WebhookAction::Arm,
    }
}

fn patience(failures: u32) -> Duration {
    ARM_AGAIN.0.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(ARM_AGAIN.1)
}

impl Webhook {
    /// The row before a start with it is sent. An address that is kept keeps what the service may still have.
    pub fn offer(
        before: Option<&Webhook>,
        now: Timestamp,
        content_type: ContentType,
        place: (String, [u8; 16]),
        auth: AuthDigest,
    ) -> Webhook {
        let (address, path_key) = place;
        let same = before.filter(|before| before.address == address);
        Webhook {
            content_type,
            path_key,
            address,
            accepted: same.and_then(|same| same.accepted),
            offered: Some(auth),
            state: WebhookState::Offered,
            since: now,
            expires: None,
            failures: before.map_or(0, |before| before.failures),
            drifts: before.map_or(0, |before| before.drifts),
            refusal: before.and_then(|before| before.refusal.clone()),
            notified_at: before.and_then(|before| before.notified_at),
        }
    }

    /// The service answered the start with what was asked for.
    #[must_use]
    pub fn taken(mut self) -> Webhook {
        if let Some(offered) = self.offered.take() {
            self.accepted = Some(offered);
        }
        self
    }

    /// The service refused it: an existing one stays as it was (activity-api.md §2.1), and is told apart by the next list.
    #[must_use]
    pub fn refused(mut self, now: Timestamp, words: &str) -> Webhook {
        self.offered = None;
        self.failures = self.failures.saturating_add(1);
        self.refusal = Some(words.get(..words.floor_char_boundary(REFUSAL_MAX)).unwrap_or_default().to_owned());
        self.becomes(WebhookState::Refused, now);
        self
    }

    /// A start has asked to take it off.
    #[must_use]
    pub fn leaves(mut self, now: Timestamp) -> Webhook {
        self.becomes(WebhookState::Leaving, now);
        self
    }

    /// The row after a listing made at `now`, and whether it was found otherwise than it was set: a drift, which the
    /// operator is told of. `started` is the last start of the type: right after it the list has no webhook yet.
    #[must_use]
    pub fn listed(
        mut self,
        now: Timestamp,
        sighting: Option<Sighting<'_>>,
        started: Option<Timestamp>,
    ) -> (Webhook, Option<WebhookState>) {
        let settling = started.is_some_and(|started| started <= now && now < later(started, START_INTERVAL));
        let ours = sighting.filter(|sighting| sighting.address == self.address);
        let found = match (self.state, sighting, ours) {
            (WebhookState::Leaving | WebhookState::Removed, _, None) => WebhookState::Removed,
            // Asked for again by the next decision.
            (WebhookState::Leaving | WebhookState::Removed, _, Some(_)) => WebhookState::Leaving,
            (_, _, Some(ours)) => match ours.status {
                WebhookStatus::Disabled => WebhookState::Disabled,
                WebhookStatus::Expired => WebhookState::Expired,
                WebhookStatus::Enabled | WebhookStatus::Unknown | WebhookStatus::Other(_) => WebhookState::Armed,
            },
            // A start that was refused said why; the list can say no more than that there is none.
            (WebhookState::Refused, None, None) => WebhookState::Refused,
            (before, _, None) if settling => before,
            (_, Some(_), None) => WebhookState::Elsewhere,
            (_, None, None) => WebhookState::Vanished,
        };
        if let Some(ours) = ours {
            self.expires = ours.expires;
            if ours.auth.is_some() && ours.auth == self.offered {
                self = self.taken();
            }
        }
        let drift = found.is_drift() && matches!(self.state, WebhookState::Armed | WebhookState::Offered);
        if drift {
            self.drifts = self.drifts.saturating_add(1);
        }
        if found == WebhookState::Armed {
            (self.failures, self.refusal) = (0, None);
        }
        self.becomes(found, now);
        (self, drift.then_some(found))
    }

    fn becomes(&mut self, state: WebhookState, now: Timestamp) {
        if self.state != state {
            (self.state, self.since) = (state, now);
        }
    }
}

impl WebhookState {
    /// In the order of their numbers in a ledger.
    pub const ALL: [WebhookState; 9] = [
        Self::Offered,
        Self::Armed,
        Self::Vanished,
        Self::Disabled,
        Self::Expired,
        Self::Elsewhere,
        Self::Refused,
        Self::Leaving,
        Self::Removed,
    ];

    /// The word for machines. Never changes once released.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Offered => "offered",
            Self::Armed => "armed",
            Self::Vanished => "vanished",
            Self::Disabled => "disabled",
            Self::Expired => "expired",
            Self::Elsewhere => "elsewhere",
            Self::Refused => "refused",
            Self::Leaving => "leaving",
            Self::Removed => "removed",
        }
    }

    /// What it means, in the operator's words; a fragment without a full stop.
    pub fn says(self) -> &'static str {
        match self {
            Self::Offered => "asked for; polling carries on alone until the service lists it",
            Self::Armed => "armed",
            Self::Vanished => "gone from the service's list; polling carries on alone, and it is set again by itself",
            Self::Disabled => {
                "switched off by the service after too many failures; polling carries on alone, and it is set again by \
                 itself: check that public.url is reached from the internet"
            }
            Self::Expired => "expired; polling carries on alone, and it is set again by itself",
            Self::Elsewhere => {
                "replaced by another address; it is set again by itself: does another installation use the same app?"
            }
            Self::Refused => {
                "not validated by the service; polling carries on alone: check that public.url is reached from the \
                 internet by https with a certificate that Microsoft trusts"
            }
            Self::Leaving => "not wanted any more; being taken off",
            Self::Removed => "none",
        }
    }

    /// Whether a call that arrives by it is to be believed.
    pub fn is_open(self) -> bool {
        !matches!(self, Self::Leaving | Self::Removed)
    }

    fn is_drift(self) -> bool {
        matches!(self, Self::Vanished | Self::Disabled | Self::Expired | Self::Elsewhere)
    }
}
