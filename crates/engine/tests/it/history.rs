//! Random lives of one feed: time passes, listings are made or not, content appears in time or late, the ledger is folded.
//!
//! The fault model: any listing may be left out, outages last up to weeks, content appears up to three days late, the grid
//! is any that is allowed. What must hold then: tiles never overlap, nothing is asked that may not be asked, every span is
//! a tile or a gap, and the claim of completeness is true of everything that appeared in time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::TimeDelta;
use engine::coverage::Evidence;
use engine::model::{Gap, Jitter, Tile};
use engine::tile::{Grid, Mode, Reason, Schedule};
use proptest::prelude::*;
use protocol::activity::{LISTING_REACH, RETENTION};
use protocol::time::Timestamp;

use crate::{noon, seconds};

#[derive(Debug, Clone)]
enum Step {
    /// Time passes, in seconds.
    Pass(i64),
    /// The collector makes the most pressing listings, at most so many.
    List(usize),
    /// It catches up on everything.
    CatchUp,
    /// What has expired a day ago is settled.
    Fold,
}

#[derive(Debug, Clone)]
struct Life {
    grid_seconds: u64,
    collect_from_hours: i64,
    /// Content created so many seconds after the beginning (or before it), and how late it appears.
    contents: Vec<(i64, i64)>,
    steps: Vec<Step>,
    seed: u64,
}

fn lives() -> impl Strategy<Value = Life> {
    let step = prop_oneof![
        6 => (1_i64..3 * 3600).prop_map(Step::Pass),
        1 => (3600_i64..12 * 86_400).prop_map(Step::Pass),
        6 => (1_usize..200).prop_map(Step::List),
        1 => Just(Step::CatchUp),
        1 => Just(Step::Fold),
    ];
    let content = (-8 * 86_400_i64..25 * 86_400, prop_oneof![2 => Just(0_i64), 1 => 0_i64..3 * 86_400]);
    (
        prop_oneof![Just(3600_u64), Just(900), Just(6 * 3600), Just(86_400)],
        -24 * 9_i64..3,
        prop::collection::vec(content, 0..40),
        prop::collection::vec(step, 1..40),
        any::<u64>(),
    )
        .prop_map(|(grid_seconds, collect_from_hours, contents, steps, seed)| Life {
            grid_seconds,
            collect_from_hours,
            contents,
            steps,
            seed,
        })
}

/// What a ledger keeps of one feed.
struct Feed {
    schedule: Schedule,
    first_seen_at: Timestamp,
    began: Option<Timestamp>,
    settled_through: Option<Timestamp>,
    gaps: Vec<Gap>,
    tiles: BTreeMap<Timestamp, Tile>,
    known: BTreeSet<usize>,
    claimed: Option<Timestamp>,
    lists: u64,
}

impl Feed {
    fn tiles(&self) -> Vec<Tile> {
        self.tiles.values().cloned().collect()
    }

    fn list(&mut self, life: &Life, now: Timestamp, mode: Mode, most: usize) {
        let tasks = self.schedule.plan(now, &self.tiles(), mode);
        let wake = self.schedule.wake_at(now, &self.tiles());
        assert!(wake >= now, "never wakes in the past");
        for task in tasks.into_iter().take(most) {
            let window = task.window;
            let edge = now - TimeDelta::from_std(LISTING_REACH).unwrap();
            assert!(window.start() >= edge, "asks beyond the reach: {window} at {now}");
            let ahead = if mode == Mode::AllDay { seconds(0) } else { seconds(1) };
            assert!(window.until() <= now + ahead, "asks for the future: {window} at {now}");
            assert!(window.length() <= Duration::from_secs(86_400));
            assert!(
                window.start() == task.tile.start || task.reason == Reason::Again,
                "only a tile listed whole is cut"
            );
            let mut new = 0;
            for (number, (created, late)) in life.contents.iter().enumerate() {
                let created = noon() + seconds(*created);
                let there = now >= created + seconds(*late) && now < created + TimeDelta::from_std(RETENTION).unwrap();
                if there && window.contains(created) && self.known.insert(number) {
                    new += 1;
                }
            }
            self.lists += 1;
            let jitter = Jitter { seed: life.seed.wrapping_add(self.lists), percent: 20 };
            let tile = self.schedule.after_listing(&task.tile, &window, new, now, jitter);
            self.began = match (self.settled_through, self.began) {
                (None, Some(began)) => Some(began.min(tile.start)),
                (None, None) => Some(tile.start),
                (Some(_), began) => began,
            };
            self.keep(tile);
        }
    }

    /// As the ledger: a tile that begins where another has been listed to cuts that one short.
    fn keep(&mut self, tile: Tile) {
        if let Some((_, other)) = self.tiles.range_mut(..tile.start).next_back()
            && other.until > tile.start
        {
            assert!(other.listed_until.is_none_or(|listed| listed <= tile.start), "{other:?} overlaps {tile:?}");
            other.until = tile.start;
        }
        let next = self.tiles.range(tile.start..).map(|(_, next)| next).find(|next| next.start != tile.start);
        assert!(next.is_none_or(|next| next.start >= tile.until), "{tile:?} overlaps {next:?}");
        self.tiles.insert(tile.start, tile);
    }

