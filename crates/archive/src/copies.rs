//! Which copies of a remote archive's files lie in its local folder, in how many bytes, and which of them go first.
//!
//! Never removes anything but copies, and walks through the folder only when there is too much in it.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::{ArchiveError, files};

/// See the file's head.
pub(crate) struct Copies {
    root: PathBuf,
    limit_bytes: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// As of the last walk, and what came since. `None` before the first.
    bytes: Option<u64>,
    /// When each was last used by this process; by a hash of its path, of which there may be many. That two share one costs
    /// a fetch at worst.
    uses: HashMap<u64, u64>,
    clock: u64,
}

struct Found {
    /// Last use by this process, 0 for never; then the file's own time, which is when it was fetched or written.
    order: (u64, SystemTime),
    bytes: u64,
    path: PathBuf,
}

impl Copies {
    pub(crate) fn new(root: PathBuf, limit_bytes: u64) -> Self {
        Self { root, limit_bytes, state: Mutex::default() }
    }

    /// Notes a use, unless somebody is just making room.
    pub(crate) fn used(&self, path: &Path) {
        if let Ok(mut state) = self.state.try_lock() {
            state.note(path);
        }
    }

    /// Notes that a copy has gone, or may have.
    pub(crate) fn gone(&self, path: &Path) {
        self.lock().uses.remove(&key(path));
    }

    /// Notes a copy that has come, and lets go of others when there are too many.
    pub(crate) fn kept(&self, path: &Path, bytes: u64) {
        let state = &mut *self.lock();
        state.note(path);
        let known = state.bytes.map(|held| held + bytes);
        if known.is_some_and(|held| held <= self.limit_bytes) {
            state.bytes = known;
            return;
        }
        match self.make_room(state, path) {
            Ok(held) => state.bytes = Some(held),
            // The next that comes tries again.
            Err(error) => {
                tracing::warn!(%error, "copies of the archive cannot be counted");
                state.bytes = None;
            }
        }
    }

    /// Walks through the folder and, if there is too much, removes the least recently used down to nine tenths of what is
    /// allowed, but never `latest`. Returns how much stays.
    fn make_room(&self, state: &mut State, latest: &Path) -> Result<u64, ArchiveError> {
        let mut found = Vec::new();
        for folder in ["", "_dedup", "_sums"] {
            walk(&self.root.join(folder), &state.uses, &mut found)?;
        }
        let mut held: u64 = found.iter().map(|copy| copy.bytes).sum();
        if held > self.limit_bytes {
            found.sort_unstable_by_key(|copy| copy.order);
            let enough = self.limit_bytes - self.limit_bytes / 10;
            for copy in found.iter().filter(|copy| copy.path != latest) {
                if held <= enough {
                    break;
                }
                // One that cannot go must not keep all others.
                if let Err(error) = files::remove_file(&copy.path) {
                    tracing::warn!(%error, "a copy of a file of the archive stays: it cannot be removed");
                    continue;
                }
                copy.path.parent().map(files::remove_empty_folder);
                state.uses.remove(&key(&copy.path));
                held = held.saturating_sub(copy.bytes);
            }
        }
        Ok(held)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere while it was locked leaves at worst bytes that are counted wrongly until the next walk.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn note(&mut self, path: &Path) {
        self.clock += 1;
        self.uses.insert(key(path), self.clock);
    }
}

fn key(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

/// Finds the copies below `{folder}/tenant=…/date=…`.
fn walk(folder: &Path, uses: &HashMap<u64, u64>, found: &mut Vec<Found>) -> Result<(), ArchiveError> {
    for tenant in files::names_in(folder)?.iter().filter(|name| name.starts_with("tenant=")) {
        let tenant = folder.join(tenant);
        for date in files::names_in(&tenant)?.iter().filter(|name| name.starts_with("date=")) {
            let date = tenant.join(date);
            for name in files::names_in(&date)?.iter().filter(|name| !name.ends_with(".tmp")) {
                let path = date.join(name);
                // One that has just gone takes no room.
                let Ok(file) = std::fs::metadata(&path) else { continue };
                let used = uses.get(&key(&path)).copied().unwrap_or(0);
                let order = (used, file.modified().unwrap_or(SystemTime::UNIX_EPOCH));
                found.push(Found { order, bytes: file.len(), path });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(root: &Path, name: &str) -> PathBuf {
        let folder = root.join("tenant=a/date=2026-03-04");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(name);
        std::fs::write(&path, [0; 100]).unwrap();
        path
    }

    #[test]
    fn the_least_recently_used_goes_first_and_never_what_has_just_come() {
        let root = tempfile::tempdir().unwrap();
        let copies = Copies::new(root.path().to_owned(), 300);
        let [one, two, three] = ["1", "2", "3"].map(|name| copy(root.path(), name));
        [&one, &two, &three].iter().for_each(|path| copies.kept(path, 100));
        assert!(one.exists() && two.exists() && three.exists(), "300 bytes are allowed");
        copies.used(&one);
        let four = copy(root.path(), "4");
        copies.kept(&four, 100);
        assert!(one.exists() && !two.exists() && !three.exists() && four.exists(), "270 bytes are kept at most");
        let none = Copies::new(root.path().to_owned(), 0);
        none.kept(&four, 100);
        assert!(!one.exists() && four.exists());
    }

    #[test]
    fn what_is_being_written_and_what_earlier_processes_left_are_told_apart() {
        let root = tempfile::tempdir().unwrap();
        let (left, written) = (copy(root.path(), "1-0.0123.parquet"), copy(root.path(), ".2-0.parquet.tmp"));
        let copies = Copies::new(root.path().to_owned(), 150);
        let fetched = copy(root.path(), "3-0.4567.parquet");
        copies.kept(&fetched, 100);
        assert!(!left.exists() && written.exists() && fetched.exists());
    }
}
