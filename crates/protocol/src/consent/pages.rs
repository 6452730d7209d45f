//! The addresses of Entra ID's pages: the v1 authorize page of the getting-started guide, v2's admin consent, v2's sign-in
//! (entra.md §3.1, §3.3, §3.4).
//!
//! Never without `state`, which the guide's own example lacks.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use url::Url;

use super::{ConsentAsk, StateText};

/// A PKCE challenge of the method S256 (RFC 7636).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeChallenge(String);

impl CodeChallenge {
    /// Of the SHA-256 digest of the verifier's text.
    pub fn from_sha256(digest: [u8; 32]) -> Self {
        Self(URL_SAFE_NO_PAD.encode(digest))
    }
}

/// v1: consent for the whole tenant, answered with a code. The resource stands here and at the redemption, the same.
pub fn authorize_page(ask: &ConsentAsk<'_>, state: &StateText, nonce: &str, challenge: &CodeChallenge) -> Url {
    with_query(
        ask,
        "oauth2/authorize",
        &[
            ("response_type", "code"),
            ("response_mode", "query"),
            ("resource", ask.cloud.resource()),
            ("prompt", "admin_consent"),
            ("nonce", nonce),
            ("code_challenge", &challenge.0),
            ("code_challenge_method", "S256"),
            ("state", state.as_str()),
        ],
    )
}

/// v2: consent for the whole tenant, answered with a tenant id that proves nothing. `/.default` stands for everything in
/// the registration's list; application permissions can be asked for in no other way.
pub fn admin_consent_page(ask: &ConsentAsk<'_>, state: &StateText) -> Url {
    let scope = format!("{}/.default", ask.cloud.resource());
    with_query(ask, "v2.0/adminconsent", &[("scope", &scope), ("state", state.as_str())])
}

/// v2: who is it? Answered with a code that redeems to an id_token. Asks for no permission, and without `prompt` shows no
/// page to a person who has just signed in.
pub fn sign_in_page(ask: &ConsentAsk<'_>, state: &StateText, nonce: &str, challenge: &CodeChallenge) -> Url {
    with_query(
        ask,
        "oauth2/v2.0/authorize",
        &[
            ("response_type", "code"),
            ("response_mode", "query"),
            ("scope", "openid profile"),
            ("nonce", nonce),
            ("code_challenge", &challenge.0),
            ("code_challenge_method", "S256"),
            ("state", state.as_str()),
        ],
    )
}

fn with_query(ask: &ConsentAsk<'_>, path: &str, parameters: &[(&str, &str)]) -> Url {
    let mut url = ask.login_url(path);
    url.query_pairs_mut()
        .append_pair("client_id", &ask.client_id.to_string())
        .append_pair("redirect_uri", ask.redirect_uri)
        .extend_pairs(parameters);
    url
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cloud::{Cloud, CloudName};
    use crate::consent::Directory;

    const CLIENT: &str = "a6099727-6b7b-482c-b509-1df309acc563";
    const CALLBACK: &str = "https://audit.example.com/consent/callback";

    fn state() -> StateText {
        StateText::from_bytes([7; 32])
    }

    fn challenge() -> CodeChallenge {
        CodeChallenge::from_sha256([0xFB; 32])
    }

    fn ask(cloud: &Cloud, directory: Directory) -> ConsentAsk<'_> {
        ConsentAsk { cloud, client_id: CLIENT.parse().unwrap(), redirect_uri: CALLBACK, directory }
    }

    fn read(url: &Url) -> (String, BTreeMap<String, String>) {
        let query = url.query_pairs().into_owned().collect();
        (format!("{}{}", url.origin().ascii_serialization(), url.path()), query)
    }

    #[test]
    fn the_v1_page_asks_an_admin_for_the_resource_and_binds_the_answer() {
        let cloud = Cloud::preset(CloudName::GccHigh).unwrap();
        let (page, query) = read(&authorize_page(&ask(&cloud, Directory::Common), &state(), "once", &challenge()));
        assert_eq!(page, "https://login.microsoftonline.us/common/oauth2/authorize");
        let expected = [
            ("client_id", CLIENT),
            ("redirect_uri", CALLBACK),
            ("response_type", "code"),
            ("response_mode", "query"),
            ("resource", "https://manage.office365.us"),
            ("prompt", "admin_consent"),
            ("nonce", "once"),
            ("code_challenge", "-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s"),
            ("code_challenge_method", "S256"),
            ("state", "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"),
        ];
        assert_eq!(query, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn the_v2_pages_name_scopes_and_never_a_resource() {
        let cloud = Cloud::preset(CloudName::Commercial).unwrap();
        let tenant = "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11".parse().unwrap();
        let (page, query) = read(&admin_consent_page(&ask(&cloud, Directory::Organizations), &state()));
        assert_eq!(page, "https://login.microsoftonline.com/organizations/v2.0/adminconsent");
        assert_eq!(query["scope"], "https://manage.office.com/.default");
        assert!(!query.contains_key("resource") && query.contains_key("state"));
        let (page, query) = read(&sign_in_page(&ask(&cloud, Directory::Tenant(tenant)), &state(), "n", &challenge()));
        assert_eq!(page, format!("https://login.microsoftonline.com/{tenant}/oauth2/v2.0/authorize"));
        assert_eq!(query["scope"], "openid profile");
        assert!(!query.contains_key("resource") && !query.contains_key("prompt"));
    }
}
