//! The grid that time is cut into, which tiles exist, and when each is listed, again and for the last time.
//!
//! Never lets a start wander: every listing of a tile asks with the same start, because a start inside the period that a
//! blob aggregates makes the feed answer with a partial blob under another id (activity-api.md §6). Only a tile whose
//! beginning has fallen out of the feed's reach is asked for with a later one, as the alternative is not to ask at all.
//!
//! Tiles come from the ledger and go back there after each complete listing; what they prove is [`crate::coverage`]'s.

use std::time::Duration;

use chrono::{TimeDelta, Timelike};
use protocol::activity::{LISTING_REACH, MAX_WINDOW, Reach, Window};
use protocol::time::Timestamp;

use crate::model::{Jitter, Tile};
use crate::time::{earlier, later};

/// How long after a tile has closed it is listed again, counted from its end. Content appears late: normally within 90
/// minutes of the event, in incidents a day or more (activity-api.md §6). Fewer: late content of a tile is found only
/// days later, near its expiry. More: a request each for (almost always) nothing, times tenants, times types, times tiles;
/// seven listings a tile are 35 requests an hour for a tenant with five types, out of about 100,000 the quota allows.
const LIST_AGAIN_AFTER: [Duration; 7] = [
    Duration::from_secs(2 * 60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(60 * 60),
    Duration::from_secs(4 * 60 * 60),
    Duration::from_secs(12 * 60 * 60),
    Duration::from_secs(24 * 60 * 60),
    Duration::from_secs(3 * 24 * 60 * 60),
];

/// The last listing comes this long before the tile's start leaves the feed's reach. Smaller: one outage of that length
/// and the last listing never happens, and what it finds can hardly be fetched. Larger: later content is not found.
const LAST_LISTING_MARGIN: Duration = Duration::from_secs(30 * 60);

/// A tile that was never listed and whose start leaves the reach within this span comes before newer ones. Smaller: a long
/// backlog loses its oldest end while the newest is read. Larger: after an outage fresh records wait behind old ones.
const LEAVES_REACH_SOON: Duration = Duration::from_secs(24 * 60 * 60);

/// A feed that has brought nothing for so long is polled less often. Shorter: feeds with a few records an hour bring them
/// later. Longer: tenants where nothing happens cost more after each restart.
const QUIET_AFTER: Duration = Duration::from_secs(60 * 60);

/// Fixed spans of UTC time, all of one length, counted from midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    seconds: u32,
}

/// Why a span is no grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("windows of {} seconds do not fit: 24 hours must be a whole number of them, each a minute or more", span.as_secs_f64())]
pub struct GridError {
    /// The span given.
    pub span: Duration,
}

impl Grid {
    /// One hour: a busy tenant's hour is some pages; a day of tiles is 24 rows.
    pub const HOUR: Grid = Grid { seconds: 3600 };

    /// Four hours, the default: a week of five content types is 210 listings, which a tenant's budget of a minute holds
    /// many times over. Smaller: catching up takes longer than fetching. Larger: each poll of a tenant with thousands of
    /// contents a day goes through more pages of what it has seen already.
    pub const FOUR_HOURS: Grid = Grid { seconds: 4 * 3600 };

    /// Tiles of `span`.
    ///
    /// # Errors
    /// Unless it divides 24 hours and is a minute or longer.
    pub fn new(span: Duration) -> Result<Self, GridError> {
        let error = GridError { span };
        let seconds = u32::try_from(span.as_secs()).map_err(|_| error)?;
        let whole = span.subsec_nanos() == 0 && seconds >= 60;
        if !whole || !MAX_WINDOW.as_secs().is_multiple_of(u64::from(seconds)) {
            return Err(error);
        }
        Ok(Self { seconds })
    }

    /// The length of a tile.
    pub fn span(self) -> Duration {
        Duration::from_secs(u64::from(self.seconds))
    }

