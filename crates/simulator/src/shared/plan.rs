//! What a seed means for several workers: how many there are, when each comes and goes, and what is in each one's way.
//!
//! The world, the service's faults and the spells of trouble with the archive's disk are those of a single collector's plan.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use fastrand::Rng;
use protocol::time::Timestamp;

use super::troubles::{Ambush, Stage, Way, span};
use crate::plan::{Plan, Span};

/// What a seed means.
pub(crate) struct SharedPlan {
    pub(crate) plan: Plan,
    pub(crate) lease_time: Duration,
    /// One a worker.
    pub(crate) workers: Vec<WorkerPlan>,
    /// The database's server is away.
    pub(crate) restarts: Vec<Span>,
}

/// One worker: a machine on which a process is started again whenever it has ended.
pub(crate) struct WorkerPlan {
    pub(crate) way: Arc<Way>,
    pub(crate) lives: Lives,
    pub(crate) joins: Timestamp,
}

/// How the lives of a worker's processes are drawn.
pub(crate) struct Lives {
    rng: Rng,
    /// How many may end after a drawn number of steps; later ones end by the clock.
    by_steps: u32,
    longest_steps: f64,
    longest_hours: i64,
    lease_time: i64,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) steps: Option<u64>,
    pub(crate) time: TimeDelta,
    /// It is killed; otherwise it is asked to stop.
    pub(crate) killed: bool,
    /// Until the next one begins.
    pub(crate) pause: TimeDelta,
}

/// What is drawn is drawn within these.
struct Frame {
    start: Timestamp,
    seconds: i64,
    /// In seconds.
    lease_time: i64,
}

impl SharedPlan {
    pub(crate) fn of(seed: u64, days: i64, workers: Option<usize>, hardship: bool) -> Self {
        let mut plan = Plan::of(seed, days, hardship);
        let mut rng = Rng::with_seed(seed ^ 0x6c65_6173_6573);
        let tenants = rng.usize(2..=6);
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let growth = tenants as f64 / plan.world.tenants as f64;
        let each = plan.world.records_total.unwrap_or(0) / plan.world.tenants as u64;
        plan.world.records_total = Some(each * tenants as u64);
        plan.world.live_rate *= growth;
        plan.world.tenants = tenants;
        let lease_time = [30, 30, 60, 120, 300, 900][rng.usize(0..6)];
        let frame = Frame { start: plan.start, seconds: days * 86_400, lease_time };
        let drawn = rng.usize(2..=4);
        let workers =
            (0..workers.unwrap_or(drawn)).map(|number| frame.worker(&mut rng, number, hardship, &plan)).collect();
        let restarts = if hardship { frame.spells(&mut rng, 3) } else { Vec::new() };
        plan.hard_times.extend(&restarts);
        Self { plan, lease_time: Duration::from_secs(lease_time.unsigned_abs()), workers, restarts }
    }
}

impl Frame {
    fn worker(&self, rng: &mut Rng, number: usize, hardship: bool, plan: &Plan) -> WorkerPlan {
        // A turn of a worker takes four calls, and must fit into a third of the lease time.
        let slow = self.lease_time.unsigned_abs() * 10;
        let mut way = Way { latency: [2, 20, 200, slow][rng.usize(0..4)], ..Way::default() };
        if hardship {
            way.ledger_cut = self.spells(rng, 5);
            way.archive_cut = self.spells(rng, 3);
            way.service_cut = self.spells(rng, 3);
            way.stops = self.spells(rng, 5);
            way.breaks = self.spells(rng, 3).into_iter().map(|span| (span, 0.3 * rng.f64())).collect();
            way.breaks.extend(&plan.spells.ledger_errors);
            way.clock_errors = self.clock(rng);
            way.ambushes = self.ambushes(rng);
        }
        let late = if number == 0 || rng.bool() { 0 } else { rng.i64(0..self.seconds / 2) };
        let lives = Lives {
            rng: rng.fork(),
            by_steps: if hardship { rng.u32(0..=10) } else { 0 },
            longest_steps: [60.0, 600.0, 6000.0, 30000.0][rng.usize(0..4)],
            longest_hours: if hardship { [2, 12, 48, 200][rng.usize(0..4)] } else { 10_000 },
            lease_time: self.lease_time,
        };
        WorkerPlan { way: Arc::new(way), lives, joins: self.start + TimeDelta::seconds(late) }
    }

