//! Which proxy the usual variables choose, and whether they name one at all.
//!
//! Never shows what a proxy's address may hold of a credential.

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;

/// The variables that choose a proxy, in the letter cases people write.
pub(crate) const VARIABLES: [&str; 6] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// Those that are set to something.
pub(crate) fn set() -> Vec<&'static str> {
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|text| !text.to_string_lossy().trim().is_empty());
    VARIABLES.into_iter().filter(is_set).collect()
}

/// The first variable that is set and names no proxy we can use.
pub(crate) fn unusable() -> Option<&'static str> {
    set().into_iter().find(|name| !std::env::var(name).is_ok_and(|text| is_usable(&text)))
}

/// Whether `text` is the address of a proxy that speaks HTTP, with or without TLS.
fn is_usable(text: &str) -> bool {
    let probe = Uri::from_static("https://example.com/");
    let proxy = Matcher::builder().all(text.trim().to_owned()).build().intercept(&probe);
    proxy
        .is_some_and(|proxy| matches!(proxy.uri().scheme_str(), Some("http" | "https")) && proxy.uri().host().is_some())
}

/// The proxy that a request goes through: scheme, host and port, and no more of it.
pub(super) fn of(matcher: &Matcher, uri: &Uri) -> Option<String> {
    Some(super::origin_of(matcher.intercept(uri)?.uri()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_no_proxy_is_told_from_what_does() {
        for text in
            ["http://proxy.example:3128", "https://proxy.example", "proxy.example:3128", "http://u:p@10.0.0.1:8080/"]
        {
            assert!(is_usable(text), "{text}");
        }
        for text in ["nonsense://x", "socks5://proxy.example:1080", "http://", "://", "http://a b"] {
            assert!(!is_usable(text), "{text}");
        }
    }

    #[test]
    fn a_proxy_is_named_without_what_lets_one_in() {
        let matcher = Matcher::builder().all("http://user:hidden@proxy.example:3128/").no("10.0.0.0/8").build();
        let through = |uri: &'static str| of(&matcher, &Uri::from_static(uri));
        assert_eq!(through("https://manage.office.com/x").as_deref(), Some("http://proxy.example:3128"));
        assert_eq!(through("http://10.1.2.3/"), None);
    }
}
