//! Client assertions: a JWT signed with a registered certificate, or one from an issuer the app trusts.
//!
//! Never accepts a claim before the signature is checked, and never reads a key out of the assertion itself. The order of
//! the checks decides which error a client with several mistakes gets; Entra's order is not documented.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, SecondsFormat, Utc};

use crate::app::{AppCertificate, AppRegistration, FederatedCredential, hex_upper, sha256};
use crate::entra::EntraState;
use crate::entra::authority::{Segment, environment};
use crate::entra::errors::EntraError;
use crate::entra::jws::{Algorithm, Jws};
use crate::entra::reply::Call;

/// Seconds an assertion's `nbf` may lie ahead of the emulator's clock. No grace is given after `exp`: a client whose clock
/// or cache is wrong shall find out here.
const SKEW_SECONDS: i64 = 300;

/// Checks an assertion as proof of the app.
pub(crate) fn check(
    state: &EntraState,
    call: &Call,
    segment: &Segment,
    app: &AppRegistration,
    text: &str,
) -> Result<(), EntraError> {
    let assertion = Jws::parse(text).ok_or_else(|| EntraError::new(50027))?;
    let issuer = assertion.claim("iss").unwrap_or_default();
    // Outside issuers are URLs; an app signs with its client id as the issuer.
    if issuer.trim().starts_with("https://") || issuer.trim().starts_with("http://") {
        check_federated(state, app, &assertion)?;
        // Another issuer's token is used until it ends: a managed identity's is the same for hours.
        return check_time(call, &assertion).map(|_| ());
    } else {
        check_certificate(call, segment, app, &assertion)?;
    }
    let expires = check_time(call, &assertion)?;
    if !call.policy.refuse_assertion_reuse {
        return Ok(());
    }
    // One without `jti` is known by its digest: the same bytes twice are a reuse as well.
    let id = match assertion.claim("jti") {
        Some(jti) => jti.to_owned(),
        None => hex_upper(&sha256(text.as_bytes())),
    };
    if !state.store().assertions.insert(app.client_id, id, expires, call.now.timestamp()) {
        return Err(EntraError::with_text(
            700_024,
            "Client assertion was already used. Build a new one for each request.",
        ));
    }
    Ok(())
}

fn check_certificate(
    call: &Call,
    segment: &Segment,
    app: &AppRegistration,
    assertion: &Jws<'_>,
) -> Result<(), EntraError> {
    let (issuer, subject) = (assertion.claim("iss"), assertion.claim("sub"));
    let Some(issuer) = issuer else {
        return Err(EntraError::with_text(50027, "JWT token is invalid or malformed: claim 'iss' is missing."));
    };
    if subject != Some(issuer) {
        return Err(EntraError::new(50048));
    }
    if !issuer.eq_ignore_ascii_case(&app.client_id.to_string()) {
        return Err(EntraError::new(700_021));
    }
    let algorithm = assertion.algorithm().ok_or_else(|| {
        EntraError::with_text(50027, "JWT token is invalid or malformed: the algorithm must be RS256 or PS256.")
    })?;
    let certificate = find_certificate(app, assertion)?;
    if !assertion.is_signed_by(algorithm, &certificate.public_key) {
        let reason = "The key was found, but use of the key to verify the signature failed.";
        return Err(bad_signature(app, reason, &certificate.thumbprint()));
    }
    if call.now < certificate.not_before || call.now > certificate.not_after {
        let text = format!(
            "The provided certificate is not within its specified validity window: it is valid from {} to {}.",
            iso(certificate.not_before),
            iso(certificate.not_after)
        );
        return Err(EntraError::with_text(1_000_502, text));
    }
    if !assertion.has_audience(|audience| is_token_endpoint(audience, call, segment)) {
        return Err(EntraError::new(700_023));
    }
    Ok(())
}

/// The registered certificate the header names by `x5t` or `x5t#S256`; when it has both, both must name the same.
fn find_certificate<'app>(app: &'app AppRegistration, assertion: &Jws<'_>) -> Result<&'app AppCertificate, EntraError> {
    let (sha1, sha256) = (assertion.header("x5t"), assertion.header("x5t#S256"));
    if sha1.is_none() && sha256.is_none() {
        return Err(bad_signature(app, "The assertion's header names no key: x5t or x5t#S256 is missing.", ""));
    }
    let names = |header: Option<&str>, digest: &[u8]| header.is_none_or(|text| decodes_to(text, digest));
    app.certificates
        .iter()
        .find(|certificate| names(sha1, &certificate.sha1) && names(sha256, &certificate.sha256))
        .ok_or_else(|| {
            let shown = sha1.or(sha256).unwrap_or_default();
            let thumbprint = decode_thumbprint(shown).map(|bytes| hex_upper(&bytes)).unwrap_or_default();
            bad_signature(app, "The key was not found.", &thumbprint)
        })
}

fn decodes_to(text: &str, digest: &[u8]) -> bool {
    decode_thumbprint(text).is_some_and(|bytes| bytes == digest)
}

/// base64url. RFC 7515 wants it without padding; MSAL for Python pads it (observed), and Entra takes both.
fn decode_thumbprint(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()
}

fn bad_signature(app: &AppRegistration, reason: &str, thumbprint: &str) -> EntraError {
    let text = format!(
        "Client assertion contains an invalid signature. [Reason - {reason}, Thumbprint of key used by client: \
         '{thumbprint}', Configured keys: {}, for app Id '{}'.]",
        app.certificates.len(),
        app.client_id
    );
    EntraError::with_text(700_027, text)
}

