//! Moving a whole ledger: from a file to a database, and back.
//!
//! Never adds to what is there: the target must be empty, and either gets everything or stays empty. Nothing is believed to
//! have arrived before the target has been read back, in the transaction that wrote it, and gives the same digests. The
//! source is left as it is. Neither side has a collector meanwhile: a database is claimed, a file's data folder is the
//! caller's to lock.

use std::sync::Arc;

use tokio::sync::mpsc;

use self::value::{Row, Sum};
use crate::error::Cause;
use crate::postgres::{Claim, ClaimError, Company};
use crate::{LedgerError, Location, OpenLedger, Place};

mod postgres;
mod sqlite;
mod table;
#[cfg(test)]
mod tests;
mod value;

use self::table::{TABLES, Table};

/// Rows that travel together. More is memory for nothing, fewer is a round trip for little.
const BATCH: usize = 2_000;
/// Batches on their way at once: one is read while another is written.
const ON_THE_WAY: usize = 2;

/// What was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Each table with its rows, empty ones too.
    pub tables: Vec<(&'static str, u64)>,
    /// BLAKE3 over all that was moved, the same on both sides.
    pub digest: [u8; 32],
}

/// Why nothing was moved.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MigrateError {
    /// Both sides are the same.
    #[error("{place} is both where the ledger is and where it is to go: give another --to")]
    Same {
        /// Which.
        place: String,
    },
    /// There is no ledger to be moved.
    #[error("there is no ledger at {place}: see that --from is right")]
    NoSource {
        /// Which.
        place: String,
    },
    /// Something is in the target.
    #[error(
        "the ledger {place} is not empty, its table {table} has rows: give --to a new file or database; nothing was changed"
    )]
    NotEmpty {
        /// Which.
        place: Place,
        /// The first table with rows.
        table: &'static str,
    },
    /// A collector is at work on one of them.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// One of them failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A value that the other side cannot hold.
    #[error(
        "a row of {table} holds in {column} what no ledger writes: `tenantry archive verify` and a backup tell more; nothing was moved"
    )]
    Value {
        /// Of which table.
        table: &'static str,
        /// Of which column.
        column: &'static str,
    },
    /// What arrived is not what was sent.
    #[error(
        "{table} arrived with {found} rows of {expected}, or with other values, and nothing was kept: please report it"
    )]
    Different {
        /// Which table.
        table: &'static str,
        /// Rows sent.
        expected: u64,
        /// Rows found.
        found: u64,
    },
    /// The other side ended first; it says why.
    #[error("the other side broke off")]
    Interrupted,
}

/// What is on its way.
enum Message {
    /// Rows of the table of that number.
    Rows(usize, Vec<Row>),
    /// Everything has been sent.
    End(Whole),
}

/// What does not stand in rows, and what proves the rest.
#[derive(Debug, Clone, Default)]
struct Whole {
    /// Which ledger it is.
    id: [u8; 16],
    /// The last revision given.
    revision: i64,
    /// The last number given to an invitation.
    invitation: i64,
    /// One a table.
    sums: Vec<Sum>,
}

/// Moves everything from one ledger to the other.
///
/// # Errors
/// When the target is not empty, a collector is at work on either (as far as a database can tell), one of them fails, or
/// what arrived differs. The target is then as empty as it was.
pub async fn migrate(from: &Location, to: &Location) -> Result<Moved, MigrateError> {
    if from.to_string() == to.to_string() {
        return Err(MigrateError::Same { place: from.to_string() });
    }
    if from.file().is_some_and(|path| !path.exists()) {
        return Err(MigrateError::NoSource { place: from.to_string() });
    }
    // Nothing may make a ledger of a database that has none: it is to be read.
    if from.file().is_none() {
        drop(from.open_read_only()?);
    }
    let (source, _from) = opened(from).await?;
    let (target, _to) = opened(to).await?;
    let (send, receive) = mpsc::channel(ON_THE_WAY);
    let reading = async move {
        match &source {
            OpenLedger::File(ledger) => {
                let path = ledger.path().to_owned();
                blocking(move || sqlite::read(&path, &send)).await
            }
            OpenLedger::Database(ledger) => ledger.send_all(send).await,
        }
    };
    let writing = async move {
        match &target {
            OpenLedger::File(ledger) => {
                let path = ledger.path().to_owned();
                blocking(move || sqlite::write(&path, receive)).await
            }
            OpenLedger::Database(ledger) => ledger.receive_all(receive).await,
        }
    };
    match futures_util::future::join(reading, writing).await {
        (Ok(()), Ok(whole)) => Ok(moved(&whole)),
        // Whoever broke off knows why; the other only noticed.
        (Err(MigrateError::Interrupted) | Ok(()), Err(error)) | (Err(error), _) => Err(error),
    }
}

async fn opened(location: &Location) -> Result<(OpenLedger, Option<Claim>), MigrateError> {
    let ledger = location.open()?;
    let claim = ledger.claim(Company::Alone).await?;
    Ok((ledger, claim))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MigrateError> + Send + 'static,
) -> Result<T, MigrateError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(MigrateError::Interrupted))
}

fn moved(whole: &Whole) -> Moved {
    let mut all = blake3::Hasher::new();
    for sum in &whole.sums {
        all.update(&sum.digest());
    }
    let tables = TABLES.iter().zip(&whole.sums).map(|(table, sum)| (table.name, sum.rows)).collect();
    Moved { tables, digest: *all.finalize().as_bytes() }
}

/// Whether what was read back is what was sent.
fn compare(sent: &Whole, found: &Whole) -> Result<(), MigrateError> {
    for ((table, sent), found) in TABLES.iter().zip(&sent.sums).zip(&found.sums) {
        if sent.rows != found.rows || sent.digest() != found.digest() {
            return Err(MigrateError::Different { table: table.name, expected: sent.rows, found: found.rows });
        }
    }
    Ok(())
}

/// Refuses a row that a table cannot hold.
fn check_row(table: &Table, row: &Row) -> Result<(), MigrateError> {
    for (value, (column, kind)) in row.iter().zip(table.columns) {
        if !value::fits(value, *kind) {
            return Err(MigrateError::Value { table: table.name, column });
        }
    }
    Ok(())
}

fn failed(place: Place, source: impl std::error::Error + Send + Sync + 'static) -> MigrateError {
    let source: Cause = Arc::new(source);
    LedgerError::Failed { place, source }.into()
}
