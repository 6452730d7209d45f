//! What was measured, and what follows from it: cost per million records, the ratio to the floor, memory early and late.
//!
//! Never measures anything: numbers come in as arguments.

use anyhow::Context;
use serde_json::Value;

use super::child::{Measured, Sample};
use super::options::Options;

/// Resident memory must stay under it, with any number of records in ordinary blobs.
pub(super) const PEAK_KIB_MAX: u64 = 250 << 10;
/// Resident memory may rise by this part of itself from the end of the warm-up to the end of the run. Less: the noise of when
/// batches and merges happen to meet. More: growth with the number of records would pass for noise. It finds 40 bytes that each
/// of 500,000 records leaves behind.
pub(super) const RISE_MAX: f64 = 0.25;
/// The share of the records after which memory is held against a line. A commit takes 128 MiB of records or five seconds, so
/// in the first tenth of 500,000 records of three tenants none is complete and nothing was merged yet: what is resident then is
/// less than what any number of records takes, and the difference is no growth.
pub(super) const WARM_UP: f64 = 0.2;
/// Looks that a line is laid through at least.
const LOOKS_MIN: usize = 40;

/// What the emulator says it published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Published {
    /// Distinct (`Id`, body).
    pub(super) records: u64,
    /// Records delivered beyond the first time.
    pub(super) repeats: u64,
    pub(super) contents: u64,
}

impl Published {
    /// From the emulator's summary of the truth.
    pub(super) fn read(truth: &Value) -> anyhow::Result<Self> {
        let number = |key: &str| truth[key].as_u64().with_context(|| format!("the truth has no {key}: {truth}"));
        Ok(Self { records: number("records")?, repeats: number("duplicates")?, contents: number("contents")? })
    }

    /// Records that go over the wire, which is what both sides work through.
    pub(super) fn delivered(&self) -> u64 {
        self.records + self.repeats
    }
}

/// One run of the floor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Floor {
    pub(super) cpu_seconds: f64,
    pub(super) wall_seconds: f64,
    pub(super) contents: u64,
    /// After inflating.
    pub(super) bytes: u64,
    pub(super) compressed_bytes: u64,
}

impl Floor {
    /// From the line it prints.
    pub(super) fn read(line: &str) -> anyhow::Result<Self> {
        let told: Value = serde_json::from_str(line).context("the floor did not answer")?;
        let missing = || format!("the floor's answer is not whole: {line}");
        Ok(Self {
            cpu_seconds: told["cpu_seconds"].as_f64().with_context(missing)?,
            wall_seconds: told["wall_seconds"].as_f64().with_context(missing)?,
            contents: told["contents"].as_u64().with_context(missing)?,
            bytes: told["bytes"].as_u64().with_context(missing)?,
            compressed_bytes: told["compressed_bytes"].as_u64().with_context(missing)?,
        })
    }
}

/// One run of the collector, with what it says it did.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Product {
    pub(super) measured: Measured,
    pub(super) contents: u64,
    /// Repeats included.
    pub(super) records: u64,
    pub(super) repeats: u64,
    /// After inflating.
    pub(super) bytes: u64,
}

impl Product {
    /// From what `collect --json` prints.
    pub(super) fn new(measured: Measured, told: &Value) -> Self {
        let sum =
            |key: &str| told["tenants"].as_array().into_iter().flatten().filter_map(|line| line[key].as_u64()).sum();
        Self {
            measured,
            contents: sum("contents"),
            records: sum("records"),
            repeats: sum("duplicates"),
            bytes: sum("bytes"),
        }
    }
}

/// One query.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Query {
    pub(super) name: &'static str,
    pub(super) sql: String,
    pub(super) rows: usize,
    /// The whole program, from start to exit.
    pub(super) wall_seconds: f64,
    pub(super) cpu_seconds: f64,
}

/// All of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Report {
    pub(super) options: Options,
    pub(super) published: Published,
    pub(super) floors: Vec<Floor>,
    pub(super) products: Vec<Product>,
    /// Records that SQL counts in the archive.
    pub(super) archived: u64,
    pub(super) queries: Vec<Query>,
}

impl Report {
    pub(super) fn new(options: &Options, published: Published) -> Self {
        let options = options.clone();
        Self { options, published, floors: Vec::new(), products: Vec::new(), archived: 0, queries: Vec::new() }
    }

    /// The floor's run that took the least CPU time: the one that others on the machine disturbed least.
    pub(super) fn floor(&self) -> Option<&Floor> {
        self.floors.iter().min_by(|a, b| a.cpu_seconds.total_cmp(&b.cpu_seconds))
    }

    /// The collector's.
    pub(super) fn product(&self) -> Option<&Product> {
        self.products.iter().min_by(|a, b| a.measured.cpu_seconds.total_cmp(&b.measured.cpu_seconds))
    }

    /// CPU seconds for a million records delivered.
    pub(super) fn per_million(&self, cpu_seconds: f64) -> f64 {
        cpu_seconds * 1e6 / self.published.delivered().max(1) as f64
    }

