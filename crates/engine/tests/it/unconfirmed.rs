//! The tiles that stand after "complete through", each with its reason.

use engine::model::{Gap, Problem, Tile};
use engine::unconfirmed::{Feed, TILES_MAX, Unconfirmed, Why};
use protocol::time::Timestamp;

use crate::{hours, minutes, noon};

/// A tile of four hours, `from` hours after noon, listed through so many minutes after its start.
fn tile(from: i64, listed_minutes: i64) -> Tile {
    let start = noon() + hours(from);
    Tile {
        start,
        until: start + hours(4),
        listed_until: Some(start + minutes(listed_minutes)),
        listed_at: Some(start + minutes(listed_minutes)),
        closed_listings: 0,
        next_listing_at: None,
        late_contents: 0,
    }
}

fn span(from: i64, to: i64) -> Gap {
    Gap { start: noon() + hours(from), until: noon() + hours(to) }
}

fn at(minute: i64) -> Timestamp {
    noon() + minutes(minute)
}

/// Reasons by the hour each tile begins, seen `now` minutes after noon.
fn whys(through: i64, now: i64, tiles: &[Tile], gaps: &[Gap], pending: &[i64]) -> Vec<(i64, Why, u64)> {
    let pending: Vec<_> = pending.iter().copied().map(at).collect();
    let complete_through = (through > 0).then(|| at(through));
    let feed = Feed { from: noon(), complete_through, now: at(now), tiles, gaps, pending: &pending };
    let hour = |found: &Unconfirmed| (found.tile.start - noon()).num_hours();
    feed.unconfirmed().iter().map(|found| (hour(found), found.why, found.pending)).collect()
}

#[test]
fn each_tile_that_is_not_confirmed_has_its_reason() {
    let all = [tile(0, 240), tile(4, 240)];
    assert_eq!(whys(480, 480, &all, &[], &[]), [], "everything that has passed is listed and archived");
    let open = [tile(0, 240), tile(4, 240), tile(8, 55)];
    assert_eq!(whys(535, 536, &open, &[], &[]), [(8, Why::Open, 0)]);
    // Contents wait in one that is listed to its end, and in the one that is open; the one between is confirmed.
    let found = whys(10, 536, &open, &[], &[10, 239, 500]);
    assert_eq!(found, [(0, Why::ContentsPending, 2), (8, Why::Open, 1)]);
    assert_eq!(whys(10, 536, &open, &[], &[240]), [(4, Why::ContentsPending, 1), (8, Why::Open, 0)]);
    // Nobody has listed for a while.
    let found = whys(535, 18 * 60, &open, &[], &[]);
    assert_eq!(found, [(8, Why::ListedInPart, 0), (12, Why::NotListed, 0), (16, Why::NotListed, 0)]);
    // A hole that can still be listed ends it, and what follows the hole is confirmed.
    let hole = [tile(0, 240), tile(8, 240)];
    assert_eq!(whys(240, 12 * 60, &hole, &[], &[]), [(4, Why::NotListed, 0)]);
    // One that is a gap for good has its own place in the report.
    assert_eq!(whys(240, 12 * 60, &hole, &[span(4, 8)], &[]), []);
    assert_eq!(whys(240, 12 * 60, &hole, &[span(4, 6)], &[]), [(4, Why::ListedInPart, 0)]);
}

#[test]
fn where_nothing_was_listed_yet_every_tile_is_named_and_a_wrong_clock_names_no_more_than_so_many() {
    let found = whys(30, 9 * 60, &[], &[], &[]);
    assert_eq!(found, [(0, Why::ListedInPart, 0), (4, Why::NotListed, 0), (8, Why::NotListed, 0)]);
    assert_eq!(whys(0, 9 * 60, &[], &[], &[])[0], (0, Why::NotListed, 0));
    // Where collection began in the middle of a tile, that is no listing of its beginning.
    let begun =
        Feed { from: at(30), complete_through: None, now: at(300), tiles: &[], gaps: &[], pending: &[] }.unconfirmed();
    assert_eq!(
        (begun[0].tile, begun[0].why, begun[0].listed_through),
        (Gap { start: at(30), until: at(240) }, Why::NotListed, None)
    );
    assert_eq!(begun.len(), 2);
    assert_eq!(whys(9 * 60, 0, &[], &[], &[]), [], "a clock that went back");
    assert_eq!(whys(0, 60 * 24 * 365 * 100, &[], &[], &[]).len(), TILES_MAX as usize);
    assert_eq!(whys(0, 60 * 4 * i64::from(TILES_MAX), &[], &[], &[]).len(), TILES_MAX as usize);
}

#[test]
fn the_sentence_says_through_when_since_when_and_how_many() {
    let problem = Problem {
        kind: "throttled".to_owned(),
        message: "Microsoft throttles this tenant's requests".to_owned(),
        since: at(61),
        next_attempt_at: None,
    };
    let found = |why, listed_through, pending| Unconfirmed { tile: span(0, 4), listed_through, pending, why };
    let open = found(Why::Open, Some(at(5)), 1);
    assert_eq!((open.as_str(None), open.as_str(Some(&problem))), ("open", "listing_held_up"));
    let (day, noon) = (noon().format("%Y-%m-%d"), noon().format("%H"));
    assert_eq!(
        open.says(None),
        format!("it has not ended; it is listed through {day} {noon}:05:00Z; 1 content of it waits to be fetched")
    );
    let not_listed = found(Why::NotListed, None, 0);
    assert_eq!(not_listed.as_str(None), "not_listed");
    assert_eq!(not_listed.says(None), "it has not been listed yet");
    assert!(not_listed.says(Some(&problem)).ends_with(":01:00Z (throttled)"), "{}", not_listed.says(Some(&problem)));
    let pending = found(Why::ContentsPending, Some(at(240)), 12);
    assert_eq!(pending.as_str(Some(&problem)), "contents_pending");
    assert_eq!(pending.says(Some(&problem)), "it is listed to its end; 12 contents of it wait to be fetched");
    assert_eq!(found(Why::ListedInPart, Some(at(5)), 0).as_str(None), "listed_in_part");
}
