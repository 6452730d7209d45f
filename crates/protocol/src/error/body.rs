//! Reads the body of an error, whatever it turns out to be (activity-api.md §3).
//!
//! Never fails and never looks past [`MAX_ERROR_BODY`]: JSON first, then the single-quoted imitation of it, then any
//! `AF` code in sight, and otherwise nothing but the text. The odd codes have one cause: the service splits an exception's
//! text at its first colon into code and message and drops two characters, so a code can be a sentence (§9).

use serde_json::{Map, Value};

use super::{ErrorCode, MAX_MESSAGE};
use crate::redact::redact;
use crate::response::MAX_ERROR_BODY;
use crate::text::{decode, first_chars, one_line};

/// A longer code is a sentence, and is read together with the message.
const MAX_CODE: usize = 128;

/// An error's words as the body has them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ErrorText {
    code: Option<String>,
    message: String,
}

/// The words of an error body of any shape.
pub(crate) fn read_error_body(body: &[u8]) -> ErrorText {
    let body = body.get(..MAX_ERROR_BODY).unwrap_or(body);
    let text = decode(body);
    let text = text.trim();
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        match error_object(&value) {
            Some(error) => return error,
            // JSON inside a JSON string: encoded twice.
            None => {
                if let Value::String(inner) = &value {
                    return read_plain(inner);
                }
            }
        }
    }
    read_plain(text)
}

/// The words of an error object; `None` when the value is something else, such as a record.
pub(crate) fn error_object(value: &Value) -> Option<ErrorText> {
    let value = match value {
        Value::Array(items) => match items.as_slice() {
            [only] => only,
            _ => return None,
        },
        other => other,
    };
    let object = value.as_object()?;
    match member(object, "error") {
        Some(Value::Object(error)) => {
            return Some(ErrorText {
                code: member(error, "code").and_then(scalar),
                message: member(error, "message").and_then(words).unwrap_or_default(),
            });
        }
        Some(Value::String(error)) => {
            let message = member(object, "error_description").or_else(|| member(object, "message")).and_then(words);
            return Some(ErrorText { code: Some(error.clone()), message: message.unwrap_or_default() });
        }
        _ => {}
    }
    // A record of the feed has neither; a bare pair or a lone message is an error without its envelope.
    if member(object, "Id").is_some() || member(object, "CreationTime").is_some() {
        return None;
    }
    let code = member(object, "code").and_then(scalar);
    let message = member(object, "message").and_then(words);
    if code.is_none() && message.is_none() {
        return None;
    }
    Some(ErrorText { code, message: message.unwrap_or_default() })
}

impl ErrorText {
    /// Which code it is, and the message for people.
    pub(crate) fn classify(self) -> (ErrorCode, String) {
        let code_text = self.code.unwrap_or_default();
        let code_text = code_text.trim();
        let joined = if code_text.is_empty() { self.message.clone() } else { format!("{code_text}: {}", self.message) };
        let code = classify(code_text, &self.message, &joined);
        // Where the code is only half of a sentence, or longer than what is kept of it, both halves are the message.
        let says_itself = match &code {
            ErrorCode::Af(_) => af_number(code_text).is_some() && code_text.len() <= "AF50000".len(),
            ErrorCode::StartThrottled => code_text == "429",
            ErrorCode::TenantDoesNotExist | ErrorCode::MissingTimeParameter => false,
            ErrorCode::Other(kept) => kept.len() == code_text.len(),
            ErrorCode::None => true,
        };
        let message = if says_itself { &self.message } else { &joined };
        let message = one_line(&redact(message), MAX_MESSAGE);
        let code = match code {
            ErrorCode::Other(text) => ErrorCode::Other(redact(&text)),
            known => known,
        };
        (code, message)
    }
}

fn classify(code: &str, message: &str, joined: &str) -> ErrorCode {
    if let Some(number) = af_number(code) {
        return ErrorCode::Af(number);
    }
    if code == "429" || joined.contains("Too many frequent subscription start requests") {
        return ErrorCode::StartThrottled;
    }
    // Before the words: a sentence that names its code says it better than its wording.
    if let Some(number) = af_number(message) {
        return ErrorCode::Af(number);
    }
    let words = joined.to_ascii_lowercase();
    if words.contains("tenant") && words.contains("does not exist") {
        return ErrorCode::TenantDoesNotExist;
    }
    // Without its first letter, which the split may have taken.
    if words.contains("tring reference not set to an instance of a string") {
        return ErrorCode::MissingTimeParameter;
    }
    if code.is_empty() {
        return ErrorCode::None;
    }
    ErrorCode::Other(first_chars(code, MAX_CODE).to_owned())
}

