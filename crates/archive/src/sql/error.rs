//! What can go wrong with a query, in the words of the person who typed it.
//!
//! Never shows the query engine's internals: its errors are taken apart here, and only here.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use object_store::Error as StoreError;

use super::checked_store::NotWhatWasWritten;
use super::engine::OPERATORS_MAX;
use super::reader::SegmentError;
use super::spill::SpillError;
use super::table::{TABLE, table_schema};
use crate::ArchiveError;

/// What DataFusion puts before the name of a table that was given without.
const CATALOG_AND_SCHEMA: &str = "tenantry.archive.";

/// An error of a query. [`QueryError::is_usage`] tells the query's own faults from the archive's.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The text is not SQL.
    #[error("cannot read the SQL: {problem}")]
    Syntax {
        /// Where, and what was expected there.
        problem: String,
    },
    /// There is not exactly one statement.
    #[error("one SQL statement is wanted, not {count}")]
    NotOneStatement {
        /// How many there are.
        count: usize,
    },
    /// More operators than the planner's stack bears.
    #[error(
        "the query has {operators} operators, and {OPERATORS_MAX} are the most: write many comparisons as \
         column IN ('a', 'b', …), or split the query"
    )]
    TooManyOperators {
        /// How many there are.
        operators: usize,
    },
    /// The statement would change something, or read something else than the archive.
    #[error("{statement} is refused: the archive is read-only; use SELECT, WITH, EXPLAIN, DESCRIBE or SHOW")]
    Refused {
        /// Its first word or words.
        statement: String,
    },
    /// A table that does not exist.
    #[error("there is no table {name:?}: the table is called {TABLE}")]
    UnknownTable {
        /// As the query names it.
        name: String,
    },
    /// A column that does not exist.
    #[error("there is no column {name:?}: {hint}")]
    UnknownColumn {
        /// As the query names it.
        name: String,
        /// The nearest names, or all of them.
        hint: String,
    },
    /// A function that does not exist.
    #[error("there is no function {name:?}{hint}")]
    UnknownFunction {
        /// As the query names it.
        name: String,
        /// The nearest name, or where to find all of them.
        hint: String,
    },
    /// It is SQL, but makes no sense for this table.
    #[error("the query cannot be planned: {problem}")]
    Invalid {
        /// Why not.
        problem: String,
    },
    /// A value stopped the query while it ran, such as a division by zero or a cast of text that is no number.
    #[error("the query failed: {problem}")]
    Failed {
        /// What happened.
        problem: String,
    },
    /// The memory all queries share is used up, and what would have to be written to disk instead does not fit either.
    #[error(
        "the query needs more than its {} MiB of memory: narrow it by tenant_id or creation_time, select fewer columns \
         (raw is by far the largest), or raise the limit",
        limit_bytes >> 20
    )]
    OutOfMemory {
        /// The limit that was reached.
        limit_bytes: usize,
    },
    /// The bound on temporary files was reached.
    #[error(
        "the query needs more than its {} MiB of temporary files: narrow it by tenant_id or creation_time, or select fewer \
         columns (raw is by far the largest)",
        limit_bytes >> 20
    )]
    OutOfSpill {
        /// The limit that was reached.
        limit_bytes: u64,
    },
    /// The folder for temporary files cannot be used.
    #[error("cannot write temporary files in {}: make the folder writable, or free space on its disk", path.display())]
    Spill {
        /// The folder.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
    /// A segment of the manifest is not there any more. Load the manifest again and repeat the query.
    #[error("segment {path} went away while the query ran, merged or past its retention: run the query again")]
    SegmentGone {
        /// Its path below the archive's root.
        path: String,
    },
    /// A segment is not there, and the manifest still names it.
    #[error(
        "segment {path} is missing: restore it from a backup; `tenantry archive verify` names every file that is not what it \
         should be"
    )]
    SegmentMissing {
        /// Its path below the archive's root.
        path: String,
    },
    /// A segment is there and cannot be read.
    #[error("segment {path} cannot be read: check it with `tenantry archive verify`")]
    SegmentUnreadable {
        /// Its path below the archive's root.
        path: String,
        /// The refusal.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The store of a remote archive refused, or could not be reached.
    #[error("segment {path} could not be fetched")]
    SegmentNotFetched {
        /// Its path below the archive's root.
        path: String,
        /// The refusal with its remedy.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A segment is not what was written. Nothing of the bytes that have changed is answered from.
    #[error(
        "segment {path} is damaged, {problem}: restore it from a backup; `tenantry archive verify` names every file that is \
         not what it should be"
    )]
    SegmentDamaged {
        /// Its path below the archive's root.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A segment is what was written and cannot be decoded. Which segment it is does not come with this error.
    #[error("a segment cannot be decoded: find it with `tenantry archive verify`")]
    Undecodable {
        /// What the decoder says.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The store of the archive cannot be reached.
    #[error("the archive at {} cannot be opened", path.display())]
    Store {
        /// The archive's root.
        path: PathBuf,
        /// The refusal.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The caller could not say which segments there are.
    #[error("the list of segments cannot be loaded")]
    Manifest {
        /// The caller's reason.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The result cannot be written out. A broken pipe comes as this, too.
    #[error("cannot write the result")]
    Output {
        /// The refusal.
        source: io::Error,
    },
}

/// What the messages need to know about the engine that ran the query.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub(super) memory_bytes: usize,
    pub(super) spill_bytes: u64,
    pub(super) spill_dir: PathBuf,
}

impl QueryError {
    /// Whether the query itself is at fault, so that running it again cannot help.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Syntax { .. }
            | Self::NotOneStatement { .. }
            | Self::TooManyOperators { .. }
            | Self::Refused { .. }
            | Self::UnknownTable { .. }
            | Self::UnknownColumn { .. }
            | Self::UnknownFunction { .. }
            | Self::Invalid { .. }
            | Self::Failed { .. } => true,
            Self::OutOfMemory { .. }
            | Self::OutOfSpill { .. }
            | Self::Spill { .. }
            | Self::SegmentGone { .. }
            | Self::SegmentMissing { .. }
            | Self::SegmentUnreadable { .. }
            | Self::SegmentNotFetched { .. }
            | Self::SegmentDamaged { .. }
            | Self::Undecodable { .. }
            | Self::Store { .. }
            | Self::Manifest { .. }
            | Self::Output { .. } => false,
        }
    }

    /// Whether whoever read the result has seen enough (`tenantry query … | head`).
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output { source } if source.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Takes DataFusion's error apart.
    pub(super) fn from_datafusion(error: DataFusionError, limits: &Limits) -> Self {
        if let Some(segment) = find::<SegmentError>(&error) {
            return Self::from_segment(segment);
        }
        if let Some(SchemaError::FieldNotFound { field, valid_fields }) = find::<SchemaError>(&error) {
            let known = valid_fields.iter().map(|column| column.name().to_owned()).collect();
            return Self::unknown_column(field.name(), known);
        }
        match find::<SpillError>(&error) {
            Some(SpillError::Full) => return Self::OutOfSpill { limit_bytes: limits.spill_bytes },
            Some(SpillError::Io(source)) => {
                let source = io::Error::new(source.kind(), source.to_string());
                return Self::Spill { path: limits.spill_dir.clone(), source };
            }
            None => {}
        }
        if find::<parquet::errors::ParquetError>(&error).is_some() {
            return Self::Undecodable { source: error.into() };
        }
        match error.find_root() {
            DataFusionError::SQL(problem, _) => Self::Syntax { problem: syntax_problem(&problem.to_string()) },
            DataFusionError::ResourcesExhausted(_) => Self::OutOfMemory { limit_bytes: limits.memory_bytes },
            DataFusionError::Plan(text) => Self::from_plan_message(text),
            DataFusionError::SchemaError(problem, _) => Self::Invalid { problem: one_line(&problem.to_string()) },
            DataFusionError::NotImplemented(text)
            | DataFusionError::Configuration(text)
            | DataFusionError::Internal(text) => Self::Invalid { problem: one_line(text) },
            DataFusionError::Execution(text) => Self::Failed { problem: one_line(text) },
            DataFusionError::ArrowError(problem, _) if matches!(**problem, ArrowError::ParquetError(_)) => {
                Self::Undecodable { source: one_line(&problem.to_string()).into() }
            }
            DataFusionError::ArrowError(problem, _) => Self::Failed { problem: one_line(&problem.to_string()) },
            other => Self::Failed { problem: one_line(&other.strip_backtrace()) },
        }
    }

    fn from_segment(error: &SegmentError) -> Self {
        let path = error.path.clone();
        if let Some(NotWhatWasWritten { problem }) = find(error.source.as_ref()) {
            return Self::SegmentDamaged { path, problem: problem.clone() };
        }
        if let Some(refused @ ArchiveError::Store { source, .. }) = find(error.source.as_ref()) {
            return Self::SegmentNotFetched { path, source: format!("{refused}: {source}").into() };
        }
        match find::<StoreError>(error.source.as_ref()) {
            Some(StoreError::NotFound { .. }) => Self::SegmentGone { path },
            _ => Self::SegmentUnreadable { path, source: error.source.to_string().into() },
        }
    }

    /// Planning errors come as text only; the two a person meets most are recognised by it.
    fn from_plan_message(text: &str) -> Self {
        let quoted = |before: &str| text.strip_prefix(before)?.split_once('\'').map(|(name, _)| name.to_owned());
        if let Some(name) = quoted("table '") {
            // The session's own catalog and schema are not what was typed.
            let name = name.strip_prefix(CATALOG_AND_SCHEMA).unwrap_or(&name).to_owned();
            return Self::UnknownTable { name };
        }
        if let Some(name) = quoted("Invalid function '") {
            return Self::UnknownFunction { name, hint: String::new() };
        }
        Self::Invalid { problem: one_line(text) }
    }

    fn unknown_column(name: &str, mut known: Vec<String>) -> Self {
        if known.is_empty() {
            known = table_schema().fields().iter().map(|field| field.name().clone()).collect();
        }
        known.sort();
        known.dedup();
        let wanted = name.to_lowercase();
        let mut ranked: Vec<_> = known
            .iter()
            .map(|known| (strsim::jaro_winkler(&wanted, &known.to_lowercase()), known.as_str()))
            .filter(|(likeness, known)| *likeness > 0.8 || known.contains(&wanted) || wanted.contains(known))
            .collect();
        ranked.sort_by(|(left, _), (right, _)| right.total_cmp(left));
        let nearest = ranked.iter().take(3).map(|(_, name)| *name).collect::<Vec<_>>().join(", ");
        let hint = match nearest.as_str() {
            "" => format!("the columns are {}; what else a record holds is in raw", known.join(", ")),
            nearest => format!("the nearest are {nearest}; what else a record holds is in raw"),
        };
        Self::UnknownColumn { name: name.to_owned(), hint }
    }
}

/// The first error of that type in the chain of causes.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        // An IO error made of another error names that one's cause as its own, and passes over it.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// The part of a message that says what is wrong, on one line and without a full stop.
fn one_line(text: &str) -> String {
    // What follows are candidate signatures, back traces, or an invitation to report a bug to somebody else.
    let end = [
        "\n\tCandidate",
        "\nbacktrace",
        "\n\nbacktrace",
        ".\nThis issue was likely caused",
        "\nThis was likely caused",
    ];
    let text = end.iter().fold(text, |text, end| text.split(end).next().unwrap_or(text));
    text.split_whitespace().collect::<Vec<_>>().join(" ").trim_end_matches('.').to_owned()
}

fn syntax_problem(text: &str) -> String {
    let text = text.strip_prefix("sql parser error: ").unwrap_or(text);
    let text = text.strip_prefix("ParserError(\"").and_then(|text| text.strip_suffix("\")")).unwrap_or(text);
    one_line(text)
}
