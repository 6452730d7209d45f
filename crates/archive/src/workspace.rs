//! The local folder of a remote archive: what is being written, and copies of what was written and read, in as many bytes
//! as were allowed.
//!
//! Guarantees: a file that has its final name here is in the store, so every such file may go at any time; and a segment's
//! copy bears its digest in its name, so what another worker wrote under the same commit number is never taken for it.
//! Whoever opens a copy is ready to find that it went.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::copies::Copies;
use crate::depot::{Depot, Whole};
use crate::disk::{self, NewFile};
use crate::files::{self, DigestWriter};
use crate::segment::{Segment, date_folder, tenant_folder};
use crate::store::{MARK, drawn};
use crate::sums::Sums;
use crate::{Archive, ArchiveError, sidecar, sums};

/// A segment below this size is fetched whole, for one request gets it as well as a part of it; so nothing is kept beside it
/// in the store. Larger: small queries fetch more than they need. Smaller: three objects are written where one would do.
pub(crate) const WHOLE_BYTES: u64 = 1 << 20;

/// How often a copy that goes away before it is opened is fetched again. A cache so small that this is not enough would
/// fetch everything all the time.
const TRIES: usize = 5;

/// What is wrong with a segment that is not in the store.
pub(crate) const MISSING: &str = "the file is missing";

/// See the file's head.
pub(crate) struct Workspace {
    root: PathBuf,
    depot: Arc<dyn Depot>,
    copies: Copies,
    incoming: AtomicU64,
    /// What no other process with the same folder calls itself.
    process: String,
}

/// A file that is being fetched; it goes when nobody has given it its name.
struct Incoming(PathBuf);

impl Drop for Incoming {
    fn drop(&mut self) {
        drop(disk::remove_file(&self.0));
    }
}

impl Workspace {
    pub(crate) fn new(root: PathBuf, depot: Arc<dyn Depot>, cache_bytes: u64) -> Self {
        Self {
            copies: Copies::new(root.clone(), cache_bytes),
            root,
            depot,
            incoming: AtomicU64::new(0),
            process: drawn(),
        }
    }

    pub(crate) fn depot(&self) -> &dyn Depot {
        self.depot.as_ref()
    }

