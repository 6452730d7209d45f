//! What the command does: each prints what it found and says whether all is well.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use simulator::{Options, SharedOptions, processor_seconds, run, run_shared};

use crate::arguments::{Arguments, Planted};

/// Runs that are shown one by one before the rest is only counted.
const SHOWN: usize = 20;

/// What came of a seed, of one collector or of several workers.
struct Outcome {
    seed: u64,
    failure: Option<String>,
    steps: u64,
    crashes: u64,
    records: u64,
    lost: u64,
    /// All that was counted.
    counts: String,
    digest: String,
    lines: Vec<String>,
}

/// Runs one seed; `keep` lines of its trace are kept.
fn trial(arguments: &Arguments, seed: u64, bug: Option<Planted>, keep: usize) -> Outcome {
    if let Some(workers) = arguments.shared {
        let bug = bug.and_then(|bug| if let Planted::Shared(bug) = bug { Some(bug) } else { None });
        let defaults = SharedOptions::default();
        let days = arguments.days.unwrap_or(defaults.days);
        let outcome = run_shared(seed, SharedOptions { days, workers, bug, keep, ..defaults });
        let (failure, counts, digest, lines) = (outcome.failure, outcome.counts, outcome.digest, outcome.lines);
        let (steps, crashes, records, lost) = (counts.steps, counts.crashes, counts.records, counts.lost);
        return Outcome { seed, failure, steps, crashes, records, lost, counts: format!("{counts:?}"), digest, lines };
    }
    let bug = bug.and_then(|bug| if let Planted::One(bug) = bug { Some(bug) } else { None });
    let defaults = Options::default();
    let outcome = run(seed, Options { days: arguments.days.unwrap_or(defaults.days), bug, keep, ..defaults });
    let (failure, counts, digest, lines) = (outcome.failure, outcome.counts, outcome.digest, outcome.lines);
    let (steps, crashes, records, lost) = (counts.steps, counts.crashes, counts.records, counts.lost);
    Outcome { seed, failure, steps, crashes, records, lost, counts: format!("{counts:?}"), digest, lines }
}

/// What is to be typed for a seed to be run again.
fn again(arguments: &Arguments, seed: u64) -> String {
    let days = arguments.days.map_or_else(String::new, |days| format!(" --days {days}"));
    let shared = match arguments.shared {
        None => String::new(),
        Some(None) => " --shared".to_owned(),
        Some(Some(workers)) => format!(" --workers {workers}"),
    };
    format!("cargo xtask simulate{shared} --seed {seed}{days} --trace")
}

