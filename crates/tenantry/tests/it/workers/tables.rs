//! Tables of tenants that change hands: whoever publishes, and whoever wakes up and goes on publishing, every snapshot there
//! ever was has whole files and each record once.
//!
//! Never asks our own reader: the entries are read as the protocol has it.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::{SHORT, Shared, long_world, serve, stop};
use crate::serving::Serving;

/// The files of a table after each entry of its log, with their bytes and records.
fn snapshots(folder: &Path) -> Vec<BTreeMap<String, (u64, u64)>> {
    let (mut all, mut files) = (Vec::new(), BTreeMap::new());
    loop {
        // None is left out, and none is so old yet that it was removed.
        let entry = folder.join(format!("_delta_log/{:020}.json", all.len()));
        let Ok(text) = std::fs::read_to_string(entry) else { return all };
        for line in text.lines() {
            let action: Value = serde_json::from_str(line).unwrap();
            if let Some(add) = action.get("add") {
                let stats: Value = serde_json::from_str(add["stats"].as_str().unwrap()).unwrap();
                let file = (add["size"].as_u64().unwrap(), stats["numRecords"].as_u64().unwrap());
                files.insert(add["path"].as_str().unwrap().to_owned(), file);
            }
            if let Some(remove) = action.get("remove") {
                assert!(files.remove(remove["path"].as_str().unwrap()).is_some(), "{line}");
            }
        }
        all.push(files.clone());
    }
}

#[test]
fn every_snapshot_of_tenants_that_change_hands_is_whole_and_has_each_record_once() {
    let seed = 2_705;
    let microsoft = long_world(seed, 6);
    let shared = Shared::new(&microsoft, 3, SHORT);
    for home in &shared.homes {
        home.append("tenantry.toml", "tables = \"delta\"\npublish_interval = \"1s\"\n");
    }
    shared.add_tenants(&microsoft);
    let [one, two, three] = [0, 1, 2].map(|home| serve(&shared.homes[home]));
    let in_thirds = |held: &dyn Fn(&Serving) -> u64| [&one, &two, &three].iter().all(|serving| held(serving) == 2);
    shared.until_held(in_thirds);
    shared.until_more_segments(30);
    two.signal("STOP");
    shared.until_held(|held| held(&two) == 0 && held(&one) + held(&three) == 6);
    shared.until_more_segments(20);
    // Whatever it was publishing, it goes on with.
    two.signal("CONT");
    shared.until_held(in_thirds);
    three.signal("KILL");
    shared.until_held(|held| held(&three) == 0 && held(&one) + held(&two) == 6);
    shared.until_more_segments(20);
    stop(one);
    stop(two);
    microsoft.wait_until_complete();
    let home = &shared.homes[0];
    home.succeed(&["collect", "--once"]);
    home.succeed(&["ledger", "migrate", "--to", "sqlite:data/ledger.db"]);

    for tenant in microsoft.tenants() {
        let folder = home.data().join("archive").join(format!("tenant={tenant}"));
        let snapshots = snapshots(&folder);
        assert!(snapshots.len() > 5, "{tenant}: {} snapshots", snapshots.len());
        for (version, snapshot) in snapshots.iter().enumerate() {
            for (path, (bytes, _)) in snapshot {
                let file = std::fs::metadata(folder.join(path));
                assert_eq!(file.map(|file| file.len()).ok(), Some(*bytes), "{tenant}, version {version}: {path}");
            }
        }
        let records = snapshots.iter().map(|snapshot| snapshot.values().map(|(_, rows)| rows).sum::<u64>());
        let records: Vec<u64> = records.collect();
        assert!(records.is_sorted(), "{tenant}: records were there and then not: {records:?}");
        let segments = home.segments(&microsoft, tenant);
        let shown: BTreeMap<String, (u64, u64)> = segments
            .iter()
            .map(|segment| {
                let path = segment.path().iter().skip(1).collect::<std::path::PathBuf>();
                (path.to_str().unwrap().to_owned(), (segment.bytes, segment.rows))
            })
            .collect();
        assert_eq!(snapshots.last(), Some(&shown), "{tenant}");
    }
    let archive =
        server::archive::Archive::open_read_only(&server::archive::ArchiveOptions::at(home.data().join("archive")));
    assert!(home.assert_held_in(&archive.unwrap(), &microsoft, seed) > 10_000);
}
