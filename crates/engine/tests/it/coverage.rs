//! What is claimed about completeness, example by example.

use engine::coverage::Evidence;
use engine::model::{Gap, Tile};
use protocol::time::Timestamp;

use crate::{hours, minutes, noon, seconds};

fn tile(start: i64, listed_until: Option<Timestamp>, listed_at: Timestamp) -> Tile {
    Tile {
        start: noon() + hours(start),
        until: noon() + hours(start + 1),
        listed_until,
        listed_at: Some(listed_at),
        closed_listings: 1,
        next_listing_at: None,
        late_contents: 0,
    }
}

/// Closed, and listed whole two hours after it began.
fn whole(start: i64) -> Tile {
    tile(start, Some(noon() + hours(start + 1)), noon() + hours(start + 2))
}

fn evidence(tiles: &[Tile]) -> Evidence<'_> {
    Evidence {
        collect_from: noon(),
        first_seen_at: noon() + minutes(5),
        began: tiles.first().map(|tile| tile.start),
        settled_through: None,
        tiles,
        oldest_unarchived: None,
    }
}

fn through(tiles: &[Tile]) -> Option<Timestamp> {
    evidence(tiles).assess().complete_through
}

#[test]
fn nothing_is_claimed_before_the_first_listing() {
    assert_eq!(through(&[]), None);
    let mut unlisted = whole(0);
    unlisted.listed_until = None;
    unlisted.listed_at = None;
    assert_eq!(through(&[unlisted]), None);
}

#[test]
fn adjacent_listed_tiles_add_up_and_a_hole_ends_the_claim() {
    assert_eq!(through(&[whole(0)]), Some(noon() + hours(1)));
    assert_eq!(through(&[whole(0), whole(1)]), Some(noon() + hours(2)));
    assert_eq!(through(&[whole(0), whole(2)]), Some(noon() + hours(1)));
    assert_eq!(through(&[whole(1), whole(2)]), None, "the first hour is missing, and still to be had");
    let part = tile(1, Some(noon() + minutes(80)), noon() + minutes(80));
    assert_eq!(through(&[whole(0), part, whole(2)]), Some(noon() + minutes(80)));
}

#[test]
fn a_listing_proves_nothing_about_what_came_after_it() {
    let early = tile(0, Some(noon() + hours(1)), noon() + minutes(30));
    assert_eq!(through(&[early]), Some(noon() + minutes(30)));
}

#[test]
fn the_claim_never_passes_a_content_that_is_not_archived() {
    let tiles = [whole(0), whole(1)];
    let with = |oldest| Evidence { oldest_unarchived: Some(oldest), ..evidence(&tiles) }.assess().complete_through;
    assert_eq!(with(noon() + minutes(61)), Some(noon() + minutes(61)));
    assert_eq!(with(noon() + hours(9)), Some(noon() + hours(2)));
    assert_eq!(with(noon()), None);
}

#[test]
fn a_hole_within_reach_is_open_and_out_of_reach_a_gap() {
    let late = |days: i64| {
        let mut tile = whole(0);
        tile.start += hours(24 * days);
        tile.until += hours(24 * days);
        tile.listed_until = Some(tile.until);
        tile.listed_at = Some(tile.until + minutes(1));
        tile
    };
    let hole = |until| Gap { start: noon() + hours(1), until };
    let tiles = [whole(0), late(6)];
    let said = evidence(&tiles).assess();
    assert_eq!(said.complete_through, Some(noon() + hours(1)));
    assert_eq!((said.gaps, said.open), (vec![], vec![hole(noon() + hours(6 * 24))]));

    // A second listing, on the eighth day, is made when the beginning of the hole is out of reach but its end is not.
    let tiles = [whole(0), late(6), late(8)];
    assert_eq!(evidence(&tiles).assess().complete_through, Some(noon() + hours(1)));

    // When all of it is out of reach, it is named, and the claim goes on behind it.
    let tiles = [whole(0), late(20)];
    let said = evidence(&tiles).assess();
    let start = noon() + hours(20 * 24);
    assert_eq!(said.gaps, [], "the hole's end is the start of a tile that has just been listed");
    let mut cut = late(20);
    cut.start = start - hours(167) - minutes(54) + seconds(60);
    let tiles = [whole(0), cut.clone()];
    let said = evidence(&tiles).assess();
    assert_eq!(said.gaps, [hole(cut.start)]);
    assert_eq!(said.complete_through, cut.listed_until);
}

#[test]
fn the_first_listing_need_not_reach_what_the_feed_let_go_while_we_began() {
    let first = noon() - hours(24 * 30);
    let tiles = [whole(0)];
    let seen = |first_seen_at| Evidence { collect_from: first, first_seen_at, ..evidence(&tiles) };
    // What was offered when the type was first noted began at 11:30; the first listing was made half an hour later.
    let noted = noon() - minutes(30) + hours(167) + minutes(55);
    assert_eq!(seen(noted).from(), noon());
    assert_eq!(seen(noted).assess().complete_through, Some(noon() + hours(1)));
    // More than an hour is not a beginning, but a gap.
    assert_eq!(seen(noted - minutes(30)).from(), noon());
    assert_eq!(seen(noted - minutes(31)).from(), noon() - minutes(61));
}

#[test]
fn settling_writes_down_what_is_missing_and_moves_in_whole_tiles() {
    let week = hours(7 * 24);
    let last = Tile { listed_at: Some(noon() + hours(30 * 24)), ..whole(3) };
    let tiles = [whole(0), whole(2), last];
    assert_eq!(evidence(&tiles).settle(noon() + week), None);
    // Through the middle of the first tile: it stays whole.
    assert_eq!(evidence(&tiles).settle(noon() + minutes(30) + week), None);
    let settled = evidence(&tiles).settle(noon() + hours(1) + week).unwrap();
    assert_eq!((settled.through, settled.gaps, settled.tiles), (noon() + hours(1), vec![], vec![noon()]));
    let settled = evidence(&tiles).settle(noon() + minutes(150) + week).unwrap();
    assert_eq!(settled.through, noon() + hours(2));
    assert_eq!(settled.gaps, [Gap { start: noon() + hours(1), until: noon() + hours(2) }]);
    assert_eq!(settled.tiles, [noon()]);
    // What is settled is not asked for again.
    let rest = Evidence { settled_through: Some(noon() + hours(2)), ..evidence(&tiles[1..]) };
    assert_eq!(rest.assess().complete_through, Some(noon() + hours(4)));
    assert_eq!(rest.assess().gaps, []);
}

#[test]
fn a_clock_that_runs_ahead_settles_nothing_that_no_listing_bears_out() {
    let year = hours(365 * 24);
    assert_eq!(evidence(&[whole(0), whole(1)]).settle(noon() + year), None);
    let later = Tile { listed_at: Some(noon() + hours(7 * 24 + 1)), ..whole(1) };
    let settled = evidence(&[whole(0), later]).settle(noon() + year).unwrap();
    assert_eq!((settled.through, settled.gaps), (noon() + hours(1), vec![]));
}

#[test]
fn a_content_type_that_was_never_listed_has_no_gaps() {
    assert_eq!(evidence(&[]).settle(noon() + hours(24 * 365)), None);
}
