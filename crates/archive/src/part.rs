//! One segment being written: a temporary file that becomes a segment by being finished, synced and renamed.
//!
//! Never visible half-written. Dropped unfinished, it removes its file.

use std::path::{Path, PathBuf};

use arrow::array::{ArrayRef, RecordBatch};
use chrono::NaiveDate;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, ArrowWriterOptions, compute_leaves};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::KeyValue;
use parquet::file::writer::SerializedFileWriter;
use protocol::ids::TenantId;

use crate::disk::{self, NewFile};
use crate::files::{self, DigestWriter};
use crate::keys::{Fingerprint, RecordKey};
use crate::raw_column::{RawColumn, RawCompressor};
use crate::read::texts;
use crate::schema::{self, FINGERPRINT_KEY, ROW_GROUP_RAW_BYTES, SORTED_KEY, arrow_schema, position};
use crate::segment::{Segment, file_name, parse_file_name};
use crate::{Archive, ArchiveError, sidecar, sums};

/// Rows after which a segment is closed and its date continued in another part: bounds the keys that are held until then
/// (24 bytes a row), and the filter a lookup has to load.
pub(crate) const ROWS_MAX: usize = 1 << 20;
/// Bytes of file after which a segment is closed. Twice the size that merging aims at.
pub(crate) const FILE_BYTES_MAX: usize = 256 << 20;

/// Bytes of records after which the other columns are written too, and memory and row group sizes looked at.
const WRITE_RAW_BYTES: usize = 1 << 20;

/// Bytes of records that are worth a row group when memory is short. Fewer, and readers find more heads than rows.
const ROW_GROUP_RAW_BYTES_MIN: usize = 4 << 20;

/// About what the compressors of the columns beside `raw` take and nobody counts.
const COMPRESSORS_BYTES: usize = 1 << 20;

/// What a segment being written is to be called.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PartName {
    pub(crate) tenant: TenantId,
    pub(crate) date: NaiveDate,
    pub(crate) commit: u64,
    pub(crate) part: u64,
}

/// What a segment is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Records as they were delivered.
    Delivered,
    /// A commit's records of one date, in order of `creation_time`.
    Sorted,
    /// Segments before it, in order of `creation_time`: it is to stay, and to be asked often.
    Merged,
}

/// The open file of one segment.
pub(crate) struct PartWriter {
    archive: Archive,
    name: PartName,
    temporary: PathBuf,
    /// Taken by `finish`.
    file: Option<SerializedFileWriter<DigestWriter<NewFile>>>,
    row_groups: ArrowRowGroupWriterFactory,
    row_group: u32,
    /// The columns beside `raw` of the row group under way; none when it has no row yet.
    columns: Vec<ArrowColumnWriter>,
    raw: RawColumn,
    raw_since_write: usize,
    keys: Vec<RecordKey>,
    fingerprint: Fingerprint,
    second_min: Option<i64>,
    second_max: Option<i64>,
    untimed_rows: u64,
    memory_bytes: usize,
}

impl PartWriter {
    /// Creates the temporary file.
    pub(crate) fn create(archive: &Archive, name: PartName, origin: Origin) -> Result<Self, ArchiveError> {
        let folder = archive.folder_of(name.tenant, name.date);
        files::create_folder(&folder)?;
        let temporary = folder.join(temporary_name(name.commit, name.part));
        let file = NewFile::create(&temporary).map_err(ArchiveError::io("create", &temporary))?;
        let mut metadata = Vec::new();
        if origin != Origin::Delivered {
            metadata.push(KeyValue::new(SORTED_KEY.to_owned(), "creation_time".to_owned()));
        }
        let (file, row_groups) =
            open_file(file, metadata, origin).map_err(ArchiveError::parquet("create", &temporary))?;
        let raw = RawColumn::new(file.schema_descr().column(position::RAW));
        Ok(Self {
            archive: archive.clone(),
            name,
            temporary,
            file: Some(file),
            row_groups,
            row_group: 0,
            columns: Vec::new(),
            raw,
            raw_since_write: 0,
            keys: Vec::new(),
            fingerprint: Fingerprint::default(),
            second_min: None,
            second_max: None,
            untimed_rows: 0,
            memory_bytes: 0,
        })
    }

    /// Notes a row that is, or will be, in a batch given to [`Self::write`].
    pub(crate) fn note(&mut self, key: RecordKey, second: Option<i64>) {
        self.keys.push(key);
        self.fingerprint.add(key.body);
        match second {
            Some(second) => {
                self.second_min = Some(self.second_min.map_or(second, |min| min.min(second)));
                self.second_max = Some(self.second_max.map_or(second, |max| max.max(second)));
            }
            None => self.untimed_rows += 1,
        }
    }

