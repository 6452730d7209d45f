//! Tables from commits, merges and retention of real segments; read back by a reader that knows nothing but the protocol.
//!
//! Never asks our own reader whether our own writer was right, except for checkpoints: those are read by programs that are not
//! ours in `tests/external`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use protocol::ids::{ContentId, ContentType};
use protocol::time::parse_timestamp;
use serde_json::Value;

use super::*;
use crate::disk::tests::{Fault, Recorder, folder, tenant};
use crate::disk::watch;
use crate::{ArchiveOptions, ContentRef, NewCommit, SegmentSet};

const KEPT: Duration = Duration::from_secs(3600);
const DAYS: [&str; 2] = ["2026-03-04", "2026-03-05"];

/// An archive with the bare minimum of a ledger, and the publisher beside it.
struct World {
    archive: Archive,
    visible: Vec<Segment>,
    replaced: Vec<Segment>,
    last_commit: u64,
    records: u32,
    now: Timestamp,
}

impl World {
    fn at(root: &Path) -> Self {
        let archive = Archive::open(&ArchiveOptions::at(root)).unwrap();
        let now = parse_timestamp("2026-03-06T00:00:00Z").unwrap();
        Self { archive, visible: Vec::new(), replaced: Vec::new(), last_commit: 0, records: 0, now }
    }

    fn commit(&mut self, days: &[&str]) {
        self.last_commit += 1;
        let visible: SegmentSet = self.visible.iter().cloned().collect();
        let (tenant, number) = (tenant(), self.last_commit);
        let commit = NewCommit { tenant, number, visible: visible.into(), ingested_at: self.now };
        let (content_type, content_id) = (ContentType::Exchange, "content".parse::<ContentId>().unwrap());
        let content = ContentRef { content_type: &content_type, content_id: &content_id, created: self.now };
        let mut writer = self.archive.begin(commit).unwrap();
        for day in days {
            self.records += 1;
            let id = self.records;
            let raw = format!(
                r#"{{"Id":"{id}","CreationTime":"{day}T05:06:{:02}.1234567","RecordType":6,"Operation":"Op{id}"}}"#,
                id % 60
            );
            writer.append(&content, raw.as_bytes()).unwrap();
        }
        self.visible.extend(writer.finish().unwrap().segments);
    }

    fn merge(&mut self, day: &str) {
        self.last_commit += 1;
        let inputs = self.expire(day);
        self.visible.extend(self.archive.merge(&inputs, self.last_commit, &|| false).unwrap());
    }

    /// Takes the segments of a date out of sight.
    fn expire(&mut self, day: &str) -> Vec<Segment> {
        let date = day.parse().unwrap();
        let (gone, stay): (Vec<_>, Vec<_>) = self.visible.drain(..).partition(|segment| segment.date == date);
        self.visible = stay;
        self.replaced.extend(gone.iter().cloned());
        gone
    }

    fn publication(&self) -> Publication {
        Publication {
            publisher: "ledger".to_owned(),
            last_commit: self.last_commit,
            visible: self.visible.clone(),
            replaced: self.replaced.clone(),
            now: self.now,
            kept: KEPT,
            rebuild: false,
        }
    }

    fn try_publish(&self) -> Result<Published, ArchiveError> {
        let table = self.archive.table(tenant())?;
        self.archive.publish(table, &self.publication())
    }

    fn publish(&self) -> usize {
        match self.try_publish().unwrap() {
            Published::Done { entries, .. } => entries,
            Published::Contested => panic!("nobody else is here"),
        }
    }

    fn rebuild(&self) -> Published {
        let table = self.archive.table(tenant()).unwrap();
        self.archive.publish(table, &Publication { rebuild: true, ..self.publication() }).unwrap()
    }

    /// As after a restart: nothing in memory.
    fn restart(&mut self) {
        self.archive = Archive::open(&ArchiveOptions::at(self.archive.root())).unwrap();
    }

    fn log(&self) -> PathBuf {
        self.archive.root().join(format!("tenant={}/_delta_log", tenant()))
    }

