//! A ledger that is lost, empty, another's or older than the archive never costs a record that is archived; and of a file
//! that is damaged nothing is answered.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use emulator::{EmulatorOptions, WorldOptions};

use crate::support::{Home, Microsoft, on_time};

fn small(seed: u64) -> Microsoft {
    let world =
        WorldOptions { seed, tenants: 1, records_total: Some(300), lateness: on_time(), ..WorldOptions::default() };
    Microsoft::start(EmulatorOptions { world, ..EmulatorOptions::default() })
}

/// Every segment that lies in the archive, with its bytes.
fn segments(home: &Home) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "parquet") {
                found.insert(path.clone(), std::fs::read(path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&home.data().join("archive"), &mut found);
    found
}

fn forget_ledger(home: &Home) {
    for name in ["ledger.db", "ledger.db-wal", "ledger.db-shm"] {
        let _ = std::fs::remove_file(home.data().join(name));
    }
}

/// One sentence that names the archive and the ledger and what to do, with the exit code of storage.
fn assert_refused(home: &Home, arguments: &[&str]) {
    let stderr = home.fail(arguments, 6);
    for word in ["ledger.db", "archive", "restore the ledger", "set the archive folder aside"] {
        assert!(stderr.contains(word), "{word:?} is not in {stderr:?}");
    }
}

#[test]
fn a_lost_ledger_is_not_begun_anew_beside_a_full_archive() {
    let microsoft = small(2_901);
    let home = Home::new(&microsoft);
    let tenant = microsoft.tenants()[0].to_string();
    home.succeed(&["collect", "--once"]);
    let before = segments(&home);
    assert!(!before.is_empty());
    forget_ledger(&home);
    for empty_file in [false, true] {
        if empty_file {
            std::fs::write(home.data().join("ledger.db"), "").unwrap();
        }
        assert_refused(&home, &["tenant", "add", &tenant]);
        assert_refused(&home, &["collect", "--once"]);
        assert_eq!(home.data().join("ledger.db").exists(), empty_file, "none is made");
        home.fail(&["query", "SELECT count(*) FROM audit"], 6);
        assert_eq!(segments(&home), before);
    }
    // Set aside as the sentence says, collection begins anew.
    std::fs::rename(home.data().join("archive"), home.data().join("archive-before")).unwrap();
    home.succeed(&["tenant", "add", &tenant]);
    home.succeed(&["collect", "--once"]);
    home.assert_holds_what_was_published(&microsoft, 2_901);
}

#[test]
fn an_empty_folder_in_the_archives_place_is_a_disk_that_is_not_mounted_and_no_new_archive() {
    let microsoft = small(2_906);
    let home = Home::new(&microsoft);
    home.succeed(&["collect", "--once"]);
    let before = segments(&home);
    let (archive, disk) = (home.data().join("archive"), home.data().join("disk"));
    std::fs::rename(&archive, &disk).unwrap();
    // Once with nothing there, then with the bare folder under the mount, which an attempt before may have put its mark into.
    for arguments in [&["collect", "--once"][..], &["collect", "--once"], &["query", "SELECT count(*) FROM audit"]] {
        let stderr = home.fail(arguments, 6);
        let segments = format!("its ledger names {} segments in it", before.len());
        for word in ["archive", "is empty", &segments, "mount its disk"] {
            assert!(stderr.contains(word), "{word:?} is not in {stderr:?}");
        }
    }
    std::fs::remove_dir_all(&archive).unwrap();
    std::fs::rename(&disk, &archive).unwrap();
    home.succeed(&["collect", "--once"]);
    home.assert_holds_what_was_published(&microsoft, 2_906);
}

#[test]
fn an_archive_is_opened_under_its_own_ledger_only() {
    let microsoft = small(2_902);
    let (home, other) = (Home::new(&microsoft), Home::new(&microsoft));
    home.succeed(&["collect", "--once"]);
    let before = segments(&home);
    let ledger = home.data().join("ledger.db");
    std::fs::rename(&ledger, home.data().join("kept")).unwrap();
    std::fs::copy(other.data().join("ledger.db"), &ledger).unwrap();
    for arguments in [
        &["collect", "--once"][..],
        &["query", "SELECT count(*) FROM audit"],
        &["archive", "verify"],
        &["archive", "compact"],
    ] {
        assert_refused(&home, arguments);
    }
    // As an earlier version left it: the mark names no ledger. Who knows nothing of it does not get it either.
    std::fs::write(home.data().join("archive/_tenantry.json"), r#"{"archive_format":1}"#).unwrap();
    assert_refused(&home, &["collect", "--once"]);
    assert_refused(&home, &["query", "SELECT count(*) FROM audit"]);
    assert_eq!(segments(&home), before);
    // Its own ledger does.
    std::fs::rename(home.data().join("kept"), &ledger).unwrap();
    home.succeed(&["query", "SELECT count(*) FROM audit"]);
    home.succeed(&["collect", "--once"]);
    let mark = std::fs::read_to_string(home.data().join("archive/_tenantry.json")).unwrap();
    assert!(mark.contains("\"ledger\""), "{mark}");
    home.assert_holds_what_was_published(&microsoft, 2_902);
}

#[test]
fn under_a_restored_older_ledger_nothing_is_lost_and_what_the_feed_has_comes_once() {
    let microsoft = small(2_903);
    let home = Home::new(&microsoft);
    std::fs::copy(home.data().join("ledger.db"), home.path().join("backup.db")).unwrap();
    home.succeed(&["collect", "--once"]);
    let before = segments(&home);
    forget_ledger(&home);
    std::fs::copy(home.path().join("backup.db"), home.data().join("ledger.db")).unwrap();
    home.succeed(&["collect", "--once"]);
    home.assert_holds_what_was_published(&microsoft, 2_903);
    let today = chrono::Utc::now().date_naive();
    let after = segments(&home);
    for (path, bytes) in before {
        let text = path.to_string_lossy().into_owned();
        let date = text.split("date=").nth(1).unwrap().get(..10).unwrap().parse::<chrono::NaiveDate>().unwrap();
        if (today - date).num_days() > 5 {
            let aside = PathBuf::from(text.replace("/archive/", "/archive/_aside/"));
            assert_eq!(after.get(&aside), Some(&bytes), "{text} is kept");
        }
    }
    // How many there are is told, with their size.
    let aside: Vec<u64> = after
        .iter()
        .filter(|(path, _)| path.iter().any(|name| name == "_aside"))
        .map(|(_, bytes)| bytes.len() as u64)
        .collect();
    assert!(!aside.is_empty());
    let coverage: serde_json::Value = serde_json::from_str(&home.succeed(&["--json", "coverage"])).unwrap();
    let told = &coverage["set_aside"][0];
    assert_eq!((told["files"].as_u64(), told["bytes"].as_u64()), (Some(aside.len() as u64), Some(aside.iter().sum())));
    assert!(home.succeed(&["coverage"]).contains(&format!("{} segment(s)", aside.len())));
    let doctor = home.run(&["doctor"]);
    assert!(String::from_utf8_lossy(&doctor.stdout).contains(&format!("{} segment(s) of 1 tenant(s)", aside.len())));
}

#[test]
fn of_a_damaged_segment_nothing_wrong_is_answered_and_it_is_named() {
    const ALL: [&str; 4] = ["query", "--format", "csv", "SELECT * FROM audit"];
    let microsoft = small(2_904);
    let home = Home::new(&microsoft);
    home.succeed(&["collect", "--once"]);
    let sound = home.succeed(&ALL);
    let sound: std::collections::HashSet<&str> = sound.lines().collect();
    let (path, whole) = segments(&home).into_iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    for at in [1000, whole.len() / 2, whole.len() - 600] {
        let mut bytes = whole.clone();
        bytes[at..at + 40].iter_mut().for_each(|byte| *byte ^= 0x55);
        std::fs::write(&path, bytes).unwrap();
        let output = home.run(&ALL);
        assert_eq!(output.status.code(), Some(6), "{}", crate::support::said(&output));
        let stderr = String::from_utf8_lossy(&output.stderr);
        for word in [name.as_str(), "is damaged", "restore it from a backup", "archive verify"] {
            assert!(stderr.contains(word), "{word:?} is not in {stderr:?}");
        }
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(stdout.lines().all(|line| sound.contains(line)), "byte {at}: {stdout}");
    }
    std::fs::remove_file(&path).unwrap();
    let stderr = home.fail(&ALL, 6);
    assert!(stderr.contains(&name) && stderr.contains("is missing"), "{stderr}");
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(home.succeed(&ALL).lines().count(), sound.len());
}

#[test]
fn a_copy_where_no_log_can_be_made_answers_queries() {
    let microsoft = small(2_905);
    let home = Home::new(&microsoft);
    home.succeed(&["collect", "--once"]);
    let count = home.succeed(&["query", "--format", "csv", "SELECT count(*) FROM audit"]);
    let _ = std::fs::remove_file(home.data().join("ledger.db-shm"));
    // As on a medium that cannot be written: SQLite can make no shared-memory file.
    std::os::unix::fs::symlink("/nonexistent/folder/shm", home.data().join("ledger.db-shm")).unwrap();
    assert_eq!(home.succeed(&["query", "--format", "csv", "SELECT count(*) FROM audit"]), count);
}
