//! Rows of segments read back, flat in memory: for outputs, tests, and to make sidecars again.
//!
//! Never reads a file that no given segment names. What it reads from is complete: segments appear by rename.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::datatypes::{Int64Type, Schema, TimestampMicrosecondType};
use bytes::Bytes;
use chrono::DateTime;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::ChunkReader;
use protocol::time::Timestamp;

use crate::checked::{Checked, CheckedFile};
use crate::schema::position;
use crate::segment::Segment;
use crate::{Archive, ArchiveError, arrow_schema, disk};

/// Rows a batch holds: few enough that a hundred open segments stay small.
const BATCH_ROWS: usize = 256;

/// Bytes of records a batch holds, unless it is a single one.
const BATCH_RAW_BYTES: usize = 2 << 20;

/// One record as it lies in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedRecord {
    /// The commit it came with.
    pub commit: u64,
    /// Of which content type, in Microsoft's spelling.
    pub content_type: String,
    /// Of which content.
    pub content_id: String,
    /// Its `Id`, if it has one.
    pub id: Option<String>,
    /// Its `CreationTime`, if it has a readable one.
    pub creation_time: Option<Timestamp>,
    /// Its bytes as delivered.
    pub raw: Bytes,
    /// Another body of the same second and `Id` was stored before it. Of segments written before variants were marked it is
    /// never said.
    pub is_variant: bool,
}

impl Archive {
    /// The records of these segments, one segment after another, each in the order it is stored in; only those of commits
    /// in `(after, up_to]`. Flat in memory.
    ///
    /// # Errors
    ///
    /// The iterator yields an error and ends when a segment is missing or cannot be read.
    pub fn read(&self, segments: Vec<Segment>, after: u64, up_to: u64) -> RecordReader {
        RecordReader {
            archive: self.clone(),
            segments: segments.into_iter(),
            after,
            up_to,
            current: None,
            batch: Vec::new().into_iter(),
        }
    }

    /// All records of these segments.
    pub fn read_all(&self, segments: Vec<Segment>) -> RecordReader {
        // Commits are counted from 1.
        self.read(segments, 0, u64::MAX)
    }
}

/// Iterator of [`Archive::read`].
pub struct RecordReader {
    archive: Archive,
    segments: std::vec::IntoIter<Segment>,
    after: u64,
    up_to: u64,
    current: Option<Batches>,
    batch: std::vec::IntoIter<ArchivedRecord>,
}

impl Iterator for RecordReader {
    type Item = Result<ArchivedRecord, ArchiveError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.batch.next() {
                return Some(Ok(record));
            }
            match self.advance() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.current = None;
                    self.segments = Vec::new().into_iter();
                    return Some(Err(error));
                }
            }
        }
    }
}

impl RecordReader {
    /// Reads the next batch; `false` when there is none.
    fn advance(&mut self) -> Result<bool, ArchiveError> {
        if let Some(batches) = &mut self.current {
            if let Some(batch) = batches.next() {
                self.batch = records(&batch?, self.after, self.up_to).into_iter();
                return Ok(true);
            }
            self.current = None;
        }
        let Some(segment) = self.segments.next() else { return Ok(false) };
        let columns = [
            position::CONTENT_TYPE,
            position::CONTENT_ID,
            position::ID,
            position::CREATION_TIME,
            position::RAW,
            position::COMMIT,
            position::VARIANT,
        ];
        self.current = Some(Batches::open_checked(
            &self.archive,
            &Checked::of(&self.archive, &segment)?,
            Some(&columns),
            BATCH_ROWS,
        )?);
        Ok(true)
    }
}

/// The batches of one file.
pub(crate) struct Batches {
    path: PathBuf,
    metadata: Arc<ParquetMetaData>,
    reader: ParquetRecordBatchReader,
    /// The column `variant` is asked for and not there: the segment is older than it.
    lacks_variant: bool,
    /// The file, if what is read of it is compared with checksums.
    checked: Option<CheckedFile>,
}

impl Batches {
    /// Opens a segment. No byte that is not what was written comes out of it.
    pub(crate) fn open_checked(
        archive: &Archive,
        segment: &Checked,
        columns: Option<&[usize]>,
        batch_rows: usize,
    ) -> Result<Self, ArchiveError> {
        let file = segment.open(archive)?;
        let opened = Self::of(file.clone(), &segment.path, columns, batch_rows);
        match opened {
            Ok(opened) => Ok(Self { checked: Some(file), ..opened }),
            Err(error) => Err(file.take_failure().unwrap_or(error)),
        }
    }

    /// Opens a file written by us for which there is nothing to compare it with; `columns` are positions in [`crate::COLUMNS`], all of them when `None`. Batches have
    /// `batch_rows` rows, fewer where records are large.
    pub(crate) fn open(path: &Path, columns: Option<&[usize]>, batch_rows: usize) -> Result<Self, ArchiveError> {
        let file = disk::open(path).map_err(ArchiveError::io("open segment", path))?;
        Self::of(file, path, columns, batch_rows)
    }

