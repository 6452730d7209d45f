//! What a seed means: the world, the settings, what goes wrong when, and how each life of the collector ends.
//!
//! Everything is drawn here, before the run or between two lives, from dice of its own: what the collector does cannot
//! change what happens to it.

mod faults;
mod world;

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::TimeDelta;
use emulator::{Emulator, FaultPlan, WorldOptions};
use fastrand::Rng;
use protocol::ids::{ClientId, TenantId};
use protocol::time::Timestamp;

use crate::clock::{Errors, WorldClock};

pub(crate) use world::Tuning;

/// A span of the world's time, half-open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
}

impl Span {
    pub(crate) fn holds(self, at: Timestamp) -> bool {
        self.from <= at && at < self.until
    }
}

/// What a seed means.
pub(crate) struct Plan {
    pub(crate) world: WorldOptions,
    pub(crate) faults: FaultPlan,
    pub(crate) tuning: Tuning,
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    pub(crate) clock_errors: Errors,
    pub(crate) spells: SpellPlan,
    pub(crate) events: Vec<Event>,
    /// Spans in which nobody can be expected to get anything, whoever's trouble it is.
    pub(crate) hard_times: Vec<Span>,
    pub(crate) lives: Lives,
}

/// Spans in which something goes wrong, and how often.
#[derive(Debug, Clone, Default)]
pub(crate) struct SpellPlan {
    pub(crate) disk_full: Vec<Span>,
    pub(crate) disk_errors: Vec<(Span, f64)>,
    pub(crate) ledger_full: Vec<Span>,
    pub(crate) ledger_errors: Vec<(Span, f64)>,
    pub(crate) network_down: Vec<Span>,
    pub(crate) network_errors: Vec<(Span, f64)>,
    /// The longest way of a request or an answer, in milliseconds.
    pub(crate) latency: u64,
}

/// The spells as of now, until they are called off.
pub(crate) struct Spells {
    plan: SpellPlan,
    clock: WorldClock,
    off: AtomicBool,
}

/// Something that is done to a tenant on the other side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    at: Timestamp,
    tenant: usize,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Auditing(bool),
    Consent(bool),
}

/// Events that are still to come.
pub(crate) struct Events {
    client: ClientId,
    tenants: Vec<TenantId>,
    to_come: Mutex<Vec<Event>>,
}

/// How the lives of the collector are drawn.
#[derive(Debug, Clone)]
pub(crate) struct Lives {
    rng: Rng,
    once_share: f64,
    /// How many lives may end after a drawn number of steps; later ones end by the clock.
    by_steps: u32,
    longest_steps: f64,
    longest_hours: u32,
}

/// One life of the collector.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    /// It catches up and ends by itself; otherwise it collects all day.
    pub(crate) once: bool,
    /// The crash comes after so many steps.
    pub(crate) steps: Option<u64>,
    /// It ends after this time at the latest.
    pub(crate) time: TimeDelta,
    pub(crate) end: End,
    /// Nobody lives for so long afterwards.
    pub(crate) pause: TimeDelta,
}

/// How a life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It is asked to stop.
    Stopped,
    /// The process is killed.
    Killed,
    /// The power goes.
    PowerLost,
}

impl Plan {
    /// What `seed` means for a run over `days` days; `hardship` is false for a run in which nothing goes wrong.
    pub(crate) fn of(seed: u64, days: i64, hardship: bool) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0x7465_6e61_6e74_7279);
        let start = world::start(&mut rng);
        let end = start + TimeDelta::days(days);
        let (world, tuning) = world::draw(&mut rng, seed, start);
        let mut plan = Self {
            faults: FaultPlan { seed, rules: Vec::new() },
            tuning,
            start,
            end,
            clock_errors: Vec::new(),
            spells: SpellPlan { latency: 200, ..SpellPlan::default() },
            events: Vec::new(),
            hard_times: Vec::new(),
            lives: Lives::draw(&mut rng),
            world,
        };
        if hardship {
            faults::draw(&mut rng, &mut plan);
        }
        plan
    }

    /// A world in which nothing goes wrong, and a collector that nobody has told anything.
    pub(crate) fn calm(world: WorldOptions, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let start = world::start(&mut rng);
        Self {
            faults: FaultPlan { seed, rules: Vec::new() },
            tuning: Tuning::untold(),
            start,
            end: start,
            clock_errors: Vec::new(),
            spells: SpellPlan { latency: 200, ..SpellPlan::default() },
            events: Vec::new(),
            hard_times: Vec::new(),
            lives: Lives::draw(&mut rng),
            world: WorldOptions { start: Some(start), ..world },
        }
    }
}

