//! A blob of 100 MiB is a stream: the process stays under 300 MiB.

use std::process::Stdio;
use std::time::Duration;

use emulator::{EmulatorOptions, WorldOptions};

use crate::support::{Home, Microsoft};

#[test]
fn a_blob_of_100_mib_costs_less_than_300_mib() {
    let world = WorldOptions {
        seed: 2_104,
        tenants: 1,
        records_total: Some(200),
        huge_blob: Some(100 << 20),
        ..WorldOptions::default()
    };
    let microsoft = Microsoft::start(EmulatorOptions { world, ..EmulatorOptions::default() });
    let home = Home::new(&microsoft);
    let mut child = home
        .tenantry(&["collect", "--once", "--quiet"])
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let status_file = format!("/proc/{}/status", child.id());
    let mut peak_kib = 0;
    let status = loop {
        // The kernel keeps the high-water mark; the last look before the end is what counts.
        if let Ok(text) = std::fs::read_to_string(&status_file)
            && let Some(line) = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))
        {
            peak_kib = line.trim().trim_end_matches(" kB").parse().unwrap_or(peak_kib);
        }
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    };
    assert!(status.success(), "{status}");
    println!("peak {} MiB", peak_kib / 1024);
    assert!(peak_kib > 0 && peak_kib < 300 * 1024, "peak {} MiB", peak_kib / 1024);
    let bytes = home.succeed(&["query", "--format", "csv", "SELECT sum(octet_length(raw)) FROM audit"]);
    let bytes: u64 = bytes.lines().nth(1).unwrap().parse().unwrap();
    assert!(bytes > 99 << 20, "{bytes}");
}
