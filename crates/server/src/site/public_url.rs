//! The address that browsers and Microsoft reach the public site by.
//!
//! Never holds more than a scheme, a host and a port: cookies are for a whole host, and redirect URIs are compared
//! letter by letter (entra.md §2), so there is one way to write each.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use url::{Host, Url};

/// Such as `https://audit.example.com`: https, or http to this machine. Written without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    origin: String,
    is_https: bool,
}

/// Why an address cannot be the public site's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublicUrlError {
    /// It is no URL.
    #[error("must be an address such as https://audit.example.com")]
    NotAUrl,
    /// Entra ID redirects to https only, this machine excepted.
    #[error("must begin with https:// (http:// is for 127.0.0.1, [::1] and localhost only)")]
    NotHttps,
    /// There is more than a scheme, a host and a port.
    #[error("must end after the host and port: no user, path, query or fragment")]
    MoreThanAnOrigin,
}

impl PublicUrl {
    /// The address of one page: `path` begins with a slash.
    pub fn page(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// Whether browsers reach it by TLS.
    pub fn is_https(&self) -> bool {
        self.is_https
    }
}

impl FromStr for PublicUrl {
    type Err = PublicUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = Url::parse(text).map_err(|_| PublicUrlError::NotAUrl)?;
        let is_local = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
            Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
            None => return Err(PublicUrlError::NotAUrl),
        };
        let is_https = match url.scheme() {
            "https" => true,
            "http" if is_local => false,
            _ => return Err(PublicUrlError::NotHttps),
        };
        let has_user = !url.username().is_empty() || url.password().is_some();
        if has_user || url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(PublicUrlError::MoreThanAnOrigin);
        }
        Ok(Self { origin: url.origin().ascii_serialization(), is_https })
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_in_one_way() {
        for (text, expected, is_https) in [
            ("https://audit.example.com", "https://audit.example.com", true),
            ("https://Audit.Example.com:443/", "https://audit.example.com", true),
            ("https://audit.example.com:8443/", "https://audit.example.com:8443", true),
            ("http://127.0.0.1:8365", "http://127.0.0.1:8365", false),
            ("http://localhost:8365/", "http://localhost:8365", false),
            ("http://[::1]:8365", "http://[::1]:8365", false),
        ] {
            let url: PublicUrl = text.parse().unwrap();
            assert_eq!((url.to_string().as_str(), url.is_https()), (expected, is_https));
            assert_eq!(url.page("/consent"), format!("{expected}/consent"));
        }
    }

    #[test]
    fn what_is_no_origin_or_no_https_is_refused() {
        for (text, expected) in [
            ("audit.example.com", PublicUrlError::NotAUrl),
            ("", PublicUrlError::NotAUrl),
            ("http://audit.example.com", PublicUrlError::NotHttps),
            ("http://10.0.0.1:80", PublicUrlError::NotHttps),
            ("ftp://127.0.0.1", PublicUrlError::NotHttps),
            ("https://audit.example.com/base", PublicUrlError::MoreThanAnOrigin),
            ("https://audit.example.com/?a=b", PublicUrlError::MoreThanAnOrigin),
            ("https://audit.example.com/#a", PublicUrlError::MoreThanAnOrigin),
            ("https://me:pw@audit.example.com", PublicUrlError::MoreThanAnOrigin),
        ] {
            assert_eq!(text.parse::<PublicUrl>(), Err(expected), "{text}");
        }
    }
}
