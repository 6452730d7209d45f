//! The main job on real input: recorded records replayed to three tenants that repeat, delay and fail.

use std::time::Duration;

use emulator::world::{Lateness, Limits};
use emulator::{EmulatorOptions, FaultPlan, WorldOptions};

use crate::support::{Home, Microsoft, recorded};

/// Three tenants with duplicates, late content and one request in ten failing.
pub(crate) fn unruly(seed: u64) -> EmulatorOptions {
    let lateness = Lateness {
        share: 0.05,
        max: Duration::from_secs(3 * 86_400),
        after_start: Some(Duration::from_secs(3)),
        ..Lateness::default()
    };
    EmulatorOptions {
        world: WorldOptions {
            seed,
            tenants: 3,
            lateness,
            limits: Limits { requests_per_minute: None, ..Limits::default() },
            ..WorldOptions::default()
        },
        faults: FaultPlan::preset("demo", seed).unwrap(),
        ..EmulatorOptions::default()
    }
}

fn collect_everything(microsoft: &Microsoft, home: &Home, seed: u64) -> u64 {
    home.succeed(&["collect", "--once"]);
    microsoft.wait_until_complete();
    home.succeed(&["collect", "--once"]);
    for tenant in microsoft.tenants() {
        assert!(home.obsolete(microsoft, tenant).is_empty(), "nobody reads, so nothing stays that was merged away");
    }
    home.assert_holds_what_was_published(microsoft, seed)
}

#[test]
fn recorded_records_arrive_once_and_byte_for_byte() {
    let Some(files) = recorded() else {
        println!("skipped: ../shared/records is not beside the project");
        return;
    };
    let seed = 2_101;
    let mut options = unruly(seed);
    options.world.records_files = files;
    let microsoft = Microsoft::start(options);
    let home = Home::new(&microsoft);
    let records = collect_everything(&microsoft, &home, seed);
    assert!(records > 3 * 5_000, "{records} records are fewer than the recordings hold for three tenants");
}

#[test]
fn generated_records_arrive_once_and_byte_for_byte() {
    let seed = 2_102;
    let microsoft = Microsoft::start(unruly(seed));
    let home = Home::new(&microsoft);
    let records = collect_everything(&microsoft, &home, seed);
    assert!(records > 1_000, "{records}");

    // A third time there is nothing left to do, and nothing changes.
    let before = home.succeed(&["query", "--format", "csv", "SELECT max(commit), count(*) FROM audit"]);
    home.succeed(&["collect", "--once"]);
    assert_eq!(home.succeed(&["query", "--format", "csv", "SELECT max(commit), count(*) FROM audit"]), before);
}
