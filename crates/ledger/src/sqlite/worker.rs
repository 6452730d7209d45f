//! The threads that own the connections: one writes, one reads, each serves its bounded queue until the last handle is gone.
//!
//! Never lets one call's failure become another's. Writes that waited while a transaction ran share the next one, because
//! the disk's sync is nearly all of what a commit costs; each is wrapped in a savepoint, and if the shared transaction
//! itself cannot be committed, each is done again in its own. Reads that waited share a snapshot, which is newer than
//! everything that was written before they were asked for, and each is answered as soon as it is done.
//!
//! A call that has been queued is carried out even if its caller stops waiting: it happens whole, or not at all.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::fault::{Done, classify};
use crate::LedgerError;

/// Calls that wait in the queue. Smaller: callers block each other while the disk is quick. Larger: more memory, as a call
/// may hold one page of a listing, and a longer wait at shutdown.
const QUEUE: usize = 256;

/// Calls that share one transaction: all that wait. Smaller: more syncs, so that a slow disk sets the pace. Larger: the
/// first of them waits longer for its answer, and other processes for the file.
const GROUP: usize = QUEUE;

/// Where calls are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// In a transaction of its own or a shared one, durable when it returns.
    Write,
    /// In a snapshot.
    Read,
}

/// One connection and what serves it.
pub(super) struct Worker {
    path: Arc<Path>,
    place: Place,
}

enum Place {
    /// A named thread; the sender is taken when the worker is dropped.
    Thread { queue: Option<mpsc::Sender<Box<dyn Job>>>, thread: Option<JoinHandle<()>> },
    /// Whoever calls: for tests that let virtual time run only while nobody waits for another thread.
    Caller { connection: Mutex<Connection>, kind: Kind },
}

impl Worker {
    /// Starts the thread.
    pub(super) fn thread(path: Arc<Path>, connection: Connection, kind: Kind) -> Result<Self, LedgerError> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let name = match kind {
            Kind::Write => "ledger-writer",
            Kind::Read => "ledger-reader",
        };
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || serve(&connection, kind, jobs))
            .map_err(|error| LedgerError::CannotOpen { place: (&*path).into(), source: Arc::new(error) })?;
        Ok(Self { path, place: Place::Thread { queue: Some(queue), thread: Some(thread) } })
    }

    /// Starts nothing.
    pub(super) fn caller(path: Arc<Path>, connection: Connection, kind: Kind) -> Self {
        Self { path, place: Place::Caller { connection: Mutex::new(connection), kind } }
    }

    /// Carries out one call. `work` may be run more than once; only its last result counts, as only its last effect does.
    pub(super) async fn call<T, W>(&self, work: W) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        W: FnMut(&Connection) -> Done<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Call { path: self.path.clone(), work, result: None, reply });
        match &self.place {
            Place::Caller { connection, kind } => {
                // A poisoned lock means that a call panicked; its transaction was never committed.
                let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
                rollback(&connection);
                run(&connection, *kind, vec![job]);
            }
            Place::Thread { queue, .. } => {
                let queue = queue.as_ref().ok_or_else(|| self.gone())?;
                queue.send(job).await.map_err(|_| self.gone())?;
            }
        }
        answer.await.map_err(|_| self.gone())?
    }

    fn gone(&self) -> LedgerError {
        LedgerError::ThreadGone { place: (&*self.path).into() }
    }
}

impl Drop for Worker {
    /// Waits for what is queued, at most [`QUEUE`] calls, so that the file is closed when the last handle is gone.
    fn drop(&mut self) {
        if let Place::Thread { queue, thread } = &mut self.place {
            drop(queue.take());
            if let Some(thread) = thread.take() {
                // A thread that panicked has told its callers already: their answers were dropped.
                let _ = thread.join();
            }
        }
    }
}

fn serve(connection: &Connection, kind: Kind, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
    while let Some(first) = jobs.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP {
            match jobs.try_recv() {
                Ok(job) => group.push(job),
                Err(_) => break,
            }
        }
        run(connection, kind, group);
    }
}

