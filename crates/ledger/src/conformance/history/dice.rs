//! Draws the calls of a history from a seed: mostly sensible ones, and wrong ones of every kind now and then.

use engine::model::{RefusedEntry, TenantState};

use super::super::*;
use super::model::{Answer, Model};
use super::op::{Key, Op, Sums};

/// Draws histories.
pub struct Dice {
    state: u64,
    pub(super) now: Timestamp,
    pub(super) commits: [u64; 4],
}

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self { state: seed, now: noon(), commits: [0; 4] }
    }

    /// A number below `limit` (SplitMix64).
    pub fn below(&mut self, limit: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn signed(&mut self, from: i64, until: i64) -> i64 {
        from + i64::try_from(self.below(u64::try_from(until - from).unwrap())).unwrap()
    }

    fn some<T>(&mut self, most: u64, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| make(self)).collect()
    }

    fn content_type(&mut self) -> ContentType {
        if self.below(3) == 0 { EXCHANGE } else { GENERAL }
    }

    fn key(&mut self) -> Key {
        (self.content_type(), format!("content{}", self.below(12)))
    }

    fn loss(&mut self) -> Loss {
        let kind = LossKind::ALL[usize::try_from(self.below(4)).unwrap()];
        Loss { kind, message: format!("lost {}", self.below(3)) }
    }

    fn problem(&mut self) -> Option<Problem> {
        match self.below(3) {
            0 => None,
            other => Some(problem(if other == 1 { "throttled" } else { "auditing_off" })),
        }
    }

    fn listed(&mut self) -> Listed {
        let (content_type, id) = self.key();
        // Created once and for all: derived from the id.
        let created = hours(i64::try_from(id.len()).unwrap() * 7) + minutes(i64::from(id.as_bytes()[7]) * 11);
        let uri = format!("https://manage.office.com/{}/{id}", self.below(2));
        Listed { content_type, content_uri: uri.parse().unwrap(), ..content(&id, created) }
    }

    fn entry(&mut self) -> RefusedEntry {
        let listed = self.listed();
        let named = self.below(2) == 0;
        RefusedEntry {
            content_type: listed.content_type,
            content_id: named.then_some(listed.content_id),
            created: (self.below(2) == 0).then_some(listed.created),
            raw: format!("raw {}", self.below(3)),
            loss: self.loss(),
        }
    }

    fn tile(&mut self) -> Tile {
        let start = noon() + hours(self.signed(0, 30)) + minutes(if self.below(8) == 0 { 30 } else { 0 });
        let until = start + minutes(if self.below(8) == 0 { self.signed(-30, 240) } else { 60 });
        let listed_until = match self.below(4) {
            0 => None,
            1 => Some(start + minutes(self.signed(-5, 65))),
            _ => Some(until),
        };
        Tile {
            start,
            until,
            listed_until,
            listed_at: listed_until.map(|_| self.now),
            closed_listings: u32::try_from(self.below(5)).unwrap(),
            next_listing_at: (self.below(2) == 0).then(|| self.now + minutes(5)),
            late_contents: self.below(3),
        }
    }

    fn segment(&mut self, number: u64) -> SegmentRow {
        let date = format!("2026-03-0{}", 1 + self.below(2));
        let number = if self.below(40) == 0 { number + 1 } else { number };
        SegmentRow { date, ..segment(number, self.below(3)) }
    }

    fn old_segment(&mut self, last: u64) -> SegmentRow {
        let number = 1 + self.below(last.max(1));
        self.segment(number)
    }

    /// The next call.
    fn draw(&mut self) -> Op {
        let pass = self.signed(0, 7200);
        let factor = if self.below(20) == 0 { 50 } else { 1 };
        self.now += TimeDelta::seconds(pass * factor);
        let now = self.now;
        let which = self.below(3);
        let id = tenant(which);
        let last = self.commits[usize::try_from(which).unwrap()];
        // Mostly right, and wrong now and then.
        let number = if self.below(15) == 0 { self.below(last + 3) } else { last + 1 };
        match self.below(100) {
            0..5 => {
                let label = if self.below(2) == 0 { String::new() } else { format!("label {}", self.below(9)) };
                Op::AddTenant { id, label, collect_from: noon() + minutes(self.signed(-60, 60)), now }
            }
            5..8 => {
                let states = [TenantState::Active, TenantState::Paused, TenantState::Removed];
                Op::SetState { id, state: states[usize::try_from(self.below(3)).unwrap()] }
            }
            8 => Op::Purge { id },
            9..14 => {
                let content_type = (self.below(2) == 0).then(|| self.content_type());
                Op::SetProblem { id, content_type, problem: self.problem() }
            }
            14..17 => {
                let listed = self.some(2, |dice| {
                    (dice.content_type(), [None, Some(true), Some(false)][usize::try_from(dice.below(3)).unwrap()])
                });
                Op::SubscriptionsListed { id, listed, now }
            }
            17..19 => Op::StartRequested { id, content_type: self.content_type(), now },
            19..45 => Op::ContentsListed { id, contents: self.some(5, Self::listed), now },
            45..48 => Op::EntriesRefused { id, entries: self.some(3, Self::entry), now },
            48..60 => Op::TileListed { id, content_type: self.content_type(), tile: self.tile() },
            60..70 => {
                let next = now + minutes(self.signed(0, 90));
                Op::ContentFailed { id, key: self.key(), message: format!("failure {}", self.below(99)), next }
            }
            70..75 => Op::ContentLost { id, key: self.key(), loss: self.loss(), now },
            75..90 => Op::Commit {
                id,
                number,
                now,
                archived: self.some(2, |dice| {
                    let sums = Sums { records: dice.below(100), duplicates: dice.below(5), variants: dice.below(2) };
                    (dice.key(), sums)
                }),
                lost: if self.below(4) == 0 { self.some(1, |dice| (dice.key(), dice.loss())) } else { Vec::new() },
                segments: self.some(1, |dice| dice.segment(number)),
                quarantined: self.some(1, |dice| {
                    let content_type = dice.content_type();
                    QuarantineRow { content_type, ..quarantined(&format!("q{}", dice.below(20))) }
                }),
            },
            90..94 => Op::Replace {
                id,
                number,
                now,
                removed: self.some(1, |dice| dice.old_segment(last)),
                added: self.some(1, |dice| dice.segment(number)),
            },
            94..97 => Op::Deleted { id, segments: self.some(3, |dice| dice.old_segment(last)) },
            _ => Op::Fold { id, before: now - days(self.signed(0, 3)) },
        }
    }

    /// Notes what the model said of a call, so that the next numbers are mostly right.
    fn learn(&mut self, op: &Op, answer: &Answer) {
        let which = (0..4).find(|number| tenant(*number) == op.tenant()).unwrap_or(0);
        let last = &mut self.commits[usize::try_from(which).unwrap()];
        match (op, answer) {
            (Op::Commit { number, .. } | Op::Replace { number, .. }, Ok(_)) => *last = *number,
            (Op::Purge { .. }, Ok(_)) => *last = 0,
            _ => {}
        }
    }

    /// The next call, applied to the model.
    pub(super) fn step(&mut self, model: &mut Model) -> (Op, Answer) {
        let mut op = self.draw();
        // Otherwise hardly any commit would find all it names.
        if let Op::Commit { id, archived, lost, .. } = &mut op
            && self.below(8) > 0
        {
            archived.retain(|(key, _)| model.waits(*id, key));
            archived.dedup_by(|one, other| one.0 == other.0);
            lost.retain(|(key, _)| model.waits(*id, key) && !archived.iter().any(|(other, _)| other == key));
        }
        let answer = model.apply(&op);
        self.learn(&op, &answer);
        (op, answer)
    }
}
