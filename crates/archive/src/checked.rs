//! A segment's file for the Parquet reader: every byte it is given has been compared with the checksum of its block.
//!
//! Never hands out a byte of a block that is not what was written, and says which file it was: the Parquet reader turns
//! errors into text, so the first one is kept here for whoever asked.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};

use crate::segment::Segment;
use crate::sums::{self, BLOCK_BYTES, Sums};
use crate::{Archive, ArchiveError, disk};

/// A segment that can be opened, with what its bytes are compared with.
#[derive(Clone)]
pub(crate) struct Checked {
    /// For messages.
    pub(crate) path: PathBuf,
    segment: Segment,
    bytes: u64,
    sums: Arc<Sums>,
}

impl Checked {
    /// With the checksums kept beside it, or made again.
    pub(crate) fn of(archive: &Archive, segment: &Segment) -> Result<Self, ArchiveError> {
        Ok(Self::with(archive, segment, sums::of_segment(archive, segment)?))
    }

    pub(crate) fn with(archive: &Archive, segment: &Segment, sums: Arc<Sums>) -> Self {
        Self { path: archive.segment_place(segment), segment: segment.clone(), bytes: segment.bytes, sums }
    }

    pub(crate) fn open(&self, archive: &Archive) -> Result<CheckedFile, ArchiveError> {
        let opened = match archive.workspace() {
            Some(workspace) => Ok(workspace.open(&self.segment)?),
            None => disk::open(&self.path),
        };
        let file = match opened {
            Ok(file) => file,
            // With the archive's mark gone as well, it is the whole disk that is missing.
            Err(error) if error.kind() == ErrorKind::NotFound && archive.is_there() => {
                return Err(self.damaged("the file is missing".to_owned()));
            }
            Err(error) => return Err(ArchiveError::io("open segment", &self.path)(error)),
        };
        let (archive, file) = (archive.clone(), Mutex::new(file));
        Ok(CheckedFile(Arc::new(Open { of: self.clone(), archive, file, failure: Mutex::default() })))
    }

    fn damaged(&self, problem: String) -> ArchiveError {
        ArchiveError::Damaged { path: self.path.clone(), problem }
    }
}

/// See the file's head. Clones are the same file.
#[derive(Clone)]
pub(crate) struct CheckedFile(Arc<Open>);

struct Open {
    of: Checked,
    archive: Archive,
    file: Mutex<File>,
    failure: Mutex<Option<ArchiveError>>,
}

impl CheckedFile {
    /// What went wrong first since this was last asked.
    pub(crate) fn take_failure(&self) -> Option<ArchiveError> {
        self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn read_checked(&self, range: Range<u64>) -> io::Result<Bytes> {
        self.try_read(range).map_err(|error| {
            let told = io::Error::other(error.to_string());
            self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            told
        })
    }

    fn try_read(&self, range: Range<u64>) -> Result<Bytes, ArchiveError> {
        let mut file = self.0.file.lock().unwrap_or_else(PoisonError::into_inner);
        match (self.read_of(&file, &range), self.0.archive.workspace()) {
            // A copy is worth nothing: what counts is in the store.
            (Err(ArchiveError::Damaged { .. }), Some(workspace)) => {
                workspace.fetch(&self.0.of.segment)?;
                *file = workspace.open(&self.0.of.segment)?;
                self.read_of(&file, &range)
            }
            (read, _) => read,
        }
    }

    fn read_of(&self, mut file: &File, range: &Range<u64>) -> Result<Bytes, ArchiveError> {
        let Checked { path, bytes, sums, .. } = &self.0.of;
        if range.start > range.end || range.end > *bytes {
            let problem = format!("bytes {} to {} are asked for, and it has {bytes}", range.start, range.end);
            return Err(self.0.of.damaged(problem));
        }
        let wide = sums.widen(range);
        let mut data = Vec::with_capacity(usize::try_from(wide.end - wide.start).unwrap_or_default());
        file.seek(SeekFrom::Start(wide.start))
            .and_then(|_| file.take(wide.end - wide.start).read_to_end(&mut data))
            .map_err(ArchiveError::io("read segment", path))?;
        if data.len() as u64 != wide.end - wide.start {
            let found = wide.start + data.len() as u64;
            return Err(self.0.of.damaged(format!("it has {found} bytes instead of {bytes}")));
        }
        if let Err(at) = sums.check(wide.start, &data) {
            return Err(self.0.of.damaged(changed_at(at)));
        }
        let skipped = usize::try_from(range.start - wide.start).unwrap_or_default();
        let length = usize::try_from(range.end - range.start).unwrap_or_default();
        Ok(Bytes::from(data).slice(skipped..skipped + length))
    }
}

/// What is wrong with a block that is not what was written.
pub(crate) fn changed_at(at: u64) -> String {
    format!("its bytes have changed since it was written, in the {} KiB from byte {at}", BLOCK_BYTES >> 10)
}

impl Length for CheckedFile {
    fn len(&self) -> u64 {
        self.0.of.bytes
    }
}

impl ChunkReader for CheckedFile {
    type T = CheckedReader;

    fn get_read(&self, start: u64) -> ParquetResult<CheckedReader> {
        Ok(CheckedReader { file: self.clone(), at: start, block: Bytes::new() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        self.read_checked(start..start.saturating_add(length as u64))
            .map_err(|error| ParquetError::External(Box::new(error)))
    }
}

/// Reads on from one place, block by block.
pub(crate) struct CheckedReader {
    file: CheckedFile,
    at: u64,
    block: Bytes,
}

impl Read for CheckedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.block.is_empty() {
            let end = (self.at + 1).next_multiple_of(BLOCK_BYTES).min(self.file.len());
            if end <= self.at {
                return Ok(0);
            }
            self.block = self.file.read_checked(self.at..end)?;
            self.at = end;
        }
        let now = self.block.split_to(buffer.len().min(self.block.len()));
        buffer.iter_mut().zip(now.iter()).for_each(|(to, from)| *to = *from);
        Ok(now.len())
    }
}
