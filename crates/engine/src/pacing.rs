//! How fast one tenant is asked: a bucket of requests that refills evenly, is shut while the service throttles, and runs
//! slower for a while after that; and whose turn it is among those who share it.
//!
//! Never lets more than `requests_per_minute` plus one burst go out in any 60 seconds. Time is the span since the caller's
//! own start, on a clock that never goes back.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::ids::ContentType;

use crate::model::Jitter;

/// The share of a minute's budget that may go out at once. Smaller: a poll of five content types waits for itself. Larger:
/// the service sees a wall of requests after each quiet spell, which is what it throttles.
const BURST_SHARE: u32 = 60;

/// The slowest it ever gets, in requests a minute. Slower: a throttled tenant falls behind its seven days. Faster: a tenant
/// whose quota is far below the configured rate is throttled for ever.
const SLOWEST_PER_MINUTE: u32 = 6;

/// A quiet minute after throttling gives back this share of the configured rate: the full rate is back after 20 minutes.
/// Smaller share: hours at half speed after one hiccup. Larger: back into the throttle at once.
const RECOVERY_SHARE: u32 = 20;

/// The first pause after throttling when the service does not say how long (activity-api.md §7: 30 to 60 s).
const PAUSE_MIN: Duration = Duration::from_secs(30);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(10 * 60);

/// This many requests since the last throttling make the next one a new matter: the service serves us, and the pause it
/// asks for is answer enough. Smaller: a quota far below our rate is met with hardly any slowing. Larger: a service that
/// throttles one request in a hundred, whatever we do, is slowed down to nothing.
const SERVED_MIN: u32 = 10;

const MINUTE: Duration = Duration::from_secs(60);

/// One tenant's budget.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// Requests a minute as configured.
    limit: u32,
    /// Requests a minute now.
    rate: u32,
    /// When the bucket would be full again if nothing were taken (the virtual scheduling of a leaky bucket).
    full_at: Duration,
    /// Nothing goes out before.
    shut_until: Duration,
    /// Pauses in a row, with fewer than [`SERVED_MIN`] requests between them.
    pauses: u32,
    /// Requests taken since the last throttling.
    taken: u32,
    /// When the rate last changed.
    changed_at: Duration,
}

impl Bucket {
    /// A full bucket that refills by `requests_per_minute` (at least 1).
    pub fn new(requests_per_minute: u32) -> Self {
        let limit = requests_per_minute.max(1);
        Self {
            limit,
            rate: limit,
            full_at: Duration::ZERO,
            shut_until: Duration::ZERO,
            pauses: 0,
            taken: 0,
            changed_at: Duration::ZERO,
        }
    }

    /// The most requests that go out at once.
    pub fn burst(&self) -> u32 {
        (self.limit / BURST_SHARE).max(1)
    }

    /// Requests a minute at present.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// Takes one request out at `now`, or says how long to wait before asking for it again.
    pub fn take(&mut self, now: Duration) -> Option<Duration> {
        let shut = self.shut_until.saturating_sub(now);
        if shut.is_zero() {
            self.recover(now);
        }
        let interval = MINUTE / self.rate;
        let start = self.full_at.max(now);
        let lead = interval * (self.burst() - 1);
        // What was taken before a pause may outlast it.
        let wait = start.saturating_sub(now + lead).max(shut);
        if !wait.is_zero() {
            return Some(wait);
        }
        self.full_at = start + interval;
        self.taken = self.taken.saturating_add(1);
        None
    }

    /// The service said that the tenant asks too much (AF429), and how long to wait if it did: nothing goes out until then,
    /// and half as much after it unless many requests have been served since the last time. Answers to requests that were
    /// under way together count once.
    pub fn throttled(&mut self, now: Duration, told: Option<Duration>, jitter: Jitter) {
        if now >= self.shut_until {
            self.recover(now);
            if self.taken < SERVED_MIN {
                self.rate = (self.rate / 2).max(SLOWEST_PER_MINUTE).min(self.limit);
                self.pauses = self.pauses.saturating_add(1);
            } else {
                self.pauses = 1;
            }
            self.taken = 0;
            self.changed_at = now;
        }
        let doubled = PAUSE_MIN.saturating_mul(1 << (self.pauses.saturating_sub(1)).min(8)).min(PAUSE_MAX);
        let wait = match told {
            // Not earlier than told, and not all at the same moment.
            Some(told) => told + jitter.spread(told / 20),
            None => jitter.spread(doubled),
        };
        self.pause(now, wait);
    }

    /// Nothing goes out for `wait`.
    pub fn pause(&mut self, now: Duration, wait: Duration) {
        self.shut_until = self.shut_until.max(now.saturating_add(wait));
        // The spell in between is not saved up for a burst.
        self.full_at = self.full_at.max(self.shut_until);
        self.changed_at = self.changed_at.max(self.shut_until);
    }

    /// Gives back speed for each whole minute without throttling.
    fn recover(&mut self, now: Duration) {
        let Some(quiet) = now.checked_sub(self.changed_at) else { return };
        let minutes = u32::try_from(quiet.as_secs() / 60).unwrap_or(u32::MAX);
        if minutes == 0 {
            return;
        }
        self.changed_at += MINUTE * minutes;
        let step = (self.limit / RECOVERY_SHARE).max(1);
        self.rate = self.rate.saturating_add(step.saturating_mul(minutes)).min(self.limit);
        if self.rate == self.limit {
            self.pauses = 0;
        }
    }
}

/// Whose turn it is among the content types that share a tenant's budget: who has waited longest.
#[derive(Debug, Clone, Default)]
pub struct Turns {
    served: BTreeMap<ContentType, u64>,
    count: u64,
}

impl Turns {
    /// Chooses among those that have something to do; `None` when nobody has.
    pub fn next<'t>(&mut self, waiting: impl IntoIterator<Item = &'t ContentType>) -> Option<&'t ContentType> {
        let chosen = waiting.into_iter().min_by_key(|candidate| self.served.get(*candidate).copied().unwrap_or(0))?;
        self.count += 1;
        self.served.insert(chosen.clone(), self.count);
        Some(chosen)
    }
}