    fn of<F: ChunkReader + 'static>(
        file: F,
        path: &Path,
        columns: Option<&[usize]>,
        batch_rows: usize,
    ) -> Result<Self, ArchiveError> {
        let broken = || ArchiveError::parquet("read", path);
        let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(broken())?;
        let (found, ours) = (metadata.schema().fields(), arrow_schema());
        let is_older = ours.fields().split_last().is_some_and(|(_, older)| **found == *older);
        if !is_older && found != ours.fields() {
            let problem = "its columns are not those of the archive".to_owned();
            return Err(ArchiveError::Damaged { path: path.to_owned(), problem });
        }
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata);
        let mask = match columns {
            Some(columns) => {
                let there = columns.iter().copied().filter(|column| !is_older || *column != position::VARIANT);
                ProjectionMask::roots(builder.parquet_schema(), there)
            }
            None => ProjectionMask::all(),
        };
        let metadata = Arc::clone(builder.metadata());
        let reader =
            builder.with_projection(mask).with_batch_size(rows_for(&metadata, batch_rows)).build().map_err(broken())?;
        let lacks_variant = is_older && columns.is_none_or(|columns| columns.contains(&position::VARIANT));
        Ok(Self { path: path.to_owned(), metadata, reader, lacks_variant, checked: None })
    }

    /// A value of the footer.
    pub(crate) fn footer_value(&self, key: &str) -> Option<&str> {
        let values = self.metadata.file_metadata().key_value_metadata()?;
        values.iter().find(|value| value.key == key)?.value.as_deref()
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, ArchiveError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.reader.next()?;
        if batch.is_err()
            && let Some(failure) = self.checked.as_ref().and_then(CheckedFile::take_failure)
        {
            return Some(Err(failure));
        }
        Some(batch.map_err(|error| match error {
            arrow::error::ArrowError::ExternalError(inner) if inner.is::<std::io::Error>() => {
                match inner.downcast::<std::io::Error>() {
                    Ok(error) => ArchiveError::io("read segment", &self.path)(*error),
                    Err(inner) => ArchiveError::Damaged { path: self.path.clone(), problem: inner.to_string() },
                }
            }
            error => ArchiveError::Damaged { path: self.path.clone(), problem: error.to_string() },
        }))
        .map(|batch| batch.map(|batch| if self.lacks_variant { with_variant(&batch) } else { batch }))
    }
}

/// A batch of an older segment, with the column `variant` that it lacks: unknown in every row.
fn with_variant(batch: &RecordBatch) -> RecordBatch {
    let schema = arrow_schema();
    let fields = batch.schema_ref().fields().iter().cloned().chain(schema.fields().last().cloned());
    let unknown: ArrayRef = Arc::new(BooleanArray::new_null(batch.num_rows()));
    let columns = batch.columns().iter().cloned().chain([unknown]).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns)
        .expect("one more column of as many rows, and nullable")
}

/// Rows that hold about [`BATCH_RAW_BYTES`] of records in the row group with the largest ones. A single record may be as
/// large as many batches, and a batch of such would not fit into memory.
fn rows_for(metadata: &ParquetMetaData, batch_rows: usize) -> usize {
    let groups = metadata.row_groups().iter().filter(|group| group.num_rows() > 0);
    let largest =
        groups.filter_map(|group| Some(group.columns().get(position::RAW)?.uncompressed_size() / group.num_rows()));
    let row_bytes = largest.max().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or_default();
    (BATCH_RAW_BYTES / row_bytes.max(1)).clamp(1, batch_rows)
}

/// A text column of a batch; the schema was compared when the file was opened.
pub(crate) fn texts<'a>(batch: &'a RecordBatch, name: &str) -> &'a StringArray {
    batch.column_by_name(name).expect("the column is in the projection").as_string::<i32>()
}

/// A time column's microseconds.
pub(crate) fn micros(batch: &RecordBatch, name: &str) -> impl Fn(usize) -> Option<i64> {
    let column = batch.column_by_name(name).expect("the column is in the projection");
    let column = column.as_primitive::<TimestampMicrosecondType>().clone();
    move |row| column.is_valid(row).then(|| column.value(row))
}

fn records(batch: &RecordBatch, after: u64, up_to: u64) -> Vec<ArchivedRecord> {
    let (types, contents, ids, raw) =
        (texts(batch, "content_type"), texts(batch, "content_id"), texts(batch, "id"), texts(batch, "raw"));
    let created = micros(batch, "creation_time");
    let commits = batch.column_by_name("commit").expect("the column is in the projection").as_primitive::<Int64Type>();
    let variants = batch.column_by_name("variant").expect("the column is in the projection").as_boolean().clone();
    let mut records = Vec::with_capacity(batch.num_rows());
    for (row, commit) in commits.values().iter().enumerate() {
        let commit = u64::try_from(*commit).unwrap_or(0);
        if commit <= after || commit > up_to {
            continue;
        }
        records.push(ArchivedRecord {
            commit,
            content_type: types.value(row).to_owned(),
            content_id: contents.value(row).to_owned(),
            id: ids.is_valid(row).then(|| ids.value(row).to_owned()),
            creation_time: created(row).and_then(DateTime::from_timestamp_micros),
            raw: Bytes::copy_from_slice(raw.value(row).as_bytes()),
            is_variant: variants.is_valid(row) && variants.value(row),
        });
    }
    records
}
