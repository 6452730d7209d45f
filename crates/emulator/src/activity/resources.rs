//! `resources/dlpSensitiveTypes`: the names of sensitive information types.
//!
//! Never knows another kind of resource: the service has only this one.

use axum::body::Body;
use http::Response;
use http::header::ACCEPT_LANGUAGE;
use serde_json::json;

use super::Asked;
use super::reply::{self, Refusal, RefusalBody};

pub(super) fn answer(asked: &Asked) -> Result<Response<Body>, Refusal> {
    if !asked.target.content_id.eq_ignore_ascii_case("dlpSensitiveTypes") {
        return Err(Refusal::bare(
            404,
            RefusalBody::Message("No HTTP resource was found that matches the request URI."),
        ));
    }
    let language = asked.parts.headers.get(ACCEPT_LANGUAGE).map(|value| value.to_str().unwrap_or("?"));
    check_language(language)?;
    let german = language.is_some_and(|language| language.to_ascii_lowercase().starts_with("de"));
    let list: Vec<_> = TYPES
        .iter()
        .map(|(id, english, in_german)| json!({ "id": id, "name": if german { in_german } else { english } }))
        .collect();
    Ok(reply::json(json!(list).to_string()))
}

/// Exactly one language, such as `en-US`, or none.
fn check_language(language: Option<&str>) -> Result<(), Refusal> {
    let Some(language) = language.map(str::trim).filter(|language| !language.is_empty() && *language != "*") else {
        return Ok(());
    };
    if language.contains(',') {
        return Err(Refusal::new(
            400,
            "AF20053",
            "Multiple languages in the Accept-Language header are not supported.",
        ));
    }
    let is_tag = language.len() <= 35
        && language
            .split('-')
            .all(|part| (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    if is_tag { Ok(()) } else { Err(Refusal::new(400, "AF20054", "Invalid syntax in the Accept-Language header.")) }
}

const TYPES: [(&str, &str, &str); 8] = [
    ("50842eb7-edc8-4019-85dd-5a5c1f2bb085", "Credit Card Number", "Kreditkartennummer"),
    ("a44669fe-0d48-453d-a9b1-2cc83f2cba77", "U.S. Social Security Number (SSN)", "US-Sozialversicherungsnummer (SSN)"),
    (
        "e7dc4711-11b7-4cb0-b88b-2c394a771f0e",
        "International Banking Account Number (IBAN)",
        "Internationale Bankkontonummer (IBAN)",
    ),
    ("cb353f78-2b72-4c3c-8827-92ebe4f69fdf", "ABA Routing Number", "ABA-Bankleitzahl"),
    ("1a760f4d-9a52-4d2c-a8e9-d5e0d3a0d4b1", "EU Debit Card Number", "EU-Debitkartennummer"),
    (
        "16c07343-c26f-49d2-a987-3daf717e94cc",
        "U.K. National Insurance Number (NINO)",
        "Nationale Versicherungsnummer Großbritannien",
    ),
    ("ffdb6ac2-6dd8-4d3e-9c5a-2c47c9f0a3b1", "German Identity Card Number", "Deutsche Personalausweisnummer"),
    ("178ec42a-18b4-47cc-85c7-d62c92fd67f8", "U.S. / U.K. Passport Number", "Reisepassnummer (USA / Großbritannien)"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_well_formed_language_is_accepted() {
        for good in [None, Some(""), Some("en-US"), Some("de"), Some("zh-Hans-CN"), Some("*")] {
            assert_eq!(check_language(good), Ok(()), "{good:?}");
        }
        let code = |language| match check_language(Some(language)).unwrap_err().body {
            RefusalBody::Envelope { code, .. } => code,
            other => panic!("{other:?}"),
        };
        assert_eq!(code("en-US,de-DE"), "AF20053");
        assert_eq!(code("en_US"), "AF20054");
        assert_eq!(code("en;q=0.9"), "AF20054");
    }
}
