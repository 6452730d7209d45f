//! The database's server as its clients know PostgreSQL: one committed state, transactions that happen whole or not at all
//! and hold what they have locked until they end, a clock of its own, and words to who listens.
//!
//! The state is the program's own SQLite ledger, which carries out a transaction at the moment of its `COMMIT`. That is the
//! same as carrying its statements out one after the other, since what they go by is locked from the first of them on. What
//! each write notes of itself (`ledger::postgres::last_write`) is kept beside it, and changes in the same instant.
//!
//! Never takes a client's word for the time, and never forgets a transaction because its client is gone: it notices later.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::TimeDelta;
use engine::lease::{Lease, WorkerId};
use engine::model::{CommitNumber, SegmentRow};
use futures_util::FutureExt;
use ledger::sqlite::{OpenOptions, SqliteLedger};
use ledger::{Hint, Ledger, LedgerError, LedgerFuture, Workers};
use protocol::ids::TenantId;
use protocol::time::Timestamp;
use tokio::sync::broadcast;

use super::leases::Leases;
use super::troubles::Troubles;
use crate::fate::Fate;
use crate::witness::Witness;

/// After so much silence in a transaction it is ended (`PgOptions::SILENCE_MAX`).
const SILENCE_MAX: TimeDelta = TimeDelta::seconds(30);
/// Words that may wait to be heard.
const WORDS: usize = 64;
/// The share of words that nobody hears.
const DEAF: f64 = 0.1;

/// One run's database.
pub(crate) struct Server {
    pub(crate) witness: Arc<Witness>,
    pub(crate) leases: Mutex<Leases>,
    clock: Arc<AtomicI64>,
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    ledger: SqliteLedger,
    is_up: bool,
    begun: u64,
    open: BTreeMap<u64, Transaction>,
    /// The number of the last write at each place.
    last_write: BTreeMap<Place, u64>,
    ears: BTreeMap<u64, Ear>,
}

/// Where a process hears what others say.
struct Ear {
    sender: broadcast::Sender<Hint>,
    troubles: Arc<Troubles>,
    fate: Arc<Fate>,
}

/// Where a write is noted: whose, and which of its places.
pub(crate) type Place = (u64, u32);

/// What a transaction keeps others from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lock {
    Tenant(TenantId),
    Worker(WorkerId),
    Place(Place),
}

/// What a transaction locks when it begins.
#[derive(Debug, Clone)]
pub(crate) enum Locks {
    These(Vec<Lock>),
    /// A worker, and all that it holds.
    Leaving(WorkerId),
}

struct Transaction {
    /// Of which process.
    process: u64,
    locks: BTreeSet<Lock>,
    note: (Place, u64),
    end: End,
}

enum End {
    /// The client has not said what is to become of it; until then it is waited for.
    Waits(Timestamp),
    /// The `COMMIT` is on its way, and arrives then.
    Commits(Timestamp, Work),
}

/// Carries a transaction out; says whether it is to be kept, and what others are told then.
pub(crate) type Work = Box<dyn FnOnce(&Executing<'_>) -> (bool, Option<Hint>) + Send>;

/// How a transaction began.
pub(crate) enum Begun {
    As(u64),
    /// Somebody else has locked what it needs.
    Locked,
    Down,
}

/// What a transaction works on.
pub(crate) struct Executing<'a> {
    pub(crate) ledger: &'a SqliteLedger,
    pub(crate) now: Timestamp,
    pub(crate) server: &'a Server,
    /// Tenants that others are writing, or whose holder's row others have locked.
    pub(crate) written: Vec<TenantId>,
}

