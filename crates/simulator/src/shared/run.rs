//! One seed of several workers: their processes, each told to go on when it is the one whose time has come least far, and what
//! befalls them.
//!
//! Never says what must be true in the end: the verdict does.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use chrono::TimeDelta;
use emulator::{Emulator, EmulatorClock, EmulatorOptions, default_app};
use engine::lease::WorkerId;
use ledger::Ledger;
use protocol::time::Timestamp;
use server::settings::Settings;
use tempfile::TempDir;

use super::SharedOptions;
use super::client::Client;
use super::folder::Folder;
use super::gate::Gate;
use super::leases::Leases;
use super::plan::{Life, SharedPlan, WorkerPlan};
use super::process::{Ended, Naming, Parts, Process};
use super::server::Server;
use super::troubles::{Troubles, Way};
use crate::clock::{WorldClock, WrongClock};
use crate::fate::Fate;
use crate::network::Network;
use crate::plan::{Events, Span, SpellPlan, Spells};
use crate::run::{block_on, folder};
use crate::tuned::settings;
use crate::witness::Witness;

/// Between two looks at what is claimed.
const LOOKS: TimeDelta = TimeDelta::hours(12);
/// After a process could not begin, or gave up, whoever watches over it waits.
const AGAIN: TimeDelta = TimeDelta::seconds(30);

/// What a run was made of.
#[derive(Debug, Clone, Copy, Default)]
pub struct SharedCounts {
    /// Workers.
    pub workers: u64,
    /// Processes.
    pub lives: u64,
    /// Of those, the ones that were killed.
    pub crashes: u64,
    /// How often a process was stopped and went on.
    pub stops: u64,
    /// Steps of all processes.
    pub steps: u64,
    /// How often a tenant was taken from a worker that had been silent.
    pub robbed: u64,
    /// How many processes had each tenant, summed up.
    pub hands: u64,
    /// Distinct records published and expected in the archive.
    pub records: u64,
    /// Contents that could not be had and are named as lost.
    pub lost: u64,
}

/// One run: the world, the database, the archive's folder and the workers.
pub(super) struct Run {
    pub(super) plan: SharedPlan,
    pub(super) options: SharedOptions,
    pub(super) emulator: Emulator,
    pub(super) world: WorldClock,
    pub(super) fate: Arc<Fate>,
    pub(super) events: Arc<Events>,
    pub(super) witness: Arc<Witness>,
    pub(super) server: Arc<Server>,
    pub(super) settings: Settings,
    pub(super) asked: Arc<Mutex<BTreeMap<String, u32>>>,
    pub(super) workers: Vec<Worker>,
    /// Every process, of which worker it was, and when it was there.
    pub(super) processes: Vec<(WorkerId, Option<usize>, Span)>,
    pub(super) server_is_up: bool,
    /// When processes fell silent, not long ago.
    pub(super) falls: Vec<Timestamp>,
    pub(super) unsteady_until: Timestamp,
    pub(super) looked: Timestamp,
    pub(super) counts: SharedCounts,
    pub(super) folder: TempDir,
}

/// A machine on which a process runs.
pub(super) struct Worker {
    pub(super) plan: WorkerPlan,
    process: Option<Process>,
    /// That process's.
    troubles: Option<Arc<Troubles>>,
    /// What befell earlier ones in the midst of a call.
    pub(super) ambushed: Vec<Span>,
    /// When the next one begins, while there is none.
    begins: Timestamp,
    life: Life,
    ends: Timestamp,
    is_stopped: bool,
    /// Stopped in the midst of a call, until then.
    stopped_until: Option<Timestamp>,
    is_healthy: bool,
    /// When that was last seen to change.
    changed: Timestamp,
}

/// What happens by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    ServerStops,
    ServerStarts,
    Resumes(usize),
    Stops(usize),
    Ends(usize),
    Begins(usize),
    Look,
    End,
}

