//! Several workers that share the tenants of one ledger, under one time: each a whole collector in a process of its own,
//! that comes and goes, is stopped, killed and cut off by itself.

mod calls;
mod client;
mod folder;
mod gate;
mod leases;
mod plan;
mod plant;
mod process;
mod run;
mod server;
mod troubles;
mod verdict;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub(crate) use gate::Gate;
pub use plant::SharingBug;
pub use run::SharedCounts;

/// How one seed is run.
#[derive(Debug, Clone, Copy)]
pub struct SharedOptions {
    /// Simulated days before everything calms down.
    pub days: i64,
    /// How many workers there are; drawn when it is not said.
    pub workers: Option<usize>,
    /// Lines of the trace that are kept: the last ones.
    pub keep: usize,
    /// A bug that is planted.
    pub bug: Option<SharingBug>,
    /// False for a run in which nothing goes wrong.
    pub hardship: bool,
}

impl Default for SharedOptions {
    fn default() -> Self {
        Self { days: 2, workers: None, keep: 40, bug: None, hardship: true }
    }
}

/// What came of one seed.
#[derive(Debug, Clone)]
pub struct SharedOutcome {
    /// Which.
    pub seed: u64,
    /// What must be true and was not.
    pub failure: Option<String>,
    /// What it was made of.
    pub counts: SharedCounts,
    /// The digest of the whole trace: the same seed has the same one.
    pub digest: String,
    /// The last lines of the trace.
    pub lines: Vec<String>,
}

/// Runs one seed on this thread.
pub fn run_shared(seed: u64, options: SharedOptions) -> SharedOutcome {
    crate::panics::remember();
    let (counts, digest, lines) = (SharedCounts::default(), String::new(), Vec::new());
    let mut outcome = SharedOutcome { seed, failure: None, counts, digest, lines };
    let mut run = match run::Run::new(seed, options) {
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
        Err(_) => Some(format!("a panic: {}", crate::panics::take().join("; "))),
    };
    outcome.counts = run.counts;
    outcome.digest = run.fate.digest();
    outcome.lines = run.fate.lines();
    outcome
}
