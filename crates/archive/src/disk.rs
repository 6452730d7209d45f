//! Every operation on the archive's files, as the operating system has it: one place through which all of them go.
//!
//! Never adds anything to `std::fs` in the program. With the feature `watched-disk`, and in this crate's own tests, a
//! [`Watch`] of the calling thread is asked before each operation and told after it, so that it can fail, tear and count
//! them. The fault model that a watch may assume is what the house rule "synced before it is named" relies on: bytes last
//! from their file's sync on, names from their folder's sync on, and nothing else does.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
#[cfg(any(test, feature = "watched-disk"))]
use std::{cell::RefCell, sync::Arc};

/// One operation on a file or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation<'a> {
    /// A folder is made.
    CreateFolder(&'a Path),
    /// A file is made, or emptied if it is there.
    CreateFile(&'a Path),
    /// So many bytes are appended to a file.
    Write(&'a Path, usize),
    /// A file's bytes are made to last.
    SyncFile(&'a Path),
    /// The names in a folder are made to last.
    SyncFolder(&'a Path),
    /// A file gets another name, in place of whatever has it.
    Rename(&'a Path, &'a Path),
    /// A file is removed.
    RemoveFile(&'a Path),
    /// A folder is removed if it is empty.
    RemoveFolder(&'a Path),
    /// A file is opened for reading.
    Open(&'a Path),
    /// A folder's names are read.
    List(&'a Path),
}

/// Is asked before, and told after, every operation of its thread.
#[cfg(any(test, feature = "watched-disk"))]
pub trait Watch: Send + Sync {
    /// Before the operation. How many bytes of a write are to be written, one at least; 0 lets a sync pass for done, since
    /// what it is worth is for the watch to say. Of no meaning for others.
    ///
    /// # Errors
    /// The operation is not carried out, and fails with this.
    fn before(&self, operation: Operation<'_>) -> io::Result<usize>;
    /// After the operation was carried out.
    ///
    /// # Errors
    /// It fails with this although it was carried out.
    fn after(&self, operation: Operation<'_>) -> io::Result<()>;
}

#[cfg(any(test, feature = "watched-disk"))]
thread_local! {
    static WATCH: RefCell<Option<Arc<dyn Watch>>> = const { RefCell::new(None) };
}

/// Sets the watch of this thread, or takes it away. Work done on other threads is not watched.
#[cfg(any(test, feature = "watched-disk"))]
pub fn watch(watch: Option<Arc<dyn Watch>>) {
    WATCH.with(|slot| *slot.borrow_mut() = watch);
}

#[cfg(not(any(test, feature = "watched-disk")))]
fn carry_out<T>(_: Operation<'_>, work: impl FnOnce(usize) -> io::Result<T>) -> io::Result<T> {
    work(usize::MAX)
}

#[cfg(any(test, feature = "watched-disk"))]
fn carry_out<T>(operation: Operation<'_>, work: impl FnOnce(usize) -> io::Result<T>) -> io::Result<T> {
    let Some(watch) = WATCH.with(|slot| slot.borrow().clone()) else { return work(usize::MAX) };
    let room = watch.before(operation)?;
    let done = work(room)?;
    watch.after(operation)?;
    Ok(done)
}

/// A file being written, from its beginning to its end.
pub(crate) struct NewFile {
    file: fs::File,
    path: PathBuf,
}

impl NewFile {
    /// Makes the file, or empties it.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let file = carry_out(Operation::CreateFile(path), |_| fs::File::create(path))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Makes its bytes last.
    pub(crate) fn sync_all(&self) -> io::Result<()> {
        carry_out(Operation::SyncFile(&self.path), |room| if room == 0 { Ok(()) } else { self.file.sync_all() })
    }
}

impl Write for NewFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let Self { file, path } = self;
        carry_out(Operation::Write(path, data.len()), |room| file.write(data.get(..room).unwrap_or(data)))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// What no other process calls itself, not even one in another container that has the same number.
#[must_use]
pub fn process() -> &'static str {
    static PROCESS: OnceLock<String> = OnceLock::new();
    PROCESS.get_or_init(crate::store::drawn)
}

pub(crate) fn open(path: &Path) -> io::Result<fs::File> {
    carry_out(Operation::Open(path), |_| fs::File::open(path))
}

/// The whole of a small file.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    carry_out(Operation::Open(path), |_| fs::read(path))
}

pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
    carry_out(Operation::CreateFolder(path), |_| fs::create_dir(path))
}

pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let sync = || fs::File::open(path).and_then(|folder| folder.sync_all());
    carry_out(Operation::SyncFolder(path), |room| if room == 0 { Ok(()) } else { sync() })
}

pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    carry_out(Operation::Rename(from, to), |_| fs::rename(from, to))
}

/// The same, but never in place of another file: that is an error of the kind [`io::ErrorKind::AlreadyExists`].
pub(crate) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    carry_out(Operation::Rename(from, to), |_| match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(_) if fs::exists(to)? => Err(io::ErrorKind::AlreadyExists.into()),
        // A file system that has no links: as well as it can be, for an archive's folder has one writer.
        Err(_) => fs::rename(from, to),
    })
}

pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    carry_out(Operation::RemoveFile(path), |_| fs::remove_file(path))
}

pub(crate) fn remove_folder(path: &Path) -> io::Result<()> {
    carry_out(Operation::RemoveFolder(path), |_| fs::remove_dir(path))
}

pub(crate) fn list(path: &Path) -> io::Result<fs::ReadDir> {
    carry_out(Operation::List(path), |_| fs::read_dir(path))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::{Mutex, MutexGuard};

    use protocol::ids::{ContentId, ContentType, TenantId};
    use protocol::time::parse_timestamp;

    use super::*;
    use crate::{Archive, ArchiveError, ArchiveOptions, Committed, ContentRef, NewCommit, SegmentSet};

    /// Remembers what was done, and of the names that are there, those that no sync of their folder has made last.
    #[derive(Default)]
    pub(crate) struct Recorder(Mutex<Recorded>);

    #[derive(Default)]
    struct Recorded {
        done: Vec<String>,
        not_lasting: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
        fault: Option<Fault>,
        asked: usize,
    }

    /// What goes wrong, counted in operations from when it was set.
    #[derive(Debug, Clone, Copy)]
    pub(crate) enum Fault {
        /// This operation fails, and no other.
        Once(usize),
        /// From this operation on, nothing is done any more.
        Crash(usize),
    }

    impl Recorder {
        pub(crate) fn watching() -> Arc<Self> {
            let recorder = Arc::<Self>::default();
            watch(Some(Arc::clone(&recorder) as Arc<dyn Watch>));
            recorder
        }

        fn lock(&self) -> MutexGuard<'_, Recorded> {
            self.0.lock().unwrap()
        }

        pub(crate) fn set(&self, fault: Option<Fault>) {
            let mut recorded = self.lock();
            recorded.fault = fault;
            recorded.asked = 0;
        }

        /// Names that a loss of power could take away; sidecars may be lost.
        pub(crate) fn not_lasting(&self) -> Vec<PathBuf> {
            let names = self.lock().not_lasting.values().flatten().cloned().collect::<Vec<_>>();
            names
                .into_iter()
                .filter(|path| !path.to_str().unwrap().contains("_dedup") && !path.to_str().unwrap().contains("_sums"))
                .collect()
        }
    }

    impl Watch for Recorder {
        fn before(&self, operation: Operation<'_>) -> io::Result<usize> {
            let syncs = matches!(operation, Operation::SyncFile(_) | Operation::SyncFolder(_));
            let mut recorded = self.lock();
            recorded.asked += 1;
            match recorded.fault {
                Some(Fault::Once(at)) if recorded.asked == at => Err(io::Error::other("input/output error")),
                Some(Fault::Crash(at)) if recorded.asked >= at => Err(io::Error::other("the process is gone")),
                // Short writes are ordinary; syncs are taken at their word.
                _ => Ok(if syncs { 0 } else { 700 }),
            }
        }

        fn after(&self, operation: Operation<'_>) -> io::Result<()> {
            let mut recorded = self.lock();
            let parent = |path: &Path| path.parent().unwrap().to_owned();
            let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
            match operation {
                Operation::CreateFolder(path) | Operation::CreateFile(path) => {
                    recorded.not_lasting.entry(parent(path)).or_default().insert(path.to_owned());
                }
                Operation::Rename(from, to) => {
                    recorded.done.push(format!("name {}", name(to)));
                    let names = recorded.not_lasting.entry(parent(to)).or_default();
                    names.remove(from);
                    names.insert(to.to_owned());
                }
                Operation::RemoveFile(path) | Operation::RemoveFolder(path) => {
                    recorded.not_lasting.entry(parent(path)).or_default().remove(path);
                }
                Operation::SyncFile(path) => recorded.done.push(format!("sync {}", name(path))),
                Operation::SyncFolder(path) => {
                    if path.parent().is_some() {
                        recorded.done.push(format!("sync {}", name(path)));
                    }
                    recorded.not_lasting.remove(path);
                }
                Operation::Write(..) | Operation::Open(_) | Operation::List(_) => {}
            }
            Ok(())
        }
    }

    /// In memory where that is at hand: these tests make and remove thousands of files.
    pub(crate) fn folder() -> tempfile::TempDir {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
    }

    pub(crate) fn tenant() -> TenantId {
        "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11".parse().unwrap()
    }

    /// A record and a piece that is none.
    fn commit(archive: &Archive) -> Result<Committed, ArchiveError> {
        let ingested_at = parse_timestamp("2026-03-09T00:00:00Z").unwrap();
        let (content_type, content_id) = (ContentType::Exchange, "content".parse::<ContentId>().unwrap());
        let content = ContentRef { content_type: &content_type, content_id: &content_id, created: ingested_at };
        let mut writer =
            archive.begin(NewCommit { tenant: tenant(), number: 1, visible: Arc::default(), ingested_at })?;
        writer.append(&content, br#"{"Id":"1","CreationTime":"2026-03-04T05:06:07"}"#)?;
        writer.quarantine(&content, b"no record", "cut off")?;
        writer.finish()
    }

    #[test]
    fn a_segment_is_synced_before_it_is_named_and_its_folder_after() {
        let folder = folder();
        let archive = Archive::open(&ArchiveOptions::at(folder.path().join("archive"))).unwrap();
        let recorder = Recorder::watching();
        commit(&archive).unwrap();
        watch(None);
        let done = &recorder.lock().done;
        let place = |what: &str| done.iter().position(|done| done == what).unwrap();
        assert!(place("sync .1-0.parquet.tmp") < place("name 1-0.parquet"), "{done:?}");
        assert!(place("name 1-0.parquet") < place("sync date=2026-03-04"), "{done:?}");
    }

    /// A process: it opens the archive, tidies up, and commits. What it commits never becomes visible.
    fn life(root: &Path) -> Result<(), ArchiveError> {
        let archive = Archive::open(&ArchiveOptions::at(root))?;
        clear(&archive)?;
        commit(&archive).map(drop)
    }

    /// As before the first commit of a life, and after every one that failed.
    fn clear(archive: &Archive) -> Result<(), ArchiveError> {
        let now = parse_timestamp("2026-03-05T00:00:00Z").unwrap();
        archive.remove_orphans(tenant(), &SegmentSet::default(), 0, now).map(drop)
    }

    #[test]
    fn killed_at_any_operation_it_leaves_no_name_that_a_loss_of_power_can_take_after_the_next_commit() {
        for at in 1.. {
            let folder = folder();
            let root = folder.path().join("data/archive");
            let recorder = Recorder::watching();
            recorder.set(Some(Fault::Crash(at)));
            let first = life(&root);
            recorder.set(None);
            life(&root).unwrap();
            watch(None);
            assert_eq!(recorder.not_lasting(), Vec::<PathBuf>::new(), "killed at operation {at}");
            if first.is_ok() {
                assert!(at > 40, "{at} operations: the first life does not do what it should");
                return;
            }
        }
    }

    #[test]
    fn after_any_operation_that_fails_the_next_commit_leaves_no_name_that_a_loss_of_power_can_take() {
        for at in 1.. {
            let folder = folder();
            let recorder = Recorder::watching();
            let archive = Archive::open(&ArchiveOptions::at(folder.path().join("archive"))).unwrap();
            recorder.set(Some(Fault::Once(at)));
            // Whether it fails is not said: what is best effort may fail and nobody mind.
            let _ = commit(&archive);
            let asked = recorder.lock().asked;
            recorder.set(None);
            clear(&archive).unwrap();
            let committed = commit(&archive).unwrap();
            watch(None);
            assert_eq!(recorder.not_lasting(), Vec::<PathBuf>::new(), "operation {at} has failed");
            assert_eq!(committed.segments.len(), 1, "operation {at} has failed");
            if asked < at {
                assert!(at > 20, "{at} operations: the first commit does not do what it should");
                return;
            }
        }
    }
}