impl Executing<'_> {
    /// The ledger for who holds this lease.
    pub(crate) fn under(&self, lease: Option<Lease>) -> Arc<dyn Ledger> {
        lease.map_or_else(|| Arc::new(self.ledger.clone()) as Arc<dyn Ledger>, |lease| self.ledger.under(lease))
    }

    pub(crate) fn leases(&self) -> MutexGuard<'_, Leases> {
        self.server.leases()
    }

    /// Records, or others in the place of some, were made visible.
    pub(crate) fn committed(&self, tenant: TenantId, number: CommitNumber, lease: Option<Lease>, added: &[SegmentRow]) {
        self.server.witness.committed(tenant, number);
        self.leases().committed(tenant, number, lease, added);
    }
}

/// The result of a call that never waits.
pub(crate) fn settled<T>(call: LedgerFuture<'_, T>) -> Result<T, LedgerError> {
    call.now_or_never().unwrap_or_else(|| Err(LedgerError::ThreadGone { place: Path::new("ledger.db").into() }))
}

impl Server {
    pub(crate) fn start(path: PathBuf, leases: Leases, witness: Arc<Witness>) -> Result<Self, LedgerError> {
        let clock = Arc::new(AtomicI64::new(0));
        let state = State {
            ledger: open(&path, &clock)?,
            is_up: true,
            begun: 0,
            open: BTreeMap::new(),
            last_write: BTreeMap::new(),
            ears: BTreeMap::new(),
        };
        Ok(Self { witness, leases: Mutex::new(leases), clock, path, state: Mutex::new(state) })
    }

    /// The ledger for who looks at it from outside of the run.
    pub(crate) fn ledger(&self) -> SqliteLedger {
        self.lock().ledger.clone()
    }

    pub(crate) fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends what is to end by now, in the order of time.
    pub(crate) fn settle(&self, now: Timestamp) {
        let mut state = self.lock();
        while let Some((at, id)) = state.open.iter().map(|(id, open)| (open.end.at(), *id)).min()
            && at <= now
        {
            let Some(transaction) = state.open.remove(&id) else { return };
            if let End::Commits(_, work) = transaction.end {
                let (process, note) = (transaction.process, transaction.note);
                self.carry_out(&mut state, at, process, Some(note), work);
            }
        }
        self.clock.store(now.timestamp_millis(), Ordering::Relaxed);
    }

    /// A transaction's first statements arrive.
    pub(crate) fn begin(&self, now: Timestamp, process: u64, locks: Locks, note: (Place, u64)) -> Begun {
        self.settle(now);
        let mut state = self.lock();
        if !state.is_up {
            return Begun::Down;
        }
        let mut locks: BTreeSet<Lock> = match locks {
            Locks::These(locks) => locks.into_iter().collect(),
            Locks::Leaving(worker) => {
                let held = settled(state.ledger.held(worker)).unwrap_or_default();
                held.iter().map(|lease| Lock::Tenant(lease.tenant)).chain([Lock::Worker(worker)]).collect()
            }
        };
        locks.insert(Lock::Place(note.0));
        if state.open.values().any(|open| !open.locks.is_disjoint(&locks)) {
            return Begun::Locked;
        }
        state.begun += 1;
        let id = state.begun;
        let end = End::Waits(now + SILENCE_MAX);
        state.open.insert(id, Transaction { process, locks, note, end });
        Begun::As(id)
    }

    /// The `COMMIT` has been sent, and arrives at `at` if the transaction is there by then.
    pub(crate) fn commit_at(&self, id: u64, at: Timestamp, work: Work) {
        if let Some(open) = self.lock().open.get_mut(&id) {
            open.end = End::Commits(at, work);
        }
    }

    /// The connection is lost, which the server notices at `at`.
    pub(crate) fn abandoned(&self, id: u64, at: Timestamp) {
        if let Some(open) = self.lock().open.get_mut(&id)
            && matches!(open.end, End::Waits(until) if at < until)
        {
            open.end = End::Waits(at);
        }
    }

