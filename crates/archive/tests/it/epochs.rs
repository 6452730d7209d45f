//! An owner of a tenant that was stopped for long, and wakes up beside the one that has followed it, harms nothing of what that
//! one has written, whatever it does before it asks the ledger again.

use std::sync::Arc;

use archive::{Archive, ArchiveError, ContentRef, NewCommit, Removed, SegmentSet};
use protocol::ids::ContentType;

use crate::world::{World, append, record, tenant, time};

const DAY: &str = "2026-03-04T05:06:07";

fn begin(archive: &Archive, number: u64, visible: &SegmentSet) -> archive::CommitWriter {
    let ingested_at = time("2026-03-06T12:00:00Z");
    archive.begin(NewCommit { tenant: tenant(), number, visible: Arc::new(visible.clone()), ingested_at }).unwrap()
}

fn clear(archive: &Archive, known: &SegmentSet, last_commit: u64) -> Removed {
    archive.remove_orphans(tenant(), known, last_commit, time("2026-03-06T12:00:00Z")).unwrap()
}

fn reject(writer: &mut archive::CommitWriter) {
    let content_id = "c".parse().unwrap();
    let content = ContentRef {
        content_type: &ContentType::General,
        content_id: &content_id,
        created: time("2026-03-04T05:06:07Z"),
    };
    writer.quarantine(&content, b"rubbish", "it is rubbish").unwrap();
}

#[test]
fn two_owners_that_write_one_commit_number_have_no_file_in_common() {
    let mut world = World::new();
    let (early, late) = (world.archive.under(1), world.archive.under(2));
    let nothing = SegmentSet::default();
    // The first writes its first commit and is stopped before it has told the ledger; the second begins with a clean house.
    let mut writer = begin(&early, 1, &nothing);
    append(&mut writer, record("a", DAY, "").as_bytes());
    let lost = writer.finish().unwrap();
    assert_eq!(clear(&late, &nothing, 0).segments, 1);
    let mut writer = begin(&late, 1, &nothing);
    append(&mut writer, record("b", DAY, "").as_bytes());
    reject(&mut writer);
    let committed = writer.finish().unwrap();
    let piece = committed.quarantined[0].clone();
    let known: SegmentSet = committed.segments.iter().cloned().collect();
    world.make_visible(committed);
    // It is at its second when the first wakes up, believes in what it knew, and goes through everything it may be at.
    let mut second = begin(&late, 2, &known);
    append(&mut second, record("c", DAY, "").as_bytes());
    early.discard(&lost).unwrap();
    assert_eq!(clear(&early, &nothing, 0), Removed { left: 1, ..Removed::default() });
    let mut writer = begin(&early, 1, &nothing);
    append(&mut writer, record("d", DAY, "").as_bytes());
    reject(&mut writer);
    let committed = writer.finish().unwrap();
    assert_ne!(committed.segments[0].path(), world.visible[0].path());
    early.discard(&committed).unwrap();
    let mut writer = begin(&early, 1, &nothing);
    append(&mut writer, record("e", DAY, "").as_bytes());
    reject(&mut writer);
    writer.abandon().unwrap();
    let merged = early.merge(&world.visible, 2, &|| false).unwrap();
    // Nothing of it has come to anything, and the second has all it had.
    world.make_visible(second.finish().unwrap());
    assert_eq!(world.raw(), [record("b", DAY, ""), record("c", DAY, "")]);
    assert_eq!(late.verify_quarantined(&piece.path, piece.bytes, &piece.digest).unwrap(), None);
    for segment in &world.visible {
        assert!(world.sidecar_path(segment).exists());
    }
    // What the first has left goes when the tenant is taken the next time.
    assert!(late.segment_path(&merged[0]).exists());
    assert_eq!(clear(&world.archive.under(3), &world.set(), 2).segments, 1);
    assert!(!late.segment_path(&merged[0]).exists());
    assert_eq!(world.raw().len(), 2);
}

#[test]
fn what_is_being_written_is_left_to_a_later_owner_and_cleared_from_an_earlier_one() {
    let world = World::new();
    let (early, late) = (world.archive.under(1), world.archive.under(2));
    let nothing = SegmentSet::default();
    // Large enough that its file is open before the end.
    let filler = "x".repeat(600 << 10);
    let mut of_late = begin(&late, 1, &nothing);
    append(&mut of_late, record("a", DAY, &filler).as_bytes());
    let open = || world.files().iter().filter(|name| name.ends_with(".tmp")).count();
    assert_eq!((open(), clear(&early, &nothing, 0).temporary, open()), (1, 0, 1));
    let mut of_early = begin(&early, 1, &nothing);
    append(&mut of_early, record("b", DAY, &filler).as_bytes());
    assert_eq!((open(), clear(&late, &nothing, 0).temporary, open()), (2, 2, 0), "its own are what a crash has left");
    of_early.finish().unwrap_err();
    of_late.finish().unwrap_err();
}

#[test]
fn a_file_that_lies_where_another_is_to_go_is_never_replaced() {
    let mut world = World::new();
    world.store(&[record("a", DAY, "")]);
    let bytes = std::fs::read(world.archive.segment_path(&world.visible[0])).unwrap();
    // As after a ledger was restored from an older copy while nobody looked.
    let mut writer = begin(&world.archive, 1, &SegmentSet::default());
    append(&mut writer, record("b", DAY, "").as_bytes());
    let before = world.files();
    let error = writer.finish().unwrap_err();
    assert!(matches!(&error, ArchiveError::Occupied { place } if place.ends_with("1-0.parquet")), "{error}");
    assert_eq!(std::fs::read(world.archive.segment_path(&world.visible[0])).unwrap(), bytes);
    assert_eq!(world.files(), before, "and nothing is left of the attempt");
}
