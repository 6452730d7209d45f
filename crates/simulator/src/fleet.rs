//! A calm day of a fleet: thousands of tenants, one of which has a third of all records, and what the day costs.
//!
//! The collector runs on the settings that the program has when nobody sets any. Nothing goes wrong, so that what is counted
//! is what such a day costs, and not its troubles.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;
use emulator::WorldOptions;
use emulator::world::{ContentTruth, Lateness, RecordSet, TenantSpec};
use ledger::Ledger;
use protocol::ids::TenantId;

use crate::plan::Plan;
use crate::run::{Run, block_on};
use crate::store::Files;
use crate::tally::Tally;

/// Until the first listings of all that could have been there are over, and feeds that are silent are known to be.
const WARMING_UP: Duration = Duration::from_secs(6 * 3600);

/// Seats of the second largest tenant; the following have ever less. Large, so that thousands of places differ.
const SEATS: f64 = 1_000_000.0;

/// How quickly they have less. Above 1: most of the tenants have a small part of all records together.
const STEEPNESS: f64 = 1.2;

/// What kind of day it is.
#[derive(Debug, Clone, Copy)]
pub struct FleetOptions {
    /// How many tenants there are. At least 1.
    pub tenants: usize,
    /// Records of the day, of all tenants together, before repeats.
    pub records: u64,
    /// How long the day is, in hours.
    pub hours: u32,
    /// What every draw starts from.
    pub seed: u64,
}

/// What the day has cost.
#[derive(Debug, Clone, PartialEq)]
pub struct FleetDay {
    /// Distinct records that were published in the end, all of which are archived.
    pub records: u64,
    /// The busiest tenant's part of them.
    pub busiest_records: u64,
    /// Tenants of which nothing was published in that day.
    pub idle_tenants: usize,
    /// Requests to login service and Activity API.
    pub requests: u64,
    /// Those for tenants of which nothing was published.
    pub idle_requests: u64,
    /// The most requests for one tenant.
    pub requests_max: u64,
    /// Answers by which the service told somebody to slow down.
    pub throttled: u64,
    /// Calls of the ledger that read.
    pub reads: u64,
    /// Calls of the ledger that write, a transaction each.
    pub writes: u64,
    /// Visible segments in the end.
    pub segments: u64,
    /// Their bytes.
    pub segment_bytes: u64,
    /// Bytes of the ledger's files in the end.
    pub ledger_bytes: u64,
    /// Of the busiest tenant's contents: from when each could be listed until it was committed, sorted.
    pub busiest_delays: Vec<TimeDelta>,
}

/// Lives through the day, and checks that the archive holds what was published.
///
/// # Errors
/// When a check fails.
pub fn fleet_day(options: FleetOptions) -> Result<FleetDay, String> {
    let mut run = Run::of(Plan::calm(world(options), options.seed), options.seed, None, 0)?;
    let day = live(&mut run, options);
    archive::disk::watch(None);
    day
}

/// The world of such a day.
fn world(options: FleetOptions) -> WorldOptions {
    let place = |place: usize| {
        #[expect(clippy::cast_precision_loss, reason = "places of tenants are small")]
        let seats = SEATS * (place as f64).powf(-STEEPNESS);
        seats.max(1.0)
    };
    let others: f64 = (1..options.tenants).map(place).sum();
    let seats = std::iter::once((others / 2.0).max(1.0)).chain((1..options.tenants).map(place));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few million")]
    let specs = seats.map(|seats| TenantSpec { seats: Some(seats as u32), ..TenantSpec::default() }).collect();
    WorldOptions {
        seed: options.seed,
        tenants: options.tenants,
        specs,
        history: Duration::ZERO,
        // What appears late is found when its window is listed again, whenever that is: it would say nothing of the delay.
        lateness: Lateness { share: 0.0, ..Lateness::default() },
        records_total: Some(0),
        #[expect(clippy::cast_precision_loss, reason = "millions")]
        live_rate: options.records as f64 / (f64::from(options.hours.max(1)) * 60.0),
        gzip_cache: 0,
        gzip_level: 0,
        ..WorldOptions::default()
    }
}

fn live(run: &mut Run, options: FleetOptions) -> Result<FleetDay, String> {
    let tenants = run.emulator.world().tenant_ids();
    let busiest = *tenants.first().ok_or("a fleet has at least one tenant")?;
    run.tally = Arc::new(Tally::watching(busiest, run.world.clone()));
    run.add_tenants()?;
    let from = run.world.now() + TimeDelta::from_std(WARMING_UP).unwrap_or_default();
    let (emulator, tally, before) = (run.emulator.clone(), Arc::clone(&run.tally), Mutex::new((0, 0)));
    run.live_calmly(async {
        tokio::time::sleep(WARMING_UP).await;
        emulator.clear_requests();
        *before.lock().unwrap_or_else(PoisonError::into_inner) = tally.calls();
        tokio::time::sleep(Duration::from_secs(u64::from(options.hours) * 3600)).await;
    })?;
    let until = run.world.now();
    let requests = run.emulator.requests();
    let (reads_now, writes_now) = run.tally.calls();
    let (reads, writes) = before.into_inner().unwrap_or_else(PoisonError::into_inner);
    let ledger_bytes = Files::read(&run.ledger_path()).bytes();

    let in_the_day = |content: &ContentTruth| from <= content.available && content.available < until;
    let contents = run.with_sides(|sides| Ok(sides.contents()))?;
    let alive: BTreeSet<TenantId> =
        contents.iter().filter(|content| in_the_day(content)).map(|content| content.tenant).collect();
    let of = |tenant: TenantId| -> u64 {
        requests.iter().filter(|row| row.tenant == Some(tenant)).map(|row| row.count).sum()
    };
    let by_tenant: Vec<(TenantId, u64)> = tenants.iter().map(|tenant| (*tenant, of(*tenant))).collect();
    let idle = |tenant: &TenantId| !alive.contains(tenant);

    let committed = run.tally.committed_at();
    let mut busiest_delays: Vec<TimeDelta> = contents
        .iter()
        .filter(|content| content.tenant == busiest && in_the_day(content))
        .filter_map(|content| Some(*committed.get(&content.content_id)? - content.available))
        .collect();
    busiest_delays.sort();

    let (mut segments, mut segment_bytes) = (0, 0);
    let ledger = run.ledger().map_err(|error| error.to_string())?;
    for (_, rows) in block_on(ledger.segments_within(None, None))? {
        segments += rows.len() as u64;
        segment_bytes += rows.iter().map(|row| row.bytes).sum::<u64>();
    }
    drop(ledger);
    // What was published in the last minutes is fetched, and then everything is compared.
    run.last_runs()?;
    let published = run.with_sides(|sides| Ok(sides.records(RecordSet::Readable)))?;
    Ok(FleetDay {
        records: run.counts.records,
        busiest_records: published.get(&busiest).map_or(0, |records| records.len() as u64),
        idle_tenants: tenants.iter().filter(|tenant| idle(tenant)).count(),
        requests: requests.iter().map(|row| row.count).sum(),
        idle_requests: by_tenant.iter().filter(|(tenant, _)| idle(tenant)).map(|(_, count)| count).sum(),
        requests_max: by_tenant.iter().map(|(_, count)| *count).max().unwrap_or(0),
        throttled: requests.iter().filter(|row| row.status == 403 || row.status == 429).map(|row| row.count).sum(),
        reads: reads_now - reads,
        writes: writes_now - writes,
        segments,
        segment_bytes,
        ledger_bytes,
        busiest_delays,
    })
}
