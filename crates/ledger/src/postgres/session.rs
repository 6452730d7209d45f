//! One connection in one transaction, as the calls see it.
//!
//! Never makes a statement anew that this connection has prepared before. A failed statement spoils its transaction, and
//! the session remembers: PostgreSQL would answer a `COMMIT` after it with a quiet rollback.

use std::cell::Cell;

use deadpool_postgres::ClientWrapper;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row, Statement};

use super::fault::{Done, Fault};

/// The values of a statement.
pub(super) type Values<'v> = &'v [&'v (dyn ToSql + Sync)];

/// A connection while a call has it.
pub(super) struct Session<'c> {
    client: &'c ClientWrapper,
    spoilt: Cell<bool>,
}

impl<'c> Session<'c> {
    pub(super) fn new(client: &'c ClientWrapper) -> Self {
        Self { client, spoilt: Cell::new(false) }
    }

    /// Whether a statement failed: nothing of the transaction can be kept.
    pub(super) fn is_spoilt(&self) -> bool {
        self.spoilt.get()
    }

    async fn statement(&self, text: &str) -> Result<Statement, Error> {
        #[cfg(test)]
        super::tests::plans::note(text);
        self.client.prepare_cached(text).await
    }

    fn noted<T>(&self, result: Result<T, Error>) -> Done<T> {
        result.map_err(|error| {
            self.spoilt.set(true);
            Fault::Sql(error)
        })
    }

    /// Every row.
    pub(super) async fn rows(&self, text: &str, values: Values<'_>) -> Done<Vec<Row>> {
        let statement = self.noted(self.statement(text).await)?;
        self.noted(self.client.query(&statement, values).await)
    }

    /// The row, if there is one; never more.
    pub(super) async fn maybe(&self, text: &str, values: Values<'_>) -> Done<Option<Row>> {
        let statement = self.noted(self.statement(text).await)?;
        self.noted(self.client.query_opt(&statement, values).await)
    }

    /// The one row.
    pub(super) async fn one(&self, text: &str, values: Values<'_>) -> Done<Row> {
        let statement = self.noted(self.statement(text).await)?;
        self.noted(self.client.query_one(&statement, values).await)
    }

    /// Changes rows, and says how many.
    pub(super) async fn run(&self, text: &str, values: Values<'_>) -> Done<u64> {
        let statement = self.noted(self.statement(text).await)?;
        self.noted(self.client.execute(&statement, values).await)
    }

    /// Statements without values, as they stand.
    pub(super) async fn batch(&self, text: &str) -> Done<()> {
        self.noted(self.client.batch_execute(text).await)
    }
}