impl Run {
    pub(super) fn new(seed: u64, options: SharedOptions) -> Result<Self, String> {
        fastrand::seed(seed);
        let mut plan = SharedPlan::of(seed, options.days, options.workers, options.hardship);
        let start = plan.plan.start;
        let world = WorldClock::standing_at(start);
        let fate = Arc::new(Fate::new(seed, world.clone(), options.keep));
        let app = default_app(seed);
        let emulator = Emulator::new(EmulatorOptions {
            world: plan.plan.world.clone(),
            clock: Some(EmulatorClock::frozen(start)),
            apps: vec![app.clone()],
            faults: plan.plan.faults.clone(),
            ..EmulatorOptions::default()
        })
        .map_err(|error| format!("no world: {error}"))?;
        let folder = folder().map_err(|error| format!("no folder: {error}"))?;
        let tenants = emulator.world().tenant_ids();
        let right = Arc::new(WrongClock { world: world.clone(), errors: Vec::new() });
        let witness = Arc::new(Witness::new(right));
        let leases = Leases::new(&tenants, plan.lease_time, start);
        let server = Server::start(folder.path().join("ledger.db"), leases, Arc::clone(&witness));
        let server = server.map_err(|error| format!("the ledger cannot be opened: {error}"))?;
        let workers: Vec<Worker> = std::mem::take(&mut plan.workers).into_iter().map(Worker::of).collect();
        let counts = SharedCounts { workers: workers.len() as u64, ..SharedCounts::default() };
        let run = Self {
            events: Arc::new(Events::new(app.client_id, tenants, plan.plan.events.clone())),
            settings: settings(&plan.plan, &app, folder.path().to_owned(), None)?,
            looked: start,
            plan,
            options,
            emulator,
            world,
            fate,
            witness,
            server: Arc::new(server),
            asked: Arc::default(),
            workers,
            processes: Vec::new(),
            server_is_up: true,
            falls: Vec::new(),
            unsteady_until: start,
            counts,
            folder,
        };
        run.add_tenants()?;
        Ok(run)
    }

    /// Lives through all of it, and checks.
    pub(super) fn run(&mut self) -> Result<(), String> {
        let end = self.plan.plan.end;
        self.conduct(end)?;
        for number in 0..self.workers.len() {
            // All that is left of them may be a word on its way.
            self.bury(number, "it is over");
        }
        self.last_runs()
    }

    fn add_tenants(&self) -> Result<(), String> {
        let from = self.plan.plan.start - self.plan.plan.tuning.back;
        for tenant in self.emulator.world().tenant_ids() {
            block_on(self.server.ledger().add_tenant(tenant, String::new(), from, self.plan.plan.start))?;
        }
        Ok(())
    }

    /// Lets everybody go on until `end`.
    fn conduct(&mut self, end: Timestamp) -> Result<(), String> {
        let lease_time = TimeDelta::from_std(self.plan.lease_time).unwrap_or_default();
        // A word of another is heard so late at most.
        let ahead = (lease_time / 12).min(TimeDelta::seconds(20));
        loop {
            let (at, event) = self.next_event(end);
            let running = || self.workers.iter().enumerate().filter(|(_, worker)| !worker.is_stopped);
            let mut ats: Vec<(Timestamp, usize)> =
                running().filter_map(|(number, worker)| Some((worker.process.as_ref()?.at, number))).collect();
            ats.sort_unstable();
            let next = ats.first().copied().filter(|(next, _)| *next < at);
            self.pass_to(next.map_or(at, |(next, _)| next));
            self.look_at_idleness()?;
            let Some((_, number)) = next else {
                if event == Event::End {
                    return Ok(());
                }
                self.happen(event)?;
                continue;
            };
            let others = ats.get(1).map_or_else(|| self.world.now(), |(other, _)| *other);
            let until = at.min(others + ahead);
            let ended = self.workers.get_mut(number).and_then(|worker| worker.process.as_mut()?.go_on(until));
            self.stop_where_it_is(number);
            if let Some(ended) = ended {
                self.ended(number, &ended)?;
            }
        }
    }

    pub(super) fn pass_to(&self, at: Timestamp) {
        let now = self.world.now();
        if at > now {
            self.world.pass(at - now);
        }
    }

