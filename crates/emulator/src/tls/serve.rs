//! The accept loop: takes a listener and a router, and serves HTTP/1.1 and HTTP/2, in clear or over TLS, until told to stop.
//!
//! Never outlives its stop signal by more than [`DRAIN`], and never holds more than [`MAX_CONNECTIONS`] connections. A
//! body stream that fails ends its connection, so the client sees an incomplete body; [`Cut`] ends one without an answer.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use crate::tls::connection::{Connection, Cut, FlushBeforeError, ResetSwitch, Secure};

/// How long requests in flight may take after the stop signal. Tests stop hundreds of emulators, so it is short; a client
/// that is cut off retries, as it must anyway.
pub const DRAIN: Duration = Duration::from_secs(2);

/// Connections served at once; more wait in the listener's queue. Fewer would starve a collector of ten thousand tenants
/// over HTTP/1.1, more would meet the usual limit of open files.
const MAX_CONNECTIONS: usize = 8192;

/// A client that says nothing this long during the TLS handshake is dropped.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause after `accept` failed, usually for want of file descriptors: trying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `router` on `listener` until `shutdown` resolves, then lets requests in flight end within [`DRAIN`].
///
/// Each request carries its peer's [`SocketAddr`] as an extension.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<TlsAcceptor>,
    shutdown: impl Future<Output = ()>,
) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            // Stopping here is safe: no connection has been accepted that is not in the set.
            () = &mut shutdown => break,
            accepted = accept(&listener, &places) => accepted,
            // Ended connections are taken out of the set as they end, so that it does not grow.
            Some(_) = connections.join_next() => continue,
        };
        let (stream, peer, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (router, tls, watcher) = (router.clone(), tls.clone(), graceful.watcher());
        connections.spawn(async move {
            let _place = place;
            if let Err(error) = connection(stream, peer, router, tls, watcher).await {
                tracing::debug!(%peer, error = %error, "a connection ended early");
            }
        });
    }
    drop(listener);
    let drained = tokio::time::timeout(DRAIN, async {
        graceful.shutdown().await;
        while connections.join_next().await.is_some() {}
    });
    if drained.await.is_err() {
        connections.shutdown().await;
    }
}

type Accepted = (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> io::Result<Accepted> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, place))
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    tls: Option<TlsAcceptor>,
    watcher: hyper_util::server::graceful::Watcher,
) -> Result<(), BoxError> {
    // Small answers must not wait for the client's acknowledgements.
    stream.set_nodelay(true)?;
    let stream = Connection::new(stream);
    let reset = stream.reset_switch();
    let secure = tls.is_some();
    let service =
        hyper::service::service_fn(move |request| answer(router.clone(), request, peer, secure, reset.clone()));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(60));
    builder.http2().timer(TokioTimer::new());
    match tls {
        Some(tls) => {
            let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await??;
            watcher.watch(builder.serve_connection(TokioIo::new(stream), service).into_owned()).await
        }
        None => watcher.watch(builder.serve_connection(TokioIo::new(stream), service).into_owned()).await,
    }
}

async fn answer(
    router: Router,
    request: Request<Incoming>,
    peer: SocketAddr,
    secure: bool,
    reset: ResetSwitch,
) -> Result<Response<FlushBeforeError>, CutOff> {
    let mut request = request.map(axum::body::Body::new);
    request.extensions_mut().insert(peer);
    request.extensions_mut().insert(Secure(secure));
    let response = match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => {
            let never: Infallible = never;
            match never {}
        }
    };
    match response.extensions().get::<Cut>() {
        None => Ok(response.map(FlushBeforeError::new)),
        Some(Cut::Close) => Err(CutOff),
        Some(Cut::Reset) => {
            reset.arm();
            Err(CutOff)
        }
    }
}

/// A handler asked for its connection to end; hyper ends it when a service fails.
#[derive(Debug, thiserror::Error)]
#[error("the connection was cut on request")]
struct CutOff;
