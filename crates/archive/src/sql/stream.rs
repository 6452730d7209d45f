//! The rows of a query, batch by batch, as they are found.
//!
//! Never holds more than one batch ahead of its reader.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use futures_util::StreamExt;

use super::error::{Limits, QueryError};
use super::table::Pruning;

/// A running query. Dropping it stops the query.
pub struct QueryStream {
    schema: SchemaRef,
    /// Fetched before the stream was handed out, so that a segment that has gone shows before any row does.
    first: Option<RecordBatch>,
    rest: SendableRecordBatchStream,
    pruning: Arc<Pruning>,
    limits: Limits,
}

impl QueryStream {
    /// Starts reading: waits for the first rows.
    pub(super) async fn start(
        rest: SendableRecordBatchStream,
        pruning: Arc<Pruning>,
        limits: Limits,
    ) -> Result<Self, QueryError> {
        let mut stream = Self { schema: rest.schema(), first: None, rest, pruning, limits };
        // An empty batch shows nothing yet: what goes wrong behind it can still be tried again.
        while let Some(batch) = stream.next_batch().await? {
            if batch.num_rows() > 0 {
                stream.first = Some(batch);
                break;
            }
        }
        Ok(stream)
    }

    /// Names and types of the result's columns.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The next rows; `None` at the end.
    ///
    /// # Errors
    ///
    /// Whatever stops a running query; after rows have been handed out [`QueryError::SegmentGone`] among them, and then
    /// the whole query has to be run again.
    pub async fn next_batch(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let next = self.rest.next().await.transpose();
        next.map_err(|error| QueryError::from_datafusion(error, &self.limits))
    }

    /// Segments within the statement's [`super::Extent`], counted once for each time it names the table.
    pub fn segments(&self) -> u64 {
        self.pruning.segments.load(Ordering::Relaxed)
    }

    /// Those of [`Self::segments`] that tenant, time and commit could not rule out before any file was opened.
    pub fn candidate_segments(&self) -> u64 {
        self.pruning.candidates.load(Ordering::Relaxed)
    }
}
