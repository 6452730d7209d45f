//! The keys of a segment's records in a file of their own, so that dedup asks a segment without reading it.
//!
//! A cache and nothing more: every byte is under a checksum, it names the segment by digest, and whatever is wrong with it
//! it is made again from the segment. Never synced, never trusted without its checksum.
//!
//! ```text
//! magic(8) segment digest(32) rows(8) filter length(8) head checksum(16)
//! filter                     Bloom filter over `file_under`
//! index                      per block of 64 keys: first `file_under`(8), checksum(8)
//! keys                       sorted: file_under(8) body digest(16)
//! ```
//! Numbers are little-endian. In memory stay filter and index: about 2.3 bytes a record.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use protocol::ids::TenantId;

use crate::ArchiveError;
use crate::disk::{self, NewFile};
use crate::files;
use crate::filter::{BLOCK_BYTES, Filter};
use crate::keys::{BODY_DIGEST_BYTES, BodyDigest, RecordKey, hash};
use crate::segment::Segment;

const MAGIC: &[u8; 8] = b"tnkeys01";
const FIXED_BYTES: usize = 8 + 32 + 8 + 8;
const CHECKSUM_BYTES: usize = 16;
const KEY_BYTES: usize = 8 + BODY_DIGEST_BYTES;
const INDEX_ENTRY_BYTES: usize = 16;
/// Keys in a block: 1.5 KiB, one read.
const KEYS_PER_BLOCK: usize = 64;
const BLOCK_SEED: u64 = 0x6b65_7973;

/// The part of a sidecar that is held in memory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    filter: Filter,
    index: Vec<BlockEntry>,
    rows: u64,
}

#[derive(Debug, PartialEq, Eq)]
struct BlockEntry {
    first: u64,
    checksum: u64,
}

/// What a segment knows of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing.
    No,
    /// A record of the same second and `Id` with another body.
    SameId,
    /// The record.
    Same,
}

impl Found {
    /// The stronger of two answers.
    pub(crate) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Same, _) | (_, Self::Same) => Self::Same,
            (Self::SameId, _) | (_, Self::SameId) => Self::SameId,
            (Self::No, Self::No) => Self::No,
        }
    }
}

/// The sidecar could not be asked; it is to be made again.
#[derive(Debug)]
pub(crate) struct Unreadable;

impl Head {
    /// `keys` are sorted.
    pub(crate) fn build(keys: &[RecordKey]) -> Self {
        let mut filter = Filter::sized_for(keys.len() as u64);
        keys.iter().for_each(|key| filter.insert(key.file_under));
        let mut block = Vec::with_capacity(KEYS_PER_BLOCK * KEY_BYTES);
        let index = keys.chunks(KEYS_PER_BLOCK).map(|keys| {
            block.clear();
            write_keys(keys, &mut block);
            let first = keys.first().map_or(0, |key| key.file_under);
            BlockEntry { first, checksum: hash(&block, BLOCK_SEED) }
        });
        let index = index.collect();
        Self { filter, index, rows: keys.len() as u64 }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.filter.bytes() + self.index.len() * INDEX_ENTRY_BYTES
    }

    /// Whether the segment may hold a record filed under this number. No answer "no" is ever wrong.
    pub(crate) fn may_hold(&self, key: &RecordKey) -> bool {
        self.filter.may_hold(key.file_under)
    }

    /// Looks the record up in the file this head was read from.
    pub(crate) fn search(&self, file: &File, key: &RecordKey) -> Result<Found, Unreadable> {
        let mut found = Found::No;
        let mut buffer = [0; KEYS_PER_BLOCK * KEY_BYTES];
        // Keys filed under one number may begin at the end of the block before the first that starts with it.
        let start = self.index.partition_point(|block| block.first < key.file_under).saturating_sub(1);
        for (number, block) in self.index.iter().enumerate().skip(start) {
            if block.first > key.file_under {
                break;
            }
            let bytes = self.read_block(file, number, block, &mut buffer)?;
            let (keys, _) = bytes.as_chunks::<KEY_BYTES>();
            for other in keys.iter().map(read_key).filter(|other| other.file_under == key.file_under) {
                if other.body == key.body {
                    return Ok(Found::Same);
                }
                found = Found::SameId;
            }
        }
        Ok(found)
    }

