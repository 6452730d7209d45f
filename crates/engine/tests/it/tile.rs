//! Which tiles there are, in which order they are listed, and when again.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{TimeDelta, Timelike};
use engine::model::Tile;
use engine::tile::{Grid, ListingTask, Mode, Reason, Schedule, list_again_now, poll_interval_after};
use protocol::activity::Window;
use protocol::time::Timestamp;

use crate::{STILL, at, hours, minutes, noon, seconds};

fn schedule(collect_from: Timestamp) -> Schedule {
    Schedule { grid: Grid::HOUR, poll_interval: Duration::from_secs(60), phase: Duration::ZERO, collect_from }
}

fn windows(tasks: &[ListingTask]) -> Vec<(Reason, Timestamp, Timestamp)> {
    tasks.iter().map(|task| (task.reason, task.window.start(), task.window.until())).collect()
}

/// Lists everything that is planned at `now`, as the collector would.
fn list_all(schedule: &Schedule, tiles: &mut Vec<Tile>, now: Timestamp) {
    for task in schedule.plan(now, tiles, Mode::AllDay) {
        let listed = schedule.after_listing(&task.tile, &task.window, 0, now, STILL);
        tiles.retain(|tile| tile.start != listed.start);
        tiles.push(listed);
    }
    tiles.sort_by_key(|tile| tile.start);
}

#[test]
fn a_grid_divides_the_day() {
    for (good, bad) in [(3600, 3601), (86_400, 86_401), (60, 59), (7200, 5 * 3600), (900, 901)] {
        assert!(Grid::new(Duration::from_secs(good)).is_ok(), "{good}");
        assert!(Grid::new(Duration::from_secs(bad)).is_err(), "{bad}");
    }
    assert!(Grid::new(Duration::from_millis(60_500)).is_err());
    assert!(Grid::new(Duration::ZERO).is_err());
    assert!(Grid::new(Duration::MAX).is_err());
    assert_eq!(Grid::HOUR.floor(noon() + minutes(59)), noon());
    assert_eq!(Grid::HOUR.floor(noon() - seconds(1)), noon() - hours(1));
    assert_eq!(Grid::HOUR.floor(at("1969-12-31T23:59:59Z")), at("1969-12-31T23:00:00Z"));
}

#[test]
fn a_new_feed_is_asked_for_the_present_first_and_then_backwards() {
    let now = noon() + seconds(90);
    let tasks = schedule(noon() - hours(2) + minutes(5)).plan(now, &[], Mode::AllDay);
    assert_eq!(
        windows(&tasks),
        [
            (Reason::Fresh, noon(), now),
            (Reason::Fresh, noon() - hours(1), noon()),
            (Reason::Backlog, noon() - hours(2), noon() - hours(1)),
        ]
    );
}

#[test]
fn what_leaves_the_reach_within_a_day_comes_before_what_is_newer() {
    let now = noon() + minutes(30);
    let tasks = schedule(noon() - hours(7 * 24)).plan(now, &[], Mode::AllDay);
    let reasons: Vec<Reason> = tasks.iter().map(|task| task.reason).collect();
    let leaving: Vec<Timestamp> =
        tasks.iter().filter(|task| task.reason == Reason::Leaving).map(|task| task.tile.start).collect();
    assert_eq!(reasons[..3], [Reason::Fresh, Reason::Fresh, Reason::Leaving]);
    assert!(leaving.is_sorted(), "oldest first");
    assert_eq!(leaving.len(), 25, "the cut one and a day's");
    let backlog: Vec<Timestamp> =
        tasks.iter().filter(|task| task.reason == Reason::Backlog).map(|task| task.tile.start).collect();
    assert!(backlog.is_sorted_by(|a, b| a > b), "newest first");
    assert_eq!(tasks.len(), 168 + 1, "a week of hours, the oldest cut");
}

