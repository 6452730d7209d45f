//! A certificate's assertion: the JWT that stands in for a client secret (entra.md §5.2).
//!
//! Never signs: the signing input goes out, the signature comes back. Never reused: Entra refuses one past its `exp`, so
//! each token request gets its own, with a fresh `jti`.
//!
//! Source: <https://learn.microsoft.com/en-us/entra/identity-platform/certificate-credentials>

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use url::Url;
use uuid::Uuid;

use crate::ids::ClientId;
use crate::secret::ClientAssertion;
use crate::time::Timestamp;

/// How far in the past an assertion begins: a minute, for clocks that differ.
pub const ASSERTION_BACKDATE: Duration = Duration::from_secs(60);
/// How long an assertion lives, from its beginning: ten minutes, the longest that is advised.
pub const ASSERTION_LIFETIME: Duration = Duration::from_secs(600);

/// How the assertion is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AssertionAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256, and the certificate named by `x5t`. Accepted everywhere.
    Rs256,
    /// RSASSA-PSS with SHA-256, and the certificate named by `x5t#S256`. Today's documentation.
    Ps256,
}

/// The digests of the certificate's DER form, of which each algorithm's header names one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thumbprint {
    /// SHA-1.
    pub sha1: [u8; 20],
    /// SHA-256.
    pub sha256: [u8; 32],
}

/// An assertion that lacks its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsignedAssertion {
    signing_input: String,
}

impl UnsignedAssertion {
    /// Header and claims. `audience` is the token endpoint that will be called, `jti` a fresh random GUID.
    pub fn new(
        algorithm: AssertionAlgorithm,
        thumbprint: &Thumbprint,
        client_id: ClientId,
        audience: &Url,
        jti: Uuid,
        now: Timestamp,
    ) -> Self {
        let header = match algorithm {
            AssertionAlgorithm::Rs256 => {
                serde_json::json!({ "alg": "RS256", "typ": "JWT", "x5t": encode(&thumbprint.sha1) })
            }
            AssertionAlgorithm::Ps256 => {
                serde_json::json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": encode(&thumbprint.sha256) })
            }
        };
        let not_before = now.timestamp().saturating_sub_unsigned(ASSERTION_BACKDATE.as_secs());
        let claims = serde_json::json!({
            "aud": audience.as_str(),
            "iss": client_id,
            "sub": client_id,
            "jti": jti,
            "nbf": not_before,
            "iat": not_before,
            "exp": not_before.saturating_add_unsigned(ASSERTION_LIFETIME.as_secs()),
        });
        let part = |value: &serde_json::Value| encode(value.to_string().as_bytes());
        Self { signing_input: format!("{}.{}", part(&header), part(&claims)) }
    }

    /// What is to be signed: the two encoded parts, as ASCII.
    pub fn signing_input(&self) -> &str {
        &self.signing_input
    }

    /// The finished assertion.
    pub fn with_signature(self, signature: &[u8]) -> ClientAssertion {
        ClientAssertion::new(&format!("{}.{}", self.signing_input, encode(signature)))
    }
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::time::parse_timestamp;

    fn parts(algorithm: AssertionAlgorithm) -> (Value, Value, String) {
        let thumbprint = Thumbprint { sha1: [0xFB; 20], sha256: [0x01; 32] };
        let unsigned = UnsignedAssertion::new(
            algorithm,
            &thumbprint,
            "a6099727-6b7b-482c-b509-1df309acc563".parse().unwrap(),
            &Url::parse("https://login.microsoftonline.com/6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11/oauth2/token").unwrap(),
            Uuid::from_u128(1),
            parse_timestamp("2026-03-04T05:06:07.9Z").unwrap(),
        );
        let input = unsigned.signing_input().to_owned();
        let whole = unsigned.with_signature(&[0xFF, 0xFE, 0xFD]).expose().to_owned();
        let mut pieces = whole.split('.');
        let mut json = || serde_json::from_slice(&URL_SAFE_NO_PAD.decode(pieces.next().unwrap()).unwrap()).unwrap();
        let (header, claims) = (json(), json());
        let signature = pieces.next().unwrap().to_owned();
        assert_eq!(whole, format!("{input}.{signature}"));
        assert_eq!(pieces.next(), None);
        (header, claims, signature)
    }

    #[test]
    fn rs256_names_the_certificate_by_its_sha1() {
        let (header, _, _) = parts(AssertionAlgorithm::Rs256);
        assert_eq!(header, serde_json::json!({"alg":"RS256","typ":"JWT","x5t":"-_v7-_v7-_v7-_v7-_v7-_v7-_s"}));
    }

    #[test]
    fn ps256_names_the_certificate_by_its_sha256() {
        let (header, _, _) = parts(AssertionAlgorithm::Ps256);
        let thumbprint = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";
        assert_eq!(header, serde_json::json!({"alg":"PS256","typ":"JWT","x5t#S256":thumbprint}));
    }

    #[test]
    fn the_claims_are_the_apps_and_their_dates_are_numbers() {
        let (_, claims, signature) = parts(AssertionAlgorithm::Rs256);
        assert_eq!(signature, "__79");
        let client = "a6099727-6b7b-482c-b509-1df309acc563";
        assert_eq!(
            claims,
            serde_json::json!({
                "aud": "https://login.microsoftonline.com/6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11/oauth2/token",
                "iss": client, "sub": client, "jti": "00000000-0000-0000-0000-000000000001",
                "nbf": 1_772_600_707_u64, "iat": 1_772_600_707_u64, "exp": 1_772_601_307_u64,
            })
        );
    }
}