    fn log_names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(self.log()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The files that the ledger shows, with their sizes.
    fn shown(&self) -> BTreeMap<String, u64> {
        self.visible.iter().map(|segment| (segment.path_in_table(), segment.bytes)).collect()
    }

    /// The last snapshot, from the entries alone, as the protocol has it.
    fn snapshot(&self) -> BTreeMap<String, u64> {
        self.snapshots().pop().unwrap_or_default()
    }

    /// Every snapshot.
    fn snapshots(&self) -> Vec<BTreeMap<String, u64>> {
        let (mut all, mut files) = (Vec::new(), BTreeMap::new());
        for (version, name) in (0..).zip(self.log_names().iter().filter(|name| name.ends_with(".json"))) {
            assert_eq!(*name, format!("{version:020}.json"), "no version is left out");
            for line in fs::read_to_string(self.log().join(name)).unwrap().lines() {
                let action: Value = serde_json::from_str(line).unwrap();
                if let Some(add) = action.get("add") {
                    files.insert(add["path"].as_str().unwrap().to_owned(), add["size"].as_u64().unwrap());
                }
                if let Some(remove) = action.get("remove") {
                    files.remove(remove["path"].as_str().unwrap());
                }
            }
            all.push(files.clone());
        }
        all
    }

    /// Whether a snapshot names no merge beside what it was made of.
    fn assert_no_record_twice(&self, snapshot: &BTreeMap<String, u64>) {
        let replaced = |date| self.replaced.iter().filter(move |segment| segment.date == date);
        for merge in self.visible.iter().filter(|segment| replaced(segment.date).next().is_some()) {
            let is_named = |segment: &Segment| snapshot.contains_key(&segment.path_in_table());
            let beside = replaced(merge.date).find(|input| is_named(input));
            assert!(!is_named(merge) || beside.is_none(), "{} beside {beside:?}", merge.path_in_table());
        }
    }

    /// Whether every file of a snapshot is there and complete.
    fn assert_readable(&self, snapshot: &BTreeMap<String, u64>) {
        for (path, bytes) in snapshot {
            let file = self.archive.root().join(format!("tenant={}", tenant())).join(path);
            assert_eq!(fs::metadata(&file).unwrap().len(), *bytes, "{path}");
        }
    }
}

/// What happens to a tenant, and when it is published.
fn live(world: &mut World, mut published: impl FnMut(&mut World)) {
    world.commit(&DAYS);
    published(world);
    world.commit(&DAYS[..1]);
    world.commit(&DAYS[1..]);
    published(world);
    world.merge(DAYS[0]);
    published(world);
    world.commit(&DAYS);
    world.merge(DAYS[0]);
    world.commit(&DAYS[..1]);
    published(world);
    world.expire(DAYS[1]);
    published(world);
}

#[test]
fn the_table_is_what_the_ledger_shows_after_every_publication() {
    let folder = folder();
    let mut world = World::at(&folder.path().join("archive"));
    let mut entries = Vec::new();
    live(&mut world, |world| {
        entries.push(world.publish());
        assert_eq!(world.snapshot(), world.shown());
        assert_eq!(world.publish(), 0, "published twice, it writes nothing");
        world.restart();
        assert_eq!(world.publish(), 0, "nor after a restart");
        world.snapshots().iter().for_each(|snapshot| world.assert_readable(snapshot));
    });
    assert_eq!(entries, [1, 1, 1, 2, 1]);
}

#[test]
fn a_tenant_without_a_segment_has_no_table() {
    let folder = folder();
    let world = World::at(folder.path());
    assert_eq!(world.try_publish().unwrap(), Published::Done { version: None, entries: 0 });
    assert!(!world.log().exists());
}

#[test]
fn an_added_file_says_what_its_footer_says() {
    let folder = folder();
    let mut world = World::at(folder.path());
    world.commit(&DAYS[..1]);
    world.commit(&DAYS[..1]);
    world.merge(DAYS[0]);
    world.publish();
    let text = fs::read_to_string(world.log().join("00000000000000000000.json")).unwrap();
    let actions = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let add = actions.filter_map(|action| action.get("add").cloned()).next().unwrap();
    assert_eq!(add["path"], "date=2026-03-04/3-0.parquet");
    assert_eq!(add["partitionValues"], serde_json::json!({ "date": "2026-03-04" }));
    let stats: Value = serde_json::from_str(add["stats"].as_str().unwrap()).unwrap();
    let expected = serde_json::json!({
        "numRecords": 2,
        "minValues": {
            "commit": 1, "content_type": "Audit.Exchange", "creation_time": "2026-03-04T05:06:01.123Z",
            "ingested_at": "2026-03-06T00:00:00.000Z", "operation": "Op1", "record_type": 6,
        },
        "maxValues": {
            "commit": 2, "content_type": "Audit.Exchange", "creation_time": "2026-03-04T05:06:02.124Z",
            "ingested_at": "2026-03-06T00:00:00.000Z", "operation": "Op2", "record_type": 6,
        },
        "nullCount": {
            "commit": 0, "content_type": 0, "creation_time": 0, "ingested_at": 0, "operation": 0, "record_type": 0,
            "workload": 2,
        },
    });
    assert_eq!(stats, expected);
}

#[test]
fn a_file_that_cannot_be_read_is_published_with_what_the_ledger_knows() {
    let folder = folder();
    let mut world = World::at(folder.path());
    world.commit(&DAYS[..1]);
    fs::write(world.archive.segment_path(&world.visible[0]), "no Parquet").unwrap();
    world.publish();
    let text = fs::read_to_string(world.log().join("00000000000000000000.json")).unwrap();
    assert!(text.contains(r#"\"numRecords\":1"#) && text.contains("2026-03-04T05:06:01.000Z"), "{text}");
}

#[test]
fn a_merge_that_is_damaged_is_not_in_a_snapshot_with_what_it_was_made_of() {
    let folder = folder();
    let mut world = World::at(folder.path());
    world.commit(&DAYS[..1]);
    world.commit(&DAYS[..1]);
    world.publish();
    world.merge(DAYS[0]);
    fs::write(world.archive.segment_path(&world.visible[0]), "no Parquet").unwrap();
    assert_eq!(world.publish(), 1);
    assert_eq!(world.snapshot(), world.shown());
    world.snapshots().iter().for_each(|snapshot| world.assert_no_record_twice(snapshot));
}

#[test]
fn a_table_that_has_begun_is_known_from_a_checkpoint_however_large_its_first_entry_was() {
    let folder = folder();
    let mut world = World::at(folder.path());
    world.commit(&DAYS);
    world.publish();
    let first = world.log().join("00000000000000000000.json");
    fs::write(&first, "too large to be read").unwrap();
    world.restart();
    assert_eq!(world.publish(), 0);
    world.commit(&DAYS);
    assert_eq!(world.publish(), 1);
    let table = table::load(&Log::of(&world.archive, tenant())).unwrap();
    assert_eq!((table.damage(), table.files()), (None, 4));
}

#[test]
fn killed_at_any_operation_it_leaves_a_snapshot_that_was_to_be_and_goes_on() {
    for at in 1.. {
        let folder = folder();
        let mut world = World::at(&folder.path().join("archive"));
        world.commit(&DAYS);
        world.publish();
        let before = world.shown();
        world.commit(&DAYS);
        world.merge(DAYS[0]);
        world.commit(&DAYS);
        world.expire(DAYS[1]);
        let recorder = Recorder::watching();
        recorder.set(Some(Fault::Crash(at)));
        let first = world.try_publish();
        recorder.set(None);
        // Whoever reads now sees what was, what was to be, or what came in between; and can read all of it.
        let snapshots = world.snapshots();
        snapshots.iter().for_each(|snapshot| world.assert_readable(snapshot));
        assert_eq!(snapshots[0], before);
        world.restart();
        world.publish();
        watch(None);
        assert_eq!(world.snapshot(), world.shown(), "killed at operation {at}");
        assert_eq!(recorder.not_lasting(), Vec::<PathBuf>::new(), "killed at operation {at}");
        if first.is_ok() {
            assert!(at > 15, "{at} operations: the publication does not do what it should");
            return;
        }
    }
}

#[test]
fn after_any_operation_that_fails_the_same_process_goes_on() {
    for at in 1.. {
        let folder = folder();
        let mut world = World::at(&folder.path().join("archive"));
        world.commit(&DAYS);
        world.publish();
        world.commit(&DAYS);
        world.merge(DAYS[0]);
        let recorder = Recorder::watching();
        recorder.set(Some(Fault::Once(at)));
        let first = world.try_publish();
        recorder.set(None);
        world.publish();
        watch(None);
        assert_eq!(world.snapshot(), world.shown(), "operation {at} has failed");
        world.snapshots().iter().for_each(|snapshot| world.assert_readable(snapshot));
        world.snapshots().iter().for_each(|snapshot| world.assert_no_record_twice(snapshot));
        if first.is_ok() && at > 40 {
            return;
        }
    }
}

#[test]
fn killed_at_any_operation_of_a_rebuilding_it_can_be_rebuilt_again() {
    for at in 1.. {
        let folder = folder();
        let mut world = World::at(&folder.path().join("archive"));
        world.commit(&DAYS);
        world.publish();
        world.commit(&DAYS);
        world.publish();
        fs::write(world.log().join("00000000000000000001.json"), "{\"add\":").unwrap();
        world.restart();
        world.commit(&DAYS[..1]);
        let recorder = Recorder::watching();
        recorder.set(Some(Fault::Crash(at)));
        let first = world.try_publish();
        recorder.set(None);
        world.restart();
        world.publish();
        watch(None);
        let table = table::load(&Log::of(&world.archive, tenant())).unwrap();
        assert_eq!(table.damage(), None, "killed at operation {at}");
        let files: BTreeMap<_, _> = table.files.iter().map(|(path, add)| (path.clone(), add.bytes)).collect();
        assert_eq!(files, world.shown(), "killed at operation {at}");
        if first.is_ok() {
            return;
        }
    }
}

#[test]
fn a_long_log_is_kept_short_and_says_the_same() {
    let folder = folder();
    let mut world = World::at(folder.path());
    for number in 0..200 {
        world.commit(&DAYS[..1]);
        if number % 20 == 19 {
            world.merge(DAYS[0]);
        }
        world.now += chrono::TimeDelta::minutes(5);
        world.publish();
        if number % 7 == 0 {
            world.restart();
        }
        // An hour is kept, and the checkpoint before it with all that comes after.
        let names = world.log_names();
        let entries = names.iter().filter(|name| name.ends_with(".json")).count();
        assert!(entries <= 12 + 2 * 10 + 4, "{entries} entries after {number} publications");
    }
    let table = table::load_whole(&Log::of(&world.archive, tenant())).unwrap();
    assert_eq!(table.damage(), None);
    let files: BTreeMap<_, _> = table.files.iter().map(|(path, add)| (path.clone(), add.bytes)).collect();
    assert_eq!(files, world.shown());
    assert!(table.files.values().all(|add| add.stats.is_some()), "a checkpoint keeps the statistics");
    assert!(table.gone.len() <= 21, "{} names of files that went longer ago than is kept", table.gone.len());
    let first = world.log_names()[0].clone();
    assert!(first.ends_with(".checkpoint.parquet"), "{first}");
    assert!(world.log_names()[1].ends_with(".json") && world.log_names()[1][..20] == first[..20]);
}

#[test]
fn who_comes_second_is_told_and_finds_the_table_as_it_is() {
    let folder = folder();
    let mut world = World::at(folder.path());
    world.commit(&DAYS);
    world.publish();
    let other = Archive::open(&ArchiveOptions::at(folder.path())).unwrap();
    let (late, publication) = (other.table(tenant()).unwrap(), world.publication());
    world.commit(&DAYS);
    world.publish();
    let publication = Publication { visible: Vec::new(), ..publication };
    assert_eq!(other.publish(late, &publication).unwrap(), Published::Contested);
    assert_eq!(world.snapshot(), world.shown());
    // One who read the ledger before that, and the table after it.
    let late = other.table(tenant()).unwrap();
    assert_eq!(other.publish(late, &publication).unwrap(), Published::Contested);
    assert_eq!(world.snapshot(), world.shown());
}

#[test]
fn the_same_entry_once_more_is_ours() {
    let folder = folder();
    let world = World::at(folder.path());
    let log = Log::of(&world.archive, tenant());
    assert!(log.add(0, "{}\n").unwrap());
    assert!(log.add(0, "{}\n").unwrap(), "an answer that was lost");
    assert!(!log.add(0, "{\"commitInfo\":{}}\n").unwrap());
    assert_eq!(fs::read_to_string(world.log().join("00000000000000000000.json")).unwrap(), "{}\n");
    assert_eq!(world.log_names(), ["00000000000000000000.json"]);
}

#[test]
fn a_ledger_restored_from_an_older_copy_has_its_table_after_a_rebuilding() {
    let folder = folder();
    let mut world = World::at(folder.path());
    world.commit(&DAYS);
    world.publish();
    let (visible, last_commit) = (world.visible.clone(), world.last_commit);
    world.commit(&DAYS);
    world.publish();
    (world.visible, world.last_commit) = (visible, last_commit);
    assert_eq!(world.try_publish().unwrap(), Published::Contested);
    assert_eq!(world.rebuild(), Published::Done { version: Some(2), entries: 1 });
    assert_eq!(world.snapshot(), world.shown());
    assert_eq!(world.publish(), 0);
}

#[test]
fn a_rebuilt_log_needs_nothing_of_what_was_before() {
    let folder = folder();
    let mut world = World::at(folder.path());
    live(&mut world, |world| {
        world.publish();
    });
    let entries = world.log_names().iter().filter(|name| name.ends_with(".json")).count() as u64;
    assert_eq!(world.rebuild(), Published::Done { version: Some(entries), entries: 1 });
    for version in 0..entries {
        fs::remove_file(world.log().join(format!("{version:020}.json"))).unwrap();
    }
    world.restart();
    assert_eq!(world.publish(), 0);
    world.commit(&DAYS);
    assert_eq!(world.publish(), 1);
    // And one of which nothing is left begins anew.
    fs::remove_dir_all(world.log()).unwrap();
    world.restart();
    assert_eq!(world.publish(), 1);
    assert_eq!(world.snapshot(), world.shown());
}

#[test]
fn a_file_is_not_wanted_once_the_table_has_let_go_of_it_for_as_long_as_was_said() {
    let folder = folder();
    let mut world = World::at(folder.path());
    world.commit(&DAYS);
    world.commit(&DAYS);
    world.publish();
    world.merge(DAYS[0]);
    let not_wanted = |world: &World, minutes: i64| {
        let now = world.now + chrono::TimeDelta::minutes(minutes);
        world.archive.not_wanted(tenant(), world.replaced.clone(), now, KEPT).unwrap().len()
    };
    assert_eq!(not_wanted(&world, 10_000), 0, "the table still names them");
    world.publish();
    assert_eq!(not_wanted(&world, 59), 0);
    assert_eq!(not_wanted(&world, 60), 2);
}

#[test]
fn nothing_of_a_table_is_left_after_a_purge() {
    let folder = folder();
    let mut world = World::at(folder.path());
    world.commit(&DAYS);
    world.publish();
    world.archive.purge_tenant(tenant(), 0, &mut crate::Purged::default()).unwrap();
    assert!(!world.log().exists());
    (world.visible, world.replaced, world.last_commit) = (Vec::new(), Vec::new(), 0);
    world.commit(&DAYS);
    assert_eq!(world.publish(), 1, "one that comes back begins anew");
    assert_eq!(world.snapshot(), world.shown());
}

#[test]
fn a_publication_that_was_begun_before_a_purge_leaves_nothing_after_it() {
    let folder = folder();
    let mut world = World::at(folder.path());
    world.commit(&DAYS);
    world.publish();
    world.commit(&DAYS);
    let (table, publication) = (world.archive.table(tenant()).unwrap(), world.publication());
    world.archive.purge_tenant(tenant(), 0, &mut crate::Purged::default()).unwrap();
    assert_eq!(world.archive.publish(table, &publication).unwrap(), Published::Contested);
    assert!(!world.log().exists());
}

#[test]
fn what_a_table_was_before_others_had_its_tenant_is_forgotten_when_it_is_taken_over_again() {
    let folder = folder();
    let mut world = World::at(folder.path());
    world.commit(&DAYS);
    world.publish();
    let before = world.archive.clone();
    // Somebody else has the tenant: a segment comes, is published, and merged away, and that is not published yet.
    world.restart();
    world.commit(&DAYS);
    world.publish();
    world.merge(DAYS[0]);
    world.archive = before;
    let known = world.visible.iter().chain(&world.replaced).cloned().collect();
    world.archive.remove_orphans(tenant(), &known, world.last_commit, world.now).unwrap();
    let much_later = world.now + chrono::TimeDelta::days(1000);
    let not_wanted = world.archive.not_wanted(tenant(), world.replaced.clone(), much_later, KEPT).unwrap();
    assert_eq!(not_wanted, Vec::new(), "the table names them");
    world.publish();
    assert_eq!(world.snapshot(), world.shown());
}

#[test]
fn an_entry_that_another_owner_of_the_tenant_is_writing_is_not_touched() {
    let folder = folder();
    let world = World::at(folder.path());
    fs::create_dir_all(world.log()).unwrap();
    let entry = world.log().join("00000000000000000000.json");
    let theirs = entry.with_extension(Log::of(&world.archive.under(7), tenant()).temporary());
    fs::write(&theirs, "half of an ent").unwrap();
    let archive = world.archive.under(8);
    assert!(Log::of(&archive, tenant()).add(0, "{}\n").unwrap());
    assert_eq!(fs::read_to_string(&theirs).unwrap(), "half of an ent");
    assert_eq!(fs::read_to_string(entry).unwrap(), "{}\n");
}
