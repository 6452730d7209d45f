//! Runs one SQL statement over the segments it is given, within the limits it was made with.
//!
//! Never lets a statement change anything or read anything but the table `audit`: what is no query is refused by name.

use std::collections::VecDeque;
use std::error::Error;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::MemoryCatalogProviderList;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::DiskManagerBuilder;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionState;
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder, SessionStateDefaults};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast;
use futures_util::TryStreamExt;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;

use super::checked_store::{KnownSums, NearCopies};
use super::dialect::{self, ArchiveDialect, ArrowPlanner};
use super::error::{Limits, QueryError};
use super::extent::Extent;
use super::functions;
use super::spill::SpillFolder;
use super::stream::QueryStream;
use super::table::{AuditTable, BATCH_ROWS, LateManifest, Pruning, TABLE};
use crate::Archive;
use crate::segment::Segment;

/// The store's name inside a session; nobody sees it but DataFusion.
const STORE_URL: &str = "archive://segments";

/// Bytes of Parquet footers kept from query to query: those of about a thousand segments.
const FOOTER_CACHE_BYTES: usize = 32 << 20;

/// How often a query is begun anew because a segment went away under it. Merges come minutes apart, so that the second
/// try nearly always succeeds; more tries would hide that somebody else deletes files.
const TRIES: usize = 3;

/// Operators in one statement. The planner goes down as many levels as a chain of them has, each on the stack, and its time
/// grows with the square of their number.
pub const OPERATORS_MAX: usize = 1_000;

/// Bytes of stack that the threads need which plan and run a statement of [`OPERATORS_MAX`] operators, whatever the
/// compiler made of it. Untouched stack costs address space only.
pub const QUERY_STACK_BYTES: usize = 64 << 20;

/// What queries may take. All queries of one engine share it.
#[derive(Debug, Clone)]
pub struct QueryOptions {
    /// Memory for sorting, grouping and joining, in bytes. Decoding files takes some more.
    pub memory_bytes: usize,
    /// Folder for what does not fit into it; made when it is first needed.
    pub spill_dir: PathBuf,
    /// Bound on the temporary files there, in bytes.
    pub spill_bytes: u64,
    /// Threads' worth of work at a time.
    pub partitions: usize,
}

impl QueryOptions {
    /// 256 MiB of memory, 8 GiB of temporary files in that folder, as many partitions as there are processors.
    pub fn with_spill_dir(spill_dir: impl Into<PathBuf>) -> Self {
        let partitions = std::thread::available_parallelism().map_or(1, usize::from);
        Self { memory_bytes: 256 << 20, spill_dir: spill_dir.into(), spill_bytes: 8 << 30, partitions }
    }
}

/// Answers SQL. One engine serves any number of queries at a time.
pub struct QueryEngine {
    /// Functions, planners, limits and store, without any table.
    template: SessionState,
    store: ObjectStoreUrl,
    known: Arc<KnownSums>,
    copies: Option<NearCopies>,
    limits: Limits,
}

