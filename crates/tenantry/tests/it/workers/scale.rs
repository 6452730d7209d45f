//! A whole installation in trouble: several workers, a database, a store, each by its real server, and one thing after the
//! other goes wrong while they collect. At the end the archive holds what was published.
//!
//! Small among the tests; `cargo xtask scale-test` runs it at the size it is asked for (`TENANTRY_TEST_SCALE`). What happens to
//! whom, and in which order, is drawn from the seed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use emulator::world::Limits;
use emulator::{EmulatorOptions, WorldOptions};

use super::figures::{Spent, figures};
use super::line::Line;
use super::{PATIENCE, Shared, stop};
use crate::object_storage::assert_stored;
use crate::serving::Serving;
use crate::stores::{Door, Passage, Store};
use crate::support::{Microsoft, on_time};

/// Requests of all workers together after which they count as being at work again.
const AT_WORK: u64 = 40;

/// How large, and how long.
struct Size {
    seed: u64,
    workers: usize,
    tenants: usize,
    records: u64,
    records_per_blob: u32,
    requests_per_minute: u32,
    lease_seconds: u64,
    rounds: u32,
    azure: bool,
}

impl Size {
    /// Of the test, but for what `TENANTRY_TEST_SCALE` says: `name=value`, parted by spaces.
    fn asked_for() -> Self {
        let mut size = Self {
            seed: 2_706,
            workers: 3,
            tenants: 7,
            records: 14_000,
            records_per_blob: 4,
            requests_per_minute: 600,
            lease_seconds: 6,
            rounds: 1,
            azure: false,
        };
        let words = std::env::var("TENANTRY_TEST_SCALE").unwrap_or_default();
        for (name, value) in words.split_whitespace().map(|word| word.split_once('=').unwrap()) {
            match name {
                "seed" => size.seed = value.parse().unwrap(),
                "workers" => size.workers = value.parse().unwrap(),
                "tenants" => size.tenants = value.parse().unwrap(),
                "records" => size.records = value.parse().unwrap(),
                "records_per_blob" => size.records_per_blob = value.parse().unwrap(),
                "requests_per_minute" => size.requests_per_minute = value.parse().unwrap(),
                "lease_seconds" => size.lease_seconds = value.parse().unwrap(),
                "rounds" => size.rounds = value.parse().unwrap(),
                "store" => size.azure = value == "azure",
                other => panic!("TENANTRY_TEST_SCALE knows no {other}"),
            }
        }
        size
    }

    fn world(&self) -> Microsoft {
        let mut world = WorldOptions {
            seed: self.seed,
            tenants: self.tenants,
            records_total: Some(self.records),
            limits: Limits { requests_per_minute: None, ..Limits::default() },
            lateness: on_time(),
            ..WorldOptions::default()
        };
        (world.blobs.median, world.blobs.max) = (self.records_per_blob, 30 * self.records_per_blob);
        Microsoft::start(EmulatorOptions { world, ..EmulatorOptions::default() })
    }
}

/// What goes wrong, one at a time.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    /// A worker is told to end, and started again.
    Ended,
    /// A worker is killed, and started again when others have its tenants.
    Killed,
    /// A worker is stopped until others have its tenants, and goes on.
    Stopped,
    /// A worker is cut off from the database until others have its tenants.
    CutOff,
    /// The database crashes.
    Crashed,
    /// The store answers everybody with 503 for a while.
    StoreBusy,
}

const ALL: [Trouble; 6] =
    [Trouble::Ended, Trouble::Killed, Trouble::Stopped, Trouble::CutOff, Trouble::Crashed, Trouble::StoreBusy];

struct Installation<'a> {
    size: &'a Size,
    microsoft: &'a Microsoft,
    shared: Shared,
    store: Store,
    door: Door,
    lines: Vec<Line>,
    workers: Vec<Serving>,
    /// What had been spent when the workers were started.
    before: Spent,
    /// From what befell a worker to when others had its tenants.
    idle_most: Duration,
}

impl<'a> Installation<'a> {
    fn start(size: &'a Size, microsoft: &'a Microsoft, store: Store) -> Self {
        let door = Door::to(store.endpoint());
        let (lease_time, archive) = (format!("{}s", size.lease_seconds), store.configuration(&door.endpoint()));
        let shared = Shared::with(microsoft, size.workers, &lease_time, &archive);
        for home in &shared.homes {
            home.write("store.env", store.keys());
        }
        shared.add_tenants(microsoft);
        let lines = (0..size.workers).map(|_| Line::to(&shared.url)).collect();
        let before = Spent::by_now(&shared, &[], microsoft);
        let (workers, idle_most) = (Vec::new(), Duration::ZERO);
        let mut all = Self { size, microsoft, shared, store, door, lines, workers, before, idle_most };
        all.workers = (0..size.workers).map(|number| all.serve(number)).collect();
        all
    }

    fn serve(&self, number: usize) -> Serving {
        let requests_per_minute = self.size.requests_per_minute.to_string();
        let variables = [
            ("TENANTRY_LEDGER__URL", self.lines[number].url()),
            ("TENANTRY_COLLECT__REQUESTS_PER_MINUTE", &requests_per_minute),
        ];
        super::serve_with(&self.shared.homes[number], &variables)
    }