    /// The last border at or before `time`.
    pub fn floor(self, time: Timestamp) -> Timestamp {
        let seconds = time.timestamp();
        // Days are whole multiples of a tile, so counting from the epoch is counting from midnight.
        Timestamp::from_timestamp(seconds - seconds.rem_euclid(i64::from(self.seconds)), 0).unwrap_or(time)
    }

    /// The first border after `time`.
    fn border_after(self, time: Timestamp) -> Timestamp {
        later(self.floor(time), self.span())
    }
}

/// What is to be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// What is due.
    AllDay,
    /// Every tile within reach once, whatever its schedule says: late content can be anywhere. The present second is asked
    /// for too, as there is no next poll that would find what was created in it.
    CatchUp {
        /// When the run began: what has been listed since is done.
        since: Timestamp,
    },
}

impl Mode {
    /// The latest end of a window that is asked for at `now`; on a whole second, as the API has no smaller unit.
    fn asks_until(self, now: Timestamp) -> Timestamp {
        let present = floor_to_second(now);
        match self {
            Self::AllDay => present,
            Self::CatchUp { .. } => later(present, Duration::from_secs(1)),
        }
    }
}

/// Why a tile is to be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It is the one that time is passing through, or it has just closed.
    Fresh,
    /// It was never listed, and soon can not be listed any more.
    Leaving,
    /// It was never listed.
    Backlog,
    /// It is closed and was listed; late content may have appeared.
    Again,
}

/// One listing that is to be made: all pages of `window`, then [`Schedule::after_listing`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListingTask {
    /// As the ledger has it, or new.
    pub tile: Tile,
    /// What to ask for: from the tile's start to its end or the present, whichever is earlier. In [`Mode::CatchUp`] the
    /// present second is in it, so its end may lie up to a second ahead; one in the future is accepted (activity-api.md
    /// §2.4), and where it is not, the next attempt comes when it has passed.
    pub window: Window,
    /// Why.
    pub reason: Reason,
}

/// What the schedule of one feed is made from.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// The grid that new tiles are cut by; old ones keep theirs.
    pub grid: Grid,
    /// How often the present tile is listed.
    pub poll_interval: Duration,
    /// Moves the points of time at which that is done. The same for all feeds of a tenant, so that they are asked in one go;
    /// another one for each tenant, so that not all are at once.
    pub phase: Duration,
    /// Content created before is not asked for.
    pub collect_from: Timestamp,
}

impl Schedule {
    /// The listings to make at `now`, the most pressing first. `tiles` are the feed's, by start.
    ///
    /// First the tile that time is passing through; then what was never listed, oldest first as long as it leaves the reach
    /// within a day, and newest first after that; then what is due to be listed again, the longest due first.
    pub fn plan(&self, now: Timestamp, tiles: &[Tile], mode: Mode) -> Vec<ListingTask> {
        let mut tasks: Vec<ListingTask> =
            self.tiles(now, tiles, mode).into_iter().filter_map(|tile| self.task(now, tile, mode)).collect();
        tasks.sort_by_key(|task| {
            let start = task.tile.start.timestamp();
            match task.reason {
                Reason::Fresh => (0, -start),
                Reason::Leaving => (1, start),
                Reason::Backlog => (2, -start),
                Reason::Again => (3, task.tile.next_listing_at.map_or(start, |due| due.timestamp())),
            }
        });
        tasks
    }

    /// When to plan again, if nothing else happens: the earliest moment at which [`Schedule::plan`] may say something it
    /// does not say at `now`.
    pub fn wake_at(&self, now: Timestamp, tiles: &[Tile]) -> Timestamp {
        let next = tiles.iter().filter_map(|tile| {
            let due = tile.next_listing_at?.max(now);
            // What is due and out of reach stays so, and must not keep anybody awake.
            self.task(due, tile.clone(), Mode::AllDay).map(|_task| due)
        });
        let next = next.min();
        // A new tile begins at the next border and has its first whole second one second later.
        let border = self.grid.border_after(now) + TimeDelta::seconds(1);
        next.map_or(border, |next| next.min(border)).max(now)
    }

