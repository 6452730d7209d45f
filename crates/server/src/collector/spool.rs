//! Where a body waits that is proven by its end only: nothing of it is cut into records before that.
//!
//! Never holds more of it in memory than its caller allows, never copies what stays in memory, and never leaves a file
//! behind: the one it writes has no name.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

/// Bytes that are read back at a time, and written without being gathered further.
const CHUNK: usize = 64 << 10;

/// Chunks of something large that are gathered: however small, each keeps alive what it is a slice of.
const CHUNKS_MAX: usize = 64;

/// The body could not be put aside.
#[derive(Debug, thiserror::Error)]
#[error("a temporary file in {} cannot be written or read: {source}", folder.display())]
pub(super) struct SpoolError {
    folder: PathBuf,
    source: io::Error,
}

impl SpoolError {
    /// Whether there is no space left for it.
    pub(super) fn is_disk_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// A body being put aside, then read back from its beginning.
pub(super) struct Spool {
    folder: PathBuf,
    /// What is in memory, in order.
    chunks: VecDeque<Bytes>,
    chunks_bytes: usize,
    file: Option<File>,
}

impl Spool {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), chunks: VecDeque::new(), chunks_bytes: 0, file: None }
    }

    /// Adds the body's next bytes, and says how many are in memory.
    pub(super) fn gather(&mut self, chunk: Bytes) -> usize {
        self.chunks_bytes += chunk.len();
        self.chunks.push_back(chunk);
        self.chunks_bytes
    }

    /// Writes what is in memory to the file.
    pub(super) async fn write_out(&mut self) -> Result<(), SpoolError> {
        let result = self.try_write_out().await;
        result.map_err(|source| SpoolError { folder: self.folder.clone(), source })
    }

    async fn try_write_out(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let folder = self.folder.clone();
                let made = tokio::task::spawn_blocking(move || tempfile::tempfile_in(folder)).await;
                let mut file = File::from_std(made.map_err(io::Error::other)??);
                file.set_max_buf_size(CHUNK);
                self.file.insert(file)
            }
        };
        for chunk in &self.chunks {
            file.write_all(chunk).await?;
        }
        // Only now is an error of the last write known.
        file.flush().await?;
        self.chunks.clear();
        self.chunks_bytes = 0;
        Ok(())
    }

    /// Adds the next bytes of something large, keeping little of it in memory.
    pub(super) async fn put(&mut self, bytes: Bytes) -> Result<(), SpoolError> {
        if self.gather(bytes) >= CHUNK || self.chunks.len() >= CHUNKS_MAX {
            self.write_out().await?;
        }
        Ok(())
    }

    /// All of it as a file, to be read from its beginning.
    pub(super) async fn into_file(mut self) -> Result<std::fs::File, SpoolError> {
        // Even an empty one is made.
        self.write_out().await?;
        let wrap = |source| SpoolError { folder: self.folder.clone(), source };
        let mut file = self.file.take().ok_or_else(|| wrap(io::ErrorKind::NotFound.into()))?;
        file.rewind().await.map_err(wrap)?;
        Ok(file.into_std().await)
    }

    /// The body is whole: what is in a file is all in it, and read from its beginning. Says whether it is in a file.
    pub(super) async fn rewind(&mut self) -> Result<bool, SpoolError> {
        if self.file.is_none() {
            return Ok(false);
        }
        self.write_out().await?;
        if let Some(file) = &mut self.file {
            file.rewind().await.map_err(|source| SpoolError { folder: self.folder.clone(), source })?;
        }
        Ok(true)
    }

    /// The body's next bytes; `None` at its end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, SpoolError> {
        let Some(file) = &mut self.file else {
            return Ok(self.chunks.pop_front());
        };
        let mut chunk = BytesMut::with_capacity(CHUNK);
        let read = file.read_buf(&mut chunk).await;
        let read = read.map_err(|source| SpoolError { folder: self.folder.clone(), source })?;
        Ok((read > 0).then(|| chunk.freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(spool: &mut Spool) -> Vec<u8> {
        let mut whole = Vec::new();
        while let Some(chunk) = spool.chunk().await.unwrap() {
            whole.extend_from_slice(&chunk);
        }
        whole
    }

    #[tokio::test]
    async fn what_was_put_aside_is_read_back_from_memory_or_from_a_file_without_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let body: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
        for threshold in [1, 1000, 100_000, 1_000_000] {
            let mut spool = Spool::new(folder.path());
            for chunk in body.chunks(777) {
                if spool.gather(Bytes::copy_from_slice(chunk)) >= threshold {
                    spool.write_out().await.unwrap();
                }
            }
            assert_eq!(spool.rewind().await.unwrap(), threshold < body.len());
            assert!(read(&mut spool).await == body, "{threshold}");
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        }
        let mut empty = Spool::new(folder.path());
        assert!(!empty.rewind().await.unwrap() && read(&mut empty).await.is_empty());
    }

    #[tokio::test]
    async fn something_large_becomes_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let body = vec![7; 200_001];
        for piece in [10, 1000, CHUNK, usize::MAX] {
            let mut spool = Spool::new(folder.path());
            for piece in body.chunks(piece) {
                spool.put(Bytes::copy_from_slice(piece)).await.unwrap();
                assert!(spool.chunks_bytes < CHUNK && spool.chunks.len() < CHUNKS_MAX);
            }
            let mut whole = Vec::new();
            io::Read::read_to_end(&mut spool.into_file().await.unwrap(), &mut whole).unwrap();
            assert!(whole == body);
        }
    }

    #[tokio::test]
    async fn a_folder_that_takes_no_file_is_named() {
        let mut spool = Spool::new(Path::new("/nowhere/at all"));
        spool.gather(Bytes::from_static(b"x"));
        let error = spool.write_out().await.unwrap_err();
        assert!(error.to_string().contains("/nowhere/at all") && !error.is_disk_full(), "{error}");
        let source = io::Error::from(io::ErrorKind::StorageFull);
        assert!(SpoolError { folder: PathBuf::new(), source }.is_disk_full());
    }
}
