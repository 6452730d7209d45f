//! What time it is, and waiting for a time.
//!
//! Never read elsewhere: workers take a [`Clock`], so that a test can set it and run a week in a second. Waiting is
//! tokio's, so a test pauses it; spans (token lifetimes, budgets) are measured by tokio's instant, which no clock jump moves.

use std::sync::Arc;
use std::time::Duration;

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
        let elapsed = chrono::TimeDelta::from_std(self.origin.elapsed()).unwrap_or(chrono::TimeDelta::MAX);
        self.start.checked_add_signed(elapsed).unwrap_or(Timestamp::MAX_UTC)
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
