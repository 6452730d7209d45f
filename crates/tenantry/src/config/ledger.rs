//! Where the ledger is: a file, or a database that is named without its password.
//!
//! Never takes a password from the address: addresses are shown, logged and copied.

use std::path::Path;
use std::time::Duration;

use server::engine::lease::LEASE_TIME;
use server::ledger::postgres::PgAddress;

use super::schema::LEDGER_PASSWORD_VARIABLE;
use super::values::{Reader, scheme};
use super::{ConfigError, LedgerConfig};

/// Shorter, and an ordinary pause (a database that fails over, a full disk) costs a worker its tenants.
const LEASE_TIME_LEAST: Duration = Duration::from_secs(3);
/// Longer, and a dead worker's tenants wait for so long that notifications of theirs are missed.
const LEASE_TIME_MOST: Duration = Duration::from_secs(10 * 60);

/// A file, or a database that is named without its password.
pub(super) fn ledger(reader: &Reader<'_>, data_dir: &Path) -> Result<LedgerConfig, ConfigError> {
    let password_file = reader.path("ledger.password_file")?;
    let root_certificate = reader.path("ledger.root_certificate")?;
    let url = reader.text("ledger.url")?;
    let is_shared = url.as_deref().is_some_and(|url| url.starts_with("postgres"));
    let lease_time = reader.duration("ledger.lease_time", LEASE_TIME_LEAST..=LEASE_TIME_MOST)?;
    for (key, is_set) in [
        ("ledger.password_file", password_file.is_some()),
        ("ledger.root_certificate", root_certificate.is_some()),
        ("ledger.lease_time", lease_time.is_some()),
    ] {
        if is_set && !is_shared {
            return Err(reader.invalid(key, "is for a ledger in PostgreSQL only: set ledger.url".to_owned()));
        }
    }
    let Some(url) = url else { return Ok(LedgerConfig::File(data_dir.join("ledger.db"))) };
    if let Some(path) = url.strip_prefix("sqlite:").filter(|path| !path.is_empty()) {
        return Ok(LedgerConfig::File(reader.resolve("ledger.url", path)));
    }
    if !is_shared {
        let problem = format!("must be sqlite:PATH or postgres://USER@HOST/DATABASE, not {:?}", scheme(&url));
        return Err(reader.invalid("ledger.url", problem));
    }
    let (address, password) =
        PgAddress::parse(&url).map_err(|error| reader.invalid("ledger.url", error.to_string()))?;
    if password.is_some() {
        let problem = format!(
            "must not hold a password: put it into a file that ledger.password_file names, or into the variable {LEDGER_PASSWORD_VARIABLE}"
        );
        return Err(reader.invalid("ledger.url", problem));
    }
    let address = address.with_root_certificate(root_certificate);
    let lease_time = lease_time.unwrap_or(LEASE_TIME);
    Ok(LedgerConfig::Database { address, password_file, lease_time })
}
