//! `serve`: collects all day, with the console and the public site beside it.
//!
//! Never gives up on a tenant: what goes wrong is waited out, shown, and tried again.

use std::net::SocketAddr;
use std::sync::Arc;

use server::clock::SystemClock;
use server::collector::Webhooks;
use server::console::ConsoleParts;
use server::ledger::postgres::Company;
use server::site::PublicSite;
use server::site::consent::ConsentSettings;
use server::tls::Tls;
use server::webhook::{GateLimits, WebhookBase, WebhookParts};
use tokio::net::TcpListener;

use super::collect::{open, stop_signal};
use super::load;
use crate::cli::Global;
use crate::config::Config;
use crate::exit::{Code, Failure};

pub(crate) async fn run(global: &Global) -> Result<(), Failure> {
    let stopping = stop_signal();
    let config = load(global)?;
    let webhooks = webhooks(&config);
    let collector = open(&config, webhooks.clone(), Company::Workers).await?;
    let (console, address) = listen("the console", config.console_listen, "console.listen").await?;
    let public = match &config.public {
        Some(public) => {
            // Bad files end the start, before anything listens.
            let tls = public.tls.clone().map(Tls::open).transpose();
            let tls = tls.map_err(|error| Failure::from_chain(Code::Config, &error))?.map(Arc::new);
            Some((listen("the public site", public.listen, "public.listen").await?, public, tls))
        }
        None => None,
    };
    tracing::info!(console = %format!("http://{address}/"), data_dir = %config.data_dir.display(), "collecting");
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let router = server::console::router(
        ConsoleParts {
            ledger: collector.ledger.clone(),
            board: collector.collector.board().clone(),
            metrics: collector.metrics.clone(),
            clock: Arc::new(SystemClock),
        },
        address,
    );
    let console = tokio::spawn(server::listen::serve(console, router, wait_for(stopped.clone())));
    let public = public.map(|((listener, address), public, tls)| {
        tracing::info!(listen = %address, url = %public.url, tls = tls.is_some(), "the public site is open");
        let mut site = PublicSite::new(public.url.clone()).with(server::site::consent::routes(
            collector.collector.reception(),
            ConsentSettings {
                url: public.url.clone(),
                method: public.consent,
                allowed_tenants: public.allowed_tenants.clone(),
                role_required: public.role_required,
            },
        ));
        if let (Webhooks::Arm(base), Ok(app)) = (&webhooks, config.app()) {
            tracing::info!(
                addresses = base.as_str(),
                "webhooks are set for every subscription; polling goes on beside them"
            );
            site = site.with(server::webhook::router(WebhookParts {
                ledger: collector.ledger.clone(),
                waker: collector.collector.waker(),
                clock: collector.collector.sure_clock(),
                metrics: collector.metrics.clone(),
                cloud: config.cloud.clone(),
                client_id: app.client_id,
                content_types: config.collect.content_types.clone(),
                limits: GateLimits::default(),
            }));
        }
        let (router, stopped) = (site.into_router(), wait_for(stopped.clone()));
        tokio::spawn(async move {
            match tls {
                Some(tls) => server::listen::serve_tls(listener, tls, router, stopped).await,
                None => server::listen::serve(listener, router, stopped).await,
            }
        })
    });
    tokio::spawn(async move {
        stopping.await;
        tracing::info!("stopping: finishing what is under way");
        // The receivers live as long as the program does.
        let _ = stop.send(true);
    });
    let report = collector.collector.run(wait_for(stopped)).await;
    let report = report.map_err(|error| Failure::from_chain(Code::Storage, &error))?;
    // They go down with the same signal; their own end is no news.
    let _ = console.await;
    if let Some(public) = public {
        let _ = public.await;
    }
    let total = report.total();
    tracing::info!(contents = total.archived, records = total.records, "stopped");
    Ok(())
}

/// Webhooks as the public site allows them; without one, those of earlier days are taken off.
fn webhooks(config: &Config) -> Webhooks {
    let Some(public) = &config.public else { return Webhooks::TakeOff };
    match WebhookBase::new(&public.url, &config.cloud) {
        Ok(base) => Webhooks::Arm(base),
        Err(error) => {
            tracing::info!(%error, "no webhooks");
            Webhooks::TakeOff
        }
    }
}

async fn listen(who: &str, wanted: SocketAddr, key: &str) -> Result<(TcpListener, SocketAddr), Failure> {
    let listener = TcpListener::bind(wanted).await.map_err(|error| {
        let code = if error.kind() == std::io::ErrorKind::AddrInUse { Code::Busy } else { Code::Config };
        Failure::new(code, format!("{who} cannot listen on {wanted}: {error}; choose another address with {key}"))
    })?;
    let address = listener.local_addr().unwrap_or(wanted);
    Ok((listener, address))
}

async fn wait_for(mut stopped: tokio::sync::watch::Receiver<bool>) {
    // A closed channel means the signal task is gone, which only happens at the very end.
    let _ = stopped.wait_for(|stop| *stop).await;
}
