//! A tenant's OpenID metadata, read for one thing: which cloud the tenant lives in (entra.md §7).
//!
//! Never believed for more than a hint to the operator, and never needed: what cannot be read says nothing. The endpoint
//! takes no credential and is given none.
//!
//! `tenant_region_scope`, `tenant_region_sub_scope` and `cloud_instance_name` are *observed* (public scripts read them;
//! Microsoft's pages list the last only): `GCC`, `DODCON` (GCC High) and `DOD` as sub-scopes, `USGov` and `USG` as scopes.

use serde_json::{Map, Value};
use url::Url;

use crate::cloud::{Cloud, CloudName};
use crate::entra::EntraError;
use crate::ids::TenantId;
use crate::request::Request;
use crate::response::Response;
use crate::text::one_line;

/// A metadata document has 2 KiB; more than this is none.
pub const MAX_METADATA_BODY: usize = 256 * 1024;

/// The longest text kept of it, in characters.
const MAX_TEXT: usize = 128;

/// What a tenant's metadata says of its place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantMetadata {
    /// The tenant's own id: the GUID in `issuer`, which answers for a domain name too.
    pub tenant: Option<TenantId>,
    /// `cloud_instance_name`, such as `microsoftonline.com`.
    pub cloud_instance: Option<String>,
    /// `tenant_region_scope`, such as `EU` or `USGov`.
    pub region_scope: Option<String>,
    /// `tenant_region_sub_scope`, such as `GCC`.
    pub region_sub_scope: Option<String>,
}

/// The clouds a tenant can be told to live in; coarser than [`CloudName`] where the metadata does not tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Residence {
    /// Worldwide.
    Commercial,
    /// US government community cloud.
    Gcc,
    /// GCC High.
    GccHigh,
    /// US Department of Defense.
    Dod,
    /// GCC High or the Department of Defense.
    UsGovernment,
    /// China.
    China,
}

/// Whether a tenant lives in the cloud that is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloudFit {
    /// It does, or nothing speaks against it.
    Fits(Option<Residence>),
    /// It lives elsewhere.
    Elsewhere(Residence),
}

/// Why there is no metadata.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// Entra ID says no; for an unknown tenant with the number 90002.
    #[error("{0}")]
    Entra(Box<EntraError>),
    /// The answer is no metadata document.
    #[error("the tenant's OpenID metadata cannot be read (HTTP {status})")]
    Unreadable {
        /// The status it came with.
        status: u16,
    },
}

/// Asks `cloud`'s login authority for a tenant's metadata.
pub fn tenant_metadata(cloud: &Cloud, tenant: TenantId) -> Request {
    let url = Url::parse(&format!("{}/{tenant}/v2.0/.well-known/openid-configuration", cloud.login()))
        .expect("a cloud's root is a URL, and neither a GUID nor our own path can spoil it");
    Request::plain_get(url)
}

/// Reads the answer.
///
/// # Errors
/// When it is an error of Entra ID, or no metadata at all.
pub fn parse_tenant_metadata(response: &Response<'_>) -> Result<TenantMetadata, MetadataError> {
    if !response.status.is_success() {
        let error = EntraError::from_response(response);
        // A page of something in between names neither a word nor a number.
        if error.error.is_none() && error.code().is_none() {
            return Err(MetadataError::Unreadable { status: response.status.as_u16() });
        }
        return Err(MetadataError::Entra(Box::new(error)));
    }
    let document: Map<String, Value> = serde_json::from_slice(response.body)
        .map_err(|_| MetadataError::Unreadable { status: response.status.as_u16() })?;
    let text = |name: &str| {
        let text = one_line(document.get(name)?.as_str()?, MAX_TEXT);
        Some(text).filter(|text| !text.is_empty())
    };
    Ok(TenantMetadata {
        tenant: text("issuer").and_then(|issuer| issuer.split('/').find_map(|part| part.parse().ok())),
        cloud_instance: text("cloud_instance_name"),
        region_scope: text("tenant_region_scope"),
        region_sub_scope: text("tenant_region_sub_scope"),
    })
}

