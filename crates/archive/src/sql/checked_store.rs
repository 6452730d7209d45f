//! The archive's store as queries see it: every byte of a segment that is read has been compared with the checksum of its
//! block, footers and indexes among them.
//!
//! Never answers from a block that is not what was written, and never writes anything but checksums that were missing.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::OnceCell;

use crate::checked::changed_at;
use crate::files::DigestWriter;
use crate::segment::{Segment, slashed};
use crate::sums::{self, Sums};
use crate::workspace::{MISSING, WHOLE_BYTES};
use crate::{Archive, ArchiveError};

/// Segments whose checksums are kept in memory from query to query: 2 MiB or so, 64 MiB if all were of the greatest size.
const KEPT: usize = 1024;

/// A segment is not what the ledger says of it; travels inside the errors of the store.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub(super) struct NotWhatWasWritten {
    pub(super) problem: String,
}

/// Checksums by the segment's digest.
#[derive(Debug, Default)]
pub(super) struct KnownSums(Mutex<HashMap<[u8; 32], Arc<Known>>>);

/// Read or made by whoever asks first; the others wait.
type Known = OnceCell<Arc<Sums>>;

impl KnownSums {
    fn of(&self, segment: &Segment) -> Arc<Known> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEPT && !known.contains_key(&segment.digest) {
            known.clear();
        }
        Arc::clone(known.entry(segment.digest).or_default())
    }
}

/// See the file's head.
#[derive(Debug)]
pub(super) struct CheckedStore {
    pub(super) inner: Arc<dyn ObjectStore>,
    /// The segments that may be read, by their path.
    pub(super) segments: HashMap<Path, Segment>,
    pub(super) known: Arc<KnownSums>,
    /// Of a remote archive.
    pub(super) copies: Option<NearCopies>,
}

/// Copies of a remote archive's files in its local folder.
#[derive(Clone)]
pub(super) struct NearCopies {
    archive: Archive,
    local: Arc<LocalFileSystem>,
}

impl NearCopies {
    pub(super) fn new(archive: &Archive, local: LocalFileSystem) -> Self {
        Self { archive: archive.clone(), local: Arc::new(local) }
    }

    /// Where a segment's copy lies below the local folder, if there is one; a small segment is fetched.
    async fn of(&self, segment: &Segment) -> Result<Option<Path>> {
        let workspace = self.archive.workspace().ok_or_else(|| refused("look for copies"))?;
        let path = workspace.copy_of(segment);
        if segment.bytes < WHOLE_BYTES {
            let (archive, segment) = (self.archive.clone(), segment.clone());
            let fetched = tokio::task::spawn_blocking(move || {
                archive.workspace().map_or(Ok(None), |workspace| workspace.bring(&segment))
            });
            fetched.await?.map_err(not_fetched)?;
        } else if !std::fs::metadata(&path).is_ok_and(|file| file.len() == segment.bytes) {
            return Ok(None);
        } else {
            workspace.used(segment);
        }
        let below = path.strip_prefix(self.archive.root()).map_err(|error| not_fetched_text(&error.to_string()))?;
        Ok(Some(Path::from(slashed(below))))
    }

    /// Lets go of a copy that is not what was written.
    fn discard(&self, segment: &Segment) {
        let discarded = self.archive.workspace().map_or(Ok(()), |workspace| workspace.discard(segment));
        if let Err(error) = discarded {
            tracing::warn!(%error, "a damaged copy stays");
        }
    }

    /// What a remote store said, in words that may be shown.
    fn explained(&self, location: &Path, error: Error) -> Error {
        let as_it_is = matches!(error, Error::NotFound { .. } | Error::NotImplemented { .. }) || is_changed(&error);
        match self.archive.workspace().filter(|_| !as_it_is) {
            Some(workspace) => not_fetched(workspace.depot().explained(location.as_ref(), error)),
            None => error,
        }
    }
}

impl fmt::Debug for NearCopies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "copies in {}", self.archive.root().display())
    }
}

