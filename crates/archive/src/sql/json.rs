//! Finds one value inside a JSON text by walking over its bytes, without building a tree.
//!
//! Never fails and never panics on odd text: what is not there, or not JSON, is `None`, and what stands behind the first
//! place that is not JSON is not seen. Of members with the same name the last one wins, as it does in the `record` room.
//! Called by [`super::functions`] once per row.

mod escape;
mod path;

use std::borrow::Cow;

use memchr::memchr2;

use self::escape::unescape;
pub(super) use self::path::{Step, parse_path};

/// What a JSON value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    String,
    Number,
    Boolean,
    Null,
}

impl Kind {
    /// The name SQL sees.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Null => "null",
        }
    }
}

/// A JSON value in place: the bytes from its first to its last, in the text it was found in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value<'a>(&'a [u8]);

impl<'a> Value<'a> {
    /// The value a text holds. White space and a byte order mark around it are passed over. `None` when the text does not
    /// begin like JSON; whether it also goes on like it is seen as far as one reads.
    pub(super) fn of_text(text: &'a [u8]) -> Option<Self> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text).trim_ascii();
        let value = Self(text);
        match value.kind()? {
            Kind::Object | Kind::Array => Some(value),
            // A lone scalar must be the whole text.
            Kind::String => (string_length(text)? == text.len()).then_some(value),
            _ => is_scalar(text).then_some(value),
        }
    }

    /// Where the path leads, or `None` when it leads nowhere.
    pub(super) fn walk(self, path: &[Step]) -> Option<Self> {
        path.iter().try_fold(self, |value, step| match (value.kind()?, step) {
            (Kind::Object, Step::Name(name)) => value.member(name),
            (Kind::Array, Step::Index(index)) => value.element(*index),
            // `Actor.0.ID` is how some tools write `Actor[0].ID`.
            (Kind::Array, Step::Name(name)) => value.element(name.parse().ok()?),
            _ => None,
        })
    }

    /// What the value is, judged by how it begins.
    pub(super) fn kind(self) -> Option<Kind> {
        Some(match self.0.first()? {
            b'{' => Kind::Object,
            b'[' => Kind::Array,
            b'"' => Kind::String,
            b't' | b'f' => Kind::Boolean,
            b'n' => Kind::Null,
            b'-' | b'0'..=b'9' => Kind::Number,
            _ => return None,
        })
    }

    /// The value's JSON exactly as it stands in the text. Bytes that are no UTF-8 become U+FFFD.
    pub(super) fn json(self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.0)
    }

    /// The value as text: a string without its quotes and escapes, a number with the digits it came with, an object or
    /// array as its JSON. `None` for null.
    pub(super) fn text(self) -> Option<Cow<'a, str>> {
        match self.kind()? {
            Kind::String => {
                let inner = self.0.get(1..self.0.len().checked_sub(1)?)?;
                Some(match unescape(inner) {
                    Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
                    Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
                })
            }
            Kind::Null => None,
            _ => Some(self.json()),
        }
    }

    /// The member of that name. An exact match is preferred to one that differs in ASCII letter case (audit-schema.md §10
    /// trap 1); among equals the last one wins.
    pub(super) fn member(self, name: &str) -> Option<Self> {
        let (mut exact, mut similar) = (None, None);
        for (key, value) in self.members() {
            let Some(key) = key.string_bytes() else { continue };
            if *key == *name.as_bytes() {
                exact = Some(value);
            } else if key.eq_ignore_ascii_case(name.as_bytes()) {
                similar = Some(value);
            }
        }
        exact.or(similar)
    }

    /// The element at that place; -1 is the last one.
    pub(super) fn element(self, index: i64) -> Option<Self> {
        let place = match usize::try_from(index) {
            Ok(place) => place,
            Err(_) => self.elements().count().checked_sub(usize::try_from(index.unsigned_abs()).ok()?)?,
        };
        self.elements().nth(place)
    }

    /// How many elements an array or members an object has (members with the same name count each).
    pub(super) fn length(self) -> Option<usize> {
        match self.kind()? {
            Kind::Array => Some(self.elements().count()),
            Kind::Object => Some(self.members().count()),
            _ => None,
        }
    }

    /// The elements of an array, up to the first place that is not JSON; none of anything else.
    pub(super) fn elements(self) -> impl Iterator<Item = Self> {
        let mut items = Items::of(self, b'[', b']');
        std::iter::from_fn(move || if items.advance()? { items.cursor.value() } else { None })
    }

    /// The members of an object with their names as they stand, up to the first place that is not JSON.
    fn members(self) -> impl Iterator<Item = (Self, Self)> {
        let mut items = Items::of(self, b'{', b'}');
        std::iter::from_fn(move || {
            if !items.advance()? {
                return None;
            }
            let key = items.cursor.value().filter(|key| key.kind() == Some(Kind::String))?;
            if !items.cursor.take(b':') {
                return None;
            }
            Some((key, items.cursor.value()?))
        })
    }

    /// The names of an object's members, in their order; a name met twice is there once.
    pub(super) fn keys(self) -> Option<Vec<Cow<'a, str>>> {
        if self.kind()? != Kind::Object {
            return None;
        }
        let mut keys = Vec::new();
        for key in self.members().filter_map(|(key, _)| key.text()) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        Some(keys)
    }

    /// A string's bytes without quotes and escapes.
    fn string_bytes(self) -> Option<Cow<'a, [u8]>> {
        let inner = self.0.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        Some(unescape(inner))
    }
}

