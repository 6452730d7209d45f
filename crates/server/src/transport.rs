//! The one way out of the program: a request goes in, a status, headers and a stream of body bytes come out.
//!
//! Never follows a redirect (a token would follow it), never retries, never repeats a URL's query or a header in an
//! error. Requests are built in `protocol`; the production transport is [`HttpTransport`], a test's is an axum router.

mod gunzip;
pub(crate) mod proxy;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{BoxStream, StreamExt};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use hyper_util::client::proxy::matcher::Matcher;

/// What [`Transport::send`] returns.
pub type TransportFuture<'a> = Pin<Box<dyn Future<Output = Result<Answer, TransportError>> + Send + 'a>>;

/// The seam between the workers and the network; it exists because tests put an emulator and faults behind it.
pub trait Transport: Send + Sync {
    /// Sends one request and returns as soon as the answer's head is in; its body follows by [`Body::chunk`].
    fn send(&self, request: Request<Vec<u8>>) -> TransportFuture<'_>;
}

/// Set on a request (as an extension) that no proxy may see: the metadata service of the machine we run on.
#[derive(Debug, Clone, Copy)]
pub struct Direct;

/// The head of an answer, and its body yet to come.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers; names compare without regard to case.
    pub headers: HeaderMap,
    /// The body, decompressed.
    pub body: Body,
}

/// A body that is still arriving. Dropping it gives the rest up.
pub struct Body {
    chunks: BoxStream<'static, Result<Bytes, TransportError>>,
    is_proven_at_end: bool,
}

/// Why there is no answer, or not all of it. Shows the origin at most.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// No connection came about: name, address, proxy, TLS.
    #[error("no connection to {origin}: {reason}")]
    Connect {
        /// Scheme, host and port; and those of the proxy, if there is one.
        origin: String,
        /// What the innermost error says, such as `connection refused` or `invalid peer certificate: UnknownIssuer`.
        reason: String,
    },
    /// The other side was silent for too long.
    #[error("{origin} did not answer in time")]
    Timeout {
        /// Scheme, host and port.
        origin: String,
    },
    /// The connection broke before the answer was whole; a body shorter than announced is one of these.
    #[error("the answer of {origin} broke off: {reason}")]
    Broken {
        /// Scheme, host and port.
        origin: String,
        /// What the innermost error says.
        reason: String,
    },
    /// All of the answer came, and it is not what was compressed: a bad checksum, bad or missing data, bytes behind its end.
    #[error("the answer of {origin} is corrupt: {reason}")]
    Corrupt {
        /// Scheme, host and port.
        origin: String,
        /// What the decoder says.
        reason: String,
    },
    /// More bytes than the caller wanted.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// The caller's limit, in bytes.
        limit: u64,
    },
    /// The request could not be put together: a mistake of ours.
    #[error("the request could not be sent: {reason}")]
    Request {
        /// What the innermost error says.
        reason: String,
    },
}

/// Why the production transport could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TransportSetupError {
    /// Not one root certificate could be read.
    #[error(
        "no trusted root certificate could be read ({reason}): install the system's CA certificates or point SSL_CERT_FILE to a PEM file"
    )]
    NoRoots {
        /// The first thing that went wrong.
        reason: String,
    },
    /// `SSL_CERT_FILE` or `SSL_CERT_DIR` names something that cannot be read.
    #[error("the trust store cannot be read ({reason}): correct or unset SSL_CERT_FILE and SSL_CERT_DIR")]
    TrustStore {
        /// The first thing that went wrong, with the path.
        reason: String,
    },
    /// A variable that is to name a proxy names none; passed over, requests would go out where they may not.
    #[error(
        "{variable} names no proxy that can be used: write it as {variable}=http://proxy.example:3128, or unset it"
    )]
    Proxy {
        /// The variable; its text may hold a password.
        variable: &'static str,
    },
    /// TLS is unusable.
    #[error("the HTTP client cannot be set up: {reason}")]
    Client {
        /// What the innermost error says.
        reason: String,
    },
}

