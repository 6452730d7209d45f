//! The whole program with its archive in object storage: killed at random moments, moved to another machine, cut off from
//! its store, asked and verified.

use std::collections::BTreeSet;
use std::time::Duration;

use server::archive::{Archive, ArchiveOptions};

use crate::replay::unruly;
use crate::serving::{Serving, get};
use crate::stores::{Door, Passage, Store};
use crate::support::{Home, Microsoft};

const KILLS: u32 = 6;

/// A home whose archive lies in the store, which is reached at `endpoint`.
fn home(microsoft: &Microsoft, store: &Store, endpoint: &str) -> Home {
    let home = Home::new(microsoft);
    home.write("store.env", store.keys());
    home.append("tenantry.toml", &store.configuration(endpoint));
    home
}

/// Ends the test unless the store holds what was published and nothing besides; how many records that are.
pub(crate) fn assert_stored(home: &Home, microsoft: &Microsoft, store: &Store, seed: u64) -> u64 {
    // As another machine sees it, which has the ledger and nothing else.
    let workspace = tempfile::tempdir().unwrap();
    let options = ArchiveOptions::remote(workspace.path(), store.options());
    let sum = home.assert_held_in(&Archive::open_read_only(&options).unwrap(), microsoft, seed);
    for tenant in microsoft.tenants() {
        let known = home.segments(microsoft, tenant);
        let known: BTreeSet<String> = known.iter().map(|segment| segment.path().to_str().unwrap().to_owned()).collect();
        let mut there = store.segments_of(&tenant.to_string());
        for segment in home.obsolete(microsoft, tenant) {
            there.remove(segment.path().to_str().unwrap());
        }
        assert_eq!(there, known, "seed {seed}: what other readers see is what lies there");
    }
    sum
}

fn killed_at_any_moment(store: Option<Store>, seed: u64) {
    let Some(store) = store else { return };
    let mut draw = fastrand::Rng::with_seed(seed);
    let microsoft = Microsoft::start(unruly(seed));
    let home = home(&microsoft, &store, store.endpoint());
    let mut killed = 0;
    for round in 0..KILLS * 4 {
        if killed == KILLS {
            break;
        }
        // Not among a first run's starts of subscriptions: one that was noted and not asked for waits a quarter of an hour.
        let enough = microsoft.requests() + 40 + draw.u64(0..200);
        let which = format!("seed {seed}, round {round}");
        killed += u32::from(home.collect_killed_at(&microsoft, enough, &which, || {}));
        // Another machine goes on now and then, with the ledger and nothing else.
        if draw.bool() {
            let _ = std::fs::remove_dir_all(home.data().join("archive-workspace"));
        }
    }
    assert!(killed > 0, "seed {seed}: every run ended before it could be killed");
    microsoft.wait_until_complete();
    home.succeed(&["collect", "--once"]);
    let sum = assert_stored(&home, &microsoft, &store, seed);
    let counted = home.succeed(&["query", "--format", "csv", "SELECT count(*) AS n FROM audit"]);
    assert_eq!(counted, format!("n\n{sum}\n"));
    std::fs::remove_dir_all(home.data().join("archive-workspace")).unwrap();
    home.succeed(&["archive", "verify"]);
    home.succeed(&["archive", "compact"]);
    assert_eq!(assert_stored(&home, &microsoft, &store, seed), sum);
    let covered = home.succeed(&["coverage"]);
    assert!(covered.contains("complete"), "{covered}");
    let shown = home.succeed(&["config", "show"]);
    assert!(shown.contains("://audit/company") && !store.keys().lines().any(|line| shown.contains(line)), "{shown}");
    println!("{killed} kills, {sum} records");
}

#[test]
fn an_archive_on_s3_holds_what_was_published_whenever_it_is_killed() {
    killed_at_any_moment(Store::s3(), 2_104);
}

#[test]
fn an_archive_on_azure_blob_storage_holds_what_was_published_whenever_it_is_killed() {
    killed_at_any_moment(Store::azure(), 2_105);
}

#[test]
fn a_store_that_is_away_for_a_while_is_waited_for_and_costs_no_record() {
    let Some(store) = Store::s3() else { return };
    let seed = 2_106;
    let microsoft = Microsoft::start(unruly(seed));
    let door = Door::to(store.endpoint());
    let home = home(&microsoft, &store, &door.endpoint());
    let often = "[collect]\npoll_interval = \"2s\"\ncommit_interval = \"500ms\"\n";
    home.write("tenantry.toml", &home.text("tenantry.toml").replace("[collect]\n", often));
    let mut serving = Serving::start(&home);
    let console = serving.logged("console");
    let console = console.trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
    let told = || get(console, "/api/v1/status");
    let until = |is_so: &dyn Fn() -> bool| {
        while !is_so() {
            std::thread::park_timeout(Duration::from_millis(50));
        }
    };
    until(&|| !store.segments().is_empty());
    // What was under way may still come through, and say for a moment that all is well.
    let is_away = || told().contains("archive_unavailable") && get(console, "/readyz").starts_with("HTTP/1.1 503");
    door.set(Passage::Busy);
    until(&is_away);
    door.set(Passage::Closed);
    let refused = door.connections();
    until(&|| door.connections() > refused + 3);
    until(&is_away);
    let before = store.segments();
    door.set(Passage::Open);
    until(&|| !told().contains("archive_unavailable") && store.segments() != before);
    microsoft.wait_until_complete();
    drop(serving);
    home.succeed(&["collect", "--once"]);
    let sum = assert_stored(&home, &microsoft, &store, seed);
    println!("{sum} records through {} connections", door.connections());
}

#[test]
fn a_store_that_cannot_be_used_is_told_in_a_sentence_and_nothing_is_collected() {
    let Some(store) = Store::s3() else { return };
    let microsoft = Microsoft::start(unruly(7));
    let home = Home::new(&microsoft);
    home.write("store.env", store.keys());
    home.append("tenantry.toml", &store.configuration(store.endpoint()).replace("s3://audit/", "s3://other/"));
    let told = home.fail(&["collect", "--once"], 6);
    assert!(told.contains("create the bucket or container") && !told.contains("hunter2"), "{told}");
    assert_eq!(microsoft.fetches(), 0);
    home.write("store.env", "hunter2\n");
    let told = home.fail(&["collect", "--once"], 3);
    assert!(told.contains("line 1 of archive.credentials_file") && !told.contains("hunter2"), "{told}");
}
