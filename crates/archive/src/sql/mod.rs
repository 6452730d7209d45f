//! SQL over the archive: the table `audit`, the JSON functions, the limits, and the writing of results.
//!
//! Never writes into the archive and never looks for segments: the caller says which are visible, query by query, because
//! only the ledger knows. Results go out through [`write_results`].
//!
//! DataFusion computes on the threads of the runtime that polls it. A program that has other work to do gives queries a
//! runtime of their own. Dropping a future or a [`QueryStream`] stops the query.

mod checked_store;
mod dialect;
mod engine;
mod error;
mod extent;
mod functions;
mod json;
mod output;
mod reader;
mod spill;
mod stream;
mod table;

pub use engine::{OPERATORS_MAX, QUERY_STACK_BYTES, QueryEngine, QueryOptions};
pub use error::QueryError;
pub use extent::Extent;
pub use functions::{FunctionDescription, describe};
pub use output::{Format, UnknownFormat, Written, write_results};
pub use stream::QueryStream;
