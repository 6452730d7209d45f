//! Several segments of one date become one, in order of `creation_time`, every row with its own commit and bytes.
//!
//! Never deletes its inputs: that is for the ledger to order once the new segment is visible. Never trusts them either:
//! each is compared with its digest first, and the sum over all records must come out as it went in.
//! Memory: one run of [`RUN_RAW_BYTES`], or the pages of [`RUNS_OPEN`] sorted runs, whatever the sizes of the inputs.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::path::PathBuf;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use chrono::NaiveDate;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use protocol::ids::TenantId;

use crate::keys::{Fingerprint, RecordKey, second_of_micros};
use crate::part::{self, PartName, PartWriter};
use crate::read::{Batches, micros, texts};
use crate::schema::{FINGERPRINT_KEY, SORTED_KEY};
use crate::segment::Segment;
use crate::verify::check_digest;
use crate::{Archive, ArchiveError, arrow_schema, files};

/// Bytes of `raw` sorted in memory at a time.
const RUN_RAW_BYTES: usize = 24 << 20;
/// Sorted runs read side by side, each with its pages in memory: 2 to 3 MiB.
const RUNS_OPEN: usize = 16;
/// Rows read at a time from each.
const READ_ROWS: usize = 128;
/// Rows handed on at a time, and bytes of `raw` in them.
const WRITE_ROWS: usize = 1024;
const WRITE_RAW_BYTES: usize = 512 << 10;

impl Archive {
    /// Merges segments of one tenant and date into one (more when one would be too large), named by `number`: a commit
    /// number of its own. The inputs stay until [`Archive::delete_segments`]. `stop` is asked now and then.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Damaged`] naming the input that is not what was written; [`ArchiveError::Stopped`] when `stop`
    /// said so. Nothing is left behind then.
    pub fn merge(
        &self,
        inputs: &[Segment],
        number: u64,
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<Segment>, ArchiveError> {
        let refuse = |problem: &str| Err(ArchiveError::MergeInput { problem: problem.to_owned() });
        let Some(first) = inputs.first() else { return refuse("no segment is given") };
        if inputs.iter().any(|input| (input.tenant, input.date) != (first.tenant, first.date)) {
            return refuse("the segments are not of one tenant and date");
        }
        // Readers rule a file out by its name alone: no row of it may be of a later commit.
        if inputs.iter().any(|input| input.commit >= number) {
            return refuse("an input has the number the result is to have, or a later one");
        }
        let mut merge = Merge {
            archive: self,
            tenant: first.tenant,
            date: first.date,
            number,
            stop,
            runs: Vec::new(),
            spilled: 0,
            promised: Fingerprint::default(),
            finished: Vec::new(),
        };
        let result = merge.run(inputs);
        merge.runs.clear();
        match result {
            Ok(()) => Ok(merge.finished),
            Err(error) => {
                // What cannot be removed now is an orphan, and removed at the next start.
                let _ = self.delete_segments(&merge.finished);
                Err(error)
            }
        }
    }
}

struct Merge<'a> {
    archive: &'a Archive,
    tenant: TenantId,
    date: NaiveDate,
    number: u64,
    stop: &'a dyn Fn() -> bool,
    runs: Vec<Run>,
    spilled: u32,
    promised: Fingerprint,
    finished: Vec<Segment>,
}

/// Rows in order.
enum Run {
    /// A segment that is sorted already.
    Segment(PathBuf),
    /// A temporary file.
    Spilled(Spilled),
    /// What was sorted last, and need not go to disk.
    Memory(SortedBatches),
}

/// A temporary file that is removed with the value.
struct Spilled(PathBuf);

impl Drop for Spilled {
    fn drop(&mut self) {
        let _ = files::remove_file(&self.0);
    }
}