impl QueryEngine {
    /// An engine over an open archive, wherever it lies. What is read of a remote one is read of copies where they are,
    /// and fetched in ranges where they are not.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn over(archive: &Archive, options: &QueryOptions) -> Result<Self, QueryError> {
        let Some(workspace) = archive.workspace() else { return Self::open(archive.root(), options) };
        let engine = Self::new(workspace.depot().object_store(), options)?;
        let local = LocalFileSystem::new_with_prefix(archive.root());
        let local =
            local.map_err(|source| QueryError::Store { path: archive.root().to_owned(), source: source.into() })?;
        Ok(Self { copies: Some(NearCopies::new(archive, local)), ..engine })
    }

    /// An engine over the archive in a local folder. Where the folder does not exist there are no segments either.
    ///
    /// # Errors
    ///
    /// [`QueryError::Store`] when the folder is there and cannot be opened; [`QueryError::Spill`].
    pub fn open(root: &Path, options: &QueryOptions) -> Result<Self, QueryError> {
        let store: Arc<dyn ObjectStore> = if root.exists() {
            let store = LocalFileSystem::new_with_prefix(root);
            Arc::new(store.map_err(|source| QueryError::Store { path: root.to_owned(), source: source.into() })?)
        } else {
            Arc::new(InMemory::new())
        };
        Self::new(store, options)
    }

    /// An engine over an archive whose root is the store's root.
    ///
    /// # Errors
    ///
    /// [`QueryError::Spill`] when the folder for temporary files cannot be made.
    pub fn new(store: Arc<dyn ObjectStore>, options: &QueryOptions) -> Result<Self, QueryError> {
        let limits = Limits {
            memory_bytes: options.memory_bytes,
            spill_bytes: options.spill_bytes,
            spill_dir: options.spill_dir.clone(),
        };
        let failed = |error| QueryError::from_datafusion(error, &limits);
        let url = ObjectStoreUrl::parse(STORE_URL).map_err(failed)?;
        let spill = SpillFolder::new(options.spill_dir.clone(), options.spill_bytes);
        let disk = DiskManagerBuilder::default().with_temp_file_factory(Arc::new(spill));
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(options.memory_bytes)))
            .with_disk_manager_builder(disk)
            .with_metadata_cache_limit(FOOTER_CACHE_BYTES)
            .build_arc()
            .map_err(failed)?;
        runtime.register_object_store(url.as_ref(), store);
        let mut planners = SessionStateDefaults::default_expr_planners();
        planners.push(Arc::new(ArrowPlanner));
        let mut scalar_functions = SessionStateDefaults::default_scalar_functions();
        scalar_functions.extend(functions::udfs());
        let template = SessionStateBuilder::new_with_default_features()
            .with_config(session_config(options))
            .with_runtime_env(runtime)
            .with_expr_planners(planners)
            .with_scalar_functions(scalar_functions)
            .build();
        Ok(Self { template, store: url, known: Arc::default(), copies: None, limits })
    }

    /// Plans and starts the statement over exactly these segments. Waits for its first rows. The caller's thread and the
    /// runtime's have [`QUERY_STACK_BYTES`] of stack.
    ///
    /// # Errors
    ///
    /// All of [`QueryError`] but `Manifest` and `Output`. After [`QueryError::SegmentGone`] load the manifest anew and ask
    /// again, as [`Self::run`] does.
    pub async fn query(&self, manifest: Arc<[Segment]>, sql: &str) -> Result<QueryStream, QueryError> {
        let planned = self.plan(sql).await?;
        self.start(planned, manifest).await
    }

    /// Like [`Self::query`], but has the manifest loaded of what the statement can need, and anew when a merge deletes a
    /// segment before the first row.
    ///
    /// # Errors
    ///
    /// As [`Self::query`]; [`QueryError::Manifest`] when `load_manifest` fails; [`QueryError::SegmentMissing`] when a segment
    /// went away that the manifest still names.
    pub async fn run<F, L, E>(&self, mut load_manifest: L, sql: &str) -> Result<QueryStream, QueryError>
    where
        L: FnMut(Extent) -> F,
        F: Future<Output = Result<Arc<[Segment]>, E>>,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let mut tries = 1;
        let mut gone: Option<String> = None;
        loop {
            let planned = self.plan(sql).await?;
            let extent = planned.extent.clone();
            let manifest = if extent.is_nothing() { Ok(Arc::default()) } else { load_manifest(extent).await };
            let manifest = manifest.map_err(|error| QueryError::Manifest { source: error.into() })?;
            if let Some(path) = gone.take_if(|path| names(&manifest, path)) {
                return Err(QueryError::SegmentMissing { path });
            }
            match Box::pin(self.start(planned, manifest)).await {
                Err(QueryError::SegmentGone { path }) if tries < TRIES => {
                    tracing::debug!(segment = path, tries, "segment went away, loading the manifest anew");
                    tries += 1;
                    gone = Some(path);
                }
                result => return result,
            }
        }
    }

    /// All that can be said of a statement before the segments are known.
    async fn plan(&self, sql: &str) -> Result<Planned, QueryError> {
        let failed = |error| QueryError::from_datafusion(error, &self.limits);
        let statement = parse(sql, &self.limits)?;
        let (manifest, pruning) = (LateManifest::default(), Arc::new(Pruning::default()));
        let state = self.context(&manifest, &pruning).map_err(failed)?.state();
        let plan = state.statement_to_plan(statement).await;
        let plan = plan.map_err(|error| self.with_nearest_function(failed(error)))?;
        read_only().verify_plan(&plan).map_err(|_| QueryError::Refused { statement: first_words(sql) })?;
        let plan = state.optimize(&plan).map_err(failed)?;
        let extent = Extent::of_plan(&plan).map_err(failed)?;
        Ok(Planned { state, plan, extent, manifest, pruning })
    }

    async fn start(&self, planned: Planned, segments: Arc<[Segment]>) -> Result<QueryStream, QueryError> {
        let failed = |error| QueryError::from_datafusion(error, &self.limits);
        let Planned { state, plan, manifest, pruning, .. } = planned;
        manifest.get_or_init(|| segments);
        let explains = matches!(plan, LogicalPlan::Explain(_) | LogicalPlan::Analyze(_));
        // Boxed: the planner's futures are large.
        let plan = Box::pin(state.query_planner().create_physical_plan(&plan, &state)).await.map_err(failed)?;
        let mut batches = execute_stream(plan, state.task_ctx()).map_err(failed)?;
        if explains {
            batches = Box::pin(explained(batches, &pruning)).await.map_err(failed)?;
        }
        QueryStream::start(batches, pruning, self.limits.clone()).await
    }

    /// DataFusion's own proposal for a mistyped function is as often a rare one as a likely one.
    fn with_nearest_function(&self, error: QueryError) -> QueryError {
        let QueryError::UnknownFunction { name, .. } = error else { return error };
        let state = &self.template;
        let known = state.scalar_functions().keys().chain(state.aggregate_functions().keys());
        let known = known.chain(state.window_functions().keys());
        let wanted = name.to_lowercase();
        let distance = |known: &String| strsim::damerau_levenshtein(known, &wanted);
        // At the same distance the one that begins alike, then the one that comes first by name: the map has no order.
        let likeness = |known: &String| strsim::jaro_winkler(known, &wanted);
        let nearest = known.filter(|known| distance(known) * 3 <= wanted.chars().count()).min_by(|left, right| {
            let by_distance = distance(left).cmp(&distance(right));
            by_distance.then(likeness(right).total_cmp(&likeness(left))).then(left.cmp(right))
        });
        let hint = match nearest {
            Some(nearest) => format!(": did you mean {nearest:?}"),
            None => ": SHOW FUNCTIONS lists those there are".to_owned(),
        };
        QueryError::UnknownFunction { name, hint }
    }

    /// A session that sees these segments and nothing else.
    fn context(&self, manifest: &LateManifest, pruning: &Arc<Pruning>) -> Result<SessionContext, DataFusionError> {
        let state = SessionStateBuilder::new_from_existing(self.template.clone())
            .with_catalog_list(Arc::new(MemoryCatalogProviderList::new()))
            .with_config(self.template.config().clone().with_create_default_catalog_and_schema(true))
            .build();
        let context = SessionContext::new_with_state(state);
        let (known, copies) = (Arc::clone(&self.known), self.copies.clone());
        let table = AuditTable::new(Arc::clone(manifest), self.store.clone(), known, copies, Arc::clone(pruning));
        context.register_table(TABLE, Arc::new(table))?;
        Ok(context)
    }
}