    /// Every tile from `collect_from`, or the edge of the reach, until `now`: those given, and new ones where there is none.
    ///
    /// The oldest tile begins on the grid if its start is still within reach; otherwise it is cut at the edge, as the time
    /// before can not be asked for. Where an old tile was listed in part and then left behind, its rest becomes a new tile.
    fn tiles(&self, now: Timestamp, tiles: &[Tile], mode: Mode) -> Vec<Tile> {
        let edge = ceil_to_second(earlier(now, LISTING_REACH));
        let mut cursor = self.grid.floor(self.collect_from).max(self.grid.floor(edge));
        if cursor < edge {
            cursor = edge;
        }
        let mut all = Vec::new();
        for tile in tiles.iter().filter(|tile| tile.start <= now) {
            self.fill(&mut all, &mut cursor, tile.start);
            all.push(tile.clone());
            let left_behind = tile.start < edge && tile.listed_until.is_none_or(|listed| listed < tile.until);
            let covered = if left_behind { tile.listed_until.unwrap_or(tile.start) } else { tile.until };
            cursor = cursor.max(covered);
        }
        let present = mode.asks_until(now);
        if cursor < present {
            // The last one ends on the border after the present, and is filled as time passes.
            let until = tiles.iter().map(|tile| tile.start).filter(|start| *start > now).min();
            let border = self.grid.border_after(present - TimeDelta::seconds(1));
            self.fill(&mut all, &mut cursor, until.map_or(border, |until| border.min(until)));
        }
        all
    }

    /// Adds new tiles from `cursor` until `until`, cut at the grid's borders.
    fn fill(&self, all: &mut Vec<Tile>, cursor: &mut Timestamp, until: Timestamp) {
        while *cursor < until {
            let end = self.grid.border_after(*cursor).min(until);
            all.push(Tile {
                start: *cursor,
                until: end,
                listed_until: None,
                listed_at: None,
                closed_listings: 0,
                next_listing_at: None,
                late_contents: 0,
            });
            *cursor = end;
        }
    }

    fn task(&self, now: Timestamp, tile: Tile, mode: Mode) -> Option<ListingTask> {
        // What was listed by a clock that was ahead of today's proves nothing and is done again.
        let listed_at = tile.listed_at.filter(|listed| *listed <= now);
        let due = match (listed_at, mode) {
            (None, _) => true,
            (Some(listed), Mode::CatchUp { since }) => listed < since,
            (Some(_), Mode::AllDay) => tile.next_listing_at.is_some_and(|next| next <= now),
        };
        if !due {
            return None;
        }
        let window = Window::new(tile.start, tile.until.min(mode.asks_until(now))).ok()?;
        let window = match window.reach_at(now) {
            Reach::Whole => window,
            // The rest of a tile that was not listed to its end is a tile of its own by now.
            Reach::Rest(rest) if tile.listed_until.is_some_and(|listed| listed >= tile.until) => rest,
            Reach::Rest(_) | Reach::Nothing => return None,
        };
        let closing = tile.until >= earlier(now, self.poll_interval.max(self.grid.span()));
        let reason = match listed_at {
            _ if tile.until > now || (closing && tile.closed_listings == 0) => Reason::Fresh,
            Some(_) => Reason::Again,
            None if later(tile.start, LISTING_REACH) <= later(now, LEAVES_REACH_SOON) => Reason::Leaving,
            None => Reason::Backlog,
        };
        Some(ListingTask { tile, window, reason })
    }

