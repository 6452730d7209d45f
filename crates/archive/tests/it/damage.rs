//! Files broken on purpose: every flipped bit of a segment is found and named, and a broken sidecar costs only time.

use archive::{Appended, ArchiveError, Depth};

use crate::world::{World, append, record, tenant};

const DAY: &str = "2026-03-04T05:06:07";

fn world_of(records: u32) -> (World, Vec<String>) {
    let mut world = World::new();
    let records: Vec<_> = (0..records).map(|n| record(&n.to_string(), DAY, "")).collect();
    world.store(&records);
    (world, records)
}

#[test]
fn a_sound_archive_verifies_at_both_depths() {
    let (mut world, records) = world_of(300);
    world.store(&[record("later", DAY, "")]);
    for depth in [Depth::Digest, Depth::Records] {
        let mut seen = 0;
        let verified = world.archive.verify(&world.visible, depth, |_| seen += 1).unwrap();
        assert_eq!(verified.damaged, []);
        assert_eq!((verified.segments, verified.rows, seen), (2, records.len() as u64 + 1, 2));
    }
}

#[test]
fn any_flipped_bit_of_a_segment_is_found_and_named() {
    let (world, _) = world_of(3);
    let path = world.archive.segment_path(&world.visible[0]);
    let whole = std::fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&path, bytes).unwrap();
        let verified = world.archive.verify(&world.visible, Depth::Digest, |_| ()).unwrap();
        assert_eq!(verified.damaged.len(), 1, "byte {at}");
        assert_eq!(verified.damaged[0].path, path);
    }
}

#[test]
fn a_segment_that_is_missing_cut_off_or_replaced_is_found() {
    let (mut world, _) = world_of(3);
    world.store(&[record("other", DAY, "")]);
    let paths: Vec<_> = world.visible.iter().map(|segment| world.archive.segment_path(segment)).collect();
    let whole = std::fs::read(&paths[0]).unwrap();
    let problem = |world: &World| {
        let verified = world.archive.verify(&world.visible, Depth::Records, |_| ()).unwrap();
        let problems: Vec<_> = verified.damaged.into_iter().map(|damage| damage.problem).collect();
        problems.join("; ")
    };
    std::fs::write(&paths[0], &whole[..whole.len() - 1]).unwrap();
    assert!(problem(&world).contains("bytes instead of"));
    std::fs::copy(&paths[1], &paths[0]).unwrap();
    assert!(!problem(&world).is_empty());
    std::fs::remove_file(&paths[0]).unwrap();
    assert_eq!(problem(&world), "the file is missing");
}

#[test]
fn records_that_are_not_those_first_stored_are_found_even_when_the_ledger_agrees() {
    let (world, _) = world_of(3);
    let mut segment = world.visible[0].clone();
    let path = world.archive.segment_path(&segment);
    let mut bytes = std::fs::read(&path).unwrap();
    let name = b"tenantry.fingerprint";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len();
    let digit = at + bytes[at..].iter().position(u8::is_ascii_hexdigit).unwrap();
    bytes[digit] = if bytes[digit] == b'0' { b'1' } else { b'0' };
    std::fs::write(&path, &bytes).unwrap();
    segment.digest = *blake3::hash(&bytes).as_bytes();
    let verify = |depth| world.archive.verify(std::slice::from_ref(&segment), depth, |_| ()).unwrap().damaged;
    assert_eq!(verify(Depth::Digest), []);
    assert_eq!(verify(Depth::Records)[0].problem, "its records are not those its footer promises");
}

#[test]
fn the_same_rubbish_in_two_contents_is_two_pieces_each_with_a_note_of_its_own() {
    let world = World::new();
    let mut writer = world.begin();
    for id in ["a", "b", "a"] {
        let content = archive::ContentRef {
            content_type: &protocol::ids::ContentType::DlpAll,
            content_id: &id.parse().unwrap(),
            created: crate::world::time(DAY),
        };
        writer.quarantine(&content, b"null", "no object").unwrap();
    }
    let kept = writer.finish().unwrap().quarantined;
    assert_eq!(kept[0].path, kept[2].path, "what comes again with its content is the same piece");
    assert_ne!(kept[0].path, kept[1].path);
    for piece in &kept {
        let path = world.archive.root().join(&piece.path);
        assert_eq!(std::fs::read(&path).unwrap(), b"null");
        let note = std::fs::read_to_string(path.with_extension("json")).unwrap();
        assert!(note.contains(&format!("\"content_id\":\"{}\"", piece.content_id)), "{note}");
    }
}

