//! Writes the rows of a query in one of five formats while they arrive.
//!
//! Never holds the whole result: the table looks at its first rows to size its columns, Parquet holds one row group.

mod cells;
mod csv;
mod json;
mod parquet;
mod table;

use std::io::Write;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;

use self::csv::CsvWriter;
use self::json::JsonWriter;
use self::parquet::ParquetWriter;
use self::table::TableWriter;
use super::error::QueryError;
use super::stream::QueryStream;

/// How a result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For a person: aligned columns; when they cannot all be shown, one line a column. Control characters, and those that
    /// turn the direction of text, are shown as escapes: records hold what strangers typed.
    Table {
        /// Columns of the terminal. Cells are cut with `…` to fit; without a width nothing is cut.
        width: Option<usize>,
    },
    /// One array of objects, one object a line. Every row has every column: NULL is `null`. Times are RFC 3339 in UTC,
    /// whole numbers are numbers of any size, `raw` is a string that holds the record's exact text. Of columns with the
    /// same name the second becomes `name_2`.
    Json,
    /// One such object a line.
    Ndjson,
    /// RFC 4180 with a header line and LF line ends. NULL is nothing, an empty text is `""`. Lists are JSON.
    Csv,
    /// A Parquet file with zstd compression.
    Parquet,
}

/// The text names no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no format {name:?}: use table, json, ndjson, csv or parquet")]
pub struct UnknownFormat {
    /// What was given.
    pub name: String,
}

impl FromStr for Format {
    type Err = UnknownFormat;

    /// `table` comes without a width.
    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        match name {
            "table" => Ok(Self::Table { width: None }),
            "json" => Ok(Self::Json),
            "ndjson" => Ok(Self::Ndjson),
            "csv" => Ok(Self::Csv),
            "parquet" => Ok(Self::Parquet),
            _ => Err(UnknownFormat { name: name.to_owned() }),
        }
    }
}

/// What was written, for the line beneath it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Rows of the result.
    pub rows: u64,
    /// See [`QueryStream::segments`].
    pub segments: u64,
    /// See [`QueryStream::candidate_segments`].
    pub candidate_segments: u64,
}

/// Reads the query to its end and writes its rows.
///
/// # Errors
///
/// [`QueryError::Output`] when `out` refuses, and whatever stops the query; what has been written by then stays written.
pub async fn write_results(
    mut rows: QueryStream,
    format: Format,
    out: &mut (dyn Write + Send),
) -> Result<Written, QueryError> {
    let mut written = 0;
    let mut writer = Writer::new(format, &rows.schema(), out)?;
    while let Some(batch) = rows.next_batch().await? {
        written += u64::try_from(batch.num_rows()).unwrap_or(u64::MAX);
        writer.write(&batch)?;
    }
    writer.finish()?;
    Ok(Written { rows: written, segments: rows.segments(), candidate_segments: rows.candidate_segments() })
}

enum Writer<'a> {
    Table(TableWriter<'a>),
    Json(JsonWriter<'a>),
    Csv(CsvWriter<'a>),
    Parquet(ParquetWriter<'a>),
}

impl<'a> Writer<'a> {
    fn new(format: Format, schema: &SchemaRef, out: &'a mut (dyn Write + Send)) -> Result<Self, QueryError> {
        Ok(match format {
            Format::Table { width } => Self::Table(TableWriter::new(schema, width, out)),
            Format::Json => Self::Json(JsonWriter::array(schema, out)),
            Format::Ndjson => Self::Json(JsonWriter::lines(schema, out)),
            Format::Csv => Self::Csv(CsvWriter::new(schema, out)?),
            Format::Parquet => Self::Parquet(ParquetWriter::new(schema, out)?),
        })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), QueryError> {
        match self {
            Self::Table(writer) => writer.write(batch),
            Self::Json(writer) => writer.write(batch),
            Self::Csv(writer) => writer.write(batch),
            Self::Parquet(writer) => writer.write(batch),
        }
    }

    fn finish(self) -> Result<(), QueryError> {
        match self {
            Self::Table(writer) => writer.finish(),
            Self::Json(writer) => writer.finish(),
            Self::Csv(writer) => writer.finish(),
            Self::Parquet(writer) => writer.finish(),
        }
    }
}

/// A refusal of `out`, or of Arrow to bring a value into the format.
fn output_error(error: impl Into<ArrowError>) -> QueryError {
    match error.into() {
        ArrowError::IoError(_, source) => QueryError::Output { source },
        other => QueryError::Failed { problem: format!("a column cannot be written in this format: {other}") },
    }
}

fn io_error(source: std::io::Error) -> QueryError {
    QueryError::Output { source }
}

/// The schema with a name of its own for every column: `SELECT a.id, b.id` has two called `id`.
fn unique_names(schema: &Schema) -> SchemaRef {
    let mut names: Vec<String> = Vec::new();
    let fields = schema.fields().iter().map(|field| {
        let mut name = field.name().clone();
        let mut number = 2;
        while names.contains(&name) {
            name = format!("{}_{number}", field.name());
            number += 1;
        }
        names.push(name.clone());
        Field::clone(field).with_name(name)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Whether cells of that type are made of other cells.
fn is_nested(data_type: &DataType) -> bool {
    data_type.is_nested() && !matches!(data_type, DataType::Dictionary(_, _))
}