    /// The collector's CPU time in floors.
    pub(super) fn ratio(&self) -> Option<f64> {
        let floor = self.floor()?.cpu_seconds;
        (floor > 0.0).then(|| Some(self.product()?.measured.cpu_seconds / floor))?
    }

    /// The most memory that any run ever had.
    pub(super) fn peak_kib(&self) -> u64 {
        self.products.iter().map(|product| product.measured.peak_kib).max().unwrap_or(0)
    }

    /// Of the run that grew most: the most memory in its first and in its last tenth.
    pub(super) fn tenths(&self) -> Option<Tenths> {
        let of_runs = self.products.iter().filter_map(|product| Tenths::of(&product.measured.samples));
        of_runs.max_by(|a, b| a.growth().total_cmp(&b.growth()))
    }

    /// By which part of itself memory rises after the warm-up, in the run where it rises most.
    pub(super) fn rise(&self) -> Option<f64> {
        let of_runs = self.products.iter().filter_map(|product| rise(&product.measured.samples));
        of_runs.max_by(f64::total_cmp)
    }

    /// What is not as it must be, one sentence each.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut equal = |what: &str, found: u64, expected: u64| {
            if found != expected {
                faults.push(format!("{what}: {found} instead of {expected}"));
            }
        };
        equal("records in the archive", self.archived, self.published.records);
        for product in &self.products {
            equal("records collected", product.records, self.published.delivered());
            equal("repeats left out", product.repeats, self.published.repeats);
            equal("contents collected", product.contents, self.published.contents);
            if let Some(floor) = self.floor() {
                equal("bytes collected", product.bytes, floor.bytes);
            }
        }
        for floor in &self.floors {
            equal("contents the floor downloaded", floor.contents, self.published.contents);
        }
        if self.peak_kib() >= PEAK_KIB_MAX {
            faults.push(format!(
                "peak memory: {} MiB, and {} are the limit",
                self.peak_kib() >> 10,
                PEAK_KIB_MAX >> 10
            ));
        }
        if let Some(rise) = self.rise().filter(|rise| *rise > RISE_MAX) {
            let (rise, limit) = (rise * 100.0, RISE_MAX * 100.0);
            faults.push(format!("memory: rises by {rise:.0} % after the warm-up, and {limit:.0} are the limit"));
        }
        faults
    }

    /// Whether all is as it must be. The ratio is an aim and no condition: it depends on the machine.
    pub(super) fn is_good(&self) -> bool {
        self.faults().is_empty()
    }
}

/// The most memory resident while the first tenth of the records came, and while the last did, in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tenths {
    pub(super) first_kib: u64,
    pub(super) last_kib: u64,
}

impl Tenths {
    /// `None` when the run was too short to be seen in both.
    fn of(samples: &[Sample]) -> Option<Self> {
        let most = |from: f64, to: f64| {
            samples.iter().filter(|sample| (from..=to).contains(&sample.done)).map(|sample| sample.resident_kib).max()
        };
        Some(Self { first_kib: most(f64::MIN_POSITIVE, 0.1)?, last_kib: most(0.9, f64::MAX)? })
    }

    fn growth(&self) -> f64 {
        self.last_kib as f64 / self.first_kib.max(1) as f64
    }
}

