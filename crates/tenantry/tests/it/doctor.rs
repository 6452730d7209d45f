//! `doctor` finds what is wrong, says what it means and what mends it, and leaves everything as it was.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use emulator::{DEFAULT_SECRET, EmulatorOptions, WorldOptions, default_app};
use serde_json::Value;
use server::instance::InstanceLock;

use crate::support::{Home, Microsoft, on_time, said};

fn small(seed: u64) -> Microsoft {
    let world =
        WorldOptions { seed, tenants: 1, records_total: Some(300), lateness: on_time(), ..WorldOptions::default() };
    Microsoft::start(EmulatorOptions { world, ..EmulatorOptions::default() })
}

fn examine(home: &Home, code: i32) -> Value {
    let output = home.run(&["--json", "doctor"]);
    assert_eq!(output.status.code(), Some(code), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The steps of one name.
fn steps<'a>(report: &'a Value, name: &str) -> Vec<&'a Value> {
    report["steps"].as_array().unwrap().iter().filter(|step| step["step"] == name).collect()
}

/// Ends the test unless the first step of that name ended so; of what failed, the mend is asked for too.
fn assert_status(report: &Value, name: &str, status: &str) {
    let found = steps(report, name);
    assert_eq!(found.first().map(|step| &step["status"]), Some(&Value::from(status)), "{name}: {report:#}");
    if status == "failed" {
        let mend = found[0]["mend"].as_str().unwrap();
        assert!(!mend.is_empty(), "{report:#}");
    }
}

#[test]
fn a_collector_that_works_passes_every_step() {
    let microsoft = small(3_201);
    let home = Home::new(&microsoft);
    home.succeed(&["collect", "--once"]);
    let report = examine(&home, 0);
    assert_eq!(report["outcome"], "ok", "{report:#}");
    for step in [
        "configuration",
        "credential",
        "secrets",
        "data_dir",
        "disk",
        "ledger",
        "sealed",
        "archive",
        "collector",
        "proxy",
        "dns",
        "connection",
        "clock",
        "cloud",
        "token",
        "roles",
        "subscriptions",
        "listing",
    ] {
        assert_status(&report, step, "ok");
    }
    // Plain http on this machine, and no public site: neither can be looked at, and both say so.
    assert_status(&report, "tls", "skipped");
    assert_status(&report, "public_url", "skipped");
    let shown = home.succeed(&["doctor"]);
    assert!(shown.contains("ok    roles: ActivityFeed.Read") && !shown.contains("FAIL"), "{shown}");
    assert!(!shown.contains(DEFAULT_SECRET), "{shown}");
}

#[test]
fn nothing_is_changed_and_nobody_disturbed() {
    let microsoft = small(3_202);
    let home = Home::new(&microsoft);
    home.succeed(&["collect", "--once"]);
    // As a running collector has it.
    let lock = InstanceLock::acquire(&home.data()).unwrap();
    let before = contents(home.path());
    examine(&home, 0);
    assert_eq!(contents(home.path()), before);
    drop(lock);

    let fresh = Home::empty();
    examine(&fresh, 3);
    assert_eq!(contents(fresh.path()), BTreeMap::new());
}

/// Every file below a folder, but the index that SQLite keeps beside a ledger while it is open.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.to_string_lossy();
        if path.is_dir() {
            found.extend(contents(&path));
        } else if !name.ends_with("-shm") && !name.ends_with("-wal") {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    found
}

#[test]
fn a_wrong_secret_ends_the_chain_at_the_token() {
    let microsoft = small(3_203);
    let home = Home::new(&microsoft);
    home.write("secret.txt", "not.the~secret");
    let report = examine(&home, 4);
    assert_status(&report, "cloud", "ok");
    assert_status(&report, "token", "failed");
    for step in ["roles", "subscriptions", "listing"] {
        assert_status(&report, step, "skipped");
    }
    assert!(!report.to_string().contains("not.the~secret"), "{report:#}");
}

#[test]
fn a_permission_that_was_not_granted_is_found_in_the_token() {
    let microsoft = small(3_204);
    let home = Home::new(&microsoft);
    let client = default_app(3_204).client_id;
    microsoft.emulator.world().set_roles(microsoft.tenants()[0], client, Some(&[]));
    let report = examine(&home, 4);
    assert_status(&report, "token", "ok");
    assert_status(&report, "roles", "failed");
    assert!(steps(&report, "roles")[0]["mend"].as_str().unwrap().contains("ActivityFeed.Read"), "{report:#}");
}