/// An error of the archive as one of a store's.
fn not_fetched(error: ArchiveError) -> Error {
    match error {
        ArchiveError::Damaged { problem, path } if problem == MISSING => {
            Error::NotFound { path: path.display().to_string(), source: problem.into() }
        }
        ArchiveError::Damaged { problem, .. } => changed(problem),
        error => Error::Generic { store: "archive", source: Box::new(error) },
    }
}

fn not_fetched_text(problem: &str) -> Error {
    Error::Generic { store: "archive", source: problem.into() }
}

impl CheckedStore {
    /// The nearest place that has a segment's file, and its path there.
    async fn nearest(&self, location: &Path, segment: &Segment) -> Result<(Arc<dyn ObjectStore>, Path)> {
        if let Some(copies) = &self.copies
            && let Some(path) = copies.of(segment).await?
        {
            return Ok((Arc::clone(&copies.local) as _, path));
        }
        Ok((Arc::clone(&self.inner), location.clone()))
    }

    /// Where checksums are kept that were missing.
    fn keeps(&self) -> &dyn ObjectStore {
        match &self.copies {
            Some(copies) => copies.local.as_ref(),
            None => self.inner.as_ref(),
        }
    }

    fn segment(&self, location: &Path) -> Result<&Segment> {
        let missing = || Error::NotFound { path: location.to_string(), source: "the query does not name it".into() };
        self.segments.get(location).ok_or_else(missing)
    }

    async fn sums(&self, location: &Path, segment: &Segment) -> Result<Arc<Sums>> {
        let cell = self.known.of(segment);
        cell.get_or_try_init(|| async {
            let beside =
                Path::from_iter(sums::relative_path(segment).iter().map(|part| part.to_string_lossy().into_owned()));
            if let Some(sums) = kept_in(self.keeps(), &beside, segment).await {
                return Ok(Arc::new(sums));
            }
            let far = self.copies.is_some() && segment.bytes >= WHOLE_BYTES;
            let kept = if far { kept_in(self.inner.as_ref(), &beside, segment).await } else { None };
            let sums = match kept {
                Some(sums) => sums,
                None => self.make(location, segment).await?,
            };
            // Where it cannot be written it is made again by the next query.
            if let Err(error) = self.keeps().put(&beside, sums.to_bytes(segment).into()).await {
                tracing::debug!(path = %beside, %error, "checksums not kept");
            }
            Ok(Arc::new(sums))
        })
        .await
        .map(Arc::clone)
    }

    /// Makes the checksums from the file, if it is what was written.
    async fn make(&self, location: &Path, segment: &Segment) -> Result<Sums> {
        let (store, path) = self.nearest(location, segment).await?;
        match (make_of(store.as_ref(), &path, segment).await, &self.copies) {
            (Ok(sums), _) => Ok(sums),
            // A copy is worth nothing: what counts is in the store.
            (Err(_), Some(copies)) if path != *location => {
                copies.discard(segment);
                let made = make_of(self.inner.as_ref(), location, segment).await;
                made.map_err(|error| copies.explained(location, error))
            }
            (Err(error), Some(copies)) => Err(copies.explained(location, error)),
            (Err(error), None) => Err(error),
        }
    }

    async fn read(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let segment = self.segment(location)?;
        let sums = self.sums(location, segment).await?;
        let wide = merged(ranges.iter().map(|range| sums.widen(range)).collect());
        let (store, path) = self.nearest(location, segment).await?;
        let read = match (read_of(store.as_ref(), &path, segment, &sums, &wide).await, &self.copies) {
            (Ok(read), _) => read,
            // It has just made room for another, or is not what was written: what counts is in the store.
            (Err(error), Some(copies)) if path != *location => {
                if !matches!(error, Error::NotFound { .. }) {
                    copies.discard(segment);
                }
                match read_of(self.inner.as_ref(), location, segment, &sums, &wide).await {
                    Ok(read) => read,
                    Err(error) => return Err(self.explain(location, segment, error).await),
                }
            }
            (Err(error), _) => return Err(self.explain(location, segment, error).await),
        };
        let slice = |range: &Range<u64>| {
            let of = wide.partition_point(|wide| wide.end < range.end);
            let (wide, data) = wide.get(of).zip(read.get(of))?;
            let from = usize::try_from(range.start.checked_sub(wide.start)?).ok()?;
            let to = usize::try_from(range.end.checked_sub(wide.start)?).ok()?;
            (from <= to && to <= data.len()).then(|| data.slice(from..to))
        };
        let beyond = || changed(format!("its own footer points beyond its {} bytes", segment.bytes));
        ranges.iter().map(|range| slice(range).ok_or_else(beyond)).collect()
    }

