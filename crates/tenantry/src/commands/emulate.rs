//! `emulate`: Microsoft's side on this machine, for any client, until Ctrl-C.
//!
//! Never touches the collector's ledger or archive.

use std::path::Path;

use emulator::app::AppCertificate;
use emulator::tls::TlsAcceptor;
use emulator::tls::{CertificateAuthority, default_names};
use emulator::{DEFAULT_SECRET, Emulator, EmulatorError, EmulatorOptions, FaultPlan, WorldOptions, default_app};
use serde_json::json;

use super::collect::stop_signal;
use crate::cli::{EmulateArgs, Global};
use crate::exit::{Code, Failure};
use crate::present;

pub(crate) async fn run(global: &Global, args: EmulateArgs) -> Result<(), Failure> {
    let stopping = stop_signal();
    let world = world_of(&args)?;
    let seed = world.seed;
    let mut app = default_app(seed);
    if let Some(client_id) = args.client_id {
        app.client_id = client_id;
    }
    let secret = match &args.client_secret_file {
        Some(path) => read(path, "the client secret")?.trim().to_owned(),
        None => DEFAULT_SECRET.to_owned(),
    };
    app.secrets.clear();
    let mut app = app.with_secret(&secret);
    for path in &args.certificate {
        let certificate = AppCertificate::from_pem(&read(path, "the certificate")?)
            .map_err(|error| Failure::new(Code::Config, format!("{}: {}", path.display(), chain(&error))))?;
        app = app.with_certificate(certificate);
    }
    let client_id = app.client_id;
    let publisher_id = app.home_tenant;
    let faults = fault_plan(&args.faults, seed)?;
    let options = EmulatorOptions { world, apps: vec![app], faults, ..EmulatorOptions::default() };
    let emulator = Emulator::new(options).map_err(failure)?;
    let tls = match args.tls_listen {
        None => None,
        Some(address) => Some((address, authority(args.ca_dir.as_deref())?)),
    };
    let ca = tls.as_ref().map(|(_, (_, path))| path.clone());
    let listeners = tls.map(|(address, (acceptor, _))| (address, acceptor));
    let running = emulator.start(args.listen, listeners).await.map_err(failure)?;

    let root = format!("http://{}", running.addr());
    let control = format!("{root}/_emulator");
    if global.json {
        let mut about = emulator.about();
        about["listen"] = json!(running.addr().to_string());
        about["tls_listen"] = json!(running.tls_addr().map(|address| address.to_string()));
        about["ca"] = json!(ca.map(|path| path.display().to_string()));
        about["login"] = json!(root);
        about["activity"] = json!(root);
        about["control"] = json!(control);
        about["client_id"] = json!(client_id);
        about["client_secret"] = json!(secret);
        about["publisher_id"] = json!(publisher_id);
        // One line, so that whoever started us can read it and go on.
        present::print(&about.to_string())?;
    } else {
        present::print(&describe(&emulator, &root, &client_id.to_string(), &secret, &publisher_id.to_string()))?;
        if let (Some(address), Some(ca)) = (running.tls_addr(), ca) {
            present::print(&format!(
                "HTTPS on {address}, for Microsoft's host names, with the CA in {}\n\
                 Point a client here by name: 127.0.0.1 login.microsoftonline.com manage.office.com in its hosts file,\n\
                 and its trust store to that CA (SSL_CERT_FILE, REQUESTS_CA_BUNDLE, NODE_EXTRA_CA_CERTS).",
                ca.display()
            ))?;
        }
    }
    stopping.await;
    running.stop().await;
    Ok(())
}

/// What the world file says, and what the command line says instead.
fn world_of(args: &EmulateArgs) -> Result<WorldOptions, Failure> {
    let mut world = match &args.world {
        Some(path) => WorldOptions::parse(&read(path, "the world file")?)
            .map_err(|error| Failure::new(Code::Config, format!("{}: {}", path.display(), chain(&error))))?,
        None => WorldOptions { seed: 2026, live_rate: 30.0, ..WorldOptions::default() },
    };
    world.seed = args.seed.unwrap_or(world.seed);
    if let Some(tenants) = args.tenants {
        world.tenants = usize::try_from(tenants).unwrap_or(usize::MAX);
    }
    if !args.records.is_empty() {
        world.records_files.clone_from(&args.records);
    }
    Ok(world)
}

