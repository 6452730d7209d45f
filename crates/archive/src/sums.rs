//! Checksums of a segment's blocks, kept beside it, so that whoever reads a part of the file knows that it is what was written.
//!
//! Parquet's own page checksums cover the pages' bodies and neither their headers nor the footer and the indexes, any of
//! which can turn one column into another. Blocks cover every byte that is read, whatever it means. The checksum is XXH3:
//! it withstands chance, as the file's BLAKE3 in the ledger withstands intent.
//!
//! A cache and nothing more: it is under a checksum of its own, names the segment by digest, and is made again when it is
//! missing or damaged, after the whole file has been compared with the ledger's digest. So damage is never blessed.
//!
//! ```text
//! magic(8) segment digest(32) file length(8) per block of 16 KiB: checksum(8) … checksum of all before(16)
//! ```
//! Numbers are little-endian.

use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::ids::TenantId;
use twox_hash::xxhash3_128::Hasher;

use crate::disk::{self, NewFile};
use crate::segment::Segment;
use crate::{Archive, ArchiveError, files, sidecar, verify};

const MAGIC: &[u8; 8] = b"tnsums01";
const HEAD_BYTES: usize = 8 + 32 + 8;
const CHECKSUM_BYTES: usize = 16;

/// Bytes of a block. Smaller: more to keep, an 8th of a thousandth at this size times four. Larger: who reads a small
/// column reads more around it.
pub(crate) const BLOCK_BYTES: u64 = 16 << 10;

/// The extension of the files.
pub(crate) const EXTENSION: &str = "sums";

/// The checksums of a file's blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sums {
    bytes: u64,
    blocks: Vec<u64>,
}

impl Sums {
    /// The whole blocks that such a range of the file lies in.
    pub(crate) fn widen(&self, range: &Range<u64>) -> Range<u64> {
        let start = range.start - range.start % BLOCK_BYTES;
        let end = range.end.next_multiple_of(BLOCK_BYTES).min(self.bytes);
        start..end.max(start)
    }

    /// Whether these bytes, which begin with the block at `start`, are what was written; if not, where the first block
    /// begins that is not.
    pub(crate) fn check(&self, start: u64, data: &[u8]) -> Result<(), u64> {
        let first = start / BLOCK_BYTES;
        let mut sums = self.blocks.iter().skip(usize::try_from(first).unwrap_or(usize::MAX));
        for (number, block) in (first..).zip(data.chunks(BLOCK_BYTES as usize)) {
            if sums.next() != Some(&sum(block)) {
                return Err(number * BLOCK_BYTES);
            }
        }
        Ok(())
    }

    /// As they are kept.
    pub(crate) fn to_bytes(&self, segment: &Segment) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.blocks.len() * 8 + CHECKSUM_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&segment.digest);
        bytes.extend_from_slice(&self.bytes.to_le_bytes());
        self.blocks.iter().for_each(|block| bytes.extend_from_slice(&block.to_le_bytes()));
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum);
        bytes
    }

    /// Reads [`Self::to_bytes`] back; `None` when they are not whole or another segment's.
    pub(crate) fn parse(bytes: &[u8], segment: &Segment) -> Option<Self> {
        let (rest, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
        let (magic, fields) = rest.split_first_chunk::<8>()?;
        let (digest, fields) = fields.split_first_chunk::<32>()?;
        let (length, blocks) = fields.split_first_chunk::<8>()?;
        let (blocks, odd) = blocks.as_chunks::<8>();
        let length = u64::from_le_bytes(*length);
        let fits = odd.is_empty() && blocks.len() as u64 == length.div_ceil(BLOCK_BYTES);
        let is_its = magic == MAGIC && *digest == segment.digest && length == segment.bytes;
        (fits && is_its && checksum(rest) == *sum)
            .then(|| Self { bytes: length, blocks: blocks.iter().map(|block| u64::from_le_bytes(*block)).collect() })
    }
}

/// Takes a file's bytes as they come.
#[derive(Default)]
pub(crate) struct SumsBuilder {
    bytes: u64,
    block: Hasher,
    blocks: Vec<u64>,
}

impl SumsBuilder {
    pub(crate) fn update(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let room = BLOCK_BYTES - self.bytes % BLOCK_BYTES;
            let (now, later) = data.split_at(data.len().min(room as usize));
            self.block.write(now);
            self.bytes += now.len() as u64;
            if self.bytes.is_multiple_of(BLOCK_BYTES) {
                self.blocks.push(std::mem::take(&mut self.block).finish_128() as u64);
            }
            data = later;
        }
    }

    /// The checksums of what has come so far.
    pub(crate) fn sums(&self) -> Sums {
        let mut blocks = self.blocks.clone();
        if !self.bytes.is_multiple_of(BLOCK_BYTES) {
            blocks.push(self.block.finish_128() as u64);
        }
        Sums { bytes: self.bytes, blocks }
    }
}

fn sum(block: &[u8]) -> u64 {
    Hasher::oneshot(block) as u64
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut first = [0; CHECKSUM_BYTES];
    first.iter_mut().zip(blake3::hash(bytes).as_bytes()).for_each(|(to, from)| *to = *from);
    first
}

/// Where a segment's checksums lie, below the archive's root.
pub(crate) fn relative_path(segment: &Segment) -> PathBuf {
    Path::new("_sums").join(segment.path()).with_extension(EXTENSION)
}

/// Their name in a store.
pub(crate) fn name(segment: &Segment) -> String {
    format!("_sums/{}", segment.name()).replace(".parquet", ".sums")
}

