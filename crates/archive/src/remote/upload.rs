//! A local file becomes an object.
//!
//! Never gives a name to half a file, nor to other bytes than were counted when it was written, nor takes a name that other
//! bytes have. Names are drawn so that no two attempts share one (`archive::part`); that the store refuses a second is there
//! for the day when that fails. A small file goes in one request, a large one in parts that become visible together.

use std::io;
use std::path::Path as FilePath;

use bytes::Bytes;
use futures_util::StreamExt;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Error, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, WriteMultipart,
};
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use super::failure::is_cut_off;
use crate::depot::Whole;

/// A file up to this size goes in one request. Larger: more memory for each of the uploads at a time. Smaller: more files
/// take three requests and more.
const ONE_PUT_BYTES: u64 = 8 << 20;

/// The size of a part; S3 wants 5 MiB at least.
const PART_BYTES: usize = 8 << 20;

/// Parts of one file under way at a time.
const PARTS: usize = 3;

/// How often a request is sent whose answer does not come: the client does not repeat one that has a condition, for it cannot
/// tell its own earlier try from another's. We can, by the bytes.
const TRIES: usize = 3;

/// The metadata that holds a segment's digest, for whoever looks at the object alone.
const DIGEST: &str = "blake3";

/// Why a file did not become an object.
#[derive(Debug)]
pub(super) enum Failure {
    File(io::Error),
    Store(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

/// `false` when other bytes have the name.
pub(super) async fn create(
    store: &dyn ObjectStore,
    to: &Path,
    file: &FilePath,
    whole: &Whole,
) -> Result<bool, Failure> {
    let digest = blake3::Hash::from_bytes(whole.digest).to_hex().to_string();
    let attributes = Attributes::from_iter([(Attribute::Metadata(DIGEST.into()), digest)]);
    let created = if whole.bytes <= ONE_PUT_BYTES {
        let data = Bytes::from(tokio::fs::read(file).await?);
        compare(whole, data.len() as u64, &blake3::hash(&data))?;
        put(store, to, data, attributes).await?
    } else if exists(store, to).await? {
        false
    } else {
        match send(store, to, file, whole, attributes).await {
            Ok(()) => true,
            // The answer to the last request was lost, and to its repetition there is no upload any more.
            Err(Failure::Store(Error::NotFound { .. })) if exists(store, to).await? => false,
            Err(failure) => return Err(failure),
        }
    };
    if created { Ok(true) } else { Ok(holds(store, to, whole).await?) }
}

async fn put(store: &dyn ObjectStore, to: &Path, data: Bytes, attributes: Attributes) -> Result<bool, Error> {
    let options = |mode| PutOptions { mode, attributes: attributes.clone(), ..PutOptions::default() };
    let mut tries = 1;
    loop {
        match store.put_opts(to, data.clone().into(), options(PutMode::Create)).await {
            Ok(_) => return Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => return Ok(false),
            Err(error) if is_cut_off(&error) && tries < TRIES => tries += 1,
            // A store that has no conditions, and was said to have none: as well as it can be.
            Err(Error::NotImplemented { .. }) if !exists(store, to).await? => {
                return store.put_opts(to, data.into(), options(PutMode::Overwrite)).await.map(|_| true);
            }
            Err(Error::NotImplemented { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

async fn send(
    store: &dyn ObjectStore,
    to: &Path,
    file: &FilePath,
    whole: &Whole,
    attributes: Attributes,
) -> Result<(), Failure> {
    let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
    let parts = store.put_multipart_opts(to, options).await?;
    let mut parts = WriteMultipart::new_with_chunk_size(parts, PART_BYTES);
    match send_parts(&mut parts, file, whole).await {
        Ok(()) => Ok(parts.finish().await.map(drop)?),
        Err(failure) => {
            // As well as it can be: a rule of the bucket's removes what stays.
            let _ = parts.abort().await;
            Err(failure)
        }
    }
}

async fn send_parts(parts: &mut WriteMultipart, file: &FilePath, whole: &Whole) -> Result<(), Failure> {
    let mut file = File::open(file).await?;
    let mut digest = blake3::Hasher::new();
    loop {
        parts.wait_for_capacity(PARTS).await?;
        let mut part = Vec::with_capacity(PART_BYTES);
        (&mut file).take(PART_BYTES as u64).read_to_end(&mut part).await?;
        if part.is_empty() {
            compare(whole, digest.count(), &digest.finalize())?;
            return Ok(parts.wait_for_capacity(0).await?);
        }
        digest.update(&part);
        parts.put(part.into());
    }
}

/// What is sent must be what was counted.
fn compare(whole: &Whole, bytes: u64, digest: &blake3::Hash) -> io::Result<()> {
    if (bytes, digest.as_bytes()) == (whole.bytes, &whole.digest) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "it has changed since it was written: check the disk it lies on"))
}

async fn exists(store: &dyn ObjectStore, name: &Path) -> Result<bool, Error> {
    match store.head(name).await {
        Ok(_) => Ok(true),
        Err(Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether an object is what was to be written.
async fn holds(store: &dyn ObjectStore, name: &Path, whole: &Whole) -> Result<bool, Error> {
    let there = store.get(name).await?;
    if there.meta.size != whole.bytes {
        return Ok(false);
    }
    let mut digest = blake3::Hasher::new();
    let mut pieces = there.into_stream();
    while let Some(piece) = pieces.next().await {
        digest.update(&piece?);
    }
    Ok(*digest.finalize().as_bytes() == whole.digest)
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    fn whole(data: &[u8]) -> Whole {
        Whole { bytes: data.len() as u64, digest: *blake3::hash(data).as_bytes() }
    }

    /// Sends what lies in the file as if it were `promised`.
    fn create(store: &InMemory, file: &[u8], promised: &[u8]) -> Result<bool, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1-0.parquet.tmp");
        std::fs::write(&path, file).unwrap();
        let to = Path::from("1-0.parquet");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(super::create(store, &to, &path, &whole(promised)))
    }

    #[test]
    fn a_name_is_given_once_and_the_same_bytes_are_as_good_as_written() {
        for bytes in [1, ONE_PUT_BYTES as usize, ONE_PUT_BYTES as usize + 1] {
            let store = InMemory::new();
            let (one, two) = (vec![1; bytes], vec![2; bytes]);
            assert!(create(&store, &one, &one).unwrap(), "{bytes}");
            assert!(create(&store, &one, &one).unwrap(), "{bytes}: as after an answer that was lost");
            assert!(!create(&store, &two, &two).unwrap(), "{bytes}");
            assert!(!create(&store, &one[1..], &one[1..]).unwrap(), "{bytes}");
            assert!(create(&store, &one, &one).unwrap(), "{bytes}: nothing was changed");
        }
    }

    #[test]
    fn a_file_that_is_not_what_was_counted_gets_no_name() {
        for bytes in [1, ONE_PUT_BYTES as usize, ONE_PUT_BYTES as usize + 1] {
            let store = InMemory::new();
            let (promised, spoilt) = (vec![1; bytes], vec![2; bytes]);
            assert!(matches!(create(&store, &spoilt, &promised), Err(Failure::File(_))), "{bytes}");
            assert!(create(&store, &promised, &promised).unwrap(), "{bytes}: nothing has the name");
        }
    }
}
