//! Walks over the members of one object and the elements of one array, and steps over what is nested in them.
//!
//! Never allocates, except for a member name with a backslash in it. Stops at the first place that is not JSON: what
//! stands behind it is not seen by [`super`], and is still there in the record's bytes.

use std::borrow::Cow;

use super::values::unescape;
use crate::scan::{Nest, quote_or_backslash};

/// A value as written, without white space around it.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawValue<'a> {
    pub(super) bytes: &'a [u8],
    /// Whether it is a text with an escape in it. Found on the way to its end, and so known for nothing.
    pub(super) has_escapes: bool,
}

/// One member of an object, as written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member<'a> {
    /// What stands between the name's quotes.
    name: &'a [u8],
    name_has_escapes: bool,
    pub(super) value: RawValue<'a>,
}

impl<'a> Member<'a> {
    /// The name, unescaped.
    pub(super) fn name(&self) -> Cow<'a, [u8]> {
        if !self.name_has_escapes {
            return Cow::Borrowed(self.name);
        }
        match std::str::from_utf8(self.name) {
            Ok(text) => Cow::Owned(unescape(text).into_bytes()),
            Err(_) => Cow::Borrowed(self.name),
        }
    }
}

/// Whether the member has exactly this name.
pub(super) fn is_named(member: &Member<'_>, wanted: &[u8]) -> bool {
    *member.name() == *wanted
}

/// The members of an object in the order they are written, repeated names included.
#[derive(Debug)]
pub(super) struct Members<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Members<'a> {
    /// The members of what starts with `{`; none of anything else.
    pub(super) fn of(object: &'a [u8]) -> Self {
        let start = skip_white_space(object, 0);
        let at = if object.get(start) == Some(&b'{') { start + 1 } else { object.len() };
        Self { bytes: object, at }
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    fn next(&mut self) -> Option<Member<'a>> {
        let mut at = skip_white_space_and_commas(self.bytes, self.at);
        if self.bytes.get(at) != Some(&b'"') {
            return None;
        }
        let (end, name_has_escapes) = text_end(self.bytes, at + 1)?;
        let name = &self.bytes[at + 1..end - 1];
        at = skip_white_space(self.bytes, end);
        if self.bytes.get(at) != Some(&b':') {
            return None;
        }
        at = skip_white_space(self.bytes, at + 1);
        let (end, has_escapes) = value_end(self.bytes, at)?;
        self.at = end;
        Some(Member { name, name_has_escapes, value: RawValue { bytes: &self.bytes[at..end], has_escapes } })
    }
}

/// The elements of what starts with `[`; none of anything else.
pub(super) fn elements(array: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = if array.first() == Some(&b'[') { 1 } else { array.len() };
    std::iter::from_fn(move || {
        let start = skip_white_space_and_commas(array, at);
        (at, _) = value_end(array, start)?;
        Some(&array[start..at])
    })
}

/// The index just behind the value that starts at `start`, and whether it is a text with an escape in it; `None` when no
/// value starts there, or it does not end.
fn value_end(bytes: &[u8], start: usize) -> Option<(usize, bool)> {
    match bytes.get(start)? {
        b'"' => text_end(bytes, start + 1),
        // Empty lists are frequent, and a whole block looked at for one is not free.
        b'[' if bytes.get(start + 1) == Some(&b']') => Some((start + 2, false)),
        b'{' | b'[' => Some((start + 1 + Nest::opened().advance(&bytes[start + 1..])?, false)),
        _ => {
            let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b':' | b'"') || byte.is_ascii_whitespace();
            let length = bytes[start..].iter().position(is_end)?;
            (length > 0).then_some((start + length, false))
        }
    }
}

/// The index just behind the closing quote of the text that starts at `start`, and whether there is an escape in it.
fn text_end(bytes: &[u8], start: usize) -> Option<(usize, bool)> {
    let mut at = start;
    let mut has_escapes = false;
    loop {
        let found = quote_or_backslash(bytes, at)?;
        if bytes[found] == b'"' {
            return Some((found + 1, has_escapes));
        }
        has_escapes = true;
        at = found + 2;
    }
}

fn skip_white_space(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(|byte| byte.is_ascii_whitespace()) {
        at += 1;
    }
    at
}

fn skip_white_space_and_commas(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(|byte| *byte == b',' || byte.is_ascii_whitespace()) {
        at += 1;
    }
    at
}
