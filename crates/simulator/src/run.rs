//! One seed from beginning to end: lives of the collector one after the other over the same disk, then calm, then the checks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use archive::{Archive, ArchiveOptions};
use chrono::TimeDelta;
use emulator::{Emulator, EmulatorClock, EmulatorOptions, FaultPlan, default_app};
use ledger::Ledger;
use ledger::sqlite::{OpenOptions, SqliteLedger};
use protocol::time::Timestamp;
use server::clock::Clock;
use server::metrics::Metrics;
use server::settings::Settings;
use server::{Collector, CollectorParts, RunReport};
use tempfile::TempDir;

use crate::check::{ByTenant, Excuses, Sides};
use crate::clock::{WorldClock, WrongClock};
use crate::disk::Disk;
use crate::fate::Fate;
use crate::month::Week;
use crate::network::Network;
use crate::plan::{End, Events, Life, Plan, Span, Spells};
use crate::plant::{Bug, Memory};
use crate::process::resident_kib;
use crate::store::{Files, Store};
use crate::tally::Tally;
use crate::tuned::settings;
use crate::witness::Witness;

/// Runs after everything has calmed down until one of them says that it has everything.
const LAST_RUNS: u32 = 12;

/// One run: the world, the disk, and everybody who watches.
pub(crate) struct Run {
    pub(crate) plan: Plan,
    pub(crate) emulator: Emulator,
    pub(crate) world: WorldClock,
    pub(crate) fate: Arc<Fate>,
    spells: Arc<Spells>,
    events: Arc<Events>,
    clock: Arc<WrongClock>,
    disk: Arc<Disk>,
    witness: Arc<Witness>,
    settings: Settings,
    bug: Option<Bug>,
    memory: Arc<Mutex<Memory>>,
    asked: Arc<Mutex<BTreeMap<String, u32>>>,
    lives: Vec<Span>,
    complete_runs: Vec<Timestamp>,
    pub(crate) counts: Counts,
    pub(crate) tally: Arc<Tally>,
    folder: TempDir,
}

/// What a run was made of.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Lives of the collector.
    pub lives: u64,
    /// Of those, lives that ended by a crash.
    pub crashes: u64,
    /// Steps: requests, answers, calls of the ledger, operations on files.
    pub steps: u64,
    /// Distinct records published and expected in the archive.
    pub records: u64,
    /// Contents that could not be had and are named as lost.
    pub lost: u64,
}

/// How a life ended.
enum Ended {
    /// By itself, with this to say.
    Itself(Box<RunReport>),
    Crashed,
    /// It could not begin, or gave up.
    Failed(String),
}

impl Run {
    pub(crate) fn new(seed: u64, days: i64, hardship: bool, bug: Option<Bug>, keep: usize) -> Result<Self, String> {
        Self::of(Plan::of(seed, days, hardship), seed, bug, keep)
    }

    pub(crate) fn of(plan: Plan, seed: u64, bug: Option<Bug>, keep: usize) -> Result<Self, String> {
        fastrand::seed(seed);
        let world = WorldClock::standing_at(plan.start);
        let fate = Arc::new(Fate::new(seed, world.clone(), keep));
        let app = default_app(seed);
        let emulator = Emulator::new(EmulatorOptions {
            world: plan.world.clone(),
            clock: Some(EmulatorClock::frozen(plan.start)),
            apps: vec![app.clone()],
            faults: plan.faults.clone(),
            ..EmulatorOptions::default()
        })
        .map_err(|error| format!("no world: {error}"))?;
        let folder = folder().map_err(|error| format!("no folder: {error}"))?;
        let attic = folder.path().join("attic");
        std::fs::create_dir(&attic).map_err(|error| format!("no folder: {error}"))?;
        let spells = Arc::new(Spells::new(plan.spells.clone(), world.clone()));
        let clock = Arc::new(WrongClock { world: world.clone(), errors: plan.clock_errors.clone() });
        let root = folder.path().join("archive");
        Ok(Self {
            disk: Arc::new(Disk::new(root, attic, Arc::clone(&fate), Arc::clone(&spells), bug)),
            events: Arc::new(Events::new(app.client_id, emulator.world().tenant_ids(), plan.events.clone())),
            witness: Arc::new(Witness::new(Arc::clone(&clock))),
            settings: settings(&plan, &app, folder.path().to_owned(), bug)?,
            plan,
            emulator,
            world,
            fate,
            spells,
            clock,
            bug,
            memory: Arc::default(),
            asked: Arc::default(),
            lives: Vec::new(),
            complete_runs: Vec::new(),
            counts: Counts::default(),
            tally: Arc::default(),
            folder,
        })
    }

