//! The claim of a collector on its database: an advisory lock of a session that does nothing else but hear what other
//! processes say. Workers that share the tenants out among themselves have it together; who needs the database for itself has
//! it alone.
//!
//! Never believes that a claim outlives its connection. When that is lost, the handle writes nothing until the claim is
//! had again; and if another collector has it by then, nothing any more.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Error};

use super::connect::Connector;
use super::fault::Fault;
use super::hints;
use super::schema::LOCKS;
use super::worker::{Engine, Worker};
use crate::LedgerError;
use crate::error::Place;

/// Between two tries to have the claim again.
const AGAIN: Duration = Duration::from_millis(250);
/// How often in a row a claim that nobody has is tried for: others that come and go at the same moment have it at most once
/// each.
const TRIES: u32 = 20;
/// How long a write waits for a claim that is being had again, before it is told that the server cannot be reached.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a handle stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// It claims nothing, and may write what does not need a claim.
    Unclaimed,
    /// It is the collector's.
    Held,
    /// It was, and its connection is gone.
    Lost,
    /// Another collector's is, this one says; for good, unless it was held in company.
    Ousted(String),
}

/// Who else may be at work on the database meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Company {
    /// Nobody.
    Alone,
    /// Others who claim it like this.
    Workers,
}

/// Proof of who is at work on a database. Dropping it ends that.
#[derive(Debug)]
pub struct Claim {
    release: Option<oneshot::Sender<()>>,
    ended: std::sync::mpsc::Receiver<()>,
}

/// Why the claim could not be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClaimError {
    /// Somebody else has it.
    #[error(
        "another collector ({holder}) is at work on the ledger {place}: stop it first, or give this one its own database"
    )]
    Taken {
        /// Who, as far as the server says.
        holder: String,
        /// Which.
        place: Place,
    },
    /// The database did not answer as it should.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Lets a write in, or says why not.
pub(super) async fn admitted(standing: &watch::Receiver<Standing>, place: &Place) -> Result<(), LedgerError> {
    let ousted = |holder: &str| LedgerError::Ousted { place: place.clone(), holder: holder.to_owned() };
    match &*standing.borrow() {
        Standing::Unclaimed | Standing::Held => return Ok(()),
        Standing::Ousted(holder) => return Err(ousted(holder)),
        Standing::Lost => {}
    }
    let mut standing = standing.clone();
    let settled = standing.wait_for(|standing| *standing != Standing::Lost);
    match tokio::time::timeout(PATIENCE, settled).await.ok().and_then(Result::ok).as_deref() {
        Some(Standing::Ousted(holder)) => Err(ousted(holder)),
        Some(_) => Ok(()),
        None => {
            let source = Arc::new(std::io::Error::other("the connection that held the collector's claim is gone"));
            Err(LedgerError::Unreachable { place: place.clone(), source })
        }
    }
}

/// A session with the lock, or who has it.
enum Attempt {
    Had(Client, JoinHandle<()>),
    /// A session of this claimant, which the server has not given up yet.
    Ours(i32),
    Taken(String),
    /// Whoever had it has gone since.
    Free,
}

impl Worker {
    /// Claims the database for this process's collector.
    pub(super) async fn claim(&self, company: Company) -> Result<Claim, ClaimError> {
        let answer = self.on_thread(async move |engine| {
            let claimant = Claimant::new(&engine, company);
            for _ in 0..TRIES {
                let attempt = attempt(&claimant).await.map_err(|error| Fault::Sql(error).at(&engine.place))?;
                match attempt {
                    Attempt::Had(client, task) => return Ok(Ok(keep(&engine, claimant, client, task))),
                    Attempt::Taken(holder) => {
                        return Ok(Err(ClaimError::Taken { holder, place: engine.place.clone() }));
                    }
                    Attempt::Ours(_) | Attempt::Free => {}
                }
            }
            Ok(Err(ClaimError::Taken { holder: "one that comes and goes".to_owned(), place: engine.place.clone() }))
        });
        answer.await?
    }
}

/// Who wants it, and how.
struct Claimant {
    connector: Connector,
    name: String,
    company: Company,
    ear: hints::Ear,
}

impl Claimant {
    fn new(engine: &Engine, company: Company) -> Self {
        // The server keeps 63 bytes of a name: the word that tells one claimant from another must be among them.
        let (one_of_many, _) = uuid::Uuid::new_v4().as_u64_pair();
        let name = format!("tenantry collector, process {}, {one_of_many:016x}", std::process::id());
        Self { connector: engine.connector.clone(), name, company, ear: engine.ear.clone() }
    }
}

