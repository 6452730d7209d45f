//! The disk under the archive: real files in a folder of their own, and a memory of what would not survive a loss of power.
//!
//! The fault model. Bytes last from the sync of their file on; until then they may be whole, cut off, zeroes or garbage.
//! Names last from the sync of their folder on; of what was done to a folder since, a loss of power keeps a beginning of
//! any length and undoes the rest. A killed process loses nothing that the operating system has, but a later loss of power may. A write may be short; any
//! operation may fail, done or not done; a full disk takes no new file and no more bytes. A failed sync leaves it open.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use archive::disk::{Operation, Watch};

use crate::fate::Fate;
use crate::plan::Spells;
use crate::plant::Bug;

/// One run's disk.
pub(crate) struct Disk {
    root: PathBuf,
    /// What is removed or replaced lies here until nobody can want it back.
    attic: PathBuf,
    fate: Arc<Fate>,
    spells: Arc<Spells>,
    bug: Option<Bug>,
    unsynced: Mutex<Unsynced>,
}

#[derive(Default)]
struct Unsynced {
    /// Files whose bytes have not been synced.
    files: BTreeSet<PathBuf>,
    /// What was done to each folder's names since its last sync, oldest first, with the order over all folders.
    names: BTreeMap<PathBuf, Vec<(u64, Done)>>,
    next: u64,
    /// Of the bug that acknowledges before storing: syncs that are still to be done.
    put_off: Vec<PathBuf>,
}

#[derive(Debug)]
enum Done {
    Created(PathBuf),
    FolderCreated(PathBuf),
    Renamed { from: PathBuf, to: PathBuf, replaced: Option<PathBuf> },
    Removed { path: PathBuf, kept: PathBuf },
    FolderRemoved(PathBuf),
}

impl Disk {
    pub(crate) fn new(root: PathBuf, attic: PathBuf, fate: Arc<Fate>, spells: Arc<Spells>, bug: Option<Bug>) -> Self {
        Self { root, attic, fate, spells, bug, unsynced: Mutex::default() }
    }

    /// The bug that acknowledges before storing does now what it should have done before.
    pub(crate) fn store_at_last(&self) {
        let mut unsynced = self.lock();
        for path in std::mem::take(&mut unsynced.put_off) {
            unsynced.synced(&path);
        }
    }

    /// The power was gone: what was not synced is partly undone.
    pub(crate) fn lose_power(&self) {
        let unsynced = std::mem::take(&mut *self.lock());
        let mut undone: Vec<(u64, Done)> = Vec::new();
        for (_, mut done) in unsynced.names {
            let keeps = self.fate.draw(|rng| rng.usize(0..=done.len()));
            undone.extend(done.drain(keeps..));
        }
        undone.sort_by_key(|(order, _)| std::cmp::Reverse(*order));
        let mut files = unsynced.files;
        for (_, done) in undone {
            self.fate.note(&format!("lost: {}", self.show(&done)));
            undo(done, &mut files);
        }
        for path in files {
            self.tear(&path);
        }
    }

    /// The bytes of a file that were not synced.
    fn tear(&self, path: &Path) {
        let Ok(mut bytes) = fs::read(path) else { return };
        let length = bytes.len();
        let keeps = self.fate.draw(|rng| rng.usize(0..=length));
        let how = self.fate.draw(|rng| rng.u8(0..4));
        match how {
            0 => return,
            1 => bytes.truncate(keeps),
            2 => bytes.iter_mut().skip(keeps).for_each(|byte| *byte = 0),
            _ => bytes.iter_mut().skip(keeps).for_each(|byte| *byte ^= 0x5a),
        }
        self.fate.note(&format!("torn at {keeps} of {length}: {}", self.name(path)));
        let _ = fs::write(path, bytes);
    }

    fn show(&self, done: &Done) -> String {
        match done {
            Done::Created(path) => format!("making of {}", self.name(path)),
            Done::FolderCreated(path) => format!("making of folder {}", self.name(path)),
            Done::Renamed { to, .. } => format!("renaming to {}", self.name(to)),
            Done::Removed { path, .. } => format!("removal of {}", self.name(path)),
            Done::FolderRemoved(path) => format!("removal of folder {}", self.name(path)),
        }
    }

