//! How a ledger in a database is opened.
//!
//! Never shows the password.

use std::time::Duration;

use super::{PgAddress, PgPassword};

/// How to open a ledger.
#[derive(Debug, Clone)]
pub struct PgOptions {
    /// Where.
    pub address: PgAddress,
    /// What proves who we are; `None` where the server does not ask.
    pub password: Option<PgPassword>,
    /// Nothing is created or changed, and every write is refused.
    pub read_only: bool,
    /// The most connections of this handle, the claim's own not counted. Fewer: calls wait for each other. More: the server,
    /// which serves each with a process, has less for others.
    pub connections: usize,
    /// After so much silence in the middle of a transaction the server ends it, and after two thirds of it a wait for a lock.
    /// Smaller: a busy machine loses transactions, and makes them again. Larger: what a stopped worker had locked is kept from
    /// others for longer.
    pub silence_max: Duration,
}

impl PgOptions {
    /// Connections of a handle that collects: more than a machine's cores write at once only waits for the same disk.
    pub const CONNECTIONS: usize = 8;
    /// Where nothing shorter is asked for.
    pub const SILENCE_MAX: Duration = Duration::from_secs(30);

    /// For this address, with no password, to be written.
    pub fn at(address: PgAddress) -> Self {
        let (connections, silence_max) = (Self::CONNECTIONS, Self::SILENCE_MAX);
        Self { address, password: None, read_only: false, connections, silence_max }
    }
}
