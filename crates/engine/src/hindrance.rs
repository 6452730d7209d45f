//! Why there is a gap: what stood in the way of listing a feed, noted when it happened and held against the gap afterwards.
//!
//! Never guesses: a cause is something that was written down while it lasted, or that nothing was written down because
//! nobody was there to. The set of causes is closed; what a report shows is [`Explained`].

use std::fmt::Write as _;
use std::str::FromStr;

use chrono::TimeDelta;
use protocol::activity::RETENTION;
use protocol::time::Timestamp;

use crate::model::{Gap, TenantState};
use crate::problem::ProblemKind;

/// Two notes that the collector is at work with less between them are one spell of work. Smaller than a few notes apart: a
/// ledger that was busy for a moment would look like an outage. Larger: an outage of that length is not seen.
pub const AT_WORK_JOINED: TimeDelta = TimeDelta::minutes(30);

/// How often it is noted that the collector is at work.
pub const AT_WORK_EVERY: std::time::Duration = std::time::Duration::from_secs(10 * 60);

/// What comes back within this is one hindrance, not two: a throttled tenant is refused, let through, and refused again.
pub const HINDRANCE_JOINED: TimeDelta = TimeDelta::hours(1);

/// Parts of the story that a sentence tells; the longest.
const TOLD_MAX: usize = 3;

/// Why time is missing. Of the parts of a story that are equally long, the one that comes first here gives the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GapCause {
    /// The feed keeps nothing for who has no subscription: it was stopped, by us or by others.
    SubscriptionStopped,
    /// The feed keeps nothing for who has no subscription: there was none before.
    BeforeSubscription,
    /// The operator had paused the tenant.
    TenantPaused,
    /// The operator had removed the tenant.
    TenantRemoved,
    /// What was refused, or did not answer, and by whom.
    Problem(ProblemKind),
    /// The collector was not running, or could not write its ledger.
    CollectorOff,
    /// The collector was at work and did not get there in time.
    NotReached,
    /// Nothing was noted yet at that time, or it was too long ago to be kept.
    NotRecorded,
}

/// Something that stood in the way for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hindrance {
    /// What.
    pub cause: GapCause,
    /// Since when.
    pub since: Timestamp,
    /// Until when; `None` while it stands.
    pub until: Option<Timestamp>,
}

/// What is known of the time in which a feed was, or was not, listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// What stood in the way of the feed or its whole tenant, in any order.
    pub hindrances: Vec<Hindrance>,
    /// When a collector was at work, in order and without overlaps.
    pub at_work: Vec<Gap>,
}

/// A gap with its cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// Which.
    pub gap: Gap,
    /// What stood in the way for most of the time in which it could have been listed.
    pub cause: GapCause,
    /// All that stood in the way in that time, in order.
    pub story: Vec<(GapCause, Gap)>,
}

impl History {
    /// Why this gap was not listed. What was created at its beginning could be had from then on, and what was created at its
    /// end for seven days more: what stood in the way in that time is the story.
    pub fn explain(&self, gap: Gap) -> Explained {
        let retention = TimeDelta::from_std(RETENTION).unwrap_or(TimeDelta::MAX);
        let reach = Gap { start: gap.start, until: gap.until.checked_add_signed(retention).unwrap_or(gap.until) };
        let mut borders = vec![reach.start, reach.until];
        borders.extend(self.hindrances.iter().flat_map(|known| [Some(known.since), known.until]).flatten());
        borders.extend(self.spells().flat_map(|spell| [spell.start, spell.until]));
        borders.retain(|border| (reach.start..=reach.until).contains(border));
        borders.sort();
        borders.dedup();
        let mut story: Vec<(GapCause, Gap)> = Vec::new();
        for (start, until) in borders.iter().zip(borders.iter().skip(1)) {
            let cause = self.cause_at(*start);
            match story.last_mut() {
                Some((last, span)) if *last == cause => span.until = *until,
                _ => story.push((cause, Gap { start: *start, until: *until })),
            }
        }
        // Being at work is no hindrance while there is another: it ends before one begins and begins after one ends.
        if story.iter().any(|(cause, _)| *cause != GapCause::NotReached) {
            story.retain(|(cause, _)| *cause != GapCause::NotReached);
        }
        let cause = longest(&story).unwrap_or(GapCause::NotRecorded);
        Explained { gap, cause, story }
    }

    /// Spans of which the feed keeps nothing, whoever asks: those without a subscription.
    pub fn unkept(&self) -> Vec<Explained> {
        let is_unkept = |cause| matches!(cause, GapCause::SubscriptionStopped | GapCause::BeforeSubscription);
        let unkept = self.hindrances.iter().filter(|known| is_unkept(known.cause)).filter_map(|known| {
            let gap = Gap { start: known.since, until: known.until.filter(|until| *until > known.since)? };
            Some(Explained { gap, cause: known.cause, story: vec![(known.cause, gap)] })
        });
        let mut unkept: Vec<Explained> = unkept.collect();
        unkept.sort_by_key(|explained| explained.gap.start);
        unkept
    }

