//! One value of a batch as text: as SQL shows it, and what is nested as JSON.

use arrow::array::{Array, RecordBatch};
use arrow::error::ArrowError;
use arrow::json::writer::{EncoderOptions, NullableEncoder, make_encoder};
use arrow::util::display::{ArrayFormatter, DurationFormat, FormatOptions};

use super::is_nested;

/// The texts of a batch's cells.
pub(super) struct Cells<'a>(Vec<ColumnCells<'a>>);

enum ColumnCells<'a> {
    Plain { array: &'a dyn Array, formatter: ArrayFormatter<'a> },
    Nested(NullableEncoder<'a>),
}

impl<'a> Cells<'a> {
    /// `options` must live as long as the batch is read; [`format_options`] gives them.
    pub(super) fn of(batch: &'a RecordBatch, options: &'a EncoderOptions) -> Result<Self, ArrowError> {
        let schema = batch.schema_ref();
        let mut columns = Vec::with_capacity(batch.num_columns());
        for (field, array) in schema.fields().iter().zip(batch.columns()) {
            columns.push(if is_nested(field.data_type()) {
                ColumnCells::Nested(make_encoder(field, array.as_ref(), options)?)
            } else {
                ColumnCells::Plain {
                    array: array.as_ref(),
                    formatter: ArrayFormatter::try_new(array.as_ref(), &FORMAT)?,
                }
            });
        }
        Ok(Self(columns))
    }

    /// The texts of one row; `None` is NULL.
    pub(super) fn row(&mut self, row: usize) -> Result<Vec<Option<String>>, ArrowError> {
        self.0.iter_mut().map(|column| column.cell(row)).collect()
    }
}

impl ColumnCells<'_> {
    fn cell(&mut self, row: usize) -> Result<Option<String>, ArrowError> {
        match self {
            Self::Plain { array, .. } if array.is_null(row) => Ok(None),
            Self::Plain { formatter, .. } => formatter.value(row).try_to_string().map(Some),
            Self::Nested(encoder) if encoder.is_null(row) => Ok(None),
            Self::Nested(encoder) => {
                let mut json = Vec::new();
                encoder.encode(row, &mut json);
                Ok(Some(String::from_utf8_lossy(&json).into_owned()))
            }
        }
    }
}

const FORMAT: FormatOptions<'static> =
    FormatOptions::new().with_display_error(false).with_duration_format(DurationFormat::Pretty);
