//! What time it is, and waiting for a time.
//!
//! Never read elsewhere: workers take a [`Clock`], so that a test can set it and run a week in a second. Waiting is
//! tokio's, so a test pauses it; spans (token lifetimes, budgets) are measured by tokio's instant, which no clock jump moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
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
}

impl ServerClock {
    /// A clock that is taken to agree until an answer says otherwise.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, ahead: AtomicI64::new(0), told: AtomicBool::new(false) }
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

    /// Takes note of the `Date` of an answer that has just come after `took`; tells the operator when the clocks begin to
    /// differ, and when they agree again.
    pub(crate) fn note(&self, date: Timestamp, took: Duration) {
        let Some(ahead) = engine::skew::offset(self.clock.now(), took, date) else { return };
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
