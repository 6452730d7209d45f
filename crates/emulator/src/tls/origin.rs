//! Where a request was sent to, as its sender named it: what every absolute URL in an answer is built from.
//!
//! Never decides anything about access: `Host` is the client's word. The emulator serves login.microsoftonline.com,
//! manage.office.com and 127.0.0.1:7000 alike, and prints back whichever it was called by.

use std::fmt;

use http::header::HOST;
use http::request::Parts;

use crate::tls::connection::Secure;

/// A scheme and an authority: `https://login.microsoftonline.com`, without a trailing slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: &'static str,
    authority: String,
}

impl Origin {
    /// Reads it from a request: the authority from an absolute request target (HTTP/2, and routers called in process),
    /// else from `Host`; the scheme from the same target, else from the listener, else from `X-Forwarded-Proto`.
    pub fn of(parts: &Parts) -> Self {
        let host = parts.headers.get(HOST).and_then(|value| value.to_str().ok());
        let authority = parts
            .uri
            .authority()
            .map(|authority| authority.as_str())
            .or(host)
            .filter(|text| is_authority(text))
            .unwrap_or("localhost")
            .to_ascii_lowercase();
        let forwarded = || match parts.headers.get("x-forwarded-proto").map(http::HeaderValue::as_bytes) {
            Some(b"https") => Some("https"),
            Some(b"http") => Some("http"),
            _ => None,
        };
        let listener = || parts.extensions.get::<Secure>().map(|Secure(secure)| if *secure { "https" } else { "http" });
        let target = || match parts.uri.scheme_str() {
            Some("https") => Some("https"),
            Some("http") => Some("http"),
            _ => None,
        };
        let scheme = forwarded().or_else(listener).or_else(target).unwrap_or("http");
        let default_port = if scheme == "https" { ":443" } else { ":80" };
        let authority = authority.strip_suffix(default_port).unwrap_or(&authority).to_owned();
        Self { scheme, authority }
    }

    /// The host without its port; an IPv6 address keeps its brackets.
    pub fn host(&self) -> &str {
        match self.authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => &self.authority,
        }
    }

    /// The name means this machine.
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        host == "localhost" || host == "[::1]" || host.starts_with("127.")
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

/// Only what can stand in a URL as it is: the text goes into headers, JSON and pages.
fn is_authority(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(uri: &str, headers: &[(&str, &str)], secure: Option<bool>) -> String {
        let mut request = http::Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        if let Some(secure) = secure {
            parts.extensions.insert(Secure(secure));
        }
        Origin::of(&parts).to_string()
    }

    #[test]
    fn the_name_the_client_used_is_printed_back() {
        assert_eq!(origin("/x", &[("host", "127.0.0.1:7000")], Some(false)), "http://127.0.0.1:7000");
        assert_eq!(origin("/x", &[("host", "Manage.Office.com")], Some(true)), "https://manage.office.com");
        assert_eq!(origin("https://manage.office.com/x", &[], None), "https://manage.office.com");
        assert_eq!(origin("http://127.0.0.1:7000/x", &[], None), "http://127.0.0.1:7000");
        assert_eq!(origin("/x", &[("host", "[::1]:7000")], Some(true)), "https://[::1]:7000");
    }

    #[test]
    fn a_default_port_is_left_out_and_a_proxy_is_believed_about_the_scheme() {
        assert_eq!(origin("/x", &[("host", "localhost:443")], Some(true)), "https://localhost");
        assert_eq!(origin("/x", &[("host", "localhost:443")], Some(false)), "http://localhost:443");
        assert_eq!(origin("/x", &[("host", "m"), ("x-forwarded-proto", "https")], Some(false)), "https://m");
    }

    #[test]
    fn a_host_that_cannot_stand_in_a_url_is_not_printed() {
        for host in ["a\"b", "a b", "", "a/b", "<script>"] {
            assert_eq!(origin("/x", &[("host", host)], Some(false)), "http://localhost", "{host}");
        }
    }

    #[test]
    fn host_is_the_authority_without_its_port() {
        let host = |text: &str| Origin { scheme: "http", authority: text.into() }.host().to_owned();
        assert_eq!(host("127.0.0.1:7000"), "127.0.0.1");
        assert_eq!(host("localhost"), "localhost");
        assert_eq!(host("[::1]:7000"), "[::1]");
        assert_eq!(host("[::1]"), "[::1]");
    }
}
