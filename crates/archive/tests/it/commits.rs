//! Commits one at a time: what is stored where, what a repeat is, and what is left after each way a commit can end.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use archive::{Appended, Archive, ArchiveError, ArchiveOptions, ContentRef, NewCommit, Segment, SegmentSet};
use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector};
use parquet::file::metadata::PageIndexPolicy;
use protocol::ids::{ContentType, TenantId};

use crate::world::{World, append, append_from, record, tenant, time};

const ID: &str = "0b7a9d1e-1111-4222-8333-444455556666";

#[test]
fn a_record_is_kept_byte_for_byte_beside_its_columns() {
    let mut world = World::new();
    let raw = record(ID, "2026-03-04T05:06:07", "caf\u{e9} \\u0000 \\/");
    world.store(&[&raw]);
    assert_eq!(world.raw(), std::slice::from_ref(&raw));

    let segment = &world.visible[0];
    assert_eq!(segment.path().to_str().unwrap(), format!("tenant={}/date=2026-03-04/1-0.parquet", tenant()));
    assert_eq!((segment.rows, segment.second_min, segment.second_max), (1, Some(1_772_600_767), Some(1_772_600_767)));
    let file = std::fs::File::open(world.archive.segment_path(segment)).unwrap();
    let batch = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap().next().unwrap().unwrap();
    assert_eq!(batch.schema().fields(), archive::arrow_schema().fields());
    let text = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>().iter().next().unwrap();
    for (name, expected) in [
        ("tenant_id", Some("6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11")),
        ("content_type", Some("Audit.SharePoint")),
        ("content_id", Some("content-of-2026-03-05T10:00:00Z")),
        ("id", Some(ID)),
        ("record_type_name", Some("SharePointFileOperation")),
        ("operation", Some("FileAccessed")),
        ("workload", Some("SharePoint")),
        ("user_id", Some("user@contoso.com")),
        ("user_key", Some("i:0h.f|membership|1003")),
        ("organization_id", Some("6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11")),
        ("object_id", Some("https://contoso.sharepoint.com/a b.docx")),
        ("client_ip", Some("203.0.113.7")),
        ("result_status", None),
        ("app_id", None),
        ("session_id", None),
        ("raw", Some(raw.as_str())),
    ] {
        assert_eq!(text(name), expected, "{name}");
    }
    let micros = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<TimestampMicrosecondType>().value(0);
    assert_eq!(micros("creation_time"), 1_772_600_767_000_000);
    assert_eq!(micros("ingested_at"), time("2026-03-09T00:00:00Z").timestamp_micros());
    assert_eq!(batch.column_by_name("record_type").unwrap().as_primitive::<Int32Type>().value(0), 6);
    assert_eq!(batch.column_by_name("user_type").unwrap().as_primitive::<Int32Type>().value(0), 0);
    assert_eq!(batch.column_by_name("commit").unwrap().as_primitive::<Int64Type>().value(0), 1);
}

#[test]
fn any_row_is_found_by_the_page_index_and_row_groups_stay_below_32_mib() {
    let mut world = World::new();
    let filler = "p".repeat(100_000);
    let records: Vec<_> =
        (0..700).map(|n| record(&format!("{n:03}"), "2026-03-04T05:06:07", &format!("{n}{filler}"))).collect();
    world.store(&records);
    let path = world.archive.segment_path(&world.visible[0]);
    let open = || {
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
        ParquetRecordBatchReaderBuilder::try_new_with_options(std::fs::File::open(&path).unwrap(), options).unwrap()
    };
    let metadata = open().metadata().clone();
    assert_eq!(metadata.num_row_groups(), 5);
    for group in metadata.row_groups() {
        let raw = group.column(18);
        assert_eq!(raw.column_path().string(), "raw");
        assert!(raw.uncompressed_size() <= 18 << 20, "{}", raw.uncompressed_size());
        assert_eq!(raw.num_values(), group.num_rows());
        assert!(raw.statistics().is_none() && group.column(4).statistics().is_some());
    }
    for row in [0, 1, 9, 10, 11, 350, 698, 699] {
        let rows = RowSelection::from(vec![RowSelector::skip(row), RowSelector::select(1)]);
        let batch = open().with_row_selection(rows).build().unwrap().next().unwrap().unwrap();
        let text = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>().value(0).to_owned();
        assert_eq!(text("id"), format!("{row:03}"));
        assert!(text("raw") == records[row], "row {row}");
    }
}