/// How patient the production transport is.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// Until a connection stands, TLS included.
    pub connect: Duration,
    /// The longest silence while an answer is awaited or arrives. The API's back end has taken more than a minute
    /// for a large listing, so a short one turns slow answers into failures.
    pub silence: Duration,
    /// How long an unused connection is kept.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(15), silence: Duration::from_secs(90), idle: Duration::from_secs(60) }
    }
}

/// HTTP/1.1 and HTTP/2 over TCP and TLS: system trust store (`SSL_CERT_FILE`), proxies by the usual variables, gzip.
pub struct HttpTransport {
    client: reqwest::Client,
    /// Which of its requests go through which proxy; only to say so.
    proxies: Matcher,
    /// For requests marked [`Direct`].
    direct: reqwest::Client,
}

impl HttpTransport {
    /// Sets the client up; reads the trust store once.
    ///
    /// # Errors
    /// When the trust store or the proxy variables cannot be used.
    pub fn new(timeouts: &Timeouts) -> Result<Self, TransportSetupError> {
        if let Some(variable) = proxy::unusable() {
            return Err(TransportSetupError::Proxy { variable });
        }
        let tls = tls_config()?;
        let client = Self::builder(timeouts, tls.clone())
            .build()
            .map_err(|error| TransportSetupError::Client { reason: innermost(&error) })?;
        let direct = Self::builder(timeouts, tls)
            .no_proxy()
            .build()
            .map_err(|error| TransportSetupError::Client { reason: innermost(&error) })?;
        Ok(Self { client, proxies: Matcher::from_system(), direct })
    }

    fn builder(timeouts: &Timeouts, tls: rustls::ClientConfig) -> reqwest::ClientBuilder {
        reqwest::Client::builder()
            .use_preconfigured_tls(tls)
            .user_agent(concat!("tenantry/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            // Undone here, where corruption can be told from a connection that broke.
            .no_gzip()
            .default_headers(HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("gzip"))]))
            .connect_timeout(timeouts.connect)
            .read_timeout(timeouts.silence)
            .pool_idle_timeout(timeouts.idle)
            // Idle connections only: what is under way is bounded by the workers' own limits. Fewer would mean a TLS
            // handshake for each request of a busy minute, more would hold sockets for nothing.
            .pool_max_idle_per_host(32)
            // The default stream window of 64 KiB costs a round trip each 64 KiB of a blob; 1 MiB costs at most that
            // much memory for each blob under way.
            .http2_initial_stream_window_size(1 << 20)
            .http2_initial_connection_window_size(4 << 20)
            .tcp_keepalive(Duration::from_secs(30))
    }
}

/// TLS by the one provider this program has (several may be compiled in, and rustls would refuse to guess).
fn tls_config() -> Result<rustls::ClientConfig, TransportSetupError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let loaded = rustls_native_certs::load_native_certs();
    let first_error = loaded.errors.first().map(ToString::to_string);
    let told_by_variable = std::env::var_os("SSL_CERT_FILE").is_some() || std::env::var_os("SSL_CERT_DIR").is_some();
    if let (true, Some(reason)) = (told_by_variable, &first_error) {
        return Err(TransportSetupError::TrustStore { reason: reason.clone() });
    }
    let mut roots = rustls::RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(loaded.certs);
    if usable == 0 {
        let reason = first_error.unwrap_or_else(|| "the trust store is empty".to_owned());
        return Err(TransportSetupError::NoRoots { reason });
    }
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TransportSetupError::Client { reason: error.to_string() })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

impl Transport for HttpTransport {
    fn send(&self, request: Request<Vec<u8>>) -> TransportFuture<'_> {
        Box::pin(async move {
            let origin = origin_of(request.uri());
            let is_direct = request.extensions().get::<Direct>().is_some();
            let client = if is_direct { &self.direct } else { &self.client };
            let proxy = if is_direct { None } else { proxy::of(&self.proxies, request.uri()) };
            let request = reqwest::Request::try_from(request)
                .map_err(|error| TransportError::Request { reason: innermost(&error) })?;
            let response = client.execute(request).await.map_err(|error| match (classify(&origin, &error), proxy) {
                (TransportError::Connect { origin, reason }, Some(proxy)) => {
                    TransportError::Connect { origin: format!("{origin} through the proxy {proxy}"), reason }
                }
                (error, _) => error,
            })?;
            let status = response.status();
            let headers = response.headers().clone();
            let of_error = origin.clone();
            let chunks =
                response.bytes_stream().map(move |chunk| chunk.map_err(|error| classify(&of_error, &error))).boxed();
            Ok(Answer::received(&origin, status, headers, chunks))
        })
    }
}

