//! The plan holds together: nothing is lost or made twice between slots, and every id leads back to its content.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;

fn world(seed: u64, history_hours: u64, live_rate: f64) -> World {
    let options = WorldOptions {
        seed,
        tenants: 2,
        records_total: Some(3000),
        live_rate,
        history: Duration::from_secs(history_hours * 3600),
        start: DateTime::from_timestamp(1_798_754_437, 0),
        duplicates: Duplicates { recut: 0.2, ..Duplicates::default() },
        lateness: Lateness { share: 0.1, ..Lateness::default() },
        ..WorldOptions::default()
    };
    let clock = EmulatorClock::frozen(DateTime::from_timestamp(1_798_754_437, 0).unwrap_or_default());
    World::new(options, clock).unwrap()
}

/// Every content of a feed up to some hours after the start.
fn contents(world: &World, feed: &Feed, hours: i64) -> Vec<Content> {
    let end = feed.slot_of(&world.timeline, world.timeline.start() + hours * 3_600_000);
    (0..=end).flat_map(|slot| world.slot_contents(feed, slot)).collect()
}

#[test]
fn slots_follow_each_other_without_gap_or_overlap() {
    for (seed, history) in [(1, 0), (2, 1), (3, 24), (4, 145)] {
        let world = world(seed, history, 5.0);
        for tenant in world.tenants() {
            for feed in &tenant.feeds {
                let (mut end, last) =
                    (world.timeline.begin(), feed.slot_of(&world.timeline, world.timeline.start()) + 30);
                for slot in 0..last {
                    let (from, until) = feed.slot_span(&world.timeline, slot);
                    assert_eq!(from, end, "seed {seed}, slot {slot}");
                    assert!(until > from);
                    assert_eq!(feed.slot_of(&world.timeline, from), slot, "seed {seed}");
                    assert_eq!(feed.slot_of(&world.timeline, until - 1), slot, "seed {seed}");
                    end = until;
                }
            }
        }
    }
}

#[test]
fn each_record_is_new_in_exactly_one_content() {
    for seed in 1..6 {
        let world = world(seed, 100, 30.0);
        let mut sum = 0;
        for tenant in world.tenants() {
            for feed in &tenant.feeds {
                let mut numbers: Vec<u64> = contents(&world, feed, 5)
                    .iter()
                    .flat_map(|content| content.pieces.iter().flat_map(|piece| piece.records.0..piece.records.1))
                    .collect();
                numbers.sort_unstable();
                assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "seed {seed}: {}", feed.kind);
                assert!(numbers.len() as u64 >= feed.history, "seed {seed}");
                sum += feed.history;
            }
        }
        assert_eq!(sum, 3000);
    }
}

#[test]
fn every_id_is_unique_and_leads_back_to_its_content() {
    for seed in 1..4 {
        let world = world(seed, 100, 30.0);
        let far = world.timeline.start() + 30 * 86_400_000;
        for tenant in world.tenants() {
            let mut ids = BTreeSet::new();
            for feed in &tenant.feeds {
                for content in contents(&world, feed, 5) {
                    let id = world.content_id(&tenant, &feed.kind, &content);
                    assert!(ids.insert(id.clone()), "seed {seed}: {id} twice");
                    let found = world.find_content(&tenant, &id, far);
                    let Found::Content { kind, whole, .. } = found else { panic!("seed {seed}: {id} is {found:?}") };
                    assert_eq!((kind, whole.span()), (feed.kind.clone(), content.span()));
                }
            }
        }
    }
}

#[test]
fn content_is_available_after_its_creation_and_history_by_the_start_unless_late() {
    let world = world(9, 100, 0.0);
    let late_min = feed::span(world.options.lateness.min);
    let mut late = 0;
    for tenant in world.tenants() {
        for feed in &tenant.feeds {
            for content in contents(&world, feed, 0) {
                let delay = content.available - content.created();
                assert!(delay >= 0);
                if delay >= late_min {
                    late += 1;
                } else {
                    assert!(content.available <= world.timeline.start());
                }
                assert!(content.pieces.windows(2).all(|pair| pair[0].stamp.at < pair[1].stamp.at));
            }
        }
    }
    assert!(late > 10, "{late}");
}

#[test]
fn any_border_parts_a_content_without_loss() {
    let world = world(5, 100, 0.0);
    for tenant in world.tenants() {
        for feed in &tenant.feeds {
            for content in contents(&world, feed, 0) {
                for border in content.pieces.iter().map(|piece| piece.stamp.at) {
                    let (left, right) = (content.within(Millis::MIN, border), content.within(border, Millis::MAX));
                    let parts: Vec<RecordRef> =
                        left.iter().chain(&right).flat_map(|part| part.records().collect::<Vec<_>>()).collect();
                    assert_eq!(parts, content.records().collect::<Vec<_>>());
                    for part in left.iter().chain(&right) {
                        assert_eq!(content.part(part.span().unwrap()).unwrap().len(), part.len());
                    }
                }
            }
        }
    }
}

#[test]
fn a_million_records_are_planned_without_being_made() {
    let options = WorldOptions { records_total: Some(1_000_000), tenants: 3, ..WorldOptions::default() };
    let clock = EmulatorClock::frozen(DateTime::from_timestamp(1_798_754_437, 0).unwrap_or_default());
    let world = World::new(options, clock).unwrap();
    let tenant = world.tenants()[0].clone();
    let feed = &tenant.feeds[1];
    let now = world.now_millis();
    let listed = world.list(&tenant, feed, (now - 3_600_000, now), now, |_| true);
    assert!(!listed.is_empty());
    let made = feed.made_at(&world.timeline, feed.history - 1);
    assert!(made > now - 86_400_000 && made < now);
}
