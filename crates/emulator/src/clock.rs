//! The clock of the emulated world: real time, real time with an offset or a speed, or standing still until told.
//!
//! The only place of the crate that reads the machine's clock. Everything else asks [`EmulatorClock::now`], so a test
//! that freezes it sees the same world every time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// A shared clock; clones show the same time.
#[derive(Debug, Clone)]
pub struct EmulatorClock {
    mode: Arc<Mutex<Mode>>,
}

#[derive(Debug, Clone, Copy)]
enum Mode {
    /// Shows `shown` when the machine showed `read`, and runs `speed` times as fast from there on.
    Running {
        shown: DateTime<Utc>,
        read: DateTime<Utc>,
        speed: f64,
    },
    Frozen(DateTime<Utc>),
}

impl EmulatorClock {
    /// The machine's own time.
    pub fn real() -> Self {
        let read = machine_time();
        Self::with(Mode::Running { shown: read, read, speed: 1.0 })
    }

    /// Starts at `shown` and runs on from there, `speed` emulated seconds per real second.
    pub fn running_from(shown: DateTime<Utc>, speed: f64) -> Self {
        Self::with(Mode::Running { shown, read: machine_time(), speed })
    }

    /// Stands still at `at` until it is set or advanced.
    pub fn frozen(at: DateTime<Utc>) -> Self {
        Self::with(Mode::Frozen(at))
    }

    fn with(mode: Mode) -> Self {
        Self { mode: Arc::new(Mutex::new(mode)) }
    }

    /// The time in the emulated world, to the millisecond.
    pub fn now(&self) -> DateTime<Utc> {
        self.lock().now()
    }

    /// Jumps to `to`, backwards too; a running clock runs on from there, a frozen one stays frozen.
    pub fn set(&self, to: DateTime<Utc>) {
        let mut mode = self.lock();
        *mode = match *mode {
            Mode::Running { speed, .. } => Mode::Running { shown: to, read: machine_time(), speed },
            Mode::Frozen(_) => Mode::Frozen(to),
        };
    }

    /// Jumps forward.
    pub fn advance(&self, by: Duration) {
        let mut mode = self.lock();
        let to = later(mode.now(), by);
        *mode = match *mode {
            Mode::Running { speed, .. } => Mode::Running { shown: to, read: machine_time(), speed },
            Mode::Frozen(_) => Mode::Frozen(to),
        };
    }

    /// Stops at the time it shows.
    pub fn freeze(&self) {
        let mut mode = self.lock();
        *mode = Mode::Frozen(mode.now());
    }

    /// Runs on from the time it shows, `speed` emulated seconds per real second.
    pub fn run(&self, speed: f64) {
        let mut mode = self.lock();
        *mode = Mode::Running { shown: mode.now(), read: machine_time(), speed };
    }

    /// Whether it stands still.
    pub fn is_frozen(&self) -> bool {
        matches!(*self.lock(), Mode::Frozen(_))
    }

    /// Emulated seconds per real second; 0 when frozen.
    pub fn speed(&self) -> f64 {
        match *self.lock() {
            Mode::Running { speed, .. } => speed,
            Mode::Frozen(_) => 0.0,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Mode> {
        // A panic cannot leave the two-word state half written.
        self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mode {
    fn now(&self) -> DateTime<Utc> {
        match *self {
            Mode::Frozen(at) => at,
            Mode::Running { shown, read, speed } => {
                let passed = (machine_time() - read).num_milliseconds();
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_precision_loss,
                    reason = "milliseconds since start"
                )]
                let millis = (passed as f64 * speed) as i64;
                shown.checked_add_signed(TimeDelta::milliseconds(millis)).unwrap_or(shown)
            }
        }
    }
}

/// `at + by`, staying at the calendar's end instead of overflowing.
pub(crate) fn later(at: DateTime<Utc>, by: Duration) -> DateTime<Utc> {
    let by = TimeDelta::from_std(by).unwrap_or(TimeDelta::MAX);
    at.checked_add_signed(by).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

fn machine_time() -> DateTime<Utc> {
    let now = DateTime::<Utc>::from(std::time::SystemTime::now());
    DateTime::from_timestamp_millis(now.timestamp_millis()).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_clock_moves_only_when_told() {
        let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let clock = EmulatorClock::frozen(start);
        let shared = clock.clone();
        assert_eq!(clock.now(), start);
        shared.advance(Duration::from_secs(3600));
        assert_eq!(clock.now(), start + TimeDelta::hours(1));
        shared.set(start - TimeDelta::days(1));
        assert_eq!(clock.now(), start - TimeDelta::days(1));
        assert!(clock.is_frozen());
    }

    #[test]
    fn a_running_clock_keeps_running_after_a_jump() {
        let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let clock = EmulatorClock::running_from(start, 0.0);
        clock.advance(Duration::from_secs(60));
        assert!(!clock.is_frozen());
        assert_eq!(clock.now(), start + TimeDelta::minutes(1));
        clock.freeze();
        assert!(clock.is_frozen());
    }
}
