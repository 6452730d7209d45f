//! A local file becomes an object whose name nothing had.
//!
//! Never gives a name to half a file, and never takes one that other bytes have: a small file goes in one request, on the
//! condition that the name is free; a large one in parts under a name of its own, and from there by a copy on that condition.

use std::io;
use std::path::Path as FilePath;

use bytes::Bytes;
use futures_util::StreamExt;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, CopyMode, CopyOptions, Error, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions,
    PutOptions, WriteMultipart,
};
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use crate::depot::Whole;

/// A file up to this size goes in one request. Larger: more memory for each of the uploads at a time. Smaller: more files
/// take three requests and a copy.
const ONE_PUT_BYTES: u64 = 8 << 20;

/// The size of a part; S3 wants 5 MiB at least.
const PART_BYTES: usize = 8 << 20;

/// Parts of one file under way at a time.
const PARTS: usize = 3;

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

/// `false` when other bytes have the name. `copy_to_free_name` is what makes this store copy only to a name that is free.
pub(super) async fn create(
    store: &dyn ObjectStore,
    to: &Path,
    file: &FilePath,
    whole: &Whole,
    copy_to_free_name: CopyMode,
) -> Result<bool, Failure> {
    let digest = blake3::Hash::from_bytes(whole.digest).to_hex().to_string();
    let attributes = Attributes::from_iter([(Attribute::Metadata(DIGEST.into()), digest.clone())]);
    let created = if whole.bytes <= ONE_PUT_BYTES {
        let data = Bytes::from(tokio::fs::read(file).await?);
        put(store, to, data, attributes).await?
    } else {
        // Named by what is in it: who else sends the same does no harm. What a crash leaves is removed at take-over.
        let staged = Path::from(format!("_staging/{to}.{digest}"));
        send(store, &staged, file, attributes).await?;
        let copied = copy(store, &staged, to, copy_to_free_name).await;
        if let Err(error) = store.delete(&staged).await {
            tracing::debug!(%error, %staged, "what was staged stays until orphans are removed");
        }
        copied?
    };
    if created { Ok(true) } else { Ok(holds(store, to, whole).await?) }
}

async fn put(store: &dyn ObjectStore, to: &Path, data: Bytes, attributes: Attributes) -> Result<bool, Error> {
    let options = |mode| PutOptions { mode, attributes: attributes.clone(), ..PutOptions::default() };
    match store.put_opts(to, data.clone().into(), options(PutMode::Create)).await {
        Ok(_) => Ok(true),
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
        // A store that has no conditions, and was said to have none: as well as it can be.
        Err(Error::NotImplemented { .. }) if !exists(store, to).await? => {
            store.put_opts(to, data.into(), options(PutMode::Overwrite)).await.map(|_| true)
        }
        Err(Error::NotImplemented { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn send(store: &dyn ObjectStore, to: &Path, file: &FilePath, attributes: Attributes) -> Result<(), Failure> {
    let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
    let parts = store.put_multipart_opts(to, options).await?;
    let mut parts = WriteMultipart::new_with_chunk_size(parts, PART_BYTES);
    match send_parts(&mut parts, file).await {
        Ok(()) => Ok(parts.finish().await.map(drop)?),
        Err(failure) => {
            // As well as it can be: a rule of the bucket's removes what stays.
            let _ = parts.abort().await;
            Err(failure)
        }
    }
}

async fn send_parts(parts: &mut WriteMultipart, file: &FilePath) -> Result<(), Failure> {
    let mut file = File::open(file).await?;
    loop {
        parts.wait_for_capacity(PARTS).await?;
        let mut part = Vec::with_capacity(PART_BYTES);
        (&mut file).take(PART_BYTES as u64).read_to_end(&mut part).await?;
        if part.is_empty() {
            return Ok(parts.wait_for_capacity(0).await?);
        }
        parts.put(part.into());
    }
}

async fn copy(store: &dyn ObjectStore, from: &Path, to: &Path, mode: CopyMode) -> Result<bool, Error> {
    match store.copy_opts(from, to, CopyOptions::new().with_mode(mode)).await {
        Ok(()) => Ok(true),
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
        Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) if !exists(store, to).await? => {
            store.copy(from, to).await.map(|()| true)
        }
        Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => Ok(false),
        Err(error) => Err(error),
    }
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
