//! One process's handle to the database, with all that can happen to a call on its way there and back.
//!
//! What it does about that is what `ledger::postgres::worker` does, rule for rule: a call that lost its connection before its
//! `COMMIT` was sent is made again a few times; of a `COMMIT` whose answer never came the server is asked, by what the write
//! noted of itself, until it tells; and a call that was begun is carried out even if its caller has stopped waiting.

use std::any::Any;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;
use engine::lease::Lease;
use engine::model::Tile;
use ledger::{Hint, LedgerError};
use protocol::time::Timestamp;
use server::clock::Clock;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{sleep, timeout};

use super::gate::Gate;
use super::plant::SharingBug;
use super::server::{Begun, Executing, Locks, Place, Server, Work};
use super::troubles::{Stage, Troubles};
use crate::clock::{WorldClock, WrongClock};
use crate::fate::Fate;
use crate::plan::Spells;

/// `PgOptions::CONNECTIONS`.
const CONNECTIONS: usize = 8;
/// How long a call waits for a free one (`ledger::postgres::connect`).
const WAIT: Duration = Duration::from_secs(30);
/// `CONFLICTS_MAX` and `LOSSES_MAX` of `ledger::postgres::worker`.
const CONFLICTS_MAX: u32 = 10;
const LOSSES_MAX: u32 = 3;
/// How long a lock is waited for: two thirds of what a transaction may be silent.
const LOCK_WAIT: Duration = Duration::from_secs(20);
/// Until bytes that nobody acknowledges mean that the server is gone.
const SILENCE: TimeDelta = TimeDelta::seconds(20);
/// The longest until a server notices that a client is gone.
const NOTICED: i64 = 30_000;
/// Of two statements in each other's way, one is told to come again.
const CONFLICTS: f64 = 0.001;

/// One process's handle.
pub(crate) struct Client {
    pub(crate) server: Arc<Server>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) fate: Arc<Fate>,
    pub(crate) world: WorldClock,
    /// The process's own.
    pub(crate) clock: Arc<WrongClock>,
    pub(crate) spells: Arc<Spells>,
    pub(crate) troubles: Arc<Troubles>,
    pub(crate) process: u64,
    pub(crate) bug: Option<SharingBug>,
    pub(crate) places: Mutex<Places>,
    pub(crate) connections: Semaphore,
    /// Of the bugs that do not ask the ledger: until when its leases are trusted.
    pub(crate) trusted_until: Mutex<Option<Timestamp>>,
}

/// The places where writes are noted (`ledger::postgres::last_write`).
#[derive(Default)]
pub(crate) struct Places {
    free: Vec<u32>,
    places: u32,
    writes: u64,
}

type Note = (Place, u64);
type Slot<T> = Arc<Mutex<Option<Result<T, LedgerError>>>>;

