//! An archive in a temporary folder with the bare minimum of a ledger beside it.

use std::path::PathBuf;
use std::sync::Arc;

use archive::{
    Appended, Archive, ArchiveOptions, ArchivedRecord, CommitWriter, Committed, ContentRef, NewCommit, Purged, Removed,
    Segment, SegmentSet,
};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::file::properties::WriterProperties;
use protocol::ids::{ContentId, ContentType, TenantId};
use protocol::time::{Timestamp, parse_timestamp};
use tempfile::TempDir;

pub(crate) fn tenant() -> TenantId {
    "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11".parse().unwrap()
}

pub(crate) fn time(text: &str) -> Timestamp {
    parse_timestamp(text).unwrap()
}

/// A record of the common shape.
pub(crate) fn record(id: &str, created: &str, rest: &str) -> String {
    format!(
        r#"{{"CreationTime":"{created}","Id":"{id}","Operation":"FileAccessed","OrganizationId":"6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11","RecordType":6,"UserKey":"i:0h.f|membership|1003","UserType":0,"Version":1,"Workload":"SharePoint","ClientIP":"203.0.113.7","ObjectId":"https://contoso.sharepoint.com/a b.docx","UserId":"user@contoso.com","Note":"{rest}"}}"#
    )
}

/// An archive and the segments that are visible in it.
pub(crate) struct World {
    _folder: TempDir,
    pub(crate) options: ArchiveOptions,
    pub(crate) archive: Archive,
    pub(crate) visible: Vec<Segment>,
    pub(crate) last_commit: u64,
}

impl World {
    /// Everything up to this epoch.
    pub(crate) fn purge(&self, through: u64) -> Purged {
        let mut purged = Purged::default();
        self.archive.purge_tenant(tenant(), through, &mut purged).unwrap();
        purged
    }

    pub(crate) fn new() -> Self {
        Self::with(|_| ())
    }

    pub(crate) fn with(change: impl FnOnce(&mut ArchiveOptions)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = ArchiveOptions::at(folder.path().join("archive"));
        change(&mut options);
        let archive = Archive::open(&options).unwrap();
        Self { _folder: folder, options, archive, visible: Vec::new(), last_commit: 0 }
    }

    /// As after a crash: nothing in memory.
    pub(crate) fn reopen(&mut self) {
        self.archive = Archive::open(&self.options).unwrap();
    }

    pub(crate) fn set(&self) -> Arc<SegmentSet> {
        Arc::new(self.visible.iter().cloned().collect())
    }

    pub(crate) fn begin(&self) -> CommitWriter {
        let commit = NewCommit {
            tenant: tenant(),
            number: self.last_commit + 1,
            visible: self.set(),
            ingested_at: time("2026-03-09T00:00:00Z"),
        };
        self.archive.begin(commit).unwrap()
    }

    /// The ledger's transaction.
    pub(crate) fn make_visible(&mut self, committed: Committed) {
        self.last_commit += 1;
        self.visible.extend(committed.segments);
    }

    /// A whole commit.
    pub(crate) fn store<T: AsRef<[u8]>>(&mut self, records: &[T]) -> Vec<Appended> {
        let mut writer = self.begin();
        let appended = records.iter().map(|raw| append(&mut writer, raw.as_ref())).collect();
        let committed = writer.finish().unwrap();
        self.make_visible(committed);
        appended
    }

    /// A whole merge of everything visible on one date.
    pub(crate) fn merge(&mut self, date: &str) -> Vec<Segment> {
        let date = date.parse().unwrap();
        let (inputs, rest): (Vec<_>, Vec<_>) = self.visible.drain(..).partition(|segment| segment.date == date);
        let merged = self.archive.merge(&inputs, self.last_commit + 1, &|| false).unwrap();
        self.last_commit += 1;
        self.visible = rest;
        self.visible.extend(merged.iter().cloned());
        self.archive.delete_segments(&inputs).unwrap();
        merged
    }

    pub(crate) fn records(&self) -> Vec<ArchivedRecord> {
        self.archive.read_all(self.visible.clone()).collect::<Result<_, _>>().unwrap()
    }

    /// The bytes of all records, sorted.
    pub(crate) fn raw(&self) -> Vec<String> {
        let mut raw: Vec<_> =
            self.records().into_iter().map(|record| String::from_utf8(record.raw.to_vec()).unwrap()).collect();
        raw.sort();
        raw
    }

    /// Every file of the archive, relative to its root, sorted.
    pub(crate) fn files(&self) -> Vec<String> {
        let root = self.archive.root();
        let mut found = Vec::new();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        found.sort();
        found
    }

    /// What a start does, two days after the records of most tests were made.
    pub(crate) fn clear(&self, last_commit: u64) -> Removed {
        self.clear_at("2026-03-06T12:00:00Z", last_commit)
    }

    pub(crate) fn clear_at(&self, now: &str, last_commit: u64) -> Removed {
        self.archive.remove_orphans(tenant(), &self.set(), last_commit, time(now)).unwrap()
    }

    pub(crate) fn segment_files(&self) -> Vec<String> {
        self.files().into_iter().filter(|name| name.ends_with(".parquet")).collect()
    }

    pub(crate) fn sidecar_path(&self, segment: &Segment) -> PathBuf {
        self.archive.root().join("_dedup").join(segment.path()).with_extension("keys")
    }
}

/// Writes a segment anew as it was written before there was a column `variant`.
pub(crate) fn make_older(archive: &Archive, segment: &mut Segment) {
    let path = archive.segment_path(segment);
    let file = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(&path).unwrap()).unwrap();
    let footer = file.metadata().file_metadata().key_value_metadata().cloned();
    let properties = WriterProperties::builder().set_key_value_metadata(footer).build();
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let columns: Vec<_> = (0..archive::COLUMNS.len() - 1).collect();
    let schema = Arc::new(archive::arrow_schema().project(&columns).unwrap());
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), schema, options).unwrap();
    for batch in file.build().unwrap() {
        writer.write(&batch.unwrap().project(&columns).unwrap()).unwrap();
    }
    let bytes = writer.into_inner().unwrap();
    segment.bytes = bytes.len() as u64;
    segment.digest = *blake3::hash(&bytes).as_bytes();
    std::fs::write(&path, bytes).unwrap();
}

pub(crate) fn append(writer: &mut CommitWriter, raw: &[u8]) -> Appended {
    append_from(writer, "2026-03-05T10:00:00Z", raw)
}

/// `created` is the content's.
pub(crate) fn append_from(writer: &mut CommitWriter, created: &str, raw: &[u8]) -> Appended {
    let content_id: ContentId = format!("content-of-{created}").parse().unwrap();
    let content =
        ContentRef { content_type: &ContentType::SharePoint, content_id: &content_id, created: time(created) };
    writer.append(&content, raw).unwrap()
}
