//! A month without hardship: whether the ledger and the process stay as large as they are after the first weeks.

use crate::run::Run;

/// How things stand at the end of a week.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Week {
    /// Days since the start.
    pub day: i64,
    /// Bytes of the ledger's files.
    pub ledger_bytes: u64,
    /// Resident memory of the process, in KiB; 0 where the system does not say.
    pub resident_kib: u64,
    /// Records published by then, repeats included.
    pub records: u64,
}

/// Days between two looks.
const WEEK: i64 = 7;
/// Five weeks: what expires in the first is gone before the last.
const WEEKS: i64 = 5;

/// Lives through five weeks, one life of the collector, and looks at the end of each.
///
/// # Errors
/// When a check fails.
pub fn month(seed: u64) -> Result<Vec<Week>, String> {
    let mut run = Run::new(seed, WEEK * WEEKS, false, None, 0)?;
    let weeks = run.run_calmly(WEEK, WEEKS);
    archive::disk::watch(None);
    weeks
}