    fn name(&self, path: &Path) -> String {
        // Where the run's folder lies is the machine's affair, and so is which process this is: no part of what the seed means.
        let name = path.strip_prefix(&self.root).unwrap_or(Path::new("(above)")).display().to_string();
        name.replace(&format!(".{}.tmp", archive::disk::process()), ".tmp")
    }

    /// Whether it happens on the disk that is simulated: the archive, and the folder it is made in.
    fn is_ours(&self, operation: Operation<'_>) -> bool {
        let (Operation::CreateFolder(path)
        | Operation::CreateFile(path)
        | Operation::Write(path, _)
        | Operation::SyncFile(path)
        | Operation::SyncFolder(path)
        | Operation::Rename(_, path)
        | Operation::RemoveFile(path)
        | Operation::RemoveFolder(path)
        | Operation::Open(path)
        | Operation::List(path)) = operation;
        path.starts_with(&self.root) || self.root.parent() == Some(path)
    }

    /// Keeps what has this name, should it be wanted back.
    fn keep(&self, path: &Path) -> Option<PathBuf> {
        let order = self.lock().order();
        let kept = self.attic.join(order.to_string());
        fs::hard_link(path, &kept).ok().map(|()| kept)
    }

    fn fails(&self, operation: Operation<'_>) -> Option<io::Error> {
        let adds = matches!(
            operation,
            Operation::CreateFolder(_) | Operation::CreateFile(_) | Operation::Write(..) | Operation::SyncFile(_)
        );
        if adds && self.spells.disk_full() {
            return Some(io::Error::from(ErrorKind::StorageFull));
        }
        self.fate.chance(self.spells.disk_errors()).then(|| io::Error::other("input/output error"))
    }

    fn lock(&self) -> MutexGuard<'_, Unsynced> {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An operation as the trace shows it.
struct Described<'a>(&'a Disk, Operation<'a>);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |path| self.0.name(path);
        match self.1 {
            Operation::CreateFolder(path) => write!(f, "disk: make folder {}", name(path)),
            Operation::CreateFile(path) => write!(f, "disk: make {}", name(path)),
            Operation::Write(path, bytes) => write!(f, "disk: write {bytes} to {}", name(path)),
            Operation::SyncFile(path) => write!(f, "disk: sync {}", name(path)),
            Operation::SyncFolder(path) => write!(f, "disk: sync folder {}", name(path)),
            Operation::Rename(_, to) => write!(f, "disk: rename to {}", name(to)),
            Operation::RemoveFile(path) => write!(f, "disk: remove {}", name(path)),
            Operation::RemoveFolder(path) => write!(f, "disk: remove folder {}", name(path)),
            Operation::Open(path) => write!(f, "disk: open {}", name(path)),
            Operation::List(path) => write!(f, "disk: list {}", name(path)),
        }
    }
}

fn power_is_gone() -> io::Error {
    io::Error::other("the power is gone")
}