impl Answer {
    /// An answer as it comes from the network, its body to be decompressed as its headers say.
    pub fn received(
        origin: &str,
        status: StatusCode,
        mut headers: HeaderMap,
        chunks: BoxStream<'static, Result<Bytes, TransportError>>,
    ) -> Self {
        let is_gzip = headers.get(CONTENT_ENCODING).is_some_and(|encoding| {
            [&b"gzip"[..], b"x-gzip"].iter().any(|name| encoding.as_bytes().trim_ascii().eq_ignore_ascii_case(name))
        });
        if !is_gzip {
            return Self { status, headers, body: Body::new(chunks) };
        }
        // They speak of what is not there any more.
        headers.remove(CONTENT_ENCODING);
        headers.remove(CONTENT_LENGTH);
        let chunks = gunzip::gunzip(chunks, origin.to_owned());
        Self { status, headers, body: Body { chunks, is_proven_at_end: true } }
    }
}

impl Body {
    /// A body from a stream of chunks.
    pub fn new(chunks: BoxStream<'static, Result<Bytes, TransportError>>) -> Self {
        Self { chunks, is_proven_at_end: false }
    }

    /// Whether its end proves it: it carries a checksum, so that what has come of it may still turn out to be altered.
    pub fn is_proven_at_end(&self) -> bool {
        self.is_proven_at_end
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// When the connection breaks or falls silent, or the body is corrupt.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        self.chunks.next().await.transpose()
    }

    /// The whole body, if it has at most `limit` bytes.
    ///
    /// # Errors
    /// When the connection breaks, or the body is corrupt or larger.
    pub async fn read(mut self, limit: usize) -> Result<Vec<u8>, TransportError> {
        let mut whole = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if whole.len() + chunk.len() > limit {
                return Err(TransportError::TooLarge { limit: limit as u64 });
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.into())
    }

    /// What can be had of the body, up to `limit` bytes: for error bodies, where something is better than nothing.
    pub async fn read_some(mut self, limit: usize) -> Vec<u8> {
        let mut some = BytesMut::new();
        while let Ok(Some(chunk)) = self.chunk().await {
            let room = limit - some.len();
            some.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() >= room {
                break;
            }
        }
        some.into()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Body(…)")
    }
}

impl fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpTransport(…)")
    }
}

/// Scheme, host and port: what an error may show of a URL.
pub(crate) fn origin_of(uri: &http::Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("http");
    // `authority` could carry user information; host and port cannot.
    let host = uri.host().unwrap_or("unknown host");
    match uri.port_u16() {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    }
}

fn classify(origin: &str, error: &reqwest::Error) -> TransportError {
    let origin = origin.to_owned();
    if error.is_connect() {
        return TransportError::Connect { origin, reason: innermost(error) };
    }
    if error.is_timeout() {
        return TransportError::Timeout { origin };
    }
    if error.is_builder() {
        return TransportError::Request { reason: innermost(error) };
    }
    TransportError::Broken { origin, reason: innermost(error) }
}