/// By which part of itself memory rises from the end of the warm-up to the end of the run: along the line of least squares
/// through all looks, which are equally far apart in time. Over time and not over records, so that what is left behind while
/// segments are merged, when all records are there, is seen too. `None` when the run was too short.
fn rise(samples: &[Sample]) -> Option<f64> {
    let warm = samples.get(samples.iter().position(|sample| sample.done >= WARM_UP)?..)?;
    if warm.len() < LOOKS_MIN {
        return None;
    }
    let count = warm.len() as f64;
    let middle = (count - 1.0) / 2.0;
    let mean = warm.iter().map(|sample| sample.resident_kib as f64).sum::<f64>() / count;
    let (mut product, mut square) = (0.0, 0.0);
    for (at, sample) in warm.iter().enumerate() {
        let offset = at as f64 - middle;
        product += offset * (sample.resident_kib as f64 - mean);
        square += offset * offset;
    }
    let slope = product / square;
    let begin = mean - slope * middle;
    Some(slope * (count - 1.0) / begin.max(1.0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample(done: f64, resident_kib: u64) -> Sample {
        Sample { done, resident_kib }
    }

    /// A thousand looks at a run whose memory, from the end of the warm-up (0) to the end of the run (1), is that.
    fn run(memory_kib: impl Fn(f64) -> f64) -> Vec<Sample> {
        let warm = (0..1000).map(|at| {
            let done = f64::from(at) / 999.0;
            sample(WARM_UP + done * (1.0 - WARM_UP), memory_kib(done) as u64)
        });
        // What comes before is as little as at any start.
        (0..100).map(|at| sample(f64::from(at) / 500.0, 40_000)).chain(warm).collect()
    }

    fn product(cpu_seconds: f64) -> Product {
        let samples = vec![sample(0.0, 10), sample(0.05, 100), sample(0.5, 900), sample(0.95, 110)];
        let measured = Measured { cpu_seconds, wall_seconds: 2.0, peak_kib: 900, samples };
        let told = json!({ "tenants": [
            { "contents": 3, "records": 700, "duplicates": 50, "bytes": 6000 },
            { "contents": 1, "records": 300, "duplicates": 0, "bytes": 1000 },
        ] });
        Product::new(measured, &told)
    }

    fn report() -> Report {
        let options = Options::parse(&[]).unwrap().unwrap();
        let published = Published::read(&json!({ "records": 950, "duplicates": 50, "contents": 4 })).unwrap();
        let floor = |cpu: f64| {
            let line = json!({
                "cpu_seconds": cpu, "wall_seconds": 1.0, "contents": 4, "bytes": 7000, "compressed_bytes": 900
            });
            Floor::read(&line.to_string()).unwrap()
        };
        Report {
            floors: vec![floor(2.5), floor(2.0)],
            products: vec![product(3.0), product(3.5)],
            archived: 950,
            ..Report::new(&options, published)
        }
    }

    #[test]
    fn the_ratio_is_that_of_the_least_disturbed_runs_and_cost_is_per_record_delivered() {
        let report = report();
        assert_eq!(report.ratio(), Some(1.5));
        assert_eq!(report.per_million(2.0), 2000.0);
        let empty = Report::new(&report.options, report.published);
        assert_eq!(empty.ratio(), None);
    }

    #[test]
    fn a_floor_of_nothing_gives_no_ratio() {
        let mut report = report();
        report.floors[0].cpu_seconds = 0.0;
        assert_eq!(report.ratio(), None);
    }

    #[test]
    fn whatever_differs_from_what_was_published_is_a_fault() {
        let good = report();
        assert_eq!(good.faults(), Vec::<String>::new());
        let fault = |change: fn(&mut Report)| {
            let mut report = good.clone();
            change(&mut report);
            assert_eq!(report.faults().len(), 1, "{:?}", report.faults());
        };
        fault(|report| report.archived -= 1);
        fault(|report| report.products[1].records += 1);
        fault(|report| report.products[0].repeats -= 1);
        fault(|report| report.products[1].contents -= 1);
        fault(|report| report.products[0].bytes += 1);
        fault(|report| report.floors[0].contents -= 1);
        fault(|report| report.products[0].measured.peak_kib = PEAK_KIB_MAX);
        fault(|report| report.products[1].measured.samples = run(|done| 100_000.0 + 26_000.0 * done));
    }

    #[test]
    fn memory_just_within_its_limits_is_none() {
        let mut report = report();
        report.products[0].measured.peak_kib = PEAK_KIB_MAX - 1;
        report.products[1].measured.samples = run(|done| 100_000.0 + 24_000.0 * done);
        assert!(report.is_good(), "{:?}", report.faults());
    }

    #[test]
    fn what_goes_up_and_down_is_no_rise_and_what_stays_behind_is() {
        let rise_of = |memory_kib: &dyn Fn(f64) -> f64| rise(&run(memory_kib)).unwrap();
        // Of commits that come and go, seven or three of them, and merges at the end.
        for commits in [7.0, 3.5] {
            let rise = rise_of(&|done| 90_000.0 + 30_000.0 * (done * commits).fract());
            assert!(rise.abs() < RISE_MAX / 2.0, "{commits}: {rise}");
        }
        let merges = rise_of(&|done| if done < 0.8 { 100_000.0 } else { 115_000.0 });
        assert!(merges < RISE_MAX, "{merges}");
        // Seventy bytes of each of the 400,000 records that come after the warm-up, beside what comes and goes.
        let leak = rise_of(&|done| 85_000.0 + 20_000.0 * (done * 7.0).fract() + 28_000.0 * done);
        assert!(leak > RISE_MAX, "{leak}");
        // The same in merges only, the last third of the run.
        let leak = rise_of(&|done| 85_000.0 + 20_000.0 * (done * 7.0).fract() + 28_000.0 * (3.0 * done - 2.0).max(0.0));
        assert!(leak > RISE_MAX, "{leak}");
        assert_eq!(rise(&run(|_| 1.0)[..100 + LOOKS_MIN - 1]), None);
        assert!(rise(&run(|_| 1.0)[..100 + LOOKS_MIN]).is_some());
    }

    #[test]
    fn the_tenths_leave_out_the_start_and_the_middle() {
        let samples =
            [sample(0.0, 999), sample(0.01, 7), sample(0.1, 8), sample(0.11, 999), sample(0.9, 5), sample(1.0, 6)];
        assert_eq!(Tenths::of(&samples), Some(Tenths { first_kib: 8, last_kib: 6 }));
        assert_eq!(Tenths::of(&samples[..4]), None);
        assert_eq!(Tenths::of(&samples[3..]), None);
    }
}