    /// Lives through all of it, and checks.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        archive::disk::watch(Some(Arc::clone(&self.disk) as Arc<dyn archive::disk::Watch>));
        self.add_tenants()?;
        while self.world.now() < self.plan.end {
            let life = self.plan.lives.next();
            let ended = self.live(life)?;
            self.after(&ended, life.once)?;
            // An instance that could not even begin is started again by whoever watches over it.
            let again = matches!(ended, Ended::Failed(_)).then_some(TimeDelta::seconds(30));
            self.world.pass(life.pause.max(again.unwrap_or_default()));
            self.check_claims()?;
        }
        self.last_runs()
    }

    /// One collector for `weeks` times `days` days; how things stand after each.
    pub(crate) fn run_calmly(&mut self, days: i64, weeks: i64) -> Result<Vec<Week>, String> {
        self.add_tenants()?;
        let mut all = Vec::new();
        for week in 1..=weeks {
            let life = Life {
                once: false,
                steps: None,
                time: TimeDelta::days(days),
                end: End::Stopped,
                pause: TimeDelta::zero(),
            };
            let ended = self.live(life)?;
            self.after(&ended, false)?;
            self.check_claims()?;
            let contents = self.with_sides(|sides| Ok(sides.contents()))?;
            all.push(Week {
                day: days * week,
                ledger_bytes: Files::read(&self.ledger_path()).bytes(),
                resident_kib: resident_kib(),
                records: contents.iter().map(|content| content.records).sum(),
            });
        }
        Ok(all)
    }

    /// One collector that nothing happens to, until it is told to stop.
    pub(crate) fn live_calmly(&mut self, stop: impl Future<Output = ()> + Send) -> Result<(), String> {
        archive::disk::watch(Some(Arc::clone(&self.disk) as Arc<dyn archive::disk::Watch>));
        self.counts.lives += 1;
        self.fate.live(None);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
        let from = self.world.now();
        let ledger = self.ledger().map_err(|error| error.to_string())?;
        let archive = self.archive().map_err(|error| error.to_string())?;
        let (collector, _) = self.collector(ledger, archive);
        let ended = runtime.block_on(async {
            self.world.run();
            let ended = collector.run(stop).await;
            self.world.stop();
            ended
        });
        self.lives.push(Span { from, until: self.world.now() });
        let ended = match ended {
            Ok(report) => Ended::Itself(Box::new(report)),
            Err(error) => return Err(server::chain(&error)),
        };
        self.after(&ended, false)?;
        self.check_claims()
    }

    /// Nothing goes wrong any more, and the collector catches up.
    pub(crate) fn last_runs(&mut self) -> Result<(), String> {
        let poison: BTreeSet<String> = {
            self.emulator.world().clock().set(self.world.now());
            self.emulator
                .world()
                .contents()
                .filter(|content| content.poison)
                .map(|content| content.content_id)
                .collect()
        };
        self.fate.note("calm");
        self.spells.call_off();
        self.events.happen(&self.emulator, Timestamp::MAX_UTC);
        self.emulator.world().set_faults(FaultPlan::default());
        self.clock = Arc::new(WrongClock { world: self.world.clone(), errors: Vec::new() });
        let mut last = String::new();
        for _ in 0..LAST_RUNS {
            let expected = self.with_sides(|sides| Ok(sides.records(emulator::world::RecordSet::Readable)))?;
            let life = Life {
                once: true,
                steps: None,
                time: TimeDelta::hours(12),
                end: End::Stopped,
                pause: TimeDelta::zero(),
            };
            let ended = self.live(life)?;
            self.after(&ended, true)?;
            match ended {
                Ended::Itself(report) if report.is_complete() => return self.check_all(&expected, &poison),
                Ended::Itself(report) => last = format!("{report:?}"),
                Ended::Failed(error) => last = error,
                Ended::Crashed => last = "it crashed".to_owned(),
            }
            self.world.pass(TimeDelta::minutes(20));
        }
        Err(format!("it does not catch up, {LAST_RUNS} runs after everything has calmed down: {last}"))
    }

    fn check_all(&mut self, expected: &ByTenant, poison: &BTreeSet<String>) -> Result<(), String> {
        self.check_claims()?;
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Nobody lives any more; this is somebody who looks at what is left.
        archive::disk::watch(None);
        let archive = self.archive().map_err(|error| format!("the archive cannot be opened: {error}"))?;
        let excuses = Excuses { lives: &self.lives, complete_runs: &self.complete_runs, asked: &asked, poison };
        let lost = self.with_sides(|sides| {
            let contents = sides.contents();
            block_on(sides.check_archive(&archive, expected, &contents, &excuses))
                .and_then(|lost| block_on(sides.check_files(&archive)).map(|()| lost))
                .and_then(|lost| block_on(sides.check_tables(&archive)).map(|()| lost))
        })?;
        self.counts.lost = lost;
        self.counts.records = expected.values().map(|records| records.len() as u64).sum();
        Ok(())
    }

    fn check_claims(&self) -> Result<(), String> {
        self.with_sides(|sides| {
            for tenant in self.emulator.world().tenant_ids() {
                if let Ok(Some(row)) = block_on(sides.ledger.tenant(tenant)) {
                    self.witness.reopened(tenant, row.last_commit);
                }
            }
            block_on(sides.check_claims(&sides.contents()))
        })?;
        self.witness.complaint().map_or(Ok(()), Err)
    }

    /// Looks at the ledger while no collector lives.
    pub(crate) fn with_sides<T>(&self, look: impl FnOnce(&Sides<'_>) -> Result<T, String>) -> Result<T, String> {
        let ledger = self.ledger().map_err(|error| format!("the ledger cannot be opened: {error}"))?;
        let sides = Sides {
            plan: &self.plan,
            emulator: &self.emulator,
            ledger: &ledger,
            witness: &self.witness,
            now: self.world.now(),
        };
        look(&sides)
    }

    pub(crate) fn add_tenants(&mut self) -> Result<(), String> {
        let ledger = self.ledger().map_err(|error| error.to_string())?;
        for tenant in self.emulator.world().tenant_ids() {
            let from = self.plan.start - self.plan.tuning.back;
            block_on(ledger.add_tenant(tenant, String::new(), from, self.plan.start))?;
        }
        Ok(())
    }

    /// One life, and what is left of the disk after it.
    fn live(&mut self, mut life: Life) -> Result<Ended, String> {
        if life.once && self.bug == Some(Bug::EndsWhileFetching) {
            // Such a collector does not wait for what is under way.
            life.time = TimeDelta::milliseconds(self.fate.draw(|rng| rng.i64(100..60_000)));
        }
        self.counts.lives += 1;
        self.fate.note(&format!("life {} begins: {life:?}", self.counts.lives));
        self.fate.live(life.steps);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
        let from = self.world.now();
        let path = self.ledger_path();
        let (ended, wreck) = runtime.block_on(async {
            self.world.run();
            let result = self.collect(life).await;
            self.world.stop();
            result
        });
        // Whoever is left does nothing any more, and then is gone.
        self.fate.kill();
        drop(runtime);
        if let Some(wreck) = wreck {
            wreck.write(&path).map_err(|error| format!("the wreck cannot be laid out: {error}"))?;
            if life.end == End::PowerLost {
                self.disk.lose_power();
            }
        }
        self.lives.push(Span { from, until: self.world.now() });
        self.counts.steps = self.fate.steps();
        Ok(ended)
    }

    /// Collects until the life ends; with what a crash leaves of the ledger.
    async fn collect(&self, life: Life) -> (Ended, Option<Files>) {
        let (ledger, archive) = match (self.ledger(), self.archive()) {
            (Ok(ledger), Ok(archive)) => (ledger, archive),
            (Err(error), _) => return (Ended::Failed(format!("the ledger cannot be opened: {error}")), None),
            (_, Err(error)) => {
                let crashed = self.fate.is_dead().then(|| Files::read(&self.ledger_path()));
                return (Ended::Failed(format!("the archive cannot be opened: {error}")), crashed);
            }
        };
        let (collector, store) = self.collector(ledger, archive);
        let time = life.time.to_std().unwrap_or_default();
        let stop = async {
            tokio::time::sleep(time).await;
            if life.end != End::Stopped {
                self.fate.note("the crash comes by the clock");
                self.fate.kill();
                std::future::pending::<()>().await;
            }
            self.fate.note("it is asked to stop");
        };
        let collecting =
            async { if life.once { collector.collect_once(&[], stop).await } else { collector.run(stop).await } };
        tokio::select! {
            biased;
            () = self.fate.death() => (Ended::Crashed, Some(store.files())),
            ended = collecting => match ended {
                Ok(report) => (Ended::Itself(Box::new(report)), None),
                Err(error) => (Ended::Failed(server::chain(&error)), None),
            },
        }
    }

    /// A collector as it begins to live, and its ledger.
    fn collector(&self, ledger: SqliteLedger, archive: Archive) -> (Collector, Arc<Store>) {
        let store = Arc::new(self.store(ledger));
        let parts = CollectorParts {
            transport: Arc::new(self.network()),
            ledger: Arc::clone(&store) as Arc<dyn Ledger>,
            archive,
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            metrics: Arc::new(Metrics::new()),
        };
        (Collector::new(self.settings.clone(), &parts), store)
    }

    fn after(&mut self, ended: &Ended, once: bool) -> Result<(), String> {
        let began = self.lives.last().map(|life| life.from);
        match ended {
            Ended::Crashed => self.counts.crashes += 1,
            Ended::Failed(error) => {
                // Where the folder lies differs from run to run of the same seed.
                let error = error.replace(&self.folder.path().display().to_string(), "");
                self.fate.note(&format!("ended by itself: {error}"));
            }
            Ended::Itself(report) => {
                self.fate.note(&format!("ended by itself, complete: {}", report.is_complete()));
                if self.bug == Some(Bug::EndsWhileFetching) {
                    self.memory.lock().unwrap_or_else(PoisonError::into_inner).run_ended();
                }
                if once && report.is_complete() && self.clock.error_at(self.world.now()).0.is_zero() {
                    self.complete_runs.extend(began);
                }
            }
        }
        let panics = crate::panics::take();
        if panics.is_empty() { Ok(()) } else { Err(format!("a panic: {}", panics.join("; "))) }
    }

    fn store(&self, inner: SqliteLedger) -> Store {
        Store {
            inner,
            fate: Arc::clone(&self.fate),
            spells: Arc::clone(&self.spells),
            disk: Arc::clone(&self.disk),
            witness: Arc::clone(&self.witness),
            bug: self.bug,
            memory: Arc::clone(&self.memory),
            tally: Arc::clone(&self.tally),
            wreck: Mutex::new(None),
        }
    }

    fn network(&self) -> Network {
        Network {
            router: self.emulator.router(),
            emulator: self.emulator.clone(),
            world: self.world.clone(),
            fate: Arc::clone(&self.fate),
            spells: Arc::clone(&self.spells),
            events: Arc::clone(&self.events),
            bug: self.bug,
            memory: Arc::clone(&self.memory),
            asked: Arc::clone(&self.asked),
            gate: None,
        }
    }

    pub(crate) fn ledger_path(&self) -> PathBuf {
        self.folder.path().join("ledger.db")
    }

    pub(crate) fn ledger(&self) -> Result<SqliteLedger, ledger::LedgerError> {
        SqliteLedger::open(self.ledger_path(), OpenOptions { in_place: true, ..OpenOptions::default() })
    }

    fn archive(&self) -> Result<Archive, archive::ArchiveError> {
        let root = self.folder.path().join("archive");
        Archive::open(&ArchiveOptions { in_place: true, ..ArchiveOptions::at(root) })
    }
}

/// In memory where that is at hand: the machine's own syncing of files proves nothing here, and costs most.
pub(crate) fn folder() -> std::io::Result<TempDir> {
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }
}

/// Waits for what never waits: calls of a ledger that works in place.
pub(crate) fn block_on<T, E: Display>(work: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    match futures_util::FutureExt::now_or_never(work) {
        Some(result) => result.map_err(|error| error.to_string()),
        None => Err("a call waited that should not".to_owned()),
    }
}
