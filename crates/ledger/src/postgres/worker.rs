//! The thread that serves a handle: it owns the connections and carries out the calls, many at once, each in a transaction
//! of its own on a connection of its own.
//!
//! Never answers a call before it knows what became of it. What was in another's way is done again here; what lost its
//! connection before its `COMMIT` was sent is done again too, a few times; and of a `COMMIT` whose answer never came the
//! server is asked until it tells whether the transaction happened.
//!
//! A call that has been queued is carried out even if its caller stops waiting: it happens whole, or not at all, and
//! before the last handle's drop returns.

use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use futures_util::future::{LocalBoxFuture, join3};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{mpsc, oneshot, watch};

use super::claim::Standing;
use super::connect::Connector;
use super::fault::{Done, Fault};
use super::hints::Ear;
use super::last_write::{self, Places, Write};
use super::session::Session;
use super::{PgOptions, schema};
use crate::LedgerError;
use crate::error::Place;

/// Calls that wait in the queue. Smaller: callers block each other while the server is quick. Larger: more memory, as a
/// call may hold one page of a listing.
const QUEUE: usize = 256;
/// Calls under way. Most of them wait for one of the few connections.
const UNDER_WAY: usize = 256;
/// How often a call is made again that was in another's way. Each time it waits a little longer.
const CONFLICTS_MAX: u32 = 10;
/// How often a call is made again that lost its connection. A restart of the server takes longer than these: then the
/// caller hears of it, and waits as it does for a locked file.
const LOSSES_MAX: u32 = 3;

/// What a call may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Changes things: each statement sees what was committed before it, and the rows it goes by are locked first.
    Write,
    /// Reads, all statements in one snapshot.
    Read,
    /// The same, for as long as it takes.
    LongRead,
}

type Job = Box<dyn FnOnce(Rc<Engine>) -> LocalBoxFuture<'static, ()> + Send>;

/// The thread.
pub(super) struct Worker {
    place: Place,
    /// Taken when the worker is dropped.
    queue: Option<mpsc::Sender<Job>>,
    closing: watch::Sender<bool>,
    ear: Ear,
    thread: Option<JoinHandle<()>>,
}

/// What the calls on the thread share.
pub(crate) struct Engine {
    pub(crate) place: Place,
    pub(super) connector: Connector,
    pub(super) standing: watch::Receiver<Standing>,
    pub(super) stand: watch::Sender<Standing>,
    pub(super) closing: watch::Receiver<bool>,
    /// Where what other processes say goes.
    pub(super) ear: Ear,
    places: Places,
    pool: Pool,
}

impl Worker {
    /// Starts the thread, connects, and brings the database up to date unless it is only to be read.
    pub(super) fn start(options: PgOptions) -> Result<Self, LedgerError> {
        let place = Place::Database(options.address.shown());
        let read_only = options.read_only;
        let connector = Connector::new(options, &place)?;
        let pool = connector.pool(&place)?;
        let (queue, jobs) = mpsc::channel(QUEUE);
        let (closing, is_closing) = watch::channel(false);
        let (opened, answer) = std::sync::mpsc::channel();
        let at = place.clone();
        let ear = Ear::new();
        let engine_ear = ear.clone();
        let serve = move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _ = opened.send(Err(LedgerError::CannotOpen { place: at, source: Arc::new(error) }));
                    return;
                }
            };
            let (stand, standing) = watch::channel(Standing::Unclaimed);
            let engine = Rc::new(Engine {
                place: at,
                connector,
                standing,
                stand,
                closing: is_closing,
                ear: engine_ear,
                places: Places::new(),
                pool,
            });
            runtime.block_on(async {
                let ready = engine.prepare(read_only).await.map_err(|fault| fault.at(&engine.place));
                let failed = ready.is_err();
                // Whoever opened it waits for this.
                let _ = opened.send(ready);
                if !failed {
                    serve(&engine, jobs).await;
                }
                engine.pool.close();
            });
        };
        let cannot = |error: std::io::Error| LedgerError::CannotOpen { place: place.clone(), source: Arc::new(error) };
        let thread = std::thread::Builder::new().name("ledger-postgres".to_owned()).spawn(serve).map_err(cannot)?;
        answer.recv().unwrap_or_else(|_| Err(LedgerError::ThreadGone { place: place.clone() }))?;
        Ok(Self { place, queue: Some(queue), closing, ear, thread: Some(thread) })
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Where what other processes say is heard, as long as this handle claims the database.
    pub(super) fn ear(&self) -> &Ear {
        &self.ear
    }

    /// Carries out one call. `work` may be run more than once; only its last result counts, as only its last effect does.
    pub(super) async fn call<T, W>(&self, kind: Kind, work: W) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        W: for<'s> AsyncFn(&'s Session<'s>) -> Done<T> + Send + 'static,
    {
        self.on_thread(async move |engine: Rc<Engine>| engine.carry_out(kind, &work).await).await
    }

    /// Runs something on the thread.
    pub(super) async fn on_thread<T, W>(&self, work: W) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        W: AsyncFnOnce(Rc<Engine>) -> Result<T, LedgerError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |engine| {
            Box::pin(async move {
                // The caller may have stopped waiting.
                let _ = reply.send(work(engine).await);
            })
        });
        let gone = || LedgerError::ThreadGone { place: self.place.clone() };
        self.queue.as_ref().ok_or_else(gone)?.send(job).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Drop for Worker {
    /// Waits for what is queued: each call ends by itself, as every statement and every attempt to connect has its limit.
    fn drop(&mut self) {
        drop(self.queue.take());
        self.closing.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has told its callers already: their answers were dropped.
            let _ = thread.join();
        }
    }
}