/// The first `AF` with three to five digits that stands for itself: not a piece of a GUID or of a longer word.
fn af_number(text: &str) -> Option<u32> {
    let mut before = None;
    for (position, pair) in text.as_bytes().windows(2).enumerate() {
        let stands_free = !before.is_some_and(|byte: u8| byte.is_ascii_alphanumeric());
        before = pair.first().copied();
        if !stands_free || pair != b"AF" {
            continue;
        }
        let rest = text.get(position + 2..)?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let ends_free = !rest.as_bytes().get(digits).is_some_and(u8::is_ascii_alphanumeric);
        if (3..=5).contains(&digits) && ends_free {
            return rest.get(..digits)?.parse().ok();
        }
    }
    None
}

/// Text that is no JSON: the single-quoted imitation, a page of HTML, a sentence, nothing.
fn read_plain(text: &str) -> ErrorText {
    let code = quoted_member(text, "code");
    let message = quoted_member(text, "message");
    if code.is_some() || message.is_some() {
        return ErrorText { code: code.map(str::to_owned), message: message.unwrap_or_default().to_owned() };
    }
    if text.starts_with('<') {
        let title = html_title(text).unwrap_or("without a title");
        let code = af_number(text).map(|number| format!("AF{number}"));
        return ErrorText { code, message: format!("an HTML page, {}", title.trim()) };
    }
    ErrorText { code: None, message: text.to_owned() }
}

/// The value of `'name':'value'` or `"name":"value"`. Quotes within the value are its own as long as no comma or closing
/// bracket follows them; a value cut off by the end of the text runs to it.
fn quoted_member<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    // ASCII lower-casing keeps every position.
    let lower = text.to_ascii_lowercase();
    for (found, _) in lower.match_indices(name) {
        let before = text.get(..found)?;
        let after = text.get(found + name.len()..)?;
        if !before.ends_with(['\'', '"']) {
            continue;
        }
        let Some(value) = after.strip_prefix(['\'', '"']) else { continue };
        let Some(value) = value.trim_start().strip_prefix(':') else { continue };
        let value = value.trim_start();
        let Some(quote) = value.chars().next().filter(|first| matches!(first, '\'' | '"')) else { continue };
        return Some(quoted_value(value.get(1..)?, quote));
    }
    None
}

fn quoted_value(value: &str, quote: char) -> &str {
    for (end, _) in value.match_indices(quote) {
        let next = value.get(end + 1..).unwrap_or_default().trim_start();
        if next.is_empty() || next.starts_with([',', '}', ']']) {
            return value.get(..end).unwrap_or(value);
        }
    }
    value
}

fn html_title(text: &str) -> Option<&str> {
    let lower = text.to_ascii_lowercase();
    let open = lower.find("<title")?;
    let start = open + lower.get(open..)?.find('>')? + 1;
    let end = start + lower.get(start..)?.find("</title")?;
    text.get(start..end).filter(|title| !title.trim().is_empty())
}

