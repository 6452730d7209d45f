//! Bytes from strangers made fit to be looked at: decoded, cut to size, on one line.
//!
//! Never fails: what cannot be decoded is replaced.

use std::borrow::Cow;

/// The text of a body: without byte order mark, UTF-16 recognised by its mark, everything else read as UTF-8 with
/// U+FFFD for what is none.
pub(crate) fn decode(body: &[u8]) -> Cow<'_, str> {
    match body {
        [0xEF, 0xBB, 0xBF, rest @ ..] => String::from_utf8_lossy(rest),
        [0xFF, 0xFE, rest @ ..] => decode_utf16(rest, u16::from_le_bytes),
        [0xFE, 0xFF, rest @ ..] => decode_utf16(rest, u16::from_be_bytes),
        _ => String::from_utf8_lossy(body),
    }
}

/// One line of at most `max` characters: runs of white space and control characters become one blank.
pub(crate) fn one_line(text: &str, max: usize) -> String {
    let mut line = String::new();
    let mut length = 0;
    let mut gap = false;
    for character in text.chars() {
        if character.is_whitespace() || character.is_control() {
            gap = length > 0;
            continue;
        }
        if length + usize::from(gap) >= max {
            line.push('…');
            break;
        }
        if gap {
            line.push(' ');
            length += 1;
            gap = false;
        }
        line.push(character);
        length += 1;
    }
    line
}

/// The first `max` characters, verbatim.
pub(crate) fn first_chars(text: &str, max: usize) -> &str {
    match text.char_indices().nth(max) {
        Some((end, _)) => text.get(..end).unwrap_or(text),
        None => text,
    }
}

fn decode_utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Cow<'static, str> {
    let (pairs, _odd_last_byte) = bytes.as_chunks::<2>();
    let units = pairs.iter().map(|pair| unit(*pair));
    Cow::Owned(char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_marks_are_no_part_of_the_text() {
        assert_eq!(decode(b"\xEF\xBB\xBF[]"), "[]");
        assert_eq!(decode(b"\xFF\xFE[\0]\0"), "[]");
        assert_eq!(decode(b"\xFE\xFF\0[\0]"), "[]");
        assert_eq!(decode(b"\xFF\xFE[\0]"), "[");
        assert_eq!(decode(b"\xFF"), "\u{FFFD}");
    }

    #[test]
    fn lines_are_joined_and_cut_at_the_limit() {
        assert_eq!(one_line("  a\r\n\tb \0 c ", 10), "a b c");
        assert_eq!(one_line("abcde", 5), "abcde");
        assert_eq!(one_line("abcdef", 5), "abcde…");
        assert_eq!(first_chars("äöü", 2), "äö");
        assert_eq!(first_chars("äö", 2), "äö");
    }
}