    /// Most of them early in a process's life, as many do not live long.
    fn ambushes(&self, rng: &mut Rng) -> Vec<Ambush> {
        let many = if rng.bool() { 0 } else { rng.u32(1..=6) };
        let ambush = |_| {
            let early = [10, 100, 1000][rng.usize(0..3)];
            Ambush {
                number: rng.u64(1..early),
                stage: [Stage::Begin, Stage::Commit, Stage::Answer][rng.usize(0..3)],
                stops: rng.bool(),
                long: TimeDelta::seconds(self.long(rng)),
            }
        };
        (0..many).map(ambush).collect()
    }

    /// Some shorter than the lease time, some longer, some for hours.
    fn long(&self, rng: &mut Rng) -> i64 {
        match rng.u8(0..8) {
            0..=2 => rng.i64(1..self.lease_time),
            3..=6 => rng.i64(self.lease_time..self.lease_time * 5),
            _ => rng.i64(60..4 * 3600),
        }
    }

    /// None for half of the workers.
    fn spells(&self, rng: &mut Rng, most: u32) -> Vec<Span> {
        let many = if rng.bool() { 0 } else { rng.u32(1..=most) };
        let mut spans: Vec<Span> = (0..many)
            .map(|_| {
                let long = self.long(rng);
                span(self.start, TimeDelta::seconds(rng.i64(0..self.seconds)), TimeDelta::seconds(long))
            })
            .collect();
        spans.sort_by_key(|span| span.from);
        spans
    }

    /// Right, always a little wrong, set wrong and right again, or running away from the others.
    fn clock(&self, rng: &mut Rng) -> Vec<(Timestamp, TimeDelta)> {
        let sign = if rng.bool() { 1 } else { -1 };
        match rng.u8(0..6) {
            0 => vec![(self.start - TimeDelta::days(30), TimeDelta::milliseconds(sign * rng.i64(1..600_000)))],
            1 => {
                let mut errors = Vec::new();
                for span in self.spells(rng, 3) {
                    errors.push((span.from, TimeDelta::seconds(sign * rng.i64(1..7200))));
                    errors.push((span.until, TimeDelta::zero()));
                }
                errors.sort_by_key(|(from, _)| *from);
                errors
            }
            2 => {
                let (drift, hours) = (sign * rng.i64(10..2000), self.seconds / 3600);
                (0..hours)
                    .map(|hour| (self.start + TimeDelta::hours(hour), TimeDelta::milliseconds(drift * hour)))
                    .collect()
            }
            _ => Vec::new(),
        }
    }
}

impl Lives {
    pub(crate) fn next(&mut self) -> Life {
        let rng = &mut self.rng;
        let steps = self.by_steps > 0 && rng.f64() < 0.8;
        self.by_steps = self.by_steps.saturating_sub(1);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
        let steps = steps.then(|| self.longest_steps.powf(rng.f64()) as u64 + 1);
        let pause = match rng.u8(0..20) {
            0..=7 => rng.i64(0..5),
            8..=14 => rng.i64(0..2 * self.lease_time),
            15..=18 => rng.i64(0..2 * 3600),
            _ => rng.i64(0..12 * 3600),
        };
        Life {
            steps,
            time: TimeDelta::seconds(rng.i64(60..self.longest_hours * 3600)),
            killed: rng.u8(0..3) > 0,
            pause: TimeDelta::seconds(pause),
        }
    }
}