impl Merge<'_> {
    fn run(&mut self, inputs: &[Segment]) -> Result<(), ArchiveError> {
        self.make_runs(inputs)?;
        while self.runs.len() > RUNS_OPEN {
            let some: Vec<Run> = self.runs.drain(..RUNS_OPEN).collect();
            let spilled = self.spill(&mut Merged::open(&some)?)?;
            self.runs.push(Run::Spilled(spilled));
        }
        let runs = std::mem::take(&mut self.runs);
        let fingerprint = self.write(&mut Merged::open(&runs)?)?;
        let rows: u64 = self.finished.iter().map(|segment| segment.rows).sum();
        let promised_rows: u64 = inputs.iter().map(|input| input.rows).sum();
        if fingerprint != self.promised || rows != promised_rows {
            let problem =
                format!("{rows} records came out where {promised_rows} went in, or other ones; nothing is changed");
            return Err(ArchiveError::MergeInput { problem });
        }
        part::sync_folders_of(self.archive, &self.finished)
    }

    /// Checks every input and sorts those that are not.
    fn make_runs(&mut self, inputs: &[Segment]) -> Result<(), ArchiveError> {
        let mut gathered = Gathered::default();
        for input in inputs {
            self.ask_stop()?;
            check_digest(self.archive, input)?;
            let path = self.archive.segment_path(input);
            let batches = Batches::open(&path, None, READ_ROWS)?;
            let Some(fingerprint) = batches.footer_value(FINGERPRINT_KEY).and_then(Fingerprint::parse) else {
                return Err(ArchiveError::Damaged { path, problem: "its footer has no fingerprint".to_owned() });
            };
            self.promised.add_all(fingerprint);
            if batches.footer_value(SORTED_KEY).is_some() {
                self.runs.push(Run::Segment(path));
                continue;
            }
            for batch in batches {
                gathered.push(batch?);
                if gathered.raw_bytes >= RUN_RAW_BYTES {
                    self.ask_stop()?;
                    let spilled = self.spill(&mut std::mem::take(&mut gathered).sorted())?;
                    self.runs.push(Run::Spilled(spilled));
                }
            }
        }
        if !gathered.batches.is_empty() {
            self.runs.push(Run::Memory(gathered.sorted()));
        }
        Ok(())
    }

    fn spill(
        &mut self,
        rows: &mut dyn Iterator<Item = Result<RecordBatch, ArchiveError>>,
    ) -> Result<Spilled, ArchiveError> {
        let folder = self.archive.folder_of(self.tenant, self.date);
        let spilled = Spilled(folder.join(format!(".{}-run-{}.tmp", self.number, self.spilled)));
        self.spilled += 1;
        let failed = || ArchiveError::parquet("write", &spilled.0);
        let file = File::create(&spilled.0).map_err(ArchiveError::io("create", &spilled.0))?;
        let mut writer = ArrowWriter::try_new(file, arrow_schema(), Some(spill_properties())).map_err(failed())?;
        for batch in rows {
            self.ask_stop()?;
            writer.write(&batch?).map_err(failed())?;
            if writer.memory_size() > RUN_RAW_BYTES / 2 {
                writer.flush().map_err(failed())?;
            }
        }
        writer.close().map_err(failed())?;
        Ok(spilled)
    }

    /// Writes the result; the sum over its records.
    fn write(
        &mut self,
        rows: &mut dyn Iterator<Item = Result<RecordBatch, ArchiveError>>,
    ) -> Result<Fingerprint, ArchiveError> {
        let taken = self.archive.0.compressors.take();
        let mut compressor = taken.map_err(ArchiveError::parquet("compress for", self.archive.root()))?;
        let mut sum = Fingerprint::default();
        let mut writer: Option<PartWriter> = None;
        let mut part = 0;
        for batch in rows {
            self.ask_stop()?;
            let batch = batch?;
            let open = match &mut writer {
                Some(open) => open,
                None => {
                    let name = PartName { tenant: self.tenant, date: self.date, commit: self.number, part };
                    part += 1;
                    writer.insert(PartWriter::create(self.archive, name, true)?)
                }
            };
            note_rows(&batch, open);
            open.write_batch(&batch, &mut compressor)?;
            if open.is_full()
                && let Some(full) = writer.take()
            {
                sum.add_all(full.fingerprint());
                self.finished.push(full.finish(&mut compressor)?);
            }
        }
        if let Some(last) = writer {
            sum.add_all(last.fingerprint());
            self.finished.push(last.finish(&mut compressor)?);
        }
        Ok(sum)
    }

    fn ask_stop(&self) -> Result<(), ArchiveError> {
        if (self.stop)() { Err(ArchiveError::Stopped) } else { Ok(()) }
    }
}

/// Tells the writer the keys of a batch's rows, digested anew from their bytes.
fn note_rows(batch: &RecordBatch, writer: &mut PartWriter) {
    let (ids, raw, created) = (texts(batch, "id"), texts(batch, "raw"), micros(batch, "creation_time"));
    for (row, (id, raw)) in ids.iter().zip(raw.iter()).enumerate() {
        let second = created(row).map(second_of_micros);
        writer.note(RecordKey::new(id, second, raw.unwrap_or_default().as_bytes()), second);
    }
}

fn raw_bytes(batch: &RecordBatch) -> usize {
    let offsets = texts(batch, "raw").value_offsets();
    match (offsets.first(), offsets.last()) {
        (Some(first), Some(last)) => usize::try_from(last - first).unwrap_or_default(),
        _ => 0,
    }
}

/// Temporary files are written once and read once: light compression, small pages, nothing to search by.
fn spill_properties() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).unwrap_or_default()))
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_data_page_size_limit(256 << 10)
        .build()
}

/// What rows are ordered by: time, those without one last; then commit.
type Order = (i64, i64);

fn orders(batch: &RecordBatch) -> Vec<Order> {
    let times = batch.column_by_name("creation_time").expect("all columns are read");
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let commits = batch.column_by_name("commit").expect("all columns are read").as_primitive::<Int64Type>();
    let time = |row| if times.is_valid(row) { times.value(row) } else { i64::MAX };
    commits.values().iter().enumerate().map(|(row, commit)| (time(row), *commit)).collect()
}

/// Unsorted rows, gathered until they are a run.
#[derive(Default)]
struct Gathered {
    batches: Vec<RecordBatch>,
    raw_bytes: usize,
}

