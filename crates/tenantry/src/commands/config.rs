//! `config check` and `config show`: what is in force, and whether it can be used.
//!
//! Never prints a secret: it shows where one is read from.

use serde_json::json;

use super::load;
use crate::cli::{ConfigCommand, Global};
use crate::exit::Failure;
use crate::present;

pub(crate) fn run(global: &Global, command: &ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Check => check(global),
        ConfigCommand::Show => show(global),
    }
}

fn check(global: &Global) -> Result<(), Failure> {
    let config = load(global)?;
    let settings = super::store::settings(&config)?;
    let place = config.file().map_or("defaults and environment".to_owned(), |path| path.display().to_string());
    if global.json {
        return present::print_json(&json!({
            "ok": true,
            "file": config.file().map(|path| path.display().to_string()),
            "credentials": settings.app.credentials.len(),
            "not_carried_out": config.not_carried_out(),
        }));
    }
    for note in config.not_carried_out() {
        tracing::warn!("{note}");
    }
    present::print(&format!(
        "{place}: good. Cloud {}, {} content types, {} credential(s), data in {}",
        config.cloud.name().as_str(),
        config.collect.content_types.len(),
        settings.app.credentials.len(),
        config.data_dir.display(),
    ))
}

fn show(global: &Global) -> Result<(), Failure> {
    let config = load(global)?;
    let rows = config.effective();
    if global.json {
        let keys: serde_json::Map<String, serde_json::Value> = rows
            .into_iter()
            .map(|(key, value, source)| {
                let source = source.map_or("default".to_owned(), |source| source.to_string());
                (key, json!({ "value": value, "from": source }))
            })
            .collect();
        return present::print_json(&keys.into());
    }
    let rows = rows
        .into_iter()
        .map(|(key, value, source)| vec![key, value, source.map_or("default".to_owned(), |source| source.to_string())])
        .collect();
    present::print(&present::table(&["key", "value", "from"], &[], rows))
}