/// A statement on its way.
struct Planned {
    state: SessionState,
    /// Optimized.
    plan: LogicalPlan,
    extent: Extent,
    /// To be filled in before it is started.
    manifest: LateManifest,
    pruning: Arc<Pruning>,
}

/// Whether the manifest names the segment of that path below the archive's root.
fn names(manifest: &[Segment], path: &str) -> bool {
    manifest.iter().any(|segment| segment.path() == Path::new(path))
}

fn session_config(options: &QueryOptions) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_target_partitions(options.partitions.max(1))
        .with_batch_size(BATCH_ROWS)
        .with_information_schema(true)
        .with_default_catalog_and_schema("tenantry", "archive")
        .with_create_default_catalog_and_schema(true);
    let parquet = &mut config.options_mut().execution.parquet;
    // Filters run while a file is decoded, so that `raw` is decompressed only for pages with matching rows.
    parquet.pushdown_filters = true;
    parquet.reorder_filters = true;
    config
}

fn read_only() -> SQLOptions {
    SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false)
}

/// The one statement of the text.
fn parse(sql: &str, limits: &Limits) -> Result<Statement, QueryError> {
    let operators = dialect::count_operators(sql);
    if operators > OPERATORS_MAX {
        return Err(QueryError::TooManyOperators { operators });
    }
    let failed = |error| QueryError::from_datafusion(error, limits);
    let mut statements: VecDeque<Statement> = DFParserBuilder::new(sql)
        .with_dialect(&ArchiveDialect)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(failed)?;
    match (statements.len(), statements.pop_front()) {
        (1, Some(Statement::Statement(statement))) if is_question(&statement) => Ok(Statement::Statement(statement)),
        (1, Some(Statement::Explain(statement))) => Ok(Statement::Explain(statement)),
        (1, _) => Err(QueryError::Refused { statement: first_words(sql) }),
        (count, _) => Err(QueryError::NotOneStatement { count }),
    }
}

