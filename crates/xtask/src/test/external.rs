//! Runs the checks of `tests/external`: programs that nobody here wrote read the archive and talk to the emulator.
//!
//! Each script is one check: it passes when it exits with 0 within its time. It finds the program under test in
//! `TENANTRY_BIN`, and runs in a virtual environment with the packages of `tests/external/requirements.txt`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::counts::Counts;
use super::{passes, tools};

const SCRIPTS: &str = "tests/external";
/// Long enough for a slow machine; a script that hangs must not hang the whole run.
const SCRIPT_TIME_MAX: Duration = Duration::from_secs(15 * 60);

pub(super) fn run(root: &Path) -> anyhow::Result<Counts> {
    let scripts = scripts_in(&root.join(SCRIPTS))?;
    if scripts.is_empty() {
        bail!("there are no scripts in {SCRIPTS}");
    }
    // With the features that the tests were built with, so that what they built serves here too; for the program's own
    // package alone DataFusion would be compiled a second time.
    ensure!(
        passes(crate::cargo(root).args(["build", "--workspace", "--tests"]))?.failed == 0,
        "the program under test does not build"
    );
    let target = crate::target_folder(root)?;
    let program = target.join("debug").join(format!("tenantry{}", std::env::consts::EXE_SUFFIX));
    tools::ensure_chromium()?;
    let python = virtual_environment(root, &target)?;
    tools::ensure_openssl()?;
    let mut counts = Counts::default();
    for script in scripts {
        let name = script.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let started = Instant::now();
        let mut child = Command::new(&python)
            .arg(&script)
            .current_dir(root)
            .env("TENANTRY_BIN", &program)
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        let status = wait(&mut child).with_context(|| format!("{name} cannot be waited for"))?;
        let passed = status.is_some_and(|status| status.success());
        let outcome = match status {
            Some(_) if passed => "ok",
            Some(_) => "FAILED",
            None => "FAILED, ended after its time was over",
        };
        println!("external {name} ... {outcome} ({:.1} s)", started.elapsed().as_secs_f64());
        counts = counts.and(if passed { Counts { passed: 1, failed: 0 } } else { Counts::BROKEN });
    }
    Ok(counts)
}

/// The scripts by name; those that start with `_` are parts of others.
fn scripts_in(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    let mut scripts = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".py") && !name.starts_with('_') {
            scripts.push(path);
        }
    }
    scripts.sort();
    Ok(scripts)
}

/// Makes the virtual environment, or brings it up to the requirements, and says where its Python is.
pub(super) fn virtual_environment(root: &Path, target: &Path) -> anyhow::Result<PathBuf> {
    let requirements_file = root.join(SCRIPTS).join("requirements.txt");
    let requirements =
        std::fs::read(&requirements_file).with_context(|| format!("{} cannot be read", requirements_file.display()))?;
    let folder = target.join("test-tools").join("venv");
    let python = folder.join("bin").join("python");
    // Written last, so that an installation that broke off is done again.
    let installed = folder.join("installed-requirements.txt");
    if python.exists() && std::fs::read(&installed).is_ok_and(|installed| installed == requirements) {
        return Ok(python);
    }
    tools::ensure_python()?;
    println!("installing the packages of {SCRIPTS}/requirements.txt under {}", folder.display());
    let made = passes(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    ensure!(made.failed == 0, "python3 cannot make a virtual environment in {}", folder.display());
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
    let done = passes(Command::new(&python).args(pip).arg(&requirements_file))?;
    ensure!(done.failed == 0, "the packages of {SCRIPTS}/requirements.txt cannot be installed; is PyPI reachable?");
    std::fs::write(&installed, requirements).with_context(|| format!("{} cannot be written", installed.display()))?;
    Ok(python)
}

/// Waits for the script; `None` when its time was over and it was ended.
fn wait(child: &mut Child) -> anyhow::Result<Option<ExitStatus>> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if started.elapsed() > SCRIPT_TIME_MAX {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