    /// The tile after a complete listing of `asked`, begun at `begun_at`, that brought `new_contents` unknown before.
    pub fn after_listing(
        &self,
        tile: &Tile,
        asked: &Window,
        new_contents: u64,
        begun_at: Timestamp,
        jitter: Jitter,
    ) -> Tile {
        let mut after = tile.clone();
        let evidence = tile.listed_until.filter(|_| tile.listed_at.is_some_and(|listed| listed <= begun_at));
        // Asking with a later start says nothing about what lies before it, and no answer about a second that is not over.
        let reached = asked.until().min(floor_to_second(begun_at)).min(tile.until);
        let reached = (asked.start() <= tile.start).then(|| reached.max(tile.start));
        after.listed_until = evidence.max(reached);
        after.listed_at = Some(begun_at);
        if evidence.is_none() && tile.listed_until.is_some() {
            after.closed_listings = 0;
        }
        if asked.until() >= tile.until && begun_at >= tile.until {
            if after.closed_listings > 0 {
                after.late_contents = after.late_contents.saturating_add(new_contents);
            }
            after.closed_listings = after.closed_listings.saturating_add(1);
        }
        after.next_listing_at = self.next_listing(&after, begun_at, jitter);
        after
    }

    /// The next point of time at which the tenant's feeds are asked; for a feed asked at one of them just now, the one after
    /// that.
    fn next_poll(&self, now: Timestamp) -> Timestamp {
        let interval = i64::try_from(self.poll_interval.as_millis()).unwrap_or(i64::MAX).max(1);
        let phase = (self.phase.as_millis() % u128::from(interval.unsigned_abs())) as i64;
        // Counted from the epoch, as tiles are. Half an interval: asking takes its time, and may begin a little early.
        let half = later(now, self.poll_interval / 2).timestamp_millis();
        let point = (half - phase).div_euclid(interval) + 1;
        let next = point.checked_mul(interval).and_then(|point| Timestamp::from_timestamp_millis(point + phase));
        next.unwrap_or_else(|| later(now, self.poll_interval))
    }

    fn next_listing(&self, tile: &Tile, now: Timestamp, jitter: Jitter) -> Option<Timestamp> {
        let last = earlier(later(tile.start, LISTING_REACH), jitter.spread(LAST_LISTING_MARGIN));
        if tile.listed_until.is_none_or(|listed| listed < tile.until) {
            return Some(self.next_poll(now));
        }
        if now >= last {
            return None;
        }
        // The next step that is clearly later than this listing: a step that is past, because the listing came late, is
        // not made up for, and one that the jitter had drawn a little early is not made twice.
        let elapsed = (now - tile.until).to_std().unwrap_or(Duration::ZERO);
        let next = LIST_AGAIN_AFTER.iter().find(|after| **after > elapsed.mul_f64(1.5));
        Some(next.map_or(last, |after| later(tile.until, jitter.spread(*after)).min(last)))
    }
}

/// How often a feed is polled that has brought nothing for so long: each `poll_interval` at first, and from an hour on
/// after a sixteenth of the silence, in whole multiples of `poll_interval`, each `quiet_poll_interval` at least.
///
/// A sixteenth: what comes then has waited that much longer than usual, as a share of how long nothing came.
pub fn poll_interval_after(silence: Duration, poll_interval: Duration, quiet_poll_interval: Duration) -> Duration {
    if silence < QUIET_AFTER {
        return poll_interval;
    }
    let multiple = (silence / 16).as_nanos() / poll_interval.as_nanos().max(1);
    let multiple = u32::try_from(multiple).unwrap_or(u32::MAX);
    poll_interval.saturating_mul(multiple.max(1)).min(quiet_poll_interval.max(poll_interval))
}

/// The tile, to be listed again at once: what was listed in it can not be found any more.
pub fn list_again_now(tile: &Tile, now: Timestamp) -> Tile {
    let next = tile.next_listing_at.map_or(now, |next| next.min(now));
    Tile { next_listing_at: Some(next), ..tile.clone() }
}

/// Where the windows of a tenant that is added at `now` start: as far back as the feed reaches.
pub fn collect_from(now: Timestamp) -> Timestamp {
    Grid::FOUR_HOURS.floor(earlier(now, LISTING_REACH))
}

fn floor_to_second(time: Timestamp) -> Timestamp {
    time.with_nanosecond(0).unwrap_or(time)
}

fn ceil_to_second(time: Timestamp) -> Timestamp {
    let floor = floor_to_second(time);
    if floor < time { later(floor, Duration::from_secs(1)) } else { floor }
}