fn run(connection: &Connection, kind: Kind, mut group: Vec<Box<dyn Job>>) {
    if kind == Kind::Read && group.len() > 1 {
        return read_together(connection, group);
    }
    if kind == Kind::Write && group.len() > 1 {
        match together(connection, &mut group) {
            Together::Committed => return group.into_iter().for_each(|job| job.answer(Ok(()))),
            Together::NotBegun(error) => {
                let error = Arc::new(error);
                return group.into_iter().for_each(|job| job.answer(Err(error.clone())));
            }
            Together::RolledBack => {}
        }
    }
    for mut job in group {
        let outcome = alone(connection, kind, job.as_mut());
        job.answer(outcome.map_err(Arc::new));
    }
}

fn read_together(connection: &Connection, group: Vec<Box<dyn Job>>) {
    for mut job in group {
        // At the first, and after one that made SQLite give the snapshot up.
        let begun = if connection.is_autocommit() { connection.execute_batch("BEGIN DEFERRED") } else { Ok(()) };
        if begun.is_ok() {
            job.run(connection);
        }
        job.answer(begun.map_err(Arc::new));
    }
    // Nothing was written, so there is nothing to lose.
    rollback(connection);
}

/// What became of a shared transaction.
enum Together {
    /// Every call that succeeded is durable.
    Committed,
    /// It could not begin: each call fails for that reason.
    NotBegun(rusqlite::Error),
    /// Nothing of it remains: each call is to be tried by itself.
    RolledBack,
}

fn together(connection: &Connection, group: &mut [Box<dyn Job>]) -> Together {
    if let Err(error) = connection.execute_batch("BEGIN IMMEDIATE") {
        return Together::NotBegun(error);
    }
    for job in group {
        if within_savepoint(connection, job.as_mut()).is_err() || connection.is_autocommit() {
            // SQLite itself rolls the whole transaction back when the disk is full or fails.
            rollback(connection);
            return Together::RolledBack;
        }
    }
    match connection.execute_batch("COMMIT") {
        Ok(()) => Together::Committed,
        Err(_) => {
            rollback(connection);
            Together::RolledBack
        }
    }
}

fn within_savepoint(connection: &Connection, job: &mut dyn Job) -> rusqlite::Result<()> {
    connection.execute_batch("SAVEPOINT call")?;
    if !job.run(connection) && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK TO call")?;
    }
    if connection.is_autocommit() { Ok(()) } else { connection.execute_batch("RELEASE call") }
}

fn alone(connection: &Connection, kind: Kind, job: &mut dyn Job) -> Result<(), rusqlite::Error> {
    connection.execute_batch(match kind {
        Kind::Write => "BEGIN IMMEDIATE",
        Kind::Read => "BEGIN DEFERRED",
    })?;
    if !job.run(connection) {
        rollback(connection);
        return Ok(());
    }
    let committed = connection.execute_batch("COMMIT");
    if committed.is_err() {
        rollback(connection);
    }
    committed
}

fn rollback(connection: &Connection) {
    if !connection.is_autocommit() {
        // If even this fails, the next BEGIN says so to its caller.
        let _ = connection.execute_batch("ROLLBACK");
    }
}

/// One call in the queue.
trait Job: Send {
    /// Does the work inside a transaction and keeps the result; `false` when what it did is to be undone.
    fn run(&mut self, connection: &Connection) -> bool;
    /// Hands the result to the caller, or the error of the transaction around it.
    fn answer(self: Box<Self>, transaction: Result<(), Arc<rusqlite::Error>>);
}

struct Call<T, W> {
    path: Arc<Path>,
    work: W,
    result: Option<Result<T, LedgerError>>,
    reply: oneshot::Sender<Result<T, LedgerError>>,
}

impl<T, W> Job for Call<T, W>
where
    T: Send,
    W: FnMut(&Connection) -> Done<T> + Send,
{
    fn run(&mut self, connection: &Connection) -> bool {
        let result = (self.work)(connection).map_err(|fault| fault.at(&self.path));
        let keep = result.is_ok();
        self.result = Some(result);
        keep
    }

    fn answer(self: Box<Self>, transaction: Result<(), Arc<rusqlite::Error>>) {
        let result = match (transaction, self.result) {
            (Err(error), _) => Err(classify(&self.path, error)),
            (Ok(()), Some(result)) => result,
            (Ok(()), None) => Err(LedgerError::ThreadGone { place: (&*self.path).into() }),
        };
        // The caller may have stopped waiting.
        let _ = self.reply.send(result);
    }
}
