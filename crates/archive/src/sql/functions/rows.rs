//! What a function gives for one row, and the column that grows of it.
//!
//! Never fails: what cannot be computed is NULL.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, ListBuilder, StringBuilder};

use super::Task;
use super::arguments::Texts;
use crate::sql::json::{Kind, Step, Value};

/// One row's arguments, none of them NULL but perhaps the names.
pub(super) struct Found<'a> {
    pub(super) text: &'a str,
    pub(super) path: &'a [Step],
    pub(super) names: &'a [Texts],
    pub(super) row: usize,
}

impl<'a> Found<'a> {
    fn value(&self) -> Option<Value<'a>> {
        Value::of_text(self.text.as_bytes())?.walk(self.path)
    }

    /// [`Task::NameValue`]: the value at the path may be the list itself, or an object that has the names as its members.
    fn named_value(&self) -> Option<Value<'a>> {
        let name = self.names.first()?.at(self.row)?;
        let list = self.value()?;
        if list.kind()? == Kind::Object {
            return list.member(name);
        }
        let mut similar = None;
        for element in list.elements() {
            let Some(own_name) = element.member("Name").or_else(|| element.member("Key")).and_then(Value::text) else {
                continue;
            };
            if own_name == name {
                return self.member_of(element);
            }
            if similar.is_none() && own_name.eq_ignore_ascii_case(name) {
                similar = Some(element);
            }
        }
        self.member_of(similar?)
    }

    fn member_of(&self, element: Value<'a>) -> Option<Value<'a>> {
        match self.names.get(1) {
            Some(member) => element.member(member.at(self.row)?),
            None => element.member("Value").or_else(|| element.member("NewValue")),
        }
    }
}

/// The result as it grows.
pub(super) enum Column {
    Text(StringBuilder),
    Int(Int64Builder),
    Float(Float64Builder),
    Bool(BooleanBuilder),
    List(ListBuilder<StringBuilder>),
}

impl Column {
    pub(super) fn for_task(task: Task, rows: usize) -> Self {
        match task {
            Task::Text | Task::Json | Task::Type | Task::NameValue | Task::Parse => Self::Text(StringBuilder::new()),
            Task::Int | Task::Length => Self::Int(Int64Builder::with_capacity(rows)),
            Task::Float => Self::Float(Float64Builder::with_capacity(rows)),
            Task::Bool | Task::Has => Self::Bool(BooleanBuilder::with_capacity(rows)),
            Task::Keys | Task::Elements => Self::List(ListBuilder::new(StringBuilder::new())),
        }
    }

    pub(super) fn push(&mut self, task: Task, found: Option<Found<'_>>) {
        match self {
            Self::Text(column) => match task {
                Task::Parse => column.append_option(found.and_then(|found| whole_json(found.text))),
                Task::NameValue => {
                    column.append_option(found.and_then(|found| found.named_value()).and_then(Value::text));
                }
                Task::Type => column.append_option(found.and_then(|found| found.value()?.kind()).map(Kind::name)),
                Task::Json => column.append_option(found.and_then(|found| found.value()).map(Value::json)),
                _ => column.append_option(found.and_then(|found| found.value()).and_then(Value::text)),
            },
            Self::Int(column) => column.append_option(found.and_then(|found| {
                let value = found.value()?;
                if task == Task::Length { i64::try_from(value.length()?).ok() } else { as_int(value) }
            })),
            Self::Float(column) => column.append_option(found.and_then(|found| {
                let number: f64 = scalar_text(found.value()?)?.trim().parse().ok()?;
                number.is_finite().then_some(number)
            })),
            Self::Bool(column) => match task {
                Task::Has => column.append_option(found.map(|found| found.value().is_some())),
                _ => column.append_option(found.and_then(|found| as_bool(found.value()?))),
            },
            Self::List(column) => {
                let value = found.and_then(|found| found.value());
                let texts = match task {
                    Task::Keys => value.and_then(Value::keys),
                    _ => value
                        .filter(|value| value.kind() == Some(Kind::Array))
                        .map(|array| array.elements().map(Value::json).collect()),
                };
                column.append_option(texts.map(|texts| texts.into_iter().map(Some)));
            }
        }
    }

    pub(super) fn finish(self) -> ArrayRef {
        match self {
            Self::Text(mut column) => Arc::new(column.finish()),
            Self::Int(mut column) => Arc::new(column.finish()),
            Self::Float(mut column) => Arc::new(column.finish()),
            Self::Bool(mut column) => Arc::new(column.finish()),
            Self::List(mut column) => Arc::new(column.finish()),
        }
    }
}

/// The text of a string or number; `None` for all else.
fn scalar_text(value: Value<'_>) -> Option<Cow<'_, str>> {
    matches!(value.kind()?, Kind::String | Kind::Number).then(|| value.text())?
}

/// A whole number. Some serialisers write it with a fraction of nothing: `1024.0` (audit-schema.md §8).
fn as_int(value: Value<'_>) -> Option<i64> {
    let text = scalar_text(value)?;
    let text = text.trim();
    let whole = match text.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|digit| digit == b'0') => whole,
        _ => text,
    };
    whole.parse().ok()
}

/// The forms of truth met in the feed (audit-schema.md §8).
fn as_bool(value: Value<'_>) -> Option<bool> {
    match value.text()?.trim() {
        "1" => Some(true),
        "0" => Some(false),
        text if text.eq_ignore_ascii_case("true") => Some(true),
        text if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// The text if it is one JSON value and nothing else.
fn whole_json(text: &str) -> Option<&str> {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok().then_some(text)
}