impl Watch for Disk {
    fn before(&self, operation: Operation<'_>) -> io::Result<usize> {
        if self.fate.is_dead() {
            return Err(power_is_gone());
        }
        if !self.is_ours(operation) {
            return Ok(0);
        }
        let reads = matches!(operation, Operation::Open(_) | Operation::List(_));
        let goes_on = reads || self.fate.step(Described(self, operation));
        if let Operation::Write(path, bytes) = operation {
            if !goes_on {
                // The last write of a process may be a part of it.
                if self.fate.draw(fastrand::Rng::bool) {
                    self.lock().files.insert(path.to_owned());
                    return Ok(self.fate.draw(|rng| rng.usize(0..bytes.max(1))).max(1));
                }
                return Err(power_is_gone());
            }
            if let Some(error) = self.fails(operation) {
                self.fate.note(&format!("fails: {error}"));
                return Err(error);
            }
            self.lock().files.insert(path.to_owned());
            // The operating system may take less than it is given.
            if self.fate.chance(0.02) {
                return Ok(self.fate.draw(|rng| rng.usize(0..bytes.max(1))).max(1));
            }
            return Ok(usize::MAX);
        }
        if !goes_on {
            return Err(power_is_gone());
        }
        if let Some(error) = self.fails(operation) {
            self.fate.note(&format!("fails: {error}"));
            return Err(error);
        }
        match operation {
            Operation::Rename(_, to) => {
                let replaced = self.keep(to);
                let mut unsynced = self.lock();
                if let Some(replaced) = replaced {
                    unsynced.files.remove(&replaced);
                    unsynced.remember(to, Done::Removed { path: to.to_owned(), kept: replaced });
                }
            }
            Operation::RemoveFile(path) => {
                if let Some(kept) = self.keep(path) {
                    self.lock().remember(path, Done::Removed { path: path.to_owned(), kept });
                }
            }
            // What it is worth is for this disk to say; the machine's own need not be asked.
            Operation::SyncFile(_) | Operation::SyncFolder(_) => return Ok(0),
            _ => {}
        }
        Ok(usize::MAX)
    }

    fn after(&self, operation: Operation<'_>) -> io::Result<()> {
        if !self.is_ours(operation) {
            return Ok(());
        }
        {
            let mut unsynced = self.lock();
            let puts_off = self.bug == Some(Bug::MarkBeforeStore);
            match operation {
                Operation::CreateFolder(path) => unsynced.remember(path, Done::FolderCreated(path.to_owned())),
                Operation::CreateFile(path) => {
                    unsynced.files.insert(path.to_owned());
                    unsynced.remember(path, Done::Created(path.to_owned()));
                }
                Operation::SyncFile(path) | Operation::SyncFolder(path) if puts_off => {
                    unsynced.put_off.push(path.to_owned());
                }
                Operation::SyncFile(path) | Operation::SyncFolder(path) => unsynced.synced(path),
                Operation::Rename(from, to) => {
                    if unsynced.files.remove(from) {
                        unsynced.files.insert(to.to_owned());
                    }
                    for path in &mut unsynced.put_off {
                        if path == from {
                            *path = to.to_owned();
                        }
                    }
                    let replaced = unsynced.take_removal(to);
                    unsynced.remember(to, Done::Renamed { from: from.to_owned(), to: to.to_owned(), replaced });
                }
                Operation::RemoveFolder(path) => unsynced.remember(path, Done::FolderRemoved(path.to_owned())),
                Operation::RemoveFile(path) => {
                    unsynced.files.remove(path);
                }
                Operation::Write(..) | Operation::Open(_) | Operation::List(_) => {}
            }
        }
        if matches!(operation, Operation::Open(_) | Operation::List(_)) {
            return Ok(());
        }
        // The crash may come right after it, too.
        if !self.fate.step("disk: done") {
            return Err(power_is_gone());
        }
        if self.fate.chance(self.spells.disk_errors() / 4.0) {
            self.fate.note("done, and fails");
            return Err(io::Error::other("input/output error"));
        }
        Ok(())
    }
}

