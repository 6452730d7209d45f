//! Scratch files for what a query cannot keep in memory.
//!
//! They have no name from the moment they are made, so that nothing is left behind however the program ends. Bounded in
//! sum; the folder is made when the first file is, so that an archive on a read-only disk can be asked, too.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use datafusion::common::Result;
use datafusion::error::DataFusionError;
use datafusion::execution::{SpillFile, SpillWriter, TempFileFactory};
use futures_util::Stream;

/// Bytes read back at a time.
const CHUNK_BYTES: usize = 128 << 10;

/// Why a scratch file cannot be used; found again by [`super::error::QueryError`].
#[derive(Debug)]
pub(super) enum SpillError {
    /// All scratch files together would become too large.
    Full,
    /// The operating system refused.
    Io(io::Error),
}

impl fmt::Display for SpillError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the scratch files reached their bound",
            Self::Io(_) => "a scratch file cannot be used",
        })
    }
}

impl std::error::Error for SpillError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Full => None,
            Self::Io(source) => Some(source),
        }
    }
}

impl From<io::Error> for SpillError {
    fn from(source: io::Error) -> Self {
        Self::Io(source)
    }
}

fn external(error: impl Into<SpillError>) -> DataFusionError {
    DataFusionError::External(Box::new(error.into()))
}

/// Makes scratch files.
pub(super) struct SpillFolder {
    dir: PathBuf,
    budget: Arc<Budget>,
}

/// The bytes all files together may have, and have.
struct Budget {
    limit: u64,
    used: AtomicU64,
}

impl SpillFolder {
    pub(super) fn new(dir: PathBuf, limit: u64) -> Self {
        Self { dir, budget: Arc::new(Budget { limit, used: AtomicU64::new(0) }) }
    }
}

impl TempFileFactory for SpillFolder {
    fn create_temp_file(&self, _description: &str) -> Result<Arc<dyn SpillFile>> {
        fs::create_dir_all(&self.dir).map_err(external)?;
        let file = tempfile::tempfile_in(&self.dir).map_err(external)?;
        let budget = Arc::clone(&self.budget);
        Ok(Arc::new(Scratch(Arc::new(Shared { file: Mutex::new(file), size: AtomicU64::new(0), budget }))))
    }
}

/// One scratch file; it goes away with its last reader, writer and owner.
struct Scratch(Arc<Shared>);

struct Shared {
    /// Locked for every seek with its read or write: they share one position.
    file: Mutex<File>,
    size: AtomicU64,
    budget: Arc<Budget>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(*self.size.get_mut(), Ordering::Relaxed);
    }
}

impl Shared {
    fn append(&self, bytes: &[u8]) -> Result<(), SpillError> {
        let more = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let used = self.budget.used.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        if used > self.budget.limit {
            self.budget.used.fetch_sub(more, Ordering::Relaxed);
            return Err(SpillError::Full);
        }
        // Counted before it is written: what a failed write left behind takes up room as well.
        self.size.fetch_add(more, Ordering::Relaxed);
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::End(0))?;
        file.write_all(bytes)?;
        Ok(())
    }

    /// The bytes from there on, at most [`CHUNK_BYTES`] of them; none at the end.
    fn read_at(&self, position: u64) -> io::Result<Bytes> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(position))?;
        let length = file.read(&mut chunk)?;
        chunk.truncate(length);
        Ok(Bytes::from(chunk))
    }
}

impl SpillFile for Scratch {
    fn size(&self) -> Option<u64> {
        Some(self.0.size.load(Ordering::Relaxed))
    }

    fn read_stream(&self) -> Result<Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>> {
        let start = (Arc::clone(&self.0), 0_u64);
        Ok(Box::pin(futures_util::stream::try_unfold(start, async |(file, position)| {
            let reading = Arc::clone(&file);
            let chunk = tokio::task::spawn_blocking(move || reading.read_at(position)).await;
            let chunk = chunk.map_err(|error| external(io::Error::other(error)))?.map_err(external)?;
            let next = position.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
            Ok((!chunk.is_empty()).then_some((chunk, (file, next))))
        })))
    }

    fn open_writer(&self) -> Result<Box<dyn SpillWriter>> {
        Ok(Box::new(ScratchWriter(Arc::clone(&self.0))))
    }
}

struct ScratchWriter(Arc<Shared>);

impl Write for ScratchWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SpillWriter for ScratchWriter {
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read_and_counted_until_the_file_goes_away() {
        let folder = tempfile::tempdir().unwrap();
        let spill = SpillFolder::new(folder.path().join("deep/spill"), 300_000);
        assert!(!folder.path().join("deep").exists());
        let file = spill.create_temp_file("test").unwrap();
        let mut writer = file.open_writer().unwrap();
        writer.write_all(&[1; 200_000]).unwrap();
        writer.write_all(&[2; 100_000]).unwrap();
        let chunks: Vec<Bytes> = file.read_stream().unwrap().try_collect().await.unwrap();
        let read = chunks.concat();
        assert_eq!((read.len(), read[199_999], read[200_000]), (300_000, 1, 2));
        assert_eq!(file.size(), Some(300_000));
        assert_eq!(fs::read_dir(folder.path().join("deep/spill")).unwrap().count(), 0, "the file has no name");
        // One byte more is one too many.
        let error = writer.write_all(&[3]).unwrap_err();
        assert!(matches!(error.downcast::<SpillError>(), Ok(SpillError::Full)));
        drop((writer, file));
        let mut again = spill.create_temp_file("test").unwrap().open_writer().unwrap();
        again.write_all(&[4; 300_000]).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_told_when_it_is_needed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let spill = SpillFolder::new(file.path().join("below-a-file"), 1);
        assert!(spill.create_temp_file("test").is_err());
    }
}
