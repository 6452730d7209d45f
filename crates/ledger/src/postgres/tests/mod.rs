//! The shared ledger: the suite every ledger passes, and what only a server can get wrong. The server is the real one.

mod claim;
mod conformance;
mod connection;
mod last_write;
mod leases;
mod many;
pub(super) mod plans;
mod schema;

use super::{PgAddress, PgLedger, PgOptions};
use crate::conformance::server::PgServer;

impl PgServer {
    /// An empty ledger in a database that nobody else has.
    pub(crate) fn ledger(&self) -> String {
        let name = self.database();
        drop(PgLedger::open(self.options(&name)).unwrap());
        name
    }

    /// How to open a ledger in a database.
    pub(crate) fn options(&self, database: &str) -> PgOptions {
        few(&self.url(database))
    }
}

/// How to open a ledger with few connections.
fn few(url: &str) -> PgOptions {
    let (address, _) = PgAddress::parse(url).unwrap();
    PgOptions { connections: 4, ..PgOptions::at(address) }
}

/// A ledger in a database of its own.
pub(super) struct Database<'s> {
    server: &'s PgServer,
    name: String,
}

impl<'s> Database<'s> {
    pub(super) fn new(server: &'s PgServer) -> Self {
        Self { server, name: server.ledger() }
    }

    pub(super) fn ledger(&self) -> PgLedger {
        PgLedger::open(self.server.options(&self.name)).unwrap()
    }
}