/// What is inside of it is looked at again when it is planned.
fn is_question(statement: &ast::Statement) -> bool {
    matches!(
        statement,
        ast::Statement::Query(_)
            | ast::Statement::Explain { .. }
            | ast::Statement::ExplainTable { .. }
            | ast::Statement::ShowTables { .. }
            | ast::Statement::ShowColumns { .. }
            | ast::Statement::ShowFunctions { .. }
            | ast::Statement::ShowVariable { .. }
    )
}

/// The words a person would call the statement by: `INSERT INTO`, `CREATE EXTERNAL TABLE`.
fn first_words(sql: &str) -> String {
    /// What may follow the first word and is no name.
    const FOLLOWERS: [&str; 16] = [
        "ANALYZE", "COPY", "CREATE", "DATABASE", "DELETE", "DROP", "EXTERNAL", "FROM", "FUNCTION", "INDEX", "INSERT",
        "INTO", "SCHEMA", "TABLE", "UPDATE", "VIEW",
    ];
    let mut words = sql.split_whitespace().map(|word| word.trim_end_matches(';').to_uppercase());
    let mut name = words.next().unwrap_or_default();
    for word in words.take_while(|word| FOLLOWERS.contains(&word.as_str())) {
        name = name + " " + &word;
    }
    name
}

/// What EXPLAIN says, one line a row, and beneath it how many segments were ruled out by the manifest.
async fn explained(
    batches: SendableRecordBatchStream,
    pruning: &Pruning,
) -> Result<SendableRecordBatchStream, DataFusionError> {
    use std::sync::atomic::Ordering;

    let batches: Vec<RecordBatch> = batches.try_collect().await?;
    let mut titles = Vec::new();
    let mut lines = Vec::new();
    for batch in &batches {
        let [title_column, text_column] = batch.columns() else { continue };
        let texts = cast(text_column, &DataType::Utf8)?;
        let title_texts = cast(title_column, &DataType::Utf8)?;
        let (Some(texts), Some(title_texts)) =
            (texts.as_any().downcast_ref::<StringArray>(), title_texts.as_any().downcast_ref::<StringArray>())
        else {
            continue;
        };
        for (title, text) in title_texts.iter().zip(texts) {
            for (place, line) in text.unwrap_or_default().lines().enumerate() {
                titles.push(if place == 0 { title.unwrap_or_default().to_owned() } else { String::new() });
                lines.push(line.to_owned());
            }
        }
    }
    let (all, candidates) = (pruning.segments.load(Ordering::Relaxed), pruning.candidates.load(Ordering::Relaxed));
    titles.push("segments".to_owned());
    lines.push(format!("{candidates} of {all} can hold matching rows by tenant, time and commit"));
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("plan_type", DataType::Utf8, false),
        Field::new("plan", DataType::Utf8, false),
    ]));
    let columns: Vec<Arc<dyn Array>> = vec![Arc::new(StringArray::from(titles)), Arc::new(StringArray::from(lines))];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
    Ok(Box::pin(MemoryStream::try_new(vec![batch], schema, None)?))
}