#[test]
fn a_repeat_is_not_stored_in_the_same_commit_nor_in_a_later_one() {
    let mut world = World::new();
    let raw = record(ID, "2026-03-04T05:06:07", "a");
    assert_eq!(world.store(&[&raw, &raw]), [Appended::New, Appended::Duplicate]);
    assert_eq!(world.store(&[&raw]), [Appended::Duplicate]);
    world.reopen();
    assert_eq!(world.store(&[&raw]), [Appended::Duplicate]);
    assert_eq!(world.raw().len(), 1);
    assert_eq!(world.visible.len(), 1, "a commit of repeats has no segment");
}

#[test]
fn the_same_id_with_another_body_is_kept_and_reported() {
    let mut world = World::new();
    let bodies = ["a", "b", "c"].map(|rest| record(ID, "2026-03-04T05:06:07", rest));
    assert_eq!(world.store(&bodies[..2]), [Appended::New, Appended::Variant]);
    assert_eq!(world.store(&bodies), [Appended::Duplicate, Appended::Duplicate, Appended::Variant]);
    assert_eq!(world.store(&bodies), [Appended::Duplicate; 3]);
    assert_eq!(world.raw(), bodies);
}

#[test]
fn what_was_stored_beside_another_body_is_marked_and_the_first_is_not() {
    let mut world = World::new();
    let body = |id: &str, rest| record(id, "2026-03-04T05:06:07", rest);
    let marked = |world: &World| -> Vec<String> {
        let marked = world.records().into_iter().filter(|record| record.is_variant);
        let mut raw: Vec<_> = marked.map(|record| String::from_utf8(record.raw.to_vec()).unwrap()).collect();
        raw.sort();
        raw
    };
    // Within one commit, and beside what an earlier one has stored.
    world.store(&[body(ID, "a"), body(ID, "b"), body("other", "a")]);
    world.store(&[body(ID, "c"), body("third", "a")]);
    let variants = ["b", "c"].map(|rest| body(ID, rest));
    assert_eq!(marked(&world), variants);
    assert_eq!(world.raw().len(), 5);
    // A merge takes the marks along, and one of a single file too.
    world.merge("2026-03-04");
    world.merge("2026-03-04");
    assert_eq!(marked(&world), variants);
    // A commit that was killed before the ledger took it leaves no first body behind: who comes again first is not marked.
    let mut killed = world.begin();
    append(&mut killed, body("fourth", "a").as_bytes());
    killed.finish().unwrap();
    world.reopen();
    world.clear(world.last_commit);
    assert_eq!(world.store(&[body("fourth", "b"), body("fourth", "a")]), [Appended::New, Appended::Variant]);
    assert!(marked(&world).contains(&body("fourth", "a")));
    assert_eq!(marked(&world).len(), 3);
}

#[test]
fn a_body_that_differs_in_white_space_only_is_another_body() {
    let mut world = World::new();
    let raw = record(ID, "2026-03-04T05:06:07", "a");
    let spaced = raw.replacen("{", "{ ", 1);
    assert_eq!(world.store(&[raw, spaced]), [Appended::New, Appended::Variant]);
}