async fn serve(engine: &Rc<Engine>, mut jobs: mpsc::Receiver<Job>) {
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(()) = under_way.next(), if !under_way.is_empty() => {}
            job = jobs.recv(), if under_way.len() < UNDER_WAY => match job {
                Some(job) => under_way.push(job(engine.clone())),
                None => break,
            },
        }
    }
    while under_way.next().await.is_some() {}
}

/// How far an attempt came.
enum Broken<T> {
    /// Nothing of it stays.
    Undone(Fault),
    /// The connection was lost after `COMMIT` was sent for this write; if it happened, the value is its result.
    Unknown { write: Write, value: T, fault: Fault },
}

impl Engine {
    /// Checks what the database is, and makes it what it must be.
    async fn prepare(&self, read_only: bool) -> Done<()> {
        let client = self.pool.get().await?;
        let session = Session::new(&client);
        schema::prepare(&session, &self.place, read_only).await?;
        if read_only { Ok(()) } else { last_write::sweep(&session).await }
    }

    /// A connection beside the pool, and the task that serves it.
    pub(crate) async fn connect(&self) -> Result<(tokio_postgres::Client, tokio::task::JoinHandle<()>), LedgerError> {
        self.connector.open().await.map_err(|error| Fault::Sql(error).at(&self.place))
    }

    async fn carry_out<T>(
        &self,
        kind: Kind,
        work: &impl for<'s> AsyncFn(&'s Session<'s>) -> Done<T>,
    ) -> Result<T, LedgerError> {
        let (mut conflicts, mut losses) = (0, 0);
        loop {
            if kind == Kind::Write {
                super::claim::admitted(&self.standing, &self.place).await?;
            }
            let fault = match self.attempt(kind, work).await {
                Ok(value) => return Ok(value),
                Err(Broken::Undone(fault)) => fault,
                Err(Broken::Unknown { write, value, fault }) => {
                    let has_happened = self.has_happened(write).await?;
                    self.places.end(write);
                    if has_happened {
                        return Ok(value);
                    }
                    fault
                }
            };
            let wait = if fault.is_conflict() && conflicts < CONFLICTS_MAX {
                conflicts += 1;
                // Two that met once must not meet again: connections differ in how long they take, and so do these.
                Duration::from_millis(u64::from(conflicts * conflicts) * 2)
            } else if (fault.is_lost() || fault.is_stale()) && losses < LOSSES_MAX && !*self.closing.borrow() {
                losses += 1;
                Duration::from_millis(u64::from(losses - 1) * 100)
            } else {
                return Err(fault.at(&self.place));
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// One transaction.
    async fn attempt<T>(
        &self,
        kind: Kind,
        work: &impl for<'s> AsyncFn(&'s Session<'s>) -> Done<T>,
    ) -> Result<T, Broken<T>> {
        let client = self.pool.get().await.map_err(|error| Broken::Undone(error.into()))?;
        let session = Session::new(&client);
        let (begin, write) = match kind {
            // The row locks do what a stricter isolation would, without failing: see `tenants::lock`.
            Kind::Write => ("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", Some(self.places.begin())),
            Kind::Read => ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", None),
            Kind::LongRead => (
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0",
                None,
            ),
        };
        // All three are sent before any is answered, in this order: what begins a transaction and notes it costs no round
        // trip.
        let (begun, noted, value) = join3(
            session.batch(begin),
            async { if let Some(write) = write { write.note(&session).await } else { Ok(()) } },
            work(&session),
        )
        .await;
        let value = match begun.and(noted).and(value) {
            Ok(value) if !session.is_spoilt() => value,
            Ok(_) => {
                self.undo(client, write).await;
                return Err(Broken::Undone(Fault::Value("a statement failed and its call did not notice".to_owned())));
            }
            Err(fault) if fault.is_stale() => {
                drop(Object::take(client));
                return Err(Broken::Undone(fault));
            }
            Err(fault) => {
                self.undo(client, write).await;
                return Err(Broken::Undone(fault));
            }
        };
        match (client.batch_execute("COMMIT").await, write) {
            (Ok(()), write) => {
                if let Some(write) = write {
                    self.places.end(write);
                }
                Ok(value)
            }
            // Nothing hangs on a read's end.
            (Err(_), None) => {
                drop(Object::take(client));
                Ok(value)
            }
            (Err(error), Some(write)) => {
                drop(Object::take(client));
                let fault = Fault::Sql(error);
                if fault.is_lost() {
                    return Err(Broken::Unknown { write, value, fault });
                }
                // The server said no, and has ended the transaction with that.
                self.places.end(write);
                Err(Broken::Undone(fault))
            }
        }
    }

    /// Gives a connection back whose transaction is not to be kept; one that cannot even do that is thrown away.
    async fn undo(&self, client: Object, write: Option<Write>) {
        if client.batch_execute("ROLLBACK").await.is_err() {
            drop(Object::take(client));
        } else if let Some(write) = write {
            self.places.end(write);
        }
    }

    /// Whether a write happened whose `COMMIT` was never answered. Asks until the server tells, as long as this handle is
    /// open: a call must not be said to have left nothing behind if it has.
    async fn has_happened(&self, write: Write) -> Result<bool, LedgerError> {
        let mut wait = Duration::from_millis(50);
        loop {
            let asked = async {
                let client = self.pool.get().await?;
                write.has_happened(&Session::new(&client)).await
            };
            match asked.await {
                Ok(has_happened) => return Ok(has_happened),
                // The server is not there, or has not noticed yet that the connection is gone.
                Err(fault) if (fault.is_lost() || fault.is_stale() || fault.is_late()) && !*self.closing.borrow() => {}
                Err(fault) => return Err(fault.at(&self.place)),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(2));
        }
    }
}
