//! What workers are told from outside: any of them hears it, and the one that has the tenant does it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use emulator::entra::Directory as _;
use emulator::world::Limits;
use emulator::{EmulatorOptions, WorldOptions};

use super::{AT_ONCE, LONG, PATIENCE, SHORT, Shared};
use crate::serving::{Serving, get};
use crate::support::{Home, Microsoft, on_time};

#[test]
fn what_one_workers_listener_is_told_another_archives_without_waiting_for_its_poll() {
    let seed = 2_702;
    let mut world = WorldOptions {
        seed,
        tenants: 4,
        skew: 0.0,
        records_total: Some(40),
        live_rate: 240.0,
        limits: Limits { start_wait: Duration::ZERO, list_status_missing: 0.0, ..Limits::default() },
        webhook_plain_http: true,
        ..WorldOptions::default()
    };
    (world.blobs.median, world.blobs.max, world.lateness.share) = (2, 4, 0.0);
    let microsoft = Microsoft::start(EmulatorOptions { world, ..EmulatorOptions::default() });
    // Another installation has subscribed: nothing keeps this one from setting its webhooks at once.
    Home::new(&microsoft).succeed(&["collect", "--once"]);
    let shared = Shared::new(&microsoft, 2, SHORT);
    shared.add_tenants(&microsoft);
    // Both are behind one address, and it leads to the first.
    let ports = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
    let start = |home: usize| {
        let (listen, url) = (format!("127.0.0.1:{}", ports[home]), format!("http://127.0.0.1:{}", ports[0]));
        let mut serving = Serving::start_with(
            &shared.homes[home],
            &[
                ("TENANTRY_COLLECT__COMMIT_INTERVAL", "1s"),
                ("TENANTRY_COLLECT__POLL_INTERVAL", "1h"),
                ("TENANTRY_PUBLIC__LISTEN", listen.as_str()),
                ("TENANTRY_PUBLIC__URL", url.as_str()),
            ],
        );
        let console = serving.logged("console");
        serving.forget_the_log();
        (serving, address(&console))
    };
    let (one, console_of_one) = start(0);
    let (two, console_of_two) = start(1);
    shared.until_held(|held| held(&one) == 2 && held(&two) == 2);
    shared.until("an armed webhook of each type and tenant", "SELECT count(*) = 20 FROM webhook WHERE state = 1");
    shared.until("the end of the backlog", "SELECT count(*) = 0 FROM content WHERE state = 0");
    let archived_by_two = counted(console_of_two, "tenantry_blobs_archived_total");
    let begun = Instant::now();
    while counted(console_of_two, "tenantry_blobs_archived_total") < archived_by_two + 20 {
        assert!(begun.elapsed() < PATIENCE, "{}", get(console_of_two, "/metrics"));
        std::thread::park_timeout(Duration::from_millis(100));
    }
    assert_eq!(
        counted(console_of_two, r#"tenantry_webhook_entries_total{kind="new"}"#),
        0,
        "it was told nothing itself"
    );
    assert!(counted(console_of_one, r#"tenantry_webhook_entries_total{kind="new"}"#) >= 20);
}

fn address(url: &str) -> SocketAddr {
    url.trim_start_matches("http://").trim_end_matches('/').parse().unwrap()
}

fn counted(console: SocketAddr, line: &str) -> u64 {
    let metrics = get(console, "/metrics");
    let lines = metrics.lines().filter_map(|have| have.strip_prefix(line));
    lines.filter_map(|rest| rest.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// Where both workers' sites are to be had, by their word; nobody listens there.
const SITE: &str = "http://127.0.0.1:8365";

/// One GET: where it leads, or the page. Takes and sends the one cookie there is.
fn open(server: SocketAddr, host: &str, path: &str, cookie: &mut Option<String>) -> Result<String, String> {
    let mut socket = TcpStream::connect(server).unwrap();
    let cookies = cookie.as_ref().map_or_else(String::new, |cookie| format!("Cookie: {cookie}\r\n"));
    write!(socket, "GET {path} HTTP/1.1\r\nHost: {host}\r\n{cookies}Connection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let head = answer.split("\r\n\r\n").next().unwrap_or_default();
    let header = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
    };
    if let Some(set) = header("set-cookie") {
        *cookie = set.split(';').next().map(str::to_owned);
    }
    header("location").ok_or(answer)
}

#[test]
fn a_consent_whose_every_page_is_another_workers_is_taken_and_collected_by_whoever_has_the_least() {
    let seed = 2_705;
    let world =
        WorldOptions { seed, tenants: 2, records_total: Some(200), lateness: on_time(), ..WorldOptions::default() };
    let microsoft = Microsoft::start(EmulatorOptions { world, ..EmulatorOptions::default() });
    let shared = Shared::new(&microsoft, 2, LONG);
    let [(one, of_one), (two, of_two)] = [0, 1].map(|home| {
        let home = &shared.homes[home];
        home.append("tenantry.toml", &format!("[public]\nlisten = \"127.0.0.1:0\"\nurl = \"{SITE}\"\n"));
        let mut serving = Serving::start(home);
        let site = address(&serving.logged("listen"));
        serving.forget_the_log();
        (serving, site)
    });
    shared.until("two workers", "SELECT count(*) = 2 FROM worker");
    for tenant in microsoft.tenants() {
        let account = microsoft.emulator.world().find_tenant(&tenant.to_string()).unwrap().domains[0].clone();
        let link = shared.homes[0].succeed(&["consent-link", "--label", "Contoso"]);
        let (mut cookie, mut pages) = (None, 0);
        let mut at = Ok(link.split_whitespace().find(|word| word.starts_with(SITE)).unwrap().to_owned());
        while let Ok(to) = at {
            pages += 1;
            assert!(pages < 12, "round in circles: {to}");
            at = match to.strip_prefix(SITE).or_else(|| to.starts_with('/').then_some(to.as_str())) {
                Some(path) => open(if pages % 4 < 2 { of_one } else { of_two }, "127.0.0.1:8365", path, &mut cookie),
                None => {
                    let host = address(&microsoft.root());
                    let path = to.strip_prefix(&microsoft.root()).unwrap();
                    let path = format!("{path}&emulator_account=admin%40{account}&emulator_decision=accept");
                    open(host, &host.to_string(), &path, &mut None)
                }
            };
        }
        let page = at.unwrap_err();
        assert!(page.contains("Your organization is connected"), "{page}");
    }
    // By a word from one to the other.
    shared.until_held_within(AT_ONCE, |held| held(&one) == 1 && held(&two) == 1);
    shared.until("records of both", "SELECT count(DISTINCT tenant) = 2 FROM segment");
    super::stop(one);
    super::stop(two);
    assert!(shared.check(&microsoft, seed) > 50);
}
