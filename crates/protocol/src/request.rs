//! A request as plain data, and the one way a bearer token gets onto it.
//!
//! Never sends anything, and never holds an `Authorization` header: [`Request::authorize`] adds it at the last moment,
//! after the URL has been held against the token's own tenant and cloud once more (promise 7). Requests come from the
//! builders under [`crate::activity`] and [`crate::token`] and go to whatever transport the caller owns.

use std::fmt;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use url::Url;

use crate::cloud::{Cloud, UrlRefused};
use crate::ids::PublisherId;
use crate::token::TenantToken;

/// The query parameter that says who wrote the client (activity-api.md §1).
pub const PUBLISHER_IDENTIFIER: &str = "PublisherIdentifier";

/// What a request needs before it may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// Nothing: token requests carry their credential in the body.
    None,
    /// A [`TenantToken`], by [`Request::authorize`].
    Bearer,
}

/// A request that has not been given a token yet. `Debug` shows neither the query nor the body.
#[derive(Clone)]
pub struct Request {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Vec<u8>,
    auth: Auth,
}

impl Request {
    /// The method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The absolute URL, without fragment.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The headers; never an `Authorization`.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The body; empty for most.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// What it needs before it may be sent.
    pub fn auth(&self) -> Auth {
        self.auth
    }

    /// The request with `token` on it, ready to send. The tenant is the token's own, so a token of one tenant cannot end
    /// up on a request of another; nor can it leave the cloud it was issued for, or the Activity API. Whoever sends it must
    /// not follow redirects with it.
    ///
    /// # Errors
    /// When the URL is not `cloud`'s, the token's tenant's and the Activity API's, or the token is another cloud's.
    pub fn authorize(self, cloud: &Cloud, token: &TenantToken) -> Result<http::Request<Vec<u8>>, UrlRefused> {
        if token.resource() != cloud.resource() {
            return Err(UrlRefused::ForeignToken {
                issued_for: token.resource().to_owned(),
                expected: cloud.resource().to_owned(),
            });
        }
        cloud.check_activity_url(token.tenant(), self.url.as_str())?;
        let mut request = self.into_unauthenticated()?;
        request.headers_mut().insert(AUTHORIZATION, token.authorization());
        Ok(request)
    }

    /// The request as it is, for those that need no token.
    ///
    /// # Errors
    /// When the URL is longer than HTTP libraries take (65,534 bytes).
    pub fn into_unauthenticated(self) -> Result<http::Request<Vec<u8>>, UrlRefused> {
        let uri: Uri = self.url.as_str().parse().map_err(|_| UrlRefused::Unreadable)?;
        let mut request = http::Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers;
        Ok(request)
    }

    /// A GET of the Activity API. `PublisherIdentifier` is added when the URL has none.
    pub(crate) fn activity_get(url: Url, publisher: PublisherId) -> Self {
        Self::activity(Method::GET, url, publisher)
    }

    /// A POST of the Activity API without a body. The explicit length is what IIS insists on.
    pub(crate) fn activity_post(url: Url, publisher: PublisherId) -> Self {
        let mut request = Self::activity(Method::POST, url, publisher);
        request.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        request
    }

    /// A POST of the Activity API with a JSON body.
    pub(crate) fn activity_post_json(url: Url, publisher: PublisherId, body: Vec<u8>) -> Self {
        let mut request = Self::activity(Method::POST, url, publisher);
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        request.body = body;
        request
    }

    /// A GET that needs no token and gets none.
    pub(crate) fn plain_get(url: Url) -> Self {
        Self { method: Method::GET, url, headers: accepting_json(), body: Vec::new(), auth: Auth::None }
    }

    /// A form POST that carries its own credential.
    pub(crate) fn form_post(url: Url, body: String) -> Self {
        let mut headers = accepting_json();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        Self { method: Method::POST, url, headers, body: body.into_bytes(), auth: Auth::None }
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        debug_assert_ne!(name, AUTHORIZATION);
        self.headers.insert(name, value);
        self
    }

    fn activity(method: Method, url: Url, publisher: PublisherId) -> Self {
        let url = with_publisher(url, publisher);
        Self { method, url, headers: accepting_json(), body: Vec::new(), auth: Auth::Bearer }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = self.url.origin().ascii_serialization();
        write!(f, "{} {origin}{} ({} body bytes)", self.method, self.url.path(), self.body.len())
    }
}

fn accepting_json() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers
}

