//! Seeds in the debug build: a few of many, always the same; `cargo xtask simulate` runs thousands.
//!
//! Cut into several tests, so that all processors have some. The numbers are chosen for three minutes of two processors.

use std::ops::Range;

use simulator::{Bug, Options, run};

/// Seeds until each planted bug is found; the first thousand would do.
const PLANTED: u64 = 40;

fn all_is_well(seeds: Range<u64>) {
    println!("seeds {seeds:?}");
    for seed in seeds {
        let outcome = run(seed, Options::default());
        assert_eq!(outcome.failure, None, "seed {seed}, again by: cargo xtask simulate --seed {seed} --trace");
    }
}

#[test]
fn seeds_1_to_9_end_with_everything_that_was_published() {
    all_is_well(1..10);
}

#[test]
fn seeds_10_to_19_end_with_everything_that_was_published() {
    all_is_well(10..20);
}

#[test]
fn seeds_20_to_29_end_with_everything_that_was_published() {
    all_is_well(20..30);
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 7..=9 {
        let options = Options { days: 1, ..Options::default() };
        let (first, second) = (run(seed, options), run(seed, options));
        assert_eq!(first.digest, second.digest, "seed {seed}");
        assert!(first.counts.steps > 100, "seed {seed} does nothing: {:?}", first.counts);
    }
}

#[test]
fn each_planted_bug_is_found() {
    for (name, bug) in Bug::ALL {
        let options = Options { bug: Some(bug), ..Options::default() };
        let found = (1..=PLANTED).find_map(|seed| Some((seed, run(seed, options).failure?)));
        let (seed, failure) = found.unwrap_or_else(|| panic!("{name} is not found by {PLANTED} seeds"));
        println!("{name}: found by seed {seed}: {failure}");
    }
}
