//! The tools that the checks need from the system, and how to get them.
//!
//! Installs only as root and only through `apt-get`; anybody else is told in one sentence what to install.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::bail;

/// SQLite, zstd and the cryptography are compiled from C.
pub(super) fn ensure_c_compiler() -> anyhow::Result<()> {
    if std::env::var_os("CC").is_some() || answers("cc", &["--version"]) {
        return Ok(());
    }
    install("a C compiler", &["build-essential"])
}

/// A Python that can make virtual environments.
pub(super) fn ensure_python() -> anyhow::Result<()> {
    if answers("python3", &["-c", "import ensurepip, venv"]) {
        return Ok(());
    }
    install("Python 3 with its venv module", &["python3", "python3-venv"])
}

/// A Chromium that can be driven; the virtual environment brings what drives it, and no browser of its own.
pub(super) fn ensure_chromium() -> anyhow::Result<()> {
    let named = std::env::var_os("CHROMIUM").is_some();
    if named || ["chromium", "chromium-browser"].iter().any(|name| answers(name, &["--version"])) {
        return Ok(());
    }
    install("Chromium", &["chromium"])
}

/// The program whose word on certificates ours is held against.
pub(super) fn ensure_openssl() -> anyhow::Result<()> {
    if answers("openssl", &["version"]) {
        return Ok(());
    }
    install("OpenSSL's command line", &["openssl"])
}

/// A PostgreSQL server that tests can start: Debian keeps its programs out of the path.
pub(super) fn ensure_postgres() -> anyhow::Result<()> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.into_iter().any(|version| version.path().join("bin/initdb").exists());
    if found || answers("initdb", &["--version"]) {
        return Ok(());
    }
    install("a PostgreSQL server", &["postgresql"])
}

/// Node.js with npm, which Azure's storage emulator runs on.
pub(super) fn ensure_node() -> anyhow::Result<()> {
    if answers("node", &["--version"]) && answers("npm", &["--version"]) {
        return Ok(());
    }
    install("Node.js with npm", &["nodejs", "npm"])
}

/// Whether `cargo nextest` is installed.
pub(super) fn has_nextest(root: &Path) -> bool {
    silently(crate::cargo(root).args(["nextest", "--version"]))
}

fn install(what: &str, packages: &[&str]) -> anyhow::Result<()> {
    let command = format!("apt-get install {}", packages.join(" "));
    if !is_root() || !answers("apt-get", &["--version"]) {
        bail!("{what} is missing: install it, on Debian or Ubuntu with `sudo {command}`, and run this again");
    }
    println!("{what} is missing; running `{command}`");
    let apt_get = |arguments: &[&str]| {
        let status = Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(arguments).status();
        status.is_ok_and(|status| status.success())
    };
    let arguments = [&["install", "-y", "--no-install-recommends"], packages].concat();
    // The second try is for a machine whose package lists are old or absent.
    if apt_get(&arguments) || (apt_get(&["update"]) && apt_get(&arguments)) {
        return Ok(());
    }
    bail!("{what} is missing and `{command}` failed: install it, and run this again");
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn answers(program: &str, arguments: &[&str]) -> bool {
    silently(Command::new(program).args(arguments))
}

fn silently(command: &mut Command) -> bool {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
