//! `init`: from nothing to a configuration that works, and everything to enter in Entra ID.
//!
//! Never overwrites a configuration without being told, and a key or certificate not even then; never asks for a secret.
//! The texts about Entra ID are `protocol::registration`'s.

mod answers;
mod ask;
mod toml_text;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use server::credential::{CertificateDetails, CertificateRequest, KeyState, inspect_certificate, new_certificate};
use server::protocol::registration::{RESOURCE_NAME, RegisteredCertificate, Registration, RegistrationCommand};
use server::protocol::token::OFFICE_365_MANAGEMENT_APIS;
use uuid::Uuid;

use self::answers::{Answers, Identity, Proof};
use self::ask::Questions;
use super::store;
use crate::cli::{Global, InitArgs};
use crate::config::Config;
use crate::exit::{Code, Failure};
use crate::present;

pub(crate) fn run(global: &Global, args: InitArgs) -> Result<(), Failure> {
    let out = args.out.clone().or_else(|| global.config.clone()).unwrap_or_else(|| PathBuf::from("tenantry.toml"));
    if !args.prepare && !args.force && out.symlink_metadata().is_ok() {
        return Err(Failure::new(
            Code::Usage,
            format!(
                "{} exists already and is not overwritten: add --force to replace it, or write another one with --out FILE",
                out.display()
            ),
        ));
    }
    let stdin = std::io::stdin();
    let is_terminal = stdin.is_terminal();
    let (mut input, mut output) = (stdin.lock(), std::io::stderr());
    let mut questions = Questions { input: &mut input, output: &mut output, is_terminal, takes_defaults: args.yes };
    questions.check_all_can_be_answered(&args)?;
    let folder = out.parent().map(Path::to_owned).unwrap_or_default();
    let answers = answers::gather(&mut questions, &args, &folder)?;
    let certificate = match &answers.proof {
        Proof::Certificate(path) => Some(certificate(path, &args)?),
        Proof::SecretFile(_) | Proof::SecretVariable(_) | Proof::Federated(..) | Proof::ManagedIdentity(..) => None,
    };
    let redirect_uri = answers.redirect_uri();
    let registration = Registration {
        cloud: &answers.cloud,
        display_name: &answers.name,
        redirect_uri: redirect_uri.as_deref(),
        dlp: answers.dlp,
        certificate: certificate.as_ref().map(|(certificate, _)| certificate),
        federated: match &answers.proof {
            Proof::Federated(_, federated) | Proof::ManagedIdentity(_, federated) => Some(federated),
            Proof::Certificate(_) | Proof::SecretFile(_) | Proof::SecretVariable(_) => None,
        },
    };
    if !global.json {
        present::print(&registration.instructions())?;
    }
    if args.prepare {
        let next = ["tenantry init --client-id ID --publisher-id ID".to_owned()];
        return conclude(global, &registration, certificate.as_ref(), None, &next);
    }
    let identity = answers::identity(&mut questions, &args, &answers)?;
    write(global, &out, &folder, &answers, &identity, &args)?;
    conclude(global, &registration, certificate.as_ref(), Some(&out), &next_steps(&out, &answers))
}

/// The certificate at `path`, made when it is not there, and whether it was made.
fn certificate(path: &Path, args: &InitArgs) -> Result<(RegisteredCertificate, bool), Failure> {
    let wrong = |error: server::credential::CredentialError| Failure::from_chain(Code::Config, &error);
    if path.symlink_metadata().is_err() {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| unwritable(folder, &error))?;
        }
        let request =
            CertificateRequest { out: path, bits: args.bits, days: args.days, subject: "Tenantry", now: store::now() };
        let made = new_certificate(&request).map_err(wrong)?;
        return Ok((registered(&made.details, &made.public_path), true));
    }
    let found = inspect_certificate(path, None).map_err(wrong)?;
    match found.key {
        KeyState::Belongs => {}
        KeyState::Unusable(error) => return Err(wrong(error)),
        KeyState::Absent | KeyState::Encrypted => {
            return Err(Failure::new(
                Code::Config,
                format!(
                    "{} is there and holds no private key that can be used as it is; give another --certificate FILE, or \
                     write the configuration by hand",
                    path.display()
                ),
            ));
        }
    }
    // What is uploaded must not be the file with the key in it.
    let public = path.with_extension("crt");
    if public.symlink_metadata().is_err() {
        std::fs::write(&public, found.certificate.pem()).map_err(|error| unwritable(&public, &error))?;
    }
    Ok((registered(&found.certificate, &public), false))
}

