//! The files of an archive on S3, Azure Blob Storage or Google Cloud Storage.
//!
//! Never holds more of a file in memory than a few parts, and never logs what a store or a client said as it is: addresses
//! and refusals may carry signatures, tokens and customers' keys.

mod connect;
mod failure;
mod io;
mod scope;
mod upload;

use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion};
use tokio::sync::{Semaphore, mpsc};

use self::failure::{explain, names_no_bucket};
use self::io::{Io, wait};
use crate::ArchiveError;
use crate::depot::{Depot, Take, Version, Whole};
use crate::remote_options::RemoteOptions;

/// Files sent at a time, over all tenants: bounds the memory their parts take.
const UPLOADS: usize = 4;

/// Pieces of a download that wait for whoever writes them.
const PIECES: usize = 4;

/// Objects that are smaller than this are read whole into memory; nothing but segments is larger.
const READ_BYTES_MAX: u64 = 64 << 20;

/// See the file's head.
pub(crate) struct Remote {
    store: Arc<dyn ObjectStore>,
    url: String,
    uploads: Arc<Semaphore>,
    // The last to go: the store's connections live on its threads.
    io: Io,
}

impl Remote {
    /// Sets the store up; nothing is asked yet.
    pub(crate) fn open(options: &RemoteOptions) -> Result<Self, ArchiveError> {
        let io = Io::start().map_err(ArchiveError::io("start threads for", FilePath::new(&options.url.to_string())))?;
        let store = connect::connect(options, io.handle())?;
        Ok(Self { store, url: options.url.to_string(), uploads: Arc::new(Semaphore::new(UPLOADS)), io })
    }

    fn failed(&self, action: &'static str, name: &str) -> impl FnOnce(Error) -> ArchiveError {
        let place = format!("{}/{name}", self.url);
        move |error| {
            let (refusal, remedy) = explain(&error);
            tracing::debug!(%refusal, action, place, "the store refused");
            ArchiveError::Store { action, place, remedy, source: refusal.into() }
        }
    }

    /// Does it on the store's threads and waits for it.
    fn ask<T: Send + 'static, F>(&self, work: impl FnOnce(Arc<dyn ObjectStore>) -> F) -> object_store::Result<T>
    where
        F: Future<Output = object_store::Result<T>> + Send + 'static,
    {
        self.io.run(work(Arc::clone(&self.store)))
    }
}

/// Our own names need no escapes; whatever else lies there is not asked for by name.
fn at(name: &str) -> Path {
    Path::from(name)
}

