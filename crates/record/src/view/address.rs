//! Reads an address out of the forms Microsoft writes it in (audit-schema.md §9).
//!
//! Never guesses: what is no address stays the text it is.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The address alone, in its canonical form, without brackets, port and zone; an IPv4 address mapped into IPv6 as IPv4.
/// A text that holds no address, or several, comes back as it is, without white space around it. `None` when it says
/// nothing: empty, `null`, `<null>`.
pub fn normalised(text: Cow<'_, str>) -> Option<Cow<'_, str>> {
    match text {
        Cow::Borrowed(text) => normalised_slice(text),
        Cow::Owned(text) => normalised_slice(&text).map(|kept| Cow::Owned(kept.into_owned())),
    }
}

fn normalised_slice(text: &str) -> Option<Cow<'_, str>> {
    let text = text.trim();
    if text.is_empty() || text.eq_ignore_ascii_case("null") || text.eq_ignore_ascii_case("<null>") {
        return None;
    }
    Some(address_in(text).unwrap_or(Cow::Borrowed(text)))
}

/// The canonical form of the one address in `text`.
fn address_in(text: &str) -> Option<Cow<'_, str>> {
    if let Some(bracketed) = text.strip_prefix('[') {
        let (inside, behind) = bracketed.split_once(']')?;
        return if behind.is_empty() || behind.strip_prefix(':').is_some_and(is_port) { plain(inside) } else { None };
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains(':') => {
            if is_port(port) {
                plain(host)
            } else {
                None
            }
        }
        // No colon, or several: IPv4 or IPv6 without a port.
        _ => plain(text),
    }
}

fn plain(text: &str) -> Option<Cow<'_, str>> {
    if text.parse::<Ipv4Addr>().is_ok() {
        // An IPv4 address has one form only.
        return Some(Cow::Borrowed(text));
    }
    let unzoned = text.split_once('%').map_or(text, |(address, _)| address);
    let address: Ipv6Addr = unzoned.parse().ok()?;
    Some(Cow::Owned(address.to_canonical().to_string()))
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(normalised(Cow::Borrowed(text)).as_deref(), expected, "{text:?}");
        assert_eq!(normalised(Cow::Owned(text.to_owned())).as_deref(), expected, "{text:?}, owned");
    }

    #[test]
    fn every_form_of_the_schema_gives_the_address() {
        for (text, expected) in [
            ("10.1.2.3", "10.1.2.3"),
            (" 10.1.2.3\t", "10.1.2.3"),
            ("10.1.2.3:1234", "10.1.2.3"),
            ("[10.1.2.3]:1234", "10.1.2.3"),
            ("[10.1.2.3]", "10.1.2.3"),
            ("2001:db8::1", "2001:db8::1"),
            ("2001:0DB8:0::1", "2001:db8::1"),
            ("[2001:db8::1]:1234", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("::1", "::1"),
            ("::ffff:10.1.2.3", "10.1.2.3"),
            ("fe80::1%3", "fe80::1"),
            ("[fe80::1%eth0]:443", "fe80::1"),
        ] {
            check(text, Some(expected));
        }
    }

    #[test]
    fn what_is_no_address_stays_as_it_came() {
        for text in [
            "ffff:10.11.0.229",
            "mail.example.com",
            "mail.example.com:443",
            "10.1.2.3, 10.1.2.4",
            "10.1.2.3:port",
            "10.1.2.3:123456",
            "10.1.2.256",
            "010.1.2.3",
            "[10.1.2.3",
            "[10.1.2.3]x",
            "10.1.2.3:",
            "127001",
        ] {
            check(text, Some(text));
        }
        check("  several words ", Some("several words"));
    }

    #[test]
    fn what_says_nothing_is_none() {
        for text in ["", "  ", "null", "NULL", "<null>", " <null> "] {
            check(text, None);
        }
    }
}
