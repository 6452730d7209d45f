//! Connections: how each is made, encrypted and set up before anybody uses it.
//!
//! Never hands out a connection whose commits could be lost: a server that answers before its log is on the disk is told
//! to wait for it.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::{Connect, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use futures_util::future::BoxFuture;
use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Error, NoTls};

use super::PgOptions;
use super::tls::Tls;
use crate::LedgerError;
use crate::error::Place;

/// How long a call waits for a free connection. Smaller: a burst is refused. Larger: the collector hears late that the
/// database is overloaded.
const WAIT: Duration = Duration::from_secs(30);
/// The greatest time a connection may take to be made, name resolution, TLS and sign-in included.
const CREATE: Duration = Duration::from_secs(15);

/// What every session is told first. Limits are the session's own, not the server's:
/// * a statement that takes longer than a minute is hung or lacks an index;
/// * whoever waits for a lock for long is told that the ledger is busy, as the embedded one does;
/// * a transaction whose client fell silent is ended, so that a worker that was stopped holds up nobody;
/// * a client whose machine is gone is noticed within half a minute, and what it held is free.
const SETTINGS: &str = "SET statement_timeout = '60s';
    SET client_min_messages = warning;
    SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

/// Makes connections, the pool's and others.
#[derive(Clone)]
pub(super) struct Connector {
    options: PgOptions,
    tls: Option<Tls>,
    /// As it was when it was last read: a file that is being replaced is read again at the next connection.
    password: Arc<Mutex<Option<SecretString>>>,
}

impl Connector {
    /// Reads the password and the certificates.
    pub(super) fn new(options: PgOptions, place: &Place) -> Result<Self, LedgerError> {
        let cannot = |source| LedgerError::CannotOpen { place: place.clone(), source };
        let password = match &options.password {
            None => None,
            Some(password) => Some(password.load().map_err(|error| cannot(Arc::new(error)))?),
        };
        let tls = if options.address.is_encrypted() {
            Some(Tls::new(options.address.root_certificate()).map_err(|error| cannot(Arc::new(error)))?)
        } else {
            None
        };
        Ok(Self { options, tls, password: Arc::new(Mutex::new(password)) })
    }

    fn config(&self) -> Config {
        let mut known = self.password.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Ok(password)) = self.options.password.as_ref().map(super::PgPassword::load) {
            *known = Some(password);
        }
        self.options.address.config(known.as_ref())
    }

    /// One connection, and the task that serves it.
    pub(super) async fn open(&self) -> Result<(Client, JoinHandle<()>), Error> {
        self.open_hearing(|_| ()).await
    }

    /// The same, and what the server says that nobody has asked for.
    pub(super) async fn open_hearing(
        &self,
        hear: impl FnMut(&str) + Send + 'static,
    ) -> Result<(Client, JoinHandle<()>), Error> {
        let config = self.config();
        let (client, task) = match &self.tls {
            Some(tls) => {
                let (client, connection) = config.connect(tls.clone()).await?;
                (client, tokio::spawn(serve(connection, hear)))
            }
            None => {
                let (client, connection) = config.connect(NoTls).await?;
                (client, tokio::spawn(serve(connection, hear)))
            }
        };
        client.batch_execute(SETTINGS).await?;
        let silence_max = self.options.silence_max.as_millis();
        // Shorter: of a stopped worker's sessions that wait for each other, the first ends the last, and none has its turn.
        let lock_wait_max = silence_max * 2 / 3;
        let limits = format!(
            "SET idle_in_transaction_session_timeout = '{silence_max}ms'; SET lock_timeout = '{lock_wait_max}ms'"
        );
        client.batch_execute(&limits).await?;
        if self.options.read_only {
            client.batch_execute("SET default_transaction_read_only = on").await?;
        }
        Ok((client, task))
    }

    /// A pool of connections, none of which is made yet.
    pub(super) fn pool(&self, place: &Place) -> Result<Pool, LedgerError> {
        let fast = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_connect(self.options.address.config(None), self.clone(), fast);
        Pool::builder(manager)
            .max_size(self.options.connections.max(1))
            .wait_timeout(Some(WAIT))
            .create_timeout(Some(CREATE))
            .recycle_timeout(Some(CREATE))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| LedgerError::CannotOpen { place: place.clone(), source: Arc::new(error) })
    }
}

/// Until the connection ends: whoever uses it hears why.
async fn serve<S, T>(mut connection: Connection<S, T>, mut hear: impl FnMut(&str))
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        if let AsyncMessage::Notification(notification) = message {
            hear(notification.payload());
        }
    }
}

impl Connect for Connector {
    fn connect(&self, _config: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        Box::pin(self.open())
    }
}