/// Goes through what stands between two brackets.
struct Items<'a> {
    cursor: Cursor<'a>,
    close: u8,
    first: bool,
}

impl<'a> Items<'a> {
    /// Nothing to go through when the value does not begin with `open`.
    fn of(value: Value<'a>, open: u8, close: u8) -> Self {
        let mut cursor = Cursor(value.0);
        if !cursor.take(open) {
            cursor = Cursor(&[]);
        }
        Self { cursor, close, first: true }
    }

    /// Whether another item follows, after passing over the comma before it. `None` where the text is not JSON.
    fn advance(&mut self) -> Option<bool> {
        if self.cursor.take(self.close) {
            return Some(false);
        }
        let comma_due = !std::mem::replace(&mut self.first, false);
        if comma_due && !self.cursor.take(b',') { None } else { Some(true) }
    }
}

/// The part of the text that is still to be read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    /// Passes over white space and then over that byte, if it is there.
    fn take(&mut self, byte: u8) -> bool {
        self.0 = self.0.trim_ascii_start();
        match self.0.split_first() {
            Some((first, rest)) if *first == byte => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    /// Passes over white space and one value.
    fn value(&mut self) -> Option<Value<'a>> {
        self.0 = self.0.trim_ascii_start();
        let length = match Value(self.0).kind()? {
            Kind::Object | Kind::Array => nested_length(self.0)?,
            Kind::String => string_length(self.0)?,
            Kind::Number | Kind::Boolean | Kind::Null => scalar_length(self.0)?,
        };
        let (value, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(Value(value))
    }
}

/// The bytes up to and with the quote that closes the string the text begins with.
fn string_length(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr2(b'"', b'\\', text.get(at..)?)?;
        if text.get(at) == Some(&b'"') {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// The bytes up to and with the bracket that closes the one the text begins with. Counts depth instead of recursing, so
/// no nesting is too deep.
fn nested_length(text: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            b'"' => {
                at += string_length(text.get(at..)?)?;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
}

/// The length of the number or literal the text begins with. `None` when it is neither, and when the text ends right
/// after it: then nobody knows whether that was all of it.
fn scalar_length(text: &[u8]) -> Option<usize> {
    let end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n');
    let length = text.iter().position(end)?;
    is_scalar(text.get(..length)?).then_some(length)
}

/// Whether the text looks like one number or is a literal.
fn is_scalar(text: &[u8]) -> bool {
    match text {
        [b'-' | b'0'..=b'9', ..] => {
            text.last().is_some_and(u8::is_ascii_digit)
                && text.iter().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(byte))
        }
        _ => matches!(text, b"true" | b"false" | b"null"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_at(json: &str, path: &str) -> Option<String> {
        let path = parse_path(path).unwrap();
        Value::of_text(json.as_bytes())?.walk(&path)?.text().map(Cow::into_owned)
    }

    const RECORD: &str = r#" {"Id":"a\"b","Size":12345678901234567890123,"Ratio":1e400,"Ok":true,"Nothing":null,
        "Actor":[{"ID":"one","Type":0},{"ID":"two","Type":2}],"odd.name":{"":1,"Job ID":"7"},"Empty":"","List":[]} "#;

    #[test]
    fn a_path_leads_to_the_value_as_text() {
        for (path, expected) in [
            ("Id", Some("a\"b")),
            ("$.Id", Some("a\"b")),
            ("Size", Some("12345678901234567890123")),
            ("Ratio", Some("1e400")),
            ("Ok", Some("true")),
            ("Nothing", None),
            ("Missing", None),
            ("Empty", Some("")),
            ("Actor[1].ID", Some("two")),
            ("Actor[-1].ID", Some("two")),
            ("Actor[-2].ID", Some("one")),
            ("Actor[-3].ID", None),
            ("Actor[2].ID", None),
            ("Actor.0.ID", Some("one")),
            ("Actor[0]", Some(r#"{"ID":"one","Type":0}"#)),
            ("['odd.name']['Job ID']", Some("7")),
            ("$[\"odd.name\"].Job ID", Some("7")),
            ("odd.name", None),
            ("Id.deeper", None),
            ("List[0]", None),
            ("List", Some("[]")),
        ] {
            assert_eq!(text_at(RECORD, path).as_deref(), expected, "{path}");
        }
        assert_eq!(text_at(RECORD, "").unwrap(), RECORD.trim());
        assert_eq!(text_at(RECORD, "$").unwrap(), RECORD.trim());
    }

    #[test]
    fn an_exact_name_is_preferred_and_the_last_of_equals_wins() {
        assert_eq!(text_at(r#"{"id":1,"ID":2}"#, "id").as_deref(), Some("1"));
        assert_eq!(text_at(r#"{"id":1,"ID":2}"#, "Id").as_deref(), Some("2"));
        assert_eq!(text_at(r#"{"Id":1,"x":{"Id":9},"Id":2}"#, "Id").as_deref(), Some("2"));
        assert_eq!(text_at(r#"{"\u0049d":3}"#, "Id").as_deref(), Some("3"));
    }

    #[test]
    fn escapes_are_decoded_and_broken_ones_cost_one_character() {
        for (json, expected) in [
            (r#"{"a":"\n\t\r\b\f\/\\\""}"#, "\n\t\r\u{8}\u{c}/\\\""),
            (r#"{"a":"\u00e9\ud83d\ude00!"}"#, "é😀!"),
            (r#"{"a":"x\ud83dy"}"#, "x\u{fffd}y"),
            (r#"{"a":"\ude00\ud83d"}"#, "\u{fffd}\u{fffd}"),
            (r#"{"a":"\q\u12"}"#, "q\u{fffd}12"),
            ("{\"a\":\"line\nfeed\"}", "line\nfeed"),
        ] {
            assert_eq!(text_at(json, "a").as_deref(), Some(expected), "{json}");
        }
    }

    #[test]
    fn text_that_is_no_json_leads_nowhere() {
        for json in [
            "",
            " ",
            "x",
            "{",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":12",
            "{\"a\" 1}",
            "{a:1}",
            "{\"a\":nul}",
            "{\"a\":01x}",
            "{\"a\":\"1}",
            "{\"a\":\"1\\",
            "{\"b\":1 \"a\":1}",
            "{\"b\":nil,\"a\":1}",
            "[1",
            "{1:2}",
            "{\"a\":NaN}",
            "nullx",
            "\"a\" b",
        ] {
            assert_eq!(text_at(json, "a"), None, "{json}");
        }
        assert!(Value::of_text(b"1 2").is_none());
        assert_eq!(text_at("{\"a\":1,\"b\"", "a").as_deref(), Some("1"), "what stands before the odd place is seen");
        assert_eq!(text_at("{\"a\":\"\u{feff}\"}", "a").as_deref(), Some("\u{feff}"));
        assert_eq!(text_at("\u{feff}{\"a\":1}", "a").as_deref(), Some("1"));
    }

    #[test]
    fn nesting_has_no_limit() {
        let deep = format!("{{\"x\":{}{},\"a\":1}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(text_at(&deep, "a").as_deref(), Some("1"));
    }

    #[test]
    fn lengths_keys_and_elements() {
        let value = Value::of_text(br#"{"a":[1,"two",{"x":[]}],"b":{},"a":[]}"#).unwrap();
        assert_eq!(value.length(), Some(3));
        assert_eq!(value.keys().unwrap(), ["a", "b"]);
        assert_eq!(value.member("b").unwrap().length(), Some(0));
        let list = Value::of_text(br#"[1, "two" ,{"x":[]}]"#).unwrap();
        let elements: Vec<_> = list.elements().map(|element| element.json().into_owned()).collect();
        assert_eq!(elements, ["1", "\"two\"", "{\"x\":[]}"]);
        assert_eq!(Value::of_text(b"7").unwrap().length(), None);
    }

    proptest::proptest! {
        /// What serde_json reads, we find; what it writes, we decode.
        #[test]
        fn agrees_with_serde_json(names in proptest::collection::vec(".{0,6}", 1..6), text in ".{0,20}", place in 0_usize..6) {
            let mut map = serde_json::Map::new();
            for name in &names {
                map.insert(name.clone(), serde_json::json!({"v": [text.clone(), {"x": name}]}));
            }
            let name = &names[place % names.len()];
            let json = serde_json::Value::Object(map).to_string();
            let path = [Step::Name(name.clone()), Step::Name("v".to_owned())];
            let value = Value::of_text(json.as_bytes()).unwrap().walk(&path).unwrap();
            proptest::prop_assert_eq!(value.element(0).unwrap().text().unwrap(), text.as_str());
            proptest::prop_assert_eq!(value.element(1).unwrap().member("x").unwrap().text().unwrap(), name.as_str());
        }

        #[test]
        fn no_bytes_cause_a_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40), deep in "[\\[{\"a:,}\\]\\\\u0-9 -]{0,40}") {
            for text in [bytes.as_slice(), deep.as_bytes()] {
                if let Some(value) = Value::of_text(text) {
                    let _ = (value.text(), value.member("a"), value.element(-1), value.length(), value.keys(), value.elements().count());
                }
            }
        }
    }
}
