//! `secrets status|rotate|reset`: the key that seals what is secret in the ledger.
//!
//! Never shows a key or a secret: keys go by their ids, secrets by their names.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use server::instance::{InstanceError, InstanceLock};
use server::safe::{IN_FLIGHT, Safe, SealedEntry};
use server::vault::{KeySource, Vault};

use super::{load, store};
use crate::cli::{Global, SecretsCommand};
use crate::config::Config;
use crate::exit::{Code, Failure};
use crate::present;

pub(crate) async fn run(global: &Global, command: &SecretsCommand) -> Result<(), Failure> {
    let config = load(global)?;
    match command {
        SecretsCommand::Status => status(global, &config).await,
        SecretsCommand::Rotate => rotate(global, &config).await,
        SecretsCommand::Reset { yes } => reset(global, &config, *yes).await,
    }
}

async fn status(global: &Global, config: &Config) -> Result<(), Failure> {
    let source = store::key_source(config);
    let place = place_of(&source);
    let vault = Vault::load_existing(source).map_err(|error| Failure::from_chain(Code::Config, &error))?;
    let keys = vault.key_ids();
    let entries = if store::has_ledger(config)? {
        let safe = Safe::new(Arc::new(vault), store::open_ledger_read_only(config)?);
        safe.entries().await.map_err(store::safe_failure)?
    } else {
        Vec::new()
    };
    let count = |key| entries.iter().filter(|entry| entry.key == Some(key)).count();
    let unopened: Vec<&str> = entries.iter().filter(|entry| !entry.opens).map(|entry| entry.name.as_str()).collect();
    if global.json {
        let keys: Vec<_> = keys.iter().map(|key| json!({ "id": key.to_string(), "sealed": count(*key) })).collect();
        present::print_json(&json!({ "keys_from": place, "keys": keys, "unopened": unopened }))?;
    } else {
        let rows = keys
            .iter()
            .enumerate()
            .map(|(index, key)| {
                let role = if index == 0 { "seals and opens" } else { "opens" };
                vec![key.to_string(), role.to_owned(), present::count(count(*key) as u64)]
            })
            .collect();
        present::print(&format!(
            "keys from {place}\n{}",
            present::table(&["key", "does", "sealed"], &["sealed"], rows)
        ))?;
    }
    lost(&entries)
}

async fn rotate(global: &Global, config: &Config) -> Result<(), Failure> {
    let ledger = store::open_ledger(config)?;
    let safe = store::safe(config, ledger)?;
    // While nobody collects, nobody may begin to; a running collector takes the new key by itself.
    let lock = InstanceLock::acquire(&config.data_dir);
    let beside = match &lock {
        Ok(_) => Duration::ZERO,
        Err(InstanceError::Running { .. }) => {
            tracing::info!(
                wait_s = IN_FLIGHT.as_secs(),
                "a collector is running: waiting for what it seals at this moment"
            );
            IN_FLIGHT
        }
        Err(error) => return Err(Failure::from_chain(Code::Storage, error)),
    };
    let rotated = safe.rotate(beside).await.map_err(store::safe_failure)?;
    let source = store::key_source(config);
    if global.json {
        present::print_json(&json!({
            "key": rotated.key.to_string(),
            "resumed": rotated.resumed,
            "resealed": rotated.resealed,
            "dropped": rotated.dropped,
            "unopened": rotated.unopened,
        }))?;
    } else {
        let mut text =
            format!("{} value(s) sealed anew with the key {}", present::count(rotated.resealed), rotated.key);
        match &source {
            KeySource::File(path) => text.push_str(&format!(
                "; {} older key(s) dropped from {}: renew its copy",
                rotated.dropped,
                path.display()
            )),
            KeySource::Variable { name, .. } if rotated.resumed => {
                text.push_str(&format!("; the older keys can be taken out of {name} now"));
            }
            KeySource::Variable { name, .. } => text.push_str(&format!(
                "; nothing else was to be done: to renew the key, put a fresh one (`openssl rand -base64 32`) and a comma in \
                 front of what {name} holds, restart the collector, and run this again"
            )),
        }
        present::print(&text)?;
    }
    if rotated.unopened.is_empty() { Ok(()) } else { Err(unopened(&rotated.unopened)) }
}

async fn reset(global: &Global, config: &Config, yes: bool) -> Result<(), Failure> {
    let ledger = store::open_ledger(config)?;
    let safe = store::safe(config, ledger)?;
    let forgotten = if yes {
        safe.forget_unopened().await.map_err(store::safe_failure)?
    } else {
        let entries = safe.entries().await.map_err(store::safe_failure)?;
        entries.into_iter().filter(|entry| !entry.opens).map(|entry| entry.name).collect()
    };
    if global.json {
        return present::print_json(&json!({ "done": yes, "forgotten": forgotten }));
    }
    let names = if forgotten.is_empty() { "nothing".to_owned() } else { forgotten.join(", ") };
    present::print(&if yes {
        format!("forgotten: {names}")
    } else {
        format!("would forget: {names}; add --yes to do it")
    })
}

fn place_of(source: &KeySource) -> String {
    match source {
        KeySource::File(path) => path.display().to_string(),
        KeySource::Variable { name, .. } => format!("the variable {name}"),
    }
}

fn lost(entries: &[SealedEntry]) -> Result<(), Failure> {
    let names: Vec<String> = entries.iter().filter(|entry| !entry.opens).map(|entry| entry.name.clone()).collect();
    if names.is_empty() { Ok(()) } else { Err(unopened(&names)) }
}

fn unopened(names: &[String]) -> Failure {
    Failure::new(
        Code::Config,
        format!(
            "{} sealed value(s) cannot be opened with the keys at hand ({}): bring the key back from its copy, behind the \
             present one; if it is lost, `tenantry secrets reset` forgets them",
            names.len(),
            names.join(", ")
        ),
    )
}
