//! Where a ledger is, whichever back end keeps it, and how it is opened there.
//!
//! Never creates anything for a reader.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::postgres::{Claim, ClaimError, Company, PgLedger, PgOptions};
use crate::sqlite::{OpenOptions, SqliteLedger};
use crate::{Ledger, LedgerError, Workers};

/// Where a ledger is.
#[derive(Debug, Clone)]
pub enum Location {
    /// An embedded one in this file.
    File(PathBuf),
    /// A shared one in a database.
    Database(Box<PgOptions>),
}

/// A ledger that is open.
#[derive(Debug, Clone)]
pub enum OpenLedger {
    /// An embedded one.
    File(SqliteLedger),
    /// A shared one.
    Database(PgLedger),
}

impl Location {
    /// Opens it, making it when it is not there, and brings an older one up to date.
    ///
    /// # Errors
    /// As [`SqliteLedger::open`] and [`PgLedger::open`].
    pub fn open(&self) -> Result<OpenLedger, LedgerError> {
        match self {
            Self::File(path) => SqliteLedger::open(path, OpenOptions::default()).map(OpenLedger::File),
            Self::Database(options) => PgLedger::open((**options).clone()).map(OpenLedger::Database),
        }
    }

    /// Opens it for reading; a collector may be at work beside.
    ///
    /// # Errors
    /// The same, and when there is no ledger yet.
    pub fn open_read_only(&self) -> Result<OpenLedger, LedgerError> {
        match self {
            Self::File(path) => {
                let options = OpenOptions { read_only: true, ..OpenOptions::default() };
                SqliteLedger::open(path, options).map(OpenLedger::File)
            }
            Self::Database(options) => {
                let options = PgOptions { read_only: true, ..(**options).clone() };
                PgLedger::open(options).map(OpenLedger::Database)
            }
        }
    }

    /// The file, when it is one.
    pub fn file(&self) -> Option<&PathBuf> {
        match self {
            Self::File(path) => Some(path),
            Self::Database(_) => None,
        }
    }
}

impl OpenLedger {
    /// The same, for who is called so in the log of activity.
    #[must_use]
    pub fn acting_as(self, actor: &str) -> Self {
        match self {
            Self::File(ledger) => Self::File(ledger.acting_as(actor)),
            Self::Database(ledger) => Self::Database(ledger.acting_as(actor)),
        }
    }

    /// As everybody uses it.
    pub fn shared(&self) -> Arc<dyn Ledger> {
        match self {
            Self::File(ledger) => Arc::new(ledger.clone()),
            Self::Database(ledger) => Arc::new(ledger.clone()),
        }
    }

    /// As workers use it that share its tenants out among themselves.
    pub fn workers(&self) -> Arc<dyn Workers> {
        match self {
            Self::File(ledger) => Arc::new(ledger.clone()),
            Self::Database(ledger) => Arc::new(ledger.clone()),
        }
    }

    /// Makes this process a collector of a database, alone or beside other workers. A file's collector is the one of its data
    /// folder, which the ledger does not know: there is nothing to claim.
    ///
    /// # Errors
    /// When another process is that must not be beside it, or the server does not answer.
    pub async fn claim(&self, company: Company) -> Result<Option<Claim>, ClaimError> {
        match self {
            Self::File(_) => Ok(None),
            Self::Database(ledger) => ledger.claim(company).await.map(Some),
        }
    }
}

/// As `ledger.url` says it, without a password.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "sqlite:{}", path.display()),
            Self::Database(options) => options.address.fmt(f),
        }
    }
}
