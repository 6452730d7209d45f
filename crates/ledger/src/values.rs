//! How values are written down, whichever back end keeps them: times, keys of contents, the numbers of states.
//!
//! Never depends on a database: two back ends that wrote differently could not be moved from one to the other.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use chrono::Datelike as _;
use engine::evidence::ActivityKind;
use engine::model::{ContentState, LossKind, TenantState};
use protocol::time::Timestamp;

/// The longest text of an error, in bytes. What a server says of itself is not ours to trust with our disk.
const MESSAGE_MAX: usize = 2048;

/// In the order of their numbers.
pub(crate) const TENANT_STATES: [TenantState; 3] = [TenantState::Active, TenantState::Paused, TenantState::Removed];
/// In the order of their numbers.
pub(crate) const CONTENT_STATES: [ContentState; 3] = [ContentState::Listed, ContentState::Archived, ContentState::Lost];

/// Milliseconds of the Unix epoch.
pub(crate) fn ms(time: Timestamp) -> i64 {
    time.timestamp_millis()
}

/// A time as the log of activity tells it: RFC 3339 in UTC with milliseconds.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// Particulars that come from outside of the ledger: what is no JSON object is kept as text in one.
pub(crate) fn details(text: &str) -> serde_json::Value {
    match serde_json::from_str(text) {
        Ok(object @ serde_json::Value::Object(_)) => object,
        _ => serde_json::json!({ "text": text }),
    }
}

/// What an entry about a tenant's new state is called.
pub(crate) fn activity_of(state: TenantState) -> ActivityKind {
    match state {
        TenantState::Active => ActivityKind::TenantResumed,
        TenantState::Paused => ActivityKind::TenantPaused,
        TenantState::Removed => ActivityKind::TenantRemoved,
    }
}

/// A count as a database can hold it.
pub(crate) fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Seconds as the segments of a ledger are asked for by them.
pub(crate) struct Within {
    /// First and last date of segments that can have records of these seconds, as they are written.
    pub(crate) dates: (String, String),
    /// First and last second.
    pub(crate) seconds: (i64, i64),
}

impl Within {
    pub(crate) fn of(seconds: &RangeInclusive<i64>) -> Self {
        let (first, last) = (*seconds.start(), *seconds.end());
        // A record's year has four digits; what is beyond them is before or after all of them.
        let date = |second: i64| match chrono::DateTime::from_timestamp(second, 0) {
            Some(time) if (0..=9999).contains(&time.year()) => time.format("%Y-%m-%d").to_string(),
            _ if second < 0 => String::new(),
            _ => "~".to_owned(),
        };
        Self { dates: (date(first), date(last)), seconds: (first, last) }
    }
}

/// Cut to what is kept of an error's text.
pub(crate) fn message(text: &str) -> Cow<'_, str> {
    plain(text.get(..text.floor_char_boundary(MESSAGE_MAX)).unwrap_or(text))
}

/// A text as every database can hold it: PostgreSQL's know no NUL.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// What a content is found by: the first 16 bytes of its id's BLAKE3.
pub(crate) fn content_key(id: &str) -> [u8; 16] {
    let mut key = [0; 16];
    let digest = blake3::hash(id.as_bytes());
    key.copy_from_slice(&digest.as_bytes()[..16]);
    key
}

/// The number of a tenant's state.
pub(crate) fn tenant_state(state: TenantState) -> i64 {
    match state {
        TenantState::Active => 0,
        TenantState::Paused => 1,
        TenantState::Removed => 2,
    }
}

/// The number of a kind of loss, as [`LossKind::ALL`] has it.
pub(crate) fn loss_kind(kind: LossKind) -> i64 {
    match kind {
        LossKind::Expired => 0,
        LossKind::Missing => 1,
        LossKind::Unreadable => 2,
        LossKind::RefusedUrl => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cut_between_characters_and_holds_no_nul() {
        assert_eq!(message("a\0b"), "a\u{fffd}b");
        let long = format!("x{}", "é".repeat(2000));
        assert_eq!(message(&long).len(), 2047);
        assert_eq!(message(&"x".repeat(2048)).len(), 2048);
    }
}
