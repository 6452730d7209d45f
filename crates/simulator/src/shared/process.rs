//! One process of a worker: a whole collector with a runtime and a time of its own, which goes on only when it is told to.
//!
//! It goes on until something of it waits at its gate, or until a moment that it is given; in between nothing of it touches
//! what it shares with others but the archive's folder. One that is not told to go on is stopped, with everything that is
//! under way in it; when it is told to skip what it has missed, all its timers that are over by then are over at once.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use archive::disk::Watch;
use archive::{Archive, ArchiveOptions};
use engine::lease::WorkerId;
use ledger::Ledger;
use protocol::time::Timestamp;
use server::clock::Clock;
use server::collector::{Sharing, Webhooks};
use server::metrics::Metrics;
use server::settings::Settings;
use server::{Collector, CollectorParts, RunReport};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::calls::Handle;
use super::client::Client;
use super::folder::Folder;
use super::gate::Gate;
use crate::clock::WorldClock;
use crate::fate::Fate;
use crate::network::Network;

/// How a process ended.
pub(crate) enum Ended {
    /// By itself, with this to say.
    Itself(Box<RunReport>),
    Crashed,
    /// It could not begin, or gave up.
    Failed(String),
}

/// What a process is made of.
pub(crate) struct Parts {
    pub(crate) client: Arc<Client>,
    pub(crate) network: Network,
    pub(crate) folder: Folder,
    pub(crate) settings: Settings,
    pub(crate) sharing: Naming,
    /// It catches up and ends by itself.
    pub(crate) once: bool,
}

/// As whom it shares tenants.
pub(crate) struct Naming {
    pub(crate) worker: WorkerId,
    pub(crate) name: String,
    pub(crate) lease_time: std::time::Duration,
}

/// One process.
pub(crate) struct Process {
    pub(crate) number: u64,
    pub(crate) worker: WorkerId,
    pub(crate) fate: Arc<Fate>,
    /// How far it has come.
    pub(crate) at: Timestamp,
    stop: Option<oneshot::Sender<()>>,
    clock: WorldClock,
    gate: Arc<Gate>,
    watch: Arc<dyn Watch>,
    main: Option<Pin<Box<dyn Future<Output = Ended>>>>,
    runtime: Option<Runtime>,
}

impl Process {
    pub(crate) fn begin(parts: Parts, at: Timestamp) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
        let Client { world, gate, fate, process, .. } = &*parts.client;
        let (clock, gate, fate, number) = (world.clone(), Arc::clone(gate), Arc::clone(fate), *process);
        runtime.block_on(async { clock.run() });
        let (stop, stopped) = oneshot::channel();
        let worker = parts.sharing.worker;
        let root = parts.folder.root.clone();
        let watch: Arc<dyn Watch> = Arc::new(parts.folder);
        let handle = Handle { client: Arc::clone(&parts.client), lease: None };
        let Naming { name, lease_time, .. } = parts.sharing;
        let sharing = Sharing { workers: Arc::new(handle.clone()), worker, name, lease_time, alone: false };
        let (settings, network, own_clock, once) =
            (parts.settings, parts.network, Arc::clone(&parts.client.clock), parts.once);
        let of_fate = Arc::clone(&fate);
        let main = async move {
            let collecting = async {
                let archive = match Archive::open(&ArchiveOptions { in_place: true, ..ArchiveOptions::at(root) }) {
                    Ok(archive) => archive,
                    Err(error) => return Ended::Failed(server::chain(&error)),
                };
                let parts = CollectorParts {
                    transport: Arc::new(network),
                    ledger: Arc::new(handle) as Arc<dyn Ledger>,
                    archive,
                    clock: own_clock as Arc<dyn Clock>,
                    metrics: Arc::new(Metrics::new()),
                };
                let collector = Collector::sharing(settings, &parts, Webhooks::LeaveAlone, Some(sharing));
                let stopping = async {
                    if stopped.await.is_err() {
                        std::future::pending::<()>().await;
                    }
                };
                let ended =
                    if once { collector.collect_once(&[], stopping).await } else { collector.run(stopping).await };
                match ended {
                    Ok(report) => Ended::Itself(Box::new(report)),
                    Err(error) => Ended::Failed(server::chain(&error)),
                }
            };
            tokio::select! {
                biased;
                () = of_fate.death() => Ended::Crashed,
                ended = collecting => ended,
            }
        };
        let (main, stop): (Pin<Box<dyn Future<Output = Ended>>>, _) = (Box::pin(main), Some(stop));
        let (main, runtime) = (Some(main), Some(runtime));
        Ok(Self { number, worker, fate, at, stop, clock, gate, watch, main, runtime })
    }

    /// Lets through what waits, and goes on until something waits again, until `until` at the latest.
    pub(crate) fn go_on(&mut self, until: Timestamp) -> Option<Ended> {
        self.gate.open();
        let (Some(runtime), Some(main)) = (&self.runtime, &mut self.main) else { return Some(Ended::Crashed) };
        archive::disk::watch(Some(Arc::clone(&self.watch)));
        let time = (until - self.at).to_std().unwrap_or_default();
        let (ended, at) = runtime.block_on(async {
            let deadline = Instant::now() + time;
            let ended = tokio::select! {
                biased;
                ended = main.as_mut() => Some(ended),
                () = self.gate.asked() => None,
                () = tokio::time::sleep_until(deadline) => None,
            };
            (ended, self.clock.now())
        });
        archive::disk::watch(None);
        self.at = at;
        ended
    }

    /// It was stopped until then, and has missed what was in between.
    pub(crate) fn skip_to(&mut self, at: Timestamp) {
        let Some(runtime) = &self.runtime else { return };
        archive::disk::watch(Some(Arc::clone(&self.watch)));
        let missed = (at - self.at).to_std().unwrap_or_default();
        self.at = runtime.block_on(async {
            tokio::time::advance(missed).await;
            self.clock.now()
        });
        archive::disk::watch(None);
    }

    /// Asks it to stop.
    pub(crate) fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It may be ending by itself.
            let _ = stop.send(());
        }
    }
}

impl Drop for Process {
    /// Whatever is left of it does nothing any more, and then is gone.
    fn drop(&mut self) {
        self.fate.kill();
        archive::disk::watch(Some(Arc::clone(&self.watch)));
        if let Some(runtime) = self.runtime.take() {
            let inside = runtime.enter();
            drop(self.main.take());
            drop(inside);
            drop(runtime);
        }
        archive::disk::watch(None);
    }
}
