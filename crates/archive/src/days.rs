//! Where the rows of one commit go: to the segment of their date, of which few are open at a time.
//!
//! Rows of a date wait in memory until they are worth a file of their own. So records that jump from date to date do not
//! open a file each, and a date that gets little is written in order of time at the end, in one go.
//! Never holds more than [`WAITING_BYTES_MAX`] of waiting rows, nor more than the archive's memory for open segments.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::TimestampMicrosecondType;
use chrono::NaiveDate;
use protocol::ids::TenantId;
use protocol::time::Timestamp;

use crate::columns::{Row, RowBuffer};
use crate::keys::RecordKey;
use crate::part::{Origin, PartName, PartWriter};
use crate::raw_column::RawCompressor;
use crate::schema::position;
use crate::segment::Segment;
use crate::{Archive, ArchiveError};

/// Segments open at one time; the one unused for longest is closed for another.
const OPEN_MAX: usize = 16;
/// Bytes of a date's records that are worth opening a segment.
const WORTH_OPENING_BYTES: usize = 512 << 10;
/// Bytes of records, and of what is held for each date, that may wait. Beyond it the date with the most is written out.
const WAITING_BYTES_MAX: usize = 16 << 20;
/// About what a date takes when it has no row yet.
const DAY_BYTES: usize = 4 << 10;

/// The commit's dates and the segments finished so far.
pub(crate) struct Days {
    archive: Archive,
    tenant: TenantId,
    commit: u64,
    ingested_at: Timestamp,
    compressor: RawCompressor,
    days: BTreeMap<NaiveDate, Day>,
    finished: Vec<Segment>,
    next_part: u64,
    waiting_bytes: usize,
    clock: u64,
}

struct Day {
    rows: RowBuffer,
    stage: Stage,
    last_used: u64,
}

enum Stage {
    Waiting(Waiting),
    Writing(Box<PartWriter>),
}

/// What is held of rows until a segment is opened for them, beside their columns.
#[derive(Default)]
struct Waiting {
    raw: Vec<u8>,
    /// Where each record ends in `raw`, its key, and its second.
    rows: Vec<(usize, RecordKey, Option<i64>)>,
}

impl Days {
    pub(crate) fn new(
        archive: Archive,
        tenant: TenantId,
        commit: u64,
        ingested_at: Timestamp,
    ) -> Result<Self, ArchiveError> {
        let taken = archive.0.compressors.take();
        let compressor = taken.map_err(ArchiveError::parquet("compress for", archive.root()))?;
        let next_part = archive.first_part();
        Ok(Self {
            archive,
            tenant,
            commit,
            ingested_at,
            compressor,
            days: BTreeMap::new(),
            finished: Vec::new(),
            next_part,
            waiting_bytes: 0,
            clock: 0,
        })
    }

    /// Adds a row to the segment of its date.
    pub(crate) fn push(
        &mut self,
        date: NaiveDate,
        key: RecordKey,
        raw: &[u8],
        row: &Row<'_>,
    ) -> Result<(), ArchiveError> {
        self.clock += 1;
        let mut waits = 0;
        let day = self.days.entry(date).or_insert_with(|| {
            waits += DAY_BYTES;
            Day {
                rows: RowBuffer::new(self.tenant, self.ingested_at, self.commit),
                stage: Stage::Waiting(Waiting::default()),
                last_used: 0,
            }
        });
        day.last_used = self.clock;
        day.rows.push(row);
        let second = row.creation_time.map(|time| time.timestamp());
        match &mut day.stage {
            Stage::Waiting(waiting) => {
                waiting.push(raw, key, second);
                waits += raw.len();
                let is_worth_opening = waiting.raw.len() >= WORTH_OPENING_BYTES || day.rows.is_full();
                self.account_waiting(0, waits);
                if is_worth_opening {
                    self.open(date)?;
                }
                self.keep_within_memory()
            }
            Stage::Writing(writer) => {
                writer.push_raw(raw, &mut self.compressor)?;
                writer.note(key, second);
                if day.rows.is_full() || writer.wants_columns() {
                    write_columns(&mut day.rows, writer, &mut self.compressor)?;
                    if writer.is_full() {
                        self.close(date)?;
                    }
                    self.keep_within_memory()?;
                }
                Ok(())
            }
        }
    }

