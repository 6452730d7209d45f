//! The world's time, and the collector's clock, which may be wrong.
//!
//! The world's time is tokio's paused one while a collector lives, and stands still between two lives. The collector's
//! clock is the world's plus an error that a plan gives for each moment: somebody sets it ahead, back, and right again.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::TimeDelta;
use protocol::time::Timestamp;
use server::clock::Clock;
use tokio::time::Instant;

/// The world's time; clones show the same.
#[derive(Clone)]
pub(crate) struct WorldClock(Arc<Mutex<State>>);

#[derive(Clone, Copy)]
struct State {
    at: Timestamp,
    /// Since when it runs on from `at`; `None` while it stands still.
    since: Option<Instant>,
}

impl WorldClock {
    pub(crate) fn standing_at(at: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(State { at, since: None })))
    }

    pub(crate) fn now(&self) -> Timestamp {
        let state = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(since) = state.since else { return state.at };
        let passed = TimeDelta::from_std(since.elapsed()).unwrap_or(TimeDelta::zero());
        state.at + TimeDelta::milliseconds(passed.num_milliseconds())
    }

    /// Runs on with the time of the runtime that calls this.
    pub(crate) fn run(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).since = Some(Instant::now());
    }

    /// Stands still; to be called within the same runtime.
    pub(crate) fn stop(&self) {
        let at = self.now();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State { at, since: None };
    }

    /// Time passes while nobody lives.
    pub(crate) fn pass(&self, time: TimeDelta) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).at += time;
    }
}

/// From each moment on, how far the collector's clock is ahead of the world's; ordered.
pub(crate) type Errors = Vec<(Timestamp, TimeDelta)>;

/// The collector's clock.
pub(crate) struct WrongClock {
    pub(crate) world: WorldClock,
    pub(crate) errors: Errors,
}

impl WrongClock {
    /// How far it is ahead at that moment, and since when.
    pub(crate) fn error_at(&self, at: Timestamp) -> (TimeDelta, Timestamp) {
        let last = self.errors.iter().rev().find(|(from, _)| *from <= at);
        last.map_or((TimeDelta::zero(), Timestamp::MIN_UTC), |(from, error)| (*error, *from))
    }
}

impl Clock for WrongClock {
    fn now(&self) -> Timestamp {
        let now = self.world.now();
        now + self.error_at(now).0
    }
}
