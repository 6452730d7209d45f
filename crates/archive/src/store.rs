//! The archive's root folder: opened once, shared by all who write, merge, verify and read.
//!
//! Never lists the whole tree: who works on a tenant touches that tenant's folders only.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use protocol::ids::TenantId;

use crate::cache::SidecarCache;
use crate::commit::{CommitWriter, NewCommit};
use crate::delta::TableCache;
use crate::depot::{Depot, Version};
use crate::disk::{self, NewFile};
use crate::raw_column::IdleCompressors;
use crate::remote_options::RemoteOptions;
use crate::segment::{Segment, date_folder, slashed, tenant_folder};
use crate::workspace::{WHOLE_BYTES, Workspace};
use crate::{ArchiveError, files, quarantine, sidecar, sums};

/// Where the archive lies and how much memory it may take.
#[derive(Debug, Clone)]
pub struct ArchiveOptions {
    /// The root folder, or a remote archive's local one; made when it does not exist.
    pub root: PathBuf,
    /// Where the archive lies, if that is no local folder.
    pub remote: Option<RemoteOptions>,
    /// Bytes of memory for dedup filters, shared by all tenants: about 2.3 bytes a record. Beyond it the least recently
    /// used are read again from disk.
    pub dedup_memory_bytes: usize,
    /// Bytes of memory for segments being written, shared by all commits. Beyond it the largest open file is closed and
    /// its date continued in another part.
    pub write_memory_bytes: usize,
    /// Whoever works on the archive does so in place instead of on threads that may block: for simulations, whose virtual
    /// time must not run on while a thread works and whose watch sees its own thread only.
    pub in_place: bool,
}

impl ArchiveOptions {
    /// An archive at `root` with 64 MiB for dedup and 24 MiB for open segments.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            remote: None,
            dedup_memory_bytes: 64 << 20,
            write_memory_bytes: 24 << 20,
            in_place: false,
        }
    }

    /// The same in a remote store, with `workspace` as its local folder.
    pub fn remote(workspace: impl Into<PathBuf>, remote: RemoteOptions) -> Self {
        Self { remote: Some(remote), ..Self::at(workspace) }
    }

    /// The store of a remote archive; nothing is asked of it yet.
    pub(crate) fn depot(&self) -> Result<Option<Arc<dyn Depot>>, ArchiveError> {
        match &self.remote {
            None => Ok(None),
            #[cfg(feature = "remote")]
            Some(remote) => Ok(Some(Arc::new(crate::remote::Remote::open(remote)?))),
            #[cfg(not(feature = "remote"))]
            Some(remote) => Err(ArchiveError::Settings {
                problem: format!("{} is object storage, which this build does not have: use one that does", remote.url),
            }),
        }
    }
}

/// An open archive, and the epoch under which its tenants are held (see [`Archive::under`]). Clones are the same archive.
#[derive(Clone)]
pub struct Archive(pub(crate) Arc<Shared>, pub(crate) u64);

/// What all clones share.
pub(crate) struct Shared {
    pub(crate) root: PathBuf,
    pub(crate) write_memory_bytes: usize,
    pub(crate) in_place: bool,
    pub(crate) workspace: Option<Workspace>,
    /// Bytes that open segments hold at present, over all commits.
    pub(crate) write_memory_used: AtomicUsize,
    pub(crate) sidecars: SidecarCache,
    pub(crate) compressors: Arc<IdleCompressors>,
    pub(crate) tables: TableCache,
}

impl Archive {
    /// Opens the archive, making its folder if need be, and proves that it can be written to.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Io`] with path and remedy when the folder cannot be made or written, [`ArchiveError::Store`] when the
    /// store cannot.
    pub fn open(options: &ArchiveOptions) -> Result<Self, ArchiveError> {
        files::create_folder(&options.root)?;
        probe_writable(&options.root)?;
        let mark = serde_json::json!({ "archive_format": FORMAT });
        if options.remote.is_some() {
            let archive = Self::open_read_only(options)?;
            if let Some(workspace) = archive.workspace() {
                workspace.clear()?;
                // Read first: a store may take a condition and not know it, and the mark may name a ledger already.
                if workspace.depot().read(MARK)?.is_none() {
                    // Whoever made it in between has made the same.
                    workspace.depot().put_if(MARK, mark.to_string().into(), None)?;
                }
                let probe = format!("{PROBE}-{}", drawn());
                workspace.depot().put(&probe, Bytes::from_static(b"tenantry"))?;
                workspace.depot().remove(vec![probe])?;
            }
            return Ok(archive);
        }
        if !mark_path(&options.root).exists() {
            write_mark(&options.root, &mark)?;
        }
        let archive = Self::open_read_only(options)?;
        archive.sync_upper_folders()?;
        Ok(archive)
    }