    /// A file that was cut off is told from a disk that refuses.
    async fn explain(&self, location: &Path, segment: &Segment, error: Error) -> Error {
        match (self.inner.head(location).await, &self.copies) {
            (Ok(found), _) if found.size != segment.bytes => {
                changed(format!("it has {} bytes instead of {}", found.size, segment.bytes))
            }
            (_, Some(copies)) => copies.explained(location, error),
            _ => error,
        }
    }
}

async fn make_of(store: &dyn ObjectStore, path: &Path, segment: &Segment) -> Result<Sums> {
    let mut pieces = store.get(path).await?.into_stream();
    let mut digest = DigestWriter::new(std::io::sink());
    while let Some(piece) = pieces.try_next().await? {
        digest.update(&piece);
    }
    let (bytes, found) = digest.sum();
    if bytes != segment.bytes {
        return Err(changed(format!("it has {bytes} bytes instead of {}", segment.bytes)));
    }
    if found != segment.digest {
        return Err(changed("its bytes have changed since it was written".to_owned()));
    }
    Ok(digest.sums())
}

/// Reads ranges of whole blocks and compares each block with its checksum.
async fn read_of(
    store: &dyn ObjectStore,
    path: &Path,
    segment: &Segment,
    sums: &Sums,
    wide: &[Range<u64>],
) -> Result<Vec<Bytes>> {
    let read = store.get_ranges(path, wide).await?;
    for (range, data) in wide.iter().zip(&read) {
        if data.len() as u64 != range.end - range.start {
            return Err(changed(format!("it is shorter than the {} bytes it had", segment.bytes)));
        }
        sums.check(range.start, data).map_err(|at| changed(changed_at(at)))?;
    }
    Ok(read)
}

async fn kept_in(store: &dyn ObjectStore, beside: &Path, segment: &Segment) -> Option<Sums> {
    let bytes = store.get(beside).await.ok()?.bytes().await.ok()?;
    Sums::parse(&bytes, segment)
}

/// Ranges in order, those that touch made one.
fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

fn is_changed(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|cause| cause.is::<NotWhatWasWritten>())
}

fn changed(problem: String) -> Error {
    Error::Generic { store: "archive", source: Box::new(NotWhatWasWritten { problem }) }
}

fn refused(operation: &str) -> Error {
    Error::NotImplemented { operation: operation.to_owned(), implementer: "a query".to_owned() }
}

impl fmt::Display for CheckedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "checked {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for CheckedStore {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let segment = self.segment(location)?;
        let range = match &options.range {
            _ if options.head => 0..0,
            None => 0..segment.bytes,
            Some(range) => range.as_range(segment.bytes).map_err(|error| changed(error.to_string()))?,
        };
        let bytes = if options.head { Vec::new() } else { self.read(location, std::slice::from_ref(&range)).await? };
        let meta = ObjectMeta {
            location: location.clone(),
            last_modified: chrono::DateTime::UNIX_EPOCH,
            size: segment.bytes,
            e_tag: None,
            version: None,
        };
        let payload = GetResultPayload::Stream(stream::iter(bytes.into_iter().map(Ok)).boxed());
        Ok(GetResult { payload, meta, range, attributes: Attributes::new() })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.read(location, ranges).await
    }

    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        Err(refused("put"))
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(refused("put"))
    }

    fn delete_stream(&self, _: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        stream::iter([Err(refused("delete"))]).boxed()
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        stream::iter([Err(refused("list"))]).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(refused("list"))
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(refused("copy"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_read_once_and_others_apart() {
        assert_eq!(merged(vec![]), []);
        assert_eq!(merged(vec![20..30, 0..10, 10..15, 5..8]), [0..15, 20..30]);
        assert_eq!(merged(vec![0..10, 11..12]), [0..10, 11..12]);
    }
}
