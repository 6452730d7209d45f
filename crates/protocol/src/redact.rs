//! Takes out of other people's prose whatever may be a secret.
//!
//! Never perfect, and never relied on alone: it stands between a server that echoes what it was sent and our log.

/// `text` with every word that looks like a token, an assertion or a client secret replaced by `(redacted)`. GUIDs, hex
/// thumbprints, times, host names and error codes stay.
pub(crate) fn redact(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_word_character) {
        let (gap, after_gap) = rest.split_at(start);
        let end = after_gap.find(|character| !is_word_character(character)).unwrap_or(after_gap.len());
        let (word, after_word) = after_gap.split_at(end);
        safe.push_str(gap);
        safe.push_str(if may_be_secret(word) { "(redacted)" } else { word });
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

#[cfg(test)]
mod tests {
    use super::*;

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
