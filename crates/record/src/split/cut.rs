//! Tells an element that was cut off from one that is broken.
//!
//! Never looks into texts, numbers and literals: only how brackets, commas and colons follow each other counts. That much a
//! record keeps to wherever it is cut, whatever else is odd about it.

use crate::scan::text_end_in_chunk;

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// A value, behind a colon or a comma.
    Value,
    /// A value or the end of the list, behind its bracket.
    ValueOrEnd,
    /// A key, behind a comma.
    Key,
    /// A key or the end of the object, behind its bracket.
    KeyOrEnd,
    Colon,
    /// A comma or the end, behind a value.
    CommaOrEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Object,
    List,
}

/// Whether nothing in `bytes` keeps them from being the beginning of a value: whatever is behind them may have been cut off.
/// Reads them once. A value that is complete has no such end, so with anything behind it that is not white space it is
/// `false`.
pub(super) fn may_be_cut_off(bytes: &[u8]) -> bool {
    let mut open = Vec::new();
    let mut next = Next::Value;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        at += 1;
        let is_value = matches!(next, Next::Value | Next::ValueOrEnd);
        next = match (byte, open.last()) {
            (b' ' | b'\t' | b'\n' | b'\r', _) => continue,
            (b'{', _) if is_value => {
                open.push(Open::Object);
                Next::KeyOrEnd
            }
            (b'[', _) if is_value => {
                open.push(Open::List);
                Next::ValueOrEnd
            }
            (b'}', Some(Open::Object)) if matches!(next, Next::KeyOrEnd | Next::CommaOrEnd) => {
                open.pop();
                Next::CommaOrEnd
            }
            (b']', Some(Open::List)) if matches!(next, Next::ValueOrEnd | Next::CommaOrEnd) => {
                open.pop();
                Next::CommaOrEnd
            }
            (b',', Some(Open::Object)) if next == Next::CommaOrEnd => Next::Key,
            (b',', Some(Open::List)) if next == Next::CommaOrEnd => Next::Value,
            (b':', _) if next == Next::Colon => Next::Value,
            (b'"', _) if is_value || matches!(next, Next::Key | Next::KeyOrEnd) => {
                let Some(length) = text_end_in_chunk(&bytes[at..], &mut false) else { return true };
                at += length;
                if is_value { Next::CommaOrEnd } else { Next::Colon }
            }
            (b'{' | b'[' | b'}' | b']' | b',' | b':' | b'"', _) => return false,
            _ if is_value => {
                let length = bytes[at..].iter().position(|byte| b"{}[],:\" \t\r\n".contains(byte));
                let Some(length) = length else { return true };
                at += length;
                Next::CommaOrEnd
            }
            _ => return false,
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a\"\\\\\\]}{\\[:, é]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 4, |inner| {
            let key = "[a\"\\]},]{0,3}";
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key, inner), 0..4).prop_map(|pairs| Value::from(Map::from_iter(pairs))),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_beginning_of_a_value_may_be_cut_off(value in value(), pretty: bool) {
            let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap_or_default();
            for cut in 0..=text.len() {
                prop_assert!(may_be_cut_off(&text[..cut]), "{}", String::from_utf8_lossy(&text[..cut]));
            }
        }
    }

    #[test]
    fn a_broken_element_is_none_that_was_cut_off() {
        for broken in [
            r#"{"a":"x},{"b":2}]"#,
            r#"{"a":{"b":1},{"c":2}]"#,
            r#"{"a":[1},{"c":2}]"#,
            r#"{"a":[{"b":1},"T":1},{"c":2}]"#,
            r#"{"a"}"#,
            r#"{"a":1 2"#,
            r#"{,"#,
            r"[,",
            r"[1 ]]",
            r"{} x",
        ] {
            assert!(!may_be_cut_off(broken.as_bytes()), "{broken}");
        }
    }
}
