//! One process's way to the folder that all of them keep the archive in.
//!
//! Whoever is cut off from it can do nothing there, a process that is killed leaves its last write half done, and what is
//! done stays done: the machine that serves the folder does not lose its power here.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use archive::disk::{Operation, Watch};

use super::troubles::Troubles;
use crate::fate::Fate;
use crate::plan::Spells;

/// The watch over one process.
pub(crate) struct Folder {
    pub(crate) root: PathBuf,
    pub(crate) fate: Arc<Fate>,
    pub(crate) spells: Arc<Spells>,
    pub(crate) troubles: Arc<Troubles>,
}

struct Described<'a>(&'a Path, Operation<'a>);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, path) = match self.1 {
            Operation::CreateFolder(path) => ("make folder", path),
            Operation::CreateFile(path) => ("make", path),
            Operation::Write(path, _) => ("write to", path),
            Operation::SyncFile(path) => ("sync", path),
            Operation::SyncFolder(path) => ("sync folder", path),
            Operation::Rename(_, path) => ("rename to", path),
            Operation::RemoveFile(path) => ("remove", path),
            Operation::RemoveFolder(path) => ("remove folder", path),
            Operation::Open(path) => ("open", path),
            Operation::List(path) => ("list", path),
        };
        // Where the run's folder lies is the machine's affair, and so is the number of this process in a temporary name.
        let name = path.strip_prefix(self.0).unwrap_or(Path::new("(above)")).display().to_string();
        let number = format!(".{}.tmp", archive::disk::process());
        write!(f, "archive: {verb} {}", name.replace(&number, ".tmp"))
    }
}

fn gone() -> io::Error {
    io::Error::other("the process is gone")
}

impl Watch for Folder {
    fn before(&self, operation: Operation<'_>) -> io::Result<usize> {
        if self.fate.is_dead() {
            return Err(gone());
        }
        if self.troubles.archive_is_away() {
            return Err(io::Error::new(ErrorKind::TimedOut, "the archive's folder does not answer"));
        }
        let adds = matches!(
            operation,
            Operation::CreateFolder(_) | Operation::CreateFile(_) | Operation::Write(..) | Operation::SyncFile(_)
        );
        let reads = matches!(operation, Operation::Open(_) | Operation::List(_));
        let goes_on = reads || self.fate.step(Described(&self.root, operation));
        let part_of = |bytes: usize| self.fate.draw(|rng| rng.usize(0..bytes.max(1))).max(1);
        match operation {
            // The last write of a process may be a part of it.
            Operation::Write(_, bytes) if !goes_on && self.fate.draw(fastrand::Rng::bool) => return Ok(part_of(bytes)),
            _ if !goes_on => return Err(gone()),
            _ => {}
        }
        if adds && self.spells.disk_full() {
            return Err(io::Error::from(ErrorKind::StorageFull));
        }
        if self.fate.chance(self.spells.disk_errors()) {
            self.fate.note("fails");
            return Err(io::Error::other("input/output error"));
        }
        match operation {
            Operation::Write(_, bytes) if self.fate.chance(0.02) => Ok(part_of(bytes)),
            // The machine's own need not be asked.
            Operation::SyncFile(_) | Operation::SyncFolder(_) => Ok(0),
            _ => Ok(usize::MAX),
        }
    }

    fn after(&self, operation: Operation<'_>) -> io::Result<()> {
        if matches!(operation, Operation::Open(_) | Operation::List(_)) {
            return Ok(());
        }
        // The process may end right after it, too.
        if !self.fate.step("archive: done") {
            return Err(gone());
        }
        if self.fate.chance(self.spells.disk_errors() / 4.0) {
            self.fate.note("done, and fails");
            return Err(io::Error::other("input/output error"));
        }
        Ok(())
    }
}
