//! The key that seals: made once, renewed by a command, missed aloud when it is gone.

use std::os::unix::fs::PermissionsExt as _;

use emulator::{EmulatorOptions, WorldOptions};
use serde_json::Value;
use server::instance::InstanceLock;

use crate::support::{Home, Microsoft, on_time, said};

fn small(seed: u64) -> Microsoft {
    let world =
        WorldOptions { seed, tenants: 1, records_total: Some(100), lateness: on_time(), ..WorldOptions::default() };
    Microsoft::start(EmulatorOptions { world, ..EmulatorOptions::default() })
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn key_file(home: &Home) -> String {
    std::fs::read_to_string(home.data().join("secret.key")).unwrap()
}

/// The key that seals, and how much it has sealed.
fn front(home: &Home) -> (String, u64) {
    let status = json(&home.succeed(&["--json", "secrets", "status"]));
    (status["keys"][0]["id"].as_str().unwrap().to_owned(), status["keys"][0]["sealed"].as_u64().unwrap())
}

#[test]
fn the_key_is_made_for_its_owner_and_renewed_by_a_command() {
    let microsoft = small(3_401);
    let home = Home::new(&microsoft);
    home.succeed(&["collect", "--once"]);
    let mode = std::fs::metadata(home.data().join("secret.key")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let (old_file, old) = (key_file(&home), front(&home));
    assert_eq!(old.1, 1);

    let rotated = json(&home.succeed(&["--json", "secrets", "rotate"]));
    assert_eq!((rotated["resealed"].as_u64(), rotated["dropped"].as_u64()), (Some(1), Some(1)), "{rotated}");
    let new = front(&home);
    assert_eq!((new.0.as_str(), new.1), (rotated["key"].as_str().unwrap(), 1));
    assert_ne!(new.0, old.0);
    let old_key = old_file.lines().last().unwrap();
    assert!(!key_file(&home).contains(old_key));
    let shown = said(&home.run(&["secrets", "status"]));
    assert!(!shown.contains(key_file(&home).lines().last().unwrap()), "{shown}");
    home.succeed(&["collect", "--once"]);
    home.succeed(&["doctor"]);
}

#[test]
fn a_rotation_that_was_killed_between_its_steps_is_finished_by_the_next() {
    let microsoft = small(3_402);
    let home = Home::new(&microsoft);
    home.succeed(&["collect", "--once"]);
    // As it is left by one that was killed once the fresh key was in front.
    let fresh = "p3Jm0q1E8uQ4v9b2Yk6sXc7dRf5tGh3WjZl8NnBaVxM=";
    let file = key_file(&home)
        .replace("copy, apart from the ledger's.\n", &format!("copy, apart from the ledger's.\n{fresh}\n"));
    std::fs::write(home.data().join("secret.key"), file).unwrap();
    home.succeed(&["collect", "--once"]);
    let doctor = home.succeed(&["doctor"]);
    assert!(doctor.contains("WARN  secrets") && doctor.contains("secrets rotate"), "{doctor}");

    let rotated = json(&home.succeed(&["--json", "secrets", "rotate"]));
    assert_eq!((rotated["resumed"].as_bool(), rotated["resealed"].as_u64()), (Some(true), Some(1)), "{rotated}");
    assert!(key_file(&home).contains(fresh));
    assert_eq!(key_file(&home).lines().filter(|line| !line.starts_with('#')).count(), 1);
    assert_eq!(front(&home).1, 1);
}

#[test]
fn a_key_that_is_lost_is_missed_aloud_and_stops_no_collection() {
    let microsoft = small(3_403);
    let home = Home::new(&microsoft);
    home.succeed(&["collect", "--once"]);
    std::fs::remove_file(home.data().join("secret.key")).unwrap();
    let collected = home.run(&["collect", "--once"]);
    assert!(collected.status.success() && said(&collected).contains("does not open"), "{}", said(&collected));
    home.assert_holds_what_was_published(&microsoft, 3_403);
    assert!(home.fail(&["secrets", "status"], 3).contains("secrets reset"));
    let doctor = home.run(&["doctor"]);
    assert_eq!(doctor.status.code(), Some(3));
    assert!(said(&doctor).contains("FAIL  sealed"), "{}", said(&doctor));

    assert!(home.succeed(&["secrets", "reset"]).contains("would forget: check"));
    home.fail(&["secrets", "status"], 3);
    assert!(home.succeed(&["secrets", "reset", "--yes"]).contains("forgotten: check"));
    home.succeed(&["collect", "--once"]);
    home.succeed(&["secrets", "status"]);
    home.succeed(&["doctor"]);
}

#[test]
fn keys_from_the_environment_are_renewed_by_whoever_sets_them() {
    let microsoft = small(3_404);
    let home = Home::new(&microsoft);
    let (old, new) = ("q1w2E3r4T5y6U7i8O9p0A1s2D3f4G5h6J7k8L9z0X1c=", "m1N2b3V4c5X6z7L8k9J0h1G2f3D4s5A6p7O8i9U0y1Q=");
    let run = |keys: &str, arguments: &[&str]| {
        let output = home.tenantry(arguments).env("TENANTRY_SECRETS__KEY", keys).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        said(&output)
    };
    run(old, &["collect", "--once"]);
    assert!(!home.data().join("secret.key").exists());
    assert!(run(old, &["secrets", "rotate"]).contains("openssl rand"));
    let both = format!("{new},{old}");
    assert!(run(&both, &["secrets", "rotate"]).contains("can be taken out of TENANTRY_SECRETS__KEY"));
    run(new, &["secrets", "status"]);
    run(new, &["doctor"]);
}

#[test]
fn a_collector_that_is_running_is_waited_for() {
    let microsoft = small(3_405);
    let home = Home::new(&microsoft);
    home.succeed(&["collect", "--once"]);
    let lock = InstanceLock::acquire(&home.data()).unwrap();
    let rotated = json(&home.succeed(&["--json", "secrets", "rotate"]));
    assert_eq!((rotated["resealed"].as_u64(), rotated["dropped"].as_u64()), (Some(1), Some(1)));
    drop(lock);
}