    /// Where an object lies, for messages; not to be opened.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("{}/{name}", self.depot.url()))
    }

    /// Where the copy of a segment lies.
    pub(crate) fn copy_of(&self, segment: &Segment) -> PathBuf {
        let Segment { commit, part, .. } = segment;
        let digest = blake3::Hash::from_bytes(segment.digest).to_hex();
        let digest = digest.get(..16).unwrap_or_default();
        date_folder(&tenant_folder(&self.root, segment.tenant), segment.date)
            .join(format!("{commit}-{part}.{digest}.parquet"))
    }

    /// Puts a segment that is complete under its temporary name into the store.
    pub(crate) fn upload(&self, temporary: &Path, segment: &Segment) -> Result<(), ArchiveError> {
        let whole = Whole { bytes: segment.bytes, digest: segment.digest };
        self.depot.create_from_file(&segment.name(), temporary, &whole)
    }

    /// Notes a segment's copy, and puts what lies beside it into the store where that saves fetching the segment.
    pub(crate) fn keep(&self, segment: &Segment) {
        self.copies.kept(&self.copy_of(segment), segment.bytes);
        if segment.bytes < WHOLE_BYTES {
            return;
        }
        for (name, path) in [
            (sidecar::name(segment), sidecar::path(&self.root, segment)),
            (sums::name(segment), sums::path(&self.root, segment)),
        ] {
            // Caches: without them the segment is as complete, and whoever asks next makes them again.
            let put = disk::read(&path).map_err(ArchiveError::io("read", &path));
            if let Err(error) = put.and_then(|data| self.depot.put(&name, Bytes::from(data))) {
                tracing::debug!(%error, name, "not kept beside its segment");
            }
        }
    }

    /// Fetches what lies beside a segment, if it is there; whether it is what it should be is for the reader to see.
    pub(crate) fn fetch_beside(&self, segment: &Segment, name: &str, path: &Path) -> Result<bool, ArchiveError> {
        if segment.bytes < WHOLE_BYTES {
            return Ok(false);
        }
        let incoming = self.incoming()?;
        let Some(fetched) = self.fetch_to(name, &incoming.0)? else { return Ok(false) };
        self.give_name(&incoming, path)?;
        self.copies.kept(path, fetched.sum().0);
        Ok(true)
    }

    /// Sees to it that a segment lies here. Its checksums, if it had to be fetched.
    pub(crate) fn bring(&self, segment: &Segment) -> Result<Option<Sums>, ArchiveError> {
        let path = self.copy_of(segment);
        if fs::metadata(&path).is_ok_and(|file| file.len() == segment.bytes) {
            self.copies.used(&path);
            return Ok(None);
        }
        self.fetch(segment).map(Some)
    }

    /// Opens a segment's copy, fetching it if need be.
    pub(crate) fn open(&self, segment: &Segment) -> Result<File, ArchiveError> {
        let path = self.copy_of(segment);
        let mut tries = 0;
        loop {
            self.bring(segment)?;
            match disk::open(&path) {
                // Somebody else needed the room.
                Err(error) if error.kind() == ErrorKind::NotFound && tries < TRIES => tries += 1,
                opened => return opened.map_err(ArchiveError::io("open the copy of a segment", &path)),
            }
        }
    }

    /// Fetches a segment, whether or not it lies here.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Damaged`] when the store has it not, or not as it was written.
    pub(crate) fn fetch(&self, segment: &Segment) -> Result<Sums, ArchiveError> {
        let (name, path) = (segment.name(), self.copy_of(segment));
        let mut tries = 0;
        loop {
            let incoming = self.incoming()?;
            let fetched = self.fetch_to(&name, &incoming.0)?;
            let sums = self.compare(&name, fetched, segment.bytes, &segment.digest)?;
            match self.give_name(&incoming, &path) {
                // A collector that starts with the same local folder clears away what others fetch, too.
                Err(ArchiveError::Io { source, .. }) if source.kind() == ErrorKind::NotFound && tries < TRIES => {
                    tries += 1;
                }
                named => {
                    named?;
                    self.copies.kept(&path, segment.bytes);
                    return Ok(sums);
                }
            }
        }
    }

    /// Compares an object of the store with what the ledger remembers of it, leaving nothing here.
    pub(crate) fn check(&self, name: &str, bytes: u64, digest: &[u8; 32]) -> Result<(), ArchiveError> {
        let mut found = DigestWriter::new(std::io::sink());
        let there = self.depot.download(name, &self.root, &mut |piece: &[u8]| {
            found.update(piece);
            Ok(())
        })?;
        self.compare(name, there.then_some(found), bytes, digest).map(drop)
    }

    /// Fetches an object that the ledger does not know into a file of its own, which goes with what is returned.
    pub(crate) fn fetch_unknown(&self, name: &str) -> Result<Option<Unknown>, ArchiveError> {
        let incoming = self.incoming()?;
        Ok(self.fetch_to(name, &incoming.0)?.map(|_| Unknown(incoming)))
    }

    /// Puts a piece of the quarantine, by way of a file here, for it may be large.
    pub(crate) fn put_piece(&self, name: &str, piece: &mut impl Read, whole: &Whole) -> Result<(), ArchiveError> {
        let incoming = self.incoming()?;
        let written = NewFile::create(&incoming.0).and_then(|mut file| std::io::copy(piece, &mut file));
        written.map_err(ArchiveError::io("write", &incoming.0))?;
        self.depot.create_from_file(name, &incoming.0, whole)
    }

    /// Removes objects, and whatever copies of segments lie here.
    pub(crate) fn remove(&self, names: Vec<String>, segments: &[Segment]) -> Result<(), ArchiveError> {
        if !names.is_empty() {
            self.depot.remove(names)?;
        }
        for segment in segments {
            self.discard(segment)?;
        }
        Ok(())
    }

    /// Lets go of the copy of a segment, if there is one.
    pub(crate) fn discard(&self, segment: &Segment) -> Result<(), ArchiveError> {
        let path = self.copy_of(segment);
        self.copies.gone(&path);
        files::remove_file(&path)?;
        path.parent().map(files::remove_empty_folder);
        Ok(())
    }

    /// Notes that the copy of a segment is of use.
    #[cfg(feature = "query")]
    pub(crate) fn used(&self, segment: &Segment) {
        self.copies.used(&self.copy_of(segment));
    }

    /// Gives a file that lies here another name in the store, on the condition that it is free.
    pub(crate) fn put_file(&self, name: &str, file: &Path) -> Result<(), ArchiveError> {
        let found = files::digest_file(file).map_err(ArchiveError::io("read", file))?;
        let (bytes, digest) = found.sum();
        self.depot.create_from_file(name, file, &Whole { bytes, digest })
    }

    /// Whether the archive's mark is there; it goes away with the bucket and not with a segment.
    pub(crate) fn is_there(&self) -> Result<bool, ArchiveError> {
        Ok(self.depot.read(MARK)?.is_some())
    }

    /// Removes what others were fetching when they stopped.
    pub(crate) fn clear(&self) -> Result<(), ArchiveError> {
        let folder = self.root.join(INCOMING);
        for name in files::names_in(&folder)? {
            files::remove_file(&folder.join(name))?;
        }
        Ok(())
    }

    fn compare<W: Write>(
        &self,
        name: &str,
        found: Option<DigestWriter<W>>,
        bytes: u64,
        digest: &[u8; 32],
    ) -> Result<Sums, ArchiveError> {
        let damaged = |problem| Err(ArchiveError::Damaged { path: self.place(name), problem });
        let Some(found) = found else {
            // With the archive's mark gone as well, it is everything that is missing.
            return if self.is_there()? { damaged(MISSING.to_owned()) } else { Err(self.gone()) };
        };
        let (found_bytes, found_digest) = found.sum();
        if found_bytes != bytes {
            return damaged(format!("it has {found_bytes} bytes instead of {bytes}"));
        }
        if found_digest != *digest {
            return damaged("its bytes have changed since it was written".to_owned());
        }
        Ok(found.sums())
    }

    fn gone(&self) -> ArchiveError {
        ArchiveError::Store {
            action: "read",
            place: self.place(MARK).display().to_string(),
            remedy: "it was there before: restore the bucket or container from a copy, or correct [archive] url",
            source: "it is not there".into(),
        }
    }

    /// `None` when there is no such object.
    fn fetch_to(&self, name: &str, to: &Path) -> Result<Option<DigestWriter<NewFile>>, ArchiveError> {
        let file = NewFile::create(to).map_err(ArchiveError::io("create", to))?;
        let mut file = DigestWriter::new(file);
        let there = self.depot.download(name, to, &mut |piece: &[u8]| file.write_all(piece))?;
        Ok(there.then_some(file))
    }

    fn incoming(&self) -> Result<Incoming, ArchiveError> {
        let folder = self.root.join(INCOMING);
        sidecar::create_folders(&folder).map_err(ArchiveError::io("create folder", &folder))?;
        let number = self.incoming.fetch_add(1, Ordering::Relaxed);
        Ok(Incoming(folder.join(format!("{}-{number}.tmp", self.process))))
    }

    fn give_name(&self, incoming: &Incoming, path: &Path) -> Result<(), ArchiveError> {
        let folder = path.parent().unwrap_or(&self.root);
        sidecar::create_folders(folder).map_err(ArchiveError::io("create folder", folder))?;
        disk::rename(&incoming.0, path).map_err(ArchiveError::io("rename to its final name", path))
    }
}

/// Where files lie that are being fetched.
const INCOMING: &str = "_incoming";

/// See [`Workspace::fetch_unknown`].
pub(crate) struct Unknown(Incoming);

impl Unknown {
    pub(crate) fn path(&self) -> &Path {
        &self.0.0
    }
}

impl Archive {
    /// A remote archive's local folder; `None` for one that is a local folder itself.
    pub(crate) fn workspace(&self) -> Option<&Workspace> {
        self.0.workspace.as_ref()
    }
}
