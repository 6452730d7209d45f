//! The file's shape: its mark, its numbered migrations, and the settings every connection runs with.
//!
//! Never touches a file that is not ours or that a newer program wrote: both are recognised before anything is changed.
//!
//! What is stored for long is kept small. A tenant is one small number, a (tenant, content type) is another, a `feed`;
//! times are milliseconds of the Unix epoch; a content is found by the first 16 bytes of its id's BLAKE3, so that an id of
//! 2 KiB costs its bytes once. What exists only while a content waits (its URL, its failures) is in a table of its own.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::fault::opening;
use crate::LedgerError;
use crate::error::Cause;

/// "Tnty": what `file` and SQLite's header call a ledger of ours.
pub(super) const APPLICATION_ID: i64 = 0x546e_7479;

/// One entry a version, in order; the file's `user_version` says how many have been applied. Never edit a released one.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("schema_1.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
    include_str!("schema_5.sql"),
    include_str!("schema_6.sql"),
    include_str!("schema_7.sql"),
    include_str!("schema_8.sql"),
    include_str!("schema_9.sql"),
    include_str!("schema_10.sql"),
    include_str!("schema_11.sql"),
    include_str!("schema_12.sql"),
];

/// The version this program writes.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// Distinct statements; all of them stay prepared.
const STATEMENTS: usize = 128;

/// The -wal file is cut back to this after a checkpoint: a burst must not leave it large for ever.
const WAL_KEPT_BYTES: i64 = 64 << 20;

/// What kind of connection to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Creates and migrates the file when needed.
    Write,
    /// Never changes anything.
    Read,
}

/// Opens one connection to a file that is, or becomes, a ledger of this program's version.
pub(super) fn connect(path: &Path, access: Access, busy_timeout: Duration) -> Result<Connection, LedgerError> {
    let read_write = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    match access {
        Access::Write => connect_to(path, path, read_write, access, busy_timeout),
        Access::Read if !path.exists() => Err(LedgerError::Missing { place: path.into() }),
        Access::Read => match connect_to(path, path, OpenFlags::SQLITE_OPEN_READ_ONLY, access, busy_timeout) {
            Err(LedgerError::CannotOpen { source, .. }) => as_it_lies(path, source, busy_timeout),
            connected => connected,
        },
    }
}

/// A copy where nothing can be written: there SQLite cannot make the shared-memory file that its log is read with. When
/// there is no log, or nothing in it, nobody can be writing either, and the file is read as it lies.
fn as_it_lies(path: &Path, source: Cause, busy_timeout: Duration) -> Result<Connection, LedgerError> {
    let log = path.as_os_str().to_str().map(|path| std::fs::metadata(format!("{path}-wal")));
    let path_uri = match (path.to_str(), log) {
        (Some(_), Some(Ok(log))) if log.len() > 0 => return Err(LedgerError::LogUnreadable { place: path.into() }),
        (Some(text), _) => text.replace('%', "%25").replace('?', "%3f").replace('#', "%23"),
        (None, _) => return Err(LedgerError::CannotOpen { place: path.into(), source }),
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let name = format!("file:{path_uri}?immutable=1");
    connect_to(path, Path::new(&name), flags, Access::Read, busy_timeout)
}

fn connect_to(
    path: &Path,
    name: &Path,
    flags: OpenFlags,
    access: Access,
    busy_timeout: Duration,
) -> Result<Connection, LedgerError> {
    let fault = |error: rusqlite::Error| opening(path, error);
    let mut connection = Connection::open_with_flags(name, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(fault)?;
    connection.busy_timeout(busy_timeout).map_err(fault)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    let version = {
        // In one snapshot: another process may be creating it right now.
        let _snapshot = connection.unchecked_transaction().map_err(fault)?;
        recognise(&connection, path)?
    };
    match access {
        Access::Write => {
            write_ahead(&connection, busy_timeout).map_err(fault)?;
            settings(&connection).map_err(fault)?;
            if version < VERSION {
                migrate(&mut connection, path)?;
            }
        }
        Access::Read if version == 0 => {
            return Err(LedgerError::NotALedger { place: path.into(), found: "an empty file".to_owned() });
        }
        Access::Read if version < VERSION => {
            return Err(LedgerError::OlderVersion { place: path.into(), found: version, known: VERSION });
        }
        Access::Read => settings(&connection).map_err(fault)?,
    }
    Ok(connection)
}

/// The version of the ledger in the file, 0 when the file is empty; an error when it is anything else.
fn recognise(connection: &Connection, path: &Path) -> Result<i64, LedgerError> {
    let fault = |error: rusqlite::Error| opening(path, error);
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(fault);
    let mark = pragma("application_id")?;
    let version = pragma("user_version")?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0)).map_err(fault)?;
    let foreign = |found: String| LedgerError::NotALedger { place: path.into(), found };
    if mark == 0 && version == 0 && tables == 0 {
        return Ok(0);
    }
    if mark != APPLICATION_ID {
        return Err(foreign(format!("an SQLite database of another program, application id {mark:#x}")));
    }
    if version > VERSION {
        return Err(LedgerError::NewerVersion { place: path.into(), found: version, known: VERSION });
    }
    Ok(version)
}

/// Switches to write-ahead logging. SQLite does not call its busy handler for this one, so two processes that create the
/// file at the same moment are made to wait for each other here.
fn write_ahead(connection: &Connection, busy_timeout: Duration) -> rusqlite::Result<()> {
    let begun = Instant::now();
    loop {
        let switched = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0));
        match switched {
            Err(error) if is_busy(&error) && begun.elapsed() < busy_timeout => {
                std::thread::sleep(Duration::from_millis(10));
            }
            other => return other.map(|_mode| ()),
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn settings(connection: &Connection) -> rusqlite::Result<()> {
    // Else a statement is compiled anew whenever a key is bound that is, or was, 0 or 1, as the first tenant's and feed's
    // numbers are: most of what a call costs, and a plan that no test has seen.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // A commit that has returned must survive power loss: FULL syncs the write-ahead log at every commit.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.query_row(&format!("PRAGMA journal_size_limit = {WAL_KEPT_BYTES}"), [], |_row| Ok(()))
}

/// Applies what is missing, in one transaction; another process may have done it in the meantime.
fn migrate(connection: &mut Connection, path: &Path) -> Result<(), LedgerError> {
    let fault = |error: rusqlite::Error| opening(path, error);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fault)?;
    let version = recognise(&transaction, path)?;
    let applied = usize::try_from(version).unwrap_or(0);
    for migration in MIGRATIONS.iter().skip(applied) {
        transaction.execute_batch(migration).map_err(fault)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(fault)?;
    transaction.pragma_update(None, "user_version", VERSION).map_err(fault)?;
    transaction.commit().map_err(fault)
}