    fn next_event(&self, end: Timestamp) -> (Timestamp, Event) {
        let now = self.world.now();
        let mut next = (end, Event::End).min((self.looked + LOOKS, Event::Look));
        for span in &self.plan.restarts {
            if self.server_is_up && span.holds(now) {
                next = next.min((now, Event::ServerStops));
            } else if self.server_is_up && span.from > now {
                next = next.min((span.from, Event::ServerStops));
            }
        }
        if !self.server_is_up {
            let up = self.plan.restarts.iter().filter(|span| span.holds(now)).map(|span| span.until).max();
            next = next.min((up.unwrap_or(now), Event::ServerStarts));
        }
        for (number, worker) in self.workers.iter().enumerate() {
            if worker.process.is_none() {
                next = next.min((worker.begins.max(now), Event::Begins(number)));
                continue;
            }
            next = next.min((worker.ends.max(now), Event::Ends(number)));
            if let Some(until) = worker.stopped_until {
                next = next.min((until.max(now), Event::Resumes(number)));
                continue;
            }
            let stop = worker.plan.way.stops.iter().find(|span| span.until > now);
            match stop {
                Some(span) if worker.is_stopped && !span.holds(now) => next = next.min((now, Event::Resumes(number))),
                Some(span) if worker.is_stopped => next = next.min((span.until, Event::Resumes(number))),
                Some(span) => next = next.min((span.from.max(now), Event::Stops(number))),
                None if worker.is_stopped => next = next.min((now, Event::Resumes(number))),
                None => {}
            }
        }
        next
    }

    pub(super) fn happen(&mut self, event: Event) -> Result<(), String> {
        let now = self.world.now();
        self.server.settle(now);
        match event {
            Event::End => {}
            Event::ServerStops => {
                self.fate.note("the database's server stops");
                self.server.stop(now);
                self.server_is_up = false;
            }
            Event::ServerStarts => {
                self.fate.note("the database's server starts");
                self.server.start_again().map_err(|error| format!("the ledger cannot be opened: {error}"))?;
                self.server_is_up = true;
            }
            Event::Begins(number) => self.begin(number)?,
            Event::Stops(number) => {
                self.fate.note(&format!("worker {number} is stopped"));
                self.counts.stops += 1;
                self.with(number, |worker| worker.is_stopped = true);
            }
            Event::Resumes(number) => {
                self.fate.note(&format!("worker {number} goes on"));
                self.with(number, |worker| {
                    (worker.is_stopped, worker.stopped_until) = (false, None);
                    if let Some(process) = &mut worker.process {
                        process.skip_to(now);
                    }
                });
            }
            Event::Ends(number) => {
                let killed = self.workers.get(number).is_some_and(|worker| worker.life.killed);
                if killed {
                    self.bury(number, "it is killed by the clock");
                    self.counts.crashes += 1;
                } else {
                    self.fate.note(&format!("worker {number} is asked to stop"));
                    self.with(number, |worker| {
                        worker.ends = Timestamp::MAX_UTC;
                        worker.process.iter_mut().for_each(Process::stop);
                    });
                }
            }
            Event::Look => {
                self.looked = now;
                self.check_claims()?;
            }
        }
        self.complaints()
    }

    /// If it is to be stopped in the midst of a call.
    fn stop_where_it_is(&mut self, number: usize) {
        let Some(worker) = self.workers.get_mut(number) else { return };
        let Some(until) = worker.troubles.as_ref().and_then(|troubles| troubles.take_stop()) else { return };
        (worker.is_stopped, worker.stopped_until) = (true, Some(until));
        self.counts.stops += 1;
        self.fate.note(&format!("worker {number} is stopped where it is"));
    }

    fn with(&mut self, number: usize, work: impl FnOnce(&mut Worker)) {
        if let Some(worker) = self.workers.get_mut(number) {
            work(worker);
        }
    }

