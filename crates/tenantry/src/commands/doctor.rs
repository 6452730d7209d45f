//! `doctor`: a check-up of everything from the configuration to a listed window.
//!
//! Never decides what is well: `server::doctor` does; here its steps are printed as they are taken.

use serde_json::json;
use server::clock::SystemClock;
use server::doctor::{App, Cause, Report, Status, Step, Subject, examine};
use server::settings::Credential;

use super::{load, store};
use crate::cli::{DoctorArgs, Global};
use crate::config::Config;
use crate::exit::{Code, Failure};
use crate::present;

pub(crate) async fn run(global: &Global, args: &DoctorArgs) -> Result<(), Failure> {
    let mut printed = Ok(());
    let mut tell = |step: &Step| {
        if !global.json && printed.is_ok() {
            printed = present::print(&describe(step));
        }
    };
    let report = match load(global) {
        Ok(config) => check_up(&config, args, &mut tell).await,
        Err(failure) => {
            let step = Step::failed("configuration", "", Cause::Configuration, failure.message)
                .explained("without a configuration there is nothing to look at", "do what the message says");
            tell(&step);
            Report { steps: vec![step] }
        }
    };
    printed?;
    if global.json {
        present::print_json(&json!({
            "outcome": report.outcome(),
            "tenant_id": args.tenant,
            "steps": serde_json::to_value(&report.steps).map_err(|error| Failure::new(Code::Other, error))?,
        }))?;
    }
    conclude(&report)
}

async fn check_up(config: &Config, args: &DoctorArgs, tell: &mut (dyn FnMut(&Step) + Send)) -> Report {
    let place = config.file().map_or("defaults and environment".to_owned(), |path| path.display().to_string());
    let mut before = Vec::new();
    match config.app() {
        Ok(_) => before.push(Step::ok(
            "configuration",
            &place,
            format!(
                "the {} cloud, {} content type(s)",
                config.cloud.name().as_str(),
                config.collect.content_types.len()
            ),
        )),
        Err(error) => {
            before.push(Step::failed("configuration", &place, Cause::Configuration, error.to_string()).explained(
                "nothing can be asked of Microsoft",
                "`tenantry init` writes a configuration with all it needs",
            ))
        }
    }
    let credentials = credentials(config, &mut before);
    let app = config.app().ok().map(|app| App {
        client_id: app.client_id,
        publisher_id: app.publisher_id,
        token_endpoint: app.token_endpoint,
        credentials: &credentials,
    });
    let public_url = config.public.as_ref().map(|public| public.url.to_string());
    let ledger = store::location(config);
    let archive = store::archive_options(config).map_err(|failure| failure.message);
    let subject = Subject {
        cloud: &config.cloud,
        app,
        content_types: &config.collect.content_types,
        tile: config.collect.tile,
        data_dir: &config.data_dir,
        ledger: &ledger,
        archive: &archive,
        tables: config.tables.is_some(),
        keys: store::key_source(config),
        console: config.console_listen,
        public_url: public_url.as_deref(),
        tenant: args.tenant,
        clock: &SystemClock,
    };
    examine(&subject, before, tell).await
}

/// Each credential by the name `config show` gives it; one that cannot be read is a step of its own.
fn credentials(config: &Config, steps: &mut Vec<Step>) -> Vec<(String, Option<Credential>)> {
    let Ok(app) = config.app() else { return Vec::new() };
    let names = config.effective().into_iter().filter(|(key, ..)| key.starts_with("app.credential."));
    let mut credentials = Vec::new();
    for (source, (_, name, _)) in app.credentials.iter().zip(names) {
        match store::credential(source, app.assertion) {
            Ok(credential) => credentials.push((name, Some(credential))),
            Err(failure) => {
                steps.push(Step::failed("credential", &name, Cause::Configuration, failure.message).explained(
                    "the app cannot prove itself with it, and the collector does not start",
                    "do what the message says",
                ));
                credentials.push((name, None));
            }
        }
    }
    credentials
}

fn describe(step: &Step) -> String {
    let status = match step.status {
        Status::Ok => "ok",
        Status::Warning => "WARN",
        Status::Failed => "FAIL",
        Status::Skipped => "skip",
    };
    let subject = if step.of.is_empty() { String::new() } else { format!(" ({})", step.of) };
    let mut text = format!("{status:<4}  {}{subject}: {}", step.step, step.result);
    if !step.means.is_empty() {
        text.push_str(&format!("\n        means  {}", step.means));
    }
    if !step.mend.is_empty() {
        text.push_str(&format!("\n        mend   {}", step.mend));
    }
    text
}

/// The exit code is that of the first step that failed: what failed after it may be its consequence.
fn conclude(report: &Report) -> Result<(), Failure> {
    let Some(step) = report.first_failure() else { return Ok(()) };
    let code = match step.cause {
        Some(Cause::Configuration) => Code::Config,
        Some(Cause::Storage) => Code::Storage,
        Some(Cause::Unreachable) => Code::Incomplete,
        Some(Cause::Refused) => Code::Refused,
        None => Code::Other,
    };
    let failed = report.steps.iter().filter(|step| step.status == Status::Failed).count();
    Err(Failure::new(code, format!("{failed} step(s) failed, {} first: {}", step.step, step.result)))
}
