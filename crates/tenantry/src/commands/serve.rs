//! `serve`: collects all day, with the console beside it.
//!
//! Never gives up on a tenant: what goes wrong is waited out, shown, and tried again.

use server::console::ConsoleParts;

use super::collect::{open, stop_signal};
use super::load;
use crate::cli::Global;
use crate::exit::{Code, Failure};

pub(crate) async fn run(global: &Global) -> Result<(), Failure> {
    let config = load(global)?;
    let collector = open(&config).await?;
    let listener = tokio::net::TcpListener::bind(config.console_listen).await.map_err(|error| {
        let code = if error.kind() == std::io::ErrorKind::AddrInUse { Code::Busy } else { Code::Config };
        Failure::new(
            code,
            format!(
                "the console cannot listen on {}: {error}; choose another address with console.listen",
                config.console_listen
            ),
        )
    })?;
    let address = listener.local_addr().map_or(config.console_listen, |address| address);
    tracing::info!(console = %format!("http://{address}/"), data_dir = %config.data_dir.display(), "collecting");
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let router = server::console::router(
        ConsoleParts {
            ledger: collector.ledger.clone(),
            board: collector.collector.board().clone(),
            metrics: collector.metrics.clone(),
        },
        address,
    );
    let console = tokio::spawn(server::listen::serve(listener, router, wait_for(stopped.clone())));
    tokio::spawn(async move {
        stop_signal().await;
        tracing::info!("stopping: finishing what is under way");
        // The receivers live as long as the program does.
        let _ = stop.send(true);
    });
    let report = collector.collector.run(wait_for(stopped)).await;
    let report = report.map_err(|error| Failure::from_chain(Code::Storage, &error))?;
    // The console goes down with the same signal; its own end is no news.
    let _ = console.await;
    let total = report.total();
    tracing::info!(contents = total.archived, records = total.records, "stopped");
    Ok(())
}

async fn wait_for(mut stopped: tokio::sync::watch::Receiver<bool>) {
    // A closed channel means the signal task is gone, which only happens at the very end.
    let _ = stopped.wait_for(|stop| *stop).await;
}