/// Appends `PublisherIdentifier` unless the URL has one, in whatever letter case; what is there already is not touched,
/// not even re-encoded. Fragments never cross the wire and go.
fn with_publisher(mut url: Url, publisher: PublisherId) -> Url {
    url.set_fragment(None);
    if !url.query_pairs().any(|(name, _)| name.eq_ignore_ascii_case(PUBLISHER_IDENTIFIER)) {
        url.query_pairs_mut().append_pair(PUBLISHER_IDENTIFIER, &publisher.to_string());
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::CloudName;
    use crate::ids::TenantId;

    fn publisher() -> PublisherId {
        "46b472a7-c68e-4adf-8ade-3db49497518e".parse().unwrap()
    }

    fn tenant_a() -> TenantId {
        "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11".parse().unwrap()
    }

    fn tenant_b() -> TenantId {
        "00000000-0000-4000-8000-00000000000b".parse().unwrap()
    }

    fn token(tenant: TenantId, cloud: &Cloud) -> TenantToken {
        TenantToken::issued(tenant, cloud.resource(), "eyJ0.eyJ0.c2ln").unwrap()
    }

    fn blob_of(cloud: &Cloud, tenant: TenantId) -> Request {
        let url = Url::parse(&format!("{}/audit/2017$2017$audit_x$Audit_X", cloud.feed_root(tenant))).unwrap();
        Request::activity_get(url, publisher())
    }

    #[test]
    fn the_publisher_is_appended_once_and_the_rest_of_the_uri_stays_as_given() {
        let given = "https://h/a$b%24c%2Bd?nextPage=2015$x%3D%3D&x=a+b";
        let expected = format!("{given}&PublisherIdentifier={}", publisher());
        let first = with_publisher(Url::parse(given).unwrap(), publisher());
        assert_eq!(first.as_str(), expected);
        assert_eq!(with_publisher(first, publisher()).as_str(), expected);
    }

    #[test]
    fn a_publisher_in_the_uri_is_never_replaced() {
        let given = "https://h/a?publisheridentifier=someone";
        assert_eq!(with_publisher(Url::parse(given).unwrap(), publisher()).as_str(), given);
        let bare = with_publisher(Url::parse("https://h/a#part").unwrap(), publisher());
        assert_eq!(bare.as_str(), format!("https://h/a?PublisherIdentifier={}", publisher()));
    }

    #[test]
    fn a_token_reaches_its_own_tenants_request_and_is_marked_sensitive() {
        let cloud = Cloud::preset(CloudName::Commercial).unwrap();
        let request = blob_of(&cloud, tenant_a()).authorize(&cloud, &token(tenant_a(), &cloud)).unwrap();
        let header = &request.headers()[AUTHORIZATION];
        assert_eq!(header.to_str().unwrap(), "Bearer eyJ0.eyJ0.c2ln");
        assert!(header.is_sensitive());
        assert!(request.uri().path().ends_with("/audit/2017$2017$audit_x$Audit_X"));
    }

    #[test]
    fn a_token_of_one_tenant_is_refused_on_a_request_of_another() {
        let cloud = Cloud::preset(CloudName::Commercial).unwrap();
        let refused = blob_of(&cloud, tenant_b()).authorize(&cloud, &token(tenant_a(), &cloud)).unwrap_err();
        assert_eq!(refused, UrlRefused::ForeignPath { tenant: tenant_a() });
    }

    #[test]
    fn a_token_never_leaves_its_cloud() {
        let commercial = Cloud::preset(CloudName::Commercial).unwrap();
        let gcc = Cloud::preset(CloudName::Gcc).unwrap();
        let foreign_token = blob_of(&gcc, tenant_a()).authorize(&gcc, &token(tenant_a(), &commercial)).unwrap_err();
        assert!(matches!(foreign_token, UrlRefused::ForeignToken { .. }));
        let foreign_url = blob_of(&gcc, tenant_a()).authorize(&commercial, &token(tenant_a(), &commercial));
        assert!(matches!(foreign_url, Err(UrlRefused::ForeignOrigin { .. })));
    }

    #[test]
    fn a_token_request_cannot_be_given_a_bearer_token() {
        let cloud = Cloud::preset(CloudName::Commercial).unwrap();
        let request = Request::form_post(Url::parse("https://login.microsoftonline.com/x").unwrap(), "a=b".into());
        assert_eq!(request.auth(), Auth::None);
        assert!(request.authorize(&cloud, &token(tenant_a(), &cloud)).is_err());
    }

    #[test]
    fn debug_output_shows_neither_query_nor_body() {
        let url = Url::parse("https://h/p?code=hidden-query").unwrap();
        let shown = format!("{:?}", Request::form_post(url, "client_secret=hidden-body".into()));
        assert_eq!(shown, "POST https://h/p (25 body bytes)");
    }
}
