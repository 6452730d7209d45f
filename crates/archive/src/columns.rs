//! The columns beside `raw`, gathered row by row until they are worth handing to the Parquet writer.
//!
//! Never holds a record's bytes; those go to [`crate::raw_column`] at once.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanBuilder, Int32Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder};
use protocol::ids::TenantId;
use protocol::time::Timestamp;
use record::View;

use crate::commit::ContentRef;

/// Rows handed over at a time.
const BATCH_ROWS: usize = 1024;

/// A row about to be stored.
pub(crate) struct Row<'a> {
    pub(crate) content: &'a ContentRef<'a>,
    pub(crate) view: &'a View<'a>,
    /// `view.creation_time` where it is usable.
    pub(crate) creation_time: Option<Timestamp>,
    /// Another body of the same second and `Id` was stored before it.
    pub(crate) is_variant: bool,
}

/// The columns of the rows gathered so far.
pub(crate) struct RowBuffer {
    tenant: String,
    ingested_at: i64,
    commit: i64,
    rows: usize,
    texts: [StringBuilder; TEXTS],
    creation_time: TimestampMicrosecondBuilder,
    record_type: Int32Builder,
    user_type: Int32Builder,
    variant: BooleanBuilder,
}

/// The text columns that differ from row to row, beside `raw`, in the order of [`crate::COLUMNS`].
const TEXTS: usize = 14;

impl RowBuffer {
    pub(crate) fn new(tenant: TenantId, ingested_at: Timestamp, commit: u64) -> Self {
        Self {
            tenant: tenant.to_string(),
            ingested_at: ingested_at.timestamp_micros(),
            commit: i64::try_from(commit).unwrap_or(i64::MAX),
            rows: 0,
            // Without capacity: many a date of a commit gets few rows.
            texts: std::array::from_fn(|_| StringBuilder::with_capacity(0, 0)),
            creation_time: TimestampMicrosecondBuilder::with_capacity(0).with_timezone("UTC"),
            record_type: Int32Builder::with_capacity(0),
            user_type: Int32Builder::with_capacity(0),
            variant: BooleanBuilder::with_capacity(0),
        }
    }

    pub(crate) fn push(&mut self, row: &Row<'_>) {
        let view = row.view;
        let texts = [
            Some(row.content.content_type.as_str()),
            Some(row.content.content_id.as_str()),
            view.id.as_deref(),
            view.record_type.and_then(record::record_type::name),
            view.operation.as_deref(),
            view.workload.as_deref(),
            view.user_id.as_deref(),
            view.user_key.as_deref(),
            view.organization_id.as_deref(),
            view.object_id.as_deref(),
            view.client_ip.as_deref(),
            view.result_status.as_deref(),
            view.app_id.as_deref(),
            view.session_id.as_deref(),
        ];
        for (builder, text) in self.texts.iter_mut().zip(texts) {
            builder.append_option(text);
        }
        self.creation_time.append_option(row.creation_time.map(|time| time.timestamp_micros()));
        self.record_type.append_option(view.record_type);
        self.user_type.append_option(view.user_type);
        self.variant.append_value(row.is_variant);
        self.rows += 1;
    }

    /// Whether it is time to [`Self::take`].
    pub(crate) fn is_full(&self) -> bool {
        self.rows >= BATCH_ROWS
    }

    /// The gathered columns in the schema's order, without `raw`; the buffer is empty afterwards. `None` when it was.
    pub(crate) fn take(&mut self) -> Option<Vec<ArrayRef>> {
        if self.rows == 0 {
            return None;
        }
        let rows = self.rows;
        let mut texts = self.texts.iter_mut().map(finish_text);
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(crate::COLUMNS.len());
        columns.push(repeated_text(&self.tenant, rows));
        columns.extend(texts.by_ref().take(3));
        columns.push(Arc::new(self.creation_time.finish()));
        columns.push(Arc::new(self.record_type.finish()));
        columns.extend(texts.by_ref().take(5));
        columns.push(Arc::new(self.user_type.finish()));
        columns.extend(texts);
        columns.push(self.repeated_time(rows));
        columns.push(repeated_number(self.commit, rows));
        columns.push(Arc::new(self.variant.finish()));
        self.rows = 0;
        Some(columns)
    }

    fn repeated_time(&self, rows: usize) -> ArrayRef {
        let mut builder = TimestampMicrosecondBuilder::with_capacity(rows).with_timezone("UTC");
        builder.append_value_n(self.ingested_at, rows);
        Arc::new(builder.finish())
    }
}

/// Finishes the array and makes room for the next as large as this one, which otherwise would grow by copying.
fn finish_text(builder: &mut StringBuilder) -> ArrayRef {
    let (rows, bytes) = (builder.offsets_slice().len(), builder.values_slice().len());
    let next = StringBuilder::with_capacity(rows + rows / 8, bytes + bytes / 8);
    Arc::new(std::mem::replace(builder, next).finish())
}

fn repeated_text(text: &str, rows: usize) -> ArrayRef {
    let mut builder = StringBuilder::with_capacity(rows, rows * text.len());
    (0..rows).for_each(|_| builder.append_value(text));
    Arc::new(builder.finish())
}

fn repeated_number(number: i64, rows: usize) -> ArrayRef {
    let mut builder = Int64Builder::with_capacity(rows);
    builder.append_value_n(number, rows);
    Arc::new(builder.finish())
}
