//! The built program with a webhook on its own TLS: set, validated and notified by the emulator over loopback, and a
//! certificate that changes while it runs.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use emulator::world::Limits;
use emulator::{EmulatorOptions, WorldOptions};
use serde_json::Value;

use crate::serving::{Serving, get};
use crate::support::{Home, Microsoft};

/// Far longer than it takes; a test that waits for this has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// A port that was free a moment ago: the address has to be known before the program starts.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A key and its certificate in one file, as the program makes them.
fn certificate(home: &Home, name: &str) {
    home.succeed(&["certificate", "new", "--out", name]);
}

/// Asks for the coverage until it shows what is waited for.
fn wait_for(home: &Home, what: &str, shows: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let begun = Instant::now();
    loop {
        let report: Value = serde_json::from_str(&home.succeed(&["--json", "coverage"])).unwrap();
        let items = report["items"].as_array().unwrap().clone();
        if shows(&items) {
            return items;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} never came: {report:#}");
        std::thread::park_timeout(Duration::from_millis(200));
    }
}

fn counted(console: SocketAddr, line: &str) -> u64 {
    let metrics = get(console, "/metrics");
    let found = metrics.lines().find_map(|have| have.strip_prefix(line));
    found.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

fn wait_for_count(console: SocketAddr, line: &str, count: u64) {
    let begun = Instant::now();
    while counted(console, line) < count {
        assert!(begun.elapsed() < PATIENCE, "{line} never came to {count}: {}", get(console, "/metrics"));
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

#[test]
fn a_notification_over_our_own_tls_leads_to_archived_records_before_and_after_the_certificate_changes() {
    let limits = Limits { start_wait: Duration::ZERO, list_status_missing: 0.0, ..Limits::default() };
    let mut world = WorldOptions {
        seed: 2_601,
        tenants: 1,
        records_total: Some(50),
        live_rate: 120.0,
        limits,
        ..WorldOptions::default()
    };
    // Small blobs, one after the other.
    (world.blobs.median, world.blobs.max, world.lateness.share) = (2, 4, 0.0);
    let microsoft = Microsoft::start(EmulatorOptions { world, ..EmulatorOptions::default() });
    // Another installation has subscribed: nothing keeps this one from setting its webhooks at once.
    Home::new(&microsoft).succeed(&["collect", "--once"]);

    let home = Home::new(&microsoft);
    certificate(&home, "site.pem");
    let port = free_port();
    let before = std::fs::read_to_string(home.path().join("tenantry.toml")).unwrap();
    let hourly = before.replace("[collect]\n", "[collect]\npoll_interval = \"1h\"\ncommit_interval = \"1s\"\n");
    home.write("tenantry.toml", &hourly);
    home.append(
        "tenantry.toml",
        &format!(
            "[public]\nlisten = \"127.0.0.1:{port}\"\nurl = \"https://127.0.0.1:{port}\"\n\
             tls_certificate = \"site.pem\"\ntls_key = \"site.pem\"\n"
        ),
    );
    let mut serving = Serving::start(&home);
    let console = serving.logged("console");
    let console: SocketAddr = console.trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
    let armed = |items: &[Value]| items.len() == 5 && items.iter().all(|item| item["webhook"]["state"] == "armed");
    wait_for(&home, "an armed webhook of each type", armed);
    let sum = |items: &[Value], what: &str| items.iter().filter_map(|item| item[what].as_u64()).sum::<u64>();
    let caught_up = wait_for(&home, "the end of the backlog", |items| sum(items, "pending") == 0);
    let archived = sum(&caught_up, "archived");

    // Polls come once an hour: what is new from here on was notified, and all of it is archived.
    let new = r#"tenantry_webhook_entries_total{kind="new"}"#;
    let before = counted(console, new);
    wait_for_count(console, new, before + 5);
    let told = counted(console, new) - before;
    wait_for(&home, "what was notified", |items| sum(items, "archived") >= archived + told);
    assert!(counted(console, r#"tenantry_webhook_calls_total{kind="validated"}"#) >= 5);
    assert_eq!(counted(console, r#"tenantry_webhook_calls_total{kind="stranger"}"#), 0);

    // A renewal, as a certificate tool makes it: the new pair takes the old one's place.
    certificate(&home, "renewed.pem");
    std::fs::rename(home.path().join("renewed.pem"), home.path().join("site.pem")).unwrap();
    assert!(serving.logged("certificate").ends_with("site.pem"));
    wait_for_count(console, new, counted(console, new) + 3);
    // Nobody comes in without the secret, whatever the path.
    assert_eq!(counted(console, r#"tenantry_webhook_calls_total{kind="wrong_secret"}"#), 0);
    drop(serving);
    home.succeed(&["collect", "--once"]);
    home.succeed(&["archive", "verify"]);
}