impl Gathered {
    fn push(&mut self, batch: RecordBatch) {
        self.raw_bytes += raw_bytes(&batch);
        self.batches.push(batch);
    }

    fn sorted(self) -> SortedBatches {
        let mut order: Vec<(Order, usize, usize)> = Vec::new();
        for (number, batch) in self.batches.iter().enumerate() {
            order.extend(orders(batch).into_iter().enumerate().map(|(row, order)| (order, number, row)));
        }
        order.sort_unstable();
        let rows = order.into_iter().map(|(_, batch, row)| (batch, row)).collect();
        SortedBatches { batches: self.batches, rows, next: 0 }
    }
}

/// Rows in order, made into batches a few at a time.
#[derive(Clone)]
struct SortedBatches {
    batches: Vec<RecordBatch>,
    rows: Vec<(usize, usize)>,
    next: usize,
}

impl Iterator for SortedBatches {
    type Item = Result<RecordBatch, ArchiveError>;

    fn next(&mut self) -> Option<Self::Item> {
        let until = (self.next + READ_ROWS).min(self.rows.len());
        let rows = self.rows.get(self.next..until).filter(|rows| !rows.is_empty())?;
        self.next = until;
        Some(Ok(interleave(&self.batches, rows)))
    }
}

fn interleave(batches: &[RecordBatch], rows: &[(usize, usize)]) -> RecordBatch {
    let batches: Vec<&RecordBatch> = batches.iter().collect();
    // Both are ours: the batches have one schema, the rows lie in them, and a batch's texts stay far below 2 GiB.
    interleave_record_batch(&batches, rows).expect("rows of these batches, all of the archive's schema")
}

/// Several runs read side by side, the least row first.
struct Merged<'a> {
    runs: Vec<Box<dyn Iterator<Item = Result<RecordBatch, ArchiveError>> + 'a>>,
    /// The batch each run is in, as an index into `batches`, and its rows' orders.
    current: Vec<(usize, Vec<Order>)>,
    /// The next row of each run that has one: order, run, row.
    heads: BinaryHeap<Reverse<(Order, usize, usize)>>,
    /// Batches that chosen rows lie in.
    batches: Vec<RecordBatch>,
    chosen: Vec<(usize, usize)>,
}

impl<'a> Merged<'a> {
    fn open(runs: &'a [Run]) -> Result<Self, ArchiveError> {
        let mut merged = Self {
            runs: Vec::new(),
            current: Vec::new(),
            heads: BinaryHeap::new(),
            batches: Vec::new(),
            chosen: Vec::new(),
        };
        for (number, run) in runs.iter().enumerate() {
            merged.runs.push(match run {
                Run::Segment(path) | Run::Spilled(Spilled(path)) => Box::new(Batches::open(path, None, READ_ROWS)?),
                Run::Memory(sorted) => Box::new(sorted.clone()),
            });
            merged.current.push((0, Vec::new()));
            merged.advance(number)?;
        }
        Ok(merged)
    }

    /// Reads the next batch of a run and queues its first row.
    fn advance(&mut self, number: usize) -> Result<(), ArchiveError> {
        let Some(run) = self.runs.get_mut(number) else { return Ok(()) };
        for batch in run.by_ref() {
            let batch = batch?;
            let orders = orders(&batch);
            let Some(first) = orders.first().copied() else { continue };
            if let Some(current) = self.current.get_mut(number) {
                *current = (self.batches.len(), orders);
            }
            self.batches.push(batch);
            self.heads.push(Reverse((first, number, 0)));
            break;
        }
        Ok(())
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>, ArchiveError> {
        let mut bytes = 0;
        while self.chosen.len() < WRITE_ROWS && bytes < WRITE_RAW_BYTES {
            let Some(Reverse((_, number, row))) = self.heads.pop() else { break };
            let Some((batch, orders)) = self.current.get(number) else { break };
            self.chosen.push((*batch, row));
            bytes += self.batches.get(*batch).map_or(0, |batch| texts(batch, "raw").value_length(row) as usize);
            match orders.get(row + 1) {
                Some(order) => self.heads.push(Reverse((*order, number, row + 1))),
                None => self.advance(number)?,
            }
        }
        if self.chosen.is_empty() {
            return Ok(None);
        }
        let merged = interleave(&self.batches, &self.chosen);
        self.chosen.clear();
        self.drop_exhausted();
        Ok(Some(merged))
    }

    /// Keeps only the batch that each run is in.
    fn drop_exhausted(&mut self) {
        let mut kept = Vec::with_capacity(self.current.len());
        for Reverse((_, number, _)) in &self.heads {
            if let Some((batch, _)) = self.current.get_mut(*number)
                && let Some(held) = self.batches.get(*batch)
            {
                *batch = kept.len();
                kept.push(held.clone());
            }
        }
        self.batches = kept;
    }
}

impl Iterator for Merged<'_> {
    type Item = Result<RecordBatch, ArchiveError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_batch().transpose()
    }
}
