//! The headers of every answer of the public site: nothing from elsewhere, in no frame, without a referrer, kept nowhere.
//!
//! Never leaves a weaker header that a route has set: what is here replaces it, so that one careless page is no hole.

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;

use super::PublicUrl;

/// `style-src`, `script-src` and `connect-src` are for the site's own files and its own progress; there is no inline
/// script or style to allow, and no form to send.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const ALWAYS: [(HeaderName, &str); 9] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // For browsers that do not know frame-ancestors.
    (header::X_FRAME_OPTIONS, "DENY"),
    // Links of invitations and the callback's parameters stand in addresses.
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=(), payment=()"),
    (HeaderName::from_static("x-robots-tag"), "noindex, nofollow"),
];

/// What differs from site to site.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strict {
    is_https: bool,
}

impl Strict {
    pub(super) fn for_url(url: &PublicUrl) -> Self {
        Self { is_https: url.is_https() }
    }
}

pub(super) async fn add(State(strict): State<Strict>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if strict.is_https {
        // A year, and for this name alone: what else stands under the domain is not ours to promise for.
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    response
}
