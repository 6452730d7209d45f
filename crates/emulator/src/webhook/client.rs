//! The network's way out: one POST over http or https.
//!
//! Never follows a redirect, which counts as a failure anyway, and never checks who signed the endpoint's certificate:
//! endpoints of developers are self-signed, and nothing secret but their own authentication id is sent.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{HookPost, Outbound, PostFuture};

/// Longer than an endpoint needs, shorter than a start call may hang.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Posts over the network.
#[derive(Debug, Clone, Copy, Default)]
pub struct NetworkOutbound;

impl Outbound for NetworkOutbound {
    fn post(&self, post: HookPost) -> PostFuture<'_> {
        Box::pin(async move {
            match tokio::time::timeout(TIMEOUT, send(post)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(format!("The endpoint did not answer within {} seconds.", TIMEOUT.as_secs())),
            }
        })
    }
}

async fn send(post: HookPost) -> Result<u16, String> {
    let uri: Uri = post.address.parse().map_err(|_| "The address is no URL.".to_owned())?;
    let host = uri.host().ok_or("The address has no host.")?.trim_matches(['[', ']']).to_owned();
    let secure = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let unreachable = |error: std::io::Error| format!("The endpoint cannot be reached: {error}.");
    let stream = TcpStream::connect((host.as_str(), port)).await.map_err(unreachable)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::post(path);
    if let Some(authority) = uri.authority() {
        request = request.header(http::header::HOST, authority.as_str());
    }
    for (name, value) in &post.headers {
        request = request.header(*name, value);
    }
    let request = request
        .body(Full::new(Bytes::from(post.body)))
        .map_err(|_| "The authId cannot stand in a header.".to_owned())?;
    if !secure {
        return exchange(stream, request).await;
    }
    let name = ServerName::try_from(host).map_err(|_| "The host is no server name.".to_owned())?;
    let connector = TlsConnector::from(Arc::new(config()?));
    let stream =
        connector.connect(name, stream).await.map_err(|error| format!("The TLS handshake failed: {error}."))?;
    exchange(stream, request).await
}

async fn exchange(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<u16, String> {
    let broken = |error: hyper::Error| format!("The connection broke: {error}.");
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .title_case_headers(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    // The connection is driven beside the request. It ends once the sender is gone, or when the endpoint closes it,
    // which
    // many do right behind their answer.
    let answer = async move {
        let response = sender.send_request(request).await.map_err(broken)?;
        Ok(response.status().as_u16())
    };
    let (answer, _) = tokio::join!(answer, connection);
    answer
}

fn config() -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}."))?;
    Ok(config.dangerous().with_custom_certificate_verifier(Arc::new(AnySigner(provider))).with_no_client_auth())
}

/// Checks that the endpoint holds its certificate's key, and not who signed the certificate.
#[derive(Debug)]
struct AnySigner(Arc<CryptoProvider>);

impl ServerCertVerifier for AnySigner {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
