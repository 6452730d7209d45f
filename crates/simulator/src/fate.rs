//! The dice of one run and the count of its steps: everything that happens passes here, is written into the trace, and may
//! be the last thing that happens.
//!
//! Never looks at a real clock: the trace shows the world's time, and the same seed draws the same run.

use std::fmt::{Display, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fastrand::Rng;
use tokio::sync::Notify;

use crate::clock::WorldClock;

/// What everything that can fail asks.
pub(crate) struct Fate {
    clock: WorldClock,
    inner: Mutex<Inner>,
    died: Notify,
}

struct Inner {
    rng: Rng,
    steps: u64,
    crash_at: Option<u64>,
    dead: bool,
    hash: blake3::Hasher,
    /// The last lines, or all of them when somebody wants to see them.
    lines: std::collections::VecDeque<String>,
    keep: usize,
}

impl Fate {
    pub(crate) fn new(seed: u64, clock: WorldClock, keep: usize) -> Self {
        Self {
            clock,
            inner: Mutex::new(Inner {
                rng: Rng::with_seed(seed),
                steps: 0,
                crash_at: None,
                dead: false,
                hash: blake3::Hasher::new(),
                lines: std::collections::VecDeque::new(),
                keep,
            }),
            died: Notify::new(),
        }
    }

    /// A collector's life begins, and ends with a crash after so many steps if a number is given.
    pub(crate) fn live(&self, steps: Option<u64>) {
        let mut inner = self.lock();
        inner.dead = false;
        inner.crash_at = steps.map(|steps| inner.steps + steps);
    }

    /// The power is gone, now.
    pub(crate) fn kill(&self) {
        self.lock().dead = true;
        self.died.notify_waiters();
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// Completes when the crash comes.
    pub(crate) async fn death(&self) {
        loop {
            let died = self.died.notified();
            if self.is_dead() {
                return;
            }
            died.await;
        }
    }

    /// Something happens. `false`: it does not, because the crash has come, or comes now.
    pub(crate) fn step(&self, what: impl Display) -> bool {
        let now = self.clock.now();
        let mut inner = self.lock();
        if inner.dead {
            return false;
        }
        inner.steps += 1;
        let mut line = String::with_capacity(96);
        let _ = write!(line, "{:>7} {} {what}", inner.steps, now.format("%m-%d %H:%M:%S%.3f"));
        let crashes = inner.crash_at.is_some_and(|at| inner.steps >= at);
        if crashes {
            line.push_str("   <- the crash");
        }
        inner.write(line);
        if crashes {
            inner.dead = true;
            drop(inner);
            self.died.notify_waiters();
            return false;
        }
        true
    }

    /// A line of the trace that is no step.
    pub(crate) fn note(&self, what: &str) {
        let now = self.clock.now();
        self.lock().write(format!("        {} {what}", now.format("%m-%d %H:%M:%S%.3f")));
    }

    /// Draws from the run's dice.
    pub(crate) fn draw<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.lock().rng)
    }

    pub(crate) fn chance(&self, share: f64) -> bool {
        share > 0.0 && self.draw(Rng::f64) < share
    }

    pub(crate) fn steps(&self) -> u64 {
        self.lock().steps
    }

    /// The digest of all lines so far.
    pub(crate) fn digest(&self) -> String {
        self.lock().hash.finalize().to_hex().to_string()
    }

    /// The lines that were kept.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lock().lines.iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn write(&mut self, line: String) {
        self.hash.update(line.as_bytes());
        if self.lines.len() >= self.keep {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}