    /// Adds a record's bytes; its other columns follow in [`Self::write`], in the same order.
    pub(crate) fn push_raw(&mut self, raw: &[u8], compressor: &mut RawCompressor) -> Result<(), ArchiveError> {
        self.raw_since_write += raw.len();
        self.raw.push(raw, compressor).map_err(ArchiveError::parquet("write", &self.temporary))
    }

    /// Whether so many bytes of records have come that it is time for [`Self::write`].
    pub(crate) fn wants_columns(&self) -> bool {
        self.raw_since_write >= WRITE_RAW_BYTES
    }

    /// Writes the columns beside `raw`, in the schema's order, of all records added since the last time.
    pub(crate) fn write(&mut self, columns: &[ArrayRef], compressor: &mut RawCompressor) -> Result<(), ArchiveError> {
        self.write_columns(columns).map_err(ArchiveError::parquet("write", &self.temporary))?;
        self.raw_since_write = 0;
        if self.raw.raw_bytes() >= ROW_GROUP_RAW_BYTES {
            self.close_row_group(compressor).map_err(ArchiveError::parquet("write", &self.temporary))?;
        }
        self.account();
        Ok(())
    }

    /// Whether the row group under way is worth being one.
    pub(crate) fn can_flush(&self) -> bool {
        self.raw.raw_bytes() >= ROW_GROUP_RAW_BYTES_MIN
    }

    /// Ends the row group under way and with it most of the memory held; all columns have been written.
    pub(crate) fn flush(&mut self, compressor: &mut RawCompressor) -> Result<(), ArchiveError> {
        self.close_row_group(compressor).map_err(ArchiveError::parquet("write", &self.temporary))?;
        self.account();
        Ok(())
    }

    fn account(&mut self) {
        let columns: usize = self.columns.iter().map(ArrowColumnWriter::memory_size).sum();
        let compressors = if self.columns.is_empty() { 0 } else { COMPRESSORS_BYTES };
        let keys = self.keys.capacity() * size_of::<RecordKey>();
        let memory = compressors + columns + self.raw.memory_bytes() + keys;
        self.archive.account_write_memory(self.memory_bytes, memory);
        self.memory_bytes = memory;
    }

    /// Writes whole rows.
    pub(crate) fn write_batch(
        &mut self,
        batch: &RecordBatch,
        compressor: &mut RawCompressor,
    ) -> Result<(), ArchiveError> {
        for raw in texts(batch, "raw").iter() {
            self.push_raw(raw.unwrap_or_default().as_bytes(), compressor)?;
        }
        let mut columns = batch.columns().to_vec();
        columns.remove(position::RAW);
        self.write(&columns, compressor)
    }

    fn write_columns(&mut self, columns: &[ArrayRef]) -> ParquetResult<()> {
        if self.columns.is_empty() {
            self.columns = self.row_groups.create_column_writers(self.row_group as usize)?;
            self.columns.remove(position::RAW);
            self.row_group += 1;
        }
        let schema = arrow_schema();
        let fields = schema.fields().iter().enumerate().filter(|(at, _)| *at != position::RAW);
        for ((column, (_, field)), writer) in columns.iter().zip(fields).zip(&mut self.columns) {
            for leaf in compute_leaves(field, column)? {
                writer.write(&leaf)?;
            }
        }
        Ok(())
    }

    fn close_row_group(&mut self, compressor: &mut RawCompressor) -> ParquetResult<()> {
        let Some(file) = self.file.as_mut().filter(|_| !self.columns.is_empty()) else { return Ok(()) };
        let (raw, raw_close) = self.raw.finish(compressor)?;
        let mut group = file.next_row_group()?;
        let after_raw = self.columns.split_off(position::RAW);
        for column in self.columns.drain(..) {
            column.close()?.append_to_row_group(&mut group)?;
        }
        group.append_column(&raw, raw_close)?;
        for column in after_raw {
            column.close()?.append_to_row_group(&mut group)?;
        }
        group.close()?;
        Ok(())
    }

    /// Bytes of memory held, as of the last write.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Whether it is large enough to be closed.
    pub(crate) fn is_full(&self) -> bool {
        let bytes = self.file.as_ref().map_or(0, SerializedFileWriter::bytes_written);
        self.keys.len() >= ROWS_MAX || bytes >= FILE_BYTES_MAX
    }

