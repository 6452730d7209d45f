//! Takes out of other people's prose whatever may be a secret, and what is known to be one for certain.
//!
//! Never perfect where it has to guess: it stands between a server that echoes what it was sent and our log, and whoever
//! knows what was sent takes that out by [`scrub`] first.

use std::borrow::Cow;

/// What stands where a secret stood.
const REDACTED: &str = "(redacted)";

/// Names of fields whose values are secrets, whatever they look like.
const SECRET_FIELDS: [&str; 6] =
    ["access_token", "refresh_token", "id_token", "client_secret", "client_assertion", "code_verifier"];

/// What is shorter is left alone: nobody's secret, and the words of an honest answer are full of it.
const SECRET_MIN: usize = 8;

/// `body` with every occurrence of `secret` replaced; unchanged, and not copied, when there is none or when `secret` has
/// fewer than 8 bytes.
pub(crate) fn scrub<'b>(body: &'b [u8], secret: &str) -> Cow<'b, [u8]> {
    let secret = secret.as_bytes();
    let find = |from: &[u8]| from.windows(secret.len()).position(|window| window == secret);
    let Some(first) = (secret.len() >= SECRET_MIN).then(|| find(body)).flatten() else { return Cow::Borrowed(body) };
    let mut clean = Vec::with_capacity(body.len());
    let (mut rest, mut next) = (body, Some(first));
    while let Some(at) = next {
        clean.extend_from_slice(rest.get(..at).unwrap_or_default());
        clean.extend_from_slice(REDACTED.as_bytes());
        rest = rest.get(at + secret.len()..).unwrap_or_default();
        next = find(rest);
    }
    clean.extend_from_slice(rest);
    Cow::Owned(clean)
}

/// `text` with every word that looks like a token, an assertion or a client secret replaced by `(redacted)`, the value of
/// every field that holds one, in JSON or in a form, and the word after `Bearer` if it is none of prose. GUIDs, hex
/// thumbprints, times, host names and error codes stay.
pub(crate) fn redact(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut rest = text;
    let (mut is_credential, mut is_value) = (false, false);
    while let Some(start) = rest.find(is_word_character) {
        let (gap, after_gap) = rest.split_at(start);
        safe.push_str(gap);
        // `"access_token":"…"`: through the closing quotation mark, blanks and all.
        is_value = is_value && gap.contains(':');
        let end = match is_value && gap.ends_with('"') {
            true => after_gap.find('"'),
            false => after_gap.find(|character| !is_word_character(character)),
        };
        let (word, after_word) = after_gap.split_at(end.unwrap_or(after_gap.len()));
        match word.split_once('=') {
            _ if is_value => safe.push_str(REDACTED),
            Some((field, _)) if SECRET_FIELDS.contains(&field) => {
                safe.push_str(field);
                safe.push('=');
                safe.push_str(REDACTED);
            }
            _ if may_be_secret(word) || (is_credential && !is_prose(word)) => safe.push_str(REDACTED),
            _ => safe.push_str(word),
        }
        is_credential = word.eq_ignore_ascii_case("bearer");
        is_value = SECRET_FIELDS.contains(&word);
        rest = after_word;
    }
    safe.push_str(rest);
    safe
}

fn is_word_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || "_~.-+=%".contains(character)
}

/// Secrets that Entra makes are 34 to 44 characters of mixed case with digits, and newer ones hold a `~`; tokens are
/// longer still and begin with `eyJ`.
fn may_be_secret(word: &str) -> bool {
    if word.len() >= 16 && (word.starts_with("eyJ") || word.contains('~')) {
        return true;
    }
    let has = |kind: fn(&u8) -> bool| word.as_bytes().iter().any(kind);
    word.len() >= 24 && has(u8::is_ascii_digit) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase)
}

/// "Bearer authentication failed" says what happened.
fn is_prose(word: &str) -> bool {
    word.len() < 20 && word.bytes().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'.' | b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_short_for_a_secret_leaves_an_answer_whole() {
        assert!(matches!(scrub(b"access_token", "s"), Cow::Borrowed(_)));
        assert!(matches!(scrub(b"1234567", "1234567"), Cow::Borrowed(_)));
        assert_eq!(scrub(b"12345678", "12345678").as_ref(), b"(redacted)");
    }

    #[test]
    fn what_follows_bearer_goes_unless_it_is_prose() {
        assert_eq!(redact("got 'Bearer 0123abcd', sorry"), "got 'Bearer (redacted)', sorry");
        assert_eq!(redact("bearer abcdefghijklmnopqrst"), "bearer (redacted)");
        for text in ["Bearer authentication failed", "a bearer token. 0123abcd", "Bearer abcdefghijklmnopqrs"] {
            assert_eq!(redact(text), text);
        }
    }

    #[test]
    fn a_known_secret_goes_wherever_it_stands_and_a_body_without_it_is_not_copied() {
        for (body, clean) in [
            ("nonsense", "(redacted)"),
            ("a nonsense b nonsensenonsense", "a (redacted) b (redacted)(redacted)"),
            ("nonsensens", "(redacted)ns"),
            ("xnonsense", "x(redacted)"),
        ] {
            assert_eq!(scrub(body.as_bytes(), "nonsense").as_ref(), clean.as_bytes(), "{body}");
        }
        for (body, secret) in [("nonsens", "nonsense"), ("", "nonsense"), ("onsense", "nonsense"), ("any", "")] {
            assert!(matches!(scrub(body.as_bytes(), secret), Cow::Borrowed(_)), "{body}");
        }
    }

    #[test]
    fn secrets_tokens_and_assertions_go_and_the_rest_stays() {
        let secret = format!("abc8Q~{}", "xYz.0_-1".repeat(4));
        let token = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.eyJhdWQiOi.c2ln";
        for hidden in [secret.as_str(), token, "Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MA=="] {
            let shown =
                redact(&format!("AADSTS7000215: given '{hidden}', app '6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11'."));
            assert_eq!(shown, "AADSTS7000215: given '(redacted)', app '6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11'.");
        }
    }

    #[test]
    fn the_value_of_a_secret_field_goes_whatever_it_looks_like() {
        for (text, shown) in [
            (r#"{"access_token":"short one","x":"y"}"#, r#"{"access_token":"(redacted)","x":"y"}"#),
            (r#"{"client_secret" : "a b, c"}"#, r#"{"client_secret" : "(redacted)"}"#),
            (r#"{"access_token":"cut o"#, r#"{"access_token":"(redacted)"#),
            (
                "grant=x&client_secret=abc&client_assertion=d",
                "grant=x&client_secret=(redacted)&client_assertion=(redacted)",
            ),
            ("code_verifier: abc, and so on", "code_verifier: (redacted), and so on"),
            (
                "neither client_secret nor 'client_assertion' is there",
                "neither client_secret nor 'client_assertion' is there",
            ),
            (r#"{"access_token":null,"error":"e"}"#, r#"{"access_token":(redacted),"error":"e"}"#),
        ] {
            assert_eq!(redact(text), shown);
        }
    }

    #[test]
    fn what_support_asks_for_is_kept() {
        for text in [
            "",
            "Thumbprint '9F3A1C4F0E7C394F0B9D6E2F4F0E0C8A119F3A1C' at 2016-01-09T02:02:12.0000000Z",
            "https://manage.office.com and https://login.microsoftonline.com/6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11/oauth2",
            "Grüße: unauthorized_client, ActivityFeed.ReadDlp",
        ] {
            assert_eq!(redact(text), text);
        }
    }
}
