//! Runs one program to its end and says what it took: CPU time, wall time, and memory on the way.
//!
//! Never runs two at a time: CPU time is the difference that waiting for one child makes to all children's sum.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::proc::{self, Memory};

/// How often memory is looked at. Often enough to see a blob come and go, seldom enough to cost nothing.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(25);

/// A look at a running program.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    /// How much of its work was done, 0 to 1.
    pub(super) done: f64,
    pub(super) resident_kib: u64,
}

/// What a program took.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measured {
    /// User and system, all threads.
    pub(super) cpu_seconds: f64,
    pub(super) wall_seconds: f64,
    pub(super) peak_kib: u64,
    pub(super) samples: Vec<Sample>,
}

/// The program in its own folder, seeing no variable but the path: what is measured must not depend on who measures.
pub(super) fn command(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env_clear().stdin(Stdio::null());
    for name in ["PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// Runs it without measuring, and gives back what it printed.
pub(super) fn succeed(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("{command:?} cannot be started"))?;
    ensure!(output.status.success(), "{command:?} failed: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs and measures it; its stdout goes to the file, and comes back as text. `progress` is asked at every sample, with its
/// number, how much of the work is done; what it last said holds until it says something else.
pub(super) fn run(
    mut command: Command,
    stdout: &Path,
    progress: impl Fn(usize) -> Option<f64>,
) -> anyhow::Result<(Measured, String)> {
    // A file and not a pipe: nobody has to empty it while samples are taken.
    command.stdout(File::create(stdout)?).stdin(Stdio::null());
    let cpu_before = cpu_of_children()?;
    let started = Instant::now();
    let mut child = command.spawn().with_context(|| format!("{command:?} cannot be started"))?;
    let status_file = format!("/proc/{}/status", child.id());
    let (mut samples, mut peak_kib, mut done) = (Vec::new(), 0, 0.0);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        let memory = fs::read_to_string(&status_file).ok().and_then(|text| proc::memory(&text));
        if let Some(Memory { resident_kib, peak_kib: peak }) = memory {
            done = progress(samples.len()).unwrap_or(done);
            samples.push(Sample { done, resident_kib });
            peak_kib = peak_kib.max(peak);
        }
        std::thread::sleep(SAMPLE_INTERVAL);
    };
    let wall_seconds = started.elapsed().as_secs_f64();
    let cpu_seconds = cpu_of_children()?.saturating_sub(cpu_before).as_secs_f64();
    ensure!(status.success(), "{command:?} failed: {status}");
    let text = fs::read_to_string(stdout)?;
    Ok((Measured { cpu_seconds, wall_seconds, peak_kib, samples }, text))
}

fn cpu_of_children() -> anyhow::Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").context("CPU times are read from /proc, which only Linux has")?;
    proc::children_cpu(&stat).with_context(|| format!("/proc/self/stat holds no CPU times: {stat}"))
}
