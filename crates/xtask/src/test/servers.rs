//! Installs the servers of object storage that tests start for themselves: moto for S3, Azurite for Azure Blob Storage.
//!
//! Never starts one, and installs into the target folder only.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use super::counts::Counts;
use super::{external, passes, tools};

const AZURITE: &str = "azurite@3.35.0";

pub(super) fn install(root: &Path) -> anyhow::Result<Counts> {
    let target = crate::target_folder(root)?;
    // With the packages of the external checks, of which moto is one.
    external::virtual_environment(root, &target)?;
    tools::ensure_node()?;
    let folder = target.join("test-tools").join("azurite");
    // Written last, so that an installation that broke off is done again.
    let installed = folder.join("installed.txt");
    if std::fs::read_to_string(&installed).is_ok_and(|installed| installed == AZURITE) {
        return Ok(Counts::of_check(true));
    }
    println!("installing {AZURITE} under {}", folder.display());
    std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let npm = ["install", "--no-audit", "--no-fund", "--silent", AZURITE];
    let done = passes(Command::new("npm").args(npm).current_dir(&folder))?;
    ensure!(done.failed == 0, "{AZURITE} cannot be installed; is the npm registry reachable?");
    std::fs::write(&installed, AZURITE).with_context(|| format!("{} cannot be written", installed.display()))?;
    Ok(Counts::of_check(true))
}