impl TenantMetadata {
    /// Where the tenant lives; `None` when nothing in the document says so.
    pub fn residence(&self) -> Option<Residence> {
        let is =
            |text: &Option<String>, word: &str| text.as_deref().is_some_and(|text| text.eq_ignore_ascii_case(word));
        for (word, residence) in [("GCC", Residence::Gcc), ("DODCON", Residence::GccHigh), ("DOD", Residence::Dod)] {
            if is(&self.region_sub_scope, word) {
                return Some(residence);
            }
        }
        if is(&self.region_scope, "USGov") || is(&self.region_scope, "USG") {
            return Some(Residence::UsGovernment);
        }
        let instance = self.cloud_instance.as_deref()?.to_ascii_lowercase();
        let ends =
            |names: &[&str]| names.iter().any(|name| instance == *name || instance.ends_with(&format!(".{name}")));
        if ends(&["microsoftonline.us", "usgovcloudapi.net"]) {
            return Some(Residence::UsGovernment);
        }
        if ends(&["partner.microsoftonline.cn", "microsoftonline.cn", "chinacloudapi.cn"]) {
            return Some(Residence::China);
        }
        ends(&["microsoftonline.com", "windows.net"]).then_some(Residence::Commercial)
    }

    /// Whether it lives in `cloud`. A cloud that the operator described is taken for whatever it is.
    pub fn fit(&self, cloud: CloudName) -> CloudFit {
        match self.residence() {
            Some(found) if !found.may_be(cloud) => CloudFit::Elsewhere(found),
            found => CloudFit::Fits(found),
        }
    }
}

