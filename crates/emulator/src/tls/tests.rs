//! The listeners over loopback, spoken to byte by byte: certificates, cut connections, stopping.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::Response;
use axum::routing::get;
use futures_util::{StreamExt as _, stream};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn start(router: Router, tls: Option<TlsAcceptor>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(serve(listener, router, tls, async {
        let _ = stopped.await;
    }));
    Server { address, stop, task }
}

fn router() -> Router {
    async fn origin(request: axum::extract::Request) -> String {
        Origin::of(&request.into_parts().0).to_string()
    }
    fn cut(cut: Cut) -> Response {
        let mut response = Response::new(Body::from("never sent"));
        response.extensions_mut().insert(cut);
        response
    }
    async fn broken(length: Option<u64>) -> Response {
        let pieces = [Ok(Bytes::from_static(b"0123456789")), Err(std::io::Error::other("cut"))];
        let mut response = Response::new(Body::from_stream(stream::iter(pieces)));
        if let Some(length) = length {
            response.headers_mut().insert(http::header::CONTENT_LENGTH, length.into());
        }
        response
    }
    Router::new()
        .route("/", get(origin))
        .route("/close", get(|| async { cut(Cut::Close) }))
        .route("/reset", get(|| async { cut(Cut::Reset) }))
        .route("/chunked", get(|| broken(None)))
        .route("/counted", get(|| broken(Some(100))))
}

/// Sends a request and reads until the peer ends; the error is how it ended, if not cleanly.
async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
    host: &str,
) -> (String, std::io::Result<()>) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer).await.map(drop);
    (String::from_utf8(answer).unwrap(), ended)
}

async fn plain(server: &Server, path: &str) -> (String, std::io::Result<()>) {
    exchange(TcpStream::connect(server.address).await.unwrap(), path, "127.0.0.1:7000").await
}

