//! How fresh a token must be, and when to ask for another.
//!
//! Never says that a token may be used when it may have expired on the way, and never asks for a new one more often than
//! Entra ID bears. Durations count from the moment the request for the token was sent, on a clock that never goes back
//! (entra.md §5.5: not from `expires_on`, so that a wrong wall clock does no harm).

use std::time::Duration;

use protocol::entra::{EntraDisposition, RetryClass, THROTTLE_WAIT};
use protocol::ids::TenantId;

use crate::model::Jitter;

/// A token is renewed this long before it expires (entra.md §5.5). Smaller: a token endpoint that is down for some minutes
/// stops collection. Larger: more token requests than needed.
const RENEW_BEFORE_EXPIRY: Duration = Duration::from_secs(5 * 60);

/// A token is not sent any more this long before it expires: a slow request must not arrive with a dead one.
const UNUSED_BEFORE_EXPIRY: Duration = Duration::from_secs(30);

/// A credential that Entra ID refused is passed over for this long while there is another one. Smaller: each token costs
/// a refused request. Larger: a credential that has been mended stays unused.
pub const REFUSED_CREDENTIAL_REST: Duration = Duration::from_secs(15 * 60);

/// Waits after failures that pass by themselves: doubled from the first to the second.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(5 * 60));
/// Waits while the tenant's admin has something to do. The first is short: right after consent a token may still lack its
/// role for some minutes, and a token endpoint may say 700016 before the directory has replicated (entra.md §3.5).
const ADMIN: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(60 * 60));
/// Waits while the operator has something to do: the same for all tenants, and one request each time.
const OPERATOR: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(15 * 60));

/// How often a managed identity's endpoint is asked before its credential is given up for this time (entra.md §5.4).
const IDENTITY_TRIES: u32 = 5;

/// The fleet whose tokens may all be asked for at once, some at a time: too small to be a burst to anybody.
const UNPACED_TENANTS: usize = 256;

/// Of a larger fleet, so many may come at once; the rest follow at an even pace.
const BURST: u32 = 32;

/// A large fleet's first tokens are spread over this long, and no later burst is denser than that. Smaller: more than twice
/// the mean rate, which is one request a tenant in 56 to 70 minutes. Larger: the last tenants start late.
const FILL_TIME: Duration = Duration::from_secs(50 * 60);

/// The slowest pace, so that a fleet of middling size does not start slower than a huge one: ten requests in three seconds.
const SPACING_MAX: Duration = Duration::from_millis(300);

/// What to do with a token that has just come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// From here on a new one is asked for, while this one still works.
    pub renew_after: Duration,
    /// From here on it is not used any more. Never before `renew_after`.
    pub use_for: Duration,
}

/// When to renew a token that lives for `lifetime`, and through when to use it. `refresh_in` is the server's own advice.
///
/// The renewal is drawn earlier by up to twice the jitter's share, never later, so that tokens that came together are not
/// renewed together.
pub fn plan(lifetime: Duration, refresh_in: Option<Duration>, jitter: Jitter) -> Plan {
    // Short-lived tokens (tests, odd servers) keep the proportions instead of the minutes.
    let use_for = lifetime - UNUSED_BEFORE_EXPIRY.min(lifetime / 4);
    let latest = lifetime - RENEW_BEFORE_EXPIRY.min(lifetime / 2);
    let latest = refresh_in.map_or(latest, |advised| latest.min(advised)).min(use_for);
    let earlier = f64::from(100 - jitter.percent.min(50)) / 100.0;
    let renew_after = jitter.spread(latest.mul_f64(earlier)).min(latest);
    Plan { renew_after, use_for }
}

/// A spread that differs from tenant to tenant and from one renewal to the next, and is the same in every run.
pub fn jitter(tenant: TenantId, times: u64) -> Jitter {
    let (high, low) = tenant.as_uuid().as_u64_pair();
    Jitter { seed: high.rotate_left(32) ^ low ^ times.wrapping_mul(0x9e37_79b9_7f4a_7c15), percent: 20 }
}

