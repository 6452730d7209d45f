//! Through when a feed is complete, and what it lacks: the one place that turns tiles into a statement to an operator.
//!
//! Never claims more than a listing proves: a span counts when a complete listing asked for it after it had passed.
//! The ledger keeps the tiles and calls these functions; the console, the command line and the tests read the result.
//!
//! The statement is about what the feed *listed*. Microsoft offers no sequence numbers and no way to prove that the feed
//! itself is complete (activity-api.md §6), so nobody can claim that.

use chrono::TimeDelta;
use protocol::activity::{LISTING_REACH, RETENTION};
use protocol::time::Timestamp;

use crate::model::{Gap, Tile};
use crate::time::earlier;

/// How much of the oldest reachable time the first listing of a feed may miss without that being called a gap: the feed
/// lets content go while we are still introducing ourselves. Smaller: every new tenant would start with a gap of a few
/// seconds. Larger: a collector that took hours to list for the first time would hide what it missed.
const FIRST_LISTING_TOLERANCE: TimeDelta = TimeDelta::hours(1);

/// What is known of one feed, a (tenant, content type).
#[derive(Debug, Clone)]
pub struct Evidence<'a> {
    /// Where the tenant's collection is to begin.
    pub collect_from: Timestamp,
    /// When the content type was first noted for the tenant.
    pub first_seen_at: Timestamp,
    /// The earliest start of any tile that was ever listed.
    pub began: Option<Timestamp>,
    /// Before this everything is settled: listed, or written down as a gap. `None`: nothing has been settled yet.
    pub settled_through: Option<Timestamp>,
    /// The tiles that are not settled, by start.
    pub tiles: &'a [Tile],
    /// The earliest creation time of a content that is neither archived nor lost, among those created at or after
    /// [`Evidence::from`].
    pub oldest_unarchived: Option<Timestamp>,
}

/// What can be said of a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assessment {
    /// See [`crate::model::Coverage::complete_through`].
    pub complete_through: Option<Timestamp>,
    /// Unlisted spans after [`Evidence::settled_through`] that can not be listed any more, oldest first.
    pub gaps: Vec<Gap>,
    /// Unlisted spans that can still be listed and stand before the end of the last tile, oldest first.
    pub open: Vec<Gap>,
}

/// What to write down for good, because the feed would not answer for it any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The new [`Evidence::settled_through`].
    pub through: Timestamp,
    /// Gaps that become permanent.
    pub gaps: Vec<Gap>,
    /// The starts of the tiles that are not needed any more.
    pub tiles: Vec<Timestamp>,
}

impl Evidence<'_> {
    /// Where collection of this feed began: `collect_from`, or what the feed still offered when the type was first noted.
    pub fn from(&self) -> Timestamp {
        let offered = earlier(self.first_seen_at, LISTING_REACH);
        // Later than that, it was reckoned by a clock that was ahead.
        let is_meant = self.collect_from <= self.first_seen_at;
        if offered <= self.collect_from && is_meant {
            return self.collect_from;
        }
        match self.began {
            Some(began) if began > offered && began - offered <= FIRST_LISTING_TOLERANCE => began,
            _ => offered,
        }
    }

    /// Where the part begins that is not settled.
    fn unsettled_from(&self) -> Timestamp {
        self.settled_through.map_or(self.from(), |through| through.max(self.from()))
    }

    /// What can be said. No clock is needed: the latest listing dates the evidence.
    pub fn assess(&self) -> Assessment {
        let mut assessment = Assessment { complete_through: None, gaps: Vec::new(), open: Vec::new() };
        let latest = self.tiles.iter().filter_map(|tile| tile.listed_at).max();
        let mut through = self.unsettled_from();
        let until = self.tiles.iter().map(|tile| tile.until).max().unwrap_or(through);
        let mut complete = true;
        for (span, listed) in spans(self.tiles, through, until) {
            if listed {
                if complete {
                    through = span.until;
                }
                continue;
            }
            // A hole that was out of reach when the latest listing was made stays one.
            match latest {
                Some(latest) if span.until <= edge(latest) => assessment.gaps.push(span),
                _ => {
                    assessment.open.push(span);
                    complete = false;
                }
            }
        }
        if let Some(oldest) = self.oldest_unarchived {
            through = through.min(oldest);
        }
        assessment.complete_through = (through > self.from()).then_some(through);
        assessment
    }

    /// What can be settled, given that content which expired before `before` is out of everyone's reach. `None`: nothing.
    ///
    /// Our clock alone settles nothing: only through the week before the latest listing that the service answered. A clock
    /// that ran a year ahead would otherwise write a year down as a gap, for good.
    pub fn settle(&self, before: Timestamp) -> Option<Settlement> {
        let from = self.unsettled_from();
        let latest = self.tiles.iter().filter_map(|tile| tile.listed_at).max()?;
        let horizon = earlier(before.min(latest), RETENTION);
        // A tile goes as a whole or stays, so that what is settled ends where the next tile begins.
        let through = self
            .tiles
            .iter()
            .find(|tile| tile.start < horizon && tile.until > horizon)
            .map_or(horizon, |tile| tile.start);
        if through <= from {
            return None;
        }
        let gaps = spans(self.tiles, from, through).into_iter().filter(|(_, listed)| !listed).map(|(span, _)| span);
        let tiles = self.tiles.iter().filter(|tile| tile.until <= through).map(|tile| tile.start);
        Some(Settlement { through, gaps: gaps.collect(), tiles: tiles.collect() })
    }
}

/// The earliest start of a listing made at `time`, as tiles are cut there: on a whole second, not before it.
fn edge(time: Timestamp) -> Timestamp {
    earlier(time, LISTING_REACH) + TimeDelta::seconds(1)
}

/// Through when a listing proves the tile.
pub(crate) fn proven_until(tile: &Tile) -> Option<Timestamp> {
    // An end in the future may be asked for, but what has not happened yet can not have been listed.
    Some(tile.listed_until?.min(tile.listed_at?).min(tile.until)).filter(|until| *until > tile.start)
}

/// Cuts `[from, until)` into adjacent spans that are listed (`true`) or not, in order and without empty ones.
fn spans(tiles: &[Tile], from: Timestamp, until: Timestamp) -> Vec<(Gap, bool)> {
    let mut spans: Vec<(Gap, bool)> = Vec::new();
    let mut cursor = from;
    let mut push = |start: Timestamp, until: Timestamp, listed: bool| {
        if start >= until {
            return;
        }
        match spans.last_mut() {
            Some((last, last_listed)) if *last_listed == listed && last.until == start => last.until = until,
            _ => spans.push((Gap { start, until }, listed)),
        }
    };
    for tile in tiles {
        let Some(proven) = proven_until(tile) else { continue };
        let start = tile.start.clamp(cursor, until.max(cursor));
        let proven = proven.clamp(start, until.max(start));
        push(cursor, start, false);
        push(start, proven, true);
        cursor = cursor.max(proven);
    }
    push(cursor, until, false);
    spans
}
