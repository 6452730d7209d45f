//! `init` leaves a configuration that works and prints what has to be registered: registered as printed, it collects.

use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::TimeDelta;
use emulator::app::{AppCertificate, FederatedCredential, FederatedKey};
use emulator::entra::OutsideIssuer;
use emulator::{EmulatorOptions, WorldOptions, default_app};
use serde_json::Value;

use crate::support::{Home, Microsoft, on_time, said};

fn small(seed: u64) -> Microsoft {
    let world =
        WorldOptions { seed, tenants: 1, records_total: Some(300), lateness: on_time(), ..WorldOptions::default() };
    Microsoft::start(EmulatorOptions { world, ..EmulatorOptions::default() })
}

/// Runs `init` for an emulator, unattended.
fn init(home: &Home, microsoft: &Microsoft, seed: u64, more: &[&str]) -> std::process::Output {
    let (app, root) = (default_app(seed), microsoft.root());
    let (client_id, publisher_id) = (app.client_id.to_string(), app.home_tenant.to_string());
    let mut arguments = vec!["--json", "init", "--yes", "--cloud", "custom", "--login", &root, "--activity", &root];
    arguments.extend(["--client-id", &client_id, "--publisher-id", &publisher_id, "--bits", "2048"]);
    arguments.extend(more);
    home.run(&arguments)
}

#[test]
fn what_init_prints_is_what_has_to_be_registered_and_what_it_writes_collects() {
    let microsoft = small(3_301);
    let home = Home::empty();
    let output = init(&home, &microsoft, 3_301, &["--public-url", "https://audit.example.com"]);
    assert!(output.status.success(), "{}", said(&output));
    let sheet: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(sheet["redirect_uri"], "https://audit.example.com/consent/callback");
    let mode = |name: &str| std::fs::metadata(home.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("app.pem"), 0o600);
    assert!(!std::fs::read_to_string(home.path().join("app.crt")).unwrap().contains("PRIVATE KEY"));
    home.succeed(&["config", "check"]);

    // Registered from the printed manifest, and from nothing else.
    let entry = &sheet["keyCredentials"][0];
    let certificate = AppCertificate::from_der(&STANDARD.decode(entry["value"].as_str().unwrap()).unwrap()).unwrap();
    assert_eq!(entry["customKeyIdentifier"], STANDARD.encode(certificate.sha1));
    assert_eq!((entry["type"].as_str(), entry["usage"].as_str()), (Some("AsymmetricX509Cert"), Some("Verify")));
    assert!(entry["keyId"].as_str().unwrap().parse::<uuid::Uuid>().is_ok());
    assert_eq!(sheet["certificate"]["thumbprint"], certificate.thumbprint());
    microsoft.emulator.apps().update(default_app(3_301).client_id, |app| {
        app.secrets.clear();
        app.certificates.push(certificate);
    });
    home.succeed(&["tenant", "add", &microsoft.tenants()[0].to_string()]);
    home.succeed(&["collect", "--once"]);
    home.assert_holds_what_was_published(&microsoft, 3_301);
    home.succeed(&["doctor"]);
}

