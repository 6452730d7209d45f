//! The files of one table's log, in a local folder or a store.
//!
//! Guarantees: an entry appears whole or not at all, and never in place of another. Checkpoints, and the pointer to the last
//! one, may be replaced: whoever writes them writes the same.

use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::path::PathBuf;

use bytes::Bytes;
use protocol::ids::TenantId;

use super::action;
use crate::disk;
use crate::{Archive, ArchiveError, files};

/// The pointer to the last checkpoint.
const LAST_CHECKPOINT: &str = "_last_checkpoint";

/// Bytes of an entry's beginning that hold its first line, which says when it was written: ours has some hundred.
const FIRST_LINE_BYTES: u64 = 4096;

/// How much of a file is fetched from a store at a time. Nearly all are smaller.
const PIECE_BYTES: u64 = 16 << 20;

/// Pieces of a file that are fetched at most. An entry that says everything has about a kilobyte for each file of the table,
/// so this is enough for a million; one that is longer is cut off, which makes it damaged, and is no entry of ours.
const PIECES_MAX: u64 = 64;

/// See the file's head.
pub(super) struct Log<'a> {
    archive: &'a Archive,
    tenant: TenantId,
    /// Its name below the archive's root.
    folder: String,
}

/// A file's name in the log, as far as we know what it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name(String);

impl Name {
    pub(super) fn of_entry(version: u64) -> Self {
        Self(format!("{version:020}.json"))
    }

    pub(super) fn of_checkpoint(version: u64) -> Self {
        Self(format!("{version:020}.checkpoint.parquet"))
    }

    pub(super) fn entry(&self) -> Option<u64> {
        self.version(".json")
    }

    pub(super) fn checkpoint(&self) -> Option<u64> {
        self.version(".checkpoint.parquet")
    }

    fn version(&self, end: &str) -> Option<u64> {
        let digits = self.0.strip_suffix(end)?;
        let is_ours = digits.len() == 20 && digits.bytes().all(|digit| digit.is_ascii_digit());
        is_ours.then(|| digits.parse().ok()).flatten()
    }
}

impl<'a> Log<'a> {
    pub(super) fn of(archive: &'a Archive, tenant: TenantId) -> Self {
        Self { archive, tenant, folder: format!("tenant={tenant}/_delta_log") }
    }

    pub(super) fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Where it lies, for a person: a path, or a URL.
    pub(super) fn place(&self) -> PathBuf {
        self.archive.place_of(&PathBuf::from(&self.folder))
    }

    /// The names in it, in order.
    pub(super) fn names(&self) -> Result<Vec<Name>, ArchiveError> {
        let names = match self.archive.workspace() {
            Some(workspace) => {
                let names = workspace.depot().list(&self.folder)?;
                names
                    .iter()
                    .filter_map(|name| Some(name.strip_prefix(&self.folder)?.strip_prefix('/')?.to_owned()))
                    .collect()
            }
            None => files::names_in(&self.local())?,
        };
        let mut names: Vec<Name> = names.into_iter().map(Name).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Makes what is in it last, whoever wrote it.
    pub(super) fn settle(&self) -> Result<(), ArchiveError> {
        match self.archive.workspace() {
            Some(_) => Ok(()),
            None => files::sync_folder(&self.local()),
        }
    }

    /// A file whole; `None` when there is none.
    pub(super) fn read(&self, name: &Name) -> Result<Option<Bytes>, ArchiveError> {
        if let Some(workspace) = self.archive.workspace() {
            let (depot, name) = (workspace.depot(), self.name(&name.0));
            return in_pieces(PIECE_BYTES, |range| depot.read_range(&name, range), || depot.size(&name));
        }
        let path = self.local().join(&name.0);
        match disk::read(&path) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ArchiveError::io("read", &path)(error)),
        }
    }

    /// The beginning of a file, however long it is; `None` when there is none.
    fn read_beginning(&self, name: &Name) -> Result<Option<Bytes>, ArchiveError> {
        if let Some(workspace) = self.archive.workspace() {
            return workspace.depot().read_range(&self.name(&name.0), 0..FIRST_LINE_BYTES);
        }
        let path = self.local().join(&name.0);
        let mut beginning = Vec::new();
        match disk::open(&path).and_then(|file| file.take(FIRST_LINE_BYTES).read_to_end(&mut beginning)) {
            Ok(_) => Ok(Some(beginning.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ArchiveError::io("read", &path)(error)),
        }
    }

    /// Adds an entry; `false` when there is another one of that version. One with the same bytes is as good: it is ours, and
    /// the answer was lost.
    pub(super) fn add(&self, version: u64, text: &str) -> Result<bool, ArchiveError> {
        let name = Name::of_entry(version);
        let added = match self.archive.workspace() {
            Some(workspace) => {
                workspace.depot().put_if(&self.name(&name.0), Bytes::copy_from_slice(text.as_bytes()), None)?
            }
            None => {
                files::create_folder(&self.local())?;
                let path = self.local().join(&name.0);
                let added = files::write_new(&path, &self.temporary(), &mut text.as_bytes())?;
                // Before anybody relies on it: files that it lets go of are removed one day.
                files::sync_folder(&self.local())?;
                added
            }
        };
        Ok(added || self.read(&name)?.is_some_and(|there| there == text.as_bytes()))
    }

    /// Writes a checkpoint, then the pointer to it.
    pub(super) fn write_checkpoint(&self, version: u64, data: Bytes, actions: usize) -> Result<(), ArchiveError> {
        let bytes = data.len();
        self.put(&Name::of_checkpoint(version).0, data)?;
        let pointer = serde_json::json!({ "version": version, "size": actions, "sizeInBytes": bytes });
        self.put(LAST_CHECKPOINT, pointer.to_string().into())
    }

    fn put(&self, name: &str, data: Bytes) -> Result<(), ArchiveError> {
        if let Some(workspace) = self.archive.workspace() {
            return workspace.depot().put(&self.name(name), data);
        }
        files::write_synced(&self.local().join(name), &self.temporary(), &mut &*data)?;
        files::sync_folder(&self.local())
    }

    /// Removes the entries and checkpoints that nobody needs who wants no snapshot from before `since`, and what a crash has
    /// left of one being written. The first that stays is a checkpoint with the entry of its version.
    pub(super) fn remove_before(&self, since: i64) -> Result<(), ArchiveError> {
        let names = self.names()?;
        let mut first = None;
        for version in names.iter().filter_map(Name::checkpoint) {
            let Some(beginning) = self.read_beginning(&Name::of_entry(version))? else { continue };
            if action::written_at(&beginning).is_none_or(|at| at > since) {
                break;
            }
            first = Some(version);
        }
        let is_old = |name: &Name| {
            first.is_some_and(|first| name.entry().or(name.checkpoint()).is_some_and(|version| version < first))
        };
        // What has a temporary name has it only while an entry or a checkpoint of ours is being written, and that is not now.
        let old: Vec<&Name> = names.iter().filter(|name| is_old(name) || name.0.ends_with(".tmp")).collect();
        if let Some(workspace) = self.archive.workspace() {
            return match old.is_empty() {
                true => Ok(()),
                false => workspace.depot().remove(old.iter().map(|name| self.name(&name.0)).collect()),
            };
        }
        // From the oldest on, so that what is left is always the end of the log.
        for name in old {
            files::remove_file(&self.local().join(&name.0))?;
        }
        Ok(())
    }

    /// The extension of a file that is being written: where workers share a folder, one that has lost the tenant without
    /// knowing it yet may be writing the same entry.
    pub(super) fn temporary(&self) -> String {
        format!("{}.tmp", self.archive.epoch())
    }

    fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }

    fn local(&self) -> PathBuf {
        self.archive.root().join(&self.folder)
    }
}

