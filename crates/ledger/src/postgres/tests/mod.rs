//! The shared ledger: the suite every ledger passes, and what only a server can get wrong. The server is the real one.

mod claim;
mod conformance;
mod connection;
mod many;
pub(super) mod plans;
mod schema;

use std::sync::Arc;

use super::{PgAddress, PgLedger, PgOptions};
use crate::Ledger;
use crate::conformance::server::PgServer;
use crate::conformance::{Fixture, block_on};

/// What every test begins with: a ledger's tables, ready to be copied.
const TEMPLATE: &str = "template_ledger";

impl PgServer {
    /// An empty ledger that nobody else has.
    pub(crate) fn ledger(&self) -> String {
        self.copy(TEMPLATE, || drop(PgLedger::open(self.options(TEMPLATE)).unwrap()))
    }

    /// How to open a ledger in a database.
    pub(crate) fn options(&self, database: &str) -> PgOptions {
        let (address, _) = PgAddress::parse(&self.url(database)).unwrap();
        PgOptions { connections: 4, ..PgOptions::at(address) }
    }
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

    pub(super) fn options(&self) -> PgOptions {
        self.server.options(&self.name)
    }

    pub(super) fn ledger(&self) -> PgLedger {
        PgLedger::open(self.options()).unwrap()
    }
}

impl Fixture for Database<'_> {
    fn open(&self) -> Arc<dyn Ledger> {
        Arc::new(self.ledger())
    }

    fn open_read_only(&self) -> Arc<dyn Ledger> {
        Arc::new(PgLedger::open(PgOptions { read_only: true, ..self.options() }).unwrap())
    }

    fn check(&self) -> Vec<String> {
        block_on(self.ledger().check()).unwrap()
    }
}