#[test]
fn nothing_is_overwritten_without_being_told_and_a_key_not_even_then() {
    let microsoft = small(3_302);
    let home = Home::empty();
    assert!(init(&home, &microsoft, 3_302, &[]).status.success());
    let read = |name: &str| std::fs::read_to_string(home.path().join(name)).unwrap();
    let (config, key) = (read("tenantry.toml"), read("app.pem"));
    let refused = init(&home, &microsoft, 3_302, &["--dlp", "no"]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(said(&refused).contains("--force"), "{}", said(&refused));
    assert_eq!(read("tenantry.toml"), config);
    let forced = init(&home, &microsoft, 3_302, &["--force", "--content-type", "Audit.Exchange"]);
    assert!(forced.status.success(), "{}", said(&forced));
    assert!(read("tenantry.toml").contains("content_types = [\"Audit.Exchange\"]"));
    assert_eq!(read("app.pem"), key);
    let sheet: Value = serde_json::from_slice(&forced.stdout).unwrap();
    assert_eq!(sheet["certificate"]["made"], false);
}

#[test]
fn without_a_terminal_every_missing_flag_is_named_and_nothing_is_made() {
    let home = Home::empty();
    let stderr = home.fail(&["init"], 2);
    for flag in ["--cloud", "--public-url", "--name", "--dlp", "--credential", "--client-id", "--publisher-id", "--yes"]
    {
        assert!(stderr.contains(flag), "{flag}: {stderr}");
    }
    let stderr = home.fail(&["init", "--yes", "--cloud", "custom"], 2);
    assert!(stderr.contains("--login") && stderr.contains("--client-id") && !stderr.contains("--dlp"), "{stderr}");
    for (flag, value) in [
        ("--cloud", "comercial"),
        ("--public-url", "http://audit.example.com"),
        ("--client-id", "contoso"),
        ("--dlp", "ja"),
    ] {
        let output = home.run(&["init", "--yes", "--prepare", flag, value]);
        assert_eq!(output.status.code(), Some(2), "{flag}: {}", said(&output));
        assert!(said(&output).contains(flag), "{}", said(&output));
    }
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn before_there_is_a_client_id_the_sheet_can_be_had_alone() {
    let home = Home::empty();
    let arguments = ["init", "--prepare", "--yes", "--bits", "2048", "--cloud", "gcc_high", "--public-url"];
    let sheet = home.succeed(&[&arguments[..], &["https://audit.example.com"]].concat());
    for words in [
        "https://portal.azure.us",
        "https://audit.example.com/consent/callback",
        "594c1fb6-4f81-4475-ae41-0c394909246c",
        "c5393580-f805-4401-95e8-94b7a6ef2fc2",
        "\"keyCredentials\"",
        "az cloud set --name AzureUSGovernment",
        "az ad app create",
        "https://graph.microsoft.us/v1.0/applications",
    ] {
        assert!(sheet.contains(words), "{words}: {sheet}");
    }
    assert!(!sheet.contains("PRIVATE KEY"));
    assert!(!home.path().join("tenantry.toml").exists() && home.path().join("app.pem").exists());
}

#[test]
fn a_configuration_in_another_folder_finds_what_lies_beside_it() {
    let microsoft = small(3_305);
    let home = Home::empty();
    let output = init(&home, &microsoft, 3_305, &["--out", "etc/audit/tenantry.toml"]);
    assert!(output.status.success(), "{}", said(&output));
    home.succeed(&["--config", "etc/audit/tenantry.toml", "config", "check"]);
    assert!(home.path().join("etc/audit/app.pem").exists());

    home.write("secret.txt", "a~secret");
    std::fs::set_permissions(home.path().join("secret.txt"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let output = init(&home, &microsoft, 3_305, &["--out", "with-secret.toml", "--secret-file", "secret.txt"]);
    assert!(output.status.success(), "{}", said(&output));
    home.succeed(&["--config", "with-secret.toml", "config", "check"]);
    assert!(!std::fs::read_to_string(home.path().join("with-secret.toml")).unwrap().contains("a~secret"));
}

/// The trust that a printed sheet asks for, with the issuer's keys as it publishes them.
fn printed_trust(sheet: &Value, issuer: &OutsideIssuer) -> FederatedCredential {
    let entry = &sheet["federatedIdentityCredentials"][0];
    let text = |name: &str| entry[name].as_str().unwrap().to_owned();
    assert_eq!(entry["audiences"].as_array().unwrap().len(), 1);
    FederatedCredential {
        issuer: text("issuer"),
        subject: text("subject"),
        audience: entry["audiences"][0].as_str().unwrap().to_owned(),
        jwks: Some(FederatedKey::of_set(&issuer.jwks())),
    }
}

#[test]
fn an_app_that_trusts_an_outside_issuer_is_set_up_unattended_and_collects() {
    const ISSUER: &str = "https://token.actions.example";
    const SUBJECT: &str = "repo:Contoso/collector:ref:refs/heads/main";
    let microsoft = small(3_306);
    let home = Home::empty();
    let federated = ["--token-file", "token.jwt", "--issuer", ISSUER, "--subject", SUBJECT];
    let output = init(&home, &microsoft, 3_306, &federated);
    assert!(output.status.success(), "{}", said(&output));
    let sheet: Value = serde_json::from_slice(&output.stdout).unwrap();
    for commands in ["az", "graph"] {
        let commands = sheet[commands].as_array().unwrap().iter().map(|line| line.as_str().unwrap());
        let line = commands.into_iter().find(|line| line.contains("ederated")).unwrap().to_owned();
        assert!(line.contains(ISSUER) && line.contains(SUBJECT) && line.contains("AzureADTokenExchange"), "{line}");
    }
    assert_eq!(sheet["keyCredentials"], serde_json::json!([]));
    assert!(!home.path().join("app.pem").exists(), "no key is made that nobody needs");

    let issuer = OutsideIssuer::new(ISSUER).unwrap();
    microsoft.emulator.apps().update(default_app(3_306).client_id, |app| {
        app.secrets.clear();
        app.federated.push(printed_trust(&sheet, &issuer));
    });
    let token =
        issuer.token(SUBJECT, FederatedCredential::AUDIENCE, microsoft.emulator.world().now(), TimeDelta::hours(1));
    home.write("token.jwt", &token.unwrap());
    home.succeed(&["config", "check"]);
    home.succeed(&["tenant", "add", &microsoft.tenants()[0].to_string()]);
    home.succeed(&["collect", "--once"]);
    home.assert_holds_what_was_published(&microsoft, 3_306);
    home.succeed(&["doctor"]);
}

#[test]
fn what_a_credential_needs_is_named_and_what_entra_id_would_refuse_is_refused() {
    let home = Home::empty();
    let prepare = ["init", "--prepare", "--yes"];
    for (flags, words) in [
        (&["--credential", "federated"][..], &["--issuer", "--subject"][..]),
        (&["--credential", "managed_identity"], &["--managed-identity", "--publisher-id"]),
        (&["--credential", "secret"], &["--secret-file"]),
        (&["--credential", "secret", "--certificate", "app.pem"], &["--credential"]),
        (&["--token-file", "t", "--secret-env", "S"], &["--token-file", "--secret-env"]),
        (&["--issuer", "http://oidc.example", "--subject", "s"], &["--issuer", "https"]),
        (&["--issuer", "https://oidc.example", "--subject", " s"], &["--subject", "blanks"]),
        (&["--managed-identity", "collector"], &["--managed-identity"]),
    ] {
        let output = home.run(&[&prepare[..], flags].concat());
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {}", said(&output));
        for word in words {
            assert!(said(&output).contains(word), "{flags:?}: {}", said(&output));
        }
    }
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
    let identity = ["--managed-identity", "33333333-3333-4333-8333-333333333333"];
    let publisher = ["--publisher-id", "46b472a7-c68e-4adf-8ade-3db49497518e", "--cloud", "gcc_high"];
    let sheet = home.succeed(&[&prepare[..], &identity, &publisher].concat());
    for words in [
        "https://login.microsoftonline.us/46b472a7-c68e-4adf-8ade-3db49497518e/v2.0",
        "33333333-3333-4333-8333-333333333333",
        "api://AzureADTokenExchangeUSGov",
        "federated-credential create",
    ] {
        assert!(sheet.contains(words), "{words}: {sheet}");
    }
}