    /// Waits until the workers but that one have all tenants, in fair shares.
    fn until_shared(&mut self, without: Option<usize>) -> Duration {
        let (tenants, workers) = (self.size.tenants as u64, &self.workers);
        self.shared.until_held(|held| {
            let shares = workers.iter().enumerate().filter(|(number, _)| Some(*number) != without);
            let shares: Vec<u64> = shares.map(|(_, serving)| held(serving)).collect();
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            shares.iter().sum::<u64>() == tenants && most - least <= 1
        })
    }

    /// The same of one that ought to be taken for dead.
    fn until_taken_from(&mut self, number: usize) {
        let idle = self.until_shared(Some(number));
        self.idle_most = self.idle_most.max(idle);
    }

    /// Waits until Microsoft is asked for more.
    fn until_at_work(&self) {
        let (begun, before) = (Instant::now(), self.microsoft.requests());
        while self.microsoft.requests() < before + AT_WORK {
            assert!(begun.elapsed() < PATIENCE, "seed {}: nobody works", self.size.seed);
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    fn befall(&mut self, trouble: Trouble, number: usize) {
        match trouble {
            Trouble::Ended => {
                self.workers[number].signal("TERM");
                assert_eq!(self.workers[number].exit_code(), Some(0), "seed {}", self.size.seed);
                self.workers[number] = self.serve(number);
            }
            Trouble::Killed => {
                self.workers[number].signal("KILL");
                self.until_taken_from(number);
                self.workers[number] = self.serve(number);
            }
            Trouble::Stopped => {
                self.workers[number].signal("STOP");
                self.until_taken_from(number);
                self.workers[number].signal("CONT");
            }
            Trouble::CutOff => {
                self.lines[number].cut();
                self.until_taken_from(number);
                self.until_at_work();
                self.lines[number].mend();
            }
            Trouble::Crashed => {
                self.shared.server.crash();
                self.shared.server.up();
            }
            Trouble::StoreBusy => {
                let (turned_away, asked) = (self.door.connections(), self.microsoft.requests());
                self.door.set(Passage::Busy);
                // Where nothing is left to be written, nobody comes to the door.
                while self.door.connections() < turned_away + 20 && self.microsoft.requests() < asked + 10 * AT_WORK {
                    std::thread::park_timeout(Duration::from_millis(50));
                }
                self.door.set(Passage::Open);
            }
        }
    }

    /// All stop; what is left is collected by one that is alone; and the archive is compared.
    fn check(self) -> u64 {
        self.workers.into_iter().for_each(stop);
        self.microsoft.wait_until_complete();
        let home = &self.shared.homes[0];
        home.succeed(&["collect", "--once"]);
        home.succeed(&["archive", "compact"]);
        home.succeed(&["archive", "verify"]);
        home.succeed(&["ledger", "migrate", "--to", "sqlite:data/ledger.db"]);
        assert_stored(home, self.microsoft, &self.store, self.size.seed)
    }
}

#[test]
fn whatever_befalls_workers_database_and_store_the_archive_holds_what_was_published() {
    let size = Size::asked_for();
    let store = if size.azure { Store::azure() } else { Store::s3() };
    let Some(store) = store else { return };
    let microsoft = size.world();
    let mut draw = fastrand::Rng::with_seed(size.seed);
    let mut all = Installation::start(&size, &microsoft, store);
    if size.workers > 1 {
        all.until_shared(None);
    }
    let mut happened = BTreeMap::<String, u32>::new();
    for _ in 0..size.rounds {
        let mut troubles = ALL;
        draw.shuffle(&mut troubles);
        for trouble in troubles {
            all.until_at_work();
            let number = draw.usize(0..size.workers);
            let segments = all.shared.number("SELECT count(*) FROM segment");
            let begun = Instant::now();
            all.befall(trouble, number);
            all.until_shared(None);
            println!("{trouble:?}, worker {number}, at {segments} segments: over after {:?}", begun.elapsed());
            *happened.entry(format!("{trouble:?}")).or_default() += 1;
        }
    }
    if size.rounds == 0 {
        println!("{}", figures(&all.shared, &all.workers, &microsoft, all.before));
    }
    let idle_most = all.idle_most;
    let records = all.check();
    println!(
        "seed {}: {} workers, {} tenants, {records} records, 0 lost, 0 twice; {happened:?}; tenants of a silent worker were \
         taken after {idle_most:?} at the most, of a lease time of {} s",
        size.seed, size.workers, size.tenants, size.lease_seconds
    );
    // Among the other tests, how long it takes is the machine's matter.
    let is_asked_for = std::env::var_os("TENANTRY_TEST_SCALE").is_some();
    assert!(!is_asked_for || idle_most < 2 * Duration::from_secs(size.lease_seconds), "{idle_most:?}");
    assert!(records >= size.records * 9 / 10, "seed {}: {records}", size.seed);
}