    /// Makes the names of the root and of the tenants' folders last. A process that was killed may have made them and not
    /// synced them, and who finds a folder does not sync it again: without this, a loss of power days later could take it
    /// away with everything in it. The folder of the quarantine, which tenants share, is made here for the same reason:
    /// nobody relies on one that somebody else has made and not yet synced.
    fn sync_upper_folders(&self) -> Result<(), ArchiveError> {
        let quarantine = quarantine::folder(self.root());
        files::create_folder(&quarantine)?;
        files::sync_folder(&quarantine)?;
        files::sync_folder(self.root())?;
        let mut above = self.root().ancestors().skip(1);
        above.next().map_or(Ok(()), files::sync_folder)?;
        // Those further up are hardly ours, and may be nobody's to open.
        above.for_each(|folder| drop(files::sync_folder(folder)));
        Ok(())
    }

    /// Opens the archive for reading and verifying; it may lie on a medium that cannot be written. What writes through it
    /// fails when it does.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Io`] when the folder is not there or cannot be reached; [`ArchiveError::Store`].
    pub fn open_read_only(options: &ArchiveOptions) -> Result<Self, ArchiveError> {
        let depot = options.depot()?;
        if depot.is_some() {
            files::create_folder(&options.root)?;
        }
        // The absolute path, so that a later change of the working directory moves nothing.
        let root = fs::canonicalize(&options.root).map_err(ArchiveError::io("open folder", &options.root))?;
        check_mark(&root, depot.as_deref())?;
        let cache_bytes = options.remote.as_ref().map_or(0, |remote| remote.cache_bytes);
        let shared = Shared {
            sidecars: SidecarCache::new(options.dedup_memory_bytes),
            compressors: Arc::default(),
            tables: TableCache::default(),
            write_memory_bytes: options.write_memory_bytes,
            in_place: options.in_place,
            workspace: depot.map(|depot| Workspace::new(root.clone(), depot, cache_bytes)),
            write_memory_used: AtomicUsize::new(0),
            root,
        };
        Ok(Self(Arc::new(shared), 0))
    }

    /// The root folder, absolute; a remote archive's local one.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// [`ArchiveOptions::in_place`].
    pub fn works_in_place(&self) -> bool {
        self.0.in_place
    }

    /// Where the file of a segment lies; of a remote archive's, where its copy does if there is one.
    pub fn segment_path(&self, segment: &Segment) -> PathBuf {
        match self.workspace() {
            Some(workspace) => workspace.copy_of(segment),
            None => self.0.root.join(segment.path()),
        }
    }

    /// The same for a person: a path, or a URL.
    pub(crate) fn segment_place(&self, segment: &Segment) -> PathBuf {
        self.place_of(&segment.path())
    }

    /// Where the archive lies, for a person: a folder, or a URL.
    pub fn place(&self) -> PathBuf {
        match self.workspace() {
            Some(workspace) => PathBuf::from(workspace.depot().url()),
            None => self.0.root.clone(),
        }
    }

    /// Where something lies that has this path below the archive's root, for a person: a path, or a URL.
    pub fn place_of(&self, path: &Path) -> PathBuf {
        match self.workspace() {
            Some(workspace) => workspace.place(&slashed(path)),
            None => self.0.root.join(path),
        }
    }

    /// The size of a segment's file in bytes as it lies for good; `None` when there is none.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Store`] when a remote archive's store cannot say.
    pub fn size_of(&self, segment: &Segment) -> Result<Option<u64>, ArchiveError> {
        match self.workspace() {
            Some(workspace) => workspace.depot().size(&segment.name()),
            None => Ok(fs::metadata(self.segment_path(segment)).ok().map(|file| file.len())),
        }
    }

    /// Begins a commit. At most one may be open for a tenant; different tenants' run side by side.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::CommitInUse`] when a visible segment already has this commit's number.
    pub fn begin(&self, commit: NewCommit) -> Result<CommitWriter, ArchiveError> {
        CommitWriter::begin(self.clone(), commit)
    }

    /// Removes the files of segments that are no longer visible (merged away, or past their retention), and their
    /// sidecars. Those that are already gone are as good as removed. Says how many were there.
    /// Of a remote archive they count as there.
    pub fn delete_segments(&self, segments: &[Segment]) -> Result<u64, ArchiveError> {
        let mut removed = 0;
        if let Some(workspace) = self.workspace() {
            let names = |segment| [Segment::name(segment), sidecar::name(segment), sums::name(segment)];
            workspace.remove(segments.iter().flat_map(names).collect(), segments)?;
            removed = segments.len() as u64;
        }
        for segment in segments {
            let path = self.segment_path(segment);
            removed += u64::from(files::remove_file(&path)?);
            files::remove_file(&sidecar::path(self.root(), segment))?;
            files::remove_file(&sums::path(self.root(), segment))?;
            self.0.sidecars.forget(segment);
            if let Some(folder) = path.parent() {
                files::remove_empty_folder(folder);
            }
        }
        Ok(removed)
    }