/// An object that is not there is no failure, but a bucket that is not there is.
fn found<T>(result: object_store::Result<T>) -> object_store::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error @ Error::NotFound { .. }) if !names_no_bucket(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Depot for Remote {
    fn url(&self) -> &str {
        &self.url
    }

    fn create_from_file(&self, name: &str, file: &FilePath, whole: &Whole) -> Result<(), ArchiveError> {
        let (to, file, whole, uploads) = (at(name), file.to_owned(), *whole, Arc::clone(&self.uploads));
        let path = file.clone();
        let done = self.io.run({
            let store = Arc::clone(&self.store);
            async move {
                let _turn = uploads.acquire_owned().await;
                upload::create(&*store, &to, &path, &whole).await
            }
        });
        match done {
            Ok(true) => Ok(()),
            Ok(false) => Err(ArchiveError::Occupied { place: format!("{}/{name}", self.url) }),
            Err(upload::Failure::File(error)) => Err(ArchiveError::io("read", &file)(error)),
            Err(upload::Failure::Store(error)) => Err(self.failed("write", name)(error)),
        }
    }

    fn put(&self, name: &str, data: Bytes) -> Result<(), ArchiveError> {
        let to = at(name);
        self.ask(|store| async move { store.put(&to, data.into()).await.map(drop) }).map_err(self.failed("write", name))
    }

    fn put_if(&self, name: &str, data: Bytes, version: Option<Version>) -> Result<bool, ArchiveError> {
        let to = at(name);
        let mode = match version {
            None => PutMode::Create,
            Some(Version { e_tag, version }) => PutMode::Update(UpdateVersion { e_tag, version }),
        };
        let done = self.ask(|store| async move {
            match store.put_opts(&to, data.clone().into(), PutOptions::from(mode.clone())).await {
                Ok(_) => Ok(true),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
                // One that has no conditions: as well as it can be.
                Err(Error::NotImplemented { .. })
                    if mode == PutMode::Create && found(store.head(&to).await)?.is_some() =>
                {
                    Ok(false)
                }
                Err(Error::NotImplemented { .. }) => store.put(&to, data.into()).await.map(|_| true),
                Err(error) => Err(error),
            }
        });
        done.map_err(self.failed("write", name))
    }

    fn read(&self, name: &str) -> Result<Option<(Bytes, Version)>, ArchiveError> {
        let from = at(name);
        let read = self.ask(|store| async move {
            let Some(got) = found(store.get(&from).await)? else { return Ok(None) };
            if got.meta.size > READ_BYTES_MAX {
                let source = format!("it has {} bytes, and nothing so large is ours", got.meta.size).into();
                return Err(Error::Generic { store: "archive", source });
            }
            let version = Version { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
            Ok(Some((got.bytes().await?, version)))
        });
        read.map_err(self.failed("read", name))
    }

    fn read_range(&self, name: &str, range: Range<u64>) -> Result<Option<Bytes>, ArchiveError> {
        let from = at(name);
        let read = self.ask(|store| async move { found(store.get_range(&from, range).await) });
        read.map_err(self.failed("read", name))
    }

    fn download(&self, name: &str, to: &FilePath, take: Take<'_>) -> Result<bool, ArchiveError> {
        let (from, store) = (at(name), Arc::clone(&self.store));
        let (pieces, mut arrived) = mpsc::channel(PIECES);
        // Ends by itself when nobody takes the pieces any more.
        drop(self.io.handle().spawn(async move {
            let mut stream = match store.get(&from).await {
                Ok(got) => got.into_stream(),
                Err(error) => stream::iter([Err(error)]).boxed(),
            };
            while let Some(piece) = stream.next().await {
                if pieces.send(piece).await.is_err() {
                    return;
                }
            }
        }));
        while let Some(piece) = wait(arrived.recv()) {
            match found(piece).map_err(self.failed("read", name))? {
                Some(piece) => take(&piece).map_err(ArchiveError::io("write", to))?,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    fn size(&self, name: &str) -> Result<Option<u64>, ArchiveError> {
        let of = at(name);
        let size = self.ask(|store| async move { Ok(found(store.head(&of).await)?.map(|meta| meta.size)) });
        size.map_err(self.failed("look for", name))
    }

    fn sizes(&self, folder: &str) -> Result<Vec<(String, u64)>, ArchiveError> {
        let below = at(folder);
        let listed = self.ask(|store| async move {
            let listed = store.list(Some(&below)).map_ok(|meta| (meta.location.to_string(), meta.size));
            listed.try_collect::<Vec<_>>().await
        });
        let mut listed = listed.map_err(self.failed("list", folder))?;
        listed.sort_unstable();
        Ok(listed)
    }

    fn folders(&self, folder: &str) -> Result<Vec<String>, ArchiveError> {
        let below = (!folder.is_empty()).then(|| at(folder));
        let listed = self.ask(|store| async move { store.list_with_delimiter(below.as_ref()).await });
        let folders = listed.map_err(self.failed("list", folder))?.common_prefixes;
        Ok(folders.iter().filter_map(|path| path.filename().map(str::to_owned)).collect())
    }

    fn holds_any(&self, is_it: fn(&str) -> bool) -> Result<bool, ArchiveError> {
        let holds = self.ask(|store| async move {
            for folder in store.list_with_delimiter(None).await?.common_prefixes {
                if !folder.as_ref().starts_with("tenant=") {
                    continue;
                }
                let mut below = store.list(Some(&folder));
                while let Some(meta) = below.try_next().await? {
                    if is_it(meta.location.as_ref()) {
                        return Ok(true);
                    }
                }
            }
            Ok(false)
        });
        holds.map_err(self.failed("list", ""))
    }

    fn remove(&self, names: Vec<String>) -> Result<(), ArchiveError> {
        let first = names.first().cloned().unwrap_or_default();
        let removed = self.ask(|store| async move {
            let places = stream::iter(names.into_iter().map(|name| Ok(at(&name)))).boxed();
            let mut removed = store.delete_stream(places);
            while let Some(one) = removed.next().await {
                found(one)?;
            }
            Ok(())
        });
        removed.map_err(self.failed("remove", &first))
    }

    #[cfg(feature = "query")]
    fn object_store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    #[cfg(feature = "query")]
    fn explained(&self, name: &str, error: Error) -> ArchiveError {
        self.failed("read", name)(error)
    }
}