#[test]
fn records_without_id_are_told_apart_by_their_bodies() {
    let mut world = World::new();
    let raw = [r#"{"CreationTime":"2026-03-04T05:06:07","A":1}"#, r#"{"CreationTime":"2026-03-04T05:06:07","A":2}"#];
    assert_eq!(world.store(&raw), [Appended::New; 2]);
    assert_eq!(world.store(&raw), [Appended::Duplicate; 2]);
}

#[test]
fn a_repeat_without_a_readable_time_is_found_under_any_date() {
    let mut world = World::new();
    let untimed = [
        r#"{"Id":"x"}"#,
        r#"{"Id":"y","CreationTime":"soon"}"#,
        r#"{}"#,
        r#"{"Id":"z","CreationTime":"+12026-01-01T00:00:00Z"}"#,
    ];
    let mut writer = world.begin();
    for raw in untimed {
        assert_eq!(append_from(&mut writer, "2026-03-05T10:00:00Z", raw.as_bytes()), Appended::New, "{raw}");
    }
    let committed = writer.finish().unwrap();
    assert_eq!(committed.segments.len(), 1);
    assert_eq!(committed.segments[0].date.to_string(), "2026-03-05", "filed by the content's date");
    assert_eq!(committed.segments[0].untimed_rows, 4);
    assert_eq!(committed.segments[0].second_min, None);
    world.make_visible(committed);
    let mut writer = world.begin();
    for raw in untimed {
        assert_eq!(append_from(&mut writer, "2026-03-07T10:00:00Z", raw.as_bytes()), Appended::Duplicate, "{raw}");
    }
    writer.finish().unwrap();
    assert!(world.records().iter().all(|record| record.creation_time.is_none()));
}

#[test]
fn a_commit_that_the_ledger_never_saw_does_not_hide_its_records() {
    let mut world = World::new();
    let raw = record(ID, "2026-03-04T05:06:07", "a");
    let mut writer = world.begin();
    assert_eq!(append(&mut writer, raw.as_bytes()), Appended::New);
    let lost = writer.finish().unwrap();
    // Without a crash, and the files still there.
    let mut writer = world.begin();
    assert_eq!(append(&mut writer, raw.as_bytes()), Appended::New);
    drop(writer);
    // With one, after which a tenant begins with what lies there and nobody knows.
    world.reopen();
    world.archive.remove_orphans(tenant(), &SegmentSet::default(), 0, time("2026-03-06T12:00:00Z")).unwrap();
    assert_eq!(world.store(&[&raw]), [Appended::New]);
    assert_eq!(world.raw(), [raw]);
    assert_eq!(world.visible[0].path(), lost.segments[0].path(), "the name is given again");
}

#[test]
fn the_sidecar_of_a_dropped_commit_is_not_taken_for_that_of_a_later_one() {
    let mut world = World::new();
    let (a, b) = (record("a", "2026-03-04T05:06:07", ""), record("b", "2026-03-04T05:06:07", ""));
    let mut writer = world.begin();
    append(&mut writer, a.as_bytes());
    let lost = writer.finish().unwrap();
    let sidecar_of_lost = std::fs::read(world.sidecar_path(&lost.segments[0])).unwrap();
    world.archive.discard(&lost).unwrap();
    assert_eq!(world.store(&[&b]), [Appended::New]);
    std::fs::write(world.sidecar_path(&world.visible[0]), sidecar_of_lost).unwrap();
    world.reopen();
    assert_eq!(world.store(&[&a, &b]), [Appended::New, Appended::Duplicate]);
}

#[test]
fn abandoning_removes_every_file_of_the_commit() {
    let world = World::with(|options| options.write_memory_bytes = 48 << 20);
    let before = world.files();
    let mut writer = world.begin();
    // Enough for a file each, and for more files than are open at one time.
    let filler = "f".repeat(600_000);
    for day in 1..=20 {
        append(&mut writer, record("a", &format!("2026-03-{day:02}T00:00:00"), &filler).as_bytes());
    }
    let open = world.files().iter().filter(|name| name.ends_with(".tmp")).count();
    assert_eq!((open, world.segment_files().len()), (16, 4));
    let content = ContentRef {
        content_type: &ContentType::General,
        content_id: &"c".parse().unwrap(),
        created: time("2026-03-05"),
    };
    writer.quarantine(&content, b"rubbish", "it is rubbish").unwrap();
    writer.abandon().unwrap();
    let mut after = world.files();
    after.retain(|name| !name.starts_with("_quarantine/"));
    assert_eq!(world.files().len(), after.len() + 2, "what is no record, and the note of it, may be somebody's by now");
    assert_eq!(after, before);
    let before = world.files();
    drop(world.begin());
    assert_eq!(world.files(), before);
}

#[test]
fn a_discarded_commit_leaves_no_file() {
    let mut world = World::new();
    world.store(&[record("a", "2026-03-04T05:06:07", "")]);
    let before = world.files();
    let mut writer = world.begin();
    append(&mut writer, record("b", "2026-03-04T05:06:07", "").as_bytes());
    let committed = writer.finish().unwrap();
    assert_ne!(world.files(), before);
    world.archive.discard(&committed).unwrap();
    assert_eq!(world.files(), before);
}

#[test]
fn more_dates_than_open_files_lose_nothing() {
    let mut world = World::new();
    let records: Vec<_> = (0..3)
        .flat_map(|round| {
            (1..=28).map(move |day| record(&format!("{round}-{day}"), &format!("2026-02-{day:02}T12:00:00"), ""))
        })
        .collect();
    assert!(world.store(&records).iter().all(|appended| *appended == Appended::New));
    let mut expected = records.clone();
    expected.sort();
    assert_eq!(world.raw(), expected);
    assert!(world.store(&records).iter().all(|appended| *appended == Appended::Duplicate));
    let parts: std::collections::BTreeSet<_> = world.visible.iter().map(|segment| segment.part).collect();
    assert_eq!(parts.len(), world.visible.len(), "no two files of a commit share a part number");
    assert_eq!(world.visible.len(), 28, "records that jump from date to date do not make a file each");
    for segment in &world.visible {
        let records = world.archive.read_all(vec![segment.clone()]).map(|record| record.unwrap().creation_time);
        assert!(records.is_sorted());
    }
}

#[test]
fn little_memory_makes_more_files_and_the_same_records() {
    let mut world = World::with(|options| {
        options.write_memory_bytes = 200_000;
        options.dedup_memory_bytes = 0;
    });
    let filler = "x".repeat(10_000);
    let records: Vec<_> = (0..400)
        .map(|number| record(&format!("{number:04}"), "2026-03-04T05:06:07", &format!("{filler}{number}")))
        .collect();
    world.store(&records);
    assert!(world.visible.len() > 1);
    let mut expected = records.clone();
    expected.sort();
    assert_eq!(world.raw(), expected);
    assert!(world.store(&records).iter().all(|appended| *appended == Appended::Duplicate));
}

#[test]
fn memory_that_is_short_ends_row_groups_and_not_files() {
    let mut world = World::with(|options| options.write_memory_bytes = 8 << 20);
    // What does not compress well stays in memory until its row group ends.
    let mut random = fastrand::Rng::with_seed(11);
    let records: Vec<_> = (0..200)
        .map(|number| {
            let filler: String = std::iter::repeat_with(|| random.alphanumeric()).take(100_000).collect();
            record(&format!("{number:03}"), "2026-03-04T05:06:07", &filler)
        })
        .collect();
    world.store(&records);
    assert_eq!(world.visible.len(), 1);
    let file = std::fs::File::open(world.archive.segment_path(&world.visible[0])).unwrap();
    let groups = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().metadata().num_row_groups();
    assert!((2..=5).contains(&groups), "{groups}");
    assert!(world.raw() == records);
}

#[test]
fn what_is_no_text_and_what_is_quarantined_is_kept_as_delivered_once() {
    let mut world = World::new();
    let bad = b"{\"Id\":\"\xff\"}";
    let mut writer = world.begin();
    assert_eq!(append(&mut writer, bad), Appended::Quarantined);
    let content = ContentRef {
        content_type: &ContentType::DlpAll,
        content_id: &"c$1".parse().unwrap(),
        created: time("2026-03-05"),
    };
    writer.quarantine(&content, b"[1,", "the array ends early").unwrap();
    let committed = writer.finish().unwrap();
    assert_eq!(committed.stats.quarantined, 2);
    for (kept, bytes) in committed.quarantined.iter().zip([&bad[..], b"[1,"]) {
        assert_eq!(std::fs::read(world.archive.root().join(&kept.path)).unwrap(), bytes);
        assert_eq!(kept.digest, *blake3::hash(bytes).as_bytes());
        assert_eq!(kept.bytes, bytes.len() as u64);
    }
    let kept = &committed.quarantined[1];
    let note = std::fs::read_to_string(world.archive.root().join(&kept.path).with_extension("json")).unwrap();
    for part in ["the array ends early", "DLP.All", "c$1", "2026-03-05T00:00:00"] {
        assert!(note.contains(part), "{note}");
    }
    world.make_visible(committed.clone());
    let before = world.files();
    // The same piece again, in a commit that is then abandoned, must not take the first one away.
    let mut writer = world.begin();
    append(&mut writer, bad);
    writer.abandon().unwrap();
    assert_eq!(world.files(), before);
}

#[test]
fn a_record_of_32_mib_is_stored_and_one_byte_more_is_quarantined() {
    let mut world = World::new();
    let frame = record("a", "2026-03-04T05:06:07", "").len();
    let fits = record("a", "2026-03-04T05:06:07", &"x".repeat((32 << 20) - frame));
    let exceeds = record("a", "2026-03-04T05:06:07", &"x".repeat((32 << 20) - frame + 1));
    assert_eq!(world.store(&[&fits, &exceeds]), [Appended::New, Appended::Quarantined]);
    assert!(world.raw() == [fits]);
}

#[test]
fn a_commit_number_that_is_visible_is_refused() {
    let mut world = World::new();
    world.store(&[record("a", "2026-03-04T05:06:07", "")]);
    let again = NewCommit { tenant: tenant(), number: 1, visible: world.set(), ingested_at: time("2026-03-09") };
    let error = world.archive.begin(again).err().unwrap();
    assert!(matches!(error, ArchiveError::CommitInUse { commit: 1, .. }), "{error}");
}

#[test]
fn an_unwritable_folder_is_named_with_its_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Archive::open(&ArchiveOptions::at(&file)).err().unwrap().to_string();
    assert!(error.contains(file.to_str().unwrap()), "{error}");

    let locked = folder.path().join("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o500)).unwrap();
    let opened = Archive::open(&ArchiveOptions::at(&locked));
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o700)).unwrap();
    match opened {
        Ok(_) => println!("skipped: this user may write anywhere"),
        Err(error) => assert!(error.to_string().contains("give the user that runs this"), "{error}"),
    }
}