impl Lives {
    fn draw(rng: &mut Rng) -> Self {
        Self {
            rng: rng.fork(),
            once_share: [0.0, 0.2, 0.2, 0.5, 1.0][rng.usize(0..5)],
            by_steps: rng.u32(0..=10),
            longest_steps: [60.0, 600.0, 6000.0, 30000.0][rng.usize(0..4)],
            longest_hours: [6, 30, 72, 200][rng.usize(0..4)],
        }
    }

    /// The next life.
    pub(crate) fn next(&mut self) -> Life {
        let rng = &mut self.rng;
        let once = rng.f64() < self.once_share;
        let steps = self.by_steps > 0 && rng.f64() < 0.8;
        self.by_steps = self.by_steps.saturating_sub(1);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
        let steps = steps.then(|| self.longest_steps.powf(rng.f64()) as u64 + 1);
        let end = match rng.u8(0..10) {
            0..=3 => End::PowerLost,
            4..=6 => End::Killed,
            _ if steps.is_some() => End::Killed,
            _ => End::Stopped,
        };
        let pause = match rng.u8(0..20) {
            0..=7 => TimeDelta::seconds(rng.i64(0..5)),
            8..=14 => TimeDelta::seconds(rng.i64(0..1800)),
            15..=18 => TimeDelta::seconds(rng.i64(0..8 * 3600)),
            _ => TimeDelta::seconds(rng.i64(0..26 * 3600)),
        };
        // After a run that ended by itself, somebody starts the next one by the clock.
        let pause = if once { pause.max(TimeDelta::minutes(rng.i64(10..360))) } else { pause };
        let time = TimeDelta::seconds(rng.i64(60..i64::from(self.longest_hours) * 3600));
        Life { once, steps, time, end, pause }
    }
}

impl Spells {
    pub(crate) fn new(plan: SpellPlan, clock: WorldClock) -> Self {
        Self { plan, clock, off: AtomicBool::new(false) }
    }

    /// From now on nothing goes wrong.
    pub(crate) fn call_off(&self) {
        self.off.store(true, Ordering::Relaxed);
    }

    pub(crate) fn disk_full(&self) -> bool {
        self.any(&self.plan.disk_full)
    }

    pub(crate) fn disk_errors(&self) -> f64 {
        self.share(&self.plan.disk_errors)
    }

    pub(crate) fn ledger_full(&self) -> bool {
        self.any(&self.plan.ledger_full)
    }

    pub(crate) fn ledger_errors(&self) -> f64 {
        self.share(&self.plan.ledger_errors)
    }

    pub(crate) fn network_down(&self) -> bool {
        self.any(&self.plan.network_down)
    }

    pub(crate) fn network_errors(&self) -> f64 {
        self.share(&self.plan.network_errors)
    }

    pub(crate) fn latency(&self) -> u64 {
        self.plan.latency
    }

    fn any(&self, spans: &[Span]) -> bool {
        if spans.is_empty() || self.off.load(Ordering::Relaxed) {
            return false;
        }
        let now = self.clock.now();
        spans.iter().any(|span| span.holds(now))
    }

    fn share(&self, spans: &[(Span, f64)]) -> f64 {
        if spans.is_empty() || self.off.load(Ordering::Relaxed) {
            return 0.0;
        }
        let now = self.clock.now();
        spans.iter().filter(|(span, _)| span.holds(now)).map(|(_, share)| *share).fold(0.0, f64::max)
    }
}

impl Events {
    pub(crate) fn new(client: ClientId, tenants: Vec<TenantId>, mut events: Vec<Event>) -> Self {
        events.sort_by_key(|event| std::cmp::Reverse(event.at));
        Self { client, tenants, to_come: Mutex::new(events) }
    }

    /// Lets happen what is due.
    pub(crate) fn happen(&self, emulator: &Emulator, now: Timestamp) {
        let mut to_come = self.to_come.lock().unwrap_or_else(PoisonError::into_inner);
        while to_come.last().is_some_and(|event| event.at <= now) {
            let Some(event) = to_come.pop() else { return };
            let Some(tenant) = self.tenants.get(event.tenant).copied() else { continue };
            emulator.world().clock().set(event.at);
            match event.what {
                What::Auditing(on) => drop(emulator.world().set_auditing(tenant, on)),
                What::Consent(true) => {
                    emulator.world().set_roles(
                        tenant,
                        self.client,
                        Some(&["ActivityFeed.Read", "ActivityFeed.ReadDlp"]),
                    );
                }
                What::Consent(false) => drop(emulator.world().set_roles(tenant, self.client, None)),
            }
        }
        emulator.world().clock().set(now);
    }
}
