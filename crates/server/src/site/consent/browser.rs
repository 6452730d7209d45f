//! What binds a flow to a browser: one cookie, and what follows from it.
//!
//! Never stored: the ledger has the cookie's digest, and the verifier and the nonce of a flow are made anew from the cookie
//! and the state when both come back. So there is no secret of a flow anywhere but in the browser that began it.

use std::fmt;

use aws_lc_rs::{digest, hmac, rand};
use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use engine::consent::{Digest, VISIT_LIFETIME};
use protocol::consent::{CodeChallenge, StateText};
use protocol::secret::CodeVerifier;

use crate::site::PublicUrl;

/// The length of 32 bytes in base64url.
const TEXT_LENGTH: usize = 43;

/// 32 random bytes as text: a browser's cookie, or a link's secret.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(String);

impl Secret {
    pub(super) fn new() -> Self {
        Self(URL_SAFE_NO_PAD.encode(random()))
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_ours = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (text.len() == TEXT_LENGTH && text.bytes().all(is_ours)).then(|| Self(text.to_owned()))
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }

    pub(super) fn digest(&self) -> Digest {
        sha256(self.0.as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// The name of the cookie: with the prefix that keeps every other host from setting it, where there is TLS.
fn cookie_name(url: &PublicUrl) -> &'static str {
    if url.is_https() { "__Host-tenantry-consent" } else { "tenantry-consent" }
}

/// The browser's cookie. One that stands there twice is none: somebody else has set one of them.
pub(super) fn cookie_of(url: &PublicUrl, headers: &HeaderMap) -> Option<Secret> {
    let name = cookie_name(url);
    let mut found = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(known, _)| *known == name)
        .map(|(_, value)| value);
    let first = found.next()?;
    if found.next().is_some() { None } else { Secret::parse(first) }
}

/// What sets it. `Lax` lets it come along when Microsoft sends the browser back, and with nothing else from elsewhere.
pub(super) fn set_cookie(url: &PublicUrl, browser: &Secret) -> HeaderValue {
    let secure = if url.is_https() { "; Secure" } else { "" };
    let text = format!(
        "{}={}; Path=/; Max-Age={}; HttpOnly; SameSite=Lax{secure}",
        cookie_name(url),
        browser.expose(),
        VISIT_LIFETIME.as_secs()
    );
    HeaderValue::try_from(text).expect("base64url and our own words are visible ASCII")
}

/// What goes along with one state of one browser.
pub(super) struct Binding {
    pub(super) verifier: CodeVerifier,
    pub(super) nonce: String,
}

impl Binding {
    pub(super) fn of(browser: &Secret, state: &StateText) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, browser.expose().as_bytes());
        let derive = |purpose: &str| {
            let text = format!("{purpose} {}", state.as_str());
            URL_SAFE_NO_PAD.encode(hmac::sign(&key, text.as_bytes()).as_ref())
        };
        Self { verifier: CodeVerifier::new(&derive("verifier")), nonce: derive("nonce") }
    }

    pub(super) fn challenge(&self) -> CodeChallenge {
        CodeChallenge::from_sha256(sha256(self.verifier.expose().as_bytes()))
    }
}

pub(super) fn new_state() -> StateText {
    StateText::from_bytes(random())
}

pub(super) fn state_digest(state: &StateText) -> Digest {
    sha256(state.as_str().as_bytes())
}

fn sha256(bytes: &[u8]) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).expect("the system's random numbers never run out once it has started");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookies(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::COOKIE, HeaderValue::from_str(line).unwrap());
        }
        headers
    }

    #[test]
    fn a_cookie_comes_back_as_it_was_set_and_only_once() {
        for (url, expected_name) in
            [("https://audit.example.com", "__Host-tenantry-consent="), ("http://127.0.0.1:8365", "tenantry-consent=")]
        {
            let url: PublicUrl = url.parse().unwrap();
            let browser = Secret::new();
            let set = set_cookie(&url, &browser).to_str().unwrap().to_owned();
            assert!(set.starts_with(expected_name), "{set}");
            assert_eq!(set.ends_with("; HttpOnly; SameSite=Lax; Secure"), url.is_https(), "{set}");
            assert!(set.contains("; Path=/;") && !set.contains("Domain"), "{set}");
            let pair = set.split(';').next().unwrap();
            let back = |lines: &[&str]| cookie_of(&url, &cookies(lines));
            assert_eq!(back(&[pair]), Some(browser.clone()));
            assert_eq!(back(&["a=b", &format!("c=d; {pair} ;e=f")]), Some(browser.clone()));
            assert_eq!(back(&[pair, pair]), None);
            assert_eq!(back(&[&format!("x{pair}")]), None);
            assert_eq!(back(&[&format!("{pair}A")]), None);
            assert_eq!(back(&[]), None);
        }
    }

    #[test]
    fn verifier_and_nonce_are_this_browsers_and_this_states_alone() {
        let (browser, state) = (Secret::new(), new_state());
        let here = Binding::of(&browser, &state);
        let again = Binding::of(&browser, &state);
        assert_eq!((here.verifier.expose(), &here.nonce), (again.verifier.expose(), &again.nonce));
        assert_eq!(here.verifier.expose().len(), 43);
        assert_ne!(here.verifier.expose(), here.nonce);
        for other in [Binding::of(&Secret::new(), &state), Binding::of(&browser, &new_state())] {
            assert_ne!(here.verifier.expose(), other.verifier.expose());
            assert_ne!(here.nonce, other.nonce);
        }
    }

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::new();
        assert!(!format!("{secret:?}").contains(secret.expose()));
        assert_ne!(secret.digest(), Secret::new().digest());
    }
}
