//! Several workers on one ledger, in the debug build: a few seeds of many, always the same; `cargo xtask simulate --shared`
//! runs thousands.

use simulator::{SharedOptions, SharingBug, run_shared};

/// Days of a seed here: what matters happens within a lease time.
const DAYS: i64 = 1;
/// Seeds in which everything must be well.
const SEEDS: u64 = 4;
/// Seeds within which the bugs must be found that show soonest; `cargo xtask simulate --shared --planted` looks for all.
const PLANTED: u64 = 30;

fn options() -> SharedOptions {
    SharedOptions { days: DAYS, ..SharedOptions::default() }
}

#[test]
fn whatever_befalls_the_workers_everything_that_was_published_is_there_in_the_end() {
    let (mut robbed, mut stops, mut crashes) = (0, 0, 0);
    for seed in 1..=SEEDS {
        let outcome = run_shared(seed, options());
        let again = format!("again by: cargo xtask simulate --shared --seed {seed} --days {DAYS} --trace");
        assert_eq!(outcome.failure, None, "seed {seed}, {again}");
        robbed += outcome.counts.robbed;
        stops += outcome.counts.stops;
        crashes += outcome.counts.crashes;
    }
    println!("{SEEDS} seeds: {crashes} killed, {stops} stopped, {robbed} tenants taken from who was silent");
    assert!(robbed > 0 && stops > 0 && crashes > 0);
}

#[test]
fn workers_whom_nothing_befalls_share_the_tenants_and_take_none_from_each_other() {
    let outcome = run_shared(1, SharedOptions { workers: Some(3), hardship: false, ..options() });
    assert_eq!(outcome.failure, None);
    let counts = outcome.counts;
    assert_eq!((counts.crashes, counts.stops), (0, 0));
    assert!(counts.records > 0 && counts.hands > 2, "{counts:?}");
}

#[test]
fn the_same_seed_is_the_same_run_of_all_workers() {
    let (first, second) = (run_shared(2, options()), run_shared(2, options()));
    assert_eq!(first.digest, second.digest);
    assert!(first.counts.steps > 1000, "it does nothing: {:?}", first.counts);
}

/// Says which seed finds the bug, and by what.
fn is_found(bug: SharingBug) {
    let options = SharedOptions { bug: Some(bug), ..options() };
    let found = (1..=PLANTED).find_map(|seed| Some((seed, run_shared(seed, options).failure?)));
    let (seed, failure) = found.unwrap_or_else(|| panic!("{} is not found by {PLANTED} seeds", bug.name()));
    println!("{}: found by seed {seed}: {failure}", bug.name());
}

#[test]
fn a_worker_that_goes_by_its_own_clock_is_found() {
    is_found(SharingBug::OwnClock);
}

#[test]
fn a_worker_that_trusts_its_leases_for_too_long_is_found() {
    is_found(SharingBug::TrustsTooLong);
}
