//! The RSA keys the login service signs tokens with, and what it publishes of them.
//!
//! Never repeatable: an RSA key cannot be made from a seed, so two runs have different keys. Making one costs a tenth of
//! a second or more; a test program makes one ([`SigningKey::shared`]) and gives it to all its emulators.

use std::fmt;
use std::sync::{Arc, OnceLock};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::Value;

use crate::app::sha1;

/// Why a signing key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The library refused to make one.
    #[error("no RSA key could be generated")]
    Generate,
    /// Not an RSA key of 2048 bits or more in PKCS#8 DER.
    #[error("the key is not an RSA key of 2048 bits or more in PKCS#8 DER")]
    Unreadable,
    /// No certificate could be made for it.
    #[error("no certificate could be made for the signing key")]
    Certificate(#[source] rcgen::Error),
    /// Signing failed.
    #[error("signing failed")]
    Sign,
}

/// A private RSA key with a self-signed certificate; cheap to clone.
#[derive(Clone)]
pub struct SigningKey(Arc<Inner>);

struct Inner {
    pair: RsaKeyPair,
    certificate: Vec<u8>,
    kid: String,
}

impl SigningKey {
    /// Makes a key of 2048 bits.
    ///
    /// # Errors
    /// When the library cannot.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyError::Generate)?;
        let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).map_err(|_| KeyError::Generate)?;
        Self::with_certificate(pair, pkcs8.as_ref())
    }

    /// A key kept from elsewhere, as PKCS#8 DER.
    ///
    /// # Errors
    /// When it is no RSA key of 2048 bits or more.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let pair = RsaKeyPair::from_pkcs8(der).map_err(|_| KeyError::Unreadable)?;
        Self::with_certificate(pair, der)
    }

    /// The one key of this process, made when first asked for.
    ///
    /// # Errors
    /// When it had to be made and could not.
    pub fn shared() -> Result<Self, KeyError> {
        static SHARED: OnceLock<SigningKey> = OnceLock::new();
        if let Some(key) = SHARED.get() {
            return Ok(key.clone());
        }
        // Two threads may both make one; the first to store it wins and both use that.
        let key = Self::generate()?;
        Ok(SHARED.get_or_init(|| key).clone())
    }

    fn with_certificate(pair: RsaKeyPair, pkcs8: &[u8]) -> Result<Self, KeyError> {
        let certificate = self_signed(pkcs8).map_err(KeyError::Certificate)?;
        let kid = URL_SAFE_NO_PAD.encode(sha1(&certificate));
        Ok(Self(Arc::new(Inner { pair, certificate, kid })))
    }

    /// The key id: also the `x5t` of its certificate, as Entra does it.
    pub fn kid(&self) -> &str {
        &self.0.kid
    }

    /// The public key, PKCS#1 DER.
    pub fn public_key(&self) -> &[u8] {
        self.0.pair.public_key().as_ref()
    }

    /// RS256 over the bytes.
    ///
    /// # Errors
    /// When the library cannot; it has no documented reason to.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let mut signature = vec![0; self.0.pair.public_modulus_len()];
        self.0
            .pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
            .map_err(|_| KeyError::Sign)?;
        Ok(signature)
    }

    /// Its entry in the key set, with the issuer the entry is valid for (entra.md §7).
    pub(crate) fn jwk(&self, issuer: &str) -> Value {
        let public = self.0.pair.public_key();
        serde_json::json!({
            "kty": "RSA",
            "use": "sig",
            "kid": self.0.kid,
            "x5t": self.0.kid,
            "n": URL_SAFE_NO_PAD.encode(public.modulus().big_endian_without_leading_zero()),
            "e": URL_SAFE_NO_PAD.encode(public.exponent().big_endian_without_leading_zero()),
            "x5c": [base64::engine::general_purpose::STANDARD.encode(&self.0.certificate)],
            "issuer": issuer,
        })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.0.kid).finish()
    }
}

fn self_signed(pkcs8: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
    let key = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8), &rcgen::PKCS_RSA_SHA256)?;
    let mut params = rcgen::CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "accounts.accesscontrol.windows.net");
    // Far dates: the emulator's clock may be set to any year, and nobody checks this certificate's own validity.
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(2099, 12, 31);
    Ok(params.self_signed(&key)?.der().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_set_entry_carries_what_verifiers_look_for() {
        let key = SigningKey::shared().unwrap();
        let jwk = key.jwk("https://sts.windows.net/{tenantid}/");
        for member in ["kty", "use", "kid", "x5t", "n", "e", "x5c", "issuer"] {
            assert!(jwk.get(member).is_some(), "{member}");
        }
        assert_eq!(jwk["kid"], jwk["x5t"]);
        assert_eq!(jwk["e"], "AQAB");
    }

    #[test]
    fn a_key_passed_in_must_be_rsa() {
        let elliptic = rcgen::KeyPair::generate().unwrap();
        assert!(matches!(SigningKey::from_pkcs8(elliptic.serialized_der()), Err(KeyError::Unreadable)));
        let rsa = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
        assert!(SigningKey::from_pkcs8(rsa.serialized_der()).is_ok());
    }
}
