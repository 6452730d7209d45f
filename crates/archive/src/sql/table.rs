//! The table `audit`: the segments of one manifest, of which a query opens only those that can hold matching rows.
//!
//! Never lists a folder: a file that the manifest does not name does not exist. The manifest comes from the ledger through
//! [`super::QueryEngine`]; what is opened goes through [`super::reader`].

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};

use arrow::array::{
    Array, ArrayRef, BooleanArray, Int64Array, StringViewArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::config::TableParquetOptions;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{
    Column, ColumnStatistics, DFSchema, Result, ScalarValue, Statistics, internal_datafusion_err,
};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;

use super::checked_store::{CheckedStore, KnownSums, NearCopies};
use super::reader::SegmentReaders;
use crate::segment::Segment;

/// The table's name in SQL.
pub(super) const TABLE: &str = "audit";

pub(super) const TENANT_ID: &str = "tenant_id";
pub(super) const CREATION_TIME: &str = "creation_time";
const COMMIT: &str = "commit";

/// Bytes read from a segment's end at first: enough for the footer and page index of most, so that one read suffices.
const FOOTER_GUESS_BYTES: usize = 64 << 10;

/// Rows of a batch. Fewer cost time for each batch, more gain nothing that shows.
pub(super) const BATCH_ROWS: usize = 2048;
/// Rows of a batch however large they are.
const BATCH_ROWS_MIN: usize = 64;
/// Bytes of `raw` a batch should have at most: sorting needs several batches in memory.
const BATCH_RAW_BYTES: u64 = 16 << 20;
/// How many times a segment's bytes its records have, as a rule.
const PACKED_TIMES: u64 = 10;

/// The columns as SQL sees them: those of the files, with texts as views, which are compared and grouped without copying.
pub(super) fn table_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let fields = crate::arrow_schema();
        let fields = fields.fields().iter().map(|field| match field.data_type() {
            DataType::Utf8 => Field::clone(field).with_data_type(DataType::Utf8View),
            _ => Field::clone(field),
        });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    });
    Arc::clone(&SCHEMA)
}

/// How much of the archive one query had to look at.
#[derive(Debug, Default)]
pub(super) struct Pruning {
    /// Segments the manifest has, once for each time the query names the table.
    pub(super) segments: AtomicU64,
    /// Those of them that could not be ruled out by tenant, time or commit.
    pub(super) candidates: AtomicU64,
}

/// The segments a statement is answered from. Which of them are wanted is known only when the statement has been planned,
/// so that the table is there before them.
pub(super) type LateManifest = Arc<OnceLock<Arc<[Segment]>>>;

/// See the file's head.
#[derive(Debug)]
pub(super) struct AuditTable {
    manifest: LateManifest,
    store: ObjectStoreUrl,
    known: Arc<KnownSums>,
    copies: Option<NearCopies>,
    pruning: Arc<Pruning>,
}

impl AuditTable {
    /// `store` is where the session finds the object store whose root is the archive's; `copies` are what lies nearer.
    pub(super) fn new(
        manifest: LateManifest,
        store: ObjectStoreUrl,
        known: Arc<KnownSums>,
        copies: Option<NearCopies>,
        pruning: Arc<Pruning>,
    ) -> Self {
        Self { manifest, store, known, copies, pruning }
    }

    fn manifest(&self) -> Result<&[Segment]> {
        let manifest = self.manifest.get().map(|manifest| &**manifest);
        manifest.ok_or_else(|| internal_datafusion_err!("the table is read before its segments are known"))
    }

    /// The segments that can hold rows for which all filters are true.
    fn candidates(&self, state: &dyn Session, filters: &[Expr]) -> Result<Vec<&Segment>> {
        let schema = table_schema();
        let manifest = self.manifest()?;
        let Some(filter) = conjunction(filters.iter().cloned()) else { return Ok(manifest.iter().collect()) };
        let filter = state.create_physical_expr(filter, &DFSchema::try_from(Arc::clone(&schema))?)?;
        // None: the filter says nothing that the manifest could answer.
        let Some(predicate) = PruningPredicateBuilder::new().with_file_schema(schema).build(filter) else {
            return Ok(manifest.iter().collect());
        };
        let keep = predicate.prune(&Manifest(manifest))?;
        Ok(manifest.iter().zip(keep).filter_map(|(segment, keep)| keep.then_some(segment)).collect())
    }
}

