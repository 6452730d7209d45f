//! Rule: no private key and no client secret lies in the tree, outside tests.

use super::Finding;
use super::tree::{File, Tree};

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for file in tree.files().filter(|file| !file.is_test()) {
        check_keys(file, findings);
        check_client_secrets(file, findings);
    }
}

/// A PEM header alone is a word in a parser; with a body under it, it is a key.
fn check_keys(file: &File, findings: &mut Vec<Finding>) {
    let mut lines = file.text.lines().enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        let is_header = line.contains("-----BEGIN ") && line.contains("PRIVATE KEY-----");
        let body = line.split("PRIVATE KEY-----").nth(1).map(|rest| rest.trim_start_matches("\\n"));
        let next = lines.peek().map(|(_, next)| next.trim());
        if is_header && [body, next].into_iter().flatten().any(is_key_body) {
            findings.push(
                file.finding(index + 1, "a private key; make one at run time, or move it to the tests that need it"),
            );
        }
    }
}

fn is_key_body(text: &str) -> bool {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    text.as_bytes().iter().take_while(|byte| is_base64(byte)).count() >= 40
}

/// Entra's generated secrets: three characters, a digit and `Q~`, and 34 more.
fn check_client_secrets(file: &File, findings: &mut Vec<Finding>) {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    for (place, _) in file.text.match_indices("Q~") {
        let bytes = file.text.as_bytes();
        let before = bytes[..place].iter().rev().take_while(|byte| is_part(byte)).count();
        let behind = bytes[place + 2..].iter().take_while(|byte| is_part(byte)).count();
        if before == 4 && bytes[place - 1].is_ascii_digit() && behind == 34 {
            let text = "what looks like a client secret of Entra; revoke it, and take it out";
            findings.push(file.finding(file.line_of(place), text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::testing::findings_in;

    #[test]
    fn keys_are_found_and_headers_alone_are_not() {
        let header = concat!("-----BEGIN RSA ", "PRIVATE KEY-----");
        let body = "MIIEpAIBAAKCAQEA".repeat(4);
        let key = format!("a\n{header}\n{body}\n");
        assert_eq!(findings_in(check, &[("fixtures/a.pem", &key)]).len(), 1);
        assert_eq!(findings_in(check, &[("a.json", &format!("{{\"key\":\"{header}\\n{body}\"}}"))]).len(), 1);
        assert!(findings_in(check, &[("crates/a/tests/it/a.pem", &key)]).is_empty());
        assert!(findings_in(check, &[("crates/a/src/b.rs", &format!("let x = \"{header}\";\nfoo();\n"))]).is_empty());
    }

    #[test]
    fn client_secrets_are_found() {
        let secret = format!("abc8Q~{}", "x".repeat(34));
        assert_eq!(findings_in(check, &[("a.toml", &format!("secret = \"{secret}\""))]).len(), 1);
        for other in [format!("{secret}x"), format!("x{secret}"), secret.replace('8', "y")] {
            assert!(findings_in(check, &[("a.toml", &format!("secret = \"{other}\""))]).is_empty(), "{other}");
        }
    }
}
