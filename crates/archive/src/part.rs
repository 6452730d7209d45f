//! One segment being written: a temporary file that becomes a segment by being finished, synced and renamed.
//!
//! Never visible half-written. Dropped unfinished, it removes its file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use chrono::NaiveDate;
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use protocol::ids::TenantId;

use crate::files::{self, DigestWriter};
use crate::keys::{Fingerprint, RecordKey};
use crate::schema::{self, FINGERPRINT_KEY, ROW_GROUP_RAW_BYTES, SORTED_KEY, arrow_schema};
use crate::segment::{Segment, file_name};
use crate::{Archive, ArchiveError, sidecar};

/// Rows after which a segment is closed and its date continued in another part: bounds the keys that are held until then
/// (24 bytes a row), and the filter a lookup has to load.
pub(crate) const ROWS_MAX: usize = 1 << 20;
/// Bytes of file after which a segment is closed. Twice the size that merging aims at.
pub(crate) const FILE_BYTES_MAX: usize = 256 << 20;

/// What a segment being written is to be called.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PartName {
    pub(crate) tenant: TenantId,
    pub(crate) date: NaiveDate,
    pub(crate) commit: u64,
    pub(crate) part: u32,
}

/// The open file of one segment.
pub(crate) struct PartWriter {
    archive: Archive,
    name: PartName,
    temporary: PathBuf,
    writer: Option<ArrowWriter<DigestWriter<File>>>,
    sorted: bool,
    keys: Vec<RecordKey>,
    fingerprint: Fingerprint,
    second_min: Option<i64>,
    second_max: Option<i64>,
    untimed_rows: u64,
    /// Bytes of `raw` in the row group under way.
    raw_in_group: usize,
    memory_bytes: usize,
}

impl PartWriter {
    /// Creates the temporary file. `sorted` says that the rows will come in order of `creation_time`.
    pub(crate) fn create(archive: &Archive, name: PartName, sorted: bool) -> Result<Self, ArchiveError> {
        let folder = archive.folder_of(name.tenant, name.date);
        files::create_folder(&folder)?;
        let temporary = folder.join(temporary_name(name.commit, name.part));
        let file = File::create(&temporary).map_err(ArchiveError::io("create", &temporary))?;
        let mut metadata = Vec::new();
        if sorted {
            metadata.push(KeyValue::new(SORTED_KEY.to_owned(), "creation_time".to_owned()));
        }
        let properties = schema::writer_properties(metadata);
        let writer = ArrowWriter::try_new(DigestWriter::new(file), arrow_schema(), Some(properties))
            .map_err(ArchiveError::parquet("create", &temporary))?;
        Ok(Self {
            archive: archive.clone(),
            name,
            temporary,
            writer: Some(writer),
            sorted,
            keys: Vec::new(),
            fingerprint: Fingerprint::default(),
            second_min: None,
            second_max: None,
            untimed_rows: 0,
            raw_in_group: 0,
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

    /// Writes rows, of which `raw_bytes` are in `raw`.
    pub(crate) fn write(&mut self, batch: &RecordBatch, raw_bytes: usize) -> Result<(), ArchiveError> {
        let failed = || ArchiveError::parquet("write", &self.temporary);
        let writer = self.writer.as_mut().expect("it is taken by finish and drop only, which end this value");
        writer.write(batch).map_err(failed())?;
        self.raw_in_group += raw_bytes;
        if self.raw_in_group >= ROW_GROUP_RAW_BYTES {
            writer.flush().map_err(failed())?;
            self.raw_in_group = 0;
        }
        let memory = writer.memory_size() + self.keys.capacity() * size_of::<RecordKey>();
        self.archive.account_write_memory(self.memory_bytes, memory);
        self.memory_bytes = memory;
        Ok(())
    }

    /// Bytes of memory held, as of the last write.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Whether it is large enough to be closed.
    pub(crate) fn is_full(&self) -> bool {
        let bytes = self.writer.as_ref().map_or(0, ArrowWriter::bytes_written);
        self.keys.len() >= ROWS_MAX || bytes >= FILE_BYTES_MAX
    }

    /// The sum over the rows noted.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Completes the file, syncs it and gives it its name. The folder is not synced yet: the caller does it once for all
    /// files in it. The sidecar is written too, as well as it can be.
    pub(crate) fn finish(mut self) -> Result<Segment, ArchiveError> {
        let mut writer = self.writer.take().expect("it is taken by finish and drop only, which end this value");
        let failed = || ArchiveError::parquet("complete", &self.temporary);
        writer.append_key_value_metadata(KeyValue::new(FINGERPRINT_KEY.to_owned(), self.fingerprint.to_text()));
        let (file, bytes, digest) = writer.into_inner().map_err(failed())?.into_parts();
        file.sync_all().map_err(ArchiveError::io("sync", &self.temporary))?;
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
        fs::rename(&self.temporary, &path).map_err(ArchiveError::io("rename to its final name", &path))?;
        // A sidecar is a cache: without it the segment is as complete, and the next lookup makes it again.
        if let Err(error) = sidecar::write(self.archive.root(), &segment, &mut self.keys) {
            tracing::warn!(%error, "sidecar not written");
        }
        tracing::trace!(path = %path.display(), rows = segment.rows, sorted = self.sorted, "segment complete");
        Ok(segment)
    }
}

impl Drop for PartWriter {
    fn drop(&mut self) {
        self.archive.account_write_memory(self.memory_bytes, 0);
        // Only an unfinished file still has its temporary name; a failure leaves it to `remove_orphans`.
        if self.writer.take().is_some() || self.temporary.exists() {
            let _ = files::remove_file(&self.temporary);
        }
    }
}

/// `.{commit}-{part}.parquet.tmp`
pub(crate) fn temporary_name(commit: u64, part: u32) -> String {
    format!(".{}.tmp", file_name(commit, part))
}

/// Whether a file was being written when somebody stopped.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".tmp")
}

/// Syncs the folders of finished segments, each once.
pub(crate) fn sync_folders_of(archive: &Archive, segments: &[Segment]) -> Result<(), ArchiveError> {
    let mut folders: Vec<PathBuf> =
        segments.iter().filter_map(|segment| archive.segment_path(segment).parent().map(Path::to_owned)).collect();
    folders.sort_unstable();
    folders.dedup();
    folders.iter().try_for_each(|folder| files::sync_folder(folder))
}
