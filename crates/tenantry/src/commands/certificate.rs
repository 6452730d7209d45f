//! `certificate new|show`: makes the app's key and certificate, and shows what Entra ID will ask of one.
//!
//! Never prints a private key, and never touches the configuration: it says what to write there.

use std::path::Path;

use chrono::SecondsFormat;
use serde_json::json;
use server::credential::{
    CertificateDetails, CertificateRequest, CredentialError, KeyState, NewCertificate, Password, inspect_certificate,
    new_certificate,
};

use super::store;
use crate::cli::{CertificateCommand, Global};
use crate::exit::{Code, Failure};
use crate::present;

/// The variable with the password of the file shown.
const PASSWORD_VARIABLE: &str = "TENANTRY_CERTIFICATE_PASSWORD";

pub(crate) fn run(global: &Global, command: &CertificateCommand) -> Result<(), Failure> {
    match command {
        CertificateCommand::New { out, bits, days, subject } => {
            let request = CertificateRequest { out, bits: *bits, days: *days, subject, now: store::now() };
            let made = new_certificate(&request).map_err(|error| Failure::from_chain(code_of(&error), &error))?;
            if global.json { present::print_json(&made_json(&made)) } else { present::print(&made_text(&made)) }
        }
        CertificateCommand::Show { file, password_file } => show(global, file, password_file.as_deref()),
    }
}

fn show(global: &Global, file: &Path, password_file: Option<&Path>) -> Result<(), Failure> {
    let from_variable = || std::env::var(PASSWORD_VARIABLE).ok().map(|text| Password::text(&text));
    let password = password_file.map(|path| Password::File(path.to_owned())).or_else(from_variable);
    let shown = inspect_certificate(file, password.as_ref())
        .map_err(|error| Failure::new(Code::Config, with_show_remedy(&error)))?;
    let (word, text) = match &shown.key {
        KeyState::Absent => ("absent", "none in this file: it can be uploaded as it is".to_owned()),
        KeyState::Belongs => ("belongs", "belongs to the certificate".to_owned()),
        KeyState::Encrypted => {
            ("encrypted", format!("encrypted; --password-file or {PASSWORD_VARIABLE} lets it be checked"))
        }
        KeyState::Unusable(error) => ("unusable", error.to_string()),
    };
    if global.json {
        let mut object = details_json(&shown.certificate);
        object.insert("file".to_owned(), json!(file.display().to_string()));
        object.insert("chain".to_owned(), json!(shown.chain));
        object.insert("private_key".to_owned(), json!(word));
        present::print_json(&object.into())?;
    } else {
        let mut rows = details_rows(&shown.certificate);
        if shown.chain > 0 {
            rows.push(("chain", format!("{} more certificate(s) behind it", shown.chain)));
        }
        rows.push(("private key", text));
        present::print(&aligned(&rows))?;
    }
    match shown.key {
        KeyState::Unusable(error) => Err(Failure::from_chain(Code::Config, &error)),
        KeyState::Absent | KeyState::Belongs | KeyState::Encrypted => Ok(()),
    }
}

/// Here the password is named by a flag, not by the configuration.
fn with_show_remedy(error: &CredentialError) -> String {
    match error {
        CredentialError::NoPassword { path } => format!(
            "{} is encrypted and no password is given; name a file with it as --password-file, or set {PASSWORD_VARIABLE}",
            path.display()
        ),
        other => other.to_string(),
    }
}

fn code_of(error: &CredentialError) -> Code {
    match error {
        CredentialError::KeyLength { .. }
        | CredentialError::Validity { .. }
        | CredentialError::Subject { .. }
        | CredentialError::Exists { .. } => Code::Usage,
        CredentialError::Unwritable { .. } => Code::Storage,
        _ => Code::Other,
    }
}

fn details_rows(details: &CertificateDetails) -> Vec<(&'static str, String)> {
    vec![
        ("subject", details.subject.clone()),
        ("issuer", details.issuer.clone()),
        ("serial", details.serial.clone()),
        ("valid from", details.not_before.to_rfc3339_opts(SecondsFormat::Secs, true)),
        (
            "valid until",
            format!("{} ({})", details.not_after.to_rfc3339_opts(SecondsFormat::Secs, true), left(details)),
        ),
        ("key", details.rsa_bits.map_or("not RSA: Entra ID will not take it".to_owned(), |bits| format!("RSA {bits}"))),
        ("SHA-1", details.sha1_hex()),
        ("SHA-1 base64url", format!("{} (x5t)", details.sha1_base64url())),
        ("SHA-256", details.sha256_hex()),
        ("SHA-256 base64url", format!("{} (x5t#S256)", details.sha256_base64url())),
    ]
}

fn left(details: &CertificateDetails) -> String {
    match (details.not_after - store::now()).num_days() {
        days if details.not_after < store::now() => format!("expired {} days ago", -days),
        days => format!("{days} days left"),
    }
}

fn details_json(details: &CertificateDetails) -> serde_json::Map<String, serde_json::Value> {
    let fields = json!({
        "subject": details.subject,
        "issuer": details.issuer,
        "serial": details.serial,
        "not_before": details.not_before.to_rfc3339_opts(SecondsFormat::Secs, true),
        "not_after": details.not_after.to_rfc3339_opts(SecondsFormat::Secs, true),
        "rsa_bits": details.rsa_bits,
        "sha1_hex": details.sha1_hex(),
        "sha1_base64url": details.sha1_base64url(),
        "sha256_hex": details.sha256_hex(),
        "sha256_base64url": details.sha256_base64url(),
        "custom_key_identifier": details.custom_key_identifier(),
        "certificate_pem": details.pem(),
    });
    match fields {
        serde_json::Value::Object(fields) => fields,
        _ => serde_json::Map::new(),
    }
}

fn made_json(made: &NewCertificate) -> serde_json::Value {
    let mut object = details_json(&made.details);
    object.insert("file".to_owned(), json!(made.path.display().to_string()));
    object.insert("upload".to_owned(), json!(made.public_path.display().to_string()));
    object.into()
}

fn made_text(made: &NewCertificate) -> String {
    let (path, public) = (made.path.display(), made.public_path.display());
    format!(
        "{details}\n\n\
         {path}  private key and certificate, for this program only\n\
         {public}  the certificate alone, to be uploaded\n\n\
         1. Upload {public} in the Entra admin center: App registrations, your app, Certificates & secrets, Certificates.\n   \
            The thumbprint shown there must be {thumbprint}. Leave an older certificate in place until this one is in use.\n\
         2. Write into tenantry.toml:\n\n\
         [[app.credential]]\nkind = \"certificate\"\npath = \"{path}\"\n\n\
         {pem}",
        details = aligned(&details_rows(&made.details)),
        thumbprint = made.details.sha1_hex(),
        pem = made.details.pem().trim_end(),
    )
}

fn aligned(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:width$}  {value}")).collect::<Vec<_>>().join("\n")
}