/// How fast a fleet's tokens may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The time between two requests, on average. Zero: no pace.
    pub spacing: Duration,
    /// Requests that may come before their time.
    pub burst: u32,
}

/// The pace of a fleet of `tenants`.
pub fn pace(tenants: usize) -> Pace {
    if tenants <= UNPACED_TENANTS {
        return Pace { spacing: Duration::ZERO, burst: BURST };
    }
    let tenants = u32::try_from(tenants).unwrap_or(u32::MAX);
    Pace { spacing: (FILL_TIME / tenants).min(SPACING_MAX), burst: BURST }
}

/// When a fleet's `number`-th tenant (from 0) may ask first, counted from the start.
pub fn first_turn(number: usize, pace: Pace) -> Duration {
    pace.spacing.saturating_mul(u32::try_from(number).unwrap_or(u32::MAX).saturating_sub(pace.burst))
}

/// Whose turn it is: hands out moments no denser than a pace. Times count from any fixed moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Turns {
    /// When the next request would be due if none came before its time.
    due: Duration,
}

impl Turns {
    /// How long whoever asks at `now` has to wait for their turn.
    pub fn wait(&self, now: Duration, pace: Pace) -> Duration {
        self.due.saturating_sub(pace.spacing * pace.burst).saturating_sub(now)
    }

    /// Takes the next turn, and says how long to wait for it.
    pub fn take(&mut self, now: Duration, pace: Pace) -> Duration {
        let wait = self.wait(now, pace);
        self.due = self.due.max(now) + pace.spacing;
        wait
    }
}

/// How long to wait before a managed identity's endpoint is asked again, after `tries` failures; `None`: not this time.
pub fn retry_identity(tries: u32) -> Option<Duration> {
    (tries < IDENTITY_TRIES).then(|| BACK_OFF.0 * (1 << tries.saturating_sub(1).min(10)))
}

/// Through when a managed identity's token that lives for `lifetime` is used; then a new one is asked for.
pub fn plan_identity(lifetime: Duration) -> Duration {
    lifetime - RENEW_BEFORE_EXPIRY.min(lifetime / 2)
}

/// How long to wait after the `attempts`-th failure in a row (1 is the first) that Entra ID itself reported.
pub fn retry(disposition: EntraDisposition, attempts: u32, jitter: Jitter) -> Duration {
    let told = match disposition {
        EntraDisposition::RetryAfter { wait, .. } => Some(wait),
        EntraDisposition::BackOff { .. }
        | EntraDisposition::NewAssertion { .. }
        | EntraDisposition::NeedsTenantAdmin(_)
        | EntraDisposition::StopApp(_)
        | EntraDisposition::ConsentFailed(_)
        | EntraDisposition::RetrySlowly
        | EntraDisposition::Bug => None,
    };
    let (first, longest) = match disposition.class() {
        RetryClass::Now => BACK_OFF,
        RetryClass::Slowly | RetryClass::Person => ADMIN,
        RetryClass::StopApp | RetryClass::Bug => OPERATOR,
    };
    match told {
        // Not earlier than told; a thousand tenants that were told the same do not come back at the same moment.
        Some(wait) => wait + jitter.spread(wait.min(THROTTLE_WAIT) / 2),
        None => grown(first, longest, attempts, jitter),
    }
}

/// How long to wait after the `attempts`-th request in a row that got no answer.
pub fn retry_unanswered(attempts: u32, jitter: Jitter) -> Duration {
    grown(BACK_OFF.0, BACK_OFF.1, attempts, jitter)
}

/// How long to wait when the API has refused one fresh token after another: `refusals` in a row (1 is the first, after
/// which a fresh token is asked for at once).
pub fn retry_refused(refusals: u32, jitter: Jitter) -> Duration {
    match refusals {
        0 | 1 => Duration::ZERO,
        more => grown(ADMIN.0, ADMIN.1, more - 1, jitter),
    }
}

fn grown(first: Duration, longest: Duration, attempts: u32, jitter: Jitter) -> Duration {
    let doublings = attempts.saturating_sub(1).min(20);
    jitter.spread(first.saturating_mul(1 << doublings).min(longest))
}
