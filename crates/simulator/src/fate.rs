//! The dice of one run and the count of its steps: everything that happens passes here, is written into the trace, and may
//! be the last thing that happens.
//!
//! Never looks at a real clock: the trace shows the world's time, and the same seed draws the same run.

use std::fmt::{Display, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fastrand::Rng;
use tokio::sync::Notify;

use crate::clock::WorldClock;

/// What everything that can fail asks.
pub(crate) struct Fate {
    clock: WorldClock,
    /// Stands before each line, where several write one trace.
    name: String,
    inner: Mutex<Inner>,
    trace: Arc<Mutex<Trace>>,
    died: Notify,
}

struct Inner {
    rng: Rng,
    steps: u64,
    crash_at: Option<u64>,
    dead: bool,
}

struct Trace {
    hash: blake3::Hasher,
    /// The last lines, or all of them when somebody wants to see them.
    lines: std::collections::VecDeque<String>,
    keep: usize,
}

impl Fate {
    pub(crate) fn new(seed: u64, clock: WorldClock, keep: usize) -> Self {
        let trace = Trace { hash: blake3::Hasher::new(), lines: std::collections::VecDeque::new(), keep };
        Self::writing(Arc::new(Mutex::new(trace)), String::new(), seed, clock)
    }

    /// Somebody else's in the same run, with a name, dice and a clock of its own.
    pub(crate) fn beside(&self, name: &str, seed: u64, clock: WorldClock) -> Self {
        Self::writing(Arc::clone(&self.trace), format!("{name}: "), seed, clock)
    }

    fn writing(trace: Arc<Mutex<Trace>>, name: String, seed: u64, clock: WorldClock) -> Self {
        let inner = Inner { rng: Rng::with_seed(seed), steps: 0, crash_at: None, dead: false };
        Self { clock, name, inner: Mutex::new(inner), trace, died: Notify::new() }
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
        let _ = write!(line, "{:>7} {} {}{what}", inner.steps, now.format("%m-%d %H:%M:%S%.3f"), self.name);
        let crashes = inner.crash_at.is_some_and(|at| inner.steps >= at);
        if crashes {
            line.push_str("   <- the crash");
        }
        self.trace().write(line);
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
        self.trace().write(format!("        {} {}{what}", now.format("%m-%d %H:%M:%S%.3f"), self.name));
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
        self.trace().hash.finalize().to_hex().to_string()
    }

    /// The lines that were kept.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.trace().lines.iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trace(&self) -> MutexGuard<'_, Trace> {
        self.trace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trace {
    fn write(&mut self, line: String) {
        self.hash.update(line.as_bytes());
        if self.lines.len() >= self.keep {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}