    /// A worker's next process.
    fn begin(&mut self, number: usize) -> Result<(), String> {
        let now = self.world.now();
        let Some(worker) = self.workers.get_mut(number) else { return Ok(()) };
        worker.life = worker.plan.lives.next();
        worker.ends = now + worker.life.time;
        // Whatever was before it is another process's.
        (worker.is_stopped, worker.is_healthy, worker.changed) = (false, false, now);
        let (way, steps) = (Arc::clone(&worker.plan.way), worker.life.steps);
        self.fate.note(&format!("worker {number} begins: {:?}", worker.life));
        let (process, troubles) = self.process(Some(number), way, steps, false)?;
        self.with(number, |worker| (worker.process, worker.troubles) = (Some(process), Some(troubles)));
        Ok(())
    }

    /// A process of that worker, or, when everything has calmed down, of nobody's.
    pub(super) fn process(
        &mut self,
        of: Option<usize>,
        way: Arc<Way>,
        steps: Option<u64>,
        once: bool,
    ) -> Result<(Process, Arc<Troubles>), String> {
        self.counts.lives += 1;
        let (now, number) = (self.world.now(), self.counts.lives);
        let id = WorkerId(self.fate.draw(|rng| rng.u128(..)).to_be_bytes());
        let name = of.map_or_else(|| format!("p{number}"), |of| format!("w{of}.p{number}"));
        let clock = WorldClock::standing_at(now);
        let fate = Arc::new(self.fate.beside(&name, self.fate.draw(|rng| rng.u64(..)), clock.clone()));
        fate.live(steps);
        let spells = if of.is_some() {
            let mut spells = self.plan.plan.spells.clone();
            spells.network_down.extend(&way.service_cut);
            spells
        } else {
            SpellPlan { latency: 200, ..SpellPlan::default() }
        };
        let spells = Arc::new(Spells::new(spells, clock.clone()));
        let own_clock = Arc::new(WrongClock { world: clock.clone(), errors: way.clock_errors.clone() });
        let troubles = Arc::new(Troubles::new(way, clock.clone()));
        let gate = Arc::new(Gate::default());
        let client = Client {
            server: Arc::clone(&self.server),
            gate: Arc::clone(&gate),
            fate: Arc::clone(&fate),
            world: clock.clone(),
            clock: own_clock,
            spells: Arc::clone(&spells),
            troubles: Arc::clone(&troubles),
            process: number,
            bug: self.options.bug.filter(|_| of.is_some()),
            places: Mutex::default(),
            connections: Client::connections(),
            trusted_until: Mutex::default(),
        };
        let network = Network {
            router: self.emulator.router(),
            emulator: self.emulator.clone(),
            world: clock,
            fate: Arc::clone(&fate),
            spells: Arc::clone(&spells),
            events: Arc::clone(&self.events),
            bug: None,
            memory: Arc::default(),
            asked: Arc::clone(&self.asked),
            gate: Some(gate),
        };
        self.processes.push((id, of, Span { from: now, until: Timestamp::MAX_UTC }));
        let parts = Parts {
            client: Arc::new(client),
            network,
            folder: Folder { root: self.root(), fate, spells, troubles: Arc::clone(&troubles) },
            settings: self.settings.clone(),
            sharing: Naming { worker: id, name, lease_time: self.plan.lease_time },
            once,
        };
        Ok((Process::begin(parts, now)?, troubles))
    }

    fn ended(&mut self, number: usize, ended: &Ended) -> Result<(), String> {
        let how = match ended {
            Ended::Crashed => {
                self.counts.crashes += 1;
                "the crash has come".to_owned()
            }
            Ended::Itself(_) => "ended by itself".to_owned(),
            Ended::Failed(error) => {
                // Where the folder lies differs from run to run of the same seed.
                format!("ended by itself: {}", error.replace(&self.folder.path().display().to_string(), ""))
            }
        };
        self.bury(number, &how);
        if matches!(ended, Ended::Failed(_)) {
            let again = self.world.now() + AGAIN;
            self.with(number, |worker| worker.begins = worker.begins.max(again));
        }
        let panics = crate::panics::take();
        if panics.is_empty() { self.complaints() } else { Err(format!("a panic: {}", panics.join("; "))) }
    }

