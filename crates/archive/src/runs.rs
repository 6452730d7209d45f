//! Rows in order, from memory or from files, read side by side into one order.
//!
//! Never holds more of a run than the batch it is in. Rows come from [`crate::merge`] and go back to it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};

use crate::checked::Checked;
use crate::read::{Batches, texts};
use crate::{Archive, ArchiveError, files};

/// Rows read at a time from each run.
pub(crate) const READ_ROWS: usize = 128;
/// Rows handed on at a time, and bytes of `raw` in them.
const WRITE_ROWS: usize = 1024;
const WRITE_RAW_BYTES: usize = 512 << 10;

/// Rows in order.
pub(crate) enum Run {
    /// A segment that is sorted already.
    Segment(Checked),
    /// A temporary file.
    Spilled(Spilled),
    /// What was sorted last, and need not go to disk.
    Memory(SortedBatches),
}

/// A temporary file that is removed with the value.
pub(crate) struct Spilled(PathBuf);

impl Spilled {
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Spilled {
    fn drop(&mut self) {
        let _ = files::remove_file(&self.0);
    }
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
pub(crate) struct Gathered {
    batches: Vec<RecordBatch>,
    raw_bytes: usize,
}

impl Gathered {
    pub(crate) fn push(&mut self, batch: RecordBatch) {
        self.raw_bytes += raw_bytes(&batch);
        self.batches.push(batch);
    }

    pub(crate) fn raw_bytes(&self) -> usize {
        self.raw_bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(crate) fn sorted(self) -> SortedBatches {
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
pub(crate) struct SortedBatches {
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
pub(crate) struct Merged<'a> {
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
    /// Opens them all.
    pub(crate) fn open(archive: &Archive, runs: &'a [Run]) -> Result<Self, ArchiveError> {
        let mut merged = Self {
            runs: Vec::new(),
            current: Vec::new(),
            heads: BinaryHeap::new(),
            batches: Vec::new(),
            chosen: Vec::new(),
        };
        for (number, run) in runs.iter().enumerate() {
            merged.runs.push(match run {
                Run::Segment(segment) => Box::new(Batches::open_checked(archive, segment, None, READ_ROWS)?),
                Run::Spilled(Spilled(path)) => Box::new(Batches::open(path, None, READ_ROWS)?),
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

fn raw_bytes(batch: &RecordBatch) -> usize {
    let offsets = texts(batch, "raw").value_offsets();
    match (offsets.first(), offsets.last()) {
        (Some(first), Some(last)) => usize::try_from(last - first).unwrap_or_default(),
        _ => 0,
    }
}
