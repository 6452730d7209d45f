//! What time it is, and waiting for a time.
//!
//! Never read elsewhere: workers take a [`Clock`], so that a test can set it and run a week in a second. Waiting is
//! tokio's, so a test pauses it; spans (token lifetimes, budgets) are measured by tokio's instant, which no clock jump moves.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;
use protocol::time::Timestamp;
use tokio::time::Instant;

/// Tells the time of day.
pub trait Clock: Send + Sync {
    /// Now, UTC. May jump in either direction when somebody sets it.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        std::time::SystemTime::now().into()
    }
}

/// A clock that starts where it is told and moves with tokio's time: paused and advanced with it in tests.
#[derive(Debug, Clone)]
pub struct TokioClock {
    start: Timestamp,
    origin: Instant,
}

impl TokioClock {
    /// A clock that shows `start` now.
    pub fn starting_at(start: Timestamp) -> Arc<Self> {
        Arc::new(Self { start, origin: Instant::now() })
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        let elapsed = TimeDelta::from_std(self.origin.elapsed()).unwrap_or(TimeDelta::MAX);
        self.start.checked_add_signed(elapsed).unwrap_or(Timestamp::MAX_UTC)
    }
}

/// Our clock, set right by the server's where the two differ noticeably: what the server will judge a time by.
pub struct ServerClock {
    clock: Arc<dyn Clock>,
    /// Milliseconds the server is ahead of us, as last seen.
    ahead: AtomicI64,
    /// Whether the operator knows.
    told: AtomicBool,
    /// What the server's last answer was dated, and when it came by a clock that nobody sets.
    heard: Mutex<Option<(Instant, Timestamp)>>,
}

impl ServerClock {
    /// A clock that is taken to agree until an answer says otherwise.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, ahead: AtomicI64::new(0), told: AtomicBool::new(false), heard: Mutex::new(None) }
    }

    /// What the server's clock shows, as far as we know.
    pub fn now(&self) -> Timestamp {
        let now = self.clock.now();
        now.checked_add_signed(engine::skew::allowance(self.ahead())).unwrap_or(now)
    }

    /// How far the server is ahead of us (negative: behind), by its last answer.
    pub fn ahead(&self) -> TimeDelta {
        TimeDelta::milliseconds(self.ahead.load(Ordering::Relaxed))
    }

    /// The service's clock showed `date` just now, or earlier: it has surely come. What was heard before stands if it says
    /// more, unless this one is to be trusted above it.
    pub(crate) fn hear(&self, date: Timestamp, is_prompt: bool) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let known = heard.and_then(|(at, shown)| shown.checked_add_signed(TimeDelta::from_std(at.elapsed()).ok()?));
        if is_prompt || known.is_none_or(|known| date > known) {
            *heard = Some((Instant::now(), date));
        }
    }

    /// Takes note of the `Date` of an answer that has just come after `took`; tells the operator when the clocks begin to
    /// differ, and when they agree again.
    pub(crate) fn note(&self, date: Timestamp, took: Duration) {
        let now = self.clock.now();
        let offset = engine::skew::offset(now, took, date);
        self.hear(date, offset.is_some());
        let Some(ahead) = offset else { return };
        self.ahead.store(ahead.num_milliseconds(), Ordering::Relaxed);
        let differs = !engine::skew::allowance(ahead).is_zero();
        if self.told.swap(differs, Ordering::Relaxed) == differs {
            return;
        }
        if differs {
            tracing::warn!(
                server_ahead_s = ahead.num_seconds(),
                "this machine's clock does not agree with Entra ID's: it is allowed for, but set it by NTP"
            );
        } else {
            tracing::info!("this machine's clock agrees with Entra ID's again");
        }
    }
}

/// A time that has surely come: our clock's, unless the server's last answer and the time since then say that it is earlier.
/// What is dropped for its age is judged by this, so that a clock set years ahead for an hour costs nothing, and windows are
/// cut and listed by it, so that none counts as listed that was still to come for the service. Until the server has been
/// heard, there is only our own.
#[derive(Clone)]
pub(crate) struct SureClock(pub(crate) Arc<ServerClock>);

impl Clock for SureClock {
    fn now(&self) -> Timestamp {
        let now = self.0.clock.now();
        let heard = *self.0.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let theirs = heard.and_then(|(at, shown)| shown.checked_add_signed(TimeDelta::from_std(at.elapsed()).ok()?));
        let Some(theirs) = theirs else { return now };
        now.checked_add_signed(engine::skew::allowance(theirs - now).min(TimeDelta::zero())).unwrap_or(now)
    }
}

/// The longest single wait for a time of day. The clock may be set while we wait; after this long it is asked again.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Waits until the clock shows `time`; returns at once when it has passed.
pub async fn sleep_until(clock: &dyn Clock, time: Timestamp) {
    loop {
        let left = until(clock, time);
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LONGEST_WAIT)).await;
    }
}

/// How long it is until `time`; zero when it has passed.
pub fn until(clock: &dyn Clock, time: Timestamp) -> Duration {
    (time - clock.now()).to_std().unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that somebody sets, beside tokio's time.
    struct SetClock(Arc<TokioClock>, AtomicI64);

    impl Clock for SetClock {
        fn now(&self) -> Timestamp {
            self.0.now() + TimeDelta::seconds(self.1.load(Ordering::Relaxed))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_ahead_makes_nothing_past_and_one_that_is_behind_is_believed() {
        let start = protocol::time::parse_timestamp("2026-03-10T12:34:56Z").unwrap();
        let right = TokioClock::starting_at(start);
        let ours = Arc::new(SetClock(Arc::clone(&right), AtomicI64::new(0)));
        let server = Arc::new(ServerClock::new(Arc::clone(&ours) as Arc<dyn Clock>));
        let sure = SureClock(Arc::clone(&server));
        let year = 365 * 86_400;
        ours.1.store(year, Ordering::Relaxed);
        assert_eq!(sure.now(), ours.now(), "nobody was heard yet");
        ours.1.store(0, Ordering::Relaxed);
        server.note(start, Duration::ZERO);
        assert_eq!(sure.now(), ours.now(), "a difference of half a second is none");
        // Set after the answer, and no answer since.
        ours.1.store(year, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!((sure.now() - right.now()).abs() < TimeDelta::seconds(1), "{}", sure.now());
        // Set before the answer.
        server.note(right.now(), Duration::ZERO);
        assert!((sure.now() - right.now()).abs() < TimeDelta::seconds(1), "{}", sure.now());
        ours.1.store(-year, Ordering::Relaxed);
        server.note(right.now(), Duration::ZERO);
        assert_eq!(sure.now(), ours.now(), "what has not come by our clock waits");
    }
}
