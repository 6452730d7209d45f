//! The plan of one feed, that is of one tenant's content type: which contents there are, and which records are in each.
//!
//! Never walks from the beginning: time is divided into slots of an hour, and each slot's contents follow from the seed
//! and the slot's number alone. Slots begin at an odd minute, so aggregated contents straddle full hours and a window
//! that begins there gets a part of them.

use fastrand::Rng;
use protocol::ids::ContentType;

use super::content::{Content, Piece, RecordRef, Stamp};
use super::options::WorldOptions;
use super::timeline::{Millis, Timeline, millis, seconds};
use crate::seed::Seed;

const SLOT: Millis = 3_600_000;
/// A feed with few records still shows some at least this often within a slot.
const BLOBS_PER_SLOT_MIN: u64 = 3;
/// The longest time between the first and the last piece of an aggregated content.
const AGGREGATION_MAX: Millis = 15 * 60_000;

/// One tenant's content type.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) kind: ContentType,
    pub(crate) seed: Seed,
    /// Records of the history.
    pub(crate) history: u64,
    /// Records per millisecond after the start.
    pub(crate) live: f64,
    /// Where slots begin within the hour.
    pub(crate) phase: Millis,
    /// The huge blob, if it is in this feed: when it is created, and how many records it holds.
    pub(crate) huge: Option<(Millis, u64)>,
}

impl Feed {
    pub(crate) fn new(kind: ContentType, tenant: Seed) -> Self {
        let seed = tenant.named(kind.as_str());
        let phase = Millis::try_from(seed.child(1).value() % 3_300_000).unwrap_or(0) + 150_000;
        Self { kind, seed, history: 0, live: 0.0, phase, huge: None }
    }

    /// The slot a moment falls into. Slots of the history are numbered from 0, those after the start from its end on.
    pub(crate) fn slot_of(&self, timeline: &Timeline, at: Millis) -> u64 {
        let (from, before) = if at < timeline.start() {
            (timeline.begin(), 0)
        } else {
            (timeline.start(), self.history_slots(timeline))
        };
        before + count((at - from).max(0), self.phase)
    }

    fn history_slots(&self, timeline: &Timeline) -> u64 {
        let length = timeline.start() - timeline.begin();
        if length == 0 { 0 } else { count(length - 1, self.phase) + 1 }
    }

    /// `from..until` of a slot.
    pub(crate) fn slot_span(&self, timeline: &Timeline, slot: u64) -> (Millis, Millis) {
        let history = self.history_slots(timeline);
        if slot < history {
            let (from, until) = edges(timeline.begin(), self.phase, slot);
            (from, until.min(timeline.start()))
        } else {
            edges(timeline.start(), self.phase, slot - history)
        }
    }

    /// How many records the feed has made before `at`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts are far below 2^52 and positive"
    )]
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub(crate) fn made_before(&self, timeline: &Timeline, at: Millis) -> u64 {
        if at < timeline.start() {
            // The offset keeps small feeds of one tenant from all making their record in the same slot.
            let offset = self.seed.child(2).unit();
            return ((self.history as f64 * timeline.done_at(at) + offset) as u64).min(self.history);
        }
        self.history + ((at - timeline.start()) as f64 * self.live) as u64
    }

    /// About when a record was made; exact to the rounding of [`Feed::made_before`].
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "counts are far below 2^52")]
    pub(crate) fn made_at(&self, timeline: &Timeline, number: u64) -> Millis {
        if let Some((created, _)) = self.huge.filter(|_| number >= RecordRef::HUGE) {
            return created;
        }
        if number < self.history {
            return timeline.time_of((number as f64 + 0.5) / self.history as f64);
        }
        if self.live <= 0.0 {
            return timeline.start();
        }
        timeline.start() + ((number - self.history) as f64 / self.live) as Millis
    }

    /// The contents created in a slot, by creation.
    pub(crate) fn contents(&self, timeline: &Timeline, options: &WorldOptions, slot: u64) -> Vec<Content> {
        let (from, until) = self.slot_span(timeline, slot);
        let range = (self.made_before(timeline, from), self.made_before(timeline, until));
        let mut rng = self.seed.child(3).child(slot).rng();
        let mut contents = Vec::new();
        if range.1 > range.0 {
            let plan = SlotPlan { feed: self, timeline, options, from, until, range, scramble: rng.u32(0..1_000_000) };
            plan.fill(&mut rng, &mut contents);
        }
        if let Some((created, records)) = self.huge.filter(|(created, _)| (from..until).contains(created)) {
            let piece = Piece {
                stamp: Stamp { at: created, digits: 999_998 },
                records: (RecordRef::HUGE, RecordRef::HUGE + records),
                again: Vec::new(),
            };
            contents.push(Content { pieces: vec![piece], available: created });
        }
        contents.sort_by_key(Content::created);
        contents
    }
}