/// Runs `count` seeds on all processors, and tells of each as it ends; `tell` says whether to go on.
fn each(arguments: &Arguments, count: u64, bug: Option<Planted>, tell: impl Fn(&Outcome) -> bool + Sync) {
    let (next, stop) = (AtomicU64::new(arguments.from), AtomicBool::new(false));
    let until = arguments.from.saturating_add(count);
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= until {
                        return;
                    }
                    if !tell(&trial(arguments, seed, bug, 0)) {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

/// Many seeds; the failing ones are printed with the command that shows what happened.
pub(crate) fn many(arguments: &Arguments) -> bool {
    let started = Instant::now();
    let count = arguments.seeds.unwrap_or(100);
    println!("seeds {}..{}", arguments.from, arguments.from.saturating_add(count));
    let sums = Mutex::new((0, 0, 0, 0, 0, Vec::new()));
    each(arguments, count, arguments.bug, |outcome| {
        let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
        sums.0 += 1;
        sums.1 += outcome.steps;
        sums.2 += outcome.crashes;
        sums.3 += outcome.records;
        sums.4 += outcome.lost;
        if let Some(failure) = &outcome.failure {
            sums.5.push(outcome.seed);
            if sums.5.len() <= SHOWN {
                println!("seed {}: {failure}\n  {}", outcome.seed, again(arguments, outcome.seed));
            }
        }
        if sums.0 % 50 == 0 {
            println!(
                "{} seeds, {} failed, {:.0} s, {} s of processors",
                sums.0,
                sums.5.len(),
                started.elapsed().as_secs_f64(),
                processor_seconds()
            );
        }
        true
    });
    let (seeds, steps, crashes, records, lost, failed) = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!(
        "{seeds} seeds: {steps} steps, {crashes} crashes, {records} records, {lost} contents named as lost; {} failed; {:.1} s, {} s of processors",
        failed.len(),
        started.elapsed().as_secs_f64(),
        processor_seconds()
    );
    if !failed.is_empty() {
        println!("failed: {failed:?}");
    }
    failed.is_empty()
}

/// One seed.
pub(crate) fn one(arguments: &Arguments, trace: bool) -> bool {
    let keep = if trace { usize::MAX } else { 0 };
    let outcome = trial(arguments, arguments.from, arguments.bug, keep);
    for line in &outcome.lines {
        println!("{line}");
    }
    println!("seed {}: {}, trace {}", outcome.seed, outcome.counts, outcome.digest);
    match &outcome.failure {
        Some(failure) => println!("FAILED: {failure}"),
        None => println!("all is well"),
    }
    outcome.failure.is_none()
}

/// Each planted bug until it is found.
pub(crate) fn planted(arguments: &Arguments) -> bool {
    let most = arguments.seeds.unwrap_or(1000);
    let mut all = true;
    for (name, bug) in Planted::all() {
        let is_of_this_kind = matches!(bug, Planted::Shared(_)) == arguments.shared.is_some();
        if !is_of_this_kind || arguments.bug.is_some_and(|only| only != bug) {
            continue;
        }
        let started = Instant::now();
        let (tried, found) = (AtomicU64::new(0), Mutex::new(None));
        each(arguments, most, Some(bug), |outcome| {
            tried.fetch_add(1, Ordering::Relaxed);
            let Some(failure) = &outcome.failure else { return true };
            found.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert((outcome.seed, failure.clone()));
            false
        });
        let (tried, seconds) = (tried.into_inner(), started.elapsed().as_secs_f64());
        match found.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some((seed, failure)) => {
                println!("{name}: found by seed {seed} after {tried} seeds, {seconds:.1} s: {failure}")
            }
            None => {
                println!("{name}: NOT FOUND in {tried} seeds, {seconds:.1} s");
                all = false;
            }
        }
    }
    all
}

/// What expires after a week has made room for what came since: from the second week on nothing grows but by the way.
fn stays_small(weeks: &[simulator::Week]) -> bool {
    let (Some(second), Some(last)) = (weeks.get(1), weeks.last()) else { return false };
    let small = last.ledger_bytes <= second.ledger_bytes * 3 / 2 && last.resident_kib <= second.resident_kib * 5 / 4;
    println!("{}", if small { "neither grows after the second week" } else { "FAILED: it grows" });
    small
}

/// A month without hardship, week by week.
pub(crate) fn month(arguments: &Arguments) -> bool {
    let weeks = simulator::month(arguments.from);
    match weeks {
        Ok(weeks) => {
            for week in &weeks {
                println!(
                    "day {:>2}: ledger {:>8} bytes, process {:>6} KiB, {} records",
                    week.day, week.ledger_bytes, week.resident_kib, week.records
                );
            }
            stays_small(&weeks)
        }
        Err(error) => {
            println!("FAILED: {error}");
            false
        }
    }
}

/// A calm day of a fleet, and what it costs.
pub(crate) fn fleet(arguments: &Arguments) -> bool {
    let (options, started) = (arguments.fleet, Instant::now());
    let day = match simulator::fleet_day(options) {
        Ok(day) => day,
        Err(error) => {
            println!("FAILED: {error}");
            return false;
        }
    };
    println!(
        "{} tenants, {} hours: {} records, {} of them the busiest tenant's; 0 lost, 0 twice, 0 altered; {:.0} s, {} s of processors",
        options.tenants,
        options.hours,
        day.records,
        day.busiest_records,
        started.elapsed().as_secs_f64(),
        processor_seconds()
    );
    println!(
        "requests: {} in all, {} at most for one tenant, {} for the {} tenants where nothing happened; {} told to slow down",
        day.requests, day.requests_max, day.idle_requests, day.idle_tenants, day.throttled
    );
    println!(
        "ledger: {} calls that read, {} that write, {} MiB; archive: {} segments, {} MiB",
        day.reads,
        day.writes,
        day.ledger_bytes >> 20,
        day.segments,
        day.segment_bytes >> 20
    );
    let delays = &day.busiest_delays;
    let at = |share: usize| {
        let place = delays.len().saturating_sub(1) * share / 100;
        delays.get(place).map_or(0.0, |delay| delay.as_seconds_f64())
    };
    println!(
        "the busiest tenant's {} contents, from when each could be listed until it was committed: p50 {:.1} s, p99 {:.1} s, longest {:.1} s",
        delays.len(),
        at(50),
        at(99),
        at(100)
    );
    day.throttled == 0
}
