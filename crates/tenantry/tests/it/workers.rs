//! Several `serve` processes on one ledger, the real server: each tenant is one's at a time, all are somebody's, and nothing
//! is lost or stored twice when one of them is told to stop, killed, taken for dead and wakes up again, or cut off from the
//! ledger for a while.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use emulator::world::Limits;
use emulator::{EmulatorOptions, WorldOptions};

use crate::serving::Serving;
use crate::shared_ledger::server::PgServer;
use crate::support::{Home, Microsoft, on_time};

mod figures;
mod line;
mod listeners;
mod scale;
mod tables;

/// Far longer than it takes; a test that waits for this has failed.
const PATIENCE: Duration = Duration::from_secs(1000);
/// Short, for who has to be taken for dead.
const SHORT: &str = "6s";
/// With this, a worker looks at how the tenants are shared out every 200 s.
const LONG: &str = "10m";
/// What comes within this did not wait for that look.
const AT_ONCE: Duration = Duration::from_secs(180);

/// A ledger that several homes use, and the archive that goes with it.
struct Shared {
    server: PgServer,
    url: String,
    database: String,
    homes: Vec<Home>,
}

impl Shared {
    /// With an archive in a folder.
    fn new(microsoft: &Microsoft, homes: usize, lease_time: &str) -> Self {
        let shared = Self::with(microsoft, homes, lease_time, "");
        let archive = format!("[archive]\nurl = \"file:{}\"\n", shared.homes[0].data().join("archive").display());
        shared.homes.iter().for_each(|home| home.append("tenantry.toml", &archive));
        shared
    }

    fn with(microsoft: &Microsoft, homes: usize, lease_time: &str, archive: &str) -> Self {
        let server = PgServer::start();
        let url = server.url(&server.database());
        let database = url.split(['/', '?']).nth(3).unwrap().to_owned();
        let homes: Vec<Home> = (0..homes).map(|_| Home::without_tenants(microsoft)).collect();
        let more = format!("[ledger]\nurl = \"{url}\"\nlease_time = \"{lease_time}\"\n{archive}");
        homes.iter().for_each(|home| home.append("tenantry.toml", &more));
        Self { server, url, database, homes }
    }

    fn add_tenants(&self, microsoft: &Microsoft) {
        for tenant in microsoft.tenants() {
            self.homes[0].succeed(&["tenant", "add", &tenant.to_string()]);
        }
    }

    fn ask(&self, query: &str) -> Vec<String> {
        self.server.psql_in(&self.database, query)
    }

    /// One number.
    fn number(&self, query: &str) -> u64 {
        self.ask(query).concat().parse().unwrap()
    }

    /// How many tenants each process holds, by its id.
    fn held(&self) -> BTreeMap<u32, u64> {
        let rows = self.ask(
            "SELECT substring(w.name FROM 'process (\\d+)') || ' ' || count(t.tenant)
             FROM worker w LEFT JOIN tenant t ON t.lease_worker = w.worker GROUP BY w.worker, w.name",
        );
        let row = |row: &String| {
            let (process, held) = row.split_once(' ').unwrap();
            (process.parse().unwrap(), held.parse().unwrap())
        };
        rows.iter().map(row).collect()
    }

    /// Waits until the tenants are held so, and says how long that took.
    fn until_held(&self, is_so: impl Fn(&dyn Fn(&Serving) -> u64) -> bool) -> Duration {
        self.until_held_within(PATIENCE, is_so)
    }