/// The last error of the chain: reqwest's own texts repeat the URL, query and all; what lies under them does not.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    match last.downcast_ref::<reqwest::Error>() {
        // Nothing lies under it, so its own text is all there is, and that may hold the URL.
        Some(own) if own.is_timeout() => "timed out".to_owned(),
        Some(_) => "the client refused it".to_owned(),
        None => last.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::oneshot;

    fn transport(silence: Duration) -> HttpTransport {
        HttpTransport::new(&Timeouts { silence, ..Timeouts::default() }).unwrap()
    }

    fn patient() -> HttpTransport {
        transport(Duration::from_secs(60))
    }

    fn get(url: &str) -> Request<Vec<u8>> {
        Request::get(url).header("authorization", "Bearer secret-token").body(Vec::new()).unwrap()
    }

    /// Answers one connection with `bytes`, says what it was sent, and then closes or stays silent.
    async fn one_answer(bytes: &'static [u8], close: bool) -> (String, oneshot::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api/blob?PublisherIdentifier=hidden", listener.local_addr().unwrap());
        let (tell, told) = oneshot::channel();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                socket.read_exact(&mut byte).await.unwrap();
                request.extend_from_slice(&byte);
            }
            socket.write_all(bytes).await.unwrap();
            let _ = tell.send(String::from_utf8(request).unwrap().to_ascii_lowercase());
            if !close {
                std::future::pending::<()>().await;
            }
        });
        (url, told)
    }

    #[tokio::test]
    async fn an_answer_comes_with_status_headers_and_body_and_we_say_who_we_are() {
        let (url, told) =
            one_answer(b"HTTP/1.1 200 OK\r\nNextPageUri: x\r\nContent-Length: 5\r\n\r\nhello", true).await;
        let answer = patient().send(get(&url)).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.headers["nextpageuri"], "x");
        assert_eq!(answer.body.read(5).await.unwrap(), b"hello");
        let request = told.await.unwrap();
        assert!(request.contains(concat!("user-agent: tenantry/", env!("CARGO_PKG_VERSION"))), "{request}");
        assert!(request.contains("accept-encoding: gzip"), "{request}");
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_is_not_followed() {
        let (url, _told) =
            one_answer(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", true).await;
        assert_eq!(patient().send(get(&url)).await.unwrap().status, StatusCode::FOUND);
    }

    #[tokio::test]
    async fn a_body_shorter_than_announced_is_broken() {
        let (url, _told) = one_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[{", true).await;
        let error = patient().send(get(&url)).await.unwrap().body.read(1000).await.unwrap_err();
        assert!(matches!(error, TransportError::Broken { .. }), "{error}");
        let (url, _told) = one_answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[{\r\n", true).await;
        let error = patient().send(get(&url)).await.unwrap().body.read(1000).await.unwrap_err();
        assert!(matches!(error, TransportError::Broken { .. }), "{error}");
    }

    #[tokio::test]
    async fn silence_in_the_head_or_in_the_body_is_a_timeout() {
        let (url, _told) = one_answer(b"", false).await;
        let error = transport(Duration::from_millis(50)).send(get(&url)).await.unwrap_err();
        assert!(matches!(error, TransportError::Timeout { .. }), "{error}");
        let (url, _told) = one_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[{", false).await;
        let answer = transport(Duration::from_millis(50)).send(get(&url)).await.unwrap();
        let error = answer.body.read(1000).await.unwrap_err();
        assert!(matches!(error, TransportError::Timeout { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_body_may_be_as_large_as_the_limit_and_not_a_byte_larger() {
        for (limit, fits) in [(5, true), (4, false)] {
            let (url, _told) = one_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", true).await;
            let body = patient().send(get(&url)).await.unwrap().body;
            assert_eq!(body.read(limit).await.is_ok(), fits);
        }
        let (url, _told) = one_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", true).await;
        assert_eq!(patient().send(get(&url)).await.unwrap().body.read_some(4).await, b"hell");
    }

    #[tokio::test]
    async fn errors_show_neither_query_nor_token() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let mut errors = Vec::new();
        errors.push(patient().send(get(&format!("http://{address}/x?PublisherIdentifier=hidden"))).await.unwrap_err());
        let (url, _told) = one_answer(b"", true).await;
        errors.push(patient().send(get(&url)).await.unwrap_err());
        let (url, _told) = one_answer(b"SSH-2.0-nonsense\r\n\r\n", true).await;
        errors.push(patient().send(get(&url)).await.unwrap_err());
        errors.push(patient().send(get("https://127.0.0.1:1/x?PublisherIdentifier=hidden")).await.unwrap_err());
        for error in errors {
            for text in [error.to_string(), format!("{error:?}")] {
                assert!(!text.contains("hidden") && !text.contains("secret-token"), "{text}");
                assert!(text.contains("127.0.0.1"), "{text}");
            }
        }
    }
}
