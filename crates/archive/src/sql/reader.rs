//! Reads segments for DataFusion so that whatever fails while one is read names the segment it failed at.
//!
//! Never decodes anything but footers. Those are kept in DataFusion's bounded cache: a segment never changes once it exists.

use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::datasource::physical_plan::{ParquetFileMetrics, ParquetFileReaderFactory};
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures_util::future::{BoxFuture, FutureExt};
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;

/// What went wrong while one segment was read; travels inside DataFusion's errors and is found again by
/// [`super::error::QueryError`].
#[derive(Debug)]
pub(super) struct SegmentError {
    /// The segment's path below the archive's root.
    pub(super) path: String,
    pub(super) source: Box<dyn Error + Send + Sync>,
}

impl fmt::Display for SegmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot read segment {}", self.path)
    }
}

impl Error for SegmentError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.source.as_ref())
    }
}

/// Makes a reader for each segment.
#[derive(Debug)]
pub(super) struct SegmentReaders {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) footers: Arc<FileMetadataCache>,
}

impl ParquetFileReaderFactory for SegmentReaders {
    fn create_reader(
        &self,
        partition_index: usize,
        file: PartitionedFile,
        footer_guess_bytes: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let metrics = ParquetFileMetrics::new(partition_index, file.object_meta.location.as_ref(), metrics);
        let (store, footers) = (Arc::clone(&self.store), Arc::clone(&self.footers));
        Ok(Box::new(SegmentReader { store, footers, file, footer_guess_bytes, metrics }))
    }
}

struct SegmentReader {
    store: Arc<dyn ObjectStore>,
    footers: Arc<FileMetadataCache>,
    file: PartitionedFile,
    footer_guess_bytes: Option<usize>,
    metrics: ParquetFileMetrics,
}

impl SegmentReader {
    fn error(&self, source: impl Into<Box<dyn Error + Send + Sync>>) -> ParquetError {
        let path = self.file.object_meta.location.to_string();
        ParquetError::External(Box::new(SegmentError { path, source: source.into() }))
    }

    fn count_read(&self, bytes: u64) {
        self.metrics.bytes_scanned.add(usize::try_from(bytes).unwrap_or(usize::MAX));
    }
}

impl AsyncFileReader for SegmentReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        self.count_read(range.end.saturating_sub(range.start));
        async move {
            let bytes = self.store.get_range(&self.file.object_meta.location, range).await;
            bytes.map_err(|source| self.error(source))
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        self.count_read(ranges.iter().map(|range| range.end.saturating_sub(range.start)).sum());
        async move {
            let bytes = self.store.get_ranges(&self.file.object_meta.location, &ranges).await;
            bytes.map_err(|source| self.error(source))
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        async move {
            let metadata = DFParquetMetadata::new(self.store.as_ref(), &self.file.object_meta)
                .with_file_metadata_cache(Some(Arc::clone(&self.footers)))
                .with_metadata_size_hint(self.footer_guess_bytes)
                .with_page_index_policy(options.map(ArrowReaderOptions::column_index_policy))
                .fetch_metadata()
                .await;
            metadata.map_err(|source| self.error(source))
        }
        .boxed()
    }
}
