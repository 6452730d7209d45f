//! Azure's encryption scope, asked for with every blob that is written.
//!
//! Never signed: what an account's key signs does not cover it, so who has nothing but that key cannot ask for one. Never
//! asked for when something is read: the service knows by itself.

use async_trait::async_trait;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, SpawnedReqwestConnector,
};
use object_store::{ClientOptions, HeaderValue};

/// What a scope is asked for with:
/// <https://learn.microsoft.com/rest/api/storageservices/put-blob#request-headers-encryption-scopes>
const HEADER: &str = "x-ms-encryption-scope";

/// The setting. Microsoft's tools have none of that kind; this is called as they would.
pub(super) const SETTING: &str = "azure_storage_encryption_scope";

/// Makes clients that ask for a scope.
#[derive(Debug)]
pub(super) struct Scoped {
    inner: SpawnedReqwestConnector,
    scope: HeaderValue,
}

impl Scoped {
    /// `None` for what cannot be a scope's name: it has 3 to 63 letters and digits.
    pub(super) fn new(inner: SpawnedReqwestConnector, scope: &str) -> Option<Self> {
        let fits = (3..=63).contains(&scope.len()) && scope.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let scope = fits.then(|| HeaderValue::from_str(scope).ok()).flatten()?;
        Some(Self { inner, scope })
    }
}

impl HttpConnector for Scoped {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = self.inner.connect(options)?;
        Ok(HttpClient::new(Asking { client, scope: self.scope.clone() }))
    }
}

#[derive(Debug)]
struct Asking {
    client: HttpClient,
    scope: HeaderValue,
}

#[async_trait]
impl HttpService for Asking {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // Whole blobs, parts, and lists of parts; nothing else is put.
        if request.method().as_str() == "PUT" {
            request.headers_mut().insert(HEADER, self.scope.clone());
        }
        self.client.execute(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_scopes_name_has_3_to_63_letters_and_digits() {
        let is_one =
            |scope: &str| Scoped::new(SpawnedReqwestConnector::new(tokio::runtime::Handle::current()), scope).is_some();
        assert!(is_one("abc") && is_one(&"a1".repeat(31)) && is_one(&"a".repeat(63)));
        for other in ["", "ab", &"a".repeat(64), "with space", "with-dash", "a\r\nb: c"] {
            assert!(!is_one(other), "{other:?}");
        }
    }
}