    fn until_held_within(&self, patience: Duration, is_so: impl Fn(&dyn Fn(&Serving) -> u64) -> bool) -> Duration {
        let begun = Instant::now();
        loop {
            let held = self.held();
            if is_so(&|serving| held.get(&serving.process()).copied().unwrap_or(0)) {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < patience, "it never came to this: {held:?}");
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    fn until(&self, what: &str, query: &str) {
        let begun = Instant::now();
        while self.ask(query).concat() != "t" {
            assert!(begun.elapsed() < PATIENCE, "{what} never came");
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    /// Waits until so many more segments are there.
    fn until_more_segments(&self, more: u64) {
        let begun = self.number("SELECT count(*) FROM segment");
        self.until("more commits", &format!("SELECT count(*) >= {begun} + {more} FROM segment"));
    }

    /// The last of it is collected by one that is alone, and compared: everything once, byte for byte, and no file besides.
    fn check(&self, microsoft: &Microsoft, seed: u64) -> u64 {
        microsoft.wait_until_complete();
        self.homes[0].succeed(&["collect", "--once"]);
        self.homes[0].succeed(&["ledger", "migrate", "--to", "sqlite:data/ledger.db"]);
        let records = self.homes[0].assert_holds_what_was_published(microsoft, seed);
        self.homes[0].succeed(&["archive", "verify"]);
        records
    }
}

/// A world that takes longer to collect than what happens to the workers: small blobs, and few requests a minute.
fn long_world(seed: u64, tenants: usize) -> Microsoft {
    let mut world = WorldOptions {
        seed,
        tenants,
        skew: 0.2,
        records_total: Some(3_000 * tenants as u64),
        limits: Limits { requests_per_minute: None, ..Limits::default() },
        lateness: on_time(),
        ..WorldOptions::default()
    };
    (world.blobs.median, world.blobs.max) = (4, 8);
    Microsoft::start(EmulatorOptions { world, ..EmulatorOptions::default() })
}

fn serve(home: &Home) -> Serving {
    serve_with(home, &[])
}

fn serve_with(home: &Home, more: &[(&str, &str)]) -> Serving {
    let mut variables = vec![
        ("TENANTRY_COLLECT__COMMIT_INTERVAL", "1s"),
        ("TENANTRY_COLLECT__POLL_INTERVAL", "5s"),
        ("TENANTRY_COLLECT__REQUESTS_PER_MINUTE", "600"),
    ];
    variables.extend(more);
    let mut serving = Serving::start_with(home, &variables);
    serving.logged("console");
    serving.forget_the_log();
    serving
}

fn stop(mut serving: Serving) {
    serving.signal("TERM");
    assert_eq!(serving.exit_code(), Some(0));
}

#[test]
fn three_share_the_tenants_and_what_becomes_of_two_of_them_costs_no_record() {
    let seed = 2_701;
    let microsoft = long_world(seed, 9);
    let shared = Shared::new(&microsoft, 3, SHORT);
    shared.add_tenants(&microsoft);
    let [one, two, three] = [0, 1, 2].map(|home| serve(&shared.homes[home]));
    let in_thirds = |held: &dyn Fn(&Serving) -> u64| [&one, &two, &three].iter().all(|serving| held(serving) == 3);
    shared.until_held(in_thirds);
    shared.until_more_segments(30);

    // In the middle of whatever it is at. It says nothing any more, so the others have its tenants after the lease time.
    two.signal("STOP");
    let idle = shared.until_held(|held| held(&two) == 0 && held(&one) + held(&three) == 9);
    println!("those of the one that was stopped were taken after {idle:?}");
    shared.until_more_segments(10);

    // It wakes up beside its successors, finds out, and takes its share again; and another dies for good.
    two.signal("CONT");
    shared.until_held(in_thirds);
    three.signal("KILL");
    let idle = shared.until_held(|held| held(&three) == 0 && held(&one) + held(&two) == 9);
    println!("those of the one that was killed were taken after {idle:?}");
    shared.until_more_segments(10);
    stop(one);
    stop(two);
    assert_eq!(shared.number("SELECT count(*) FROM tenant WHERE lease_worker IS NOT NULL"), 0);
    assert!(shared.check(&microsoft, seed) > 10_000);
}

#[test]
fn what_a_worker_that_is_told_to_stop_held_is_taken_at_once() {
    let seed = 2_703;
    let microsoft = long_world(seed, 3);
    let shared = Shared::new(&microsoft, 2, LONG);
    shared.add_tenants(&microsoft);
    let one = serve(&shared.homes[0]);
    shared.until_held(|held| held(&one) == 3);
    shared.until_more_segments(3);
    let two = serve(&shared.homes[1]);
    shared.until("a second worker", "SELECT count(*) = 2 FROM worker");
    let process = one.process();
    stop(one);
    assert!(!shared.held().contains_key(&process), "it has said good-bye");
    // Neither the lease time nor the other's next look was waited for.
    let handed_over = shared.until_held_within(AT_ONCE, |held| held(&two) == 3);
    println!("they were taken {handed_over:?} after its end");
    shared.until_more_segments(3);
    stop(two);
    assert!(shared.check(&microsoft, seed) > 1_000);
}

#[test]
fn a_worker_that_is_cut_off_from_the_ledger_writes_nothing_of_what_another_has_by_then() {
    let seed = 2_704;
    let microsoft = long_world(seed, 4);
    let shared = Shared::new(&microsoft, 2, SHORT);
    shared.add_tenants(&microsoft);
    let line = line::Line::to(&shared.url);
    let one = serve(&shared.homes[0]);
    let two = serve_with(&shared.homes[1], &[("TENANTRY_LEDGER__URL", line.url())]);
    shared.until_held(|held| held(&one) == 2 && held(&two) == 2);
    shared.until_more_segments(10);

    // What it has said lately lies on the way, and arrives when everything has another owner.
    line.cut();
    let idle = shared.until_held(|held| held(&two) == 0 && held(&one) == 4);
    println!("those of the one that was cut off were taken after {idle:?}");
    shared.until_more_segments(10);
    line.mend();
    shared.until_held(|held| held(&one) == 2 && held(&two) == 2);
    shared.until_more_segments(10);
    stop(one);
    stop(two);
    assert!(shared.check(&microsoft, seed) > 1_000);
}