    fn read_block<'a>(
        &self,
        mut file: &File,
        number: usize,
        block: &BlockEntry,
        buffer: &'a mut [u8; KEYS_PER_BLOCK * KEY_BYTES],
    ) -> Result<&'a [u8], Unreadable> {
        let before = number as u64 * KEYS_PER_BLOCK as u64;
        let keys = self.rows.saturating_sub(before).min(KEYS_PER_BLOCK as u64) as usize;
        let bytes = buffer.get_mut(..keys * KEY_BYTES).ok_or(Unreadable)?;
        let at = self.keys_at() + before * KEY_BYTES as u64;
        file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(bytes)).map_err(|_| Unreadable)?;
        if hash(bytes, BLOCK_SEED) == block.checksum { Ok(bytes) } else { Err(Unreadable) }
    }

    fn keys_at(&self) -> u64 {
        (FIXED_BYTES + CHECKSUM_BYTES + self.filter.bytes() + self.index.len() * INDEX_ENTRY_BYTES) as u64
    }

    fn write_to(&self, segment_digest: &[u8; 32], out: &mut Vec<u8>) {
        let mut fixed = Vec::with_capacity(FIXED_BYTES);
        fixed.extend_from_slice(MAGIC);
        fixed.extend_from_slice(segment_digest);
        fixed.extend_from_slice(&self.rows.to_le_bytes());
        fixed.extend_from_slice(&(self.filter.bytes() as u64).to_le_bytes());
        let mut body = Vec::with_capacity(self.memory_bytes());
        self.filter.write_to(&mut body);
        for block in &self.index {
            body.extend_from_slice(&block.first.to_le_bytes());
            body.extend_from_slice(&block.checksum.to_le_bytes());
        }
        out.extend_from_slice(&fixed);
        out.extend_from_slice(&checksum(&fixed, &body));
        out.extend_from_slice(&body);
    }
}

/// Where the sidecar of a segment lies.
pub(crate) fn path(root: &Path, segment: &Segment) -> PathBuf {
    folder(root).join(segment.path()).with_extension("keys")
}

/// Its name in a store.
pub(crate) fn name(segment: &Segment) -> String {
    format!("_dedup/{}", segment.name()).replace(".parquet", ".keys")
}

/// `{root}/_dedup/tenant={guid}`
pub(crate) fn tenant_folder(root: &Path, tenant: TenantId) -> PathBuf {
    crate::segment::tenant_folder(&folder(root), tenant)
}

fn folder(root: &Path) -> PathBuf {
    root.join("_dedup")
}

/// Writes the sidecar of a segment from the keys of its rows.
pub(crate) fn write(root: &Path, segment: &Segment, keys: &mut [RecordKey]) -> Result<Head, ArchiveError> {
    keys.sort_unstable();
    let head = Head::build(keys);
    let mut bytes = Vec::with_capacity(FIXED_BYTES + CHECKSUM_BYTES + head.memory_bytes() + keys.len() * KEY_BYTES);
    head.write_to(&segment.digest, &mut bytes);
    write_keys(keys, &mut bytes);
    let path = path(root, segment);
    if let Some(folder) = path.parent() {
        create_folders(folder).map_err(ArchiveError::io("create folder", folder))?;
    }
    let temporary = path.with_extension("keys.tmp");
    NewFile::create(&temporary)
        .and_then(|mut file| file.write_all(&bytes))
        .and_then(|()| disk::rename(&temporary, &path))
        .inspect_err(|_| drop(files::remove_file(&temporary)))
        .map_err(ArchiveError::io("write", &path))?;
    Ok(head)
}

