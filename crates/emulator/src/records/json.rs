//! Writes JSON text the way Microsoft's serialisers do, straight into a buffer.
//!
//! Never goes through a document tree: order, repeated member names and escapes come out exactly as the caller wrote
//! them.

/// How text is escaped. The feed's back ends differ, and a client must keep each form as it came.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Style {
    /// `/` as `\/`.
    pub(crate) slash: bool,
    /// `<`, `>`, `&` and `'` as `\u003c` and so on.
    pub(crate) html: bool,
    /// Everything beyond ASCII as `\uXXXX`.
    pub(crate) ascii: bool,
}

/// Appends to a buffer. Members and elements are separated by commas on their own.
pub(crate) struct Json<'a> {
    out: &'a mut Vec<u8>,
    style: Style,
}

impl<'a> Json<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>, style: Style) -> Self {
        Self { out, style }
    }

    /// `"name":"value"`.
    pub(crate) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        self.quoted(value);
    }

    /// `"name":"value"`, unless there is none.
    pub(crate) fn text_if(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    /// `"name":value` with a number.
    pub(crate) fn number(&mut self, name: &str, value: i64) {
        self.name(name);
        push_number(self.out, value);
    }

    /// `"name":true`.
    pub(crate) fn flag(&mut self, name: &str, value: bool) {
        self.name(name);
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// `"name":` and then JSON that is already text.
    pub(crate) fn raw(&mut self, name: &str, json: &str) {
        self.name(name);
        self.out.extend_from_slice(json.as_bytes());
    }

    /// `"name":{…}`.
    pub(crate) fn object(&mut self, name: &str, fill: impl FnOnce(&mut Json<'_>)) {
        self.name(name);
        self.braces(b'{', b'}', fill);
    }

    /// `"name":[…]`.
    pub(crate) fn array(&mut self, name: &str, fill: impl FnOnce(&mut Json<'_>)) {
        self.name(name);
        self.braces(b'[', b']', fill);
    }

    /// `{…}` as an element, or as the whole document.
    pub(crate) fn item_object(&mut self, fill: impl FnOnce(&mut Json<'_>)) {
        self.comma();
        self.braces(b'{', b'}', fill);
    }

    /// A text as an element.
    pub(crate) fn item_text(&mut self, value: &str) {
        self.comma();
        self.quoted(value);
    }

    /// A number as an element.
    pub(crate) fn item_number(&mut self, value: i64) {
        self.comma();
        push_number(self.out, value);
    }

    /// `"name":[{"Name":…,"Value":…},…]`.
    pub(crate) fn pairs(&mut self, name: &str, pairs: &[(&str, &str)]) {
        self.array(name, |list| {
            for (name, value) in pairs {
                list.item_object(|pair| {
                    pair.text("Name", name);
                    pair.text("Value", value);
                });
            }
        });
    }

    /// `"name":[{"Name":…,"NewValue":…,"OldValue":…},…]`.
    pub(crate) fn changes(&mut self, name: &str, changes: &[(&str, &str, &str)]) {
        self.array(name, |list| {
            for (name, new, old) in changes {
                list.item_object(|change| {
                    change.text("Name", name);
                    change.text("NewValue", new);
                    change.text("OldValue", old);
                });
            }
        });
    }

    fn name(&mut self, name: &str) {
        self.comma();
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn comma(&mut self) {
        if !matches!(self.out.last(), None | Some(b'{' | b'[' | b'\n')) {
            self.out.push(b',');
        }
    }

    fn braces(&mut self, open: u8, close: u8, fill: impl FnOnce(&mut Json<'_>)) {
        self.out.push(open);
        // What is inside follows the opening brace, so its first member gets no comma.
        fill(&mut Json { out: self.out, style: self.style });
        self.out.push(close);
    }

    fn quoted(&mut self, value: &str) {
        self.out.push(b'"');
        escape(self.out, value, self.style);
        self.out.push(b'"');
    }
}

/// A JSON text of its own, to be put inside a string of another.
pub(crate) fn embedded(fill: impl FnOnce(&mut Json<'_>)) -> String {
    let mut out = Vec::with_capacity(256);
    Json::new(&mut out, Style::default()).item_object(fill);
    // Only `&str` is ever written.
    String::from_utf8(out).unwrap_or_default()
}

/// Which bytes need an escape: always, and by each option of a style.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256 by the loop's condition")]
        let class = match byte as u8 {
            b'"' | b'\\' | 0..=0x1f => 1,
            b'/' => 2,
            b'<' | b'>' | b'&' | b'\'' => 4,
            0x80.. => 8,
            _ => 0,
        };
        classes[byte] = class;
        byte += 1;
    }
    classes
};

impl Style {
    fn classes(self) -> u8 {
        1 | (u8::from(self.slash) << 1) | (u8::from(self.html) << 2) | (u8::from(self.ascii) << 3)
    }
}

fn escape(out: &mut Vec<u8>, value: &str, style: Style) {
    let classes = style.classes();
    let mut rest = value;
    while let Some(at) = rest.bytes().position(|byte| CLASSES[usize::from(byte)] & classes != 0) {
        // A byte beyond ASCII that is found is the first of its character: everything before it is plain.
        let (plain, from) = rest.split_at_checked(at).unwrap_or((rest, ""));
        out.extend_from_slice(plain.as_bytes());
        let mut characters = from.chars();
        match characters.next() {
            Some('"') => out.extend_from_slice(b"\\\""),
            Some('\\') => out.extend_from_slice(b"\\\\"),
            Some('/') => out.extend_from_slice(b"\\/"),
            Some('\n') => out.extend_from_slice(b"\\n"),
            Some('\r') => out.extend_from_slice(b"\\r"),
            Some('\t') => out.extend_from_slice(b"\\t"),
            Some(other) => other.encode_utf16(&mut [0; 2]).iter().for_each(|unit| push_unit(out, *unit)),
            None => {}
        }
        rest = characters.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
}

fn push_unit(out: &mut Vec<u8>, unit: u16) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        out.push(HEX[usize::from((unit >> shift) & 15)]);
    }
}

fn push_number(out: &mut Vec<u8>, value: i64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(style: Style, fill: impl FnOnce(&mut Json<'_>)) -> String {
        let mut out = Vec::new();
        Json::new(&mut out, style).item_object(fill);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn members_and_elements_are_separated_by_commas() {
        let text = written(Style::default(), |json| {
            json.number("a", i64::MIN);
            json.array("b", |list| {
                list.item_number(0);
                list.item_text("x");
                list.item_object(|_| {});
            });
            json.flag("c", true);
            json.flag("c", false);
        });
        assert_eq!(text, r#"{"a":-9223372036854775808,"b":[0,"x",{}],"c":true,"c":false}"#);
    }

    #[test]
    fn every_style_reads_back_as_the_same_text() {
        let value = "a/b <i>\"ü\u{1f600}\u{1}\\' & \n";
        for bits in 0..8 {
            let style = Style { slash: bits & 1 != 0, html: bits & 2 != 0, ascii: bits & 4 != 0 };
            let text = written(style, |json| json.text("v", value));
            let read: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(read["v"], value, "{style:?} {text}");
            assert_eq!(text.contains("\\/"), style.slash);
            assert_eq!(text.contains("\\u003c"), style.html);
            assert_eq!(text.is_ascii(), style.ascii);
        }
    }
}