/// The v1 or v2 token endpoint of the tenant asked, under the host posted to or, for Microsoft's own login hosts, under one
/// of their aliases. The tenant may be written as in the path, as its GUID, or as any of its domains.
fn is_token_endpoint(audience: &str, call: &Call, segment: &Segment) -> bool {
    let Some((origin, path)) = split_origin(audience) else { return false };
    let (here, host) = (call.origin.to_string(), origin.strip_prefix("https://"));
    let alias = match (environment(call.origin.host()), host) {
        (Some(environment), Some(host)) => environment.aliases.contains(&host),
        _ => false,
    };
    if !origin.eq_ignore_ascii_case(&here) && !alias {
        return false;
    }
    let Some((named, rest)) = path.split_once('/') else { return false };
    if !matches!(rest, "oauth2/token" | "oauth2/v2.0/token") {
        return false;
    }
    match segment.tenant() {
        None => named.eq_ignore_ascii_case(&segment.key()),
        Some(tenant) => {
            named.eq_ignore_ascii_case(&segment.key())
                || tenant.domains.iter().any(|domain| named.eq_ignore_ascii_case(domain))
        }
    }
}

/// `https://host:port` and what follows its slash.
fn split_origin(url: &str) -> Option<(&str, &str)> {
    let authority = url.find("://")? + 3;
    let slash = authority + url.get(authority..)?.find('/')?;
    Some((url.get(..slash)?, url.get(slash + 1..)?))
}

fn check_federated(state: &EntraState, app: &AppRegistration, assertion: &Jws<'_>) -> Result<(), EntraError> {
    let (issuer, subject) = (assertion.claim("iss").unwrap_or_default(), assertion.claim("sub").unwrap_or_default());
    let of_issuer: Vec<_> = app.federated.iter().filter(|credential| credential.issuer == issuer).collect();
    if of_issuer.is_empty() {
        if state.tokens().signed(assertion) && !is_managed_identity(state, subject) {
            return Err(EntraError::new(700_222));
        }
        return Err(no_match(700_211, "issuer", issuer));
    }
    let of_subject: Vec<_> = of_issuer.into_iter().filter(|credential| credential.subject == subject).collect();
    if of_subject.is_empty() {
        let differs_in_case = app.federated.iter().any(|credential| credential.subject.eq_ignore_ascii_case(subject));
        return Err(no_match(if differs_in_case { 7_002_138 } else { 700_213 }, "subject", subject));
    }
    let credential = of_subject
        .into_iter()
        .find(|credential| assertion.has_audience(|audience| audience == credential.audience))
        .ok_or_else(|| {
            no_match(700_212, "audience", &assertion.claims.get("aud").map(ToString::to_string).unwrap_or_default())
        })?;
    // RS256 only, from outside issuers as from our own (entra.md §5.3).
    if assertion.algorithm() != Some(Algorithm::Rs256) {
        return Err(EntraError::with_text(50027, "JWT token is invalid or malformed: the algorithm must be RS256."));
    }
    let signed = match &credential.jwks {
        None => state.tokens().signed(assertion) && is_managed_identity(state, subject),
        Some(keys) => keys
            .iter()
            .take(FederatedCredential::MAX_KEYS)
            .filter(|key| assertion.header("kid").is_none_or(|kid| kid == key.kid))
            .any(|key| assertion.is_signed_by_components(&key.modulus, &key.exponent)),
    };
    if signed { Ok(()) } else { Err(bad_signature(app, "The key was not found in the issuer's key set.", "")) }
}

/// Only a user-assigned managed identity's token may serve as a federated assertion (entra.md §5.3, §5.4).
fn is_managed_identity(state: &EntraState, subject: &str) -> bool {
    state
        .apps()
        .managed_identities()
        .iter()
        .any(|identity| identity.resource_id.is_some() && identity.object_id.to_string() == subject)
}

fn no_match(code: u32, what: &str, presented: &str) -> EntraError {
    let text = format!("No matching federated identity record found for presented assertion {what} '{presented}'.");
    EntraError::with_text(code, text)
}

/// `nbf` ≤ now + [`SKEW_SECONDS`] and now < `exp`; hands back `exp`.
fn check_time(call: &Call, assertion: &Jws<'_>) -> Result<i64, EntraError> {
    let not_a_number =
        |_| EntraError::with_text(50027, "JWT token is invalid or malformed: dates must be JSON numbers.");
    let not_before = assertion.date("nbf").map_err(not_a_number)?;
    let Some(expires) = assertion.date("exp").map_err(not_a_number)? else {
        return Err(EntraError::with_text(50027, "JWT token is invalid or malformed: claim 'exp' is missing."));
    };
    let now = call.now.timestamp();
    if expires <= now || not_before.is_some_and(|not_before| not_before > now + SKEW_SECONDS) {
        let shown = |seconds| DateTime::from_timestamp(seconds, 0).map(iso).unwrap_or_default();
        let text = format!(
            "Client assertion is not within its valid time range. Current time: {}, assertion valid from {}, expiry time \
             of assertion {}.",
            iso(call.now),
            not_before.map(shown).unwrap_or_default(),
            shown(expires)
        );
        return Err(EntraError::with_text(700_024, text));
    }
    Ok(expires)
}

fn iso(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Secs, true)
}
