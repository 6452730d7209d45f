//! What the ledger does not know is deleted only where it is there another time, or is sure to come again.

use archive::{ArchiveError, Ownership, Removed, Segment, SetAside};

use crate::world::{World, append, record, tenant};

const DAY: &str = "2026-03-04T05:06:07";

/// A world whose ledger forgets all but the first `known` commits, and what it had seen by then.
fn restored(commits: usize, known: usize) -> (World, Vec<Segment>) {
    let mut world = World::new();
    for n in 0..commits {
        world.store(&[record(&n.to_string(), DAY, "")]);
    }
    let forgotten = world.visible.split_off(known);
    world.last_commit = known as u64;
    (world, forgotten)
}

fn removed(segments: u64, aside: u64) -> (u64, u64) {
    (segments, aside)
}

fn counts(what: Removed) -> (u64, u64) {
    (what.segments, what.aside)
}

fn aside(world: &World) -> usize {
    world.segment_files().iter().filter(|name| name.starts_with("_aside/")).count()
}

#[test]
fn what_the_feed_still_has_is_removed_and_what_it_may_not_have_is_set_aside() {
    // The last moment at which the day is recent enough, and the first at which it is not.
    for (now, expected) in [
        ("2026-03-08T23:59:59Z", removed(1, 0)),
        ("2026-03-09T00:00:00Z", removed(0, 1)),
        ("2027-01-01T00:00:00Z", removed(0, 1)),
    ] {
        let (world, forgotten) = restored(2, 1);
        assert_eq!(counts(world.clear_at(now, 1)), expected, "{now}");
        assert_eq!(aside(&world) as u64, expected.1, "{now}");
        assert!(!world.archive.segment_path(&forgotten[0]).exists(), "nobody reads it as a segment");
        assert_eq!(world.records().len(), 1);
    }
}

#[test]
fn a_date_that_lies_ahead_of_the_clock_proves_nothing() {
    for (now, expected) in [("2026-03-03T00:00:00Z", removed(1, 0)), ("2026-03-02T23:59:59Z", removed(0, 1))] {
        let (world, _) = restored(1, 0);
        assert_eq!(counts(world.clear_at(now, 0)), expected, "{now}");
    }
}

#[test]
fn more_than_one_crash_can_leave_is_set_aside_whole_and_byte_for_byte() {
    let (world, forgotten) = restored(7, 4);
    let before: Vec<_> =
        forgotten.iter().map(|segment| std::fs::read(world.archive.segment_path(segment)).unwrap()).collect();
    assert_eq!(counts(world.clear(4)), removed(0, 3));
    for (segment, bytes) in forgotten.iter().zip(before) {
        let moved = world.archive.root().join("_aside").join(segment.path());
        assert_eq!(std::fs::read(moved).unwrap(), bytes);
    }
    assert_eq!(counts(world.clear(4)), removed(0, 0), "a second start finds nothing");
    assert_eq!(world.records().len(), 4);
    // Two may be a commit and a merge.
    let (world, _) = restored(7, 5);
    assert_eq!(counts(world.clear(5)), removed(2, 0));
}

#[test]
fn a_merge_of_what_the_ledger_holds_for_archived_is_removed_only_while_its_inputs_are_sound() {
    for lost in [false, true] {
        let mut world = World::new();
        world.store(&[record("a", DAY, "")]);
        world.store(&[record("b", DAY, "")]);
        let merged = world.archive.merge(&world.visible, 3, &|| false).unwrap();
        if lost {
            // As after a restore to before the merge, when its inputs have been deleted since; a sidecar is left over.
            std::fs::remove_file(world.archive.segment_path(&world.visible[0])).unwrap();
        }
        // A crash before the ledger heard of it, however old the date.
        let expected = if lost { removed(0, 1) } else { removed(1, 0) };
        assert_eq!(counts(world.clear_at("2026-06-01T00:00:00Z", 2)), expected);
        assert!(!world.archive.segment_path(&merged[0]).exists());
    }
}

#[test]
fn a_segment_that_cannot_be_read_is_set_aside() {
    let (world, forgotten) = restored(1, 0);
    std::fs::write(world.archive.segment_path(&forgotten[0]), b"no Parquet").unwrap();
    assert_eq!(counts(world.clear(0)), removed(0, 1));
}

#[test]
fn a_name_set_aside_twice_is_kept_twice_and_a_purge_takes_both() {
    let mut world = World::new();
    for _ in 0..2 {
        let mut writer = world.begin();
        append(&mut writer, record("a", DAY, "").as_bytes());
        writer.finish().unwrap();
        assert_eq!(counts(world.clear_at("2026-06-01T00:00:00Z", 0)), removed(0, 1));
    }
    assert_eq!(aside(&world), 2);
    let told = archive::set_aside(&world.options).unwrap();
    let folder = world.archive.aside_folder(tenant()).join("date=2026-03-04");
    let bytes = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert_eq!(told, [SetAside { tenant: tenant(), files: 2, bytes }]);
    world.reopen();
    world.purge(0);
    assert_eq!(aside(&world), 0);
    assert_eq!(archive::set_aside(&world.options).unwrap(), []);
}

#[test]
fn an_archive_belongs_to_the_ledger_its_mark_names() {
    let mut world = World::new();
    assert_eq!(world.archive.ownership("one").unwrap(), Ownership::Vacant);
    archive::refuse_new_ledger(&world.options).unwrap();
    world.store(&[record("a", DAY, "")]);
    assert_eq!(world.archive.ownership("one").unwrap(), Ownership::Unmarked);
    world.archive.set_owner("one").unwrap();
    world.reopen();
    assert_eq!(world.archive.ownership("one").unwrap(), Ownership::Ours);
    let error = world.archive.ownership("two").unwrap_err();
    assert!(matches!(&error, ArchiveError::OtherLedger { owner: Some(owner), .. } if owner == "one"), "{error}");
    for words in ["ledger one", "ledger two", "restore the ledger", "set the archive folder aside"] {
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
    let error = archive::refuse_new_ledger(&world.options).unwrap_err();
    assert!(error.to_string().contains("which is not there"), "{error}");
    let nowhere = archive::ArchiveOptions::at(world.archive.root().join("nowhere"));
    archive::refuse_new_ledger(&nowhere).unwrap();
}