#[test]
fn a_piece_in_quarantine_that_a_crash_cut_off_is_written_again() {
    let world = World::new();
    let content_id = "c".parse().unwrap();
    let content = archive::ContentRef {
        content_type: &protocol::ids::ContentType::General,
        content_id: &content_id,
        created: crate::world::time(DAY),
    };
    let mut writer = world.begin();
    writer.quarantine(&content, b"rubbish", "no record").unwrap();
    let kept = writer.finish().unwrap().quarantined.remove(0);
    let path = world.archive.root().join(&kept.path);
    std::fs::write(&path, "rub").unwrap();
    let mut writer = world.begin();
    writer.quarantine(&content, b"rubbish", "no record").unwrap();
    writer.finish().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"rubbish");
}

#[test]
fn a_piece_in_quarantine_that_has_changed_is_found_and_named() {
    let world = World::new();
    let content_id = "c".parse().unwrap();
    let content = archive::ContentRef {
        content_type: &protocol::ids::ContentType::General,
        content_id: &content_id,
        created: crate::world::time(DAY),
    };
    let mut writer = world.begin();
    writer.quarantine(&content, b"rubbish", "no record").unwrap();
    let kept = writer.finish().unwrap().quarantined.remove(0);
    let path = world.archive.root().join(&kept.path);
    let problem = || world.archive.verify_quarantined(&kept.path, kept.bytes, &kept.digest).unwrap();
    assert_eq!(problem(), None);
    for (at, _) in b"rubbish".iter().enumerate() {
        let mut bytes = b"rubbish".to_vec();
        bytes[at] ^= 1 << at;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(problem().unwrap(), "its bytes have changed since it was written", "byte {at}");
    }
    std::fs::write(&path, "rubbis").unwrap();
    assert_eq!(problem().unwrap(), "it has 6 bytes instead of 7");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(problem().unwrap(), "the file is missing");
}

#[test]
fn a_broken_or_missing_sidecar_is_made_again_and_dedup_stays_exact() {
    let (mut world, records) = world_of(200);
    let path = world.sidecar_path(&world.visible[0]);
    let whole = std::fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(37).chain([0, whole.len() - 1]) {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        std::fs::write(&path, bytes).unwrap();
        world.reopen();
        assert_eq!(world.store(&records), [Appended::Duplicate; 200], "byte {at}");
    }
    for length in [0, 1, 50, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        world.reopen();
        assert_eq!(world.store(&records), [Appended::Duplicate; 200], "cut to {length}");
        assert!(std::fs::read(&path).unwrap() == whole, "it was made again");
    }
    std::fs::remove_dir_all(world.archive.root().join("_dedup")).unwrap();
    // With its head still in memory, too.
    assert_eq!(world.store(&records), [Appended::Duplicate; 200]);
    assert!(std::fs::read(&path).unwrap() == whole);
}

#[test]
fn deleted_sidecars_are_made_again_when_they_are_asked_for() {
    let (mut world, records) = world_of(200);
    let mut writer = world.begin();
    append(&mut writer, b"{}");
    let untimed = writer.finish().unwrap();
    world.make_visible(untimed);
    assert_eq!(world.archive.delete_sidecars(&world.visible).unwrap(), 1);
    assert!(!world.sidecar_path(&world.visible[0]).exists());
    assert!(world.sidecar_path(&world.visible[1]).exists(), "records without a time are asked for ever");
    assert_eq!(world.archive.delete_sidecars(&world.visible).unwrap(), 0);
    assert_eq!(world.store(&records), [Appended::Duplicate; 200]);
    assert!(world.sidecar_path(&world.visible[0]).exists());
}

#[test]
fn a_damaged_segment_does_not_stop_collection_and_is_reported() {
    let (mut world, records) = world_of(3);
    let path = world.archive.segment_path(&world.visible[0]);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    // While the sidecar is sound it is enough.
    world.reopen();
    assert_eq!(world.store(&records), [Appended::Duplicate; 3]);
    // Without it nobody can say what the segment held: what comes again is stored again.
    std::fs::remove_file(world.sidecar_path(&world.visible[0])).unwrap();
    world.reopen();
    let mut writer = world.begin();
    assert_eq!(append(&mut writer, records[0].as_bytes()), Appended::New);
    let committed = writer.finish().unwrap();
    assert_eq!(committed.damaged.len(), 1);
    assert_eq!(committed.damaged[0].path, path);
}

#[test]
fn with_the_whole_archive_gone_a_commit_fails_instead_of_storing_everything_again() {
    let (world, records) = world_of(3);
    let mut writer = world.begin();
    std::fs::remove_dir_all(world.archive.root()).unwrap();
    let content_id = "c".parse().unwrap();
    let content = archive::ContentRef {
        content_type: &protocol::ids::ContentType::General,
        content_id: &content_id,
        created: crate::world::time(DAY),
    };
    let error = writer.append(&content, records[0].as_bytes()).unwrap_err();
    assert!(matches!(error, ArchiveError::Io { .. }), "{error}");
    let again = writer.append(&content, records[0].as_bytes()).unwrap_err();
    assert!(matches!(again, ArchiveError::Failed { commit: 2, .. }), "{again}");
}

