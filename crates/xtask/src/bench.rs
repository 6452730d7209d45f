//! `cargo xtask bench`: what a million records cost, against the floor of what they must cost, and how fast SQL answers.
//!
//! Three programs of their own run one after the other on this machine: the emulator (whose work is not counted, and which
//! has made all its answers before anything is measured), the floor (`crates/tenantry/examples/bench_floor.rs`: download,
//! inflate, zstd level 3, and nothing else), and `tenantry collect --once` into a fresh folder. Never reports
//! figures of an archive that does not hold what was published.

mod child;
mod emulator;
mod figures;
mod options;
mod proc;
mod queries;
mod report;
mod webhook;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use self::child::Measured;
use self::emulator::Emulator;
use self::figures::{Floor, Product, Report};
pub use self::options::{HELP, Options};

/// The two programs.
struct Programs {
    tenantry: PathBuf,
    floor: PathBuf,
}

/// Builds, measures, prints; `false` when the archive is not what was published, or memory went over its limit.
///
/// # Errors
/// When something cannot be built, started or read.
pub fn run(arguments: &[&str]) -> anyhow::Result<bool> {
    if let ["--webhook", rest @ ..] = arguments {
        return webhook::run(rest);
    }
    let Some(options) = Options::parse(arguments)? else {
        println!("{HELP}");
        return Ok(true);
    };
    let root = crate::workspace_root()?;
    let target = crate::target_folder(&root)?;
    let programs = build(&root, &target, &options.profile)?;
    let folder = target.join("bench");
    fresh(&folder)?;
    let report = measure(&options, &programs, &folder);
    // What was collected is large and told; only after a failure is it worth a look.
    if report.as_ref().is_ok_and(Report::is_good) {
        let _ = std::fs::remove_dir_all(&folder);
    }
    let report = report?;
    if options.json {
        println!("{:#}", report.to_json());
    } else {
        println!("{}", report.to_text());
    }
    Ok(report.is_good())
}

fn build(root: &Path, target: &Path, profile: &str) -> anyhow::Result<Programs> {
    eprintln!("building the programs with the profile {profile}");
    let mut cargo = crate::cargo(root);
    cargo.args([
        "build",
        "--profile",
        profile,
        "--package",
        "tenantry",
        "--bin",
        "tenantry",
        "--example",
        "bench_floor",
    ]);
    let status = cargo.status().context("cargo cannot be started")?;
    ensure!(status.success(), "the programs do not build");
    // The one profile whose folder has another name.
    let folder = target.join(if profile == "dev" { "debug" } else { profile });
    let suffix = std::env::consts::EXE_SUFFIX;
    Ok(Programs {
        tenantry: folder.join(format!("tenantry{suffix}")),
        floor: folder.join("examples").join(format!("bench_floor{suffix}")),
    })
}

fn measure(options: &Options, programs: &Programs, folder: &Path) -> anyhow::Result<Report> {
    let emulator = Emulator::start(&programs.tenantry, options, folder)?;
    let published = emulator.published()?;
    eprintln!("{} records in {} contents are published", published.records, published.contents);
    // The first download is not counted: the emulator makes its answers then, and keeps them.
    run_floor(programs, &emulator, folder)?;
    let mut report = Report::new(options, published);
    for round in 1..=options.rounds {
        report.floors.push(run_floor(programs, &emulator, folder)?);
        eprintln!("round {round} of {}: floor {:.2} CPU s", options.rounds, report.floors[round - 1].cpu_seconds);
        let home = folder.join(format!("round-{round}"));
        report.products.push(run_product(programs, &emulator, &home, &report)?);
        let product = &report.products[round - 1];
        eprintln!("round {round} of {}: tenantry {:.2} CPU s", options.rounds, product.measured.cpu_seconds);
        if round < options.rounds {
            fresh(&home)?;
        }
    }
    drop(emulator);
    let home = folder.join(format!("round-{}", options.rounds));
    report.queries = queries::run(&programs.tenantry, &home)?;
    report.archived = queries::count(&programs.tenantry, &home)?;
    Ok(report)
}

fn run_floor(programs: &Programs, emulator: &Emulator, folder: &Path) -> anyhow::Result<Floor> {
    let mut command = std::process::Command::new(&programs.floor);
    command.arg(emulator.about_file());
    let (_, text) = child::run(command, &folder.join("floor.json"), |_| None)?;
    Floor::read(&text)
}

fn run_product(programs: &Programs, emulator: &Emulator, home: &Path, report: &Report) -> anyhow::Result<Product> {
    fresh(home)?;
    std::fs::write(home.join("tenantry.toml"), emulator.collector_config())?;
    write_private(&home.join("secret.txt"), emulator.client_secret())?;
    for tenant in emulator.tenants() {
        child::succeed(child::command(&programs.tenantry, home).args(["tenant", "add", tenant]))?;
    }
    emulator.forget_requests()?;
    let contents = report.published.contents;
    let mut command = child::command(&programs.tenantry, home);
    command.args(["--json", "collect", "--once"]);
    // Asked of the emulator, so that the program under measurement does nothing it would not do otherwise.
    let progress = |elapsed: usize| {
        // Every few samples is enough, and costs the machine less.
        elapsed
            .is_multiple_of(4)
            .then(|| emulator.blobs_served().ok())
            .flatten()
            .map(|blobs| blobs as f64 / contents as f64)
    };
    let (measured, text): (Measured, String) = child::run(command, &home.join("report.json"), progress)?;
    let told: Value = serde_json::from_str(&text).context("collect --json did not answer")?;
    if told["complete"] != true {
        bail!("the run was not complete: {told}");
    }
    Ok(Product::new(measured, &told))
}

fn fresh(folder: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("{} cannot be removed", folder.display()));
        }
        _ => {}
    }
    std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))
}

/// The program refuses a secret that others can read.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    std::fs::write(path, text)?;
    #[cfg(unix)]
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(())
}
