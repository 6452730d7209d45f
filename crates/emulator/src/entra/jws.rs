//! Compact JWS: take one apart, check its RSA signature, and write one.
//!
//! Never decides whether the claims are acceptable. Client assertions come in through here (`assertion`), and the login
//! service's own tokens go out and come back (`tokens`).

use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::entra::keys::{KeyError, SigningKey};

/// Characters of the longest token read; Entra's own stay under 16 KiB.
const MAX_LENGTH: usize = 64 * 1024;

/// A token taken apart; nothing in it has been checked.
#[derive(Debug)]
pub(crate) struct Jws<'a> {
    pub(crate) header: Map<String, Value>,
    pub(crate) claims: Map<String, Value>,
    signed: &'a str,
    signature: Vec<u8>,
}

/// The signature algorithms Entra takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Rs256,
    Ps256,
}

impl<'a> Jws<'a> {
    /// Takes a compact JWS apart; `None` when it is none.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        if text.len() > MAX_LENGTH {
            return None;
        }
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        if claims.contains('.') {
            return None;
        }
        Some(Self {
            header: object(header)?,
            claims: object(claims)?,
            signed,
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }

    /// The `alg` of the header, when it is one that Entra takes.
    pub(crate) fn algorithm(&self) -> Option<Algorithm> {
        match self.header("alg")? {
            "RS256" => Some(Algorithm::Rs256),
            "PS256" => Some(Algorithm::Ps256),
            _ => None,
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.header.get(name)?.as_str()
    }

    pub(crate) fn claim(&self, name: &str) -> Option<&str> {
        self.claims.get(name)?.as_str()
    }

    /// A numeric date in whole seconds; fractions are cut. JSON numbers only, as RFC 7519 has it.
    pub(crate) fn date(&self, name: &str) -> Result<Option<i64>, NotANumber> {
        match self.claims.get(name) {
            None => Ok(None),
            #[expect(clippy::cast_possible_truncation, reason = "a float to integer cast saturates")]
            Some(value) => {
                value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64)).map(Some).ok_or(NotANumber)
            }
        }
    }

    /// The `aud` claim is this text, or a list that holds it.
    pub(crate) fn has_audience(&self, accepted: impl Fn(&str) -> bool) -> bool {
        match self.claims.get("aud") {
            Some(Value::String(one)) => accepted(one),
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).any(accepted),
            _ => false,
        }
    }

    /// Checks the signature with a PKCS#1 DER public key.
    pub(crate) fn is_signed_by(&self, algorithm: Algorithm, public_key: &[u8]) -> bool {
        UnparsedPublicKey::new(algorithm.parameters(), public_key)
            .verify(self.signed.as_bytes(), &self.signature)
            .is_ok()
    }

    /// Checks an RS256 signature with the key's two numbers, big-endian.
    pub(crate) fn is_signed_by_components(&self, modulus: &[u8], exponent: &[u8]) -> bool {
        RsaPublicKeyComponents { n: modulus, e: exponent }
            .verify(Algorithm::Rs256.parameters(), self.signed.as_bytes(), &self.signature)
            .is_ok()
    }
}

/// A claim that must be a JSON number is something else.
#[derive(Debug)]
pub(crate) struct NotANumber;

impl Algorithm {
    fn parameters(self) -> &'static RsaParameters {
        match self {
            Self::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
            Self::Ps256 => &RSA_PSS_2048_8192_SHA256,
        }
    }
}

/// Writes a token signed with RS256.
pub(crate) fn sign(key: &SigningKey, claims: &Value) -> Result<String, KeyError> {
    let header = serde_json::json!({"typ": "JWT", "alg": "RS256", "x5t": key.kid(), "kid": key.kid()});
    let signed = format!("{}.{}", encode(&header), encode(claims));
    let signature = key.sign(signed.as_bytes())?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// Writes a token with `"alg":"none"` and an empty signature.
pub(crate) fn unsigned(claims: &Value) -> String {
    format!("{}.{}.", encode(&serde_json::json!({"typ": "JWT", "alg": "none"})), encode(claims))
}

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_taken_apart_and_checked() {
        let key = SigningKey::shared().unwrap();
        let text = sign(&key, &serde_json::json!({"sub": "x", "exp": 5.9, "nbf": "5"})).unwrap();
        let jws = Jws::parse(&text).unwrap();
        assert_eq!(jws.claim("sub"), Some("x"));
        assert_eq!(jws.date("exp").unwrap(), Some(5));
        assert!(jws.date("nbf").is_err());
        assert_eq!(jws.date("iat").unwrap(), None);
        assert!(jws.is_signed_by(jws.algorithm().unwrap(), key.public_key()));
        assert!(!jws.is_signed_by(Algorithm::Ps256, key.public_key()));
    }

    #[test]
    fn one_changed_character_spoils_the_signature() {
        let key = SigningKey::shared().unwrap();
        let text = sign(&key, &serde_json::json!({"sub": "x"})).unwrap();
        let other =
            text.replacen(&encode(&serde_json::json!({"sub": "x"})), &encode(&serde_json::json!({"sub": "y"})), 1);
        let jws = Jws::parse(&other).unwrap();
        assert_eq!(jws.claim("sub"), Some("y"));
        assert!(!jws.is_signed_by(Algorithm::Rs256, key.public_key()));
    }

    #[test]
    fn what_is_no_compact_jws_is_refused() {
        let long = format!("{}.e30.", "A".repeat(MAX_LENGTH));
        for text in ["", "a", "e30.e30", "e30.e30.e30.e30", "e30.W10.", "!.e30.", &long] {
            assert!(Jws::parse(text).is_none(), "{text:.40}");
        }
        assert!(Jws::parse("e30.e30.").is_some());
    }
}
