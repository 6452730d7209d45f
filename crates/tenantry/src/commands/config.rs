//! `config check` and `config show`: what is in force, and whether it can be used.
//!
//! Never prints a secret: it shows where one is read from.

use serde_json::json;
use server::credential::{CredentialError, CredentialSummary};
use server::settings::Credential;

use super::load;
use crate::cli::{ConfigCommand, Global};
use crate::exit::{Code, Failure};
use crate::present;

pub(crate) fn run(global: &Global, command: &ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Check => check(global),
        ConfigCommand::Show => show(global),
    }
}

fn check(global: &Global) -> Result<(), Failure> {
    let config = load(global)?;
    let settings = super::store::unchecked_settings(&config)?;
    let checked = super::store::check_credentials(&settings);
    // An expired one beside one that works is a rollover that nobody has tidied up; all else is a mistake.
    let is_usable = checked.iter().any(Result::is_ok);
    let fatal = checked.iter().find_map(|checked| {
        checked.as_ref().err().filter(|error| !(is_usable && matches!(error, CredentialError::Expired { .. })))
    });
    if let Some(error) = fatal
        && checked.len() == 1
    {
        return Err(Failure::from_chain(Code::Config, error));
    }
    let place = config.file().map_or("defaults and environment".to_owned(), |path| path.display().to_string());
    if global.json {
        let details: Vec<_> = settings.app.credentials.iter().zip(&checked).map(credential_json).collect();
        present::print_json(&json!({
            "ok": fatal.is_none(),
            "file": config.file().map(|path| path.display().to_string()),
            "credentials": checked.len(),
            "credential": details,
            "not_carried_out": config.not_carried_out(),
        }))?;
    } else {
        for note in config.not_carried_out() {
            tracing::warn!("{note}");
        }
        let mut text = format!(
            "{place}: {}. Cloud {}, {} content types, {} credential(s), data in {}",
            if fatal.is_none() { "good" } else { "not good" },
            config.cloud.name().as_str(),
            config.collect.content_types.len(),
            checked.len(),
            config.data_dir.display(),
        );
        for (number, (credential, checked)) in settings.app.credentials.iter().zip(&checked).enumerate() {
            text.push_str(&format!("\n  credential {number}: {}", credential_text(credential, checked)));
        }
        present::print(&text)?;
    }
    fatal.map_or(Ok(()), |error| Err(Failure::from_chain(Code::Config, error)))
}

fn credential_text(credential: &Credential, checked: &Result<CredentialSummary, CredentialError>) -> String {
    match checked {
        Err(error) => format!("{}: {error}", credential.kind()),
        Ok(summary) => {
            let expires = summary.expires.map(|expires| format!(", until {expires}")).unwrap_or_default();
            let thumbprint = summary.thumbprint.as_ref().map(|sha1| format!(", SHA-1 {sha1}")).unwrap_or_default();
            format!("{} from {}{expires}{thumbprint}", summary.kind, summary.place)
        }
    }
}

fn credential_json(
    (credential, checked): (&Credential, &Result<CredentialSummary, CredentialError>),
) -> serde_json::Value {
    match checked {
        Err(error) => json!({ "kind": credential.kind(), "place": credential.place(), "problem": error.to_string() }),
        Ok(summary) => json!({
            "kind": summary.kind,
            "place": summary.place,
            "expires": summary.expires.map(|expires| expires.to_rfc3339()),
            "sha1_hex": summary.thumbprint,
        }),
    }
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
