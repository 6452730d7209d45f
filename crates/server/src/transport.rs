//! The one way out of the program: a request goes in, a status, headers and a stream of body bytes come out.
//!
//! Never follows a redirect (a token would follow it), never retries, never repeats a URL's query or a header in an
//! error. Requests are built in `protocol`; the production transport is [`HttpTransport`], a test's is an axum router.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{BoxStream, StreamExt};
use http::{HeaderMap, Request, StatusCode};

/// What [`Transport::send`] returns.
pub type TransportFuture<'a> = Pin<Box<dyn Future<Output = Result<Answer, TransportError>> + Send + 'a>>;

/// The seam between the workers and the network; it exists because tests put an emulator and faults behind it.
pub trait Transport: Send + Sync {
    /// Sends one request and returns as soon as the answer's head is in; its body follows by [`Body::chunk`].
    fn send(&self, request: Request<Vec<u8>>) -> TransportFuture<'_>;
}

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
pub struct Body(BoxStream<'static, Result<Bytes, TransportError>>);

/// Why there is no answer, or not all of it. Shows the origin at most.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// No connection came about: name, address, proxy, TLS.
    #[error("no connection to {origin}: {reason}")]
    Connect {
        /// Scheme, host and port.
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
    /// TLS or the proxy variables are unusable.
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
}

impl HttpTransport {
    /// Sets the client up; reads the trust store once.
    ///
    /// # Errors
    /// When the trust store or the proxy variables cannot be used.
    pub fn new(timeouts: &Timeouts) -> Result<Self, TransportSetupError> {
        let client = reqwest::Client::builder()
            .use_preconfigured_tls(tls_config()?)
            .user_agent(concat!("tenantry/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
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
            .build()
            .map_err(|error| TransportSetupError::Client { reason: innermost(&error) })?;
        Ok(Self { client })
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
            let request = reqwest::Request::try_from(request)
                .map_err(|error| TransportError::Request { reason: innermost(&error) })?;
            let response = self.client.execute(request).await.map_err(|error| classify(&origin, &error))?;
            let status = response.status();
            let headers = response.headers().clone();
            let stream =
                response.bytes_stream().map(move |chunk| chunk.map_err(|error| classify(&origin, &error))).boxed();
            Ok(Answer { status, headers, body: Body(stream) })
        })
    }
}

impl Body {
    /// A body from a stream of chunks.
    pub fn new(stream: BoxStream<'static, Result<Bytes, TransportError>>) -> Self {
        Self(stream)
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// When the connection breaks or falls silent.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        self.0.next().await.transpose()
    }

    /// The whole body, if it has at most `limit` bytes.
    ///
    /// # Errors
    /// When the connection breaks, or the body is larger.
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