    /// Completes all segments. They are in `finished`, for [`Self::take_finished`].
    pub(crate) fn finish(&mut self) -> Result<(), ArchiveError> {
        // In the order of their dates, so that the same records make the same files.
        let dates: Vec<NaiveDate> = self.days.keys().copied().collect();
        dates.into_iter().try_for_each(|date| self.close(date))
    }

    /// The segments finished so far; who takes them is answerable for their files.
    pub(crate) fn take_finished(&mut self) -> Vec<Segment> {
        std::mem::take(&mut self.finished)
    }

    pub(crate) fn finished(&self) -> &[Segment] {
        &self.finished
    }

    /// Lets go of everything that is not finished; its files are removed.
    pub(crate) fn clear(&mut self) {
        self.days.clear();
        self.account_waiting(self.waiting_bytes, 0);
    }

    /// Opens a segment for a date whose rows have waited long enough.
    fn open(&mut self, date: NaiveDate) -> Result<(), ArchiveError> {
        let writing = |day: &Day| matches!(day.stage, Stage::Writing(_));
        if self.days.values().filter(|day| writing(day)).count() >= OPEN_MAX {
            let open = self.days.iter().filter(|(_, day)| writing(day));
            if let Some(oldest) = open.min_by_key(|(_, day)| day.last_used).map(|(date, _)| *date) {
                self.close(oldest)?;
            }
        }
        let mut writer = self.create_part(date, Origin::Delivered)?;
        let Some(day) = self.days.get_mut(&date) else { return Ok(()) };
        if let Stage::Waiting(waiting) = &day.stage {
            let waited = waiting.raw.len() + DAY_BYTES;
            for (raw, key, second) in waiting.iter() {
                writer.push_raw(raw, &mut self.compressor)?;
                writer.note(key, second);
            }
            write_columns(&mut day.rows, &mut writer, &mut self.compressor)?;
            day.stage = Stage::Writing(writer);
            self.account_waiting(waited, 0);
        }
        Ok(())
    }

    /// Completes the segment of a date, which begins anew with its next record.
    fn close(&mut self, date: NaiveDate) -> Result<(), ArchiveError> {
        let Some(mut day) = self.days.remove(&date) else { return Ok(()) };
        let writer = match day.stage {
            Stage::Writing(mut writer) => {
                write_columns(&mut day.rows, &mut writer, &mut self.compressor)?;
                writer
            }
            Stage::Waiting(waiting) => {
                self.account_waiting(waiting.raw.len() + DAY_BYTES, 0);
                let Some(columns) = day.rows.take() else { return Ok(()) };
                let mut writer = self.create_part(date, Origin::Sorted)?;
                waiting.write_sorted(columns, &mut writer, &mut self.compressor)?;
                writer
            }
        };
        self.finished.push(writer.finish(&mut self.compressor)?);
        Ok(())
    }

    fn create_part(&mut self, date: NaiveDate, origin: Origin) -> Result<Box<PartWriter>, ArchiveError> {
        let name = PartName { tenant: self.tenant, date, commit: self.commit, part: self.next_part };
        let writer = PartWriter::create(&self.archive, name, origin)?;
        self.next_part += 1;
        Ok(Box::new(writer))
    }