fn connector(authority: &CertificateAuthority, protocols: &[&[u8]]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

async fn handshake(
    server: &Server,
    connector: &TlsConnector,
    name: &str,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    connector.connect(name, TcpStream::connect(server.address).await.unwrap()).await
}

#[tokio::test]
async fn every_name_of_every_cloud_is_served_over_https() {
    let authority = CertificateAuthority::generate().unwrap();
    let server = start(router(), Some(authority.acceptor(&default_names()).unwrap())).await;
    let connector = connector(&authority, &[b"http/1.1"]);
    let names = default_names();
    for expected in [
        "localhost",
        "127.0.0.1",
        "::1",
        "login.microsoftonline.com",
        "login.windows.net",
        "login.microsoftonline.us",
        "login.partner.microsoftonline.cn",
        "manage.office.com",
        "manage-gcc.office.com",
        "manage.office365.us",
        "manage.protection.apps.mil",
        "manage.office365.cn",
        "graph.microsoft.com",
        "dod-graph.microsoft.us",
    ] {
        assert!(names.iter().any(|name| name == expected), "{expected}");
    }
    for name in names.iter().filter(|name| !name.contains(':')) {
        let stream = handshake(&server, &connector, name).await.unwrap();
        let (answer, ended) = exchange(stream, "/", name).await;
        assert!(answer.ends_with(&format!("\r\n\r\nhttps://{name}")), "{answer}");
        assert!(ended.is_ok(), "{ended:?}");
    }
    assert!(handshake(&server, &connector, "example.com").await.is_err());
}

#[tokio::test]
async fn who_does_not_trust_the_ca_gets_nowhere_and_the_next_still_does() {
    let authority = CertificateAuthority::generate().unwrap();
    let server = start(router(), Some(authority.acceptor(&default_names()).unwrap())).await;
    let stranger = CertificateAuthority::generate().unwrap();
    assert!(handshake(&server, &connector(&stranger, &[]), "localhost").await.is_err());
    assert!(handshake(&server, &connector(&authority, &[]), "localhost").await.is_ok());
}

#[tokio::test]
async fn http_2_is_offered() {
    let authority = CertificateAuthority::generate().unwrap();
    let server = start(router(), Some(authority.acceptor(&default_names()).unwrap())).await;
    let mut stream = handshake(&server, &connector(&authority, &[b"h2", b"http/1.1"]), "localhost").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    // The preface and an empty SETTINGS frame; the answer's first frame must be SETTINGS (type 4) as well.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[3], 4, "{frame:?}");
}

#[tokio::test]
async fn a_body_that_fails_is_incomplete_for_the_client() {
    let server = start(router(), None).await;
    let (chunked, ended) = plain(&server, "/chunked").await;
    assert!(chunked.contains("\r\n\r\nA\r\n0123456789\r\n"), "{chunked}");
    assert!(!chunked.ends_with("0\r\n\r\n"), "{chunked}");
    assert!(ended.is_ok(), "closed, not reset: {ended:?}");
    let (counted, _) = plain(&server, "/counted").await;
    assert!(counted.contains("content-length: 100") && counted.ends_with("\r\n\r\n0123456789"), "{counted}");

    let authority = CertificateAuthority::generate().unwrap();
    let server = start(router(), Some(authority.acceptor(&default_names()).unwrap())).await;
    let stream = handshake(&server, &connector(&authority, &[]), "localhost").await.unwrap();
    let (chunked, _) = exchange(stream, "/chunked", "localhost").await;
    assert!(chunked.contains("0123456789") && !chunked.ends_with("0\r\n\r\n"), "{chunked}");
}

#[tokio::test]
async fn a_connection_can_be_closed_or_reset_instead_of_answered() {
    let server = start(router(), None).await;
    let (answer, ended) = plain(&server, "/close").await;
    assert_eq!(answer, "");
    assert!(ended.is_ok(), "{ended:?}");
    let (answer, ended) = plain(&server, "/reset").await;
    assert_eq!(answer, "");
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert!(plain(&server, "/").await.0.ends_with("http://127.0.0.1:7000"));
}

#[tokio::test]
async fn stopping_lets_a_request_in_flight_end_and_takes_no_more() {
    let (entered, mut has_entered) = tokio::sync::mpsc::channel::<oneshot::Sender<()>>(1);
    let slow = get(move || {
        let entered = entered.clone();
        async move {
            let (release, released) = oneshot::channel();
            entered.send(release).await.unwrap();
            released.await.unwrap();
            "done"
        }
    });
    let server = start(Router::new().route("/slow", slow), None).await;
    let address = server.address;
    let idle = TcpStream::connect(address).await.unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let answer = tokio::spawn(exchange(stream, "/slow", "localhost"));
    let release = has_entered.recv().await.unwrap();
    server.stop.send(()).unwrap();
    // The listener is gone once the stop has been seen; until then a connection may still be taken.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    release.send(()).unwrap();
    assert!(answer.await.unwrap().0.ends_with("done"));
    server.task.await.unwrap();
    drop(idle);
}

#[tokio::test(start_paused = true)]
async fn stopping_does_not_wait_for_a_request_that_never_ends() {
    let endless =
        get(|| async { Body::from_stream(stream::iter([Ok::<_, std::io::Error>("x")]).chain(stream::pending())) });
    let server = start(Router::new().route("/", endless), None).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    stream.read_u8().await.unwrap();
    let before = tokio::time::Instant::now();
    server.stop.send(()).unwrap();
    server.task.await.unwrap();
    assert!(before.elapsed() <= DRAIN + std::time::Duration::from_millis(1), "{:?}", before.elapsed());
}

#[test]
fn a_kept_ca_is_used_again_and_a_spoilt_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("ca");
    let first = CertificateAuthority::load_or_create(&kept).unwrap();
    let second = CertificateAuthority::load_or_create(&kept).unwrap();
    assert_eq!(first.pem(), second.pem());
    assert_eq!(std::fs::read_to_string(kept.join("ca.pem")).unwrap(), first.pem());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(kept.join("ca-key.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    // A key that is not the certificate's.
    let other = rcgen::KeyPair::generate().unwrap();
    std::fs::write(kept.join("ca-key.pem"), other.serialize_pem()).unwrap();
    let error = CertificateAuthority::load_or_create(&kept).unwrap_err();
    assert!(error.to_string().contains("holds no usable CA; remove ca.pem and ca-key.pem"), "{error}");
    // Only the certificate was exported: a new CA is made and replaces it.
    std::fs::remove_file(kept.join("ca-key.pem")).unwrap();
    assert_ne!(CertificateAuthority::load_or_create(&kept).unwrap().pem(), first.pem());
}

#[test]
fn the_key_is_written_only_when_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let authority = CertificateAuthority::generate().unwrap();
    let path = authority.write_to(folder.path(), false).unwrap();
    assert_eq!(path, folder.path().join("ca.pem"));
    assert!(!folder.path().join("ca-key.pem").exists());
}
