//! The embedded ledger: the suite every ledger passes, and what only a file can get wrong.

mod bounds;
mod conformance;
mod files;
pub(super) mod plans;
mod power;
mod simulated;
mod threads;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{OpenOptions, SqliteLedger};
use crate::conformance::{Fixture, block_on};
use crate::{Ledger, Workers};

/// A ledger in a folder of its own, which goes with it.
pub(super) struct Folder {
    folder: tempfile::TempDir,
    in_place: bool,
}

impl Folder {
    pub(super) fn new() -> Self {
        // In memory where that is at hand: SQLite syncs all the same, and a sync costs nothing there.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        Self { folder: folder.unwrap(), in_place: false }
    }

    pub(super) fn in_place() -> Self {
        Self { in_place: true, ..Self::new() }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("data").join("ledger.db")
    }

    pub(super) fn options(&self) -> OpenOptions {
        OpenOptions { in_place: self.in_place, busy_timeout: Duration::from_secs(20), ..OpenOptions::default() }
    }

    pub(super) fn ledger(&self) -> SqliteLedger {
        SqliteLedger::open(self.path(), self.options()).unwrap()
    }
}

impl Fixture for Folder {
    fn open_for_workers(&self) -> Arc<dyn Workers> {
        Arc::new(self.ledger())
    }

    fn open_read_only(&self) -> Arc<dyn Ledger> {
        Arc::new(SqliteLedger::open(self.path(), OpenOptions { read_only: true, ..self.options() }).unwrap())
    }

    fn check(&self) -> Vec<String> {
        block_on(self.ledger().check()).unwrap()
    }
}
