//! From SQLite's errors to the ledger's: which are the file's, which the machine's, which pass by themselves.
//!
//! Never loses the word of the operating system: it stays reachable as the source.

use std::path::Path;
use std::sync::Arc;

use rusqlite::ErrorCode;
use rusqlite::ffi;

use crate::LedgerError;
use crate::error::Place;

/// What stops a call inside its transaction.
#[derive(Debug)]
pub(super) enum Fault {
    /// SQLite failed.
    Sql(rusqlite::Error),
    /// A rule of the ledger would be broken.
    Rule(LedgerError),
}

/// What a call returns inside its transaction.
pub(super) type Done<T> = Result<T, Fault>;

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<LedgerError> for Fault {
    fn from(error: LedgerError) -> Self {
        Self::Rule(error)
    }
}

impl Fault {
    /// As the caller sees it.
    pub(super) fn at(self, path: &Path) -> LedgerError {
        match self {
            Self::Sql(error) => classify(path, Arc::new(error)),
            Self::Rule(error) => error,
        }
    }
}

/// An error while a file that exists and has been recognised is in use.
pub(super) fn classify(path: &Path, error: Arc<rusqlite::Error>) -> LedgerError {
    let place = Place::from(path);
    let (code, extended) = match &*error {
        rusqlite::Error::SqliteFailure(failure, _) => (failure.code, failure.extended_code),
        // A value of a kind the schema does not allow can only come from a damaged or edited file.
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..) => return LedgerError::Corrupt { place, detail: error.to_string() },
        _ => return LedgerError::Failed { place, source: error },
    };
    match code {
        ErrorCode::DiskFull => LedgerError::DiskFull { place },
        // The shared-memory file is grown before anything is written to the log, and reports lack of space as this.
        ErrorCode::SystemIoFailure if extended == ffi::SQLITE_IOERR_SHMSIZE => LedgerError::DiskFull { place },
        ErrorCode::SystemIoFailure => LedgerError::Io { place, source: error },
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => LedgerError::Busy { place },
        ErrorCode::DatabaseCorrupt => LedgerError::Corrupt { place, detail: error.to_string() },
        ErrorCode::NotADatabase => LedgerError::NotALedger { place, found: "no SQLite database".to_owned() },
        ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly => {
            LedgerError::CannotOpen { place, source: error }
        }
        _ => LedgerError::Failed { place, source: error },
    }
}

/// An error while a file is being opened: what the operating system says about the path is more telling than SQLite's
/// "unable to open database file".
pub(super) fn opening(path: &Path, error: rusqlite::Error) -> LedgerError {
    let classified = classify(path, Arc::new(error));
    let LedgerError::CannotOpen { place, source } = classified else { return classified };
    let source = match std::fs::OpenOptions::new().read(true).write(true).open(path) {
        Err(error) => Arc::new(error),
        Ok(_) => source,
    };
    LedgerError::CannotOpen { place, source }
}