/// `{root}/_sums/tenant={guid}`
pub(crate) fn tenant_folder(root: &Path, tenant: TenantId) -> PathBuf {
    crate::segment::tenant_folder(&root.join("_sums"), tenant)
}

/// Where a segment's checksums lie.
pub(crate) fn path(root: &Path, segment: &Segment) -> PathBuf {
    root.join(relative_path(segment))
}

/// A segment's checksums: those kept beside it, or made from the file once that is found to be what was written.
///
/// # Errors
///
/// [`ArchiveError::Damaged`] when it is not.
pub(crate) fn of_segment(archive: &Archive, segment: &Segment) -> Result<Arc<Sums>, ArchiveError> {
    let path = path(archive.root(), segment);
    let kept = || disk::read(&path).ok().and_then(|bytes| Sums::parse(&bytes, segment));
    if let Some(sums) = kept() {
        return Ok(Arc::new(sums));
    }
    if let Some(workspace) = archive.workspace()
        && workspace.fetch_beside(segment, &name(segment), &path)?
        && let Some(sums) = kept()
    {
        return Ok(Arc::new(sums));
    }
    let sums = verify::check_segment(archive, segment)?;
    write(archive.root(), segment, &sums);
    Ok(Arc::new(sums))
}

/// Keeps a segment's checksums beside it, as well as it can be: without them they are made again.
pub(crate) fn write(root: &Path, segment: &Segment, sums: &Sums) {
    let path = path(root, segment);
    let temporary = path.with_extension("sums.tmp");
    let made = path.parent().map_or(Ok(()), sidecar::create_folders);
    let written = made
        .and_then(|()| NewFile::create(&temporary))
        .and_then(|mut file| file.write_all(&sums.to_bytes(segment)))
        .and_then(|()| disk::rename(&temporary, &path));
    if let Err(error) = written {
        drop(files::remove_file(&temporary));
        tracing::debug!(path = %path.display(), %error, "checksums not kept");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(bytes: u64) -> Segment {
        Segment {
            tenant: "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11".parse().unwrap(),
            date: "2026-03-04".parse().unwrap(),
            commit: 7,
            part: 0,
            rows: 1,
            bytes,
            second_min: Some(0),
            second_max: Some(9),
            untimed_rows: 0,
            digest: [3; 32],
        }
    }

    fn data(length: u64) -> Vec<u8> {
        (0..length).map(|at| (at * 7 % 251) as u8).collect()
    }

    fn sums(data: &[u8], piece: usize) -> Sums {
        let mut builder = SumsBuilder::default();
        data.chunks(piece).for_each(|piece| builder.update(piece));
        builder.sums()
    }

    #[test]
    fn whatever_pieces_the_file_comes_in_the_sums_are_those_of_its_blocks() {
        for length in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 77] {
            let data = data(length);
            let whole = sums(&data, usize::MAX);
            assert_eq!(whole.blocks.len() as u64, length.div_ceil(BLOCK_BYTES));
            for piece in [1000, BLOCK_BYTES as usize, 50_000] {
                assert_eq!(sums(&data, piece), whole, "{length} in {piece}");
            }
            assert_eq!(whole.check(0, &data), Ok(()));
        }
    }

    #[test]
    fn a_changed_byte_is_found_in_its_block_and_in_no_other() {
        let data = data(3 * BLOCK_BYTES + 5);
        let sums = sums(&data, 4096);
        for (at, block) in [(0, 0), (BLOCK_BYTES - 1, 0), (BLOCK_BYTES, 1), (3 * BLOCK_BYTES + 4, 3)] {
            let mut changed = data.clone();
            changed[at as usize] ^= 1;
            assert_eq!(sums.check(0, &changed), Err(block * BLOCK_BYTES), "byte {at}");
            let rest = (block as usize + 1) * BLOCK_BYTES as usize;
            assert_eq!(sums.check(rest as u64, changed.get(rest..).unwrap_or_default()), Ok(()), "byte {at}");
        }
        assert!(sums.check(3 * BLOCK_BYTES, &data[3 * BLOCK_BYTES as usize..][..4]).is_err(), "cut short");
        assert!(sums.check(4 * BLOCK_BYTES, b"beyond").is_err());
    }

    #[test]
    fn a_range_is_widened_to_blocks_and_to_no_more_than_the_file() {
        let sums = sums(&data(2 * BLOCK_BYTES + 10), 4096);
        for (range, wide) in [
            (0..1, 0..BLOCK_BYTES),
            (BLOCK_BYTES - 1..BLOCK_BYTES, 0..BLOCK_BYTES),
            (BLOCK_BYTES - 1..BLOCK_BYTES + 1, 0..2 * BLOCK_BYTES),
            (2 * BLOCK_BYTES + 9..2 * BLOCK_BYTES + 10, 2 * BLOCK_BYTES..2 * BLOCK_BYTES + 10),
        ] {
            assert_eq!(sums.widen(&range), wide, "{range:?}");
        }
    }

    #[test]
    fn sums_with_any_changed_byte_or_of_another_segment_are_not_used() {
        let data = data(BLOCK_BYTES + 10);
        let (segment, sums) = (segment(BLOCK_BYTES + 10), sums(&data, 4096));
        let whole = sums.to_bytes(&segment);
        assert_eq!(Sums::parse(&whole, &segment), Some(sums));
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert_eq!(Sums::parse(&changed, &segment), None, "byte {at}");
            assert_eq!(Sums::parse(&whole[..at], &segment), None, "cut off at {at}");
        }
        assert_eq!(Sums::parse(&whole, &Segment { digest: [4; 32], ..segment.clone() }), None);
        assert_eq!(Sums::parse(&whole, &Segment { bytes: 10, ..segment }), None);
    }
}
