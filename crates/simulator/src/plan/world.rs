//! The world of a seed, and how its collector is tuned.
//!
//! Small on purpose: a few tenants with a few hundred records each, in small blobs, so that many weeks fit into an hour.

use std::time::Duration;

use chrono::TimeDelta;
use emulator::WorldOptions;
use emulator::world::{BlobSizes, Duplicates, Lateness, Limits};
use engine::tile::Grid;
use fastrand::Rng;
use protocol::ids::ContentType;
use protocol::time::Timestamp;

const HOUR: u64 = 3600;

/// How the collector is tuned.
#[derive(Debug, Clone)]
pub(crate) struct Tuning {
    pub(crate) content_types: Vec<ContentType>,
    pub(crate) poll_interval: Duration,
    pub(crate) commit_interval: Duration,
    pub(crate) requests_per_minute: u32,
    pub(crate) tile: Grid,
    pub(crate) tenants_interval: Duration,
    pub(crate) fetches_per_tenant: usize,
    pub(crate) listings_per_tenant: usize,
    pub(crate) commit_contents: usize,
    pub(crate) obsolete_grace: Duration,
    /// How far back a tenant's collection begins.
    pub(crate) back: TimeDelta,
}

impl Tuning {
    /// What the program does when nobody sets anything.
    pub(crate) fn untold() -> Self {
        let limits = server::settings::Limits::default();
        Self {
            content_types: ContentType::KNOWN.to_vec(),
            poll_interval: Duration::from_secs(60),
            commit_interval: Duration::from_secs(5),
            requests_per_minute: 1_500,
            tile: Grid::FOUR_HOURS,
            tenants_interval: limits.tenants_interval,
            fetches_per_tenant: limits.fetches_per_tenant,
            listings_per_tenant: limits.listings_per_tenant,
            commit_contents: limits.commit_contents,
            obsolete_grace: limits.obsolete_grace,
            back: TimeDelta::days(7),
        }
    }
}

/// Some moment, so that tiles begin anywhere.
pub(super) fn start(rng: &mut Rng) -> Timestamp {
    let noon = Timestamp::from_timestamp(1_773_100_000, 0).unwrap_or(Timestamp::UNIX_EPOCH);
    noon + TimeDelta::seconds(rng.i64(0..86_400)) + TimeDelta::milliseconds(rng.i64(0..1000))
}

pub(super) fn draw(rng: &mut Rng, seed: u64, start: Timestamp) -> (WorldOptions, Tuning) {
    let tenants = rng.usize(2..=3);
    let history = rng.u64(0..5 * 24 * HOUR);
    let each = rng.u64(20..=80);
    let aggregated = if rng.bool() { 0.0 } else { 0.4 };
    let late = rng.bool();
    let world = WorldOptions {
        seed,
        tenants,
        start: Some(start),
        history: Duration::from_secs(history),
        records_total: Some(each * tenants as u64),
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        live_rate: (each * tenants as u64) as f64 / (5.0 * 1440.0),
        duplicates: Duplicates {
            within_blob: rng.f64() * 0.05,
            later_blob: rng.f64() * 0.1,
            redelivered: rng.f64() * 0.1,
            variant: rng.f64() * 0.05,
            recut: rng.f64() * 0.1,
        },
        lateness: Lateness {
            share: if late { rng.f64() * 0.2 } else { 0.02 },
            min: Duration::from_secs(60),
            max: Duration::from_secs(rng.u64(1..=30) * HOUR),
            ordinary: Duration::from_secs(rng.u64(1..120)),
            after_start: None,
        },
        blobs: BlobSizes { median: rng.u32(1..=5), max: 20, aggregated, ties: rng.f64() * 0.3 },
        history_before_subscription: rng.u8(0..5) > 0,
        limits: Limits {
            page_size: rng.usize(2..=12),
            requests_per_minute: Some(rng.u32(300..2000)),
            phantom_within: Duration::from_secs(rng.u64(0..900)),
            ..Limits::default()
        },
        gzip_cache: 0,
        gzip_level: 0,
        ..WorldOptions::default()
    };
    (world, tuning(rng))
}

fn tuning(rng: &mut Rng) -> Tuning {
    let mut content_types = ContentType::KNOWN.to_vec();
    rng.shuffle(&mut content_types);
    content_types.truncate([1, 1, 2][rng.usize(0..3)]);
    let tile = [2, 6, 6, 12, 24, 24][rng.usize(0..6)];
    Tuning {
        content_types,
        poll_interval: Duration::from_secs([900, 3600, 7200, 7200, 4 * HOUR][rng.usize(0..5)]),
        commit_interval: Duration::from_millis(rng.u64(100..60_000)),
        requests_per_minute: rng.u32(60..2000),
        tile: Grid::new(Duration::from_secs(tile * HOUR)).unwrap_or(Grid::FOUR_HOURS),
        tenants_interval: Duration::from_secs(rng.u64(900..7200)),
        fetches_per_tenant: rng.usize(1..=8),
        listings_per_tenant: rng.usize(1..=4),
        commit_contents: [1, 3, 10, 2000][rng.usize(0..4)],
        obsolete_grace: Duration::from_secs([0, 60, 7200][rng.usize(0..3)]),
        back: TimeDelta::hours(if rng.u8(0..4) > 0 { 7 * 24 } else { rng.i64(0..7 * 24) }),
    }
}