/// A member by name, in whatever letter case.
pub(crate) fn member<'o>(object: &'o Map<String, Value>, name: &str) -> Option<&'o Value> {
    object.get(name).or_else(|| object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value))
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A message; some of Microsoft's services wrap it as `{"lang":…,"value":…}`.
fn words(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Object(object) => member(object, "value").and_then(scalar),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, code: ErrorCode, message: &str) {
        let (found_code, found_message) = read_error_body(body.as_bytes()).classify();
        assert_eq!((found_code, found_message.as_str()), (code, message), "{body}");
    }

    #[test]
    fn every_envelope_gives_up_its_code_and_message() {
        check(r#"{"error":{"code":"AF50000","message":"Oops."}}"#, ErrorCode::Af(50000), "Oops.");
        check(r#"{"Error":{"Code":"AF429","Message":"m"}}"#, ErrorCode::Af(429), "m");
        check(r#"{"error":{"code":429,"message":"m"}}"#, ErrorCode::StartThrottled, "m");
        check(r#"[{"error":{"code":"AF20023","message":"m"}}]"#, ErrorCode::Af(20023), "m");
        check(r#"{"error":"AF20023","error_description":"m"}"#, ErrorCode::Af(20023), "m");
        check(r#"{"code":"AF20023","message":{"lang":"en","value":"m"}}"#, ErrorCode::Af(20023), "m");
        check(r#"{"error":{"code":"AF20024"}}"#, ErrorCode::Af(20024), "");
        check(r#"{"error":{"code":"Boom AF20024","message":"m"}}"#, ErrorCode::Af(20024), "Boom AF20024: m");
        check(r#"{"error":{"code":"Odd","message":"m"}}"#, ErrorCode::Other("Odd".into()), "m");
        check(r#"{"Message":"denied"}"#, ErrorCode::None, "denied");
        check(r#""{\"error\":{\"code\":\"AF20023\",\"message\":\"m\"}}""#, ErrorCode::Af(20023), "m");
    }

    #[test]
    fn what_looks_like_a_token_is_not_repeated() {
        let token = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.eyJhdWQiOi.c2ln";
        let body = format!(r#"{{"error":{{"code":"AF50000","message":"bad Authorization: Bearer {token}"}}}}"#);
        check(&body, ErrorCode::Af(50000), "bad Authorization: Bearer (redacted)");
        check(&format!("denied: {token}"), ErrorCode::None, "denied: (redacted)");
        let body = format!(r#"{{"code":"{token}","message":"m"}}"#);
        check(&body, ErrorCode::Other("(redacted)".into()), "m");
    }

    #[test]
    fn single_quoted_json_is_read_with_the_apostrophes_of_its_message() {
        let body = "{'error':{'code':'AF429','message':'Don't ask. Method=GetBlob'}}";
        check(body, ErrorCode::Af(429), "Don't ask. Method=GetBlob");
        check("{'error': {'code': 'AF429', 'message': 'cut o", ErrorCode::Af(429), "cut o");
    }

    #[test]
    fn pages_and_sentences_keep_their_words() {
        check("", ErrorCode::None, "");
        check("\u{FEFF}{\"error\":{\"code\":\"AF20022\",\"message\":\"m\"}}", ErrorCode::Af(20022), "m");
        check(
            "<html><HEAD><Title> Service\r\nUnavailable </title></html>",
            ErrorCode::None,
            "an HTML page, Service Unavailable",
        );
        check("<html>AF20050</html>", ErrorCode::Af(20050), "an HTML page, without a title");
        check("AF20050: no such thing", ErrorCode::Af(20050), "AF20050: no such thing");
    }

    #[test]
    fn an_af_code_must_stand_for_itself() {
        assert_eq!(af_number("x AF20050."), Some(20050));
        assert_eq!(af_number("AF429"), Some(429));
        assert_eq!(af_number("AF42"), None);
        assert_eq!(af_number("AF200500"), None);
        assert_eq!(af_number("0C-AF12-9"), None);
        assert_eq!(af_number("CAF20050"), None);
        assert_eq!(af_number("AF20050b"), None);
        assert_eq!(af_number("äAF1 AF429"), Some(429));
    }

    #[test]
    fn a_record_is_no_error_object() {
        for text in [r#"{"Id":"1","Message":"m"}"#, r#"{"CreationTime":"t","code":1}"#, "{}", "[]", "1", "[{},{}]"] {
            assert_eq!(error_object(&serde_json::from_str(text).unwrap()), None, "{text}");
        }
    }

    #[test]
    fn codes_that_are_sentences_are_matched_with_their_message() {
        let body = r#"{"error":{"code":"StartSubscription [CorrId=1][TenantId=2][AppId","message":"failed. Exception: Microsoft.Office.Compliance.Audit.DataServiceException: Tenant 2 does not exist.\r\n   at X"}}"#;
        let (code, message) = read_error_body(body.as_bytes()).classify();
        assert_eq!(code, ErrorCode::TenantDoesNotExist);
        assert!(message.starts_with("StartSubscription [CorrId=1]") && message.ends_with("at X"), "{message}");
    }
}
