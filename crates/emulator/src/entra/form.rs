//! The parameters of a request: a query string or a form body, each name once, an empty value counting as absent.
//!
//! Never guesses at a body of another media type: Entra does not read it either, and then misses `grant_type`.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

use crate::entra::errors::EntraError;

/// Names and values in the order they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads a form body.
    pub(crate) fn from_body(headers: &HeaderMap, body: &[u8]) -> Result<Self, EntraError> {
        let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Ok(Self::default());
        }
        Self::default().with(body)
    }

    /// Reads a query string.
    pub(crate) fn from_query(query: Option<&str>) -> Result<Self, EntraError> {
        Self::default().with(query.unwrap_or_default().as_bytes())
    }

    /// The same with further parameters.
    pub(crate) fn and(self, other: Self) -> Result<Self, EntraError> {
        let mut both = self;
        for (name, value) in other.0 {
            both.push(name, value)?;
        }
        Ok(both)
    }

    fn with(mut self, encoded: &[u8]) -> Result<Self, EntraError> {
        for (name, value) in url::form_urlencoded::parse(encoded) {
            self.push(name.into_owned(), value.into_owned())?;
        }
        Ok(self)
    }

    fn push(&mut self, name: String, value: String) -> Result<(), EntraError> {
        if self.0.iter().any(|(known, _)| *known == name) {
            let text = format!("The request is not properly formatted. The parameter '{name}' is duplicated.");
            return Err(EntraError::with_text(9_000_411, text));
        }
        self.0.push((name, value));
        Ok(())
    }

    /// The value, if there is one that is not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// The value, or AADSTS900144.
    pub(crate) fn require(&self, name: &str) -> Result<&str, EntraError> {
        self.get(name).ok_or_else(|| EntraError::missing(name))
    }

    /// As a query string again, without those whose name begins with `prefix`.
    pub(crate) fn to_query_without(&self, prefix: &str) -> String {
        let kept = self.0.iter().filter(|(name, _)| !name.starts_with(prefix));
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(kept).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(media_type: &str, text: &str) -> Result<Form, EntraError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, media_type.parse().unwrap());
        Form::from_body(&headers, text.as_bytes())
    }

    #[test]
    fn only_a_form_body_is_read() {
        let form = body("Application/x-www-form-urlencoded; charset=utf-8", "a=1+2&b=&c=%2B").unwrap();
        assert_eq!((form.get("a"), form.get("b"), form.get("c")), (Some("1 2"), None, Some("+")));
        assert_eq!(body("application/json", "a=1").unwrap().get("a"), None);
        assert_eq!(form.require("b").unwrap_err().code, 900_144);
    }

    #[test]
    fn a_parameter_given_twice_is_refused() {
        assert_eq!(body("application/x-www-form-urlencoded", "a=1&a=1").unwrap_err().code, 9_000_411);
        let query = Form::from_query(Some("a=1")).unwrap();
        assert_eq!(query.clone().and(query).unwrap_err().code, 9_000_411);
    }

    #[test]
    fn a_query_can_be_written_back_without_our_own_parameters() {
        let form = Form::from_query(Some("a=1+2&emulator_account=x&b=%26")).unwrap();
        assert_eq!(form.to_query_without("emulator_"), "a=1+2&b=%26");
    }
}
