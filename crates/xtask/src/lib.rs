#![doc = include_str!("../README.md")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "chores report to whoever started them")]

pub mod bench;
pub mod scale_test;
pub mod simulate;
pub mod test;
pub mod tidy;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// The workspace's folder: the nearest one above the current folder that holds `Cargo.lock` and `crates`.
///
/// # Errors
/// When there is none.
pub fn workspace_root() -> anyhow::Result<PathBuf> {
    let here = std::env::current_dir().context("the current folder cannot be read")?;
    match here.ancestors().find(|folder| folder.join("Cargo.lock").is_file() && folder.join("crates").is_dir()) {
        Some(root) => Ok(root.to_owned()),
        None => bail!("{} is not inside the workspace: run this from a checkout of it", here.display()),
    }
}

/// The cargo that runs this, so that a toolchain override holds for what it starts too.
pub(crate) fn cargo(root: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// Where cargo puts what it builds.
pub(crate) fn target_folder(root: &Path) -> anyhow::Result<PathBuf> {
    let output = cargo(root).args(["metadata", "--format-version", "1", "--no-deps", "--locked"]).output()?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("cargo metadata did not answer")?;
    Ok(PathBuf::from(metadata["target_directory"].as_str().context("cargo metadata names no target folder")?))
}