#[test]
fn what_the_collector_ran_into_is_told_too() {
    let microsoft = small(3_205);
    let home = Home::new(&microsoft);
    // Nothing has been started yet.
    let report = examine(&home, 0);
    assert_status(&report, "subscriptions", "warning");
    assert_status(&report, "listing", "skipped");
    assert_status(&report, "ledger", "ok");
    // That auditing is off is answered to a start only, and a check-up starts nothing.
    microsoft.emulator.world().set_auditing(microsoft.tenants()[0], false);
    home.fail(&["collect", "--once"], 4);
    let report = examine(&home, 0);
    assert_status(&report, "ledger", "warning");
    assert!(steps(&report, "ledger")[0]["means"].as_str().unwrap().contains("auditing"), "{report:#}");
}

#[test]
fn a_microsoft_that_does_not_answer_ends_the_chain_at_the_connection() {
    let microsoft = small(3_206);
    let home = Home::new(&microsoft);
    drop(microsoft);
    let report = examine(&home, 5);
    assert_status(&report, "dns", "ok");
    assert_status(&report, "connection", "failed");
    for step in ["tls", "clock", "cloud", "token", "roles", "subscriptions", "listing"] {
        assert_status(&report, step, "skipped");
    }
}

#[test]
fn a_clock_that_is_wrong_is_measured() {
    let microsoft = small(3_207);
    let home = Home::new(&microsoft);
    microsoft.emulator.world().clock().advance(Duration::from_secs(3_600));
    let report = examine(&home, 4);
    assert_status(&report, "clock", "failed");
    assert!(steps(&report, "clock")[0]["result"].as_str().unwrap().contains("behind"), "{report:#}");
}

#[test]
fn files_that_are_missing_damaged_or_open_to_others_are_named() {
    use std::os::unix::fs::PermissionsExt as _;
    let microsoft = small(3_208);
    let home = Home::new(&microsoft);
    home.succeed(&["collect", "--once"]);

    let key = home.data().join("secret.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let report = examine(&home, 3);
    assert_status(&report, "secrets", "failed");
    assert!(report.to_string().contains("chmod 600"), "{report:#}");
    std::fs::rename(&key, key.with_extension("away")).unwrap();
    assert_status(&examine(&home, 3), "sealed", "failed");
    std::fs::rename(key.with_extension("away"), &key).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();

    let segment = home.segments(&microsoft, microsoft.tenants()[0]).remove(0);
    let path = home.data().join("archive").join(segment.path());
    std::fs::rename(&path, path.with_extension("gone")).unwrap();
    let report = examine(&home, 6);
    assert_status(&report, "archive", "failed");
    assert!(steps(&report, "archive")[0]["result"].as_str().unwrap().contains("is not there"), "{report:#}");
    std::fs::rename(path.with_extension("gone"), &path).unwrap();

    home.write("data/ledger.db", &"this is no ledger; ".repeat(400));
    let report = examine(&home, 6);
    assert_status(&report, "ledger", "failed");
    assert_status(&report, "archive", "skipped");

    home.write("tenantry.toml", "[app]\nclientid = 'x'\n");
    let report = examine(&home, 3);
    assert_status(&report, "configuration", "failed");
    assert!(steps(&report, "configuration")[0]["result"].as_str().unwrap().contains("app.client_id"), "{report:#}");
}

#[test]
fn a_public_address_that_leads_nowhere_is_a_warning_and_one_that_leads_home_is_well() {
    let microsoft = small(3_209);
    let home = Home::new(&microsoft);
    home.succeed(&["collect", "--once"]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = std::fs::read_to_string(home.path().join("tenantry.toml")).unwrap();
    home.write("tenantry.toml", &format!("{config}[public]\nlisten = \"127.0.0.1:0\"\nurl = \"http://{address}\"\n"));
    std::thread::spawn(move || {
        for client in listener.incoming().flatten().take(1) {
            use std::io::{Read as _, Write as _};
            let mut client = client;
            let _ = client.read(&mut [0; 4096]);
            let _ = client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n");
        }
    });
    assert_status(&examine(&home, 0), "public_url", "ok");
    assert_status(&examine(&home, 0), "public_url", "warning");
}
