//! A look into a store past the archive: what lies there, and what somebody else does to it.

use archive::{RemoteOptions, StoreKind};
use futures_util::TryStreamExt as _;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt as _};

/// Every name below the archive's root, in order.
pub(crate) fn names(remote: &RemoteOptions) -> Vec<String> {
    let store = store(remote);
    let mut names = wait(async move {
        store.list(None).map_ok(|meta| meta.location.to_string()).try_collect::<Vec<_>>().await.unwrap()
    });
    names.sort();
    names
}

/// Puts an object in place of whatever has the name.
pub(crate) fn put(remote: &RemoteOptions, name: &str, bytes: Vec<u8>) {
    let (store, name) = (store(remote), Path::from(name));
    wait(async move { store.put(&name, bytes.into()).await.unwrap() });
}

pub(crate) fn remove(remote: &RemoteOptions, name: &str) {
    let (store, name) = (store(remote), Path::from(name));
    wait(async move { store.delete(&name).await.unwrap() });
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn store(remote: &RemoteOptions) -> Box<dyn ObjectStore> {
    let plain = ClientOptions::new().with_allow_http(true);
    let settings = remote.settings.iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
    let prefix = Path::from(remote.url.prefix());
    match remote.url.kind() {
        StoreKind::S3 => {
            let builder = AmazonS3Builder::new().with_client_options(plain).with_bucket_name(remote.url.bucket());
            let builder =
                settings.fold(builder, |builder, (name, value)| builder.with_config(name.parse().unwrap(), value));
            Box::new(PrefixStore::new(builder.build().unwrap(), prefix))
        }
        StoreKind::Azure => {
            let builder =
                MicrosoftAzureBuilder::new().with_client_options(plain).with_container_name(remote.url.bucket());
            let builder =
                settings.fold(builder, |builder, (name, value)| builder.with_config(name.parse().unwrap(), value));
            Box::new(PrefixStore::new(builder.build().unwrap(), prefix))
        }
        StoreKind::Google => {
            let builder =
                GoogleCloudStorageBuilder::new().with_client_options(plain).with_bucket_name(remote.url.bucket());
            let builder =
                settings.fold(builder, |builder, (name, value)| builder.with_config(name.parse().unwrap(), value));
            Box::new(PrefixStore::new(builder.build().unwrap(), prefix))
        }
    }
}