    /// Spells of work, each through the time in which the next note would have come.
    fn spells(&self) -> impl Iterator<Item = Gap> {
        let every = TimeDelta::from_std(AT_WORK_EVERY).unwrap_or_default();
        let until = move |spell: &Gap| spell.until.checked_add_signed(every).unwrap_or(spell.until);
        self.at_work.iter().map(move |spell| Gap { start: spell.start, until: until(spell) })
    }

    fn cause_at(&self, time: Timestamp) -> GapCause {
        let standing = self
            .hindrances
            .iter()
            .filter(|known| known.since <= time && known.until.is_none_or(|until| time < until))
            .map(|known| known.cause)
            .min_by_key(|cause| cause.rank());
        let is_at_work = self.spells().any(|spell| (spell.start..spell.until).contains(&time));
        match standing {
            // That one was refused is known for as long as somebody asked.
            Some(GapCause::Problem(kind)) if is_at_work => GapCause::Problem(kind),
            Some(cause) if !matches!(cause, GapCause::Problem(_)) => cause,
            _ if is_at_work => GapCause::NotReached,
            _ if self.at_work.first().is_none_or(|first| time < first.start) => GapCause::NotRecorded,
            _ => GapCause::CollectorOff,
        }
    }
}

fn longest(story: &[(GapCause, Gap)]) -> Option<GapCause> {
    let share = |wanted: GapCause| -> TimeDelta {
        let parts = story.iter().filter(|(cause, _)| *cause == wanted);
        parts.map(|(_, span)| span.until - span.start).sum()
    };
    let causes = story.iter().map(|(cause, _)| *cause);
    causes.max_by_key(|cause| (share(*cause), std::cmp::Reverse(cause.rank())))
}

impl Explained {
    /// The story in a sentence without a full stop: the longest parts, in order.
    pub fn says(&self) -> String {
        let mut told: Vec<&(GapCause, Gap)> = self.story.iter().collect();
        told.sort_by_key(|(_, span)| std::cmp::Reverse(span.until - span.start));
        let more = told.len().saturating_sub(TOLD_MAX);
        told.truncate(TOLD_MAX);
        told.sort_by_key(|(_, span)| span.start);
        let mut text = String::new();
        for (cause, span) in told {
            let parted = if text.is_empty() { "" } else { "; " };
            // Writing into a text does not fail.
            let _ = write!(text, "{parted}{} from {} to {}", cause.says(), minute(span.start), minute(span.until));
        }
        if more > 0 {
            let _ = write!(text, "; and more, {more} times");
        }
        text
    }
}

fn minute(time: Timestamp) -> impl std::fmt::Display {
    time.format("%Y-%m-%d %H:%MZ")
}

impl GapCause {
    /// The cause that a tenant's state is; `None` when it is collected.
    pub fn of_state(state: TenantState) -> Option<Self> {
        match state {
            TenantState::Active => None,
            TenantState::Paused => Some(Self::TenantPaused),
            TenantState::Removed => Some(Self::TenantRemoved),
        }
    }

    /// The word for machines. Never changes once released.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SubscriptionStopped => "subscription_stopped",
            Self::BeforeSubscription => "before_subscription",
            Self::TenantPaused => "tenant_paused",
            Self::TenantRemoved => "tenant_removed",
            Self::Problem(kind) => kind.as_str(),
            Self::CollectorOff => "collector_off",
            Self::NotReached => "not_reached",
            Self::NotRecorded => "not_recorded",
        }
    }

    /// What it means, in the operator's words; a fragment without a full stop that a time may follow.
    pub fn says(self) -> &'static str {
        match self {
            Self::SubscriptionStopped => "the subscription was stopped, and Microsoft kept nothing",
            Self::BeforeSubscription => "there was no subscription yet, and Microsoft kept nothing",
            Self::TenantPaused => "the tenant was paused",
            Self::TenantRemoved => "the tenant was removed",
            Self::Problem(kind) => kind.problem(),
            Self::CollectorOff => "the collector did not run, or could not write its ledger",
            Self::NotReached => "the collector was at work and did not get there in time",
            Self::NotRecorded => "what stood in the way was not recorded",
        }
    }

    /// Which of several that stand at one time gives the name: what lies nearer to the service's silence first.
    fn rank(self) -> u8 {
        match self {
            Self::SubscriptionStopped => 0,
            Self::BeforeSubscription => 1,
            Self::TenantPaused => 2,
            Self::TenantRemoved => 3,
            Self::Problem(_) => 4,
            Self::CollectorOff => 5,
            Self::NotReached => 6,
            Self::NotRecorded => 7,
        }
    }
}

/// A word that names no cause.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no cause of a gap: it was written by a later version, or by nobody")]
pub struct UnknownCause(String);

impl FromStr for GapCause {
    type Err = UnknownCause;

    fn from_str(word: &str) -> Result<Self, UnknownCause> {
        let plain = [
            Self::SubscriptionStopped,
            Self::BeforeSubscription,
            Self::TenantPaused,
            Self::TenantRemoved,
            Self::CollectorOff,
            Self::NotReached,
            Self::NotRecorded,
        ];
        let all = plain.into_iter().chain(ProblemKind::ALL.into_iter().map(Self::Problem));
        all.into_iter().find(|cause| cause.as_str() == word).ok_or_else(|| UnknownCause(word.to_owned()))
    }
}
