//! Rows as a Parquet file of its own.

use std::io::Write;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::{QueryError, io_error, output_error, unique_names};

/// Bytes a row group may hold before it is written out.
const ROW_GROUP_BYTES: usize = 32 << 20;

/// See [`super::Format::Parquet`].
pub(super) struct ParquetWriter<'a> {
    schema: SchemaRef,
    writer: ArrowWriter<&'a mut (dyn Write + Send)>,
}

impl<'a> ParquetWriter<'a> {
    pub(super) fn new(schema: &SchemaRef, out: &'a mut (dyn Write + Send)) -> Result<Self, QueryError> {
        let schema = unique_names(schema);
        let fields: Vec<FieldRef> = schema.fields().iter().map(plain_field).collect();
        let schema = Arc::new(Schema::new(fields));
        let properties = WriterProperties::builder()
            .set_created_by(concat!("tenantry ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .build();
        let writer = ArrowWriter::try_new(out, Arc::clone(&schema), Some(properties)).map_err(parquet_error)?;
        Ok(Self { schema, writer })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), QueryError> {
        let columns = batch.columns().iter().zip(self.schema.fields());
        let columns = columns.map(|(column, field)| cast(column, field.data_type())).collect::<Result<Vec<_>, _>>();
        let batch =
            RecordBatch::try_new(Arc::clone(&self.schema), columns.map_err(output_error)?).map_err(output_error)?;
        self.writer.write(&batch).map_err(parquet_error)?;
        if self.writer.in_progress_size() > ROW_GROUP_BYTES {
            self.writer.flush().map_err(parquet_error)?;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<(), QueryError> {
        self.writer.finish().map_err(parquet_error)?;
        self.writer.inner_mut().flush().map_err(io_error)
    }
}

/// The field without Arrow's view types, which many a reader of the file's Arrow schema does not know yet.
fn plain_field(field: &FieldRef) -> FieldRef {
    Arc::new(Field::clone(field).with_data_type(plain_type(field.data_type())))
}

fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        // A column of nothing but NULL.
        DataType::Null => DataType::Utf8,
        DataType::List(field) => DataType::List(plain_field(field)),
        DataType::LargeList(field) => DataType::LargeList(plain_field(field)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain_field).collect()),
        DataType::Map(field, sorted) => DataType::Map(plain_field(field), *sorted),
        other => other.clone(),
    }
}

/// A refusal of the output is an IO error wherever it comes out.
fn parquet_error(error: ParquetError) -> QueryError {
    match error {
        ParquetError::External(inner) => match inner.downcast::<std::io::Error>() {
            Ok(source) => QueryError::Output { source: *source },
            Err(inner) => output_error(ParquetError::External(inner)),
        },
        other => output_error(other),
    }
}