#[async_trait]
impl TableProvider for AuditTable {
    fn schema(&self) -> SchemaRef {
        table_schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Every filter is used to leave out segments, row groups, pages and rows, and none is promised to be exact here: the
    /// Parquet source takes over those it can evaluate on its own.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut candidates = self.candidates(state, filters)?;
        let limit = if filters.is_empty() { limit } else { None };
        if let Some(limit) = limit {
            cut_to_limit(&mut candidates, limit);
        }
        self.pruning.segments.fetch_add(count(self.manifest()?.len()), Ordering::Relaxed);
        self.pruning.candidates.fetch_add(count(candidates.len()), Ordering::Relaxed);
        let schema = table_schema();
        if candidates.is_empty() {
            let schema = match projection {
                Some(projection) => Arc::new(schema.project(projection)?),
                None => schema,
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let files = candidates.iter().map(|segment| file_of(segment, &schema)).collect::<Vec<_>>();
        let paths = files.iter().map(|file| file.object_meta.location.clone());
        let store = Arc::new(CheckedStore {
            inner: state.runtime_env().object_store(&self.store)?,
            segments: paths.zip(candidates.iter().copied().cloned()).collect(),
            known: Arc::clone(&self.known),
            copies: self.copies.clone(),
        });
        let footers = state.runtime_env().cache_manager.get_file_metadata_cache();
        let readers = SegmentReaders { store, footers };
        let mut options = TableParquetOptions::new();
        options.global = state.config_options().execution.parquet.clone();
        let source = ParquetSource::new(Arc::clone(&schema))
            .with_table_parquet_options(options)
            .with_metadata_size_hint(FOOTER_GUESS_BYTES)
            .with_parquet_file_reader_factory(Arc::new(readers));
        let groups = FileGroup::new(files).split_files(state.config().target_partitions());
        let config = FileScanConfigBuilder::new(self.store.clone(), Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(statistics(&candidates, &schema))
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .with_batch_size(batch_rows(&candidates, reads_raw(&schema, projection)))
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

fn reads_raw(schema: &Schema, projection: Option<&Vec<usize>>) -> bool {
    let raw = schema.index_of("raw").ok();
    projection.is_none_or(|projection| projection.iter().any(|column| Some(*column) == raw))
}

/// Rows to decode at a time where records are large; `None` leaves it to the session.
fn batch_rows(candidates: &[&Segment], reads_raw: bool) -> Option<usize> {
    if !reads_raw {
        return None;
    }
    // What a file's records are on average, unpacked; the largest average decides for all.
    let record_bytes =
        candidates.iter().map(|segment| segment.bytes.saturating_mul(PACKED_TIMES) / segment.rows.max(1)).max()?;
    let rows = usize::try_from(BATCH_RAW_BYTES / record_bytes.max(1)).unwrap_or(usize::MAX);
    (rows < BATCH_ROWS).then(|| rows.max(BATCH_ROWS_MIN))
}

/// Keeps as many segments as it takes to have that many rows. Which rows come first is nowhere promised.
fn cut_to_limit(candidates: &mut Vec<&Segment>, limit: usize) {
    let mut wanted = count(limit);
    let needed = candidates.iter().take_while(|segment| {
        let more = wanted > 0;
        wanted = wanted.saturating_sub(segment.rows);
        more
    });
    let needed = needed.count();
    candidates.truncate(needed);
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// The segment as DataFusion knows a file, with what the manifest says about its rows, so that bounds which become known
/// only while a query runs (the tenth newest row so far, say) still leave out whole files.
fn file_of(segment: &Segment, schema: &Schema) -> PartitionedFile {
    let rows = usize::try_from(segment.rows).unwrap_or(usize::MAX);
    let mut statistics = Statistics::new_unknown(schema);
    statistics.num_rows = Precision::Exact(rows);
    for (field, column) in schema.fields().iter().zip(&mut statistics.column_statistics) {
        match field.name().as_str() {
            TENANT_ID => {
                let tenant = Precision::Exact(ScalarValue::Utf8View(Some(segment.tenant.to_string())));
                column.min_value = tenant.clone();
                column.max_value = tenant;
                column.null_count = Precision::Exact(0);
            }
            // The bounds are to the second and so always differ from each other: nothing is concluded from them but what
            // a file cannot hold.
            CREATION_TIME => {
                if let Some((min, max)) = bounds(segment) {
                    let time = |micros| ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into()));
                    column.min_value = Precision::Exact(time(min));
                    column.max_value = Precision::Exact(time(max));
                }
                column.null_count = untimed(segment);
            }
            _ => {}
        }
    }
    let path = segment.path();
    let path = path.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/");
    PartitionedFile::new(path, segment.bytes).with_statistics(Arc::new(statistics))
}

/// What is exactly known about all candidates together: counting rows opens no file.
fn statistics(candidates: &[&Segment], schema: &Schema) -> Statistics {
    let rows = candidates.iter().map(|segment| segment.rows).sum::<u64>();
    let bytes = candidates.iter().map(|segment| segment.bytes).sum::<u64>();
    let untimed = candidates.iter().map(|segment| segment.untimed_rows).sum::<u64>();
    let exact = |number: u64| usize::try_from(number).map_or(Precision::Absent, Precision::Exact);
    let mut statistics = Statistics::new_unknown(schema);
    statistics.num_rows = exact(rows);
    statistics.total_byte_size = exact(bytes).to_inexact();
    for (field, column) in schema.fields().iter().zip(&mut statistics.column_statistics) {
        let nulls = match field.name().as_str() {
            CREATION_TIME => exact(untimed),
            _ if !field.is_nullable() => Precision::Exact(0),
            _ => Precision::Absent,
        };
        *column = ColumnStatistics { null_count: nulls, ..ColumnStatistics::new_unknown() };
    }
    statistics
}

fn untimed(segment: &Segment) -> Precision<usize> {
    usize::try_from(segment.untimed_rows).map_or(Precision::Absent, Precision::Exact)
}

/// First and last possible `creation_time` in microseconds, both inclusive.
fn bounds(segment: &Segment) -> Option<(i64, i64)> {
    let min = segment.second_min?.checked_mul(1_000_000)?;
    let max = segment.second_max?.checked_mul(1_000_000)?.checked_add(999_999)?;
    Some((min, max))
}

/// What the manifest says about each segment, in the form pruning asks for it.
struct Manifest<'a>(&'a [Segment]);

impl Manifest<'_> {
    fn times(&self, end: impl Fn((i64, i64)) -> i64) -> ArrayRef {
        let times = self.0.iter().map(|segment| bounds(segment).map(&end));
        Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
    }

    fn tenants(&self) -> ArrayRef {
        Arc::new(self.0.iter().map(|segment| Some(segment.tenant.to_string())).collect::<StringViewArray>())
    }
}

impl PruningStatistics for Manifest<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        match column.name() {
            TENANT_ID => Some(self.tenants()),
            CREATION_TIME => Some(self.times(|(min, _)| min)),
            _ => None,
        }
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        match column.name() {
            TENANT_ID => Some(self.tenants()),
            CREATION_TIME => Some(self.times(|(_, max)| max)),
            // A merge keeps the rows' own commits, all of which came before its number.
            COMMIT => {
                let commits = self.0.iter().map(|segment| i64::try_from(segment.commit).ok());
                Some(Arc::new(commits.collect::<Int64Array>()))
            }
            _ => None,
        }
    }

    fn num_containers(&self) -> usize {
        self.0.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let nulls = |segment: &Segment| match column.name() {
            CREATION_TIME => Some(segment.untimed_rows),
            TENANT_ID | COMMIT => Some(0),
            _ => None,
        };
        let counts = self.0.iter().map(nulls).collect::<UInt64Array>();
        (counts.null_count() == 0).then(|| Arc::new(counts) as ArrayRef)
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(self.0.iter().map(|segment| Some(segment.rows)).collect::<UInt64Array>()))
    }

    /// Long `IN` lists come here instead of being taken apart.
    fn contained(&self, column: &Column, values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        if column.name() != TENANT_ID {
            return None;
        }
        let wanted = values.iter().filter_map(|value| value.try_as_str().flatten()).collect::<HashSet<_>>();
        Some(self.0.iter().map(|segment| Some(wanted.contains(segment.tenant.to_string().as_str()))).collect())
    }
}
