//! The log, on stderr: quiet enough for a person by default, everything with `-vv` or `TENANTRY_LOG`.
//!
//! Never on stdout, which belongs to results, and never a secret or token: the rooms below do not put one into a field.

use std::io::{self, IsTerminal as _, Write};
use std::sync::{Mutex, PoisonError};

use indicatif::ProgressBar;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::cli::Global;

/// Starts the log; `TENANTRY_LOG` takes tracing's directives, such as `server=debug`.
pub(crate) fn start(global: &Global) {
    let default = match (global.quiet, global.verbose) {
        (true, _) => "warn",
        (false, 0) => "warn,tenantry=info,server=info",
        (false, 1) => "info,tenantry=debug,server=debug,engine=debug,archive=debug",
        (false, _) => "debug,hyper=info,h2=info,rustls=info,reqwest=info,datafusion=info,sqlparser=info",
    };
    let filter = match std::env::var("TENANTRY_LOG") {
        Ok(directives) => EnvFilter::builder().with_default_directive(LevelFilter::WARN.into()).parse_lossy(directives),
        Err(_) => EnvFilter::new(default),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| AroundBar)
        .with_ansi(io::stderr().is_terminal())
        .with_target(global.verbose > 0);
    // A second start can only happen in a test that drives several commands; the first log stays.
    let _ = if global.json { builder.json().try_init() } else { builder.try_init() };
}

/// The progress bar that is being drawn on stderr.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Lines of the log and this bar share a terminal from now on: each line stands above the bar instead of in it.
pub(crate) fn draw_around(bar: Option<ProgressBar>) {
    *BAR.lock().unwrap_or_else(PoisonError::into_inner) = bar;
}

/// Stderr, with the bar out of the way while something is written.
struct AroundBar;

impl Write for AroundBar {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bar = BAR.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match bar {
            Some(bar) => bar.suspend(|| io::stderr().write(bytes)),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
