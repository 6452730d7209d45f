//! `cargo xtask bench --webhook`: a flood of notifications, and whether any that was answered with 200 is missing.
//!
//! Never more than a wrapper: what is built and measured is `crates/server/examples/webhook_flood.rs`.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

/// What `cargo xtask bench --webhook --help` prints.
const HELP: &str = "\
cargo xtask bench --webhook [OPTIONS]
Calls the webhook's listener at a fixed pace, over loopback, on a ledger in a file, while the collector works; then looks in
the ledger for everything that was answered with 200. Linux only: it reads /proc.

  --per-second N  calls a second, of one notification each [default: 2000]
  --seconds N     for how long [default: 60]
  --profile P     the cargo profile, such as dist [default: release]
  --json          figures as JSON
Exit code 1 when one is missing, or memory grew by more than 64 MiB.";

/// By how much the process may grow: 32 MiB for bodies (`GateLimits`), and as much for calls, the ledger's caches and what
/// the collector has in hand. More is not bounded by any of those.
const GROWTH_MAX_KIB: u64 = 64 << 10;

/// Builds, measures, prints; `false` when something is missing or memory went over its limit.
pub(super) fn run(arguments: &[&str]) -> anyhow::Result<bool> {
    let (mut per_second, mut seconds, mut profile, mut json) = (2000, 60, "release", false);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().copied().with_context(|| format!("{word} needs a value"));
        match *word {
            "--per-second" => per_second = number(word, value()?, 1, 100_000)?,
            "--seconds" => seconds = number(word, value()?, 1, 3600)?,
            "--profile" => profile = value()?,
            "--json" => json = true,
            "--help" | "-h" | "help" => {
                println!("{HELP}");
                return Ok(true);
            }
            other => bail!("no such option: {other}\n\n{HELP}"),
        }
    }
    let report = measure(per_second, seconds, profile)?;
    let resident = |when: &str| report[format!("resident_kib_{when}")].as_u64().unwrap_or(0);
    let growth = resident("most").saturating_sub(resident("before"));
    if json {
        println!("{report:#}");
    } else {
        println!("{}", to_text(&report, growth));
    }
    Ok(report["lost"] == 0 && growth <= GROWTH_MAX_KIB)
}

fn number(option: &str, text: &str, least: u64, most: u64) -> anyhow::Result<u64> {
    let number: u64 = text.replace('_', "").parse().with_context(|| format!("{option} {text}"))?;
    ensure!((least..=most).contains(&number), "{option} must be {least} to {most}, not {number}");
    Ok(number)
}

fn measure(per_second: u64, seconds: u64, profile: &str) -> anyhow::Result<Value> {
    let root = crate::workspace_root()?;
    let target = crate::target_folder(&root)?;
    eprintln!("building the listener with the profile {profile}");
    let mut cargo = crate::cargo(&root);
    // Without SQL, which the listener does not need and which takes minutes to build.
    cargo.args(["build", "--profile", profile, "--package", "server", "--no-default-features"]);
    let status = cargo.args(["--example", "webhook_flood"]).status().context("cargo cannot be started")?;
    ensure!(status.success(), "the listener does not build");
    let built = target.join(if profile == "dev" { "debug" } else { profile });
    let program = built.join("examples").join(format!("webhook_flood{}", std::env::consts::EXE_SUFFIX));
    let folder = target.join("bench-webhook");
    super::fresh(&folder)?;
    eprintln!("calling {per_second} times a second for {seconds} s");
    let report = flood(&program, &folder, per_second, seconds);
    let _ = std::fs::remove_dir_all(&folder);
    report
}

fn flood(program: &Path, folder: &Path, per_second: u64, seconds: u64) -> anyhow::Result<Value> {
    let mut command = std::process::Command::new(program);
    command.arg(folder).arg(per_second.to_string()).arg(seconds.to_string());
    let output = command.stderr(Stdio::inherit()).output().context("the listener cannot be started")?;
    serde_json::from_slice(&output.stdout).with_context(|| format!("the listener ended with {}", output.status))
}

fn to_text(report: &Value, growth: u64) -> String {
    let count = |name: &str| report[name].as_u64().unwrap_or(0);
    let amount = |name: &str| report[name].as_f64().unwrap_or(0.0);
    format!(
        "{} calls in {:.1} s: {} answered with 200, {} told to come back, {} otherwise; {} of those answered with 200 missing\n\
         answers: p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms after they were due\n\
         processor: {:.1} s; resident: {:.1} MiB before, {:.1} MiB at most, {:.1} MiB more",
        count("calls"),
        amount("seconds"),
        count("answered"),
        count("refused"),
        count("failed"),
        count("lost"),
        amount("p50_ms"),
        amount("p99_ms"),
        amount("longest_ms"),
        amount("processor_seconds"),
        count("resident_kib_before") as f64 / 1024.0,
        count("resident_kib_most") as f64 / 1024.0,
        growth as f64 / 1024.0,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_limits() {
        for (text, is_good) in
            [("1", true), ("3_600", true), ("3600", true), ("0", false), ("3601", false), ("x", false)]
        {
            assert_eq!(number("--seconds", text, 1, 3600).is_ok(), is_good, "{text}");
        }
        assert!(run(&["--seconds"]).is_err() && run(&["--speed", "1"]).is_err());
        assert!(run(&["--help"]).unwrap());
    }
}
