//! Rows as JSON objects: one array of them, or one a line.

use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::json::writer::{JsonFormat, LineDelimited};
use arrow::json::{Writer, WriterBuilder};

use super::{QueryError, output_error, unique_names};

type Out<'a> = &'a mut (dyn Write + Send);

/// An array with one object a line, which a person and `grep` can read, too.
#[derive(Debug, Default)]
struct ArrayOfLines;

impl JsonFormat for ArrayOfLines {
    fn start_stream<W: Write>(&self, writer: &mut W) -> Result<(), ArrowError> {
        Ok(writer.write_all(b"[")?)
    }

    fn start_row<W: Write>(&self, writer: &mut W, is_first_row: bool) -> Result<(), ArrowError> {
        Ok(writer.write_all(if is_first_row { b"\n" } else { b",\n" })?)
    }

    fn end_stream<W: Write>(&self, writer: &mut W) -> Result<(), ArrowError> {
        Ok(writer.write_all(b"\n]\n")?)
    }
}

enum Layout<'a> {
    Array(Writer<Out<'a>, ArrayOfLines>),
    Lines(Writer<Out<'a>, LineDelimited>),
}

/// See [`super::Format::Json`].
pub(super) struct JsonWriter<'a> {
    schema: SchemaRef,
    layout: Layout<'a>,
}

impl<'a> JsonWriter<'a> {
    pub(super) fn array(schema: &SchemaRef, out: Out<'a>) -> Self {
        let builder = WriterBuilder::new().with_explicit_nulls(true);
        Self { schema: unique_names(schema), layout: Layout::Array(builder.build(out)) }
    }

    pub(super) fn lines(schema: &SchemaRef, out: Out<'a>) -> Self {
        let builder = WriterBuilder::new().with_explicit_nulls(true);
        Self { schema: unique_names(schema), layout: Layout::Lines(builder.build(out)) }
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), QueryError> {
        if batch.num_columns() == 0 {
            return Ok(());
        }
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), batch.columns().to_vec()).map_err(output_error)?;
        match &mut self.layout {
            Layout::Array(writer) => writer.write(&batch),
            Layout::Lines(writer) => writer.write(&batch),
        }
        .map_err(output_error)
    }

    pub(super) fn finish(self) -> Result<(), QueryError> {
        let flush = |out: Out<'_>| out.flush().map_err(|source: io::Error| QueryError::Output { source });
        match self.layout {
            Layout::Array(mut writer) => {
                writer.finish().map_err(output_error)?;
                flush(writer.into_inner())
            }
            Layout::Lines(mut writer) => {
                writer.finish().map_err(output_error)?;
                flush(writer.into_inner())
            }
        }
    }
}
