//! `cargo xtask simulate`: builds the simulator in its own profile and hands it what was typed.
//!
//! Never depends on it: xtask is built for every chore, and the simulator brings the whole program with it. What continuous
//! integration runs of it are the simulator's own tests, with everything else's.

use anyhow::Context;

/// Runs the simulator; `false` when it found something.
///
/// # Errors
/// When cargo cannot be started.
pub fn run(arguments: &[&str]) -> anyhow::Result<bool> {
    let mut cargo = crate::cargo(&crate::workspace_root()?);
    cargo.args(["run", "--quiet", "--profile", "simulate", "-p", "simulator", "--"]).args(arguments);
    let status = cargo.status().context("cargo cannot be started")?;
    Ok(status.success())
}