#[test]
fn the_oldest_tile_keeps_its_own_start_while_that_is_in_reach() {
    let from = noon() - hours(24 * 30);
    // 167 h 55 min before 12:55 is 13:00 exactly, on the grid.
    let tasks = schedule(from).plan(noon() + minutes(55), &[], Mode::AllDay);
    let oldest = tasks.iter().map(|task| task.window.start()).min().unwrap();
    assert_eq!(oldest, noon() - hours(167));
    // A second later it is out of reach, and the tile is cut there.
    let tasks = schedule(from).plan(noon() + minutes(55) + TimeDelta::milliseconds(1), &[], Mode::AllDay);
    let task = tasks.iter().min_by_key(|task| task.window.start()).unwrap();
    assert_eq!(task.window.start(), noon() - hours(167) + seconds(1));
    assert_eq!(task.tile.start, task.window.start());
    assert_eq!(task.tile.until, noon() - hours(166));
}

#[test]
fn the_first_second_of_a_tile_is_not_listed_before_it_is_over() {
    let feed = schedule(noon());
    assert_eq!(feed.plan(noon(), &[], Mode::AllDay), []);
    assert_eq!(feed.plan(noon() + TimeDelta::milliseconds(999), &[], Mode::AllDay), []);
    assert_eq!(
        windows(&feed.plan(noon() + seconds(1), &[], Mode::AllDay)),
        [(Reason::Fresh, noon(), noon() + seconds(1))]
    );
    assert_eq!(schedule(noon() + hours(5)).plan(noon(), &[], Mode::AllDay), [], "nothing before it is to begin");
}

#[test]
fn a_run_that_ends_asks_for_the_present_second_and_claims_only_what_is_past() {
    let feed = schedule(noon());
    for (elapsed_ms, until, proven) in
        [(0, seconds(1), seconds(0)), (999, seconds(1), seconds(0)), (90_500, seconds(91), seconds(90))]
    {
        let now = noon() + TimeDelta::milliseconds(elapsed_ms);
        let tasks = feed.plan(now, &[], Mode::CatchUp { since: now });
        assert_eq!(windows(&tasks), [(Reason::Fresh, noon(), noon() + until)], "{elapsed_ms}");
        let listed = feed.after_listing(&tasks[0].tile, &tasks[0].window, 0, now, STILL);
        assert_eq!(listed.listed_until, Some(noon() + proven), "{elapsed_ms}");
        assert_eq!(listed.closed_listings, 0);
    }
    // Beyond a tile's end is the next tile's to ask.
    let now = noon() + hours(1);
    let tasks = feed.plan(now, &[], Mode::CatchUp { since: now });
    assert_eq!(windows(&tasks), [(Reason::Fresh, now, now + seconds(1)), (Reason::Fresh, noon(), noon() + hours(1))]);
}

#[test]
fn the_present_tile_is_listed_every_poll_interval_from_the_same_start() {
    let feed = schedule(noon());
    let mut tiles = Vec::new();
    list_all(&feed, &mut tiles, noon() + minutes(10));
    assert_eq!(feed.plan(noon() + minutes(11) - seconds(1), &tiles, Mode::AllDay), []);
    assert_eq!(feed.wake_at(noon() + minutes(10), &tiles), noon() + minutes(11));
    let tasks = feed.plan(noon() + minutes(11), &tiles, Mode::AllDay);
    assert_eq!(windows(&tasks), [(Reason::Fresh, noon(), noon() + minutes(11))]);
}

#[test]
fn all_feeds_of_a_tenant_are_polled_at_the_same_points_of_time() {
    for (poll, phase) in [(60, 0), (60, 17), (300, 299), (7, 1_000_003), (3_600, 2_000)] {
        let feed = Schedule {
            poll_interval: Duration::from_secs(poll),
            phase: Duration::from_secs(phase),
            grid: Grid::new(Duration::from_secs(86_400)).unwrap(),
            ..schedule(noon() - hours(12))
        };
        let interval = seconds(poll as i64);
        let points: BTreeSet<i64> = (0..60)
            .map(|number| {
                // As if each had been asked for the first time at another moment.
                let mut now = noon() - hours(3) + TimeDelta::milliseconds(number * 777);
                for _ in 0..3 {
                    let tile = Tile { until: noon() + hours(100), ..feed.plan(now, &[], Mode::AllDay)[0].tile.clone() };
                    let window = Window::new(tile.start, now.with_nanosecond(0).unwrap()).unwrap();
                    let next = feed.after_listing(&tile, &window, 0, now, STILL).next_listing_at.unwrap();
                    assert!(
                        next - now > interval / 2 && next - now <= interval * 3 / 2,
                        "{poll} {phase}: {now} {next}"
                    );
                    // It takes a while until it is looked at.
                    now = next + TimeDelta::milliseconds(number);
                }
                (now - TimeDelta::milliseconds(number)).timestamp_millis().rem_euclid(interval.num_milliseconds())
            })
            .collect();
        assert_eq!(points, BTreeSet::from([(phase * 1000 % (poll * 1000)) as i64]), "{poll} {phase}");
    }
}

