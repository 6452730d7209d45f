//! Reads one raw JSON value as the text, number or time a column wants.
//!
//! Never fails: what does not fit is `None`. Never allocates, except to unescape.

use std::borrow::Cow;

use chrono::NaiveDate;
use protocol::time::{Timestamp, parse_timestamp};

use super::members::RawValue;
use crate::record_type;

/// A text as it reads; a number or boolean as it is written; `None` for the rest.
pub(super) fn text(value: RawValue<'_>) -> Option<Cow<'_, str>> {
    match value.bytes {
        [b'"', inside @ .., b'"'] => {
            let inside = std::str::from_utf8(inside).ok()?;
            Some(if value.has_escapes { Cow::Owned(unescape(inside)) } else { Cow::Borrowed(inside) })
        }
        b"true" | b"false" | [b'-' | b'0'..=b'9', ..] => std::str::from_utf8(value.bytes).ok().map(Cow::Borrowed),
        _ => None,
    }
}

/// A number, or a text that holds one. Whole numbers in range only; `15.0` is whole.
pub(super) fn number(value: RawValue<'_>) -> Option<i32> {
    number_in(scalar(value)?.as_ref())
}

/// A record type's number, or its name as audit search writes it.
pub(super) fn record_type(value: RawValue<'_>) -> Option<i32> {
    let text = scalar(value)?;
    number_in(&text).or_else(|| record_type::number(text.trim()))
}

/// A time in one of the forms Microsoft writes.
pub(super) fn time(value: RawValue<'_>) -> Option<Timestamp> {
    let text = text(value)?;
    match text.len() {
        0..8 => None,
        19 => common_time(text.as_bytes()).or_else(|| parse_timestamp(&text)),
        _ => parse_timestamp(&text),
    }
}

/// What may hold a number: not a boolean.
fn scalar(value: RawValue<'_>) -> Option<Cow<'_, str>> {
    if matches!(value.bytes, b"true" | b"false") { None } else { text(value) }
}

fn number_in(text: &str) -> Option<i32> {
    let text = text.trim();
    text.parse().ok().or_else(|| {
        // Only what is written as a fraction or with an exponent needs the slow way.
        let float: f64 = text.parse().ok()?;
        let whole = float as i32;
        (text.contains(['.', 'e', 'E']) && f64::from(whole) == float).then_some(whole)
    })
}

/// `yyyy-MM-ddTHH:mm:ss`, the form practically every record has. Chrono's format strings would take longer over it than
/// the rest of the view takes over the whole record.
fn common_time(text: &[u8]) -> Option<Timestamp> {
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', n1, n2, b':', s1, s2] = text else {
        return None;
    };
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0_u32, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u32::from(digit - b'0')))
    };
    let year = i32::try_from(number(&[y1, y2, y3, y4])?).ok()?;
    let date = NaiveDate::from_ymd_opt(year, number(&[m1, m2])?, number(&[d1, d2])?)?;
    Some(date.and_hms_opt(number(&[h1, h2])?, number(&[n1, n2])?, number(&[s1, s2])?)?.and_utc())
}

/// The text behind JSON escapes. A surrogate without its pair becomes U+FFFD, an escape that JSON does not know stays as
/// it is written.
pub(super) fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        plain.push_str(&rest[..at]);
        let escape = &rest[at + 1..];
        let (character, length) = match escape.as_bytes().first() {
            Some(b'"') => ('"', 1),
            Some(b'\\') => ('\\', 1),
            Some(b'/') => ('/', 1),
            Some(b'b') => ('\u{8}', 1),
            Some(b'f') => ('\u{c}', 1),
            Some(b'n') => ('\n', 1),
            Some(b'r') => ('\r', 1),
            Some(b't') => ('\t', 1),
            Some(b'u') => escaped_character(escape.as_bytes()).unwrap_or(('\\', 0)),
            _ => ('\\', 0),
        };
        plain.push(character);
        rest = &escape[length..];
    }
    plain.push_str(rest);
    plain
}

/// The character of `uXXXX`, or of `uXXXX\uXXXX` where the two are a pair, and how many bytes it took.
fn escaped_character(escape: &[u8]) -> Option<(char, usize)> {
    let first = code_unit(escape)?;
    if let Some(character) = char::from_u32(first) {
        return Some((character, 5));
    }
    if (0xd800..0xdc00).contains(&first)
        && let Some((b'\\', second)) = escape.get(5..).and_then(<[u8]>::split_first)
        && let Some(second @ 0xdc00..0xe000) = code_unit(second)
    {
        let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        return Some((char::from_u32(code)?, 11));
    }
    Some((char::REPLACEMENT_CHARACTER, 5))
}