    /// A statement that needs no transaction of its own; `None` when the server is not there.
    pub(crate) fn read<T>(&self, now: Timestamp, work: impl FnOnce(&Executing<'_>) -> T) -> Option<T> {
        self.settle(now);
        let state = self.lock();
        if !state.is_up {
            return None;
        }
        let ledger = state.ledger.clone();
        drop(state);
        Some(work(&Executing { ledger: &ledger, now, server: self, written: Vec::new() }))
    }

    /// Whether the last write at that place is this one. `Err(true)`: its transaction has not ended; `Err(false)`: nobody
    /// is there to ask.
    pub(crate) fn has_happened(&self, now: Timestamp, note: (Place, u64)) -> Result<bool, bool> {
        self.settle(now);
        let state = self.lock();
        if !state.is_up {
            return Err(false);
        }
        if state.open.values().any(|open| open.note.0 == note.0) {
            return Err(true);
        }
        Ok(state.last_write.get(&note.0) == Some(&note.1))
    }

    /// A process listens.
    pub(crate) fn listen(&self, process: u64, troubles: &Arc<Troubles>, fate: &Arc<Fate>) -> broadcast::Receiver<Hint> {
        let (sender, heard) = broadcast::channel(WORDS);
        let (troubles, fate) = (Arc::clone(troubles), Arc::clone(fate));
        self.lock().ears.insert(process, Ear { sender, troubles, fate });
        heard
    }

    /// A process is gone; its connections are noticed to be by `at`, and of its `COMMIT`s that are on their way those
    /// arrive that `arrives` says.
    pub(crate) fn gone(&self, process: u64, at: Timestamp, mut arrives: impl FnMut() -> bool) {
        let mut state = self.lock();
        state.ears.remove(&process);
        for open in state.open.values_mut().filter(|open| open.process == process) {
            let lost = match &open.end {
                End::Waits(until) => at < *until,
                End::Commits(..) => !arrives(),
            };
            if lost {
                open.end = End::Waits(at);
            }
        }
    }

    /// The server stops, and everything that had not been committed is undone.
    pub(crate) fn stop(&self, now: Timestamp) {
        self.settle(now);
        let mut state = self.lock();
        state.open.clear();
        state.is_up = false;
    }

    /// It is there again, from its files.
    pub(crate) fn start_again(&self) -> Result<(), LedgerError> {
        let mut state = self.lock();
        state.ledger = open(&self.path, &self.clock)?;
        state.is_up = true;
        Ok(())
    }

    fn carry_out(&self, state: &mut State, at: Timestamp, process: u64, note: Option<(Place, u64)>, work: Work) {
        self.clock.store(at.timestamp_millis(), Ordering::Relaxed);
        let locked: Vec<Lock> = state.open.values().flat_map(|open| open.locks.iter().copied()).collect();
        let mut written = Vec::new();
        for lock in locked {
            match lock {
                Lock::Tenant(tenant) => written.push(tenant),
                Lock::Worker(worker) => {
                    written
                        .extend(settled(state.ledger.held(worker)).unwrap_or_default().iter().map(|held| held.tenant));
                }
                Lock::Place(_) => {}
            }
        }
        let (kept, hint) = work(&Executing { ledger: &state.ledger, now: at, server: self, written });
        if let (true, Some((place, number))) = (kept, note) {
            state.last_write.insert(place, number);
        }
        if let (true, Some(hint)) = (kept, hint) {
            for (_, ear) in state.ears.iter().filter(|(other, _)| **other != process) {
                if ear.troubles.ledger_away_until(at).is_none() && !ear.fate.chance(DEAF) {
                    // Whoever listened may be about to end.
                    let _ = ear.sender.send(hint);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl End {
    fn at(&self) -> Timestamp {
        match self {
            Self::Waits(at) | Self::Commits(at, _) => *at,
        }
    }
}

fn open(path: &Path, clock: &Arc<AtomicI64>) -> Result<SqliteLedger, LedgerError> {
    let lease_clock = Some(Arc::clone(clock));
    SqliteLedger::open(path, OpenOptions { in_place: true, lease_clock, ..OpenOptions::default() })
}