#[test]
fn an_archive_of_a_later_format_is_refused() {
    let world = World::new();
    std::fs::write(world.archive.root().join("_tenantry.json"), r#"{"archive_format":2}"#).unwrap();
    let error = Archive::open(&world.options).err().unwrap();
    assert!(matches!(error, ArchiveError::UnknownFormat { format: Some(2), .. }), "{error}");
}

#[test]
fn two_tenants_with_the_same_record_both_keep_it() {
    let mut world = World::new();
    let raw = record(ID, "2026-03-04T05:06:07", "a");
    world.store(&[&raw]);
    let other = "11111111-2222-4333-8444-555566667777".parse().unwrap();
    let commit = NewCommit { tenant: other, number: 1, visible: Arc::default(), ingested_at: time("2026-03-09") };
    let mut writer = world.archive.begin(commit).unwrap();
    assert_eq!(append(&mut writer, raw.as_bytes()), Appended::New);
    let committed = writer.finish().unwrap();
    world.visible.extend(committed.segments);
    assert_eq!(world.raw().len(), 2);
    world.purge(0);
    world.visible.retain(|segment| segment.tenant == other);
    assert_eq!(world.raw(), [raw]);
    assert!(world.files().iter().all(|name| !name.contains(&tenant().to_string())), "{:?}", world.files());
}

#[test]
fn tenants_commit_side_by_side_within_one_budget() {
    let world = World::with(|options| {
        options.write_memory_bytes = 300_000;
        options.dedup_memory_bytes = 2_000;
    });
    let tenants: Vec<TenantId> =
        (0..4).map(|n| format!("11111111-2222-4333-8444-55556666777{n}").parse().unwrap()).collect();
    let filler = "z".repeat(3000);
    let all = std::thread::scope(|scope| {
        let workers: Vec<_> = tenants
            .iter()
            .map(|tenant| {
                let (archive, filler) = (world.archive.clone(), &filler);
                scope.spawn(move || {
                    let mut visible: Vec<Segment> = Vec::new();
                    for number in 1..=6 {
                        let set = Arc::new(visible.iter().cloned().collect());
                        let ingested_at = time("2026-03-09");
                        let commit = NewCommit { tenant: *tenant, number, visible: set, ingested_at };
                        let mut writer = archive.begin(commit).unwrap();
                        // Half of each commit is the half of the one before.
                        for n in number * 100..number * 100 + 200 {
                            let raw = record(&n.to_string(), &format!("2026-03-{:02}T00:00:00", n % 5 + 1), filler);
                            append(&mut writer, raw.as_bytes());
                        }
                        visible.extend(writer.finish().unwrap().segments);
                    }
                    visible
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
    });
    for visible in all {
        let mut ids: Vec<u64> =
            world.archive.read_all(visible).map(|record| record.unwrap().id.unwrap().parse().unwrap()).collect();
        ids.sort_unstable();
        assert!(ids.into_iter().eq(100..800));
    }
}

#[test]
fn a_reader_sees_the_commits_it_asks_for_and_no_others() {
    let mut world = World::new();
    for number in 1..=4 {
        world.store(&[record(&number.to_string(), "2026-03-04T05:06:07", "")]);
    }
    world.merge("2026-03-04");
    let read = world.archive.read(world.visible.clone(), 1, 3);
    let commits: Vec<_> = read.map(|record| record.unwrap().commit).collect();
    assert_eq!(commits, [2, 3], "after 1, up to 3");
}