    fn fold(&mut self, before: Timestamp) {
        let tiles = self.tiles();
        let Some(settlement) = self.evidence(&tiles).settle(before) else { return };
        self.gaps.extend(&settlement.gaps);
        for start in &settlement.tiles {
            self.tiles.remove(start);
        }
        assert!(self.settled_through.is_none_or(|through| through < settlement.through));
        self.settled_through = Some(settlement.through);
    }

    fn evidence<'t>(&self, tiles: &'t [Tile]) -> Evidence<'t> {
        Evidence {
            collect_from: self.schedule.collect_from,
            first_seen_at: self.first_seen_at,
            began: self.began,
            settled_through: self.settled_through,
            tiles,
            oldest_unarchived: None,
        }
    }

    /// What is claimed is true, and is never taken back.
    fn check(&mut self, life: &Life, now: Timestamp) {
        let tiles = self.tiles();
        let evidence = self.evidence(&tiles);
        let from = evidence.from();
        let said = evidence.assess();
        assert!(said.complete_through.is_none_or(|through| through <= now), "claims the future");
        assert!(said.complete_through >= self.claimed, "takes back {:?} for {:?}", self.claimed, said.complete_through);
        let named: Vec<Gap> = self.gaps.iter().chain(&said.gaps).copied().collect();
        if let Some(through) = said.complete_through {
            for (number, (created, late)) in life.contents.iter().enumerate() {
                let created = noon() + seconds(*created);
                let in_gap = named.iter().any(|gap| gap.start <= created && created < gap.until);
                if *late == 0 && from <= created && created < through && !in_gap {
                    assert!(self.known.contains(&number), "claims through {through} without {created}; gaps {named:?}");
                }
            }
        }
        let oldest = evidence.oldest_unarchived;
        assert_eq!(oldest, None);
        let limited = Evidence { oldest_unarchived: said.complete_through, ..evidence };
        assert_eq!(limited.assess().complete_through, said.complete_through, "a border is not passed");
        self.claimed = said.complete_through;
    }
}

fn live(life: &Life) -> Feed {
    let mut now = noon();
    let mut feed = Feed {
        schedule: Schedule {
            grid: Grid::new(Duration::from_secs(life.grid_seconds)).unwrap(),
            poll_interval: Duration::from_secs(60),
            phase: Duration::ZERO,
            collect_from: Grid::HOUR.floor(now + TimeDelta::hours(life.collect_from_hours)),
        },
        first_seen_at: now,
        began: None,
        settled_through: None,
        gaps: Vec::new(),
        tiles: BTreeMap::new(),
        known: BTreeSet::new(),
        claimed: None,
        lists: 0,
    };
    for step in &life.steps {
        match step {
            Step::Pass(span) => now += seconds(*span),
            Step::List(most) => feed.list(life, now, Mode::AllDay, *most),
            Step::CatchUp => feed.list(life, now, Mode::CatchUp { since: now }, usize::MAX),
            Step::Fold => feed.fold(now - TimeDelta::days(1)),
        }
        feed.check(life, now);
    }
    // In the end everything that is still offered and has appeared is found by catching up once.
    for _ in 0..2 {
        // Twice: a tile that was left behind is cut by the listing of its rest, and then listed again itself.
        feed.list(life, now, Mode::CatchUp { since: now }, usize::MAX);
        feed.check(life, now);
    }
    assert_eq!(feed.schedule.plan(now, &feed.tiles(), Mode::CatchUp { since: now }), [], "a run ends");
    let edge = now - TimeDelta::from_std(LISTING_REACH).unwrap() + seconds(1);
    for (number, (created, late)) in life.contents.iter().enumerate() {
        let created = noon() + seconds(*created);
        // The first second of what may be asked for may fall to the rounding of the edge.
        let there = created > edge && created + seconds(*late) <= now;
        if there && created >= feed.schedule.collect_from {
            assert!(feed.known.contains(&number), "{created} (late by {late} s) was never found; now {now}");
        }
    }
    feed
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn the_claim_is_true_and_everything_offered_is_found(life in lives()) {
        live(&life);
    }
}

#[test]
fn a_feed_that_is_polled_without_fault_finds_late_content_and_has_no_gap() {
    let contents = (0..200).map(|number| (number * 3000, (number % 9) * (number % 9) * 5000)).collect();
    let steps = (0..12 * 24 * 6).flat_map(|_| [Step::Pass(600), Step::List(50)]).collect();
    let life = Life { grid_seconds: 3600, collect_from_hours: 0, contents, steps, seed: 7 };
    let feed = live(&life);
    assert_eq!(feed.known.len(), life.contents.len(), "all of it, up to 320,000 s late");
    assert_eq!(feed.gaps, []);
    let listings = feed.lists as f64 / (12.0 * 24.0);
    assert!(listings < 16.0, "{listings} listings an hour: six of the present tile, nine of a closed one");
}
