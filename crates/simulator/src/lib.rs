#![doc = include_str!("../README.md")]

mod check;
mod clock;
mod disk;
mod fate;
mod fleet;
mod month;
mod network;
mod panics;
mod plan;
mod plant;
mod process;
mod run;
mod shared;
mod store;
mod tally;
mod tuned;
mod witness;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use fleet::{FleetDay, FleetOptions, fleet_day};
pub use month::{Week, month};
pub use plant::Bug;
pub use process::processor_seconds;
pub use run::Counts;
pub use shared::{SharedCounts, SharedOptions, SharedOutcome, SharingBug, run_shared};

use run::Run;

/// How one seed is run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Simulated days before everything calms down.
    pub days: i64,
    /// Lines of the trace that are kept: the last ones.
    pub keep: usize,
    /// A bug that is planted.
    pub bug: Option<Bug>,
    /// False for a run in which nothing goes wrong but the ends of lives.
    pub hardship: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { days: 7, keep: 40, bug: None, hardship: true }
    }
}

/// What came of one seed.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Which.
    pub seed: u64,
    /// What must be true and was not.
    pub failure: Option<String>,
    /// What it was made of.
    pub counts: Counts,
    /// The digest of the whole trace: the same seed has the same one.
    pub digest: String,
    /// The last lines of the trace.
    pub lines: Vec<String>,
}

/// Runs one seed on this thread.
pub fn run(seed: u64, options: Options) -> Outcome {
    panics::remember();
    let mut outcome =
        Outcome { seed, failure: None, counts: Counts::default(), digest: String::new(), lines: Vec::new() };
    let mut run = match Run::new(seed, options.days, options.hardship, options.bug, options.keep) {
        Ok(run) => run,
        Err(error) => {
            outcome.failure = Some(error);
            return outcome;
        }
    };
    let result = catch_unwind(AssertUnwindSafe(|| run.run()));
    archive::disk::watch(None);
    outcome.failure = match result {
        Ok(result) => result.err(),
        Err(_) => Some(format!("a panic: {}", panics::take().join("; "))),
    };
    outcome.counts = run.counts;
    outcome.digest = run.fate.digest();
    outcome.lines = run.fate.lines();
    outcome
}