    /// Removes the sidecars of segments so old that repeats of their records are hardly to be expected: a sidecar is a
    /// sixth of its segment, and is made again should somebody ask after all. Segments that hold records without a
    /// readable time keep theirs, for they are asked for ever. Says how many were there.
    pub fn delete_sidecars(&self, segments: &[Segment]) -> Result<u64, ArchiveError> {
        let mut removed = 0;
        let old = || segments.iter().filter(|segment| segment.untimed_rows == 0);
        if let Some(workspace) = self.workspace() {
            let kept = old().filter(|segment| segment.bytes >= WHOLE_BYTES);
            workspace.remove(kept.map(sidecar::name).collect(), &[])?;
        }
        for segment in old() {
            let path = sidecar::path(self.root(), segment);
            removed += u64::from(files::remove_file(&path)?);
            self.0.sidecars.forget(segment);
            path.parent().map(files::remove_empty_folder);
        }
        Ok(removed)
    }

    /// The folder a tenant's segments of one date lie in.
    pub(crate) fn folder_of(&self, tenant: TenantId, date: chrono::NaiveDate) -> PathBuf {
        date_folder(&tenant_folder(self.root(), tenant), date)
    }

    /// Notes that an open segment now holds `now` bytes where it held `before`.
    pub(crate) fn account_write_memory(&self, before: usize, now: usize) {
        self.0.write_memory_used.fetch_add(now, Ordering::Relaxed);
        self.0.write_memory_used.fetch_sub(before, Ordering::Relaxed);
    }

    /// Bytes that open segments hold, over all commits.
    pub(crate) fn write_memory_used(&self) -> usize {
        self.0.write_memory_used.load(Ordering::Relaxed)
    }

    /// Whether a local archive's mark is still there; it goes away with the disk and not with a file.
    pub(crate) fn is_there(&self) -> bool {
        mark_path(&self.0.root).exists()
    }
}

/// Writes, syncs and removes a file, because permissions alone do not say whether a folder can be written.
fn probe_writable(root: &Path) -> Result<(), ArchiveError> {
    // Under one name, so that what a crash leaves is there no more after the next start; several may do it at once.
    let path = root.join(".tenantry-probe.tmp");
    let write = || -> std::io::Result<()> {
        let mut file = NewFile::create(&path)?;
        file.write_all(b"tenantry")?;
        file.sync_all()
    };
    let result = write().map_err(ArchiveError::io("write in archive folder", root));
    files::remove_file(&path)?;
    result
}

/// The version of folders, columns and sidecars written by this program.
pub(crate) const FORMAT: u64 = 1;

/// The mark's name.
pub(crate) const MARK: &str = "_tenantry.json";

/// What no other process calls a file of its own: the keys of a `RandomState` differ from process to process and from one to
/// the next.
pub(crate) fn drawn() -> String {
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}

/// Written and removed to see whether a store can be written; what is drawn follows.
const PROBE: &str = "_tenantry-probe";

/// `{root}/_tenantry.json`: says that this folder is an archive, of which format, and to which ledger it belongs.
pub(crate) fn mark_path(root: &Path) -> PathBuf {
    root.join(MARK)
}

/// Marks an archive.
pub(crate) fn write_mark(root: &Path, mark: &serde_json::Value) -> Result<(), ArchiveError> {
    // Workers that share a folder may begin it together, and in containers all have the same process number.
    let temporary = format!("{}.tmp", disk::process());
    files::write_synced(&mark_path(root), &temporary, &mut mark.to_string().as_bytes())?;
    files::sync_folder(root)
}

/// The mark; `None` when there is none.
pub(crate) fn read_mark(root: &Path, depot: Option<&dyn Depot>) -> Result<Option<Mark>, ArchiveError> {
    let path = mark_path(root);
    let (text, version) = match depot {
        Some(depot) => match depot.read(MARK)? {
            Some((text, version)) => (text, Some(version)),
            None => return Ok(None),
        },
        None => match disk::read(&path) {
            Ok(text) => (text.into(), None),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ArchiveError::io("read", &path)(error)),
        },
    };
    // What cannot be read is of no format we know.
    Ok(Some(Mark { says: serde_json::from_slice(&text).unwrap_or(serde_json::Value::Null), version }))
}

/// What the mark says, and a remote one's version.
pub(crate) struct Mark {
    pub(crate) says: serde_json::Value,
    pub(crate) version: Option<Version>,
}

/// Refuses an archive of a later format. A folder without a mark has nothing in it yet, or lost it.
fn check_mark(root: &Path, depot: Option<&dyn Depot>) -> Result<(), ArchiveError> {
    let Some(mark) = read_mark(root, depot)? else { return Ok(()) };
    match mark.says.get("archive_format").and_then(serde_json::Value::as_u64) {
        Some(FORMAT) => Ok(()),
        format => {
            let path = match depot {
                Some(depot) => format!("{}/{MARK}", depot.url()),
                None => mark_path(root).display().to_string(),
            };
            Err(ArchiveError::UnknownFormat { path, format })
        }
    }
}
