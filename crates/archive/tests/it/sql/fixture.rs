//! An archive of a few small segments, and a store that counts what is read of them.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use archive::sql::{Format, QueryEngine, QueryError, QueryOptions, QueryStream, Written, write_results};
use archive::{Archive, ArchiveOptions, ContentRef, NewCommit, Segment};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use protocol::ids::ContentType;
use protocol::time::parse_timestamp;

pub(super) const ALPHA: &str = "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11";
pub(super) const BETA: &str = "b0000000-7c39-4f0b-9d6e-2f4f0e0c8a22";

/// Seven records of two tenants on three days; each call of `commit` below makes one segment a day.
pub(super) fn usual() -> Fixture {
    let mut fixture = Fixture::empty();
    fixture.commit(
        ALPHA,
        1,
        &[
            r#"{"Id":"a1","CreationTime":"2026-03-04T10:00:00","RecordType":15,"Operation":"UserLoggedIn","Workload":"AzureActiveDirectory","UserId":"ann@alpha.example","ClientIP":"10.0.0.1","ExtendedProperties":[{"Name":"UserAgent","Value":"curl/8"},{"Name":"RequestType","Value":"OAuth2"}]}"#,
            r#"{"Id":"a2","CreationTime":"2026-03-04T10:00:05","RecordType":15,"Operation":"UserLoginFailed","Workload":"AzureActiveDirectory","UserId":"bob@alpha.example","ClientIP":"10.0.0.2"}"#,
            r#"{"Id":"a3","CreationTime":"2026-03-05T23:59:59","RecordType":6,"Operation":"FileAccessed","Workload":"SharePoint","UserId":"ann@alpha.example","ObjectId":"https://x/\"q\", y\nz"}"#,
        ],
    );
    fixture.commit(
        ALPHA,
        2,
        &[r#"{"Id":"a4","CreationTime":"2026-03-06T00:00:00","RecordType":6,"Operation":"FileAccessed","Workload":"SharePoint","UserId":"bob@alpha.example","Size":12345678901234567890123}"#],
    );
    fixture.commit(
        BETA,
        1,
        &[
            r#"{"Id":"b1","CreationTime":"2026-03-04T12:00:00","RecordType":2,"Operation":"Send","Workload":"Exchange","UserId":"ann@alpha.example"}"#,
            r#"{"Id":"b2","CreationTime":"2026-03-06T06:00:00","RecordType":2,"Operation":"Send","Workload":"Exchange","UserId":"carl@beta.example","OrganizationId":null}"#,
            r#"{"Id":"b3","RecordType":"odd","Operation":"NoTime","Workload":"Exchange"}"#,
        ],
    );
    fixture
}

/// An archive in a folder that goes away with it.
pub(super) struct Fixture {
    pub(super) archive: Archive,
    pub(super) segments: Vec<Segment>,
    folder: tempfile::TempDir,
}

impl Fixture {
    pub(super) fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::open(&ArchiveOptions::at(folder.path().join("archive"))).unwrap();
        Self { archive, segments: Vec::new(), folder }
    }

    /// Writes one commit; what it makes is visible from then on.
    pub(super) fn commit<R: AsRef<[u8]>>(&mut self, tenant: &str, number: u64, records: &[R]) {
        let tenant = tenant.parse().unwrap();
        let commit = NewCommit {
            tenant,
            number,
            visible: Arc::new(self.segments.iter().filter(|segment| segment.tenant == tenant).cloned().collect()),
            ingested_at: parse_timestamp("2026-03-07T00:00:00Z").unwrap(),
        };
        let mut writer = self.archive.begin(commit).unwrap();
        let content_id = "20260307-blob".parse().unwrap();
        let created = parse_timestamp("2026-03-07T00:00:00Z").unwrap();
        for raw in records {
            let content = ContentRef { content_type: &ContentType::General, content_id: &content_id, created };
            writer.append(&content, raw.as_ref()).unwrap();
        }
        let mut segments = writer.finish().unwrap().segments;
        segments.sort_by_key(|segment| segment.date);
        self.segments.extend(segments);
    }

    pub(super) fn options(&self) -> QueryOptions {
        QueryOptions { partitions: 2, ..QueryOptions::with_spill_dir(self.folder.path().join("spill")) }
    }

    pub(super) fn engine(&self) -> QueryEngine {
        QueryEngine::open(self.archive.root(), &self.options()).unwrap()
    }

    pub(super) fn manifest(&self) -> Arc<[Segment]> {
        self.segments.clone().into()
    }

    pub(super) async fn query(&self, sql: &str) -> std::result::Result<QueryStream, QueryError> {
        self.engine().query(self.manifest(), sql).await
    }

    /// The result in that format, and what the caller is told about it.
    pub(super) async fn write(&self, sql: &str, format: Format) -> (Vec<u8>, Written) {
        let rows = self.query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let mut out = Vec::new();
        let written = write_results(rows, format, &mut out).await.unwrap();
        (out, written)
    }

    /// The rows as CSV without the header, which is how most tests say what they expect.
    pub(super) async fn rows(&self, sql: &str) -> Vec<String> {
        let (csv, _) = self.write(sql, Format::Csv).await;
        String::from_utf8(csv).unwrap().lines().skip(1).map(str::to_owned).collect()
    }

    pub(super) async fn error(&self, sql: &str) -> QueryError {
        match self.query(sql).await {
            Err(error) => error,
            Ok(rows) => match write_results(rows, Format::Csv, &mut Vec::new()).await {
                Err(error) => error,
                Ok(_) => panic!("{sql}: was answered"),
            },
        }
    }

    /// An engine that notes which files it reads, and how many bytes of them.
    pub(super) fn counting_engine(&self) -> (QueryEngine, Arc<CountingStore>) {
        let store = Arc::new(CountingStore {
            inner: LocalFileSystem::new_with_prefix(self.archive.root()).unwrap(),
            read: Mutex::default(),
        });
        (QueryEngine::new(Arc::clone(&store) as Arc<dyn ObjectStore>, &self.options()).unwrap(), store)
    }

    pub(super) fn path(&self, segment: usize) -> PathBuf {
        self.archive.segment_path(&self.segments[segment])
    }
}

/// Local files, with a note of the bytes read of each.
#[derive(Debug)]
pub(super) struct CountingStore {
    inner: LocalFileSystem,
    read: Mutex<BTreeMap<String, u64>>,
}

impl CountingStore {
    /// The files read since the last call, each with the bytes read of it.
    pub(super) fn take(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.read.lock().unwrap())
    }

    fn note(&self, location: &Path, bytes: u64) {
        // Of interest is what is read of the segments.
        if location.as_ref().starts_with("_sums/") {
            return;
        }
        *self.read.lock().unwrap().entry(location.to_string()).or_default() += bytes;
    }
}

impl fmt::Display for CountingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "counting {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for CountingStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let result = self.inner.get_opts(location, options).await?;
        self.note(location, result.range.end - result.range.start);
        Ok(result)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.note(location, ranges.iter().map(|range| range.end - range.start).sum());
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.note(prefix.unwrap_or(&Path::default()), 0);
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.note(prefix.unwrap_or(&Path::default()), 0);
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
