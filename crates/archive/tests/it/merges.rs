//! Merging: the same records in fewer files, in order of time, and nothing changed for dedup.

use std::cell::Cell;

use archive::{Appended, ArchiveError};

use crate::world::{World, make_older, record};

const DAY: &str = "2026-03-04";

fn at(second: u32) -> String {
    format!("{DAY}T{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

#[test]
fn a_merge_keeps_bytes_and_commits_and_sorts_by_time() {
    let mut world = World::new();
    // Each commit out of order, and their times interleaved; one record of each without a time.
    for commit in 0..5 {
        let mut records: Vec<_> =
            (0..40).rev().map(|n| record(&format!("{commit}-{n}"), &at(n * 7 + commit), "")).collect();
        records.push(format!(r#"{{"Id":"untimed {commit}"}}"#));
        let mut writer = world.begin();
        for raw in &records {
            crate::world::append_from(&mut writer, "2026-03-04T23:00:00Z", raw.as_bytes());
        }
        let committed = writer.finish().unwrap();
        world.make_visible(committed);
    }
    let mut before = world.records();
    let merged = world.merge(DAY);
    assert_eq!(merged.len(), 1);
    assert_eq!((merged[0].rows, merged[0].untimed_rows), (205, 5));
    let after = world.records();
    let times: Vec<_> = after.iter().map(|record| record.creation_time).collect();
    assert!(times[..200].is_sorted() && times[..200].iter().all(Option::is_some));
    assert!(times[200..].iter().all(Option::is_none), "those without a time come last");
    let mut after = after;
    let by = |record: &archive::ArchivedRecord| (record.commit, record.raw.clone());
    before.sort_by_key(by);
    after.sort_by_key(by);
    assert_eq!(before, after);
    assert_eq!(world.segment_files().len(), 1, "the inputs are deleted");
}

#[test]
fn repeats_are_found_in_what_was_merged_and_merged_again() {
    let mut world = World::new();
    let records: Vec<_> = (0..100).map(|n| record(&n.to_string(), &at(n), "")).collect();
    records.chunks(10).for_each(|chunk| drop(world.store(chunk)));
    world.merge(DAY);
    assert_eq!(world.store(&records), [Appended::Duplicate; 100]);
    world.store(&[record("late", &at(50), "")]);
    let merged = world.merge(DAY);
    assert_eq!(merged[0].rows, 101);
    world.reopen();
    assert_eq!(world.store(&records), [Appended::Duplicate; 100]);
}

#[test]
fn segments_older_than_the_mark_of_variants_are_read_asked_and_merged_as_not_marked() {
    let mut world = World::new();
    let body = |id: &str, rest| record(id, &at(7), rest);
    world.store(&[body("a", "1"), body("a", "2"), body("b", "1")]);
    make_older(&world.archive, &mut world.visible[0]);
    world.reopen();
    assert_eq!(world.raw().len(), 3);
    assert!(world.records().iter().all(|record| !record.is_variant));
    assert_eq!(world.store(&[body("a", "2"), body("b", "2")]), [Appended::Duplicate, Appended::Variant]);
    let marked = |world: &World| -> Vec<_> {
        world.records().into_iter().filter(|record| record.is_variant).map(|record| record.raw).collect()
    };
    assert_eq!(marked(&world), [body("b", "2")]);
    let before = world.raw();
    for _ in 0..2 {
        world.merge(DAY);
        assert_eq!(marked(&world), [body("b", "2")]);
        assert_eq!(world.raw(), before);
    }
    // A date of nothing but older ones, sorted or not.
    world.store(&[record("c", "2026-03-05T00:00:00", "")]);
    make_older(&world.archive, world.visible.last_mut().unwrap());
    world.merge("2026-03-05");
    make_older(&world.archive, world.visible.last_mut().unwrap());
    world.merge("2026-03-05");
    assert_eq!(world.raw().len(), 5);
}

#[test]
fn more_than_fits_in_memory_is_sorted_all_the_same() {
    let mut world = World::new();
    let filler = "y".repeat(200_000);
    // 400 records of 200 kB: several runs, most of them spilled.
    let records: Vec<_> =
        (0..400_u32).map(|n| record(&format!("{n:03}"), &at(n * 7919 % 400), &format!("{filler}{n}"))).collect();
    records.chunks(100).for_each(|chunk| drop(world.store(chunk)));
    let before = world.raw();
    world.merge(DAY);
    let times: Vec<_> = world.records().into_iter().map(|record| record.creation_time).collect();
    assert!(times.is_sorted());
    assert!(world.raw() == before);
    assert!(world.files().iter().all(|name| !name.ends_with(".tmp")), "{:?}", world.files());
}

#[test]
fn more_sorted_segments_than_are_read_side_by_side_come_out_in_order() {
    let mut world = World::new();
    for n in 0..40 {
        // Merged alone, a segment becomes a sorted one.
        world.store(&[record(&format!("{n:02}b"), &at(100 - n), ""), record(&format!("{n:02}a"), &at(n), "")]);
        let alone = world.visible.pop().unwrap();
        let sorted = world.archive.merge(std::slice::from_ref(&alone), 1000 + u64::from(n), &|| false).unwrap();
        world.archive.delete_segments(&[alone]).unwrap();
        world.visible.extend(sorted);
    }
    world.last_commit = 2000;
    let before = world.raw();
    assert_eq!(world.merge(DAY)[0].rows, 80);
    assert!(world.records().into_iter().map(|record| record.creation_time).is_sorted());
    assert_eq!(world.raw(), before);
    assert!(world.files().iter().all(|name| !name.ends_with(".tmp")), "{:?}", world.files());
}

#[test]
fn a_stopped_merge_leaves_nothing_behind() {
    let mut world = World::new();
    for n in 0..20 {
        world.store(&[record(&n.to_string(), &at(n), "")]);
    }
    let files = world.files();
    // At every point where it may be stopped.
    for stop_at in 0.. {
        let asked = Cell::new(0);
        let stop = || asked.replace(asked.get() + 1) >= stop_at;
        match world.archive.merge(&world.visible, 100, &stop) {
            Err(ArchiveError::Stopped) => assert_eq!(world.files(), files, "stopped at {stop_at}"),
            Ok(_) => return assert!(stop_at > 20),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_damaged_input_is_named_and_nothing_is_written() {
    let mut world = World::new();
    for n in 0..3 {
        world.store(&[record(&n.to_string(), &at(n), "")]);
    }
    let path = world.archive.segment_path(&world.visible[1]);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let files = world.files();
    match world.archive.merge(&world.visible, 100, &|| false) {
        Err(ArchiveError::Damaged { path: named, .. }) => assert_eq!(named, path),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.files(), files);
}

#[test]
fn an_input_that_is_another_sound_file_is_refused() {
    let mut world = World::new();
    for n in 0..3 {
        world.store(&[record(&n.to_string(), &at(n), "")]);
    }
    let paths: Vec<_> = world.visible.iter().map(|segment| world.archive.segment_path(segment)).collect();
    std::fs::copy(&paths[0], &paths[2]).unwrap();
    match world.archive.merge(&world.visible, 100, &|| false) {
        Err(ArchiveError::Damaged { path, .. }) => assert_eq!(path, paths[2]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn inputs_that_do_not_belong_together_are_refused() {
    let mut world = World::new();
    world.store(&[record("a", "2026-03-04T00:00:00", ""), record("b", "2026-03-05T00:00:00", "")]);
    for inputs in [&world.visible[..], &[]] {
        assert!(matches!(world.archive.merge(inputs, 100, &|| false), Err(ArchiveError::MergeInput { .. })));
    }
    let one = &world.visible[..1];
    assert!(matches!(world.archive.merge(one, 1, &|| false), Err(ArchiveError::MergeInput { .. })));
}
