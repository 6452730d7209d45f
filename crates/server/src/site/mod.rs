//! The public site: the only part of the program that the internet may reach.
//!
//! Never shares a router, a listener or a connection limit with the console, and never answers without the headers of
//! [`headers`], whoever made the answer. What stands on it adds its routes to [`PublicSite`].

pub mod consent;
mod headers;
mod public_url;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::get;

pub use public_url::{PublicUrl, PublicUrlError};

use crate::listen::healthz;

/// The largest body that any route of the site takes, unless the route sets a smaller limit of its own. A webhook
/// notification is the largest thing that anybody has reason to send us, and far smaller.
const BODY_BYTES_MAX: usize = 1 << 20;

/// The site under construction: parts add their routes, [`PublicSite::into_router`] closes it.
#[derive(Debug)]
pub struct PublicSite {
    url: PublicUrl,
    routes: Router,
}

impl PublicSite {
    /// A site that says that it is there, and nothing else. `url` is what browsers and Microsoft reach it by.
    pub fn new(url: PublicUrl) -> Self {
        Self { url, routes: Router::new().route("/healthz", get(healthz)) }
    }

    /// Adds the routes of one part. Two parts with the same route are a mistake in the program, and a panic at its start.
    #[must_use]
    pub fn with(self, routes: Router) -> Self {
        Self { routes: self.routes.merge(routes), ..self }
    }

    /// The finished router: whatever it answers carries the headers, the answers of its layers and its 404 included.
    pub fn into_router(self) -> Router {
        self.routes
            .fallback(nothing_here)
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .layer(axum::middleware::from_fn_with_state(headers::Strict::for_url(&self.url), headers::add))
    }
}

async fn nothing_here() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "there is nothing here\n")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{Method, Request, Response, header};
    use axum::response::IntoResponse as _;
    use tower::ServiceExt as _;

    use super::*;

    async fn answer(url: &str, method: Method, path: &str) -> Response<Body> {
        let framed = || async { [(header::CONTENT_SECURITY_POLICY, "frame-ancestors *")].into_response() };
        let routes =
            Router::new().route("/loose", get(framed)).route("/form", axum::routing::post(|_: String| async {}));
        let router = PublicSite::new(url.parse().unwrap()).with(routes).into_router();
        let large = if method == Method::POST { BODY_BYTES_MAX + 1 } else { 0 };
        let request = Request::builder().method(method).uri(path).body(Body::from(vec![b'a'; large])).unwrap();
        router.oneshot(request).await.unwrap()
    }

    #[tokio::test]
    async fn every_answer_carries_the_strict_headers_whoever_made_it() {
        for (method, path, status) in [
            (Method::GET, "/healthz", 200),
            (Method::GET, "/nowhere", 404),
            (Method::POST, "/healthz", 405),
            (Method::POST, "/form", 413),
            (Method::GET, "/loose", 200),
        ] {
            let answer = answer("https://audit.example.com", method, path).await;
            assert_eq!(answer.status(), status, "{path}");
            let text = |name| answer.headers().get(name).unwrap().to_str().unwrap().to_owned();
            let policies = answer.headers().get_all(header::CONTENT_SECURITY_POLICY).iter().count();
            assert_eq!(policies, 1, "{path}: one policy, not two side by side");
            let policy = text(header::CONTENT_SECURITY_POLICY);
            for directive in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"] {
                assert!(policy.contains(directive), "{path}: {policy}");
            }
            assert!(!policy.contains("unsafe"), "{policy}");
            assert_eq!(text(header::REFERRER_POLICY), "no-referrer");
            assert_eq!(text(header::X_CONTENT_TYPE_OPTIONS), "nosniff");
            assert_eq!(text(header::CACHE_CONTROL), "no-store");
            assert_eq!(text(header::STRICT_TRANSPORT_SECURITY), "max-age=31536000");
        }
    }

    #[tokio::test]
    async fn a_site_without_tls_does_not_promise_any() {
        let answer = answer("http://127.0.0.1:8365", Method::GET, "/healthz").await;
        assert!(!answer.headers().contains_key(header::STRICT_TRANSPORT_SECURITY));
        assert!(answer.headers().contains_key(header::CONTENT_SECURITY_POLICY));
    }
}