/// A name that takes no byte: the device that is always full, in the place of a file about to be written.
#[cfg(target_os = "linux")]
fn make_full(path: &std::path::Path) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/dev/full", path).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_fails_the_commit_with_its_remedy_and_the_next_one_stores_everything() {
    let mut world = World::new();
    let folder = world.archive.root().join(format!("tenant={}/date=2026-03-04", tenant()));
    make_full(&folder.join(".1-0.parquet.tmp"));
    let before = world.segment_files();
    let raw = record("a", DAY, "");
    let mut writer = world.begin();
    append(&mut writer, raw.as_bytes());
    let error = writer.finish().unwrap_err();
    assert!(error.is_disk_full(), "{error:?}");
    assert!(error.to_string().contains(".1-0.parquet.tmp: free space on the disk"), "{error}");
    assert_eq!(world.segment_files(), before);
    assert!(world.files().iter().all(|name| !name.ends_with(".tmp")), "{:?}", world.files());
    assert_eq!(world.store(&[&raw]), [Appended::New]);
    assert_eq!(world.raw(), [raw]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_sidecar_that_cannot_be_written_costs_the_commit_nothing() {
    let mut world = World::new();
    let raw = record("a", DAY, "");
    let sidecar = world.archive.root().join(format!("_dedup/tenant={}/date=2026-03-04/1-0.keys", tenant()));
    make_full(&sidecar.with_extension("keys.tmp"));
    assert_eq!(world.store(&[&raw]), [Appended::New]);
    assert!(!sidecar.exists());
    assert_eq!(world.store(&[&raw]), [Appended::Duplicate]);
    assert!(sidecar.exists());
}

#[test]
fn orphans_and_temporary_files_go_and_everything_else_stays() {
    let (mut world, _) = world_of(3);
    let mut writer = world.begin();
    append(&mut writer, record("lost", DAY, "").as_bytes());
    let lost = writer.finish().unwrap();
    let folder = world.archive.segment_path(&lost.segments[0]).parent().unwrap().to_owned();
    let mut forgotten = world.begin();
    append(&mut forgotten, record("under way", "2026-03-08T00:00:00", &"f".repeat(600_000)).as_bytes());
    // As a crash does: no destructor runs.
    std::mem::forget(forgotten);
    std::fs::write(folder.join("notes.txt"), "mine").unwrap();
    std::fs::write(folder.join("2-0.parquet.bak"), "mine").unwrap();
    world.reopen();
    let removed = world.clear(world.last_commit);
    assert_eq!((removed.segments, removed.temporary, removed.sidecars), (1, 1, 1));
    let names = world.files();
    assert_eq!(names.iter().filter(|name| name.ends_with(".parquet")).count(), 1);
    assert!(names.iter().any(|name| name.ends_with("notes.txt")) && names.iter().any(|name| name.ends_with(".bak")));
    assert_eq!(world.clear(1), archive::Removed::default());
    assert_eq!(world.records().len(), 3);
    world.store(&[record("next", DAY, "")]);
}

#[test]
fn no_changed_byte_of_a_segment_is_read_or_merged() {
    let (mut world, _) = world_of(3);
    world.store(&[record("other", DAY, "")]);
    let path = world.archive.segment_path(&world.visible[0]);
    let (whole, records) = (std::fs::read(&path).unwrap(), world.raw());
    for keep in [true, false] {
        for at in (0..whole.len()).step_by(11) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            std::fs::write(&path, bytes).unwrap();
            if !keep {
                let _ = std::fs::remove_dir_all(world.archive.root().join("_sums"));
            }
            let error = world.archive.read_all(world.visible.clone()).collect::<Result<Vec<_>, _>>().err();
            match error {
                Some(ArchiveError::Damaged { path: named, .. }) => assert_eq!(named, path, "byte {at}"),
                other => panic!("byte {at}: {other:?}"),
            }
            let error = world.archive.merge(&world.visible, 3, &|| false).unwrap_err();
            assert!(matches!(error, ArchiveError::Damaged { .. }), "byte {at}: {error}");
        }
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(world.raw(), records);
    }
    std::fs::remove_file(&path).unwrap();
    let error = world.archive.read_all(world.visible.clone()).next().unwrap().unwrap_err();
    assert!(error.to_string().contains("the file is missing"), "{error}");
}
