//! Which tiles of a feed are not confirmed yet, and why each is not.
//!
//! Never claims anything: through when a feed is complete is [`crate::coverage`]'s to say, and this names what stands after
//! that. A tile is confirmed once a complete listing has reached its end and every content of it is archived or lost.

use protocol::time::Timestamp;

use crate::coverage::proven_until;
use crate::model::{Gap, Problem, Tile};
use crate::tile::Grid;
use crate::time::later;

/// Tiles looked at, from the oldest: years of the usual ones, and a bound where a clock is wrong.
pub const TILES_MAX: u32 = 10_000;

/// What is known of one feed, a (tenant, content type).
#[derive(Debug, Clone, Copy)]
pub struct Feed<'a> {
    /// Where its collection began.
    pub from: Timestamp,
    /// Through when it is complete.
    pub complete_through: Option<Timestamp>,
    /// Now.
    pub now: Timestamp,
    /// The tiles that were ever listed, by start.
    pub tiles: &'a [Tile],
    /// What can not be listed any more, and stands in the report under that name.
    pub gaps: &'a [Gap],
    /// When the contents that wait were created, in any order.
    pub pending: &'a [Timestamp],
}

/// A tile that is not confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unconfirmed {
    /// The whole tile, from where collection began; the end of the last one is still to come.
    pub tile: Gap,
    /// Through when complete listings have reached. `None`: no part of it was listed.
    pub listed_through: Option<Timestamp>,
    /// Contents of it that wait to be fetched.
    pub pending: u64,
    /// Why it is not confirmed.
    pub why: Why,
}

/// Why a tile is not confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It has not ended.
    Open,
    /// No listing of it is complete.
    NotListed,
    /// It has ended since it was last listed.
    ListedInPart,
    /// It was listed to its end, and contents wait.
    ContentsPending,
}

impl Feed<'_> {
    /// The tiles that are not confirmed, oldest first, at most [`TILES_MAX`].
    pub fn unconfirmed(&self) -> Vec<Unconfirmed> {
        let (grid, spans) = (self.grid(), self.spans());
        let mut unconfirmed = Vec::new();
        let mut start = grid.floor(self.proven());
        for _ in 0..TILES_MAX {
            if start >= self.now {
                break;
            }
            let until = later(start, grid.span());
            unconfirmed.extend(self.look_at(Gap { start: start.max(self.from), until }, &spans));
            start = until;
        }
        unconfirmed
    }

    fn look_at(&self, tile: Gap, spans: &[(Timestamp, Timestamp)]) -> Option<Unconfirmed> {
        // What was proven before is not asked of the tiles again: their rows go after a week.
        let begins = tile.start.max(self.proven());
        let through = listed_from(begins, spans).min(tile.until);
        let pending = self.pending.iter().filter(|created| tile.start <= **created && **created < tile.until).count();
        let why = match pending {
            _ if self.now < tile.until && through > tile.start => Why::Open,
            _ if through <= tile.start => Why::NotListed,
            _ if through < tile.until => Why::ListedInPart,
            0 => return None,
            _ => Why::ContentsPending,
        };
        let listed_through = (through > tile.start).then_some(through);
        Some(Unconfirmed { tile, listed_through, pending: pending as u64, why })
    }

    /// Before this there is nothing to name.
    fn proven(&self) -> Timestamp {
        self.complete_through.map_or(self.from, |through| through.max(self.from))
    }

    /// What is listed, or named as a gap, by start.
    fn spans(&self) -> Vec<(Timestamp, Timestamp)> {
        let listed = self.tiles.iter().filter_map(|tile| Some((tile.start, proven_until(tile)?)));
        let mut spans: Vec<_> = listed.chain(self.gaps.iter().map(|gap| (gap.start, gap.until))).collect();
        spans.sort_unstable();
        spans
    }

    /// Tiles are cut on one grid, and the longest of them shows it; some are cut short.
    fn grid(&self) -> Grid {
        let longest = self.tiles.iter().filter_map(|tile| (tile.until - tile.start).to_std().ok()).max();
        longest.and_then(|span| Grid::new(span).ok()).unwrap_or(Grid::FOUR_HOURS)
    }
}

impl Unconfirmed {
    /// The word for machines; `problem` is what stands in the feed's way. Never changes once released.
    pub fn as_str(&self, problem: Option<&Problem>) -> &'static str {
        match (self.why, problem) {
            (Why::ContentsPending, _) => "contents_pending",
            (_, Some(_)) => "listing_held_up",
            (Why::Open, None) => "open",
            (Why::NotListed, None) => "not_listed",
            (Why::ListedInPart, None) => "listed_in_part",
        }
    }

    /// One sentence, without a full stop.
    pub fn says(&self, problem: Option<&Problem>) -> String {
        let moment = |time: Timestamp| time.format("%Y-%m-%d %H:%M:%SZ").to_string();
        let mut says = match (self.why, self.listed_through) {
            (Why::ContentsPending, _) => "it is listed to its end".to_owned(),
            (Why::Open, Some(through)) => format!("it has not ended; it is listed through {}", moment(through)),
            (_, Some(through)) => format!("it is listed through {}", moment(through)),
            (_, None) => "it has not been listed yet".to_owned(),
        };
        if let (Some(problem), true) = (problem, self.why != Why::ContentsPending) {
            says += &format!("; its listing is held up since {} ({})", moment(problem.since), problem.kind);
        }
        match self.pending {
            0 => {}
            1 => says += "; 1 content of it waits to be fetched",
            many => says += &format!("; {many} contents of it wait to be fetched"),
        }
        says
    }
}

/// Through when everything from `time` on is in `spans`.
fn listed_from(time: Timestamp, spans: &[(Timestamp, Timestamp)]) -> Timestamp {
    let mut through = time;
    for (start, until) in spans {
        if *start > through {
            break;
        }
        through = through.max(*until);
    }
    through
}