#[test]
fn the_longer_a_feed_is_silent_the_less_often_it_is_polled_to_a_limit() {
    let [minute, five] = [60, 300].map(Duration::from_secs);
    for (silence, interval) in
        [(0, 60), (3_599, 60), (3_600, 180), (4 * 16 * 60 - 1, 180), (4 * 16 * 60, 240), (86_400, 300), (u64::MAX, 300)]
    {
        let interval = Duration::from_secs(interval);
        assert_eq!(poll_interval_after(Duration::from_secs(silence), minute, five), interval, "{silence}");
    }
    assert_eq!(poll_interval_after(Duration::from_secs(86_400), five, minute), five, "never more often than said");
    assert_eq!(poll_interval_after(Duration::MAX, Duration::ZERO, five), Duration::ZERO);
}

#[test]
fn a_closed_tile_is_listed_again_ever_less_often_and_last_shortly_before_it_leaves_the_reach() {
    let feed = schedule(noon());
    let mut tiles = Vec::new();
    let mut now = noon() + minutes(59);
    let mut listed = Vec::new();
    list_all(&feed, &mut tiles, now);
    while now < noon() + hours(7 * 24) {
        // Only the first tile is of interest here.
        let first: Vec<Tile> = tiles.iter().filter(|tile| tile.start == noon()).cloned().collect();
        let Some(due) = first[0].next_listing_at else { break };
        now = due;
        let before = first[0].clone();
        let task = feed.plan(now, &first, Mode::AllDay).into_iter().find(|task| task.tile.start == noon()).unwrap();
        tiles = vec![feed.after_listing(&before, &task.window, 0, now, STILL)];
        listed.push((now - (noon() + hours(1))).num_minutes());
    }
    let week = 167 * 60 + 55 - 60 - 30;
    assert_eq!(listed, [0, 2, 15, 60, 240, 720, 1440, 4320, week]);
    assert_eq!(tiles[0].closed_listings, 9);
    assert_eq!(tiles[0].next_listing_at, None);
}

#[test]
fn a_listing_that_came_late_is_not_followed_by_those_that_were_missed() {
    let feed = schedule(noon());
    let now = noon() + hours(4);
    let tasks = feed.plan(now, &[], Mode::AllDay);
    let task = tasks.iter().find(|task| task.tile.start == noon()).unwrap();
    let tile = feed.after_listing(&task.tile, &task.window, 3, now, STILL);
    // It has been closed for three hours; the step at four is too near.
    assert_eq!(tile.next_listing_at, Some(noon() + hours(1 + 12)));
    assert_eq!((tile.closed_listings, tile.late_contents), (1, 0));
    assert_eq!(tile.listed_until, Some(noon() + hours(1)));
    let tile = feed.after_listing(&tile, &task.window, 2, now + hours(9), STILL);
    assert_eq!((tile.closed_listings, tile.late_contents), (2, 2));
}

#[test]
fn content_that_cannot_be_found_has_its_tile_listed_at_once() {
    let feed = schedule(noon());
    let mut tiles = Vec::new();
    list_all(&feed, &mut tiles, noon() + hours(5) + seconds(1));
    let now = noon() + hours(5) + seconds(5);
    assert_eq!(feed.plan(now, &tiles, Mode::AllDay), []);
    tiles[0] = list_again_now(&tiles[0], now);
    assert_eq!(windows(&feed.plan(now, &tiles, Mode::AllDay)), [(Reason::Again, noon(), noon() + hours(1))]);
}

