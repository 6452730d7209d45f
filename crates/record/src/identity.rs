//! What tells one record from another: its id and the second it was created in.
//!
//! Never decides what a repeat is: the archive compares bodies too (promise 2), because some workloads reuse an id for an
//! updated record (audit-schema.md §10). Comes from [`crate::view::View::identity`].

use std::fmt;

/// A record's `Id` as it is written: a GUID as a rule. Never blank.
///
/// Compared byte for byte. The same GUID in another letter case is another id; its record has another body as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId<'a>(&'a str);

impl<'a> RecordId<'a> {
    /// The text as an id; `None` when it is blank.
    pub fn new(text: &'a str) -> Option<Self> {
        if text.trim_ascii().is_empty() { None } else { Some(Self(text)) }
    }

    /// The text as it is written.
    pub fn as_str(&self) -> &'a str {
        self.0
    }
}

impl fmt::Display for RecordId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What a repeat of a record shares with it, beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity<'a> {
    /// The record's id; without one, its bytes alone identify it.
    pub id: Option<RecordId<'a>>,
    /// The whole second of its `CreationTime`, in seconds since 1970 UTC, rounded down. `None` where the time cannot be
    /// read: the caller then takes the second the content was created in.
    pub second: Option<i64>,
}

#[cfg(test)]
mod tests {
    use crate::View;

    #[test]
    fn the_second_is_rounded_down_before_1970_too() {
        for (time, second) in [
            ("1970-01-01T00:00:01.999", Some(1)),
            ("1970-01-01T00:00:00", Some(0)),
            ("1969-12-31T23:59:59.5", Some(-1)),
            ("soon", None),
        ] {
            let record = format!(r#"{{"Id":"a","CreationTime":"{time}"}}"#);
            assert_eq!(View::read(record.as_bytes()).identity().second, second, "{time}");
        }
    }

    #[test]
    fn a_blank_id_is_none() {
        for record in [r#"{"Id":""}"#, r#"{"Id":" "}"#, r#"{"Id":null}"#, r#"{"Id":{}}"#, "{}"] {
            assert_eq!(View::read(record.as_bytes()).identity().id, None, "{record}");
        }
        let view = View::read(br#"{"Id":"x y"}"#);
        assert_eq!(view.identity().id.unwrap().as_str(), "x y");
    }
}