    /// Closes the date that holds most while too much waits, or while all commits together hold more than they may and
    /// this one its share of it. Where a row group can be ended instead, the file goes on.
    fn keep_within_memory(&mut self) -> Result<(), ArchiveError> {
        let limit = self.archive.0.write_memory_bytes;
        loop {
            let too_much_waits = self.waiting_bytes > WAITING_BYTES_MAX;
            // A commit that holds little is not the one to give way; but one alone always is.
            let too_much_held = self.archive.write_memory_used() > limit
                && self.days.values().map(Day::memory_bytes).sum::<usize>() > limit / 8;
            if !too_much_waits && !too_much_held {
                return Ok(());
            }
            let candidates =
                self.days.iter().filter(|(_, day)| too_much_held || matches!(day.stage, Stage::Waiting(_)));
            let Some(date) = candidates.max_by_key(|(_, day)| day.memory_bytes()).map(|(date, _)| *date) else {
                return Ok(());
            };
            if !self.flush(date)? {
                self.close(date)?;
            }
        }
    }

    /// Ends the row group of a date, if there is one worth it.
    fn flush(&mut self, date: NaiveDate) -> Result<bool, ArchiveError> {
        let Some(Day { rows, stage: Stage::Writing(writer), .. }) = self.days.get_mut(&date) else { return Ok(false) };
        if !writer.can_flush() {
            return Ok(false);
        }
        write_columns(rows, writer, &mut self.compressor)?;
        writer.flush(&mut self.compressor)?;
        Ok(true)
    }

    fn account_waiting(&mut self, before: usize, now: usize) {
        self.archive.account_write_memory(before, now);
        self.waiting_bytes = (self.waiting_bytes + now).saturating_sub(before);
    }
}

impl Drop for Days {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Day {
    fn memory_bytes(&self) -> usize {
        match &self.stage {
            Stage::Waiting(waiting) => DAY_BYTES + waiting.raw.len(),
            Stage::Writing(writer) => writer.memory_bytes(),
        }
    }
}

impl Waiting {
    fn push(&mut self, raw: &[u8], key: RecordKey, second: Option<i64>) {
        self.raw.extend_from_slice(raw);
        self.rows.push((self.raw.len(), key, second));
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], RecordKey, Option<i64>)> {
        let mut start = 0;
        self.rows.iter().map(move |(end, key, second)| {
            let raw = self.raw.get(start..*end).expect("the ends are those of records, in order");
            start = *end;
            (raw, *key, *second)
        })
    }

    /// Writes the rows in order of `creation_time`, those without one last.
    fn write_sorted(
        &self,
        columns: Vec<ArrayRef>,
        writer: &mut PartWriter,
        compressor: &mut RawCompressor,
    ) -> Result<(), ArchiveError> {
        let rows: Vec<_> = self.iter().collect();
        let order = time_order(&columns);
        for at in order.values() {
            if let Some((raw, key, second)) = rows.get(*at as usize) {
                writer.push_raw(raw, compressor)?;
                writer.note(*key, *second);
            }
        }
        if order.values().is_sorted() {
            return writer.write(&columns, compressor);
        }
        let sorted =
            columns.iter().map(|column| take(column, &order, None).expect("the order names rows of the column"));
        writer.write(&sorted.collect::<Vec<_>>(), compressor)
    }
}

/// The rows in order of `creation_time`.
fn time_order(columns: &[ArrayRef]) -> UInt32Array {
    // `creation_time` stands before `raw`, so its position is the same without it.
    let times = columns.get(position::CREATION_TIME).expect("all columns but `raw` are there");
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let time = |row: u32| if times.is_valid(row as usize) { times.value(row as usize) } else { i64::MAX };
    let mut order: Vec<u32> = (0..u32::try_from(times.len()).unwrap_or(u32::MAX)).collect();
    order.sort_by_key(|row| time(*row));
    UInt32Array::from(order)
}

fn write_columns(
    rows: &mut RowBuffer,
    writer: &mut PartWriter,
    compressor: &mut RawCompressor,
) -> Result<(), ArchiveError> {
    match rows.take() {
        Some(columns) => writer.write(&columns, compressor),
        None => Ok(()),
    }
}
