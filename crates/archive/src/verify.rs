//! Whether segments, and pieces in quarantine, are still what was written, down to the bit; and the keys of a segment's
//! rows, read from the rows.
//!
//! Never repairs: it names what is damaged. A segment is checked against the digest the ledger remembers, so a file that
//! was replaced by another sound one is found as well.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checked::Checked;
use crate::keys::{Fingerprint, RecordKey, second_of_micros};
use crate::read::{Batches, micros, texts};
use crate::schema::{FINGERPRINT_KEY, position};
use crate::segment::{Segment, slashed};
use crate::sums::Sums;
use crate::{Archive, ArchiveError, files};

/// Rows decoded at a time.
const BATCH_ROWS: usize = 256;

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Size and BLAKE3 of the file: finds every changed bit, at the speed of the disk.
    Digest,
    /// That, and every record decoded, counted, digested and compared with the sum kept since it was first stored:
    /// finds what was written wrongly in the first place.
    Records,
}

/// A damaged segment and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub segment: Segment,
    /// Its file.
    pub path: PathBuf,
    /// What is wrong, as a sentence's fragment.
    pub problem: String,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// Segments looked at.
    pub segments: u64,
    /// Their rows, as the ledger counts them.
    pub rows: u64,
    /// Bytes read.
    pub bytes: u64,
    /// The damaged ones. Empty when all is well.
    pub damaged: Vec<Damage>,
}

impl Archive {
    /// Looks at segments one by one; `progress` is called after each.
    ///
    /// # Errors
    ///
    /// Only when the archive itself cannot be read. Damage is reported, not an error.
    pub fn verify(
        &self,
        segments: &[Segment],
        depth: Depth,
        mut progress: impl FnMut(&Segment),
    ) -> Result<Verified, ArchiveError> {
        let mut verified = Verified::default();
        for segment in segments {
            let result = match depth {
                Depth::Digest => check_stored(self, segment),
                Depth::Records if self.workspace().is_none() => read_rows(self, segment, |_| ()),
                Depth::Records => check_stored(self, segment).and_then(|()| read_rows(self, segment, |_| ())),
            };
            verified.segments += 1;
            verified.rows += segment.rows;
            match result {
                Ok(()) => verified.bytes += segment.bytes,
                Err(ArchiveError::Damaged { path, problem }) => {
                    verified.damaged.push(Damage { segment: segment.clone(), path, problem });
                }
                Err(error) => return Err(error),
            }
            progress(segment);
        }
        Ok(verified)
    }

    /// Looks at one piece in quarantine: `path` below the archive's root, its size and BLAKE3 as the ledger remembers them.
    /// What is wrong with it, as a sentence's fragment; `None` when it is sound.
    ///
    /// # Errors
    ///
    /// As [`Self::verify`].
    pub fn verify_quarantined(
        &self,
        path: &Path,
        bytes: u64,
        digest: &[u8; 32],
    ) -> Result<Option<String>, ArchiveError> {
        let checked = match self.workspace() {
            Some(workspace) => workspace.check(&slashed(path), bytes, digest),
            None => check_file(self, &self.root().join(path), bytes, digest).map(drop),
        };
        match checked {
            Ok(()) => Ok(None),
            Err(ArchiveError::Damaged { problem, .. }) => Ok(Some(problem)),
            Err(error) => Err(error),
        }
    }
}

/// The keys of a segment's records, after checking that the segment is what was written.
pub(crate) fn read_keys(archive: &Archive, segment: &Segment) -> Result<Vec<RecordKey>, ArchiveError> {
    let mut keys = Vec::new();
    read_rows(archive, segment, |key| keys.push(key))?;
    Ok(keys)
}

/// Compares the file with what the ledger remembers of it.
pub(crate) fn check_digest(archive: &Archive, segment: &Segment) -> Result<(), ArchiveError> {
    check_segment(archive, segment).map(drop)
}

/// The same, and the checksums of its blocks, so that what is read of it afterwards is what was compared.
pub(crate) fn check_segment(archive: &Archive, segment: &Segment) -> Result<Sums, ArchiveError> {
    let path = archive.segment_path(segment);
    let Some(workspace) = archive.workspace() else {
        return check_file(archive, &path, segment.bytes, &segment.digest);
    };
    if let Some(sums) = workspace.bring(segment)? {
        return Ok(sums);
    }
    match files::digest_file(&path) {
        Ok(found) if found.sum() == (segment.bytes, segment.digest) => Ok(found.sums()),
        // A copy is worth nothing: what counts is in the store.
        _ => workspace.fetch(segment),
    }
}

/// Compares a segment as it lies for good with what the ledger remembers of it; a copy of it proves nothing.
pub(crate) fn check_stored(archive: &Archive, segment: &Segment) -> Result<(), ArchiveError> {
    match archive.workspace() {
        Some(workspace) => workspace.fetch(segment).map(drop),
        None => check_digest(archive, segment),
    }
}

fn check_file(archive: &Archive, path: &Path, bytes: u64, digest: &[u8; 32]) -> Result<Sums, ArchiveError> {
    let found = match files::digest_file(path) {
        Ok(found) => found,
        // With the archive's mark gone as well, it is the whole disk that is missing.
        Err(error) if error.kind() == ErrorKind::NotFound && archive.is_there() => {
            return Err(damaged(path, "the file is missing".to_owned()));
        }
        Err(error) => return Err(ArchiveError::io("read", path)(error)),
    };
    let (found_bytes, found_digest) = found.sum();
    if found_bytes != bytes {
        return Err(damaged(path, format!("it has {found_bytes} bytes instead of {bytes}")));
    }
    if found_digest != *digest {
        return Err(damaged(path, "its bytes have changed since it was written".to_owned()));
    }
    Ok(found.sums())
}

fn read_rows(archive: &Archive, segment: &Segment, mut each: impl FnMut(RecordKey)) -> Result<(), ArchiveError> {
    let checked = Checked::with(archive, segment, Arc::new(check_segment(archive, segment)?));
    let path = archive.segment_place(segment);
    let columns = [position::ID, position::CREATION_TIME, position::RAW];
    let batches = Batches::open_checked(archive, &checked, Some(&columns), BATCH_ROWS)?;
    let promised = batches.footer_value(FINGERPRINT_KEY).and_then(Fingerprint::parse);
    let (mut rows, mut fingerprint) = (0, Fingerprint::default());
    for batch in batches {
        let batch = batch?;
        let (ids, raw, created) = (texts(&batch, "id"), texts(&batch, "raw"), micros(&batch, "creation_time"));
        for (row, (id, raw)) in ids.iter().zip(raw.iter()).enumerate() {
            let raw = raw.unwrap_or_default().as_bytes();
            let key = RecordKey::new(id, created(row).map(second_of_micros), raw);
            fingerprint.add(key.body);
            each(key);
            rows += 1;
        }
    }
    if rows != segment.rows {
        return Err(damaged(&path, format!("it has {rows} records instead of {}", segment.rows)));
    }
    if promised != Some(fingerprint) {
        return Err(damaged(&path, "its records are not those its footer promises".to_owned()));
    }
    Ok(())
}

fn damaged(path: &Path, problem: String) -> ArchiveError {
    ArchiveError::Damaged { path: path.to_owned(), problem }
}
