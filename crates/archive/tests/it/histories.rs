//! Random histories of commits, crashes, merges and lost sidecars against a model that is a list of committed records.

use std::collections::BTreeMap;

use archive::Appended;
use proptest::prelude::*;

use crate::world::{World, append_from};

const SECONDS: [Option<&str>; 5] = [
    Some("2026-03-04T05:06:07"),
    Some("2026-03-04T05:06:08"),
    Some("2026-03-04T23:59:59"),
    Some("2026-03-05T00:00:00"),
    None,
];
const CONTENTS: [&str; 2] = ["2026-03-05T10:00:00Z", "2026-03-06T10:00:00Z"];

/// A record out of few, so that repeats and variants are common.
#[derive(Debug, Clone, Copy)]
struct Drawn {
    id: Option<u8>,
    second: usize,
    body: u8,
    content: usize,
}

impl Drawn {
    fn raw(self) -> String {
        let id = self.id.map_or(String::new(), |id| format!(r#""Id":"id-{id}","#));
        let time = SECONDS[self.second].map_or(String::new(), |time| format!(r#""CreationTime":"{time}","#));
        format!(r#"{{{id}{time}"Body":{}}}"#, self.body)
    }
}

#[derive(Debug, Clone, Copy)]
enum Ending {
    Committed,
    /// Finished, refused by the ledger, and discarded.
    Discarded,
    /// Finished, but the process died before the ledger's transaction.
    CrashedBeforeLedger,
    /// Died while writing.
    CrashedWriting,
    Abandoned,
}

#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<Drawn>, Ending),
    /// Of the date with this index; crashed before the ledger's transaction if so.
    Merge(usize, bool),
    LoseSidecars,
    Restart,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    (prop::option::weighted(0.8, 0..4_u8), 0..SECONDS.len(), 0..3_u8, 0..CONTENTS.len())
        .prop_map(|(id, second, body, content)| Drawn { id, second, body, content })
}

fn step() -> impl Strategy<Value = Step> {
    let ending = prop_oneof![
        5 => Just(Ending::Committed),
        1 => Just(Ending::Discarded),
        1 => Just(Ending::CrashedBeforeLedger),
        1 => Just(Ending::CrashedWriting),
        1 => Just(Ending::Abandoned),
    ];
    prop_oneof![
        6 => (prop::collection::vec(drawn(), 0..12), ending).prop_map(|(records, ending)| Step::Commit(records, ending)),
        2 => (0..3_usize, any::<bool>()).prop_map(|(date, crashed)| Step::Merge(date, crashed)),
        1 => Just(Step::LoseSidecars),
        1 => Just(Step::Restart),
    ]
}

/// What should be in the archive: each body, with its key and the commit it came with.
type Model = BTreeMap<String, (Drawn, u64)>;

fn expected(model: &Model, pending: &Model, record: Drawn) -> Appended {
    let all = || model.iter().chain(pending);
    if all().any(|(raw, _)| *raw == record.raw()) {
        Appended::Duplicate
    } else if record.id.is_some() && all().any(|(_, (other, _))| (other.id, other.second) == (record.id, record.second))
    {
        Appended::Variant
    } else {
        Appended::New
    }
}

fn commit(world: &mut World, model: &mut Model, records: &[Drawn], ending: Ending) {
    let number = world.last_commit + 1;
    let mut pending = Model::new();
    let mut writer = world.begin();
    for record in records {
        let appended = append_from(&mut writer, CONTENTS[record.content], record.raw().as_bytes());
        assert_eq!(appended, expected(model, &pending, *record), "{record:?}");
        if appended != Appended::Duplicate {
            pending.insert(record.raw(), (*record, number));
        }
    }
    match ending {
        Ending::Committed => {
            let committed = writer.finish().unwrap();
            assert_eq!(committed.stats.stored as usize, pending.len());
            assert_eq!(committed.stats.duplicates as usize, records.len() - pending.len());
            world.make_visible(committed);
            model.append(&mut pending);
        }
        Ending::Discarded => {
            let committed = writer.finish().unwrap();
            world.archive.discard(&committed).unwrap();
        }
        Ending::CrashedBeforeLedger => {
            writer.finish().unwrap();
            restart(world);
        }
        Ending::CrashedWriting => {
            std::mem::forget(writer);
            restart(world);
        }
        Ending::Abandoned => writer.abandon().unwrap(),
    }
}

fn merge(world: &mut World, date: &str, crashed: bool) {
    if world.visible.iter().all(|segment| segment.date.to_string() != date) {
        return;
    }
    if crashed {
        let inputs: Vec<_> = world.visible.iter().filter(|segment| segment.date.to_string() == date).cloned().collect();
        world.archive.merge(&inputs, world.last_commit + 1, &|| false).unwrap();
        restart(world);
    } else {
        world.merge(date);
    }
}

fn restart(world: &mut World) {
    world.reopen();
    world.clear(world.last_commit);
    assert_eq!(world.segment_files().len(), world.visible.len());
    assert!(world.files().iter().all(|name| !name.ends_with(".tmp")));
}

fn check(world: &World, model: &Model) {
    let mut stored: Vec<_> = world
        .records()
        .into_iter()
        .map(|record| (String::from_utf8(record.raw.to_vec()).unwrap(), record.commit))
        .collect();
    stored.sort();
    let wanted: Vec<_> = model.iter().map(|(raw, (_, commit))| (raw.clone(), *commit)).collect();
    assert_eq!(stored, wanted);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_each_committed_record_is_there_once(
        steps in prop::collection::vec(step(), 1..14),
        dedup_memory_bytes in prop::sample::select(vec![0, 300, 64 << 20]),
        write_memory_bytes in prop::sample::select(vec![0, 64 << 20]),
    ) {
        let mut world = World::with(|options| {
            options.dedup_memory_bytes = dedup_memory_bytes;
            options.write_memory_bytes = write_memory_bytes;
        });
        let mut model = Model::new();
        for step in steps {
            match step {
                Step::Commit(records, ending) => commit(&mut world, &mut model, &records, ending),
                Step::Merge(date, crashed) => {
                    merge(&mut world, ["2026-03-04", "2026-03-05", "2026-03-06"][date], crashed);
                }
                Step::LoseSidecars => {
                    let _ = std::fs::remove_dir_all(world.archive.root().join("_dedup"));
                }
                Step::Restart => restart(&mut world),
            }
            check(&world, &model);
        }
        let verified = world.archive.verify(&world.visible, archive::Depth::Records, |_| ()).unwrap();
        prop_assert_eq!(verified.damaged, vec![]);
    }
}
