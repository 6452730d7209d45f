//! Our own listeners: accepts connections for a router, bounded, and drains them when told to stop.
//!
//! Never waits for a client: one that sends no request head in time is cut off, and one too many waits in the kernel's
//! queue, not in memory.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::tls::Tls;

/// Connections of one listener at one time. A scraper and some browsers need a dozen; each costs some tens of kB.
const CONNECTIONS_MAX: usize = 256;

/// How long a client may take to send a request's head. Shorter would cut off people on bad lines.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// How long connections may take to finish once we are told to stop.
const DRAIN: Duration = Duration::from_secs(5);

/// How long a client may take for the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves `router` on `listener` until `shutdown` completes, then lets what is under way finish.
pub async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()> + Send) {
    accept(listener, None, router, shutdown).await;
}

/// The same over TLS.
pub async fn serve_tls(
    listener: TcpListener,
    tls: Arc<Tls>,
    router: Router,
    shutdown: impl Future<Output = ()> + Send,
) {
    accept(listener, Some(tls), router, shutdown).await;
}

async fn accept(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    router: Router,
    shutdown: impl Future<Output = ()> + Send,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let mut shutdown = std::pin::pin!(shutdown);
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await.expect("the semaphore is never closed");
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accepted => accepted,
        };
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(error) => {
                // Out of file descriptors, as a rule: pausing lets some go.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let service = router
            .clone()
            .map_request(|request: hyper::Request<hyper::body::Incoming>| request.map(axum::body::Body::new));
        let service = hyper_util::service::TowerToHyperService::new(service);
        let (builder, watcher, tls) = (builder.clone(), graceful.watcher(), tls.as_ref().map(|tls| tls.config()));
        connections.spawn(async move {
            // A client that goes away in the middle is its own business.
            match tls {
                None => {
                    let connection = builder.serve_connection(TokioIo::new(socket), service).into_owned();
                    let _ = watcher.watch(connection).await;
                }
                Some(config) => {
                    let handshake = TlsAcceptor::from(config).accept(socket);
                    if let Ok(Ok(socket)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
                        let connection = builder.serve_connection(TokioIo::new(socket), service).into_owned();
                        let _ = watcher.watch(connection).await;
                    }
                }
            }
            drop(slot);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
    connections.shutdown().await;
}

pub(crate) async fn healthz() -> Result<&'static str, Infallible> {
    Ok("ok\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    async fn start() -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        let site = crate::site::PublicSite::new("http://127.0.0.1:8365".parse().unwrap());
        (address, stop, tokio::spawn(serve(listener, site.into_router(), stopped)))
    }

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_public_site_says_that_it_is_there_and_nothing_else() {
        let (address, stop, served) = start().await;
        let answer = get(address, "/healthz").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("ok\n"), "{answer}");
        for path in ["/", "/metrics", "/api/v1/tenants", "/consent"] {
            assert!(get(address, path).await.starts_with("HTTP/1.1 404"), "{path}");
        }
        stop.send(()).unwrap();
        served.await.unwrap();
    }

    #[tokio::test]
    async fn a_stop_does_not_wait_for_clients_that_say_nothing() {
        let (address, stop, served) = start().await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        assert!(get(address, "/healthz").await.contains("ok"), "one silent client keeps nobody out");
        stop.send(()).unwrap();
        served.await.unwrap();
        assert_eq!(idle.read(&mut [0]).await.unwrap(), 0, "the connection was closed");
        assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
    }
}
