//! When records come into being: a working week's rhythm over the history, an even pace after the start.
//!
//! Never counts by walking: how many records exist at a time, and when the n-th one came, are answered from a table of
//! hours, so any part of a feed of a million records can be made without the rest.

/// Milliseconds of Unix time; the plan's arithmetic is in whole milliseconds.
pub(crate) type Millis = i64;

const HOUR: Millis = 3_600_000;

/// The rhythm shared by all feeds of a world.
#[derive(Debug)]
pub(crate) struct Timeline {
    begin: Millis,
    start: Millis,
    /// The share of the history that has happened at `begin + i` hours; ends with 1.0 at `start`.
    done: Vec<f64>,
}

impl Timeline {
    pub(crate) fn new(start: Millis, history: Millis) -> Self {
        let begin = start - history;
        let hours = (history + HOUR - 1) / HOUR;
        let mut done = Vec::with_capacity(usize::try_from(hours).unwrap_or(0) + 1);
        done.push(0.0);
        let mut sum = 0.0;
        for hour in 0..hours {
            let from = begin + hour * HOUR;
            let until = (from + HOUR).min(start);
            sum += busyness(from) * seconds(until - from);
            done.push(sum);
        }
        if sum > 0.0 {
            done.iter_mut().for_each(|share| *share /= sum);
        }
        Self { begin, start, done }
    }

    pub(crate) fn begin(&self) -> Millis {
        self.begin
    }

    pub(crate) fn start(&self) -> Millis {
        self.start
    }

    /// The share of the history that has happened at `at`, from 0 at its begin to 1 at the start.
    pub(crate) fn done_at(&self, at: Millis) -> f64 {
        if at >= self.start {
            return 1.0;
        }
        if at <= self.begin {
            return 0.0;
        }
        let hour = (at - self.begin) / HOUR;
        let from = self.begin + hour * HOUR;
        let until = (from + HOUR).min(self.start);
        let within = seconds(at - from) / seconds((until - from).max(1));
        let index = usize::try_from(hour).unwrap_or(0);
        match (self.done.get(index), self.done.get(index + 1)) {
            (Some(before), Some(after)) => before + (after - before) * within,
            _ => 1.0,
        }
    }

    /// The inverse of [`Timeline::done_at`].
    pub(crate) fn time_of(&self, share: f64) -> Millis {
        let after = self.done.partition_point(|done| *done <= share);
        if after == 0 {
            return self.begin;
        }
        let (Some(low), Some(high)) = (self.done.get(after - 1), self.done.get(after)) else { return self.start };
        let hour = Millis::try_from(after - 1).unwrap_or(0);
        let from = self.begin + hour * HOUR;
        let until = (from + HOUR).min(self.start);
        let within = if high > low { (share - low) / (high - low) } else { 0.0 };
        from + millis(seconds(until - from) * within)
    }
}

/// How busy an hour is, relative to others: office hours on weekdays are twelve times a weekend night.
fn busyness(at: Millis) -> f64 {
    // 1970-01-01 was a Thursday.
    let day = (at.div_euclid(24 * HOUR) + 3).rem_euclid(7);
    let hour = at.div_euclid(HOUR).rem_euclid(24);
    let by_hour = match hour {
        7..=8 => 0.6,
        9..=16 => 1.0,
        17..=19 => 0.5,
        _ => 0.2,
    };
    if day >= 5 { by_hour * 0.4 } else { by_hour }
}

#[expect(clippy::cast_precision_loss, reason = "spans of at most some years in milliseconds are exact in a double")]
pub(crate) fn seconds(span: Millis) -> f64 {
    span as f64 / 1000.0
}

#[expect(clippy::cast_possible_truncation, reason = "only spans of the plan come here")]
pub(crate) fn millis(seconds: f64) -> Millis {
    (seconds * 1000.0) as Millis
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Millis = 1_800_000_000_000;

    #[test]
    fn the_history_is_nothing_at_its_begin_and_everything_at_the_start() {
        let timeline = Timeline::new(START, 6 * 24 * HOUR);
        assert_eq!(timeline.done_at(timeline.begin()), 0.0);
        assert_eq!(timeline.done_at(START), 1.0);
        assert_eq!(timeline.done_at(START + HOUR), 1.0);
        let shares: Vec<f64> = (0..145).map(|hour| timeline.done_at(timeline.begin() + hour * HOUR)).collect();
        assert!(shares.is_sorted());
    }

    #[test]
    fn times_and_shares_are_inverse_to_each_other() {
        let timeline = Timeline::new(START, 50 * HOUR + 12_345);
        for at in (timeline.begin() + 1..START).step_by(1_234_567) {
            let back = timeline.time_of(timeline.done_at(at));
            assert!((back - at).abs() <= 2, "{at} became {back}");
        }
    }

    #[test]
    fn a_world_without_history_has_a_timeline_too() {
        let timeline = Timeline::new(START, 0);
        assert_eq!(timeline.done_at(START - 1), 0.0);
        assert_eq!(timeline.done_at(START), 1.0);
        assert_eq!(timeline.time_of(0.5), START);
    }
}