/// Carries a call out, as part of its transaction.
type Carry<T> = Box<dyn Fn(&Executing<'_>) -> Result<T, LedgerError> + Send + Sync>;

/// What a call does, as often as it has to be done.
pub(crate) struct Call<T> {
    pub(crate) name: &'static str,
    pub(crate) locks: Locks,
    pub(crate) work: Carry<T>,
    pub(crate) hint: fn(&T) -> Option<Hint>,
}

/// Why an attempt came to nothing.
enum Fault {
    Lost,
    Conflict,
    Final(LedgerError),
}

enum Broken<T> {
    /// Nothing of it stays.
    Undone(Fault),
    /// The connection was lost after `COMMIT` was sent; if that happened, the value is in the slot.
    Unknown(Note, Slot<T>),
}

fn place() -> ledger::Place {
    Path::new("ledger.db").into()
}

pub(crate) fn unreachable() -> LedgerError {
    LedgerError::Unreachable { place: place(), source: Arc::new(std::io::Error::other("the connection is gone")) }
}

impl Client {
    pub(crate) fn connections() -> Semaphore {
        Semaphore::new(CONNECTIONS)
    }

    fn now(&self) -> Timestamp {
        self.world.now()
    }

    fn lock<'l, T>(&self, of: &'l Mutex<T>) -> MutexGuard<'l, T> {
        of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Under what a write is carried out.
    pub(crate) fn guard(&self, name: &str, lease: Option<Lease>) -> Result<Option<Lease>, LedgerError> {
        match (self.bug, lease) {
            (Some(SharingBug::CommitUnchecked), _) if name == "commit" => Ok(None),
            (Some(SharingBug::OwnClock | SharingBug::TrustsTooLong), Some(lease)) => {
                let now = self.time_of_trust();
                let trusted = self.lock(&self.trusted_until).is_some_and(|until| now < until);
                if trusted {
                    Ok(None)
                } else {
                    Err(LedgerError::LeaseLost { tenant: lease.tenant, epoch: lease.epoch })
                }
            }
            _ => Ok(lease),
        }
    }

    /// The time that leases are trusted by, of the bugs that do not ask the ledger.
    pub(crate) fn time_of_trust(&self) -> Timestamp {
        if self.bug == Some(SharingBug::OwnClock) { self.clock.now() } else { self.now() }
    }

    /// The ledger has been told that we are alive.
    pub(crate) fn trust(&self, until: Timestamp) {
        *self.lock(&self.trusted_until) = Some(until);
    }

    /// When a listing that is being written down really began; `None` when the clock was set meanwhile and nobody can say.
    pub(crate) fn began(&self, tile: &Tile) -> Option<Timestamp> {
        crate::witness::really_began(&self.clock, tile.listed_at?)
    }

    /// A call that writes, in a task of its own.
    pub(crate) async fn write<T: Send + 'static>(self: Arc<Self>, call: Call<T>) -> Result<T, LedgerError> {
        let (reply, answer) = oneshot::channel();
        tokio::spawn(async move {
            // The caller may have stopped waiting.
            let _ = reply.send(self.carry_out(&Arc::new(call)).await);
        });
        answer.await.map_err(|_| LedgerError::ThreadGone { place: place() })?
    }

    /// A call that reads.
    pub(crate) async fn read<T>(
        &self,
        work: impl Fn(&Executing<'_>) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        for losses in 0..=LOSSES_MAX {
            self.alive().await;
            if losses > 0 {
                sleep(Duration::from_millis(u64::from(losses - 1) * 100)).await;
            }
            if !self.way().await {
                continue;
            }
            self.gate.turn().await;
            let Some(result) = self.server.read(self.now(), &work) else { continue };
            if self.way().await {
                self.alive().await;
                return result;
            }
        }
        Err(unreachable())
    }

    /// What is planned to go wrong at this point of this call begins.
    async fn ambush(&self, name: &str, stage: Stage) {
        if self.troubles.ambush(name, stage, self.now()) {
            self.fate.note("something happens to it at this point");
            // Whoever conducts the run may stop the process here.
            self.gate.turn().await;
        }
    }

    /// Whoever is dead waits for ever.
    async fn alive(&self) {
        if self.fate.is_dead() {
            std::future::pending().await
        }
    }

    /// The same as a step of the run.
    async fn step(&self, what: &str, name: &str) {
        if !self.fate.step(format_args!("ledger: {what}{name}")) {
            std::future::pending().await
        }
    }

    fn latency(&self) -> TimeDelta {
        TimeDelta::milliseconds(self.fate.draw(|rng| rng.i64(1..=self.troubles.way.latency.max(1).cast_signed())))
    }

    /// A message goes there or back; `false` when the connection is lost by that.
    async fn way(&self) -> bool {
        sleep(wait(self.latency())).await;
        if self.fate.chance(self.troubles.breaks()) {
            return false;
        }
        let Some(until) = self.troubles.ledger_away_until(self.now()) else { return true };
        // What is silent is sent again and again; what is refused is refused at once.
        if self.fate.chance(0.3) {
            return false;
        }
        let away = until - self.now();
        sleep(wait(away.min(SILENCE))).await;
        away < SILENCE
    }

    async fn carry_out<T: Send + 'static>(&self, call: &Arc<Call<T>>) -> Result<T, LedgerError> {
        let (mut conflicts, mut losses) = (0, 0);
        self.step("", call.name).await;
        loop {
            let fault = match self.attempt(call).await {
                Ok(value) => {
                    self.step("done ", call.name).await;
                    return Ok(value);
                }
                Err(Broken::Undone(fault)) => fault,
                Err(Broken::Unknown(note, slot)) => {
                    self.fate.note(&format!("whether {} has happened is in doubt", call.name));
                    if self.bug == Some(SharingBug::DoubtIsDone)
                        && let Some(value) = pretended()
                    {
                        return Ok(value);
                    }
                    let has_happened = self.bug != Some(SharingBug::DoubtIsUndone) && self.has_happened(note).await;
                    self.lock(&self.places).free.push(note.0.1);
                    let value = self.lock(&slot).take();
                    match value {
                        Some(value) if has_happened => return value,
                        _ => Fault::Lost,
                    }
                }
            };
            let again = match fault {
                Fault::Conflict if conflicts < CONFLICTS_MAX => {
                    conflicts += 1;
                    u64::from(conflicts * conflicts) * 2
                }
                Fault::Lost if losses < LOSSES_MAX => {
                    losses += 1;
                    u64::from(losses - 1) * 100
                }
                Fault::Conflict => return Err(LedgerError::Busy { place: place() }),
                Fault::Lost => return Err(unreachable()),
                Fault::Final(error) => return Err(error),
            };
            sleep(Duration::from_millis(again)).await;
        }
    }

    /// One transaction.
    async fn attempt<T: Send + 'static>(&self, call: &Arc<Call<T>>) -> Result<T, Broken<T>> {
        let lost = || Broken::Undone(Fault::Lost);
        let Ok(Ok(_connection)) = timeout(WAIT, self.connections.acquire()).await else {
            return Err(Broken::Undone(Fault::Final(LedgerError::Busy { place: place() })));
        };
        if !self.way().await {
            return Err(lost());
        }
        self.ambush(call.name, Stage::Begin).await;
        let note = self.note();
        let id = self.begin(call, note).await.map_err(Broken::Undone)?;
        // The statements of the transaction, one after the other.
        let works = self.fate.draw(|rng| rng.u64(0..=20));
        sleep(Duration::from_millis(works)).await;
        if self.spells.ledger_full() || self.fate.chance(CONFLICTS) {
            let is_full = self.spells.ledger_full();
            self.server.abandoned(id, self.now());
            self.lock(&self.places).free.push(note.0.1);
            let full = || Fault::Final(LedgerError::DiskFull { place: place() });
            return Err(Broken::Undone(if is_full { full() } else { Fault::Conflict }));
        }
        if !self.way().await {
            self.server.abandoned(id, self.noticed());
            return Err(lost());
        }
        self.ambush(call.name, Stage::Commit).await;
        self.step("commit of ", call.name).await;
        let slot: Slot<T> = Arc::default();
        self.commit(call, id, &slot).await;
        self.ambush(call.name, Stage::Answer).await;
        let is_over = self.lock(&slot).is_some();
        if !(is_over && self.way().await) {
            return Err(Broken::Unknown(note, slot));
        }
        self.lock(&self.places).free.push(note.0.1);
        let result = self.lock(&slot).take();
        match result {
            Some(Ok(value)) => Ok(value),
            Some(Err(error)) => Err(Broken::Undone(Fault::Final(error))),
            None => Err(lost()),
        }
    }

    /// When the server notices that this connection is gone.
    fn noticed(&self) -> Timestamp {
        self.now() + TimeDelta::milliseconds(self.fate.draw(|rng| rng.i64(0..NOTICED)))
    }

    /// A write that begins.
    fn note(&self) -> Note {
        let mut places = self.lock(&self.places);
        let place = places.free.pop().unwrap_or_else(|| {
            places.places += 1;
            places.places
        });
        places.writes += 1;
        ((self.process, place), places.writes)
    }

    /// Waits for what others have locked.
    async fn begin<T>(&self, call: &Call<T>, note: Note) -> Result<u64, Fault> {
        let mut waited = Duration::ZERO;
        let mut pause = Duration::from_millis(20);
        loop {
            self.gate.turn().await;
            match self.server.begin(self.now(), self.process, call.locks.clone(), note) {
                Begun::As(id) => return Ok(id),
                Begun::Down => return Err(Fault::Lost),
                Begun::Locked if waited >= LOCK_WAIT => {
                    self.lock(&self.places).free.push(note.0.1);
                    return Err(Fault::Final(LedgerError::Busy { place: place() }));
                }
                Begun::Locked => {
                    sleep(pause).await;
                    waited += pause;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
            }
        }
    }

    /// Sends the `COMMIT`. When this returns it has been answered if there is something in the slot; that the answer comes
    /// back is another matter.
    async fn commit<T: Send + 'static>(&self, call: &Arc<Call<T>>, id: u64, slot: &Slot<T>) {
        let work = {
            let (call, slot) = (Arc::clone(call), Arc::clone(slot));
            move |executing: &Executing<'_>| {
                let result = (call.work)(executing);
                let told = result.as_ref().map_or((false, None), |value| (true, (call.hint)(value)));
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                told
            }
        };
        let work: Work = Box::new(work);
        let (now, mut latency) = (self.now(), self.latency());
        if self.fate.chance(self.troubles.breaks()) {
            // It does not arrive, or arrives although nobody waits for the answer any more, then or later.
            match self.fate.draw(|rng| rng.u8(0..3)) {
                0 => self.server.abandoned(id, self.noticed()),
                1 => self.server.commit_at(id, now + latency, work),
                _ => self.server.commit_at(id, self.noticed(), work),
            }
            return;
        }
        if let Some(until) = self.troubles.ledger_away_until(now) {
            let away = until - now;
            if away >= SILENCE {
                self.server.abandoned(id, self.noticed());
                sleep(wait(SILENCE)).await;
                return;
            }
            latency += away;
        }
        self.server.commit_at(id, now + latency, work);
        sleep(wait(latency)).await;
        self.gate.turn().await;
        self.server.settle(self.now());
    }

    /// Asks until the server tells.
    async fn has_happened(&self, note: Note) -> bool {
        let mut pause = Duration::from_millis(50);
        loop {
            self.alive().await;
            if self.way().await {
                self.gate.turn().await;
                let answer = self.server.has_happened(self.now(), note);
                if let (Ok(has_happened), true) = (answer, self.way().await) {
                    self.fate.note(if has_happened { "it has happened" } else { "it has not happened" });
                    return has_happened;
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }
}

fn wait(time: TimeDelta) -> Duration {
    time.to_std().unwrap_or_default()
}

/// What a call would have answered, for who pretends that it has.
fn pretended<T: 'static>() -> Option<T> {
    let candidates: [Box<dyn Any>; 2] = [Box::new(()), Box::new(0_u64)];
    candidates.into_iter().find_map(|candidate| candidate.downcast::<T>().ok()).map(|value| *value)
}
