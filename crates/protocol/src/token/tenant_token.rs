//! An access token together with the tenant and the resource it was issued for.
//!
//! Never made from anything but a token endpoint's answer, and never parted from its tenant: there is no way to the bare
//! text but onto a request that has passed [`crate::request::Request::authorize`].

use std::borrow::Cow;
use std::fmt;

use http::HeaderValue;

use crate::ids::TenantId;
use crate::redact::scrub;
use crate::secret::AccessToken;

/// A token for one tenant on one cloud.
#[derive(Clone)]
pub struct TenantToken {
    tenant: TenantId,
    resource: String,
    // Checked on construction: visible ASCII, so it fits a header.
    token: AccessToken,
}

impl TenantToken {
    /// `None` when the text cannot be a bearer token (RFC 6750: visible ASCII without blanks).
    pub(crate) fn issued(tenant: TenantId, resource: &str, token: &str) -> Option<Self> {
        let token = token.trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        Some(Self { tenant, resource: resource.to_owned(), token: AccessToken::new(token) })
    }

    /// The tenant it was issued for.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The resource (audience) it was issued for.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The `Authorization` header's value, marked so that no log prints it.
    pub(crate) fn authorization(&self) -> HeaderValue {
        let mut value = HeaderValue::try_from(format!("Bearer {}", self.token.expose()))
            .expect("a token is visible ASCII, as checked when it was issued");
        value.set_sensitive(true);
        value
    }

    /// An answer's bytes without this token: some servers echo what they were sent.
    pub fn scrub<'b>(&self, body: &'b [u8]) -> Cow<'b, [u8]> {
        scrub(body, self.token.expose())
    }

    pub(crate) fn access_token(&self) -> &AccessToken {
        &self.token
    }
}

impl fmt::Debug for TenantToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantToken({} for {}, redacted)", self.tenant, self.resource)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_that_fits_a_header_is_a_token() {
        let tenant: TenantId = "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11".parse().unwrap();
        for text in ["", "  ", "a b", "a\r\nx-injected: 1", "tökén"] {
            assert!(TenantToken::issued(tenant, "https://manage.office.com", text).is_none(), "{text:?}");
        }
        let token = TenantToken::issued(tenant, "https://manage.office.com", "opaque~token\n").unwrap();
        assert_eq!(token.authorization(), "Bearer opaque~token");
        assert!(!format!("{token:?}").contains("opaque"));
    }
}
