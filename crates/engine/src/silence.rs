//! Whether a feed has been silent for longer than it ever is: learnt for each hour of the week.
//!
//! Never takes our own absence for the feed's: it learns from hours that were listed completely, and judges the silence at
//! the end of what was listed. Never grows: a feed's rhythm is one number an hour of the week.

use chrono::TimeDelta;
use protocol::time::Timestamp;

use crate::model::Gap;

/// Hours of a week.
pub const HOURS: usize = 168;

/// Hours that must have been learnt before anything is called unusual: two weeks, so that a weekend was seen twice.
pub const LEARNT_MIN: u32 = 2 * HOURS as u32;

/// An hour is learnt this long after it ended: content appears late (activity-api.md §6).
pub const SETTLES_AFTER: TimeDelta = TimeDelta::hours(3);

/// A silence is unusual when it exceeds the longest one by half, and by an hour. Less: every bank holiday's eve is an
/// alarm. More: a busy feed that falls silent is noticed in the evening.
const MARGIN: TimeDelta = TimeDelta::hours(1);

/// Each week an hour forgets this share of its longest silence, unless it hears another: one outage at Microsoft's must not
/// excuse every later one.
const FORGETS: u16 = 8;

/// The most hours learnt in one go; a feed that slept longer begins anew after them.
const AT_ONCE: i64 = 5 * HOURS as i64;

/// What was created in one hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// The first content's creation.
    pub first: Timestamp,
    /// The last content's creation.
    pub last: Timestamp,
}

/// What is known of a feed's silences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rhythm {
    /// Minutes of the longest silence that stood in each hour of the week, from Monday 00:00 UTC.
    pub longest: [u16; HOURS],
    /// Hours learnt so far.
    pub hours: u32,
    /// Everything before this is learnt; on a whole hour. `None`: nothing is.
    pub through: Option<Timestamp>,
    /// The last content before that.
    pub last: Option<Timestamp>,
}

/// A feed that has been silent for longer than it ever is at this hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silence {
    /// Since the last content.
    pub since: Timestamp,
    /// The longest silence that would be usual.
    pub usual: TimeDelta,
}

impl Default for Rhythm {
    fn default() -> Self {
        Self { longest: [0; HOURS], hours: 0, through: None, last: None }
    }
}

impl Rhythm {
    /// Learns the hours that ended [`SETTLES_AFTER`] before `listed_through`, up to which the feed was listed. `heard` are
    /// the hours with content, by time, one each; hours of `gaps`, which were never listed, teach nothing.
    pub fn learn(&mut self, heard: &[Heard], gaps: &[Gap], listed_through: Timestamp) {
        let Some(until) = listed_through.checked_sub_signed(SETTLES_AFTER).map(hour_of) else { return };
        let Some(from) = self.through.or_else(|| heard.first().map(|heard| hour_of(heard.first))) else { return };
        let mut hour = from;
        if (until - hour).num_hours() > AT_ONCE {
            hour = until - TimeDelta::hours(AT_ONCE);
            self.last = None;
        }
        while hour < until {
            let end = hour + TimeDelta::hours(1);
            let here = heard.iter().find(|heard| hour_of(heard.first) == hour);
            if gaps.iter().any(|gap| gap.start < end && hour < gap.until) {
                self.last = None;
            } else {
                self.hear(hour, end, here);
            }
            (hour, self.through) = (end, Some(end));
        }
    }

    fn hear(&mut self, hour: Timestamp, end: Timestamp, heard: Option<&Heard>) {
        let before = self.last;
        self.last = heard.map(|heard| heard.last).or(before);
        let silent_at_end = self.last.map(|last| end - last);
        let silent_before = heard.and_then(|heard| before.map(|before| heard.first - before));
        let Some(longest) = silent_at_end.max(silent_before) else { return };
        let minutes = u16::try_from(longest.num_minutes().max(0)).unwrap_or(u16::MAX);
        if let Some(slot) = self.longest.get_mut(slot(hour)) {
            *slot = minutes.max(*slot - *slot / FORGETS);
        }
        self.hours = self.hours.saturating_add(1);
    }

    /// Whether the silence since `newest`, the feed's latest content, is unusual by `listed_through`, up to which it was
    /// listed.
    pub fn judge(&self, newest: Option<Timestamp>, listed_through: Timestamp) -> Option<Silence> {
        let since = newest.max(self.last)?;
        if self.hours < LEARNT_MIN {
            return None;
        }
        let now = slot(listed_through);
        // The hours beside it as well: summer time moves a tenant's habits by one.
        let near = [now + HOURS - 1, now, now + 1].map(|slot| self.longest.get(slot % HOURS).copied().unwrap_or(0));
        let longest = TimeDelta::minutes(i64::from(near.into_iter().max().unwrap_or(0)));
        let usual = longest + longest / 2 + MARGIN;
        (listed_through - since > usual).then_some(Silence { since, usual })
    }
}

/// The hour that `time` is in.
pub fn hour_of(time: Timestamp) -> Timestamp {
    let seconds = time.timestamp();
    Timestamp::from_timestamp(seconds - seconds.rem_euclid(3600), 0).unwrap_or(time)
}

/// The hour of the week; the epoch was a Thursday.
fn slot(time: Timestamp) -> usize {
    usize::try_from((time.timestamp().div_euclid(3600) + 72).rem_euclid(HOURS as i64)).unwrap_or(0)
}
