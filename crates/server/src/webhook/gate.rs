//! How much of the internet's attention the webhook bears: calls at one time, calls a second, strangers a second, and the
//! bytes that bodies may occupy.
//!
//! Never lets strangers keep the service out: whose path the collector has given to the service, or has shown a right
//! secret before, is not counted among them. Never asks the ledger for more strangers than the limit says.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// See the head of the file.
#[derive(Debug, Clone)]
pub struct GateLimits {
    /// Calls being answered: a second of two thousand, so that a disk that syncs slowly for a moment sends nobody away. Each
    /// holds a few kB beside its body. More waits in nobody's queue: it is told to come back.
    pub calls_at_once: usize,
    /// Calls a second, all together. Microsoft's pace is not documented; ten times what the largest installation sees.
    pub calls_per_second: u32,
    /// Calls a second of those whose path has never shown a right secret.
    pub strangers_per_second: u32,
    /// Bytes of bodies in memory, all together.
    pub body_bytes: usize,
    /// How long a caller may take to send its body.
    pub body_time: Duration,
}

impl Default for GateLimits {
    fn default() -> Self {
        Self {
            calls_at_once: 2048,
            calls_per_second: 5000,
            strangers_per_second: 200,
            body_bytes: 32 << 20,
            body_time: Duration::from_secs(10),
        }
    }
}

/// Paths that are remembered as known. Ten thousand tenants of five content types; 16 bytes each and as much again.
const KNOWN_MAX: usize = 65_536;

/// Paths at which nobody is a stranger: the collector has given them to the service, or a right secret was shown there.
#[derive(Debug, Default)]
pub(crate) struct KnownPaths(Mutex<HashSet<[u8; 16]>>);

impl KnownPaths {
    /// From now on nobody is a stranger at this path.
    pub(crate) fn greet(&self, path: [u8; 16]) {
        let mut known = self.lock();
        if known.len() >= KNOWN_MAX && !known.contains(&path) {
            // Once in a very long while everybody introduces himself again.
            known.clear();
        }
        known.insert(path);
    }

    fn forget(&self, path: [u8; 16]) {
        self.lock().remove(&path);
    }

    fn has(&self, path: [u8; 16]) -> bool {
        self.lock().contains(&path)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<[u8; 16]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the limits.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) limits: GateLimits,
    calls: Arc<Semaphore>,
    pub(super) bytes: Arc<Semaphore>,
    known: Arc<KnownPaths>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    all: Pace,
    strangers: Pace,
}

/// So many a second, and as many at once.
#[derive(Debug)]
struct Pace {
    per_second: u32,
    left: f64,
    at: Instant,
}

impl Gate {
    pub(super) fn new(limits: GateLimits, known: Arc<KnownPaths>) -> Self {
        Self {
            calls: Arc::new(Semaphore::new(limits.calls_at_once.max(1))),
            bytes: Arc::new(Semaphore::new(limits.body_bytes.clamp(1, Semaphore::MAX_PERMITS))),
            state: Mutex::new(State {
                all: Pace::new(limits.calls_per_second),
                strangers: Pace::new(limits.strangers_per_second),
            }),
            known,
            limits,
        }
    }

    /// A place for one call, or none.
    pub(super) fn enter(&self) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.calls).try_acquire_owned().ok()?;
        self.lock().all.take().then_some(place)
    }

    /// Whether this path may be looked up.
    pub(super) fn may_ask(&self, path: [u8; 16]) -> bool {
        self.known.has(path) || self.lock().strangers.take()
    }

    /// A right secret was shown at this path.
    pub(super) fn greet(&self, path: [u8; 16]) {
        self.known.greet(path);
    }

    /// This path leads nowhere any more, or was used without its secret.
    pub(super) fn forget(&self, path: [u8; 16]) {
        self.known.forget(path);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pace {
    fn new(per_second: u32) -> Self {
        Self { per_second, left: f64::from(per_second), at: Instant::now() }
    }

    fn take(&mut self) -> bool {
        let now = Instant::now();
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.left = (self.left + passed * f64::from(self.per_second)).min(f64::from(self.per_second));
        let there = self.left >= 1.0;
        if there {
            self.left -= 1.0;
        }
        there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(change: impl FnOnce(&mut GateLimits)) -> Gate {
        let mut limits = GateLimits::default();
        change(&mut limits);
        Gate::new(limits, Arc::default())
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_given_back_and_the_pace_recovers() {
        let gate = gate(|limits| (limits.calls_at_once, limits.calls_per_second) = (2, 5));
        let (one, two) = (gate.enter(), gate.enter());
        assert!(one.is_some() && two.is_some() && gate.enter().is_none(), "two at once and no third");
        drop((one, two));
        let mut let_in = 0;
        while gate.enter().is_some() {
            let_in += 1;
        }
        assert_eq!(let_in, 3, "five a second, two of which went before");
        tokio::time::advance(Duration::from_millis(199)).await;
        assert!(gate.enter().is_none());
        tokio::time::advance(Duration::from_millis(2)).await;
        assert!(gate.enter().is_some() && gate.enter().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_cannot_keep_out_who_is_known() {
        let gate = gate(|limits| limits.strangers_per_second = 3);
        gate.known.greet([1; 16]);
        let asked = (0..100u8).filter(|number| gate.may_ask([number.wrapping_add(2); 16])).count();
        assert_eq!(asked, 3);
        assert!(gate.may_ask([1; 16]));
        gate.forget([1; 16]);
        assert!(!gate.may_ask([1; 16]));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(gate.may_ask([1; 16]));
    }
}