/// Tries to have the lock on a connection of its own, named so that others can say who has it.
async fn attempt(claimant: &Claimant) -> Result<Attempt, Error> {
    let Claimant { connector, name, company, ear } = claimant;
    let mut ear = ear.clone();
    let (client, task) = connector.open_hearing(move |words| ear.hear(words)).await?;
    client.execute("SELECT set_config('application_name', $1, false)", &[name]).await?;
    // The server ends no session that waits for nothing, and this one waits for nothing.
    let lock = match company {
        Company::Alone => "SELECT pg_try_advisory_lock($1, hashtext(current_schema()))",
        Company::Workers => "SELECT pg_try_advisory_lock_shared($1, hashtext(current_schema()))",
    };
    if client.query_one(lock, &[&LOCKS]).await?.try_get(0)? {
        hints::listen(&client).await?;
        return Ok(Attempt::Had(client, task));
    }
    let holders = client
        .query(
            "SELECT coalesce(a.application_name, 'somebody'), coalesce(host(a.client_addr), 'the same machine'),
                    coalesce(to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), 'an hour this user may not see'),
                    a.pid
             FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
             WHERE l.locktype = 'advisory' AND l.granted AND l.classid = $1::int::oid AND l.objsubid = 2
             AND l.objid = hashtext(current_schema())::oid
             AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
             AND ($2 OR l.mode = 'ExclusiveLock')
             ORDER BY a.backend_start, a.pid",
            // Who has it as we want it is not in our way.
            &[&LOCKS, &(*company == Company::Alone)],
        )
        .await?;
    task.abort();
    let mut others = Vec::new();
    for row in holders {
        let (application, address, since, pid): (String, String, String, i32) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        if application == *name {
            return Ok(Attempt::Ours(pid));
        }
        // Without the word that tells one claim from another.
        let application = application.rsplit_once(", ").map_or(application.as_str(), |(shown, _)| shown);
        others.push(format!("{application} at {address}, since {since}"));
    }
    let more = others.len().saturating_sub(1);
    Ok(match others.into_iter().next() {
        None => Attempt::Free,
        Some(holder) if more > 0 => Attempt::Taken(format!("{holder}, and {more} more")),
        Some(holder) => Attempt::Taken(holder),
    })
}

fn keep(engine: &Engine, claimant: Claimant, client: Client, task: JoinHandle<()>) -> Claim {
    let (release, released) = oneshot::channel();
    let (end, ended) = std::sync::mpsc::channel();
    let stand = engine.stand.clone();
    stand.send_replace(Standing::Held);
    let closing = engine.closing.clone();
    tokio::spawn(async move {
        hold(&claimant, (client, task), released, closing, &stand).await;
        drop(end);
    });
    Claim { release: Some(release), ended }
}

/// Until the claim is released: watches its connection, and has it again when it is lost.
async fn hold(
    claimant: &Claimant,
    first: (Client, JoinHandle<()>),
    mut released: oneshot::Receiver<()>,
    mut closing: watch::Receiver<bool>,
    stand: &watch::Sender<Standing>,
) {
    let mut session = Some(first);
    loop {
        let Some((client, task)) = &mut session else {
            match attempt(claimant).await {
                Ok(Attempt::Had(client, task)) => {
                    stand.send_replace(Standing::Held);
                    session = Some((client, task));
                    continue;
                }
                Ok(Attempt::Ours(pid)) => end_session(&claimant.connector, pid).await,
                // Of the tenants that others took meanwhile, this process has no lease any more: it may come back.
                Ok(Attempt::Taken(holder)) if claimant.company == Company::Workers => {
                    stand.send_replace(Standing::Ousted(holder));
                }
                Ok(Attempt::Taken(holder)) => {
                    stand.send_replace(Standing::Ousted(holder));
                    return;
                }
                Ok(Attempt::Free) => continue,
                Err(_) => {}
            }
            tokio::select! {
                _ = &mut released => break,
                () = closed(&mut closing) => break,
                () = tokio::time::sleep(AGAIN) => {}
            }
            continue;
        };
        tokio::select! {
            biased;
            _ = task => {
                stand.send_replace(Standing::Lost);
                session = None;
            }
            _ = &mut released => {
                // Unlocked in so many words, so that a successor need not wait for the server to notice our end.
                let _ = client.batch_execute("SELECT pg_advisory_unlock_all()").await;
                break;
            }
            () = closed(&mut closing) => break,
        }
    }
    stand.send_replace(Standing::Unclaimed);
}

/// Until the handle is being closed.
async fn closed(closing: &mut watch::Receiver<bool>) {
    let _ = closing.wait_for(|closing| *closing).await;
}

async fn end_session(connector: &Connector, pid: i32) {
    if let Ok((client, task)) = connector.open().await {
        let _ = client.execute("SELECT pg_terminate_backend($1)", &[&pid]).await;
        task.abort();
    }
}

impl Drop for Claim {
    /// Waits a moment until the server has it.
    fn drop(&mut self) {
        if let Some(release) = self.release.take() {
            let _ = release.send(());
            let _ = self.ended.recv_timeout(Duration::from_secs(2));
        }
    }
}