fn code_unit(escape: &[u8]) -> Option<u32> {
    let [b'u', digits @ ..] = escape.get(..5)? else { return None };
    digits.iter().try_fold(0, |sum, digit| Some(sum << 4 | char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(bytes: &[u8]) -> RawValue<'_> {
        RawValue { bytes, has_escapes: bytes.contains(&b'\\') }
    }

    #[test]
    fn escapes_read_as_serde_json_reads_them() {
        for raw in [
            r#""plain""#,
            r#""a\"b\\c\/d\b\f\n\r\te""#,
            r#""\u0041\u00e9\u4e2d\ud83d\ude00\u0000!""#,
            r#""tail\\""#,
            r#""\\u0041""#,
            r#""""#,
        ] {
            let expected: String = serde_json::from_str(raw).unwrap();
            assert_eq!(text(value(raw.as_bytes())).unwrap(), expected, "{raw}");
        }
    }

    #[test]
    fn broken_escapes_cost_nothing_but_themselves() {
        for (raw, expected) in [
            (r#""a\ud800b""#, "a\u{fffd}b"),
            (r#""a\udc00\ud800b""#, "a\u{fffd}\u{fffd}b"),
            (r#""\ud800\u0041""#, "\u{fffd}A"),
            (r#""\ud800\ud83d\ude00""#, "\u{fffd}\u{1f600}"),
            (r#""\x\u12""#, r"\x\u12"),
            (r#""\u12G4""#, r"\u12G4"),
            (r#""\u+123""#, r"\u+123"),
            ("\"a\u{1}\nb\"", "a\u{1}\nb"),
        ] {
            assert_eq!(text(value(raw.as_bytes())).unwrap(), expected, "{raw}");
        }
    }

    #[test]
    fn texts_take_scalars_and_nothing_else() {
        for (raw, expected) in
            [("12", Some("12")), ("-1e400", Some("-1e400")), ("true", Some("true")), ("\"\"", Some(""))]
        {
            assert_eq!(text(value(raw.as_bytes())).as_deref(), expected, "{raw}");
        }
        for raw in ["null", "{}", "[1]", "\"", "", "nul", "\"\u{e9}\""] {
            let bytes: Vec<u8> = raw.chars().map(|c| c as u8).collect();
            assert_eq!(text(value(&bytes)), None, "{raw}");
        }
    }

    #[test]
    fn numbers_may_be_texts_and_must_be_whole_and_in_range() {
        for (raw, expected) in [
            ("15", 15),
            ("\"15\"", 15),
            ("\" 15 \"", 15),
            ("-1", -1),
            ("15.0", 15),
            ("1.5e1", 15),
            ("2147483647", i32::MAX),
            ("-2147483648", i32::MIN),
        ] {
            assert_eq!(number(value(raw.as_bytes())), Some(expected), "{raw}");
        }
        for raw in
            ["2147483648", "-2147483649", "1.5", "1e400", "\"\"", "\"x\"", "true", "null", "[1]", "\"NaN\"", "\"inf\""]
        {
            assert_eq!(number(value(raw.as_bytes())), None, "{raw}");
        }
    }

    #[test]
    fn record_types_may_be_names() {
        assert_eq!(record_type(value(b"\"AzureActiveDirectoryStsLogon\"")), Some(15));
        assert_eq!(record_type(value(b"\"15\"")), Some(15));
        assert_eq!(record_type(value(b"4711")), Some(4711));
        assert_eq!(record_type(value(b"\"NoSuchName\"")), None);
    }

    #[test]
    fn the_common_time_is_read_as_every_other_is() {
        for text in [
            "2026-03-04T05:06:07",
            "2026-02-29T00:00:00",
            "2024-02-29T23:59:59",
            "0001-01-01T00:00:00",
            "9999-12-31T23:59:59",
            "2026-03-04 05:06:07",
            "2026-13-04T05:06:07",
            "2026-03-04T24:06:07",
            "03/04/2026 05:06:07",
            "2026-03-04T05:06:0x",
        ] {
            let raw = format!("\"{text}\"");
            assert_eq!(time(value(raw.as_bytes())), parse_timestamp(text), "{text}");
        }
        for raw in ["null", "\"\"", "\"yesterday\"", "1700000000", "1e400", "{}"] {
            assert_eq!(time(value(raw.as_bytes())), None, "{raw}");
        }
    }
}