fn registered(details: &CertificateDetails, public: &Path) -> RegisteredCertificate {
    RegisteredCertificate {
        subject: details.subject.clone(),
        der: details.der.clone(),
        sha1: details.thumbprint.sha1,
        not_before: details.not_before,
        not_after: details.not_after,
        key_id: Uuid::new_v4(),
        file: public.display().to_string(),
    }
}

/// Writes the configuration, and reads it back as `config check` would.
fn write(
    global: &Global,
    out: &Path,
    folder: &Path,
    answers: &Answers,
    identity: &Identity,
    args: &InitArgs,
) -> Result<(), Failure> {
    let data_dir = global.data_dir.clone().unwrap_or_else(|| PathBuf::from("data"));
    let text = toml_text::write(answers, identity, &args.content_type, &data_dir, folder);
    if !folder.as_os_str().is_empty() {
        std::fs::create_dir_all(folder).map_err(|error| unwritable(folder, &error))?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true);
    if args.force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let mut file = options.open(out).map_err(|error| unwritable(out, &error))?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(|error| unwritable(out, &error))?;
    let config = Config::load(Some(out), None, std::env::vars())?;
    match &answers.proof {
        // It may be there only where the collector runs.
        Proof::SecretVariable(_) | Proof::Federated(..) | Proof::ManagedIdentity(..) => {
            config.app().map(|_| ()).map_err(Failure::from)
        }
        Proof::Certificate(_) | Proof::SecretFile(_) => store::settings(&config).map(|_| ()),
    }
}

fn conclude(
    global: &Global,
    registration: &Registration<'_>,
    certificate: Option<&(RegisteredCertificate, bool)>,
    out: Option<&Path>,
    next: &[String],
) -> Result<(), Failure> {
    if global.json {
        return present::print_json(&to_json(registration, certificate, out, next));
    }
    let mut text = String::new();
    if let Some(out) = out {
        text.push_str(&format!("{} is written.\n", out.display()));
    }
    if let Some((certificate, is_new)) = certificate {
        let what = if *is_new { "made" } else { "used as it was found" };
        text.push_str(&format!(
            "The certificate is {what}; upload {}, and keep the key's file here.\n",
            certificate.file
        ));
    }
    text.push_str("Next:\n");
    for line in next {
        text.push_str(&format!("  {line}\n"));
    }
    present::print(text.trim_end())
}

fn next_steps(out: &Path, answers: &Answers) -> Vec<String> {
    let program = if out == Path::new("tenantry.toml") {
        "tenantry".to_owned()
    } else {
        format!("tenantry --config {}", out.display())
    };
    let mut steps = vec![format!("{program} config check")];
    if answers.public_url.is_some() {
        steps.push(format!("{program} serve, then {program} consent-link: send the link to a customer's admin"));
    }
    steps.push(format!("{program} tenant add ID, for a tenant whose admin has consented"));
    steps.push(format!("{program} doctor"));
    steps
}

fn to_json(
    registration: &Registration<'_>,
    certificate: Option<&(RegisteredCertificate, bool)>,
    out: Option<&Path>,
    next: &[String],
) -> Value {
    let commands = |commands: Vec<RegistrationCommand>| -> Vec<String> {
        commands.into_iter().map(|command| command.line).collect()
    };
    let permissions: Vec<Value> = registration
        .permissions()
        .iter()
        .map(|permission| {
            json!({
                "resource": RESOURCE_NAME,
                "resource_app_id": OFFICE_365_MANAGEMENT_APIS,
                "name": permission.name,
                "id": permission.id,
                "type": "Role",
            })
        })
        .collect();
    json!({
        "config": out.map(|path| path.display().to_string()),
        "portal": registration.portal(),
        "display_name": registration.display_name,
        "redirect_uri": registration.redirect_uri,
        "permissions": permissions,
        "certificate": certificate.map(|(certificate, is_new)| json!({
            "upload": certificate.file,
            "made": is_new,
            "subject": certificate.subject,
            "thumbprint": certificate.thumbprint(),
            "not_after": certificate.not_after.to_rfc3339(),
        })),
        "keyCredentials": registration.key_credentials(),
        "federatedIdentityCredentials": registration.federated.iter().map(|one| one.to_json()).collect::<Value>(),
        "requiredResourceAccess": registration.required_resource_access(),
        "graph_application": registration.graph_application(),
        "az": commands(registration.az_commands()),
        "graph": commands(registration.graph_commands()),
        "next": next,
    })
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(
        Code::Storage,
        format!("cannot write {}: {error}; choose another place or mend its permissions", path.display()),
    )
}
