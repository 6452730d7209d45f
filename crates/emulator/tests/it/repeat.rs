//! The same seed makes the same world, byte for byte; another seed another.

use chrono::TimeDelta;
use emulator::faults::FaultPlan;
use emulator::{EmulatorOptions, WorldOptions};

use crate::client::{Client, KINDS, emulator_with, start};

/// Everything an observer can see of two days of a world: listings, blobs and statuses.
async fn observed(seed: u64, fault_seed: u64) -> Vec<String> {
    let world = WorldOptions { seed, tenants: 2, records_total: Some(300), live_rate: 2.0, ..WorldOptions::default() };
    let faults = FaultPlan::preset("ten-percent", fault_seed).unwrap();
    let emulator = emulator_with(EmulatorOptions { world, faults, ..EmulatorOptions::default() });
    let mut seen = Vec::new();
    for tenant in emulator.world().tenant_ids() {
        let client = Client::new(&emulator, tenant);
        for kind in KINDS {
            client.start(kind).await;
            for attempt in 0..3 {
                let answer = client.list(kind, start() - TimeDelta::hours(24), start()).await;
                seen.push(format!("{attempt} {} {} {} {}", answer.status, answer.cut, answer.broken, answer.text()));
                if answer.status != 200 || answer.broken || !answer.text().ends_with("}]") {
                    continue;
                }
                for entry in answer.json().as_array().unwrap() {
                    let answer = client.get(entry["contentUri"].as_str().unwrap()).await;
                    seen.push(format!("{} {} {} {}", answer.status, answer.cut, answer.broken, answer.text()));
                }
            }
        }
    }
    seen
}

#[tokio::test]
async fn the_same_seeds_show_the_same_world_and_the_same_faults() {
    let first = observed(7, 1).await;
    assert!(first.len() > 60);
    assert!(first == observed(7, 1).await, "the second run differs from the first");
}

#[tokio::test]
async fn another_seed_shows_another_world() {
    let (one, other) = (observed(7, 1).await, observed(8, 1).await);
    assert!(one != other);
}

#[tokio::test]
async fn another_fault_seed_breaks_other_things_in_the_same_world() {
    let (one, other) = (observed(7, 1).await, observed(7, 2).await);
    assert!(one != other);
    let shared = one.iter().filter(|line| other.contains(line)).count();
    assert!(shared * 2 > one.len(), "most of it is the same: {shared} of {}", one.len());
}