#[test]
fn catching_up_lists_every_tile_within_reach_once() {
    let feed = schedule(noon() - hours(400));
    let mut tiles = Vec::new();
    let before = noon() + minutes(1);
    list_all(&feed, &mut tiles, before);
    let since = noon() + minutes(20);
    let now = since + seconds(3);
    let tasks = feed.plan(now, &tiles, Mode::CatchUp { since });
    assert_eq!(tasks.len(), tiles.len(), "those whose start has left the reach too, from the edge on");
    let done: Vec<Tile> =
        tasks.iter().map(|task| feed.after_listing(&task.tile, &task.window, 0, now, STILL)).collect();
    tiles = done;
    tiles.sort_by_key(|tile| tile.start);
    assert_eq!(feed.plan(now + minutes(30), &tiles, Mode::CatchUp { since }), [], "the run ends");
}

#[test]
fn a_tile_left_behind_half_listed_has_its_rest_listed_as_a_tile_of_its_own() {
    let feed = schedule(noon());
    let mut tiles = Vec::new();
    list_all(&feed, &mut tiles, noon() + minutes(20));
    // The collector comes back when 12:40 is the oldest that may be asked for.
    let now = noon() + minutes(40) + hours(167) + minutes(55);
    let tasks = feed.plan(now, &tiles, Mode::AllDay);
    let rest = tasks.iter().find(|task| task.tile.until == noon() + hours(1)).unwrap();
    assert_eq!((rest.tile.start, rest.window.start()), (noon() + minutes(40), noon() + minutes(40)));
    assert!(!tasks.iter().any(|task| task.tile.start == noon()));
    assert!(feed.wake_at(now, &tiles) >= now);
}

#[test]
fn what_is_due_but_out_of_reach_keeps_nobody_awake() {
    let feed = schedule(noon());
    let mut tiles = Vec::new();
    list_all(&feed, &mut tiles, noon() + minutes(20));
    let now = noon() + hours(24 * 20);
    assert_eq!(feed.wake_at(now, &tiles), now + hours(1) + seconds(1));
}

#[test]
fn a_clock_that_was_ahead_leaves_nothing_that_is_believed() {
    let feed = schedule(noon() - hours(3));
    let mut tiles = Vec::new();
    list_all(&feed, &mut tiles, noon() + hours(48));
    let now = noon() + minutes(10);
    let tasks = feed.plan(now, &tiles, Mode::AllDay);
    assert_eq!(tasks.len(), 4, "all that begin before the present");
    let present = tasks.iter().find(|task| task.tile.start == noon()).unwrap();
    let tile = feed.after_listing(&present.tile, &present.window, 0, now, STILL);
    assert_eq!((tile.listed_until, tile.listed_at, tile.closed_listings), (Some(now), Some(now), 0));
}

#[test]
fn a_new_grid_starts_where_the_old_tiles_end() {
    let old = schedule(noon() - hours(2));
    let mut tiles = Vec::new();
    list_all(&old, &mut tiles, noon() + minutes(10));
    let new = Schedule { grid: Grid::new(Duration::from_secs(6 * 3600)).unwrap(), ..old };
    let now = noon() + hours(3);
    let starts: Vec<_> =
        new.plan(now, &tiles, Mode::CatchUp { since: now }).iter().map(|task| task.tile.start).collect();
    assert!(starts.contains(&(noon() + hours(1))), "{starts:?}");
    let day = Schedule { grid: Grid::new(Duration::from_secs(24 * 3600)).unwrap(), ..old };
    let tasks = day.plan(now, &[], Mode::AllDay);
    assert_eq!(windows(&tasks), [(Reason::Fresh, at("2026-03-04T00:00:00Z"), now)]);
    let window = Window::new(at("2026-03-03T00:00:00Z"), at("2026-03-04T00:00:00Z"));
    assert!(window.is_ok(), "a whole day may still be asked for");
}