/// A file of a store, in as many pieces as it takes: a range that begins where it ends is an error there.
fn in_pieces(
    piece: u64,
    mut read: impl FnMut(Range<u64>) -> Result<Option<Bytes>, ArchiveError>,
    size: impl Fn() -> Result<Option<u64>, ArchiveError>,
) -> Result<Option<Bytes>, ArchiveError> {
    let first = match read(0..piece) {
        Err(_) if size()? == Some(0) => return Ok(Some(Bytes::new())),
        first => first?,
    };
    let first = match first {
        Some(first) if first.len() as u64 >= piece => first,
        short => return Ok(short),
    };
    let Some(size) = size()? else { return Ok(None) };
    let mut whole = Vec::from(first);
    while (whole.len() as u64) < size.min(piece * PIECES_MAX) {
        let from = whole.len() as u64;
        match read(from..size.min(from + piece))? {
            Some(more) if !more.is_empty() => whole.extend_from_slice(&more),
            _ => return Ok(None),
        }
    }
    Ok(Some(whole.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_a_store_is_read_whole_however_long_it_is() {
        for length in [0, 1, 9, 10, 11, 20, 21, 10 * PIECES_MAX] {
            let file: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let read = |range: Range<u64>| match range.start < length {
                true => Ok(Some(file[range.start as usize..range.end.min(length) as usize].to_vec().into())),
                // As stores have it.
                false => Err(ArchiveError::Settings { problem: "the range is not satisfiable".to_owned() }),
            };
            assert_eq!(in_pieces(10, read, || Ok(Some(length))).unwrap().unwrap(), file, "{length} bytes");
        }
        let endless = |range: Range<u64>| Ok(Some(vec![7; (range.end - range.start) as usize].into()));
        let cut = in_pieces(10, endless, || Ok(Some(u64::MAX))).unwrap().unwrap();
        assert_eq!(cut.len() as u64, 10 * PIECES_MAX);
        assert_eq!(in_pieces(10, |_| Ok(None), || Ok(None)).unwrap(), None);
        let refused = |_| Err(ArchiveError::Settings { problem: "no".to_owned() });
        assert!(in_pieces(10, refused, || Ok(Some(5))).is_err());
    }

    #[test]
    fn only_names_of_the_protocol_are_entries_and_checkpoints() {
        let name = |text: &str| Name(text.to_owned());
        assert_eq!(name("00000000000000000042.json").entry(), Some(42));
        assert_eq!(name("00000000000000000042.checkpoint.parquet").checkpoint(), Some(42));
        assert_eq!(Name::of_entry(42).entry(), Some(42));
        assert_eq!(Name::of_checkpoint(42).checkpoint(), Some(42));
        for other in [
            "42.json",
            "+0000000000000000042.json",
            "00000000000000000042.crc",
            "00000000000000000042.00000000000000000044.compacted.json",
            "00000000000000000010.checkpoint.0000000001.0000000003.parquet",
            "_last_checkpoint",
        ] {
            assert_eq!((name(other).entry(), name(other).checkpoint()), (None, None), "{other}");
        }
    }
}
