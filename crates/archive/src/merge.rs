//! Several segments of one date become one, in order of `creation_time`, every row with its own commit and bytes.
//!
//! Never deletes its inputs: that is for the ledger to order once the new segment is visible. Never trusts them either:
//! each is compared with its digest first and what is read of it with checksums made then, and the sum over all records must come out as it went in.
//! Memory: one run of [`RUN_RAW_BYTES`], or the pages of [`RUNS_OPEN`] sorted runs, whatever the sizes of the inputs.

use std::sync::Arc;

use arrow::array::RecordBatch;
use chrono::NaiveDate;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use protocol::ids::TenantId;

use crate::checked::Checked;
use crate::disk::NewFile;
use crate::keys::{Fingerprint, RecordKey, second_of_micros};
use crate::part::{self, Origin, PartName, PartWriter, spill_name};
use crate::read::{Batches, micros, texts};
use crate::runs::{Gathered, Merged, READ_ROWS, Run, Spilled};
use crate::schema::{FINGERPRINT_KEY, SORTED_KEY};
use crate::segment::Segment;
use crate::verify::check_segment;
use crate::{Archive, ArchiveError, arrow_schema};

/// Bytes of `raw` sorted in memory at a time.
const RUN_RAW_BYTES: usize = 12 << 20;
/// Sorted runs read side by side, each with its pages in memory: 2 to 3 MiB.
const RUNS_OPEN: usize = 16;

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

impl Merge<'_> {
    fn run(&mut self, inputs: &[Segment]) -> Result<(), ArchiveError> {
        self.make_runs(inputs)?;
        while self.runs.len() > RUNS_OPEN {
            let some: Vec<Run> = self.runs.drain(..RUNS_OPEN).collect();
            let spilled = self.spill(&mut Merged::open(self.archive, &some)?)?;
            self.runs.push(Run::Spilled(spilled));
        }
        let runs = std::mem::take(&mut self.runs);
        let fingerprint = self.write(&mut Merged::open(self.archive, &runs)?)?;
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
            let sums = Arc::new(check_segment(self.archive, input)?);
            let checked = Checked::with(self.archive, input, sums);
            let batches = Batches::open_checked(self.archive, &checked, None, READ_ROWS)?;
            let Some(fingerprint) = batches.footer_value(FINGERPRINT_KEY).and_then(Fingerprint::parse) else {
                return Err(ArchiveError::Damaged {
                    path: checked.path,
                    problem: "its footer has no fingerprint".to_owned(),
                });
            };
            self.promised.add_all(fingerprint);
            if batches.footer_value(SORTED_KEY).is_some() {
                self.runs.push(Run::Segment(checked));
                continue;
            }
            for batch in batches {
                gathered.push(batch?);
                if gathered.raw_bytes() >= RUN_RAW_BYTES {
                    self.ask_stop()?;
                    let spilled = self.spill(&mut std::mem::take(&mut gathered).sorted())?;
                    self.runs.push(Run::Spilled(spilled));
                }
            }
        }
        if !gathered.is_empty() {
            self.runs.push(Run::Memory(gathered.sorted()));
        }
        Ok(())
    }

    fn spill(
        &mut self,
        rows: &mut dyn Iterator<Item = Result<RecordBatch, ArchiveError>>,
    ) -> Result<Spilled, ArchiveError> {
        let folder = self.archive.folder_of(self.tenant, self.date);
        let spilled = Spilled::at(folder.join(spill_name(self.number, self.archive.first_part(), self.spilled)));
        self.spilled += 1;
        let failed = || ArchiveError::parquet("write", spilled.path());
        let file = NewFile::create(spilled.path()).map_err(ArchiveError::io("create", spilled.path()))?;
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
        let mut part = self.archive.first_part();
        for batch in rows {
            self.ask_stop()?;
            let batch = batch?;
            let open = match &mut writer {
                Some(open) => open,
                None => {
                    let name = PartName { tenant: self.tenant, date: self.date, commit: self.number, part };
                    part += 1;
                    writer.insert(PartWriter::create(self.archive, name, Origin::Merged)?)
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