/// The plan of a file, or of a preset's name.
pub(crate) fn fault_plan(name: &str, seed: u64) -> Result<FaultPlan, Failure> {
    if let Ok(plan) = FaultPlan::preset(name, seed) {
        return Ok(plan);
    }
    let path = Path::new(name);
    if !path.exists() {
        return Err(Failure::new(
            Code::Config,
            format!(
                "there is no fault plan {name:?}: give a TOML file, or one of the presets ten-percent, demo and none"
            ),
        ));
    }
    let mut plan = FaultPlan::parse(&read(path, "the fault plan")?)
        .map_err(|error| Failure::new(Code::Config, format!("{}: {}", path.display(), chain(&error))))?;
    if plan.seed == 0 {
        plan.seed = seed;
    }
    Ok(plan)
}

pub(crate) fn failure(error: EmulatorError) -> Failure {
    let code = match &error {
        EmulatorError::World(_) => Code::Config,
        EmulatorError::Listen { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => Code::Busy,
        EmulatorError::Listen { .. } => Code::Config,
        EmulatorError::Key(_) => Code::Other,
    };
    Failure::from_chain(code, &error)
}

fn authority(folder: Option<&Path>) -> Result<(TlsAcceptor, std::path::PathBuf), Failure> {
    let wrong = |error: emulator::tls::TlsError| {
        let code = if let emulator::tls::TlsError::File { .. } = error { Code::Storage } else { Code::Config };
        Failure::from_chain(code, &error)
    };
    let default = std::env::temp_dir().join(format!("tenantry-emulator-ca-{}", std::process::id()));
    let folder = folder.unwrap_or(&default);
    let authority = CertificateAuthority::load_or_create(folder).map_err(wrong)?;
    let acceptor = authority.acceptor(&default_names()).map_err(wrong)?;
    Ok((acceptor, std::path::absolute(folder.join("ca.pem")).unwrap_or_else(|_| folder.join("ca.pem"))))
}

fn read(path: &Path, what: &str) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::new(Code::Config, format!("cannot read {what} in {}: {error}", path.display())))
}

fn chain(error: &dyn std::error::Error) -> String {
    Failure::from_chain(Code::Config, error).message
}

fn describe(emulator: &Emulator, root: &str, client_id: &str, secret: &str, publisher_id: &str) -> String {
    let about = emulator.about();
    let mut text = format!(
        "Microsoft's side is at {root} (control: {root}/_emulator/about)\n\n\
         A collector's tenantry.toml:\n\n\
         [app]\nclient_id    = \"{client_id}\"\npublisher_id = \"{publisher_id}\"\n\
         [cloud]\nname     = \"custom\"\nlogin    = \"{root}\"\nactivity = \"{root}\"\n\n\
         with TENANTRY_APP__CLIENT_SECRET='{secret}'\n\nTenants:\n"
    );
    for tenant in about["tenants"].as_array().into_iter().flatten() {
        text.push_str(&format!(
            "  {}  {} ({} users)\n",
            tenant["id"].as_str().unwrap_or_default(),
            tenant["name"].as_str().unwrap_or_default(),
            tenant["seats"]
        ));
    }
    text.push_str("\nCtrl-C ends it.");
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn world(more: &[&str]) -> (u64, usize, Option<u64>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("world.toml");
        std::fs::write(&file, "seed = 9\ntenants = 5\nrecords_total = 70\n").unwrap();
        let file = file.to_str().unwrap();
        let words = ["tenantry", "emulate"].iter().chain(more).map(|word| if *word == "FILE" { file } else { word });
        let Command::Emulate(args) = Cli::try_parse_from(words).unwrap().command else { panic!("another command") };
        let world = world_of(&args).unwrap();
        (world.seed, world.tenants, world.records_total)
    }

    #[test]
    fn the_command_line_comes_before_the_world_file_and_that_before_what_is_usual() {
        assert_eq!(world(&[]), (2026, 3, None));
        assert_eq!(world(&["--world", "FILE"]), (9, 5, Some(70)));
        assert_eq!(world(&["--world", "FILE", "--seed", "2026", "--tenants", "3"]), (2026, 3, Some(70)));
        assert_eq!(world(&["--seed", "1"]), (1, 3, None));
    }
}