/// Makes a folder and those above it, without syncing any: what is lost of them at a loss of power is made again.
pub(crate) fn create_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    folder.parent().map_or(Ok(()), create_folders)?;
    match disk::create_folder(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Reads the head of a segment's sidecar. `Unreadable` when it is missing, cut off, changed, or another segment's.
pub(crate) fn load(root: &Path, segment: &Segment) -> Result<(Head, File), Unreadable> {
    let path = path(root, segment);
    let mut file = disk::open(&path).map_err(|error| note(&path, &error))?;
    let length = file.metadata().map_err(|error| note(&path, &error))?.len();
    let mut fixed = [0; FIXED_BYTES];
    let mut sum = [0; CHECKSUM_BYTES];
    file.read_exact(&mut fixed).and_then(|()| file.read_exact(&mut sum)).map_err(|error| note(&path, &error))?;
    let filter_bytes = head_sizes(&fixed, segment, length).ok_or(Unreadable)?;
    let index_bytes = blocks(segment.rows) * INDEX_ENTRY_BYTES as u64;
    // Bounded: `head_sizes` has compared the sum with the length of the file.
    let mut body = vec![0; usize::try_from(filter_bytes + index_bytes).map_err(|_| Unreadable)?];
    file.read_exact(&mut body).map_err(|error| note(&path, &error))?;
    if checksum(&fixed, &body) != sum {
        return Err(Unreadable);
    }
    let (filter, index) = body.split_at_checked(filter_bytes as usize).ok_or(Unreadable)?;
    let filter = Filter::read_from(filter).ok_or(Unreadable)?;
    let (index, _) = index.as_chunks::<INDEX_ENTRY_BYTES>();
    let index = index.iter().map(|entry| BlockEntry { first: number(entry, 0), checksum: number(entry, 8) }).collect();
    Ok((Head { filter, index, rows: segment.rows }, file))
}

/// Opens the sidecar's file again for a head that is still in memory.
pub(crate) fn open(root: &Path, segment: &Segment) -> Result<File, Unreadable> {
    let path = path(root, segment);
    disk::open(&path).map_err(|error| note(&path, &error))
}

/// The filter's length, if the head is this segment's and the file has the length it says.
fn head_sizes(fixed: &[u8; FIXED_BYTES], segment: &Segment, length: u64) -> Option<u64> {
    let (magic, rest) = fixed.split_at(8);
    let (digest, sizes) = rest.split_at(32);
    let (rows, filter_bytes) = (number(sizes, 0), number(sizes, 8));
    if magic != MAGIC || digest != segment.digest || rows != segment.rows || filter_bytes % BLOCK_BYTES as u64 != 0 {
        return None;
    }
    let index_bytes = blocks(rows).checked_mul(INDEX_ENTRY_BYTES as u64)?;
    let keys_bytes = rows.checked_mul(KEY_BYTES as u64)?;
    let head = (FIXED_BYTES + CHECKSUM_BYTES) as u64;
    let expected = head.checked_add(filter_bytes)?.checked_add(index_bytes)?.checked_add(keys_bytes)?;
    (expected == length).then_some(filter_bytes)
}

fn blocks(rows: u64) -> u64 {
    rows.div_ceil(KEYS_PER_BLOCK as u64)
}

fn note(path: &Path, error: &io::Error) -> Unreadable {
    if error.kind() != ErrorKind::NotFound {
        tracing::warn!(path = %path.display(), %error, "sidecar cannot be read and is made again");
    }
    Unreadable
}

fn checksum(fixed: &[u8], body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut digest = blake3::Hasher::new();
    digest.update(fixed).update(body);
    let mut first = [0; CHECKSUM_BYTES];
    first.iter_mut().zip(digest.finalize().as_bytes()).for_each(|(to, from)| *to = *from);
    first
}

fn write_keys(keys: &[RecordKey], out: &mut Vec<u8>) {
    for key in keys {
        out.extend_from_slice(&key.file_under.to_le_bytes());
        out.extend_from_slice(&key.body.0);
    }
}

fn read_key(bytes: &[u8; KEY_BYTES]) -> RecordKey {
    let mut body = [0; BODY_DIGEST_BYTES];
    body.iter_mut().zip(bytes.iter().skip(8)).for_each(|(to, from)| *to = *from);
    RecordKey { file_under: number(bytes, 0), body: BodyDigest(body) }
}

/// The little-endian number at `at`.
fn number(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk::<8>()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn segment(rows: u64) -> Segment {
        Segment {
            tenant: "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11".parse().unwrap(),
            date: "2026-03-04".parse().unwrap(),
            commit: 7,
            part: 0,
            rows,
            bytes: 1,
            second_min: Some(0),
            second_max: Some(9),
            untimed_rows: 0,
            digest: [3; 32],
        }
    }

    fn key(number: u64) -> RecordKey {
        RecordKey::new(Some(&number.to_string()), Some(5), &number.to_le_bytes())
    }

    fn keys(count: u64) -> Vec<RecordKey> {
        (0..count).map(key).collect()
    }

    #[test]
    fn every_key_is_found_and_no_other_at_every_block_border() {
        let root = tempfile::tempdir().unwrap();
        for count in [0, 1, 63, 64, 65, 127, 128, 129, 1000] {
            let segment = segment(count);
            let written = write(root.path(), &segment, &mut keys(count)).unwrap();
            let (head, file) = load(root.path(), &segment).unwrap();
            assert_eq!(head, written);
            for number in 0..count {
                assert!(head.may_hold(&key(number)));
                assert_eq!(head.search(&file, &key(number)).unwrap(), Found::Same, "{number} of {count}");
                let other = RecordKey { body: BodyDigest([7; BODY_DIGEST_BYTES]), ..key(number) };
                assert_eq!(head.search(&file, &other).unwrap(), Found::SameId, "{number} of {count}");
            }
            for number in count..count + 100 {
                assert_eq!(head.search(&file, &key(number)).unwrap(), Found::No, "{number} of {count}");
            }
        }
    }

    #[test]
    fn many_bodies_under_one_number_are_all_found_across_blocks() {
        let root = tempfile::tempdir().unwrap();
        let variant = |number: u64| RecordKey::new(Some("0"), Some(5), &number.to_le_bytes());
        let mut all: Vec<_> = (0..300).map(variant).chain((1..200).map(key)).collect();
        let segment = segment(all.len() as u64);
        write(root.path(), &segment, &mut all).unwrap();
        let (head, file) = load(root.path(), &segment).unwrap();
        for number in 0..300 {
            assert_eq!(head.search(&file, &variant(number)).unwrap(), Found::Same, "{number}");
        }
        assert_eq!(head.search(&file, &variant(300)).unwrap(), Found::SameId);
    }

    #[test]
    fn any_changed_byte_is_noticed_when_it_is_loaded_or_asked() {
        let root = tempfile::tempdir().unwrap();
        let segment = segment(70);
        write(root.path(), &segment, &mut keys(70)).unwrap();
        let path = path(root.path(), &segment);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            fs::write(&path, &damaged).unwrap();
            let noticed = match load(root.path(), &segment) {
                Err(Unreadable) => true,
                Ok((head, file)) => (0..70).any(|number| head.search(&file, &key(number)).is_err()),
            };
            assert!(noticed, "byte {at} of {}", whole.len());
        }
    }

    #[test]
    fn a_sidecar_that_is_missing_cut_off_or_of_another_segment_is_not_used() {
        let root = tempfile::tempdir().unwrap();
        let segment = segment(150);
        assert!(load(root.path(), &segment).is_err());
        write(root.path(), &segment, &mut keys(150)).unwrap();
        assert!(load(root.path(), &Segment { digest: [4; 32], ..segment.clone() }).is_err());
        assert!(load(root.path(), &Segment { rows: 151, ..segment.clone() }).is_err());
        let path = path(root.path(), &segment);
        let whole = fs::read(&path).unwrap();
        for length in [0, 10, FIXED_BYTES, 100, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(load(root.path(), &segment).is_err(), "{length}");
        }
    }
}
