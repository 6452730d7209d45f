//! `cargo xtask test`: every check there is, one after another, with its time, and one summary at the end.
//!
//! Goes on after a failed check, so that one run tells all; never hides a check that could not run, which is a failure.

mod counts;
mod external;
mod servers;
mod tools;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Context;

use self::counts::Counts;

/// Runs everything; `false` when anything failed.
///
/// # Errors
/// When a tool that all checks need is missing.
pub fn run() -> anyhow::Result<bool> {
    let root = crate::workspace_root()?;
    let started = Instant::now();
    tools::ensure_c_compiler()?;
    // The ledger's tests start the one and ask the other for a certificate.
    tools::ensure_postgres()?;
    tools::ensure_openssl()?;
    let mut steps = Steps::default();
    steps.run("cargo fmt --check", || passes(crate::cargo(&root).args(["fmt", "--all", "--check"])));
    steps.run("cargo clippy", || {
        passes(crate::cargo(&root).args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    });
    steps.run("cargo xtask tidy", || Ok(Counts::of_check(crate::tidy::run()?)));
    steps.run("servers of object storage", || servers::install(&root));
    let test = |arguments: &[&str]| counted(crate::cargo(&root).arg("test").args(arguments), Results::Stdout);
    if tools::has_nextest(&root) {
        let mut nextest = crate::cargo(&root);
        nextest.args(["nextest", "run", "--workspace", "--no-fail-fast"]);
        steps.run("cargo nextest run", || counted(&mut nextest, Results::Stderr));
        steps.run("cargo test --doc", || test(&["--workspace", "--doc"]));
    } else {
        steps.run("cargo test", || test(&["--workspace", "--no-fail-fast"]));
    }
    steps.run("external readers and clients", || external::run(&root));
    Ok(steps.summary(started))
}

/// Installs the servers that workers share.
///
/// # Errors
/// When one is missing and cannot be installed.
pub(crate) fn install_servers(root: &Path) -> anyhow::Result<()> {
    tools::ensure_c_compiler()?;
    tools::ensure_postgres()?;
    servers::install(root).map(drop)
}

/// What was run so far.
#[derive(Default)]
struct Steps {
    done: Vec<(&'static str, Counts, f64)>,
}

impl Steps {
    fn run(&mut self, name: &'static str, step: impl FnOnce() -> anyhow::Result<Counts>) {
        println!("==> {name}");
        let started = Instant::now();
        let counts = step().unwrap_or_else(|error| {
            println!("{error:#}");
            Counts::BROKEN
        });
        let seconds = started.elapsed().as_secs_f64();
        println!("<== {name}: {} in {seconds:.1} s", counts.outcome());
        self.done.push((name, counts, seconds));
    }

    fn summary(&self, started: Instant) -> bool {
        println!();
        for (name, counts, seconds) in &self.done {
            println!("{seconds:>7.1} s  {name}: {}", counts.outcome());
        }
        println!("{:>7.1} s  in all", started.elapsed().as_secs_f64());
        let sum = self.done.iter().fold(Counts::default(), |sum, (_, counts, _)| sum.and(*counts));
        println!("{} passed, {} failed", sum.passed, sum.failed);
        sum.failed == 0
    }
}

/// Runs a check that passes or fails as a whole. What it prints goes straight through.
fn passes(command: &mut Command) -> anyhow::Result<Counts> {
    let status = command.status().with_context(|| format!("{} cannot be started", shown(command)))?;
    Ok(Counts::of_check(status.success()))
}

/// Where a test runner writes its results; the other stream goes straight through.
#[derive(Clone, Copy)]
enum Results {
    Stdout,
    Stderr,
}

/// Runs tests, passes on what they print, and counts what their closing lines say.
fn counted(command: &mut Command, results: Results) -> anyhow::Result<Counts> {
    match results {
        Results::Stdout => command.stdout(Stdio::piped()),
        Results::Stderr => command.stderr(Stdio::piped()),
    };
    let mut child = command.spawn().with_context(|| format!("{} cannot be started", shown(command)))?;
    let counts = match (child.stdout.take(), child.stderr.take()) {
        (Some(pipe), _) => pass_on(pipe, std::io::stdout()),
        (None, Some(pipe)) => pass_on(pipe, std::io::stderr()),
        (None, None) => Counts::default(),
    };
    let success = child.wait().with_context(|| format!("{} cannot be waited for", shown(command)))?.success();
    Ok(counts.ended(success))
}

fn pass_on(pipe: impl std::io::Read, mut to: impl Write) -> Counts {
    let mut counts = Counts::default();
    let mut lines = BufReader::new(pipe);
    let mut line = Vec::new();
    while matches!(lines.read_until(b'\n', &mut line), Ok(1..)) {
        // Where nobody listens any more, the counting goes on.
        let _ = to.write_all(&line).and_then(|()| to.flush());
        counts = counts.and(Counts::of_line(&String::from_utf8_lossy(&line)));
        line.clear();
    }
    counts
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
