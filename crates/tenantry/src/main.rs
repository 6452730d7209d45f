//! `tenantry`, the program: one screen that reads the command line and hands each command to its file.

mod cli;
mod commands;
mod config;
mod exit;
mod logging;
mod memory;
mod present;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command};

fn main() -> ExitCode {
    memory::settle();
    let cli = Cli::parse();
    logging::start(&cli.global);
    // Two rustls providers are compiled in (the store client brings another); without this rustls would refuse to choose.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        tracing::debug!("a TLS provider is installed already");
    }
    match run_on_threads(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

/// Runs the command on a runtime whose threads have the stack it needs, the first one too.
fn run_on_threads(cli: Cli) -> Result<(), exit::Failure> {
    let failed = |error| exit::Failure::new(exit::Code::Other, format!("cannot start the runtime: {error}"));
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all();
    #[cfg(feature = "query")]
    if matches!(cli.command, Command::Query(_)) {
        use server::archive::sql::QUERY_STACK_BYTES;

        let runtime = runtime.thread_stack_size(QUERY_STACK_BYTES).build().map_err(failed)?;
        let first = std::thread::Builder::new().stack_size(QUERY_STACK_BYTES);
        let first = first.spawn(move || runtime.block_on(run(cli))).map_err(failed)?;
        return first.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }
    runtime.build().map_err(failed)?.block_on(run(cli))
}

async fn run(cli: Cli) -> Result<(), exit::Failure> {
    let global = &cli.global;
    match cli.command {
        Command::Demo(args) => commands::demo::run(global, args).await,
        Command::Init(args) => commands::init::run(global, *args),
        Command::Doctor(args) => commands::doctor::run(global, &args).await,
        Command::Serve => commands::serve::run(global).await,
        Command::Collect(args) => commands::collect::run(global, args).await,
        Command::Tenant(command) => commands::tenant::run(global, command).await,
        Command::ConsentLink(args) => commands::consent_link::run(global, args).await,
        Command::Subscription(command) => commands::subscription::run(global, command).await,
        Command::Activity(args) => commands::activity::run(global, args).await,
        Command::Coverage(args) => commands::coverage::run(global, args).await,
        #[cfg(feature = "query")]
        Command::Query(args) => commands::query::run(global, args).await,
        Command::Archive(command) => commands::archive::run(global, command).await,
        Command::Emulate(args) => commands::emulate::run(global, args).await,
        Command::Certificate(command) => commands::certificate::run(global, &command),
        Command::Config(command) => commands::config::run(global, &command),
        Command::Secrets(command) => commands::secrets::run(global, &command).await,
        Command::Ledger(command) => commands::ledger::run(global, &command).await,
    }
}

fn fail(failure: &exit::Failure) -> ExitCode {
    // Not `eprintln!`: a closed stderr must not turn a documented exit code into a panic.
    let _ = writeln!(std::io::stderr(), "tenantry: {}", failure.message);
    failure.code.into()
}
