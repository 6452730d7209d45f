//! Decodes the escapes of JSON strings.
//!
//! Never fails: what is no proper escape costs one character, not the string.

use std::borrow::Cow;

/// Decodes the escapes of a string's inside. A surrogate without its half becomes U+FFFD; an escape JSON does not know
/// stands for the character after the backslash.
pub(super) fn unescape(inner: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr::memchr(b'\\', inner) else { return Cow::Borrowed(inner) };
    let (plain, mut rest) = inner.split_at(first);
    let mut decoded = Vec::with_capacity(inner.len());
    decoded.extend_from_slice(plain);
    // `rest` begins with a backslash each time around.
    while let [_, escape, after @ ..] = rest {
        rest = after;
        match escape {
            b'n' => decoded.push(b'\n'),
            b't' => decoded.push(b'\t'),
            b'r' => decoded.push(b'\r'),
            b'b' => decoded.push(0x08),
            b'f' => decoded.push(0x0c),
            b'u' => {
                let (character, after) = unicode_escape(rest);
                decoded.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = after;
            }
            other => decoded.push(*other),
        }
        let plain_length = memchr::memchr(b'\\', rest).unwrap_or(rest.len());
        let (plain, after) = rest.split_at(plain_length);
        decoded.extend_from_slice(plain);
        rest = after;
    }
    Cow::Owned(decoded)
}

/// The character whose `\u` has just been read, and what follows it.
fn unicode_escape(text: &[u8]) -> (char, &[u8]) {
    let Some((first, after)) = hex_quad(text) else { return (char::REPLACEMENT_CHARACTER, text) };
    if let 0xd800..0xdc00 = first
        && let Some((second @ 0xdc00..0xe000, after_pair)) = after.strip_prefix(b"\\u").and_then(hex_quad)
    {
        let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        return (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), after_pair);
    }
    (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), after)
}

/// Four hexadecimal digits.
fn hex_quad(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, after) = text.split_at_checked(4)?;
    let mut code = 0;
    for digit in digits {
        code = code * 16 + char::from(*digit).to_digit(16)?;
    }
    Some((code, after))
}
