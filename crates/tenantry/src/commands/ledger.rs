//! `ledger migrate`: moves a whole ledger into an empty one, of the other kind or the same.
//!
//! Never changes where the program looks for its ledger: that is the configuration's, and the last line says what to write.

use std::path::{Path, PathBuf};

use serde_json::json;
use server::instance::InstanceLock;
use server::ledger::Location;
use server::ledger::migrate::{MigrateError, Moved, migrate};
use server::ledger::postgres::{PgAddress, PgOptions};

use super::{load, store};
use crate::cli::{Global, LedgerCommand};
use crate::config::{Config, LedgerConfig};
use crate::exit::{Code, Failure};
use crate::present;

pub(crate) async fn run(global: &Global, command: &LedgerCommand) -> Result<(), Failure> {
    let LedgerCommand::Migrate { from, to, password_file } = command;
    let config = load(global)?;
    let from = match from {
        None => store::location(&config),
        Some(url) => location(&config, "--from", url, password_file.as_deref())?,
    };
    let to = location(&config, "--to", to, password_file.as_deref())?;
    // A database's collector is found by the ledger; a file's holds the lock of its folder.
    let _locks = lock_folders(&config, &[&from, &to])?;
    let moved = migrate(&from, &to).await.map_err(failure)?;
    show(global, &from, &to, &moved)
}

fn location(config: &Config, flag: &str, url: &str, password_file: Option<&Path>) -> Result<Location, Failure> {
    let wrong = |problem: String| Failure::new(Code::Usage, format!("{flag} {problem}"));
    if let Some(path) = url.strip_prefix("sqlite:").filter(|path| !path.is_empty()) {
        return Ok(Location::File(PathBuf::from(path)));
    }
    if !url.starts_with("postgres") {
        return Err(wrong("must be sqlite:PATH or postgres://USER@HOST/DATABASE".to_owned()));
    }
    let (address, password) = PgAddress::parse(url).map_err(|error| wrong(error.to_string()))?;
    if password.is_some() {
        // Others on this machine can read a command line.
        return Err(wrong(
            "must not hold a password: set TENANTRY_LEDGER__PASSWORD or give --password-file".to_owned(),
        ));
    }
    let (configured, roots) = match &config.ledger {
        LedgerConfig::Database { address, password_file, .. } => {
            (password_file.as_deref(), address.root_certificate().map(Path::to_owned))
        }
        LedgerConfig::File(_) => (None, None),
    };
    let address = match address.root_certificate() {
        Some(_) => address,
        None => address.with_root_certificate(roots),
    };
    let password = store::ledger_password(password_file.or(configured));
    Ok(Location::Database(Box::new(PgOptions { password, ..PgOptions::at(address) })))
}

/// The locks of the configured data folder and of those the files lie in.
fn lock_folders(config: &Config, locations: &[&Location]) -> Result<Vec<InstanceLock>, Failure> {
    let mut folders = vec![config.data_dir.clone()];
    for path in locations.iter().filter_map(|location| location.file()) {
        let folder = path.parent().map(Path::to_owned).filter(|folder| folder.is_dir());
        folders.extend(folder);
    }
    let mut seen = Vec::new();
    folders.retain(|folder| {
        let whole = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.clone());
        let is_new = folder.is_dir() && !seen.contains(&whole);
        seen.push(whole);
        is_new
    });
    folders.iter().map(|folder| store::lock_folder(folder)).collect()
}

fn failure(error: MigrateError) -> Failure {
    match error {
        MigrateError::Same { .. } | MigrateError::NoSource { .. } => Failure::from_chain(Code::Usage, &error),
        MigrateError::Claim(error) => store::claim_failure(error),
        MigrateError::Ledger(error) => store::ledger_failure(error),
        MigrateError::NotEmpty { .. }
        | MigrateError::Value { .. }
        | MigrateError::Different { .. }
        | MigrateError::Interrupted => Failure::from_chain(Code::Storage, &error),
    }
}

fn show(global: &Global, from: &Location, to: &Location, moved: &Moved) -> Result<(), Failure> {
    let digest: String = moved.digest.iter().map(|byte| format!("{byte:02x}")).collect();
    if global.json {
        let tables: serde_json::Map<_, _> =
            moved.tables.iter().map(|(name, rows)| ((*name).to_owned(), json!(rows))).collect();
        return present::print_json(
            &json!({ "from": from.to_string(), "to": to.to_string(), "rows": tables, "digest": digest }),
        );
    }
    let rows = moved.tables.iter().map(|(name, rows)| vec![(*name).to_owned(), present::count(*rows)]).collect();
    present::print(&format!(
        "{}\nread back and equal, BLAKE3 {digest}\n{from} is as it was. To go on with {to}, set ledger.url to it; the \
         archive and the key of [secrets] stay where they are.",
        present::table(&["table", "rows"], &["rows"], rows),
    ))
}