    /// The sum over the rows noted.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Completes the file, syncs it and gives it its name; a remote archive's goes into its store first. The folder is not
    /// synced yet: the caller does it once for all files in it. The sidecars are written too, as well as they can be.
    pub(crate) fn finish(mut self, compressor: &mut RawCompressor) -> Result<Segment, ArchiveError> {
        let temporary = self.temporary.clone();
        let failed = || ArchiveError::parquet("complete", &temporary);
        self.close_row_group(compressor).map_err(failed())?;
        let mut file = self.file.take().expect("only this takes it, and ends the value");
        file.append_key_value_metadata(KeyValue::new(FINGERPRINT_KEY.to_owned(), self.fingerprint.to_text()));
        // Not `into_inner`, which turns the operating system's error into text.
        file.finish().map_err(failed())?;
        let (bytes, digest) = file.inner().sum();
        let sums = file.inner().sums();
        if self.archive.workspace().is_none() {
            file.inner().inner().sync_all().map_err(ArchiveError::io("sync", &temporary))?;
        }
        drop(file);
        let segment = Segment {
            tenant: self.name.tenant,
            date: self.name.date,
            commit: self.name.commit,
            part: self.name.part,
            rows: self.keys.len() as u64,
            bytes,
            second_min: self.second_min,
            second_max: self.second_max,
            untimed_rows: self.untimed_rows,
            digest,
        };
        let path = self.archive.segment_path(&segment);
        if let Some(workspace) = self.archive.workspace() {
            workspace.upload(&temporary, &segment)?;
        }
        // No other writer's file has this name (`crate::epoch`). Should one lie there all the same, it may be somebody's only
        // copy.
        if path.exists() {
            return Err(ArchiveError::Occupied { place: path.display().to_string() });
        }
        disk::rename(&temporary, &path).map_err(ArchiveError::io("rename to its final name", &path))?;
        // Sidecars are caches: without them the segment is as complete, and whoever asks next makes them again.
        if let Err(error) = sidecar::write(self.archive.root(), &segment, &mut self.keys) {
            tracing::warn!(%error, "sidecar not written");
        }
        sums::write(self.archive.root(), &segment, &sums);
        if let Some(workspace) = self.archive.workspace() {
            workspace.keep(&segment);
        }
        tracing::trace!(path = %path.display(), rows = segment.rows, "segment complete");
        Ok(segment)
    }
}

impl Drop for PartWriter {
    fn drop(&mut self) {
        self.archive.account_write_memory(self.memory_bytes, 0);
        // Only an unfinished file still has its temporary name. What cannot be removed is left to `remove_orphans`.
        let _ = files::remove_file(&self.temporary);
    }
}

/// Begins a Parquet file. The Arrow schema is not put into it beside Parquet's own: every reader finds the same columns.
fn open_file(
    file: NewFile,
    metadata: Vec<KeyValue>,
    origin: Origin,
) -> Result<(SerializedFileWriter<DigestWriter<NewFile>>, ArrowRowGroupWriterFactory), ParquetError> {
    let properties = schema::writer_properties(metadata, origin == Origin::Merged);
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    ArrowWriter::try_new_with_options(DigestWriter::new(file), arrow_schema(), options)?.into_serialized_writer()
}

/// `.{commit}-{part}.parquet.tmp`
pub(crate) fn temporary_name(commit: u64, part: u64) -> String {
    format!(".{}.tmp", file_name(commit, part))
}

/// `.{commit}-{part}.run-{run}.tmp`: a sorted run of a merge.
pub(crate) fn spill_name(commit: u64, part: u64, run: u32) -> String {
    format!(".{commit}-{part}.run-{run}.tmp")
}

/// Whether a file was being written when somebody stopped.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".tmp")
}

/// The part whose writer has a temporary file; 0 for what earlier versions called otherwise.
pub(crate) fn part_of_temporary(name: &str) -> u64 {
    let stem = name.strip_prefix('.').and_then(|name| name.split('.').next());
    stem.and_then(|stem| parse_file_name(&format!("{stem}.parquet"))).map_or(0, |(_, part)| part)
}

/// Syncs the folders of finished segments, each once. Those of a remote archive last already.
pub(crate) fn sync_folders_of(archive: &Archive, segments: &[Segment]) -> Result<(), ArchiveError> {
    if archive.workspace().is_some() {
        return Ok(());
    }
    let mut folders: Vec<PathBuf> =
        segments.iter().filter_map(|segment| archive.segment_path(segment).parent().map(Path::to_owned)).collect();
    folders.sort_unstable();
    folders.dedup();
    folders.iter().try_for_each(|folder| files::sync_folder(folder))
}