/// How many slot borders lie in `0..=offset`.
fn count(offset: Millis, phase: Millis) -> u64 {
    if offset < phase { 0 } else { u64::try_from((offset - phase) / SLOT + 1).unwrap_or(0) }
}

fn edges(begin: Millis, phase: Millis, slot: u64) -> (Millis, Millis) {
    let slot = Millis::try_from(slot).unwrap_or(0);
    let from = if slot == 0 { begin } else { begin + phase + (slot - 1) * SLOT };
    (from, begin + phase + slot * SLOT)
}

/// One slot while its contents are drawn.
struct SlotPlan<'a> {
    feed: &'a Feed,
    timeline: &'a Timeline,
    options: &'a WorldOptions,
    from: Millis,
    until: Millis,
    range: (u64, u64),
    scramble: u32,
}

impl SlotPlan<'_> {
    fn fill(&self, rng: &mut Rng, contents: &mut Vec<Content>) {
        let records = self.range.1 - self.range.0;
        let cap = u64::from(self.options.blobs.max).min(records.div_ceil(BLOBS_PER_SLOT_MIN)).max(1);
        let mut next = self.range.0;
        while next < self.range.1 {
            let size = self.draw_size(rng).clamp(1, cap);
            let end = (next + size).min(self.range.1);
            let content = self.content(rng, (next, end), contents.len());
            if self.options.blobs.ties > 0.0 && rng.f64() < self.options.blobs.ties {
                contents.last_mut().into_iter().for_each(|before| before.create_at(content.created()));
            }
            contents.push(content);
            next = end;
        }
        let cut_again: Vec<Content> = contents
            .windows(2)
            .filter_map(|pair| {
                if rng.f64() < self.options.duplicates.recut { Some((pair.first()?, pair.get(1)?)) } else { None }
            })
            .map(|(left, right)| self.recut(left, right))
            .collect();
        for mut content in cut_again {
            let number = contents.len();
            for piece in &mut content.pieces {
                piece.stamp.digits = self.digits(number, 0);
            }
            self.delay(rng, &mut content);
            contents.push(content);
        }
    }

    /// A size around the median: the product of a few draws scatters as blob sizes do.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded by the exponent's range")]
    fn draw_size(&self, rng: &mut Rng) -> u64 {
        let scatter = rng.f64() + rng.f64() + rng.f64() - 1.5;
        (f64::from(self.options.blobs.median) * (scatter * 2.2).exp()).round() as u64
    }

    fn content(&self, rng: &mut Rng, records: (u64, u64), number: usize) -> Content {
        let created = self.moment(records.1);
        let mut pieces = self.pieces(rng, records, created, number);
        self.repeat(rng, records, &mut pieces);
        let mut content = Content { pieces, available: created };
        self.delay(rng, &mut content);
        content
    }

    /// When the records before `end` have been made, within the slot.
    fn moment(&self, end: u64) -> Millis {
        #[expect(clippy::cast_precision_loss, reason = "record counts of a slot are small")]
        let share = (end - self.range.0) as f64 / (self.range.1 - self.range.0) as f64;
        let at = self.from + millis(seconds(self.until - self.from) * share);
        // The slot's end belongs to the next slot.
        at.clamp(self.from, self.until - 1)
    }

    fn pieces(&self, rng: &mut Rng, records: (u64, u64), created: Millis, number: usize) -> Vec<Piece> {
        let size = records.1 - records.0;
        let room = (created - self.from).min(AGGREGATION_MAX);
        let wanted = if rng.f64() < self.options.blobs.aggregated { rng.u64(2..=4) } else { 1 };
        let parts = wanted.min(size).max(1);
        let parts = if room < 8 { 1 } else { parts };
        let spread = if parts > 1 { rng.i64(room / 2..=room) } else { 0 };
        (0..parts)
            .map(|part| {
                let before = Millis::try_from(parts - 1 - part).unwrap_or(0);
                let gaps = Millis::try_from(parts - 1).unwrap_or(1).max(1);
                Piece {
                    stamp: Stamp { at: created - spread * before / gaps, digits: self.digits(number, part) },
                    records: (records.0 + size * part / parts, records.0 + size * (part + 1) / parts),
                    again: Vec::new(),
                }
            })
            .collect()
    }

    /// Unique per content of a slot: multiplication by a unit of the ring modulo 10^6 permutes the numbers.
    fn digits(&self, number: usize, part: u64) -> u32 {
        let number = (number as u64 * 4 + part) % 1_000_000;
        ((number * 611_953 + u64::from(self.scramble)) % 1_000_000) as u32
    }

    /// Adds the records that come again in this content.
    fn repeat(&self, rng: &mut Rng, records: (u64, u64), pieces: &mut [Piece]) {
        let size = records.1 - records.0;
        let rates = &self.options.duplicates;
        let Some(last) = pieces.last_mut() else { return };
        for _ in 0..draw_count(rng, size, rates.within_blob) {
            last.again.push(RecordRef::original(rng.u64(records.0..records.1)));
        }
        let reach = 2 * size + 20;
        let earlier = records.0.saturating_sub(reach)..records.0;
        for _ in 0..draw_count(rng, size, rates.later_blob) {
            if !earlier.is_empty() {
                last.again.push(RecordRef::original(rng.u64(earlier.clone())));
            }
        }
        for _ in 0..draw_count(rng, size, rates.variant) {
            if !earlier.is_empty() {
                last.again.push(RecordRef { number: rng.u64(earlier.clone()), variant: true });
            }
        }
        for _ in 0..draw_count(rng, size, rates.redelivered) {
            let days = rng.i64(1..=5);
            let until = self.feed.made_before(self.timeline, self.from - days * 86_400_000);
            if until > 0 {
                last.again.push(RecordRef::original(rng.u64(until.saturating_sub(1000)..until)));
            }
        }
        // A record that comes again stands anywhere in the blob, not only at its end.
        if last.again.len() > 1 {
            rng.shuffle(&mut last.again);
        }
    }

    /// The second half of one content and the first half of the next as a content of their own.
    fn recut(&self, left: &Content, right: &Content) -> Content {
        let range = |content: &Content| {
            let first = content.pieces.first().map_or(0, |piece| piece.records.0);
            (first, content.pieces.last().map_or(first, |piece| piece.records.1))
        };
        let (a, b) = (range(left), range(right));
        let again = ((a.0 + a.1) / 2..(b.0 + b.1).div_ceil(2)).map(RecordRef::original).collect();
        let at = right.created();
        let piece = Piece { stamp: Stamp { at, digits: 0 }, records: (0, 0), again };
        Content { pieces: vec![piece], available: at }
    }

    /// Draws when the content can be listed.
    fn delay(&self, rng: &mut Rng, content: &mut Content) {
        let lateness = &self.options.lateness;
        let created = content.created();
        if rng.f64() < lateness.share {
            let (min, max) = (span(lateness.min), span(lateness.max));
            content.available = created + rng.i64(min..=max);
            let start = self.timeline.start();
            if let Some(within) = lateness.after_start
                && created < start
                && content.available > start
            {
                content.available = start + (content.available - start) % span(within).max(1);
            }
            return;
        }
        let available = created + rng.i64(0..=span(lateness.ordinary));
        let history = created < self.timeline.start();
        content.available = if history { available.min(self.timeline.start()) } else { available };
    }
}

pub(crate) fn span(duration: std::time::Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX / 4)
}

/// How many of `size` records are hit at `rate`, so that the mean is exact however small the blob.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small counts"
)]
fn draw_count(rng: &mut Rng, size: u64, rate: f64) -> u64 {
    (size as f64 * rate + rng.f64()) as u64
}
