//! Finds the members of a JSON object in its text, without taking the text apart.
//!
//! Never judges values: a value is what stands between a colon and the next comma of the same level.

/// `from..until` in bytes.
pub(crate) type Span = (usize, usize);

/// The members of the outermost object: the spans of name (with its quotes) and value. `None` once the text turns out
/// to
/// be no object.
pub(crate) struct Members<'a> {
    text: &'a [u8],
    at: usize,
    state: State,
}

#[derive(PartialEq, Eq)]
enum State {
    First,
    Further,
    Done,
}

impl<'a> Members<'a> {
    /// `None` when the text does not begin with an object.
    pub(crate) fn of(text: &'a [u8]) -> Option<Self> {
        let at = skip_blank(text, 0);
        (text.get(at) == Some(&b'{')).then_some(Self { text, at: at + 1, state: State::First })
    }

    fn step(&mut self) -> Option<Option<(Span, Span)>> {
        self.at = skip_blank(self.text, self.at);
        let byte = *self.text.get(self.at)?;
        if byte == b'}' {
            return (skip_blank(self.text, self.at + 1) == self.text.len()).then_some(None);
        }
        if self.state == State::Further {
            if byte != b',' {
                return None;
            }
            self.at = skip_blank(self.text, self.at + 1);
        }
        let name = (self.at, string_end(self.text, self.at)?);
        let colon = skip_blank(self.text, name.1);
        if self.text.get(colon) != Some(&b':') {
            return None;
        }
        let from = skip_blank(self.text, colon + 1);
        let until = value_end(self.text, from)?;
        self.at = until;
        Some(Some((name, (from, until))))
    }
}

impl Iterator for Members<'_> {
    type Item = Option<(Span, Span)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Done {
            return None;
        }
        match self.step() {
            Some(Some(member)) => {
                self.state = State::Further;
                Some(Some(member))
            }
            Some(None) => {
                self.state = State::Done;
                None
            }
            None => {
                self.state = State::Done;
                Some(None)
            }
        }
    }
}

fn skip_blank(text: &[u8], from: usize) -> usize {
    let blank = text.get(from..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    from + blank
}

/// The end of the string that begins at `from`, behind its closing quote.
fn string_end(text: &[u8], from: usize) -> Option<usize> {
    if text.get(from) != Some(&b'"') {
        return None;
    }
    let mut at = from + 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn value_end(text: &[u8], from: usize) -> Option<usize> {
    let mut depth = 0usize;
    let mut at = from;
    loop {
        match text.get(at)? {
            b'"' => {
                at = string_end(text, at)?;
                if depth == 0 {
                    return Some(at);
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return (at > from).then_some(at),
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            b',' if depth == 0 => return (at > from).then_some(at),
            _ => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(text: &str) -> Option<Vec<(String, String)>> {
        let cut = |span: Span| text[span.0..span.1].to_owned();
        Members::of(text.as_bytes())?.map(|member| member.map(|(name, value)| (cut(name), cut(value)))).collect()
    }

    #[test]
    fn members_of_the_outermost_object_are_found_with_their_text() {
        let found = members(r#" { "a" : 1.50, "b":{"a":[1,"}"]} ,"c":"\"," , "a":null} "#).unwrap();
        let expected = [("\"a\"", "1.50"), ("\"b\"", r#"{"a":[1,"}"]}"#), ("\"c\"", r#""\",""#), ("\"a\"", "null")];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(members("{}").unwrap(), []);
    }

    #[test]
    fn a_text_that_is_no_object_is_refused() {
        for text in
            ["", "[1]", "{", r#"{"a"}"#, r#"{"a":}"#, r#"{"a":1"#, r#"{"a":1 "b":2}"#, r#"{"a":1}x"#, r#"{"a":"x}"#]
        {
            assert!(members(text).is_none(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_scanned_to_its_end_or_refused(text in "[{}\\[\\]\":,\\\\a1 ]{0,40}") {
            let Some(members) = Members::of(text.as_bytes()) else { return Ok(()) };
            for (name, value) in members.flatten() {
                proptest::prop_assert!(text.get(name.0..name.1).is_some_and(|name| name.starts_with('"')));
                proptest::prop_assert!(value.0 < value.1 && value.1 <= text.len());
            }
        }

        #[test]
        fn the_members_of_what_a_library_writes_are_the_librarys(keys in proptest::collection::vec("[a-z\"\\\\é{}]{0,6}", 0..6)) {
            let object: serde_json::Map<String, serde_json::Value> =
                keys.iter().map(|key| (key.clone(), serde_json::json!({ key.clone(): [key, 1, null] }))).collect();
            let text = serde_json::to_string(&object).unwrap();
            let found = members(&text).unwrap();
            let expected: Vec<(String, String)> = object
                .iter()
                .map(|(name, value)| (serde_json::to_string(name).unwrap(), value.to_string()))
                .collect();
            proptest::prop_assert_eq!(found, expected);
        }
    }
}