    /// A worker's process is gone; the next begins after a pause.
    fn bury(&mut self, number: usize, how: &str) {
        let Some(worker) = self.workers.get_mut(number) else { return };
        let Some(process) = worker.process.take() else { return };
        let now = self.world.now().max(process.at);
        self.fate.note(&format!("worker {number}: {how}"));
        worker.begins = now + worker.life.pause;
        (worker.is_stopped, worker.stopped_until) = (false, None);
        worker.ambushed.extend(worker.troubles.take().iter().flat_map(|troubles| troubles.ambushes()));
        if std::mem::take(&mut worker.is_healthy) {
            self.falls.push(now);
        }
        self.forget(process, now);
    }

    pub(super) fn forget(&mut self, process: Process, at: Timestamp) {
        self.counts.steps += process.fate.steps();
        for (id, _, there) in &mut self.processes {
            if *id == process.worker {
                there.until = at;
            }
        }
        let number = process.number;
        drop(process);
        // Its system tells the server, or, when the whole machine is gone, nobody does.
        let noticed = if self.fate.chance(0.3) { self.fate.draw(|rng| rng.i64(0..30_000)) } else { 0 };
        let arrives = || self.fate.draw(fastrand::Rng::bool);
        self.server.gone(number, at + TimeDelta::milliseconds(noticed), arrives);
    }

    /// Whether a tenant lies idle although somebody is there who could have taken it: a worker that has reached the ledger
    /// for all the time that a tenant may lie idle. That is two lease times, and one more for each further process that fell
    /// silent in the last four: until its lease time is over, its share is kept for it. While the ledger hears of a worker
    /// whose connections break again and again, its share may be kept for it for as long as that lasts, and nothing is held
    /// against anybody.
    fn look_at_idleness(&mut self) -> Result<(), String> {
        let now = self.world.now();
        let lease_time = TimeDelta::from_std(self.plan.lease_time).unwrap_or_default();
        let everybody = self.server_is_up && !self.plan.plan.spells.ledger_full.iter().any(|span| span.holds(now));
        for worker in &mut self.workers {
            let is_there = worker.process.is_some() && !worker.is_stopped;
            let reaches = worker.troubles.as_ref().is_some_and(|troubles| troubles.reaches_the_ledger(now));
            let is_healthy = everybody && is_there && reaches;
            if is_healthy != worker.is_healthy {
                (worker.is_healthy, worker.changed) = (is_healthy, now);
                self.falls.extend((!is_healthy).then_some(now));
            }
            if is_there && worker.plan.way.breaks_at(now) {
                self.unsteady_until = now + lease_time * 2;
            }
        }
        self.falls.retain(|fall| *fall > now - lease_time * 4);
        let borne = i32::try_from(1 + self.falls.len().max(1)).unwrap_or(i32::MAX);
        let could = |worker: &Worker| worker.is_healthy && worker.changed <= now - lease_time * borne;
        if now < self.unsteady_until || !self.workers.iter().any(could) {
            return Ok(());
        }
        let mut leases = self.server.leases();
        leases.check_idle(now, borne);
        leases.complaint().map_or(Ok(()), Err)
    }

    pub(super) fn complaints(&self) -> Result<(), String> {
        let complaint = self.server.leases().complaint().or_else(|| self.witness.complaint());
        complaint.map_or(Ok(()), Err)
    }

    pub(super) fn root(&self) -> PathBuf {
        self.folder.path().join("archive")
    }
}

impl Worker {
    fn of(plan: WorkerPlan) -> Self {
        let life = Life { steps: None, time: TimeDelta::zero(), killed: false, pause: TimeDelta::zero() };
        let (begins, ends) = (plan.joins, Timestamp::MAX_UTC);
        Self {
            plan,
            process: None,
            troubles: None,
            ambushed: Vec::new(),
            begins,
            life,
            ends,
            is_stopped: false,
            stopped_until: None,
            is_healthy: false,
            changed: begins,
        }
    }
}
