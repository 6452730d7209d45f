//! From PostgreSQL's errors to the ledger's: which are the operator's, which the machine's, which pass by themselves.
//!
//! Never loses the server's word: it stays reachable as the source. Never takes a lost connection for a refusal.

use std::error::Error as _;
use std::sync::Arc;

use deadpool_postgres::PoolError;
use deadpool_postgres::TimeoutType;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::LedgerError;
use crate::error::{Cause, Place};

/// What stops a call inside its transaction.
#[derive(Debug)]
pub(super) enum Fault {
    /// The server said no, or is gone.
    Sql(Error),
    /// No connection could be had.
    Pool(PoolError),
    /// A value in the database is of a kind that this program never writes.
    Value(String),
    /// A rule of the ledger would be broken.
    Rule(LedgerError),
    /// Somebody else did the same at the same moment: nothing is wrong, look again.
    Again,
}

/// What a call returns inside its transaction.
pub(super) type Done<T> = Result<T, Fault>;

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Sql(error)
    }
}

impl From<PoolError> for Fault {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => Self::Sql(error),
            error => Self::Pool(error),
        }
    }
}

impl From<LedgerError> for Fault {
    fn from(error: LedgerError) -> Self {
        Self::Rule(error)
    }
}

impl Fault {
    /// As the caller sees it.
    pub(super) fn at(self, place: &Place) -> LedgerError {
        let place = place.clone();
        match self {
            Self::Sql(error) => classify(place, error),
            Self::Pool(PoolError::Timeout(TimeoutType::Wait)) | Self::Again => LedgerError::Busy { place },
            Self::Pool(error) => LedgerError::Unreachable { place, source: Arc::new(error) },
            Self::Value(detail) => LedgerError::Corrupt { place, detail },
            Self::Rule(error) => error,
        }
    }

    /// Whether the transaction can be made again at once: it was in another's way, and is undone.
    pub(super) fn is_conflict(&self) -> bool {
        match self {
            Self::Again => true,
            Self::Sql(error) => {
                matches!(error.code(), Some(&SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED))
            }
            _ => false,
        }
    }

    /// Whether the server was not there, or went away.
    pub(super) fn is_lost(&self) -> bool {
        match self {
            Self::Sql(error) => is_lost(error),
            Self::Pool(error) => !matches!(error, PoolError::Timeout(TimeoutType::Wait)),
            _ => false,
        }
    }

    /// Whether the call waited for another's lock, or a connection, as long as it may.
    pub(super) fn is_late(&self) -> bool {
        match self {
            Self::Sql(error) => {
                matches!(error.code(), Some(&SqlState::LOCK_NOT_AVAILABLE | &SqlState::QUERY_CANCELED))
            }
            Self::Pool(error) => matches!(error, PoolError::Timeout(TimeoutType::Wait)),
            _ => false,
        }
    }

    /// Whether the server knows a prepared statement's tables no more as they were: prepared anew, it works.
    pub(super) fn is_stale(&self) -> bool {
        let Self::Sql(error) = self else { return false };
        matches!(error.code(), Some(&SqlState::INVALID_SQL_STATEMENT_NAME))
            || error.as_db_error().is_some_and(|error| {
                *error.code() == SqlState::FEATURE_NOT_SUPPORTED && error.message().contains("cached plan")
            })
    }
}

/// Whether the connection is gone, or could not be made for a reason that passes.
fn is_lost(error: &Error) -> bool {
    match error.as_db_error() {
        Some(error) => {
            let code = error.code();
            // Class 08: connection exceptions.
            code.code().starts_with("08")
                || [
                    SqlState::ADMIN_SHUTDOWN,
                    SqlState::CRASH_SHUTDOWN,
                    SqlState::CANNOT_CONNECT_NOW,
                    SqlState::TOO_MANY_CONNECTIONS,
                    SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
                    // A server that follows another, until it takes over.
                    SqlState::READ_ONLY_SQL_TRANSACTION,
                ]
                .contains(code)
        }
        None => error.is_closed() || is_of_network(error),
    }
}

/// Whether the operating system's word is beneath, and no word about certificates.
fn is_of_network(error: &Error) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return !error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
        }
        source = error.source();
    }
    false
}

fn classify(place: Place, error: Error) -> LedgerError {
    let lost = is_lost(&error);
    let code = error.code().cloned();
    let detail = error.as_db_error().map(ToString::to_string);
    let source: Cause = Arc::new(error);
    if lost {
        return LedgerError::Unreachable { place, source };
    }
    let Some(code) = code else {
        // Neither the server's nor the network's: certificates, a password that is lacking, an address.
        return LedgerError::CannotOpen { place, source };
    };
    match code {
        SqlState::DISK_FULL => LedgerError::DiskFull { place },
        SqlState::LOCK_NOT_AVAILABLE
        | SqlState::QUERY_CANCELED
        | SqlState::T_R_SERIALIZATION_FAILURE
        | SqlState::T_R_DEADLOCK_DETECTED => LedgerError::Busy { place },
        SqlState::INVALID_PASSWORD
        | SqlState::INVALID_AUTHORIZATION_SPECIFICATION
        | SqlState::INVALID_CATALOG_NAME
        | SqlState::INSUFFICIENT_PRIVILEGE => LedgerError::CannotOpen { place, source },
        SqlState::DATA_CORRUPTED | SqlState::INDEX_CORRUPTED => {
            LedgerError::Corrupt { place, detail: detail.unwrap_or_default() }
        }
        _ => LedgerError::Failed { place, source },
    }
}