impl Residence {
    /// The cloud's name, as a person says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Commercial => "the worldwide cloud",
            Self::Gcc => "GCC",
            Self::GccHigh => "GCC High",
            Self::Dod => "the DoD cloud",
            Self::UsGovernment => "a US government cloud (GCC High or DoD)",
            Self::China => "the China cloud",
        }
    }

    /// The name that `[cloud] name` would have to have.
    pub fn config_name(self) -> &'static str {
        match self {
            Self::Commercial => "commercial",
            Self::Gcc => "gcc",
            Self::GccHigh | Self::UsGovernment => "gcc_high",
            Self::Dod => "dod",
            Self::China => "china",
        }
    }

    /// Whether a tenant told to live here may live in `cloud`. The metadata of a GCC tenant does not always say so, thus
    /// what looks like the worldwide cloud may be GCC; what says GCC is not the worldwide one.
    pub fn may_be(self, cloud: CloudName) -> bool {
        match cloud {
            CloudName::Custom => true,
            CloudName::Commercial => self == Self::Commercial,
            CloudName::Gcc => matches!(self, Self::Gcc | Self::Commercial),
            CloudName::GccHigh => matches!(self, Self::GccHigh | Self::UsGovernment),
            CloudName::Dod => matches!(self, Self::Dod | Self::UsGovernment),
            CloudName::China => self == Self::China,
        }
    }

    /// What to tell the operator whose configuration is for another cloud: what is wrong, and the mend.
    pub fn not_in(self, cloud: CloudName) -> String {
        format!(
            "the tenant lives in {}, and this configuration is for {}: collect it with a configuration of its own that has \
             [cloud] name = \"{}\" and an app registered in that cloud",
            self.as_str(),
            cloud.as_str(),
            self.config_name()
        )
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;

    fn parse(status: u16, body: &str) -> Result<TenantMetadata, MetadataError> {
        let headers = HeaderMap::new();
        parse_tenant_metadata(&Response::new(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes()))
    }

    fn document(instance: &str, scope: &str, sub_scope: &str) -> TenantMetadata {
        let body = format!(
            r#"{{"issuer":"https://login.microsoftonline.com/6A1C4F0E-7c39-4f0b-9d6e-2f4f0e0c8a11/v2.0",
                "cloud_instance_name":{instance},"tenant_region_scope":{scope},"tenant_region_sub_scope":{sub_scope}}}"#
        );
        parse(200, &body).unwrap()
    }

    #[test]
    fn the_request_goes_to_the_tenants_own_document_without_a_credential() {
        let cloud = Cloud::preset(CloudName::GccHigh).unwrap();
        let request = tenant_metadata(&cloud, "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11".parse().unwrap());
        assert_eq!(
            request.url().as_str(),
            "https://login.microsoftonline.us/6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11/v2.0/.well-known/openid-configuration"
        );
        assert!(request.body().is_empty() && !request.headers().contains_key("authorization"));
    }

    #[test]
    fn each_cloud_is_recognised_and_fits_its_own_configuration_only() {
        use CloudName as C;
        use Residence as R;
        let com = "\"microsoftonline.com\"";
        let us = "\"microsoftonline.us\"";
        let cases = [
            (document(com, "\"EU\"", "null"), R::Commercial, vec![C::Commercial, C::Gcc]),
            (document(com, "\"NA\"", "\"GCC\""), R::Gcc, vec![C::Gcc]),
            (document(us, "\"USGov\"", "\"DODCON\""), R::GccHigh, vec![C::GccHigh]),
            (document(us, "\"USGov\"", "\"DOD\""), R::Dod, vec![C::Dod]),
            (document(us, "\"USG\"", "null"), R::UsGovernment, vec![C::GccHigh, C::Dod]),
            (document(us, "null", "null"), R::UsGovernment, vec![C::GccHigh, C::Dod]),
            (document("\"partner.microsoftonline.cn\"", "null", "null"), R::China, vec![C::China]),
            (document("\"login.chinacloudapi.cn\"", "\"AS\"", "null"), R::China, vec![C::China]),
        ];
        for (metadata, residence, fitting) in cases {
            assert_eq!(metadata.residence(), Some(residence), "{metadata:?}");
            for (_, cloud) in CloudName::ALL {
                let expected = cloud == C::Custom || fitting.contains(&cloud);
                assert_eq!(matches!(metadata.fit(cloud), CloudFit::Fits(_)), expected, "{residence:?} in {cloud:?}");
            }
            let told = residence.not_in(C::Custom);
            assert!(told.contains(residence.as_str()) && told.contains(residence.config_name()), "{told}");
            // What is recommended is a name that the configuration knows.
            assert!(CloudName::ALL.iter().any(|(name, _)| *name == residence.config_name()));
        }
    }

    #[test]
    fn a_document_that_says_nothing_speaks_against_nothing() {
        for body in ["{}", r#"{"cloud_instance_name":null}"#, r#"{"cloud_instance_name":"example.org","issuer":7}"#] {
            let metadata = parse(200, body).unwrap();
            assert_eq!(metadata.residence(), None, "{body}");
            assert_eq!(metadata.fit(CloudName::Commercial), CloudFit::Fits(None));
        }
    }

    #[test]
    fn the_tenant_is_read_from_the_issuer() {
        let tenant = document("null", "null", "null").tenant.unwrap();
        assert_eq!(tenant.to_string(), "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11");
        assert_eq!(parse(200, r#"{"issuer":"https://x/{tenantid}/v2.0"}"#).unwrap().tenant, None);
    }

    #[test]
    fn an_unknown_tenant_is_entras_error_and_a_strange_answer_is_unreadable() {
        let unknown = parse(400, r#"{"error":"invalid_tenant","error_description":"AADSTS90002: Tenant not found."}"#);
        assert!(matches!(unknown, Err(MetadataError::Entra(error)) if error.code() == Some(90_002)));
        for (status, body) in [(200, "<html>"), (200, "[]"), (404, "nothing here"), (502, "")] {
            assert_eq!(parse(status, body), Err(MetadataError::Unreadable { status }), "{body}");
        }
    }
}
