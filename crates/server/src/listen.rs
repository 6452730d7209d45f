//! Our own listeners: accepts connections for a router, bounded, and drains them when told to stop.
//!
//! Never waits for a client: one that sends no request head in time is cut off, the sooner the fuller it is, and one too many
//! waits in the kernel's queue, not in memory. HTTP/1.1 only: of an HTTP/2 connection nobody would know whether it waits.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::tls::Tls;

/// Connections of one listener at one time. A scraper and some browsers need a dozen; each costs some tens of kB.
const CONNECTIONS_MAX: usize = 256;

/// Connections up to which there is room: each may be kept for further requests. Fewer: a page with its pictures is made to
/// reconnect. More: those who keep theirs leave too few places for those who come.
const ROOMY_MAX: usize = CONNECTIONS_MAX / 2;

/// How long a client may take to send a request's head. Shorter would cut off people on bad lines.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// The same for the TLS handshake and for the head once there is no room: a place is used for one request then, and who holds
/// it in silence has it for no longer. Shorter would cut off the service itself. Longer: a few silent clients a second keep
/// it waiting for minutes.
const TIGHT_TIMEOUT: Duration = Duration::from_secs(3);

/// The longest head of a request, with its line, that is taken whatever the pieces it comes in; what the last piece brings
/// beyond it is at most as much again. Smaller: a proxy's cookies and tokens do not fit. Larger: times the connections, it is
/// memory that strangers can take.
const HEAD_BYTES_MAX: usize = 64 << 10;

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
        let terms = Terms::of(CONNECTIONS_MAX - slots.available_permits());
        let (builder, watcher, tls) = (terms.builder(), graceful.watcher(), tls.as_ref().map(|tls| tls.config()));
        connections.spawn(async move {
            // A client that goes away in the middle is its own business.
            match tls {
                None => {
                    let _ = watcher.watch(builder.serve_connection(TokioIo::new(socket), service)).await;
                }
                Some(config) => {
                    let handshake = TlsAcceptor::from(config).accept(socket);
                    if let Ok(Ok(socket)) = tokio::time::timeout(terms.handshake, handshake).await {
                        let _ = watcher.watch(builder.serve_connection(TokioIo::new(socket), service)).await;
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

/// What a connection may take, by how full it was when it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Terms {
    head: Duration,
    handshake: Duration,
    /// Whether it may be used for another request.
    keeps: bool,
}

impl Terms {
    /// Of the last of `open` connections.
    fn of(open: usize) -> Self {
        if open <= ROOMY_MAX {
            return Self { head: HEAD_TIMEOUT, handshake: HANDSHAKE_TIMEOUT, keeps: true };
        }
        Self { head: TIGHT_TIMEOUT, handshake: TIGHT_TIMEOUT, keeps: false }
    }

    fn builder(self) -> http1::Builder {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.head)
            .keep_alive(self.keeps)
            .max_buf_size(HEAD_BYTES_MAX);
        builder
    }
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

    /// Time goes on only when it is told to: a runtime that has always something to do never skips to the next timer.
    fn hold_time() {
        tokio::spawn(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
    }

    /// As many connections as that, which say nothing.
    async fn silent(address: SocketAddr, count: usize) -> Vec<TcpStream> {
        let mut sockets = Vec::new();
        for _ in 0..count {
            sockets.push(TcpStream::connect(address).await.unwrap());
        }
        sockets
    }

    /// Lets what is ready happen, in the sockets too, without time going on.
    async fn settle() {
        for _ in 0..2000 {
            tokio::task::yield_now().await;
        }
    }

    fn is_closed(socket: &TcpStream) -> bool {
        let read = socket.try_read(&mut [0]);
        matches!(read, Ok(0)) || read.is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock)
    }

    #[test]
    fn beyond_half_of_the_connections_each_is_for_one_request_and_soon_cut_off() {
        assert_eq!(Terms::of(ROOMY_MAX), Terms { head: HEAD_TIMEOUT, handshake: HANDSHAKE_TIMEOUT, keeps: true });
        assert_eq!(Terms::of(ROOMY_MAX + 1), Terms { head: TIGHT_TIMEOUT, handshake: TIGHT_TIMEOUT, keeps: false });
        assert!(Terms::of(1).keeps && !Terms::of(CONNECTIONS_MAX).keeps);
    }

    #[tokio::test(start_paused = true)]
    async fn a_listener_full_of_silent_clients_serves_one_too_many_as_soon_as_those_are_cut_off() {
        hold_time();
        let (address, stop, served) = start().await;
        // One place is left, and whoever takes it is served, over and over.
        let mut idle = silent(address, CONNECTIONS_MAX - 1).await;
        for _ in 0..3 {
            assert!(get(address, "/healthz").await.ends_with("ok\n"), "the last place serves");
        }
        // None is left. The next ones connect, for the kernel holds them, and wait.
        idle.extend(silent(address, 1).await);
        let mut waiting = TcpStream::connect(address).await.unwrap();
        waiting.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        settle().await;
        assert!(waiting.try_read(&mut [0; 1]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
        // The silent ones that came when it was tight go, and it is served; those that came before have their time.
        tokio::time::advance(TIGHT_TIMEOUT - Duration::from_millis(10)).await;
        settle().await;
        assert!(!is_closed(&idle[CONNECTIONS_MAX - 1]));
        tokio::time::advance(Duration::from_millis(20)).await;
        let mut answer = String::new();
        waiting.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.to_ascii_lowercase().contains("connection: close"),
            "{answer}"
        );
        settle().await;
        assert!(!is_closed(&idle[0]), "who came in peace has more time");
        assert!(is_closed(&idle[CONNECTIONS_MAX - 1]));
        tokio::time::advance(HEAD_TIMEOUT).await;
        for _ in 0..100 {
            settle().await;
        }
        assert!(idle.iter().all(is_closed), "silence does not hold a place for ever");
        // All places are free again.
        let again = silent(address, ROOMY_MAX - 1).await;
        let mut kept = TcpStream::connect(address).await.unwrap();
        for request in 1..=2 {
            kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"ok\n") {
                let read = kept.read_buf(&mut answer).await.unwrap();
                assert!(read > 0, "request {request}: {}", String::from_utf8_lossy(&answer));
            }
        }
        drop(again);
        stop.send(()).unwrap();
        served.await.unwrap();
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
    async fn a_head_may_be_so_long_and_no_longer() {
        let (address, stop, served) = start().await;
        for (bytes, taken) in [(HEAD_BYTES_MAX, true), (3 * HEAD_BYTES_MAX, false)] {
            let head = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nX: \r\n\r\n");
            let filler = "x".repeat(bytes - head.len());
            let head = head.replace("X: ", &format!("X: {filler}"));
            let mut socket = TcpStream::connect(address).await.unwrap();
            // Who is refused may find the connection gone before all is sent, or before the answer is read.
            let sent = socket.write_all(head.as_bytes()).await;
            let mut answer = Vec::new();
            let read = socket.read_to_end(&mut answer).await;
            let answer = String::from_utf8_lossy(&answer);
            assert_eq!(answer.starts_with("HTTP/1.1 200"), taken, "{bytes} bytes: {answer}, {sent:?}, {read:?}");
            assert!(taken || answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
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