impl Unsynced {
    fn order(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn remember(&mut self, path: &Path, done: Done) {
        let order = self.order();
        let Some(folder) = path.parent() else { return };
        self.names.entry(folder.to_owned()).or_default().push((order, done));
    }

    /// The removal just noted of what a rename replaces: the two are one.
    fn take_removal(&mut self, path: &Path) -> Option<PathBuf> {
        let done = self.names.get_mut(path.parent()?)?;
        match done.pop()? {
            (_, Done::Removed { path: removed, kept }) if removed == path => Some(kept),
            other => {
                done.push(other);
                None
            }
        }
    }

    fn synced(&mut self, path: &Path) {
        self.files.remove(path);
        self.names.remove(path);
    }
}

fn undo(done: Done, files: &mut BTreeSet<PathBuf>) {
    // What an earlier undoing has taken away need not be undone again.
    match done {
        Done::Created(path) => {
            files.remove(&path);
            let _ = fs::remove_file(path);
        }
        Done::FolderCreated(path) => drop(fs::remove_dir_all(path)),
        Done::Renamed { from, to, replaced } => {
            if fs::rename(&to, &from).is_ok() && files.remove(&to) {
                files.insert(from);
            }
            if let Some(replaced) = replaced {
                let _ = fs::hard_link(replaced, to);
            }
        }
        Done::Removed { path, kept } => drop(fs::hard_link(kept, path)),
        Done::FolderRemoved(path) => drop(fs::create_dir(path)),
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::clock::WorldClock;
    use crate::plan::SpellPlan;

    /// A disk whose operations are carried out as the archive carries them out.
    struct Bench {
        _folder: tempfile::TempDir,
        root: PathBuf,
        disk: Disk,
    }

    impl Bench {
        fn new(seed: u64) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let (root, attic) = (folder.path().join("root"), folder.path().join("attic"));
            fs::create_dir(&root).unwrap();
            fs::create_dir(&attic).unwrap();
            let clock = WorldClock::standing_at(protocol::time::Timestamp::UNIX_EPOCH + TimeDelta::days(1));
            let fate = Arc::new(Fate::new(seed, clock.clone(), 0));
            let spells = Arc::new(Spells::new(SpellPlan::default(), clock));
            Self { disk: Disk::new(root.clone(), attic, fate, spells, None), root, _folder: folder }
        }

        fn done(&self, operation: Operation<'_>, work: impl FnOnce()) {
            self.disk.before(operation).unwrap();
            work();
            self.disk.after(operation).unwrap();
        }

        /// Writes a file under a temporary name and renames it, syncing what is asked for.
        fn store(&self, sync_file: bool, sync_folder: bool) -> PathBuf {
            let (temporary, path) = (self.root.join("a.tmp"), self.root.join("a"));
            self.done(Operation::CreateFile(&temporary), || fs::write(&temporary, "").unwrap());
            self.done(Operation::Write(&temporary, 4), || fs::write(&temporary, "true").unwrap());
            if sync_file {
                self.done(Operation::SyncFile(&temporary), || {});
            }
            self.done(Operation::Rename(&temporary, &path), || fs::rename(&temporary, &path).unwrap());
            if sync_folder {
                self.done(Operation::SyncFolder(&self.root), || {});
            }
            path
        }
    }

    #[test]
    fn what_was_synced_survives_every_loss_of_power() {
        for seed in 0..50 {
            let bench = Bench::new(seed);
            let path = bench.store(true, true);
            bench.disk.lose_power();
            assert_eq!(fs::read(path).unwrap(), b"true", "seed {seed}");
        }
    }

    #[test]
    fn a_name_that_was_not_synced_is_sometimes_gone_and_its_bytes_never_wrong() {
        let there = |seed| {
            let bench = Bench::new(seed);
            let path = bench.store(true, false);
            bench.disk.lose_power();
            fs::read(path).ok().inspect(|bytes| assert_eq!(bytes, b"true", "seed {seed}")).is_some()
        };
        let there = (0..50).filter(|seed| there(*seed)).count();
        assert!((1..50).contains(&there), "{there} of 50");
    }

    #[test]
    fn bytes_that_were_not_synced_are_sometimes_torn() {
        let torn = |seed| {
            let bench = Bench::new(seed);
            let path = bench.store(false, true);
            bench.disk.lose_power();
            fs::read(path).unwrap() != b"true"
        };
        let torn = (0..50).filter(|seed| torn(*seed)).count();
        assert!((1..50).contains(&torn), "{torn} of 50");
    }

    #[test]
    fn a_removal_that_was_not_synced_is_sometimes_undone() {
        let back = |seed| {
            let bench = Bench::new(seed);
            let path = bench.store(true, true);
            bench.done(Operation::RemoveFile(&path), || fs::remove_file(&path).unwrap());
            bench.disk.lose_power();
            path.exists()
        };
        let back = (0..50).filter(|seed| back(*seed)).count();
        assert!((1..50).contains(&back), "{back} of 50");
    }
}
